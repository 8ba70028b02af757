//! The key of a call, made from its arguments, which are hashed and compared without building the key.
//!
//! A single exact `str` or `int` is its own key. The key of any other call is a tuple: a prefix if functions
//! share a cache, the positional arguments, a mark and the keyword arguments in their order, and, on request,
//! the types of the arguments. The hash that is computed here is the hash of that tuple, so the tuple is
//! built only if the call has no stored result. In a store, the key is the canonical text of that tuple
//! instead.

use std::ptr;
use std::slice;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyInt, PyString, PyTuple};

use crate::py::object::canonical_key::CanonicalKey;
use crate::py::object::key::{DEEPEST_TUPLE, compare, native_eq, python_hash};
use crate::py::object::running_python::call_raw;

/// Whether our hashes of tuples equal those of this interpreter.
static HASHES_AGREE: AtomicBool = AtomicBool::new(false);

/// Separates positional from keyword arguments in a key.
#[pyclass(frozen, module = "flexcache_rs._core")]
pub(crate) struct KeywordMark;

impl KeywordMark {
    /// The one there is.
    pub(crate) fn get(py: Python<'_>) -> PyResult<Py<Self>> {
        static ONE: PyOnceLock<Py<KeywordMark>> = PyOnceLock::new();
        ONE.get_or_try_init(py, || Py::new(py, Self)).map(|one| one.clone_ref(py))
    }
}

#[pymethods]
#[expect(clippy::unused_self, reason = "Python asks an instance")]
impl KeywordMark {
    /// There is one, also in pickles of keys.
    fn __reduce__(&self) -> &'static str {
        "_KEYWORDS"
    }

    fn __repr__(&self) -> &'static str {
        "<keywords>"
    }
}

/// How the keys of a function are made from the arguments.
pub(crate) struct Arguments {
    /// The first item of keys, if functions share a cache.
    pub(crate) prefix: Option<Py<PyAny>>,
    mark: Py<KeywordMark>,
    /// The hash of the mark.
    hash_of_mark: isize,
    pub(crate) typed: bool,
    /// A bit for each positional argument that is ignored.
    pub(crate) ignored_positions: u64,
    /// The keyword arguments that are ignored.
    pub(crate) ignored_names: Vec<Py<PyString>>,
}

/// The arguments of one call, as the interpreter passes them.
#[derive(Clone, Copy)]
pub(crate) struct Call<'a, 'py> {
    py: Python<'py>,
    args: *const *mut ffi::PyObject,
    /// The number of positional arguments, as passed: with a flag in the highest bit.
    flagged_count: usize,
    names: *mut ffi::PyObject,
    /// Replaces the first positional argument, if that is an instance that must not be in keys.
    instance: Option<Borrowed<'a, 'py, PyAny>>,
    /// Follows the prefix, and distinguishes results since the last clear() from those before.
    nonce: Option<Borrowed<'a, 'py, PyAny>>,
}

impl<'a, 'py> Call<'a, 'py> {
    /// # Safety
    ///
    /// The arguments must be what the interpreter passes to a vectorcall, and outlive `'a`.
    #[inline]
    pub(crate) unsafe fn new(
        py: Python<'py>,
        args: *const *mut ffi::PyObject,
        flagged_count: usize,
        names: *mut ffi::PyObject,
    ) -> Self {
        // SAFETY: `names` is null or a tuple.
        let none = names.is_null() || unsafe { ffi::PyTuple_GET_SIZE(names) } == 0;
        let names = if none { ptr::null_mut() } else { names };
        Self { py, args, flagged_count, names, instance: None, nonce: None }
    }

    /// The same call, with a replacement for its first argument.
    pub(crate) fn of_instance<'b>(&self, instance: Borrowed<'b, 'py, PyAny>) -> Call<'b, 'py>
    where
        'a: 'b,
    {
        Call { instance: Some(instance), ..*self }
    }

    /// The same call, with a nonce in its key.
    pub(crate) fn with_nonce<'b>(&self, nonce: Borrowed<'b, 'py, PyAny>) -> Call<'b, 'py>
    where
        'a: 'b,
    {
        Call { nonce: Some(nonce), ..*self }
    }

