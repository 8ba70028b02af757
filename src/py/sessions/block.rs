//! `SessionBlock`: the end of a transaction's `with`, which no signal's handler can skip.

use pyo3::intern;
use pyo3::prelude::*;

/// What the transactions without `await` stand on.
///
/// A handler that raises as `__exit__` begins would leave the transaction open if that were a function of Python's: it has
/// not run a single line then. So the first lines are these.
#[pyclass(subclass, frozen, module = "flexcache_rs._core")]
pub(crate) struct SessionBlock;

#[pymethods]
impl SessionBlock {
    #[new]
    #[pyo3(signature = (*_arguments, **_options))]
    fn new(_arguments: &Bound<'_, PyAny>, _options: Option<&Bound<'_, PyAny>>) -> Self {
        Self
    }

    /// Ends the transaction, whatever is raised meanwhile.
    fn __exit__(
        slf: &Bound<'_, Self>,
        kind: &Bound<'_, PyAny>,
        _raised: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let py = slf.py();
        let left = slf.call_method1(intern!(py, "_leave"), (kind.is_none(),));
        if left.is_err() {
            // Does nothing where it has ended. A second handler may raise here, but hardly a third.
            let ended = slf.call_method0(intern!(py, "_end"));
            if ended.is_err() {
                slf.call_method0(intern!(py, "_end"))?;
            }
        }
        left.map(|_| ())
    }
}
