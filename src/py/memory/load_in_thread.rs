//! Loads that threads compute: for `get_or_set`, memoized functions and their `refresh`.

use std::sync::Arc;
use std::thread::{self, ThreadId};

use pyo3::exceptions::{PyException, PyTypeError};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;
use pyo3::types::PyTuple;

use super::core_errors::TooLargeError;
use super::leasing::{Asks, Turn, end_lease, failure_for_others, give_back_lease, take_turn, wait_for_turn};
use super::state::FlexCache;
use super::terms::{IfPresent, Terms};
use crate::py::object::argument::wrong_type;
use crate::py::object::imported::imported;
use crate::py::object::integer::shown;
use crate::py::object::running_python::{call, check_signals, detached};
use crate::py::object::single_use::is_single_use;
use crate::py::object::tags;
use crate::py::process::stack;
use crate::py::removal::aclose::BETWEEN_SIGNALS;
use crate::py::store::load_circle::{
    Chain, Waiter, enter_context, leave_context, own_load, running_loop, thread_waits, thread_waits_no_more,
};
use crate::py::store::loads::{Leader, Load, Origin, Outcome, next_number};
use crate::py::store::shard_loads::{How, Joined};

/// A load as its computation sees it.
#[pyclass(frozen, module = "flexcache_rs._core", name = "_Load")]
pub(crate) struct LoadHandle(pub(super) Arc<Load>);

#[pymethods]
impl LoadHandle {
    /// Store the result, unless something was written since the load began; whether it was stored.
    #[pyo3(signature = (cache, value, ttl=None, tags=None))]
    fn store(
        &self,
        cache: &Bound<'_, FlexCache>,
        value: &Bound<'_, PyAny>,
        ttl: Option<&Bound<'_, PyAny>>,
        tags: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        let (ttl, tags) = (ttl.map(Bound::as_borrowed), tags.map(Bound::as_borrowed));
        store(cache, &self.0, value, ttl, &tags::tags(tags)?)
    }

    /// State which tags the result will have, before there is a result. A call that begins after one of these tags
    /// was evicted does not join the load.
    fn declare(&self, cache: &Bound<'_, FlexCache>, tags: &Bound<'_, PyAny>) -> PyResult<()> {
        declare(cache, &self.0, tags::tags(Some(tags.as_borrowed()))?.into())
    }

    /// Do not give the result to callers that wait. They compute themselves.
    fn do_not_share(&self) {
        self.0.do_not_share();
    }

    /// Ask for the lease of the load, before it computes.
    ///
    /// Returns what `look()` returned if that is not `nothing`: a value that makes computing needless. Returns
    /// `nothing` if the load is to compute. Where another load computes the value, waits for it if `blocks`; else
    /// returns the load itself, for the caller to ask again. A load that is not `patient` is not to compute then.
    #[pyo3(signature = (cache, look, nothing, blocks=true, patient=true))]
    fn lease(
        this: &Bound<'_, Self>,
        cache: &Bound<'_, FlexCache>,
        look: &Bound<'_, PyAny>,
        nothing: &Bound<'_, PyAny>,
        blocks: bool,
        patient: bool,
    ) -> PyResult<Py<PyAny>> {
        let load = &this.get().0;
        let look = || Ok(Some(call(look, [])?).filter(|found| !found.is(nothing)).map(Bound::unbind));
        let asks = if patient { Asks::Patiently } else { Asks::Once };
        let turn = if blocks { wait_for_turn } else { take_turn }(cache, load, asks, &look)?;
        Ok(match turn {
            Turn::Found(value) => value,
            Turn::Computes => nothing.clone().unbind(),
            Turn::Waits(_) => this.clone().into_any().unbind(),
        })
    }

    /// Take the lease from its holder.
    fn take_lease(&self, cache: &Bound<'_, FlexCache>) -> PyResult<()> {
        take_turn(cache, &self.0, Asks::ToTakeOver, &|| Ok(None)).map(drop)
    }
}

/// Notes the tags of a load.
fn declare(cache: &Bound<'_, FlexCache>, load: &Arc<Load>, tags: Arc<[PyBackedStr]>) -> PyResult<()> {
    if !tags.is_empty() {
        let shard = cache.get().shards.of(load.hash());
        let discarded = shard.with(cache.py(), |shard| shard.loads.declare(load, tags))?;
        drop(discarded);
    }
    Ok(())
}

