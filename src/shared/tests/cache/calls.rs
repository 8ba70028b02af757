//! What each call does, one by one.

use std::time::Duration;

use flexcache_shared::{Entry, Error, Options, Patience, kind, now};

use crate::support::{bytes_of, entry, get, key, new, open, path_in, put, sized, small};

#[test]
fn a_put_at_once_stores_what_a_put_does_or_nothing() {
    let (cache, _directory) = new(&small());
    assert_eq!(cache.put_at_once(key(b"k"), &entry(b"1")), Some(false));
    assert_eq!(cache.put_at_once(key(b"k"), &entry(b"2")), Some(true));
    assert_eq!(cache.put_at_once(key(b"k"), &entry(&vec![0; 200_000])), None, "it is too large");
    assert_eq!(cache.put_at_once(key(b"k"), &Entry { kind: kind::LIMITER, ..entry(b"3") }), None);
    assert_eq!(get(&cache, b"k").as_deref(), Some(&b"2"[..]));
    assert!(cache.unlink().expect("it is there"));
    assert_eq!(cache.put_at_once(key(b"k"), &entry(b"4")), None, "it is to be left");
    put(&cache, b"k", b"5");
    assert_eq!(cache.put_at_once(key(b"k"), &entry(b"6")), Some(true));
    assert_eq!(get(&cache, b"k").as_deref(), Some(&b"6"[..]));
}

#[test]
fn a_value_is_stored_replaced_and_removed() {
    let (cache, _directory) = new(&small());
    assert_eq!(get(&cache, b"k"), None);
    assert!(!put(&cache, b"k", b"one"));
    assert_eq!(get(&cache, b"k").as_deref(), Some(&b"one"[..]));
    assert!(put(&cache, b"k", b"another, longer one"));
    assert_eq!(get(&cache, b"k").as_deref(), Some(&b"another, longer one"[..]));
    assert_eq!(cache.len(), 1);
    assert!(cache.delete(key(b"k"), Patience::Wait).expect("it can be removed").result);
    assert!(!cache.delete(key(b"k"), Patience::Wait).expect("it can be removed").result);
    assert_eq!((get(&cache, b"k"), cache.len()), (None, 0));
    cache.check().expect("a sound cache");
}

#[test]
fn kinds_tell_keys_apart_and_come_back_with_values() {
    let (cache, _directory) = new(&small());
    for kind in [0_u8, 7, 255] {
        let key = flexcache_shared::Key { kind, bytes: b"same" };
        let value = [kind; 3];
        cache.put(key, &Entry { kind: kind.min(250), ..entry(&value) }, Patience::Wait).expect("it fits");
    }
    for kind in [0_u8, 7, 255] {
        let key = flexcache_shared::Key { kind, bytes: b"same" };
        let read = cache
            .get(key, Patience::Wait, |value| Ok((value.kind, bytes_of(value)?)))
            .expect("it can be read");
        assert_eq!(read, Some((kind.min(250), vec![kind; 3])));
    }
}

#[test]
fn every_length_is_kept() {
    let (cache, _directory) = new(&small());
    for length in (0..40).chain([63, 64, 65, 1000, 4093]) {
        let bytes: Vec<u8> = (0..length).map(|n| (n * 7 + length) as u8).collect();
        put(&cache, &bytes, &bytes);
        assert_eq!(get(&cache, &bytes), Some(bytes));
    }
    cache.check().expect("a sound cache");
}

#[test]
fn add_stores_only_where_nothing_is() {
    let (cache, _directory) = new(&small());
    let add = |value: &[u8], deadline| {
        let entry = Entry { deadline, ..entry(value) };
        cache.add(key(b"k"), &entry, Patience::Wait).expect("it fits")
    };
    assert!(add(b"expired", 1).result);
    assert!(add(b"first", 0).result);
    let second = add(b"second", 0);
    assert_eq!((second.result, second.stamp), (false, None));
    assert_eq!(get(&cache, b"k").as_deref(), Some(&b"first"[..]));
}

#[test]
fn pop_returns_what_it_removed() {
    let (cache, _directory) = new(&small());
    let value = vec![5; 30_000];
    put(&cache, b"k", &value);
    let pop = || cache.pop(key(b"k"), Patience::Wait, bytes_of).expect("it can be removed");
    assert_eq!(pop(), Some(value));
    assert_eq!(pop(), None);
    cache.check().expect("a sound cache");
}

