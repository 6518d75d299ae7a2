//! `commonwatt community readings`: what the metering operator delivers, brought onto the ledger.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use energy::{HomeId, Interval, Mtu, Timestamp, WattHours};
use ledger::{
    Body, Genesis, INTERVAL_ENERGY_MAX, Ledger, PublicKey, ReadingSource, SignedEntry, Stream,
    TARIFF_POINTS_MAX,
};
use market::Metered;
use serde_json::{Value, json};

use super::limits_file::faulty;
use super::readings_file::{self, BYTES_MAX, Delivered, Reading, gaps};
use crate::cli::{Exit, Output};
use crate::commands::bill::stored;
use crate::commands::hand_in::{self, Author, NodeArgs, Roles, usage};
use crate::commands::{CommandError, files, out};
use crate::store::billing::BillingDb;
use crate::zone::Zone;

/// Both directions of each home, by index of the interval.
type Readings = BTreeMap<HomeId, BTreeMap<u64, Metered>>;

/// So many differences and gaps are listed one by one.
const LISTED_MAX: usize = 20;

/// What to do with readings.
#[derive(Debug, Subcommand)]
pub enum ReadingsCommand {
    /// Signs the energies of a file as the metering operator and hands in what is not booked yet.
    Import(ImportArgs),
}

/// What to import.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  commonwatt community readings import july.csv --zone Europe/Vienna --metering-operator-key metering.key \\
    --config commonwatt.toml
  commonwatt community readings import july.csv --points points.csv --dry-run --metering-operator-key metering.key \\
    --config commonwatt.toml

Columns: home (or meter, its serial number, or point with --points), start or from, if you like end or to, and import_wh
and export_wh, or import_kwh and export_kwh. Separated by commas, or by semicolons with a comma in the numbers. What is
booked already is skipped, so a file can be imported again, or a longer one. Of a direction that the file never mentions for a
home, what is booked stays. Exit code 3 where the file differs from what is settled: that takes a correction.
docs/community.md explains the table.")]
pub struct ImportArgs {
    /// The table.
    #[arg(value_name = "FILE.csv")]
    pub file: PathBuf,
    /// Key file of the metering operator.
    #[arg(long, value_name = "FILE")]
    pub metering_operator_key: PathBuf,
    /// A table with the columns point and home, for a file whose rows name metering points.
    #[arg(long, value_name = "FILE.csv")]
    pub points: Option<PathBuf>,
    /// Where clocks are: a name such as Europe/Vienna, or an offset such as +08:00. Without it, times need their offset.
    #[arg(long, value_name = "ZONE", value_parser = Zone::parse, allow_hyphen_values = true)]
    pub zone: Option<Zone>,
    /// Books zero for a direction that the file never mentions for a home, and of which nothing is booked.
    #[arg(long)]
    pub missing_is_zero: bool,
    /// Only says what would be handed in.
    #[arg(long)]
    pub dry_run: bool,
    /// The node; its ledger must be on this machine.
    #[command(flatten)]
    pub node: NodeArgs,
}

/// Imports a table.
pub(super) async fn import(args: &ImportArgs, output: Output) -> Result<Exit, CommandError> {
    let genesis = args.node.genesis()?;
    let metering = Roles::of(&genesis).metering_operator;
    let by_operator = genesis.market.reading_source == ReadingSource::MeteringOperator;
    let Some(metering) = metering.filter(|_| by_operator) else {
        return Err(CommandError::config(
            "in this community the homes' own nodes read the meters (market.reading_source = \"node\"): nothing is imported",
        ));
    };
    let key = hand_in::role_key(&args.metering_operator_key, &metering)?;
    let database = args.node.database()?.ok_or_else(|| {
        usage("--config FILE of a node on this machine is needed: its ledger says what is booked already")
    })?;
    let node = args.node.reach(&genesis).await?;
    let ledger = node.ledger.as_ref().ok_or_else(|| CommandError::failed("the node's ledger is gone"))?;
    let delivered = args.delivered(&genesis, ledger)?;
    let booked = booked(&BillingDb::open(&database, &genesis).map_err(stored)?)?;
    let delivered = whole(&delivered, &booked, args.missing_is_zero, genesis.mtu)
        .map_err(|faults| CommandError::config(format!("nothing was signed: {}", faults.join("; "))))?;
    can_be_taken(&delivered, ledger, node.market_time().await?)?;
    let plan = Plan::of(&delivered, &booked, ledger.next_to_settle().index());
    let mut signed: Vec<SignedEntry> = Vec::new();
    let author = Author { signer: PublicKey::of(&key), stream: Stream::Readings, home: None };
    let bodies = bodies(&plan.send, genesis.mtu);
    for (body, number) in bodies.into_iter().zip(node.next_number(author)?..) {
        signed.push(hand_in::sign(body, number, &node.chain, &key)?);
    }
    if !args.dry_run && !signed.is_empty() {
        node.end(&signed, None).await?;
    }
    let report = Report { delivered: &delivered, plan: &plan, entries: signed.len(), is_dry: args.dry_run };
    report.print(genesis.mtu, output);
    Ok(if plan.differing.is_empty() { Exit::Ok } else { Exit::Exceptions })
}

