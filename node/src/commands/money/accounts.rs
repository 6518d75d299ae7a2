//! `commonwatt money claims` and `balances`: what stands on a ledger, read from its database.

use std::path::PathBuf;

use clap::Args;
use energy::{HomeId, Timestamp};
use ledger::{Genesis, Ledger, money_on_accounts};
use market::Account;
use serde_json::{Value, json};

use super::number;
use crate::bill::figures;
use crate::bill::items::Nano;
use crate::bill::prepaid::{Consumption, LOW_DAYS, Lasting, lasting, look_back, present_price};
use crate::cli::{Exit, Output};
use crate::commands::bill::stored;
use crate::commands::{CommandError, out};
use crate::config::Config;
use crate::genesis_file;
use crate::store::billing::BillingDb;
use crate::store::ledger_db::LedgerDb;
use crate::zone::Zone;

/// Which ledger.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  commonwatt money claims --db ledger.db --genesis genesis.toml
  commonwatt money balances --db /var/lib/commonwatt/ledger.db --genesis /var/lib/commonwatt/genesis.toml
  commonwatt money balances --config commonwatt.toml --output json

A node's --config shows its own home; treasurer, auditor and supplier name a ledger with --db for the whole community.")]
pub struct LedgerArgs {
    /// Configuration file of a home's node: names ledger, genesis and the home.
    #[arg(long, value_name = "FILE", required_unless_present = "db", conflicts_with = "db")]
    pub config: Option<PathBuf>,
    /// A node's ledger database.
    #[arg(long, value_name = "FILE", requires = "genesis")]
    pub db: Option<PathBuf>,
    /// Genesis of the community.
    #[arg(long, value_name = "FILE", requires = "db")]
    pub genesis: Option<PathBuf>,
}

/// The ledger that the arguments name.
pub(in crate::commands) struct Source {
    pub genesis: Genesis,
    pub ledger: Ledger,
    pub db: BillingDb,
    /// Where clocks are by the node's configuration, if that was named.
    pub zone: Option<Zone>,
    /// The home of the node's configuration, if that was named: of the others nothing is shown.
    pub own_home: Option<HomeId>,
}

impl Source {
    /// True if the home's money and energy may be shown.
    pub(in crate::commands) fn shows(&self, home: &HomeId) -> bool {
        self.own_home.as_ref().is_none_or(|own| own == home)
    }

    /// Says that there is more, where there is.
    pub(in crate::commands) fn note_whole(&self) {
        if let Some(own) = &self.own_home {
            out::note(&format!(
                "only home {own}, which this node serves; --db with --genesis shows the whole community"
            ));
        }
    }
}

impl LedgerArgs {
    pub(in crate::commands) fn open(&self) -> Result<Source, CommandError> {
        let (path, genesis, node) = match (&self.config, &self.db, &self.genesis) {
            (Some(config), ..) => {
                let config = Config::load(config)?;
                (config.data_dir.join("ledger.db"), config.genesis, Some((config.zone, config.home)))
            }
            (None, db, genesis) => {
                (db.clone().unwrap_or_default(), genesis.clone().unwrap_or_default(), None)
            }
        };
        if !path.exists() {
            let message = format!("there is no ledger at {}; name a node's ledger.db", path.display());
            return Err(CommandError::failed(message));
        }
        let genesis = genesis_file::load(&genesis)?;
        let ledger = LedgerDb::current(&path, &genesis).map_err(stored)?;
        let db = BillingDb::open(&path, &genesis).map_err(stored)?;
        let (zone, own_home) = node.unzip();
        Ok(Source { genesis, ledger, db, zone, own_home })
    }
}

/// Somebody owes somebody.
struct Claim {
    debtor: String,
    creditor: String,
    amount: i64,
}

