//! Where members listen, and when to dial them next.
//!
//! Addresses come from the configuration, from mDNS, and from *records*: a member's own statement of its addresses,
//! signed with its network key (libp2p RFC 0003), which any member may pass on. So a member that knows one other
//! member finds all, and nobody can send the neighbourhood dialling to addresses of somebody else.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use ledger::PublicKey;
use libp2p::core::{PeerRecord, SignedEnvelope};
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::ConnectionId;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::{Multiaddr, PeerId};

use super::limits::{CONNECT_TIMEOUT, HEAD_START, REDIAL_MAX, REDIAL_MIN};
use super::peer_id::{key_of, peer_id_of};
use super::relay::relay_in;

/// Addresses kept of one member and written into a record.
const ADDRESSES_MAX: usize = 8;
/// Records in one answer: more than the largest neighbourhood of this form has members.
const RECORDS_MAX: usize = 128;
/// Longest pause between attempts at a direct way.
const DIRECT_MAX: Duration = Duration::from_secs(300);
/// Bytes of one record: eight addresses with key and signature take about 400.
const RECORD_BYTES_MAX: usize = 1024;

/// A dial to make now.
pub(super) struct Dial {
    pub(super) options: DialOpts,
    pub(super) whom: Whom,
}

/// Who a dial is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Whom {
    Member(PublicKey),
    /// A configured address without a peer id, by its place.
    Unknown(usize),
}

/// Attempts so far, and when the next is due.
struct Attempts {
    failures: u32,
    next: Instant,
}

impl Attempts {
    fn first_at(next: Instant) -> Self {
        Self { failures: 0, next }
    }

    /// A dial began: no other until it must have ended.
    fn begun(&mut self, now: Instant) {
        self.next = now + CONNECT_TIMEOUT + REDIAL_MIN;
    }

    fn failed(&mut self, now: Instant) {
        self.next = now + pause(self.failures);
        self.failures = self.failures.saturating_add(1);
    }
}

/// What is known of one member's whereabouts.
struct Place {
    configured: Vec<Multiaddr>,
    learned: Vec<Multiaddr>,
    record: Option<Record>,
    attempts: Attempts,
    /// Attempts at a direct way while the connection leads through a relay.
    direct: Attempts,
}

impl Place {
    /// Where to dial. A private address may be somebody else's in another house, and whoever answers there ends the whole
    /// attempt: so every second one goes through relays only.
    fn addresses(&self, own: &[Multiaddr]) -> Vec<Multiaddr> {
        let all = || self.configured.iter().chain(&self.learned).filter(|it| !own.contains(it));
        let circuits: Vec<_> = all().filter(|it| relay_in(it).is_some()).cloned().collect();
        if self.attempts.failures % 2 == 1 && !circuits.is_empty() {
            return circuits;
        }
        all().cloned().collect()
    }
}

struct Record {
    sequence: u64,
    envelope: Vec<u8>,
}

/// A configured address whose owner is not known yet.
struct Unknown {
    address: Multiaddr,
    attempts: Attempts,
    dialing: Option<ConnectionId>,
}

/// All known places.
pub(super) struct AddressBook {
    own: PublicKey,
    own_record: Option<Vec<u8>>,
    /// Where this node listens: another home's private address may be the same, and leads nowhere then.
    own_addresses: Vec<Multiaddr>,
    /// Relays: dialled from the listening port, whose mapping in a router the other end of a hole punch will then know.
    relays: BTreeSet<PublicKey>,
    places: BTreeMap<PublicKey, Place>,
    unknown: Vec<Option<Unknown>>,
}

impl AddressBook {
    /// A book that knows the configured addresses, with or without `/p2p/` peer id.
    pub(super) fn new(own: PublicKey, configured: &[Multiaddr], now: Instant) -> Self {
        let mut book = Self {
            own,
            own_record: None,
            own_addresses: Vec::new(),
            relays: BTreeSet::new(),
            places: BTreeMap::new(),
            unknown: Vec::new(),
        };
        for address in configured {
            match peer_in(address) {
                Some(peer) => match key_of(&peer) {
                    Some(key) => book.configure(key, address.clone(), now),
                    None => {
                        tracing::warn!(%address, "configured peer has no Ed25519 peer id, it is not dialled");
                    }
                },
                None => book.unknown.push(Some(Unknown {
                    address: address.clone(),
                    attempts: Attempts::first_at(now),
                    dialing: None,
                })),
            }
        }
        book
    }

