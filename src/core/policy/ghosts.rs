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
use crate::memory::{OutOfMemory, TryClone, copied, filled};

/// Places swept for each ghost that comes in.
const SWEPT: usize = 16;

/// About so many ticks for as many ghosts as are remembered.
const TICKS: usize = 500;

/// So many ghosts may be of one tick.
const MOST_OF_A_TICK: usize = u16::MAX as usize;

/// The first table is for so many.
const LEAST: usize = 64;

/// A table that could hold so many times as many ghosts as there may be is made anew.
const OUTGROWN: usize = 1 << 10;

/// More are not remembered: ticks would come again too soon.
const LIMIT: usize = MOST_OF_A_TICK << 13;

#[derive(Debug)]
pub(super) struct Ghosts {
    seed: Seed,
    /// 0 where the place is vacant.
    prints: Box<[u32]>,
    ticks: Box<[u16]>,
    /// Ghosts remembered of each tick from `first` to `now`, in a ring.
    of_tick: Box<[u16]>,
    /// So many are remembered at most.
    most: usize,
    /// So many the table has room for.
    capacity: usize,
    len: usize,
    /// The oldest tick of which ghosts are remembered.
    first: u16,
    now: u16,
    /// Ghosts that came in since the clock ticked.
    since_tick: usize,
    hand: usize,
}

impl Ghosts {
    /// Remembers at most `most` hashes. Memory grows with what is remembered.
    pub(super) fn new(most: usize, seed: u64) -> Self {
        let most = most.min(LIMIT);
        Self {
            seed: Seed::new(seed),
            prints: Box::default(),
            ticks: Box::default(),
            of_tick: Box::default(),
            most,
            capacity: 0,
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

    /// Ghosts between two ticks, where so many are remembered.
    #[inline]
    fn period(most: usize) -> usize {
        most.div_ceil(TICKS).clamp(1, MOST_OF_A_TICK)
    }

    /// Makes a table for so many ghosts, with those that are remembered in it.
    pub(super) fn try_grow(&mut self, capacity: usize) -> Result<(), OutOfMemory> {
        let capacity = capacity.min(self.most).max(self.len);
        let places = capacity + capacity / 4 + SWEPT;
        // Twice as many as there are ticks of ghosts, for those of which few are left. The length
        // divides the values of a tick, so that none changes its place when they come again.
        let ring = (2 * (self.most / Self::period(self.most) + 1)).next_power_of_two();
        let (prints, ticks) = (filled(0, places)?, filled(0, places)?);
        if self.of_tick.is_empty() {
            self.of_tick = filled(0, ring)?;
        }
        let prints = std::mem::replace(&mut self.prints, prints);
        let ticks = std::mem::replace(&mut self.ticks, ticks);
        self.capacity = capacity;
        self.hand = 0;
        for (&print, &tick) in prints.iter().zip(&ticks).filter(|&(&print, _)| print != 0) {
            if !self.is_over(tick) {
                let at = self.find(print);
                self.prints[at] = print;
                self.ticks[at] = tick;
            }
        }
        Ok(())
    }

    /// Remembers a hash, and forgets the oldest where there are more than `limit`, or than there is memory
    /// for. O(1), over many calls.
    pub(super) fn remember(&mut self, hash: u64, limit: usize) {
        let most = self.most.min(limit);
        if most == 0 {
            return;
        }
        if self.capacity / OUTGROWN > most.max(TICKS) {
            // Sweeping a table so large would take longer than ticks take to come again.
            *self = Self { seed: self.seed, ..Self::new(self.most, 0) };
        }
        if self.len >= self.capacity && self.capacity < most {
            // Without memory fewer are remembered.
            let _ = self.try_grow(self.capacity.saturating_mul(2).clamp(LEAST.min(most), most));
        }
        if self.prints.is_empty() {
            return;
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
        self.since_tick += 1;
        if self.since_tick >= Self::period(most) {
            self.begin_tick();
        }
        let most = most.min(self.capacity);
        while self.len > most {
            if self.first == self.now {
                self.begin_tick();
            }
            self.forget_first();
        }
    }

    fn begin_tick(&mut self) {
        self.since_tick = 0;
        self.now = self.now.wrapping_add(1);
        if usize::from(self.now.wrapping_sub(self.first)) == self.of_tick.len() {
            self.forget_first();
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

impl TryClone for Ghosts {
    fn try_clone(&self) -> Result<Self, OutOfMemory> {
        Ok(Self {
            prints: copied(&self.prints)?.into_boxed_slice(),
            ticks: copied(&self.ticks)?.into_boxed_slice(),
            of_tick: copied(&self.of_tick)?.into_boxed_slice(),
            ..*self
        })
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
                ghosts.remember(key, usize::MAX);
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
        (0..1_000_000).for_each(|hash| ghosts.remember(hash, usize::MAX));
        assert_eq!(ghosts.check(), Ok(()));
        assert!((950_100..1_000_000).all(|hash| ghosts.recall(hash)));
        assert!(!(0..949_900).any(|hash| ghosts.recall(hash)));
    }

    #[test]
    fn takes_no_more_memory_than_promised() {
        let mut ghosts = Ghosts::new(10_000, 1);
        assert_eq!(ghosts.allocated_bytes(), 0);
        (0..100_000).for_each(|hash| ghosts.remember(hash, usize::MAX));
        assert!(ghosts.allocated_bytes() <= 10_000 * 8);
        ghosts.resize(10);
        assert!(!ghosts.recall(99_999));
    }
}
