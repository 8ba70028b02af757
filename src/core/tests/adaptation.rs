//! What the policies that adapt make of workloads which ask for something else than they did before, or for
//! something else than a small window: slow starts, loops, scans and changes between them.
//!
//! Everything is made up here and replayed with fixed seeds, so that hit ratios are always the same. They are
//! compared with those of LRU and of the optimum, in percent of all requests.

use std::convert::Infallible;

use flexcache_core::policy::{Auto, Goal, Policy, S3Fifo, TinyLfu};
use flexcache_core::replay::{lru_hits, optimum, replay};
use flexcache_core::{EntryStore, Limits, ManualClock, New};

/// A recount after every operation takes its time.
const SIZES: &[usize] = if cfg!(feature = "strict") { &[60] } else { &[60, 300, 2_000] };

fn to_the_end(_: usize) -> bool {
    true
}

fn percent(hits: u64, requests: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "counts are small")]
    let percent = 100.0 * hits as f64 / requests as f64;
    percent
}

/// The mean over seeds, which decide which keys are sampled.
fn reached<P: Policy>(keys: &[u32], entries: usize) -> f64 {
    const SEEDS: u64 = if cfg!(feature = "strict") { 1 } else { 3 };
    let hits = |seed| {
        replay::<P>(keys, None, Limits::new(entries as u64, 0), seed, &mut to_the_end)
            .expect("there is memory")
            .expect("nobody stops it")
            .hits
    };
    percent((0..SEEDS).map(hits).sum(), keys.len() * usize::try_from(SEEDS).expect("small"))
}

fn recency(keys: &[u32], entries: usize) -> f64 {
    percent(lru_hits(keys, &[entries], &mut to_the_end).expect("memory").expect("not stopped")[0], keys.len())
}

fn best(keys: &[u32], entries: usize) -> f64 {
    percent(optimum(keys, entries, &mut to_the_end).expect("memory").expect("not stopped"), keys.len())
}

/// Requests as they are made up, one after the other.
struct Workload {
    keys: Vec<u32>,
    fresh: u32,
    state: u64,
}

impl Workload {
    fn new(seed: u64) -> Self {
        // Small keys are favourites; fresh ones begin behind them.
        Self { keys: Vec::new(), fresh: 1 << 16, state: seed.wrapping_mul(2) | 1 }
    }

    fn below(&mut self, most: usize) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        usize::try_from(self.state >> 33).expect("31 bits") % most
    }

    fn fresh(&mut self) -> u32 {
        self.fresh += 1;
        self.fresh
    }

    /// Recency alone counts: three of four requests are for one of the last `span` new keys, later ones more likely.
    fn recent(&mut self, requests: usize, span: usize) {
        let first = self.fresh;
        for _ in 0..requests {
            let known = usize::try_from(self.fresh - first).expect("small").min(span);
            if known == 0 || self.below(4) == 0 {
                let key = self.fresh();
                self.keys.push(key);
            } else {
                let back = self.below(known).min(self.below(known));
                self.keys.push(self.fresh - u32::try_from(back).expect("small"));
            }
        }
    }

    /// A loop over so many keys.
    fn round(&mut self, requests: usize, keys: usize) {
        let first = self.fresh;
        self.fresh += u32::try_from(keys).expect("small");
        self.keys.extend((0..requests).map(|at| first + u32::try_from(at % keys).expect("small")));
    }

    /// Favourites, the one of rank r in proportion to about 1 / r, between keys that come once.
    fn favourites(&mut self, requests: usize, keys: usize, once_in: usize) {
        for _ in 0..requests {
            let key = if self.below(once_in) == 0 {
                self.fresh()
            } else {
                let among = 1 + self.below(keys);
                u32::try_from(self.below(among)).expect("small")
            };
            self.keys.push(key);
        }
    }
}

/// How far `auto` and `tinylfu` are behind LRU at most, in points.
fn behind_recency(keys: &[u32], entries: usize) -> f64 {
    let lru = recency(keys, entries);
    (lru - reached::<Auto>(keys, entries)).max(lru - reached::<TinyLfu>(keys, entries))
}

#[test]
fn starts_as_recency_does() {
    for &entries in SIZES {
        for (lengths, most) in [(2, 0.1), (4, 0.1), (10, 6.0), (30, 2.5)] {
            let mut workload = Workload::new(7);
            workload.recent(lengths * entries, entries);
            let behind = behind_recency(&workload.keys, entries);
            assert!(
                behind < most,
                "{entries} entries, {lengths} times as many requests: {behind} points behind"
            );
        }
    }
}

#[test]
fn finds_out_about_loops() {
    for &entries in SIZES {
        for (keys, least) in [(entries + entries / 10, 0.85), (2 * entries, 0.8), (4 * entries, 0.7)] {
            let mut workload = Workload::new(3);
            workload.round(60 * entries, keys);
            let (auto, best) = (reached::<Auto>(&workload.keys, entries), best(&workload.keys, entries));
            assert!(auto > least * best, "{entries} entries, a loop over {keys}: {auto} of {best}");
        }
    }
}

