//! Tells the commits of this store from those of others, for a cache in memory in front of the database.
//!
//! A **generation** is a stretch of time in which nobody but this store has committed. A cache in memory
//! keeps with each value the generation that held before it was read. The value is current as long as that
//! generation holds, except for writes through this store, which the cache sees itself.
//!
//! The store knows one version of the database as its own: the header of the log as its last commit left it.
//! A hit compares the header in mapped memory with that version. They must be exactly equal, both counter and
//! checksum. While a commit of ours is changing the header, the two differ for some microseconds. Then there
//! is no answer, but no new generation either.
//!
//! It would be tempting to take a header with the next count for our own during our commit, since nobody else
//! can commit while we hold the write lock. But `COMMIT` releases that lock itself, and it may have written
//! nothing at all: SQLite does not write a page that an UPDATE leaves unchanged. Then the next count belongs
//! to a foreign commit.

#![expect(unsafe_code, reason = "a hit reads memory that SQLite has mapped")]

use std::cell::Cell;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::asymmetric_fence::AsymmetricFence;
use crate::stripes::Moments;
use crate::version::{Header, Version};

/// The result of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Whether it wrote anything to the database.
    pub wrote: bool,
    /// The number of this commit: the store counts its commits in their order, from 1.
    pub sequence: u64,
    /// The generation that the commit belongs to. `None` if another process has committed right after it, and
    /// may have replaced what was written.
    pub generation: Option<u64>,
    /// The version after the commit, if nobody else has committed since.
    pub version: Option<Version>,
    /// The numbers that the observer returned for the stripes that were written.
    pub moments: Moments,
}

/// The result of a write, and its commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written<T> {
    /// What the call returns.
    pub result: T,
    /// The commit. `None` inside a transaction of the thread: there
    /// [`DiskStore::commit`](crate::DiskStore::commit) returns it.
    pub commit: Option<Commit>,
}

impl<T> Written<T> {
    /// The same commit with another result.
    pub fn map<R>(self, make: impl FnOnce(T) -> R) -> Written<R> {
        Written { result: make(self.result), commit: self.commit }
    }
}

/// The next number for a generation or an incarnation of any store of this process; each is given out once. A
/// forked child goes on counting from its parent's number, so the parent's generations from before the fork
/// are not current in the child.
static NUMBERS: AtomicU64 = AtomicU64::new(1);

fn new_number() -> u64 {
    NUMBERS.fetch_add(1, Ordering::Relaxed)
}

/// The number of counters in which threads count themselves as readers of the header. There are several, so
/// that threads seldom share one.
const PLACES: usize = 16;

/// A counter with a cache line of its own.
#[derive(Default)]
#[repr(align(128))]
struct Readers(AtomicUsize);

/// A flag with a cache line of its own.
#[derive(Default)]
#[repr(align(128))]
struct LoneReader(AtomicBool);

thread_local! {
    /// The index of the counter that this thread uses.
    static PLACE: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// The index of this thread's counter.
#[inline]
fn place() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    match PLACE.get() {
        usize::MAX => {
            let place = NEXT.fetch_add(1, Ordering::Relaxed) % PLACES;
            PLACE.set(place);
            place
        }
        place => place,
    }
}

/// No header is published: the store has not opened the database, or it has no shared log.
pub(crate) struct NoHeader;

/// A store's knowledge of the commits to its database.
pub(crate) struct CommitTracker {
    /// The mapped header, as long as the store keeps a connection for it.
    header: AtomicPtr<AtomicU32>,
    /// The threads that are reading the header at this moment.
    readers: [Readers; PLACES],
    /// Whether a caller of `generation_alone` is reading the header at this moment.
    lone_reader: LoneReader,
    fence: AsymmetricFence,
    /// The version that is known as our own, packed.
    known: AtomicU64,
    generation: AtomicU64,
    incarnation: AtomicU64,
    /// Whether a commit of ours is in progress: it may have changed the header, and `known` is not updated
    /// yet.
    commits: AtomicBool,
    sequence: AtomicU64,
    /// Held while `known` and `generation` change.
    change: Mutex<()>,
}

