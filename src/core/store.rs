//! The store: table, slab, policy, weights, deadlines and tags, kept true to one another.
//!
//! # How it works
//!
//! *Lookup.* The caller brings the hash and decides equality in a closure that may fail with an
//! error of its own. [`Store::find`] returns a [`Slot`], and every other call takes the slot that
//! was found, so that a caller who has to leave half-way leaves nothing half done.
//!
//! *Leaving.* Every entry that leaves goes through one private function, `let_go`, which keeps the counters, and
//! into the caller's sink as a [`Departed`]. The store drops no key and no value of its own
//! accord: what a destructor does is the caller's business, and the caller chooses the moment.
//!
//! *Bounds.* Room is made before an entry comes in, first from what has expired, then from the
//! policy's victims. A call that refuses an entry has changed nothing.
//!
//! *Time.* The caller brings a clock, which is read only where an entry has a deadline.

use std::num::NonZeroU64;

use crate::arena::Arena;
use crate::clock::{Clock, Nanos};
use crate::column::Column;
use crate::error::Error;
use crate::index::Index;
use crate::node::Node;
use crate::policy::{Entries, Policy};
use crate::slot::Slot;
use crate::stats::Stats;
use crate::tags::Tags;
use crate::weights::Weights;
use crate::wheel::Wheel;

/// Bounds up to this many entries are allocated for in one piece.
const LARGEST_PIECE: usize = 1 << 22;

/// How many expired entries a call removes on the way to what it was asked for.
const EXPIRED_A_CALL: usize = 64;

/// How much a store may hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// The largest number of entries; `None` for no limit.
    pub items: Option<NonZeroU64>,
    /// The largest sum of weights; `None` for no limit.
    pub weight: Option<NonZeroU64>,
}

impl Limits {
    /// Limits where 0 means unlimited.
    #[must_use]
    pub fn new(items: u64, weight: u64) -> Self {
        Self { items: NonZeroU64::new(items), weight: NonZeroU64::new(weight) }
    }

    fn most_items(&self) -> usize {
        let items = self.items.map_or(u64::MAX, NonZeroU64::get);
        usize::try_from(items).unwrap_or(usize::MAX).min(Slot::LIMIT)
    }

    fn most_weight(&self) -> u64 {
        self.weight.map_or(u64::MAX, NonZeroU64::get)
    }

    /// The largest number of entries, for a policy; `usize::MAX` where only slots limit it.
    fn bound(&self) -> usize {
        if self.items.is_some() { self.most_items() } else { usize::MAX }
    }

    /// What to allocate in one piece.
    fn capacity(&self) -> usize {
        match self.items {
            Some(_) if self.most_items() <= LARGEST_PIECE => self.most_items(),
            _ => 0,
        }
    }
}

/// Why an entry left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It made room for another.
    Evicted,
    /// Its deadline came.
    Expired,
    /// The caller removed it.
    Deleted,
    /// The caller took it out, and its value with it.
    Popped,
    /// Another value took its place.
    Replaced,
    /// All entries were removed.
    Cleared,
    /// The store was closed or dropped.
    Closed,
}

/// A key and value on their way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Departed<K, V> {
    /// The key; for a replaced value, the equal key that replaced it.
    pub key: K,
    /// The value.
    pub value: V,
    /// Why it left.
    pub cause: Cause,
}

/// Takes what leaves a store.
pub trait Sink<K, V> {
    /// Takes one entry. The store is in the middle of a call: keep the entry and look at it later.
    fn push(&mut self, departed: Departed<K, V>);
}

impl<K, V> Sink<K, V> for Vec<Departed<K, V>> {
    fn push(&mut self, departed: Departed<K, V>) {
        Vec::push(self, departed);
    }
}

/// An entry on its way in.
#[derive(Clone, Copy, Debug)]
pub struct New<K, V> {
    /// The key.
    pub key: K,
    /// The value.
    pub value: V,
    /// What it adds to the sum of weights.
    pub weight: u64,
    /// When it expires.
    pub deadline: Option<Nanos>,
}

