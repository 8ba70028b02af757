//! `cache.query(sql)`: SQL statements of the user.

use flexcache_disk::{Parameters, Rows};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString, PyTuple};

use super::cache::DiskCache;
use super::datum::{Datum, to_object};
use crate::py::object::elements::items;

/// The parameters of one run of a statement.
fn parameters(given: &Bound<'_, PyAny>) -> PyResult<Parameters> {
    let value = |object: &Bound<'_, PyAny>| Datum::any("a parameter", object)?.to_value();
    if let Ok(named) = given.cast::<PyDict>() {
        let pair =
            |(name, object): (Bound<'_, PyAny>, Bound<'_, PyAny>)| Ok((name.extract()?, value(&object)?));
        return items(named)?.into_iter().map(pair).collect::<PyResult<_>>().map(Parameters::ByName);
    }
    let has_values = given.hasattr("__iter__")? || given.hasattr("__getitem__")?;
    if given.is_instance_of::<PyString>() || !has_values {
        let kind = given.get_type();
        return Err(PyTypeError::new_err(format!(
            "parameters must be a sequence of values or a dict, not {}",
            kind.name()?
        )));
    }
    given.try_iter()?.map(|object| value(&object?)).collect::<PyResult<_>>().map(Parameters::ByPlace)
}

/// The names of the columns, the rows as tuples, how many rows were written (-1 where none can be), the last one's number.
type Answer<'py> = (Vec<String>, Bound<'py, PyList>, i64, i64);

fn answer<'py>(py: Python<'py>, rows: &Rows) -> PyResult<Answer<'py>> {
    let list = PyList::empty(py);
    for row in &rows.rows {
        let values: Vec<_> = row.iter().map(|value| to_object(py, value)).collect::<PyResult<_>>()?;
        list.append(PyTuple::new(py, values)?)?;
    }
    let changed = rows.changed.map_or(-1, |changed| i64::try_from(changed).unwrap_or(i64::MAX));
    Ok((rows.columns.clone(), list, changed, rows.last_row))
}

#[pymethods]
impl DiskCache {
    /// Runs a statement that writes nothing; None if it writes.
    fn _query<'py>(
        &self,
        py: Python<'py>,
        sql: &str,
        given: &Bound<'py, PyAny>,
        retry: bool,
    ) -> PyResult<Option<Answer<'py>>> {
        let parameters = parameters(given)?;
        let rows = self.wait(py, retry, |store, patience| store.query(sql, &parameters, patience))?;
        rows.map(|rows| answer(py, &rows)).transpose()
    }

    /// Runs a statement that may write, once for each of these parameters.
    fn _run<'py>(
        &self,
        py: Python<'py>,
        sql: &str,
        given: &Bound<'py, PyAny>,
        retry: bool,
    ) -> PyResult<Answer<'py>> {
        let all: Vec<_> = given.try_iter()?.map(|one| parameters(&one?)).collect::<PyResult<_>>()?;
        let rows = self.wait(py, retry, |store, patience| store.run(sql, &all, patience))?;
        answer(py, &rows)
    }
}
