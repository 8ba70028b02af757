//! Whether a process exists, and hearing of forks.

#![expect(unsafe_code, reason = "it hears of forks")]

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{AcqRel, Acquire};

use rustix::process::{Pid, test_kill_process};

/// Whether a process has the id, as a zombie too.
pub(crate) fn exists(id: u32) -> bool {
    Pid::from_raw(id.cast_signed())
        .is_some_and(|id| !matches!(test_kill_process(id), Err(rustix::io::Errno::SRCH)))
}

/// Has a function called in every child that is forked from now on. It may do what a signal handler may. Returns whether that
/// was possible.
pub(crate) fn hears_of_forks(in_child: extern "C" fn()) -> bool {
    // No cell: a child that was forked while another thread filled it would wait for ever. To register twice does no harm.
    static REGISTERED: AtomicBool = AtomicBool::new(false);
    if !REGISTERED.load(Acquire) {
        // SAFETY: the function does only what is allowed in a child of a process with threads.
        let is_registered = unsafe { libc::pthread_atfork(None, None, Some(in_child)) } == 0;
        REGISTERED.fetch_or(is_registered, AcqRel);
    }
    REGISTERED.load(Acquire)
}
