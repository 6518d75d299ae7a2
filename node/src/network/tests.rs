//! Real hosts on loopback, each with its own task and port.

use std::time::{Duration, Instant};

use ed25519_dalek::SigningKey;
use futures::StreamExt;
use ledger::{Hash32, PublicKey};
use libp2p::request_response::{self, ProtocolSupport};
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, StreamProtocol, Swarm, SwarmBuilder, noise, tcp, yamux};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::behaviour::direct_protocol;
use super::codec::{DIRECT_FRAME_MAX, FrameCodec, append};
use super::limits::WORDS_PER_SECOND;
use super::*;

const CHAIN: Hash32 = Hash32([1; 32]);
const PATIENCE: Duration = Duration::from_secs(20);

fn signing(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn key(seed: u8) -> PublicKey {
    PublicKey::of(&signing(seed))
}

fn members(seeds: &[u8]) -> Vec<PublicKey> {
    seeds.iter().map(|seed| key(*seed)).collect()
}

/// In these tests what is long is a block, what is a frame long is one of entries.
fn by_length(bytes: &[u8]) -> Option<Lane> {
    Some(match bytes.len() {
        0..1000 => Lane::Words,
        1000..=GOSSIP_BYTES_MAX => Lane::Entries,
        _ => Lane::Blocks,
    })
}

/// One running host.
struct Host {
    handle: NetworkHandle,
    events: mpsc::Receiver<NetworkEvent>,
}

impl Host {
    /// Host `seed` of `chain` that admits `members` and dials `peers`.
    async fn on(chain: Hash32, seed: u8, admitted: &[u8], peers: Vec<Multiaddr>, port: u16) -> Self {
        Self::relaying(chain, seed, admitted, (peers, port), Relaying::default()).await
    }

    async fn relaying(
        chain: Hash32,
        seed: u8,
        admitted: &[u8],
        (peers, port): (Vec<Multiaddr>, u16),
        relaying: Relaying,
    ) -> Self {
        let (handle, events) = spawn(NetworkConfig {
            key: signing(seed),
            chain,
            listen: vec![format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap()],
            peers,
            members: members(admitted),
            mdns: false,
            entries: true,
            lane_of: by_length,
            relaying,
        })
        .await
        .unwrap();
        Self { handle, events }
    }

    async fn start(seed: u8, admitted: &[u8], peers: Vec<Multiaddr>) -> Self {
        Self::on(CHAIN, seed, admitted, peers, 0).await
    }

    fn address(&self) -> Multiaddr {
        self.handle.listen_addresses().remove(0)
    }

    fn port(&self) -> u16 {
        let text = self.address().to_string();
        text.rsplit('/').next().unwrap().parse().unwrap()
    }

    /// The first event for which `pick` has a value; others are passed over.
    async fn expect<T>(&mut self, what: &str, pick: impl Fn(NetworkEvent) -> Option<T>) -> T {
        let found = async {
            loop {
                let event = self.events.recv().await.expect("network runs");
                if let Some(found) = pick(event) {
                    return found;
                }
            }
        };
        timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("no {what}"))
    }

    async fn up(&mut self, seed: u8) {
        self.expect("peer up", |it| {
            matches!(it, NetworkEvent::PeerUp(peer) if peer == key(seed)).then_some(())
        })
        .await;
    }

    async fn down(&mut self, seed: u8) {
        let is_down = |it| matches!(it, NetworkEvent::PeerDown(peer) if peer == key(seed)).then_some(());
        self.expect("peer down", is_down).await;
    }

    async fn message(&mut self) -> (PublicKey, Vec<u8>) {
        self.expect("message", |it| match it {
            NetworkEvent::Message { from, bytes } => Some((from, bytes)),
            _ => None,
        })
        .await
    }

    async fn gossip(&mut self) -> (Topic, Vec<u8>) {
        self.expect("gossip", |it| match it {
            NetworkEvent::Gossip { topic, bytes, .. } => Some((topic, bytes)),
            _ => None,
        })
        .await
    }

    /// Nothing happens for `time`.
    async fn quiet(&mut self, time: Duration) {
        if let Ok(event) = timeout(time, self.events.recv()).await {
            panic!("unexpected {event:?}");
        }
    }

    /// Answers each request with its bytes reversed.
    fn answering(mut self) -> NetworkHandle {
        let handle = self.handle.clone();
        tokio::spawn(async move {
            while let Some(event) = self.events.recv().await {
                if let NetworkEvent::Request { mut bytes, reply, .. } = event {
                    bytes.reverse();
                    reply.send(bytes);
                }
            }
        });
        handle
    }
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Two members that know each other.
async fn pair() -> (Host, Host) {
    let mut a = Host::start(1, &[1, 2], vec![]).await;
    let mut b = Host::start(2, &[1, 2], vec![a.address()]).await;
    a.up(2).await;
    b.up(1).await;
    (a, b)
}

/// A member's bare libp2p host that keeps no limit of its own.
fn unbounded(seed: u8) -> Swarm<request_response::Behaviour<FrameCodec>> {
    let protocol = StreamProtocol::try_from_owned(direct_protocol(&CHAIN)).unwrap();
    let codec = FrameCodec { request_max: 1 << 30, response_max: 1 << 30, shared: Arc::default() };
    let behaviour = request_response::Behaviour::with_codec(
        codec,
        [(protocol, ProtocolSupport::Full)],
        request_response::Config::default(),
    );
    SwarmBuilder::with_existing_identity(peer_id::keypair_of(&signing(seed)).unwrap())
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|_| behaviour)
        .unwrap()
        .with_swarm_config(|config| config.with_idle_connection_timeout(PATIENCE))
        .build()
}

