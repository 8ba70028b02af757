//! Which copies of a store's entries may still be served.
//!
//! A cache in front of a store keeps copies of entries. A [`Tracker`] belongs to the store, and every copy carries a
//! [`Stamp`] that the tracker gave out. Keys are divided among stripes. A write to a key advances the *epoch* of its
//! stripe; an event that may concern any key starts a new *generation*. Neither searches for copies: a copy whose stamp
//! names another epoch or generation is no longer served.
//!
//! # Order
//!
//! A reader takes the stamp before it reads the store. A writer invalidates the stripes of its keys before its commit
//! becomes visible and again after, and takes the stamp of its own copy after that, before another commit can follow.
//! So a stamp is live only while no write to its stripe has been committed, or begun to commit, since the value that it
//! stands for was current. The order in which copies reach memory does not matter.
//!
//! Epoch and generation are read-modify-write atomics. `is_live` reads them with `Acquire`, and `invalidate` and
//! `start_generation` write them with `AcqRel`. Whoever learns of a commit through any synchronization therefore
//! sees the invalidation that came before it.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// The number of stripes into which a tracker divides keys. A write invalidates the copies of all keys of its
/// stripe, so with few stripes a cache that is often written to would find few of its copies live.
pub const STRIPES: usize = 1 << STRIPE_BITS;

/// The number of trackers whose stamps one cache can tell apart.
pub const LANES: usize = 1 << LANE_BITS;

const STRIPE_BITS: u32 = 14;
const LANE_BITS: u32 = 10;
const EPOCH_BITS: u32 = 16;
const GENERATION_BITS: u32 = 64 - EPOCH_BITS - LANE_BITS - STRIPE_BITS;

/// Each time an epoch has advanced this far, a generation starts, long before the epoch's bits in a stamp
/// repeat.
const LONG_EPOCH: u32 = 1 << (EPOCH_BITS - 2);

const fn low(bits: u32) -> u64 {
    (1 << bits) - 1
}

/// When a copy was current: a generation, the epoch of its stripe, the stripe, and the *lane*, which names one of several
/// trackers where a store is divided.
///
/// 0 is the stamp of a copy that is never served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp(u64);

impl Stamp {
    /// The stamp of a copy that is never served.
    pub const NONE: Self = Self(0);

    fn new(generation: u64, epoch: u64, stripe: usize) -> Self {
        Self(
            (generation & low(GENERATION_BITS)) << (64 - GENERATION_BITS)
                | (epoch & low(EPOCH_BITS)) << (LANE_BITS + STRIPE_BITS)
                | stripe as u64 & low(STRIPE_BITS),
        )
    }

    /// The same stamp in another lane.
    #[must_use]
    pub fn in_lane(self, lane: usize) -> Self {
        debug_assert!(lane < LANES, "a store is divided into at most {LANES} parts");
        if self == Self::NONE { self } else { Self(self.0 | (lane as u64 & low(LANE_BITS)) << STRIPE_BITS) }
    }

    /// The stamp that was converted by [`bits`](Self::bits).
    #[inline]
    #[must_use]
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The stamp as a number, for an entry to hold.
    #[inline]
    #[must_use]
    pub fn bits(self) -> u64 {
        self.0
    }

    /// Whether exactly one write to the stripe lies between `earlier` and this stamp.
    #[must_use]
    pub fn is_next_after(self, earlier: Self) -> bool {
        let same_but_epoch = !(low(EPOCH_BITS) << (LANE_BITS + STRIPE_BITS));
        // A write advances the epoch before its commit and after.
        let two_on = (earlier.epoch() + 2) & low(EPOCH_BITS) == self.epoch();
        self.0 & same_but_epoch == earlier.0 & same_but_epoch && two_on && earlier != Self::NONE
    }

    /// The lane of the tracker that gave the stamp out.
    #[inline]
    #[must_use]
    pub fn lane(self) -> usize {
        (self.0 >> STRIPE_BITS & low(LANE_BITS)) as usize
    }

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "a few bits")]
    fn stripe(self) -> usize {
        (self.0 & low(STRIPE_BITS)) as usize
    }

    #[inline]
    fn epoch(self) -> u64 {
        self.0 >> (LANE_BITS + STRIPE_BITS) & low(EPOCH_BITS)
    }

    #[inline]
    fn generation(self) -> u64 {
        self.0 >> (64 - GENERATION_BITS)
    }
}

/// Decides whether a copy may still be served. See the [module](self).
#[derive(Debug)]
pub struct Tracker {
    generation: AtomicU64,
    epochs: Box<[AtomicU32]>,
}

impl Default for Tracker {
    fn default() -> Self {
        Self { generation: AtomicU64::new(1), epochs: (0..STRIPES).map(|_| AtomicU32::new(0)).collect() }
    }
}

