//! What peers exchange once they are connected: gossip, direct messages, questions and answers.

use std::time::Instant;

use bytes::Bytes;
use ledger::PublicKey;
use libp2p::PeerId;
use libp2p::gossipsub::{self, MessageAcceptance, PublishError};
use libp2p::request_response::{
    self, InboundRequestId, Message, OutboundFailure, OutboundRequestId, ResponseChannel,
};
use tokio::sync::oneshot;

use super::{Answer, Asker, Task};
use crate::network::codec::split;
use crate::network::limits::{
    DIRECT_WINDOW, GOSSIP_BYTES_MAX, REQUESTS_IN_MAX, REQUESTS_OUT_MAX, RESPONSE_BYTES_MAX, RateLimit,
};
use crate::network::peer_id::key_of;
use crate::network::{Lane, NetworkEvent, Offence, Reply, RequestError, Topic, Unjudged};

/// First byte of a sync request: a question for the application.
const ASK: u8 = 0;
/// First byte of a sync request: which members' records do you have.
const RECORDS: u8 = 1;
/// First byte of a sync request: my own record, which has changed. The answer is empty.
const TELL: u8 = 2;

impl Task {
    /// Counts what a peer sent against its rate; false if it is over it.
    pub(super) fn admit(&mut self, from: PublicKey, lane: Lane, bytes: usize) -> bool {
        let now = Instant::now();
        let within = self.rates.entry(from).or_insert_with(|| RateLimit::new(now)).admit(now, lane, bytes);
        if !within {
            self.shared.count(|it| &it.rate_dropped);
            self.charge(from, Offence::Excess);
        }
        within
    }

    /// Passes a gossiped message on, or not.
    pub(super) fn judge(&mut self, message: &Unjudged, good: bool) {
        let verdict = if good { MessageAcceptance::Accept } else { MessageAcceptance::Reject };
        let Unjudged { id, relay } = message;
        self.swarm.behaviour_mut().gossip.report_message_validation_result(id, relay, verdict);
    }

    pub(super) fn receive(&mut self, event: NetworkEvent) {
        if !self.inbox.push(event) {
            self.shared.count(|it| &it.inbox_dropped);
        }
    }

    pub(super) fn publish(&mut self, topic: Topic, bytes: &Bytes) {
        match self.swarm.behaviour_mut().gossip.publish(topic.ident(), bytes.to_vec()) {
            // A duplicate has been through here within the last seconds.
            Ok(_) | Err(PublishError::Duplicate) => {}
            Err(error) => {
                self.shared.count(|it| &it.gossip_unsent);
                tracing::debug!(?topic, %error, "not gossiped, it is sent again if it matters");
            }
        }
    }

    pub(super) fn on_gossip(
        &mut self,
        relay: PeerId,
        id: &gossipsub::MessageId,
        message: gossipsub::Message,
    ) {
        let topic = Topic::from_hash(&message.topic);
        let Some((from, topic)) = key_of(&relay).zip(topic).filter(|(from, _)| self.confirm(*from)) else {
            return;
        };
        let fits = !message.data.is_empty() && message.data.len() <= GOSSIP_BYTES_MAX;
        if !fits {
            self.shared.count(|it| &it.malformed);
            self.charge(from, Offence::Malformed);
        }
        let lane = match topic {
            Topic::Entries => Lane::Entries,
            Topic::Finals => Lane::Blocks,
        };
        let accepted = fits && self.admit(from, lane, message.data.len());
        let verdict = match (fits, accepted, topic) {
            (false, _, _) => Some(MessageAcceptance::Reject),
            (true, false, _) => Some(MessageAcceptance::Ignore),
            (true, true, Topic::Finals) => Some(MessageAcceptance::Accept),
            // Whoever judges the entries says it later.
            (true, true, Topic::Entries) => None,
        };
        let unjudged = verdict.is_none().then(|| Unjudged { id: id.clone(), relay });
        if let Some(verdict) = verdict {
            self.swarm.behaviour_mut().gossip.report_message_validation_result(id, &relay, verdict);
        }
        if accepted {
            self.receive(NetworkEvent::Gossip { topic, from, bytes: message.data, unjudged });
        }
    }

    /// Sends what waits, to each peer as far as its window allows.
    pub(super) fn flush_all(&mut self) {
        for key in self.shared.waiting() {
            self.flush(&key);
        }
    }

