//! A stripe: its head, its index, its two logs, and the operations that readers and writers share.
//!
//! # Memory order
//!
//! A *place* in a log is a number that only grows: the lap, and the word within it. The record at place `v`
//! is intact as long as `tail <= v`. Below, R is a reader of the record at place `v`, and W is any later
//! writer that reuses its words.
//!
//! (a) *Complete.* A record's words are stored (relaxed) before its slot (release). R loads the slot (acquire), so it sees
//! them all.
//!
//! (b) *Intact.* W, or a writer before it under the same mutex, has stored a tail greater than `v`. After
//! that, and before the first word that W stores in the log (of a record, a copy or a pad), W executes a
//! release fence ([`Held::reserve`](crate::hold::Held::reserve)). If any load of R saw a word of W's, then
//! R's acquire fence, which follows its loads, synchronizes with that fence, and R's load of the tail after
//! it sees more than `v`. So if R then finds `tail <= v`, no word was W's.
//!
//! (c) *Not missed.* When a record moves, its new place is published in its slot before the tail passes the
//! old copy. R loads the tail (acquire); if it has passed `v`, R loads the slot again and sees the new place.
//! A key keeps its slot while it lives.
//!
//! (d) *Hints.* R marks an entry as used by a compare-and-swap from exactly the word that it saw. This fails
//! if anything changed, as places never repeat.
//!
//! (e) *In place.* An integer, a deadline and each part of a lease are one word. They change only under the
//! mutex, so never in the old copy of a record that has moved. A reader of the record sees the old word or the
//! new one. A reader of an older record, which had the word before, sees a word of W's as in (b): W executes a
//! release fence after it has acquired the mutex ([`Held::new`](crate::hold::Held::new)).
//!
//! (f) *Version words.* A writer makes a key's version word odd, executes a release fence, publishes, and
//! makes the word even (release). A copy in another cache is kept only if the word was even and the same
//! before the value was read (acquire) and after it (acquire fence, then a load). If the value was a new one,
//! the second load sees the odd word or a later one. If the word was already the later even one, the value
//! was not an old one. So a copy that is kept under an even word is the value that was stored while the word
//! had that number.
//!
//! (g) *Tags.* An eviction of a tag makes the generation odd, increments the tag's version (a
//! read-modify-write with release), and makes the generation even (release), all under the mutex of the first
//! stripe. A copy is kept under an even generation that was loaded (acquire) before the entry was looked at:
//! if that is from before the eviction, the copy ends with it; if it is from after it, the look at the entry
//! sees that the tag has moved. A writer takes the tag's version, loads the generation before it stores, and
//! checks the tag again after it has released the mutex; so the same holds for its copy. If the evicting
//! process dies in between, the generation stays odd, and no copy is served or made until the next owner of
//! that mutex makes it even.
//!
//! (h) *Dead marks.* A writer that has published a record in place of another, or has emptied its slot, sets
//! a bit in the first word of the other, which its tail has not passed. Only writers use that bit, so a
//! reader sees the same record with and without it. For readers of older records the mark is a change in place
//! as in (e). If the writer dies before it sets the mark, a later writer finds out from the slots that none
//! names the record.
//!
//! A reader first looks for a slot with the key's tag (relaxed), and then loads that slot again (acquire). A
//! key keeps its slot while it lives. So if no slot has the tag, or the slot has another tag by then, the key
//! was absent at some moment of the call.
//!
//! `tests/memory_order.rs` checks models of (a) to (c) and (e) to (g) with loom. It also checks that the model
//! fails if any one rule is left out.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed};

use crate::layout::{Geometry, PLACE, TAG_SHIFT, WAYS, head, named, tag_of};
use crate::lost_file::Heads;
use crate::prefetch::prefetch;
use crate::writers_lock::{Lock, WritersLock};

/// The words of one stripe.
#[derive(Clone, Copy)]
pub(crate) struct Stripe<'a> {
    pub(crate) head: &'a [AtomicU64; head::WORDS],
    /// By bucket.
    pub(crate) index: &'a [[AtomicU64; WAYS]],
    pub(crate) logs: [&'a [AtomicU64]; 2],
    /// The places of a lap, powers of two: the log has fewer words.
    laps: [u64; 2],
}

/// The offsets of the parts of every stripe, which follow from the geometry and are computed once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parts {
    first: usize,
    size: usize,
    /// The number of version words of each stripe.
    pub(crate) versions: usize,
    index: usize,
    logs: [usize; 2],
    laps: [u64; 2],
}

impl Parts {
    pub(crate) fn of(geometry: &Geometry) -> Self {
        Self {
            first: geometry.first_stripe(),
            size: geometry.stripe_words(),
            versions: geometry.versions_each(),
            index: geometry.buckets * WAYS,
            logs: geometry.logs,
            laps: geometry.logs.map(|words| 1 << (usize::BITS - words.leading_zeros())),
        }
    }

    /// Where the heads of the stripes are.
    pub(crate) fn heads(&self, geometry: &Geometry) -> Heads {
        Heads { first: self.first, apart: self.size, count: geometry.stripes }
    }
}

impl<'a> Stripe<'a> {
    /// The stripe with this number. `words` are all words of a segment with this geometry.
    #[inline(always)]
    pub(crate) fn new(words: &'a [AtomicU64], parts: &Parts, number: usize) -> Self {
        let first = parts.first.wrapping_add(number.wrapping_mul(parts.size));
        let (head, rest) = words[first..].split_first_chunk().expect("a stripe is longer than its head");
        let (index, rest) = rest.split_at(parts.index);
        let (probation, rest) = rest.split_at(parts.logs[0]);
        Self { head, index: index.as_chunks().0, logs: [probation, &rest[..parts.logs[1]]], laps: parts.laps }
    }

