"""Computations in progress beside writes, signals, and one another."""

from __future__ import annotations

import asyncio
import contextvars
import ctypes
import gc
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from slow import Slow, in_loop, waiting
from waiting import MANY, until

from flexcache_rs import CircularLoadError, FlexCache, _core, memoize

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


WRITES: dict[str, Callable[[FlexCache[Any, Any]], object]] = {
    "put": lambda cache: cache.put("key", "new"),
    "put with a ttl": lambda cache: cache.put("key", "new", ttl=60),
    "setitem": lambda cache: cache.__setitem__("key", "new"),
    "set": lambda cache: cache.set("key", "new"),
    "add": lambda cache: cache.add("key", "new"),
    "set_many": lambda cache: cache.set_many({"key": "new"}),
    "delete": lambda cache: cache.delete("key"),
    "delete_many": lambda cache: cache.delete_many(["key"]),
    "pop": lambda cache: cache.pop("key", None),
    "clear": lambda cache: cache.clear(),
    "close": lambda cache: cache.close(),
    "evict_tag": lambda cache: cache.evict_tag("tag"),
}


class Dictionary:
    """A store of the user's."""

    def __init__(self) -> None:
        self.rows: dict[Any, Any] = {}

    def load(self, key: Any) -> Any:
        return self.rows.get(key)

    def save(self, key: Any, value: Any, ttl: float | None, tags: tuple[str, ...]) -> None:
        self.rows[key] = value, ttl, tags

    def remove(self, key: Any) -> bool:
        return self.rows.pop(key, None) is not None

    def clear(self) -> None:
        self.rows.clear()

    def evict_tag(self, tag: str) -> int:
        gone = [key for key, row in self.rows.items() if tag in row[2]]
        for key in gone:
            del self.rows[key]
        return len(gone)


CACHES: dict[str, Callable[[], FlexCache[Any, Any]]] = {
    "memory": FlexCache,
    "shards": lambda: FlexCache(shards=4),
    "store": lambda: FlexCache(store=Dictionary(), coherence=None),
    "listener": lambda: _listened(),
}


def _listened() -> FlexCache[Any, Any]:
    cache: FlexCache[Any, Any] = FlexCache()
    cache.listen(lambda *_: None)
    return cache


def get_or_set(cache: FlexCache[Any, Any], factory: Callable[[], Any]) -> Any:
    return cache.get_or_set("key", factory, tags=("tag",))


def aget_or_set(cache: FlexCache[Any, Any], factory: Callable[[], Any]) -> Any:
    async def main() -> Any:
        async def compute() -> Any:
            return await asyncio.to_thread(factory)

        return await cache.aget_or_set("key", compute, tags=("tag",))

    return asyncio.run(main())


@pytest.mark.parametrize("ask", [get_or_set, aget_or_set])
@pytest.mark.parametrize("which", CACHES)
@pytest.mark.parametrize("how", WRITES)
def test_a_write_comes_after_a_load_that_began_before(ask: Any, which: str, how: str) -> None:
    """Those who wait get the value; the cache does not keep it, and who comes later computes anew."""
    if (which, how) == ("store", "close"):
        pytest.skip("what is in the store stays there")
    cache, old, new = CACHES[which](), Slow("old"), Slow("late")
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(ask, cache, old)
        assert old.begun.wait(MANY)
        WRITES[how](cache)
        written = cache.get("key")
        late = pool.submit(ask, cache, new)
        if written is None:
            assert new.begun.wait(MANY), "it must not join the older load"
        else:
            assert late.result(MANY) == "new"
        old.go.set()
        assert first.result(MANY) == "old"
        assert cache.get("key") == written
        new.go.set()
        late.result(MANY)
    assert cache.get("key") == (written or "late")


