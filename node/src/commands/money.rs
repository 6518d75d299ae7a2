//! `commonwatt money`: what is paid in and out, what the bank holds, who owes whom, and whose balance runs low.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use energy::{Balance, HomeId};
use ledger::{Body, Genesis, SignedEntry, TEXT_MAX};
use serde_json::{Value, json};

use super::bill::stored;
use super::hand_in::{self, CountersignArgs, NodeArgs, Outcome, Role, Roles, usage};
use super::{CommandError, out, status};
use crate::bill::figures;
use crate::bill::items::Nano;
use crate::bill::sheet::cent;
use crate::cli::{Exit, Output};
use crate::store::billing::BillingDb;
use crate::tariff::day_ahead::decimal;

pub mod accounts;

/// The kinds of entries that move or attest money.
const KINDS: [&str; 3] = ["deposit", "withdrawal", "bank-balance"];

/// Those of them that move it.
const MOVEMENTS: &str = "'deposit', 'withdrawal'";

/// What to do with money.
#[derive(Debug, Subcommand)]
pub enum MoneyCommand {
    /// Books money that arrived at the bank.
    Deposit(DepositArgs),
    /// Books money that is paid out, in whole cents.
    Withdraw(WithdrawArgs),
    /// Says what stands on the community's bank account; treasurer and auditor sign.
    Attest(AttestArgs),
    /// Adds a signature to a deposit, withdrawal or attestation that somebody else began, and hands it in.
    Countersign(CountersignMoneyArgs),
    /// Lists what homes owe the supplier, and the supplier homes and network.
    Claims(accounts::LedgerArgs),
    /// Lists every account, how long each lasts, and what the bank must hold.
    Balances(accounts::LedgerArgs),
}

/// Whose account.
#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = false)]
pub struct WhoseArgs {
    /// A home's.
    #[arg(long, value_name = "ID", value_parser = HomeId::new)]
    pub home: Option<HomeId>,
    /// The supplier's.
    #[arg(long)]
    pub supplier: bool,
}

/// Who signs, and what happens to what is signed.
#[derive(Debug, Clone, Args)]
pub struct SigningArgs {
    /// Key file of the treasurer, who begins.
    #[arg(long, value_name = "FILE")]
    pub treasurer_key: PathBuf,
    /// Key file of another one who must sign (auditor above the limit, operator for the supplier); repeat it for more.
    #[arg(long, value_name = "FILE")]
    pub sign_also: Vec<PathBuf>,
    /// Writes the signed entry into a new file for who must sign it too, and hands in nothing.
    #[arg(long, value_name = "FILE")]
    pub sign_only: Option<PathBuf>,
    /// The node.
    #[command(flatten)]
    pub node: NodeArgs,
}

/// A deposit.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  commonwatt money deposit --home h001 --amount 150.00 --reference \"SEPA 4711\" --treasurer-key treasurer.key \\
    --config commonwatt.toml
  Above the limit of the genesis the auditor signs too, here or elsewhere:
    commonwatt money deposit --home h001 --amount 25000 --reference \"SEPA 4712\" --treasurer-key treasurer.key \\
      --sign-also auditor.key --config commonwatt.toml
    commonwatt money deposit --home h001 --amount 25000 --reference \"SEPA 4712\" --treasurer-key treasurer.key \\
      --sign-only deposit.txt --config commonwatt.toml
    commonwatt money countersign deposit.txt --sign-also auditor.key --config commonwatt.toml")]
pub struct DepositArgs {
    /// Whose.
    #[command(flatten)]
    pub whose: WhoseArgs,
    /// How much, in the currency: 150.00.
    #[arg(long, value_name = "AMOUNT")]
    pub amount: String,
    /// The bank's reference: it tells one payment from another of the same amount.
    #[arg(long, value_name = "TEXT")]
    pub reference: String,
    /// Books it although account, amount and reference are booked already.
    #[arg(long)]
    pub again: bool,
    /// Who signs.
    #[command(flatten)]
    pub signing: SigningArgs,
}

