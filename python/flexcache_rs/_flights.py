"""One computation a key, however many threads and tasks ask for it.

A flight is one computation in progress. Whoever finds none under a key takes off and computes, the
others wait until it has landed. Nothing here is under a lock: what has to be atomic is one call of a
dict or a list, so that neither the garbage collector nor a signal handler can find a lock taken.

A flight that waits for another is noted before the wait begins, and only then the chain of waits is
looked at: of those who close a circle, the last one sees it and raises instead of waiting for ever.
Loops of asyncio are in the chain as well: a flight of a task needs its loop, and a loop whose thread
waits for a flight is stuck until that has landed.
"""

from __future__ import annotations

import sys
from _thread import allocate_lock
from contextvars import ContextVar, copy_context
from os import getpid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future, Task
    from collections.abc import Callable, Coroutine
    from typing import Any


class CircularLoadError(RuntimeError):
    """A computation would have to wait for itself."""


class Flight:
    """One computation in progress.

    It ends in one of three ways: with a value, with an exception to share, or without either
    because whoever computed was stopped; those who wait then try again.
    """

    __slots__ = ("__weakref__", "error", "key", "landed", "loop", "pid", "task", "value", "waiting", "waits_for")

    def __init__(self, key: Any, loop: AbstractEventLoop | None = None) -> None:
        self.key = key
        self.loop = loop
        self.task: Task[None] | None = None
        self.pid = getpid()
        self.landed = False
        self.value: Any = NOTHING
        self.error: Exception | None = None
        self.waiting: list[Callable[[], object]] = []
        self.waits_for: list[Flight] = []

    def is_over(self) -> bool:
        """Whether it has landed, or never will: its process forked, or its loop was closed."""
        return self.landed or self.pid != getpid() or (self.loop is not None and self.loop.is_closed())

    def land(self) -> None:
        """Tells all who wait."""
        self.landed = True
        while self.waiting:
            try:
                wake = self.waiting.pop()
            except IndexError:
                break
            wake()


# What no computation returns.
NOTHING = object()

# How many seconds to wait before looking whether there is still anything to wait for.
_PATIENCE = 1.0

# The flight that this thread or task computes for.
_own: ContextVar[Flight | None] = ContextVar("flexcache_rs._flights._own", default=None)

# Event loops whose thread waits for a flight.
_stuck_loops: dict[AbstractEventLoop, Flight] = {}


def _running_loop() -> AbstractEventLoop | None:
    # Whoever runs a loop has imported this.
    events: Any = sys.modules.get("asyncio.events")
    return None if events is None else events._get_running_loop()


def _needed_by(flight: Flight) -> list[Flight]:
    """The flights that a flight cannot land without."""
    needed = list(flight.waits_for)
    stuck = _stuck_loops.get(flight.loop) if flight.loop is not None else None
    if stuck is not None:
        needed.append(stuck)
    return needed


def _refuse_circle(flight: Flight, own: Flight | None, loop: AbstractEventLoop | None) -> None:
    """Raises where `flight` cannot land before `own` has, or without `loop`."""
    seen: set[int] = set()
    open_ = [flight]
    while open_:
        one = open_.pop()
        if one.landed:
            continue
        if one is own or (loop is not None and one.loop is loop):
            raise CircularLoadError(f"computing the value of {flight.key!r} would have to wait for itself")
        if id(one) not in seen:
            seen.add(id(one))
            open_.extend(_needed_by(one))


def _wait(flight: Flight) -> None:
    """Waits in a thread until a flight has landed, or never will."""
    own, loop = _own.get(), _running_loop()
    woken = allocate_lock()
    woken.acquire()
    wake = woken.release
    if own is not None:
        own.waits_for.append(flight)
    if loop is not None:
        _stuck_loops[loop] = flight
    try:
        _refuse_circle(flight, own, loop)
        flight.waiting.append(wake)
        while not (flight.is_over() or woken.acquire(timeout=_PATIENCE)):
            pass
    finally:
        if own is not None:
            own.waits_for.remove(flight)
        if loop is not None:
            _stuck_loops.pop(loop, None)
        _give_up(flight, wake)


