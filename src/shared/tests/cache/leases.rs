//! Leases: one computes, the others wait; and what becomes of owners that die, stop or are late.

use std::sync::atomic::{AtomicI32, AtomicU32, Ordering::SeqCst};
use std::time::{Duration, Instant};

use flexcache_shared::{Condition, Entry, Lease, LeaseTerms, Patience, Put, SharedCache, Token};

use crate::peer::Peer;
use crate::support::{entry, get, key, new, path_in, put, small, wait_until};

const LONG: Duration = Duration::from_secs(1000);

fn lease(cache: &SharedCache, name: &[u8]) -> Lease {
    cache.lease(key(name), LONG, false, Patience::Wait).expect("a call")
}

fn got(cache: &SharedCache, name: &[u8]) -> Token {
    match lease(cache, name) {
        Lease::Got(token) => token,
        other => panic!("{other:?}"),
    }
}

fn fill(cache: &SharedCache, name: &[u8], token: &Token, value: &[u8]) -> bool {
    cache.fill(key(name), token, &entry(value), Patience::Wait).expect("it fits").result
}

/// What `get_or_set` is made of.
fn get_or_compute(cache: &SharedCache, name: &[u8], compute: impl Fn() -> Vec<u8>) -> Vec<u8> {
    loop {
        if let Some(value) = get(cache, name) {
            return value;
        }
        match lease(cache, name) {
            Lease::Value => {}
            Lease::Got(token) => {
                let value = compute();
                fill(cache, name, &token, &value);
                return value;
            }
            Lease::Taken { wait, .. } => cache.wait(&wait, Duration::from_millis(50)),
        }
    }
}

type Write = fn(&SharedCache);

type End = fn(&SharedCache, &Token);

#[test]
fn a_lease_is_no_entry() {
    let (cache, _directory) = new(&small());
    let token = got(&cache, b"k");
    assert_eq!((get(&cache, b"k"), cache.len(), cache.stats().leases), (None, 0, 1));
    assert!(!cache.contains(key(b"k"), Patience::Wait).expect("a call"));
    assert!(!cache.touch(key(b"k"), 0, Patience::Wait).expect("a call").result);
    let mut keys = 0;
    cache.keys(Patience::Wait, |_, _| keys += 1).expect("a call");
    assert_eq!(keys, 0);
    assert!(matches!(lease(&cache, b"k"), Lease::Taken { owner, left, .. }
        if owner == Some(std::process::id()) && left > LONG / 2 && left <= LONG));
    assert!(cache.release(key(b"k"), &token, Patience::Wait).expect("a call"));
    assert_eq!(cache.stats().leases, 0);
    let again = got(&cache, b"k");
    assert!(!fill(&cache, b"k", &token, b"of the first"));
    assert!(fill(&cache, b"k", &again, b"of the second"));
    assert_eq!(lease(&cache, b"k"), Lease::Value);
    cache.check().expect("a sound cache");
}

#[test]
fn a_write_during_the_computation_wins() {
    let (cache, _directory) = new(&small());
    let writes: [Write; 5] = [
        |cache| {
            put(cache, b"k", b"newer");
        },
        |cache| assert!(!cache.delete(key(b"k"), Patience::Wait).expect("a call").result),
        |cache| assert!(cache.pop(key(b"k"), Patience::Wait, |_| Ok(())).expect("a call").is_none()),
        |cache| assert!(cache.add(key(b"k"), &entry(b"newer"), Patience::Wait).expect("a call").result),
        |cache| {
            cache.clear(Patience::Wait).expect("a call");
        },
    ];
    for write in writes {
        cache.clear(Patience::Wait).expect("a call");
        let token = got(&cache, b"k");
        write(&cache);
        assert!(!fill(&cache, b"k", &token, b"older"));
        assert_ne!(get(&cache, b"k").as_deref(), Some(&b"older"[..]));
        assert!(!cache.release(key(b"k"), &token, Patience::Wait).expect("a call"));
        assert!(!cache.renew(key(b"k"), &token, LONG, Patience::Wait).expect("a call"));
    }
}

