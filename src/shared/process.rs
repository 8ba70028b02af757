//! Which process this is, and whether another one still lives.

#![expect(unsafe_code, reason = "it hears of forks")]

use std::fs;
use std::io::ErrorKind;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use rustix::process::{Pid, getpid, test_kill_process};

/// A process: its id, and the time at which it started, since ids are used again. 0 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process(u64);

/// Ids of processes are below 2^22. The rest is the time of the start, in the kernel's ticks since boot.
const ID_BITS: u32 = 22;
const START_BITS: u32 = 64 - ID_BITS;

/// This process, packed; 0 before the first use and in a forked child.
static SELF: AtomicU64 = AtomicU64::new(0);

extern "C" fn forget_in_child() {
    SELF.store(0, Relaxed);
}

/// Whether a forked child forgets which process its parent was.
fn hears_of_forks() -> bool {
    static REGISTERED: OnceLock<bool> = OnceLock::new();
    // SAFETY: the function only stores a number, which is allowed in a child of a process with threads.
    *REGISTERED.get_or_init(|| unsafe { libc::pthread_atfork(None, None, Some(forget_in_child)) } == 0)
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
        let id = getpid().as_raw_nonzero().get().cast_unsigned();
        // Without the time of the start, the id alone has to do.
        let this = Self::new(id, start_of(id).ok().flatten().unwrap_or(0));
        if hears_of_forks() {
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

    /// Whether it lives: neither gone, nor a zombie, nor another process that got its id.
    pub(crate) fn is_alive(self) -> bool {
        let Some(id) = self.id() else { return false };
        match start_of(id) {
            Ok(None) => false,
            Ok(Some(start)) => Self::new(id, start) == self || self.0 & ((1 << START_BITS) - 1) == 0,
            // No /proc: a zombie then counts as alive, and a deadline ends what it left.
            Err(()) => Pid::from_raw(id.cast_signed())
                .is_some_and(|id| !matches!(test_kill_process(id), Err(rustix::io::Errno::SRCH))),
        }
    }
}

/// When the process started, `None` if it is dead or a zombie, an error if that cannot be told.
fn start_of(id: u32) -> Result<Option<u64>, ()> {
    match fs::read(format!("/proc/{id}/stat")) {
        Ok(text) => parse(&text).ok_or(()),
        Err(error)
            if error.kind() == ErrorKind::NotFound && fs::exists("/proc/self/stat").unwrap_or(false) =>
        {
            Ok(None)
        }
        // The process ended while its file was read.
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(None),
        Err(_) => Err(()),
    }
}

/// State and start in the text of /proc/<pid>/stat. The name, in parentheses, may itself contain any byte.
#[expect(clippy::option_option, reason = "the text makes no sense, or says that the process is dead")]
fn parse(text: &[u8]) -> Option<Option<u64>> {
    let end_of_name = text.iter().rposition(|&byte| byte == b')')?;
    let rest = std::str::from_utf8(text.get(end_of_name + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    // The state is field 3, the number of threads is field 20, and the start is field 22.
    let threads: u64 = fields.nth(16)?.parse().ok()?;
    // A process whose first thread has ended looks like a zombie as long as its other threads run.
    if matches!(state, "X" | "x") || state == "Z" && threads <= 1 {
        return Some(None);
    }
    let start = fields.nth(1)?.parse().ok()?;
    Some(Some(start))
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
        assert!(!Process::new((1 << ID_BITS) - 1, 1).is_alive());
        assert_eq!(Process::from_word(0), None);
    }

    #[test]
    fn a_name_may_contain_anything() {
        let line =
            |state: &str, threads| format!("12 (a) Z 0 (b) {state} {} {threads} 0 77 0", "1 ".repeat(16));
        assert_eq!(parse(line("S", 1).as_bytes()), Some(Some(77)));
        assert_eq!(parse(line("Z", 1).as_bytes()), Some(None));
        assert_eq!(parse(line("Z", 2).as_bytes()), Some(Some(77)), "its other thread runs");
        assert_eq!(parse(line("X", 1).as_bytes()), Some(None));
        assert_eq!(parse(b"12 (a"), None);
        assert_eq!(parse(b"12 (a) S 1 2"), None);
    }

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
