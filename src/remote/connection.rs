//! One connection: callers put requests into a queue, and answers come in that order.
//!
//! A caller appends its bytes to those of others. The first caller writes the bytes of all, so that requests
//! of many threads are sent together, and no thread waits for a lock while another writes.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::decode::Decoder;
use crate::encode::Request;
use crate::error::{Error, Kind};
use crate::reading::Reading;
use crate::slot::Slot;
use crate::stream::{Stream, is_timeout};
use crate::value::Value;

/// A request that will be sent.
pub(crate) struct Pending {
    pub(crate) request: Request,
    /// The slot at which its caller waits.
    pub(crate) slot: Arc<Slot>,
    /// Whether its caller may read from the connection while it waits.
    pub(crate) may_read: bool,
    pub(crate) until: Instant,
    /// Whether it was queued before, on a connection that ended before any of its bytes were sent.
    pub(crate) is_again: bool,
}

/// A request in the queue.
pub(crate) struct Waiting {
    /// The offsets at which its bytes begin and end, counted from the beginning of the connection.
    start: u64,
    end: u64,
    left: usize,
    replies: Vec<Value>,
    pub(crate) slot: Arc<Slot>,
    pub(crate) may_read: bool,
    until: Instant,
    is_again: bool,
}

/// The state of the connection's own thread.
#[derive(Default)]
pub(crate) struct OwnThread {
    pub(crate) waits: bool,
    /// Whether anybody has called since it began to wait.
    pub(crate) was_called: bool,
    /// Whether a caller was answered since it began to read.
    has_answered_caller: bool,
}

#[derive(Default)]
pub(crate) struct State {
    /// The bytes that no thread has begun to write, and until when they may be written.
    unsent: Vec<u8>,
    until: Option<Instant>,
    is_writing: bool,
    /// The number of bytes that were queued, and how many of them the system has taken.
    queued: u64,
    sent: u64,
    pub(crate) waiting: VecDeque<Waiting>,
    /// The number of waiting requests whose caller does not read.
    pub(crate) unread: usize,
    pub(crate) own_thread: OwnThread,
    pub(crate) is_retired: bool,
    pub(crate) end: Option<Error>,
}

/// The outcome of writing some bytes.
pub(crate) enum Progress {
    /// All queued bytes have been written.
    Done,
    /// This many more bytes are queued. The thread that wrote must write them, too.
    More(usize),
    /// The connection has ended. These requests were not sent.
    Ended(Vec<Pending>),
}

/// A connection that the server has accepted.
pub(crate) struct Connection {
    pub(crate) stream: Stream,
    state: Mutex<State>,
    has_ended: AtomicBool,
    /// The thread that has locked this reads.
    pub(crate) reading: Mutex<Reading>,
    /// Wakes the connection's own thread.
    pub(crate) is_wanted: Condvar,
    /// How often bytes were received.
    heard: AtomicU64,
    process: u32,
}

