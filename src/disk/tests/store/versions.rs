//! Which commits are this store's own, as a cache in memory in front of it has to know.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use flexcache_disk::{Commit, Counted, DiskStore, Number, Policy, Rules, Side, Value};

use super::{NOW, PATIENCE, label, number, open, text};

const JOURNALS: [&str; 2] = ["wal", "delete"];

fn open_with(directory: &std::path::Path, journal: &str) -> (DiskStore, Rules) {
    let rules = Rules::default();
    let store = DiskStore::new(directory);
    let settings = [("sqlite_journal_mode".to_owned(), Value::Text(journal.to_owned()))];
    store.create(&settings, &rules.policy, PATIENCE).expect("a new directory");
    (store, rules)
}

fn set(store: &DiskStore, rules: &Rules, key: &str, value: i64) -> Commit {
    let written = store.set(text(key), number(value), label(None), rules, PATIENCE).expect("set");
    written.commit.expect("no transaction is open")
}

/// The generation that holds now.
fn observe(store: &DiskStore) -> u64 {
    store.observe(PATIENCE).expect("observe").expect("no commit is under way")
}

#[test]
fn own_commits_are_known_however_often_the_log_is_written_back() {
    for pages in [0, 1, 500] {
        let directory = tempfile::tempdir().expect("a directory");
        let (first, rules) = open_with(directory.path(), "wal");
        let every = Value::Integer(pages);
        first
            .create(&[("sqlite_wal_autocheckpoint".to_owned(), every)], &rules.policy, PATIENCE)
            .expect("a setting");
        for store in [first, DiskStore::new(directory.path())] {
            let generation = observe(&store);
            for value in 0..20 {
                assert!(set(&store, &rules, "a", value).wrote, "{pages}");
                assert_eq!(observe(&store), generation, "{pages}");
            }
        }
    }
}

#[test]
fn own_commits_keep_the_generation() {
    for journal in JOURNALS {
        let directory = tempfile::tempdir().expect("a directory");
        let (store, rules) = open_with(directory.path(), journal);
        let generation = observe(&store);
        let mut last = 0;
        for value in 0..10 {
            let commit = set(&store, &rules, "a", value);
            assert!(commit.wrote);
            assert_eq!(commit.generation, Some(generation), "{journal}");
            assert_eq!(commit.version, Some(store.version(PATIENCE).expect("version")));
            assert!(commit.sequence > last);
            last = commit.sequence;
        }
        assert_eq!(observe(&store), generation);
        let in_memory = (journal == "wal").then_some(generation);
        assert_eq!(store.generation(), in_memory, "only a shared log can be looked at in memory");
    }
}

#[test]
fn a_call_that_changes_nothing_writes_nothing() {
    for journal in JOURNALS {
        let directory = tempfile::tempdir().expect("a directory");
        let rules = Rules { policy: Policy::default(), ..Rules::default() };
        let store = DiskStore::new(directory.path());
        let settings = [("sqlite_journal_mode".to_owned(), Value::Text(journal.to_owned()))];
        store.create(&settings, &rules.policy, PATIENCE).expect("a new directory");
        assert!(set(&store, &rules, "a", 1).wrote);
        let generation = observe(&store);
        let version = store.version(PATIENCE).expect("version");
        // SQLite counts a changed row here, and writes no page: the row is as it was.
        let same =
            store.increment(text("a"), Number::Integer(0), None, NOW, &rules, PATIENCE).expect("increment");
        assert_eq!(same.result, Counted::Sum(Number::Integer(1)));
        let deleted = store.delete(text("absent"), NOW, PATIENCE).expect("delete");
        let touched = store.touch(text("absent"), NOW, None, PATIENCE).expect("touch");
        let expired = store.expire_some(NOW, PATIENCE).expect("expire");
        assert!(!deleted.result && !touched.result && expired.result == 0);
        for commit in [same.commit, deleted.commit, touched.commit, expired.commit] {
            let commit = commit.expect("no transaction is open");
            assert!(!commit.wrote, "{journal}");
            assert_eq!(commit.generation, Some(generation));
        }
        assert_eq!(store.version(PATIENCE).expect("version"), version);
    }
}

#[test]
fn foreign_commits_start_a_generation() {
    for journal in JOURNALS {
        let directory = tempfile::tempdir().expect("a directory");
        let (store, rules) = open_with(directory.path(), journal);
        let (other, _) = open_with(directory.path(), journal);
        for foreign_commits in 1..=3 {
            let generation = observe(&store);
            set(&store, &rules, "a", 1);
            for value in 0..foreign_commits {
                set(&other, &rules, "b", value + 10 * foreign_commits);
            }
            assert_eq!(store.generation(), None);
            let next = observe(&store);
            assert_ne!(next, generation, "{journal}");
            assert_eq!(observe(&store), next);
            set(&other, &rules, "c", foreign_commits);
            // Our own commit does not hide the one before it.
            let own = set(&store, &rules, "a", 10 + foreign_commits);
            assert_ne!(own.generation, Some(next), "{journal}");
            assert_eq!(own.generation, Some(observe(&store)));
        }
    }
}

