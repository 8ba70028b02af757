//! The guard of a stripe's lock, with the operations of a writer on the logs. The rules are at the top of
//! `stripe.rs`.
//!
//! Between lock and unlock there is no allocation, no wait and no system call.

use std::marker::PhantomData;
use std::sync::atomic::Ordering::{Relaxed, Release};
use std::sync::atomic::{AtomicU64, fence};

use crate::clock::Now;
use crate::layout::{LOG_BIT, PLACE, TAG_SHIFT, head};
use crate::process::Process;
use crate::record::{PAD, length_of};
use crate::segment::Segment;
use crate::stall::{self, Point};
use crate::stripe::Stripe;
use crate::writers_lock::{Acquired, WritersLock};

/// Why a call cannot go on in this stripe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The stored data contradict each other.
    Damaged,
    /// Places are about to overflow, or are impossible.
    Exhausted,
    /// The record has more words than allowed. Nothing has changed.
    TooLarge(usize),
}

/// How much a call may still copy. When it is used up, the call evicts entries even if they were used.
pub(crate) struct Budget {
    pub(crate) records: u32,
    pub(crate) words: usize,
}

impl Budget {
    pub(crate) fn new() -> Self {
        Self { records: 64, words: (64 << 10) / 8 }
    }

    /// Takes a record of `words` words off the budget, if there is enough left or it is the first.
    pub(crate) fn take(&mut self, words: usize) -> bool {
        let is_first = self.records == 64;
        if self.records == 0 || (words > self.words && !is_first) {
            return false;
        }
        self.records -= 1;
        self.words = self.words.saturating_sub(words);
        true
    }
}

/// A stripe whose lock this thread holds. If it is dropped before [`Held::finish`], that is by a panic, it
/// empties the stripe.
pub(crate) struct Held<'a> {
    pub(crate) segment: &'a Segment,
    pub(crate) stripe: Stripe<'a>,
    /// Its number.
    number: usize,
    pub(crate) now: Now,
    must_mark: bool,
    is_finished: bool,
    /// Whether waiters for a lease must be woken.
    pub(crate) wakes: bool,
    /// The version word that this call has made odd.
    odd: Option<&'a AtomicU64>,
    /// The words in use of each log, from [`Held::make_room`] on.
    pub(crate) used: [usize; 2],
    /// Not `Send`: a mutex must be released by the thread that acquired it.
    not_send: PhantomData<*const ()>,
}

impl<'a> Held<'a> {
    /// Takes over a mutex that was just acquired. The guard exists before anything is checked or repaired.
    #[inline(always)]
    pub(crate) fn new(
        segment: &'a Segment,
        stripe: Stripe<'a>,
        number: usize,
        acquired: Acquired,
        this: Process,
    ) -> Self {
        let must_mark = acquired == Acquired::OwnerDied;
        let held = Self {
            segment,
            stripe,
            number,
            now: Now::default(),
            must_mark,
            is_finished: false,
            wakes: must_mark,
            odd: None,
            used: [0; 2],
            not_send: PhantomData,
        };
        stripe.head[head::HOLDER].store(this.word(), Relaxed);
        // Between the tails that others have stored and the words of records that are changed in place or marked: a reader
        // may be at older records, which had these words before.
        fence(Release);
        stall::at(Point::Locked);
        held
    }

    /// Empties the stripe if the mutex's last owner died while holding it.
    #[inline(always)]
    pub(crate) fn recover(&mut self) -> Result<(), Fault> {
        if self.must_mark { self.recover_stripe() } else { Ok(()) }
    }

    #[cold]
    fn recover_stripe(&mut self) -> Result<(), Fault> {
        self.reset()?;
        self.stripe.lock().mark_consistent();
        self.must_mark = false;
        Ok(())
    }

    /// Ends the locked section: dropping the guard now only releases the lock. Returns whether waiters must
    /// be woken afterwards, and the version that was written.
    #[inline(always)]
    pub(crate) fn finish(&mut self) -> (bool, Option<u64>) {
        stall::at(Point::BeforeEven);
        let version = self.make_even();
        self.is_finished = true;
        if self.wakes {
            self.stripe.head[head::WAKE].fetch_add(1, Release);
        }
        (self.wakes, version)
    }

    /// Ends the locked section of a retired segment, without any checks.
    pub(crate) fn abort(&mut self) {
        self.is_finished = true;
    }

