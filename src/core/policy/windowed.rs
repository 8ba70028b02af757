//! The structure of [`TinyLfu`](super::TinyLfu) and [`Auto`](super::Auto): a window before a
//! segmented main space (SLRU), admission from one to the other, and a tuner that chooses the configuration.

use std::marker::PhantomData;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::ghosts::Ghosts;
use super::sketch::{Sketch, TOP};
use super::slru::{Segment, Slru};
use super::tuner::{Admission, Configuration, Tuner, outweighs};
use super::{Entries, Goal, Policy};
use crate::memory::{OutOfMemory, TryClone};
use crate::slot::Slot;

/// The configurations from which a policy's tuner chooses.
pub trait Configurations {
    /// At least one. A cache starts with the first. With only one there is no tuner.
    const CONFIGURATIONS: &'static [Configuration];
}

/// The sketch is made for this many more entries than there are, as one for few entries would forget too
/// soon.
const MORE_IN_SKETCH: usize = 96;
/// Without a bound, the sketch is made for this many entries at first.
const LEAST_ENTRIES: usize = 512;
/// Where weights differ, an eviction compares this many of the coldest entries of the window, as many of the
/// main space,
const COLDEST_COMPARED: usize = 16;
/// and the entries of this many slots, which are others at every eviction.
const SLOTS_COMPARED: usize = 32;
/// One candidate in this many is lucky.
const LUCK: u32 = 128;
/// The most entries that an insertion moves out of a segment that is too large.
const MOVED: usize = 8;

/// A windowed, segmented cache in the configuration that its miniature simulations find best.
#[derive(Debug)]
pub struct Windowed<C> {
    slru: Slru,
    sketch: Sketch,
    ghosts: Ghosts,
    tuner: Tuner,
    configuration: Configuration,
    bound: usize,
    /// The number of entries when the cache is full, as far as that is known.
    full: usize,
    /// The number of entries for which tuner, ghosts and the sketch's aging are made.
    made_for: usize,
    /// The number of entries at which the sketch grows.
    grows_at: usize,
    window: usize,
    protected: usize,
    rng: SmallRng,
    /// Whether the next candidate is lucky. This is drawn ahead, so that naming the next victim changes
    /// nothing.
    lucky: bool,
    /// Where weights differ, the first of the slots that the next eviction compares.
    hand: usize,
    /// What to maximize where weights differ.
    goal: Goal,
    configurations: PhantomData<C>,
}

impl<C: Configurations> Windowed<C> {
    /// Adapts everything but the size of the sketch to `full` entries, and keeps the counts.
    fn make_for(&mut self, full: usize) {
        (self.full, self.made_for) = (full, full);
        let most = full.saturating_add(MORE_IN_SKETCH);
        self.sketch.abandon_growth();
        self.sketch.age_after(most);
        if self.sketch.entries() > most {
            // Without memory, the sketch stays larger than necessary.
            let _ = self.sketch.try_resize(most);
        }
        self.plan_growth();
        self.tuner.resize(full);
        let ghosts = C::CONFIGURATIONS.iter().map(|configuration| configuration.ghosts_of(full)).max();
        self.ghosts.resize(ghosts.unwrap_or(0));
        self.follow_configuration();
    }

    /// Makes the sketch larger, one step at each insertion, as there are more entries than it is made for.
    #[cold]
    fn grow(&mut self, present: &impl Entries) {
        if self.sketch.is_growing() {
            self.go_on_growing(present);
            return;
        }
        let (total, entries) = (self.slru.total(), self.sketch.entries());
        if self.bound == usize::MAX && entries > 0 {
            self.make_for(total);
        }
        let least = LEAST_ENTRIES + MORE_IN_SKETCH;
        let most = self.made_for.saturating_add(MORE_IN_SKETCH);
        let wanted = if self.bound == usize::MAX { most } else { 2 * entries };
        if self.sketch.try_begin_growth(wanted.max(least).min(most)).is_err() {
            // Without memory, more entries share the counters.
            self.grows_at = total + total / 2 + 1;
            return;
        }
        // The first sketch is completed at once, so that it counts from the first entry on.
        while entries == 0 && total <= LEAST_ENTRIES && self.sketch.is_growing() {
            self.go_on_growing(present);
        }
    }

