//! Chance from a seed.

/// A generator whose numbers follow from its seed (Steele, Lea and Flood: `SplitMix64`, OOPSLA 2014).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Of this seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `bound`; zero if that is zero.
    pub const fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        if bound == 0 { 0 } else { mixed % bound }
    }

    /// `count` different numbers from 1 to `of`, or all of them.
    pub fn some_of(&mut self, count: usize, of: u8) -> Vec<u8> {
        let mut left: Vec<u8> = (1..=of).collect();
        let mut chosen = Vec::new();
        while chosen.len() < count && !left.is_empty() {
            let at = usize::try_from(self.below(left.len() as u64)).unwrap_or(0);
            chosen.push(left.swap_remove(at));
        }
        chosen
    }
}
