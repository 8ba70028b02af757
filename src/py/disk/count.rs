//! Calls that count.

use flexcache_disk::{Counted, Key, Number};
use pyo3::exceptions::{PyKeyError, PyOverflowError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFloat, PyInt};

use super::arguments::OptionalArgument;
use super::cache::DiskCache;
use super::datum::integer;
use crate::py::object::argument::{truth, wrong_type};
use crate::py::object::did_you_mean;
use crate::py::process::wall_clock::now;

impl DiskCache {
    fn add_up<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        delta: &Bound<'py, PyAny>,
        sign: i64,
        default: &Bound<'py, PyAny>,
        retry: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = key.py();
        let (datum, raw) = self.encode_key(key)?;
        let at = Key { datum: datum.borrow()?, raw };
        let step = number(delta, sign)?;
        let (now, rules) = (now(py)?, self.rules(py)?);
        let begin = if default.is_none() {
            None
        } else {
            if !default.is_instance_of::<PyInt>() && !default.is_instance_of::<PyFloat>() {
                return Err(wrong_type("default", "an int, a float or None", default));
            }
            Some(if sign > 0 { default.add(delta)? } else { default.sub(delta)? })
        };
        let counted = match &begin {
            None => self
                .write(py, retry, |store, patience| store.increment(at, step, None, now, &rules, patience))?,
            Some(begin) => {
                let stored = self.prepare(begin, false, Some(key))?;
                self.storing(py, &stored, |record, file| {
                    self.write(py, retry, |store, patience| {
                        file.lend(|| store.increment(at, step, Some(record), now, &rules, patience))
                    })
                })?
            }
        };
        match (counted, begin) {
            (Counted::Sum(Number::Integer(sum)), _) => Ok(sum.into_pyobject(py)?.into_any()),
            (Counted::Sum(Number::Real(sum)), _) => Ok(PyFloat::new(py, sum).into_any()),
            (Counted::Began, Some(begin)) => Ok(begin),
            _ => Err(PyKeyError::new_err((key.clone().unbind(),))),
        }
    }
}

#[pymethods]
impl DiskCache {
    /// Add to a number, atomically for all processes.
    ///
    /// Args:
    ///     key: The key.
    ///     delta: The int or float to add.
    ///     default: The initial value if there is no live value. None means to raise KeyError.
    ///     retry: Whether to wait for other writers for longer than `timeout`.
    ///
    /// Returns:
    ///     The sum.
    ///
    /// Raises:
    ///     KeyError: There is no live value, and `default` is None.
    ///     TypeError: The value is no number, or it does not fit 64 bits.
    ///     OverflowError: The sum does not fit 64 bits.
    ///     Timeout: The write lock was not acquired within `timeout` seconds.
    ///
    /// >>> from flexcache_rs.disk import Cache
    /// >>> cache = Cache()
    /// >>> cache.incr("visits"), cache.incr("visits", 10)
    /// (1, 11)
    #[pyo3(signature = (key, delta=OptionalArgument::Absent, default=OptionalArgument::Absent, retry=false, **unknown))]
    #[pyo3(text_signature = "($self, /, key, delta=1, default=0, retry=False)")]
    fn incr<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        delta: OptionalArgument<'py>,
        default: OptionalArgument<'py>,
        #[pyo3(from_py_with = truth)] retry: bool,
        unknown: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        did_you_mean::refuse("incr", unknown, &["key", "delta", "default", "retry"])?;
        let py = key.py();
        self.add_up(key, &delta.or(|| integer(py, 1)), 1, &default.or(|| integer(py, 0)), retry)
    }

    /// Subtract from a number. The arguments, the result and the errors are those of `incr`.
    ///
    /// >>> from flexcache_rs.disk import Cache
    /// >>> cache = Cache()
    /// >>> cache.decr("left", default=10)
    /// 9
    #[pyo3(signature = (key, delta=OptionalArgument::Absent, default=OptionalArgument::Absent, retry=false, **unknown))]
    #[pyo3(text_signature = "($self, /, key, delta=1, default=0, retry=False)")]
    fn decr<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        delta: OptionalArgument<'py>,
        default: OptionalArgument<'py>,
        #[pyo3(from_py_with = truth)] retry: bool,
        unknown: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        did_you_mean::refuse("decr", unknown, &["key", "delta", "default", "retry"])?;
        let py = key.py();
        self.add_up(key, &delta.or(|| integer(py, 1)), -1, &default.or(|| integer(py, 0)), retry)
    }
}

/// A number to count with, or its negative.
fn number(delta: &Bound<'_, PyAny>, sign: i64) -> PyResult<Number> {
    if let Ok(delta) = delta.cast::<PyFloat>() {
        let delta = delta.value();
        if delta.is_nan() {
            return Err(PyValueError::new_err("delta must be an int or a float, not NaN"));
        }
        return Ok(Number::Real(if sign < 0 { -delta } else { delta }));
    }
    let Ok(whole) = delta.cast::<PyInt>() else {
        return Err(wrong_type("delta", "an int or a float", delta));
    };
    let fits = whole.extract::<i128>().ok().and_then(|delta| delta.checked_mul(sign.into()));
    fits.map(Number::Integer)
        .ok_or_else(|| PyOverflowError::new_err(format!("delta of {whole} does not fit 128 bits")))
}
