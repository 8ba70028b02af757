"""Observing a SharedCache: hits and misses, metrics, and the command `shared watch`."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from flexcache_rs import FlexCache
from flexcache_rs.__main__ import main
from flexcache_rs._registry import shared_caches
from flexcache_rs.shared import SharedCache

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NUMBERS = itertools.count()


@pytest.fixture
def cache() -> Iterator[SharedCache]:
    """A cache that only this test uses."""
    with SharedCache(f"test-observed-{os.getpid()}-{next(NUMBERS)}", max_bytes=1 << 20) as cache:
        yield cache
        cache.unlink()


def counted(cache: SharedCache) -> tuple[int, int]:
    stats = cache.stats()
    return stats.hits, stats.misses


def test_hits_and_misses(cache: SharedCache) -> None:
    """Calls that read a value count, and calls that only look do not."""
    assert cache.stats().hit_ratio == 0.0
    cache["a"] = 1
    assert (cache.get("a"), cache["a"], cache.get("b"), cache.get("b", 2)) == (1, 1, None, 2)
    with pytest.raises(KeyError):
        cache["b"]
    assert counted(cache) == (2, 3)
    assert "a" in cache
    assert "b" not in cache
    assert cache.ttl("a") is None
    assert counted(cache) == (2, 3)
    assert cache.get_many(["a", "b"]) == {"a": 1}
    assert counted(cache) == (3, 4)
    assert cache.get_or_set("a", lambda: 5) == 1
    assert counted(cache) == (4, 4)
    assert cache.stats().hit_ratio == 0.5
    for _ in range(1000):
        cache.get("a")
    assert counted(cache) == (1004, 4)


def test_a_computation_is_one_miss(cache: SharedCache) -> None:
    """However many callers look for the value, the computation is one miss. Callers that wait for it count no miss."""
    assert cache.get_or_set("a", lambda: 1) == 1
    assert counted(cache) == (0, 1)
    front: FlexCache[str, int] = FlexCache(store=cache)
    assert front.get_or_set("b", lambda: 2) == 2
    assert counted(cache) == (0, 2)

    @cache.memoize(name="squared")
    def squared(number: int) -> int:
        return number * number

    assert squared(3) == 9
    assert counted(cache) == (0, 3)
    assert front.peek("c") is None
    with pytest.raises(KeyError):
        front.ttl("c")
    assert counted(cache) == (0, 3), "what only looks does not count"

    async def several() -> list[int]:
        async def compute() -> int:
            await asyncio.sleep(0.05)
            return 5

        return await asyncio.gather(*(cache.aget_or_set("d", compute) for _ in range(5)))

    assert asyncio.run(several()) == [5] * 5
    assert counted(cache) == (0, 4)


def test_waiters_miss_nothing(cache: SharedCache) -> None:
    """Threads join the computation. Another process waits for the lease and finds the value, which is a hit."""
    inside, go = threading.Event(), threading.Event()

    def compute() -> int:
        inside.set()
        assert go.wait(30)
        return 7

    with ThreadPoolExecutor(4) as pool:
        loads = [pool.submit(cache.get_or_set, "a", compute)]
        assert inside.wait(30)
        loads += [pool.submit(cache.get_or_set, "a", compute) for _ in range(3)]
        program = (
            "import sys; from flexcache_rs.shared import SharedCache\n"
            "with SharedCache(sys.argv[1]) as cache:\n"
            "    print('asks', flush=True)\n"
            "    assert cache.get_or_set('a', lambda: 8) == 7"
        )
        command = [sys.executable, "-c", program, str(cache.path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == "asks\n"
            go.set()
            assert other.wait(30) == 0
        assert [load.result() for load in loads] == [7] * 4
    hits, misses = counted(cache)
    assert misses == 1
    assert hits >= 1


@pytest.mark.parametrize("test", [test_a_computation_is_one_miss, test_waiters_miss_nothing])
def test_of_misses_fails_where_a_look_counts(
    test: Callable[[SharedCache], None], cache: SharedCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A test of the tests: each of them fails if the lookup before a computation counts as a miss."""
    monkeypatch.setattr(SharedCache, "_find", SharedCache.get)
    with pytest.raises(AssertionError, match=r"assert (\(0, 2\) == \(0, 1\)|[2-9] == 1)"):
        test(cache)


def test_hits_behind_a_cache_in_front(cache: SharedCache) -> None:
    """A hit of the cache in front does not count as one of the shared cache."""
    cache["a"] = 1
    front: FlexCache[str, int] = FlexCache(store=cache)
    assert [front.get("a") for _ in range(5)] == [1] * 5
    assert counted(cache) == (1, 0)


def test_other_processes_add_theirs(cache: SharedCache) -> None:
    """Processes add their counts when they close the cache. A forked child does not count its parent's calls."""
    cache["a"] = 1
    for _ in range(10):
        cache.get("a")
    child = os.fork()
    if child == 0:
        cache.get("a")
        cache.get("b")
        cache.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert counted(cache) == (11, 1)


