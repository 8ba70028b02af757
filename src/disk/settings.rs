//! Settings, which are rows of a table, some of them pragmas of SQLite; and the creation of the tables.

use std::time::Duration;

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension};

use crate::connection::PooledConnection;
use crate::error::Result;
use crate::eviction_rules::Policy;
use crate::row::Owned;
use crate::schema;
use crate::sql::{retry_to_open, retry_while_busy};
use crate::store::DiskStore;

impl DiskStore {
    /// The settings in the directory, or none if it has no tables yet.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`](crate::Error::Busy); the database cannot be opened or read.
    pub fn settings(&self, patience: Duration) -> Result<Vec<(String, Value)>> {
        retry_to_open(patience, |patience| self.read(patience, |connection| settings(connection)))
    }

    /// Creates the tables, and writes the settings that differ. Writes nothing if nothing differs, or if the
    /// directory cannot be written and has the tables.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`](crate::Error::Busy); the database cannot be written.
    pub fn create(&self, settings: &[(String, Value)], policy: &Policy, patience: Duration) -> Result<()> {
        if self.is_read_only() {
            let is_there = retry_to_open(patience, |patience| {
                self.read(patience, |connection| {
                    Ok(schema::has(connection, "Settings")? && schema::has(connection, "Cache")?)
                })
            })?;
            return if is_there { Ok(()) } else { self.require_writable() };
        }
        retry_to_open(patience, |patience| {
            self.read(patience, |connection| {
                self.begin_log(connection, settings)?;
                for (key, value) in settings {
                    self.apply(connection, key, value)?;
                }
                Ok(())
            })?;
            if self.read(patience, |connection| is_current(connection, settings))? {
                // Writes nothing if it has been done.
                return match &policy.init {
                    Some(init) => self.read(patience, |connection| Ok(connection.execute_batch(init)?)),
                    None => Ok(()),
                };
            }
            self.write(patience, |connection, effects| {
                effects.several(connection)?;
                connection.execute_batch(schema::SETTINGS)?;
                let there = self::settings(connection)?;
                for (key, value) in settings {
                    if !there.iter().any(|(other, stored)| other == key && same(stored, value)) {
                        let mut write = connection
                            .prepare_cached("INSERT OR REPLACE INTO Settings (key, value) VALUES (?, ?)")?;
                        write.execute((key, value))?;
                    }
                }
                for key in schema::METADATA {
                    let mut write = connection
                        .prepare_cached("INSERT OR IGNORE INTO Settings (key, value) VALUES (?, 0)")?;
                    write.execute([key])?;
                }
                schema::create(connection)?;
                if let Some(init) = &policy.init {
                    connection.execute_batch(init)?;
                }
                index_tags(connection, wants_tag_index(settings))
            })
            .map(|written| written.result)
        })
    }

    /// Writes the first page of a new database that will have a log, without a journal on the disk: there is
    /// nothing to roll back to, and the journal would be synchronized three times. If this fails,
    /// [`DiskStore::apply`] switches to the log.
    fn begin_log(&self, connection: &Connection, settings: &[(String, Value)]) -> Result<()> {
        let is_wanted = |(key, value): &(String, Value)| {
            key == JOURNAL && matches!(value, Value::Text(mode) if mode.eq_ignore_ascii_case("wal"))
        };
        if !settings.iter().any(is_wanted) {
            return Ok(());
        }
        let pages: i64 = connection.query_row("PRAGMA page_count", [], |row| row.get(0))?;
        if pages == 0 {
            // `journal_mode = memory` stays with the connection that sets it, so this uses another one.
            let _ = PooledConnection::<()>::open_existing(&self.database).and_then(|first| {
                first.execute_batch("PRAGMA journal_mode = memory")?;
                settings.iter().try_for_each(|(key, value)| set_pragma(&first, key, value))
            });
        }
        Ok(())
    }

