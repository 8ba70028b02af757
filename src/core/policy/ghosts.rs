//! Ghosts: the hashes of entries that were evicted lately, first in, first out.
//!
//! A table of buckets, each a cache line of sixteen places. A ghost is a fingerprint and the tick at which it came in,
//! in 32 bits. It enters its bucket in front, and the oldest of the bucket leaves at the end, so that both remembering
//! and recalling look at one line. For each tick there is the number of its ghosts that are still remembered, so that it
//! is known which tick is to be forgotten when there are too many. What is forgotten stays in its bucket until it leaves at
//! the end; every few ticks some buckets are swept, so that nothing is there for long enough that its tick comes again.
//!
//! The order is exact but for buckets that overflow: with nine ghosts a bucket on average, one ghost in four hundred leaves
//! too soon. Fingerprints have 20 bits: one key in a hundred thousand is taken for a ghost that it is not. Which one, only
//! the seed decides.

use super::seed::place;
use crate::memory::{OutOfMemory, TryClone, copied, filled};

/// Places of a bucket.
const PLACES: usize = 16;

/// Ghosts for each bucket, on average.
const LOAD: usize = 9;

/// Buckets that a table that is being made gets with each ghost.
const BUCKETS_A_STEP: usize = 64;

/// About so many ticks for as many ghosts as are remembered.
const TICKS: usize = 500;

/// The bits of a tick.
const TICK_BITS: u32 = 12;
const TICK_MASK: u32 = (1 << TICK_BITS) - 1;
const PRINT_MASK: u32 = u32::MAX >> TICK_BITS;

/// Of so many ticks ghosts can be remembered at once. After as many again they are swept away, long before a tick comes
/// again.
const MOST_TICKS: usize = 1 << (TICK_BITS - 1);

/// Buckets are swept at one tick in so many.
const TICKS_A_SWEEP: u32 = 8;

/// So many ghosts may be of one tick.
const MOST_OF_A_TICK: usize = u16::MAX as usize;

/// More are not remembered: ticks would come again too soon.
const LIMIT: usize = MOST_OF_A_TICK * (MOST_TICKS / 2 - 1);

/// A table for so many times as many ghosts as there may be is made anew.
const OUTGROWN: usize = 16;

/// Ghosts, the latest first. A place without one is 0, and behind all others.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Bucket([u32; PLACES]);

impl Bucket {
    const EMPTY: Self = Self([0; PLACES]);

    /// Whether there is a ghost with this fingerprint. All are compared at once.
    #[inline]
    fn has(&self, print: u32) -> bool {
        self.0.iter().fold(0, |found, ghost| found | u32::from(ghost >> TICK_BITS == print)) != 0
    }

    /// Puts a ghost in front, and returns what leaves at the end.
    #[inline]
    fn push(&mut self, ghost: u32) -> u32 {
        let last = self.0[PLACES - 1];
        self.0.copy_within(..PLACES - 1, 1);
        self.0[0] = ghost;
        last
    }

    fn remove(&mut self, at: usize) {
        self.0.copy_within(at + 1.., at);
        self.0[PLACES - 1] = 0;
    }
}

#[derive(Debug)]
pub(super) struct Ghosts {
    /// As many as there are yet; what belongs to others is not remembered.
    buckets: Vec<Bucket>,
    /// As many as there will be.
    planned: usize,
    /// The ghosts that this is for.
    capacity: usize,
    /// Ghosts remembered of each tick from `first` to `now`, in a ring whose length is a power of two.
    of_tick: Box<[u16]>,
    /// So many are remembered at most.
    most: usize,
    len: usize,
    /// The oldest tick of which ghosts are remembered.
    first: u32,
    now: u32,
    /// Ghosts that came in since the clock ticked.
    since_tick: usize,
    /// The bucket that is swept next.
    hand: usize,
}

impl Ghosts {
    /// Remembers at most `most` hashes. Allocates nothing before the first.
    pub(super) fn new(most: usize) -> Self {
        Self {
            buckets: Vec::new(),
            planned: 0,
            capacity: 0,
            of_tick: Box::default(),
            most: most.min(LIMIT),
            len: 0,
            first: 0,
            now: 0,
            since_tick: 0,
            hand: 0,
        }
    }

