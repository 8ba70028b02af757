//! Reads, which take no lock and never wait. The top of `stripe.rs` explains why they are correct.

use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::sync::atomic::{AtomicU64, fence};

use crate::clock::Now;
use crate::error::Error;
use crate::layout::{TAG_SHIFT, USE, USED, head, named, tag_of};
use crate::record::{HashedKey, KEY, Record, Tag, Value, kind};
use crate::stripe::{Stripe, is_used};

/// The number of attempts before a read takes the lock.
const ROUNDS: u32 = 64;

/// The result of a read without a lock.
pub(crate) enum Looked {
    Hit(Seen),
    Miss,
    /// `make` failed.
    Failed,
    /// Writers interfered with every attempt.
    Unsettled,
    /// A record or a slot is intact but contradicts itself.
    Damaged,
}

/// The position of a value when it was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) log: usize,
    pub(crate) place: u64,
    pub(crate) deadline: u64,
    /// The number, if the value is an integer: that changes in place.
    pub(crate) integer: Option<u64>,
}

/// The outcome of one attempt.
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

/// The index of a tag's version in the table.
#[inline]
pub(crate) fn tag_index(word: u64) -> usize {
    (word >> 52) as usize
}

impl Stripe<'_> {
    /// Whether everything that was read at a place so far is what was stored there.
    #[inline(always)]
    fn is_intact(&self, log: usize, place: u64) -> bool {
        fence(Acquire);
        self.head[head::TAIL + log].load(Relaxed) <= place
    }

    /// Looks up a key's value and calls `make` with it. `make` may be called several times, and with
    /// arbitrary bytes if the value is overwritten meanwhile; after a hit, its last call got the right bytes.
    /// It returns false if it fails, which may only be for lack of memory, as another attempt would not help.
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

    /// [`Stripe::look`] with more attempts, and in all slots. It is a function of its own because a loop
    /// makes the compiler produce slower code.
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
            // The slot belongs to another key by now. If it was this key's before, the key was absent at some
            // moment of this call.
            return Attempt::NotHere;
        }
        let (log, place) = named(word);
        if self.tail(log) > place {
            // The entry was evicted, or it moved before the tail passed; then the slot names the new place.
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
        // An integer changes in place, so `make` gets a copy of the word that `Seen` has.
        let integer = record.word_of_kind(kind::INTEGER).map(|word| word.load(Relaxed));
        let copy = [AtomicU64::new(integer.unwrap_or(0))];
        let value =
            if integer.is_some() { Value::from_words(kind::INTEGER, &copy, 8) } else { record.value() };
        // The caller allocates by the length, so the tail is checked before it is trusted.
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
            // If this fails, the entry moved or was replaced, or another reader has marked it.
            let _ = slot.compare_exchange(word, word.wrapping_add(USE), Relaxed, Relaxed);
        }
        Attempt::Done(Looked::Hit(Seen { log, place, deadline, integer }))
    }

    /// The number of entries that were live until this version of a tag ended.
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
                    break; // Evicted: the slot no longer names a record.
                }
            }
        }
        count
    }

    /// Calls `visit` with the key of every entry. Each key is copied first, and then checked to be intact.
    ///
    /// A key that is present during the whole call is visited exactly once, since it keeps its slot.
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
                        break; // Damage. The next call that looks up this record repairs it.
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
