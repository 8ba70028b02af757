//! Notifies observers and the recorder of lookups and writes.

use std::sync::atomic::Ordering;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::detours::Detours;
use super::state::FlexCache;
use super::terms::WriteOutcome;
use crate::py::object::did_you_mean;
use crate::py::removal::observers::Event;

impl FlexCache {
    /// Notifies observers of a lookup.
    #[cold]
    pub(super) fn notify_lookup(&self, key: Borrowed<'_, '_, PyAny>, value: Option<&Py<PyAny>>) {
        let py = key.py();
        let (event, none) = (if value.is_some() { Event::Hit } else { Event::Miss }, py.None());
        if self.notifier.observers.want(event) {
            self.notifier.notify_observers(py, event, &key, value.unwrap_or(&none).bind(py));
        }
    }

    /// Whether anything observes writes.
    pub(super) fn tells_of_writes(&self) -> bool {
        let wants = |event| self.notifier.observers.want(event);
        self.recorder.get().is_some() || wants(Event::Insert) || wants(Event::Update)
    }

    /// Notifies observers of a write.
    #[cold]
    pub(super) fn notify_write(
        &self,
        key: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
        hash: u64,
        weight: u64,
        stored: WriteOutcome,
    ) {
        let event = match stored {
            WriteOutcome::AlreadyPresent | WriteOutcome::Discarded => return,
            WriteOutcome::Inserted => Event::Insert,
            WriteOutcome::Updated => Event::Update,
        };
        if let Some(recorder) = self.recorder.get().filter(|_| weight != 1) {
            recorder.stored(hash, weight);
        }
        if self.notifier.observers.want(event) {
            self.notifier.notify_observers(key.py(), event, key, value);
        }
    }

    /// Whether lookups and writes have to take the slow path.
    pub(super) fn needs_slow_path(&self) -> bool {
        self.is_observed() || self.tier.is_some() || self.gate.is_some() || self.clock().is_given()
    }

    /// Whether anything observes the cache.
    #[inline]
    pub(super) fn is_observed(&self) -> bool {
        self.notifier.observers.want_any() || self.recorder.get().is_some()
    }

    /// Counts a value that was computed.
    pub(super) fn count_load(&self) {
        self.computed.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a lookup that found nothing, and got the result of another call.
    pub(super) fn count_wait(&self) {
        self.waited.fetch_add(1, Ordering::Relaxed);
    }

    /// Notifies observers of a computed value.
    pub(super) fn notify_load(&self, key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) {
        if self.notifier.observers.want(Event::Load) {
            self.notifier.notify_observers(key.py(), Event::Load, key, value);
        }
    }
}

#[pymethods]
impl FlexCache {
    /// Call a function at each event of the cache, until unlisten() removes it.
    ///
    /// Args:
    ///     listener: A function that is called as listener(event, key, value) after each event, in the thread
    ///         that caused it. The value of a miss is None. An exception of the listener is logged and counted.
    ///     *events: "hit", "miss", "insert", "update", "evict", "expire", "remove" (by a call) and "load"
    ///         (computed by get_or_set() or a memoized function). Without events, it is called for all of them.
    ///
    /// Raises:
    ///     TypeError, ValueError: The listener is not callable, or an event is unknown.
    ///
    /// With a listener, lookups and writes use a slower path. O(1).
    ///
    /// >>> from flexcache_rs import FlexCache
    /// >>> cache = FlexCache(max_items=1)
    /// >>> cache.listen(print, "miss", "evict")
    /// >>> cache.get("a")
    /// miss a None
    /// >>> cache["a"], cache["b"] = 1, 2
    /// evict a 1
    #[pyo3(signature = (listener, *events, **unknown), text_signature = "($self, listener, *events)")]
    fn listen(
        &self,
        listener: &Bound<'_, PyAny>,
        events: &Bound<'_, PyTuple>,
        unknown: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<()> {
        did_you_mean::refuse("listen", unknown, &["listener"])?;
        self.notifier.observers.add(listener, events)?;
        self.detours.set(Detours::SLOW_PATH, true);
        Ok(())
    }

    /// Remove a listener that listen() added. Returns True if it was present. O(number of listeners).
    ///
    /// >>> from flexcache_rs import FlexCache
    /// >>> cache = FlexCache()
    /// >>> cache.listen(print)
    /// >>> cache.unlisten(print), cache.unlisten(print)
    /// (True, False)
    #[pyo3(signature = (listener, **unknown), text_signature = "($self, listener)")]
    fn unlisten(&self, listener: &Bound<'_, PyAny>, unknown: Option<&Bound<'_, PyDict>>) -> PyResult<bool> {
        did_you_mean::refuse("unlisten", unknown, &["listener"])?;
        let removed = self.notifier.observers.remove(listener)?;
        if removed {
            self.detours.set(Detours::SLOW_PATH, self.needs_slow_path());
        }
        Ok(removed)
    }
}
