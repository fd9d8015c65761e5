//! Which keys were seen, in bounded memory.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};

/// Distinct keys: all of them up to a number, past that every second one, every fourth, and so on, picked by their bits (the
/// adaptive sampling of Wegman; Flajolet 1990), so that counts of repeats are unbiased estimates.
#[derive(Debug)]
pub(super) struct Sample {
    keys: HashSet<u128, BuildHasherDefault<Plain>>,
    most: usize,
    /// One of 2^shift keys is looked at.
    shift: u32,
}

/// What is known of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// Not seen before; stands for so many keys.
    New(u64),
    /// Seen before; stands for so many repeats.
    Again(u64),
    /// Not in the sample.
    Unknown,
}

impl Sample {
    pub(super) fn new(most: usize) -> Self {
        Self { keys: HashSet::default(), most, shift: 0 }
    }

    /// Looks at a key whose bits are evenly spread.
    pub(super) fn see(&mut self, key: u128) -> Seen {
        if !self.takes(key) {
            return Seen::Unknown;
        }
        let stands_for = 1 << self.shift;
        if !self.keys.insert(key) {
            return Seen::Again(stands_for);
        }
        while self.keys.len() > self.most {
            self.shift += 1;
            let shift = self.shift;
            self.keys.retain(|k| sampled(*k, shift));
        }
        Seen::New(stands_for)
    }

    /// Whether every key was looked at.
    pub(super) fn is_exact(&self) -> bool {
        self.shift == 0
    }

    /// How many different keys there were.
    pub(super) fn distinct(&self) -> u64 {
        (self.keys.len() as u64) << self.shift
    }

    fn takes(&self, key: u128) -> bool {
        sampled(key, self.shift)
    }
}

fn sampled(key: u128, shift: u32) -> bool {
    key.trailing_zeros() >= shift
}

/// The keys are hashes already.
#[derive(Debug, Default)]
struct Plain(u64);

impl Hasher for Plain {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for b in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*b);
        }
    }
    fn write_u128(&mut self, key: u128) {
        #[allow(clippy::cast_possible_truncation, reason = "the upper half, which the sampling leaves alone")]
        let upper = (key >> 64) as u64;
        self.0 = upper;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u64) -> u128 {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&blake3::hash(&n.to_le_bytes()).as_bytes()[..16]);
        u128::from_le_bytes(bytes)
    }

    /// Repeats told of `distinct` keys of which every tenth comes twice, and whether they are exact.
    fn repeats(distinct: u64, most: usize) -> (u64, u64, bool) {
        let mut sample = Sample::new(most);
        let mut again = 0;
        for n in (0..distinct).flat_map(|n| std::iter::repeat_n(n, if n % 10 == 0 { 2 } else { 1 })) {
            if let Seen::Again(n) = sample.see(key(n)) {
                again += n;
            }
        }
        (again, sample.distinct(), sample.is_exact())
    }

    #[test]
    fn repeats_are_exact_up_to_the_bound_and_close_beyond_it() {
        assert_eq!(repeats(10_000, 10_000), (1000, 10_000, true));
        let (again, distinct, exact) = repeats(100_000, 10_000);
        assert!(!exact && again.abs_diff(10_000) < 1500 && distinct.abs_diff(100_000) < 5000, "{again} of {distinct}");
        let mut none = Sample::new(100);
        assert!((0..5000).all(|n| !matches!(none.see(key(n)), Seen::Again(_))), "no repeat is made up");
    }
}
