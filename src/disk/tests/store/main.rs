//! The store through its public API.

mod crash;
mod forks;
mod hostile;
mod leases;
mod transactions;
mod versions;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use flexcache_disk::{
    Counted, DiskStore, Error, Finding, Key, Label, Number, Order, Policy, Record, Rules, Side, Value,
    ValueRef, files, mode,
};

const PATIENCE: Duration = Duration::from_secs(60);
const NOW: f64 = 1_700_000_000.0;

fn open(directory: &Path) -> (DiskStore, Rules) {
    let rules = Rules::default();
    let store = DiskStore::new(directory);
    let settings = [
        ("size_limit".to_owned(), Value::Integer(1 << 30)),
        ("sqlite_auto_vacuum".to_owned(), Value::Integer(1)),
        ("sqlite_journal_mode".to_owned(), Value::Text("wal".to_owned())),
        ("sqlite_synchronous".to_owned(), Value::Integer(1)),
    ];
    store.create(&settings, &rules.policy, PATIENCE).expect("a new directory");
    (store, rules)
}

fn text(key: &str) -> Key<'_> {
    Key { datum: ValueRef::Text(key.as_bytes()), raw: true }
}

fn number(value: i64) -> Record<'static> {
    Record { size: 0, mode: mode::RAW, filename: None, value: ValueRef::Integer(value) }
}

fn label(expire_time: Option<f64>) -> Label<'static> {
    Label { now: NOW, expire_time, tag: ValueRef::Null }
}

#[test]
fn what_is_set_is_found_until_it_expires() {
    let directory = tempfile::tempdir().expect("a directory");
    let (store, rules) = open(directory.path());
    store.set(text("a"), number(1), label(Some(NOW + 10.0)), &rules, PATIENCE).expect("set");
    let found = |now| store.get(text("a"), now, &rules, PATIENCE).expect("get").map(|entry| entry.value);
    assert_eq!(found(NOW), Some(Value::Integer(1)));
    assert_eq!(found(NOW + 10.0), None);
    assert_eq!(store.len(PATIENCE).expect("len"), 1);
    assert_eq!(store.expire_some(NOW + 11.0, PATIENCE).expect("expire").result, 1);
    assert_eq!(store.len(PATIENCE).expect("len"), 0);
}

#[test]
fn a_directory_is_opened_again_without_a_write() {
    let directory = tempfile::tempdir().expect("a directory");
    drop(open(directory.path()));
    let version = |store: &DiskStore| store.settings(PATIENCE).expect("settings").len();
    let (store, _) = open(directory.path());
    assert_eq!(version(&store), 8);
}

#[test]
fn a_rollback_leaves_no_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let (store, rules) = open(directory.path());
    let put = |content: &[u8]| {
        let name = files::Names::default().next().expect("a name");
        files::write(directory.path(), &name, content).expect("a file");
        let size = i64::try_from(content.len()).expect("small");
        let record = Record { size, mode: mode::BINARY, filename: Some(&name), value: ValueRef::Null };
        store.set(text("a"), record, label(None), &rules, PATIENCE).expect("set");
    };
    put(b"old");
    store.begin(PATIENCE).expect("begin");
    put(b"new");
    store.rollback().expect("rollback");
    assert_eq!(store.check(false, PATIENCE).expect("check"), []);
    let entry = store.get(text("a"), NOW, &rules, PATIENCE).expect("get").expect("the old value");
    assert_eq!(entry.size, 3);
    put(b"newer");
    assert_eq!(store.check(false, PATIENCE).expect("check"), []);
}

