"""Computations in progress beside writes, exceptions, cancellation, signals, and one another."""

from __future__ import annotations

import asyncio
import builtins
import contextvars
import ctypes
import gc
import signal
import sys
import threading
import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from flexcache_rs import CircularLoadError, FlexCache, LoadCancelled, _core, memoize

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from typing_extensions import Self

Group: Any = getattr(builtins, "ExceptionGroup", None)
"""None before Python 3.11."""

MANY = 60.0
"""Seconds after which something that was waited for does not happen any more."""


def until(condition: Callable[[], bool]) -> None:
    waiter = threading.Event()
    for _ in range(60_000):
        if condition():
            return
        waiter.wait(0.001)
    pytest.fail("what was waited for did not happen")


def waiting(cache: FlexCache[Any, Any]) -> int:
    return sum(waits for _, waits in _core._loads_in_progress(cache))


class Slow:
    """A factory that waits until it is let go."""

    def __init__(self, result: Any = "old") -> None:
        self.result = result
        self.begun, self.go = threading.Event(), threading.Event()
        self.calls = 0

    def __call__(self, *_: Any) -> Any:
        self.calls += 1
        self.begun.set()
        assert self.go.wait(MANY)
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result


def _delitem(cache: FlexCache[Any, Any]) -> None:
    with suppress(KeyError):
        del cache["key"]


