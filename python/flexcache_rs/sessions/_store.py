"""A session as the store behind a cache in memory."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from flexcache_rs._core import _canonical_key
from flexcache_rs.sessions._arguments import MISSING
from flexcache_rs.sessions._errors import UnsupportedError


def _name(key: object) -> str:
    """Return the key of a session for a key of a cache. A str stays itself."""
    return key if isinstance(key, str) else "\0" + _canonical_key((key,))


class SessionStore:
    """A store for `FlexCache(store=...)`. The values of the cache are those of the session's keys.

    A list, dict, set or deque is a container in the session. The cache keeps the object that `get` returned.
    """

    def __init__(self, session: Any) -> None:
        self._session = session
        # Set the method only if the backend has a version, because the cache checks whether the method exists.
        version: Any = getattr(session._backend, "version", None)
        if version is not None:
            self.version = version

    def load(self, key: object) -> tuple[Any, float | None, tuple[str, ...]] | None:
        """Return value, seconds left to live and tags of a live key, or None."""
        session, name = self._session, _name(key)
        calls = [session._codec.call("get", (name,)), session._codec.call("ttl", name)]
        many = getattr(session._backend, "run_many", None)
        if many is None or session._current() is not None:
            (found,), seconds = (session._run(call) for call in calls)
        else:
            (wholes, raised), (seconds, failed) = many(calls)
            if raised is not None or failed is not None:
                raise raised or failed
            (found,) = wholes
        return None if found is MISSING or seconds is MISSING else (found, seconds, ())

    def save(self, key: object, value: Any, ttl: float | None, tags: tuple[str, ...]) -> None:
        """Store a value."""
        _refuse(tags)
        self._session.set(_name(key), value, ttl)

    def add(self, key: object, value: Any, ttl: float | None, tags: tuple[str, ...]) -> bool:
        """Store a value if the key is absent."""
        _refuse(tags)
        added: bool = self._session.set(_name(key), value, ttl, if_absent=True)
        return added

    def remove(self, key: object) -> bool:
        """Remove a key."""
        return bool(self._session.delete(_name(key)))

    def clear(self) -> None:
        """Remove all keys of the session's namespace."""
        self._session.clear()

    def contains(self, key: object) -> bool:
        """Whether a key is present."""
        present: bool = self._session.exists(_name(key))
        return present

    def touch(self, key: object, ttl: float | None) -> bool:
        """Give a key another time to live."""
        changed: bool = self._session.expire(_name(key), ttl)
        return changed

    def transact(self) -> AbstractContextManager[Any]:
        """Return a transaction of the session."""
        transaction: AbstractContextManager[Any] = self._session.transaction()
        return transaction


def _refuse(tags: tuple[str, ...]) -> None:
    if tags:
        raise UnsupportedError(f"the store of a session keeps no tags, such as {tags[0]!r}")
