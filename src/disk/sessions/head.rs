//! The row of a key: finding it, making it, and removing its elements after it is gone.

use flexcache_containers::operation::{Kind, Touch};
use rusqlite::{OptionalExtension, params};

use super::{Asked, Micros, Outcome, SessionError};
use crate::error::Error;

/// The data of a key, except its elements.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub(super) id: i64,
    pub(super) kind: Kind,
    /// A single value, or the shape of a filter.
    pub(super) value: Option<Vec<u8>>,
    pub(super) n: i64,
    pub(super) lo: i64,
    pub(super) hi: i64,
    pub(super) seq: i64,
    pub(super) expire: Option<Micros>,
}

/// The most expired keys that each write removes.
const EXPIRED_PER_WRITE: i64 = 10;
/// The number of elements of removed keys that each write removes, and how many more for each element that it
/// stores. So garbage never outgrows what was stored, and a write of one element costs about as much as
/// without.
const GARBAGE_PER_WRITE: usize = 10;
const GARBAGE_PER_ELEMENT: usize = 2;

pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The tables of the elements of a kind, each with the column that identifies an element.
fn tables(kind: Kind) -> &'static [(&'static str, &'static str)] {
    match kind {
        Kind::Scalar => &[],
        Kind::List => &[("fx_list", "pos")],
        Kind::Queue => &[("fx_list", "pos"), ("fx_job", "job")],
        Kind::Map => &[("fx_map", "f")],
        Kind::Set => &[("fx_set", "m")],
        Kind::Sorted => &[("fx_sorted", "m")],
        Kind::Stream => &[("fx_stream", "ms")],
        Kind::Bloom | Kind::Bits => &[("fx_page", "page")],
    }
}

