//! Bytes as a sequence of choices.

/// Reads choices off bytes; once they are used up, every choice is the first one.
#[derive(Debug, Clone)]
pub struct Choices<'a> {
    rest: &'a [u8],
}

impl<'a> Choices<'a> {
    /// The choices that `bytes` stand for.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// True while there are bytes.
    #[must_use]
    pub const fn more(&self) -> bool {
        !self.rest.is_empty()
    }

    /// What is left.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        let Some((byte, rest)) = self.rest.split_first() else { return 0 };
        self.rest = rest;
        *byte
    }

    /// One of 0 to `sides` − 1, by one byte; 0 where there are no sides.
    pub fn one_of(&mut self, sides: usize) -> usize {
        usize::from(self.byte()).checked_rem(sides).unwrap_or_default()
    }

    /// One of several things.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.one_of(of.len())]
    }

    /// True for one byte value in `chances`, on average.
    pub fn one_in(&mut self, chances: u8) -> bool {
        self.byte().checked_rem(chances).unwrap_or_default() == 1 % chances.max(1)
    }

    /// A number of mostly few bytes: small ones are as likely as ones at the edge of what fits.
    pub fn number(&mut self) -> u64 {
        let shape = self.byte();
        let mut bytes = [0; 8];
        bytes.iter_mut().take(usize::from(shape % 9)).for_each(|byte| *byte = self.byte());
        let number = u64::from_le_bytes(bytes);
        if shape >= 0xf0 { u64::MAX - number } else { number }
    }

    /// A number below `limit`; 0 where that is 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        let raw = if limit <= 0x100 { u64::from(self.byte()) } else { self.number() };
        raw.checked_rem(limit).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_end_with_the_bytes_and_stay_inside_their_limits() {
        let mut choices = Choices::new(&[7, 2, 1, 0, 255, 1]);
        assert_eq!(choices.one_of(4), 3);
        assert_eq!(choices.number(), 1, "two bytes, the lowest first");
        assert_eq!(choices.number(), u64::MAX - 1, "counted down from the top");
        assert!(!choices.more());
        assert_eq!((choices.number(), choices.below(0), choices.one_of(0)), (0, 0, 0));
    }
}
