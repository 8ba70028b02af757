//! What a store does around forks.

use std::sync::mpsc::channel;
use std::thread;

use super::{Duration, PATIENCE, open, text};

/// How long a call is given to begin that may not.
const WHILE: Duration = Duration::from_millis(50);

/// Runs a call while several threads are about to fork, which then do so one by one.
fn waits_for_both_forks<R: Send>(call: impl FnOnce() -> R + Send, store: &flexcache_disk::DiskStore) {
    store.before_fork();
    store.before_fork();
    let (done, is_done) = channel();
    thread::scope(|scope| {
        scope.spawn(|| {
            call();
            done.send(()).expect("the test waits for it");
        });
        assert!(is_done.recv_timeout(WHILE).is_err(), "a call begins before the forks");
        store.after_fork_in_parent();
        assert!(is_done.recv_timeout(WHILE).is_err(), "a call begins before the second fork");
        store.after_fork_in_parent();
        is_done.recv_timeout(PATIENCE).expect("it goes on");
    });
}

#[test]
fn no_call_begins_before_the_last_of_several_forks() {
    let directory = tempfile::tempdir().expect("a directory");
    let (store, rules) = open(directory.path());
    waits_for_both_forks(|| store.get(text("a"), 0.0, &rules, PATIENCE), &store);
    waits_for_both_forks(|| store.delete(text("a"), 0.0, PATIENCE), &store);
}

#[test]
fn what_tells_hits_of_commits_is_not_opened_during_a_fork() {
    let directory = tempfile::tempdir().expect("a directory");
    let (store, _) = open(directory.path());
    store.observe(PATIENCE).expect("observe");
    waits_for_both_forks(|| store.observe(PATIENCE), &store);
    waits_for_both_forks(|| store.version(PATIENCE), &store);
}

#[test]
fn a_store_that_was_not_told_of_a_fork_goes_on_after_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let (store, rules) = open(directory.path());
    store.after_fork_in_parent();
    assert_eq!(store.get(text("a"), 0.0, &rules, PATIENCE).expect("get").map(|entry| entry.value), None);
    waits_for_both_forks(|| store.get(text("a"), 0.0, &rules, PATIENCE), &store);
}
