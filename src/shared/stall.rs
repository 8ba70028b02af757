//! Points at which a test has this process die or stop, between two stores that belong together.
//!
//! Without the feature `stall-points` there are none.

/// Where. The numbers are those that a test names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Point {
    /// The lock is held, and nothing is changed.
    Locked = 1,
    /// A crowded slot was taken from another entry.
    SlotTaken = 2,
    /// A record's head is written, its value is not.
    HalfWritten = 3,
    /// The log's head has moved, the slot has not.
    BeforeSlot = 4,
    /// A record is published, the sums are not in step.
    BeforeSums = 5,
    /// A copy is published, the tail has not passed the old one.
    BeforeTail = 6,
    /// The tail has moved, and nothing is written over.
    AfterTail = 7,
    /// The version word is odd, and nothing is published.
    VersionOdd = 8,
    /// Everything is done but to make the version word even.
    BeforeEven = 9,
    /// In the middle of a reset.
    Reset = 10,
    /// In the middle of `clear`.
    Clear = 11,
    /// A segment is complete and has no name.
    BeforeLink = 12,
    /// A segment is retired, and still has its name.
    AfterRetired = 13,
    /// The generation is odd, and the tag has not moved.
    EvictionBegun = 14,
    /// The tag has moved, and the generation is odd.
    TagMoved = 15,
}

impl Point {
    /// All of them that lie inside a stripe's locked section and that a put reaches.
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

/// Nothing, without the feature.
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

    use rustix::process::{Signal, getpid, kill_process};

    use super::Point;

    static POINT: AtomicU32 = AtomicU32::new(0);
    static PASSES: AtomicU32 = AtomicU32::new(0);
    static STOPS: AtomicU32 = AtomicU32::new(0);

    /// Has this process killed (or stopped) when it comes to the point with this number, after passing it `passes` times.
    pub fn arm(point: u32, passes: u32, stop: bool) {
        STOPS.store(stop.into(), SeqCst);
        PASSES.store(passes, SeqCst);
        POINT.store(point, SeqCst);
    }

    /// Comes to a point.
    pub fn at(point: Point) {
        if POINT.load(SeqCst) != point as u32 {
            return;
        }
        if PASSES.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok() {
            return;
        }
        POINT.store(0, SeqCst);
        // The signal may reach another thread first, and this one only a little later: it must not go on meanwhile.
        if STOPS.load(SeqCst) == 1 {
            let _ = kill_process(getpid(), Signal::STOP);
            std::thread::sleep(Duration::from_millis(100));
        } else {
            let _ = kill_process(getpid(), Signal::KILL);
            loop {
                std::thread::sleep(Duration::from_secs(1));
            }
        }
    }
}