#[test]
fn a_lease_of_a_removed_file_is_none_of_its_successor() {
    let (cache, _directory) = new(&small());
    let old = got(&cache, b"k");
    assert!(cache.unlink().expect("it is there"));
    let current = got(&cache, b"k");
    assert_eq!(old.words(), current.words(), "only the files differ");
    let condition = Condition { lease: Some(&old), ..Condition::default() };
    let put = cache.put_if(key(b"k"), &entry(b"old"), &condition, Patience::Wait).expect("a call");
    assert_eq!(put.result, Put::Refused);
    assert!(!fill(&cache, b"k", &old, b"old"));
    assert!(!cache.renew(key(b"k"), &old, LONG, Patience::Wait).expect("a call"));
    assert!(!cache.release(key(b"k"), &old, Patience::Wait).expect("a call"));
    assert!(!cache.has_lease(key(b"k"), &old, Patience::Wait).expect("a call"));
    assert!(fill(&cache, b"k", &current, b"new"));
}

#[test]
fn a_late_owner_is_replaced_and_may_store_until_then() {
    let (cache, _directory) = new(&small());
    let short = |name| match cache
        .lease(key(name), Duration::from_nanos(1), false, Patience::Wait)
        .expect("a call")
    {
        Lease::Got(token) => token,
        other => panic!("{other:?}"),
    };
    let late = short(b"k");
    let second = got(&cache, b"k");
    assert!(!fill(&cache, b"k", &late, b"late"));
    assert!(fill(&cache, b"k", &second, b"in time"));
    let late = short(b"j");
    assert!(fill(&cache, b"j", &late, b"late, and nobody minds"));
    let renewed = short(b"i");
    assert!(cache.renew(key(b"i"), &renewed, LONG, Patience::Wait).expect("a call"));
    assert!(matches!(lease(&cache, b"i"), Lease::Taken { .. }));
}

#[cfg(unix)]
#[test]
fn an_owner_that_died_or_is_a_zombie_is_replaced_at_once() {
    let (cache, directory) = new(&small());
    for waited_for in [true, false] {
        cache.clear(Patience::Wait).expect("a call");
        let mut peer = Peer::new(&path_in(&directory));
        assert_eq!(peer.ask("lease k 1000000"), "got");
        assert!(matches!(lease(&cache, b"k"), Lease::Taken { owner, .. } if owner == Some(peer.id())));
        if waited_for {
            peer.kill();
        } else {
            peer.signal("KILL");
            wait_until("the owner is a zombie", || peer.state() == 'Z');
        }
        // Its first thread may end before the others.
        let mut token = None;
        wait_until("the owner is replaced", || {
            if let Lease::Got(got) = lease(&cache, b"k") {
                token = Some(got);
            }
            token.is_some()
        });
        assert!(fill(&cache, b"k", &token.expect("it was waited for"), b"v"));
    }
}

#[cfg(unix)]
#[test]
fn a_stopped_owner_keeps_its_lease_until_it_is_late() {
    let (cache, directory) = new(&small());
    let mut peer = Peer::new(&path_in(&directory));
    assert_eq!(peer.ask("lease k 300"), "got");
    peer.signal("STOP");
    wait_until("it stops", || peer.state() == 'T');
    let Lease::Taken { left, .. } = lease(&cache, b"k") else { panic!("a stopped process lives") };
    assert!(left <= Duration::from_millis(300));
    let value = get_or_compute(&cache, b"k", || b"mine".to_vec());
    assert_eq!(value, b"mine");
    peer.signal("CONT");
    assert_eq!(peer.ask("fill k late"), "false");
    assert_eq!(get(&cache, b"k").as_deref(), Some(&b"mine"[..]));
}

