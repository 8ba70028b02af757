"""The code that only the interface without `await` has."""

from __future__ import annotations

import contextlib
from threading import local
from time import sleep
from typing import TYPE_CHECKING, Any
from weakref import ref

from flexcache_rs._core import Block
from flexcache_rs._core import _load as load
from flexcache_rs.sessions._errors import ClosedError, SessionError
from flexcache_rs.sessions._store import SessionStore

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
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import ParamSpec, Protocol, TypeVar

    from flexcache_rs._core import SessionCall
    from flexcache_rs.sessions._protocol import Backend
    from flexcache_rs.sessions._taking import Undo

    P = ParamSpec("P")
    R = TypeVar("R")

    class Memoizing(Protocol):
        """A decorator that changes no type."""

        def __call__(self, function: Callable[P, R], /) -> Callable[P, R]:
            """Decorate a function."""
            ...

RELEASED = (SessionError,)
"""The exceptions after which a release is not repeated: it was made, or another request would fail too."""


def in_thread(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in this thread, which may block."""
    return function(*arguments)


def take(backend: Backend, call: SessionCall, undo: Undo) -> Any:
    """Make a call that takes something. If a signal handler raises, give it back where this needs no result."""
    try:
        return backend.run(call)
    except Exception:
        raise
    except BaseException:
        back = undo(None)
        if back is not None:
            backend.run(back)
        raise


def loop() -> object:
    """Return None, because there is no event loop."""
    return None


def is_over(_: object) -> bool:
    """Return False, because there is no event loop that could have been closed."""
    return False


def give_back(backend: Backend, call: SessionCall) -> None:
    """Give back a lease. Does nothing if the session is closed."""
    with contextlib.suppress(ClosedError):
        backend.run(call)


class _Thread:
    """Stands for a thread, and ends with it."""


class _Here(local):
    """An object of each thread. The number of a thread may be a later one's too."""

    def __init__(self) -> None:
        self.thread = _Thread()
        self.holder = ref(self.thread)


_here = _Here()


def holder() -> Any:
    """Return the identity of the holder of a lock: a reference to an object of the thread."""
    return _here.holder


def store(session: Any) -> SessionStore:
    """Return a session as the store behind a cache."""
    return SessionStore(session)
