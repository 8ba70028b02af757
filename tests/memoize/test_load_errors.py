"""Exceptions of computations in progress: each waiter has its own, and none keeps anything alive."""

from __future__ import annotations

import asyncio
import builtins
import gc
import subprocess
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from slow import Slow, waiting
from waiting import MANY, until

from flexcache_rs import FlexCache, memoize

if TYPE_CHECKING:
    from typing_extensions import Self

Group: Any = getattr(builtins, "ExceptionGroup", None)
"""None before Python 3.11."""


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


class SlottedError(Exception):
    """Has an attribute that is not in its dict."""

    __slots__ = ("__where",)

    def __init__(self, where: str) -> None:
        super().__init__("slotted")
        self.__where = where

    @property
    def where(self) -> str:
        return self.__where


def failures() -> list[Exception]:
    noted = ValueError("noted")
    if sys.version_info >= (3, 11):
        noted.add_note("a note")
    caused = FailureError(7)
    caused.__cause__ = KeyError("cause")
    all_ = [noted, caused, FileNotFoundError(2, "gone", "name"), UnicodeDecodeError("utf-8", b"a", 0, 1, "why")]
    all_.append(SlottedError("here"))
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
        getattr(error, "where", None),
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


class Ending(BaseException):
    """What is raised to end more than a computation, such as pytest's `Skipped`."""


@pytest.mark.parametrize("error", [Ending, GeneratorExit])
@pytest.mark.parametrize("how", ["aget_or_set", "memoize"])
def test_a_computation_that_raises_what_is_no_exception_is_not_repeated(error: type[BaseException], how: str) -> None:
    """It has no task of its caller's own, where it would come out."""
    cache: FlexCache[Any, Any] = FlexCache()
    begun = 0

    async def compute() -> None:
        nonlocal begun
        begun += 1
        assert begun == 1, "it began anew"
        await asyncio.sleep(0)
        raise error("why")

    load: Any = cache.memoize(compute) if how == "memoize" else lambda: cache.aget_or_set("key", compute)

    async def main() -> list[Any]:
        return await asyncio.gather(load(), load(), return_exceptions=True)

    assert [(type(raised), str(raised)) for raised in asyncio.run(main())] == [(error, "why")] * 2
    assert cache.get_or_set("key", lambda: 1) == 1


INTERRUPTED = """
import sys
from flexcache_rs import FlexCache, memoize
def stop():
    raise KeyboardInterrupt
cache = FlexCache()
calls = lambda: cache.get_or_set("key", stop), memoize(lambda: stop()), memoize(condition=bool)(lambda: stop())
imported = set(sys.modules)
for call in calls:
    try:
        call()
    except KeyboardInterrupt:
        pass
print(sorted(set(sys.modules) - imported))
"""


def test_an_interrupted_computation_imports_nothing() -> None:
    """Another interrupt in the middle of the import would leave the module locked, and every importer waiting."""
    ended = subprocess.run([sys.executable, "-c", INTERRUPTED], check=True, capture_output=True, text=True)
    assert ended.stdout.strip() == "[]"
