//! `commonwatt ledger checkpoint`: what people vouch for where a node was away for long.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use ledger::{BlockId, Checkpoint, Genesis, PublicKey, SignedCheckpoint};
use serde_json::json;

use super::{CommandError, files, out};
use crate::away::{self, AwayError};
use crate::cli::{Exit, Output};
use crate::config::Config;
use crate::genesis_file;
use crate::identity::{Identity, load_key};
use crate::store::ledger_db::LedgerDb;

/// What to do with a checkpoint.
#[derive(Debug, Subcommand)]
pub enum CheckpointCommand {
    /// Names the last block of this node's ledger, for others to vouch for.
    #[command(after_help = "\
Example:
  commonwatt ledger checkpoint make --key operator.key --config commonwatt.toml > checkpoint.txt")]
    Make(MakeArgs),
    /// Adds a signature: the operator's, the auditor's, or that of this home's own member.
    #[command(after_help = "\
Examples:
  commonwatt ledger checkpoint sign checkpoint.txt --key auditor.key > signed.txt
  commonwatt ledger checkpoint sign checkpoint.txt --config /var/lib/commonwatt/commonwatt.toml > signed.txt

Look first at a node of your own whether the block is right: `commonwatt ledger checkpoint show`.")]
    Sign(SignArgs),
    /// Shows what a checkpoint names, and who vouches for it.
    #[command(after_help = "\
Example:
  commonwatt ledger checkpoint show checkpoint.txt --config /var/lib/commonwatt/commonwatt.toml")]
    Show(ShowArgs),
    /// Hands a checkpoint to this home's node, which waits for one after a long absence. It takes two signatures.
    #[command(after_help = "\
Example:
  commonwatt ledger checkpoint use signed.txt --config /var/lib/commonwatt/commonwatt.toml")]
    Use(UseArgs),
}

/// Where to make one.
#[derive(Debug, Args)]
pub struct MakeArgs {
    /// The node's configuration file.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Key files of those who vouch for it at once.
    #[arg(long, value_name = "FILE")]
    pub key: Vec<PathBuf>,
}

/// Who signs.
#[derive(Debug, Args)]
pub struct SignArgs {
    /// The checkpoint.
    #[arg(value_name = "CHECKPOINT")]
    pub checkpoint: PathBuf,
    /// Key file of the operator or the auditor.
    #[arg(long, value_name = "FILE", required_unless_present = "config", conflicts_with = "config")]
    pub key: Option<PathBuf>,
    /// Configuration file of the node that needs it: its own member signs.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// What to show.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// The checkpoint.
    #[arg(value_name = "CHECKPOINT")]
    pub checkpoint: PathBuf,
    /// Configuration file of a node: says whether its own ledger holds that block.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

/// Which node.
#[derive(Debug, Args)]
pub struct UseArgs {
    /// The checkpoint.
    #[arg(value_name = "CHECKPOINT")]
    pub checkpoint: PathBuf,
    /// The node's configuration file.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

/// Does it.
///
/// # Errors
/// [`CommandError`].
pub(super) fn checkpoint(command: &CheckpointCommand, output: Output) -> Result<Exit, CommandError> {
    match command {
        CheckpointCommand::Make(args) => make(args),
        CheckpointCommand::Sign(args) => sign(args),
        CheckpointCommand::Show(args) => show(args, output),
        CheckpointCommand::Use(args) => hand_over(args),
    }
}

fn failed(error: &AwayError) -> CommandError {
    CommandError::failed(error.to_string())
}

/// A node's files.
struct Node {
    config: Config,
    genesis: Genesis,
}

impl Node {
    fn load(config: &Path) -> Result<Self, CommandError> {
        let config = Config::load(config)?;
        let genesis = genesis_file::load(&config.genesis)?;
        Ok(Self { config, genesis })
    }

    fn member(&self) -> Result<PublicKey, CommandError> {
        Ok(PublicKey::of(Identity::load(&self.config.data_dir)?.member()))
    }

    fn database(&self) -> PathBuf {
        self.config.data_dir.join("ledger.db")
    }