/// Sends one frame as it is; true if it was acknowledged.
async fn send_raw(
    swarm: &mut Swarm<request_response::Behaviour<FrameCodec>>,
    to: u8,
    frame: Vec<u8>,
) -> bool {
    swarm.behaviour_mut().send_request(&peer_id_of(&key(to)).unwrap(), frame);
    loop {
        match swarm.select_next_some().await {
            SwarmEvent::Behaviour(request_response::Event::OutboundFailure { .. }) => return false,
            SwarmEvent::Behaviour(request_response::Event::Message {
                message: request_response::Message::Response { .. },
                ..
            }) => return true,
            _ => {}
        }
    }
}

async fn connect_raw(seed: u8, to: &Host) -> Swarm<request_response::Behaviour<FrameCodec>> {
    let mut swarm = unbounded(seed);
    swarm.dial(to.address()).unwrap();
    while !matches!(swarm.select_next_some().await, SwarmEvent::ConnectionEstablished { .. }) {}
    swarm
}

/// One host between two that do not admit each other, and judges what it relays; the last one listens.
async fn relayed(good: bool) -> Option<Vec<u8>> {
    let mut a = Host::start(1, &[1, 2, 3], vec![]).await;
    let mut b = Host::start(2, &[1, 2], vec![a.address()]).await;
    let mut c = Host::start(3, &[1, 3], vec![a.address()]).await;
    a.up(2).await;
    b.up(1).await;
    c.up(1).await;
    let handle = a.handle.clone();
    let judging = tokio::spawn(async move {
        let mut judged = 0;
        while let Some(event) = a.events.recv().await {
            if let NetworkEvent::Gossip { unjudged: Some(message), .. } = event {
                handle.judge(message, good);
                judged += 1;
            }
            if judged >= 4 && !good {
                break;
            }
        }
        a
    });
    // Subscriptions travel after the connection; what is published before them is lost, as any gossip may be.
    for sent in 1..20u8 {
        b.handle.gossip(Topic::Entries, vec![sent; 10]).await;
        let heard = c.expect("gossip", |it| match it {
            NetworkEvent::Gossip { topic: Topic::Entries, bytes, .. } => Some(bytes),
            _ => None,
        });
        if let Ok(bytes) = timeout(Duration::from_millis(500), heard).await {
            judging.abort();
            return Some(bytes);
        }
        if judging.is_finished() {
            return None;
        }
    }
    panic!("nothing was ever judged");
}

#[tokio::test]
async fn gossip_is_relayed_between_members_that_are_not_connected() {
    assert_eq!(relayed(true).await.map(|bytes| bytes.len()), Some(10));
}

#[tokio::test]
async fn gossip_that_was_found_bad_is_passed_on_to_nobody() {
    assert_eq!(relayed(false).await, None);
}

