//! What a node takes from people as text, and from other nodes as frames.

use std::path::Path;

use ledger::codec::{Decode, Encode};
use node::bill::parties::Parties;
use node::bill::terms::Terms;
use node::case::{clear_case, match_case};
use node::config::Config;
use node::config::document::Document;
use node::genesis_file;
use node::store::joined::Package;
use node::tariff::day_ahead::{Series, Unit};
use node::tariff::schedule::Schedule;
use node::zone::{self, Month, Zone};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::street;

/// Who reads which texts; the first byte of an input chooses.
const READERS: [fn(&str) -> bool; 9] =
    [configuration, genesis, schedule, parties, terms, case, series, days_and_zones, requests_and_cards];

/// What people and other programs write for a node: refused with words that say what is wrong, or taken.
pub fn texts(bytes: &[u8]) {
    is_taken(bytes);
}

/// True if somebody takes it.
fn is_taken(bytes: &[u8]) -> bool {
    let Some((choice, text)) = bytes.split_first() else { return false };
    let reader = READERS[usize::from(*choice) % READERS.len()];
    reader(&String::from_utf8_lossy(text))
}

/// Texts that are taken, a few of each kind, behind the byte that chooses who reads them.
pub fn written() -> Vec<Vec<u8>> {
    let genesis = genesis_file::render(&street::genesis());
    let texts: [(u8, &str); 16] = [
        (0, include_str!("../../node/tests/config/valid_configs/full.toml")),
        (0, include_str!("../../node/tests/config/valid_configs/household.toml")),
        (0, include_str!("../../node/tests/config/valid_configs/meters.toml")),
        (1, &genesis),
        (2, SCHEDULE),
        (3, PARTIES),
        (4, TERMS),
        (5, AUCTION),
        (5, MATCHING),
        (6, SERIES),
        (7, "Europe/Berlin"),
        (7, "+08:00"),
        (7, "2026-10-25"),
        (8, ORDER),
        (8, RECOVERY),
        (8, CARD),
    ];
    texts.iter().map(|(reader, text)| [&[*reader], text.as_bytes()].concat()).collect()
}

fn document(text: &str) -> Document {
    Document::of_text(Path::new("file.toml"), text)
}

/// Whoever refuses says why.
fn told<T, E: ToString>(read: Result<T, E>) -> Option<T> {
    read.map_err(|error| assert!(!error.to_string().is_empty(), "refused without a word")).ok()
}

fn configuration(text: &str) -> bool {
    told(Config::read(&document(text))).is_some()
}

/// What is taken is written as a text that says the same.
fn genesis(text: &str) -> bool {
    let Some(genesis) = told(genesis_file::read(&document(text))) else { return false };
    let again = genesis_file::read(&document(&genesis_file::render(&genesis)));
    assert_eq!(again.map_err(|report| report.to_string()), Ok(genesis));
    true
}

fn schedule(text: &str) -> bool {
    told(Schedule::read(&document(text))).is_some()
}

fn parties(text: &str) -> bool {
    told(Parties::read(&document(text))).is_some()
}

fn terms(text: &str) -> bool {
    let read = |outside| told(Terms::read(&document(text), outside)).is_some();
    [false, true].map(read).contains(&true)
}

fn case(text: &str) -> bool {
    let (cleared, matched) = (told(clear_case(text)), told(match_case(text)));
    cleared.is_some() || matched.is_some()
}

/// What a series says of an interval is one price or none.
fn series(text: &str) -> bool {
    let read = |unit| {
        let series = told(Series::parse("prices.csv", text, unit));
        let first = energy::Interval::containing(energy::Timestamp::default(), energy::Mtu::Min15);
        series.map(|series| told(series.at(first))).is_some()
    };
    [Unit::PerMwh, Unit::PerKwh, Unit::Micro].map(read).contains(&true)
}

fn days_and_zones(text: &str) -> bool {
    let (zone, month) = (told(Zone::parse(text)), told(Month::parse(text)));
    zone.is_some() || month.is_some() || told(zone::date(text)).is_some()
}

/// JSON that is taken is written as JSON that says the same.
fn the_same_again<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(text: &str) -> bool {
    let Some(value) = told(serde_json::from_str::<T>(text)) else { return false };
    let written = serde_json::to_string(&value).unwrap();
    assert_eq!(serde_json::from_str::<T>(&written).unwrap(), value);
    true
}

