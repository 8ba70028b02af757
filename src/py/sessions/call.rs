//! Converts a call of Python to an operation on cells.

use flexcache_containers::operation::{Act, Cell, Combine, Key, Kind, Mode, Op, StreamId, Touch, Whole};
use flexcache_containers::{Number, sorted::plain_score};
use pyo3::conversion::FromPyObjectOwned;
use pyo3::exceptions::{PyOverflowError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyFrozenSet, PyInt, PyList, PySet, PyTuple};
use xxhash_rust::xxh3::xxh3_128;

use super::codec::{SessionCodec, key};
use crate::py::object::argument::wrong_type;
use crate::py::object::elements::{items, listed};
use crate::py::object::integer::shown;
use crate::py::object::real::as_number;

/// A call that is ready to be made.
#[pyclass(frozen, module = "flexcache_rs._core")]
pub(crate) struct SessionCall {
    pub(super) op: Op,
}

impl SessionCall {
    pub(super) fn new(op: Op) -> Self {
        Self { op }
    }
}

#[pymethods]
impl SessionCall {
    /// Whether it may change something.
    #[getter]
    fn writes(&self) -> bool {
        self.op.writes()
    }

    /// The result in a store that has nothing and stores nothing, in a tuple. None if there is no such result.
    fn nothing<'py>(&self, py: Python<'py>, codec: &SessionCodec) -> PyResult<Option<(Bound<'py, PyAny>,)>> {
        self.op.nothing().map(|reply| Ok((codec.reply(py, &reply)?,))).transpose()
    }
}

/// The arguments of a call, in their order.
struct Arguments<'a, 'py> {
    codec: &'a SessionCodec,
    tuple: &'a Bound<'py, PyTuple>,
    next: std::cell::Cell<usize>,
}

impl<'py> Arguments<'_, 'py> {
    fn any(&self) -> PyResult<Bound<'py, PyAny>> {
        let at = self.next.get();
        self.next.set(at + 1);
        self.tuple.get_item(at)
    }

    fn take<T>(&self) -> PyResult<T>
    where
        T: FromPyObjectOwned<'py>,
    {
        self.any()?.extract::<T>().map_err(Into::into)
    }

    fn key(&self) -> PyResult<Key> {
        key(&self.any()?)
    }

    fn keys(&self) -> PyResult<Vec<Key>> {
        self.any()?.try_iter()?.map(|object| key(&object?)).collect()
    }

    fn cell(&self) -> PyResult<Cell> {
        self.codec.value(&self.any()?)
    }

    fn cells(&self) -> PyResult<Vec<Cell>> {
        self.any()?.try_iter()?.map(|object| self.codec.value(&object?)).collect()
    }

    fn member(&self) -> PyResult<Cell> {
        self.codec.member(&self.any()?)
    }

    fn optional_member(&self) -> PyResult<Option<Cell>> {
        let object = self.any()?;
        if object.is(&self.codec.missing) { Ok(None) } else { self.codec.member(&object).map(Some) }
    }

    fn members(&self) -> PyResult<Vec<Cell>> {
        members(self.codec, &self.any()?)
    }

    fn pairs(&self) -> PyResult<Vec<(Cell, Cell)>> {
        pairs(self.codec, &self.any()?)
    }

    fn scored(&self) -> PyResult<Vec<(Cell, f64)>> {
        let dict = self.any()?;
        let dict = dict.cast::<PyDict>()?;
        items(dict)?
            .into_iter()
            .map(|(member, score)| Ok((self.codec.member(&member)?, checked_score(&score)?)))
            .collect()
    }

    fn score(&self) -> PyResult<f64> {
        checked_score(&self.any()?)
    }

    fn number(&self) -> PyResult<Number> {
        let object = self.any()?;
        if object.is_instance_of::<PyBool>() {
            return Err(wrong_type("by", "an int or a float", &object));
        }
        if object.is_instance_of::<PyInt>() {
            let whole = object.extract().map_err(|_| {
                let given = shown(&object.as_borrowed());
                PyValueError::new_err(format!("by must be from -2**63 to 2**63 - 1, not {given}"))
            })?;
            return Ok(Number::Int(whole));
        }
        if let Ok(float) = object.cast::<PyFloat>() {
            let value = float.value();
            if value.is_nan() {
                return Err(PyValueError::new_err("by must be an int or a float, not NaN"));
            }
            return Ok(Number::Float(value));
        }
        Err(wrong_type("by", "an int or a float", &object))
    }

    fn touch(&self) -> PyResult<Touch> {
        touch(&self.take::<(String, u64)>()?)
    }

    /// The bits of items in a Bloom filter, and the filter's shape.
    fn bloom(&self) -> PyResult<(Vec<Vec<u64>>, Vec<u8>)> {
        let items = self.members()?;
        let bits: u64 = self.take()?;
        let hashes: u64 = self.take()?;
        let shape = format!("{bits} {hashes}").into_bytes();
        if bits == 0 {
            return Err(PyValueError::new_err("a filter must have bits"));
        }
        let places = items.iter().map(|cell| {
            let hash = xxh3_128(cell);
            #[expect(clippy::cast_possible_truncation, reason = "both halves are wanted")]
            let (first, step) = (hash as u64, (hash >> 64) as u64 | 1);
            (0..hashes).map(|number| first.wrapping_add(step.wrapping_mul(number)) % bits).collect()
        });
        Ok((places.collect(), shape))
    }
}

