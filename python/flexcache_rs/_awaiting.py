"""Finds tasks that wait for one another. The native loads call these functions."""

from __future__ import annotations

import contextlib
import functools

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any


def pause() -> None:
    """Do nothing, in Python code, where signals and exceptions sent to a thread are delivered."""


def waits_for(task: Any, other: Any) -> bool:
    """Whether a task cannot go on before another one has ended.

    It awaits it, or what was made to wait for it: gather(), wait(), shield() or a TaskGroup. A future
    knows that by its callbacks.
    """
    seen: set[int] = set()
    open_ = [other]
    while open_:
        one = open_.pop()
        if one is task:
            return True
        if id(one) not in seen:
            seen.add(id(one))
            open_.extend(_waiting_for(one))
    return False


def _waiting_for(future: Any) -> Iterator[Any]:
    """The tasks and futures that a future's callbacks go on with."""
    for callback, *_ in getattr(future, "_callbacks", None) or ():
        for part in _parts(callback):
            # A TaskGroup: the task whose block it is waits for all in it.
            parent = getattr(part, "_parent_task", None)
            if parent is not None:
                yield parent
            elif hasattr(part, "_asyncio_future_blocking"):
                yield part


def _parts(callback: Any) -> Iterator[Any]:
    """What a callback holds: its instance, its arguments, its variables from around."""
    while isinstance(callback, functools.partial):
        yield from callback.args
        callback = callback.func
    yield getattr(callback, "__self__", None)
    for cell in getattr(callback, "__closure__", None) or ():
        with contextlib.suppress(ValueError):  # Where it is not filled yet.
            yield cell.cell_contents
