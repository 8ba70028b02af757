//! Which copies of a store's entries may still be served, where the store pushes what was written.
//!
//! A [`PushTracker`] does for a server what [`Tracker`](crate::Tracker) does for a store whose writes this process
//! makes or sees. It differs in two ways. Every write of every client is pushed, so it has many more stripes, or writes to
//! other keys would end most copies. And a server can fall silent, so a copy is served only until a moment that the
//! last answer of the server moves on.
//!
//! # Order
//!
//! A reader takes the stamp before it sends its command. A write that the read did not see is executed after the read,
//! and its push comes later still. So the push ends the copy, whether the copy is in memory by then or not. A writer
//! invalidates its keys before it sends a write and after, and keeps no copy: only the server knows the order of its
//! write among others.
//!
//! A thread that has read what another thread of the process is writing must not meet an older copy later, whose push is
//! still on its way. So what is read of a key between [`begin_write`](PushTracker::begin_write) and
//! [`end_write`](PushTracker::end_write) has no stamp. Each is one addition to the word that a reader loads once, so a reader
//! that sees the epoch of a write sees that it is in flight.
//!
//! While no pushes come, stamps mean nothing. [`doubt`](PushTracker::doubt) ends all copies when the pushes stop, and
//! another generation begins when they have started again, so no stamp from in between is live.
//!
//! What was read before the pushes stopped may be wanted all the same, where nothing better can be had: see
//! [`is_last_known`](PushTracker::is_last_known).
//!
//! One connection brings pushes and answers in order. So the answer to a question that was sent at T shows that the
//! push of every write before T has come, and copies may be served until T and the staleness that is allowed.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::clock::{Clock, Nanos};
use crate::tracker::Stamp;

const STRIPE_BITS: u32 = 20;
const EPOCH_BITS: u32 = 24;

/// The word of a stripe: its epoch above, and how many writes of this process are in flight below. Where more are than fit,
/// the word still comes out right when they have ended.
const WRITES_BITS: u32 = 32 - EPOCH_BITS;
const EPOCH: u32 = 1 << WRITES_BITS;

/// An epoch that has advanced this far starts a generation, long before its bits in a stamp repeat.
const LONG_EPOCH: u32 = 1 << (EPOCH_BITS - 2);

const fn low(bits: u32) -> u64 {
    (1 << bits) - 1
}

/// Decides whether a copy may still be served.
#[derive(Debug)]
pub struct PushTracker {
    generation: AtomicU64,
    /// The generation since which others have begun only because the pushes stopped.
    known_since: AtomicU64,
    /// Copies are served before this moment; 0 while nothing is known.
    valid_until: AtomicU64,
    stripes: Box<[AtomicU32]>,
}

impl PushTracker {
    /// A tracker for about so many copies. It serves none until [`believe_until`](Self::believe_until).
    ///
    /// It takes 64 bytes for each copy, at most 4 MiB: then a write to another key ends one copy of a thousand at most.
    #[must_use]
    pub fn new(copies: usize) -> Self {
        let stripes = copies.saturating_mul(16).clamp(1 << 12, 1 << STRIPE_BITS).next_power_of_two();
        Self {
            generation: AtomicU64::new(1),
            known_since: AtomicU64::new(1),
            valid_until: AtomicU64::new(0),
            stripes: (0..stripes).map(|_| AtomicU32::new(0)).collect(),
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "the low bits are what is wanted")]
    fn stripe_of(&self, key: &[u8]) -> usize {
        // FNV-1a. Keys that collide invalidate copies too early, and never too late.
        let mix = |hash: u64, &byte: &u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        let hash = key.iter().fold(0xcbf2_9ce4_8422_2325, mix);
        (hash ^ hash >> 32) as usize & (self.stripes.len() - 1)
    }

