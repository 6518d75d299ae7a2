//! `commonwatt ledger recover`: other delegates, after too many were lost. docs/recovery.md says who does what.

use std::fs;
use std::path::{Path, PathBuf};

use api::{RecoveryRequest, RecoveryStep};
use clap::{Args, Subcommand};
use energy::HomeId;
use ledger::codec::{Decode, Encode};
use ledger::{Attestation, BLOCK_BYTES_MAX, Block, Genesis, Ledger, SeatOffer, Support};
use serde_json::json;

use super::look::AskArgs;
use crate::cli::{Exit, Output};
use crate::commands::hand_in::{self, Role, Roles, usage};
use crate::commands::{CommandError, files, out, status};
use crate::config::Config;
use crate::genesis_file;
use crate::recovery;
use crate::store::ledger_db::LedgerDb;
use crate::store::log_file::DataLock;

/// No offer or block is longer, as hexadecimal text.
const FILE_BYTES_MAX: u64 = 2 * BLOCK_BYTES_MAX as u64 + 2;

/// The steps of a recovery.
#[derive(Debug, Subcommand)]
pub enum RecoverCommand {
    /// Offers that this home holds a seat afterwards, with new keys that its node makes.
    Offer(OfferArgs),
    /// Makes the recovery block from the offers of all homes that are to be delegates.
    Propose(ProposeArgs),
    /// Attests a recovery block, as this home or with the key of a role. It is a promise: see the help.
    Attest(AttestArgs),
    /// Puts attestations together and says whose are missing.
    Collect(CollectArgs),
    /// Hands the attested block to this home's node, which tells all others.
    Publish(PublishArgs),
    /// Gives up blocks that a recovery gave up: moves this node's ledger aside, so that it fetches the community's.
    Follow(FollowArgs),
}

/// An offer.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Example:
  commonwatt ledger recover offer --out h003.offer --config /var/lib/commonwatt/commonwatt.toml")]
pub struct OfferArgs {
    /// Number of the recovery; the next one if not said. A second try needs a higher one.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub number: Option<u32>,
    /// Where the offer is written.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// The node of this home.
    #[command(flatten)]
    pub node: AskArgs,
}

/// A proposal.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Example:
  commonwatt ledger recover propose h001.offer h003.offer h004.offer h006.offer --out recovery.block \\
    --config /var/lib/commonwatt/commonwatt.toml

Four homes bear the failure of one, seven of two. The homes should be of different owners; one owner gets one seat.")]
pub struct ProposeArgs {
    /// The offers.
    #[arg(value_name = "OFFER", required = true)]
    pub offers: Vec<PathBuf>,
    /// Number of the recovery; the next one if not said.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub number: Option<u32>,
    /// Where the block is written.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// The node of this home.
    #[command(flatten)]
    pub node: AskArgs,
}

/// An attestation.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  commonwatt ledger recover attest recovery.block --out h003.block --config /var/lib/commonwatt/commonwatt.toml
  commonwatt ledger recover attest recovery.block --role-key auditor.key --out auditor.block --config commonwatt.toml

Who attests says: my node holds no final block after the one that this recovery follows from. And promises: it signs
nothing of the old number any more, and no other block of this one. Attest only once you have spoken with the others and
know that the lost delegates are lost, not merely cut off.")]
pub struct AttestArgs {
    /// The recovery block.
    #[arg(value_name = "BLOCK")]
    pub block: PathBuf,
    /// Key file of the operator, auditor or trustee, who attests instead of the home.
    #[arg(long, value_name = "FILE", requires = "config")]
    pub role_key: Option<PathBuf>,
    /// Where the block with the attestation is written.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// The node of this home.
    #[command(flatten)]
    pub node: AskArgs,
}

/// Attestations.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  commonwatt ledger recover collect h003.block h004.block auditor.block --out recovery.block --config commonwatt.toml
  commonwatt ledger recover collect recovery.block --config commonwatt.toml          only says who is missing

