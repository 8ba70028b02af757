"""The adapters."""

# pyright: reportPrivateUsage=false, reportUnnecessaryIsInstance=false

from __future__ import annotations

import itertools
import os
import threading
from typing import TYPE_CHECKING, Any

from flexcache_rs.sessions import connect
from flexcache_rs.sessions.sync import connect as connect_now

if TYPE_CHECKING:
    from flexcache_rs.sessions import Session
    from flexcache_rs.sessions.sync import Session as SessionNow

__all__ = ["Adapter", "InMemory", "SQLite"]

_TABLE = "kv-store"
_numbers = itertools.count()


class Adapter:
    """Where data lie.

    Args:
        connection_uri: Which file, or nothing.
        tablename: What keeps the keys of adapters of one file apart.
    """

    def __init__(self, connection_uri: str = "", tablename: str = _TABLE) -> None:
        if not isinstance(tablename, str):
            message = f"tablename must be a str, not {type(tablename).__name__}"
            raise TypeError(message)
        self._url = self._url_of(connection_uri)
        self._namespace = "" if tablename == _TABLE else tablename
        self._lock = threading.Lock()
        self._now: SessionNow | None = None

    def _url_of(self, connection_uri: Any) -> str:
        message = "an adapter is InMemory or SQLite"
        raise NotImplementedError(message)

    def session(self) -> Session:
        """Return a session of its own, to be awaited."""
        return connect(self._url, namespace=self._namespace, timeout=30)

    def now(self) -> SessionNow:
        """Return the session of the calls that are not awaited."""
        with self._lock:
            if self._now is None:
                self._now = connect_now(self._url, namespace=self._namespace, timeout=30)
            return self._now

    def get_support_transactions(self) -> bool:
        """Whether there are transactions."""
        return True


class InMemory(Adapter):
    """Keys in this process. Two adapters are two stores."""

    def __init__(self, connection_uri: str = "", tablename: str = _TABLE) -> None:
        super().__init__(connection_uri, tablename)
        # The store lives as long as the adapter.
        self.now()

    def _url_of(self, connection_uri: Any) -> str:
        if connection_uri:
            message = f"InMemory takes no connection_uri, not {connection_uri!r}"
            raise ValueError(message)
        return f"memory://pycache-{os.getpid()}-{next(_numbers)}"


class SQLite(Adapter):
    """Keys in a file, which is made if there is none. Files that PyCache itself has written are refused."""

    def __init__(self, connection_uri: str, tablename: str = _TABLE) -> None:
        super().__init__(connection_uri, tablename)
        if self._url.startswith("memory:"):
            self.now()

    def _url_of(self, connection_uri: Any) -> str:
        if not isinstance(connection_uri, (str, os.PathLike)) or not connection_uri:
            message = f"connection_uri must be the name of a file, not {connection_uri!r}"
            raise TypeError(message)
        place = os.fsdecode(os.fspath(connection_uri))  # pyright: ignore[reportUnknownArgumentType]
        if place == ":memory:":
            return f"memory://pycache-{os.getpid()}-{next(_numbers)}"
        return "sqlite://" + "".join(f"%{ord(letter):02X}" if letter in "%?#" else letter for letter in place)
