//! A store in memory: keys with deadlines, limits on their number and their bytes, and transactions.
//!
//! Containers are behind `Arc`. A transaction shares a container with the store until it writes to it; then
//! it makes a copy. Each write gives its key a new number, by which a commit finds out whether anybody else
//! has written since.

mod space;
mod timed;

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroU64;
use std::sync::Arc;

use flexcache_core::policy::{Lru, Policy};
use flexcache_core::{self as core, Cause, Clock, EntryStore, HashCheck, Limits, Lookup, Nanos, New, Slot};
use rapidhash::v3::{RapidSecrets, rapidhash_v3_inline};

use self::space::Space;
use self::timed::Timed;
use crate::error::{Error, Result};
use crate::image::{ImageEntry, Never};
use crate::operation::{Cell, Op, Reply, Touch};
pub use crate::value::{Held, Value};
use crate::weight;

/// A value, its deadline, and the number of the write that stored it.
#[derive(Clone, Debug)]
struct Entry<V> {
    value: Value<V>,
    deadline: Option<Nanos>,
    version: u64,
}

/// A key in its namespace.
type FullKey = (Arc<[u8]>, Box<[u8]>);

#[inline]
fn is_key((other_namespace, other): &FullKey, namespace: &[u8], key: &[u8]) -> bool {
    **other == *key && **other_namespace == *namespace
}

/// All keys of all namespaces.
pub struct MemoryStore<V, P: Policy = Lru> {
    entries: EntryStore<FullKey, Entry<V>, P>,
    /// The secrets of the hash of keys.
    secrets: RapidSecrets,
    /// The number of the last write.
    version: u64,
    /// For each gate, the time at which it would let the next call through at its rate, in microseconds.
    gates: Timed<u64>,
    /// For each log, the calls that were let through: until when each counts, and its cost.
    logs: Timed<VecDeque<(u64, u64)>>,
    /// For each lease, its holder and its end.
    leases: Timed<(Cell, u64)>,
}

/// The reads and writes of a transaction.
#[derive(Clone, Debug)]
pub struct MemoryTransaction<V> {
    touched: HashMap<FullKey, Touched<V>>,
    /// What inner transactions that were rolled back have seen.
    seen: Vec<(FullKey, Seen)>,
}

/// The state of a key when a transaction first used it.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// The number of the last write; 0 if the key was absent.
    version: u64,
    /// When it expires: an expiry is not a write, but a commit must notice it.
    deadline: Option<Nanos>,
}

#[derive(Clone, Debug)]
struct Touched<V> {
    seen: Seen,
    entry: Option<Entry<V>>,
    is_changed: bool,
}

impl<V> Default for MemoryTransaction<V> {
    fn default() -> Self {
        Self { touched: HashMap::new(), seen: Vec::new() }
    }
}

impl<V> MemoryTransaction<V> {
    /// Remembers what an inner transaction has seen, which began as a copy of this one and is rolled back:
    /// the program's next steps may depend on that.
    pub fn roll_back_inner(&mut self, inner: Self) {
        self.seen.extend(inner.seen);
        let touched = &self.touched;
        let more = inner.touched.into_iter().filter(|(key, _)| !touched.contains_key(key));
        self.seen.extend(more.map(|(key, inner)| (key, inner.seen)));
    }
}

fn micros(nanos: Nanos) -> u64 {
    nanos / 1_000
}

fn nanos(micros: u64) -> Nanos {
    micros.saturating_mul(1_000)
}

/// The deadline of a key after a write.
#[expect(clippy::option_option, reason = "no key, or a key without a deadline")]
fn deadline_after(touch: Touch, old: Option<Option<Nanos>>, now: Nanos) -> Option<Nanos> {
    let after = |micros| Some(now.saturating_add(nanos(micros)));
    match (touch, old) {
        (Touch::Never, _) => None,
        (Touch::After(micros), _) | (Touch::AfterIfNew(micros), None) => after(micros),
        (Touch::Keep | Touch::AfterIfNew(_), old) => old.flatten(),
    }
}

