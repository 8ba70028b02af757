//! The trait of the writers' lock, which is in the head of a stripe. The next writer learns that the owner died.
//!
//! Everything else that writers do is loads and stores, and readers need no lock at all.

use std::sync::atomic::AtomicU64;
use std::time::Instant;

/// How a lock was acquired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Acquired {
    /// From someone who had released it.
    Clean,
    /// From someone who died with it. [`WritersLock::mark_consistent`] must follow before it is released.
    OwnerDied,
}

/// Why it was not acquired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotAcquired {
    /// Another thread has it.
    Busy,
    /// It was released without being marked consistent, or the memory is no lock. It cannot be used again.
    Unusable,
}

/// A lock that lies in the segment and excludes the threads of all processes. It is never taken from one that lives.
pub(crate) trait WritersLock<'a>: Copy {
    /// The words that it takes.
    const WORDS: usize;
    /// What distinguishes it from other kinds, in the number of the layout.
    const LAYOUT: u64;

    /// The lock that lies in the first of these words. There are enough.
    fn at(words: &'a [AtomicU64]) -> Self;

    /// Makes a lock of the words, which nobody else knows yet. The error is the system's number.
    fn init(self) -> Result<(), i32>;

    /// Acquires it if it is free.
    fn try_lock(self) -> Result<Acquired, NotAcquired>;

    /// Acquires it, and waits at most until `deadline`.
    fn lock_until(self, deadline: Instant) -> Result<Acquired, NotAcquired>;

    /// Says that what the lock guards is in order again, after [`Acquired::OwnerDied`].
    fn mark_consistent(self);

    /// Releases it. The calling thread must have it.
    fn unlock(self);
}

/// The one of this system.
pub(crate) type Lock<'a> = crate::system::Lock<'a>;
