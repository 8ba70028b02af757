//! Survives the loss of a mapped file's pages.
//!
//! If another program truncates a file that is mapped, the kernel has no page for an access behind the new end, and sends
//! `SIGBUS`, which ends the process. The same happens if a page has to be allocated and the file system is full. The
//! handler of this module puts memory of the process in place of the whole mapping, so that the access goes on.
//!
//! Why that is safe:
//!
//! * The new memory is zero except for the flag "retired", the tails of the logs and the words of the locks, which are there
//!   before any of it is seen. So the next call leaves it, as it leaves a file that was replaced.
//! * A reader checks the tail after its other loads, as always. Here it has passed every record, so that nothing that was
//!   read is returned. This costs a read nothing.
//! * The mapping is marked as lost before its memory changes. Writers and the checks of copies in front look at the mark after
//!   their last load, and nothing that they have read is returned or kept.
//! * The C library may be inside a call that acquires or releases a lock. The words that such a call finds then are
//!   those of [`WritersLock::init_lost`].
//! * A thread's list of robust mutexes may still name a lock there, so a lost mapping is never unmapped.
//! * The handler only loads and stores atomic numbers, and makes system calls. It needs no lock and no allocation,
//!   several threads may be in it at once, and a forked child inherits all that it needs.
//! * An address elsewhere is no business of this module: the handler that was there before gets the signal.

#![expect(unsafe_code, reason = "it handles a signal, and replaces memory")]

use std::ffi::{c_int, c_void};
use std::io;
use std::mem::{MaybeUninit, transmute};
use std::ptr;
use std::slice;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, fence};

use libc::{SA_NODEFER, SA_ONSTACK, SA_RESTART, SA_SIGINFO, SIG_DFL, SIG_IGN, SIGBUS, sigaction, siginfo_t};

use crate::layout::{PLACE, head, header};
use crate::system;
use crate::writers_lock::{Lock, WritersLock};

/// Where the heads of the stripes are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heads {
    /// The first word of the first one.
    pub(crate) first: usize,
    /// The words from one to the next.
    pub(crate) apart: usize,
    pub(crate) count: usize,
}

/// A mapped range of addresses, as the handler finds it. It is never freed, but used again when its mapping has ended.
pub(crate) struct Range {
    is_taken: AtomicBool,
    start: AtomicUsize,
    /// 0 if there is no such mapping. It is stored after `start`.
    end: AtomicUsize,
    is_lost: AtomicBool,
    first_head: AtomicUsize,
    heads_apart: AtomicUsize,
    heads: AtomicUsize,
    next: AtomicPtr<Self>,
}

/// All ranges, in a list that only grows.
static RANGES: AtomicPtr<Range> = AtomicPtr::new(ptr::null_mut());

fn ranges() -> impl Iterator<Item = &'static Range> {
    let follow = |link: &AtomicPtr<Range>| {
        // SAFETY: the list has only ranges that were leaked, complete when they were linked.
        unsafe { link.load(Acquire).as_ref() }
    };
    std::iter::successors(follow(&RANGES), move |range| follow(&range.next))
}

