//! What a system must provide for writers: a lock in the stripe's head that reports to the next writer if its
//! owner died.
//!
//! Everything else that writers do consists of loads and stores; readers need no lock.

use std::sync::atomic::AtomicU64;
use std::time::Instant;

/// How a lock was acquired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Acquired {
    /// The previous owner had released it.
    Clean,
    /// The previous owner died while holding it. [`WritersLock::mark_consistent`] must be called before it is
    /// released.
    OwnerDied,
}

/// Why a lock was not acquired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotAcquired {
    /// Another thread has it.
    Busy,
    /// It was released without being marked consistent, or the memory is not a lock. It cannot be used again.
    Unusable,
}

/// A lock in the segment, which excludes the threads of all processes. It is never taken from an owner that
/// lives.
pub(crate) trait WritersLock<'a>: Copy {
    /// The number of words that it takes.
    const WORDS: usize;
    /// The part of the number of the layout that identifies this kind of lock.
    const LAYOUT: u64;

    /// The lock in the first of these words. There must be enough.
    fn at(words: &'a [AtomicU64]) -> Self;

    /// Initializes the lock. No other thread may use the words yet. The error is the system's error number.
    fn init(self) -> Result<(), i32>;

    /// Makes words that are zero a lock that nobody can acquire, in memory that takes the place of a lost file's. Threads may
    /// be in any call on the lock that was there, and their calls must end.
    #[cfg(unix)]
    fn init_lost(self);

    /// Acquires it if it is free.
    fn try_lock(self) -> Result<Acquired, NotAcquired>;

    /// Acquires it. Waits at most until `deadline`.
    fn lock_until(self, deadline: Instant) -> Result<Acquired, NotAcquired>;

    /// Declares that the guarded data are consistent again, after [`Acquired::OwnerDied`].
    fn mark_consistent(self);

    /// Releases it. The calling thread must have it.
    fn unlock(self);
}

/// The lock of this system.
pub(crate) type Lock<'a> = crate::system::Lock<'a>;
