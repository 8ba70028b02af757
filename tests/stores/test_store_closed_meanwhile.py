"""A store that is closed while a value is computed: the caller gets the value. Later calls say that it is closed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from own_server import LEFT_OUT
from store_remote import make as make_remote

from flexcache_rs import FlexCache, _core
from flexcache_rs.disk import Cache, FanoutCache
from flexcache_rs.sessions import ClosedError, sync

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def shared(path: Path) -> Any:
    from flexcache_rs.shared import SharedCache

    return SharedCache(path / "cache")


class Own:
    """A store of the user's that can be closed."""

    def __init__(self, _: object) -> None:
        self.closed = False
        self.entries: dict[Any, Any] = {}

    def close(self) -> None:
        self.closed = True

    def load(self, key: Any) -> Any:
        self.check()
        return self.entries.get(key)

    def save(self, key: Any, value: Any, seconds: float | None, tags: Any) -> None:
        self.check()
        self.entries[key] = (value, seconds, tuple(tags))

    def remove(self, key: Any) -> bool:
        self.check()
        return self.entries.pop(key, None) is not None

    def clear(self) -> None:
        self.entries.clear()

    def check(self) -> None:
        if self.closed:
            raise ValueError("closed")


STORES: dict[str, Callable[[Path], Any]] = {"disk": Cache, "fanout": FanoutCache, "own": Own}
if hasattr(_core, "SharedSegment"):
    STORES["shared"] = shared
if not LEFT_OUT:
    STORES["remote"] = make_remote
COMPUTING = [name for name in STORES if name in ("shared", "remote")]


def results(cache: Any, close: Callable[[], None], how: str) -> Any:
    def compute() -> str:
        close()
        return "value"

    async def acompute() -> str:
        close()
        return "value"

    if how == "get_or_set":
        return cache.get_or_set("key", compute)
    if how == "aget_or_set":
        return asyncio.run(cache.aget_or_set("key", acompute))
    if how == "memoize":
        return cache.memoize(name="f")(compute)()
    return asyncio.run(cache.memoize(name="f")(acompute)())


HOW = ("get_or_set", "aget_or_set", "memoize", "amemoize")


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("which", STORES)
def test_a_cache_in_front_returns_the_value(which: str, how: str, tmp_path: Path) -> None:
    store = STORES[which](tmp_path)
    assert results(FlexCache(store=store, coherence=None if which == "own" else "strict"), store.close, how) == "value"


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("which", COMPUTING)
def test_a_cache_that_computes_returns_the_value(which: str, how: str, tmp_path: Path) -> None:
    cache = STORES[which](tmp_path)
    assert results(cache, cache.close, how) == "value"
    with pytest.raises(ValueError, match="closed"):
        cache.get("key")
    again = STORES[which](tmp_path)
    # Nobody waits for the computation that stored nothing.
    assert again.get_or_set("key", lambda: "another") == "another"
    again.close()


@pytest.mark.parametrize("backend", ["memory", "disk"])
def test_a_session_returns_the_value(backend: str, tmp_path: Path) -> None:
    url = f"disk://{tmp_path}" if backend == "disk" else f"memory://{tmp_path.name}"
    session, other = sync.connect(url), sync.connect(url)

    def compute() -> str:
        session.close()
        return "value"

    assert session.get_or_set("key", compute) == "value"
    with pytest.raises(ClosedError):
        session.get("key")
    assert other.get_or_set("key", lambda: "another") == "another"
    other.close()


def test_an_error_of_a_store_that_is_open_is_raised(tmp_path: Path) -> None:
    class Failing(Own):
        def save(self, key: Any, value: Any, seconds: float | None, tags: Any) -> None:
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        FlexCache(store=Failing(tmp_path), coherence=None).get_or_set("key", lambda: 1)


def test_a_method_named_closed_says_nothing(tmp_path: Path) -> None:
    """A save which fails is an error there, as with any other store."""

    class Full(Own):
        def __init__(self, _: object) -> None:
            super().__init__(_)
            self.is_closed: Any = lambda: False

        def __getattribute__(self, name: str) -> Any:
            return super().__getattribute__("is_closed" if name == "closed" else name)

        def check(self) -> None:
            """Nothing closes it."""

        def save(self, key: Any, value: Any, seconds: float | None, tags: Any) -> None:
            raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        FlexCache(store=Full(tmp_path), coherence=None).get_or_set("key", lambda: "value")