#[tokio::test]
async fn a_member_with_too_many_offences_is_disconnected_and_refused() {
    let (a, mut b) = pair().await;
    for _ in 0..3 {
        b.handle.charge(key(1), Offence::Forged);
    }
    b.quiet(Duration::from_millis(300)).await;
    assert_eq!(b.handle.banned(), []);
    b.handle.charge(key(1), Offence::Forged);
    b.down(1).await;
    let banned: Vec<_> = b.handle.banned().iter().map(|banned| (banned.key, banned.offence)).collect();
    assert_eq!(banned, [(key(1), Offence::Forged)]);
    // It is dialled by nobody, and lets nobody in: the other one goes on trying.
    b.quiet(Duration::from_secs(1)).await;
    assert_eq!((a.handle.banned().len(), b.handle.counters().bans), (0, 1));
}

#[tokio::test]
async fn what_an_honest_node_brings_after_an_outage_is_no_offence() {
    let (a, mut b) = pair().await;
    // Two weeks of a journal in frames, then a megabyte of blocks ten times: all at once.
    for n in 0..8u8 {
        assert!(a.handle.try_send(key(2), vec![n; GOSSIP_BYTES_MAX]));
    }
    let mut heard = 0;
    for n in 0..10u8 {
        assert!(a.handle.try_send(key(2), vec![n; 1024 * 1024]));
        while timeout(Duration::from_millis(50), b.message()).await.is_ok() {
            heard += 1;
        }
    }
    while heard < 18 {
        b.message().await;
        heard += 1;
    }
    assert_eq!((b.handle.banned().len(), b.handle.counters().rate_dropped), (0, 0));
}

#[tokio::test]
async fn members_learn_each_others_addresses_and_connect_directly() {
    let a = Host::start(1, &[1, 2, 3], vec![]).await;
    let mut b = Host::start(2, &[1, 2, 3], vec![a.address()]).await;
    b.up(1).await;
    let mut c = Host::start(3, &[1, 2, 3], vec![a.address()]).await;
    c.up(2).await;
    b.up(3).await;
    let peers: Vec<PublicKey> = c.handle.peers().into_iter().map(|peer| peer.key).collect();
    assert!(peers.contains(&key(1)) && peers.contains(&key(2)));
}

#[tokio::test]
async fn a_burst_of_longest_gossip_arrives_whole() {
    let (a, mut b) = pair().await;
    // Until a has heard what b subscribes to.
    eventually("subscription", || a.handle.try_gossip(Topic::Finals, vec![0; 8]) && !b.events.is_empty())
        .await;
    for n in 0..40u8 {
        a.handle.gossip(Topic::Finals, vec![n; GOSSIP_BYTES_MAX]).await;
    }
    let mut heard = 0;
    while heard < 40 {
        let (topic, bytes) = b.gossip().await;
        heard += usize::from(bytes.len() == GOSSIP_BYTES_MAX);
        assert_eq!(topic, Topic::Finals);
    }
    assert_eq!(b.handle.counters().malformed, 0);
}

#[tokio::test]
async fn the_same_gossip_is_delivered_once() {
    let (a, mut b) = pair().await;
    eventually("subscription", || a.handle.try_gossip(Topic::Entries, vec![0; 8]) && !b.events.is_empty())
        .await;
    b.gossip().await;
    for _ in 0..3 {
        a.handle.gossip(Topic::Entries, vec![0; 8]).await;
    }
    a.handle.gossip(Topic::Entries, vec![9; 9]).await;
    assert_eq!(b.gossip().await.1, vec![9; 9], "nothing between the first and the last");
}

#[tokio::test]
async fn direct_messages_all_arrive_up_to_the_longest() {
    let (a, mut b) = pair().await;
    for n in 0..500u32 {
        assert!(a.handle.try_send(key(2), n.to_be_bytes().to_vec()));
    }
    let mut heard: Vec<u32> = Vec::new();
    for _ in 0..500 {
        let (from, bytes) = b.message().await;
        assert_eq!(from, key(1));
        heard.push(u32::from_be_bytes(bytes.try_into().unwrap()));
    }
    heard.sort_unstable();
    assert_eq!(heard, (0..500).collect::<Vec<_>>());
    assert!(a.handle.try_send(key(2), vec![5; DIRECT_BYTES_MAX]));
    assert_eq!(b.message().await.1, vec![5; DIRECT_BYTES_MAX]);
    assert!(!a.handle.try_send(key(2), vec![5; DIRECT_BYTES_MAX + 1]), "over the limit");
    assert!(!a.handle.try_send(key(3), vec![5]), "not connected");
    assert_eq!(a.handle.counters().too_long, 1);
}

