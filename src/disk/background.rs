//! The background thread of a process, for work that no call has to wait for: writing logs back, removing
//! files of values, and freeing their space.
//!
//! It starts with the first chore, and ends when there has been none for a while or when the process is about
//! to fork. A child starts one of its own. It holds its chores weakly, so a store can be closed at any time,
//! and the process may exit at any moment. So a chore must be work that need not be done. The removal of
//! files does have to be done: [`finish_removals`] completes it for callers that rely on it.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

/// How long the thread waits for the next chore. Starting another thread costs about as much as ten system
/// calls.
const IDLE: Duration = Duration::from_secs(1);

/// The most chores that may wait. If there are more, a call does its own chore.
const MOST: usize = 1000;

/// The most files that may wait to be removed or closed. Some of them occupy a file descriptor, and those to
/// be removed stay if the process is killed.
const MOST_FILES: usize = 64;

/// The thread is started for a file only if another was handed over within this time: single files are not
/// worth it.
const SHORTLY: Duration = Duration::from_millis(10);

/// After this many files, each shortly after the one before, the thread also does the removal of the next
/// ones.
const MANY_IN_A_ROW: u32 = 16;

/// How often the thread polls after it had files, before it goes to sleep and has to be woken: waking it
/// takes longer than handing a file over.
const LOOKS: u32 = 8;

/// The pause between two polls.
const NAP: Duration = Duration::from_millis(1);

/// A thread that polls is woken when this many files wait.
const MANY_FILES: usize = MOST_FILES / 2;

/// How long a call waits for the file that the thread is removing or closing.
const PATIENCE_TO_FINISH: Duration = Duration::from_secs(1);

/// The rest of the work on an unneeded file of a value: to remove it, or to close it.
type Leftover = Box<dyn FnOnce() + Send>;

/// Something that the thread does.
pub(crate) trait Chore: Send + Sync {
    /// Does what there is to do, if there is still something.
    fn run(&self);

    /// Takes note that the chore will not run, unless it is handed over again.
    fn put_off(&self);
}

/// What the thread is doing.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Phase {
    /// There is none.
    #[default]
    Absent,
    Working,
    /// It will poll very soon.
    Napping,
    Asleep,
}

#[derive(Default)]
struct State {
    chores: VecDeque<Weak<dyn Chore>>,
    files: Vec<Leftover>,
    /// When a file was last handed over, and the number of files before it without a pause.
    handed: Option<Instant>,
    in_a_row: u32,
    /// Whether the thread is working on a file, and the number of calls that wait for that.
    is_finishing: bool,
    waiting: usize,
    thread: Option<thread::JoinHandle<()>>,
    phase: Phase,
    /// Whether the thread must end even if chores are left.
    is_stopping: bool,
}

/// The thread of one process, or the place for it.
struct Background {
    process: u32,
    state: Mutex<State>,
    changed: Condvar,
    /// The state of a process that was forked from this one, or from a descendant of it.
    next: OnceLock<Box<Background>>,
}

/// The state of the first process that needed a thread.
static FIRST: OnceLock<Box<Background>> = OnceLock::new();

impl Background {
    fn of_this_process() -> &'static Self {
        let process = process::id();
        // The state of a parent process may be locked by a thread that does not exist here.
        let mut place = &FIRST;
        loop {
            let found = place.get_or_init(|| {
                let (state, changed, next) = (Mutex::default(), Condvar::new(), OnceLock::new());
                Box::new(Self { process, state, changed, next })
            });
            if found.process == process {
                return found;
            }
            place = &found.next;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code under this lock can panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut state = self.lock();
        let mut looks = 0;
        while !state.is_stopping {
            if let Some(file) = state.files.pop() {
                looks = LOOKS;
                state.is_finishing = true;
                drop(state);
                let _ = catch_unwind(AssertUnwindSafe(file));
                state = self.lock();
                state.is_finishing = false;
                if state.waiting > 0 {
                    self.changed.notify_all();
                }
                continue;
            }
            if let Some(chore) = state.chores.pop_front() {
                drop(state);
                if let Some(chore) = chore.upgrade() {
                    let _ = catch_unwind(AssertUnwindSafe(|| chore.run()));
                }
                state = self.lock();
                continue;
            }
            let is_napping = looks > 0;
            let (phase, time) = if is_napping { (Phase::Napping, NAP) } else { (Phase::Asleep, IDLE) };
            looks = looks.saturating_sub(1);
            state.phase = phase;
            let (woken, waited) =
                self.changed.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner);
            state = woken;
            state.phase = Phase::Working;
            if !is_napping && waited.timed_out() && state.chores.is_empty() && state.files.is_empty() {
                break;
            }
        }
        state.phase = Phase::Absent;
        self.changed.notify_all();
    }
}

