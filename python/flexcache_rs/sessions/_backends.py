"""Chooses the backend for a URL, and passes calls to it."""

# pyright: reportPrivateUsage=false, reportUnnecessaryIsInstance=false

from __future__ import annotations

import math
import os
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlencode

from flexcache_rs import _urls
from flexcache_rs._core import MemoryKeys, SessionCodec
from flexcache_rs._threads import ForkSafeRLock
from flexcache_rs.sessions._arguments import MISSING, Url, check_options, int_option, one_of, parse_url, seconds
from flexcache_rs.sessions._errors import ClosedError
from flexcache_rs.sessions._snapshots import MemoryPlace, SnapshotOptions
from flexcache_rs.sessions._terms import Terms

if TYPE_CHECKING:
    from collections.abc import Callable

    from flexcache_rs._core import MemorySession, MemorySessionTransaction, SessionCall
    from flexcache_rs.sessions._protocol import Backend
    from flexcache_rs.sessions._snapshots import Snapshots
    from flexcache_rs.sessions._taking import Undo


class MemoryBackend:
    """The backend in this process's memory. Calls run at once in the caller's thread, because they never wait."""

    name = "memory"
    page = 2**63 - 1

    def __init__(self, place: MemoryPlace, terms: Terms) -> None:
        self.codec = SessionCodec(terms.serializer, MISSING)
        self._place: MemoryPlace | None = place
        self._session: MemorySession | None = place.keys.session(terms.namespace, self.codec)

    def _open(self) -> MemorySession:
        if self._session is None:
            raise ClosedError("the session is closed")
        return self._session

    @property
    def fast(self) -> MemorySession | None:
        """The object that gets and sets values without a call object."""
        return self._session

    @property
    def snapshots(self) -> Snapshots | None:
        """The snapshots of the store, if it has any."""
        return None if self._place is None else self._place.snapshots

    def run(self, call: SessionCall) -> Any:
        """Make a call."""
        return self._open().execute(call)

    async def arun(self, call: SessionCall, undo: Undo | None = None) -> Any:  # noqa: ARG002
        """Make a call. It does not wait, so it cannot be cancelled."""
        return self._open().execute(call)

    def version(self) -> int:
        """Return a number that changes with each write."""
        if self._place is None:
            raise ClosedError("the session is closed")
        return self._place.keys.writes

    def run_many(self, calls: list[SessionCall]) -> list[tuple[Any, BaseException | None]]:
        """Make several calls at once. Returns for each its result or its exception."""
        return self._open().execute_many(calls)

    async def arun_many(self, calls: list[SessionCall], undo: object) -> list[tuple[Any, BaseException | None]]:  # noqa: ARG002
        """Make several calls at once. They do not wait, so they cannot be cancelled."""
        return self._open().execute_many(calls)

    def begin(self) -> MemoryTransaction:
        """Begin a transaction."""
        return MemoryTransaction(self._open().begin())

    async def abegin(self) -> MemoryTransaction:
        """Begin a transaction."""
        return MemoryTransaction(self._open().begin())

    def stats(self) -> dict[str, Any]:
        """Return information about the store."""
        if self._place is None:
            raise ClosedError("the session is closed")
        keys = self._place.keys
        limited, leases = keys.timed
        return {
            "backend": self.name,
            "keys": len(keys),
            "bytes": keys.bytes,
            "evictions": keys.evictions,
            "limited": limited,
            "leases": leases,
        }

    def close(self) -> None:
        """Close the session's access. The keys of `memory://` are removed with their last session."""
        self._session = self._place = None

    async def aclose(self) -> None:
        """The same as `close`, awaited."""
        self.close()


