//! S3-FIFO (Yang et al., SOSP 2023): three queues, all first in, first out. New entries enter the small
//! queue, a tenth of the cache. Those that are hit twice there go on to the main queue; the others are
//! evicted and remembered as ghosts. An entry that comes back while its ghost is remembered enters the main
//! queue. The main queue gives each entry another round for each hit, up to three.
//!
//! A hit only increments a counter. The length of a queue is its number of entries, whatever they weigh, so
//! no entry is too heavy for the small queue.

use super::ghosts::Ghosts;
use super::seed::Seed;
use super::{Entries, Policy};
use crate::column::Column;
use crate::list::{Links, List};
use crate::memory::{OutOfMemory, TryClone};
use crate::slot::Slot;

/// Hits are counted up to this number, in the lowest bits of an entry's mark.
const MOST_HITS: u8 = 3;
/// The bit of entries in the main queue.
const MAIN: u8 = 4;
/// Hits in the small queue that lead to the main one.
const PROMOTED: u8 = 2;
/// Without a bound, the ghosts are for this many entries at first.
const LEAST_GHOSTS: usize = 64;

/// Evicts entries that were not hit while they were new, then entries that were not hit since their last
/// round.
#[derive(Debug)]
pub struct S3Fifo {
    links: Column<Links>,
    marks: Column<u8>,
    small: List,
    main: List,
    small_len: usize,
    main_len: usize,
    seed: Seed,
    ghosts: Ghosts,
    /// The most entries there may be; `usize::MAX` for any number.
    bound: usize,
    /// Whether a victim was ever needed.
    was_full: bool,
}

impl S3Fifo {
    /// The number of entries when the cache is full, as far as that is known.
    #[inline]
    fn full(&self) -> usize {
        if self.bound == usize::MAX { self.small_len + self.main_len } else { self.bound }
    }

    #[inline]
    fn small_share(&self) -> usize {
        (self.full() / 10).max(1)
    }

    /// Whether the next victim comes from the main queue, once `more` entries have moved there from the small
    /// one.
    #[inline]
    fn main_is_over(&self, more: usize) -> bool {
        self.small_len == more || self.main_len + more > self.full() - self.small_share().min(self.full())
    }

    #[inline]
    fn push_main(&mut self, slot: Slot, hits: u8) {
        self.marks.set(slot, MAIN | hits);
        self.main.push_back(&mut self.links, slot);
        self.main_len += 1;
    }

    #[inline]
    fn push_small(&mut self, slot: Slot) {
        self.marks.set(slot, 0);
        self.small.push_back(&mut self.links, slot);
        self.small_len += 1;
    }

    #[inline]
    fn hits(&self, slot: Slot) -> u8 {
        self.marks.get(slot) & MOST_HITS
    }

    /// Remembers an entry that is evicted, if it comes from the small queue.
    #[inline]
    fn remember(&mut self, slot: Slot, hash: u64) {
        if self.marks.get(slot) & MAIN != 0 {
            return;
        }
        let full = self.full();
        if self.bound == usize::MAX && (full > 2 * self.ghosts.most() || full < self.ghosts.most() / 4) {
            self.ghosts.resize(full.max(LEAST_GHOSTS));
        }
        // Where weights limit the cache, it may hold far fewer entries than the bound, so the number present
        // decides how many ghosts to remember.
        let limit = if self.bound == usize::MAX { usize::MAX } else { self.small_len + self.main_len };
        self.ghosts.remember(self.seed.mix(hash), limit.max(LEAST_GHOSTS));
    }

    /// The entries of a queue that were hit from `least` to `most` times, in order.
    fn hit(&self, list: List, least: u8, most: u8) -> impl Iterator<Item = Slot> + '_ {
        list.iter(&self.links).filter(move |&slot| (least..=most).contains(&self.hits(slot)))
    }
}

impl Policy for S3Fifo {
    fn new(capacity: usize, seed: u64) -> Self {
        Self {
            links: Column::new(capacity),
            marks: Column::new(capacity),
            small: List::default(),
            main: List::default(),
            small_len: 0,
            main_len: 0,
            seed: Seed::new(seed),
            ghosts: Ghosts::new(LEAST_GHOSTS),
            bound: usize::MAX,
            was_full: false,
        }
    }

    #[inline]
    fn try_reserve(&mut self, slot: Slot, _entries: &impl Entries) -> Result<(), OutOfMemory> {
        self.links.try_reserve(slot)?;
        self.marks.try_reserve(slot)
    }

    fn set_bound(&mut self, entries: usize) {
        self.bound = entries;
        self.ghosts.resize(if entries == usize::MAX { LEAST_GHOSTS } else { entries - entries / 10 });
    }

    #[inline]
    fn on_insert(&mut self, slot: Slot, hash: u64) {
        // A cache that is not full yet fills its main queue, too.
        let fills = !self.was_full && self.small_len >= self.small_share();
        if self.ghosts.recall(self.seed.mix(hash)) || fills {
            self.push_main(slot, 0);
        } else {
            self.push_small(slot);
        }
    }