impl State {
    /// Makes sure that the thread is awake, and starts it if there is none. Returns false if none can be
    /// started.
    fn wake(&mut self, background: &'static Background) -> bool {
        if self.is_stopping {
            return false;
        }
        if self.phase == Phase::Absent {
            // A thread inherits the signal mask of the thread that starts it.
            let _blocked = BlockedSignals::new();
            let thread = thread::Builder::new().name("flexcache-disk".into()).spawn(|| background.run());
            let Ok(thread) = thread else { return false };
            self.thread = Some(thread);
        } else if self.phase != Phase::Working {
            background.changed.notify_all();
        }
        self.phase = Phase::Working;
        true
    }
}

/// Hands a chore to the thread. Returns false if there is no thread, or if too many chores wait already.
pub(crate) fn hand<C: Chore + 'static>(chore: &Arc<C>) -> bool {
    let background = Background::of_this_process();
    let mut state = background.lock();
    if state.chores.len() >= MOST || !state.wake(background) {
        return false;
    }
    let chore: Weak<C> = Arc::downgrade(chore);
    state.chores.push_back(chore);
    true
}

/// Whether files are being handed over in quick succession. Then the thread is awake, and a program that
/// looks at the directory meanwhile has to expect files that are not removed yet.
pub(crate) fn has_many_files() -> bool {
    let state = Background::of_this_process().lock();
    state.in_a_row >= MANY_IN_A_ROW && state.handed.is_some_and(|last| last.elapsed() < SHORTLY)
}

/// Runs the rest of the work on a file: here, or soon in the thread.
pub(crate) fn do_soon(file: impl FnOnce() + Send + 'static) {
    let background = Background::of_this_process();
    let mut state = background.lock();
    let now = Instant::now();
    let is_frequent = state.handed.replace(now).is_some_and(|last| now.duration_since(last) < SHORTLY);
    state.in_a_row = if is_frequent { state.in_a_row.saturating_add(1) } else { 0 };
    let looks_soon = state.phase == Phase::Napping && state.files.len() < MANY_FILES && !state.is_stopping;
    if state.files.len() < MOST_FILES
        && (state.phase != Phase::Absent || is_frequent)
        && (looks_soon || state.wake(background))
    {
        state.files.push(Box::new(file));
    } else {
        drop(state);
        file();
    }
}

fn do_all(files: Vec<Leftover>) {
    for file in files {
        file();
    }
}

/// Removes and closes the waiting files, which frees their space. Returns whether there were any.
pub fn finish_removals() -> bool {
    let background = Background::of_this_process();
    let mut state = background.lock();
    let files = std::mem::take(&mut state.files);
    let were_any = !files.is_empty() || state.is_finishing;
    if !files.is_empty() {
        drop(state);
        do_all(files);
        state = background.lock();
    }
    let deadline = Instant::now() + PATIENCE_TO_FINISH;
    state.waiting += 1;
    while state.is_finishing {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        state = background.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
    }
    state.waiting -= 1;
    were_any
}

/// Ends the thread. Waits up to `patience` for what it is doing, puts off the chores that are left, and
/// finishes the files that are left. The next chore starts the thread again.
pub(crate) fn stop(patience: Duration) {
    let background = Background::of_this_process();
    let mut state = background.lock();
    if state.phase == Phase::Absent {
        return;
    }
    let deadline = Instant::now() + patience;
    state.is_stopping = true;
    background.changed.notify_all();
    while state.phase != Phase::Absent {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        state = background.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
    }
    state.is_stopping = false;
    let (over, chores) = if state.phase == Phase::Absent {
        (state.thread.take(), std::mem::take(&mut state.chores))
    } else {
        (None, VecDeque::new())
    };
    let files = std::mem::take(&mut state.files);
    drop(state);
    do_all(files);
    // Otherwise the owner of a chore would believe that it is going to run, and never hand it over again.
    chores.iter().filter_map(Weak::upgrade).for_each(|chore| chore.put_off());
    if let Some(thread) = over {
        // The thread has nothing left to do.
        let _ = thread.join();
    }
}

