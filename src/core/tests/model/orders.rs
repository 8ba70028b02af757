//! The policies' orders of eviction, as lists of keys.

use flexcache_core::Limits;

/// In which order entries would leave.
pub(crate) trait Order: Default {
    /// Whether the order is known. Otherwise the store determines which entry is evicted.
    const EXACT: bool = true;

    fn new(limits: Limits) -> Self {
        let mut order = Self::default();
        order.set_limits(limits);
        order
    }

    fn set_limits(&mut self, _limits: Limits) {}

    /// The policy is asked for a victim.
    fn settle(&mut self) {}

    fn evict(&mut self, key: u8) {
        self.remove(key);
    }

    fn insert(&mut self, key: u8, hash: u64);
    fn access(&mut self, key: u8);
    fn replace(&mut self, key: u8) {
        self.access(key);
    }

    fn remove(&mut self, key: u8);
    fn order(&self) -> Vec<u8>;
}

fn take(keys: &mut Vec<u8>, key: u8) {
    keys.retain(|&other| other != key);
}

#[derive(Default)]
pub(crate) struct FifoOrder(Vec<u8>);

impl Order for FifoOrder {
    fn insert(&mut self, key: u8, _hash: u64) {
        self.0.push(key);
    }

    fn access(&mut self, _key: u8) {}

    fn remove(&mut self, key: u8) {
        take(&mut self.0, key);
    }

    fn order(&self) -> Vec<u8> {
        self.0.clone()
    }
}

#[derive(Default)]
pub(crate) struct LruOrder(Vec<u8>);

impl Order for LruOrder {
    fn insert(&mut self, key: u8, _hash: u64) {
        self.0.push(key);
    }

    fn access(&mut self, key: u8) {
        take(&mut self.0, key);
        self.0.push(key);
    }

    fn remove(&mut self, key: u8) {
        take(&mut self.0, key);
    }

    fn order(&self) -> Vec<u8> {
        self.0.clone()
    }
}

#[derive(Default)]
pub(crate) struct RequeueOrder(LruOrder);

impl Order for RequeueOrder {
    fn insert(&mut self, key: u8, hash: u64) {
        self.0.insert(key, hash);
    }

    fn access(&mut self, _key: u8) {}

    fn replace(&mut self, key: u8) {
        self.0.access(key);
    }

    fn remove(&mut self, key: u8) {
        self.0.remove(key);
    }

    fn order(&self) -> Vec<u8> {
        self.0.order()
    }
}

/// Keys with their counts, in the order in which they came to have them.
#[derive(Default)]
pub(crate) struct ExactLfuOrder(Vec<(u64, u8)>);

impl Order for ExactLfuOrder {
    fn insert(&mut self, key: u8, _hash: u64) {
        self.0.push((1, key));
    }

    fn access(&mut self, key: u8) {
        let at = self.0.iter().position(|&(_, other)| other == key).expect("present");
        let (count, _) = self.0.remove(at);
        self.0.push((count + 1, key));
    }

    fn remove(&mut self, key: u8) {
        self.0.retain(|&(_, other)| other != key);
    }

    fn order(&self) -> Vec<u8> {
        let mut keys = self.0.clone();
        keys.sort_by_key(|&(count, _)| count);
        keys.into_iter().map(|(_, key)| key).collect()
    }
}

/// Keys by frequency, those with the same in the order in which they came to have it.
pub(crate) struct LfuOrder {
    lists: Vec<Vec<u8>>,
    accesses: usize,
}

impl Default for LfuOrder {
    fn default() -> Self {
        Self { lists: vec![Vec::new(); 256], accesses: 0 }
    }
}

impl LfuOrder {
    fn count(&mut self) {
        self.accesses += 1;
        let len: usize = self.lists.iter().map(Vec::len).sum();
        if self.accesses >= 1000.max(10 * len) {
            self.accesses = 0;
            let halves = self.lists.chunks(2).map(<[_]>::concat).collect::<Vec<_>>();
            self.lists = halves.into_iter().chain(std::iter::repeat(Vec::new())).take(256).collect();
        }
    }
}

impl Order for LfuOrder {
    fn insert(&mut self, key: u8, _hash: u64) {
        self.lists[1].push(key);
        self.count();
    }

    fn access(&mut self, key: u8) {
        let frequency = self.lists.iter().position(|list| list.contains(&key)).expect("present");
        take(&mut self.lists[frequency], key);
        self.lists[(frequency + 1).min(255)].push(key);
        self.count();
    }

    fn remove(&mut self, key: u8) {
        self.lists.iter_mut().for_each(|list| take(list, key));
    }

    fn order(&self) -> Vec<u8> {
        self.lists.concat()
    }
}

/// No order at all.
#[derive(Default)]
pub(crate) struct AnyOrder(Vec<u8>);

impl Order for AnyOrder {
    const EXACT: bool = false;

    fn insert(&mut self, key: u8, _hash: u64) {
        self.0.push(key);
    }

    fn access(&mut self, _key: u8) {}