fn requests_and_cards(text: &str) -> bool {
    let requests = [
        the_same_again::<api::OrderRequest>(text),
        the_same_again::<api::CancelRequest>(text),
        the_same_again::<api::RecoveryRequest>(text),
    ];
    requests.contains(&true) || told(node::outside::join_card(text)).is_some()
}

/// What nodes send one another around the messages of the consensus: frames, addresses, recent states.
pub fn frames(bytes: &[u8]) {
    if let Some(again) = node::outside::reframed(bytes) {
        assert_eq!(again, bytes, "two frames of the same messages");
    }
    assert!(node::outside::addresses_learnt(bytes) <= bytes.len());
    if let Some(again) = node::outside::rewritten(bytes) {
        assert_eq!(again, bytes, "two encodings of one part");
    }
    if let Ok(package) = Package::from_bytes(bytes) {
        assert_eq!(package.to_bytes(), bytes, "two encodings of one package");
        let _ = package.check(&street::genesis(), None, &street::home(1));
    }
}

const SERIES: &str = "start,price\n2026-10-25T00:00:00+02:00,84.12\n2026-10-25T01:00:00+02:00,-3.5\n\
                      2026-10-25T02:00:00+02:00,0\n2026-10-25T02:00:00+01:00,12.345\n";

const SCHEDULE: &str = r#"
zone = "Europe/Berlin"
holidays = [2026-10-03, 2026-12-25]
[import]
price = 300000
[[import.window]]
days = ["workday", "saturday"]
months = [6, 7, 8]
from = "22:00"
until = "06:00"
price = 180000
[export]
price = 80000
[[network]]
node = "lv"
[network.down]
price = 40000
"#;

const PARTIES: &str = r#"
[[home]]
id = "home-01"
contract_holder = "Ada Lovelace"
[[home.occupant]]
name = "Wang Fang"
from = 2026-01-01
"#;

const TERMS: &str = r#"
zone = "Europe/Berlin"
[issuer]
name = "Sunny Street"
name_zh = "阳光街"
[[line]]
name = "Meter"
basis = "day"
rate = 1000
part = "grid"
to = "metering"
[[line]]
name = "Concession fee"
basis = "grid-import"
rate = 1100
to = "municipality"
"#;

const AUCTION: &str = r#"{"grid":{"import_price":150000,"export_price":50000},
"nodes":[{"id":"grid","parent":null},{"id":"lv","parent":"grid"}],
"orders":[{"id":"a","node":"lv","side":"buy","price":150000,"qty":333},
{"id":"b","node":"lv","side":"sell","price":90000,"qty":500}]}"#;

const MATCHING: &str = r#"{"grid":{"import_price":313300,"export_price":105714},
"nodes":[{"id":"grid","parent":null},{"id":"lv","parent":"grid","fee_up":0,"fee_down":30001}],
"homes":[{"id":"a","node":"lv","import_wh":10,"export_wh":11},{"id":"b","node":"lv","import_wh":610,"export_wh":248}]}"#;

const ORDER: &str =
    r#"{"request_id":"r-1","interval":"2026-10-25T00:00:00Z","side":"buy","price":150000,"quantity_wh":500}"#;

const RECOVERY: &str = r#"{"step":"propose","number":1,"offers":["00ff"],"block":null}"#;

const CARD: &str = r#"{"version":1,"home":"home-01","owner":"Ada","node":"lv","keys":{
"member":"0101010101010101010101010101010101010101010101010101010101010101",
"reading":"0202020202020202020202020202020202020202020202020202020202020202",
"network":"0303030303030303030303030303030303030303030303030303030303030303"},
"consensus_key":"","meter":{"serial":"s-1","profile":"p",
"profile_hash":"0404040404040404040404040404040404040404040404040404040404040404",
"quantum_wh":1},"peer":null}"#;

#[cfg(test)]
mod tests {
    #[test]
    fn what_fuzzing_begins_with_is_taken() {
        for written in super::written() {
            assert!(super::is_taken(&written), "refused: {}", String::from_utf8_lossy(&written));
        }
    }
}
