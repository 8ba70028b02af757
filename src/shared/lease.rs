//! Leases: one process computes a key's value, and the others wait for it.
//!
//! A lease is a record under the key itself, so a write to the key, a `clear` or a reset ends it, as does the eviction of one
//! of its tags, and what was computed from older data is not stored. An owner that died or overran its deadline is replaced. A lease that is evicted costs one
//! more computation, never a wrong value.

use std::sync::atomic::Ordering::Acquire;
use std::time::{Duration, Instant};

use crate::cache::SharedCache;
use crate::clock;
use crate::error::{Error, Result};
use crate::layout::head;
use crate::process::Process;
use crate::record::{Key, Tag};
use crate::segment::Patience;
use crate::system;
use crate::terms::check_tags;
use crate::terms::{Entry, Written};
use crate::write::Leasing;

/// Proves that a lease is the caller's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub(crate) segment: usize,
    pub(crate) words: [u64; 2],
    /// The tags of the lease, which may differ from those of a value beside it.
    pub(crate) tags: Box<[Tag]>,
}

impl Token {
    /// The identity of the lease within its segment: its owner and its number.
    #[must_use]
    pub fn words(&self) -> [u64; 2] {
        self.words
    }
}

/// The terms of a request for a lease.
#[derive(Clone, Copy, Debug)]
pub struct LeaseTerms<'a> {
    /// How long the lease lasts.
    pub time: Duration,
    /// Whether to take the lease even if there is a live value, which stays readable meanwhile.
    pub refresh: bool,
    /// Whether to take the lease from its holder.
    pub seizes: bool,
    /// Tags whose eviction ends the lease. If there is a value, which has tags of its own, other processes
    /// notice only the eviction of those at once; the owner notices both.
    pub tags: &'a [Tag],
}

/// The answer to a request for a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lease {
    /// The key has a live value.
    Value,
    /// The caller has the lease, and should compute the value.
    Got(Token),
    /// Another process or thread has the lease.
    Taken {
        /// The process.
        owner: Option<u32>,
        /// How long the lease still lasts.
        left: Duration,
        /// The argument with which [`SharedCache::wait`] waits for its end.
        wait: Wait,
    },
}

/// The state that a waiter saw before it found the lease taken. Any end of the lease after that wakes the
/// waiter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    segment: usize,
    stripe: usize,
    seen: u64,
    lease: [u64; 2],
}

impl Wait {
    /// The identity of the lease, as [`Token::words`].
    #[must_use]
    pub fn words(&self) -> [u64; 2] {
        self.lease
    }
}

impl SharedCache {
    /// Requests the lease of a key for `time`. Takes it over from an owner that is dead or late.
    ///
    /// With `refresh`, the lease is granted even if there is a live value, which stays readable meanwhile.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`]; [`Error::Busy`] or [`Error::Timeout`] for the lock: compute without a lease then.
    pub fn lease(&self, key: Key<'_>, time: Duration, refresh: bool, patience: Patience) -> Result<Lease> {
        self.take_lease(key, &LeaseTerms { time, refresh, seizes: false, tags: &[] }, patience)
    }

    /// Requests the lease of a key under these terms.
    ///
    /// # Errors
    ///
    /// As [`SharedCache::lease`].
    pub fn take_lease(&self, key: Key<'_>, terms: &LeaseTerms<'_>, patience: Patience) -> Result<Lease> {
        check_tags(terms.tags)?;
        let LeaseTerms { time, refresh, seizes, tags } = *terms;
        let this = Process::this().word();
        self.segment_with(patience, |segment, number| {
            let key = segment.hashed(&key);
            let stripe = segment.geometry().stripe_of(key.hash);
            let mut takes_over = None;
            loop {
                // This is read before the lease, so that no end of it is missed.
                let seen = segment.stripe(stripe).head[head::WAKE].load(Acquire);
                let deadline =
                    clock::now().saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
                let (leasing, _) = segment.write(key.hash, patience, |held| {
                    held.lease(&key, [this, deadline], takes_over, refresh, tags)
                })?;
                match leasing {
                    Leasing::Value => return Ok(Lease::Value),
                    Leasing::Got { number: lease } => {
                        return Ok(Lease::Got(Token {
                            segment: number,
                            words: [this, lease],
                            tags: tags.into(),
                        }));
                    }
                    Leasing::Taken { owner, number: lease, deadline } => {
                        let process = Process::from_word(owner);
                        // Whether the owner lives is checked without the lock. Then, under the lock, the
                        // lease must still be the same.
                        let is_dead =
                            seizes || owner != this && process.is_none_or(|process| !process.is_alive());
                        if is_dead && takes_over != Some([owner, lease]) {
                            takes_over = Some([owner, lease]);
                            continue;
                        }
                        return Ok(Lease::Taken {
                            owner: process.and_then(Process::id),
                            left: Duration::from_nanos(deadline.saturating_sub(clock::now())),
                            wait: Wait { segment: number, stripe, seen, lease: [owner, lease] },
                        });
                    }
                }
            }
        })
    }