/// Lists the claims.
pub(super) fn claims(args: &LedgerArgs, output: Output) -> Result<Exit, CommandError> {
    let source = args.open()?;
    let Source { ledger, genesis, own_home, .. } = &source;
    let mut claims = Vec::new();
    let mut claim = |debtor: &Account<HomeId>, creditor: &Account<HomeId>| {
        let amount = ledger.claim(debtor, creditor).get();
        if amount > 0 {
            claims.push(Claim { debtor: name(debtor), creditor: name(creditor), amount });
        }
    };
    for (home, _) in ledger.members().into_iter().filter(|(home, _)| source.shows(home)) {
        let account = Account::Home(home.clone());
        claim(&account, &Account::Supplier);
        claim(&Account::Supplier, &account);
    }
    if own_home.is_none() {
        claim(&Account::Supplier, &Account::Network);
    }
    let total: Nano = claims.iter().map(|it| Nano::from(it.amount)).sum();
    match output {
        Output::Json => out::json(&json!({
            "schema_version": 1,
            "currency": genesis.currency,
            "height": ledger.height(),
            "home": own_home.as_ref().map(HomeId::as_str),
            "claims": claims.iter().map(|it| json!({
                "debtor": it.debtor, "creditor": it.creditor, "amount_n": it.amount,
            })).collect::<Vec<_>>(),
            "total_n": number(total),
        })),
        Output::Text if claims.is_empty() && own_home.is_some() => {
            out::line("the home owes nobody, and nobody owes it");
        }
        Output::Text if claims.is_empty() => out::line("nobody owes anybody"),
        Output::Text => {
            out::line(&format!("{:<20} {:<20} {:>20}", "who owes", "to", genesis.currency));
            for it in &claims {
                let amount = figures::exact(it.amount.into());
                out::line(&format!("{:<20} {:<20} {:>20}", it.debtor, it.creditor, amount));
            }
            out::line(&format!("{:<41} {:>20}", "together", figures::exact(total)));
        }
    }
    source.note_whole();
    Ok(Exit::Ok)
}

fn name(account: &Account<HomeId>) -> String {
    match account {
        Account::Home(home) => home.to_string(),
        Account::Supplier => "supplier".to_owned(),
        Account::Network => "network".to_owned(),
        Account::Congestion => "congestion".to_owned(),
        Account::Deposits => "deposits".to_owned(),
    }
}

/// One member's account.
struct Standing {
    home: HomeId,
    balance: i64,
    reserved: i64,
    owed: i64,
    lasting: Lasting,
}

/// Lists the accounts.
pub(super) fn balances(args: &LedgerArgs, output: Output) -> Result<Exit, CommandError> {
    let source = args.open()?;
    let since = look_back(source.ledger.next_to_settle().start());
    let homes = source.ledger.members().into_iter().filter(|(home, _)| source.shows(home));
    let standings: Vec<Standing> =
        homes.map(|(home, _)| standing(&source, home, since)).collect::<Result<_, _>>()?;
    let bank = if source.own_home.is_some() { None } else { Some(Bank::of(&source)?) };
    match output {
        Output::Json => out::json(&as_json(&source, &standings, bank.as_ref())),
        Output::Text => {
            print(&source.genesis, &standings);
            bank.iter().for_each(Bank::print);
        }
    }
    source.note_whole();
    for low in standings.iter().filter(|it| it.lasting.is_low) {
        out::note(&format!(
            "the balance of {} falls under {LOW_DAYS} days of its average consumption",
            low.home
        ));
    }
    Ok(Exit::Ok)
}

fn standing(source: &Source, home: &HomeId, since: Timestamp) -> Result<Standing, CommandError> {
    let Source { ledger, db, genesis, .. } = source;
    let account = Account::Home(home.clone());
    let (balance, reserved) = (ledger.balance(&account).get(), ledger.reserved(home).get());
    let (import_wh, intervals) = db.consumption(home, since).map_err(stored)?;
    let consumption = Consumption { import_wh, intervals, price: present_price(ledger, home).unwrap_or(0) };
    Ok(Standing {
        home: home.clone(),
        balance,
        reserved,
        owed: ledger.claim(&account, &Account::Supplier).get(),
        lasting: lasting(balance.saturating_sub(reserved), consumption, genesis.mtu),
    })
}

