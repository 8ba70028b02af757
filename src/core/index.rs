//! The hash table from hash to slot, grown segment by segment.
//!
//! The index of a store with a small bound is one table, which doubles as it fills. Others grow by linear
//! hashing: a new segment takes over half of the entries of the segment whose turn it is. So an insertion
//! rehashes a few thousand entries at most, never all of them.
//!
//! A store keeps only 32 bits of each hash. [`spread`] derives from them the bits that choose segments,
//! chunks and tags.
//!
//! Invariant: an entry is in the segment that [`Index::segment_of`] names for its hash.

use crate::memory::OutOfMemory;
use crate::slot::Slot;
use crate::table::Table;

/// Entries a segment holds on average before the next split. A segment that has not been split
/// in this round holds twice as many, which fits 512 chunks with four deviations to spare.
const SEGMENT: usize = 2150;

/// The index of a store bounded to at most this many entries is one table.
const LARGEST_TABLE: usize = 1 << 16;

/// The part of a hash that a store keeps: its lowest bits.
#[inline(always)]
pub(crate) fn short(hash: u64) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "the lowest bits are wanted")]
    let short = hash as u32;
    short
}

/// The hash for the tables, which use its lowest bits to choose a chunk, and its highest ones as the tag.
#[inline(always)]
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[derive(Debug)]
pub(crate) struct Index {
    head: Table,
    tail: Vec<Table>,
    len: usize,
    /// The number of entries at which the next segment is split off.
    split_at: usize,
}

impl Index {
    /// An empty index for at most `bound` entries; 0 for any number. Allocates nothing.
    pub(crate) fn new(bound: usize) -> Self {
        Self { head: Table::default(), tail: Vec::new(), len: 0, split_at: Self::first_split(bound) }
    }

    /// The number of entries at which a lone table is split: twice the average of a segment, as for the next
    /// segment to be split.
    fn first_split(bound: usize) -> usize {
        if bound <= LARGEST_TABLE { bound.max(2 * SEGMENT) } else { 2 * SEGMENT }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Bytes allocated for the tables.
    pub(crate) fn allocated_bytes(&self) -> usize {
        self.segments().map(Table::allocated_bytes).sum::<usize>() + self.tail.capacity() * size_of::<Table>()
    }

    fn segments(&self) -> impl Iterator<Item = &Table> {
        std::iter::once(&self.head).chain(&self.tail)
    }

    /// The segment for `hash` among `count`: the table itself uses the lowest and highest bits
    /// of the hash, so these come from the middle.
    #[inline]
    fn segment_of(hash: u64, count: usize) -> usize {
        let round = count.next_power_of_two();
        let bits = (hash >> 28) as usize;
        let segment = bits & (round - 1);
        if segment < count { segment } else { segment & (round / 2 - 1) }
    }

    #[inline(always)]
    fn table(&self, hash: u64) -> &Table {
        if self.tail.is_empty() {
            return &self.head;
        }
        self.table_among_several(hash)
    }

    #[inline(never)]
    fn table_among_several(&self, hash: u64) -> &Table {
        match Self::segment_of(hash, self.tail.len() + 1) {
            0 => &self.head,
            segment => &self.tail[segment - 1],
        }
    }

    #[inline(always)]
    fn table_mut(&mut self, hash: u64) -> &mut Table {
        if self.tail.is_empty() {
            return &mut self.head;
        }
        self.table_among_several_mut(hash)
    }

    #[inline(never)]
    fn table_among_several_mut(&mut self, hash: u64) -> &mut Table {
        match Self::segment_of(hash, self.tail.len() + 1) {
            0 => &mut self.head,
            segment => &mut self.tail[segment - 1],
        }
    }

    /// The first slot under `hash` that `eq` accepts. O(1).
    #[inline(always)]
    pub(crate) fn find(&self, hash: u32, eq: impl FnMut(Slot) -> bool) -> Option<Slot> {
        let hash = spread(hash);
        self.table(hash).find(hash, eq)
    }

    /// Makes room for one more slot under `hash`, so that inserting it next allocates nothing. Amortized
    /// O(1). `hash_of` returns the hash of a slot that has to move.
    #[inline(always)]
    pub(crate) fn try_reserve(
        &mut self,
        hash: u32,
        hash_of: impl Fn(Slot) -> u32,
    ) -> Result<(), OutOfMemory> {
        if self.len >= self.split_at {
            self.try_split(&hash_of)?;
        }
        self.table_mut(spread(hash)).try_reserve(|moved| spread(hash_of(moved)))
    }

    /// Adds a slot that is not present, after [`try_reserve`](Self::try_reserve). O(1).
    #[inline(always)]
    pub(crate) fn insert(&mut self, hash: u32, slot: Slot) {
        self.len += 1;
        let hash = spread(hash);
        self.table_mut(hash).insert(hash, slot);
    }

    /// Removes a slot that is present. O(1).
    #[inline(always)]
    pub(crate) fn remove(&mut self, hash: u32, slot: Slot) {
        let hash = spread(hash);
        if self.table_mut(hash).remove(hash, slot) {
            self.len -= 1;
        } else {
            debug_assert!(false, "slot {slot:?} is not in the index");
        }
    }

    #[cold]
    fn try_split(&mut self, hash_of: &impl Fn(Slot) -> u32) -> Result<(), OutOfMemory> {
        let before = self.tail.len() + 1;
        // The largest power of two not above `before`: where this round of splits began.
        let round = (before + 1).next_power_of_two() / 2;
        let source = before - round;
        let hasher = |slot: Slot| spread(hash_of(slot));
        let (mut kept, mut moved) = (Table::with_room(SEGMENT)?, Table::with_room(SEGMENT)?);
        self.tail.try_reserve(1)?;
        let split = if source == 0 { &mut self.head } else { &mut self.tail[source - 1] };
        for slot in split.iter() {
            let hash = hasher(slot);
            let target = if Self::segment_of(hash, before + 1) == source { &mut kept } else { &mut moved };
            target.try_reserve(hasher)?;
            target.insert(hash, slot);
        }
        *split = kept;
        self.tail.push(moved);
        self.split_at = SEGMENT * (before + 1);
        Ok(())
    }

    /// Adapts the index to another bound. O(n) if segments become one table again, for which there must be
    /// memory; otherwise O(1).
    pub(crate) fn set_bound(&mut self, bound: usize, hash_of: impl Fn(Slot) -> u32) {
        if self.tail.is_empty() {
            self.split_at = Self::first_split(bound);
        } else if (self.len..=LARGEST_TABLE).contains(&bound)
            && let Ok(mut table) = Table::with_room(self.len)
        {
            self.iter().for_each(|slot| table.insert(spread(hash_of(slot)), slot));
            *self = Self { head: table, len: self.len, ..Self::new(bound) };
        }
    }

    /// A copy of the index, for a copy of the store with the same slots.
    pub(crate) fn try_clone(&self) -> Result<Self, OutOfMemory> {
        let mut tail = Vec::new();
        tail.try_reserve_exact(self.tail.len())?;
        for table in &self.tail {
            tail.push(table.try_clone()?);
        }
        Ok(Self { head: self.head.try_clone()?, tail, len: self.len, split_at: self.split_at })
    }

    /// Every slot, in no particular order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Slot> {
        self.segments().flat_map(Table::iter)
    }

