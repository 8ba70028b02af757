"""The adapters."""

# pyright: reportPrivateUsage=false, reportUnnecessaryIsInstance=false

from __future__ import annotations

import itertools
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from weakref import WeakValueDictionary

from flexcache_rs import _urls
from flexcache_rs._suggest import suggesting
from flexcache_rs._threads import ForkSafeRLock
from flexcache_rs.pycache.migrate import tables_of
from flexcache_rs.pycache.snapshot import SnapshotConfig, default_config
from flexcache_rs.sessions import SessionError, connect
from flexcache_rs.sessions.sync import connect as connect_now

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flexcache_rs.sessions import Session
    from flexcache_rs.sessions.sync import Session as SessionNow

__all__ = ["Adapter", "InMemory", "MySQL", "Redis", "SQLite", "Sharded"]

_TABLE = "kv-store"
_numbers = itertools.count()


@suggesting
class Adapter:
    """A place where data is stored.

    Args:
        connection_uri: The file, or empty text.
        tablename: The namespace of the keys. Adapters of one file with different names have different keys.
    """

    snapshots_enabled = False
    """Whether a snapshot is taken at the end of a session."""

    def __init__(self, connection_uri: str | os.PathLike[str] = "", tablename: str = _TABLE) -> None:
        if not isinstance(tablename, str):
            message = f"tablename must be a str, not {type(tablename).__name__}"
            raise TypeError(message)
        self._url: Any = self._url_of(connection_uri)
        self._namespace = "" if tablename == _TABLE else tablename
        self._lock = ForkSafeRLock()
        self._now: SessionNow | None = None
        self._kept: Session | None = None

    def _url_of(self, connection_uri: Any) -> Any:
        message = "an adapter must be InMemory, SQLite, Redis, MySQL or Sharded"
        raise NotImplementedError(message)

    def session(self) -> Session:
        """Return a new session, whose calls are awaited."""
        return connect(self._url, namespace=self._namespace, timeout=30)

    def now(self) -> SessionNow:
        """Return the session of the calls that are not awaited."""
        with self._lock:
            if self._now is None:
                self._now = connect_now(self._url, namespace=self._namespace, timeout=30)
            return self._now

    def kept(self) -> Session:
        """Return the session of decorated coroutine functions. Their calls share computations."""
        with self._lock:
            if self._kept is None:
                self._kept = self.session()
            return self._kept

    def save(self) -> None:
        """Take a snapshot if the adapter takes snapshots and there was a change."""

    def get_support_transactions(self) -> bool:
        """Whether there are transactions."""
        return True


# By directory: the sessions that keep stores with snapshots open.
_with_snapshots: WeakValueDictionary[str, SessionNow] = WeakValueDictionary()
_opening = ForkSafeRLock()


@suggesting
class InMemory(Adapter):
    """Keys in this process. Two adapters are two stores, unless they have the same directory of snapshots.

    Args:
        connection_uri: Any text, as in PyCache. It has no effect.
        tablename: The namespace of the keys. Adapters of one directory with different names have different keys.
        snapshot: Whether a snapshot is loaded, and snapshots are taken as `snapshot_config` says and when a session
            ends.
        snapshot_config: The directory and the times of snapshots. Those of the first adapter of a directory apply.
    """

    def __init__(
        self,
        connection_uri: str = "",
        tablename: str = _TABLE,
        snapshot: bool = False,
        snapshot_config: SnapshotConfig | None = None,
    ) -> None:
        super().__init__(connection_uri, tablename)
        if snapshot_config is not None and not isinstance(snapshot_config, SnapshotConfig):
            message = f"snapshot_config must be a SnapshotConfig, not {type(snapshot_config).__name__}"
            raise TypeError(message)
        self.snapshots_enabled = bool(snapshot)
        # The keeper keeps the store alive as long as the adapter.
        if snapshot:
            self._keeper = self._open_with_snapshots(snapshot_config or default_config)
        else:
            self._keeper = self.now()

    def _open_with_snapshots(self, config: SnapshotConfig) -> SessionNow:
        directory = str(Path(config.dir).resolve())
        self._url = f"memory://pycache-{os.getpid()}{quote(directory)}"
        with _opening:
            keeper = _with_snapshots.get(directory)
            if keeper is None:
                keeper = connect_now(self._url, timeout=30, **config.options())
                _with_snapshots[directory] = keeper
        return keeper

    def save(self) -> None:
        """Take a snapshot if the adapter takes snapshots and there was a change."""
        snapshots: Any = getattr(self._keeper._backend, "snapshots", None)
        if snapshots is not None:
            snapshots.save()

    def _url_of(self, connection_uri: Any) -> str:
        if connection_uri is not None and not isinstance(connection_uri, str):
            message = f"connection_uri must be a str, not {type(connection_uri).__name__}"
            raise TypeError(message)
        return f"memory://pycache-{os.getpid()}-{next(_numbers)}"


