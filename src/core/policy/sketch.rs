//! Estimates how often each hash was seen lately, in eight bytes for each entry: a count-min sketch of
//! four-bit counters, which are halved regularly.
//!
//! The four counters of a hash lie in one block of 64 bytes, which is one cache line. An estimate is the
//! least of the four. Before the first halving, it is never less than the true count, up to 15. After five
//! increments for each entry, all counters are halved. A block halves its counters when it is next used, so
//! that no call has to halve all of them.

use std::ops::Range;

use super::seed::{Seed, place};
use crate::memory::{OutOfMemory, TryClone, copied};

/// Words in a block; a hash has a counter in each pair of words.
const BLOCK: usize = 8;
const ROWS: usize = 4;
/// Entries that share a block.
const ENTRIES_PER_BLOCK: usize = 8;
const INCREMENTS_PER_ENTRY: usize = 5;
/// The highest count of a counter.
pub(super) const TOP: u8 = 15;

/// A growing sketch allocates this many blocks in a step, and then takes over the counts of this many slots
/// in a step.
const BLOCKS_A_STEP: usize = 64;
const SLOTS_A_STEP: usize = 32;

/// The counters, and the number of halvings of each block, modulo 256.
#[derive(Debug, Default)]
struct Counters {
    blocks: Vec<[u64; BLOCK]>,
    halved: Vec<u8>,
}

impl Counters {
    fn try_with_capacity(blocks: usize) -> Result<Self, OutOfMemory> {
        let mut counters = Self::default();
        counters.blocks.try_reserve_exact(blocks)?;
        counters.halved.try_reserve_exact(blocks)?;
        Ok(counters)
    }

    /// The word and the shift of a hash's counter in a row.
    #[inline(always)]
    fn place_in_block(mixed: u64, row: usize) -> (usize, u32) {
        #[expect(clippy::cast_possible_truncation, reason = "five bits are wanted")]
        let bits = (mixed >> (20 + 5 * row)) as u32;
        (2 * row + (bits & 1) as usize, (bits >> 1 & 15) * 4)
    }

    /// The block of a hash, halved up to the `halvings`-th halving.
    #[inline(always)]
    fn block(&mut self, mixed: u64, halvings: u8) -> Option<&mut [u64; BLOCK]> {
        let at = place(mixed, self.blocks.len());
        if self.halved.get(at).is_some_and(|&halved| halved != halvings) {
            self.catch_up(at, halvings);
        }
        self.blocks.get_mut(at)
    }

    #[cold]
    fn catch_up(&mut self, at: usize, halvings: u8) {
        let behind = self.behind(at, halvings);
        for word in &mut self.blocks[at] {
            *word = halved(*word, behind);
        }
        self.halved[at] = halvings;
    }

    /// How many halvings a block has to catch up on; 4 stands for all that are more, as they leave 0.
    #[inline]
    fn behind(&self, at: usize, halvings: u8) -> u8 {
        halvings.wrapping_sub(self.halved[at]).min(4)
    }

    /// Adds to the counters of a hash. Returns false if there are no counters.
    #[inline(always)]
    fn add(&mut self, mixed: u64, count: u8, halvings: u8) -> bool {
        let Some(block) = self.block(mixed, halvings) else { return false };
        for row in 0..ROWS {
            let (word, shift) = Self::place_in_block(mixed, row);
            let room = u64::from(TOP) - (block[word] >> shift & u64::from(TOP));
            block[word] = block[word].wrapping_add(u64::from(count).min(room) << shift);
        }
        true
    }

    /// Raises the estimate of a hash to at least `count`.
    fn raise(&mut self, mixed: u64, count: u8, halvings: u8) {
        let Some(block) = self.block(mixed, halvings) else { return };
        for row in 0..ROWS {
            let (word, shift) = Self::place_in_block(mixed, row);
            let counted = block[word] >> shift & u64::from(TOP);
            block[word] += u64::from(count).saturating_sub(counted) << shift;
        }
    }

    #[inline]
    fn estimate(&self, mixed: u64, halvings: u8) -> u8 {
        let at = place(mixed, self.blocks.len());
        let Some(block) = self.blocks.get(at) else { return 0 };
        let least = (0..ROWS).map(|row| {
            let (word, shift) = Self::place_in_block(mixed, row);
            (block[word] >> shift & 15) as u8
        });
        least.fold(TOP, u8::min) >> self.behind(at, halvings)
    }

