//! A connection to a Valkey or Redis server for all threads. The base of the direct lane of `flexcache_rs.remote`.

mod entry;
mod lane;
mod place;
mod replies;
mod reply;
mod request;
#[cfg(unix)]
mod socket;

pub(crate) use entry::{entries, one_entry};
pub(crate) use lane::RemoteLane;
pub(crate) use place::places;
pub(crate) use replies::RemoteReplies;
pub(crate) use request::{command, commands};
#[cfg(unix)]
pub(crate) use socket::RemoteSocket;
