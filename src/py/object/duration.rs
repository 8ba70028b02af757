//! Times as users write them: seconds, `timedelta`, `datetime`.

use flexcache_core::{Clock, Nanos};
use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDateAccess, PyDateTime, PyDelta, PyDeltaAccess, PyFloat, PyInt, PyString};

use super::argument::described;
use super::integer::{integer, shown};
use super::real::other_real;
use crate::py::process::clock::{CacheClock, SystemClock};
use crate::py::process::wall_clock;

/// The longest time to live, so that no sum of a time and a clock's reading overflows: 292 years.
const LONGEST: i128 = i64::MAX as i128;
/// A duration that does not end while the process runs.
const ENDLESS: Nanos = i64::MAX as Nanos;
/// The deadline of what has expired already.
const LONG_AGO: Nanos = 1;
const LONGEST_IN_WORDS: &str = "292 years";

/// A time to live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ttl {
    /// Not at all.
    Never,
    /// This long after the entry was stored.
    After(Nanos),
    /// At a moment on the process's clock.
    At(Nanos),
}

impl Ttl {
    /// The deadline on the clock of a cache, for an entry stored now; `None` if it does not expire.
    #[inline]
    pub(crate) fn deadline_by(self, clock: &CacheClock) -> Option<Nanos> {
        match (self, clock) {
            (Self::Never, _) => None,
            // Reached by the coarse clock too, however late its tick is.
            (Self::After(0), _) => Some(LONG_AGO),
            (Self::After(nanos), _) => Some(clock.now().saturating_add(nanos)),
            (Self::At(deadline), CacheClock::System) => Some(deadline),
            (Self::At(deadline), CacheClock::Given(_)) => {
                Some(clock.now().saturating_add(deadline.saturating_sub(SystemClock.now())))
            }
        }
    }
}

/// A time to live: seconds as a real number, a `timedelta`, or a `datetime`. A time that is not after now has
/// expired already. A float of infinity means for ever.
///
/// # Errors
///
/// `TypeError` for an object that is not a time, `ValueError` for NaN, `OverflowError` beyond 292 years.
pub(crate) fn ttl(argument: &str, value: Borrowed<'_, '_, PyAny>) -> PyResult<Ttl> {
    let too_long = || {
        PyOverflowError::new_err(format!(
            "{argument} must be less than {LONGEST_IN_WORDS}, not {}; float('inf') means for ever",
            shown(&value)
        ))
    };
    let nanos = |nanos: i128| if nanos > LONGEST { Err(too_long()) } else { Ok(clamp(nanos)) };
    // The common case first.
    if let Ok(seconds) = value.cast_exact::<PyInt>() {
        return nanos(whole_seconds(&seconds)?).map(Ttl::After);
    }
    let number = other_real(&value)?;
    let value = number.as_ref().map_or(value, |number| number.as_any().as_borrowed());
    if value.cast::<PyFloat>().is_ok_and(|seconds| seconds.value() == f64::INFINITY) {
        return Ok(Ttl::Never);
    }
    if let Some(duration) = signed(argument, value)? {
        return nanos(duration).map(Ttl::After);
    }
    let Ok(moment) = value.cast::<PyDateTime>() else {
        return Err(no_time(argument, "a number of seconds, a timedelta or a datetime", value));
    };
    // `timestamp` reads a naive datetime as local time, and fails at the ends of the calendar.
    let Ok(timestamp) = moment.call_method0("timestamp").and_then(|moment| moment.extract::<f64>()) else {
        return if moment.get_year() < 1970 { Ok(Ttl::After(0)) } else { Err(too_long()) };
    };
    Ok(match nanos(from_float(timestamp - wall_clock::now(value.py())?))? {
        0 => Ttl::After(0),
        nanos => Ttl::At(SystemClock.now().saturating_add(nanos)),
    })
}

/// `seconds` seconds from when an entry is stored; negative numbers count as 0.
pub(crate) fn after(seconds: f64) -> Ttl {
    if seconds == f64::INFINITY { Ttl::Never } else { Ttl::After(clamp(from_float(seconds))) }
}

