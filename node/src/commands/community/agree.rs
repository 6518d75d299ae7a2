//! `commonwatt community contract`, `participation`, `leave`: what a member and the operator agree on, each with its own
//! signature, in whatever order.

use std::path::{Path, PathBuf};

use clap::Args;
use ed25519_dalek::SigningKey;
use energy::{HomeId, Interval, Price};
use ledger::{Body, Entry, Genesis, OwnContract, Participation, PublicKey, SignedEntry, Stream};
use market::Sharing;
use serde_json::json;

use super::when::{ZoneArgs, starting_arg};
use crate::cli::{Exit, Output};
use crate::commands::hand_in::{self, Author, CountersignArgs, NodeArgs, Outcome, Reached, Roles, usage};
use crate::commands::market::args::price;
use crate::commands::{CommandError, out};
use crate::identity::fresh_salt;
use crate::tariff::day_ahead::decimal;

/// The kinds of entries that are agreed on.
const KINDS: [&str; 4] = ["admission", "own-contract", "participation-change", "departure"];

/// Who signs, and what happens to what is signed.
#[derive(Debug, Clone, Args)]
pub struct SignersArgs {
    /// Signs with the member key of the node that --config names.
    #[arg(long, requires = "config")]
    pub as_member: bool,
    /// Key file of the operator.
    #[arg(long, value_name = "FILE")]
    pub operator_key: Option<PathBuf>,
    /// Writes the signed entry into a new file for who must sign it too, and hands in nothing.
    #[arg(long, value_name = "FILE")]
    pub sign_only: Option<PathBuf>,
    /// The node.
    #[command(flatten)]
    pub node: NodeArgs,
}

/// A supply contract.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  The member begins on its own node, the operator agrees:
    commonwatt community contract --home h004 --import-price 0.219 --as-member --sign-only contract.txt \\
      --config /var/lib/commonwatt/commonwatt.toml
    commonwatt community countersign contract.txt --sign-also operator.key --config commonwatt.toml
  Back to the community's tariff, begun by the operator:
    commonwatt community contract --home h004 --community-tariff --operator-key operator.key --sign-only back.txt \\
      --config commonwatt.toml
    commonwatt community countersign back.txt --as-member --config /var/lib/commonwatt/commonwatt.toml

The prices hold from the first interval that starts after the entry's block. A price that is not said is the community
tariff's: the new contract takes the place of the old one as a whole. 0.219 is in the currency per kWh, 219000 in
millionths of it.")]
pub struct ContractArgs {
    /// Whose.
    #[arg(long, value_name = "ID", value_parser = HomeId::new)]
    pub home: HomeId,
    /// What a kWh from its supplier costs.
    #[arg(long, value_name = "PRICE", value_parser = price, allow_hyphen_values = true)]
    pub import_price: Option<i64>,
    /// What its supplier pays for a kWh.
    #[arg(long, value_name = "PRICE", value_parser = price, allow_hyphen_values = true)]
    pub export_price: Option<i64>,
    /// No contract of its own any more.
    #[arg(long, conflicts_with_all = ["import_price", "export_price"],
          required_unless_present_any = ["import_price", "export_price"])]
    pub community_tariff: bool,
    /// Who signs.
    #[command(flatten)]
    pub signers: SignersArgs,
}

/// A part in sharing by keys.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  commonwatt community participation --home h004 --from 2026-12-01 --zone Europe/Vienna --share 12.5 --part 100 \\
    --as-member --sign-only part.txt --config /var/lib/commonwatt/commonwatt.toml
  commonwatt community countersign part.txt --sign-also operator.key --config commonwatt.toml

