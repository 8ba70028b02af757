//! The store: table, slab, policy, weights, deadlines and tags, kept consistent with one another.
//!
//! # How it works
//!
//! *Lookup.* The caller passes the hash, of which the store uses the lowest 32 bits, and a closure that
//! compares keys. The closure may fail with an error of its own. [`EntryStore::find`] returns a [`Slot`]. All
//! calls that change something take that slot. So an error in a comparison leaves the store unchanged.
//!
//! *Removal.* One private function, `remove_entry`, removes entries. It keeps the counters and pushes the
//! entry into the caller's [`RemovalSink`]. The store itself never drops a key or a value: the caller
//! decides when destructors run.
//!
//! *Bounds.* The store makes room before it inserts an entry: it removes expired entries first, then the
//! policy's victims. A call that refuses an entry changes nothing.
//!
//! *Time.* The caller passes a clock. The store reads it only where an entry has a deadline.

mod check;
mod insertion;
mod limits;
mod listing;
mod removal;

use crate::arena::Arena;
use crate::clock::{Clock, Nanos};
use crate::column::Column;
use crate::index::{Index, short};
use crate::memory::{OutOfMemory, TryBox, TryClone};
use crate::node::Node;
use crate::policy::{Entries, Goal, Policy};
use crate::slot::Slot;
use crate::stats::Stats;
use crate::tags::Tags;
use crate::weights::Weights;
use crate::wheel::Wheel;

pub use insertion::{New, PlainPlace};
pub use limits::Limits;
pub use removal::{Cause, Drained, RemovalSink, Removed};

type FoundNode<'a, K, V> = (Slot, &'a Node<K, V>);

/// Tells whether a candidate entry has the hash that is looked up.
#[derive(Debug)]
pub struct HashCheck<'a> {
    hashes: &'a Column<u32>,
    slot: Slot,
    hash: u32,
}

impl HashCheck<'_> {
    /// Whether the candidate's hash equals the one that is looked up. O(1).
    #[inline(always)]
    #[must_use]
    pub fn agrees(&self) -> bool {
        self.hashes.get(self.slot) == self.hash
    }
}

/// What [`EntryStore::hit_if`] found.
#[derive(Debug)]
pub enum Lookup<'a, V> {
    /// The value. A hit was counted.
    Hit(&'a V),
    /// There is an entry, but `is_live` rejected it. Nothing was counted.
    NotServed,
    /// No entry.
    Absent,
}

/// The hashes and weights of a store, for a policy to ask about.
struct Present<'a>(&'a Column<u32>, &'a Weights);

impl Entries for Present<'_> {
    #[inline]
    fn hash(&self, slot: Slot) -> u64 {
        u64::from(self.0.get(slot))
    }

    #[inline]
    fn weight(&self, slot: Slot) -> u64 {
        self.1.get(slot)
    }

    #[inline]
    fn are_weighted(&self) -> bool {
        !self.1.all_one()
    }
}

/// A policy-driven cache over hashes and slots. See the [module](self) for how it works.
#[derive(Debug)]
pub struct EntryStore<K, V, P: Policy> {
    nodes: Arena<Node<K, V>>,
    /// The lowest 32 bits of the hash of each entry's key.
    hashes: Column<u32>,
    index: Index,
    policy: P,
    most_items: usize,
    most_weight: u64,
    weights: Weights,
    /// Made with the first deadline.
    wheel: Option<TryBox<Wheel>>,
    /// Made with the first tag.
    tags: Option<TryBox<Tags>>,
    /// Made with the first stamp.
    stamps: Option<TryBox<Column<u64>>>,
    /// Made with the first [fetch time](Self::set_fetched).
    fetched: Option<TryBox<Column<Nanos>>>,
    stats: Stats,
    limits: Limits,
    goal: Goal,
    /// Whether the limits were lowered and do not hold yet.
    shrinking: bool,
    seed: u64,
}

impl<K, V, P: Policy> EntryStore<K, V, P> {
    /// An empty store. O(1). Allocates nothing: memory grows with the entries, whatever the limits are.
    #[must_use]
    pub fn new(limits: Limits, seed: u64) -> Self {
        Self::with_policy(limits, seed, P::new(limits.capacity(), seed))
    }

    /// An empty store with a policy that is [made anew](Policy::reset) for it. O(1).
    #[must_use]
    pub fn with_policy(limits: Limits, seed: u64, mut policy: P) -> Self {
        policy.reset(limits.capacity(), seed);
        policy.set_bound(limits.bound());
        Self {
            nodes: Arena::new(limits.capacity()),
            hashes: Column::new(limits.capacity()),
            index: Index::new(limits.bound_of_index()),
            policy,
            most_items: limits.most_items(),
            most_weight: limits.most_weight(),
            weights: Weights::new(),
            wheel: None,
            tags: None,
            stamps: None,
            fetched: None,
            stats: Stats::default(),
            limits,
            goal: Goal::default(),
            shrinking: false,
            seed,
        }
    }

