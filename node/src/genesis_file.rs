//! The genesis of a community as a TOML file: what people read, agree on and hand to every member.
//!
//! The chain's name is the hash of the canonical binary form, so comments and layout do not matter, values do. Prices
//! are µ/kWh, amounts n, energy Wh, times RFC 3339, keys and hashes 64 hexadecimal digits.

use std::fmt::Write as _;
use std::path::Path;

use energy::{Balance, Mtu, Price, Timestamp, WattHours};
use ledger::{
    Admission, Caps, ConnectionSize, Delegate, DemoClock, Forward, Genesis, GenesisError, GenesisMember,
    Hash32, MEMBERS_MAX, MarketTerms, MemberKeys, MeterRegistration, MoneyMode, NODES_MAX, Participation,
    PublicKey, ReadingSource, Replicas, Roles, RootMeter, Stake, TEXT_MAX, TariffPoint,
};
use market::{Division, Losses, NetworkError, NodeSpec, Sharing, SupplierLeg, Unused};

use crate::config::document::{Document, Section, nearest};
use crate::config::report::Report;

/// No genesis file is longer, in bytes.
pub const GENESIS_BYTES_MAX: u64 = 4 << 20;
/// How long readings are awaited after the end of their interval where the file does not say, ms.
pub const DUE_AFTER_MS: u64 = 900_000;

/// Reads and checks the genesis file at `path`.
///
/// # Errors
/// [`Report`]: every fault of form, or the first of substance, at its place in the file.
pub fn load(path: &Path) -> Result<Genesis, Report> {
    read(&Document::open(path, GENESIS_BYTES_MAX)?)
}

/// Reads and checks a genesis that is already in memory.
///
/// # Errors
/// See [`load`].
pub fn read(document: &Document) -> Result<Genesis, Report> {
    document.read(|top| {
        let places = Places {
            top,
            nodes: limited(top, "node", NODES_MAX),
            members: limited(top, "member", MEMBERS_MAX),
            delegates: limited(top, "delegate", ledger::DELEGATES_MAX),
        };
        let genesis = read_genesis(&places)?;
        if !top.has_faults()
            && let Err(error) = genesis.validate()
        {
            places.report(&genesis, &error);
        }
        Some(genesis)
    })
}

/// Where the parts of a genesis stand in its file.
struct Places<'a> {
    top: &'a Section<'a>,
    nodes: Vec<Section<'a>>,
    members: Vec<Section<'a>>,
    delegates: Vec<Section<'a>>,
}

impl Places<'_> {
    fn report(&self, genesis: &Genesis, error: &GenesisError) {
        match error {
            GenesisError::Network(error) => self.report_network(error),
            GenesisError::Member { home, what } => {
                // The last one of that name: where two collide, the later is the one too many.
                let position = genesis.members.iter().rposition(|member| member.admission.home == *home);
                let delegate = genesis.delegates.iter().rposition(|delegate| delegate.home == *home);
                let member = position.and_then(|position| self.members.get(position));
                let place = member.or(delegate.and_then(|position| self.delegates.get(position)));
                place.unwrap_or(self.top).fault_here(format!("home {home} {what}"), "here", None);
            }
            GenesisError::Delegates => {
                let place = self.delegates.last().unwrap_or(self.top);
                place.fault_here(error.to_string(), "the last of them", None);
            }
            GenesisError::Term { what } => self.report_term(what),
            other => self.top.fault_here(other.to_string(), "", None),
        }
    }

    fn report_network(&self, error: &NetworkError) {
        let place = network_place(error).and_then(|index| self.nodes.get(index));
        place.unwrap_or(self.top).fault_here(error.to_string(), "this node", None);
    }

    fn report_term(&self, what: &str) {
        const TERMS: [(&str, &str); 9] = [
            ("market", "market"),
            ("name", "name"),
            ("currency", "currency"),
            ("due_after", "due_after_ms"),
            ("caps", "caps"),
            ("the tariff", "tariff"),
            ("supplier_credit", "supplier_credit_n"),
            ("clock", "clock"),
            ("root", "root_meter"),
        ];
        let key = TERMS.iter().find(|(start, _)| what.starts_with(start)).map_or("", |(_, key)| key);
        self.top.fault(key, what.to_owned(), "here", None);
    }
}