/// A withdrawal.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  The treasurer begins, the member agrees on its own node:
    commonwatt money withdraw --home h001 --amount 20.00 --reference \"payout 17\" --treasurer-key treasurer.key \\
      --sign-only payout.txt --config commonwatt.toml
    commonwatt money countersign payout.txt --as-member --config /var/lib/commonwatt/commonwatt.toml
  Everything that is free, on the node of the home:
    commonwatt money withdraw --home h001 --amount all --reference \"moving out\" --treasurer-key treasurer.key \\
      --sign-only payout.txt --config commonwatt.toml
  From the supplier's account, which the operator agrees to:
    commonwatt money withdraw --supplier --amount 900 --reference \"invoice 7\" --treasurer-key treasurer.key \\
      --sign-also operator.key --config commonwatt.toml

Only whole cents are paid out; what is left stays on the account.")]
pub struct WithdrawArgs {
    /// Whose.
    #[command(flatten)]
    pub whose: WhoseArgs,
    /// How much, in the currency and whole cents: 20.00; or `all` that is free, on the node of the home.
    #[arg(long, value_name = "AMOUNT|all")]
    pub amount: String,
    /// The bank's reference: it tells one payment from another of the same amount.
    #[arg(long, value_name = "TEXT")]
    pub reference: String,
    /// Books it although account, amount and reference are booked already.
    #[arg(long)]
    pub again: bool,
    /// Who signs.
    #[command(flatten)]
    pub signing: SigningArgs,
}

/// An attestation.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  commonwatt money attest --bank-balance 18250.40 --treasurer-key treasurer.key --sign-also auditor.key \\
    --config commonwatt.toml
  commonwatt money attest --bank-balance 18250.40 --treasurer-key treasurer.key --sign-only balance.txt \\
    --config commonwatt.toml

If the bank holds less than all accounts together, the ledger pays out nothing until it is attested anew.")]
pub struct AttestArgs {
    /// What stands on it, in the currency.
    #[arg(long, value_name = "AMOUNT", allow_hyphen_values = true)]
    pub bank_balance: String,
    /// Who signs.
    #[command(flatten)]
    pub signing: SigningArgs,
}

/// A signature on what somebody else began.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  commonwatt money countersign payout.txt --show
  commonwatt money countersign payout.txt --as-member --config /var/lib/commonwatt/commonwatt.toml
  commonwatt money countersign deposit.txt --sign-also auditor.key --config commonwatt.toml
  commonwatt money countersign payout.txt --sign-also auditor.key --sign-only payout-2.txt --config commonwatt.toml")]
pub struct CountersignMoneyArgs {
    /// Who signs what.
    #[command(flatten)]
    pub countersign: CountersignArgs,
    /// Books it although account, amount and reference are booked already.
    #[arg(long)]
    pub again: bool,
}

/// Does what the command line says.
///
/// # Errors
/// [`CommandError`]: amounts, keys or files that cannot be used, what the ledger would refuse, or a node that does not
/// answer.
pub(super) fn money(command: &MoneyCommand, output: Output) -> Result<Exit, CommandError> {
    match command {
        MoneyCommand::Deposit(args) => super::block_on(deposit(args, output))?,
        MoneyCommand::Withdraw(args) => super::block_on(withdraw(args, output))?,
        MoneyCommand::Attest(args) => super::block_on(attest(args, output))?,
        MoneyCommand::Countersign(args) => super::block_on(countersign(args, output))?,
        MoneyCommand::Claims(args) => accounts::claims(args, output),
        MoneyCommand::Balances(args) => accounts::balances(args, output),
    }
}

async fn deposit(args: &DepositArgs, output: Output) -> Result<Exit, CommandError> {
    let amount = above_zero(&args.amount)?;
    let reference = reference(&args.reference)?;
    let genesis = args.signing.node.genesis()?;
    limit(amount, &genesis, &args.signing)?;
    let home = args.whose.home.clone();
    let body = Body::Deposit { home, amount: Balance::new(amount), reference };
    only_once(&body, args.again, &args.signing.node, &genesis)?;
    args.signing.finish(&genesis, body, output).await
}

