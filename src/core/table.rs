//! A hash table of slots whose lookups mostly read one cache line.
//!
//! The table is an array of chunks of 64 bytes. A chunk has places for twelve slots, and for each a tag,
//! which is one byte of the hash. Tags and slots share a cache line, so a lookup waits for memory once, not
//! once for the tag and once for the slot.
//!
//! The hash of an entry names a chunk, its *home*. If the home is full, the entry goes on to the first chunk
//! that is not full, in steps whose length depends on its tag. Each chunk that it passes counts it, by the
//! kind of its tag. So a lookup ends at the first chunk that no entry with such a tag has passed. Removing an
//! entry takes it out of these counts and leaves no tombstone, so a table in which entries come and go is
//! never rebuilt.
//!
//! Invariants: the entries of a chunk are in the places whose tag is not [`VACANT`]. Each count of a chunk is
//! the number of entries with such tags that passed it on the way from their home, or [`MANY`].

use crate::memory::{OutOfMemory, copied, filled};
use crate::slot::Slot;

/// Places of a chunk.
const PLACES: usize = 12;

/// The most entries for each chunk, on average. At this load, one entry in seven is not in its home.
const LOAD: usize = 9;

/// The tag of a place without an entry.
const VACANT: u8 = 0;

/// The highest count. A count that has reached it stays there, as it may stand for more.
const MANY: u32 = 15;

#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Chunk {
    tags: [u8; PLACES],
    /// The number of entries that have passed, in four bits for each of eight kinds of tags.
    passed: u32,
    slots: [Slot; PLACES],
}

const _: () = assert!(size_of::<Chunk>() == 64);

/// Places of a chunk: bit 8 n + m stands for place n + 8 m.
struct Places(u64);

impl Iterator for Places {
    type Item = usize;

    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        if self.0 == 0 {
            return None;
        }
        let bit = self.0.trailing_zeros() as usize;
        self.0 &= self.0 - 1;
        Some(bit / 8 + 8 * (bit % 2))
    }
}

/// The highest bit of each byte that is not 0; the other bits mean nothing.
#[inline(always)]
fn occupied_bytes(word: u64) -> u64 {
    const ALL_BUT_HIGHEST: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    ((word & ALL_BUT_HIGHEST) + ALL_BUT_HIGHEST) | word
}

impl Chunk {
    const EMPTY: Self = Self { tags: [VACANT; PLACES], passed: 0, slots: [Slot::NIL; PLACES] };

    /// The places with this tag. All are compared at once, in words.
    #[inline(always)]
    fn tagged(&self, tag: u8) -> Places {
        let all = u64::from_ne_bytes([tag; 8]);
        let [eight @ .., _, _, _, _] = self.tags;
        let [_, _, _, _, _, _, _, _, four @ ..] = self.tags;
        let eight = !occupied_bytes(u64::from_le_bytes(eight) ^ all) & 0x8080_8080_8080_8080;
        let four = !occupied_bytes(u64::from(u32::from_le_bytes(four)) ^ all) & 0x8080_8080;
        Places(eight >> 7 | four >> 6)
    }

    /// The position of the count for a tag's kind, in bits.
    #[inline(always)]
    fn shift(tag: u8) -> u32 {
        u32::from(tag % 8) * 4
    }

    /// The number of entries with a tag of this kind that have passed.
    #[inline(always)]
    fn passed(&self, tag: u8) -> u32 {
        self.passed >> Self::shift(tag) & MANY
    }

    #[inline(always)]
    fn count_passing(&mut self, tag: u8) {
        if self.passed(tag) < MANY {
            self.passed += 1 << Self::shift(tag);
        }
    }

    fn uncount_passing(&mut self, tag: u8) {
        if self.passed(tag) < MANY {
            self.passed -= 1 << Self::shift(tag);
        }
    }

    #[inline(always)]
    fn vacant(&self) -> Option<usize> {
        self.tagged(VACANT).next()
    }

    #[inline(always)]
    fn place_of(&self, tag: u8, slot: Slot) -> Option<usize> {
        self.tagged(tag).find(|&place| self.slots[place] == slot)
    }