    /// Stores the value for which a lease was taken, if the lease still holds: nobody has written to the key,
    /// cleared the cache, evicted a tag of the lease or taken it over. The deadline of the lease may have
    /// passed. Returns whether it was stored.
    ///
    /// # Errors
    ///
    /// As [`SharedCache::put`].
    pub fn fill(
        &self,
        key: Key<'_>,
        token: &Token,
        entry: &Entry<'_>,
        patience: Patience,
    ) -> Result<Written<bool>> {
        entry.check()?;
        self.segment_with(patience, |segment, number| {
            if number != token.segment {
                return Ok(Written { result: false, stamp: None });
            }
            let key = segment.hashed(&key);
            let (result, version) = segment.write(key.hash, patience, |held| {
                held.fill(&key, token.words, &token.tags, &entry.content())
            })?;
            let written = Written { result, stamp: Self::stamp(number, key.hash, version) };
            Ok(self.holding_tags(written, entry))
        })
    }

    /// Ends a lease without a value, and wakes the callers that wait for it. Returns whether it was still valid.
    ///
    /// # Errors
    ///
    /// As [`SharedCache::delete`]; the lease then ends with its deadline.
    pub fn release(&self, key: Key<'_>, token: &Token, patience: Patience) -> Result<bool> {
        self.set_lease(key, token, None, patience)
    }

    /// Extends a lease to `time` from now. Returns whether it was still valid.
    ///
    /// # Errors
    ///
    /// As [`SharedCache::delete`].
    pub fn renew(&self, key: Key<'_>, token: &Token, time: Duration, patience: Patience) -> Result<bool> {
        self.set_lease(key, token, Some(time), patience)
    }

    fn set_lease(
        &self,
        key: Key<'_>,
        token: &Token,
        time: Option<Duration>,
        patience: Patience,
    ) -> Result<bool> {
        self.segment_with(patience, |segment, number| {
            if number != token.segment {
                return Ok(false);
            }
            let key = segment.hashed(&key);
            let deadline = time
                .map(|time| clock::now().saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)));
            Ok(segment
                .write(key.hash, patience, |held| held.set_lease(&key, token.words, &token.tags, deadline))?
                .0)
        })
    }

    /// Whether a lease is still the caller's: nobody has written to the key, cleared the cache, evicted a tag of the lease or
    /// taken it over.
    ///
    /// # Errors
    ///
    /// As [`SharedCache::delete`].
    pub fn has_lease(&self, key: Key<'_>, token: &Token, patience: Patience) -> Result<bool> {
        self.segment_with(patience, |segment, number| {
            let key = segment.hashed(&key);
            Ok(number == token.segment
                && segment
                    .write(key.hash, patience, |held| held.is_leased_as(&key, token.words, &token.tags))?
                    .0)
        })
    }

    /// Waits up to `limit` until a lease of another owner has ended. Returns whether it has: it was released
    /// or filled, the key was written, its deadline passed, or its owner died.
    pub fn wait_for_end(&self, key: Key<'_>, wait: &Wait, limit: Duration) -> bool {
        let started = Instant::now();
        loop {
            let seen = self.segment_with(Patience::Try, |segment, number| {
                if number != wait.segment {
                    return Ok(None);
                }
                // This is read before the lease, so that no end of it is missed.
                let seen = segment.stripe(wait.stripe).head[head::WAKE].load(Acquire);
                let key = segment.hashed(&key);
                let runs =
                    segment.write(key.hash, Patience::Try, |held| held.is_lease_running(&key, wait.lease));
                match runs {
                    Ok((runs, _)) => Ok(runs.then_some(seen)),
                    // The stripe is being written. The loop checks again.
                    Err(Error::Busy) => Ok(Some(seen)),
                    Err(error) => Err(error),
                }
            });
            // A retired segment has no leases.
            let Ok(Some(seen)) = seen else { return true };
            let process = Process::from_word(wait.lease[0]);
            if process.is_none_or(|process| !process.is_alive()) {
                return true;
            }
            let left = limit.saturating_sub(started.elapsed());
            if left.is_zero() {
                return false;
            }
            // An owner that dies wakes nobody, so the wait is short.
            self.wait(&Wait { seen, ..*wait }, left.min(Duration::from_millis(50)));
        }
    }

    /// Waits up to `limit` for the end of a lease. Returns early if another lease of the stripe ends, or on a
    /// signal: then request the lease again. An owner that dies wakes nobody, so split a long wait into short
    /// ones.
    pub fn wait(&self, wait: &Wait, limit: Duration) {
        let waited = self.segment_with(Patience::Try, |segment, number| {
            if number == wait.segment {
                system::wait(&segment.stripe(wait.stripe).head[head::WAKE], wait.seen, limit);
            }
            Ok(())
        });
        // A retired segment has no leases.
        drop(waited);
    }
}