    pub(crate) fn py(&self) -> Python<'py> {
        self.py
    }

    /// The first positional argument.
    pub(crate) fn first(&self) -> Option<Borrowed<'a, 'py, PyAny>> {
        self.positional().first().map(|&first| self.object(first))
    }

    #[inline]
    fn positional(&self) -> &'a [*mut ffi::PyObject] {
        // SAFETY: the promise of `new`.
        unsafe { self.given(0, ffi::PyVectorcall_NARGS(self.flagged_count).cast_unsigned()) }
    }

    /// # Safety
    ///
    /// There must be as many arguments.
    #[inline]
    unsafe fn given(&self, from: usize, count: usize) -> &'a [*mut ffi::PyObject] {
        // A call without arguments may pass null.
        // SAFETY: the caller's promise, and that of `new`.
        if count == 0 { &[] } else { unsafe { slice::from_raw_parts(self.args.add(from), count) } }
    }

    /// The names and values of the keyword arguments.
    #[inline]
    fn keywords(&self) -> impl Iterator<Item = (*mut ffi::PyObject, *mut ffi::PyObject)> {
        let (names, positional) = (self.names, self.positional().len());
        // SAFETY: the promise of `new`: a value for each name follows the positional arguments.
        let values = unsafe {
            let count = if names.is_null() { 0 } else { ffi::PyTuple_GET_SIZE(names).cast_unsigned() };
            self.given(positional, count)
        };
        values.iter().enumerate().map(move |(at, &value)| {
            // SAFETY: `at` is below the number of names.
            (unsafe { ffi::PyTuple_GET_ITEM(names, at.cast_signed()) }, value)
        })
    }

    /// Whether there are keyword arguments.
    #[inline(always)]
    pub(crate) fn has_keywords(&self) -> bool {
        !self.names.is_null()
    }

    /// The argument, if it is the only one, and an exact `str` or `int`.
    #[inline(always)]
    pub(crate) fn single(&self) -> Option<Borrowed<'a, 'py, PyAny>> {
        if !self.names.is_null() {
            return None;
        }
        let &[argument] = self.positional() else { return None };
        // SAFETY: the argument is a valid object.
        let itself =
            unsafe { ffi::PyUnicode_CheckExact(argument) != 0 || ffi::PyLong_CheckExact(argument) != 0 };
        itself.then(|| self.object(argument))
    }

    /// The nonce, if there is one.
    pub(crate) fn nonce(&self) -> Option<Borrowed<'a, 'py, PyAny>> {
        self.nonce
    }

    /// Calls a function with these arguments.
    pub(crate) fn call(&self, function: &Py<PyAny>) -> PyResult<Bound<'py, PyAny>> {
        // SAFETY: the promise of `new`.
        unsafe { call_raw(function.bind(self.py), self.args, self.flagged_count, self.names) }
    }

    /// The positional arguments as a tuple.
    pub(crate) fn args(&self) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(self.py, self.positional().iter().map(|&argument| self.object(argument)))
    }

    /// The keyword arguments as a dict, if there are any.
    pub(crate) fn kwargs(&self) -> PyResult<Option<Bound<'py, PyDict>>> {
        if self.names.is_null() {
            return Ok(None);
        }
        let kwargs = PyDict::new(self.py);
        for (name, value) in self.keywords() {
            kwargs.set_item(self.object(name), self.object(value))?;
        }
        Ok(Some(kwargs))
    }

    #[inline]
    fn object(&self, pointer: *mut ffi::PyObject) -> Borrowed<'a, 'py, PyAny> {
        // SAFETY: an argument or a name of this call, alive as long as it.
        unsafe { Borrowed::from_ptr(self.py, pointer) }
    }
}

impl Arguments {
    pub(crate) fn new(
        py: Python<'_>,
        prefix: Option<Py<PyAny>>,
        typed: bool,
        ignored_positions: u64,
        ignored_names: Vec<Py<PyString>>,
    ) -> PyResult<Self> {
        let mark = KeywordMark::get(py)?;
        let hash_of_mark = mark.bind(py).hash()?;
        Ok(Self { prefix, mark, hash_of_mark, typed, ignored_positions, ignored_names })
    }

