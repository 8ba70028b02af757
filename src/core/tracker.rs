//! Which copies of a store's entries may still be served.
//!
//! A cache in front of a store keeps copies of entries. A [`Tracker`] belongs to the store, and every copy carries a
//! [`Stamp`] that the tracker gave out. Keys are divided among stripes. A write to a key advances the *epoch* of its
//! stripe; an event that may concern any key starts a new *generation*. Neither searches for copies: a copy whose stamp
//! names another epoch or generation is no longer served.
//!
//! # Order
//!
//! A reader takes the stamp before it reads the store. A writer begins the write before its commit becomes visible,
//! and ends it after. Both invalidate the stripes of its keys, and in between the stripes give out no stamp: while the
//! commit becomes visible, one thread may read the new value, and must not find an older copy later, which another
//! thread read when the write had begun. So a stamp is live only while no write to its stripe has begun since the
//! stamp was taken, and none was in flight then. The order in which copies reach memory does not matter.
//!
//! A writer keeps a copy of what it wrote only if no other write to the stripe was in flight meanwhile, because it
//! does not know the order of the commits. [`Writing::end`] tells. Where the store itself knows that order,
//! [`Tracker::end_write`] is called before the next commit can begin, and [`Tracker::moment`] right after it.
//!
//! Each stripe has a word that holds both its epoch and the number of writes in flight, and so has the generation. The
//! argument for the order of memory is that of these words (`write_epoch.rs`).

use crate::write_epoch::{self, Snapshot, WriteEpoch, WriteEpochs};

/// The number of stripes into which a tracker divides keys. A write invalidates the copies of all keys of its
/// stripe, so with few stripes a cache that is often written to would find few of its copies live.
pub const STRIPES: usize = 1 << STRIPE_BITS;

/// The number of trackers whose stamps one cache can tell apart.
pub const LANES: usize = 1 << LANE_BITS;

const STRIPE_BITS: u32 = 14;
const LANE_BITS: u32 = 10;
const EPOCH_BITS: u32 = 16;
const GENERATION_BITS: u32 = 64 - EPOCH_BITS - LANE_BITS - STRIPE_BITS;

const _: () = assert!(
    EPOCH_BITS <= write_epoch::EPOCH_BITS && GENERATION_BITS <= write_epoch::EPOCH_BITS,
    "a word holds all bits that a stamp has"
);

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
    /// The epoch of writes that may concern any key.
    generation: WriteEpoch,
    stripes: WriteEpochs,
}

impl Default for Tracker {
    fn default() -> Self {
        Self { generation: WriteEpoch::new(1), stripes: WriteEpochs::new(STRIPES) }
    }
}

/// The generation and the epoch of a stripe, for a stamp to be made of. 0 while a write was in flight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment(u64);

impl Moment {
    fn of(generation: Snapshot, stripe: Snapshot) -> Self {
        if generation.is_written() || stripe.is_written() {
            Self(0)
        } else {
            Self(generation.epoch() << EPOCH_BITS | stripe.epoch() & low(EPOCH_BITS))
        }
    }

    /// The moment that was converted by [`bits`](Self::bits).
    #[must_use]
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The moment as a number.
    #[must_use]
    pub fn bits(self) -> u64 {
        self.0
    }

    /// The stamp of the stripe at this moment. `generation` is the store's own count of generations, or 0.
    #[inline]
    #[must_use]
    pub fn stamp(self, generation: u64, stripe: usize) -> Stamp {
        if self.0 == 0 {
            return Stamp::NONE;
        }
        // Both numbers only grow, so their sum changes as soon as either grows.
        Stamp::new((self.0 >> EPOCH_BITS).wrapping_add(generation), self.0, stripe)
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

    /// The stamp for values that are read from the store after this call; [`Stamp::NONE`] while a write to the stripe
    /// is in flight.
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
        self.moment(stripe).stamp(generation, stripe)
    }

    /// The moment of a stripe, for a writer whose store lets no other write of the stripe begin now.
    #[inline]
    #[must_use]
    pub fn moment(&self, stripe: usize) -> Moment {
        let generation = self.generation.load();
        Moment::of(generation, self.stripes[stripe].load())
    }

    /// Whether a copy with this stamp may be served, for a store that counts generations itself.
    #[inline]
    #[must_use]
    pub fn is_live_in(&self, generation: u64, stamp: Stamp) -> bool {
        let generation = self.generation.load().epoch().wrapping_add(generation);
        let epoch = self.stripes[stamp.stripe()].load().epoch();
        generation & low(GENERATION_BITS) == stamp.generation()
            && epoch & low(EPOCH_BITS) == stamp.epoch()
            && stamp != Stamp::NONE
    }

