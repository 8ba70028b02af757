"""The awaited calls. Threads do the work, so that the event loop is not blocked."""

from __future__ import annotations

import contextlib
import contextvars
import functools
import itertools
import os
import time
import weakref

from flexcache_rs._suggest import suggesting
from flexcache_rs._threads import start
from flexcache_rs.disk.constants import ENOVAL

TYPE_CHECKING = False
if TYPE_CHECKING:
    # asyncio takes longer to import than all of this package, and few programs need it.
    import asyncio
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
    from concurrent.futures import Executor, Future, ThreadPoolExecutor
    from contextlib import AbstractContextManager
    from types import TracebackType
    from typing import Any, Concatenate, Literal, ParamSpec, Protocol, TypeVar

    C = TypeVar("C")
    P = ParamSpec("P")
    R = TypeVar("R")

    class Transacting(Protocol):
        """A cache with transactions."""

        def transact(self, retry: bool) -> AbstractContextManager[None]:
            """Begin a transaction of the calling thread."""
            ...


_THREADS = 8
"""Threads of the pool. More would not be faster, because writers to one database take turns and readers hardly wait."""

_PAGE = 100
"""The number of keys that an iteration fetches at a time."""

_LOOK = 0.25
"""Seconds between two checks of a transaction's thread whether a task is left that can end the transaction."""

_pool: ThreadPoolExecutor | None = None

_current: contextvars.ContextVar[_Transaction | None] = contextvars.ContextVar(
    "flexcache_rs.disk transaction", default=None
)
"""The innermost transaction in which the context was made. It may have ended."""


def _forget_pool() -> None:
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    # A forked child does not have the pool's threads.
    os.register_at_fork(after_in_child=_forget_pool)


def transaction_of_task() -> _Transaction | None:
    """Return the innermost open transaction of the running task, or None."""
    transaction = _current.get()
    while transaction is not None and not transaction.is_open():
        transaction = transaction.outer
    return transaction


def _submit(call: Callable[[], R]) -> Future[R]:
    global _pool
    from flexcache_rs._asyncio_calls import without_stop

    transaction = transaction_of_task()
    if transaction is not None:
        inside: Future[R] = transaction.worker.submit(functools.partial(without_stop, call))
        return inside
    pool: Executor | None = _pool
    if pool is None:
        from concurrent.futures import ThreadPoolExecutor

        pool = _pool = ThreadPoolExecutor(_THREADS, "flexcache_rs.disk")
    return pool.submit(without_stop, call)


_EXAMPLES = {
    "add": ('aset("a", 1)', 'aadd("a", 2)', "False"),
    "check": ("", "acheck()", "[]"),
    "clear": ('aset("a", 1)', "aclear()", "1"),
    "close": ("", "aclose()", ""),
    "cull": ('aset("a", 1)', "acull()", "0"),
    "decr": ('aset("stock", 3)', 'adecr("stock")', "2"),
    "delete": ('aset("a", 1)', 'adelete("a")', "True"),
    "delete_many": ('aset_many({"a": 1, "b": 2})', 'adelete_many(["a", "c"])', "1"),
    "evict": ('aset("a", 1, tag="page")', 'aevict("page")', "1"),
    "evict_tag": ('aset("a", 1, tag="page")', 'aevict_tag("page")', "1"),
    "expire": ('aset("a", 1, expire=60)', "aexpire()", "0"),
    "get": ('aset("a", 1)', 'aget("a")', "1"),
    "get_many": ('aset_many({"a": 1, "b": 2})', 'aget_many(["a", "c"])', "{'a': 1}"),
    "incr": ("", 'aincr("visits", 2)', "2"),
    "peek": ('apush("job")', "apeek()", "(500000000000000, 'job')"),
    "peekitem": ('aset("a", 1)', "apeekitem()", "('a', 1)"),
    "pop": ('aset("a", 1)', 'apop("a")', "1"),
    "pull": ('apush("job")', "apull()", "(500000000000000, 'job')"),
    "push": ("", 'apush("job")', "500000000000000"),
    "read": ('aset("a", b"bytes")', 'aread("a")', "b'bytes'"),
    "set": ("", 'aset("a", 1, expire=60)', "True"),
    "set_many": ("", 'aset_many({"a": 1, "b": 2})', "2"),
    "touch": ('aset("a", 1)', 'atouch("a", 60)', "True"),
    "volume": ("", "avolume() > 0", "True"),
}
"""By the name of a call: what its example does before, the awaited call, and its result."""


