//! `commonwatt bill`: bills of a home or an owner for a month, from a ledger database.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use energy::{HomeId, Interval};
use ledger::{Genesis, MoneyMode};
use market::{Sharing, SupplierLeg};

use super::{CommandError, out};
use crate::bill::calendar::{Calendar, MonthSpan};
use crate::bill::fees::Fees;
use crate::bill::make::{Case, sheets};
use crate::bill::parties::Parties;
use crate::bill::sheet::{Community, Sheet};
use crate::bill::terms::Terms;
use crate::bill::{csv, html, json, text};
use crate::cli::{Exit, Output};
use crate::config::Config;
use crate::genesis_file;
use crate::http::Language;
use crate::store::StoreError;
use crate::store::billing::{Admitted, BillingDb};
use crate::zone::{Month, Zone};

/// How a bill is printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A page of a terminal.
    #[default]
    Text,
    /// Every interval, for spreadsheets and for checking.
    Csv,
    /// A page to print.
    Html,
}

/// Which bills, from which ledger.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  commonwatt bill --month 2026-07 --config /var/lib/commonwatt/commonwatt.toml
  commonwatt bill --month 2026-07 --config commonwatt.toml --lines bill.toml --format html > july.html
  commonwatt bill --month 2026-07 --config commonwatt.toml --format csv > july.csv
  commonwatt bill --owner \"Lane Housing\" --month 2026-07 --db ledger.db --genesis genesis.toml --lang zh-CN
  commonwatt bill --home h001 --for \"Li Wei\" --parties parties.toml --month 2026-07 --db ledger.db --genesis genesis.toml

A node's --config makes the bills of its own home; whoever bills a community names a ledger with --db.
docs/bills.md explains the bill, the file of lines and the file of parties.")]
pub struct BillArgs {
    /// Id of the home; the one of --config if not said.
    #[arg(long, value_name = "ID", value_parser = HomeId::new, conflicts_with = "owner")]
    pub home: Option<HomeId>,
    /// All homes of this owner, a sheet each and a cover.
    #[arg(long, value_name = "NAME", required_unless_present_any = ["home", "config"], conflicts_with = "config")]
    pub owner: Option<String>,
    /// The month.
    #[arg(long, value_name = "YYYY-MM", value_parser = Month::parse)]
    pub month: Month,
    /// Only the bills for this person: a tenant sees their own days and nothing else.
    #[arg(long = "for", value_name = "NAME")]
    pub recipient: Option<String>,
    /// How to print it.
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    /// Language of text and HTML: en or zh-CN.
    #[arg(long, value_name = "TAG", default_value = "en", value_parser = language)]
    pub lang: Language,
    /// Configuration file of the home's node: names ledger, genesis and the home.
    #[arg(long, value_name = "FILE", required_unless_present = "db", conflicts_with = "db")]
    pub config: Option<PathBuf>,
    /// A node's ledger database.
    #[arg(long, value_name = "FILE", requires = "genesis")]
    pub db: Option<PathBuf>,
    /// Genesis of the community.
    #[arg(long, value_name = "FILE", requires = "db")]
    pub genesis: Option<PathBuf>,
    /// Levies, taxes and fixed charges, TOML.
    #[arg(long, value_name = "FILE")]
    pub lines: Option<PathBuf>,
    /// Contract holders, occupants and asset owners, TOML.
    #[arg(long, value_name = "FILE")]
    pub parties: Option<PathBuf>,
    /// Where clocks are: a name such as Europe/Berlin, or an offset such as +08:00. Otherwise what --lines says, then
    /// --config, then UTC.
    #[arg(long, value_name = "ZONE", value_parser = Zone::parse, allow_hyphen_values = true)]
    pub zone: Option<Zone>,
}

fn language(tag: &str) -> Result<Language, String> {
    Language::from_tag(tag).ok_or_else(|| format!("there is no bill in {tag:?}; choose en or zh-CN"))
}

/// Where the ledger is, and whose home it must be.
struct Source {
    db: PathBuf,
    genesis: Genesis,
    own_home: Option<HomeId>,
    zone: Option<Zone>,
}

