//! The lease of a load: requested before the load computes, awaited if another load has it, and released when
//! the load has landed.
//!
//! A load looks for a value once more after it has got the lease, since another load may have stored one in
//! between. So all caches and processes in front of one store compute each value once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pyo3::exceptions::PyException;
use pyo3::intern;
use pyo3::prelude::*;

use super::state::FlexCache;
use super::tier::Tier;
use crate::py::object::key::native_eq;
use crate::py::object::running_python::{call, check_signals, detached};
use crate::py::removal::aclose::BETWEEN_SIGNALS;
use crate::py::store::lease::{AwaitedLease, LeaseAnswer, LeaseRequest};
use crate::py::store::load_circle::{holds_lease, may_wait_for_lease, running_loop};
use crate::py::store::loads::{Load, LoadLease, Outcome};
use crate::py::store::rule_switch::is_off;

/// The next step of a load.
pub(super) enum Turn {
    /// It lands with the value that it found.
    Found(Py<PyAny>),
    Computes,
    /// Another load has the lease.
    Waits(Arc<dyn AwaitedLease>),
}

/// How a load requests its lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asks {
    /// It waits if another load has the lease.
    Patiently,
    /// It does not compute if another load does.
    Once,
    /// It takes the lease from its holder, and does not look for a value.
    ToTakeOver,
}

/// Takes the next step of a load towards computing. `look` returns a value if the load need not compute. All
/// steps together count as one hit or one miss of the store, except for a refresh.
pub(super) fn take_turn(
    cache: &Bound<'_, FlexCache>,
    load: &Arc<Load>,
    asks: Asks,
    look: &dyn Fn() -> PyResult<Option<Py<PyAny>>>,
) -> PyResult<Turn> {
    if let LoadLease::Held(_) | LoadLease::Elsewhere = load.lease() {
        return Ok(Turn::Computes);
    }
    let turn = next_turn(cache, load, asks, look)?;
    if asks == Asks::Patiently
        && let Some(tier) = &cache.get().tier
    {
        match turn {
            Turn::Found(_) => tier.store.count_lookup(cache.py(), true),
            Turn::Computes => tier.store.count_lookup(cache.py(), false),
            Turn::Waits(_) => {}
        }
    }
    Ok(turn)
}

fn next_turn(
    cache: &Bound<'_, FlexCache>,
    load: &Arc<Load>,
    asks: Asks,
    look: &dyn Fn() -> PyResult<Option<Py<PyAny>>>,
) -> PyResult<Turn> {
    let py = cache.py();
    let waited = match load.lease() {
        LoadLease::None => None,
        LoadLease::Waits(awaited, until) => Some((awaited, until)),
        LoadLease::Held(_) | LoadLease::Elsewhere => return Ok(Turn::Computes),
    };
    if asks == Asks::Patiently
        && let Some((awaited, until)) = &waited
        && !detached(py, || awaited.sleep(Duration::ZERO))
        && may_wait(py, load, awaited.order(), *until)?
    {
        return Ok(Turn::Waits(Arc::clone(awaited)));
    }
    // Another load may have landed since the caller looked, or since this load began to wait.
    if asks != Asks::ToTakeOver
        && let Some(value) = look()?
    {
        return Ok(Turn::Found(value));
    }
    let tier = cache.get().tier.as_ref();
    let asked = tier.filter(|_| !is_off("leases")).and_then(|tier| Some((tier, tier.lease_seconds?)));
    let Some((tier, seconds)) = asked else {
        return Ok(Turn::Computes);
    };
    let awaited = waited.as_ref().map(|(awaited, _)| awaited);
    let takes_over = asks == Asks::ToTakeOver;
    let request = LeaseRequest { load, seconds, tags: load.tags(), awaited, takes_over };
    match tier.store.lease(load.key.bind_borrowed(py), request)? {
        LeaseAnswer::None => {
            drop(load.set_lease(LoadLease::None));
            Ok(Turn::Computes)
        }
        LeaseAnswer::Held(lease) => {
            holds_lease(load, lease.order());
            drop(load.set_lease(LoadLease::Held(lease)));
            if load.has_landed() {
                // The task was cancelled during the request, and landing found no lease to release.
                end_lease(py, load, None, true);
                return Ok(Turn::Computes);
            }
            // An earlier holder of the lease may have stored a value meanwhile.
            let look = || if asks == Asks::ToTakeOver { Ok(None) } else { look() };
            match look().inspect_err(|_| give_back_lease(py, load))? {
                Some(value) => Ok(Turn::Found(value)),
                None => Ok(Turn::Computes),
            }
        }
        LeaseAnswer::Elsewhere(awaited) => {
            let until = waited.map_or_else(|| Instant::now() + tier.lease_wait, |(_, until)| until);
            if asks == Asks::Patiently && !may_wait(py, load, awaited.order(), until)? {
                compute_without_lease(load);
                return Ok(Turn::Computes);
            }
            drop(load.set_lease(LoadLease::Waits(Arc::clone(&awaited), until)));
            Ok(Turn::Waits(awaited))
        }
        LeaseAnswer::Failed(error) => Err(error),
    }
}