/// Checks that one key is not heavier than the limit for all.
fn admits(limit: Option<NonZeroU64>, weight: u64) -> Result<()> {
    match limit {
        Some(most) if weight > most.get() => Err(Error::TooHeavy { bytes: weight, most: most.get() }),
        _ => Ok(()),
    }
}

/// The most expired entries that each write removes.
const EXPIRED_PER_WRITE: usize = 10;

impl<V: Held, P: Policy> MemoryStore<V, P> {
    /// An empty store. The weight of a key is about the number of bytes that it takes.
    #[must_use]
    pub fn new(limits: Limits, policy: P) -> Self {
        let seed = RandomState::new().hash_one(0_u8);
        Self {
            entries: EntryStore::with_policy(limits, seed, policy),
            secrets: RapidSecrets::seed(seed),
            version: 0,
            gates: Timed::default(),
            logs: Timed::default(),
            leases: Timed::default(),
        }
    }

    #[inline]
    fn hash(&self, namespace: &[u8], key: &[u8]) -> u64 {
        let hash = |bytes| rapidhash_v3_inline::<true, false, true>(bytes, &self.secrets);
        hash(key) ^ hash(namespace).rotate_left(32)
    }

    #[inline]
    fn find(&self, namespace: &[u8], key: &[u8]) -> (u64, Option<Slot>) {
        let hash = self.hash(namespace, key);
        let found =
            self.entries.find_by_key(hash, |full, _| Ok::<_, Infallible>(is_key(full, namespace, key)));
        match found {
            Ok(found) => (hash, found),
            Err(never) => match never {},
        }
    }

    fn live(&mut self, namespace: &[u8], key: &[u8], clock: &impl Clock) -> (u64, Option<Slot>) {
        let (hash, found) = self.find(namespace, key);
        (hash, self.entries.live(found, clock, &mut Vec::new()))
    }

    /// The weight of a key.
    fn weight(&self, key: &[u8], value: &Value<V>) -> u64 {
        match self.entries.limits().weight {
            Some(_) => weight::ENTRY + weight::bytes(key.len()) + value.bytes(),
            None => 1,
        }
    }

    /// Checks that a value can be stored once everything else is removed.
    fn admit(&self, key: &[u8], value: &Value<V>) -> Result<()> {
        admits(self.entries.limits().weight, self.weight(key, value))
    }

    fn put(&mut self, namespace: &Arc<[u8]>, key: &[u8], entry: Entry<V>, clock: &impl Clock) -> Result<()> {
        let (hash, found) = self.find(namespace, key);
        let (deadline, weight) = (entry.deadline, self.weight(key, &entry.value));
        let new = New { key: (Arc::clone(namespace), key.into()), value: entry, weight, deadline };
        match self.entries.put(found, hash, new, clock, &mut Vec::new()) {
            Ok(_) => Ok(()),
            Err((core::Error::TooHeavy { weight, limit }, _)) => {
                Err(Error::TooHeavy { bytes: weight, most: limit })
            }
            Err(_) => Err(Error::OutOfMemory),
        }
    }

    fn next_version(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    /// Looks up the value of a key, which counts as an access. Does not remove it where it has expired:
    /// [`remove_expired`](Self::remove_expired) does.
    pub fn get(&mut self, namespace: &[u8], key: &[u8], clock: &impl Clock) -> Lookup<'_, Value<V>> {
        let hash = self.hash(namespace, key);
        let eq = |full: &FullKey, _: HashCheck<'_>| Ok::<_, Infallible>(is_key(full, namespace, key));
        let is_live = |entries: &EntryStore<_, _, _>, slot| !entries.has_expired(slot, clock);
        match self.entries.hit_if(hash, eq, is_live, false) {
            Ok(Lookup::Hit(entry)) => Lookup::Hit(&entry.value),
            Ok(Lookup::NotServed) => Lookup::NotServed,
            Ok(Lookup::Absent) => Lookup::Absent,
            Err(never) => match never {},
        }
    }

