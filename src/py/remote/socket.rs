//! `RemoteSocket`: a socket that Python has connected, used without the interpreter's lock.

use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

use flexcache_core::PushTracker;
use flexcache_remote::{Decoder, Value};
use pyo3::exceptions::{PyConnectionResetError, PyRuntimeError, PyTimeoutError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyList;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::reply::{list, object};
use crate::py::object::running_python::check_signals;
use crate::py::process::mutex::Mutex;
use crate::py::store::push_tracker::TrackerHandle;

/// Bytes of one read.
const MOST_READ: usize = 1 << 16;

/// A program may have given SIGPIPE back its default action, which would end it where the server has closed the connection.
#[cfg(not(target_vendor = "apple"))]
const SENDING: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);
/// There the socket itself is told: see [`RemoteSocket::new`].
#[cfg(target_vendor = "apple")]
const SENDING: SendFlags = SendFlags::DONTWAIT;

/// The state of reading.
struct Reading {
    decoder: Decoder,
    buffer: Vec<u8>,
}

/// Why a call failed.
enum Failure {
    TimedOut,
    Closed,
    System(Errno),
    Broken(String),
    Raised(PyErr),
}

/// A connected socket, for one call at a time. It has a descriptor of its own. If Python's socket is closed
/// meanwhile, it therefore reads from no other file.
///
/// `failed` creates the exceptions from a word ("refused" or "protocol") and a text.
#[pyclass(frozen, module = "flexcache_rs._core")]
pub(crate) struct RemoteSocket {
    socket: OwnedFd,
    failed: Py<PyAny>,
    /// None while a call reads.
    reading: Mutex<Option<Reading>>,
    invalidated: AtomicU64,
}

/// Runs pending signal handlers. Their exceptions end the call.
fn look_for_signals() -> Result<(), Failure> {
    // When the interpreter ends, nobody waits any more.
    let looked = Python::try_attach(|py| {
        check_signals(py)?;
        Ok::<(), PyErr>(())
    });
    looked.unwrap_or(Ok(())).map_err(Failure::Raised)
}

/// The keys of a push that reports written values, if all of them begin with these bytes.
fn written<'a>(value: &'a Value, start: &[u8]) -> Option<&'a [Value]> {
    let Value::Push(parts) = value else { return None };
    let [Value::Bytes(word), Value::Array(keys)] = parts.as_slice() else { return None };
    let is_of_values = |key: &Value| matches!(key, Value::Bytes(key) if key.starts_with(start));
    (word == b"invalidate" && keys.iter().all(is_of_values)).then_some(keys)
}

