//! Older entries cannot keep out new entries that are in equal demand for ever.

use std::convert::Infallible;

use flexcache_core::policy::{Auto, Policy, S3Fifo, TinyLfu};
use flexcache_core::{EntryStore, Limits};

const FAVOURITES: u64 = 100;

/// Looks a key up and stores it where it is missing; whether it was there.
fn request<P: Policy>(store: &mut EntryStore<u64, (), P>, key: u64) -> bool {
    let hash = key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let Ok(found) = store.find(hash, |&other| Ok::<_, Infallible>(other == key));
    match found {
        Some(slot) => {
            store.hit(slot);
        }
        None => {
            let place = store.reserve_plain(hash).expect("there is memory");
            store.insert_plain(place, hash, key, ());
        }
    }
    found.is_some()
}

/// How often a key is found that is asked for as often as the favourites that were there first,
/// each time after another that comes once.
fn hits<P: Policy>() -> usize {
    let mut store = EntryStore::<u64, (), P>::new(Limits::new(FAVOURITES, 0), 1);
    for step in 0..30 * FAVOURITES {
        request(&mut store, step % FAVOURITES);
    }
    let round = |step: u64| {
        (0..FAVOURITES / 10).for_each(|at| _ = request(&mut store, (step * 10 + at) % FAVOURITES));
        request(&mut store, 1_000_000 + step);
        request(&mut store, 500)
    };
    (0..4_000).map(round).filter(|&hit| hit).count()
}

#[test]
fn a_key_in_demand_gets_in() {
    assert!(hits::<TinyLfu>() > 2_000);
    assert!(hits::<Auto>() > 2_000);
    assert!(hits::<S3Fifo>() > 2_000);
}