/// Whether a load may go on waiting for another one.
fn may_wait(py: Python<'_>, load: &Arc<Load>, order: u64, until: Instant) -> PyResult<bool> {
    Ok(Instant::now() < until && may_wait_for_lease(py, load, running_loop(py)?, order))
}

/// Lets a load compute only for the callers that wait for it. It does not store its result, because the load
/// that has the lease does.
fn compute_without_lease(load: &Arc<Load>) {
    drop(load.set_lease(LoadLease::Elsewhere));
    // New callers do not join it.
    load.supersede();
}

/// Takes all steps of a load that computes in this thread, and waits where necessary.
pub(super) fn wait_for_turn(
    cache: &Bound<'_, FlexCache>,
    load: &Arc<Load>,
    asks: Asks,
    look: &dyn Fn() -> PyResult<Option<Py<PyAny>>>,
) -> PyResult<Turn> {
    let py = cache.py();
    loop {
        let awaited = match take_turn(cache, load, asks, look)? {
            Turn::Waits(awaited) if asks == Asks::Patiently => awaited,
            turn => return Ok(turn),
        };
        let pause = py.import(intern!(py, "flexcache_rs._awaiting"))?.getattr(intern!(py, "pause"))?;
        while !detached(py, || awaited.sleep(BETWEEN_SIGNALS)) {
            check_signals(py)?;
            // If another thread sent this one an exception, only Python code raises it.
            call(&pause, [])?;
            if let LoadLease::Waits(_, until) = load.lease()
                && !may_wait(py, load, awaited.order(), until)?
            {
                break;
            }
        }
    }
}

/// Gives back the lease of a load that fails although its computation did not: the store cannot be read or written, say.
/// Callers that wait in other processes may fare better, so they compute. Runs no Python code.
pub(super) fn give_back_lease(py: Python<'_>, load: &Load) {
    if let Some(lease) = load.held_lease() {
        lease.fails();
    }
    end_lease(py, load, None, true);
}

/// Encodes the failure for callers that wait in other processes. Runs Python code.
pub(super) fn failure_for_others(py: Python<'_>, load: &Load, outcome: Option<&Outcome>) -> Option<Vec<u8>> {
    let lease = load.held_lease()?;
    match outcome? {
        Outcome::Error(error) if error.bind(py).is_instance_of::<PyException>() => {
            lease.encode_failure(error.bind(py))
        }
        // A cancellation says nothing about the value; Python 3.10 does not even show which caller cancelled.
        // The same holds for exceptions that end more than the computation, such as KeyboardInterrupt.
        Outcome::Value(_) | Outcome::Cancelled(_) | Outcome::Error(_) => None,
    }
}

