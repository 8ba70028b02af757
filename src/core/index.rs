//! The hash table from hash to slot, grown segment by segment.
//!
//! A bounded store gets one table of its bound. Beyond that size the index grows by linear
//! hashing: one more segment at a time takes over half of the entries of the segment whose turn
//! it is, so that an insertion rehashes a few thousand entries at most, never all of them.
//!
//! Invariant: an entry is in the segment that [`Index::segment_of`] names for its hash.

use hashbrown::HashTable;

use crate::slot::Slot;

/// Entries a segment holds on average before the next split. A segment that has not been split
/// in this round holds twice as many, which fits 8192 buckets with four deviations to spare.
const SEGMENT: usize = 3400;

#[derive(Clone, Debug)]
pub(crate) struct Index {
    head: HashTable<Slot>,
    tail: Vec<HashTable<Slot>>,
    len: usize,
    /// The number of entries at which the next segment is split off.
    split_at: usize,
    /// Entries a segment may hold on average.
    segment: usize,
}

impl Index {
    /// An index that holds `capacity` entries without growing.
    pub(crate) fn new(capacity: usize) -> Self {
        let segment = capacity.max(SEGMENT);
        Self {
            head: HashTable::with_capacity(capacity),
            tail: Vec::new(),
            len: 0,
            // A lone segment may fill up like one that is due for its split.
            split_at: segment.max(2 * SEGMENT),
            segment,
        }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Bytes allocated for the tables.
    pub(crate) fn allocated_bytes(&self) -> usize {
        self.segments().map(HashTable::allocation_size).sum::<usize>()
            + self.tail.capacity() * size_of::<HashTable<Slot>>()
    }

    fn segments(&self) -> impl Iterator<Item = &HashTable<Slot>> {
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
    fn table(&self, hash: u64) -> &HashTable<Slot> {
        if self.tail.is_empty() {
            return &self.head;
        }
        self.table_among_several(hash)
    }

    #[inline(never)]
    fn table_among_several(&self, hash: u64) -> &HashTable<Slot> {
        match Self::segment_of(hash, self.tail.len() + 1) {
            0 => &self.head,
            segment => &self.tail[segment - 1],
        }
    }

    #[inline(always)]
    fn table_mut(&mut self, hash: u64) -> &mut HashTable<Slot> {
        if self.tail.is_empty() {
            return &mut self.head;
        }
        self.table_among_several_mut(hash)
    }

    #[inline(never)]
    fn table_among_several_mut(&mut self, hash: u64) -> &mut HashTable<Slot> {
        match Self::segment_of(hash, self.tail.len() + 1) {
            0 => &mut self.head,
            segment => &mut self.tail[segment - 1],
        }
    }

    /// The first slot under `hash` that `eq` accepts. O(1).
    #[inline(always)]
    pub(crate) fn find(&self, hash: u64, mut eq: impl FnMut(Slot) -> bool) -> Option<Slot> {
        self.table(hash).find(hash, |&slot| eq(slot)).copied()
    }

    /// Adds a slot that is not present. O(1); `hash_of` is asked for the hashes of slots that
    /// have to move.
    #[inline(always)]
    pub(crate) fn insert(&mut self, hash: u64, slot: Slot, hash_of: impl Fn(Slot) -> u64) {
        if self.len >= self.split_at {
            self.split(&hash_of);
        }
        self.len += 1;
        self.table_mut(hash).insert_unique(hash, slot, |&moved| hash_of(moved));
    }

    /// Removes a slot that is present. O(1).
    #[inline(always)]
    pub(crate) fn remove(&mut self, hash: u64, slot: Slot) {
        if let Ok(found) = self.table_mut(hash).find_entry(hash, |&other| other == slot) {
            found.remove();
            self.len -= 1;
        } else {
            debug_assert!(false, "slot {slot:?} is not in the index");
        }
    }

    #[cold]
    fn split(&mut self, hash_of: &impl Fn(Slot) -> u64) {
        let before = self.tail.len() + 1;
        // The largest power of two not above `before`: where this round of splits began.
        let round = (before + 1).next_power_of_two() / 2;
        let source = before - round;
        let taken = match source {
            0 => std::mem::take(&mut self.head),
            segment => std::mem::take(&mut self.tail[segment - 1]),
        };
        let mut kept = HashTable::with_capacity(self.segment);
        let mut moved = HashTable::with_capacity(self.segment);
        for slot in taken {
            let hash = hash_of(slot);
            let target = if Self::segment_of(hash, before + 1) == source { &mut kept } else { &mut moved };
            target.insert_unique(hash, slot, |&other| hash_of(other));
        }
        match source {
            0 => self.head = kept,
            segment => self.tail[segment - 1] = kept,
        }
        self.tail.push(moved);
        self.split_at = self.segment * (before + 1);
    }

    /// Rebuilds the index for a new capacity. O(n).
    pub(crate) fn reshape(&mut self, capacity: usize, hash_of: impl Fn(Slot) -> u64) {
        let old = std::mem::replace(self, Self::new(capacity));
        for slot in std::iter::once(old.head).chain(old.tail).flatten() {
            self.insert(hash_of(slot), slot, &hash_of);
        }
    }

    /// Every slot, in no particular order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Slot> {
        self.segments().flatten().copied()
    }

    /// Whether every slot is in the segment its hash names.
    pub(crate) fn is_sound(&self, hash_of: impl Fn(Slot) -> u64) -> bool {
        let count = self.tail.len() + 1;
        self.len == self.segments().map(HashTable::len).sum::<usize>()
            && self
                .segments()
                .enumerate()
                .all(|(at, table)| table.iter().all(|&slot| Self::segment_of(hash_of(slot), count) == at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mixed(slot: Slot) -> u64 {
        (slot.index() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    #[test]
    fn every_slot_is_found_while_segments_split() {
        let mut index = Index::new(0);
        for at in 0..60_000 {
            let slot = Slot::new(at);
            index.insert(mixed(slot), slot, mixed);
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

    #[test]
    fn a_bounded_index_stays_one_table() {
        let mut index = Index::new(20_000);
        for at in 0..20_000 {
            index.insert(mixed(Slot::new(at)), Slot::new(at), mixed);
        }
        assert!(index.tail.is_empty());
        index.reshape(0, mixed);
        assert!(!index.tail.is_empty());
        assert!(index.is_sound(mixed));
    }
}
