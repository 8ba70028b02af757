//! Leases between processes, and what voids them.

use std::fs;
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use flexcache_disk::{
    DATABASE, DiskStore, Error, LeaseTerms, LeaseToken, Leased, Number, Put, Rules, Side, Value, ValueRef,
    is_open_here,
};

use super::{NOW, PATIENCE, label, number, open, text};

/// For the child: the directory in which it takes the lease of "a" for a minute.
const CHILD: &str = "FLEXCACHE_LEASES_CHILD";

const GATES: &str = "cache.db-gates";
const FIRST: LeaseToken = [1; 16];
const SECOND: LeaseToken = [2; 16];

fn terms(seconds: f64) -> LeaseTerms<'static> {
    LeaseTerms { seconds, tag: ValueRef::Null, awaited: None, takes_over: false }
}

fn lease(store: &DiskStore, token: &LeaseToken, seconds: f64) -> Leased {
    store.lease(text("a"), token, terms(seconds), PATIENCE).expect("lease")
}

fn land(store: &DiskStore, rules: &Rules, token: &LeaseToken) -> Put {
    let unless = || false;
    let put = store.put(text("a"), number(7), label(None), false, &unless, Some(token), rules, PATIENCE);
    put.expect("put").result
}

/// Two stores of one directory, each of which is foreign to the other.
fn two(directory: &Path, journal: &str) -> (DiskStore, DiskStore, Rules) {
    let (one, rules) = open(directory);
    let journal = Value::Text(journal.to_owned());
    one.change_setting("sqlite_journal_mode", &journal, true, PATIENCE).expect("a journal");
    let other = DiskStore::new(directory);
    (one, other, rules)
}

fn in_each_journal(check: impl Fn(&DiskStore, &DiskStore, &Rules)) {
    for journal in ["wal", "delete", "truncate"] {
        let directory = tempfile::tempdir().expect("a directory");
        let (one, other, rules) = two(directory.path(), journal);
        check(&one, &other, &rules);
        let (one, other) = (one.check(false, PATIENCE), other.len(PATIENCE));
        assert_eq!(one.expect("check").len(), 0, "{journal}");
        other.expect("len");
    }
}

#[test]
fn one_computes_and_the_other_waits_until_the_lease_is_given_back() {
    in_each_journal(|one, other, rules| {
        assert_eq!(lease(one, &FIRST, 60.0), Leased::Held);
        assert_eq!(lease(other, &SECOND, 60.0), Leased::Elsewhere(FIRST));
        let wait = |timeout| other.wait_for_lease(text("a"), &FIRST, timeout).expect("wait");
        assert!(!wait(Duration::from_millis(20)));
        std::thread::scope(|scope| {
            let waiters: Vec<_> = (0..3).map(|_| scope.spawn(|| wait(PATIENCE))).collect();
            assert_eq!(land(one, rules, &FIRST), Put::Inserted);
            assert!(waiters.into_iter().all(|waiter| waiter.join().expect("a waiter")));
        });
        assert_eq!(lease(other, &SECOND, 60.0), Leased::Held);
        one.release(text("a"), &FIRST, None, PATIENCE).expect("release");
        assert!(other.has_lease(text("a"), &SECOND, PATIENCE).expect("a lease"), "it is not the first one's");
        other.release(text("a"), &SECOND, None, PATIENCE).expect("release");
        assert_eq!(lease(one, &FIRST, 60.0), Leased::Held);
    });
}

