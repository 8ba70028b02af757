//! Every allocation of every operation fails once: the operation says so, and nothing has changed.

// A recount after every operation allocates, too.
#![cfg(not(feature = "strict"))]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use flexcache_core::policy::{
    Auto, ExactLfu, Fifo, Lfu, Listed, Lru, Policy, Random, Requeue, S3Fifo, Sieve, TinyLfu,
};
use flexcache_core::{EntryStore, Error, Limits, ManualClock, New, OutOfMemory, Removed, Slot, TryClone};

thread_local! {
    /// The number of allocations until one fails; none does at 0.
    static UNTIL_FAILURE: Cell<u32> = const { Cell::new(0) };
    /// Whether all later ones fail, too.
    static FOR_GOOD: Cell<bool> = const { Cell::new(false) };
}

/// The system's allocator, until it is told to fail.
struct Failing;

fn fails() -> bool {
    match UNTIL_FAILURE.get() {
        0 => false,
        1 => {
            UNTIL_FAILURE.set(u32::from(FOR_GOOD.get()));
            true
        }
        left => {
            UNTIL_FAILURE.set(left - 1);
            false
        }
    }
}

// SAFETY: all requests go to the system's allocator as they are, or are refused with null.
unsafe impl GlobalAlloc for Failing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        if fails() { std::ptr::null_mut() } else { unsafe { System.alloc(layout) } }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        if fails() { std::ptr::null_mut() } else { unsafe { System.realloc(at, layout, size) } }
    }
}

#[global_allocator]
static ALLOCATOR: Failing = Failing;

type Store<P> = EntryStore<u64, u64, P>;
type RemovedEntries = Vec<Removed<u64, u64>>;

fn spread(key: u64) -> u64 {
    let mixed = (key ^ 0x5bd1_e995).wrapping_mul(0xa076_1d64_78bd_642f);
    (mixed ^ mixed >> 32).wrapping_mul(0xe703_7ed1_a0b4_28db)
}

fn find<P: Policy>(store: &Store<P>, key: u64) -> Option<Slot> {
    store.find(spread(key), |stored| Ok::<_, ()>(*stored == key)).expect("no error is returned")
}

/// Key, value, weight, deadline and tags of an entry.
type Seen = (u64, u64, u64, Option<u64>, Vec<String>);

/// All that can be seen of a store.
fn seen<P: Policy>(store: &Store<P>) -> Vec<Seen> {
    let entry = |slot| {
        let tags = store.tags(slot).map(String::from).collect();
        (*store.key(slot), *store.value(slot), store.weight_of(slot), store.deadline(slot), tags)
    };
    let mut all: Vec<_> = store.slots().map(entry).collect();
    all.sort_unstable();
    all
}

/// A store with so many entries, of all kinds.
fn filled<P: Policy>(limits: Limits, entries: u64) -> Store<P> {
    let (mut store, clock) = (Store::<P>::new(limits, 7), ManualClock::default());
    for key in 0..entries {
        let deadline = (key % 3 == 0).then_some(key + 1_000_000_000);
        let new = New { key, value: key, weight: 1 + key % 2, deadline };
        let tags: &[&str] = if key % 5 == 0 { &["five", "all"] } else { &[] };
        let put = store.put_tagged(find(&store, key), spread(key), new, tags, &clock, &mut Vec::new());
        put.map_err(|(error, _)| error).expect("there is memory");
    }
    store
}