    /// Whether a copy with this stamp may be served.
    #[inline]
    #[must_use]
    pub fn is_live(&self, stamp: Stamp) -> bool {
        self.is_live_in(0, stamp)
    }

    /// A key of the stripe is about to be written. Each call needs one call of [`end_write`](Self::end_write),
    /// whether or not the write succeeds.
    pub fn begin_write(&self, stripe: usize) {
        self.follow(self.stripes[stripe].begin_write());
    }

    /// The write has ended, or its outcome will stay unknown.
    pub fn end_write(&self, stripe: usize) {
        self.follow(self.stripes[stripe].end_write());
    }

    /// Starts a generation if the word of a stripe needs one after a change. Returns the word.
    fn follow(&self, changed: Snapshot) -> Snapshot {
        if changed.needs_generation(EPOCH_BITS) {
            self.start_generation();
        }
        changed
    }

    /// [`begin_write`](Self::begin_write) for a write that may concern any key.
    pub fn begin_write_of_all(&self) {
        self.generation.begin_write();
    }

    /// [`end_write`](Self::end_write) for a write that may concern any key.
    pub fn end_write_of_all(&self) {
        self.generation.end_write();
    }

    /// A write of a key of the stripe, until it is dropped.
    pub fn write(&self, stripe: usize) -> Writing<'_> {
        let forgotten = self.stripes.forgotten();
        let generation = self.generation.load();
        let begun = self.follow(self.stripes[stripe].begin_write());
        Writing { tracker: self, stripe, generation, begun, forgotten }
    }

    /// A write that may concern any key, until it is dropped.
    pub fn write_all(&self) -> WritingAll<'_> {
        let forgotten = self.stripes.forgotten();
        self.begin_write_of_all();
        WritingAll { tracker: self, forgotten }
    }

    /// Invalidates every copy.
    pub fn start_generation(&self) {
        self.generation.advance();
    }

    /// In a forked child: the threads whose writes were in flight do not exist here. A write of the thread that forked goes
    /// on, and what it leaves is not kept. No other thread uses the tracker.
    pub fn forget_writes(&self) {
        self.stripes.forget_writes();
        self.generation.forget_writes();
        self.start_generation();
    }
}

/// A write of a key in flight, see [`Tracker::write`].
#[derive(Debug)]
#[must_use = "the write ends when this is dropped"]
pub struct Writing<'a> {
    tracker: &'a Tracker,
    stripe: usize,
    /// The word of the generation from just before the write.
    generation: Snapshot,
    /// The word of the stripe from just after the write began.
    begun: Snapshot,
    forgotten: u32,
}

impl Writing<'_> {
    /// Ends the write. Returns the stamp of the value that it left; [`Stamp::NONE`] if another write of the stripe was
    /// in flight meanwhile, so that the order of the two is unknown.
    #[must_use]
    pub fn end(self) -> Stamp {
        let Self { stripe, generation, begun, .. } = self;
        let ended = self.leave();
        std::mem::forget(self);
        match ended {
            Some(ended) if ended.ends_alone(begun) => Moment::of(generation, ended).stamp(0, stripe),
            _ => Stamp::NONE,
        }
    }

    /// Returns the word of the stripe; `None` if the write was forgotten meanwhile.
    fn leave(&self) -> Option<Snapshot> {
        let Self { tracker, stripe, .. } = *self;
        let word = &tracker.stripes[stripe];
        if tracker.stripes.forgotten() == self.forgotten {
            Some(tracker.follow(word.end_write()))
        } else {
            tracker.follow(word.advance());
            None
        }
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}

/// A write of any keys in flight, see [`Tracker::write_all`].
#[derive(Debug)]
#[must_use = "the write ends when this is dropped"]
pub struct WritingAll<'a> {
    tracker: &'a Tracker,
    forgotten: u32,
}

