//! The epoch of a part of a store and the number of its writes in flight, in one atomic word.
//!
//! Each write advances the epoch when it begins and when it ends. A stamp has the epoch of the moment at which it was
//! taken, and is live until the epoch advances. While a write is in flight, no stamp is taken. The trackers have a word
//! for each stripe of keys, and one for writes that may concern any key.
//!
//! # Order
//!
//! A write begins before its commit becomes visible, and ends after. Both are one atomic addition, which changes the epoch and
//! the number together, and a reader loads the word once. So a reader that sees the epoch of a write's beginning also
//! sees that the write is in flight, until it sees the epoch of its end.
//!
//! The additions are `AcqRel`, and the loads `Acquire`:
//!
//! * A thread that learns of a commit through any synchronization also sees that the write had begun, because the
//!   addition comes before the commit. So it finds no live copy from before.
//! * A reader that sees the epoch of a write's end reads what the write committed, or something newer, because the end
//!   releases the commit and the load acquires it. Additions that came after the end keep this so: each
//!   of them is part of the same release sequence.
//!
//! `tests/write_epoch.rs` checks this file with loom. It also checks that the models fail without each of these rules.
//!
//! # Size
//!
//! The number of writes has 40 bits. Each write in flight takes memory, for a thread or at least for a key: for 2^40
//! keys, more than 16 TiB. So the number cannot overflow into the epoch, and writes that are in flight cannot pass for none.

use std::ops::Deref;

use crate::atomic::{AtomicU32, AtomicU64, Ordering};

/// The bits of an epoch, in the high bits of a word. A stamp has at most as many.
pub(crate) const EPOCH_BITS: u32 = 24;

/// The number of writes in flight is in the low bits.
const WRITES_BITS: u32 = u64::BITS - EPOCH_BITS;

const EPOCH: u64 = 1 << WRITES_BITS;
const BEGIN: u64 = EPOCH + 1;
const END: u64 = EPOCH - 1;

/// What a word was at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Snapshot(u64);

impl Snapshot {
    /// The epoch. After the largest one comes 0.
    #[inline]
    pub(crate) fn epoch(self) -> u64 {
        self.0 >> WRITES_BITS
    }

    /// Whether a write was in flight, so that no stamp may be taken.
    #[inline]
    pub(crate) fn is_written(self) -> bool {
        !self.0.is_multiple_of(EPOCH)
    }

    /// Whether a write that began with `begun` and ended with this was the only one in flight meanwhile.
    pub(crate) fn ends_alone(self, begun: Self) -> bool {
        self.0 == begun.0.wrapping_add(END) && !self.is_written()
    }

    /// Whether a generation must start, where a stamp has `stamp_bits` of the epoch: whenever the epoch has advanced by
    /// a quarter of what these can tell apart. So they never repeat within a generation.
    pub(crate) fn needs_generation(self, stamp_bits: u32) -> bool {
        self.epoch().is_multiple_of(1 << (stamp_bits - 2))
    }
}

/// A word, see the [module](self). Each change returns what the word is after it.
#[derive(Debug)]
pub(crate) struct WriteEpoch(AtomicU64);

impl WriteEpoch {
    /// A word without writes in flight.
    pub(crate) fn new(epoch: u64) -> Self {
        Self(AtomicU64::new(epoch << WRITES_BITS))
    }

    #[inline]
    pub(crate) fn load(&self) -> Snapshot {
        Snapshot(self.0.load(Ordering::Acquire))
    }

    /// A write is about to be committed. Each call needs one of [`end_write`](Self::end_write).
    pub(crate) fn begin_write(&self) -> Snapshot {
        self.add(BEGIN)
    }

    /// The write has ended.
    pub(crate) fn end_write(&self) -> Snapshot {
        self.add(END)
    }

    /// Advances the epoch alone: something was written, or may have been.
    pub(crate) fn advance(&self) -> Snapshot {
        self.add(EPOCH)
    }

    fn add(&self, by: u64) -> Snapshot {
        // The epoch may overflow: the generations that start meanwhile tell equal epochs apart.
        Snapshot(self.0.fetch_add(by, Ordering::AcqRel).wrapping_add(by))
    }

    /// In a forked child: the writes in flight are those of threads that do not exist here. No other thread uses the
    /// word.
    pub(crate) fn forget_writes(&self) {
        let writes = self.0.load(Ordering::Relaxed) % EPOCH;
        // A page that is not written to stays shared with the parent.
        if writes != 0 {
            self.0.fetch_sub(writes, Ordering::Relaxed);
        }
    }
}

/// The words of a tracker's stripes.
#[derive(Debug)]
pub(crate) struct WriteEpochs {
    words: Box<[WriteEpoch]>,
    forgotten: AtomicU32,
}

impl WriteEpochs {
    pub(crate) fn new(words: usize) -> Self {
        Self { words: (0..words).map(|_| WriteEpoch::new(0)).collect(), forgotten: AtomicU32::new(0) }
    }

    /// The number of times that the writes in flight were forgotten. A write during which it changes ends with
    /// [`WriteEpoch::advance`] instead of [`WriteEpoch::end_write`].
    pub(crate) fn forgotten(&self) -> u32 {
        self.forgotten.load(Ordering::Acquire)
    }

    /// [`WriteEpoch::forget_writes`] of all words. Copies of before are still live: a generation has to start.
    pub(crate) fn forget_writes(&self) {
        self.forgotten.fetch_add(1, Ordering::AcqRel);
        self.words.iter().for_each(WriteEpoch::forget_writes);
    }
}

impl Deref for WriteEpochs {
    type Target = [WriteEpoch];

    #[inline]
    fn deref(&self) -> &[WriteEpoch] {
        &self.words
    }
}
