//! Which copies of a directory's entries may still be served.

use flexcache_core::tracker::Tracker;
use flexcache_disk::{CommitObserver, Epochs, STRIPES, WrittenStripes};

use crate::py::store::rule_switch::is_off;

/// The tracker of one `DiskCache`, which is notified of every write through it.
#[derive(Debug, Default)]
pub(super) struct DirectoryTracker(pub(super) Tracker);

impl CommitObserver for DirectoryTracker {
    fn committing(&self, written: WrittenStripes) {
        // From here on others may see the new state, so nobody is served the old one.
        if !(is_off("epoch_before_commit") || is_unstamped_batch(written)) {
            self.0.invalidate(written.0);
        }
    }

    fn committed(&self, written: WrittenStripes) -> Epochs {
        // What was read since the write began may be from before the commit.
        if !(is_off("epoch_after_commit") || is_unstamped_batch(written)) {
            self.0.invalidate(written.0);
        }
        match written.0.count_ones() {
            0 => Epochs::None,
            1 => {
                let stripe = written.0.trailing_zeros() as usize;
                Epochs::One(stripe, self.0.epoch(stripe))
            }
            _ => {
                let mut epochs = Box::new([0; STRIPES]);
                for (stripe, epoch) in epochs.iter_mut().enumerate() {
                    *epoch = self.0.epoch(stripe);
                }
                Epochs::Many(epochs)
            }
        }
    }
}

/// Whether the keys of a batch are not invalidated, in a test of the tests.
fn is_unstamped_batch(written: WrittenStripes) -> bool {
    is_off("batch_stamp") && written.0.count_ones() > 1
}
