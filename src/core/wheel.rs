//! A hierarchical timer wheel: setting, cancelling and expiring a deadline are O(1).
//!
//! Time is cut into ticks of about a millisecond. Level 0 has a list for each of the next 64 ticks, level 1
//! one for each of the next 64 spans of 64 ticks, and so on; a timer is on the level of the highest digit in
//! which its tick differs from the wheel's own, and moves down when the wheel gets there, at most once for
//! each level. One bit for each list says whether the list is empty, so the next timer is found quickly, and
//! a clock that jumps costs time only for the timers that it passes.
//!
//! Invariant: no timer has a tick before the wheel's. Timers of the current tick are compared by their exact
//! deadline.

use crate::clock::Nanos;
use crate::column::Column;
use crate::list::{Links, List};
use crate::memory::{OutOfMemory, TryBox, TryClone};
use crate::slot::Slot;

/// A tick is 2^20 nanoseconds.
const TICK_BITS: u32 = 20;
/// Each level has 2^6 lists.
const DIGIT_BITS: u32 = 6;
const DIGITS: usize = 1 << DIGIT_BITS;
/// Eight levels of six bits hold the 44 bits that a tick can have.
const LEVELS: usize = 8;

/// The lists of all levels.
type Lists = [[List; DIGITS]; LEVELS];

#[derive(Debug)]
pub(crate) struct Wheel {
    /// 0 where no timer is set. Apart from the links, since a read looks only at the deadline.
    deadlines: Column<Nanos>,
    links: Column<Links>,
    lists: TryBox<Lists>,
    occupied: [u64; LEVELS],
    /// All ticks before this one are done.
    tick: u64,
    len: usize,
}

impl Wheel {
    pub(crate) fn new(now: Nanos) -> Result<Self, OutOfMemory> {
        Ok(Self {
            deadlines: Column::new(0),
            links: Column::new(0),
            lists: TryBox::new([[List::default(); DIGITS]; LEVELS])?,
            occupied: [0; LEVELS],
            tick: now >> TICK_BITS,
            len: 0,
        })
    }

    /// Makes room for the deadline of `slot`.
    #[inline]
    pub(crate) fn try_reserve(&mut self, slot: Slot) -> Result<(), OutOfMemory> {
        // The place for the links is made first, so a place for the deadline implies one for the links.
        if self.deadlines.has_place(slot) { Ok(()) } else { self.try_reserve_places(slot) }
    }

    #[cold]
    fn try_reserve_places(&mut self, slot: Slot) -> Result<(), OutOfMemory> {
        self.links.try_reserve(slot)?;
        self.deadlines.try_reserve(slot)
    }

    /// The deadline of `slot`, if it has one. O(1).
    #[inline(always)]
    pub(crate) fn deadline(&self, slot: Slot) -> Option<Nanos> {
        let deadline = self.deadlines.get(slot);
        (deadline != 0).then_some(deadline)
    }

    /// Sets, moves or (with `None`) cancels the deadline of `slot`. O(1).
    pub(crate) fn set(&mut self, slot: Slot, deadline: Option<Nanos>) {
        let old = self.deadline(slot);
        if let Some(old) = old {
            self.unlink(slot, old);
        }
        if let Some(deadline) = deadline {
            let deadline = deadline.max(1);
            self.deadlines.set(slot, deadline);
            self.link(slot, deadline);
        } else if old.is_some() {
            self.deadlines.set(slot, 0);
        }
    }

    fn link(&mut self, slot: Slot, deadline: Nanos) {
        let (level, digit) = self.place(deadline);
        self.lists[level][digit].push_back(&mut self.links, slot);
        self.occupied[level] |= 1 << digit;
        self.len += 1;
    }

    fn unlink(&mut self, slot: Slot, deadline: Nanos) {
        let (level, digit) = self.place(deadline);
        self.lists[level][digit].unlink(&mut self.links, slot);
        if self.lists[level][digit].is_empty() {
            self.occupied[level] &= !(1 << digit);
        }
        self.len -= 1;
    }

    /// The list for a deadline, at the wheel's current tick. A timer that was set keeps its place until the
    /// wheel passes it: its tick and the wheel's differ in the same highest digit.
    fn place(&self, deadline: Nanos) -> (usize, usize) {
        let tick = (deadline >> TICK_BITS).max(self.tick);
        let differing = (tick ^ self.tick) | (DIGITS as u64 - 1);
        let level = differing.ilog2() / DIGIT_BITS;
        let digit = (tick >> (level * DIGIT_BITS)) & (DIGITS as u64 - 1);
        (level as usize, digit as usize)
    }

