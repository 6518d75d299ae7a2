//! `commonwatt status`: one look at a running node through its API.

use std::path::Path;

use api::{Balance, Client, ClientError, Holdings, Peers, Status};
use serde_json::json;

use super::{CommandError, files, out};
use crate::bill::figures;
use crate::cli::{Exit, Output, StatusArgs};
use crate::config::Config;
use crate::identity::Identity;

/// No token file is longer, in bytes.
const TOKEN_BYTES_MAX: u64 = 1024;

/// Asks the node and prints what it says.
///
/// # Errors
/// [`CommandError`], with its own exit code if nobody answers.
pub(super) async fn status(args: StatusArgs, output: Output) -> Result<Exit, CommandError> {
    let (url, token) = address(&args)?;
    if args.page {
        print_page(&url, &token, output);
        return Ok(Exit::Ok);
    }
    let client = Client::new(&url, &token).map_err(|error| refused(&error))?;
    let status = client.status().await.map_err(|error| refused(&error))?;
    // A home without an account, or a database that is busy, is no reason not to show the rest.
    let balance = client.balance().await.ok();
    let holdings = client.holdings().await.ok();
    let peers = client.peers().await.ok();
    match output {
        Output::Json => {
            let mut shown = json!(status);
            shown["balance"] = json!(balance);
            shown["holdings"] = json!(holdings);
            shown["relaying"] = json!(peers.as_ref().map(|peers| &peers.relaying));
            shown["relayed"] = json!(peers.as_ref().map(relayed));
            out::json(&shown);
        }
        Output::Text => {
            print(&status);
            peers.iter().for_each(print_relaying);
            balance.iter().for_each(print_balance);
            holdings.iter().for_each(print_holdings);
        }
    }
    Ok(if status.syncing { Exit::NotReady } else { Exit::Ok })
}

/// The link opens the page, so it is only printed when it is asked for, and never logged.
fn print_page(url: &str, token: &str, output: Output) {
    let link = format!("{}/?token={token}", url.trim_end_matches('/'));
    match output {
        Output::Json => out::json(&json!({ "schema_version": 1, "page": link })),
        Output::Text => out::line(&link),
    }
}

/// What a node's refusal or silence means for the exit code.
pub(super) fn refused(error: &ClientError) -> CommandError {
    let exit = match error {
        ClientError::Unreachable { .. } => Exit::Unreachable,
        ClientError::BadAddress { .. } => Exit::Usage,
        _ => Exit::Failed,
    };
    CommandError::Other { exit, message: error.to_string() }
}

/// Address and token of the API that `args` name.
pub(super) fn address(args: &StatusArgs) -> Result<(String, String), CommandError> {
    if let Some(path) = &args.config {
        let config = Config::load(path)?;
        let identity = Identity::load(&config.data_dir)?;
        return Ok((local_url(config.api.listen), identity.api_token().to_owned()));
    }
    let token =
        files::read_text(args.token_file.as_deref().unwrap_or(Path::new("api.token")), TOKEN_BYTES_MAX)?;
    Ok((args.connect.clone().unwrap_or_default(), token.trim().to_owned()))
}

/// How a program on this machine reaches an API that listens at `listen`.
fn local_url(mut listen: std::net::SocketAddr) -> String {
    if listen.ip().is_unspecified() {
        let local: std::net::IpAddr = if listen.is_ipv4() {
            std::net::Ipv4Addr::LOCALHOST.into()
        } else {
            std::net::Ipv6Addr::LOCALHOST.into()
        };
        listen.set_ip(local);
    }
    format!("http://{listen}")
}

fn print(status: &Status) {
    let role = if status.delegate { "delegate" } else { "member" };
    let power = status.power.as_ref().map_or_else(
        || "never read".to_owned(),
        |power| {
            format!(
                "{} W, {:.1} s ago",
                power.w,
                std::time::Duration::from_millis(power.age_ms).as_secs_f32()
            )
        },
    );
    let finality = status.finality.map_or_else(
        || "no block yet".to_owned(),
        |finality| {
            format!("p50 {} ms, p99 {} ms over {} blocks", finality.p50_ms, finality.p99_ms, finality.blocks)
        },
    );
    let sync = if status.syncing { ", syncing" } else { "" };
    let rows = [
        ("community", format!("{} (chain {})", status.name, status.chain)),
        ("home", format!("{}, {role}; delegates: {}", status.home, status.delegates)),
        ("market time", format!("{} (speed {})", status.market_time, status.speed)),
        ("height", format!("{} at {}{sync}", status.height, status.head_time)),
        ("finality", finality),
        ("power", power),
        ("peers", status.peers.to_string()),
        ("version", status.version.clone()),
    ];
    rows.iter().for_each(|(name, value)| out::line(&format!("{name:<12} {value}")));
    status.notices.iter().for_each(|notice| out::line(&format!("{:<12} {notice}", "notice")));
}

