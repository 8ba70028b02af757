//! Lists and queues: a row for each element, with its position. Positions have no gaps unless an element was
//! removed from the middle.

use flexcache_containers::Error as OperationError;
use flexcache_containers::operation::{Act, Cell, Kind, Reply, bounds};
use rusqlite::{OptionalExtension, params};

use super::head::{Head, signed};
use super::keyspace::counted;
use super::{Asked, Outcome};

fn length(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

impl Asked<'_> {
    pub(super) fn push(&self, head: &mut Head, cells: &[Cell], left: bool) -> Outcome<()> {
        let mut insert =
            self.connection.prepare_cached("INSERT INTO fx_list (id, pos, v) VALUES (?1, ?2, ?3)")?;
        for cell in cells {
            let pos = if left {
                head.lo -= 1;
                head.lo
            } else {
                head.hi += 1;
                head.hi - 1
            };
            insert.execute(params![head.id, pos, cell])?;
        }
        head.n += length(cells.len());
        Ok(())
    }

    /// Removes the first or the last elements and returns them, the outermost first.
    fn take(&self, head: &mut Head, left: bool, count: u64) -> Outcome<Vec<Cell>> {
        if count == 0 || head.n == 0 {
            return Ok(Vec::new());
        }
        let (order, condition) = if left { ("ASC", "pos <= ?2") } else { ("DESC", "pos >= ?2") };
        let mut select = self.connection.prepare_cached(&format!(
            "SELECT pos, v FROM fx_list WHERE id = ?1 ORDER BY pos {order} LIMIT ?2"
        ))?;
        let rows: Vec<(i64, Cell)> = select
            .query_map((head.id, signed(count)), |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<_>>()?;
        let Some((end, _)) = rows.last() else { return Ok(Vec::new()) };
        let mut delete =
            self.connection.prepare_cached(&format!("DELETE FROM fx_list WHERE id = ?1 AND {condition}"))?;
        delete.execute((head.id, end))?;
        head.n -= length(rows.len());
        if left {
            head.lo = end + 1;
        } else {
            head.hi = *end;
        }
        if head.n == 0 {
            head.lo = head.hi;
        }
        Ok(rows.into_iter().map(|(_, cell)| cell).collect())
    }

    /// The position of the element with the index `place`, which must exist.
    fn position(&self, head: &Head, place: i64) -> Outcome<i64> {
        if head.n == head.hi - head.lo {
            return Ok(head.lo + place);
        }
        let mut select = self
            .connection
            .prepare_cached("SELECT pos FROM fx_list WHERE id = ?1 ORDER BY pos LIMIT 1 OFFSET ?2")?;
        Ok(select.query_row((head.id, place), |row| row.get(0))?)
    }

    fn position_of(&self, head: &Head, index: i64) -> Outcome<Option<i64>> {
        let place = if index < 0 { index.saturating_add(head.n) } else { index };
        if (0..head.n).contains(&place) { self.position(head, place).map(Some) } else { Ok(None) }
    }

    fn bounds(head: &Head, start: i64, stop: i64) -> std::ops::Range<i64> {
        let range = bounds(start, stop, usize::try_from(head.n).unwrap_or(0));
        length(range.start)..length(range.end)
    }

    pub(super) fn list(&self, head: &mut Head, act: &Act) -> Outcome<Reply> {
        let takes_or_ends_jobs =
            matches!(act, Act::ListPop { .. } | Act::Reserve(_) | Act::Ack(_) | Act::Release(_));
        if head.kind == Kind::Queue && takes_or_ends_jobs {
            self.reclaim(head)?;
        }
        Ok(match act {
            Act::ListPush { cells, left, maxlen } => {
                self.push(head, cells, *left)?;
                if let Some(maxlen) = maxlen {
                    let extra = head.n - signed(*maxlen).min(head.n);
                    self.take(head, !left, u64::try_from(extra).unwrap_or(0))?;
                }
                Reply::Int(head.n)
            }
            Act::ListPop { left, count } => Reply::Cells(self.take(head, *left, *count)?),
            Act::ListAt(index) => {
                let Some(pos) = self.position_of(head, *index)? else { return Ok(Reply::Cell(None)) };
                let mut select =
                    self.connection.prepare_cached("SELECT v FROM fx_list WHERE id = ?1 AND pos = ?2")?;
                Reply::Cell(select.query_row((head.id, pos), |row| row.get(0)).optional()?)
            }
            Act::ListPut(index, cell) => {
                let pos = self.position_of(head, *index)?.ok_or(OperationError::NoElement(*index))?;
                let mut update =
                    self.connection.prepare_cached("UPDATE fx_list SET v = ?3 WHERE id = ?1 AND pos = ?2")?;
                update.execute(params![head.id, pos, cell])?;
                Reply::Bool(true)
            }
            Act::ListRange(start, stop) => {
                let range = Self::bounds(head, *start, *stop);
                if range.is_empty() {
                    return Ok(Reply::Cells(Vec::new()));
                }
                let first = self.position(head, range.start)?;
                let mut select = self.connection.prepare_cached(
                    "SELECT v FROM fx_list WHERE id = ?1 AND pos >= ?2 ORDER BY pos LIMIT ?3",
                )?;
                let rows = select.query_map((head.id, first, range.end - range.start), |row| row.get(0))?;
                Reply::Cells(rows.collect::<rusqlite::Result<_>>()?)
            }
            Act::ListTrim(start, stop) => {
                let range = Self::bounds(head, *start, *stop);
                let after = head.n - range.end;
                self.take(head, false, u64::try_from(after).unwrap_or(0))?;
                self.take(head, true, u64::try_from(range.start).unwrap_or(0))?;
                Reply::Int(head.n)
            }
            Act::ListIndex(cell) => {
                let mut select = self.connection.prepare_cached(
                    "SELECT pos FROM fx_list WHERE id = ?1 AND v = ?2 ORDER BY pos LIMIT 1",
                )?;
                let found: Option<i64> =
                    select.query_row(params![head.id, cell], |row| row.get(0)).optional()?;
                let Some(pos) = found else { return Ok(Reply::Place(None)) };
                let mut count = self
                    .connection
                    .prepare_cached("SELECT COUNT(*) FROM fx_list WHERE id = ?1 AND pos < ?2")?;
                Reply::Place(Some(count.query_row((head.id, pos), |row| row.get(0))?))
            }
            Act::ListPage { after, count } => {
                let first = after.map_or(i64::MIN, |after| after.saturating_add(1));
                let mut select = self.connection.prepare_cached(
                    "SELECT pos, v FROM fx_list WHERE id = ?1 AND pos >= ?2 ORDER BY pos LIMIT ?3",
                )?;
                let rows = select
                    .query_map((head.id, first, signed(*count)), |row| Ok((row.get(0)?, row.get(1)?)))?;
                Reply::Places(rows.collect::<rusqlite::Result<_>>()?)
            }
            Act::ListRemove { .. } | Act::ListInsert(..) => self.in_the_middle(head, act)?,
            Act::Reserve(_) | Act::Ack(_) | Act::Release(_) => self.job(head, act)?,
            _ => Reply::Int(head.n),
        })
    }

    /// Operations that make gaps, or move the elements behind.
    fn in_the_middle(&self, head: &mut Head, act: &Act) -> Outcome<Reply> {
        Ok(match act {
            Act::ListRemove { cell, count } => {
                let order = if *count < 0 { "DESC" } else { "ASC" };
                let most = if *count == 0 { i64::MAX } else { signed(count.unsigned_abs()) };
                let mut select = self.connection.prepare_cached(&format!(
                    "SELECT pos FROM fx_list WHERE id = ?1 AND v = ?2 ORDER BY pos {order} LIMIT ?3"
                ))?;
                let places: Vec<i64> = select
                    .query_map(params![head.id, cell, most], |row| row.get(0))?
                    .collect::<rusqlite::Result<_>>()?;
                let mut delete =
                    self.connection.prepare_cached("DELETE FROM fx_list WHERE id = ?1 AND pos = ?2")?;
                for pos in &places {
                    delete.execute((head.id, pos))?;
                }
                head.n -= length(places.len());
                counted(places.len())
            }
            Act::ListInsert(index, cell) => {
                let place = Self::bounds(head, *index, -1).start;
                let pos = if place == head.n { head.hi } else { self.position(head, place)? };
                let mut select = self.connection.prepare_cached(
                    "SELECT pos FROM fx_list WHERE id = ?1 AND pos >= ?2 ORDER BY pos DESC",
                )?;
                let later: Vec<i64> =
                    select.query_map((head.id, pos), |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
                let mut update = self
                    .connection
                    .prepare_cached("UPDATE fx_list SET pos = pos + 1 WHERE id = ?1 AND pos = ?2")?;
                for later in later {
                    update.execute((head.id, later))?;
                }
                self.connection
                    .prepare_cached("INSERT INTO fx_list (id, pos, v) VALUES (?1, ?2, ?3)")?
                    .execute(params![head.id, pos, cell])?;
                head.hi += 1;
                head.n += 1;
                Reply::Int(head.n)
            }
            _ => Reply::Int(head.n),
        })
    }

    /// Operations on jobs.
    fn job(&self, head: &mut Head, act: &Act) -> Outcome<Reply> {
        Ok(match act {
            Act::Reserve(micros) => {
                let Some(cell) = self.take(head, true, 1)?.pop() else { return Ok(Reply::Job(None)) };
                // A worker may still hold a job of a removed queue, and must not acknowledge a job of the new
                // queue under that key by its number.
                head.seq = self.now.max(head.seq + 1);
                let until = self.now.saturating_add(signed(*micros));
                let mut insert = self
                    .connection
                    .prepare_cached("INSERT INTO fx_job (id, job, until, v) VALUES (?1, ?2, ?3, ?4)")?;
                insert.execute(params![head.id, head.seq, until, cell])?;
                Reply::Job(Some((u64::try_from(head.seq).unwrap_or(0), cell)))
            }
            Act::Ack(job) => Reply::Bool(self.end_job(head, *job)?.is_some()),
            Act::Release(job) => {
                let job = self.end_job(head, *job)?;
                let was_there = job.is_some();
                if let Some(cell) = job {
                    self.push(head, &[cell], true)?;
                }
                Reply::Bool(was_there)
            }
            _ => Reply::Int(head.n),
        })
    }

    fn end_job(&self, head: &Head, job: u64) -> Outcome<Option<Cell>> {
        let mut delete =
            self.connection.prepare_cached("DELETE FROM fx_job WHERE id = ?1 AND job = ?2 RETURNING v")?;
        Ok(delete.query_row((head.id, signed(job)), |row| row.get(0)).optional()?)
    }

    /// Puts jobs back whose reservation has expired, in their order, before the waiting ones.
    fn reclaim(&self, head: &mut Head) -> Outcome<()> {
        let mut select = self
            .connection
            .prepare_cached("SELECT job, v FROM fx_job WHERE id = ?1 AND until <= ?2 ORDER BY job DESC")?;
        let over: Vec<(i64, Cell)> = select
            .query_map((head.id, self.now), |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<_>>()?;
        for (job, cell) in over {
            self.connection
                .prepare_cached("DELETE FROM fx_job WHERE id = ?1 AND job = ?2")?
                .execute((head.id, job))?;
            self.push(head, &[cell], true)?;
        }
        Ok(())
    }
}
