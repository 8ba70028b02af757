//! One RESP3 connection to a Valkey or Redis server for all threads of a process.
//!
//! [`Lane`] is what programs use. It connects when it is first needed and again after a connection was lost.
//!
//! # Order
//!
//! A server sends answers in the order of the requests of a connection, and a push between the answers where it
//! happened. One thread reads them in that order, and calls the [`Sink`] and the callers in that order:
//!
//! 1. [`Sink::pushed`] has returned before the reader looks at what came after the push.
//! 2. [`Sink::answered`] is called for a reply after all pushes that came before it, and before all that come after it.
//!    The stamp that it returns goes to the caller with the reply.
//!
//! Assume that the sink ends copies of a key when it hears that the key was written, and gives the state of the key as
//! the stamp. The server executes a read at one moment. It pushes a write of before that moment before the reply, so
//! the stamp already counts it: the copy lives. It pushes a write of after that moment after the reply, so the stamp
//! does not count it, and the copy dies when the push comes, whether or not the caller has stored it by then. A stamp
//! which is taken before the request is sent is also safe against writes of others, as it is older. It is not against
//! own writes with `NOLOOP`, of which there is no push: the sink must count these in [`Sink::answered`]. That is why the
//! reader calls it for the reply of every request with a note, also where the caller has given up.
//!
//! A lost connection may have lost pushes. [`Sink::ended`] is called before any caller learns of the loss, and the sink
//! must end all copies. A connection is shown to callers only after the server has confirmed that it tracks keys, and
//! [`Sink::began`] was called.

mod connection;
mod decode;
mod encode;
mod error;
mod handshake;
mod lane;
mod stream;
mod value;

pub use connection::{Answer, Answered, NoSink, Sink};
pub use decode::Decoder;
pub use encode::Request;
pub use error::{Error, Kind};
pub use handshake::Settings;
pub use lane::{Lane, Ticket};
pub use stream::Address;
pub use value::Value;