    /// Removes a key if it has expired.
    pub fn remove_expired(&mut self, namespace: &[u8], key: &[u8], clock: &impl Clock) {
        self.live(namespace, key, clock);
    }

    /// Replaces the value of a key by one in the caller's form, and returns the old one. The key never
    /// expires.
    ///
    /// # Errors
    ///
    /// The new value, if there is no such key, or if there are deadlines or a limit of bytes, of which
    /// [`set_held`](Self::set_held) takes care. Nothing has changed then.
    pub fn replace_held(
        &mut self,
        namespace: &[u8],
        key: &[u8],
        held: V,
    ) -> std::result::Result<Value<V>, V> {
        if self.entries.has_deadlines() || self.entries.limits().weight.is_some() {
            return Err(held);
        }
        let (hash, Some(slot)) = self.find(namespace, key) else { return Err(held) };
        let version = self.next_version();
        let entry = Entry { value: Value::Held(held), deadline: None, version };
        Ok(self.entries.exchange(slot, hash, entry).value)
    }

    /// Stores a single value in the caller's form. It expires after `micros` microseconds; with `None`,
    /// never.
    ///
    /// # Errors
    ///
    /// [`Error::TooHeavy`] and [`Error::OutOfMemory`].
    pub fn set_held(
        &mut self,
        namespace: &Arc<[u8]>,
        key: &[u8],
        held: V,
        micros: Option<u64>,
        clock: &impl Clock,
    ) -> Result<()> {
        if self.entries.has_deadlines() {
            self.entries.expire(clock.now(), EXPIRED_PER_WRITE, &mut Vec::new());
        }
        let version = self.next_version();
        let deadline = micros.map(|micros| clock.now().saturating_add(nanos(micros)));
        self.put(namespace, key, Entry { value: Value::Held(held), deadline, version }, clock)
    }

    /// Runs an operation.
    ///
    /// # Errors
    ///
    /// [`Error`]; nothing has changed then.
    pub fn apply(&mut self, namespace: &Arc<[u8]>, op: &Op, clock: &impl Clock, wall: u64) -> Result<Reply> {
        if op.writes() {
            self.entries.expire(clock.now(), EXPIRED_PER_WRITE, &mut Vec::new());
        }
        Space { store: self, transaction: None, namespace, clock, wall }.apply(op)
    }

    /// Does what [`Op::Gate`] does.
    pub fn gate(
        &mut self,
        namespace: &Arc<[u8]>,
        name: &[u8],
        (interval, burst, cost): (u64, u64, u64),
        clock: &impl Clock,
    ) -> Reply {
        if self.entries.has_deadlines() {
            self.entries.expire(clock.now(), EXPIRED_PER_WRITE, &mut Vec::new());
        }
        // A gate uses neither entries nor the time of day.
        Space { store: self, transaction: None, namespace, clock, wall: 0 }.gate(name, interval, burst, cost)
    }

    /// Runs an operation in a transaction. The store shows nothing of it before the commit.
    ///
    /// # Errors
    ///
    /// [`Error`]; nothing has changed then.
    pub fn apply_in(
        &mut self,
        transaction: &mut MemoryTransaction<V>,
        namespace: &Arc<[u8]>,
        op: &Op,
        clock: &impl Clock,
        wall: u64,
    ) -> Result<Reply> {
        Space { store: self, transaction: Some(transaction), namespace, clock, wall }.apply(op)
    }