    fn go_on_growing(&mut self, present: &impl Entries) {
        let Self { slru, sketch, .. } = self;
        if sketch.grow_on(slru.slots(), |slots| slru.present(slots).map(|slot| present.hash(slot))) {
            self.plan_growth();
        }
    }

    /// Computes the number of entries at which the sketch will grow.
    fn plan_growth(&mut self) {
        let entries = self.sketch.entries();
        self.grows_at = if self.bound == usize::MAX {
            // A cache that never evicts needs no sketch.
            if entries == 0 { 0 } else { 2 * entries + 1 }
        } else if entries < self.made_for.saturating_add(MORE_IN_SKETCH) {
            // Overestimates of a small sketch are carried over to a larger one, so it grows when half full.
            entries / 2
        } else {
            usize::MAX
        };
    }

    /// Adapts to the number of entries that are present, where only weights limit it.
    #[cold]
    fn adapt(&mut self, total: usize) {
        if total / 2 > self.made_for || (total < self.made_for / 2 && self.made_for > LEAST_ENTRIES) {
            self.make_for(total.max(LEAST_ENTRIES));
        }
        self.full = total;
        self.follow_configuration();
    }

    fn follow_configuration(&mut self) {
        self.configuration = self.tuner.configuration();
        self.window = self.configuration.window_of(self.full);
        self.protected = self.configuration.protected_of(self.full);
    }

    #[inline(always)]
    fn count(&mut self, mixed: u64) {
        self.sketch.add(mixed, 1);
        if C::CONFIGURATIONS.len() > 1 && self.tuner.request(mixed, &self.sketch) {
            self.follow_configuration();
        }
    }

    fn seen(&self, slot: Slot, entries: &impl Entries) -> u8 {
        self.sketch.estimate(self.sketch.mix(entries.hash(slot)))
    }

    /// Updates everything but the segments before an entry is evicted.
    #[inline]
    fn prepare_eviction(&mut self, slot: Slot, hash: u64) {
        let total = self.slru.total();
        if total.abs_diff(self.full) > self.full / 8 && total <= self.bound {
            self.adapt(total);
        }
        // Entries from the main space leave no ghost: if they came back at once, they would push out others.
        if self.slru.segment(slot) == Segment::Window {
            self.ghosts.remember(self.sketch.mix(hash), usize::MAX);
        }
        self.hand += SLOTS_COMPARED;
        if self.hand >= self.slru.slots() {
            self.hand = 0;
        }
        if self.configuration.admission == Admission::Frequency {
            self.lucky = self.rng.next_u32().is_multiple_of(LUCK);
        }
    }

    /// Counts a key that is inserted. Returns whether it enters the main space at once.
    #[inline]
    fn prepare_insertion(&mut self, hash: u64) -> bool {
        if C::CONFIGURATIONS.len() > 1 {
            self.tuner.insertion();
        }
        let mixed = self.sketch.mix(hash);
        self.count(mixed);
        // With an empty probation segment, new entries would have to compete with the warmest ones.
        self.slru.shrink(Segment::Protected, self.protected, MOVED);
        self.ghosts.recall(mixed) && self.configuration.admission != Admission::Frequency
    }

    /// Whether `candidate`, the coldest entry of the window, may enter the main space in place of `victim`,
    /// the coldest entry there.
    fn admits(&self, candidate: Slot, victim: Slot, entries: &impl Entries) -> bool {
        match self.configuration.admission {
            Admission::Ghosts(_) => self.slru.hits(candidate) >= 2,
            Admission::Frequency => {
                outweighs(self.seen(candidate, entries), self.seen(victim, entries), self.lucky)
            }
        }
    }

