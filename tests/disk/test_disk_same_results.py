"""The same calls by this library and by python-diskcache have the same results, rows and files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from drivers import NEEDS_THEIRS, THEIRS, Driver, contents
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from operations import (
    FOR_EVERY_OBJECT,
    STORABLE,
    Files,
    Large,
    calls,
    ends,
    flags,
    json_values,
    operations,
    prefixes,
    prepared,
    sides,
    values,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from typing_extensions import Self

pytestmark = [pytest.mark.skipif(not THEIRS, reason=NEEDS_THEIRS), pytest.mark.usefixtures("forgotten")]

# To make an example smaller takes a thousand more; the operation that differs is named anyway.
quick = settings(
    max_examples=int(os.environ.get("FLEXCACHE_EXAMPLES", "30")),
    # A number that is asked for looks for what has not been seen yet.
    derandomize="FLEXCACHE_EXAMPLES" not in os.environ,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)


class Comparison:
    """Two runs of the same operations: one by python-diskcache alone, and one by both libraries in turns."""

    def __init__(self, theirs: Driver, drivers: dict[str, Driver]) -> None:
        self.reference, self.drivers = theirs, drivers
        # python-diskcache loses files, or leaves them behind, where a transaction is undone.
        self.may_undo = True
        # With the policy "none" python-diskcache says 0, whatever it has removed as expired.
        self.counts_culled = True
        self.now = 1_600_000_000.0
        self.inside: list[Driver] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        while self.inside:
            self.leave(True)

    def tick(self, seconds: float) -> None:
        self.now += seconds
        for driver in {self.reference, *self.drivers.values()}:
            driver.do("set_clock", self.now)

    def enter(self, driver: Driver) -> None:
        if not self.inside:
            self.inside.append(driver)
            self.reference.do("enter", "reference")
            driver.do("enter", "cache")

    def leave(self, fails: bool) -> None:
        if self.inside:
            driver = self.inside.pop()
            fails = fails and self.may_undo
            self.reference.do("leave", "reference", fails)
            driver.do("leave", "cache", fails)

    def step(self, who: str, operation: tuple[Any, ...]) -> None:
        self.tick(0.001)
        driver = self.inside[-1] if self.inside else self.drivers[who]
        match operation:
            case ("tick", seconds):
                self.tick(seconds)
            case ("enter",):
                self.enter(driver)
            case ("leave", fails):
                self.leave(fails)
            case _:
                self.compare(driver, operation)

    def compare(self, driver: Driver, operation: tuple[Any, ...]) -> None:
        everyone = operation[0] in FOR_EVERY_OBJECT
        if everyone and self.inside:
            return
        expected = self.reference.ask("call", "reference", *prepared(operation))
        found = driver.ask("call", "cache", *prepared(operation))
        if operation[0] == "cull" and not self.counts_culled:
            return
        assert found[:2] == expected[:2], f"{driver.library}: {operation}\n{found}\n{expected}"
        if everyone:
            for other in self.drivers.values():
                if other is not driver:
                    other.ask("call", "cache", *prepared(operation))


who = st.sampled_from(["ours", "theirs"])
alone = st.just("ours")
openings = st.fixed_dictionaries(
    {
        "disk_min_file_size": st.sampled_from([64, 64, 2**15]),
        "eviction_policy": st.sampled_from(
            ["least-recently-stored", "least-recently-used", "least-frequently-used", "none"]
        ),
    },
    optional={
        "statistics": st.just(1),
        "tag_index": st.just(1),
        "cull_limit": st.sampled_from([0, 2]),
        "size_limit": st.just(0),
        "disk_pickle_protocol": st.sampled_from([2, 4]),
    },
)


def run(
    ours: Driver,
    theirs: Driver,
    fresh: Callable[[], Path],
    kind: str,
    options: dict[str, Any],
    steps: list[tuple[str, tuple[Any, ...]]],
) -> None:
    """Compare the results, then rows and files. Then both libraries check the directories."""
    theirs.do("forget")
    ours.do("forget")
    drivers = {"ours": ours, "theirs": theirs}
    used = {name: drivers[name] for name, _ in steps} or {"ours": ours}
    apart, together = fresh(), fresh()
    with Comparison(theirs, used) as comparison:
        comparison.tick(0)
        theirs.make("reference", kind, str(apart), **options)
        for driver in used.values():
            driver.make("cache", kind, str(together), **options)
        comparison.counts_culled = options.get("eviction_policy") != "none"
        comparison.may_undo = options.get("disk_min_file_size", 0) > 64 and not any(
            isinstance(value, Files | Large) for _, operation in steps if len(operation) == 3 for value in operation[1]
        )
        for name, operation in steps:
            comparison.step(name, operation)
    expected, found = contents(apart), contents(together)
    assert found == expected
    for driver in (ours, theirs):
        driver.make("checked", kind, str(together), **options)
        assert driver.call("checked", "check") == "[]", driver.library


def steps_of(names: st.SearchStrategy[str], operations: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(st.tuples(names, operations), min_size=5, max_size=60)


def on_some(
    names: st.SearchStrategy[str], keys: list[Any], values: st.SearchStrategy[Any], common: bool
) -> st.SearchStrategy[Any]:
    """Generate operations on a few keys, so that operations share keys."""
    some = st.lists(st.sampled_from(keys), min_size=2, max_size=5)
    return some.flatmap(lambda few: steps_of(names, operations(st.sampled_from(few), values, common)))


@pytest.mark.parametrize("names", [alone, who], ids=["apart", "together"])
def test_caches_do_the_same(ours: Driver, theirs: Driver, fresh: Any, names: Any) -> None:
    """Each call returns or raises the same and leaves the same row, whichever library made the call before."""
    some_steps = on_some(names, STORABLE, values, common=False)

    @quick
    @given(openings, some_steps)
    def test(options: dict[str, Any], steps: Any) -> None:
        run(ours, theirs, fresh, "Cache", options, steps)

    test()


@pytest.mark.parametrize("names", [alone, who], ids=["apart", "together"])
def test_fanout_caches_do_the_same(ours: Driver, theirs: Driver, fresh: Any, names: Any) -> None:
    """Each key is in the same shard, too."""
    some_steps = on_some(names, STORABLE, values, common=True)
    some = openings.map(lambda options: {"shards": 3, "timeout": 10, **options})

    @settings(quick, max_examples=quick.max_examples // 2)
    @given(some, some_steps)
    def test(options: dict[str, Any], steps: Any) -> None:
        run(ours, theirs, fresh, "FanoutCache", options, steps)

    test()


@pytest.mark.parametrize("names", [alone, who], ids=["apart", "together"])
def test_json_caches_do_the_same(ours: Driver, theirs: Driver, fresh: Any, names: Any) -> None:
    """Keys and values are the same compressed bytes."""
    some = st.sampled_from([{"disk": "@JSONDisk"}, {"disk": "@JSONDisk", "disk_compress_level": 6}])
    some_steps = on_some(names, ["a", "b", 1, 1.0, None, True, [1, 2], "\ud800"], json_values, common=True)

    @settings(quick, max_examples=quick.max_examples // 2)
    @given(some, some_steps)
    def test(options: dict[str, Any], steps: Any) -> None:
        run(ours, theirs, fresh, "Cache", options, steps)

    test()


numbers = st.integers(-3, 5)
simple = st.sampled_from(["a", "b", 1, 2, None, (1, "x"), b"b" * 100, Large("t", 40_000)])
deque_operations = st.one_of(
    calls("append", simple),
    calls("appendleft", simple),
    calls("extend", st.lists(simple, max_size=4)),
    calls("extendleft", st.lists(simple, max_size=4)),
    *(calls(name) for name in ("pop", "popleft", "peek", "peekleft", "reverse", "__iter__", "__reversed__", "__len__")),
    calls("__getitem__", numbers),
    calls("__setitem__", numbers, simple),
    calls("__delitem__", numbers),
    calls("remove", simple),
    calls("count", simple),
    calls("rotate", numbers | st.just("one")),
    calls("__eq__", st.lists(simple, max_size=3)),
    calls("__lt__", st.lists(st.integers(), max_size=3)),
    calls("__contains__", simple),
    calls("index", simple),
    calls("clear"),
)
index_keys = st.sampled_from(["a", "b", "c", 1, 1.0, None, (1, 2), b"a"])
index_operations = st.one_of(
    calls("__setitem__", index_keys, simple),
    calls("__getitem__", index_keys),
    calls("__delitem__", index_keys),
    calls("setdefault", index_keys, simple),
    calls("pop", index_keys),
    calls("pop", index_keys, default=simple),
    calls("popitem", last=flags),
    calls("peekitem", last=flags),
    calls("push", simple, prefix=prefixes, side=ends),
    calls("pull", prefix=prefixes, side=sides),
    calls("update", st.dictionaries(st.sampled_from("abc"), simple)),
    calls("__contains__", index_keys),
    calls("__eq__", st.dictionaries(st.sampled_from("abc"), simple)),
    *(calls(name) for name in ("__iter__", "__reversed__", "__len__", "clear")),
    calls("get", index_keys),
)


@pytest.mark.parametrize(("kind", "operations"), [("Deque", deque_operations), ("Index", index_operations)])
@pytest.mark.parametrize("names", [alone, who], ids=["apart", "together"])
def test_collections_do_the_same(
    ours: Driver, theirs: Driver, fresh: Any, kind: str, operations: Any, names: Any
) -> None:
    """`Deque` and `Index` behave the same."""

    @settings(quick, max_examples=quick.max_examples // 2)
    @given(st.sampled_from([None, 3]), steps_of(names, operations))
    def test(maxlen: int | None, steps: Any) -> None:
        drivers = {"ours": ours, "theirs": theirs}
        apart, together = fresh(), fresh()
        for driver in drivers.values():
            driver.do("forget")
        options = {"maxlen": maxlen} if kind == "Deque" else {}
        used = {name: drivers[name] for name, _ in steps} or {"ours": ours}
        with Comparison(theirs, used) as comparison:
            for driver, name, directory in [
                (theirs, "reference", apart),
                *((driver, "cache", together) for driver in used.values()),
            ]:
                comparison.tick(0)
                args = ((), str(directory)) if kind == "Deque" else (str(directory),)
                driver.make(name, kind, *args, **options)
            for name, operation in steps:
                comparison.step(name, operation)
        assert contents(together) == contents(apart)

    test()