    /// Stores everything that a transaction has written.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if anybody else has written a key that it has read or written; nothing is stored then.
    pub fn commit(&mut self, transaction: MemoryTransaction<V>, clock: &impl Clock) -> Result<()> {
        let touched = transaction.touched.iter().map(|(key, touched)| (key, touched.seen));
        for ((namespace, key), seen) in touched.chain(transaction.seen.iter().map(|(key, seen)| (key, *seen)))
        {
            let (_, slot) = self.live(namespace, key, clock);
            let version = slot.map_or(0, |slot| self.entries.value(slot).version);
            let has_expired = slot.is_none() && seen.deadline.is_some_and(|deadline| clock.reached(deadline));
            if version != seen.version && !has_expired {
                return Err(Error::Conflict);
            }
        }
        // What leaves first makes room for what comes. Otherwise, another key might be evicted.
        for ((namespace, key), touched) in &transaction.touched {
            if touched.is_changed
                && touched.entry.is_none()
                && let (_, Some(slot)) = self.find(namespace, key)
            {
                self.next_version();
                self.entries.remove(slot, Cause::Deleted, &mut Vec::new());
            }
        }
        for ((namespace, key), touched) in transaction.touched {
            if touched.is_changed
                && let Some(mut entry) = touched.entry
            {
                entry.version = self.next_version();
                self.put(&namespace, &key, entry, clock)?;
            }
        }
        Ok(())
    }

    /// The live entries, the coldest first. Their values are shared, not copied.
    #[must_use]
    pub fn image(&self, clock: &impl Clock) -> Vec<ImageEntry<V>> {
        let live = self.entries.slots().filter(|slot| !self.entries.has_expired(*slot, clock));
        live.map(|slot| {
            let (namespace, key) = self.entries.key(slot).clone();
            let value = self.entries.value(slot).value.clone();
            ImageEntry { namespace, key, value, deadline: self.entries.deadline(slot).map(micros) }
        })
        .collect()
    }

    /// Stores entries of an image.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`]; the entries before are stored.
    pub fn restore(&mut self, image: Vec<ImageEntry<Never>>, clock: &impl Clock) -> Result<()> {
        for entry in image {
            let value = match entry.value {
                Value::Cell(cell) => Value::Cell(cell),
                Value::Held(never) => match never {},
                Value::Container(container) => Value::Container(container),
            };
            let (version, deadline) = (self.next_version(), entry.deadline.map(nanos));
            match self.put(&entry.namespace, &entry.key, Entry { value, deadline, version }, clock) {
                // The image is from a store with a higher limit: the entry is left out, like one that was
                // evicted.
                Ok(()) | Err(Error::TooHeavy { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The number of the last write.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.version
    }

    /// The number of keys in all namespaces, including expired ones that were not removed yet.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of bytes that all keys take, if that is limited.
    #[must_use]
    pub fn bytes(&self) -> Option<u64> {
        self.entries.limits().weight.map(|_| self.entries.weight())
    }

    /// The number of keys that were evicted to make room.
    #[must_use]
    pub fn evictions(&self) -> u64 {
        self.entries.stats().evictions
    }

    /// The number of gates and logs, and the number of leases, including expired ones that were not removed
    /// yet.
    #[must_use]
    pub fn timed(&self) -> (usize, usize) {
        (self.gates.len() + self.logs.len(), self.leases.len())
    }

    /// Recounts the structure.
    ///
    /// # Errors
    ///
    /// A description of the inconsistency.
    pub fn check(&self) -> std::result::Result<(), String> {
        self.entries.check()?;
        for slot in self.entries.slots() {
            let (key, value) = (&self.entries.key(slot).1, &self.entries.value(slot).value);
            // A container that is made anew has counted its elements.
            let anew = Value::Container(Arc::new(match value {
                Value::Container(container) => container.copied().ok_or("a container has no image")?,
                _ => continue,
            }));
            let (weight, counted) = (self.entries.weight_of(slot), self.weight(key, &anew));
            if weight != counted {
                return Err(format!("{key:?} weighs {counted} and counts as {weight}"));
            }
        }
        Ok(())
    }
}
