"""Old results of memoized functions. One process refreshes them in the background, and they replace errors."""

from __future__ import annotations

import asyncio
import multiprocessing
import threading
from typing import TYPE_CHECKING, Any

import pytest
from news import hear
from waiting import until

from flexcache_rs import memoize
from flexcache_rs.remote import RemoteCache

if TYPE_CHECKING:
    from collections.abc import Callable

    from own_server import Server

Make = "Callable[..., Any]"

FORK = multiprocessing.get_context("fork")

STALENESS = 0.3
"""Seconds."""


class Source:
    """A function to memoize, which returns how often it was called, or fails."""

    def __init__(self) -> None:
        self.calls, self.fails = 0, False

    def __call__(self, number: int) -> int:
        self.calls += 1
        if self.fails:
            raise KeyError("the source")
        return self.calls

    async def awaited(self, number: int) -> int:
        return self(number)


def memoized(cache: Any, source: Source, how: str = "sync", **options: Any) -> Callable[[int], int]:
    """Return a memoized function that is called without `await`."""
    if how == "sync":
        function: Callable[[int], int] = cache.memoize(name="source", **options)(source)
        return function
    function = cache.memoize(name="source", **options)(source.awaited)
    return lambda number: asyncio.run(awaiting(function, number))


def negated(number: int) -> int:
    return -number


def test_memoize_without_arguments(make: Make) -> None:
    """The decorator works without parentheses, as that of a FlexCache does."""
    function = make().memoize(negated)
    assert (function(5), function.peek(5)) == (-5, -5)


def known(cache: Any, function: Callable[[int], int]) -> int:
    """Return the result of a call. It and the start of its key were read after the announcements of their writes."""
    result = 0
    hear(cache)

    def are_known() -> bool:
        nonlocal result
        result = function(1)
        last = cache._front.store.last
        return sum(last.find(place) is not None for place in last._cache) == 2

    until(are_known)
    return result


async def awaiting(function: Any, number: int) -> int:
    result: int = await function(number)
    return result


def ask(path: str, barrier: Any, computed: Any, goes_on: Any, results: Any, how: str) -> None:
    """Call a memoized function with an old result, while one process refreshes it."""
    import redis

    cache = RemoteCache(redis.Redis(unix_socket_path=path), "test", timeout=5.0)

    def compute(number: int) -> str:
        computed.put(number)
        goes_on.wait(60)
        return "new"

    async def acompute(number: int) -> str:
        computed.put(number)
        while not goes_on.is_set():
            await asyncio.sleep(0.01)
        return "new"

    async def use() -> None:
        function = cache.memoize(name="old", ttl=600, soft_ttl=0.001)(acompute)
        barrier.wait(60)
        results.put([await function(1) for _ in range(20)])
        while await function(1) != "new":
            await asyncio.sleep(0.01)

    if how == "async":
        asyncio.run(use())
    else:
        function = cache.memoize(name="old", ttl=600, soft_ttl=0.001)(compute)
        barrier.wait(60)
        results.put([function(1) for _ in range(20)])
        until(lambda: function(1) == "new")
    results.put("done")
    cache.close()


def test_a_soft_ttl_that_is_not_shorter_than_the_ttl_is_refused(make: Make) -> None:
    with pytest.raises(ValueError, match=r"^soft_ttl=30 has no effect with ttl=30: "):
        make().memoize(name="soft", ttl=30, soft_ttl=30)
    with pytest.raises(ValueError, match=r"^soft_ttl=30 has no effect with default_ttl=30"):
        make(default_ttl=30).memoize(name="soft", soft_ttl=30)


