//! What the running node knows right now, shared between its loops and its API.
//!
//! The loops tell [`Live`] what changed; requests take a [`Live::snapshot`]. Nothing here is decided or stored: after
//! a restart the loops tell it again. The last events are kept, so that a listener whose connection broke for a moment
//! misses nothing.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use api::{
    BlockRow, Event, Finality, Flows, LiveInterval, Member, MeterRow, MeterStatus, Meters, NodeNote,
    NumberedEvent, Peer, Power, Relaying, SCHEMA_VERSION, Status, Time,
};
use energy::{HomeId, Interval, Mtu, Timestamp};
use ledger::Ledger;
use tokio::sync::broadcast;

/// How many blocks the finality figures are about.
const FINALITY_BLOCKS: usize = 100;

/// Power older than this is not shown as present (meter research, section 4: offline after 60 s).
const POWER_STALE_MS: u64 = 60_000;

/// How many events are kept for a listener that comes back: at one block a second, about four minutes.
const EVENTS_KEPT: usize = 256;

/// How many of the engine's notes are kept.
const NOTES_KEPT: usize = 512;

/// What stays the same while the node runs.
pub struct About {
    /// Name of the community.
    pub name: String,
    /// The home this node serves.
    pub home: HomeId,
    /// Id of the chain.
    pub chain: [u8; 32],
    /// ISO 4217 code of the settlement currency.
    pub currency: String,
    /// Length of an interval.
    pub mtu: Mtu,
    /// Market seconds per wall second.
    pub speed: u32,
    /// The market clock.
    pub market_time: Box<dyn Fn() -> Timestamp + Send + Sync>,
}

/// The last final block.
#[derive(Debug, Clone, Copy)]
pub struct Head {
    /// Its height; 0 for the genesis.
    pub height: u64,
    /// Its id.
    pub block_id: [u8; 32],
    /// Its market time.
    pub time: Timestamp,
    /// Round it was decided in.
    pub round: u32,
}

/// What a node does in its community.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Role {
    /// True if it is a delegate of the next height.
    pub delegate: bool,
    /// How many delegates there are.
    pub delegates: u32,
    /// True while it fetches blocks that its peers already have.
    pub syncing: bool,
}

/// A listener's view of the events, without gap or overlap between the two parts.
#[derive(Debug)]
pub struct Listening {
    /// Those it missed, as far as they are kept.
    pub missed: Vec<Arc<NumberedEvent>>,
    /// All that follow.
    pub following: broadcast::Receiver<Arc<NumberedEvent>>,
}

/// The shared state. Every method is quick and never blocks on I/O.
pub struct Live {
    about: About,
    state: Mutex<State>,
}

struct State {
    height: u64,
    block_id: String,
    head_time: Timestamp,
    round: u32,
    finality_ms: VecDeque<u64>,
    power: Option<(i64, Instant)>,
    meter: MeterStatus,
    meters: Vec<(MeterRow, Option<Instant>)>,
    flows: Result<Flows, String>,
    peers: Vec<Peer>,
    notices: Vec<String>,
    relaying: Relaying,
    role: Role,
    waiting: Option<String>,
    checkpoint: Option<u64>,
    claim_n: i64,
    reserved_n: i64,
    import_price: Option<i64>,
    member: Option<Member>,
    ledger: Option<Arc<Ledger>>,
    notes: VecDeque<NodeNote>,
    last_id: u64,
    recent: VecDeque<Arc<NumberedEvent>>,
    listeners: Option<broadcast::Sender<Arc<NumberedEvent>>>,
}

impl Live {
    /// The state of a node that has just started: height 0, meter starting, syncing.
    #[must_use]
    pub fn new(about: About) -> Arc<Self> {
        let state = State {
            height: 0,
            block_id: hex::encode(about.chain),
            head_time: Timestamp::EPOCH,
            round: 0,
            finality_ms: VecDeque::new(),
            power: None,
            meter: MeterStatus::default(),
            meters: Vec::new(),
            flows: Err("no meter was read yet".to_owned()),
            peers: Vec::new(),
            notices: Vec::new(),
            relaying: Relaying::default(),
            role: Role { syncing: true, ..Role::default() },
            waiting: None,
            checkpoint: None,
            claim_n: 0,
            reserved_n: 0,
            import_price: None,
            member: None,
            ledger: None,
            notes: VecDeque::new(),
            last_id: 0,
            recent: VecDeque::new(),
            listeners: Some(broadcast::channel(EVENTS_KEPT).0),
        };
        Arc::new(Self { about, state: Mutex::new(state) })
    }

    /// What stays the same.
    #[must_use]
    pub const fn about(&self) -> &About {
        &self.about
    }

    /// ISO 4217 code of the settlement currency.
    #[must_use]
    pub fn currency(&self) -> &str {
        &self.about.currency
    }