    /// Whether a call's [single](Call::single) argument is its key.
    pub(crate) fn take_single(&self) -> bool {
        !self.typed && self.prefix.is_none() && self.ignored_positions == 0
    }

    /// The single argument of a call, if that is its key.
    #[inline(always)]
    pub(crate) fn sole<'a, 'py>(&self, call: &Call<'a, 'py>) -> Option<Borrowed<'a, 'py, PyAny>> {
        if self.typed || self.prefix.is_some() || call.instance.is_some() {
            return None;
        }
        if !call.names.is_null() && (self.ignored_names.is_empty() || self.keywords(call).next().is_some()) {
            return None;
        }
        let positional = call.positional();
        let counting = if self.ignored_positions == 0 {
            positional
        } else if self.ignored_positions == 1 {
            positional.get(1..)?
        } else {
            return None;
        };
        let &[argument] = counting else { return None };
        // SAFETY: the argument is a valid object.
        let itself =
            unsafe { ffi::PyUnicode_CheckExact(argument) != 0 || ffi::PyLong_CheckExact(argument) != 0 };
        itself.then(|| call.object(argument))
    }

    /// Calls `each` with the parts of the key in order, until it returns false. Returns whether it never did.
    #[inline(always)]
    fn all(&self, call: &Call<'_, '_>, mut each: impl FnMut(*mut ffi::PyObject) -> bool) -> bool {
        if let Some(prefix) = &self.prefix
            && !each(prefix.as_ptr())
        {
            return false;
        }
        if let Some(nonce) = call.nonce
            && !each(nonce.as_ptr())
        {
            return false;
        }
        if let Some(instance) = call.instance
            && !each(instance.as_ptr())
        {
            return false;
        }
        if self.ignored_positions == 0 && call.instance.is_none() {
            if !call.positional().iter().all(|&argument| each(argument)) {
                return false;
            }
        } else if !self.positional(call).all(&mut each) {
            return false;
        }
        if !call.names.is_null() {
            let mut keywords = self.keywords(call);
            if let Some((name, value)) = keywords.next()
                && (!each(self.mark.as_ptr()) || !each(name) || !each(value))
            {
                return false;
            }
            if !keywords.all(|(name, value)| each(name) && each(value)) {
                return false;
            }
        }
        if self.typed {
            // SAFETY: the arguments are valid objects, and keep their types alive.
            let of = |argument| unsafe { ffi::Py_TYPE(argument).cast::<ffi::PyObject>() };
            return self.positional(call).map(of).all(&mut each)
                && self.keywords(call).all(|(_, value)| each(of(value)));
        }
        true
    }

    #[inline(always)]
    fn positional(&self, call: &Call<'_, '_>) -> impl Iterator<Item = *mut ffi::PyObject> {
        let ignored = self.ignored_positions | u64::from(call.instance.is_some());
        let counts = move |at: usize| ignored == 0 || at >= 64 || ignored >> at & 1 == 0;
        call.positional().iter().enumerate().filter(move |&(at, _)| counts(at)).map(|(_, &argument)| argument)
    }

    #[inline(always)]
    fn keywords(
        &self,
        call: &Call<'_, '_>,
    ) -> impl Iterator<Item = (*mut ffi::PyObject, *mut ffi::PyObject)> {
        let py = call.py;
        call.keywords().filter(move |&(name, _)| {
            self.ignored_names.is_empty() || {
                // SAFETY: the name is a valid object, borrowed from the call.
                let name = unsafe { Borrowed::from_ptr(py, name) };
                !self.ignored_names.iter().any(|ignored| native_eq(ignored.as_any(), &name) == Some(true))
            }
        })
    }

    /// The hash of the key, as Python would compute it.
    ///
    /// # Errors
    ///
    /// What `__hash__` of an argument raises.
    #[inline]
    pub(crate) fn hash(&self, call: &Call<'_, '_>) -> PyResult<isize> {
        if !HASHES_AGREE.load(Ordering::Relaxed) {
            return python_hash(&self.key(call)?.as_borrowed());
        }
        let (mut hash, mut failure) = (TupleHash::new(), None);
        self.all(call, |part| {
            if part == self.mark.as_ptr() {
                hash.add(self.hash_of_mark);
                return true;
            }
            match python_hash(&call.object(part)) {
                Ok(of_part) => {
                    hash.add(of_part);
                    true
                }
                Err(error) => {
                    failure = Some(error);
                    false
                }
            }
        });
        failure.map_or_else(|| Ok(hash.finish()), Err)
    }