    /// The number of the stripe.
    pub(crate) fn number(&self) -> usize {
        self.number
    }

    #[inline(always)]
    pub(crate) fn load(&self, word: usize) -> u64 {
        self.stripe.head[word].load(Relaxed)
    }

    /// Adds to a sum or a counter of the head.
    #[inline(always)]
    pub(crate) fn count(&self, word: usize, by: u64) {
        self.stripe.head[word].store(self.load(word).wrapping_add(by), Relaxed);
    }

    #[inline(always)]
    pub(crate) fn uncount(&self, word: usize, by: u64) {
        self.count(word, by.wrapping_neg());
    }

    /// The words in use between tail and head.
    #[inline(always)]
    pub(crate) fn extent(&self, log: usize) -> Result<usize, Fault> {
        let stripe = &self.stripe;
        let (tail, head) = (stripe.place(head::TAIL + log), stripe.place(head::HEAD + log));
        let size = stripe.logs[log].len();
        let (from, to) = (stripe.offset(log, tail), stripe.offset(log, head));
        // If the tail is larger, the difference wraps to a huge number.
        let (apart, lap) = (head.wrapping_sub(tail), stripe.lap_size(log));
        if from >= size || to >= size || apart > lap || head > PLACE {
            return Err(Fault::Damaged);
        }
        // In the next lap, `to` is at most `from`. The places between the end of the log and the next lap are
        // not words.
        let is_same_lap = apart < lap && to >= from;
        Ok(to.wrapping_sub(from).wrapping_add(if is_same_lap { 0 } else { size }))
    }

    /// The words from the head to the end of the lap, if `words` do not fit there.
    #[inline(always)]
    pub(crate) fn pad_before(&self, log: usize, words: usize) -> usize {
        let left = self.stripe.logs[log].len() - self.stripe.offset(log, self.stripe.place(head::HEAD + log));
        if words > left { left } else { 0 }
    }

    /// The place after a record.
    #[inline(always)]
    pub(crate) fn after(&self, log: usize, place: u64, words: usize) -> u64 {
        if self.stripe.offset(log, place) + words >= self.stripe.logs[log].len() {
            self.stripe.next_lap(log, place)
        } else {
            place + words as u64
        }
    }

    /// Whether a record of `words` words fits between head and tail.
    pub(crate) fn fits(&self, log: usize, words: usize) -> Result<bool, Fault> {
        Ok(self.extent(log)? + self.pad_before(log, words) + words <= self.stripe.logs[log].len())
    }

    /// The place at the head for `words` words. Writes a pad first if the lap has too few words left. There
    /// must be room.
    #[inline(always)]
    pub(crate) fn reserve(&mut self, log: usize, words: usize) -> Result<u64, Fault> {
        // This fence is between the store of the tail, even by an earlier writer, and the first word that is
        // overwritten, even by a pad. It pairs with the fence of readers.
        fence(Release);
        let mut place = self.stripe.place(head::HEAD + log);
        let pad = self.pad_before(log, words);
        if pad > 0 {
            let first = self.stripe.from(log, place).and_then(<[_]>::first).ok_or(Fault::Damaged)?;
            first.store(PAD | pad as u64, Relaxed);
            place = self.stripe.next_lap(log, place);
            self.stripe.head[head::HEAD + log].store(place, Release);
            self.used[log] += pad;
        }
        if place > PLACE - (1 << 40) {
            return Err(Fault::Exhausted);
        }
        if self.stripe.offset(log, place) == 0 {
            // A lap begins, so all records of the lap before the last one are gone.
            self.stripe.head[head::LARGEST_BEFORE + log].store(self.load(head::LARGEST + log), Relaxed);
            self.stripe.head[head::LARGEST + log].store(0, Relaxed);
        }
        let largest = self.load(head::LARGEST + log).max(words as u64);
        self.stripe.head[head::LARGEST + log].store(largest, Relaxed);
        Ok(place)
    }

    /// Moves the head past a complete record, and makes a slot name it. The head comes first, so that no slot
    /// names a record outside the log.
    #[inline(always)]
    pub(crate) fn publish(&mut self, log: usize, place: u64, words: usize, slot: usize, tag: u64, used: u64) {
        self.stripe.head[head::HEAD + log].store(self.after(log, place, words), Release);
        self.used[log] += words;
        stall::at(Point::BeforeSlot);
        let word = tag << TAG_SHIFT | (log as u64) << LOG_BIT | used | place;
        self.stripe.slots()[slot].store(word, Release);
        stall::at(Point::BeforeSums);
    }

