//! The transparency tree: RFC 6962 over SHA-256, append-only, with proofs any tlog verifier accepts.

use crate::codec::{CodecError, Decode, Encode, Reader, decode_list, encode_list};
use crate::crypto::Hash32;

/// Hash of one leaf's bytes (RFC 6962, section 2.1).
#[must_use]
pub fn leaf_hash(leaf: &[u8]) -> Hash32 {
    Hash32::of(&[&[0], leaf])
}

/// Hash of an inner node (RFC 6962, section 2.1).
#[must_use]
pub fn node_hash(left: &Hash32, right: &Hash32) -> Hash32 {
    Hash32::of(&[&[1], &left.0, &right.0])
}

/// The right edge of the tree: enough to append leaves and to know the root, 64 hashes at the most.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    /// Roots of the complete subtrees, largest first: one for each bit set in `size`.
    peaks: Vec<Hash32>,
}

impl Frontier {
    /// The empty tree.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The tree over whole tiles, given by their roots.
    #[must_use]
    pub fn of_tiles(tiles: &[Hash32]) -> Self {
        let mut whole = Self::new();
        tiles.iter().for_each(|tile| whole.push(*tile));
        Self { size: whole.size.saturating_mul(TILE), peaks: whole.peaks }
    }

    /// How many leaves it has.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf by its [`leaf_hash`].
    pub fn push(&mut self, leaf: Hash32) {
        let mut hash = leaf;
        // Each trailing one-bit of the size is a complete subtree of the same height as the one just made.
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.peaks.pop() {
                hash = node_hash(&left, &hash);
            }
        }
        self.peaks.push(hash);
        self.size = self.size.saturating_add(1);
    }

    /// The root; SHA-256 of nothing for the empty tree.
    #[must_use]
    pub fn root(&self) -> Hash32 {
        let mut peaks = self.peaks.iter().rev();
        match peaks.next() {
            None => Hash32::of(&[]),
            Some(&last) => peaks.fold(last, |right, left| node_hash(left, &right)),
        }
    }
}

impl Encode for Frontier {
    fn encode(&self, out: &mut Vec<u8>) {
        self.size.encode(out);
        encode_list(&self.peaks, out);
    }
}

impl Decode for Frontier {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let size = u64::decode(reader)?;
        let peaks: Vec<Hash32> = decode_list(reader, "tree peaks", 64)?;
        if u32::try_from(peaks.len()) == Ok(size.count_ones()) {
            Ok(Self { size, peaks })
        } else {
            Err(CodecError::Invalid { what: "tree frontier" })
        }
    }
}

/// Root of the tree over `leaves`.
#[must_use]
pub fn root_of(leaves: &[Hash32]) -> Hash32 {
    let mut frontier = Frontier::new();
    leaves.iter().for_each(|leaf| frontier.push(*leaf));
    frontier.root()
}

/// Proof that leaf `index` is in the tree over `leaves`; `None` if there is no such leaf.
#[must_use]
pub fn inclusion_proof(leaves: &[Hash32], index: usize) -> Option<Vec<Hash32>> {
    if index >= leaves.len() {
        return None;
    }
    if leaves.len() == 1 {
        return Some(Vec::new());
    }
    let (left, right) = leaves.split_at_checked(split(leaves.len()))?;
    let (mut proof, sibling) = match index.checked_sub(left.len()) {
        None => (inclusion_proof(left, index)?, root_of(right)),
        Some(index) => (inclusion_proof(right, index)?, root_of(left)),
    };
    proof.push(sibling);
    Some(proof)
}

/// How many leaves are kept together: a tile of C2SP's tlog-tiles.
pub const TILE: u64 = 256;

/// Root of the tree over whole tiles, given by their roots, and the hashes of the leaves after them, fewer than a tile.
#[must_use]
pub fn root_of_tiles(tiles: &[Hash32], rest: &[Hash32]) -> Hash32 {
    let mut whole = Frontier::new();
    tiles.iter().for_each(|tile| whole.push(*tile));
    match (tiles.is_empty(), rest.is_empty()) {
        (_, true) if !tiles.is_empty() => whole.root(),
        (true, _) => root_of(rest),
        _ => whole.peaks.iter().rev().fold(root_of(rest), |right, left| node_hash(left, &right)),
    }
}

/// The path of [`inclusion_proof`] for leaf `index` of `size`, where `root` gives the root over a range of leaves: each range is
/// within one tile, or begins with a whole one.
///
/// # Errors
/// What `root` says.
pub fn inclusion_path<E>(
    index: u64,
    size: u64,
    mut root: impl FnMut(std::ops::Range<u64>) -> Result<Hash32, E>,
) -> Result<Vec<Hash32>, E> {
    let (mut from, mut until, mut path) = (0, size, Vec::new());
    while until.saturating_sub(from) > 1 {
        let half = until.saturating_sub(from).checked_next_power_of_two().map_or(1 << 63, |power| power >> 1);
        let middle = from.saturating_add(half);
        if index < middle {
            path.push(root(middle..until)?);
            until = middle;
        } else {
            path.push(root(from..middle)?);
            from = middle;
        }
    }
    path.reverse();
    Ok(path)
}

