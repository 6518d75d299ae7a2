//! A member's network key and its libp2p peer id are the same 32 bytes: an Ed25519 peer id carries the key itself.

use ed25519_dalek::SigningKey;
use ledger::PublicKey;
use libp2p::PeerId;
use libp2p::identity::{self, Keypair, ed25519};
use zeroize::Zeroizing;

/// Multihash code of "identity": the digest is the encoded key itself, not its hash.
const IDENTITY: u64 = 0;

/// The peer id of `key`; `None` if its bytes are no point of the curve.
#[must_use]
pub fn peer_id_of(key: &PublicKey) -> Option<PeerId> {
    let key = ed25519::PublicKey::try_from_bytes(&key.0).ok()?;
    Some(identity::PublicKey::from(key).to_peer_id())
}

/// The key in `peer`; `None` if it is not an Ed25519 peer id.
#[must_use]
pub fn key_of(peer: &PeerId) -> Option<PublicKey> {
    let hash = peer.as_ref();
    if hash.code() != IDENTITY {
        return None;
    }
    let key = identity::PublicKey::try_decode_protobuf(hash.digest()).ok()?;
    Some(PublicKey(key.try_into_ed25519().ok()?.to_bytes()))
}

/// The libp2p form of a signing key.
pub(super) fn keypair_of(key: &SigningKey) -> Option<Keypair> {
    let mut secret = Zeroizing::new(key.to_bytes());
    Keypair::ed25519_from_bytes(secret.as_mut_slice()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_and_its_peer_id_are_one() {
        let signing = SigningKey::from_bytes(&[7; 32]);
        let key = PublicKey::of(&signing);
        let peer = peer_id_of(&key).unwrap();
        assert_eq!(keypair_of(&signing).unwrap().public().to_peer_id(), peer);
        assert_eq!(key_of(&peer), Some(key));
    }

    #[test]
    fn other_peer_ids_and_other_bytes_are_no_keys() {
        assert_eq!(key_of(&PeerId::random()), None);
        let off_curve = (0..=255).map(|byte| PublicKey([byte; 32])).filter(|key| peer_id_of(key).is_none());
        assert!(off_curve.count() > 0);
    }
}
