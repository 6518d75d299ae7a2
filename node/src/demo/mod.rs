//! `commonwatt demo`: a whole neighbourhood on this machine, on recorded data.
//!
//! Every home is a real node with its own keys, databases, libp2p host and API; every meter is a real Modbus TCP server.
//! Only the clock is not real: it runs faster and stands still at each interval's end until what is due there is final,
//! so that a slow machine is slower, never wrong.

pub mod dataset;
mod drive;
mod street;
mod summary;
mod view;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context;

use crate::cli::{DemoArgs, Output};
use dataset::Dataset;
use street::Street;

/// Runs the demo until its day is over or somebody interrupts it.
///
/// # Errors
/// Whatever keeps the neighbourhood from starting, running or being summed up.
pub async fn run(args: &DemoArgs, output: Output) -> anyhow::Result<()> {
    let started = Instant::now();
    let dataset = match &args.data {
        Some(folder) => Dataset::load(folder).context("the data set cannot be used")?,
        None => Dataset::builtin().context("the built-in data set is damaged")?,
    };
    let folder = Folder::new(args.data_dir.as_deref())?;
    let mut view = view::View::new(output, args);
    view.starting();
    let street = Street::start(&dataset, args, &folder.path, started).await?;
    view.introduce(&street)?;
    let ending = drive::drive(&street, args, &mut view).await;
    let exported = street.stop().await?;
    ending?;
    let summary = summary::sum_up(&exported, started)?;
    if let Some(target) = &args.export {
        exported.export(target, summary.intervals_settled)?;
    }
    view.finish(&summary)?;
    summary.verdict()
}

/// Where the homes keep their files: a folder of the user's, or one that is removed at the end.
struct Folder {
    path: PathBuf,
    temporary: bool,
}

impl Folder {
    fn new(wanted: Option<&std::path::Path>) -> anyhow::Result<Self> {
        let temporary = wanted.is_none();
        let path = match wanted {
            Some(path) => path.to_owned(),
            None => std::env::temp_dir().join(format!("commonwatt-demo-{}", std::process::id())),
        };
        if path.exists() && std::fs::read_dir(&path).is_ok_and(|mut files| files.next().is_some()) {
            anyhow::bail!("{} is not empty; a demo begins with a new folder", path.display());
        }
        crate::identity::make_private_dir(&path)?;
        Ok(Self { path, temporary })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.temporary {
            // A leftover in the system's temporary folder is no reason to fail at the end.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}
