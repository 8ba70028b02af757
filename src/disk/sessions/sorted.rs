//! Sorted sets and streams.

use flexcache_containers::Error as OperationError;
use flexcache_containers::operation::{Act, Cell, Reply, StreamId, bounds};
use flexcache_containers::sorted::plain_score;
use rusqlite::{OptionalExtension, Params, params};

use super::head::{Head, signed};
use super::keyspace::counted;
use super::{Asked, Outcome};

type Scored = Vec<(Cell, f64)>;

impl Asked<'_> {
    pub(super) fn scored(&self, sql: &str, parameters: impl Params) -> Outcome<Scored> {
        let mut select = self.connection.prepare_cached(sql)?;
        let rows = select.query_map(parameters, |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    fn score(&self, head: &Head, member: &[u8]) -> Outcome<Option<f64>> {
        let mut select =
            self.connection.prepare_cached("SELECT score FROM fx_sorted WHERE id = ?1 AND m = ?2")?;
        Ok(select.query_row(params![head.id, member], |row| row.get(0)).optional()?)
    }

    /// Adds members, or changes their scores. Returns the number of new ones.
    pub(super) fn sorted_add(
        &self,
        head: &mut Head,
        members: &[(Cell, f64)],
        if_absent: bool,
        greater: bool,
    ) -> Outcome<usize> {
        let mut put = self.connection.prepare_cached(
            "INSERT INTO fx_sorted (id, m, score) VALUES (?1, ?2, ?3) ON CONFLICT (id, m) DO UPDATE SET score = ?3",
        )?;
        let mut added = 0;
        for (member, score) in members {
            match self.score(head, member)? {
                None => added += 1,
                Some(old) if if_absent || greater && *score <= old => continue,
                Some(_) => {}
            }
            put.execute(params![head.id, member, plain_score(*score)])?;
        }
        head.n += i64::try_from(added).unwrap_or(i64::MAX);
        Ok(added)
    }

    fn sorted_remove(&self, head: &mut Head, members: &[Cell]) -> Outcome<usize> {
        let mut delete = self.connection.prepare_cached("DELETE FROM fx_sorted WHERE id = ?1 AND m = ?2")?;
        let mut removed = 0;
        for member in members {
            removed += delete.execute(params![head.id, member])?;
        }
        head.n -= i64::try_from(removed).unwrap_or(i64::MAX);
        Ok(removed)
    }

    /// Members by rank.
    fn ranked(&self, head: &Head, first: i64, count: i64, reverse: bool) -> Outcome<Scored> {
        let order = if reverse { "score DESC, m DESC" } else { "score, m" };
        self.scored(
            &format!("SELECT m, score FROM fx_sorted WHERE id = ?1 ORDER BY {order} LIMIT ?2 OFFSET ?3"),
            (head.id, count, first),
        )
    }

    pub(super) fn sorted(&self, head: &mut Head, act: &Act) -> Outcome<Reply> {
        Ok(match act {
            Act::SortedAdd { members, if_absent, greater } => {
                counted(self.sorted_add(head, members, *if_absent, *greater)?)
            }
            Act::SortedIncr(member, by) => {
                let sum = plain_score(self.score(head, member)?.unwrap_or(0.0) + by);
                if sum.is_nan() {
                    return Err(OperationError::NoSum.into());
                }
                self.sorted_add(head, &[(member.clone(), sum)], false, false)?;
                Reply::Float(sum)
            }
            Act::SortedScores(members) => Reply::Scores(
                members.iter().map(|member| self.score(head, member)).collect::<Outcome<Vec<_>>>()?,
            ),
            Act::SortedRank { member, reverse } => {
                let Some(score) = self.score(head, member)? else { return Ok(Reply::Place(None)) };
                let before = if *reverse { ">" } else { "<" };
                let mut count = self.connection.prepare_cached(&format!(
                    "SELECT COUNT(*) FROM fx_sorted WHERE id = ?1 AND (score, m) {before} (?2, ?3)"
                ))?;
                Reply::Place(Some(count.query_row(params![head.id, score, member], |row| row.get(0))?))
            }
            Act::SortedRange { start, stop, reverse } => {
                let range = bounds(*start, *stop, usize::try_from(head.n).unwrap_or(0));
                let first = i64::try_from(range.start).unwrap_or(i64::MAX);
                let count = i64::try_from(range.len()).unwrap_or(i64::MAX);
                Reply::Scored(self.ranked(head, first, count, *reverse)?)
            }
            Act::SortedByScore { low, high, limit, reverse } => {
                let order = if *reverse { "score DESC, m DESC" } else { "score, m" };
                Reply::Scored(self.scored(
                    &format!(
                        "SELECT m, score FROM fx_sorted WHERE id = ?1 AND score >= ?2 AND score <= ?3 \
                         ORDER BY {order} LIMIT ?4"
                    ),
                    (head.id, low, high, signed(*limit)),
                )?)
            }
            Act::SortedRemove(members) => counted(self.sorted_remove(head, members)?),
            Act::SortedPop { count, largest } => {
                let taken = self.ranked(head, 0, signed(*count), *largest)?;
                let members: Vec<Cell> = taken.iter().map(|(member, _)| member.clone()).collect();
                self.sorted_remove(head, &members)?;
                Reply::Scored(taken)
            }
            Act::SortedPage { after, count } => Reply::Scored(match after {
                Some((score, member)) => self.scored(
                    "SELECT m, score FROM fx_sorted WHERE id = ?1 AND (score, m) > (?2, ?3) ORDER BY score, m LIMIT ?4",
                    params![head.id, plain_score(*score), member, signed(*count)],
                )?,
                None => self.ranked(head, 0, signed(*count), false)?,
            }),
            _ => Reply::Int(head.n),
        })
    }

    /// The entries of a stream after one id, up to another.
    pub(super) fn entries(
        &self,
        id: i64,
        after: Option<StreamId>,
        until: Option<StreamId>,
        count: u64,
    ) -> Outcome<Vec<(StreamId, Cell)>> {
        let unsigned = |number: i64| u64::try_from(number).unwrap_or(0);
        let (after, until) = (after.map_or((-1, -1), pair), until.map_or((i64::MAX, i64::MAX), pair));
        let mut select = self.connection.prepare_cached(
            "SELECT ms, seq, v FROM fx_stream WHERE id = ?1 AND (ms, seq) > (?2, ?3) AND (ms, seq) <= (?4, ?5) \
             ORDER BY ms, seq LIMIT ?6",
        )?;
        let rows = select.query_map((id, after.0, after.1, until.0, until.1, signed(count)), |row| {
            Ok(((unsigned(row.get(0)?), unsigned(row.get(1)?)), row.get(2)?))
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    fn stream_trim(&self, head: &mut Head, maxlen: u64) -> Outcome<i64> {
        let extra = head.n - signed(maxlen).min(head.n);
        let mut delete = self.connection.prepare_cached(
            "DELETE FROM fx_stream WHERE id = ?1 AND (ms, seq) IN \
             (SELECT ms, seq FROM fx_stream WHERE id = ?1 ORDER BY ms, seq LIMIT ?2)",
        )?;
        if extra > 0 {
            delete.execute((head.id, extra))?;
        }
        head.n -= extra;
        Ok(extra)
    }

    pub(super) fn stream(&self, head: &mut Head, act: &Act) -> Outcome<Reply> {
        Ok(match act {
            Act::StreamAdd { fields, maxlen } => {
                let now = self.now.div_euclid(1000);
                (head.lo, head.hi) = if now > head.lo { (now, 0) } else { (head.lo, head.hi + 1) };
                let mut insert = self
                    .connection
                    .prepare_cached("INSERT INTO fx_stream (id, ms, seq, v) VALUES (?1, ?2, ?3, ?4)")?;
                insert.execute(params![head.id, head.lo, head.hi, fields])?;
                head.n += 1;
                if let Some(maxlen) = maxlen {
                    self.stream_trim(head, *maxlen)?;
                }
                Reply::Id((u64::try_from(head.lo).unwrap_or(0), u64::try_from(head.hi).unwrap_or(0)))
            }
            Act::StreamRange { after, until, count } => {
                Reply::Entries(self.entries(head.id, *after, *until, *count)?)
            }
            Act::StreamTrim(maxlen) => Reply::Int(self.stream_trim(head, *maxlen)?),
            _ => Reply::Int(head.n),
        })
    }
}

fn pair((millis, number): StreamId) -> (i64, i64) {
    (signed(millis), signed(number))
}