    /// The entry with the lowest value for its weight, among the coldest and some others. The value is the
    /// square of the number of times it was seen, so that a heavy entry that is often used stays. The others
    /// come from any slot, so that a heavy entry that is never used need not become one of the coldest first.
    fn least_worth(&self, entries: &impl Entries) -> Option<Slot> {
        let value = |slot: Slot| {
            let seen = u128::from(self.seen(slot, entries)) + 1;
            let weight = match self.goal {
                Goal::Hits => u128::from(entries.weight(slot).max(1)),
                // A hit of a heavy entry brings as many bytes as hits of all the light ones that would fit in
                // its place.
                Goal::Bytes => 1,
            };
            (seen * seen, weight)
        };
        let window = if self.window_is_over() { COLDEST_COMPARED } else { 0 };
        let mut least: Option<(Slot, (u128, u128))> = None;
        let main = self.slru.main().take(COLDEST_COMPARED);
        let window = self.slru.iter(Segment::Window).take(window);
        for slot in main.chain(window).chain(self.slru.sweep(self.hand, SLOTS_COMPARED)) {
            let (seen, weight) = value(slot);
            // As fractions, without rounding.
            if least.is_none_or(|(_, (least_seen, of_weight))| seen * of_weight < least_seen * weight) {
                least = Some((slot, (seen, weight)));
            }
        }
        least.map(|(slot, _)| slot).or_else(|| self.slru.coldest(Segment::Window))
    }

    #[inline]
    fn window_is_over(&self) -> bool {
        self.slru.len(Segment::Window) >= self.window
    }
}

impl<C: Configurations> Policy for Windowed<C> {
    fn new(capacity: usize, seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let seed = rng.next_u64();
        let first = C::CONFIGURATIONS[0];
        let mut policy = Self {
            slru: Slru::new(capacity),
            sketch: Sketch::new(seed),
            ghosts: Ghosts::new(0),
            tuner: Tuner::new(C::CONFIGURATIONS, 1),
            configuration: first,
            bound: usize::MAX,
            full: 0,
            made_for: 0,
            grows_at: 0,
            window: 0,
            protected: 0,
            rng,
            lucky: false,
            hand: 0,
            goal: Goal::Hits,
            configurations: PhantomData,
        };
        policy.make_for(LEAST_ENTRIES);
        policy
    }

    fn set_bound(&mut self, entries: usize) {
        self.bound = entries;
        if entries != usize::MAX && (entries != self.full || entries != self.made_for) {
            self.make_for(entries.max(1));
        }
        self.plan_growth();
    }

    fn set_goal(&mut self, goal: Goal) {
        self.goal = goal;
    }

    #[inline]
    fn try_reserve(&mut self, slot: Slot, entries: &impl Entries) -> Result<(), OutOfMemory> {
        if self.slru.total() >= self.grows_at {
            self.grow(entries);
        }
        self.slru.try_reserve(slot)
    }

    #[inline]
    fn on_insert(&mut self, slot: Slot, hash: u64) {
        if self.prepare_insertion(hash) {
            self.slru.push(slot, Segment::Probation);
            return;
        }
        self.slru.push(slot, Segment::Window);
        self.slru.shrink(Segment::Window, self.window, MOVED);
    }

    #[inline(always)]
    fn on_access(&mut self, slot: Slot, hash: u64) {
        self.count(self.sketch.mix(hash));
        self.slru.access(slot, self.protected);
    }

    #[inline]
    fn on_miss(&mut self, hash: u64) {
        if self.notices_misses() && self.tuner.miss(self.sketch.mix(hash)) {
            self.follow_configuration();
        }
    }

    #[inline(always)]
    fn notices_misses(&self) -> bool {
        C::CONFIGURATIONS.len() > 1
    }

    #[inline]
    fn on_remove(&mut self, slot: Slot) {
        self.slru.remove(slot);
    }

    #[inline]
    fn on_evict(&mut self, slot: Slot, hash: u64) {
        self.prepare_eviction(slot, hash);
        self.slru.remove(slot);
    }