#[test]
fn a_write_between_lease_and_landing_voids_it() {
    type Write = fn(&DiskStore, &Rules);
    let writes: [(&str, Write); 7] = [
        ("set", |store, rules| {
            drop(store.set(text("a"), number(1), label(None), rules, PATIENCE).expect("set"));
        }),
        ("add", |store, rules| {
            drop(store.add(text("a"), number(1), label(None), rules, PATIENCE).expect("add"));
        }),
        ("delete", |store, _| drop(store.delete(text("a"), NOW, PATIENCE).expect("delete"))),
        ("pop", |store, _| drop(store.pop(text("a"), NOW, PATIENCE).expect("pop"))),
        ("increment", |store, rules| {
            let one = Number::Integer(1);
            store.increment(text("a"), one, Some(number(1)), NOW, rules, PATIENCE).expect("increment");
        }),
        ("clear", |store, _| drop(store.clear_some(0, PATIENCE).expect("clear"))),
        ("transaction", |store, rules| {
            store.begin(PATIENCE).expect("begin");
            store.set(text("a"), number(1), label(None), rules, PATIENCE).expect("set");
            store.commit(PATIENCE).expect("commit");
        }),
    ];
    for (name, write) in writes {
        in_each_journal(|one, other, rules| {
            // It knows that there are no leases, and has to see that there is one.
            other.set(text("b"), number(1), label(None), rules, PATIENCE).expect("set");
            assert_eq!(lease(one, &FIRST, 60.0), Leased::Held);
            one.release(text("a"), &FIRST, None, PATIENCE).expect("release");
            other.set(text("b"), number(1), label(None), rules, PATIENCE).expect("set");
            assert_eq!(lease(one, &FIRST, 60.0), Leased::Held);
            write(other, rules);
            assert_eq!(land(one, rules, &FIRST), Put::Discarded, "{name}");
        });
    }
}

/// Such an `add` looks first and may leave it at that, but not while there are leases.
#[test]
fn an_add_that_expects_an_entry_voids_a_lease_too() {
    in_each_journal(|one, other, rules| {
        let add =
            |store: &DiskStore| store.add(text("a"), number(2), label(None), rules, PATIENCE).expect("add");
        for store in [one, other] {
            store.set(text("a"), number(1), label(None), rules, PATIENCE).expect("set");
            assert!(!add(store).result);
            assert!(!add(store).result);
            // As for a value that is computed again while the old one is served.
            assert_eq!(lease(one, &FIRST, 60.0), Leased::Held);
            assert!(!add(store).result);
            assert_eq!(land(one, rules, &FIRST), Put::Discarded);
            store.delete(text("a"), NOW, PATIENCE).expect("delete");
            assert!(add(store).result, "there is none now");
        }
    });
}

#[test]
fn what_is_no_write_of_the_key_leaves_the_lease() {
    in_each_journal(|one, other, rules| {
        assert_eq!(lease(one, &FIRST, 60.0), Leased::Held);
        other.set(text("b"), number(1), label(Some(NOW)), rules, PATIENCE).expect("set");
        other.expire_some(NOW + 1.0, PATIENCE).expect("expire");
        other.cull_some(NOW, rules, PATIENCE).expect("cull");
        other.touch(text("a"), NOW, None, PATIENCE).expect("touch");
        other.push(None, Side::Back, number(1), label(None), rules, PATIENCE).expect("push");
        other.begin(PATIENCE).expect("begin");
        other.set(text("a"), number(1), label(None), rules, PATIENCE).expect("set");
        other.rollback().expect("rollback");
        assert_eq!(land(one, rules, &FIRST), Put::Inserted);
    });
}

#[test]
fn an_evicted_tag_voids_leases_with_it_and_results_with_it() {
    in_each_journal(|one, other, rules| {
        let tag = ValueRef::Text(b"red");
        let with_tag = LeaseTerms { tag, ..terms(60.0) };
        assert_eq!(one.lease(text("a"), &FIRST, with_tag, PATIENCE).expect("lease"), Leased::Held);
        other.evict_tag_some(tag, 0, PATIENCE).expect("evict");
        assert_eq!(land(one, rules, &FIRST), Put::Discarded);

        assert_eq!(lease(one, &FIRST, 60.0), Leased::Held);
        other.evict_tag_some(tag, 0, PATIENCE).expect("evict");
        let label = flexcache_disk::Label { tag, ..label(None) };
        let put = |label| {
            one.put(text("a"), number(1), label, false, &|| false, Some(&FIRST), rules, PATIENCE)
                .expect("put")
        };
        assert_eq!(put(label).result, Put::Discarded);
        assert_eq!(land(one, rules, &FIRST), Put::Inserted, "it has another tag");
    });
}

