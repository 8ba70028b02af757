//! Chooses a configuration by miniature simulations (Waldspurger et al., ATC 2017). For each configuration
//! there is a much smaller cache, the *miniature*; all are fed with the same small sample of the keys. The
//! tuner takes the configuration whose miniature has had the most hits lately.
//!
//! One more miniature changes its configuration whenever the cache does. If it has fewer hits than the best
//! of the constant ones, over a period five times as long, changing does not pay: with some workloads, such
//! as accesses that go back and forth, the best configuration seems to change, but each change costs more
//! hits than it gains. The tuner then takes the configuration that is best in the long run.

use hashbrown::HashTable;

use super::ghosts::Ghosts;
use super::sketch::Sketch;
use super::slru::{Segment, Slru};
use crate::memory::{OutOfMemory, TryClone, copied};
use crate::slot::Slot;

/// Which entries move from the window into the main space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Entries that were seen more often than the victim in the main space.
    Frequency,
    /// Entries that were hit twice in the window, and entries that come back while their ghost is remembered.
    /// The number is ghosts for each ten entries.
    Ghosts(usize),
}

/// A way to run the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Configuration {
    /// The window's share, in thousandths of the entries.
    pub window: usize,
    pub admission: Admission,
}

impl Configuration {
    /// The number of entries of the window, in a cache of `full` entries.
    #[inline]
    pub(super) fn window_of(self, full: usize) -> usize {
        share(full, self.window, 1000).clamp(1, full.saturating_sub(1).max(1))
    }

    /// The number of entries that may be protected.
    #[inline]
    pub(super) fn protected_of(self, full: usize) -> usize {
        share(full - self.window_of(full).min(full), 8, 10)
    }

    pub(super) fn ghosts_of(self, full: usize) -> usize {
        match self.admission {
            Admission::Frequency => 0,
            Admission::Ghosts(tenths) => share(full, tenths, 10).max(1),
        }
    }
}

/// `full * part / of`, without overflow.
#[inline]
fn share(full: usize, part: usize, of: usize) -> usize {
    full / of * part + full % of * part / of
}

/// Whether to admit a candidate, given how often it and the victim were seen. The candidate was seen just
/// now; in a loop over the keys, the victim is about to be seen. So among frequent entries a lead of one is
/// not enough.
#[inline]
pub(super) fn outweighs(candidate: u8, victim: u8, lucky: bool) -> bool {
    candidate > victim + victim / 4 || (lucky && candidate >= WARM)
}

/// A candidate that was seen at least this often is admitted by chance now and then. Otherwise an attacker
/// could keep it out for good by making others look more frequent.
const WARM: u8 = 6;

/// The most entries of a miniature. Eight times as many do not choose better.
const LARGEST_MINIATURE: usize = 128;
/// The number of sampled requests between two decisions.
const SAMPLED_BETWEEN: u32 = 64;
/// The least number of requests from one settlement of the credit to the next.
const LEAST_BETWEEN: usize = 500;
/// The part of a score that is kept from one decision to the next.
const KEPT: f64 = 0.95;
/// The same of a score in the long run.
const KEPT_LONG: f64 = 0.99;
/// To be taken, a configuration must be ahead by this part of the sampled requests,
const MARGIN: f64 = 0.0025;
/// and by this many hits for each entry of a miniature: after a change, some of the contents must be fetched
/// again before the new configuration pays.
const COST: f64 = 0.1;

/// A miniature: a small cache of hashes, without values, in one configuration.
#[derive(Debug)]
struct Miniature {
    configuration: Configuration,
    full: usize,
    window: usize,
    protected: usize,
    slru: Slru,
    ghosts: Ghosts,
    index: HashTable<Slot>,
    hashes: Vec<u64>,
    hits: u32,
    /// The recent hits: older ones count less.
    lately: f64,
    in_the_long_run: f64,
}

impl Miniature {
    /// An empty miniature of `full` entries, which remembers at most `ghosts` ghosts.
    fn new(configuration: Configuration, full: usize, ghosts: usize) -> Result<Self, OutOfMemory> {
        let mut miniature = Self {
            configuration,
            full,
            window: configuration.window_of(full),
            protected: configuration.protected_of(full),
            slru: Slru::new(full),
            ghosts: Ghosts::new(ghosts),
            index: HashTable::new(),
            hashes: Vec::new(),
            hits: 0,
            lately: 0.0,
            in_the_long_run: 0.0,
        };
        // Everything is allocated now, so that no request can fail. The index is at most half full; such a
        // table does not grow when entries come and go.
        miniature.slru.try_reserve(Slot::new(full - 1))?;
        miniature.hashes.try_reserve_exact(full)?;
        miniature.index.try_reserve(2 * full + 1, |_| 0)?;
        if ghosts > 0 {
            miniature.ghosts.try_make(ghosts)?;
        }
        Ok(miniature)
    }

