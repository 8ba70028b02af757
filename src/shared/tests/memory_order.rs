//! The argument at the top of `stripe.rs`, in small, under loom: all interleavings and all reorderings within a bound.
//!
//! Each rule of the argument is also left out once, as a control: the model must then fail. If it did not, it would not test
//! that rule.

use loom::model::Builder;
use loom::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use loom::sync::atomic::{AtomicUsize, fence};
use loom::sync::{Arc, Mutex};
use loom::thread;

/// A rule that is left out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// Writers execute no release fence before they write over anything.
    NoFence,
    /// The tail moves only after the words behind it are written over.
    TailTooLate,
    /// The tail passes a record before its copy is published.
    PublishedTooLate,
    /// A reader does not look at the slot again when the tail has passed.
    NoSecondLook,
    /// A pad is written before the fence.
    PadBeforeFence,
    /// A word is changed in place without a fence after the lock.
    NoFenceInPlace,
}

/// Checks a model within a bound of preemptions. The usual one finds all that is known to go wrong here; a full run
/// (`FLEXCACHE_TEST_SCALE=1`) takes half a minute more.
fn check(model: impl Fn() + Send + Sync + 'static) {
    let is_full = std::env::var("FLEXCACHE_TEST_SCALE").is_ok_and(|scale| scale == "1");
    let mut builder = Builder::new();
    builder.preemption_bound = Some(if is_full { 2 } else { 1 });
    builder.check(model);
}

/// Checks a small model without a bound.
fn check_small(model: impl Fn() + Send + Sync + 'static) {
    Builder::new().check(model);
}

/// What a pad's word looks like.
const PAD: usize = 999;
/// The words of the log. A record is one word.
const SIZE: usize = 4;

/// A log with two keys. Key 0 moves to the head whenever the tail comes to it; key 1 is written over.
struct Log {
    slots: [AtomicUsize; 2],
    tail: AtomicUsize,
    words: [AtomicUsize; SIZE],
    /// The lock of writers, and the head.
    head: Mutex<usize>,
    fault: Fault,
}

impl Log {
    /// Key 0 has the value 1 at the first place of lap 1. Two dead records follow.
    fn new(fault: Fault) -> Self {
        Self {
            slots: [AtomicUsize::new(SIZE), AtomicUsize::new(0)],
            tail: AtomicUsize::new(SIZE),
            words: std::array::from_fn(|word| AtomicUsize::new(usize::from(word == 0))),
            head: Mutex::new(SIZE + 3),
            fault,
        }
    }

    fn fence(&self) {
        if self.fault != Fault::NoFence {
            fence(Release);
        }
    }

    /// Stores a value for key 1, after a pad if the caller says so.
    fn put(&self, value: usize, pads: bool) {
        let words = 1 + usize::from(pads);
        let mut head = self.head.lock().expect("no panic");
        // Room for the record, and for one that moves.
        while *head - self.tail.load(Relaxed) + words + 1 > SIZE && self.tail.load(Relaxed) < *head {
            self.advance(&mut head);
        }
        if pads && self.fault == Fault::PadBeforeFence {
            self.words[*head % SIZE].store(PAD, Relaxed);
        }
        self.fence();
        if pads {
            self.words[*head % SIZE].store(PAD, Relaxed);
            *head += 1;
        }
        self.words[*head % SIZE].store(value, Relaxed);
        self.slots[1].store(*head, Release);
        *head += 1;
    }

    /// Changes the value of key 1 where it is.
    fn change_in_place(&self, value: usize) {
        let _head = self.head.lock().expect("no panic");
        if self.fault != Fault::NoFenceInPlace {
            fence(Release);
        }
        let place = self.slots[1].load(Relaxed);
        if place >= self.tail.load(Relaxed) {
            self.words[place % SIZE].store(value, Relaxed);
        }
    }