def test_what_is_no_write_discards_nothing() -> None:
    """Lookups, touch, an add or set that stored nothing, writes of other keys, evictions and expiry."""
    cache: FlexCache[Any, Any] = FlexCache(max_items=3)
    slow = Slow()
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(cache.get_or_set, "key", slow)
        assert slow.begun.wait(MANY)
        cache["other"] = 1
        assert cache.add("other", 2) is False
        with pytest.raises(KeyError):
            cache.set("other", 2)
        cache.touch("key", 60)
        cache.get("key")
        cache.delete("other")
        cache.evict_tag("some")
        for number in range(10):
            cache.put(number, number, ttl=0 if number % 2 else None)
        cache.scan()
        slow.go.set()
        assert loading.result(MANY) == "old"
    assert cache["key"] == "old"


def test_tags_that_are_computed_from_the_arguments_count() -> None:
    """What was evicted after the load began includes it, and who asks then computes anew."""
    slow = Slow(7)
    cache: FlexCache[Any, Any] = FlexCache()
    function = cache.memoize(slow, tags=lambda number: f"number:{number}")
    with ThreadPoolExecutor(1) as pool:
        for tag, kept in (("number:1", False), ("number:2", True)):
            slow.begun.clear()
            slow.go.clear()
            loading = pool.submit(function, 1)
            assert slow.begun.wait(MANY)
            for other in range(500):
                cache.evict_tag(f"some other tag {other}")
            cache.evict_tag(tag)
            assert bool(_core._loads_in_progress(cache)) is kept
            slow.go.set()
            assert loading.result(MANY) == 7
            assert (function.peek(1) == 7) is kept
    assert not _core._loads_in_progress(cache)


def test_tags_that_are_known_only_when_a_load_lands_count() -> None:
    """An eviction since it began includes it."""
    for tag, kept in (("tag", False), ("other", True)):
        cache: FlexCache[Any, Any] = FlexCache()

        def compute(load: Any, cache: FlexCache[Any, Any] = cache, tag: str = tag) -> str:
            cache.evict_tag(tag)
            load.store(cache, "value", None, ("tag",))
            return "value"

        assert _core._load(cache, "key", compute) == "value"
        assert ("key" in cache) is kept


@pytest.mark.parametrize("how", ["invalidate", "clear", "cache.clear", "delete"])
@pytest.mark.parametrize("shared", [False, True])
def test_an_invalidated_result_does_not_come_back(how: str, shared: bool) -> None:
    slow = Slow()
    function = memoize(slow, cache=FlexCache() if shared else None)
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(function, 1)
        assert slow.begun.wait(MANY)
        {
            "invalidate": lambda: function.invalidate(1),
            "clear": function.clear,
            "cache.clear": function.cache.clear,
            "delete": lambda: function.cache.delete(function.cache_key(1)),
        }[how]()
        slow.go.set()
        assert loading.result(MANY) == "old"
    slow.result = "new"
    assert function(1) == "new"


def test_clear_leaves_the_loads_of_other_functions() -> None:
    cache: FlexCache[Any, Any] = FlexCache()
    slow = Slow()
    one, other = cache.memoize(slow), cache.memoize(lambda number: number)
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(one, 1)
        assert slow.begun.wait(MANY)
        other(1)
        other.clear()
        slow.go.set()
        loading.result(MANY)
    assert (one.peek(1), other.peek(1)) == ("old", None)


def test_a_factory_that_writes_its_own_key_has_the_last_word() -> None:
    cache: FlexCache[str, int] = FlexCache()

    def factory() -> int:
        cache["key"] = 2
        return 1

    assert cache.get_or_set("key", factory) == 1
    assert cache["key"] == 2


# Circles


def test_a_child_task_that_nobody_awaits_waits() -> None:
    """It would be refused if the computation waited for it."""

    async def main() -> None:
        children: list[Any] = []

        @memoize
        async def function(number: int) -> str:
            child = asyncio.create_task(function(number))
            child.add_done_callback(lambda _: None)
            children.append(child)
            await asyncio.sleep(0.01)
            return "value"

        assert await function(1) == "value"
        assert await children[0] == "value"

    in_loop(main)


async def directly(call: Any) -> Any:
    return await call


async def by_task(call: Any) -> Any:
    return await asyncio.create_task(call)


async def by_gather(call: Any) -> Any:
    return (await asyncio.gather(call, asyncio.sleep(0)))[0]