/// A duration as [`interval`] takes it.
pub(crate) fn seconds(nanos: Nanos) -> f64 {
    if nanos == ENDLESS { f64::INFINITY } else { std::time::Duration::from_nanos(nanos).as_secs_f64() }
}

/// A duration: seconds as a real number, or a `timedelta`, not negative. A float of infinity is
/// [`ENDLESS`].
///
/// # Errors
///
/// `TypeError`, `ValueError` or `OverflowError`, as for [`ttl`].
pub(crate) fn interval(argument: &str, value: &Bound<'_, PyAny>) -> PyResult<Nanos> {
    let number = other_real(&value.as_borrowed())?;
    let value = number.as_ref().map_or(value, |number| number.as_any());
    if value.cast::<PyFloat>().is_ok_and(|seconds| seconds.value() == f64::INFINITY) {
        return Ok(ENDLESS);
    }
    match signed(argument, value.as_borrowed())? {
        Some(nanos) if nanos < 0 => Err(PyValueError::new_err(format!(
            "{argument} must be 0 or more seconds, not {}",
            shown(&value.as_borrowed())
        ))),
        Some(nanos) if nanos > LONGEST => Err(PyOverflowError::new_err(format!(
            "{argument} must be less than {LONGEST_IN_WORDS}, not {}",
            shown(&value.as_borrowed())
        ))),
        Some(nanos) => Ok(clamp(nanos)),
        None => Err(no_time(argument, "a number of seconds or a timedelta", value.as_borrowed())),
    }
}

/// The exception for an object that is not a time. If it is text with a number, the message suggests that
/// number.
fn no_time(argument: &str, allowed: &str, value: Borrowed<'_, '_, PyAny>) -> PyErr {
    let number =
        value.cast::<PyString>().ok().and_then(|text| text.to_str().ok()?.trim().parse::<f64>().ok());
    let meant = number.map_or_else(String::new, |number| format!("; did you mean {number}?"));
    PyTypeError::new_err(format!("{argument} must be {allowed}, not {}{meant}", described(&value)))
}

/// Negative numbers count as 0.
fn clamp(nanos: i128) -> Nanos {
    Nanos::try_from(nanos.max(0)).unwrap_or(Nanos::MAX)
}

/// The nanoseconds in a number or a `timedelta`; `None` for other types.
fn signed(argument: &str, value: Borrowed<'_, '_, PyAny>) -> PyResult<Option<i128>> {
    if let Ok(number) = value.cast::<PyFloat>() {
        let seconds: f64 = number.extract()?;
        if seconds.is_nan() {
            return Err(PyValueError::new_err(format!("{argument} must be a time, not NaN")));
        }
        return Ok(Some(from_float(seconds)));
    }
    if let Ok(delta) = value.cast::<PyDelta>() {
        let seconds = i128::from(delta.get_days()) * 86_400 + i128::from(delta.get_seconds());
        return Ok(Some(seconds * 1_000_000_000 + i128::from(delta.get_microseconds()) * 1_000));
    }
    integer(&value)?.map(|number| whole_seconds(&number.as_borrowed())).transpose()
}

/// The nanoseconds in a number of seconds. Beyond 64 bits only the sign matters.
fn whole_seconds(number: &Borrowed<'_, '_, PyInt>) -> PyResult<i128> {
    Ok(match number.extract::<i64>() {
        Ok(seconds) => i128::from(seconds) * 1_000_000_000,
        Err(_) if number.lt(0_i32)? => i128::MIN,
        Err(_) => i128::MAX,
    })
}

/// A fraction of a nanosecond counts as a whole one.
fn from_float(seconds: f64) -> i128 {
    #[expect(clippy::cast_possible_truncation, reason = "the cast saturates")]
    let nanos = (seconds * 1e9).ceil() as i128;
    nanos
}

/// Seconds from now until `deadline`, not negative.
pub(crate) fn seconds_until(deadline: Nanos) -> f64 {
    seconds_until_by(deadline, &SystemClock)
}

/// Seconds from now until `deadline` on another clock, not negative.
pub(crate) fn seconds_until_by(deadline: Nanos, clock: &impl Clock) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a float of seconds is what Python speaks")]
    let nanos = deadline.saturating_sub(clock.now()) as f64;
    nanos / 1e9
}
