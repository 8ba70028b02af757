"""`Block` and `AwaitedBlock`: what begins and ends in `with` and `async with`."""

from __future__ import annotations

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