impl Drop for WritingAll<'_> {
    fn drop(&mut self) {
        if self.tracker.stripes.forgotten() == self.forgotten {
            self.tracker.end_write_of_all();
        } else {
            self.tracker.start_generation();
        }
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
        let mut tracker = Tracker::new();
        assert!(!tracker.is_live(Stamp::NONE));
        tracker.generation = WriteEpoch::new(low(GENERATION_BITS));
        tracker.start_generation();
        // The bits of generation, epoch and stripe are those of NONE.
        assert!(!tracker.is_live(Stamp::NONE) && !tracker.is_live(tracker.stamp(0)));
    }

    #[test]
    fn a_write_ends_its_stripe_alone() {
        let tracker = Tracker::new();
        let (one, other) = (tracker.stamp(3), tracker.stamp(4));
        tracker.begin_write(3);
        assert!(!tracker.is_live(one) && tracker.is_live(other));
        tracker.end_write(3);
        assert!(!tracker.is_live(one) && tracker.is_live(other));
        assert!(tracker.is_live(tracker.stamp(3)));
    }

    #[test]
    fn a_stripe_gives_no_stamp_while_it_is_written() {
        let tracker = Tracker::new();
        let (one, other) = (tracker.write(3), tracker.write(3));
        assert_eq!(tracker.stamp(3), Stamp::NONE);
        drop(one);
        assert_eq!(tracker.stamp(3), Stamp::NONE, "the other write is in flight");
        assert!(tracker.is_live(tracker.stamp(4)));
        drop(other);
        assert!(tracker.is_live(tracker.stamp(3)));
        let all = tracker.write_all();
        assert_eq!([3, 4].map(|stripe| tracker.stamp(stripe)), [Stamp::NONE; 2]);
        drop(all);
        assert!(tracker.is_live(tracker.stamp(3)));
    }

    #[test]
    fn however_many_writes_are_in_flight_a_stripe_gives_no_stamp() {
        const WRITES: usize = 5000;
        let tracker = Tracker::new();
        for _ in 0..WRITES {
            tracker.begin_write(3);
            assert_eq!(tracker.stamp(3), Stamp::NONE);
        }
        for _ in 0..WRITES {
            assert_eq!(tracker.stamp(3), Stamp::NONE);
            tracker.end_write(3);
        }
        for _ in 0..WRITES {
            tracker.begin_write_of_all();
            assert_eq!(tracker.stamp(4), Stamp::NONE);
        }
        (0..WRITES).for_each(|_| tracker.end_write_of_all());
        assert!([3, 4].iter().all(|&stripe| tracker.is_live(tracker.stamp(stripe))));
    }

    #[test]
    fn what_a_write_left_is_live_if_the_write_was_alone() {
        let tracker = Tracker::new();
        let before = tracker.stamp(3);
        let after = tracker.write(3).end();
        assert!(tracker.is_live(after) && after.is_next_after(before));

        let (first, second) = (tracker.write(3), tracker.write(3));
        assert_eq!([first.end(), second.end()], [Stamp::NONE; 2]);

        let writing = tracker.write(3);
        drop(tracker.write(3));
        assert_eq!(writing.end(), Stamp::NONE, "the other write was inside");

        let writing = tracker.write(3);
        drop(tracker.write_all());
        assert!(!tracker.is_live(writing.end()));
        let all = tracker.write_all();
        assert_eq!(tracker.write(3).end(), Stamp::NONE);
        let writing = tracker.write(3);
        drop(all);
        assert!(!tracker.is_live(writing.end()));
    }

    #[test]
    fn a_moment_is_that_of_its_write() {
        let tracker = Tracker::new();
        tracker.begin_write(3);
        tracker.end_write(3);
        let moment = tracker.moment(3);
        assert!(tracker.is_live(moment.stamp(0, 3)));
        drop(tracker.write_all());
        assert!(!tracker.is_live(moment.stamp(0, 3)), "everything was written after it");
    }

    #[test]
    fn a_child_does_not_wait_for_writes_of_its_parent() {
        let tracker = Tracker::new();
        let live = tracker.stamp(4);
        // The second two are those of the thread that forks.
        std::mem::forget((tracker.write(3), tracker.write_all()));
        let (writing, all) = (tracker.write(3), tracker.write_all());
        let dropped = tracker.write(3);
        assert_eq!(tracker.stamp(3), Stamp::NONE);
        tracker.forget_writes();
        let meanwhile = tracker.stamp(3);
        assert!(tracker.is_live(meanwhile) && !tracker.is_live(live));
        assert_eq!(writing.end(), Stamp::NONE);
        drop((dropped, all));
        assert!(!tracker.is_live(meanwhile) && tracker.is_live(tracker.stamp(3)));
        let writing = tracker.write(3);
        assert_eq!(tracker.stamp(3), Stamp::NONE);
        drop(writing);
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
            drop(tracker.write(0));
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