impl Range {
    /// Makes the handler watch a mapping.
    pub(crate) fn watch(start: *const AtomicU64, bytes: usize) -> io::Result<&'static Self> {
        install()?;
        let range = ranges()
            .find(|range| range.is_taken.compare_exchange(false, true, Acquire, Relaxed).is_ok())
            .unwrap_or_else(Self::linked);
        range.is_lost.store(false, Relaxed);
        range.heads.store(0, Relaxed);
        let start = start.expose_provenance();
        range.start.store(start, Release);
        range.end.store(start + bytes, Release);
        Ok(range)
    }

    /// A new one at the head of the list.
    fn linked() -> &'static Self {
        let range: &'static Self = Box::leak(Box::new(Self {
            is_taken: AtomicBool::new(true),
            start: AtomicUsize::new(0),
            end: AtomicUsize::new(0),
            is_lost: AtomicBool::new(false),
            first_head: AtomicUsize::new(0),
            heads_apart: AtomicUsize::new(0),
            heads: AtomicUsize::new(0),
            next: AtomicPtr::new(ptr::null_mut()),
        }));
        let mut first = RANGES.load(Acquire);
        loop {
            range.next.store(first, Relaxed);
            match RANGES.compare_exchange_weak(first, ptr::from_ref(range).cast_mut(), AcqRel, Acquire) {
                Ok(_) => return range,
                Err(other) => first = other,
            }
        }
    }

    /// Says where the heads are. None may be used before.
    pub(crate) fn set_heads(&self, heads: Heads) {
        self.first_head.store(heads.first, Relaxed);
        self.heads_apart.store(heads.apart, Relaxed);
        self.heads.store(heads.count, Release);
    }

    /// Whether the memory is no longer the file's. A call whose last load came before this, with an acquire fence in
    /// between, has read nothing else than the file if this is false.
    #[inline(always)]
    pub(crate) fn is_lost(&self) -> bool {
        self.is_lost.load(Relaxed)
    }

    /// Ends the watch, before the mapping ends. Returns false if the mapping is lost: it must not end then.
    pub(crate) fn unwatch(&self) -> bool {
        if self.is_lost.load(Acquire) {
            return false;
        }
        self.end.store(0, Release);
        self.is_taken.store(false, Release);
        true
    }

    /// The range of an address: start and end with it, since it may be used again at any time.
    fn of(address: usize) -> Option<(&'static Self, usize, usize)> {
        ranges().find_map(|range| {
            let end = range.end.load(Acquire);
            let start = range.start.load(Acquire);
            fence(Acquire);
            let is_same = range.end.load(Relaxed) == end;
            (is_same && start <= address && address < end).then_some((range, start, end))
        })
    }

    /// Puts other memory in place of a mapping. Returns whether that was possible. Several threads may do this one after
    /// the other.
    fn replace(&self, start: usize, end: usize) -> bool {
        self.is_lost.store(true, SeqCst);
        let heads = Heads {
            count: self.heads.load(Acquire),
            first: self.first_head.load(Relaxed),
            apart: self.heads_apart.load(Relaxed),
        };
        let start = ptr::with_exposed_provenance_mut::<c_void>(start);
        let bytes = end - start.addr();
        // SAFETY: the mapping is one of ours, and does not end while a call is in it. All its words are atomic, so that they
        // may change at any time. `fill` gets memory of that many bytes.
        unsafe {
            system::replace(start, bytes, |memory| {
                fill(slice::from_raw_parts(memory.cast::<AtomicU64>(), bytes / 8), heads);
            })
        }
    }
}

/// Makes memory that is zero that of a lost file.
fn fill(words: &[AtomicU64], heads: Heads) {
    if let Some(retired) = words.get(header::RETIRED) {
        retired.store(1, Relaxed);
    }
    for number in 0..heads.count {
        let first = heads.first.wrapping_add(number.wrapping_mul(heads.apart));
        if let Some(found) = words.get(first..first.wrapping_add(head::WORDS)) {
            Lock::at(&found[head::LOCK..]).init_lost();
            found[head::TAIL].store(PLACE, Relaxed);
            found[head::TAIL + 1].store(PLACE, Relaxed);
        }
    }
}

/// What the signal did before. Null stands for the default.
static PREVIOUS: AtomicPtr<sigaction> = AtomicPtr::new(ptr::null_mut());
static WAS_INSTALLED: AtomicBool = AtomicBool::new(false);

type Handler = extern "C" fn(c_int);
type HandlerWithInfo = extern "C" fn(c_int, *mut siginfo_t, *mut c_void);

