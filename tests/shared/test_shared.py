"""SharedCache: what each call does, in one process and in several."""

from __future__ import annotations

import asyncio
import doctest
import math
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from own_names import own_names

from flexcache_rs import FlexCache, shared
from flexcache_rs._shared_locks import SharedLimiter, SharedLock
from flexcache_rs.shared import SharedCache

if TYPE_CHECKING:
    from pathlib import Path


def run(cache: SharedCache, program: str) -> str:
    """Return the output of a program in another process, which has the cache open."""
    start = f"import pickle, os, sys; cache = pickle.loads({pickle.dumps(cache)!r})\n"
    return subprocess.run(
        [sys.executable, "-c", start + program], capture_output=True, text=True, check=True, timeout=60
    ).stdout


def test_the_mapping(cache: SharedCache) -> None:
    """The calls behave as those of a dict, but each read returns a new object."""
    cache.update({"a": 1}, b=2)
    cache["c"] = 3
    assert sorted(cache) == sorted(cache.keys()) == ["a", "b", "c"]
    assert sorted(cache.items()) == [("a", 1), ("b", 2), ("c", 3)]
    assert sorted(cache.values()) == [1, 2, 3]
    assert (len(cache), "a" in cache, "z" in cache) == (3, True, False)
    assert (cache.setdefault("a", 9), cache.setdefault("d", 9)) == (1, 9)
    del cache["a"]
    for call in (lambda: cache["a"], lambda: cache.__delitem__("a"), lambda: cache.pop("a"), lambda: cache.ttl("a")):
        with pytest.raises(KeyError) as raised:
            call()
        assert raised.value.args == ("a",)
    assert (cache.pop("b"), cache.pop("b", "gone"), cache.get("b"), cache.get("b", 0)) == (2, "gone", None, 0)
    assert cache.clear() == 2
    assert list(cache) == []


def test_set_replaces_and_add_does_not(cache: SharedCache) -> None:
    """`set` and `add` behave as docs/meanings.md says."""
    assert cache.set("k", 1) is None
    assert cache.set("k", 2) is None
    assert (cache.add("k", 3), cache["k"]) == (False, 2)
    assert cache.delete("k") is True
    assert cache.delete("k") is False
    assert (cache.add("k", 3), cache["k"]) == (True, 3)


def test_time_to_live(cache: SharedCache) -> None:
    """The time to live comes from the call or from the default, and can be changed."""
    cache.put("forever", 1)
    cache.put("long", 1, ttl=1000)
    assert cache.ttl("forever") is None
    left = cache.ttl("long")
    assert left is not None
    assert 990 < left <= 1000
    assert cache.touch("long", ttl=float("inf"))
    assert cache.ttl("long") is None
    assert not cache.touch("absent", ttl=5)
    with SharedCache(None, max_bytes=1 << 20, default_ttl=60) as other:
        other["key"] = 1
        # As in the other caches, and unlike in `put`, None is not the default.
        assert (other.touch("key"), other.ttl("key")) == (True, None)
    cache.put("past", 1, ttl=0)
    assert "past" not in cache
    cache.put("short", 1, ttl=0.02)
    deadline = time.monotonic() + 30
    while "short" in cache:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    for bad in (math.nan, "soon"):
        with pytest.raises((ValueError, TypeError), match="ttl"):
            cache.put("k", 1, ttl=bad)  # type: ignore[arg-type]
    with SharedCache(str(cache.path), default_ttl=50) as other:
        other["k"] = 1
        other.put("ever", 1, ttl=float("inf"))
        assert (other.ttl("k") or 0) > 40
        assert other.ttl("ever") is None


def test_counting(cache: SharedCache) -> None:
    """Counting is atomic, and works for ints only."""
    assert (cache.incr("n"), cache.incr("n", 10), cache.decr("n", 5), cache["n"]) == (1, 11, 6, 6)
    assert cache.incr("m", 1, initial=100) == 101
    assert cache.decr("least", 2**63) == -(2**63)
    for wrong, error in (("1", TypeError), (True, TypeError), (-(2**63), ValueError), (2**63 + 1, ValueError)):
        with pytest.raises(error, match=f"by must be .*{wrong}"):
            cache.decr("m", wrong)  # type: ignore[arg-type]
    cache["n"] = 7
    assert cache.incr("n") == 8
    cache["text"] = "7"
    with pytest.raises(TypeError, match="not a 64-bit int"):
        cache.incr("text")
    cache["most"] = 2**63 - 1
    with pytest.raises(OverflowError):
        cache.incr("most")
    assert cache["most"] == 2**63 - 1


