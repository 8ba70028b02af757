//! Operations on a store and on its model at once, which must agree.
//!
//! Also what the fuzz target runs.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use flexcache_core::policy::Policy;
use flexcache_core::{Cause, Clock, EntryStore, Limits, ManualClock, New, Removed, Slot, TryClone};

use crate::orders::Order;
use crate::plain::{Entry, Plain, TagSet};

/// Counts the values that are alive.
#[derive(Debug)]
pub(crate) struct Counted {
    id: u64,
    alive: Rc<Cell<i64>>,
}

impl Counted {
    fn new(id: u64, alive: &Rc<Cell<i64>>) -> Self {
        alive.set(alive.get() + 1);
        Self { id, alive: Rc::clone(alive) }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.alive.set(self.alive.get() - 1);
    }
}

/// How keys are hashed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Hashing {
    Spread,
    AllAlike,
    /// Only the lowest bits differ.
    Low,
    /// Only the highest of the bits that count differ.
    High,
}

impl Hashing {
    fn of(self, key: u8) -> u64 {
        let key = u64::from(key);
        match self {
            Self::Spread => (key + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29),
            Self::AllAlike => 7,
            Self::Low => key,
            Self::High => key << 25,
        }
    }
}

/// An operation. Keys are below 12, tags below 4.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Get(u8),
    Put { key: u8, weight: u64, lifetime: Option<u64> },
    PutTagged { key: u8, weight: u64, lifetime: Option<u64>, tags: Vec<u8> },
    EvictTag { tag: u8, most: usize },
    PutPlain(u8),
    Remove(u8),
    PopVictim,
    SetDeadline { key: u8, lifetime: Option<u64> },
    Advance(u64),
    Expire { most: usize },
    Resize { items: u64, weight: u64 },
    Clear,
    Map,
}

pub(crate) const TAGS: [&str; 4] = ["", "a", "aa", "ä"];

type RemovedEntries = Vec<Removed<u8, Counted>>;

/// A store and its model.
pub(crate) struct Run<P: Policy, O: Order> {
    store: EntryStore<u8, Counted, P>,
    model: Plain<O>,
    clock: ManualClock,
    hashing: Hashing,
    alive: Rc<Cell<i64>>,
    next_id: u64,
}

impl<P: Policy + TryClone, O: Order> Run<P, O> {
    pub(crate) fn new(limits: Limits, hashing: Hashing) -> Self {
        Self {
            store: EntryStore::new(limits, 1),
            model: Plain::new(limits),
            clock: ManualClock::default(),
            hashing,
            alive: Rc::default(),
            next_id: 0,
        }
    }

    pub(crate) fn find(&self, key: u8) -> Option<Slot> {
        let found = self.store.find(self.hashing.of(key), |stored| Ok::<_, ()>(*stored == key));
        found.expect("equality does not fail here")
    }

    fn value(&mut self) -> Counted {
        self.next_id += 1;
        Counted::new(self.next_id, &self.alive)
    }

    fn deadline(&self, lifetime: Option<u64>) -> Option<u64> {
        lifetime.map(|lifetime| self.clock.now().saturating_add(lifetime).max(1))
    }

    fn put(
        &mut self,
        key: u8,
        weight: u64,
        lifetime: Option<u64>,
        tags: Option<&[u8]>,
        removed: &mut RemovedEntries,
    ) {
        let (value, found, hash) = (self.value(), self.find(key), self.hashing.of(key));
        let (id, deadline) = (value.id, self.deadline(lifetime));
        let new = New { key, value, weight, deadline };
        let put = match tags {
            None => self.store.put(found, hash, new, &self.clock, removed),
            Some(tags) => {
                let names: Vec<_> = tags.iter().map(|&tag| TAGS[usize::from(tag)]).collect();
                self.store.put_tagged(found, hash, new, &names, &self.clock, removed)
            }
        };
        self.model.observe(removed);
        let tags = TagSet::of(tags.unwrap_or_default());
        let stored = self.model.put(key, hash, Entry { id, weight, deadline, tags });
        assert_eq!(put.map(drop).map_err(|(error, _)| error), stored, "put");
    }

