//! How transactions end: when others read, when SQLite fails, and when their thread ends first.

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use flexcache_disk::{DATABASE, DiskStore, Error, Record, Rules, Side, Value, ValueRef, files, mode};
use rusqlite::Connection;

use super::{NOW, PATIENCE, label, number, open, text};

/// A store without a shared log, where a reader keeps writers from committing.
fn open_without_log(directory: &Path, journal: &str) -> (DiskStore, Rules) {
    let rules = Rules::default();
    let store = DiskStore::new(directory);
    let settings = [("sqlite_journal_mode".to_owned(), Value::Text(journal.to_owned()))];
    store.create(&settings, &rules.policy, PATIENCE).expect("a new directory");
    (store, rules)
}

/// Another user of the database.
fn neighbour(directory: &Path) -> Connection {
    Connection::open(directory.join(DATABASE)).expect("the database is there")
}

fn begin_reading(reader: &Connection) {
    reader.execute_batch("BEGIN; SELECT * FROM Cache").expect("a read");
}

fn end_reading(reader: &Connection) {
    reader.execute_batch("COMMIT").expect("the end of a read");
}

/// Waits until a writer keeps new readers away, which it does while it waits for the others to end.
fn wait_for_a_commit(directory: &Path) {
    let other = neighbour(directory);
    other.busy_timeout(Duration::ZERO).expect("no wait");
    while other.query_row("SELECT COUNT(*) FROM Cache", [], |_| Ok(())).is_ok() {
        thread::yield_now();
    }
}

const JOURNALS: [&str; 3] = ["delete", "truncate", "persist"];

#[test]
fn a_commit_that_meets_a_reader_can_be_repeated() {
    for journal in JOURNALS {
        let directory = tempfile::tempdir().expect("a directory");
        let (store, rules) = open_without_log(directory.path(), journal);
        let reader = neighbour(directory.path());
        begin_reading(&reader);
        store.begin(PATIENCE).expect("begin");
        store.set(text("a"), number(1), label(None), &rules, PATIENCE).expect("set");
        assert!(matches!(store.commit(Duration::ZERO), Err(Error::Busy)));
        assert!(store.in_transaction());
        store.set(text("b"), number(2), label(None), &rules, PATIENCE).expect("the transaction goes on");
        assert!(matches!(store.commit(Duration::from_millis(1)), Err(Error::Busy)));
        end_reading(&reader);
        let commit = store.commit(PATIENCE).expect("commit").expect("the outermost level");
        assert!(commit.wrote);
        assert!(!store.in_transaction());
        assert_eq!(store.len(PATIENCE).expect("len"), 2);
        assert_eq!(store.check(false, PATIENCE).expect("check"), []);
    }
}

#[test]
fn a_commit_waits_for_a_reader() {
    for explicit in [true, false] {
        let directory = tempfile::tempdir().expect("a directory");
        let (store, rules) = open_without_log(directory.path(), "delete");
        let reader = neighbour(directory.path());
        begin_reading(&reader);
        thread::scope(|scope| {
            let writer = scope.spawn(|| {
                if explicit {
                    store.begin(PATIENCE).expect("begin");
                }
                store.set(text("a"), number(1), label(None), &rules, PATIENCE).expect("set");
                if explicit {
                    store.commit(PATIENCE).expect("commit");
                }
            });
            wait_for_a_commit(directory.path());
            end_reading(&reader);
            writer.join().expect("no panic");
        });
        assert_eq!(store.len(PATIENCE).expect("len"), 1);
    }
}