impl Default for CommitTracker {
    fn default() -> Self {
        Self {
            header: AtomicPtr::default(),
            readers: Default::default(),
            lone_reader: LoneReader::default(),
            fence: AsymmetricFence::default(),
            known: AtomicU64::new(0),
            generation: AtomicU64::new(new_number()),
            incarnation: AtomicU64::new(new_number()),
            commits: AtomicBool::new(false),
            sequence: AtomicU64::new(0),
            change: Mutex::default(),
        }
    }
}

impl CommitTracker {
    fn changing(&self) -> MutexGuard<'_, ()> {
        // No code under this lock can panic.
        self.change.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the header visible to [`CommitTracker::version`]. It stays mapped until `unpublish` has returned.
    pub(crate) fn publish(&self, header: Header) {
        let _change = self.changing();
        self.incarnation.store(new_number(), Ordering::Release);
        self.generation.store(new_number(), Ordering::Release);
        self.known.store(header.version().packed(), Ordering::Release);
        self.header.store(header.address().as_ptr(), Ordering::SeqCst);
    }

    /// Hides the header, and waits some nanoseconds for the threads that are reading it.
    pub(crate) fn unpublish(&self) {
        if self.header.swap(ptr::null_mut(), Ordering::SeqCst).is_null() {
            return;
        }
        self.fence.heavy();
        while self.lone_reader.0.load(Ordering::SeqCst)
            || self.readers.iter().any(|readers| readers.0.load(Ordering::SeqCst) != 0)
        {
            std::thread::yield_now();
        }
        self.start_generation();
    }

    /// The version in the published header.
    #[inline]
    pub(crate) fn version(&self) -> Option<Version> {
        let readers = &self.readers[place()].0;
        // `unpublish` waits for a reader that has counted itself before; a later one finds no header.
        readers.fetch_add(1, Ordering::SeqCst);
        let header = NonNull::new(self.header.load(Ordering::SeqCst));
        // SAFETY: the header is published, so it is mapped until `unpublish` has seen that no reader is left.
        let version = header.map(|address| unsafe { Header::at(address) }.version());
        readers.fetch_sub(1, Ordering::SeqCst);
        version
    }

    /// The generation, if the published header is the known one, for callers that exclude each other. It
    /// needs no locked instruction, as an asymmetric fence is enough against `unpublish`: either the load
    /// below sees that the header is hidden, or `unpublish` sees the flag and waits until the header has been
    /// read before it is unmapped.
    ///
    /// # Safety
    ///
    /// No two threads are in this function of one tracker at the same time.
    #[inline(always)]
    pub(crate) unsafe fn generation_alone(&self) -> Option<u64> {
        // SAFETY: the caller's promise.
        let version = unsafe { self.version_alone() }?;
        self.generation_at(version)
    }

    /// # Safety
    ///
    /// As for [`CommitTracker::generation_alone`].
    #[inline(always)]
    unsafe fn version_alone(&self) -> Option<Version> {
        self.lone_reader.0.store(true, Ordering::Relaxed);
        self.fence.light();
        let header = NonNull::new(self.header.load(Ordering::Acquire));
        // SAFETY: the header is published, so it is mapped until `unpublish` has seen the flag go.
        let version = header.map(|address| unsafe { Header::at(address) }.version());
        self.lone_reader.0.store(false, Ordering::Release);
        version
    }

    /// The generation, if the published header is the known one.
    #[inline]
    pub(crate) fn generation(&self) -> Option<u64> {
        let version = self.version()?;
        self.generation_at(version)
    }

    /// The generation, if `version`, which has just been read, is known.
    #[inline(always)]
    fn generation_at(&self, version: Version) -> Option<u64> {
        // A new generation is stored before the version with which it begins.
        let is_known = self.known.load(Ordering::Acquire) == version.packed();
        is_known.then(|| self.generation.load(Ordering::Acquire))
    }

    /// The generation that holds now, a new one if somebody else has committed. `Ok(None)` while a commit of ours is
    /// changing the header.
    pub(crate) fn observe(&self) -> Result<Option<u64>, NoHeader> {
        let version = self.version().ok_or(NoHeader)?;
        if let Some(generation) = self.generation_at(version) {
            return Ok(Some(generation));
        }
        let _change = self.changing();
        // The header is read before `commits`, which a commit of ours sets before it changes the header.
        let version = self.version().ok_or(NoHeader)?;
        Ok(self.judge(version))
    }

    /// [`CommitTracker::observe`] without a header, for a version that has just been read from the file.
    pub(crate) fn observe_at(&self, version: Version) -> Option<u64> {
        let _change = self.changing();
        self.judge(version)
    }

