"""PyCache's decorators `cache` and `rate_limit`."""

# pyright: reportPrivateUsage=false, reportUnnecessaryIsInstance=false

from __future__ import annotations

import inspect
import itertools
from contextlib import suppress
from functools import wraps
from typing import TYPE_CHECKING, Any

from flexcache_rs._core import _canonical_key
from flexcache_rs.pycache.adapters import Adapter, InMemory
from flexcache_rs.pycache.datatypes import Datatype
from flexcache_rs.sessions._arguments import short
from flexcache_rs.sessions._errors import another

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["cache", "rate_limit"]

_numbers = itertools.count()


def _checked(adapter: Adapter | None) -> Adapter:
    if adapter is None:
        return InMemory()
    if not isinstance(adapter, Adapter):
        message = "adapter must be a instance of Adapter"
        raise TypeError(message)
    return adapter


def _keys(prefix: str, function: Callable[..., Any], adapter: Adapter) -> Callable[..., str]:
    """Return a function that makes the keys of a function's calls.

    If the adapter is in memory, functions of the same name have different keys.
    """
    name = f"{prefix}:{function.__module__}.{function.__qualname__}"
    if isinstance(adapter, InMemory):
        name += f":{next(_numbers)}"
    return lambda *args, **kwargs: short(_canonical_key((name, args, tuple(sorted(kwargs.items())))))


def cache(
    ttl: float = -1, adapter: Adapter | None = None, return_type: type[Datatype] | None = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that keeps the results of a function.

    If several callers ask for the same result at the same time, one of them computes. None and other false values are
    results too. Every call returns the same, including the one that computes.

    Args:
        ttl: The time to live in seconds. -1 means for ever.
        adapter: The adapter of the results. The default is a separate store in memory.
        return_type: The datatype of the results, such as `String`.
    """
    place = _checked(adapter)
    if return_type is not None and not (inspect.isclass(return_type) and issubclass(return_type, Datatype)):
        message = "return_type must be a subclass of Datatype"
        raise TypeError(message)
    lives = ttl if ttl > 0 else None

    def stored(result: Any) -> Any:
        return result if return_type is None else return_type(result).value

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        key_of = _keys("cache_result", function, place)
        if inspect.iscoroutinefunction(function):

            @wraps(function)
            async def call(*args: Any, **kwargs: Any) -> Any:
                async def compute() -> Any:
                    return stored(await function(*args, **kwargs))

                return await place.kept().get_or_set(key_of(*args, **kwargs), compute, lives)

            return call

        @wraps(function)
        def call_now(*args: Any, **kwargs: Any) -> Any:
            key = key_of(*args, **kwargs)
            return place.now().get_or_set(key, lambda: stored(function(*args, **kwargs)), lives)

        return call_now

    return decorate


def _refusal(exception: BaseException | type[BaseException], retry_after: float | None) -> BaseException:
    """Return a new exception for a refused call."""
    raised = exception("Rate limit exceeded") if isinstance(exception, type) else another(exception)
    raised.retry_after = retry_after  # type: ignore[attr-defined]
    return raised


def rate_limit(
    limit: int = -1,
    ttl: float = -1,
    get_key: Callable[[], str] | None = None,
    exception: BaseException | type[BaseException] = Exception("Rate limit exceeded"),  # noqa: B008
    adapter: Adapter | None = None,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that allows `limit` calls in each window of `ttl` seconds.

    A window begins with its first call.

    Args:
        limit: The number of calls. -1 means no limit.
        ttl: The time to live in seconds. -1 means for ever.
        get_key: A function that returns the key under which calls are counted together. By default, these are
            the calls of the function with equal arguments.
        exception: The exception for refused calls. Each raises a new one like it, with `retry_after` in seconds.
        adapter: The place where the calls are counted; by default memory.
    """
    place = _checked(adapter)
    lives = ttl if ttl > 0 else None

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        default = _keys("rate_limit", function, place)

        def key_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
            return default(*args, **kwargs) if get_key is None else "rate_limit:" + str(get_key())

        if inspect.iscoroutinefunction(function):

            @wraps(function)
            async def call(*args: Any, **kwargs: Any) -> Any:
                if limit >= 0:
                    key = key_of(args, kwargs)
                    session = place.kept()
                    if limit == 0 or await session.incr(key, ttl_if_new=lives) > limit:
                        # ttl() raises KeyError if the key has just expired.
                        left: float | None = None
                        with suppress(KeyError):
                            left = await session.ttl(key)
                        raise _refusal(exception, left)
                return await function(*args, **kwargs)

            return call

        @wraps(function)
        def call_now(*args: Any, **kwargs: Any) -> Any:
            if limit >= 0:
                key = key_of(args, kwargs)
                session = place.now()
                if limit == 0 or session.incr(key, ttl_if_new=lives) > limit:
                    left: float | None = None
                    with suppress(KeyError):
                        left = session.ttl(key)
                    raise _refusal(exception, left)
            return function(*args, **kwargs)

        return call_now

    return decorate
