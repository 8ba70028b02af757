//! Auto.

use super::steered::{Courses, Steered};
use super::steering::{Admission, Course};

/// The courses of [`Auto`].
#[derive(Clone, Copy, Debug)]
pub struct WindowsAndGhosts;

const fn window(window: usize) -> Course {
    Course { window, admission: Admission::Frequency }
}

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

/// Auto.
pub type Auto = Steered<WindowsAndGhosts>;
