//! Every bound of the network in one place: sizes, queues, windows, rates and times, each with its reason.

use std::time::{Duration, Instant};

/// Longest gossiped message in bytes. Callers frame several entries into one message up to this size.
pub const GOSSIP_BYTES_MAX: usize = 64 * 1024;

/// Longest direct message in bytes: 1.1 MiB, a full block of 1 MiB with its proposal around it.
pub const DIRECT_BYTES_MAX: usize = 1_153_433;

/// Longest request of the sync protocol in bytes: a height and a few numbers.
pub const REQUEST_BYTES_MAX: usize = 4 * 1024;

/// Longest answer of the sync protocol in bytes: three full blocks with certificates, or a snapshot part.
pub const RESPONSE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Room for the gossip codec, whose limit counts one whole transmission and, in libp2p-gossipsub 0.50, also what is
/// already buffered of the next one (up to 8 KiB): without it two long messages in a row would end the stream.
pub(super) const GOSSIP_OVERHEAD: usize = 16 * 1024;

/// Gossip and requests waiting for the network task: 256 of at most 64 KiB are 16 MiB. Full: `gossip` waits,
/// `try_gossip` and `request` refuse.
pub(super) const COMMANDS_MAX: usize = 256;

/// Events handed to the receiver but not yet taken. Short, because what waits here is no longer counted in bytes.
pub(super) const EVENTS_MAX: usize = 64;

/// Events waiting for room at the receiver: a few seconds of a neighbourhood at full load. Full: the newest is
/// dropped and counted, since older ones were already acknowledged to their senders.
pub(super) const INBOX_EVENTS_MAX: usize = 8192;

/// Bytes of the events waiting for room at the receiver.
pub(super) const INBOX_BYTES_MAX: usize = 24 * 1024 * 1024;

/// Direct messages waiting for one peer. Full: the oldest are dropped and counted, because in consensus a newer
/// message makes an older one worthless, and what matters is sent again.
pub(super) const OUTBOX_MESSAGES_MAX: usize = 4096;

/// Bytes of the direct messages waiting for one peer: seven full blocks.
pub(super) const OUTBOX_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Frames on the way to one peer without acknowledgement. Beyond it messages wait and travel together.
pub(super) const DIRECT_WINDOW: usize = 8;

/// Messages in one frame: what an outbox can hold.
pub(super) const FRAME_MESSAGES_MAX: usize = OUTBOX_MESSAGES_MAX;

/// Own requests at one peer at a time.
pub(super) const REQUESTS_OUT_MAX: usize = 4;

/// Requests of one peer being answered at a time. More than [`REQUESTS_OUT_MAX`], because the peer stops waiting
/// before we stop answering.
pub(super) const REQUESTS_IN_MAX: usize = 8;

/// Streams of one direct or sync protocol on a connection: own window, the peer's window, and probes, twice over,
/// since a stream lives a little longer than its acknowledgement.
pub(super) const STREAMS_MAX: usize = 64;

/// Streams of one connection of all protocols together.
pub(super) const CONNECTION_STREAMS_MAX: usize = 256;

/// Connections that have not yet shown their key. A stranger can hold no more than these.
pub(super) const PENDING_INCOMING_MAX: u32 = 64;

/// Connections with one peer: one each way, and two that are about to replace them after a restart.
pub(super) const CONNECTIONS_PER_PEER_MAX: u32 = 4;

/// Short messages a second of one peer: votes and what keeps nodes informed. A delegate sends some tens.
pub(super) const WORDS_PER_SECOND: u64 = 1000;
/// Bytes of them a second.
const WORDS_BYTES_PER_SECOND: u64 = 1024 * 1024;

/// Proposals and final blocks a second of one peer.
const BLOCKS_PER_SECOND: u64 = 100;
/// Bytes of them a second: what a peer is asked for at a time is 1 MiB, and it answers several times a second.
const BLOCKS_BYTES_PER_SECOND: u64 = 16 * 1024 * 1024;

