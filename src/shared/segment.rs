//! An open segment: its stripes, their locks, and the repair of damage that is found under them.

use std::fs::File;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU64, fence};
use std::time::{Duration, Instant};

use rapidhash::v3::{RapidSecrets, rapidhash_v3_inline};

use crate::clock::{self, Now};
use crate::error::{Error, Result};
use crate::hold::{Fault, Held, next_even};
use crate::layout::{Geometry, TAGS, head, header, version_in};
use crate::lookup::{Looked, Seen};
use crate::mapping::Mapping;
use crate::open::Wanted;
use crate::prefetch::prefetch;
use crate::process::Process;
use crate::record::{HashedKey, Key, Value};
use crate::stripe::{Parts, Stripe};
use crate::system;
use crate::write::Copied;
use crate::writers_lock::{Acquired, Lock, NotAcquired, WritersLock};

/// Whether a call waits for a stripe's lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// The call does not wait. It fails with [`Error::Busy`] if it would have to wait for a lock or a file;
    /// nothing has changed then.
    Try,
    /// The call waits up to the cache's `lock_timeout`.
    Wait,
}

/// How often a thread tries the lock before it sleeps: about as long as another writer needs.
const SPINS: u32 = 100;
/// How long a thread that waits for a lock sleeps before it asks `goes_on` whether to continue.
const SLICE: Duration = Duration::from_millis(50);
/// The nanoseconds after a timeout during which this process does not wait for that stripe's lock.
const REFUSAL: u64 = 1_000_000_000;

/// Why an attempt to write did nothing.
enum Unwritten<E> {
    /// The lock was not acquired.
    NotAcquired(E),
    /// The segment is retired.
    Retired,
    /// The record has more words than any may.
    TooLarge(usize),
    /// There was damage, which has been repaired.
    Mended,
}

/// A segment that is mapped.
pub(crate) struct Segment {
    mapping: Mapping,
    geometry: Geometry,
    parts: Parts,
    secrets: RapidSecrets,
    lock_timeout: Duration,
    /// Whether a call that waits may go on.
    pub(crate) goes_on: fn() -> bool,
    /// For each stripe, until when a call does not wait for it.
    refused: Box<[AtomicU64]>,
    /// Keeps a shared lock on the file, which shows a clean-up that it is in use. `None` after [`Segment::leave`].
    file: Mutex<Option<File>>,
    /// Device and inode of the file.
    pub(crate) identity: (u64, u64),
}

/// The secrets of the hash function, made from the keys in a header.
pub(crate) fn secrets(keys: [u64; 2]) -> RapidSecrets {
    // Both keys are used: the secrets come from one, the seed from the other.
    RapidSecrets { seed: RapidSecrets::seed(keys[1]).seed, ..RapidSecrets::seed(keys[0]) }
}

/// The hash of some bytes under these secrets.
#[inline(always)]
pub(crate) fn hash(bytes: &[u8], secrets: &RapidSecrets) -> u64 {
    rapidhash_v3_inline::<true, false, true>(bytes, secrets)
}

impl Segment {
    pub(crate) fn new(
        mapping: Mapping,
        geometry: Geometry,
        wanted: &Wanted,
        file: File,
        identity: (u64, u64),
    ) -> Self {
        let keys = [header::KEY_0, header::KEY_1].map(|word| mapping.words()[word].load(Relaxed));
        let refused = (0..geometry.stripes).map(|_| AtomicU64::new(0)).collect();
        let parts = Parts::of(&geometry);
        mapping.set_heads(parts.heads(&geometry));
        Self {
            mapping,
            geometry,
            parts,
            secrets: secrets(keys),
            lock_timeout: wanted.lock_timeout,
            goes_on: wanted.goes_on,
            refused,
            file: Mutex::new(Some(file)),
            identity,
        }
    }

    #[inline(always)]
    pub(crate) fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    #[inline(always)]
    pub(crate) fn words(&self) -> &[AtomicU64] {
        self.mapping.words()
    }

