//! The store over a file system that fails, or in a process that ends, at every point at which it changes a file.
//!
//! Each workload runs once without a fault to record its points. Then it runs again for each point and each kind of
//! fault. Afterwards the directory opens; every step that had returned is there, and no other is there by half; and
//! `check` finds all that is left over. `FLEXCACHE_TEST_SCALE` says which part of the points is tried; the first of each
//! kind, one in the middle and the last always are.

mod blocks;
mod power;
mod processes;
mod workload;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use flexcache_disk::faults::{Call, Fault, On, Outcome, start, stop};
use flexcache_disk::{DATABASE, Finding};

use workload::{Contents, Journal, LONG_STEPS, PATIENCE, POWER_STEPS, STEPS, Step, Subject, expect};

/// For the child: the directory, the workload's name, the journal and the point.
const CHILD: &str = "FLEXCACHE_FAULTS_CHILD";

/// What a child prints before the number of steps that have returned.
const MARK: char = '#';

/// The exit status of a process that has ended at a point.
const END_STATUS: i32 = 86;

/// How many steps a child says have returned.
fn steps_done(said: &str) -> usize {
    let done = said.split_whitespace().filter_map(|word| word.strip_prefix(MARK)).next_back();
    done.map_or(0, |count| count.parse().expect("a number"))
}

/// The plan belongs to the process.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn scale() -> f64 {
    std::env::var("FLEXCACHE_TEST_SCALE").map_or(0.1, |text| text.parse().expect("a number"))
}

/// In memory where the system has a place for that: nothing here depends on a disk.
fn new_directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a directory")
}

fn steps_of(name: &str) -> &'static [Step] {
    match name {
        "long" => LONG_STEPS,
        "power" => POWER_STEPS,
        _ => STEPS,
    }
}

/// The kinds of points that a workload must reach.
fn kinds(name: &str, journal: Journal) -> BTreeSet<(On, Call)> {
    use Call::{Create, Lock, Map, Rename, Sync, Truncate, Unlink, Write};
    use On::{Database, Directory, Gates, Index, Log, Temporary, UnknownFile, Value};

    let mut kinds = vec![(Database, Write), (Database, Sync)];
    kinds.extend([(Value, Create), (Value, Write), (Value, Sync), (Value, Rename), (Value, Unlink)]);
    kinds.extend([(Directory, Create), (Directory, Unlink), (Database, Truncate)]);
    if matches!(journal, Journal::Delete | Journal::Truncate) {
        kinds.extend([(On::Journal, Write), (On::Journal, Sync)]);
    }
    match journal {
        Journal::Wal | Journal::QuickWal | Journal::BusyWal => {
            kinds.extend([(Log, Write), (Log, Sync), (Log, Unlink), (Index, Map), (Index, Lock)]);
            if name == "steps" {
                kinds.extend([(Gates, Map), (Gates, Lock)]);
            }
        }
        Journal::Delete => kinds.extend([(On::Journal, Unlink), (Directory, Sync)]),
        Journal::Truncate => kinds.push((On::Journal, Truncate)),
    }
    if name == "steps" {
        kinds.extend([(Temporary, Create), (Temporary, Write), (UnknownFile, Unlink)]);
        kinds.extend([(Gates, Write), (Gates, Unlink)]);
    }
    kinds.into_iter().collect()
}

/// The files in a directory but those of the database.
fn files_in(directory: &Path) -> BTreeSet<PathBuf> {
    let (mut found, mut unseen) = (BTreeSet::new(), vec![directory.to_owned()]);
    while let Some(next) = unseen.pop() {
        for entry in fs::read_dir(next).expect("a directory").map(|entry| entry.expect("an entry")) {
            let path = entry.path();
            if path.is_dir() {
                unseen.push(path);
            } else if !entry.file_name().to_string_lossy().starts_with(DATABASE) {
                found.insert(path);
            }
        }
    }
    found
}

fn difference(found: &Contents, expected: &Contents) -> String {
    let mut text = String::new();
    for key in found.keys().chain(expected.keys()).collect::<BTreeSet<_>>() {
        let say = |value: Option<&Vec<u8>>| {
            value.map(|bytes| {
                (bytes.len(), String::from_utf8_lossy(&bytes[..bytes.len().min(20)]).into_owned())
            })
        };
        if found.get(key) != expected.get(key) {
            let _ = writeln!(text, "  {key}: {:?}, not {:?}", say(found.get(key)), say(expected.get(key)));
        }
    }
    text
}

