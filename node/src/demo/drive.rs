//! Moving the day on: the clock stands at each interval's end until what is due there is final at every node.

use std::time::{Duration, Instant};

use anyhow::bail;
use energy::{Interval, Timestamp};
use ledger::Forward;
use market::GATE_LEAD_MS;

use super::interrupt::Interrupt;
use super::street::Street;
use super::view::View;
use crate::cli::DemoArgs;
use crate::clock::Clock;
use crate::engine::Progress;
use sim::dataset::QUARTERS_PER_DAY;

/// How often the nodes' progress is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Nothing final for so long means that the street is stuck, not slow.
const STUCK_AFTER: Duration = Duration::from_secs(120);
/// Orders are waited for so long.
const ORDERS_WAIT: Duration = Duration::from_secs(10);

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
    for _ in 0..street.intervals {
        wait_until_planned(street, interval).await?;
        street.draw();
        run_to_gate_of(street, interval.next(), view).await?;
        run_to_end_of(street, interval).await;
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
async fn run_to_end_of(street: &Street, interval: Interval) {
    run_until(street, interval.end().minus_ms(1)).await;
    street.latch();
    street.clock.run_until(interval.end());
}

async fn run_until(street: &Street, time: Timestamp) {
    street.clock.run_until(time);
    while street.clock.market() < time {
        tokio::time::sleep(street.clock.wall_until(time).max(Duration::from_millis(1))).await;
    }
}

/// Waits until every agent has planned `interval` and told its devices, and its orders are on the ledger.
async fn wait_until_planned(street: &Street, interval: Interval) -> anyhow::Result<()> {
    let since = Instant::now();
    while !street.is_planned(interval) {
        if since.elapsed() > STUCK_AFTER {
            bail!("an agent has not planned the interval {interval} for {} s", STUCK_AFTER.as_secs());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    // An order that does not come in time misses its gate: its home is told, and the day goes on.
    while !street.is_recorded().await && since.elapsed() < ORDERS_WAIT {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// With forward trading, lets the clock run to an interval's gate, and waits until it has closed at every node: a block
/// that comes after the interval's start would make it void.
async fn run_to_gate_of(street: &Street, interval: Interval, view: &mut View) -> anyhow::Result<()> {
    if street.genesis.forward == Forward::Off {
        return Ok(());
    }
    run_until(street, interval.start().minus_ms(GATE_LEAD_MS)).await;
    wait_until(street, view, |progress, _| progress.next_gate > interval.index()).await
}

/// Waits until every node has a reading of its own for the interval before `index` in a final block, and has settled all
/// whose deadline has passed.
async fn wait_until_final(street: &Street, index: u64, view: &mut View) -> anyhow::Result<()> {
    wait_until(street, view, |progress, now| progress.read_until >= index && progress.next_deadline > now)
        .await
}

/// Waits until every node is as far as that.
async fn wait_until(
    street: &Street,
    view: &mut View,
    is_ready: impl Fn(&Progress, Timestamp) -> bool,
) -> anyhow::Result<()> {
    let mut since = Instant::now();
    let mut seen = 0;
    loop {
        let now = street.clock.market();
        let (mut ready, mut heights) = (true, 0);
        for progress in street.progress() {
            ready &= is_ready(&progress, now);
            heights += progress.height;
            if let Some(reason) = progress.halted {
                bail!("a node stopped: {reason}");
            }
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