def _docstring(name: str) -> str:
    """Return the docstring of the async version of a call."""
    before, call, result = _EXAMPLES[name]
    first = f"...         await cache.{before}\n    " if before else ""
    return f"""The same as `{name}`, awaited. A thread makes the call, so the event loop is not blocked.

    >>> import asyncio
    >>> from flexcache_rs.disk import Cache
    >>> async def main():
    ...     async with Cache() as cache:
    {first}...         return await cache.{call}
    >>> asyncio.run(main())
    {result}
    """.rstrip()


async def in_thread(call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Make a call in another thread with the context of the task, and return its result."""
    from asyncio import wrap_future

    context = contextvars.copy_context()
    return await wrap_future(_submit(functools.partial(context.run, call, *args, **kwargs)))


def awaitable(method: Callable[Concatenate[C, P], R]) -> Callable[Concatenate[C, P], Coroutine[Any, Any, R]]:
    """Return the async version of a method of a cache class."""
    name = method.__name__

    async def call(self: C, /, *args: P.args, **kwargs: P.kwargs) -> R:
        # Look up the method by name, because a subclass may override it.
        return await in_thread(getattr(self, name), *args, **kwargs)

    call.__name__ = f"a{name}"
    call.__qualname__ = f"{method.__qualname__.rpartition('.')[0]}.a{name}"
    call.__doc__ = _docstring(name)
    # `inspect.signature` and editors find the parameters here.
    call.__wrapped__ = method  # type: ignore[attr-defined]
    return call


def _begin(call: Callable[[], R]) -> asyncio.Future[R]:
    from asyncio import wrap_future

    return wrap_future(_submit(functools.partial(contextvars.copy_context().run, call)))


async def _take(take: Callable[[], Any], put_back: Callable[[Any], object]) -> Any:
    if transaction_of_task() is not None:
        # The end of the transaction decides whether the value is taken.
        return await in_thread(take)
    from flexcache_rs._taking import take_in_thread

    return await take_in_thread(_begin, take, put_back)


def _put_back(cache: Any, key: Any, found: tuple[Any, float | None, Any]) -> None:
    value, expires_at, tag = found
    expire = None if expires_at is None else expires_at - time.time()
    if expire is None or expire > 0:
        cache.add(key, value, expire, tag=tag, retry=True)


def _shaped(found: tuple[Any, float | None, Any], default: Any, wants_time: bool, wants_tag: bool) -> Any:
    """Return the taken value, or the default, with expiry time and tag if wanted, in the form in which `get` does."""
    value, expires_at, tag = (default, None, None) if found[0] is ENOVAL else found
    more = [*((expires_at,) if wants_time else ()), *((tag,) if wants_tag else ())]
    return (value, *more) if more else value


@suggesting
async def apop(
    self: Any, key: Any, default: Any = None, expire_time: bool = False, tag: bool = False, retry: bool = False
) -> Any:
    """Make the call `pop`, and put the value back if the task is cancelled."""

    def put_back(found: tuple[Any, float | None, Any]) -> None:
        if found[0] is not ENOVAL:
            _put_back(self, key, found)

    found = await _take(lambda: self.pop(key, ENOVAL, True, True, retry), put_back)
    return _shaped(found, default, expire_time, tag)


@suggesting
async def apull(
    self: Any,
    prefix: str | None = None,
    default: Any = (None, None),
    side: Literal["front", "back"] = "front",
    expire_time: bool = False,
    tag: bool = False,
    retry: bool = False,
) -> Any:
    """Make the call `pull`, and put the value back if the task is cancelled."""

    def put_back(found: tuple[Any, float | None, Any]) -> None:
        if found[0] is not ENOVAL:
            # The same key restores its place in the queue.
            (key, value), expires_at, tagged = found
            _put_back(self, key, (value, expires_at, tagged))

    found = await _take(lambda: self.pull(prefix, ENOVAL, side, True, True, retry), put_back)
    return _shaped(found, default, expire_time, tag)


def taking(method: Callable[Concatenate[C, P], R]) -> Callable[Concatenate[C, P], Coroutine[Any, Any, R]]:
    """The same as `awaitable`, for `pop` or `pull`. If the task is cancelled, the taken value is put back."""
    take: Any = apop if method.__name__ == "pop" else apull

    async def call(self: C, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await take(self, *args, **kwargs)  # type: ignore[no-any-return]

    return functools.update_wrapper(call, awaitable(method))


async def keys(iterable: Iterable[Any]) -> AsyncIterator[Any]:
    """Iterate over keys, and fetch a page of them at a time in a thread."""
    iterator = iter(iterable)
    while page := await in_thread(lambda: list(itertools.islice(iterator, _PAGE))):
        for key in page:
            yield key


class _Worker:
    """The thread of a transaction. It begins the transaction, makes the calls inside, and ends it.

    It can happen that no task is left to end the transaction: the event loop was closed, the task has ended while its
    async generator holds the block open, or all objects were collected. The thread checks for this, and rolls back. It
    has only weak references to the loop, the task and the object of the transaction.
    """

    def __init__(self, entered: AbstractContextManager[None], loop: Any, task: Any, block: _Transaction) -> None:
        from queue import SimpleQueue
        from threading import Thread

        self._entered = entered
        self._loop = weakref.ref(loop)
        self._task = None if task is None else weakref.ref(task)
        self._block = weakref.ref(block)
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = SimpleQueue()
        self._pid = os.getpid()
        self.is_over = False
        """Whether the transaction has ended, or is about to."""
        self._is_done = False
        self.abandoned = False
        """Whether the transaction must be rolled back as soon as possible."""
        # A daemon, so that the interpreter does not wait for it at exit. SQLite rolls back an open transaction.
        self._thread = Thread(target=self._run, name="flexcache_rs.disk transaction", daemon=True)
        self._begun = self._queued(entered.__enter__)
        start(self._thread)

    def lives(self) -> bool:
        """Whether the transaction still accepts calls."""
        return not (self.is_over or self._is_abandoned()) and self._pid == os.getpid()

    def _is_abandoned(self) -> bool:
        return self.abandoned or self._block() is None

    def begun(self) -> Future[None]:
        """Return a future that is done when the transaction has begun."""
        return self._begun

    def _queued(self, call: Callable[[], R], *, cancellable: bool = True) -> Future[R]:
        from concurrent.futures import Future

        future: Future[R] = Future()
        if not cancellable:
            # Before the call is queued, because the thread may finish it at once.
            future.set_running_or_notify_cancel()
        self._calls.put((future, call))
        if self._is_done:
            self._refuse_calls()
        return future

    def submit(self, call: Callable[[], R]) -> Future[R]:
        """Queue a call to be made in the transaction."""
        return self._queued(call)

    def end(self, *raised: Any) -> Future[None]:
        """Queue the end of the transaction, after the calls submitted so far. This cannot be undone."""
        self.is_over = True
        # Not cancellable: the transaction ends even if the waiting task is cancelled.
        return self._queued(functools.partial(self._end, *raised), cancellable=False)

    def _end(self, *raised: Any) -> None:
        entered, self._entered = self._entered, None  # type: ignore[assignment]
        if entered is not None:
            entered.__exit__(*raised)

    def _has_nobody(self) -> bool:
        loop = self._loop()
        if self._is_abandoned() or loop is None or loop.is_closed():
            return True
        if self._task is None:
            return False
        task = self._task()
        return task is None or task.done()

    def _run(self) -> None:
        from queue import Empty

        if not self._do(*self._calls.get()):
            # The transaction could not begin.
            self._entered = None  # type: ignore[assignment]
            self.is_over = True
        while True:
            try:
                self._do(*self._calls.get(timeout=_LOOK))
            except Empty:
                if not self.is_over and self._has_nobody():
                    self.is_over = True
                    self._roll_back()
            if self.is_over and self._entered is None and self._calls.empty():
                break
        self._is_done = True
        self._refuse_calls()

    def _refuse_calls(self) -> None:
        """Fail the calls that were queued after the thread had finished."""
        from queue import Empty

        with contextlib.suppress(Empty):
            while True:
                future, _ = self._calls.get_nowait()
                if future.running() or future.set_running_or_notify_cancel():
                    future.set_exception(RuntimeError("the transaction has ended"))

    def _do(self, future: Future[Any], call: Callable[[], Any]) -> bool:
        if not future.running() and not future.set_running_or_notify_cancel():
            return False
        try:
            result = call()
        except BaseException as error:  # noqa: BLE001
            future.set_exception(error)
            return False
        future.set_result(result)
        return True

    def _roll_back(self) -> None:
        error = RuntimeError("no task is left that could end the transaction")
        try:
            self._end(type(error), error, None)
        except Exception:
            import logging

            logging.getLogger("flexcache_rs.disk").warning("a transaction could not be undone", exc_info=True)


class _Transaction:
    """A transaction of a task and of the tasks that it starts inside, for `async with`."""

    def __init__(self, cache: Transacting, retry: bool) -> None:
        self._cache = cache
        self._retry = retry
        self.outer: _Transaction | None = None
        self.worker: Any = None
        self._nested: AbstractContextManager[None] | None = None
        self._token: contextvars.Token[_Transaction | None] | None = None

    def is_open(self) -> bool:
        """Whether calls of the task are made in this transaction."""
        return self.worker is not None and self.worker.lives()

    async def __aenter__(self) -> None:
        from asyncio import current_task, get_running_loop, wrap_future

        from flexcache_rs._asyncio_calls import shielded

        self.outer = transaction_of_task()
        entered = self._cache.transact(retry=self._retry)
        if self.outer is not None:
            self.worker = self.outer.worker
            self._nested = entered
            await self._nest(entered)
            return
        self.worker = worker = _Worker(entered, get_running_loop(), current_task(), self)
        try:
            await shielded(wrap_future(worker.begun()))
        except BaseException:
            # The transaction may still begin later, and must then be rolled back.
            worker.abandoned = True
            raise
        self._token = _current.set(self)

    async def _nest(self, entered: AbstractContextManager[None]) -> None:
        from asyncio import wrap_future

        from flexcache_rs._asyncio_calls import shielded

        begun = self.worker.submit(entered.__enter__)
        try:
            await shielded(wrap_future(begun))
        except BaseException as error:
            # The thread runs `_leave` after `begun`, in the order of submission.
            self.worker.submit(functools.partial(_leave, begun, entered, error))
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        from asyncio import wrap_future

        from flexcache_rs._asyncio_calls import shielded

        if self._token is not None:
            # An async generator may be closed in another context than the one in which it started.
            with contextlib.suppress(ValueError):
                _current.reset(self._token)
        if not self.is_open():
            if error is None:
                raise RuntimeError("the transaction was undone: its event loop or task ended before it")
            return
        if self._nested is not None:
            nested = self._nested
            ended = self.worker.submit(lambda: nested.__exit__(kind, error, traceback))
        else:
            ended = self.worker.end(kind, error, traceback)
        await shielded(wrap_future(ended))


def _leave(begun: Future[None], entered: AbstractContextManager[None], error: BaseException) -> None:
    """Roll back a nested transaction whose task was cancelled while it began."""
    if begun.done() and not begun.cancelled() and begun.exception() is None:
        entered.__exit__(type(error), error, error.__traceback__)


def transaction(cache: Transacting, retry: bool) -> _Transaction:
    """Return a transaction for a task and the tasks that it starts. A separate thread makes their calls."""
    return _Transaction(cache, retry)
