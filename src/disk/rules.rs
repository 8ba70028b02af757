//! What else happens on a read or a write: eviction and statistics.

/// An order of eviction, as fragments of SQL. Each may be missing.
///
/// In the fragments `{now}` stands for the moment of the call and `{fields}` for columns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Makes the index that the order needs.
    pub init: Option<String>,
    /// What a read sets in the row it found.
    pub get: Option<String>,
    /// Selects `{fields}` of the next victims, at most `?` of them.
    pub cull: Option<String>,
}

impl Policy {
    /// A policy from its fragments.
    #[must_use]
    pub fn new(init: Option<&str>, get: Option<&str>, cull: Option<&str>) -> Self {
        let owned = |fragment: Option<&str>| fragment.map(str::to_owned);
        Self { init: owned(init), get: owned(get), cull: owned(cull) }
    }

    /// One of the four that every directory knows: `none`, `least-recently-stored`,
    /// `least-recently-used`, `least-frequently-used`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let by = |column: &str, get| {
            Self::new(
                Some(&format!("CREATE INDEX IF NOT EXISTS Cache_{column} ON Cache ({column})")),
                get,
                Some(&format!("SELECT {{fields}} FROM Cache ORDER BY {column} LIMIT ?")),
            )
        };
        match name {
            "none" => Some(Self::default()),
            "least-recently-stored" => Some(by("store_time", None)),
            "least-recently-used" => Some(by("access_time", Some("access_time = {now}"))),
            "least-frequently-used" => Some(by("access_count", Some("access_count = access_count + 1"))),
            _ => None,
        }
    }
}

/// What one user of a directory does on reads and writes. Others may do otherwise.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The order of eviction.
    pub policy: Policy,
    /// Bytes from which on writes evict.
    pub size_limit: f64,
    /// At most so many entries leave with one write; 0 leaves even what has expired.
    pub cull_limit: u64,
    /// Whether hits and misses are counted, which makes each read a write.
    pub statistics: bool,
}

impl Rules {
    /// Whether a read writes.
    #[must_use]
    pub fn reads_write(&self) -> bool {
        self.statistics || self.policy.get.is_some()
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            policy: Policy::named("least-recently-stored").unwrap_or_default(),
            size_limit: 1_073_741_824.0,
            cull_limit: 10,
            statistics: false,
        }
    }
}
