//! The recommended policy: one structure that finds out by itself whether recency, frequency or ghosts best
//! predict which entries will be needed.
//!
//! It has five configurations. Three admit entries to the main space by frequency, with windows of different
//! sizes, as [`TinyLfu`](super::TinyLfu) does. The other two admit an entry that was hit at least twice in
//! the window, or that comes back while its ghost is remembered, as S3-FIFO, ARC and 2Q do. The policy starts
//! with one of these two, which suits most workloads before anything is known of them. A change of
//! configuration moves entries between window and main space. It forgets nothing.

use super::tinylfu::window;
use super::tuner::{Admission, Configuration};
use super::windowed::{Configurations, Windowed};

/// The configurations between which [`Auto`] chooses.
#[derive(Clone, Copy, Debug)]
pub struct WindowsAndGhosts;

impl Configurations for WindowsAndGhosts {
    const CONFIGURATIONS: &'static [Configuration] = &[
        Configuration { window: 100, admission: Admission::Ghosts(10) },
        window(8),
        window(300),
        window(990),
        Configuration { window: 10, admission: Admission::Ghosts(15) },
    ];
}

/// Only the smallest window, with admission by frequency.
#[cfg(feature = "untuned")]
#[derive(Clone, Copy, Debug)]
pub struct OneWindow;

#[cfg(feature = "untuned")]
impl Configurations for OneWindow {
    const CONFIGURATIONS: &'static [Configuration] =
        WindowsAndGhosts::CONFIGURATIONS.split_at(1).1.split_at(1).0;
}

/// Only the last configuration.
#[cfg(feature = "untuned")]
#[derive(Clone, Copy, Debug)]
pub struct OneWithGhosts;

#[cfg(feature = "untuned")]
impl Configurations for OneWithGhosts {
    const CONFIGURATIONS: &'static [Configuration] = WindowsAndGhosts::CONFIGURATIONS.split_at(4).1;
}

/// [`Auto`] without its tuner and without ghosts, to measure what the tuner costs.
#[cfg(feature = "untuned")]
pub type UntunedWindow = Windowed<OneWindow>;

/// [`Auto`] without its tuner, with ghosts.
#[cfg(feature = "untuned")]
pub type UntunedGhosts = Windowed<OneWithGhosts>;

/// Evicts by recency, by frequency or by ghosts, whichever suits the workload best.
pub type Auto = Windowed<WindowsAndGhosts>;