/// A few free pages stay in the database. What removes many entries, or evicts, gives them back, since the size of the file
/// says how much room is left.
#[test]
fn free_pages_are_given_back_when_they_are_many_or_when_room_is_made() {
    let directory = tempfile::tempdir().expect("a directory");
    let (store, rules) = open(directory.path());
    let value = [7; 2000];
    let record = || Record { size: 0, mode: mode::RAW, filename: None, value: ValueRef::Blob(&value) };
    let fill = || {
        for number in 0..100 {
            store.set(text(&number.to_string()), record(), label(None), &rules, PATIENCE).expect("set");
        }
    };
    let volume = || store.volume(PATIENCE).expect("volume");
    let delete = |numbers: std::ops::Range<i32>| {
        for number in numbers {
            assert!(store.delete(text(&number.to_string()), NOW, PATIENCE).expect("delete").result);
        }
    };
    let empty = volume();
    fill();
    let most = volume();
    delete(0..40);
    assert_eq!(volume(), most, "what is free is used by the next writes");
    fill();
    assert_eq!(volume(), most);
    delete(0..100);
    assert!(volume() < empty + 64 * 4096, "there were more free pages than stay");
    store.clear_some(i64::MAX, PATIENCE).expect("clear");
    fill();
    delete(0..40);
    let limit = Rules { size_limit: 0.0, ..rules.clone() };
    store.cull_some(NOW, &limit, PATIENCE).expect("cull");
    assert!(volume() < most - 20 * 4096, "all that is free was given back");
    store.clear_some(i64::MAX, PATIENCE).expect("clear");
    assert_eq!(volume(), empty);
    assert_eq!(store.check(false, PATIENCE).expect("check"), []);
}

#[test]
fn threads_count_without_losing_one() {
    let directory = tempfile::tempdir().expect("a directory");
    let (store, rules) = open(directory.path());
    let highest = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..100 {
                    let began = store.increment(
                        text("n"),
                        Number::Integer(1),
                        Some(number(1)),
                        NOW,
                        &rules,
                        PATIENCE,
                    );
                    if let Counted::Sum(Number::Integer(sum)) = began.expect("increment").result {
                        highest.fetch_max(
                            i64::try_from(sum).expect("64 bits").unsigned_abs(),
                            Ordering::Relaxed,
                        );
                    }
                }
            });
        }
    });
    assert_eq!(highest.into_inner(), 400);
}

#[test]
fn who_waits_too_long_is_told_so() {
    let directory = tempfile::tempdir().expect("a directory");
    let (store, rules) = open(directory.path());
    store.begin(PATIENCE).expect("begin");
    let second = DiskStore::new(directory.path());
    std::thread::scope(|scope| {
        for busy in [&store, &second] {
            let other = scope.spawn(|| busy.set(text("a"), number(1), label(None), &rules, Duration::ZERO));
            assert!(matches!(other.join().expect("no panic"), Err(Error::Busy)));
        }
    });
    // This thread would wait for itself.
    let own = second.set(text("a"), number(1), label(None), &rules, PATIENCE);
    assert!(matches!(own, Err(Error::HeldByThisThread)), "{own:?}");
    store.commit(PATIENCE).expect("commit");
    second.set(text("a"), number(1), label(None), &rules, Duration::ZERO).expect("nobody else writes");
}

#[test]
fn queues_have_two_ends() {
    let directory = tempfile::tempdir().expect("a directory");
    let (store, rules) = open(directory.path());
    for (value, side) in [(2, Side::Back), (3, Side::Back), (1, Side::Front)] {
        store.push(Some("jobs"), side, number(value), label(None), &rules, PATIENCE).expect("push");
    }
    let pull = || {
        let taken = store.at_end(Some("jobs"), Side::Front, true, NOW, PATIENCE).expect("pull");
        taken.result.map(|(_, entry)| entry.value)
    };
    assert_eq!([pull(), pull(), pull(), pull()], [1, 2, 3, 0].map(|n| (n > 0).then_some(Value::Integer(n))));
}

#[test]
fn keys_are_walked_both_ways() {
    let directory = tempfile::tempdir().expect("a directory");
    let (store, rules) = open(directory.path());
    for key in ["b", "c", "a"] {
        store.set(text(key), number(0), label(None), &rules, PATIENCE).expect("set");
    }
    let names = |order| {
        let keys = store.keys_by_key(None, order, PATIENCE).expect("keys");
        keys.into_iter().map(|key| key.datum).collect::<Vec<_>>()
    };
    let letters = |order: &str| order.chars().map(|c| Value::Text(c.to_string())).collect::<Vec<_>>();
    assert_eq!(names(Order::Ascending), letters("abc"));
    assert_eq!(names(Order::Descending), letters("cba"));
}