    /// How many are remembered.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// Another number of hashes. Forgets all where that changes anything.
    pub(super) fn resize(&mut self, most: usize) {
        if most.min(LIMIT) != self.most {
            *self = Self::new(most);
        }
    }

    /// What is kept of a hash; its bucket is chosen by the highest bits, keys are sampled by the lowest.
    #[inline(always)]
    fn print(mixed: u64) -> u32 {
        #[expect(clippy::cast_possible_truncation, reason = "twenty bits are wanted")]
        let bits = (mixed >> 20) as u32;
        (bits & PRINT_MASK).max(1)
    }

    #[inline(always)]
    fn bucket(&mut self, mixed: u64) -> Option<&mut Bucket> {
        self.buckets.get_mut(place(mixed, self.planned))
    }

    /// Ticks from one to another, in a circle.
    #[inline(always)]
    fn since(from: u32, to: u32) -> u32 {
        to.wrapping_sub(from) & TICK_MASK
    }

    /// Whether a place has a ghost that is remembered.
    #[inline(always)]
    fn is_remembered(&self, ghost: u32) -> bool {
        // Whether a place is empty cannot be foreseen, so nothing branches on that: it is older than all ghosts.
        let age = Self::since(ghost, self.now) + (u32::from(ghost == 0) << TICK_BITS);
        age <= Self::since(self.first, self.now)
    }

    #[inline(always)]
    fn count_of(&mut self, tick: u32) -> &mut u16 {
        let at = tick as usize & (self.of_tick.len() - 1);
        &mut self.of_tick[at]
    }

    /// Ghosts between two ticks, where so many are remembered.
    #[inline(always)]
    fn period(most: usize) -> usize {
        most.div_ceil(TICKS).min(MOST_OF_A_TICK)
    }

    /// Allocates an empty table for so many ghosts, which gets its buckets with the ghosts that come in.
    #[cold]
    pub(super) fn try_make(&mut self, capacity: usize) -> Result<(), OutOfMemory> {
        let mut made = Self::new(self.most);
        made.capacity = capacity.clamp(1, self.most.max(1));
        made.planned = made.capacity.div_ceil(LOAD);
        // Twice as many as there are ticks of ghosts, for those of which few are left.
        let ring = (2 * (self.most / Self::period(self.most.max(1)) + 1)).next_power_of_two();
        made.of_tick = filled(0, ring)?;
        made.buckets.try_reserve_exact(made.planned)?;
        *self = made;
        Ok(())
    }

    /// Remembers a hash, and forgets the oldest where there are more than `limit`, or than there is memory
    /// for. O(1), over many calls.
    #[inline]
    pub(super) fn remember(&mut self, mixed: u64, limit: usize) {
        let most = self.most.min(limit);
        if self.buckets.len() < self.planned || !self.fits(most) {
            self.fit(most);
        }
        let now = self.now;
        let Some(bucket) = self.bucket(mixed) else { return };
        let left = bucket.push(Self::print(mixed) << TICK_BITS | now);
        if self.is_remembered(left) {
            *self.count_of(left) -= 1;
            self.len -= 1;
        }
        *self.count_of(now) += 1;
        self.len += 1;
        self.since_tick += 1;
        if self.since_tick >= Self::period(most) {
            self.begin_tick();
        }
        while self.len > most {
            if self.first == self.now {
                self.begin_tick();
            }
            self.forget_first();
        }
    }

    /// Whether the table is neither too small for so many ghosts nor far too large.
    #[inline(always)]
    fn fits(&self, most: usize) -> bool {
        most <= self.capacity && self.capacity / OUTGROWN <= most.max(TICKS)
    }

    /// Makes a table for so many ghosts, or goes on with making it. Without memory there is none.
    #[cold]
    fn fit(&mut self, most: usize) {
        if most > 0 && !self.fits(most) {
            // A limit that grows is met in few steps.
            let capacity = if most > self.capacity && self.capacity > 0 { 2 * most } else { most };
            if self.try_make(capacity).is_err() {
                *self = Self::new(self.most);
            }
        }
        let more = (self.buckets.len() + BUCKETS_A_STEP).min(self.planned);
        self.buckets.resize(more, Bucket::EMPTY);
    }

