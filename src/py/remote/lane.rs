//! `RemoteLane`: one connection of a process, for callers in Python.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use flexcache_remote::{Address, Error, Kind, Lane, Request, Settings, Value};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};

use super::entry::{Known, entry};
use super::reply::object;
use super::request::{add, no_memory, request_of};
use crate::py::object::running_python::check_signals;
use crate::py::process::per_process::PerProcess;

/// The address of a server, as Python passes it.
#[derive(FromPyObject)]
enum Place {
    Tcp(String, u16),
    Unix(PathBuf),
}

/// One connection to a server for all threads of a process. A forked child has its own.
///
/// Calls wait without the interpreter's lock, and handle signals every 50 ms. `failed` creates the exceptions from
/// a word and a text. The word is "refused", "timeout" or "lost". For a request that was not sent, it is
/// "unsent_timeout" or "unsent".
#[pyclass(frozen, module = "flexcache_rs._core")]
pub(crate) struct RemoteLane {
    settings: Settings,
    timeout: Duration,
    failed: Arc<Py<PyAny>>,
    lane: PerProcess<OnceLock<Lane>>,
    is_closed: AtomicBool,
}

/// An error as an exception.
fn exception<'py>(error: &Error, failed: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let word = match error.kind() {
        Kind::Refused => "refused",
        Kind::TimedOut if !error.may_be_executed() => "unsent_timeout",
        Kind::TimedOut => "timeout",
        Kind::Lost if !error.may_be_executed() => "unsent",
        Kind::Lost | Kind::Interrupted => "lost",
    };
    failed.call1((word, error.to_string()))
}

impl RemoteLane {
    /// The lane of this process.
    fn lane(&self, py: Python<'_>) -> Arc<OnceLock<Lane>> {
        let lane = self.lane.get(py);
        lane.get_or_init(|| Lane::new(self.settings.clone()));
        lane
    }

    fn call(&self, py: Python<'_>, request: Request) -> PyResult<Vec<Value>> {
        let until = Instant::now() + self.timeout;
        let place = self.lane(py);
        let mut signal = None;
        let answer = py.detach(|| {
            let lane = place.get_or_init(|| Lane::new(self.settings.clone()));
            lane.call(request, until, || {
                // When the interpreter ends, nobody waits any more.
                let looked = Python::try_attach(|py| {
                    check_signals(py)?;
                    Ok::<(), PyErr>(())
                });
                match looked {
                    Some(Ok(())) => Ok(()),
                    Some(Err(error)) => {
                        signal = Some(error);
                        Err(())
                    }
                    None => Err(()),
                }
            })
        });
        if self.is_closed.load(Ordering::SeqCst) {
            // Nobody would end the connection later. What others have asked on it is still answered.
            self.renew(py);
        }
        if let Some(error) = signal {
            return Err(error);
        }
        match answer {
            Ok(answer) => Ok(answer),
            Err(error) => Err(PyErr::from_value(exception(&error, self.failed.bind(py))?)),
        }
    }
}

#[pymethods]
impl RemoteLane {
    #[new]
    #[pyo3(signature = (address, timeout, failed, *, name = None, username = None, password = None, database = 0))]
    fn new(
        address: Place,
        timeout: f64,
        failed: Py<PyAny>,
        name: Option<String>,
        username: Option<String>,
        password: Option<String>,
        database: u32,
    ) -> PyResult<Self> {
        let address = match address {
            Place::Tcp(host, port) => Address::Tcp(host, port),
            Place::Unix(path) => Address::Unix(path),
        };
        let seconds = Duration::try_from_secs_f64(timeout).ok().filter(|time| !time.is_zero());
        let Some(timeout) = seconds.filter(|&time| Instant::now().checked_add(time).is_some()) else {
            let message = format!("timeout must be a positive number of seconds, not {timeout}");
            return Err(PyValueError::new_err(message));
        };
        let settings = Settings { name, username, password, database, ..Settings::new(address, timeout) };
        Ok(Self {
            settings,
            timeout,
            failed: Arc::new(failed),
            lane: PerProcess::default(),
            is_closed: AtomicBool::new(false),
        })
    }

    /// Send a command and return its reply.
    #[pyo3(signature = (*parts))]
    fn execute<'py>(&self, py: Python<'py>, parts: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
        let mut request = Request::new();
        add(&mut request, parts)?;
        let reply = self.call(py, request)?.pop();
        let Some(reply) = reply else { return Ok(py.None().into_bound(py)) };
        let is_refused = matches!(reply, Value::Error(_));
        let reply = object(py, reply, self.failed.bind(py))?;
        if is_refused { Err(PyErr::from_value(reply)) } else { Ok(reply) }
    }

    /// Send `GET` and return the entry: a value, the seconds that it has left, and no tags. Returns None if there
    /// is no valid entry. Bytes that need more data to be read are returned as they are.
    ///
    /// `known` is the nonce of the namespace, the milliseconds by which the server's clock is ahead of ours, and
    /// the function that loads the serializer's bytes.
    fn entry<'py>(&self, py: Python<'py>, place: &[u8], known: Known) -> PyResult<Bound<'py, PyAny>> {
        let mut request = Request::new();
        request.begin(2);
        for part in [b"GET".as_slice(), place] {
            request.try_part(part).map_err(|_| no_memory())?;
        }
        let failed = self.failed.bind(py);
        match self.call(py, request)?.pop().unwrap_or(Value::Null) {
            Value::Bytes(raw) => entry(py, &raw, &known),
            refusal @ Value::Error(_) => Err(PyErr::from_value(object(py, refusal, failed)?)),
            reply => object(py, reply, failed),
        }
    }

    /// Send commands without others in between, and return their replies. The reply of a refused command is an
    /// exception.
    fn execute_many<'py>(
        &self,
        py: Python<'py>,
        commands: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyList>> {
        let replies = PyList::empty(py);
        for reply in self.call(py, request_of(commands)?)? {
            replies.append(object(py, reply, self.failed.bind(py))?)?;
        }
        Ok(replies)
    }

    /// The number of connections that this process has made.
    #[getter]
    fn connects(&self, py: Python<'_>) -> u64 {
        self.lane(py).get().map_or(0, Lane::connects)
    }

    /// Make another connection for later calls, because the server may be another one now. Earlier calls still get
    /// their replies.
    fn renew(&self, py: Python<'_>) {
        let lane = self.lane(py);
        py.detach(|| {
            if let Some(lane) = lane.get() {
                lane.renew();
            }
        });
    }

    /// End the connection. A call that is still running, or a later one, makes another connection and ends it.
    fn close(&self, py: Python<'_>) {
        self.is_closed.store(true, Ordering::SeqCst);
        let lane = self.lane(py);
        py.detach(|| {
            if let Some(lane) = lane.get() {
                lane.disconnect();
            }
        });
    }
}