/// True if `proof` shows that `leaf` stands at `index` in the tree of `size` leaves with this `root`
/// (RFC 9162, section 2.1.3.2).
#[must_use]
pub fn verify_inclusion(leaf: Hash32, index: u64, size: u64, proof: &[Hash32], root: &Hash32) -> bool {
    if index >= size {
        return false;
    }
    let (mut node, mut last) = (index, size.saturating_sub(1));
    let mut hash = leaf;
    for sibling in proof {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && hash == *root
}

/// Largest power of two below `size` (≥ 2): where the left subtree ends.
fn split(size: usize) -> usize {
    size.checked_next_power_of_two().map_or(1, |power| power >> 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(count: u8) -> Vec<Hash32> {
        (0..count).map(|i| leaf_hash(&[i])).collect()
    }

    /// The definition of RFC 6962, section 2.1, written down as it stands.
    fn definition(leaves: &[Hash32]) -> Hash32 {
        match leaves {
            [] => Hash32::of(&[]),
            [leaf] => *leaf,
            _ => {
                let (left, right) = leaves.split_at(split(leaves.len()));
                node_hash(&definition(left), &definition(right))
            }
        }
    }

    #[test]
    fn the_frontier_has_the_root_of_rfc_6962_at_every_size() {
        for count in 0..70 {
            assert_eq!(root_of(&leaves(count)), definition(&leaves(count)), "{count} leaves");
        }
    }

    #[test]
    fn known_answers_of_the_certificate_transparency_test_vectors() {
        // The eight leaves and the roots of the reference implementation's merkle tree tests.
        let inputs: [&[u8]; 3] = [b"", b"\x00", b"\x10"];
        let hashes: Vec<_> = inputs.iter().map(|leaf| leaf_hash(leaf)).collect();
        assert_eq!(Hash32::of(&[]).hex(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(
            root_of(&hashes[..1]).hex(),
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
        );
        assert_eq!(
            root_of(&hashes[..2]).hex(),
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"
        );
        assert_eq!(
            root_of(&hashes[..3]).hex(),
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"
        );
    }

    #[test]
    fn a_path_made_of_tiles_is_the_path_made_of_leaves() {
        let hash = |at: u64| leaf_hash(&at.to_be_bytes());
        for size in [1, 2, 255, 256, 257, 511, 512, 513, 1_100, 1_537] {
            let all: Vec<_> = (0..size).map(hash).collect();
            let root = |range: std::ops::Range<u64>| {
                let within = range.end - range.start <= TILE;
                assert!(within || range.start.is_multiple_of(TILE), "{range:?}");
                let leaves = &all[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()];
                let (tiles, rest) = leaves.as_chunks::<256>();
                let tiles: Vec<_> = tiles.iter().map(|tile| root_of(tile)).collect();
                Ok::<_, ()>(root_of_tiles(&tiles, rest))
            };
            assert_eq!(root(0..size), Ok(root_of(&all)), "{size}");
            let (tiles, rest) = all.as_chunks::<256>();
            let mut grown = Frontier::of_tiles(&tiles.iter().map(|tile| root_of(tile)).collect::<Vec<_>>());
            rest.iter().for_each(|leaf| grown.push(*leaf));
            assert_eq!((grown.size(), grown.root()), (size, root_of(&all)));
            for index in (0..size).step_by(37).chain([size - 1]) {
                let path = inclusion_path(index, size, root).unwrap();
                assert_eq!(Some(&path), inclusion_proof(&all, usize::try_from(index).unwrap()).as_ref());
                assert!(verify_inclusion(hash(index), index, size, &path, &root_of(&all)));
            }
        }
    }

    #[test]
    fn every_leaf_of_every_small_tree_is_provable_and_nothing_else() {
        for count in 1..40u8 {
            let leaves = leaves(count);
            let root = root_of(&leaves);
            for index in 0..leaves.len() {
                let proof = inclusion_proof(&leaves, index).unwrap();
                assert!(verify_inclusion(leaves[index], index as u64, u64::from(count), &proof, &root));
                assert!(!verify_inclusion(
                    leaf_hash(b"other"),
                    index as u64,
                    u64::from(count),
                    &proof,
                    &root
                ));
                assert!(!verify_inclusion(leaves[index], index as u64 + 1, u64::from(count), &proof, &root));
            }
            assert_eq!(inclusion_proof(&leaves, leaves.len()), None);
        }
    }
}
