//! Replaying a trace: what a policy of a certain size would have made of a sequence of accesses,
//! and what the best possible one would have.
//!
//! ```
//! use flexcache_core::{Limits, policy::Lru, replay::{optimum, replay}};
//!
//! let keys = [0, 1, 2, 0, 1, 2];
//! assert_eq!(replay::<Lru>(&keys, None, Limits::new(2, 0), 1).hits, 0);
//! assert_eq!(optimum(&keys, 2), 2);
//! ```

use std::collections::BinaryHeap;
use std::convert::Infallible;

use crate::clock::ManualClock;
use crate::policy::Policy;
use crate::store::{Departed, Limits, New, Sink, Store};

/// What came of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Accesses that found their key.
    pub hits: u64,
    /// What these weigh; 0 where no weights were given.
    pub weight_hit: u64,
    /// Accesses of what is heavier than the whole cache.
    pub refused: u64,
    /// Entries at the end.
    pub entries: usize,
    /// Bytes allocated at the end.
    pub allocated_bytes: usize,
}

/// Lets everything go.
struct Nowhere;

impl Sink<u32, ()> for Nowhere {
    fn push(&mut self, _departed: Departed<u32, ()>) {}
}

/// Looks up every key, storing those that are missing, as a program would. O(n).
///
/// `weights`, where given, has one for each access.
#[must_use]
pub fn replay<P: Policy>(keys: &[u32], weights: Option<&[u64]>, limits: Limits, seed: u64) -> Outcome {
    let mut store = Store::<u32, (), P>::new(limits, seed);
    let clock = ManualClock::default();
    let mut outcome = Outcome::default();
    for (at, &key) in keys.iter().enumerate() {
        let hash = spread(u64::from(key) ^ seed);
        let Ok(found) = store.find(hash, |&other| Ok::<_, Infallible>(other == key));
        let weight = weights.map_or(1, |weights| weights[at]);
        if let Some(slot) = found {
            store.hit(slot);
            outcome.weight_hit += weight;
        } else if weights.is_none() {
            store.insert_plain(hash, key, ());
        } else {
            let new = New { key, value: (), weight, deadline: None };
            outcome.refused += u64::from(store.put(None, hash, new, &clock, &mut Nowhere).is_err());
        }
    }
    outcome.hits = store.stats().hits;
    outcome.weight_hit = if weights.is_some() { outcome.weight_hit } else { 0 };
    outcome.entries = store.len();
    outcome.allocated_bytes = store.allocated_bytes();
    outcome
}

fn spread(key: u64) -> u64 {
    let product = u128::from(key ^ 0x9e37_79b9_7f4a_7c15) * 0xd6e8_feb8_6659_fd93;
    #[expect(clippy::cast_possible_truncation, reason = "both halves are folded")]
    let folded = (product >> 64) as u64 ^ product as u64;
    folded
}

/// The most hits that anything could have had in a cache of `entries`: Belady's optimum, which keeps
/// what is needed soonest, and does not store what is needed later than all that. O(n log n).
///
/// Keys are small numbers, the smaller the less memory is needed.
#[must_use]
pub fn optimum(keys: &[u32], entries: usize) -> u64 {
    const NEVER: usize = usize::MAX;
    let distinct = keys.iter().max().map_or(0, |&most| most as usize + 1);
    let mut following = vec![NEVER; distinct];
    let mut next = vec![NEVER; keys.len()];
    for (at, &key) in keys.iter().enumerate().rev() {
        next[at] = std::mem::replace(&mut following[key as usize], at);
    }
    // When each key that is present is needed next; absent ones are marked.
    const ABSENT: usize = usize::MAX - 1;
    let mut needed = vec![ABSENT; distinct];
    let mut queue = BinaryHeap::with_capacity(2 * entries.min(keys.len()));
    let (mut present, mut hits) = (0, 0);
    for (at, &key) in keys.iter().enumerate() {
        if needed[key as usize] == ABSENT {
            present += 1;
        } else {
            hits += 1;
        }
        needed[key as usize] = next[at];
        queue.push((next[at], key));
        while present > entries {
            // Of what was needed in the meantime there are older marks, which do not count.
            let Some((when, victim)) = queue.pop() else { break };
            if needed[victim as usize] == when {
                needed[victim as usize] = ABSENT;
                present -= 1;
            }
        }
    }
    hits
}