/// Stores the result of a load, unless the key was written since the load began. A result that is too large
/// is not stored, and the older result is removed.
fn store(
    cache: &Bound<'_, FlexCache>,
    load: &Arc<Load>,
    value: &Bound<'_, PyAny>,
    ttl: Option<Borrowed<'_, '_, PyAny>>,
    tags: &[PyBackedStr],
) -> PyResult<bool> {
    store_result(cache, load, value, ttl, tags).inspect_err(|_| give_back_lease(cache.py(), load))
}

fn store_result(
    cache: &Bound<'_, FlexCache>,
    load: &Arc<Load>,
    value: &Bound<'_, PyAny>,
    ttl: Option<Borrowed<'_, '_, PyAny>>,
    tags: &[PyBackedStr],
) -> PyResult<bool> {
    let py = cache.py();
    let key = load.key.bind_borrowed(py);
    let weight = cache.get().weight_of(key, value.as_borrowed())?;
    let origin = Origin::Landing(load);
    let terms = Terms { tags, origin, ..Terms::new(weight, IfPresent::Replace) };
    let hash = load.hash();
    let stored = FlexCache::write_weighed(&cache.as_borrowed(), key, value.as_borrowed(), hash, ttl, terms);
    if stored.as_ref().is_err_and(|error| error.is_instance_of::<TooLargeError>(py)) {
        cache.get().remove_for_load(key, load)?;
    }
    stored
}

/// A load that this thread computes. It lands when this is dropped.
pub(super) struct Lead<'a, 'py> {
    cache: &'a Bound<'py, FlexCache>,
    load: &'a Arc<Load>,
    outcome: Option<Outcome>,
    /// The failure for callers that wait in other processes.
    failure: Option<Vec<u8>>,
    token: Option<Bound<'py, PyAny>>,
    /// The load of the context, which depends on this one.
    own: Option<(Arc<Load>, u64)>,
    ended: PyResult<()>,
}

impl<'a, 'py> Lead<'a, 'py> {
    /// Takes over a load that was just registered.
    pub(super) fn new(cache: &'a Bound<'py, FlexCache>, load: &'a Arc<Load>) -> Self {
        Self { cache, load, outcome: None, failure: None, token: None, own: None, ended: Ok(()) }
    }

    /// Computes in the caller's context.
    pub(super) fn compute(
        mut self,
        needed_by: Option<Arc<Load>>,
        compute: impl FnOnce() -> PyResult<Py<PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let py = self.cache.py();
        self.own = needed_by.map(|own| {
            let number = own.needs(self.load, None);
            (own, number)
        });
        let result = enter_context(py, self.load).and_then(|token| {
            self.token = Some(token);
            compute()
        });
        self.outcome = match &result {
            Ok(value) => Some(Outcome::Value(value.clone_ref(py))),
            Err(error) => {
                self.cache.get().fails(py, self.load);
                outcome_of(error.value(py))
            }
        };
        self.failure = failure_for_others(py, self.load, self.outcome.as_ref());
        self.land();
        std::mem::replace(&mut self.ended, Ok(())).and(result)
    }

    fn land(&mut self) {
        let py = self.cache.py();
        if let Some(token) = self.token.take() {
            leave_context(py, &token);
        }
        if let Some((own, number)) = self.own.take() {
            own.needs_no_more(number);
        }
        self.ended = self.cache.get().land(py, self.load, self.outcome.take());
        end_lease(py, self.load, self.failure.take(), true);
    }
}

impl Drop for Lead<'_, '_> {
    fn drop(&mut self) {
        // `compute` was left by a panic.
        if !self.load.has_landed() {
            self.land();
        }
    }
}

/// The outcome for waiting callers, or `None` if they have to start over.
pub(super) fn outcome_of(error: &Bound<'_, PyAny>) -> Option<Outcome> {
    if error.is_instance_of::<PyException>() {
        return Some(Outcome::Error(error.clone().unbind()));
    }
    is_cancellation(error).then(|| Outcome::Cancelled(error.clone().unbind()))
}

fn is_cancellation(error: &Bound<'_, PyAny>) -> bool {
    let py = error.py();
    // An interrupt in the middle of an import can leave the import locked for good. And a program that never
    // imported asyncio has nothing that could be cancelled.
    let class = imported(py, intern!(py, "asyncio.exceptions"))
        .and_then(|module| module.map(|module| module.getattr(intern!(py, "CancelledError"))).transpose());
    class.and_then(|class| class.map_or(Ok(false), |class| error.is_instance(&class))).unwrap_or(false)
}

