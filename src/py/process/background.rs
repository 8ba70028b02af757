//! The background thread: one for the process, asleep until there is something to do.
//!
//! It removes expired entries from caches with `background_expiry`, and runs jobs: the `aclose` hooks of
//! threads that have no event loop. It is started when it is first needed, holds only weak references to
//! caches, and ends before the interpreter does. A forked child has no thread until it needs one. This module
//! does not know the class of caches: each cache registers with two functions, its [`Duties`].
//!
//! No thread waits for anything else, including the interpreter, while it holds the lock.
//!
//! The thread is nearly always asleep when the process forks. So it uses the primitives of the standard
//! library, see [`mutex`](super::mutex).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Duration;

use flexcache_core::{Clock, Nanos};
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict, PyTuple, PyWeakrefMethods, PyWeakrefReference};

use super::clock::SystemClock;
use super::logging;
use super::mutex::Mutex;
use super::panics::bug;

/// How long the end of the program waits for a hook that is running.
const PATIENCE: Duration = Duration::from_secs(5);

/// The time after which the thread tries again if another thread was using the cache.
const WHEN_BUSY: Nanos = 10_000_000;

const NEVER: Nanos = Nanos::MAX;

/// Something to run in the thread, once.
pub(crate) type Job = Box<dyn FnOnce(Python<'_>) + Send>;

/// The functions that the thread calls for a cache.
#[derive(Clone, Copy)]
pub(crate) struct Duties {
    /// Removes expired entries. Returns their number, or `None` if another thread is using the cache.
    pub(crate) try_remove_expired: fn(&Bound<'_, PyAny>) -> PyResult<Option<usize>>,
    /// When the next entry expires.
    pub(crate) next_expiry: fn(&Bound<'_, PyAny>) -> PyResult<Option<Nanos>>,
}

/// A cache that the thread serves.
pub(crate) struct Watch {
    /// The cache, weakly; set by the first deadline.
    cache: Mutex<Option<Py<PyWeakrefReference>>>,
    duties: Duties,
    /// When to serve it next.
    next: AtomicU64,
    /// The earliest time to serve it.
    earliest: AtomicU64,
    /// The least time between two scans.
    interval: Nanos,
    /// The number of the thread that serves it; 0 for none.
    known_to: AtomicU64,
}

impl Watch {
    pub(crate) fn new(interval: Nanos, duties: Duties) -> Self {
        Self {
            cache: Mutex::new(None),
            duties,
            next: AtomicU64::new(NEVER),
            earliest: AtomicU64::new(0),
            interval,
            known_to: AtomicU64::new(0),
        }
    }

    /// Records that an entry of `cache` expires at `deadline`.
    pub(crate) fn expect(self: &Arc<Self>, cache: &Bound<'_, PyAny>, deadline: Nanos) -> PyResult<()> {
        let deadline = deadline.max(self.earliest.load(Ordering::Relaxed));
        let sooner = self.next.fetch_min(deadline, Ordering::AcqRel) > deadline;
        if sooner || self.known_to.load(Ordering::Relaxed) != GENERATION.load(Ordering::Relaxed) {
            self.announce(cache)?;
        }
        Ok(())
    }

    #[cold]
    fn announce(self: &Arc<Self>, cache: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = cache.py();
        if self.cache.lock().is_none() {
            let weak = PyWeakrefReference::new(cache)?.unbind();
            let mut place = self.cache.lock();
            if place.is_none() {
                *place = Some(weak);
            }
        }
        let Some(background) = current(py)? else { return Ok(()) };
        let mut state = background.state.lock();
        if self.known_to.swap(background.generation, Ordering::Relaxed) != background.generation {
            state.watches.retain(|watch| Arc::strong_count(watch) > 1);
            state.watches.push(Arc::clone(self));
        }
        if self.next.load(Ordering::Acquire) < state.asleep_until {
            background.wake.notify_one();
        }
        Ok(())
    }

    fn upgrade<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        let weak = self.cache.lock().as_ref().map(|weak| weak.clone_ref(py))?;
        weak.bind(py).upgrade()
    }
}

struct Background {
    generation: u64,
    state: Mutex<State>,
    wake: Condvar,
    ended: Condvar,
    thread: Mutex<Option<ThreadId>>,
}

struct State {
    watches: Vec<Arc<Watch>>,
    jobs: Vec<Job>,
    asleep_until: Nanos,
    stop: bool,
    ended: bool,
}

/// The thread of this process. Only attached threads touch the lock, and none of them can be
/// stopped for a fork while inside it.
static CURRENT: Mutex<Option<Arc<Background>>> = Mutex::new(None);
/// The number of this process: incremented in each forked child.
static GENERATION: AtomicU64 = AtomicU64::new(1);
/// In a forked child, the thread that forked. Only attached threads take the lock.
static FORKED_HERE: Mutex<Option<ThreadId>> = Mutex::new(None);
/// Whether the interpreter is about to end, so that no thread may be started.
static ENDING: AtomicBool = AtomicBool::new(false);

/// The number of this process: incremented in each forked child.
pub(crate) fn generation() -> u64 {
    GENERATION.load(Ordering::Relaxed)
}

/// Whether `thread` is the one that forked this process: the only one that parent and child have in common.
pub(crate) fn forked_here(thread: ThreadId) -> bool {
    *FORKED_HERE.lock() == Some(thread)
}

/// The thread, which is started if there is none; `None` if the program is ending.
fn current(py: Python<'_>) -> PyResult<Option<Arc<Background>>> {
    if let Some(background) = &*CURRENT.lock() {
        return Ok(Some(Arc::clone(background)));
    }
    if ENDING.load(Ordering::Acquire) {
        return Ok(None);
    }
    let shut_down = PyCFunction::new_closure(
        py,
        None,
        None,
        |args: &Bound<'_, PyTuple>, _: Option<&Bound<'_, PyDict>>| end(args.py()),
    )?;
    py.import("atexit")?.call_method1("register", (shut_down,))?;
    let background = Arc::new(Background {
        generation: generation(),
        state: Mutex::new(State {
            watches: Vec::new(),
            jobs: Vec::new(),
            asleep_until: 0,
            stop: false,
            ended: false,
        }),
        wake: Condvar::new(),
        ended: Condvar::new(),
        thread: Mutex::new(None),
    });
    let background = {
        let mut place = CURRENT.lock();
        if let Some(other) = &*place {
            // Registering ran Python code, and meanwhile another thread started one.
            return Ok(Some(Arc::clone(other)));
        }
        if ENDING.load(Ordering::Acquire) {
            // The program began to end meanwhile, and found no thread to end.
            return Ok(None);
        }
        let run = Arc::clone(&background);
        thread::Builder::new().name("flexcache-expiry".into()).spawn(move || run.run())?;
        *place = Some(Arc::clone(&background));
        background
    };
    logging::debug(py, &format_args!("the background thread has started"));
    Ok(Some(background))
}

/// Hands a job to the thread.
///
/// # Errors
///
/// The job itself, if there is no thread.
pub(crate) fn run(py: Python<'_>, job: Job) -> Result<(), Job> {
    let Ok(Some(background)) = current(py) else { return Err(job) };
    let mut state = background.state.lock();
    if state.stop {
        return Err(job);
    }
    state.jobs.push(job);
    background.wake.notify_one();
    Ok(())
}

/// Whether the caller is the background thread.
pub(crate) fn is_current_thread() -> bool {
    let background = CURRENT.lock().as_ref().map(Arc::clone);
    background.is_some_and(|background| *background.thread.lock() == Some(thread::current().id()))
}

/// Makes the thread check deadlines again, after the clock was moved.
pub(crate) fn clock_moved() {
    if let Some(background) = &*CURRENT.lock() {
        // Under its lock, so that the thread is either asleep or has yet to read the clock.
        let _state = background.state.lock();
        background.wake.notify_one();
    }
}

impl Background {
    fn run(&self) {
        *self.thread.lock() = Some(thread::current().id());
        while let Some((due, jobs)) = self.wait() {
            let attached = Python::try_attach(|py| {
                for job in jobs {
                    survive(py, || job(py));
                }
                for watch in &due {
                    survive(py, || self.look_at(py, watch));
                }
            });
            if attached.is_none() {
                break;
            }
            if self.generation != generation() {
                // A hook has forked, and this is the child, whose only thread this is. It ends as any other
                // thread of Python's does, and takes no lock of the parent.
                return;
            }
        }
        self.state.lock().ended = true;
        self.ended.notify_all();
    }

    /// Sleeps until something is due; `None` when it is time to end.
    fn wait(&self) -> Option<(Vec<Arc<Watch>>, Vec<Job>)> {
        let mut state = self.state.lock();
        loop {
            if state.stop {
                return None;
            }
            // A watch that nobody else holds belonged to a cache that is gone.
            state.watches.retain(|watch| Arc::strong_count(watch) > 1);
            let now = SystemClock.now();
            // Each deadline is read once: another thread may move it to before `now` at any moment. It then finds
            // the thread asleep until later, and wakes it.
            let mut next = NEVER;
            let mut due = Vec::new();
            for watch in &state.watches {
                match watch.next.load(Ordering::Acquire) {
                    deadline if deadline <= now => due.push(Arc::clone(watch)),
                    deadline => next = next.min(deadline),
                }
            }
            if !due.is_empty() || !state.jobs.is_empty() {
                state.asleep_until = 0;
                return Some((due, std::mem::take(&mut state.jobs)));
            }
            state.asleep_until = next;
            state = if next == NEVER {
                self.wake.wait(state).unwrap_or_else(PoisonError::into_inner)
            } else {
                let left = Duration::from_nanos(next.saturating_sub(now));
                self.wake.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
            };
        }
    }

    fn look_at(&self, py: Python<'_>, watch: &Arc<Watch>) {
        // From here on, an earlier deadline is recorded again.
        watch.next.store(NEVER, Ordering::Release);
        let Some(cache) = watch.upgrade(py) else {
            self.state.lock().watches.retain(|other| !Arc::ptr_eq(other, watch));
            return;
        };
        match (watch.duties.try_remove_expired)(&cache) {
            Ok(Some(0)) => {}
            Ok(None) => {
                watch.next.fetch_min(SystemClock.now().saturating_add(WHEN_BUSY), Ordering::AcqRel);
                return;
            }
            Ok(Some(count)) => {
                logging::debug(py, &format_args!("removed {count} expired entries in the background"));
            }
            Err(error) => logging::error(
                py,
                &format_args!("background expiry failed:\n{}", logging::describe(py, &error)),
            ),
        }
        let earliest = SystemClock.now().saturating_add(watch.interval);
        watch.earliest.store(if watch.interval > 0 { earliest } else { 0 }, Ordering::Relaxed);
        let next = match (watch.duties.next_expiry)(&cache) {
            Ok(next) => next,
            // Another thread is using the cache.
            Err(_) => Some(SystemClock.now().saturating_add(WHEN_BUSY)),
        };
        if let Some(next) = next {
            let next = if watch.interval > 0 { next.max(earliest) } else { next };
            watch.next.fetch_min(next, Ordering::AcqRel);
        }
    }
}

/// Runs one of the thread's duties. A panic is a bug and is logged, but the thread goes on, because callers
/// wait for the jobs that they hand to it.
fn survive(py: Python<'_>, duty: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(duty)) {
        logging::error(py, &format_args!("{}", logging::describe(py, &bug(&*payload))));
    }
}

/// Ends the thread before the interpreter ends, and runs the jobs that are left.
fn end(py: Python<'_>) {
    ENDING.store(true, Ordering::Release);
    // Code that starts a thread checks that under this lock.
    let Some(background) = CURRENT.lock().as_ref().map(Arc::clone) else {
        return;
    };
    let jobs = {
        let mut state = background.state.lock();
        state.stop = true;
        background.wake.notify_one();
        std::mem::take(&mut state.jobs)
    };
    py.detach(|| {
        let state = background.state.lock();
        drop(background.ended.wait_timeout_while(state, PATIENCE, |state| !state.ended));
    });
    for job in jobs {
        survive(py, || job(py));
    }
}

/// Forget the threads of the parent, which a forked child does not have.
#[pyfunction]
pub(crate) fn after_fork_in_child() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
    *FORKED_HERE.lock() = Some(thread::current().id());
    // The parent's thread may have held its lock, so this state is never used again, nor dropped.
    std::mem::forget(CURRENT.lock().take());
}
