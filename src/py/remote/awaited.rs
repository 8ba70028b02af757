//! Answers for an event loop, which is woken once for all that have come.

use std::collections::HashMap;
use std::io::Write;
use std::os::fd::IntoRawFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use flexcache_remote::{Answer, Error, Request, Ticket};
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::lane::{RemoteLane, exception};
use super::reply::object;
use super::request::add;
use crate::py::process::guard::Guard;

/// What has come, and nobody has taken yet.
struct Arrived {
    answers: Mutex<Vec<(u64, Result<Answer, Error>)>>,
    wake: UnixStream,
}

impl Arrived {
    /// Called by the reader of a connection, without Python.
    fn put(&self, number: u64, answer: Result<Answer, Error>) {
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

#[derive(Default)]
struct Waiters {
    next: u64,
    waiting: HashMap<u64, (Py<PyAny>, Arc<Py<PyAny>>)>,
}

/// Where the answers for one event loop come.
#[pyclass(frozen, module = "flexcache_rs._core")]
pub(crate) struct RemoteInbox {
    arrived: Arc<Arrived>,
    socket: Guard<Option<UnixStream>>,
    waiters: Guard<Waiters>,
}

#[pymethods]
impl RemoteInbox {
    #[new]
    fn new() -> PyResult<Self> {
        let (read, wake) = UnixStream::pair()?;
        read.set_nonblocking(true)?;
        wake.set_nonblocking(true)?;
        let arrived = Arc::new(Arrived { answers: Mutex::default(), wake });
        Ok(Self {
            arrived,
            socket: Guard::new(Some(read), true),
            waiters: Guard::new(Waiters::default(), true),
        })
    }

    /// The number of a socket that can be read when something has come. It is the caller's.
    fn take_socket(&self, py: Python<'_>) -> PyResult<i32> {
        let socket = self.socket.with(py, Option::take).ok().flatten();
        socket.map(IntoRawFd::into_raw_fd).ok_or_else(|| PyOSError::new_err("the socket was taken already"))
    }

    /// What has come: each with who waits for it. An exception is returned too.
    fn drain<'py>(&self, py: Python<'py>) -> Vec<(Py<PyAny>, Bound<'py, PyAny>)> {
        let answers =
            std::mem::take(&mut *self.arrived.answers.lock().unwrap_or_else(PoisonError::into_inner));
        let mut drained = Vec::with_capacity(answers.len());
        for (number, answer) in answers {
            let waiter = self.waiters.with(py, |waiters| waiters.waiting.remove(&number)).ok().flatten();
            let Some((waiter, failed)) = waiter else { continue };
            let failed = failed.bind(py);
            let made = match answer {
                Ok(answer) => match answer.replies.into_iter().next() {
                    Some(reply) => object(py, reply, failed),
                    None => Ok(py.None().into_bound(py)),
                },
                Err(error) => exception(&error, failed),
            };
            // The task that waits for it gets the error, and the others get their answers.
            let made = made.unwrap_or_else(|error| error.into_value(py).into_bound(py).into_any());
            drained.push((waiter, made));
        }
        drained
    }
}

/// A request that was submitted.
#[pyclass(frozen, module = "flexcache_rs._core")]
pub(crate) struct RemoteTicket {
    lane: Py<RemoteLane>,
    ticket: Ticket,
}

#[pymethods]
impl RemoteTicket {
    /// Say that the time of the request is over. A connection on which nothing has come since is ended.
    fn give_up(&self, py: Python<'_>) {
        let lane = self.lane.get().lane(py);
        if let Some(lane) = lane.get() {
            py.detach(|| lane.give_up(&self.ticket));
        }
    }
}

#[pymethods]
impl RemoteLane {
    /// Send a command, whose reply comes to an inbox with what waits for it.
    #[pyo3(signature = (inbox, waiter, *parts))]
    fn submit(
        slf: &Bound<'_, Self>,
        inbox: &Bound<'_, RemoteInbox>,
        waiter: Py<PyAny>,
        parts: &Bound<'_, PyTuple>,
    ) -> PyResult<RemoteTicket> {
        let (py, this, inbox) = (slf.py(), slf.get(), inbox.get());
        let mut request = Request::new();
        add(&mut request, parts)?;
        let until = Instant::now() + this.timeout;
        let place = this.lane(py);
        let entry = (waiter, this.failed());
        let number = inbox.waiters.with(py, |waiters| {
            waiters.next += 1;
            waiters.waiting.insert(waiters.next, entry);
            waiters.next
        });
        let number = number.map_err(|_| PyOSError::new_err("the inbox is in use"))?;
        let arrived = Arc::clone(&inbox.arrived);
        let answered = Box::new(move |answer| arrived.put(number, answer));
        let ticket = py.detach(|| place.get().map(|lane| lane.submit(request, until, answered)));
        Ok(RemoteTicket { lane: slf.clone().unbind(), ticket: ticket.unwrap_or_default() })
    }
}