    /// The value of a setting or counter, or `None` if there is none.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    pub fn setting(&self, key: &str, patience: Duration) -> Result<Option<Value>> {
        self.read_counters(patience, |connection| setting(connection, key))
    }

    /// Changes an existing setting. A setting `sqlite_*` takes effect at once for every connection.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`](crate::Error::Busy); the database cannot be written.
    pub fn change_setting(&self, key: &str, value: &Value, update: bool, patience: Duration) -> Result<()> {
        if update {
            self.write(patience, |connection, _| {
                let mut write = connection.prepare_cached("UPDATE Settings SET value = ?2 WHERE key = ?1")?;
                write.execute((key, value))?;
                Ok(())
            })?;
        }
        if key.starts_with("sqlite_") {
            // SQLite does not always wait by itself when it changes the kind of journal.
            retry_while_busy(patience, |patience| {
                self.read(patience, |connection| self.apply(connection, key, value))
            })?;
            if update {
                self.close();
            }
        }
        Ok(())
    }

    /// Applies a setting to a connection and, where it is not one of SQLite's, to the store.
    pub(crate) fn apply(&self, connection: &Connection, key: &str, value: &Value) -> Result<()> {
        if let Some(pages) = log_interval(key, value) {
            self.pool.log().set_interval(pages);
        }
        if key == MAPPED && has_log(connection)? {
            return Ok(());
        }
        set_pragma(connection, key, value)
    }

    /// Creates or drops the index of tags.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`](crate::Error::Busy); the database cannot be written.
    pub fn index_tags(&self, wanted: bool, patience: Duration) -> Result<()> {
        self.write(patience, |connection, _| index_tags(connection, wanted)).map(|written| written.result)
    }
}

pub(crate) fn settings(connection: &Connection) -> Result<Vec<(String, Value)>> {
    if !schema::has(connection, "Settings")? {
        return Ok(Vec::new());
    }
    let mut select = connection
        .prepare_cached("SELECT key, value FROM Settings WHERE length(key) <= 1000 ORDER BY key")?;
    let rows = select.query_map([], |row| Ok((row.get(0)?, row.get::<_, Owned>(1)?.0)))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

pub(crate) fn setting(connection: &Connection, key: &str) -> Result<Option<Value>> {
    let mut select = connection.prepare_cached("SELECT value FROM Settings WHERE key = ?")?;
    Ok(select.query_row([key], |row| Ok(row.get::<_, Owned>(0)?.0)).optional()?)
}

/// Whether two values of a setting are the same: 1 and 1.0 are not.
fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Real(left), Value::Real(right)) => left.to_bits() == right.to_bits(),
        _ => left == right,
    }
}

fn wants_tag_index(settings: &[(String, Value)]) -> bool {
    let wanted = settings.iter().find(|(key, _)| key == "tag_index").map(|(_, value)| value);
    !matches!(wanted, None | Some(Value::Null | Value::Integer(0)))
}

const TAG_INDEX: &str = "Cache_tag_rowid";

fn index_tags(connection: &Connection, wanted: bool) -> Result<()> {
    match (wanted, schema::has(connection, TAG_INDEX)?) {
        (true, false) => connection.execute_batch("CREATE INDEX Cache_tag_rowid ON Cache (tag, rowid)")?,
        (false, true) => connection.execute_batch("DROP INDEX Cache_tag_rowid")?,
        _ => {}
    }
    Ok(())
}

fn is_current(connection: &Connection, settings: &[(String, Value)]) -> Result<bool> {
    let there = self::settings(connection)?;
    let holds =
        |key: &str, value: &Value| there.iter().any(|(other, stored)| other == key && same(stored, value));
    Ok(settings.iter().all(|(key, value)| holds(key, value))
        && schema::METADATA.iter().all(|&key| there.iter().any(|(other, _)| other == key))
        && schema::is_complete(connection)?
        && schema::has(connection, TAG_INDEX)? == wants_tag_index(settings))
}

