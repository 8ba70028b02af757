//! A stripe: its head, its index, its two logs, and what both readers and writers ask of them.
//!
//! # Memory order
//!
//! A *place* in a log is a number that only grows: the lap, and the word within it. The record at place `v` is intact as
//! long as `tail <= v`. R reads a record at place `v`; W is any later writer that uses its words again.
//!
//! (a) *Complete.* A record's words are stored (relaxed) before its slot (release). R loads the slot (acquire), so it sees
//! them all.
//!
//! (b) *Intact.* W, or a writer before it under the same mutex, has stored a tail greater than `v`. After that, and before the
//! first word that it stores in the log, be it of a record, of a copy or of a pad, W executes a release fence
//! ([`Held::reserve`](crate::hold::Held::reserve)). If any load of R saw a word of W's, then R's acquire fence, which follows
//! its loads, synchronizes with that fence, and R's load of the tail after it sees more than `v`. So if R then finds
//! `tail <= v`, no word was W's.
//!
//! (c) *Not missed.* A record that moves is published in its slot before the tail passes the old copy. R loads the tail
//! (acquire); if it has passed `v`, R loads the slot again and sees the new place. A key keeps its slot while it lives.
//!
//! (d) *Hints.* That an entry was used is noted by a compare-and-swap from exactly the word that R saw. If anything changed,
//! it fails. Places never repeat.
//!
//! (e) *In place.* An integer, a deadline and the words of a lease are one word each and change under the mutex, so never in a copy
//! that has been moved away from. A reader of the record sees the old word or the new one. For a reader of an older record, which
//! had the word before, it is a word of W's as in (b): W executes a release fence after it has acquired the mutex
//! ([`Held::new`](crate::hold::Held::new)).
//!
//! (f) *Version words.* A writer makes a key's version word odd, executes a release fence, publishes, and makes the word even
//! (release). A copy in another cache is kept only if the word was even and the same before the value was read
//! (acquire) and after it (acquire fence, then a load). If the value was a new one, the second load sees the odd word or a later one.
//! If the word was already the later even one, the value was not an old one. So a copy that is kept under an even word is
//! what was stored when the word was that.
//!
//! (g) *Tags.* An eviction of a tag makes the generation odd, moves the tag's version (a read-modify-write with
//! release), and makes the generation even (release), all under the mutex of the first stripe. A copy is kept under an even
//! generation that was loaded (acquire) before the entry was looked at: if that is from before the eviction, the copy ends with it; if it is from
//! after it, the look at the entry sees that the tag has moved. A writer takes the tag's version, loads the generation before it
//! stores, and looks at the tag again after it gave up the mutex: the same holds for its copy. A death in between leaves the generation
//! odd, so no copy is served or made until the next one to have that mutex makes it even.
//!
//! (h) *Dead marks.* A writer that has published a record in place of another, or has emptied its slot, sets a bit in the first word of
//! the other, which its tail has not passed. Only writers look at that bit, so a reader sees the same record with and without it, and
//! for readers of older records it is a change in place as in (e). Without the mark, which a death in between may prevent, the next
//! writer finds out by the slots that nothing names the record.
//!
//! A reader first looks for a slot with the key's tag (relaxed), and then loads that slot again (acquire). A key keeps its slot while it
//! lives, so if no slot has the tag, or another tag is there by then, the key was absent at a moment of the call.
//!
//! `tests/memory_order.rs` has (a) to (c), (e) to (g) as models under loom, and each rule left out as a control that must fail.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed};

use crate::layout::{Geometry, PLACE, TAG_SHIFT, WAYS, head, named, tag_of};
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

/// Where the parts of every stripe lie: what follows from a geometry, computed once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parts {
    first: usize,
    size: usize,
    /// The version words of each.
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

    /// Makes a stripe of zeros. Nobody else may know it yet.
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

    /// The word of a log that a place is. It may lie beyond the log's end where a slot is damaged.
    #[inline(always)]
    pub(crate) fn offset(&self, log: usize, place: u64) -> usize {
        (place & self.laps[log].wrapping_sub(1)) as usize
    }

    /// The first place of the lap after that of `place`.
    #[inline(always)]
    pub(crate) fn next_lap(&self, log: usize, place: u64) -> u64 {
        (place | self.laps[log].wrapping_sub(1)).wrapping_add(1)
    }

    /// The places of a lap, of which the log has fewer words.
    #[inline(always)]
    pub(crate) fn lap_size(&self, log: usize) -> u64 {
        self.laps[log]
    }

    /// The words of a log from a place to the log's end.
    #[inline(always)]
    pub(crate) fn from(&self, log: usize, place: u64) -> Option<&'a [AtomicU64]> {
        self.logs[log].get(self.offset(log, place)..)
    }

    /// The log's tail, so that what is loaded afterwards is at least as new.
    #[inline(always)]
    pub(crate) fn tail(&self, log: usize) -> u64 {
        self.head[head::TAIL + log].load(Acquire)
    }

    /// A word of the head which only the holder of the lock changes, as a number of places.
    #[inline(always)]
    pub(crate) fn place(&self, word: usize) -> u64 {
        self.head[word].load(Relaxed)
    }

    /// Both buckets of a hash, of which only the lower half counts: a record has no more of it.
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

    /// Asks for the slots in which a key with this hash is first looked for.
    #[inline(always)]
    pub(crate) fn prefetch(&self, hash: u64) {
        if let Some([slot, ..]) = self.index.get(self.buckets(hash)[0]) {
            prefetch(slot);
        }
    }

    /// The number of the first slot that a key with this hash may have: one with its tag. Whoever does not hold the lock loads the
    /// slot again.
    ///
    /// What is then done with the slot is not in the loop, so that the compiler unrolls it.
    #[inline(always)]
    pub(crate) fn candidate(&self, hash: u64) -> Option<usize> {
        let tag = tag_of(hash);
        let [first, second] = self.buckets(hash);
        match first_with(self.index.get(first)?, tag) {
            Some(at) => Some(first * WAYS + at),
            None => first_with(self.index.get(second)?, tag).map(|at| second * WAYS + at),
        }
    }

    /// The next one after a slot that another key had, or nothing any more.
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

/// Whether a slot names a place at all, be it behind the tail.
#[inline(always)]
pub(crate) fn is_used(word: u64) -> bool {
    word & PLACE != 0
}
