//! A mapping does not lose its file's pages: the system lets nobody truncate or remove a file that is mapped. If the disk itself
//! fails or is taken away, an access ends the process.

use std::io;
use std::sync::atomic::AtomicU64;

/// Where the heads of the stripes are.
#[derive(Clone, Copy, Debug)]
#[expect(dead_code, reason = "only the handler of other systems reads them")]
pub(crate) struct Heads {
    /// The first word of the first one.
    pub(crate) first: usize,
    /// The words from one to the next.
    pub(crate) apart: usize,
    pub(crate) count: usize,
}

/// A mapped range of addresses.
pub(crate) struct Range;

#[expect(clippy::unused_self, reason = "other systems watch it")]
impl Range {
    #[expect(clippy::unnecessary_wraps, reason = "other systems may fail")]
    pub(crate) fn watch(_start: *const AtomicU64, _bytes: usize) -> io::Result<&'static Self> {
        Ok(&Self)
    }

    pub(crate) fn set_heads(&self, _heads: Heads) {}

    /// Always false.
    #[inline(always)]
    pub(crate) fn is_lost(&self) -> bool {
        false
    }

    /// Whether the mapping may end.
    pub(crate) fn unwatch(&self) -> bool {
        true
    }
}