    /// Members to be dialled and kept because connections come through them.
    pub(super) fn add_relays(&mut self, relays: &[Multiaddr], now: Instant) {
        for address in relays {
            if let Some(key) = peer_in(address).and_then(|peer| key_of(&peer)) {
                self.configure(key, address.clone(), now);
                self.relays.insert(key);
            }
        }
    }

    fn configure(&mut self, key: PublicKey, address: Multiaddr, now: Instant) {
        if key != self.own {
            let place = self.place(key, now);
            if !place.configured.contains(&address) {
                place.configured.push(address);
            }
        }
    }

    fn place(&mut self, key: PublicKey, now: Instant) -> &mut Place {
        let next = if self.own < key { now } else { now + HEAD_START };
        self.places.entry(key).or_insert_with(|| Place {
            configured: Vec::new(),
            learned: Vec::new(),
            record: None,
            attempts: Attempts::first_at(next),
            direct: Attempts::first_at(next),
        })
    }

    /// The dials due now, of peers for which `wanted` holds. Their next attempt is put off until these have ended.
    pub(super) fn due(&mut self, now: Instant, wanted: impl Fn(&PublicKey) -> bool) -> Vec<Dial> {
        let members = self.places.iter_mut().filter(|(key, place)| place.attempts.next <= now && wanted(key));
        let mut dials: Vec<Dial> = members
            .filter_map(|(key, place)| {
                let addresses = place.addresses(&self.own_addresses);
                let peer = peer_id_of(key).filter(|_| !addresses.is_empty())?;
                place.attempts.begun(now);
                let options = DialOpts::peer_id(peer)
                    .addresses(addresses)
                    .condition(PeerCondition::DisconnectedAndNotDialing);
                if self.relays.contains(key) {
                    return Some(Dial { options: options.build(), whom: Whom::Member(*key) });
                }
                // A new port for each dial: two nodes that dial each other from their listening ports would meet in
                // one TCP connection whose both ends think they opened it.
                Some(Dial { options: options.allocate_new_port().build(), whom: Whom::Member(*key) })
            })
            .collect();
        for (at, unknown) in self.unknown.iter_mut().enumerate() {
            let Some(unknown) = unknown.as_mut().filter(|it| it.attempts.next <= now) else { continue };
            unknown.attempts.begun(now);
            let options =
                DialOpts::unknown_peer_id().address(unknown.address.clone()).allocate_new_port().build();
            unknown.dialing = Some(options.connection_id());
            dials.push(Dial { options, whom: Whom::Unknown(at) });
        }
        dials
    }

    /// Dials due now of peers that are reached through a relay only: whoever met there first may have a way that needs none,
    /// and a relay takes no reservation but over a direct connection.
    pub(super) fn due_directly(&mut self, now: Instant, relayed: impl Fn(&PublicKey) -> bool) -> Vec<Dial> {
        let own = &self.own_addresses;
        let places = self.places.iter_mut().filter(|(key, place)| place.direct.next <= now && relayed(key));
        let dials = places.filter_map(|(key, place)| {
            place.direct.next = now + direct_pause(place.direct.failures);
            place.direct.failures = place.direct.failures.saturating_add(1);
            let all = place.configured.iter().chain(&place.learned);
            let addresses: Vec<_> =
                all.filter(|it| relay_in(it).is_none() && !own.contains(it)).cloned().collect();
            let peer = peer_id_of(key).filter(|_| !addresses.is_empty())?;
            let options = DialOpts::peer_id(peer).addresses(addresses).condition(PeerCondition::NotDialing);
            // From the listening port, as relays are dialled: that one may be among them.
            Some(Dial { options: options.build(), whom: Whom::Member(*key) })
        });
        dials.collect()
    }

    /// A connection stands: an address whose owner was not known belongs to `key` from now on.
    pub(super) fn established(&mut self, key: PublicKey, connection: ConnectionId, now: Instant) {
        if let Some(address) = self.unknown_by(connection).and_then(Option::take).map(|it| it.address) {
            self.configure(key, address, now);
        }
    }

    /// The peer proved to be one of ours: the next redial is quick again.
    pub(super) fn confirmed(&mut self, key: PublicKey, now: Instant) {
        let place = self.place(key, now);
        place.attempts.failures = 0;
        place.direct = Attempts::first_at(now + direct_pause(0));
    }

