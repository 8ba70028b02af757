"""Observing a cache: listeners, the registry, reports, metrics, recorded traces."""

from __future__ import annotations

import gc
import gzip
import html.parser
import os
import pickle
import subprocess
import sys
import textwrap
import threading
import weakref
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from specimens import Sized
from test_custom_policy import Recency

from flexcache_rs import FlexCache, caches, memoize
from flexcache_rs.replay.trace import read
from flexcache_rs.testing import advance

if TYPE_CHECKING:
    from pathlib import Path

    from specimens import MakeCache


@pytest.mark.parametrize("own_policy", [False, True])
def test_listeners_are_told_of_every_event(make_cache: MakeCache, own_policy: bool) -> None:
    """Listeners get every event in order, with key and value."""
    told: list[Any] = []
    cache = make_cache(Recency() if own_policy else "lru", max_items=2)
    cache.listen(lambda *event: told.append(event))
    cache["a"] = 1
    cache.put("a", 2)
    cache.get("a")
    cache.get("b")
    cache.add("a", 3)
    cache["b"] = 3
    cache["c"] = 4
    cache.put("d", 5, ttl=10)
    advance(11)
    cache.get("d")
    del cache["c"]
    cache.get_or_set("e", lambda: 6)
    assert told == [
        ("insert", "a", 1),
        ("update", "a", 2),
        ("hit", "a", 2),
        ("miss", "b", None),
        ("insert", "b", 3),
        ("evict", "a", 2),
        ("insert", "c", 4),
        ("evict", "b", 3),
        ("insert", "d", 5),
        ("expire", "d", 5),
        ("miss", "d", None),
        ("remove", "c", 4),
        ("miss", "e", None),
        ("insert", "e", 6),
        ("load", "e", 6),
    ]


def test_listeners_to_some_events(make_cache: MakeCache) -> None:
    """Listeners to some events get only these, until they are removed."""
    told: list[Any] = []
    other: list[Any] = []
    cache = make_cache(max_items=1)
    listener = told.append

    def listen(event: str, key: Any, _: Any) -> None:
        listener((event, key))

    cache.listen(listen, "hit", "evict")
    cache.listen(lambda *event: other.append(event), "miss")
    for key in "ab":
        cache.get(key)
        cache[key] = key
        assert cache[key] == key
    assert told == [("hit", "a"), ("evict", "a"), ("hit", "b")]
    assert len(other) == 2
    assert cache.unlisten(listen)
    assert not cache.unlisten(listen)
    cache.get("b")
    assert len(told) == 3


def test_memoized_functions_tell(make_cache: MakeCache) -> None:
    """Hits of memoized functions on the fast path are reported as well."""
    events: Counter[str] = Counter()
    cache = make_cache()
    function = cache.memoize(lambda *args: args)
    cache.listen(lambda event, *_: events.update([event]))
    for _ in range(3):
        function(1)
        function(1, 2)
    assert events == {"miss": 2, "hit": 4, "insert": 2, "load": 2}


def test_a_listener_that_raises_is_logged(make_cache: MakeCache, caplog: pytest.LogCaptureFixture) -> None:
    """The exception of a listener is logged, and the call succeeds. Listeners may use the cache."""
    cache = make_cache()

    def listener(event: str, key: Any, _: Any) -> None:
        if event == "hit":
            raise LookupError("wrong")
        if key != "other":
            cache["other"] = len(cache)

    cache.listen(listener)
    cache["a"] = 1
    assert cache["a"] == 1
    assert "other" in cache
    assert cache.stats().hook_errors == 1
    assert "a listener raised" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((3,), TypeError, r"listener must be callable, not"),
        ((None,), TypeError, r"listener must be callable, not"),
        ((print, "hits"), ValueError, "an event must be one of hit, miss, .* not 'hits'"),
        ((print, 3), TypeError, "an event must be a str, one of hit"),
    ],
)
def test_listeners_that_make_no_sense(make_cache: MakeCache, arguments: Any, error: Any, message: str) -> None:
    cache = make_cache()
    with pytest.raises(error, match=message):
        cache.listen(*arguments)


def test_listeners_are_garbage_like_anything() -> None:
    """A cache whose listener refers to it is collected."""

    class Holder:
        pass

    holder: Any = Holder()
    cache: Any = FlexCache()
    cache.listen(lambda *_: holder)
    holder.cache = cache
    alive = weakref.ref(holder)
    holder = cache = None
    gc.collect()
    assert alive() is None


def test_listeners_from_eight_threads(make_cache: MakeCache) -> None:
    """Each event is reported once."""
    cache = make_cache(max_items=50)
    count: Counter[str] = Counter()
    lock = threading.Lock()

    def listener(event: str, *_: Any) -> None:
        with lock:
            count[event] += 1

    cache.listen(listener, "hit", "miss", "insert", "evict")

    def work() -> None:
        for number in range(1000):
            if cache.get(number % 80) is None:
                cache.add(number % 80, number)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stats = cache.stats()
    assert (count["hit"], count["miss"]) == (stats.hits, stats.misses)
    assert (count["insert"], count["evict"]) == (stats.insertions, stats.evictions)


def test_registry() -> None:
    """The registry has live caches with names. If several have the same name, it has the last one."""
    one: Any = FlexCache(name="test registry")
    assert caches()["test registry"] is one
    two: Any = FlexCache(name="test registry")
    assert caches()["test registry"] is two
    del one
    gc.collect()
    assert caches()["test registry"] is two
    del two
    gc.collect()
    assert "test registry" not in caches()

    class Sub(FlexCache[Any, Any]):
        pass

    sub = Sub(name="test sub")
    assert caches()["test sub"] is sub
    assert caches()["test sub"] is not pickle.loads(pickle.dumps(FlexCache(name="test sub 2")))


