#![doc = include_str!("README.md")]
// Three modules are exempt: `lookup`, `tracker` and `version`.
#![deny(unsafe_code)]

mod check;
pub mod compression;
mod connection;
mod directory;
mod effects;
mod error;
mod evict;
mod eviction_rules;
pub mod files;
mod log_upkeep;
mod lookup;
mod patience;
mod pool;
mod queue;
mod read;
mod row;
mod schema;
mod settings;
mod sqlite_guard;
mod store;
mod thread_end;
mod tracker;
mod version;
mod write;

pub use check::Finding;
pub use compression::Compression;
pub use error::{Error, Result};
pub use eviction_rules::{Policy, Rules};
pub use queue::Side;
pub use read::Order;
pub use row::{Entry, Key, Label, OwnedKey, Record, mode};
pub use rusqlite::types::{Value, ValueRef};
pub use schema::METADATA;
pub use sqlite_guard::is_open_here;
pub use store::{DATABASE, DiskStore, Remove};
pub use tracker::{Commit, Written};
pub use version::Version;
pub use write::{Counted, Number};
