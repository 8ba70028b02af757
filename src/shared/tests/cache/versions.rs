//! Copies elsewhere, and the version words that say until when they are current.

use flexcache_shared::{Condition, Entry, Error, Lease, Patience, SharedCache, Stamp};
use std::time::Duration;

use crate::support::{bytes_of, entry, get, key, new, open, path_in, put, small};

/// A copy of what the cache has, if it may be kept.
fn copy(cache: &SharedCache, name: &[u8]) -> (Option<Vec<u8>>, Option<Stamp>) {
    let (read, stamp) = cache.get_stamped(key(name), Patience::Wait, bytes_of).expect("it can be read");
    (read.map(|(value, _)| value), stamp)
}

type Write = fn(&SharedCache);

#[test]
fn every_write_of_another_ends_a_copy() {
    let (cache, directory) = new(&small());
    let other = open(&path_in(&directory), &small());
    let writes: [(&str, Write); 10] = [
        ("put", |cache| {
            put(cache, b"k", b"v2");
        }),
        ("put at once", |cache| {
            assert_eq!(cache.put_at_once(key(b"k"), &entry(b"v2")), Some(true));
        }),
        ("delete", |cache| {
            cache.delete(key(b"k"), Patience::Wait).expect("a call");
        }),
        ("pop", |cache| {
            cache.pop(key(b"k"), Patience::Wait, |_| Ok(())).expect("a call");
        }),
        ("touch", |cache| {
            cache.touch(key(b"k"), 0, Patience::Wait).expect("a call");
        }),
        ("clear", |cache| {
            cache.clear(Patience::Wait).expect("a call");
        }),
        ("add over an expired one", |cache| {
            cache.touch(key(b"k"), 1, Patience::Wait).expect("a call");
            assert!(cache.add(key(b"k"), &entry(b"v2"), Patience::Wait).expect("a call").result);
        }),
        ("replace", |cache| {
            let read = cache
                .get_version(key(b"k"), Patience::Wait, |_| Ok(()))
                .expect("a call")
                .expect("it is there");
            assert!(cache.replace(key(b"k"), &read.2, &entry(b"v2"), Patience::Wait).expect("a call"));
        }),
        ("fill", |cache| {
            let lease = cache.lease(key(b"k"), Duration::from_secs(9), true, Patience::Wait).expect("a call");
            let Lease::Got(token) = lease else { panic!("{lease:?}") };
            assert!(cache.fill(key(b"k"), &token, &entry(b"v2"), Patience::Wait).expect("a call").result);
        }),
        ("increment", |cache| {
            cache.delete(key(b"k"), Patience::Wait).expect("a call");
            cache.increment(key(b"k"), 1, 0, 0, Patience::Wait).expect("a call");
        }),
    ];
    for (name, write) in writes {
        put(&cache, b"k", b"v1");
        let (value, stamp) = copy(&cache, b"k");
        let stamp = stamp.expect("nobody is writing");
        assert_eq!(value.as_deref(), Some(&b"v1"[..]));
        assert!(cache.is_current(&stamp), "{name}");
        write(&other);
        assert!(!cache.is_current(&stamp), "{name}");
    }
}

#[test]
fn an_integer_in_place_ends_copies_too() {
    let (cache, _directory) = new(&small());
    cache.increment(key(b"n"), 1, 0, 0, Patience::Wait).expect("a call");
    let (_, stamp) = copy(&cache, b"n");
    let written = cache.increment(key(b"n"), 1, 0, 0, Patience::Wait).expect("a call");
    assert!(!cache.is_current(&stamp.expect("nobody is writing")));
    assert!(cache.is_current(&written.stamp.expect("it wrote")));
}

#[test]
fn a_delete_of_nothing_ends_copies_that_outlived_the_entry() {
    let (cache, _directory) = new(&small());
    put(&cache, b"k", b"v");
    let (_, stamp) = copy(&cache, b"k");
    let stamp = stamp.expect("nobody is writing");
    for n in 0..20_000_u32 {
        put(&cache, format!("other {n}").as_bytes(), &[0; 100]);
    }
    assert_eq!(get(&cache, b"k"), None, "it was evicted");
    // The version word may have moved: others share it. Then there is nothing to see here.
    let was_current = cache.is_current(&stamp);
    assert!(!cache.delete(key(b"k"), Patience::Wait).expect("a call").result);
    assert!(!cache.is_current(&stamp), "{was_current}");
    let (value, stamp) = copy(&cache, b"k");
    assert_eq!(value, None);
    assert!(cache.pop(key(b"k"), Patience::Wait, bytes_of).expect("a call").is_none());
    assert!(!cache.is_current(&stamp.expect("nobody is writing")));
}