    /// The last connection with `key` ended: dial again after a pause, a longer one if it never was confirmed.
    pub(super) fn disconnected(&mut self, key: PublicKey, now: Instant) {
        self.place(key, now).attempts.failed(now);
    }

    /// A dial that could not even begin.
    pub(super) fn not_begun(&mut self, whom: Whom, now: Instant) {
        let attempts = match whom {
            Whom::Member(key) => self.places.get_mut(&key).map(|place| &mut place.attempts),
            Whom::Unknown(at) => {
                self.unknown.get_mut(at).and_then(Option::as_mut).map(|unknown| &mut unknown.attempts)
            }
        };
        if let Some(attempts) = attempts {
            attempts.failed(now);
        }
    }

    /// A dial failed. `own` says that it led to this node itself: such an address is forgotten.
    pub(super) fn dial_failed(
        &mut self,
        connection: ConnectionId,
        peer: Option<PeerId>,
        own: bool,
        now: Instant,
    ) {
        if let Some(slot) = self.unknown_by(connection) {
            if own {
                *slot = None;
            } else if let Some(unknown) = slot {
                unknown.attempts.failed(now);
            }
        } else if let Some(place) =
            peer.and_then(|peer| key_of(&peer)).and_then(|key| self.places.get_mut(&key))
        {
            place.attempts.failed(now);
        }
    }

    fn unknown_by(&mut self, connection: ConnectionId) -> Option<&mut Option<Unknown>> {
        self.unknown.iter_mut().find(|slot| slot.as_ref().is_some_and(|it| it.dialing == Some(connection)))
    }

    /// An address heard on the local network, from nobody in particular.
    pub(super) fn heard(&mut self, key: PublicKey, address: Multiaddr, now: Instant) {
        if key != self.own && is_dialable(&address) {
            let place = self.place(key, now);
            if !place.learned.contains(&address) && place.learned.len() < ADDRESSES_MAX {
                place.learned.push(address);
            }
        }
    }

    /// Signs this node's own record anew: `told` first, and where it listens; loopback only if that is nowhere else.
    pub(super) fn sign_own(&mut self, keypair: &Keypair, told: Vec<Multiaddr>, listening: &[Multiaddr]) {
        self.own_addresses = listening.to_vec();
        let mut addresses = told;
        addresses.extend(without_loopback(listening));
        addresses.truncate(ADDRESSES_MAX);
        self.own_record = match PeerRecord::new_interop(keypair, addresses) {
            Ok(record) => Some(record.into_signed_envelope().into_protobuf_encoding()),
            Err(error) => {
                tracing::warn!(%error, "cannot sign the record of own addresses, peers learn them from others");
                None
            }
        };
    }

    /// The answer to a peer that asks for records: own first.
    pub(super) fn records(&self) -> Vec<u8> {
        let others = self.places.values().filter_map(|place| place.record.as_ref()).map(|it| &it.envelope);
        framed(self.own_record.iter().chain(others).take(RECORDS_MAX))
    }

    /// This node's own record, as part of such an answer.
    pub(super) fn own_record(&self) -> Vec<u8> {
        framed(self.own_record.iter())
    }

    /// Takes in the records that `from` answered, of members for which `wanted` holds; returns how many were new.
    /// What is damaged, forged or too long is skipped.
    pub(super) fn learn(
        &mut self,
        from: PublicKey,
        mut answer: &[u8],
        now: Instant,
        wanted: impl Fn(&PublicKey) -> bool,
    ) -> usize {
        let mut learned = 0;
        for _ in 0..RECORDS_MAX {
            let Some((length, rest)) = answer.split_first_chunk::<2>() else { break };
            let length = usize::from(u16::from_be_bytes(*length));
            let Some((envelope, rest)) = rest.split_at_checked(length) else { break };
            answer = rest;
            if length <= RECORD_BYTES_MAX && !self.knows(envelope) {
                learned += usize::from(self.learn_one(from, envelope, now, &wanted).is_some());
            }
        }
        learned
    }

    /// True if this very record is known, so that its signature needs no second check.
    fn knows(&self, envelope: &[u8]) -> bool {
        let mut records = self.places.values().filter_map(|place| place.record.as_ref());
        self.own_record.as_deref() == Some(envelope) || records.any(|it| it.envelope == envelope)
    }