    fn begin_tick(&mut self) {
        self.since_tick = 0;
        self.now = (self.now + 1) & TICK_MASK;
        if Self::since(self.first, self.now) as usize == self.of_tick.len() {
            self.forget_first();
        }
        if self.now.is_multiple_of(TICKS_A_SWEEP) {
            self.sweep();
        }
    }

    fn forget_first(&mut self) {
        self.len -= usize::from(std::mem::take(self.count_of(self.first)));
        self.first = (self.first + 1) & TICK_MASK;
    }

    /// Empties the places of what is forgotten in some buckets, in all of them in a quarter of the ticks that there are.
    fn sweep(&mut self) {
        let buckets = self.planned.div_ceil(MOST_TICKS / 2 / TICKS_A_SWEEP as usize);
        for _ in 0..buckets {
            self.hand = if self.hand + 1 < self.buckets.len() { self.hand + 1 } else { 0 };
            for place in (0..PLACES).rev() {
                let Some(&Bucket(bucket)) = self.buckets.get(self.hand) else { return };
                if self.is_remembered(bucket[place]) {
                    break;
                }
                self.buckets[self.hand].0[place] = 0;
            }
        }
    }

    /// Whether the hash is remembered; it is forgotten with this. O(1).
    #[inline]
    pub(super) fn recall(&mut self, mixed: u64) -> bool {
        let Some(bucket) = self.bucket(mixed) else { return false };
        bucket.has(Self::print(mixed)) && self.take(mixed)
    }

    /// Takes the latest ghost with a fingerprint that there is out of its bucket. Returns whether it was remembered.
    #[inline(never)]
    fn take(&mut self, mixed: u64) -> bool {
        let print = Self::print(mixed);
        let Some(bucket) = self.bucket(mixed) else { return false };
        let Some(at) = bucket.0.iter().position(|ghost| ghost >> TICK_BITS == print) else { return false };
        let ghost = bucket.0[at];
        bucket.remove(at);
        let is_known = self.is_remembered(ghost);
        if is_known {
            *self.count_of(ghost) -= 1;
            self.len -= 1;
        }
        is_known
    }

    pub(super) fn allocated_bytes(&self) -> usize {
        self.buckets.capacity() * size_of::<Bucket>() + self.of_tick.len() * size_of::<u16>()
    }

    /// Whether buckets are in order, and as many ghosts there as were counted.
    pub(super) fn check(&self) -> Result<(), String> {
        let age = |ghost: u32| if ghost == 0 { u32::MAX } else { Self::since(ghost, self.now) };
        if let Some(bucket) =
            self.buckets.iter().find(|bucket| !bucket.0.is_sorted_by_key(|&ghost| age(ghost)))
        {
            return Err(format!("ghosts are not in order: {bucket:?}"));
        }
        let all = self.buckets.iter().flat_map(|bucket| bucket.0);
        let remembered = all.filter(|&ghost| self.is_remembered(ghost)).count();
        if remembered != self.len || self.len > self.most {
            return Err(format!("{remembered} ghosts, {} counted, at most {}", self.len, self.most));
        }
        Ok(())
    }
}

impl TryClone for Ghosts {
    fn try_clone(&self) -> Result<Self, OutOfMemory> {
        let mut buckets = Vec::new();
        buckets.try_reserve_exact(self.planned)?;
        buckets.extend_from_slice(&self.buckets);
        Ok(Self { buckets, of_tick: copied(&self.of_tick)?.into_boxed_slice(), ..*self })
    }
}

#[cfg(test)]
mod tests {
    use super::super::seed::Seed;
    use super::*;

    fn mixed(key: u64) -> u64 {
        Seed::new(3).mix(key)
    }

