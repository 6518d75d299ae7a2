//! The rows of `ledger.db` that follow from one executed block: written in its transaction, compared by `verify`.

mod market;

use ::market::{Account, PostingKind};
use energy::{HomeId, Interval, Money, WattHours};
use ledger::codec::Encode;
use ledger::{
    AssuranceStatement, Body, Executed, Followed, Genesis, Header, HomeOutcome, IntervalOutcome, Leaf,
    LeafSource, Ledger, MeterAssurance, Outcome, OutcomeKind, PostingRecord, ReadingRecord, VerifiedEntry,
};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, params_from_iter};

use super::database::{int, unsigned};
use super::error::Damage;
use market::{
    BREACH, GATE, GATE_PRICE, MARKET_ORDER, ORDER_END, breaches, gate_prices, gates, market_orders,
    order_ends,
};

/// A table whose rows follow from the blocks.
#[derive(Debug)]
pub(super) struct Table {
    pub name: &'static str,
    /// The key's first.
    pub columns: &'static [&'static str],
    /// How many of them are the key.
    pub key: usize,
    /// What writes a row.
    verb: &'static str,
}

const INSERT: &str = "INSERT";

const ENTRY: Table =
    Table { name: "entry", columns: &["height", "position", "id", "kind", "home"], key: 2, verb: INSERT };
const LEAF: Table =
    Table { name: "leaf", columns: &["position", "height", "bytes", "outcome"], key: 1, verb: INSERT };
const SETTLEMENT: Table = Table { name: "settlement", columns: &OF_HOME, key: 5, verb: INSERT };
/// Apart from what is settled, so that no sum can take it for that.
const PROVISIONAL: Table = Table { name: "provisional", columns: &OF_HOME, key: 5, verb: INSERT };
const OF_HOME: [&str; 22] = [
    "interval_ms",
    "home",
    "kind",
    "height",
    "leaf",
    "import_wh",
    "export_wh",
    "forward_wh",
    "forward_amount_n",
    "sold_wh",
    "bought_wh",
    "local_amount_n",
    "supplier_import_wh",
    "supplier_export_wh",
    "supplier_amount_n",
    "amount_n",
    "baseline_n",
    "claim_n",
    "loss_n",
    "incentive_n",
    "quality",
    "quantum_wh",
];
const INTERVAL: Table = Table {
    name: "interval",
    columns: &[
        "start_ms",
        "import_price",
        "export_price",
        "matched_wh",
        "supplier_import_wh",
        "supplier_export_wh",
        "homes",
        "missing",
        "losses_wh",
        "height",
        "settled_ms",
    ],
    key: 1,
    verb: INSERT,
};
const POSTING: Table = Table {
    name: "posting",
    columns: &["height", "seq", "interval_ms", "account", "kind", "amount_n"],
    key: 2,
    verb: INSERT,
};
/// A new meter may be read in an interval that its predecessor was read in already: the later reading stands.
const READING: Table = Table {
    name: "reading",
    columns: &[
        "interval_ms",
        "home",
        "import_register_wh",
        "export_register_wh",
        "quality",
        "clock_quality",
        "serial",
        "epoch",
        "quantum_wh",
        "profile",
        "height",
    ],
    key: 2,
    verb: "INSERT OR REPLACE",
};
const EVIDENCE: Table = Table {
    name: "evidence",
    columns: &["home", "from_ms", "voltage_dv", "pv_peak_w", "pv_storage", "inverter_permille", "height"],
    key: 2,
    verb: INSERT,
};
const ASSURANCE: Table = Table {
    name: "assurance",
    columns: &[
        "home",
        "until_ms",
        "level",
        "transformer",
        "transformer_figure",
        "pv",
        "pv_figure",
        "inverter",
        "inverter_figure",
        "voltage",
        "voltage_figure",
        "height",
        "position",
    ],
    key: 2,
    verb: INSERT,
};

/// Every table, for counting.
pub(super) const TABLES: [&Table; 14] = [
    &ENTRY,
    &LEAF,
    &SETTLEMENT,
    &PROVISIONAL,
    &INTERVAL,
    &POSTING,
    &READING,
    &EVIDENCE,
    &ASSURANCE,
    &MARKET_ORDER,
    &ORDER_END,
    &GATE,
    &GATE_PRICE,
    &BREACH,
];

