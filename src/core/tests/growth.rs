//! Stores that grow over many pieces, and keys that make it hard for the table.

use std::collections::{BTreeMap, HashMap};

use flexcache_core::policy::{Fifo, Lfu, Lru, Policy, Random};
use flexcache_core::{Cause, Clock, EntryStore, Error, Limits, ManualClock, New, Removed, Slot};

type RemovedEntries = Vec<Removed<u64, u64>>;

/// Enough for several pieces of the slab and of the columns, and for a few dozen segments; less
/// where everything is recounted after every operation.
const MANY: u64 = if cfg!(feature = "strict") { 1_000 } else { 60_000 };

fn spread(key: u64) -> u64 {
    let mixed = (key ^ 0x5bd1_e995).wrapping_mul(0xa076_1d64_78bd_642f);
    (mixed ^ mixed >> 32).wrapping_mul(0xe703_7ed1_a0b4_28db)
}

fn find<P: Policy>(store: &EntryStore<u64, u64, P>, key: u64) -> Option<Slot> {
    store.find(spread(key), |stored| Ok::<_, ()>(*stored == key)).expect("no error is returned")
}

fn put<P: Policy>(
    store: &mut EntryStore<u64, u64, P>,
    key: u64,
    deadline: Option<u64>,
    removed: &mut RemovedEntries,
) {
    let (found, new) = (find(store, key), New { key, value: key, weight: 1, deadline });
    store.put(found, spread(key), new, &ManualClock::default(), removed).expect("there is no limit");
}

fn grows_and_shrinks<P: Policy>() {
    let mut store = EntryStore::<u64, u64, P>::new(Limits::default(), 3);
    let (mut model, mut removed) = (HashMap::new(), RemovedEntries::new());
    for key in 0..MANY {
        put(&mut store, key, None, &mut removed);
        model.insert(key, key);
        if key % 3 == 0 {
            let gone = key / 2;
            if let Some(slot) = find(&store, gone) {
                store.remove(slot, Cause::Deleted, &mut removed);
            }
            model.remove(&gone);
        }
    }
    assert_eq!(store.check(), Ok(()));
    assert_eq!(store.len(), model.len());
    for key in 0..MANY {
        assert_eq!(find(&store, key).map(|slot| *store.value(slot)), model.get(&key).copied());
    }
    while let Some(victim) = store.victim() {
        store.remove(victim, Cause::Popped, &mut removed);
    }
    assert_eq!(store.check(), Ok(()));
    assert_eq!(removed.len() as u64, MANY);
}

#[test]
fn every_policy_grows_and_shrinks() {
    grows_and_shrinks::<Lru>();
    grows_and_shrinks::<Fifo>();
    grows_and_shrinks::<Lfu>();
    grows_and_shrinks::<Random>();
}

/// Room for an entry is reserved before its victim is removed, and nothing is larger for that.
#[test]
fn a_full_store_evicts_in_the_memory_it_has() {
    const BOUND: u64 = if cfg!(feature = "strict") { 500 } else { 20_000 };
    let clock = ManualClock::default();
    for plain in [true, false] {
        let mut store = EntryStore::<u64, u64, Lru>::new(Limits::new(BOUND, 0), 3);
        let mut removed = RemovedEntries::new();
        (0..BOUND).for_each(|key| put(&mut store, key, None, &mut removed));
        let full = store.allocated_bytes();
        for key in BOUND..BOUND + 100 {
            if plain {
                let place = store.reserve_plain(spread(key)).expect("there is memory");
                assert!(store.insert_plain(place, spread(key), key, key).is_some());
            } else {
                let new = New { key, value: key, weight: 1, deadline: None };
                store.put(None, spread(key), new, &clock, &mut removed).expect("it fits");
            }
        }
        assert_eq!((store.len() as u64, store.allocated_bytes()), (BOUND, full), "plain: {plain}");
        assert_eq!(store.check(), Ok(()));
    }
}

/// A limit is set, lifted and set again while the store is full.
#[test]
fn limits_move_a_large_store() {
    let mut store = EntryStore::<u64, u64, Lru>::new(Limits::default(), 3);
    let mut removed = RemovedEntries::new();
    let clock = ManualClock::default();
    for (limit, expected) in [(0, MANY), (MANY / 6, MANY / 6), (0, MANY / 6 + MANY), (7, 7)] {
        store.set_limits(Limits::new(limit, 0));
        while store.shrink(1000, &clock, &mut removed) {}
        if limit == 0 {
            let first = removed.len() as u64 * 10;
            (first..first + MANY).for_each(|key| put(&mut store, key, None, &mut removed));
        }
        assert_eq!(store.len() as u64, expected);
        assert_eq!(store.check(), Ok(()));
    }
}

/// Deadlines on every level of the wheel leave exactly when they have come, however the clock jumps.
#[test]
fn the_wheel_agrees_with_a_sorted_map() {
    let mut state = 88_172_645_463_325_252_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let (keys, rounds) = if cfg!(feature = "strict") { (100, 100) } else { (2_000, 400) };
    let mut store = EntryStore::<u64, u64, Fifo>::new(Limits::default(), 3);
    let mut model: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    let (clock, mut removed) = (ManualClock::default(), RemovedEntries::new());
    for key in 0..keys {
        let deadline = random() >> (random() % 64);
        put(&mut store, key, Some(deadline.max(1)), &mut removed);
        model.entry(deadline.max(1)).or_default().push(key);
    }
    for _ in 0..rounds {
        clock.advance(std::time::Duration::from_nanos(random() >> (random() % 54 + 10)));
        removed.clear();
        store.expire(clock.now(), usize::MAX, &mut removed);
        let later = model.split_off(&(clock.now() + 1));
        let mut expected: Vec<u64> = std::mem::replace(&mut model, later).into_values().flatten().collect();
        let mut left: Vec<u64> = removed.iter().map(|entry| entry.key).collect();
        expected.sort_unstable();
        left.sort_unstable();
        assert_eq!(left, expected, "at {}", clock.now());
        assert_eq!(store.check(), Ok(()));
    }
}

