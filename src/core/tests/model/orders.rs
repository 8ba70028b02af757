//! The policies' orders of eviction, as lists of keys.

/// In which order entries would leave.
pub(crate) trait Order: Default {
    /// Whether the order is known; otherwise the store says who leaves.
    const EXACT: bool = true;

    fn insert(&mut self, key: u8);
    fn access(&mut self, key: u8);
    fn remove(&mut self, key: u8);
    fn order(&self) -> Vec<u8>;
}

fn take(keys: &mut Vec<u8>, key: u8) {
    keys.retain(|&other| other != key);
}

#[derive(Default)]
pub(crate) struct FifoOrder(Vec<u8>);

impl Order for FifoOrder {
    fn insert(&mut self, key: u8) {
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
    fn insert(&mut self, key: u8) {
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
    fn insert(&mut self, key: u8) {
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

    fn insert(&mut self, key: u8) {
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
