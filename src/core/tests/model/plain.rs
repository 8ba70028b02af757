//! The model: a list of entries, and every rule spelled out the slow way.

use flexcache_core::{Cause, Error, Limits, Removed, Stats};

use crate::orders::Order;
use crate::run::Counted;

/// Numbers of tags, each once, in the order in which they were given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TagSet([Option<u8>; 4]);

impl TagSet {
    pub(crate) fn of(given: &[u8]) -> Self {
        let mut set = Self::default();
        for &tag in given {
            if !set.has(tag) {
                *set.0.iter_mut().find(|place| place.is_none()).expect("there are no more tags") = Some(tag);
            }
        }
        set
    }

    fn has(self, tag: u8) -> bool {
        self.0.contains(&Some(tag))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) id: u64,
    pub(crate) weight: u64,
    pub(crate) deadline: Option<u64>,
    pub(crate) tags: TagSet,
}

pub(crate) struct Plain<O: Order> {
    entries: Vec<(u8, Entry)>,
    order: O,
    limits: Limits,
    stats: Stats,
    now: u64,
    /// Keys that the store let go in the present call and why, for what is up to the store.
    observed: Vec<(u8, Cause)>,
    left: Vec<(u8, u64, Cause)>,
}

impl<O: Order> Plain<O> {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            entries: Vec::new(),
            order: O::new(limits),
            limits,
            stats: Stats::default(),
            now: 0,
            observed: Vec::new(),
            left: Vec::new(),
        }
    }

    /// A call begins at this time.
    pub(crate) fn begin(&mut self, now: u64) {
        self.now = now;
        self.observed.clear();
    }

    /// What the store did, where it had a choice.
    pub(crate) fn observe(&mut self, removed: &[Removed<u8, Counted>]) {
        self.observed = removed.iter().map(|entry| (entry.key, entry.cause)).collect();
    }

    pub(crate) fn take_left(&mut self) -> Vec<(u8, u64, Cause)> {
        std::mem::take(&mut self.left)
    }

    pub(crate) fn order(&self) -> Vec<u8> {
        self.order.order()
    }

    pub(crate) fn contents(&self) -> Vec<(u8, Entry)> {
        let mut contents = self.entries.clone();
        contents.sort_by_key(|&(key, _)| key);
        contents
    }

    pub(crate) fn stats(&self) -> Stats {
        self.stats
    }

    pub(crate) fn first_deadline(&self) -> Option<u64> {
        self.entries.iter().filter_map(|(_, entry)| entry.deadline).min()
    }

    fn entry(&mut self, key: u8) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|(other, _)| *other == key).map(|(_, entry)| entry)
    }

    fn total(&self) -> u64 {
        self.entries.iter().map(|(_, entry)| entry.weight).sum()
    }

    fn most_items(&self) -> usize {
        self.limits.items.map_or(usize::MAX, |most| usize::try_from(most.get()).unwrap_or(usize::MAX))
    }

    fn most_weight(&self) -> u64 {
        self.limits.weight.map_or(u64::MAX, std::num::NonZeroU64::get)
    }

    fn leave(&mut self, key: u8, cause: Cause) {
        if cause == Cause::Evicted {
            self.order.evict(key);
        } else {
            self.order.remove(key);
        }
        let at = self.entries.iter().position(|&(other, _)| other == key).expect("it is not there");
        let (_, entry) = self.entries.remove(at);
        match cause {
            Cause::Evicted => self.stats.evictions += 1,
            Cause::Expired => self.stats.expirations += 1,
            _ => self.stats.removals += 1,
        }
        self.left.push((key, entry.id, cause));
    }

    fn has_expired(&mut self, key: u8) -> bool {
        let now = self.now;
        self.entry(key).is_some_and(|entry| entry.deadline.is_some_and(|deadline| deadline <= now))
    }

    fn expired(&mut self) -> Vec<u8> {
        let keys: Vec<u8> = self.entries.iter().map(|&(key, _)| key).collect();
        keys.into_iter().filter(|&key| self.has_expired(key)).collect()
    }

    /// Whether the key is there; if it has expired, it leaves.
    fn live(&mut self, key: u8) -> bool {
        if self.has_expired(key) {
            self.leave(key, Cause::Expired);
        }
        self.entry(key).is_some()
    }

    fn evict(&mut self, kept: Option<u8>) {
        let victim = if O::EXACT {
            self.order.settle();
            let others = self.order.order().into_iter().find(|&key| Some(key) != kept);
            others.expect("only the one that is kept is left")
        } else {
            let evicted = |&(_, cause): &(u8, Cause)| cause == Cause::Evicted;
            let at = self.observed.iter().position(evicted).expect("the store evicted too few");
            self.observed.remove(at).0
        };
        self.leave(victim, Cause::Evicted);
    }

    fn is_over(&self, items: usize, weight: u64) -> bool {
        self.entries.len() + items > self.most_items() || self.total() > self.most_weight() - weight
    }

    fn make_room(&mut self, items: usize, weight: u64, kept: Option<u8>) {
        for key in self.expired() {
            self.leave(key, Cause::Expired);
        }
        while self.is_over(items, weight) {
            self.evict(kept);
        }
    }

    pub(crate) fn get(&mut self, key: u8) -> Option<u64> {
        if self.live(key) {
            self.stats.hits += 1;
            self.order.access(key);
            return self.entry(key).map(|entry| entry.id);
        }
        self.stats.misses += 1;
        None
    }

    pub(crate) fn put(&mut self, key: u8, hash: u64, new: Entry) -> Result<(), Error> {
        let (weight, limit) = (new.weight, self.most_weight());
        if weight > limit {
            return Err(Error::TooHeavy { weight, limit });
        }
        let total = self.total();
        let freed = self.entry(key).map_or(0, |entry| entry.weight);
        if self.limits.weight.is_none() && (total - freed).checked_add(weight).is_none() {
            return Err(Error::WeightOverflow { weight, total: total - freed });
        }
        if !self.live(key) {
            if self.is_over(1, weight) {
                self.make_room(1, weight, None);
            }
            self.entries.push((key, new));
            self.order.insert(key, hash);
            self.stats.insertions += 1;
            return Ok(());
        }
        let old = std::mem::replace(
            self.entry(key).expect("it is live"),
            Entry { weight: 0, deadline: None, tags: TagSet::default(), ..new },
        );
        self.left.push((key, old.id, Cause::Replaced));
        self.stats.updates += 1;
        self.order.replace(key);
        if old.weight != weight && self.is_over(0, weight) {
            self.make_room(0, weight, Some(key));
        }
        *self.entry(key).expect("it is live") = new;
        Ok(())
    }

    pub(crate) fn remove(&mut self, key: u8) {
        if self.live(key) {
            self.leave(key, Cause::Deleted);
        }
    }

    /// The keys that have a tag, the first to get it first.
    pub(crate) fn tagged(&self, tag: u8) -> Vec<u8> {
        let mut members: Vec<_> = self.entries.iter().filter(|(_, entry)| entry.tags.has(tag)).collect();
        members.sort_by_key(|(_, entry)| entry.id);
        members.into_iter().map(|&(key, _)| key).collect()
    }

    pub(crate) fn evict_tag(&mut self, tag: u8, most: usize) -> usize {
        let mut leaving = self.tagged(tag);
        leaving.truncate(most);
        for &key in &leaving {
            let cause = if self.has_expired(key) { Cause::Expired } else { Cause::Deleted };
            self.leave(key, cause);
        }
        leaving.len()
    }

    pub(crate) fn pop_victim(&mut self) {
        self.order.settle();
        let victim = if O::EXACT {
            self.order.order().first().copied()
        } else {
            self.observed.first().map(|&(key, _)| key)
        };
        if let Some(victim) = victim {
            self.leave(victim, Cause::Popped);
        }
        assert!(victim.is_some() || self.entries.is_empty());
    }

    pub(crate) fn set_deadline(&mut self, key: u8, deadline: Option<u64>) {
        if let Some(entry) = self.entry(key) {
            entry.deadline = deadline;
        }
    }

    /// Lets go what the store let go, if it may and must.
    pub(crate) fn expire(&mut self, most: usize) {
        assert_eq!(self.observed.len(), most.min(self.expired().len()), "so many expire");
        for (key, cause) in std::mem::take(&mut self.observed) {
            assert_eq!((self.has_expired(key), cause), (true, Cause::Expired));
            self.leave(key, cause);
        }
    }

    pub(crate) fn resize(&mut self, limits: Limits) {
        self.limits = limits;
        self.order.set_limits(limits);
        while self.is_over(0, 0) {
            let expired = self.observed.iter().position(|&(_, cause)| cause == Cause::Expired);
            if let Some(at) = expired {
                let (key, _) = self.observed.remove(at);
                assert!(self.has_expired(key));
                self.leave(key, Cause::Expired);
            } else {
                assert_eq!(self.expired(), [], "what has expired leaves before anything else");
                self.evict(None);
            }
        }
    }

    pub(crate) fn clear(&mut self) {
        for (key, _) in self.entries.clone() {
            self.leave(key, Cause::Cleared);
        }
        self.order = O::new(self.limits);
    }
}
