//! Hit ratios beside those of the core's S3-FIFO, at the same number of entries.

use std::collections::HashMap;
use std::fmt::Write;

use flexcache_core::Limits;
use flexcache_core::policy::S3Fifo;
use flexcache_core::replay::replay as replay_in_core;
use flexcache_shared::{Options, Patience};

use crate::support::{Random, entry, key, new, sized};

/// A skewed trace, with scans of keys that never come back.
fn trace(length: usize) -> Vec<u64> {
    let mut random = Random(42);
    let mut next = 1 << 40;
    let mut trace = Vec::with_capacity(length);
    while trace.len() < length {
        if random.below(500) == 0 {
            for _ in 0..300 {
                next += 1;
                trace.push(next);
            }
        }
        // The cube of a uniform number is a heavy tail.
        let uniform = random.below(1 << 20) as f64 / f64::from(1 << 20);
        trace.push((uniform.powi(3) * 60_000.0) as u64);
    }
    trace
}

/// The share of hits in the cache, and the number of entries it settled at.
fn replay(trace: &[u64], options: &Options) -> (f64, u64) {
    let (cache, _directory) = new(options);
    let mut found = 0;
    for name in trace {
        let bytes = name.to_le_bytes();
        if cache.contains(key(&bytes), Patience::Wait).expect("a call") {
            found += 1;
        } else {
            cache.put(key(&bytes), &entry(&[1; 24]), Patience::Wait).expect("it fits");
        }
    }
    cache.check().expect("a sound cache");
    (f64::from(found) / trace.len() as f64, cache.len())
}

/// One in which what is popular changes little by little.
fn drifting(length: usize) -> Vec<u64> {
    let mut random = Random(43);
    let popular =
        |random: &mut Random| (random.below(1 << 20) as f64 / f64::from(1 << 20)).powi(4) * 40_000.0;
    (0..length).map(|at| at as u64 / 8 + popular(&mut random) as u64).collect()
}

/// One in which a loop over more than fits runs beside what is popular.
fn looping(length: usize) -> Vec<u64> {
    let mut random = Random(44);
    let popular =
        |random: &mut Random| (random.below(1 << 20) as f64 / f64::from(1 << 20)).powi(3) * 20_000.0;
    let next = |at: usize, random: &mut Random| {
        if at.is_multiple_of(4) { 1 << 40 | (at as u64 / 4 % 30_000) } else { popular(random) as u64 }
    };
    (0..length).map(|at| next(at, &mut random)).collect()
}

#[test]
fn the_hit_ratio_is_within_a_point_of_s3_fifo() {
    let mut report = String::new();
    for (name, trace) in
        [("scans", trace(300_000)), ("drifting", drifting(200_000)), ("looping", looping(200_000))]
    {
        for bytes in [400 << 10, 1 << 20] {
            let (ratio, entries) = replay(&trace, &Options { expected_item: 56, ..sized(bytes) });
            let of_the_core = core(&trace, entries as usize);
            writeln!(report, "{name}, {entries} entries: {ratio:.4}, S3-FIFO {of_the_core:.4}")
                .expect("a string");
            assert!(ratio > of_the_core - 0.01, "{report}");
        }
    }
}

/// A trace of the caller's, one key a line: `FLEXCACHE_TRACE=... cargo test --test cache -- --ignored measure --nocapture`.
#[test]
#[ignore = "for measuring"]
#[expect(clippy::print_stdout, reason = "it prints what it measures")]
fn measure() {
    let Ok(path) = std::env::var("FLEXCACHE_TRACE") else { return };
    let text = std::fs::read_to_string(path).expect("a trace");
    let hash = |text: &str| text.bytes().fold(0_u64, |sum, byte| Random(sum ^ u64::from(byte)).next());
    let trace: Vec<u64> = text.lines().filter_map(|line| line.split_whitespace().next()).map(hash).collect();
    for bytes in [512 << 10, 1 << 20, 2 << 20, 4 << 20] {
        let (ratio, entries) = replay(&trace, &Options { expected_item: 56, ..sized(bytes) });
        println!(
            "{entries} entries: {:.2} %, S3-FIFO {:.2} %",
            ratio * 100.0,
            core(&trace, entries as usize) * 100.0
        );
    }
}

fn core(trace: &[u64], entries: usize) -> f64 {
    let mut numbers = HashMap::new();
    let dense: Vec<u32> = trace
        .iter()
        .map(|name| {
            let next = numbers.len() as u32;
            *numbers.entry(*name).or_insert(next)
        })
        .collect();
    let outcome = replay_in_core::<S3Fifo>(&dense, None, Limits::new(entries as u64, 0), 1, &mut |_| true);
    outcome.expect("there is memory").expect("it ran to the end").hits as f64 / trace.len() as f64
}
