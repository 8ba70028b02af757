//! The policy to recommend to everybody: one structure that finds out by itself whether recency,
//! frequency or ghosts say what will be needed.
//!
//! Beside the windows of [`TinyLfu`](super::TinyLfu) it has two courses on which not frequency
//! decides who comes from the window into the main space, but whether an entry was hit at least
//! twice in the window, or comes back while its ghost is remembered: as in S3-FIFO, ARC and 2Q.
//! To change course moves entries between window and main space, and forgets nothing.

use super::steered::{Courses, Steered};
use super::steering::{Admission, Course};
use super::tinylfu::window;

/// The courses between which [`Auto`] chooses.
#[derive(Clone, Copy, Debug)]
pub struct WindowsAndGhosts;

impl Courses for WindowsAndGhosts {
    const COURSES: &'static [Course] = &[
        window(8),
        window(100),
        window(300),
        window(600),
        window(990),
        Course { window: 100, admission: Admission::Ghosts(10) },
        Course { window: 10, admission: Admission::Ghosts(15) },
    ];
}

/// The first of these courses, for ever.
#[cfg(feature = "unsteered")]
#[derive(Clone, Copy, Debug)]
pub struct OneWindow;

#[cfg(feature = "unsteered")]
impl Courses for OneWindow {
    const COURSES: &'static [Course] = WindowsAndGhosts::COURSES.split_at(1).0;
}

/// The last.
#[cfg(feature = "unsteered")]
#[derive(Clone, Copy, Debug)]
pub struct OneWithGhosts;

#[cfg(feature = "unsteered")]
impl Courses for OneWithGhosts {
    const COURSES: &'static [Course] = WindowsAndGhosts::COURSES.split_at(6).1;
}

/// What [`Auto`] is without steering, to measure what that costs; without ghosts either.
#[cfg(feature = "unsteered")]
pub type UnsteeredWindow = Steered<OneWindow>;

/// What [`Auto`] is without steering, and with ghosts.
#[cfg(feature = "unsteered")]
pub type UnsteeredGhosts = Steered<OneWithGhosts>;

/// Evicts by recency, by frequency or by ghosts, as suits the workload best.
pub type Auto = Steered<WindowsAndGhosts>;
