//! Asks the nodes, each on its own so that a slow one delays no other.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use api::{Client, ClientError, ForwardMode, Time};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::market::Market;
use crate::model::Answer;
use crate::neighbourhood::Target;

/// How often a node is asked.
const PERIOD: Duration = Duration::from_secs(1);

/// How many settled intervals are shown at most.
const INTERVALS: u32 = 40;

/// How often a node is asked what is traded ahead: gates close minutes apart, on a faster clock seconds.
const MARKET_PERIOD: Duration = Duration::from_secs(5);

/// How many gates are shown at most.
const GATES: u32 = 40;

/// What came of asking the node at an index.
pub type Polled = (usize, Result<Answer, String>);

/// Asks every node again and again until the receiver is dropped. `leader` is the index of the node that is asked
/// about the whole community.
pub fn start(targets: Vec<Target>, leader: &Arc<AtomicUsize>, sender: &mpsc::Sender<Polled>) {
    for (index, target) in targets.into_iter().enumerate() {
        tokio::spawn(follow(index, target, Arc::clone(leader), sender.clone()));
    }
}

async fn follow(index: usize, target: Target, leader: Arc<AtomicUsize>, sender: mpsc::Sender<Polled>) {
    let mut seen = Seen::default();
    let mut period = tokio::time::interval(PERIOD);
    period.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        period.tick().await;
        let leads = leader.load(Ordering::Relaxed) == index;
        let answer = ask(&target, &mut seen, leads).await.map_err(|error| error.to_string());
        if answer.is_err() {
            // It may come back with another day.
            seen = Seen::default();
        }
        if sender.send((index, answer)).await.is_err() {
            return;
        }
    }
}

/// The last settled interval for which the day and the intervals were fetched; they change only with it.
#[derive(Default)]
pub struct Seen {
    day: Option<Option<Time>>,
    intervals: Option<Option<Time>>,
    market: Option<Instant>,
}

/// Asks one node once: what changes all the time always, the rest only if an interval was settled since.
pub async fn ask(target: &Target, seen: &mut Seen, leads: bool) -> Result<Answer, ClientError> {
    let status = target.client.status().await?;
    let settled = status.last_settled;
    let mut answer = Answer { status, today: None, intervals: None, market: None };
    if seen.day != Some(settled) {
        answer.today = Some(target.client.today(false).await?);
        seen.day = Some(settled);
    }
    if leads && seen.intervals != Some(settled) {
        answer.intervals = Some(target.client.intervals(INTERVALS, None).await?.items);
        seen.intervals = Some(settled);
    }
    if seen.market.is_none_or(|asked| asked.elapsed() >= MARKET_PERIOD) {
        answer.market = market(&target.client).await?.map(Box::new);
        seen.market = Some(Instant::now());
    }
    Ok(answer)
}

/// What is traded ahead; `None` while the node has not loaded its ledger, or its home is not on it.
async fn market(client: &Client) -> Result<Option<Market>, ClientError> {
    let rules = match client.market_rules(1).await {
        Ok(rules) => rules,
        Err(ClientError::Refused { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut market = Market { rules, positions: vec![], breaches: vec![], gates: vec![], envelopes: vec![] };
    if market.rules.forward == ForwardMode::Off {
        return Ok(Some(market));
    }
    let history = client.market_history(1, GATES, None).await?;
    (market.gates, market.breaches) = (history.gates, history.breaches);
    market.positions = client.market_book(None).await?.positions;
    if let Some(newest) = market.newest() {
        market.envelopes = client.market_curve(Some(newest)).await?.envelopes;
    }
    Ok(Some(market))
}
