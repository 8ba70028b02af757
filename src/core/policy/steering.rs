//! Steering by miniature simulations: the same cache many times smaller, once for each course that
//! could be taken, fed with the same small part of the keys. The course whose miniature has had
//! the most hits lately is taken.
//!
//! One miniature more changes course whenever the cache does. Where it falls behind the best of those
//! that do not, over five times as long, to change does not pay: what is best seems to change, as with
//! accesses that go to and fro, but each change costs more than it gains. Then the course that is the
//! best in the long run is taken.

use hashbrown::HashTable;

use super::ghosts::Ghosts;
use super::segments::{Segment, Segments};
use super::sketch::Sketch;
use crate::slot::Slot;

/// Who comes from the window into the main space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Who was seen more often than those who would have to leave.
    Frequency,
    /// Who was hit twice in the window, or comes back while its ghost is remembered: so many
    /// ghosts for ten entries.
    Ghosts(usize),
}

/// A way to run the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Course {
    /// The window's share, in thousandths of the entries.
    pub window: usize,
    pub admission: Admission,
}

impl Course {
    /// The entries of the window of a cache of so many.
    #[inline]
    pub(super) fn window_of(self, full: usize) -> usize {
        share(full, self.window, 1000).clamp(1, full.saturating_sub(1).max(1))
    }

    /// How many entries may be protected.
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

/// `part / of` of a number, without overflow.
#[inline]
fn share(full: usize, part: usize, of: usize) -> usize {
    full / of * part + full % of * part / of
}

/// Whether to let a candidate in that was seen so often, where the one to leave was so often. The
/// candidate was seen just now, which the other, in a loop, was about to be: among frequent entries
/// once more often is not enough.
#[inline]
pub(super) fn outweighs(candidate: u8, leaver: u8, lucky: bool) -> bool {
    candidate > leaver + leaver / 4 || (lucky && candidate >= WARM)
}

/// A candidate seen so often is let in by luck now and then, so that nobody can keep it out for
/// good by making others look warmer.
const WARM: u8 = 6;

/// The most entries of a miniature. Eight times as many steer no better.
const LARGEST_MINIATURE: usize = 128;
/// The least number of requests between two decisions.
const LEAST_BETWEEN: usize = 500;
/// What part of a score is kept from one decision to the next.
const KEPT: f64 = 0.9;
/// The same of a score in the long run.
const KEPT_LONG: f64 = 0.98;
/// By which part of the sampled requests a course must be ahead to be taken.
const MARGIN: f64 = 0.0025;
/// And by how many hits for each entry of a miniature: what there is on one course must be fetched
/// anew, in part, before another pays.
const COST: f64 = 0.2;

/// A miniature: the cache on one course, of hashes only.
#[derive(Clone, Debug)]
struct Miniature {
    course: Course,
    full: usize,
    window: usize,
    protected: usize,
    segments: Segments,
    ghosts: Ghosts,
    index: HashTable<Slot>,
    hashes: Vec<u64>,
    hits: u32,
    /// Hits, as far as they still count.
    lately: f64,
    in_the_long_run: f64,
}

impl Miniature {
    /// On this course, with so many ghosts.
    fn new(course: Course, full: usize, ghosts: usize, seed: u64) -> Self {
        Self {
            course,
            full,
            window: course.window_of(full),
            protected: course.protected_of(full),
            segments: Segments::new(full),
            ghosts: Ghosts::new(ghosts, seed),
            index: HashTable::with_capacity(full),
            hashes: Vec::with_capacity(full),
            hits: 0,
            lately: 0.0,
            in_the_long_run: 0.0,
        }
    }

    /// Changes course.
    fn follow(&mut self, course: Course) {
        self.course = course;
        self.window = course.window_of(self.full);
        self.protected = course.protected_of(self.full);
        self.segments.shrink(Segment::Protected, self.protected, self.full);
        self.segments.shrink(Segment::Window, self.window, self.full);
    }

