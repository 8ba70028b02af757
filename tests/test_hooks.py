"""Hooks: each runs exactly once for every cause, and cannot damage the cache."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import signal
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from flexcache_rs import FlexCache
from flexcache_rs.testing import advance

if TYPE_CHECKING:
    from collections.abc import Callable

    from specimens import MakeCache


class Closing:
    """A value that counts how often it was closed."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


class Awaiting:
    """A value whose hook is awaitable."""

    def __init__(self) -> None:
        self.closed = 0
        self.thread: str | None = None

    async def aclose(self) -> None:
        await asyncio.sleep(0)
        self.closed += 1
        self.thread = threading.current_thread().name


def evict(cache: Any) -> None:
    cache["other"] = None


def expire(cache: Any) -> None:
    cache.touch("key", 0)
    cache.scan()


def expire_on_reading(cache: Any) -> None:
    cache.touch("key", 0)
    cache.get("key")


def delete(cache: Any) -> None:
    del cache["key"]


def delete_many(cache: Any) -> None:
    cache.delete_many(["key"])


def replace(cache: Any) -> None:
    cache["key"] = None


def replace_by_another_weight(cache: Any) -> None:
    class Two:
        def item_size(self) -> int:
            return 2

    cache["key"] = Two()


def shrink(cache: Any) -> None:
    while "key" in cache:
        cache.resize(max_items=3)
        for other in (object(), object()):
            cache[other] = 1
            # Some policies keep the present entry unless the new one is accessed more often.
            assert [cache.get(other) for _ in range(20)] == [1] * 20
        cache.resize(max_items=1)


WAYS_OUT: list[tuple[Callable[[Any], Any], str]] = [
    (evict, "evicted"),
    (shrink, "evicted"),
    (expire, "expired"),
    (expire_on_reading, "expired"),
    (delete, "deleted"),
    (delete_many, "deleted"),
    (replace, "replaced"),
    (replace_by_another_weight, "replaced"),
    (FlexCache.clear, "cleared"),
    (FlexCache.close, "closed"),
]


@pytest.mark.parametrize("listening", [False, True])
@pytest.mark.parametrize(("leave", "reason"), WAYS_OUT)
def test_a_value_is_closed_once_whatever_the_cause(
    make_cache: MakeCache, policy: str, leave: Any, reason: str, listening: bool
) -> None:
    """The value is closed once, and the listener is called once with the cause."""
    told: list[Any] = []
    options = {"on_evict": lambda *leaver: told.append(leaver)} if listening else {}
    cache, value = make_cache(policy, max_items=1, **options), Closing()
    cache["key"] = value
    leave(cache)
    assert value.closed == 1
    if listening:
        assert told.count(("key", value, reason)) == 1
    cache.close()
    del cache
    gc.collect()
    assert value.closed == 1


@pytest.mark.parametrize("take", [lambda cache: cache.pop("key"), lambda cache: cache.popitem()[1]])
def test_a_value_that_is_taken_out_is_not_closed(make_cache: MakeCache, take: Any) -> None:
    """The value belongs to the caller. The listener is called all the same."""
    told: list[Any] = []
    cache, value = make_cache(on_evict=lambda *leaver: told.append(leaver)), Closing()
    cache["key"] = value
    assert take(cache) is value
    assert (value.closed, told) == (0, [("key", value, "popped")])


def test_a_cache_that_is_collected_closes_its_values() -> None:
    """By reference count or by the collector."""
    counted, in_cycle = Closing(), Closing()
    cache: Any = FlexCache()
    cache["key"] = counted
    del cache
    cache = FlexCache()
    cache["key"], cache["self"] = in_cycle, cache
    del cache
    gc.collect()
    assert (counted.closed, in_cycle.closed) == (1, 1)


def test_a_value_replaced_by_itself_has_not_left(make_cache: MakeCache) -> None:
    """The value is not closed, and the listener is not called."""
    told: list[Any] = []
    cache, value = make_cache(on_evict=lambda *leaver: told.append(leaver)), Closing()
    cache["key"] = value
    cache["key"] = value
    cache.put("key", value, ttl=60)
    assert (value.closed, told) == (0, [])


def test_a_refused_entry_has_not_been_there(make_cache: MakeCache) -> None:
    """A value that was never stored is not closed."""
    cache, value = make_cache(max_bytes=1), Closing()
    cache.put("a", 1)
    with pytest.raises(KeyError):
        cache.set("a", value)
    assert not cache.add("a", value)
    with pytest.raises(TypeError):
        cache.put([], value)
    assert value.closed == 0