#[test]
fn the_limit_evicts_what_was_stored_first() {
    let directory = tempfile::tempdir().expect("a directory");
    let (store, rules) = open(directory.path());
    let rules = Rules { size_limit: 0.0, cull_limit: 1, ..rules };
    store
        .set(text("a"), number(0), label(None), &Rules { cull_limit: 0, ..rules.clone() }, PATIENCE)
        .expect("set");
    let later = Label { now: NOW + 1.0, ..label(None) };
    store.set(text("b"), number(0), later, &rules, PATIENCE).expect("set");
    assert!(store.get(text("a"), NOW, &rules, PATIENCE).expect("get").is_none());
    assert!(store.get(text("b"), NOW, &rules, PATIENCE).expect("get").is_some());
    assert_eq!(Policy::named("no such"), None);
}

#[test]
fn a_check_finds_and_mends() {
    let directory = tempfile::tempdir().expect("a directory");
    let (store, rules) = open(directory.path());
    let record = Record { size: 5, mode: mode::BINARY, filename: Some("gone.val"), value: ValueRef::Null };
    store.set(text("a"), record, label(None), &rules, PATIENCE).expect("set");
    std::fs::create_dir(directory.path().join("empty")).expect("a directory");
    std::fs::write(directory.path().join("stray"), "x").expect("a file");
    let found = store.check(true, PATIENCE).expect("check");
    assert!(found.iter().any(|finding| matches!(finding, Finding::MissingFile(_))), "{found:?}");
    assert!(found.iter().any(|finding| matches!(finding, Finding::UnknownFile(_))), "{found:?}");
    assert!(found.iter().any(|finding| matches!(finding, Finding::EmptyDirectory(_))), "{found:?}");
    assert_eq!(store.check(false, PATIENCE).expect("check"), []);
}

#[test]
fn a_transaction_larger_than_memory_is_whole() {
    let directory = tempfile::tempdir().expect("a directory");
    let rules = Rules::default();
    let store = DiskStore::new(directory.path());
    // SQLite writes pages to its log before the transaction ends, and some of them again.
    let settings = [
        ("sqlite_cache_size".to_owned(), Value::Integer(5)),
        ("sqlite_journal_mode".to_owned(), Value::Text("wal".to_owned())),
    ];
    store.create(&settings, &rules.policy, PATIENCE).expect("a new directory");
    let content = |round: u8| vec![round; 1500];
    let put = |number: i64, round: u8| {
        let key = Key { datum: ValueRef::Integer(number), raw: true };
        let content = content(round);
        let value = Record { size: 0, mode: mode::RAW, filename: None, value: ValueRef::Blob(&content) };
        store.set(key, value, label(None), &rules, PATIENCE).expect("set");
    };
    for round in 1..=3 {
        store.begin(PATIENCE).expect("begin");
        (0..600).for_each(|number| put(number, round));
        (0..600).step_by(7).for_each(|number| put(number, round + 10));
        store.commit(PATIENCE).expect("commit");
        store.begin(PATIENCE).expect("begin");
        (0..600).for_each(|number| put(number, 99));
        store.rollback().expect("rollback");
        let (other, _) = open(directory.path());
        assert_eq!(other.check(false, PATIENCE).expect("check"), []);
        for number in 0..600 {
            let key = Key { datum: ValueRef::Integer(number), raw: true };
            let found = other.get(key, NOW, &rules, PATIENCE).expect("get").expect("it was set").value;
            let expected = content(if number % 7 == 0 { round + 10 } else { round });
            assert_eq!(found, Value::Blob(expected), "{number}");
        }
    }
}

#[test]
fn writers_take_turns_and_none_is_forgotten() {
    let directory = tempfile::tempdir().expect("a directory");
    let (store, rules) = open(directory.path());
    std::thread::scope(|scope| {
        for name in 0..8 {
            let (store, rules) = (&store, &rules);
            scope.spawn(move || {
                for round in 0..200 {
                    if round % 50 == 0 {
                        store.begin(PATIENCE).expect("begin");
                    }
                    let key = Key { datum: ValueRef::Integer(name), raw: true };
                    store.set(key, number(round), label(None), rules, PATIENCE).expect("set");
                    if round % 50 == 0 {
                        store.commit(PATIENCE).expect("commit");
                    }
                    // One that does not wait gives up, and is in nobody's way.
                    let _ = store.set(key, number(round), label(None), rules, Duration::ZERO);
                }
            });
        }
    });
    assert_eq!(store.len(PATIENCE).expect("len"), 8);
    assert_eq!(store.check(false, PATIENCE).expect("check"), []);
}
