#![doc = include_str!("README.md")]
// Exceptions are `mapping`, `lost_file`, `process`, `prefetch`, and the modules of `system` that call the C library or the
// kernel.
#![deny(unsafe_code)]
#![expect(
    clippy::cast_possible_truncation,
    reason = "words are counted in words: only 64-bit targets are built"
)]
#![cfg(all(
    any(target_os = "linux", target_os = "macos", windows),
    target_pointer_width = "64",
    target_endian = "little"
))]

mod cache;
mod clock;
mod directory;
mod error;
mod evict;
mod hold;
mod layout;
mod lease;
mod lookup;
#[cfg(unix)]
mod lost_file;
mod mapping;
mod numbers;
mod open;
#[cfg(any(test, feature = "owner-lock", not(target_os = "linux")))]
mod owner_lock;
mod polling;
mod prefetch;
mod process;
mod record;
mod segment;
#[cfg(not(feature = "stall-points"))]
#[expect(dead_code, unreachable_pub, reason = "only tests use all of it")]
mod stall;
#[cfg(feature = "stall-points")]
pub mod stall;
mod stamps;
mod stripe;
mod system;
mod tags;
mod terms;
mod words;
mod write;
mod writers_lock;

#[cfg(windows)]
use system::lost_file;

pub use cache::SharedCache;
pub use clock::now;
pub use error::{Error, Result};
pub use lease::{Lease, LeaseTerms, Token, Wait};
pub use open::{remove_left, remove_unused};
pub use record::{Key, Tag, Value, kind};
pub use segment::Patience;
pub use terms::{
    Condition, Entry, Location, Options, Put, Stamp, Stamped, Stats, Version, Written, directory_of_names,
};
