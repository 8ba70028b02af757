"""Statements on the tables of a directory: `cache.query`, and python-diskcache's private names for it."""

from __future__ import annotations

import contextlib
from functools import partial

from flexcache_rs._arguments import described
from flexcache_rs._core import DiskCache, Timeout
from flexcache_rs._suggest import suggesting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping
    from typing import Any

    from typing_extensions import Self


class Rows:
    """The rows of a statement: an iterator over tuples, which also has the methods of a cursor of `sqlite3`."""

    arraysize = 1

    def __init__(self, columns: list[str], rows: list[tuple[Any, ...]], rowcount: int, lastrowid: int) -> None:
        self._rows = iter(rows)
        self.rowcount = rowcount
        """The number of written rows, or -1 if the statement does not write."""
        self.lastrowid = lastrowid
        """The rowid of the row that the connection inserted last."""
        self.description = [(name, *(None,) * 6) for name in columns] or None
        """For each column a tuple of its name and six times None, as in `sqlite3`."""

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> tuple[Any, ...]:
        return next(self._rows)

    def fetchone(self) -> tuple[Any, ...] | None:
        """Return the next row, or None after the last one."""
        return next(self._rows, None)

    def fetchmany(self, size: int | None = None) -> list[tuple[Any, ...]]:
        """Return at most `size` further rows."""
        from itertools import islice

        return list(islice(self._rows, self.arraysize if size is None else size))

    def fetchall(self) -> list[tuple[Any, ...]]:
        """Return the remaining rows."""
        return list(self._rows)

    def close(self) -> None:
        """Drop the remaining rows."""
        self._rows = iter(())


class Connection:
    """Looks like python-diskcache's private connection, and runs statements through the cache."""

    def __init__(self, query: Callable[..., Any], run: Callable[..., Any], retry: bool) -> None:
        self._query = query
        self._run = run
        self._retry = bool(retry)

    def execute(self, sql: str, parameters: Iterable[Any] | Mapping[str, Any] = (), /) -> Rows:
        """Run a statement."""
        # Try it as a reading statement first, because most are and need not wait for writers.
        found = self._query(sql, parameters, self._retry)
        return Rows(*(self._run(sql, (parameters,), self._retry) if found is None else found))

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> Rows:
        """Run a writing statement once for each of the parameters, in one transaction."""
        return Rows(*self._run(sql, parameters, self._retry))


def _connection(cache: DiskCache, retry: bool) -> Connection:
    # A subclass may have methods of these names.
    return Connection(partial(DiskCache._query, cache), partial(DiskCache._run, cache), retry)


@suggesting
class QueryMixin:
    """Statements on the tables of a `Cache`."""

    def query(self: Any, sql: str, parameters: Iterable[Any] | Mapping[str, Any] = (), *, retry: bool = False) -> Rows:
        """Runs a statement of SQL that only reads, on the tables as they are.

        The tables are python-diskcache's: `Cache` (key, raw, store_time, expire_time, access_time, access_count, tag,
        size, mode, filename, value) and `Settings` (key, value). Keys and values are as they are stored: text, bytes
        and numbers as themselves (raw = 1, mode = 1), others encoded. Expired rows are present until they are removed.
        In a transaction of this thread, the statement sees the changes of the transaction.

        Args:
            sql: One statement; `?` and `:name` are parameters.
            parameters: A sequence of values, or a dict.
            retry: Whether to wait for others for longer than `timeout`.

        Returns:
            An iterator over the rows, which also has `fetchone`, `fetchall` and `description`.

        Raises:
            ValueError: The statement writes.
            sqlite3.Error: SQLite refuses the statement.
            Timeout: The database was locked for longer than `timeout` seconds.

        All rows are read at once, so memory grows with the result.

        >>> from flexcache_rs.disk import Cache
        >>> cache = Cache()
        >>> cache.set_many({"a": 1, "b": 2}, tag="letters")
        2
        >>> cache.query("SELECT key, value FROM Cache WHERE tag = ? ORDER BY key DESC", ["letters"]).fetchall()
        [('b', 2), ('a', 1)]
        """
        if not isinstance(sql, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"sql must be a str, not {described(sql)}")
        found = DiskCache._query(self, sql, parameters, bool(retry))
        if found is None:
            raise ValueError(f"sql must be a statement that only reads, not {sql!r:.200}")
        return Rows(*found)

    @property
    def _con(self: Any) -> Connection:
        return _connection(self, retry=False)

    @property
    def _sql(self) -> Callable[..., Rows]:
        return self._con.execute

    @property
    def _sql_retry(self: Any) -> Callable[..., Rows]:
        return _connection(self, retry=True).execute

    @contextlib.contextmanager
    def _transact(
        self: Any, retry: bool = False, filename: str | None = None
    ) -> Generator[tuple[Callable[..., Rows], Callable[[str | None], None]]]:
        """Begin a transaction. Yields a function that runs statements, and one that marks files for later deletion."""
        needless: list[str | None] = []
        try:
            with self.transact(retry):
                yield self._sql, needless.append
        except BaseException as error:
            needless = [filename] if isinstance(error, Timeout) else []
            raise
        finally:
            for name in needless:
                if name is not None:
                    self._disk.remove(name)