    /// The first list that is not empty, and the tick at which it begins.
    fn first(&self) -> Option<(usize, usize, u64)> {
        // A lower level lies wholly before a higher one.
        let level = self.occupied.iter().position(|&bits| bits != 0)?;
        let digit = self.occupied[level].trailing_zeros() as usize;
        let shift = u32::try_from(level).unwrap_or(0) * DIGIT_BITS;
        let above = self.tick >> (shift + DIGIT_BITS) << (shift + DIGIT_BITS);
        Some((level, digit, above | ((digit as u64) << shift)))
    }

    /// When to look for expired timers again: at the next deadline, or at the end of a tick if several timers
    /// share it, or when a far deadline moves down a level. O(1).
    pub(crate) fn next_event(&self) -> Option<Nanos> {
        let (level, digit, tick) = self.first()?;
        if level > 0 {
            return Some(tick << TICK_BITS);
        }
        let front = self.lists[level][digit].front()?;
        if List::next(&self.links, front).is_none() {
            return self.deadline(front);
        }
        Some((tick + 1) << TICK_BITS)
    }

    pub(crate) fn allocated_bytes(&self) -> usize {
        self.deadlines.allocated_bytes() + self.links.allocated_bytes() + size_of::<Lists>()
    }

    /// Recounts the timers.
    pub(crate) fn check(&self, slots: impl Iterator<Item = Slot>) -> Result<(), String> {
        let mut set = 0;
        for slot in slots {
            set += usize::from(self.deadline(slot).is_some());
        }
        let mut linked = 0;
        for (level, lists) in self.lists.iter().enumerate() {
            for (digit, list) in lists.iter().enumerate() {
                if (self.occupied[level] >> digit & 1 == 1) == list.is_empty() {
                    return Err(format!("the wheel's bit {level}.{digit} is wrong"));
                }
                linked += list
                    .count(&self.links, self.len)
                    .ok_or_else(|| format!("the wheel's list {level}.{digit} is broken"))?;
                let mut at = list.front();
                while let Some(slot) = at {
                    let deadline = self.deadline(slot).ok_or("a timer without a deadline")?;
                    if self.place(deadline) != (level, digit) {
                        return Err(format!("the timer of {slot:?} stands in {level}.{digit}"));
                    }
                    at = List::next(&self.links, slot);
                }
            }
        }
        if set == linked && linked == self.len {
            Ok(())
        } else {
            Err(format!("{set} timers set, {linked} linked, {} counted", self.len))
        }
    }

    /// A slot whose deadline has come, or `None`. The caller removes it with [`set`](Self::set).
    pub(crate) fn pop(&mut self, now: Nanos) -> Option<Slot> {
        let now_tick = now >> TICK_BITS;
        loop {
            let Some((level, digit, tick)) = self.first() else {
                self.tick = self.tick.max(now_tick);
                return None;
            };
            if tick > now_tick {
                // Every timer keeps its place: the highest digit in which its tick differs from the old tick
                // of the wheel is also the highest in which it differs from the new one.
                self.tick = self.tick.max(now_tick);
                return None;
            }
            if level == 0 {
                self.tick = self.tick.max(tick);
                if tick < now_tick {
                    return self.lists[0][digit].front();
                }
                return self.first_reached(digit, now);
            }
            self.cascade(level, digit, tick);
        }
    }

    fn first_reached(&self, digit: usize, now: Nanos) -> Option<Slot> {
        let mut at = self.lists[0][digit].front();
        while let Some(slot) = at {
            if self.deadlines.get(slot) <= now {
                return Some(slot);
            }
            at = List::next(&self.links, slot);
        }
        None
    }

    /// Spreads a list over the levels below it.
    fn cascade(&mut self, level: usize, digit: usize, tick: u64) {
        let list = std::mem::take(&mut self.lists[level][digit]);
        self.occupied[level] &= !(1 << digit);
        self.tick = tick;
        let mut at = list.front();
        while let Some(slot) = at {
            at = List::next(&self.links, slot);
            self.len -= 1;
            let deadline = self.deadlines.get(slot);
            self.link(slot, deadline);
        }
    }
}

impl TryClone for Wheel {
    fn try_clone(&self) -> Result<Self, OutOfMemory> {
        Ok(Self {
            deadlines: self.deadlines.try_clone()?,
            links: self.links.try_clone()?,
            lists: TryBox::new(*self.lists)?,
            occupied: self.occupied,
            tick: self.tick,
            len: self.len,
        })
    }
}
