//! `RemoteReplies`: a server's replies of bytes that Python has received.

use flexcache_remote::{Decoder, Value};
use pyo3::prelude::*;
use pyo3::types::PyList;

use super::reply::{list, object};
use crate::py::process::guard::Guard;

/// Takes the bytes of a connection as they arrive, and returns replies when they are complete.
///
/// `pushed` is called with the parts of a push, which no request asked for. `failed` creates the exceptions from a
/// word ("refused" or "protocol") and a text.
#[pyclass(frozen, module = "flexcache_rs._core")]
pub(crate) struct RemoteReplies {
    decoder: Guard<Decoder>,
    pushed: Py<PyAny>,
    failed: Py<PyAny>,
}

#[pymethods]
impl RemoteReplies {
    #[new]
    fn new(pushed: Py<PyAny>, failed: Py<PyAny>) -> Self {
        Self { decoder: Guard::new(Decoder::new(), true), pushed, failed }
    }

    /// Take bytes and return the complete replies. A refusal is returned as an exception.
    fn feed<'py>(&self, py: Python<'py>, data: &[u8]) -> PyResult<Bound<'py, PyList>> {
        let failed = self.failed.bind(py);
        let broken = |why: String| match failed.call1(("protocol", why)) {
            Ok(error) => PyErr::from_value(error),
            Err(error) => error,
        };
        let replies = PyList::empty(py);
        self.decoder.with(py, |decoder| decoder.feed(data))?.map_err(broken)?;
        loop {
            let value = match self.decoder.with(py, Decoder::next)?.map_err(broken)? {
                None => return Ok(replies),
                Some(Value::Push(parts)) => self.pushed.bind(py).call1((list(py, parts, failed)?,))?,
                Some(value) => object(py, value, failed)?,
            };
            replies.append(value)?;
        }
    }

    fn __traverse__(&self, visit: pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        visit.call(&self.pushed)?;
        visit.call(&self.failed)
    }
}
