//! Which keys a transaction has written, for caches that hold copies of entries.
//!
//! Keys are divided among [`STRIPES`] stripes. A [`CommitObserver`] hears of every commit of one store, in the order of
//! the commits.

use std::hash::{DefaultHasher, Hash, Hasher};

use rusqlite::types::ValueRef;

use crate::row::Key;

/// Into how many stripes keys are divided.
pub const STRIPES: usize = 64;

/// The stripe of a key. Keys that SQLite takes for equal have the same one: 1 and 1.0 are one key.
#[must_use]
pub fn stripe_of(key: Key<'_>) -> usize {
    let mut hasher = DefaultHasher::new();
    match key.datum {
        ValueRef::Null => 0_u8.hash(&mut hasher),
        #[expect(clippy::cast_precision_loss, reason = "equal numbers stay equal")]
        ValueRef::Integer(number) => (number as f64).to_bits().hash(&mut hasher),
        // Adding 0.0 makes one zero of the two.
        ValueRef::Real(number) => (number + 0.0).to_bits().hash(&mut hasher),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.hash(&mut hasher),
    }
    #[expect(clippy::cast_possible_truncation, reason = "it is less than STRIPES")]
    {
        (hasher.finish() % STRIPES as u64) as usize
    }
}

/// The stripes of keys whose rows were stored, changed or removed; a bit for each. Evictions and the removal of expired
/// rows do not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WrittenStripes(pub u64);

impl WrittenStripes {
    /// Every key may have been written.
    pub(crate) const ALL: Self = Self(u64::MAX);

    pub(crate) fn add(&mut self, key: Key<'_>) {
        self.0 |= 1 << stripe_of(key);
    }

    pub(crate) fn add_all(&mut self) {
        *self = Self::ALL;
    }
}

/// What an observer says of the stripes of a commit: a number for each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Epochs {
    /// Nothing: there is no observer, or nothing was written.
    #[default]
    None,
    /// The only stripe, and its number.
    One(usize, u64),
    /// The number of each stripe.
    Many(Box<[u64; STRIPES]>),
}

impl Epochs {
    /// The number of a stripe, if something is said of it.
    #[must_use]
    pub fn of(&self, stripe: usize) -> Option<u64> {
        match self {
            Self::None => None,
            Self::One(only, epoch) => (*only == stripe).then_some(*epoch),
            Self::Many(epochs) => epochs.get(stripe).copied(),
        }
    }
}

/// Hears of the commits of one store. It must not block, nor call the store.
pub trait CommitObserver: Send + Sync {
    /// A transaction is about to be committed, while it has the write lock.
    fn committing(&self, written: WrittenStripes);

    /// It is committed. No other write of this store can be committed before this returns. What it returns becomes part
    /// of the [`Commit`](crate::Commit).
    fn committed(&self, written: WrittenStripes) -> Epochs;
}
