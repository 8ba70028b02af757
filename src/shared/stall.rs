//! Points between two stores that belong together, at which a test can kill or stop this process.
//!
//! They exist only with the feature `stall-points`.

/// The points. Tests refer to them by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Point {
    /// The lock is held, and nothing is changed.
    Locked = 1,
    /// A crowded slot was taken from another entry.
    SlotTaken = 2,
    /// A record's head is written, but not its value.
    HalfWritten = 3,
    /// The log's head has moved, but the slot is not written.
    BeforeSlot = 4,
    /// A record is published, but the sums are not updated.
    BeforeSums = 5,
    /// A copy is published, but the tail has not passed the old one.
    BeforeTail = 6,
    /// The tail has moved, but nothing is overwritten.
    AfterTail = 7,
    /// The version word is odd, but nothing is published.
    VersionOdd = 8,
    /// Everything is done, but the version word is still odd.
    BeforeEven = 9,
    /// In the middle of a reset.
    Reset = 10,
    /// In the middle of `clear`.
    Clear = 11,
    /// A segment is complete, but has no name.
    BeforeLink = 12,
    /// A segment is retired, but still has its name.
    AfterRetired = 13,
    /// The generation is odd, but the tag's version has not changed.
    EvictionBegun = 14,
    /// The tag's version has changed, and the generation is still odd.
    TagMoved = 15,
}

impl Point {
    /// The points inside a stripe's locked section that a put reaches.
    pub const OF_A_PUT: [Self; 8] = [
        Self::Locked,
        Self::HalfWritten,
        Self::BeforeSlot,
        Self::BeforeSums,
        Self::BeforeTail,
        Self::AfterTail,
        Self::VersionOdd,
        Self::BeforeEven,
    ];
}

/// Does nothing, without the feature.
#[cfg(not(feature = "stall-points"))]
#[inline(always)]
pub(crate) fn at(_point: Point) {}

#[cfg(feature = "stall-points")]
pub use armed::{arm, at};

#[cfg(feature = "stall-points")]
mod armed {
    use std::sync::atomic::AtomicU32;
    use std::sync::atomic::Ordering::SeqCst;
    use std::time::Duration;

    #[cfg(unix)]
    use rustix::process::{Signal, getpid, kill_process};

    use super::Point;

    static POINT: AtomicU32 = AtomicU32::new(0);
    static PASSES: AtomicU32 = AtomicU32::new(0);
    static STOPS: AtomicU32 = AtomicU32::new(0);

    /// Makes this process be killed (or stopped) when it reaches the point with this number, after passing it
    /// `passes` times.
    pub fn arm(point: u32, passes: u32, stop: bool) {
        STOPS.store(stop.into(), SeqCst);
        PASSES.store(passes, SeqCst);
        POINT.store(point, SeqCst);
    }

    /// Runs at a point.
    pub fn at(point: Point) {
        if POINT.load(SeqCst) != point as u32 {
            return;
        }
        if PASSES.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok() {
            return;
        }
        POINT.store(0, SeqCst);
        if STOPS.load(SeqCst) == 1 {
            stop();
        } else {
            die();
        }
    }

    /// The signal may reach another thread first and this one a little later, so this thread waits for it.
    #[cfg(unix)]
    fn stop() {
        let _ = kill_process(getpid(), Signal::STOP);
        std::thread::sleep(Duration::from_millis(100));
    }

    #[cfg(unix)]
    fn die() -> ! {
        let _ = kill_process(getpid(), Signal::KILL);
        loop {
            std::thread::sleep(Duration::from_secs(1));
        }
    }

    /// A process that others stop goes on when they say so, and here it sleeps.
    #[cfg(windows)]
    fn stop() {
        std::thread::sleep(Duration::from_secs(3600));
    }

    #[cfg(windows)]
    fn die() -> ! {
        crate::system::kill_this_process()
    }
}
