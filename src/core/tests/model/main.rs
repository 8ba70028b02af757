//! The store against a model that is as plain as can be, operation by operation.

mod orders;
mod plain;

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use flexcache_core::policy::{Auto, Fifo, Lfu, Lru, Policy, Random, S3Fifo, Sieve, TinyLfu};
use flexcache_core::{Cause, Clock, EntryStore, Limits, ManualClock, New, Removed, Slot, TryClone};
use proptest::prelude::*;

use orders::{AnyOrder, FifoOrder, LfuOrder, LruOrder, Order, S3FifoOrder, SieveOrder};
use plain::{Entry, Plain, TagSet};

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
enum Hashing {
    Spread,
    AllAlike,
    /// Only the lowest bits differ.
    Low,
    /// Only the highest bits differ.
    High,
}

impl Hashing {
    fn of(self, key: u8) -> u64 {
        let key = u64::from(key);
        match self {
            Self::Spread => (key + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29),
            Self::AllAlike => 7,
            Self::Low => key,
            Self::High => key << 57,
        }
    }
}

#[derive(Clone, Debug)]
enum Op {
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

const TAGS: [&str; 4] = ["", "a", "aa", "ä"];

/// Lifetimes in nanoseconds: within a tick of the wheel, over some, and on every level.
fn lifetime() -> impl Strategy<Value = u64> {
    prop_oneof![0..3_000_000_u64, 0..300_000_000_u64, (0..63_u32).prop_map(|bits| 1 << bits), Just(u64::MAX)]
}

fn op() -> impl Strategy<Value = Op> {
    let key = || 0..12_u8;
    let weight = || prop_oneof![4 => Just(1), 2 => 0..6_u64, 1 => Just(u64::MAX)];
    prop_oneof![
        6 => key().prop_map(Op::Get),
        6 => (key(), weight(), proptest::option::weighted(0.3, lifetime()))
            .prop_map(|(key, weight, lifetime)| Op::Put { key, weight, lifetime }),
        4 => (
            key(), weight(), proptest::option::weighted(0.3, lifetime()), prop::collection::vec(0..4_u8, 0..5)
        )
            .prop_map(|(key, weight, lifetime, tags)| Op::PutTagged { key, weight, lifetime, tags }),
        2 => (0..4_u8, prop_oneof![0..4_usize, Just(usize::MAX)])
            .prop_map(|(tag, most)| Op::EvictTag { tag, most }),
        4 => key().prop_map(Op::PutPlain),
        2 => key().prop_map(Op::Remove),
        1 => Just(Op::PopVictim),
        1 => (key(), proptest::option::of(lifetime()))
            .prop_map(|(key, lifetime)| Op::SetDeadline { key, lifetime }),
        2 => lifetime().prop_map(|by| Op::Advance(by.min(1 << 60))),
        1 => (0..4_usize).prop_map(|most| Op::Expire { most }),
        1 => (0..10_u64, 0..20_u64).prop_map(|(items, weight)| Op::Resize { items, weight }),
        1 => Just(Op::Clear),
        1 => Just(Op::Map),
    ]
}

fn hashing() -> impl Strategy<Value = Hashing> {
    prop_oneof![
        3 => Just(Hashing::Spread),
        1 => Just(Hashing::AllAlike),
        1 => Just(Hashing::Low),
        1 => Just(Hashing::High)
    ]
}

type RemovedEntries = Vec<Removed<u8, Counted>>;

struct Run<P: Policy, O: Order> {
    store: EntryStore<u8, Counted, P>,
    model: Plain<O>,
    clock: ManualClock,
    hashing: Hashing,
    alive: Rc<Cell<i64>>,
    next_id: u64,
}

impl<P: Policy + TryClone, O: Order> Run<P, O> {
    fn new(limits: Limits, hashing: Hashing) -> Self {
        Self {
            store: EntryStore::new(limits, 1),
            model: Plain::new(limits),
            clock: ManualClock::default(),
            hashing,
            alive: Rc::default(),
            next_id: 0,
        }
    }

    fn find(&self, key: u8) -> Option<Slot> {
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
    fn step(&mut self, op: &Op) {
        let mut removed = RemovedEntries::new();
        let now = self.clock.now();
        self.model.begin(now);
        match *op {
            Op::Get(key) => {
                let found = self.find(key);
                let value = self.store.get(found, &self.clock, &mut removed).map(|value| value.id);
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
                    let value = self.store.exchange(slot, value);
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

fn agree<P: Policy + TryClone, O: Order>(limits: Limits, hashing: Hashing, ops: &[Op]) {
    let mut run = Run::<P, O>::new(limits, hashing);
    for op in ops {
        run.step(op);
    }
    let alive = Rc::clone(&run.alive);
    drop(run);
    assert_eq!(alive.get(), 0, "a value outlived its store");
}

fn limits() -> impl Strategy<Value = Limits> {
    (0..8_u64, prop_oneof![2 => Just(0), 1 => 1..16_u64])
        .prop_map(|(items, weight)| Limits::new(items, weight))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn lru_agrees(limits in limits(), hashing in hashing(), ops in prop::collection::vec(op(), 0..120)) {
        agree::<Lru, LruOrder>(limits, hashing, &ops);
    }

    #[test]
    fn fifo_agrees(limits in limits(), hashing in hashing(), ops in prop::collection::vec(op(), 0..120)) {
        agree::<Fifo, FifoOrder>(limits, hashing, &ops);
    }

    #[test]
    fn lfu_agrees(limits in limits(), hashing in hashing(), ops in prop::collection::vec(op(), 0..120)) {
        agree::<Lfu, LfuOrder>(limits, hashing, &ops);
    }

    #[test]
    fn random_agrees(limits in limits(), hashing in hashing(), ops in prop::collection::vec(op(), 0..120)) {
        agree::<Random, AnyOrder>(limits, hashing, &ops);
    }

    #[test]
    fn sieve_agrees(limits in limits(), hashing in hashing(), ops in prop::collection::vec(op(), 0..120)) {
        agree::<Sieve, SieveOrder>(limits, hashing, &ops);
    }

    #[test]
    fn s3fifo_agrees(limits in limits(), hashing in hashing(), ops in prop::collection::vec(op(), 0..120)) {
        agree::<S3Fifo, S3FifoOrder>(limits, hashing, &ops);
    }

    #[test]
    fn tinylfu_agrees(limits in limits(), hashing in hashing(), ops in prop::collection::vec(op(), 0..120)) {
        agree::<TinyLfu, AnyOrder>(limits, hashing, &ops);
    }

    #[test]
    fn auto_agrees(limits in limits(), hashing in hashing(), ops in prop::collection::vec(op(), 0..120)) {
        agree::<Auto, AnyOrder>(limits, hashing, &ops);
    }
}

/// Frequencies are halved after a thousand accesses, which random operations seldom reach.
#[test]
fn lfu_ages_as_described() {
    let mut run = Run::<Lfu, LfuOrder>::new(Limits::new(6, 0), Hashing::Spread);
    let mut state = 1_u64;
    for _ in 0..12_000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        // Small keys are asked for more often.
        let key = ((state >> 33) % 8).min((state >> 40) % 12) as u8;
        run.step(&if run.find(key).is_some() {
            Op::Get(key)
        } else {
            Op::Put { key, weight: 1, lifetime: None }
        });
    }
}
