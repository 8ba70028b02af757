//! The slot to which the answer of a blocking call is delivered.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::Error;
use crate::value::Value;

pub(crate) type Answer = Result<Vec<Value>, Error>;

#[derive(Default)]
struct State {
    answer: Option<Answer>,
    /// Whether its caller should check whether it can read.
    is_told: bool,
}

/// The slot of one waiting caller.
#[derive(Default)]
pub(crate) struct Slot {
    state: Mutex<State>,
    has_changed: Condvar,
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn fill(&self, answer: Answer) {
        self.lock().answer = Some(answer);
        self.has_changed.notify_one();
    }

    /// Tells the caller that no thread reads any more.
    pub(crate) fn tell(&self) {
        self.lock().is_told = true;
        self.has_changed.notify_one();
    }

    pub(crate) fn take(&self) -> Option<Answer> {
        self.lock().answer.take()
    }

    /// Waits for the answer, or until the caller is told.
    pub(crate) fn wait(&self, time: Duration) -> Option<Answer> {
        let waits = |state: &mut State| state.answer.is_none() && !state.is_told;
        let waited = self.has_changed.wait_timeout_while(self.lock(), time, waits);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        state.is_told = false;
        state.answer.take()
    }
}
