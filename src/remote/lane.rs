//! A connection that is opened when it is needed, and again after it was lost.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::connection::{Connection, Pending, Progress};
use crate::encode::Request;
use crate::error::{Error, Kind};
use crate::handshake::{Settings, open};
use crate::slot::Slot;
use crate::value::Value;

/// How often a waiting caller calls `look`.
const SLICE: Duration = Duration::from_millis(50);

/// The number of unanswered requests, and of their bytes, which certainly fit into the buffers of a
/// connection. Writing them does not wait for the server. Each write takes about a kilobyte of a buffer,
/// however short it is.
const FIT: (usize, u64) = (100, 1 << 13);

/// The most bytes that a caller writes for others after its own request, and how often. Its own answer may
/// have arrived meanwhile.
const FOR_OTHERS: (usize, usize) = (1 << 16, 16);

#[derive(Default)]
struct State {
    connection: Option<Arc<Connection>>,
    is_connecting: bool,
    /// The requests that are sent once there is a connection.
    early: Vec<Early>,
    is_closed: bool,
    connects: u64,
    /// Counts how often connections were given up. A connection whose attempt began before that is not used.
    renewals: u64,
}

/// A request that waits for a connection.
struct Early {
    pending: Pending,
    sent_on: Arc<OnceLock<SentOn>>,
}

/// A connection, and its number of received pieces before a request was sent.
type SentOn = (Arc<Connection>, u64);

struct Shared {
    settings: Settings,
    state: Mutex<State>,
    process: u32,
}

/// The connection of a request, if it was sent, for a caller that gives up.
#[derive(Default)]
struct Ticket {
    sent_on: Option<SentOn>,
    early: Option<Arc<OnceLock<SentOn>>>,
}

impl Ticket {
    fn sent_on(&self) -> Option<&SentOn> {
        self.sent_on.as_ref().or_else(|| self.early.as_ref()?.get())
    }
}

/// One connection to a server at a time, for all threads of a process.
///
/// It connects in a thread of its own at the first request, and again at the first one after the connection
/// was lost. If an attempt fails, every request that waited for it fails. If an attempt times out, only
/// requests whose own time has passed fail.
pub struct Lane(Arc<Shared>);

impl std::fmt::Debug for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Lane").field(&self.0.settings).finish()
    }
}

impl Lane {
    /// A lane. It connects at its first request.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self(Arc::new(Shared { settings, state: Mutex::default(), process: std::process::id() }))
    }

    /// Sends a request and waits for its answer: one reply for each command.
    ///
    /// `look` is called every 50 ms. If it returns an error, the caller stops waiting.
    ///
    /// # Errors
    ///
    /// There is no answer. [`Error::may_be_executed`] tells whether the server may have executed the request.
    pub fn call(
        &self,
        request: Request,
        until: Instant,
        mut look: impl FnMut() -> Result<(), ()>,
    ) -> Result<Vec<Value>, Error> {
        if request.replies == 0 {
            return Ok(Vec::new());
        }
        if std::process::id() != self.0.process {
            let message = "a child of a fork must make a connection of its own";
            return Err(Error::not_sent(Kind::Lost, message));
        }
        let slot = Arc::new(Slot::default());
        let ticket =
            self.0.put(Pending { request, slot: Arc::clone(&slot), may_read: true, until, is_again: false });
        if let Some((connection, _)) = &ticket.sent_on
            && connection.begin_writing()
        {
            self.0.write(connection);
        }
        let mut next_look = Instant::now() + SLICE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let answer = match ticket.sent_on() {
                Some((connection, _)) => {
                    let (answer, unsent) = connection.wait(&slot, left.min(SLICE));
                    self.0.send_again(unsent);
                    answer
                }
                None => slot.wait(left.min(SLICE)),
            };
            if let Some(answer) = answer {
                return answer;
            }
            if left.is_zero() {
                leave(&ticket, &slot);
                self.give_up(&ticket);
                // A request that is not on a connection when its time has passed is never sent: see `begin`.
                let was_sent = ticket.sent_on().is_some();
                return slot.take().unwrap_or_else(|| Err(timed_out().of_request(was_sent)));
            }
            if Instant::now() >= next_look {
                if look().is_err() {
                    leave(&ticket, &slot);
                    return Err(Error::unknown(Kind::Interrupted, "the caller stopped waiting"));
                }
                next_look = Instant::now() + SLICE;
            }
        }
    }

    /// Gives up a request whose time has passed.
    ///
    /// If nothing was received on the connection since the request was sent, the connection is ended, as it
    /// may be dead. Otherwise the reply is dropped when it arrives.
    fn give_up(&self, ticket: &Ticket) {
        if let Some((connection, heard)) = ticket.sent_on()
            && connection.is_ours()
            && connection.heard() == *heard
        {
            self.0.send_again(connection.end(&timed_out()));
        }
    }

    /// The number of connections that were made.
    #[must_use]
    pub fn connects(&self) -> u64 {
        self.0.lock().connects
    }

    /// Ends the connection. The next request makes another one.
    pub fn disconnect(&self) {
        if let Some(connection) = self.take_connection() {
            self.0.send_again(connection.end(&Error::unknown(Kind::Lost, "the connection was closed")));
        }
    }

    /// Uses a new connection for requests from now on, since there may be another server at the address.
    /// Earlier requests are still answered.
    pub fn renew(&self) {
        if let Some(connection) = self.take_connection() {
            self.0.send_again(connection.retire());
        }
    }

    /// Gives up the connection, and one that is being made. Returns the former.
    fn take_connection(&self) -> Option<Arc<Connection>> {
        if std::process::id() != self.0.process {
            return None;
        }
        let mut state = self.0.lock();
        state.renewals += 1;
        state.connection.take()
    }

    /// Ends the connection, and makes no other.
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

