"""The guard that keeps the module `sqlite3` away from databases that are open in this process."""

from __future__ import annotations

from flexcache_rs._core import guard_sqlite3 as _guard
from flexcache_rs._suggest import suggesting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


@suggesting
def guard_sqlite3(wanted: bool) -> None:
    """Set whether `sqlite3` gets a RuntimeError for a database that is open here. By default it does.

    Two copies of SQLite in one process do not see each other's locks, and the database would be damaged. The guard is
    an audit hook, which is added when `sqlite3` is imported. Like every audit hook, it makes `id()` and
    `sys._getframe()` several times slower in the whole process. A program that uses `sqlite3` only for other
    databases can do without the guard. Call this function before the first cache is opened. A later call stops the
    guard, but the hook stays.

    Args:
        wanted: Whether to raise the RuntimeError.

    Raises:
        TypeError: `wanted` is no bool.

    >>> guard_sqlite3(True)
    """
    given: Any = wanted
    if not isinstance(given, bool):
        raise TypeError(f"wanted must be True or False, not {wanted!r:.100}")
    _guard(wanted)
