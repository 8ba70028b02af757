//! The lock of a shard.
//!
//! With a GIL it is a [`Guard`], which costs nothing. Without one, a hit should write no memory that another thread needs, so the
//! lock has parts:
//!
//! * A call that changes the shard locks `state`, a [`Guard`], and then *closes* the parts.
//! * A thread that only reads locks the part with its own number. If the part is open, the thread may read
//!   the shard, and it records its hits and misses in the part. If the part is closed or full, the thread
//!   locks `state`.
//! * When different threads read in turn without a change in between, the parts are *opened*. A cache that
//!   only one thread uses has no parts.
//!
//! # Why this is sound
//!
//! A reference to the shard exists only in two places: in [`Locked`], which holds `state` and has found or made every part closed; and
//! in [`Reading`], which holds a part that is open. Only the holder of `state` opens and closes parts, each under the part's mutex.
//! So a holder of `state` that has closed all parts is alone. A thread that takes a part later finds it closed. A thread that had a
//! part has released it, which the mutex orders before the closing. All memory is ordered by mutexes alone; there is no other
//! atomic variable. What was recorded is applied after *all* parts are closed, because others read until then. A holder of `state` takes parts,
//! and a holder of a part takes nothing, so there is no circle. `src/core/tests/shard_lock.rs` has this as a model under loom, and
//! each rule left out as a control that must fail.
//!
//! # What it means for the order
//!
//! Everything recorded is applied before the next change, so each thread's accesses keep their order, and each change finds the
//! accesses that came before it. Accesses of different threads between two changes are applied thread by thread. If the order of accesses
//! matters to the policy, this happens only in caches with several shards, which promise no order among them.

use super::lookup::Shard;

#[cfg(not(Py_GIL_DISABLED))]
mod lock {
    use pyo3::Python;

    use super::Shard;
    use crate::py::process::guard::{Busy, Guard, Locked};

    /// A shard that one thread at a time may use: the one that holds the GIL.
    pub(crate) type ShardLock = Guard<Shard>;

    impl ShardLock {
        /// [`lock`](Self::lock) for a call that only reads.
        #[inline(always)]
        pub(crate) fn lock_to_read<'a>(
            &'a self,
            py: Python<'a>,
            _several: bool,
        ) -> Result<Locked<'a, Shard>, Busy> {
            self.lock(py)
        }

        /// Bytes allocated for the lock.
        #[expect(clippy::unused_self, reason = "a lock with parts counts its own")]
        pub(crate) fn allocated_bytes(&self) -> usize {
            0
        }
    }
}

#[cfg(Py_GIL_DISABLED)]
mod lock {
    use std::cell::{Cell, UnsafeCell};
    use std::ops::{Deref, DerefMut};
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    use flexcache_core::{Slot, TryBox};
    use parking_lot::{Mutex, MutexGuard};
    use pyo3::Python;

    use super::Shard;
    use crate::py::memory::any_store::Complicated;
    use crate::py::process::guard::{self, Busy, Guard};
    use crate::py::store::rule_switch::is_off;

    /// Threads whose numbers differ by a multiple of this share a part.
    const PARTS: usize = 8;

    /// A part fills four pairs of cache lines with this many slots.
    const MOST_RECORDED: usize = 116;

    /// The parts are opened after this many reads, each by another thread than the one before.
    const TURNS: u32 = 8;

    static THREADS: AtomicU32 = AtomicU32::new(1);

    thread_local! {
        /// 0 until the thread needs its number.
        static NUMBER: Cell<u32> = const { Cell::new(0) };
    }

    /// The number of this thread, from 1 on.
    #[inline]
    fn thread_number() -> u32 {
        NUMBER.with(|number| {
            if number.get() == 0 {
                number.set(THREADS.fetch_add(1, Ordering::Relaxed).max(1));
            }
            number.get()
        })
    }

