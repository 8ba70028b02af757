//! Leases: a lease on a key lets one computation run, among all processes that use a directory.
//!
//! Leases are in a database of their own, see [`Gates`](crate::gates::Gates). Three rules tie it to the
//! database of entries:
//!
//! * A lease is granted under the lock to write entries. So no write is in progress meanwhile: an earlier one
//!   has committed, and the holder of the lease sees it; a later one sees the lease.
//! * A write voids the leases of its keys before it commits, under the same lock. Storing the result of a
//!   computation is a write as well, which is refused if its lease is gone.
//! * If leases cannot be voided, their database is removed before the write commits, so that no computed
//!   result is stored. If that is impossible too, the write itself ends all leases, see
//!   [`Gates`](crate::gates::Gates). A write never fails because of leases.
//!
//! Lock order: entries first, then leases. Returning a lease takes only the second lock.

use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, OptionalExtension, params};

use crate::effects::TransactionEffects;
use crate::error::{Error, Result};
use crate::gates::{Gates, Link, TABLES, next_number, number_of, set_number};
use crate::owner::{has_ended, this_process};
use crate::patience::Patience;
use crate::read::bind;
use crate::row::{Key, OwnedKey};
use crate::sql::{execute, roll_back};
use crate::store::DiskStore;
use crate::version::Version;

const FIND: &str = "SELECT token, owner, expires, seconds, evictions, failed, failure, failed_until FROM Lease \
     WHERE key = ?1 AND raw = ?2";
const GIVE: &str = "INSERT INTO Lease (key, raw, token, owner, expires, seconds, tag, evictions) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, (SELECT COALESCE(MAX(number), 0) FROM Eviction)) \
     ON CONFLICT (key, raw) DO UPDATE SET token = excluded.token, owner = excluded.owner, expires = excluded.expires, \
     seconds = excluded.seconds, tag = excluded.tag, evictions = excluded.evictions";
const RELEASE: &str = "DELETE FROM Lease WHERE key = ?1 AND raw = ?2 AND token = ?3 AND owner IS ?4";
const RENEW: &str = "UPDATE Lease SET expires = ?5, seconds = ?6 \
     WHERE key = ?1 AND raw = ?2 AND token = ?3 AND owner IS ?4";
const FAIL: &str = "UPDATE Lease SET token = NULL, owner = NULL, failed = token, failure = ?5, failed_until = ?6, \
     expires = ?6 WHERE key = ?1 AND raw = ?2 AND token = ?3 AND owner IS ?4";
const VOID: &str = "DELETE FROM Lease WHERE key = ?1 AND raw = ?2";
const EVICT: &str = "INSERT OR REPLACE INTO Eviction (tag, number) \
     VALUES (?1, 1 + (SELECT COALESCE(MAX(number), 0) FROM Eviction))";

/// A lease that is taken over lasts twice as long as the one before, but at most this many seconds, unless
/// the caller asks for more.
const LONGEST_AFTER_TAKEOVER: f64 = 60.0;

/// A lease that expired this many seconds ago counts as gone.
const FORGOTTEN: f64 = 3600.0;

/// The seconds by which the clocks of two machines may differ. A lease that would last longer than twice its
/// duration plus this is from before the clock was set back.
const CLOCKS: f64 = 60.0;

/// The first and the longest pause between two checks of a lease that a caller waits for.
const PAUSES: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(16)];

/// How often a waiting caller checks whether the owner still lives.
const OWNER_CHECK: Duration = Duration::from_millis(50);

/// How often granting a lease tries to make the two databases agree on a number.
const ATTEMPTS: usize = 4;

/// Names one lease.
pub type LeaseToken = [u8; 16];

/// The terms of a request for a lease.
#[derive(Clone, Copy, Debug)]
pub struct LeaseTerms<'a> {
    /// The seconds after which it expires.
    pub seconds: f64,
    /// The tag of the entry to be computed. Evicting the entries with this tag voids the lease.
    pub tag: ValueRef<'a>,
    /// The lease that the caller has waited for.
    pub awaited: Option<LeaseToken>,
    /// Whether to take the lease from its holder.
    pub takes_over: bool,
}