/// Position of the node that a fault of the network is about.
fn network_place(error: &NetworkError) -> Option<usize> {
    match error {
        NetworkError::DuplicateId { index, .. }
        | NetworkError::UnknownParent { index, .. }
        | NetworkError::SecondRoot { index, .. }
        | NetworkError::NoRoot { index, .. }
        | NetworkError::Cycle { index, .. }
        | NetworkError::NegativeFee { index, .. }
        | NetworkError::FeeTooHigh { index, .. } => Some(*index),
        // The last two are about changes of a network, which a file has none of.
        NetworkError::Empty
        | NetworkError::TooManyNodes { .. }
        | NetworkError::UnknownNode { .. }
        | NetworkError::GivenTwice { .. } => None,
    }
}

/// The tables of an array, none at all if there are more than `max`.
fn limited<'a>(top: &Section<'a>, key: &'static str, max: usize) -> Vec<Section<'a>> {
    let sections = top.sections(key);
    if let Some(first_over) = sections.get(max) {
        first_over.fault_here(format!("more than {max} tables [[{key}]]"), "the first one too many", None);
    }
    sections
}

fn read_genesis(places: &Places<'_>) -> Option<Genesis> {
    let top = places.top;
    let name = top.required("name");
    let currency = top.required("currency");
    let mtu = top.or("mtu_minutes", Mtu::Min15);
    let start = top.required("start");
    let clock = top.section("clock").map(|section| read_clock(&section));
    let due_after_ms = top.or("due_after_ms", DUE_AFTER_MS);
    let forward = choice(top, "forward", &FORWARD);
    let market = top.section("market").map_or(Some(MarketTerms::default()), |section| read_market(&section));
    let stake = choice(top, "stake", &STAKE);
    let replicas = read_replicas(top);
    let legs = [("ledger", SupplierLeg::Ledger), ("outside", SupplierLeg::Outside)];
    let supplier_leg = choice(top, "supplier_leg", &legs);
    let supplier_credit = top.or("supplier_credit_n", Balance::ZERO);
    let tariff = top.required_section("tariff").and_then(|section| read_tariff(&section));
    let caps = top.required_section("caps").and_then(|section| read_caps(&section));
    let roles = top.required_section("roles").and_then(|section| read_roles(&section));
    let root_meter = top.section("root_meter").map(|section| read_root_meter(&section));
    // Every table is read before any missing one ends the reading, so that all faults are found.
    let network: Vec<_> = places.nodes.iter().map(read_node).collect();
    let members: Vec<_> = places.members.iter().map(read_member).collect();
    let delegates: Vec<_> = places.delegates.iter().map(read_delegate).collect();
    Some(Genesis {
        name: name?,
        mtu,
        currency: currency?,
        start: start?,
        clock: all(clock)?,
        due_after_ms,
        forward: forward?,
        market: market?,
        supplier_leg: supplier_leg?,
        supplier_credit,
        network: network.into_iter().collect::<Option<_>>()?,
        tariff: tariff?,
        caps: caps?,
        roles: roles?,
        root_meter: all(root_meter)?,
        members: members.into_iter().collect::<Option<_>>()?,
        delegates: delegates.into_iter().collect::<Option<_>>()?,
        stake: stake?,
        replicas: replicas?,
    })
}

/// `None` outside if the section is faulty, `None` inside if it is absent.
#[expect(clippy::option_option, reason = "a faulty section and an absent one must differ")]
fn all<T>(section: Option<Option<T>>) -> Option<Option<T>> {
    section.map_or(Some(None), |read| read.map(Some))
}

