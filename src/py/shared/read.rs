//! Reads a value and counts the lookup.

use std::mem::MaybeUninit;
use std::slice;

use flexcache_shared::{Key, Patience, Value};
use pyo3::prelude::*;

use super::decode::{RawValue, object_of, simple};
use super::errors;
use super::segment::{Opened, run};
use super::value::Serializer;

/// Values of up to this many bytes are copied without an allocation.
const SHORT: usize = 256;

/// A value that was copied because it cannot be decoded directly from shared memory. A short one is in
/// `short`.
struct Copied {
    short: [MaybeUninit<u8>; SHORT],
    /// The bytes there that are initialized.
    length: usize,
    kind: u8,
    long: Option<flexcache_shared::Result<RawValue>>,
}

impl Copied {
    #[inline(always)]
    fn new() -> Self {
        Self { short: [MaybeUninit::uninit(); SHORT], length: 0, kind: 0, long: None }
    }

    /// Copies a value. Apart, since it would make the reading of simple ones slower, as would an error that they had to ask for.
    #[inline(never)]
    fn take(&mut self, value: Value<'_>) {
        match self.short.get_mut(..value.len()) {
            Some(short) => {
                value.copy_to(short);
                (self.length, self.kind, self.long) = (value.len(), value.kind, None);
            }
            None => self.long = Some(RawValue::copy(value)),
        }
    }

    /// The object.
    #[inline(never)]
    fn finish<'py>(&mut self, py: Python<'py>, serializer: &Serializer) -> PyResult<Bound<'py, PyAny>> {
        if let Some(long) = self.long.take() {
            return long.map_err(|error| errors::raised(py, error))?.into_object(py, serializer);
        }
        // SAFETY: `take` has written `length` bytes.
        let bytes = unsafe { slice::from_raw_parts(self.short.as_ptr().cast::<u8>(), self.length) };
        object_of(py, self.kind, bytes, serializer)
    }
}

/// Reads a value. Simple ones become objects where they lie. A hit is counted. If the caller looks again, a miss is not, and what
/// would have to be waited for is one.
#[inline(always)]
pub(super) fn read<'py, const LOOKS_AGAIN: bool>(
    py: Python<'py>,
    opened: &Opened,
    key: Key<'_>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let mut object = None;
    let mut copied = Copied::new();
    let found = opened.cache.get(key, Patience::Try, |value| {
        object = simple(py, value);
        if object.is_none() {
            copied.take(value);
        }
        Ok(())
    });
    let is_hit = matches!(found, Ok(Some(())));
    if is_hit || !LOOKS_AGAIN {
        opened.counts.count(&opened.cache, is_hit);
    }
    match found {
        Ok(None) => Ok(None),
        Ok(Some(())) if object.is_some() => Ok(object),
        Ok(Some(())) => copied.finish(py, &opened.serializer).map(Some),
        Err(_) if LOOKS_AGAIN => Ok(None),
        Err(_) => read_slowly(py, opened, key),
    }
}

/// A read for which a successor of the segment may have to be opened.
#[cold]
fn read_slowly<'py>(py: Python<'py>, opened: &Opened, key: Key<'_>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let raw = run(py, opened, |cache, patience| cache.get(key, patience, RawValue::copy))?;
    raw.map(|raw| raw.into_object(py, &opened.serializer)).transpose()
}