impl RemoteSocket {
    fn lock(&self) -> MutexGuard<'_, Option<Reading>> {
        self.reading.lock()
    }

    fn wait(&self, events: PollFlags, until: Instant) -> Result<(), Failure> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let time = Timespec::try_from(left).map_err(|_| Failure::System(Errno::INVAL))?;
            match poll(&mut [PollFd::new(&self.socket, events)], Some(&time)) {
                Ok(0) => return Err(Failure::TimedOut),
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => look_for_signals()?,
                Err(error) => return Err(Failure::System(error)),
            }
        }
    }

    /// Whether there is nothing to read. If there is something although nothing was asked, it is the end of
    /// the connection.
    fn is_quiet(&self) -> bool {
        let looked = recv(&self.socket, &mut [0_u8; 1][..], RecvFlags::PEEK | RecvFlags::DONTWAIT);
        matches!(looked, Err(Errno::AGAIN))
    }

    fn send(&self, mut data: &[u8], until: Instant) -> Result<(), Failure> {
        while !data.is_empty() {
            match send(&self.socket, data, SENDING) {
                Ok(count) => data = data.get(count..).unwrap_or_default(),
                Err(Errno::AGAIN) => self.wait(PollFlags::OUT, until)?,
                Err(Errno::INTR) => look_for_signals()?,
                Err(error) => return Err(Failure::System(error)),
            }
        }
        Ok(())
    }

    /// Waits until `until` for bytes, and passes them to the decoder.
    fn fill(&self, reading: &mut Reading, until: Instant) -> Result<(), Failure> {
        self.wait(PollFlags::IN, until)?;
        match recv(&self.socket, &mut reading.buffer[..], RecvFlags::DONTWAIT) {
            Ok((0, _)) => Err(Failure::Closed),
            Ok((count, _)) => {
                reading.decoder.feed(reading.buffer.get(..count).unwrap_or_default()).map_err(Failure::Broken)
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(()),
            Err(error) => Err(Failure::System(error)),
        }
    }

    /// Sends commands and waits for the replies; `None` if there was something to read before.
    fn ask(
        &self,
        reading: &mut Reading,
        data: &[u8],
        count: usize,
        time: Duration,
    ) -> Result<Option<Vec<Value>>, Failure> {
        if !self.is_quiet() {
            return Ok(None);
        }
        self.send(data, Instant::now() + time)?;
        let mut replies = Vec::new();
        while replies.len() < count {
            self.fill(reading, Instant::now() + time)?;
            while let Some(value) = reading.decoder.next().map_err(Failure::Broken)? {
                replies.push(value);
            }
        }
        Ok(Some(replies))
    }

    /// Waits for replies and pushes. Pushes that report written values are passed to the tracker and not
    /// returned.
    fn hear(
        &self,
        reading: &mut Reading,
        tracker: &PushTracker,
        start: &[u8],
        until: Instant,
    ) -> Result<Vec<Value>, Failure> {
        let mut others = Vec::new();
        while others.is_empty() {
            // Checked here, too, as there may be something to read all the time.
            if Instant::now() >= until {
                return Err(Failure::TimedOut);
            }
            self.fill(reading, until)?;
            while let Some(value) = reading.decoder.next().map_err(Failure::Broken)? {
                let Some(keys) = written(&value, start) else {
                    others.push(value);
                    continue;
                };
                for key in keys {
                    if let Value::Bytes(key) = key {
                        tracker.invalidate(key);
                        self.invalidated.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        }
        Ok(others)
    }

    /// Runs `step` detached, with the state of reading. After a failure that is not a timeout, the connection
    /// cannot be used any more.
    fn reading<R: Send>(
        &self,
        py: Python<'_>,
        step: impl FnOnce(&mut Reading) -> Result<R, Failure> + Send,
    ) -> PyResult<R> {
        let Some(mut reading) = self.lock().take() else {
            return Err(PyRuntimeError::new_err("another call uses the socket, or one has failed"));
        };
        let (done, reading) = py.detach(|| (step(&mut reading), reading));
        if matches!(done, Ok(_) | Err(Failure::TimedOut)) {
            *self.lock() = Some(reading);
        }
        done.map_err(|failure| match failure {
            Failure::TimedOut => PyTimeoutError::new_err("timed out"),
            Failure::Closed => PyConnectionResetError::new_err("the server closed the connection"),
            Failure::System(error) => std::io::Error::from(error).into(),
            Failure::Raised(error) => error,
            Failure::Broken(why) => match self.failed.bind(py).call1(("protocol", why)) {
                Ok(error) => PyErr::from_value(error),
                Err(error) => error,
            },
        })
    }
}

/// Converts a number of seconds.
fn duration(seconds: f64) -> PyResult<Duration> {
    let time =
        Duration::try_from_secs_f64(seconds).ok().filter(|&time| Instant::now().checked_add(time).is_some());
    time.ok_or_else(|| PyValueError::new_err(format!("seconds must be a time to wait, not {seconds}")))
}

#[pymethods]
impl RemoteSocket {
    #[new]
    fn new(descriptor: RawFd, failed: Py<PyAny>) -> PyResult<Self> {
        if descriptor < 0 {
            return Err(PyValueError::new_err(format!(
                "descriptor must be that of a socket, not {descriptor}"
            )));
        }
        // SAFETY: the caller has the socket, and cannot close it before this returns; any other number is an error of the
        // system.
        let theirs = unsafe { BorrowedFd::borrow_raw(descriptor) };
        let socket = rustix::io::fcntl_dupfd_cloexec(theirs, 0).map_err(std::io::Error::from)?;
        // What is no socket says so when it is used.
        #[cfg(target_vendor = "apple")]
        let _ = rustix::net::sockopt::set_socket_nosigpipe(&socket, true);
        let reading = Reading { decoder: Decoder::new(), buffer: vec![0; MOST_READ] };
        Ok(Self { socket, failed, reading: Mutex::new(Some(reading)), invalidated: AtomicU64::new(0) })
    }

    /// Send commands and return `count` replies. The reply of a refused command is an exception.
    ///
    /// Returns None, and sends nothing, if something has arrived without a request, such as the end of the
    /// connection. `seconds` is the longest pause between two parts of the replies. After an exception, the
    /// connection cannot be used.
    fn exchange<'py>(
        &self,
        py: Python<'py>,
        data: &[u8],
        count: usize,
        seconds: f64,
    ) -> PyResult<Option<Bound<'py, PyList>>> {
        let time = duration(seconds)?;
        let Some(values) = self.reading(py, |reading| self.ask(reading, data, count, time))? else {
            return Ok(None);
        };
        let (replies, failed) = (PyList::empty(py), self.failed.bind(py));
        for value in values {
            replies.append(object(py, value, failed)?)?;
        }
        Ok(Some(replies))
    }

    /// Wait for replies and pushes, and return them. `pushed` makes a push from its parts.
    ///
    /// A push that reports writes to keys that begin with `start` goes to the tracker. It is not returned.
    ///
    /// Raises:
    ///     TimeoutError: Nothing else has arrived for `seconds` seconds.
    fn receive<'py>(
        &self,
        py: Python<'py>,
        seconds: f64,
        tracker: &TrackerHandle,
        start: &[u8],
        pushed: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyList>> {
        let (until, tracker) = (Instant::now() + duration(seconds)?, Arc::clone(&tracker.0));
        let values = self.reading(py, |reading| self.hear(reading, &tracker, start, until))?;
        let (replies, failed) = (PyList::empty(py), self.failed.bind(py));
        for value in values {
            replies.append(match value {
                Value::Push(parts) => pushed.call1((list(py, parts, failed)?,))?,
                value => object(py, value, failed)?,
            })?;
        }
        Ok(replies)
    }

    /// The number of keys that the tracker got.
    #[getter]
    fn invalidated(&self) -> u64 {
        self.invalidated.load(Ordering::Relaxed)
    }

    fn __traverse__(&self, visit: pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        visit.call(&self.failed)
    }
}
