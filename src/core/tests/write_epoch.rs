//! The words of the trackers (`write_epoch.rs`) under loom: all interleavings and all reorderings within a bound.
//!
//! The models use the file itself, with the atomic integers of [`atomic`]. Each rule of its argument is also left out
//! once, as a control: the model must then fail. If it did not, it would not test that rule.

use std::cell::Cell;

use loom::model::Builder;
use loom::sync::atomic::AtomicUsize;
use loom::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use loom::sync::{Arc, Mutex};
use loom::thread;

#[path = "../write_epoch.rs"]
mod write_epoch;

use write_epoch::{Snapshot, WriteEpoch, WriteEpochs};

/// A rule that is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// A write begins after its commit.
    BeginsLate,
    /// A write ends before its commit.
    EndsEarly,
    /// What is read while a write is in flight is kept.
    KeepsInFlight,
    /// A writer keeps a copy although another write was in flight.
    KeepsThoughNotAlone,
    /// The epoch and the number of writes change one after the other.
    TwoAdditions,
    /// A load does not acquire.
    RelaxedLoad,
    /// An addition does not release.
    AcquireOnly,
    /// An addition does not acquire.
    ReleaseOnly,
}

thread_local! {
    /// Loom runs all threads of a model on the thread of the test.
    static FAULT: Cell<Fault> = const { Cell::new(Fault::None) };
}

fn is(fault: Fault) -> bool {
    FAULT.get() == fault
}

/// The atomic integers that `write_epoch.rs` uses here.
mod atomic {
    pub(crate) use loom::sync::atomic::{AtomicU32, Ordering};

    use super::{Fault, is};

    const EPOCH: u64 = 1 << (u64::BITS - super::write_epoch::EPOCH_BITS);

    #[derive(Debug)]
    pub(crate) struct AtomicU64(loom::sync::atomic::AtomicU64);

    impl AtomicU64 {
        pub(crate) fn new(value: u64) -> Self {
            Self(loom::sync::atomic::AtomicU64::new(value))
        }

        pub(crate) fn load(&self, order: Ordering) -> u64 {
            self.0.load(if is(Fault::RelaxedLoad) { Ordering::Relaxed } else { order })
        }

        pub(crate) fn fetch_add(&self, by: u64, order: Ordering) -> u64 {
            if is(Fault::TwoAdditions) {
                let before = self.0.fetch_add(EPOCH, order);
                self.0.fetch_add(by.wrapping_sub(EPOCH), order);
                return before;
            }
            let order = match order {
                Ordering::AcqRel if is(Fault::AcquireOnly) => Ordering::Acquire,
                Ordering::AcqRel if is(Fault::ReleaseOnly) => Ordering::Release,
                order => order,
            };
            self.0.fetch_add(by, order)
        }

        pub(crate) fn fetch_sub(&self, by: u64, order: Ordering) -> u64 {
            self.0.fetch_sub(by, order)
        }
    }
}

/// Runs a model with a rule left out.
fn check(fault: Fault, model: impl Fn() + Sync + Send + 'static) {
    FAULT.set(fault);
    let mut builder = Builder::new();
    builder.preemption_bound = Some(3);
    builder.max_branches = 100_000;
    builder.check(model);
}

/// A store of one value, which grows, and a copy of it in memory.
struct Store {
    word: WriteEpoch,
    value: AtomicUsize,
    copy: Mutex<Option<(Snapshot, usize)>>,
}

impl Store {
    fn new() -> Arc<Self> {
        Arc::new(Self { word: WriteEpoch::new(0), value: AtomicUsize::new(0), copy: Mutex::new(None) })
    }

    fn keep(&self, stamp: Snapshot, value: usize) {
        *self.copy.lock().expect("no panic") = Some((stamp, value));
    }

    /// The copy, if it may be served.
    fn live_copy(&self) -> Option<usize> {
        let copy = *self.copy.lock().expect("no panic");
        copy.filter(|(stamp, _)| self.word.load().epoch() == stamp.epoch()).map(|(_, value)| value)
    }

    fn write(&self, value: usize) {
        if is(Fault::BeginsLate) {
            self.value.store(value, Release);
        }
        self.word.begin_write();
        if is(Fault::EndsEarly) {
            self.word.end_write();
        }
        self.value.store(value, Release);
        if !is(Fault::EndsEarly) {
            self.word.end_write();
        }
    }

    fn read(&self) {
        let stamp = self.word.load();
        let value = self.value.load(Acquire);
        if !stamp.is_written() || is(Fault::KeepsInFlight) {
            self.keep(stamp, value);
        }
    }
}

/// A thread writes, one reads and keeps a copy, and one reads the store and then memory.
fn reads_beside_a_write(fault: Fault) {
    check(fault, || {
        let store = Store::new();
        let writer = {
            let store = Arc::clone(&store);
            thread::spawn(move || store.write(1))
        };
        let reader = {
            let store = Arc::clone(&store);
            thread::spawn(move || store.read())
        };
        let seen = store.value.load(Acquire);
        if let Some(copy) = store.live_copy() {
            assert!(copy >= seen, "stale: {copy} is served after {seen} was read");
        }
        writer.join().expect("no panic");
        reader.join().expect("no panic");
        assert!(store.live_copy() != Some(0), "stale: a copy outlives a write");
    });
}

#[test]
fn no_copy_is_served_after_a_newer_value_was_read() {
    reads_beside_a_write(Fault::None);
}

#[test]
#[should_panic(expected = "stale")]
fn control_a_write_that_begins_after_its_commit() {
    reads_beside_a_write(Fault::BeginsLate);
}

