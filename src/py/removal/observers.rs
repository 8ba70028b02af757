//! Notification about events in a cache: listeners for hits, misses, writes, removed and loads.

use std::sync::atomic::{AtomicU8, Ordering};

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};

use crate::py::object::argument::wrong_type;
use crate::py::process::guard::Guard;

/// What a listener can be told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Hit,
    Miss,
    Insert,
    Update,
    Evict,
    Expire,
    Remove,
    Load,
}

impl Event {
    const ALL: [Self; 8] = [
        Self::Hit,
        Self::Miss,
        Self::Insert,
        Self::Update,
        Self::Evict,
        Self::Expire,
        Self::Remove,
        Self::Load,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Evict => "evict",
            Self::Expire => "expire",
            Self::Remove => "remove",
            Self::Load => "load",
        }
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }

    fn named(name: &Bound<'_, PyAny>) -> PyResult<Self> {
        let known = || Self::ALL.map(Self::name).join(", ");
        let text = name.cast::<PyString>().map_err(|_| {
            let of = name.get_type();
            PyTypeError::new_err(format!("an event must be a str, one of {}, not {of}", known()))
        })?;
        let text = text.to_cow()?;
        Self::ALL.into_iter().find(|event| event.name() == text).ok_or_else(|| {
            PyValueError::new_err(format!("an event must be one of {}, not '{text}'", known()))
        })
    }
}

/// The listeners of a cache.
pub(crate) struct Observers {
    /// The events that anybody listens to, without the lock.
    wanted: AtomicU8,
    list: Guard<Vec<(u8, Py<PyAny>)>>,
}

impl Observers {
    pub(crate) fn new() -> Self {
        Self { wanted: AtomicU8::new(0), list: Guard::new(Vec::new(), true) }
    }

    #[inline]
    pub(crate) fn want(&self, event: Event) -> bool {
        self.wanted.load(Ordering::Relaxed) & event.bit() != 0
    }

    /// Whether anybody listens to entries that are evicted, expire or are removed by a call.
    #[inline]
    pub(crate) fn want_removals(&self) -> bool {
        let removals = Event::Evict.bit() | Event::Expire.bit() | Event::Remove.bit();
        self.wanted.load(Ordering::Relaxed) & removals != 0
    }

    /// Whether anybody listens to anything.
    #[inline]
    pub(crate) fn want_any(&self) -> bool {
        self.wanted.load(Ordering::Relaxed) != 0
    }

    /// Adds a listener; without events, to all of them.
    pub(crate) fn add(&self, listener: &Bound<'_, PyAny>, events: &Bound<'_, PyTuple>) -> PyResult<()> {
        let py = listener.py();
        if !listener.is_callable() {
            return Err(wrong_type("listen(): listener", "callable", listener));
        }
        let mut bits = if events.is_empty() { u8::MAX } else { 0 };
        for event in events {
            bits |= Event::named(&event)?.bit();
        }
        let listener = listener.clone().unbind();
        self.list.with(py, |list| list.push((bits, listener)))?;
        self.wanted.fetch_or(bits, Ordering::Relaxed);
        Ok(())
    }

    /// Removes a listener that was added; whether it was there.
    pub(crate) fn remove(&self, listener: &Bound<'_, PyAny>) -> PyResult<bool> {
        let py = listener.py();
        // Bound methods are made anew each time, and equality is Python's business.
        let known = self
            .list
            .with(py, |list| list.iter().map(|(_, known)| known.clone_ref(py)).collect::<Vec<_>>())?;
        for known in known {
            if !(known.is(listener) || known.bind(py).eq(listener)?) {
                continue;
            }
            let removed = self.list.with(py, |list| {
                let at = list.iter().position(|(_, one)| one.is(&known))?;
                let removed = list.remove(at);
                let wanted = list.iter().fold(0, |wanted, (bits, _)| wanted | bits);
                self.wanted.store(wanted, Ordering::Relaxed);
                Some(removed)
            })?;
            return Ok(removed.is_some());
        }
        Ok(false)
    }

    pub(super) fn who_wants(&self, py: Python<'_>, event: Event) -> Vec<Py<PyAny>> {
        let of = |list: &mut Vec<(u8, Py<PyAny>)>| {
            let those = list.iter().filter(|(events, _)| events & event.bit() != 0);
            those.map(|(_, listener)| listener.clone_ref(py)).collect()
        };
        self.list.with(py, of).unwrap_or_default()
    }

    pub(crate) fn traverse(&self, py: Python<'_>, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        let each =
            |list: &mut Vec<(u8, Py<PyAny>)>| list.iter().try_for_each(|(_, listener)| visit.call(listener));
        self.list.try_with(py, each).unwrap_or(Ok(()))
    }

    /// Forgets all listeners.
    pub(crate) fn clear(&self, py: Python<'_>) {
        self.wanted.store(0, Ordering::Relaxed);
        let list = self.list.with(py, std::mem::take);
        drop(list);
    }
}
