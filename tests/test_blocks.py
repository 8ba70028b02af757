"""`Block` and `AwaitedBlock`: what begins and ends in `with` and `async with`."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from flexcache_rs._core import AwaitedBlock, Block


class FailingBlock(Block, AwaitedBlock):
    """A block of which both attempts to end it raise the same exception."""

    def __init__(self) -> None:
        self.error = ValueError("it cannot end")

    def _before(self) -> None:
        pass

    def _enter(self) -> None:
        pass

    def _leave(self, _: bool) -> None:
        raise self.error

    def _end(self, _: Any) -> None:
        raise self.error

    async def _aleave(self, _: bool) -> None:
        raise self.error

    async def _aend(self, _: Any) -> None:
        raise self.error


def test_an_exception_that_is_raised_again_is_not_its_own_context() -> None:
    block = FailingBlock()
    with pytest.raises(ValueError, match="it cannot end") as caught:
        block.__exit__(None, None, None)
    assert caught.value.__context__ is None
    with pytest.raises(ValueError, match="it cannot end") as caught:
        next(block.__aexit__(None, None, None).__await__())
    assert caught.value.__context__ is None


@pytest.mark.parametrize("way", ["send", "throw"])
def test_an_end_that_is_over_cannot_be_awaited_again(way: str) -> None:
    """The message is that of Python's own objects that can be awaited only once."""
    step = FailingBlock().__aexit__(None, None, None)
    with pytest.raises(ValueError, match="it cannot end"):
        step.send(None)
    with pytest.raises(RuntimeError, match=r"^cannot reuse already awaited __aenter__\(\)/__aexit__\(\)$"):
        getattr(step, way)(None if way == "send" else KeyError("thrown"))


class CancelledBlock(Block, AwaitedBlock):
    """A block whose beginning and end fail, and in whose undoing the first attempt is interrupted."""

    def __init__(self, interrupts: BaseException | None = None) -> None:
        self.interrupts, self.attempts, self.is_undone = interrupts, 0, False
        self.may_end: asyncio.Future[None] | None = None

    def _before(self) -> None:
        pass

    def _enter(self) -> None:
        raise ValueError("the server is away")

    def _leave(self, _: bool) -> None:
        raise ValueError("the server is away")

    def _end(self, _: Any) -> None:
        self.attempts += 1
        if self.interrupts is not None and self.attempts == 1:
            raise self.interrupts
        self.is_undone = True

    async def _aenter(self) -> None:
        self._enter()

    async def _aleave(self, succeeded: bool) -> None:
        self._leave(succeeded)

    async def _aend(self, before: Any) -> None:
        if self.attempts == 0 and self.interrupts is None:
            self.attempts += 1
            self.may_end = asyncio.get_running_loop().create_future()
            await self.may_end
        self._end(before)


@pytest.mark.parametrize("interrupts", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
@pytest.mark.parametrize("end", ["enter", "exit"])
def test_what_ends_more_than_the_block_is_raised(end: str, interrupts: type[BaseException]) -> None:
    arguments = () if end == "enter" else (None, None, None)
    for prefix in ("__", "__a"):
        block = CancelledBlock(interrupts())
        with pytest.raises(interrupts) as caught:
            step = getattr(block, f"{prefix}{end}__")(*arguments)
            next(step.__await__())
        assert caught.value is block.interrupts
        assert isinstance(caught.value.__context__, ValueError)
        assert block.is_undone


def test_another_failure_is_the_context_of_the_first() -> None:
    for prefix in ("__", "__a"):
        block = CancelledBlock(LookupError())
        with pytest.raises(ValueError, match="the server is away") as caught:
            next(getattr(block, f"{prefix}enter__")().__await__())
        assert caught.value.__context__ is block.interrupts
        assert block.is_undone


@pytest.mark.parametrize("end", ["enter", "exit"])
def test_a_task_that_is_cancelled_while_it_undoes_a_block_ends(end: str) -> None:
    async def main() -> None:
        block = CancelledBlock()

        async def use() -> None:
            # A program that goes on after failures of a server.
            with contextlib.suppress(ValueError):
                await (block.__aenter__() if end == "enter" else block.__aexit__(None, None, None))

        task = asyncio.ensure_future(use())
        while block.may_end is None:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert block.is_undone

    asyncio.run(main())