#[test]
fn an_expired_lease_lands_unless_it_was_taken_over() {
    in_each_journal(|one, other, rules| {
        assert_eq!(lease(one, &FIRST, 0.0), Leased::Held);
        assert!(other.wait_for_lease(text("a"), &FIRST, Duration::ZERO).expect("wait"));
        assert_eq!(land(one, rules, &FIRST), Put::Inserted);
        assert_eq!(lease(one, &FIRST, 0.0), Leased::Held);
        assert_eq!(lease(other, &SECOND, 60.0), Leased::Held);
        assert_eq!(land(one, rules, &FIRST), Put::Discarded);
        assert_eq!(land(other, rules, &SECOND), Put::Replaced);
    });
}

#[test]
fn a_lease_can_be_given_more_time() {
    in_each_journal(|one, other, _| {
        assert_eq!(lease(one, &FIRST, 0.0), Leased::Held);
        assert!(one.renew(text("a"), &FIRST, 60.0, PATIENCE).expect("renew"));
        assert_eq!(lease(other, &SECOND, 60.0), Leased::Elsewhere(FIRST));
        assert!(!other.renew(text("a"), &SECOND, 60.0, PATIENCE).expect("renew"));
    });
}

#[test]
fn a_failure_is_for_those_who_were_waiting() {
    in_each_journal(|one, other, _| {
        let awaiting = LeaseTerms { awaited: Some(FIRST), ..terms(60.0) };
        let failed = Leased::Failed(b"broken".to_vec());
        let ask = |token| other.lease(text("a"), token, awaiting, PATIENCE).expect("lease");
        assert_eq!(lease(one, &FIRST, 60.0), Leased::Held);
        one.release(text("a"), &FIRST, Some((b"broken", 60.0)), PATIENCE).expect("fail");
        assert!(other.wait_for_lease(text("a"), &FIRST, PATIENCE).expect("wait"));
        assert_eq!(ask(&[3; 16]), failed);
        assert_eq!(lease(one, &SECOND, 60.0), Leased::Held, "one who comes later tries again");
        assert_eq!(ask(&[4; 16]), failed, "one who has waited learns of it all the same");
        one.release(text("a"), &SECOND, Some((b"again", 0.0)), PATIENCE).expect("fail");
        assert_eq!(ask(&[5; 16]), Leased::Held, "its time is over");
    });
}

/// Starts a process that has the lease of "a" for a minute.
fn start_holder(directory: &Path) -> Child {
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "leases::the_child", "--nocapture"])
        .env(CHILD, directory)
        .stdout(Stdio::piped())
        .stdin(Stdio::piped())
        .spawn()
        .expect("a process");
    let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    let held = lines.map_while(Result::ok).any(|line| line.contains("held"));
    assert!(held, "it has the lease");
    child
}

#[test]
fn the_child() {
    let Some(directory) = std::env::var_os(CHILD) else { return };
    let store = DiskStore::new(Path::new(&directory));
    assert_eq!(lease(&store, &FIRST, 60.0), Leased::Held);
    writeln!(std::io::stdout(), "\nheld").expect("output");
    // Until it is killed, or the one who started it is.
    let _ = std::io::stdin().read_line(&mut String::new());
}

