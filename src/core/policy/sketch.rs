//! How often each hash was seen lately, estimated in eight bytes an entry: a count-min sketch of
//! four-bit counters that is halved now and then.
//!
//! The four counters of a hash lie in one block of 64 bytes, which is one cache line. An estimate is
//! the least of the four, never less than the count while that is below 15 and nothing was halved.
//! After five increments an entry all counters are halved; a block does so when it is next looked at,
//! so that no call waits for all of them.

use super::seed::{Seed, place};
use crate::memory::{OutOfMemory, TryClone, copied, filled};

/// Words in a block; a hash has a counter in each pair of words.
const BLOCK: usize = 8;
const ROWS: usize = 4;
/// Entries that share a block.
const ENTRIES_PER_BLOCK: usize = 8;
const INCREMENTS_PER_ENTRY: usize = 5;
/// The most a counter can count.
pub(super) const TOP: u8 = 15;

/// Counts nothing until it has been given a [size](Self::try_resize).
#[derive(Debug)]
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
    /// A sketch without counters.
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed: Seed::new(seed),
            blocks: Box::default(),
            halved: Box::default(),
            halvings: 0,
            increments: 0,
            period: INCREMENTS_PER_ENTRY,
        }
    }

    /// Halves the counters after five increments for each of so many entries.
    pub(super) fn age_after(&mut self, entries: usize) {
        self.period = entries.max(1).saturating_mul(INCREMENTS_PER_ENTRY);
        self.increments = self.increments.min(self.period - 1);
    }

    /// Makes the sketch as large as so many entries need; what was counted stays counted. O(n).
    ///
    /// A hash has the same counters in whatever block it is. A block that takes the place of several
    /// has the largest of their counts, so that no estimate falls.
    pub(super) fn try_resize(&mut self, entries: usize) -> Result<(), OutOfMemory> {
        let (from, to) = (self.blocks.len(), entries.div_ceil(ENTRIES_PER_BLOCK).max(1));
        if from == to {
            return Ok(());
        }
        let mut blocks = filled([0; BLOCK], to)?;
        let halved_before = std::mem::replace(&mut self.halved, filled(self.halvings, to)?);
        let old = |at: usize| {
            let behind = self.halvings.wrapping_sub(halved_before[at]).min(4);
            self.blocks[at].map(|counted| halved(counted, behind))
        };
        for (at, block) in blocks.iter_mut().enumerate().filter(|_| from > 0) {
            let mut covered = at * from / to..((at + 1) * from).div_ceil(to);
            *block = covered.next().map_or([0; BLOCK], old);
            for other in covered.map(old) {
                for (word, counted) in block.iter_mut().zip(other) {
                    *word = larger(*word, counted);
                }
            }
        }
        self.blocks = blocks;
        Ok(())
    }

    /// Makes the sketch as large as so many entries need, with the counts of these hashes alone. O(n).
    pub(super) fn try_rebuild(
        &mut self,
        entries: usize,
        hashes: impl Iterator<Item = u64>,
    ) -> Result<(), OutOfMemory> {
        let count = entries.div_ceil(ENTRIES_PER_BLOCK).max(1);
        let (blocks, halved) = (filled([0; BLOCK], count)?, filled(self.halvings, count)?);
        let mut other = Self { blocks, halved, ..*self };
        for mixed in hashes.map(|hash| self.mix(hash)) {
            other.raise(mixed, self.estimate(mixed));
        }
        *self = other;
        Ok(())
    }

    /// Lets the estimate of a hash be at least this.
    fn raise(&mut self, mixed: u64, count: u8) {
        let at = place(mixed, self.blocks.len());
        let Some(block) = self.blocks.get_mut(at) else { return };
        for row in 0..ROWS {
            let (word, shift) = Self::counter(mixed, row);
            let counted = block[word] >> shift & u64::from(TOP);
            block[word] += u64::from(count).saturating_sub(counted) << shift;
        }
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
        if self.halved.get(at).is_some_and(|&halved| halved != self.halvings) {
            self.catch_up(at);
        }
        let Some(block) = self.blocks.get_mut(at) else { return };
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
        let Some(block) = self.blocks.get(at) else { return 0 };
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

impl TryClone for Sketch {
    fn try_clone(&self) -> Result<Self, OutOfMemory> {
        Ok(Self {
            blocks: copied(&self.blocks)?.into_boxed_slice(),
            halved: copied(&self.halved)?.into_boxed_slice(),
            seed: self.seed,
            halvings: self.halvings,
            increments: self.increments,
            period: self.period,
        })
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

    fn sized(entries: usize) -> Sketch {
        let mut sketch = Sketch::new(1);
        sketch.age_after(entries);
        sketch.try_resize(entries).expect("there is memory");
        sketch
    }

    #[test]
    fn another_size_forgets_nothing() {
        const KEYS: u64 = 300;
        let mut sketch = sized(1000);
        let seen = |sketch: &Sketch, key: u64| sketch.estimate(sketch.mix(key));
        for key in 0..KEYS {
            (0..key % 7).for_each(|_| sketch.increment(sketch.mix(key)));
        }
        for entries in [1000, 1001, 1500, 4000, 100_000, 800, 333] {
            let mut other = sketch.try_clone().expect("there is memory");
            other.try_resize(entries).expect("there is memory");
            assert!((0..KEYS).all(|key| seen(&other, key) >= seen(&sketch, key)), "{entries}");
            let more = (0..KEYS).filter(|&key| seen(&other, key) > seen(&sketch, key)).count();
            assert!(more <= if entries % 1000 == 0 { 0 } else { 100 }, "{entries}: {more}");
        }
    }

    #[test]
    fn counts_to_fifteen_and_halves() {
        let mut sketch = sized(8);
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
    fn growing_step_by_step_is_as_good_as_being_large() {
        const KEYS: u64 = 20_000;
        let hash = |key: u64| {
            let mixed = key.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            (mixed ^ mixed >> 31).wrapping_mul(0xe703_7ed1_a0b4_28db)
        };
        let (mut grown, mut large) = (sized(500), sized(20_000));
        grown.age_after(20_000);
        for key in 0..KEYS {
            if grown.entries() < 20_000 && key >= grown.entries() as u64 / 2 {
                let entries = (2 * grown.entries()).min(20_000);
                grown.try_rebuild(entries, (0..key).map(hash)).expect("there is memory");
            }
            (0..=key % 7).for_each(|_| grown.increment(grown.mix(hash(key))));
            (0..=key % 7).for_each(|_| large.increment(large.mix(hash(key))));
        }
        let above =
            |sketch: &Sketch, key: u64| u64::from(sketch.estimate(sketch.mix(hash(key)))) - key % 7 - 1;
        let wrong = |sketch: &Sketch| (0..KEYS).map(|key| above(sketch, key)).sum::<u64>();
        assert!(wrong(&grown) < 2 * wrong(&large), "{} and {}", wrong(&grown), wrong(&large));
    }

    #[test]
    fn counts_nothing_without_memory() {
        let mut sketch = Sketch::new(1);
        sketch.increment(sketch.mix(1));
        assert_eq!((sketch.estimate(sketch.mix(1)), sketch.allocated_bytes()), (0, 0));
        assert_eq!(sketch.try_resize(usize::MAX), Err(OutOfMemory));
    }

    #[test]
    fn never_underestimates() {
        let mut sketch = sized(1000);
        for key in 0..1000_u64 {
            (0..=key % 5).for_each(|_| sketch.increment(sketch.mix(key)));
        }
        let exact = (0..1000_u64).filter(|&key| u64::from(sketch.estimate(sketch.mix(key))) == key % 5 + 1);
        assert!(exact.count() > 900);
        assert!((0..1000_u64).all(|key| u64::from(sketch.estimate(sketch.mix(key))) > key % 5));
    }
}