    fn learn_one(
        &mut self,
        from: PublicKey,
        envelope: &[u8],
        now: Instant,
        wanted: impl Fn(&PublicKey) -> bool,
    ) -> Option<()> {
        let signed = SignedEnvelope::from_protobuf_encoding(envelope).ok()?;
        let record = PeerRecord::from_signed_envelope_interop(signed).ok()?;
        let key = key_of(&record.peer_id()).filter(|key| *key != self.own && wanted(key))?;
        let own = self.own;
        let relayed = |it: &&Multiaddr| relay_in(it).is_some_and(|relay| relay != own && wanted(&relay));
        let leads = record.addresses().iter().filter(|it| is_dialable(it) || relayed(it));
        let place = self.place(key, now);
        // What a member says of itself holds even if its clock, and with it the sequence, went back.
        let newer = place.record.as_ref().is_none_or(|it| it.sequence < record.seq());
        if !newer && from != key {
            return None;
        }
        place.learned = leads.take(ADDRESSES_MAX).cloned().collect();
        place.record = Some(Record { sequence: record.seq(), envelope: envelope.to_vec() });
        Some(())
    }
}

fn framed<'a>(envelopes: impl Iterator<Item = &'a Vec<u8>>) -> Vec<u8> {
    let mut answer = Vec::new();
    for envelope in envelopes {
        if let Ok(length) = u16::try_from(envelope.len()) {
            answer.extend_from_slice(&length.to_be_bytes());
            answer.extend_from_slice(envelope);
        }
    }
    answer
}

/// The pause after `failures` failures: doubling between the bounds, less up to half of it at random, so that a
/// street that lost its power does not dial in step.
pub(super) fn pause(failures: u32) -> Duration {
    let full = REDIAL_MIN.saturating_mul(1 << failures.min(10)).min(REDIAL_MAX);
    // Without random bytes the pause is the full one: jitter is a courtesy, not a need.
    let jitter = getrandom::u32().unwrap_or(0) % 512;
    full.saturating_sub(full / 1024 * jitter).max(REDIAL_MIN)
}

/// The pause before a direct way is tried again, from a second up to five minutes: most pairs that need a relay always do.
fn direct_pause(failures: u32) -> Duration {
    Duration::from_secs(1 << failures.min(10)).min(DIRECT_MAX)
}

/// The first peer that `address` names.
pub(super) fn peer_in(address: &Multiaddr) -> Option<PeerId> {
    address.iter().find_map(|part| if let Protocol::P2p(peer) = part { Some(peer) } else { None })
}

/// TCP on an IP address, and nothing behind it but perhaps the peer id: all that this transport can dial.
fn is_dialable(address: &Multiaddr) -> bool {
    let mut parts = address.iter();
    matches!(parts.next(), Some(Protocol::Ip4(_) | Protocol::Ip6(_)))
        && matches!(parts.next(), Some(Protocol::Tcp(_)))
        && matches!(parts.next(), None | Some(Protocol::P2p(_)))
        && parts.next().is_none()
}

/// Those addresses that other machines can reach, or all if there are none.
pub(super) fn without_loopback(listening: &[Multiaddr]) -> Vec<Multiaddr> {
    let remote: Vec<_> = listening.iter().filter(|it| !is_loopback(it)).cloned().collect();
    if remote.is_empty() { listening.to_vec() } else { remote }
}

