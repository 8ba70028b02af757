"""Awaited calls never block the event loop, even while a process is stopped in the middle of a write."""

from __future__ import annotations

import asyncio
import importlib.util
import itertools
import os
import signal
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from scale import may_skip
from waiting import TURNS, stop, turns_while

from flexcache_rs import FlexCache
from flexcache_rs.shared import SharedCache

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

NUMBERS = itertools.count()

STOPPED = """
import ctypes, fcntl, mmap, os, sys
path, where = sys.argv[1:]
if where == "stripe":
    file = open(path, "r+b")
    mapped = mmap.mmap(file.fileno(), 0)
    memory = (ctypes.c_char * len(mapped)).from_buffer(mapped)
    # The mutex of the only stripe: behind the header, the version words and the tag words.
    mutex = ctypes.byref(memory, (512 + 4096 + 4096) * 8)
    libc = ctypes.CDLL(None)
    assert libc.pthread_mutex_trylock(mutex) == 0
else:
    fcntl.flock(os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY), fcntl.LOCK_EX)
print("inside", flush=True)
sys.stdin.read()
if where == "stripe":
    assert libc.pthread_mutex_unlock(mutex) == 0
"""


@pytest.fixture
def cache() -> Iterator[SharedCache]:
    """A cache of one part, for which a call waits an hour."""
    with SharedCache(f"test-loops-{os.getpid()}-{next(NUMBERS)}", max_bytes=1 << 20, lock_timeout=3600) as cache:
        yield cache
        cache._check()
        cache.unlink()


@contextmanager
def stopped_inside(cache: SharedCache, where: str = "stripe") -> Iterator[Callable[[], None]]:
    """Stop a process while it holds the lock of a part of the cache, or of the directory.

    Yields a function that continues it.
    """
    command = [sys.executable, "-c", STOPPED, str(cache.path), where]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"inside\n"
        stop(process.pid)
        stdin = process.stdin

        def go_on() -> None:
            if not stdin.closed:
                stdin.close()
                process.send_signal(signal.SIGCONT)

        try:
            yield go_on
        finally:
            go_on()
            assert process.wait(60) == 0


async def _await(value: str) -> str:
    await asyncio.sleep(0)
    return value


def memoized(cache: Any) -> Any:
    """Return a coroutine function with a name that is the same in every run."""

    async def load(key: str) -> str:
        return await _await(key)

    load.__module__, load.__qualname__ = "tests_of_shared", "load"
    return cache.memoize()(load)


async def _in_block(thing: Any) -> str:
    async with thing:
        return "inside"


CALLS: dict[str, tuple[Callable[[SharedCache], Awaitable[Any]], Any]] = {
    "aput": (lambda cache: cache.aput("k", 1), None),
    "aput-tags": (lambda cache: cache.aput("k", 1, tags=["t"]), None),
    "aadd": (lambda cache: cache.aadd("new", 1), True),
    "adelete": (lambda cache: cache.adelete("k"), True),
    "apop": (lambda cache: cache.apop("k"), 1),
    "apopitem": (lambda cache: cache.apopitem(), ("k", 1)),
    "asetdefault": (lambda cache: cache.asetdefault("new", 2), 2),
    "aupdate": (lambda cache: cache.aupdate({"k": 2}), None),
    "atouch": (lambda cache: cache.atouch("k", 60), True),
    "aincr": (lambda cache: cache.aincr("k"), 2),
    "adecr": (lambda cache: cache.adecr("k"), 0),
    "acompare_and_set": (lambda cache: cache.acompare_and_set("k", 1, 2), True),
    "aset_many": (lambda cache: cache.aset_many({"k": 2}), None),
    "adelete_many": (lambda cache: cache.adelete_many(["k", "other"]), 1),
    "aevict_tag": (lambda cache: cache.aevict_tag("t"), 0),
    "aclear": (lambda cache: cache.aclear(), 1),
    "aget_or_set": (lambda cache: cache.aget_or_set("new", lambda: _await("v")), "v"),
    "memoize": (lambda cache: memoized(cache)("v"), "v"),
    "in-front": (lambda cache: FlexCache(store=cache).aget_or_set("new", lambda: _await("v")), "v"),
    "memoize-in-front": (lambda cache: memoized(FlexCache(store=cache))("v"), "v"),
    "lock": (lambda cache: cache.lock("name").aacquire(), True),
    "lock-block": (lambda cache: _in_block(cache.lock("name")), "inside"),
    "limiter": (lambda cache: cache.limiter("name", 5, per=60).aacquire(), True),
    "limiter-block": (lambda cache: _in_block(cache.limiter("name", 5, per=60)), "inside"),
}


@pytest.mark.parametrize(("call", "result"), CALLS.values(), ids=CALLS)
def test_a_loop_goes_on_while_a_writer_is_stopped(
    cache: SharedCache, call: Callable[[SharedCache], Awaitable[Any]], result: object
) -> None:
    """The call completes as soon as the writer continues."""
    cache["k"] = 1
    with stopped_inside(cache) as go_on:
        turns, returned = turns_while(lambda: call(cache), go_on)
    assert turns >= TURNS, "the loop stood still"
    assert returned == result


