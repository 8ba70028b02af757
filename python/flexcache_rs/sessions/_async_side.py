"""The code that only the interface with `await` has."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from asyncio import sleep
from typing import TYPE_CHECKING, Any
from weakref import ref

from flexcache_rs._asyncio_calls import to_thread as in_thread
from flexcache_rs._core import AwaitedBlock as Block
from flexcache_rs._core import _load_in_task as load
from flexcache_rs._threads import start
from flexcache_rs.sessions._errors import ClosedError, SessionError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import ParamSpec, Protocol, TypeVar, overload

    from flexcache_rs._core import SessionCall
    from flexcache_rs.sessions._protocol import Backend
    from flexcache_rs.sessions._store import SessionStore
    from flexcache_rs.sessions._taking import Undo

    P = ParamSpec("P")
    R = TypeVar("R")

    class Memoizing(Protocol):
        """A decorator whose functions are coroutine functions, even if the decorated ones are not."""

        @overload
        def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> Callable[P, Coroutine[Any, Any, R]]: ...

        @overload
        def __call__(self, function: Callable[P, R], /) -> Callable[P, Coroutine[Any, Any, R]]: ...


__all__ = [
    "RELEASED",
    "Block",
    "give_back",
    "holder",
    "in_thread",
    "is_over",
    "load",
    "loop",
    "sleep",
    "store",
    "take",
]

RELEASED = (SessionError, asyncio.CancelledError)
"""The exceptions after which a release is not repeated: it was made, or another request would fail too."""


async def take(backend: Backend, call: SessionCall, undo: Undo) -> Any:
    """Make a call that takes an element or a lease. If the task is cancelled before it has it, `undo` gives it back."""
    return await backend.arun(call, undo)


def loop() -> asyncio.AbstractEventLoop:
    """Return the running event loop."""
    return asyncio.get_running_loop()


def is_over(running: asyncio.AbstractEventLoop) -> bool:
    """Whether an event loop was closed, so that none of its tasks goes on."""
    return running.is_closed()


async def give_back(backend: Backend, call: SessionCall) -> None:
    """Give back a lease. Does nothing if the session is closed."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        # The event loop was closed during the computation, and the garbage collector closes the coroutine.
        with contextlib.suppress(RuntimeError):
            start(threading.Thread(target=_give_back, args=(backend, call), name="flexcache sessions release"))
        return
    with contextlib.suppress(ClosedError):
        await backend.arun(call)


def _give_back(backend: Backend, call: SessionCall) -> None:
    with contextlib.suppress(SessionError):
        backend.run(call)


def holder() -> Any:
    """Return the identity of the holder of a lock: a reference to the task, which is no later one's."""
    task = asyncio.current_task()
    return None if task is None else ref(task)


def store(_: Any) -> SessionStore:
    """Raise UnsupportedError, because a cache's threads cannot await."""
    raise UnsupportedError("only threads can use a store: open the session with flexcache_rs.sessions.sync.connect")
