//! What [`TinyLfu`](super::TinyLfu) and [`Auto`](super::Auto) have in common: a window before a
//! segmented main space, who may come from one to the other, and steering between courses.

use std::marker::PhantomData;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::ghosts::Ghosts;
use super::segments::{Segment, Segments};
use super::sketch::{Sketch, TOP};
use super::steering::{Admission, Course, Steering, outweighs};
use super::{Entries, Policy};
use crate::slot::Slot;

/// The courses between which a policy steers.
pub trait Courses {
    /// At least one: the first is taken at the beginning. With one there is no steering.
    const COURSES: &'static [Course];
}

/// A sketch for few entries forgets too soon: it is made for so many more than there are.
const MORE_IN_SKETCH: usize = 96;
/// Without a bound, a sketch is made for so many entries at first.
const LEAST_ENTRIES: usize = 512;
/// Where weights differ, so many of the coldest of window and main space each are compared.
const COLDEST_COMPARED: usize = 16;
/// And so many of all the slots, others for every victim.
const SLOTS_COMPARED: usize = 32;
/// One in so many is lucky.
const LUCK: u32 = 128;
/// Entries that move from a segment that has become too large when one comes in.
const MOVED: usize = 8;

/// A windowed, segmented cache on the course that its miniature simulations find best.
#[derive(Clone, Debug)]
pub struct Steered<C> {
    segments: Segments,
    sketch: Sketch,
    ghosts: Ghosts,
    steering: Steering,
    course: Course,
    bound: usize,
    /// How many entries there are when the cache is full, as far as that is known.
    full: usize,
    window: usize,
    protected: usize,
    rng: SmallRng,
    /// Whether the next candidate is lucky; drawn ahead, so that the next victim can be named.
    lucky: bool,
    seed: u64,
    /// Where weights differ, the slot from which on the next victim is looked for, too.
    hand: usize,
    courses: PhantomData<C>,
}

impl<C: Courses> Steered<C> {
    /// Makes everything for so many entries, knowing nothing.
    fn fit(&mut self, full: usize) {
        self.sketch = Sketch::new(full.saturating_add(MORE_IN_SKETCH), self.seed);
        self.steering = Steering::new(C::COURSES, full, self.seed);
        self.fit_rest(full);
    }

    /// The same, keeping what is known. O(n).
    fn refit(&mut self, full: usize) {
        self.sketch = self.sketch.resized(full.saturating_add(MORE_IN_SKETCH));
        self.steering.resize(full);
        self.fit_rest(full);
    }

    fn fit_rest(&mut self, full: usize) {
        self.full = full;
        let ghosts = C::COURSES.iter().map(|course| course.ghosts_of(full)).max().unwrap_or(0);
        self.ghosts.resize(ghosts);
        self.follow_course();
    }

    fn follow_course(&mut self) {
        self.course = self.steering.course();
        self.window = self.course.window_of(self.full);
        self.protected = self.course.protected_of(self.full);
    }

    #[inline(always)]
    fn count(&mut self, hash: u64) {
        let mixed = self.sketch.mix(hash);
        self.sketch.increment(mixed);
        if C::COURSES.len() > 1 && self.steering.request(mixed, &self.sketch) {
            self.follow_course();
        }
    }

    fn seen(&self, slot: Slot, entries: &impl Entries) -> u8 {
        self.sketch.estimate(self.sketch.mix(entries.hash(slot)))
    }

