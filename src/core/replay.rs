//! Replays a trace: how many hits a policy of a certain size would have had in a sequence of accesses, and
//! how many the best possible one.
//!
//! Every function takes a closure `go_on`. It is called from time to time with the number of accesses since
//! its last call, and returns whether to go on; if it returns false, the function returns `None`. Every
//! function fails if there is not enough memory.
//!
//! ```
//! use flexcache_core::{Limits, policy::Lru, replay::{lru_hits, optimum, replay}};
//!
//! let keys = [0, 1, 2, 0, 1, 2];
//! let to_the_end = || |_| true;
//! let outcome = replay::<Lru>(&keys, None, Limits::new(2, 0), 1, &mut to_the_end());
//! assert_eq!(outcome?.map(|outcome| outcome.hits), Some(0));
//! assert_eq!(lru_hits(&keys, &[2, 3], &mut to_the_end())?, Some(vec![0, 3]));
//! assert_eq!(optimum(&keys, 2, &mut to_the_end())?, Some(2));
//! # Ok::<(), flexcache_core::OutOfMemory>(())
//! ```

use std::collections::BinaryHeap;
use std::convert::Infallible;

use crate::clock::ManualClock;
use crate::error::Error;
use crate::memory::{OutOfMemory, filled};
use crate::policy::Policy;
use crate::store::{EntryStore, Limits, New, RemovalSink, Removed};

/// The result of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Accesses that found their key.
    pub hits: u64,
    /// The sum of the weights of these accesses; 0 if no weights were given.
    pub weight_hit: u64,
    /// Accesses of entries that are heavier than the whole cache.
    pub refused: u64,
    /// Entries at the end.
    pub entries: usize,
    /// Bytes allocated at the end.
    pub allocated_bytes: usize,
}

/// Accesses between two reports of progress.
const REPORTED: usize = 1 << 16;

/// A sink that drops every entry.
struct Nowhere;

impl RemovalSink<u32, ()> for Nowhere {
    fn push(&mut self, _departed: Removed<u32, ()>) {}
}

/// Looks up every key and stores it if it is missing, as a program would. O(n).
///
/// `weights`, if given, has one weight for each access.
///
/// # Errors
///
/// [`OutOfMemory`].
pub fn replay<P: Policy>(
    keys: &[u32],
    weights: Option<&[u64]>,
    limits: Limits,
    seed: u64,
    go_on: &mut impl FnMut(usize) -> bool,
) -> Result<Option<Outcome>, OutOfMemory> {
    let mut store = EntryStore::<u32, (), P>::new(limits, seed);
    let clock = ManualClock::default();
    let mut outcome = Outcome::default();
    for (piece, keys) in keys.chunks(REPORTED).enumerate() {
        for (at, &key) in (piece * REPORTED..).zip(keys) {
            let hash = spread(u64::from(key) ^ seed);
            let Ok(found) = store.find(hash, |&other| Ok::<_, Infallible>(other == key));
            let weight = weights.map_or(1, |weights| weights[at]);
            if let Some(slot) = found {
                store.hit(slot);
                outcome.weight_hit += weight;
            } else if weights.is_none() {
                let place = store.reserve_plain(hash)?;
                store.insert_plain(place, hash, key, ());
            } else {
                let new = New { key, value: (), weight, deadline: None };
                match store.put(None, hash, new, &clock, &mut Nowhere) {
                    Err((Error::OutOfMemory, _)) => return Err(OutOfMemory),
                    put => outcome.refused += u64::from(put.is_err()),
                }
            }
        }
        if !go_on(keys.len()) {
            return Ok(None);
        }
    }
    outcome.hits = store.stats().hits;
    outcome.weight_hit = if weights.is_some() { outcome.weight_hit } else { 0 };
    outcome.entries = store.len();
    outcome.allocated_bytes = store.allocated_bytes();
    Ok(Some(outcome))
}

fn spread(key: u64) -> u64 {
    let product = u128::from(key ^ 0x9e37_79b9_7f4a_7c15) * 0xd6e8_feb8_6659_fd93;
    #[expect(clippy::cast_possible_truncation, reason = "both halves are folded")]
    let folded = (product >> 64) as u64 ^ product as u64;
    folded
}

/// The number of different keys, which must be 0, 1, 2 and so on. …
fn distinct(keys: &[u32]) -> usize {
    keys.iter().max().map_or(0, |&most| most as usize + 1)
}

/// A row of marks of which a prefix can be counted quickly: a Fenwick tree.
struct Marks(Box<[u32]>);

impl Marks {
    /// `places` places, of which the first `marked` are marked.
    fn new(places: usize, marked: usize) -> Result<Self, OutOfMemory> {
        let mut tree = filled(0, places + 1)?;
        for at in 1..=places {
            tree[at] += u32::from(at <= marked);
            let above = at + (at & at.wrapping_neg());
            if above <= places {
                tree[above] += tree[at];
            }
        }
        Ok(Self(tree))
    }