The share counts where the community shares by a static key: all shares together are at most 100 %. The part is what of
the home's meter takes part at all; the rest is its supplier's. What is not said stays as it is.")]
pub struct ParticipationArgs {
    /// Whose.
    #[arg(long, value_name = "ID", value_parser = HomeId::new)]
    pub home: HomeId,
    /// The first interval for which it holds, or the first local day.
    #[arg(long, value_name = "DATE|TIME")]
    pub from: String,
    /// Its agreed share of the local generation, %, up to two digits behind the point.
    #[arg(long, value_name = "PERCENT")]
    pub share: Option<String>,
    /// How much of its meter takes part, %, up to one digit behind the point.
    #[arg(long, value_name = "PERCENT")]
    pub part: Option<String>,
    /// Where clocks are.
    #[command(flatten)]
    pub zone: ZoneArgs,
    /// Who signs.
    #[command(flatten)]
    pub signers: SignersArgs,
}

/// A departure.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  commonwatt community leave --home h004 --from 2026-12-01 --zone Europe/Vienna --as-member --sign-only leave.txt \\
    --config /var/lib/commonwatt/commonwatt.toml
  commonwatt community countersign leave.txt --sign-also operator.key --config commonwatt.toml")]
pub struct LeaveArgs {
    /// Whose.
    #[arg(long, value_name = "ID", value_parser = HomeId::new)]
    pub home: HomeId,
    /// The first interval in which it is no member any more, or the first such local day.
    #[arg(long, value_name = "DATE|TIME")]
    pub from: String,
    /// Where clocks are.
    #[command(flatten)]
    pub zone: ZoneArgs,
    /// Who signs.
    #[command(flatten)]
    pub signers: SignersArgs,
}

/// Examples of adding a signature.
pub const COUNTERSIGN_EXAMPLES: &str = "\
Examples:
  commonwatt community countersign contract.txt --show
  commonwatt community countersign contract.txt --sign-also operator.key --config commonwatt.toml
  commonwatt community countersign back.txt --as-member --config /var/lib/commonwatt/commonwatt.toml
  commonwatt community countersign admission.txt --as-member --sign-only h002.txt --config commonwatt.toml
  commonwatt community countersign h002.txt --join h003.txt --join h004.txt --config commonwatt.toml";

/// Registers, changes or ends a home's own supply contract.
pub(super) async fn contract(args: &ContractArgs, output: Output) -> Result<Exit, CommandError> {
    let contract = OwnContract {
        import_price: args.import_price.map(Price::new),
        export_price: args.export_price.map(Price::new),
    };
    let body = Body::OwnContract { home: args.home.clone(), contract };
    let genesis = args.signers.node.genesis()?;
    args.signers.check(&args.home, &genesis)?;
    let node = args.signers.node.reach(&genesis).await?;
    args.signers.finish(&node, &genesis, body, output).await
}

/// Changes a home's part.
pub(super) async fn participation(args: &ParticipationArgs, output: Output) -> Result<Exit, CommandError> {
    let [share, part] = [("--share", &args.share, 2), ("--part", &args.part, 1)]
        .map(|(name, percent, places)| percent.as_deref().map(|text| of_all(name, text, places)).transpose());
    let (share, part) = (share?, part?);
    let genesis = args.signers.node.genesis()?;
    args.signers.check(&args.home, &genesis)?;
    let zone = args.zone.or_of(&args.signers.node)?;
    let from = starting_arg("--from", &args.from, &zone, genesis.mtu)?;
    let node = args.signers.node.reach(&genesis).await?;
    let present = present(&node, &args.home, from);
    let known = |said: Option<u32>, present: Option<u32>| {
        said.or(present).ok_or_else(|| {
            usage(
                "say both --share and --part: the ledger that knows the present ones is not on this machine",
            )
        })
    };
    let participation = Participation {
        share_permyriad: known(share, present.map(|it| it.share_permyriad))?,
        permille: known(part, present.map(|it| it.permille))?,
    };
    if share.is_some() && !matches!(genesis.market.sharing, Sharing::StaticKey { .. }) {
        out::note("the share has no effect now: this community does not share by a static key");
    }
    let body = Body::ParticipationChange { home: args.home.clone(), from, participation };
    args.signers.finish(&node, &genesis, body, output).await
}

