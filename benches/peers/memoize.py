"""Memoized functions: the time of a hit, and the number of computations for many concurrent callers of one result."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from threading import Barrier
from time import perf_counter_ns as clock
from typing import Any

from .figures import LOOP_ALONE, MUCH_LOST, Figure, Run, Target, anywhere, figure, int_keys, str_keys
from .measure import Case, Keys, Loop, Order, Spread, check_free_threading, interleave, over_calls, over_nothing

LRU_CACHE, OURS, MEMOIZE = "functools.lru_cache", "flexcache_rs.lru_cache", "flexcache_rs.memoize"
GET, GET_OR_SET = "FlexCache.get", "FlexCache.get_or_set"
ASYNC_LRU = "async-lru"
CALLERS = 50


@dataclass(frozen=True)
class Decorator:
    """A way to memoize a function, with at most `capacity` results."""

    name: str
    module: str
    wrap: Callable[[Any, Callable[..., Any], int], Callable[..., Any]]

    def decorate(self, function: Callable[..., Any], capacity: int) -> Callable[..., Any]:
        """Return the memoized function. Raises ImportError if the package is missing."""
        check_free_threading(self.module)
        return self.wrap(import_module(self.module), function, capacity)


def _cashews(module: Any, function: Callable[..., Any], capacity: int) -> Callable[..., Any]:
    cache = module.Cache()
    cache.setup("mem://", size=capacity)
    decorated: Callable[..., Any] = cache(ttl="1h")(function)
    return decorated


SYNC = (
    Decorator(LRU_CACHE, "functools", lambda m, f, n: m.lru_cache(maxsize=n)(f)),
    Decorator(OURS, "flexcache_rs", lambda m, f, n: m.lru_cache(maxsize=n)(f)),
    Decorator(MEMOIZE, "flexcache_rs", lambda m, f, n: m.memoize(max_items=n)(f)),
    Decorator("cachetools.cached", "cachetools", lambda m, f, n: m.cached(m.LRUCache(n))(f)),
    Decorator("cachebox.cached", "cachebox", lambda m, f, n: m.cached(m.LRUCache(n))(f)),
    Decorator("moka_py.cached", "moka_py", lambda m, f, n: m.cached(maxsize=n, policy="lru")(f)),
)
AWAITED = (
    Decorator(ASYNC_LRU, "async_lru", lambda m, f, n: m.alru_cache(maxsize=n)(f)),
    Decorator(MEMOIZE, "flexcache_rs", lambda m, f, n: m.memoize(max_items=n)(f)),
    Decorator("cachebox.cached", "cachebox", lambda m, f, n: m.cached(m.LRUCache(n))(f)),
    Decorator("moka_py.cached", "moka_py", lambda m, f, n: m.cached(maxsize=n, policy="lru")(f)),
    Decorator("aiocache.cached", "aiocache", lambda m, f, _: m.cached()(f)),
    Decorator("cashews", "cashews", _cashews),
)


def over_two(target: Callable[[Hashable, str], object], keys: Keys) -> int:
    """Call with two positional arguments."""
    other = "other"
    start = clock()
    for key in keys:
        target(key, other)
    return clock() - start


def over_keyword(target: Callable[..., object], keys: Keys) -> int:
    """Call with two positional arguments and one keyword argument."""
    other = "other"
    start = clock()
    for key in keys:
        target(key, other, third=other)
    return clock() - start


def over_factories(target: Callable[[Hashable, Callable[[], object]], object], keys: Keys) -> int:
    """Call with a key and a factory, like `get_or_set`."""
    factory = dict
    start = clock()
    for key in keys:
        target(key, factory)
    return clock() - start


async def _awaiting(target: Callable[[Hashable], Any], keys: Keys) -> int:
    start = clock()
    for key in keys:
        await target(key)
    return clock() - start


def over_awaits(target: tuple[asyncio.AbstractEventLoop, Callable[[Hashable], Any]], keys: Keys) -> int:
    """Await a call with each key, within one task."""
    loop, function = target
    return loop.run_until_complete(_awaiting(function, keys))


def plain(first: object, second: object = None, *, third: object = None) -> object:
    """The function to memoize."""
    return first, second, third


async def coroutine(first: object) -> object:
    """The coroutine function to memoize."""
    return (first,)


def compare(
    run: Run, result: Figure, condition: str, decorators: Sequence[Decorator], loop: Loop, keys: Keys, operations: int
) -> None:
    """Measure hits of every installed decorator."""
    run.say(f"{result.title}: {condition}")
    order: Order = anywhere(keys, operations)
    events = asyncio.new_event_loop() if loop is over_awaits else None
    cases = [] if events else [Case(LOOP_ALONE, over_nothing, None, order)]
    for decorator in decorators:
        result.enter(decorator.name)
        try:
            function = decorator.decorate(coroutine if events else plain, 2 * len(keys))
            target: Any = (events, function) if events else function
            loop(target, keys)
        except Exception as error:  # noqa: BLE001 - whatever a peer raises, the others are measured
            run.leave_out(result, decorator.name, error)
            continue
        cases.append(Case(decorator.name, loop, target, order))
    result.conditions[condition], lost = interleave(cases, run.settings.rounds, run.random)
    if lost > MUCH_LOST:
        result.remarks.append(f"Other programs had the core for {lost:.0%} of the time: expect noise ({condition}).")
    if events:
        events.close()


@figure("memoized")
def memoized(run: Run) -> Figure:
    """A memoized function's hit."""
    result = Figure(
        "memoized call, hit",
        "A function with 1,000 stored results, which are requested at random. The first argument is the key, and the "
        "others "
        "are constant.",
        reference=LRU_CACHE,
    )
    loops: dict[str, Loop] = {
        "1 int": over_calls,
        "1 str": over_calls,
        "2 positional": over_two,
        "2 + 1 keyword": over_keyword,
    }
    for condition, loop in loops.items():
        keys: Keys = str_keys(1_000) if condition == "1 str" else int_keys(1_000)
        compare(run, result, condition, SYNC, loop, keys, run.settings.operations)
        for contestant in (OURS, MEMOIZE):
            if condition != "1 str":
                text = f"{contestant} hit, {condition}, × `{LRU_CACHE}`"
                result.targets.append(Target(text, condition, 0.7, times=LRU_CACHE, contestant=contestant))
    return result


