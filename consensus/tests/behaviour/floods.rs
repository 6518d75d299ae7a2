//! Members that send as much as they can: the pool stays within its bound, who sent most gives way, and whoever sends little is
//! heard.

use consensus::message::Message;
use consensus::{Input, Origin};
use energy::Interval;
use ledger::codec::{Decode as _, Encode as _};
use ledger::{Body, EntryId, Genesis, Hash32, Ledger, PublicKey, SignedEntry};

use crate::bench::{Bench, DELEGATES, clean_log, proposer};
use crate::street::{self, Journal, Purpose};

/// The most bytes of others' entries in a pool (`consensus/src/mempool/shares.rs`).
const POOL_BYTES_MAX: usize = 16 << 20;
/// The most readings of one member in it.
const READINGS_MAX: usize = 1536;
/// Homes that flood: with readings as long as they may be it takes so many to fill the pool.
const FLOODERS: std::ops::Range<usize> = 10..30;

/// One home's journal, with readings as long as they may be.
struct Flooder {
    number: usize,
    journal: Journal,
}

impl Flooder {
    fn new(number: usize, bench: &Bench) -> Self {
        Self { number, journal: Journal::new(number, bench.chain()) }
    }

    fn reading(&mut self, bench: &Bench) -> Vec<u8> {
        let interval = Interval::containing(bench.genesis.start, bench.genesis.mtu);
        let signed = SignedEntry::from_bytes(&self.journal.read(interval)).unwrap();
        let mut entry = signed.unchecked().clone();
        if let Body::Reading { reading, .. } = &mut entry.body {
            reading.raw_registers = vec![7; energy::RAW_REGISTERS_MAX];
        }
        entry.sign(&bench.chain(), &street::key(Purpose::Reading, self.number)).to_bytes()
    }
}

fn hand(bench: &mut Bench, number: usize, bytes: &[u8]) -> EntryId {
    let origin = Origin::Peer(street::home(number));
    bench.step(Input::Entry { bytes: bytes.to_vec(), origin });
    EntryId(Hash32::of(&[b"commonwatt/entry/v1", bytes]))
}

/// True if the pool holds an entry: another delegate asks for it.
fn holds(bench: &mut Bench, id: EntryId) -> bool {
    let asking = bench.others()[0];
    bench.effects.clear();
    bench.hear(asking, &Message::EntriesRequest(vec![id]));
    !bench.sent_to(asking).is_empty()
}

/// A delegate whose pool is full, the flooders in the order of how much they have, with what each sent last; and how long one
/// reading is.
fn flooded() -> (Bench, Vec<Flooder>, usize) {
    let genesis: Genesis = street::genesis(FLOODERS.end, DELEGATES);
    let ledger = Ledger::genesis(&genesis).unwrap();
    let me = proposer(&genesis, 1, 3);
    let log = clean_log(&genesis, me, 1);
    let mut bench = Bench::at(genesis, ledger, me, &log);
    let mut flooders: Vec<_> = FLOODERS.map(|number| Flooder::new(number, &bench)).collect();
    let mut length = 0;
    // The first one has sent as much as it may before the others begin, the last ones find no room.
    for flooder in &mut flooders {
        for _ in 0..=READINGS_MAX {
            let bytes = flooder.reading(&bench);
            length = bytes.len();
            hand(&mut bench, flooder.number, &bytes);
        }
        bench.effects.clear();
    }
    (bench, flooders, length)
}

/// One full pool for all of it: filling it takes seconds.
#[test]
fn a_full_pool_stays_within_its_bound_and_who_floods_gives_way_to_who_does_not() {
    let (mut bench, mut flooders, length) = flooded();
    let full = bench.replica.mempool_len();
    assert!(full * length <= POOL_BYTES_MAX, "{full} entries of {length} bytes");
    assert!((full + 1) * length > POOL_BYTES_MAX, "{full} entries of {length} bytes");
    assert!(full < flooders.len() * READINGS_MAX, "they had to give way to one another");
    flooders_push_nobody_out(&mut bench, &mut flooders[0], full);
    made_up_keys_have_no_share(&mut bench);
    who_sends_little_is_heard(&mut bench, full);
}

fn flooders_push_nobody_out(bench: &mut Bench, flooder: &mut Flooder, full: usize) {
    let more = flooder.reading(bench);
    let id = hand(bench, flooder.number, &more);
    assert!(!holds(bench, id), "{}", bench.notes());
    // Price limits are worth less than readings, whoever's they are: they have what no reading fits into.
    let chain = bench.chain();
    let limits = (1..5).map(|number| street::limit_with_number(4, number, 200_000, &chain));
    let ids: Vec<_> = limits.map(|limit| hand(bench, 4, &limit)).collect();
    assert!(!holds(bench, ids[3]), "{}", bench.notes());
    assert!(bench.replica.mempool_len() < full + 4);
}

/// Anybody can make keys; if each had a share of its own, they would push everybody else out.
fn made_up_keys_have_no_share(bench: &mut Bench) {
    let before = bench.replica.mempool_len();
    let interval = Interval::containing(bench.genesis.start, bench.genesis.mtu);
    let signed = SignedEntry::from_bytes(&Journal::new(5, bench.chain()).read(interval)).unwrap();
    for number in 100..120 {
        let key = street::key(Purpose::Reading, number);
        let mut entry = signed.unchecked().clone();
        entry.signer = PublicKey::of(&key);
        let bytes = entry.sign(&bench.chain(), &key).to_bytes();
        let id = hand(bench, 10, &bytes);
        assert!(!holds(bench, id), "{number}");
    }
    assert_eq!(bench.replica.mempool_len(), before);
}

fn who_sends_little_is_heard(bench: &mut Bench, full: usize) {
    let interval = Interval::containing(bench.genesis.start, bench.genesis.mtu);
    let reading = Journal::new(5, bench.chain()).read(interval);
    let id = hand(bench, 5, &reading);
    assert!(holds(bench, id), "{}", bench.notes());
    assert!(bench.replica.mempool_len() <= full + 2, "something gave way");
    let id = hand(bench, 5, &street::vote(5, &bench.chain()));
    assert!(holds(bench, id), "{}", bench.notes());
    assert!(bench.replica.mempool_len() <= full + 2, "something gave way");
    // Own entries have room of their own.
    let own = Journal::new(bench.me, bench.chain()).limit();
    let before = bench.replica.mempool_len();
    bench.step(Input::Entry { bytes: own, origin: Origin::Own });
    assert_eq!(bench.replica.mempool_len(), before + 1);
}
