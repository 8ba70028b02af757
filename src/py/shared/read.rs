//! Reading a value, which is counted.

use flexcache_shared::{Key, Patience};
use pyo3::prelude::*;

use super::segment::{Opened, run};
use super::value::{RawValue, Read};

/// Reads a value. Simple ones become objects where they lie. A hit is counted, and a miss unless the caller looks again.
#[inline(always)]
pub(super) fn read<'py, const COUNTS_MISSES: bool>(
    py: Python<'py>,
    opened: &Opened,
    key: Key<'_>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let found = opened.cache.get(key, Patience::Try, |value| Read::of(py, value));
    let is_hit = matches!(found, Ok(Some(_)));
    if is_hit || COUNTS_MISSES {
        opened.counts.count(&opened.cache, is_hit);
    }
    match found {
        Ok(None) => Ok(None),
        Ok(Some(read)) => read.finish(py, &opened.serializer).map(Some),
        Err(_) => read_slowly(py, opened, key),
    }
}

/// A read for which the cache may have to be opened anew.
#[cold]
fn read_slowly<'py>(py: Python<'py>, opened: &Opened, key: Key<'_>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let raw = run(py, opened, |cache, patience| cache.get(key, patience, RawValue::copy))?;
    raw.map(|raw| raw.into_object(py, &opened.serializer)).transpose()
}
