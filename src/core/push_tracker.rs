//! Which copies of a store's entries may still be served, where the store pushes the keys that were written.
//!
//! A [`Tracker`](crate::Tracker) is for a store whose writes this process makes or sees. A [`PushTracker`] is
//! for a server, and differs in two ways. The server pushes every write of every client; so the tracker has
//! many more stripes, or writes to other keys would invalidate most copies. And a server can fall silent; so
//! copies are served only until a moment, which each answer of the server postpones.
//!
//! # Order
//!
//! A reader takes the stamp before it sends its command. A write that the read did not see is executed after
//! the read, and its push comes later still. So the push invalidates the copy, whether or not the copy is in
//! memory by then. A writer invalidates its keys before it sends a write and after, and keeps no copy: only
//! the server knows the order of its write among others.
//!
//! While one thread of the process writes a key, another may read the new value; it must not find an older
//! copy later, because the push has not come yet. So a read gets no stamp between
//! [`begin_write`](PushTracker::begin_write) and [`end_write`](PushTracker::end_write). The stripe's word holds both its
//! epoch and the number of writes in flight, as in a [`Tracker`](crate::Tracker) (`write_epoch.rs`).
//!
//! While the server pushes nothing, for lack of a connection, stamps mean nothing.
//! [`doubt`](PushTracker::doubt) invalidates all copies when the pushes stop. The owner starts another
//! generation when they have started again, so no stamp from in between is live.
//!
//! A program may still want the last value that was known, while the server cannot be reached: see
//! [`is_last_known`](PushTracker::is_last_known).
//!
//! # Memory
//!
//! A hit reads the word of its key's stripe. In a table by stripe, almost every key in use would need a cache line and a
//! page of its own. So a stripe gets its word when it is first used. The words of keys that are first read one after
//! another are then beside each other.
//!
//! # Staleness
//!
//! One connection brings pushes and answers in order. So the answer to a command that was sent at time T
//! shows that the push of every write before T has arrived, and copies may be served until T plus the allowed
//! staleness.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::clock::{Clock, Nanos};
use crate::tracker::Stamp;
use crate::write_epoch::{EPOCH_BITS, Snapshot, WriteEpoch, WriteEpochs};

const STRIPE_BITS: u32 = 20;

const fn low(bits: u32) -> u64 {
    (1 << bits) - 1
}

/// Decides whether a copy may still be served.
#[derive(Debug)]
pub struct PushTracker {
    generation: AtomicU64,
    /// Generations after this one started only because the pushes stopped.
    known_since: AtomicU64,
    /// Copies are served before this moment; 0 while there are no pushes.
    valid_until: AtomicU64,
    /// For each stripe, which of the words it has, counted from 1; 0 until it is first used. It then stays.
    places: Box<[AtomicU32]>,
    words: WriteEpochs,
    /// How many words were given to stripes.
    given: AtomicU32,
}

impl PushTracker {
    /// A tracker for about `copies` copies. None is served until [`believe_until`](Self::believe_until) is
    /// called.
    ///
    /// It takes 192 bytes for each copy, at most 12 MiB. Then a write to another key invalidates at most one
    /// copy of a thousand.
    #[must_use]
    pub fn new(copies: usize) -> Self {
        let stripes = copies.saturating_mul(16).clamp(1 << 12, 1 << STRIPE_BITS).next_power_of_two();
        Self {
            generation: AtomicU64::new(1),
            known_since: AtomicU64::new(1),
            valid_until: AtomicU64::new(0),
            places: (0..stripes).map(|_| AtomicU32::new(0)).collect(),
            words: WriteEpochs::new(stripes),
            given: AtomicU32::new(0),
        }
    }