    /// Changes the configuration.
    fn change(&mut self, configuration: Configuration) {
        self.configuration = configuration;
        self.window = configuration.window_of(self.full);
        self.protected = configuration.protected_of(self.full);
        self.slru.shrink(Segment::Protected, self.protected, self.full);
        self.slru.shrink(Segment::Window, self.window, self.full);
    }

    /// Looks a key up, and returns whether it is present.
    fn look_up(&mut self, mixed: u64) -> bool {
        let Some(slot) = self.find(mixed) else { return false };
        self.hits += 1;
        self.slru.access(slot, self.protected);
        true
    }

    #[inline]
    fn find(&self, mixed: u64) -> Option<Slot> {
        self.index.find(mixed, |&slot| self.hashes[slot.index()] == mixed).copied()
    }

    /// Stores a key that is not present.
    fn insert(&mut self, mixed: u64, sketch: &Sketch) {
        let slot = if self.hashes.len() < self.full {
            self.hashes.push(mixed);
            Slot::new(self.hashes.len() - 1)
        } else {
            let slot = self.victim(sketch);
            let gone = std::mem::replace(&mut self.hashes[slot.index()], mixed);
            if let Ok(entry) = self.index.find_entry(gone, |&other| other == slot) {
                entry.remove();
            }
            if self.slru.segment(slot) == Segment::Window {
                self.ghosts.remember(gone, usize::MAX);
            }
            self.slru.remove(slot);
            slot
        };
        let hashes = &self.hashes;
        self.index.insert_unique(mixed, slot, |&other| hashes[other.index()]);
        if self.ghosts.recall(mixed) && self.configuration.admission != Admission::Frequency {
            self.slru.push(slot, Segment::Probation);
            return;
        }
        self.slru.push(slot, Segment::Window);
        self.slru.shrink(Segment::Window, self.window, 1);
    }

    fn victim(&mut self, sketch: &Sketch) -> Slot {
        loop {
            let victim = self.slru.coldest_of_main();
            let candidate = self.slru.coldest(Segment::Window);
            let (candidate, victim) = match (candidate, victim) {
                (Some(candidate), Some(victim)) => (candidate, victim),
                (Some(slot), None) | (None, Some(slot)) => return slot,
                (None, None) => unreachable!("a full miniature holds entries"),
            };
            if self.slru.len(Segment::Window) < self.window {
                return victim;
            }
            let admitted = match self.configuration.admission {
                Admission::Frequency => {
                    let seen = |slot: Slot| sketch.estimate(self.hashes[slot.index()]);
                    outweighs(seen(candidate), seen(victim), false)
                }
                Admission::Ghosts(_) => self.slru.hits(candidate) >= 2,
            };
            if !admitted {
                return candidate;
            }
            self.slru.relocate(candidate, Segment::Probation);
        }
    }

    fn try_clone(&self) -> Result<Self, OutOfMemory> {
        let mut index = HashTable::new();
        index.try_reserve(self.index.capacity(), |_| 0)?;
        let hash = |&slot: &Slot| self.hashes[slot.index()];
        self.index.iter().for_each(|slot| _ = index.insert_unique(hash(slot), *slot, hash));
        let mut hashes = copied(&self.hashes)?;
        hashes.try_reserve_exact(self.full - hashes.len())?;
        let mut slru = self.slru.try_clone()?;
        slru.try_reserve(Slot::new(self.full - 1))?;
        Ok(Self { slru, ghosts: self.ghosts.try_clone()?, index, hashes, ..*self })
    }

    fn allocated_bytes(&self) -> usize {
        self.slru.allocated_bytes()
            + self.ghosts.allocated_bytes()
            + self.index.allocation_size()
            + self.hashes.capacity() * size_of::<u64>()
    }
}

