//! A cache for Rust programs: a store with a hasher and a clock.

use std::borrow::Borrow;
use std::collections::hash_map::RandomState;
use std::convert::Infallible;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::marker::PhantomData;
use std::time::Duration;

use crate::clock::{Clock, MonotonicClock, Nanos};
use crate::error::Error;
use crate::policy::{Lru, Policy};
use crate::slot::Slot;
use crate::stats::Stats;
use crate::store::{Cause, EntryStore, Limits, New, Removed};

type Weigher<K, V> = Box<dyn Fn(&K, &V) -> u64 + Send>;
type Listener<K, V> = Box<dyn FnMut(Removed<K, V>) + Send>;

/// A bounded map that evicts and expires its entries.
///
/// Every call is O(1) unless it says otherwise. The policy is a type parameter:
///
/// ```
/// use flexcache_core::{Cache, policy::Lfu};
///
/// let mut cache = Cache::<_, _, Lfu>::builder().max_items(2).build();
/// cache.put("a", 1)?;
/// cache.put("b", 2)?;
/// cache.get("a");
/// cache.put("c", 3)?;
/// assert_eq!((cache.peek("a"), cache.peek("b")), (Some(&1), None));
/// # Ok::<(), flexcache_core::Error>(())
/// ```
pub struct Cache<K, V, P: Policy = Lru, S = RandomState, C = MonotonicClock> {
    store: EntryStore<K, V, P>,
    hasher: S,
    clock: C,
    default_ttl: Option<Duration>,
    weigher: Option<Weigher<K, V>>,
    listener: Option<Listener<K, V>>,
}

impl<K, V, P: Policy, S, C> fmt::Debug for Cache<K, V, P, S, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("len", &self.store.len())
            .field("weight", &self.store.weight())
            .field("limits", &self.store.limits())
            .finish_non_exhaustive()
    }
}

/// The options of a [`Cache`]; see [`Cache::builder`].
pub struct Builder<K, V, P, S = RandomState, C = MonotonicClock> {
    limits: Limits,
    seed: Option<u64>,
    hasher: S,
    clock: C,
    default_ttl: Option<Duration>,
    weigher: Option<Weigher<K, V>>,
    listener: Option<Listener<K, V>>,
    policy: PhantomData<P>,
}

impl<K, V, P, S, C> fmt::Debug for Builder<K, V, P, S, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl<K: Hash + Eq, V, P: Policy> Cache<K, V, P> {
    /// A cache without limits, until the builder sets some.
    #[must_use]
    pub fn builder() -> Builder<K, V, P> {
        Builder {
            limits: Limits::default(),
            seed: None,
            hasher: RandomState::new(),
            clock: MonotonicClock::new(),
            default_ttl: None,
            weigher: None,
            listener: None,
            policy: PhantomData,
        }
    }
}

impl<K: Hash + Eq, V> Cache<K, V> {
    /// A least-recently-used cache of at most `max_items` entries; 0 means unlimited.
    #[must_use]
    pub fn new(max_items: u64) -> Self {
        Self::builder().max_items(max_items).build()
    }
}

impl<K: Hash + Eq, V, P: Policy, S: BuildHasher, C: Clock> Builder<K, V, P, S, C> {
    /// The largest number of entries; 0 means unlimited.
    #[must_use]
    pub fn max_items(mut self, items: u64) -> Self {
        self.limits.items = items.try_into().ok();
        self
    }

    /// The largest sum of weights; 0 means unlimited.
    #[must_use]
    pub fn max_weight(mut self, weight: u64) -> Self {
        self.limits.weight = weight.try_into().ok();
        self
    }

    /// Sets the function that computes an entry's weight. Without one, every entry weighs 1.
    #[must_use]
    pub fn weigher(mut self, weigher: impl Fn(&K, &V) -> u64 + Send + 'static) -> Self {
        self.weigher = Some(Box::new(weigher));
        self
    }

