//! The two bounded queues of the network task: out to each peer, and in to the receiver of events.

use std::collections::VecDeque;

use bytes::Bytes;
use ledger::PublicKey;

use super::NetworkEvent;
use super::codec::{DIRECT_FRAME_MAX, append, framed_len};
use super::limits::{
    FRAME_MESSAGES_MAX, INBOX_BYTES_MAX, INBOX_EVENTS_MAX, OUTBOX_BYTES_MAX, OUTBOX_MESSAGES_MAX,
};

/// Direct messages waiting for one peer's window.
#[derive(Default)]
pub(super) struct Outbox {
    queue: VecDeque<Bytes>,
    bytes: usize,
}

impl Outbox {
    /// Queues `message`; returns how many of the oldest had to be dropped for it.
    pub(super) fn push(&mut self, message: Bytes) -> u64 {
        self.bytes = self.bytes.saturating_add(message.len());
        self.queue.push_back(message);
        let mut dropped = 0;
        while self.queue.len() > OUTBOX_MESSAGES_MAX || self.bytes > OUTBOX_BYTES_MAX {
            let Some(oldest) = self.queue.pop_front() else { break };
            self.bytes = self.bytes.saturating_sub(oldest.len());
            dropped += 1;
        }
        dropped
    }

    /// The oldest messages as one frame, as many as fit.
    pub(super) fn next_frame(&mut self) -> Option<Vec<u8>> {
        let mut frame = Vec::with_capacity(self.queue.front().map(|message| framed_len(message))?);
        let mut messages = 0;
        while let Some(message) = self.queue.front() {
            let fits = frame.len().saturating_add(framed_len(message)) <= DIRECT_FRAME_MAX;
            if !fits || messages == FRAME_MESSAGES_MAX {
                break;
            }
            append(&mut frame, message);
            messages += 1;
            self.bytes = self.bytes.saturating_sub(message.len());
            self.queue.pop_front();
        }
        Some(frame)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

/// Events waiting for room at their receiver, in order of arrival.
#[derive(Default)]
pub(super) struct Inbox {
    queue: VecDeque<NetworkEvent>,
    bytes: usize,
}

impl Inbox {
    /// Queues what a peer sent; false if it was dropped because the queue is full.
    #[must_use]
    pub(super) fn push(&mut self, event: NetworkEvent) -> bool {
        let bytes = self.bytes.saturating_add(payload(&event));
        if self.queue.len() >= INBOX_EVENTS_MAX || bytes > INBOX_BYTES_MAX {
            return false;
        }
        self.bytes = bytes;
        self.queue.push_back(event);
        true
    }

    /// Queues that a peer came or went. Never dropped, and never more than two of one peer: a third undoes the
    /// second, so that what the receiver has not yet heard of a flapping peer stays bounded and ends in the truth.
    pub(super) fn push_presence(&mut self, event: NetworkEvent) {
        let Some(peer) = presence(&event) else { return };
        let mut pending = self
            .queue
            .iter()
            .enumerate()
            .filter(|(_, it)| presence(it) == Some(peer))
            .map(|(at, _)| at)
            .skip(1);
        match pending.next() {
            Some(second) => {
                self.queue.remove(second);
            }
            None => self.queue.push_back(event),
        }
    }

    pub(super) fn pop(&mut self) -> Option<NetworkEvent> {
        let event = self.queue.pop_front()?;
        self.bytes = self.bytes.saturating_sub(payload(&event));
        Some(event)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

fn payload(event: &NetworkEvent) -> usize {
    match event {
        NetworkEvent::Gossip { bytes, .. }
        | NetworkEvent::Message { bytes, .. }
        | NetworkEvent::Request { bytes, .. } => bytes.len(),
        NetworkEvent::PeerUp(_) | NetworkEvent::PeerDown(_) => 0,
    }
}

fn presence(event: &NetworkEvent) -> Option<PublicKey> {
    match event {
        NetworkEvent::PeerUp(peer) | NetworkEvent::PeerDown(peer) => Some(*peer),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::codec::split;
    use super::super::limits::DIRECT_BYTES_MAX;
    use super::*;

    const PEER: PublicKey = PublicKey([1; 32]);
    const OTHER: PublicKey = PublicKey([2; 32]);

    fn message(bytes: usize) -> NetworkEvent {
        NetworkEvent::Message { from: PEER, bytes: vec![7; bytes] }
    }

    #[test]
    fn a_full_outbox_drops_the_oldest() {
        let mut outbox = Outbox::default();
        let count = u32::try_from(OUTBOX_MESSAGES_MAX).unwrap();
        let dropped: u64 = (0..count + 3).map(|n| outbox.push(Bytes::from(n.to_be_bytes().to_vec()))).sum();
        assert_eq!(dropped, 3);
        let frame = outbox.next_frame().unwrap();
        let messages = split(&frame).unwrap();
        assert_eq!(messages.first(), Some(&&3u32.to_be_bytes()[..]));
        assert_eq!(messages.last(), Some(&&(count + 2).to_be_bytes()[..]));
        assert!(outbox.is_empty());
    }

    #[test]
    fn an_outbox_is_bounded_in_bytes_and_splits_into_frames() {
        let mut outbox = Outbox::default();
        let dropped: u64 = (0..8).map(|_| outbox.push(Bytes::from(vec![1; DIRECT_BYTES_MAX]))).sum();
        assert_eq!(dropped, 1, "seven longest messages fit");
        for _ in 0..7 {
            let frame = outbox.next_frame().unwrap();
            assert_eq!(frame.len(), DIRECT_FRAME_MAX);
        }
        assert_eq!(outbox.next_frame(), None);
        assert_eq!(outbox.bytes, 0);
    }

    #[test]
    fn a_full_inbox_drops_the_newest_but_never_presence() {
        let mut inbox = Inbox::default();
        let accepted = (0..30).filter(|_| inbox.push(message(1024 * 1024))).count();
        assert_eq!(accepted, 24);
        inbox.push_presence(NetworkEvent::PeerUp(OTHER));
        let last = std::iter::from_fn(|| inbox.pop()).last();
        assert!(matches!(last, Some(NetworkEvent::PeerUp(OTHER))));
        assert_eq!(inbox.bytes, 0);
    }

    #[test]
    fn a_flapping_peer_takes_two_places_and_ends_in_the_truth() {
        let mut inbox = Inbox::default();
        for _ in 0..50 {
            inbox.push_presence(NetworkEvent::PeerDown(PEER));
            inbox.push_presence(NetworkEvent::PeerUp(PEER));
        }
        inbox.push_presence(NetworkEvent::PeerDown(PEER));
        let left: Vec<_> = std::iter::from_fn(|| inbox.pop()).collect();
        assert!(left.len() <= 2);
        assert!(matches!(left.last(), Some(NetworkEvent::PeerDown(PEER))));
    }
}