#[tokio::test]
async fn requests_are_answered_up_to_the_longest_and_refused_beyond() {
    let (a, b) = pair().await;
    let b = b.answering();
    let answer = a.handle.request(key(2), b"abc".to_vec(), PATIENCE).await;
    assert_eq!(answer, Ok(b"cba".to_vec()));
    let longest = vec![1; REQUEST_BYTES_MAX];
    assert_eq!(a.handle.request(key(2), longest.clone(), PATIENCE).await, Ok(longest));
    let too_long = a.handle.request(key(2), vec![1; REQUEST_BYTES_MAX + 1], PATIENCE).await;
    assert_eq!(too_long, Err(RequestError::TooLong { length: REQUEST_BYTES_MAX + 1 }));
    assert_eq!(a.handle.request(key(3), vec![1], PATIENCE).await, Err(RequestError::NotConnected));
    drop(b);
}

#[tokio::test]
async fn an_answer_of_four_mebibytes_arrives_and_a_longer_one_is_refused() {
    let (a, mut b) = pair().await;
    for (length, arrives) in [(RESPONSE_BYTES_MAX, true), (RESPONSE_BYTES_MAX + 1, false)] {
        let asking = tokio::spawn({
            let a = a.handle.clone();
            async move { a.request(key(2), vec![1], PATIENCE).await }
        });
        let reply = b
            .expect("request", |it| match it {
                NetworkEvent::Request { reply, .. } => Some(reply),
                _ => None,
            })
            .await;
        reply.send(vec![3; length]);
        let answer = asking.await.unwrap();
        assert_eq!(
            answer.as_ref().map(Vec::len),
            if arrives { Ok(length) } else { Err(&RequestError::Refused) }
        );
    }
}

#[tokio::test]
async fn a_request_that_nobody_answers_times_out_and_too_many_are_refused() {
    let (a, b) = pair().await;
    let asking: Vec<_> = (0..6)
        .map(|_| {
            let a = a.handle.clone();
            tokio::spawn(async move { a.request(key(2), vec![1], Duration::from_secs(1)).await })
        })
        .collect();
    let answers = futures::future::join_all(asking).await;
    let count =
        |wanted: RequestError| answers.iter().filter(|it| *it.as_ref().unwrap() == Err(wanted)).count();
    assert_eq!(count(RequestError::Timeout { timeout_ms: 1000 }), 4);
    assert_eq!(count(RequestError::Busy), 2);
    drop(b);
}

#[tokio::test]
async fn a_stranger_is_refused_and_what_it_sends_reaches_nobody() {
    let mut a = Host::start(1, &[1, 2], vec![]).await;
    let stranger = Host::start(9, &[1, 9], vec![a.address()]).await;
    eventually("stranger counted", || a.handle.counters().strangers > 0).await;
    assert!(a.handle.peers().is_empty() && stranger.handle.peers().is_empty());
    a.quiet(Duration::from_millis(500)).await;
}

#[tokio::test]
async fn a_member_of_another_chain_is_disconnected() {
    let mut a = Host::start(1, &[1, 2], vec![]).await;
    let mut b = Host::on(Hash32([2; 32]), 2, &[1, 2], vec![a.address()], 0).await;
    // Whoever hears the other's chain first ends it.
    let told_apart = || a.handle.counters().other_chain + b.handle.counters().other_chain > 0;
    eventually("other chain counted", told_apart).await;
    a.quiet(Duration::from_millis(300)).await;
    b.quiet(Duration::from_millis(300)).await;
    assert!(a.handle.peers().is_empty() && b.handle.peers().is_empty());
    assert_eq!(a.handle.counters().strangers, 0);
}

#[tokio::test]
async fn a_frame_over_the_limit_is_refused_and_the_connection_survives() {
    let mut a = Host::start(1, &[1, 2], vec![]).await;
    let mut raw = connect_raw(2, &a).await;
    assert!(!send_raw(&mut raw, 1, vec![1; DIRECT_FRAME_MAX + 1]).await, "refused");
    let mut frame = Vec::new();
    append(&mut frame, b"still here");
    assert!(send_raw(&mut raw, 1, frame).await, "acknowledged");
    assert_eq!(a.message().await, (key(2), b"still here".to_vec()));
    assert_eq!(a.handle.counters().malformed, 1);
}