/// Makes the first, second, … allocation of an operation fail, and all that follow where `for_good`, until it
/// succeeds. Returns how many allocations were made to fail.
fn fail_one_by_one<P: Policy>(
    fresh: impl Fn() -> Store<P>,
    for_good: bool,
    operation: impl Fn(&mut Store<P>, &mut RemovedEntries) -> Result<(), OutOfMemory>,
) -> u32 {
    for failing in 1.. {
        let mut store = fresh();
        let before = seen(&store);
        let mut removed = RemovedEntries::new();
        FOR_GOOD.set(for_good);
        UNTIL_FAILURE.set(failing);
        let outcome = operation(&mut store, &mut removed);
        let is_through = UNTIL_FAILURE.replace(0) > 1;
        assert_eq!(store.check(), Ok(()), "allocation {failing}");
        match outcome {
            Err(OutOfMemory) if removed.is_empty() => {
                assert_eq!(seen(&store), before, "allocation {failing} changed something");
            }
            _ => {}
        }
        // It can still be used.
        operation(&mut store, &mut removed).expect("there is memory again");
        assert_eq!(store.check(), Ok(()), "after allocation {failing}");
        if is_through {
            return failing - 1;
        }
        assert!(failing < 10_000, "it never succeeds");
    }
    unreachable!("there is always a next one")
}

fn refused<T>(put: Result<Slot, (Error, T)>) -> Result<(), OutOfMemory> {
    match put {
        Ok(_) => Ok(()),
        Err((Error::OutOfMemory, _)) => Err(OutOfMemory),
        Err((error, _)) => panic!("{error}"),
    }
}

fn every_operation_survives<P: Policy + TryClone>(sizes: &[u64]) {
    let clock = ManualClock::default();
    let limits = [Limits::default(), Limits::new(1 << 40, 0), Limits::new(100, 0), Limits::new(0, 10_000)];
    let mut failed = 0;
    for (limits, for_good) in limits.into_iter().flat_map(|limits| [(limits, false), (limits, true)]) {
        for &entries in sizes {
            let fresh = || filled::<P>(limits, entries);
            failed += fail_one_by_one(fresh, for_good, |store, removed| {
                let new = New { key: 1 << 20, value: 0, weight: 1, deadline: None };
                refused(store.put(find(store, 1 << 20), spread(1 << 20), new, &clock, removed))
            });
            failed += fail_one_by_one(fresh, for_good, |store, removed| {
                let (key, tags) = (1 << 21, ["a new one", "all", "another", "all"]);
                let new = New { key, value: 0, weight: 9, deadline: Some(1 << 50) };
                refused(store.put_tagged(find(store, key), spread(key), new, &tags, &clock, removed))
            });
            // One that is there.
            failed += fail_one_by_one(fresh, for_good, |store, removed| {
                let new = New { key: 2, value: 5, weight: 12, deadline: Some(1 << 50) };
                refused(store.put_tagged(find(store, 2), spread(2), new, &["new"], &clock, removed))
            });
            failed += fail_one_by_one(fresh, for_good, |store, _| {
                find(store, 1).map_or(Ok(()), |slot| store.set_deadline(slot, Some(1 << 40), &clock))
            });
            failed += fail_one_by_one(fresh, for_good, |store, _| {
                find(store, 1).map_or(Ok(()), |slot| store.set_stamp(slot, 3))
            });
            failed += fail_one_by_one(fresh, for_good, |store, removed| {
                store.set_limits(Limits::new(1 << 50, 0));
                store.set_limits(limits);
                while store.shrink(10, &clock, removed) {
                    removed.clear();
                }
                Ok(())
            });
            failed += fail_one_by_one(fresh, for_good, |store, _| {
                let copy = store.try_map(|&key, &value| (key, value))?;
                let untouched = UNTIL_FAILURE.replace(0);
                assert_eq!((copy.check(), seen(&copy)), (Ok(()), seen(store)));
                UNTIL_FAILURE.set(untouched);
                Ok(())
            });
            failed += fail_one_by_one(fresh, for_good, |store, _| {
                drop(store.drain());
                Ok(())
            });
        }
        // Fast insertions, among them such that evict.
        failed += fail_one_by_one(
            || Store::<P>::new(limits, 7),
            for_good,
            |store, _| {
                for key in 0..200 {
                    if store.is_plain() && find(store, key).is_none() {
                        // Without memory this one is left out.
                        let Ok(place) = store.reserve_plain(spread(key)) else { continue };
                        let _ = store.insert_plain(place, spread(key), key, 0);
                    }
                    if let Some(slot) = find(store, key % 20) {
                        store.hit(slot);
                    }
                }
                Ok(())
            },
        );
    }
    assert!(failed > 200, "{failed} allocations were made to fail");
}

