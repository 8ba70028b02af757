"""Functions of asyncio, which is imported when the first of them is awaited: most programs need none of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
R = TypeVar("R")


async def to_thread(call: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """As `asyncio.to_thread`."""
    from asyncio import to_thread

    return await to_thread(call, *args, **kwargs)


async def finish_in_thread(call: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """As `asyncio.to_thread`, for a call that must be made even if the caller is cancelled."""
    from asyncio import ensure_future, shield

    return await shield(ensure_future(to_thread(call, *args, **kwargs)))


async def sleep(seconds: float) -> None:
    """As `asyncio.sleep`."""
    from asyncio import sleep

    await sleep(seconds)
