"""One thread sends awaited calls together. If one caller is interrupted, the others are answered."""

from __future__ import annotations

import asyncio
import itertools
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from interrupting import INTERRUPTS, Tracer
from waiting import until

from flexcache_rs.sessions._gathered import Gatherer, Result

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

AT_LEAST = 5
"""Events of asking."""


def answered(calls: Sequence[Any]) -> list[Result]:
    return [(call, None) for call in calls]


def ask_everywhere(interrupt: Callable[[Gatherer], None]) -> list[Any]:
    """Make a call for each event of a call, do something there, and make another call."""
    answers: list[Any] = []
    gatherer = Gatherer(answered)

    async def main() -> None:
        for at in itertools.count(1):
            tracer = Tracer(at, lambda: interrupt(gatherer))
            asked: Any = None
            sys.settrace(tracer)
            try:
                asked = gatherer.ask("interrupted")  # type: ignore[arg-type]
            except BaseException:
                asked = None
            finally:
                sys.settrace(None)
            if asked is not None:
                answers.append(await asyncio.wait_for(asked, 60))
            answers.append(await asyncio.wait_for(gatherer.ask("next"), 60))  # type: ignore[arg-type]
            if not tracer.fired:
                assert at > AT_LEAST
                return

    def run() -> None:
        asyncio.run(main())
        answers.append("ended")

    # A daemon: if it waits for itself, the test fails instead of never ending.
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    until(lambda: not thread.is_alive())
    gatherer.end()
    return answers


@pytest.mark.parametrize("how", INTERRUPTS)
def test_an_interrupted_caller_is_in_nobodys_way(how: str) -> None:
    answers = ask_everywhere(lambda _: INTERRUPTS[how]())
    assert answers[-1] == "ended"
    assert answers.count("next") > AT_LEAST


def test_who_asks_while_its_thread_asks_does_not_wait_for_itself() -> None:
    """A signal handler may call in this way, or the destructor of an object."""
    inner: list[asyncio.Future[Any]] = []
    answers = ask_everywhere(lambda gatherer: inner.append(gatherer.ask("inner")))  # type: ignore[arg-type]
    assert answers[-1] == "ended"
    assert answers.count("interrupted") == answers.count("next") == len(inner) + 1
    assert {future.result() for future in inner} == {"inner"}