def test_describe_and_notebooks() -> None:
    """describe() and the notebook table show the figures of a cache."""
    cache: FlexCache[str, Any] = FlexCache(max_items=1000, max_bytes=2000, name="<b>users</b>")
    cache["a"] = Sized(1500)
    cache.get("a"), cache.get("b")
    text = cache.describe()
    assert text.splitlines()[0] == "FlexCache '<b>users</b>'"
    for part in ("lru", "1 of at most 1,000 (0%)", "1,500 of at most 2,000 (75%)", "1 (50.0%)"):
        assert part in text
    shown = cache._repr_html_()
    html.parser.HTMLParser().feed(shown)
    assert "&lt;b&gt;users" in shown
    assert "1,500 of at most 2,000" in shown
    assert "no limit" in FlexCache().describe()
    assert "Recency" in FlexCache(Recency()).describe()


def test_metrics_are_imported_only_when_used() -> None:
    """Importing the library imports neither metrics package, nor other slow modules."""
    program = """
        import sys
        import flexcache_rs
        flexcache_rs.FlexCache(name="a").describe()
        print([name for name in ("prometheus_client", "opentelemetry", "asyncio", "logging", "typing", "inspect")
               if name in sys.modules])
    """
    command = [sys.executable, "-S", "-E", "-c", "import sys; sys.path[:] = sys.argv[1:]\n" + textwrap.dedent(program)]
    done = subprocess.run([*command, *sys.path], capture_output=True, text=True, check=False)
    assert done.stdout == "[]\n", done.stderr


def trace(path: Path) -> list[tuple[Any, int]]:
    """Read the accesses of a recorded trace with `replay`."""
    content = path.read_bytes()
    lines = (gzip.decompress(content) if path.suffix == ".gz" else content).decode().splitlines()
    assert len(read(str(path)).keys) == len(lines)
    parts = [line.split() for line in lines]
    return [(part[0], int(part[1]) if len(part) > 1 else 1) for part in parts]


@pytest.mark.parametrize("name", ["trace.gz", "trace.txt"])
def test_record(tmp_path: Path, name: str) -> None:
    """The record has one line per lookup. Equal keys have equal lines, which do not reveal the key."""
    path = tmp_path / name
    cache: FlexCache[str, int] = FlexCache(max_items=3, record=path)
    asked = ["secret", "b", "secret", "c", "d", "e", "secret", "b"] * 5
    for key in asked:
        if cache.get(key) is None:
            cache[key] = 1
    cache.close()
    recorded = [key for key, _ in trace(path)]
    assert len(recorded) == len(asked)
    numbers = {key: recorded[asked.index(key)] for key in asked}
    assert recorded == [numbers[key] for key in asked]
    assert len(set(numbers.values())) == 5
    assert all(len(number) == 16 for number in recorded)


def test_record_sizes(tmp_path: Path) -> None:
    """A cache that is limited by sizes records the sizes of entries."""
    path = tmp_path / "trace"
    cache: FlexCache[int, Any] = FlexCache(max_bytes=1000, record=str(path))
    for key in [1, 2, 3, 1, 2]:
        if key not in cache:
            assert cache.get(key) is None
            cache[key] = Sized(key * 10)
        else:
            assert cache[key] is not None
    cache.close()
    assert [size for _, size in trace(path)] == [10, 20, 30, 10, 20]


def test_record_is_bounded(tmp_path: Path) -> None:
    """Recording ends at its limit, and the cache goes on."""
    path = tmp_path / "trace.gz"
    cache: FlexCache[int, int] = FlexCache(record=path, record_limit=100)
    for number in range(1000):
        cache.get(number)
    cache.close()
    cache.close()
    cache.get(1)
    assert len(trace(path)) == 100


def test_record_without_a_limit(tmp_path: Path) -> None:
    """A limit of 0 means no limit, as elsewhere."""
    path = tmp_path / "trace"
    cache: FlexCache[int, int] = FlexCache(record=path, record_limit=0)
    for key in range(70_000):
        cache.get(key)
    cache.close()
    assert len(trace(path)) == 70_000


def test_a_recorded_trace_is_complete_when_the_program_ends(tmp_path: Path) -> None:
    """The program does not have to close the record."""
    path = tmp_path / "trace.gz"
    program = f"""
        from flexcache_rs import FlexCache, lru_cache
        cache = FlexCache(record={str(path)!r})
        for number in range(100_000):
            cache.get(number % 10)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(trace(path)) == 100_000


def test_memoized_functions_can_be_recorded(tmp_path: Path) -> None:
    path = tmp_path / "trace.gz"
    function = memoize(record=path, max_items=10)(lambda number: number)
    for number in range(100):
        function(number % 7)
    function.cache.close()
    assert len(trace(path)) == 100


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"record": 3}, TypeError, "record must be a path or None, not int"),
        ({"record": "/no such directory/trace"}, OSError, "No such file"),
        ({"record_limit": -1}, ValueError, "record_limit"),
    ],
)
def test_recordings_that_make_no_sense(options: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        FlexCache(**options)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore")
def test_a_childs_lookups_are_not_recorded(tmp_path: Path) -> None:
    """A forked child has no thread that writes records, and does not hang."""
    path = tmp_path / "trace.gz"
    cache: FlexCache[int, int] = FlexCache(record=path)
    cache.get(1)
    child = os.fork()
    if child == 0:
        for number in range(100_000):
            cache.get(number)
        cache.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    cache.close()
    assert len(trace(path)) == 1
