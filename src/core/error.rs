//! Why a store refuses an entry. A miss is not an error.

use std::fmt;

use crate::memory::OutOfMemory;

/// Why a store refused an entry. The store is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The entry alone weighs more than the store may hold.
    TooHeavy {
        /// The entry's weight.
        weight: u64,
        /// The store's limit.
        limit: u64,
    },
    /// The sum of all weights would not fit 64 bits.
    WeightOverflow {
        /// The entry's weight.
        weight: u64,
        /// The sum before.
        total: u64,
    },
    /// The store holds as many entries, or as many tags of entries, as can be addressed.
    Full,
    /// Memory could not be allocated.
    OutOfMemory,
}

impl From<OutOfMemory> for Error {
    fn from(_: OutOfMemory) -> Self {
        Self::OutOfMemory
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooHeavy { weight, limit } => {
                write!(f, "an entry of weight {weight} is larger than the limit of {limit}")
            }
            Self::WeightOverflow { weight, total } => {
                write!(f, "an entry of weight {weight} on top of {total} overflows the sum of weights")
            }
            Self::OutOfMemory => OutOfMemory.fmt(f),
            Self::Full => write!(
                f,
                "a store holds at most {} entries, and as many tags of entries",
                crate::slot::Slot::LIMIT
            ),
        }
    }
}

impl std::error::Error for Error {}
