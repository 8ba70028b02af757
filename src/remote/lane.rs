//! A connection that is made when it is needed, and again after it was lost.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::connection::{Answer, Answered, Connection, Sink};
use crate::encode::Request;
use crate::error::{Error, Kind};
use crate::handshake::{Settings, open};

/// How long a caller waits between two looks at what its program wants.
const SLICE: Duration = Duration::from_millis(50);

#[derive(Default)]
struct State {
    connection: Option<Arc<Connection>>,
    is_connecting: bool,
    /// What is sent once there is a connection.
    early: Vec<Early>,
    is_closed: bool,
    connects: u64,
}

/// A request that waits for a connection.
struct Early {
    request: Request,
    answered: Answered,
    until: Instant,
    sent_on: Arc<OnceLock<SentOn>>,
}

/// A connection, and how often something had come on it before a request was sent.
type SentOn = (Arc<Connection>, u64);

struct Shared {
    settings: Settings,
    sink: Arc<dyn Sink>,
    state: Mutex<State>,
    process: u32,
}

/// What is known of a request that was sent, for a caller that gives up.
#[derive(Default)]
pub struct Ticket {
    sent_on: Option<SentOn>,
    early: Option<Arc<OnceLock<SentOn>>>,
}

impl Ticket {
    fn sent_on(&self) -> Option<&SentOn> {
        self.sent_on.as_ref().or_else(|| self.early.as_ref()?.get())
    }
}

impl std::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Ticket").field(&self.sent_on().is_some()).finish()
    }
}

/// One connection to a server at a time, for all threads of a process.
///
/// It connects in a thread of its own at the first request, and again at the first one after the connection was lost. A
/// failed attempt fails every request that waited for it.
pub struct Lane(Arc<Shared>);

impl std::fmt::Debug for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Lane").field(&self.0.settings).finish()
    }
}

/// Where the answer of a blocking call comes.
#[derive(Default)]
struct Slot {
    answer: Mutex<Option<Result<Answer, Error>>>,
    is_there: Condvar,
}

impl Slot {
    fn fill(&self, answer: Result<Answer, Error>) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
        self.is_there.notify_one();
    }

    fn wait(&self, time: Duration) -> Option<Result<Answer, Error>> {
        let answer = self.answer.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.is_there.wait_timeout_while(answer, time, |answer| answer.is_none());
        waited.unwrap_or_else(PoisonError::into_inner).0.take()
    }
}

impl Lane {
    /// A lane. It connects at its first request.
    #[must_use]
    pub fn new(settings: Settings, sink: Arc<dyn Sink>) -> Self {
        Self(Arc::new(Shared { settings, sink, state: Mutex::default(), process: std::process::id() }))
    }

    /// Sends a request and waits for its answer.
    ///
    /// `look` is called every 50 ms; where it returns an error, the caller stops waiting.
    ///
    /// # Errors
    ///
    /// There is no answer. [`Error::may_be_executed`] says what that means.
    pub fn call(
        &self,
        request: Request,
        until: Instant,
        mut look: impl FnMut() -> Result<(), ()>,
    ) -> Result<Answer, Error> {
        let slot = Arc::new(Slot::default());
        let filled = Arc::clone(&slot);
        let ticket = self.submit(request, until, Box::new(move |answer| filled.fill(answer)));
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if let Some(answer) = slot.wait(left.min(SLICE)) {
                return answer;
            }
            if left.is_zero() {
                self.give_up(&ticket);
                return slot.wait(Duration::ZERO).unwrap_or_else(|| Err(timed_out()));
            }
            if look().is_err() {
                return Err(Error::unknown(Kind::Interrupted, "the caller stopped waiting"));
            }
        }
    }

    /// Sends a request. What comes of it is told to `answered`, from another thread or from this one.
    ///
    /// A caller that has waited until the moment calls [`give_up`](Self::give_up).
    #[must_use]
    pub fn submit(&self, request: Request, until: Instant, answered: Answered) -> Ticket {
        let shared = &self.0;
        if std::process::id() != shared.process {
            let message = "a child of a fork must make a connection of its own";
            answered(Err(Error::not_sent(Kind::Lost, message)));
            return Ticket::default();
        }
        if request.replies == 0 {
            answered(Ok(Answer::default()));
            return Ticket::default();
        }
        let (mut request, mut answered) = (request, answered);
        loop {
            let mut state = shared.lock();
            if state.is_closed {
                drop(state);
                answered(Err(Error::not_sent(Kind::Lost, "the connection was closed")));
                return Ticket::default();
            }
            let Some(connection) = state.connection.clone() else {
                let now = Instant::now();
                let late: Vec<_> = state.early.extract_if(.., |early| early.until <= now).collect();
                let sent_on = Arc::new(OnceLock::new());
                state.early.push(Early { request, answered, until, sent_on: Arc::clone(&sent_on) });
                let is_first = !std::mem::replace(&mut state.is_connecting, true);
                drop(state);
                if is_first {
                    shared.start();
                }
                for early in late {
                    (early.answered)(Err(timed_out().of_request(false)));
                }
                return Ticket { sent_on: None, early: Some(sent_on) };
            };
            drop(state);
            let heard = connection.heard();
            match connection.send(request, answered, until, &*shared.sink) {
                Ok(()) => return Ticket { sent_on: Some((connection, heard)), early: None },
                Err(back) => (request, answered) = back,
            }
            shared.forget(&connection);
        }
    }

    /// Says that nobody waits any more for a request whose deadline has passed.
    ///
    /// A connection on which nothing has come since the request was sent is ended, as it may be dead. Otherwise the reply
    /// is dropped when it comes.
    pub fn give_up(&self, ticket: &Ticket) {
        if let Some((connection, heard)) = ticket.sent_on()
            && connection.heard() == *heard
        {
            connection.end(&timed_out(), &*self.0.sink);
        }
    }

    /// How often it has connected.
    #[must_use]
    pub fn connects(&self) -> u64 {
        self.0.lock().connects
    }

    /// Ends the connection. The next request makes another one.
    pub fn disconnect(&self) {
        let shared = &self.0;
        if std::process::id() != shared.process {
            return;
        }
        let connection = shared.lock().connection.take();
        if let Some(connection) = connection {
            connection.end(&Error::unknown(Kind::Lost, "the connection was closed"), &*shared.sink);
        }
    }

    /// Ends the connection. There is none from now on.
    pub fn close(&self) {
        if std::process::id() == self.0.process {
            self.0.close();
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.close();
    }
}