    fn allocated_bytes(&self) -> usize {
        self.blocks.capacity() * size_of::<[u64; BLOCK]>() + self.halved.capacity()
    }
}

/// A larger sketch that is being built, one step at a time.
#[derive(Debug, Default)]
struct Successor {
    counters: Counters,
    /// The number of blocks it will have; 0 while no sketch is being built.
    blocks: usize,
    /// The counts of all entries at slots below this number have been taken over.
    slots: usize,
}

/// The sketch. It has no counters until [`try_resize`](Self::try_resize) or
/// [`try_begin_growth`](Self::try_begin_growth) allocates some.
#[derive(Debug)]
pub(super) struct Sketch {
    seed: Seed,
    counters: Counters,
    successor: Successor,
    halvings: u8,
    increments: usize,
    period: usize,
}

impl Sketch {
    /// A sketch without counters.
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed: Seed::new(seed),
            counters: Counters::default(),
            successor: Successor::default(),
            halvings: 0,
            increments: 0,
            period: INCREMENTS_PER_ENTRY,
        }
    }

    /// From now on, halves the counters after five increments for each of `entries` entries.
    pub(super) fn age_after(&mut self, entries: usize) {
        self.period = entries.max(1).saturating_mul(INCREMENTS_PER_ENTRY);
        self.increments = self.increments.min(self.period - 1);
    }

    /// Makes the sketch as large as `entries` entries need. Counts are kept. O(n).
    ///
    /// The counters of a hash are at the same places in every block. A block that replaces several takes the
    /// larger of their counts, so no estimate falls.
    pub(super) fn try_resize(&mut self, entries: usize) -> Result<(), OutOfMemory> {
        let (from, to) = (self.counters.blocks.len(), blocks_for(entries));
        if from == to {
            return Ok(());
        }
        let mut resized = Counters::try_with_capacity(to)?;
        resized.blocks.resize(to, [0; BLOCK]);
        resized.halved.resize(to, self.halvings);
        let old = |at: usize| {
            let behind = self.counters.behind(at, self.halvings);
            self.counters.blocks[at].map(|counted| halved(counted, behind))
        };
        for (at, block) in resized.blocks.iter_mut().enumerate().filter(|_| from > 0) {
            let mut covered = at * from / to..((at + 1) * from).div_ceil(to);
            *block = covered.next().map_or([0; BLOCK], old);
            for other in covered.map(old) {
                for (word, counted) in block.iter_mut().zip(other) {
                    *word = larger(*word, counted);
                }
            }
        }
        self.counters = resized;
        self.abandon_growth();
        Ok(())
    }

    /// Begins to make the sketch as large as `entries` entries need. O(1).
    pub(super) fn try_begin_growth(&mut self, entries: usize) -> Result<(), OutOfMemory> {
        let blocks = blocks_for(entries);
        self.successor = Successor { counters: Counters::try_with_capacity(blocks)?, blocks, slots: 0 };
        Ok(())
    }

    /// Discards a larger sketch that is not complete.
    pub(super) fn abandon_growth(&mut self) {
        self.successor = Successor::default();
    }

    #[inline]
    pub(super) fn is_growing(&self) -> bool {
        self.successor.blocks > 0
    }

    /// Does one step of making the sketch larger, and returns whether it is complete. Only the counts of keys
    /// that are present are taken over. A step is O(1), so that no insertion does all the work. `slots` is
    /// the number of slots; `hashes` returns the hashes of the entries in a range of them.
    pub(super) fn grow_on<H: Iterator<Item = u64>>(
        &mut self,
        slots: usize,
        hashes: impl FnOnce(Range<usize>) -> H,
    ) -> bool {
        let Self { seed, counters, successor, halvings, .. } = self;
        let made = successor.counters.blocks.len();
        if made < successor.blocks {
            let more = (made + BLOCKS_A_STEP).min(successor.blocks);
            successor.counters.blocks.resize(more, [0; BLOCK]);
            successor.counters.halved.resize(more, *halvings);
            return false;
        }
        let end = (successor.slots + SLOTS_A_STEP).min(slots);
        for mixed in hashes(successor.slots.min(end)..end).map(|hash| seed.mix(hash)) {
            successor.counters.raise(mixed, counters.estimate(mixed, *halvings), *halvings);
        }
        successor.slots = end;
        if end < slots {
            return false;
        }
        *counters = std::mem::take(successor).counters;
        true
    }

    /// The number of entries that the sketch is made for, in whole blocks.
    pub(super) fn entries(&self) -> usize {
        self.counters.blocks.len() * ENTRIES_PER_BLOCK
    }

    /// The mixed hash, which the other methods take.
    #[inline(always)]
    pub(super) fn mix(&self, hash: u64) -> u64 {
        self.seed.mix(hash)
    }

    /// Adds `count` to the counters of a hash. O(1).
    #[inline(always)]
    pub(super) fn add(&mut self, mixed: u64, count: u8) {
        if !self.counters.add(mixed, count, self.halvings) {
            return;
        }
        if self.is_growing() {
            self.add_in_successor(mixed, count);
        }
        self.increments += usize::from(count);
        if self.increments >= self.period {
            self.increments = 0;
            self.halvings = self.halvings.wrapping_add(1);
        }
    }

    /// Before the successor has all its blocks, nothing is added: the count is taken over with its entry
    /// later.
    #[cold]
    fn add_in_successor(&mut self, mixed: u64, count: u8) {
        if self.successor.counters.blocks.len() == self.successor.blocks {
            self.successor.counters.add(mixed, count, self.halvings);
        }
    }

    /// About how often a hash was counted. O(1).
    #[inline]
    pub(super) fn estimate(&self, mixed: u64) -> u8 {
        self.counters.estimate(mixed, self.halvings)
    }

    pub(super) fn allocated_bytes(&self) -> usize {
        self.counters.allocated_bytes() + self.successor.counters.allocated_bytes()
    }
}

