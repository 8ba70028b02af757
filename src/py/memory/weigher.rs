//! The argument `weigher`: a function of the user that returns the weight of an entry.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;

use super::options::{self, Weighed};
use crate::py::object::encoded_key::EncodedKey;
use crate::py::object::integer::{integer, shown};
use crate::py::object::running_python::call;
use crate::py::store::cached_result::CachedResult;

/// A function that returns the weight of an entry.
pub(crate) struct Weigher {
    pub(super) function: Py<PyAny>,
    pub(super) of: Weighed,
}

impl Weigher {
    /// Converts the argument `weigher`.
    pub(super) fn of(value: &Bound<'_, PyAny>) -> PyResult<Option<Self>> {
        let py = value.py();
        let Some(function) = options::callable("weigher", value)? else { return Ok(None) };
        let module = py.import(intern!(py, "flexcache_rs._weigher"))?;
        let takes_key = call(&module.getattr(intern!(py, "takes_key"))?, [value])?.is_truthy()?;
        Ok(Some(Self { function, of: if takes_key { Weighed::KeyAndValue } else { Weighed::Value } }))
    }

    /// Runs the function.
    pub(super) fn weigh(
        &self,
        key: Borrowed<'_, '_, PyAny>,
        value: Borrowed<'_, '_, PyAny>,
    ) -> PyResult<u64> {
        let py = key.py();
        let value = value.to_owned();
        // The user's function gets the result itself, not the object in which memoize() wraps it.
        let value = match CachedResult::of(&value) {
            Some(result) => result.get().kept(py).unwrap_or_else(|| py.None()).into_bound(py),
            None => value,
        };
        let function = self.function.bind(py);
        let size = match self.of {
            Weighed::Value => call(function, [&value])?,
            Weighed::KeyAndValue => {
                let key = EncodedKey::unwrap(py, key.to_owned().unbind()).into_bound(py);
                call(function, [&key, &value])?
            }
        };
        let shown_function = || shown(&function.as_borrowed());
        let number = integer(&size.as_borrowed())?.ok_or_else(|| {
            let of = size.get_type().name().map_or_else(|_| "that".into(), |name| name.to_string());
            PyTypeError::new_err(format!("weigher {} must return an integer, not {of}", shown_function()))
        })?;
        number.extract::<u64>().map_err(|_| {
            let number = shown(&number.as_any().as_borrowed());
            PyValueError::new_err(format!(
                "weigher {} must return an integer from 0 to 2**64 - 1, not {number}",
                shown_function()
            ))
        })
    }
}
