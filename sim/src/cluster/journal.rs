//! A home's journal: whatever it signs is durable here before anybody sees it, each number used once, readings chained; and
//! which boundary its meter is read at next, as `node/src/metering.rs` does it.

use std::collections::BTreeMap;

use ed25519_dalek::SigningKey;
use energy::{ClockQuality, HomeId, Interval, Mtu, Quality, Reading, TakenAt, Timestamp, WattHours};
use ledger::codec::{Decode as _, Encode as _};
use ledger::{
    Body, Chain, Entry, EntryId, Hash32, Ledger, PublicKey, Salt, SignedEntry, Stream, reading_hash,
};

use super::checks::entry_id;
use super::street::{self, Purpose};
use crate::home::Flow;

/// A boundary can be met so long after it, in ms of wall time.
const TOLERANCE_MS: u64 = 2_000;

/// One signed entry.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub(crate) number: u64,
    pub(crate) stream: Stream,
    pub(crate) bytes: Vec<u8>,
    /// When it was signed, in wall ms of the run.
    pub(crate) at: u64,
    /// The ledger can never take it.
    refused: bool,
}

/// The last reading.
#[derive(Debug, Clone, Copy)]
struct Last {
    record: u64,
    hash: [u8; 32],
}

/// One home's journal; survives every crash.
#[derive(Debug, Clone)]
pub(crate) struct Journal {
    number: usize,
    home: HomeId,
    chain: Chain,
    mtu: Mtu,
    member: SigningKey,
    reading: SigningKey,
    /// In the order in which they were signed.
    pub(crate) entries: Vec<Kept>,
    /// What the meter showed, by record; more than once where a journal was lost. It is for checks, and lost in no crash.
    pub(crate) taken: BTreeMap<u64, Vec<Flow>>,
    /// Intervals that were read, with the record that counts for each.
    read: BTreeMap<Interval, u64>,
    last: Option<Last>,
    next: u64,
    /// The interval whose end is read next; `None` after a start.
    awaited: Option<Interval>,
}

impl Journal {
    pub(crate) fn new(number: usize, chain: Chain, mtu: Mtu) -> Self {
        Self {
            number,
            home: street::home(number),
            chain,
            mtu,
            member: street::key(Purpose::Member, number),
            reading: street::key(Purpose::Reading, number),
            entries: Vec::new(),
            taken: BTreeMap::new(),
            read: BTreeMap::new(),
            last: None,
            next: 0,
            awaited: None,
        }
    }

    /// The card is gone, and this with it. The keys come from a backup.
    pub(crate) fn lose(&mut self) {
        (self.last, self.next, self.awaited) = (None, 0, None);
        self.entries.clear();
        self.read.clear();
    }

    /// What the ledger knows of this home is not used twice, even by a journal that was lost.
    pub(crate) fn follow(&mut self, ledger: &Ledger) {
        for stream in [Stream::Readings, Stream::Orders, Stream::Rest, Stream::Delegates] {
            let signer = PublicKey::of(self.signer_of(stream));
            self.next = self.next.max(ledger.last_number(&signer, stream));
        }
        let on_ledger = ledger.member(&self.home).and_then(|member| member.last_record);
        if let Some((record, hash)) = on_ledger
            && self.last.is_none_or(|last| last.record < record)
        {
            self.last = Some(Last { record, hash });
        }
    }

    /// From now on this home signs for `ledger`'s chain. Where that was recovered since, readings that wait are signed anew under
    /// the numbers they have; what the member had said before, and no block holds, is given up. So it is with what was final when
    /// the chain was recovered, in blocks that the disk has lost since.
    /// True if it was signed for another before.
    pub(crate) fn sign_for(&mut self, ledger: &Ledger) -> bool {
        let is_another = self.chain != *ledger.chain();
        self.chain = *ledger.chain();
        for at in 0..self.entries.len() {
            let kept = &self.entries[at];
            if kept.refused || self.is_final(ledger, kept) {
                continue;
            }
            let signed = SignedEntry::from_bytes(&kept.bytes).expect("what this journal signed");
            if signed.clone().verify(&self.chain).is_ok() {
                continue;
            }
            if kept.stream == Stream::Readings {
                let bytes = signed.unchecked().clone().sign(&self.chain, &self.reading).to_bytes();
                self.entries[at].bytes = bytes;
            } else {
                self.entries[at].refused = true;
            }
        }
        is_another
    }

    /// The node stopped: which boundary it waited for is forgotten.
    pub(crate) const fn stop(&mut self) {
        self.awaited = None;
    }

    /// The interval whose boundary is to be read now by the node's clock, if one is: boundaries that were missed are a gap.
    pub(crate) fn due(&mut self, clock: Timestamp, quality: ClockQuality, speed: u32) -> Option<Interval> {
        let current = Interval::containing(clock, self.mtu);
        let tolerance = TOLERANCE_MS * u64::from(speed);
        if quality != ClockQuality::Unsynced {
            // A clock that was ahead read intervals that have not begun: what is read of them now overtakes those.
            while let Some(ahead) = self.read.last_entry().filter(|read| read.key().start() > clock) {
                ahead.remove();
            }
        }
        let met = |interval: &Interval| clock.ms_since(interval.end()) <= tolerance;
        let last = self.read.last_key_value().map(|(interval, _)| *interval);
        let first =
            || current.previous().filter(|ended| met(ended) && last < Some(*ended)).unwrap_or(current);
        let mut awaited = self.awaited.unwrap_or_else(first);
        if awaited > current.next() {
            awaited = current;
        }
        if clock < awaited.end() {
            self.awaited = Some(awaited);
            return None;
        }
        self.awaited = Some(awaited.next().max(current));
        let fresh = last < Some(awaited);
        (met(&awaited) && fresh && quality != ClockQuality::Unsynced).then_some(awaited)
    }