impl Tracker {
    /// A tracker without any copies.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The stripe of a key, from any hash of it that is the same for all users of the tracker.
    #[inline]
    #[must_use]
    pub fn stripe_of(hash: u64) -> usize {
        // Hashes of small integers differ in their low bits only, others in all.
        (hash.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (64 - STRIPE_BITS)) as usize
    }

    /// The stamp for values that are read from the store after this call.
    #[inline]
    #[must_use]
    pub fn stamp(&self, stripe: usize) -> Stamp {
        self.stamp_in(0, stripe)
    }

    /// [`stamp`](Self::stamp) for a store that counts generations of its own. `generation` is the store's
    /// count, which only grows.
    #[inline]
    #[must_use]
    pub fn stamp_in(&self, generation: u64, stripe: usize) -> Stamp {
        // Both numbers only grow, so their sum changes as soon as either grows.
        let generation = self.generation.load(Ordering::Acquire).wrapping_add(generation);
        Stamp::new(generation, self.epoch(stripe), stripe)
    }

    /// The stamp of a stripe whose epoch was read earlier, see [`epoch`](Self::epoch).
    #[must_use]
    pub fn stamp_of_epoch(&self, generation: u64, epoch: u64, stripe: usize) -> Stamp {
        let generation = self.generation.load(Ordering::Acquire).wrapping_add(generation);
        Stamp::new(generation, epoch, stripe)
    }

    /// The epoch of a stripe.
    #[must_use]
    pub fn epoch(&self, stripe: usize) -> u64 {
        u64::from(self.epochs[stripe].load(Ordering::Acquire))
    }

    /// Whether a copy with this stamp may be served, for a store that counts generations itself.
    #[inline]
    #[must_use]
    pub fn is_live_in(&self, generation: u64, stamp: Stamp) -> bool {
        let generation = self.generation.load(Ordering::Acquire).wrapping_add(generation);
        generation & low(GENERATION_BITS) == stamp.generation()
            && self.epoch(stamp.stripe()) & low(EPOCH_BITS) == stamp.epoch()
            && stamp != Stamp::NONE
    }

    /// Whether a copy with this stamp may be served.
    #[inline]
    #[must_use]
    pub fn is_live(&self, stamp: Stamp) -> bool {
        self.is_live_in(0, stamp)
    }

    /// Invalidates every copy whose key is in the stripe.
    pub fn invalidate(&self, stripe: usize) {
        // The epoch may overflow: only its low bits are in a stamp, and they repeat much sooner.
        let epoch = self.epochs[stripe].fetch_add(1, Ordering::AcqRel).wrapping_add(1);
        if epoch.is_multiple_of(LONG_EPOCH) {
            self.start_generation();
        }
    }

    /// Invalidates every copy.
    pub fn start_generation(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_holds_its_parts() {
        let stamp = Stamp::new(5, 7, STRIPES - 1).in_lane(LANES - 1);
        let parts = (stamp.generation(), stamp.epoch(), stamp.stripe(), stamp.lane());
        assert_eq!(parts, (5, 7, STRIPES - 1, LANES - 1));
        assert_eq!(Stamp::from_bits(stamp.bits()), stamp);
    }

    #[test]
    fn none_is_never_live() {
        let tracker = Tracker::new();
        assert!(!tracker.is_live(Stamp::NONE));
        tracker.generation.store(low(GENERATION_BITS), Ordering::Release);
        tracker.start_generation();
        // The bits of generation, epoch and stripe are those of NONE.
        assert!(!tracker.is_live(Stamp::NONE) && !tracker.is_live(tracker.stamp(0)));
    }

    #[test]
    fn a_write_ends_its_stripe_alone() {
        let tracker = Tracker::new();
        let (one, other) = (tracker.stamp(3), tracker.stamp(4));
        tracker.invalidate(3);
        assert!(!tracker.is_live(one) && tracker.is_live(other));
        assert!(tracker.is_live(tracker.stamp(3)));
    }

    #[test]
    fn a_generation_ends_all() {
        let tracker = Tracker::new();
        let stamps: Vec<_> = (0..STRIPES).map(|stripe| tracker.stamp(stripe)).collect();
        tracker.start_generation();
        assert!(stamps.iter().all(|&stamp| !tracker.is_live(stamp)));
    }

    /// The bits of an epoch in a stamp repeat after `1 << EPOCH_BITS` writes. An old stamp must not come back to life.
    #[test]
    fn an_epoch_that_goes_round_revives_nothing() {
        let tracker = Tracker::new();
        let old = tracker.stamp(0);
        for _ in 0..1_u64 << EPOCH_BITS {
            tracker.invalidate(0);
        }
        assert_eq!(tracker.stamp(0).epoch(), old.epoch());
        assert!(!tracker.is_live(old));
    }

    #[test]
    fn small_integers_are_divided_evenly() {
        let mut counts = vec![0; STRIPES];
        for hash in 0..100 * STRIPES as u64 {
            counts[Tracker::stripe_of(hash)] += 1;
        }
        assert!(counts.iter().all(|&count| (50..=200).contains(&count)), "{counts:?}");
    }
}