#[test]
fn what_changes_nothing_ends_no_copy() {
    let (cache, _directory) = new(&small());
    put(&cache, b"k", b"v");
    let (_, stamp) = copy(&cache, b"k");
    let stamp = stamp.expect("nobody is writing");
    assert!(!cache.add(key(b"k"), &entry(b"w"), Patience::Wait).expect("a call").result);
    let lease = cache.lease(key(b"k"), Duration::from_secs(9), true, Patience::Wait).expect("a call");
    let Lease::Got(token) = lease else { panic!("{lease:?}") };
    assert!(cache.release(key(b"k"), &token, Patience::Wait).expect("a call"));
    assert_eq!(
        cache.lease(key(b"k"), Duration::from_secs(9), false, Patience::Wait).expect("a call"),
        Lease::Value
    );
    assert!(!cache.touch(key(b"absent"), 0, Patience::Wait).expect("a call").result);
    assert!(cache.is_current(&stamp));
}

#[test]
fn a_segment_that_is_left_ends_all_copies() {
    let (cache, directory) = new(&small());
    put(&cache, b"k", b"v");
    let (_, stamp) = copy(&cache, b"k");
    let stamp = stamp.expect("nobody is writing");
    assert!(open(&path_in(&directory), &small()).unlink().expect("a call"));
    assert!(!cache.is_current(&stamp));
    assert_eq!(get(&cache, b"k"), None);
    assert!(!cache.is_current(&stamp), "not in the next segment either");
}

#[cfg(feature = "stall-points")]
#[test]
fn a_writer_killed_around_its_publication_leaves_no_copy_current() {
    use crate::peer::Peer;
    use flexcache_shared::stall::Point;
    for (point, published) in [
        (Point::VersionOdd, false),
        (Point::BeforeSlot, false),
        (Point::BeforeSums, true),
        (Point::BeforeEven, true),
    ] {
        for command in ["put k new", "delete k"] {
            if command == "delete k" && !matches!(point, Point::VersionOdd | Point::BeforeEven) {
                continue;
            }
            let (cache, directory) = new(&small());
            put(&cache, b"k", b"old");
            let (_, stamp) = copy(&cache, b"k");
            let stamp = stamp.expect("nobody is writing");
            let mut peer = Peer::new(&path_in(&directory));
            peer.ask(&format!("arm {} 0 0", point as u32));
            assert_eq!(peer.ask(command), "dead");
            // Nobody has mended it yet, and a copy is neither served nor made.
            assert!(!cache.is_current(&stamp), "{point:?} {command}");
            assert!(
                !cache.is_current_in_bits(cache.bits(&stamp).expect("the first segment")),
                "{point:?} {command}"
            );
            let (value, none) = copy(&cache, b"k");
            assert_eq!(none, None, "{point:?} {command}");
            let expected = match (published, command) {
                (false, _) => Some(&b"old"[..]),
                (true, "put k new") => Some(&b"new"[..]),
                (true, _) => None,
            };
            assert_eq!(value.as_deref(), expected, "{point:?} {command}");
            // The next writer resets, and copies from before stay dead.
            put(&cache, b"other", b"v");
            assert_eq!(cache.stats().resets, 1);
            assert!(!cache.is_current(&stamp));
            let (value, stamp) = copy(&cache, b"k");
            assert_eq!(value, None);
            assert!(cache.is_current(&stamp.expect("nobody is writing")));
        }
    }
}

/// Stores a value with a tag.
#[cfg(feature = "stall-points")]
fn put_tagged(cache: &SharedCache, name: &[u8], value: &[u8]) {
    let tag = cache.tag(b"t", Patience::Wait).expect("a call");
    cache.put(key(name), &Entry { tags: &[tag], ..entry(value) }, Patience::Wait).expect("it fits");
}

