//! A memoized method bound to an instance: the value of `instance.method` if it is not called at once.

use std::ptr;

use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

use super::memoized::{Memoized, call_memoized};
use super::vectorcall;
use crate::py::object::running_python::hash as hash_of;

/// A memoized function that is bound to an instance. All its calls apply to this instance.
#[pyclass(frozen, weakref, module = "flexcache_rs._core")]
pub(crate) struct BoundMemoized {
    /// The function that the interpreter calls.
    vectorcall: ffi::vectorcallfunc,
    memoized: Py<Memoized>,
    instance: Py<PyAny>,
}

impl BoundMemoized {
    pub(super) fn new<'py>(
        memoized: &Bound<'py, Memoized>,
        instance: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, Self>> {
        let bound = Self {
            vectorcall: call_bound,
            memoized: memoized.clone().unbind(),
            instance: instance.clone().unbind(),
        };
        Bound::new(memoized.py(), bound)
    }

    /// Calls a method of the memoized function, with the instance before the arguments.
    fn about_instance<'py>(
        &self,
        method: &Bound<'py, PyString>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = args.py();
        let mut all = vec![self.instance.bind(py).clone()];
        all.extend(args.iter());
        self.memoized.bind(py).getattr(method)?.call(PyTuple::new(py, all)?, kwargs)
    }
}

#[pymethods]
impl BoundMemoized {
    /// Call the method, or answer from the cache.
    #[pyo3(signature = (*args, **kwargs))]
    fn __call__<'py>(
        this: &Bound<'py, Self>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        vectorcall::call(this, args, kwargs)
    }

    #[getter]
    fn __self__(&self, py: Python<'_>) -> Py<PyAny> {
        self.instance.clone_ref(py)
    }

    #[getter]
    fn __func__(&self, py: Python<'_>) -> Py<Memoized> {
        self.memoized.clone_ref(py)
    }

    #[getter]
    fn __doc__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.memoized.bind(py).getattr(intern!(py, "__doc__"))
    }

    /// The parameters but for the instance.
    #[getter]
    fn __signature__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let inspect = py.import(intern!(py, "inspect"))?;
        let signature = inspect.call_method1(intern!(py, "signature"), (&self.memoized,))?;
        let parameters = signature.getattr(intern!(py, "parameters"))?.call_method0(intern!(py, "values"))?;
        let rest = PyTuple::new(py, parameters.try_iter()?.skip(1).collect::<PyResult<Vec<_>>>()?)?;
        let changed = PyDict::new(py);
        changed.set_item("parameters", rest)?;
        signature.call_method(intern!(py, "replace"), (), Some(&changed))
    }

    /// Everything else is the function's.
    fn __getattr__<'py>(&self, name: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let name = name.cast::<PyString>()?;
        self.memoized.bind(name.py()).getattr(name)
    }

    /// Return the key of a call with these arguments.
    #[pyo3(signature = (*args, **kwargs))]
    fn cache_key<'py>(
        &self,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.about_instance(intern!(args.py(), "_key_of"), args, kwargs)
    }

    /// Forget the result of a call with these arguments. Returns True if there was one.
    #[pyo3(signature = (*args, **kwargs))]
    fn invalidate<'py>(
        &self,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.about_instance(intern!(args.py(), "_invalidate"), args, kwargs)
    }

    /// Return the stored result of a call with these arguments, or None. Does not count as an access.
    #[pyo3(signature = (*args, **kwargs))]
    fn peek<'py>(
        &self,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.about_instance(intern!(args.py(), "_peek"), args, kwargs)
    }

    /// Call the method now, even if there is a result or a computation, and keep its result.
    #[pyo3(signature = (*args, **kwargs))]
    fn refresh<'py>(
        &self,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.about_instance(intern!(args.py(), "_refresh"), args, kwargs)
    }

    /// A method is found again by its name, on its instance.
    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let getattr = py.import(intern!(py, "builtins"))?.getattr(intern!(py, "getattr"))?;
        let name = self.memoized.bind(py).getattr(intern!(py, "__name__"))?;
        let of = PyTuple::new(py, [self.instance.bind(py).clone(), name])?;
        PyTuple::new(py, [getattr, of.into_any()])
    }

    /// The method of a copy of the instance, as of any method.
    fn __deepcopy__<'py>(&self, memo: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = memo.py();
        let copy = py.import(intern!(py, "copy"))?;
        let instance = copy.call_method1(intern!(py, "deepcopy"), (&self.instance, memo))?;
        instance.getattr(self.memoized.bind(py).getattr(intern!(py, "__name__"))?.cast::<PyString>()?)
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> bool {
        other.cast::<Self>().is_ok_and(|other| {
            self.memoized.is(&other.get().memoized) && self.instance.is(&other.get().instance)
        })
    }

    fn __hash__(&self, py: Python<'_>) -> isize {
        let function = hash_of(&self.memoized.bind_borrowed(py).as_any().as_borrowed());
        // This works even if instances are not hashable, as bound methods are compared by the identity of the
        // instance.
        function ^ (self.instance.as_ptr() as isize >> 4)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let name = self.memoized.bind(py).getattr(intern!(py, "__qualname__"))?;
        Ok(format!("<bound method {name} of {}>", self.instance.bind(py).repr()?))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.memoized)?;
        visit.call(&self.instance)
    }
}

unsafe extern "C" fn call_bound(
    this: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    flagged_count: usize,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls attached, with arguments that outlive the call, what it has found this
    // function in, and which it keeps alive meanwhile.
    unsafe {
        let py = Python::assume_attached();
        let bound = Borrowed::from_ptr(py, this).cast_unchecked::<BoundMemoized>();
        let (memoized, instance) = (bound.get().memoized.as_ptr(), bound.get().instance.as_ptr());
        let count = ffi::PyVectorcall_NARGS(flagged_count).cast_unsigned();
        if flagged_count & ffi::PY_VECTORCALL_ARGUMENTS_OFFSET != 0 {
            // The caller lends the item before the arguments, which must be restored.
            let first = args.cast_mut().sub(1);
            let before = ptr::replace(first, instance);
            let result = call_memoized(memoized, first, count + 1, names);
            *first = before;
            return result;
        }
        let keywords = if names.is_null() { 0 } else { ffi::PyTuple_GET_SIZE(names).cast_unsigned() };
        let mut all = Vec::with_capacity(count + keywords + 1);
        all.push(instance);
        all.extend((0..count + keywords).map(|at| *args.add(at)));
        call_memoized(memoized, all.as_ptr(), count + 1, names)
    }
}

/// Makes instances callable without PyO3's wrapping. Called once, before any instance is used.
pub(super) fn install(memoized: &Bound<'_, Memoized>) -> PyResult<()> {
    let instance = BoundMemoized::new(memoized, memoized.as_any())?;
    vectorcall::install(&instance, &raw const instance.get().vectorcall);
    Ok(())
}