@pytest.mark.parametrize("how", ["sync", "async"])
def test_one_process_refreshes_an_old_result(make: Make, server: Server, how: str) -> None:
    """During the refresh, every process gets the old result at once."""
    assert make().memoize(name="old", ttl=600, soft_ttl=0.001)(lambda _: "old")(1) == "old"
    barrier, goes_on, computed, results = FORK.Barrier(3), FORK.Event(), FORK.Queue(), FORK.Queue()
    arguments = (server.path, barrier, computed, goes_on, results, how)
    processes = [FORK.Process(target=ask, args=arguments) for _ in range(3)]
    for process in processes:
        process.start()
    try:
        assert [results.get(timeout=60) for _ in processes] == [["old"] * 20] * 3
        computed.get(timeout=60)
        assert computed.empty()
    finally:
        goes_on.set()
    # All of them get the new one.
    assert [results.get(timeout=60) for _ in processes] == ["done"] * 3
    for process in processes:
        process.join(60)


@pytest.mark.parametrize("how", ["sync", "async"])
def test_an_old_result_replaces_an_error_while_the_server_is_gone(make: Make, server: Server, how: str) -> None:
    source = Source()
    cache = make(max_staleness=STALENESS)
    function = memoized(cache, source, how, ttl=0.001, stale_if_error=600)
    assert function(1) == 1
    source.fails = True
    assert known(cache, function) == 1
    server.kill()
    assert function(1) == 1
    # Neither is it good while the server cannot be asked, nor is it forgotten.
    source.fails = False
    assert function(1) == source.calls
    source.fails = True
    assert function(1) == source.calls - 1


def test_nothing_old_is_returned_once_the_server_is_back(make: Make, server: Server) -> None:
    source, cache = Source(), make(max_staleness=STALENESS)
    function = memoized(cache, source, ttl=600, stale_if_error=600)
    assert known(cache, function) == 1
    source.fails = True
    server.kill()
    until(lambda: not cache.stats().is_live)
    assert [function(1), function(1)] == [1, 1]
    server.start()
    until(lambda: cache.stats().is_live)
    # What it knew before counts no more, whether or not it was asked for meanwhile.
    server.kill()
    until(lambda: not cache.stats().is_live)
    assert raises(function)
    server.start()
    until(lambda: cache.stats().is_live)
    assert raises(function)


def test_an_old_result_is_returned_within_its_bound(make: Make, server: Server) -> None:
    source, cache = Source(), make(max_staleness=STALENESS)
    function = memoized(cache, source, ttl=0.2, stale_if_error=1)
    assert known(cache, function) >= 1
    source.fails = True
    server.kill()
    until(lambda: raises(function))


def raises(function: Callable[[int], Any]) -> bool:
    try:
        function(1)
    except KeyError:
        return True
    return False


@pytest.mark.parametrize("write", ["invalidate", "function.clear", "clear", "evict_tag"])
def test_a_result_that_was_removed_replaces_no_error(make: Make, server: Server, write: str) -> None:
    source, options = Source(), {"ttl": 600, "stale_if_error": 600, "tags": "tag"}
    cache, other = make(max_staleness=STALENESS), make(max_staleness=STALENESS)
    function, theirs = memoized(cache, source, **options), memoized(other, source, **options)
    assert known(cache, function) == 1
    if write == "invalidate":
        assert theirs.invalidate(1)  # type: ignore[attr-defined]
    elif write == "function.clear":
        theirs.clear()  # type: ignore[attr-defined]
    elif write == "clear":
        other.clear()
    else:
        other.evict_tag("tag")
    # Nothing has been read since.
    hear(cache)
    source.fails = True
    server.kill()
    until(lambda: not cache.stats().is_live)
    assert raises(function)


@pytest.mark.parametrize("is_removed", [False, True])
def test_a_result_that_could_not_be_stored(make: Make, server: Server, is_removed: bool) -> None:
    """It replaces an error, unless another process removed the result while it was computed from older data."""
    cache, other = make(max_staleness=STALENESS), make(max_staleness=STALENESS)
    options: dict[str, Any] = {"ttl": 600, "stale_if_error": 600}
    theirs = memoized(other, Source(), **options)
    source = Source()

    def compute(number: int) -> int:
        if not source.fails:
            if is_removed:
                theirs.invalidate(number)  # type: ignore[attr-defined]
            hear(cache)
            server.kill()
            until(lambda: not cache.stats().is_live)
        return source(number)

    function = cache.memoize(name="source", **options)(compute)
    # The function's nonce is known after this.
    source.fails = True
    assert raises(function)
    hear(cache)
    assert raises(function)
    source.fails = False
    assert function(1) == source.calls
    source.fails = True
    assert raises(function) == is_removed