#[cfg(feature = "stall-points")]
#[test]
fn a_process_killed_while_it_evicts_a_tag_leaves_no_copy_current() {
    use crate::peer::Peer;
    use flexcache_shared::stall::Point;
    // Several stripes: the keys are in all of them, and the lock that matters is one stripe's.
    let options = crate::support::sized(8 << 20);
    let names: Vec<Vec<u8>> = (0..40_u8).map(|name| vec![name]).collect();
    for (point, is_evicted) in [
        (Point::Locked, false),
        (Point::EvictionBegun, false),
        (Point::TagMoved, true),
        (Point::BeforeEven, true),
    ] {
        let (cache, directory) = new(&options);
        for name in &names {
            put_tagged(&cache, name, b"value");
        }
        let stamps: Vec<Stamp> =
            names.iter().map(|name| copy(&cache, name).1.expect("nobody is writing")).collect();
        let mut peer = Peer::new(&path_in(&directory));
        peer.ask(&format!("arm {} 0 0", point as u32));
        assert_eq!(peer.ask("evict t"), "dead");
        let serves = |stamp: &Stamp| {
            let by_bits = cache.is_current_in_bits(cache.bits(stamp).expect("the first segment"));
            assert_eq!(cache.is_current(stamp), by_bits);
            by_bits
        };
        // Either the tag is evicted, for every copy, or nothing has happened.
        for (name, stamp) in names.iter().zip(&stamps) {
            assert!(!serves(stamp) || get(&cache, name).is_some(), "{point:?}: stale");
        }
        // Of a death nobody learns who does not wait, where the system does not tell of it.
        #[cfg(any(feature = "owner-lock", not(target_os = "linux")))]
        cache.check().expect("a sound cache");
        // A read mends what a dead process left, so that copies can be kept again.
        for name in &names {
            let (value, stamp) = copy(&cache, name);
            assert!(value.is_none() || !is_evicted, "{point:?}: an entry whose tag was evicted");
            assert!(serves(&stamp.expect("it is mended")), "{point:?}");
        }
        assert!(stamps.iter().all(|stamp| !serves(stamp)) || !is_evicted, "{point:?}");
        // The parts in which nobody died are as they were.
        let left = names.iter().filter(|name| get(&cache, name).is_some()).count();
        assert_eq!(left > names.len() / 2, !is_evicted, "{point:?}: {left}");
        put(&cache, b"next", b"value");
        cache.evict_tag(b"t", Patience::Wait).expect("a call");
        assert_eq!(cache.stats().resets, 1, "{point:?}: nobody died inside");
        cache.check().expect("a sound cache");
    }
}

#[test]
fn the_eviction_of_a_tag_waits_for_one_lock_and_changes_nothing_without_it() {
    let (cache, _directory) = new(&small());
    let tag = cache.tag(b"t", Patience::Wait).expect("a call");
    cache.put(key(b"k"), &Entry { tags: &[tag], ..entry(b"v") }, Patience::Wait).expect("it fits");
    let (_, stamp) = copy(&cache, b"k");
    let stamp = stamp.expect("nobody is writing");
    let blocked = Condition {
        unless: &|| {
            // Under the stripe's lock.
            let error = cache.evict_tag(b"t", Patience::Try).expect_err("the lock is taken");
            assert!(matches!(error, Error::Busy), "{error}");
            true
        },
        ..Condition::default()
    };
    cache.put_if(key(b"other"), &entry(b"v"), &blocked, Patience::Wait).expect("a call");
    assert!(cache.is_current(&stamp) && get(&cache, b"k").is_some());
    cache.evict_tag(b"t", Patience::Wait).expect("a call");
    assert!(!cache.is_current(&stamp) && get(&cache, b"k").is_none());
    let (value, stamp) = copy(&cache, b"k");
    assert!(value.is_none() && cache.is_current(&stamp.expect("nobody is writing")), "absence can be kept");
}

#[test]
fn a_hit_is_never_older_than_a_write_that_has_returned() {
    // The writer counts up, and says so after each put. Readers serve their copy while it is current.
    use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
    let (cache, _directory) = new(&small());
    let returned = AtomicU64::new(0);
    let rounds = 20_000;
    put(&cache, b"k", &0_u64.to_le_bytes());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut kept: Option<(u64, Stamp)> = None;
                while returned.load(SeqCst) < rounds {
                    let least = returned.load(SeqCst);
                    if let Some((number, _)) = kept.as_ref().filter(|(_, stamp)| cache.is_current(stamp)) {
                        assert!(
                            *number >= least,
                            "a copy of {number} was served after {least} had been written"
                        );
                    }
                    let (read, stamp) = cache
                        .get_stamped(key(b"k"), Patience::Wait, |value| Ok(value.word()))
                        .expect("it can be read");
                    kept = read.zip(stamp).map(|((number, _), stamp)| (number, stamp));
                }
            });
        }
        for number in 1..=rounds {
            let value = number.to_le_bytes();
            let entry = Entry { kind: 1, value: &value, deadline: 0, tags: &[] };
            cache.put(key(b"k"), &entry, Patience::Wait).expect("it fits");
            returned.store(number, SeqCst);
        }
    });
}

#[test]
fn a_stamp_of_a_removed_file_is_not_current_in_its_successor() {
    let (cache, _directory) = new(&small());
    let stamp = cache.stamp_of(key(b"k"), Patience::Wait).expect("a call").expect("nobody writes");
    let bits = cache.bits(&stamp).expect("few files");
    assert!(cache.is_current(&stamp) && cache.is_current_in_bits(bits));
    assert!(cache.unlink().expect("it is there"));
    assert!(!cache.is_current(&stamp) && !cache.is_current_in_bits(bits));
    // All versions of the new file are those that the old one had.
    assert_eq!(get(&cache, b"k"), None);
    assert!(!cache.is_current(&stamp) && !cache.is_current_in_bits(bits));
}
