//! Ghosts: the hashes of entries that were evicted lately, first in, first out.
//!
//! A table of fingerprints with linear probing, and beside each the tick at which it came in.
//! For each tick there is the number of ghosts of it that are still remembered, so that it is known
//! which tick is to be forgotten when there are too many. What is forgotten is not searched for:
//! every ghost that comes in sweeps a few places of the table, so that the table is swept many
//! times before a tick comes again. Up to [`TICKS`] ghosts, each has a tick to itself and the order is
//! exact.
//!
//! A fingerprint and a tick take six bytes and the table is four fifths full. Fingerprints have
//! 32 bits: one key in four thousand million is taken for a ghost that it is not, for each ghost
//! there is. Which ones, only the seed decides.

use super::seed::{Seed, place};

/// Places swept for each ghost that comes in.
const SWEPT: usize = 16;

/// About so many ticks for as many ghosts as are remembered.
const TICKS: usize = 500;

/// So many ghosts may be of one tick.
const MOST_OF_A_TICK: usize = u16::MAX as usize;

/// More are not remembered: ticks would come again too soon.
const LIMIT: usize = MOST_OF_A_TICK << 13;

#[derive(Clone, Debug)]
pub(super) struct Ghosts {
    seed: Seed,
    /// 0 where the place is vacant.
    prints: Box<[u32]>,
    ticks: Box<[u16]>,
    /// Ghosts remembered of each tick from `first` to `now`, in a ring.
    of_tick: Box<[u16]>,
    /// So many are remembered.
    most: usize,
    len: usize,
    /// The oldest tick of which ghosts are remembered.
    first: u16,
    now: u16,
    /// Ghosts that came in since the clock ticked.
    since_tick: usize,
    /// Ghosts between two ticks.
    period: usize,
    hand: usize,
}