def test_the_same_value_under_two_keys(make_cache: MakeCache) -> None:
    """The value is closed once for each key."""
    cache, value = make_cache(), Closing()
    cache["a"] = cache["b"] = value
    cache.clear()
    assert value.closed == 2


def test_every_value_is_closed_once_under_load(make_cache: MakeCache, policy: str) -> None:
    """A thousand values are removed in every way."""
    counts: Counter[str] = Counter()
    cache = make_cache(policy, max_items=37, on_evict=lambda key, value, reason: counts.update([reason]))
    values, draw = [Closing() for _ in range(3000)], random.Random(policy)
    for number, value in enumerate(values):
        cache.put(draw.randrange(83), value, ttl=None if number % 5 else 30)
        if number % 7 == 0:
            cache.delete((number * 31) % 83)
        if number % 401 == 0:
            advance(31)
        if number % 997 == 0:
            cache.clear()
    cache.close()
    assert [value.closed for value in values] == [1] * 3000
    assert sum(counts.values()) == 3000
    assert set(counts) == {"evicted", "expired", "deleted", "replaced", "cleared", "closed"}


def test_hooks_are_methods_of_the_class(make_cache: MakeCache) -> None:
    """Attributes of the value, results of __getattr__, and methods of a class that is the value are not hooks."""

    class Anything:
        def __getattr__(self, name: str) -> Any:
            return lambda: pytest.fail(f"{name} was called")

    own = Closing()
    plain = type("Plain", (), {})()
    plain.close = lambda: pytest.fail("close was called")
    plain.item_size = lambda: 100
    cache = make_cache()
    cache.set_many({"a": Anything(), "b": plain, "c": Closing, "d": own})
    assert cache.bytes == 4
    cache.clear()
    assert own.closed == 1


def test_hooks_that_come_and_go(make_cache: MakeCache) -> None:
    """A class may get or lose its hooks at any time. Its hooks at the removal of an entry count."""

    class Changing:
        pass

    closed: list[Any] = []
    cache = make_cache()
    for _ in range(3):
        cache["a"] = Changing()
        Changing.close = closed.append  # type: ignore[attr-defined]
        del cache["a"]
        Changing.close = lambda self: closed.append(self)  # type: ignore[attr-defined]
        cache["a"] = Changing()
        del cache["a"]
        del Changing.close  # type: ignore[attr-defined]
        cache["a"] = Changing()
        del cache["a"]
    assert len(closed) == 3
    assert cache.stats().hook_errors == 3


def test_hooks_are_inherited_and_may_be_of_any_kind(make_cache: MakeCache) -> None:
    """Hooks may come from base classes, slots, static methods, class methods, and subclasses of built-in types."""
    closed: list[str] = []

    class Slotted:
        __slots__ = ()

        @staticmethod
        def close() -> None:
            closed.append("static")

    class Derived(Slotted):
        pass

    class List(list[int]):
        @classmethod
        def close(cls) -> None:
            closed.append(cls.__name__)

        def item_size(self) -> int:
            return len(self)

    cache = make_cache()
    cache["a"], cache["b"], cache["c"] = Slotted(), Derived(), List([1, 2, 3])
    assert cache.bytes == 5
    cache.clear()
    assert sorted(closed) == ["List", "static", "static"]


