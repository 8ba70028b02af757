//! Hooks with which a subclass that is a mapping can define in Python the value of a missing key, and how an
//! entry is stored or removed. The classes of `flexcache_rs.cachetools` use them.

use pyo3::exceptions::{PyIndexError, PyKeyError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString, PyTuple};

use super::any_policy::PolicyName;
use super::any_store::AnyStore;
use super::core_errors::{out_of_memory, try_with_capacity};
use super::detours::Detours;
use super::entries::missing;
use super::listed_keys::ListedKeys;
use super::state::{self, FlexCache};
use crate::py::object::fallible;
use crate::py::object::running_python::call;

/// The value of an absent key: the result of `__missing__` of a subclass.
#[cold]
pub(super) fn missing_item(this: &Bound<'_, FlexCache>, key: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
    let (cache, name) = (this.get(), intern!(this.py(), "__missing__"));
    if PolicyName::OF_MAPPINGS.contains(&cache.options.policy)
        && let Some(method) = this.getattr_opt(name)?
    {
        // As in cachetools, an instance may have a method of its own, and `cache[key]` also counts as an access
        // of the entry that the method stores.
        let value = call(&method, [key])?.unbind();
        let hash = cache.hash(key.as_borrowed())?;
        cache.read(key.as_borrowed(), hash)?;
        return Ok(value);
    }
    let class = this.get_type();
    if !class.is(state::type_of(this.py()))
        && let Some(method) = class.getattr_opt(name)?
    {
        return Ok(call(&method, [this.as_any(), key])?.unbind());
    }
    Err(missing(key))
}

/// The same for a lookup that is no use of an entry.
#[cold]
pub(super) fn missing_value(this: &Bound<'_, FlexCache>, key: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
    let method = this.getattr(intern!(this.py(), "__missing__"))?;
    Ok(call(&method, [key])?.unbind())
}

/// `cache[key] = value` of a cache whose class stores entries in Python.
#[cold]
pub(super) fn store_item(
    this: &Bound<'_, FlexCache>,
    key: &Bound<'_, PyAny>,
    value: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let method = this.getattr(intern!(this.py(), "_cachetools_store_item"))?;
    call(&method, [key, value]).map(drop)
}

/// `del cache[key]` of a cache whose class stores entries in Python.
#[cold]
pub(super) fn remove_item(this: &Bound<'_, FlexCache>, key: &Bound<'_, PyAny>) -> PyResult<()> {
    let method = this.getattr(intern!(this.py(), "_cachetools_remove_item"))?;
    call(&method, [key]).map(drop)
}

/// A call with a key and a default, which the class composes of its operators in Python.
#[cold]
pub(super) fn composed(
    this: &Bound<'_, FlexCache>,
    name: &Bound<'_, PyString>,
    key: &Bound<'_, PyAny>,
    default: &Bound<'_, PyAny>,
) -> PyResult<Py<PyAny>> {
    call(&this.getattr(name)?, [key, default]).map(Bound::unbind)
}

/// Before `cache[key] = value` in a cache whose class chooses victims: calls its `popitem` until there is
/// room.
#[cold]
pub(super) fn make_room(this: &Bound<'_, FlexCache>, key: &Bound<'_, PyAny>) -> PyResult<()> {
    let (py, cache) = (this.py(), this.get());
    let is_full = || {
        cache.sum(py, |store| {
            usize::from(store.limits().items.is_some_and(|most| store.len() as u64 >= most.get()))
        })
    };
    while is_full()? > 0 && !cache.has(key.as_borrowed())? {
        let method = this.getattr(intern!(py, "popitem"))?;
        call(&method, []).map(drop)?;
    }
    Ok(())
}

impl FlexCache {
    /// Whether the class implements `[]=` and `del` in Python.
    #[inline(always)]
    pub(super) fn stores_in_python(&self) -> bool {
        self.detours.have(Detours::IN_PYTHON)
    }

    /// The keys that `push_all` appends for each shard: at most one for each entry.
    fn keys_of<'py>(
        &self,
        py: Python<'py>,
        push_all: impl Fn(&AnyStore, &mut Vec<Py<PyAny>>),
    ) -> PyResult<Bound<'py, PyTuple>> {
        let mut keys: Vec<Py<PyAny>> = Vec::new();
        for shard in self.shards.iter() {
            shard.with(py, |store| {
                keys.try_reserve_exact(store.len()).map_err(|error| out_of_memory(error.into()))?;
                push_all(store, &mut keys);
                Ok::<_, PyErr>(())
            })??;
        }
        fallible::tuple(py, keys.into_iter())
    }

    /// Whether the class chooses victims in Python.
    #[inline(always)]
    pub(super) fn chooses_in_python(&self) -> bool {
        self.detours.have(Detours::CHOOSES)
    }

    /// Whether the class composes `get` and `setdefault` of its operators in Python.
    #[inline(always)]
    pub(super) fn composes_in_python(&self) -> bool {
        self.detours.have(Detours::COMPOSES)
    }
}

#[pymethods]
impl FlexCache {
    /// Says whether `[]=` and `del` call the class's `_cachetools_store_item` and `_cachetools_remove_item`.
    fn _store_in_python(&self, in_python: bool) {
        self.detours.set(Detours::IN_PYTHON, in_python);
    }

    /// Says whether `[]=` of a new key calls the class's `popitem` until there is room.
    fn _choose_in_python(&self, in_python: bool) {
        self.detours.set(Detours::CHOOSES, in_python);
    }

    /// Says whether `_get_item_or` and `_get_or_store` call the class's `_cachetools_plain_get` and
    /// `_cachetools_plain_setdefault`.
    fn _compose_in_python(&self, in_python: bool) {
        self.detours.set(Detours::COMPOSES, in_python);
    }

    /// The key of a rank, where each key has its own; IndexError where there is none. O(1).
    fn _key_at(&self, py: Python<'_>, rank: u64) -> PyResult<Py<PyAny>> {
        for shard in self.shards.iter() {
            let key =
                shard.with(py, |store| store.at_rank(rank).map(|slot| store.key(slot).clone_ref(py)))?;
            if let Some(key) = key {
                return Ok(key);
            }
        }
        Err(PyIndexError::new_err("no key has this rank"))
    }

    /// Removes the entry of a rank, where each has its own, and returns it; IndexError where there is none. O(1).
    fn _popitem_at(&self, py: Python<'_>, rank: u64) -> PyResult<(Py<PyAny>, Py<PyAny>)> {
        let entry =
            self.pop_at_rank(py, rank)?.ok_or_else(|| PyIndexError::new_err("no key has this rank"))?;
        Ok((entry.key, entry.value))
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
    fn _listed_keys<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        self.keys_of(py, |store, keys| {
            store.listing().for_each(|slot| keys.push(store.key(slot).clone_ref(py)));
        })
    }

    /// An iterator over the keys, in the order of iteration.
    fn _iter_listed(this: &Bound<'_, Self>) -> PyResult<ListedKeys> {
        ListedKeys::new(this)
    }

    /// The keys in the order of their ranks, where each key has its own.
    fn _keys_by_rank<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        self.keys_of(py, |store, keys| {
            let slots = (0..store.len() as u64).filter_map(|rank| store.at_rank(rank));
            keys.extend(slots.map(|slot| store.key(slot).clone_ref(py)));
        })
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
