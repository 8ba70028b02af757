"""What the face without `await` has to itself."""

from __future__ import annotations

from time import sleep
from typing import TYPE_CHECKING, Any

from flexcache_rs._core import SessionBlock as Block
from flexcache_rs._core import _load as load
from flexcache_rs.sessions._store import SessionStore

__all__ = ["Block", "in_thread", "load", "sleep", "store"]
if TYPE_CHECKING:
    from collections.abc import Callable


def in_thread(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function here: nobody else waits for this thread."""
    return function(*arguments)


def store(session: Any) -> SessionStore:
    """Return a session as the store behind a cache."""
    return SessionStore(session)