async def by_wait(call: Any) -> Any:
    done, _ = await asyncio.wait([asyncio.create_task(call)])
    return done.pop().result()


async def by_shield(call: Any) -> Any:
    return await asyncio.shield(asyncio.create_task(call))


async def by_wait_for(call: Any) -> Any:
    return await asyncio.wait_for(call, MANY)


async def later(call: Any) -> Any:
    task = asyncio.create_task(call)
    await asyncio.sleep(0.05)
    return await task


async def by_group(call: Any) -> Any:
    try:
        async with asyncio.TaskGroup() as group:  # type: ignore[attr-defined,unused-ignore]
            task = group.create_task(call)
    except BaseException as error:
        raise error.exceptions[0] from None  # type: ignore[attr-defined]
    return task.result()


WAYS = [directly, by_task, by_gather, by_wait, by_shield, by_wait_for, later]
if sys.version_info >= (3, 11):
    WAYS.append(by_group)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("through", [False, True])
def test_a_child_task_that_is_awaited_is_refused(way: Any, through: bool) -> None:
    """However it is awaited, and also through another computation."""
    cache: FlexCache[Any, Any] = FlexCache()

    async def main() -> None:
        async def outer() -> Any:
            return await way(cache.aget_or_set("b" if through else "a", inner))

        async def inner() -> Any:
            return await way(cache.aget_or_set("a", outer))

        with pytest.raises(CircularLoadError, match="'a'"):
            await cache.aget_or_set("a", outer)
        assert await cache.aget_or_set("a", lambda: 1) == 1

    in_loop(main)
    assert not _core._loads_in_progress(cache)


def test_a_load_in_an_empty_context_is_refused() -> None:
    """The thread knows what it computes, whatever its context says."""
    cache: FlexCache[Any, Any] = FlexCache()

    def factory() -> Any:
        return contextvars.Context().run(cache.get_or_set, "a", int)

    with pytest.raises(CircularLoadError):
        cache.get_or_set("a", factory)

    def through() -> Any:
        return contextvars.Context().run(
            cache.get_or_set, "b", lambda: contextvars.Context().run(cache.get_or_set, "a", int)
        )

    with pytest.raises(CircularLoadError):
        cache.get_or_set("a", through)


def test_a_loop_inside_a_computation_is_refused() -> None:
    cache: FlexCache[Any, Any] = FlexCache()
    with pytest.raises(CircularLoadError):
        cache.get_or_set("a", lambda: asyncio.run(cache.aget_or_set("a", int)))  # type: ignore[arg-type]


def test_destructors_and_signal_handlers_are_refused() -> None:
    cache: FlexCache[Any, Any] = FlexCache()
    told: list[BaseException] = []

    def ask(*_: Any) -> None:
        try:
            cache.get_or_set("a", int)
        except CircularLoadError as error:
            told.append(error)

    class Last:
        __del__ = ask

    def factory() -> int:
        Last()
        gc.collect()
        before = signal.signal(signal.SIGINT, ask)
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            signal.signal(signal.SIGINT, before)
        return 1

    assert cache.get_or_set("a", factory) == 1
    assert len(told) == 2


def test_a_load_of_a_handler_is_not_kept_up_by_what_it_interrupts() -> None:
    """A thread waits, and the handler of a signal computes what the other one asks for: nobody waits in a circle."""
    cache: FlexCache[Any, Any] = FlexCache()
    begun = threading.Event()

    def handler_factory() -> str:
        begun.set()
        until(lambda: ("inner", 1) in _core._loads_in_progress(cache))
        return "inner"

    def outer() -> Any:
        until(lambda: ("outer", 1) in _core._loads_in_progress(cache))
        assert main.ident is not None
        signal.pthread_kill(main.ident, signal.SIGINT)
        assert begun.wait(MANY)
        return cache.get_or_set("inner", lambda: pytest.fail("it is being computed"))

    main = threading.main_thread()
    before = signal.signal(signal.SIGINT, lambda *_: cache.get_or_set("inner", handler_factory))
    try:
        with ThreadPoolExecutor(1) as pool:
            leading = pool.submit(cache.get_or_set, "outer", outer)
            until(lambda: bool(_core._loads_in_progress(cache)))
            assert cache.get_or_set("outer", str) == "inner"
            assert leading.result(MANY) == "inner"
    finally:
        signal.signal(signal.SIGINT, before)