#[test]
#[cfg(target_os = "linux")]
fn a_killed_holder_is_found_out_at_once_also_while_nobody_has_waited_for_it() {
    in_each_journal_with_directory(|directory, one| {
        let mut child = start_holder(directory);
        assert_eq!(lease(one, &SECOND, 60.0), Leased::Elsewhere(FIRST));
        let began = std::time::Instant::now();
        child.kill().expect("kill");
        // It stays a zombie until the end of this test.
        assert!(one.wait_for_lease(text("a"), &FIRST, Duration::MAX).expect("wait"));
        assert!(began.elapsed() < Duration::from_secs(50));
        assert_eq!(lease(one, &SECOND, 60.0), Leased::Held);
        child.wait().expect("the end");
    });
}

fn in_each_journal_with_directory(check: impl Fn(&Path, &DiskStore)) {
    for journal in ["wal", "delete"] {
        let directory = tempfile::tempdir().expect("a directory");
        let (one, _, _) = two(directory.path(), journal);
        check(directory.path(), &one);
    }
}

#[test]
fn writes_do_not_make_the_database_and_a_lease_does() {
    let directory = tempfile::tempdir().expect("a directory");
    let (store, rules) = open(directory.path());
    store.set(text("a"), number(1), label(None), &rules, PATIENCE).expect("set");
    let gates = directory.path().join(GATES);
    assert!(!gates.exists());
    assert_eq!(land(&store, &rules, &FIRST), Put::Discarded);
    assert!(!store.has_lease(text("a"), &FIRST, PATIENCE).expect("no lease"));
    store.release(text("a"), &FIRST, None, PATIENCE).expect("release");
    assert!(!gates.exists());
    assert_eq!(lease(&store, &FIRST, 60.0), Leased::Held);
    assert!(gates.exists());
    store.release(text("a"), &FIRST, None, PATIENCE).expect("release");
    let version = store.version(PATIENCE).expect("a version");
    assert_eq!(lease(&store, &FIRST, 60.0), Leased::Held);
    assert_eq!(store.version(PATIENCE).expect("a version"), version, "a lease is no write of the directory");
    assert_eq!(store.len(PATIENCE).expect("len"), 1);
}

#[test]
fn a_damaged_database_of_leases_fails_no_call() {
    let directory = tempfile::tempdir().expect("a directory");
    let (store, rules) = open(directory.path());
    let damage = || {
        store.close();
        for entry in fs::read_dir(directory.path()).expect("a directory").flatten() {
            if entry.file_name().to_string_lossy().starts_with(GATES) {
                fs::write(entry.path(), [7; 5000]).expect("damage");
            }
        }
    };
    assert_eq!(lease(&store, &FIRST, 60.0), Leased::Held);
    damage();
    assert_eq!(land(&store, &rules, &FIRST), Put::Discarded);
    store.set(text("a"), number(1), label(None), &rules, PATIENCE).expect("set");
    assert_eq!(lease(&store, &FIRST, 60.0), Leased::Held);
    damage();
    assert_eq!(lease(&store, &SECOND, 60.0), Leased::Held, "it is made anew");
    assert_eq!(land(&store, &rules, &FIRST), Put::Discarded);
    assert_eq!(land(&store, &rules, &SECOND), Put::Replaced);
}

// Windows removes no file that is open.
#[test]
#[cfg(unix)]
fn a_database_of_leases_that_was_replaced_is_not_the_one_before() {
    let directory = tempfile::tempdir().expect("a directory");
    let (one, other, rules) = two(directory.path(), "wal");
    assert_eq!(lease(&one, &FIRST, 60.0), Leased::Held);
    for suffix in ["-wal", "-shm", ""] {
        let _ = fs::remove_file(directory.path().join(format!("{GATES}{suffix}")));
    }
    assert_eq!(lease(&other, &SECOND, 60.0), Leased::Held);
    assert_eq!(land(&one, &rules, &FIRST), Put::Discarded);
    one.set(text("a"), number(1), label(None), &rules, PATIENCE).expect("set");
    assert_eq!(land(&other, &rules, &SECOND), Put::Discarded);
}

