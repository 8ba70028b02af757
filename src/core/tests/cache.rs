//! `Cache`, the store with keys that hash and compare themselves.

use std::cell::RefCell;
use std::sync::mpsc;
use std::time::Duration;

use flexcache_core::policy::{Fifo, Lfu, Random};
use flexcache_core::{Cache, Cause, Clock, Error, Limits, ManualClock, MonotonicClock, Removed};

#[test]
fn the_least_recently_used_leaves() -> Result<(), Error> {
    let mut cache = Cache::new(2);
    cache.put("a", 1)?;
    cache.put("b", 2)?;
    assert_eq!(cache.get("a"), Some(&1));
    cache.put("c", 3)?;
    assert_eq!((cache.peek("b"), cache.contains("a")), (None, true));
    assert_eq!(cache.iter().map(|(key, _)| *key).collect::<Vec<_>>(), ["a", "c"]);
    assert_eq!(cache.take("a"), Some(("a", 1)));
    assert_eq!((cache.len(), cache.check()), (1, Ok(())));
    cache.clear();
    assert!(cache.is_empty());
    Ok(())
}

#[test]
fn other_policies_are_a_type_parameter() -> Result<(), Error> {
    let mut fifo = Cache::<_, _, Fifo>::builder().max_items(1).build();
    let mut lfu = Cache::<_, _, Lfu>::builder().max_items(1).build();
    let mut random = Cache::<_, _, Random>::builder().max_items(1).seed(7).build();
    for key in ["a", "b"] {
        fifo.put(key, 1)?;
        lfu.put(key, 1)?;
        random.put(key, 1)?;
    }
    assert!(fifo.contains("b") && lfu.contains("b") && random.contains("b"));
    Ok(())
}

#[test]
fn entries_expire_by_the_clock_that_was_given() -> Result<(), Error> {
    let clock = ManualClock::default();
    let mut cache = Cache::<_, _>::builder().default_ttl(Duration::from_secs(60)).clock(&clock).build();
    cache.put("minute", 1)?;
    cache.put_for("hour", 2, Some(Duration::from_secs(3600)))?;
    cache.put_for("ever", 3, None)?;
    clock.advance(Duration::from_secs(60));
    assert_eq!(cache.get("minute"), None);
    assert_eq!(cache.get("hour"), Some(&2));
    clock.advance(Duration::from_secs(3600));
    assert_eq!((cache.expire(), cache.len()), (1, 1));
    assert_eq!(cache.stats().expirations, 2);
    Ok(())
}

#[test]
fn weights_limit_and_removals_are_told() -> Result<(), Error> {
    let (tell, told) = mpsc::channel::<Removed<u32, String>>();
    let mut cache = Cache::<u32, String>::builder()
        .max_weight(5)
        .weigher(|_, value: &String| value.len() as u64)
        .on_removal(move |removed| tell.send(removed).expect("the other end is open"))
        .build();
    cache.put(1, "abc".into())?;
    cache.put(2, "de".into())?;
    cache.put(3, "f".into())?;
    assert_eq!(cache.put(4, "123456".into()), Err(Error::TooHeavy { weight: 6, limit: 5 }));
    assert_eq!(cache.weight(), 3);
    cache.resize(Limits::new(1, 5));
    let causes: Vec<_> = told.try_iter().map(|removed| (removed.key, removed.cause)).collect();
    assert_eq!(causes, [(1, Cause::Evicted), (2, Cause::Evicted)]);
    Ok(())
}

#[test]
fn what_has_a_tag_leaves_together() -> Result<(), Error> {
    let (tell, told) = mpsc::channel::<Removed<u32, u32>>();
    let clock = ManualClock::default();
    let mut cache = Cache::<u32, u32>::builder()
        .default_ttl(Duration::from_secs(60))
        .clock(&clock)
        .on_removal(move |removed| tell.send(removed).expect("the other end is open"))
        .build();
    cache.put_tagged(1, 10, &["odd", "all"])?;
    clock.advance(Duration::from_secs(30));
    cache.put_tagged(2, 20, &["even", "all"])?;
    cache.put_tagged(3, 30, &["odd", "all", "odd"])?;
    cache.put(2, 21)?;
    clock.advance(Duration::from_secs(30));
    assert_eq!((cache.evict_tag("all"), cache.evict_tag("odd"), cache.len()), (1, 0, 1));
    let causes: Vec<_> = told.try_iter().map(|removed| (removed.key, removed.cause)).collect();
    assert_eq!(causes, [(2, Cause::Replaced), (1, Cause::Expired), (3, Cause::Deleted)]);
    assert_eq!(cache.check(), Ok(()));
    Ok(())
}

#[test]
fn the_monotonic_clock_runs() {
    let clock = MonotonicClock::new();
    let before = RefCell::new(clock.now());
    while clock.now() == *before.borrow() {}
    assert!(clock.reached(*before.borrow()));
}