#[test]
fn a_transaction_is_one_commit() {
    for journal in JOURNALS {
        let directory = tempfile::tempdir().expect("a directory");
        let (store, rules) = open_with(directory.path(), journal);
        let generation = observe(&store);
        let before = set(&store, &rules, "z", 1).sequence;
        store.begin(PATIENCE).expect("begin");
        store.begin(PATIENCE).expect("a second level");
        for value in 0..100 {
            let written =
                store.push(None, Side::Back, number(value), label(None), &rules, PATIENCE).expect("push");
            assert_eq!(written.commit, None);
        }
        assert_eq!(store.commit(PATIENCE).expect("the inner level"), None);
        let commit = store.commit(PATIENCE).expect("commit").expect("the outermost level");
        assert!(commit.wrote);
        assert_eq!((commit.sequence, commit.generation), (before + 1, Some(generation)));
        store.begin(PATIENCE).expect("begin");
        set_in_transaction(&store, &rules);
        store.rollback().expect("rollback");
        store.begin(PATIENCE).expect("begin");
        let nothing = store.commit(PATIENCE).expect("commit").expect("the outermost level");
        assert!(!nothing.wrote);
        assert_eq!(observe(&store), generation, "a rollback changes nothing");
    }
}

fn set_in_transaction(store: &DiskStore, rules: &Rules) {
    store.set(text("a"), number(1), label(None), rules, PATIENCE).expect("set");
}

#[test]
fn a_transaction_that_spills_is_one_commit_too() {
    let directory = tempfile::tempdir().expect("a directory");
    let rules = Rules { cull_limit: 0, ..Rules::default() };
    let store = DiskStore::new(directory.path());
    let settings = [
        ("sqlite_cache_size".to_owned(), Value::Integer(5)),
        ("sqlite_journal_mode".to_owned(), Value::Text("wal".to_owned())),
    ];
    store.create(&settings, &rules.policy, PATIENCE).expect("a new directory");
    let generation = observe(&store);
    for round in 0..20 {
        store.begin(PATIENCE).expect("begin");
        for value in 0..300 {
            let key = format!("{value:0100}");
            store.set(text(&key), number(round * 1000 + value), label(None), &rules, PATIENCE).expect("set");
        }
        let commit = store.commit(PATIENCE).expect("commit").expect("the outermost level");
        assert_eq!((commit.wrote, commit.generation), (true, Some(generation)), "{round}");
    }
}

#[test]
fn generations_and_incarnations_are_never_given_twice() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut seen = Vec::new();
    let (store, _) = open(directory.path());
    let (other, _) = open(directory.path());
    for _ in 0..3 {
        for store in [&store, &other] {
            seen.push(observe(store));
            seen.push(store.incarnation());
            store.close();
            assert_eq!(store.generation(), None, "nothing is open");
        }
    }
    let count = seen.len();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), count);
}

#[test]
fn sequences_tell_the_order_of_commits() {
    let directory = tempfile::tempdir().expect("a directory");
    let (store, rules) = open(directory.path());
    let last = Mutex::new((0, 0));
    thread::scope(|scope| {
        for name in 0..4 {
            let (store, rules, last) = (&store, &rules, &last);
            scope.spawn(move || {
                for round in 0..100 {
                    let value = name * 1000 + round;
                    let commit = set(store, rules, "a", value);
                    let mut last = last.lock().expect("no panic");
                    *last = (*last).max((commit.sequence, value));
                }
            });
        }
    });
    let stored = store.get(text("a"), NOW, &rules, PATIENCE).expect("get").expect("it was set").value;
    let (sequence, value) = last.into_inner().expect("no panic");
    assert_eq!(stored, Value::Integer(value));
    assert!(sequence >= 400);
}

