"""`LockBlock`: the `with` block of a lock. A signal handler that raises cannot skip its release."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from flexcache_rs._core import AwaitedBlock, Block

if TYPE_CHECKING:
    from datetime import timedelta


class LockBlock(Block, AwaitedBlock):
    """The base class of the locks of stores. `src/py/object/block.rs` says when each method is called."""

    _name: Any
    _timeout: float | timedelta | None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._name!r}>"

    def __reduce__(self) -> Any:
        message = f"a {type(self).__name__} cannot be copied or pickled: make one in each process, by its cache"
        raise TypeError(message)

    def acquire(self) -> bool:
        """Wait for the lock."""
        raise NotImplementedError

    async def aacquire(self) -> bool:
        """The same as `acquire`, awaited."""
        raise NotImplementedError

    def release(self) -> bool:
        """Release the lock."""
        raise NotImplementedError

    async def arelease(self) -> bool:
        """The same as `release`, awaited."""
        raise NotImplementedError

    def _refuse_twice(self) -> None:
        raise NotImplementedError

    def _before(self) -> None:
        self._refuse_twice()

    def _refuse_late(self) -> NoReturn:
        message = f"the lock of {self._name!r} was not free within {self._timeout} seconds"
        raise TimeoutError(message)

    def _enter(self) -> None:
        if not self.acquire():
            self._refuse_late()

    async def _aenter(self) -> None:
        if not await self.aacquire():
            self._refuse_late()

    def _leave(self, _: bool) -> None:
        self.release()

    async def _aleave(self, _: bool) -> None:
        await self.arelease()

    def _end(self, _: None) -> None:
        self.release()

    async def _aend(self, _: None) -> None:
        await self.arelease()