#[test]
fn an_expired_value_is_absent_everywhere() {
    let (cache, _directory) = new(&small());
    let expired = Entry { deadline: 1, ..entry(b"x") };
    let store = || cache.put(key(b"k"), &expired, Patience::Wait).expect("it fits").result;
    store();
    assert!(!store(), "it replaces nothing");
    assert_eq!(get(&cache, b"k"), None);
    assert!(!cache.contains(key(b"k"), Patience::Wait).expect("it can be read"));
    assert!(!cache.touch(key(b"k"), 0, Patience::Wait).expect("a call").result);
    assert!(!cache.delete(key(b"k"), Patience::Wait).expect("a call").result);
    store();
    assert_eq!(cache.pop(key(b"k"), Patience::Wait, bytes_of).expect("a call"), None);
    store();
    let mut keys = 0;
    cache.keys(Patience::Wait, |_, _| keys += 1).expect("a call");
    assert_eq!(keys, 0);
}

#[test]
fn touch_moves_the_deadline() {
    let (cache, _directory) = new(&small());
    put(&cache, b"k", b"v");
    let later = now() + 1_000_000_000_000;
    assert!(cache.touch(key(b"k"), later, Patience::Wait).expect("a call").result);
    let ((), deadline, _) =
        cache.get_version(key(b"k"), Patience::Wait, |_| Ok(())).expect("a call").expect("there");
    assert_eq!(deadline, later);
    assert!(cache.touch(key(b"k"), 1, Patience::Wait).expect("a call").result);
    assert_eq!(get(&cache, b"k"), None);
}

#[test]
fn replace_needs_the_value_that_was_seen() {
    let (cache, _directory) = new(&small());
    let version = || {
        let read = cache.get_version(key(b"k"), Patience::Wait, bytes_of).expect("it can be read");
        read.map(|(value, _, version)| (value, version))
    };
    put(&cache, b"k", b"one");
    let (value, first) = version().expect("it is there");
    assert_eq!(value, b"one");
    let replace = |version, value: &[u8]| {
        cache.replace(key(b"k"), &version, &entry(value), Patience::Wait).expect("it fits")
    };
    assert!(replace(first, b"two"));
    assert!(!replace(first, b"three"), "the value is another one");
    put(&cache, b"k", b"two");
    let (_, same) = version().expect("it is there");
    put(&cache, b"k", b"two");
    assert!(!replace(same, b"three"), "equal bytes, but another write");
    cache.delete(key(b"k"), Patience::Wait).expect("a call");
    assert!(!replace(same, b"three"));
}

#[test]
fn an_integer_that_changed_in_place_is_another_value() {
    let (cache, _directory) = new(&small());
    let increment = || cache.increment(key(b"n"), 1, 0, 0, Patience::Wait).expect("a number").result;
    increment();
    let read = cache.get_version(key(b"n"), Patience::Wait, |value| Ok(value.word())).expect("a call");
    let (value, _, version) = read.expect("it is there");
    assert_eq!(value, 1);
    increment();
    let new =
        Entry { kind: flexcache_shared::kind::INTEGER, value: &9_u64.to_le_bytes(), deadline: 0, tags: &[] };
    assert!(!cache.replace(key(b"n"), &version, &new, Patience::Wait).expect("a call"));
    assert_eq!(increment(), 3);
}

#[test]
fn tags_make_entries_absent() {
    let (cache, _directory) = new(&small());
    let tag = |name: &str| cache.tag(name.as_bytes(), Patience::Wait).expect("a call");
    let (red, blue) = (tag("red"), tag("blue"));
    let store = |name: &[u8], tags: &[_]| {
        cache.put(key(name), &Entry { tags, ..entry(b"v") }, Patience::Wait).expect("it fits");
    };
    store(b"r", &[red]);
    store(b"b", &[blue]);
    store(b"rb", &[blue, red]);
    store(b"none", &[]);
    cache.evict_tag(b"red", Patience::Wait).expect("a call");
    let there: Vec<bool> =
        [&b"r"[..], b"b", b"rb", b"none"].iter().map(|name| get(&cache, name).is_some()).collect();
    assert_eq!(there, [false, true, false, true]);
    // A value that was begun before the tag was evicted is dead when it comes.
    store(b"late", &[red]);
    assert_eq!(get(&cache, b"late"), None);
    store(b"new", &[tag("red")]);
    assert!(get(&cache, b"new").is_some());
    cache.check().expect("a sound cache");
}

