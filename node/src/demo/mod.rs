//! `commonwatt demo`: a whole neighbourhood on this machine, on recorded data.
//!
//! Every home is a real node with its own keys, databases, libp2p host and API; every meter is a real Modbus TCP server.
//! Only the clock is not real: it runs faster and stands still at each interval's end until what is due there is final,
//! so that a slow machine is slower, never wrong.

mod drive;
mod gains;
mod interrupt;
mod street;
pub mod summary;
mod view;
mod world;

use std::time::Instant;

use anyhow::{Context, bail};

use crate::cli::{DemoArgs, Output};
use crate::folder::Folder;
use interrupt::Interrupt;
use sim::dataset::{Dataset, Recording};
use street::Street;
pub(crate) use summary::proc_figure;

/// Runs the demo until its day is over or somebody interrupts it.
///
/// # Errors
/// Whatever keeps the neighbourhood from starting, running or being summed up.
pub async fn run(args: &DemoArgs, output: Output) -> anyhow::Result<()> {
    let started = Instant::now();
    let interrupt = Interrupt::listen().context("cannot listen for signals")?;
    if let Some(target) = &args.export {
        // Better now than after a day.
        std::fs::create_dir_all(target)
            .with_context(|| format!("the day cannot be exported to {}", target.display()))?;
    }
    let dataset = match &args.data {
        Some(folder) => Dataset::load(folder).context("the data set cannot be used")?,
        None => Dataset::builtin().context("the built-in data set is damaged")?,
    };
    let season = street::season_of(args);
    let recording = match &args.data {
        Some(folder) => Recording::load(folder, season).context("the data set cannot be used")?,
        None => Recording::builtin(season).context("the built-in data set is damaged")?,
    };
    let folder = Folder::new("demo", args.data_dir.as_deref())?;
    let mut view = view::View::new(output, args);
    view.starting();
    let mut street = Street::prepare((&dataset, &recording), args, folder.path()).await?;
    // However the day ends, every node that was started is stopped before the folder goes.
    let ending = live(&mut street, args, &mut view, &interrupt, started).await;
    let exported = street.stop().await?;
    ending?;
    let summary = summary::sum_up(&exported, started)?;
    if let Some(target) = &args.export {
        exported.export(target, summary.intervals_settled)?;
    }
    view.finish(&summary)?;
    summary.verdict()?;
    if args.once && summary.intervals_settled < summary.intervals {
        bail!("{} of {} intervals of the day are settled", summary.intervals_settled, summary.intervals);
    }
    Ok(())
}

/// Starts the nodes and lets the day pass.
async fn live(
    street: &mut Street,
    args: &DemoArgs,
    view: &mut view::View,
    interrupt: &Interrupt,
    started: Instant,
) -> anyhow::Result<()> {
    street.open(args, interrupt, started).await?;
    view.introduce(street)?;
    drive::drive(street, args, view, interrupt).await
}