/// A thread that waits for a load.
struct Wait<'a, 'py> {
    cache: &'a Bound<'py, FlexCache>,
    load: &'a Arc<Load>,
    thread: ThreadId,
    number: u64,
    own: Option<(Arc<Load>, u64)>,
    left: bool,
}

impl Wait<'_, '_> {
    fn leave(&mut self) -> PyResult<()> {
        if std::mem::replace(&mut self.left, true) {
            return Ok(());
        }
        thread_waits_no_more(self.thread, self.number);
        if let Some((own, number)) = self.own.take() {
            own.needs_no_more(number);
        }
        self.cache.get().leave(self.cache.py(), self.load).map(drop)
    }
}

impl Drop for Wait<'_, '_> {
    fn drop(&mut self) {
        // An exception of a signal handler is dropped here, as another one is propagating.
        let _ = self.leave();
    }
}

/// Waits until a load is over. The caller is already counted as a waiter. Returns the result, or `None` if
/// the caller has to start over.
fn wait(cache: &Bound<'_, FlexCache>, load: &Arc<Load>) -> PyResult<Option<Py<PyAny>>> {
    let py = cache.py();
    let (thread, number) = (thread::current().id(), next_number());
    let mut wait = Wait { cache, load, thread, number, own: None, left: false };
    let blocks = running_loop(py)?;
    let own = own_load(py)?;
    if let Some(own) = &own {
        wait.own = Some((Arc::clone(own), own.needs(load, None)));
    }
    thread_waits(thread, number, blocks, load);
    let waiter = Waiter { thread, blocks, own: own.as_ref(), task: None };
    let mut chain = waiter.refuse_circle(py, load)?;
    let pause = py.import(intern!(py, "flexcache_rs._awaiting"))?.getattr(intern!(py, "pause"))?;
    while !load.is_over(py)? {
        detached(py, || load.sleep(BETWEEN_SIGNALS));
        check_signals(py)?;
        // If another thread sent this one an exception, only Python code raises it.
        call(&pause, [])?;
        if chain == Chain::PerhapsLater {
            chain = waiter.refuse_circle(py, load)?;
        }
    }
    let result = load.result(py);
    wait.leave()?;
    result.transpose()
}

