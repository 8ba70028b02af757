//! The keys on the server under which values are stored. `flexcache_rs/remote/keys.py` describes the format.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString};

use super::reply;

/// The places of keys. Of plain text, it is what comes before, the text and `}`. `other` makes those of other keys.
#[pyfunction]
#[pyo3(name = "_remote_places")]
pub(crate) fn places<'py>(
    before: &Bound<'py, PyBytes>,
    keys: Vec<Bound<'py, PyAny>>,
    other: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyList>> {
    let (py, places) = (before.py(), PyList::empty(before.py()));
    let mut place = before.as_bytes().to_vec();
    for key in keys {
        place.truncate(before.as_bytes().len());
        let text = key.cast_exact::<PyString>().ok().map(Bound::to_str).transpose().ok().flatten();
        match text.filter(|text| !text.is_empty() && !text.starts_with(['~', '}'])) {
            Some(text) => {
                place.extend_from_slice(text.as_bytes());
                place.push(b'}');
                places.append(reply::bytes(py, &place)?)?;
            }
            None => places.append(other.call1((key,))?)?,
        }
    }
    Ok(places)
}
