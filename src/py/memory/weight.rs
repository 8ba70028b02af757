//! The weight of an entry, by its value's `item_size` or by the weigher.

use pyo3::prelude::*;

use super::detours::Detours;
use super::state::FlexCache;
use super::weigher::Weigher;
use crate::py::object::hooks;
use crate::py::object::running_python::attached;

impl FlexCache {
    /// The weight of an entry: the result of the weigher or of its value's `item_size`, or 1. Runs Python
    /// code.
    #[inline(always)]
    pub(crate) fn weight_of(
        &self,
        key: Borrowed<'_, '_, PyAny>,
        value: Borrowed<'_, '_, PyAny>,
    ) -> PyResult<u64> {
        let detours = self.detours.get();
        if detours & Detours::WEIGHER != 0 {
            return self.weight_by_function(key, value);
        }
        if detours & Detours::WEIGHTLESS != 0 { Ok(1) } else { hooks::weight(&value) }
    }

    /// The weigher that the cache was given.
    pub(super) fn own_weigher(&self, py: Python<'_>) -> PyResult<Option<Weigher>> {
        let Some(of) = self.options.weigher else { return Ok(None) };
        let Some(functions) = &self.functions else { return Ok(None) };
        let function =
            functions.weigher.with(py, |function| function.as_ref().map(|one| one.clone_ref(py)))?;
        Ok(function.map(|function| Weigher { function, of }))
    }

    #[cold]
    fn weight_by_function(
        &self,
        key: Borrowed<'_, '_, PyAny>,
        value: Borrowed<'_, '_, PyAny>,
    ) -> PyResult<u64> {
        attached(key.py(), |py| self.own_weigher(py)?.map_or(Ok(1), |weigher| weigher.weigh(key, value)))
    }
}
