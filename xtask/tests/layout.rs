//! What the layout promises, read off the dependency graph: the crates that decide money are pure, and imports point
//! one way.
#![expect(clippy::panic, reason = "a test that cannot look must fail")]

use std::collections::BTreeSet;
use std::process::Command;

/// Crates that decide money: the same answer on every node, so nothing that could differ may be linked in.
const PURE: [&str; 3] = ["energy", "market", "ledger"];

/// Sockets, files, clocks, randomness, runtimes, threads, databases, and unordered maps of their own.
const IMPURE: [&str; 23] = [
    "tokio",
    "async-std",
    "smol",
    "mio",
    "socket2",
    "libp2p",
    "hyper",
    "reqwest",
    "axum",
    "rusqlite",
    "libsqlite3-sys",
    "getrandom",
    "rand",
    "rand_core",
    "rand_chacha",
    "fastrand",
    "rustix",
    "nix",
    "iana-time-zone",
    "time",
    "rayon",
    "crossbeam-utils",
    "hashbrown",
];

/// Our own crates, each with those of ours it may import (the arrows of ARCHITECTURE.md, closed).
const MAY_IMPORT: [(&str, &[&str]); 14] = [
    ("energy", &[]),
    ("market", &["energy"]),
    ("ledger", &["energy", "market"]),
    ("consensus", &["energy", "market", "ledger"]),
    ("agent", &["energy", "market"]),
    ("sim", &["energy", "market", "ledger", "consensus", "agent"]),
    ("meter", &["energy"]),
    ("api", &["energy"]),
    ("tui", &["energy", "api"]),
    ("node", &["energy", "market", "ledger", "consensus", "agent", "sim", "meter", "api", "tui"]),
    ("faults", &["energy", "market", "ledger", "meter", "api"]),
    ("corpus", &["energy", "market", "ledger", "consensus", "agent", "sim", "meter", "api", "tui", "node"]),
    ("model", &["energy", "market", "ledger"]),
    ("xtask", &[]),
];

/// Names (with features, if `format` asks for them) of everything `package` links outside its tests.
fn linked_by(package: &str, format: &str) -> BTreeSet<String> {
    let arguments = ["tree", "--locked", "-e", "normal", "--prefix", "none", "-p", package, "-f", format];
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .unwrap_or_else(|error| panic!("cargo tree cannot be run: {error}"));
    assert!(output.status.success(), "cargo tree failed: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().map(|line| line.replace(" (*)", "")).filter(|line| !line.is_empty()).collect()
}

fn names_linked_by(package: &str) -> BTreeSet<String> {
    let name = |line: String| line.split_whitespace().next().unwrap_or_default().to_owned();
    linked_by(package, "{p}").into_iter().map(name).collect()
}

#[test]
fn crates_that_decide_money_link_no_io_clock_randomness_or_runtime() {
    for package in PURE {
        let linked = names_linked_by(package);
        assert!(linked.contains("thiserror"), "the graph of {package} was not read: {linked:?}");
        let leaked: Vec<_> = IMPURE.into_iter().filter(|name| linked.contains(*name)).collect();
        assert!(leaked.is_empty(), "{package} must stay pure but links {leaked:?}");
    }
}

#[test]
fn chrono_has_no_clock_where_money_is_decided() {
    for package in PURE {
        for line in linked_by(package, "{p} {f}") {
            let clock = line.split([' ', ',']).any(|feature| matches!(feature, "clock" | "now" | "std"));
            assert!(!(line.starts_with("chrono ") && clock), "{package} links {line}");
        }
    }
}

#[test]
fn imports_between_our_crates_point_one_way() {
    for (package, allowed) in MAY_IMPORT {
        let ours = MAY_IMPORT.map(|(name, _)| name);
        let linked = names_linked_by(package);
        let wrong: Vec<_> = ours
            .into_iter()
            .filter(|name| *name != package && linked.contains(*name) && !allowed.contains(name))
            .collect();
        assert!(wrong.is_empty(), "{package} must not import {wrong:?}");
    }
}

#[test]
fn the_tree_the_rules_are_read_from_names_every_crate() {
    let members = MAY_IMPORT.map(|(name, _)| name).into_iter().collect::<BTreeSet<_>>();
    let manifest = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        .unwrap_or_else(|error| panic!("the manifest cannot be read: {error}"));
    let line = manifest.lines().find(|line| line.starts_with("members = "));
    let listed: BTreeSet<_> = line.unwrap_or_default().split('"').skip(1).step_by(2).collect();
    assert_eq!(listed, members);
}
