//! W-TinyLFU (Einziger, Friedman, Manes, 2017): a window of newcomers, and a segmented main space
//! into which only those come who were asked for more often, lately, than whoever would have to
//! leave for them. How often is estimated by a [sketch](super::sketch).
//!
//! Here the window is not moved step by step, uphill, but chosen from five sizes by miniature
//! simulations, which see the top from afar: "Adaptive software cache management" (2018) compares
//! both. Where weights differ, the one that leaves is the least seen for what it weighs, of the
//! coldest and some others. A hit moves its entry and counts it; an eviction compares two
//! estimates, or, with weights, at most 64.

use super::steered::{Courses, Steered};
use super::steering::{Admission, Course};

/// The windows between which [`TinyLfu`] chooses.
#[derive(Clone, Copy, Debug)]
pub struct Windows;

/// A window of so many thousandths, with admission by frequency.
pub(super) const fn window(window: usize) -> Course {
    Course { window, admission: Admission::Frequency }
}

impl Courses for Windows {
    const COURSES: &'static [Course] = &[window(8), window(100), window(300), window(600), window(990)];
}

/// Evicts what was not asked for often, lately; a window, of the size that suits the workload, gives
/// newcomers time to show what they are worth.
pub type TinyLfu = Steered<Windows>;