    /// The reads of the threads of one part since it was opened.
    struct Record {
        is_open: bool,
        hits: u64,
        misses: u64,
        len: usize,
        /// The slots of the accesses that the policy must be told of.
        slots: [Slot; MOST_RECORDED],
    }

    /// Many processors fetch two cache lines at a time, so parts are two lines apart.
    #[repr(align(128))]
    struct Part(Mutex<Record>);

    impl Part {
        fn new() -> Self {
            let slots = [Slot::default(); MOST_RECORDED];
            Self(Mutex::new(Record { is_open: false, hits: 0, misses: 0, len: 0, slots }))
        }
    }

    /// The state that decides whether the parts are open.
    struct State {
        /// Whether any part is.
        are_open: bool,
        /// The thread that read last.
        last: u32,
        /// How often the reading thread changed since the last change of the shard.
        turns: u32,
    }

    /// A shard that one thread may change or several may read at a time.
    pub(crate) struct ShardLock {
        shard: UnsafeCell<Shard>,
        state: Guard<State>,
        /// Made when threads first take turns.
        parts: OnceLock<TryBox<[Part; PARTS]>>,
        waits: bool,
    }

    // SAFETY: as the module documentation shows, there is either one mutable reference to the shard or
    // several shared ones.
    unsafe impl Sync for ShardLock where Shard: Send + Sync {}