/// Frames of entries a second of one peer, its own and those it relays.
const ENTRIES_PER_SECOND: u64 = 500;
/// Bytes of them a second: the busiest load we measure with, three times over. What a home was away for two weeks with is
/// a third of a MiB.
const ENTRIES_BYTES_PER_SECOND: u64 = 4 * 1024 * 1024;

/// Questions a second of one peer, whose answers cost much more than they do.
const QUESTIONS_PER_SECOND: u64 = 100;
/// Bytes of them a second.
const QUESTIONS_BYTES_PER_SECOND: u64 = 1024 * 1024;

/// How long a message's hash is remembered as seen. Longer than gossip lives (five heartbeats), shorter than what
/// would keep a lost entry's repetition from being relayed.
pub(super) const SEEN_FOR: Duration = Duration::from_secs(15);

/// How long a direct frame may stay unacknowledged.
pub(super) const DIRECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the sync protocol works on a request; callers usually wait shorter.
pub(super) const SYNC_TIMEOUT: Duration = Duration::from_secs(30);

/// How long dialling and the handshake of a connection may take.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connected peer may take to show that it is of our chain.
pub(super) const CONFIRM_TIMEOUT: Duration = Duration::from_secs(10);

/// How often an empty frame is sent to measure the round trip and to notice a peer that vanished without a word.
pub(super) const PROBE_INTERVAL: Duration = Duration::from_secs(10);

/// How often one of the peers is asked where the other members listen.
pub(super) const RECORDS_INTERVAL: Duration = Duration::from_secs(10);

/// How often due dials and probes are looked for.
pub(super) const TICK: Duration = Duration::from_millis(100);

/// How long a stop waits for messages on their way.
pub(super) const DRAIN_TIMEOUT: Duration = Duration::from_millis(500);

/// First and longest pause before dialling a peer again; each failure doubles it.
pub(super) const REDIAL_MIN: Duration = Duration::from_millis(200);
/// See [`REDIAL_MIN`].
pub(super) const REDIAL_MAX: Duration = Duration::from_secs(10);

/// Head start of the smaller key in dialling, so that two peers rarely dial each other at the same moment.
pub(super) const HEAD_START: Duration = Duration::from_millis(300);

/// Millionths of a token: a bucket refills by the microsecond without fractions.
const TOKEN: u64 = 1_000_000;

/// A token bucket that holds one second's worth.
struct Bucket {
    per_second: u64,
    level: u64,
}

impl Bucket {
    fn full(per_second: u64) -> Self {
        Self { per_second, level: per_second.saturating_mul(TOKEN) }
    }

    fn refill(&mut self, elapsed: Duration) {
        let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        let level = self.level.saturating_add(micros.saturating_mul(self.per_second));
        self.level = level.min(self.per_second.saturating_mul(TOKEN));
    }

    fn holds(&self, tokens: u64) -> bool {
        self.level >= tokens.saturating_mul(TOKEN)
    }

    fn take(&mut self, tokens: u64) {
        self.level = self.level.saturating_sub(tokens.saturating_mul(TOKEN));
    }
}

/// What kind of thing a peer sends. Each has a rate of its own, so that too much of one leaves room for the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Votes, heights: short, frequent, and nothing works without them.
    Words,
    /// Proposals, final blocks.
    Blocks,
    /// Frames of entries.
    Entries,
    /// What asks for an answer.
    Questions,
}

impl Lane {
    const ALL: [Self; 4] = [Self::Words, Self::Blocks, Self::Entries, Self::Questions];

    /// Messages and bytes a second.
    const fn rate(self) -> (u64, u64) {
        match self {
            Self::Words => (WORDS_PER_SECOND, WORDS_BYTES_PER_SECOND),
            Self::Blocks => (BLOCKS_PER_SECOND, BLOCKS_BYTES_PER_SECOND),
            Self::Entries => (ENTRIES_PER_SECOND, ENTRIES_BYTES_PER_SECOND),
            Self::Questions => (QUESTIONS_PER_SECOND, QUESTIONS_BYTES_PER_SECOND),
        }
    }
}

