//! Replays traces: runs a comparison on all cores, and returns the results.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use hashbrown::HashMap;

use flexcache_core::policy::{Auto, Fifo, Lfu, Lru, Random, S3Fifo, Sieve, TinyLfu};
use flexcache_core::replay::{Outcome, lru_hits, optimum, replay};
use flexcache_core::{Limits, OutOfMemory};
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyFloat};

use crate::py::memory::any_policy::PolicyName;
use crate::py::memory::core_errors::{out_of_memory, try_with_capacity};
use crate::py::object::bytes::bytes_object;
use crate::py::object::running_python;

/// How often progress is reported, and Ctrl-C noticed.
const REPORT: Duration = Duration::from_millis(100);

/// The name of Belady's optimum, which no policy can exceed.
const OPTIMUM: &str = "opt";

/// One pass over the trace.
enum Pass {
    Policy(PolicyName, u64),
    /// Least recently used, at all sizes.
    Recency(Vec<u64>),
    Optimum(u64),
}

/// The result of a policy at a size: policy, size, hits, their weight, refused accesses, entries, bytes, and
/// the seconds if the pass was for this size alone.
type Row = (&'static str, u64, u64, u64, u64, usize, usize, Option<f64>);

struct Trace<'a> {
    keys: &'a [u32],
    weights: Option<&'a [u64]>,
    /// Different keys.
    distinct: usize,
    seed: u64,
}

impl Trace<'_> {
    fn limits(&self, size: u64) -> Limits {
        if self.weights.is_some() { Limits::new(0, size) } else { Limits::new(size, 0) }
    }

    fn replay(
        &self,
        policy: PolicyName,
        size: u64,
        go_on: &mut impl FnMut(usize) -> bool,
    ) -> Result<Option<Outcome>, OutOfMemory> {
        let Self { keys, weights, seed, .. } = *self;
        let limits = self.limits(size);
        match policy {
            PolicyName::Lru | PolicyName::ListedLru => replay::<Lru>(keys, weights, limits, seed, go_on),
            PolicyName::Fifo | PolicyName::Listed | PolicyName::ListedFifo => {
                replay::<Fifo>(keys, weights, limits, seed, go_on)
            }
            PolicyName::Lfu | PolicyName::ListedLfu => replay::<Lfu>(keys, weights, limits, seed, go_on),
            PolicyName::Random | PolicyName::ListedRandom => {
                replay::<Random>(keys, weights, limits, seed, go_on)
            }
            PolicyName::Sieve => replay::<Sieve>(keys, weights, limits, seed, go_on),
            PolicyName::S3Fifo => replay::<S3Fifo>(keys, weights, limits, seed, go_on),
            PolicyName::TinyLfu => replay::<TinyLfu>(keys, weights, limits, seed, go_on),
            PolicyName::Auto => replay::<Auto>(keys, weights, limits, seed, go_on),
        }
    }

    /// The memory of a least-recently-used cache after `misses` misses: its index grows a little while
    /// entries come and go.
    fn recency_bytes(&self, entries: usize, misses: usize) -> Result<usize, OutOfMemory> {
        let filling = misses.min(entries.saturating_mul(MOST_CHURN));
        let mut keys: Vec<u32> = Vec::new();
        keys.try_reserve_exact(filling)?;
        keys.extend((0..).take(filling));
        let outcome = replay::<Lru>(&keys, None, Limits::new(entries as u64, 0), self.seed, &mut |_| true)?;
        Ok(outcome.map_or(0, |outcome| outcome.allocated_bytes))
    }

    /// Runs a pass. `None` if it was stopped.
    fn run(
        &self,
        pass: &Pass,
        go_on: &mut impl FnMut(usize) -> bool,
    ) -> Result<Option<Vec<Row>>, OutOfMemory> {
        let began = Instant::now();
        let most = |size: u64| usize::try_from(size).unwrap_or(usize::MAX);
        Ok(Some(match *pass {
            Pass::Policy(policy, size) => {
                let Some(outcome) = self.replay(policy, size, go_on)? else { return Ok(None) };
                let Outcome { hits, weight_hit, refused, entries, allocated_bytes } = outcome;
                let seconds = Some(began.elapsed().as_secs_f64());
                vec![(policy.as_str(), size, hits, weight_hit, refused, entries, allocated_bytes, seconds)]
            }
            Pass::Recency(ref sizes) => {
                let limits: Vec<_> = sizes.iter().map(|&size| most(size)).collect();
                let Some(hits) = lru_hits(self.keys, &limits, go_on)? else { return Ok(None) };
                let row = |(&size, hits)| {
                    let entries = most(size).min(self.distinct);
                    let misses = self.keys.len() - usize::try_from(hits).unwrap_or(0);
                    let bytes = self.recency_bytes(entries, misses)?;
                    Ok((PolicyName::Lru.as_str(), size, hits, 0, 0, entries, bytes, None))
                };
                sizes.iter().zip(hits).map(row).collect::<Result<_, OutOfMemory>>()?
            }
            Pass::Optimum(size) => {
                let Some(hits) = optimum(self.keys, most(size), go_on)? else { return Ok(None) };
                let entries = most(size).min(self.distinct);
                vec![(OPTIMUM, size, hits, 0, 0, entries, 0, Some(began.elapsed().as_secs_f64()))]
            }
        }))
    }
}

