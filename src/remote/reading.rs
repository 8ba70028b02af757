//! Decides which thread reads the answers of a connection.
//!
//! One thread at a time has the right to read, and passes on the answers for all others. A waiting caller
//! takes this right if no other thread has it; then it gets its answer without another thread being woken
//! first. Afterwards it notifies another waiting caller. The connection's own thread reads for callers that
//! do not wait themselves. It also reads while there are no requests, so that the end of the connection is
//! noticed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use crate::connection::{Connection, Pending, Waiting};
use crate::decode::Decoder;
use crate::error::{Error, Kind};
use crate::slot::{Answer, Slot};
use crate::stream::is_timeout;
use crate::value::Value;

/// The time without requests after which the connection's own thread reads again.
const IDLE: Duration = Duration::from_millis(50);

/// The state of reading.
pub(crate) struct Reading {
    decoder: Decoder,
    buffer: Vec<u8>,
    /// The longest time that a read of the socket waits.
    timeout: Option<Duration>,
}

impl Reading {
    pub(crate) fn new(decoder: Decoder) -> Self {
        Self { decoder, buffer: vec![0; 1 << 16], timeout: None }
    }
}

fn locked(reading: &Mutex<Reading>) -> MutexGuard<'_, Reading> {
    reading.lock().unwrap_or_else(PoisonError::into_inner)
}

fn lost(why: impl Into<String>) -> Error {
    Error::unknown(Kind::Lost, why)
}

impl Connection {
    /// Reads in the connection's own thread until the connection ends. Returns the same as `end`.
    pub(crate) fn read(&self) -> Vec<Pending> {
        let mut is_first = true;
        loop {
            let mut reading = locked(&self.reading);
            let why = loop {
                // Values may have arrived already during the handshake.
                let received = if std::mem::take(&mut is_first) {
                    self.take(&mut reading.decoder)
                } else {
                    self.receive(&mut reading, None)
                };
                if let Err(why) = received {
                    break Some(why);
                }
                if self.lock().may_leave_reading() {
                    break None;
                }
            };
            drop(reading);
            if let Some(why) = why {
                return self.end(&why);
            }
            self.pass_on();
            if !self.wait_until_wanted() {
                return Vec::new();
            }
        }
    }

    /// Waits until there is something to read for others, or no other thread reads. Returns false if the
    /// connection has ended.
    fn wait_until_wanted(&self) -> bool {
        let mut state = self.lock();
        loop {
            if state.end.is_some() {
                return false;
            }
            if state.unread > 0 {
                return true;
            }
            state.own_thread.was_called = false;
            state.own_thread.waits = true;
            let (after, waited) =
                self.is_wanted.wait_timeout(state, IDLE).unwrap_or_else(PoisonError::into_inner);
            state = after;
            state.own_thread.waits = false;
            if waited.timed_out() && !state.own_thread.was_called {
                return true;
            }
        }
    }

    /// Waits for the answer of a caller. Meanwhile it reads for all, unless another thread does. Returns the
    /// answer, and the same as `end`.
    pub(crate) fn wait(&self, slot: &Slot, time: Duration) -> (Option<Answer>, Vec<Pending>) {
        if time.is_zero() {
            return (slot.take(), Vec::new());
        }
        if self.has_ended() {
            // The request may be on another connection by now.
            return (slot.wait(time), Vec::new());
        }
        let mut reading = match self.reading.try_lock() {
            Ok(reading) => reading,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return (slot.wait(time), Vec::new()),
        };
        let until = Instant::now() + time;
        // Another thread may have read the answer before.
        let mut answer = slot.take();
        let mut unsent = Vec::new();
        while answer.is_none() {
            if let Err(why) = self.receive(&mut reading, Some(time)) {
                unsent = self.end(&why);
                break;
            }
            answer = slot.take();
            if Instant::now() >= until {
                break;
            }
        }
        drop(reading);
        self.pass_on();
        (answer.or_else(|| slot.take()), unsent)
    }

    /// Declares that a caller no longer waits. The connection's own thread reads its answer when it arrives.
    pub(crate) fn leave(&self, slot: &Arc<Slot>) {
        let mut state = self.lock();
        let is_its = |one: &&mut Waiting| one.may_read && Arc::ptr_eq(&one.slot, slot);
        if let Some(one) = state.waiting.iter_mut().find(is_its) {
            one.may_read = false;
            state.unread += 1;
            self.is_wanted.notify_one();
        }
    }

    /// Lets another thread read, if any waits.
    fn pass_on(&self) {
        let state = self.lock();
        if state.unread > 0 || state.end.is_some() {
            if state.own_thread.waits {
                self.is_wanted.notify_one();
            }
        } else if let Some(slot) = state.next_caller() {
            drop(state);
            slot.tell();
        }
    }

    /// Reads received bytes, for which it waits at most `wait`, and passes the answers to the waiting
    /// callers.
    fn receive(&self, reading: &mut Reading, wait: Option<Duration>) -> Result<(), Error> {
        if reading.timeout != wait {
            let failed = |error| lost(format!("the connection to the server was lost: {error}"));
            self.stream.set_read_timeout(wait).map_err(failed)?;
            reading.timeout = wait;
        }
        match self.stream.read(&mut reading.buffer) {
            Ok(0) => Err(lost("the server closed the connection")),
            Err(error) if is_timeout(&error) => Ok(()),
            Err(error) => Err(lost(format!("the connection to the server was lost: {error}"))),
            Ok(count) => {
                self.count_heard();
                reading.decoder.feed(reading.buffer.get(..count).unwrap_or_default()).map_err(lost)?;
                self.take(&mut reading.decoder)
            }
        }
    }

    fn take(&self, decoder: &mut Decoder) -> Result<(), Error> {
        let broken = |why| lost(format!("the connection to the server was ended: {why}"));
        while let Some(value) = decoder.next().map_err(broken)? {
            if let Value::Push(_) = value {
                // A push: no request waits for it.
                continue;
            }
            let mut state = self.lock();
            if state.end.is_some() {
                // Another thread has ended the connection, and has told the waiting callers.
                return Ok(());
            }
            if state.waiting.is_empty() {
                return Err(broken("an answer came that nobody asked for".to_owned()));
            }
            let done = state.answer(value);
            let is_over = state.is_retired && state.waiting.is_empty();
            drop(state);
            if let Some((slot, replies)) = done {
                slot.fill(Ok(replies));
            }
            if is_over {
                return Err(lost("the connection was replaced"));
            }
        }
        Ok(())
    }
}
