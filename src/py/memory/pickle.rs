//! Copying and pickling.
//!
//! A pickle holds the configuration and, as state, the entries in order of eviction. Each entry has its rank
//! in the policy, and its deadline as a time of the wall clock, so that the time spent in a pickle counts.
//! Expired entries are left out.

use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use flexcache_core::Clock;
use flexcache_core::policy::Goal;
use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString, PyTuple, PyType};

use super::constructor::OF_A_PICKLE;
use super::core_errors::{out_of_memory, try_with_capacity};
use super::options::Options;
use super::state::{self, Callbacks, FlexCache};
use super::terms::{IfPresent, Terms};
use crate::py::object::duration::{Ttl, seconds, seconds_until, seconds_until_by};
use crate::py::object::encoded_key::EncodedKey;
use crate::py::object::fallible;
use crate::py::object::tags;

/// The time that is `seconds` seconds from now, in seconds since 1970.
fn timestamp(seconds: f64) -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64()) + seconds
}

/// A moment as an aware `datetime`.
fn datetime(py: Python<'_>, timestamp: f64) -> PyResult<Bound<'_, PyAny>> {
    let module = py.import("datetime")?;
    let utc = module.getattr("timezone")?.getattr("utc")?;
    module.getattr("datetime")?.call_method1("fromtimestamp", (fallible::float(py, timestamp)?, utc))
}

/// The argument `default_ttl` that means `ttl`: seconds, or a `datetime`; `None` for no default.
pub(super) fn given_default_ttl(py: Python<'_>, ttl: Option<Ttl>) -> PyResult<Option<Bound<'_, PyAny>>> {
    Ok(match ttl {
        Some(Ttl::After(nanos)) => Some(fallible::float(py, seconds(nanos))?.into_any()),
        Some(Ttl::At(deadline)) => Some(datetime(py, timestamp(seconds_until(deadline)))?),
        Some(Ttl::Never) | None => None,
    })
}

/// The keyword arguments that make a cache like this one.
fn configuration<'py>(cache: &Bound<'py, FlexCache>) -> PyResult<Bound<'py, PyDict>> {
    let py = cache.py();
    let (options, limits) = (&cache.get().options, cache.get().limits(py)?);
    let policy = cache.get().own_policy(py)?;
    let arguments = PyDict::new(py);
    match policy {
        Some(policy) => arguments.set_item("eviction_policy", policy)?,
        None => arguments.set_item("eviction_policy", options.policy.as_str())?,
    }
    if options.goal == Goal::Bytes {
        arguments.set_item("optimize", "bytes")?;
    }
    arguments.set_item("scan_interval", seconds(options.scan_interval))?;
    arguments.set_item("max_items", limits.items.map_or(0, std::num::NonZeroU64::get))?;
    arguments.set_item("max_bytes", limits.weight.map_or(0, std::num::NonZeroU64::get))?;
    if let Some(ttl) = given_default_ttl(py, options.default_ttl)? {
        arguments.set_item("default_ttl", ttl)?;
    }
    arguments.set_item("thread_safe", options.thread_safe)?;
    arguments.set_item("shards", options.shards)?;
    match options.background {
        Some(0) => arguments.set_item("background_expiry", true)?,
        Some(interval) => arguments.set_item("background_expiry", seconds(interval))?,
        None => {}
    }
    if let Some(on_evict) = cache.get().notifier.listener(py)? {
        arguments.set_item("on_evict", on_evict)?;
    }
    if let Some(weigher) = cache.get().own_weigher(py)? {
        arguments.set_item("weigher", weigher.function)?;
    }
    if let Some(clock) = cache.get().own_clock(py)? {
        arguments.set_item("clock", clock.function)?;
    }
    if !options.closes_values {
        arguments.set_item("close_values", false)?;
    }
    if let Some(name) = &options.name {
        arguments.set_item("name", &**name)?;
    }
    if let Some(ttl) = options.negative_ttl {
        arguments.set_item("negative_ttl", seconds(ttl))?;
    }
    if let Some(tier) = &cache.get().tier {
        tier.configuration(&arguments)?;
    }
    Ok(arguments)
}