#[test]
fn eight_threads_and_a_process_compute_once() {
    let (cache, directory) = new(&small());
    let mut peer = Peer::new(&path_in(&directory));
    let computed = AtomicU32::new(0);
    assert_eq!(peer.ask("lease k 1000000"), "got");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let value = get_or_compute(&cache, b"k", || {
                    computed.fetch_add(1, SeqCst);
                    b"wrong".to_vec()
                });
                assert_eq!(value, b"right");
            });
        }
        assert_eq!(peer.ask("fill k right"), "true");
    });
    assert_eq!(computed.load(SeqCst), 0);
    // And the same without it.
    cache.delete(key(b"k"), Patience::Wait).expect("a call");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                get_or_compute(&cache, b"k", || {
                    computed.fetch_add(1, SeqCst);
                    b"right".to_vec()
                })
            });
        }
    });
    assert_eq!(computed.load(SeqCst), 1);
}

#[cfg(target_os = "linux")]
#[test]
fn every_end_of_a_lease_wakes_its_waiters() {
    let (cache, _directory) = new(&small());
    let ends: [End; 5] = [
        |cache, token| assert!(fill(cache, b"k", token, b"v")),
        |cache, token| assert!(cache.release(key(b"k"), token, Patience::Wait).expect("a call")),
        |cache, _| {
            put(cache, b"k", b"v");
        },
        |cache, _| {
            cache.delete(key(b"k"), Patience::Wait).expect("a call");
        },
        |cache, _| {
            cache.clear(Patience::Wait).expect("a call");
        },
    ];
    for end in ends {
        cache.clear(Patience::Wait).expect("a call");
        let token = got(&cache, b"k");
        let Lease::Taken { wait, .. } = lease(&cache, b"k") else { panic!("it is taken") };
        let thread = AtomicI32::new(0);
        let started = Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                thread.store(rustix::thread::gettid().as_raw_nonzero().get(), SeqCst);
                cache.wait(&wait, Duration::from_secs(30));
            });
            wait_until("the waiter sleeps", || {
                let stat = format!("/proc/self/task/{}/stat", thread.load(SeqCst));
                std::fs::read_to_string(stat).is_ok_and(|stat| stat.contains(") S "))
            });
            end(&cache, &token);
        });
        assert!(started.elapsed() < Duration::from_secs(20), "nobody was woken");
    }
}

#[test]
fn a_lease_beside_a_value_leaves_it_readable() {
    let (cache, _directory) = new(&small());
    put(&cache, b"k", b"old");
    let refresh = || cache.lease(key(b"k"), LONG, true, Patience::Wait).expect("a call");
    let Lease::Got(token) = refresh() else { panic!("nobody has it") };
    assert_eq!((get(&cache, b"k").as_deref(), cache.len()), (Some(&b"old"[..]), 1));
    assert!(matches!(refresh(), Lease::Taken { .. }));
    assert!(cache.release(key(b"k"), &token, Patience::Wait).expect("a call"));
    assert_eq!(get(&cache, b"k").as_deref(), Some(&b"old"[..]));
    let Lease::Got(token) = refresh() else { panic!("it was given back") };
    assert!(fill(&cache, b"k", &token, b"new"));
    assert_eq!(get(&cache, b"k").as_deref(), Some(&b"new"[..]));
    let Lease::Got(token) = refresh() else { panic!("it was used") };
    put(&cache, b"k", b"newest");
    assert!(!fill(&cache, b"k", &token, b"late"));
    cache.check().expect("a sound cache");
}

#[test]
fn a_sum_made_during_a_refresh_wins() {
    let (cache, _directory) = new(&small());
    let add = |by| cache.increment(key(b"k"), by, 0, 0, Patience::Wait).expect("a number").result;
    add(1);
    let Ok(Lease::Got(token)) = cache.lease(key(b"k"), LONG, true, Patience::Wait) else {
        panic!("nobody has it")
    };
    assert_eq!(add(1), 2);
    assert!(!fill(&cache, b"k", &token, b"from before"));
    assert!(!cache.has_lease(key(b"k"), &token, Patience::Wait).expect("a call"));
    assert_eq!(add(1), 3);
    cache.check().expect("a sound cache");
}