    /// Market time now.
    #[must_use]
    pub fn market_time(&self) -> Timestamp {
        (self.about.market_time)()
    }

    /// The head found in the store at start. Later heads come with the [`Event::Block`] that is published.
    pub fn set_head(&self, head: Head) {
        let mut state = self.lock();
        state.height = head.height;
        state.block_id = hex::encode(head.block_id);
        state.head_time = head.time;
        state.round = head.round;
    }

    /// Power at the meter in W, drawn from the grid positive, read at `at`; `None` if it is not known any more.
    pub fn set_power(&self, power_w: Option<i64>, at: Instant) {
        self.lock().power = power_w.map(|w| (w, at));
        if let Some(w) = power_w {
            self.publish(Event::Power(Power { w, age_ms: age_ms(at) }));
        }
    }

    /// How the meter does.
    pub fn set_meter(&self, meter: MeterStatus) {
        self.lock().meter = meter;
    }

    /// One meter of the home, by its name, as it stands; `read` is when its power was.
    pub fn set_meter_row(&self, row: MeterRow, read: Option<Instant>) {
        let mut state = self.lock();
        match state.meters.iter_mut().find(|(known, _)| known.name == row.name) {
            Some(known) => *known = (row, read),
            None => state.meters.push((row, read)),
        }
    }

    /// What flows where in the home, or why that is not known.
    pub fn set_flows(&self, flows: Result<Flows, String>) {
        self.lock().flows = flows;
    }

    /// The meters of the home. Power that is too old to be shown as present is left out.
    #[must_use]
    pub fn meters(&self) -> Meters {
        let state = self.lock();
        let items = state.meters.iter().map(|(row, read)| present(row, *read)).collect();
        let (flows, flows_missing) = match &state.flows {
            Ok(flows) => (Some(*flows), String::new()),
            Err(why) => (None, why.clone()),
        };
        Meters { schema_version: SCHEMA_VERSION, items, flows, flows_missing }
    }

    /// The connected peers; who came and who went is published.
    pub fn set_peers(&self, peers: Vec<Peer>) {
        let before = std::mem::replace(&mut self.lock().peers, peers.clone());
        let missing_in = |others: &[Peer], peer: &Peer| others.iter().all(|other| other.key != peer.key);
        for peer in before.iter().filter(|peer| missing_in(&peers, peer)) {
            self.publish(Event::Peer { up: false, peer: peer.clone() });
        }
        for peer in peers.into_iter().filter(|peer| missing_in(&before, peer)) {
            self.publish(Event::Peer { up: true, peer });
        }
    }

    /// What people should know of the node's connections.
    pub fn set_notices(&self, notices: Vec<String>) {
        self.lock().notices = notices;
    }

    /// Why the node takes no part at present, where it does not; and the height of the checkpoint in use.
    pub fn set_waiting(&self, reason: Option<String>, checkpoint: Option<u64>) {
        let mut state = self.lock();
        (state.waiting, state.checkpoint) = (reason, checkpoint);
    }

    /// Height of the checkpoint in use.
    #[must_use]
    pub fn checkpoint(&self) -> Option<u64> {
        self.lock().checkpoint
    }

    /// That reason.
    #[must_use]
    pub fn waiting(&self) -> Option<String> {
        self.lock().waiting.clone()
    }

    /// Through whom this node is reached, and for whom it is a relay.
    pub fn set_relays(&self, relaying: Relaying) {
        self.lock().relaying = relaying;
    }

    /// What this node does.
    pub fn set_role(&self, role: Role) {
        self.lock().role = role;
    }

    /// What the home owes its supplier and what its orders hold back, in n, as the ledger says after a block.
    pub fn set_obligations(&self, claim_n: i64, reserved_n: i64) {
        let mut state = self.lock();
        state.claim_n = claim_n;
        state.reserved_n = reserved_n;
    }

    /// What a kWh from the home's supplier costs at present, network fees included, µ/kWh.
    pub fn set_import_price(&self, price: Option<i64>) {
        self.lock().import_price = price;
    }

    /// That price; `None` before it is known.
    #[must_use]
    pub fn import_price(&self) -> Option<i64> {
        self.lock().import_price
    }

    /// The home as the ledger knows it after a block.
    pub fn set_member(&self, member: Option<Member>) {
        self.lock().member = member;
    }

    /// The home as the ledger knew it after the last block.
    #[must_use]
    pub fn member(&self) -> Option<Member> {
        self.lock().member.clone()
    }

    /// The ledger after a block.
    pub fn set_ledger(&self, ledger: Ledger) {
        self.lock().ledger = Some(Arc::new(ledger));
    }

    /// The ledger after the last block; `None` before the node has loaded it.
    #[must_use]
    pub fn ledger(&self) -> Option<Arc<Ledger>> {
        self.lock().ledger.clone()
    }

