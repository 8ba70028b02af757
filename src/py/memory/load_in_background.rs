//! Loads in the background, which compute a new result while the old one is still served.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use pyo3::exceptions::PyException;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::load_in_task;
use super::load_in_thread::{Lead, LoadHandle};
use super::state::FlexCache;
use crate::py::object::running_python::{call, report_unraisable};
use crate::py::store::load_circle::context_of;
use crate::py::store::loads::{Leader, Load};
use crate::py::store::shard_loads::{How, Joined};

const NOT_REGISTERED: u8 = 0;
const REGISTERED: u8 = 1;
const TAKEN: u8 = 2;

/// What a thread is started with. The thread lands the load. If it cannot be started, the thread that tried to start
/// it lands the load. The first of the two to take it does so.
#[pyclass(frozen, module = "flexcache_rs._core", name = "_Refresh")]
struct Refresh {
    cache: Py<FlexCache>,
    load: Arc<Load>,
    compute: Py<PyAny>,
    state: AtomicU8,
}

#[pymethods]
impl Refresh {
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        if !self.take() {
            return Ok(());
        }
        self.load.leader.is_this_thread();
        let handle = Bound::new(py, LoadHandle(Arc::clone(&self.load)));
        let computed = Lead::new(self.cache.bind(py), &self.load)
            .compute(None, || call(self.compute.bind(py), [handle?.as_any()]).map(Bound::unbind));
        match computed {
            // The computation has logged the error; the old result stays.
            Err(error) if error.is_instance_of::<PyException>(py) => Ok(()),
            other => other.map(drop),
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.cache)?;
        visit.call(&self.compute)
    }
}

impl Refresh {
    /// Takes the load in order to land it. Returns false if it was taken before.
    fn take(&self) -> bool {
        self.state.compare_exchange(REGISTERED, TAKEN, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Lands a load that has not begun, so it has no lease.
    fn give_up(&self, py: Python<'_>) -> PyResult<()> {
        if self.take() { self.cache.get().land(py, &self.load, None) } else { Ok(()) }
    }
}

impl Drop for Refresh {
    fn drop(&mut self) {
        if self.state.load(Ordering::Acquire) == REGISTERED {
            let _ = Python::try_attach(|py| {
                let pending = PyErr::take(py);
                if let Err(error) = self.give_up(py) {
                    report_unraisable(py, error);
                }
                if let Some(pending) = pending {
                    pending.restore(py);
                }
            });
        }
    }
}

/// Begin a load in a thread of its own, in the caller's context, unless there is one of the key;
/// whether it began.
#[pyfunction]
#[pyo3(name = "_refresh_in_thread")]
pub(crate) fn refresh_in_thread(
    cache: &Bound<'_, FlexCache>,
    key: &Bound<'_, PyAny>,
    compute: &Bound<'_, PyAny>,
) -> PyResult<bool> {
    let py = cache.py();
    let load = cache.get().new_load(key, Leader::a_thread(), true)?;
    let refresh = Refresh {
        cache: cache.clone().unbind(),
        load: Arc::clone(&load),
        compute: compute.clone().unbind(),
        state: AtomicU8::new(NOT_REGISTERED),
    };
    let refresh = Bound::new(py, refresh)?;
    let run = context_of(py, &load)?.getattr(intern!(py, "run"))?;
    let options = PyDict::new(py);
    options.set_item("target", run)?;
    options.set_item("args", (&refresh,))?;
    options.set_item("name", "flexcache-refresh")?;
    options.set_item("daemon", true)?;
    let class = py.import(intern!(py, "threading"))?.getattr(intern!(py, "Thread"))?;
    let thread = class.call((), Some(&options))?;
    match cache.get().join(py, &load, How::OnlyIfNone)? {
        Joined::Leads => {
            refresh.get().state.store(REGISTERED, Ordering::Release);
            let start = thread.getattr(intern!(py, "start")).and_then(|start| call(&start, []));
            if let Err(error) = start {
                refresh.get().give_up(py)?;
                return Err(error);
            }
            Ok(true)
        }
        Joined::Other(other) => {
            cache.get().land_if_left(py, &other, false)?;
            Ok(false)
        }
    }
}

/// Begin a load in a task of the running event loop, unless there is one of the key; whether it began.
#[pyfunction]
#[pyo3(name = "_refresh_in_task")]
pub(crate) fn refresh_in_task(
    cache: &Bound<'_, FlexCache>,
    key: &Bound<'_, PyAny>,
    compute: &Bound<'_, PyAny>,
) -> PyResult<bool> {
    load_in_task::begin_in_task(cache, key, compute)
}