#[test]
fn an_error_of_equality_comes_back_and_changes_nothing() {
    let mut store = EntryStore::<u64, u64, Lru>::new(Limits::new(4, 0), 3);
    let mut removed = RemovedEntries::new();
    for key in 0..4 {
        let new = New { key, value: key, weight: 1, deadline: None };
        store.put(None, 1, new, &ManualClock::default(), &mut removed).expect("there is room");
    }
    let before: Vec<u64> = store.slots().map(|slot| *store.key(slot)).collect();
    let mut asked = 0;
    let found = store.find(1, |_| {
        asked += 1;
        if asked == 3 { Err("no") } else { Ok(false) }
    });
    assert_eq!((found, asked), (Err("no"), 3));
    assert_eq!(store.slots().map(|slot| *store.key(slot)).collect::<Vec<_>>(), before);
    assert_eq!(store.stats().misses, 0);
}

#[test]
fn what_is_refused_comes_back_whole() {
    let mut store = EntryStore::<u64, u64, Lru>::new(Limits::new(0, 10), 3);
    let (clock, mut removed) = (ManualClock::default(), RemovedEntries::new());
    let new = |key, weight| New { key, value: key, weight, deadline: None };
    store.put(None, 1, new(1, 10), &clock, &mut removed).expect("it fits");
    let (error, refused) = store.put(None, 2, new(2, 11), &clock, &mut removed).expect_err("it does not fit");
    assert_eq!((error, refused.key), (Error::TooHeavy { weight: 11, limit: 10 }, 2));
    assert!(removed.is_empty() && store.len() == 1);

    let mut unlimited = EntryStore::<u64, u64, Lru>::new(Limits::default(), 3);
    unlimited.put(None, 1, new(1, u64::MAX), &clock, &mut removed).expect("it fits");
    let (error, _) = unlimited.put(None, 2, new(2, 1), &clock, &mut removed).expect_err("the sum overflows");
    assert_eq!(error, Error::WeightOverflow { weight: 1, total: u64::MAX });
    assert_eq!(unlimited.weight(), u64::MAX);
}

/// Each entry is drawn about equally often, and the one that is named is the one that leaves.
#[test]
fn random_draws_evenly() {
    let mut store = EntryStore::<u64, u64, Random>::new(Limits::new(20, 0), 12_345);
    let mut removed = RemovedEntries::new();
    (0..20).for_each(|key| put(&mut store, key, None, &mut removed));
    let mut drawn = [0_u32; 20];
    for _ in 0..20_000 {
        let named = store.victim().map(|slot| *store.key(slot)).expect("it is full");
        let place = store.reserve_plain(spread(99)).expect("there is memory");
        store.insert_plain(place, spread(99), 99, 0);
        let slot = find(&store, 99).expect("it was stored");
        assert_eq!(find(&store, named), None);
        store.remove(slot, Cause::Deleted, &mut removed);
        put(&mut store, named, None, &mut removed);
        drawn[usize::try_from(named).expect("small")] += 1;
    }
    // The seed is fixed; a thousand each, give or take six standard deviations.
    assert!(drawn.iter().all(|&count| (815..1185).contains(&count)), "{drawn:?}");
}

/// Tags by the thousand and tags of thousands, and what they cost.
#[test]
fn tags_grow_and_leave_nothing_behind() {
    let mut store = EntryStore::<u64, u64, Lru>::new(Limits::default(), 3);
    let (clock, mut removed) = (ManualClock::default(), RemovedEntries::new());
    let own = |key: u64| format!("own tag {key}");
    let new = |key| New { key, value: key, weight: 1, deadline: None };
    for key in 0..MANY {
        put(&mut store, key, None, &mut removed);
    }
    let untagged = store.allocated_bytes();
    for key in 0..MANY {
        let tags = [&*own(key), if key % 2 == 0 { "even" } else { "odd" }, "all"];
        let found = find(&store, key);
        store
            .put_tagged(found, spread(key), new(key), &tags, &clock, &mut removed)
            .expect("there is no limit");
    }
    let each = (store.allocated_bytes() - untagged) as u64 / MANY;
    assert!(each > 3 * 24 && (each < 4 * 60 || cfg!(feature = "strict")), "{each} bytes an entry");
    assert_eq!((store.count_tagged("all") as u64, store.count_tagged("odd") as u64), (MANY, MANY / 2));
    removed.clear();
    for key in 0..MANY / 2 {
        assert_eq!(store.evict_tag(&own(key), usize::MAX, &clock, &mut removed), 1);
        assert_eq!(removed.pop().map(|entry| (entry.key, entry.cause)), Some((key, Cause::Deleted)));
    }
    let copy = store.try_map(|&key, &value| (key, value)).expect("there is memory");
    assert_eq!(store.evict_tag("odd", usize::MAX, &clock, &mut removed) as u64, MANY / 4);
    assert_eq!(store.evict_tag("all", usize::MAX, &clock, &mut removed) as u64, MANY / 4);
    assert_eq!((store.evict_tag("all", 1, &clock, &mut removed), store.len()), (0, 0));
    assert_eq!((store.check(), copy.check()), (Ok(()), Ok(())));
    assert_eq!((copy.count_tagged("all") as u64, copy.len() as u64), (MANY / 2, MANY / 2));
    let all_gone = store.allocated_bytes();
    drop(store.drain());
    assert!(store.allocated_bytes() < all_gone / 100);
}