WRITES: dict[str, Callable[[FlexCache[Any, Any]], object]] = {
    "put": lambda cache: cache.put("key", "new"),
    "put with a ttl": lambda cache: cache.put("key", "new", ttl=60),
    "setitem": lambda cache: cache.__setitem__("key", "new"),
    "set": lambda cache: cache.set("key", "new"),
    "add": lambda cache: cache.add("key", "new"),
    "set_many": lambda cache: cache.set_many({"key": "new"}),
    "delete": lambda cache: cache.delete("key"),
    "delitem": _delitem,
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


# Exceptions


class FailureError(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code


class NeedsMoreError(Exception):
    def __new__(cls, code: int, extra: str) -> Self:
        return super().__new__(cls)

    def __init__(self, code: int, extra: str) -> None:
        super().__init__(code)
        self.extra = extra


def failures() -> list[Exception]:
    noted = ValueError("noted")
    if sys.version_info >= (3, 11):
        noted.add_note("a note")
    caused = FailureError(7)
    caused.__cause__ = KeyError("cause")
    all_ = [noted, caused, FileNotFoundError(2, "gone", "name"), UnicodeDecodeError("utf-8", b"a", 0, 1, "why")]
    if Group is not None:
        all_.append(Group("group", [ValueError(1), Group("inner", [KeyError("k")])]))
    return all_


def parts(error: BaseException) -> tuple[Any, ...]:
    return (
        type(error),
        str(error),
        error.args[:1],
        repr(error.__cause__),
        getattr(error, "__notes__", None),
        vars(error),
    )


@pytest.mark.parametrize("error", failures(), ids=lambda error: type(error).__name__)
def test_each_waiter_gets_an_exception_of_its_own(error: Exception) -> None:
    cache: FlexCache[Any, Any] = FlexCache()
    slow = Slow(error)
    with ThreadPoolExecutor(5) as pool:
        loads = [pool.submit(cache.get_or_set, "key", slow) for _ in range(5)]
        until(lambda: waiting(cache) == 4)
        slow.go.set()
        raised = [one.exception(MANY) for one in loads]
    assert len({id(one) for one in raised}) == 5
    for one in raised:
        assert one is not None
        assert parts(one) == parts(error)
        assert one.__cause__ is error.__cause__


def test_an_exception_that_cannot_be_copied_is_shared() -> None:
    error = NeedsMoreError(1, "extra")
    cache: FlexCache[Any, Any] = FlexCache()
    slow = Slow(error)
    with ThreadPoolExecutor(2) as pool:
        loads = [pool.submit(cache.get_or_set, "key", slow) for _ in range(2)]
        until(lambda: waiting(cache) == 1)
        slow.go.set()
        assert all(one.exception(MANY) is error for one in loads)


class Big:
    pass


def test_a_kept_exception_keeps_nothing_alive() -> None:
    """Neither frames nor context: not its own, not its causes', not those of what it groups."""
    alive: weakref.WeakSet[Big] = weakref.WeakSet()

    def fail(inner: Exception) -> None:
        big = Big()
        alive.add(big)
        raise inner

    @memoize(cache_exceptions=True)
    def function(number: int) -> None:
        try:
            fail(KeyError("cause"))
        except KeyError as cause:
            if number and Group is not None:
                try:
                    fail(ValueError("inner"))
                except ValueError as inner:
                    raise Group("group", [inner]) from cause
            raise ValueError(number) from cause

    def request(number: int) -> None:
        big = Big()
        alive.add(big)
        with pytest.raises((ValueError, Exception)):
            function(number)

    for number in (0, 1):
        for _ in range(3):
            request(number)
    gc.collect()
    assert not list(alive)
    assert len(function.cache) == 2
    try:
        raise KeyError("another request")
    except KeyError:
        with pytest.raises(ValueError, match="0"):
            function(0)
    with pytest.raises(ValueError, match="0") as caught:
        function(0)
    assert caught.value.__context__ is caught.value.__cause__ or caught.value.__context__ is None


def test_nothing_of_a_load_that_failed_stays() -> None:
    """Its exception refers to frames, and these to the load."""
    alive: weakref.WeakSet[Big] = weakref.WeakSet()

    @memoize
    def function(number: int) -> None:
        big = Big()
        alive.add(big)
        raise ValueError(number)

    for number in range(3):
        with pytest.raises(ValueError, match=str(number)):
            function(number)
    gc.collect()
    assert not list(alive)


# Cancellation


def in_loop(main: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    return asyncio.run(asyncio.wait_for(main(), MANY))


@pytest.mark.parametrize("how", ["memoize", "aget_or_set"])
def test_a_computation_that_raises_cancelled_error_ends(how: str) -> None:
    """It is called once; all who wait get an error that a TaskGroup does not swallow."""
    calls = 0

    async def main() -> None:
        cache: FlexCache[Any, Any] = FlexCache()

        async def compute(_: int = 0) -> Any:
            nonlocal calls
            calls += 1
            gone = asyncio.get_running_loop().create_future()
            gone.cancel()
            await asyncio.sleep(0)
            return await gone

        function = cache.memoize(compute)
        asked = [cache.aget_or_set("key", compute) if how == "aget_or_set" else function(1) for _ in range(3)]
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [LoadCancelled] * 3
        assert all(isinstance(outcome.__cause__, asyncio.CancelledError) for outcome in outcomes)  # type: ignore[union-attr]
        assert not _core._loads_in_progress(cache)

    in_loop(main)
    assert calls == 1


def test_a_thread_that_waits_gets_load_cancelled() -> None:
    cache: FlexCache[Any, Any] = FlexCache()
    slow = Slow(asyncio.CancelledError())
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(cache.get_or_set, "key", slow)
        assert slow.begun.wait(MANY)
        second = pool.submit(cache.get_or_set, "key", slow)
        until(lambda: waiting(cache) == 1)
        slow.go.set()
        assert isinstance(second.exception(MANY), LoadCancelled)
        assert isinstance(first.exception(MANY), asyncio.CancelledError)


def test_the_end_of_a_loop_is_no_error_of_a_computation() -> None:
    """A thread that waits for a task computes itself when the task's loop ends."""
    cache: FlexCache[Any, Any] = FlexCache()
    begun = threading.Event()

    async def never() -> None:
        begun.set()
        await asyncio.Event().wait()

    async def main() -> None:
        task = asyncio.create_task(cache.aget_or_set("key", never))
        while waiting(cache) != 2:
            await asyncio.sleep(0.001)
        task.cancel()

    with ThreadPoolExecutor(1) as pool:
        loop = asyncio.new_event_loop()
        second: Any = None

        async def both() -> None:
            nonlocal second
            running = asyncio.create_task(main())
            await asyncio.to_thread(begun.wait, MANY)
            second = pool.submit(cache.get_or_set, "key", lambda: "second")
            await running

        asyncio.run(both())
        loop.close()
        if sys.version_info >= (3, 11):
            assert second.result(MANY) == "second"
        else:  # A task does not tell whether it was cancelled from outside.
            assert isinstance(second.exception(MANY), LoadCancelled)


def test_a_task_that_is_dropped_lands_its_load() -> None:
    """Its loop is neither closed nor running any more."""
    cache: FlexCache[Any, Any] = FlexCache()

    async def never() -> None:
        await asyncio.Event().wait()

    loop = asyncio.new_event_loop()
    # The collector may close them before the loop, which then fails to stop listening to them.
    sockets = loop._ssock, loop._csock  # type: ignore[attr-defined]
    task = loop.create_task(cache.aget_or_set("key", never))
    loop.run_until_complete(asyncio.sleep(0))
    loop.run_until_complete(asyncio.sleep(0))
    assert waiting(cache) == 1
    for one in asyncio.all_tasks(loop):
        one._log_destroy_pending = False  # type: ignore[attr-defined]
    with warnings.catch_warnings():
        # A loop says so where nobody has closed it.
        warnings.simplefilter("ignore", ResourceWarning)
        del loop, task, one
        gc.collect()
    del sockets
    assert not _core._loads_in_progress(cache)
    assert cache.get_or_set("key", lambda: 1) == 1


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