@figure("awaited")
def awaited(run: Run) -> Figure:
    """Awaiting a memoized coroutine's hit."""
    result = Figure(
        "memoized coroutine, awaited, hit",
        "A coroutine function of one int with 1,000 stored results, which one task awaits at random.",
        reference=ASYNC_LRU,
    )
    condition = "1 int"
    compare(run, result, condition, AWAITED, over_awaits, int_keys(1_000), run.settings.operations // 5)
    text = f"{MEMOIZE} awaited, hit, × {ASYNC_LRU}"
    result.targets.append(Target(text, condition, 0.5, times=ASYNC_LRU, contestant=MEMOIZE))
    return result


@figure("get-or-set")
def get_or_set(run: Run) -> Figure:
    """`get_or_set` of present keys."""
    import flexcache_rs

    result = Figure("get_or_set, hit", "Compared with `get`, with n = 1,000 and str keys.", reference=GET)
    keys = str_keys(1_000)
    cache: flexcache_rs.FlexCache[Hashable, object] = flexcache_rs.FlexCache(max_items=len(keys))
    for key in keys:
        cache[key] = key
    order = anywhere(keys, run.settings.operations)
    condition = "n = 1,000"
    run.say(f"{result.title}: {condition}")
    cases = [
        Case(GET, over_calls, cache.get, order),
        Case(GET_OR_SET, over_factories, cache.get_or_set, order),
    ]
    for case in cases:
        result.enter(case.name)
    result.conditions[condition], _ = interleave(cases, run.settings.rounds, run.random)
    text = "`get_or_set` hit, × `get`"
    result.targets.append(Target(text, condition, 1.3, times=GET, contestant=GET_OR_SET))
    return result


def _by_threads(decorator: Decorator) -> int:
    calls: list[object] = []
    together = Barrier(CALLERS)

    def slow(first: object) -> object:
        calls.append(first)
        time.sleep(0.05)
        return first

    function = decorator.decorate(slow, 100)

    def call() -> None:
        together.wait()
        function(1)

    with ThreadPoolExecutor(CALLERS) as pool:
        for one in [pool.submit(call) for _ in range(CALLERS)]:
            one.result()
    return len(calls)


def _by_tasks(decorator: Decorator) -> int:
    calls: list[object] = []

    async def slow(first: object) -> object:
        calls.append(first)
        await asyncio.sleep(0.05)
        return first

    async def main() -> None:
        function = decorator.decorate(slow, 100)
        await asyncio.gather(*(function(1) for _ in range(CALLERS)))

    asyncio.run(main())
    return len(calls)


@figure("cold")
def cold(run: Run) -> Figure:
    """The number of calls of a function when many callers miss at once."""
    result = Figure(
        "computations that 50 cold callers cause",
        f"{CALLERS} threads, or {CALLERS} tasks, call a memoized function that takes 50 ms at the same time. They use "
        "the same new argument. One computation is enough.",
        unit="calls",
        reference=None,
    )
    ways: list[tuple[str, Sequence[Decorator], Callable[[Decorator], int]]] = [
        ("threads", SYNC, _by_threads),
        ("tasks", AWAITED, _by_tasks),
    ]
    for condition, decorators, count in ways:
        run.say(f"{result.title}: {condition}")
        result.conditions[condition] = {}
        for decorator in decorators:
            result.enter(decorator.name)
            try:
                result.conditions[condition][decorator.name] = Spread.of([float(count(decorator))])
            except Exception as error:  # noqa: BLE001 - whatever a peer raises, the others are measured
                run.leave_out(result, decorator.name, error)
        text = f"computations of {CALLERS} {condition}"
        result.targets.append(Target(text, condition, 1, times=None, contestant=MEMOIZE))
    return result
