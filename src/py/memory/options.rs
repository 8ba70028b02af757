//! Checks the arguments of `FlexCache(...)`.

use std::ops::Deref;
use std::path::PathBuf;

use flexcache_core::policy::Goal;
use flexcache_core::{Limits, Nanos, OutOfMemory, TryBox};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyString, PyTuple};

use super::any_policy::PolicyName;
use crate::py::object::argument::wrong_type;
use crate::py::object::did_you_mean;
use crate::py::object::duration::{self, Ttl};
use crate::py::object::integer::{integer, shown};
use crate::py::object::tags;

/// The most shards; no machine profits from more.
const MOST_SHARDS: u64 = 1024;

/// The longest lease: a day. A process that dies may keep a key reserved for that long.
const LONGEST_LEASE: Nanos = 86_400_000_000_000;

/// The default of the number of lookups that are recorded.
pub(crate) const MOST_RECORDED: u64 = 10_000_000;

/// The arguments of a weigher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weighed {
    Value,
    KeyAndValue,
}

/// A trace to write.
#[derive(PartialEq, Eq)]
pub(crate) struct Recording {
    pub(crate) path: PathBuf,
    /// The most lookups to record.
    pub(crate) limit: u64,
}

/// The options of a cache.
#[derive(PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) policy: PolicyName,
    pub(crate) goal: Goal,
    pub(crate) scan_interval: Nanos,
    pub(crate) default_ttl: Option<Ttl>,
    pub(crate) thread_safe: bool,
    pub(crate) shards: u64,
    /// The least time between two scans of the background thread; `None` without one.
    pub(crate) background: Option<Nanos>,
    /// How long a key that the store does not have is not looked up again; `None` if each read asks the
    /// store.
    pub(crate) negative_ttl: Option<Nanos>,
    pub(crate) name: Option<Box<str>>,
    /// Whether methods of values are called when entries are stored and removed.
    pub(crate) runs_hooks: bool,
    /// Whether `close` and `aclose` of values are called when entries are removed.
    pub(crate) closes_values: bool,
    /// The arguments of the weigher, if there is one.
    pub(crate) weigher: Option<Weighed>,
    /// The trace to write.
    pub(crate) record: Option<Box<Recording>>,
}

impl Options {
    /// The default options.
    const DEFAULT: Self = Self {
        policy: PolicyName::Lru,
        goal: Goal::Hits,
        scan_interval: 0,
        default_ttl: None,
        thread_safe: true,
        shards: 1,
        background: None,
        negative_ttl: None,
        name: None,
        runs_hooks: true,
        closes_values: true,
        weigher: None,
        record: None,
    };
}

impl Default for Options {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// The options of a cache. Most caches have the defaults, for which nothing is allocated.
pub(crate) struct KeptOptions(Option<TryBox<Options>>);

impl KeptOptions {
    pub(super) fn new(options: Options) -> Result<Self, OutOfMemory> {
        let is_default = options == Options::DEFAULT;
        Ok(Self(if is_default { None } else { Some(TryBox::new(options)?) }))
    }

    /// Bytes allocated for them.
    pub(super) fn allocated_bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |_| size_of::<Options>())
    }
}

impl Deref for KeptOptions {
    type Target = Options;

    fn deref(&self) -> &Options {
        static DEFAULT: Options = Options::DEFAULT;
        self.0.as_ref().map_or(&DEFAULT, |options| options)
    }
}

/// An argument that may be missing. A `None` that was passed is a value like any other.
pub(crate) struct OptionalArgument<'py>(pub(crate) Option<Bound<'py, PyAny>>);

impl<'py> FromPyObject<'_, 'py> for OptionalArgument<'py> {
    type Error = std::convert::Infallible;

    fn extract(value: Borrowed<'_, 'py, PyAny>) -> Result<Self, Self::Error> {
        Ok(Self(Some(value.to_owned())))
    }
}

/// The seconds for which a computation reserves its key; `None` if it does not.
pub(super) fn lease(value: &Bound<'_, PyAny>) -> PyResult<Option<f64>> {
    if value.is_none() {
        return Ok(None);
    }
    let nanos = duration::interval("lease", value)?;
    if nanos == 0 || nanos > LONGEST_LEASE {
        return Err(PyValueError::new_err(format!(
            "lease must be None, or more than 0 seconds and at most a day, not {}",
            shown(&value.as_borrowed())
        )));
    }
    Ok(Some(std::time::Duration::from_nanos(nanos).as_secs_f64()))
}