    fn entries(&self) -> impl Iterator<Item = (u8, Slot)> {
        self.tags.into_iter().zip(self.slots).filter(|&(tag, _)| tag != VACANT)
    }
}

/// The tag of a hash: its highest bits, but never that of a vacant place.
#[inline(always)]
fn tag_of(hash: u64) -> u8 {
    let [.., highest] = hash.to_le_bytes();
    highest.max(1)
}

/// The length of an entry's steps, in chunks. It is odd, so the steps reach every chunk, as their number is a
/// power of two.
#[inline(always)]
fn step(tag: u8) -> usize {
    usize::from(tag) << 1 | 1
}

#[derive(Debug, Default)]
pub(crate) struct Table {
    /// Their number is a power of two, or 0.
    chunks: Box<[Chunk]>,
    len: u32,
    /// The number of entries at which the table grows.
    capacity: u32,
}

impl Table {
    /// An empty table of `chunks` chunks, which must be a power of two.
    fn of(chunks: usize) -> Result<Self, OutOfMemory> {
        let capacity = if chunks == 1 { PLACES } else { LOAD * chunks };
        let capacity = u32::try_from(capacity).map_err(|_| OutOfMemory)?;
        Ok(Self { chunks: filled(Chunk::EMPTY, chunks)?, len: 0, capacity })
    }

    /// An empty table with room for `entries` entries.
    pub(crate) fn with_room(entries: usize) -> Result<Self, OutOfMemory> {
        let chunks = if entries <= PLACES { 1 } else { entries.div_ceil(LOAD).next_power_of_two() };
        Self::of(chunks)
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len as usize
    }

    pub(crate) fn allocated_bytes(&self) -> usize {
        size_of_val(&*self.chunks)
    }

    /// The mask that reduces a hash or a step to the index of a chunk.
    #[inline(always)]
    fn mask(&self) -> usize {
        self.chunks.len().wrapping_sub(1)
    }

    /// The index of the home of a hash; out of bounds if there are no chunks.
    #[inline(always)]
    fn home(&self, hash: u64) -> usize {
        #[expect(clippy::cast_possible_truncation, reason = "the lowest bits are wanted")]
        let low = hash as usize;
        low & self.mask()
    }

    /// The next chunk on the way of an entry with this tag.
    #[inline(always)]
    fn after(&self, at: usize, tag: u8) -> usize {
        at.wrapping_add(step(tag)) & self.mask()
    }

    /// The first slot under `hash` that `eq` accepts. O(1).
    #[inline(always)]
    pub(crate) fn find(&self, hash: u64, mut eq: impl FnMut(Slot) -> bool) -> Option<Slot> {
        let (home, tag) = (self.home(hash), tag_of(hash));
        let chunk = self.chunks.get(home)?;
        for place in chunk.tagged(tag) {
            let slot = chunk.slots[place];
            if eq(slot) {
                return Some(slot);
            }
        }
        if chunk.passed(tag) == 0 { None } else { self.find_beyond(home, tag, eq) }
    }

    #[inline(never)]
    fn find_beyond(&self, home: usize, tag: u8, mut eq: impl FnMut(Slot) -> bool) -> Option<Slot> {
        let mut at = home;
        // Every chunk may have been passed, so the loop is bounded.
        for _ in 1..self.chunks.len() {
            at = self.after(at, tag);
            let chunk = &self.chunks[at];
            if let Some(slot) = chunk.tagged(tag).map(|place| chunk.slots[place]).find(|&slot| eq(slot)) {
                return Some(slot);
            }
            if chunk.passed(tag) == 0 {
                break;
            }
        }
        None
    }

    /// Makes room for one more slot. Amortized O(1). `hash_of` returns the hash of a slot that moves.
    #[inline(always)]
    pub(crate) fn try_reserve(&mut self, hash_of: impl Fn(Slot) -> u64) -> Result<(), OutOfMemory> {
        if self.len < self.capacity { Ok(()) } else { self.try_grow(hash_of) }
    }

