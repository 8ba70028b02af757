//! Values that are kept by name until a time: gates, logged calls and leases.

use std::collections::HashMap;

use super::FullKey;

/// The number of values from which on expired ones are searched for.
const FEW: usize = 1024;

/// Values by name. Expired ones are removed as others are inserted, at a constant amortized cost.
pub(super) struct Timed<T> {
    by_name: HashMap<FullKey, T>,
    /// The number of values at which expired ones are removed next.
    most: usize,
}

impl<T> Default for Timed<T> {
    fn default() -> Self {
        Self { by_name: HashMap::new(), most: FEW }
    }
}

impl<T> Timed<T> {
    pub(super) fn get(&self, name: &FullKey) -> Option<&T> {
        self.by_name.get(name)
    }

    pub(super) fn get_mut(&mut self, name: &FullKey) -> Option<&mut T> {
        self.by_name.get_mut(name)
    }

    pub(super) fn remove(&mut self, name: &FullKey) -> Option<T> {
        self.by_name.remove(name)
    }

    /// Stores a value under a name that has none.
    pub(super) fn insert(&mut self, name: FullKey, value: T, is_over: impl Fn(&T) -> bool) {
        if self.by_name.len() >= self.most {
            self.by_name.retain(|_, value| !is_over(value));
            self.most = FEW.max(self.by_name.len().saturating_mul(2));
        }
        self.by_name.insert(name, value);
    }

    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }
}