    #[inline]
    fn on_reuse(&mut self, slot: Slot, evicted: u64, hash: u64) {
        self.prepare_eviction(slot, evicted);
        if self.slru.segment(slot) != Segment::Window {
            self.slru.remove(slot);
            self.on_insert(slot, hash);
        } else if self.prepare_insertion(hash) {
            self.slru.relocate(slot, Segment::Probation);
        } else {
            self.slru.renew(slot);
            self.slru.shrink(Segment::Window, self.window, MOVED);
        }
    }

    #[inline]
    fn victim(&mut self, entries: &impl Entries) -> Option<Slot> {
        if entries.are_weighted() {
            return self.least_worth(entries);
        }
        while self.window_is_over() {
            let Some(candidate) = self.slru.coldest(Segment::Window) else { break };
            let victim = self.slru.coldest_of_main();
            match victim {
                Some(victim) if self.admits(candidate, victim, entries) => {
                    self.slru.relocate(candidate, Segment::Probation);
                }
                _ => return Some(candidate),
            }
        }
        self.slru.coldest_of_main().or_else(|| self.slru.coldest(Segment::Window))
    }

    fn order(&self, entries: impl Entries) -> impl Iterator<Item = Slot> {
        let mut next = None;
        if entries.are_weighted() {
            next = self.least_worth(&entries);
        } else if self.window_is_over() {
            let over = self.slru.len(Segment::Window) + 1 - self.window;
            let mut candidates = self.slru.iter(Segment::Window).take(over);
            let victim = self.slru.coldest_of_main();
            next = candidates.find(|&slot| victim.is_none_or(|victim| !self.admits(slot, victim, &entries)));
        }
        let others = self.slru.main().chain(self.slru.iter(Segment::Window));
        next.into_iter().chain(others.filter(move |&slot| Some(slot) != next))
    }

    fn rank(&self, slot: Slot, hash: u64) -> u64 {
        let seen = self.sketch.estimate(self.sketch.mix(hash));
        u64::from(seen) << 2 | self.slru.segment(slot) as u64
    }

    fn restore(&mut self, slot: Slot, hash: u64, rank: u64) {
        let mixed = self.sketch.mix(hash);
        let seen = u8::try_from(rank >> 2).map_or(TOP, |seen| seen.min(TOP));
        self.sketch.add(mixed, seen.saturating_sub(self.sketch.estimate(mixed)));
        let segment = match rank & 3 {
            0 => Segment::Window,
            1 => Segment::Probation,
            _ => Segment::Protected,
        };
        self.slru.relocate(slot, segment);
    }

    fn allocated_bytes(&self) -> usize {
        self.slru.allocated_bytes()
            + self.sketch.allocated_bytes()
            + self.ghosts.allocated_bytes()
            + self.tuner.allocated_bytes()
    }

    fn check(&self, len: usize) -> Result<(), String> {
        self.slru.check(len)?;
        self.ghosts.check()
    }
}