    pub(super) fn flush(&mut self, key: &PublicKey) {
        let Some(link) = self.links.get_mut(key).filter(|link| link.confirmed) else { return };
        while link.in_flight.len() < DIRECT_WINDOW {
            let Some(frame) = self.shared.next_frame(key) else { return };
            link.in_flight.insert(self.swarm.behaviour_mut().direct.send_request(&link.peer, frame));
        }
    }

    pub(super) fn on_direct(&mut self, event: request_response::Event<Vec<u8>, Vec<u8>>) {
        match event {
            request_response::Event::Message { peer, message, .. } => match message {
                Message::Request { request, channel, .. } => self.on_frame(peer, &request, channel),
                Message::Response { request_id, .. } => self.on_acknowledged(peer, request_id),
            },
            request_response::Event::OutboundFailure { peer, request_id, error, .. } => {
                self.on_unacknowledged(peer, request_id, &error);
            }
            request_response::Event::InboundFailure { peer, error, .. } => {
                tracing::debug!(peer_id = %peer, %error, "message of a peer not taken");
            }
            request_response::Event::ResponseSent { .. } => {}
        }
    }

    pub(super) fn on_frame(&mut self, peer: PeerId, frame: &[u8], channel: ResponseChannel<Vec<u8>>) {
        let Some(from) = key_of(&peer).filter(|from| self.confirm(*from)) else { return };
        let Some(messages) = split(frame) else {
            self.shared.count(|it| &it.malformed);
            tracing::warn!(peer_id = %peer, "malformed frame, disconnected");
            self.charge(from, Offence::Malformed);
            let _ = self.swarm.disconnect_peer_id(peer);
            return;
        };
        for message in messages {
            let Some(lane) = (self.lane_of)(message) else {
                self.shared.count(|it| &it.malformed);
                self.charge(from, Offence::Unreadable);
                continue;
            };
            if self.admit(from, lane, message.len()) {
                self.receive(NetworkEvent::Message { from, bytes: message.to_vec() });
            }
        }
        // Acknowledged even if dropped here: sending it again at once would make matters worse.
        let _ = self.swarm.behaviour_mut().direct.send_response(channel, Vec::new());
    }

    pub(super) fn on_acknowledged(&mut self, peer: PeerId, id: OutboundRequestId) {
        let Some(key) = key_of(&peer) else { return };
        let Some(link) = self.links.get_mut(&key) else { return };
        match link.probe.take_if(|(probe, _)| *probe == id) {
            Some((_, sent)) => self.shared.measured(&key, sent.elapsed()),
            None => {
                link.in_flight.remove(&id);
                self.flush(&key);
            }
        }
    }

    pub(super) fn on_unacknowledged(&mut self, peer: PeerId, id: OutboundRequestId, error: &OutboundFailure) {
        let Some(key) = key_of(&peer) else { return };
        let Some(link) = self.links.get_mut(&key) else { return };
        if link.probe.take_if(|(probe, _)| *probe == id).is_some() {
            if matches!(error, OutboundFailure::Timeout) {
                tracing::warn!(peer_id = %peer, "peer is silent, connection closed");
                let _ = self.swarm.disconnect_peer_id(peer);
            }
        } else if link.in_flight.remove(&id) {
            self.shared.count(|it| &it.unacknowledged);
            tracing::debug!(peer_id = %peer, %error, "direct messages not acknowledged");
            self.flush(&key);
        }
    }

    pub(super) fn ask(&mut self, to: PublicKey, bytes: &[u8], reply: Asker) {
        let refused = match self.links.get(&to).filter(|link| link.confirmed) {
            None => Some(RequestError::NotConnected),
            Some(link) if link.waiting() >= REQUESTS_OUT_MAX => Some(RequestError::Busy),
            Some(_) => None,
        };
        if let Some(error) = refused {
            // The asker may have stopped waiting.
            let _ = reply.send(Err(error));
            return;
        }
        self.send_question(to, [&[ASK], bytes].concat(), Some(reply));
    }

    pub(super) fn ask_records(&mut self, of: PublicKey) {
        self.send_question(of, vec![RECORDS], None);
    }

    /// Tells every peer this node's record anew.
    pub(super) fn tell_record(&mut self) {
        let told = [&[TELL], self.book.own_record().as_slice()].concat();
        let peers = self.links.iter().filter(|(_, link)| link.confirmed).map(|(key, _)| *key);
        for key in peers.collect::<Vec<_>>() {
            self.send_question(key, told.clone(), None);
        }
    }

    fn learn(&mut self, from: PublicKey, records: &[u8]) -> usize {
        let members = &self.members;
        self.book.learn(from, records, Instant::now(), |key| members.contains(key))
    }

