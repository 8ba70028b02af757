"""Containers of the user may change while the package reads them, by another thread or by code that is called."""

from __future__ import annotations

import sys
import threading
from collections import deque
from datetime import datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Any

import pytest
from interrupting import MANY_POINTS, MOST_POINTS, Tracer
from scale import scaled

from flexcache_rs import size_of
from flexcache_rs._arguments import pairs
from flexcache_rs._core import SessionCodec
from flexcache_rs.disk import Cache
from flexcache_rs.disk.serializers import JSONSerializer
from flexcache_rs.sessions import sync
from flexcache_rs.sessions._cells import Codec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.every_python


class Zone(tzinfo):
    """A time zone in Python, whose code runs where a time is encoded."""

    def utcoffset(self, _: datetime | None) -> timedelta:
        return timedelta(hours=1)


def times() -> list[Any]:
    """Return several values that are encoded by calling Python code."""
    return [datetime(2024, 1, day, tzinfo=Zone()) for day in range(1, 9)]


def grow(container: Any) -> None:
    """Add an element."""
    if isinstance(container, dict):
        container[f"added {len(container)}"] = 1
    elif isinstance(container, set):
        container.add(f"added {len(container)}")
    else:
        container.append("added")


def in_memory(value: Any) -> None:
    with sync.connect("memory://") as session:
        session.set("key", value)


def for_a_server(value: Any) -> None:
    Codec(None).call("set", {"key": value}, None, "always")


CALLS: dict[str, Callable[[Any], object]] = {
    "size_of": size_of,
    "json": lambda value: JSONSerializer().dumps(value, 5),
    "pairs": lambda value: pairs("entries", value),
    "in memory": in_memory,
    "in memory, in a list": lambda value: in_memory([value]),
    "for a server": for_a_server,
    "for a server, in a list": lambda value: for_a_server([value]),
}
CONTAINERS: dict[str, Callable[[], Any]] = {
    "dict": lambda: {f"key {number}": time for number, time in enumerate(times())},
    "set": lambda: set(times()),
    "deque": lambda: deque(times()),
    "list": times,
}
OF_DICTS = ("json", "pairs")
CASES = [(call, kind) for call in CALLS for kind in CONTAINERS if kind == "dict" or call not in OF_DICTS]


@pytest.mark.parametrize(("call", "kind"), CASES)
def test_a_container_that_grows_at_any_point(call: str, kind: str) -> None:
    for at in range(1, MOST_POINTS):
        container = CONTAINERS[kind]()
        if call == "json":
            container = dict.fromkeys(container, 1)
        tracer = Tracer(at, lambda container=container: grow(container), frozenset((Zone.utcoffset.__code__,)))
        sys.settrace(tracer)
        try:
            CALLS[call](container)
        finally:
            sys.settrace(None)
        if not tracer.fired:
            assert at > MANY_POINTS
            return
    pytest.fail("the call never completed")


def beside_a_change(container: Any, call: Callable[[], object]) -> None:
    """Make a call many times, while another thread changes the container."""
    done = threading.Event()

    def change() -> None:
        while not done.is_set():
            grow(container)
            container.pop(next(reversed(container))) if isinstance(container, dict) else container.pop()

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(scaled(2000)):
            call()
    finally:
        done.set()
        thread.join()


@pytest.mark.parametrize("kind", ["dict", "set", "list"])
def test_a_container_that_another_thread_changes(kind: str) -> None:
    container: Any = {"dict": dict, "set": set, "list": list}[kind](enumerate("abcdefgh"))
    codec = SessionCodec(None, None)
    beside_a_change(container, lambda: codec.encode([container]))
    beside_a_change(container, lambda: in_memory(container))
    beside_a_change(container, lambda: size_of(container))


def test_parameters_that_another_thread_changes(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    parameters = dict.fromkeys("abcdefgh", 1)

    beside_a_change(parameters, lambda: cache.query("SELECT :a", parameters))
    cache.close()