/// What one peer may send in one lane: messages and bytes a second, with one second of burst.
struct LaneLimit {
    messages: Bucket,
    bytes: Bucket,
    last: Instant,
}

impl LaneLimit {
    fn new(lane: Lane, now: Instant) -> Self {
        let (messages, bytes) = lane.rate();
        Self { messages: Bucket::full(messages), bytes: Bucket::full(bytes), last: now }
    }

    fn admit(&mut self, now: Instant, bytes: usize) -> bool {
        let elapsed = now.saturating_duration_since(self.last);
        self.last = now;
        self.messages.refill(elapsed);
        self.bytes.refill(elapsed);
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let within = self.messages.holds(1) && self.bytes.holds(bytes);
        if within {
            self.messages.take(1);
            self.bytes.take(bytes);
        }
        within
    }
}

/// What one peer may send.
pub(super) struct RateLimit([LaneLimit; 4]);

impl RateLimit {
    pub(super) fn new(now: Instant) -> Self {
        Self(Lane::ALL.map(|lane| LaneLimit::new(lane, now)))
    }

    /// True if a message of `bytes` is within both rates of its lane; it is then counted.
    pub(super) fn admit(&mut self, now: Instant, lane: Lane, bytes: usize) -> bool {
        let place = Lane::ALL.iter().position(|other| *other == lane);
        place.and_then(|place| self.0.get_mut(place)).is_some_and(|limit| limit.admit(now, bytes))
    }
}

/// Lets one log line a second through: strangers must not be able to fill the card with our complaints about them.
#[derive(Default)]
pub(super) struct LogGate {
    last: Option<Instant>,
    suppressed: u64,
}

impl LogGate {
    /// The number of lines suppressed since the last one, if a line may be written now.
    pub(super) fn open(&mut self, now: Instant) -> Option<u64> {
        let recent =
            self.last.is_some_and(|last| now.saturating_duration_since(last) < Duration::from_secs(1));
        if recent {
            self.suppressed = self.suppressed.saturating_add(1);
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_of_burst_is_admitted_and_then_the_rate() {
        let start = Instant::now();
        let mut limit = RateLimit::new(start);
        let burst = (0..5000).filter(|_| limit.admit(start, Lane::Words, 10)).count();
        assert_eq!(burst, 1000);
        let later = start + Duration::from_millis(500);
        assert_eq!((0..5000).filter(|_| limit.admit(later, Lane::Words, 10)).count(), 500);
    }

    #[test]
    fn bytes_are_limited_even_if_messages_are_few() {
        let start = Instant::now();
        let mut limit = RateLimit::new(start);
        let admitted = (0..100).filter(|_| limit.admit(start, Lane::Blocks, 1024 * 1024)).count();
        assert_eq!(admitted, 16);
    }

    #[test]
    fn a_refused_message_costs_nothing() {
        let start = Instant::now();
        let mut limit = RateLimit::new(start);
        assert!(!limit.admit(start, Lane::Blocks, usize::MAX));
        assert!(limit.admit(start, Lane::Blocks, 16 * 1024 * 1024));
    }

    #[test]
    fn a_flood_of_entries_or_questions_leaves_room_for_votes_and_blocks() {
        let start = Instant::now();
        let mut limit = RateLimit::new(start);
        let flood =
            |lane, limit: &mut RateLimit| (0..100_000).filter(|_| limit.admit(start, lane, 100)).count();
        assert_eq!(flood(Lane::Entries, &mut limit), 500);
        assert_eq!(flood(Lane::Questions, &mut limit), 100);
        assert!(limit.admit(start, Lane::Words, 150));
        assert!(limit.admit(start, Lane::Blocks, 300_000));
    }

    #[test]
    fn the_log_gate_counts_what_it_suppressed() {
        let start = Instant::now();
        let mut gate = LogGate::default();
        assert_eq!(gate.open(start), Some(0));
        assert_eq!(gate.open(start), None);
        assert_eq!(gate.open(start), None);
        assert_eq!(gate.open(start + Duration::from_secs(1)), Some(2));
    }
}
