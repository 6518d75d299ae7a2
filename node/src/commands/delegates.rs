//! `commonwatt ledger delegates`, `vote`, `candidate`: who decides blocks, and what a member has to say about it.

use std::path::PathBuf;

use clap::Args;
use energy::HomeId;
use ledger::{APPROVALS_MAX, Ballot, Body, DelegateSet, Entry, Ledger, PublicKey, SignedEntry, Stream};
use serde_json::{Value, json};

use super::hand_in::{self, Author, NodeArgs, Outcome, Reached, usage};
use super::{CommandError, out};
use crate::cli::{Exit, Output};
use crate::config::Config;
use crate::genesis_file;
use crate::identity::fresh_salt;
use crate::store::ledger_db::LedgerDb;
use crate::terms::Terms;

/// Which ledger to look at.
#[derive(Debug, Clone, Args)]
pub struct DelegatesArgs {
    /// The node's configuration file.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

/// So often is signed what another entry took the number of.
const TRIES: u32 = 3;

/// A vote.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  commonwatt ledger vote --approve h003 --approve h007 --config /var/lib/commonwatt/commonwatt.toml
  commonwatt ledger vote --follow h003 --config /var/lib/commonwatt/commonwatt.toml
  commonwatt ledger vote --nobody --config /var/lib/commonwatt/commonwatt.toml

It counts from the election after the next on; until then the last vote does. Nobody sees it but those who hold the
community's books: the transparency tree has a commitment to it only.")]
pub struct VoteArgs {
    /// Approves a candidate; up to three times.
    #[arg(long, value_name = "ID", value_parser = HomeId::new, required_unless_present_any = ["follow", "nobody"])]
    pub approve: Vec<HomeId>,
    /// Votes as that member does.
    #[arg(long, value_name = "ID", value_parser = HomeId::new, conflicts_with = "approve")]
    pub follow: Option<HomeId>,
    /// Approves nobody.
    #[arg(long, conflicts_with_all = ["approve", "follow"])]
    pub nobody: bool,
    /// The node.
    #[command(flatten)]
    pub node: NodeArgs,
}

/// A candidacy.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  commonwatt ledger candidate --no --config /var/lib/commonwatt/commonwatt.toml
  commonwatt ledger candidate --yes --config /var/lib/commonwatt/commonwatt.toml

Every node stands for each term by itself unless its member says no. A seat that it holds stays its own until the next
election.")]
pub struct CandidateArgs {
    /// Stands again, from the coming term on.
    #[arg(long, conflicts_with = "no", required_unless_present = "no")]
    pub yes: bool,
    /// Does not stand until it says yes.
    #[arg(long)]
    pub no: bool,
    /// The node.
    #[command(flatten)]
    pub node: NodeArgs,
}

/// Shows the delegates, who stands by, who stands, and how this home voted.
///
/// # Errors
/// [`CommandError`]: no ledger to read.
pub(super) fn delegates(args: &DelegatesArgs, output: Output) -> Result<Exit, CommandError> {
    let config = Config::load(&args.config)?;
    let genesis = genesis_file::load(&config.genesis)?;
    let path = config.data_dir.join("ledger.db");
    let ledger = LedgerDb::current(&path, &genesis).map_err(super::bill::stored)?;
    match output {
        Output::Json => out::json(&as_json(&ledger, &config.home)),
        Output::Text => print(&ledger, &config.home),
    }
    Ok(Exit::Ok)
}

fn print(ledger: &Ledger, home: &HomeId) {
    let (epoch, set) = (ledger.epoch(), ledger.delegates());
    let (changed, faults) = ledger.seats_changed();
    out::line(&format!("epoch      {}, next election not before {}", epoch.number, ledger.next_election()));
    out::line(&format!("term       {}: {} seats, {} may fail", set.term(), set.len(), set.faults()));
    out::line(&format!("changed    {changed} of at most {faults} seats since the last election"));
    for seat in set.as_slice() {
        let signed = ledger.signed_lately(&seat.home);
        let signed =
            signed.map_or(String::new(), |(blocks, signed)| format!("  signed {signed} of {blocks}"));
        out::line(&format!("seat       {}  {}{signed}", seat.home, seat.key));
    }
    if ledger.next_delegates() != set {
        out::line(&format!("next       {}", homes_of(ledger.next_delegates()).join(" ")));
    }
    out::line(&format!("standby    {}", words(ledger.standbys())));
    out::line(&format!("candidates {} for term {}", words(&ledger.candidates()), ledger.coming_term()));
    match ledger.ballot(home) {
        Some(ballot) => {
            out::line(&format!("your vote  {}", ballot_words(&ballot.counted)));
            if ballot.last != ballot.counted {
                out::line(&format!(
                    "           {} from the election after the next",
                    ballot_words(&ballot.last)
                ));
            }
        }
        None => out::line("your vote  none"),
    }
    if !ledger.has_stake(home) {
        out::line(
            "           does not count yet, or no more: 30 days with readings, the last within 30 days",
        );
    }
}

fn as_json(ledger: &Ledger, home: &HomeId) -> Value {
    let set = ledger.delegates();
    let seats: Vec<_> = set
        .as_slice()
        .iter()
        .map(|seat| {
            let signed = ledger.signed_lately(&seat.home);
            json!({
                "home": seat.home.as_str(),
                "key": seat.key.hex(),
                "blocks": signed.map(|(blocks, _)| blocks),
                "signed": signed.map(|(_, signed)| signed),
            })
        })
        .collect();
    let (changed, most) = ledger.seats_changed();
    json!({
        "schema_version": 1,
        "height": ledger.height(),
        "epoch": ledger.epoch().number,
        "next_election": ledger.next_election().to_string(),
        "term": set.term(),
        "faults": set.faults(),
        "changed": changed,
        "changed_max": most,
        "seats": seats,
        "next": homes_of(ledger.next_delegates()),
        "standbys": ledger.standbys().iter().map(HomeId::as_str).collect::<Vec<_>>(),
        "candidates": ledger.candidates().iter().map(HomeId::as_str).collect::<Vec<_>>(),
        "opted_out": ledger.has_opted_out(home),
        "has_stake": ledger.has_stake(home),
        "vote": ledger.ballot(home).map(|ballot| json!({
            "counted": ballot_words(&ballot.counted),
            "last": ballot_words(&ballot.last),
            "cast_in": ballot.cast_in,
        })),
    })
}

fn homes_of(set: &DelegateSet) -> Vec<&str> {
    set.as_slice().iter().map(|seat| seat.home.as_str()).collect()
}

fn words(homes: &[HomeId]) -> String {
    if homes.is_empty() {
        return "none".to_owned();
    }
    homes.iter().map(HomeId::as_str).collect::<Vec<_>>().join(" ")
}

fn ballot_words(ballot: &Ballot) -> String {
    match ballot {
        Ballot::Approve(homes) if homes.is_empty() => "nobody".to_owned(),
        Ballot::Approve(homes) => homes.iter().map(HomeId::as_str).collect::<Vec<_>>().join(" "),
        Ballot::Follow(home) => format!("as {home} does"),
    }
}

/// Votes.
///
/// # Errors
/// [`CommandError`]: what the ledger would refuse, or a node that does not answer.
pub(super) async fn vote(args: &VoteArgs, output: Output) -> Result<Exit, CommandError> {
    if args.approve.len() > APPROVALS_MAX {
        return Err(usage(format!("--approve can be given at most {APPROVALS_MAX} times")));
    }
    let ballot = match &args.follow {
        Some(home) => Ballot::Follow(home.clone()),
        None => Ballot::Approve(args.approve.iter().cloned().collect()),
    };
    let said = format!("vote for {}", ballot_words(&ballot));
    say(&args.node, &said, output, |home, _| Body::Vote { home, ballot: ballot.clone() }).await
}

/// Stands, or does not.
///
/// # Errors
/// As [`vote`].
pub(super) async fn candidate(args: &CandidateArgs, output: Output) -> Result<Exit, CommandError> {
    if args.no {
        let none = |home, ledger: &Ledger| Body::Candidacy { home, term: ledger.coming_term(), keys: None };
        return say(&args.node, "no candidacy", output, none).await;
    }
    let genesis = args.node.genesis()?;
    let node = args.node.reach(&genesis).await?;
    let ledger = ledger_of(&node)?;
    let (config, key) = member(&args.node)?;
    let stand = Terms::open(&config.data_dir, &config.home, &key).and_then(|mut terms| terms.stand(ledger));
    let signed = stand.map_err(|error| CommandError::failed(error.to_string()))?;
    let signed = signed.ok_or_else(|| CommandError::failed("the keys of the coming term are not there"))?;
    finish(&node, &signed, "candidacy", output).await
}

/// Signs and hands in, with the next number where the node itself used one at the same moment: it stands for each term.
async fn say(
    args: &NodeArgs,
    what: &str,
    output: Output,
    body: impl Fn(HomeId, &Ledger) -> Body,
) -> Result<Exit, CommandError> {
    let genesis = args.genesis()?;
    let mut tries = 0;
    loop {
        tries += 1;
        let node = args.reach(&genesis).await?;
        let signed = sign(args, &node, &body)?;
        match finish(&node, &signed, what, output).await {
            Err(CommandError::NumberTaken(_)) if tries < TRIES => {}
            ended => return ended,
        }
    }
}

fn ledger_of<'n>(node: &'n Reached<'_>) -> Result<&'n Ledger, CommandError> {
    node.ledger
        .as_ref()
        .ok_or_else(|| usage("--config FILE of a node on this machine is needed: its keys sign"))
}

fn member(args: &NodeArgs) -> Result<(Config, ed25519_dalek::SigningKey), CommandError> {
    let path = args.config.as_ref();
    let path =
        path.ok_or_else(|| usage("--config FILE of a node on this machine is needed: its keys sign"))?;
    let config = Config::load(path)?;
    let key = hand_in::member_key(path, Some(&config.home))?;
    Ok((config, key))
}

fn sign(
    args: &NodeArgs,
    node: &Reached<'_>,
    body: impl Fn(HomeId, &Ledger) -> Body,
) -> Result<SignedEntry, CommandError> {
    let (config, key) = member(args)?;
    let signer = PublicKey::of(&key);
    let author = Author { signer, stream: Stream::Delegates, home: Some(&config.home) };
    let number = node.next_number(author)?;
    let entry =
        Entry { signer, number, salt: fresh_salt()?, body: body(config.home.clone(), ledger_of(node)?) };
    Ok(entry.sign(&node.chain, &key))
}

async fn finish(
    node: &Reached<'_>,
    signed: &SignedEntry,
    what: &str,
    output: Output,
) -> Result<Exit, CommandError> {
    let outcome = node.end(std::slice::from_ref(signed), None).await?;
    let entry = signed.unchecked();
    match output {
        Output::Json => out::json(&json!({
            "schema_version": 1,
            "kind": entry.body.kind(),
            "home": entry.body.home().map(HomeId::as_str),
            "number": entry.number,
            "final": outcome == Outcome::Final,
        })),
        Output::Text => out::line(&format!("{what}: {}", outcome.word())),
    }
    Ok(Exit::Ok)
}
