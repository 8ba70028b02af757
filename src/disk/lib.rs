#![doc = include_str!("README.md")]
// Three modules, `frames`, `lookup` and `version`, expect it.
#![deny(unsafe_code)]

mod changes;
mod check;
pub mod compression;
mod error;
mod evict;
pub mod files;
#[cfg(all(unix, target_pointer_width = "64"))]
mod frames;
mod lookup;
mod neighbours;
mod pool;
mod queue;
mod read;
mod record;
mod rules;
mod schema;
mod store;
mod version;
mod write;

pub use check::Finding;
pub use compression::Compression;
pub use error::{Error, Result};
pub use neighbours::is_open_here;
pub use queue::Side;
pub use read::Order;
pub use record::{Entry, Key, Label, OwnedKey, Record, mode};
pub use rules::{Policy, Rules};
pub use rusqlite::types::{Value, ValueRef};
pub use schema::METADATA;
pub use store::{DATABASE, Remove, Store};
pub use version::Version;
pub use write::{Counted, Number};