    /// The index of the word of a key's stripe.
    fn word_of(&self, key: &[u8]) -> usize {
        let place = &self.places[self.stripe_of(key)];
        let found = match place.load(Ordering::Relaxed) {
            0 => {
                // Threads that do this at the same time for one stripe agree on the word of the first. Those of the
                // others stay unused, and in the end some stripes may have to share a word, as keys share a stripe.
                let next = self.given.fetch_add(1, Ordering::Relaxed) % self.most_words() + 1;
                match place.compare_exchange(0, next, Ordering::Relaxed, Ordering::Relaxed) {
                    Ok(_) => next,
                    Err(found) => found,
                }
            }
            found => found,
        };
        found as usize - 1
    }

    #[expect(clippy::cast_possible_truncation, reason = "it is at most 1 << STRIPE_BITS")]
    fn most_words(&self) -> u32 {
        self.words.len() as u32
    }

    #[expect(clippy::cast_possible_truncation, reason = "the low bits are what is wanted")]
    fn stripe_of(&self, key: &[u8]) -> usize {
        // FNV-1a. Keys that collide invalidate copies too early, and never too late.
        let mix = |hash: u64, &byte: &u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        let hash = key.iter().fold(0xcbf2_9ce4_8422_2325, mix);
        (hash ^ hash >> 32) as usize & (self.places.len() - 1)
    }

    /// The stamp for a value that is read of a key after this call; [`Stamp::NONE`] while this process writes
    /// the key.
    #[must_use]
    pub fn stamp(&self, key: &[u8]) -> Stamp {
        let at = self.word_of(key);
        let generation = self.generation.load(Ordering::Acquire);
        let word = self.words[at].load();
        if word.is_written() {
            return Stamp::NONE;
        }
        Stamp::from_bits(generation << (EPOCH_BITS + STRIPE_BITS) | word.epoch() << STRIPE_BITS | at as u64)
    }

