//! A connection to a Valkey or Redis server for all threads. What the direct lane of `flexcache_rs.remote` stands on.

#[cfg(unix)]
mod awaited;
mod lane;
mod reply;
mod request;

#[cfg(unix)]
pub(crate) use awaited::{RemoteInbox, RemoteTicket};
pub(crate) use lane::RemoteLane;