/// The answer to a request for a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leased {
    /// The caller has it.
    Held,
    /// Another computation has the lease.
    Elsewhere(LeaseToken),
    /// The awaited computation has failed, with this description.
    Failed(Vec<u8>),
    /// The directory cannot grant leases now, because it cannot be written. The caller computes without one.
    Unavailable,
}

/// The leases that a transaction voids when it commits.
#[derive(Debug, Default)]
pub(crate) struct Voided {
    /// Whether there were leases at the first check; `None` before that. None is granted before the
    /// transaction ends.
    there_are: Option<bool>,
    keys: Vec<OwnedKey>,
    tags: Vec<Value>,
    all: bool,
    /// Whether the check failed. Then there may be leases, and all of them end.
    is_impossible: bool,
}

struct Found {
    token: Option<Vec<u8>>,
    owner: Option<String>,
    expires: f64,
    seconds: f64,
    evictions: i64,
    /// The lease whose computation failed last (`failed`), its failure, and until when waiting callers are
    /// told of it.
    failed: Option<Vec<u8>>,
    failure: Option<Vec<u8>>,
    failed_until: Option<f64>,
}

impl Found {
    fn is(&self, token: &LeaseToken) -> bool {
        self.token.as_deref() == Some(token)
    }

    /// Whether the lease is this process's own. A forked child is another process.
    fn is_own(&self, token: &LeaseToken) -> bool {
        self.is(token) && self.owner == this_process()
    }

    fn in_time(&self, now: f64) -> bool {
        self.expires > now && self.expires - now <= 2.0 * self.seconds + CLOCKS
    }

    /// The lease, if its holder may still be computing.
    fn held(&self, now: f64) -> Option<LeaseToken> {
        let token = LeaseToken::try_from(self.token.as_deref()?).ok()?;
        (self.in_time(now) && !self.owner.as_deref().is_some_and(has_ended)).then_some(token)
    }

    /// The reply to a request; `None` if the lease can be granted.
    fn answer(&self, terms: &LeaseTerms<'_>, now: f64) -> Option<Leased> {
        if terms.takes_over {
            return None;
        }
        if let (Some(awaited), Some(failed), Some(failure)) = (&terms.awaited, &self.failed, &self.failure)
            && failed == awaited
            && self.failed_until.is_some_and(|until| until > now)
        {
            return Some(Leased::Failed(failure.clone()));
        }
        self.held(now).map(Leased::Elsewhere)
    }
}

fn find(connection: &Link, key: Key<'_>) -> Result<Option<Found>> {
    let found = connection.prepare_cached(FIND)?.query_row(params![bind(key.datum), key.raw], |row| {
        Ok(Found {
            token: row.get(0)?,
            owner: row.get(1)?,
            expires: row.get(2)?,
            seconds: row.get(3)?,
            evictions: row.get(4)?,
            failed: row.get(5)?,
            failure: row.get(6)?,
            failed_until: row.get(7)?,
        })
    });
    Ok(found.optional()?)
}

/// The time of day in seconds since the epoch: the only clock that other processes and machines share.
fn time_of_day() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// Whether an error means that the database was locked, not that it is unusable.
fn is_busy<R>(done: &Result<R>) -> bool {
    matches!(done, Err(Error::Busy | Error::NoLock(_)))
}

impl DiskStore {
    /// Runs `step` while no entry can be written. The caller must not be in a transaction.
    fn alone<R>(&self, patience: Duration, step: impl FnOnce(&Connection) -> Result<R>) -> Result<R> {
        let mut checkout = self.pool.writer(patience, || self.connect())?;
        self.gates.note_log(checkout.connection().header().is_some());
        execute(checkout.connection(), "BEGIN IMMEDIATE")?;
        let done = step(checkout.connection());
        roll_back(checkout.connection());
        checkout.end_turn();
        done
    }

