//! Answers for an event loop, which is woken once for all that have come.

use std::collections::{HashMap, VecDeque};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use flexcache_remote::{Error, Lane, Request, Ticket, Value};
use pyo3::exceptions::PyOSError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};

use super::entry::{Known, entry};
use super::lane::{RemoteLane, exception};
use super::reply::object;
use super::request::add;
use crate::py::process::guard::Guard;

type Answer = Result<Vec<Value>, Error>;

/// What has come, and nobody has taken yet.
struct Arrived {
    answers: Mutex<Vec<(u64, Answer)>>,
    wake: UnixStream,
}

impl Arrived {
    /// Called by the reader of a connection, without Python.
    fn put(&self, number: u64, answer: Answer) {
        let is_first = {
            let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
            answers.push((number, answer));
            answers.len() == 1
        };
        if is_first {
            // It does not block; a loop that is gone needs no waking.
            let _ = (&self.wake).write(&[1]);
        }
    }
}

/// What is done with an answer.
struct Waiter {
    future: Py<PyAny>,
    failed: Arc<Py<PyAny>>,
    /// Where the answer is an entry.
    known: Option<Known>,
}

impl Waiter {
    fn reply<'py>(
        &self,
        py: Python<'py>,
        answer: Answer,
    ) -> PyResult<Result<Bound<'py, PyAny>, Bound<'py, PyAny>>> {
        let failed = self.failed.bind(py);
        let reply = match answer {
            Ok(mut replies) => replies.pop().unwrap_or(Value::Null),
            Err(error) => return exception(&error, failed).map(Err),
        };
        match (reply, &self.known) {
            (Value::Bytes(raw), Some(known)) => entry(py, &raw, known).map(Ok),
            (refusal @ Value::Error(_), _) => object(py, refusal, failed).map(Err),
            (reply, _) => object(py, reply, failed).map(Ok),
        }
    }

    /// Gives its task an answer. The task that waits for it gets the error where there is one, and the others get theirs.
    fn answer(&self, py: Python<'_>, answer: Answer) -> PyResult<()> {
        let future = self.future.bind(py);
        if future.call_method0(intern!(py, "done"))?.is_truthy()? {
            // Nobody waits any more.
            return Ok(());
        }
        match self.reply(py, answer) {
            Ok(Ok(reply)) => future.call_method1(intern!(py, "set_result"), (reply,)),
            Ok(Err(error)) => future.call_method1(intern!(py, "set_exception"), (error,)),
            Err(error) => future.call_method1(intern!(py, "set_exception"), (error.into_value(py),)),
        }
        .map(drop)
    }
}

/// A request that was submitted.
struct Asked {
    until: Instant,
    number: u64,
    lane: Arc<OnceLock<Lane>>,
    ticket: Ticket,
}

#[derive(Default)]
struct Waiters {
    next: u64,
    waiting: HashMap<u64, Waiter>,
    asked: VecDeque<Asked>,
    /// Connections for which there are requests in line that nobody has sent.
    held: Vec<Arc<OnceLock<Lane>>>,
}

impl Waiters {
    /// Takes out those in front that were answered.
    fn answered(&mut self) -> Vec<Asked> {
        let count = self.asked.iter().take_while(|asked| !self.waiting.contains_key(&asked.number)).count();
        self.asked.drain(..count).collect()
    }
}

/// Where the answers for one event loop come. It is used in its loop's thread only.
#[pyclass(frozen, module = "flexcache_rs._core")]
pub(crate) struct RemoteInbox {
    arrived: Arc<Arrived>,
    socket: UnixStream,
    waiters: Guard<Waiters>,
}

#[pymethods]
impl RemoteInbox {
    #[new]
    fn new() -> PyResult<Self> {
        let (socket, wake) = UnixStream::pair()?;
        socket.set_nonblocking(true)?;
        wake.set_nonblocking(true)?;
        let arrived = Arc::new(Arrived { answers: Mutex::default(), wake });
        Ok(Self { arrived, socket, waiters: Guard::new(Waiters::default(), true) })
    }

    /// The number of a socket that can be read when something has come. It is open as long as this object is there.
    fn fileno(&self) -> i32 {
        self.socket.as_raw_fd()
    }