    /// The number of entries, including expired ones that were not removed yet.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The sum of the weights of all entries.
    #[must_use]
    pub fn weight(&self) -> u64 {
        self.weights.total()
    }

    /// Sets what the policy maximizes, where it takes weights into account.
    pub fn set_goal(&mut self, goal: Goal) {
        self.goal = goal;
        self.policy.set_goal(goal);
    }

    /// How much the store may hold.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// The counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// The number of insertions so far, and of entries. Each insertion or removal changes one of them for
    /// good, until the counters are reset.
    #[inline]
    #[must_use]
    pub fn changes(&self) -> (u64, usize) {
        (self.stats.insertions, self.nodes.len())
    }

    /// Resets the counters.
    pub fn reset_stats(&mut self) {
        self.stats = Stats::default();
    }

    /// Bytes allocated for tables, nodes and policy. Memory that keys and values own is not included.
    #[must_use]
    pub fn allocated_bytes(&self) -> usize {
        self.nodes.allocated_bytes()
            + self.hashes.allocated_bytes()
            + self.index.allocated_bytes()
            + self.policy.allocated_bytes()
            + self.weights.allocated_bytes()
            + self.wheel.as_ref().map_or(0, |wheel| size_of::<Wheel>() + wheel.allocated_bytes())
            + self.tags.as_ref().map_or(0, |tags| tags.allocated_bytes())
            + self.stamps.iter().chain(&self.fetched).map(Self::boxed_column_bytes).sum::<usize>()
    }

    fn boxed_column_bytes(column: &TryBox<Column<u64>>) -> usize {
        size_of::<Column<u64>>() + column.allocated_bytes()
    }

    /// The slot of the entry under `hash` whose key `eq` accepts, expired or not. O(1).
    ///
    /// # Errors
    ///
    /// The first that `eq` returns.
    #[inline(always)]
    pub fn find<E>(&self, hash: u64, mut eq: impl FnMut(&K) -> Result<bool, E>) -> Result<Option<Slot>, E> {
        self.find_by_key(hash, |key, hash| if hash.agrees() { eq(key) } else { Ok(false) })
    }

    /// Like [`find`](Self::find), for an `eq` that costs no more than comparing hashes. `eq` is also called
    /// for keys with another hash, about one call in a hundred. Where equal keys may have different hashes,
    /// `eq` must ask the [`HashCheck`]. O(1).
    ///
    /// # Errors
    ///
    /// The first that `eq` returns.
    #[inline(always)]
    pub fn find_by_key<E>(
        &self,
        hash: u64,
        eq: impl FnMut(&K, HashCheck<'_>) -> Result<bool, E>,
    ) -> Result<Option<Slot>, E> {
        let found = Self::find_node(&self.index, &self.nodes, &self.hashes, hash, eq)?;
        Ok(found.map(|(slot, _)| slot))
    }

    /// [`find_by_key`](Self::find_by_key), which also returns the node. It borrows only these three fields,
    /// so the caller can change the rest of the store while it holds the node.
    #[inline(always)]
    fn find_node<'a, E>(
        index: &Index,
        nodes: &'a Arena<Node<K, V>>,
        hashes: &Column<u32>,
        hash: u64,
        mut eq: impl FnMut(&K, HashCheck<'_>) -> Result<bool, E>,
    ) -> Result<Option<FoundNode<'a, K, V>>, E> {
        let hash = short(hash);
        let (mut found, mut failure) = (None, None);
        index.find(hash, |slot| {
            let node = nodes.get(slot);
            match eq(&node.key, HashCheck { hashes, slot, hash }) {
                Ok(false) => return false,
                Ok(true) => found = Some((slot, node)),
                Err(error) => failure = Some(error),
            }
            true
        });
        match failure {
            Some(error) => Err(error),
            None => Ok(found),
        }
    }

    #[inline(always)]
    fn hash(&self, slot: Slot) -> u64 {
        u64::from(self.hashes.get(slot))
    }

    /// The key of an entry.
    #[inline]
    #[must_use]
    pub fn key(&self, slot: Slot) -> &K {
        &self.nodes.get(slot).key
    }

    /// The value of an entry.
    #[inline]
    #[must_use]
    pub fn value(&self, slot: Slot) -> &V {
        &self.nodes.get(slot).value
    }

    /// The value of an entry, to be changed in place: weight, deadline, tags and the policy's order stay. O(1).
    ///
    /// # Panics
    ///
    /// Where the slot is vacant.
    pub fn value_mut(&mut self, slot: Slot) -> &mut V {
        &mut self.nodes.get_mut(slot).value
    }

