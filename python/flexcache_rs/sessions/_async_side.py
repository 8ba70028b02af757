"""What the awaited face has to itself."""

from __future__ import annotations

from asyncio import sleep
from typing import TYPE_CHECKING

from flexcache_rs._core import _load_in_task as load

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Block", "load", "sleep"]


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