/// Opens a directory after a fault and looks at all of it. Returns the number of files that were left over.
fn look_at(directory: &Path, journal: Journal, allowed: &[Contents], what: &str) -> usize {
    let subject = Subject::new(directory, journal);
    subject.open().unwrap_or_else(|error| panic!("{what}: it does not open: {error}"));
    let (found, names) = subject.contents(what).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(allowed.contains(&found), "{what}:\n{}", difference(&found, &allowed[0]));
    let counted = subject.store.len(PATIENCE).expect("len");
    assert_eq!(usize::try_from(counted), Ok(found.len()), "{what}: the counter");

    let known: BTreeSet<_> = names.iter().map(|name| directory.join(name)).collect();
    let left: BTreeSet<_> = files_in(directory).difference(&known).cloned().collect();
    let findings = subject.store.check(false, PATIENCE).unwrap_or_else(|error| panic!("{what}: {error}"));
    let mut unknown = BTreeSet::new();
    for finding in findings {
        match finding {
            Finding::UnknownFile(path) => drop(unknown.insert(path)),
            Finding::EmptyDirectory(_) => {}
            other => panic!("{what}: {other:?}"),
        }
    }
    assert_eq!(unknown, left, "{what}: what `check` finds, and what is there");
    subject.store.check(true, PATIENCE).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(subject.store.check(false, PATIENCE).expect("check"), [], "{what}: after mending");
    assert_eq!(files_in(directory), known, "{what}: after mending");
    assert!(subject.contents(what).expect("contents").0 == found, "{what}: mending changed what is stored");
    left.len()
}

/// The points of a workload without a fault.
fn record(name: &str, journal: Journal) -> Vec<(On, Call)> {
    let directory = new_directory();
    let subject = Subject::new(directory.path(), journal);
    let mut expected = Contents::new();
    start(None);
    for (place, &step) in steps_of(name).iter().enumerate() {
        subject.run(place, step).unwrap_or_else(|error| panic!("{step:?} without a fault: {error}"));
        expect(&mut expected, place, step);
    }
    drop(subject);
    let points = stop().points;
    assert_eq!(look_at(directory.path(), journal, &[expected], "without a fault"), 0, "files are left over");
    points
}

/// The points to try: the first of each kind, one in the middle and the last, and some in between.
fn chosen(points: &[(On, Call)], scale: f64) -> BTreeSet<usize> {
    let mut places: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for (place, point) in points.iter().enumerate() {
        places.entry(point).or_default().push(place);
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is at least 1")]
    let stride = (1.0 / scale).round().max(1.0) as usize;
    let of_each_kind = places.values().flat_map(|of| [of[0], of[of.len() / 2], of[of.len() - 1]]);
    of_each_kind.chain((0..points.len()).step_by(stride)).collect()
}

/// Whether the thread of the process takes part in a workload: a point may then come earlier or later, or not at all.
fn has_thread(name: &str, journal: Journal) -> bool {
    name == "long" || journal.is_busy()
}

/// Copies a directory as a crash would leave it at this moment: without the index of the log.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory").map(|entry| entry.expect("an entry")) {
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &target);
        } else if !entry.file_name().to_string_lossy().ends_with("-shm") {
            fs::copy(&path, &target).expect("a copy");
        }
    }
}

/// The calls that SQLite makes when a commit is on the disk already. If they fail it reports an error, and all of the
/// transaction is stored.
const AFTER_COMMIT: [(On, Call); 3] =
    [(On::Database, Call::Truncate), (On::Directory, Call::Sync), (On::Journal, Call::Sync)];

/// How many runs ended in some way.
#[derive(Debug, Default)]
struct Seen {
    failed_steps: usize,
    /// Steps that failed and were done.
    done_in_spite: usize,
    files_left: usize,
}

/// Runs a workload with a fault in this process.
fn fail(
    name: &str,
    journal: Journal,
    fault: Fault,
    at: usize,
    point: (On, Call),
    what: &str,
    seen: &mut Seen,
) {
    let directory = new_directory();
    let subject = Subject::new(directory.path(), journal);
    let mut expected = Contents::new();
    let mut in_doubt = None;
    let mut is_open = false;
    start(Some((fault, at)));
    for (place, &step) in steps_of(name).iter().enumerate() {
        // A program that could not open a directory tries again, or does not use it.
        is_open = is_open || subject.open().is_ok();
        let mut with_step = expected.clone();
        expect(&mut with_step, place, step);
        let Err(error) = subject.run(place, step) else {
            expected = with_step;
            continue;
        };
        let is_in_doubt = error.is_in_doubt();
        seen.failed_steps += 1;
        if fault == Fault::Error && is_open {
            let found = subject.contents(what).unwrap_or_else(|error| panic!("{what}: {error}")).0;
            let after_crash = new_directory();
            copy(directory.path(), after_crash.path());
            if found != expected && found == with_step && AFTER_COMMIT.contains(&point) {
                assert!(is_in_doubt, "{what}: {step:?} is done, and the caller is not warned");
                seen.done_in_spite += 1;
                expected.clone_from(&with_step);
            }
            let difference = difference(&found, &expected);
            assert!(found == expected, "{what}: {step:?} failed and changed something:\n{difference}");
            let what = format!("{what}, in {step:?}, and a crash");
            let allowed = [expected.clone(), with_step];
            look_at(after_crash.path(), journal, if is_in_doubt { &allowed } else { &allowed[..1] }, &what);
        } else {
            in_doubt.get_or_insert(with_step);
        }
    }
    let outcome: Outcome = stop();
    assert!(outcome.is_reached || has_thread(name, journal), "{what}: the point was not reached");
    drop(subject);
    let mut allowed = vec![expected];
    // After a failure that lasts no later write succeeds, and the step that met it is whole or not there.
    allowed.extend(in_doubt.filter(|_| fault != Fault::Error));
    seen.files_left += look_at(directory.path(), journal, &allowed, what);
}