    /// The stamp of what is read of a key after this: none while this process writes the key.
    #[must_use]
    pub fn stamp(&self, key: &[u8]) -> Stamp {
        let stripe = self.stripe_of(key);
        let generation = self.generation.load(Ordering::Acquire);
        let word = self.stripes[stripe].load(Ordering::Acquire);
        if !word.is_multiple_of(EPOCH) {
            return Stamp::NONE;
        }
        let epoch = u64::from(word / EPOCH);
        Stamp::from_bits(generation << (EPOCH_BITS + STRIPE_BITS) | epoch << STRIPE_BITS | stripe as u64)
    }

    /// Whether nothing was written since the stamp was taken, as far as is known.
    #[inline]
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "a few bits")]
    pub fn is_unchanged(&self, stamp: Stamp) -> bool {
        let bits = stamp.bits();
        let Some(word) = self.stripes.get((bits & low(STRIPE_BITS)) as usize) else { return false };
        let now = self.generation.load(Ordering::Acquire) << EPOCH_BITS
            | u64::from(word.load(Ordering::Acquire) / EPOCH);
        now & low(64 - STRIPE_BITS) == bits >> STRIPE_BITS && stamp != Stamp::NONE
    }

    /// Whether nothing was heard of that was written since the stamp was taken. Unlike
    /// [`is_unchanged`](Self::is_unchanged), it is true also after the pushes have stopped, until they start again.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "a few bits")]
    pub fn is_last_known(&self, stamp: Stamp) -> bool {
        let bits = stamp.bits();
        let Some(word) = self.stripes.get((bits & low(STRIPE_BITS)) as usize) else { return false };
        let now = self.generation.load(Ordering::Acquire);
        // The stamp has the low bits of its generation.
        let age = now.wrapping_sub(bits >> (EPOCH_BITS + STRIPE_BITS)) & low(64 - EPOCH_BITS - STRIPE_BITS);
        let epoch = u64::from(word.load(Ordering::Acquire) / EPOCH);
        now.wrapping_sub(age) >= self.known_since.load(Ordering::Acquire)
            && bits >> STRIPE_BITS & low(EPOCH_BITS) == epoch
            && stamp != Stamp::NONE
    }

    /// Whether a copy with this stamp may be served.
    #[inline]
    #[must_use]
    pub fn is_live(&self, stamp: Stamp, clock: &impl Clock) -> bool {
        self.is_unchanged(stamp) && self.is_believed(clock)
    }

    /// Whether copies may be served at all.
    #[inline]
    #[must_use]
    pub fn is_believed(&self, clock: &impl Clock) -> bool {
        !clock.reached(self.valid_until.load(Ordering::Acquire))
    }

    /// Something was written to a key.
    pub fn invalidate(&self, key: &[u8]) {
        self.advance(key, EPOCH);
    }

    /// This process writes a key. Call [`end_write`](Self::end_write) as often, whatever comes of it.
    pub fn begin_write(&self, key: &[u8]) {
        self.advance(key, EPOCH + 1);
    }

    /// The write of a key has ended, or what comes of it is unknown.
    pub fn end_write(&self, key: &[u8]) {
        self.advance(key, EPOCH - 1);
    }

    fn advance(&self, key: &[u8], by: u32) {
        let word = self.stripes[self.stripe_of(key)].fetch_add(by, Ordering::AcqRel).wrapping_add(by);
        if (word / EPOCH).is_multiple_of(LONG_EPOCH) {
            self.start_generation();
        }
    }

    /// Something was written to any number of keys.
    pub fn start_generation(&self) {
        let before = self.generation.fetch_add(1, Ordering::AcqRel);
        self.known_since.fetch_max(before + 1, Ordering::AcqRel);
    }

    /// Everything written before now is known, and copies may be served until a moment.
    pub fn believe_until(&self, moment: Nanos) {
        self.valid_until.store(moment, Ordering::Release);
    }

    /// What is written from now on is not known. No copy of before is served again.
    pub fn doubt(&self) {
        self.valid_until.store(0, Ordering::Release);
        self.generation.fetch_add(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    fn believing() -> (PushTracker, ManualClock) {
        let tracker = PushTracker::new(1000);
        tracker.believe_until(100);
        (tracker, ManualClock::default())
    }

    #[test]
    fn a_write_ends_its_key_alone() {
        let (tracker, clock) = believing();
        let (one, other) = (tracker.stamp(b"one"), tracker.stamp(b"other"));
        tracker.invalidate(b"one");
        assert!(!tracker.is_live(one, &clock) && tracker.is_live(other, &clock));
        assert!(tracker.is_live(tracker.stamp(b"one"), &clock));
    }

    #[test]
    fn what_is_read_during_a_write_is_not_kept() {
        let (tracker, clock) = believing();
        let before = tracker.stamp(b"one");
        for _ in 0..1000 {
            tracker.begin_write(b"one");
        }
        assert!(!tracker.is_live(before, &clock));
        for _ in 0..999 {
            tracker.end_write(b"one");
            tracker.invalidate(b"one");
        }
        assert_eq!(tracker.stamp(b"one"), Stamp::NONE, "one writes it still");
        assert!(tracker.is_live(tracker.stamp(b"other"), &clock));
        tracker.end_write(b"one");
        assert!(tracker.is_live(tracker.stamp(b"one"), &clock));
        assert!(!tracker.is_live(before, &clock));
    }

    #[test]
    fn a_generation_ends_all() {
        let (tracker, clock) = believing();
        let stamp = tracker.stamp(b"key");
        tracker.start_generation();
        assert!(!tracker.is_live(stamp, &clock));
    }

    #[test]
    fn nothing_is_served_without_an_answer_of_the_server() {
        let (tracker, clock) = believing();
        let stamp = tracker.stamp(b"key");
        assert!(tracker.is_live(stamp, &clock) && !tracker.is_live(Stamp::NONE, &clock));
        clock.advance(std::time::Duration::from_nanos(100));
        assert!(!tracker.is_live(stamp, &clock) && tracker.is_unchanged(stamp));
        tracker.believe_until(200);
        assert!(tracker.is_live(stamp, &clock));
        tracker.doubt();
        tracker.believe_until(300);
        assert!(!tracker.is_live(stamp, &clock));
    }

    #[test]
    fn what_was_known_last_is_known_until_pushes_start_again() {
        let (tracker, clock) = believing();
        let (one, other) = (tracker.stamp(b"one"), tracker.stamp(b"other"));
        assert!(tracker.is_last_known(one) && !tracker.is_last_known(Stamp::NONE));
        tracker.invalidate(b"other");
        tracker.doubt();
        // Another attempt to connect has failed.
        tracker.doubt();
        assert!(tracker.is_last_known(one) && !tracker.is_live(one, &clock));
        assert!(!tracker.is_last_known(other));
        let meanwhile = tracker.stamp(b"one");
        tracker.doubt();
        assert!(tracker.is_last_known(meanwhile));
        tracker.start_generation();
        assert!(!tracker.is_last_known(one) && !tracker.is_last_known(meanwhile));
        assert!(tracker.is_last_known(tracker.stamp(b"one")));
    }

    /// The bits of an epoch in a stamp repeat after `1 << EPOCH_BITS` writes. An old stamp must not come back to life.
    #[test]
    fn an_epoch_that_goes_round_revives_nothing() {
        let (tracker, clock) = believing();
        let old = tracker.stamp(b"key");
        for _ in 0..1_u64 << EPOCH_BITS {
            tracker.invalidate(b"key");
        }
        assert!(!tracker.is_live(old, &clock));
    }

    #[test]
    fn keys_are_divided_evenly() {
        let tracker = PushTracker::new(1 << 16);
        let stripes: std::collections::HashSet<_> =
            (0..10_000).map(|key| tracker.stripe_of(format!("shop:{{{key}}}").as_bytes())).collect();
        assert!(stripes.len() > 9_900, "{}", stripes.len());
    }
}