impl TryClone for Sketch {
    /// The copy does not include a larger sketch that is being built.
    fn try_clone(&self) -> Result<Self, OutOfMemory> {
        let Counters { blocks, halved } = &self.counters;
        let counters = Counters { blocks: copied(blocks)?, halved: copied(halved)? };
        Ok(Self { counters, successor: Successor::default(), ..*self })
    }
}

/// The number of blocks that `entries` entries need.
fn blocks_for(entries: usize) -> usize {
    entries.div_ceil(ENTRIES_PER_BLOCK).max(1)
}

/// Sixteen counters, each halved `times` times.
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
            (0..key % 7).for_each(|_| sketch.add(sketch.mix(key), 1));
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
            sketch.add(hash, 1);
            assert_eq!(sketch.estimate(hash), count.min(TOP));
        }
        (20..40).for_each(|_| sketch.add(hash, 1));
        assert_eq!(sketch.estimate(hash), 7);
        sketch.add(hash, 1);
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
            if grown.is_growing() {
                // A key a slot.
                grown.grow_on(usize::try_from(key).expect("small"), |slots| {
                    slots.map(|slot| hash(slot as u64))
                });
            } else if grown.entries() < 20_000 && key >= grown.entries() as u64 / 2 {
                grown.try_begin_growth((2 * grown.entries()).min(20_000)).expect("there is memory");
            }
            (0..=key % 7).for_each(|_| grown.add(grown.mix(hash(key)), 1));
            (0..=key % 7).for_each(|_| large.add(large.mix(hash(key)), 1));
        }
        assert!(!grown.is_growing() && grown.entries() >= 20_000);
        let above =
            |sketch: &Sketch, key: u64| u64::from(sketch.estimate(sketch.mix(hash(key)))) - key % 7 - 1;
        let wrong = |sketch: &Sketch| (0..KEYS).map(|key| above(sketch, key)).sum::<u64>();
        assert!(wrong(&grown) < 2 * wrong(&large), "{} and {}", wrong(&grown), wrong(&large));
    }

    #[test]
    fn counts_nothing_without_memory() {
        let mut sketch = Sketch::new(1);
        sketch.add(sketch.mix(1), 1);
        assert_eq!((sketch.estimate(sketch.mix(1)), sketch.allocated_bytes()), (0, 0));
        assert_eq!(sketch.try_resize(usize::MAX), Err(OutOfMemory));
    }

    #[test]
    fn never_underestimates() {
        let mut sketch = sized(1000);
        for key in 0..1000_u64 {
            (0..=key % 5).for_each(|_| sketch.add(sketch.mix(key), 1));
        }
        let exact = (0..1000_u64).filter(|&key| u64::from(sketch.estimate(sketch.mix(key))) == key % 5 + 1);
        assert!(exact.count() > 900);
        assert!((0..1000_u64).all(|key| u64::from(sketch.estimate(sketch.mix(key))) > key % 5));
    }
}
