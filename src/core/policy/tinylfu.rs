//! W-TinyLFU (Einziger, Friedman, Manes, 2017): a window of newcomers, and a segmented main space
//! that admits an entry only if it was requested more often, lately, than the entry that would be
//! evicted for it. A [sketch](super::sketch) estimates how often.
//!
//! Here the window is not moved step by step, uphill, but chosen from five sizes by miniature
//! simulations, which see the top from afar: "Adaptive software cache management" (2018) compares
//! both. Where weights differ, the one that leaves is the least seen for what it weighs, of the
//! coldest and some others. A hit moves its entry and counts it; an eviction compares two
//! estimates, or, with weights, at most 64.

use super::tuner::{Admission, Configuration};
use super::windowed::{Configurations, Windowed};

/// The windows between which [`TinyLfu`] chooses.
#[derive(Clone, Copy, Debug)]
pub struct Windows;

/// A window of so many thousandths, with admission by frequency.
pub(super) const fn window(window: usize) -> Configuration {
    Configuration { window, admission: Admission::Frequency }
}

impl Configurations for Windows {
    const CONFIGURATIONS: &'static [Configuration] =
        &[window(8), window(100), window(300), window(600), window(990)];
}

/// Evicts what was not asked for often, lately; a window, of the size that suits the workload, gives
/// newcomers time to show what they are worth.
pub type TinyLfu = Windowed<Windows>;