    /// The key at `slot`, or `None` if the slot is vacant.
    #[inline(always)]
    #[must_use]
    pub fn key_at(&self, slot: Slot) -> Option<&K> {
        self.nodes.try_get(slot).map(|node| &node.key)
    }

    /// The weight of an entry.
    #[must_use]
    pub fn weight_of(&self, slot: Slot) -> u64 {
        self.weights.get(slot)
    }

    /// When an entry expires; `None` if never.
    #[inline(always)]
    #[must_use]
    pub fn deadline(&self, slot: Slot) -> Option<Nanos> {
        self.wheel.as_ref()?.deadline(slot)
    }

    /// Whether an entry's deadline has come. The clock is read only where there is a deadline.
    #[inline(always)]
    #[must_use]
    pub fn has_expired(&self, slot: Slot, clock: &impl Clock) -> bool {
        match self.deadline(slot) {
            Some(deadline) => clock.reached(deadline),
            None => false,
        }
    }

    /// Reads the entry that [`find`](Self::find) found under a key of this hash: counts a hit or a miss, tells the
    /// policy, and removes the entry if it has expired. O(1).
    #[inline(always)]
    pub fn get(
        &mut self,
        found: Option<Slot>,
        hash: u64,
        clock: &impl Clock,
        sink: &mut impl RemovalSink<K, V>,
    ) -> Option<&V> {
        match self.live(found, clock, sink) {
            Some(slot) => Some(self.hit(slot)),
            None => {
                self.miss(hash);
                None
            }
        }
    }

    /// Counts a hit of a live entry and tells the policy. O(1).
    #[inline(always)]
    pub fn hit(&mut self, slot: Slot) -> &V {
        self.stats.hits += 1;
        self.policy.on_access(slot, self.hash(slot));
        self.recount();
        self.value(slot)
    }

