//! How much a store may hold.

use std::num::NonZeroU64;

use crate::slot::Slot;

/// In stores bounded to at most this many entries, the data of all entries are contiguous.
const LARGEST_PIECE: usize = 1 << 22;

/// In other stores, the data of this many first entries are contiguous. Most stores have no more, and a
/// lookup beyond the first piece costs more.
const FIRST_PIECE: usize = 1 << 15;

/// The least that a bounded store keeps contiguous, as its bound may be raised later.
const LEAST: usize = 1 << 12;

/// How much a store may hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// The largest number of entries; `None` for no limit.
    pub items: Option<NonZeroU64>,
    /// The largest sum of weights; `None` for no limit.
    pub weight: Option<NonZeroU64>,
}

impl Limits {
    /// Limits where 0 means unlimited.
    #[must_use]
    pub fn new(items: u64, weight: u64) -> Self {
        Self { items: NonZeroU64::new(items), weight: NonZeroU64::new(weight) }
    }

    pub(super) fn most_items(&self) -> usize {
        let items = self.items.map_or(u64::MAX, NonZeroU64::get);
        usize::try_from(items).unwrap_or(usize::MAX).min(Slot::LIMIT)
    }

    pub(super) fn most_weight(&self) -> u64 {
        self.weight.map_or(u64::MAX, NonZeroU64::get)
    }

    /// The largest number of entries, for a policy; `usize::MAX` where only slots limit it.
    pub(super) fn bound(&self) -> usize {
        if self.items.is_some() { self.most_items() } else { usize::MAX }
    }

    /// The bound for the index: 0 for any number. The store reserves room for an entry before it removes the
    /// victim, so there is one slot more than there are entries.
    pub(super) fn bound_of_index(&self) -> usize {
        if self.items.is_some() { self.most_items() + 1 } else { 0 }
    }

    /// For how many entries the data are contiguous. A slot may be claimed before room is made, so there is
    /// one slot more than there are entries.
    pub(super) fn capacity(&self) -> usize {
        match self.items {
            Some(_) if self.most_items() <= LARGEST_PIECE => (self.most_items() + 1).max(LEAST),
            _ => FIRST_PIECE,
        }
    }
}
