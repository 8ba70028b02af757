//! Finishes the removal of entries: notifies the listener and the observers, runs the value's hook, and drops
//! the references. Every removed entry passes through here exactly once.

use std::sync::{Arc, OnceLock};

use flexcache_core::Cause;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyString;

use super::aclose::{self, Closing};
use super::hook_errors::HookErrors;
use super::nesting::not_too_deep;
use super::observers::{Event, Observers};
use super::removed_entries::RemovedEntry;
use crate::py::object::encoded_key::EncodedKey;
use crate::py::object::hooks;
use crate::py::object::running_python::{attached, call, decref};
use crate::py::process::guard::Guard;
use crate::py::process::raised_later::RunningHook;

/// One cache's listener, observers, running hooks, and count of failures. It outlives the cache if a chain of
/// removals still needs it.
pub(crate) struct RemovalNotifier {
    listener: Guard<Option<Py<PyAny>>>,
    /// Whether there is a listener, which can be read without the lock.
    pub(crate) listens: bool,
    /// Whether values' hooks are run.
    pub(crate) runs_hooks: bool,
    pub(crate) observers: Observers,
    /// Made with the first hook that is awaitable.
    closing: OnceLock<Arc<Closing>>,
    pub(crate) hook_errors: Arc<HookErrors>,
}

impl RemovalNotifier {
    pub(crate) fn new(listener: Option<Py<PyAny>>, runs_hooks: bool) -> Arc<Self> {
        Arc::new(Self {
            listens: listener.is_some(),
            runs_hooks,
            observers: Observers::new(),
            listener: Guard::new(listener, true),
            closing: OnceLock::new(),
            hook_errors: Arc::default(),
        })
    }

    /// Bytes allocated for it.
    pub(crate) fn allocated_bytes(&self) -> usize {
        // Shared objects have two reference counters.
        let shared = 2 * size_of::<usize>();
        let closing = self.closing.get().map_or(0, |_| shared + Closing::allocated_bytes());
        2 * shared + size_of::<Self>() + size_of::<HookErrors>() + closing
    }

    /// The awaitable hooks that have not finished.
    fn closing(&self) -> &Arc<Closing> {
        self.closing.get_or_init(|| Arc::new(Closing::new(Arc::clone(&self.hook_errors))))
    }

    /// Waits until the background thread has run all hooks that were handed to it.
    ///
    /// # Errors
    ///
    /// What a signal's handler raises meanwhile.
    pub(crate) fn wait_for_hooks(&self, py: Python<'_>) -> PyResult<()> {
        self.closing.get().map_or(Ok(()), |closing| closing.wait(py))
    }

    /// An awaitable for all hooks that are scheduled on the running loop; its result is `None`.
    pub(crate) fn gather_hooks<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.closing().gather(py)
    }

    pub(crate) fn listener(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        Ok(self.listener.with(py, |listener| listener.as_ref().map(|listener| listener.clone_ref(py)))?)
    }

    /// Finishes the removal of an entry.
    #[inline]
    pub(crate) fn finish(self: &Arc<Self>, py: Python<'_>, entry: RemovedEntry) {
        let quiet =
            !self.listens && !self.observers.want_removals() && self.has_no_hook_to_run(py, &entry.value);
        if !quiet {
            attached(py, |py| {
                self.notify(py, &entry);
                if entry.cause != Cause::Popped && self.runs_hooks {
                    self.close_value(py, &entry.value);
                }
            });
        }
        decref(py, entry.key);
        decref(py, entry.value);
    }

    #[inline]
    pub(crate) fn has_no_hook_to_run(&self, py: Python<'_>, value: &Py<PyAny>) -> bool {
        !hooks::may_act_on_removal(&value.bind_borrowed(py)) || !self.runs_hooks
    }

    /// Finishes the removal of many entries: now, or when the calls that led here are done.
    pub(crate) fn finish_all(
        self: &Arc<Self>,
        py: Python<'_>,
        entries: impl Iterator<Item = RemovedEntry> + 'static,
    ) {
        let this = Arc::clone(self);
        not_too_deep(py, move |py| entries.for_each(|entry| this.finish(py, entry)));
    }

    /// Notifies the listener and the observers.
    pub(crate) fn notify(&self, py: Python<'_>, entry: &RemovedEntry) {
        if self.observers.want_removals() {
            self.notify_observers_of_removal(py, entry);
        }
        if !self.listens {
            return;
        }
        let Ok(Some(listener)) = self.listener(py) else { return };
        let _running = RunningHook::begin();
        let reason = match entry.cause {
            Cause::Evicted => "evicted",
            Cause::Expired => "expired",
            Cause::Deleted => "deleted",
            Cause::Popped => "popped",
            Cause::Replaced => "replaced",
            Cause::Cleared => "cleared",
            Cause::Closed => "closed",
        };
        let reason = PyString::intern(py, reason);
        let key = EncodedKey::unwrap(py, entry.key.clone_ref(py));
        let arguments = [key.bind(py), entry.value.bind(py), reason.as_any()];
        if let Err(error) = call(listener.bind(py), arguments) {
            self.hook_errors.add(py, "on_evict()", &error);
        }
    }

    fn notify_observers_of_removal(&self, py: Python<'_>, entry: &RemovedEntry) {
        let event = match entry.cause {
            Cause::Evicted => Event::Evict,
            Cause::Expired => Event::Expire,
            Cause::Replaced => return,
            Cause::Deleted | Cause::Popped | Cause::Cleared | Cause::Closed => Event::Remove,
        };
        if self.observers.want(event) {
            let key = EncodedKey::unwrap(py, entry.key.clone_ref(py));
            self.notify_observers(py, event, key.bind(py), entry.value.bind(py));
        }
    }

    /// Runs the hook of a value that was removed.
    #[cold]
    pub(crate) fn close_value(&self, py: Python<'_>, value: &Py<PyAny>) {
        let _running = RunningHook::begin();
        let bound = value.bind(py);
        let (name, closed) = match hooks::of(&bound.as_borrowed()) {
            Ok(hooks) if hooks.close() => ("close()", hooks::run(bound, intern!(py, "close")).map(drop)),
            Ok(hooks) if hooks.aclose() => ("aclose()", aclose::start(py, value, self.closing())),
            Ok(_) => return,
            Err(error) => ("the class of a value", Err(error)),
        };
        if let Err(error) = closed {
            self.hook_errors.add(py, name, &error);
        }
    }

    /// Notifies the observers of an event. Their exceptions are logged.
    #[cold]
    pub(crate) fn notify_observers(
        &self,
        py: Python<'_>,
        event: Event,
        key: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
    ) {
        let _running = RunningHook::begin();
        let name = PyString::intern(py, event.name());
        for listener in self.observers.who_wants(py, event) {
            if let Err(error) = call(listener.bind(py), [name.as_any(), key, value]) {
                self.hook_errors.add(py, "a listener", &error);
            }
        }
    }

    pub(crate) fn traverse(&self, py: Python<'_>, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.listener.try_with(py, |listener| visit.call(&*listener)).unwrap_or(Ok(()))?;
        self.observers.traverse(py, visit)
    }

    /// Forgets the listener.
    pub(crate) fn clear(&self, py: Python<'_>) {
        let listener = self.listener.with(py, Option::take);
        drop(listener);
        self.observers.clear(py);
    }
}
