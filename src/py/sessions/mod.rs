//! Sessions: typed values over several backends. The base of `flexcache_rs.sessions`.

mod call;
mod cell;
mod codec;
mod disk;
mod errors;
pub(crate) mod fast;
mod memory;
mod reply;

pub(crate) use call::SessionCall;
pub(crate) use codec::SessionCodec;
pub(crate) use disk::DiskSession;
pub(crate) use memory::{MemoryKeys, MemorySession, MemorySessionTransaction};