    /// Moves the tail past the record at the tail.
    #[inline(always)]
    pub(crate) fn pass_tail(&mut self, log: usize, place: u64, words: usize) -> Result<(), Fault> {
        self.pass_to(log, self.after(log, place, words), words)
    }

    /// Moves the tail to a place, past `words` words.
    #[inline(always)]
    pub(crate) fn pass_to(&mut self, log: usize, place: u64, words: usize) -> Result<(), Fault> {
        self.used[log] = self.used[log].checked_sub(words).ok_or(Fault::Damaged)?;
        stall::at(Point::BeforeTail);
        self.stripe.head[head::TAIL + log].store(place, Release);
        stall::at(Point::AfterTail);
        Ok(())
    }

    /// The length of the record or pad at the tail.
    pub(crate) fn length_at(words: &[AtomicU64]) -> Result<(u64, usize), Fault> {
        let meta = words.first().ok_or(Fault::Damaged)?.load(Relaxed);
        let length = length_of(meta);
        if length == 0 || length > words.len() { Err(Fault::Damaged) } else { Ok((meta, length)) }
    }

    /// Makes the version word of a key odd, before the first store that a reader of the key could see.
    #[inline(always)]
    pub(crate) fn make_odd(&mut self, hash: u64) {
        self.make_even();
        let word = self.segment.version_in(self.number, hash);
        word.store(word.load(Relaxed) | 1, Relaxed);
        fence(Release);
        self.odd = Some(word);
        stall::at(Point::VersionOdd);
    }

    /// Makes the version word even again, after the last such store. Returns its new value.
    #[inline(always)]
    pub(crate) fn make_even(&mut self) -> Option<u64> {
        let word = self.odd.take()?;
        let even = next_even(word.load(Relaxed));
        word.store(even, Release);
        Some(even)
    }

    /// Whether no version word is odd on behalf of this call.
    pub(crate) fn is_untouched(&self) -> bool {
        self.odd.is_none()
    }

    /// Removes everything, in an order that is correct for readers, for copies in other caches, and if the
    /// process dies in between.
    pub(crate) fn empty(&mut self, point: Point) -> Result<(), Fault> {
        let stripe = self.stripe;
        let versions = self.segment.versions(self.number);
        self.odd = None;
        for word in versions {
            word.store(word.load(Relaxed) | 1, Relaxed);
        }
        fence(Release);
        let mut starts = [0; 2];
        for (log, start) in starts.iter_mut().enumerate() {
            // From the larger of head and tail, so that this is right even if one of them is damaged.
            let place = stripe.place(head::HEAD + log).max(stripe.place(head::TAIL + log));
            *start = stripe.next_lap(log, place.min(PLACE));
            if *start > PLACE - (1 << 40) {
                return Err(Fault::Exhausted);
            }
        }
        for (log, start) in starts.into_iter().enumerate() {
            stripe.head[head::HEAD + log].store(start, Release);
            stripe.head[head::TAIL + log].store(start, Release);
        }
        self.used = [0; 2];
        stall::at(point);
        fence(Release);
        for slot in stripe.slots() {
            slot.store(0, Relaxed);
        }
        for word in [head::LIVE, head::LIVE + 1, head::ENTRIES, head::LEASES, head::LEASED] {
            stripe.head[word].store(0, Relaxed);
        }
        for log in 0..2 {
            stripe.head[head::LARGEST + log].store(0, Relaxed);
            stripe.head[head::LARGEST_BEFORE + log].store(0, Relaxed);
        }
        for word in versions {
            word.store(next_even(word.load(Relaxed)), Release);
        }
        self.wakes = true;
        Ok(())
    }

    /// Empties a damaged stripe.
    pub(crate) fn reset(&mut self) -> Result<(), Fault> {
        self.count(head::RESETS, 1);
        self.empty(Point::Reset)
    }
}

/// The next even number.
pub(crate) fn next_even(version: u64) -> u64 {
    (version | 1).wrapping_add(1)
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if !self.is_finished {
            // There was a panic, or a fault that could not be repaired. If the mutex is not marked
            // consistent, it becomes unusable, which retires the segment.
            let _ = self.reset();
        }
        self.stripe.head[head::HOLDER].store(0, Relaxed);
        self.stripe.lock().unlock();
    }
}