    /// Exclusive access to the shard, until dropped.
    pub(crate) struct Locked<'a> {
        lock: &'a ShardLock,
        state: guard::Locked<'a, State>,
        /// Whether to open the parts.
        opens: bool,
    }

    impl Deref for Locked<'_> {
        type Target = Shard;

        #[inline(always)]
        fn deref(&self) -> &Shard {
            // SAFETY: `state` is held and all parts are closed, so no other reference exists.
            unsafe { &*self.lock.shard.get() }
        }
    }

    impl DerefMut for Locked<'_> {
        #[inline(always)]
        fn deref_mut(&mut self) -> &mut Shard {
            // SAFETY: as for `deref`.
            unsafe { &mut *self.lock.shard.get() }
        }
    }

    impl Drop for Locked<'_> {
        #[inline(always)]
        fn drop(&mut self) {
            if self.opens {
                self.lock.open(&mut self.state);
            }
        }
    }

    /// Read access to the shard, until dropped.
    pub(crate) struct Reading<'a> {
        shard: &'a Shard,
        record: MutexGuard<'a, Record>,
    }

    impl<'a> Reading<'a> {
        /// Looks up an entry and records a hit or a miss. If the slow path is needed, returns `Err` and
        /// records nothing. The entry cannot be removed while `self` lives.
        #[inline(always)]
        pub(crate) fn look(
            &mut self,
            hash: u64,
            eq: impl FnMut(&pyo3::Py<pyo3::PyAny>, flexcache_core::HashCheck<'_>) -> Result<bool, Complicated>,
        ) -> Result<Option<&'a pyo3::Py<pyo3::PyAny>>, Complicated> {
            let Some((slot, value)) = self.shard.look(hash, eq)? else {
                if self.shard.notices_misses() {
                    return Err(Complicated);
                }
                self.record.misses += 1;
                return Ok(None);
            };
            self.record.hits += 1;
            if self.shard.notices_access(slot) {
                let at = self.record.len;
                self.record.slots[at] = slot;
                self.record.len = at + 1;
            }
            Ok(Some(value))
        }
    }

    impl ShardLock {
        /// A lock. With `waits`, calls wait for it; otherwise they fail if they would have to.
        pub(crate) fn new(shard: Shard, waits: bool) -> Self {
            let state = State { are_open: false, last: 0, turns: 0 };
            Self {
                shard: UnsafeCell::new(shard),
                state: Guard::new(state, waits),
                parts: OnceLock::new(),
                waits,
            }
        }

        /// Runs `step` with the shard. See [`guard`] for what `step` may not do.
        #[inline(always)]
        pub(crate) fn with<R>(&self, py: Python<'_>, step: impl FnOnce(&mut Shard) -> R) -> Result<R, Busy> {
            self.lock(py).map(|mut shard| step(&mut shard))
        }

        /// [`with`](Self::with) as a guard, for calls that must be inlined.
        #[inline(always)]
        pub(crate) fn lock<'a>(&'a self, py: Python<'a>) -> Result<Locked<'a>, Busy> {
            let mut state = self.state.lock(py)?;
            state.turns = 0;
            Ok(self.alone(state))
        }

        /// [`lock`](Self::lock) for a call that only reads: next time its thread may use a part. `several` is
        /// whether the cache has several shards.
        #[inline(always)]
        pub(crate) fn lock_to_read<'a>(&'a self, py: Python<'a>, several: bool) -> Result<Locked<'a>, Busy> {
            let mut state = self.state.lock(py)?;
            let number = thread_number();
            state.turns += u32::from(state.last != number);
            state.last = number;
            let opens = self.waits && (state.are_open || state.turns >= TURNS);
            let mut locked = self.alone(state);
            locked.opens = opens && (several || locked.accesses_commute());
            Ok(locked)
        }

        /// Runs `step` unless the shard is in use.
        #[inline(always)]
        pub(crate) fn try_with<R>(
            &self,
            py: Python<'_>,
            step: impl FnOnce(&mut Shard) -> R,
        ) -> Result<R, Busy> {
            // A thread that holds a part never waits, so closing the parts does not take long.
            self.state.try_lock(py).map(|state| step(&mut self.alone(state)))
        }

        /// Exclusive access for the holder of `state`.
        #[inline(always)]
        fn alone<'a>(&'a self, mut state: guard::Locked<'a, State>) -> Locked<'a> {
            if state.are_open {
                self.close(&mut state);
            }
            Locked { lock: self, state, opens: false }
        }

        /// Read access for a thread, if its part is open.
        #[inline(always)]
        pub(crate) fn reading<'a>(&'a self, _py: Python<'a>) -> Option<Reading<'a>> {
            let parts = self.parts.get()?;
            let record = parts[thread_number() as usize % PARTS].0.lock();
            if !record.is_open || record.len == MOST_RECORDED {
                return None;
            }
            // SAFETY: the part is open and locked, so no reference exists that could change the shard.
            Some(Reading { shard: unsafe { &*self.shard.get() }, record })
        }

        #[inline(never)]
        fn open(&self, state: &mut State) {
            let parts = match self.parts.get() {
                Some(parts) => parts,
                None => {
                    let Ok(parts) = TryBox::new(std::array::from_fn(|_| Part::new())) else { return };
                    self.parts.get_or_init(|| parts)
                }
            };
            state.are_open = true;
            for part in parts.iter() {
                part.0.lock().is_open = true;
            }
        }

        #[inline(never)]
        fn close(&self, state: &mut State) {
            let Some(parts) = self.parts.get() else { return };
            for part in parts.iter() {
                part.0.lock().is_open = false;
            }
            state.are_open = false;
            // SAFETY: the caller holds `state` and all parts are closed, so no other reference exists.
            let shard = unsafe { &mut *self.shard.get() };
            for part in parts.iter() {
                let mut record = part.0.lock();
                if !is_off("recorded_reads") {
                    shard.count(record.hits, record.misses);
                    let len = record.len;
                    record.slots[..len].iter().for_each(|&slot| shard.access(slot));
                }
                (record.hits, record.misses, record.len) = (0, 0, 0);
            }
        }

        /// The shard, if nobody else has a reference to the lock. Reads that are only recorded are not
        /// counted.
        pub(crate) fn get_mut(&mut self) -> &mut Shard {
            self.shard.get_mut()
        }

        /// Bytes allocated for the lock.
        pub(crate) fn allocated_bytes(&self) -> usize {
            self.parts.get().map_or(0, |parts| size_of_val(&**parts))
        }
    }
}

pub(crate) use lock::ShardLock;
