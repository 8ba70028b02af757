//! The tables of sessions.

use std::time::Duration;

use rusqlite::Connection;

use crate::error::Result;
use crate::sql::{execute, retry_to_open, roll_back};

/// The version of the tables, which the database carries.
pub(super) const VERSION: i32 = 2;

/// `fx_key` has one row for each key. The elements are in the table of its kind, under an `id` that is never
/// reused. `lo` and `hi` are the positions of a list, or the last id of a stream; `seq` numbers jobs. Times
/// are microseconds since 1970.
const TABLES: &str = "\
    CREATE TABLE IF NOT EXISTS fx_key (id INTEGER PRIMARY KEY AUTOINCREMENT, ns BLOB NOT NULL, k BLOB NOT NULL, \
        kind INTEGER NOT NULL, v BLOB, n INTEGER NOT NULL DEFAULT 0, lo INTEGER NOT NULL DEFAULT 0, \
        hi INTEGER NOT NULL DEFAULT 0, seq INTEGER NOT NULL DEFAULT 0, expire INTEGER, UNIQUE (ns, k)); \
    CREATE INDEX IF NOT EXISTS fx_expire ON fx_key (expire) WHERE expire IS NOT NULL; \
    CREATE TABLE IF NOT EXISTS fx_list (id INTEGER, pos INTEGER, v BLOB NOT NULL, PRIMARY KEY (id, pos)) WITHOUT ROWID; \
    CREATE TABLE IF NOT EXISTS fx_job (id INTEGER, job INTEGER, until INTEGER NOT NULL, v BLOB NOT NULL, \
        PRIMARY KEY (id, job)) WITHOUT ROWID; \
    CREATE TABLE IF NOT EXISTS fx_map (id INTEGER, f BLOB, v BLOB NOT NULL, PRIMARY KEY (id, f)) WITHOUT ROWID; \
    CREATE TABLE IF NOT EXISTS fx_set (id INTEGER, m BLOB, PRIMARY KEY (id, m)) WITHOUT ROWID; \
    CREATE TABLE IF NOT EXISTS fx_sorted (id INTEGER, m BLOB, score REAL NOT NULL, PRIMARY KEY (id, m)) WITHOUT ROWID; \
    CREATE INDEX IF NOT EXISTS fx_score ON fx_sorted (id, score, m); \
    CREATE TABLE IF NOT EXISTS fx_stream (id INTEGER, ms INTEGER, seq INTEGER, v BLOB NOT NULL, \
        PRIMARY KEY (id, ms, seq)) WITHOUT ROWID; \
    CREATE TABLE IF NOT EXISTS fx_page (id INTEGER, page INTEGER, v BLOB NOT NULL, PRIMARY KEY (id, page)) WITHOUT ROWID; \
    CREATE TABLE IF NOT EXISTS fx_gate (k BLOB PRIMARY KEY, tat INTEGER NOT NULL) WITHOUT ROWID; \
    CREATE TABLE IF NOT EXISTS fx_lease (k BLOB PRIMARY KEY, token BLOB NOT NULL, expire INTEGER NOT NULL) WITHOUT ROWID; \
    CREATE TABLE IF NOT EXISTS fx_garbage (id INTEGER PRIMARY KEY, kind INTEGER NOT NULL)";

/// What each version adds to the tables of the version before. `TABLES` are those of version 1; the first
/// item is what version 2 adds.
const UPGRADES: [&str; 1] =
    ["CREATE TABLE IF NOT EXISTS fx_log (k BLOB, until INTEGER, n INTEGER NOT NULL, \
    PRIMARY KEY (k, until)) WITHOUT ROWID"];

/// Marks a database as one of sessions: "fxcs".
const APPLICATION: i32 = 0x6678_6373;

/// Stands for the version of a database that another program has made.
pub(super) const FOREIGN: i32 = -1;

fn number(connection: &Connection, sql: &str) -> Result<i32> {
    Ok(connection.query_row(sql, [], |row| row.get(0))?)
}

/// The version of the tables; 0 if there are none.
fn version(connection: &Connection) -> Result<i32> {
    if number(connection, "PRAGMA application_id")? == APPLICATION {
        return number(connection, "PRAGMA user_version");
    }
    Ok(if number(connection, "SELECT COUNT(*) FROM sqlite_master")? == 0 { 0 } else { FOREIGN })
}

/// Makes the tables if there are none, and upgrades those of an earlier version. Returns the version of the
/// tables.
pub(super) fn create(connection: &Connection, patience: Duration) -> Result<i32> {
    retry_to_open(patience, |_| {
        let found = version(connection)?;
        if !(0..VERSION).contains(&found) {
            return Ok(found);
        }
        // An existing database keeps its setting.
        connection.pragma_update(None, "auto_vacuum", "none")?;
        connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
        execute(connection, "BEGIN IMMEDIATE")?;
        let made = version(connection).and_then(|found| {
            if (0..VERSION).contains(&found) {
                upgrade(connection, found)?;
            }
            execute(connection, "COMMIT")
        });
        if made.is_err() {
            roll_back(connection);
        }
        made?;
        version(connection)
    })
}

/// Upgrades tables of another version to this one, in a transaction.
fn upgrade(connection: &Connection, found: i32) -> Result<()> {
    if found == 0 {
        connection.execute_batch(TABLES)?;
        connection.pragma_update(None, "application_id", APPLICATION)?;
    }
    let done = usize::try_from(found.max(1) - 1).unwrap_or(0);
    for statements in UPGRADES.iter().skip(done) {
        connection.execute_batch(statements)?;
    }
    connection.pragma_update(None, "user_version", VERSION)?;
    Ok(())
}
