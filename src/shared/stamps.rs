//! Stamps, which tell whether copies of values in other caches are current. The top of `stripe.rs` explains
//! why they are correct.

use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::sync::atomic::fence;

use crate::cache::SharedCache;
use crate::error::Result;
use crate::layout::MOST_VERSIONS;
use crate::lookup;
use crate::record::{Key, Value};
use crate::segment::Patience;
use crate::terms::{Entry, Stamp, Stamped, Written};

/// The positions of the version and the segment in a stamp that is kept as a number.
const VERSION_SHIFT: u32 = 16;
const SEGMENT_SHIFT: u32 = 56;
/// The bits of a version that such a number has.
const STAMPED: u64 = (1 << (SEGMENT_SHIFT - VERSION_SHIFT)) - 1;

impl SharedCache {
    /// Reads a key's value like [`SharedCache::get`], for a copy in another cache. Also returns the stamp
    /// under which the copy may be kept; none while the key is being written.
    ///
    /// # Errors
    ///
    /// As `get`.
    pub fn get_stamped<R>(
        &self,
        key: Key<'_>,
        patience: Patience,
        mut make: impl FnMut(Value<'_>) -> Result<R>,
    ) -> Result<Stamped<R>> {
        self.segment_with(patience, |segment, number| {
            let hash = segment.hashed(&key).hash;
            let word = segment.version(hash);
            let generation = segment.steady_generation();
            let before = word.load(Acquire);
            let read = segment.read(key, &mut make)?;
            fence(Acquire);
            let is_steady = before & 1 == 0
                && word.load(Relaxed) == before
                && !segment.is_retired()
                && !segment.is_lost();
            let version = generation.filter(|_| is_steady).map(|generation| before.wrapping_add(generation));
            let stamp = Self::stamp(number, hash, version);
            Ok((read.map(|(result, seen)| (result, seen.deadline)), stamp))
        })
    }

    /// Whether a copy with this stamp is still current. Costs a few loads.
    #[inline]
    #[must_use]
    pub fn is_current(&self, stamp: &Stamp) -> bool {
        let link = self.link();
        link.number == stamp.segment
            && !link.segment.is_retired()
            && link.segment.version_now(stamp.hash) == stamp.version
            && !link.segment.is_lost()
    }

    /// The stamp for a value of the key that is read after this call; none while the key is being written.
    ///
    /// # Errors
    ///
    /// As `get`.
    pub fn stamp_of(&self, key: Key<'_>, patience: Patience) -> Result<Option<Stamp>> {
        self.segment_with(patience, |segment, number| {
            let hash = segment.hashed(&key).hash;
            let generation = segment.steady_generation();
            let word = segment.version(hash).load(Acquire);
            let version =
                generation.filter(|_| word & 1 == 0).map(|generation| word.wrapping_add(generation));
            Ok(Self::stamp(number, hash, version))
        })
    }

    /// [`SharedCache::is_current`] for a stamp that is kept as a number.
    #[inline]
    #[must_use]
    pub fn is_current_in_bits(&self, bits: u64) -> bool {
        let link = self.link();
        let segment = (bits >> SEGMENT_SHIFT) as usize;
        let Some(version) = link.segment.version_at(bits as usize & (MOST_VERSIONS - 1)) else {
            return false;
        };
        segment == link.number + 1
            && !link.segment.is_retired()
            && version.load(Acquire).wrapping_add(link.segment.generation().load(Acquire)) & STAMPED
                == bits >> VERSION_SHIFT & STAMPED
            && !link.segment.is_lost()
    }

    /// A stamp as a number, which is not 0: the index of the version word, 40 bits of the version, and the
    /// segment. `None` if it does not fit, after 254 segments.
    ///
    /// The version must not wrap around while a copy is kept, which takes 2^39 writes.
    #[must_use]
    pub fn bits(&self, stamp: &Stamp) -> Option<u64> {
        let link = self.link();
        let index = link.segment.geometry().version_of(stamp.hash) as u64;
        (link.number == stamp.segment && stamp.segment < 255).then_some(
            index | (stamp.version & STAMPED) << VERSION_SHIFT | (stamp.segment as u64 + 1) << SEGMENT_SHIFT,
        )
    }

    /// The result of a write of an entry, without the stamp if one of the entry's tags was evicted since its
    /// version was taken. An eviction that is not visible here yet will still change the generation.
    #[inline(always)]
    pub(crate) fn holding_tags<R>(&self, written: Written<R>, entry: &Entry<'_>) -> Written<R> {
        if entry.tags.is_empty() {
            return written;
        }
        // If the segment was replaced since, its stamps are no longer current in any case.
        let tags = self.link().segment.tags();
        let holds = entry.tags.iter().all(|&tag| lookup::is_current(tag, tags));
        Written { stamp: written.stamp.filter(|_| holds), ..written }
    }

    #[inline(always)]
    pub(crate) fn stamp(segment: usize, hash: u64, version: Option<u64>) -> Option<Stamp> {
        version.map(|version| Stamp { segment, hash, version })
    }
}
