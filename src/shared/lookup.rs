//! Reads, which take no lock and wait for nobody. Why they are right is said at the top of `stripe.rs`.

use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::sync::atomic::{AtomicU64, fence};

use crate::clock::Now;
use crate::error::Error;
use crate::layout::{TAG_SHIFT, USE, USED, head, named, tag_of};
use crate::record::{HashedKey, KEY, Record, Tag, Value, kind};
use crate::stripe::{Stripe, is_used};

/// A read is tried so often before it asks for the lock.
const ROUNDS: u32 = 64;

/// What a read found.
pub(crate) enum Looked {
    Hit(Seen),
    Miss,
    /// Nothing could be made of the value.
    Failed,
    /// Writers were always faster.
    Unsettled,
    /// A record or a slot that is intact and yet makes no sense.
    Damaged,
}

/// Where a value was when it was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) log: usize,
    pub(crate) place: u64,
    pub(crate) deadline: u64,
    /// The word of an integer, which changes without moving.
    pub(crate) integer: Option<u64>,
}

/// What became of one attempt.
enum Attempt {
    Done(Looked),
    Again,
    NotHere,
}

/// Whether each tag of the record still has the version that the record was stored with.
#[inline(always)]
pub(crate) fn tags_hold(record: &Record<'_>, table: &[AtomicU64]) -> bool {
    record.tags().iter().all(|word| {
        let word = word.load(Relaxed);
        is_current(Tag(word), table)
    })
}

/// Whether a tag has the version that it had when it was read.
pub(crate) fn is_current(tag: Tag, table: &[AtomicU64]) -> bool {
    table
        .get(tag_index(tag.0))
        .is_some_and(|version| version.load(Acquire) & TAG_VERSION == tag.0 & TAG_VERSION)
}

/// The bits of a tag's word that are its version.
pub(crate) const TAG_VERSION: u64 = (1 << 52) - 1;

/// The place of a tag's version in the table.
#[inline]
pub(crate) fn tag_index(word: u64) -> usize {
    (word >> 52) as usize
}

