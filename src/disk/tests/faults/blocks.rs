//! A file system that fails inside a block of several writes: the write that fails is undone alone, or all of the block.

use std::sync::PoisonError;

use flexcache_disk::Error;
use flexcache_disk::faults::{Call, Fault, On, start, stop};

use super::workload::{BLOCK_STEPS, Journal, PATIENCE, Subject, expect, prepare_block};
use super::{ONE_AT_A_TIME, chosen, difference, look_at, new_directory, print_line, scale};

/// What became of the runs.
#[derive(Debug, Default)]
struct Seen {
    undone_alone: usize,
    lost: usize,
    failed_commits: usize,
}

/// Does all steps in one block, with a fault or without. Returns the points that were reached.
fn run(journal: Journal, fault: Option<(Fault, usize)>, what: &str, seen: &mut Seen) -> Vec<(On, Call)> {
    let directory = new_directory();
    let subject = Subject::new(directory.path(), journal);
    let before = prepare_block(&subject);
    let mut expected = before.clone();
    start(fault);
    let begun = subject.store.begin(PATIENCE);
    let mut is_lost = begun.is_err();
    for (place, &step) in BLOCK_STEPS.iter().enumerate().filter(|_| begun.is_ok()) {
        match subject.run(place, step) {
            Ok(()) => {
                assert!(!is_lost, "{what}: {step:?} is done in a block that is lost");
                expect(&mut expected, place, step);
            }
            Err(Error::TransactionLost) => is_lost = true,
            Err(error) => {
                assert!(!error.is_in_doubt(), "{what}: {step:?}: {error}");
                seen.undone_alone += 1;
                if let Ok((found, _)) = subject.contents(what).map_err(|_| ())
                    && found != expected
                {
                    // SQLite has undone all of it.
                    let late = subject.store.begin(PATIENCE);
                    assert!(
                        matches!(late, Err(Error::TransactionLost)),
                        "{what}: {}",
                        difference(&found, &expected)
                    );
                    is_lost = true;
                }
            }
        }
    }
    let committed = if begun.is_ok() { subject.store.commit(PATIENCE).map(drop) } else { begun.map(drop) };
    let outcome = stop();
    assert_eq!(outcome.is_reached, fault.is_some(), "{what}: the point was not reached");
    let allowed = match &committed {
        Ok(()) => {
            assert!(!is_lost, "{what}: a block that is lost was committed");
            vec![expected]
        }
        Err(error) if error.is_in_doubt() => vec![before, expected],
        Err(_) => vec![before],
    };
    seen.lost += usize::from(is_lost);
    seen.failed_commits += usize::from(committed.is_err());
    assert!(!subject.store.in_transaction(), "{what}");
    drop(subject);
    look_at(directory.path(), journal, &allowed, what);
    outcome.points
}

#[test]
fn a_write_of_a_block_fails() {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    for journal in [Journal::Wal, Journal::Delete] {
        let points = run(journal, None, "without a fault", &mut Seen::default());
        let chosen = chosen(&points, scale());
        for fault in [Fault::Error, Fault::Full] {
            let mut seen = Seen::default();
            for &at in &chosen {
                let (on, call) = points[at];
                if fault == Fault::Full && !matches!(call, Call::Write | Call::Create) {
                    continue;
                }
                let what = format!("block {}: {fault:?} at point {at} ({on:?} {call:?})", journal.name());
                run(journal, Some((fault, at)), &what, &mut seen);
            }
            print_line(&format!(
                "block {}: {fault:?}: {seen:?} in {} of {}",
                journal.name(),
                chosen.len(),
                points.len()
            ));
        }
    }
}
