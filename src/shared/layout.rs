//! The layout of the file, in words of eight bytes, little endian.
//!
//! ```text
//! header         512 words   what the file is; the retired flag and the generation; sums of hits and misses
//! version words  65,536      one for the keys of some hashes: odd while one of them is written
//! tag words      4,096       a tag's version, by the tag's hash
//! stripe         repeated, each filled up to a page
//!   head         64          line 0: the writers' lock, holder
//!                            line 1: the tails of both logs, the only words of the head that readers load
//!                            line 2: the heads, and sums: live words, entries, leases
//!                            line 3: the largest records of this lap and the one before, the last lease's number
//!                            line 4: counters
//!                            line 5: what waiters for leases wait on
//!   index        buckets of 8 slots, a cache line each
//!   log 0        probation, a tenth
//!   log 1        main
//!
//! slot           tag of the hash 12 (never 0) | log 1 | used 2 | place 49            0: never used
//! record         meta (words 32 | key kind 8 | value kind 8 | tags 8 | leased 1 | bytes that fill up the value's last word 3 |
//!                dead 1 | – 2 | pad 1), key (half of its hash 32 | length 32), deadline, then for each tag a word (tag 12 | version 52), then for a lease
//!                three (owner, number, deadline), then key and value, each filled up to a word
//! ```
//!
//! The version of the layout is part of the file's name and of the header. It changes with the layout, the
//! hash, the kinds that the bindings write, and the C library, whose mutex is in the file.

use crate::error::{Error, Result};
use crate::record::LARGEST_LENGTH;
use crate::writers_lock::{Lock, WritersLock};

/// The first word of every segment.
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"flexshm\x01");

/// The number of the layout. It includes the kind of lock, its size, and its C library.
pub(crate) const LAYOUT: u64 = 3 | Lock::LAYOUT;

/// The words of a page.
pub(crate) const PAGE: usize = 512;

/// Words of the header.
pub(crate) mod header {
    pub(crate) const MAGIC: usize = 0;
    pub(crate) const LAYOUT: usize = 1;
    pub(crate) const STRIPES: usize = 2;
    pub(crate) const BUCKETS: usize = 3;
    pub(crate) const LOG_0: usize = 4;
    pub(crate) const LOG_1: usize = 5;
    pub(crate) const VERSIONS: usize = 6;
    pub(crate) const LARGEST: usize = 7;
    pub(crate) const KEY_0: usize = 8;
    pub(crate) const KEY_1: usize = 9;
    pub(crate) const BOOT: usize = 10;
    pub(crate) const NAMESPACE: usize = 11;
    /// The hash of all words before it.
    pub(crate) const CHECK: usize = 12;
    /// 1 once all processes must leave the file. It is on a cache line that is seldom written.
    pub(crate) const RETIRED: usize = 16;
    /// The generation: a part of every stamp, which grows when a tag is evicted and is odd meanwhile. Only
    /// the holder of the first stripe's lock writes it. It is on the same cache line, as both words are read
    /// together.
    pub(crate) const GENERATION: usize = 17;
    pub(crate) const HITS: usize = 24;
    pub(crate) const MISSES: usize = 25;
    /// Evictions of tags.
    pub(crate) const EVICTIONS: usize = 32;
    pub(crate) const WORDS: usize = super::PAGE;
}

/// Words of a stripe's head.
pub(crate) mod head {
    pub(crate) const LOCK: usize = 0;
    pub(crate) const HOLDER: usize = 7;
    pub(crate) const TAIL: usize = 8;
    pub(crate) const HEAD: usize = 16;
    /// The words of live records, which a slot names, for each log.
    pub(crate) const LIVE: usize = 18;
    pub(crate) const ENTRIES: usize = 20;
    /// The number of records that have only a lease (`LEASES`), and the words of all leased records
    /// (`LEASED`).
    pub(crate) const LEASES: usize = 21;
    pub(crate) const LEASED: usize = 22;
    pub(crate) const LARGEST: usize = 24;
    pub(crate) const LARGEST_BEFORE: usize = 26;
    pub(crate) const LEASE_NUMBER: usize = 28;
    pub(crate) const RESETS: usize = 32;
    pub(crate) const EVICTED: usize = 33;
    pub(crate) const MOVED: usize = 34;
    pub(crate) const PROMOTED: usize = 35;
    pub(crate) const CROWDED: usize = 36;
    pub(crate) const FORCED: usize = 37;
    pub(crate) const DAMAGED: usize = 38;
    pub(crate) const WAKE: usize = 40;
    pub(crate) const WORDS: usize = 64;
    const _: () = assert!(
        <super::Lock as super::WritersLock>::WORDS <= HOLDER,
        "the holder's word is none of the lock's"
    );
}

/// Slots of a bucket, which is a cache line. A key may be in two buckets.
pub(crate) const WAYS: usize = 8;

