//! A robust mutex in the segment, which excludes the threads of all processes.
//!
//! If its owner dies, the kernel reports that to the next owner (`EOWNERDEAD`). This works within one pid
//! namespace, since the owner is recorded as a thread id.

#![expect(unsafe_code, reason = "it calls the C library's mutex functions")]

use std::mem::MaybeUninit;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use libc::{c_int, pthread_mutex_t};

use crate::polling::Pauses;
use crate::writers_lock::{Acquired, NotAcquired, WritersLock};

/// The words of a mutex.
const WORDS: usize = size_of::<pthread_mutex_t>().div_ceil(8);

const _: () = assert!(align_of::<pthread_mutex_t>() <= 8, "a mutex is aligned like a word");

/// The mutex in the given words.
#[derive(Clone, Copy)]
pub(crate) struct RobustMutex<'a>(&'a [AtomicU64; WORDS]);

impl RobustMutex<'_> {
    #[inline]
    fn raw(self) -> *mut pthread_mutex_t {
        self.0.as_ptr().cast_mut().cast()
    }

    /// What the C library keeps of the attributes. It does not change as long as the mutex exists.
    #[inline]
    fn kind(self) -> u64 {
        const PLACE: usize = if cfg!(target_env = "musl") { 0 } else { 2 };
        self.0[PLACE].load(Relaxed) & u64::from(u32::MAX)
    }

    /// Whether the words are still a robust mutex. The C library aborts the process for some that are damaged.
    #[inline]
    fn is_robust(self) -> bool {
        static KIND: AtomicU64 = AtomicU64::new(0);
        let mut kind = KIND.load(Relaxed);
        if kind == 0 {
            // No cell: a child that was forked while another thread filled it would wait for ever.
            let words = [const { AtomicU64::new(0) }; WORDS];
            let made = RobustMutex(&words);
            if made.init().is_err() {
                return true;
            }
            kind = made.kind();
            KIND.store(kind, Relaxed);
        }
        self.kind() == kind
    }

    #[inline]
    fn result(code: c_int) -> Result<Acquired, NotAcquired> {
        match code {
            0 => Ok(Acquired::Clean),
            libc::EOWNERDEAD => Ok(Acquired::OwnerDied),
            libc::EBUSY | libc::ETIMEDOUT => Err(NotAcquired::Busy),
            _ => Err(NotAcquired::Unusable),
        }
    }
}

