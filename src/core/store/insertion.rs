//! How entries enter a store, and how room is made for them.

use super::{Cause, EntryStore, Present, RemovalSink, Removed};
use crate::clock::{Clock, Nanos};
use crate::error::Error;
use crate::node::Node;
use crate::policy::Policy;
use crate::slot::Slot;
use crate::tags::Tags;
use crate::wheel::Wheel;

/// How many expired entries a call removes on the way to what it was asked for.
const EXPIRED_A_CALL: usize = 64;

/// An entry to store.
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

impl<K, V, P: Policy> EntryStore<K, V, P> {
    /// Checks that an entry of this weight can be stored, once room is made.
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

    /// Whether an entry can be stored without an eviction.
    #[inline(always)]
    #[must_use]
    pub fn has_room(&self, weight: u64) -> bool {
        self.len() < self.most_items && self.weights.total() <= self.most_weight.saturating_sub(weight)
    }

    /// Stores an entry, or replaces the value of the one that [`find`](Self::find) found. O(1)
    /// for each entry that is removed.
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
        sink: &mut impl RemovalSink<K, V>,
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

    /// Like [`put`](Self::put), and gives the entry these tags. O(1) for each tag and for each entry
    /// that is removed. A tag that is named twice counts once.
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
        sink: &mut impl RemovalSink<K, V>,
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

    #[inline]
    fn insert(
        &mut self,
        hash: u64,
        new: New<K, V>,
        clock: &impl Clock,
        sink: &mut impl RemovalSink<K, V>,
    ) -> Slot {
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
        sink: &mut impl RemovalSink<K, V>,
    ) -> Slot {
        let node = self.nodes.get_mut(slot);
        self.policy.on_access(slot, node.hash);
        let value = std::mem::replace(&mut node.value, new.value);
        sink.push(Removed { key: new.key, value, cause: Cause::Replaced });
        self.remove_tags(slot);
        self.stats.updates += 1;
        if self.weights.get(slot) != new.weight {
            // Without its old deadline it cannot expire while room is made for it.
            self.set_deadline(slot, None, clock);
            self.reweigh(slot, new.weight, clock, sink);
        }
        self.set_deadline(slot, new.deadline, clock);
        slot
    }

    /// Changes the weight of an entry, and evicts others where it has become heavier.
    #[cold]
    fn reweigh(&mut self, slot: Slot, weight: u64, clock: &impl Clock, sink: &mut impl RemovalSink<K, V>) {
        self.weights.remove(slot);
        if self.weights.total() > self.most_weight - weight {
            self.make_room(0, weight, Some(slot), clock, sink);
        }
        self.weights.add(slot, weight);
    }

    /// Replaces the value of a live entry and returns the old value. Weight and deadline stay, tags are removed. O(1).
    #[inline(always)]
    pub fn exchange(&mut self, slot: Slot, value: V) -> V {
        self.stats.updates += 1;
        self.remove_tags(slot);
        let node = self.nodes.get_mut(slot);
        self.policy.on_access(slot, node.hash);
        std::mem::replace(&mut node.value, value)
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
    pub fn insert_plain(&mut self, hash: u64, key: K, value: V) -> Option<Removed<K, V>> {
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
        self.remove_tags(slot);
        self.stats.evictions += 1;
        self.recount();
        Some(Removed { key: node.key, value: node.value, cause: Cause::Evicted })
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

    /// Removes entries until `items` more of `weight` fit: first those that have expired, then victims.
    /// Never removes `kept`.
    #[inline]
    fn make_room(
        &mut self,
        items: usize,
        weight: u64,
        kept: Option<Slot>,
        clock: &impl Clock,
        sink: &mut impl RemovalSink<K, V>,
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
            self.remove_entry(victim, Cause::Evicted, sink);
        }
    }
}
