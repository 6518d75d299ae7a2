//! `commonwatt community admit`, `rotate`: a home that comes later, and a home with new keys.

use std::path::PathBuf;

use clap::Args;
use energy::{NodeId, WattHours};
use ledger::codec::Encode as _;
use ledger::{Body, ENTRY_BYTES_MAX, Entry, PublicKey, Stream};

use super::agree::ended;
use crate::cli::{Exit, Output};
use crate::commands::hand_in::{self, Author, NodeArgs, Roles};
use crate::commands::join_card::JoinCard;
use crate::commands::{CommandError, out};
use crate::identity::fresh_salt;

/// An admission.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  The new home makes its keys and its card:
    commonwatt init --data-dir /var/lib/commonwatt --home h013 --node n3 --meter-serial 21045177
  The operator attests connection point and owner:
    commonwatt community admit --card h013/join.json --operator-key operator.key --sign-only admission.txt \\
      --config commonwatt.toml
  More than half of the delegates sign, each on its own node, one after the other or side by side:
    commonwatt community countersign admission.txt --as-member --sign-only h002.txt --config commonwatt.toml
    commonwatt community countersign h002.txt --join h003.txt --join h004.txt --config commonwatt.toml
  The new home joins, with the community's genesis and somebody's card:
    commonwatt init --data-dir /var/lib/commonwatt --join genesis.toml --admitted --card h002/join.json

Delegates sign with their member keys, and who held a seat in this epoch or the two before counts: there is time to pass
the file round.")]
pub struct AdmitArgs {
    /// The home's join card.
    #[arg(long, value_name = "FILE")]
    pub card: PathBuf,
    /// Node of the network where it is connected, if its card does not say.
    #[arg(long, value_name = "ID", value_parser = NodeId::new)]
    pub node_id: Option<NodeId>,
    /// The most its connection takes in an interval, Wh, as certified; unlimited if not said.
    #[arg(long, value_name = "WH")]
    pub import_max: Option<u64>,
    /// The most it gives.
    #[arg(long, value_name = "WH")]
    pub export_max: Option<u64>,
    /// Key file of the operator.
    #[arg(long, value_name = "FILE")]
    pub operator_key: PathBuf,
    /// Writes the entry into a new file for the delegates, and hands in nothing.
    #[arg(long, value_name = "FILE")]
    pub sign_only: Option<PathBuf>,
    /// The node.
    #[command(flatten)]
    pub node: NodeArgs,
}

/// New keys.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  commonwatt init --data-dir /var/lib/commonwatt-new --home h004 --node n3 --meter-serial 21045123
  commonwatt community rotate --card /var/lib/commonwatt-new/join.json --config /var/lib/commonwatt/commonwatt.toml
  commonwatt init --data-dir /var/lib/commonwatt-new --join genesis.toml --admitted --card h002/join.json

The old node stops being the home's as soon as the entry is final: stop it, and start the new one. What the old one has
read and nobody took is lost; wait until `commonwatt status` shows nothing waiting.")]
pub struct RotateArgs {
    /// The join card in the folder of the new keys.
    #[arg(long, value_name = "FILE")]
    pub card: PathBuf,
    /// The node with the present keys.
    #[command(flatten)]
    pub node: NodeArgs,
}

/// Signs an admission as the operator, and writes it or hands it in.
pub(super) async fn admit(args: &AdmitArgs, output: Output) -> Result<Exit, CommandError> {
    let genesis = args.node.genesis()?;
    let mut admission = JoinCard::load(&args.card)?.admission(args.node_id.clone())?;
    if let Some(most) = args.import_max {
        admission.size.import = WattHours::new(most);
    }
    if let Some(most) = args.export_max {
        admission.size.export = WattHours::new(most);
    }
    if !genesis.network.iter().any(|node| node.id == admission.node) {
        let message = format!("the network of this community has no node {}", admission.node);
        return Err(CommandError::config(message));
    }
    let key = hand_in::role_key(&args.operator_key, &Roles::of(&genesis).operator)?;
    let node = args.node.reach(&genesis).await?;
    let number = node.member.next_operator_number;
    let signed = hand_in::sign(Body::Admission(admission), number, &node.chain, &key)?;
    let outcome = node.end(std::slice::from_ref(&signed), args.sign_only.as_deref()).await?;
    Ok(ended(&signed, args.sign_only.as_deref(), outcome, output))
}

/// Gives the home of the configured node the keys of a card.
pub(super) async fn rotate(args: &RotateArgs, output: Output) -> Result<Exit, CommandError> {
    let genesis = args.node.genesis()?;
    let (home, keys) = JoinCard::load(&args.card)?.keys()?;
    let config = args.node.config.as_ref();
    let config =
        config.ok_or_else(|| hand_in::usage("--config FILE of the node with the present keys is needed"))?;
    let key = hand_in::member_key(config, Some(&home))?;
    let node = args.node.reach(&genesis).await?;
    let signer = PublicKey::of(&key);
    let number = node.next_number(Author { signer, stream: Stream::Rest, home: Some(&home) })?;
    let body = Body::KeyRotation { home, keys };
    let signed = Entry { signer, number, salt: fresh_salt()?, body }.sign(&node.chain, &key);
    if signed.to_bytes().len() > ENTRY_BYTES_MAX {
        return Err(CommandError::failed("the entry is too long"));
    }
    let outcome = node.end(std::slice::from_ref(&signed), None).await?;
    out::note("Next: stop this node, and start the one with the new keys");
    Ok(ended(&signed, None, outcome, output))
}