/// Blocks the signals of the calling thread until this is dropped, so that a thread which it starts gets
/// none. Signals are for the program's threads: a thread that waits for a signal must not miss it.
#[cfg(unix)]
struct BlockedSignals(libc::sigset_t);

#[cfg(unix)]
#[expect(unsafe_code, reason = "the system's interface is C")]
impl BlockedSignals {
    /// `None` if the system refuses it.
    fn new() -> Option<Self> {
        let mut all = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        let mut before = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: `sigfillset` writes the whole set, and `pthread_sigmask` reads it and writes the set that there was.
        unsafe {
            let is_blocked = libc::sigfillset(all.as_mut_ptr()) == 0
                && libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr()) == 0;
            is_blocked.then(|| Self(before.assume_init()))
        }
    }
}

#[cfg(unix)]
#[expect(unsafe_code, reason = "the system's interface is C")]
impl Drop for BlockedSignals {
    fn drop(&mut self) {
        // SAFETY: the set is the original one, and is only read.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, std::ptr::null_mut()) };
    }
}

#[cfg(not(unix))]
struct BlockedSignals;

#[cfg(not(unix))]
impl BlockedSignals {
    fn new() -> Self {
        Self
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// There is one thread for all tests of this process, which one of them ends.
    static ALONE: Mutex<()> = Mutex::new(());

    /// A chore that says when it begins, and ends when it is told to.
    struct Slow {
        begun: Sender<()>,
        end: Mutex<Receiver<()>>,
    }

    impl Chore for Slow {
        fn run(&self) {
            self.begun.send(()).expect("the test waits for it");
            let _ = self.end.lock().expect("nobody panics").recv();
        }

        fn put_off(&self) {}
    }

    #[derive(Default)]
    struct Noting {
        has_run: AtomicBool,
        is_put_off: AtomicBool,
    }

    impl Chore for Noting {
        fn run(&self) {
            self.has_run.store(true, Ordering::SeqCst);
        }

        fn put_off(&self) {
            self.is_put_off.store(true, Ordering::SeqCst);
        }
    }

    /// Notes whether the thread gets a signal that the program's threads do.
    #[cfg(unix)]
    #[derive(Default)]
    struct Signalled(OnceLock<bool>);

    #[cfg(unix)]
    impl Chore for Signalled {
        fn run(&self) {
            self.0.set(gets_signals()).expect("it runs once");
        }

        fn put_off(&self) {}
    }

    #[cfg(unix)]
    #[expect(unsafe_code, reason = "the system's interface is C")]
    fn gets_signals() -> bool {
        let mut blocked = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: no set is read, and the one that is in force is written.
        unsafe {
            assert_eq!(libc::pthread_sigmask(libc::SIG_SETMASK, std::ptr::null(), blocked.as_mut_ptr()), 0);
            libc::sigismember(blocked.as_ptr(), libc::SIGUSR1) == 0
        }
    }

    #[test]
    #[cfg(unix)]
    fn signals_are_for_the_threads_of_the_program() {
        let _alone = ALONE.lock();
        let chore = Arc::new(Signalled::default());
        assert!(hand(&chore));
        while chore.0.get().is_none() {
            thread::yield_now();
        }
        assert_eq!((chore.0.get(), gets_signals()), (Some(&false), true));
    }

    #[test]
    fn who_has_handed_a_chore_over_learns_that_the_thread_has_ended_before_it() {
        let _alone = ALONE.lock();
        let ((begun, has_begun), (end, ends)) = (channel(), channel());
        let (slow, noting) = (Arc::new(Slow { begun, end: Mutex::new(ends) }), Arc::new(Noting::default()));
        assert!(hand(&slow));
        has_begun.recv().expect("it begins");
        assert!(hand(&noting));
        thread::scope(|scope| {
            scope.spawn(|| stop(Duration::from_secs(60)));
            while !Background::of_this_process().lock().is_stopping {
                thread::yield_now();
            }
            drop(end);
        });
        assert!(noting.is_put_off.load(Ordering::SeqCst) && !noting.has_run.load(Ordering::SeqCst));
        assert!(Background::of_this_process().lock().chores.is_empty());
    }
}
