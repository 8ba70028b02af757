"""An exception at any point of a call strands no key.

Ctrl-C, a signal's handler that raises and an exception that another thread sends come between any two bytecodes. So
each call here is interrupted at its first event in the package's own files or in the user's function, at its second,
and so on until it completes; after each, another thread asks for the same key and must be answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import random
import signal
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import pytest
from interrupting import INTERRUPTS, MANY_POINTS, MOST_POINTS, Stop, Tracer, raise_keyboard_interrupt
from scale import SCALE

from flexcache_rs import FlexCache, _core, memoize
from flexcache_rs.disk import Cache
from flexcache_rs.testing import advance, check

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DEADLINE = 20.0
DIRECTORIES: Iterator[Path] = iter(())


def compute(*_: Any) -> str:
    """Stand for the user's function: its events are interrupted as well."""
    value = "val"
    value += "ue"
    return value


async def acompute(*_: Any) -> str:
    value = "val"
    await asyncio.sleep(0)
    value += "ue"
    return value


USERS = {compute.__code__, acompute.__code__}


@pytest.fixture(autouse=True, scope="module")
def _interrupted_coroutines_are_collected() -> Iterator[None]:
    """They were never awaited, of which the collector would tell another test."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()


class Scenario(Protocol):
    """A call that is interrupted, and what another thread asks afterwards."""

    cache: FlexCache[Any, Any]

    def call(self) -> object: ...
    def ask(self) -> object: ...


class GetOrSet:
    def __init__(self) -> None:
        self.cache: FlexCache[Any, Any] = FlexCache()

    def call(self) -> object:
        return self.cache.get_or_set("key", compute, 60, ("tag",))

    ask = call


class Contended(GetOrSet):
    """Waits for another thread, which is interrupted as well."""

    def call(self) -> object:
        begun, go = threading.Event(), threading.Event()

        def slow() -> str:
            begun.set()
            go.wait(DEADLINE)
            return compute()

        def lead() -> None:
            self.cache.get_or_set("key", slow)

        def open_when_somebody_waits() -> None:
            waiter = threading.Event()
            while not (go.is_set() or [1 for _, waits in _core._loads_in_progress(self.cache) if waits]):
                waiter.wait(0.001)
            go.set()

        threads = [threading.Thread(target=lead), threading.Thread(target=open_when_somebody_waits)]
        for thread in threads:
            thread.start()
        try:
            begun.wait(DEADLINE)
            return self.cache.get_or_set("key", compute)
        finally:
            go.set()
            for thread in threads:
                thread.join(DEADLINE)


class AgetOrSet(GetOrSet):
    def call(self) -> object:
        return asyncio.run(self.cache.aget_or_set("key", acompute, 60, ("tag",)))

    def ask(self) -> object:
        return self.cache.get_or_set("key", compute)


class Memoized:
    options: ClassVar[dict[str, Any]] = {"tags": "tag", "jitter": 0.1, "ttl": 60, "condition": bool}

    def __init__(self) -> None:
        self.function: Any = memoize(compute, **self.options)
        self.cache = self.function.cache

    def call(self) -> object:
        return self.function(1)

    ask = call


class Refreshed(Memoized):
    def call(self) -> object:
        return self.function.refresh(1)


class Invalidated(Memoized):
    def call(self) -> object:
        self.function(1)
        self.function.invalidate(1)
        self.function(1)
        return self.function.clear()


class KeptException(Memoized):
    options: ClassVar[dict[str, Any]] = {"cache_exceptions": True, "ttl": 60, "tags": lambda *_: 1}

    def call(self) -> object:
        # The tags are wrong: a TypeError that leaves the load.
        with pytest.raises(TypeError):
            self.function(1)
        return None

    ask = call


class SoftTtl(Memoized):
    """Refreshes in a thread of its own, which is interrupted as well."""

    options: ClassVar[dict[str, Any]] = {"ttl": 10_000, "soft_ttl": 10}

    def __init__(self) -> None:
        super().__init__()
        self.function(1)
        advance(11)

    def call(self) -> object:
        value = self.function(1)
        self.settle()
        return value

    def settle(self) -> None:
        waiter = threading.Event()
        for _ in range(int(DEADLINE * 1000)):
            if not _core._loads_in_progress(self.cache):
                return
            waiter.wait(0.001)
        pytest.fail("a refresh did not end")

    def ask(self) -> object:
        self.settle()
        assert self.function(1) == "value"
        self.settle()
        return self.function.refresh(1)


class AsyncMemoized(Memoized):
    def __init__(self) -> None:
        self.function = memoize(acompute, **self.options)
        self.cache = self.function.cache

    def call(self) -> object:
        return asyncio.run(self.function(1))

    def ask(self) -> object:
        return asyncio.run(self.function(1))


class AsyncRefreshed(AsyncMemoized):
    def call(self) -> object:
        return asyncio.run(self.function.refresh(1))


class AsyncSoftTtl(AsyncMemoized):
    options: ClassVar[dict[str, Any]] = {"ttl": 10_000, "soft_ttl": 10}

    def __init__(self) -> None:
        super().__init__()
        asyncio.run(self.function(1))
        advance(11)

    def call(self) -> object:
        async def main() -> object:
            value = await self.function(1)
            while _core._loads_in_progress(self.cache):
                await asyncio.sleep(0)
            return value

        return asyncio.run(main())


DAY = 86400.0


class OverDirectory(GetOrSet):
    """Another cache asks for the key: a lease that outlived the call would keep it waiting for a day."""

    def __init__(self) -> None:
        self.store = Cache(next(DIRECTORIES))
        self.cache = self.front()

    def front(self) -> FlexCache[Any, Any]:
        return FlexCache(store=self.store, lease=DAY, lease_wait=DAY)

    def ask(self) -> object:
        value = self.front().get_or_set("key", compute)
        self.store.close()
        return value


class AsyncOverDirectory(OverDirectory):
    def call(self) -> object:
        return asyncio.run(self.cache.aget_or_set("key", acompute, 60))

    def ask(self) -> object:
        # A thread gives the lease back. Whoever asks before it has done so waited for the load that failed.
        with contextlib.suppress(Stop):
            return super().ask()
        return super().ask()


SCENARIOS: list[type[Any]] = [
    GetOrSet,
    Contended,
    AgetOrSet,
    Memoized,
    Refreshed,
    Invalidated,
    KeptException,
    SoftTtl,
    AsyncMemoized,
    AsyncRefreshed,
    AsyncSoftTtl,
    OverDirectory,
    AsyncOverDirectory,
]


def assert_answered(scenario: Scenario) -> None:
    """Another thread gets the value of the same key."""
    outcome: list[object] = []

    def ask() -> None:
        outcome.append(scenario.ask())

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(DEADLINE)
    assert not thread.is_alive(), "the key is stranded"
    assert len(outcome) == 1, "asking failed"
    assert not _core._loads_in_progress(scenario.cache)
    check(scenario.cache)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("how", INTERRUPTS)
@pytest.mark.parametrize("make", SCENARIOS)
def test_a_call_that_is_interrupted_anywhere_strands_no_key(
    make: Callable[[], Scenario], how: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys.modules[__name__], "DIRECTORIES", (tmp_path / str(number) for number in itertools.count()))
    # The interrupted refreshes of other threads, and tasks that nobody awaits any more, say so.
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    swallowed = sys.unraisablehook

    def unless_interrupted(raised: Any) -> None:
        # The interrupt may come while a coroutine that nobody awaits any more is closed.
        if raised.exc_type not in (Stop, KeyboardInterrupt):
            swallowed(raised)

    monkeypatch.setattr(sys, "unraisablehook", unless_interrupted)
    # In a run with a tenth of the full counts, each way to interrupt takes other points.
    step = len(INTERRUPTS) if SCALE < 1 else 1
    for at in range(1 + list(INTERRUPTS).index(how) % step, MOST_POINTS, step):
        scenario = make()
        tracer = Tracer(at, INTERRUPTS[how], USERS)
        before = signal.signal(signal.SIGINT, lambda *_: raise_keyboard_interrupt())
        threading.settrace(tracer)
        sys.settrace(tracer)
        try:
            scenario.call()
        except (Stop, KeyboardInterrupt, asyncio.CancelledError, RuntimeError):
            pass
        finally:
            sys.settrace(None)
            threading.settrace(None)  # type: ignore[arg-type]
            signal.signal(signal.SIGINT, before)
        assert_answered(scenario)
        if not tracer.fired:
            assert at > MANY_POINTS, "the user's function alone has as many events"
            return
    pytest.fail("the call never completed")


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there is no timer here")
@pytest.mark.parametrize("make", [GetOrSet, Memoized, Refreshed])
@pytest.mark.filterwarnings("ignore")
def test_a_timer_that_interrupts_at_random_strands_no_key(make: Callable[[], Scenario]) -> None:
    """Also at points that no trace function sees. A loop of asyncio does not survive that by itself."""
    chance = random.Random(7)
    armed = False

    def handler(*_: object) -> None:
        nonlocal armed
        if armed:
            armed = False
            raise Stop

    def call_until_interrupted(scenario: Scenario) -> None:
        nonlocal armed
        armed = True
        signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.0001, 0.003))
        while armed:
            scenario.call()
            scenario.cache.clear()
            # If another thread gets the signal, some versions of Python notice it when this one takes the GIL again.
            time.sleep(0)

    before = signal.signal(signal.SIGALRM, handler)
    try:
        for _ in range(60):
            scenario = make()
            # A function of its own: not every instruction of a loop in a `try` is inside it.
            with contextlib.suppress(Stop):
                call_until_interrupted(scenario)
            assert_answered(scenario)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