    /// Send a command, whose reply is given to a future.
    ///
    /// Where `held` is true, it is only put in line: `flush` sends it. Of a reply that is `known` as an entry, the future
    /// gets what `RemoteLane.entry` returns.
    #[pyo3(signature = (lane, future, held, known, *parts))]
    fn submit(
        &self,
        py: Python<'_>,
        lane: &RemoteLane,
        future: Py<PyAny>,
        held: bool,
        known: Option<Known>,
        parts: &Bound<'_, PyTuple>,
    ) -> PyResult<()> {
        let mut request = Request::new();
        add(&mut request, parts)?;
        let until = Instant::now() + lane.timeout;
        let place = lane.lane(py);
        let mut waiter = Some(Waiter { future, failed: lane.failed(), known });
        let number = self.waiters.with(py, |waiters| {
            waiters.next += 1;
            waiter.take().map(|waiter| waiters.waiting.insert(waiters.next, waiter));
            waiters.next
        });
        let number = number.map_err(|_| PyOSError::new_err("the inbox is in use"))?;
        // Not for longer than the inbox: a loop may be closed long before its answers come.
        let arrived = Arc::downgrade(&self.arrived);
        let answered = Box::new(move |answer| {
            if let Some(arrived) = arrived.upgrade() {
                arrived.put(number, answer);
            }
        });
        let ticket = place.get().map(|lane| lane.post(request, until, answered)).unwrap_or_default();
        if !held {
            py.detach(|| place.get().map(Lane::flush));
        }
        let gone = self.waiters.with(py, |waiters| {
            if held && !waiters.held.iter().any(|lane| Arc::ptr_eq(lane, &place)) {
                waiters.held.push(Arc::clone(&place));
            }
            let gone = waiters.answered();
            waiters.asked.push_back(Asked { until, number, lane: place, ticket });
            gone
        });
        drop(gone);
        Ok(())
    }

    /// Send what was put in line.
    fn flush(&self, py: Python<'_>) {
        let held = self.waiters.with(py, |waiters| std::mem::take(&mut waiters.held)).unwrap_or_default();
        py.detach(|| held.iter().filter_map(|lane| lane.get()).for_each(Lane::flush));
    }

    /// Give what has come to the futures.
    fn drain(&self, py: Python<'_>) -> PyResult<()> {
        // A byte for each time that something came into an empty inbox. It does not block.
        let _ = (&self.socket).read(&mut [0; 64]);
        let answers =
            std::mem::take(&mut *self.arrived.answers.lock().unwrap_or_else(PoisonError::into_inner));
        let mut drained = Ok(());
        for (number, answer) in answers {
            let waiter = self.waiters.with(py, |waiters| waiters.waiting.remove(&number)).ok().flatten();
            if let Some(waiter) = waiter
                && let Err(error) = waiter.answer(py, answer)
            {
                drained = Err(error);
            }
        }
        let gone = self.waiters.with(py, Waiters::answered);
        drop(gone);
        drained
    }

    /// Give up the requests whose time is over, and return their futures, and for how many seconds the others have time;
    /// None where there are no others.
    fn expire<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyList>, Option<f64>)> {
        let now = Instant::now();
        let taken = self.waiters.with(py, |waiters| {
            let asked = std::mem::take(&mut waiters.asked);
            let (later, over): (VecDeque<_>, VecDeque<_>) =
                asked.into_iter().partition(|asked| asked.until > now);
            let late: Vec<_> =
                over.iter().filter_map(|asked| waiters.waiting.remove(&asked.number)).collect();
            let next = later.iter().filter(|asked| waiters.waiting.contains_key(&asked.number));
            let next = next.map(|asked| asked.until).min();
            waiters.asked = later;
            (over, late, next)
        });
        let Ok((over, late, next)) = taken else { return Ok((PyList::empty(py), Some(0.0))) };
        py.detach(|| {
            for asked in &over {
                if let Some(lane) = asked.lane.get() {
                    lane.give_up(&asked.ticket);
                }
            }
        });
        let futures = PyList::new(py, late.into_iter().map(|waiter| waiter.future))?;
        Ok((futures, next.map(|until| until.saturating_duration_since(Instant::now()).as_secs_f64())))
    }

    /// Forget all that is waited for: the loop is closed.
    fn forget(&self, py: Python<'_>) {
        let gone = self.waiters.with(py, std::mem::take);
        drop(gone);
    }
}
