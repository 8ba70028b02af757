"""Raises an exception at the n-th event of a call in the package's own files, as a signal handler might."""

from __future__ import annotations

import asyncio
import linecache
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from scale import SEED
from waiting import MANY, stacks

import flexcache_rs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from collections.abc import Set as AbstractSet
    from types import CodeType, FrameType

PACKAGE = str(Path(flexcache_rs.__file__).parent)
THREADING = threading.__file__
MOST_POINTS = 5000
MANY_POINTS = 4
"""The smallest number of events that an interrupted call must have."""
WAIT = 5.0
"""Seconds to wait for a lock that an interrupted call should have released."""


class Stop(Exception):  # noqa: N818
    """The exception that interrupts a call."""


class Tracer:
    """Interrupts a call at its n-th event.

    Args:
        at: The number of the event in the package's files, or in the users' functions.
        interrupt: The function to call there.
        users: The users' functions.
        within: A function. Only events of its calls count, and not other callbacks of its event loop. None for all.
        files: How the names of the files begin whose events count.
    """

    def __init__(
        self,
        at: int,
        interrupt: Callable[[], None],
        users: AbstractSet[CodeType] = frozenset(),
        within: CodeType | None = None,
        files: tuple[str, ...] = (PACKAGE,),
    ) -> None:
        self.left = at
        self.interrupt = interrupt
        self.fired = False
        self._users, self._within, self._files = users, within, files
        self._entered: set[tuple[FrameType, int]] = set()

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:
        code = frame.f_code
        if code not in self._users and not code.co_filename.startswith(self._files):
            return None
        if not self._is_within(frame):
            return None
        if event == "line" and self._ends_block(frame):
            return self
        self.left -= 1
        if self.left == 0:
            self.fired = True
            self.interrupt()
        return self

    def _ends_block(self, frame: FrameType) -> bool:
        """Whether a line event belongs to the end of a `with` block. It is traced, but no signal handler runs there."""
        line = linecache.getline(frame.f_code.co_filename, frame.f_lineno).lstrip()
        if not line.startswith(("with ", "async with ")):
            return False
        if (frame, frame.f_lineno) in self._entered:
            return True
        self._entered.add((frame, frame.f_lineno))
        return False

    def _is_within(self, frame: FrameType | None) -> bool:
        if self._within is None:
            return True
        while frame is not None and frame.f_code is not self._within:
            frame = frame.f_back
        return frame is not None


def raise_stop() -> None:
    raise Stop


def raise_keyboard_interrupt() -> None:
    raise KeyboardInterrupt


def send_signal() -> None:
    # The signal handler raises in the interrupted frame, a little later.
    if threading.current_thread() is threading.main_thread():
        signal.raise_signal(signal.SIGINT)
    else:
        raise Stop


INTERRUPTS: dict[str, Callable[[], None]] = {
    "an exception": raise_stop,
    "KeyboardInterrupt": raise_keyboard_interrupt,
    "a signal": send_signal,
}


def points(call: Callable[[], object], how: str, within: CodeType | None = None, step: int = 1) -> Iterator[int]:
    """Make a call once for each of its events, and interrupt it at that event. Yields after each call.

    Like a signal, this interrupts the calling thread only. The last call completes. With a step, each way to interrupt
    uses other events.
    """
    for at in range(1 + list(INTERRUPTS).index(how) * step // len(INTERRUPTS), MOST_POINTS, step):
        tracer = Tracer(at, INTERRUPTS[how], within=within)
        before = signal.signal(signal.SIGINT, lambda *_: raise_keyboard_interrupt())
        sys.settrace(tracer)
        try:
            call()
        except (Stop, KeyboardInterrupt, asyncio.CancelledError, RuntimeError):
            pass
        finally:
            sys.settrace(None)
            signal.signal(signal.SIGINT, before)
        yield at
        if not tracer.fired:
            assert at > MANY_POINTS, "the call has more events than these"
            return
    pytest.fail("the call never completed")


def no_point_hangs(
    make: Callable[[], Any],
    call: Callable[[Any], object],
    check: Callable[[Any], object],
    *,
    again: bool,
    patience: float = MANY,
    step: int = 1,
) -> None:
    """Interrupt a call at each event in the package and in `threading`. Each time, what is left must still work.

    An exception leaves a lock locked that is acquired in Python code. Another call of the same thread waits for it.

    Args:
        make: Makes what is used.
        call: The call, which gets what was made.
        check: The call which must succeed afterwards, in another thread.
        again: Whether to make the call once more at the event, instead of raising an exception.
        patience: The number of seconds after which a call hangs.
        step: The distance between two events at which it is interrupted. The seed decides about the first one.
    """
    for at in range(1 + SEED % step, MOST_POINTS, step):
        made = make()

        def interrupt(made: Any = made) -> None:
            if not again:
                raise Stop
            call(made)

        tracer = Tracer(at, interrupt, files=(PACKAGE, THREADING))

        def traced(made: Any = made, tracer: Tracer = tracer) -> None:
            sys.settrace(tracer)
            try:
                call(made)
            except Stop:
                pass
            finally:
                sys.settrace(None)

        _in_time(traced, at, patience)
        _in_time(lambda made=made: check(made), at, patience)
        if not tracer.fired:
            assert at > MANY_POINTS, "the call has more events than these"
            return
    pytest.fail("the call never completed")


def _in_time(call: Callable[[], object], at: int, patience: float) -> None:
    """Make a call in a thread, and fail if it hangs or raises."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(patience)
    if thread.is_alive():
        pytest.fail(f"the call hangs after point {at}{stacks()}")
    for error in raised:
        raise AssertionError(f"after point {at}") from error


def use(lock: Any) -> None:
    """Enter and leave the `with` block of a lock."""
    with lock:
        pass


async def ause(lock: Any) -> None:
    """Enter and leave the `with` block of a lock."""
    async with lock:
        pass


def no_point_keeps(make: Callable[[], Any], how: str, step: int = 1) -> None:
    """Interrupt the `with` block of a lock at every event. Each time, acquire the lock through another object."""
    for at in points(lambda: use(make()), how, step=step):
        other = make()
        assert other.acquire(timeout=WAIT), f"held after point {at}"
        other.release()


def no_point_keeps_awaited(make: Callable[[], Any], how: str, other: Callable[[], Any], step: int = 1) -> None:
    """The same for `async with`. `make` is a context manager of the lock. `other` is a lock without an event loop."""

    async def call() -> None:
        async with make() as lock:
            await ause(lock)

    for at in points(lambda: asyncio.run(call()), how, ause.__code__, step):
        lock = other()
        assert lock.acquire(timeout=WAIT), f"held after point {at}"
        lock.release()
