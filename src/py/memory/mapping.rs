//! What a subclass that is a mapping may decide in Python: what a missing key stands for, and how an
//! entry is stored or removed. The classes of `flexcache_rs.cachetools` stand on it.

use pyo3::exceptions::PyKeyError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyList;

use super::any_policy::PolicyName;
use super::any_store::AnyStore;
use super::core_errors::try_with_capacity;
use super::detours::Detours;
use super::entries::missing;
use super::state::{self, FlexCache};
use crate::py::object::fallible;
use crate::py::object::running_python::call;

/// The value of a key that is absent: what `__missing__` of a subclass returns.
#[cold]
pub(super) fn missing_item(this: &Bound<'_, FlexCache>, key: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
    let class = this.get_type();
    if !class.is(state::type_of(this.py()))
        && let Some(method) = class.getattr_opt(intern!(this.py(), "__missing__"))?
    {
        let value = call(&method, [this.as_any(), key])?.unbind();
        let cache = this.get();
        if PolicyName::OF_MAPPINGS.contains(&cache.options.policy) {
            // In cachetools, `cache[key]` is an access also to the entry that `__missing__` stores.
            let hash = cache.hash(key.as_borrowed())?;
            cache.read(key.as_borrowed(), hash)?;
        }
        return Ok(value);
    }
    Err(missing(key))
}

/// `cache[key] = value` of a cache whose class stores entries in Python.
#[cold]
pub(super) fn store_item(
    this: &Bound<'_, FlexCache>,
    key: &Bound<'_, PyAny>,
    value: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let method = this.getattr(intern!(this.py(), "_store_item"))?;
    call(&method, [key, value]).map(drop)
}

/// `del cache[key]` of a cache whose class stores entries in Python.
#[cold]
pub(super) fn remove_item(this: &Bound<'_, FlexCache>, key: &Bound<'_, PyAny>) -> PyResult<()> {
    let method = this.getattr(intern!(this.py(), "_remove_item"))?;
    call(&method, [key]).map(drop)
}

impl FlexCache {
    /// Whether `[]=` and `del` are the class's own, in Python.
    #[inline(always)]
    pub(super) fn stores_in_python(&self) -> bool {
        self.detours.have(Detours::IN_PYTHON)
    }
}

#[pymethods]
impl FlexCache {
    /// Says whether `[]=` and `del` call the class's `_store_item` and `_remove_item`.
    fn _store_in_python(&self, in_python: bool) {
        self.detours.set(Detours::IN_PYTHON, in_python);
    }

    /// The keys in order of eviction, each with how often it was used where the policy counts that.
    fn _next_victims<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let victims = PyList::empty(py);
        for shard in self.shards.iter() {
            let found = shard.with(py, |store| {
                let mut found = try_with_capacity(store.len())?;
                found.extend(
                    store.slots()?.into_iter().map(|slot| (store.key(slot).clone_ref(py), store.rank(slot))),
                );
                Ok::<_, PyErr>(found)
            })??;
            for (key, uses) in found {
                let uses = fallible::int(py, uses)?.into_any().unbind();
                victims.append(fallible::pair(py, key, uses)?)?;
            }
        }
        Ok(victims)
    }

    /// The keys in the order of iteration.
    fn _listed_keys<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let list = PyList::empty(py);
        for shard in self.shards.iter() {
            let keys = shard.with(py, |store| {
                let mut keys = try_with_capacity(store.len())?;
                keys.extend(store.listing()?.into_iter().map(|slot| store.key(slot).clone_ref(py)));
                Ok::<_, PyErr>(keys)
            })??;
            for key in keys {
                list.append(key)?;
            }
        }
        Ok(list)
    }

    /// The key that is evicted next; KeyError where there is none. O(1).
    fn _next_victim(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let victim = |store: &mut AnyStore| store.victim().map(|slot| store.key(slot).clone_ref(py));
        for shard in self.shards.iter() {
            if let Some(key) = shard.with(py, |store| victim(store))? {
                return Ok(key);
            }
        }
        Err(PyKeyError::new_err("the cache is empty"))
    }

    /// Makes an entry the last in order of eviction, among those that were used so often.
    fn _restore_use(&self, key: &Bound<'_, PyAny>, uses: u64) -> PyResult<()> {
        self.find_live(key.as_borrowed(), |store, slot| store.restore(slot, uses)).map(drop)
    }
}