    /// Whether every slot is in the segment its hash names, and where it belongs there.
    pub(crate) fn is_sound(&self, hash_of: impl Fn(Slot) -> u32) -> bool {
        let count = self.tail.len() + 1;
        let hash_of = |slot| spread(hash_of(slot));
        self.len == self.segments().map(Table::len).sum::<usize>()
            && self.segments().enumerate().all(|(at, table)| {
                table.is_sound(hash_of)
                    && table.iter().all(|slot| Self::segment_of(hash_of(slot), count) == at)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mixed(slot: Slot) -> u32 {
        ((slot.index() as u64).wrapping_mul(0xa076_1d64_78bd_642f) >> 32) as u32
    }

    #[test]
    fn every_slot_is_found_while_segments_split() {
        let mut index = Index::new(0);
        for at in 0..60_000 {
            let slot = Slot::new(at);
            index.try_reserve(mixed(slot), mixed).expect("there is memory");
            index.insert(mixed(slot), slot);
            if at % 4_999 == 0 {
                assert!(index.is_sound(mixed));
            }
        }
        assert!(index.tail.len() > 10, "the index has split");
        assert!(index.is_sound(mixed));
        for at in 0..60_000 {
            let slot = Slot::new(at);
            assert_eq!(index.find(mixed(slot), |other| other == slot), Some(slot));
            index.remove(mixed(slot), slot);
            assert_eq!(index.find(mixed(slot), |other| other == slot), None);
        }
        assert_eq!(index.len(), 0);
    }

    fn filled(bound: usize, len: usize) -> Index {
        let mut index = Index::new(bound);
        add(&mut index, 0..len);
        index
    }

    fn add(index: &mut Index, slots: std::ops::Range<usize>) {
        for slot in slots.map(Slot::new) {
            index.try_reserve(mixed(slot), mixed).expect("there is memory");
            index.insert(mixed(slot), slot);
        }
    }

    #[test]
    fn a_small_bound_keeps_one_table() {
        let mut index = filled(20_000, 20_000);
        assert!(index.tail.is_empty());
        index.set_bound(0, mixed);
        add(&mut index, 20_000..20_100);
        assert!(index.tail.len() > 3, "it is split, segment by segment");
        assert!(index.is_sound(mixed));
        index.set_bound(30_000, mixed);
        assert!(index.tail.is_empty());
        assert!(index.is_sound(mixed));
        let copy = index.try_clone().expect("there is memory");
        assert!(copy.is_sound(mixed) && copy.len() == 20_100);
    }

    #[test]
    fn a_bound_costs_nothing() {
        assert_eq!(Index::new(1 << 40).allocated_bytes(), 0);
        let index = filled(1 << 40, 100);
        assert!(index.allocated_bytes() < 100 * 20);
    }
}
