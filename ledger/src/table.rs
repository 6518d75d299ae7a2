//! A table of the state: an ordered map in 256 buckets by key, whose digest is recomputed only where it was touched.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::codec::{CodecError, Decode, Encode, Reader};
use crate::crypto::Hash32;

/// A key's first hash byte names its group by the upper half and its bucket in it by the lower.
const GROUPS: usize = 16;
const BUCKETS: usize = 256;
/// Room for the encoding of any key, so that it is made in one piece.
const KEY_BYTES: usize = 128;

#[derive(Debug, Clone)]
struct Bucket<K, V> {
    rows: BTreeMap<K, V>,
    digest: Option<Hash32>,
}

type Group<K, V> = Vec<Arc<Bucket<K, V>>>;

/// Rows by key. Cloning shares everything; writing copies only the bucket it touches and the two short lists that lead to
/// it, so an entry or a whole block can be tried out on a clone of the state.
#[derive(Debug, Clone)]
pub struct Table<K, V> {
    groups: Arc<Vec<Arc<Group<K, V>>>>,
    /// Of the whole table; `None` since it was written to.
    digest: Option<Hash32>,
}

impl<K: Ord + Clone + Encode, V: Clone + Encode> Default for Table<K, V> {
    fn default() -> Self {
        let empty = Arc::new(Bucket { rows: BTreeMap::new(), digest: None });
        let group = Arc::new(vec![empty; BUCKETS.div_euclid(GROUPS)]);
        Self { groups: Arc::new(vec![group; GROUPS]), digest: None }
    }
}

impl<K: Ord + Clone + Encode, V: Clone + Encode> Table<K, V> {
    fn bucket_of(key: &K) -> usize {
        let mut bytes = Vec::with_capacity(KEY_BYTES);
        key.encode(&mut bytes);
        let [first, ..] = Hash32::of(&[&bytes]).0;
        usize::from(first)
    }

    /// The rows of a bucket, to be written to.
    fn touch(&mut self, bucket: usize) -> Option<&mut BTreeMap<K, V>> {
        let group = Arc::make_mut(Arc::make_mut(&mut self.groups).get_mut(bucket.div_euclid(GROUPS))?);
        let bucket = Arc::make_mut(group.get_mut(bucket.rem_euclid(GROUPS))?);
        bucket.digest = None;
        self.digest = None;
        Some(&mut bucket.rows)
    }

    fn rows(&self, bucket: usize) -> Option<&BTreeMap<K, V>> {
        let group = self.groups.get(bucket.div_euclid(GROUPS))?;
        group.get(bucket.rem_euclid(GROUPS)).map(|bucket| &bucket.rows)
    }

    fn has(&self, bucket: usize, key: &K) -> bool {
        self.rows(bucket).is_some_and(|rows| rows.contains_key(key))
    }