    /// Whether a candidate that is to leave the window may enter the main space, at the cost of the
    /// one that is next there.
    fn admits(&self, candidate: Slot, leaver: Slot, entries: &impl Entries) -> bool {
        match self.course.admission {
            Admission::Ghosts(_) => self.segments.hits(candidate) >= 2,
            Admission::Frequency => {
                outweighs(self.seen(candidate, entries), self.seen(leaver, entries), self.lucky)
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
        let main = self.segments.main().take(COLDEST_COMPARED);
        let window = self.segments.iter(Segment::Window).take(window);
        for slot in main.chain(window).chain(self.segments.sweep(self.hand, SLOTS_COMPARED)) {
            let (seen, weight) = value(slot);
            // As fractions, without rounding.
            if least.is_none_or(|(_, (least_seen, of_weight))| seen * of_weight < least_seen * weight) {
                least = Some((slot, (seen, weight)));
            }
        }
        least.map(|(slot, _)| slot).or_else(|| self.segments.coldest(Segment::Window))
    }

    #[inline]
    fn window_is_over(&self) -> bool {
        self.segments.len(Segment::Window) >= self.window
    }
}

impl<C: Courses> Policy for Steered<C> {
    fn new(capacity: usize, seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let seed = rng.next_u64();
        let first = C::COURSES[0];
        let mut policy = Self {
            segments: Segments::new(capacity),
            sketch: Sketch::new(1, seed),
            ghosts: Ghosts::new(0, seed),
            steering: Steering::new(C::COURSES, 1, seed),
            course: first,
            bound: usize::MAX,
            full: 0,
            window: 0,
            protected: 0,
            rng,
            lucky: false,
            seed,
            hand: 0,
            courses: PhantomData,
        };
        policy.fit(LEAST_ENTRIES);
        policy
    }

    fn set_bound(&mut self, entries: usize) {
        self.bound = entries;
        if entries != usize::MAX && entries != self.full {
            if self.segments.total() == 0 { self.fit(entries.max(1)) } else { self.refit(entries.max(1)) }
        }
    }

    #[inline]
    fn on_insert(&mut self, slot: Slot, hash: u64) {
        if self.bound == usize::MAX && self.segments.total() > self.sketch.entries() * 2 {
            self.fit(self.segments.total());
        }
        if C::COURSES.len() > 1 {
            self.steering.miss();
        }
        self.count(hash);
        // With nobody on probation, newcomers would have to compete with the warmest.
        self.segments.shrink(Segment::Protected, self.protected, MOVED);
        if self.ghosts.recall(hash) && self.course.admission != Admission::Frequency {
            self.segments.push(slot, Segment::Probation);
            return;
        }
        self.segments.push(slot, Segment::Window);
        self.segments.shrink(Segment::Window, self.window, MOVED);
    }

    #[inline(always)]
    fn on_access(&mut self, slot: Slot, hash: u64) {
        self.count(hash);
        self.segments.access(slot, self.protected);
    }

    #[inline]
    fn on_remove(&mut self, slot: Slot) {
        self.segments.remove(slot);
    }

    #[inline]
    fn on_evict(&mut self, slot: Slot, hash: u64) {
        let total = self.segments.total();
        if self.bound == usize::MAX && total.abs_diff(self.full) > self.full / 8 {
            // Only weights limit how many there are: what is there now is what there is room for.
            self.full = total;
            self.follow_course();
        }
        self.ghosts.remember(hash);
        self.segments.remove(slot);
        self.hand += SLOTS_COMPARED;
        if self.hand >= self.segments.slots() {
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
            let Some(candidate) = self.segments.coldest(Segment::Window) else { break };
            let leaver = self.segments.main().next();
            match leaver {
                Some(leaver) if self.admits(candidate, leaver, entries) => {
                    self.segments.relocate(candidate, Segment::Probation);
                }
                _ => return Some(candidate),
            }
        }
        self.segments.main().next().or_else(|| self.segments.coldest(Segment::Window))
    }

    fn order(&self, entries: impl Entries) -> impl Iterator<Item = Slot> {
        let mut next = None;
        if entries.are_weighted() {
            next = self.least_worth(&entries);
        } else if self.window_is_over() {
            let over = self.segments.len(Segment::Window) + 1 - self.window;
            let mut candidates = self.segments.iter(Segment::Window).take(over);
            let leaver = self.segments.main().next();
            next = candidates.find(|&slot| leaver.is_none_or(|leaver| !self.admits(slot, leaver, &entries)));
        }
        let others = self.segments.main().chain(self.segments.iter(Segment::Window));
        next.into_iter().chain(others.filter(move |&slot| Some(slot) != next))
    }

    fn rank(&self, slot: Slot, hash: u64) -> u64 {
        let seen = self.sketch.estimate(self.sketch.mix(hash));
        u64::from(seen) << 2 | self.segments.segment(slot) as u64
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
        self.segments.relocate(slot, segment);
    }

    fn allocated_bytes(&self) -> usize {
        self.segments.allocated_bytes()
            + self.sketch.allocated_bytes()
            + self.ghosts.allocated_bytes()
            + self.steering.allocated_bytes()
    }

    fn check(&self, len: usize) -> Result<(), String> {
        self.segments.check(len)?;
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
        let mut policy = Steered::<Windows>::new(ENTRIES, 1);
        policy.set_bound(ENTRIES);
        for at in 0..ENTRIES {
            policy.on_insert(Slot::new(at), at as u64);
        }
        (0..ENTRIES).for_each(|at| policy.on_access(Slot::new(at), at as u64));
        let before = policy.segments.len(Segment::Protected);
        policy.course = Windows::COURSES[2];
        policy.window = policy.course.window_of(ENTRIES);
        policy.protected = policy.course.protected_of(ENTRIES);
        assert!(before > policy.protected);
        // Nobody is hit.
        for at in 0..ENTRIES / 2 {
            policy.on_reuse(Slot::new(at), at as u64, (ENTRIES + at) as u64);
        }
        assert!(policy.segments.len(Segment::Protected) <= policy.protected);
        assert!(policy.segments.len(Segment::Window) <= policy.window);
        assert_eq!(policy.check(ENTRIES), Ok(()));
    }

    /// A window of one entry, and admission by frequency, for ever.
    struct OneWindow;

    impl Courses for OneWindow {
        const COURSES: &'static [Course] = &[Course { window: 1, admission: Admission::Frequency }];
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
        let mut policy = Steered::<OneWindow>::new(0, 1);
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