fn checked(code: c_int) -> io::Result<()> {
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The action that does nothing of its own.
fn action(handler: usize) -> sigaction {
    // SAFETY: numbers and pointers, for which zero is valid: no flags, an empty mask, the default.
    let mut action: sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = handler;
    action
}

/// Installs the handler, unless it is installed or was replaced by another one: that may call ours, and if ours called
/// that in turn, the two would call each other for ever.
fn install() -> io::Result<()> {
    let ours = HandlerWithInfo::from(on_bus_error) as usize;
    let mut current = action(SIG_DFL);
    // SAFETY: it stores the action there.
    checked(unsafe { libc::sigaction(SIGBUS, ptr::null(), &raw mut current) })?;
    let is_function = current.sa_sigaction != SIG_DFL && current.sa_sigaction != SIG_IGN;
    if current.sa_sigaction == ours || is_function && WAS_INSTALLED.load(Acquire) {
        return Ok(());
    }
    // It is never freed, since the handler may be running. A program does this once.
    let previous =
        if current.sa_sigaction == SIG_DFL { ptr::null_mut() } else { Box::into_raw(Box::new(current)) };
    PREVIOUS.store(previous, Release);
    WAS_INSTALLED.store(true, Release);
    let mut new = action(ours);
    // The previous handler runs as it asked to.
    new.sa_mask = current.sa_mask;
    new.sa_flags = SA_SIGINFO | SA_ONSTACK | current.sa_flags & (SA_NODEFER | SA_RESTART);
    // SAFETY: the function may be called in a handler, whatever the thread was doing.
    checked(unsafe { libc::sigaction(SIGBUS, &raw const new, ptr::null_mut()) })
}

extern "C" fn on_bus_error(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    let error = system::errno();
    // SAFETY: the kernel passes what it knows of the signal.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr().addr()) };
    // Any other code than this one means broken memory, or that a program sent the signal.
    let is_replaced = code == libc::BUS_ADRERR
        && Range::of(address).is_some_and(|(range, start, end)| range.replace(start, end));
    if !is_replaced {
        call_previous(signal, info, context);
    }
    system::set_errno(error);
}

/// Does what the signal did before this module was used.
fn call_previous(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    /// The codes of the kernel for an access, which happens again when the handler returns.
    const OF_AN_ACCESS: std::ops::RangeInclusive<c_int> = 1..=5;
    // SAFETY: what is there is never freed.
    let previous = unsafe { PREVIOUS.load(Acquire).as_ref() };
    let (handler, flags) =
        previous.map_or((SIG_DFL, 0), |previous| (previous.sa_sigaction, previous.sa_flags));
    // SAFETY: as in `on_bus_error`.
    let is_access = OF_AN_ACCESS.contains(&unsafe { (*info).si_code });
    match handler {
        SIG_IGN if !is_access => {}
        SIG_DFL | SIG_IGN => {
            // The access happens again, and ends the process. A signal that a program sent does not, so it is sent again.
            let default = action(SIG_DFL);
            // SAFETY: both are allowed in a handler.
            unsafe {
                libc::sigaction(signal, &raw const default, ptr::null_mut());
                if !is_access {
                    libc::raise(signal);
                }
            }
        }
        handler if flags & SA_SIGINFO != 0 => {
            // SAFETY: it was installed as a function of this type.
            let handler = unsafe { transmute::<usize, HandlerWithInfo>(handler) };
            handler(signal, info, context);
        }
        handler => {
            // SAFETY: as above.
            let handler = unsafe { transmute::<usize, Handler>(handler) };
            handler(signal);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;
    use crate::mapping::Mapping;

    #[test]
    fn a_range_whose_mapping_has_ended_is_used_again() {
        let word = AtomicU64::new(0);
        let before = ranges().count();
        for _ in 0..1000 {
            assert!(Range::watch(&raw const word, 8).expect("a handler").unwatch());
            assert!(Range::of((&raw const word).addr()).is_none());
        }
        // Other tests may add some.
        assert!(ranges().count() < before + 1000);
    }

    #[test]
    fn a_lost_mapping_never_ends() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = File::create_new(directory.path().join("file")).expect("a new name");
        file.set_len(4096).expect("there is room");
        let truncated = file.try_clone().expect("a file");
        let mapping = Mapping::new(&file, 512).expect("it is that long");
        let address = mapping.words().as_ptr().addr();
        truncated.set_len(0).expect("ours");
        // The access goes on, in other memory.
        assert_eq!((mapping.words()[header::RETIRED].load(Relaxed), mapping.is_lost()), (1, true));
        drop(mapping);
        assert!(Range::of(address).is_some());
    }
}
