//! `commonwatt init` on a device: keys, token, configuration and join card of one home.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use energy::HomeId;
use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use meter::{Endpoint, HostPort};
use serde_json::json;

use super::join_card::{CardMeter, JoinCard};
use super::{CommandError, files, found, join, out};
use crate::cli::{CardArgs, Exit, InitArgs, Output};
use crate::config::document::Document;
use crate::config::{Config, SAMPLE};
use crate::identity::{self, Identity};

/// The configuration file in a data folder that `init` made.
pub(super) const CONFIG_FILE: &str = "commonwatt.toml";
/// The join card in a data folder.
pub(super) const CARD_FILE: &str = "join.json";
/// The profile of a meter nobody named: the most common of those the program knows.
const PROFILE: &str = "eastron-sdm630";

/// Does the step of founding that the arguments ask for.
///
/// # Errors
/// [`CommandError`].
pub(super) fn init(args: &InitArgs, output: Output) -> Result<Exit, CommandError> {
    if args.found.found {
        return found::found(args, output);
    }
    let data_dir = args.data_dir.as_deref().unwrap_or(Path::new("."));
    match (&args.join, &args.home) {
        (Some(genesis), home) => join::join(args, data_dir, home.as_ref(), genesis, output),
        (None, Some(home)) => make_home(home, data_dir, &args.card),
        (None, None) => {
            Err(CommandError::Other { exit: Exit::Usage, message: "--home is missing".to_owned() })
        }
    }
}

fn make_home(home: &HomeId, data_dir: &Path, args: &CardArgs) -> Result<Exit, CommandError> {
    identity::make_private_dir(data_dir)?;
    let config = make_config(home, data_dir, args)?;
    let identity = Identity::create(data_dir)?;
    let card = make_card(&config, data_dir, args, &identity)?;
    print_home(&card, data_dir);
    Ok(Exit::Ok)
}

/// A configuration in `data_dir`, unless there is one, which must be of the same home.
fn make_config(home: &HomeId, data_dir: &Path, args: &CardArgs) -> Result<Config, CommandError> {
    let path = data_dir.join(CONFIG_FILE);
    if !path.exists() {
        let text = config_text(home, args);
        // Checked before it is written: an address on the command line can be wrong too.
        Config::read(&Document::of_text(&path, &text))?;
        files::create(&path, &text)?;
    }
    let config = Config::load(&path)?;
    if config.home != *home {
        let message = format!(
            "{} is the folder of home {}, not of {home}; name another --data-dir",
            data_dir.display(),
            config.home
        );
        return Err(CommandError::config(message));
    }
    refuse_other(&path, &config, args)?;
    Ok(config)
}

/// A configuration belongs to its owner once it is written: what is said again must be what it says.
fn refuse_other(path: &Path, config: &Config, args: &CardArgs) -> Result<(), CommandError> {
    let meter = config.meter.as_ref();
    let same_address = args.meter_address.as_ref().is_none_or(|said| {
        meter.is_some_and(|meter| {
            let usual = HostPort { host: said.clone(), port: meter.profile.bus().port };
            meter.endpoint == Endpoint::Tcp(said.parse().unwrap_or(usual))
        })
    });
    // Without [meter] the profile stands on the card alone.
    let profile = meter.and(args.meter_profile.as_deref());
    let same_profile = profile.is_none_or(|said| meter.is_some_and(|meter| meter.profile.name() == said));
    let other = [
        (same_address, "--meter-address", "[meter] address"),
        (same_profile, "--meter-profile", "[meter] profile"),
        (args.api_listen.is_none_or(|said| said == config.api.listen), "--api-listen", "[api] listen"),
    ];
    match other.into_iter().find(|(same, ..)| !same) {
        None => Ok(()),
        Some((_, option, key)) => Err(CommandError::config(format!(
            "{} exists and has no such {key} as {option} says; edit it there, then run this again without {option}",
            path.display()
        ))),
    }
}

/// The commented sample with this home's values in it.
fn config_text(home: &HomeId, args: &CardArgs) -> String {
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let mut text = SAMPLE
        .replace("home = \"h001\"", &format!("home = \"{home}\""))
        .replace("data_dir = \"data\"", "data_dir = \".\"");
    if let Some(listen) = args.api_listen {
        text = text.replace("\"127.0.0.1:8480\"", &format!("\"{listen}\""));
    }
    if let Some(port) = args.address.as_ref().and_then(tcp_port) {
        text = text.replace("/tcp/8470", &format!("/tcp/{port}"));
    }
    if let Some(address) = &args.meter_address {
        let profile = args.meter_profile.as_deref().unwrap_or(PROFILE);
        let sample = "#[meter]\n#address = \"192.168.1.20:502\"\n#unit = 1\n#profile = \"eastron-sdm630\"\n#timeout_ms = 500\n";
        let section = format!("[meter]\naddress = {}\nprofile = {}\n", quoted(address), quoted(profile));
        text = text.replace(sample, &section);
    }
    text
}

fn tcp_port(address: &Multiaddr) -> Option<u16> {
    address.iter().find_map(|part| match part {
        Protocol::Tcp(port) => Some(port),
        _ => None,
    })
}

/// Writes the card anew from the keys; what was said in an earlier run and is not said now stays.
fn make_card(
    config: &Config,
    data_dir: &Path,
    args: &CardArgs,
    identity: &Identity,
) -> Result<JoinCard, CommandError> {
    let path = data_dir.join(CARD_FILE);
    let earlier = if path.exists() { Some(JoinCard::load(&path)?) } else { None };
    let said = args.meter_profile.as_deref();
    let profile = said.or(earlier.as_ref().map(|card| card.meter.profile.as_str())).unwrap_or(PROFILE);
    let profile = find_profile(&config.catalog, profile)?;
    let mut card = JoinCard::new(&config.home, identity, &profile);
    if let Some(earlier) = earlier {
        (card.owner, card.node, card.peer) = (earlier.owner, earlier.node, earlier.peer);
        card.meter.serial = earlier.meter.serial;
    }
    if let Some(owner) = &args.owner {
        card.owner.clone_from(owner);
    }
    if let Some(node) = &args.node {
        card.node = Some(node.to_string());
    }
    if let Some(serial) = &args.meter_serial {
        card.meter = CardMeter::of(&profile, Some(serial));
    }
    if let Some(address) = &args.address {
        card.set_address(address, &identity.keys().network)?;
    }
    files::replace(&path, &format!("{:#}\n", json!(card)))?;
    Ok(card)
}

fn find_profile(catalog: &meter::Catalog, name: &str) -> Result<Arc<meter::Profile>, CommandError> {
    catalog.get(name).ok_or_else(|| {
        let meant = catalog.nearest(name).map(|name| format!("did you mean {name:?}? ")).unwrap_or_default();
        CommandError::config(format!(
            "there is no meter profile {name:?}; {meant}`commonwatt meter profiles` lists them"
        ))
    })
}

fn print_home(card: &JoinCard, data_dir: &Path) {
    let path: PathBuf = data_dir.join(CARD_FILE);
    // The card itself is the data: it can be piped to whoever founds the community.
    out::json(&json!(card));
    out::note(&format!("The join card of home {} is in {}.", card.home, path.display()));
    if card.meter.serial.is_none() {
        out::note("It has no meter serial yet: run the same command again with --meter-serial.");
    }
    out::note(&format!(
        "Back up {}: whoever has it is this home. Next: give the card to those who found the community, then\n  \
         commonwatt init --data-dir {} --join genesis.toml",
        data_dir.join(identity::SEED_FILE).display(),
        data_dir.display()
    ));
}