/// The homes to which the way leads through a relay.
fn relayed(peers: &Peers) -> Vec<&str> {
    let through = peers.items.iter().filter(|peer| peer.address.contains("/p2p-circuit"));
    through.map(|peer| peer.home.as_deref().unwrap_or("unknown member")).collect()
}

/// Nothing where no relay plays a part.
fn print_relaying(peers: &Peers) {
    let relayed = relayed(peers);
    if !relayed.is_empty() {
        out::line(&format!("{:<12} {}", "relayed", relayed.join(", ")));
    }
    for relay in &peers.relaying.relays {
        let name = relay.home.as_deref().unwrap_or("unknown member");
        let state = if relay.reserved { "takes connections for this home" } else { "NOT AVAILABLE" };
        out::line(&format!("{:<12} {name}: {state}", "relay"));
    }
    if let Some(serving) = peers.relaying.serving {
        let (homes, circuits) = (serving.homes, serving.circuits);
        out::line(&format!("{:<12} for {homes} homes, {circuits} connections passed on", "is a relay"));
    }
}

fn print_balance(balance: &Balance) {
    let lasts = balance.days_left.map_or(String::new(), |days| format!(", days left at recent use: {days}"));
    let low = if balance.low { "; LOW: time for a deposit" } else { "" };
    let shown = figures::exact(balance.balance_n.into());
    out::line(&format!("{:<12} {shown} {}{lasts}{low}", "balance", balance.currency));
}

/// What the node holds of the chain, where that is not everything, and what it waits for.
fn print_holdings(holdings: &Holdings) {
    for line in holdings_lines(holdings) {
        out::line(&line);
    }
}

fn holdings_lines(holdings: &Holdings) -> Vec<String> {
    let mut lines = Vec::new();
    let mut say = |name: &str, value: String| lines.push(format!("{name:<12} {value}"));
    if holdings.bodies_from > 1 {
        let joined = holdings.joined;
        let joined =
            if joined > 0 { format!("; began with the state after block {joined}") } else { String::new() };
        say(
            "holds",
            format!(
                "whole blocks from {}, of those before its own and public parts{joined}",
                holdings.bodies_from
            ),
        );
    }
    if let Some(coming) = holdings.coming_rules {
        let missing =
            if coming > holdings.known_rules { "; this program does not have them: update it" } else { "" };
        say(
            "rules",
            format!(
                "{} now, {coming} may be in force from the next epoch on{missing}",
                holdings.rule_version
            ),
        );
    }
    if let Some(reason) = &holdings.waiting {
        say("WAITS", reason.clone());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_node_holds_and_waits_for_is_said_where_there_is_something_to_say() {
        let mut holdings = Holdings {
            schema_version: 1,
            bodies_from: 1,
            certificates_from: 1,
            joined: 0,
            snapshots: vec![500],
            rule_version: 4,
            coming_rules: None,
            known_rules: 4,
            checkpoint: None,
            waiting: None,
        };
        assert!(holdings_lines(&holdings).is_empty());
        (holdings.bodies_from, holdings.joined, holdings.coming_rules) = (501, 500, Some(5));
        holdings.waiting = Some("for a checkpoint".to_owned());
        let lines = holdings_lines(&holdings);
        assert!(lines[0].ends_with("whole blocks from 501, of those before its own and public parts; began with the state after block 500"));
        assert!(lines[1].ends_with(
            "4 now, 5 may be in force from the next epoch on; this program does not have them: update it"
        ));
        assert_eq!(lines[2], "WAITS        for a checkpoint");
    }

    #[test]
    fn an_api_on_every_interface_is_asked_on_this_machine() {
        assert_eq!(local_url("0.0.0.0:8480".parse().unwrap()), "http://127.0.0.1:8480");
        assert_eq!(local_url("[::]:8480".parse().unwrap()), "http://[::1]:8480");
        assert_eq!(local_url("192.168.1.10:80".parse().unwrap()), "http://192.168.1.10:80");
    }
}