    /// Signs what the meter shows at the end of an interval.
    pub(crate) fn read(&mut self, interval: Interval, shown: Flow, clock: ClockQuality, at: u64) -> Vec<u8> {
        let record = self.last.map_or(0, |last| last.record) + 1;
        let before = self.read.last_key_value().map(|(before, _)| *before);
        let is_gap = before.is_some_and(|before| before.next() < interval);
        let registration = street::meter(self.number);
        let reading = Reading {
            serial: registration.serial,
            meter_epoch: registration.epoch,
            interval,
            import_register: WattHours::new(shown.import),
            export_register: WattHours::new(shown.export),
            raw_registers: vec![1, 2],
            quantum: registration.quantum,
            profile_hash: registration.profile_hash,
            quality: if is_gap { Quality::Gap } else { Quality::Good },
            clock_quality: clock,
            taken_at: TakenAt { time: interval.end(), monotonic_ms: at, boot_id: [0; 16] },
            record_number: record,
            previous_hash: self.last.map_or([0; 32], |last| last.hash),
        };
        self.last = Some(Last { record, hash: reading_hash(&reading) });
        self.taken.entry(record).or_default().push(shown);
        self.read.insert(interval, record);
        let body = Body::Reading { home: Some(self.home.clone()), reading };
        let key = self.reading.clone();
        self.sign(body, &key, &[], at)
    }

    /// Signs what the member says, with others.
    pub(crate) fn say(&mut self, body: Body, others: &[SigningKey], at: u64) -> Vec<u8> {
        let key = self.member.clone();
        self.sign(body, &key, others, at)
    }

    /// Signs two things under one number: the one that is kept, and its twin.
    pub(crate) fn say_twice(&mut self, body: Body, twin: Body, at: u64) -> [Vec<u8>; 2] {
        let kept = self.say(body, &[], at);
        let entry = self.entry(twin, &self.member, self.next);
        [kept, entry.sign(&self.chain, &self.member).to_bytes()]
    }

    /// Signs something that nobody keeps.
    pub(crate) fn say_in_passing(&mut self, body: Body) -> Vec<u8> {
        self.next += 1;
        self.entry(body, &self.member, self.next).sign(&self.chain, &self.member).to_bytes()
    }

    /// What the ledger has not taken up, in order.
    pub(crate) fn unconfirmed(&self, ledger: &Ledger) -> Vec<Vec<u8>> {
        let waiting = self.entries.iter().filter(|kept| !kept.refused && !self.is_final(ledger, kept));
        waiting.map(|kept| kept.bytes.clone()).collect()
    }

    /// The ledger can never take an entry; true if it was a reading.
    pub(crate) fn give_up(&mut self, id: &EntryId) -> bool {
        let of_name = self.entries.iter_mut().rev().find(|kept| entry_id(&kept.bytes) == *id);
        let Some(kept) = of_name else { return false };
        kept.refused = true;
        kept.stream == Stream::Readings
    }

    fn is_final(&self, ledger: &Ledger, kept: &Kept) -> bool {
        let signer = PublicKey::of(self.signer_of(kept.stream));
        kept.number <= ledger.last_number(&signer, kept.stream)
    }

    /// The newest reading that was signed before an instant and is not on the ledger. What a clock that was ahead read of an
    /// interval that has not ended waits for that.
    pub(crate) fn overdue(&self, ledger: &Ledger, before: u64) -> Option<&Kept> {
        let of_stream = self.entries.iter().rev().filter(|kept| kept.stream == Stream::Readings);
        let ended = |kept: &&Kept| interval_of(&kept.bytes).is_none_or(|of| of.end() <= ledger.head_time());
        let mut due = of_stream.filter(|kept| kept.at <= before && !kept.refused).filter(ended);
        due.next().filter(|kept| !self.is_final(ledger, kept))
    }

    const fn signer_of(&self, stream: Stream) -> &SigningKey {
        match stream {
            Stream::Readings => &self.reading,
            Stream::Orders | Stream::Rest | Stream::Delegates => &self.member,
        }
    }

    fn sign(&mut self, body: Body, key: &SigningKey, others: &[SigningKey], at: u64) -> Vec<u8> {
        self.next += 1;
        let entry = self.entry(body, key, self.next);
        let (number, stream) = (entry.number, entry.body.stream());
        let signed = entry.sign(&self.chain, key);
        let signed =
            others.iter().fold(signed, |signed: SignedEntry, other| signed.countersign(&self.chain, other));
        let bytes = signed.to_bytes();
        self.entries.push(Kept { number, stream, bytes: bytes.clone(), at, refused: false });
        bytes
    }

    fn entry(&self, body: Body, key: &SigningKey, number: u64) -> Entry {
        let digest = Hash32::of(&[&number.to_be_bytes(), self.home.as_str().as_bytes()]).0;
        let mut salt = [0; 16];
        salt.copy_from_slice(&digest[..16]);
        Entry { signer: PublicKey::of(key), number, salt: Salt(salt), body }
    }
}

/// The interval of a reading.
fn interval_of(bytes: &[u8]) -> Option<Interval> {
    match &SignedEntry::from_bytes(bytes).ok()?.unchecked().body {
        Body::Reading { reading, .. } => Some(reading.interval),
        _ => None,
    }
}
