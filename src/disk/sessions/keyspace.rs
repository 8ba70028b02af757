//! Operations on whole keys.

use std::collections::BTreeSet;

use flexcache_containers::container::sum;
use flexcache_containers::operation::{Act, Cell, Combine, Key, Kind, Mode, Op, Reply, Touch, Whole};
use flexcache_containers::{Error as OperationError, pages};
use rusqlite::params;

use super::head::{Head, signed};
use super::{Asked, Outcome};

pub(super) fn counted(count: usize) -> Reply {
    Reply::Int(i64::try_from(count).unwrap_or(i64::MAX))
}

pub(super) fn wrong_kind<T>(key: &[u8], held: Kind, wanted: Kind) -> Outcome<T> {
    Err(OperationError::Kind { key: key.to_vec(), held, wanted }.into())
}

impl Asked<'_> {
    pub(super) fn apply(&self, op: &Op) -> Outcome<Reply> {
        Ok(match op {
            Op::Get(keys) => {
                Reply::Wholes(keys.iter().map(|key| self.whole(key)).collect::<Outcome<Vec<_>>>()?)
            }
            Op::Set { items, touch, mode } => {
                let mut count = 0;
                for (key, whole) in items {
                    let old = self.head(key)?.map(|head| head.expire);
                    let is_wanted = match mode {
                        Mode::Always => true,
                        Mode::IfAbsent => old.is_none(),
                        Mode::IfPresent => old.is_some(),
                    };
                    if is_wanted {
                        self.store(key, whole, self.deadline(*touch, old))?;
                        count += 1;
                    }
                }
                Reply::Int(count)
            }
            Op::Delete(keys) => {
                let mut count = 0;
                for key in keys {
                    count += i64::from(self.head(key)?.is_some());
                    self.remove(key)?;
                }
                Reply::Int(count)
            }
            Op::Take(key) => {
                let whole = self.whole(key)?;
                self.remove(key)?;
                Reply::Wholes(vec![whole])
            }
            Op::Rename(from, to) => {
                let Some(head) = self.head(from)? else { return Ok(Reply::Bool(false)) };
                if from != to {
                    self.remove(to)?;
                    let mut update =
                        self.connection.prepare_cached("UPDATE fx_key SET k = ?2 WHERE id = ?1")?;
                    update.execute(params![head.id, to])?;
                }
                Reply::Bool(true)
            }
            Op::KindOf(key) => Reply::Kind(self.head(key)?.map(|head| head.kind)),
            Op::Expire(key, touch) => {
                let Some(mut head) = self.head(key)? else { return Ok(Reply::Bool(false)) };
                head.expire = self.deadline(*touch, Some(head.expire));
                self.save(&head)?;
                Reply::Bool(true)
            }
            Op::Persist(key) => {
                let Some(mut head) = self.head(key)? else { return Ok(Reply::Bool(false)) };
                let was_dated = head.expire.take().is_some();
                if was_dated {
                    self.save(&head)?;
                }
                Reply::Bool(was_dated)
            }
            Op::Ttl(key) => Reply::Ttl(self.head(key)?.map(|head| {
                head.expire.map(|expire| u64::try_from(expire.saturating_sub(self.now)).unwrap_or(0))
            })),
            Op::Incr { key, by, initial, touch } => {
                let Some(mut head) = self.head(key)? else {
                    let sum = initial.plus(*by)?;
                    self.make(key, Kind::Scalar, Some(&sum.text()), self.deadline(*touch, None))?;
                    return Ok(Reply::Number(sum));
                };
                if head.kind != Kind::Scalar {
                    return wrong_kind(key, head.kind, Kind::Scalar);
                }
                let sum = sum(Some(head.value.as_deref().unwrap_or_default()), *by)?;
                head.value = Some(sum.text());
                head.expire = self.deadline(*touch, Some(head.expire));
                self.save(&head)?;
                Reply::Number(sum)
            }
            Op::On { key, kind, touch, act } => self.act(key, *kind, *touch, act)?,
            Op::Combine { keys, how } => Reply::Cells(self.combine(keys, *how)?),
            Op::Gate { name, interval, burst, cost } => self.gate(name, *interval, *burst, *cost)?,
            Op::Log { name, limit, window, cost } => self.log(name, *limit, *window, *cost)?,
            Op::Lease { name, token, micros } => self.lease(name, token, *micros)?,
            Op::Release { name, token } => self.release(name, token)?,
            Op::Keys { .. } | Op::Expiring | Op::Count | Op::CountExpired | Op::Clear | Op::Purge(_) => {
                self.all(op)?
            }
        })
    }

    fn count(&self, condition: &str) -> Outcome<i64> {
        let mut select = self
            .connection
            .prepare_cached(&format!("SELECT COUNT(*) FROM fx_key WHERE ns = ?1 AND {condition}"))?;
        Ok(select.query_row(params![self.namespace, self.now], |row| row.get(0))?)
    }

    fn all(&self, op: &Op) -> Outcome<Reply> {
        const LIVE: &str = "(expire IS NULL OR expire > ?2)";
        Ok(match op {
            Op::Keys { after, count } => {
                let is_later = if after.is_some() { "k > ?3" } else { "k >= ?3" };
                let mut select = self.connection.prepare_cached(&format!(
                    "SELECT k FROM fx_key WHERE ns = ?1 AND {is_later} AND {LIVE} ORDER BY k LIMIT ?4"
                ))?;
                let after = after.as_deref().unwrap_or_default();
                let rows = select
                    .query_map(params![self.namespace, self.now, after, signed(*count)], |row| row.get(0))?;
                Reply::Keys(rows.collect::<rusqlite::Result<_>>()?)
            }
            Op::Expiring => {
                let mut select = self.connection.prepare_cached(
                    "SELECT k, expire - ?2 FROM fx_key WHERE ns = ?1 AND expire IS NOT NULL ORDER BY k",
                )?;
                let rows = select
                    .query_map(params![self.namespace, self.now], |row| Ok((row.get(0)?, row.get(1)?)))?;
                Reply::Expiring(rows.collect::<rusqlite::Result<_>>()?)
            }
            Op::CountExpired => Reply::Int(self.count("expire <= ?2")?),
            Op::Clear => {
                let count = self.count(LIVE)?;
                self.connection
                    .prepare_cached("INSERT INTO fx_garbage (id, kind) SELECT id, kind FROM fx_key WHERE ns = ?1 AND kind <> 1")?
                    .execute([self.namespace])?;
                self.connection
                    .prepare_cached("DELETE FROM fx_key WHERE ns = ?1")?
                    .execute([self.namespace])?;
                Reply::Int(count)
            }
            Op::Purge(most) => {
                let most = signed(*most);
                let purged = self.expire(most)?;
                self.sweep_all(most.saturating_mul(10))?;
                self.forget_gates()?;
                Reply::Int(purged)
            }
            _ => Reply::Int(self.count(LIVE)?),
        })
    }

    /// The whole value of a key.
    fn whole(&self, key: &[u8]) -> Outcome<Option<Whole>> {
        let Some(head) = self.head(key)? else { return Ok(None) };
        let pairs = |sql: &str| -> Outcome<Vec<(Cell, Cell)>> {
            let mut select = self.connection.prepare_cached(sql)?;
            let rows = select.query_map([head.id], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        };
        let cells = |sql: &str| -> Outcome<Vec<Cell>> {
            let mut select = self.connection.prepare_cached(sql)?;
            let rows = select.query_map([head.id], |row| row.get(0))?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        };
        Ok(Some(match head.kind {
            Kind::Scalar => Whole::Scalar(head.value.unwrap_or_default()),
            Kind::List => Whole::List(cells("SELECT v FROM fx_list WHERE id = ?1 ORDER BY pos")?),
            Kind::Queue => Whole::Queue(cells("SELECT v FROM fx_list WHERE id = ?1 ORDER BY pos")?),
            Kind::Map => Whole::Map(pairs("SELECT f, v FROM fx_map WHERE id = ?1 ORDER BY f")?),
            Kind::Set => Whole::Set(cells("SELECT m FROM fx_set WHERE id = ?1 ORDER BY m")?),
            Kind::Sorted => Whole::Sorted(
                self.scored("SELECT m, score FROM fx_sorted WHERE id = ?1 ORDER BY score, m", [head.id])?,
            ),
            Kind::Stream => Whole::Stream(self.entries(head.id, None, None, u64::MAX)?),
            Kind::Bloom | Kind::Bits => {
                let mut select = self
                    .connection
                    .prepare_cached("SELECT page, v FROM fx_page WHERE id = ?1 ORDER BY page")?;
                let rows = select.query_map([head.id], |row| Ok((row.get::<_, i64>(0)?, row.get(1)?)))?;
                let mut positions = Vec::new();
                for row in rows {
                    let (page, bytes): (i64, Vec<u8>) = row?;
                    positions.extend(pages::positions(u64::try_from(page).unwrap_or(0), &bytes));
                }
                Whole::Positions(head.kind, positions)
            }
        }))
    }

    /// Stores the whole value of a key.
    fn store(&self, key: &[u8], whole: &Whole, expire: Option<i64>) -> Outcome<()> {
        let value = if let Whole::Scalar(cell) = whole { Some(cell.as_slice()) } else { None };
        let mut head = self.make(key, whole.kind(), value, expire)?;
        match whole {
            Whole::Scalar(_) => return Ok(()),
            Whole::List(cells) | Whole::Queue(cells) => {
                self.push(&mut head, cells, false)?;
            }
            Whole::Map(pairs) => {
                self.map_set(&mut head, pairs)?;
            }
            Whole::Set(members) => {
                self.set_add(&mut head, members)?;
            }
            Whole::Sorted(members) => {
                self.sorted_add(&mut head, members, false, false)?;
            }
            Whole::Stream(_) | Whole::Positions(..) => {}
        }
        self.save(&head)
    }

    fn act(&self, key: &[u8], kind: Kind, touch: Touch, act: &Act) -> Outcome<Reply> {
        let found = self.head(key)?;
        if let Some(head) = &found
            && head.kind != kind
        {
            return wrong_kind(key, head.kind, kind);
        }
        let is_new = found.is_none();
        let mut head = match found {
            Some(head) => head,
            None if act.creates() => self.make(key, kind, None, self.deadline(touch, None))?,
            // No key has this id, so nothing is found and nothing changes.
            None => Head { id: -1, kind, value: None, n: 0, lo: 0, hi: 0, seq: 0, expire: None },
        };
        if let Act::BloomAdd { shape, .. } | Act::BloomHas { shape, .. } = act
            && head.value.as_ref().is_some_and(|made| made != shape)
        {
            return Err(OperationError::Shape.into());
        }
        let reply = match kind {
            Kind::Scalar => return Err(OperationError::NotANumber.into()),
            Kind::List | Kind::Queue => self.list(&mut head, act)?,
            Kind::Map => self.map(&mut head, act)?,
            Kind::Set => self.set(&mut head, act)?,
            Kind::Sorted => self.sorted(&mut head, act)?,
            Kind::Stream => self.stream(&mut head, act)?,
            Kind::Bloom | Kind::Bits => self.bits(&mut head, act)?,
        };
        if act.writes() && head.id >= 0 {
            if !is_new {
                head.expire = self.deadline(touch, Some(head.expire));
            }
            self.save(&head)?;
        }
        Ok(reply)
    }

    fn combine(&self, keys: &[Key], how: Combine) -> Outcome<Vec<Cell>> {
        let mut result: Option<BTreeSet<Cell>> = None;
        for key in keys {
            let set: BTreeSet<Cell> = match self.whole(key)? {
                None => BTreeSet::new(),
                Some(Whole::Set(members)) => members.into_iter().collect(),
                Some(other) => return wrong_kind(key, other.kind(), Kind::Set),
            };
            result = Some(match result {
                None => set,
                Some(result) => match how {
                    Combine::Union => result.into_iter().chain(set).collect(),
                    Combine::Intersection => {
                        result.into_iter().filter(|member| set.contains(member)).collect()
                    }
                    Combine::Difference => {
                        result.into_iter().filter(|member| !set.contains(member)).collect()
                    }
                },
            });
        }
        Ok(result.unwrap_or_default().into_iter().collect())
    }
}