/// One of a few words; the first where the key is absent.
fn choice<T: Copy>(section: &Section<'_>, key: &'static str, words: &[(&'static str, T)]) -> Option<T> {
    let Some(word) = section.optional::<String>(key) else { return words.first().map(|(_, value)| *value) };
    if let Some((_, value)) = words.iter().find(|(known, _)| *known == word) {
        return Some(*value);
    }
    let known: Vec<String> = words.iter().map(|(known, _)| format!("\"{known}\"")).collect();
    let label = match nearest(&word, words.iter().map(|(known, _)| *known)) {
        Some(meant) => format!("did you mean \"{meant}\"?"),
        None => format!("expected {}", known.join(" or ")),
    };
    section.fault(key, format!("`{key}` cannot be \"{word}\""), &label, None);
    None
}

const STAKE: [(&str, Stake); 2] = [("membership", Stake::Membership), ("certified", Stake::Certified)];
const FORWARD: [(&str, Forward); 3] =
    [("off", Forward::Off), ("posted", Forward::Posted), ("auction", Forward::Auction)];
const READING_SOURCE: [(&str, ReadingSource); 2] =
    [("node", ReadingSource::Node), ("metering_operator", ReadingSource::MeteringOperator)];

/// `holders` is unknown where everybody holds everything, and reported as such.
fn read_replicas(top: &Section<'_>) -> Option<Replicas> {
    Some(match choice(top, "replicas", &[("all", false), ("delegates", true)])? {
        false => Replicas::All,
        true => Replicas::Delegates { holders: top.list("holders").unwrap_or_default() },
    })
}

fn render_replicas(out: &mut Lines, replicas: &Replicas) {
    match replicas {
        Replicas::All => out.text("replicas", "all"),
        Replicas::Delegates { holders } => {
            out.text("replicas", "delegates");
            let holders: Vec<String> = holders.iter().map(|home| quoted(home.as_str())).collect();
            out.value("holders", format_args!("[{}]", holders.join(", ")));
        }
    }
}

/// A rule of sharing, without its terms.
#[derive(Clone, Copy, PartialEq)]
enum Rule {
    Neighbour,
    StaticKey,
    DynamicKey,
    Incentive,
}

const SHARING: [(&str, Rule); 4] = [
    ("neighbour", Rule::Neighbour),
    ("static-key", Rule::StaticKey),
    ("dynamic-key", Rule::DynamicKey),
    ("incentive", Rule::Incentive),
];
const UNUSED: [(&str, Unused); 2] = [("lost", Unused::Lost), ("passed-on", Unused::PassedOn)];
const DIVISION: [(&str, Division); 3] =
    [("producers", Division::Producers), ("consumers", Division::Consumers), ("halves", Division::Halves)];
const LOSSES: [(&str, Losses); 2] = [("recorded", Losses::Recorded), ("community", Losses::Community)];

/// The word that stands for a value.
fn word_of<T: PartialEq + Copy>(value: T, words: &[(&'static str, T)]) -> &'static str {
    words.iter().find(|(_, known)| *known == value).map_or("", |(word, _)| word)
}

fn read_market(section: &Section<'_>) -> Option<MarketTerms> {
    let usual = MarketTerms::default();
    let envelope_permille = section.or("envelope_permille", usual.envelope_permille);
    let credit = section.optional("credit_n");
    let money = match choice(section, "money", &[("prepaid", false), ("statement", true)])? {
        true => MoneyMode::Statement { credit: credit.unwrap_or(Balance::ZERO) },
        false => MoneyMode::Prepaid,
    };
    let reading_source = choice(section, "reading_source", &READING_SOURCE)?;
    let (sharing, losses) = (read_sharing(section), choice(section, "losses", &LOSSES));
    Some(MarketTerms { envelope_permille, money, reading_source, sharing: sharing?, losses: losses? })
}

/// Keys that another rule of sharing has are unknown here, and reported as such.
fn read_sharing(section: &Section<'_>) -> Option<Sharing> {
    Some(match choice(section, "sharing", &SHARING)? {
        Rule::Neighbour => Sharing::Neighbour,
        Rule::StaticKey => Sharing::StaticKey {
            price: section.optional("sharing_price"),
            unused: choice(section, "unused", &UNUSED)?,
        },
        Rule::DynamicKey => Sharing::DynamicKey { price: section.optional("sharing_price") },
        Rule::Incentive => {
            let (payment, division) =
                (section.required("sharing_price"), choice(section, "division", &DIVISION));
            Sharing::Incentive { payment: payment?, division: division? }
        }
    })
}

fn render_sharing(out: &mut Lines, sharing: Sharing) {
    let (rule, price) = match sharing {
        Sharing::Neighbour => (Rule::Neighbour, None),
        Sharing::StaticKey { price, .. } => (Rule::StaticKey, price),
        Sharing::DynamicKey { price } => (Rule::DynamicKey, price),
        Sharing::Incentive { payment, .. } => (Rule::Incentive, Some(payment)),
    };
    out.text("sharing", word_of(rule, &SHARING));
    if let Some(price) = price {
        out.value("sharing_price", price.get());
    }
    match sharing {
        Sharing::StaticKey { unused, .. } => out.text("unused", word_of(unused, &UNUSED)),
        Sharing::Incentive { division, .. } => out.text("division", word_of(division, &DIVISION)),
        Sharing::Neighbour | Sharing::DynamicKey { .. } => {}
    }
}

fn render_market(out: &mut Lines, terms: &MarketTerms) {
    out.table("market");
    out.value("envelope_permille", terms.envelope_permille);
    match terms.money {
        MoneyMode::Prepaid => out.text("money", "prepaid"),
        MoneyMode::Statement { credit } => {
            out.text("money", "statement");
            out.value("credit_n", credit.get());
        }
    }
    out.text("reading_source", word_of(terms.reading_source, &READING_SOURCE));
    render_sharing(out, terms.sharing);
    out.text("losses", word_of(terms.losses, &LOSSES));
}

fn read_size(section: &Section<'_>) -> ConnectionSize {
    let usual = ConnectionSize::default();
    ConnectionSize {
        import: section.or("max_import_wh", usual.import),
        export: section.or("max_export_wh", usual.export),
    }
}

fn read_participation(section: &Section<'_>) -> Participation {
    let usual = Participation::default();
    Participation {
        share_permyriad: section.or("share_permyriad", usual.share_permyriad),
        permille: section.or("participation_permille", usual.permille),
    }
}

fn read_clock(section: &Section<'_>) -> Option<DemoClock> {
    let (origin, wall_origin) = (section.required("origin"), section.required("wall_origin"));
    let speed = section.required("speed");
    let assurance_every = section.required("assurance_every");
    let epoch_every = section.required("epoch_every");
    Some(DemoClock {
        origin: origin?,
        wall_origin: wall_origin?,
        speed: speed?,
        assurance_every: assurance_every?,
        epoch_every: epoch_every?,
    })
}

fn read_tariff(section: &Section<'_>) -> Option<TariffPoint> {
    let (import, export) = (section.required("import_price"), section.required("export_price"));
    Some(TariffPoint { import_price: import?, export_price: export? })
}

fn read_caps(section: &Section<'_>) -> Option<Caps> {
    let (min, max) = (section.required("price_min"), section.required("price_max"));
    let transfer_max = section.required("transfer_max_n");
    Some(Caps { price_min: min?, price_max: max?, transfer_max: transfer_max? })
}

fn read_roles(section: &Section<'_>) -> Option<Roles> {
    let (operator, treasurer) = (section.required("operator"), section.required("treasurer"));
    let auditor = section.required("auditor");
    let trustee = section.optional("trustee");
    let metering_operator = section.optional("metering_operator");
    Some(Roles { operator: operator?, treasurer: treasurer?, auditor: auditor?, trustee, metering_operator })
}

fn read_root_meter(section: &Section<'_>) -> Option<RootMeter> {
    let (key, serial) = (section.required("key"), section.required("serial"));
    let (hash, quantum) = (section.required::<Hash32>("profile_hash"), section.required("quantum_wh"));
    Some(RootMeter { key: key?, serial: serial?, profile_hash: hash?.0, quantum: quantum? })
}

fn read_node(section: &Section<'_>) -> Option<NodeSpec> {
    let id = section.required("id");
    Some(NodeSpec {
        parent: section.optional("parent"),
        fee_up: section.or("fee_up", Price::ZERO),
        fee_down: section.or("fee_down", Price::ZERO),
        up: section.optional("up_wh"),
        down: section.optional("down_wh"),
        id: id?,
    })
}

fn read_member(section: &Section<'_>) -> Option<GenesisMember> {
    let (home, node) = (section.required("home"), section.required("node"));
    let owner = section.required::<String>("owner");
    if owner.as_ref().is_some_and(|owner| owner.len() > TEXT_MAX) {
        let label = format!("expected at most {TEXT_MAX} bytes");
        section.fault("owner", "the owner's name is too long".to_owned(), &label, None);
    }
    let deposit = section.or("deposit_n", Balance::ZERO);
    let keys = section.required_section("keys").and_then(|section| read_keys(&section));
    let meter = section.required_section("meter").and_then(|section| read_meter(&section));
    let (size, participation) = (read_size(section), read_participation(section));
    let admission = Admission { home: home?, owner: owner?, node: node?, size, keys: keys?, meter: meter? };
    Some(GenesisMember { admission, participation, deposit })
}

fn read_keys(section: &Section<'_>) -> Option<MemberKeys> {
    let (member, reading) = (section.required("member"), section.required("reading"));
    let network = section.required("network");
    Some(MemberKeys { member: member?, reading: reading?, network: network? })
}

fn read_meter(section: &Section<'_>) -> Option<MeterRegistration> {
    let serial = section.required("serial");
    let epoch = section.or("epoch", 0);
    let hash = section.required::<Hash32>("profile_hash");
    let quantum = section.or("quantum_wh", WattHours::new(1));
    Some(MeterRegistration { serial: serial?, epoch, profile_hash: hash?.0, quantum })
}

fn read_delegate(section: &Section<'_>) -> Option<Delegate> {
    let (home, key) = (section.required("home"), section.required("key"));
    Some(Delegate { key: key?, home: home? })
}

/// Writes a genesis as a file that [`read`] takes back as the same genesis.
#[must_use]
pub fn render(genesis: &Genesis) -> String {
    let mut out = Lines::default();
    out.comment("The genesis of a Commonwatt community. Every member needs this same file: its values name the chain.");
    out.comment("Prices in µ/kWh (250000 is 0.25 per kWh), amounts in n (1000000000 is 1 of the currency).");
    render_terms(&mut out, genesis);
    render_roles(&mut out, genesis);
    genesis.network.iter().for_each(|node| render_node(&mut out, node));
    genesis.members.iter().for_each(|member| render_member(&mut out, member));
    for delegate in &genesis.delegates {
        out.table("[delegate]");
        out.text("home", delegate.home.as_str());
        out.text("key", &delegate.key.hex());
    }
    out.0
}

/// A TOML file that is being written.
#[derive(Default)]
struct Lines(String);

impl Lines {
    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{line}");
    }

    fn comment(&mut self, text: &str) {
        self.line(format_args!("# {text}"));
    }

    fn table(&mut self, name: &str) {
        self.line(format_args!("\n[{name}]"));
    }

    fn value(&mut self, key: &str, value: impl std::fmt::Display) {
        self.line(format_args!("{key} = {value}"));
    }

    fn text(&mut self, key: &str, text: &str) {
        self.value(key, quoted(text));
    }

    fn time(&mut self, key: &str, time: Timestamp) {
        self.value(key, time);
    }
}

/// Text as TOML writes it, escaped where needed.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn render_terms(out: &mut Lines, genesis: &Genesis) {
    out.text("name", &genesis.name);
    out.text("currency", &genesis.currency);
    out.value("mtu_minutes", genesis.mtu.minutes());
    out.time("start", genesis.start);
    out.value("due_after_ms", genesis.due_after_ms);
    out.text("forward", word_of(genesis.forward, &FORWARD));
    out.text("stake", word_of(genesis.stake, &STAKE));
    render_replicas(out, &genesis.replicas);
    let on_ledger = matches!(genesis.supplier_leg, SupplierLeg::Ledger);
    out.text("supplier_leg", if on_ledger { "ledger" } else { "outside" });
    out.value("supplier_credit_n", genesis.supplier_credit.get());
    if let Some(clock) = genesis.clock {
        out.table("clock");
        out.time("origin", clock.origin);
        out.time("wall_origin", clock.wall_origin);
        out.value("speed", clock.speed);
        out.value("assurance_every", clock.assurance_every);
        out.value("epoch_every", clock.epoch_every);
    }
    render_market(out, &genesis.market);
    out.table("tariff");
    out.value("import_price", genesis.tariff.import_price.get());
    out.value("export_price", genesis.tariff.export_price.get());
    out.table("caps");
    out.value("price_min", genesis.caps.price_min.get());
    out.value("price_max", genesis.caps.price_max.get());
    out.value("transfer_max_n", genesis.caps.transfer_max.get());
}

fn render_roles(out: &mut Lines, genesis: &Genesis) {
    let roles = genesis.roles;
    out.table("roles");
    let named = [("operator", roles.operator), ("treasurer", roles.treasurer), ("auditor", roles.auditor)];
    let trustee = roles.trustee.map(|key| ("trustee", key));
    let metering_operator = roles.metering_operator.map(|key| ("metering_operator", key));
    for (role, key) in named.into_iter().chain(trustee).chain(metering_operator) {
        out.text(role, &key.hex());
    }
    if let Some(meter) = &genesis.root_meter {
        out.table("root_meter");
        out.text("key", &meter.key.hex());
        out.text("serial", meter.serial.as_str());
        out.text("profile_hash", &hex::encode(meter.profile_hash));
        out.value("quantum_wh", meter.quantum.get());
    }
}

fn render_node(out: &mut Lines, node: &NodeSpec) {
    out.table("[node]");
    out.text("id", node.id.as_str());
    if let Some(parent) = &node.parent {
        out.text("parent", parent.as_str());
    }
    out.value("fee_up", node.fee_up.get());
    out.value("fee_down", node.fee_down.get());
    for (key, limit) in [("up_wh", node.up), ("down_wh", node.down)] {
        if let Some(limit) = limit {
            out.value(key, limit.get());
        }
    }
}

fn render_member(out: &mut Lines, member: &GenesisMember) {
    let admission = &member.admission;
    out.table("[member]");
    out.text("home", admission.home.as_str());
    out.text("owner", &admission.owner);
    out.text("node", admission.node.as_str());
    if admission.size != ConnectionSize::default() {
        out.value("max_import_wh", admission.size.import.get());
        out.value("max_export_wh", admission.size.export.get());
    }
    if member.participation != Participation::default() {
        out.value("share_permyriad", member.participation.share_permyriad);
        out.value("participation_permille", member.participation.permille);
    }
    out.value("deposit_n", member.deposit.get());
    let key = |name: &str, key: PublicKey| format!("{name} = \"{}\"", key.hex());
    let MemberKeys { member, reading, network } = admission.keys;
    let keys = [key("member", member), key("reading", reading), key("network", network)];
    out.value("keys", format_args!("{{ {} }}", keys.join(", ")));
    let meter = &admission.meter;
    out.value(
        "meter",
        format_args!(
            "{{ serial = {}, epoch = {}, profile_hash = \"{}\", quantum_wh = {} }}",
            quoted(meter.serial.as_str()),
            meter.epoch,
            hex::encode(meter.profile_hash),
            meter.quantum.get()
        ),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use energy::{HomeId, MeterSerial, NodeId};

    fn key(number: u8) -> PublicKey {
        PublicKey([number; 32])
    }

    fn member(number: u8) -> GenesisMember {
        let keys = MemberKeys { member: key(number), reading: key(number + 1), network: key(number + 2) };
        let meter = MeterRegistration {
            serial: MeterSerial::new(&format!("S-{number}")).unwrap(),
            epoch: 0,
            profile_hash: [9; 32],
            quantum: WattHours::new(1),
        };
        let admission = Admission {
            home: HomeId::new(&format!("h{number:03}")).unwrap(),
            owner: "Zhao \"Lane\\East\"\n赵".to_owned(),
            node: NodeId::new("feeder").unwrap(),
            size: ConnectionSize::default(),
            keys,
            meter,
        };
        GenesisMember {
            admission,
            participation: Participation::default(),
            deposit: Balance::new(100_000_000_000),
        }
    }

    fn node(id: &str, parent: Option<&str>) -> NodeSpec {
        NodeSpec {
            id: NodeId::new(id).unwrap(),
            parent: parent.map(|parent| NodeId::new(parent).unwrap()),
            fee_up: Price::ZERO,
            fee_down: Price::new(40_000),
            up: parent.map(|_| WattHours::new(12_500)),
            down: None,
        }
    }

    fn genesis() -> Genesis {
        Genesis {
            name: "Lane East".to_owned(),
            mtu: Mtu::Min15,
            currency: "CNY".to_owned(),
            start: Timestamp::parse("2016-06-12T22:00:00Z").unwrap(),
            clock: Some(DemoClock {
                origin: Timestamp::parse("2016-06-12T22:00:00Z").unwrap(),
                wall_origin: Timestamp::from_unix_ms(1_795_000_000_123),
                speed: 720,
                assurance_every: 4,
                epoch_every: 8,
            }),
            due_after_ms: DUE_AFTER_MS,
            forward: Forward::Off,
            market: MarketTerms::default(),
            supplier_leg: SupplierLeg::Ledger,
            supplier_credit: Balance::new(5),
            network: vec![node("grid", None), node("feeder", Some("grid"))],
            tariff: TariffPoint { import_price: Price::new(250_000), export_price: Price::new(80_000) },
            caps: Caps {
                price_min: Price::ZERO,
                price_max: Price::new(2_000_000),
                transfer_max: Balance::new(1_000_000_000_000),
            },
            roles: Roles {
                operator: key(101),
                treasurer: key(102),
                auditor: key(103),
                trustee: Some(key(106)),
                metering_operator: Some(key(104)),
            },
            root_meter: Some(RootMeter {
                key: key(105),
                serial: MeterSerial::new("ROOT").unwrap(),
                profile_hash: [8; 32],
                quantum: WattHours::new(10),
            }),
            members: [10, 20, 30, 40].map(member).into(),
            delegates: [10, 20, 30, 40]
                .map(|number| Delegate { key: key(number + 3), home: member(number).admission.home })
                .into(),
            stake: Stake::Certified,
            replicas: Replicas::All,
        }
    }

    fn read_text(text: &str) -> Result<Genesis, Report> {
        read(&Document::of_text(Path::new("genesis.toml"), text))
    }

    /// The one fault of the rendered genesis after `from` is replaced by `to`: its line's text and its title.
    fn fault_after(from: &str, to: &str) -> (String, String) {
        let rendered = render(&genesis());
        assert!(rendered.contains(from), "{from}");
        let text = rendered.replacen(from, to, 1);
        let report = read_text(&text).unwrap_err();
        assert_eq!(report.faults().len(), 1, "{report}");
        let start = report.faults()[0].span.clone().unwrap().start;
        let line = text[..start].rfind('\n').map_or(0, |end| end + 1);
        (text[line..].lines().next().unwrap().to_owned(), report.faults()[0].title.clone())
    }

    #[test]
    fn a_rendered_genesis_reads_back_as_the_same_chain() {
        let full = genesis();
        assert_eq!(read_text(&render(&full)).unwrap(), full);
        let roles = Roles { trustee: None, metering_operator: None, ..full.roles };
        let plain = Genesis { clock: None, root_meter: None, roles, ..full };
        let read_back = read_text(&render(&plain)).unwrap();
        assert_eq!(read_back, plain);
        assert_eq!(read_back.chain(), plain.chain());
    }

    #[test]
    fn every_rule_of_the_market_reads_back_with_its_terms() {
        let price = Some(Price::new(120_000));
        let mut rules = vec![Sharing::Neighbour, Sharing::DynamicKey { price }];
        for unused in [Unused::Lost, Unused::PassedOn] {
            rules.push(Sharing::StaticKey { price, unused });
            rules.push(Sharing::StaticKey { price: None, unused });
        }
        for division in [Division::Producers, Division::Consumers, Division::Halves] {
            rules.push(Sharing::Incentive { payment: Price::new(110_000), division });
        }
        let mut full = genesis();
        full.members[0].participation = Participation { share_permyriad: 2_500, permille: 900 };
        full.market.reading_source = ReadingSource::MeteringOperator;
        full.market.losses = Losses::Community;
        full.market.money = MoneyMode::Statement { credit: Balance::new(1_000) };
        for sharing in rules {
            full.market.sharing = sharing;
            assert_eq!(read_text(&render(&full)).unwrap(), full);
        }
    }

    #[test]
    fn a_term_of_another_rule_of_sharing_is_refused() {
        let (line, _) = fault_after("sharing = \"neighbour\"", "sharing = \"neighbour\"\nunused = \"lost\"");
        assert_eq!(line, "unused = \"lost\"");
        let (_, title) = fault_after("sharing = \"neighbour\"", "sharing = \"static\"");
        assert_eq!(title, "`sharing` cannot be \"static\"");
        let (_, title) = fault_after("sharing = \"neighbour\"", "sharing = \"incentive\"");
        assert!(title.contains("sharing_price"), "{title}");
    }

    #[test]
    fn comments_and_layout_do_not_change_the_chain_but_a_value_does() {
        let text = render(&genesis());
        let commented = format!("# agreed on at the meeting of May\n{}", text.replace(" = ", "="));
        assert_eq!(read_text(&commented).unwrap().chain(), genesis().chain());
        let dearer = text.replace("export_price = 80000", "export_price = 80001");
        assert_ne!(read_text(&dearer).unwrap().chain(), genesis().chain());
    }

    #[test]
    fn a_fault_of_substance_is_shown_at_its_place() {
        let (line, title) = fault_after("currency = \"CNY\"", "currency = \"yuan\"");
        assert_eq!(
            (line.as_str(), title.as_str()),
            ("currency = \"yuan\"", "currency must be an ISO 4217 code such as CNY")
        );
        let (line, title) = fault_after("parent = \"grid\"", "parent = \"gird\"");
        assert_eq!(line, "[[node]]");
        assert_eq!(title, "the parent gird of node 1 (feeder) does not exist");
        let (_, title) = fault_after("home = \"h020\"", "home = \"h010\"");
        assert_eq!(title, "home h010 stands twice");
        let (line, title) = fault_after("export_price = 80000", "export_price = 260000");
        assert_eq!(line, "[tariff]");
        assert_eq!(title, "the tariff's import_price is below its export_price");
        let (line, title) = fault_after("speed = 720", "speed = 0");
        assert_eq!((line.as_str(), title.as_str()), ("[clock]", "clock.speed must be at least 1"));
    }

    #[test]
    fn a_fault_of_form_is_shown_at_its_value() {
        let (line, title) = fault_after("start = 2016-06-12T22:00:00Z", "start = 2016-06-12T22:00:00");
        assert_eq!(line, "start = 2016-06-12T22:00:00");
        assert!(title.contains("is not an RFC 3339 time"), "{title}");
        let (_, title) = fault_after("forward = \"off\"", "forward = \"of\"");
        assert_eq!(title, "`forward` cannot be \"of\"");
        let (_, title) = fault_after("import_price = 250000", "import_price = 0.25");
        assert!(
            title.contains("`tariff.import_price` has the wrong type: a number with a decimal point"),
            "{title}"
        );
        let (_, title) = fault_after(&key(101).hex(), "abc");
        assert_eq!(title, "`roles.operator` cannot be used: it is not 64 hexadecimal digits");
    }

    #[test]
    fn every_member_beyond_the_limit_is_refused() {
        let mut text = render(&genesis());
        text.push_str(&"[[delegate]]\nhome = \"h010\"\nkey = \"00\"\n".repeat(40));
        let report = read_text(&text).unwrap_err();
        assert!(report.faults().iter().any(|fault| fault.title == "more than 31 tables [[delegate]]"));
    }
}
