//! Frames of the log that wait until their commit is complete, so that a small commit is one write.
//!
//! Frames wait only inside [`commit`], for the frame that marks the commit. Nobody reads them before that:
//! SQLite enters the frames of a transaction into the index of the log only after it has written the last of
//! them. Outside a commit no frame waits. A transaction that is too large for SQLite's cache of pages writes
//! frames early; if it is rolled back, another process overwrites them, and late frames of ours must not
//! overwrite those.

use std::cell::RefCell;
use std::ops::Range;

use rusqlite::Connection;

use crate::error::Result;
use crate::sql::{execute, roll_back};

/// The size of a frame's header.
pub(crate) const HEADER: usize = 24;

/// The most bytes of frames that wait: 16 pages of python-diskcache's size. A larger commit is several
/// writes.
const MOST: usize = 16 * (HEADER + 4096);

/// The bytes of a header with the number of pages of the database after the commit. It is 0 in a frame that
/// does not mark a commit.
const PAGES_AFTER_COMMIT: Range<usize> = 4..8;

#[derive(Default)]
struct Frames {
    /// Whether this thread is committing.
    may_wait: bool,
    /// The address of the log that the frames belong to. It is only compared.
    log: usize,
    begin: i64,
    bytes: Vec<u8>,
}

thread_local! {
    static FRAMES: RefCell<Frames> = RefCell::default();
}

/// What happens to a frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Added {
    /// It waits.
    Waits,
    /// It must be written now, together with the waiting frames: see [`write`].
    IsDue,
    /// It was not added, and must be written by itself. The thread is ending, or has no memory left.
    Nothing,
}

/// Adds a frame behind the waiting ones.
pub(crate) fn add(log: usize, begin: i64, header: &[u8; HEADER], page: &[u8]) -> Added {
    let add = |frames: &RefCell<Frames>| {
        let mut frames = frames.borrow_mut();
        let is_first = frames.bytes.is_empty();
        let end = i64::try_from(frames.bytes.len()).map_or(i64::MAX, |length| frames.begin + length);
        let follows = is_first || (frames.log == log && end == begin);
        if !follows || frames.bytes.try_reserve(HEADER + page.len()).is_err() {
            return Added::Nothing;
        }
        if is_first {
            (frames.log, frames.begin) = (log, begin);
        }
        frames.bytes.extend_from_slice(header);
        frames.bytes.extend_from_slice(page);
        let marks_commit = header[PAGES_AFTER_COMMIT] != [0; 4];
        if frames.may_wait && !marks_commit && frames.bytes.len() < MOST {
            Added::Waits
        } else {
            Added::IsDue
        }
    };
    FRAMES.try_with(add).unwrap_or(Added::Nothing)
}

/// Writes the waiting frames of a log by calling `write` with their bytes and their offset. `None` if none
/// wait. Afterwards none waits, even if `write` fails: then the commit fails, too.
pub(crate) fn write<R>(log: usize, write: impl FnOnce(&[u8], i64) -> R) -> Option<R> {
    let write = |frames: &RefCell<Frames>| {
        let mut frames = frames.borrow_mut();
        if frames.bytes.is_empty() || frames.log != log {
            return None;
        }
        let written = write(&frames.bytes, frames.begin);
        frames.bytes.clear();
        Some(written)
    };
    FRAMES.try_with(write).ok().flatten()
}

/// Begins or ends a commit of this thread. Discards waiting frames, which belong to a failed commit and are
/// not part of the log, and returns whether there were any.
fn let_wait(may_wait: bool) -> bool {
    let set = |frames: &RefCell<Frames>| {
        let mut frames = frames.borrow_mut();
        frames.may_wait = may_wait;
        let were_waiting = !frames.bytes.is_empty();
        frames.bytes.clear();
        were_waiting
    };
    FRAMES.try_with(set).unwrap_or(false)
}

/// Commits the transaction of a connection. If its frames are few, they are one write to the log.
///
/// # Errors
///
/// Errors of SQLite, including those of writing the log.
pub(crate) fn commit(connection: &Connection) -> Result<()> {
    let_wait(true);
    let done = execute(connection, "COMMIT");
    if let_wait(false) {
        // The transaction relies on frames that are not in the log.
        roll_back(connection);
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: usize = 1;
    const FRAME: usize = HEADER + 4096;

    fn header(marks_commit: bool) -> [u8; HEADER] {
        let mut header = [1; HEADER];
        header[PAGES_AFTER_COMMIT].fill(u8::from(marks_commit));
        header
    }

    fn added(number: usize, marks_commit: bool) -> Added {
        let begin = i64::try_from(32 + number * FRAME).expect("an offset");
        add(LOG, begin, &header(marks_commit), &[7; 4096])
    }

    /// What is written: the offset, and how many frames.
    fn written(log: usize) -> Option<(i64, usize)> {
        write(log, |bytes, begin| (begin, bytes.len() / FRAME))
    }

    #[test]
    fn frames_wait_for_the_one_that_marks_the_commit() {
        let_wait(true);
        assert_eq!(
            [added(0, false), added(1, false), added(2, true)],
            [Added::Waits, Added::Waits, Added::IsDue]
        );
        assert_eq!((written(LOG + 1), written(LOG), written(LOG)), (None, Some((32, 3)), None));
        assert!(!let_wait(false));
    }

    #[test]
    fn outside_a_commit_no_frame_waits() {
        assert_eq!(added(0, false), Added::IsDue);
        assert_eq!(written(LOG), Some((32, 1)));
    }

    #[test]
    fn frames_of_a_commit_that_has_failed_are_forgotten() {
        let_wait(true);
        assert_eq!(added(0, false), Added::Waits);
        assert!(let_wait(false));
        assert_eq!(written(LOG), None);
    }

    #[test]
    fn so_many_wait_and_no_more() {
        let_wait(true);
        let due = (0..100).find(|&number| added(number, false) == Added::IsDue);
        assert_eq!((due, written(LOG)), (Some(15), Some((32, 16))));
        assert!(!let_wait(false));
    }

    #[test]
    fn frames_of_another_log_are_written_by_themselves() {
        let_wait(true);
        assert_eq!(added(0, false), Added::Waits);
        assert_eq!(add(LOG + 1, 32, &header(true), &[7; 4096]), Added::Nothing);
        assert_eq!(written(LOG), Some((32, 1)));
        assert!(!let_wait(false));
    }
}