#[test]
fn reads_and_settings_wait_for_a_commit() {
    type Call = fn(&DiskStore, &Rules, Duration) -> Result<(), Error>;
    let calls: [Call; 8] = [
        |store, _, patience| store.len(patience).map(drop),
        |store, _, patience| store.volume(patience).map(drop),
        |store, _, patience| store.stats(false, patience).map(drop),
        |store, _, patience| store.setting("count", patience).map(drop),
        |store, _, patience| store.contains(text("a"), NOW, patience).map(drop),
        |store, rules, patience| store.value(text("a"), NOW, rules, patience).map(drop),
        |store, _, patience| store.version(patience).map(drop),
        |store, _, patience| store.observe(patience).map(drop),
    ];
    for call in calls {
        let directory = tempfile::tempdir().expect("a directory");
        let (store, rules) = open_without_log(directory.path(), "delete");
        let writer = neighbour(directory.path());
        writer.execute_batch("BEGIN EXCLUSIVE").expect("nobody else writes");
        assert!(matches!(call(&store, &rules, Duration::ZERO), Err(Error::Busy)));
        thread::scope(|scope| {
            let called = scope.spawn(|| call(&store, &rules, PATIENCE));
            // Whether it has begun to wait yet makes no difference.
            thread::yield_now();
            end_reading(&writer);
            called.join().expect("no panic").expect("it waits");
        });
    }
}

#[test]
fn a_rollback_needs_no_patience() {
    let directory = tempfile::tempdir().expect("a directory");
    let (store, rules) = open_without_log(directory.path(), "delete");
    let reader = neighbour(directory.path());
    begin_reading(&reader);
    store.begin(PATIENCE).expect("begin");
    store.set(text("a"), number(1), label(None), &rules, PATIENCE).expect("set");
    assert!(matches!(store.commit(Duration::ZERO), Err(Error::Busy)));
    store.rollback().expect("rollback");
    assert!(!store.in_transaction());
    end_reading(&reader);
    assert_eq!(store.len(PATIENCE).expect("len"), 0);
}

#[test]
fn a_transaction_that_sqlite_has_ended_is_over() {
    let directory = tempfile::tempdir().expect("a directory");
    let (store, rules) = open(directory.path());
    store.begin(PATIENCE).expect("begin");
    store.set(text("a"), number(1), label(None), &rules, PATIENCE).expect("set");
    // A full disk ends a transaction, and the database may not grow.
    let pages = Value::Integer(20);
    store.change_setting("sqlite_max_page_count", &pages, false, PATIENCE).expect("a pragma");
    let large = vec![0_u8; 1 << 20];
    let record = Record { size: 0, mode: mode::RAW, filename: None, value: ValueRef::Blob(&large) };
    let failed = store.set(text("b"), record, label(None), &rules, PATIENCE).expect_err("there is no room");
    assert!(matches!(failed, Error::Sqlite(_)), "{failed:?}");
    let after = store.set(text("c"), number(3), label(None), &rules, PATIENCE);
    let ended = store.commit(PATIENCE);
    assert!(matches!(after, Err(Error::TransactionLost)), "{after:?}");
    assert!(matches!(ended, Err(Error::TransactionLost)), "{ended:?}");
    assert!(!store.in_transaction());
    let other = DiskStore::new(directory.path());
    other.set(text("d"), number(4), label(None), &rules, Duration::ZERO).expect("the turn to write is free");
    assert_eq!(other.check(false, PATIENCE).expect("check"), []);
}

#[test]
fn the_transaction_of_a_thread_that_ended_is_rolled_back() {
    let directory = tempfile::tempdir().expect("a directory");
    let (store, rules) = open(directory.path());
    store.set(text("a"), number(1), label(None), &rules, PATIENCE).expect("set");
    let name = files::Names::default().next().expect("a name");
    let path = directory.path().join(&name);
    thread::scope(|scope| {
        let ended = scope.spawn(|| {
            store.begin(PATIENCE).expect("begin");
            store.begin(PATIENCE).expect("a second level");
            files::write(directory.path(), &name, b"of a value").expect("a file");
            let record =
                Record { size: 10, mode: mode::BINARY, filename: Some(&name), value: ValueRef::Null };
            store.set(text("a"), record, label(None), &rules, PATIENCE).expect("set");
        });
        ended.join().expect("no panic");
    });
    // `join` may return a little before the thread's storage has been dropped.
    let other = DiskStore::new(directory.path());
    other.set(text("b"), number(2), label(None), &rules, PATIENCE).expect("another store may write");
    store.set(text("c"), number(3), label(None), &rules, PATIENCE).expect("this one too");
    let value = store.get(text("a"), NOW, &rules, PATIENCE).expect("get").expect("the old entry").value;
    assert_eq!(value, Value::Integer(1));
    assert!(!path.exists(), "the file of the transaction is removed");
    assert_eq!(store.check(false, PATIENCE).expect("check"), []);
}