    /// Requests the lease of a key. Inside a transaction of the calling thread, none is granted.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] after `patience`; the database of entries cannot be opened.
    pub fn lease(
        &self,
        key: Key<'_>,
        token: &LeaseToken,
        terms: LeaseTerms<'_>,
        patience: Duration,
    ) -> Result<Leased> {
        let _patience = Patience::of(patience);
        if self.pool.in_transaction() {
            return Ok(Leased::Unavailable);
        }
        if self.gates.exists()
            && let number = self.read(patience, |entries| number_of(entries))?
            && let Ok(Some(found)) = self.gates.read(|connection| {
                if number_of(connection)? == number { find(connection, key) } else { Ok(None) }
            })
            && let Some(answer) = found.answer(&terms, time_of_day())
        {
            return Ok(answer);
        }
        match self.ask(key, token, &terms, patience) {
            Ok(Some(answer)) => Ok(answer),
            // For instance, the directory cannot be written.
            Ok(None)
            | Err(Error::Sqlite(_) | Error::NoLock(_) | Error::File { .. } | Error::ReadOnly { .. }) => {
                Ok(Leased::Unavailable)
            }
            Err(error) => Err(error),
        }
    }

    /// Requests a lease under the lock to write entries. `None` if the databases do not agree on a number.
    fn ask(
        &self,
        key: Key<'_>,
        token: &LeaseToken,
        terms: &LeaseTerms<'_>,
        patience: Duration,
    ) -> Result<Option<Leased>> {
        for _ in 0..ATTEMPTS {
            let asked = self.alone(patience, |entries| {
                let number = number_of(entries)?;
                let ask = || {
                    self.gates.write_or_create(|connection| {
                        let is_agreed = number != 0 && number_of(connection)? == number;
                        is_agreed.then(|| give(connection, key, token, terms)).transpose()
                    })
                };
                let done = ask();
                if done.is_ok() || is_busy(&done) {
                    return done;
                }
                self.gates.remove();
                ask()
            })?;
            if asked.is_some() {
                return Ok(asked);
            }
            self.agree(patience)?;
        }
        Ok(None)
    }

    /// Gives both databases the same new number, and removes all leases.
    fn agree(&self, patience: Duration) -> Result<()> {
        self.write(patience, |entries, _| {
            let number = number_of(entries)?;
            let agreed = self.gates.write_or_create(|connection| {
                if number != 0 && number_of(connection)? == number {
                    return Ok(number);
                }
                connection.execute_batch(TABLES)?;
                connection.execute_batch("DELETE FROM Lease; DELETE FROM Eviction")?;
                let next = next_number(number);
                set_number(connection, next)?;
                Ok(next)
            })?;
            if agreed == number { Ok(()) } else { set_number(entries, agreed) }
        })?;
        Ok(())
    }

    /// Sleeps until a lease of another computation has ended: it was released, voided or taken over, the
    /// computation failed, its process ended, or it expired. Returns true then, and false after `timeout`.
    ///
    /// Any number of threads may wait. If the database has a shared log, the row is read only after a commit.
    ///
    /// # Errors
    ///
    /// None at present: a lease that cannot be read counts as ended.
    pub fn wait_for_lease(&self, key: Key<'_>, awaited: &LeaseToken, timeout: Duration) -> Result<bool> {
        let begin = Instant::now();
        let mut pause = PAUSES[0];
        let mut seen: Option<(Version, Instant)> = None;
        loop {
            let _patience = Patience::of(PAUSES[1]);
            if !self.gates.exists() {
                return Ok(true);
            }
            let looked = self.gates.read(|connection| {
                let version = connection.header().map(crate::version::Header::version);
                if let (Some(now), Some((then, at))) = (version, seen)
                    && now == then
                    && at.elapsed() < OWNER_CHECK
                {
                    return Ok(None);
                }
                // The version is read before the row, so that a commit in between is noticed the next time.
                Ok(Some((version, number_of(connection)?, find(connection, key)?)))
            });
            match looked {
                // Nothing has changed, or the database is busy.
                Ok(None) | Err(Error::Busy | Error::NoLock(_)) => {}
                Ok(Some((version, number, found))) => {
                    let holds = found.and_then(|found| found.held(time_of_day()));
                    if holds.as_ref() != Some(awaited) {
                        return Ok(true);
                    }
                    // If the databases have different numbers, all leases are void.
                    match self.read(PAUSES[1], |entries| number_of(entries)) {
                        Ok(current) if current != number => return Ok(true),
                        Ok(_) | Err(Error::Busy | Error::NoLock(_)) => {}
                        Err(_) => return Ok(true),
                    }
                    seen = version.map(|version| (version, Instant::now()));
                }
                Err(_) => return Ok(true),
            }
            let left = timeout.saturating_sub(begin.elapsed());
            if left.is_zero() {
                return Ok(false);
            }
            thread::sleep(pause.min(left));
            pause = (pause * 2).min(PAUSES[1]);
        }
    }

