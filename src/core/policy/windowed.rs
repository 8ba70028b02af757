//! The structure of [`TinyLfu`](super::TinyLfu) and [`Auto`](super::Auto): a window before a
//! segmented main space (SLRU), admission from one to the other, and a tuner that chooses the configuration.

use std::marker::PhantomData;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::ghosts::Ghosts;
use super::sketch::{Sketch, TOP};
use super::slru::{Segment, Slru};
use super::tuner::{Admission, Configuration, Tuner, outweighs};
use super::{Entries, Policy};
use crate::slot::Slot;

/// The configurations from which a policy's tuner chooses.
pub trait Configurations {
    /// At least one. A cache starts with the first. With only one there is no tuner.
    const CONFIGURATIONS: &'static [Configuration];
}

/// A sketch for few entries forgets too soon: it is made for so many more than there are.
const MORE_IN_SKETCH: usize = 96;
/// Without a bound, a sketch is made for so many entries at first.
const LEAST_ENTRIES: usize = 512;
/// Where weights differ, so many of the coldest of window and main space each are compared.
const COLDEST_COMPARED: usize = 16;
/// And so many of all the slots, others for every victim.
const SLOTS_COMPARED: usize = 32;
/// One candidate in so many is lucky.
const LUCK: u32 = 128;
/// Entries that move from a segment that has become too large when one comes in.
const MOVED: usize = 8;

/// A windowed, segmented cache in the configuration that its miniature simulations find best.
#[derive(Clone, Debug)]
pub struct Windowed<C> {
    slru: Slru,
    sketch: Sketch,
    ghosts: Ghosts,
    tuner: Tuner,
    configuration: Configuration,
    bound: usize,
    /// How many entries there are when the cache is full, as far as that is known.
    full: usize,
    window: usize,
    protected: usize,
    rng: SmallRng,
    /// Whether the next candidate is lucky. Drawn ahead, so that naming the next victim changes nothing.
    lucky: bool,
    seed: u64,
    /// Where weights differ, the slot from which on the next victim is looked for, too.
    hand: usize,
    configurations: PhantomData<C>,
}

impl<C: Configurations> Windowed<C> {
    /// Makes everything for `full` entries, and forgets what was counted.
    fn fit(&mut self, full: usize) {
        self.sketch = Sketch::new(full.saturating_add(MORE_IN_SKETCH), self.seed);
        self.tuner = Tuner::new(C::CONFIGURATIONS, full, self.seed);
        self.fit_rest(full);
    }

    /// Fits everything to `full` entries, and keeps what was counted. O(n).
    fn refit(&mut self, full: usize) {
        self.sketch = self.sketch.resized(full.saturating_add(MORE_IN_SKETCH));
        self.tuner.resize(full);
        self.fit_rest(full);
    }

    fn fit_rest(&mut self, full: usize) {
        self.full = full;
        let ghosts =
            C::CONFIGURATIONS.iter().map(|configuration| configuration.ghosts_of(full)).max().unwrap_or(0);
        self.ghosts.resize(ghosts);
        self.follow_configuration();
    }

    fn follow_configuration(&mut self) {
        self.configuration = self.tuner.configuration();
        self.window = self.configuration.window_of(self.full);
        self.protected = self.configuration.protected_of(self.full);
    }

    #[inline(always)]
    fn count(&mut self, hash: u64) {
        let mixed = self.sketch.mix(hash);
        self.sketch.increment(mixed);
        if C::CONFIGURATIONS.len() > 1 && self.tuner.request(mixed, &self.sketch) {
            self.follow_configuration();
        }
    }

    fn seen(&self, slot: Slot, entries: &impl Entries) -> u8 {
        self.sketch.estimate(self.sketch.mix(entries.hash(slot)))
    }

    /// Whether the candidate, the coldest of the window, may enter the main space in place of
    /// the victim, the coldest there.
    fn admits(&self, candidate: Slot, victim: Slot, entries: &impl Entries) -> bool {
        match self.configuration.admission {
            Admission::Ghosts(_) => self.slru.hits(candidate) >= 2,
            Admission::Frequency => {
                outweighs(self.seen(candidate, entries), self.seen(victim, entries), self.lucky)
            }
        }
    }