#[test]
fn a_busy_cache_keeps_a_lease() {
    let (cache, _directory) = new(&small());
    let token = got(&cache, b"slow");
    for n in 0..50_000_u32 {
        put(&cache, &n.to_le_bytes(), &[0; 100]);
    }
    assert!(fill(&cache, b"slow", &token, b"v"), "the lease was evicted");
}

#[test]
fn more_leases_than_a_sixteenth_of_the_cache_do_not_fill_it() {
    let (cache, _directory) = new(&small());
    for n in 0..20_000_u32 {
        got(&cache, &n.to_le_bytes());
    }
    cache.check().expect("a sound cache");
    for n in 0..1000_u32 {
        put(&cache, format!("value {n}").as_bytes(), &[0; 100]);
    }
    assert!(cache.len() > 100, "{} entries", cache.len());
}

#[test]
fn leases_give_way_beyond_a_sixteenth_of_the_cache() {
    let (cache, _directory) = new(&small());
    // Each of these is protected, until all of them are more than may be.
    let held: Vec<_> = (0..4000_u32).map(|number| got(&cache, &number.to_le_bytes())).collect();
    // Head, owner, number and deadline, and the key.
    let words_of_a_lease = 3 + 3 + 1;
    let most = cache.stats().capacity / 8 / 16 / words_of_a_lease;
    for number in 0..20_000_u32 {
        let name = format!("value {number}");
        put(&cache, name.as_bytes(), &[0; 64]);
        // What is used moves to the main log, whose tail so comes to the leases.
        get(&cache, name.as_bytes());
    }
    let left = cache.stats().leases;
    assert!(left <= most, "{left} leases are left, and at most {most} are protected");
    assert!(left > 0, "those that are protected stay");
    let still = held
        .iter()
        .enumerate()
        .filter(|(number, token)| {
            let name = u32::try_from(*number).expect("small").to_le_bytes();
            cache.has_lease(key(&name), token, Patience::Wait).expect("a call")
        })
        .count();
    assert_eq!(still as u64, left);
}

#[test]
fn a_waiter_learns_how_a_lease_ends() {
    let (cache, _directory) = new(&small());
    let ends: [(&str, End); 4] = [
        ("filled", |cache, token| assert!(fill(cache, b"k", token, b"value"))),
        ("released", |cache, token| {
            assert!(cache.release(key(b"k"), token, Patience::Wait).expect("a call"));
        }),
        ("cleared", |cache, _| drop(cache.clear(Patience::Wait))),
        ("deleted", |cache, _| drop(cache.delete(key(b"k"), Patience::Wait))),
    ];
    for (how, end) in ends {
        cache.clear(Patience::Wait).expect("a call");
        let token = got(&cache, b"k");
        let Lease::Taken { wait, .. } = lease(&cache, b"k") else { panic!("it is taken") };
        assert_eq!(wait.words(), token.words());
        assert!(!cache.wait_for_end(key(b"k"), &wait, Duration::ZERO), "{how}");
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| cache.wait_for_end(key(b"k"), &wait, LONG));
            end(&cache, &token);
            assert!(waits.join().expect("no panic"), "{how}");
        });
    }
    let first = got(&cache, b"seized");
    let terms = LeaseTerms { time: LONG, refresh: true, seizes: true, tags: &[] };
    let Lease::Got(second) = cache.take_lease(key(b"seized"), &terms, Patience::Wait).expect("a call") else {
        panic!("it is taken from its owner")
    };
    assert!(!fill(&cache, b"seized", &first, b"1") && fill(&cache, b"seized", &second, b"2"));
}

