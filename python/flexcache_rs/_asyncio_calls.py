"""Functions of asyncio. asyncio is imported when the first of them is awaited, because most programs do not need it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Callable, Coroutine, Iterable, Sequence

    from flexcache_rs._core import SharedSegment

P = ParamSpec("P")
R = TypeVar("R")


def without_stop(call: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """Make a call. StopIteration becomes RuntimeError, as in a coroutine.

    A user's class may raise it while it is pickled. Before Python 3.12, a future refuses it, and its task would wait
    for ever.
    """
    try:
        return call(*args, **kwargs)
    except StopIteration as error:
        raise RuntimeError(f"a call raised {error!r}") from error


async def to_thread(call: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """As `asyncio.to_thread`, for a call that may raise StopIteration."""
    from asyncio import to_thread

    return await to_thread(without_stop, call, *args, **kwargs)


def begin_in_thread(call: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
    """As `asyncio.to_thread`, but the call is already submitted to the thread when this returns."""
    from asyncio import get_running_loop
    from contextvars import copy_context
    from functools import partial

    return get_running_loop().run_in_executor(None, partial(copy_context().run, without_stop, call, *args, **kwargs))


async def finish_in_thread(call: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """As `asyncio.to_thread`, for a call that must be made even if the caller is cancelled, or its loop was closed."""
    from asyncio import get_running_loop

    try:
        get_running_loop()
    except RuntimeError:
        # The garbage collector closes the caller, and nobody gets the result.
        begin_without_loop(call, *args, **kwargs)
        return None  # type: ignore[return-value]
    return await shielded(begin_in_thread(call, *args, **kwargs))


def begin_without_loop(call: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> None:
    """Make a call in a thread for a coroutine whose event loop has been closed. Its exceptions are logged."""
    from _thread import start_new_thread
    from contextlib import suppress
    from threading import Thread

    def make() -> None:
        try:
            call(*args, **kwargs)
        except Exception as error:  # noqa: BLE001  # Nobody awaits it.
            _log(error)

    # Do not wait for its start, because the garbage collector may have interrupted this thread inside `threading`.
    with suppress(RuntimeError):
        start_new_thread(Thread(target=make, name="flexcache-release").start, ())


async def shielded(future: Future[R]) -> R:
    """As `asyncio.shield`. If the caller is cancelled, an exception is logged."""
    from asyncio import CancelledError, wait

    # From Python 3.14 on, `shield` reports the exception too.
    try:
        await wait((future,))
    except CancelledError:
        future.add_done_callback(_log_exception)
        raise
    return future.result()


def _log_exception(future: Future[Any]) -> None:
    error = None if future.cancelled() else future.exception()
    if error is not None:
        _log(error)


def _log(error: BaseException) -> None:
    import logging

    logging.getLogger("flexcache_rs").warning("a call that no task awaits any more has failed", exc_info=error)


async def sleep(seconds: float) -> None:
    """As `asyncio.sleep`."""
    from asyncio import sleep

    await sleep(seconds)


async def wait(futures: Iterable[Future[R]]) -> None:
    """As `asyncio.wait`: the futures go on if the caller is cancelled."""
    from asyncio import wait

    await wait(futures)


async def gathered(calls: Sequence[Coroutine[Any, Any, R]]) -> list[R]:
    """The results of calls that are made at the same time. If one fails, the others are awaited before it is raised."""
    if len(calls) == 1:
        return [await calls[0]]
    from asyncio import gather

    results = await gather(*calls, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results  # type: ignore[return-value]


async def at_once(cache: SharedSegment, name: object, call: Callable[[], R | None]) -> R:
    """Make a call in the event loop, and return its result. Repeat it while it returns None.

    None means that another process is writing. Only the wait for that process is in a thread. If a task is cancelled
    meanwhile, no thread acquires anything for it, which nobody would release.
    """
    while (result := call()) is None:
        await to_thread(cache._wait_for_writers, name)
    return result
