//! What left a store, carried out of the locked section to be let go.

use flexcache_core::{Departed, Sink};
use pyo3::prelude::*;

/// A key and value that left, and why.
pub(crate) type Leaver = Departed<Py<PyAny>, Py<PyAny>>;

/// Entries that left; the common case of one allocates nothing.
#[derive(Default)]
pub(crate) struct Departures {
    first: Option<Leaver>,
    rest: Vec<Leaver>,
}

impl Departures {
    #[inline]
    pub(crate) fn new() -> Self {
        Self { first: None, rest: Vec::new() }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Leaver> {
        self.first.iter().chain(&self.rest)
    }

    /// Takes the last one out.
    pub(crate) fn pop(&mut self) -> Option<Leaver> {
        self.rest.pop().or_else(|| self.first.take())
    }
}

impl Sink<Py<PyAny>, Py<PyAny>> for Departures {
    #[inline]
    fn push(&mut self, leaver: Leaver) {
        if self.first.is_none() {
            self.first = Some(leaver);
        } else {
            self.rest.push(leaver);
        }
    }
}

impl IntoIterator for Departures {
    type Item = Leaver;
    type IntoIter = std::iter::Chain<std::option::IntoIter<Leaver>, std::vec::IntoIter<Leaver>>;

    #[inline]
    fn into_iter(self) -> Self::IntoIter {
        self.first.into_iter().chain(self.rest)
    }
}