#[tokio::test]
async fn a_malformed_frame_ends_the_connection_and_nothing_else() {
    let mut a = Host::start(1, &[1, 2, 3], vec![]).await;
    let mut c = Host::start(3, &[1, 2, 3], vec![a.address()]).await;
    a.up(3).await;
    c.up(1).await;
    let mut raw = connect_raw(2, &a).await;
    assert!(!send_raw(&mut raw, 1, vec![0xff; 100]).await);
    a.down(2).await;
    assert!(c.handle.try_send(key(1), vec![7]));
    assert_eq!(a.message().await, (key(3), vec![7]));
}

#[tokio::test]
async fn messages_over_the_rate_are_dropped_and_counted() {
    let (a, mut b) = pair().await;
    let sent = 4000u64;
    let start = Instant::now();
    for n in 0..sent {
        assert!(a.handle.try_send(key(2), n.to_be_bytes().to_vec()));
    }
    let mut heard = 0u64;
    while heard + b.handle.counters().rate_dropped < sent {
        if timeout(Duration::from_millis(100), b.message()).await.is_ok() {
            heard += 1;
        }
        assert!(start.elapsed() < PATIENCE, "{heard} heard, {:?}", b.handle.counters());
    }
    assert!(b.handle.counters().rate_dropped > 0);
    // What made the connection counts as well.
    assert!(heard + 10 >= WORDS_PER_SECOND, "{heard}: a second's burst is admitted");
    let (a, b) = (a.handle.counters(), b.handle.counters());
    assert_eq!((a.outbox_dropped, a.unacknowledged, b.inbox_dropped), (0, 0, 0));
}

#[tokio::test]
async fn a_restarted_peer_is_back_within_five_seconds() {
    let mut a = Host::start(1, &[1, 2], vec![]).await;
    let mut b = Host::start(2, &[1, 2], vec![a.address()]).await;
    a.up(2).await;
    b.up(1).await;
    let (port, peers) = (a.port(), vec![b.address()]);
    a.handle.shutdown().await;
    b.down(1).await;
    sleep(Duration::from_secs(1)).await;
    let start = Instant::now();
    // It dials nobody itself: the other one must find it again.
    let mut a = Host::on(CHAIN, 1, &[1, 2], vec![], port).await;
    a.up(2).await;
    b.up(1).await;
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert!(b.handle.try_send(key(1), vec![1]));
    a.message().await;
    drop(peers);
}

#[tokio::test]
async fn a_peer_that_dials_anew_has_lost_its_old_connection_and_both_ends_are_told() {
    let (_silent, mut b) = pair().await;
    sleep(Duration::from_millis(3200)).await;
    // The same member from elsewhere, as after a power cut that no packet announced.
    let mut again = Host::start(1, &[1, 2], vec![b.address()]).await;
    again.up(2).await;
    b.down(1).await;
    b.up(1).await;
}

#[tokio::test]
async fn a_member_that_is_removed_is_disconnected_and_comes_back_when_admitted_again() {
    let (mut a, mut b) = pair().await;
    a.handle.set_members(members(&[1]));
    a.down(2).await;
    b.down(1).await;
    assert!(!a.handle.try_send(key(2), vec![1]));
    a.handle.set_members(members(&[1, 2]));
    a.up(2).await;
}

#[tokio::test]
async fn the_round_trip_is_measured_and_peers_are_listed() {
    let (a, _b) = pair().await;
    eventually("round trip", || a.handle.peers().first().is_some_and(|peer| peer.rtt.is_some())).await;
    let peer = a.handle.peers().remove(0);
    assert_eq!(peer.key, key(2));
    assert!(peer.connected_since_ms > 0 && peer.rtt.unwrap() < Duration::from_secs(5));
}

#[tokio::test]
async fn messages_sent_just_before_a_stop_arrive_and_the_handle_then_refuses() {
    let (a, mut b) = pair().await;
    assert!(a.handle.try_send(key(2), b"last words".to_vec()));
    a.handle.shutdown().await;
    assert_eq!(b.message().await.1, b"last words");
    b.down(1).await;
    assert!(!a.handle.try_send(key(2), vec![1]));
    assert!(!a.handle.try_gossip(Topic::Entries, vec![1]));
    assert_eq!(a.handle.request(key(2), vec![1], PATIENCE).await, Err(RequestError::Stopped));
    a.handle.shutdown().await;
}

