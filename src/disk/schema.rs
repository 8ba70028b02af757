//! Tables, indexes and triggers, as python-diskcache makes and expects them.

use rusqlite::Connection;

use crate::error::Result;

pub(crate) const SETTINGS: &str = "CREATE TABLE IF NOT EXISTS Settings (key TEXT NOT NULL UNIQUE, value)";

/// The rows that are counters. Triggers keep the first two, reads the others.
pub const METADATA: [&str; 4] = ["count", "size", "hits", "misses"];

/// The tables and indexes. Here the index of expiry times has no entry for a row that never expires, so
/// storing and deleting such a row writes one page less. In a directory that python-diskcache has made, the
/// index has an entry for every row, and stays so. Both libraries work with either index.
const CACHE: &str = "
CREATE TABLE IF NOT EXISTS Cache (
  rowid INTEGER PRIMARY KEY,
  key BLOB,
  raw INTEGER,
  store_time REAL,
  expire_time REAL,
  access_time REAL,
  access_count INTEGER DEFAULT 0,
  tag BLOB,
  size INTEGER DEFAULT 0,
  mode INTEGER DEFAULT 0,
  filename TEXT,
  value BLOB
);
CREATE UNIQUE INDEX IF NOT EXISTS Cache_key_raw ON Cache (key, raw);
CREATE INDEX IF NOT EXISTS Cache_expire_time ON Cache (expire_time) WHERE expire_time IS NOT NULL;
";

/// The triggers: name, event, row of Settings, and the change of its value.
const TRIGGERS: [(&str, &str, &str, &str); 5] = [
    ("Settings_count_insert", "INSERT", "count", "+ 1"),
    ("Settings_count_delete", "DELETE", "count", "- 1"),
    ("Settings_size_insert", "INSERT", "size", "+ NEW.size"),
    ("Settings_size_update", "UPDATE", "size", "+ NEW.size - OLD.size"),
    ("Settings_size_delete", "DELETE", "size", "- OLD.size"),
];

const OBJECTS: [&str; 3] = ["Cache", "Cache_key_raw", "Cache_expire_time"];

/// Whether a table, index or trigger exists.
pub(crate) fn has(connection: &Connection, name: &str) -> Result<bool> {
    let mut statement = connection.prepare_cached("SELECT 1 FROM sqlite_master WHERE name = ?")?;
    Ok(statement.exists([name])?)
}

/// Whether all tables, indexes and triggers exist.
pub(crate) fn is_complete(connection: &Connection) -> Result<bool> {
    let names: Vec<String> = connection
        .prepare_cached("SELECT name FROM sqlite_master")?
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let mut needed = OBJECTS.into_iter().chain(TRIGGERS.map(|(name, ..)| name));
    Ok(needed.all(|name| names.iter().any(|there| there == name)))
}

/// Makes what is missing.
pub(crate) fn create(connection: &Connection) -> Result<()> {
    connection.execute_batch(CACHE)?;
    for (name, event, key, change) in TRIGGERS {
        connection.execute_batch(&format!(
            "CREATE TRIGGER IF NOT EXISTS {name} AFTER {event} ON Cache FOR EACH ROW BEGIN \
             UPDATE Settings SET value = value {change} WHERE key = '{key}'; END"
        ))?;
    }
    Ok(())
}