#[test]
fn where_the_database_of_leases_cannot_be_made_there_are_none() {
    let directory = tempfile::tempdir().expect("a directory");
    let (store, rules) = open(directory.path());
    // No user can open a directory as a file, not even root.
    fs::create_dir_all(directory.path().join(GATES).join("full")).expect("a directory");
    assert_eq!(lease(&store, &FIRST, 60.0), Leased::Unavailable);
    store.set(text("a"), number(1), label(None), &rules, PATIENCE).expect("set");
    assert_eq!(land(&store, &rules, &FIRST), Put::Discarded);
}

#[test]
fn inside_a_transaction_there_is_no_lease() {
    let directory = tempfile::tempdir().expect("a directory");
    let (store, _) = open(directory.path());
    store.begin(PATIENCE).expect("begin");
    assert_eq!(lease(&store, &FIRST, 60.0), Leased::Unavailable);
    store.rollback().expect("rollback");
}

#[test]
fn who_takes_over_gets_twice_the_time_up_to_a_minute() {
    let directory = tempfile::tempdir().expect("a directory");
    let (store, _) = open(directory.path());
    let time = |seconds, before: f64| {
        store.release(text("a"), &SECOND, None, PATIENCE).expect("release");
        assert_eq!(lease(&store, &FIRST, before), Leased::Held);
        expire(directory.path());
        assert_eq!(lease(&store, &SECOND, seconds), Leased::Held);
        time_of_lease(directory.path())
    };
    let cases = [(10.0, 5.0, 10.0), (10.0, 20.0, 40.0), (10.0, 50.0, 60.0), (90.0, 50.0, 90.0)];
    for (seconds, before, expected) in cases {
        assert!((time(seconds, before) - expected).abs() < 1e-9, "{seconds} after {before}");
    }
}

/// Runs a statement on the database of leases, as another program would.
fn with_gates<R>(directory: &Path, run: impl FnOnce(&rusqlite::Connection) -> rusqlite::Result<R>) -> R {
    let connection = rusqlite::Connection::open(directory.join(GATES)).expect("the database of leases");
    run(&connection).expect("a statement")
}

fn expire(directory: &Path) {
    with_gates(directory, |connection| connection.execute("UPDATE Lease SET expires = 1", []));
}

fn time_of_lease(directory: &Path) -> f64 {
    with_gates(directory, |connection| {
        connection.query_row("SELECT seconds FROM Lease WHERE token NOT NULL", [], |row| row.get(0))
    })
}

#[test]
fn a_lease_from_before_the_clock_was_set_back_is_over() {
    let directory = tempfile::tempdir().expect("a directory");
    let (store, _) = open(directory.path());
    assert_eq!(lease(&store, &FIRST, 30.0), Leased::Held);
    let later = "UPDATE Lease SET expires = expires + 3600";
    with_gates(directory.path(), |connection| connection.execute(later, []));
    assert!(store.wait_for_lease(text("a"), &FIRST, Duration::ZERO).expect("wait"));
    assert_eq!(lease(&store, &SECOND, 30.0), Leased::Held);
}

#[test]
fn another_process_cannot_land_release_or_renew_a_lease() {
    in_each_journal_with_directory(|directory, one| {
        let rules = Rules::default();
        assert_eq!(lease(one, &FIRST, 60.0), Leased::Held);
        // A forked child knows the token, and is another process.
        let as_of_another = "UPDATE Lease SET owner = 'somebody else'";
        with_gates(directory, |connection| connection.execute(as_of_another, []));
        assert!(!one.has_lease(text("a"), &FIRST, PATIENCE).expect("has"));
        assert!(!one.renew(text("a"), &FIRST, 60.0, PATIENCE).expect("renew"));
        one.release(text("a"), &FIRST, None, PATIENCE).expect("release");
        one.release(text("a"), &FIRST, Some((b"failed", 9.0)), PATIENCE).expect("fail");
        assert_eq!(land(one, &rules, &FIRST), Put::Discarded);
        assert_eq!(lease(one, &SECOND, 60.0), Leased::Elsewhere(FIRST));
    });
}