    #[inline(always)]
    fn on_access(&mut self, slot: Slot, _hash: u64) {
        let mark = self.marks.get_mut(slot);
        *mark += u8::from(*mark & MOST_HITS < MOST_HITS);
    }

    #[inline(always)]
    fn notices_access(&self, slot: Slot) -> bool {
        self.hits(slot) < MOST_HITS
    }

    fn accesses_commute(&self) -> bool {
        true
    }

    #[inline]
    fn on_remove(&mut self, slot: Slot) {
        if self.marks.get(slot) & MAIN == 0 {
            self.small.unlink(&mut self.links, slot);
            self.small_len -= 1;
        } else {
            self.main.unlink(&mut self.links, slot);
            self.main_len -= 1;
        }
    }

    #[inline]
    fn on_evict(&mut self, slot: Slot, hash: u64) {
        self.remember(slot, hash);
        self.on_remove(slot);
    }

    #[inline]
    fn on_reuse(&mut self, slot: Slot, evicted: u64, hash: u64) {
        self.remember(slot, evicted);
        let is_main = self.marks.get(slot) & MAIN != 0;
        // The cache was full, so only an entry with a ghost enters the main queue.
        match (is_main, self.ghosts.recall(self.seed.mix(hash))) {
            (false, false) => {
                self.marks.set(slot, 0);
                self.small.move_to_back(&mut self.links, slot);
            }
            (true, true) => {
                self.marks.set(slot, MAIN);
                self.main.move_to_back(&mut self.links, slot);
            }
            (_, is_known) => {
                self.on_remove(slot);
                if is_known { self.push_main(slot, 0) } else { self.push_small(slot) }
            }
        }
    }

    #[inline]
    fn victim(&mut self, _entries: &impl Entries) -> Option<Slot> {
        self.was_full = true;
        while !self.main_is_over(0) {
            let Some(slot) = self.small.front() else { break };
            if self.hits(slot) < PROMOTED {
                return Some(slot);
            }
            self.on_remove(slot);
            self.push_main(slot, 0);
        }
        while let Some(slot) = self.main.front() {
            let hits = self.hits(slot);
            if hits == 0 {
                return Some(slot);
            }
            self.marks.set(slot, MAIN | (hits - 1));
            self.main.move_to_back(&mut self.links, slot);
        }
        // The main queue was empty.
        self.small.front()
    }

    fn order(&self, _entries: impl Entries) -> impl Iterator<Item = Slot> {
        let promoted = self.small.iter(&self.links).take_while(|&slot| self.hits(slot) >= PROMOTED).count();
        let small_first = !self.main_is_over(promoted);
        let cold = |first: bool| {
            let list = if first == small_first { self.small } else { List::default() };
            self.hit(list, 0, PROMOTED - 1)
        };
        let by_rounds = (0..=MOST_HITS).flat_map(|hits| self.hit(self.main, hits, hits));
        let promoted = self.hit(self.small, PROMOTED, MOST_HITS);
        cold(true).chain(by_rounds).chain(promoted).chain(cold(false))
    }

    fn rank(&self, slot: Slot, _hash: u64) -> u64 {
        u64::from(self.marks.get(slot))
    }

    fn restore(&mut self, slot: Slot, _hash: u64, rank: u64) {
        #[expect(clippy::cast_possible_truncation, reason = "the bits that exist are kept")]
        let mark = rank as u8 & (MAIN | MOST_HITS);
        self.on_remove(slot);
        if mark & MAIN == 0 {
            self.marks.set(slot, mark);
            self.small.push_back(&mut self.links, slot);
            self.small_len += 1;
        } else {
            self.push_main(slot, mark & MOST_HITS);
        }
    }

    fn allocated_bytes(&self) -> usize {
        self.links.allocated_bytes() + self.marks.allocated_bytes() + self.ghosts.allocated_bytes()
    }

    fn check(&self, len: usize) -> Result<(), String> {
        for (list, expected, bit) in [(self.small, self.small_len, 0), (self.main, self.main_len, MAIN)] {
            let count = list.count(&self.links, len);
            if count != Some(expected) {
                return Err(format!("a queue holds {count:?}, counted were {expected}"));
            }
            if let Some(slot) = list.iter(&self.links).find(|&slot| self.marks.get(slot) & MAIN != bit) {
                return Err(format!("{slot:?} is in the wrong queue"));
            }
        }
        self.ghosts.check()?;
        let total = self.small_len + self.main_len;
        if total == len { Ok(()) } else { Err(format!("the queues hold {total} of {len} entries")) }
    }
}

impl TryClone for S3Fifo {
    fn try_clone(&self) -> Result<Self, OutOfMemory> {
        Ok(Self {
            links: self.links.try_clone()?,
            marks: self.marks.try_clone()?,
            seed: self.seed,
            ghosts: self.ghosts.try_clone()?,
            small: self.small,
            main: self.main,
            small_len: self.small_len,
            main_len: self.main_len,
            bound: self.bound,
            was_full: self.was_full,
        })
    }
}
