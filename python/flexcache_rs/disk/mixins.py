"""Calls of caches that combine other calls."""

from __future__ import annotations

import functools
import time

from flexcache_rs._arguments import each, pairs
from flexcache_rs._core import Timeout
from flexcache_rs._suggest import suggesting
from flexcache_rs.disk.aio import keys
from flexcache_rs.disk.checks import expiry, ignored
from flexcache_rs.disk.constants import ENOVAL
from flexcache_rs.disk.memoize import memoizing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Iterable
    from datetime import timedelta
    from typing import Any

    from _typeshed import SupportsKeysAndGetItem
    from typing_extensions import Self

    from flexcache_rs._core import DiskTransaction
    from flexcache_rs.disk.memoize import Memoizing
    from flexcache_rs.disk.recipes import Lock


@suggesting
class CacheMixin:
    """The calls of `Cache` and `FanoutCache` that are built on `get`, `set` and others."""

    def memoize(
        self: Any,
        name: str | None = None,
        typed: bool = False,
        expire: float | timedelta | None = None,
        tag: Any = None,
        ignore: Collection[int | str] = (),
    ) -> Memoizing:
        """Return a decorator that stores the results of a function by its arguments.

        Two callers that miss at the same time both call the function. `memoize_stampede` and `barrier` prevent this.

        Args:
            name: The name of the function in the keys. None means its module and qualified name.
            typed: Whether 1 and 1.0 are different arguments.
            expire: The time to live in seconds. None means for ever, and 0 or less stores nothing.
            tag: The tag of the results for `evict`.
            ignore: The positions and names of arguments that are not part of the key.

        Returns:
            The decorator. The decorated function has `__cache_key__(*args, **kwargs)` and `__wrapped__`.

        Raises:
            TypeError: `name` is callable because the decorator was written without parentheses, `expire` is no
                number, or `ignore` is a str.
            ValueError: `expire` is NaN.

        >>> from flexcache_rs.disk import Cache
        >>> cache = Cache()
        >>> @cache.memoize(expire=60)
        ... def square(number):
        ...     print("computing")
        ...     return number**2
        >>> square(4), square(4)
        computing
        (16, 16)
        """
        expire = expiry(expire)
        store = None if expire is not None and expire <= 0 else self.set
        return memoizing(
            name,
            typed,
            ignored(ignore),
            functools.partial(self.get, default=ENOVAL, retry=True),
            store and functools.partial(self._flexcache_keep, store, expire=expire, tag=tag, retry=True),
        )

    def _flexcache_keep(self: Any, store: Callable[..., object], key: Any, value: Any, **how: Any) -> None:
        """Store a computed result. If the directory cannot be written, warn once instead."""
        try:
            store(key, value, **how)
        except PermissionError:
            if not self.read_only:
                raise
            self._flexcache_warn_not_stored()

    def get_many(self: Any, keys: Iterable[Any]) -> dict[Any, Any]:
        """Return the values of the keys that are present.

        Args:
            keys: The keys. Each must be hashable, because it becomes a key of the dict.

        Returns:
            A dict of the values, in the order of the keys.

        Raises:
            TypeError: A key is not hashable. Nothing was looked up.

        O(log n) for each key. Each key is looked up separately.

        >>> from flexcache_rs.disk import Cache
        >>> cache = Cache()
        >>> cache.set_many({"a": 1, "b": 2})
        2
        >>> cache.get_many(["a", "b", "c"])
        {'a': 1, 'b': 2}
        """
        wanted: dict[Any, Any] = dict.fromkeys(each("keys", keys))
        found = ((key, self.get(key, ENOVAL, retry=True)) for key in wanted)
        return {key: value for key, value in found if value is not ENOVAL}

    def set_many(
        self: Any,
        mapping: SupportsKeysAndGetItem[Any, Any] | Iterable[tuple[Any, Any]],
        expire: float | timedelta | None = None,
        tag: Any = None,
        retry: bool = False,
    ) -> int:
        """Store or replace many values in one transaction, all of them or none.

        Args:
            mapping: A mapping, or an iterable of pairs of key and value.
            expire: As for `set`, for all of them.
            tag: As for `set`, for all of them.
            retry: Whether to wait for other writers for longer than `timeout`.

        Returns:
            The number of stored values. A `FanoutCache` returns 0 if it did not acquire the write lock in time.

        Raises:
            Timeout: The write lock was not acquired within `timeout` seconds.
            TypeError, ValueError: As for `set`. Nothing was stored.

        >>> from flexcache_rs.disk import Cache
        >>> cache = Cache()
        >>> cache.set_many([("a", 1), ("b", 2)], expire=60, tag="letters")
        2
        """
        entries = pairs("mapping", mapping)
        if not entries:
            return 0
        try:
            # No Python code between the begin and the block: a signal handler could raise there.
            with self._flexcache_transaction_of_many(retry):
                for key, value in entries:
                    self.set(key, value, expire=expire, tag=tag, retry=True)
        except Timeout:
            if self._flexcache_raises_timeout:
                raise
            return 0
        return len(entries)

    def delete_many(self: Any, keys: Iterable[Any], retry: bool = False) -> int:
        """Remove the entries of many keys in one transaction, all of them or none.

        Args:
            keys: The keys.
            retry: Whether to wait for other writers for longer than `timeout`.

        Returns:
            The number of removed entries. A `FanoutCache` returns 0 if it did not acquire the write lock in time.

        Raises:
            Timeout: The write lock was not acquired within `timeout` seconds.

        >>> from flexcache_rs.disk import Cache
        >>> cache = Cache()
        >>> cache["a"] = 1
        >>> cache.delete_many(["a", "b"])
        1
        """
        keys = list(each("keys", keys))
        if not keys:
            return 0
        try:
            with self._flexcache_transaction_of_many(retry):
                return sum(self.delete(key, retry=True) for key in keys)
        except Timeout:
            if self._flexcache_raises_timeout:
                raise
            return 0

    _flexcache_raises_timeout = True

    def _flexcache_transaction_of_many(self: Any, retry: bool) -> DiskTransaction:
        return self.transact(retry)  # type: ignore[no-any-return]

    def _flexcache_move(self: Any, old: Any, new: Any) -> bool:
        """Move the value of a key to another key. Returns False if the key has no value."""
        with self._flexcache_transaction_of_move(old, new):
            value, expires_at, tag = self.get(old, ENOVAL, expire_time=True, tag=True, retry=True)
            if value is ENOVAL:
                return False
            self.set(new, value, None if expires_at is None else expires_at - time.time(), tag=tag, retry=True)
            self.delete(old, retry=True)
            return True

    def _flexcache_transaction_of_move(self: Any, old: Any, new: Any) -> DiskTransaction:  # noqa: ARG002
        return self.transact(True)  # type: ignore[no-any-return]

    def evict_tag(self: Any, tag: Any, retry: bool = False) -> int:
        """Another name for `evict`."""
        return self.evict(tag, retry)  # type: ignore[no-any-return]

    def lock(self: Any, name: Any, expire: float | timedelta | None = None) -> Lock:
        """Return a lock for all processes that use the directory.

        Args:
            name: The key of the cache that stores the lock.
            expire: The number of seconds after which the lock becomes free, even if its holder still holds it. None
                means never.

        >>> from flexcache_rs.disk import Cache
        >>> cache = Cache()
        >>> with cache.lock("report", expire=60):
        ...     "report" in cache
        True
        """
        from flexcache_rs.disk.recipes import Lock

        return Lock(self, name, expire=expire)

    def __aiter__(self: Any) -> AsyncIterator[Any]:
        return keys(self)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self: Any, *raised: object) -> None:
        await self.aclose()