    /// Whether a lease still exists. An expired one does, as long as nobody has taken it over.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] after `patience`.
    pub fn has_lease(&self, key: Key<'_>, token: &LeaseToken, patience: Duration) -> Result<bool> {
        let _patience = Patience::of(patience);
        if !self.gates.exists() {
            return Ok(false);
        }
        let number = self.read(patience, |entries| number_of(entries))?;
        let has = self.gates.read(|connection| {
            Ok(number_of(connection)? == number
                && find(connection, key)?.is_some_and(|found| found.is_own(token)))
        });
        if is_busy(&has) { Err(Error::Busy) } else { Ok(has.unwrap_or(false)) }
    }

    /// Releases a lease. With a `failure`, a description and a number of seconds, callers that wait for the
    /// lease get the description during that time. Does nothing if the lease is gone or belongs to another
    /// process.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] after `patience`; the database cannot be written. The lease expires then.
    pub fn release(
        &self,
        key: Key<'_>,
        token: &LeaseToken,
        failure: Option<(&[u8], f64)>,
        patience: Duration,
    ) -> Result<()> {
        let owner = this_process();
        self.change_lease(patience, |connection| {
            let (datum, token) = (bind(key.datum), token.as_slice());
            Ok(match failure {
                Some((failure, seconds)) => {
                    let until = time_of_day() + seconds;
                    connection
                        .prepare_cached(FAIL)?
                        .execute(params![datum, key.raw, token, owner, failure, until])?
                }
                None => connection.prepare_cached(RELEASE)?.execute(params![datum, key.raw, token, owner])?,
            })
        })?;
        Ok(())
    }

    /// Extends a lease to `seconds` seconds from now. Returns whether it still existed.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] after `patience`; the database cannot be written.
    pub fn renew(&self, key: Key<'_>, token: &LeaseToken, seconds: f64, patience: Duration) -> Result<bool> {
        let (owner, until) = (this_process(), time_of_day() + seconds);
        self.change_lease(patience, |connection| {
            let columns = params![bind(key.datum), key.raw, token.as_slice(), owner, until, seconds];
            Ok(connection.prepare_cached(RENEW)?.execute(columns)?)
        })
    }

    /// Runs `step`, which changes a lease, if the database of leases exists. Returns whether a row was
    /// changed.
    fn change_lease(&self, patience: Duration, step: impl FnOnce(&Link) -> Result<usize>) -> Result<bool> {
        let _patience = Patience::of(patience);
        if !self.gates.exists() {
            return Ok(false);
        }
        Ok(self.gates.write(step)? > 0)
    }

    /// Whether the result of a computation may be stored, under the lock to write entries.
    pub(crate) fn may_land(
        &self,
        entries: &Connection,
        key: Key<'_>,
        token: &LeaseToken,
        tag: ValueRef<'_>,
    ) -> Result<bool> {
        if !self.gates.exists() {
            return Ok(false);
        }
        let number = number_of(entries)?;
        let may = self.gates.read(|connection| {
            if number_of(connection)? != number {
                return Ok(false);
            }
            let Some(found) = find(connection, key)?.filter(|found| found.is_own(token)) else {
                return Ok(false);
            };
            let evicted: Option<i64> = connection
                .prepare_cached("SELECT number FROM Eviction WHERE tag = ?1")?
                .query_row([bind(tag)], |row| row.get(0))
                .optional()?;
            Ok(evicted.is_none_or(|evicted| evicted <= found.evictions))
        });
        if is_busy(&may) { may } else { Ok(may.unwrap_or(false)) }
    }

