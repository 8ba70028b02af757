//! Counting in place, and limiting rates.

use std::time::Duration;

use flexcache_shared::{Entry, Error, Patience, kind};

use crate::support::{entry, key, new, put, small};

#[test]
fn increments_add_up_and_keep_their_deadline() {
    let (cache, _directory) = new(&small());
    let increment = |by, initial| cache.increment(key(b"n"), by, initial, 0, Patience::Wait);
    assert_eq!(increment(5, 10).expect("a number").result, 15);
    assert_eq!(increment(-20, 99).expect("a number").result, -5);
    let read = cache.get(key(b"n"), Patience::Wait, |value| Ok((value.kind, value.word().cast_signed())));
    assert_eq!(read.expect("a call"), Some((kind::INTEGER, -5)));
    cache.check().expect("a sound cache");
}

#[test]
fn what_is_no_number_or_does_not_fit_is_refused_and_stays() {
    let (cache, _directory) = new(&small());
    put(&cache, b"text", b"12345678");
    let error = cache.increment(key(b"text"), 1, 0, 0, Patience::Wait).expect_err("no number");
    assert!(matches!(error, Error::NotANumber));
    let most = i64::MAX.to_le_bytes();
    let largest = Entry { kind: kind::INTEGER, value: &most, deadline: 0, tags: &[] };
    cache.put(key(b"n"), &largest, Patience::Wait).expect("it fits");
    assert!(matches!(cache.increment(key(b"n"), 1, 0, 0, Patience::Wait), Err(Error::Overflow)));
    assert!(matches!(cache.increment(key(b"new"), 1, i64::MAX, 0, Patience::Wait), Err(Error::Overflow)));
    assert!(!cache.contains(key(b"new"), Patience::Wait).expect("a call"));
    assert_eq!(cache.increment(key(b"n"), -1, 0, 0, Patience::Wait).expect("a number").result, i64::MAX - 1);
}

#[test]
fn a_number_that_must_be_there_is_not_made() {
    let (cache, _directory) = new(&small());
    let increment = |name: &[u8], by| cache.increment_present(key(name), by, Patience::Wait);
    let none = increment(b"n", 1).expect("a call");
    assert!(none.result.is_none() && none.stamp.is_none());
    assert!(!cache.contains(key(b"n"), Patience::Wait).expect("a call"));
    cache.increment(key(b"n"), 5, 0, 0, Patience::Wait).expect("a number");
    assert_eq!(increment(b"n", -7).expect("a number").result, Some(-2));
    put(&cache, b"text", b"12345678");
    assert!(matches!(increment(b"text", 1), Err(Error::NotANumber)));
    cache.check().expect("a sound cache");
}

#[test]
fn threads_lose_no_increment() {
    let (cache, _directory) = new(&small());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..5000 {
                    cache.increment(key(b"n"), 1, 0, 0, Patience::Wait).expect("a number");
                }
            });
        }
    });
    assert_eq!(cache.increment(key(b"n"), 0, 0, 0, Patience::Wait).expect("a number").result, 20_000);
}

#[test]
fn a_limiter_lets_a_burst_through_and_then_an_even_pace() {
    let (cache, _directory) = new(&small());
    let take = || cache.limit(key(b"calls"), 5, Duration::from_secs(1000), Patience::Wait).expect("a call");
    assert!((0..5).all(|_| take().is_zero()));
    let wait = take();
    assert!(wait > Duration::from_secs(150) && wait <= Duration::from_secs(200), "{wait:?}");
    let quick = || cache.limit(key(b"quick"), 1, Duration::from_millis(2), Patience::Wait).expect("a call");
    assert!(quick().is_zero());
    crate::support::wait_until("the next use", || quick().is_zero());
    cache.check().expect("a sound cache");
}

#[test]
fn a_limiter_refuses_what_makes_no_sense() {
    let (cache, _directory) = new(&small());
    let limit = |limit, period| cache.limit(key(b"k"), limit, period, Patience::Wait);
    assert!(limit(0, Duration::from_secs(1)).is_err());
    assert!(limit(5, Duration::ZERO).is_err());
    assert!(limit(1, Duration::MAX).is_err());
    assert!(limit(1, Duration::from_secs(100 * 365 * 86_400)).is_ok(), "a hundred years are not too long");
    cache.delete(key(b"k"), Patience::Wait).expect("a call");
    cache.put(key(b"k"), &entry(b"12345678"), Patience::Wait).expect("it fits");
    assert!(matches!(limit(1, Duration::from_secs(1)), Err(Error::NotANumber)));
}
