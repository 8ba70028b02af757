//! One RESP3 connection to a Valkey or Redis server for all threads of a process.
//!
//! [`Lane`] is what programs use. It connects when it is first needed and again after a connection was lost.
//!
//! # What was sent
//!
//! A server sends answers in the order of the requests of a connection. One thread at a time reads them, and tells the
//! callers in that order, also those who have given up: so a late answer is nobody else's.
//!
//! A request of which no byte was sent when its connection ended is sent once more on the next one. Of any other the
//! caller learns that the server may have executed it.

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