def test_results_of_another_kind_replace_no_error(make: Make, server: Server) -> None:
    """Results of functions without the option do not replace errors, and neither do exceptions."""
    cache = make(max_staleness=STALENESS)
    plain, soft = Source(), Source()
    functions = [memoized(cache, plain, ttl=600), cache.memoize(name="soft", ttl=600, soft_ttl=300)(soft)]
    failing = Source()
    failing.fails = True
    kept = cache.memoize(name="kept", ttl=600, stale_if_error=600, cache_exceptions=True)(failing)
    assert [function(1) for function in functions for _ in range(2)] == [1] * 4
    assert raises(kept)
    assert raises(kept)
    assert failing.calls == 1
    plain.fails = soft.fails = True
    server.kill()
    until(lambda: not cache.stats().is_live)
    assert all(map(raises, functions))
    failing.fails = False
    assert kept(1) == 2


def test_who_computes_gets_nothing_old(make: Make, server: Server) -> None:
    """A computation gets no old value, even where reads would."""
    cache = make(max_staleness=STALENESS, on_error="stale")
    source = Source()
    function = memoized(cache, source, ttl=600)
    assert [function(1), function(1), cache.get_or_set("key", lambda: "old"), cache.get("key")] == [1, 1, "old", "old"]
    server.kill()
    until(lambda: not cache.stats().is_live)
    assert cache.get("key") == "old"
    assert cache.get_or_set("key", lambda: "new") == "new"
    assert asyncio.run(cache.aget_or_set("key", lambda: "newer")) == "newer"
    assert function(1) == 2


def test_a_refresh_is_not_repeated_by_who_has_not_heard_of_it(make: Make) -> None:
    """The announcement of a result may arrive after the end of the lease under which it was computed."""
    one, other = make(max_staleness=30), make(max_staleness=30)
    here, there = Source(), Source()
    function, theirs = memoized(one, here, ttl=600, soft_ttl=1), memoized(other, there, ttl=600, soft_ttl=1)
    assert [function(1), theirs(1)] == [1, 1]
    key = theirs.cache_key(1)  # type: ignore[attr-defined]
    until(lambda: theirs(1) == 1 and other._front._get_from_memory(key, None) is not None)
    remembered = other._front._get_from_memory(key, None)
    until(lambda: not remembered.fresh)
    # Nothing is heard any more, and copies are believed.
    other._listener._invalidate = lambda *_: None
    assert function.refresh(1) == 2  # type: ignore[attr-defined]
    until(lambda: theirs(1) == 2)
    assert there.calls == 0


def test_memoize_says_what_to_use_with_a_cache_on_a_server(make: Make) -> None:
    with pytest.raises(TypeError, match=r"cache must be a FlexCache or None, not RemoteCache; use its own memoize\(\)"):
        memoize(cache=make())  # type: ignore[call-overload]


def test_threads_get_the_old_result_while_one_refreshes(make: Make) -> None:
    begun, goes_on, calls = threading.Event(), threading.Event(), []

    def compute(number: int) -> int:
        calls.append(number)
        if len(calls) > 1:
            begun.set()
            goes_on.wait(60)
        return len(calls)

    function = make().memoize(name="slow", ttl=600, soft_ttl=0.001)(compute)
    try:
        assert function(1) == 1
        until(lambda: function(1) == 1 and begun.is_set())
        assert [function(1) for _ in range(20)] == [1] * 20
        assert len(calls) == 2
    finally:
        goes_on.set()
    until(lambda: function(1) >= 2)
