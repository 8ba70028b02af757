//! Time as the core sees it: nanoseconds on a clock that never goes back.
//!
//! The core reads no clock by itself. The caller passes one.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// Nanoseconds since a clock's own beginning.
pub type Nanos = u64;

/// A monotonic clock.
pub trait Clock {
    /// The time now.
    fn now(&self) -> Nanos;

    /// Whether `deadline` has come. A clock may answer this more cheaply than by [`now`](Self::now), but the
    /// answer is the same.
    #[inline]
    fn reached(&self, deadline: Nanos) -> bool {
        self.now() >= deadline
    }
}

/// The system's monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct MonotonicClock {
    start: Instant,
}

impl MonotonicClock {
    /// A clock that begins now.
    #[must_use]
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for MonotonicClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for MonotonicClock {
    fn now(&self) -> Nanos {
        Nanos::try_from(self.start.elapsed().as_nanos()).unwrap_or(Nanos::MAX)
    }
}

/// A clock that moves when told to, for tests.
///
/// ```
/// use std::time::Duration;
/// use flexcache_core::{Clock, ManualClock};
///
/// let clock = ManualClock::default();
/// clock.advance(Duration::from_millis(2));
/// assert_eq!(clock.now(), 2_000_000);
/// ```
#[derive(Clone, Debug, Default)]
pub struct ManualClock {
    now: Cell<Nanos>,
}

impl ManualClock {
    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        let by = Nanos::try_from(by.as_nanos()).unwrap_or(Nanos::MAX);
        self.now.set(self.now.get().saturating_add(by));
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Nanos {
        self.now.get()
    }
}

impl<C: Clock> Clock for &C {
    #[inline]
    fn now(&self) -> Nanos {
        (**self).now()
    }

    #[inline]
    fn reached(&self, deadline: Nanos) -> bool {
        (**self).reached(deadline)
    }
}
