//! Least frequently used, with exact counts and without aging: a chain of buckets in order of their counts,
//! each with a list of the entries that have this count.
//!
//! Among equal counts, the entry that has had its count for the longest time is evicted first. A count never
//! falls, so an entry that was once hot stays; [`Lfu`](super::Lfu) ages its counts.

use super::{Entries, Policy};
use crate::column::Column;
use crate::list::{Links, List};
use crate::memory::{OutOfMemory, TryClone, copied};
use crate::slot::Slot;

/// The bucket before the first, which holds no entry.
const HEAD: usize = 0;

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    count: u64,
    entries: List,
    previous: usize,
    next: usize,
}

/// Evicts the entry that was used least often.
#[derive(Debug)]
pub struct ExactLfu {
    links: Column<Links>,
    /// The bucket that each entry is in.
    bucket_of: Column<usize>,
    /// A ring through `HEAD`. Vacant buckets are a chain through `next`.
    buckets: Vec<Bucket>,
    /// The first vacant bucket, or `HEAD`.
    vacant: usize,
    len: usize,
}

impl ExactLfu {
    /// The bucket for a count, which belongs behind `previous`: the next one if it has that count, otherwise
    /// a new one.
    #[inline]
    fn bucket_behind(&mut self, previous: usize, count: u64) -> usize {
        let next = self.buckets[previous].next;
        if next != HEAD && self.buckets[next].count == count {
            return next;
        }
        let new = Bucket { count, entries: List::default(), previous, next };
        let at = match self.vacant {
            HEAD => {
                self.buckets.push(new);
                self.buckets.len() - 1
            }
            vacant => {
                self.vacant = self.buckets[vacant].next;
                self.buckets[vacant] = new;
                vacant
            }
        };
        self.buckets[previous].next = at;
        self.buckets[next].previous = at;
        at
    }

    #[inline]
    fn link(&mut self, slot: Slot, bucket: usize) {
        self.bucket_of.set(slot, bucket);
        self.buckets[bucket].entries.push_back(&mut self.links, slot);
    }

    /// Takes an entry out, and its bucket too if that is empty then.
    #[inline]
    fn unlink(&mut self, slot: Slot) {
        let at = self.bucket_of.get(slot);
        let bucket = &mut self.buckets[at];
        bucket.entries.unlink(&mut self.links, slot);
        if bucket.entries.is_empty() {
            let Bucket { previous, next, .. } = *bucket;
            bucket.next = self.vacant;
            self.vacant = at;
            self.buckets[previous].next = next;
            self.buckets[next].previous = previous;
        }
    }

    fn chain(&self) -> impl Iterator<Item = &Bucket> {
        let next = |bucket: &&Bucket| (bucket.next != HEAD).then(|| &self.buckets[bucket.next]);
        std::iter::successors(self.buckets.first(), next).skip(1)
    }
}

impl Policy for ExactLfu {
    fn new(capacity: usize, _seed: u64) -> Self {
        Self {
            links: Column::new(capacity),
            bucket_of: Column::new(capacity),
            buckets: Vec::new(),
            vacant: HEAD,
            len: 0,
        }
    }

    #[inline]
    fn try_reserve(&mut self, slot: Slot, _entries: &impl Entries) -> Result<(), OutOfMemory> {
        // The head, a bucket for each entry with the new one, and one more while an entry moves on.
        let needed = self.len + 3;
        if self.buckets.capacity() < needed {
            self.buckets.try_reserve(needed - self.buckets.len())?;
        }
        self.links.try_reserve(slot)?;
        self.bucket_of.try_reserve(slot)
    }

    #[inline]
    fn on_insert(&mut self, slot: Slot, _hash: u64) {
        if self.buckets.is_empty() {
            self.buckets.push(Bucket::default());
        }
        self.len += 1;
        let bucket = self.bucket_behind(HEAD, 1);
        self.link(slot, bucket);
    }

    #[inline]
    fn on_access(&mut self, slot: Slot, _hash: u64) {
        let at = self.bucket_of.get(slot);
        let Bucket { count, next, entries, .. } = self.buckets[at];
        let count = count.saturating_add(1);
        let alone = entries.front() == entries.back();
        if alone && (next == HEAD || self.buckets[next].count != count) {
            self.buckets[at].count = count;
            return;
        }
        let behind = self.bucket_behind(at, count);
        self.unlink(slot);
        self.link(slot, behind);
    }

    #[inline]
    fn on_remove(&mut self, slot: Slot) {
        self.unlink(slot);
        self.len -= 1;
    }

    #[inline]
    fn victim(&mut self, _entries: &impl Entries) -> Option<Slot> {
        self.chain().next()?.entries.front()
    }

    fn order(&self, _entries: impl Entries) -> impl Iterator<Item = Slot> {
        self.chain().flat_map(|bucket| bucket.entries.iter(&self.links))
    }

    fn rank(&self, slot: Slot, _hash: u64) -> u64 {
        self.buckets[self.bucket_of.get(slot)].count
    }

    /// O(1) if the rank is the highest so far, as in a copy that is made in order of eviction.
    fn restore(&mut self, slot: Slot, _hash: u64, rank: u64) {
        self.unlink(slot);
        let rank = rank.max(1);
        let mut previous = self.buckets[HEAD].previous;
        while previous != HEAD && self.buckets[previous].count > rank {
            previous = self.buckets[previous].previous;
        }
        let bucket = if previous != HEAD && self.buckets[previous].count == rank {
            previous
        } else {
            self.bucket_behind(previous, rank)
        };
        self.link(slot, bucket);
    }

    fn allocated_bytes(&self) -> usize {
        self.links.allocated_bytes()
            + self.bucket_of.allocated_bytes()
            + self.buckets.capacity() * size_of::<Bucket>()
    }

    fn check(&self, len: usize) -> Result<(), String> {
        let (mut total, mut last) = (0, 0);
        for bucket in self.chain() {
            if bucket.count <= last || bucket.entries.is_empty() {
                return Err(format!("the bucket of {} is empty or misplaced", bucket.count));
            }
            last = bucket.count;
            total += bucket
                .entries
                .count(&self.links, len)
                .ok_or_else(|| format!("the list of {} is broken", bucket.count))?;
            for slot in bucket.entries.iter(&self.links) {
                if self.buckets[self.bucket_of.get(slot)].count != bucket.count {
                    return Err(format!("{slot:?} is in the bucket of {}", bucket.count));
                }
            }
        }
        if total == len && self.len == len {
            Ok(())
        } else {
            Err(format!("the buckets hold {total}, the count is {}, of {len} entries", self.len))
        }
    }
}

impl TryClone for ExactLfu {
    fn try_clone(&self) -> Result<Self, OutOfMemory> {
        let mut buckets = copied(&self.buckets)?;
        // As many vacant ones as `try_reserve` promised to the entries that are here.
        buckets.try_reserve((self.len + 3).saturating_sub(buckets.len()))?;
        Ok(Self {
            links: self.links.try_clone()?,
            bucket_of: self.bucket_of.try_clone()?,
            buckets,
            vacant: self.vacant,
            len: self.len,
        })
    }
}