/// Makes the connection's own thread read the answer for a caller that no longer waits.
fn leave(ticket: &Ticket, slot: &Arc<Slot>) {
    if let Some((connection, _)) = ticket.sent_on() {
        connection.leave(slot);
    }
}

fn timed_out() -> Error {
    Error::unknown(Kind::TimedOut, "the server did not answer in time")
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a request. If there is no connection, starts to make one.
    fn put(self: &Arc<Self>, mut pending: Pending) -> Ticket {
        loop {
            let mut state = self.lock();
            if state.is_closed {
                drop(state);
                pending.slot.fill(Err(Error::not_sent(Kind::Lost, "the connection was closed")));
                return Ticket::default();
            }
            let Some(connection) = state.connection.clone() else {
                let sent_on = Arc::new(OnceLock::new());
                // Its caller does not know the connection yet, so it cannot read.
                pending.may_read = false;
                state.early.push(Early { pending, sent_on: Arc::clone(&sent_on) });
                let is_first = !std::mem::replace(&mut state.is_connecting, true);
                drop(state);
                if is_first {
                    self.start();
                }
                return Ticket { sent_on: None, early: Some(sent_on) };
            };
            drop(state);
            let heard = connection.heard();
            match connection.queue(pending) {
                Ok(()) => return Ticket { sent_on: Some((connection, heard)), early: None },
                Err(back) => pending = back,
            }
            self.forget(&connection);
        }
    }

    /// Writes the queued bytes, after `begin_writing` has returned true.
    fn write(self: &Arc<Self>, connection: &Arc<Connection>) {
        for _ in 0..FOR_OTHERS.1 {
            match connection.write() {
                Progress::Done => return,
                Progress::Ended(unsent) => return self.send_again(unsent),
                Progress::More(length) if length > FOR_OTHERS.0 => break,
                Progress::More(_) => {}
            }
        }
        self.write_in_thread(connection);
    }

    fn write_in_thread(self: &Arc<Self>, connection: &Arc<Connection>) {
        let (shared, writing) = (Arc::clone(self), Arc::clone(connection));
        let thread = std::thread::Builder::new().name("flexcache-write".to_owned());
        if thread.spawn(move || shared.write_all(&writing)).is_err() {
            self.write_all(connection);
        }
    }

    fn write_all(self: &Arc<Self>, connection: &Connection) {
        loop {
            match connection.write() {
                Progress::Done => return,
                Progress::Ended(unsent) => return self.send_again(unsent),
                Progress::More(_) => {}
            }
        }
    }

    fn flush(self: &Arc<Self>) {
        let Some(connection) = self.lock().connection.clone() else { return };
        self.flush_on(&connection);
    }

    fn flush_on(self: &Arc<Self>, connection: &Arc<Connection>) {
        if !connection.begin_writing() {
            return;
        }
        let (requests, bytes) = connection.unanswered();
        if requests > FIT.0 || bytes > FIT.1 {
            return self.write_in_thread(connection);
        }
        match connection.write() {
            Progress::Done => {}
            Progress::Ended(unsent) => self.send_again(unsent),
            // These are requests of others, which may be more than the buffers hold.
            Progress::More(_) => self.write_in_thread(connection),
        }
    }

    /// Sends requests of which no byte was sent on a connection that has ended.
    fn send_again(self: &Arc<Self>, requests: Vec<Pending>) {
        if requests.is_empty() {
            return;
        }
        let now = Instant::now();
        for pending in requests {
            if pending.until <= now {
                pending.slot.fill(Err(timed_out().of_request(false)));
            } else {
                let _ = self.put(pending);
            }
        }
        self.flush();
    }

    fn close(&self) {
        let why = Error::unknown(Kind::Lost, "the connection was closed");
        let (connection, early) = {
            let mut state = self.lock();
            state.is_closed = true;
            (state.connection.take(), std::mem::take(&mut state.early))
        };
        let unsent = connection.map(|connection| connection.end(&why)).unwrap_or_default();
        for pending in early.into_iter().map(|early| early.pending).chain(unsent) {
            pending.slot.fill(Err(why.of_request(false)));
        }
    }

    fn forget(&self, connection: &Arc<Connection>) {
        let mut state = self.lock();
        if state.connection.as_ref().is_some_and(|current| Arc::ptr_eq(current, connection)) {
            state.connection = None;
        }
    }

    /// Connects in a new thread, which then reads.
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

    /// Fails the callers that wait for a connection. After an attempt that timed out, callers with time left
    /// wait for the next attempt. Returns whether there are any.
    fn fail(&self, why: &Error) -> bool {
        let now = Instant::now();
        let (failed, are_left) = {
            let mut state = self.lock();
            let is_over = |early: &mut Early| why.kind() != Kind::TimedOut || early.pending.until <= now;
            let failed: Vec<_> = state.early.extract_if(.., is_over).collect();
            state.is_connecting = !state.early.is_empty();
            (failed, state.is_connecting)
        };
        for early in failed {
            early.pending.slot.fill(Err(why.clone()));
        }
        are_left
    }

    fn run(self: &Arc<Self>) {
        loop {
            let renewals = self.lock().renewals;
            let (stream, decoder) = match open(&self.settings) {
                Ok(opened) => opened,
                Err(error) if self.fail(&error) => continue,
                Err(_) => return,
            };
            let connection = Arc::new(Connection::new(stream, decoder));
            if !self.begin(&connection, renewals) {
                continue;
            }
            // A panic is a bug, but callers must not wait for ever because of it.
            let unsent = catch_unwind(AssertUnwindSafe(|| connection.read()));
            let unsent = unsent.unwrap_or_else(|_| {
                connection.end(&Error::unknown(Kind::Lost, "an error of the program ended the connection"))
            });
            self.forget(&connection);
            return self.send_again(unsent);
        }
    }

    /// Makes a new connection available, and sends the requests that have waited for it. Returns false if the
    /// connection is no longer wanted.
    fn begin(self: &Arc<Self>, connection: &Arc<Connection>, renewals: u64) -> bool {
        let mut failed = Vec::new();
        {
            let mut state = self.lock();
            if state.renewals != renewals && !state.is_closed {
                return false;
            }
            state.is_connecting = false;
            state.connects += 1;
            if state.is_closed {
                drop(state);
                let _ = connection.end(&Error::unknown(Kind::Lost, "the connection was closed"));
                return true;
            }
            // No other thread sees the connection before all of these are queued, so none overtakes them.
            for Early { pending, sent_on } in std::mem::take(&mut state.early) {
                // Only this thread sets it. A caller whose time has passed and that does not see it relies on
                // the request not being sent, so the time is checked afterwards.
                let _ = sent_on.set((Arc::clone(connection), connection.heard()));
                if pending.until <= Instant::now() {
                    failed.push((pending.slot, timed_out().of_request(false)));
                } else if let Err(back) = connection.queue(pending) {
                    let lost = Error::not_sent(Kind::Lost, "the connection to the server was lost");
                    failed.push((back.slot, lost));
                }
            }
            state.connection = Some(Arc::clone(connection));
        }
        for (slot, why) in failed {
            slot.fill(Err(why));
        }
        self.flush_on(connection);
        true
    }
}
