//! The cache through its public calls, in one process and in several.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "the numbers of tests are small"
)]
#![cfg_attr(
    windows,
    expect(dead_code, unused_imports, reason = "tests that stop processes or look into /proc are left out")
)]

mod calls;
#[cfg(feature = "stall-points")]
mod deaths;
mod files;
mod leases;
#[cfg(unix)]
mod lost_files;
mod model;
mod numbers;
mod peer;
mod policy;
#[cfg(feature = "strict")]
mod recount;
mod stress;
mod support;
mod versions;
