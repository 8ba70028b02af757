//! Maps and sets: a row for each field or member.

use flexcache_containers::container::sum;
use flexcache_containers::operation::{Act, Cell, Reply};
use rusqlite::{OptionalExtension, params};

use super::head::{Head, signed};
use super::keyspace::counted;
use super::{Asked, Outcome};

impl Asked<'_> {
    fn field(&self, head: &Head, field: &[u8]) -> Outcome<Option<Cell>> {
        let mut select = self.connection.prepare_cached("SELECT v FROM fx_map WHERE id = ?1 AND f = ?2")?;
        Ok(select.query_row(params![head.id, field], |row| row.get(0)).optional()?)
    }

    /// Sets fields. Returns the number of new ones.
    pub(super) fn map_set(&self, head: &mut Head, pairs: &[(Cell, Cell)]) -> Outcome<usize> {
        let mut insert =
            self.connection.prepare_cached("INSERT OR IGNORE INTO fx_map (id, f, v) VALUES (?1, ?2, ?3)")?;
        let mut added = 0;
        for (field, value) in pairs {
            if insert.execute(params![head.id, field, value])? == 1 {
                added += 1;
                head.n += 1;
            } else {
                let mut update =
                    self.connection.prepare_cached("UPDATE fx_map SET v = ?3 WHERE id = ?1 AND f = ?2")?;
                update.execute(params![head.id, field, value])?;
            }
        }
        Ok(added)
    }

    pub(super) fn map(&self, head: &mut Head, act: &Act) -> Outcome<Reply> {
        Ok(match act {
            Act::MapGet(fields) => Reply::Options(
                fields.iter().map(|field| self.field(head, field)).collect::<Outcome<Vec<_>>>()?,
            ),
            Act::MapSet(pairs) => counted(self.map_set(head, pairs)?),
            Act::MapDefault(field, value) => {
                if let Some(found) = self.field(head, field)? {
                    return Ok(Reply::Cell(Some(found)));
                }
                self.map_set(head, &[(field.clone(), value.clone())])?;
                Reply::Cell(Some(value.clone()))
            }
            Act::MapIncr { field, by } => {
                let sum = sum(self.field(head, field)?.as_deref(), *by)?;
                self.map_set(head, &[(field.clone(), sum.text())])?;
                Reply::Number(sum)
            }
            Act::MapDelete(fields) => {
                let mut delete =
                    self.connection.prepare_cached("DELETE FROM fx_map WHERE id = ?1 AND f = ?2")?;
                let mut removed = 0;
                for field in fields {
                    removed += delete.execute(params![head.id, field])?;
                }
                head.n -= i64::try_from(removed).unwrap_or(i64::MAX);
                counted(removed)
            }
            Act::MapPage { after, count } => {
                let is_later = if after.is_some() { ">" } else { ">=" };
                let mut select = self.connection.prepare_cached(&format!(
                    "SELECT f, v FROM fx_map WHERE id = ?1 AND f {is_later} ?2 ORDER BY f LIMIT ?3"
                ))?;
                let after = after.as_deref().unwrap_or_default();
                let rows = select.query_map(params![head.id, after, signed(*count)], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })?;
                Reply::Pairs(rows.collect::<rusqlite::Result<_>>()?)
            }
            _ => Reply::Int(head.n),
        })
    }

    /// Adds members. Returns the number of new ones.
    pub(super) fn set_add(&self, head: &mut Head, members: &[Cell]) -> Outcome<usize> {
        let mut insert =
            self.connection.prepare_cached("INSERT OR IGNORE INTO fx_set (id, m) VALUES (?1, ?2)")?;
        let mut added = 0;
        for member in members {
            added += insert.execute(params![head.id, member])?;
        }
        head.n += i64::try_from(added).unwrap_or(i64::MAX);
        Ok(added)
    }

    fn set_page(&self, head: &Head, after: Option<&[u8]>, count: u64) -> Outcome<Vec<Cell>> {
        let is_later = if after.is_some() { ">" } else { ">=" };
        let mut select = self.connection.prepare_cached(&format!(
            "SELECT m FROM fx_set WHERE id = ?1 AND m {is_later} ?2 ORDER BY m LIMIT ?3"
        ))?;
        let rows =
            select.query_map(params![head.id, after.unwrap_or_default(), signed(count)], |row| row.get(0))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    fn set_discard(&self, head: &mut Head, members: &[Cell]) -> Outcome<usize> {
        let mut delete = self.connection.prepare_cached("DELETE FROM fx_set WHERE id = ?1 AND m = ?2")?;
        let mut removed = 0;
        for member in members {
            removed += delete.execute(params![head.id, member])?;
        }
        head.n -= i64::try_from(removed).unwrap_or(i64::MAX);
        Ok(removed)
    }

    pub(super) fn set(&self, head: &mut Head, act: &Act) -> Outcome<Reply> {
        Ok(match act {
            Act::SetAdd(members) => counted(self.set_add(head, members)?),
            Act::SetDiscard(members) => counted(self.set_discard(head, members)?),
            Act::SetHas(members) => {
                let mut select =
                    self.connection.prepare_cached("SELECT 1 FROM fx_set WHERE id = ?1 AND m = ?2")?;
                let mut found = Vec::with_capacity(members.len());
                for member in members {
                    found.push(select.exists(params![head.id, member])?);
                }
                Reply::Bools(found)
            }
            Act::SetPop(count) => {
                let members = self.set_page(head, None, *count)?;
                self.set_discard(head, &members)?;
                Reply::Cells(members)
            }
            Act::SetPage { after, count } => Reply::Cells(self.set_page(head, after.as_deref(), *count)?),
            _ => Reply::Int(head.n),
        })
    }
}