/// The pragmas that a setting `sqlite_*` may set: those of one connection or one database. Pragmas for the
/// whole process, such as `temp_store_directory` and `hard_heap_limit`, are not for a directory to set.
#[rustfmt::skip]
pub const PRAGMAS: &[&str] = &[
    "analysis_limit", "application_id", "auto_vacuum", "automatic_index", "busy_timeout", "cache_size",
    "cache_spill", "cell_size_check", "checkpoint_fullfsync", "data_version", "defer_foreign_keys", "encoding",
    "foreign_keys", "fullfsync", "ignore_check_constraints", "incremental_vacuum", "journal_mode",
    "journal_size_limit", "legacy_alter_table", "locking_mode", "max_page_count", "mmap_size", "page_size",
    "query_only", "read_uncommitted", "recursive_triggers", "reverse_unordered_selects", "secure_delete",
    "synchronous", "temp_store", "threads", "trusted_schema", "user_version", "wal_autocheckpoint",
];

/// The setting that says which kind of journal there is.
const JOURNAL: &str = "sqlite_journal_mode";

/// The setting for how much of the file SQLite maps into memory. It is ignored if there is a log: SQLite
/// would then look for each page in the log before it looks into its own cache of pages. That takes longer
/// the more often a page is in the log, and the pages that every transaction writes are there most often.
const MAPPED: &str = "sqlite_mmap_size";

/// The setting for how long the log grows before it is written back. It is not passed to SQLite, which would
/// write the log back during a writer's call while others wait.
const LOG_INTERVAL: &str = "sqlite_wal_autocheckpoint";

/// The number of pages by which the log grows before it is written back, if `key` is that setting. If it is
/// not positive, the log is never written back.
fn log_interval(key: &str, value: &Value) -> Option<i64> {
    match value {
        Value::Integer(pages) if key == LOG_INTERVAL => Some(*pages),
        _ => None,
    }
}

fn has_log(connection: &Connection) -> Result<bool> {
    let mode: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
    Ok(mode == "wal")
}

/// Makes a connection wait for the disk as the directory's settings say.
pub(crate) fn set_safety(connection: &Connection) -> Result<()> {
    for (key, value) in settings(connection)? {
        if matches!(&*key, "sqlite_synchronous" | "sqlite_fullfsync" | "sqlite_checkpoint_fullfsync") {
            set_pragma(connection, &key, &value)?;
        }
    }
    Ok(())
}

/// Applies a setting `sqlite_*` to a connection, unless it is in effect already. Ignores other settings, and
/// pragmas that are not in [`PRAGMAS`].
pub(crate) fn set_pragma(connection: &Connection, key: &str, value: &Value) -> Result<()> {
    if key == LOG_INTERVAL {
        return Ok(());
    }
    let Some(pragma) = key.strip_prefix("sqlite_").filter(|pragma| PRAGMAS.contains(pragma)) else {
        return Ok(());
    };
    let wanted = match value {
        Value::Integer(number) => number.to_string(),
        Value::Real(number) => number.to_string(),
        Value::Text(text) => text.clone(),
        _ => return Ok(()),
    };
    let is_plain = wanted.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c));
    if !is_plain || wanted.is_empty() {
        // Anybody may have written the database, so a setting must not be a way to run SQL.
        return Ok(());
    }
    let current: Option<Value> =
        connection.prepare(&format!("PRAGMA {pragma}"))?.query_row([], |row| row.get(0)).optional()?;
    let is = |current: &Value| match current {
        Value::Integer(number) => number.to_string() == wanted,
        Value::Text(text) => text.eq_ignore_ascii_case(&wanted),
        _ => false,
    };
    if !current.is_some_and(|current| is(&current)) {
        connection.execute_batch(&format!("PRAGMA {pragma} = {wanted}"))?;
    }
    Ok(())
}
