//! `commonwatt market`: the market of a running node through its API.

pub mod args;
mod show;

use std::time::Duration;

use api::{CancelRequest, Client, EntryState, OrderEntry, OrderRequest};
use serde_json::json;

use self::args::{CancelArgs, FollowArgs, MarketCommand, NodeArgs, OrderArgs};
use super::status::{address, refused};
use super::{CommandError, out};
use crate::cli::{Exit, Output, StatusArgs};
use crate::identity::fresh_salt;

/// How often a waiting command asks whether a block holds its entry.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// Asks the node and prints what it says.
///
/// # Errors
/// [`CommandError`], with its own exit code if nobody answers.
pub(crate) async fn market(command: MarketCommand, output: Output) -> Result<Exit, CommandError> {
    match command {
        MarketCommand::Rules(args) => {
            let rules =
                client(&args.node)?.market_rules(args.hours).await.map_err(|error| refused(&error))?;
            print(output, &json!(rules), || show::rules(&rules))
        }
        MarketCommand::Book(args) => {
            let book =
                client(&args.node)?.market_book(args.interval).await.map_err(|error| refused(&error))?;
            print(output, &json!(book), || show::book(&book))
        }
        MarketCommand::Curve(args) => {
            let asked = client(&args.node)?.market_curve(args.interval).await;
            let curve = asked.map_err(|error| refused(&error))?;
            print(output, &json!(curve), || show::curve(&curve))
        }
        MarketCommand::History(args) => {
            let asked = client(&args.node)?.market_history(args.days, args.limit, None).await;
            let history = asked.map_err(|error| refused(&error))?;
            print(output, &json!(history), || show::history(&history))
        }
        MarketCommand::Order(args) => order(args, output).await,
        MarketCommand::Cancel(args) => cancel(args, output).await,
    }
}

fn print(
    output: Output,
    value: &serde_json::Value,
    text: impl FnOnce() -> Vec<String>,
) -> Result<Exit, CommandError> {
    match output {
        Output::Json => out::json(value),
        Output::Text => text().iter().for_each(|line| out::line(line)),
    }
    Ok(Exit::Ok)
}

fn client(node: &NodeArgs) -> Result<Client, CommandError> {
    let NodeArgs { connect, token_file, config } = node.clone();
    let (url, token) = address(&StatusArgs { connect, token_file, config, page: false })?;
    Client::new(&url, &token).map_err(|error| refused(&error))
}

async fn order(args: OrderArgs, output: Output) -> Result<Exit, CommandError> {
    let client = client(&args.node)?;
    let request = OrderRequest {
        request_id: request_id(&args.follow)?,
        interval: args.interval,
        side: args.side.side(),
        price: args.price,
        quantity_wh: args.quantity,
        replaces: args.replace,
    };
    let entry = client.order(&request).await.map_err(|error| refused(&error))?;
    follow(&client, entry, &args.follow, output).await
}

async fn cancel(args: CancelArgs, output: Output) -> Result<Exit, CommandError> {
    let client = client(&args.node)?;
    let request = CancelRequest { request_id: request_id(&args.follow)?, order: args.order };
    let entry = client.cancel(&request).await.map_err(|error| refused(&error))?;
    follow(&client, entry, &args.follow, output).await
}

/// As given, or one that nobody used before.
fn request_id(follow: &FollowArgs) -> Result<String, CommandError> {
    match &follow.request_id {
        Some(id) => Ok(id.clone()),
        None => Ok(format!("cli-{}", hex::encode(fresh_salt()?.0))),
    }
}

/// Waits for the block if asked to, and prints how far the entry is.
async fn follow(
    client: &Client,
    mut entry: OrderEntry,
    follow: &FollowArgs,
    output: Output,
) -> Result<Exit, CommandError> {
    let asks = follow.wait.map_or(0, |seconds| seconds.saturating_mul(2));
    for _ in 0..asks {
        if entry.state != EntryState::Pending {
            break;
        }
        tokio::time::sleep(ASK_EVERY).await;
        let now = client.market_entry(&entry.request_id).await.map_err(|error| refused(&error))?;
        entry = now.unwrap_or(entry);
    }
    let refused = entry.state == EntryState::Refused;
    print(output, &json!(entry), || vec![show::entry(&entry), format!("request {}", entry.request_id)])?;
    Ok(if refused { Exit::Failed } else { Exit::Ok })
}
