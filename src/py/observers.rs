//! Who is told what happens in a cache: listeners for hits, misses, writes, departures and loads.

use std::sync::atomic::{AtomicU8, Ordering};

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};

use super::cache::FlexCache;
use super::farewell::Farewell;
use super::guard::Guard;
use super::running_python::call;

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

    fn name(self) -> &'static str {
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

    /// Whether anybody listens to entries that leave by themselves or are removed.
    #[inline]
    pub(crate) fn want_departures(&self) -> bool {
        let departures = Event::Evict.bit() | Event::Expire.bit() | Event::Remove.bit();
        self.wanted.load(Ordering::Relaxed) & departures != 0
    }

    fn who_wants(&self, py: Python<'_>, event: Event) -> Vec<Py<PyAny>> {
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

impl Farewell {
    /// Tells those who want to know of an event. What they raise is logged.
    #[cold]
    pub(crate) fn tell_of(
        &self,
        py: Python<'_>,
        event: Event,
        key: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
    ) {
        let name = PyString::intern(py, event.name());
        for listener in self.observers.who_wants(py, event) {
            if let Err(error) = call(listener.bind(py), [name.as_any(), key, value]) {
                self.hook_failed(py, "a listener", &error);
            }
        }
    }
}

impl FlexCache {
    /// Tells of a lookup.
    #[cold]
    pub(super) fn tell_of_lookup(&self, key: Borrowed<'_, '_, PyAny>, value: Option<&Py<PyAny>>) {
        let py = key.py();
        let (event, none) = (if value.is_some() { Event::Hit } else { Event::Miss }, py.None());
        if self.farewell.observers.want(event) {
            self.farewell.tell_of(py, event, &key, value.unwrap_or(&none).bind(py));
        }
    }

    /// Adds a listener; without events, to all of them.
    pub(super) fn add_listener(
        &self,
        listener: &Bound<'_, PyAny>,
        events: &Bound<'_, PyTuple>,
    ) -> PyResult<()> {
        let py = listener.py();
        if !listener.is_callable() {
            let of = listener.get_type();
            return Err(PyTypeError::new_err(format!("listen() takes a callable, not {}", of.name()?)));
        }
        let mut bits = if events.is_empty() { u8::MAX } else { 0 };
        for event in events {
            bits |= Event::named(&event)?.bit();
        }
        let listener = listener.clone().unbind();
        self.farewell.observers.list.with(py, |list| list.push((bits, listener)))?;
        self.farewell.observers.wanted.fetch_or(bits, Ordering::Relaxed);
        self.watched.store(true, Ordering::Release);
        Ok(())
    }

    /// Removes a listener that was added; whether it was there.
    pub(super) fn remove_listener(&self, listener: &Bound<'_, PyAny>) -> PyResult<bool> {
        let (py, observers) = (listener.py(), &self.farewell.observers);
        // Bound methods are made anew each time, and equality is Python's business.
        let known = observers
            .list
            .with(py, |list| list.iter().map(|(_, known)| known.clone_ref(py)).collect::<Vec<_>>())?;
        for known in known {
            if !(known.is(listener) || known.bind(py).eq(listener)?) {
                continue;
            }
            let removed = observers.list.with(py, |list| {
                let at = list.iter().position(|(_, one)| one.is(&known))?;
                let removed = list.remove(at);
                let wanted = list.iter().fold(0, |wanted, (bits, _)| wanted | bits);
                observers.wanted.store(wanted, Ordering::Relaxed);
                Some(removed)
            })?;
            self.watched.store(self.is_watched(), Ordering::Release);
            return Ok(removed.is_some());
        }
        Ok(false)
    }

    /// Whether lookups and writes have to be told of.
    fn is_watched(&self) -> bool {
        self.farewell.observers.wanted.load(Ordering::Relaxed) != 0 || self.recorder.is_some()
    }
}
