//! Tags: the record of an entry has the versions of its tags, and the entry counts as absent as soon as one
//! of the tags has another version. The top of `stripe.rs` explains the effect on copies in other caches.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use crate::cache::SharedCache;
use crate::clock::Now;
use crate::error::Result;
use crate::hold::next_even;
use crate::layout::header;
use crate::lookup;
use crate::record::Tag;
use crate::segment::Patience;
use crate::stall::{self, Point};

impl SharedCache {
    /// The tag with its current version, for entries whose value is computed after this call.
    ///
    /// # Errors
    ///
    /// As `get`.
    pub fn tag(&self, name: &[u8], patience: Patience) -> Result<Tag> {
        self.segment_with(patience, |segment, _| {
            let at = segment.hash_of(name) >> 52;
            let version = segment.tags()[at as usize].load(Acquire) & lookup::TAG_VERSION;
            Ok(Tag(at << 52 | version))
        })
    }

    /// Makes every entry that was stored with this tag absent. Sometimes this affects entries of another tag,
    /// as tags share 4,096 version words. All copies in other caches are no longer current, whatever their
    /// tags. Returns the number of live entries that were removed.
    ///
    /// Costs a few stores under the lock of the first stripe, and a scan of all entries without a lock, to
    /// count them. If the process dies between the stores, no copy stays current.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`](crate::Error::Busy) or [`Error::Timeout`](crate::Error::Timeout) for the lock. Nothing has changed then.
    pub fn evict_tag(&self, name: &[u8], patience: Patience) -> Result<u64> {
        self.segment_with(patience, |segment, _| {
            let at = segment.hash_of(name) >> 52;
            let tag = &segment.tags()[at as usize];
            let generation = segment.generation();
            let (before, _) = segment.write_stripe(0, patience, |_| {
                // The addition to the tag below has release ordering, so this store comes before the tag's
                // new version.
                generation.store(generation.load(Relaxed) | 1, Relaxed);
                stall::at(Point::EvictionBegun);
                // The count comes first. A reader that sees the tag's new version then also sees that there was
                // an eviction.
                segment.words()[header::EVICTIONS].fetch_add(1, AcqRel);
                let before = tag.fetch_add(1, AcqRel);
                stall::at(Point::TagMoved);
                generation.store(next_even(generation.load(Relaxed)), Release);
                Ok(before)
            })?;
            // The entries are counted afterwards, by the version that this call has ended, so concurrent
            // calls count different entries.
            let ended = Tag(at << 52 | before & lookup::TAG_VERSION);
            let now = Now::default();
            Ok(segment.stripes().map(|stripe| stripe.count_ended(ended, segment.tags(), &now)).sum())
        })
    }

    /// The number of evictions of tags. While this number does not change, no tag's version changes.
    ///
    /// # Errors
    ///
    /// As `get`.
    pub fn evictions(&self, patience: Patience) -> Result<u64> {
        self.segment_with(patience, |segment, _| Ok(segment.words()[header::EVICTIONS].load(Acquire)))
    }

    /// Whether a tag still has this version.
    ///
    /// # Errors
    ///
    /// As `get`.
    pub fn is_tag_current(&self, tag: Tag, patience: Patience) -> Result<bool> {
        self.segment_with(patience, |segment, _| Ok(lookup::is_current(tag, segment.tags())))
    }
}