#[test]
fn the_eviction_of_a_tag_ends_a_lease() {
    let (cache, _directory) = new(&small());
    let tag = || cache.tag(b"t", Patience::Wait).expect("a call");
    let ask = |tags: &[_]| {
        let terms = LeaseTerms { time: LONG, refresh: true, seizes: false, tags };
        cache.take_lease(key(b"k"), &terms, Patience::Wait).expect("a call")
    };
    assert!(matches!(ask(&[tag()]), Lease::Got(_)));
    let Lease::Taken { wait, .. } = ask(&[tag()]) else { panic!("it is taken") };
    cache.evict_tag(b"t", Patience::Wait).expect("a call");
    assert!(cache.wait_for_end(key(b"k"), &wait, Duration::ZERO));
    assert!(matches!(ask(&[tag()]), Lease::Got(_)));
    cache.check().expect("a sound cache");
}

/// Whatever the owner of a lease can do with it, each of which fails where it has ended.
fn uses(cache: &SharedCache, token: &Token) -> [(&'static str, bool); 4] {
    let put = Condition { lease: Some(token), ..Condition::default() };
    [
        ("has_lease", cache.has_lease(key(b"k"), token, Patience::Wait).expect("a call")),
        ("renew", cache.renew(key(b"k"), token, LONG, Patience::Wait).expect("a call")),
        ("fill", fill(cache, b"k", token, b"late")),
        (
            "put_if",
            cache.put_if(key(b"k"), &entry(b"late"), &put, Patience::Wait).expect("a call").result
                != Put::Refused,
        ),
    ]
}

#[test]
fn the_eviction_of_a_tag_ends_a_lease_for_its_owner_too() {
    let (cache, _directory) = new(&small());
    let tag = |name: &[u8]| cache.tag(name, Patience::Wait).expect("a call");
    let evict = |name: &[u8]| cache.evict_tag(name, Patience::Wait).expect("a call");
    let ask = |tags: &[_]| {
        let terms = LeaseTerms { time: LONG, refresh: true, seizes: false, tags };
        match cache.take_lease(key(b"k"), &terms, Patience::Wait).expect("a call") {
            Lease::Got(token) => token,
            other => panic!("{other:?}"),
        }
    };
    // Without a value, and beside one, which has a tag of its own.
    for (beside, evicted) in [(false, b"own"), (true, b"own"), (true, b"its")] {
        cache.clear(Patience::Wait).expect("a call");
        if beside {
            let tagged = Entry { tags: &[tag(b"its")], ..entry(b"value") };
            cache.put(key(b"k"), &tagged, Patience::Wait).expect("it fits");
        }
        let token = ask(&[tag(b"own")]);
        evict(b"another");
        assert!(cache.has_lease(key(b"k"), &token, Patience::Wait).expect("a call"));
        evict(evicted);
        for (name, is_allowed) in uses(&cache, &token) {
            assert!(!is_allowed, "{name}, beside a value: {beside}");
        }
        assert!(!cache.release(key(b"k"), &token, Patience::Wait).expect("a call"));
        // The value is as it was, and the lease is nobody's.
        let value = (beside && evicted == b"own").then_some(&b"value"[..]);
        assert_eq!(get(&cache, b"k").as_deref(), value);
        assert_eq!(cache.stats().leases, 0);
        let next = ask(&[tag(b"own")]);
        assert!(fill(&cache, b"k", &next, b"newer"));
        cache.check().expect("a sound cache");
    }
}

#[test]
fn a_lease_has_no_more_tags_than_an_entry() {
    let (cache, _directory) = new(&small());
    let tag = cache.tag(b"t", Patience::Wait).expect("a call");
    for (count, is_allowed) in [(255, true), (256, false), (65_536, false)] {
        let tags = vec![tag; count];
        let terms = LeaseTerms { time: LONG, refresh: true, seizes: true, tags: &tags };
        let asked = cache.take_lease(key(b"k"), &terms, Patience::Wait);
        assert_eq!(asked.is_ok(), is_allowed, "{count}");
    }
    cache.check().expect("a sound cache");
    assert_eq!(cache.stats().resets, 0);
}