/// After this many generations of entries, an index no longer grows.
const MOST_CHURN: usize = 16;

/// The number of sizes from which on one pass for all of them is faster than one pass for each.
const WORTH_ONE_PASS: usize = 4;

fn passes(policies: &[String], sizes: &[u64], weighted: bool) -> PyResult<Vec<Pass>> {
    let mut passes = Vec::new();
    for policy in policies {
        if policy == OPTIMUM {
            if weighted {
                return Err(PyValueError::new_err(
                    "policies must not contain \"opt\" if sizes limit the cache",
                ));
            }
            passes.extend(sizes.iter().map(|&size| Pass::Optimum(size)));
            continue;
        }
        let Some(name) = PolicyName::ALL.into_iter().find(|name| name.as_str() == policy) else {
            return Err(PyValueError::new_err(format!(
                "policies must not contain {policy:?}, which is no policy"
            )));
        };
        if name == PolicyName::Lru && !weighted && sizes.len() >= WORTH_ONE_PASS {
            passes.push(Pass::Recency(sizes.to_vec()));
        } else {
            passes.extend(sizes.iter().map(|&size| Pass::Policy(name, size)));
        }
    }
    Ok(passes)
}

/// What each policy makes of a trace at each size, on so many threads. `report` is called with the
/// part that is done, from 0 to 1; what it raises, and Ctrl-C, end it.
#[pyfunction]
#[pyo3(name = "_replay")]
#[expect(clippy::too_many_arguments, reason = "one call from Python, by name")]
pub(crate) fn replay_trace(
    py: Python<'_>,
    keys: PyBuffer<u32>,
    weights: Option<PyBuffer<u64>>,
    policies: Vec<String>,
    sizes: Vec<u64>,
    seed: u64,
    threads: usize,
    report: &Bound<'_, PyAny>,
) -> PyResult<Vec<Row>> {
    let keys = copied(py, &keys)?;
    let weights = weights.map(|weights| copied(py, &weights)).transpose()?;
    if sizes.contains(&0) {
        return Err(PyValueError::new_err("sizes must be positive, not 0"));
    }
    if weights.as_ref().is_some_and(|weights| weights.len() != keys.len()) {
        return Err(PyValueError::new_err("weights must have one weight for each key"));
    }
    let passes = passes(&policies, &sizes, weights.is_some())?;
    let distinct = keys.iter().max().map_or(0, |&most| most as usize + 1);
    let trace = Trace { keys: &keys, weights: weights.as_deref(), distinct, seed };
    let total = (keys.len() * passes.len()).max(1);
    let (next, done, stop) = (AtomicUsize::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let (sender, rows) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..threads.clamp(1, passes.len().max(1)) {
            let (sender, trace, passes) = (sender.clone(), &trace, &passes);
            let (next, done, stop) = (&next, &done, &stop);
            scope.spawn(move || {
                while let Some(pass) = passes.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let mut go_on = |more: usize| {
                        done.fetch_add(more as u64, Ordering::Relaxed);
                        !stop.load(Ordering::Relaxed)
                    };
                    let Some(rows) = trace.run(pass, &mut go_on).transpose() else { return };
                    if sender.send(rows).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let mut all = Vec::new();
        loop {
            let received = running_python::detached(py, || rows.recv_timeout(REPORT));
            #[expect(clippy::cast_precision_loss, reason = "for a bar")]
            let part = done.load(Ordering::Relaxed) as f64 / total as f64;
            let told = running_python::call(report, [PyFloat::new(py, part).as_any()]);
            if let Err(error) = told.and_then(|_| running_python::check_signals(py)) {
                stop.store(true, Ordering::Relaxed);
                return Err(error);
            }
            match received {
                Ok(Ok(rows)) => all.extend(rows),
                Ok(Err(error)) => {
                    stop.store(true, Ordering::Relaxed);
                    return Err(out_of_memory(error));
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => return Ok(all),
            }
        }
    })
}

/// Keys as numbers, one after the other; sizes, where there are any.
type Numbered<'py> = (Bound<'py, PyBytes>, Option<Bound<'py, PyBytes>>, usize);

/// The accesses of a text with a key, or a key and a size, in every line: keys as 32-bit numbers in order of
/// first appearance, sizes as 64-bit ones, and how many different keys. `None` where any line is
/// malformed. A slower reader then finds out which line it is. O(n).
#[pyfunction]
#[pyo3(name = "_parse_plain")]
pub(crate) fn parse_plain<'py>(py: Python<'py>, text: &[u8]) -> PyResult<Option<Numbered<'py>>> {
    let Some((keys, sizes, distinct)) = py.detach(|| numbered(text)).map_err(out_of_memory)? else {
        return Ok(None);
    };
    let sizes = if sizes.is_empty() { None } else { Some(bytes_object(py, &sizes)?) };
    Ok(Some((bytes_object(py, &keys)?, sizes, distinct)))
}

/// The values of a buffer.
fn copied<T: pyo3::buffer::Element + Default>(py: Python<'_>, buffer: &PyBuffer<T>) -> PyResult<Vec<T>> {
    let count = buffer.item_count();
    let mut values = try_with_capacity(count)?;
    values.resize_with(count, T::default);
    buffer.copy_to_slice(py, &mut values)?;
    Ok(values)
}

/// The most digits of a number here; longer ones are left to the slower parser.
const MOST_DIGITS: usize = 18;

/// The bytes of keys and of sizes, and the number of different keys.
type Parsed = (Vec<u8>, Vec<u8>, usize);

fn numbered(text: &[u8]) -> Result<Option<Parsed>, OutOfMemory> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let mut numbers: HashMap<&[u8], u32> = HashMap::new();
    let (mut accesses, mut sizes) = (Vec::new(), Vec::new());
    for line in text.split(|&byte| byte == b'\n') {
        // The characters that Python splits at.
        let blank = |byte: &u8| byte.is_ascii_whitespace() || *byte == b'\x0b';
        let mut fields = line.split(blank).filter(|field| !field.is_empty());
        let Some(key) = fields.next() else { continue };
        if key[0] == b'#' {
            continue;
        }
        let second = fields.next();
        let others = !accesses.is_empty() && second.is_some() == sizes.is_empty();
        if others || fields.next().is_some() || key.contains(&0) {
            return Ok(None);
        }
        if let Some(size) = second {
            if size.len() > MOST_DIGITS || !size.iter().all(u8::is_ascii_digit) {
                return Ok(None);
            }
            let size = size.iter().fold(0_u64, |size, digit| size * 10 + u64::from(digit - b'0'));
            sizes.try_reserve(size_of::<u64>())?;
            sizes.extend_from_slice(&size.to_ne_bytes());
        }
        let Ok(next) = u32::try_from(numbers.len()) else { return Ok(None) };
        numbers.try_reserve(1)?;
        accesses.try_reserve(size_of::<u32>())?;
        let number = *numbers.entry(key).or_insert(next);
        accesses.extend_from_slice(&number.to_ne_bytes());
    }
    Ok(Some((accesses, sizes, numbers.len())))
}