    /// The row of `key`.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.rows(Self::bucket_of(key))?.get(key)
    }

    /// True if there is such a row.
    pub fn contains(&self, key: &K) -> bool {
        self.get(key).is_some()
    }

    /// Writes a row and returns the one it replaced.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        self.touch(Self::bucket_of(&key))?.insert(key, value)
    }

    /// Removes and returns a row.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let bucket = Self::bucket_of(key);
        if self.has(bucket, key) { self.touch(bucket)?.remove(key) } else { None }
    }

    /// Changes a row in place.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let bucket = Self::bucket_of(key);
        if self.has(bucket, key) { self.touch(bucket)?.get_mut(key) } else { None }
    }

    /// Removes every row whose key is `wanted` and returns them in ascending order of the keys.
    pub fn extract(&mut self, wanted: impl Fn(&K) -> bool) -> Vec<(K, V)> {
        let mut keys: Vec<K> = self.iter().map(|(key, _)| key).filter(|key| wanted(key)).cloned().collect();
        keys.sort_unstable();
        keys.into_iter().filter_map(|key| self.remove(&key).map(|row| (key, row))).collect()
    }

    fn buckets(&self) -> impl Iterator<Item = &Bucket<K, V>> {
        self.groups.iter().flat_map(|group| group.iter().map(|bucket| &**bucket))
    }

    /// The rows whose key is `wanted`.
    pub fn filtered(&self, wanted: impl Fn(&K) -> bool) -> Self {
        let mut rows = Self::default();
        for (key, value) in self.iter().filter(|(key, _)| wanted(key)) {
            rows.insert(key.clone(), value.clone());
        }
        rows
    }

    /// How many rows.
    pub fn len(&self) -> usize {
        self.buckets().map(|bucket| bucket.rows.len()).sum()
    }

    /// True without any row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every row, in an order that is the same everywhere but means nothing.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.buckets().flat_map(|bucket| &bucket.rows)
    }

    /// Every row, in ascending order of the keys.
    pub fn sorted(&self) -> Vec<(&K, &V)> {
        let mut rows: Vec<_> = self.iter().collect();
        rows.sort_unstable_by_key(|(key, _)| *key);
        rows
    }

    /// SHA-256 over the digests of the buckets, each SHA-256 of the canonical bytes of its rows in key order.
    pub fn digest(&mut self) -> Hash32 {
        // Untouched since the last time: nothing to write down, so nothing to copy.
        if let Some(digest) = self.digest {
            return digest;
        }
        let mut all = Vec::with_capacity(BUCKETS.saturating_mul(32));
        for group in Arc::make_mut(&mut self.groups) {
            if group.iter().any(|bucket| bucket.digest.is_none()) {
                Arc::make_mut(group).iter_mut().for_each(renew_digest);
            }
            group
                .iter()
                .filter_map(|bucket| bucket.digest)
                .for_each(|digest| all.extend_from_slice(&digest.0));
        }
        let digest = Hash32::of(&[&all]);
        self.digest = Some(digest);
        digest
    }
}

fn renew_digest<K: Clone + Encode, V: Clone + Encode>(bucket: &mut Arc<Bucket<K, V>>) {
    if bucket.digest.is_none() {
        let digest = digest_of(&bucket.rows);
        Arc::make_mut(bucket).digest = Some(digest);
    }
}

fn digest_of<K: Encode, V: Encode>(rows: &BTreeMap<K, V>) -> Hash32 {
    let mut bytes = Vec::new();
    for (key, value) in rows {
        key.encode(&mut bytes);
        value.encode(&mut bytes);
    }
    Hash32::of(&[&bytes])
}

impl<K: Ord + Clone + Encode, V: Clone + Encode> Encode for Table<K, V> {
    fn encode(&self, out: &mut Vec<u8>) {
        let rows = self.sorted();
        u32::try_from(rows.len()).unwrap_or(u32::MAX).encode(out);
        for (key, value) in rows {
            key.encode(out);
            value.encode(out);
        }
    }
}

impl<K: Ord + Clone + Encode + Decode, V: Clone + Encode + Decode> Decode for Table<K, V> {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let count = reader.count("table rows", usize::MAX)?;
        let mut table = Self::default();
        let mut last: Option<K> = None;
        for _ in 0..count {
            let key = K::decode(reader)?;
            if last.is_some_and(|last| last >= key) {
                return Err(CodecError::Invalid { what: "table in ascending order of its keys" });
            }
            last = Some(key.clone());
            table.insert(key, V::decode(reader)?);
        }
        Ok(table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_digest_depends_on_the_rows_alone(writes in prop::collection::vec((0u32..40, any::<u64>(), any::<bool>()), 0..120)) {
            let mut table = Table::<u32, u64>::default();
            let mut model = BTreeMap::new();
            for (key, value, keep) in writes {
                if keep {
                    table.insert(key, value);
                    model.insert(key, value);
                } else {
                    table.remove(&key);
                    model.remove(&key);
                }
                // Digesting in between must not change what comes later.
                if value % 3 == 0 {
                    table.digest();
                }
            }
            let mut fresh = Table::<u32, u64>::default();
            for (key, value) in &model {
                fresh.insert(*key, *value);
            }
            prop_assert_eq!(table.digest(), fresh.digest());
            prop_assert_eq!(table.len(), model.len());
            let mut back = Table::<u32, u64>::from_bytes(&table.to_bytes()).unwrap();
            prop_assert_eq!(back.digest(), fresh.digest());
        }
    }

    #[test]
    fn a_clone_does_not_see_later_writes() {
        let mut table = Table::<u32, u64>::default();
        table.insert(1, 1);
        let clone = table.clone();
        table.insert(1, 2);
        assert_eq!((clone.get(&1), table.get(&1)), (Some(&1), Some(&2)));
    }
}
