//! Least frequently used, with aging: one list for each frequency, the coldest entry in front.
//!
//! A frequency counts to [`TOP`] and no further. After ten accesses for each entry on average, but at least
//! [`LEAST_PERIOD`] accesses, all frequencies are halved, so that entries that were once hot and are no
//! longer used can be evicted. Halving is O(1): lists 2k and 2k + 1 are joined to list k in this order, which
//! keeps the order of eviction. An entry records its frequency and the number of halvings when it was last
//! touched; its current frequency is that, halved once for every halving since.
//!
//! Among equal frequencies, the entry that has had its frequency for the longest time is evicted first.

use super::{Entries, Policy};
use crate::column::Column;
use crate::list::{Linked, Links, List};
use crate::memory::{OutOfMemory, TryClone, copied, filled};
use crate::slot::Slot;

const TOP: usize = 255;
const LISTS: usize = TOP + 1;
const PERIOD_PER_ENTRY: usize = 10;
const LEAST_PERIOD: usize = 1_000;

/// The data on an entry. An access reads and writes both fields, so they are kept together.
#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    links: Links,
    /// The lowest 8 bits are the frequency when last touched. The bits above are the number of halvings at
    /// that time.
    mark: u64,
}

impl Linked for Counted {
    #[inline(always)]
    fn links(&self) -> Links {
        self.links
    }

    #[inline(always)]
    fn links_mut(&mut self) -> &mut Links {
        &mut self.links
    }
}

/// Evicts the entry that was used least often, with older uses counting less.
#[derive(Debug)]
pub struct Lfu {
    entries: Column<Counted>,
    /// One for each frequency; made with the first entry.
    lists: Box<[List]>,
    /// A bit for each list that is not empty.
    occupied: [u64; LISTS / 64],
    /// Halvings so far.
    halvings: u64,
    /// Accesses since the last halving.
    accesses: usize,
    len: usize,
}

impl Lfu {
    #[inline]
    fn frequency(&self, slot: Slot) -> usize {
        let mark = self.entries.get(slot).mark;
        let halvings = self.halvings - (mark >> 8);
        if halvings >= 8 { 0 } else { ((mark & 0xff) >> halvings) as usize }
    }

    #[inline]
    fn link(&mut self, slot: Slot, frequency: usize) {
        self.lists[frequency].push_back(&mut self.entries, slot);
        self.entries.get_mut(slot).mark = (self.halvings << 8) | frequency as u64;
        self.occupied[frequency / 64] |= 1 << (frequency % 64);
    }

    #[inline]
    fn unlink(&mut self, slot: Slot) -> usize {
        let frequency = self.frequency(slot);
        self.lists[frequency].unlink(&mut self.entries, slot);
        if self.lists[frequency].is_empty() {
            self.occupied[frequency / 64] &= !(1 << (frequency % 64));
        }
        frequency
    }

    #[inline]
    fn count_access(&mut self) {
        self.accesses += 1;
        if self.accesses >= LEAST_PERIOD && self.accesses >= self.len.saturating_mul(PERIOD_PER_ENTRY) {
            self.halve();
        }
    }

    #[cold]
    fn halve(&mut self) {
        self.accesses = 0;
        self.halvings += 1;
        self.occupied = [0; LISTS / 64];
        for half in 0..LISTS / 2 {
            let mut merged = std::mem::take(&mut self.lists[2 * half]);
            let mut odd = std::mem::take(&mut self.lists[2 * half + 1]);
            merged.append(&mut self.entries, &mut odd);
            if !merged.is_empty() {
                self.occupied[half / 64] |= 1 << (half % 64);
            }
            self.lists[half] = merged;
        }
    }

    /// The first list at or above `frequency` that is not empty.
    #[inline]
    fn first_occupied(&self, frequency: usize) -> Option<usize> {
        let mut word = frequency / 64;
        let mut bits = self.occupied.get(word)? & (u64::MAX << (frequency % 64));
        while bits == 0 {
            word += 1;
            bits = *self.occupied.get(word)?;
        }
        Some(word * 64 + bits.trailing_zeros() as usize)
    }
}

impl Policy for Lfu {
    fn new(capacity: usize, _seed: u64) -> Self {
        Self {
            entries: Column::new(capacity),
            lists: Box::default(),
            occupied: [0; LISTS / 64],
            halvings: 0,
            accesses: 0,
            len: 0,
        }
    }

    #[inline]
    fn try_reserve(&mut self, slot: Slot, _entries: &impl Entries) -> Result<(), OutOfMemory> {
        if self.lists.is_empty() {
            self.lists = filled(List::default(), LISTS)?;
        }
        self.entries.try_reserve(slot)
    }

    #[inline]
    fn on_insert(&mut self, slot: Slot, _hash: u64) {
        if self.lists.is_empty() {
            self.lists = vec![List::default(); LISTS].into_boxed_slice();
        }
        self.len += 1;
        self.link(slot, 1);
        self.count_access();
    }

    #[inline(always)]
    fn on_access(&mut self, slot: Slot, _hash: u64) {
        let frequency = self.unlink(slot);
        self.link(slot, (frequency + 1).min(TOP));
        self.count_access();
    }

    #[inline]
    fn on_remove(&mut self, slot: Slot) {
        self.unlink(slot);
        self.len -= 1;
    }

    #[inline]
    fn victim(&mut self, _entries: &impl Entries) -> Option<Slot> {
        self.lists[self.first_occupied(0)?].front()
    }

    fn order(&self, _entries: impl Entries) -> impl Iterator<Item = Slot> {
        self.lists.iter().flat_map(|list| list.iter(&self.entries))
    }

    fn rank(&self, slot: Slot, _hash: u64) -> u64 {
        self.frequency(slot) as u64
    }

    fn restore(&mut self, slot: Slot, _hash: u64, rank: u64) {
        self.unlink(slot);
        self.link(slot, usize::try_from(rank).map_or(TOP, |rank| rank.min(TOP)));
    }

    fn allocated_bytes(&self) -> usize {
        self.entries.allocated_bytes() + size_of_val(&*self.lists)
    }

    fn check(&self, len: usize) -> Result<(), String> {
        let mut total = 0;
        for (frequency, list) in self.lists.iter().enumerate() {
            let bit = self.occupied[frequency / 64] >> (frequency % 64) & 1 == 1;
            if bit == list.is_empty() {
                return Err(format!("the bit of frequency {frequency} is wrong"));
            }
            total += list
                .count(&self.entries, len)
                .ok_or_else(|| format!("the list of frequency {frequency} is broken"))?;
            let mut at = list.front();
            while let Some(slot) = at {
                if self.frequency(slot) != frequency {
                    return Err(format!("{slot:?} is in the list of frequency {frequency}"));
                }
                at = List::next(&self.entries, slot);
            }
        }
        if total == len && self.len == len {
            Ok(())
        } else {
            Err(format!("the lists hold {total}, the count is {}, of {len} entries", self.len))
        }
    }
}

impl TryClone for Lfu {
    fn try_clone(&self) -> Result<Self, OutOfMemory> {
        Ok(Self {
            entries: self.entries.try_clone()?,
            lists: copied(&self.lists)?.into_boxed_slice(),
            occupied: self.occupied,
            halvings: self.halvings,
            accesses: self.accesses,
            len: self.len,
        })
    }
}
