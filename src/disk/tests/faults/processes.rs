//! Several processes on one directory, one of which ends at a point while another goes on.

use std::process::Command;
use std::sync::PoisonError;

use flexcache_disk::faults::{Fault, start};

use super::workload::{Contents, Journal, POWER_STEPS, Step, Subject, expect};
use super::{
    END_STATUS, MARK, ONE_AT_A_TIME, chosen, look_at, new_directory, print_line, record, scale, steps_done,
};

/// For the child: the directory, the journal and the point.
const CHILD: &str = "FLEXCACHE_FAULTS_NEIGHBOUR";

/// The key to which the process that goes on adds.
const OTHERS: i64 = 90;

/// The steps of the one that ends. It leaves the other's key alone.
fn steps() -> impl Iterator<Item = (usize, Step)> {
    POWER_STEPS.iter().copied().enumerate().filter(|(_, step)| !matches!(step, Step::Clear))
}

/// The child: it says how many steps have returned.
#[test]
fn a_neighbour_that_ends() {
    let Ok(plan) = std::env::var(CHILD) else { return };
    let [directory, journal, at] = plan.split('\n').collect::<Vec<_>>()[..] else { panic!("{plan:?}") };
    let journal = Journal::ALL.into_iter().find(|kind| kind.name() == journal).expect("a journal");
    let subject = Subject::new(std::path::Path::new(directory), journal);
    start(Some((Fault::Exit, at.parse().expect("a number"))));
    for (count, (place, step)) in steps().enumerate() {
        subject.run(place, step).expect("nothing fails");
        print_line(&format!("{MARK}{}", count + 1));
    }
}

/// Runs the child up to a point while this process adds to a key. Returns whether the child has reached the point.
fn end_one(journal: Journal, at: usize, what: &str) -> bool {
    let directory = new_directory();
    let subject = Subject::new(directory.path(), journal);
    subject.open().expect("a new directory");
    let plan = format!("{}\n{}\n{at}", directory.path().display(), journal.name());
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "processes::a_neighbour_that_ends", "--nocapture"])
        .env(CHILD, plan)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("a process");
    let mut added = 0;
    let mut add = |subject: &Subject| {
        subject
            .run(1000, Step::Increment(OTHERS))
            .unwrap_or_else(|error| panic!("{what}: the other: {error}"));
        added += 1;
    };
    while child.try_wait().expect("a child").is_none() {
        add(&subject);
    }
    // After its end too, nothing that it had keeps others waiting.
    (0..3).for_each(|_| add(&subject));
    let output = child.wait_with_output().expect("what it said");
    let said = String::from_utf8_lossy(&output.stdout);
    let is_reached = output.status.code() == Some(END_STATUS);
    assert!(is_reached || output.status.success(), "{what}: {said}");
    drop(subject);

    let mut states = vec![Contents::new()];
    for (place, step) in steps() {
        let mut next = states[states.len() - 1].clone();
        expect(&mut next, place, step);
        states.push(next);
    }
    for state in &mut states {
        state.insert(format!("Integer({OTHERS})"), added.to_string().into_bytes());
    }
    let done = steps_done(&said);
    let with_next = (done + 1).min(states.len() - 1);
    look_at(directory.path(), journal, &[states[done].clone(), states[with_next].clone()], what);
    is_reached
}

#[test]
fn one_process_ends_and_another_goes_on() {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    for journal in [Journal::Wal, Journal::Delete] {
        let points = record("power", journal);
        // Each takes a process: a third of what others try.
        let thin = if scale() < 1.0 { 3 } else { 1 };
        let chosen: Vec<_> = chosen(&points, scale()).into_iter().step_by(thin).collect();
        let mut reached = 0;
        for &at in &chosen {
            let (on, call) = points[at];
            let what = format!("two processes, {}: about point {at} ({on:?} {call:?})", journal.name());
            reached += usize::from(end_one(journal, at, &what));
        }
        print_line(&format!("two processes, {}: {reached} of {} have ended", journal.name(), chosen.len()));
        assert!(reached > chosen.len() / 2, "{}", journal.name());
    }
}
