//! The commonest entries of a `RemoteCache`, read without Python. `flexcache_rs/remote/values.py` describes the format.

use flexcache_core::Clock;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};

use super::reply;
use crate::py::object::fallible;
use crate::py::process::clock::SystemClock;

/// The bytes of a header without tags, and where in it the deadline and the nonce are.
const HEAD: usize = 22;
const DEADLINE: std::ops::Range<usize> = 2..10;
const NONCE: std::ops::Range<usize> = 14..HEAD;
const MAGIC: u8 = 0xFC;

/// What is known for reading an entry: the nonce of the namespace, the milliseconds of the server's clock less those of
/// ours, and what makes values of the serializer's bytes.
#[derive(FromPyObject)]
pub(crate) struct Known(Py<PyBytes>, f64, Py<PyAny>);

/// A value, the seconds that it has left, and no tags; None where it is dead. Bytes are returned as they are if more has
/// to be known to read them, or if they cannot be read.
pub(super) fn entry<'py>(py: Python<'py>, raw: &[u8], known: &Known) -> PyResult<Bound<'py, PyAny>> {
    let Known(nonce, offset, loads) = known;
    let as_it_is = || reply::bytes(py, raw);
    if raw.is_empty() {
        return Ok(py.None().into_bound(py));
    }
    let Some((head, body)) = raw.split_at_checked(HEAD) else { return as_it_is() };
    let &[MAGIC, kind, ..] = head else { return as_it_is() };
    let deadline = head.get(DEADLINE).and_then(|bytes| bytes.try_into().ok()).map(i64::from_le_bytes);
    let Some(deadline @ 0..) = deadline else { return as_it_is() };
    if kind > 5 {
        return as_it_is();
    }
    if head.get(NONCE) != Some(nonce.as_bytes(py)) {
        return Ok(py.None().into_bound(py));
    }
    let mut seconds = None;
    if deadline > 0 {
        #[expect(clippy::cast_precision_loss, reason = "times are far below 2^53 milliseconds")]
        let left = deadline as f64 - (SystemClock.now() as f64 / 1e6 + offset);
        if left <= 0.0 {
            return Ok(py.None().into_bound(py));
        }
        seconds = Some(left / 1000.0);
    }
    let Some(value) = value(py, kind, body, loads)? else { return as_it_is() };
    let seconds = match seconds {
        Some(seconds) => fallible::float(py, seconds)?,
        None => py.None().into_bound(py),
    };
    let entry = [value, seconds, PyTuple::empty(py).into_any()];
    Ok(PyTuple::new(py, entry)?.into_any())
}

/// The value of a body; None where Python must say what is wrong with it.
fn value<'py>(
    py: Python<'py>,
    kind: u8,
    body: &[u8],
    loads: &Py<PyAny>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let text = || std::str::from_utf8(body).ok();
    Ok(match kind {
        0 => match loads.bind(py).call1((reply::bytes(py, body)?,)) {
            Ok(value) => Some(value),
            Err(error) if error.is_instance_of::<PyException>(py) => None,
            Err(error) => return Err(error),
        },
        1 => Some(reply::bytes(py, body)?),
        2 => text().map(|text| PyString::from_bytes(py, text.as_bytes())).transpose()?.map(Bound::into_any),
        3 => match text().and_then(|text| text.parse().ok()) {
            Some(number) => Some(fallible::signed_int(py, number)?),
            None => None,
        },
        4 => match text().and_then(|text| text.parse().ok()) {
            Some(number) => Some(fallible::float(py, number)?),
            None => None,
        },
        _ => Some(py.None().into_bound(py)),
    })
}

/// The entry of such bytes; None where there are none.
#[pyfunction]
#[pyo3(name = "_remote_entry")]
pub(crate) fn one_entry<'py>(
    py: Python<'py>,
    raw: Option<PyBackedBytes>,
    known: Known,
) -> PyResult<Bound<'py, PyAny>> {
    raw.as_ref().map_or(Ok(py.None().into_bound(py)), |raw| entry(py, raw, &known))
}

/// The entries of several such bytes, and where in the list those are that are still bytes.
#[pyfunction]
#[pyo3(name = "_remote_entries")]
pub(crate) fn entries<'py>(
    py: Python<'py>,
    found: Vec<Option<PyBackedBytes>>,
    known: Known,
) -> PyResult<(Bound<'py, PyList>, Vec<usize>)> {
    let (made, mut unread) = (PyList::empty(py), Vec::new());
    for (number, raw) in found.iter().enumerate() {
        let entry = raw.as_ref().map_or(Ok(py.None().into_bound(py)), |raw| entry(py, raw, &known))?;
        if entry.is_exact_instance_of::<PyBytes>() {
            unread.push(number);
        }
        made.append(entry)?;
    }
    Ok((made, unread))
}
