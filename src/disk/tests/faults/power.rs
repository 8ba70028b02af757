//! The power is lost at each point at which SQLite changes a file.

use flexcache_disk::faults::{Fault, is_reached, start, stop};
use flexcache_disk::power_loss::{lose, watch};

use std::sync::PoisonError;

use super::workload::{Contents, Journal, POWER_STEPS, Subject, expect};
use super::{ONE_AT_A_TIME, chosen, look_at, new_directory, print_line, record, scale};

/// Runs the workload up to a point at which the power is lost, and looks at what is there when it is back. Returns
/// whether a step was lost that had returned.
fn lose_power(journal: Journal, at: usize, seed: u64, what: &str) -> bool {
    let directory = new_directory();
    let subject = Subject::new(directory.path(), journal);
    let mut states = vec![Contents::new()];
    watch();
    start(Some((Fault::Broken, at)));
    for (place, &step) in POWER_STEPS.iter().enumerate() {
        let mut with_step = states[states.len() - 1].clone();
        expect(&mut with_step, place, step);
        let done = subject.run(place, step);
        states.push(with_step);
        // SQLite does not tell of everything that fails: not of a checkpoint, for instance.
        if done.is_err() || is_reached() {
            break;
        }
    }
    drop(subject);
    assert!(stop().is_reached || journal.is_busy(), "{what}: the point was not reached");
    lose(seed).expect("files that can be written");
    // Where each commit waits for the disk, only the last step may be there or not.
    let last = states.len() - 2;
    let is_quick = matches!(journal, Journal::QuickWal | Journal::BusyWal);
    let durable = if is_quick { 0 } else { last };
    look_at(directory.path(), journal, &states[durable..], what);
    let subject = Subject::new(directory.path(), journal);
    subject.open().expect("it has been opened before");
    let found = subject.contents(what).expect("it has been looked at before").0;
    !states[last..].contains(&found)
}

#[test]
fn the_power_is_lost() {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    for journal in Journal::ALL {
        let points = record("power", journal);
        let chosen = chosen(&points, scale());
        let mut lost = 0;
        for &at in &chosen {
            let (on, call) = points[at];
            let what = format!("power {}: at point {at} ({on:?} {call:?})", journal.name());
            lost += usize::from(lose_power(journal, at, at as u64, &what));
        }
        print_line(&format!(
            "power {}: {} of {} points, {lost} lost",
            journal.name(),
            chosen.len(),
            points.len()
        ));
        // Otherwise nothing is lost here at all. What is written back is not lost.
        assert!(journal.is_busy() || (lost > 0) == (journal == Journal::QuickWal), "{}", journal.name());
    }
}
