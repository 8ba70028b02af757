//! Gates and leases.

use flexcache_containers::operation::{Cell, Reply, logged};
use rusqlite::{OptionalExtension, params};

use super::head::signed;
use super::{Asked, Outcome};

/// The time at which the gate would let the next call through at its rate. If the clock was set back by more
/// than the longest possible wait, the gate starts anew.
const BASE: &str = "(CASE WHEN tat > ?2 + 2 * ?4 THEN ?2 ELSE max(tat, ?2) END)";

impl Asked<'_> {
    /// The name of a gate or lease, with its namespace.
    fn full(&self, name: &[u8]) -> Vec<u8> {
        let mut full = Vec::with_capacity(1 + self.namespace.len() + name.len());
        full.push(u8::try_from(self.namespace.len()).unwrap_or(u8::MAX));
        full.extend_from_slice(self.namespace);
        full.extend_from_slice(name);
        full
    }

    pub(super) fn gate(&self, name: &[u8], interval: u64, burst: u64, cost: u64) -> Outcome<Reply> {
        let name = self.full(name);
        let (price, burst) = (signed(interval.saturating_mul(cost)), signed(burst));
        let mut pass = self.connection.prepare_cached(&format!(
            "INSERT INTO fx_gate (k, tat) VALUES (?1, ?2 + ?3) ON CONFLICT (k) DO UPDATE SET tat = {BASE} + ?3 \
             WHERE {BASE} + ?3 - ?2 <= ?4 RETURNING tat"
        ))?;
        let next: Option<i64> =
            pass.query_row(params![name, self.now, price, burst], |row| row.get(0)).optional()?;
        if let Some(next) = next {
            if next <= self.now.saturating_add(price) {
                self.forget_some("fx_gate", "tat", &name)?;
            }
            let left = burst - (next - self.now);
            let remaining = left / signed(interval.max(1));
            return Ok(Reply::Gate {
                allowed: true,
                micros: 0,
                remaining: u64::try_from(remaining).unwrap_or(0),
            });
        }
        let mut select = self.connection.prepare_cached("SELECT tat FROM fx_gate WHERE k = ?1")?;
        let next: i64 = select.query_row([&name], |row| row.get(0))?;
        let wait = next.max(self.now) + price - self.now - burst;
        Ok(Reply::Gate { allowed: false, micros: u64::try_from(wait).unwrap_or(0), remaining: 0 })
    }

    pub(super) fn log(&self, name: &[u8], limit: u64, window: u64, cost: u64) -> Outcome<Reply> {
        let name = self.full(name);
        let end = self.now.saturating_add(signed(window));
        // A logged call that would count for longer than one that is logged now is from before the clock was
        // set back.
        let mut forget = self
            .connection
            .prepare_cached("DELETE FROM fx_log WHERE k = ?1 AND (until <= ?2 OR until > ?3)")?;
        forget.execute(params![name, self.now, end])?;
        let mut select =
            self.connection.prepare_cached("SELECT until, n FROM fx_log WHERE k = ?1 ORDER BY until")?;
        let unsigned = |number: i64| u64::try_from(number).unwrap_or(0);
        let rows = select.query_map([&name], |row| Ok((unsigned(row.get(0)?), unsigned(row.get(1)?))))?;
        let log: Vec<(u64, u64)> = rows.collect::<rusqlite::Result<_>>()?;
        let reply = logged(log.iter().copied(), unsigned(self.now), limit, cost);
        if matches!(reply, Reply::Gate { allowed: true, .. }) {
            let mut insert = self.connection.prepare_cached(
                "INSERT INTO fx_log (k, until, n) VALUES (?1, ?2, ?3) ON CONFLICT (k, until) DO UPDATE SET n = n + ?3",
            )?;
            insert.execute(params![name, end, signed(cost)])?;
            if log.is_empty() {
                self.forget_some("fx_log", "until", &name)?;
            }
        }
        Ok(reply)
    }

    pub(super) fn lease(&self, name: &[u8], token: &Cell, micros: u64) -> Outcome<Reply> {
        let name = self.full(name);
        let mut take = self.connection.prepare_cached(
            "INSERT INTO fx_lease (k, token, expire) VALUES (?1, ?2, ?3) ON CONFLICT (k) DO UPDATE \
             SET token = ?2, expire = ?3 WHERE expire <= ?4 OR token = ?2",
        )?;
        let until = self.now.saturating_add(signed(micros));
        if take.execute(params![name, token, until, self.now])? == 1 {
            self.forget_some("fx_lease", "expire", &name)?;
            return Ok(Reply::Lease(None));
        }
        let mut select = self.connection.prepare_cached("SELECT expire FROM fx_lease WHERE k = ?1")?;
        let until: i64 = select.query_row([&name], |row| row.get(0))?;
        Ok(Reply::Lease(Some(u64::try_from(until - self.now).unwrap_or(0))))
    }

    pub(super) fn release(&self, name: &[u8], token: &Cell) -> Outcome<Reply> {
        let mut delete =
            self.connection.prepare_cached("DELETE FROM fx_lease WHERE k = ?1 AND token = ?2")?;
        Ok(Reply::Bool(delete.execute(params![self.full(name), token])? == 1))
    }

    /// When a name is used, removes expired rows among the first name of the table and the two after `name`,
    /// so that names which are never used again do not stay for ever.
    fn forget_some(&self, table: &str, until: &str, name: &[u8]) -> Outcome<()> {
        let mut forget = self.connection.prepare_cached(&format!(
            "DELETE FROM {table} WHERE {until} <= ?2 AND k IN ( \
             SELECT k FROM (SELECT DISTINCT k FROM {table} WHERE k > ?1 ORDER BY k LIMIT 2) \
             UNION ALL SELECT k FROM (SELECT k FROM {table} ORDER BY k LIMIT 1))"
        ))?;
        forget.execute(params![name, self.now])?;
        Ok(())
    }

    /// Removes gates, logged calls and leases that have expired.
    pub(super) fn forget_gates(&self) -> Outcome<()> {
        self.connection.prepare_cached("DELETE FROM fx_gate WHERE tat <= ?1")?.execute([self.now])?;
        self.connection.prepare_cached("DELETE FROM fx_log WHERE until <= ?1")?.execute([self.now])?;
        self.connection.prepare_cached("DELETE FROM fx_lease WHERE expire <= ?1")?.execute([self.now])?;
        Ok(())
    }
}