    fn advance(&self, head: &mut usize) {
        let place = self.tail.load(Relaxed);
        if self.slots[0].load(Relaxed) == place {
            let value = self.words[place % SIZE].load(Relaxed);
            self.fence();
            self.words[*head % SIZE].store(value, Relaxed);
            let copy = *head;
            *head += 1;
            if self.fault == Fault::PublishedTooLate {
                self.tail.store(place + 1, Release);
                self.slots[0].store(copy, Release);
                return;
            }
            self.slots[0].store(copy, Release);
        }
        if self.fault == Fault::TailTooLate {
            self.words[place % SIZE].store(PAD, Relaxed);
        }
        self.tail.store(place + 1, Release);
    }

    /// The value of key 0, `None` if it is missing, and an error if writers were always faster.
    fn get(&self) -> Result<Option<usize>, ()> {
        for _ in 0..3 {
            let place = self.slots[0].load(Acquire);
            if self.tail.load(Acquire) > place {
                if self.fault == Fault::NoSecondLook || self.slots[0].load(Acquire) == place {
                    return Ok(None);
                }
                continue;
            }
            let value = self.words[place % SIZE].load(Relaxed);
            fence(Acquire);
            if self.tail.load(Relaxed) <= place {
                return Ok(Some(value));
            }
        }
        Err(())
    }
}

/// Two writers, so that the one which writes over a record need not be the one which moved the tail past it; one reader.
fn reads_of_a_log(fault: Fault) {
    check(move || {
        let log = Arc::new(Log::new(fault));
        let writer = |value, pads| {
            let log = log.clone();
            move || log.put(value, pads)
        };
        let first = thread::spawn(writer(2, true));
        let second = thread::spawn(writer(3, false));
        let reader = log.clone();
        let reader = thread::spawn(move || match reader.get() {
            Ok(Some(1)) | Err(()) => {}
            Ok(Some(value)) => panic!("torn: {value} was never stored for this key"),
            Ok(None) => panic!("missed: the key is always there"),
        });
        for thread in [reader, first, second] {
            thread.join().expect("no panic");
        }
        assert_eq!(log.get(), Ok(Some(1)));
    });
}

#[test]
fn a_read_is_neither_torn_nor_missed() {
    reads_of_a_log(Fault::None);
}

#[test]
#[should_panic(expected = "torn")]
fn control_no_fence() {
    reads_of_a_log(Fault::NoFence);
}

#[test]
#[should_panic(expected = "torn")]
fn control_the_tail_moves_too_late() {
    reads_of_a_log(Fault::TailTooLate);
}

#[test]
#[should_panic(expected = "missed")]
fn control_a_copy_is_published_too_late() {
    reads_of_a_log(Fault::PublishedTooLate);
}

#[test]
#[should_panic(expected = "missed")]
fn control_no_second_look_at_the_slot() {
    reads_of_a_log(Fault::NoSecondLook);
}

#[test]
#[should_panic(expected = "torn")]
fn control_a_pad_before_the_fence() {
    reads_of_a_log(Fault::PadBeforeFence);
}

/// One writer puts a record where that of key 0 was, and another one changes it in place.
fn reads_beside_a_change_in_place(fault: Fault) {
    check(move || {
        let log = Arc::new(Log::new(fault));
        let (putting, changing, reading) = (log.clone(), log.clone(), log.clone());
        let first = thread::spawn(move || putting.put(2, false));
        let second = thread::spawn(move || changing.change_in_place(3));
        let reader = thread::spawn(move || match reading.get() {
            Ok(Some(1)) | Err(()) => {}
            Ok(Some(value)) => panic!("torn: {value} was never stored for this key"),
            Ok(None) => panic!("missed: the key is always there"),
        });
        for thread in [reader, first, second] {
            thread.join().expect("no panic");
        }
    });
}

#[test]
fn a_read_sees_no_change_in_place_of_a_later_record() {
    reads_beside_a_change_in_place(Fault::None);
}

#[test]
#[should_panic(expected = "torn: 3")]
fn control_no_fence_before_a_change_in_place() {
    reads_beside_a_change_in_place(Fault::NoFenceInPlace);
}

