//! State that a forked child starts anew.

use std::sync::Arc;

use pyo3::prelude::*;

use super::background;
use super::guard::Guard;

/// State with locks that threads wait for detached. During a fork, any of them may be held by a thread that
/// the child does not have.
pub(crate) struct PerProcess<T>(Guard<(u64, Arc<T>)>);

impl<T: Default> Default for PerProcess<T> {
    fn default() -> Self {
        Self(Guard::new((background::generation(), Arc::default()), true))
    }
}

impl<T: Default> PerProcess<T> {
    /// The state of this process.
    pub(crate) fn get(&self, py: Python<'_>) -> Arc<T> {
        self.with(py, Arc::clone)
    }

    /// Calls `look` with the state of this process. `look` must neither take a lock nor run Python code.
    #[inline(always)]
    pub(crate) fn with<R>(&self, py: Python<'_>, look: impl FnOnce(&Arc<T>) -> R) -> R {
        let now = background::generation();
        let seen = self.0.with(py, |(generation, state)| {
            if *generation != now {
                // The parent's state is never used again, nor dropped.
                std::mem::forget(std::mem::take(state));
                *generation = now;
            }
            look(state)
        });
        seen.unwrap_or_else(|_| unreachable!("nothing above uses the same state"))
    }
}