async fn withdraw(args: &WithdrawArgs, output: Output) -> Result<Exit, CommandError> {
    let reference = reference(&args.reference)?;
    let genesis = args.signing.node.genesis()?;
    let unit = cent(&genesis.currency);
    let amount =
        if args.amount == "all" { all_free(args, &genesis, unit).await? } else { above_zero(&args.amount)? };
    if Nano::from(amount) % unit != 0 {
        let rest = figures::exact(Nano::from(amount).rem_euclid(unit));
        return Err(usage(format!(
            "only whole cents are paid out; leave {rest} on the account: it stays the member's"
        )));
    }
    limit(amount, &genesis, &args.signing)?;
    if args.whose.home.is_some() && args.signing.sign_only.is_none() {
        return Err(usage(
            "the member must sign its withdrawal too: write it with --sign-only FILE, and on the member's node run \
             `commonwatt money countersign FILE --as-member --config …`",
        ));
    }
    let home = args.whose.home.clone();
    let body = Body::Withdrawal { home, amount: Balance::new(amount), reference };
    only_once(&body, args.again, &args.signing.node, &genesis)?;
    args.signing.finish(&genesis, body, output).await
}

/// What is free on the account of the node's own home, in whole cents.
async fn all_free(args: &WithdrawArgs, genesis: &Genesis, unit: Nano) -> Result<i64, CommandError> {
    let node = args.signing.node.reach(genesis).await?;
    if args.whose.home.as_ref().is_none_or(|home| home.as_str() != node.member.home) {
        return Err(usage(format!(
            "this node tells the balance of home {} only; say the amount, which `commonwatt money balances` shows",
            node.member.home
        )));
    }
    let balance = node.client.balance().await.map_err(|error| status::refused(&error))?;
    // Toward the community: what is no whole cent stays.
    let cents = Nano::from(balance.free_n).div_euclid(unit);
    let amount = i64::try_from(cents * unit).unwrap_or(0);
    if amount > 0 { Ok(amount) } else { Err(CommandError::failed("not a whole cent is free on the account")) }
}

async fn attest(args: &AttestArgs, output: Output) -> Result<Exit, CommandError> {
    let amount = nano(&args.bank_balance)?;
    if args.signing.sign_also.is_empty() && args.signing.sign_only.is_none() {
        return Err(usage(
            "the auditor must sign too: --sign-also auditor.key, or --sign-only FILE and countersign there",
        ));
    }
    let genesis = args.signing.node.genesis()?;
    args.signing.finish(&genesis, Body::BankBalance { amount: Balance::new(amount) }, output).await
}

/// Refuses a payment that the ledger of the configured node holds already: most likely the same one twice.
fn only_once(body: &Body, again: bool, node: &NodeArgs, genesis: &Genesis) -> Result<(), CommandError> {
    let (amount, reference) = match body {
        Body::Deposit { amount, reference, .. } | Body::Withdrawal { amount, reference, .. } => {
            (amount, reference)
        }
        _ => return Ok(()),
    };
    if again {
        return Ok(());
    }
    let Some(path) = node.database()? else {
        out::note(
            "whether it is booked already is not checked: that takes --config of a node on this machine",
        );
        return Ok(());
    };
    let booked = BillingDb::open(&path, genesis).and_then(|db| db.booked(MOVEMENTS)).map_err(stored)?;
    let Some(twin) = booked.iter().find(|entry| entry.body == *body) else { return Ok(()) };
    Err(CommandError::failed(format!(
        "a {} of {} with the reference {reference:?} is booked on this account already, at {} in block {}; if this is \
         another payment, give it a reference of its own or say --again",
        body.kind(),
        figures::exact(amount.get().into()),
        twin.booked,
        twin.height
    )))
}

/// Above the genesis limit a treasurer does not act alone.
fn limit(amount: i64, genesis: &Genesis, signing: &SigningArgs) -> Result<(), CommandError> {
    let max = genesis.caps.transfer_max.get();
    if amount <= max || !signing.sign_also.is_empty() || signing.sign_only.is_some() {
        return Ok(());
    }
    Err(usage(format!(
        "{} is above the limit of {} that a treasurer moves alone: --sign-also auditor.key, or --sign-only FILE and \
         countersign there",
        figures::exact(amount.into()),
        figures::exact(max.into())
    )))
}

