//! Identifies this process, and tells whether another process still lives.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use crate::system::{ID_BITS, exists, hears_of_forks, start_of};

/// A process: its id, and its start time, since ids are reused. 0 stands for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process(u64);

/// The bits that are not those of an id are the start time, in units of the system.
const START_BITS: u32 = 64 - ID_BITS;

/// This process, packed; 0 before the first use and in a forked child.
static SELF: AtomicU64 = AtomicU64::new(0);

extern "C" fn forget_in_child() {
    SELF.store(0, Relaxed);
}

impl Process {
    fn new(id: u32, start: u64) -> Self {
        Self(u64::from(id) << START_BITS | start & ((1 << START_BITS) - 1))
    }

    /// This process. Costs system calls the first time, and a load afterwards.
    #[inline]
    pub(crate) fn this() -> Self {
        match SELF.load(Relaxed) {
            0 => Self::learn(),
            known => Self(known),
        }
    }

    #[cold]
    fn learn() -> Self {
        let id = std::process::id();
        // If the start time is unknown, the id alone identifies the process.
        let this = Self::new(id, start_of(id).ok().flatten().unwrap_or(0));
        if hears_of_forks(forget_in_child) {
            SELF.store(this.0, Relaxed);
        }
        this
    }

    pub(crate) fn from_word(word: u64) -> Option<Self> {
        (word != 0).then_some(Self(word))
    }

    pub(crate) fn word(self) -> u64 {
        self.0
    }

    /// Its id.
    pub(crate) fn id(self) -> Option<u32> {
        let id = (self.0 >> START_BITS) as u32;
        (id != 0).then_some(id)
    }

    /// Whether it lives: it is not gone, not a zombie, and no other process has got its id.
    pub(crate) fn is_alive(self) -> bool {
        let Some(id) = self.id() else { return false };
        match start_of(id) {
            Ok(None) => false,
            Ok(Some(start)) => Self::new(id, start) == self || self.0 & ((1 << START_BITS) - 1) == 0,
            // A zombie then counts as alive, and its leases end by their deadlines.
            Err(()) => exists(id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_lives_and_others_do_not() {
        let this = Process::this();
        assert!(this.is_alive());
        assert_eq!(this.id(), Some(std::process::id()));
        assert!(!Process::new(std::process::id(), 1).is_alive(), "another process had the id before");
        assert!(!Process::new(u32::MAX >> (32 - ID_BITS), 1).is_alive());
        assert_eq!(Process::from_word(0), None);
    }

    #[cfg(unix)]
    #[test]
    fn a_zombie_is_not_alive() {
        let mut child = std::process::Command::new("true").spawn().expect("`true` is there");
        let id = child.id();
        let start = start_of(id);
        // Its parent has not waited for it yet, so it stays a zombie.
        while !matches!(start_of(id), Ok(None)) {
            std::thread::yield_now();
        }
        if let Ok(Some(start)) = start {
            assert!(!Process::new(id, start).is_alive());
        }
        child.wait().expect("a child of ours");
    }
}
