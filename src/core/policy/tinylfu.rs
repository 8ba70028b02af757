//! W-TinyLFU.

use super::steered::{Courses, Steered};
use super::steering::{Admission, Course};

/// The courses of [`TinyLfu`].
#[derive(Clone, Copy, Debug)]
pub struct Windows;

const fn window(window: usize) -> Course {
    Course { window, admission: Admission::Frequency }
}

impl Courses for Windows {
    const COURSES: &'static [Course] = &[window(1), window(10), window(30), window(60), window(99)];
}

/// Windowed TinyLFU.
pub type TinyLfu = Steered<Windows>;