    /// The generation at a version, a new one if the version is not known. The caller holds `change`.
    fn judge(&self, version: Version) -> Option<u64> {
        let generation = self.generation_at(version);
        if generation.is_some() || self.commits.load(Ordering::SeqCst) {
            return generation;
        }
        Some(self.begin_generation(version))
    }

    /// A transaction of ours has taken the write lock, so nobody else commits. `version` is the version that
    /// it found.
    pub(crate) fn transaction_began(&self, version: Option<Version>) {
        if let Some(version) = version
            && self.generation_at(version).is_none()
        {
            let _change = self.changing();
            self.begin_generation(version);
        }
    }

    /// Starts a generation at `version`. The caller holds `change`.
    fn begin_generation(&self, version: Version) -> u64 {
        let generation = new_number();
        self.generation.store(generation, Ordering::Release);
        self.known.store(version.packed(), Ordering::Release);
        generation
    }

    /// Starts a generation: nothing that was read before is current.
    pub(crate) fn start_generation(&self) {
        let _change = self.changing();
        self.generation.store(new_number(), Ordering::Release);
    }

    /// Starts an incarnation, and with it a generation: the store is closed, or its database is another one.
    pub(crate) fn start_incarnation(&self) {
        self.incarnation.store(new_number(), Ordering::Release);
        self.start_generation();
    }

    /// A number that differs for each store, and changes when the store is closed, or finds another database.
    pub(crate) fn incarnation(&self) -> u64 {
        self.incarnation.load(Ordering::Acquire)
    }

    /// Marks a commit of ours that is about to change the version from `before`. The caller has the turn to write.
    pub(crate) fn committing(&self, before: Option<Version>) -> Committing<'_> {
        self.commits.store(true, Ordering::SeqCst);
        Committing { tracker: self, before, is_over: false }
    }
}

/// A commit of ours, until its outcome is known.
pub(crate) struct Committing<'a> {
    tracker: &'a CommitTracker,
    before: Option<Version>,
    is_over: bool,
}

impl Committing<'_> {
    /// Records that the transaction is committed. The caller still has the turn to write.
    pub(crate) fn done(mut self, wrote: bool, left: Option<Version>) -> Commit {
        self.is_over = true;
        let tracker = self.tracker;
        let _change = tracker.changing();
        let sequence = tracker.sequence.fetch_add(1, Ordering::Relaxed) + 1;
        // SQLite has released its lock, and others may have committed. If our transaction wrote, the next
        // count is ours.
        let is_ours = match (self.before, left) {
            (Some(before), Some(left)) if wrote => left.is_next_after(before),
            (Some(_), Some(left)) => tracker.generation_at(left).is_some(),
            _ => false,
        };
        let generation = match left {
            Some(left) if is_ours => {
                tracker.known.store(left.packed(), Ordering::Release);
                Some(tracker.generation.load(Ordering::Acquire))
            }
            Some(left) => {
                tracker.begin_generation(left);
                None
            }
            None => {
                tracker.generation.store(new_number(), Ordering::Release);
                None
            }
        };
        tracker.commits.store(false, Ordering::SeqCst);
        Commit { wrote, sequence, generation, version: left.filter(|_| is_ours), moments: Moments::None }
    }

    /// Records that the transaction is still open: nothing has changed.
    pub(crate) fn postponed(mut self) {
        self.is_over = true;
        self.tracker.commits.store(false, Ordering::SeqCst);
    }
}

