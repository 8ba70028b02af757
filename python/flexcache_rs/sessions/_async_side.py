"""What the awaited face has to itself."""

from __future__ import annotations

from asyncio import sleep
from asyncio import to_thread as in_thread
from typing import TYPE_CHECKING, Any

from flexcache_rs._core import _load_in_task as load
from flexcache_rs.sessions._errors import UnsupportedError

if TYPE_CHECKING:
    from types import TracebackType

    from flexcache_rs.sessions._store import SessionStore

__all__ = ["Block", "in_thread", "load", "sleep", "store"]


def store(_: Any) -> SessionStore:
    """Refuse: a cache's threads cannot await."""
    raise UnsupportedError("only threads can use a store: open the session with flexcache_rs.sessions.sync.connect")


class Block:
    """The end of a transaction's `async with`."""

    async def _leave(self, commits: bool) -> None:
        raise NotImplementedError

    async def _end(self) -> None:
        raise NotImplementedError

    async def __aexit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self._leave(kind is None)
        except BaseException:
            # Whatever interrupted it, a cancellation for instance: nothing stays open.
            await self._end()
            raise
