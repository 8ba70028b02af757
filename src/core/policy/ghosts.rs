//! Ghosts: the hashes of entries that were evicted lately, forgotten first in, first out.
//!
//! The table consists of buckets, each a cache line of sixteen places. A ghost is a fingerprint and the tick
//! at which it came in, in 32 bits. It enters its bucket at the front, and pushes out the oldest one at the
//! end; so both remembering and recalling read one cache line. For each tick, the table counts the ghosts
//! that are still remembered. When there are too many ghosts, it forgets those of the oldest tick. A
//! forgotten ghost stays in its bucket until it is pushed out. Tick numbers repeat, so every few ticks some
//! buckets are swept, and no forgotten ghost stays until its tick comes again.
//!
//! The order is exact except where a bucket overflows: with nine ghosts in a bucket on average, one ghost in
//! four hundred is forgotten too soon. Fingerprints have 20 bits, so one key in a hundred thousand is
//! mistaken for a ghost. The secret seed decides which one.

use super::seed::place;
use crate::memory::{OutOfMemory, TryClone, copied, filled};

/// Places of a bucket.
const PLACES: usize = 16;

/// Ghosts for each bucket, on average.
const LOAD: usize = 9;

/// The buckets that each new ghost adds to a table that is not complete.
const BUCKETS_A_STEP: usize = 64;

/// The number of ticks, about, in which as many ghosts come in as are remembered.
const TICKS: usize = 500;

/// The bits of a tick.
const TICK_BITS: u32 = 12;
const TICK_MASK: u32 = (1 << TICK_BITS) - 1;
const PRINT_MASK: u32 = u32::MAX >> TICK_BITS;

/// The most ticks whose ghosts can be remembered at the same time. Half of all tick numbers: forgotten ghosts
/// are swept away before their tick comes again.
const MOST_TICKS: usize = 1 << (TICK_BITS - 1);

/// Buckets are swept once in this many ticks.
const TICKS_A_SWEEP: u32 = 8;

/// The most ghosts of one tick.
const MOST_OF_A_TICK: usize = u16::MAX as usize;

/// The most ghosts that can be remembered. With more, tick numbers would repeat too soon.
const LIMIT: usize = MOST_OF_A_TICK * (MOST_TICKS / 2 - 1);

/// A table is replaced by a smaller one if it is for this many times as many ghosts as are allowed.
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

    /// Puts a ghost at the front, and returns the one that is pushed out at the end.
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
    /// The buckets that are allocated so far. Ghosts of the others are not remembered.
    buckets: Vec<Bucket>,
    /// The number of buckets that there will be.
    planned: usize,
    /// The number of ghosts that the table is made for.
    capacity: usize,
    /// The number of remembered ghosts of each tick from `first` to `now`, in a ring whose length is a power
    /// of two.
    of_tick: Box<[u16]>,
    /// The most ghosts that are remembered.
    most: usize,
    len: usize,
    /// The oldest tick whose ghosts are remembered.
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

    /// The most ghosts that are remembered.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// Changes the number of hashes that are remembered. If that is a change, forgets all.
    pub(super) fn resize(&mut self, most: usize) {
        if most.min(LIMIT) != self.most {
            *self = Self::new(most);
        }
    }

    /// The fingerprint of a hash. It uses neither the highest bits, which choose the bucket, nor the lowest,
    /// by which keys are sampled.
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

    /// The number of ticks from one to another, as tick numbers wrap around.
    #[inline(always)]
    fn since(from: u32, to: u32) -> u32 {
        to.wrapping_sub(from) & TICK_MASK
    }

    /// Whether a place holds a ghost that is remembered.
    #[inline(always)]
    fn is_remembered(&self, ghost: u32) -> bool {
        // The processor could not predict a branch on whether a place is empty. So there is none: an empty
        // place counts as older than all ghosts.
        let age = Self::since(ghost, self.now) + (u32::from(ghost == 0) << TICK_BITS);
        age <= Self::since(self.first, self.now)
    }

    #[inline(always)]
    fn count_of(&mut self, tick: u32) -> &mut u16 {
        let at = tick as usize & (self.of_tick.len() - 1);
        &mut self.of_tick[at]
    }

    /// The number of ghosts in one tick, if at most `most` are remembered.
    #[inline(always)]
    fn period(most: usize) -> usize {
        most.div_ceil(TICKS).min(MOST_OF_A_TICK)
    }

    /// Makes an empty table for `capacity` ghosts. Its buckets are added as ghosts come in.
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

    /// Remembers a hash. If there are then more than `limit`, or more than there is memory for, forgets the
    /// oldest. Amortized O(1).
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

    /// Whether the table is neither too small for `most` ghosts nor far too large.
    #[inline(always)]
    fn fits(&self, most: usize) -> bool {
        most <= self.capacity && self.capacity / OUTGROWN <= most.max(TICKS)
    }

    /// Makes a table for `most` ghosts, or adds buckets to one that is not complete. Without memory, there is
    /// no table.
    #[cold]
    fn fit(&mut self, most: usize) {
        if most > 0 && !self.fits(most) {
            // If the limit grows, the table doubles, so that it is replaced only a few times.
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

    /// Empties the places of forgotten ghosts in some buckets. All buckets are swept once in a quarter of all
    /// ticks.
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

    /// Returns whether the hash is remembered, and forgets it. O(1).
    #[inline]
    pub(super) fn recall(&mut self, mixed: u64) -> bool {
        let Some(bucket) = self.bucket(mixed) else { return false };
        bucket.has(Self::print(mixed)) && self.take(mixed)
    }

    /// Takes the latest ghost with this fingerprint out of its bucket. Returns whether it was remembered.
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

    /// Checks that buckets are in order, and that the number of ghosts is right.
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