/// Prints bills.
///
/// # Errors
/// [`CommandError`]: files that cannot be used, homes or people that do not exist, a month of which nothing is settled.
pub(super) fn bill(args: &BillArgs, output: Output) -> Result<Exit, CommandError> {
    let source = source(args)?;
    let outside = source.genesis.supplier_leg == SupplierLeg::Outside;
    let terms = args.lines.as_deref().map(|path| Terms::load(path, outside)).transpose()?.unwrap_or_default();
    let parties = args.parties.as_deref().map(Parties::load).transpose()?.unwrap_or_default();
    let community = Community {
        name: source.genesis.name.clone(),
        currency: source.genesis.currency.clone(),
        chain: source.genesis.chain().id.hex(),
        zone: args.zone.or(terms.zone).or(source.zone).unwrap_or(Zone::UTC),
        grid_is_outside: outside,
        local_price: local_price(&source.genesis),
        credit: match source.genesis.market.money {
            MoneyMode::Prepaid => None,
            MoneyMode::Statement { credit } => Some(credit.get().into()),
        },
    };
    let maker = Maker { args, source: &source, community: &community, terms: &terms, parties: &parties };
    let sheets = maker.sheets()?;
    for sheet in sheets.iter().filter(|sheet| !sheet.is_final) {
        out::note(&format!(
            "{} is not final: {} is not settled to its end, so the amounts can change",
            sheet.number, sheet.month
        ));
    }
    print(&sheets, &community, &terms, args, output)
}

fn print(
    sheets: &[Sheet],
    community: &Community,
    terms: &Terms,
    args: &BillArgs,
    output: Output,
) -> Result<Exit, CommandError> {
    match (output, args.format) {
        (Output::Json, _) => out::json(&json::render(sheets, community)),
        (Output::Text, Format::Text) => {
            out::text(&text::render(sheets, community, &terms.issuer, args.lang));
        }
        (Output::Text, Format::Html) => {
            out::text(&html::render(sheets, community, &terms.issuer, args.lang));
        }
        (Output::Text, Format::Csv) => {
            let table = csv::render(sheets, community);
            out::text(&table.map_err(|error| CommandError::failed(format!("cannot make the CSV: {error}")))?);
        }
    }
    Ok(Exit::Ok)
}

fn source(args: &BillArgs) -> Result<Source, CommandError> {
    if let Some(path) = &args.config {
        let config = Config::load(path)?;
        let db = config.data_dir.join("ledger.db");
        return Ok(Source {
            db,
            genesis: genesis_file::load(&config.genesis)?,
            own_home: Some(config.home),
            zone: Some(config.zone),
        });
    }
    let genesis = genesis_file::load(args.genesis.as_deref().unwrap_or(Path::new("genesis.toml")))?;
    Ok(Source { db: args.db.clone().unwrap_or_default(), genesis, own_home: None, zone: None })
}

/// Makes the sheets.
struct Maker<'a> {
    args: &'a BillArgs,
    source: &'a Source,
    community: &'a Community,
    terms: &'a Terms,
    parties: &'a Parties,
}