    /// Finds an entry and counts a hit if it may be served: [`find_by_key`](Self::find_by_key) and
    /// [`hit`](Self::hit) in one call. `is_live` decides whether the entry at a slot may be served, for
    /// example by [`has_expired`](Self::has_expired). If there is no entry and `counts_misses` is true,
    /// counts a miss. O(1).
    ///
    /// # Errors
    ///
    /// The first that `eq` returns; nothing has changed.
    #[inline(always)]
    pub fn hit_if<E>(
        &mut self,
        hash: u64,
        eq: impl FnMut(&K, HashCheck<'_>) -> Result<bool, E>,
        is_live: impl FnOnce(&Self, Slot) -> bool,
        counts_misses: bool,
    ) -> Result<Lookup<'_, V>, E> {
        let found = Self::find_node(&self.index, &self.nodes, &self.hashes, hash, eq)?;
        #[cfg_attr(
            feature = "strict",
            expect(unused_variables, reason = "the recount needs all of the store")
        )]
        let Some((slot, node)) = found else {
            if counts_misses {
                self.stats.misses += 1;
                self.policy.on_miss(u64::from(short(hash)));
            }
            return Ok(Lookup::Absent);
        };
        if !is_live(self, slot) {
            return Ok(Lookup::NotServed);
        }
        debug_assert_eq!(self.hashes.get(slot), short(hash));
        // Nobody lives to see it overflow.
        self.stats.hits = self.stats.hits.wrapping_add(1);
        self.policy.on_access(slot, u64::from(short(hash)));
        #[cfg(feature = "strict")]
        let node = {
            self.recount();
            self.nodes.get(slot)
        };
        Ok(Lookup::Hit(&node.value))
    }

    /// Whether an [access](Self::access) of this entry would change anything in the policy. If not, the call
    /// may be left out. O(1).
    #[inline(always)]
    #[must_use]
    pub fn notices_access(&self, slot: Slot) -> bool {
        self.policy.notices_access(slot)
    }

    /// Whether a [miss](Self::miss) may change anything in the policy.
    #[inline(always)]
    #[must_use]
    pub fn notices_misses(&self) -> bool {
        self.policy.notices_misses()
    }

    /// Whether the order of accesses does not matter, as long as no other call comes in between.
    #[must_use]
    pub fn accesses_commute(&self) -> bool {
        self.policy.accesses_commute()
    }

    /// Tells the policy of an access, without counting a hit: the caller counts it with
    /// [`count`](Self::count). O(1).
    #[inline(always)]
    pub fn access(&mut self, slot: Slot) {
        self.policy.on_access(slot, self.hash(slot));
    }

    /// Adds to the hit and miss counters, for reads that did not go through [`get`](Self::get).
    pub fn count(&mut self, hits: u64, misses: u64) {
        self.stats.hits += hits;
        self.stats.misses += misses;
    }

    /// Counts a miss of a key of this hash and tells the policy. O(1).
    #[inline(always)]
    pub fn miss(&mut self, hash: u64) {
        self.stats.misses += 1;
        self.policy.on_miss(u64::from(short(hash)));
    }

    /// Returns the slot that was found. If its entry has expired, removes the entry and returns `None`. O(1).
    #[inline(always)]
    pub fn live(
        &mut self,
        found: Option<Slot>,
        clock: &impl Clock,
        sink: &mut impl RemovalSink<K, V>,
    ) -> Option<Slot> {
        let slot = found?;
        if self.has_expired(slot, clock) {
            self.remove_entry(slot, Cause::Expired, sink);
            return None;
        }
        Some(slot)
    }

    /// The tags of an entry, in the order in which they were given.
    pub fn tags(&self, slot: Slot) -> impl Iterator<Item = &str> {
        self.tags.iter().flat_map(move |tags| tags.of(slot))
    }

    /// The number of entries that have a tag, including expired ones that were not removed yet. O(1).
    #[must_use]
    pub fn count_tagged(&self, tag: &str) -> usize {
        self.tags.as_ref().and_then(|tags| Some(tags.len(tags.find(tag)?))).unwrap_or(0)
    }

    /// Whether any entry ever had a deadline.
    #[inline]
    #[must_use]
    pub fn has_deadlines(&self) -> bool {
        self.wheel.is_some()
    }

    /// When to call [`expire`](Self::expire) next: within about a millisecond of the next deadline if that is
    /// near, earlier if it is far. O(1).
    #[must_use]
    pub fn next_expiry(&self) -> Option<Nanos> {
        self.wheel.as_ref()?.next_event()
    }

    /// The next victim, which is the first of [`slots`](Self::slots). Amortized O(1).
    #[must_use]
    pub fn victim(&mut self) -> Option<Slot> {
        self.policy.victim(&Present(&self.hashes, &self.weights))
    }

    /// The number that the owner of the store keeps with an entry; 0 if it set none. O(1).
    #[inline]
    #[must_use]
    pub fn stamp(&self, slot: Slot) -> u64 {
        self.stamps.as_ref().map_or(0, |stamps| stamps.get(slot))
    }

    /// Keeps a number with an entry until the entry is removed. A slot that is reused still has the old
    /// number, so set one for each new entry. O(1).
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`]; the entry keeps its number.
    pub fn set_stamp(&mut self, slot: Slot, stamp: u64) -> Result<(), OutOfMemory> {
        let stamps = match &mut self.stamps {
            Some(stamps) => stamps,
            none => none.insert(TryBox::new(Column::new(self.limits.capacity()))?),
        };
        stamps.try_reserve(slot)?;
        stamps.set(slot, stamp);
        Ok(())
    }

    /// When the entry was fetched, see [`set_fetched`](Self::set_fetched); 0 if that was never set. O(1).
    #[inline]
    #[must_use]
    pub fn fetched(&self, slot: Slot) -> Nanos {
        self.fetched.as_ref().map_or(0, |fetched| fetched.get(slot))
    }

    /// Keeps the time at which an entry was fetched from another store. Like a [stamp](Self::set_stamp), it
    /// must be set for each new entry. O(1).
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`]; the entry keeps its time.
    pub fn set_fetched(&mut self, slot: Slot, time: Nanos) -> Result<(), OutOfMemory> {
        let fetched = match &mut self.fetched {
            Some(fetched) => fetched,
            none => none.insert(TryBox::new(Column::new(self.limits.capacity()))?),
        };
        fetched.try_reserve(slot)?;
        fetched.set(slot, time);
        Ok(())
    }

    /// Every key and value, in no particular order. O(n).
    pub fn entries(&self) -> impl Iterator<Item = (&K, &V)> {
        self.nodes.iter().map(|(_, node)| (&node.key, &node.value))
    }

    /// A copy of the store whose keys and values `convert` makes from the old ones. O(n).
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`]; the keys and values that `convert` made are dropped.
    pub fn try_map<L, W>(
        &self,
        mut convert: impl FnMut(&K, &V) -> (L, W),
    ) -> Result<EntryStore<L, W, P>, OutOfMemory>
    where
        P: TryClone,
    {
        Ok(EntryStore {
            index: self.index.try_clone()?,
            hashes: self.hashes.try_clone()?,
            policy: self.policy.try_clone()?,
            most_items: self.most_items,
            most_weight: self.most_weight,
            weights: self.weights.try_clone()?,
            wheel: self.wheel.try_clone()?,
            tags: self.tags.try_clone()?,
            stamps: self.stamps.try_clone()?,
            fetched: self.fetched.try_clone()?,
            stats: self.stats,
            limits: self.limits,
            goal: self.goal,
            shrinking: self.shrinking,
            seed: self.seed,
            // Last, so that no converted entry is dropped because another allocation fails.
            nodes: self.nodes.try_map(|node| {
                let (key, value) = convert(&node.key, &node.value);
                Ok(Node { key, value })
            })?,
        })
    }
}