class MemoryTransaction:
    """A transaction on private copies."""

    def __init__(self, native: MemorySessionTransaction) -> None:
        self._native = native

    def run(self, call: SessionCall) -> Any:
        """Make a call in the transaction."""
        return self._native.execute(call)

    async def arun(self, call: SessionCall) -> Any:
        """Make a call in the transaction."""
        return self._native.execute(call)

    def begin_inner(self) -> int:
        """Begin an inner transaction. Returns the number of open ones."""
        self._native.begin_inner()
        return self._native.depth()

    async def abegin_inner(self) -> int:
        """Begin an inner transaction. Returns the number of open ones."""
        return self.begin_inner()

    def commit(self) -> None:
        """Commit."""
        self._native.commit()

    async def acommit(self) -> None:
        """Commit."""
        self._native.commit()

    def roll_back(self) -> None:
        """Roll back."""
        self._native.roll_back()

    async def aroll_back(self) -> None:
        """Roll back."""
        self._native.roll_back()

    def end(self, level: int) -> None:
        """Roll back the open transactions from a level on."""
        while self._native.depth() >= level:
            self._native.roll_back()

    async def aend(self, level: int) -> None:
        """Roll back the open transactions from a level on."""
        self.end(level)


_shared: weakref.WeakValueDictionary[str, MemoryPlace] = weakref.WeakValueDictionary()
# Reentrant, because a thread may open another store while one loads its snapshot.
_sharing = ForkSafeRLock()
_SNAPSHOT_OPTIONS = ("snapshot_every", "snapshot_after", "keep")


def _snapshot_options(options: dict[str, Any]) -> SnapshotOptions | None:
    directory: object = options.get("snapshot")
    if directory is None:
        for name in _SNAPSHOT_OPTIONS:
            if name in options:
                raise ValueError(f"{name} needs snapshot, the directory of the snapshots")
        return None
    if not isinstance(directory, (str, os.PathLike)) or not directory:
        raise TypeError(f"snapshot must be the name of a directory, not {directory!r}")
    every: object = options.get("snapshot_every", 300)
    if isinstance(every, str) and every.isascii() and every.isdigit():
        every = int(every)
    return SnapshotOptions(
        Path(os.fsdecode(os.fspath(directory))),  # pyright: ignore[reportUnknownArgumentType]
        math.inf if every == 0 else seconds("snapshot_every", every),
        int_option("snapshot_after", options.get("snapshot_after", 1000)),
        int_option("keep", options.get("keep", 4), 1),
    )


def _memory(url: Url, options: dict[str, Any], terms: Terms) -> MemoryBackend:
    check_options(options, ("max_items", "max_bytes", "policy", "snapshot", *_SNAPSHOT_OPTIONS), url.scheme)
    max_items, max_bytes = (int_option(name, options.get(name, 0)) for name in ("max_items", "max_bytes"))
    policy = one_of("policy", options.get("policy", "lru"), MemoryKeys.policies)
    if "policy" in options and not (max_items or max_bytes):
        raise ValueError("policy needs max_items or max_bytes: without a limit nothing is evicted")
    snapshots = _snapshot_options(options)
    if not url.place:
        return MemoryBackend(MemoryPlace(MemoryKeys(max_items, max_bytes, policy), snapshots), terms)
    with _sharing:
        place = _shared.get(url.place)
        if place is None:
            place = _shared[url.place] = MemoryPlace(MemoryKeys(max_items, max_bytes, policy), snapshots)
        elif options:
            raise ValueError(f"memory://{url.place} is there already: only its first session may have options")
    return MemoryBackend(place, terms)


def _disk(url: Url, options: dict[str, Any], terms: Terms) -> Backend:
    check_options(options, (), url.scheme)
    if not url.place:
        what = "a directory, as disk:///var/cache/app" if url.scheme == "disk" else "a file, as sqlite:///data.db"
        raise ValueError(f"url must name {what}")
    # Imported on first use, because it imports threads and asyncio.
    from flexcache_rs.sessions._disk import DiskBackend

    place = Path(url.place)
    return DiskBackend(place / "sessions.db" if url.scheme == "disk" else place, terms)


_REDIS_OPTIONS = (
    *("db", "username", "password"),
    *("ssl_cert_reqs", "ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname"),
)