/// The miniatures and their scores.
///
/// A simulated request takes several times as long as the request itself, so the tuner simulates on credit.
/// It has a fixed credit at first. Then a few misses earn the credit for one simulated request, since a miss
/// costs the user of the cache far more; hits earn next to nothing. Without credit, or without misses,
/// nothing is simulated: the miniatures rest.
#[derive(Debug)]
pub(super) struct Tuner {
    configurations: &'static [Configuration],
    full: usize,
    /// Made with the first entry: one for each configuration, and one that changes configuration as the cache does.
    miniatures: Vec<Miniature>,
    current: usize,
    /// A key is sampled if the lowest bits of its mixed hash are below this.
    sampled_below: u64,
    /// The same, or 0 while the miniatures rest.
    feeding_below: u64,
    /// Requests until the credit is settled.
    remaining: usize,
    between: usize,
    /// The requests that were sampled since then (`sampled`), and since the last decision (`undecided`).
    sampled: u32,
    undecided: u32,
    /// The last sampled key that was looked up and not found. If it is stored next, both are one request and
    /// count once.
    missed: Option<u64>,
    /// The recent sampled requests: older ones count less.
    lately: f64,
    in_the_long_run: f64,
    /// Sampled requests that may still be simulated.
    credit: usize,
    /// The misses since the credit was settled.
    misses: usize,
}

/// The bits of a hash by which keys are sampled; the sketch uses others.
const SAMPLING: u64 = (1 << 20) - 1;

/// The credit at the start, and the highest credit.
const MOST_CREDIT: usize = 1 << 16;

/// In the long run, one request may be simulated for this many misses,
const MISSES_PER_CREDIT: usize = 4;
/// and one for this many requests.
const REQUESTS_PER_CREDIT: usize = 64;

impl Tuner {
    pub(super) fn new(configurations: &'static [Configuration], full: usize) -> Self {
        let size = full.min(LARGEST_MINIATURE);
        let sampled_below = (size as u64 * (SAMPLING + 1)).div_ceil(full as u64);
        let between = full.max(LEAST_BETWEEN);
        Self {
            configurations,
            full: size,
            miniatures: Vec::new(),
            current: 0,
            sampled_below,
            feeding_below: 0,
            remaining: between,
            between,
            sampled: 0,
            undecided: 0,
            missed: None,
            lately: 0.0,
            in_the_long_run: 0.0,
            credit: MOST_CREDIT,
            misses: 0,
        }
    }

    /// Adapts the tuner to another size of the cache. The configuration stays. The scores stay if the
    /// miniatures keep their size.
    pub(super) fn resize(&mut self, full: usize) {
        let fresh = Self::new(self.configurations, full);
        if fresh.full != self.full {
            *self = Self { current: self.current, ..fresh };
            return;
        }
        self.sampled_below = fresh.sampled_below;
        self.feeding_below = if self.feeding_below > 0 { fresh.sampled_below } else { 0 };
        (self.between, self.remaining) = (fresh.between, fresh.between);
    }

    #[inline]
    pub(super) fn configuration(&self) -> Configuration {
        self.configurations[self.current]
    }

    /// Counts an entry that came in, and makes the miniatures at the first.
    #[inline]
    pub(super) fn insertion(&mut self) {
        self.misses += 1;
        if self.miniatures.is_empty() && self.begin().is_err() {
            // Without memory, nothing is simulated until there is some.
            self.miniatures.clear();
        }
    }

    #[cold]
    fn begin(&mut self) -> Result<(), OutOfMemory> {
        let most = self
            .configurations
            .iter()
            .map(|configuration| configuration.ghosts_of(self.full))
            .max()
            .unwrap_or(0);
        let constant = self
            .configurations
            .iter()
            .map(|&configuration| (configuration, configuration.ghosts_of(self.full)));
        let all = constant.chain([(self.configuration(), most)]);
        self.miniatures.try_reserve_exact(self.configurations.len() + 1)?;
        for (configuration, ghosts) in all {
            self.miniatures.push(Miniature::new(configuration, self.full, ghosts)?);
        }
        self.feeding_below = self.sampled_below;
        Ok(())
    }

    /// Counts a request. Returns whether the configuration may have changed. O(1), and next to nothing
    /// while the miniatures rest.
    #[inline(always)]
    pub(super) fn request(&mut self, mixed: u64, sketch: &Sketch) -> bool {
        self.remaining -= 1;
        if self.remaining == 0 {
            self.settle();
        }
        mixed & SAMPLING < self.feeding_below && self.simulate(mixed, sketch)
    }