/// What a policy may ask about: the nodes and weights of a store.
struct Present<'a, K, V>(&'a Arena<Node<K, V>>, &'a Weights);

impl<K, V> Entries for Present<'_, K, V> {
    #[inline]
    fn hash(&self, slot: Slot) -> u64 {
        self.0.get(slot).hash
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
pub struct Store<K, V, P: Policy> {
    nodes: Arena<Node<K, V>>,
    index: Index,
    policy: P,
    most_items: usize,
    most_weight: u64,
    weights: Weights,
    wheel: Option<Wheel>,
    /// Made with the first tag.
    tags: Option<Box<Tags>>,
    /// Made with the first stamp.
    stamps: Option<Box<Column<u64>>>,
    stats: Stats,
    limits: Limits,
    /// Whether the limits were lowered and do not hold yet.
    shrinking: bool,
    seed: u64,
}

impl<K, V, P: Policy> Store<K, V, P> {
    /// An empty store. O(1), and memory for a bound on entries is set aside.
    #[must_use]
    pub fn new(limits: Limits, seed: u64) -> Self {
        let mut policy = P::new(limits.capacity(), seed);
        policy.set_bound(limits.bound());
        Self {
            nodes: Arena::new(limits.capacity()),
            index: Index::new(limits.capacity()),
            policy,
            most_items: limits.most_items(),
            most_weight: limits.most_weight(),
            weights: Weights::new(),
            wheel: None,
            tags: None,
            stamps: None,
            stats: Stats::default(),
            limits,
            shrinking: false,
            seed,
        }
    }

    /// The number of entries, those included that have expired and were not removed yet.
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

    /// How much the store may hold.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// What was counted so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Starts counting anew.
    pub fn reset_stats(&mut self) {
        self.stats = Stats::default();
    }

    /// Bytes allocated for tables, nodes and policy, without what keys and values own.
    #[must_use]
    pub fn allocated_bytes(&self) -> usize {
        self.nodes.allocated_bytes()
            + self.index.allocated_bytes()
            + self.policy.allocated_bytes()
            + self.weights.allocated_bytes()
            + self.wheel.as_ref().map_or(0, Wheel::allocated_bytes)
            + self.tags.as_ref().map_or(0, |tags| tags.allocated_bytes())
            + self.stamps.as_ref().map_or(0, |stamps| stamps.allocated_bytes())
    }

    /// The slot of the entry under `hash` whose key `eq` accepts, expired or not. O(1).
    ///
    /// # Errors
    ///
    /// The first that `eq` returns.
    #[inline(always)]
    pub fn find<E>(&self, hash: u64, mut eq: impl FnMut(&K) -> Result<bool, E>) -> Result<Option<Slot>, E> {
        let mut failure = None;
        let found = self.index.find(hash, |slot| {
            let node = self.nodes.get(slot);
            node.hash == hash
                && match eq(&node.key) {
                    Ok(equal) => equal,
                    Err(error) => {
                        failure = Some(error);
                        true
                    }
                }
        });
        match failure {
            Some(error) => Err(error),
            None => Ok(found),
        }
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

    /// The key at `slot`, if an entry is there at all.
    #[must_use]
    pub fn key_at(&self, slot: Slot) -> Option<&K> {
        self.nodes.try_get(slot).map(|node| &node.key)
    }

    /// The weight of an entry.
    #[must_use]
    pub fn weight_of(&self, slot: Slot) -> u64 {
        self.weights.get(slot)
    }

    /// When an entry expires.
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

    /// Reads the entry that [`find`](Self::find) found: counts a hit or a miss, tells the policy,
    /// and lets the entry go where it has expired. O(1).
    #[inline(always)]
    pub fn get(&mut self, found: Option<Slot>, clock: &impl Clock, sink: &mut impl Sink<K, V>) -> Option<&V> {
        match self.live(found, clock, sink) {
            Some(slot) => Some(self.hit(slot)),
            None => {
                self.miss();
                None
            }
        }
    }

    /// Counts a hit of a live entry and tells the policy. O(1).
    #[inline(always)]
    pub fn hit(&mut self, slot: Slot) -> &V {
        self.stats.hits += 1;
        let node = self.nodes.get(slot);
        self.policy.on_access(slot, node.hash);
        self.recount();
        &self.nodes.get(slot).value
    }

    /// Counts a miss.
    #[inline(always)]
    pub fn miss(&mut self) {
        self.stats.misses += 1;
    }

    /// Replaces the value of a live entry, whose weight and deadline stay, and whose tags do not. O(1); the
    /// value before.
    #[inline(always)]
    pub fn exchange(&mut self, slot: Slot, value: V) -> V {
        self.stats.updates += 1;
        self.lose_tags(slot);
        let node = self.nodes.get_mut(slot);
        self.policy.on_access(slot, node.hash);
        std::mem::replace(&mut node.value, value)
    }

    /// The slot found, unless its entry has expired: then the entry leaves. O(1).
    #[inline(always)]
    pub fn live(
        &mut self,
        found: Option<Slot>,
        clock: &impl Clock,
        sink: &mut impl Sink<K, V>,
    ) -> Option<Slot> {
        let slot = found?;
        if self.has_expired(slot, clock) {
            self.let_go(slot, Cause::Expired, sink);
            return None;
        }
        Some(slot)
    }

    /// Whether an entry of this weight can come in, once room is made.
    ///
    /// # Errors
    ///
    /// [`Error`] says why not.
    #[inline]
    pub fn admit(&self, found: Option<Slot>, weight: u64) -> Result<(), Error> {
        if weight > self.most_weight {
            return Err(Error::TooHeavy { weight, limit: self.most_weight });
        }
        if self.most_weight == u64::MAX {
            // Nothing will be evicted for its weight, so the sum itself must hold.
            self.weights.admit(weight, found.map_or(0, |slot| self.weights.get(slot)))?;
        }
        if found.is_none() && self.len() >= Slot::LIMIT && self.most_items >= Slot::LIMIT {
            return Err(Error::Full);
        }
        Ok(())
    }

    /// Whether an entry can come in without another leaving.
    #[inline(always)]
    #[must_use]
    pub fn has_room(&self, weight: u64) -> bool {
        self.len() < self.most_items && self.weights.total() <= self.most_weight.saturating_sub(weight)
    }

    /// Stores an entry, or replaces the value of the one that [`find`](Self::find) found. O(1)
    /// for each entry that leaves.
    ///
    /// A replaced entry counts as accessed, takes the new weight and deadline, and loses its tags;
    /// its key stays.
    ///
    /// # Errors
    ///
    /// [`Error`] and the entry itself, where it is refused; nothing has changed then.
    #[inline]
    pub fn put(
        &mut self,
        found: Option<Slot>,
        hash: u64,
        new: New<K, V>,
        clock: &impl Clock,
        sink: &mut impl Sink<K, V>,
    ) -> Result<Slot, (Error, New<K, V>)> {
        if let Err(error) = self.admit(found, new.weight) {
            return Err((error, new));
        }
        let slot = match self.live(found, clock, sink) {
            Some(slot) => self.replace(slot, new, clock, sink),
            None => self.insert(hash, new, clock, sink),
        };
        self.recount();
        Ok(slot)
    }

    /// What [`put`](Self::put) does, of an entry that is to have these tags. O(1) for each tag, and
    /// for each entry that leaves; a tag that is named twice is given once.
    ///
    /// # Errors
    ///
    /// [`Error`] and the entry itself, where it is refused; nothing has changed then.
    pub fn put_tagged(
        &mut self,
        found: Option<Slot>,
        hash: u64,
        new: New<K, V>,
        tags: &[impl AsRef<str>],
        clock: &impl Clock,
        sink: &mut impl Sink<K, V>,
    ) -> Result<Slot, (Error, New<K, V>)> {
        if !self.tags.as_ref().is_none_or(|present| present.have_room(tags.len())) {
            return Err((Error::Full, new));
        }
        let slot = self.put(found, hash, new, clock, sink)?;
        if !tags.is_empty() {
            self.tags.get_or_insert_with(|| Box::new(Tags::new())).set(slot, tags);
        }
        self.recount();
        Ok(slot)
    }

    /// The tags of an entry, in the order in which they were given.
    pub fn tags(&self, slot: Slot) -> impl Iterator<Item = &str> {
        self.tags.iter().flat_map(move |tags| tags.of(slot))
    }

    /// How many entries have a tag, those included that have expired and were not removed yet. O(1).
    #[must_use]
    pub fn count_tagged(&self, tag: &str) -> usize {
        self.tags.as_ref().and_then(|tags| Some(tags.len(tags.find(tag)?))).unwrap_or(0)
    }

    /// Lets go at most `most` entries that have a tag, those that have had it for longest, and says
    /// how many. One that has expired leaves as that. O(1) for each, whatever else is in the store.
    pub fn evict_tag(
        &mut self,
        tag: &str,
        most: usize,
        clock: &impl Clock,
        sink: &mut impl Sink<K, V>,
    ) -> usize {
        let tagged = self.tags.as_ref().and_then(|tags| tags.find(tag).map(|id| (id, tags.len(id))));
        let Some((id, len)) = tagged else { return 0 };
        // The last to leave takes the tag along, so it is not looked at after so many.
        for evicted in 0..len.min(most) {
            let Some(slot) = self.tags.as_ref().and_then(|tags| tags.oldest(id)) else { return evicted };
            let expired = self.has_expired(slot, clock);
            self.let_go(slot, if expired { Cause::Expired } else { Cause::Deleted }, sink);
        }
        self.recount();
        len.min(most)
    }

    #[inline]
    fn insert(&mut self, hash: u64, new: New<K, V>, clock: &impl Clock, sink: &mut impl Sink<K, V>) -> Slot {
        if !self.has_room(new.weight) {
            self.make_room(1, new.weight, None, clock, sink);
        }
        let slot = self.nodes.insert(Node { key: new.key, value: new.value, hash });
        let nodes = &self.nodes;
        self.index.insert(hash, slot, |moved| nodes.get(moved).hash);
        self.weights.add(slot, new.weight);
        self.policy.on_insert(slot, hash);
        if new.deadline.is_some() {
            self.set_deadline(slot, new.deadline, clock);
        }
        self.stats.insertions += 1;
        slot
    }

    #[inline]
    fn replace(
        &mut self,
        slot: Slot,
        new: New<K, V>,
        clock: &impl Clock,
        sink: &mut impl Sink<K, V>,
    ) -> Slot {
        let node = self.nodes.get_mut(slot);
        self.policy.on_access(slot, node.hash);
        let value = std::mem::replace(&mut node.value, new.value);
        sink.push(Departed { key: new.key, value, cause: Cause::Replaced });
        self.lose_tags(slot);
        self.stats.updates += 1;
        if self.weights.get(slot) != new.weight {
            // Without its old deadline it cannot expire while room is made for it.
            self.set_deadline(slot, None, clock);
            self.reweigh(slot, new.weight, clock, sink);
        }
        self.set_deadline(slot, new.deadline, clock);
        slot
    }

    /// Gives an entry that is to stay another weight, at the cost of the others.
    #[cold]
    fn reweigh(&mut self, slot: Slot, weight: u64, clock: &impl Clock, sink: &mut impl Sink<K, V>) {
        self.weights.remove(slot);
        if self.weights.total() > self.most_weight - weight {
            self.make_room(0, weight, Some(slot), clock, sink);
        }
        self.weights.add(slot, weight);
    }

    /// Lets entries go until `items` more of `weight` fit, all that have expired before any other,
    /// and never the one that is kept.
    #[inline]
    fn make_room(
        &mut self,
        items: usize,
        weight: u64,
        kept: Option<Slot>,
        clock: &impl Clock,
        sink: &mut impl Sink<K, V>,
    ) {
        let now = self.wheel.is_some().then(|| clock.now());
        if let Some(now) = now {
            self.expire(now, EXPIRED_A_CALL, sink);
        }
        let (most_items, most_weight) = (self.most_items - items, self.most_weight - weight);
        while self.len() > most_items || self.weights.total() > most_weight {
            if now.is_some_and(|now| self.expire(now, 1, sink) > 0) {
                continue;
            }
            let present = Present(&self.nodes, &self.weights);
            let victim = match self.policy.victim(&present) {
                Some(victim) if Some(victim) == kept => self.slots().find(|&slot| slot != victim),
                victim => victim,
            };
            let Some(victim) = victim else { break };
            self.let_go(victim, Cause::Evicted, sink);
        }
    }

    /// Whether no entry has had a deadline or a weight other than 1, so that
    /// [`insert_plain`](Self::insert_plain) may be called.
    #[inline(always)]
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.wheel.is_none() && self.weights.all_one() && self.len() < Slot::LIMIT
    }

    /// Stores an entry under a key that is absent, in a [plain](Self::is_plain) store, of weight 1
    /// and without deadline or tags. O(1); what [`put`](Self::put) does, in fewer steps. At most one
    /// entry leaves.
    #[inline(always)]
    pub fn insert_plain(&mut self, hash: u64, key: K, value: V) -> Option<Departed<K, V>> {
        debug_assert!(self.is_plain());
        self.stats.insertions += 1;
        let new = Node { key, value, hash };
        if self.has_room(1) {
            let slot = self.nodes.insert(new);
            let nodes = &self.nodes;
            self.index.insert(hash, slot, |moved| nodes.get(moved).hash);
            self.weights.add(slot, 1);
            self.policy.on_insert(slot, hash);
            self.recount();
            return None;
        }
        let slot = self.policy.victim(&Present(&self.nodes, &self.weights))?;
        // The newcomer takes the victim's slot, and its weight of 1.
        let node = std::mem::replace(self.nodes.get_mut(slot), new);
        self.index.remove(node.hash, slot);
        let nodes = &self.nodes;
        self.index.insert(hash, slot, |moved| nodes.get(moved).hash);
        self.policy.on_reuse(slot, node.hash, hash);
        self.lose_tags(slot);
        self.stats.evictions += 1;
        self.recount();
        Some(Departed { key: node.key, value: node.value, cause: Cause::Evicted })
    }

    /// Removes an entry. O(1).
    #[inline]
    pub fn remove(&mut self, slot: Slot, cause: Cause, sink: &mut impl Sink<K, V>) {
        self.let_go(slot, cause, sink);
        self.recount();
    }

    /// The one door out.
    #[inline]
    fn let_go(&mut self, slot: Slot, cause: Cause, sink: &mut impl Sink<K, V>) {
        self.weights.remove(slot);
        if let Some(wheel) = &mut self.wheel {
            wheel.set(slot, None);
        }
        self.lose_tags(slot);
        let node = self.nodes.remove(slot);
        match cause {
            Cause::Evicted => self.policy.on_evict(slot, node.hash),
            _ => self.policy.on_remove(slot),
        }
        self.index.remove(node.hash, slot);
        match cause {
            Cause::Evicted => self.stats.evictions += 1,
            Cause::Expired => self.stats.expirations += 1,
            _ => self.stats.removals += 1,
        }
        sink.push(Departed { key: node.key, value: node.value, cause });
    }

    #[inline(always)]
    fn lose_tags(&mut self, slot: Slot) {
        if let Some(tags) = &mut self.tags {
            tags.clear(slot);
        }
    }

    /// Sets, moves or removes an entry's deadline. O(1).
    #[inline]
    pub fn set_deadline(&mut self, slot: Slot, deadline: Option<Nanos>, clock: &impl Clock) {
        match &mut self.wheel {
            Some(wheel) => wheel.set(slot, deadline),
            None if deadline.is_none() => {}
            None => self.wheel.insert(Wheel::new(clock.now())).set(slot, deadline),
        }
    }

    /// Lets go at most `most` entries whose deadline has come. O(1) for each; returns how many.
    pub fn expire(&mut self, now: Nanos, most: usize, sink: &mut impl Sink<K, V>) -> usize {
        for expired in 0..most {
            let Some(slot) = self.wheel.as_mut().and_then(|wheel| wheel.pop(now)) else {
                return expired;
            };
            self.let_go(slot, Cause::Expired, sink);
        }
        most
    }

    /// Whether any entry ever had a deadline.
    #[inline]
    #[must_use]
    pub fn has_deadlines(&self) -> bool {
        self.wheel.is_some()
    }

    /// When to call [`expire`](Self::expire) next: within a millisecond of the next deadline
    /// where that is near, earlier where it is far. O(1).
    #[must_use]
    pub fn next_expiry(&self) -> Option<Nanos> {
        self.wheel.as_ref()?.next_event()
    }

    /// Changes the limits; call [`shrink`](Self::shrink) until it returns false. O(n).
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
        self.most_items = limits.most_items();
        self.most_weight = limits.most_weight();
        self.policy.set_bound(limits.bound());
        let nodes = &self.nodes;
        self.index.reshape(limits.capacity(), |slot| nodes.get(slot).hash);
        self.shrinking = self.is_over();
    }

    /// Whether there is more than the limits allow.
    fn is_over(&self) -> bool {
        self.len() > self.most_items || self.weights.total() > self.most_weight
    }

    /// Lets go at most `most` entries that the limits leave no room for; whether more must go.
    pub fn shrink(&mut self, most: usize, clock: &impl Clock, sink: &mut impl Sink<K, V>) -> bool {
        for _ in 0..most {
            if !self.is_over() {
                self.shrinking = false;
                return false;
            }
            if self.wheel.is_some() && self.expire(clock.now(), 1, sink) > 0 {
                continue;
            }
            let present = Present(&self.nodes, &self.weights);
            let Some(victim) = self.policy.victim(&present) else { return false };
            self.let_go(victim, Cause::Evicted, sink);
        }
        true
    }

    /// The entry that leaves next, as [`slots`](Self::slots) names it. O(1), over many calls.
    #[must_use]
    pub fn victim(&mut self) -> Option<Slot> {
        self.policy.victim(&Present(&self.nodes, &self.weights))
    }

    /// The slots of all entries, the next victim first. O(n) in all.
    pub fn slots(&self) -> impl Iterator<Item = Slot> {
        self.policy.order(Present(&self.nodes, &self.weights))
    }

    /// How well established an entry is, for [`restore`](Self::restore).
    #[must_use]
    pub fn rank(&self, slot: Slot) -> u64 {
        self.policy.rank(slot, self.nodes.get(slot).hash)
    }

    /// Gives an entry that was just stored the rank it had elsewhere.
    pub fn restore(&mut self, slot: Slot, rank: u64) {
        self.policy.restore(slot, self.nodes.get(slot).hash, rank);
    }

    /// The number that the owner keeps with an entry; 0 where there is none. O(1).
    #[inline]
    #[must_use]
    pub fn stamp(&self, slot: Slot) -> u64 {
        self.stamps.as_ref().map_or(0, |stamps| stamps.get(slot))
    }

    /// Keeps a number with an entry, as long as it stays; to be set anew with each entry that is put. O(1).
    pub fn set_stamp(&mut self, slot: Slot, stamp: u64) {
        self.stamps.get_or_insert_with(|| Box::new(Column::new(self.limits.capacity()))).set(slot, stamp);
    }

    /// Every key and value, in no particular order. What it costs is up to the caller.
    pub fn entries(&self) -> impl Iterator<Item = (&K, &V)> {
        self.nodes.iter().map(|(_, node)| (&node.key, &node.value))
    }

    /// Empties the store and hands over what was in it, to be let go elsewhere. O(1).
    #[must_use]
    pub fn drain(&mut self) -> Drained<K, V> {
        let empty = Self::new(self.limits, self.seed.wrapping_add(1));
        let full = std::mem::replace(self, empty);
        self.stats = full.stats;
        self.stats.removals += full.len() as u64;
        Drained { nodes: full.nodes, _tags: full.tags }
    }

    /// The same store, with the keys and values that the closure makes of the old ones. O(n).
    #[must_use]
    pub fn map<L, W>(&self, mut convert: impl FnMut(&K, &V) -> (L, W)) -> Store<L, W, P>
    where
        P: Clone,
    {
        Store {
            nodes: self.nodes.map(|node| {
                let (key, value) = convert(&node.key, &node.value);
                Node { key, value, hash: node.hash }
            }),
            index: self.index.clone(),
            policy: self.policy.clone(),
            most_items: self.most_items,
            most_weight: self.most_weight,
            weights: self.weights.clone(),
            wheel: self.wheel.clone(),
            tags: self.tags.clone(),
            stamps: self.stamps.clone(),
            stats: self.stats,
            limits: self.limits,
            shrinking: self.shrinking,
            seed: self.seed,
        }
    }

    /// Recounts everything. O(n).
    ///
    /// # Errors
    ///
    /// What was found to be wrong, in words: a bug in this crate.
    pub fn check(&self) -> Result<(), String> {
        if self.is_over() {
            return Err("the limits do not hold".into());
        }
        self.check_structure()
    }

    fn check_structure(&self) -> Result<(), String> {
        let len = self.nodes.iter().count();
        if len != self.nodes.len() || len != self.index.len() {
            return Err(format!(
                "{len} nodes, {} counted, {} in the index",
                self.nodes.len(),
                self.index.len()
            ));
        }
        if !self.index.is_sound(|slot| self.nodes.get(slot).hash) {
            return Err("an entry is in the wrong segment of the index".into());
        }
        if let Some(slot) = self.index.iter().find(|&slot| self.nodes.try_get(slot).is_none()) {
            return Err(format!("the index names {slot:?}, which is empty"));
        }
        self.policy.check(len)?;
        if self.slots().take(len + 1).count() != len {
            return Err("the order of eviction leaves entries out".into());
        }
        let total: u128 = self.nodes.iter().map(|(slot, _)| u128::from(self.weights.get(slot))).sum();
        if total != u128::from(self.weights.total()) {
            return Err(format!("the weights add up to {total}, not {}", self.weights.total()));
        }
        if let Some(wheel) = &self.wheel {
            wheel.check(self.nodes.iter().map(|(slot, _)| slot))?;
        }
        match &self.tags {
            Some(tags) => tags.check(self.nodes.iter().map(|(slot, _)| slot)),
            None => Ok(()),
        }
    }

    #[cfg(not(feature = "strict"))]
    #[expect(clippy::unused_self, reason = "the strict build uses it")]
    #[inline(always)]
    fn recount(&self) {}

    #[cfg(feature = "strict")]
    fn recount(&mut self) {
        // Who lowers the limits lets entries go afterwards, one by one.
        self.shrinking &= self.is_over();
        let found = if self.shrinking { self.check_structure() } else { self.check() };
        if let Err(wrong) = found {
            panic!("the store is damaged: {wrong}");
        }
    }
}

/// The former contents of a store.
#[derive(Debug)]
pub struct Drained<K, V> {
    nodes: Arena<Node<K, V>>,
    /// Takes time to drop, which is the caller's to choose.
    _tags: Option<Box<Tags>>,
}

impl<K, V> Drained<K, V> {
    /// How many entries there were.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there was none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The entries, in no particular order.
    pub fn into_departed(self, cause: Cause) -> impl Iterator<Item = Departed<K, V>> {
        self.nodes.into_nodes().map(move |node| Departed { key: node.key, value: node.value, cause })
    }
}