    #[cold]
    fn try_grow(&mut self, hash_of: impl Fn(Slot) -> u64) -> Result<(), OutOfMemory> {
        let mut larger = Self::of((2 * self.chunks.len()).max(1))?;
        self.iter().for_each(|slot| larger.insert(hash_of(slot), slot));
        *self = larger;
        Ok(())
    }

    /// Adds a slot that is not present. There must be room. O(1).
    #[inline(always)]
    pub(crate) fn insert(&mut self, hash: u64, slot: Slot) {
        debug_assert!(self.len < self.capacity);
        let (mut at, tag) = (self.home(hash), tag_of(hash));
        loop {
            let chunk = &mut self.chunks[at];
            if let Some(place) = chunk.vacant() {
                chunk.tags[place] = tag;
                chunk.slots[place] = slot;
                self.len += 1;
                return;
            }
            chunk.count_passing(tag);
            at = self.after(at, tag);
        }
    }

    /// Removes a slot. Returns whether it was present. O(1).
    #[inline(always)]
    pub(crate) fn remove(&mut self, hash: u64, slot: Slot) -> bool {
        let (home, tag) = (self.home(hash), tag_of(hash));
        let Some(chunk) = self.chunks.get_mut(home) else { return false };
        if let Some(place) = chunk.place_of(tag, slot) {
            chunk.tags[place] = VACANT;
            self.len -= 1;
            return true;
        }
        chunk.passed(tag) != 0 && self.remove_beyond(home, tag, slot)
    }

    #[inline(never)]
    fn remove_beyond(&mut self, home: usize, tag: u8, slot: Slot) -> bool {
        let mut at = home;
        for _ in 1..self.chunks.len() {
            at = self.after(at, tag);
            let chunk = &mut self.chunks[at];
            if let Some(place) = chunk.place_of(tag, slot) {
                chunk.tags[place] = VACANT;
                self.len -= 1;
                let mut passed = home;
                while passed != at {
                    self.chunks[passed].uncount_passing(tag);
                    passed = self.after(passed, tag);
                }
                return true;
            }
            if chunk.passed(tag) == 0 {
                break;
            }
        }
        false
    }

