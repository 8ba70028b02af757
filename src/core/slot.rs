//! The address of an entry: an index into the slab of nodes.

/// Where an entry lives while it is in a store.
///
/// A slot is valid from the call that returned it until the entry leaves; after that the store
/// may give the same slot to another entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slot(u32);

impl Slot {
    /// The end of a list; no entry ever has it.
    pub(crate) const NIL: Self = Self(u32::MAX);

    /// The largest number of entries that slots can address.
    pub(crate) const LIMIT: usize = u32::MAX as usize;

    #[inline]
    pub(crate) fn new(index: usize) -> Self {
        debug_assert!(index < Self::LIMIT);
        #[expect(clippy::cast_possible_truncation, reason = "the arena refuses to grow past LIMIT")]
        Self(index as u32)
    }

    /// The index as a number, for columns kept beside the store.
    #[inline]
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }

    #[inline]
    pub(crate) fn is_nil(self) -> bool {
        self.0 == u32::MAX
    }

    /// `None` for the end of a list.
    #[inline]
    pub(crate) fn some(self) -> Option<Self> {
        if self.is_nil() { None } else { Some(self) }
    }
}

impl Default for Slot {
    fn default() -> Self {
        Self::NIL
    }
}