    /// The block that this node holds at a height, if it holds any.
    fn block(&self, height: u64) -> Result<Option<BlockId>, CommandError> {
        let path = self.database();
        if !path.exists() {
            return Ok(None);
        }
        LedgerDb::block_id(&path, &self.genesis, height).map_err(super::bill::stored)
    }
}

fn make(args: &MakeArgs) -> Result<Exit, CommandError> {
    let node = Node::load(&args.config)?;
    let ledger = LedgerDb::current(&node.database(), &node.genesis).map_err(super::bill::stored)?;
    if ledger.height() == 0 {
        return Err(CommandError::failed("there is no final block yet, so there is nothing to vouch for"));
    }
    let unsigned = SignedCheckpoint::unsigned(Checkpoint::of(&ledger));
    let keys = args.key.iter().map(|path| load_key(path)).collect::<Result<Vec<_>, _>>()?;
    let signed = keys.iter().fold(unsigned, |file, key| file.sign(key));
    out::text(&away::text(&signed));
    note(&node.genesis, &signed);
    Ok(Exit::Ok)
}

fn sign(args: &SignArgs) -> Result<Exit, CommandError> {
    let file = away::read(&args.checkpoint).map_err(|error| failed(&error))?;
    let signed = match (&args.key, &args.config) {
        (Some(key), _) => file.sign(&load_key(key)?),
        (None, Some(config)) => {
            let node = Node::load(config)?;
            file.sign(Identity::load(&node.config.data_dir)?.member())
        }
        (None, None) => return Err(CommandError::config("name a --key or a --config")),
    };
    out::text(&away::text(&signed));
    Ok(Exit::Ok)
}

fn note(genesis: &Genesis, signed: &SignedCheckpoint) {
    let checkpoint = signed.checkpoint();
    let signers: Vec<&str> = signed.signers().map(|key| role(genesis, key)).collect();
    let signers = if signers.is_empty() { "nobody".to_owned() } else { signers.join(", ") };
    out::note(&format!(
        "block {} of {}, {}; signed by {signers}",
        checkpoint.height, checkpoint.time, checkpoint.block
    ));
}

fn role(genesis: &Genesis, key: &PublicKey) -> &'static str {
    let roles = &genesis.roles;
    match key {
        key if *key == roles.operator => "the operator",
        key if *key == roles.auditor => "the auditor",
        _ => "another key",
    }
}

fn show(args: &ShowArgs, output: Output) -> Result<Exit, CommandError> {
    let node = Node::load(&args.config)?;
    let file = away::read(&args.checkpoint).map_err(|error| failed(&error))?;
    let checkpoint = file.checkpoint();
    let verdict = match node.block(checkpoint.height)? {
        None => "this node does not hold a block of that height",
        Some(block) if block == checkpoint.block => "this node holds the same block",
        Some(_) => "THIS NODE HOLDS ANOTHER BLOCK of that height: do not sign",
    };
    let valid = file.verify(&node.genesis, &node.member()?);
    if output == Output::Json {
        out::json(&json!({
            "schema_version": 1,
            "height": checkpoint.height,
            "block": checkpoint.block.to_string(),
            "time": checkpoint.time.to_string(),
            "delegates": checkpoint.delegates.to_string(),
            "signers": file.signers().map(|key| role(&node.genesis, key)).collect::<Vec<_>>(),
            "here": verdict,
            "sufficient": valid.is_ok(),
        }));
        return Ok(Exit::Ok);
    }
    note(&node.genesis, &file);
    out::line(verdict);
    match valid {
        Ok(_) => out::line("enough people vouch for it"),
        Err(error) => out::line(&error.to_string()),
    }
    Ok(Exit::Ok)
}

fn hand_over(args: &UseArgs) -> Result<Exit, CommandError> {
    let node = Node::load(&args.config)?;
    let file = away::read(&args.checkpoint).map_err(|error| failed(&error))?;
    let checkpoint = file
        .verify(&node.genesis, &node.member()?)
        .map_err(|error| CommandError::Other { exit: Exit::Unverified, message: error.to_string() })?;
    let (height, expected) = (checkpoint.height, checkpoint.block);
    if let Some(found) = node.block(height)?.filter(|found| *found != expected) {
        return Err(failed(&AwayError::OtherHistory { height, found, expected }));
    }
    files::replace(&node.config.data_dir.join("checkpoint"), &away::text(&file))?;
    out::note(&format!(
        "the node follows only a chain whose block {} is {}; if it waits, it goes on within seconds",
        checkpoint.height, checkpoint.block
    ));
    Ok(Exit::Ok)
}
