//! The calls that only the package's own Python code makes.

use flexcache_core::Stamp;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;
use pyo3::types::PyDict;

use super::pickle::given_default_ttl;
use super::read::site;
use super::state::FlexCache;
use super::tier::Tier;
use crate::py::object::duration::seconds_until;
use crate::py::object::tags;
use crate::py::store::cached_result::{CachedResult, InstanceResults};
use crate::py::store::seam::Loaded;
use crate::py::store::tracked::{TrackedEntry, TrackedLoad};

impl FlexCache {
    fn take_loaded(&self, key: &Bound<'_, PyAny>, loaded: Loaded) -> PyResult<Option<Py<PyAny>>> {
        let Some(tier) = &self.tier else { return Ok(None) };
        let loaded = Tier::as_loaded(key.py(), loaded)?;
        Ok(self.read_loaded(tier, key.as_borrowed(), loaded)?.map(|entry| entry.value))
    }
}

#[pymethods]
impl FlexCache {
    /// Refuses tags of which the store cannot keep so many for an entry.
    fn _check_tags(&self, py: Python<'_>, tags: &Bound<'_, PyAny>) -> PyResult<()> {
        let tags = tags::tags(Some(tags.as_borrowed()))?;
        self.tier.as_ref().map_or(Ok(()), |tier| tier.check_tags(py, &tags))
    }

    /// The values of keys that memory may serve without asking the store, put into a dict. Returns the other keys.
    fn _get_many_from_memory<'py>(
        &self,
        keys: Vec<Bound<'py, PyAny>>,
        found: &Bound<'py, PyDict>,
    ) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let mut others = Vec::new();
        for key in keys {
            let hash = self.hash(key.as_borrowed())?;
            match self.read_if_plain::<{ site::OTHER }>(key.as_borrowed(), hash).ok().flatten() {
                Some(value) => found.set_item(key, value)?,
                None => others.push(key),
            }
        }
        Ok(others)
    }

    /// What the package's own store has loaded of a key, which was not in memory: its value, or `default`. Memory keeps it.
    fn _take_loaded(
        &self,
        key: &Bound<'_, PyAny>,
        loaded: TrackedLoad,
        default: Py<PyAny>,
    ) -> PyResult<Py<PyAny>> {
        Ok(self.take_loaded(key, loaded.0)?.unwrap_or(default))
    }

    /// The same for keys, whose values are put into a dict: those that have one.
    fn _take_many_loaded(
        &self,
        keys: Vec<Bound<'_, PyAny>>,
        entries: Vec<TrackedEntry>,
        stamps: Vec<u64>,
        found: &Bound<'_, PyDict>,
    ) -> PyResult<()> {
        for ((key, TrackedEntry(entry)), stamp) in keys.iter().zip(entries).zip(stamps) {
            if let Some(value) = self.take_loaded(key, Loaded { entry, stamp: Stamp::from_bits(stamp) })? {
                found.set_item(key, value)?;
            }
        }
        Ok(())
    }

    /// The seconds of a time to live, or of the default if it is None; None for ever.
    fn _seconds_of(&self, ttl: Option<&Bound<'_, PyAny>>) -> PyResult<Option<f64>> {
        Ok(self.deadline(ttl.map(Bound::as_borrowed))?.map(seconds_until))
    }

    /// What an entry is stored with if the package sends its `put` itself: the seconds that it lives, and its tags; and
    /// whether somebody is told of writes, which only `put` does. Refuses what `put` refuses.
    fn _terms_of_put(
        &self,
        key: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
        ttl: Option<&Bound<'_, PyAny>>,
        tags: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<(Option<f64>, Vec<PyBackedStr>, bool)> {
        let hash = self.hash(key.as_borrowed())?;
        let weight = self.weight_of(key.as_borrowed(), value.as_borrowed())?;
        let tags = tags::tags(tags.map(Bound::as_borrowed))?;
        let deadline = self.deadline(ttl.map(Bound::as_borrowed))?;
        self.check_put_elsewhere(key.py(), hash, weight, &tags)?;
        Ok((deadline.map(seconds_until), tags, self.tells_of_writes()))
    }

    /// Discards the loads of keys and their copies in memory. Before and after a write that the package sends itself.
    fn _discard(&self, keys: Vec<Bound<'_, PyAny>>) -> PyResult<()> {
        keys.iter().try_for_each(|key| self.discard_elsewhere(key.as_borrowed()))
    }

    /// The same as `get`, for a load that looks whether it has to compute.
    fn _get_in_turn(&self, key: &Bound<'_, PyAny>, default: Py<PyAny>) -> PyResult<Py<PyAny>> {
        let hash = self.hash(key.as_borrowed())?;
        Ok(self.read_in_turn(key.as_borrowed(), hash)?.unwrap_or(default))
    }

    /// The seconds that an entry lives where nothing else is said; None for ever.
    #[getter]
    fn _default_ttl(&self) -> Option<f64> {
        self.default_seconds()
    }

    /// The argument `default_ttl`: seconds, or a `datetime`; None for ever.
    #[getter]
    fn _given_default_ttl<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        given_default_ttl(py, self.options.default_ttl)
    }

    /// A result and how long it can be used, by the clock of this cache.
    #[pyo3(signature = (value, raised, fresh, good, cost, results=None))]
    #[expect(clippy::too_many_arguments, reason = "they are those of `Remembered`")]
    fn _remember(
        &self,
        py: Python<'_>,
        value: Py<PyAny>,
        raised: bool,
        fresh: f64,
        good: f64,
        cost: f64,
        results: Option<&Bound<'_, InstanceResults>>,
    ) -> PyResult<CachedResult> {
        CachedResult::made(py, value, [fresh, good], raised, cost, results, self.clock().clone())
    }

    /// A value was computed.
    fn _count_load(&self) {
        self.count_load();
    }

    fn _loaded(&self, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) {
        self.notify_load(key, value);
    }
}
