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
from flexcache_rs.disk.constants import ENOVAL

TYPE_CHECKING = False
if TYPE_CHECKING:
    # asyncio takes longer to import than all of this package, and few need it.
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
            """A transaction of the calling thread."""
            ...


_THREADS = 8
"""Writers to one database take turns, and readers hardly wait: more would not be faster."""

_PAGE = 100
"""Keys that an iteration takes at a time."""

_LOOK = 0.25
"""Seconds between two checks of a transaction's thread whether a task is left that could end it."""

_pool: ThreadPoolExecutor | None = None

_current: contextvars.ContextVar[_Transaction | None] = contextvars.ContextVar(
    "flexcache_rs.disk transaction", default=None
)
"""The innermost transaction that the context was made in; it may be over."""


def _forget_pool() -> None:
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    # Its threads are not in the child.
    os.register_at_fork(after_in_child=_forget_pool)


def transaction_of_task() -> _Transaction | None:
    """The innermost transaction that is still open."""
    transaction = _current.get()
    while transaction is not None and not transaction.is_open():
        transaction = transaction.outer
    return transaction


def _submit(call: Callable[[], R]) -> Future[R]:
    global _pool
    transaction = transaction_of_task()
    if transaction is not None:
        inside: Future[R] = transaction.worker.submit(call)
        return inside
    pool: Executor | None = _pool
    if pool is None:
        from concurrent.futures import ThreadPoolExecutor

        pool = _pool = ThreadPoolExecutor(_THREADS, "flexcache_rs.disk")
    return pool.submit(call)


