//! The rules for what reads and writes do besides their own work: eviction and statistics.

/// An eviction policy, as fragments of SQL. Each fragment may be absent.
///
/// In the fragments, `{now}` stands for the time of the call and `{fields}` for columns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Creates the index that the policy needs.
    pub init: Option<String>,
    /// The assignments that a read makes in the row it found.
    pub get: Option<String>,
    /// Selects `{fields}` of the next entries to evict, at most `?` of them.
    pub cull: Option<String>,
}

impl Policy {
    /// The names of the policies of the format.
    pub const NAMES: [&str; 4] =
        ["none", "least-recently-stored", "least-recently-used", "least-frequently-used"];

    /// Returns a policy made of these fragments.
    #[must_use]
    pub fn new(init: Option<&str>, get: Option<&str>, cull: Option<&str>) -> Self {
        let owned = |fragment: Option<&str>| fragment.map(str::to_owned);
        Self { init: owned(init), get: owned(get), cull: owned(cull) }
    }

    /// Returns one of [`Policy::NAMES`]. Returns `None` for any other name.
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

/// The rules of one user of a directory. Those of another user may differ.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Which entries are evicted first.
    pub policy: Policy,
    /// Writes evict once the volume exceeds this number of bytes.
    pub size_limit: f64,
    /// One write removes at most this many entries. With 0 it removes none, not even expired ones.
    pub cull_limit: u64,
    /// Whether hits and misses are counted. If so, every read writes.
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
