//! Replaying against models that are as plain as can be.

use flexcache_core::Limits;
use flexcache_core::policy::{Auto, Fifo, Lru, S3Fifo, Sieve, TinyLfu};
use flexcache_core::replay::{Outcome, lru_hits, optimum, replay};
use proptest::prelude::*;

/// A recount after every operation takes its time.
const CASES: u32 = if cfg!(feature = "strict") { 5 } else { 200 };

fn to_the_end(_: usize) -> bool {
    true
}

fn run<P: flexcache_core::policy::Policy>(keys: &[u32], entries: u64) -> Outcome {
    replay::<P>(keys, None, Limits::new(entries, 0), 1, &mut to_the_end)
        .expect("there is memory")
        .expect("nobody stops it")
}

/// Tries out every set of keys that could be kept.
fn best(keys: &[u32], entries: usize) -> u64 {
    let mut reached = std::collections::HashMap::from([(0_u32, 0_u64)]);
    for &key in keys {
        let mut next = std::collections::HashMap::new();
        for (held, hits) in reached {
            let hits = hits + u64::from(held >> key & 1);
            let all = held | 1 << key;
            // What need not be stored may be left out, and what is stored may leave.
            let fewer = (0..32).filter(|bit| all >> bit & 1 == 1).map(|bit| all & !(1 << bit));
            for held in fewer.chain([all, held]).filter(|held| held.count_ones() as usize <= entries) {
                let most = next.entry(held).or_insert(0);
                *most = hits.max(*most);
            }
        }
        reached = next;
    }
    reached.into_values().max().unwrap_or(0)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_optimum_is_the_best_there_is(keys in prop::collection::vec(0..6_u32, 0..40), entries in 1..5_usize) {
        prop_assert_eq!(optimum(&keys, entries, &mut to_the_end), Ok(Some(best(&keys, entries))));
    }

    #[test]
    fn one_pass_is_as_good_as_many(
        keys in prop::collection::vec(prop_oneof![0..8_u32, 0..900_u32], 0..6000),
        sizes in prop::collection::vec(1..1200_usize, 1..6),
    ) {
        let singly: Vec<_> = sizes.iter().map(|&size| run::<Lru>(&keys, size as u64).hits).collect();
        prop_assert_eq!(lru_hits(&keys, &sizes, &mut to_the_end), Ok(Some(singly)));
    }

    #[test]
    fn nothing_beats_the_optimum(keys in prop::collection::vec(0..40_u32, 0..600), entries in 1..30_u64) {
        let most = optimum(&keys, usize::try_from(entries).expect("small"), &mut to_the_end).expect("there is memory").expect("not stopped");
        for outcome in [
            run::<Lru>(&keys, entries), run::<Fifo>(&keys, entries), run::<Sieve>(&keys, entries),
            run::<S3Fifo>(&keys, entries), run::<TinyLfu>(&keys, entries), run::<Auto>(&keys, entries),
        ] {
            prop_assert!(outcome.hits <= most);
            prop_assert!(outcome.entries as u64 <= entries);
        }
    }
}

#[test]
fn weights_are_counted_and_what_is_too_heavy_is_refused() {
    let (keys, weights) = ([0, 1, 0, 2, 3, 1, 0], [5, 5, 5, 11, 5, 5, 5]);
    let outcome = replay::<Lru>(&keys, Some(&weights), Limits::new(0, 10), 1, &mut to_the_end)
        .expect("there is memory")
        .expect("not stopped");
    assert_eq!((outcome.hits, outcome.weight_hit, outcome.refused, outcome.entries), (1, 5, 1, 2));
}

#[test]
fn whoever_watches_may_stop_it() {
    let keys: Vec<u32> = (0..200_000).map(|at| at % 50).collect();
    let mut done = 0;
    let mut watch = |more: usize| {
        done += more;
        done < 100_000
    };
    assert_eq!(replay::<Lru>(&keys, None, Limits::new(10, 0), 1, &mut watch), Ok(None));
    assert!((100_000..200_000).contains(&done));
    let mut done = 0;
    let mut watch = |more: usize| {
        done += more;
        true
    };
    assert!(optimum(&keys, 10, &mut watch).is_ok_and(|hits| hits.is_some()));
    assert!(lru_hits(&keys, &[10], &mut watch).is_ok_and(|hits| hits.is_some()));
    assert_eq!(done, 400_000);
}
