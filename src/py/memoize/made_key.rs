//! Keys that need more than the arguments: those of methods, those that the user's function makes, and those
//! with a nonce.

use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyInt, PyTuple, PyWeakrefMethods, PyWeakrefReference};

use super::call_key::Call;
use super::memoized::{LookupKey, Memoized};
use crate::py::memory::any_store::Complicated;
use crate::py::memory::read::site;
use crate::py::memory::state::FlexCache;
use crate::py::memory::tier::Freshness;
use crate::py::object::canonical_key::CanonicalKey;
use crate::py::object::running_python::call as call_python;
use crate::py::process::clock::ClockOfSection;

/// The number of classes that are remembered as ones whose instances are ordinary arguments.
const MOST_PLAIN_CLASSES: usize = 8;

impl Memoized {
    /// The object that replaces the instance on which a method is called.
    pub(super) fn instance<'py>(
        &self,
        this: &Borrowed<'_, 'py, Self>,
        call: &Call<'_, 'py>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = this.py();
        let (Some(instances), Some(instance)) = (self.instances.get(py), call.first()) else {
            return Ok(None);
        };
        // SAFETY: the instance is a valid object, and keeps its class alive.
        let class = unsafe {
            let class = ffi::Py_TYPE(instance.as_ptr());
            if ffi::PyType_GetFlags(class) & ffi::Py_TPFLAGS_HEAPTYPE == 0 {
                // A built-in class: a function in a class body cannot be a method of it.
                return Ok(None);
            }
            Borrowed::from_ptr(py, class.cast::<ffi::PyObject>())
        };
        let address = PyInt::new(py, instance.as_ptr() as usize);
        if let Some(known) = instances.bind(py).get_item(&address)?
            // SAFETY: only subclasses of weak references are in there.
            && unsafe { known.cast_unchecked::<PyWeakrefReference>() }
                .upgrade()
                .is_some_and(|alive| alive.is(&*instance))
        {
            return Ok(Some(known));
        }
        if self
            .plain_classes
            .with(py, |plain| {
                let known = plain.iter().find(|known| known.0 == class.as_ptr() as usize)?;
                known.1.bind(py).upgrade().filter(|alive| alive.is(&*class))
            })?
            .is_some()
        {
            return Ok(None);
        }
        let meet = this.getattr(intern!(py, "_meet"))?;
        let stands = call_python(&meet, [&instance.to_owned()])?;
        if stands.is_none() {
            let weak = PyWeakrefReference::new(&class)?.unbind();
            let address = class.as_ptr() as usize;
            let before = self.plain_classes.with(py, |plain| {
                // An earlier class at the same address is gone.
                let at = plain.iter().position(|known| known.0 == address);
                let at = at.or_else(|| (plain.len() == MOST_PLAIN_CLASSES).then_some(0));
                let before = at.map(|at| plain.swap_remove(at));
                plain.push((address, weak));
                before
            })?;
            drop(before);
            return Ok(None);
        }
        Ok(Some(stands))
    }

    /// The nonce that follows the prefix in keys, if there is one.
    pub(super) fn nonce<'py>(&self, this: &Borrowed<'_, 'py, Self>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = this.py();
        let (true, Some(cache)) = (self.in_store, &self.cache) else { return Ok(None) };
        let tier = cache.get().tier.as_ref();
        let is_live = |of| tier.map_or(Ok(true), |tier| tier.is_live(py, of));
        if let Some(nonce) = self.known_nonce(py, is_live)? {
            return Ok(Some(nonce));
        }
        // The stamp is taken before the nonce is read, as that may change right afterwards.
        let place = this.getattr(intern!(py, "_place_of_nonce"))?;
        let freshness = match tier {
            Some(tier) => {
                Freshness { fetched: tier.asked_at(), stamp: tier.store.stamp(place.as_borrowed())? }
            }
            None => Freshness::default(),
        };
        let read = call_python(&this.getattr(intern!(py, "_read_nonce"))?, [])?;
        let shared = read.clone().unbind();
        let before = self.nonce.with(py, |nonce| nonce.replace((freshness, shared)))?;
        drop(before);
        Ok(Some(read))
    }

    /// The nonce that was read last, if it is still current.
    fn known_nonce<'py>(
        &self,
        py: Python<'py>,
        is_live: impl FnOnce(Freshness) -> PyResult<bool>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let known = self
            .nonce
            .with(py, |nonce| nonce.as_ref().map(|(freshness, nonce)| (*freshness, nonce.clone_ref(py))))?;
        match known {
            Some((freshness, nonce)) if is_live(freshness)? => Ok(Some(nonce.into_bound(py))),
            _ => Ok(None),
        }
    }

    /// Whether a call has to wait for the store before its key can be made, which it must not do on an event
    /// loop.
    fn waits_for_nonce(&self, py: Python<'_>, cache: Borrowed<'_, '_, FlexCache>) -> PyResult<bool> {
        if self.awaited.is_none() || !self.in_store {
            return Ok(false);
        }
        let tier = cache.get().tier.as_ref();
        let is_live = |of| {
            Ok(tier
                .is_none_or(|tier| tier.is_live_natively(py, of, &ClockOfSection::default()) == Some(true)))
        };
        Ok(self.known_nonce(py, is_live)?.is_none())
    }

    /// A key that the user's function made; with a prefix if other functions share the cache.
    pub(super) fn named<'py>(
        &self,
        call: &Call<'_, 'py>,
        key: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        match (&self.arguments.prefix, call.nonce()) {
            (Some(prefix), Some(nonce)) => {
                let mut in_store = CanonicalKey::begin();
                for part in [prefix.bind(key.py()), &nonce.to_owned(), &key] {
                    in_store.part(part)?;
                }
                in_store.finish(key.py()).map(Bound::into_any)
            }
            _ => Ok(key),
        }
    }

    /// The key of a call.
    pub(super) fn key_of<'py>(this: &Bound<'py, Self>, call: Call<'_, 'py>) -> PyResult<Bound<'py, PyAny>> {
        let memo = this.get();
        let nonce = memo.nonce(&this.as_borrowed())?;
        let call = nonce.as_ref().map_or(call, |nonce| call.with_nonce(nonce.as_borrowed()));
        if let Some(key) = &memo.key {
            return memo.named(&call, call.call(key)?);
        }
        let instance = memo.instance(&this.as_borrowed(), &call)?;
        let call = instance.as_ref().map_or(call, |instance| call.of_instance(instance.as_borrowed()));
        if memo.in_store {
            return memo.arguments.key_in_store(&call).map(Bound::into_any);
        }
        memo.arguments.key(&call)
    }

    /// Calls `then` with the call. If the function has `normalize`, equal calls that are written differently
    /// are made the same first.
    pub(super) fn normalized<'py, R>(
        &self,
        call: &Call<'_, 'py>,
        then: impl FnOnce(Call<'_, 'py>) -> PyResult<R>,
    ) -> PyResult<R> {
        let Some(normalize) = &self.normalize else { return then(*call) };
        let py = call.py();
        let (args, kwargs) = (call.args()?, call.kwargs()?.unwrap_or_else(|| PyDict::new(py)));
        let same = call_python(normalize.bind(py), [args.as_any(), kwargs.as_any()])?;
        let (args, kwargs) = same.extract::<(Bound<'py, PyTuple>, Bound<'py, PyDict>)>()?;
        let mut all: Vec<_> = args.iter().collect();
        let mut names = Vec::with_capacity(kwargs.len());
        for (name, value) in &kwargs {
            names.push(name);
            all.push(value);
        }
        let names = PyTuple::new(py, names)?;
        let pointers: Vec<_> = all.iter().map(Bound::as_ptr).collect();
        // SAFETY: arguments as the interpreter would pass them, alive until `then` has returned.
        then(unsafe { Call::new(py, pointers.as_ptr(), args.len(), names.as_ptr()) })
    }

    #[cold]
    #[inline(never)]
    pub(super) fn answer_with_made_key<'py>(
        &self,
        this: Borrowed<'_, 'py, Self>,
        cache: Borrowed<'_, 'py, FlexCache>,
        call: Call<'_, 'py>,
    ) -> PyResult<Py<PyAny>> {
        self.normalized(&call, |call| self.answer_with_key_of(this, cache, call))
    }

    fn answer_with_key_of<'py>(
        &self,
        this: Borrowed<'_, 'py, Self>,
        cache: Borrowed<'_, 'py, FlexCache>,
        call: Call<'_, 'py>,
    ) -> PyResult<Py<PyAny>> {
        let py = this.py();
        if self.waits_for_nonce(py, cache)? {
            let (args, kwargs) = (call.args()?, call.kwargs()?.unwrap_or_else(|| PyDict::new(py)));
            let arguments = [args.as_any(), kwargs.as_any()];
            return Self::answer_by(this, intern!(py, "_call_with_nonce"), arguments);
        }
        let nonce = self.nonce(&this)?;
        let call = nonce.as_ref().map_or(call, |nonce| call.with_nonce(nonce.as_borrowed()));
        if let Some(key) = &self.key {
            let key = self.named(&call, call.call(key)?)?;
            let hash =
                cache.get().hash(key.as_borrowed()).map_err(|error| self.unhashable(this.py(), error))?;
            return self.look_up(this, cache, &call, LookupKey { key, hash });
        }
        let instance = self.instance(&this, &call)?;
        let call = instance.as_ref().map_or(call, |instance| call.of_instance(instance.as_borrowed()));
        if self.in_store {
            let key = self.arguments.key_in_store(&call)?.into_any();
            let hash = cache.get().hash(key.as_borrowed())?;
            if let Ok(Some(value)) = cache.get().read_if_plain::<{ site::MEMOIZED }>(key.as_borrowed(), hash)
            {
                return self.hit(this, value, &call, |_| Ok(key));
            }
            return self.look_up(this, cache, &call, LookupKey { key, hash });
        }
        let hash = self.arguments.hash(&call).map_err(|error| self.unhashable(this.py(), error))?;
        let hash = cache.get().hash_of(hash);
        match self.read_call(cache, &call, hash) {
            Ok(Some(value)) => self.hit(this, value, &call, |_| self.arguments.key(&call)),
            Ok(None) => self.miss(this, cache, &call, LookupKey { key: self.arguments.key(&call)?, hash }),
            Err(Complicated) => {
                self.look_up(this, cache, &call, LookupKey { key: self.arguments.key(&call)?, hash })
            }
        }
    }
}