    /// Runs one operation on both, and compares what left.
    pub(crate) fn step(&mut self, op: &Op) {
        let mut removed = RemovedEntries::new();
        let now = self.clock.now();
        self.model.begin(now);
        match *op {
            Op::Get(key) => {
                let found = self.find(key);
                let value = self
                    .store
                    .get(found, self.hashing.of(key), &self.clock, &mut removed)
                    .map(|value| value.id);
                assert_eq!(value, self.model.get(key), "get");
            }
            Op::Put { key, weight, lifetime } => self.put(key, weight, lifetime, None, &mut removed),
            Op::PutTagged { key, weight, lifetime, ref tags } => {
                self.put(key, weight, lifetime, Some(tags), &mut removed);
            }
            Op::EvictTag { tag, most } => {
                let name = TAGS[usize::from(tag)];
                let count = self.store.evict_tag(name, most, &self.clock, &mut removed);
                assert_eq!(count, self.model.evict_tag(tag, most), "so many had the tag");
            }
            Op::PutPlain(key) => {
                if !self.store.is_plain() {
                    return;
                }
                let (value, found) = (self.value(), self.find(key));
                let entry = Entry { id: value.id, weight: 1, deadline: None, tags: TagSet::default() };
                if let Some(slot) = found {
                    let value = self.store.exchange(slot, self.hashing.of(key), value);
                    removed.push(Removed { key, value, cause: Cause::Replaced });
                } else {
                    let place = self.store.reserve_plain(self.hashing.of(key)).expect("there is memory");
                    removed.extend(self.store.insert_plain(place, self.hashing.of(key), key, value));
                }
                self.model.observe(&removed);
                assert_eq!(self.model.put(key, self.hashing.of(key), entry), Ok(()), "a plain put");
            }
            Op::Remove(key) => {
                let found = self.find(key);
                if let Some(slot) = self.store.live(found, &self.clock, &mut removed) {
                    self.store.remove(slot, Cause::Deleted, &mut removed);
                }
                self.model.remove(key);
            }
            Op::PopVictim => {
                if let Some(victim) = self.store.victim() {
                    self.store.remove(victim, Cause::Popped, &mut removed);
                }
                self.model.observe(&removed);
                self.model.pop_victim();
            }
            Op::SetDeadline { key, lifetime } => {
                let deadline = self.deadline(lifetime);
                if let Some(slot) = self.find(key) {
                    self.store.set_deadline(slot, deadline, &self.clock).expect("there is memory");
                    assert_eq!(self.store.deadline(slot), deadline);
                }
                self.model.set_deadline(key, deadline);
            }
            Op::Advance(by) => self.clock.advance(Duration::from_nanos(by)),
            Op::Expire { most } => {
                let count = self.store.expire(now, most, &mut removed);
                assert_eq!(count, removed.len());
                self.model.observe(&removed);
                self.model.expire(most);
            }
            Op::Resize { items, weight } => {
                let limits = Limits::new(items, weight);
                self.store.set_limits(limits);
                while self.store.shrink(2, &self.clock, &mut removed) {}
                self.model.observe(&removed);
                self.model.resize(limits);
            }
            Op::Clear => {
                removed.extend(self.store.drain().into_removed(Cause::Cleared));
                self.model.clear();
            }
            Op::Map => {
                let alive = &self.alive;
                let copy = self
                    .store
                    .try_map(|&key, value| (key, Counted::new(value.id, alive)))
                    .expect("there is memory");
                let original = std::mem::replace(&mut self.store, copy);
                drop(original);
            }
        }
        self.compare(removed);
    }

    fn tags(&self, slot: Slot) -> TagSet {
        let number = |name| TAGS.iter().zip(0..).find(|&(other, _)| *other == name).expect("it was given").1;
        TagSet::of(&self.store.tags(slot).map(number).collect::<Vec<_>>())
    }

    fn victims(&self) -> Vec<u8> {
        self.store.slots().map(|slot| *self.store.key(slot)).collect()
    }

    fn compare(&mut self, removed: RemovedEntries) {
        let mut left: Vec<_> = removed.iter().map(|entry| (entry.key, entry.value.id, entry.cause)).collect();
        let mut expected = self.model.take_left();
        // What expires, or is cleared, leaves in no promised order.
        left.sort_by_key(|&(_, id, _)| id);
        expected.sort_by_key(|&(_, id, _)| id);
        assert_eq!(left, expected, "what left");
        assert_eq!(self.store.check(), Ok(()));
        let order = self.victims();
        if O::EXACT {
            assert_eq!(order, self.model.order(), "the order of eviction");
        }
        let mut contents: Vec<_> = (self.store.slots())
            .map(|slot| {
                let entry = Entry {
                    id: self.store.value(slot).id,
                    weight: self.store.weight_of(slot),
                    deadline: self.store.deadline(slot),
                    tags: self.tags(slot),
                };
                (*self.store.key(slot), entry)
            })
            .collect();
        contents.sort_by_key(|&(key, _)| key);
        assert_eq!(contents, self.model.contents(), "the contents");
        assert_eq!(self.store.stats(), self.model.stats(), "the counts");
        for (name, tag) in TAGS.into_iter().zip(0..) {
            assert_eq!(self.store.count_tagged(name), self.model.tagged(tag).len(), "the members of a tag");
        }
        let here = i64::try_from(contents.len() + removed.len()).expect("small");
        assert_eq!(self.alive.get(), here, "a value was dropped, or kept, by the store");
        drop(removed);
        if let Some(next) = self.store.next_expiry() {
            let first = self.model.first_deadline().expect("there is no deadline to expect");
            assert!(next <= first.saturating_add(1 << 20), "{next} is too late for {first}");
        }
    }
}

/// Runs all operations on both, and sees that no value outlives the store.
pub(crate) fn agree<P: Policy + TryClone, O: Order>(limits: Limits, hashing: Hashing, ops: &[Op]) {
    let mut run = Run::<P, O>::new(limits, hashing);
    for op in ops {
        run.step(op);
    }
    let alive = Rc::clone(&run.alive);
    drop(run);
    assert_eq!(alive.get(), 0, "a value outlived its store");
}