async def in_thread(call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """What a call returns, made by another thread with the context of the task."""
    from asyncio import wrap_future

    context = contextvars.copy_context()
    return await wrap_future(_submit(functools.partial(context.run, call, *args, **kwargs)))


def awaitable(method: Callable[Concatenate[C, P], R]) -> Callable[Concatenate[C, P], Coroutine[Any, Any, R]]:
    """The method of a class of caches that is like another one, and is awaited."""
    name = method.__name__

    async def call(self: C, /, *args: P.args, **kwargs: P.kwargs) -> R:
        # By its name, for a subclass may have another.
        return await in_thread(getattr(self, name), *args, **kwargs)

    call.__name__ = f"a{name}"
    call.__qualname__ = f"{method.__qualname__.rpartition('.')[0]}.a{name}"
    call.__doc__ = f"As `{name}`, without blocking the event loop."
    # Shows the parameters to `inspect.signature` and to editors.
    call.__wrapped__ = method  # type: ignore[attr-defined]
    return call


def _begin(call: Callable[[], R]) -> asyncio.Future[R]:
    from asyncio import wrap_future

    return wrap_future(_submit(functools.partial(contextvars.copy_context().run, call)))


async def _take(take: Callable[[], Any], put_back: Callable[[Any], object]) -> Any:
    if transaction_of_task() is not None:
        # The end of its block undoes it, or does not.
        return await in_thread(take)
    from flexcache_rs._taking import take_in_thread

    return await take_in_thread(_begin, take, put_back)


def _put_back(cache: Any, key: Any, found: tuple[Any, float | None, Any]) -> None:
    value, expires_at, tag = found
    expire = None if expires_at is None else expires_at - time.time()
    if expire is None or expire > 0:
        cache.add(key, value, expire, tag=tag, retry=True)


def _shaped(found: tuple[Any, float | None, Any], default: Any, wants_time: bool, wants_tag: bool) -> Any:
    """What was taken, or the default, as `get` returns it with what is asked about it."""
    value, expires_at, tag = (default, None, None) if found[0] is ENOVAL else found
    more = [*((expires_at,) if wants_time else ()), *((tag,) if wants_tag else ())]
    return (value, *more) if more else value


@suggesting
async def apop(
    self: Any, key: Any, default: Any = None, expire_time: bool = False, tag: bool = False, retry: bool = False
) -> Any:
    """As `pop`, without blocking the event loop."""

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
    """As `pull`, without blocking the event loop."""

    def put_back(found: tuple[Any, float | None, Any]) -> None:
        if found[0] is not ENOVAL:
            # Under the same key, where it was in the queue.
            (key, value), expires_at, tagged = found
            _put_back(self, key, (value, expires_at, tagged))

    found = await _take(lambda: self.pull(prefix, ENOVAL, side, True, True, retry), put_back)
    return _shaped(found, default, expire_time, tag)


def taking(method: Callable[Concatenate[C, P], R]) -> Callable[Concatenate[C, P], Coroutine[Any, Any, R]]:
    """The same as `awaitable` for `pop` or `pull`: if the task is cancelled, what was taken is put back."""
    take: Any = apop if method.__name__ == "pop" else apull

    async def call(self: C, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await take(self, *args, **kwargs)  # type: ignore[no-any-return]

    return functools.update_wrapper(call, awaitable(method))


async def keys(iterable: Iterable[Any]) -> AsyncIterator[Any]:
    """Goes through keys, some at a time."""
    iterator = iter(iterable)
    while page := await in_thread(lambda: list(itertools.islice(iterator, _PAGE))):
        for key in page:
            yield key


class _Worker:
    """The thread of a transaction: it begins it, makes the calls inside, and ends it.

    Nobody may be left to end it: the event loop was closed, the task is over while an async generator of its own holds
    the block open, or everything was collected. The thread looks for that, and rolls back. It knows the loop and the
    task only as long as others do.
    """

    def __init__(self, entered: AbstractContextManager[None], loop: Any, task: Any) -> None:
        from queue import SimpleQueue
        from threading import Thread

        self._entered = entered
        self._loop = weakref.ref(loop)
        self._task = None if task is None else weakref.ref(task)
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = SimpleQueue()
        self._pid = os.getpid()
        self.is_over = False
        """Whether the transaction has ended, or is about to."""
        self._is_done = False
        self.abandoned = False
        """Whether it must end as soon as possible, without its changes."""
        # Not waited for at the end of the interpreter: a transaction that is open then is undone by SQLite.
        self._thread = Thread(target=self._run, name="flexcache_rs.disk transaction", daemon=True)
        self._begun = self._queued(entered.__enter__)
        self._thread.start()

    def lives(self) -> bool:
        """Whether calls can be made in the transaction."""
        return not (self.is_over or self.abandoned) and self._pid == os.getpid()

    def begun(self) -> Future[None]:
        """Done when the transaction has begun."""
        return self._begun

    def _queued(self, call: Callable[[], R], *, cancellable: bool = True) -> Future[R]:
        from concurrent.futures import Future

        future: Future[R] = Future()
        if not cancellable:
            # Before the thread has it, which may end the call at once.
            future.set_running_or_notify_cancel()
        self._calls.put((future, call))
        if self._is_done:
            self._refuse_calls()
        return future

    def submit(self, call: Callable[[], R]) -> Future[R]:
        """Has a call made in the transaction."""
        return self._queued(call)

    def end(self, *raised: Any) -> Future[None]:
        """Has the transaction ended, after what was submitted before. It cannot be taken back."""
        self.is_over = True
        # Who waits for it may be cancelled, and it is done nevertheless.
        return self._queued(functools.partial(self._end, *raised), cancellable=False)

    def _end(self, *raised: Any) -> None:
        entered, self._entered = self._entered, None  # type: ignore[assignment]
        if entered is not None:
            entered.__exit__(*raised)

    def _has_nobody(self) -> bool:
        loop = self._loop()
        if self.abandoned or loop is None or loop.is_closed():
            return True
        if self._task is None:
            return False
        task = self._task()
        return task is None or task.done()

    def _run(self) -> None:
        from queue import Empty

        if not self._do(*self._calls.get()):
            # It has not begun.
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
        """Answers calls that came too late for the thread."""
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


def _abandon(worker: _Worker) -> None:
    worker.abandoned = True


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
        """Whether calls of the task belong to it."""
        return self.worker is not None and self.worker.lives()

    async def __aenter__(self) -> None:
        from asyncio import current_task, get_running_loop, shield, wrap_future

        self.outer = transaction_of_task()
        entered = self._cache.transact(retry=self._retry)
        if self.outer is not None:
            self.worker = self.outer.worker
            self._nested = entered
            await self._nest(entered)
            return
        self.worker = worker = _Worker(entered, get_running_loop(), current_task())
        # The worker does not know this object: when nobody does any more, it rolls back.
        weakref.finalize(self, _abandon, worker).atexit = False
        try:
            await shield(wrap_future(worker.begun()))
        except BaseException:
            # It may begin nevertheless, and then it must end.
            worker.abandoned = True
            raise
        self._token = _current.set(self)

    async def _nest(self, entered: AbstractContextManager[None]) -> None:
        from asyncio import shield, wrap_future

        begun = self.worker.submit(entered.__enter__)
        try:
            await shield(wrap_future(begun))
        except BaseException as error:
            # The thread has only what was submitted before to do.
            self.worker.submit(functools.partial(_leave, begun, entered, error))
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        from asyncio import shield, wrap_future

        if self._token is not None:
            # An async generator may be closed in another context than it was begun in.
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
        await shield(wrap_future(ended))


def _leave(begun: Future[None], entered: AbstractContextManager[None], error: BaseException) -> None:
    """Undoes what began after nobody waited for it any more."""
    if begun.done() and not begun.cancelled() and begun.exception() is None:
        entered.__exit__(type(error), error, error.__traceback__)


def transaction(cache: Transacting, retry: bool) -> _Transaction:
    """A transaction for the calls of a task, and of those it starts, which a thread of its own makes."""
    return _Transaction(cache, retry)