/// One row, in the order of its table's columns.
pub(super) type Row = Vec<Value>;

impl Table {
    /// Writes rows.
    pub fn insert(&self, connection: &Connection, rows: &[Row]) -> rusqlite::Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let places: Vec<String> = (1..=self.columns.len()).map(|place| format!("?{place}")).collect();
        let (columns, places) = (self.columns.join(", "), places.join(", "));
        let sql = format!("{} INTO {} ({columns}) VALUES ({places})", self.verb, self.name);
        let mut statement = connection.prepare_cached(&sql)?;
        rows.iter().try_for_each(|row| statement.execute(params_from_iter(row)).map(drop))
    }

    /// The row stored under the key of `row`.
    pub fn stored(&self, connection: &Connection, row: &[Value]) -> rusqlite::Result<Option<Row>> {
        let key: Vec<String> = self
            .columns
            .iter()
            .take(self.key)
            .enumerate()
            .map(|(at, name)| format!("{name} = ?{}", at + 1))
            .collect();
        let sql =
            format!("SELECT {} FROM {} WHERE {}", self.columns.join(", "), self.name, key.join(" AND "));
        let mut statement = connection.prepare_cached(&sql)?;
        let read = |row: &rusqlite::Row<'_>| (0..self.columns.len()).map(|at| row.get(at)).collect();
        statement.query_row(params_from_iter(row.iter().take(self.key)), read).optional()
    }

    /// How many rows belong to blocks after `height`.
    pub fn count_after(&self, connection: &Connection, height: u64) -> rusqlite::Result<u64> {
        let sql = format!("SELECT count(*) FROM {} WHERE height > ?1", self.name);
        connection.query_row(&sql, [int(height)?], |row| unsigned(row, 0))
    }

    /// True where a later block may have written over a row.
    pub fn replaces(&self) -> bool {
        self.verb != INSERT
    }
}

