//! The operations of a writer on one key, under the lock.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use crate::evict::Found;
use crate::hold::{Budget, Fault, Held};
use crate::layout::{TAG_SHIFT, USE, USED, WAYS, head, named, tag_of};
use crate::lookup::{self, Seen};
use crate::record::{Content, HashedKey, LEASE_WORDS, MOST_TAGS, Tag, ValueRef, kind, mark_dead};
use crate::stall::{self, Point};

/// Why a call on a number changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotCounted {
    NotANumber,
    Overflow,
}

impl<'a> Held<'a> {
    /// The key's record, if it holds a value that reads return.
    #[inline]
    pub(crate) fn find_live(&self, key: &HashedKey<'_>) -> Result<Option<Found<'a>>, Fault> {
        Ok(self.find(key)?.filter(|found| self.is_live(&found.record)))
    }

    /// Stores a record and replaces whatever the key has. Returns whether it replaced a live value.
    #[inline(never)]
    pub(crate) fn store(&mut self, key: &HashedKey<'_>, content: &Content<'_>) -> Result<bool, Fault> {
        self.store_inlined(key, content)
    }

    /// The same, inlined into its caller, for the fastest put.
    #[inline(always)]
    pub(crate) fn store_inlined(
        &mut self,
        key: &HashedKey<'_>,
        content: &Content<'_>,
    ) -> Result<bool, Fault> {
        let words = content.words(&key.key);
        if words > self.segment.geometry().largest {
            return Err(Fault::TooLarge(words));
        }
        let is_lease = content.kind == kind::LEASE;
        let old = self.find(key)?;
        let replaces = old.is_some_and(|old| self.is_live(&old.record));
        let (slot, log, used) = match &old {
            Some(old) => (old.slot, named(old.word).0, old.word & USED),
            None => {
                let (slot, was_here) = self.choose(key.hash)?;
                (slot, usize::from(was_here), 0)
            }
        };
        // A lease goes to the main log, where it stays: log 0 is for keys that may never be requested again.
        let (log, used) = if content.lease.is_some() { (1, USED) } else { (log, used) };
        let log = if words * 4 > self.stripe.logs[log].len() { 1 } else { log };
        self.make_room(log, words, &mut Budget::new())?;
        let place = self.reserve(log, words)?;
        let to = self.stripe.from(log, place).and_then(|to| to.get(..words)).ok_or(Fault::Damaged)?;
        stall::at(Point::HalfWritten);
        content.write(key, to);
        let replaced_record = match &old {
            Some(old) => self.forget_found(old)?,
            None => None,
        };
        if !is_lease {
            self.make_odd(key.hash);
        }
        self.publish(log, place, words, slot, tag_of(key.hash), used);
        replaced_record.map(mark_dead);
        self.add_to_sums(log, words, is_lease, content.lease.is_some());
        Ok(replaces)
    }

    /// Removes whatever the key has. Returns whether it removed a live value.
    ///
    /// The version word advances even if there is no entry, since other caches may still have copies.
    pub(crate) fn delete(&mut self, key: &HashedKey<'_>) -> Result<bool, Fault> {
        let found = self.find(key)?;
        self.make_odd(key.hash);
        let Some(found) = found else { return Ok(false) };
        let was_live = self.is_live(&found.record);
        self.remove(found.slot)?;
        Ok(was_live)
    }

    /// Gives a live value another deadline. Returns whether there was one.
    pub(crate) fn touch(&mut self, key: &HashedKey<'_>, deadline: u64) -> Result<bool, Fault> {
        let Some(found) = self.find_live(key)? else { return Ok(false) };
        self.make_odd(key.hash);
        found.record.deadline_word().store(deadline, Relaxed);
        self.note_use(&found);
        Ok(true)
    }

    /// Marks an entry as used, as a reader does.
    #[inline]
    pub(crate) fn note_use(&self, found: &Found<'_>) {
        if found.word & USED != USED {
            let slot = &self.stripe.slots()[found.slot];
            // If this fails, a reader has marked it.
            let _ = slot.compare_exchange(found.word, found.word + USE, Relaxed, Relaxed);
        }
    }

    /// Adds to the key's number in place, or stores `initial + by` with this deadline.
    pub(crate) fn increment(
        &mut self,
        key: &HashedKey<'_>,
        by: i64,
        initial: i64,
        deadline: u64,
    ) -> Result<Result<i64, NotCounted>, Fault> {
        if let Some(counted) = self.increment_present(key, by)? {
            return Ok(counted);
        }
        let Some(sum) = initial.checked_add(by) else { return Ok(Err(NotCounted::Overflow)) };
        self.store_word(key, kind::INTEGER, sum.cast_unsigned(), deadline)?;
        Ok(Ok(sum))
    }

    /// Adds to the key's number in place. `None` if the key has no value.
    #[inline]
    pub(crate) fn increment_present(
        &mut self,
        key: &HashedKey<'_>,
        by: i64,
    ) -> Result<Option<Result<i64, NotCounted>>, Fault> {
        let Some(found) = self.find_live(key)? else { return Ok(None) };
        let Some(word) = found.record.word_of_kind(kind::INTEGER) else {
            return Ok(Some(Err(NotCounted::NotANumber)));
        };
        let Some(sum) = word.load(Relaxed).cast_signed().checked_add(by) else {
            return Ok(Some(Err(NotCounted::Overflow)));
        };
        self.make_odd(key.hash);
        word.store(sum.cast_unsigned(), Relaxed);
        // The result of a computation that began before must not replace the sum.
        self.end_lease(&found);
        self.note_use(&found);
        Ok(Some(Ok(sum)))
    }

    /// Stores a value of one word.
    pub(crate) fn store_word(
        &mut self,
        key: &HashedKey<'_>,
        kind: u8,
        word: u64,
        deadline: u64,
    ) -> Result<bool, Fault> {
        self.store(key, &Content { kind, value: ValueRef::Word(word), deadline, tags: &[], lease: None })
    }

    /// Takes `cost` nanoseconds from a limiter, which allows calls to be at most `burst` nanoseconds ahead of
    /// the clock (the generic cell rate algorithm). Returns 0 if it was taken, or the nanoseconds after which
    /// it could be.
    pub(crate) fn limit(
        &mut self,
        key: &HashedKey<'_>,
        cost: u64,
        burst: u64,
    ) -> Result<Result<u64, NotCounted>, Fault> {
        let now = self.now.get();
        let found = self.find_live(key)?;
        let word = match &found {
            Some(found) => match found.record.word_of_kind(kind::LIMITER) {
                Some(word) => Some(word),
                None => return Ok(Err(NotCounted::NotANumber)),
            },
            None => None,
        };
        let used_up = word.map_or(now, |word| word.load(Relaxed).max(now));
        let next = used_up.saturating_add(cost);
        let latest = now.saturating_add(burst);
        if next > latest {
            return Ok(Ok(next - latest));
        }
        match (found, word) {
            (Some(found), Some(word)) => {
                word.store(next, Relaxed);
                // The state of the limiter means nothing once the clock has passed it, so it expires then.
                found.record.deadline_word().store(next, Relaxed);
                self.note_use(&found);
            }
            _ => {
                self.store_word(key, kind::LIMITER, next, next)?;
            }
        }
        Ok(Ok(0))
    }

    /// The key's record, if its value is still the one that was seen.
    fn find_seen(&self, key: &HashedKey<'_>, seen: &Seen) -> Result<Option<Found<'a>>, Fault> {
        let Some(found) = self.find_live(key)? else { return Ok(None) };
        let integer = found.record.word_of_kind(kind::INTEGER).map(|word| word.load(Relaxed));
        Ok((named(found.word) == (seen.log, seen.place) && integer == seen.integer).then_some(found))
    }

    /// Removes the key's value if it is still the one that was seen.
    pub(crate) fn delete_seen(&mut self, key: &HashedKey<'_>, seen: &Seen) -> Result<bool, Fault> {
        if self.find_seen(key, seen)?.is_none() {
            return Ok(false);
        }
        self.delete(key)
    }

    /// Stores a record if the key's value is still the one that was seen. The record gets the tags of that
    /// value.
    pub(crate) fn replace_seen(
        &mut self,
        key: &HashedKey<'_>,
        seen: &Seen,
        content: &Content<'_>,
    ) -> Result<bool, Fault> {
        let Some(found) = self.find_seen(key, seen)? else { return Ok(false) };
        let mut tags = [Tag(0); MOST_TAGS];
        let words = found.record.tags();
        for (tag, word) in tags.iter_mut().zip(words) {
            *tag = Tag(word.load(Relaxed));
        }
        let tags = tags.get(..words.len()).unwrap_or(&tags);
        self.store(key, &Content { tags, ..*content })?;
        Ok(true)
    }

    /// Copies a live value to `to`, and marks the entry as used. `None` if there is no value. As nothing may
    /// be allocated under the lock, the call fails with the number of words needed if the capacity of `to` is
    /// too small.
    pub(crate) fn copy_live(
        &mut self,
        key: &HashedKey<'_>,
        to: &mut Copied,
    ) -> Result<Option<Result<Found<'a>, usize>>, Fault> {
        let Some(found) = self.find_live(key)? else { return Ok(None) };
        let value = found.record.value();
        let words = value.words();
        if words.len() > to.words.capacity() {
            return Ok(Some(Err(words.len())));
        }
        to.words.clear();
        to.words.extend(words.iter().map(|word| AtomicU64::new(word.load(Relaxed))));
        to.kind = value.kind;
        to.bytes = value.len();
        to.seen = {
            let (log, place) = named(found.word);
            let integer = found.record.word_of_kind(kind::INTEGER).map(|word| word.load(Relaxed));
            Seen { log, place, deadline: found.record.deadline(), integer }
        };
        self.note_use(&found);
        Ok(Some(Ok(found)))
    }

    // Leases

    /// Takes the lease of a key that has no live value or, with `beside_value`, of one that has.
    pub(crate) fn lease(
        &mut self,
        key: &HashedKey<'_>,
        [owner, deadline]: [u64; 2],
        takes_over: Option<[u64; 2]>,
        beside_value: bool,
        tags: &[Tag],
    ) -> Result<Leasing, Fault> {
        let found = self.find(key)?;
        if let Some(found) = &found {
            if self.is_live(&found.record) && !beside_value {
                return Ok(Leasing::Value);
            }
            if let Some(lease) = found.record.lease()
                && self.is_leased(&found.record)
            {
                let [owner, number, deadline] = [0, 1, 2].map(|word| lease[word].load(Relaxed));
                if takes_over != Some([owner, number]) {
                    return Ok(Leasing::Taken { owner, number, deadline });
                }
            }
        }
        let number = self.load(head::LEASE_NUMBER).wrapping_add(1);
        self.stripe.head[head::LEASE_NUMBER].store(number, Relaxed);
        let lease = [owner, number, deadline];
        let value = found.filter(|found| self.is_live(&found.record));
        // Making room may evict the value. Then the lease gets a record of its own.
        let is_beside = value.map_or(Ok(false), |found| self.add_lease(&found, lease))?;
        if !is_beside {
            let lease = Some(lease);
            let content = Content { kind: kind::LEASE, value: ValueRef::Bytes(&[]), deadline, tags, lease };
            self.store(key, &content)?;
        }
        Ok(Leasing::Got { number })
    }

    /// Gives a record a lease: in its own words if it has had one before, otherwise by copying it to the main
    /// log's head. The value does not change, so its version stays. Returns false if there was no longer a
    /// value.
    fn add_lease(&mut self, found: &Found<'_>, lease: [u64; LEASE_WORDS]) -> Result<bool, Fault> {
        if let Some(words) = found.record.lease() {
            for (word, value) in words.iter().zip(lease) {
                word.store(value, Relaxed);
            }
            return Ok(true);
        }
        let words = found.record.len() + LEASE_WORDS;
        if words > self.segment.geometry().largest {
            return Err(Fault::TooLarge(words));
        }
        self.make_room(1, words, &mut Budget::new())?;
        // Making room may have moved the record, or evicted it.
        let word = self.stripe.slots()[found.slot].load(Relaxed);
        let (log, place) = named(word);
        if place < self.stripe.place(head::TAIL + log) {
            return Ok(false);
        }
        let record = self.record_at(log, place)?;
        let to = self.reserve(1, words)?;
        let copy = self.stripe.from(1, to).and_then(|copy| copy.get(..words)).ok_or(Fault::Damaged)?;
        record.copy_with_lease(lease, copy);
        self.take_from_sums(log, &record);
        self.publish(1, to, words, found.slot, word >> TAG_SHIFT, USED);
        self.add_to_sums(1, words, false, true);
        Ok(true)
    }

    /// Stores a record if the key still has the lease with this token.
    pub(crate) fn fill(
        &mut self,
        key: &HashedKey<'_>,
        token: [u64; 2],
        tags: &[Tag],
        content: &Content<'_>,
    ) -> Result<bool, Fault> {
        if !self.is_leased_as(key, token, tags)? {
            return Ok(false);
        }
        self.store(key, content)?;
        Ok(true)
    }

    /// Whether the key has the lease with this token and these tags, even if its deadline has passed.
    pub(crate) fn is_leased_as(
        &self,
        key: &HashedKey<'_>,
        token: [u64; 2],
        tags: &[Tag],
    ) -> Result<bool, Fault> {
        Ok(self.find(key)?.is_some_and(|found| has_lease(&found, token) && self.lease_holds(&found, tags)))
    }

    /// Whether neither a tag of the lease nor one of the value beside it was evicted. Otherwise other
    /// processes consider the lease ended.
    fn lease_holds(&self, found: &Found<'_>, tags: &[Tag]) -> bool {
        self.tags_hold(&found.record) && tags.iter().all(|&tag| lookup::is_current(tag, self.segment.tags()))
    }

    /// Whether the key has the lease with this token and its deadline has not passed.
    pub(crate) fn is_lease_running(&self, key: &HashedKey<'_>, token: [u64; 2]) -> Result<bool, Fault> {
        let found = self.find(key)?;
        Ok(found.is_some_and(|found| has_lease(&found, token) && self.is_leased(&found.record)))
    }

    /// Ends the lease with this token, or changes its deadline. Returns whether the lease still existed.
    pub(crate) fn set_lease(
        &mut self,
        key: &HashedKey<'_>,
        token: [u64; 2],
        tags: &[Tag],
        deadline: Option<u64>,
    ) -> Result<bool, Fault> {
        let Some(found) = self.find(key)? else { return Ok(false) };
        let Some(lease) = found.record.lease() else { return Ok(false) };
        if !has_lease(&found, token) {
            return Ok(false);
        }
        let is_pure = found.record.kind() == kind::LEASE;
        let holds = self.lease_holds(&found, tags);
        match deadline {
            Some(_) if !holds => {}
            Some(deadline) => {
                lease[2].store(deadline, Relaxed);
                if is_pure {
                    found.record.deadline_word().store(deadline, Relaxed);
                }
            }
            None if is_pure => {
                self.remove(found.slot)?;
            }
            None => self.end_lease(&found),
        }
        Ok(holds)
    }

    /// Ends the lease beside a value, if it has one.
    #[inline]
    fn end_lease(&mut self, found: &Found<'_>) {
        if let Some(lease) = found.record.lease() {
            // No owner has the number 0, and a deadline of 1 has passed.
            for (word, value) in lease.iter().zip([0, 0, 1]) {
                word.store(value, Relaxed);
            }
            self.wakes = true;
        }
    }

    // Everything

    /// Recounts the stripe. The error describes an inconsistency.
    pub(crate) fn check(&self) -> Result<(), String> {
        let stripe = &self.stripe;
        let mut live = [0; 2];
        let (mut entries, mut leases, mut leased_words) = (0, 0, 0);
        for (slot, word) in stripe.slots().iter().enumerate() {
            let word = word.load(Relaxed);
            let (log, place) = named(word);
            if place < stripe.place(head::TAIL + log) {
                continue;
            }
            let record = self.record_at(log, place).map_err(|_| format!("slot {slot} names no record"))?;
            if word >> TAG_SHIFT == 0 || !stripe.buckets(record.half_hash()).contains(&(slot / WAYS)) {
                return Err(format!("slot {slot} names a record of another hash"));
            }
            if record.is_dead() {
                return Err(format!("slot {slot} names a record that is marked dead"));
            }
            live[log] += record.len() as u64;
            *(if record.kind() == kind::LEASE { &mut leases } else { &mut entries }) += 1;
            leased_words += if record.is_leased() { record.len() as u64 } else { 0 };
        }
        let sums = [(head::LIVE, live[0]), (head::LIVE + 1, live[1]), (head::ENTRIES, entries)];
        for (word, counted) in sums.into_iter().chain([(head::LEASES, leases), (head::LEASED, leased_words)])
        {
            if self.load(word) != counted {
                return Err(format!(
                    "word {word} of the head is {} and should be {counted}",
                    self.load(word)
                ));
            }
        }
        for (log, live) in live.into_iter().enumerate() {
            let used = self.extent(log).map_err(|_| format!("log {log} has no extent"))?;
            if self.used[log] > 0 && used != self.used[log] {
                return Err(format!("{} words of log {log} are in use, not {used}", self.used[log]));
            }
            let (mut place, end) = (stripe.place(head::TAIL + log), stripe.place(head::HEAD + log));
            while place < end {
                let words = stripe.from(log, place).ok_or_else(|| format!("log {log} leaves itself"))?;
                let (_, length) =
                    Held::length_at(words).map_err(|_| format!("log {log} ends at {place} of {end}"))?;
                place = self.after(log, place, length);
            }
            if place != end || live > used as u64 {
                return Err(format!("log {log} does not end at its head"));
            }
        }
        if self.segment.versions(self.number()).iter().any(|version| version.load(Relaxed) & 1 == 1)
            && self.is_untouched()
        {
            return Err("a version word is odd, and nobody is writing".into());
        }
        Ok(())
    }
}

/// Whether the record's lease is this one.
fn has_lease(found: &Found<'_>, token: [u64; 2]) -> bool {
    found.record.lease().is_some_and(|lease| [0, 1].map(|word| lease[word].load(Relaxed)) == token)
}

/// The outcome of a request for a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leasing {
    Value,
    Got { number: u64 },
    Taken { owner: u64, number: u64, deadline: u64 },
}

/// A value that was copied under the lock.
#[derive(Default)]
pub(crate) struct Copied {
    pub(crate) words: Vec<AtomicU64>,
    pub(crate) kind: u8,
    pub(crate) bytes: usize,
    pub(crate) seen: Seen,
}