#[tokio::test]
async fn an_address_that_cannot_be_listened_on_is_named() {
    let a = Host::start(1, &[1], vec![]).await;
    let taken = a.address().to_string();
    for address in
        [taken.as_str(), "/ip4/203.0.113.1/tcp/7420", "/ip4/127.0.0.1/udp/7420", "/dns4/localhost/tcp/7420"]
    {
        let config = NetworkConfig {
            key: signing(2),
            chain: CHAIN,
            listen: vec![address.parse().unwrap()],
            peers: vec![],
            members: vec![],
            mdns: false,
            entries: true,
            lane_of: |_| Some(Lane::Words),
            relaying: Relaying::default(),
        };
        let error = spawn(config).await.err().expect(address);
        assert!(error.to_string().contains(address), "{error}");
    }
}

/// A member that passes connections on.
async fn relay(seed: u8, admitted: &[u8], peers: Vec<Multiaddr>) -> (Host, Multiaddr) {
    let relaying = Relaying { serves: true, ..Relaying::default() };
    let host = Host::relaying(CHAIN, seed, admitted, (peers, 0), relaying).await;
    let address = host.address().with_p2p(peer_id_of(&key(seed)).unwrap()).unwrap();
    (host, address)
}

/// A member that listens nowhere: only relays lead to it.
async fn hidden(seed: u8, admitted: &[u8], relays: &[&Multiaddr]) -> Host {
    let relays = relays.iter().map(|relay| (*relay).clone()).collect();
    let relaying = Relaying { relays, ..Relaying::default() };
    let config = NetworkConfig {
        key: signing(seed),
        chain: CHAIN,
        listen: vec![],
        peers: vec![],
        members: members(admitted),
        mdns: false,
        entries: true,
        lane_of: by_length,
        relaying,
    };
    let (handle, events) = spawn(config).await.unwrap();
    Host { handle, events }
}

fn way_to(host: &Host, seed: u8) -> Option<String> {
    let peers = host.handle.peers();
    peers.iter().find(|peer| peer.key == key(seed)).map(|peer| peer.address.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_homes_that_nobody_can_dial_find_each_other_and_outlive_one_of_two_relays() {
    let all = [1, 2, 3, 4];
    let (first, at_first) = relay(1, &all, vec![]).await;
    let (second, at_second) = relay(2, &all, vec![at_first.clone()]).await;
    let mut a = hidden(3, &all, &[&at_first, &at_second]).await;
    let mut b = hidden(4, &all, &[&at_second, &at_first]).await;
    a.up(4).await;
    b.up(3).await;
    assert!(a.handle.try_send(key(4), vec![7; 300_000]));
    assert_eq!(b.message().await, (key(3), vec![7; 300_000]));
    for host in [&a, &b] {
        eventually("both relays take connections", || {
            host.handle.relays().relays.iter().all(|relay| relay.reserved)
        })
        .await;
    }
    assert!(way_to(&a, 4).unwrap().contains("/p2p-circuit"), "{:?}", way_to(&a, 4));
    assert_eq!(second.handle.relays().serving.unwrap().homes, 2);

    // Whichever relay they met through goes; the other takes its place, if it had not one beside it.
    let through_first = way_to(&a, 4).unwrap().starts_with(&at_first.to_string());
    let (gone, left, way) =
        if through_first { (&first, &second, &at_second) } else { (&second, &first, &at_first) };
    gone.handle.shutdown().await;
    let through = |host: &Host, seed| way_to(host, seed).is_some_and(|it| it.starts_with(&way.to_string()));
    eventually("the other relay is the way", || through(&a, 4) && through(&b, 3)).await;
    assert!(a.handle.try_send(key(4), vec![8]));
    assert_eq!(b.message().await, (key(3), vec![8]));
    assert!(left.handle.relays().serving.unwrap().circuits > 0);
    eventually("the lost relay is known to be lost", || {
        a.handle.relays().relays.iter().filter(|relay| relay.reserved).count() == 1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_is_no_relay_takes_no_connections_for_others() {
    let all = [1, 3, 4];
    let plain = Host::start(1, &all, vec![]).await;
    let at_plain = plain.address().with_p2p(peer_id_of(&key(1)).unwrap()).unwrap();
    let mut a = hidden(3, &all, &[&at_plain]).await;
    let b = hidden(4, &all, &[&at_plain]).await;
    a.up(1).await;
    // It was asked, refused, and is asked again: several times within this while.
    sleep(Duration::from_secs(2)).await;
    assert!(a.handle.relays().relays.iter().all(|relay| !relay.reserved));
    assert_eq!((plain.handle.relays().serving, way_to(&b, 3)), (None, None));
}