def _join(flights: dict[Any, Flight], key: Any, mine: Flight) -> Flight:
    """The flight there is under a key, or `mine`."""
    while True:
        flight = flights.setdefault(key, mine)
        if flight is mine or not flight.is_over():
            return flight
        _leave(flights, key, flight)


def _leave(flights: dict[Any, Flight], key: Any, flight: Flight) -> None:
    if flights.get(key) is flight:
        flights.pop(key, None)


def fly(flights: dict[Any, Flight], key: Any, compute: Callable[[], Any]) -> Any:
    """What compute() returns, called here or, at this moment, elsewhere.

    Where several are in compute() for one key they are so in one thread, and that raises
    CircularLoadError. Errors of compute() are shared; what stops a thread, such as
    KeyboardInterrupt, is not, and another takes over.
    """
    mine = Flight(key)
    while True:
        flight = _join(flights, key, mine)
        if flight is mine:
            return _lead(flights, mine, compute)
        _wait(flight)
        if flight.error is not None:
            raise flight.error
        if flight.value is not NOTHING:
            return flight.value


def _lead(flights: dict[Any, Flight], mine: Flight, compute: Callable[[], Any]) -> Any:
    own = _own.get()
    token = _own.set(mine)
    if own is not None:
        own.waits_for.append(mine)
    try:
        mine.value = compute()
    except Exception as error:
        mine.error = error
        raise
    else:
        return mine.value
    finally:
        _own.reset(token)
        if own is not None:
            own.waits_for.remove(mine)
        try:
            _leave(flights, mine.key, mine)
        finally:
            mine.land()


async def afly(flights: dict[Any, Flight], key: Any, compute: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """What `await compute()` returns: fly() for tasks of any event loop.

    The computation is a task of its own: a caller that is cancelled cancels nobody else, and the
    computation only when nobody waits for it any more.
    """
    from asyncio import get_running_loop  # Not imported before it is used.

    loop = get_running_loop()
    while True:
        mine = Flight(key, loop)
        flight = _join(flights, key, mine)
        if flight is mine:
            _launch(flights, mine, loop, compute)
        await _await(flight, loop)
        if flight.error is not None:
            raise flight.error
        if flight.value is not NOTHING:
            return flight.value


def _launch(
    flights: dict[Any, Flight], mine: Flight, loop: AbstractEventLoop, compute: Callable[[], Coroutine[Any, Any, Any]]
) -> None:
    """Starts the task that computes."""

    def land(_task: object) -> None:
        try:
            _leave(flights, mine.key, mine)
        finally:
            mine.land()

    context = copy_context()
    context.run(_own.set, mine)
    computation = _compute(mine, compute)
    try:
        mine.task = context.run(loop.create_task, computation)
    except BaseException:
        computation.close()
        land(None)
        raise
    # Not at the end of the computation, which a task that is cancelled early never begins.
    mine.task.add_done_callback(land)


async def _compute(mine: Flight, compute: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    try:
        mine.value = await compute()
    except Exception as error:  # noqa: BLE001  # Those who wait raise it.
        mine.error = error


async def _await(flight: Flight, loop: AbstractEventLoop) -> None:
    """Waits in a task until a flight has landed, or never will."""
    from asyncio import wait  # Not imported before it is used.

    own = _own.get()
    landed: Future[None] = loop.create_future()

    def wake() -> None:
        try:
            loop.call_soon_threadsafe(_set, landed)
        except RuntimeError:
            # The loop was closed: nobody waits on it any more.
            return

    if own is not None:
        own.waits_for.append(flight)
    try:
        _refuse_circle(flight, own, None)
        flight.waiting.append(wake)
        if flight.loop is loop:
            if not flight.landed:
                await landed
        else:
            while not flight.is_over():
                await wait((landed,), timeout=_PATIENCE)
    finally:
        if own is not None:
            own.waits_for.remove(flight)
        _give_up(flight, wake)


def _set(future: Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _give_up(flight: Flight, wake: Callable[[], object]) -> None:
    """One less waits; where it was the last, the task that computes is cancelled."""
    if flight.landed:
        return
    try:
        flight.waiting.remove(wake)
    except ValueError:
        return
    if not (flight.waiting or flight.task is None or flight.loop is None or flight.loop.is_closed()):
        flight.loop.call_soon_threadsafe(flight.task.cancel)
