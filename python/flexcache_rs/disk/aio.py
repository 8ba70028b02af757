"""Calls that can be awaited: done by threads, so that the event loop goes on."""

from __future__ import annotations

import contextlib
import contextvars
import functools
import itertools
import os
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar

if TYPE_CHECKING:
    # asyncio takes longer to import than all of this package, and few need it.
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable
    from concurrent.futures import ThreadPoolExecutor
    from contextlib import AbstractContextManager

C = TypeVar("C")
P = ParamSpec("P")
R = TypeVar("R")


class Transacting(Protocol):
    """A cache with transactions."""

    def transact(self, retry: bool) -> AbstractContextManager[None]:
        """A transaction of the calling thread."""
        ...


_THREADS = 8
"""Writers to one database take turns, and readers hardly wait: more would not be faster."""

_PAGE = 100
"""Keys that an iteration takes at a time."""

_pool: ThreadPoolExecutor | None = None

_of_transaction: contextvars.ContextVar[ThreadPoolExecutor | None] = contextvars.ContextVar(
    "flexcache_rs.disk transaction", default=None
)
"""The one thread of the task's transaction: a transaction belongs to a thread."""


def _forget_pool() -> None:
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    # Its threads are not in the child.
    os.register_at_fork(after_in_child=_forget_pool)


def _threads() -> ThreadPoolExecutor:
    global _pool
    pool = _of_transaction.get() or _pool
    if pool is None:
        from concurrent.futures import ThreadPoolExecutor

        pool = _pool = ThreadPoolExecutor(_THREADS, "flexcache_rs.disk")
    return pool


async def in_thread(call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """What a call returns, made by another thread with the context of the task."""
    from asyncio import get_running_loop

    context = contextvars.copy_context()
    return await get_running_loop().run_in_executor(_threads(), functools.partial(context.run, call, *args, **kwargs))


def awaitable(method: Callable[Concatenate[C, P], R]) -> Callable[Concatenate[C, P], Coroutine[Any, Any, R]]:
    """The method of a class of caches that is like another one, and is awaited."""
    name = method.__name__

    async def call(self: C, /, *args: P.args, **kwargs: P.kwargs) -> R:
        # By its name, for a subclass may have another.
        return await in_thread(getattr(self, name), *args, **kwargs)

    call.__name__ = f"a{name}"
    call.__qualname__ = f"{method.__qualname__.rpartition('.')[0]}.a{name}"
    call.__doc__ = f"As `{name}`, without blocking the event loop."
    return call


async def keys(iterable: Iterable[Any]) -> AsyncIterator[Any]:
    """Goes through keys, some at a time."""
    iterator = iter(iterable)
    while page := await in_thread(lambda: list(itertools.islice(iterator, _PAGE))):
        for key in page:
            yield key


@contextlib.asynccontextmanager
async def transaction(cache: Transacting, retry: bool) -> AsyncGenerator[None, None]:
    """A transaction for the calls of a task, and of those it starts, which a thread of its own makes."""
    from asyncio import CancelledError
    from concurrent.futures import ThreadPoolExecutor

    if _of_transaction.get() is None:
        thread = ThreadPoolExecutor(1, "flexcache_rs.disk transaction")
        token = _of_transaction.set(thread)
        try:
            async with transaction(cache, retry):
                yield
        finally:
            _of_transaction.reset(token)
            # It has nothing to do any more, or finishes what nobody waits for.
            thread.shutdown(wait=False)
        return
    entered: Any = cache.transact(retry=retry)
    try:
        await in_thread(entered.__enter__)
    except CancelledError as error:
        # It may begin nevertheless, and then it must end.
        _threads().submit(_leave_if_entered, entered, error)
        raise
    try:
        yield
    except BaseException as error:
        await in_thread(entered.__exit__, type(error), error, error.__traceback__)
        raise
    await in_thread(entered.__exit__, None, None, None)


def _leave_if_entered(entered: Any, error: BaseException) -> None:
    # It has not begun, or the pool is gone.
    with contextlib.suppress(RuntimeError):
        entered.__exit__(type(error), error, error.__traceback__)
