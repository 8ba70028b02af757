//! Makes room in the logs and finds slots in the index, and so decides which entries stay. The policy is
//! S3-FIFO over two logs.
//!
//! New keys go to log 0. When the tail of log 0 reaches an entry, the entry moves to the main log if it was
//! used, and is evicted otherwise. The slot of an evicted key remembers it, and a key that comes back while
//! it is remembered goes to the main log at once. When the tail of the main log reaches an entry that was
//! used, the entry moves to the head. Until the main log has been full once, all entries of log 0 move there.
//! While less than 7/8 of the main log is live, entries that were not used move to the head, too, so that
//! only dead records make room.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Relaxed, Release};

use crate::hold::{Budget, Fault, Held};
use crate::layout::{TAG_SHIFT, USE, USED, WAYS, head, named, tag_of};
use crate::lookup;
use crate::record::{DEAD, HashedKey, LEASE_WORDS, PAD, Record, kind, mark_dead};
use crate::stall::{self, Point};
use crate::stripe::is_used;

/// The most dead records that the tail passes in one step.
const DEAD_AT_ONCE: usize = 16;

/// The record of a key, and its position.
#[derive(Clone, Copy)]
pub(crate) struct Found<'a> {
    pub(crate) slot: usize,
    pub(crate) word: u64,
    pub(crate) record: Record<'a>,
}