#[test]
fn lru_survives() {
    // The last: where the index is split.
    every_operation_survives::<Lru>(&[0, 1, 8, 112, 6_800]);
}

#[test]
fn fifo_survives() {
    every_operation_survives::<Fifo>(&[0, 8]);
}

#[test]
fn lfu_survives() {
    every_operation_survives::<Lfu>(&[0, 8, 112]);
}

#[test]
fn policies_of_mappings_survive() {
    every_operation_survives::<Listed<ExactLfu>>(&[0, 8]);
    every_operation_survives::<Listed<Requeue>>(&[0, 8]);
}

#[test]
fn random_survives() {
    every_operation_survives::<Random>(&[0, 8]);
}

#[test]
fn sieve_survives() {
    every_operation_survives::<Sieve>(&[0, 8]);
}

#[test]
fn s3fifo_survives() {
    every_operation_survives::<S3Fifo>(&[0, 8]);
}

#[test]
fn tinylfu_survives() {
    every_operation_survives::<TinyLfu>(&[0, 8]);
}

#[test]
fn auto_survives() {
    every_operation_survives::<Auto>(&[0, 8, 112]);
}

/// A limit is a promise not to hold more, and no reason to allocate anything.
fn a_limit_costs_nothing<P: Policy>() {
    for items in [0, 1, 1_000, 1 << 22, 1 << 33, 1 << 62, u64::MAX] {
        let mut store = Store::<P>::new(Limits::new(items, 1 << 20), 1);
        assert_eq!(store.allocated_bytes(), 0, "{items}");
        store.set_limits(Limits::new(items, u64::MAX));
        for key in 0..10 {
            let place = store.reserve_plain(spread(key)).expect("there is memory");
            store.insert_plain(place, spread(key), key, key);
        }
        let few = store.allocated_bytes();
        assert!(few < 110_000, "{few} bytes for ten entries of at most {items}");
        for limits in [Limits::new(1 << 40, 0), Limits::new(0, 1 << 60), Limits::new(items, 0)] {
            store.set_limits(limits);
            let now = store.allocated_bytes();
            assert!(now <= few, "{now} bytes with {limits:?}, where there were {few}");
        }
    }
}

#[test]
fn memory_is_for_what_is_stored() {
    a_limit_costs_nothing::<Lru>();
    a_limit_costs_nothing::<Fifo>();
    a_limit_costs_nothing::<Lfu>();
    a_limit_costs_nothing::<Listed<ExactLfu>>();
    a_limit_costs_nothing::<Listed<Requeue>>();
    a_limit_costs_nothing::<Random>();
    a_limit_costs_nothing::<Sieve>();
    a_limit_costs_nothing::<S3Fifo>();
    a_limit_costs_nothing::<TinyLfu>();
    a_limit_costs_nothing::<Auto>();
}

/// Where weights keep a store small, what is remembered of evicted keys stays small, too.
fn remembers_in_proportion<P: Policy>() {
    let (mut store, clock) = (Store::<P>::new(Limits::new(1 << 30, 200), 1), ManualClock::default());
    for key in 0..100_000 {
        let new = New { key, value: key, weight: 2, deadline: None };
        let put = store.put(None, spread(key), new, &clock, &mut Vec::new());
        put.map_err(|(error, _)| error).expect("there is memory");
    }
    let bytes = store.allocated_bytes();
    assert!(store.len() == 100 && bytes < 250_000, "{bytes} bytes for {} entries", store.len());
}

#[test]
fn ghosts_are_as_many_as_entries() {
    remembers_in_proportion::<S3Fifo>();
    remembers_in_proportion::<TinyLfu>();
    remembers_in_proportion::<Auto>();
}
