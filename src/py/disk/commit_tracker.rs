//! Which copies of a directory's entries may still be served.

use std::sync::Arc;

use flexcache_core::tracker::{self, Tracker};
use flexcache_disk::{CommitObserver, Moments, STRIPES, WrittenStripes};
use pyo3::Python;

use crate::py::store::rule_switch::is_off;
use crate::py::store::tracked_writes::TrackedWrites;

// The tracker has an epoch for every stripe.
const _: () = assert!(STRIPES == tracker::STRIPES);

/// The tracker of one `DiskCache`, which is notified of every write through it.
#[derive(Debug)]
pub(super) struct DirectoryTracker(pub(super) Arc<TrackedWrites>);

impl DirectoryTracker {
    pub(super) fn new(py: Python<'_>) -> Arc<Self> {
        Arc::new(Self(TrackedWrites::new(py)))
    }

    fn end(&self, written: &WrittenStripes) {
        if !is_off("epoch_after_commit") {
            self.each(written, Tracker::end_write, Tracker::end_write_of_all);
        }
    }

    /// Calls `of_stripe` for each stripe that is written, or `of_all` if every key may be.
    fn each(&self, written: &WrittenStripes, of_stripe: fn(&Tracker, usize), of_all: fn(&Tracker)) {
        match written {
            WrittenStripes::None => {}
            WrittenStripes::One(stripe) => of_stripe(&self.0, *stripe),
            _ if is_unstamped_batch(written) => {}
            WrittenStripes::Several(stripes) => stripes.iter().for_each(|stripe| of_stripe(&self.0, stripe)),
            WrittenStripes::All => of_all(&self.0),
        }
    }
}

impl CommitObserver for DirectoryTracker {
    fn committing(&self, written: &WrittenStripes) {
        // From here on others may see the new state, so copies of the old one must not be served.
        self.each(written, Tracker::begin_write, Tracker::begin_write_of_all);
    }

    fn committed(&self, written: &WrittenStripes) -> Moments {
        self.end(written);
        let moment = |stripe| self.0.moment(stripe).bits();
        match written {
            WrittenStripes::None | WrittenStripes::All => Moments::None,
            WrittenStripes::One(stripe) => Moments::One(*stripe, moment(*stripe)),
            WrittenStripes::Several(stripes) => {
                Moments::Several(stripes.iter().map(|stripe| (stripe, moment(stripe))).collect())
            }
        }
    }

    fn not_committed(&self, written: &WrittenStripes) {
        self.end(written);
    }
}

/// Whether the keys of a batch are not invalidated, in a test of the tests.
fn is_unstamped_batch(written: &WrittenStripes) -> bool {
    is_off("batch_stamp") && matches!(written, WrittenStripes::Several(_) | WrittenStripes::All)
}
