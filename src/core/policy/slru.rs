//! A window of new entries before a segmented LRU (SLRU). All lists are in order of use. A hit moves an entry
//! from probation to the protected segment; when that is full, its coldest entry goes back to probation.

use crate::column::Column;
use crate::list::{Links, List};
use crate::memory::{OutOfMemory, TryClone};
use crate::slot::Slot;

/// Where an entry is, in the lowest bits of its mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    Window = 0,
    Probation = 1,
    Protected = 2,
}

const SEGMENT: u8 = 3;
/// The mark of a slot without an entry.
const ABSENT: u8 = 3;
/// What a hit in the window adds to a mark.
const HIT: u8 = 4;
/// Hits in the window are counted up to this number.
const MOST_HITS: u8 = 3;

#[derive(Debug)]
pub(super) struct Slru {
    links: Column<Links>,
    marks: Column<u8>,
    lists: [List; 3],
    lens: [usize; 3],
    /// All slots below this number have had an entry at some time.
    slots: usize,
}

impl Slru {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            links: Column::new(capacity),
            marks: Column::new(capacity),
            lists: [List::default(); 3],
            lens: [0; 3],
            slots: 0,
        }
    }

    /// Makes room for an entry at `slot`.
    #[inline]
    pub(super) fn try_reserve(&mut self, slot: Slot) -> Result<(), OutOfMemory> {
        self.links.try_reserve(slot)?;
        self.marks.try_reserve(slot)
    }

    #[inline(always)]
    pub(super) fn segment(&self, slot: Slot) -> Segment {
        match self.marks.get(slot) & SEGMENT {
            0 => Segment::Window,
            1 => Segment::Probation,
            _ => Segment::Protected,
        }
    }

    /// The number of hits since the entry came into the window.
    #[inline]
    pub(super) fn hits(&self, slot: Slot) -> u8 {
        self.marks.get(slot) / HIT
    }

    #[inline]
    pub(super) fn len(&self, segment: Segment) -> usize {
        self.lens[segment as usize]
    }

    #[inline]
    pub(super) fn total(&self) -> usize {
        self.lens.iter().sum()
    }

    /// The entry of a segment that was not used for the longest time.
    #[inline]
    pub(super) fn coldest(&self, segment: Segment) -> Option<Slot> {
        self.lists[segment as usize].front()
    }

    /// The entry of the main space that would be evicted first.
    #[inline]
    pub(super) fn coldest_of_main(&self) -> Option<Slot> {
        self.coldest(Segment::Probation).or_else(|| self.coldest(Segment::Protected))
    }

    /// A segment's entries, the one not used for the longest time first.
    pub(super) fn iter(&self, segment: Segment) -> impl Iterator<Item = Slot> + '_ {
        self.lists[segment as usize].iter(&self.links)
    }

    /// The entries of the main space, in the order in which they would be evicted.
    pub(super) fn main(&self) -> impl Iterator<Item = Slot> + '_ {
        self.iter(Segment::Probation).chain(self.iter(Segment::Protected))
    }

    /// The number of slots that have ever had an entry, at which a sweep wraps around.
    #[inline]
    pub(super) fn slots(&self) -> usize {
        self.slots
    }

    /// The entries among the next `slots` slots from `from` on, wrapping around at the end.
    pub(super) fn sweep(&self, from: usize, slots: usize) -> impl Iterator<Item = Slot> + '_ {
        let around = (from..self.slots).chain(0..from.min(self.slots));
        self.present(around.take(slots))
    }

    /// Those of the slots that have entries.
    pub(super) fn present(&self, slots: impl Iterator<Item = usize>) -> impl Iterator<Item = Slot> {
        slots.map(Slot::new).filter(|&slot| self.marks.get(slot) & SEGMENT != ABSENT)
    }

    #[inline]
    pub(super) fn push(&mut self, slot: Slot, segment: Segment) {
        self.slots = self.slots.max(slot.index() + 1);
        self.marks.set(slot, segment as u8);
        self.lists[segment as usize].push_back(&mut self.links, slot);
        self.lens[segment as usize] += 1;
    }

    #[inline]
    pub(super) fn remove(&mut self, slot: Slot) {
        self.take_out(slot);
        self.marks.set(slot, ABSENT);
    }

    #[inline(always)]
    fn take_out(&mut self, slot: Slot) {
        let segment = self.segment(slot) as usize;
        self.lists[segment].unlink(&mut self.links, slot);
        self.lens[segment] -= 1;
    }

    #[inline]
    pub(super) fn relocate(&mut self, slot: Slot, segment: Segment) {
        self.take_out(slot);
        self.push(slot, segment);
    }

    /// A new entry takes the slot of one in the window, and is the newest of the window.
    #[inline]
    pub(super) fn renew(&mut self, slot: Slot) {
        self.marks.set(slot, Segment::Window as u8);
        self.lists[Segment::Window as usize].move_to_back(&mut self.links, slot);
    }

    /// An entry is used. The protected segment holds at most `protected` entries.
    #[inline(always)]
    pub(super) fn access(&mut self, slot: Slot, protected: usize) {
        match self.segment(slot) {
            Segment::Window => {
                let mark = self.marks.get_mut(slot);
                *mark += if *mark / HIT < MOST_HITS { HIT } else { 0 };
                self.lists[Segment::Window as usize].move_to_back(&mut self.links, slot);
            }
            Segment::Probation => self.protect(slot, protected),
            Segment::Protected => {
                self.lists[Segment::Protected as usize].move_to_back(&mut self.links, slot);
            }
        }
    }

    #[inline(never)]
    fn protect(&mut self, slot: Slot, protected: usize) {
        let [_, probation, protection] = &mut self.lists;
        probation.unlink(&mut self.links, slot);
        protection.push_back(&mut self.links, slot);
        self.marks.set(slot, Segment::Protected as u8);
        let len = &mut self.lens[Segment::Protected as usize];
        if *len < protected {
            *len += 1;
            self.lens[Segment::Probation as usize] -= 1;
        } else if let Some(coldest) = protection.front() {
            // The entry takes the place of the coldest one.
            protection.unlink(&mut self.links, coldest);
            probation.push_back(&mut self.links, coldest);
            self.marks.set(coldest, Segment::Probation as u8);
        }
    }

    /// While a segment has more than `entries` entries, puts its coldest on probation, at most `at_once` of
    /// them.
    #[inline]
    pub(super) fn shrink(&mut self, segment: Segment, entries: usize, at_once: usize) {
        if self.len(segment) > entries {
            self.put_on_probation(segment, entries, at_once);
        }
    }

    #[inline(never)]
    fn put_on_probation(&mut self, segment: Segment, entries: usize, at_once: usize) {
        for _ in 0..at_once {
            if self.len(segment) <= entries {
                break;
            }
            let Some(coldest) = self.coldest(segment) else { break };
            self.relocate(coldest, Segment::Probation);
        }
    }

    pub(super) fn allocated_bytes(&self) -> usize {
        self.links.allocated_bytes() + self.marks.allocated_bytes()
    }

    pub(super) fn check(&self, len: usize) -> Result<(), String> {
        for segment in [Segment::Window, Segment::Probation, Segment::Protected] {
            let count = self.lists[segment as usize].count(&self.links, len);
            if count != Some(self.len(segment)) {
                return Err(format!("{segment:?} holds {count:?}, counted were {}", self.len(segment)));
            }
            if let Some(slot) = self.iter(segment).find(|&slot| self.segment(slot) != segment) {
                return Err(format!("{slot:?} is in the list of {segment:?}"));
            }
        }
        let total = self.total();
        if total == len { Ok(()) } else { Err(format!("the segments hold {total} of {len} entries")) }
    }
}

impl TryClone for Slru {
    fn try_clone(&self) -> Result<Self, OutOfMemory> {
        Ok(Self {
            links: self.links.try_clone()?,
            marks: self.marks.try_clone()?,
            lists: self.lists,
            lens: self.lens,
            slots: self.slots,
        })
    }
}