/// Loops, recency and favourites in turn; the longer each of them lasts, the more of it is made use of.
#[test]
fn follows_changes() {
    for &entries in SIZES {
        for (lengths, least) in [(10, 0.5), (40, 0.6)] {
            let mut workload = Workload::new(5);
            for _ in 0..3 {
                workload.recent(lengths * entries, entries);
                workload.round(lengths * entries, 3 * entries / 2);
                workload.favourites(lengths * entries, 3 * entries, 2);
            }
            let keys = &workload.keys;
            let (auto, best) = (reached::<Auto>(keys, entries), best(keys, entries));
            let fixed = recency(keys, entries).max(reached::<S3Fifo>(keys, entries));
            assert!(auto > fixed - 1.0, "{entries} entries, phases of {lengths}: {auto}, but {fixed}");
            assert!(auto > least * best, "{entries} entries, phases of {lengths}: {auto} of {best}");
        }
    }
}

#[test]
fn keeps_favourites_through_scans() {
    for &entries in SIZES {
        let mut workload = Workload::new(9);
        for _ in 0..10 {
            workload.favourites(4 * entries, entries, 4);
            workload.round(2 * entries, 2 * entries);
        }
        let keys = &workload.keys;
        let (auto, lru) = (reached::<Auto>(keys, entries), recency(keys, entries));
        assert!(auto > lru + 5.0, "{entries} entries: {auto}, LRU {lru}");
    }
}

/// Each key is written once, and read once a little later, by a program that does not write what it does not find. Between
/// them it reads favourites, which it writes if they are missing.
fn hits_of_what_is_written(seed: u64, lag: u64, favourites: usize) -> f64 {
    const KEYS: u64 = if cfg!(feature = "strict") { 0 } else { 30_000 };
    let hash = |key: u64| {
        let mixed = key.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed ^ mixed >> 31).wrapping_mul(0xe703_7ed1_a0b4_28db)
    };
    let mut store = EntryStore::<u64, (), Auto>::new(Limits::new(100, 0), seed);
    let (clock, mut removed, mut draw) = (ManualClock::default(), Vec::new(), Workload::new(seed));
    let mut read = |store: &mut EntryStore<u64, (), Auto>, key| {
        let Ok(found) = store.find(hash(key), |&other| Ok::<_, Infallible>(other == key));
        store.get(found, hash(key), &clock, &mut removed).is_some()
    };
    let write = |store: &mut EntryStore<u64, (), Auto>, key| {
        let place = store.reserve_plain(hash(key)).expect("there is memory");
        store.insert_plain(place, hash(key), key, ());
    };
    let mut hits = 0;
    for key in lag..KEYS {
        write(&mut store, key);
        if favourites > 0 {
            let favourite = (1 << 40) + draw.below(favourites) as u64;
            if !read(&mut store, favourite) {
                write(&mut store, favourite);
            }
        }
        hits += u64::from(read(&mut store, key - lag));
    }
    percent(hits, usize::try_from(KEYS).expect("small").max(1))
}

#[test]
fn newcomers_are_found_again_though_misses_are_not_stored() {
    let least = if cfg!(feature = "strict") { 0.0 } else { 80.0 };
    for seed in 0..5 {
        for favourites in [0, 30, 1_000] {
            let reached = hits_of_what_is_written(seed, 30, favourites);
            assert!(reached >= least, "seed {seed}, {favourites} favourites: {reached}");
        }
    }
}

/// The sum of the weights of the hits, where a few heavy entries are asked for twice as often as many light ones.
fn weight_of_hits(store: &mut EntryStore<u32, (), TinyLfu>) -> u64 {
    let weight = |key| if key < 8 { 100 } else { 1 };
    let (mut draw, mut total) = (Workload::new(4), 0);
    let (clock, mut removed) = (ManualClock::default(), Vec::new());
    for _ in 0..12_000 {
        let at = u32::try_from(draw.below(416)).expect("small");
        let key = if at < 16 { at % 8 } else { at };
        let hash = u64::from(key).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        let Ok(found) = store.find(hash, |&other| Ok::<_, Infallible>(other == key));
        if store.get(found, hash, &clock, &mut removed).is_some() {
            total += weight(key);
        } else {
            let new = New { key, value: (), weight: weight(key), deadline: None };
            store.put(found, hash, new, &clock, &mut removed).expect("there is room");
        }
    }
    total
}

#[test]
fn an_emptied_store_goes_on_with_its_goal() {
    let with = |goal| {
        let mut store = EntryStore::new(Limits::new(0, 600), 1);
        store.set_goal(goal);
        store
    };
    let mut emptied = with(Goal::Bytes);
    assert!(emptied.drain().is_empty());
    let (bytes, hits) = (weight_of_hits(&mut emptied), weight_of_hits(&mut with(Goal::Hits)));
    assert!(bytes > hits, "{bytes} with the goal of bytes, {hits} with that of hits");
}