impl<'py> OptionalArgument<'py> {
    pub(crate) const ABSENT: Self = Self(None);

    /// The argument, converted by `convert`, or a default if it is missing.
    pub(crate) fn or<T>(
        &self,
        otherwise: T,
        convert: impl FnOnce(&Bound<'py, PyAny>) -> PyResult<T>,
    ) -> PyResult<T> {
        self.0.as_ref().map_or(Ok(otherwise), convert)
    }

    /// The argument, converted by `convert`, which means something only with another argument, `needed`. A program
    /// may pass the default all the same.
    pub(crate) fn with<T: PartialEq>(
        &self,
        (name, otherwise): (&str, T),
        (needed, is_given): (&str, bool),
        convert: impl FnOnce(&Bound<'py, PyAny>) -> PyResult<T>,
    ) -> PyResult<T> {
        let Some(value) = &self.0 else { return Ok(otherwise) };
        let converted = convert(value)?;
        if !is_given && converted != otherwise {
            return Err(PyValueError::new_err(format!(
                "{name}={} has no effect without {needed}=: pass {needed}= as well, or leave {name}= out",
                shown(&value.as_borrowed())
            )));
        }
        Ok(converted)
    }
}

/// The behaviour of `pop` if the key is absent.
pub(crate) enum OrRaise {
    Raise,
    Default(Py<PyAny>),
}

impl<'py> FromPyObject<'_, 'py> for OrRaise {
    type Error = std::convert::Infallible;

    fn extract(default: Borrowed<'_, 'py, PyAny>) -> Result<Self, Self::Error> {
        Ok(Self::Default(default.to_owned().unbind()))
    }
}

/// Where to write a trace.
pub(crate) fn record(value: &Bound<'_, PyAny>) -> PyResult<Option<PathBuf>> {
    if value.is_none() {
        return Ok(None);
    }
    value.extract().map(Some).map_err(|_| wrong_type("record", "a path or None", value))
}

/// A number from 0 up to, but not including, 1, each as likely.
#[pyfunction]
#[pyo3(name = "_random")]
pub(crate) fn random() -> f64 {
    rand::random()
}

/// The tags as a tuple, checked.
#[pyfunction]
#[pyo3(name = "_tags")]
pub(crate) fn tuple_of_tags<'py>(tags: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyTuple>> {
    let py = tags.py();
    let tags = tags::tags(Some(tags.as_borrowed()))?;
    PyTuple::new(py, tags.iter().map(|tag| &**tag))
}

pub(crate) fn flag(argument: &str, value: &Bound<'_, PyAny>) -> PyResult<bool> {
    let flag = value.cast::<PyBool>().map_err(|_| wrong_type(argument, "True or False", value))?;
    Ok(flag.is_true())
}

pub(crate) fn text(argument: &str, value: &Bound<'_, PyAny>) -> PyResult<Option<Box<str>>> {
    if value.is_none() {
        return Ok(None);
    }
    let text = value.cast::<PyString>().map_err(|_| wrong_type(argument, "a str or None", value))?;
    Ok(Some(text.extract::<String>()?.into_boxed_str()))
}

/// A non-negative integer argument.
pub(crate) fn count(argument: &str, value: &Bound<'_, PyAny>) -> PyResult<u64> {
    let number = integer(&value.as_borrowed())?;
    let number = number.ok_or_else(|| {
        let unlimited = if value.is_none() { " (0 for no limit)" } else { "" };
        wrong_type(argument, &format!("an integer{unlimited}"), value)
    })?;
    number.extract::<u64>().map_err(|_| {
        PyValueError::new_err(format!(
            "{argument} must be from 0 (unlimited) to 2**64 - 1, not {}",
            shown(&number.as_any().as_borrowed())
        ))
    })
}

/// The name of a policy, or `None` if it is an object of the user.
pub(crate) fn policy(value: &Bound<'_, PyAny>) -> PyResult<Option<PolicyName>> {
    let Ok(name) = value.cast::<PyString>() else { return Ok(None) };
    let name = &*name.to_string_lossy();
    let known = PolicyName::ALL.into_iter().chain(PolicyName::OF_MAPPINGS);
    if let Some(policy) = { known }.find(|policy| policy.as_str() == name) {
        return Ok(Some(policy));
    }
    let allowed = PolicyName::ALL.map(|policy| format!("'{}'", policy.as_str())).join(", ");
    Err(PyValueError::new_err(format!(
        "eviction_policy must be one of {allowed}, or an object with on_insert, on_access, on_remove and victim, not {}{}",
        shown(&value.as_borrowed()),
        did_you_mean::suggestion(name, &PolicyName::ALL.map(PolicyName::as_str)),
    )))
}