#[test]
fn threads_that_end_in_transactions_leave_the_turn_to_the_next() {
    let directory = tempfile::tempdir().expect("a directory");
    let (store, rules) = open(directory.path());
    let threads = 8;
    thread::scope(|scope| {
        let started: Vec<_> = (0..threads)
            .map(|ends| {
                let (store, rules) = (&store, &rules);
                scope.spawn(move || {
                    store.begin(PATIENCE).expect("begin");
                    store.push(None, Side::Back, number(ends), label(None), rules, PATIENCE).expect("push");
                    match ends % 4 {
                        0 | 2 => drop(store.commit(PATIENCE).expect("commit")),
                        1 => std::panic::resume_unwind(Box::new("a thread that panics")),
                        _ => {}
                    }
                })
            })
            .collect();
        let panicked = started.into_iter().filter_map(|thread| thread.join().err()).count();
        assert_eq!(panicked, 2);
    });
    // The last one may still be ending.
    store.set(text("a"), number(1), label(None), &rules, PATIENCE).expect("set");
    assert_eq!(store.len(PATIENCE).expect("len"), threads / 2 + 1);
}

#[test]
fn a_store_may_go_before_the_thread_that_used_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let rules = Rules::default();
    let ended = thread::spawn({
        let path = directory.path().to_owned();
        move || {
            let store = Arc::new(open(&path).0);
            store.begin(PATIENCE).expect("begin");
            store.set(text("a"), number(1), label(None), &Rules::default(), PATIENCE).expect("set");
            drop(store);
            let (store, _) = open(&path);
            store.begin(PATIENCE).expect("the other transaction is over");
        }
    });
    ended.join().expect("no panic");
    let (store, _) = open(directory.path());
    store.set(text("b"), number(1), label(None), &rules, PATIENCE).expect("set");
    assert_eq!(store.len(PATIENCE).expect("len"), 1);
}