/// A rule of the version words that is left out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum VersionFault {
    None,
    /// A writer does not make the word odd first.
    NeverOdd,
    /// Nothing keeps the odd word before the publication.
    NoFence,
    /// A writer makes the word even before it publishes.
    EvenTooEarly,
    /// A copy is kept under a word that was only read after the value.
    ReadOnlyAfter,
}

/// A value that changes in place, and its version word. The n-th value belongs to the version 2 n.
struct Versioned {
    version: AtomicUsize,
    value: AtomicUsize,
    fault: VersionFault,
}

impl Versioned {
    fn put(&self, value: usize) {
        if self.fault != VersionFault::NeverOdd {
            self.version.store(2 * value - 1, Relaxed);
        }
        if self.fault != VersionFault::NoFence {
            fence(Release);
        }
        if self.fault == VersionFault::EvenTooEarly {
            self.version.store(2 * value, Release);
            self.value.store(value, Relaxed);
            return;
        }
        self.value.store(value, Relaxed);
        self.version.store(2 * value, Release);
    }

    fn get(&self) -> usize {
        let value = self.value.load(Relaxed);
        fence(Acquire);
        value
    }

    /// A copy that may be kept, and the version under which it may.
    fn copy(&self) -> Option<(usize, usize)> {
        let before = self.version.load(Acquire);
        let value = self.get();
        let after = self.version.load(Relaxed);
        let is_steady = after == before || self.fault == VersionFault::ReadOnlyAfter;
        (is_steady && after.is_multiple_of(2)).then_some((value, after))
    }
}

/// A writer; a reader that keeps a copy, then reads the value itself, and only then looks whether its copy is current.
fn copies_elsewhere(fault: VersionFault) {
    check(move || {
        let shared = Arc::new(Versioned { version: AtomicUsize::new(0), value: AtomicUsize::new(0), fault });
        let writer = shared.clone();
        let writer = thread::spawn(move || {
            writer.put(1);
            writer.put(2);
        });
        if let Some((copy, version)) = shared.copy() {
            assert!(copy * 2 >= version, "stale: {copy} is kept under version {version}");
            let seen = shared.get();
            if shared.version.load(Acquire) == version {
                assert!(copy >= seen, "back: {copy} is served after {seen} was read");
            }
        }
        writer.join().expect("no panic");
    });
}

#[test]
fn a_copy_is_never_served_after_a_newer_value_was_seen() {
    copies_elsewhere(VersionFault::None);
}

#[test]
#[should_panic(expected = "back")]
fn control_a_version_that_is_never_odd() {
    copies_elsewhere(VersionFault::NeverOdd);
}

#[test]
#[should_panic(expected = "back")]
fn control_no_fence_after_the_odd_version() {
    copies_elsewhere(VersionFault::NoFence);
}

#[test]
#[should_panic(expected = "stale")]
fn control_a_version_that_is_even_too_early() {
    copies_elsewhere(VersionFault::EvenTooEarly);
}

#[test]
#[should_panic(expected = "stale")]
fn control_a_version_that_is_read_only_after_the_value() {
    copies_elsewhere(VersionFault::ReadOnlyAfter);
}

/// A rule of the eviction of tags that is left out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum TagFault {
    None,
    /// The generation is even again before the tag moves.
    EvenTooEarly,
    /// The generation is not odd while the tag moves.
    NeverOdd,
    /// A writer does not look at the tag again after it stored.
    NoSecondLook,
    /// A reader loads the generation only after it looked at the entry.
    GenerationAfter,
}

/// What an entry is stored with that is not there.
const NOTHING: usize = 9;

/// An entry with a tag. The eviction moves the tag from 0 to 1, and the generation from 0 to 2.
struct Tagged {
    lock: loom::sync::Mutex<()>,
    tag: AtomicUsize,
    version: AtomicUsize,
    generation: AtomicUsize,
    /// The version of the tag that the entry was stored with.
    stored: AtomicUsize,
    fault: TagFault,
}