impl ImportArgs {
    fn delivered(&self, genesis: &Genesis, ledger: &Ledger) -> Result<Delivered, CommandError> {
        let mut words: BTreeMap<String, HomeId> = BTreeMap::new();
        for (home, member) in ledger.members() {
            words.insert(member.admission.meter.serial.to_string(), home.clone());
        }
        // A home's name before a meter's that happens to be the same.
        words.extend(ledger.members().into_iter().map(|(home, _)| (home.to_string(), home.clone())));
        if let Some(path) = &self.points {
            let text = files::read_text(path, BYTES_MAX)?;
            words = points(&text, &words).map_err(|faults| faulty(path, &faults))?;
        }
        let text = files::read_text(&self.file, BYTES_MAX)?;
        let homes = |word: &str| words.get(word).cloned();
        readings_file::read(&text, &Reading { homes: &homes, zone: self.zone.as_ref(), mtu: genesis.mtu })
            .map_err(|faults| faulty(&self.file, &faults))
    }
}

/// Which home each metering point is of.
fn points(text: &str, homes: &BTreeMap<String, HomeId>) -> Result<BTreeMap<String, HomeId>, Vec<String>> {
    let delimiter = if text.lines().next().unwrap_or_default().contains(';') { b';' } else { b',' };
    let mut reader =
        csv::ReaderBuilder::new().trim(csv::Trim::All).delimiter(delimiter).from_reader(text.as_bytes());
    let header = reader.headers().map_err(|error| vec![format!("1: {error}")])?.clone();
    let column = |name: &str| header.iter().position(|column| column == name);
    let (Some(point), Some(home)) = (column("point"), column("home")) else {
        return Err(vec!["1: the columns point and home are needed".to_owned()]);
    };
    let (mut points, mut faults) = (BTreeMap::new(), Vec::new());
    for record in reader.records() {
        let Ok(record) = record else {
            faults.push(format!("{}: another number of fields than the first line", points.len() + 2));
            continue;
        };
        let line = record.position().map_or(0, csv::Position::line);
        let (point, name) = (record.get(point).unwrap_or_default(), record.get(home).unwrap_or_default());
        match homes.get(name) {
            None => faults.push(format!("{line}: {name:?} is no home of this community")),
            Some(home) => {
                if points.insert(point.to_owned(), home.clone()).is_some() {
                    faults.push(format!("{line}: point {point:?} stands twice"));
                }
            }
        }
    }
    if faults.is_empty() { Ok(points) } else { Err(faults) }
}

/// What the ledger would refuse, in words.
fn can_be_taken(delivered: &Readings, ledger: &Ledger, now: Timestamp) -> Result<(), CommandError> {
    for (home, series) in delivered {
        let refuse = |interval: Interval, what: String| {
            Err(CommandError::config(format!("home {home} at {interval}: {what}; nothing was signed")))
        };
        let Some(member) = ledger.member(home) else { continue };
        for (index, metered) in series {
            let interval = Interval::from_index(*index, ledger.genesis_terms().mtu);
            if interval.end() > now {
                return refuse(interval, format!("the interval ends after market time, {now}"));
            }
            if !member.is_member_in(interval) {
                return refuse(interval, "the home is no member then".to_owned());
            }
            if metered.import.max(metered.export) > INTERVAL_ENERGY_MAX {
                return refuse(interval, "a connection carries at most 1 MWh an interval".to_owned());
            }
        }
    }
    Ok(())
}

/// What the metering operator has said so far: the newest word counts.
fn booked(db: &BillingDb) -> Result<Readings, CommandError> {
    let mut booked = Readings::new();
    for (home, from, points) in db.operator_readings().map_err(stored)? {
        let series = booked.entry(home).or_default();
        series.extend((from.index()..).zip(points));
    }
    Ok(booked)
}

