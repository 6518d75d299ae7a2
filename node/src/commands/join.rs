//! `commonwatt init --join`: a home takes the community's genesis and its first peers.

use std::ops::Range;
use std::path::Path;

use energy::HomeId;
use ledger::Genesis;
use libp2p::Multiaddr;
use serde_json::json;

use super::init::CONFIG_FILE;
use super::join_card::JoinCard;
use super::{CommandError, files, out};
use crate::cli::{Exit, InitArgs, Output};
use crate::config::document::Document;
use crate::config::{CONFIG_BYTES_MAX, Config};
use crate::genesis_file::{self, GENESIS_BYTES_MAX};
use crate::identity::Identity;

/// Checks that the home belongs to the community, then puts genesis and peers in their place.
///
/// # Errors
/// [`CommandError`], e.g. a wrong key.
pub(super) fn join(
    args: &InitArgs,
    data_dir: &Path,
    home: Option<&HomeId>,
    genesis_path: &Path,
    output: Output,
) -> Result<Exit, CommandError> {
    let config_path = data_dir.join(CONFIG_FILE);
    let config = Config::load(&config_path)?;
    if let Some(home) = home
        && *home != config.home
    {
        let message = format!("{} is the folder of home {}, not of {home}", data_dir.display(), config.home);
        return Err(CommandError::config(message));
    }
    let document = Document::open(genesis_path, GENESIS_BYTES_MAX)?;
    let genesis = genesis_file::read(&document)?;
    let identity = Identity::load(&config.data_dir)?;
    if !args.admitted {
        identity.check_member(&genesis, &config.home)?;
    }
    let peers = gather_peers(args, &config)?;
    put_genesis(&config, document.text(), &genesis)?;
    put_peers(&config_path, &peers)?;
    // Whoever comes later, or with other keys, holds no seat of the founding.
    let own = identity.consensus_public();
    let delegate = genesis.delegates.iter().any(|seat| seat.home == config.home && Some(seat.key) == own);
    print((&config_path, &config), &genesis, (delegate, peers.len()), output);
    Ok(Exit::Ok)
}

/// Peers of the configuration, then those of `--peer` and of the cards, each once and never this home itself.
fn gather_peers(args: &InitArgs, config: &Config) -> Result<Vec<Multiaddr>, CommandError> {
    let mut peers = config.network.peers.clone();
    let mut add = |peer: Multiaddr| {
        if !peers.contains(&peer) {
            peers.push(peer);
        }
    };
    args.peers.iter().cloned().for_each(&mut add);
    for path in &args.cards {
        let card = JoinCard::load(path)?;
        if card.home == config.home.as_str() {
            continue;
        }
        let Some(peer) = &card.peer else {
            let message =
                format!("{} says no address; make it again with --address, or use --peer", path.display());
            return Err(CommandError::config(message));
        };
        add(peer.parse().map_err(|error| {
            CommandError::config(format!("{}: the address {peer:?} cannot be used: {error}", path.display()))
        })?);
    }
    Ok(peers)
}

/// A node serves one chain for good: another genesis is refused, the same one changes nothing.
fn put_genesis(config: &Config, text: &str, genesis: &Genesis) -> Result<(), CommandError> {
    if !config.genesis.exists() {
        return files::create(&config.genesis, text);
    }
    let present = genesis_file::load(&config.genesis)?;
    if present.chain() == genesis.chain() {
        return Ok(());
    }
    Err(CommandError::config(format!(
        "{} is the genesis of another chain ({}, not {}); a data folder serves one chain: use a new one",
        config.genesis.display(),
        present.chain().id.hex(),
        genesis.chain().id.hex()
    )))
}

/// Replaces the value of `network.peers` and leaves every other byte of the file as its owner wrote it.
fn put_peers(path: &Path, peers: &[Multiaddr]) -> Result<(), CommandError> {
    let document = Document::open(path, CONFIG_BYTES_MAX)?;
    let text = with_peers(&document, peers)?;
    if text == document.text() {
        return Ok(());
    }
    Config::read(&Document::of_text(path, &text))?;
    files::replace(path, &text)
}

fn with_peers(document: &Document, peers: &[Multiaddr]) -> Result<String, CommandError> {
    let present = Config::read(document)?.network.peers;
    let mut text = document.text().to_owned();
    if present == peers {
        return Ok(text);
    }
    let lines: String = peers.iter().map(|peer| format!("    \"{peer}\",\n")).collect();
    let array = format!("[\n{lines}]");
    match peers_place(document) {
        Place::Value(span) => text.replace_range(span, &array),
        Place::Section(span) => {
            let end = text[span.end..].find('\n').map_or(text.len(), |end| span.end + end);
            text.insert_str(end, &format!("\npeers = {array}"));
        }
        Place::Nowhere => text.push_str(&format!("\n[network]\npeers = {array}\n")),
    }
    Ok(text)
}

/// Where the peers stand in a configuration file.
enum Place {
    Value(Range<usize>),
    Section(Range<usize>),
    Nowhere,
}

fn peers_place(document: &Document) -> Place {
    let Ok(table) = toml::de::DeTable::parse(document.text()) else { return Place::Nowhere };
    let Some(network) = table.get_ref().get("network") else { return Place::Nowhere };
    let peers = network.get_ref().as_table().and_then(|network| network.get("peers"));
    peers.map_or_else(|| Place::Section(network.span()), |peers| Place::Value(peers.span()))
}

fn print(
    (config_path, config): (&Path, &Config),
    genesis: &Genesis,
    (delegate, peers): (bool, usize),
    output: Output,
) {
    let chain = genesis.chain().id.hex();
    match output {
        Output::Json => out::json(&json!({
            "schema_version": 1,
            "chain": chain,
            "name": genesis.name,
            "home": config.home.as_str(),
            "delegate": delegate,
            "peers": peers,
        })),
        Output::Text => {
            let role = if delegate { "delegate" } else { "member" };
            out::line(&format!("home {} joins {} as {role}", config.home, genesis.name));
            out::line(&format!("chain {chain}, {peers} configured peers"));
        }
    }
    out::note(&format!("Next: commonwatt run --config {}", config_path.display()));
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "/ip4/10.0.0.2/tcp/8470/p2p/12D3KooWNbGStuRvcA1e6mpJaefMhBXvdpL8Zd3YqL7KZQhAGdbD";

    fn with(text: &str) -> String {
        with_peers(&Document::of_text(Path::new("commonwatt.toml"), text), &[PEER.parse().unwrap()]).unwrap()
    }

    #[test]
    fn peers_are_written_and_every_other_byte_stays() {
        let head = "home = \"h1\" # mine\ndata_dir = \".\"\n";
        let array = format!("[\n    \"{PEER}\",\n]");
        assert_eq!(
            with(&format!("{head}[network]\npeers = [] # none yet\nmdns = true\n")),
            format!("{head}[network]\npeers = {array} # none yet\nmdns = true\n")
        );
        assert_eq!(
            with(&format!("{head}[network] # LAN\nmdns = true\n[log]\n")),
            format!("{head}[network] # LAN\npeers = {array}\nmdns = true\n[log]\n")
        );
        assert_eq!(with(head), format!("{head}\n[network]\npeers = {array}\n"));
        let written = with(head);
        assert_eq!(with(&written), written, "a second time changes nothing");
    }
}