    /// Of those that might leave next, the one that was seen least often for what it weighs. Being
    /// seen counts twice, so that a heavy entry in great demand stays. Beside the coldest there are
    /// some from anywhere, so that the heavy and worthless do not stay until they are cold.
    fn least_worth(&self, entries: &impl Entries) -> Option<Slot> {
        let value = |slot: Slot| {
            let seen = u128::from(self.seen(slot, entries)) + 1;
            (seen * seen, u128::from(entries.weight(slot).max(1)))
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
            sketch: Sketch::new(1, seed),
            ghosts: Ghosts::new(0, seed),
            tuner: Tuner::new(C::CONFIGURATIONS, 1, seed),
            configuration: first,
            bound: usize::MAX,
            full: 0,
            window: 0,
            protected: 0,
            rng,
            lucky: false,
            seed,
            hand: 0,
            configurations: PhantomData,
        };
        policy.fit(LEAST_ENTRIES);
        policy
    }

    fn set_bound(&mut self, entries: usize) {
        self.bound = entries;
        if entries != usize::MAX && entries != self.full {
            if self.slru.total() == 0 { self.fit(entries.max(1)) } else { self.refit(entries.max(1)) }
        }
    }

    #[inline]
    fn on_insert(&mut self, slot: Slot, hash: u64) {
        if self.bound == usize::MAX && self.slru.total() > self.sketch.entries() * 2 {
            self.fit(self.slru.total());
        }
        if C::CONFIGURATIONS.len() > 1 {
            self.tuner.miss();
        }
        self.count(hash);
        // With an empty probation segment, newcomers would have to compete with the warmest entries.
        self.slru.shrink(Segment::Protected, self.protected, MOVED);
        if self.ghosts.recall(hash) && self.configuration.admission != Admission::Frequency {
            self.slru.push(slot, Segment::Probation);
            return;
        }
        self.slru.push(slot, Segment::Window);
        self.slru.shrink(Segment::Window, self.window, MOVED);
    }

    #[inline(always)]
    fn on_access(&mut self, slot: Slot, hash: u64) {
        self.count(hash);
        self.slru.access(slot, self.protected);
    }

    #[inline]
    fn on_remove(&mut self, slot: Slot) {
        self.slru.remove(slot);
    }

    #[inline]
    fn on_evict(&mut self, slot: Slot, hash: u64) {
        let total = self.slru.total();
        if self.bound == usize::MAX && total.abs_diff(self.full) > self.full / 8 {
            // Only weights limit how many there are: what is there now is what there is room for.
            self.full = total;
            self.follow_configuration();
        }
        self.ghosts.remember(hash);
        self.slru.remove(slot);
        self.hand += SLOTS_COMPARED;
        if self.hand >= self.slru.slots() {
            self.hand = 0;
        }
        self.lucky = self.rng.next_u32().is_multiple_of(LUCK);
    }

    #[inline]
    fn victim(&mut self, entries: &impl Entries) -> Option<Slot> {
        if entries.are_weighted() {
            return self.least_worth(entries);
        }
        while self.window_is_over() {
            let Some(candidate) = self.slru.coldest(Segment::Window) else { break };
            let victim = self.slru.main().next();
            match victim {
                Some(victim) if self.admits(candidate, victim, entries) => {
                    self.slru.relocate(candidate, Segment::Probation);
                }
                _ => return Some(candidate),
            }
        }
        self.slru.main().next().or_else(|| self.slru.coldest(Segment::Window))
    }

    fn order(&self, entries: impl Entries) -> impl Iterator<Item = Slot> {
        let mut next = None;
        if entries.are_weighted() {
            next = self.least_worth(&entries);
        } else if self.window_is_over() {
            let over = self.slru.len(Segment::Window) + 1 - self.window;
            let mut candidates = self.slru.iter(Segment::Window).take(over);
            let victim = self.slru.main().next();
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
        (self.sketch.estimate(mixed)..seen).for_each(|_| self.sketch.increment(mixed));
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

#[cfg(test)]
mod tests {
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

    struct Present(Vec<u64>);

    impl Entries for Present {
        fn hash(&self, slot: Slot) -> u64 {
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
        let mut present = Present(Vec::new());
        let mut request = |key: u64| {
            let found = present.0.iter().position(|&other| other == key).map(Slot::new);
            if let Some(slot) = found {
                policy.on_access(slot, key);
            } else if present.0.len() < 100 {
                policy.on_insert(Slot::new(present.0.len()), key);
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

    #[test]
    fn luck_lets_in_who_is_only_as_warm() {
        let (without, with) = (hits_of_a_newcomer(false), hits_of_a_newcomer(true));
        assert!(without < 20 && with > 1_000, "{without} without luck, {with} with it");
    }
}