    /// Whether a transaction that writes may have leases to void.
    fn voids(&self, effects: &mut TransactionEffects) -> Result<bool> {
        if let Some(there_are) = effects.voided.there_are {
            return Ok(there_are);
        }
        let there_are = match self.gates.has_leases(effects.version) {
            Err(Error::Busy | Error::NoLock(_)) => return Err(Error::Busy),
            Err(_) => {
                effects.voided.is_impossible = true;
                false
            }
            Ok(there_are) => there_are,
        };
        effects.voided.there_are = Some(there_are);
        Ok(there_are)
    }

    /// Notes that a transaction writes a key, even if that changes nothing.
    pub(crate) fn void(&self, effects: &mut TransactionEffects, key: Key<'_>) -> Result<()> {
        if self.voids(effects)? {
            let datum = Value::try_from(key.datum).map_err(|_| Error::DamagedValue)?;
            effects.voided.keys.push(OwnedKey { datum, raw: key.raw });
        }
        Ok(())
    }

    /// Notes that a transaction removes the entries with a tag.
    pub(crate) fn void_tagged(&self, effects: &mut TransactionEffects, tag: ValueRef<'_>) -> Result<()> {
        if self.voids(effects)? {
            effects.voided.tags.push(Value::try_from(tag).map_err(|_| Error::DamagedValue)?);
        }
        Ok(())
    }

    /// Notes that a transaction removes all entries.
    pub(crate) fn void_all(&self, effects: &mut TransactionEffects) -> Result<()> {
        effects.voided.all |= self.voids(effects)?;
        Ok(())
    }

    /// Voids the leases of the keys that a transaction has written, just before it commits.
    pub(crate) fn void_leases(&self, entries: &Connection, effects: &mut TransactionEffects) -> Result<()> {
        let Voided { keys, tags, all, is_impossible, .. } = &effects.voided;
        if keys.is_empty() && tags.is_empty() && !all && !is_impossible {
            return Ok(());
        }
        let done = if *is_impossible {
            Ok(false)
        } else {
            self.gates.write(|connection| {
                if *all {
                    connection.prepare_cached("DELETE FROM Lease")?.execute([])?;
                    return Ok(true);
                }
                for key in keys {
                    let key = key.borrow();
                    connection.prepare_cached(VOID)?.execute(params![bind(key.datum), key.raw])?;
                }
                for tag in tags {
                    connection.prepare_cached("DELETE FROM Lease WHERE tag = ?1")?.execute([tag])?;
                    connection.prepare_cached(EVICT)?.execute([tag])?;
                }
                Ok(true)
            })
        };
        if is_busy(&done) {
            return Err(Error::Busy);
        }
        if !done.unwrap_or(false) && !self.gates.remove() {
            Gates::withdraw(entries)?;
        }
        effects.voided = Voided { there_are: effects.voided.there_are, ..Voided::default() };
        Ok(())
    }
}

fn give(connection: &Link, key: Key<'_>, token: &LeaseToken, terms: &LeaseTerms<'_>) -> Result<Leased> {
    let (found, now) = (find(connection, key)?, time_of_day());
    if let Some(answer) = found.as_ref().and_then(|found| found.answer(terms, now)) {
        return Ok(answer);
    }
    let seconds = match found {
        Some(before) if before.token.is_some() && !terms.takes_over => {
            terms.seconds.max((2.0 * before.seconds).min(LONGEST_AFTER_TAKEOVER))
        }
        _ => terms.seconds,
    };
    connection.prepare_cached("DELETE FROM Lease WHERE expires < ?1")?.execute([now - FORGOTTEN])?;
    connection.prepare_cached("DELETE FROM Eviction WHERE NOT EXISTS (SELECT 1 FROM Lease)")?.execute([])?;
    connection.prepare_cached(GIVE)?.execute(params![
        bind(key.datum),
        key.raw,
        token.as_slice(),
        this_process(),
        now + seconds,
        seconds,
        bind(terms.tag)
    ])?;
    Ok(Leased::Held)
}