    /// Something the engine noted while it decided `height`; the last 512 are kept.
    pub fn note(&self, height: u64, text: String) {
        let time = Time(self.market_time());
        let mut state = self.lock();
        if state.notes.len() == NOTES_KEPT {
            state.notes.pop_front();
        }
        state.notes.push_back(NodeNote { time, height, text });
    }

    /// The engine's notes between two market times, oldest first.
    #[must_use]
    pub fn notes_between(&self, from: Timestamp, until: Timestamp) -> Vec<NodeNote> {
        let state = self.lock();
        let within = |note: &&NodeNote| (from..=until).contains(&note.time.0);
        state.notes.iter().filter(within).cloned().collect()
    }

    /// Claim and reserves in n.
    #[must_use]
    pub fn obligations(&self) -> (i64, i64) {
        let state = self.lock();
        (state.claim_n, state.reserved_n)
    }

    /// Tells every listener; a block also becomes the head. Totals that members may not see are removed.
    pub fn publish(&self, event: Event) {
        let event = match event {
            Event::Interval(row) => Event::Interval(row.for_members()),
            other => other,
        };
        let mut state = self.lock();
        if let Event::Block(row) = &event {
            state.follow(row);
        }
        state.last_id += 1;
        let event = Arc::new(NumberedEvent { id: state.last_id, event });
        if state.recent.len() == EVENTS_KEPT {
            state.recent.pop_front();
        }
        state.recent.push_back(Arc::clone(&event));
        if let Some(listeners) = &state.listeners {
            // No listener is no error.
            let _ = listeners.send(event);
        }
    }

    /// What a listener gets who has seen events up to number `after`; `None` once the node is stopping. A listener that
    /// never saw one starts now.
    #[must_use]
    pub fn listen(&self, after: Option<u64>) -> Option<Listening> {
        let state = self.lock();
        let following = state.listeners.as_ref()?.subscribe();
        let after = after.unwrap_or(state.last_id);
        let missed = state.recent.iter().filter(|event| event.id > after).cloned().collect();
        Some(Listening { missed, following })
    }

    /// Ends every stream of events: the node is stopping.
    pub fn close(&self) {
        self.lock().listeners = None;
    }

    /// True once the node is stopping: whoever keeps this up to date may end.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.lock().listeners.is_none()
    }

    /// The connected peers.
    #[must_use]
    pub fn peers(&self) -> Vec<Peer> {
        self.lock().peers.clone()
    }

    /// Through whom this node is reached, and for whom it is a relay.
    #[must_use]
    pub fn relays(&self) -> Relaying {
        self.lock().relaying.clone()
    }

    /// Everything at a glance. `last_settled` is not known here but in the store.
    #[must_use]
    pub fn snapshot(&self) -> Status {
        let now = self.market_time();
        let interval = Interval::containing(now, self.about.mtu);
        let state = self.lock();
        Status {
            schema_version: SCHEMA_VERSION,
            name: self.about.name.clone(),
            home: self.about.home.to_string(),
            chain: hex::encode(self.about.chain),
            currency: self.about.currency.clone(),
            market_time: Time(now),
            speed: self.about.speed,
            height: state.height,
            head_time: Time(state.head_time),
            block_id: state.block_id.clone(),
            round: state.round,
            syncing: state.role.syncing,
            delegate: state.role.delegate,
            delegates: state.role.delegates,
            interval: LiveInterval { start: Time(interval.start()), end: Time(interval.end()) },
            last_settled: None,
            finality: finality(&state.finality_ms),
            power: state.power.map(|(w, at)| Power { w, age_ms: age_ms(at) }),
            meter: state.meter.clone(),
            peers: u32::try_from(state.peers.len()).unwrap_or(u32::MAX),
            notices: state.notices.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// The state holds whole values only, so it is usable even if another thread panicked while it held the lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").field("home", &self.about.home).finish_non_exhaustive()
    }
}

impl State {
    fn follow(&mut self, row: &BlockRow) {
        self.height = row.height;
        self.block_id.clone_from(&row.id);
        self.head_time = row.time.0;
        self.round = row.round;
        if self.finality_ms.len() == FINALITY_BLOCKS {
            self.finality_ms.pop_front();
        }
        self.finality_ms.push_back(row.finality_ms);
    }
}

