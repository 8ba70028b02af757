//! Sessions: typed values over several backends. `flexcache_rs.sessions` is built on it.

mod call;
mod cell;
mod codec;
mod disk;
mod errors;
mod memory;
mod reply;

pub(crate) use call::SessionCall;
pub(crate) use codec::SessionCodec;
pub(crate) use disk::DiskSession;
pub(crate) use memory::{MemoryKeys, MemorySession, MemorySessionTransaction};