Exit code 6 while more must attest.")]
pub struct CollectArgs {
    /// The same block with different attestations.
    #[arg(value_name = "BLOCK", required = true)]
    pub blocks: Vec<PathBuf>,
    /// Where the block with all of them is written.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Configuration of a node on this machine, whose ledger the block follows from.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

/// A publication.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Example:
  commonwatt ledger recover publish recovery.block --config /var/lib/commonwatt/commonwatt.toml

One node is enough: it tells the others. Every node starts anew on the recovered chain by itself.")]
pub struct PublishArgs {
    /// The block that enough people attested.
    #[arg(value_name = "BLOCK")]
    pub block: PathBuf,
    /// The node of this home.
    #[command(flatten)]
    pub node: AskArgs,
}

/// Which node.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Example:
  commonwatt ledger recover follow --config /var/lib/commonwatt/commonwatt.toml

The node must not run. Keys, journal and orders stay; ledger.db is kept beside as ledger-given-up-1.db.")]
pub struct FollowArgs {
    /// The node's configuration file.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

/// Does a step.
///
/// # Errors
/// [`CommandError`]: files that are none, what the node refuses, a node that does not answer.
pub(in crate::commands) async fn recover(
    command: &RecoverCommand,
    output: Output,
) -> Result<Exit, CommandError> {
    match command {
        RecoverCommand::Offer(args) => offer(args, output).await,
        RecoverCommand::Propose(args) => propose(args, output).await,
        RecoverCommand::Attest(args) => attest(args, output).await,
        RecoverCommand::Collect(args) => collect(args, output),
        RecoverCommand::Publish(args) => publish(args, output).await,
        RecoverCommand::Follow(args) => follow(args, output),
    }
}

async fn ask(node: &AskArgs, request: RecoveryRequest) -> Result<Vec<u8>, CommandError> {
    let answer = node.client()?.recover(&request).await.map_err(|error| status::refused(&error))?;
    hex::decode(&answer.bytes).map_err(|_| CommandError::failed("the node's answer is not hexadecimal"))
}

fn request(step: RecoveryStep) -> RecoveryRequest {
    RecoveryRequest { step, number: None, offers: Vec::new(), block: None }
}

async fn offer(args: &OfferArgs, output: Output) -> Result<Exit, CommandError> {
    let bytes =
        ask(&args.node, RecoveryRequest { number: args.number, ..request(RecoveryStep::Offer) }).await?;
    let offer = SeatOffer::from_bytes(&bytes)
        .map_err(|error| CommandError::failed(format!("the node's offer cannot be read: {error}")))?;
    write(&args.out, &bytes)?;
    match output {
        Output::Json => out::json(&json!({
            "schema_version": 1,
            "home": offer.home.as_str(),
            "consensus_key": offer.keys.consensus.hex(),
            "file": args.out,
        })),
        Output::Text => {
            out::line(&format!("home {} offers to hold a seat: {}", offer.home, args.out.display()));
        }
    }
    out::note("Next: whoever gathers the offers runs commonwatt ledger recover propose …");
    Ok(Exit::Ok)
}

async fn propose(args: &ProposeArgs, output: Output) -> Result<Exit, CommandError> {
    let offers = args.offers.iter().map(|path| read(path).map(hex::encode)).collect::<Result<Vec<_>, _>>()?;
    let asked = RecoveryRequest { number: args.number, offers, ..request(RecoveryStep::Propose) };
    let bytes = ask(&args.node, asked).await?;
    write(&args.out, &bytes)?;
    let block = decoded(&bytes, &args.out)?;
    print(&block, &args.out, output);
    if block.recovery.as_ref().is_some_and(|recovery| recovery.seats.len() < 4) {
        out::note("warning: fewer than four seats bear no failure; find more homes if you can");
    }
    out::note(
        "Next: every member and two of operator, auditor and trustee run commonwatt ledger recover attest …",
    );
    Ok(Exit::Ok)
}

async fn attest(args: &AttestArgs, output: Output) -> Result<Exit, CommandError> {
    let bytes = read(&args.block)?;
    let block = decoded(&bytes, &args.block)?;
    let attested = match (&args.role_key, &args.node.config) {
        (Some(key), Some(config)) => attest_as_role(block, key, config)?.to_bytes(),
        (Some(_), None) => return Err(usage("--role-key needs --config FILE of a node on this machine")),
        (None, _) => {
            let asked = RecoveryRequest { block: Some(hex::encode(bytes)), ..request(RecoveryStep::Attest) };
            ask(&args.node, asked).await?
        }
    };
    write(&args.out, &attested)?;
    print(&decoded(&attested, &args.out)?, &args.out, output);
    out::note("Next: whoever gathers the attestations runs commonwatt ledger recover collect …");
    Ok(Exit::Ok)
}

/// A role attests what the node on this machine holds.
fn attest_as_role(mut block: Block, key: &Path, config: &Path) -> Result<Block, CommandError> {
    let (genesis, ledger) = local(config)?;
    let roles = Roles::of(&genesis);
    let trustee = genesis.roles.trustee.map(|key| Role { name: "trustee", key });
    let may: Vec<Role> = [Some(roles.operator), Some(roles.auditor), trustee].into_iter().flatten().collect();
    let key = hand_in::key_of_one(key, &may)?;
    ledger.rehearse_recovery(&block).map_err(|error| CommandError::failed(error.to_string()))?;
    let attestation = Attestation::sign(&block.header, ledger.height(), ledger.head(), &key);
    if let Some(recovery) = &mut block.recovery {
        recovery.attest(attestation);
    }
    Ok(block)
}

fn local(config: &Path) -> Result<(Genesis, Ledger), CommandError> {
    let config = Config::load(config)?;
    let genesis = genesis_file::load(&config.genesis)?;
    let path = config.data_dir.join("ledger.db");
    let ledger = LedgerDb::current(&path, &genesis).map_err(crate::commands::bill::stored)?;
    Ok((genesis, ledger))
}

fn collect(args: &CollectArgs, output: Output) -> Result<Exit, CommandError> {
    let (_, ledger) = local(&args.config)?;
    let mut blocks =
        args.blocks.iter().map(|path| decoded(&read(path)?, path)).collect::<Result<Vec<_>, _>>()?;
    let mut whole = blocks.remove(0);
    for (other, path) in blocks.into_iter().zip(args.blocks.iter().skip(1)) {
        if other.id() != whole.id() {
            let message = format!("{} is another block than {}", path.display(), args.blocks[0].display());
            return Err(CommandError::config(message));
        }
        let attestations = other.recovery.map(|recovery| recovery.attestations).unwrap_or_default();
        if let Some(recovery) = &mut whole.recovery {
            attestations.into_iter().for_each(|attestation| recovery.attest(attestation));
        }
    }
    let attestations =
        whole.recovery.as_ref().map(|recovery| recovery.attestations.as_slice()).unwrap_or_default();
    let refused = |error: &dyn std::fmt::Display| CommandError::failed(error.to_string());
    ledger.rehearse_recovery(&whole).map_err(|error| refused(&error))?;
    let support = ledger.support(&whole.header, attestations).map_err(|error| refused(&error))?;
    if let Some(path) = &args.out {
        write(path, &whole.to_bytes())?;
    }
    print_support(&support, output);
    Ok(if support.is_enough() { Exit::Ok } else { Exit::NotReady })
}

fn print_support(support: &Support, output: Output) {
    let listed = |homes: &[HomeId]| homes.iter().map(HomeId::to_string).collect::<Vec<_>>();
    let names = |homes: &[HomeId]| listed(homes).join(" ");
    match output {
        Output::Json => out::json(&json!({
            "schema_version": 1,
            "enough": support.is_enough(),
            "members": listed(&support.members),
            "members_needed": support.needed(),
            "missing": listed(&support.others),
            "roles": support.roles,
            "unbound_delegates": listed(&support.unbound),
            "may_be_contested": support.may_be_contested(),
        })),
        Output::Text => {
            out::line(&format!("members    {} of at least {}", support.members.len(), support.needed()));
            out::line(&format!(
                "roles      {} of at least 2: {}",
                support.roles.len(),
                support.roles.join(" ")
            ));
            out::line(&format!("missing    {}", names(&support.others)));
            out::line(if support.is_enough() { "enough     yes" } else { "enough     not yet" });
        }
    }
    if support.may_be_contested() {
        out::note(&format!(
            "warning: {} were delegates and have not attested. If they are only cut off, they can still decide blocks \
             together, which this recovery gives up: reach them first",
            names(&support.unbound)
        ));
    }
}

async fn publish(args: &PublishArgs, output: Output) -> Result<Exit, CommandError> {
    let bytes = read(&args.block)?;
    let block = decoded(&bytes, &args.block)?;
    ask(&args.node, RecoveryRequest { block: Some(hex::encode(bytes)), ..request(RecoveryStep::Publish) })
        .await?;
    print(&block, &args.block, output);
    out::note(
        "The node starts anew on the recovered chain and tells the others; commonwatt ledger head shows it.",
    );
    Ok(Exit::Ok)
}

fn follow(args: &FollowArgs, output: Output) -> Result<Exit, CommandError> {
    let config = Config::load(&args.config)?;
    let _lock = DataLock::acquire(&config.data_dir)
        .map_err(|error| CommandError::failed(format!("{error}; stop the node first")))?;
    let path = config.data_dir.join("ledger.db");
    if !path.exists() {
        return Err(CommandError::failed(format!("there is no ledger at {}", path.display())));
    }
    let aside = (1..1000).map(|number| config.data_dir.join(format!("ledger-given-up-{number}.db")));
    let aside = aside.into_iter().find(|path| !path.exists());
    let aside = aside.ok_or_else(|| CommandError::failed("remove older ledger-given-up files first"))?;
    // The log of the database first: without it the file beside would lack its last blocks, with it alone nothing is lost.
    for suffix in ["-wal", "-shm", ""] {
        let from = with_suffix(&path, suffix);
        if from.exists() {
            fs::rename(&from, with_suffix(&aside, suffix))
                .map_err(|error| CommandError::failed(format!("cannot move {}: {error}", from.display())))?;
        }
    }
    match output {
        Output::Json => out::json(&json!({ "schema_version": 1, "kept": aside })),
        Output::Text => out::line(&format!("the ledger is kept as {}", aside.display())),
    }
    out::note("Next: start the node. It fetches the chain that the community agreed on from the others.");
    Ok(Exit::Ok)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn print(block: &Block, file: &Path, output: Output) {
    let header = &block.header;
    let (seats, attestations) = block
        .recovery
        .as_ref()
        .map(|recovery| (recovery.seats.as_slice(), recovery.attestations.len()))
        .unwrap_or_default();
    let homes: Vec<&str> = seats.iter().map(|seat| seat.home.as_str()).collect();
    match output {
        Output::Json => out::json(&json!({
            "schema_version": 1,
            "file": file,
            "number": header.chain.recovery,
            "block": block.id().to_string(),
            "height": header.height,
            "parent": header.parent.to_string(),
            "time": header.time.to_string(),
            "seats": homes,
            "attestations": attestations,
        })),
        Output::Text => {
            out::line(&format!("recovery   {} of {}", header.chain.recovery, header.time));
            out::line(&format!("block      {} at height {}", block.id(), header.height));
            out::line(&format!("after      {}", header.parent));
            out::line(&format!("seats      {}", homes.join(" ")));
            out::line(&format!("attested   by {attestations}"));
        }
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), CommandError> {
    files::create(path, &format!("{}\n", hex::encode(bytes)))
}

fn read(path: &Path) -> Result<Vec<u8>, CommandError> {
    let text = files::read_text(path, FILE_BYTES_MAX)?;
    hex::decode(text.trim()).map_err(|_| {
        CommandError::config(format!("{} was not written by commonwatt ledger recover", path.display()))
    })
}

fn decoded(bytes: &[u8], path: &Path) -> Result<Block, CommandError> {
    recovery::parse_block(bytes)
        .map_err(|error| CommandError::config(format!("{} is no recovery block: {error}", path.display())))
}