@pytest.mark.parametrize("how", ["arelease", "arenew", "end of the block"])
def test_a_loop_goes_on_where_a_lock_is_held(cache: SharedCache, how: str) -> None:
    """The calls after the acquisition write too."""
    lock = cache.lock("name", ttl=3600)
    going_on: list[Callable[[], None]] = []
    with ExitStack() as stack:

        async def call() -> Any:
            if how != "end of the block":
                assert await lock.aacquire()
                going_on.append(stack.enter_context(stopped_inside(cache)))
                return await getattr(lock, how)()
            async with lock:
                going_on.append(stack.enter_context(stopped_inside(cache)))
            return True

        turns, returned = turns_while(call, lambda: going_on[0]())
    assert turns >= TURNS, "the loop stood still"
    assert returned is True
    assert cache.lock("name").acquire(timeout=0) is (how != "arenew")


def test_a_task_that_is_cancelled_acquires_nothing(cache: SharedCache) -> None:
    """It acquires nothing even if the thread that waits for the writer continues. No release is lost."""
    held, limiter = cache.lock("held", ttl=3600), cache.limiter("calls", 1, per=3600)
    assert held.acquire()

    async def cancelled() -> None:
        calls = (cache.lock("name", ttl=3600).aacquire, held.arelease, limiter.aacquire)
        tasks = [asyncio.ensure_future(call()) for call in calls]
        await asyncio.sleep(0.05)
        for task in tasks:
            task.cancel()
        assert all(
            isinstance(end, asyncio.CancelledError) for end in await asyncio.gather(*tasks, return_exceptions=True)
        )

    with stopped_inside(cache) as go_on:
        turns, _ = turns_while(cancelled, go_on)
    assert turns >= TURNS, "the loop stood still"
    assert cache.lock("name").acquire(timeout=0), "nobody would have given it back"
    assert cache.lock("held").acquire(timeout=60), "it was released"
    assert limiter.acquire(timeout=0), "no use was taken"


AFTER_UNLINK: dict[str, Callable[[SharedCache], Awaitable[Any]]] = {
    "aget_or_set": lambda cache: cache.aget_or_set("k", lambda: _await("v")),
    "memoize": lambda cache: memoized(cache)("v"),
    "lock": lambda cache: cache.lock("name").aacquire(),
    "limiter": lambda cache: cache.limiter("name", 5, per=60).aacquire(),
    "aunlink": lambda cache: cache.aunlink(),
}


@pytest.mark.parametrize("call", AFTER_UNLINK.values(), ids=AFTER_UNLINK)
def test_a_loop_goes_on_while_the_directory_is_locked(
    cache: SharedCache, call: Callable[[SharedCache], Awaitable[Any]]
) -> None:
    """The next call after `unlink` creates a new cache. It waits for the stopped process."""
    assert cache.unlink()
    with stopped_inside(cache, "directory") as go_on:
        turns, returned = turns_while(lambda: call(cache), go_on)
    assert turns >= TURNS, "the loop stood still"
    assert returned in ("v", True, False)


def test_of_the_directory_fails_where_a_look_waits(cache: SharedCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test of the test. A lookup before the computation that waited as a `get` does would block the loop."""
    monkeypatch.setattr(SharedCache, "_find", SharedCache.get)
    with pytest.raises(AssertionError, match="the loop stood still"):
        test_a_loop_goes_on_while_the_directory_is_locked(cache, AFTER_UNLINK["aget_or_set"])


def test_a_writer_that_stays_stopped(cache: SharedCache) -> None:
    """After `lock_timeout`, the call raises, as the call that is not awaited does."""

    async def main(impatient: SharedCache) -> None:
        for call in (impatient.lock("name").aacquire, impatient.limiter("name", 5).aacquire):
            with pytest.raises(TimeoutError, match="not free"):
                await call()

    with SharedCache(cache.path, lock_timeout=0.05) as impatient, stopped_inside(cache):
        asyncio.run(main(impatient))


DJANGO: dict[str, tuple[Callable[[Any], Awaitable[Any]], Any]] = {
    "aset": (lambda cache: cache.aset("k", 2), None),
    "aadd": (lambda cache: cache.aadd("new", 2), True),
    "atouch": (lambda cache: cache.atouch("k", 60), True),
    "adelete": (lambda cache: cache.adelete("k"), True),
    "aincr": (lambda cache: cache.aincr("k"), 2),
    "adecr": (lambda cache: cache.adecr("k"), 0),
    "aset_many": (lambda cache: cache.aset_many({"k": 2}), []),
    "adelete_many": (lambda cache: cache.adelete_many(["k"]), None),
    "aget_or_set": (lambda cache: cache.aget_or_set("new", 2), 2),
    "aincr_version": (lambda cache: cache.aincr_version("k"), 2),
    "aclear": (lambda cache: cache.aclear(), None),
}


@pytest.mark.parametrize(("call", "result"), DJANGO.values(), ids=DJANGO)
def test_a_loop_goes_on_under_django(cache: SharedCache, call: Callable[[Any], Awaitable[Any]], result: object) -> None:
    """Each awaited method of the backend lets the loop continue."""
    if may_skip("django", importlib.util.find_spec("django")):
        pytest.skip("Django is not installed")
    from django.conf import settings

    if not settings.configured:
        settings.configure(USE_TZ=False)
    from flexcache_rs.shared import DjangoCache

    backend = DjangoCache(str(cache.path), {"OPTIONS": {"lock_timeout": 3600}})
    backend.set("k", 1)
    with stopped_inside(cache) as go_on:
        turns, returned = turns_while(lambda: call(backend), go_on)
    assert turns >= TURNS, "the loop stood still"
    assert returned == result
