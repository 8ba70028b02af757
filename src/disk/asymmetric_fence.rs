//! A full fence between a frequent reader and a rare writer, of which the writer bears nearly all the cost.
//!
//! Each side stores to a place of its own and then loads the other's. With a full fence between the two steps
//! on both sides, at least one of them sees the other's store. Such a fence costs a reader as much as the
//! rest of its work. On Linux the writer can make the kernel run a fence on every running thread of the
//! process (`membarrier`). Then the reader only has to keep the compiler from reordering its two steps: a
//! thread that was between them runs the fence there, and any other has done both steps or neither.

#![cfg_attr(target_os = "linux", expect(unsafe_code, reason = "the system call has no safe form"))]

use std::sync::LazyLock;
use std::sync::atomic::{Ordering, compiler_fence, fence};

/// Whether the kernel makes fences for this process. Asked once, before the first reader.
static BY_KERNEL: LazyLock<bool> = LazyLock::new(kernel::is_ready);

/// Both sides of the fence.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AsymmetricFence {
    by_kernel: bool,
}

impl Default for AsymmetricFence {
    fn default() -> Self {
        Self { by_kernel: *BY_KERNEL }
    }
}

impl AsymmetricFence {
    /// The reader's side.
    #[inline(always)]
    pub(crate) fn light(self) {
        if self.by_kernel { compiler_fence(Ordering::SeqCst) } else { fence(Ordering::SeqCst) }
    }

    /// The writer's side: some microseconds.
    pub(crate) fn heavy(self) {
        fence(Ordering::SeqCst);
        if self.by_kernel {
            kernel::fence_all_threads();
        }
        fence(Ordering::SeqCst);
    }
}

#[cfg(all(target_os = "linux", not(miri)))]
mod kernel {
    /// From `linux/membarrier.h`.
    const PRIVATE_EXPEDITED: libc::c_long = 1 << 3;
    const REGISTER_PRIVATE_EXPEDITED: libc::c_long = 1 << 4;

    fn membarrier(command: libc::c_long) -> bool {
        // SAFETY: the call takes two numbers and touches no memory of ours.
        unsafe { libc::syscall(libc::SYS_membarrier, command, 0 as libc::c_long) == 0 }
    }

    /// Registers the process, and tries it.
    pub(super) fn is_ready() -> bool {
        membarrier(REGISTER_PRIVATE_EXPEDITED) && membarrier(PRIVATE_EXPEDITED)
    }

    /// Every other thread of the process passes a full fence before this returns.
    pub(super) fn fence_all_threads() {
        // A registration survives a fork. If it should be lost, it is made again; a kernel that has accepted
        // it once does not refuse it later.
        while !membarrier(PRIVATE_EXPEDITED) {
            if !membarrier(REGISTER_PRIVATE_EXPEDITED) {
                // Long enough for the stores of every other processor to become visible.
                std::thread::sleep(std::time::Duration::from_millis(10));
                return;
            }
        }
    }
}

#[cfg(not(all(target_os = "linux", not(miri))))]
mod kernel {
    pub(super) fn is_ready() -> bool {
        false
    }

    pub(super) fn fence_all_threads() {}
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::AsymmetricFence;

    /// Of a reader and a writer that announce themselves and then look for the other, at least one sees the other.
    #[test]
    fn one_side_sees_the_other() {
        let fence = AsymmetricFence::default();
        let (reader, writer) = (AtomicBool::new(false), AtomicBool::new(false));
        let start = std::sync::Barrier::new(2);
        for _ in 0..2000 {
            reader.store(false, Ordering::Relaxed);
            writer.store(false, Ordering::Relaxed);
            let (seen_by_reader, seen_by_writer) = std::thread::scope(|scope| {
                let thread = scope.spawn(|| {
                    start.wait();
                    reader.store(true, Ordering::Relaxed);
                    fence.light();
                    writer.load(Ordering::Relaxed)
                });
                start.wait();
                writer.store(true, Ordering::Relaxed);
                fence.heavy();
                let seen_by_writer = reader.load(Ordering::Relaxed);
                (thread.join().expect("it does not panic"), seen_by_writer)
            });
            assert!(seen_by_reader || seen_by_writer);
        }
    }
}
