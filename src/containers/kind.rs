//! The kinds of values that a key may hold, and their bytes.

/// One element as bytes.
pub type Cell = Vec<u8>;

/// A key as bytes, without its namespace.
pub type Key = Vec<u8>;

/// Milliseconds since 1970, and which of those of the same millisecond.
pub type StreamId = (u64, u64);

/// What a key holds. The numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "they are what they are called")]
pub enum Kind {
    Scalar = 1,
    List = 2,
    Queue = 3,
    Map = 4,
    Set = 5,
    Sorted = 6,
    Stream = 7,
    Bloom = 8,
    Bits = 9,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 9] = [
        Self::Scalar,
        Self::List,
        Self::Queue,
        Self::Map,
        Self::Set,
        Self::Sorted,
        Self::Stream,
        Self::Bloom,
        Self::Bits,
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::List => "list",
            Self::Queue => "queue",
            Self::Map => "map",
            Self::Set => "set",
            Self::Sorted => "sorted",
            Self::Stream => "stream",
            Self::Bloom => "bloom",
            Self::Bits => "bits",
        }
    }

    pub(crate) fn with_article(self) -> &'static str {
        match self {
            Self::Scalar => "a single value",
            Self::List => "a list",
            Self::Queue => "a queue",
            Self::Map => "a map",
            Self::Set => "a set",
            Self::Sorted => "a sorted set",
            Self::Stream => "a stream",
            Self::Bloom => "a Bloom filter",
            Self::Bits => "bits",
        }
    }

    /// The kind with a number.
    #[must_use]
    pub fn from_number(number: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| i64::from(*kind as u8) == number)
    }
}
