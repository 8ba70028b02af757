#![doc = include_str!("README.md")]
#![forbid(unsafe_code)]

mod arena;
mod cache;
mod clock;
mod column;
mod error;
mod index;
mod list;
mod memory;
mod node;
pub mod policy;
mod push_tracker;
pub mod replay;
mod slot;
mod stats;
pub mod store;
mod table;
mod tags;
pub mod tracker;
mod weights;
mod wheel;
mod write_epoch;

// A test under loom includes `write_epoch.rs`, and has loom's atomic integers here.
use std::sync::atomic;

pub use cache::{Builder, Cache};
pub use clock::{Clock, ManualClock, MonotonicClock, Nanos};
pub use error::Error;
pub use memory::{OutOfMemory, TryBox, TryClone};
pub use push_tracker::PushTracker;
pub use slot::Slot;
pub use stats::Stats;
pub use store::{Cause, EntryStore, HashCheck, Limits, Lookup, New, PlainPlace, RemovalSink, Removed};
pub use tracker::{Stamp, Tracker};
