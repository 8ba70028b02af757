//! Readers beside writers in logs so small that everything is overwritten all the time.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use flexcache_shared::{Options, Patience};

use crate::peer::Peer;
use crate::support::{Random, get, key, marked, new, number_of, path_in, put, scaled, small};

fn time() -> Duration {
    Duration::from_millis(u64::from(scaled(10_000)))
}

#[test]
fn no_value_is_torn_and_none_goes_back() {
    // The largest values fill a log of probation; then all is crowded.
    for options in [small(), Options { expected_item: 100_000, ..small() }] {
        let (cache, _directory) = new(&options);
        let stop = AtomicBool::new(false);
        let (hits, puts) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for writer in 0..2_u64 {
                let (cache, stop, puts) = (&cache, &stop, &puts);
                scope.spawn(move || {
                    let mut random = Random(writer);
                    let mut number = 0;
                    while !stop.load(Relaxed) {
                        // Each key has one writer, so that its numbers grow.
                        let name = random.below(20) * 2 + writer;
                        number += 1;
                        let words = 3 + random.below(if number % 2 == 0 { 1500 } else { 20 }) as usize;
                        put(cache, &name.to_le_bytes(), &marked(name, number, words));
                    }
                    puts.fetch_add(number, Relaxed);
                });
            }
            for reader in 0..2_u64 {
                let (cache, stop, hits) = (&cache, &stop, &hits);
                scope.spawn(move || {
                    let mut random = Random(100 + reader);
                    let mut last = [0; 40];
                    while !stop.load(Relaxed) {
                        let name = random.below(40);
                        if let Some(value) = get(cache, &name.to_le_bytes()) {
                            let number = number_of(name, &value);
                            let last = &mut last[name as usize];
                            assert!(number >= *last, "key {name} went back from {last} to {number}");
                            *last = number;
                            hits.fetch_add(1, Relaxed);
                        }
                    }
                });
            }
            let until = Instant::now() + time();
            while Instant::now() < until {
                std::thread::sleep(Duration::from_millis(20));
                cache.check().expect("a sound cache");
            }
            stop.store(true, Relaxed);
        });
        assert!(hits.into_inner() > 0 && puts.into_inner() > 0);
        let stats = cache.stats();
        assert_eq!((stats.resets, stats.damaged), (0, 0));
    }
}

#[test]
fn a_key_that_is_always_there_is_never_missed() {
    let (cache, _directory) = new(&small());
    let stop = AtomicBool::new(false);
    put(&cache, b"kept", b"value");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = Random(1);
            for number in 0.. {
                if stop.load(Relaxed) {
                    break;
                }
                // Overwriting keeps it, and moves it around the log: garbage makes room, not the neighbours.
                let name = random.below(10);
                put(&cache, &name.to_le_bytes(), &marked(name, number, 200));
            }
        });
        let until = Instant::now() + time();
        let mut rounds = 0_u64;
        while Instant::now() < until {
            rounds += 1;
            let there = cache.get(key(b"kept"), Patience::Wait, |value| Ok(value.len())).expect("a call");
            assert_eq!(there, Some(5), "missed in round {rounds}");
            let mut seen = 0;
            cache.keys(Patience::Wait, |_, bytes| seen += u32::from(bytes == b"kept")).expect("a call");
            assert_eq!(seen, 1, "in round {rounds}");
        }
        stop.store(true, Relaxed);
    });
    assert!(cache.stats().moved > 0, "it never moved");
}

#[test]
fn processes_agree() {
    let (cache, directory) = new(&small());
    let mut adders: Vec<Peer> = (0..3).map(|_| Peer::new(&path_in(&directory))).collect();
    let mut churn = Peer::new(&path_in(&directory));
    // Few and small values: nothing is evicted, so that the sum stays.
    churn.tell("churn 9 10 20");
    assert_eq!(churn.answer(), "churning");
    for adder in &mut adders {
        adder.tell("add-some 10000");
    }
    for _ in 0..20_000 {
        for name in 0..10_u64 {
            if let Some(value) = get(&cache, &name.to_le_bytes()) {
                number_of(name, &value);
            }
        }
    }
    for adder in &mut adders {
        assert_eq!(adder.answer(), "10000");
    }
    assert_eq!(cache.increment(key(b"sum"), 0, 0, 0, Patience::Wait).expect("a number").result, 30_000);
    churn.kill();
    put(&cache, b"k", b"v");
    cache.check().expect("a sound cache");
}
