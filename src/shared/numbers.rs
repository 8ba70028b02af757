//! Numbers that all processes can change atomically: integers and limiters.

use std::time::Duration;

use crate::cache::SharedCache;
use crate::error::{Error, Result};
use crate::record::Key;
use crate::segment::Patience;
use crate::terms::Written;
use crate::write::NotCounted;

impl SharedCache {
    /// Adds to a key's integer, and returns the sum. A key without a live value gets `initial + by`, with this deadline.
    ///
    /// # Errors
    ///
    /// [`Error::NotANumber`]; [`Error::Overflow`]; as `put`.
    #[inline]
    pub fn increment(
        &self,
        key: Key<'_>,
        by: i64,
        initial: i64,
        deadline: u64,
        patience: Patience,
    ) -> Result<Written<i64>> {
        let written = self.write(key, patience, |held, key| held.increment(key, by, initial, deadline))?;
        Ok(Written { result: counted(written.result)?, stamp: written.stamp })
    }

    /// Adds to a key's integer, and returns the sum. For a key without a live value, returns `None` and
    /// stores nothing.
    ///
    /// # Errors
    ///
    /// As `increment`.
    pub fn increment_present(
        &self,
        key: Key<'_>,
        by: i64,
        patience: Patience,
    ) -> Result<Written<Option<i64>>> {
        let written = self.write(key, patience, |held, key| held.increment_present(key, by))?;
        Ok(Written { result: written.result.map(counted).transpose()?, stamp: written.stamp })
    }

    /// Takes one of `limit` uses per `period` that all processes share under a key. Returns zero if it was
    /// taken, or the time until one can be taken. Uses return at an even pace; after a pause, all `limit` may
    /// be taken at once.
    ///
    /// The limit is advisory: eviction, `clear` or a reset restarts the count.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfRange`]; [`Error::NotANumber`] if the key has another value; as `put`.
    pub fn limit(&self, key: Key<'_>, limit: u32, period: Duration, patience: Patience) -> Result<Duration> {
        let nanoseconds = u64::try_from(period.as_nanos()).unwrap_or(u64::MAX);
        let cost = nanoseconds / u64::from(limit.max(1));
        if limit == 0 || cost == 0 || nanoseconds > 1 << 62 {
            return Err(Error::OutOfRange {
                argument: "limit and period",
                value: format!("{limit} in {period:?}"),
                allowed: "at least 1, at most one a nanosecond, in at most 146 years".into(),
            });
        }
        let written = self.write(key, patience, |held, key| held.limit(key, cost, nanoseconds))?;
        counted(written.result).map(Duration::from_nanos)
    }
}

fn counted<T>(result: std::result::Result<T, NotCounted>) -> Result<T> {
    result.map_err(|error| match error {
        NotCounted::NotANumber => Error::NotANumber,
        NotCounted::Overflow => Error::Overflow,
    })
}
