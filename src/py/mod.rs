//! The bindings: what Python sees of the core.

use pyo3::prelude::*;

mod aclose;
pub(crate) mod background;
pub(crate) mod cache;
mod clock;
mod custom_policy;
mod departures;
mod duration;
mod engine;
mod errors;
mod expire;
pub(crate) mod fast;
mod guard;
mod hooks;
mod key;
mod leave;
pub(crate) mod logging;
mod options;
pub(crate) mod pickle;
mod read;
pub(crate) mod stats;
pub(crate) mod testing;
pub(crate) mod views;
mod whole;
mod write;

/// Runs `call` in a way that PyO3 knows this thread to be attached, which it cannot know of the
/// fast calls; references dropped without a token at hand are then dropped at once.
pub(crate) fn attached<R>(py: Python<'_>, call: impl FnOnce(Python<'_>) -> R) -> R {
    let mut call = Some(call);
    let result = Python::try_attach(|py| call.take().map(|call| call(py))).flatten();
    match (result, call) {
        (Some(result), _) => result,
        // The interpreter is ending: attached all the same, as the caller's token proves.
        (None, Some(call)) => call(py),
        (None, None) => unreachable!("a call that was taken has a result"),
    }
}