/// Both directions of every interval: of one that the file never mentions for a home, what is booked.
///
/// # Errors
/// The homes of which nothing is booked either: a metering point that is not in the file has not measured zero.
fn whole(
    delivered: &Delivered,
    booked: &Readings,
    missing_is_zero: bool,
    mtu: Mtu,
) -> Result<Readings, Vec<String>> {
    let (mut readings, mut faults) = (Readings::new(), Vec::new());
    for (home, series) in delivered {
        let mut open: [Vec<u64>; 2] = Default::default();
        let of_home = readings.entry(home.clone()).or_default();
        for (index, [import, export]) in series {
            let before = booked.get(home).and_then(|booked| booked.get(index));
            let import = import.or(before.map(|it| it.import));
            let export = export.or(before.map(|it| it.export));
            for (open, direction) in open.iter_mut().zip([import, export]) {
                open.extend(direction.is_none().then_some(*index));
            }
            let [import, export] = [import, export].map(|wh| wh.unwrap_or(WattHours::ZERO));
            of_home.insert(*index, Metered { import, export });
        }
        for (open, name) in open.iter().zip(["import", "export"]) {
            if let Some(first) = open.first().filter(|_| !missing_is_zero) {
                faults.push(format!(
                    "of the {name} of home {home} the file says nothing, and for {} intervals from {} on none is booked: \
                     deliver both directions, or say --missing-is-zero if none flowed",
                    open.len(),
                    Interval::from_index(*first, mtu)
                ));
            }
        }
    }
    if faults.is_empty() { Ok(readings) } else { Err(faults) }
}

/// What becomes of what was delivered.
#[derive(Debug, Default)]
struct Plan {
    /// To be handed in.
    send: Readings,
    /// Of them, in place of another value that waits.
    replaced: usize,
    /// Booked already, the same.
    booked: usize,
    /// Settled with another value: home, index, settled, delivered.
    differing: Vec<(HomeId, u64, Metered, Metered)>,
}

impl Plan {
    fn of(delivered: &Readings, booked: &Readings, next_to_settle: u64) -> Self {
        let mut plan = Self::default();
        for (home, series) in delivered {
            for (index, metered) in series {
                let before = booked.get(home).and_then(|booked| booked.get(index));
                match before {
                    Some(before) if before == metered => plan.booked += 1,
                    Some(before) if *index < next_to_settle => {
                        plan.differing.push((home.clone(), *index, *before, *metered));
                    }
                    _ => {
                        plan.replaced += usize::from(before.is_some());
                        plan.send.entry(home.clone()).or_default().insert(*index, *metered);
                    }
                }
            }
        }
        plan
    }
}

/// Consecutive intervals of a home together, as many as an entry holds.
fn bodies(send: &Readings, mtu: Mtu) -> Vec<Body> {
    let mut bodies = Vec::new();
    for (home, series) in send {
        let points: Vec<(u64, Metered)> = series.iter().map(|(index, metered)| (*index, *metered)).collect();
        for run in points.chunk_by(|(left, _), (right, _)| left.saturating_add(1) == *right) {
            for chunk in run.chunks(TARIFF_POINTS_MAX) {
                let Some((first, _)) = chunk.first() else { continue };
                bodies.push(Body::OperatorReading {
                    home: home.clone(),
                    from: Interval::from_index(*first, mtu),
                    points: chunk.iter().map(|(_, metered)| *metered).collect(),
                });
            }
        }
    }
    bodies
}

struct Report<'a> {
    delivered: &'a Readings,
    plan: &'a Plan,
    entries: usize,
    is_dry: bool,
}

impl Report<'_> {
    fn print(&self, mtu: Mtu, output: Output) {
        let count = |delivered: &Readings| delivered.values().map(BTreeMap::len).sum::<usize>();
        let gaps: Vec<(&HomeId, Interval, Interval)> = self
            .delivered
            .iter()
            .flat_map(|(home, series)| {
                gaps(series, mtu).into_iter().map(move |(from, until)| (home, from, until))
            })
            .collect();
        let (sent, plan) = (count(&self.plan.send), self.plan);
        if output == Output::Json {
            out::json(&json!({
                "schema_version": 1,
                "homes": self.delivered.len(),
                "intervals": count(self.delivered),
                "handed_in": if self.is_dry { 0 } else { sent },
                "would_be_handed_in": sent,
                "replaced": plan.replaced,
                "booked_already": plan.booked,
                "entries": self.entries,
                "differing": plan.differing.iter().map(|it| differing(it, mtu)).collect::<Vec<_>>(),
                "gaps": gaps.iter().map(|(home, from, until)| json!({
                    "home": home.as_str(), "from": from.to_string(), "until": until.to_string(),
                })).collect::<Vec<_>>(),
            }));
            return;
        }
        let done = if self.is_dry { "would be handed in" } else { "handed in and final" };
        out::line(&format!("{} homes, {} intervals", self.delivered.len(), count(self.delivered)));
        out::line(&format!(
            "{sent} {done}, in {} entries; {} of them replace what waits",
            self.entries, plan.replaced
        ));
        out::line(&format!("{} booked already", plan.booked));
        for (home, from, until) in gaps.iter().take(LISTED_MAX) {
            out::note(&format!("home {home}: nothing from {from} to {until}"));
        }
        for (home, index, before, now) in plan.differing.iter().take(LISTED_MAX) {
            let interval = Interval::from_index(*index, mtu);
            out::note(&format!(
                "home {home} at {interval}: settled with {} and {} Wh, the file says {} and {}; that takes a correction",
                before.import.get(),
                before.export.get(),
                now.import.get(),
                now.export.get()
            ));
        }
        for (rows, what) in [(gaps.len(), "gaps"), (plan.differing.len(), "differences")] {
            if rows > LISTED_MAX {
                out::note(&format!("and {} more {what}; --output json lists all", rows - LISTED_MAX));
            }
        }
    }
}

