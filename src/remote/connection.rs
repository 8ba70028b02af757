//! One connection: callers put requests in line, and one thread reads the answers.
//!
//! A caller puts its bytes behind those of others. The first one writes the bytes of all, so that requests of many
//! threads go out together, and no thread waits for a lock while another writes.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::decode::Decoder;
use crate::encode::Request;
use crate::error::{Error, Kind};
use crate::stream::{Stream, is_timeout};
use crate::value::Value;

/// What hears of everything that comes, in its order. See the [crate](crate).
///
/// The reader calls it, so it must be quick, and must not call the lane.
pub trait Sink: Send + Sync {
    /// A connection begins. What it tracks is pushed from now on.
    fn began(&self) {}

    /// The server pushed this.
    fn pushed(&self, _parts: &[Value]) {}

    /// The reply to a request with a note has come. Returns a stamp for its caller.
    fn answered(&self, _note: u64, _reply: &Value) -> u64 {
        0
    }

    /// The connection has ended. What happens from now on is not pushed.
    fn ended(&self) {}
}

/// Hears nothing.
#[derive(Clone, Copy, Debug)]
pub struct NoSink;

impl Sink for NoSink {}

/// What has come of a request.
#[derive(Debug, Default)]
pub struct Answer {
    /// One reply for each command.
    pub replies: Vec<Value>,
    /// What [`Sink::answered`] said of the last one.
    pub stamp: u64,
}

/// Called once with what has come of a request, by the reader or by whoever ends the connection. It must not block.
pub type Answered = Box<dyn FnOnce(Result<Answer, Error>) + Send>;

struct Waiting {
    /// Where its bytes begin, counted from the beginning of the connection.
    start: u64,
    left: usize,
    answer: Answer,
    note: Option<u64>,
    answered: Answered,
}

#[derive(Default)]
struct State {
    /// Bytes that nobody has begun to write.
    unsent: Vec<u8>,
    is_writing: bool,
    /// How many bytes were put in line, and how many of them somebody has begun to write.
    queued: u64,
    begun: u64,
    waiting: VecDeque<Waiting>,
    end: Option<Error>,
}

/// A connection that the server has accepted.
pub(crate) struct Connection {
    stream: Stream,
    state: Mutex<State>,
    /// How often something has come.
    heard: AtomicU64,
}

/// The length of a buffer as an offset in a connection.
fn offset(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

impl Connection {
    pub(crate) fn new(stream: Stream) -> Self {
        Self { stream, state: Mutex::default(), heard: AtomicU64::new(0) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics between two changes that belong together.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often something has come.
    pub(crate) fn heard(&self) -> u64 {
        self.heard.load(Ordering::Acquire)
    }

    /// Puts a request in line, and writes it unless another thread is writing. Gives it back where the connection has
    /// ended.
    pub(crate) fn send(
        &self,
        request: Request,
        answered: Answered,
        until: Instant,
        sink: &dyn Sink,
    ) -> Result<(), (Request, Answered)> {
        let mut state = self.lock();
        if state.end.is_some() {
            return Err((request, answered));
        }
        if state.unsent.is_empty() {
            let start = state.queued;
            state.queued += offset(request.bytes.len());
            state.put(start, &request, answered);
            state.unsent = request.bytes;
        } else {
            if state.unsent.try_reserve(request.bytes.len()).is_err() {
                drop(state);
                answered(Err(Error::not_sent(Kind::Lost, "there is no memory for a request")));
                return Ok(());
            }
            let start = state.queued;
            state.queued += offset(request.bytes.len());
            state.put(start, &request, answered);
            state.unsent.extend_from_slice(&request.bytes);
        }
        if state.is_writing {
            return Ok(());
        }
        state.is_writing = true;
        while !state.unsent.is_empty() && state.end.is_none() {
            let bytes = std::mem::take(&mut state.unsent);
            state.begun += offset(bytes.len());
            drop(state);
            if let Err(error) = self.stream.write_all(&bytes, until) {
                let kind = if is_timeout(&error) { Kind::TimedOut } else { Kind::Lost };
                self.end(
                    &Error::unknown(kind, format!("the connection to the server was lost: {error}")),
                    sink,
                );
            }
            state = self.lock();
        }
        state.is_writing = false;
        Ok(())
    }

    /// Ends it. All waiting callers get the reason.
    pub(crate) fn end(&self, why: &Error, sink: &dyn Sink) {
        let (waiting, begun) = {
            let mut state = self.lock();
            if state.end.is_some() {
                return;
            }
            state.end = Some(why.clone());
            state.unsent = Vec::new();
            (std::mem::take(&mut state.waiting), state.begun)
        };
        sink.ended();
        self.stream.shut_down();
        for one in waiting {
            (one.answered)(Err(why.of_request(one.start < begun)));
        }
    }

    /// Reads until the connection ends.
    pub(crate) fn read(&self, decoder: &mut Decoder, sink: &dyn Sink) {
        let mut buffer = vec![0; 1 << 16];
        let why = loop {
            if let Err(error) = self.take(decoder, sink) {
                break format!("the connection to the server was ended: {error}");
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => break "the server closed the connection".to_owned(),
                Err(error) => break format!("the connection to the server was lost: {error}"),
                Ok(count) => {
                    self.heard.fetch_add(1, Ordering::AcqRel);
                    if let Err(error) = decoder.feed(&buffer[..count]) {
                        break error;
                    }
                }
            }
        };
        self.end(&Error::unknown(Kind::Lost, why), sink);
    }

    fn take(&self, decoder: &mut Decoder, sink: &dyn Sink) -> Result<(), String> {
        while let Some(value) = decoder.next()? {
            if let Value::Push(parts) = value {
                sink.pushed(&parts);
                continue;
            }
            let mut state = self.lock();
            let Some(first) = state.waiting.front() else {
                // Another thread may have ended it, and then has told everybody.
                return if state.end.is_some() {
                    Ok(())
                } else {
                    Err("an answer came that nobody asked for".into())
                };
            };
            let mut stamp = None;
            if let Some(note) = first.note {
                // Without the lock. Only this thread takes requests out of the line, but for one that ends all.
                drop(state);
                stamp = Some(sink.answered(note, &value));
                state = self.lock();
            }
            let done = state.answer(value, stamp);
            drop(state);
            if let Some(done) = done {
                (done.answered)(Ok(done.answer));
            }
        }
        Ok(())
    }
}

impl State {
    fn put(&mut self, start: u64, request: &Request, answered: Answered) {
        let answer = Answer { replies: Vec::new(), stamp: 0 };
        self.waiting.push_back(Waiting {
            start,
            left: request.replies,
            answer,
            note: request.note,
            answered,
        });
    }

    /// Gives a reply to the first in line. Returns the request once it is answered.
    fn answer(&mut self, value: Value, stamp: Option<u64>) -> Option<Waiting> {
        let first = self.waiting.front_mut()?;
        first.answer.replies.push(value);
        first.answer.stamp = stamp.unwrap_or(first.answer.stamp);
        first.left = first.left.saturating_sub(1);
        if first.left > 0 { None } else { self.waiting.pop_front() }
    }
}
