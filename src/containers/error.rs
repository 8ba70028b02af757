//! The errors of operations, each with the data for its message.

use std::fmt;

use crate::kind::{Key, Kind};

/// Why an operation failed. Nothing has changed then.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Error {
    /// The key holds something of another kind.
    Kind {
        /// Which key.
        key: Key,
        /// The kind of its value.
        held: Kind,
        /// The kind that the operation is for.
        wanted: Kind,
    },
    /// The value is not a number of 64 bits.
    NotANumber,
    /// The sum does not fit 64 bits.
    Overflow,
    /// The sum is not a number, such as that of infinity and minus infinity.
    NoSum,
    /// A Bloom filter was made with another capacity or error rate.
    Shape,
    /// There is no element at this index.
    NoElement(i64),
    /// Another transaction or write changed what the transaction has read.
    Conflict,
    /// The key would take more bytes than all keys may.
    TooHeavy {
        /// The number of bytes that the key would take.
        bytes: u64,
        /// The number of bytes that all keys may take.
        most: u64,
    },
    /// There is not enough memory.
    OutOfMemory,
    /// The call is one on all keys, which has this name and cannot be part of a transaction.
    NotInTransaction(&'static str),
}

/// The result of operations.
pub type Result<T> = std::result::Result<T, Error>;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kind { key, held, wanted } => {
                let key = String::from_utf8_lossy(key);
                write!(f, "{key:?} holds {}, not {}", held.with_article(), wanted.with_article())
            }
            Self::NotANumber => write!(f, "the value is not a number of 64 bits, to which could be added"),
            Self::Overflow => write!(f, "the sum does not fit 64 bits"),
            Self::NoSum => write!(f, "the sum is not a number (NaN) and cannot be stored"),
            Self::Shape => write!(f, "the Bloom filter was made with another capacity or error rate"),
            Self::NoElement(index) => write!(f, "the list has no element {index}"),
            Self::Conflict => {
                write!(f, "another write changed what the transaction has read; nothing of it was stored")
            }
            Self::TooHeavy { bytes, most } => {
                write!(
                    f,
                    "the key would take {bytes} bytes, more than max_bytes, {most}; nothing was changed"
                )
            }
            Self::OutOfMemory => write!(f, "there is not enough memory"),
            Self::NotInTransaction(name) => {
                write!(f, "{name}() cannot be part of a transaction on this backend")
            }
        }
    }
}

impl std::error::Error for Error {}