/// Runs a workload in a process that ends at a point. The number of files that were left over.
fn end(name: &str, journal: Journal, at: usize, what: &str) -> usize {
    let directory = new_directory();
    let plan = format!("{}\n{name}\n{}\n{at}", directory.path().display(), journal.name());
    let child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "a_process_that_ends", "--nocapture"])
        .env(CHILD, plan)
        .output()
        .expect("a process");
    let said = String::from_utf8_lossy(&child.stdout);
    let has_ended = child.status.code() == Some(END_STATUS);
    assert!(
        has_ended || (child.status.success() && has_thread(name, journal)),
        "{what}: {said}{}",
        String::from_utf8_lossy(&child.stderr)
    );
    let done = steps_done(&said);

    let steps = steps_of(name);
    let mut expected = Contents::new();
    steps[..done].iter().enumerate().for_each(|(place, &step)| expect(&mut expected, place, step));
    let mut with_next = expected.clone();
    steps
        .iter()
        .enumerate()
        .skip(done)
        .take(1)
        .for_each(|(place, &step)| expect(&mut with_next, place, step));
    let what = &format!("{what}, in {:?}", steps.get(done));
    look_at(directory.path(), journal, &[expected, with_next], what)
}

/// The child of [`end`]. Does nothing in a usual run.
#[test]
fn a_process_that_ends() {
    let Ok(plan) = std::env::var(CHILD) else { return };
    let [directory, name, journal, at] = plan.split('\n').collect::<Vec<_>>()[..] else { panic!("{plan:?}") };
    let journal = Journal::ALL.into_iter().find(|kind| kind.name() == journal).expect("a journal");
    let subject = Subject::new(Path::new(directory), journal);
    start(Some((Fault::Exit, at.parse().expect("a number"))));
    for (place, &step) in steps_of(name).iter().enumerate() {
        subject.run(place, step).expect("nothing fails");
        print_line(&format!("{MARK}{}", place + 1));
    }
}

#[expect(clippy::print_stdout, reason = "the parent reads it")]
fn print_line(line: &str) {
    println!("{line}");
}

fn try_all(name: &str, journal: Journal, scale: f64) {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let points = record(name, journal);
    let reached: BTreeSet<_> = points.iter().copied().collect();
    let needed = kinds(name, journal);
    assert!(
        needed.is_subset(&reached),
        "never reached: {:?}",
        needed.difference(&reached).collect::<Vec<_>>()
    );
    assert!(reached.is_subset(&needed), "not listed: {:?}", reached.difference(&needed).collect::<Vec<_>>());
    let mut chosen = chosen(&points, scale);
    if name == "long" {
        // The other workload tries the rest.
        chosen.retain(|&at| matches!(points[at].0, On::Database | On::Log));
    }
    let mut summary = format!("{name} {}: {} of {} points", journal.name(), chosen.len(), points.len());
    for fault in [Fault::Error, Fault::Broken, Fault::Full, Fault::Exit] {
        let began = std::time::Instant::now();
        let mut seen = Seen::default();
        for &at in &chosen {
            let (on, call) = points[at];
            let what = format!("{name} {}: {fault:?} at point {at} ({on:?} {call:?})", journal.name());
            if fault == Fault::Exit {
                seen.files_left += end(name, journal, at, &what);
            } else {
                fail(name, journal, fault, at, points[at], &what, &mut seen);
            }
        }
        let _ = write!(summary, "\n    {fault:?}: {seen:?}, {:.1} s", began.elapsed().as_secs_f64());
    }
    for kind in &reached {
        let count = points.iter().filter(|point| *point == kind).count();
        let _ = write!(summary, "\n    {:?} {:?}: {count}", kind.0, kind.1);
    }
    print_line(&summary);
}

#[test]
fn with_a_log() {
    try_all("steps", Journal::Wal, scale());
}

#[test]
fn with_a_log_that_is_written_back_all_the_time() {
    try_all("steps", Journal::BusyWal, scale() / 5.0);
}

#[test]
fn on_a_network() {
    try_all("steps", Journal::Delete, scale());
}

#[test]
fn with_a_rollback_journal() {
    try_all("steps", Journal::Truncate, scale());
}

/// Most points of a long log are alike, so that fewer of them are tried.
#[test]
fn with_a_log_that_is_written_back() {
    try_all("long", Journal::QuickWal, scale() / 50.0);
}
