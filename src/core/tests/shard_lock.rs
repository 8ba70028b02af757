//! The lock of a shard of the Python package on interpreters without a GIL (`src/py/memory/shard_lock.rs`), in small, under loom: all
//! interleavings within a bound of preemptions.
//!
//! Each rule of its argument is also left out once, as a control: the model must then fail. If it did not, it would not test
//! that rule.

use loom::cell::UnsafeCell;
use loom::model::Builder;
use loom::sync::{Arc, Mutex, MutexGuard};
use loom::thread;

/// A rule that is left out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// A reader does not look whether its part is open.
    ReadsWhenClosed,
    /// A reader releases its part before it reads.
    ReleasesEarly,
    /// Only one of the parts is closed.
    LeavesOneOpen,
    /// What a part recorded is applied before the next part is closed.
    AppliesTooEarly,
    /// What was recorded is not applied.
    AppliesNothing,
    /// The parts are opened while the shard is still in use.
    OpensTooEarly,
}

#[derive(Default)]
struct Record {
    is_open: bool,
    hits: usize,
}

/// A shard is a number: the hits that were applied, and a thousand for each change.
struct Shard {
    number: UnsafeCell<usize>,
    /// Whether the parts are open.
    state: Mutex<bool>,
    parts: [Mutex<Record>; 2],
    fault: Fault,
}

// SAFETY: the lock that is tested guards the number, and loom finds where it does not.
unsafe impl Sync for Shard {}

impl Shard {
    fn new(fault: Fault) -> Self {
        let open = || Mutex::new(Record { is_open: true, hits: 0 });
        Self { number: UnsafeCell::new(0), state: Mutex::new(true), parts: [open(), open()], fault }
    }

    fn part(&self, number: usize) -> MutexGuard<'_, Record> {
        self.parts[number].lock().expect("no panic")
    }

    fn add(&self, hits: usize) {
        // SAFETY: loom tells where another reference exists.
        self.number.with_mut(|number| unsafe { *number += hits });
    }

    fn get(&self) -> usize {
        // SAFETY: as for `add`.
        self.number.with(|number| unsafe { *number })
    }

    fn close(&self, are_open: &mut bool) {
        if !std::mem::take(are_open) {
            return;
        }
        for number in 0..2 {
            let mut part = self.part(number);
            if self.fault != Fault::LeavesOneOpen || number == 0 {
                part.is_open = false;
            }
            if self.fault == Fault::AppliesTooEarly {
                self.add(std::mem::take(&mut part.hits));
            }
        }
        if self.fault == Fault::AppliesNothing {
            return;
        }
        for number in 0..2 {
            self.add(std::mem::take(&mut self.part(number).hits));
        }
    }

    fn open(&self, are_open: &mut bool) {
        *are_open = true;
        for number in 0..2 {
            self.part(number).is_open = true;
        }
    }

    fn change(&self) {
        let mut state = self.state.lock().expect("no panic");
        self.close(&mut state);
        self.add(1000);
    }

    fn read(&self, number: usize) {
        let mut part = self.part(number);
        if part.is_open || self.fault == Fault::ReadsWhenClosed {
            part.hits += 1;
            if self.fault == Fault::ReleasesEarly {
                drop(part);
            }
            self.get();
            return;
        }
        drop(part);
        let mut state = self.state.lock().expect("no panic");
        self.close(&mut state);
        if self.fault == Fault::OpensTooEarly {
            self.open(&mut state);
        }
        self.add(1);
        self.open(&mut state);
    }
}

/// Two threads read, each twice, and one changes the shard.
fn run(fault: Fault) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(move || {
        let shard = Arc::new(Shard::new(fault));
        let readers = [0, 1].map(|number| {
            let shard = Arc::clone(&shard);
            thread::spawn(move || {
                shard.read(number);
                shard.read(number);
            })
        });
        shard.change();
        for reader in readers {
            reader.join().expect("no panic");
        }
        let mut state = shard.state.lock().expect("no panic");
        shard.close(&mut state);
        assert_eq!(shard.get(), 1004);
    });
}

#[test]
fn no_two_threads_meet_in_a_shard_and_nothing_is_lost() {
    run(Fault::None);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn a_reader_has_to_look_whether_its_part_is_open() {
    run(Fault::ReadsWhenClosed);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn a_reader_has_to_keep_its_part_while_it_reads() {
    run(Fault::ReleasesEarly);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn all_parts_have_to_be_closed() {
    run(Fault::LeavesOneOpen);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn all_parts_have_to_be_closed_before_anything_is_applied() {
    run(Fault::AppliesTooEarly);
}

#[test]
#[should_panic(expected = "left: ")]
fn what_was_recorded_has_to_be_applied() {
    run(Fault::AppliesNothing);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn parts_have_to_stay_closed_while_the_shard_is_in_use() {
    run(Fault::OpensTooEarly);
}