    pub(super) fn send_question(&mut self, to: PublicKey, question: Vec<u8>, reply: Option<Asker>) {
        if let Some(link) = self.links.get_mut(&to) {
            link.asked.insert(self.swarm.behaviour_mut().sync.send_request(&link.peer, question), reply);
        }
    }

    pub(super) fn on_sync(&mut self, event: request_response::Event<Vec<u8>, Vec<u8>>) {
        match event {
            request_response::Event::Message { peer, message, .. } => match message {
                Message::Request { request_id, request, channel } => {
                    self.on_question(peer, request_id, request, channel);
                }
                Message::Response { request_id, response } => self.on_answer(peer, request_id, response),
            },
            request_response::Event::OutboundFailure { peer, request_id, error, .. } => {
                tracing::debug!(peer_id = %peer, %error, "question not answered");
                self.on_no_answer(peer, request_id);
            }
            request_response::Event::InboundFailure { peer, request_id, error, .. } => {
                tracing::debug!(peer_id = %peer, %error, "message of a peer not taken");
                self.answered(peer, request_id);
            }
            request_response::Event::ResponseSent { peer, request_id, .. } => self.answered(peer, request_id),
        }
    }

    pub(super) fn on_question(
        &mut self,
        peer: PeerId,
        id: InboundRequestId,
        mut question: Vec<u8>,
        channel: ResponseChannel<Vec<u8>>,
    ) {
        let Some(from) = key_of(&peer).filter(|from| self.confirm(*from)) else { return };
        if !self.admit(from, Lane::Questions, question.len()) {
            return;
        }
        match question.first() {
            Some(&RECORDS) => {
                let records = self.book.records();
                let _ = self.swarm.behaviour_mut().sync.send_response(channel, records);
            }
            Some(&TELL) => {
                self.learn(from, question.get(1..).unwrap_or_default());
                let _ = self.swarm.behaviour_mut().sync.send_response(channel, Vec::new());
            }
            Some(&ASK) => {
                question.remove(0);
                self.on_application_question(from, id, question, channel);
            }
            _ => self.shared.count(|it| &it.malformed),
        }
    }

    pub(super) fn on_application_question(
        &mut self,
        from: PublicKey,
        id: InboundRequestId,
        bytes: Vec<u8>,
        channel: ResponseChannel<Vec<u8>>,
    ) {
        let Some(link) = self.links.get_mut(&from) else { return };
        if link.answering.len() >= REQUESTS_IN_MAX {
            // Dropping the channel tells the peer that there is no answer.
            self.shared.count(|it| &it.requests_refused);
            return;
        }
        link.answering.insert(id);
        let (reply, answer) = oneshot::channel();
        self.answers
            .push(Box::pin(async move { Answer { to: from, id, channel, bytes: answer.await.ok() } }));
        self.receive(NetworkEvent::Request { from, bytes, reply: Reply(reply) });
    }

    pub(super) fn answer(&mut self, answer: Answer) {
        let Some(bytes) = answer.bytes.filter(|bytes| bytes.len() <= RESPONSE_BYTES_MAX) else {
            if let Some(link) = self.links.get_mut(&answer.to) {
                link.answering.remove(&answer.id);
            }
            return;
        };
        // An error says that the peer has gone; `answered` follows in either case.
        let _ = self.swarm.behaviour_mut().sync.send_response(answer.channel, bytes);
    }

    pub(super) fn answered(&mut self, peer: PeerId, id: InboundRequestId) {
        if let Some(link) = key_of(&peer).and_then(|key| self.links.get_mut(&key)) {
            link.answering.remove(&id);
        }
    }

    pub(super) fn on_answer(&mut self, peer: PeerId, id: OutboundRequestId, answer: Vec<u8>) {
        let Some(key) = key_of(&peer) else { return };
        match self.links.get_mut(&key).and_then(|link| link.asked.remove(&id)) {
            Some(Some(reply)) => {
                // The asker may have stopped waiting.
                let _ = reply.send(Ok(answer));
            }
            Some(None) => {
                let learned = self.learn(key, &answer);
                tracing::debug!(peer_id = %peer, learned, "records of members learned");
            }
            None => {}
        }
    }

    pub(super) fn on_no_answer(&mut self, peer: PeerId, id: OutboundRequestId) {
        if let Some(link) = key_of(&peer).and_then(|key| self.links.get_mut(&key)) {
            // Dropping the sender tells the asker that it was refused.
            link.asked.remove(&id);
        }
    }
}