/// A cache of one value in memory that only others write, while this store writes other keys all the time: some commits
/// change pages, some change nothing. A hit is never older than what was committed before it.
#[test]
fn a_hit_is_never_older_than_a_foreign_commit() {
    let directory = tempfile::tempdir().expect("a directory");
    let rules = Rules { policy: Policy::default(), ..Rules::default() };
    let store = DiskStore::new(directory.path());
    let settings = [("sqlite_journal_mode".to_owned(), Value::Text("wal".to_owned()))];
    store.create(&settings, &rules.policy, PATIENCE).expect("a new directory");
    let foreign = DiskStore::new(directory.path());
    let committed = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    set(&foreign, &rules, "theirs", 0);
    let (hits, misses) = thread::scope(|scope| {
        let (store, foreign, rules, committed, stop) = (&store, &foreign, &rules, &committed, &stop);
        scope.spawn(move || {
            for value in 1..=1500 {
                set(foreign, rules, "theirs", value);
                committed.store(value.unsigned_abs(), Ordering::SeqCst);
                if value % 16 == 0 {
                    thread::yield_now();
                }
            }
            stop.store(true, Ordering::SeqCst);
        });
        for name in ["x", "y"] {
            scope.spawn(move || {
                for round in 0.. {
                    if round % 2 == 0 {
                        set(store, rules, name, round);
                    } else {
                        // The row stays as it was, and the commit writes nothing.
                        store
                            .increment(text(name), Number::Integer(0), None, NOW, rules, PATIENCE)
                            .expect("increment");
                    }
                    if stop.load(Ordering::SeqCst) {
                        return;
                    }
                }
            });
        }
        let reader = scope.spawn(move || {
            let (mut kept, mut hits, mut misses) = (None, 0, 0);
            while !stop.load(Ordering::SeqCst) {
                let least = committed.load(Ordering::SeqCst);
                match (kept, store.generation()) {
                    (Some((stamp, value)), Some(generation)) if stamp == generation => {
                        assert!(value >= least, "{value} was served after {least} had been committed");
                        hits += 1;
                    }
                    _ => {
                        misses += 1;
                        let generation = store.observe(PATIENCE).expect("observe");
                        let found = store.get(text("theirs"), NOW, rules, PATIENCE).expect("get");
                        let Some(Value::Integer(value)) = found.map(|entry| entry.value) else {
                            unreachable!("it is there");
                        };
                        kept = generation.map(|generation| (generation, value.unsigned_abs()));
                    }
                }
            }
            (hits, misses)
        });
        reader.join().expect("no panic")
    });
    assert!(hits > 0 && misses > 0, "{hits} hits, {misses} misses");
}

/// Own commits cost the cache in memory nothing but the hits that fall into them.
#[test]
fn own_commits_of_other_threads_start_no_generation() {
    let directory = tempfile::tempdir().expect("a directory");
    let (store, rules) = open(directory.path());
    let generation = observe(&store);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let (store, rules, stop) = (&store, &rules, &stop);
        scope.spawn(move || {
            // The log is begun anew several times in between.
            for value in 0..3000 {
                let commit = set(store, rules, "a", value);
                assert_eq!(commit.generation, Some(generation));
            }
            stop.store(true, Ordering::SeqCst);
        });
        while !stop.load(Ordering::SeqCst) {
            if let Some(now) = store.observe(PATIENCE).expect("observe") {
                assert_eq!(now, generation);
            }
        }
    });
}

#[test]
fn the_header_stays_mapped_while_threads_read_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let (store, _) = open(directory.path());
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let (store, stop) = (&store, &stop);
        for _ in 0..3 {
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let _ = store.generation();
                    let _ = store.version_if_watched();
                }
            });
        }
        for _ in 0..200 {
            observe(store);
            store.close();
        }
        stop.store(true, Ordering::Relaxed);
    });
}

/// A backup is put in the place of the database while the store is open, which Windows refuses.
#[test]
#[cfg(unix)]
fn a_database_that_was_replaced_is_opened_again() {
    use std::time::Instant;

    use flexcache_disk::DATABASE;

    let directory = tempfile::tempdir().expect("a directory");
    let backup = tempfile::tempdir().expect("a directory");
    let (store, rules) = open(directory.path());
    set(&store, &rules, "a", 1);
    store.close();
    let copy = backup.path().join(DATABASE);
    std::fs::copy(directory.path().join(DATABASE), &copy).expect("a copy");
    set(&store, &rules, "a", 2);
    let (generation, incarnation) = (observe(&store), store.incarnation());
    for name in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(directory.path().join(format!("{DATABASE}{name}")));
    }
    std::fs::rename(&copy, directory.path().join(DATABASE)).expect("a rename");
    let value = || {
        let found = store.get(text("a"), NOW, &rules, PATIENCE).expect("get");
        found.map(|entry| entry.value)
    };
    let started = Instant::now();
    while value() != Some(Value::Integer(1)) {
        assert!(started.elapsed() < PATIENCE, "it still reads the file that is gone");
        thread::sleep(Duration::from_millis(10));
    }
    assert_ne!(store.generation(), Some(generation));
    assert_ne!(observe(&store), generation);
    assert_ne!(store.incarnation(), incarnation);
    // What is written from now on is in the new file.
    set(&store, &rules, "a", 3);
    store.close();
    let (other, _) = open(directory.path());
    let found = other.get(text("a"), NOW, &rules, PATIENCE).expect("get").expect("it was set").value;
    assert_eq!(found, Value::Integer(3));
    assert_eq!(other.check(false, PATIENCE).expect("check"), []);
}