@pytest.mark.parametrize("error", [LookupError("lost"), GeneratorExit()])
def test_what_a_hook_raises_stops_nothing(
    make_cache: MakeCache, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    """Each exception is logged and counted, and every other hook runs."""

    class Failing(Closing):
        def close(self) -> None:
            super().close()
            raise error

    def listener(*_: Any) -> None:
        raise error

    cache = make_cache(on_evict=listener, max_items=3)
    values = [Failing() for _ in range(10)]
    for number, value in enumerate(values):
        cache[number] = value
    cache.clear()
    assert [value.closed for value in values] == [1] * 10
    assert cache.stats().hook_errors == len(caplog.records) == 20
    assert {record.levelno for record in caplog.records} == {logging.ERROR}


ENDING = [KeyboardInterrupt, SystemExit]
"""Exceptions that end a program."""


@pytest.mark.parametrize("error", ENDING)
@pytest.mark.parametrize(
    "call",
    [
        lambda cache, _: cache.clear(),
        lambda cache, _: cache.delete_many(range(3)),
        lambda cache, values: cache.set_many(zip(range(3, 6), values[3:], strict=True)),
    ],
    ids=["clear", "delete_many", "set_many"],
)
def test_what_ends_the_program_is_raised_after_the_call(
    make_cache: MakeCache,
    caplog: pytest.LogCaptureFixture,
    call: Callable[[Any, list[Closing]], Any],
    error: type[BaseException],
) -> None:
    """The call is complete, and every other hook has run."""

    class Failing(Closing):
        armed = True

        def close(self) -> None:
            super().close()
            if self.armed:
                raise error(3)

    cache, values = make_cache(max_items=3), [Failing() for _ in range(6)]
    cache.set_many(enumerate(values[:3]))
    with pytest.raises(error, match="3"):
        call(cache, values)
    assert [value.closed for value in values] == [1] * 3 + [0] * 3
    # One is enough to end a program.
    assert (cache.stats().hook_errors, len(caplog.records)) == (3, 2)
    Failing.armed = False


def test_a_hook_that_is_interrupted_by_a_signal(make_cache: MakeCache) -> None:
    class Slow(Closing):
        def close(self) -> None:
            signal.raise_signal(signal.SIGINT)
            super().close()

    cache, value = make_cache(max_items=1), Slow()
    cache["a"] = value
    with pytest.raises(KeyboardInterrupt):
        cache.put("b", 1)
    assert list(cache) == ["b"]


@pytest.mark.parametrize("error", ENDING)
def test_what_would_end_the_program_in_another_thread_is_logged(
    make_cache: MakeCache, caplog: pytest.LogCaptureFixture, error: type[BaseException]
) -> None:
    class Failing(Closing):
        def close(self) -> None:
            raise error

    cache = make_cache()
    cache["a"] = Failing()
    thread = threading.Thread(target=cache.clear)
    thread.start()
    thread.join()
    assert cache.stats().hook_errors == len(caplog.records) == 1


@pytest.mark.parametrize("error", ENDING)
def test_a_log_handler_may_end_the_program(make_cache: MakeCache, error: type[BaseException]) -> None:
    class Failing(Closing):
        def close(self) -> None:
            raise LookupError

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise error(record.name)

    cache, handler = make_cache(), Handler()
    cache["a"] = Failing()
    logger = logging.getLogger("flexcache_rs")
    logger.addHandler(handler)
    try:
        with pytest.raises(error, match="flexcache_rs"):
            cache.clear()
    finally:
        logger.removeHandler(handler)


def test_close_goes_before_aclose(make_cache: MakeCache) -> None:
    """Exactly one of the two runs."""

    class Both(Closing):
        async def aclose(self) -> None:
            pytest.fail("aclose ran")

    cache, value = make_cache(), Both()
    cache["a"] = value
    del cache["a"]
    assert value.closed == 1


def test_without_a_loop_aclose_runs_in_the_background(make_cache: MakeCache) -> None:
    """Without an event loop, aclose() runs in the background, and close() waits for it."""
    values = [Awaiting() for _ in range(5)]
    with make_cache(max_items=2) as cache:
        for number, value in enumerate(values):
            cache[number] = value
    assert [value.closed for value in values] == [1] * 5
    assert {value.thread for value in values} != {threading.current_thread().name}


def test_on_a_loop_aclose_is_scheduled_there(make_cache: MakeCache) -> None:
    """On an event loop, aclose() is scheduled there. Awaiting the cache's own aclose() waits for all of them."""

    async def main() -> list[Awaiting]:
        values = [Awaiting() for _ in range(5)]
        cache = make_cache(max_items=2)
        for number, value in enumerate(values):
            cache[number] = value
        assert [value.closed for value in values] == [0] * 5
        await cache.aclose()
        return values

    values = asyncio.run(main())
    assert [value.closed for value in values] == [1] * 5
    assert {value.thread for value in values} == {threading.current_thread().name}


def test_async_with(make_cache: MakeCache) -> None:
    """Leaving the block empties the cache and waits."""

    async def main() -> Awaiting:
        value = Awaiting()
        async with make_cache() as cache:
            cache["a"] = value
        assert len(cache) == 0
        return value

    assert asyncio.run(main()).closed == 1


def test_an_aclose_that_raises_is_logged(make_cache: MakeCache, caplog: pytest.LogCaptureFixture) -> None:
    """The exception is logged with and without an event loop."""

    class Failing:
        async def aclose(self) -> None:
            raise LookupError("lost")

    async def main() -> None:
        async with make_cache() as cache:
            cache["a"] = Failing()

    asyncio.run(main())
    with make_cache() as cache:
        cache["a"] = Failing()
    assert len(caplog.records) == 2
    assert all("LookupError: lost" in record.getMessage() for record in caplog.records)


def test_aclose_needs_a_loop(make_cache: MakeCache) -> None:
    """Awaiting where nothing runs is asyncio's own error, and the cache is emptied nevertheless."""
    cache = make_cache()
    with pytest.raises(RuntimeError, match="loop"):
        cache.aclose()


def test_a_cache_may_be_used_after_close(make_cache: MakeCache) -> None:
    """After close() the cache is empty and works as before."""
    cache = make_cache()
    cache["a"] = 1
    cache.close()
    cache.close()
    cache["b"] = 2
    assert list(cache) == ["b"]


def test_what_aclose_raises_is_counted(make_cache: MakeCache) -> None:
    """Exceptions of aclose() count like those of close(): with a loop, in the background, and without an awaitable."""

    class Failing:
        async def aclose(self) -> None:
            raise LookupError("lost")

    class NotAsync:
        def aclose(self) -> None:
            pass

    caches: list[Any] = [make_cache(), make_cache()]

    async def main() -> None:
        async with caches[0]:
            caches[0].set_many({"a": Failing(), "b": NotAsync(), "c": Failing()})

    asyncio.run(main())
    with caches[1]:
        caches[1].set_many({"a": Failing(), "b": NotAsync(), "c": Failing()})
    assert [cache.stats().hook_errors for cache in caches] == [3, 3]


def test_hooks_are_called_as_found_on_the_class(make_cache: MakeCache) -> None:
    """An attribute of the instance is no hook, not even where the class has one of the same name."""

    class Shadowed(Closing):
        def item_size(self) -> int:
            return 5

    value: Any = Shadowed()
    value.close = lambda: pytest.fail("the attribute was called")
    value.item_size = 17
    cache = make_cache()
    cache["a"] = value
    assert cache.bytes == 5
    cache.clear()
    assert (value.closed, cache.stats().hook_errors) == (1, 0)


@pytest.mark.parametrize("error", [AttributeError, LookupError])
def test_a_metaclass_is_not_asked(make_cache: MakeCache, error: type[Exception]) -> None:
    """As for special methods, the metaclass does not matter, even if it invents or refuses attributes of classes."""

    class Refusing(type):
        def __getattr__(cls, name: str) -> Any:
            raise error(name)

    class Inventing(type):
        def __getattr__(cls, name: str) -> Any:
            return lambda *_: pytest.fail(f"{name} was called")

    class Refused(metaclass=Refusing):
        pass

    class Invented(metaclass=Inventing):
        pass

    cache = make_cache()
    cache["a"], cache["b"] = Refused(), Invented()
    cache.add("c", Refused())
    assert cache.bytes == 3
    cache.clear()
    assert cache.stats().hook_errors == 0


def test_every_hook_of_a_batch_runs(make_cache: MakeCache) -> None:
    """Every hook runs even if the first one raises or changes the cache."""
    cache = make_cache()

    class Wrecking(Closing):
        def close(self) -> None:
            super().close()
            cache.put(self, 1)
            cache.clear()
            raise LookupError(self.name)

    values = [Wrecking(str(number)) for number in range(50)]
    cache.set_many(enumerate(values))
    cache.clear()
    assert [value.closed for value in values] == [1] * 50
    assert cache.stats().hook_errors == 50
    assert len(cache) == 0


@pytest.mark.parametrize("class_", [FlexCache, type("Derived", (FlexCache,), {})])
def test_an_exception_on_its_way_survives_a_cache(class_: type[FlexCache[Any, Any]]) -> None:
    """A cache is collected while an exception propagates. Its hooks raise and catch other exceptions."""
    closed: list[Any] = []

    class Catching:
        def close(self) -> None:
            closed.append(self)
            try:
                raise LookupError
            except LookupError:
                pass

    def temporary() -> Any:
        cache = class_()
        cache["a"] = Catching()
        return cache

    for call, error in (
        (lambda: int(temporary()), TypeError),
        (lambda: class_().get([temporary()]), TypeError),
        (lambda: class_().put([temporary()], 1), TypeError),
        (lambda: class_()[temporary(), 1], KeyError),
        (lambda: class_(max_items=temporary()), TypeError),
        (lambda: class_().set_many([([], temporary())]), TypeError),
    ):
        with pytest.raises(error):
            call()
    gc.collect()
    assert len(closed) == 6