/// The length of a buffer as an offset in a connection.
fn offset(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

impl Connection {
    pub(crate) fn new(stream: Stream, decoder: Decoder) -> Self {
        Self {
            stream,
            state: Mutex::default(),
            has_ended: AtomicBool::new(false),
            reading: Mutex::new(Reading::new(decoder)),
            is_wanted: Condvar::new(),
            heard: AtomicU64::new(0),
            process: std::process::id(),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // No code under this lock panics between two changes that belong together.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this process made the connection. A forked child must not use its parent's.
    pub(crate) fn is_ours(&self) -> bool {
        self.process == std::process::id()
    }

    /// How often bytes were received.
    pub(crate) fn heard(&self) -> u64 {
        self.heard.load(Ordering::Acquire)
    }

    pub(crate) fn count_heard(&self) {
        self.heard.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Acquire)
    }

    /// The number of requests that the server has not answered yet, and the number of their bytes.
    pub(crate) fn unanswered(&self) -> (usize, u64) {
        let state = self.lock();
        (state.waiting.len(), state.waiting.front().map_or(0, |first| state.queued - first.start))
    }

    /// Queues a request. Returns it if the connection takes no more requests.
    pub(crate) fn queue(&self, pending: Pending) -> Result<(), Pending> {
        let mut state = self.lock();
        if state.end.is_some() || state.is_retired {
            return Err(pending);
        }
        let Pending { request, slot, may_read, until, is_again } = pending;
        let (start, end) = (state.queued, state.queued + offset(request.bytes.len()));
        if state.unsent.is_empty() {
            state.unsent = request.bytes;
        } else if state.unsent.try_reserve(request.bytes.len()).is_ok() {
            state.unsent.extend_from_slice(&request.bytes);
        } else {
            drop(state);
            slot.fill(Err(Error::not_sent(Kind::Lost, "there is no memory for a request")));
            return Ok(());
        }
        state.queued = end;
        state.until = state.until.max(Some(until));
        let (left, replies) = (request.replies, Vec::new());
        if may_read {
            state.own_thread.was_called = true;
        } else {
            state.unread += 1;
            if state.own_thread.waits {
                self.is_wanted.notify_one();
            }
        }
        state.waiting.push_back(Waiting { start, end, left, replies, slot, may_read, until, is_again });
        Ok(())
    }

    /// Whether the caller has to call [`write`](Self::write), because bytes are queued and no other thread is
    /// writing.
    pub(crate) fn begin_writing(&self) -> bool {
        let mut state = self.lock();
        let begins = !state.is_writing && !state.unsent.is_empty();
        state.is_writing |= begins;
        begins
    }

    /// Writes the bytes that are queued at this moment.
    pub(crate) fn write(&self) -> Progress {
        let (mut bytes, until) = {
            let mut state = self.lock();
            (std::mem::take(&mut state.unsent), state.until.take().unwrap_or_else(Instant::now))
        };
        let (count, written) = self.stream.write_all(&bytes, until);
        let mut state = self.lock();
        state.sent += offset(count);
        if let (Err(error), None) = (written, &state.end) {
            let kind = if is_timeout(&error) { Kind::TimedOut } else { Kind::Lost };
            state.end = Some(Error::unknown(kind, format!("the connection to the server was lost: {error}")));
        }
        if let Some(why) = state.end.clone() {
            state.is_writing = false;
            bytes.drain(..count);
            bytes.append(&mut state.unsent);
            return Progress::Ended(self.settle(state, &why, &bytes));
        }
        state.is_writing = !state.unsent.is_empty();
        if state.is_writing { Progress::More(state.unsent.len()) } else { Progress::Done }
    }

    /// Ends the connection. All waiting callers get the reason `why`. Returns the requests that were not
    /// sent.
    ///
    /// While another thread is writing, it is not known which these are; then that thread returns them.
    pub(crate) fn end(&self, why: &Error) -> Vec<Pending> {
        let mut state = self.lock();
        if state.end.is_some() {
            return Vec::new();
        }
        state.end = Some(why.clone());
        let bytes = if state.is_writing { Vec::new() } else { std::mem::take(&mut state.unsent) };
        self.settle(state, why, &bytes)
    }

    /// Fails the requests that were sent, and returns the others. `unsent` has the bytes that were not sent.
    fn settle(&self, mut state: MutexGuard<'_, State>, why: &Error, unsent: &[u8]) -> Vec<Pending> {
        self.has_ended.store(true, Ordering::Release);
        self.is_wanted.notify_one();
        let from = state.sent;
        let mut told = std::mem::take(&mut state.waiting);
        let mut others = told.split_off(told.partition_point(|one| one.start < from));
        if state.is_writing {
            state.waiting = std::mem::take(&mut others);
        }
        drop(state);
        self.stream.shut_down();
        for one in told {
            one.slot.fill(Err(why.of_request(true)));
        }
        let mut again = Vec::new();
        for Waiting { start, end, left, slot, until, is_again, .. } in others {
            match part(unsent, start - from, end - from) {
                Some(bytes) if !is_again => {
                    let request = Request { bytes, replies: left };
                    // Its caller still looks at this connection, so it cannot read on the next one.
                    again.push(Pending { request, slot, may_read: false, until, is_again: true });
                }
                _ => slot.fill(Err(why.of_request(false))),
            }
        }
        again
    }

    /// From now on takes no more requests, and ends once the queued ones are answered. Returns the same as
    /// `end`.
    pub(crate) fn retire(&self) -> Vec<Pending> {
        let is_idle = {
            let mut state = self.lock();
            state.is_retired = true;
            state.waiting.is_empty()
        };
        if is_idle {
            self.end(&Error::unknown(Kind::Lost, "the connection was replaced"))
        } else {
            Vec::new()
        }
    }
}

/// A copy of a part of the unsent bytes, if there is memory for it.
fn part(bytes: &[u8], start: u64, end: u64) -> Option<Vec<u8>> {
    let part = bytes.get(usize::try_from(start).ok()?..usize::try_from(end).ok()?)?;
    let mut copy = Vec::new();
    copy.try_reserve_exact(part.len()).ok()?;
    copy.extend_from_slice(part);
    Some(copy)
}

impl State {
    /// Adds a reply to the first request. Once all its replies have come, returns the slot to notify and the
    /// replies.
    pub(crate) fn answer(&mut self, value: Value) -> Option<(Arc<Slot>, Vec<Value>)> {
        let first = self.waiting.front_mut()?;
        first.replies.push(value);
        first.left = first.left.saturating_sub(1);
        if first.left > 0 {
            return None;
        }
        let done = self.waiting.pop_front()?;
        if done.may_read {
            self.own_thread.has_answered_caller = true;
        } else {
            self.unread = self.unread.saturating_sub(1);
        }
        Some((done.slot, done.replies))
    }

    /// Whether the connection's own thread may stop reading, because the callers read for themselves.
    pub(crate) fn may_leave_reading(&mut self) -> bool {
        self.unread == 0 && std::mem::take(&mut self.own_thread.has_answered_caller)
    }

    /// The first waiting request's slot, if its caller may read.
    pub(crate) fn next_caller(&self) -> Option<Arc<Slot>> {
        self.waiting.front().filter(|first| first.may_read).map(|first| Arc::clone(&first.slot))
    }
}
