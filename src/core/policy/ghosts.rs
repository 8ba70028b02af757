//! Ghosts: the hashes of entries that were evicted lately, in the order in which they were.
//!
//! A table of fingerprints with linear probing, beside each the time it came in, counted in
//! ghosts. A ghost is forgotten when as many others have come in since as may be remembered. What
//! is forgotten is not searched for: every ghost that comes in sweeps a few places of the table,
//! so that the table is swept many times before a time comes again. A fingerprint and a time
//! take six bytes and the table is four fifths full.
//!
//! Fingerprints have 32 bits. One in four thousand million keys is taken for a ghost that it is
//! not, for each ghost there is; that it cannot be foreseen is up to the seed.

use super::seed::{Seed, place};

/// Places swept for each ghost that comes in.
const SWEPT: usize = 16;

/// Values that a time can have; 0 is not one of them.
const TIMES: u16 = u16::MAX;

/// A ghost lives for at most so many ticks, so that none is older than the times can tell.
const TICKS: usize = 1 << 14;

#[derive(Clone, Debug)]
pub(super) struct Ghosts {
    seed: Seed,
    /// 0 where the place is vacant.
    prints: Box<[u32]>,
    times: Box<[u16]>,
    /// So many are remembered.
    most: usize,
    now: u16,
    /// Ghosts that came in since the clock ticked.
    since_tick: usize,
    /// Ghosts between two ticks.
    tick: usize,
    hand: usize,
}

impl Ghosts {
    /// Remembers `most` hashes. Memory is set aside when the first comes in.
    pub(super) fn new(most: usize, seed: u64) -> Self {
        Self {
            seed: Seed::new(seed),
            prints: Box::default(),
            times: Box::default(),
            most,
            now: 1,
            since_tick: 0,
            tick: most.div_ceil(TICKS).max(1),
            hand: 0,
        }
    }

    /// How many are remembered.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// Another number of hashes. Forgets all where that changes anything.
    pub(super) fn resize(&mut self, most: usize) {
        if most != self.most {
            *self = Self { seed: self.seed, ..Self::new(most, 0) };
        }
    }

    #[inline]
    fn print(&self, hash: u64) -> u32 {
        #[expect(clippy::cast_possible_truncation, reason = "the upper half is wanted")]
        let print = (self.seed.mix(hash) >> 32) as u32;
        print.max(1)
    }

    #[inline]
    fn home(&self, print: u32) -> usize {
        place(u64::from(print) << 32, self.prints.len())
    }

    #[inline]
    fn following(&self, at: usize) -> usize {
        if at + 1 == self.prints.len() { 0 } else { at + 1 }
    }

    /// Where the fingerprint is, or the vacancy where it would be.
    #[inline]
    fn find(&self, print: u32) -> usize {
        let mut at = self.home(print);
        while self.prints[at] != print && self.prints[at] != 0 {
            at = self.following(at);
        }
        at
    }

    /// Whether a ghost of this time is remembered no longer.
    #[inline]
    fn is_over(&self, time: u16) -> bool {
        let age = if self.now >= time { self.now - time } else { self.now + (TIMES - time) };
        usize::from(age) > self.most.div_ceil(self.tick)
    }

    /// Remembers a hash, and forgets the oldest where there are too many. O(1).
    pub(super) fn remember(&mut self, hash: u64) {
        if self.most == 0 {
            return;
        }
        if self.prints.is_empty() {
            let places = self.most + self.most / 4 + SWEPT;
            self.prints = vec![0; places].into();
            self.times = vec![0; places].into();
        }
        self.sweep();
        let print = self.print(hash);
        let at = self.find(print);
        self.prints[at] = print;
        self.times[at] = self.now;
        self.since_tick += 1;
        if self.since_tick == self.tick {
            self.since_tick = 0;
            self.now = if self.now == TIMES { 1 } else { self.now + 1 };
        }
    }

    /// Whether the hash is remembered; it is forgotten with this. O(1).
    pub(super) fn recall(&mut self, hash: u64) -> bool {
        if self.prints.is_empty() {
            return false;
        }
        let at = self.find(self.print(hash));
        if self.prints[at] == 0 {
            return false;
        }
        let known = !self.is_over(self.times[at]);
        self.vacate(at);
        known
    }

    fn sweep(&mut self) {
        for _ in 0..SWEPT {
            let at = self.hand;
            if self.prints[at] != 0 && self.is_over(self.times[at]) {
                // Another may have moved to this place: it is next.
                self.vacate(at);
            } else {
                self.hand = self.following(at);
            }
        }
    }

    /// Empties a place, and moves those behind it up that would not be found any more.
    fn vacate(&mut self, mut gap: usize) {
        let mut at = self.following(gap);
        while self.prints[at] != 0 {
            let home = self.home(self.prints[at]);
            // Whether the home lies outside of what is between the gap and here, in a circle.
            let movable = if gap <= at { home <= gap || home > at } else { home <= gap && home > at };
            if movable {
                self.prints[gap] = self.prints[at];
                self.times[gap] = self.times[at];
                gap = at;
            }
            at = self.following(at);
        }
        self.prints[gap] = 0;
    }

    pub(super) fn allocated_bytes(&self) -> usize {
        self.prints.len() * size_of::<u32>() + self.times.len() * size_of::<u16>()
    }

    /// Whether every fingerprint is where it is looked for, and the table as full as it may be.
    pub(super) fn check(&self) -> Result<(), String> {
        let present: Vec<_> = (0..self.prints.len()).filter(|&at| self.prints[at] != 0).collect();
        if let Some(lost) = present.iter().find(|&&at| self.find(self.prints[at]) != at) {
            return Err(format!("the ghost at place {lost} is not found"));
        }
        let remembered = present.iter().filter(|&&at| !self.is_over(self.times[at])).count();
        if remembered > self.most.next_multiple_of(self.tick) + self.tick {
            return Err(format!("{remembered} ghosts, where at most {} may be", self.most));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same as a list.
    fn agree(most: usize, keys: u64, steps: u64) {
        let mut ghosts = Ghosts::new(most, 3);
        let mut model: Vec<(u64, u64)> = Vec::new();
        let (mut state, mut inserted) = (1_u64, 0);
        for _ in 0..steps {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let key = (state >> 40) % keys;
            let at = model.iter().position(|&(other, _)| other == key);
            if state >> 63 == 0 {
                let known = at.is_some_and(|at| inserted - model.remove(at).1 <= most as u64);
                assert_eq!(ghosts.recall(key), known, "{key} of {most}");
            } else {
                if let Some(at) = at {
                    model.remove(at);
                }
                model.push((key, inserted));
                inserted += 1;
                ghosts.remember(key);
            }
        }
        assert_eq!(ghosts.check(), Ok(()));
    }

    #[test]
    fn remembers_exactly_the_last() {
        for most in [1, 2, 7, 100, 1000] {
            agree(most, 3 * most as u64, 20_000);
        }
    }

    #[test]
    fn times_come_round() {
        agree(100, 250, 300_000);
    }

    #[test]
    fn takes_no_more_memory_than_promised() {
        let mut ghosts = Ghosts::new(10_000, 1);
        assert_eq!(ghosts.allocated_bytes(), 0);
        (0..100_000).for_each(|hash| ghosts.remember(hash));
        assert!(ghosts.allocated_bytes() <= 10_000 * 15 / 2 + 100);
        ghosts.resize(10);
        assert!(!ghosts.recall(99_999));
    }
}
