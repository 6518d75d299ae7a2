//! Intervals of one home that were settled without a reading that may still come: as runs, so that weeks without any reading
//! take as much room as an hour without one.

use crate::codec::{CodecError, Decode, Encode, Reader, decode_list, encode_list};

/// Indexes of intervals as runs `[first, end)`, ascending, none touching the next.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Gaps(Vec<(u64, u64)>);

impl Gaps {
    /// Where the first run that ends after `index` stands.
    fn place(&self, index: u64) -> usize {
        self.0.partition_point(|(_, end)| *end <= index)
    }

    /// True if the interval is one of them.
    pub fn contains(&self, index: u64) -> bool {
        self.0.get(self.place(index)).is_some_and(|(first, _)| *first <= index)
    }

    /// Adds an interval that comes after all others, as intervals settle.
    pub fn push(&mut self, index: u64) {
        let next = index.saturating_add(1);
        match self.0.last_mut() {
            Some((_, end)) if *end > index => {}
            Some((_, end)) if *end == index => *end = next,
            _ => self.0.push((index, next)),
        }
    }

    /// Takes an interval out; false if it is none of them.
    pub fn remove(&mut self, index: u64) -> bool {
        let place = self.place(index);
        let Some((first, end)) = self.0.get(place).copied().filter(|(first, _)| *first <= index) else {
            return false;
        };
        let left = [(first, index), (index.saturating_add(1), end)];
        self.0.splice(place..place.saturating_add(1), left.into_iter().filter(|(first, end)| first < end));
        true
    }

    /// Takes out every interval before `oldest`.
    pub fn forget(&mut self, oldest: u64) {
        self.0.drain(..self.0.partition_point(|(_, end)| *end <= oldest));
        if let Some((first, _)) = self.0.first_mut() {
            *first = (*first).max(oldest);
        }
    }

    /// The first of them.
    pub fn first(&self) -> Option<u64> {
        self.0.first().map(|(first, _)| *first)
    }
}

impl Encode for Gaps {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_list(&self.0, out);
    }
}

impl Decode for Gaps {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        decode_list(reader, "intervals without a reading", usize::MAX).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn runs_say_the_same_as_a_set_of_intervals(
            steps in prop::collection::vec((0_u8..8, 0_u64..60), 0..200)
        ) {
            let (mut gaps, mut model, mut next) = (Gaps::default(), BTreeSet::new(), 0);
            for (kind, index) in steps {
                match kind {
                    0..=3 => {
                        // Settled without a reading, or (every fourth) with one.
                        if kind > 0 {
                            gaps.push(next);
                            model.insert(next);
                        }
                        next += 1;
                    }
                    4..=6 => prop_assert_eq!(gaps.remove(index), model.remove(&index)),
                    _ => {
                        gaps.forget(index / 4);
                        model.retain(|of| *of >= index / 4);
                    }
                }
                for index in 0..=next {
                    prop_assert_eq!(gaps.contains(index), model.contains(&index), "{} of {:?}", index, &gaps);
                }
                prop_assert_eq!(gaps.first(), model.first().copied());
                // As few runs as there can be.
                let starts = model.iter().filter(|of| of.checked_sub(1).is_none_or(|before| !model.contains(&before)));
                prop_assert_eq!(gaps.0.len(), starts.count());
            }
            prop_assert_eq!(Gaps::from_bytes(&gaps.to_bytes()).unwrap(), gaps);
        }
    }
}
