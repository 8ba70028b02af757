"""The backend for Django."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest
from waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from own_server import Server


@pytest.fixture
def backend(server: Server) -> Iterator[Any]:
    from django.core.cache import CacheHandler

    from flexcache_rs.remote import djangocache

    options = {"timeout": 2.0, "namespace": "site", "MAX_ENTRIES": 5}
    settings = {
        "default": {
            "BACKEND": "flexcache_rs.remote.DjangoCache",
            "LOCATION": f"unix://{server.path}",
            "KEY_PREFIX": "p",
            "OPTIONS": options,
        }
    }
    handler = CacheHandler(settings)
    yield handler["default"]
    for cache in djangocache._CACHES.values():
        cache.close()
    djangocache._CACHES.clear()


def test_the_calls_of_django(backend: Any) -> None:
    backend.set("a", [1], 60)
    assert backend.get("a") == [1]
    assert not backend.add("a", 2)
    assert backend.add("b", 2)
    assert "a" in backend
    assert backend.get_many(["a", "b", "c"]) == {"a": [1], "b": 2}
    assert backend.set_many({"c": 3, "d": 4}, 60) == []
    assert backend.incr("c") == 4
    assert backend.decr("c", 2) == 2
    with pytest.raises(ValueError, match="not found"):
        backend.incr("absent")
    assert backend.touch("d", 1000)
    assert not backend.touch("absent")
    assert backend.delete("b")
    assert not backend.delete("b")
    assert backend.get_or_set("e", lambda: 5) == 5 == backend.get("e")
    assert backend.get_or_set("f", 6) == 6
    backend.set("none", None)
    assert backend.get("none", "default") is None
    backend.set("gone", 1, 0)
    assert backend.get("gone") is None
    backend.delete_many(["e", "f"])
    assert backend.get_many(["e", "f"]) == {}
    backend.clear()
    assert backend.get("a") is None


def test_keys_that_memcached_would_refuse(backend: Any) -> None:
    """Django warns of such keys with each of its own backends."""
    from django.core.cache.backends.base import CacheKeyWarning

    calls = ("get", "touch", "delete", "has_key", "ttl", "persist")
    for key, text in (("with spaces", "characters"), ("long" * 100, "longer than 250")):
        for call in (*(getattr(backend, name) for name in calls), lambda key: backend.set(key, 1)):
            with pytest.warns(CacheKeyWarning, match=text):
                call(key)
        for many in (backend.get_many, backend.delete_many, lambda keys: backend.set_many(dict.fromkeys(keys))):
            with pytest.warns(CacheKeyWarning, match=text):
                many(["plain", key])


def test_how_many_were_deleted(backend: Any) -> None:
    backend.set("a", 1)
    assert backend.delete_many(["a", "b"]) == 1
    # What Django's own backends return.
    assert backend.delete_many([]) is None
    assert backend.delete_pattern("none*") == 0


def test_versions(backend: Any) -> None:
    backend.set("a", 1, 100)
    assert backend.get("a", version=2) is None
    assert backend.incr_version("a") == 2
    assert backend.get("a") is None
    assert backend.get("a", version=2) == 1
    assert 98 <= backend.ttl("a", version=2) <= 100
    assert backend.decr_version("a", version=2) == 1
    assert backend.get("a") == 1
    with pytest.raises(ValueError, match="not found"):
        backend.incr_version("absent")


def test_what_django_redis_has_besides(backend: Any) -> None:
    backend.set_many({"user:1": 1, "user:2": 2, "other": 3}, 100)
    assert sorted(backend.keys("user:*")) == ["user:1", "user:2"]
    assert backend.keys("user:[1]") == ["user:1"]
    assert 98 <= backend.ttl("other") <= 100
    assert backend.ttl("absent") == 0
    assert backend.expire("other", 10)
    assert backend.persist("other")
    assert backend.ttl("other") is None
    assert backend.delete_pattern("user:*") == 2
    assert backend.get_many(["user:1", "user:2", "other"]) == {"other": 3}
    with backend.lock("job"):
        assert not backend.lock("job").acquire(timeout=0)
    assert backend.limiter("mails", 1).hit().allowed


async def _awaited(backend: Any) -> Any:
    await backend.aset("a", 1)
    return await backend.aget("a"), await backend.aincr("a"), await backend.aget_or_set("b", 2)


def test_awaited_calls_and_threads(backend: Any, server: Server) -> None:
    import asyncio

    assert asyncio.run(_awaited(backend)) == (1, 2, 2)
    other = type(backend)(
        f"unix://{server.path}", {"OPTIONS": {"timeout": 2.0, "namespace": "site"}, "KEY_PREFIX": "p"}
    )
    # Django makes a backend for every thread; they share a cache.
    assert other.cache is backend.cache
    backend.close()
    until(lambda: other.get("a") == 2)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_fork_while_a_cache_is_made(backend: Any, server: Server) -> None:
    """The child does not wait for a thread of its parent."""
    from flexcache_rs.remote import djangocache

    holds, ended = threading.Event(), threading.Event()

    def make() -> None:
        with djangocache._MAKING:
            holds.set()
            ended.wait()

    thread = threading.Thread(target=make)
    thread.start()
    holds.wait()
    child = os.fork()
    if child == 0:
        try:
            # Ends it where it waits for ever.
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(20)
            own = type(backend)(f"unix://{server.path}", {"OPTIONS": {"timeout": 2.0, "namespace": "child"}})
            own.set("a", 1)
            os._exit(own.get("a") != 1)
        finally:
            os._exit(2)
    ended.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_prefix_is_no_pattern(server: Server) -> None:
    """Whatever characters it has, all keys of its own are found, and none of other prefixes."""
    from flexcache_rs.remote import DjangoCache, djangocache

    def made(prefix: str) -> Any:
        return DjangoCache(
            f"unix://{server.path}", {"KEY_PREFIX": prefix, "OPTIONS": {"timeout": 10.0, "namespace": "patterns"}}
        )

    prefixes = ["a*b", "axb", "[x]", "x", "a?", "ab", "\\", "[!x]"]
    for prefix in prefixes:
        made(prefix).set_many({"user:1": prefix, "user:2": prefix, "other": prefix})
    for prefix in prefixes:
        backend = made(prefix)
        assert sorted(backend.keys("user:*")) == ["user:1", "user:2"]
        assert sorted(backend.keys("*")) == ["other", "user:1", "user:2"]
        assert backend.delete_pattern("user:?") == 2
        assert backend.get_many(["user:1", "other"]) == {"other": prefix}
    for cache in djangocache._CACHES.values():
        cache.close()
    djangocache._CACHES.clear()