def _redis(url: Url, options: dict[str, Any], terms: Terms) -> Backend:
    check_options(options, _REDIS_OPTIONS, url.scheme)
    from flexcache_rs.sessions._redis_backend import RedisBackend

    text = url.text.replace("valkey+unix:", "unix:", 1)
    # Encode options that were passed as arguments, which need not be valid in a URL.
    return RedisBackend(f"{text}?{urlencode(options)}" if options else text, terms)


_TLS_OF_MYSQL = ("ssl_ca", "ssl_cert", "ssl_key", "ssl_key_password", "ssl_verify_cert", "ssl_verify_identity")


def _mysql(url: Url, options: dict[str, Any], terms: Terms) -> Backend:
    check_options(options, ("unix_socket", "max_connections", *_TLS_OF_MYSQL), url.scheme)
    parts = _urls.split(url.text, with_port=True)
    database = unquote(parts.path).strip("/")
    if not database:
        raise ValueError(f"url must name a database, as {url.scheme}://user:password@host/database")
    arguments = {
        "database": database,
        "host": parts.hostname or "localhost",
        "port": parts.port or 3306,
        "user": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
        **{name: value for name, value in options.items() if name != "max_connections"},
    }
    for name in ("ssl_verify_cert", "ssl_verify_identity"):
        if name in options:
            arguments[name] = one_of(name, str(options[name]).lower(), ("true", "false")) == "true"
    connections = int_option("max_connections", options.get("max_connections", 8), 1)
    from flexcache_rs.sessions._mysql_backend import MysqlBackend

    return MysqlBackend(arguments, connections, terms)


_BACKENDS: dict[str, Callable[[Url, dict[str, Any], Terms], Backend]] = {
    "memory": _memory,
    "disk": _disk,
    "sqlite": _disk,
    **dict.fromkeys(("mysql", "mariadb"), _mysql),
    **dict.fromkeys(("redis", "rediss", "valkey", "valkeys", "unix", "valkey+unix"), _redis),
}

SCHEMES = tuple(_BACKENDS)
"""The known schemes of URLs."""


def _checked_namespace(namespace: object) -> str:
    if not isinstance(namespace, str):
        raise TypeError(f"namespace must be a str, not {type(namespace).__name__}")
    try:
        length = len(namespace.encode())
    except UnicodeEncodeError:
        raise ValueError(f"namespace must be text without surrogates, not {namespace!r}") from None
    if length > 64:
        raise ValueError(f"namespace must be at most 64 bytes, not {length}")
    return namespace


def open_backend(
    url: object, namespace: object, serializer: object, timeout: object, options: dict[str, Any]
) -> Backend:
    """Return the backend that a URL names.

    Raises:
        ValueError, TypeError, ImportError, NotImplementedError: As `connect`.
    """
    if not isinstance(url, str) or url.startswith("shards:"):
        from flexcache_rs.sessions._sharded import ShardedBackend, urls_of

        shards = urls_of(url)
        if shards is not None:
            opened: dict[str, Backend] = {}
            try:
                for name, one in shards.items():
                    opened[name] = open_backend(one, namespace, serializer, timeout, options)
            except BaseException:
                for backend in opened.values():
                    backend.close()
                raise
            return ShardedBackend(opened)
    parsed = parse_url(url, _BACKENDS)
    name = _checked_namespace(namespace)
    if serializer is not None and not all(callable(getattr(serializer, name, None)) for name in ("dumps", "loads")):
        raise TypeError(f"serializer must have the methods dumps and loads, unlike {type(serializer).__name__}")
    twice = options.keys() & parsed.options.keys()
    if twice:
        raise ValueError(f"the option {min(twice)} is given twice: in the URL and as an argument")
    terms = Terms(name, serializer, seconds("timeout", timeout))
    return _BACKENDS[parsed.scheme](parsed, {**parsed.options, **options}, terms)
