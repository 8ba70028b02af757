//! Random replacement: the slots side by side, a victim drawn with equal chances.
//!
//! Removing an entry swaps the last slot into the gap. The random number for the next victim is drawn ahead,
//! so that the next victim can be named without changing anything.
//!
//! Slots are given out in order, and an eviction gives the victim's slot to the new entry. So until an entry
//! is removed, each slot is at the place of the same number, and the row of slots is not read.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::{Entries, Policy};
use crate::column::Column;
use crate::memory::{OutOfMemory, TryClone};
use crate::slot::Slot;

/// Evicts any entry, each with the same chance.
#[derive(Debug)]
pub struct Random {
    slots: Column<Slot>,
    /// The place of each slot in the row.
    places: Column<Slot>,
    /// Whether each slot is at the place of the same number.
    in_order: bool,
    len: usize,
    rng: SmallRng,
    /// The next victim's place, as a fraction of the length.
    draw: u64,
}

impl Random {
    #[inline]
    fn drawn(&self) -> usize {
        #[expect(clippy::cast_possible_truncation, reason = "the product's upper half is below len")]
        let place = ((u128::from(self.draw) * self.len as u128) >> 64) as usize;
        place
    }

    /// The slot at a place.
    #[inline]
    fn at(&self, place: usize) -> Slot {
        if self.in_order { Slot::new(place) } else { self.slots.get(Slot::new(place)) }
    }
}

impl Policy for Random {
    fn new(capacity: usize, seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let draw = rng.next_u64();
        Self {
            slots: Column::new(capacity),
            places: Column::new(capacity),
            in_order: true,
            len: 0,
            rng,
            draw,
        }
    }

    #[inline]
    fn try_reserve(&mut self, slot: Slot, _entries: &impl Entries) -> Result<(), OutOfMemory> {
        self.slots.try_reserve(slot)?;
        self.places.try_reserve(slot)
    }

    #[inline]
    fn on_insert(&mut self, slot: Slot, _hash: u64) {
        let place = Slot::new(self.len);
        self.in_order &= slot == place;
        self.slots.set(place, slot);
        self.places.set(slot, place);
        self.len += 1;
    }

    #[inline(always)]
    fn on_access(&mut self, _slot: Slot, _hash: u64) {}

    #[inline(always)]
    fn notices_access(&self, _slot: Slot) -> bool {
        false
    }

    fn accesses_commute(&self) -> bool {
        true
    }

    #[inline]
    fn on_remove(&mut self, slot: Slot) {
        let gap = self.places.get(slot);
        self.len -= 1;
        let last = self.slots.get(Slot::new(self.len));
        self.in_order &= last == slot;
        self.slots.set(gap, last);
        self.places.set(last, gap);
        self.draw = self.rng.next_u64();
    }

    /// The new entry takes the place of its predecessor, so no other entry moves.
    #[inline(always)]
    fn on_reuse(&mut self, _slot: Slot, _evicted: u64, _hash: u64) {
        self.draw = self.rng.next_u64();
    }

    #[inline]
    fn victim(&mut self, _entries: &impl Entries) -> Option<Slot> {
        (self.len > 0).then(|| self.at(self.drawn()))
    }

    /// Around the row, from the drawn place on; any fixed order would do.
    fn order(&self, _entries: impl Entries) -> impl Iterator<Item = Slot> {
        let drawn = self.drawn();
        (drawn..self.len).chain(0..drawn).map(|place| self.slots.get(Slot::new(place)))
    }

    /// The place in the row.
    fn rank(&self, slot: Slot, _hash: u64) -> u64 {
        self.places.get(slot).index() as u64
    }

    /// Swaps the entry with the one at the place `rank`, so that every entry is at its place once all were
    /// restored.
    fn restore(&mut self, slot: Slot, _hash: u64, rank: u64) {
        if let Some(other) = self.at_rank(rank) {
            let (from, to) = (self.places.get(slot), self.places.get(other));
            self.in_order &= from == to;
            self.slots.set(to, slot);
            self.slots.set(from, other);
            self.places.set(slot, to);
            self.places.set(other, from);
        }
    }

    fn at_rank(&self, rank: u64) -> Option<Slot> {
        let place = usize::try_from(rank).ok().filter(|&place| place < self.len)?;
        Some(self.slots.get(Slot::new(place)))
    }

    fn allocated_bytes(&self) -> usize {
        self.slots.allocated_bytes() + self.places.allocated_bytes()
    }

    fn check(&self, len: usize) -> Result<(), String> {
        for place in (0..self.len).map(Slot::new) {
            if self.places.get(self.slots.get(place)) != place {
                return Err(format!("the entry at place {place:?} stands elsewhere"));
            }
            if self.at(place.index()) != self.slots.get(place) {
                return Err(format!("the entry at place {place:?} has another number"));
            }
        }
        if self.len == len { Ok(()) } else { Err(format!("{} of {len} entries in the row", self.len)) }
    }
}

impl TryClone for Random {
    fn try_clone(&self) -> Result<Self, OutOfMemory> {
        Ok(Self {
            slots: self.slots.try_clone()?,
            places: self.places.try_clone()?,
            in_order: self.in_order,
            len: self.len,
            rng: self.rng.clone(),
            draw: self.draw,
        })
    }
}