    /// Whether a stored key is that of this call; `None` if only Python code can tell.
    #[inline]
    pub(crate) fn native_eq(&self, stored: &Py<PyAny>, call: &Call<'_, '_>) -> Option<bool> {
        let tuple = stored.as_ptr();
        // SAFETY: `stored` is a valid object, and a tuple keeps its items alive.
        unsafe {
            if ffi::PyTuple_CheckExact(tuple) == 0 {
                return None;
            }
            let (mut at, len) = (0, ffi::PyTuple_GET_SIZE(tuple));
            let mut unknown = false;
            let equal = self.all(call, |part| {
                if at == len {
                    return false;
                }
                let item = ffi::PyTuple_GET_ITEM(tuple, at);
                at += 1;
                if item == part {
                    return true;
                }
                match compare(item, part, DEEPEST_TUPLE) {
                    Some(equal) => equal,
                    None => {
                        unknown = true;
                        false
                    }
                }
            });
            if unknown { None } else { Some(equal && at == len) }
        }
    }

    /// The key in a store, which is the same text in every process. May run Python code.
    pub(crate) fn key_in_store<'py>(&self, call: &Call<'_, 'py>) -> PyResult<Bound<'py, PyString>> {
        let (mut key, mut failure) = (CanonicalKey::begin(), None);
        self.all(call, |part| {
            if part == self.mark.as_ptr() {
                key.keywords();
                return true;
            }
            key.part(&call.object(part)).map_err(|error| failure = Some(error)).is_ok()
        });
        failure.map_or_else(|| key.finish(call.py), Err)
    }

    /// The key itself.
    pub(crate) fn key<'py>(&self, call: &Call<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        if let Some(sole) = self.sole(call) {
            return Ok(sole.to_owned());
        }
        let mut parts = Vec::new();
        self.all(call, |part| {
            parts.push(call.object(part).to_owned());
            true
        });
        Ok(PyTuple::new(call.py, parts)?.into_any())
    }
}

/// The hash of a tuple, from those of its items: the parts of xxHash that CPython uses.
struct TupleHash {
    sum: u64,
    len: u64,
}

impl TupleHash {
    const PRIMES: [u64; 3] =
        [11_400_714_785_074_694_791, 14_029_467_366_897_019_727, 2_870_177_450_012_600_261];

    #[inline]
    fn new() -> Self {
        Self { sum: Self::PRIMES[2], len: 0 }
    }

    #[inline]
    fn add(&mut self, hash: isize) {
        self.sum = self.sum.wrapping_add((hash.cast_unsigned() as u64).wrapping_mul(Self::PRIMES[1]));
        self.sum = self.sum.rotate_left(31).wrapping_mul(Self::PRIMES[0]);
        self.len += 1;
    }

    #[inline]
    fn finish(self) -> isize {
        let sum = self.sum.wrapping_add(self.len ^ Self::PRIMES[2] ^ 0x0035_d373);
        #[expect(clippy::cast_possible_truncation, reason = "64 bits, or it is not used")]
        let hash = (sum as usize).cast_signed();
        if hash == -1 { 1_546_275_796 } else { hash }
    }
}

/// Checks that this interpreter computes the hashes of tuples as this module does.
pub(crate) fn compare_hashes(py: Python<'_>) -> PyResult<()> {
    let agree = cfg!(target_pointer_width = "64") && {
        let mut agree = true;
        for sample in [Vec::<i64>::new(), vec![1], vec![-1, 1 << 40, 7]] {
            let mut hash = TupleHash::new();
            for &item in &sample {
                hash.add(python_hash(&PyInt::new(py, item).as_any().as_borrowed())?);
            }
            agree &= hash.finish() == PyTuple::new(py, &sample)?.hash()?;
        }
        agree
    };
    HASHES_AGREE.store(agree, Ordering::Relaxed);
    Ok(())
}
