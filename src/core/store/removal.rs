//! How entries leave a store: one function removes an entry, and hands its key and value to the caller's sink.

use super::{EntryStore, Limits, Present};
use crate::arena::Arena;
use crate::clock::{Clock, Nanos};
use crate::column::Column;
use crate::index::Index;
use crate::memory::{OutOfMemory, TryBox};
use crate::node::Node;
use crate::policy::Policy;
use crate::slot::Slot;
use crate::tags::Tags;
use crate::weights::Weights;

/// Why an entry was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It was evicted to make room for another.
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

/// A removed key and value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removed<K, V> {
    /// The key; for a replaced value, the equal key that replaced it.
    pub key: K,
    /// The value.
    pub value: V,
    /// Why it was removed.
    pub cause: Cause,
}

/// Takes the entries that a store removes.
pub trait RemovalSink<K, V> {
    /// Makes room for one more entry. The store calls this before it removes each entry, except where a call
    /// removes only the entry that it was given or found expired. If this fails, the call removes no more
    /// entries.
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`].
    fn try_reserve(&mut self) -> Result<(), OutOfMemory> {
        Ok(())
    }

    /// Takes one entry. The store is in the middle of a call, so only keep the entry, and process it later.
    fn push(&mut self, removed: Removed<K, V>);
}

impl<K, V> RemovalSink<K, V> for Vec<Removed<K, V>> {
    fn try_reserve(&mut self) -> Result<(), OutOfMemory> {
        Ok(Vec::try_reserve(self, 1)?)
    }

    fn push(&mut self, removed: Removed<K, V>) {
        Vec::push(self, removed);
    }
}

/// For a call that removes one entry at most.
impl<K, V> RemovalSink<K, V> for Option<Removed<K, V>> {
    fn try_reserve(&mut self) -> Result<(), OutOfMemory> {
        if self.is_none() { Ok(()) } else { Err(OutOfMemory) }
    }

    #[inline]
    fn push(&mut self, removed: Removed<K, V>) {
        debug_assert!(self.is_none());
        *self = Some(removed);
    }
}

impl<K, V, P: Policy> EntryStore<K, V, P> {
    /// Removes an entry. O(1).
    #[inline]
    pub fn remove(&mut self, slot: Slot, cause: Cause, sink: &mut impl RemovalSink<K, V>) {
        self.remove_entry(slot, cause, sink);
        self.recount();
    }

    /// The only function that removes an entry.
    #[inline]
    pub(super) fn remove_entry(&mut self, slot: Slot, cause: Cause, sink: &mut impl RemovalSink<K, V>) {
        self.weights.remove(slot);
        if let Some(wheel) = &mut self.wheel {
            wheel.set(slot, None);
        }
        self.remove_tags(slot);
        let node = self.nodes.remove(slot);
        match cause {
            Cause::Evicted => self.policy.on_evict(slot, self.hash(slot)),
            _ => self.policy.on_remove(slot),
        }
        self.index.remove(self.hashes.get(slot), slot);
        match cause {
            Cause::Evicted => self.stats.evictions += 1,
            Cause::Expired => self.stats.expirations += 1,
            _ => self.stats.removals += 1,
        }
        sink.push(Removed { key: node.key, value: node.value, cause });
    }

    #[inline(always)]
    pub(super) fn remove_tags(&mut self, slot: Slot) {
        if let Some(tags) = &mut self.tags {
            tags.clear(slot);
        }
    }

    /// Removes at most `most` entries that have a tag, those first that have had it longest, and returns
    /// their number. The cause of an entry that has expired is [`Cause::Expired`]. O(1) for each.
    pub fn evict_tag(
        &mut self,
        tag: &str,
        most: usize,
        clock: &impl Clock,
        sink: &mut impl RemovalSink<K, V>,
    ) -> usize {
        let tagged = self.tags.as_ref().and_then(|tags| tags.find(tag).map(|id| (id, tags.len(id))));
        let Some((id, len)) = tagged else { return 0 };
        // A tag ends with its last entry, so the loop never looks at it after that.
        for evicted in 0..len.min(most) {
            if sink.try_reserve().is_err() {
                return evicted;
            }
            let Some(slot) = self.tags.as_ref().and_then(|tags| tags.oldest(id)) else { return evicted };
            let expired = self.has_expired(slot, clock);
            self.remove_entry(slot, if expired { Cause::Expired } else { Cause::Deleted }, sink);
        }
        self.recount();
        len.min(most)
    }

    /// Removes at most `most` entries whose deadline has come, and returns their number. O(1) for each.
    pub fn expire(&mut self, now: Nanos, most: usize, sink: &mut impl RemovalSink<K, V>) -> usize {
        for expired in 0..most {
            if sink.try_reserve().is_err() {
                return expired;
            }
            let Some(slot) = self.wheel.as_mut().and_then(|wheel| wheel.pop(now)) else {
                return expired;
            };
            self.remove_entry(slot, Cause::Expired, sink);
        }
        most
    }

    /// Changes the limits; call [`shrink`](Self::shrink) until it returns false. O(n).
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
        self.most_items = limits.most_items();
        self.most_weight = limits.most_weight();
        self.policy.set_bound(limits.bound());
        let hashes = &self.hashes;
        self.index.set_bound(limits.bound_of_index(), |slot| hashes.get(slot));
        self.shrinking = self.is_over();
    }

    /// Whether the entries exceed the limits.
    pub(super) fn is_over(&self) -> bool {
        self.len() > self.most_items || self.weights.total() > self.most_weight
    }

    /// Removes at most `most` entries while the store exceeds its limits. Returns whether it still may.
    pub fn shrink(&mut self, most: usize, clock: &impl Clock, sink: &mut impl RemovalSink<K, V>) -> bool {
        for _ in 0..most {
            if !self.is_over() {
                self.shrinking = false;
                return false;
            }
            if sink.try_reserve().is_err() {
                return true;
            }
            if self.wheel.is_some() && self.expire(clock.now(), 1, sink) > 0 {
                continue;
            }
            let present = Present(&self.hashes, &self.weights);
            let Some(victim) = self.policy.victim(&present) else { return false };
            self.remove_entry(victim, Cause::Evicted, sink);
        }
        true
    }

    /// Empties the store and returns its contents, for the caller to drop. O(1).
    #[must_use]
    pub fn drain(&mut self) -> Drained<K, V> {
        let capacity = self.limits.capacity();
        self.stats.removals += self.len() as u64;
        self.seed = self.seed.wrapping_add(1);
        self.policy.reset(capacity, self.seed);
        self.policy.set_bound(self.limits.bound());
        self.policy.set_goal(self.goal);
        self.hashes = Column::new(capacity);
        self.index = Index::new(self.limits.bound_of_index());
        self.weights = Weights::new();
        (self.wheel, self.stamps, self.fetched, self.shrinking) = (None, None, None, false);
        let nodes = std::mem::replace(&mut self.nodes, Arena::new(capacity));
        Drained { nodes, _tags: self.tags.take() }
    }
}

/// The former contents of a store.
#[derive(Debug)]
pub struct Drained<K, V> {
    nodes: Arena<Node<K, V>>,
    /// Slow to drop, so the caller chooses when.
    _tags: Option<TryBox<Tags>>,
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
    pub fn into_removed(self, cause: Cause) -> impl Iterator<Item = Removed<K, V>> {
        self.nodes.into_nodes().map(move |node| Removed { key: node.key, value: node.value, cause })
    }
}