@suggesting
class SQLite(Adapter):
    """Keys in a file, which is created if it is absent. A file that PyCache itself has written must be migrated."""

    def __init__(self, connection_uri: str | os.PathLike[str], tablename: str = _TABLE) -> None:
        super().__init__(connection_uri, tablename)
        if self._url.startswith("memory:"):
            self.now()

    def _url_of(self, connection_uri: Any) -> str:
        if not isinstance(connection_uri, (str, os.PathLike)) or not connection_uri:
            message = f"connection_uri must be the name of a file, not {connection_uri!r}"
            raise TypeError(message)
        place = os.fsdecode(os.fspath(connection_uri))  # pyright: ignore[reportUnknownArgumentType]
        self._file = place
        if place == ":memory:":
            return f"memory://pycache-{os.getpid()}-{next(_numbers)}"
        return "sqlite://" + _urls.quoted_path(place)

    def session(self) -> Session:
        """Return a new session, whose calls are awaited."""
        try:
            return super().session()
        except SessionError as error:
            self._explain(error)
            raise

    def now(self) -> SessionNow:
        """Return the session of the calls that are not awaited."""
        try:
            return super().now()
        except SessionError as error:
            self._explain(error)
            raise

    def _explain(self, error: SessionError) -> None:
        if tables_of(self._file):
            message = (
                f"{self._file} was written by PyCache, whose pickles are not loaded; migrate it by "
                f"flexcache sessions migrate {shlex.quote(self._file)}"
            )
            raise SessionError(message) from error


class _OnServer(Adapter):
    """The common base of adapters for a server, which a URL names."""

    _schemes: tuple[str, ...] = ()

    def _url_of(self, connection_uri: Any) -> str:
        if not isinstance(connection_uri, str):
            message = f"connection_uri must be a str, not {type(connection_uri).__name__}"
            raise TypeError(message)
        if _urls.split(connection_uri).scheme not in self._schemes:
            allowed = " or ".join(f"{scheme}://" for scheme in self._schemes)
            # Do not show the connection_uri, because it may contain a password.
            message = f"the connection_uri of {type(self).__name__} must begin with {allowed}"
            raise ValueError(message)
        return connection_uri


@suggesting
class Redis(_OnServer):
    """Keys on a server of Redis or Valkey.

    Args:
        connection_uri: Such as "redis://localhost:6379/0".
        pool_size: Accepted without effect, because a session shares its connections.
        tablename: The namespace of the keys. Adapters of one server with different names have different keys.
    """

    _schemes = ("redis", "rediss", "valkey", "valkeys", "unix", "valkey+unix")

    def __init__(self, connection_uri: str, pool_size: int = 5, tablename: str = _TABLE) -> None:
        del pool_size
        super().__init__(connection_uri, tablename)
        # Sessions use a namespace, because keys that PyCache itself has stored have other types.
        self._namespace = tablename


class MySQL(_OnServer):
    """Keys in a database of MySQL or MariaDB, such as "mysql://user:password@localhost/cache"."""

    _schemes = ("mysql", "mariadb")


@suggesting
class Sharded(Adapter):
    """Keys on several adapters. Each key is on one of them.

    Args:
        adapters: The adapters, or URLs of sessions.
        tablename: The namespace of the keys. Adapters of one place with different names have different keys.

    Raises:
        NotImplementedError: The first call raises it if sessions have no shards.
    """

    def __init__(self, adapters: Iterable[Adapter | str], tablename: str = _TABLE) -> None:
        super().__init__(adapters, tablename)  # type: ignore[arg-type]

    def _url_of(self, connection_uri: Any) -> list[str]:
        if isinstance(connection_uri, str):
            message = "adapters must be several adapters or URLs, not one str"
            raise TypeError(message)
        self._adapters: list[Any] = list(connection_uri)
        for adapter in self._adapters:
            if not isinstance(adapter, (Adapter, str)):
                message = f"adapters must be adapters or URLs, not {type(adapter).__name__}"
                raise TypeError(message)
        if not self._adapters:
            message = "adapters must not be empty"
            raise ValueError(message)
        return [adapter if isinstance(adapter, str) else adapter._url for adapter in self._adapters]
