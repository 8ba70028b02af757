//! A lock whose word names the process that has it, for systems whose C library has no robust mutexes.
//!
//! The system does not report that an owner died. A waiting process checks itself whether the owner lives,
//! and takes the word from a dead owner by a compare-and-swap from exactly that owner. This is safe because a
//! process id together with its start time is never reused. Nobody is woken, either: a waiting process polls.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::{Duration, Instant};

use crate::polling::Pauses;
use crate::process::Process;
use crate::writers_lock::{Acquired, NotAcquired, WritersLock};

/// In the first word: the lock is free.
const FREE: u64 = 0;
/// In the first word: it was released without being marked consistent.
const UNUSABLE: u64 = u64::MAX;

/// The time between two checks whether the owner lives, each of which reads a file.
const LIVES_FOR: Duration = Duration::from_millis(20);

/// The lock, in two words: the owner, and whether an owner died and its damage was not repaired yet.
#[derive(Clone, Copy)]
pub(crate) struct OwnerLock<'a> {
    owner: &'a AtomicU64,
    is_inconsistent: &'a AtomicU64,
}

impl OwnerLock<'_> {
    /// The word of this process. It is neither [`FREE`] nor [`UNUSABLE`].
    fn this() -> u64 {
        Process::this().word()
    }

    fn take(self, from: u64) -> Result<(), u64> {
        self.owner.compare_exchange(from, Self::this(), Acquire, Relaxed).map(drop)
    }

    /// The state of a lock that was just acquired.
    fn acquired(self) -> Acquired {
        if self.is_inconsistent.load(Relaxed) == 0 { Acquired::Clean } else { Acquired::OwnerDied }
    }
}

impl<'a> WritersLock<'a> for OwnerLock<'a> {
    const WORDS: usize = 2;
    const LAYOUT: u64 = 1 << 25;

    fn at(words: &'a [AtomicU64]) -> Self {
        Self { owner: &words[0], is_inconsistent: &words[1] }
    }

    fn init(self) -> Result<(), i32> {
        Ok(())
    }

    #[cfg(unix)]
    fn init_lost(self) {
        self.owner.store(UNUSABLE, Relaxed);
    }

    fn try_lock(self) -> Result<Acquired, NotAcquired> {
        match self.take(FREE) {
            Ok(()) => Ok(self.acquired()),
            Err(UNUSABLE) => Err(NotAcquired::Unusable),
            Err(_) => Err(NotAcquired::Busy),
        }
    }

    fn lock_until(self, deadline: Instant) -> Result<Acquired, NotAcquired> {
        let mut pauses = Pauses::of_a_lock();
        let mut seen = (FREE, Instant::now());
        loop {
            let owner = match self.take(FREE) {
                Ok(()) => return Ok(self.acquired()),
                Err(UNUSABLE) => return Err(NotAcquired::Unusable),
                Err(owner) => owner,
            };
            let now = Instant::now();
            if owner != seen.0 {
                seen = (owner, now + pauses.most);
            }
            if now >= seen.1 || now >= deadline {
                seen.1 = now + LIVES_FOR;
                if Process::from_word(owner).is_some_and(|owner| !owner.is_alive())
                    && self.take(owner).is_ok()
                {
                    self.is_inconsistent.store(1, Relaxed);
                    return Ok(Acquired::OwnerDied);
                }
            }
            if now >= deadline {
                return Err(NotAcquired::Busy);
            }
            pauses.sleep(deadline - now);
        }
    }

    fn mark_consistent(self) {
        self.is_inconsistent.store(0, Relaxed);
    }

    fn unlock(self) {
        let next = if self.is_inconsistent.load(Relaxed) == 0 { FREE } else { UNUSABLE };
        self.owner.store(next, Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words() -> [AtomicU64; 2] {
        [const { AtomicU64::new(0) }; 2]
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(50)
    }

    #[test]
    fn one_at_a_time_has_it() {
        let words = words();
        let lock = OwnerLock::at(&words);
        let sum = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2000 {
                        assert_eq!(lock.lock_until(soon() + Duration::from_secs(60)), Ok(Acquired::Clean));
                        // Two steps, so that two threads at once would lose some.
                        sum.store(sum.load(Relaxed) + 1, Relaxed);
                        lock.unlock();
                    }
                });
            }
        });
        assert_eq!(sum.into_inner(), 8000);
    }

    #[test]
    fn it_is_taken_from_the_dead_alone() {
        let words = words();
        let lock = OwnerLock::at(&words);
        assert_eq!(lock.try_lock(), Ok(Acquired::Clean));
        assert_eq!(
            (lock.try_lock(), lock.lock_until(soon())),
            (Err(NotAcquired::Busy), Err(NotAcquired::Busy))
        );
        // As if a process that started at another time had it.
        words[0].fetch_sub(1, Relaxed);
        assert_eq!(lock.try_lock(), Err(NotAcquired::Busy));
        assert_eq!(lock.lock_until(soon()), Ok(Acquired::OwnerDied));
        // It dies, too, before it has mended anything.
        words[0].fetch_sub(1, Relaxed);
        assert_eq!(lock.lock_until(soon()), Ok(Acquired::OwnerDied));
        lock.mark_consistent();
        lock.unlock();
        assert_eq!(lock.try_lock(), Ok(Acquired::Clean));
        words[0].fetch_sub(1, Relaxed);
        assert_eq!(lock.lock_until(soon()), Ok(Acquired::OwnerDied));
        lock.unlock();
        assert_eq!(
            (lock.try_lock(), lock.lock_until(soon())),
            (Err(NotAcquired::Unusable), Err(NotAcquired::Unusable))
        );
    }
}
