//! Encodes the exception of a failed computation, for waiting callers in other processes.

use pyo3::exceptions::PyException;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple, PyType};

use super::loads::{LoadFailedElsewhere, shown};
use crate::py::object::running_python::call;

/// The most bytes of the text of an exception that are passed on, and the most bytes of its pickle.
const LONGEST: usize = 1 << 16;

/// Encodes an exception: whether its only argument is its text, the module and name of its class, the text,
/// and its pickle, if it has one. Each part is preceded by its length.
///
/// `dumps` pickles it, if the store supports that.
pub(crate) fn encode<'py>(
    error: &Bound<'py, PyAny>,
    dumps: impl FnOnce(&Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyBytes>>>,
) -> PyResult<Vec<u8>> {
    let py = error.py();
    let class = error.get_type();
    let arguments = error.getattr(intern!(py, "args"))?.cast_into::<PyTuple>()?;
    let only: Option<String> =
        (arguments.len() == 1).then(|| arguments.get_item(0)).transpose()?.and_then(|one| one.extract().ok());
    let text = match &only {
        Some(text) => text.clone(),
        None => error.str()?.to_string(),
    };
    let pickled = dumps(error).ok().flatten().filter(|bytes| bytes.as_bytes().len() <= LONGEST);
    let module: String = class.getattr(intern!(py, "__module__"))?.extract()?;
    let name: String = class.qualname()?.extract()?;
    let mut text = text;
    while text.len() > LONGEST {
        text.pop();
    }
    let mut encoded = vec![u8::from(only.is_some())];
    let pickled = pickled.as_ref().map_or(&[][..], |bytes| bytes.as_bytes());
    for part in [module.as_bytes(), name.as_bytes(), text.as_bytes(), pickled] {
        encoded.extend(u32::try_from(part.len()).unwrap_or(0).to_le_bytes());
        encoded.extend(part);
    }
    Ok(encoded)
}

fn parts(mut encoded: &[u8]) -> Option<[&[u8]; 4]> {
    let mut parts = [&[][..]; 4];
    for part in &mut parts {
        let (length, rest) = encoded.split_first_chunk()?;
        let (this, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        (*part, encoded) = (this, rest);
    }
    Some(parts)
}

/// Decodes the exception with which a computation of another process has failed.
///
/// `loads` unpickles it, if that is allowed.
pub(crate) fn decode<'py>(
    key: &Bound<'py, PyAny>,
    encoded: &[u8],
    loads: impl FnOnce(&[u8]) -> PyResult<Option<Bound<'py, PyAny>>>,
) -> PyErr {
    let py = key.py();
    let Some((is_only_text, [module, name, text, pickled])) =
        encoded.split_first().and_then(|(first, rest)| Some((*first != 0, parts(rest)?)))
    else {
        return elsewhere(key, "an exception that cannot be read");
    };
    let [module, name, text] = [module, name, text].map(String::from_utf8_lossy);
    unpickled(pickled, loads)
        .or_else(|| if is_only_text && module == "builtins" { built_in(py, &name, &text) } else { None })
        .unwrap_or_else(|| {
            let class = if module == "builtins" { name.to_string() } else { format!("{module}.{name}") };
            elsewhere(key, &format!("{class}: {text}"))
        })
}

fn elsewhere(key: &Bound<'_, PyAny>, what: &str) -> PyErr {
    LoadFailedElsewhere::new_err(format!(
        "computing the value of {} failed in another process: {what}",
        shown(key)
    ))
}

fn unpickled<'py>(
    pickled: &[u8],
    loads: impl FnOnce(&[u8]) -> PyResult<Option<Bound<'py, PyAny>>>,
) -> Option<PyErr> {
    if pickled.is_empty() {
        return None;
    }
    let loaded = loads(pickled).ok()??;
    loaded.is_instance_of::<PyException>().then(|| PyErr::from_value(loaded))
}

fn built_in(py: Python<'_>, name: &str, text: &str) -> Option<PyErr> {
    let class = py.import(intern!(py, "builtins")).ok()?.getattr(name).ok()?.cast_into::<PyType>().ok()?;
    if !class.is_subclass_of::<PyException>().ok()? {
        return None;
    }
    let text = text.into_pyobject(py).ok()?;
    let made = call(class.as_any(), [text.as_any()]).ok()?;
    made.is_instance_of::<PyException>().then(|| PyErr::from_value(made))
}