fn checked_score(object: &Bound<'_, PyAny>) -> PyResult<f64> {
    let is_plain =
        |number: &Bound<'_, PyAny>| number.is_instance_of::<PyInt>() || number.is_instance_of::<PyFloat>();
    let number = if is_plain(object) { object.clone() } else { as_number(&object.as_borrowed())? };
    let score = if number.is_instance_of::<PyBool>() || !is_plain(&number) {
        f64::NAN
    } else {
        match number.extract::<f64>() {
            Err(error) if error.is_instance_of::<PyOverflowError>(number.py()) => f64::NAN,
            score => score?,
        }
    };
    if score.is_nan() {
        let shown = object.repr()?;
        return Err(PyValueError::new_err(format!("a score must be a number other than NaN, not {shown}")));
    }
    Ok(plain_score(score))
}

fn members(codec: &SessionCodec, objects: &Bound<'_, PyAny>) -> PyResult<Vec<Cell>> {
    objects.try_iter()?.map(|object| codec.member(&object?)).collect()
}

fn pairs(codec: &SessionCodec, dict: &Bound<'_, PyAny>) -> PyResult<Vec<(Cell, Cell)>> {
    let dict = dict.cast::<PyDict>()?;
    items(dict)?.iter().map(|(field, value)| Ok((codec.member(field)?, codec.value(value)?))).collect()
}

/// Converts an object to the value of a key. Python containers become containers.
fn whole(codec: &SessionCodec, object: &Bound<'_, PyAny>) -> PyResult<Whole> {
    let cells = |objects: Vec<Bound<'_, PyAny>>| {
        objects.iter().map(|object| codec.value(object)).collect::<PyResult<Vec<_>>>()
    };
    if let Ok(list) = object.cast_exact::<PyList>() {
        return cells(list.iter().collect()).map(Whole::List);
    }
    if object.is_exact_instance_of::<PyDict>() {
        return pairs(codec, object).map(Whole::Map);
    }
    if object.is_exact_instance_of::<PySet>() && !object.is_exact_instance_of::<PyFrozenSet>() {
        return members(codec, listed(object)?.as_any()).map(Whole::Set);
    }
    if super::cell::is_deque(object)? {
        return cells(listed(object)?.iter().collect()).map(Whole::Queue);
    }
    codec.value(object).map(Whole::Scalar)
}

fn touch((name, micros): &(String, u64)) -> PyResult<Touch> {
    Ok(match name.as_str() {
        "keep" => Touch::Keep,
        "never" => Touch::Never,
        "after" => Touch::After(*micros),
        "new" => Touch::AfterIfNew(*micros),
        _ => return Err(PyValueError::new_err(format!("no such change of a deadline: {name}"))),
    })
}

fn kind(name: &str) -> PyResult<Kind> {
    let found = Kind::ALL.into_iter().find(|kind| kind.name() == name);
    found.ok_or_else(|| PyValueError::new_err(format!("no such kind: {name}")))
}

/// The operation for a call.
pub(super) fn operation(codec: &SessionCodec, name: &str, tuple: &Bound<'_, PyTuple>) -> PyResult<Op> {
    let arguments = Arguments { codec, tuple, next: std::cell::Cell::new(0) };
    let a = &arguments;
    Ok(match name {
        "get" => Op::Get(a.keys()?),
        "set" => {
            let entries = items(a.any()?.cast()?)?;
            let whole_of = |(name, value): &(_, _)| Ok((key(name)?, whole(codec, value)?));
            let items = entries.iter().map(whole_of).collect::<PyResult<_>>()?;
            let touch = a.touch()?;
            let mode = match a.take::<String>()?.as_str() {
                "absent" => Mode::IfAbsent,
                "present" => Mode::IfPresent,
                _ => Mode::Always,
            };
            Op::Set { items, touch, mode }
        }
        "set_sorted" => {
            let key = a.key()?;
            Op::Set { items: vec![(key, Whole::Sorted(a.scored()?))], touch: a.touch()?, mode: Mode::Always }
        }
        "delete" => Op::Delete(a.keys()?),
        "pop" => Op::Take(a.key()?),
        "rename" => Op::Rename(a.key()?, a.key()?),
        "kind" => Op::KindOf(a.key()?),
        "expire" => Op::Expire(a.key()?, a.touch()?),
        "persist" => Op::Persist(a.key()?),
        "ttl" => Op::Ttl(a.key()?),
        "incr" => Op::Incr { key: a.key()?, by: a.number()?, initial: a.number()?, touch: a.touch()? },
        "combine" => {
            let keys = a.keys()?;
            let how = match a.take::<String>()?.as_str() {
                "union" => Combine::Union,
                "intersection" => Combine::Intersection,
                _ => Combine::Difference,
            };
            Op::Combine { keys, how }
        }
        "keys" => {
            let after = a.any()?;
            Op::Keys { after: if after.is_none() { None } else { Some(key(&after)?) }, count: a.take()? }
        }
        "expiring" => Op::Expiring,
        "count" => Op::Count,
        "count_expired" => Op::CountExpired,
        "clear" => Op::Clear,
        "purge" => Op::Purge(a.take()?),
        "gate" => Op::Gate { name: a.key()?, interval: a.take()?, burst: a.take()?, cost: a.take()? },
        "log" => Op::Log { name: a.key()?, limit: a.take()?, window: a.take()?, cost: a.take()? },
        "lease" => Op::Lease { name: a.key()?, token: a.take()?, micros: a.take()? },
        "release" => Op::Release { name: a.key()?, token: a.take()? },
        _ => return Err(PyValueError::new_err(format!("no such call: {name}"))),
    })
}

