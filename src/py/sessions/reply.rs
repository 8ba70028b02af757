//! Converts the replies of stores to Python's objects.

use flexcache_containers::Number;
use flexcache_containers::operation::{Cell, Kind, Reply, StreamId, Whole};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PySet};

use super::cell::new_deque;
use super::codec::SessionCodec;

impl SessionCodec {
    fn objects<'py>(&self, py: Python<'py>, cells: &[Cell]) -> PyResult<Vec<Bound<'py, PyAny>>> {
        cells.iter().map(|cell| self.object(py, cell)).collect()
    }

    /// All of what a key holds, as an object of its own.
    pub(super) fn whole<'py>(&self, py: Python<'py>, whole: &Whole) -> PyResult<Bound<'py, PyAny>> {
        Ok(match whole {
            Whole::Scalar(cell) => self.object(py, cell)?,
            Whole::List(cells) => PyList::new(py, self.objects(py, cells)?)?.into_any(),
            Whole::Queue(cells) => new_deque(py, self.objects(py, cells)?)?,
            Whole::Set(cells) => PySet::new(py, self.objects(py, cells)?)?.into_any(),
            Whole::Map(pairs) => {
                let dict = PyDict::new(py);
                for (field, value) in pairs {
                    dict.set_item(self.object(py, field)?, self.object(py, value)?)?;
                }
                dict.into_any()
            }
            Whole::Sorted(members) => {
                let dict = PyDict::new(py);
                for (member, score) in members {
                    dict.set_item(self.object(py, member)?, score)?;
                }
                dict.into_any()
            }
            Whole::Stream(entries) => self.entries(py, entries)?,
            Whole::Positions(Kind::Bits, positions) => PyList::new(py, positions)?.into_any(),
            Whole::Positions(_, positions) => PySet::new(py, positions)?.into_any(),
        })
    }

    fn entries<'py>(&self, py: Python<'py>, entries: &[(StreamId, Cell)]) -> PyResult<Bound<'py, PyAny>> {
        let pairs = entries
            .iter()
            .map(|(id, cell)| Ok((stream_id(*id), self.object(py, cell)?)))
            .collect::<PyResult<Vec<_>>>()?;
        Ok(PyList::new(py, pairs)?.into_any())
    }

    /// The object for an answer.
    pub(super) fn reply<'py>(&self, py: Python<'py>, reply: &Reply) -> PyResult<Bound<'py, PyAny>> {
        let or_missing =
            |object: Option<Bound<'py, PyAny>>| object.unwrap_or_else(|| self.missing.bind(py).clone());
        Ok(match reply {
            Reply::Bool(value) => value.into_pyobject(py)?.to_owned().into_any(),
            Reply::Int(value) | Reply::Number(Number::Int(value)) => value.into_pyobject(py)?.into_any(),
            Reply::Float(value) | Reply::Number(Number::Float(value)) => value.into_pyobject(py)?.into_any(),
            Reply::Place(place) => place.into_pyobject(py)?.into_any(),
            Reply::Cell(cell) => or_missing(cell.as_ref().map(|cell| self.object(py, cell)).transpose()?),
            Reply::Cells(cells) => PyList::new(py, self.objects(py, cells)?)?.into_any(),
            Reply::Options(cells) => {
                let objects = cells
                    .iter()
                    .map(|cell| Ok(or_missing(cell.as_ref().map(|cell| self.object(py, cell)).transpose()?)));
                PyList::new(py, objects.collect::<PyResult<Vec<_>>>()?)?.into_any()
            }
            Reply::Pairs(pairs) => {
                let objects =
                    pairs.iter().map(|(field, value)| Ok((self.object(py, field)?, self.object(py, value)?)));
                PyList::new(py, objects.collect::<PyResult<Vec<_>>>()?)?.into_any()
            }
            Reply::Scored(members) => {
                let objects = members.iter().map(|(member, score)| Ok((self.object(py, member)?, *score)));
                PyList::new(py, objects.collect::<PyResult<Vec<_>>>()?)?.into_any()
            }
            Reply::Scores(scores) => PyList::new(py, scores)?.into_any(),
            Reply::Bools(values) => PyList::new(py, values)?.into_any(),
            Reply::Id(id) => stream_id(*id).into_pyobject(py)?.into_any(),
            Reply::Entries(entries) => self.entries(py, entries)?,
            Reply::Places(places) => {
                let objects = places.iter().map(|(place, cell)| Ok((*place, self.object(py, cell)?)));
                PyList::new(py, objects.collect::<PyResult<Vec<_>>>()?)?.into_any()
            }
            Reply::Job(job) => match job {
                Some((number, cell)) => (*number, self.object(py, cell)?).into_pyobject(py)?.into_any(),
                None => py.None().into_bound(py),
            },
            Reply::Wholes(wholes) => {
                let objects = wholes.iter().map(|whole| {
                    Ok(or_missing(whole.as_ref().map(|whole| self.whole(py, whole)).transpose()?))
                });
                PyList::new(py, objects.collect::<PyResult<Vec<_>>>()?)?.into_any()
            }
            Reply::Keys(keys) => {
                PyList::new(py, keys.iter().map(|key| String::from_utf8_lossy(key)))?.into_any()
            }
            Reply::Expiring(keys) => {
                let objects: Vec<_> = keys
                    .iter()
                    .map(|(key, micros)| {
                        (
                            String::from_utf8_lossy(key),
                            seconds(micros.unsigned_abs()) * if *micros < 0 { -1.0 } else { 1.0 },
                        )
                    })
                    .collect();
                PyList::new(py, objects)?.into_any()
            }
            Reply::Kind(kind) => kind.map(Kind::name).into_pyobject(py)?.into_any(),
            Reply::Ttl(None) => self.missing.bind(py).clone(),
            Reply::Ttl(Some(micros)) | Reply::Lease(micros) => {
                micros.map(seconds).into_pyobject(py)?.into_any()
            }
            Reply::Gate { allowed, micros, remaining } => {
                (*allowed, seconds(*micros), *remaining).into_pyobject(py)?.into_any()
            }
        })
    }
}

fn stream_id((millis, number): StreamId) -> String {
    format!("{millis}-{number}")
}

fn seconds(micros: u64) -> f64 {
    std::time::Duration::from_micros(micros).as_secs_f64()
}