impl<'a> Held<'a> {
    /// The record of a key, including expired ones and leases.
    #[inline(always)]
    pub(crate) fn find(&self, key: &HashedKey<'_>) -> Result<Option<Found<'a>>, Fault> {
        match self.stripe.candidate(key.hash) {
            None => Ok(None),
            Some(slot) => match self.found_at(slot, key)? {
                None => self.find_after(slot, key),
                found => Ok(found),
            },
        }
    }

    /// [`Held::find`], after a slot that another key has. It is a function of its own because a loop makes
    /// the compiler produce slower code.
    #[cold]
    #[inline(never)]
    fn find_after(&self, mut slot: usize, key: &HashedKey<'_>) -> Result<Option<Found<'a>>, Fault> {
        while let Some(next) = self.stripe.next_candidate(key.hash, slot) {
            if let Some(found) = self.found_at(next, key)? {
                return Ok(Some(found));
            }
            slot = next;
        }
        Ok(None)
    }

    /// The record that a slot names, if it belongs to the key.
    #[inline(always)]
    fn found_at(&self, slot: usize, key: &HashedKey<'_>) -> Result<Option<Found<'a>>, Fault> {
        let word = self.stripe.slots()[slot].load(Relaxed);
        let (log, place) = named(word);
        if place < self.stripe.place(head::TAIL + log) {
            return Ok(None);
        }
        let record = self.record_at(log, place)?;
        Ok(record.is_of(key).then_some(Found { slot, word, record }))
    }

    /// The record at a place that a slot names.
    #[inline]
    pub(crate) fn record_at(&self, log: usize, place: u64) -> Result<Record<'a>, Fault> {
        if place >= self.stripe.place(head::HEAD + log) {
            return Err(Fault::Damaged);
        }
        self.stripe.from(log, place).and_then(Record::read).ok_or(Fault::Damaged)
    }

    /// Whether the record holds a value that reads return.
    #[inline]
    pub(crate) fn is_live(&self, record: &Record<'_>) -> bool {
        record.kind() != kind::LEASE && !self.now.is_past(record.deadline()) && self.tags_hold(record)
    }

    /// Whether no tag of the record was evicted.
    #[inline(always)]
    pub(crate) fn tags_hold(&self, record: &Record<'_>) -> bool {
        record.tags().is_empty() || lookup::tags_hold(record, self.segment.tags())
    }

    /// Whether the record has a lease whose deadline has not passed.
    pub(crate) fn is_leased(&self, record: &Record<'_>) -> bool {
        record.lease().is_some_and(|lease| !self.now.is_past(lease[2].load(Relaxed)))
            && self.tags_hold(record)
    }

    /// Whether leases take no more of the main log than allowed, so that they are protected from eviction.
    fn protects_leases(&self) -> bool {
        self.load(head::LEASED) as usize <= self.stripe.logs[1].len() / 16
    }

    /// Adds a record to the sums.
    #[inline(always)]
    pub(crate) fn add_to_sums(&self, log: usize, words: usize, is_lease: bool, is_leased: bool) {
        self.count(head::LIVE + log, words as u64);
        self.count(if is_lease { head::LEASES } else { head::ENTRIES }, 1);
        if is_leased {
            self.count(head::LEASED, words as u64);
        }
    }

    /// Takes a record out of the sums.
    #[inline(always)]
    pub(crate) fn take_from_sums(&self, log: usize, record: &Record<'_>) {
        self.uncount(head::LIVE + log, record.len() as u64);
        self.uncount(if record.kind() == kind::LEASE { head::LEASES } else { head::ENTRIES }, 1);
        if record.is_leased() {
            self.uncount(head::LEASED, record.len() as u64);
        }
    }

    /// Takes a record out of the sums that was found earlier and may have been moved or evicted since.
    /// Returns its first word, which can be marked dead once no slot names it, or `None` if the record is
    /// gone.
    #[inline(always)]
    pub(crate) fn forget_found(&mut self, found: &Found<'a>) -> Result<Option<&'a AtomicU64>, Fault> {
        let (log, place) = named(found.word);
        let is_same = (self.stripe.slots()[found.slot].load(Relaxed) ^ found.word) & !USED == 0;
        if !is_same {
            return self.forget(found.slot);
        }
        if place < self.stripe.place(head::TAIL + log) {
            return Ok(None);
        }
        self.wakes |= found.record.is_leased();
        self.take_from_sums(log, &found.record);
        Ok(Some(found.record.meta_word()))
    }

    /// The same for the record that a slot still names.
    pub(crate) fn forget(&mut self, slot: usize) -> Result<Option<&'a AtomicU64>, Fault> {
        let (log, place) = named(self.stripe.slots()[slot].load(Relaxed));
        if place < self.stripe.place(head::TAIL + log) {
            return Ok(None);
        }
        let record = self.record_at(log, place)?;
        self.wakes |= record.is_leased();
        self.take_from_sums(log, &record);
        Ok(Some(record.meta_word()))
    }

    /// Removes the record that a slot still names.
    pub(crate) fn remove(&mut self, slot: usize) -> Result<(), Fault> {
        let meta = self.forget(slot)?;
        self.stripe.slots()[slot].store(0, Release);
        meta.map(mark_dead);
        Ok(())
    }

    /// Evicts until `words` words fit at the head. The largest record must fit besides, so that records can
    /// be moved.
    #[inline]
    pub(crate) fn make_room(&mut self, log: usize, words: usize, budget: &mut Budget) -> Result<(), Fault> {
        let size = self.stripe.logs[log].len();
        self.used[log] = self.extent(log)?;
        let largest = self.load(head::LARGEST + log).max(self.load(head::LARGEST_BEFORE + log));
        let spare = usize::try_from(largest).unwrap_or(size).max(words).min(size / 8);
        loop {
            let used = self.used[log];
            if used == 0 || used + words + spare + self.pad_before(log, words) <= size {
                return Ok(());
            }
            self.advance(log, budget)?;
        }
    }

    /// Moves the tail past one record, which is moved to the main log's head or evicted, or past several dead
    /// ones.
    #[inline(never)]
    fn advance(&mut self, log: usize, budget: &mut Budget) -> Result<(), Fault> {
        let place = self.stripe.place(head::TAIL + log);
        let words = self.stripe.from(log, place).ok_or(Fault::Damaged)?;
        let (meta, length) = Held::length_at(words)?;
        if meta & (PAD | DEAD) != 0 {
            return self.pass_dead(log, place, length);
        }
        let record = Record::read(words).ok_or(Fault::Damaged)?;
        if let Some(slot) = self.stripe.slot_of(record.half_hash(), log, place) {
            let used = self.stripe.slots()[slot].load(Relaxed) & USED;
            if !(self.is_worth_keeping(log, &record, used)? && self.keep(log, &record, slot, used, budget)?) {
                self.wakes |= record.is_leased();
                self.take_from_sums(log, &record);
                self.count(head::EVICTED, 1);
            }
        }
        self.pass_tail(log, place, length)
    }

    /// Moves the tail past the dead record or pad at the tail, and past those that follow, which frees room
    /// for later calls without a loss.
    fn pass_dead(&mut self, log: usize, place: u64, length: usize) -> Result<(), Fault> {
        let (mut end, mut passed) = (self.after(log, place, length), length);
        for _ in 1..DEAD_AT_ONCE {
            if passed >= self.used[log] {
                break;
            }
            let (meta, length) = Held::length_at(self.stripe.from(log, end).ok_or(Fault::Damaged)?)?;
            if meta & (PAD | DEAD) == 0 {
                break;
            }
            end = self.after(log, end, length);
            passed += length;
        }
        self.pass_to(log, end, passed)
    }

    fn is_worth_keeping(&self, log: usize, record: &Record<'_>, used: u64) -> Result<bool, Fault> {
        if self.is_leased(record) && self.protects_leases() {
            return Ok(true);
        }
        if !self.is_live(record) {
            return Ok(false);
        }
        let size = self.stripe.logs[1].len();
        let bound = (size * 7 / 8) as u64;
        let live = self.load(head::LIVE + 1);
        let words = record.len();
        Ok(used > 0
            || if log == 1 {
                live <= bound
            } else {
                live + words as u64 <= bound || self.fits(1, 2 * words)?
            })
    }

    /// Copies a record to the main log's head. Returns false if there was no room, or if the budget is used
    /// up.
    fn keep(
        &mut self,
        log: usize,
        record: &Record<'_>,
        slot: usize,
        used: u64,
        budget: &mut Budget,
    ) -> Result<bool, Fault> {
        let words = record.len();
        if !budget.take(words) {
            self.count(head::FORCED, 1);
            return Ok(false);
        }
        if log == 0 {
            // This changes nothing in log 0.
            self.make_room(1, words, budget)?;
        }
        if !self.fits(1, words)? {
            self.count(head::FORCED, 1);
            return Ok(false);
        }
        let place = self.reserve(1, words)?;
        let to = self.stripe.from(1, place).and_then(|to| to.get(..words)).ok_or(Fault::Damaged)?;
        let from = self.stripe.from(log, self.stripe.place(head::TAIL + log)).ok_or(Fault::Damaged)?;
        for (to, from) in to.iter().zip(from) {
            to.store(from.load(Relaxed), Relaxed);
        }
        // A move within the main log takes off one use; a move from log 0 takes off all.
        let left = if log == 1 { used.saturating_sub(USE) } else { 0 };
        self.publish(1, place, words, slot, self.stripe.slots()[slot].load(Relaxed) >> TAG_SHIFT, left);
        self.uncount(head::LIVE + log, words as u64);
        self.count(head::LIVE + 1, words as u64);
        self.count(if log == 0 { head::PROMOTED } else { head::MOVED }, 1);
        Ok(true)
    }

    /// Chooses a slot for a new key, in the bucket with more room: one that was never used, the one whose
    /// entry was evicted longest ago or, if both buckets are full, that of the oldest entry. Also returns
    /// whether the key was evicted from log 0 lately.
    pub(crate) fn choose(&mut self, hash: u64) -> Result<(usize, bool), Fault> {
        let tag = tag_of(hash);
        let mut was_here = false;
        // Usually there are no leases, and no record has to be read.
        let spares_leases = self.load(head::LEASED) > 0 && self.protects_leases();
        let mut best: Option<(Rank, usize)> = None;
        for bucket in self.stripe.buckets(hash) {
            let mut of_bucket: Option<((u8, u64), usize)> = None;
            let mut free = 0;
            for slot in bucket * WAYS..(bucket + 1) * WAYS {
                let word = self.stripe.slots()[slot].load(Relaxed);
                let (log, place) = named(word);
                let tail = self.stripe.place(head::TAIL + log);
                let rank = if !is_used(word) {
                    free += 1;
                    (4, 0)
                } else if place < tail {
                    free += 1;
                    was_here |= word >> TAG_SHIFT == tag && log == 0;
                    (3, tail - place)
                } else {
                    let age = self.stripe.place(head::HEAD + log).saturating_sub(place);
                    let is_spared = spares_leases && self.is_leased(&self.record_at(log, place)?);
                    (if is_spared { 0 } else { 1 + u8::from(word & USED == 0) }, age)
                };
                if of_bucket.is_none_or(|(highest, _)| rank > highest) {
                    of_bucket = Some((rank, slot));
                }
            }
            if let Some(((class, age), slot)) = of_bucket {
                let rank = Rank { class: class.min(3), free, age };
                if best.is_none_or(|(highest, _)| rank > highest) {
                    best = Some((rank, slot));
                }
            }
        }
        let (rank, slot) = best.ok_or(Fault::Damaged)?;
        if rank.class < 3 {
            self.remove(slot)?;
            self.count(head::CROWDED, 1);
            stall::at(Point::SlotTaken);
        }
        Ok((slot, was_here))
    }
}

/// How good a slot is for a new key. Slots are compared by the fields in their order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    class: u8,
    free: u32,
    age: u64,
}

const _: () = assert!(LEASE_WORDS == 3, "the deadline is the third word");