def test_prometheus(cache: SharedCache) -> None:
    """The metrics are the sums of all processes, and have their own names."""
    client = pytest.importorskip("prometheus_client")
    from flexcache_rs.prometheus import CacheCollector

    cache["a"] = 1
    cache.get("a")
    cache.get("b")
    registry = client.CollectorRegistry()
    registry.register(CacheCollector())
    text = client.generate_latest(registry).decode()
    label = f'{{cache="{cache.name}"}}'
    for line in ("hits_total%s 1.0", "misses_total%s 1.0", "items%s 1.0", "resets_total%s 0.0"):
        assert f"flexcache_shared_{line % label}" in text
    assert f"flexcache_items{label}" not in text
    with SharedCache(cache.path) as other:
        other.name = "another"
        assert 'flexcache_shared_hits_total{cache="another"}' in client.generate_latest(registry).decode()
    assert 'cache="another"' not in client.generate_latest(registry).decode(), "one that is closed"


def test_opentelemetry(cache: SharedCache) -> None:
    """The metrics are the same as for Prometheus."""
    pytest.importorskip("opentelemetry.sdk.metrics")
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    from flexcache_rs.opentelemetry import instrument

    cache["a"] = 1
    cache.get("a")
    reader = InMemoryMetricReader()
    instrument(MeterProvider([reader]))
    data: Any = reader.get_metrics_data()
    points = {
        (metric.name, point.attributes["cache"]): point.value
        for metric in data.resource_metrics[0].scope_metrics[0].metrics
        for point in metric.data.data_points
    }
    assert points["flexcache.shared_hits", cache.name] == points["flexcache.shared_items", cache.name] == 1


def test_only_open_caches_are_known() -> None:
    """Open caches are listed by the name with which they were opened, even after pickling."""
    import pickle

    name = f"test-known-{os.getpid()}"
    cache = SharedCache(name, max_bytes=1 << 20)
    assert shared_caches()[name] is cache
    copy = pickle.loads(pickle.dumps(cache))
    assert copy.name == name
    assert shared_caches()[name] is copy
    copy.close()
    assert shared_caches()[name] is cache
    cache.unlink()
    del cache
    assert name not in shared_caches()


def test_watch(cache: SharedCache, capsys: pytest.CaptureFixture[str]) -> None:
    """The report shows the activity between two looks, per second."""
    from flexcache_rs._shared_watch import Watch

    watch = Watch(cache.name)
    [first] = watch.look()
    assert "per_second" not in first
    cache["a"] = 1
    cache.get("a")
    assert cache.stats().hits == 1
    [second] = watch.look()
    assert second["per_second"]["hits"] > 0 == second["per_second"]["misses"]
    assert (second["stats"]["entries"], second["processes"]) == (1, [])
    path = cache.path
    cache.unlink()
    assert watch.look() == []
    assert not path.exists(), "looking for it does not create it"
    cache["b"] = 2
    [third] = watch.look()
    assert ("per_second" in third, third["stats"]["entries"]) == (False, 1)
    watch.close()
    assert main(["shared", "watch", cache.name, "--count", "2", "--interval", "0", "--json"]) == 0
    looks = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [look[0]["name"] for look in looks] == [cache.name] * 2
    assert main(["shared", "watch", "--count", "1"]) == 0
    shown = capsys.readouterr().out
    assert "hits/s" in shown
    assert cache.name[:24] in shown
    assert main(["shared", "watch", "no-such-cache", "--count", "1"]) == 0
    assert capsys.readouterr().out == "no cache 'no-such-cache'\n"
    seconds, number = "must be from 0 to 86400 seconds, not", "must be an integer of at least 1, not"
    for option, given, told in (
        ("--interval", "-1", seconds),
        ("--interval", "soon", seconds),
        ("--count", "0", number),
        ("--count", "many", number),
    ):
        with pytest.raises(SystemExit):
            main(["shared", "watch", option, given])
        assert f"argument {option}: {told} {given}" in capsys.readouterr().err


def test_watch_ends_on_ctrl_c(cache: SharedCache) -> None:
    """Ctrl-C ends the command in the middle of its wait, without a message."""
    command = [sys.executable, "-m", "flexcache_rs", "shared", "watch", cache.name, "--interval", "1000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        assert "hits/s" in program.stdout.readline()
        program.send_signal(signal.SIGINT)
        _, errors = program.communicate(timeout=60)
    assert (program.returncode, errors) == (0, "")


ELSEWHERE = """
import sys
from flexcache_rs import _core
del _core.SharedSegment  # As it is built for other systems.
import flexcache_rs
from flexcache_rs.__main__ import main
import flexcache_rs.prometheus, flexcache_rs.opentelemetry
for module in "shared", "lilcache":
    try:
        __import__(f"flexcache_rs.{module}")
    except ImportError as error:
        print(error)
print(main(["shared", "list"]), main(["shared", "watch"]), main(["shared", "stats", "name"]))
"""


def test_other_systems_say_so() -> None:
    """Features that need shared memory raise an exception that says so. The rest of the package works."""
    pytest.importorskip("prometheus_client")
    pytest.importorskip("opentelemetry.sdk.metrics")
    done = subprocess.run([sys.executable, "-c", ELSEWHERE], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "flexcache_rs.shared needs 64-bit Linux, macOS or Windows\n" * 2 + "1 1 1\n"
    assert done.stderr == "flexcache shared: flexcache_rs.shared needs 64-bit Linux, macOS or Windows\n" * 3


def test_what_cannot_be_opened_is_named_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "no cache"
    path.write_text("text")
    path.chmod(0o644)
    assert main(["shared", "stats", str(path)]) == 1
    assert capsys.readouterr().err.count(str(path)) == 1