# Threads that are interrupted


@pytest.fixture
def ctrl_c_interrupts() -> Iterator[None]:
    """A shell starts what runs in its background with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c_interrupts")
def test_ctrl_c_interrupts_a_thread_that_waits() -> None:
    cache: FlexCache[Any, Any] = FlexCache()
    slow = Slow()
    main = threading.main_thread()
    assert threading.current_thread() is main
    with ThreadPoolExecutor(2) as pool:
        loading = pool.submit(cache.get_or_set, "key", slow)
        assert slow.begun.wait(MANY)

        def interrupt() -> None:
            until(lambda: waiting(cache) == 1)
            assert main.ident is not None
            signal.pthread_kill(main.ident, signal.SIGINT)

        interrupting = pool.submit(interrupt)
        with pytest.raises(KeyboardInterrupt):
            cache.get_or_set("key", slow)
        interrupting.result(MANY)
        assert waiting(cache) == 0
        slow.go.set()
        assert loading.result(MANY) == "old"


def test_an_exception_that_another_thread_sends_reaches_a_waiter() -> None:
    cache: FlexCache[Any, Any] = FlexCache()
    slow = Slow()
    outcome: list[Any] = []

    def wait() -> None:
        try:
            cache.get_or_set("key", slow)
        except TimeoutError as error:
            outcome.append(error)

    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(cache.get_or_set, "key", slow)
        assert slow.begun.wait(MANY)
        thread = threading.Thread(target=wait)
        thread.start()
        until(lambda: waiting(cache) == 1)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(TimeoutError))
        thread.join(MANY)
        assert [type(error) for error in outcome] == [TimeoutError]
        slow.go.set()
        loading.result(MANY)


# Coroutines where there is nobody to await them


def test_a_coroutine_is_not_kept() -> None:
    """It can be awaited only once, by one caller."""
    calls = 0

    async def load(number: int) -> int:
        nonlocal calls
        calls += 1
        return number

    @memoize
    def wrapped(number: int) -> Any:
        return load(number)

    async def main() -> None:
        assert [await wrapped(1), await wrapped(1)] == [1, 1]

    in_loop(main)
    assert (calls, len(wrapped.cache)) == (2, 0)
    cache: FlexCache[Any, Any] = FlexCache()
    with pytest.raises(TypeError, match=r"factory must not be a coroutine function.*aget_or_set\(\) takes"):
        cache.get_or_set("key", lambda: load(1))
    assert "key" not in cache


def test_a_factory_that_cannot_be_called() -> None:
    """It is refused before a computation begins, which others might wait for."""
    cache: FlexCache[str, int] = FlexCache()
    wrong: Any = 3
    with pytest.raises(TypeError, match="factory must be callable"):
        cache.get_or_set("key", wrong)

    async def ask() -> None:
        with pytest.raises(TypeError, match="factory must be callable"):
            await cache.aget_or_set("key", wrong)

    asyncio.run(ask())


def test_a_result_that_is_not_shared_is_that_of_the_task_that_computed_it() -> None:
    """The task does not compute again for ever; each other one computes once for itself."""
    cache: FlexCache[str, int] = FlexCache()
    computed = 0

    async def compute(load: Any) -> int:
        nonlocal computed
        computed += 1
        assert computed <= 4, "computed again"
        await asyncio.sleep(0)
        load.do_not_share()
        return computed

    async def fails(load: Any) -> int:
        load.do_not_share()
        raise LookupError

    async def load(how: Any) -> int:
        return await _core._load_in_task(cache, "key", how)

    async def main() -> None:
        assert await load(compute) == 1
        assert sorted(await asyncio.gather(*(load(compute) for _ in range(3)))) == [2, 3, 4]
        with pytest.raises(LookupError):
            await load(fails)

    asyncio.run(asyncio.wait_for(main(), MANY))
    assert _core._loads_in_progress(cache) == []
