//! What is due to entries that have left: the listener is told, the value's hook runs, the
//! references are dropped. Every entry that left a store comes through here, exactly once.
//!
//! A hook may end another cache, whose values' hooks may end another, and so on: past a certain
//! depth what has left waits until the outermost call is done, so that no chain of caches is too
//! long for the stack.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flexcache_core::Cause;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyString;

use super::aclose::{self, Closing};
use super::departures::Leaver;
use super::guard::Guard;
use super::observers::{Event, Observers};
use super::running_python::{attached, call, interpreter_is_ending, release, report_unraisable};
use super::{hooks, logging};

/// So many caches deep one is emptied by the hooks of another before what leaves has to wait.
const DEEPEST: u32 = 40;

type Work = Box<dyn FnOnce(Python<'_>)>;

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    static WAITING: RefCell<Vec<Work>> = const { RefCell::new(Vec::new()) };
}

/// One level down, until dropped.
struct Deeper(u32);

impl Deeper {
    fn than(depth: u32) -> Self {
        DEPTH.set(depth + 1);
        Self(depth)
    }
}

impl Drop for Deeper {
    fn drop(&mut self) {
        DEPTH.set(self.0);
    }
}

/// Runs something that lets go of many objects: now, or where that would be too deep a nesting, when
/// the outermost of all is done.
pub(crate) fn not_too_deep(py: Python<'_>, work: impl FnOnce(Python<'_>) + 'static) {
    let depth = DEPTH.get();
    if depth >= DEEPEST {
        WAITING.with_borrow_mut(|waiting| waiting.push(Box::new(work)));
        return;
    }
    let _deeper = Deeper::than(depth);
    work(py);
    while depth == 0
        && let Some(work) = WAITING.with_borrow_mut(Vec::pop)
    {
        work(py);
    }
}

/// One cache's listener, hooks in progress, and count of failures. Outlives the cache where the
/// background thread, or a longer chain, still needs it.
pub(crate) struct Farewell {
    listener: Guard<Option<Py<PyAny>>>,
    /// Whether there is a listener, without the lock.
    pub(crate) listens: bool,
    /// Whether values' hooks are run.
    pub(crate) runs_hooks: bool,
    pub(crate) observers: Observers,
    pub(crate) closing: Closing,
    pub(crate) hook_errors: AtomicU64,
}

impl Farewell {
    pub(crate) fn new(listener: Option<Py<PyAny>>, runs_hooks: bool) -> Arc<Self> {
        Arc::new(Self {
            listens: listener.is_some(),
            runs_hooks,
            observers: Observers::new(),
            listener: Guard::new(listener, true),
            closing: Closing::default(),
            hook_errors: AtomicU64::new(0),
        })
    }

    pub(crate) fn listener(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        Ok(self.listener.with(py, |listener| listener.as_ref().map(|listener| listener.clone_ref(py)))?)
    }

    /// Lets one entry go.
    #[inline]
    pub(crate) fn let_leave(self: &Arc<Self>, py: Python<'_>, leaver: Leaver) {
        let quiet =
            !self.listens && !self.observers.want_departures() && self.has_no_hook_to_run(py, &leaver.value);
        if !quiet {
            attached(py, |py| {
                self.announce(py, &leaver);
                if leaver.cause != Cause::Popped && self.runs_hooks {
                    self.close_value(py, &leaver.value);
                }
            });
        }
        release(py, leaver.key);
        release(py, leaver.value);
    }

    #[inline]
    pub(crate) fn has_no_hook_to_run(&self, py: Python<'_>, value: &Py<PyAny>) -> bool {
        !self.runs_hooks || hooks::of(&value.bind_borrowed(py)).is_ok_and(|hooks| !hooks.on_leaving())
    }

    /// Lets all that was in a cache go, now or when the calls that led here are done.
    pub(crate) fn let_all_leave(
        self: &Arc<Self>,
        py: Python<'_>,
        leavers: impl Iterator<Item = Leaver> + 'static,
    ) {
        let this = Arc::clone(self);
        not_too_deep(py, move |py| leavers.for_each(|leaver| this.let_leave(py, leaver)));
    }

    /// Tells the listener.
    pub(crate) fn announce(&self, py: Python<'_>, leaver: &Leaver) {
        if self.observers.want_departures() {
            self.observe(py, leaver);
        }
        if !self.listens {
            return;
        }
        let Ok(Some(listener)) = self.listener(py) else { return };
        let reason = match leaver.cause {
            Cause::Evicted => "evicted",
            Cause::Expired => "expired",
            Cause::Deleted => "deleted",
            Cause::Popped => "popped",
            Cause::Replaced => "replaced",
            Cause::Cleared => "cleared",
            Cause::Closed => "closed",
        };
        let reason = PyString::intern(py, reason);
        let arguments = [leaver.key.bind(py), leaver.value.bind(py), reason.as_any()];
        if let Err(error) = call(listener.bind(py), arguments) {
            self.hook_failed(py, "on_evict()", &error);
        }
    }

    fn observe(&self, py: Python<'_>, leaver: &Leaver) {
        let event = match leaver.cause {
            Cause::Evicted => Event::Evict,
            Cause::Expired => Event::Expire,
            Cause::Replaced => return,
            Cause::Deleted | Cause::Popped | Cause::Cleared | Cause::Closed => Event::Remove,
        };
        if self.observers.want(event) {
            self.tell_of(py, event, leaver.key.bind(py), leaver.value.bind(py));
        }
    }

    /// Runs the hook of a value that left.
    #[cold]
    pub(crate) fn close_value(self: &Arc<Self>, py: Python<'_>, value: &Py<PyAny>) {
        let bound = value.bind(py);
        let (name, closed) = match hooks::of(&bound.as_borrowed()) {
            Ok(hooks) if hooks.close() => ("close()", hooks::run(bound, intern!(py, "close")).map(drop)),
            Ok(hooks) if hooks.aclose() => ("aclose()", aclose::start(py, value, self)),
            Ok(_) => return,
            Err(error) => ("the class of a value", Err(error)),
        };
        if let Err(error) = closed {
            self.hook_failed(py, name, &error);
        }
    }

    pub(crate) fn hook_failed(&self, py: Python<'_>, hook: &str, error: &PyErr) {
        self.hook_errors.fetch_add(1, Ordering::Relaxed);
        if interpreter_is_ending() {
            // There may be no `logging` left to write to.
            report_unraisable(py, error.clone_ref(py));
            return;
        }
        let raised = logging::describe(py, error);
        logging::error(py, &format_args!("{hook} raised as an entry left:\n{raised}"));
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
