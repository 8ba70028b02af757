//! The weights of the entries and their exact sum.
//!
//! Invariant: `total` is the sum of the weights of all entries. Where every entry weighs 1, no
//! weight is stored.

use crate::column::Column;
use crate::error::Error;
use crate::memory::{OutOfMemory, TryBox, TryClone};
use crate::slot::Slot;

#[derive(Debug)]
pub(crate) struct Weights {
    /// The weight of an entry minus 1, wrapping, so that the default of 0 stands for a weight of 1. Made with
    /// the first weight that is not 1.
    beyond_one: Option<TryBox<Column<u64>>>,
    total: u64,
}

impl Weights {
    pub(crate) fn new() -> Self {
        Self { beyond_one: None, total: 0 }
    }

    #[inline]
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// Whether no weight other than 1 was ever stored.
    #[inline(always)]
    pub(crate) fn all_one(&self) -> bool {
        self.beyond_one.is_none()
    }

    #[inline]
    pub(crate) fn get(&self, slot: Slot) -> u64 {
        self.beyond_one.as_ref().map_or(1, |beyond_one| beyond_one.get(slot).wrapping_add(1))
    }

    /// Checks that the sum does not overflow when `weight` is added and `freed` is taken off.
    #[inline]
    pub(crate) fn admit(&self, weight: u64, freed: u64) -> Result<(), Error> {
        let total = self.total - freed;
        match total.checked_add(weight) {
            Some(_) => Ok(()),
            None => Err(Error::WeightOverflow { weight, total }),
        }
    }

    /// Makes room for an entry's weight.
    #[inline]
    pub(crate) fn try_reserve(&mut self, slot: Slot, weight: u64) -> Result<(), OutOfMemory> {
        if weight == 1 { Ok(()) } else { self.try_reserve_beyond_one(slot) }
    }

    fn try_reserve_beyond_one(&mut self, slot: Slot) -> Result<(), OutOfMemory> {
        let beyond_one = match &mut self.beyond_one {
            Some(beyond_one) => beyond_one,
            none => none.insert(TryBox::new(Column::new(0))?),
        };
        beyond_one.try_reserve(slot)
    }

    /// Gives a weight to an entry that had none and for which room was made.
    #[inline]
    pub(crate) fn add(&mut self, slot: Slot, weight: u64) {
        self.total += weight;
        // A place that was never written, or was reset, counts as 1.
        if let (Some(beyond_one), true) = (&mut self.beyond_one, weight != 1) {
            beyond_one.set(slot, weight.wrapping_sub(1));
        }
    }

    /// Takes the weight of an entry that leaves.
    #[inline]
    pub(crate) fn remove(&mut self, slot: Slot) {
        self.total -= self.get(slot);
        if let Some(beyond_one) = &mut self.beyond_one {
            beyond_one.reset(slot);
        }
    }

    pub(crate) fn allocated_bytes(&self) -> usize {
        self.beyond_one
            .as_ref()
            .map_or(0, |beyond_one| size_of::<Column<u64>>() + beyond_one.allocated_bytes())
    }
}

impl TryClone for Weights {
    fn try_clone(&self) -> Result<Self, OutOfMemory> {
        Ok(Self { beyond_one: self.beyond_one.try_clone()?, total: self.total })
    }
}