impl<'a> WritersLock<'a> for RobustMutex<'a> {
    const WORDS: usize = WORDS;
    const LAYOUT: u64 = (WORDS as u64) << 16 | if cfg!(target_env = "musl") { 1 << 24 } else { 0 };

    #[inline]
    fn at(words: &'a [AtomicU64]) -> Self {
        Self(words.first_chunk().expect("there are enough"))
    }

    fn init(self) -> Result<(), c_int> {
        fn checked(code: c_int) -> Result<(), c_int> {
            if code == 0 { Ok(()) } else { Err(code) }
        }
        let mut attributes = MaybeUninit::<libc::pthread_mutexattr_t>::uninit();
        let attributes = attributes.as_mut_ptr();
        // SAFETY: the attributes are initialized by the first call. The mutex's words are mapped, aligned, large enough,
        // interior mutable, and known to nobody else.
        unsafe {
            checked(libc::pthread_mutexattr_init(attributes))?;
            let made = checked(libc::pthread_mutexattr_setpshared(attributes, libc::PTHREAD_PROCESS_SHARED))
                .and_then(|()| {
                    checked(libc::pthread_mutexattr_setrobust(attributes, libc::PTHREAD_MUTEX_ROBUST))
                })
                .and_then(|()| checked(libc::pthread_mutex_init(self.raw(), attributes)));
            libc::pthread_mutexattr_destroy(attributes);
            made
        }
    }

    /// The kind is none that is used, and the owner is one that no thread is. A call that has acquired the mutex that was here
    /// may be about to take it off its thread's list: it follows the links, so they lead to the mutexes of nobody. The
    /// list then still names this mutex, and the kernel, which follows it when the thread ends, finds its end there.
    fn init_lost(self) {
        const NO_THREAD: u64 = 0x3FFF_FFFF;
        /// The words of the links to the previous and to the next mutex of a thread's list.
        const LINKS: [usize; 2] = [3, 4];
        const _: () = assert!(WORDS > LINKS[1], "the links are in the mutex");
        static OF_NOBODY: [[AtomicU64; WORDS]; 2] = [const { [const { AtomicU64::new(0) }; WORDS] }; 2];
        let [previous, next] = &OF_NOBODY;
        // A link leads to the other mutex's link to the next one; that to the previous one leads to the word before it, in
        // glibc.
        let previous = &previous[if cfg!(target_env = "musl") { LINKS[1] } else { LINKS[0] }];
        self.0[0].store(if cfg!(target_env = "musl") { NO_THREAD << 32 } else { NO_THREAD }, Relaxed);
        self.0[LINKS[0]].store(std::ptr::from_ref(previous).expose_provenance() as u64, Relaxed);
        self.0[LINKS[1]].store(std::ptr::from_ref(&next[LINKS[1]]).expose_provenance() as u64, Relaxed);
    }

    #[inline]
    fn try_lock(self) -> Result<Acquired, NotAcquired> {
        if !self.is_robust() {
            return Err(NotAcquired::Unusable);
        }
        // SAFETY: the words were made a mutex before the file had a name. If they were damaged since, the C library
        // reports an error or waits: it follows no pointer out of a robust mutex that nobody in this process holds.
        Self::result(unsafe { libc::pthread_mutex_trylock(self.raw()) })
    }

    /// Polls. The C library's own wait aborts the process if another program truncates the file just before the kernel
    /// reads the word.
    fn lock_until(self, deadline: Instant) -> Result<Acquired, NotAcquired> {
        let mut pauses = Pauses::of_a_lock();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.try_lock() {
                Err(NotAcquired::Busy) if !left.is_zero() => pauses.sleep(left),
                result => return result,
            }
        }
    }

    fn mark_consistent(self) {
        // SAFETY: the calling thread has it. It fails only if there is nothing to mark.
        unsafe { libc::pthread_mutex_consistent(self.raw()) };
    }

    #[inline]
    fn unlock(self) {
        // SAFETY: the calling thread has it: `Held`, which calls this, cannot be sent to another. The C
        // library keeps the links of the thread's list of robust mutexes in the words. Only it writes them.
        // Nobody but this user can write to the file, and this user can do anything to this process anyway.
        unsafe { libc::pthread_mutex_unlock(self.raw()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_mutex_is_unusable() {
        for word in 0..WORDS {
            for bit in 0..64 {
                let words = [const { AtomicU64::new(0) }; WORDS];
                let mutex = RobustMutex(&words);
                assert_eq!(mutex.init(), Ok(()));
                let kind = mutex.kind();
                words[word].fetch_xor(1 << bit, Relaxed);
                if mutex.kind() == kind {
                    continue;
                }
                assert_eq!(mutex.try_lock(), Err(NotAcquired::Unusable));
                assert_eq!(mutex.lock_until(Instant::now()), Err(NotAcquired::Unusable));
            }
        }
    }

    #[test]
    fn a_thread_can_release_a_mutex_whose_memory_is_lost() {
        fn leaked() -> RobustMutex<'static> {
            let mutex = RobustMutex(Box::leak(Box::new([const { AtomicU64::new(0) }; WORDS])));
            assert_eq!(mutex.init(), Ok(()));
            mutex
        }
        // The C library has loaded some of the words before the loss. With links that are null, it crashes.
        for replaced in 0..1 << WORDS {
            let thread = std::thread::spawn(move || {
                let (mutex, other, lost) = (leaked(), leaked(), [const { AtomicU64::new(0) }; WORDS]);
                RobustMutex(&lost).init_lost();
                assert_eq!(mutex.try_lock(), Ok(Acquired::Clean));
                for word in (0..WORDS).filter(|word| replaced >> word & 1 == 1) {
                    mutex.0[word].store(lost[word].load(Relaxed), Relaxed);
                }
                mutex.unlock();
                assert_eq!(other.try_lock(), Ok(Acquired::Clean));
                other.unlock();
                assert_eq!(other.try_lock(), Ok(Acquired::Clean));
                // It ends with a mutex, and the kernel follows its list.
                other
            });
            assert_eq!(thread.join().expect("no panic").try_lock(), Ok(Acquired::OwnerDied), "{replaced:#b}");
        }
    }

    #[test]
    fn a_mutex_whose_memory_is_lost_cannot_be_acquired() {
        let words = [const { AtomicU64::new(0) }; WORDS];
        let mutex = RobustMutex(&words);
        mutex.init_lost();
        assert_eq!(mutex.try_lock(), Err(NotAcquired::Unusable));
        assert_eq!(mutex.lock_until(Instant::now()), Err(NotAcquired::Unusable));
    }

    #[test]
    fn a_mutex_that_was_used_is_still_one() {
        let words = [const { AtomicU64::new(0) }; WORDS];
        let mutex = RobustMutex(&words);
        assert_eq!(mutex.init(), Ok(()));
        for _ in 0..3 {
            assert_eq!(mutex.try_lock(), Ok(Acquired::Clean));
            mutex.unlock();
        }
    }
}