/// Makes an empty cache from a pickled configuration.
#[pyfunction]
#[pyo3(name = "_restore")]
pub(crate) fn restore<'py>(
    class: &Bound<'py, PyType>,
    configuration: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyAny>> {
    // As with other pickled objects, `__init__` of a subclass does not run again, nor its `__new__` if that
    // has other arguments.
    let args = PyTuple::new(class.py(), [class])?;
    let configuration = configuration.copy()?;
    configuration.set_item(OF_A_PICKLE, true)?;
    state::type_of(class.py()).call_method(intern!(class.py(), "__new__"), args, Some(&configuration))
}

/// `__reduce__`: how to make the cache, and its state.
pub(crate) fn reduce<'py>(cache: &Bound<'py, FlexCache>) -> PyResult<Bound<'py, PyAny>> {
    let py = cache.py();
    if cache.get().gate.is_some() {
        // A policy of the user is pickled with its state, which must be about exactly the entries below.
        cache.get().remove_expired(py)?;
    }
    let restore = py.import("flexcache_rs._core")?.getattr("_restore")?;
    cache.get().read_clock(py)?;
    let clock = cache.get().clock();
    let entries = PyList::empty(py);
    // Equal tags become one object, which is pickled once.
    let mut names: HashMap<String, Bound<'py, PyString>> = HashMap::new();
    for shard in cache.get().shards.iter() {
        let stored = shard.with(py, |store| {
            let mut stored = try_with_capacity(store.len())?;
            for slot in store.slots()?.into_iter().filter(|&slot| !store.has_expired_by(slot, clock)) {
                let tags = store.tags(slot).map_err(out_of_memory)?;
                let (key, value) = (store.key(slot).clone_ref(py), store.value(slot).clone_ref(py));
                stored.push((key, value, store.deadline(slot), store.rank(slot), tags));
            }
            Ok::<_, PyErr>(stored)
        })??;
        for (key, value, deadline, rank, tags) in stored {
            let key = EncodedKey::unwrap(py, key);
            let moment = match deadline {
                Some(deadline) => {
                    fallible::float(py, timestamp(seconds_until_by(deadline, cache.get().clock())))?.unbind()
                }
                None => py.None(),
            };
            let rank = fallible::int(py, rank)?.unbind();
            if tags.is_empty() {
                entries.append(fallible::tuple(py, [key, value, moment, rank].into_iter())?)?;
                continue;
            }
            let mut of_entry = try_with_capacity(tags.len())?;
            for tag in tags {
                if !names.contains_key(&tag) {
                    let object = PyString::from_bytes(py, tag.as_bytes())?;
                    names.try_reserve(1).map_err(|error| out_of_memory(error.into()))?;
                    names.insert(tag.clone(), object);
                }
                of_entry.extend(names.get(&tag).map(|name| name.clone().into_any().unbind()));
            }
            let tags = fallible::tuple(py, of_entry.into_iter())?.into_any().unbind();
            entries.append(fallible::tuple(py, [key, value, moment, rank, tags].into_iter())?)?;
        }
    }
    let attributes = cache.getattr_opt("__dict__")?;
    let slots = PyDict::new(py);
    for name in py.import("copyreg")?.call_method1("_slotnames", (cache.get_type(),))?.try_iter()? {
        let name = name?.cast_into::<PyString>()?;
        if let Some(value) = cache.getattr_opt(&name)? {
            slots.set_item(name, value)?;
        }
    }
    let state = (entries, attributes, slots);
    (restore, (cache.get_type(), configuration(cache)?), state).into_pyobject(py).map(Bound::into_any)
}