impl Maker<'_> {
    fn sheets(&self) -> Result<Vec<Sheet>, CommandError> {
        let path = &self.source.db;
        if !path.exists() {
            let message = format!("there is no ledger at {}; name a node's ledger.db", path.display());
            return Err(CommandError::failed(message));
        }
        let db = BillingDb::open(path, &self.source.genesis).map_err(stored)?;
        let homes = self.homes(&db)?;
        let calendar = self.calendar(&db)?;
        let mut all = Vec::new();
        for home in &homes {
            all.extend(self.sheets_of(&db, home, &calendar)?);
        }
        self.only_recipient(all)
    }

    /// The homes to bill.
    fn homes(&self, db: &BillingDb) -> Result<Vec<Admitted>, CommandError> {
        let all = db.homes(&self.source.genesis).map_err(stored)?;
        if let Some(unknown) =
            self.parties.homes().find(|home| !all.iter().any(|it| it.admission.home == **home))
        {
            return Err(CommandError::config(format!(
                "the file of parties names home {unknown}, which is no member of {}",
                self.community.name
            )));
        }
        if let Some(owner) = &self.args.owner {
            let homes: Vec<_> = all.into_iter().filter(|it| it.admission.owner == *owner).collect();
            let none =
                || CommandError::failed(format!("no home belongs to an owner named {owner:?} on the ledger"));
            return if homes.is_empty() { Err(none()) } else { Ok(homes) };
        }
        let home = self.home()?;
        let found = all.into_iter().find(|it| it.admission.home == *home);
        let none = || CommandError::failed(format!("home {home} is no member of {}", self.community.name));
        Ok(vec![found.ok_or_else(none)?])
    }

    fn home(&self) -> Result<&HomeId, CommandError> {
        match (&self.args.home, &self.source.own_home) {
            (Some(home), Some(own)) if home != own => Err(CommandError::config(format!(
                "this node serves home {own}, not {home}; whoever bills the community names a ledger with --db and --genesis"
            ))),
            (Some(home), _) | (None, Some(home)) => Ok(home),
            (None, None) => Err(CommandError::Other {
                exit: Exit::Usage,
                message: "--home ID or --owner NAME says whose bill it is".to_owned(),
            }),
        }
    }

    /// The months from the chain's first to the one asked for.
    fn calendar(&self, db: &BillingDb) -> Result<Calendar, CommandError> {
        let (genesis, month) = (&self.source.genesis, self.args.month);
        let settled_by = |interval: Interval| db.settled_by(interval);
        let calendar = Calendar::new(genesis.start, month, &self.community.zone, genesis.mtu, settled_by);
        let calendar = calendar.map_err(stored)?;
        let last = db.last_settled().map_err(stored)?;
        match (calendar.months.last(), last) {
            (None, _) => Err(CommandError::failed(format!(
                "{month} lies before the community's first day, {}",
                self.community.zone.date(genesis.start)
            ))),
            (Some(month), Some(last)) if last.end() > month.from => Ok(calendar),
            _ => Err(CommandError::Other {
                exit: Exit::NotReady,
                message: format!(
                    "nothing of {month} is settled on this ledger yet; ask again later, or another node"
                ),
            }),
        }
    }

    fn sheets_of(
        &self,
        db: &BillingDb,
        home: &Admitted,
        calendar: &Calendar,
    ) -> Result<Vec<Sheet>, CommandError> {
        let (genesis, admission) = (&self.source.genesis, &home.admission);
        let book = db.book(&admission.home).map_err(stored)?;
        let case = Case {
            community: self.community,
            mtu: genesis.mtu,
            home: &admission.home,
            node: admission.node.as_str(),
            fees: &Fees::new(genesis, &admission.node, &db.fees().map_err(stored)?),
            owner: &admission.owner,
            since: home.since,
            book: &book,
            calendar,
            household: self.parties.of(&admission.home),
            lines: &self.terms.lines,
            settled_until: db.last_settled().map_err(stored)?.map(Interval::end),
        };
        let made = sheets(&case).map_err(|error| CommandError::Other {
            exit: Exit::Unverified,
            message: format!("home {}: {error}", admission.home),
        });
        let mut made = made?;
        for sheet in &mut made {
            if !sheet.is_final {
                let bounds = MonthSpan::of(sheet.month, &self.community.zone);
                let count = db.provisional(&admission.home, bounds.from, bounds.until);
                sheet.provisional = count.map_err(stored)?;
            }
            self.read_registers(db, sheet)?;
        }
        Ok(made)
    }

    /// Registers are read at the end of an interval: that of a day's first instant at the end of the one before.
    fn read_registers(&self, db: &BillingDb, sheet: &mut Sheet) -> Result<(), CommandError> {
        let mtu = self.source.genesis.mtu;
        for span in &mut sheet.spans {
            let next = span.last_day.succ_opt().unwrap_or(span.last_day);
            for (day, at) in [(span.first_day, &mut span.opening), (next, &mut span.closing)] {
                let midnight = self.community.zone.midnight(day);
                let before = Interval::starting_at(midnight, mtu).ok().and_then(Interval::previous);
                if let Some(before) = before {
                    at.read = db.registers(&sheet.home, before).map_err(stored)?;
                }
            }
        }
        Ok(())
    }

    fn only_recipient(&self, mut sheets: Vec<Sheet>) -> Result<Vec<Sheet>, CommandError> {
        let Some(name) = &self.args.recipient else { return Ok(sheets) };
        sheets.retain(|sheet| sheet.recipient.name == *name);
        if sheets.is_empty() {
            let month = self.args.month;
            return Err(CommandError::failed(format!(
                "there is no bill of {month} for anybody named {name:?}"
            )));
        }
        Ok(sheets)
    }
}

/// What shared energy costs where the law's keys divide it and not the market; `None`: the middle of the supplier's prices.
fn local_price(genesis: &Genesis) -> Option<i64> {
    match genesis.market.sharing {
        Sharing::StaticKey { price, .. } | Sharing::DynamicKey { price } => {
            Some(price.map_or(0, |price| price.get()))
        }
        Sharing::Neighbour | Sharing::Incentive { .. } => None,
    }
}

/// What a ledger database that cannot be read means for the exit code.
pub(super) fn stored(error: StoreError) -> CommandError {
    let exit = match &error {
        StoreError::OtherChain { .. }
        | StoreError::OtherSchema { .. }
        | StoreError::OtherRules { .. }
        | StoreError::Foreign { .. } => Exit::Config,
        StoreError::Damaged { .. } => Exit::Unverified,
        _ => Exit::Failed,
    };
    CommandError::Other { exit, message: format!("{:#}", anyhow::Error::from(error)) }
}
