"""One thread makes awaited calls together. If one caller is interrupted, the others are answered."""

from __future__ import annotations

import asyncio
import itertools
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from interrupting import INTERRUPTS, Tracer
from waiting import until

from flexcache_rs.sessions import TimedOut, _gathered
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
    gatherer = Gatherer(answered, 60.0)

    async def main() -> None:
        for at in itertools.count(1):
            tracer = Tracer(at, lambda: interrupt(gatherer))
            asked: Any = None
            sys.settrace(tracer)
            try:
                asked = gatherer.ask("interrupted")
            except BaseException:
                asked = None
            finally:
                sys.settrace(None)
            if asked is not None:
                answers.append(await asyncio.wait_for(asked, 60))
            answers.append(await asyncio.wait_for(gatherer.ask("next"), 60))
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
    answers = ask_everywhere(lambda gatherer: inner.append(gatherer.ask("inner")))
    assert answers[-1] == "ended"
    assert answers.count("interrupted") == answers.count("next") == len(inner) + 1
    assert {future.result() for future in inner} == {"inner"}


class OfThree(Exception):  # noqa: N818
    """An exception that cannot be made from its `args`."""

    def __init__(self, first: int, second: int, third: int) -> None:
        super().__init__(f"{first} {second} {third}")


@pytest.mark.every_python
def test_an_exception_that_a_future_refuses_reaches_its_caller() -> None:
    """Futures refuse `StopIteration`, which a serializer may raise. The others are answered."""

    def make(calls: Sequence[Any]) -> list[Result]:
        return [(None, StopIteration("value")) if call == "stops" else (call, None) for call in calls]

    async def main() -> list[Any]:
        return await asyncio.gather(gatherer.ask("stops"), gatherer.ask("next"), return_exceptions=True)

    gatherer = Gatherer(make, 60.0)
    stopped, answer = asyncio.run(asyncio.wait_for(main(), 60))
    assert isinstance(stopped, RuntimeError)
    assert "StopIteration" in str(stopped)
    assert answer == "next"
    gatherer.end()


def test_an_exception_that_cannot_be_copied_reaches_all_callers() -> None:
    def fail(calls: Sequence[Any]) -> list[Result]:
        raise OfThree(1, 2, 3)

    async def main() -> list[Any]:
        return await asyncio.gather(*(gatherer.ask(number) for number in range(3)), return_exceptions=True)

    gatherer = Gatherer(fail, 60.0)
    answers = asyncio.run(asyncio.wait_for(main(), 60))
    assert [str(answer) for answer in answers] == ["1 2 3"] * 3
    gatherer.end()


def test_a_call_that_must_be_repeated_fails_in_time() -> None:
    """Others that arrive meanwhile are answered."""

    def make(calls: Sequence[Any]) -> list[Result | None]:
        return [(call, None) if call == "reads" else None for call in calls]

    async def main() -> None:
        late = gatherer.ask("writes")
        assert await gatherer.ask("reads") == "reads"
        with pytest.raises(TimedOut, match=r"write lock was not acquired within 0\.2 seconds"):
            await late

    gatherer = Gatherer(make, 0.2)
    asyncio.run(asyncio.wait_for(main(), 60))
    gatherer.end()


def test_a_call_that_arrives_in_a_pause_is_made_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_gathered, "SHORTEST_PAUSE", 3600.0)
    monkeypatch.setattr(_gathered, "LONGEST_PAUSE", 3600.0)
    is_writing = [True]

    def make(calls: Sequence[Any]) -> list[Result | None]:
        return [None if call == "writes" and is_writing else (call, None) for call in calls]

    async def main() -> None:
        first = gatherer.ask("writes")
        while not gatherer._is_pausing:
            await asyncio.sleep(0.001)
        is_writing.clear()
        assert await gatherer.ask("reads") == "reads"
        assert await first == "writes"

    gatherer = Gatherer(make, 3600.0)
    asyncio.run(asyncio.wait_for(main(), 60))
    gatherer.end()
