"""PyCache's decorators `cache` and `rate_limit`."""

# pyright: reportPrivateUsage=false, reportUnnecessaryIsInstance=false

from __future__ import annotations

import inspect
from contextlib import suppress
from functools import wraps
from typing import TYPE_CHECKING, Any

from flexcache_rs._arguments import check_callable, described
from flexcache_rs.pycache._call_keys import counters_of, keys_of
from flexcache_rs.pycache.adapters import Adapter, InMemory
from flexcache_rs.pycache.datatypes import Datatype
from flexcache_rs.sessions._arguments import number, refuse_function, seconds
from flexcache_rs.sessions._errors import another

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

__all__ = ["cache", "rate_limit"]


def _checked(adapter: Adapter | None) -> Adapter:
    if adapter is None:
        return InMemory()
    if not isinstance(adapter, Adapter):
        message = "adapter must be a instance of Adapter"
        raise TypeError(message)
    return adapter


def _lives(ttl: Any) -> float | None:
    """Return the time to live in seconds, and None for ever: 0 and less, as in PyCache.

    Raises:
        TypeError: It is no duration.
        ValueError: It is NaN, or too long.
    """
    if not isinstance(ttl, bool) and isinstance(ttl, (int, float)) and ttl <= 0:
        return None
    return seconds("ttl", ttl)


def cache(
    ttl: float | timedelta = -1, adapter: Adapter | None = None, return_type: type[Datatype] | None = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that keeps the results of a function.

    If several callers ask for the same result at the same time, one of them computes. None and other false values are
    results too. Every call returns the same, including the one that computes.

    Calls are the same if their arguments have equal content at the time of the call. An argument that cannot be pickled
    counts as itself in its process, and its results are not found again after its end. Give a `ttl`, since they stay
    in the adapter. A call raises `TypeError` if an argument contains itself, or can be neither pickled nor hashed.

    Args:
        ttl: The time to live, in seconds or as a timedelta. -1 means for ever.
        adapter: The adapter of the results. The default is a separate store in memory.
        return_type: The datatype of the results, such as `String`.

    Raises:
        TypeError: An argument is of another type.
        ValueError: `ttl` is NaN, or too long.
    """
    refuse_function("cache", ttl)
    place = _checked(adapter)
    if return_type is not None and not (inspect.isclass(return_type) and issubclass(return_type, Datatype)):
        message = "return_type must be a subclass of Datatype"
        raise TypeError(message)
    lives = _lives(ttl)

    def stored(result: Any) -> Any:
        return result if return_type is None else return_type(result).value

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        key_of = keys_of("cache_result", function, place)
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


def _check_limit(limit: Any, get_key: Any, exception: Any) -> None:
    if number("limit", limit) != limit:
        message = "limit must be a number of calls, not NaN"
        raise ValueError(message)
    if get_key is not None:
        check_callable("get_key", get_key)
    if not isinstance(exception, BaseException) and not (
        isinstance(exception, type) and issubclass(exception, BaseException)
    ):
        message = f"exception must be an exception or a class of exceptions, not {described(exception)}"
        raise TypeError(message)


def rate_limit(
    limit: float = -1,
    ttl: float | timedelta = -1,
    get_key: Callable[[], str] | None = None,
    exception: BaseException | type[BaseException] = Exception("Rate limit exceeded"),  # noqa: B008
    adapter: Adapter | None = None,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that allows `limit` calls in each window of `ttl` seconds.

    A window begins with its first call.

    Args:
        limit: The number of calls. -1 means no limit.
        ttl: The length of a window, in seconds or as a timedelta. -1 means for ever.
        get_key: A function that returns the key under which calls are counted together. By default, these are
            the calls of the function with equal arguments.
        exception: The exception for refused calls. Each raises a new one like it, with `retry_after` in seconds. A
            class is called with a text.
        adapter: The place where the calls are counted; by default memory.

    Raises:
        TypeError: An argument is of another type.
        ValueError: A number is NaN, or `ttl` is too long.
    """
    refuse_function("rate_limit", limit)
    place = _checked(adapter)
    _check_limit(limit, get_key, exception)
    lives = _lives(ttl)

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        default = counters_of("rate_limit", function, place)

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