    /// Compares with a list. Returns how often a hash was remembered, and how often it should have been and was not.
    fn compare(most: usize, keys: u64, steps: u64) -> (usize, usize) {
        let mut ghosts = Ghosts::new(most);
        let mut model: Vec<u64> = Vec::new();
        let (mut state, mut recalled, mut lost) = (1_u64, 0, 0);
        for _ in 0..steps {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let key = (state >> 40) % keys;
            let at = model.iter().position(|&other| other == key);
            if let Some(at) = at {
                model.remove(at);
            }
            if (state >> 33) % 3 == 0 || at.is_some() {
                let known = ghosts.recall(mixed(key));
                // What left its bucket too soon makes room for an older one.
                assert!(at.is_some() || !known || lost > 0, "{key} of {most}");
                recalled += usize::from(known);
                lost += usize::from(at.is_some() && !known);
            } else {
                ghosts.remember(mixed(key), usize::MAX);
                model.push(key);
                if model.len() > most {
                    model.remove(0);
                }
            }
        }
        assert_eq!(ghosts.check(), Ok(()));
        (recalled, lost)
    }

    #[test]
    fn remembers_the_last() {
        for most in [1, 2, 7, 20, 100, 500] {
            let (recalled, lost) = compare(most, 3 * most as u64, 20_000);
            assert!(recalled > 1_000 && lost < recalled / 50, "{recalled} and {lost} of {most}");
        }
    }

    #[test]
    fn ticks_come_round() {
        let (recalled, lost) = compare(100, 250, 300_000);
        assert!(recalled > 10_000 && lost < recalled / 50, "{recalled} and {lost}");
    }

    /// A bucket that few hashes come to keeps what is forgotten, but not until its tick comes again.
    #[test]
    fn what_is_forgotten_stays_so() {
        let mut ghosts = Ghosts::new(10_000);
        let of_bucket = |hash: u64, wanted: bool| (place(hash, 10_000_usize.div_ceil(LOAD)) == 7) == wanted;
        ghosts.remember(mixed(1), usize::MAX);
        let mut all = (0..).map(mixed);
        let old: Vec<u64> = all.by_ref().filter(|&hash| of_bucket(hash, true)).take(5).collect();
        let mut others = all.filter(|&hash| of_bucket(hash, false));
        others.by_ref().take(1_000).for_each(|hash| ghosts.remember(hash, usize::MAX));
        for &hash in &old {
            ghosts.remember(hash, usize::MAX);
        }
        assert!(ghosts.buckets[7].0[4] != 0);
        for _ in 0..10 * (1 << TICK_BITS) / TICKS {
            others.by_ref().take(10_000).for_each(|hash| ghosts.remember(hash, usize::MAX));
            assert_eq!(ghosts.check(), Ok(()));
        }
        assert_eq!(ghosts.buckets[7].0, [0; PLACES]);
        assert!(!old.iter().any(|&hash| ghosts.recall(hash)));
    }

    #[test]
    fn forgets_in_about_the_order_of_coming_in() {
        let mut ghosts = Ghosts::new(50_000);
        (0..1_000_000).for_each(|hash| ghosts.remember(mixed(hash), usize::MAX));
        assert_eq!(ghosts.check(), Ok(()));
        let known = (950_100..1_000_000).filter(|&hash| ghosts.recall(mixed(hash))).count();
        assert!(known > 49_500, "{known}");
        let known = (0..949_700).filter(|&hash| ghosts.recall(mixed(hash))).count();
        assert!(known < 100, "{known} that are like others");
    }

    #[test]
    fn a_limit_may_come_and_go() {
        let mut ghosts = Ghosts::new(100_000);
        let mut next = 0;
        for limit in [100, 50_000, 10, 3_000, 0, 1, 100_000, 200] {
            for _ in 0..20_000 {
                ghosts.remember(mixed(next), limit);
                next += 1;
            }
            assert_eq!(ghosts.check(), Ok(()));
            assert!(ghosts.len <= limit && ghosts.len + ghosts.len / 100 >= limit.min(20_000), "{limit}");
            assert!(limit == 0 || ghosts.recall(mixed(next - 1)));
        }
    }

    #[test]
    fn takes_no_more_memory_than_promised() {
        let mut ghosts = Ghosts::new(10_000);
        assert_eq!(ghosts.allocated_bytes(), 0);
        (0..100_000).for_each(|hash| ghosts.remember(mixed(hash), usize::MAX));
        assert!(ghosts.allocated_bytes() <= 10_000 * 15 / 2);
        ghosts.resize(10);
        assert!(!ghosts.recall(mixed(99_999)));
    }
}