/// What a block gives that is written into tables, as far as it is known: who holds all bodies knows all of it.
pub(super) struct Facts<'a> {
    header: &'a Header,
    /// Entries with their positions in the block.
    entries: Vec<(u64, &'a VerifiedEntry)>,
    /// Leaves with their positions in the tree.
    leaves: Vec<(u64, &'a Leaf)>,
    /// Outcomes with the positions of their leaves in the tree.
    outcomes: Vec<(u64, &'a Outcome)>,
    /// Intervals of which only the prices are known.
    intervals: &'a [IntervalOutcome],
    /// Movements with their places among those of the block.
    postings: Vec<(u64, &'a PostingRecord)>,
    readings: &'a [ReadingRecord],
    /// Statements as booked, with the positions of their entries.
    statements: Vec<(u64, &'a AssuranceStatement)>,
    /// The ledger after the block.
    ledger: &'a Ledger,
    /// Bodies of outcomes stand beside their leaves.
    whole: bool,
}

impl<'a> Facts<'a> {
    /// Of a block that was carried out.
    pub fn of(executed: &'a Executed) -> Self {
        let first = executed.ledger.tree_size().saturating_sub(executed.leaves.len() as u64);
        let leaves: Vec<_> = (first..).zip(&executed.leaves).collect();
        let outcome = |(position, leaf): &(u64, &'a Leaf)| match leaf.source {
            LeafSource::Outcome(at) => Some((*position, executed.outcomes.get(at)?)),
            LeafSource::Entry(_) => None,
        };
        let outcomes = leaves.iter().filter_map(outcome).collect();
        let entries: Vec<_> = (0..).zip(&executed.block.entries).collect();
        let is_statement = |entry: &VerifiedEntry| matches!(entry.entry().body, Body::AssuranceStatement(_));
        let positions =
            entries.iter().filter(|(_, entry)| is_statement(entry)).map(|(position, _)| *position);
        Self {
            header: &executed.block.header,
            // As booked, which may be less than the entry claims.
            statements: positions.zip(&executed.statements).collect(),
            entries,
            leaves,
            outcomes,
            intervals: &[],
            postings: (0..).zip(&executed.postings).collect(),
            readings: &executed.readings,
            ledger: &executed.ledger,
            whole: true,
        }
    }

    /// Of a block of which one home's part is known; `ledger` is what that home knew of the state last.
    pub fn of_followed(followed: &'a Followed, ledger: &'a Ledger) -> Self {
        let first = followed.header.tree_size.saturating_sub(followed.leaves.len() as u64);
        let place = |position: u32| first.saturating_add(position.into());
        Self {
            header: &followed.header,
            entries: followed.entries.iter().map(|(position, entry)| ((*position).into(), entry)).collect(),
            leaves: (first..).zip(&followed.leaves).collect(),
            outcomes: followed.outcomes.iter().map(|(position, it)| (place(*position), it)).collect(),
            intervals: &followed.intervals,
            postings: followed.postings.iter().map(|(place, posting)| ((*place).into(), posting)).collect(),
            readings: &followed.readings,
            statements: followed.statements.iter().map(|(position, it)| ((*position).into(), it)).collect(),
            ledger,
            whole: false,
        }
    }

    const fn height(&self) -> u64 {
        self.header.height
    }
}

/// Every row that follows from a block.
pub(super) fn rows(facts: &Facts<'_>) -> [(&'static Table, Vec<Row>); TABLES.len()] {
    [
        (&ENTRY, entries(facts)),
        (&LEAF, leaves(facts)),
        (&SETTLEMENT, settlements(facts, |kind| kind != OutcomeKind::Provisional)),
        (&PROVISIONAL, settlements(facts, |kind| kind == OutcomeKind::Provisional)),
        (&INTERVAL, intervals(facts)),
        (&POSTING, postings(facts)),
        (&READING, readings(facts)),
        (&EVIDENCE, evidence(facts)),
        (&ASSURANCE, assurances(facts)),
        (&MARKET_ORDER, market_orders(facts)),
        (&ORDER_END, order_ends(facts)),
        (&GATE, gates(facts)),
        (&GATE_PRICE, gate_prices(facts)),
        (&BREACH, breaches(facts)),
    ]
}

/// Writes every row that follows from a block.
pub(super) fn insert(connection: &Connection, executed: &Executed) -> rusqlite::Result<()> {
    insert_facts(connection, &Facts::of(executed))?;
    update_accounts(connection, executed)
}

/// Writes every row that follows from what is known of a block, but for what stands on accounts.
pub(super) fn insert_facts(connection: &Connection, facts: &Facts<'_>) -> rusqlite::Result<()> {
    rows(facts).into_iter().try_for_each(|(table, rows)| table.insert(connection, &rows))
}

/// The accounts a block may have changed or opened.
pub(super) fn touched_accounts(executed: &Executed) -> Vec<Account<HomeId>> {
    let moved = executed.postings.iter().map(|posting| posting.account.clone());
    let admitted = executed.block.entries.iter().filter_map(|entry| match &entry.entry().body {
        Body::Admission(admission) => Some(Account::Home(admission.home.clone())),
        _ => None,
    });
    let mut accounts: Vec<_> = moved.chain(admitted).collect();
    accounts.sort();
    accounts.dedup();
    accounts
}

/// The accounts at the start, with what stands on them, and the deposits that put it there as postings of height 0.
pub(super) fn opening(genesis: &Genesis, ledger: &Ledger) -> (Vec<(String, i64)>, Vec<Row>) {
    let homes = genesis.members.iter().map(|member| Account::Home(member.admission.home.clone()));
    let common = [Account::Supplier, Account::Network, Account::Congestion, Account::Deposits];
    let balance = |account: Account<HomeId>| (account_name(&account), ledger.balance(&account).get());
    let accounts = homes.chain(common).map(balance).collect();
    let deposits = genesis.members.iter().filter(|member| member.deposit.get() != 0).flat_map(|member| {
        let amount = member.deposit.get();
        [(Account::Home(member.admission.home.clone()), amount), (Account::Deposits, amount.saturating_neg())]
    });
    let posting = |(seq, (account, amount)): (usize, (Account<HomeId>, i64))| {
        let (account, kind) = (text(account_name(&account)), text(PostingKind::Deposit.word()));
        vec![Value::Integer(0), number(seq), Value::Null, account, kind, Value::Integer(amount)]
    };
    (accounts, deposits.enumerate().map(posting).collect())
}

/// Writes the accounts and postings of the genesis.
pub(super) fn insert_opening(
    connection: &Connection,
    genesis: &Genesis,
    ledger: &Ledger,
) -> rusqlite::Result<()> {
    let (accounts, postings) = opening(genesis, ledger);
    let sql = "INSERT INTO account (name, opening_n, balance_n) VALUES (?1, ?2, ?2)";
    let mut statement = connection.prepare(sql)?;
    accounts.iter().try_for_each(|account| statement.execute((&account.0, account.1)).map(drop))?;
    POSTING.insert(connection, &postings)
}

/// Compares the postings of height 0 with those of the genesis.
pub(super) fn compare_opening(connection: &Connection, expected: &[Row]) -> Result<(), Damage> {
    let damage = |what: String| Damage::new("genesis", "posting", what);
    for row in expected {
        let stored = POSTING.stored(connection, row).map_err(|error| damage(error.to_string()))?;
        if stored.as_ref() != Some(row) {
            return Err(damage("a deposit of the genesis differs or is missing".to_owned()));
        }
    }
    let sql = "SELECT count(*) FROM posting WHERE height <= 0";
    let count: i64 =
        connection.query_row(sql, [], |row| row.get(0)).map_err(|error| damage(error.to_string()))?;
    if int(expected.len()).ok() == Some(count) {
        return Ok(());
    }
    Err(damage(format!("{count} rows stand at height 0, the genesis gives {}", expected.len())))
}

/// Writes what stands on the accounts that a block touched.
fn update_accounts(connection: &Connection, executed: &Executed) -> rusqlite::Result<()> {
    let sql = "INSERT INTO account (name, opening_n, balance_n) VALUES (?1, 0, ?2)
               ON CONFLICT (name) DO UPDATE SET balance_n = excluded.balance_n";
    let mut statement = connection.prepare_cached(sql)?;
    touched_accounts(executed).iter().try_for_each(|account| {
        statement.execute((account_name(account), executed.ledger.balance(account).get())).map(drop)
    })
}

/// How accounts are named in tables and exports.
pub(super) fn account_name(account: &Account<HomeId>) -> String {
    match account {
        Account::Home(home) => format!("home:{home}"),
        Account::Supplier => "supplier".to_owned(),
        Account::Network => "network".to_owned(),
        Account::Congestion => "congestion".to_owned(),
        Account::Deposits => "deposits".to_owned(),
    }
}

fn entries(facts: &Facts<'_>) -> Vec<Row> {
    let row = |(position, entry): &(u64, &VerifiedEntry)| {
        let body = &entry.entry().body;
        let home = body.home().map_or(Value::Null, |home| text(home.as_str()));
        vec![number(facts.height()), number(*position), blob(&entry.id().0.0), text(body.kind()), home]
    };
    facts.entries.iter().map(row).collect()
}

fn leaves(facts: &Facts<'_>) -> Vec<Row> {
    let mut outcomes = facts.outcomes.iter().filter(|_| facts.whole).peekable();
    let row = |(position, leaf): &(u64, &Leaf)| {
        let outcome = outcomes.next_if(|(of, _)| of == position);
        let outcome = outcome.map_or(Value::Null, |(_, outcome)| Value::Blob(outcome.to_bytes()));
        vec![number(*position), number(facts.height()), blob(&leaf.bytes), outcome]
    };
    facts.leaves.iter().map(row).collect()
}

/// The homes' results of the kinds `wanted`.
fn settlements(facts: &Facts<'_>, wanted: fn(OutcomeKind) -> bool) -> Vec<Row> {
    let row = |(leaf, outcome): &(u64, &Outcome)| match outcome {
        Outcome::Home(home) if wanted(home.kind) => {
            Some(settlement(facts.height(), *leaf, home, quantum_of(facts.ledger, &home.home)))
        }
        Outcome::Home(_)
        | Outcome::Interval(_)
        | Outcome::Gate(_)
        | Outcome::Order(_)
        | Outcome::Breach(_)
        | Outcome::Election(_)
        | Outcome::Seat(_) => None,
    };
    facts.outcomes.iter().filter_map(row).collect()
}

/// How finely the home's registered meter counts.
fn quantum_of(ledger: &Ledger, home: &HomeId) -> WattHours {
    // Whoever is settled is a member.
    ledger.member(home).map_or(WattHours::ZERO, |member| member.admission.meter.quantum)
}

fn settlement(height: u64, leaf: u64, outcome: &HomeOutcome, quantum: WattHours) -> Row {
    let HomeOutcome { position, matched, .. } = outcome;
    vec![
        start(outcome.interval),
        text(outcome.home.as_str()),
        text(outcome.kind.word()),
        number(height),
        number(leaf),
        outcome.metered.map_or(Value::Null, |metered| wh(metered.import)),
        outcome.metered.map_or(Value::Null, |metered| wh(metered.export)),
        number(i128::from(position.sold.get()) - i128::from(position.bought.get())),
        money(position.amount),
        wh(matched.sold),
        wh(matched.bought),
        money(matched.local_amount),
        wh(matched.supplier_import),
        wh(matched.supplier_export),
        money(matched.supplier_amount),
        money(outcome.amount),
        money(outcome.baseline),
        money(outcome.claim),
        money(outcome.loss),
        money(outcome.incentive),
        outcome.quality.map_or(Value::Null, |quality| text(quality.word())),
        wh(quantum),
    ]
}

fn intervals(facts: &Facts<'_>) -> Vec<Row> {
    let known = facts.outcomes.iter().filter_map(|(_, outcome)| match outcome {
        Outcome::Interval(interval) => Some(interval),
        Outcome::Home(_)
        | Outcome::Gate(_)
        | Outcome::Order(_)
        | Outcome::Breach(_)
        | Outcome::Election(_)
        | Outcome::Seat(_) => None,
    });
    known.chain(facts.intervals).map(|interval| interval_row(facts.header, interval)).collect()
}

fn interval_row(header: &Header, outcome: &IntervalOutcome) -> Row {
    vec![
        start(outcome.interval),
        Value::Integer(outcome.tariff.import_price.get()),
        Value::Integer(outcome.tariff.export_price.get()),
        wh(outcome.matched),
        wh(outcome.supplier_import),
        wh(outcome.supplier_export),
        Value::Integer(outcome.homes.into()),
        Value::Integer(outcome.missing.into()),
        outcome.losses.map_or(Value::Null, Value::Integer),
        number(header.height),
        number(header.time.unix_ms()),
    ]
}

fn postings(facts: &Facts<'_>) -> Vec<Row> {
    let row = |(seq, posting): &(u64, &PostingRecord)| {
        let interval = posting.interval.map_or(Value::Null, start);
        let (account, kind) = (text(account_name(&posting.account)), text(posting.kind.word()));
        vec![number(facts.height()), number(*seq), interval, account, kind, money(posting.amount)]
    };
    facts.postings.iter().map(row).collect()
}

fn readings(facts: &Facts<'_>) -> Vec<Row> {
    let row = |reading: &ReadingRecord| {
        vec![
            start(reading.interval),
            text(reading.home.as_ref().map_or("", HomeId::as_str)),
            wh(reading.import_register),
            wh(reading.export_register),
            text(reading.quality.word()),
            text(reading.clock_quality.word()),
            text(reading.serial.as_str()),
            number(reading.epoch),
            wh(reading.quantum),
            text(hex::encode(reading.profile_hash.first_chunk::<8>().unwrap_or(&[0; 8]))),
            number(facts.height()),
        ]
    };
    facts.readings.iter().map(row).collect()
}

fn evidence(facts: &Facts<'_>) -> Vec<Row> {
    let row = |(_, entry): &(u64, &VerifiedEntry)| {
        let Body::MeterEvidence(evidence) = &entry.entry().body else { return None };
        let voltages: Vec<u8> =
            evidence.voltage_dv.iter().flat_map(|voltage| voltage.to_be_bytes()).collect();
        Some(vec![
            text(evidence.home.as_str()),
            start(evidence.from),
            blob(&voltages),
            evidence.pv.map_or(Value::Null, |pv| number(pv.peak_w)),
            evidence.pv.map_or(Value::Null, |pv| number(u8::from(pv.storage))),
            evidence.inverter_permille.map_or(Value::Null, number),
            number(facts.height()),
        ])
    };
    facts.entries.iter().filter_map(row).collect()
}

fn assurances(facts: &Facts<'_>) -> Vec<Row> {
    let row = |position: u64, until: Interval, found: &MeterAssurance| {
        let home = text(found.home.as_str());
        let mut row = vec![home, number(until.end().unix_ms()), number(found.level)];
        row.extend(found.findings().iter().flat_map(|finding| {
            [
                text(finding.word()),
                finding.figure().map_or(Value::Null, |figure| Value::Integer(figure.into())),
            ]
        }));
        row.extend([number(facts.height()), number(position)]);
        row
    };
    let rows = |(position, statement): &(u64, &AssuranceStatement)| -> Vec<Row> {
        statement.meters.iter().map(|found| row(*position, statement.until, found)).collect()
    };
    facts.statements.iter().flat_map(rows).collect()
}

/// SQLite's integers have 64 bits with a sign. What lies beyond (a register that claims more than 9 EWh) is stored as
/// the largest: a final block must never be unstorable because of what somebody wrote into it.
fn number<T: TryInto<i64>>(value: T) -> Value {
    Value::Integer(value.try_into().unwrap_or(i64::MAX))
}

fn wh(energy: WattHours) -> Value {
    number(energy.get())
}

fn money(amount: Money) -> Value {
    let bounded = amount.get().clamp(i64::MIN.into(), i64::MAX.into());
    number(bounded)
}

fn start(interval: Interval) -> Value {
    number(interval.start().unix_ms())
}

fn text(text: impl Into<String>) -> Value {
    Value::Text(text.into())
}

fn blob(bytes: &[u8]) -> Value {
    Value::Blob(bytes.to_vec())
}

#[cfg(test)]
mod tests {
    use ledger::{PublicKey, ReadingSource};

    use super::super::fixture::genesis;
    use super::*;

    #[test]
    fn a_provisional_result_is_kept_apart_from_what_is_settled() {
        let mut genesis = genesis();
        genesis.market.reading_source = ReadingSource::MeteringOperator;
        genesis.roles.metering_operator =
            Some(PublicKey::of(&ed25519_dalek::SigningKey::from_bytes(&[77; 32])));
        genesis.due_after_ms = 7_200_000;
        let homes = genesis.members.len();
        let mut ledger = Ledger::genesis(&genesis).unwrap();
        let (mut settled, mut provisional) = (Vec::new(), Vec::new());
        while ledger.head_time() < genesis.start.plus_ms(9_000_000) {
            let time = ledger.head_time().plus_ms(300_000);
            let executed = ledger.propose(time, &[]).unwrap().executed;
            for (table, rows) in rows(&Facts::of(&executed)) {
                assert!(rows.iter().all(|row| row.len() == table.columns.len()), "{}", table.name);
                match table.name {
                    "settlement" => settled.extend(rows),
                    "provisional" => provisional.extend(rows),
                    _ => {}
                }
            }
            ledger = executed.ledger;
        }
        let kinds = |rows: &[Row]| {
            let mut kinds: Vec<_> = rows.iter().map(|row| row[2].clone()).collect();
            kinds.dedup();
            kinds
        };
        assert_eq!(kinds(&settled), [text("settled")]);
        assert_eq!(kinds(&provisional), [text("provisional")]);
        // 150 minutes: eight or nine intervals have a provisional result, one or two are settled.
        assert!(
            provisional.len() >= 8 * homes && settled.len() >= homes && settled.len() < provisional.len()
        );
    }
}
