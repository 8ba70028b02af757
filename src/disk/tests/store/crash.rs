//! What a process that dies leaves behind: every completed call, and nothing of a transaction that was open.
//!
//! A copy of the database and its log, without the index of the log, is what a crash leaves.

use std::fs;
use std::path::Path;

use flexcache_disk::{DATABASE, DiskStore, Key, Record, Rules, Value, ValueRef, mode};

use super::{NOW, PATIENCE, label, open};

fn rows_in_copy_of(directory: &Path, rows: std::ops::Range<i64>) -> Vec<Option<Value>> {
    let copy = tempfile::tempdir().expect("a directory");
    for name in [DATABASE.to_owned(), format!("{DATABASE}-wal")] {
        fs::copy(directory.join(&name), copy.path().join(&name)).expect("the file is there");
    }
    let (store, rules) = open(copy.path());
    assert_eq!(store.check(false, PATIENCE).expect("check"), []);
    let value = |number| {
        let key = Key { datum: ValueRef::Integer(number), raw: true };
        store.get(key, NOW, &rules, PATIENCE).expect("get").map(|entry| entry.value)
    };
    rows.map(value).collect()
}

#[test]
fn a_transaction_that_spilled_survives() {
    // Whether SQLite changes a page again that it has already written to the log depends on the number of rows.
    for count in [10_i64, 60, 61, 63, 201, 600] {
        let directory = tempfile::tempdir().expect("a directory");
        let rules = Rules { cull_limit: 0, ..Rules::default() };
        let store = DiskStore::new(directory.path());
        let settings = [
            ("sqlite_cache_size".to_owned(), Value::Integer(10)),
            ("sqlite_journal_mode".to_owned(), Value::Text("wal".to_owned())),
        ];
        store.create(&settings, &rules.policy, PATIENCE).expect("a new directory");
        let put = |number: i64, length: usize| {
            let key = Key { datum: ValueRef::Integer(number), raw: true };
            let content = vec![u8::try_from(number % 256).expect("a byte"); length];
            let value = Record { size: 0, mode: mode::RAW, filename: None, value: ValueRef::Blob(&content) };
            store.set(key, value, label(None), &rules, PATIENCE).expect("set");
            Some(Value::Blob(content))
        };
        store.begin(PATIENCE).expect("begin");
        let mut expected: Vec<_> = (0..count).map(|number| put(number, 3000)).collect();
        for (number, value) in (0..count).zip(&mut expected).step_by(3) {
            *value = put(number, 2999);
        }
        store.commit(PATIENCE).expect("commit");
        assert!(
            rows_in_copy_of(directory.path(), 0..count) == expected,
            "after a transaction of {count} rows"
        );
        expected.push(put(count, 1));
        assert!(rows_in_copy_of(directory.path(), 0..count + 1) == expected, "after the next write");
        store.begin(PATIENCE).expect("begin");
        (0..count).for_each(|number| drop(put(number, 10)));
        assert!(rows_in_copy_of(directory.path(), 0..count + 1) == expected, "in an open transaction");
        store.rollback().expect("rollback");
        put(count, 1);
        assert!(rows_in_copy_of(directory.path(), 0..count + 1) == expected, "after a rollback");
    }
}
