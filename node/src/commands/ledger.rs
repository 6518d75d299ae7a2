//! `commonwatt ledger verify`: replays what is stored and compares.

pub mod look;
pub mod recover;

use std::path::PathBuf;

use serde_json::json;

use super::{CommandError, out};
use crate::cli::{Exit, Output, VerifyArgs};
use crate::config::Config;
use crate::genesis_file;
use crate::store::verify::{self, VerifyError, VerifyReport};

/// The ledger's file in a data folder.
const LEDGER_FILE: &str = "ledger.db";
/// Progress is told each so many blocks.
const TELL_EACH: u64 = 500;

/// Verifies the ledger of one node.
///
/// # Errors
/// [`CommandError`] if there is nothing to verify.
pub(super) fn verify(args: &VerifyArgs, output: Output) -> Result<Exit, CommandError> {
    let (data_dir, genesis_path) = places(args)?;
    let genesis = genesis_file::load(&genesis_path)?;
    let path = data_dir.join(LEDGER_FILE);
    if !path.exists() {
        let message = format!("there is no ledger at {}; name the node's data folder", path.display());
        return Err(CommandError::failed(message));
    }
    let tell = |height: u64, last: u64| {
        if height.is_multiple_of(TELL_EACH) && height > 0 {
            out::note(&format!("block {height} of {last}"));
        }
    };
    match verify::verify(&path, &genesis, tell) {
        Ok(report) => {
            print(&report, output);
            Ok(Exit::Ok)
        }
        Err(VerifyError::Found(damage)) => {
            out::note(&format!("verification failed: {damage}"));
            if output == Output::Json {
                out::json(&json!({ "schema_version": 1, "ok": false, "error": format!("{damage}") }));
            }
            Ok(Exit::Unverified)
        }
        Err(error) => Err(CommandError::failed(format!("cannot verify {}: {error}", path.display()))),
    }
}

fn places(args: &VerifyArgs) -> Result<(PathBuf, PathBuf), CommandError> {
    if let Some(config) = &args.config {
        let config = Config::load(config)?;
        return Ok((config.data_dir, config.genesis));
    }
    let data_dir = args.data_dir.clone().unwrap_or_default();
    let genesis = args.genesis.clone().unwrap_or_else(|| data_dir.join("genesis.toml"));
    Ok((data_dir, genesis))
}

fn print(report: &VerifyReport, output: Output) {
    let hashed = report.hashed;
    if hashed.blocks > 0 && output == Output::Text {
        out::line(&format!(
            "before      {} blocks whose bodies are no longer stored: headers, {} leaves, {} certificates, {} kept bodies",
            hashed.blocks, hashed.leaves, hashed.certificates, hashed.bodies
        ));
    }
    if hashed.joined > 0 && output == Output::Text {
        out::line(&format!(
            "joined      with the state after block {}; blocks before were never here",
            hashed.joined
        ));
    }
    let rows = [
        ("verified", report.from.to_string()),
        ("height", report.height.to_string()),
        ("head", report.head.to_string()),
        ("blocks", report.blocks.to_string()),
        ("entries", report.entries.to_string()),
        ("leaves", report.leaves.to_string()),
        ("state root", report.root.to_string()),
        ("tree root", report.tree_root.to_string()),
    ];
    match output {
        Output::Text => rows.iter().for_each(|(name, value)| out::line(&format!("{name:<11} {value}"))),
        Output::Json => out::json(&json!({
            "schema_version": 1,
            "ok": true,
            "from": report.from.to_string(),
            "joined": hashed.joined,
            "hashed": {
                "blocks": hashed.blocks,
                "leaves": hashed.leaves,
                "certificates": hashed.certificates,
                "bodies": hashed.bodies,
            },
            "height": report.height,
            "head": report.head.to_string(),
            "blocks": report.blocks,
            "entries": report.entries,
            "leaves": report.leaves,
            "state_root": report.root.to_string(),
            "tree_root": report.tree_root.to_string(),
        })),
    }
}
