//! The counters of a store.

/// Counts since the store was made or [`reset`](crate::EntryStore::reset_stats). All exact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Reads that found a live entry.
    pub hits: u64,
    /// Reads that found none.
    pub misses: u64,
    /// Entries stored under a key that had none.
    pub insertions: u64,
    /// Values replaced.
    pub updates: u64,
    /// Entries removed to make room.
    pub evictions: u64,
    /// Entries removed because their deadline had come.
    pub expirations: u64,
    /// Entries removed by the caller: deleted, popped, cleared, closed.
    pub removals: u64,
}

impl std::ops::Add for Stats {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            hits: self.hits + other.hits,
            misses: self.misses + other.misses,
            insertions: self.insertions + other.insertions,
            updates: self.updates + other.updates,
            evictions: self.evictions + other.evictions,
            expirations: self.expirations + other.expirations,
            removals: self.removals + other.removals,
        }
    }
}