    /// The time to live of entries stored without one, as by [`put`](Cache::put). By default they never
    /// expire.
    #[must_use]
    pub fn default_ttl(mut self, ttl: Duration) -> Self {
        self.default_ttl = Some(ttl);
        self
    }

    /// Sets a listener, which is called with every removed entry after the operation is complete.
    #[must_use]
    pub fn on_removal(mut self, listener: impl FnMut(Removed<K, V>) + Send + 'static) -> Self {
        self.listener = Some(Box::new(listener));
        self
    }

    /// Seeds the random choices of policies, which makes them repeatable.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Sets the hasher.
    #[must_use]
    pub fn hasher<T: BuildHasher>(self, hasher: T) -> Builder<K, V, P, T, C> {
        Builder {
            hasher,
            limits: self.limits,
            seed: self.seed,
            clock: self.clock,
            default_ttl: self.default_ttl,
            weigher: self.weigher,
            listener: self.listener,
            policy: self.policy,
        }
    }

    /// Sets the clock, such as [`ManualClock`](crate::ManualClock) in tests.
    #[must_use]
    pub fn clock<D: Clock>(self, clock: D) -> Builder<K, V, P, S, D> {
        Builder {
            clock,
            limits: self.limits,
            seed: self.seed,
            hasher: self.hasher,
            default_ttl: self.default_ttl,
            weigher: self.weigher,
            listener: self.listener,
            policy: self.policy,
        }
    }

    /// Builds the cache.
    #[must_use]
    pub fn build(self) -> Cache<K, V, P, S, C> {
        Cache {
            store: EntryStore::new(self.limits, self.seed.unwrap_or_else(rand_seed)),
            hasher: self.hasher,
            clock: self.clock,
            default_ttl: self.default_ttl,
            weigher: self.weigher,
            listener: self.listener,
        }
    }
}

fn rand_seed() -> u64 {
    // The hasher's keys are random, which is random enough for a policy.
    RandomState::new().hash_one(0_u8)
}

impl<K: Hash + Eq, V, P: Policy, S: BuildHasher, C: Clock> Cache<K, V, P, S, C> {
    fn find<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> (u64, Option<Slot>)
    where
        K: Borrow<Q>,
    {
        let hash = self.hasher.hash_one(key);
        let found = self.store.find(hash, |other| Ok::<_, Infallible>(other.borrow() == key));
        match found {
            Ok(found) => (hash, found),
            Err(never) => match never {},
        }
    }

    fn notify(&mut self, removed: Vec<Removed<K, V>>) {
        if let Some(listener) = &mut self.listener {
            removed.into_iter().for_each(listener);
        }
    }