fn age_ms(at: Instant) -> u64 {
    u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// A meter's row with the age of its power; without the power if that is not present any more.
fn present(row: &MeterRow, read: Option<Instant>) -> MeterRow {
    let age = read.map(age_ms);
    let power_w = row.power_w.filter(|_| age.is_some_and(|age| age <= POWER_STALE_MS));
    MeterRow { power_w, age_ms: age, ..row.clone() }
}

/// Percentiles by nearest rank: the smallest value that is not exceeded by the given share.
fn finality(samples: &VecDeque<u64>) -> Option<Finality> {
    let mut sorted: Vec<u64> = samples.iter().copied().collect();
    sorted.sort_unstable();
    let rank = |percent: usize| sorted.get((sorted.len() * percent).div_ceil(100).checked_sub(1)?).copied();
    Some(Finality { p50_ms: rank(50)?, p99_ms: rank(99)?, blocks: u32::try_from(sorted.len()).ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live() -> Arc<Live> {
        Live::new(About {
            name: "Lane East".to_owned(),
            home: HomeId::new("h001").unwrap(),
            chain: [7; 32],
            currency: "CNY".to_owned(),
            mtu: Mtu::Min15,
            speed: 720,
            market_time: Box::new(|| Timestamp::parse("2016-06-13T12:20:00Z").unwrap()),
        })
    }

    fn block(height: u64, finality_ms: u64) -> Event {
        let time = Time::from_unix_ms(height * 1_000);
        Event::Block(BlockRow { height, id: "ab".repeat(32), time, round: 1, entries: 3, finality_ms })
    }

    fn peer(key: &str) -> Peer {
        let connected_since = Time::from_unix_ms(0);
        Peer { home: None, key: key.to_owned(), address: String::new(), connected_since, rtt_ms: None }
    }

    #[test]
    fn a_published_block_is_the_new_head_and_counts_in_the_finality() {
        let live = live();
        assert_eq!(live.snapshot().finality, None);
        for height in 1..=200 {
            live.publish(block(height, height));
        }
        let status = live.snapshot();
        assert_eq!((status.height, status.round), (200, 1));
        // The last hundred blocks took 101 … 200 ms.
        assert_eq!(status.finality, Some(Finality { p50_ms: 150, p99_ms: 199, blocks: 100 }));
        assert_eq!(status.interval.start.to_string(), "2016-06-13T12:15:00Z");
    }

    #[test]
    fn a_listener_that_comes_back_gets_what_it_missed_once() {
        let live = live();
        (1..=300).for_each(|height| live.publish(block(height, 1)));
        let mut listening = live.listen(Some(298)).unwrap();
        assert_eq!(listening.missed.iter().map(|event| event.id).collect::<Vec<_>>(), [299, 300]);
        live.publish(block(301, 1));
        assert_eq!(listening.following.try_recv().unwrap().id, 301);
        let kept = live.listen(Some(0)).unwrap().missed;
        assert_eq!((kept.len(), kept[0].id), (EVENTS_KEPT, 46));
        assert!(live.listen(None).unwrap().missed.is_empty(), "a new listener starts now");
        assert!(!live.is_closed());
        live.close();
        assert!(live.is_closed() && live.listen(None).is_none());
        assert!(matches!(listening.following.try_recv(), Err(broadcast::error::TryRecvError::Closed)));
    }

    #[test]
    fn who_came_and_who_went_is_told() {
        let live = live();
        live.set_peers(vec![peer("a"), peer("b")]);
        live.set_peers(vec![peer("b"), peer("c")]);
        let events = live.listen(Some(0)).unwrap().missed;
        let told: Vec<_> = events
            .iter()
            .map(|event| match &event.event {
                Event::Peer { up, peer } => (*up, peer.key.as_str()),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(told, [(true, "a"), (true, "b"), (false, "a"), (true, "c")]);
        assert_eq!(live.snapshot().peers, 2);
    }

    #[test]
    fn power_of_a_meter_that_went_silent_is_left_out_and_never_shown_as_present() {
        let live = live();
        let row = MeterRow { name: "pv".to_owned(), power_w: Some(4_200), ..MeterRow::default() };
        live.set_meter_row(row.clone(), Some(Instant::now()));
        assert_eq!(live.meters().items[0].power_w, Some(4_200));
        let then = Instant::now().checked_sub(std::time::Duration::from_secs(61)).unwrap();
        live.set_meter_row(row, Some(then));
        let meters = live.meters();
        assert_eq!((meters.items.len(), meters.items[0].power_w), (1, None));
        assert!(meters.items[0].age_ms.unwrap() >= 61_000);
        assert_eq!(meters.flows_missing, "no meter was read yet");
    }

    #[test]
    fn power_has_an_age_and_can_become_unknown() {
        let live = live();
        let then = Instant::now().checked_sub(std::time::Duration::from_secs(5)).unwrap();
        live.set_power(Some(-420), then);
        let power = live.snapshot().power.unwrap();
        assert_eq!(power.w, -420);
        assert!((5_000..60_000).contains(&power.age_ms), "{}", power.age_ms);
        live.set_power(None, Instant::now());
        assert_eq!(live.snapshot().power, None);
    }
}