/// Computes the value of a key, or waits for the caller that computes it.
pub(super) fn run(
    cache: &Bound<'_, FlexCache>,
    key: &Bound<'_, PyAny>,
    how: How,
    compute: impl FnOnce(&Bound<'_, LoadHandle>) -> PyResult<Py<PyAny>>,
) -> PyResult<Py<PyAny>> {
    let py = cache.py();
    stack::check(stack::Call::Nested)?;
    loop {
        let mine = Bound::new(py, LoadHandle(cache.get().new_load(key, Leader::this_thread(), false)?))?;
        let needed_by = own_load(py)?;
        let load = &mine.get().0;
        match cache.get().join(py, load, how)? {
            Joined::Leads => {
                return Lead::new(cache, load).compute(needed_by, || compute(&mine));
            }
            Joined::Other(other) => {
                if cache.get().discard_if_void(py, &other)? || cache.get().has_failed(py, &other)? {
                    cache.get().leave(py, &other)?;
                    continue;
                }
                if let Some(value) = wait(cache, &other)? {
                    if how == How::Join {
                        cache.get().count_wait();
                    }
                    return Ok(value);
                }
                cache.get().land_if_left(py, &other, true)?;
            }
        }
    }
}

/// Compute the value of a key, or wait for the caller that computes it. `compute(load)` is called if there is none.
#[pyfunction]
#[pyo3(name = "_load", signature = (cache, key, compute, refresh=false))]
pub(crate) fn load(
    cache: &Bound<'_, FlexCache>,
    key: &Bound<'_, PyAny>,
    compute: &Bound<'_, PyAny>,
    refresh: bool,
) -> PyResult<Py<PyAny>> {
    let how = if refresh { How::Refresh } else { How::Join };
    run(cache, key, how, |handle| call(compute, [handle.as_any()]).map(Bound::unbind))
}

/// `get_or_set` for an absent key.
pub(crate) fn get_or_set(
    cache: &Bound<'_, FlexCache>,
    key: &Bound<'_, PyAny>,
    factory: &Bound<'_, PyAny>,
    ttl: Option<Borrowed<'_, '_, PyAny>>,
    tags: Option<Borrowed<'_, '_, PyAny>>,
) -> PyResult<Py<PyAny>> {
    let py = cache.py();
    if !factory.is_callable() {
        return Err(wrong_type("factory", "callable", factory));
    }
    let tags: Arc<[PyBackedStr]> = tags::tags(tags)?.into();
    if let Some(tier) = &cache.get().tier {
        tier.check_tags(py, &tags)?;
    }
    run(cache, key, How::Join, |handle| {
        declare(cache, &handle.get().0, Arc::clone(&tags))?;
        let look = || cache.get().peek_at(key.as_borrowed());
        if let Turn::Found(value) = wait_for_turn(cache, &handle.get().0, Asks::Patiently, &look)? {
            return Ok(value);
        }
        let value = call(factory, [])?;
        // SAFETY: the object is valid.
        if unsafe { ffi::PyCoro_CheckExact(value.as_ptr()) } != 0 {
            value.call_method0(intern!(py, "close"))?;
            return Err(PyTypeError::new_err(format!(
                "factory must not be a coroutine function, such as {}, which aget_or_set() takes",
                shown(&factory.as_borrowed())
            )));
        }
        cache.get().count_load();
        if store(cache, &handle.get().0, &value, ttl, &tags)? {
            cache.get().notify_load(key, &value);
        }
        Ok(value.unbind())
    })
}

/// Computes an absent result of a memoized function and stores it unchanged. None of our Python code runs
/// between two calls of a recursive function, so it can recurse as deeply as without memoization.
pub(crate) fn compute_and_keep<'py>(
    cache: &Bound<'py, FlexCache>,
    key: &Bound<'py, PyAny>,
    ttl: Option<Borrowed<'_, 'py, PyAny>>,
    compute: impl FnOnce() -> PyResult<Bound<'py, PyAny>>,
) -> PyResult<Py<PyAny>> {
    run(cache, key, How::Join, |handle| {
        let load = &handle.get().0;
        let look = || cache.get().peek_at(key.as_borrowed());
        if let Turn::Found(value) = wait_for_turn(cache, load, Asks::Patiently, &look)? {
            return Ok(value);
        }
        let value = compute()?;
        keep(cache, load, key, &value, ttl)?;
        Ok(value.unbind())
    })
}

/// Stores a result, unless only the caller may have it or it is too large.
#[inline(never)]
fn keep<'py>(
    cache: &Bound<'py, FlexCache>,
    load: &Arc<Load>,
    key: &Bound<'py, PyAny>,
    value: &Bound<'py, PyAny>,
    ttl: Option<Borrowed<'_, 'py, PyAny>>,
) -> PyResult<()> {
    let py = cache.py();
    cache.get().count_load();
    // An awaitable may be awaited only in one loop.
    if is_single_use(value) || value.get_type().hasattr(intern!(py, "__await__"))? {
        load.do_not_share();
        return Ok(());
    }
    match store(cache, load, value, ttl, &[]) {
        Ok(true) => cache.get().notify_load(key, value),
        Err(error) if !error.is_instance_of::<TooLargeError>(py) => return Err(error),
        _ => {}
    }
    Ok(())
}

/// Discard the loads of keys that begin with a prefix, as those of one memoized function do.
#[pyfunction]
#[pyo3(name = "_discard_loads_of")]
pub(crate) fn discard_loads_of(cache: &Bound<'_, FlexCache>, prefix: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = cache.py();
    for shard in cache.get().shards.iter() {
        let discarded = shard.with(py, |shard| {
            shard.loads.discard_if(|load| {
                let key = load.key.bind_borrowed(py);
                key.cast_exact::<PyTuple>()
                    .is_ok_and(|key| key.get_borrowed_item(0).is_ok_and(|first| first.is(prefix)))
            })
        })?;
        drop(discarded);
    }
    Ok(())
}

/// The keys of the loads in progress, each with how many wait for it.
#[pyfunction]
#[pyo3(name = "_loads_in_progress")]
pub(crate) fn loads_in_progress(cache: &Bound<'_, FlexCache>) -> PyResult<Vec<(Py<PyAny>, usize)>> {
    let py = cache.py();
    let mut all = Vec::new();
    for shard in cache.get().shards.iter() {
        shard.with(py, |shard| {
            for load in shard.loads.running().iter().filter(|load| !load.has_landed()) {
                all.push((load.key.clone_ref(py), load.waiting()));
            }
        })?;
    }
    Ok(all)
}