    fn request(&mut self, mixed: u64, sketch: &Sketch) {
        let hashes = &self.hashes;
        if let Some(&slot) = self.index.find(mixed, |&slot| hashes[slot.index()] == mixed) {
            self.hits += 1;
            self.segments.access(slot, self.protected);
            return;
        }
        let slot = if self.hashes.len() < self.full {
            self.hashes.push(mixed);
            Slot::new(self.hashes.len() - 1)
        } else {
            let slot = self.victim(sketch);
            let gone = std::mem::replace(&mut self.hashes[slot.index()], mixed);
            if let Ok(entry) = self.index.find_entry(gone, |&other| other == slot) {
                entry.remove();
            }
            self.ghosts.remember(gone);
            self.segments.remove(slot);
            slot
        };
        let hashes = &self.hashes;
        self.index.insert_unique(mixed, slot, |&other| hashes[other.index()]);
        if self.ghosts.recall(mixed) && self.course.admission != Admission::Frequency {
            self.segments.push(slot, Segment::Probation);
            return;
        }
        self.segments.push(slot, Segment::Window);
        self.segments.shrink(Segment::Window, self.window, 1);
    }

    fn victim(&mut self, sketch: &Sketch) -> Slot {
        loop {
            let leaver = self.segments.main().next();
            let candidate = self.segments.coldest(Segment::Window);
            let (candidate, leaver) = match (candidate, leaver) {
                (Some(candidate), Some(leaver)) => (candidate, leaver),
                (Some(slot), None) | (None, Some(slot)) => return slot,
                (None, None) => unreachable!("a full miniature holds entries"),
            };
            if self.segments.len(Segment::Window) < self.window {
                return leaver;
            }
            let admitted = match self.course.admission {
                Admission::Frequency => {
                    let seen = |slot: Slot| sketch.estimate(self.hashes[slot.index()]);
                    outweighs(seen(candidate), seen(leaver), false)
                }
                Admission::Ghosts(_) => self.segments.hits(candidate) >= 2,
            };
            if !admitted {
                return candidate;
            }
            self.segments.relocate(candidate, Segment::Probation);
        }
    }

    fn allocated_bytes(&self) -> usize {
        self.segments.allocated_bytes()
            + self.ghosts.allocated_bytes()
            + self.index.allocation_size()
            + self.hashes.capacity() * size_of::<u64>()
    }
}

/// The miniatures and what they have found out.
///
/// For each request they are fed they cost several times what it costs the cache itself. So they are
/// fed as long as there is credit: a fixed amount to begin with, one request for some misses, which
/// cost whoever uses the cache far more than that, and next to nothing for hits. When it is used
/// up, or nothing is missed, they rest until it is worth their while again.
#[derive(Clone, Debug)]
pub(super) struct Steering {
    courses: &'static [Course],
    full: usize,
    seed: u64,
    /// Made with the first entry: one for each course, and one that changes course as the cache does.
    miniatures: Vec<Miniature>,
    current: usize,
    /// Keys are sampled whose mixed hash has its lowest bits below this.
    sampled_below: u64,
    /// The same, or 0 while the miniatures rest.
    feeding_below: u64,
    /// Requests until the next decision.
    remaining: usize,
    between: usize,
    sampled: u32,
    /// Sampled requests, as far as they still count.
    lately: f64,
    in_the_long_run: f64,
    /// Sampled requests that may still be simulated.
    credit: usize,
    /// What was missed since the last decision.
    misses: usize,
}

/// The bits of a hash by which keys are sampled; the sketch uses others.
const SAMPLING: u64 = (1 << 20) - 1;

/// Sampled requests that may be simulated before there was any other request; and the most there is
/// ever credit for.
const MOST_CREDIT: usize = 1 << 16;

/// In the long run, one request may be simulated for so many misses,
const MISSES_PER_CREDIT: usize = 4;
/// and one for so many requests.
const REQUESTS_PER_CREDIT: usize = 64;

impl Steering {
    pub(super) fn new(courses: &'static [Course], full: usize, seed: u64) -> Self {
        let size = full.min(LARGEST_MINIATURE);
        let sampled_below = (size as u64 * (SAMPLING + 1)).div_ceil(full as u64);
        let between = full.max(LEAST_BETWEEN);
        Self {
            courses,
            full: size,
            seed,
            miniatures: Vec::new(),
            current: 0,
            sampled_below,
            feeding_below: 0,
            remaining: between,
            between,
            sampled: 0,
            lately: 0.0,
            in_the_long_run: 0.0,
            credit: MOST_CREDIT,
            misses: 0,
        }
    }