#[test]
#[should_panic(expected = "stale")]
fn control_a_write_that_ends_before_its_commit() {
    reads_beside_a_write(Fault::EndsEarly);
}

#[test]
#[should_panic(expected = "stale")]
fn control_what_is_read_during_a_write_is_kept() {
    reads_beside_a_write(Fault::KeepsInFlight);
}

#[test]
#[should_panic(expected = "stale")]
fn control_epoch_and_number_change_one_after_the_other() {
    reads_beside_a_write(Fault::TwoAdditions);
}

#[test]
#[should_panic(expected = "stale")]
fn control_a_load_that_does_not_acquire() {
    reads_beside_a_write(Fault::RelaxedLoad);
}

#[test]
#[should_panic(expected = "stale")]
fn control_an_end_that_does_not_release() {
    reads_beside_a_write(Fault::AcquireOnly);
}

/// Two threads write, and each keeps a copy of what it wrote, if it may.
fn two_writes(fault: Fault) {
    check(fault, || {
        let store = Store::new();
        let write = |value| {
            let store = Arc::clone(&store);
            move || {
                let begun = store.word.begin_write();
                if begun.epoch() == 3 {
                    assert!(store.value.load(Relaxed) != 0, "missed: the write that had ended");
                }
                store.value.store(value, Release);
                let ended = store.word.end_write();
                if ended.ends_alone(begun) || is(Fault::KeepsThoughNotAlone) {
                    store.keep(ended, value);
                }
            }
        };
        let other = thread::spawn(write(1));
        write(2)();
        other.join().expect("no panic");
        if let Some(copy) = store.live_copy() {
            assert_eq!(copy, store.value.load(Acquire), "the copy is not what the store has");
        }
    });
}

#[test]
fn what_a_writer_keeps_is_what_the_store_has() {
    two_writes(Fault::None);
}

#[test]
#[should_panic(expected = "the copy is not what the store has")]
fn control_a_writer_that_was_not_alone_keeps_a_copy() {
    two_writes(Fault::KeepsThoughNotAlone);
}

#[test]
#[should_panic(expected = "missed")]
fn control_a_beginning_that_does_not_acquire() {
    two_writes(Fault::ReleaseOnly);
}

// One thread: what a word counts.

#[test]
fn each_change_advances_the_epoch_by_one() {
    check(Fault::None, || {
        let word = WriteEpoch::new(5);
        let epochs = [word.load(), word.begin_write(), word.advance(), word.end_write(), word.load()];
        assert_eq!(epochs.map(Snapshot::epoch), [5, 6, 7, 8, 8]);
        assert_eq!(epochs.map(Snapshot::is_written), [false, true, true, false, false]);
    });
}

#[test]
fn an_epoch_goes_round_and_the_writes_stay() {
    check(Fault::None, || {
        let largest = (1 << write_epoch::EPOCH_BITS) - 1;
        let word = WriteEpoch::new(largest);
        assert_eq!((word.load().epoch(), word.load().is_written()), (largest, false));
        let begun = word.begin_write();
        assert_eq!((begun.epoch(), begun.is_written()), (0, true));
        assert!(word.end_write().ends_alone(begun));
    });
}

/// However many writes are in flight, they do not pass for none, and for none only after the last one has ended.
#[test]
fn many_writes_are_counted() {
    const WRITES: usize = 5000;
    check(Fault::None, || {
        let word = WriteEpoch::new(0);
        assert!((0..WRITES).all(|_| word.begin_write().is_written()));
        assert_eq!(word.load().epoch(), WRITES as u64, "they do not overflow into the epoch");
        assert!((1..WRITES).all(|_| word.end_write().is_written()));
        assert!(!word.end_write().is_written());
    });
}

#[test]
fn a_write_is_alone_if_no_other_was_in_flight_meanwhile() {
    check(Fault::None, || {
        let word = WriteEpoch::new(0);
        let begun = word.begin_write();
        assert!(word.end_write().ends_alone(begun));

        let (first, second) = (word.begin_write(), word.begin_write());
        assert!(!word.end_write().ends_alone(first) && !word.end_write().ends_alone(second));

        let begun = word.begin_write();
        word.begin_write();
        word.end_write();
        assert!(!word.end_write().ends_alone(begun), "the other write was inside");

        let begun = word.begin_write();
        word.advance();
        assert!(!word.end_write().ends_alone(begun), "something else was written");

        word.begin_write();
        let inner = word.begin_write();
        assert!(!word.end_write().ends_alone(inner), "the other write was around it");
    });
}

#[test]
fn a_generation_starts_four_times_while_the_epoch_in_a_stamp_goes_round() {
    check(Fault::None, || {
        let word = WriteEpoch::new(0);
        let starts: Vec<_> = (0..256).filter(|_| word.advance().needs_generation(8)).collect();
        assert_eq!(starts, [63, 127, 191, 255]);
    });
}

#[test]
fn writes_are_forgotten_and_their_epochs_are_not() {
    check(Fault::None, || {
        let words = WriteEpochs::new(3);
        let forgotten = words.forgotten();
        let begun = [words[0].begin_write(), words[0].begin_write(), words[1].begin_write()];
        words.forget_writes();
        assert_ne!(words.forgotten(), forgotten);
        assert!(words.iter().all(|word| !word.load().is_written()));
        assert_eq!([0, 1, 2].map(|at| words[at].load().epoch()), [2, 1, 0]);
        assert!(!words[0].advance().ends_alone(begun[1]), "it was forgotten");
        assert!(words[1].begin_write().is_written());
    });
}