    /// Every slot, in no particular order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Slot> {
        self.chunks.iter().flat_map(|chunk| chunk.entries().map(|(_, slot)| slot))
    }

    /// A copy of the table, for a copy of the store with the same slots.
    pub(crate) fn try_clone(&self) -> Result<Self, OutOfMemory> {
        Ok(Self { chunks: copied(&self.chunks)?.into_boxed_slice(), ..*self })
    }

    /// Whether every slot is where its hash says, and every chunk counts the entries that have passed.
    pub(crate) fn is_sound(&self, hash_of: impl Fn(Slot) -> u64) -> bool {
        let mut passed = vec![[0_u32; 8]; self.chunks.len()];
        for (at, chunk) in self.chunks.iter().enumerate() {
            for (tag, slot) in chunk.entries() {
                let hash = hash_of(slot);
                if tag != tag_of(hash) {
                    return false;
                }
                let mut way = self.home(hash);
                while way != at {
                    passed[way][usize::from(tag % 8)] += 1;
                    way = self.after(way, tag);
                }
            }
        }
        let counts = |chunk: &Chunk, passed: [u32; 8]| {
            passed.iter().zip(0..).all(|(&passed, tag)| [passed, MANY].contains(&chunk.passed(tag)))
        };
        self.len() == self.iter().count()
            && self.chunks.iter().zip(passed).all(|(chunk, passed)| counts(chunk, passed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mixed(slot: Slot) -> u64 {
        (slot.index() as u64).wrapping_mul(0xa076_1d64_78bd_642f)
    }

    /// All in one home, with tags of two kinds.
    fn crowded(slot: Slot) -> u64 {
        (1 + slot.index() as u64 % 2) << 56
    }

    fn add(table: &mut Table, slots: std::ops::Range<usize>, hash_of: fn(Slot) -> u64) {
        for slot in slots.map(Slot::new) {
            table.try_reserve(hash_of).expect("there is memory");
            table.insert(hash_of(slot), slot);
        }
    }

    fn has(table: &Table, slot: Slot, hash: u64) -> bool {
        table.find(hash, |found| found == slot) == Some(slot)
    }

    #[test]
    fn tags_are_found_at_their_places_only() {
        for tag in 0..=u8::MAX {
            // Bytes that differ from it in one bit, and those that a carry between bytes would find.
            let near = [tag ^ 1, tag ^ 0x80, tag.wrapping_add(1), tag.wrapping_sub(1), !tag];
            for place in 0..PLACES {
                for (other, second) in near.into_iter().zip((0..PLACES).cycle().skip(place + 1)) {
                    let mut chunk = Chunk { tags: [other; PLACES], ..Chunk::EMPTY };
                    assert_eq!(chunk.tagged(tag).next(), None);
                    chunk.tags[place] = tag;
                    chunk.tags[second] = tag;
                    let mut found: Vec<usize> = chunk.tagged(tag).collect();
                    found.sort_unstable();
                    assert_eq!(found, [place.min(second), place.max(second)]);
                }
            }
        }
    }

    #[test]
    fn entries_that_pass_their_home_are_found_and_leave_no_trace() {
        let mut table = Table::default();
        assert_eq!(table.find(0, |_| true), None);
        assert!(!table.remove(0, Slot::new(0)));
        add(&mut table, 0..40, crowded);
        assert!(table.chunks[0].passed(1) > 0 && table.chunks[0].passed(2) > 0);
        assert!(table.is_sound(crowded));
        assert_eq!(table.find(crowded(Slot::new(1)), |_| false), None);
        // Those at home leave first: the others are still found.
        for slot in (0..40).map(Slot::new) {
            assert!(has(&table, slot, crowded(slot)));
            assert!(table.remove(crowded(slot), slot));
            assert!(!table.remove(crowded(slot), slot));
            assert!(table.is_sound(crowded));
        }
        assert!(table.chunks.iter().all(|chunk| chunk.passed == 0));
    }

    #[test]
    fn a_count_that_was_full_stays() {
        let flood = |_| 1 << 56;
        let mut table = Table::default();
        add(&mut table, 0..100, flood);
        assert_eq!(table.chunks[0].passed(1), MANY);
        assert!(table.is_sound(flood));
        for slot in (0..100).rev().map(Slot::new) {
            assert!(has(&table, slot, 1 << 56));
            assert!(table.remove(1 << 56, slot));
        }
        assert!(table.is_sound(flood) && table.len() == 0);
        add(&mut table, 0..100, flood);
        assert!((0..100).map(Slot::new).all(|slot| has(&table, slot, 1 << 56)));
    }

    #[test]
    fn lookups_end_where_every_chunk_was_passed() {
        let home = |at: u64| at | 1 << 56;
        let mut table = Table::of(2).expect("there is memory");
        (0..13).map(Slot::new).for_each(|slot| table.insert(home(0), slot));
        (0..7).map(Slot::new).for_each(|slot| assert!(table.remove(home(0), slot)));
        (20..32).map(Slot::new).for_each(|slot| table.insert(home(1), slot));
        assert!(table.chunks.iter().all(|chunk| chunk.passed(1) > 0));
        for at in 0..2 {
            assert_eq!(table.find(home(at), |_| false), None);
            assert!(!table.remove(home(at), Slot::new(50)));
        }
    }

    #[test]
    fn a_table_grows_as_it_fills() {
        let mut table = Table::default();
        add(&mut table, 0..PLACES, mixed);
        assert_eq!(table.allocated_bytes(), 64);
        add(&mut table, PLACES..5_000, mixed);
        assert!(table.is_sound(mixed));
        assert!(table.allocated_bytes() <= 5_000 * 15);
        assert!((0..5_000).map(Slot::new).all(|slot| has(&table, slot, mixed(slot))));
        assert!(!has(&table, Slot::new(5_000), mixed(Slot::new(5_000))));
        let copy = table.try_clone().expect("there is memory");
        assert!(copy.is_sound(mixed) && copy.iter().eq(table.iter()));
        let room = Table::with_room(5_000).expect("there is memory");
        assert_eq!(room.allocated_bytes(), table.allocated_bytes());
    }
}
