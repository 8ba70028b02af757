//! W-TinyLFU (Einziger, Friedman, Manes, 2017): a window of new entries, and a segmented main space that
//! admits an entry only if it was requested more often, lately, than the entry that would be evicted for it.
//! A [sketch](super::sketch) estimates how often.
//!
//! The size of the window is not adjusted step by step (hill climbing), but chosen from five sizes by
//! miniature simulations, which are not caught in a local optimum; "Adaptive software cache management"
//! (2018) compares both. Where weights differ, the victim is the entry that was seen least often for its
//! weight, among the coldest and some others. A hit moves its entry and counts it. An eviction compares two
//! estimates or, with weights, at most 64.

use super::tuner::{Admission, Configuration};
use super::windowed::{Configurations, Windowed};

/// The windows between which [`TinyLfu`] chooses.
#[derive(Clone, Copy, Debug)]
pub struct Windows;

/// A window of `window` thousandths of the entries, with admission by frequency.
pub(super) const fn window(window: usize) -> Configuration {
    Configuration { window, admission: Admission::Frequency }
}

impl Configurations for Windows {
    const CONFIGURATIONS: &'static [Configuration] =
        &[window(8), window(100), window(300), window(600), window(990)];
}

/// Evicts entries that were seldom requested lately. A window, whose size suits the workload, gives new
/// entries time to collect hits.
pub type TinyLfu = Windowed<Windows>;