/// `__setstate__`: fills a cache with the entries of a pickle.
pub(crate) fn set_state(cache: &Bound<'_, FlexCache>, state: &Bound<'_, PyAny>) -> PyResult<()> {
    type State<'py> = (Bound<'py, PyList>, Option<Bound<'py, PyAny>>, Bound<'py, PyDict>);
    type Entry<'py> = (Bound<'py, PyAny>, Bound<'py, PyAny>, Option<f64>, u64);
    let invalid = |_| PyValueError::new_err("this is not the state of a FlexCache");
    let py = cache.py();
    let (entries, attributes, slots): State<'_> = state.extract().map_err(invalid)?;
    for entry in entries {
        let entry = entry.cast_into::<PyTuple>().map_err(|_| invalid(PyErr::new::<PyValueError, _>("")))?;
        let plain = if entry.len() > 4 { entry.get_slice(0, 4) } else { entry.clone() };
        let (key, value, moment, rank): Entry<'_> = plain.extract().map_err(invalid)?;
        let tags = tags::tags(entry.get_item(4).ok().as_ref().map(Bound::as_borrowed)).map_err(invalid)?;
        let ttl = moment.map(|moment| datetime(py, moment)).transpose()?;
        let (borrowed, ttl) = (key.as_borrowed(), ttl.as_ref().map(Bound::as_borrowed));
        let this = cache.get();
        let hash = this.hash(borrowed)?;
        let weight = this.weight_of(borrowed, value.as_borrowed())?;
        // This bypasses a policy of the user, which knows the entry already.
        let deadline = this.deadline(ttl)?;
        let terms = Terms { deadline, tags: &tags, ..Terms::new(weight, IfPresent::Replace) };
        this.write_store(borrowed, value.as_borrowed(), hash, terms)?;
        if let Some(deadline) = deadline {
            this.expect_expiry(cache, deadline)?;
        }
        if ttl.is_none() {
            // An entry without a deadline gets none, whatever the default is.
            let set = cache
                .get()
                .find_live(borrowed, |store, slot| store.set_deadline(slot, None, this.clock()))?;
            set.transpose().map_err(out_of_memory)?;
        }
        cache.get().find_live(borrowed, |store, slot| store.restore(slot, rank))?;
    }
    for shard in cache.get().shards.iter() {
        shard.with(py, |store| store.reset_stats())?;
    }
    if let Some(attributes) = attributes.filter(|attributes| !attributes.is_none()) {
        cache.getattr("__dict__")?.call_method1("update", (attributes,))?;
    }
    for (name, value) in slots {
        cache.setattr(name.cast_into::<PyString>()?, value)?;
    }
    Ok(())
}

/// A copy with references to the same keys and values, in the same order, with the same
/// deadlines. O(n).
pub(crate) fn copy(cache: &Bound<'_, FlexCache>) -> PyResult<Py<PyAny>> {
    let py = cache.py();
    let original = cache.get();
    // Nothing may happen between copying the entries and copying the state of the policy.
    let turn = original.turn(py)?;
    let policy = original.own_policy(py)?;
    if policy.is_some() || !cache.get_type().is(state::type_of(py)) {
        // The policy has its own order, and a subclass has attributes. So this copy goes through the state of
        // a pickle.
        let state = reduce(cache)?.get_item(2)?;
        let arguments = configuration(cache)?;
        if let Some(policy) = policy {
            // The policy is copied deeply, except for the keys, which are those of the cache.
            let kept = PyDict::new(py);
            for entry in state.get_item(0)?.try_iter()? {
                let key = entry?.get_item(0)?;
                kept.set_item(key.as_ptr() as usize, key)?;
            }
            let copied = py.import("copy")?.call_method1("deepcopy", (policy, kept))?;
            arguments.set_item("eviction_policy", copied)?;
        }
        drop(turn);
        let empty = restore(&cache.get_type(), &arguments)?.cast_into::<FlexCache>()?;
        set_state(&empty, &state)?;
        return Ok(empty.into_any().unbind());
    }
    let mut stores = Vec::with_capacity(original.shards.len());
    for shard in original.shards.iter() {
        let mut store = shard.with(py, |store| store.copy(py))?.map_err(out_of_memory)?;
        store.reset_stats();
        stores.push(store);
    }
    let next = original.next_expiry(py)?;
    let options = &original.options;
    // One file cannot hold two traces.
    let options = Options { name: options.name.clone(), record: None, ..**options };
    let tier = original.tier.as_ref().map(|tier| tier.share(py));
    let weigher = original.own_weigher(py)?;
    let (on_evict, clock) = (original.notifier.listener(py)?, original.own_clock(py)?);
    let callbacks = Callbacks { on_evict, policy: None, weigher, clock, tier };
    let mut stores = stores.into_iter();
    let Some(first) = stores.next() else { unreachable!("a cache has at least one shard") };
    let made = FlexCache::build(py, options, callbacks, stores, first, original.seed())?;
    let made = Bound::new(py, made)?;
    if let Some(next) = next {
        made.get().expect_expiry(&made, next.max(original.clock().now()))?;
    }
    Ok(made.into_any().unbind())
}
