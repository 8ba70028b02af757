"""Servers that do not announce writes. `l1_ttl` is then the bound, and must be given."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from own_server import Server
from waiting import until

from flexcache_rs.remote import RemoteError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Make = "Callable[..., Any]"

BOUND = 0.3
"""Seconds."""


@pytest.fixture(params=["tracking forbidden", "no CLIENT"])
def connect(request: pytest.FixtureRequest, engine: str, tmp_path: Path) -> Iterator[Callable[[], Any]]:
    """Return clients of a server that does not announce writes, as managed services do."""
    server = Server(
        tmp_path, *(("--rename-command", "CLIENT", "") if request.param == "no CLIENT" else ()), engine=engine
    )
    server.start()
    try:
        if request.param == "no CLIENT":
            yield server.client
        else:
            with contextlib.closing(server.client()) as client:
                client.execute_command(
                    "ACL", "SETUSER", "cache", "on", ">secret", "allkeys", "+@all", "-client|tracking"
                )
            yield lambda: server.client(username="cache", password="secret")
    finally:
        server.kill()


def test_it_is_refused_where_no_bound_was_given(make: Make, connect: Callable[[], Any]) -> None:
    with pytest.raises(RemoteError, match=r"does not tell what is written \(CLIENT TRACKING\): .* Give l1_ttl"):
        make(connect(), on_error="miss")


def test_the_time_to_live_in_memory_is_the_bound(make: Make, connect: Callable[[], Any]) -> None:
    """A value is served for at most this long after it, its tag or its namespace was removed or replaced."""
    one, other = (make(connect(), l1_ttl=BOUND, negative_ttl=BOUND) for _ in range(2))
    until(lambda: one.stats().is_live and other.stats().is_live)
    for cache in (one, other):
        assert not cache.stats().is_told
        assert cache.stats().staleness_bound == BOUND
    writes: dict[str, Callable[[], object]] = {
        "put": lambda: other.put("key", "new"),
        "delete": lambda: other.delete("key"),
        "evict_tag": lambda: other.evict_tag("tag"),
        "clear": other.clear,
    }
    for name, write in writes.items():
        other.put("key", "old", tags=("tag",))
        expected = "new" if name == "put" else None
        until(lambda: one.get("key") == "old")
        # From memory, unless this machine stands still for longer than the bound.
        until(lambda: one.get("key") == "old" and one._near._get_from_memory("key", None) == "old")
        write()
        began = time.monotonic()
        until(lambda: one.get("key") == expected)
        assert time.monotonic() - began < BOUND + 2
        assert one.get("key") == expected


def test_own_writes_are_read(make: Make, connect: Callable[[], Any]) -> None:
    cache = make(connect(), l1_ttl=60)
    until(lambda: cache.stats().is_live)
    for number in range(20):
        cache.put("key", number, tags=("tag",))
        assert [cache["key"], cache["key"]] == [number, number]
    cache.evict_tag("tag")
    assert cache.get("key") is None
    cache["key"] = 1
    assert cache["key"] == 1
    cache.clear()
    assert cache.get("key") is None


def test_who_waits_for_another_process_asks_for_its_value(make: Make, connect: Callable[[], Any]) -> None:
    """No announcement says that another lease has ended long before it would expire."""
    one, other = (make(connect(), l1_ttl=60, negative_ttl=None, lease=60, lease_wait=60) for _ in range(2))
    until(lambda: one.stats().is_live and other.stats().is_live)
    begun, go = threading.Event(), threading.Event()
    got: list[Any] = []

    def compute() -> str:
        begun.set()
        assert go.wait(60)
        return "once"

    first = threading.Thread(target=lambda: got.append(one.get_or_set("key", compute)))
    first.start()
    assert begun.wait(60)
    second = threading.Thread(target=lambda: got.append(other.get_or_set("key", lambda: "twice")))
    second.start()
    until(lambda: other.stats().lease_waits > 0)
    go.set()
    first.join()
    second.join(30)
    assert got == ["once", "once"]


def test_a_server_that_tells_has_the_other_bound(make: Make) -> None:
    cache = make(l1_ttl=60, max_staleness=2)
    until(lambda: cache.stats().is_live)
    assert cache.stats().is_told
    assert cache.stats().staleness_bound == 2