impl Tagged {
    /// Evicts the tag, or dies in the middle of it. The lock of the first stripe is not modelled: there is one eviction.
    fn evict(&self, dies: bool) {
        if self.fault != TagFault::NeverOdd {
            self.generation.store(1, Relaxed);
        }
        if self.fault == TagFault::EvenTooEarly {
            self.generation.store(2, Release);
        }
        self.tag.store(1, Release);
        if self.fault != TagFault::EvenTooEarly && !dies {
            self.generation.store(2, Release);
        }
    }

    /// Stores the entry. Returns the version under which a copy may be kept.
    fn put(&self) -> Option<usize> {
        let tag = self.tag.load(Acquire);
        let generation = self.generation.load(Acquire);
        let version = {
            let _held = self.lock.lock().expect("no panic");
            let version = self.version.load(Relaxed);
            self.version.store(version + 1, Relaxed);
            fence(Release);
            self.stored.store(tag, Relaxed);
            self.version.store(version + 2, Release);
            version + 2
        };
        let holds = self.fault == TagFault::NoSecondLook || self.tag.load(Acquire) == tag;
        (holds && generation.is_multiple_of(2)).then_some(version + generation)
    }

    /// Reads the entry. Returns the version under which a copy may be kept.
    fn load(&self) -> Option<usize> {
        let generation = self.generation.load(Acquire);
        let before = self.version.load(Acquire);
        let stored = self.stored.load(Relaxed);
        let is_live = stored == self.tag.load(Acquire);
        fence(Acquire);
        let is_steady = before.is_multiple_of(2) && self.version.load(Relaxed) == before;
        let generation =
            if self.fault == TagFault::GenerationAfter { self.generation.load(Acquire) } else { generation };
        (is_live && is_steady && generation.is_multiple_of(2)).then_some(before + generation)
    }
}

/// What another process does meanwhile, and whether the one that evicts dies.
#[derive(Clone, Copy)]
struct Scene {
    reads: bool,
    dies: bool,
}

/// One evicts the tag while another one stores or reads an entry that has it. No copy outlives the eviction.
fn evictions_of_a_tag(fault: TagFault, Scene { reads, dies }: Scene) {
    check_small(move || {
        let shared = Arc::new(Tagged {
            lock: loom::sync::Mutex::new(()),
            tag: AtomicUsize::new(0),
            version: AtomicUsize::new(0),
            generation: AtomicUsize::new(0),
            stored: AtomicUsize::new(if reads { 0 } else { NOTHING }),
            fault,
        });
        let other = shared.clone();
        let other = thread::spawn(move || if reads { other.load() } else { other.put() });
        shared.evict(dies);
        let kept = other.join().expect("no panic");
        // An entry that was stored with the tag as it is after the eviction is a later one.
        if let Some(version) = kept
            && shared.version.load(Acquire) + shared.generation.load(Acquire) == version
        {
            assert_eq!(shared.stored.load(Relaxed), 1, "outlived: a copy of an entry whose tag was evicted");
        }
    });
}

#[test]
fn no_copy_outlives_the_eviction_of_its_tag() {
    for reads in [true, false] {
        for dies in [true, false] {
            evictions_of_a_tag(TagFault::None, Scene { reads, dies });
        }
    }
}

#[test]
#[should_panic(expected = "outlived")]
fn control_the_generation_is_even_before_the_tag_moves() {
    evictions_of_a_tag(TagFault::EvenTooEarly, Scene { reads: true, dies: false });
}

#[test]
#[should_panic(expected = "outlived")]
fn control_a_generation_that_is_never_odd() {
    evictions_of_a_tag(TagFault::NeverOdd, Scene { reads: true, dies: true });
}

#[test]
#[should_panic(expected = "outlived")]
fn control_no_second_look_at_the_tag() {
    evictions_of_a_tag(TagFault::NoSecondLook, Scene { reads: false, dies: false });
}

#[test]
#[should_panic(expected = "outlived")]
fn control_a_generation_that_is_loaded_after_the_entry() {
    evictions_of_a_tag(TagFault::GenerationAfter, Scene { reads: true, dies: false });
}