impl Drop for Committing<'_> {
    /// The commit has failed, and the contents of the database are not known.
    fn drop(&mut self) {
        if !self.is_over {
            self.tracker.start_generation();
            self.tracker.commits.store(false, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    //! Races that take a few nanoseconds, step by step.

    use std::array;

    use super::{AtomicBool, AtomicU32, CommitTracker, Header, NonNull, Ordering, Version};

    const BEFORE: Version = Version { count: 5, sum: 50 };
    const NEXT: Version = Version { count: 6, sum: 60 };

    /// A header like that of a log, which a test changes.
    struct Log([AtomicU32; 16]);

    impl Log {
        fn at(version: Version) -> Self {
            let log = Self(array::from_fn(|_| AtomicU32::new(0)));
            log.set(version);
            log
        }

        fn set(&self, version: Version) {
            self.0[2].store(version.count, Ordering::SeqCst);
            self.0[10].store(version.sum, Ordering::SeqCst);
        }

        fn tracker(&self) -> CommitTracker {
            let tracker = CommitTracker::default();
            // SAFETY: the words live longer than the tracker in each test below.
            tracker.publish(unsafe { Header::at(NonNull::from(&self.0[0])) });
            tracker
        }
    }

    fn observed(tracker: &CommitTracker) -> Option<u64> {
        tracker.observe().unwrap_or_else(|_| unreachable!("the header is published"))
    }

    #[test]
    fn the_next_count_is_not_believed_while_a_commit_is_under_way() {
        let log = Log::at(BEFORE);
        let tracker = log.tracker();
        let generation = tracker.generation();
        let committing = tracker.committing(Some(BEFORE));
        assert_eq!(tracker.generation(), generation);
        log.set(NEXT);
        assert_eq!((tracker.generation(), observed(&tracker)), (None, None));
        let commit = committing.done(true, Some(NEXT));
        assert_eq!((commit.generation, tracker.generation()), (generation, generation));
    }

    #[test]
    fn a_foreign_commit_after_one_that_wrote_nothing_is_foreign() {
        let log = Log::at(BEFORE);
        let tracker = log.tracker();
        let generation = tracker.generation();
        let committing = tracker.committing(Some(BEFORE));
        log.set(NEXT);
        let commit = committing.done(false, Some(NEXT));
        assert_eq!((commit.generation, commit.version), (None, None));
        assert!(tracker.generation() != generation && tracker.generation().is_some());
    }

    #[test]
    fn a_foreign_commit_right_after_ours_is_foreign() {
        let log = Log::at(BEFORE);
        let tracker = log.tracker();
        let generation = tracker.generation();
        let committing = tracker.committing(Some(BEFORE));
        let foreign = Version { count: 7, sum: 70 };
        log.set(foreign);
        assert_eq!(committing.done(true, Some(foreign)).generation, None);
        assert_ne!(tracker.generation(), generation);
    }

    #[test]
    fn a_recovered_log_is_not_the_one_before() {
        let log = Log::at(BEFORE);
        let tracker = log.tracker();
        let generation = observed(&tracker);
        log.set(Version { sum: 51, ..BEFORE });
        assert_eq!(tracker.generation(), None);
        assert_ne!(observed(&tracker), generation);
    }

    #[test]
    fn no_reader_is_left_when_a_header_is_hidden() {
        let log = Log::at(BEFORE);
        let tracker = log.tracker();
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    // SAFETY: no other thread does this.
                    let seen = unsafe { tracker.version_alone() };
                    assert!(seen.is_none_or(|seen| seen == BEFORE), "{seen:?}");
                }
            });
            for _ in 0..100_000 {
                tracker.unpublish();
                // What would be unmapped memory.
                log.set(NEXT);
                log.set(BEFORE);
                // SAFETY: as in `Log::tracker`.
                tracker.publish(unsafe { Header::at(NonNull::from(&log.0[0])) });
            }
            is_over.store(true, Ordering::Relaxed);
        });
    }

    #[test]
    fn hiding_waits_for_the_lone_reader() {
        let log = Log::at(BEFORE);
        let tracker = log.tracker();
        tracker.lone_reader.0.store(true, Ordering::Relaxed);
        let is_hidden = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                tracker.unpublish();
                is_hidden.store(true, Ordering::Release);
            });
            while !tracker.header.load(Ordering::Acquire).is_null() {
                std::thread::yield_now();
            }
            // A shorter pause would only make the test miss more.
            std::thread::sleep(std::time::Duration::from_millis(20));
            assert!(!is_hidden.load(Ordering::Acquire));
            tracker.lone_reader.0.store(false, Ordering::Release);
        });
        assert!(is_hidden.load(Ordering::Acquire));
    }

    #[test]
    fn a_commit_that_fails_starts_a_generation_and_one_that_waits_does_not() {
        let log = Log::at(BEFORE);
        let tracker = log.tracker();
        let generation = tracker.generation();
        tracker.committing(Some(BEFORE)).postponed();
        assert_eq!(tracker.generation(), generation);
        drop(tracker.committing(Some(BEFORE)));
        assert_ne!(tracker.generation(), generation);
    }
}
