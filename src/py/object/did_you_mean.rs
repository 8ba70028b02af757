//! Suggestions for misspelt arguments: names of other libraries, and names with a similar spelling.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// Groups of names with the same meaning, in this library and in others.
const SYNONYMS: [&[&str]; 15] = [
    &[
        "max_items",
        "maxsize",
        "max_size",
        "capacity",
        "maxlen",
        "size",
        "limit",
        "max_entries",
        "max_len",
        "maxitems",
        "max_length",
        "cache_size",
        "n",
    ],
    &[
        "max_bytes",
        "size_limit",
        "maxbytes",
        "max_memory",
        "maxmemory",
        "memory_limit",
        "max_weight",
        "max_cost",
        "maxsize_bytes",
        "max_size_bytes",
    ],
    &[
        "ttl",
        "default_ttl",
        "expire",
        "expires",
        "expiry",
        "expire_after",
        "expires_in",
        "time_to_live",
        "timeout",
        "default_timeout",
        "max_age",
        "lifetime",
        "seconds",
        "expiration",
        "ex",
        "ttl_seconds",
        "global_ttl",
        "cache_timeout",
    ],
    &["eviction_policy", "policy", "eviction", "strategy", "algorithm"],
    &["on_evict", "on_eviction", "callback", "eviction_callback", "on_remove", "on_removal", "listener"],
    &["tags", "tag"],
    &["weigher", "getsizeof", "get_size", "sizeof", "size_of", "weight", "sizer"],
    &["directory", "path", "dir", "folder", "cache_dir", "location"],
    &["store", "backend"],
    &["period", "per", "window"],
    &["lock"],
    &["key", "key_func", "key_builder", "key_maker", "keyfunc", "make_key"],
    &["clock", "timer", "time_func", "timefunc"],
    &["condition", "cache_if", "should_cache", "skip_cache_func", "unless"],
    &["cache_exceptions", "exceptions", "cache_errors"],
];

/// The edit distance between two names.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, letter) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = at + 1;
        for (column, with) in other.iter().enumerate() {
            let exchanged = diagonal + usize::from(letter != *with);
            diagonal = row[column + 1];
            row[column + 1] = exchanged.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

/// Which of the allowed names was probably meant.
fn meant<'a>(given: &str, allowed: &[&'a str]) -> Option<&'a str> {
    const LONGEST: usize = 40;
    let plain = given.to_lowercase();
    if let Some(group) = SYNONYMS.iter().find(|group| group.contains(&plain.as_str())) {
        let synonym = group.iter().find_map(|name| allowed.iter().find(|one| *one == name));
        // A known word does not stand for a name that is only spelt like it, except for its plural.
        return synonym.or_else(|| allowed.iter().find(|one| one.strip_suffix('s') == Some(&plain))).copied();
    }
    if given.len() > LONGEST {
        return None;
    }
    let near = allowed.iter().map(|name| (distance(&plain, name), *name)).min()?;
    (near.0 <= (plain.len() / 3).max(1)).then_some(near.1)
}

/// Explains arguments of other libraries for which there is no argument here, or one with the opposite
/// meaning.
fn explained(callable: &str, given: &str, allowed: &[&str]) -> Option<&'static str> {
    let has = |name| allowed.contains(&name);
    Some(match given {
        "lock" if callable == "memoize" => "no lock is needed: one call computes for all that ask at once",
        "lock" => "no lock is needed: threads may share the cache",
        "skip_cache_func" | "unless" if has("condition") => {
            "did you mean condition=? It returns True for what is kept"
        }
        "directory" | "location" | "cache_dir" if has("store") => {
            "did you mean store=flexcache_rs.disk.Cache(directory)?"
        }
        _ => return None,
    })
}

/// The suggestion to add to a message about a wrong word; empty if no allowed word is similar.
pub(crate) fn suggestion(given: &str, allowed: &[&str]) -> String {
    meant(given, allowed).map_or_else(String::new, |meant| format!("; did you mean '{meant}'?"))
}

/// The message for an argument that a callable does not have.
pub(crate) fn unexpected(callable: &str, given: &str, allowed: &[&str]) -> String {
    let mut message = format!("{callable}() got an unexpected keyword argument '{given}'");
    match (explained(callable, given, allowed), meant(given, allowed)) {
        (Some(explained), _) => message += &format!("; {explained}"),
        (None, Some(meant)) => message += &format!("; did you mean {meant}=?"),
        (None, None) => message += &format!("; the arguments are {}", allowed.join(", ")),
    }
    message
}

/// Refuses unknown keyword arguments of a method.
///
/// # Errors
///
/// `TypeError`, if there is anything.
pub(crate) fn refuse(method: &str, unknown: Option<&Bound<'_, PyDict>>, allowed: &[&str]) -> PyResult<()> {
    let Some(given) = unknown.and_then(|unknown| unknown.keys().iter().next()) else { return Ok(()) };
    Err(PyTypeError::new_err(unexpected(method, &given.str()?.to_string_lossy(), allowed)))
}

/// The message for an argument that a callable written in Python does not have.
#[pyfunction]
#[pyo3(name = "_unexpected_argument")]
#[expect(clippy::needless_pass_by_value, reason = "made from Python's")]
pub(crate) fn unexpected_argument(callable_: &str, given: &str, allowed: Vec<String>) -> String {
    let allowed: Vec<&str> = allowed.iter().map(String::as_str).collect();
    unexpected(callable_, given, &allowed)
}