#[test]
fn clear_removes_everything_from_all_stripes() {
    let (cache, _directory) = new(&sized(4 << 20));
    for n in 0..2000_u32 {
        put(&cache, &n.to_le_bytes(), b"value");
    }
    assert_eq!(cache.len(), 2000);
    assert_eq!(cache.clear(Patience::Wait).expect("a call"), 2000);
    assert_eq!(cache.len(), 0);
    assert!((0..2000_u32).all(|n| get(&cache, &n.to_le_bytes()).is_none()));
    cache.check().expect("a sound cache");
    put(&cache, b"k", b"v");
    assert!(get(&cache, b"k").is_some());
    assert_eq!(cache.stats().resets, 0);
}

#[test]
fn keys_are_those_that_are_there() {
    let (cache, _directory) = new(&sized(4 << 20));
    for n in 0..1000_u32 {
        put(&cache, &n.to_le_bytes(), b"value");
    }
    for n in (0..1000_u32).step_by(3) {
        cache.delete(key(&n.to_le_bytes()), Patience::Wait).expect("a call");
    }
    let mut seen = Vec::new();
    cache
        .keys(Patience::Wait, |_, bytes| seen.push(u32::from_le_bytes(bytes.try_into().expect("4"))))
        .expect("a call");
    seen.sort_unstable();
    let expected: Vec<u32> = (0..1000).filter(|n| n % 3 != 0).collect();
    assert_eq!(seen, expected);
}

#[test]
fn too_large_an_entry_is_refused_with_both_numbers() {
    let (cache, _directory) = new(&small());
    let largest = usize::try_from(cache.stats().largest_item).expect("64 bits");
    put(&cache, b"k", &vec![1; largest - 40]);
    let error = cache.put(key(b"k"), &entry(&vec![1; largest]), Patience::Wait).expect_err("too large");
    assert!(matches!(error, Error::TooLarge { limit, .. } if limit == largest), "{error}");
    assert!(error.to_string().contains(&largest.to_string()));
    assert!(cache.put(key(&vec![1; largest]), &entry(b""), Patience::Wait).is_err());
    assert!(cache.add(key(b"a"), &entry(&vec![1; largest]), Patience::Wait).is_err());
    assert!(cache.increment(key(&vec![1; largest]), 1, 0, 0, Patience::Wait).is_err());
    assert!(cache.limit(key(&vec![1; largest]), 1, Duration::from_secs(1), Patience::Wait).is_err());
    assert!(cache.lease(key(&vec![1; largest]), Duration::from_secs(1), false, Patience::Wait).is_err());
    assert_eq!(get(&cache, b"k").map(|value| value.len()), Some(largest - 40));
}

#[test]
fn reserved_kinds_are_refused() {
    let (cache, _directory) = new(&small());
    for kind in flexcache_shared::kind::FIRST_RESERVED..=255 {
        let bad = Entry { kind, ..entry(b"no word") };
        assert!(cache.put(key(b"k"), &bad, Patience::Wait).is_err(), "{kind}");
        assert!(cache.add(key(b"k"), &bad, Patience::Wait).is_err(), "{kind}");
    }
}

#[test]
fn max_item_makes_room_for_large_entries() {
    let (cache, _directory) = new(&Options { max_item: Some(4 << 20), ..sized(64 << 20) });
    let value = vec![7; (4 << 20) - 64];
    put(&cache, b"k", &value);
    assert_eq!(get(&cache, b"k"), Some(value));
}

#[test]
fn one_cache_may_be_open_several_times() {
    let (cache, directory) = new(&small());
    let other = open(&path_in(&directory), &sized(8 << 20));
    assert!(cache.is_new() && !other.is_new());
    put(&cache, b"k", b"v");
    assert_eq!(get(&other, b"k").as_deref(), Some(&b"v"[..]));
    assert_eq!(other.stats().bytes, cache.stats().bytes, "the first one's size holds");
    other.count(3, 4);
    assert_eq!((cache.stats().hits, cache.stats().misses), (3, 4));
}

/// The bytes of a record with a key of 10 bytes and a value of so many.
fn record_of(value: usize) -> u64 {
    (24 + 16 + value.next_multiple_of(8)) as u64
}

/// Keys of 10 bytes and values of so many.
fn fill(max_bytes: usize, value: usize, share: u64) -> (u64, flexcache_shared::Stats) {
    let (cache, _directory) = new(&Options { expected_item: value + 40, ..sized(max_bytes) });
    let count = cache.stats().capacity * share / 100 / record_of(value);
    for n in 0..count {
        put(&cache, format!("key-{n:06}").as_bytes(), &vec![b'v'; value]);
    }
    cache.check().expect("a sound cache");
    (count, cache.stats())
}

