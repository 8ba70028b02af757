//! The core's own speed, without Python: `make bench-core`.

mod hashes;

use std::convert::Infallible;
use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use flexcache_core::policy::{Auto, Fifo, Lfu, Lru, Policy, Random, S3Fifo, Sieve, TinyLfu};
use flexcache_core::{EntryStore, Limits, MonotonicClock, New, RemovalSink, Removed};
use hashes::mix;

const ENTRIES: u64 = 10_000;

fn put<P: Policy>(store: &mut EntryStore<u64, u64, P>, clock: &MonotonicClock, key: u64) {
    let hash = mix(key);
    let found = store.find(hash, |other| Ok::<_, Infallible>(*other == key)).unwrap_or(None);
    let mut sink = Last(None);
    let new = New { key, value: key, weight: 1, deadline: None };
    let _ = black_box(store.put(found, hash, new, clock, &mut sink));
}

/// Keeps the last entry that left.
struct Last(Option<Removed<u64, u64>>);

impl RemovalSink<u64, u64> for Last {
    fn push(&mut self, removed: Removed<u64, u64>) {
        self.0 = Some(removed);
    }
}

fn full<P: Policy>(clock: &MonotonicClock) -> EntryStore<u64, u64, P> {
    let mut store = EntryStore::new(Limits::new(ENTRIES, 0), 7);
    for key in 0..ENTRIES {
        put(&mut store, clock, key);
    }
    store
}

fn policy<P: Policy>(criterion: &mut Criterion, name: &str) {
    let clock = MonotonicClock::new();
    let mut store = full::<P>(&clock);
    let mut step = 0;
    criterion.bench_function(&format!("{name}: hit"), |bencher| {
        bencher.iter(|| {
            step += 1;
            let key = mix(step) % ENTRIES;
            let found = store.find(mix(key), |other| Ok::<_, Infallible>(*other == key)).unwrap_or(None);
            store.get(found, mix(key), &clock, &mut Vec::new()).copied()
        });
    });
    let mut key = ENTRIES;
    criterion.bench_function(&format!("{name}: insert and evict"), |bencher| {
        bencher.iter(|| {
            key += 1;
            put(&mut store, &clock, key);
        });
    });
}

fn all(criterion: &mut Criterion) {
    policy::<Lru>(criterion, "lru");
    policy::<Fifo>(criterion, "fifo");
    policy::<Lfu>(criterion, "lfu");
    policy::<Random>(criterion, "random");
    policy::<Sieve>(criterion, "sieve");
    policy::<S3Fifo>(criterion, "s3fifo");
    policy::<TinyLfu>(criterion, "tinylfu");
    policy::<Auto>(criterion, "auto");
    let clock = MonotonicClock::new();
    criterion.bench_function("lru: 100 000 insertions, unbounded", |bencher| {
        bencher.iter_batched_ref(
            || EntryStore::<u64, u64, Lru>::new(Limits::default(), 7),
            |store| (0..100_000).for_each(|key| put(store, &clock, key)),
            BatchSize::LargeInput,
        );
    });
}

criterion_group!(benches, all);
criterion_main!(benches);