/// The operation on the container of one key.
pub(super) fn act(
    codec: &SessionCodec,
    kind_name: &str,
    name_of_key: &Bound<'_, PyAny>,
    touched: &(String, u64),
    name: &str,
    tuple: &Bound<'_, PyTuple>,
) -> PyResult<Op> {
    let arguments = Arguments { codec, tuple, next: std::cell::Cell::new(0) };
    let a = &arguments;
    let act = match name {
        "len" => Act::Len,
        "push" => Act::ListPush { cells: a.cells()?, left: a.take()?, maxlen: a.take()? },
        "pop" => Act::ListPop { left: a.take()?, count: a.take()? },
        "at" => Act::ListAt(a.take()?),
        "put" => Act::ListPut(a.take()?, a.cell()?),
        "range" => Act::ListRange(a.take()?, a.take()?),
        "trim" => Act::ListTrim(a.take()?, a.take()?),
        "remove" => Act::ListRemove { cell: a.cell()?, count: a.take()? },
        "insert" => Act::ListInsert(a.take()?, a.cell()?),
        "index" => Act::ListIndex(a.cell()?),
        "list_page" => Act::ListPage { after: a.take()?, count: a.take()? },
        "reserve" => Act::Reserve(a.take()?),
        "ack" => Act::Ack(a.take()?),
        "release" => Act::Release(a.take()?),
        "map_get" => Act::MapGet(a.members()?),
        "map_set" => Act::MapSet(a.pairs()?),
        "map_default" => Act::MapDefault(a.member()?, a.cell()?),
        "map_incr" => Act::MapIncr { field: a.member()?, by: a.number()? },
        "map_delete" => Act::MapDelete(a.members()?),
        "map_page" => Act::MapPage { after: a.optional_member()?, count: a.take()? },
        "set_add" => Act::SetAdd(a.members()?),
        "set_discard" => Act::SetDiscard(a.members()?),
        "set_has" => Act::SetHas(a.members()?),
        "set_pop" => Act::SetPop(a.take()?),
        "set_page" => Act::SetPage { after: a.optional_member()?, count: a.take()? },
        "sorted_add" => Act::SortedAdd { members: a.scored()?, if_absent: a.take()?, greater: a.take()? },
        "sorted_incr" => Act::SortedIncr(a.member()?, a.score()?),
        "sorted_scores" => Act::SortedScores(a.members()?),
        "sorted_rank" => Act::SortedRank { member: a.member()?, reverse: a.take()? },
        "sorted_range" => Act::SortedRange { start: a.take()?, stop: a.take()?, reverse: a.take()? },
        "sorted_by_score" => {
            Act::SortedByScore { low: a.score()?, high: a.score()?, limit: a.take()?, reverse: a.take()? }
        }
        "sorted_remove" => Act::SortedRemove(a.members()?),
        "sorted_pop" => Act::SortedPop { count: a.take()?, largest: a.take()? },
        "sorted_page" => {
            let after = a.any()?;
            let after = if after.is_none() {
                None
            } else {
                let (member, score): (Bound<'_, PyAny>, f64) = after.extract()?;
                Some((score, codec.member(&member)?))
            };
            Act::SortedPage { after, count: a.take()? }
        }
        "stream_add" => Act::StreamAdd { fields: a.cell()?, maxlen: a.take()? },
        "stream_range" => Act::StreamRange {
            after: a.take::<Option<StreamId>>()?,
            until: a.take::<Option<StreamId>>()?,
            count: a.take()?,
        },
        "stream_trim" => Act::StreamTrim(a.take()?),
        "bits_get" => Act::BitsGet(a.take()?),
        "bits_set" => Act::BitsSet(a.take()?, a.take()?),
        "bits_toggle" => Act::BitsToggle(a.take()?),
        "bits_count" => Act::BitsCount,
        "bloom_add" => {
            let (items, shape) = a.bloom()?;
            Act::BloomAdd { items, shape }
        }
        "bloom_has" => {
            let (items, shape) = a.bloom()?;
            Act::BloomHas { items, shape }
        }
        _ => return Err(PyValueError::new_err(format!("no such call: {name}"))),
    };
    Ok(Op::On { key: key(name_of_key)?, kind: kind(kind_name)?, touch: touch(touched)?, act })
}
