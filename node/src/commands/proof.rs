//! `commonwatt ledger proof`, `check-proof`: something is on the chain, for whoever has the genesis and nothing else.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use ledger::codec::{Decode, Encode};
use ledger::{EntryId, Hash32, Outcome, PROOF_BYTES_MAX, Proof, Proven, ProvenContent};
use serde_json::{Value, json};

use super::{CommandError, out};
use crate::cli::{Exit, Output};
use crate::config::Config;
use crate::genesis_file;
use crate::store::proof::{ProofError, Reader, Wanted, prove};

/// What to prove.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  commonwatt ledger proof 3f9c…e1 --config /var/lib/commonwatt/commonwatt.toml > entry.proof
  commonwatt ledger proof --leaf 17 --config /var/lib/commonwatt/commonwatt.toml > leaf.proof

The proof shows what the entry says to whoever gets it. It holds for anybody who has the community's genesis: check it with
`commonwatt ledger check-proof`.")]
pub struct ProofArgs {
    /// The entry, 64 hexadecimal digits.
    #[arg(value_name = "ENTRY", value_parser = entry_id, required_unless_present = "leaf", conflicts_with = "leaf")]
    pub entry: Option<EntryId>,
    /// The leaf of the transparency tree at this position instead: also what the state machine said, such as a settlement.
    #[arg(long, value_name = "POSITION")]
    pub leaf: Option<u64>,
    /// The node's configuration file.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

/// What to check.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Example:
  commonwatt ledger check-proof entry.proof --genesis genesis.toml

Needs no node and no network. Exit code 0 if the proof holds, 4 if it does not.")]
pub struct CheckProofArgs {
    /// The proof, or - for standard input.
    #[arg(value_name = "PROOF")]
    pub proof: PathBuf,
    /// Genesis of the community.
    #[arg(long, value_name = "FILE")]
    pub genesis: PathBuf,
}

fn entry_id(text: &str) -> Result<EntryId, String> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text, &mut bytes)
        .map(|()| EntryId(Hash32(bytes)))
        .map_err(|_| "an entry is named by 64 hexadecimal digits".to_owned())
}

/// Writes the proof to stdout.
///
/// # Errors
/// [`CommandError`] if there is nothing to prove.
pub(super) fn proof(args: &ProofArgs) -> Result<Exit, CommandError> {
    let config = Config::load(&args.config)?;
    let genesis = genesis_file::load(&config.genesis)?;
    let wanted = match (args.entry, args.leaf) {
        (Some(entry), _) => Wanted::Entry(entry),
        (None, leaf) => Wanted::Leaf(leaf.unwrap_or_default()),
    };
    let path = config.data_dir.join("ledger.db");
    let proof = prove(&path, &genesis, wanted, Reader::Holder).map_err(|error| match error {
        ProofError::Store(error) => super::bill::stored(error),
        error => CommandError::failed(error.to_string()),
    })?;
    let bytes = proof.to_bytes();
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(&bytes).and_then(|()| stdout.flush());
    written.map_err(|error| CommandError::failed(format!("cannot write the proof: {error}")))?;
    out::note(&format!(
        "leaf {} in the tree of block {}, by {} changes of the delegates: {} bytes",
        proof.position,
        proof.header.height,
        proof.changes.len(),
        bytes.len()
    ));
    Ok(Exit::Ok)
}

/// Checks a proof with a genesis alone.
///
/// # Errors
/// [`CommandError`] if there is nothing to check.
pub(super) fn check_proof(args: &CheckProofArgs, output: Output) -> Result<Exit, CommandError> {
    let genesis = genesis_file::load(&args.genesis)?;
    let bytes = read(&args.proof)?;
    match Proof::from_bytes(&bytes).map_err(Into::into).and_then(|proof| proof.check(&genesis)) {
        Ok(proven) => {
            print(&proven, output);
            Ok(Exit::Ok)
        }
        Err(error) => {
            out::note(&format!("the proof does not hold: {error}"));
            if output == Output::Json {
                out::json(&json!({ "schema_version": 1, "ok": false, "error": error.to_string() }));
            }
            Ok(Exit::Unverified)
        }
    }
}

/// The bytes of a file, never more than a proof has.
fn read(path: &Path) -> Result<Vec<u8>, CommandError> {
    let most = u64::try_from(PROOF_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(most).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes))
    };
    let shown = path.display();
    read.map_err(|error| CommandError::failed(format!("cannot read the proof at {shown}: {error}")))?;
    Ok(bytes)
}

fn print(proven: &Proven, output: Output) {
    let what = what(&proven.content);
    let hidden = if proven.is_sealed { "sealed: the tree shows a commitment only" } else { "public" };
    if output == Output::Json {
        out::json(&json!({
            "schema_version": 1,
            "ok": true,
            "height": proven.height,
            "block": proven.block.to_string(),
            "time": proven.time.to_string(),
            "signed": proven.signed.0,
            "seats": proven.signed.1,
            "changes": proven.changes,
            "leaf": proven.position,
            "sealed": proven.is_sealed,
            "content": what,
        }));
        return;
    }
    out::line("the proof holds");
    out::line(&format!("in the tree of block {} ({}) of {}", proven.height, proven.block, proven.time));
    let (signed, seats) = proven.signed;
    out::line(&format!(
        "decided by {signed} of {seats} delegates, who follow from the genesis by {} changes",
        proven.changes
    ));
    out::line(&format!("leaf {}, {hidden}", proven.position));
    out::line(&format!("{what:#}"));
}

fn what(content: &ProvenContent) -> Value {
    match content {
        ProvenContent::Entry(entry) => {
            let inner = entry.entry();
            json!({
                "entry": entry.id().to_string(),
                "kind": inner.body.kind(),
                "home": inner.body.home().map(ToString::to_string),
                "signer": inner.signer.to_string(),
                "number": inner.number,
                "says": format!("{:?}", inner.body),
            })
        }
        ProvenContent::Outcome(outcome) => {
            json!({ "kind": outcome_word(outcome), "says": format!("{outcome:?}") })
        }
    }
}

const fn outcome_word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Home(of) => of.kind.word(),
        Outcome::Interval(_) => "interval",
        Outcome::Gate(_) => "gate",
        Outcome::Order(_) => "order",
        Outcome::Breach(_) => "breach",
        Outcome::Election(_) => "election",
        Outcome::Seat(_) => "seat",
    }
}