#[test]
fn where_leases_can_be_neither_voided_nor_removed_the_write_ends_them() {
    let directory = tempfile::tempdir().expect("a directory");
    let (store, rules) = open(directory.path());
    let (gates, away) = (directory.path().join(GATES), directory.path().join("away"));
    assert_eq!(lease(&store, &FIRST, 60.0), Leased::Held);
    with_gates(directory.path(), |connection| {
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
    });
    store.close();
    // No user can open a directory as a file, or remove it as one, not even root.
    fs::rename(&gates, &away).expect("rename");
    fs::create_dir_all(gates.join("full")).expect("a directory");
    let other = DiskStore::new(directory.path());
    other.set(text("a"), number(1), label(None), &rules, PATIENCE).expect("set");
    fs::remove_dir_all(&gates).expect("remove");
    fs::rename(&away, &gates).expect("rename");
    assert!(store.wait_for_lease(text("a"), &FIRST, Duration::ZERO).expect("wait"), "it is void");
    assert!(!store.has_lease(text("a"), &FIRST, PATIENCE).expect("has"));
    assert_eq!(land(&store, &rules, &FIRST), Put::Discarded);
    assert_eq!(lease(&store, &SECOND, 60.0), Leased::Held, "it begins anew");
    assert_eq!(land(&store, &rules, &SECOND), Put::Replaced);
}

#[test]
fn a_write_waits_for_leases_no_longer_than_for_entries() {
    in_each_journal_with_directory(|directory, one| {
        let rules = Rules::default();
        assert_eq!(lease(one, &FIRST, 60.0), Leased::Held);
        with_gates(directory, |connection| {
            connection.execute_batch("BEGIN IMMEDIATE")?;
            let set = |patience| one.set(text("a"), number(1), label(None), &rules, patience);
            for patience in [Duration::ZERO, Duration::from_millis(20)] {
                assert!(matches!(set(patience), Err(Error::Busy)));
            }
            one.begin(PATIENCE).expect("begin");
            set(PATIENCE).expect("set");
            assert!(matches!(one.commit(Duration::ZERO), Err(Error::Busy)), "it is still open");
            connection.execute_batch("ROLLBACK")?;
            one.commit(PATIENCE).expect("commit");
            Ok(())
        });
        assert_eq!(land(one, &rules, &FIRST), Put::Discarded);
    });
}

#[test]
#[cfg(unix)]
fn who_may_write_entries_may_write_leases() {
    use std::os::unix::fs::PermissionsExt;

    let directory = tempfile::tempdir().expect("a directory");
    let (store, _) = open(directory.path());
    let entries = directory.path().join(flexcache_disk::DATABASE);
    fs::set_permissions(&entries, fs::Permissions::from_mode(0o660)).expect("a mode");
    assert_eq!(lease(&store, &FIRST, 60.0), Leased::Held);
    let mode = fs::metadata(directory.path().join(GATES)).expect("the file").permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
}

#[test]
fn who_waited_for_another_lease_is_told_of_no_failure() {
    let directory = tempfile::tempdir().expect("a directory");
    let (store, _) = open(directory.path());
    assert_eq!(lease(&store, &FIRST, 60.0), Leased::Held);
    store.release(text("a"), &FIRST, Some((b"broken", 60.0)), PATIENCE).expect("fail");
    let awaiting = LeaseTerms { awaited: Some([9; 16]), ..terms(60.0) };
    assert_eq!(store.lease(text("a"), &SECOND, awaiting, PATIENCE).expect("lease"), Leased::Held);
}

