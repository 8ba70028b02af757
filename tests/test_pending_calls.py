"""Exceptions that end a program, raised in hooks while the interpreter's queue of pending calls is full."""

from __future__ import annotations

import ctypes
import sys
from typing import TYPE_CHECKING, Any

import pytest
from waiting import until

if TYPE_CHECKING:
    from specimens import MakeCache

PENDING = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p)
"""A call that the main thread makes soon."""
NOTHING = PENDING(lambda _: 0)


class Closing:
    """A value that counts how often it was closed."""

    closed = 0

    def close(self) -> None:
        self.closed += 1


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="the queue is CPython's")
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_program_waits_while_too_many_calls_are_pending(
    make_cache: MakeCache, error: type[BaseException]
) -> None:
    """The end of the next hook raises it."""
    pend = ctypes.pythonapi.Py_AddPendingCall
    pend.argtypes = [PENDING, ctypes.c_void_p]

    class Failing(Closing):
        def close(self) -> None:
            super().close()
            raise error(3)

    cache, other, values, ends = make_cache(), make_cache(), [Failing(), Closing()], []
    cache["a"], other["a"] = values

    @PENDING
    def fill(_: Any) -> int:
        # The interpreter makes no pending call during another one, so what fills the queue stays there meanwhile.
        while pend(NOTHING, None) == 0:
            pass
        cache.clear()
        ends.append(1)
        return 0

    assert pend(fill, None) == 0
    until(lambda: ends)
    assert values[0].closed == 1
    with pytest.raises(error, match="3"):
        # The main thread may need some calls to make the pending ones.
        until(other.clear)
    assert values[1].closed == 1
