//! The errors of calls.

use std::fmt;

/// Why a call has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The deadline has passed.
    TimedOut,
    /// There is no connection, or it was lost.
    Lost,
    /// The server refused the connection: a wrong password, or no RESP3.
    Refused,
    /// The caller stopped waiting.
    Interrupted,
}

/// A call without an answer. A server that refuses a command has answered: see [`Value::Error`](crate::Value::Error).
#[derive(Clone, Debug)]
pub struct Error {
    kind: Kind,
    may_be_executed: bool,
    message: String,
}

impl Error {
    pub(crate) fn not_sent(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, may_be_executed: false, message: message.into() }
    }

    pub(crate) fn unknown(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, may_be_executed: true, message: message.into() }
    }

    /// The same error for a request that was sent (or was not).
    pub(crate) fn of_request(&self, was_sent: bool) -> Self {
        Self { may_be_executed: was_sent, ..self.clone() }
    }

    /// Why there is no answer.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether the server may have executed the request. False only if no byte of it was sent.
    #[must_use]
    pub fn may_be_executed(&self) -> bool {
        self.may_be_executed
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
