//! The mapped file, as words.

#![expect(unsafe_code, reason = "it maps the file")]

use std::ffi::c_void;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::AtomicU64;

use crate::lost_file::{Heads, Range};
use crate::system::{map, unmap};

/// A file's bytes in memory, shared with all processes that map it. The mapping ends when this is dropped, unless the
/// file's pages were lost (`lost_file.rs`).
pub(crate) struct Mapping {
    start: NonNull<AtomicU64>,
    words: usize,
    range: &'static Range,
}

// SAFETY: the memory is only reached as atomic words, and through locks that processes share.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the first `words` words of a file. The file must be that long.
    pub(crate) fn new(file: &File, words: usize) -> io::Result<Self> {
        let bytes = words.checked_mul(8).filter(|&bytes| bytes > 0).ok_or(ErrorKind::InvalidInput)?;
        let start = NonNull::new(map(file, bytes)?.cast::<AtomicU64>()).ok_or(ErrorKind::InvalidData)?;
        match Range::watch(start.as_ptr(), bytes) {
            Ok(range) => Ok(Self { start, words, range }),
            Err(error) => {
                // SAFETY: nobody else knows the mapping.
                unsafe { unmap(start.as_ptr().cast::<c_void>(), bytes) };
                Err(error)
            }
        }
    }

    /// Says where the heads of the stripes are. None may be used before.
    pub(crate) fn set_heads(&self, heads: Heads) {
        self.range.set_heads(heads);
    }

    /// Whether the file's pages were lost: see [`Range::is_lost`].
    #[inline(always)]
    pub(crate) fn is_lost(&self) -> bool {
        self.range.is_lost()
    }

    /// All words.
    #[inline(always)]
    pub(crate) fn words(&self) -> &[AtomicU64] {
        // SAFETY: `words` words are mapped from `start`, which is aligned to a page, as long as `self` lives. Others
        // change them at any time, which atomic words allow.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.words) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if !self.range.unwatch() {
            return;
        }
        // SAFETY: our own mapping; no reference into it outlives `self`.
        unsafe { unmap(self.start.as_ptr().cast::<c_void>(), self.words * 8) };
    }
}