fn differing((home, index, before, now): &(HomeId, u64, Metered, Metered), mtu: Mtu) -> Value {
    json!({
        "home": home.as_str(),
        "start": Interval::from_index(*index, mtu).to_string(),
        "settled": { "import_wh": before.import.get(), "export_wh": before.export.get() },
        "delivered": { "import_wh": now.import.get(), "export_wh": now.export.get() },
    })
}

#[cfg(test)]
mod tests {
    use energy::WattHours;

    use super::*;

    fn home() -> HomeId {
        HomeId::new("h1").unwrap()
    }

    fn series(points: &[(u64, u64)]) -> Readings {
        let metered = |import: u64| Metered { import: WattHours::new(import), export: WattHours::ZERO };
        BTreeMap::from([(home(), points.iter().map(|(index, wh)| (*index, metered(*wh))).collect())])
    }

    #[test]
    fn what_is_booked_is_skipped_what_waits_is_replaced_and_what_is_settled_is_never_changed() {
        let booked = series(&[(1, 10), (2, 20), (3, 30), (4, 40)]);
        let plan = Plan::of(&series(&[(1, 10), (2, 21), (3, 30), (4, 41), (5, 50)]), &booked, 3);
        assert_eq!(plan.send, series(&[(4, 41), (5, 50)]));
        assert_eq!((plan.booked, plan.replaced, plan.differing.len()), (2, 1, 1));
        assert_eq!(plan.differing[0].1, 2);
        // Settled without a reading: late, but welcome.
        assert_eq!(Plan::of(&series(&[(1, 10)]), &Readings::new(), 3).send, series(&[(1, 10)]));
    }

    #[test]
    fn a_direction_that_a_file_never_mentions_stays_as_it_is_booked_and_is_never_guessed() {
        let wh = WattHours::new;
        let metered = |import, export| Metered { import: wh(import), export: wh(export) };
        let booked = BTreeMap::from([(home(), BTreeMap::from([(1, metered(10, 7)), (2, metered(20, 8))]))]);
        let exports = |indexes: [u64; 2]| {
            BTreeMap::from([(home(), indexes.map(|index| (index, [None, Some(wh(9))])).into())])
        };
        let kept = whole(&exports([1, 2]), &booked, false, Mtu::Min15).unwrap();
        assert_eq!(kept[&home()], BTreeMap::from([(1, metered(10, 9)), (2, metered(20, 9))]));
        let refused = whole(&exports([2, 3]), &booked, false, Mtu::Min15).unwrap_err();
        assert_eq!(refused.len(), 1);
        assert!(refused[0].contains("of the import of home h1") && refused[0].contains("for 1 intervals"));
        let zero = whole(&exports([2, 3]), &booked, true, Mtu::Min15).unwrap();
        assert_eq!(zero[&home()], BTreeMap::from([(2, metered(20, 9)), (3, metered(0, 9))]));
    }

    #[test]
    fn an_entry_holds_192_consecutive_intervals() {
        let points: Vec<(u64, u64)> = (0..200).chain(300..301).map(|index| (index, 1)).collect();
        let bodies = bodies(&series(&points), Mtu::Min15);
        let lengths: Vec<(u64, usize)> = bodies
            .iter()
            .map(|body| match body {
                Body::OperatorReading { from, points, .. } => (from.index(), points.len()),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(lengths, [(0, 192), (192, 8), (300, 1)]);
    }

    #[test]
    fn a_table_of_points_names_its_faults() {
        let homes = BTreeMap::from([("h1".to_owned(), home())]);
        let table = points("point;home\nAT001;h1\nAT002;h1\n", &homes).unwrap();
        assert_eq!(table.keys().collect::<Vec<_>>(), ["AT001", "AT002"]);
        let faults = points("point,home\nAT001,h1\nAT001,h1\nAT003,h9\n", &homes).unwrap_err();
        assert_eq!(faults, ["3: point \"AT001\" stands twice", "4: \"h9\" is no home of this community"]);
        assert!(points("home\n", &homes).unwrap_err()[0].contains("point and home"));
    }
}
