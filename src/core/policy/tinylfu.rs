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
    const COURSES: &'static [Course] = &[window(8), window(100), window(300), window(600), window(990)];
}

/// Windowed TinyLFU.
pub type TinyLfu = Steered<Windows>;
