//! One RESP3 connection to a Valkey or Redis server for all threads of a process.
//!
//! Programs use [`Lane`]. It connects when it is first needed, and again after a connection was lost.
//!
//! # What was sent
//!
//! A server sends answers in the order of the requests on a connection. One thread at a time reads the
//! answers, and assigns them to the requests in that order. Requests whose callers have given up keep their
//! place, so a late answer never goes to another caller.
//!
//! If no byte of a request was sent when its connection ended, the request is sent once more on the next
//! connection. Otherwise the caller gets an error which says that the server may have executed it.

mod connection;
mod decode;
mod encode;
mod error;
mod handshake;
mod lane;
mod reading;
mod slot;
mod stream;
mod value;

pub use decode::Decoder;
pub use encode::Request;
pub use error::{Error, Kind};
pub use handshake::Settings;
pub use lane::Lane;
pub use stream::Address;
pub use value::Value;