fn present(node: &Reached<'_>, home: &HomeId, from: Interval) -> Option<Participation> {
    Some(node.ledger.as_ref()?.member(home)?.participation_at(from))
}

/// A percentage in parts of a whole: with two places of 10 000, with one of 1 000.
fn of_all(name: &str, text: &str, places: usize) -> Result<u32, CommandError> {
    let whole = if places == 2 { 10_000 } else { 1_000 };
    let parts = decimal(text, places).map_err(|what| usage(format!("{name}: {what}")))?;
    let inside = u32::try_from(parts).ok().filter(|parts| *parts <= whole);
    inside.ok_or_else(|| usage(format!("{name}: {text} lies outside 0 to 100 %")))
}

/// Takes a home out.
pub(super) async fn leave(args: &LeaveArgs, output: Output) -> Result<Exit, CommandError> {
    let genesis = args.signers.node.genesis()?;
    args.signers.check(&args.home, &genesis)?;
    let zone = args.zone.or_of(&args.signers.node)?;
    let from = starting_arg("--from", &args.from, &zone, genesis.mtu)?;
    let node = args.signers.node.reach(&genesis).await?;
    out::note(
        "the balance stays until it is withdrawn (commonwatt money withdraw --amount all), debts until they are paid; a \
         delegate keeps its seat; keys and the meter's serial number are never used again here",
    );
    let body = Body::Departure { home: args.home.clone(), from };
    args.signers.finish(&node, &genesis, body, output).await
}

impl SignersArgs {
    /// Somebody signs, and who does not is asked for.
    fn check(&self, home: &HomeId, genesis: &Genesis) -> Result<(), CommandError> {
        if let Some(path) = &self.operator_key {
            hand_in::role_key(path, &Roles::of(genesis).operator)?;
        }
        let missing = match (self.as_member, self.operator_key.is_some()) {
            (true, true) => return Ok(()),
            (false, false) => {
                return Err(usage(
                    "--as-member or --operator-key FILE says who begins to sign; both must in the end",
                ));
            }
            (true, false) => "the operator must sign too: --operator-key FILE if the key is here".to_owned(),
            (false, true) => format!("the member of home {home} must sign too: --as-member on its own node"),
        };
        if self.sign_only.is_some() {
            return Ok(());
        }
        Err(usage(format!(
            "{missing}; else --sign-only FILE, and `commonwatt community countersign FILE` there"
        )))
    }

    /// Signs, and writes or hands in.
    async fn finish(
        &self,
        node: &Reached<'_>,
        genesis: &Genesis,
        body: Body,
        output: Output,
    ) -> Result<Exit, CommandError> {
        let member = match (&self.node.config, self.as_member) {
            (Some(config), true) => Some(hand_in::member_key(config, body.home())?),
            _ => None,
        };
        let signer = signer(node, member.as_ref(), body.home())?;
        let number = node.next_number(Author { signer, stream: Stream::Rest, home: body.home() })?;
        let entry = Entry { signer, number, salt: fresh_salt()?, body };
        let operator =
            self.operator_key.as_deref().map(|path| hand_in::role_key(path, &Roles::of(genesis).operator));
        let chain = node.chain;
        let signed = [member, operator.transpose()?]
            .iter()
            .flatten()
            .fold(SignedEntry::unsigned(entry), |signed, key| signed.countersign(&chain, key));
        let outcome = node.end(std::slice::from_ref(&signed), self.sign_only.as_deref()).await?;
        Ok(ended(&signed, self.sign_only.as_deref(), outcome, output))
    }
}

/// The author of what is agreed on is the member, whoever signs first.
fn signer(
    node: &Reached<'_>,
    member: Option<&SigningKey>,
    home: Option<&HomeId>,
) -> Result<PublicKey, CommandError> {
    if let Some(key) = member {
        return Ok(PublicKey::of(key));
    }
    let Some(ledger) = &node.ledger else {
        return Err(usage(
            "--config FILE of a node on this machine is needed: its ledger tells the member's key and next number; else \
             let the member begin on its own node",
        ));
    };
    let member = home.and_then(|home| ledger.member(home));
    let key = member.map(|member| member.admission.keys.member);
    key.ok_or_else(|| {
        let home = home.map_or("", HomeId::as_str);
        CommandError::failed(format!("home {home} is no member of this community"))
    })
}

