//! Recounting a store: whether its parts agree with each other.

use super::EntryStore;
use crate::policy::Policy;

impl<K, V, P: Policy> EntryStore<K, V, P> {
    /// Recounts everything. O(n).
    ///
    /// # Errors
    ///
    /// A description of the inconsistency that was found: a bug in this crate.
    pub fn check(&self) -> Result<(), String> {
        if self.is_over() {
            return Err("the limits do not hold".into());
        }
        self.check_structure()
    }

    fn check_structure(&self) -> Result<(), String> {
        let len = self.nodes.iter().count();
        if len != self.nodes.len() || len != self.index.len() {
            return Err(format!(
                "{len} nodes, {} counted, {} in the index",
                self.nodes.len(),
                self.index.len()
            ));
        }
        if !self.index.is_sound(|slot| self.hashes.get(slot)) {
            return Err("an entry is in the wrong segment of the index".into());
        }
        if let Some(slot) = self.index.iter().find(|&slot| self.nodes.try_get(slot).is_none()) {
            return Err(format!("the index names {slot:?}, which is empty"));
        }
        self.nodes.check()?;
        self.policy.check(len)?;
        if self.slots().take(len + 1).count() != len {
            return Err("the order of eviction leaves entries out".into());
        }
        let total: u128 = self.nodes.iter().map(|(slot, _)| u128::from(self.weights.get(slot))).sum();
        if total != u128::from(self.weights.total()) {
            return Err(format!("the weights add up to {total}, not {}", self.weights.total()));
        }
        if let Some(wheel) = &self.wheel {
            wheel.check(self.nodes.iter().map(|(slot, _)| slot))?;
        }
        match &self.tags {
            Some(tags) => tags.check(self.nodes.iter().map(|(slot, _)| slot)),
            None => Ok(()),
        }
    }

    #[cfg(not(feature = "strict"))]
    #[expect(clippy::unused_self, reason = "the strict build uses it")]
    #[inline(always)]
    pub(super) fn recount(&self) {}

    #[cfg(feature = "strict")]
    pub(super) fn recount(&mut self) {
        // Lower limits do not hold before `shrink` has removed the surplus.
        self.shrinking &= self.is_over();
        let found = if self.shrinking { self.check_structure() } else { self.check() };
        if let Err(wrong) = found {
            panic!("the store is damaged: {wrong}");
        }
    }
}
