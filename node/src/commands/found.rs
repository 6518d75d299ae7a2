//! `commonwatt init --found`: join cards, a network and a tariff become the genesis of a community.

use std::path::{Path, PathBuf};

use energy::{Balance, HomeId, MeterSerial, Mtu, NodeId, Price, Timestamp, WattHours};
use ledger::{
    Caps, Delegate, Forward, Genesis, GenesisMember, PublicKey, Replicas, Roles, RootMeter, TariffPoint,
};
use market::{NodeSpec, SupplierLeg};
use serde::Deserialize;
use serde_json::json;

use super::join_card::JoinCard;
use super::{CommandError, files, out};
use crate::cli::{Exit, FoundArgs, InitArgs, Output, ReplicasArg};
use crate::clock::{Clock, SystemClock};
use crate::{genesis_file, identity};

/// No network file is longer, in bytes.
const NETWORK_BYTES_MAX: u64 = 4 << 20;
/// A price above this, µ/kWh, needs two signatures: 5 of the currency per kWh.
const PRICE_MAX: Price = Price::new(5_000_000);
/// A price below this, µ/kWh, needs two signatures: supply may cost less than nothing, but not much less.
const PRICE_MIN: Price = Price::new(-1_000_000);
/// A deposit or withdrawal above this, n, needs two signatures: 10 000 of the currency.
const TRANSFER_MAX: Balance = Balance::new(10_000_000_000_000);
/// Profile of a root meter.
const ROOT_PROFILE: &str = "eastron-sdm630";

