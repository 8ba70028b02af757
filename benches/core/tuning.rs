//! What the tuner costs: `auto` beside the same structure in one fixed configuration, and LRU.
//! `cargo run --release --manifest-path benches/core/Cargo.toml`.
//!
//! `window` and `ghosts` are `auto` on its smallest window alone, by frequency, and on its last configuration, with ghosts.
//! Each round measures each of them once, in turns; the medians of the times, in nanoseconds, and of the ratios within
//! a round, are printed.

#![expect(clippy::print_stdout, reason = "a program")]

mod hashes;

use std::convert::Infallible;
use std::hint::black_box;
use std::time::Instant;

use flexcache_core::policy::{Auto, Lru, Policy, TinyLfu, UntunedGhosts, UntunedWindow};
use flexcache_core::{EntryStore, Limits};
use hashes::mix;

const ROUNDS: usize = 31;
const REQUESTS: u32 = 200_000;

struct Loop<P: Policy> {
    store: EntryStore<u64, u64, P>,
    step: u64,
    entries: u64,
    /// Of 1,000 requests.
    misses: u64,
}

/// What can be measured, whatever its policy.
trait Measured {
    /// Nanoseconds a request.
    fn run(&mut self) -> f64;
}

impl<P: Policy> Measured for Loop<P> {
    fn run(&mut self) -> f64 {
        let began = Instant::now();
        for _ in 0..REQUESTS {
            self.step += 1;
            let random = mix(self.step);
            // One of the favourites, which half of the cache holds, or what never came before.
            let key = if random % 1000 < self.misses {
                self.step << 32
            } else {
                (random >> 20) % (self.entries / 2)
            };
            let hash = mix(key);
            let Ok(found) = self.store.find(hash, |&other| Ok::<_, Infallible>(other == key));
            if let Some(slot) = found {
                black_box(self.store.hit(slot));
            } else {
                let place = self.store.reserve_plain(hash).expect("there is memory");
                black_box(self.store.insert_plain(place, hash, key, key));
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "a time")]
        let nanoseconds = began.elapsed().as_nanos() as f64;
        nanoseconds / f64::from(REQUESTS)
    }
}

fn made<P: Policy + 'static>(entries: u64, misses: u64) -> Box<dyn Measured> {
    let mut store = EntryStore::<u64, u64, P>::new(Limits::new(entries, 0), 7);
    for key in (0..entries / 2).map(|key| key | 1 << 60).chain(0..entries / 2) {
        let place = store.reserve_plain(mix(key)).expect("there is memory");
        store.insert_plain(place, mix(key), key, key);
    }
    Box::new(Loop { store, step: 0, entries, misses })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    println!(
        "entries  misses     lru  window  ghosts  tinylfu    auto  auto / window  auto / ghosts  auto / lru"
    );
    for entries in [1_000, 10_000, 100_000] {
        for misses in [0, 10, 100] {
            let mut all = [
                made::<Lru>(entries, misses),
                made::<UntunedWindow>(entries, misses),
                made::<UntunedGhosts>(entries, misses),
                made::<TinyLfu>(entries, misses),
                made::<Auto>(entries, misses),
            ];
            // Until what is measured is what goes on for ever.
            (0..5).for_each(|_| all.iter_mut().for_each(|one| _ = one.run()));
            let rounds: Vec<[f64; 5]> =
                (0..ROUNDS).map(|_| std::array::from_fn(|at| all[at].run())).collect();
            let of = |at: usize| median(rounds.iter().map(|round| round[at]).collect());
            let ratio = |over: usize| median(rounds.iter().map(|round| round[4] / round[over]).collect());
            println!(
                "{entries:7}  {:4} %  {:6.1}  {:6.1}  {:6.1}  {:7.1}  {:6.1}  {:13.2}  {:13.2}  {:10.2}",
                misses / 10,
                of(0),
                of(1),
                of(2),
                of(3),
                of(4),
                ratio(1),
                ratio(2),
                ratio(0),
            );
        }
    }
}
