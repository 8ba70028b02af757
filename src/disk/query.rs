//! SQL statements of the user, on the tables of the format.

use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use crate::error::{Error, Result};
use crate::evict::Forecast;
use crate::row::Owned;
use crate::store::DiskStore;

/// The values of a statement's parameters.
#[derive(Clone, Debug)]
pub enum Parameters {
    /// In the order of the parameters.
    ByPlace(Vec<Value>),
    /// By their names, without the `:`, `@` or `$` that precedes them in the statement.
    ByName(Vec<(String, Value)>),
}

/// What a statement returned.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    /// The names of the columns; none if the statement returns no rows.
    pub columns: Vec<String>,
    /// The rows.
    pub rows: Vec<Vec<Value>>,
    /// The number of rows that were written; `None` if the statement does not write.
    pub changed: Option<usize>,
    /// The number of the row that was inserted last.
    pub last_row: i64,
}

/// Pragmas that only read, even with a value.
const TELLING: [&str; 8] = [
    "foreign_key_list",
    "index_info",
    "index_list",
    "index_xinfo",
    "integrity_check",
    "quick_check",
    "table_info",
    "table_xinfo",
];

/// Decides what a statement may do. It may neither begin or end transactions nor change settings: only the
/// store does so.
fn judge(context: AuthContext<'_>) -> Authorization {
    match context.action {
        AuthAction::Transaction { .. }
        | AuthAction::Savepoint { .. }
        | AuthAction::Attach { .. }
        | AuthAction::Detach { .. } => Authorization::Deny,
        AuthAction::Pragma { pragma_name, pragma_value: Some(_) }
            if !TELLING.iter().any(|telling| pragma_name.eq_ignore_ascii_case(telling)) =>
        {
            Authorization::Deny
        }
        _ => Authorization::Allow,
    }
}

/// Runs `call` on a connection that lets through what [`judge`] allows.
fn judged<R>(connection: &Connection, call: impl FnOnce() -> Result<R>) -> Result<R> {
    connection.authorizer(Some(judge))?;
    let called = call();
    connection.authorizer(None::<fn(AuthContext<'_>) -> Authorization>)?;
    called
}

fn run(connection: &Connection, sql: &str, all: &[Parameters], may_write: bool) -> Result<Option<Rows>> {
    let mut statement = connection.prepare(sql)?;
    let writes = !statement.readonly();
    if writes && !may_write {
        return Ok(None);
    }
    let mut result = Rows {
        columns: statement.column_names().into_iter().map(str::to_owned).collect(),
        changed: writes.then_some(0),
        ..Rows::default()
    };
    for parameters in all {
        let mut found = match parameters {
            Parameters::ByPlace(values) => statement.query(params_from_iter(values))?,
            Parameters::ByName(named) => {
                for place in 1..=statement.parameter_count() {
                    let name = statement.parameter_name(place).unwrap_or("?").to_owned();
                    // The name is preceded by ':', '@' or '$'.
                    let found = named.iter().find(|(other, _)| name.get(1..) == Some(other));
                    let (_, value) = found.ok_or(rusqlite::Error::InvalidParameterName(name))?;
                    statement.raw_bind_parameter(place, value)?;
                }
                statement.raw_query()
            }
        };
        while let Some(row) = found.next()? {
            let mut values = Vec::new();
            values.try_reserve_exact(result.columns.len()).map_err(|_| Error::OutOfMemory)?;
            for place in 0..result.columns.len() {
                values.push(row.get::<_, Owned>(place)?.0);
            }
            result.rows.try_reserve(1).map_err(|_| Error::OutOfMemory)?;
            result.rows.push(values);
        }
        drop(found);
        if let Some(changed) = &mut result.changed {
            *changed += usize::try_from(connection.changes()).unwrap_or(0);
        }
    }
    result.last_row = connection.last_insert_rowid();
    Ok(Some(result))
}

impl DiskStore {
    /// Runs a statement that writes nothing. If it would write, returns `None` and does nothing.
    ///
    /// # Errors
    ///
    /// What SQLite says of the statement; [`Error::Busy`].
    pub fn query(&self, sql: &str, parameters: &Parameters, patience: Duration) -> Result<Option<Rows>> {
        self.read_counters(patience, |connection| {
            judged(connection, || run(connection, sql, std::slice::from_ref(parameters), false))
        })
    }

    /// Runs a statement that may write, once for each item of `all`, in the thread's transaction or in one of
    /// its own. If one run fails, none has an effect. Triggers keep the counters. Files of values stay, even
    /// if their rows are deleted.
    ///
    /// # Errors
    ///
    /// What SQLite says of the statement; [`Error::Busy`]; the database cannot be written.
    pub fn run(&self, sql: &str, all: &[Parameters], patience: Duration) -> Result<Rows> {
        let written = self.write(patience, |connection, effects| {
            effects.several(connection)?;
            effects.write_counters(connection)?;
            // With the second one, REPLACE counts what it deletes.
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, true)?;
            connection.pragma_update(None, "recursive_triggers", true)?;
            let done = judged(connection, || run(connection, sql, all, true));
            connection.pragma_update(None, "recursive_triggers", false)?;
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
            effects.written.add_all();
            self.void_all(effects)?;
            *self.forecast() = Forecast::default();
            done
        })?;
        Ok(written.result.unwrap_or_default())
    }
}
