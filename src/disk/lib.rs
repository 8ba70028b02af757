#![doc = include_str!("README.md")]
// Exceptions are `faulty_vfs`, which only tests have, `asymmetric_fence`, `log_frames`, `lookup`, `tracker`,
// `vacuum`, `version`, and one function each of `background` and `store`.
#![deny(unsafe_code)]

mod asymmetric_fence;
mod background;
mod check;
pub mod compression;
mod connection;
mod counters;
mod database_file;
mod directory;
mod effects;
mod error;
mod evict;
mod eviction_rules;
#[cfg(not(feature = "fault-injection"))]
#[expect(dead_code, unreachable_pub, reason = "only tests use all of it")]
mod faults;
#[cfg(feature = "fault-injection")]
pub mod faults;
#[cfg(feature = "fault-injection")]
#[expect(unsafe_code, reason = "it is a file system for SQLite")]
mod faulty_vfs;
pub mod files;
mod gates;
mod leases;
#[expect(unsafe_code, reason = "it is a file system for SQLite")]
mod log_frames;
mod log_upkeep;
mod lookup;
mod owner;
mod patience;
mod pool;
#[cfg(feature = "fault-injection")]
pub mod power_loss;
mod query;
mod queue;
mod read;
mod read_only;
mod row;
mod schema;
mod sessions;
mod settings;
mod sql;
mod sqlite_guard;
mod store;
mod stripes;
mod thread_end;
mod tracker;
mod unchanged;
#[expect(unsafe_code, reason = "SQLite's interface is C")]
mod vacuum;
mod version;
mod waiting_frames;
mod write;

pub use check::Finding;
pub use compression::Compression;
pub use directory::DATABASE;
pub use error::{Error, Result};
pub use eviction_rules::{Policy, Rules};
pub use leases::{LeaseTerms, LeaseToken, Leased};
pub use pool::TransactionId;
pub use query::{Parameters, Rows};
pub use queue::Side;
pub use read::Order;
pub use row::{Entry, Key, Label, OwnedKey, Record, mode};
pub use rusqlite::types::{Value, ValueRef};
pub use schema::METADATA;
pub use sessions::{Micros, Outcome, SESSIONS_DATABASE, SessionError, SessionStore};
pub use settings::PRAGMAS;
pub use sqlite_guard::is_open_here;
pub use store::{DiskStore, PATIENCE_TO_OPEN, Remove};
pub use stripes::{CommitObserver, Moments, STRIPES, StripeSet, WrittenStripes, stripe_of};
pub use tracker::{Commit, Written};
pub use version::Version;
pub use write::{Counted, Number, Put};