/// What the homes have in common.
struct Bank {
    /// Name and balance of every account that is no home's, n.
    common: Vec<(String, i64)>,
    /// What must stand at the bank, n.
    needed: Nano,
    /// When what was attested, n.
    attested: Option<(Timestamp, i64)>,
}

impl Bank {
    fn of(source: &Source) -> Result<Self, CommandError> {
        let common = [Account::Supplier, Account::Network, Account::Congestion];
        Ok(Self {
            common: common.map(|account| (name(&account), source.ledger.balance(&account).get())).to_vec(),
            needed: money_on_accounts(&source.ledger).get(),
            attested: source.db.attested().map_err(stored)?,
        })
    }

    fn add_to(&self, shown: &mut Value) {
        let common: serde_json::Map<String, Value> =
            self.common.iter().map(|(name, amount)| (format!("{name}_n"), json!(amount))).collect();
        shown["accounts"] = common.into();
        shown["bank_must_hold_n"] = number(self.needed);
        shown["bank"] = json!(
            self.attested.map(|(time, amount)| json!({ "amount_n": amount, "attested": time.to_string() }))
        );
    }

    fn print(&self) {
        let exact = |amount: i64| figures::exact(amount.into());
        for (name, amount) in &self.common {
            out::line(&format!("{name:<14} {:>18}", exact(*amount)));
        }
        out::line(&format!("{:<14} {:>18}", "the bank needs", figures::exact(self.needed)));
        match self.attested {
            Some((time, amount)) => {
                let verdict = if Nano::from(amount) < self.needed {
                    "less than the accounts: pay-outs are stopped"
                } else {
                    "enough"
                };
                out::line(&format!(
                    "{:<14} {:>18}  attested {time}, {verdict}",
                    "the bank holds",
                    exact(amount)
                ));
            }
            None => out::line("the bank holds  not attested yet: commonwatt money attest"),
        }
    }
}

fn as_json(source: &Source, standings: &[Standing], bank: Option<&Bank>) -> Value {
    let member = |it: &Standing| {
        json!({
            "home": it.home.as_str(),
            "balance_n": it.balance,
            "reserved_n": it.reserved,
            "free_n": it.balance.saturating_sub(it.reserved),
            "owed_n": it.owed,
            "daily_cost_n": it.lasting.daily_cost,
            "days_left": it.lasting.days,
            "low": it.lasting.is_low,
        })
    };
    let mut shown = json!({
        "schema_version": 1,
        "currency": source.genesis.currency,
        "height": source.ledger.height(),
        "home": source.own_home.as_ref().map(HomeId::as_str),
        "members": standings.iter().map(member).collect::<Vec<_>>(),
    });
    if let Some(bank) = bank {
        bank.add_to(&mut shown);
    }
    shown
}

fn print(genesis: &Genesis, standings: &[Standing]) {
    let exact = |amount: i64| figures::exact(amount.into());
    out::line(&format!(
        "{:<14} {:>18} {:>14} {:>14} {:>16} {:>10}",
        format!("home, {}", genesis.currency),
        "balance",
        "reserved",
        "owed",
        "cost of a day",
        "lasts"
    ));
    for it in standings {
        let lasts = match (it.lasting.days, it.lasting.is_low) {
            (None, _) => "-".to_owned(),
            (Some(days), false) => format!("{days} d"),
            (Some(days), true) => format!("{days} d LOW"),
        };
        let cost = it.lasting.daily_cost.map_or("-".to_owned(), |cost| figures::amount(cost.into(), 2));
        let (balance, reserved, owed) = (exact(it.balance), exact(it.reserved), exact(it.owed));
        let home = it.home.as_str();
        out::line(&format!("{home:<14} {balance:>18} {reserved:>14} {owed:>14} {cost:>16} {lasts:>10}"));
    }
}