/// A record whose value is in a file that has just been written.
fn in_file(directory: &Path, name: &'static str) -> Record<'static> {
    std::fs::write(directory.join(name), b"value").expect("a file");
    Record { size: 5, mode: mode::BINARY, filename: Some(name), value: ValueRef::Null }
}

/// The write of a key with a value in a file.
type FileWrite = fn(&DiskStore, Record<'static>, &Rules, Duration) -> Result<(), Error>;

const FILE_WRITES: [FileWrite; 3] = [
    |store, record, rules, patience| store.set(text("a"), record, label(None), rules, patience).map(drop),
    |store, record, rules, patience| store.add(text("a"), record, label(None), rules, patience).map(drop),
    |store, record, rules, patience| {
        store.push(None, Side::Back, record, label(None), rules, patience).map(drop)
    },
];

#[test]
fn a_write_that_meets_a_reader_keeps_its_file_for_the_next_attempt() {
    for journal in JOURNALS {
        for write in FILE_WRITES {
            let directory = tempfile::tempdir().expect("a directory");
            let (store, rules) = open_without_log(directory.path(), journal);
            let reader = neighbour(directory.path());
            begin_reading(&reader);
            let record = in_file(directory.path(), "a.val");
            assert!(matches!(write(&store, record, &rules, Duration::ZERO), Err(Error::Busy)));
            end_reading(&reader);
            write(&store, record, &rules, PATIENCE).expect("the same again");
            assert!(directory.path().join("a.val").exists());
            assert_eq!(store.check(false, PATIENCE).expect("check"), []);
        }
    }
}

/// Rules with which a write fails when it evicts, after its row has been written.
fn failing_rules() -> Rules {
    let mut rules = Rules { size_limit: 0.0, ..Rules::default() };
    rules.policy.cull = Some("SELECT {fields} FROM Cache WHERE no_such_column = {now} LIMIT ?".into());
    rules
}

#[test]
fn a_write_of_a_block_that_fails_is_undone_alone() {
    for write in FILE_WRITES {
        for commits in [true, false] {
            let directory = tempfile::tempdir().expect("a directory");
            let (store, rules) = open(directory.path());
            store.begin(PATIENCE).expect("begin");
            store.set(text("before"), number(1), label(None), &rules, PATIENCE).expect("set");
            let record = in_file(directory.path(), "a.val");
            write(&store, record, &failing_rules(), PATIENCE).expect_err("nothing can be evicted");
            assert!(directory.path().join("a.val").exists(), "it is the caller's");
            files::remove(directory.path(), "a.val");
            store.set(text("after"), number(2), label(None), &rules, PATIENCE).expect("set");
            if commits {
                store.commit(PATIENCE).expect("commit");
            } else {
                store.rollback().expect("rollback");
            }
            assert_eq!(store.len(PATIENCE).expect("len"), if commits { 2 } else { 0 });
            assert_eq!(store.check(false, PATIENCE).expect("check"), []);
        }
    }
}

#[test]
fn an_entry_that_is_put_back_keeps_its_file_however_the_block_ends() {
    for commits in [true, false] {
        let directory = tempfile::tempdir().expect("a directory");
        let (store, rules) = open(directory.path());
        let record = in_file(directory.path(), "a.val");
        store.set(text("a"), record, label(None), &rules, PATIENCE).expect("set");
        store.begin(PATIENCE).expect("begin");
        store.pop(text("a"), NOW, PATIENCE).expect("pop").result.expect("it was there");
        let put = store.put_back(text("a"), record, label(None), &rules, PATIENCE).expect("put back");
        assert!(put.result);
        if commits {
            store.commit(PATIENCE).expect("commit");
        } else {
            store.rollback().expect("rollback");
        }
        assert!(directory.path().join("a.val").exists());
        assert_eq!(store.check(false, PATIENCE).expect("check"), []);
    }
}

#[test]
fn a_refused_value_leaves_no_file_however_the_block_ends() {
    for commits in [true, false] {
        let directory = tempfile::tempdir().expect("a directory");
        let (store, rules) = open(directory.path());
        store.set(text("a"), number(1), label(None), &rules, PATIENCE).expect("set");
        store.begin(PATIENCE).expect("begin");
        let record = in_file(directory.path(), "a.val");
        let added = store.add(text("a"), record, label(None), &rules, PATIENCE).expect("add");
        assert!(!added.result);
        if commits {
            store.commit(PATIENCE).expect("commit");
        } else {
            store.rollback().expect("rollback");
        }
        assert!(!directory.path().join("a.val").exists());
        assert_eq!(store.check(false, PATIENCE).expect("check"), []);
    }
}

#[test]
fn a_block_that_is_dropped_during_a_call_is_undone_when_the_call_ends() {
    let directory = tempfile::tempdir().expect("a directory");
    let (store, rules) = open(directory.path());
    let outer = store.begin(PATIENCE).expect("begin");
    assert_eq!(store.begin(PATIENCE).expect("a second level"), outer);
    let abandon_elsewhere = || {
        thread::scope(|scope| scope.spawn(|| store.abandon(outer)).join().expect("no panic"));
        false
    };
    store
        .put(text("a"), number(1), label(None), false, &abandon_elsewhere, None, &rules, PATIENCE)
        .expect("the call itself goes on");
    let late = store.set(text("b"), number(1), label(None), &rules, PATIENCE);
    assert!(matches!(late, Err(Error::TransactionLost)), "{late:?}");
    assert!(matches!(store.commit(PATIENCE), Err(Error::TransactionLost)));
    assert!(!store.in_transaction(), "one level was left by the drop, the other one by the commit");
    store.abandon(outer);
    store.begin(PATIENCE).expect("begin");
    store.abandon(outer);
    store.set(text("c"), number(1), label(None), &rules, PATIENCE).expect("the transaction is another one");
    store.commit(PATIENCE).expect("commit");
    assert_eq!(store.len(PATIENCE).expect("len"), 1);
}