    /// Returns whether the configuration changed.
    #[inline(never)]
    fn simulate(&mut self, mixed: u64, sketch: &Sketch) -> bool {
        let is_counted = self.missed.take() != Some(mixed);
        for miniature in &mut self.miniatures {
            let is_present =
                if is_counted { miniature.look_up(mixed) } else { miniature.find(mixed).is_some() };
            if !is_present {
                miniature.insert(mixed, sketch);
            }
        }
        self.sampled += 1;
        is_counted && self.decide()
    }

    /// Counts a key that was looked up and is not in the cache. It may be in a miniature. This counts as a
    /// request, as not every program stores the key afterwards. Returns whether the configuration changed.
    /// O(1).
    #[inline(always)]
    pub(super) fn miss(&mut self, mixed: u64) -> bool {
        mixed & SAMPLING < self.feeding_below && self.simulate_miss(mixed)
    }

    #[inline(never)]
    fn simulate_miss(&mut self, mixed: u64) -> bool {
        for miniature in &mut self.miniatures {
            miniature.look_up(mixed);
        }
        self.missed = Some(mixed);
        self.sampled += 1;
        self.decide()
    }

    /// Counts a sampled request, and decides after some of them. Returns whether the configuration changed.
    fn decide(&mut self) -> bool {
        self.undecided += 1;
        self.undecided == SAMPLED_BETWEEN && self.choose()
    }

    /// Settles the credit, and decides whether the miniatures are fed until it is settled again.
    #[cold]
    fn settle(&mut self) {
        self.remaining = self.between;
        let sampled = std::mem::take(&mut self.sampled);
        let misses = std::mem::take(&mut self.misses);
        let earned = misses / MISSES_PER_CREDIT + self.between / REQUESTS_PER_CREDIT;
        self.credit = (self.credit + earned).min(MOST_CREDIT).saturating_sub(sampled as usize);
        // About the number of requests that will be sampled until then.
        let expected = (self.between as u64).saturating_mul(self.sampled_below) / (SAMPLING + 1);
        let affordable = self.credit as u64 >= expected || expected <= earned as u64;
        self.feeding_below = if misses > 0 && affordable { self.sampled_below } else { 0 };
    }

    /// Takes the best configuration, and returns whether that is a change.
    fn choose(&mut self) -> bool {
        let sampled = std::mem::take(&mut self.undecided);
        self.lately = self.lately * KEPT + f64::from(sampled);
        self.in_the_long_run = self.in_the_long_run * KEPT_LONG + f64::from(sampled);
        for miniature in &mut self.miniatures {
            let hits = f64::from(std::mem::take(&mut miniature.hits));
            miniature.lately = miniature.lately * KEPT + hits;
            miniature.in_the_long_run = miniature.in_the_long_run * KEPT_LONG + hits;
        }
        let Some((changing, constant)) = self.miniatures.split_last_mut() else { return false };
        #[expect(clippy::cast_precision_loss, reason = "a miniature has few entries")]
        let cost = self.full as f64 * COST;
        // The best configuration; among equals the current one, then the first.
        let best = |score: fn(&Miniature) -> f64, sampled: f64| {
            let mut best = self.current;
            for (at, miniature) in constant.iter().enumerate() {
                if score(miniature) > score(&constant[best]) {
                    best = at;
                }
            }
            let ahead = score(&constant[best]) - score(&constant[self.current]);
            (best, ahead > cost.max(sampled * MARGIN))
        };
        let (steady, worth_it) = best(|miniature| miniature.in_the_long_run, self.in_the_long_run);
        let (best, worth_it) = if changing.in_the_long_run < constant[steady].in_the_long_run {
            (steady, worth_it)
        } else {
            best(|miniature| miniature.lately, self.lately)
        };
        if !worth_it {
            return false;
        }
        self.current = best;
        changing.change(self.configurations[best]);
        true
    }

    pub(super) fn allocated_bytes(&self) -> usize {
        self.miniatures.iter().map(Miniature::allocated_bytes).sum::<usize>()
            + self.miniatures.capacity() * size_of::<Miniature>()
    }
}

impl TryClone for Tuner {
    fn try_clone(&self) -> Result<Self, OutOfMemory> {
        let mut miniatures = Vec::new();
        miniatures.try_reserve_exact(self.miniatures.len())?;
        for miniature in &self.miniatures {
            miniatures.push(miniature.try_clone()?);
        }
        Ok(Self { miniatures, ..*self })
    }
}