    /// Initializes a stripe whose words are all zero. No other thread may use it yet.
    pub(crate) fn init(&self) -> Result<(), i32> {
        for log in 0..2 {
            // The first lap is lap 1, so that place 0 never names a record.
            let start = self.laps[log];
            self.head[head::TAIL + log].store(start, Relaxed);
            self.head[head::HEAD + log].store(start, Relaxed);
        }
        self.lock().init()
    }

    #[inline]
    pub(crate) fn lock(&self) -> Lock<'a> {
        Lock::at(&self.head[head::LOCK..head::LOCK + Lock::WORDS])
    }

    /// The index of a place's word in a log. It may be beyond the log's end if a slot is damaged.
    #[inline(always)]
    pub(crate) fn offset(&self, log: usize, place: u64) -> usize {
        (place & self.laps[log].wrapping_sub(1)) as usize
    }

    /// The first place of the lap after that of `place`.
    #[inline(always)]
    pub(crate) fn next_lap(&self, log: usize, place: u64) -> u64 {
        (place | self.laps[log].wrapping_sub(1)).wrapping_add(1)
    }

    /// The number of places of a lap; the log has fewer words.
    #[inline(always)]
    pub(crate) fn lap_size(&self, log: usize) -> u64 {
        self.laps[log]
    }

    /// The words of a log from a place to the log's end.
    #[inline(always)]
    pub(crate) fn from(&self, log: usize, place: u64) -> Option<&'a [AtomicU64]> {
        self.logs[log].get(self.offset(log, place)..)
    }

    /// The log's tail. Later loads see values that are at least as new.
    #[inline(always)]
    pub(crate) fn tail(&self, log: usize) -> u64 {
        self.head[head::TAIL + log].load(Acquire)
    }

    /// A word of the head that is a place, and that only the holder of the lock changes.
    #[inline(always)]
    pub(crate) fn place(&self, word: usize) -> u64 {
        self.head[word].load(Relaxed)
    }

    /// Both buckets of a hash. They depend only on its lower half, which is all that a record has.
    #[inline(always)]
    pub(crate) fn buckets(&self, hash: u64) -> [usize; 2] {
        // There are fewer than 2^32 buckets.
        let bucket = |half: u32| (u64::from(half).wrapping_mul(self.index.len() as u64) >> 32) as usize;
        let half = hash as u32;
        [bucket(half), bucket(half.wrapping_mul(0x9E37_79B9))]
    }

    /// All slots, by their numbers.
    #[inline(always)]
    pub(crate) fn slots(&self) -> &'a [AtomicU64] {
        self.index.as_flattened()
    }

    /// The number of entries, as far as the index has room for them: the word may be damaged.
    pub(crate) fn entries(&self) -> u64 {
        self.head[head::ENTRIES].load(Relaxed).min(self.slots().len() as u64)
    }

    /// Prefetches the slots in which a key with this hash is looked up first.
    #[inline(always)]
    pub(crate) fn prefetch(&self, hash: u64) {
        if let Some([slot, ..]) = self.index.get(self.buckets(hash)[0]) {
            prefetch(slot);
        }
    }

    /// The number of the first slot that a key with this hash may have, which is one with its tag. A caller
    /// that does not hold the lock must load the slot again.
    ///
    /// The loop contains nothing else, so that the compiler unrolls it.
    #[inline(always)]
    pub(crate) fn candidate(&self, hash: u64) -> Option<usize> {
        let tag = tag_of(hash);
        let [first, second] = self.buckets(hash);
        match first_with(self.index.get(first)?, tag) {
            Some(at) => Some(first * WAYS + at),
            None => first_with(self.index.get(second)?, tag).map(|at| second * WAYS + at),
        }
    }

    /// The next such slot, after one that belongs to another key; `None` if there is no other.
    pub(crate) fn next_candidate(&self, hash: u64, slot: usize) -> Option<usize> {
        let tag = tag_of(hash);
        let [first, second] = self.buckets(hash);
        let (bucket, at) = (slot / WAYS, slot % WAYS);
        let rest = &self.index.get(bucket)?[at + 1..];
        if let Some(next) = rest.iter().position(|slot| slot.load(Relaxed) >> TAG_SHIFT == tag) {
            return Some(slot + 1 + next);
        }
        if bucket == second {
            return None;
        }
        debug_assert_eq!(bucket, first);
        first_with(self.index.get(second)?, tag).map(|at| second * WAYS + at)
    }

    /// The number of the slot that names exactly this place.
    pub(crate) fn slot_of(&self, hash: u64, log: usize, place: u64) -> Option<usize> {
        self.buckets(hash).into_iter().find_map(|bucket| {
            let slots = self.index.get(bucket)?.iter();
            let at = slots.map(|slot| named(slot.load(Relaxed))).position(|named| named == (log, place))?;
            Some(bucket * WAYS + at)
        })
    }
}

/// The position of the first slot of a bucket that has a tag.
#[inline(always)]
fn first_with(slots: &[AtomicU64; WAYS], tag: u64) -> Option<usize> {
    slots.iter().position(|slot| slot.load(Relaxed) >> TAG_SHIFT == tag)
}

/// Whether a slot names a place, even one behind the tail.
#[inline(always)]
pub(crate) fn is_used(word: u64) -> bool {
    word & PLACE != 0
}
