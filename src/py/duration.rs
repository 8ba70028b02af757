//! Times as users write them: seconds, `timedelta`, `datetime`.

use std::time::{SystemTime, UNIX_EPOCH};

use flexcache_core::{Clock, Nanos};
use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDateTime, PyDelta, PyDeltaAccess, PyFloat, PyInt};

use super::clock::SystemClock;

/// The longest time to live, so that no sum of a time and a clock's reading overflows: 292 years.
const LONGEST: i128 = i64::MAX as i128;
const LONGEST_IN_WORDS: &str = "292 years";

/// When an entry without a time of its own expires.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ttl {
    /// So long after it was stored.
    After(Nanos),
    /// At a moment on the process's clock.
    At(Nanos),
}

impl Ttl {
    /// The moment, for an entry stored now.
    #[inline]
    pub(crate) fn deadline(self) -> Nanos {
        match self {
            Self::After(nanos) => SystemClock.now().saturating_add(nanos),
            Self::At(deadline) => deadline,
        }
    }
}

/// A time to live: seconds as int or float, a `timedelta`, or a `datetime`. What is not after now
/// has expired already.
///
/// # Errors
///
/// `TypeError` for what is no time, `ValueError` for NaN, `OverflowError` past 292 years.
pub(crate) fn ttl(argument: &str, value: Borrowed<'_, '_, PyAny>) -> PyResult<Ttl> {
    if let Some(nanos) = seconds(argument, value)? {
        return Ok(Ttl::After(nanos));
    }
    if value.cast::<PyDateTime>().is_ok() {
        // `timestamp` reads a naive datetime as local time.
        let timestamp: f64 = value.call_method0("timestamp")?.extract()?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
        let nanos = from_float(argument, value, timestamp - now)?;
        return Ok(Ttl::At(SystemClock.now().saturating_add(nanos)));
    }
    Err(PyTypeError::new_err(format!(
        "{argument} must be a number of seconds, a timedelta or a datetime, not {}",
        value.get_type().name()?
    )))
}

/// A duration: seconds as int or float, or a `timedelta`, not negative.
///
/// # Errors
///
/// `TypeError`, `ValueError` or `OverflowError`, as for [`ttl`].
pub(crate) fn interval(argument: &str, value: &Bound<'_, PyAny>) -> PyResult<Nanos> {
    match seconds(argument, value.as_borrowed())? {
        Some(nanos) if nanos > 0 || !value.lt(0_i32).unwrap_or(false) => Ok(nanos),
        Some(_) => {
            Err(PyValueError::new_err(format!("{argument} must be 0 or more seconds, not {}", value.repr()?)))
        }
        None => Err(PyTypeError::new_err(format!(
            "{argument} must be a number of seconds or a timedelta, not {}",
            value.get_type().name()?
        ))),
    }
}

/// The nanoseconds in a number or a `timedelta`, 0 where it is negative; `None` for other types.
fn seconds(argument: &str, value: Borrowed<'_, '_, PyAny>) -> PyResult<Option<Nanos>> {
    if let Ok(number) = value.cast::<PyFloat>() {
        return from_float(argument, value, number.extract()?).map(Some);
    }
    if value.cast::<PyBool>().is_ok() {
        return Ok(None);
    }
    if let Ok(number) = value.cast::<PyInt>() {
        let nanos = number.extract::<i64>().ok().map(|seconds| i128::from(seconds) * 1_000_000_000);
        // Past 64 bits only the sign matters.
        let nanos = match nanos {
            Some(nanos) => nanos,
            None if number.lt(0_i32)? => 0,
            None => i128::MAX,
        };
        return from_nanos(argument, value, nanos).map(Some);
    }
    if let Ok(delta) = value.cast::<PyDelta>() {
        let seconds = i128::from(delta.get_days()) * 86_400 + i128::from(delta.get_seconds());
        let nanos = seconds * 1_000_000_000 + i128::from(delta.get_microseconds()) * 1_000;
        return from_nanos(argument, value, nanos).map(Some);
    }
    if value.hasattr("__index__")? {
        let number = value.call_method0("__index__")?;
        return if number.cast::<PyInt>().is_ok() {
            seconds(argument, number.as_borrowed())
        } else {
            Ok(None)
        };
    }
    Ok(None)
}

fn from_float(argument: &str, value: Borrowed<'_, '_, PyAny>, seconds: f64) -> PyResult<Nanos> {
    if seconds.is_nan() {
        return Err(PyValueError::new_err(format!("{argument} must be a time, not NaN")));
    }
    #[expect(clippy::cast_possible_truncation, reason = "the cast saturates")]
    let nanos = (seconds * 1e9).ceil() as i128;
    from_nanos(argument, value, nanos)
}

fn from_nanos(argument: &str, value: Borrowed<'_, '_, PyAny>, nanos: i128) -> PyResult<Nanos> {
    if nanos > LONGEST {
        return Err(PyOverflowError::new_err(format!(
            "{argument} must be less than {LONGEST_IN_WORDS}, not {}; for an entry that never expires leave it out",
            value.repr()?
        )));
    }
    Ok(Nanos::try_from(nanos).unwrap_or(0))
}

/// Seconds from now until `deadline`, not negative.
pub(crate) fn seconds_until(deadline: Nanos) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a float of seconds is what Python speaks")]
    let nanos = deadline.saturating_sub(SystemClock.now()) as f64;
    nanos / 1e9
}