impl<C> TryClone for Windowed<C> {
    fn try_clone(&self) -> Result<Self, OutOfMemory> {
        Ok(Self {
            slru: self.slru.try_clone()?,
            sketch: self.sketch.try_clone()?,
            ghosts: self.ghosts.try_clone()?,
            tuner: self.tuner.try_clone()?,
            rng: self.rng.clone(),
            ..*self
        })
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::super::tinylfu::Windows;
    use super::*;

    #[test]
    fn segments_become_smaller_with_another_course() {
        const ENTRIES: usize = 100;
        let mut policy = Windowed::<Windows>::new(ENTRIES, 1);
        policy.set_bound(ENTRIES);
        for at in 0..ENTRIES {
            policy.on_insert(Slot::new(at), at as u64);
        }
        (0..ENTRIES).for_each(|at| policy.on_access(Slot::new(at), at as u64));
        let before = policy.slru.len(Segment::Protected);
        policy.configuration = Windows::CONFIGURATIONS[2];
        policy.window = policy.configuration.window_of(ENTRIES);
        policy.protected = policy.configuration.protected_of(ENTRIES);
        assert!(before > policy.protected);
        // Nobody is hit.
        for at in 0..ENTRIES / 2 {
            policy.on_reuse(Slot::new(at), at as u64, (ENTRIES + at) as u64);
        }
        assert!(policy.slru.len(Segment::Protected) <= policy.protected);
        assert!(policy.slru.len(Segment::Window) <= policy.window);
        assert_eq!(policy.check(ENTRIES), Ok(()));
    }

    /// A window of one entry, and admission by frequency, for ever.
    struct OneWindow;

    impl Configurations for OneWindow {
        const CONFIGURATIONS: &'static [Configuration] =
            &[Configuration { window: 1, admission: Admission::Frequency }];
    }

    /// Hashes by slot, and how often one was asked for.
    struct Present(Vec<u64>, Cell<usize>);

    impl Present {
        fn new() -> Self {
            Self(Vec::new(), Cell::new(0))
        }
    }

    impl Entries for Present {
        fn hash(&self, slot: Slot) -> u64 {
            self.1.set(self.1.get() + 1);
            self.0[slot.index()]
        }

        fn weight(&self, _: Slot) -> u64 {
            1
        }

        fn are_weighted(&self) -> bool {
            false
        }
    }

    /// How often a key is found that comes as often as the hundred that were there first.
    fn hits_of_a_newcomer(with_luck: bool) -> usize {
        const FAVOURITES: u64 = 100;
        const ROUNDS: u64 = 2_000;
        let mut policy = Windowed::<OneWindow>::new(0, 1);
        policy.set_bound(100);
        let mut present = Present::new();
        let mut request = |key: u64| {
            let found = present.0.iter().position(|&other| other == key).map(Slot::new);
            if let Some(slot) = found {
                policy.on_access(slot, key);
            } else if present.0.len() < 100 {
                let slot = Slot::new(present.0.len());
                policy.try_reserve(slot, &present).expect("there is memory");
                policy.on_insert(slot, key);
                present.0.push(key);
            } else {
                policy.lucky &= with_luck;
                let victim = policy.victim(&present).expect("it is full");
                let gone = std::mem::replace(&mut present.0[victim.index()], key);
                policy.on_reuse(victim, gone, key);
            }
            found.is_some()
        };
        (0..30 * FAVOURITES).for_each(|step| _ = request(step % FAVOURITES));
        let mut round = |round: u64| {
            (0..FAVOURITES).for_each(|key| _ = request(key));
            let hit = request(FAVOURITES);
            request(1_000_000 + round);
            hit
        };
        (0..ROUNDS).filter(|&step| round(step)).count()
    }

    /// The sketch grows a little with each insertion, rather than with all entries at once.
    #[test]
    fn no_insertion_looks_at_many_entries() {
        const ENTRIES: usize = 40_000;
        for bound in [ENTRIES, 50 * ENTRIES, usize::MAX] {
            let mut policy = Windowed::<Windows>::new(0, 1);
            policy.set_bound(bound);
            let mut present = Present::new();
            let mut most = 0;
            for at in 0..ENTRIES {
                present.1.set(0);
                policy.try_reserve(Slot::new(at), &present).expect("there is memory");
                policy.on_insert(Slot::new(at), at as u64);
                present.0.push(at as u64);
                most = most.max(present.1.get());
                assert!(policy.seen(Slot::new(at), &present) > 0, "{at} was counted");
            }
            assert!((1..100).contains(&most), "{most} entries at once, bound {bound}");
            let known = (0..ENTRIES).filter(|&at| policy.seen(Slot::new(at), &present) > 0).count();
            assert!(known == ENTRIES && policy.sketch.entries() >= ENTRIES / 2, "bound {bound}");
            assert!(policy.sketch.entries() <= 4 * ENTRIES, "bound {bound}");
        }
    }

    #[test]
    fn luck_lets_in_who_is_only_as_warm() {
        let (without, with) = (hits_of_a_newcomer(false), hits_of_a_newcomer(true));
        assert!(without < 20 && with > 1_000, "{without} without luck, {with} with it");
    }
}