    fn remove(&mut self, key: u8) {
        take(&mut self.0, key);
    }

    fn order(&self) -> Vec<u8> {
        self.0.clone()
    }
}

/// A list from old to new, each with a mark, and a hand at one of them.
#[derive(Clone, Default)]
pub(crate) struct SieveOrder {
    keys: Vec<(u8, bool)>,
    hand: usize,
}

impl Order for SieveOrder {
    fn insert(&mut self, key: u8, _hash: u64) {
        self.keys.push((key, false));
    }

    fn access(&mut self, key: u8) {
        self.keys.iter_mut().filter(|entry| entry.0 == key).for_each(|entry| entry.1 = true);
    }

    fn settle(&mut self) {
        while !self.keys.is_empty() && self.keys[self.hand].1 {
            self.keys[self.hand].1 = false;
            self.hand = (self.hand + 1) % self.keys.len();
        }
    }

    fn remove(&mut self, key: u8) {
        let at = self.keys.iter().position(|entry| entry.0 == key).expect("present");
        self.keys.remove(at);
        self.hand -= usize::from(at < self.hand);
        self.hand = if self.hand == self.keys.len() { 0 } else { self.hand };
    }

    fn order(&self) -> Vec<u8> {
        let mut rest = self.clone();
        let mut order = Vec::new();
        while !rest.keys.is_empty() {
            rest.settle();
            let key = rest.keys[rest.hand].0;
            order.push(key);
            rest.remove(key);
        }
        order
    }
}

/// Two lists with numbers of hits, and one of hashes.
#[derive(Default)]
pub(crate) struct S3FifoOrder {
    small: Vec<(u8, u64, u8)>,
    main: Vec<(u8, u64, u8)>,
    ghosts: Vec<u64>,
    bound: Option<usize>,
    was_full: bool,
}

impl S3FifoOrder {
    fn full(&self) -> usize {
        self.bound.unwrap_or(self.small.len() + self.main.len())
    }

    fn tenth(&self) -> usize {
        (self.full() / 10).max(1)
    }

    fn most_ghosts(&self) -> usize {
        self.bound.map_or(64, |bound| bound - bound / 10)
    }

    /// Whether the small list is where the next victim is, once so many have gone on to the main one.
    fn small_is_first(&self, promoted: usize) -> bool {
        self.small.len() > promoted && self.main.len() + promoted + self.tenth() <= self.full()
    }
}

impl Order for S3FifoOrder {
    fn set_limits(&mut self, limits: Limits) {
        let before = self.most_ghosts();
        self.bound = limits.items.map(|items| usize::try_from(items.get()).expect("small"));
        if self.most_ghosts() != before {
            self.ghosts.clear();
        }
    }

    fn insert(&mut self, key: u8, hash: u64) {
        // Of keys with the same hash, the ghost that came last is taken first.
        let known = self.ghosts.iter().rposition(|&ghost| ghost == hash);
        if let Some(at) = known {
            self.ghosts.remove(at);
        }
        if known.is_some() || (!self.was_full && self.small.len() >= self.tenth()) {
            self.main.push((key, hash, 0));
        } else {
            self.small.push((key, hash, 0));
        }
    }

    fn access(&mut self, key: u8) {
        for entry in self.small.iter_mut().chain(&mut self.main).filter(|entry| entry.0 == key) {
            entry.2 = (entry.2 + 1).min(3);
        }
    }

    fn settle(&mut self) {
        self.was_full = true;
        while self.small_is_first(0) {
            if self.small[0].2 < 2 {
                return;
            }
            let (key, hash, _) = self.small.remove(0);
            self.main.push((key, hash, 0));
        }
        while self.main.first().is_some_and(|entry| entry.2 > 0) {
            let (key, hash, hits) = self.main.remove(0);
            self.main.push((key, hash, hits - 1));
        }
    }

    fn evict(&mut self, key: u8) {
        if let Some(&(_, hash, _)) = self.small.iter().find(|entry| entry.0 == key) {
            self.ghosts.push(hash);
            if self.ghosts.len() > self.most_ghosts() {
                self.ghosts.remove(0);
            }
        }
        self.remove(key);
    }

    fn remove(&mut self, key: u8) {
        self.small.retain(|entry| entry.0 != key);
        self.main.retain(|entry| entry.0 != key);
    }

    fn order(&self) -> Vec<u8> {
        let is_cold = |entry: &&(u8, u64, u8)| entry.2 < 2;
        let (cold, warm): (Vec<_>, Vec<_>) = self.small.iter().partition(is_cold);
        let promoted = self.small.iter().take_while(|entry| entry.2 >= 2).count();
        let small_is_first = self.small_is_first(promoted);
        let mut order: Vec<&(u8, u64, u8)> = if small_is_first { cold.clone() } else { Vec::new() };
        for hits in 0..=3 {
            order.extend(self.main.iter().filter(|entry| entry.2 == hits));
        }
        order.extend(warm);
        if !small_is_first {
            order.extend(cold);
        }
        order.into_iter().map(|entry| entry.0).collect()
    }
}