/// Releases the lease of a load that has landed. Runs no Python code.
pub(super) fn end_lease(py: Python<'_>, load: &Load, failure: Option<Vec<u8>>, may_wait: bool) {
    if let LoadLease::Held(lease) = load.set_lease(LoadLease::None) {
        lease.end(py, failure, may_wait);
    }
}

impl FlexCache {
    /// Lands a load that is over but has not landed, because its thread or event loop is gone, and releases
    /// its lease. After that it blocks no caller, in this process or in others.
    pub(super) fn land_if_left(&self, py: Python<'_>, load: &Arc<Load>, may_wait: bool) -> PyResult<()> {
        if load.has_landed() || !load.is_over(py)? {
            return Ok(());
        }
        let landed = self.land(py, load, None);
        end_lease(py, load, None, may_wait);
        landed
    }

    /// If the lease of a load is void, because another cache or process has written the key, discards the
    /// load, so that no caller joins it. Returns whether it did.
    pub(super) fn discard_if_void(&self, py: Python<'_>, load: &Arc<Load>) -> PyResult<bool> {
        let Some(lease) = load.held_lease() else { return Ok(false) };
        if load.has_landed() || lease.is_valid(py)? {
            return Ok(false);
        }
        let removed = self.shards.of(load.hash()).with(py, |shard| shard.loads.remove(load))?;
        load.discard();
        load.supersede();
        drop(removed);
        Ok(true)
    }

    /// The loads that a caller would join, whose leases may be void.
    fn leased_loads(&self, tier: &Tier, key: &Bound<'_, PyAny>) -> PyResult<Vec<Arc<Load>>> {
        let key = tier.key_in_memory(key.as_borrowed())?;
        let hash = self.hash(key.as_borrowed())?;
        let loads = self.shards.of(hash).with(key.py(), |shard| {
            let of_key = |load: &&Arc<Load>| {
                load.hash() == hash && native_eq(&load.key_in_memory, &key.as_borrowed()) != Some(false)
            };
            shard.loads.running().iter().filter(of_key).map(Arc::clone).collect::<Vec<_>>()
        })?;
        Ok(loads.into_iter().filter(|load| load.held_lease().is_some()).collect())
    }
}

/// The keys of the loads that wait for a lease.
#[pyfunction]
#[pyo3(name = "_loads_that_wait")]
pub(crate) fn loads_that_wait(cache: &Bound<'_, FlexCache>) -> PyResult<Vec<Py<PyAny>>> {
    let py = cache.py();
    let mut all = Vec::new();
    for shard in cache.get().shards.iter() {
        all.extend(shard.with(py, |shard| shard.loads.running().to_vec())?);
    }
    all.retain(|load| matches!(load.lease(), LoadLease::Waits(..)));
    Ok(all.iter().map(|load| load.key.clone_ref(py)).collect())
}

/// Whether a caller would join a load whose lease may be void, which `_discard_void_loads` finds out.
#[pyfunction]
#[pyo3(name = "_has_leased_load")]
pub(crate) fn has_leased_load(cache: &Bound<'_, FlexCache>, key: &Bound<'_, PyAny>) -> PyResult<bool> {
    let Some(tier) = &cache.get().tier else { return Ok(false) };
    Ok(!cache.get().leased_loads(tier, key)?.is_empty())
}

/// Discard the loads of a key to which something was written from elsewhere.
#[pyfunction]
#[pyo3(name = "_discard_void_loads")]
pub(crate) fn discard_void_loads(cache: &Bound<'_, FlexCache>, key: &Bound<'_, PyAny>) -> PyResult<()> {
    let Some(tier) = &cache.get().tier else { return Ok(()) };
    for load in cache.get().leased_loads(tier, key)? {
        cache.get().discard_if_void(cache.py(), &load)?;
    }
    Ok(())
}