/// The bits of a slot that are a place in a log.
pub(crate) const PLACE_BITS: u32 = 49;
pub(crate) const PLACE: u64 = (1 << PLACE_BITS) - 1;
/// One use, as it is added to a slot.
pub(crate) const USE: u64 = 1 << PLACE_BITS;
/// The bits that count uses.
pub(crate) const USED: u64 = 3 << PLACE_BITS;
pub(crate) const LOG_BIT: u32 = 51;
pub(crate) const TAG_SHIFT: u32 = 52;

/// The tag of a hash, as it is in a slot.
#[inline(always)]
pub(crate) fn tag_of(hash: u64) -> u64 {
    (hash >> 36 & 0xFFF) | 1
}

/// The log and the place that a slot names.
#[inline(always)]
pub(crate) fn named(word: u64) -> (usize, u64) {
    ((word >> LOG_BIT & 1) as usize, word & PLACE)
}

/// The most stripes.
pub(crate) const MOST_STRIPES: usize = 64;
/// The least words of a stripe, unless there is only one.
const LEAST_STRIPE: usize = (1 << 20) / 8;
/// Version words of a segment of 16 MiB or more. A smaller one has fewer, so that they are 1/32 of it.
pub(crate) const MOST_VERSIONS: usize = 65_536;
/// Words of the tag table.
pub(crate) const TAGS: usize = 4096;
/// The default of the largest entry. Storing a larger one may have to evict thousands of others.
const USUAL_LARGEST: usize = (1 << 20) / 8;
/// The least segment, in bytes.
pub(crate) const LEAST_BYTES: usize = 256 << 10;
/// The largest segment, in bytes. Places and offsets in it are far from overflow.
pub(crate) const MOST_BYTES: usize = 1 << 42;

/// The numbers from which the sizes of all parts of a segment follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub(crate) stripes: usize,
    /// Buckets of a stripe.
    pub(crate) buckets: usize,
    /// Words of each log of a stripe.
    pub(crate) logs: [usize; 2],
    /// Version words, of all stripes.
    pub(crate) versions: usize,
    /// Words of the largest record.
    pub(crate) largest: usize,
}

impl Geometry {
    /// The geometry of a segment of at most `max_bytes`, for entries of `expected_item` bytes on average and `max_item` at
    /// most.
    pub(crate) fn new(max_bytes: usize, expected_item: usize, max_item: Option<usize>) -> Result<Self> {
        if !(LEAST_BYTES..=MOST_BYTES).contains(&max_bytes) {
            return Err(Error::OutOfRange {
                argument: "max_bytes",
                value: max_bytes.to_string(),
                allowed: format!("from {LEAST_BYTES} to {MOST_BYTES}"),
            });
        }
        let words = max_bytes / 8 / PAGE * PAGE;
        let versions = (1_usize << (words / 32).ilog2()).min(MOST_VERSIONS);
        let words = words - header::WORDS - versions - TAGS;
        let mut stripes = 1;
        while stripes < MOST_STRIPES && words / (stripes * 2) >= LEAST_STRIPE {
            stripes *= 2;
        }
        loop {
            let geometry = Self::with_stripes(words, stripes, versions, expected_item);
            let Some(max_item) = max_item else { return Ok(geometry) };
            let largest = max_item.div_ceil(8);
            if largest <= geometry.most() {
                return Ok(Self { largest: largest.max(64), ..geometry });
            }
            if stripes == 1 {
                return Err(Error::OutOfRange {
                    argument: "max_item",
                    value: max_item.to_string(),
                    allowed: format!("at most {} for max_bytes={max_bytes}", geometry.most() * 8),
                });
            }
            stripes /= 2;
        }
    }

    fn with_stripes(words: usize, stripes: usize, versions: usize, expected_item: usize) -> Self {
        let stripe = words / stripes / PAGE * PAGE;
        // Half of the slots remember evicted keys. With fewer slots there would be fewer hits, and entries
        // that find no slot.
        let expected = expected_item.clamp(48, stripe * 8 / 8);
        let entries = stripe * 8 / (expected + 16);
        let buckets = (entries * 2).div_ceil(WAYS).max(4);
        let logs = stripe - head::WORDS - buckets * WAYS;
        let probation = logs / 10;
        let main = logs - probation;
        Self { stripes, buckets, logs: [probation, main], versions, largest: USUAL_LARGEST.min(main / 4) }
    }

    /// The words that the largest record may have.
    fn most(&self) -> usize {
        (self.logs[1] / 4).min(LARGEST_LENGTH / 8)
    }

    /// The words of a stripe, rounded up to whole pages.
    #[inline(always)]
    pub(crate) fn stripe_words(&self) -> usize {
        (head::WORDS + self.buckets * WAYS + self.logs[0] + self.logs[1]).next_multiple_of(PAGE)
    }

