//! How often each hash was seen lately, estimated in eight bytes an entry: a count-min sketch of
//! four-bit counters that is halved now and then.
//!
//! The four counters of a hash lie in one block of 64 bytes, which is one cache line. An estimate is
//! the least of the four, never less than the count while that is below 15 and nothing was halved.
//! After five increments an entry all counters are halved; a block does so when it is next looked at,
//! so that no call waits for all of them.

use super::seed::{Seed, place};

/// Words in a block; a hash has a counter in each pair of words.
const BLOCK: usize = 8;
const ROWS: usize = 4;
/// Entries that share a block.
const ENTRIES_PER_BLOCK: usize = 8;
const INCREMENTS_PER_ENTRY: usize = 5;
/// The most a counter can count.
pub(super) const TOP: u8 = 15;

#[derive(Clone, Debug)]
pub(super) struct Sketch {
    seed: Seed,
    blocks: Box<[[u64; BLOCK]]>,
    /// Halvings each block has been through, modulo 256.
    halved: Box<[u8]>,
    halvings: u8,
    increments: usize,
    period: usize,
}

impl Sketch {
    /// A sketch for so many entries.
    pub(super) fn new(entries: usize, seed: u64) -> Self {
        let count = entries.div_ceil(ENTRIES_PER_BLOCK).max(1);
        Self {
            seed: Seed::new(seed),
            blocks: vec![[0; BLOCK]; count].into(),
            halved: vec![0; count].into(),
            halvings: 0,
            increments: 0,
            period: entries.max(1).saturating_mul(INCREMENTS_PER_ENTRY),
        }
    }

    /// The same for another number of entries; what was counted stays counted. O(n).
    ///
    /// A hash has the same counters in whatever block it is. A block that takes the place of several
    /// has the largest of their counts, so that no estimate falls.
    pub(super) fn resized(&self, entries: usize) -> Self {
        let mut other = Self { seed: self.seed, ..Self::new(entries, 0) };
        let (from, to) = (self.blocks.len(), other.blocks.len());
        if from == to {
            return Self { period: other.period, ..self.clone() };
        }
        for (at, block) in other.blocks.iter_mut().enumerate() {
            for old in at * from / to..((at + 1) * from).div_ceil(to) {
                let behind = self.behind(old);
                for (word, &counted) in block.iter_mut().zip(&self.blocks[old]) {
                    *word = larger(*word, halved(counted, behind));
                }
            }
        }
        other.increments = self.increments.min(other.period - 1);
        other
    }

    /// How many entries this is made for, in whole blocks.
    pub(super) fn entries(&self) -> usize {
        self.blocks.len() * ENTRIES_PER_BLOCK
    }

    /// The hash as the other methods want it.
    #[inline(always)]
    pub(super) fn mix(&self, hash: u64) -> u64 {
        self.seed.mix(hash)
    }

    /// Word and shift of a row's counter.
    #[inline(always)]
    fn counter(mixed: u64, row: usize) -> (usize, u32) {
        #[expect(clippy::cast_possible_truncation, reason = "five bits are wanted")]
        let bits = (mixed >> (20 + 5 * row)) as u32;
        (2 * row + (bits & 1) as usize, (bits >> 1 & 15) * 4)
    }

    /// Counts a hash. O(1).
    #[inline(always)]
    pub(super) fn increment(&mut self, mixed: u64) {
        let at = place(mixed, self.blocks.len());
        if self.halved[at] != self.halvings {
            self.catch_up(at);
        }
        let block = &mut self.blocks[at];
        for row in 0..ROWS {
            let (word, shift) = Self::counter(mixed, row);
            if block[word] >> shift & 15 != u64::from(TOP) {
                block[word] += 1 << shift;
            }
        }
        self.increments += 1;
        if self.increments >= self.period {
            self.increments = 0;
            self.halvings = self.halvings.wrapping_add(1);
        }
    }

    #[cold]
    fn catch_up(&mut self, at: usize) {
        let behind = self.behind(at);
        for word in &mut self.blocks[at] {
            *word = halved(*word, behind);
        }
        self.halved[at] = self.halvings;
    }

    /// How often a block is still to be halved, as far as that matters.
    #[inline]
    fn behind(&self, at: usize) -> u8 {
        self.halvings.wrapping_sub(self.halved[at]).min(4)
    }

    /// About how often a hash was counted. O(1).
    #[inline]
    pub(super) fn estimate(&self, mixed: u64) -> u8 {
        let at = place(mixed, self.blocks.len());
        let block = &self.blocks[at];
        let least = (0..ROWS).map(|row| {
            let (word, shift) = Self::counter(mixed, row);
            (block[word] >> shift & 15) as u8
        });
        least.fold(TOP, u8::min) >> self.behind(at)
    }

    pub(super) fn allocated_bytes(&self) -> usize {
        self.blocks.len() * (size_of::<[u64; BLOCK]>() + 1)
    }
}

/// Sixteen counters, each halved so often.
fn halved(word: u64, times: u8) -> u64 {
    word >> times & (u64::from(TOP >> times) * 0x1111_1111_1111_1111)
}

/// The larger of each pair of sixteen counters.
fn larger(one: u64, other: u64) -> u64 {
    let counter = |at: u32| (one >> (4 * at) & 15).max(other >> (4 * at) & 15) << (4 * at);
    (0..16).map(counter).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_size_forgets_nothing() {
        const KEYS: u64 = 300;
        let mut sketch = Sketch::new(1000, 1);
        let seen = |sketch: &Sketch, key: u64| sketch.estimate(sketch.mix(key));
        for key in 0..KEYS {
            (0..key % 7).for_each(|_| sketch.increment(sketch.mix(key)));
        }
        for entries in [1000, 1001, 1500, 4000, 100_000, 800, 333] {
            let other = sketch.resized(entries);
            assert!((0..KEYS).all(|key| seen(&other, key) >= seen(&sketch, key)), "{entries}");
            let more = (0..KEYS).filter(|&key| seen(&other, key) > seen(&sketch, key)).count();
            assert!(more <= if entries % 1000 == 0 { 0 } else { 100 }, "{entries}: {more}");
        }
    }

    #[test]
    fn counts_to_fifteen_and_halves() {
        let mut sketch = Sketch::new(8, 1);
        let hash = sketch.mix(5);
        for count in 1..=20 {
            sketch.increment(hash);
            assert_eq!(sketch.estimate(hash), count.min(TOP));
        }
        (20..40).for_each(|_| sketch.increment(hash));
        assert_eq!(sketch.estimate(hash), 7);
        sketch.increment(hash);
        assert_eq!(sketch.estimate(hash), 8);
    }

    #[test]
    fn never_underestimates() {
        let mut sketch = Sketch::new(1000, 1);
        for key in 0..1000_u64 {
            (0..=key % 5).for_each(|_| sketch.increment(sketch.mix(key)));
        }
        let exact = (0..1000_u64).filter(|&key| u64::from(sketch.estimate(sketch.mix(key))) == key % 5 + 1);
        assert!(exact.count() > 900);
        assert!((0..1000_u64).all(|key| u64::from(sketch.estimate(sketch.mix(key))) > key % 5));
    }
}