impl Ghosts {
    /// Remembers `most` hashes. Memory is set aside when the first comes in.
    pub(super) fn new(most: usize, seed: u64) -> Self {
        let most = most.min(LIMIT);
        Self {
            seed: Seed::new(seed),
            prints: Box::default(),
            ticks: Box::default(),
            of_tick: Box::default(),
            most,
            len: 0,
            first: 0,
            now: 0,
            since_tick: 0,
            period: most.div_ceil(TICKS).clamp(1, MOST_OF_A_TICK),
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

    /// Whether ghosts of this tick are remembered no longer.
    #[inline]
    fn is_over(&self, tick: u16) -> bool {
        self.now.wrapping_sub(tick) > self.now.wrapping_sub(self.first)
    }

    #[inline]
    fn count_of(&mut self, tick: u16) -> &mut u16 {
        let at = usize::from(tick) % self.of_tick.len();
        &mut self.of_tick[at]
    }

    fn set_aside(&mut self) {
        let places = self.most + self.most / 4 + SWEPT;
        self.prints = vec![0; places].into();
        self.ticks = vec![0; places].into();
        // Twice as many as there are ticks of ghosts, for those of which few are left. The length
        // divides the values of a tick, so that none changes its place when they come again.
        let ring = (2 * (self.most / self.period + 1)).next_power_of_two();
        self.of_tick = vec![0; ring].into();
    }

    /// Remembers a hash, and forgets the oldest where there are too many. O(1).
    pub(super) fn remember(&mut self, hash: u64) {
        if self.most == 0 {
            return;
        }
        if self.prints.is_empty() {
            self.set_aside();
        }
        self.sweep();
        let print = self.print(hash);
        let at = self.find(print);
        if self.prints[at] != 0 && !self.is_over(self.ticks[at]) {
            return;
        }
        // The same print of a tick that is over is where it would be looked for, too.
        self.prints[at] = print;
        self.ticks[at] = self.now;
        *self.count_of(self.now) += 1;
        self.len += 1;
        while self.len > self.most {
            self.forget_first();
        }
        self.since_tick += 1;
        if self.since_tick == self.period {
            self.since_tick = 0;
            self.now = self.now.wrapping_add(1);
            if usize::from(self.now.wrapping_sub(self.first)) == self.of_tick.len() {
                self.forget_first();
            }
        }
    }

    fn forget_first(&mut self) {
        self.len -= usize::from(std::mem::take(self.count_of(self.first)));
        self.first = self.first.wrapping_add(1);
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
        let tick = self.ticks[at];
        let known = !self.is_over(tick);
        if known {
            *self.count_of(tick) -= 1;
            self.len -= 1;
        }
        self.vacate(at);
        known
    }

    fn sweep(&mut self) {
        for _ in 0..SWEPT {
            let at = self.hand;
            if self.prints[at] != 0 && self.is_over(self.ticks[at]) {
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
                self.ticks[gap] = self.ticks[at];
                gap = at;
            }
            at = self.following(at);
        }
        self.prints[gap] = 0;
    }

    pub(super) fn allocated_bytes(&self) -> usize {
        self.prints.len() * size_of::<u32>() + (self.ticks.len() + self.of_tick.len()) * size_of::<u16>()
    }

    /// Whether every fingerprint is where it is looked for, and the table as full as it may be.
    pub(super) fn check(&self) -> Result<(), String> {
        let present: Vec<_> = (0..self.prints.len()).filter(|&at| self.prints[at] != 0).collect();
        if let Some(lost) = present.iter().find(|&&at| self.find(self.prints[at]) != at) {
            return Err(format!("the ghost at place {lost} is not found"));
        }
        let remembered = present.iter().filter(|&&at| !self.is_over(self.ticks[at])).count();
        if remembered != self.len || self.len > self.most {
            return Err(format!("{remembered} ghosts, {} counted, at most {}", self.len, self.most));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same as a list; how often a hash was remembered.
    fn agree(most: usize, keys: u64, steps: u64) -> usize {
        let mut ghosts = Ghosts::new(most, 3);
        let mut model: Vec<u64> = Vec::new();
        let (mut state, mut recalled) = (1_u64, 0);
        for _ in 0..steps {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let key = (state >> 40) % keys;
            let at = model.iter().position(|&other| other == key);
            if (state >> 33) % 3 == 0 {
                assert_eq!(ghosts.recall(key), at.is_some(), "{key} of {most}");
                if let Some(at) = at {
                    model.remove(at);
                    recalled += 1;
                }
            } else {
                ghosts.remember(key);
                if at.is_none() {
                    model.push(key);
                }
                if model.len() > most {
                    model.remove(0);
                }
            }
        }
        assert_eq!(ghosts.check(), Ok(()));
        recalled
    }

    #[test]
    fn remembers_exactly_the_last() {
        for most in [1, 2, 7, 100, 500] {
            assert!(agree(most, 3 * most as u64, 20_000) > 1_000);
        }
    }

    #[test]
    fn ticks_come_round() {
        assert!(agree(100, 250, 300_000) > 10_000);
    }

    #[test]
    fn forgets_in_about_the_order_of_coming_in() {
        let mut ghosts = Ghosts::new(50_000, 1);
        (0..1_000_000).for_each(|hash| ghosts.remember(hash));
        assert_eq!(ghosts.check(), Ok(()));
        assert!((950_100..1_000_000).all(|hash| ghosts.recall(hash)));
        assert!(!(0..949_900).any(|hash| ghosts.recall(hash)));
    }

    #[test]
    fn takes_no_more_memory_than_promised() {
        let mut ghosts = Ghosts::new(10_000, 1);
        assert_eq!(ghosts.allocated_bytes(), 0);
        (0..100_000).for_each(|hash| ghosts.remember(hash));
        assert!(ghosts.allocated_bytes() <= 10_000 * 8);
        ghosts.resize(10);
        assert!(!ghosts.recall(99_999));
    }
}
