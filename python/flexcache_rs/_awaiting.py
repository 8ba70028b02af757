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
    """Whether `task` cannot go on before `other` has ended.

    This is so if the task awaits the other one, or a gather(), wait(), shield() or TaskGroup which waits for it. The
    callbacks of the futures tell.
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
    """Yield the tasks and futures that a future's callbacks resume."""
    for callback, *_ in getattr(future, "_callbacks", None) or ():
        for part in _parts(callback):
            # A TaskGroup. The task that runs its block waits for all tasks of the group.
            parent = getattr(part, "_parent_task", None)
            if parent is not None:
                yield parent
            elif hasattr(part, "_asyncio_future_blocking"):
                yield part


def _parts(callback: Any) -> Iterator[Any]:
    """Yield the objects that a callback refers to: arguments of a partial, its instance, and its closure."""
    while isinstance(callback, functools.partial):
        yield from callback.args
        callback = callback.func
    yield getattr(callback, "__self__", None)
    for cell in getattr(callback, "__closure__", None) or ():
        with contextlib.suppress(ValueError):  # The cell is empty.
            yield cell.cell_contents