#[test]
fn an_entry_costs_at_most_60_bytes() {
    for value in [20, 100, 1024] {
        let (_, stats) = fill(64 << 20, value, 105);
        let overhead = stats.bytes as f64 / stats.entries as f64 - 10.0 - value as f64;
        assert!(overhead <= 60.0, "{overhead} bytes for each of {} values of {value}", stats.entries);
    }
}

#[test]
fn nothing_is_lost_before_the_cache_is_80_percent_full() {
    let (count, stats) = fill(16 << 20, 20, 80);
    assert_eq!((stats.entries, stats.evicted, stats.crowded), (count, 0, 0));
}

#[test]
fn overwriting_a_third_five_times_loses_little() {
    let (cache, _directory) = new(&Options { expected_item: 64, ..sized(4 << 20) });
    let length = || std::fs::metadata(cache.path()).expect("it is there").len();
    let before = length();
    let count = cache.stats().capacity * 80 / 100 / record_of(20);
    let store = |n: u64| put(&cache, format!("key-{n:06}").as_bytes(), b"a value of 20 bytes.");
    for n in 0..count {
        store(n);
    }
    for _ in 0..5 {
        for n in (0..count).step_by(3) {
            store(n);
        }
    }
    let lost = count - cache.len();
    assert!(lost * 100 < count, "{lost} of {count}");
    assert_eq!(length(), before, "a file never changes its size");
}

#[test]
fn the_eviction_of_a_tag_is_counted_and_ends_copies_elsewhere() {
    let (cache, _directory) = new(&small());
    let tag = |name: &[u8]| cache.tag(name, Patience::Wait).expect("a call");
    let before = cache.evictions(Patience::Wait).expect("a call");
    let tags = [tag(b"t")];
    let tagged = Entry { tags: &tags, ..entry(b"value") };
    let stamp = cache.put(key(b"k"), &tagged, Patience::Wait).expect("it fits").stamp.expect("it was stored");
    let bits = cache.bits(&stamp).expect("the first segment");
    let other = cache.put(key(b"other"), &entry(b"value"), Patience::Wait).expect("it fits").stamp;
    assert!(cache.is_current(&stamp) && cache.is_current_in_bits(bits) && !cache.is_current_in_bits(0));
    assert_eq!(cache.evict_tag(b"t", Patience::Wait).expect("a call"), 1);
    assert!(!cache.is_current(&stamp) && !cache.is_current_in_bits(bits));
    assert!(!cache.is_current(&other.expect("it was stored")), "nobody knows which copies have the tag");
    assert_eq!(cache.evictions(Patience::Wait).expect("a call"), before + 1);
    assert!(!cache.is_tag_current(tags[0], Patience::Wait).expect("a call"));
    // A value that was made before the eviction is no longer one, and no copy of it is.
    let late = cache.put(key(b"k"), &tagged, Patience::Wait).expect("it fits");
    assert_eq!((late.stamp, get(&cache, b"k")), (None, None));
    assert!(
        cache
            .put(key(b"k"), &Entry { tags: &[tag(b"t")], ..tagged }, Patience::Wait)
            .expect("it fits")
            .stamp
            .is_some()
    );
}

#[test]
fn evictions_of_a_tag_at_once_count_each_entry_once() {
    let (cache, _directory) = new(&sized(1 << 20));
    let tag = || cache.tag(b"t", Patience::Wait).expect("a call");
    for _ in 0..20 {
        let tags = [tag(), cache.tag(b"another", Patience::Wait).expect("a call")];
        for number in 0..500_u64 {
            let entry = Entry { tags: &tags, deadline: u64::from(number < 100), ..entry(b"value") };
            cache.put(key(&number.to_le_bytes()), &entry, Patience::Wait).expect("it fits");
        }
        let start = std::sync::Barrier::new(3);
        let evict = || {
            start.wait();
            cache.evict_tag(b"t", Patience::Wait).expect("a call")
        };
        let counts = std::thread::scope(|scope| {
            [0; 3].map(|_| scope.spawn(evict)).map(|call| call.join().expect("no panic"))
        });
        // A hundred had expired.
        assert_eq!(counts.iter().sum::<u64>(), 400, "{counts:?}");
    }
}