#[test]
fn a_store_that_is_closed_has_no_leases_open() {
    let directory = tempfile::tempdir().expect("a directory");
    let (store, rules) = open(directory.path());
    assert_eq!(lease(&store, &FIRST, 60.0), Leased::Held);
    assert!(is_open_here(&directory.path().join(GATES)));
    store.close();
    assert!(!is_open_here(&directory.path().join(GATES)));
    // The lease is still there.
    assert_eq!(land(&store, &rules, &FIRST), Put::Inserted);
}

#[test]
fn leases_of_a_database_that_was_replaced_are_those_beside_the_new_one() {
    let directory = tempfile::tempdir().expect("a directory");
    let backup = tempfile::tempdir().expect("a directory");
    let (store, rules) = open(directory.path());
    store.set(text("b"), number(1), label(None), &rules, PATIENCE).expect("set");
    store.close();
    let copy = backup.path().join(DATABASE);
    fs::copy(directory.path().join(DATABASE), &copy).expect("a copy");
    assert_eq!(lease(&store, &FIRST, 60.0), Leased::Held);
    store.set(text("b"), number(2), label(None), &rules, PATIENCE).expect("set");
    for entry in fs::read_dir(directory.path()).expect("a directory") {
        fs::remove_file(entry.expect("an entry").path()).expect("a file");
    }
    fs::rename(&copy, directory.path().join(DATABASE)).expect("a rename");
    let value = || store.get(text("b"), NOW, &rules, PATIENCE).expect("get").map(|entry| entry.value);
    let started = Instant::now();
    while value() != Some(Value::Integer(1)) {
        assert!(started.elapsed() < PATIENCE, "it still reads the file that is gone");
        std::thread::sleep(Duration::from_millis(10));
    }
    let (other, _) = open(directory.path());
    assert_eq!(lease(&other, &SECOND, 60.0), Leased::Held);
    assert_eq!(lease(&store, &FIRST, 60.0), Leased::Elsewhere(SECOND));
    assert_eq!(land(&store, &rules, &FIRST), Put::Discarded);
}

/// The version of a database does not say which database of leases is beside it: a copy has the version of its original.
// Windows removes no file that is open.
#[test]
#[cfg(unix)]
fn a_write_voids_the_leases_beside_a_copy_of_the_same_version() {
    let place = |name: &str| {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join(name);
        (directory, path)
    };
    let ((origin, _), (directory, database)) = (place(DATABASE), place(DATABASE));
    let (original, rules) = open(origin.path());
    original.set(text("b"), number(1), label(None), &rules, PATIENCE).expect("set");
    assert_eq!(lease(&original, &FIRST, 60.0), Leased::Held);
    original.release(text("a"), &FIRST, None, PATIENCE).expect("release");
    let copy = |names: &[&str]| {
        for name in names {
            for suffix in ["", "-wal"] {
                let name = format!("{name}{suffix}");
                fs::copy(origin.path().join(&name), directory.path().join(&name)).expect("a copy");
            }
        }
    };
    copy(&[DATABASE]);
    let one = DiskStore::new(directory.path());
    // It has looked for leases now, and there are none.
    assert!(!one.delete(text("absent"), NOW, PATIENCE).expect("delete").result);
    for entry in fs::read_dir(directory.path()).expect("a directory") {
        fs::remove_file(entry.expect("an entry").path()).expect("a file");
    }
    copy(&[DATABASE, GATES]);
    let started = Instant::now();
    while !is_open_here(&database) {
        assert!(started.elapsed() < PATIENCE, "it still has the file that is gone");
        std::thread::sleep(Duration::from_millis(10));
        one.get(text("b"), NOW, &rules, PATIENCE).expect("get");
    }
    let other = DiskStore::new(directory.path());
    assert_eq!(lease(&other, &SECOND, 60.0), Leased::Held);
    one.set(text("a"), number(1), label(None), &rules, PATIENCE).expect("set");
    assert_eq!(land(&other, &rules, &SECOND), Put::Discarded);
}