impl Asked<'_> {
    pub(super) fn head(&self, key: &[u8]) -> Outcome<Option<Head>> {
        let mut select = self.connection.prepare_cached(
            "SELECT id, kind, v, n, lo, hi, seq, expire FROM fx_key \
             WHERE ns = ?1 AND k = ?2 AND (expire IS NULL OR expire > ?3)",
        )?;
        let head = select.query_row(params![self.namespace, key, self.now], |row| {
            let kind = row.get(1)?;
            let kind = Kind::from_number(kind).ok_or(rusqlite::Error::IntegralValueOutOfRange(1, kind))?;
            Ok(Head {
                id: row.get(0)?,
                kind,
                value: row.get(2)?,
                n: row.get(3)?,
                lo: row.get(4)?,
                hi: row.get(5)?,
                seq: row.get(6)?,
                expire: row.get(7)?,
            })
        });
        Ok(head.optional()?)
    }

    /// The deadline of a key after a write.
    #[expect(clippy::option_option, reason = "no key, or a key without a deadline")]
    pub(super) fn deadline(&self, touch: Touch, old: Option<Option<Micros>>) -> Option<Micros> {
        match (touch, old) {
            (Touch::Never, _) => None,
            (Touch::After(micros), _) | (Touch::AfterIfNew(micros), None) => {
                Some(self.now.saturating_add(signed(micros)))
            }
            (Touch::Keep | Touch::AfterIfNew(_), old) => old.flatten(),
        }
    }

    /// Makes a key, and replaces one that existed, live or expired. The key gets a new id.
    pub(super) fn make(
        &self,
        key: &[u8],
        kind: Kind,
        value: Option<&[u8]>,
        expire: Option<Micros>,
    ) -> Outcome<Head> {
        self.remove(key)?;
        let mut insert = self
            .connection
            .prepare_cached("INSERT INTO fx_key (ns, k, kind, v, expire) VALUES (?1, ?2, ?3, ?4, ?5)")?;
        insert.execute(params![self.namespace, key, kind as u8, value, expire])?;
        let id = self.connection.last_insert_rowid();
        Ok(Head { id, kind, value: value.map(<[u8]>::to_vec), n: 0, lo: 0, hi: 0, seq: 0, expire })
    }

    /// Writes what has changed in a head.
    pub(super) fn save(&self, head: &Head) -> Outcome<()> {
        let mut update = self.connection.prepare_cached(
            "UPDATE fx_key SET v = ?2, n = ?3, lo = ?4, hi = ?5, seq = ?6, expire = ?7 WHERE id = ?1",
        )?;
        update.execute(params![head.id, head.value, head.n, head.lo, head.hi, head.seq, head.expire])?;
        Ok(())
    }

    /// Removes a key, live or expired. Its elements are garbage from now on.
    pub(super) fn remove(&self, key: &[u8]) -> Outcome<()> {
        let mut delete = self
            .connection
            .prepare_cached("DELETE FROM fx_key WHERE ns = ?1 AND k = ?2 RETURNING id, kind")?;
        let removed: Option<(i64, i64)> = delete
            .query_row(params![self.namespace, key], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        match removed {
            Some((id, kind)) => self.discard(id, kind),
            None => Ok(()),
        }
    }

    fn discard(&self, id: i64, kind: i64) -> Outcome<()> {
        if kind != i64::from(Kind::Scalar as u8) {
            let mut insert =
                self.connection.prepare_cached("INSERT INTO fx_garbage (id, kind) VALUES (?1, ?2)")?;
            insert.execute((id, kind))?;
        }
        Ok(())
    }

    /// Removes up to `most` expired keys. Returns their number.
    pub(super) fn expire(&self, most: i64) -> Outcome<i64> {
        let mut select = self
            .connection
            .prepare_cached("SELECT id, kind FROM fx_key WHERE expire <= ?1 ORDER BY expire LIMIT ?2")?;
        let dead: Vec<(i64, i64)> = select
            .query_map((self.now, most), |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<_>>()?;
        for (id, kind) in &dead {
            self.connection.prepare_cached("DELETE FROM fx_key WHERE id = ?1")?.execute([id])?;
            self.discard(*id, *kind)?;
        }
        Ok(i64::try_from(dead.len()).unwrap_or(i64::MAX))
    }

    /// Removes up to `most` elements of one removed key. Returns their number, or `None` if there is no such
    /// key.
    fn sweep(&self, most: i64) -> Outcome<Option<i64>> {
        let mut select = self.connection.prepare_cached("SELECT id, kind FROM fx_garbage LIMIT 1")?;
        let found: Option<(i64, i64)> =
            select.query_row([], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        let Some((id, kind)) = found else { return Ok(None) };
        let kind = Kind::from_number(kind).ok_or(SessionError::Disk(Error::TransactionLost))?;
        let mut swept = 0;
        for (table, column) in tables(kind) {
            let left = most - swept;
            if left <= 0 {
                return Ok(Some(swept));
            }
            let mut delete = self.connection.prepare_cached(&format!(
                "DELETE FROM {table} WHERE id = ?1 AND {column} <= coalesce( \
                 (SELECT {column} FROM {table} WHERE id = ?1 ORDER BY {column} LIMIT 1 OFFSET ?2), \
                 (SELECT {column} FROM {table} WHERE id = ?1 ORDER BY {column} DESC LIMIT 1))"
            ))?;
            swept += i64::try_from(delete.execute((id, left - 1))?).unwrap_or(i64::MAX);
        }
        if swept < most {
            self.connection.prepare_cached("DELETE FROM fx_garbage WHERE id = ?1")?.execute([id])?;
        }
        Ok(Some(swept))
    }

    /// Removes up to `most` elements of removed keys. A key without elements counts as one element.
    pub(super) fn sweep_all(&self, mut most: i64) -> Outcome<()> {
        while most > 0
            && let Some(swept) = self.sweep(most)?
        {
            most -= swept.max(1);
        }
        Ok(())
    }

    /// Cleans up after a write that has stored `stored` elements: removes some expired keys and some garbage.
    pub(super) fn tidy(&self, stored: usize) -> Outcome<()> {
        self.expire(EXPIRED_PER_WRITE)?;
        let garbage = GARBAGE_PER_WRITE.saturating_add(stored.saturating_mul(GARBAGE_PER_ELEMENT));
        self.sweep_all(i64::try_from(garbage).unwrap_or(i64::MAX))
    }
}