    fn mark(&mut self, place: usize) {
        let mut at = place + 1;
        while at < self.0.len() {
            self.0[at] += 1;
            at += at & at.wrapping_neg();
        }
    }

    fn unmark(&mut self, place: usize) {
        let mut at = place + 1;
        while at < self.0.len() {
            self.0[at] -= 1;
            at += at & at.wrapping_neg();
        }
    }

    /// The number of marks up to a place, including that place.
    fn up_to(&self, place: usize) -> usize {
        let (mut at, mut count) = (place + 1, 0);
        while at > 0 {
            count += self.0[at] as usize;
            at &= at - 1;
        }
        count
    }
}

/// The hits of least-recently-used caches of all these sizes, in one pass. A cache of n entries has a hit if
/// fewer than n other keys were accessed since the last access of the key. O(n log m) for n accesses of m
/// different keys.
///
/// Keys are small numbers, the smaller the less memory is needed.
///
/// # Errors
///
/// [`OutOfMemory`].
pub fn lru_hits(
    keys: &[u32],
    sizes: &[usize],
    go_on: &mut impl FnMut(usize) -> bool,
) -> Result<Option<Vec<u64>>, OutOfMemory> {
    const NEVER: u32 = u32::MAX;
    let distinct = distinct(keys);
    // Time is counted up to this number. Then only the last access of each key is kept, and time goes on from
    // their number.
    let moments = (2 * distinct).max(1024);
    let (mut last, mut key_at) = (filled(NEVER, distinct)?, filled(NEVER, moments)?);
    let mut marks = Marks::new(moments, 0)?;
    let (mut now, mut present) = (0, 0);
    // The number of accesses at each distance; those beyond the largest size do not matter.
    let mut at_distance = filled(0_u64, sizes.iter().copied().max().unwrap_or(0).min(distinct) + 1)?;
    for keys in keys.chunks(REPORTED) {
        for &key in keys {
            if now == moments {
                let mut kept = 0;
                for at in 0..moments {
                    let key = key_at[at];
                    if key != NEVER && last[key as usize] as usize == at {
                        #[expect(clippy::cast_possible_truncation, reason = "no more than there are keys")]
                        let moment = kept as u32;
                        last[key as usize] = moment;
                        key_at[kept] = key;
                        kept += 1;
                    }
                }
                key_at[kept..].fill(NEVER);
                marks = Marks::new(moments, kept)?;
                now = kept;
            }
            let before = last[key as usize];
            if before == NEVER {
                present += 1;
            } else {
                let distance = present - marks.up_to(before as usize) + 1;
                if let Some(count) = at_distance.get_mut(distance) {
                    *count += 1;
                }
                marks.unmark(before as usize);
            }
            marks.mark(now);
            key_at[now] = key;
            #[expect(clippy::cast_possible_truncation, reason = "twice the number of keys, or a thousand")]
            let moment = now as u32;
            last[key as usize] = moment;
            now += 1;
        }
        if !go_on(keys.len()) {
            return Ok(None);
        }
    }
    let hits = |&size: &usize| at_distance.iter().take(size.saturating_add(1)).sum();
    Ok(Some(sizes.iter().map(hits).collect()))
}

/// The most hits that any policy could have had in a cache of `entries` entries. This is Belady's optimum,
/// which keeps the keys that are needed soonest, and does not store a key that is needed later than all
/// those. O(n log n).
///
/// Keys are small numbers, the smaller the less memory is needed.
///
/// # Errors
///
/// [`OutOfMemory`].
pub fn optimum(
    keys: &[u32],
    entries: usize,
    go_on: &mut impl FnMut(usize) -> bool,
) -> Result<Option<u64>, OutOfMemory> {
    const NEVER: usize = usize::MAX;
    const ABSENT: usize = usize::MAX - 1;
    let distinct = distinct(keys);
    let (mut following, mut next) = (filled(NEVER, distinct)?, filled(NEVER, keys.len())?);
    for (at, &key) in keys.iter().enumerate().rev() {
        next[at] = std::mem::replace(&mut following[key as usize], at);
    }
    // When each key that is present is needed next; [`ABSENT`] for others.
    let mut needed = filled(ABSENT, distinct)?;
    let mut queue = BinaryHeap::new();
    let (mut present, mut hits) = (0, 0);
    for (at, &key) in keys.iter().enumerate() {
        if at % REPORTED == REPORTED - 1 && !go_on(REPORTED) {
            return Ok(None);
        }
        if needed[key as usize] == ABSENT {
            present += 1;
        } else {
            hits += 1;
        }
        needed[key as usize] = next[at];
        queue.try_reserve(1)?;
        queue.push((next[at], key));
        while present > entries {
            // The queue also has outdated items, of keys that were accessed since; they do not count.
            let Some((when, victim)) = queue.pop() else { break };
            if needed[victim as usize] == when {
                needed[victim as usize] = ABSENT;
                present -= 1;
            }
        }
    }
    Ok(go_on(keys.len() % REPORTED).then_some(hits))
}