/// Adds a signature.
pub(super) async fn countersign(args: &CountersignArgs, output: Output) -> Result<Exit, CommandError> {
    let signed = args.entry(&KINDS)?;
    if args.show {
        print(&signed, Outcome::Kept, output);
        return Ok(Exit::Ok);
    }
    let genesis = args.node.genesis()?;
    let (signed, outcome) = args.finish(signed, &[Roles::of(&genesis).operator], &genesis).await?;
    Ok(ended(&signed, args.sign_only.as_deref(), outcome, output))
}

pub(super) fn ended(
    signed: &SignedEntry,
    sign_only: Option<&Path>,
    outcome: Outcome,
    output: Output,
) -> Exit {
    print(signed, outcome, output);
    hand_in::note_next(sign_only, "community countersign");
    Exit::Ok
}

fn print(signed: &SignedEntry, outcome: Outcome, output: Output) {
    let entry = signed.unchecked();
    let home = entry.body.home().map_or("", HomeId::as_str);
    let price = |price: Option<Price>| price.map(Price::get);
    let shown = |price: Option<Price>| price.map_or("the community's".to_owned(), |it| it.get().to_string());
    let (terms, rows) = match &entry.body {
        Body::OwnContract { contract: OwnContract { import_price, export_price }, .. } => (
            json!({ "import_price": price(*import_price), "export_price": price(*export_price) }),
            vec![("import", shown(*import_price) + " µ/kWh"), ("export", shown(*export_price) + " µ/kWh")],
        ),
        Body::ParticipationChange { from, participation: it, .. } => (
            json!({
                "from": from.to_string(),
                "share_permyriad": it.share_permyriad,
                "participation_permille": it.permille,
            }),
            vec![
                ("from", from.to_string()),
                ("share", format!("{}.{:02} %", it.share_permyriad / 100, it.share_permyriad % 100)),
                ("part", format!("{}.{} %", it.permille / 10, it.permille % 10)),
            ],
        ),
        Body::Admission(of) => (
            json!({
                "owner": of.owner,
                "node": of.node.as_str(),
                "meter": of.meter.serial.as_str(),
                "import_wh": of.size.import.get(),
                "export_wh": of.size.export.get(),
                "signatures": signed.signers().count(),
            }),
            vec![
                ("owner", of.owner.clone()),
                ("node", of.node.to_string()),
                ("meter", of.meter.serial.to_string()),
                ("carries", format!("{} Wh in, {} Wh out", of.size.import.get(), of.size.export.get())),
                ("signed by", signed.signers().count().to_string()),
            ],
        ),
        Body::KeyRotation { keys, .. } => (
            json!({ "member": keys.member.hex(), "reading": keys.reading.hex(), "network": keys.network.hex() }),
            vec![
                ("member", keys.member.hex()),
                ("reading", keys.reading.hex()),
                ("network", keys.network.hex()),
            ],
        ),
        Body::Departure { from, .. } => {
            (json!({ "from": from.to_string() }), vec![("from", from.to_string())])
        }
        _ => return,
    };
    if output == Output::Json {
        out::json(&json!({
            "schema_version": 1,
            "kind": entry.body.kind(),
            "home": home,
            "terms": terms,
            "number": entry.number,
            "final": outcome.is_final(),
            "state": outcome.word(),
        }));
        return;
    }
    let head = [("what", entry.body.kind().to_owned()), ("home", home.to_owned())];
    let foot = [("number", entry.number.to_string()), ("state", outcome.word().to_owned())];
    for (name, value) in head.into_iter().chain(rows).chain(foot) {
        out::line(&format!("{name:<10} {value}"));
    }
}
