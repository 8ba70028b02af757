//! A connection to a Valkey or Redis server for all threads. What the direct lane of `flexcache_rs.remote` stands on.

#[cfg(unix)]
mod awaited;
mod entry;
mod lane;
mod replies;
mod reply;
mod request;

#[cfg(unix)]
pub(crate) use awaited::RemoteInbox;
pub(crate) use lane::RemoteLane;
pub(crate) use replies::RemoteReplies;
