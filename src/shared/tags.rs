//! Tags: an entry has the versions of its tags in its record, and is absent as soon as one of them has moved on. What that means for
//! copies elsewhere is said at the top of `stripe.rs`.

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
    /// The tag as it is now, for entries whose value is made from now on.
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

    /// Makes every entry that was stored with this tag absent. Now and then it meets entries of another tag, which share its
    /// place among 4,096. Copies elsewhere are no longer current, whatever their tags.
    ///
    /// Costs a few stores under the lock of the first stripe. A process that dies among them leaves no copy current.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`](crate::Error::Busy) or [`Error::Timeout`](crate::Error::Timeout) for the lock. Nothing has changed then.
    pub fn evict_tag(&self, name: &[u8], patience: Patience) -> Result<()> {
        self.segment_with(patience, |segment, _| {
            let tag = &segment.tags()[(segment.hash_of(name) >> 52) as usize];
            let generation = segment.generation();
            let (evicted, _) = segment.write_stripe(0, patience, |_| {
                // The addition to the tag, which releases, keeps it before the tag's new version.
                generation.store(generation.load(Relaxed) | 1, Relaxed);
                stall::at(Point::EvictionBegun);
                // The count comes first. A reader that sees the tag's new version then also sees that there was
                // an eviction.
                segment.words()[header::EVICTIONS].fetch_add(1, AcqRel);
                tag.fetch_add(1, AcqRel);
                stall::at(Point::TagMoved);
                generation.store(next_even(generation.load(Relaxed)), Release);
                Ok(())
            })?;
            Ok(evicted)
        })
    }

    /// How many live entries have the tag. Looks at every entry, without a lock.
    ///
    /// # Errors
    ///
    /// As `get`.
    pub fn count_tagged(&self, name: &[u8], patience: Patience) -> Result<u64> {
        self.segment_with(patience, |segment, _| {
            let at = (segment.hash_of(name) >> 52) as usize;
            let now = Now::default();
            Ok(segment.stripes().map(|stripe| stripe.count_tagged(at, segment.tags(), &now)).sum())
        })
    }

    /// How many tags were evicted. A tag whose version is read while this has not changed has had it all the time.
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
