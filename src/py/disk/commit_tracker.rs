//! Which copies of a directory's entries may still be served.

use flexcache_core::tracker::{self, Tracker};
use flexcache_disk::{CommitObserver, Epochs, STRIPES, WrittenStripes};

use crate::py::store::rule_switch::is_off;

// The tracker has an epoch for every stripe.
const _: () = assert!(STRIPES == tracker::STRIPES);

/// The tracker of one `DiskCache`, which is notified of every write through it.
#[derive(Debug, Default)]
pub(super) struct DirectoryTracker(pub(super) Tracker);

impl DirectoryTracker {
    fn invalidate(&self, written: &WrittenStripes) {
        match written {
            WrittenStripes::None => {}
            WrittenStripes::One(stripe) => self.0.invalidate(*stripe),
            WrittenStripes::Several(stripes) => stripes.iter().for_each(|stripe| self.0.invalidate(stripe)),
            WrittenStripes::All => self.0.start_generation(),
        }
    }
}

impl CommitObserver for DirectoryTracker {
    fn committing(&self, written: &WrittenStripes) {
        // From here on others may see the new state, so copies of the old one must not be served.
        if !(is_off("epoch_before_commit") || is_unstamped_batch(written)) {
            self.invalidate(written);
        }
    }

    fn committed(&self, written: &WrittenStripes) -> Epochs {
        // A copy that was read since the write began may be from before the commit.
        if !(is_off("epoch_after_commit") || is_unstamped_batch(written)) {
            self.invalidate(written);
        }
        match written {
            WrittenStripes::None | WrittenStripes::All => Epochs::None,
            WrittenStripes::One(stripe) => Epochs::One(*stripe, self.0.epoch(*stripe)),
            WrittenStripes::Several(stripes) => {
                Epochs::Several(stripes.iter().map(|stripe| (stripe, self.0.epoch(stripe))).collect())
            }
        }
    }
}

/// Whether the keys of a batch are not invalidated, in a test of the tests.
fn is_unstamped_batch(written: &WrittenStripes) -> bool {
    is_off("batch_stamp") && matches!(written, WrittenStripes::Several(_) | WrittenStripes::All)
}
