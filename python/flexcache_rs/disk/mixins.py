"""Calls of caches that are made of their others."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from flexcache_rs.disk.aio import keys
from flexcache_rs.disk.checks import expiry, ignored
from flexcache_rs.disk.constants import ENOVAL
from flexcache_rs.disk.memoize import Memoized, P, R_co, memoizing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection

    from typing_extensions import Self

    from flexcache_rs.disk.recipes import Lock


class CacheMixin:
    """What `Cache` and `FanoutCache` can do, in terms of `get`, `set` and the rest."""

    def memoize(
        self: Any,
        name: str | None = None,
        typed: bool = False,
        expire: float | None = None,
        tag: Any = None,
        ignore: Collection[int | str] = (),
    ) -> Callable[[Callable[P, R_co]], Memoized[P, R_co]]:
        """A decorator that stores what a function returns, by its arguments.

        Two callers that miss at a time both call the function; `memoize_stampede` and `barrier` help against it.

        Args:
            name: Under which to store; None is the function's module and qualified name.
            typed: Whether 1 and 1.0 are different arguments.
            expire: Seconds to live; None is for ever, 0 or less stores nothing.
            tag: A group for `evict`.
            ignore: Places and names of arguments that do not count.

        Returns:
            The decorator. The function it makes has `__cache_key__(*args, **kwargs)` and `__wrapped__`.

        Raises:
            TypeError: `name` is callable: the decorator was written without parentheses; `expire` is no number;
                or `ignore` is a text.
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
            store and functools.partial(store, expire=expire, tag=tag, retry=True),
        )

    def evict_tag(self: Any, tag: Any, retry: bool = False) -> int:
        """Another name for `evict`."""
        return self.evict(tag, retry)  # type: ignore[no-any-return]

    def lock(self: Any, name: Any, expire: float | None = None) -> Lock:
        """A lock for all processes that use the directory.

        Args:
            name: A key of the cache, which is the lock.
            expire: Seconds after which it is free, whatever became of its holder; None is never.

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