    #[inline(always)]
    pub(crate) fn hashed<'k>(&self, key: &Key<'k>) -> HashedKey<'k> {
        HashedKey { key: Key { kind: key.kind, bytes: key.bytes }, hash: hash(key.bytes, &self.secrets) }
    }

    /// The hash of a tag's name.
    pub(crate) fn hash_of(&self, bytes: &[u8]) -> u64 {
        hash(bytes, &self.secrets)
    }

    /// Whether another file has replaced this one, or is about to.
    #[inline(always)]
    pub(crate) fn is_retired(&self) -> bool {
        self.words()[header::RETIRED].load(Acquire) != 0
    }

    /// Whether the file's pages were lost, so that what was read may not be what was stored: see
    /// [`Range::is_lost`](crate::lost_file::Range::is_lost).
    #[inline(always)]
    pub(crate) fn is_lost(&self) -> bool {
        self.mapping.is_lost()
    }

    /// Makes all processes leave the file. The next process that opens the name finishes this.
    pub(crate) fn retire(&self) {
        self.words()[header::RETIRED].store(1, Release);
    }

    /// Makes the segment no longer count as in use by this process. It stays mapped for calls that are
    /// running.
    pub(crate) fn leave(&self) {
        drop(self.file.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// The word that grows when a tag is evicted, and is odd meanwhile.
    #[inline(always)]
    pub(crate) fn generation(&self) -> &AtomicU64 {
        &self.words()[header::GENERATION]
    }

    /// The generation, unless a tag is being evicted at the moment.
    #[inline]
    pub(crate) fn steady_generation(&self) -> Option<u64> {
        let generation = self.generation().load(Acquire);
        if generation & 1 == 0 { Some(generation) } else { self.mended_generation() }
    }

    /// The generation, after it was found odd, perhaps because a process died during an eviction.
    #[cold]
    fn mended_generation(&self) -> Option<u64> {
        if let Ok(held) = self.hold(0, Patience::Try) {
            self.release(0, held);
        }
        let generation = self.generation().load(Acquire);
        (generation & 1 == 0).then_some(generation)
    }

    /// The versions of tags.
    #[inline(always)]
    pub(crate) fn tags(&self) -> &[AtomicU64] {
        let start = header::WORDS + self.geometry.versions;
        &self.words()[start..start + TAGS]
    }

    #[inline(always)]
    pub(crate) fn stripe(&self, number: usize) -> Stripe<'_> {
        Stripe::new(self.words(), &self.parts, number)
    }

    pub(crate) fn stripes(&self) -> impl Iterator<Item = Stripe<'_>> {
        (0..self.geometry.stripes).map(|number| self.stripe(number))
    }

    /// The version words of a stripe's keys.
    pub(crate) fn versions(&self, number: usize) -> &[AtomicU64] {
        let each = self.parts.versions;
        &self.words()[header::WORDS + number.wrapping_mul(each)..][..each]
    }

    /// The version word of a hash.
    #[inline(always)]
    pub(crate) fn version(&self, hash: u64) -> &AtomicU64 {
        &self.words()[header::WORDS.wrapping_add(self.geometry.version_of(hash))]
    }

    /// The same, if the number of the hash's stripe is known.
    #[inline(always)]
    pub(crate) fn version_in(&self, stripe: usize, hash: u64) -> &AtomicU64 {
        &self.words()[header::WORDS.wrapping_add(version_in(stripe, self.parts.versions, hash))]
    }

    /// The version of copies of a hash: the sum of its version word and the generation. Both only grow, so
    /// the sum changes if either does.
    #[inline(always)]
    pub(crate) fn version_now(&self, hash: u64) -> u64 {
        self.version(hash).load(Acquire).wrapping_add(self.generation().load(Acquire))
    }

    /// The version word with this index.
    #[inline(always)]
    pub(crate) fn version_at(&self, index: usize) -> Option<&AtomicU64> {
        (index < self.geometry.versions).then(|| &self.words()[header::WORDS + index])
    }

    #[inline(always)]
    fn acquire(&self, lock: Lock<'_>, number: usize, patience: Patience) -> Result<Acquired> {
        match lock.try_lock() {
            Ok(acquired) => Ok(acquired),
            Err(NotAcquired::Busy) => self.acquire_busy(number, patience),
            Err(NotAcquired::Unusable) => Err(self.abandon()),
        }
    }

    #[cold]
    fn acquire_busy(&self, number: usize, patience: Patience) -> Result<Acquired> {
        let lock = self.stripe(number).lock();
        for _ in 0..SPINS {
            match lock.try_lock() {
                Ok(acquired) => return Ok(acquired),
                Err(NotAcquired::Busy) => std::hint::spin_loop(),
                Err(NotAcquired::Unusable) => return Err(self.abandon()),
            }
        }
        if patience == Patience::Try {
            return Err(Error::Busy);
        }
        let holder = || Process::from_word(self.stripe(number).head[head::HOLDER].load(Relaxed));
        let refused = &self.refused[number];
        if refused.load(Relaxed) > clock::now() {
            return Err(Error::Timeout { waited: Duration::ZERO, holder: holder().and_then(Process::id) });
        }
        let started = Instant::now();
        let deadline =
            started.checked_add(self.lock_timeout).unwrap_or(started + Duration::from_secs(1 << 30));
        let acquired = loop {
            // Waits in slices, between which the caller may be interrupted, as it holds nothing then.
            match lock.lock_until(deadline.min(Instant::now() + SLICE)) {
                Err(NotAcquired::Busy) if Instant::now() < deadline => {
                    if !(self.goes_on)() {
                        return Err(Error::Interrupted);
                    }
                }
                acquired => break acquired,
            }
        };
        match acquired {
            Ok(acquired) => Ok(acquired),
            Err(NotAcquired::Unusable) => Err(self.abandon()),
            Err(NotAcquired::Busy) => {
                let holder = holder();
                if holder.is_some_and(|holder| !holder.is_alive()) {
                    // The lock cannot be recovered. It is never taken from its owner, which might still be
                    // running.
                    return Err(self.abandon());
                }
                refused.store(clock::now() + REFUSAL, Relaxed);
                Err(Error::Timeout { waited: started.elapsed(), holder: holder.and_then(Process::id) })
            }
        }
    }

    #[cold]
    fn abandon(&self) -> Error {
        self.retire();
        Error::Retired
    }

    /// Acquires a stripe's lock, and repairs what a dead owner left.
    pub(crate) fn hold(&self, number: usize, patience: Patience) -> Result<Held<'_>> {
        // The first call of this reads a file, which must not happen under the lock.
        let this = Process::this();
        let stripe = self.stripe(number);
        let acquired = self.acquire(stripe.lock(), number, patience)?;
        // The guard exists before anything else happens.
        let mut held = Held::new(self, stripe, number, acquired, this);
        if self.begin(number, &mut held) { Ok(held) } else { Err(Error::Retired) }
    }

    /// Completes the acquisition of a lock: repairs the damage of a dead owner. Returns false if the segment
    /// is retired.
    #[inline(always)]
    fn begin(&self, number: usize, held: &mut Held<'_>) -> bool {
        if self.is_retired() {
            held.abort();
            return false;
        }
        if held.recover().is_err() {
            self.retire();
            return false;
        }
        if number == 0 {
            let generation = self.generation().load(Relaxed);
            if generation & 1 == 1 {
                // The process that was evicting a tag died, and this thread has the lock now.
                self.generation().store(next_even(generation), Release);
            }
        }
        true
    }

    /// Releases a lock, and wakes waiters afterwards. Returns the version that was written.
    #[inline(always)]
    pub(crate) fn release(&self, number: usize, mut held: Held<'_>) -> Option<u64> {
        let (wakes, version) = held.finish();
        drop(held);
        if wakes {
            system::wake_all(&self.stripe(number).head[head::WAKE]);
        }
        version
    }

    /// Calls `act` under the lock of a hash's stripe, if the lock is free and no other obstacle exists. Also
    /// returns the version under which copies of the written value may be kept. Otherwise nothing has
    /// changed, except that damage is repaired, and the caller should call [`Segment::write`].
    ///
    /// This is the usual course of a write, separate from the unusual ones, which have loops and large errors
    /// that have to be moved.
    #[inline(always)]
    pub(crate) fn write_at_once<R>(
        &self,
        hash: u64,
        act: impl FnOnce(&mut Held<'_>) -> std::result::Result<R, Fault>,
    ) -> Option<(R, Option<u64>)> {
        let number = self.geometry.stripe_of(hash);
        let soon = |stripe: &Stripe<'_>| {
            stripe.prefetch(hash);
            prefetch(self.version_in(number, hash));
        };
        self.attempt(number, soon, WritersLock::try_lock, act).ok()
    }

    /// Calls `act` under the lock of a hash's stripe. Also returns the version under which copies of the
    /// written value may be kept. A damaged stripe is emptied, and `act` is called again.
    pub(crate) fn write<R>(
        &self,
        hash: u64,
        patience: Patience,
        act: impl FnMut(&mut Held<'_>) -> std::result::Result<R, Fault>,
    ) -> Result<(R, Option<u64>)> {
        self.write_stripe(self.geometry.stripe_of(hash), patience, act)
    }

    /// The same for a stripe by its number.
    pub(crate) fn write_stripe<R>(
        &self,
        number: usize,
        patience: Patience,
        mut act: impl FnMut(&mut Held<'_>) -> std::result::Result<R, Fault>,
    ) -> Result<(R, Option<u64>)> {
        for _ in 0..2 {
            match self.attempt(number, |_| (), |lock| self.acquire(lock, number, patience), &mut act) {
                Ok(written) => return Ok(written),
                Err(Unwritten::NotAcquired(error)) => return Err(error),
                Err(Unwritten::Retired) => return Err(Error::Retired),
                Err(Unwritten::TooLarge(words)) => {
                    return Err(Error::TooLarge { size: words * 8, limit: self.geometry.largest * 8 });
                }
                Err(Unwritten::Mended) => {}
            }
        }
        Err(Error::Damaged)
    }

    /// One attempt.
    ///
    /// The guard stays where it was made: moving it costs as much as the lock.
    #[inline(always)]
    fn attempt<'a, R, E>(
        &'a self,
        number: usize,
        about_to_write: impl FnOnce(&Stripe<'a>),
        acquire: impl FnOnce(Lock<'a>) -> std::result::Result<Acquired, E>,
        act: impl FnOnce(&mut Held<'_>) -> std::result::Result<R, Fault>,
    ) -> std::result::Result<(R, Option<u64>), Unwritten<E>> {
        // Read before the lock is taken, so that the eviction of a tag from now on invalidates the copies.
        let generation = self.steady_generation();
        let this = Process::this();
        let stripe = self.stripe(number);
        about_to_write(&stripe);
        let acquired = acquire(stripe.lock()).map_err(Unwritten::NotAcquired)?;
        let (result, wakes, version) = {
            let mut held = Held::new(self, stripe, number, acquired, this);
            if !self.begin(number, &mut held) {
                return Err(Unwritten::Retired);
            }
            let result = act(&mut held);
            // All loads of `act` come before the load of the mark.
            fence(Acquire);
            if self.is_lost() {
                held.abort();
                return Err(Unwritten::Retired);
            }
            let result = match result {
                Ok(result) => Ok(result),
                Err(fault) => Err(self.mend(&mut held, fault)),
            };
            #[cfg(feature = "strict")]
            if result.is_ok() {
                recount(&held);
            }
            let (wakes, version) = held.finish();
            (result, wakes, version)
        };
        if wakes {
            system::wake_all(&stripe.head[head::WAKE]);
        }
        let version = version.zip(generation).map(|(word, generation)| word.wrapping_add(generation));
        Ok((result?, version))
    }

    /// Handles a fault.
    #[cold]
    fn mend<E>(&self, held: &mut Held<'_>, fault: Fault) -> Unwritten<E> {
        let is_mended = match fault {
            Fault::TooLarge(words) => return Unwritten::TooLarge(words),
            Fault::Exhausted => false,
            Fault::Damaged => {
                held.count(head::DAMAGED, 1);
                let is_first = held.load(head::DAMAGED) <= 1;
                held.reset().is_ok() && is_first
            }
        };
        if is_mended {
            return Unwritten::Mended;
        }
        self.retire();
        Unwritten::Retired
    }

    /// Looks up a key's value without a lock, and calls `make` with it. See [`Stripe::look`].
    #[inline(always)]
    pub(crate) fn look(&self, key: &HashedKey<'_>, make: &mut impl FnMut(Value<'_>) -> bool) -> Looked {
        let now = Now::default();
        let looked = self.stripe(self.geometry.stripe_of(key.hash)).look(key, || self.tags(), &now, make);
        // Otherwise the tails in the memory of a lost file show it. A hit ended with an acquire fence.
        if !system::REPLACES_AT_ONCE && self.is_lost() { Looked::Unsettled } else { looked }
    }

    /// Reads a key's value without a lock, and returns the result of `make`.
    pub(crate) fn read<R>(
        &self,
        key: Key<'_>,
        mut make: impl FnMut(Value<'_>) -> Result<R>,
    ) -> Result<Option<(R, Seen)>> {
        let key = self.hashed(&key);
        let mut last = None;
        let looked = self.look(&key, &mut |value| last.insert(make(value)).is_ok());
        match (looked, last) {
            (Looked::Hit(seen), Some(Ok(result))) => Ok(Some((result, seen))),
            (Looked::Failed, Some(Err(error))) => Err(error),
            (Looked::Miss, _) => Ok(None),
            _ => self.read_locked(&key, make),
        }
    }

    /// [`Segment::read`] under the lock, which also empties a damaged stripe. If the lock is not free, this
    /// is a miss, as reads do not wait.
    #[cold]
    fn read_locked<R>(
        &self,
        key: &HashedKey<'_>,
        mut make: impl FnMut(Value<'_>) -> Result<R>,
    ) -> Result<Option<(R, Seen)>> {
        let mut copy = Copied::default();
        match self.copy_with(key, Patience::Try, &mut copy, |_, _| Ok(())) {
            Ok(true) => {}
            Ok(false) | Err(Error::Busy | Error::Damaged) => return Ok(None),
            Err(error) => return Err(error),
        }
        let result = make(Value::from_words(copy.kind, &copy.words, copy.bytes))?;
        Ok(Some((result, copy.seen)))
    }

    /// Copies a live value under the lock, and then calls `act` under it. Returns whether there was a value.
    pub(crate) fn copy_with(
        &self,
        key: &HashedKey<'_>,
        patience: Patience,
        copy: &mut Copied,
        mut then: impl FnMut(&mut Held<'_>, &HashedKey<'_>) -> std::result::Result<(), Fault>,
    ) -> Result<bool> {
        // The value may grow between two attempts, up to the largest possible size.
        loop {
            let (copied, _) = self.write(key.hash, patience, |held| {
                let copied = held.copy_live(key, copy)?;
                if let Some(Ok(_)) = copied {
                    then(held, key)?;
                }
                Ok(copied.map(|copied| copied.map(|_| ())))
            })?;
            match copied {
                None => return Ok(false),
                Some(Ok(())) => return Ok(true),
                Some(Err(words)) => {
                    copy.words.clear();
                    copy.words.try_reserve(words).map_err(|_| Error::OutOfMemory)?;
                }
            }
        }
    }

    /// Adds to the sums of hits and misses.
    pub(crate) fn count(&self, hits: u64, misses: u64) {
        self.words()[header::HITS].fetch_add(hits, AcqRel);
        self.words()[header::MISSES].fetch_add(misses, AcqRel);
    }
}

/// Compares a stripe with its sums: after every write if the stripe is small, and sometimes if it is large. A
/// difference is a bug of this crate, unless somebody damages the file.
#[cfg(feature = "strict")]
fn recount(held: &Held<'_>) {
    static WRITES: AtomicU64 = AtomicU64::new(0);
    let every = if held.stripe.slots().len() <= 8192 { 1 } else { 1009 };
    if WRITES.fetch_add(1, Relaxed).is_multiple_of(every)
        && let Err(difference) = held.check()
    {
        panic!("the recount of a stripe: {difference}");
    }
}