fn is_loopback(address: &Multiaddr) -> bool {
    match address.iter().next() {
        Some(Protocol::Ip4(ip)) => ip.is_loopback(),
        Some(Protocol::Ip6(ip)) => ip.is_loopback(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::super::peer_id::keypair_of;
    use super::*;

    fn keypair(seed: u8) -> (Keypair, PublicKey) {
        let signing = SigningKey::from_bytes(&[seed; 32]);
        (keypair_of(&signing).unwrap(), PublicKey::of(&signing))
    }

    fn address(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    /// A book of `seed` that listens on `listening`.
    fn book(seed: u8, listening: &[&str]) -> AddressBook {
        let (keypair, key) = keypair(seed);
        let mut book = AddressBook::new(key, &[], Instant::now());
        book.sign_own(&keypair, Vec::new(), &listening.iter().map(|it| address(it)).collect::<Vec<_>>());
        book
    }

    fn known(book: &AddressBook, key: PublicKey) -> Vec<String> {
        book.places
            .get(&key)
            .map(|it| it.learned.iter().map(ToString::to_string).collect())
            .unwrap_or_default()
    }

    #[test]
    fn records_pass_from_member_to_member() {
        let now = Instant::now();
        let (a, mut b, mut c) = (book(1, &["/ip4/10.0.0.1/tcp/7420"]), book(2, &[]), book(3, &[]));
        assert_eq!(b.learn(a.own, &a.records(), now, |_| true), 1);
        assert_eq!(c.learn(b.own, &b.records(), now, |_| true), 2, "b's own and a's");
        assert_eq!(known(&c, a.own), ["/ip4/10.0.0.1/tcp/7420"]);
        assert_eq!(c.learn(b.own, &b.records(), now, |_| true), 0, "nothing new");
        assert_eq!(c.due(now + HEAD_START, |key| *key == a.own).len(), 1);
    }

    #[test]
    fn records_of_strangers_and_forged_records_are_skipped() {
        let now = Instant::now();
        let (a, mut b) = (book(1, &["/ip4/10.0.0.1/tcp/7420"]), book(2, &[]));
        assert_eq!(b.learn(a.own, &a.records(), now, |_| false), 0);
        let answer = a.records();
        for at in 0..answer.len() {
            let mut damaged = answer.clone();
            damaged[at] ^= 1;
            b.learn(a.own, &damaged, now, |_| true);
            assert!(known(&b, a.own).is_empty(), "byte {at} flipped");
        }
        for cut in 0..answer.len() {
            assert_eq!(b.learn(a.own, &answer[..cut], now, |_| true), 0, "cut at {cut}");
        }
    }

    #[test]
    fn only_the_member_itself_replaces_its_newer_record() {
        let now = Instant::now();
        let (older, mut newer) = (book(1, &["/ip4/10.0.0.1/tcp/1"]), book(2, &[]));
        newer.learn(older.own, &older.records(), now, |_| true);
        newer.places.get_mut(&older.own).unwrap().record.as_mut().unwrap().sequence = u64::MAX;
        let moved = book(1, &["/ip4/10.0.0.2/tcp/1"]);
        assert_eq!(newer.learn(PublicKey([9; 32]), &moved.records(), now, |_| true), 0);
        assert_eq!(newer.learn(moved.own, &moved.records(), now, |_| true), 1);
        assert_eq!(known(&newer, moved.own), ["/ip4/10.0.0.2/tcp/1"]);
    }

    #[test]
    fn loopback_is_told_only_when_there_is_nothing_else() {
        let now = Instant::now();
        let mut reader = book(3, &[]);
        let both = book(1, &["/ip4/127.0.0.1/tcp/1", "/ip4/10.0.0.1/tcp/1"]);
        let alone = book(2, &["/ip4/127.0.0.1/tcp/1"]);
        reader.learn(both.own, &both.records(), now, |_| true);
        reader.learn(alone.own, &alone.records(), now, |_| true);
        assert_eq!(known(&reader, both.own), ["/ip4/10.0.0.1/tcp/1"]);
        assert_eq!(known(&reader, alone.own), ["/ip4/127.0.0.1/tcp/1"]);
    }

    #[test]
    fn only_tcp_on_an_ip_address_is_dialled() {
        for good in ["/ip4/1.2.3.4/tcp/1", "/ip6/::1/tcp/1"] {
            assert!(is_dialable(&address(good)), "{good}");
        }
        for bad in ["/dns4/example.org/tcp/1", "/ip4/1.2.3.4/udp/1", "/ip4/1.2.3.4", "/ip4/1.2.3.4/tcp/1/ws"]
        {
            assert!(!is_dialable(&address(bad)), "{bad}");
        }
    }

    #[test]
    fn pauses_double_between_their_bounds() {
        for failures in 0..40 {
            let longest = REDIAL_MIN.saturating_mul(1 << failures.min(10)).min(REDIAL_MAX);
            let pause = pause(failures);
            assert!(pause >= REDIAL_MIN.max(longest / 2) && pause <= longest, "{failures}: {pause:?}");
        }
    }

    #[test]
    fn a_dial_is_not_repeated_before_it_ended_and_backs_off_after() {
        let now = Instant::now();
        let (_, peer) = keypair(2);
        let configured = format!("/ip4/10.0.0.1/tcp/1/p2p/{}", peer_id_of(&peer).unwrap());
        let mut book = AddressBook::new(keypair(1).1, &[address(&configured)], now);
        let start = now + HEAD_START;
        assert_eq!(book.due(start, |_| true).len(), 1);
        assert!(book.due(start + CONNECT_TIMEOUT, |_| true).is_empty());
        book.not_begun(Whom::Member(peer), start);
        assert!(book.due(start, |_| true).is_empty());
        assert_eq!(book.due(start + REDIAL_MIN, |_| true).len(), 1);
    }

    #[test]
    fn a_direct_way_is_tried_ever_more_rarely_and_never_through_a_relay() {
        let start = Instant::now();
        let (_, peer) = keypair(2);
        let at = |seed| peer_id_of(&keypair(seed).1).unwrap();
        let direct = format!("/ip4/10.0.0.1/tcp/1/p2p/{}", at(2));
        let relayed = format!("/ip4/10.0.0.3/tcp/1/p2p/{}/p2p-circuit/p2p/{}", at(3), at(2));
        let mut book = AddressBook::new(keypair(1).1, &[address(&direct)], start);
        book.place(peer, start).configured.push(address(&relayed));
        book.confirmed(peer, start);
        assert!(book.due_directly(start, |_| true).is_empty(), "hole punching comes first");
        let mut tried = Vec::new();
        for second in 0..2_000 {
            let now = start + Duration::from_secs(second);
            assert!(book.due_directly(now, |_| false).is_empty());
            tried.extend(book.due_directly(now, |it| *it == peer).iter().map(|_| second));
        }
        assert_eq!(tried[..6], [1, 2, 4, 8, 16, 32]);
        assert_eq!(tried[tried.len() - 1] - tried[tried.len() - 2], 300);
        let only_relayed = AddressBook::new(keypair(1).1, &[], start);
        let mut book = only_relayed;
        book.place(peer, start).configured.push(address(&relayed));
        assert!(book.due_directly(start + DIRECT_MAX, |_| true).is_empty());
    }

    #[test]
    fn every_second_attempt_goes_through_relays_and_none_to_an_own_address() {
        let now = Instant::now();
        let (_, peer) = keypair(2);
        let (private, own) = (address("/ip4/192.168.1.20/tcp/1"), address("/ip4/192.168.1.10/tcp/1"));
        let relay = peer_id_of(&keypair(3).1).unwrap();
        let relayed = address(&format!("/ip4/10.0.0.3/tcp/1/p2p/{relay}/p2p-circuit"));
        let mut book = AddressBook::new(keypair(1).1, &[], now);
        book.sign_own(&keypair(1).0, Vec::new(), std::slice::from_ref(&own));
        book.place(peer, now).learned = vec![private.clone(), own, relayed.clone()];
        let addresses = |book: &AddressBook| book.places[&peer].addresses(&book.own_addresses);
        assert_eq!(addresses(&book), [private, relayed.clone()]);
        book.places.get_mut(&peer).unwrap().attempts.failures = 1;
        assert_eq!(addresses(&book), [relayed]);
    }

    #[test]
    fn a_way_through_a_relay_counts_only_if_that_is_a_member() {
        let now = Instant::now();
        let (keypair_of_home, home) = keypair(1);
        let relay = |seed| {
            let id = peer_id_of(&keypair(seed).1).unwrap();
            address(&format!("/ip4/10.0.0.{seed}/tcp/1/p2p/{id}/p2p-circuit"))
        };
        let mut told = AddressBook::new(home, &[], now);
        told.sign_own(&keypair_of_home, vec![relay(3), relay(4), relay(2)], &[]);
        let mut reader = book(2, &[]);
        let members = [home, keypair(3).1, keypair(2).1];
        assert_eq!(reader.learn(home, &told.own_record(), now, |key| members.contains(key)), 1);
        assert_eq!(known(&reader, home), [relay(3).to_string()], "neither a stranger's nor its own");
    }

    #[test]
    fn an_address_without_a_peer_id_finds_its_owner() {
        let now = Instant::now();
        let (_, peer) = keypair(2);
        let mut book = AddressBook::new(keypair(1).1, &[address("/ip4/10.0.0.1/tcp/1")], now);
        let dials = book.due(now, |_| true);
        assert_eq!(dials.iter().map(|it| it.whom).collect::<Vec<_>>(), [Whom::Unknown(0)]);
        book.established(peer, dials[0].options.connection_id(), now);
        let later = now + CONNECT_TIMEOUT * 2;
        let whom: Vec<_> = book.due(later, |_| true).iter().map(|it| it.whom).collect();
        assert_eq!(whom, [Whom::Member(peer)]);
    }
}