    /// The value, if the key is present and has not expired; counts as an access.
    pub fn get<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let (hash, found) = self.find(key);
        let mut removed = Vec::new();
        let live = self.store.live(found, &self.clock, &mut removed);
        if !removed.is_empty() {
            self.notify(removed);
        }
        self.store.get(live, hash, &self.clock, &mut Vec::new())
    }

    /// Like [`get`](Self::get), but does not count as an access.
    pub fn peek<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let slot = self.find(key).1?;
        (!self.store.has_expired(slot, &self.clock)).then(|| self.store.value(slot))
    }

    /// Whether the key is present and has not expired. Does not count as an access.
    pub fn contains<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.peek(key).is_some()
    }

    /// Stores or replaces a value, with the default time to live.
    ///
    /// # Errors
    ///
    /// [`Error`] if the entry cannot be stored; the cache is unchanged.
    pub fn put(&mut self, key: K, value: V) -> Result<(), Error> {
        self.put_for(key, value, self.default_ttl)
    }

    /// Stores or replaces a value, which lives for `ttl`; with `None` it never expires.
    ///
    /// # Errors
    ///
    /// [`Error`] if the entry cannot be stored; the cache is unchanged.
    pub fn put_for(&mut self, key: K, value: V, ttl: Option<Duration>) -> Result<(), Error> {
        self.store_entry(key, value, ttl, &[])
    }

    fn store_entry(&mut self, key: K, value: V, ttl: Option<Duration>, tags: &[&str]) -> Result<(), Error> {
        let weight = self.weigher.as_ref().map_or(1, |weigh| weigh(&key, &value));
        let deadline = ttl.map(|ttl| {
            let ttl = Nanos::try_from(ttl.as_nanos()).unwrap_or(Nanos::MAX);
            self.clock.now().saturating_add(ttl)
        });
        let (hash, found) = self.find(&key);
        let mut removed = Vec::new();
        let new = New { key, value, weight, deadline };
        let stored = self.store.put_tagged(found, hash, new, tags, &self.clock, &mut removed);
        self.notify(removed);
        stored.map(|_| ()).map_err(|(error, _)| error)
    }

    /// Stores or replaces a value with these tags and the default time to live. An entry keeps its tags until
    /// it is removed or replaced. O(1) for each tag.
    ///
    /// ```
    /// use flexcache_core::Cache;
    ///
    /// let mut cache = Cache::new(100);
    /// cache.put_tagged("profile", 1, &["user:1"])?;
    /// cache.put_tagged("orders", 2, &["user:1", "shop"])?;
    /// assert_eq!(cache.evict_tag("user:1"), 2);
    /// # Ok::<(), flexcache_core::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error`] if the entry cannot be stored; the cache is unchanged.
    pub fn put_tagged(&mut self, key: K, value: V, tags: &[&str]) -> Result<(), Error> {
        self.store_entry(key, value, self.default_ttl, tags)
    }

    /// Removes all entries that have a tag, and returns their number. O(1) for each.
    pub fn evict_tag(&mut self, tag: &str) -> usize {
        let mut removed = Vec::new();
        self.store.evict_tag(tag, usize::MAX, &self.clock, &mut removed);
        let count = removed.iter().filter(|removed| removed.cause == Cause::Deleted).count();
        self.notify(removed);
        count
    }

    /// Removes an entry and returns it.
    pub fn take<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<(K, V)>
    where
        K: Borrow<Q>,
    {
        let (_, found) = self.find(key);
        let mut removed = Vec::new();
        let live = self.store.live(found, &self.clock, &mut removed);
        self.notify(removed);
        let mut taken = Vec::with_capacity(1);
        self.store.remove(live?, Cause::Popped, &mut taken);
        taken.pop().map(|removed| (removed.key, removed.value))
    }

    /// Removes all entries that have expired, and returns their number. O(1) for each.
    pub fn expire(&mut self) -> usize {
        let mut removed = Vec::new();
        let count = self.store.expire(self.clock.now(), usize::MAX, &mut removed);
        self.notify(removed);
        count
    }

    /// Removes everything. O(n).
    pub fn clear(&mut self) {
        let removed = self.store.drain().into_removed(Cause::Cleared).collect();
        self.notify(removed);
    }

    /// Changes the limits, and evicts the entries that exceed them. O(n).
    pub fn resize(&mut self, limits: Limits) {
        self.store.set_limits(limits);
        let mut removed = Vec::new();
        while self.store.shrink(usize::MAX, &self.clock, &mut removed) {}
        self.notify(removed);
    }

    /// The entries, the next victim first.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.store
            .slots()
            .filter(|&slot| !self.store.has_expired(slot, &self.clock))
            .map(|slot| (self.store.key(slot), self.store.value(slot)))
    }

    /// The number of entries, including expired ones that were not removed yet.
    #[must_use]
    pub fn len(&self) -> usize {
        self.store.len()
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.store.is_empty()
    }

    /// The sum of the weights of all entries.
    #[must_use]
    pub fn weight(&self) -> u64 {
        self.store.weight()
    }

    /// The counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.store.stats()
    }

    /// Recounts the whole structure. O(n).
    ///
    /// # Errors
    ///
    /// A description of the inconsistency that was found: a bug in this crate.
    pub fn check(&self) -> Result<(), String> {
        self.store.check()
    }
}