fn timed_out() -> Error {
    Error::unknown(Kind::TimedOut, "the server did not answer in time")
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        let why = Error::unknown(Kind::Lost, "the connection was closed");
        let (connection, early) = {
            let mut state = self.lock();
            state.is_closed = true;
            (state.connection.take(), std::mem::take(&mut state.early))
        };
        if let Some(connection) = connection {
            connection.end(&why, &*self.sink);
        }
        for early in early {
            (early.answered)(Err(why.of_request(false)));
        }
    }

    fn forget(&self, connection: &Arc<Connection>) {
        let mut state = self.lock();
        if state.connection.as_ref().is_some_and(|current| Arc::ptr_eq(current, connection)) {
            state.connection = None;
        }
    }

    /// Connects in a thread, which reads from then on.
    fn start(self: &Arc<Self>) {
        let shared = Arc::clone(self);
        let thread = std::thread::Builder::new().name("flexcache-lane".to_owned());
        if let Err(error) = thread.spawn(move || shared.run()) {
            self.fail(&Error::not_sent(
                Kind::Lost,
                format!("there is no thread to read the answers: {error}"),
            ));
        }
    }

    /// Informs all callers that wait for a connection that there is none.
    fn fail(&self, why: &Error) {
        let early = {
            let mut state = self.lock();
            state.is_connecting = false;
            std::mem::take(&mut state.early)
        };
        for early in early {
            (early.answered)(Err(why.clone()));
        }
    }

    fn run(&self) {
        // A sink that panics is a bug; its callers must not wait for ever for that.
        let opened = catch_unwind(AssertUnwindSafe(|| open(&self.settings, &*self.sink)));
        let (stream, mut decoder) = match opened {
            Ok(Ok(opened)) => opened,
            Ok(Err(error)) => return self.fail(&error),
            Err(_) => {
                return self.fail(&Error::not_sent(Kind::Lost, "an error of the program ended a connection"));
            }
        };
        let connection = Arc::new(Connection::new(stream));
        if catch_unwind(AssertUnwindSafe(|| self.begin(&connection))).is_ok() {
            let _ = catch_unwind(AssertUnwindSafe(|| connection.read(&mut decoder, &*self.sink)));
        }
        let why = Error::unknown(Kind::Lost, "an error of the program ended the connection");
        let _ = catch_unwind(AssertUnwindSafe(|| connection.end(&why, &*self.sink)));
        self.forget(&connection);
    }

    /// Shows a new connection to all, and sends what has waited for it.
    fn begin(&self, connection: &Arc<Connection>) {
        self.sink.began();
        let (early, is_closed) = {
            let mut state = self.lock();
            state.is_connecting = false;
            state.connects += 1;
            if !state.is_closed {
                state.connection = Some(Arc::clone(connection));
            }
            (std::mem::take(&mut state.early), state.is_closed)
        };
        if is_closed {
            connection.end(&Error::unknown(Kind::Lost, "the connection was closed"), &*self.sink);
        }
        let now = Instant::now();
        for Early { request, answered, until, sent_on } in early {
            // Nobody else sets it.
            let _ = sent_on.set((Arc::clone(connection), connection.heard()));
            if until <= now {
                answered(Err(timed_out().of_request(false)));
            } else if let Err((_, answered)) = connection.send(request, answered, until, &*self.sink) {
                answered(Err(Error::not_sent(Kind::Lost, "the connection to the server was lost")));
            }
        }
    }
}