    /// Whether no write to the key is known since the stamp was taken, and the pushes have not stopped since
    /// then.
    #[inline]
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "a few bits")]
    pub fn is_unchanged(&self, stamp: Stamp) -> bool {
        let bits = stamp.bits();
        let Some(word) = self.words.get((bits & low(STRIPE_BITS)) as usize) else { return false };
        let now = self.generation.load(Ordering::Acquire) << EPOCH_BITS | word.load().epoch();
        now & low(64 - STRIPE_BITS) == bits >> STRIPE_BITS && stamp != Stamp::NONE
    }

    /// Whether no write to the key is known since the stamp was taken. Unlike
    /// [`is_unchanged`](Self::is_unchanged), this stays true after the pushes have stopped, until they start
    /// again.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "a few bits")]
    pub fn is_last_known(&self, stamp: Stamp) -> bool {
        let bits = stamp.bits();
        let Some(word) = self.words.get((bits & low(STRIPE_BITS)) as usize) else { return false };
        let now = self.generation.load(Ordering::Acquire);
        // The stamp has only the low bits of its generation, so they are compared as an age.
        let age = now.wrapping_sub(bits >> (EPOCH_BITS + STRIPE_BITS)) & low(64 - EPOCH_BITS - STRIPE_BITS);
        let epoch = word.load().epoch();
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

    /// A key was written: invalidates its copies.
    pub fn invalidate(&self, key: &[u8]) {
        self.change(key, WriteEpoch::advance);
    }

    /// This process is about to write a key. Each call needs one call of [`end_write`](Self::end_write),
    /// whether or not the write succeeds.
    pub fn begin_write(&self, key: &[u8]) {
        self.change(key, WriteEpoch::begin_write);
    }

    /// The write of a key has ended, or its outcome will stay unknown.
    pub fn end_write(&self, key: &[u8]) {
        self.change(key, WriteEpoch::end_write);
    }

    fn change(&self, key: &[u8], change: fn(&WriteEpoch) -> Snapshot) {
        if change(&self.words[self.word_of(key)]).needs_generation(EPOCH_BITS) {
            self.start_generation();
        }
    }

    /// Any number of keys may have been written: invalidates all copies.
    pub fn start_generation(&self) {
        let before = self.generation.fetch_add(1, Ordering::AcqRel);
        self.known_since.fetch_max(before + 1, Ordering::AcqRel);
    }

    /// Every write so far is known: copies may be served until `moment`.
    pub fn believe_until(&self, moment: Nanos) {
        self.valid_until.store(moment, Ordering::Release);
    }

    /// In a forked child: the threads whose writes were in flight do not exist here. No other thread uses the tracker.
    pub fn forget_writes(&self) {
        self.words.forget_writes();
        self.start_generation();
    }

    /// The number of times that the writes in flight were forgotten. A write that was in flight then is ended by
    /// [`invalidate`](Self::invalidate) instead of [`end_write`](Self::end_write).
    #[must_use]
    pub fn forgotten(&self) -> u32 {
        self.words.forgotten()
    }

    /// Writes from now on will not be known. No existing copy is served again.
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
    fn a_child_does_not_wait_for_writes_of_its_parent() {
        let (tracker, clock) = believing();
        let live = tracker.stamp(b"other");
        tracker.begin_write(b"one");
        tracker.forget_writes();
        assert!(tracker.is_live(tracker.stamp(b"one"), &clock) && !tracker.is_live(live, &clock));
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
            assert_eq!(tracker.stamp(b"one"), Stamp::NONE);
        }
        assert!(!tracker.is_live(before, &clock));
        for _ in 0..999 {
            tracker.end_write(b"one");
            tracker.invalidate(b"one");
            assert_eq!(tracker.stamp(b"one"), Stamp::NONE, "one writes it still");
        }
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

    /// Of keys that are read one after another, the words that a hit looks at are beside each other.
    #[test]
    fn the_words_of_the_keys_in_use_are_dense() {
        let tracker = PushTracker::new(1 << 16);
        let word = |key: u32| tracker.stamp(format!("shop:{{{key}}}").as_bytes()).bits() & low(STRIPE_BITS);
        let words: Vec<_> = (0..1000).map(word).collect();
        assert!(words.iter().all(|&at| at < 1000), "{words:?}");
        assert!(words.windows(2).filter(|pair| pair[1] == pair[0] + 1).count() > 990, "{words:?}");
        assert_eq!(words, (0..1000).map(word).collect::<Vec<_>>(), "a key keeps its word");
    }

    /// Stripes that find no word left share one, which ends copies too early and never too late.
    #[test]
    fn more_keys_than_words_find_one() {
        let (tracker, clock) = (PushTracker::new(1), ManualClock::default());
        tracker.believe_until(100);
        tracker.given.store(u32::MAX - 10, Ordering::Relaxed);
        let keys: Vec<_> = (0..20_000_u32).map(u32::to_le_bytes).collect();
        let stamps: Vec<_> = keys.iter().map(|key| tracker.stamp(key)).collect();
        assert!(stamps.iter().all(|&stamp| tracker.is_live(stamp, &clock)));
        for (key, stamp) in keys.iter().zip(stamps) {
            tracker.invalidate(key);
            assert!(!tracker.is_live(stamp, &clock));
        }
    }

    #[test]
    fn threads_that_use_a_key_first_at_the_same_time_agree() {
        for round in 0..100_u32 {
            let (tracker, key) = (PushTracker::new(1), round.to_le_bytes());
            let start = std::sync::Barrier::new(4);
            let stamp = || {
                start.wait();
                tracker.stamp(&key)
            };
            let stamps = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..4).map(|_| scope.spawn(stamp)).collect();
                threads.into_iter().map(|thread| thread.join().expect("no panic")).collect::<Vec<_>>()
            });
            assert!(stamps.iter().all(|&stamp| stamp == tracker.stamp(&key)), "{stamps:?}");
            tracker.invalidate(&key);
            assert!(stamps.iter().all(|&stamp| !tracker.is_unchanged(stamp)));
        }
    }

    #[test]
    fn keys_are_divided_evenly() {
        let tracker = PushTracker::new(1 << 16);
        let stripes: std::collections::HashSet<_> =
            (0..10_000).map(|key| tracker.stripe_of(format!("shop:{{{key}}}").as_bytes())).collect();
        assert!(stripes.len() > 9_900, "{}", stripes.len());
    }
}