    /// The cache has room for so many entries from now on. What was found out stays, where miniatures
    /// are as large as they were; and the course.
    pub(super) fn resize(&mut self, full: usize) {
        let fresh = Self::new(self.courses, full, self.seed);
        if fresh.full != self.full {
            *self = Self { current: self.current, ..fresh };
            return;
        }
        self.sampled_below = fresh.sampled_below;
        self.feeding_below = if self.feeding_below > 0 { fresh.sampled_below } else { 0 };
        (self.between, self.remaining) = (fresh.between, fresh.between);
    }

    #[inline]
    pub(super) fn course(&self) -> Course {
        self.courses[self.current]
    }

    /// Something was missed: there may be something to gain.
    #[inline]
    pub(super) fn miss(&mut self) {
        self.misses += 1;
        if self.miniatures.is_empty() {
            self.begin();
        }
    }

    #[cold]
    fn begin(&mut self) {
        let most = self.courses.iter().map(|course| course.ghosts_of(self.full)).max().unwrap_or(0);
        let constant = self.courses.iter().map(|&course| (course, course.ghosts_of(self.full)));
        let all = constant.chain([(self.course(), most)]);
        let made = |(at, (course, ghosts))| Miniature::new(course, self.full, ghosts, self.seed ^ at);
        self.miniatures = (0..).zip(all).map(made).collect();
        self.feeding_below = self.sampled_below;
    }

    /// A request was made; whether there may be another course now. O(1), and next to nothing
    /// while the miniatures rest.
    #[inline(always)]
    pub(super) fn request(&mut self, mixed: u64, sketch: &Sketch) -> bool {
        if mixed & SAMPLING < self.feeding_below {
            self.simulate(mixed, sketch);
        }
        self.remaining -= 1;
        self.remaining == 0 && self.decide()
    }

    #[inline(never)]
    fn simulate(&mut self, mixed: u64, sketch: &Sketch) {
        self.sampled += 1;
        for miniature in &mut self.miniatures {
            miniature.request(mixed, sketch);
        }
    }

    /// Takes the best course, and settles whether the miniatures are fed until the next decision.
    #[cold]
    fn decide(&mut self) -> bool {
        self.remaining = self.between;
        let sampled = std::mem::take(&mut self.sampled);
        let misses = std::mem::take(&mut self.misses);
        let earned = misses / MISSES_PER_CREDIT + self.between / REQUESTS_PER_CREDIT;
        self.credit = (self.credit + earned).min(MOST_CREDIT).saturating_sub(sampled as usize);
        let fed = self.feeding_below > 0;
        // About as many as the next requests will cost.
        let expected = (self.between as u64).saturating_mul(self.sampled_below) / (SAMPLING + 1);
        let affordable = self.credit as u64 >= expected || expected <= earned as u64;
        self.feeding_below = if misses > 0 && affordable { self.sampled_below } else { 0 };
        fed && self.choose(sampled)
    }

    fn choose(&mut self, sampled: u32) -> bool {
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
        // The first that nobody is ahead of, but the present one rather than any other.
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
        changing.follow(self.courses[best]);
        true
    }

    pub(super) fn allocated_bytes(&self) -> usize {
        self.miniatures.iter().map(Miniature::allocated_bytes).sum::<usize>()
            + self.miniatures.capacity() * size_of::<Miniature>()
    }
}