impl Stripe<'_> {
    /// Whether what was read at a place so far was what was stored there.
    #[inline(always)]
    fn is_intact(&self, log: usize, place: u64) -> bool {
        fence(Acquire);
        self.head[head::TAIL + log].load(Relaxed) <= place
    }

    /// Looks for a key's value, and has `make` make something of it. `make` may be called several times, and on bytes that are
    /// nonsense; after a hit, what it made last is right. It returns false where it fails: only where no memory is left, which
    /// another attempt would not mend.
    #[inline(always)]
    pub(crate) fn look<'t>(
        &self,
        key: &HashedKey<'_>,
        tags: impl Fn() -> &'t [AtomicU64],
        now: &Now,
        make: &mut impl FnMut(Value<'_>) -> bool,
    ) -> Looked {
        let Some(slot) = self.candidate(key.hash) else { return Looked::Miss };
        match self.look_at(slot, key, &tags, now, make) {
            Attempt::Done(looked) => looked,
            _ => self.look_on(key, &tags, now, make),
        }
    }

    /// The same, again and in all slots. Apart, since the compiler makes what may be repeated slower.
    #[cold]
    #[inline(never)]
    fn look_on<'t>(
        &self,
        key: &HashedKey<'_>,
        tags: &dyn Fn() -> &'t [AtomicU64],
        now: &Now,
        make: &mut dyn FnMut(Value<'_>) -> bool,
    ) -> Looked {
        'rounds: for _ in 0..ROUNDS {
            let mut candidate = self.candidate(key.hash);
            while let Some(slot) = candidate {
                match self.look_at(slot, key, tags, now, make) {
                    Attempt::Done(looked) => return looked,
                    Attempt::Again => continue 'rounds,
                    Attempt::NotHere => candidate = self.next_candidate(key.hash, slot),
                }
            }
            return Looked::Miss;
        }
        Looked::Unsettled
    }

    #[inline(always)]
    fn look_at<'t>(
        &self,
        slot: usize,
        key: &HashedKey<'_>,
        tags: impl Fn() -> &'t [AtomicU64],
        now: &Now,
        make: &mut (impl FnMut(Value<'_>) -> bool + ?Sized),
    ) -> Attempt {
        let slot = &self.slots()[slot];
        let word = slot.load(Acquire);
        if word >> TAG_SHIFT != tag_of(key.hash) {
            // Another key has it by now. If this one was there, it was absent at a moment of this call.
            return Attempt::NotHere;
        }
        let (log, place) = named(word);
        if self.tail(log) > place {
            // Evicted, or moved before the tail passed: then the slot tells where to.
            let again = slot.load(Acquire);
            return if (again ^ word) & !USED == 0 { Attempt::NotHere } else { Attempt::Again };
        }
        let settled = |attempt| if self.is_intact(log, place) { attempt } else { Attempt::Again };
        let Some(words) = self.from(log, place) else { return settled(Attempt::Done(Looked::Damaged)) };
        let Some(key_word) = words.get(KEY) else { return settled(Attempt::Done(Looked::Damaged)) };
        if key_word.load(Relaxed) != key.word() {
            return settled(Attempt::NotHere);
        }
        let Some(record) = Record::read(words) else { return settled(Attempt::Done(Looked::Damaged)) };
        if !record.is_of(key) {
            return settled(Attempt::NotHere);
        }
        let deadline = record.deadline();
        if record.kind() == kind::LEASE
            || now.is_past(deadline)
            || !record.tags().is_empty() && !tags_hold(&record, tags())
        {
            return settled(Attempt::Done(Looked::Miss));
        }
        // An integer changes without moving: what the caller sees is what `Seen` says.
        let integer = record.word_of_kind(kind::INTEGER).map(|word| word.load(Relaxed));
        let copy = [AtomicU64::new(integer.unwrap_or(0))];
        let value =
            if integer.is_some() { Value::from_words(kind::INTEGER, &copy, 8) } else { record.value() };
        // A length is believed only after another look at the tail: the caller allocates by it.
        if value.len() > 64 && !self.is_intact(log, place) {
            return Attempt::Again;
        }
        if !make(value) {
            return Attempt::Done(Looked::Failed);
        }
        if !self.is_intact(log, place) {
            return Attempt::Again;
        }
        debug_assert!(is_used(word));
        if word & USED != USED {
            // A failure means that the entry moved or was replaced, or that others use it too.
            let _ = slot.compare_exchange(word, word.wrapping_add(USE), Relaxed, Relaxed);
        }
        Attempt::Done(Looked::Hit(Seen { log, place, deadline, integer }))
    }

    /// How many entries were live until this version of a tag ended.
    pub(crate) fn count_ended(&self, ended: Tag, tags: &[AtomicU64], now: &Now) -> u64 {
        let was_live = |record: &Record<'_>| {
            let mut has_it = false;
            let others_hold = record.tags().iter().all(|word| {
                let tag = Tag(word.load(Relaxed));
                has_it |= tag == ended;
                tag == ended || is_current(tag, tags)
            });
            has_it && others_hold && record.kind() != kind::LEASE && !now.is_past(record.deadline())
        };
        let mut count = 0;
        for slot in self.slots() {
            for _ in 0..ROUNDS {
                let word = slot.load(Acquire);
                let (log, place) = named(word);
                if !is_used(word) {
                    break;
                }
                let record = self.from(log, place).and_then(Record::read);
                let is_counted = record.is_some_and(|record| was_live(&record));
                if self.is_intact(log, place) {
                    count += u64::from(is_counted);
                    break;
                }
                if (slot.load(Acquire) ^ word) & !USED == 0 {
                    break; // Evicted: the slot names no record any more.
                }
            }
        }
        count
    }

    /// Calls `visit` with the key of every entry, each of which is copied before it is known to be intact.
    ///
    /// A key that is there all the time is visited exactly once, since it keeps its slot.
    pub(crate) fn keys(
        &self,
        tags: &[AtomicU64],
        now: &Now,
        copy: &mut Vec<u8>,
        visit: &mut impl FnMut(u8, &[u8]),
    ) -> Result<(), Error> {
        for slot in self.slots() {
            for _ in 0..ROUNDS {
                let word = slot.load(Acquire);
                let (log, place) = named(word);
                if !is_used(word) {
                    break;
                }
                if self.tail(log) > place {
                    if (slot.load(Acquire) ^ word) & !USED == 0 {
                        break;
                    }
                    continue;
                }
                let Some(record) = self.from(log, place).and_then(Record::read) else {
                    if self.is_intact(log, place) {
                        break; // Damage, which the next call that looks for this record repairs.
                    }
                    continue;
                };
                let is_live = record.kind() != kind::LEASE
                    && !now.is_past(record.deadline())
                    && tags_hold(&record, tags);
                let key = record.key();
                if !self.is_intact(log, place) {
                    continue;
                }
                if !is_live {
                    break;
                }
                copy.clear();
                key.append_to(copy)?;
                if self.is_intact(log, place) {
                    visit(key.kind, copy);
                    break;
                }
            }
        }
        Ok(())
    }
}
