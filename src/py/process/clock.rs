//! The process's monotonic clock, which is cheap to compare with a deadline that is not near.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flexcache_core::{Clock, Nanos};

/// How far tests have moved the clock ahead of the system's.
static AHEAD: AtomicU64 = AtomicU64::new(0);

/// How far tests have moved the clock ahead of the system's.
pub(crate) fn ahead() -> Nanos {
    AHEAD.load(Ordering::Relaxed)
}

/// The system's monotonic clock, moved ahead by [`advance`].
#[derive(Clone, Copy)]
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    #[inline]
    fn now(&self) -> Nanos {
        system::precise().saturating_add(AHEAD.load(Ordering::Relaxed))
    }

    /// The coarse clock costs a tenth of the precise one. It lags by at most a known bound, so it is enough
    /// for deadlines that are further away than that.
    #[inline(always)]
    fn reached(&self, deadline: Nanos) -> bool {
        latest() >= deadline && self.now() >= deadline
    }
}

/// A time that is at or shortly after now.
#[inline(always)]
fn latest() -> Nanos {
    system::coarse_at_most().saturating_add(AHEAD.load(Ordering::Relaxed))
}

/// The system's clock as one locked section sees it: read at most once, so that all its steps agree on what has expired.
#[derive(Default)]
pub(crate) struct ClockOfSection {
    /// Not before now; 0 until it is read.
    latest: Cell<Nanos>,
    /// 0 until it is read.
    now: Cell<Nanos>,
}

fn read_once(place: &Cell<Nanos>, read: impl FnOnce() -> Nanos) -> Nanos {
    if place.get() == 0 {
        place.set(read());
    }
    place.get()
}

impl Clock for ClockOfSection {
    #[inline]
    fn now(&self) -> Nanos {
        read_once(&self.now, || SystemClock.now())
    }

    #[inline]
    fn reached(&self, deadline: Nanos) -> bool {
        read_once(&self.latest, latest) >= deadline && self.now() >= deadline
    }
}

/// The last time that a function of the user returned. It never goes back.
#[derive(Debug)]
pub(crate) struct GivenTime {
    /// The bits of the first result of the function, in seconds; NaN until then.
    first: AtomicU64,
    now: AtomicU64,
}

impl GivenTime {
    /// The time at which the clock begins, so that 0 is before it.
    const BEGINNING: Nanos = 1_000_000_000;

    pub(crate) fn new() -> Self {
        Self { first: AtomicU64::new(f64::NAN.to_bits()), now: AtomicU64::new(Self::BEGINNING) }
    }

    /// Sets the clock to a result of the function. If the function goes back, the clock stands still until it
    /// has caught up.
    pub(crate) fn advance_to(&self, seconds: f64) {
        let first = f64::from_bits(self.first.load(Ordering::Acquire));
        let first = if first.is_nan() {
            let told = self.first.compare_exchange(
                f64::NAN.to_bits(),
                seconds.to_bits(),
                Ordering::AcqRel,
                Ordering::Acquire,
            );
            told.map_or_else(f64::from_bits, |_| seconds)
        } else {
            first
        };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
        let passed = ((seconds - first).max(0.0) * 1e9) as Nanos;
        self.now.fetch_max(Self::BEGINNING.saturating_add(passed), Ordering::AcqRel);
    }
}

/// The clock of one cache: the system's, or the time that a function of the user returns.
#[derive(Clone, Debug)]
pub(crate) enum CacheClock {
    System,
    Given(Arc<GivenTime>),
}

impl CacheClock {
    /// The clock as one locked section sees it.
    #[inline]
    pub(crate) fn of_section(&self) -> ClockOfSection {
        match self {
            Self::System => ClockOfSection::default(),
            Self::Given(time) => {
                let now = time.now.load(Ordering::Acquire);
                ClockOfSection { latest: Cell::new(now), now: Cell::new(now) }
            }
        }
    }

    pub(crate) fn is_given(&self) -> bool {
        matches!(self, Self::Given(_))
    }
}

impl Clock for CacheClock {
    #[inline]
    fn now(&self) -> Nanos {
        match self {
            Self::System => SystemClock.now(),
            Self::Given(time) => time.now.load(Ordering::Acquire),
        }
    }

    #[inline]
    fn reached(&self, deadline: Nanos) -> bool {
        match self {
            Self::System => SystemClock.reached(deadline),
            Self::Given(time) => time.now.load(Ordering::Acquire) >= deadline,
        }
    }
}

/// Moves the clock of every cache in the process forward.
pub(crate) fn advance(by: Nanos) {
    let _ = AHEAD.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |ahead| Some(ahead.saturating_add(by)));
}

#[cfg(target_os = "linux")]
mod system {
    use std::sync::LazyLock;

    use flexcache_core::Nanos;
    use rustix::time::{ClockId, Timespec, clock_getres, clock_gettime};

    #[inline]
    fn nanos(time: &Timespec) -> Nanos {
        time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
    }

    #[inline]
    pub(super) fn precise() -> Nanos {
        nanos(&clock_gettime(ClockId::Monotonic))
    }

    /// The longest lag of the coarse clock. In a virtual machine, ticks are late by two and more.
    static LAG: LazyLock<Nanos> =
        LazyLock::new(|| (5 * nanos(&clock_getres(ClockId::MonotonicCoarse))).max(20_000_000));

    /// A time that is at or shortly after now.
    #[inline(always)]
    pub(super) fn coarse_at_most() -> Nanos {
        nanos(&clock_gettime(ClockId::MonotonicCoarse)) + *LAG
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::sync::OnceLock;

    use flexcache_core::{Clock, MonotonicClock, Nanos};

    pub(super) fn precise() -> Nanos {
        static CLOCK: OnceLock<MonotonicClock> = OnceLock::new();
        CLOCK.get_or_init(MonotonicClock::new).now()
    }

    pub(super) fn coarse_at_most() -> Nanos {
        precise()
    }
}
