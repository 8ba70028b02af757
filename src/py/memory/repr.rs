//! `repr()` of a cache.

use pyo3::prelude::*;
use pyo3::types::PyString;

use super::state::FlexCache;

/// The cache's class, name, policy, limits and length.
pub(super) fn of(this: &Bound<'_, FlexCache>) -> PyResult<String> {
    let py = this.py();
    let cache = this.get();
    let limits = cache.limits(py)?;
    let mut text = this.get_type().name()?.to_string();
    text.push('(');
    if let Some(name) = &cache.options.name {
        text += &format!("name={}, ", PyString::new(py, name).repr()?);
    }
    match cache.own_policy(py)? {
        Some(policy) => text += &format!("eviction_policy=<{}>", policy.bind(py).get_type().name()?),
        None => text += &format!("eviction_policy='{}'", cache.options.policy.as_str()),
    }
    for (argument, limit) in [("max_items", limits.items), ("max_bytes", limits.weight)] {
        if let Some(limit) = limit {
            text += &format!(", {argument}={limit}");
        }
    }
    text += &format!("; {} items)", cache.sum(py, |store| store.len())?);
    Ok(text)
}