/// The argument `optimize`. Only some policies support it.
pub(crate) fn goal(value: &Bound<'_, PyAny>, policy: Option<PolicyName>) -> PyResult<Goal> {
    let name = value.cast::<PyString>().map_err(|_| wrong_type("optimize", "'hits' or 'bytes'", value))?;
    match &*name.to_string_lossy() {
        "hits" => Ok(Goal::Hits),
        "bytes" if matches!(policy, Some(PolicyName::TinyLfu | PolicyName::Auto)) => Ok(Goal::Bytes),
        "bytes" => Err(PyValueError::new_err(
            "optimize must be 'hits', not 'bytes', unless eviction_policy is 'auto' or 'tinylfu': others do not consider sizes",
        )),
        _ => Err(PyValueError::new_err(format!(
            "optimize must be 'hits' or 'bytes', not {}",
            shown(&value.as_borrowed())
        ))),
    }
}

/// Refuses a number as the first argument, which is the policy.
pub(crate) fn no_size(policy: &Bound<'_, PyAny>) -> PyResult<()> {
    match integer(&policy.as_borrowed()) {
        Ok(Some(size)) if !policy.is_instance_of::<PyString>() => {
            let size = shown(&size.as_any().as_borrowed());
            Err(PyTypeError::new_err(format!(
                "eviction_policy must be a policy's name or an object with on_insert, on_access, on_remove and \
                 victim, not the int {size}; did you mean max_items={size}?"
            )))
        }
        _ => Ok(()),
    }
}

pub(crate) fn shards(value: &Bound<'_, PyAny>, limits: Limits) -> PyResult<u64> {
    let number = integer(&value.as_borrowed())?.ok_or_else(|| wrong_type("shards", "an integer", value))?;
    let shards = number.extract::<u64>().ok().filter(|shards| (1..=MOST_SHARDS).contains(shards));
    let shards = shards.ok_or_else(|| {
        let number = shown(&number.as_any().as_borrowed());
        PyValueError::new_err(format!("shards must be from 1 to {MOST_SHARDS}, not {number}"))
    })?;
    divisible(shards, limits)?;
    Ok(shards)
}

/// Checks that each shard gets its part of each limit.
pub(crate) fn divisible(shards: u64, limits: Limits) -> PyResult<()> {
    for (argument, limit) in [("max_items", limits.items), ("max_bytes", limits.weight)] {
        if limit.is_some_and(|limit| limit.get() < shards) {
            return Err(PyValueError::new_err(format!(
                "{argument} must be at least the number of shards, {shards}, among which it is divided"
            )));
        }
    }
    Ok(())
}

pub(crate) fn default_ttl(value: &Bound<'_, PyAny>) -> PyResult<Option<Ttl>> {
    if value.is_none() {
        Ok(None)
    } else {
        Ok(Some(duration::ttl("default_ttl", value.as_borrowed())?).filter(|ttl| *ttl != Ttl::Never))
    }
}

/// The seconds for which absent keys are not looked up again.
pub(crate) fn negative_ttl(value: &Bound<'_, PyAny>) -> PyResult<Option<Nanos>> {
    if value.is_none() { Ok(None) } else { duration::interval("negative_ttl", value).map(Some) }
}

/// `True`, `False`, or a number of seconds.
pub(crate) fn background(value: &Bound<'_, PyAny>) -> PyResult<Option<Nanos>> {
    if let Ok(asked) = value.cast::<PyBool>() {
        return Ok(asked.is_true().then_some(0));
    }
    if value.is_none() {
        return Err(wrong_type("background_expiry", "True, False or a number of seconds", value));
    }
    duration::interval("background_expiry", value).map(Some)
}

pub(crate) fn callable(argument: &str, value: &Bound<'_, PyAny>) -> PyResult<Option<Py<PyAny>>> {
    if value.is_none() {
        return Ok(None);
    }
    if value.is_callable() {
        return Ok(Some(value.clone().unbind()));
    }
    Err(wrong_type(argument, "callable or None", value))
}

/// The share of one shard in the limits. All shares add up to the limits.
pub(crate) fn share(limits: Limits, shard: u64, shards: u64) -> Limits {
    let part = |limit: Option<std::num::NonZeroU64>| {
        limit.map_or(0, |limit| limit.get() / shards + u64::from(shard < limit.get() % shards))
    };
    Limits::new(part(limits.items), part(limits.weight))
}
