//! Moving the day on: the clock stands at each interval's end until what is due there is final at every node.

use std::time::{Duration, Instant};

use anyhow::bail;
use energy::Interval;

use super::dataset::QUARTERS_PER_DAY;
use super::interrupt::Interrupt;
use super::street::Street;
use super::view::View;
use crate::cli::DemoArgs;
use crate::clock::Clock;

/// How often the nodes' progress is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Nothing final for so long means that the street is stuck, not slow.
const STUCK_AFTER: Duration = Duration::from_secs(120);

/// Runs the day: until its last interval is settled with `--once`, else until somebody interrupts it or the end of the recording.
///
/// # Errors
/// If a node stopped by itself, or nothing becomes final any more.
pub async fn drive(
    street: &Street,
    args: &DemoArgs,
    view: &mut View,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    tokio::select! {
        done = run_intervals(street, args, view) => done,
        () = interrupt.wait() => {
            view.interrupted();
            Ok(())
        }
    }
}

async fn run_intervals(street: &Street, args: &DemoArgs, view: &mut View) -> anyhow::Result<()> {
    // The registers at the first interval's start are everybody's baseline.
    wait_until_final(street, street.first.index(), view).await?;
    let mut interval = street.first;
    for position in 0..street.intervals {
        run_to_end_of(street, interval, position).await;
        wait_until_final(street, interval.next().index(), view).await?;
        interval = interval.next();
        if args.once && day_is_settled(street) {
            return Ok(());
        }
    }
    if args.once { bail!("the recording ended before the day was settled") } else { Ok(()) }
}

/// True once every node has settled the last interval of the first day: one interval past midnight, unless a stall moved
/// its deadline.
fn day_is_settled(street: &Street) -> bool {
    let after = street.first.index() + QUARTERS_PER_DAY as u64;
    street.progress().all(|progress| progress.next_to_settle >= after)
}

/// Lets the clock run to the interval's end. The meters latch their registers a moment before, so that nobody who reads
/// at the boundary finds the registers of the interval before.
async fn run_to_end_of(street: &Street, interval: Interval, position: usize) {
    let latch = interval.end().minus_ms(1);
    street.clock.run_until(latch);
    while street.clock.market() < latch {
        tokio::time::sleep(street.clock.wall_until(latch).max(Duration::from_millis(1))).await;
    }
    street.latch(position);
    street.clock.run_until(interval.end());
}

/// Waits until every node has a reading of its own for the interval before `index` in a final block, and has settled all
/// whose deadline has passed.
async fn wait_until_final(street: &Street, index: u64, view: &mut View) -> anyhow::Result<()> {
    let mut since = Instant::now();
    let mut seen = 0;
    loop {
        let now = street.clock.market();
        let (mut ready, mut heights) = (true, 0);
        for progress in street.progress() {
            if let Some(reason) = progress.halted {
                bail!("a node stopped: {reason}");
            }
            heights += progress.height;
            ready &= progress.read_until >= index && progress.next_deadline > now;
        }
        view.update(street)?;
        if ready {
            return Ok(());
        }
        if heights != seen {
            (seen, since) = (heights, Instant::now());
        }
        if since.elapsed() > STUCK_AFTER {
            bail!("no block became final for {} s at market time {now}", STUCK_AFTER.as_secs());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
