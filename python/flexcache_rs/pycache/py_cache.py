"""`PyCache`: sessions over an adapter, and the removal of expired keys."""

# pyright: reportPrivateUsage=false, reportUnnecessaryIsInstance=false

from __future__ import annotations

import asyncio
import logging
import math
import threading
import weakref
from collections import deque
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from flexcache_rs._suggest import suggesting
from flexcache_rs._threads import AutoResetEvent, start
from flexcache_rs.pycache import datatypes
from flexcache_rs.pycache._cells import loaded, stored
from flexcache_rs.pycache.adapters import Adapter
from flexcache_rs.pycache.datatypes import Datatype
from flexcache_rs.sessions import KindError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from typing_extensions import Self

    from flexcache_rs.sessions import Session

__all__ = ["PyCache", "PyCacheSession"]

_ALL = 2**62
_KINDS: dict[type, tuple[str, ...]] = {
    list: ("list", "stream", "bits"),
    deque: ("queue",),
    dict: ("map", "sorted"),
    set: ("set", "bloom"),
}
"""The kinds of keys whose values have a type. Keys of other types hold a single value."""

_log = logging.getLogger("flexcache_rs")


def _values(entries: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(entries, dict) or not all(isinstance(value, Datatype) for value in entries.values()):
        message = "Value must be a dictionary of string → Datatype"
        raise TypeError(message)
    return {key: stored(value.value) for key, value in entries.items()}


def _datatype(named: Any) -> type[Datatype]:
    """Return the datatype for its class, an instance or its name."""
    found = datatypes.by_name(named) if isinstance(named, str) else named if isinstance(named, type) else type(named)
    if found is None or not issubclass(found, Datatype):
        message = f"a datatype must be one of {', '.join(datatypes.__all__)}, not {named!r}"
        raise TypeError(message)
    return found


@suggesting
class PyCacheSession:
    """The calls of a session."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def set(self, key: str, value: Datatype | dict[str, Datatype]) -> int:
        """Store a value. Of a dict, store all values or none, and ignore `key`. Returns how many were stored."""
        if isinstance(value, dict):
            return await self.batch_set(value)
        if not isinstance(value, Datatype):
            message = "Value must be a Datatype or a dictionary of string → Datatype"
            raise TypeError(message)
        return int(await self._session.set(key, stored(value.value)))

    async def batch_set(self, value: dict[str, Datatype]) -> int:
        """Store several values, all or none. Returns how many."""
        return await self._session.set_many(_values(value))

    async def get(self, key: str, datatype: type[Datatype] | None = None) -> Any:
        """Return the value of a key, or None.

        Raises:
            KindError: The value is not of the requested datatype.
        """
        if datatype is None:
            return loaded(await self._session.get(key))
        found: dict[str, Any] = await self.batch_get({key: datatype})
        return found.get(key)

    async def batch_get(self, keys: list[str] | dict[str, Any]) -> dict[str, Any]:
        """Return a dict with the values of the present keys. A dict names the datatype of each key."""
        if not isinstance(keys, (list, dict)):
            message = "keys must be a list of strings"
            raise TypeError(message)
        values: dict[str, Any] = await self._session.get_many(keys)
        found: dict[str, Any] = {key: loaded(value) for key, value in values.items()}
        if isinstance(keys, dict):
            for key, value in found.items():
                named: Any = keys[key]
                wanted = _datatype(named)
                kind = await self._session.kind(key) or "scalar"
                likely = _KINDS.get(type(value), ("scalar",))  # pyright: ignore[reportUnknownArgumentType]
                if kind not in likely:
                    # Another call has replaced the key since its value was read.
                    kind = likely[0]
                if not wanted.accepts(kind, value):
                    message = f"{key!r} holds a {type(value).__name__}, not a {wanted.__name__}"
                    raise KindError(message)
        return found

    async def delete(self, key: str) -> int:
        """Remove a key. Returns 1 if it was present, else 0."""
        return await self._session.delete(key)

    async def exists(self, key: str) -> bool:
        """Whether a key is present."""
        return await self._session.exists(key)

    async def keys(self) -> list[str]:
        """Return all keys."""
        return [key async for key in self._session.keys()]  # noqa: SIM118

    async def set_expire(self, key: str, ttl: float) -> int:
        """Let a key expire after at least 1 second. Returns 1 if it is present, else 0."""
        if isinstance(ttl, bool) or not isinstance(ttl, (int, float)):
            message = "ttl must be numeric"
            raise TypeError(message)
        if not ttl >= 1:
            message = "ttl must be atleast 1second"
            raise ValueError(message)
        return int(await self._session.expire(key, ttl))

    async def get_expire(self, key: str) -> int | None:
        """Return the seconds that a key has left, rounded up. Returns None if it is absent or never expires."""
        try:
            left = await self._session.ttl(key)
        except KeyError:
            return None
        return None if left is None else math.ceil(left)

    @asynccontextmanager
    async def with_transaction(self) -> AsyncGenerator[PyCacheSession]:
        """Return a transaction. The writes of its block are stored at the end, or not at all if the block raises."""
        async with self._session.transaction():
            yield self


class _NotEntered:
    """Stands for the session of a `PyCache` until its `async with` block begins."""

    def __get__(self, instance: PyCache | None, owner: type) -> Any:
        if instance is None:
            return self
        message = "enter the cache first: `async with cache:` or `async with cache.session() as session:`"
        raise RuntimeError(message)


@suggesting
class PyCache(PyCacheSession):
    """A cache over an adapter.

    Args:
        adapter: The adapter that stores the data.
        ttl_interval: The number of seconds between two removals of expired keys. -1 removes none.
    """

    _session: Any = _NotEntered()

    def __init__(self, adapter: Adapter, ttl_interval: float = -1) -> None:
        if not isinstance(adapter, Adapter):
            message = f"adapter must be an Adapter, not {type(adapter).__name__}"
            raise TypeError(message)
        if ttl_interval != -1 and not ttl_interval > 0:
            message = "TTL interval should be more than 0 seconds"
            raise ValueError(message)
        self.adapter = adapter
        self._worker: _TTLWorker | None = None
        if ttl_interval != -1:
            self._start(ttl_interval)

    async def __aenter__(self) -> Self:
        self._session = self.adapter.session()
        return self

    async def __aexit__(self, *raised: object) -> None:
        try:
            await self._session.aclose()
        finally:
            await self._save()

    async def _save(self) -> None:
        if self.adapter.snapshots_enabled:
            await asyncio.to_thread(self.adapter.save)

    @asynccontextmanager
    async def session(self) -> AsyncGenerator[PyCacheSession]:
        """Return a session, which is independent of others."""
        try:
            async with self.adapter.session() as session:
                yield PyCacheSession(session)
        finally:
            await self._save()

    def _start(self, interval: float) -> None:
        # A forked child does not have the thread.
        if self._worker is None or not self._worker.is_alive():
            worker = _TTLWorker(self, interval)
            try:
                start(worker)
                self._worker = worker
            except BaseException:
                # A signal handler may have raised after the thread had started.
                worker.end_soon()
                raise

    async def start_ttl_deletion(self, delete_interval: float = 0.5) -> None:
        """Remove expired keys at an interval of seconds. Does nothing if this is already running."""
        if not delete_interval > 0:
            message = "delete_interval must be more than 0 seconds"
            raise ValueError(message)
        self._start(delete_interval)

    async def stop_ttl_deletion(self) -> None:
        """Stop removing expired keys. No call returns them in any case."""
        worker, self._worker = self._worker, None
        if worker is not None:
            await asyncio.to_thread(worker.stop)

    stop_ttl = stop_ttl_deletion

    def delete_expired_attributes(self) -> int:
        """Remove expired keys. Returns how many."""
        return self.adapter.now().purge(_ALL)

    def count_expired_keys(self) -> int:
        """Return how many keys have expired and were not removed yet."""
        return self.adapter.now().count_expired()

    def get_all_keys_with_expiry(self) -> list[tuple[str, str]]:
        """Return the keys with a deadline, and their deadlines in local time.

        This includes expired keys that were not removed yet.
        """
        now = datetime.now()
        left = self.adapter.now().expiring()
        return [(key, f"{now + timedelta(seconds=seconds):%Y-%m-%d %H:%M:%S}") for key, seconds in left.items()]


class _TTLWorker(threading.Thread):
    def __init__(self, cache: PyCache, interval: float) -> None:
        super().__init__(name="flexcache pycache ttl", daemon=True)
        self._cache = weakref.ref(cache)
        self._interval = interval
        self._ends = AutoResetEvent()
        self._ends.set_at_end_of(cache)

    def run(self) -> None:
        while not self._ends.wait(self._interval):
            cache = self._cache()
            if cache is None:
                return
            try:
                cache.delete_expired_attributes()
            except Exception as error:  # noqa: BLE001 - what fails now, such as a server, may be there later
                _log.warning("what has expired could not be removed: %s", error)
            # The thread keeps no cache alive while it waits.
            del cache

    def end_soon(self) -> None:
        self._ends.set()

    def stop(self) -> None:
        self.end_soon()
        self.join()