/// `network.json`, as `commonwatt demo --export` writes it too.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NetworkFile {
    nodes: Vec<NetworkNode>,
    #[serde(default)]
    homes: Vec<NetworkHome>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NetworkNode {
    id: String,
    parent: Option<String>,
    #[serde(default)]
    fee_up: i64,
    #[serde(default)]
    fee_down: i64,
    up_wh: Option<u64>,
    down_wh: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NetworkHome {
    id: String,
    node: String,
}

/// Makes the genesis and the roles' keys.
///
/// # Errors
/// [`CommandError`].
pub(super) fn found(args: &InitArgs, output: Output) -> Result<Exit, CommandError> {
    let terms = &args.found;
    let path = terms.out.as_deref().unwrap_or(Path::new("genesis.toml"));
    let existing = if path.exists() { Some(genesis_file::load(path)?) } else { None };
    let cards = args.cards.iter().map(|path| JoinCard::load(path)).collect::<Result<Vec<_>, _>>()?;
    let grid = read_network(terms.network.as_deref())?;
    // Nothing is written, no key made, before what was given is known to be right.
    let placeholder = Keys::placeholder(terms.root_meter.is_some());
    let start = terms.start.or(existing.as_ref().map(|genesis| genesis.start)).unwrap_or_else(whole_second);
    let mut genesis = build(terms, &cards, grid, &placeholder, start)?;
    validate(&genesis)?;
    let folder = path.parent().unwrap_or(Path::new("")).join("roles");
    Keys::load_or_create(&folder, terms.root_meter.is_some())?.put_into(&mut genesis);
    validate(&genesis)?;
    store(path, &genesis, existing.as_ref())?;
    print(path, &folder, &genesis, output);
    Ok(Exit::Ok)
}

fn store(path: &Path, genesis: &Genesis, existing: Option<&Genesis>) -> Result<(), CommandError> {
    match existing {
        None => files::create(path, &genesis_file::render(genesis)),
        Some(existing) if existing == genesis => Ok(()),
        Some(_) => Err(CommandError::config(format!(
            "{} exists and says otherwise; members may already have it, so it is not overwritten: name another --out",
            path.display()
        ))),
    }
}

fn validate(genesis: &Genesis) -> Result<(), CommandError> {
    genesis
        .validate()
        .map(drop)
        .map_err(|error| CommandError::config(format!("this community cannot be founded: {error}")))
}

fn whole_second() -> Timestamp {
    let now = SystemClock::new(None).market();
    now.minus_ms(now.unix_ms() % 1000)
}

/// The network of a community and where its homes are connected, as far as the file says.
struct Grid {
    nodes: Vec<NodeSpec>,
    homes: Vec<(HomeId, NodeId)>,
}

fn read_network(path: Option<&Path>) -> Result<Grid, CommandError> {
    let path = path.unwrap_or(Path::new("network.json"));
    let file: NetworkFile = files::read_json(path, NETWORK_BYTES_MAX, "a network")?;
    let wrong = |error: energy::IdError| CommandError::config(format!("{}: {error}", path.display()));
    let node = |node: &NetworkNode| {
        Ok(NodeSpec {
            id: NodeId::new(&node.id)?,
            parent: node.parent.as_deref().map(NodeId::new).transpose()?,
            fee_up: Price::new(node.fee_up),
            fee_down: Price::new(node.fee_down),
            up: node.up_wh.map(WattHours::new),
            down: node.down_wh.map(WattHours::new),
        })
    };
    let home = |home: &NetworkHome| Ok((HomeId::new(&home.id)?, NodeId::new(&home.node)?));
    let nodes = file.nodes.iter().map(node).collect::<Result<_, _>>().map_err(wrong)?;
    let homes = file.homes.iter().map(home).collect::<Result<_, _>>().map_err(wrong)?;
    Ok(Grid { nodes, homes })
}

fn build(
    terms: &FoundArgs,
    cards: &[JoinCard],
    grid: Grid,
    keys: &Keys,
    start: Timestamp,
) -> Result<Genesis, CommandError> {
    let [import, export] = terms.tariff[..] else {
        let message = "--tariff wants two prices in µ/kWh: IMPORT,EXPORT, e.g. 250000,80000".to_owned();
        return Err(CommandError::Other { exit: Exit::Usage, message });
    };
    let mut members = Vec::new();
    for card in cards {
        let node =
            grid.homes.iter().find(|(home, _)| home.as_str() == card.home).map(|(_, node)| node.clone());
        members.push(GenesisMember {
            admission: card.admission(node)?,
            participation: ledger::Participation::default(),
            deposit: Balance::new(terms.deposit),
        });
    }
    members.sort_by(|left, right| left.admission.home.cmp(&right.admission.home));
    Ok(Genesis {
        name: terms.name.clone().unwrap_or_default(),
        mtu: Mtu::from_minutes(terms.mtu).map_err(|error| CommandError::config(format!("--mtu: {error}")))?,
        currency: terms.currency.clone(),
        start,
        clock: None,
        due_after_ms: genesis_file::DUE_AFTER_MS,
        forward: Forward::Off,
        market: ledger::MarketTerms::default(),
        supplier_leg: SupplierLeg::Ledger,
        supplier_credit: Balance::new(terms.supplier_credit),
        network: grid.nodes,
        tariff: TariffPoint { import_price: Price::new(import), export_price: Price::new(export) },
        caps: Caps { price_min: PRICE_MIN, price_max: PRICE_MAX, transfer_max: TRANSFER_MAX },
        roles: keys.roles,
        root_meter: root_meter(terms.root_meter.as_ref(), keys)?,
        delegates: delegates(terms, cards, &members)?,
        stake: ledger::Stake::Membership,
        replicas: replicas(terms)?,
        members,
    })
}

fn replicas(terms: &FoundArgs) -> Result<Replicas, CommandError> {
    match terms.replicas {
        ReplicasArg::Delegates => Ok(Replicas::Delegates { holders: terms.holders.clone() }),
        ReplicasArg::All if terms.holders.is_empty() => Ok(Replicas::All),
        ReplicasArg::All => {
            let message = "--holders wants --replicas delegates: otherwise every member holds everything";
            Err(CommandError::Other { exit: Exit::Usage, message: message.to_owned() })
        }
    }
}

fn root_meter(serial: Option<&MeterSerial>, keys: &Keys) -> Result<Option<RootMeter>, CommandError> {
    let (Some(serial), Some(key)) = (serial, keys.root_meter) else { return Ok(None) };
    let profile = meter::Profile::by_name(ROOT_PROFILE)
        .ok_or_else(|| CommandError::failed(format!("the profile {ROOT_PROFILE} is not in this program")))?;
    Ok(Some(RootMeter {
        key,
        serial: serial.clone(),
        profile_hash: profile.hash(),
        quantum: profile.quantum(),
    }))
}

/// Those named, or as many as the election would seat (4 up to 8 homes, 7 up to 40, then 13, 21, at most 31; the
/// largest 3f + 1 that fits a smaller community), by id.
fn delegates(
    terms: &FoundArgs,
    cards: &[JoinCard],
    members: &[GenesisMember],
) -> Result<Vec<Delegate>, CommandError> {
    let mut homes = terms.delegates.clone();
    if homes.is_empty() {
        homes =
            members.iter().map(|member| member.admission.home.clone()).take(seats(members.len())).collect();
    }
    let mut delegates = Vec::new();
    for home in homes {
        let card = cards.iter().find(|card| card.home == home.as_str()).ok_or_else(|| {
            CommandError::config(format!("--delegates names {home}, but there is no --card of that home"))
        })?;
        delegates.push(Delegate { key: card.delegate_key()?, home });
    }
    Ok(delegates)
}

fn seats(homes: usize) -> usize {
    match homes {
        0..4 => 1,
        4..=8 => 4,
        9..=40 => 7,
        41..=100 => 13,
        101..=200 => 21,
        _ => 31,
    }
}

/// Public keys of the roles and of the root meter.
struct Keys {
    roles: Roles,
    root_meter: Option<PublicKey>,
}

impl Keys {
    /// Stands in while the rest is checked.
    fn placeholder(root_meter: bool) -> Self {
        let [operator, treasurer, auditor, root] = [1, 2, 3, 4].map(|number| PublicKey([number; 32]));
        let roles = Roles { operator, treasurer, auditor, trustee: None, metering_operator: None };
        Self { roles, root_meter: root_meter.then_some(root) }
    }

    fn load_or_create(folder: &Path, root_meter: bool) -> Result<Self, CommandError> {
        identity::make_private_dir(folder)?;
        let key = |role: &str| {
            let path: PathBuf = folder.join(format!("{role}.key"));
            identity::load_or_create_key(&path).map(|key| PublicKey::of(&key))
        };
        let (operator, treasurer, auditor) = (key("operator")?, key("treasurer")?, key("auditor")?);
        let roles = Roles { operator, treasurer, auditor, trustee: None, metering_operator: None };
        Ok(Self { roles, root_meter: if root_meter { Some(key("root-meter")?) } else { None } })
    }

    fn put_into(self, genesis: &mut Genesis) {
        genesis.roles = self.roles;
        if let (Some(meter), Some(key)) = (&mut genesis.root_meter, self.root_meter) {
            meter.key = key;
        }
    }
}

fn print(path: &Path, roles: &Path, genesis: &Genesis, output: Output) {
    let chain = genesis.chain().id.hex();
    let delegates: Vec<&str> = genesis.delegates.iter().map(|delegate| delegate.home.as_str()).collect();
    match output {
        Output::Json => out::json(&json!({
            "schema_version": 1,
            "chain": chain,
            "genesis": path,
            "members": genesis.members.len(),
            "delegates": delegates,
        })),
        Output::Text => {
            out::line(&format!("chain      {chain}"));
            out::line(&format!("genesis    {}", path.display()));
            out::line(&format!("members    {}", genesis.members.len()));
            out::line(&format!("delegates  {}", delegates.join(" ")));
        }
    }
    out::note(&format!(
        "warning: {} holds the keys of operator, treasurer and auditor. Hand each to the person who answers for it and \
         delete it here: whoever has all three can move the community's money.",
        roles.display()
    ));
    out::note(
        "Next: give the genesis to every home, which joins with `commonwatt init --data-dir DIR --join FILE`.",
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_follow_the_size_of_the_community() {
        let sizes = [1, 3, 4, 8, 9, 40, 41, 100, 101, 200, 201, 1024];
        assert_eq!(sizes.map(seats), [1, 1, 4, 4, 7, 7, 13, 13, 21, 21, 31, 31]);
    }
}
