//! The points at which the file system can fail, and a plan of which one does.
//!
//! Without the feature `fault-injection`, which only tests use, no fault is injected and no call is counted.
//! With it, every call that changes a file asks the plan of the process first: SQLite's calls through
//! [`crate::faulty_vfs`], our own through [`reach`] and [`write_all`].

#[cfg(not(feature = "fault-injection"))]
use std::{fs::File, io};

/// The kind of file that a call changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum On {
    /// The database.
    #[cfg(feature = "fault-injection")]
    Database,
    /// The rollback journal.
    #[cfg(feature = "fault-injection")]
    Journal,
    /// The write-ahead log.
    #[cfg(feature = "fault-injection")]
    Log,
    /// The index of the log, which processes share.
    #[cfg(feature = "fault-injection")]
    Index,
    /// The database of leases, its journal, its log or the index of that.
    Gates,
    /// A temporary file of SQLite, such as that of a statement or of VACUUM.
    #[cfg(feature = "fault-injection")]
    Temporary,
    /// The file of a value.
    Value,
    /// A directory for such files.
    Directory,
    /// A file that `check` found and no row refers to.
    UnknownFile,
}

/// The kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Call {
    /// Makes the file.
    Create,
    /// Writes to the file.
    Write,
    /// Waits until the file is on the disk.
    Sync,
    /// Maps the file into memory, and makes it longer.
    #[cfg(feature = "fault-injection")]
    Map,
    /// Locks a part of the file.
    #[cfg(feature = "fault-injection")]
    Lock,
    /// Makes the file shorter.
    #[cfg(feature = "fault-injection")]
    Truncate,
    /// Renames the file.
    Rename,
    /// Removes the file.
    Unlink,
}

/// Asks the plan before one of our own calls.
#[cfg(not(feature = "fault-injection"))]
#[inline]
#[expect(clippy::unnecessary_wraps, reason = "it fails with the feature")]
pub(crate) fn reach(_on: On, _call: Call) -> io::Result<()> {
    Ok(())
}

/// Writes the file of a value.
#[cfg(not(feature = "fault-injection"))]
#[inline]
pub(crate) fn write_all(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    io::Write::write_all(file, bytes)
}

/// Waits until the file of a value is on the disk.
#[cfg(not(feature = "fault-injection"))]
#[inline]
pub(crate) fn synchronize(file: &File) -> io::Result<()> {
    file.sync_all()
}

#[cfg(feature = "fault-injection")]
pub use plan::{Fault, Outcome, is_reached, start, stop};
#[cfg(feature = "fault-injection")]
pub(crate) use plan::{Verdict, ask, reach, synchronize, write_all};

#[cfg(feature = "fault-injection")]
mod plan {
    use std::fs::File;
    use std::io::{self, ErrorKind, Write};
    use std::sync::{Mutex, MutexGuard, PoisonError};

    use super::{Call, On};

    /// What happens at a point.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Fault {
        /// The call fails once, with an input/output error.
        Error,
        /// From this call on, every call fails with an input/output error.
        Broken,
        /// From this call on, every call that needs room fails, half-way if it writes.
        Full,
        /// The process ends, half-way through the call if it writes.
        Exit,
    }

    /// The calls that a plan has seen.
    #[derive(Debug, Default)]
    pub struct Outcome {
        /// Every point that was reached, in order.
        pub points: Vec<(On, Call)>,
        /// Whether the point of the fault was reached.
        pub is_reached: bool,
        /// The number of calls that failed.
        pub failed: usize,
    }

    struct Plan {
        fault: Option<(Fault, usize)>,
        outcome: Outcome,
    }

    static PLAN: Mutex<Option<Plan>> = Mutex::new(None);

    fn plan() -> MutexGuard<'static, Option<Plan>> {
        // Nothing inside can panic half-way.
        PLAN.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to count. The fault happens at the `n`-th point from here, counted from 0.
    pub fn start(fault: Option<(Fault, usize)>) {
        crate::faulty_vfs::install();
        *plan() = Some(Plan { fault, outcome: Outcome::default() });
    }

    /// Whether the point of the fault was reached.
    #[must_use]
    pub fn is_reached() -> bool {
        plan().as_ref().is_some_and(|plan| plan.outcome.is_reached)
    }

    /// Ends the faults. Returns the calls since [`start`].
    #[must_use]
    pub fn stop() -> Outcome {
        plan().take().map(|plan| plan.outcome).unwrap_or_default()
    }

    /// What a call must do.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Verdict {
        Go,
        Fail,
        Full,
        Exit,
    }

    /// Counts a call, and decides what it must do.
    pub(crate) fn ask(on: On, call: Call) -> Verdict {
        let mut plan = plan();
        let Some(plan) = plan.as_mut() else { return Verdict::Go };
        let place = plan.outcome.points.len();
        plan.outcome.points.push((on, call));
        let Some((fault, at)) = plan.fault else { return Verdict::Go };
        if place < at {
            return Verdict::Go;
        }
        plan.outcome.is_reached = true;
        let verdict = match fault {
            Fault::Error if place == at => Verdict::Fail,
            Fault::Broken => Verdict::Fail,
            Fault::Full if needs_room(on, call) => Verdict::Full,
            Fault::Exit => Verdict::Exit,
            Fault::Error | Fault::Full => Verdict::Go,
        };
        plan.outcome.failed += usize::from(verdict != Verdict::Go);
        verdict
    }

    /// Whether a call can fail because the disk is full. A journal or a directory is synchronized after something in it
    /// was removed, too.
    fn needs_room(on: On, call: Call) -> bool {
        match call {
            Call::Create | Call::Write | Call::Map => true,
            Call::Sync => !matches!(on, On::Journal | On::Directory),
            Call::Truncate | Call::Rename | Call::Unlink | Call::Lock => false,
        }
    }

    fn obey(verdict: Verdict) -> io::Result<()> {
        match verdict {
            Verdict::Go => Ok(()),
            Verdict::Fail => Err(io::Error::other("injected")),
            Verdict::Full => Err(ErrorKind::StorageFull.into()),
            Verdict::Exit => crate::faulty_vfs::end_process(),
        }
    }

    /// Asks the plan before one of our own calls.
    pub(crate) fn reach(on: On, call: Call) -> io::Result<()> {
        obey(ask(on, call))
    }

    /// Only asks the plan: the power is never cut here, and waiting for the disk would take most of a test's
    /// time.
    pub(crate) fn synchronize(_file: &File) -> io::Result<()> {
        reach(On::Value, Call::Sync)
    }

    /// Writes the file of a value. It can fail half-way.
    pub(crate) fn write_all(file: &mut File, bytes: &[u8]) -> io::Result<()> {
        let verdict = ask(On::Value, Call::Write);
        let half = match verdict {
            Verdict::Go => return file.write_all(bytes),
            Verdict::Fail => 0,
            Verdict::Full | Verdict::Exit => bytes.len() / 2,
        };
        file.write_all(&bytes[..half])?;
        obey(verdict)
    }
}
