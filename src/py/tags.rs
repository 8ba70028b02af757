//! Tags: the argument, checked, and the entries that leave by one.

use flexcache_core::Cause;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyString;

use super::cache::FlexCache;
use super::departures::Departures;
use super::expire::BATCH;
use super::options::wrong_type;
use super::running_python::next;

/// The tags that a call was given, kept alive.
#[derive(Default)]
pub(super) struct Given<'py>(Vec<Bound<'py, PyString>>);

impl<'py> Given<'py> {
    /// Reads the argument. Runs the code of the iterable.
    ///
    /// # Errors
    ///
    /// `TypeError` for what is no iterable of str, and what the iterable raises.
    pub(super) fn read(tags: Option<Borrowed<'_, 'py, PyAny>>) -> PyResult<Self> {
        let Some(tags) = tags.filter(|tags| !tags.is_none()) else { return Ok(Self::default()) };
        if let Ok(text) = tags.cast::<PyString>() {
            return Err(PyTypeError::new_err(format!(
                "tags must be an iterable of str, not a str; for one tag write ({:?},)",
                text.to_string_lossy()
            )));
        }
        let iterator = tags.try_iter().map_err(|error| match tags.getattr_opt("__iter__") {
            Ok(None) => wrong_type("tags", "an iterable of str", &tags),
            _ => error,
        })?;
        let mut given = Vec::new();
        while let Some(tag) = next(&iterator)? {
            let tag = tag.cast_into::<PyString>();
            let tag = tag.map_err(|error| wrong_type("a tag", "a str", &error.into_inner()))?;
            given.push(tag);
        }
        Ok(Self(given))
    }

    /// The tags' texts.
    ///
    /// # Errors
    ///
    /// `UnicodeEncodeError` for lone surrogates, which are no text.
    pub(super) fn names(&self) -> PyResult<Vec<&str>> {
        self.0.iter().map(|tag| tag.to_str()).collect()
    }
}

impl FlexCache {
    /// Removes every live entry that has a tag; how many those were.
    pub(super) fn remove_tagged(&self, tag: &Bound<'_, PyAny>) -> PyResult<usize> {
        let py = tag.py();
        let text = tag.cast::<PyString>().map_err(|_| wrong_type("a tag", "a str", tag))?;
        let tag = text.to_str()?;
        let turn = self.turn(py)?;
        let mut departures = Departures::new();
        // All are out before any hook runs, which may store others of the tag.
        let all = self.take_tagged(py, tag, &mut departures);
        let count = departures.iter().filter(|leaver| leaver.cause == Cause::Deleted).count();
        let settled = self.settle(py, departures);
        drop(turn);
        all.and(settled).map(|()| count)
    }

    fn take_tagged(&self, py: Python<'_>, tag: &str, departures: &mut Departures) -> PyResult<()> {
        for shard in self.shards.iter() {
            // No more than there were, or threads that keep storing would keep this one here.
            let mut rest = shard.with(py, |engine| engine.count_tagged(tag))?;
            while rest > 0 {
                let most = rest.min(BATCH);
                let left = shard.with(py, |engine| engine.evict_tag(tag, most, departures))?;
                rest = if left < most { 0 } else { rest - left };
            }
        }
        Ok(())
    }
}