def test_compare_and_set(cache: SharedCache) -> None:
    """Values are compared by Python's equality, which may itself write to the cache."""
    cache["k"] = [1, 2]
    assert not cache.compare_and_set("k", [1], "other")
    assert cache.compare_and_set("k", [1, 2], "new")
    assert not cache.compare_and_set("absent", None, 1)
    cache.put("tagged", 1, tags=("a", "b"))
    assert cache.compare_and_set("tagged", 1, [2])
    assert (cache.evict_tag("b"), "tagged" in cache) == (1, False)

    class Meddler:
        def __eq__(self, other: object) -> bool:
            if other == "new":
                cache["k"] = "newer"
                return True
            return False

        __hash__ = None  # type: ignore[assignment]

    assert not cache.compare_and_set("k", Meddler(), "mine")
    assert cache["k"] == "newer"


def test_bad_options() -> None:
    """The error names the invalid option."""
    for options, match in [
        ({"max_bytes": 10}, "max_bytes is 10"),
        ({"max_bytes": 2**62}, "max_bytes"),
        ({"max_bytes": -1}, "max_bytes must be"),
        ({"max_item": 1 << 30, "max_bytes": 1 << 20}, "max_item"),
        ({"lock_timeout": -1}, "lock_timeout"),
    ]:
        with pytest.raises(ValueError, match=match):
            SharedCache("test-bad", **options)  # type: ignore[arg-type]
    for options, match in [
        ({"max_bytes": "1"}, "max_bytes"),
        ({"max_bytes": 1.5}, "max_bytes"),
        ({"max_item": True}, "max_item"),
    ]:
        with pytest.raises(TypeError, match=match):
            SharedCache("test-bad", **options)  # type: ignore[arg-type]
    for name in ("", "ü", ".x", "a b"):
        with pytest.raises(ValueError, match="cannot name a cache"):
            SharedCache(name)
    with pytest.raises(TypeError, match="name must be"):
        SharedCache(5)  # type: ignore[arg-type]


def test_a_file_that_is_no_cache(tmp_path: Path) -> None:
    """The file stays unchanged."""
    tmp_path.chmod(0o700)
    path = tmp_path / "notes.txt"
    path.write_text("precious" * 1000)
    path.chmod(0o600)
    with pytest.raises(OSError, match="not a cache"):
        SharedCache(path)
    assert path.read_text() == "precious" * 1000
    path.chmod(0o644)
    with pytest.raises(PermissionError, match="644"):
        SharedCache(path)