impl SigningArgs {
    /// Signs, and writes or hands in.
    async fn finish(&self, genesis: &Genesis, body: Body, output: Output) -> Result<Exit, CommandError> {
        let roles = Roles::of(genesis);
        let key = hand_in::role_key(&self.treasurer_key, &roles.treasurer)?;
        let node = self.node.reach(genesis).await?;
        let number = node.member.next_treasurer_number;
        let signed = hand_in::sign(body, number, &node.chain, &key)?;
        let signed = hand_in::with_roles(signed, &self.sign_also, &money_roles(genesis), &node.chain)?;
        let outcome = node.end(std::slice::from_ref(&signed), self.sign_only.as_deref()).await?;
        Ok(ended(&signed, self.sign_only.as_deref(), outcome, output))
    }
}

async fn countersign(args: &CountersignMoneyArgs, output: Output) -> Result<Exit, CommandError> {
    let CountersignMoneyArgs { countersign, again } = args;
    let signed = countersign.entry(&KINDS)?;
    if countersign.show {
        print(&signed, Outcome::Kept, output);
        return Ok(Exit::Ok);
    }
    let genesis = countersign.node.genesis()?;
    only_once(&signed.unchecked().body, *again, &countersign.node, &genesis)?;
    let (signed, outcome) = countersign.finish(signed, &money_roles(&genesis), &genesis).await?;
    Ok(ended(&signed, countersign.sign_only.as_deref(), outcome, output))
}

/// Who may sign beside the treasurer who begins.
fn money_roles(genesis: &Genesis) -> [Role; 3] {
    let Roles { operator, treasurer, auditor, .. } = Roles::of(genesis);
    [operator, treasurer, auditor]
}

fn ended(signed: &SignedEntry, sign_only: Option<&Path>, outcome: Outcome, output: Output) -> Exit {
    print(signed, outcome, output);
    hand_in::note_next(sign_only, "money countersign");
    Exit::Ok
}

fn print(signed: &SignedEntry, outcome: Outcome, output: Output) {
    let entry = signed.unchecked();
    let (amount, reference) = match &entry.body {
        Body::Deposit { amount, reference, .. } | Body::Withdrawal { amount, reference, .. } => {
            (amount.get(), Some(reference.as_str()))
        }
        Body::BankBalance { amount } => (amount.get(), None),
        _ => return,
    };
    let whose = match &entry.body {
        Body::BankBalance { .. } => "bank account",
        body => body.home().map_or("supplier", HomeId::as_str),
    };
    if output == Output::Json {
        out::json(&json!({
            "schema_version": 1,
            "kind": entry.body.kind(),
            "account": whose,
            "amount_n": amount,
            "reference": reference,
            "number": entry.number,
            "final": outcome.is_final(),
            "state": outcome.word(),
        }));
        return;
    }
    for (name, value) in [
        ("what", entry.body.kind().to_owned()),
        ("account", whose.to_owned()),
        ("amount", figures::exact(amount.into())),
        ("reference", reference.unwrap_or("-").to_owned()),
        ("number", entry.number.to_string()),
        ("state", outcome.word().to_owned()),
    ] {
        out::line(&format!("{name:<10} {value}"));
    }
}

/// An amount in the currency as n, exactly.
fn nano(text: &str) -> Result<i64, CommandError> {
    decimal(text, 9).map_err(|what| usage(format!("{what}; an amount is written 150.00")))
}

fn above_zero(text: &str) -> Result<i64, CommandError> {
    match nano(text)? {
        amount if amount > 0 => Ok(amount),
        _ => Err(usage(format!("{text} is not above zero; to take money back, book the opposite"))),
    }
}

fn reference(text: &str) -> Result<String, CommandError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(usage(
            "the reference is empty; it is what tells this payment from another on the bank's statement",
        ));
    }
    if text.len() > TEXT_MAX {
        return Err(usage(format!("the reference has {} bytes, {TEXT_MAX} fit", text.len())));
    }
    Ok(text.to_owned())
}

/// A number where it fits 64 bits.
fn number(amount: Nano) -> Value {
    i64::try_from(amount).map_or_else(|_| json!(amount.to_string()), |amount| json!(amount))
}