    /// The first word of the first stripe.
    #[inline(always)]
    pub(crate) fn first_stripe(&self) -> usize {
        header::WORDS + self.versions + TAGS
    }

    /// The words of the segment.
    pub(crate) fn words(&self) -> usize {
        self.first_stripe() + self.stripes * self.stripe_words()
    }

    /// The geometry in a header, or `None` if this crate would not make it. Every size is checked before it
    /// is used.
    pub(crate) fn from_header(read: impl Fn(usize) -> u64) -> Option<Self> {
        let size = |word| usize::try_from(read(word)).ok().filter(|&size| size <= MOST_BYTES / 8);
        let geometry = Self {
            stripes: size(header::STRIPES)?,
            buckets: size(header::BUCKETS)?,
            logs: [size(header::LOG_0)?, size(header::LOG_1)?],
            versions: size(header::VERSIONS)?,
            largest: size(header::LARGEST)?,
        };
        let sane = geometry.stripes.is_power_of_two()
            && geometry.stripes <= MOST_STRIPES
            && (1..1 << 32).contains(&geometry.buckets)
            && geometry.versions.is_power_of_two()
            && (geometry.stripes..=MOST_VERSIONS).contains(&geometry.versions)
            && geometry.logs[0] >= 16
            && geometry.logs[1] >= 64
            && (16..=geometry.most()).contains(&geometry.largest);
        sane.then_some(geometry)
    }

    /// The stripe of a hash.
    #[inline(always)]
    pub(crate) fn stripe_of(&self, hash: u64) -> usize {
        (hash >> 52) as usize & self.stripes.wrapping_sub(1)
    }

    /// The version words of each stripe. Both numbers are powers of two, and a division would cost as much as a lookup.
    #[inline(always)]
    pub(crate) fn versions_each(&self) -> usize {
        self.versions.wrapping_shr(self.stripes.trailing_zeros())
    }

    /// The version word of a hash, which is one of its stripe.
    #[inline(always)]
    pub(crate) fn version_of(&self, hash: u64) -> usize {
        version_in(self.stripe_of(hash), self.versions_each(), hash)
    }
}

/// The version word of a hash whose stripe is known, if each stripe has `each` of them.
#[inline(always)]
pub(crate) fn version_in(stripe: usize, each: usize, hash: u64) -> usize {
    stripe.wrapping_mul(each).wrapping_add((hash >> 20) as usize & each.wrapping_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_is_never_larger_than_asked_for_and_little_smaller() {
        for bytes in [LEAST_BYTES, 300_000, 1 << 20, 5_000_000, 64 << 20, (1 << 30) + 12_345] {
            for item in [0, 64, 128, 1000, 100_000, usize::MAX / 2] {
                let geometry = Geometry::new(bytes, item, None).expect("in range");
                assert!(geometry.words() * 8 <= bytes, "{bytes} {item}: {geometry:?}");
                assert!(
                    geometry.words() * 8 + geometry.stripes * 4096 + 4096 > bytes * 99 / 100,
                    "{bytes} {item}"
                );
                let words = [0, 0, geometry.stripes, geometry.buckets, geometry.logs[0], geometry.logs[1]];
                let read = |word: usize| match word {
                    header::VERSIONS => geometry.versions as u64,
                    header::LARGEST => geometry.largest as u64,
                    word => words[word] as u64,
                };
                assert_eq!(Geometry::from_header(read), Some(geometry));
            }
        }
    }

    #[test]
    fn a_large_item_lowers_the_number_of_stripes() {
        let usual = Geometry::new(64 << 20, 128, None).expect("in range");
        assert_eq!((usual.stripes, usual.versions), (32, 65_536));
        let large = Geometry::new(64 << 20, 128, Some(4 << 20)).expect("in range");
        assert!(large.stripes < usual.stripes && large.largest * 8 >= 4 << 20, "{large:?}");
        let error = Geometry::new(64 << 20, 128, Some(60 << 20)).expect_err("larger than a log");
        assert!(error.to_string().contains("max_item is 62914560"), "{error}");
        // The length of a record's parts has 32 bits.
        let error = Geometry::new(64 << 30, 128, Some(4 << 30)).expect_err("too large for a length");
        assert!(error.to_string().contains("at most 4294967288"), "{error}");
        assert!(Geometry::new(1000, 128, None).is_err() && Geometry::new(usize::MAX, 128, None).is_err());
    }

    #[test]
    fn a_version_word_belongs_to_one_stripe() {
        let geometry = Geometry::new(8 << 20, 128, None).expect("in range");
        for hash in (0..100_000_u64).map(|n| n.wrapping_mul(0x9E37_79B9_7F4A_7C15)) {
            let each = geometry.versions / geometry.stripes;
            assert_eq!(geometry.version_of(hash) / each, geometry.stripe_of(hash));
        }
    }
}