def test_processes_share_it(cache: SharedCache) -> None:
    """Processes share a cache through its pickle, and after a fork."""
    cache["here"] = {"a": [1, 2]}
    assert run(cache, "print(cache['here']); cache['there'] = os.getpid()").strip() == "{'a': [1, 2]}"
    assert isinstance(cache["there"], int)
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        assert sorted(pool.map(cache.incr, ["n"] * 20)) == list(range(1, 21))
    child = os.fork()
    if child == 0:
        os._exit(0 if cache.incr("n") == 21 else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert cache["n"] == 21


def test_threads_share_it(cache: SharedCache) -> None:
    """Threads share a cache while other threads fork."""
    stop = threading.Event()

    def work(number: int) -> None:
        while not stop.is_set():
            cache.incr("n")
            cache[number] = ["value"] * 10
            assert cache.get(number) in (None, ["value"] * 10)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(10):
            child = os.fork()
            if child == 0:
                cache["child"] = 1
                os._exit(0 if cache["child"] == 1 else 1)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert cache.stats().resets == 0


def test_a_process_that_is_killed_harms_nobody(cache: SharedCache) -> None:
    """Processes are killed at any moment. The test continues until one was killed while it held the lock."""
    cache["kept"] = 1
    loop = "put('x', value); delete('x'); incr('n'); incr('n')"
    names = "put, delete, incr, value = cache.put, cache.delete, cache.incr, 'v' * 20_000"
    program = f"{names}\nprint('ready', flush=True)\nwhile True: {loop}"
    start = f"import pickle; cache = pickle.loads({pickle.dumps(cache)!r})\n"
    kills = 0
    while kills < 5 or (cache.stats().resets == 0 and kills < 200):
        kills += 1
        with subprocess.Popen([sys.executable, "-c", start + program], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            process.kill()
        cache["next"] = 2
        assert cache["next"] == 2
        cache._check()
    assert cache.stats().resets > 0, f"none of {kills} kills met a writer that had the lock"


def test_close_and_unlink(cache: SharedCache) -> None:
    """Calls of a closed cache raise. After `unlink`, the next call starts an empty cache."""
    other = SharedCache(str(cache.path))
    other["k"] = 1
    other.close()
    other.close()
    for call in (lambda: other.get("k"), lambda: other.put("k", 1), lambda: len(other), other.unlink, other.stats):
        with pytest.raises(ValueError, match="closed"):
            call()
    assert "closed" in repr(other)
    assert cache["k"] == 1
    assert cache.unlink() is True
    assert cache.unlink() is False
    assert cache.get("k") is None
    cache["k"] = 2
    assert cache.path.exists()


def test_resize(cache: SharedCache) -> None:
    """All processes use the resized cache."""
    cache["k"] = 1
    with SharedCache(cache.path, max_bytes=2 << 20) as same:
        assert same.stats().bytes == cache.stats().bytes
    with SharedCache(cache.path, max_bytes=2 << 20, resize=True) as larger:
        assert larger.get("k") is None
        larger["k"] = 2
        assert cache["k"] == 2
        assert cache.stats().bytes == larger.stats().bytes > 1 << 20


def test_tags(cache: SharedCache) -> None:
    """An eviction by tag removes all entries with the tag, for all processes."""
    cache.put("a", 1, tags=("x", "y"))
    cache.set("b", 2, tags=["y"])
    assert cache.add("c", 3, tags={"z"})
    cache.set_many({"d": 4, "e": 5}, tags=iter(["w"]))
    assert run(cache, "print(cache.evict_tag('y'))").strip() == "2"
    assert cache.get_many("abcde") == {"c": 3, "d": 4, "e": 5}
    assert (cache.evict_tag("y"), cache.evict_tag("w")) == (0, 2)
    cache.put("a", 1, tags=("y",))
    assert cache["a"] == 1, "what is stored later has the tag as it is now"
    for tags, error in (("y", TypeError), ((1,), TypeError), (("\ud800",), ValueError), (5, TypeError)):
        with pytest.raises(error):
            cache.put("k", 1, tags=tags)  # type: ignore[arg-type]
    assert "k" not in cache


def test_a_copy_in_front_ends_with_the_tag(cache: SharedCache) -> None:
    """The copy ends even if the entry was evicted from the shared memory long before."""
    front: FlexCache[str, int] = FlexCache(store=cache)
    front.put("a", 1, tags=("t",))
    assert front["a"] == 1
    run(cache, "cache.evict_tag('t')")
    assert front.get("a") is None


def test_computed_once(cache: SharedCache) -> None:
    """Threads and processes share one computation. Its result is not stored if the key was written in the meantime."""
    calls: list[int] = []
    begun, go = threading.Event(), threading.Event()

    def compute() -> str:
        calls.append(1)
        begun.set()
        assert go.wait(60)
        return "value"

    results: list[str] = []
    threads = [threading.Thread(target=lambda: results.append(cache.get_or_set("k", compute))) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert begun.wait(60)
    program = "print('asks', flush=True); print(cache.get_or_set('k', lambda: 'another'))"
    start = f"import pickle; cache = pickle.loads({pickle.dumps(cache)!r})\n"
    with subprocess.Popen([sys.executable, "-c", start + program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "asks\n"
        go.set()
        assert process.stdout.read() == "value\n"
    for thread in threads:
        thread.join()
    assert (results, calls) == (["value"] * 4, [1])
    assert cache.get_or_set("during", lambda: cache.put("during", "newer") or "older") == "older"
    assert cache["during"] == "newer"
    with pytest.raises(ZeroDivisionError):
        cache.get_or_set("bad", lambda: 1 // 0)
    assert "bad" not in cache
    with pytest.warns(RuntimeWarning, match="larger|too large|bytes"):
        assert len(cache.get_or_set("large", lambda: b"x" * (1 << 20))) == 1 << 20
    assert "large" not in cache


def test_memoized_once(cache: SharedCache) -> None:
    """Another process has the result under the function's name."""
    square = cache.memoize(name="square")(lambda n: n * n)
    assert square(5) == 25
    assert run(cache, "print(cache.memoize(name='square')(lambda n: 'anew')(5))").strip() == "25"


def negated(number: int) -> int:
    return -number


def test_memoize_without_arguments(cache: SharedCache) -> None:
    """The decorator works without parentheses, as that of a FlexCache does."""
    function = cache.memoize(negated)
    assert (function(5), function.peek(5)) == (-5, -5)
    with pytest.raises(TypeError, match="takes a function, not str"):
        cache.memoize("name")  # type: ignore[call-overload]


def test_a_soft_ttl_that_is_not_shorter_than_the_ttl_is_refused(cache: SharedCache) -> None:
    with pytest.raises(ValueError, match=r"^soft_ttl=30 has no effect with ttl=30: "):
        cache.memoize(name="soft", ttl=30, soft_ttl=30)
    other = SharedCache(cache.path, default_ttl=30)
    with other, pytest.raises(ValueError, match="soft_ttl=30 has no effect with default_ttl=30"):
        other.memoize(name="soft", soft_ttl=30)


def test_locks(cache: SharedCache) -> None:
    """One holder at a time has the lock, also in other processes. The lock of a dead holder is free."""
    lock = cache.lock("job")
    with lock:
        assert run(cache, "print(cache.lock('job').acquire(timeout=0), 'job' in cache)").split() == ["False", "False"]
        with pytest.raises(RuntimeError):
            lock.acquire()
        with pytest.raises(TimeoutError, match="job"), cache.lock("job", timeout=0.01):
            pass
        assert (lock.renew(), len(cache.keys())) == (True, 0)
    assert (lock.release(), lock.renew()) == (False, False)
    run(cache, "cache.lock('job').acquire(); os._exit(0)")
    assert lock.acquire(timeout=10)
    cache.clear()
    assert lock.release() is False, "it was lost"

    async def main() -> None:
        async with cache.lock("job"):
            assert not await cache.lock("job").aacquire(timeout=0)
        async with cache.lock("job"):
            pass

    asyncio.run(main())


def test_limiters(cache: SharedCache) -> None:
    """A limiter counts the uses of all processes."""
    limiter = cache.limiter("calls", 3, per=3600)
    assert limiter.acquire(timeout=0)
    assert run(cache, "print(cache.limiter('calls', 3, per=3600).acquire(timeout=0))").strip() == "True"
    with limiter:
        assert not limiter.acquire(timeout=0)
    fast = cache.limiter("fast", 1, per=0.001)
    assert fast.acquire()
    assert fast.acquire()
    for limit, error in ((0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError), (1 << 32, ValueError)):
        with pytest.raises(error, match="limit"):
            cache.limiter("x", limit)  # type: ignore[arg-type]
    assert asyncio.run(cache.limiter("another", 1).aacquire())


def test_awaited_calls(cache: SharedCache) -> None:
    """Each awaited call has the effect of the call without the `a`."""

    async def factory() -> str:
        return "made"

    async def main() -> None:
        await cache.aput("a", 1, ttl=60, tags=("t",))
        await cache.aset("b", 2)
        assert (await cache.aadd("a", 3), await cache.aadd("c", 3)) == (False, True)
        assert (await cache.aincr("n", 5), await cache.adecr("n", 2)) == (5, 3)
        assert (await cache.acompare_and_set("b", 2, 4), await cache.atouch("b", 60)) == (True, True)
        assert (await cache.apop("b"), await cache.apop("b", None)) == (4, None)
        assert await cache.adelete("c")
        await cache.aset_many({"d": 1, "e": 2})
        assert await cache.adelete_many("def") == 2
        assert await cache.aevict_tag("t") == 1
        assert await cache.aget_or_set("made", factory) == "made"
        assert await cache.aclear() >= len(["n", "made"])
        assert cache.keys() == []
        async with SharedCache(cache.path) as other:
            await other.aput("x", 1)
        assert cache.popitem() == ("x", 1)
        with pytest.raises(KeyError):
            cache.popitem()

    asyncio.run(main())


def test_examples() -> None:
    """The examples of the docstrings work, including those of native calls."""
    runner = doctest.DocTestRunner(optionflags=doctest.IGNORE_EXCEPTION_DETAIL)
    parser = doctest.DocTestParser()
    texts = [shared.__doc__, SharedCache.__doc__, SharedLock.__doc__, SharedLimiter.__doc__]
    names = [name for name in dir(SharedCache) if not name.startswith("_")]
    for name in names:
        text = getattr(SharedCache, name).__doc__
        assert (text or "").strip(), f"{name} has no docstring"
        texts.append(text)
    found = [parser.get_doctest(own_names(text or ""), {}, "example", None, None) for text in texts]
    assert sum(bool(test.examples) for test in found) > 8
    for test in found:
        assert runner.run(test).failed == 0


@pytest.mark.parametrize("in_front", [False, True], ids=["itself", "behind a FlexCache"])
def test_calls_with_many_keys_check_all_of_them_first(cache: SharedCache, in_front: bool) -> None:
    """An invalid key or value changes nothing, wherever it is among the others."""
    called: Any = FlexCache(max_items=10, store=cache) if in_front else cache
    called.set_many({"a": 0, "b": 0})
    for entries in ({"a": 1, ("no key", object()): 2}, {"a": 1, "no value": lambda: None}):
        with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
            called.set_many(entries)
    with pytest.raises((AttributeError, pickle.PicklingError)):
        called.update({"a": 1}, c=lambda: None)
    with pytest.raises(TypeError):
        called.delete_many(["a", "b", object()])
    assert cache.get_many("ab") == {"a": 0, "b": 0}
    assert called.delete_many(iter(["a", "b", "c"])) == 2
