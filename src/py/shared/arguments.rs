//! Arguments that calls share.

use flexcache_core::Clock;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::py::object::argument::wrong_type;
use crate::py::object::duration::{Ttl, ttl};
use crate::py::object::integer::{integer, shown};
use crate::py::process::clock::SystemClock;

/// The deadline of an entry that is stored now, on the clock that all processes share. 0 is none.
pub(super) fn deadline(given: Option<Borrowed<'_, '_, PyAny>>, default: Ttl) -> PyResult<u64> {
    let ttl = match given {
        Some(given) if !given.is_none() => ttl("ttl", given)?,
        _ => default,
    };
    let left = match ttl {
        Ttl::Never => return Ok(0),
        Ttl::After(nanoseconds) => nanoseconds,
        Ttl::At(moment) => moment.saturating_sub(SystemClock.now()),
    };
    Ok(flexcache_shared::now().saturating_add(left))
}

/// An argument that is an int of 64 bits, but not a bool.
pub(super) fn whole(argument: &str, value: &Bound<'_, PyAny>) -> PyResult<i64> {
    let Some(number) = integer(&value.as_borrowed())? else {
        return Err(wrong_type(argument, "an int", value));
    };
    number.extract().map_err(|_| {
        PyValueError::new_err(format!(
            "{argument} must be from -2**63 to 2**63 - 1, not {}",
            shown(&value.as_borrowed())
        ))
    })
}
