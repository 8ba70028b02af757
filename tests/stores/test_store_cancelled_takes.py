"""A task that is cancelled while it takes a value loses none: it has the value, or the store has."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest
from own_server import LEFT_OUT
from store_remote import make as make_remote

from flexcache_rs import _core
from flexcache_rs.disk import Cache, FanoutCache

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def shared(path: Path) -> Any:
    from flexcache_rs.shared import SharedCache

    return SharedCache(path / "cache")


KINDS: dict[str, Callable[[Path], Any]] = {"disk": Cache, "fanout": FanoutCache}
if hasattr(_core, "SharedSegment"):
    KINDS["shared"] = shared
if not LEFT_OUT:
    KINDS["remote"] = make_remote


def at_turn(call: Callable[[], Any], turn: int) -> tuple[bool, Any]:
    """Whether a task was cancelled at its n-th turn of the event loop, and what it returned if it had ended before."""

    async def main() -> tuple[bool, Any]:
        task = asyncio.ensure_future(call())
        for _ in range(turn):
            await asyncio.sleep(0)
        task.cancel()
        try:
            return False, await task
        except asyncio.CancelledError:
            return True, None

    return asyncio.run(main())


@pytest.mark.parametrize("which", KINDS)
def test_a_pop_that_is_cancelled_at_any_turn(which: str, tmp_path: Path) -> None:
    cancelled = 0
    with KINDS[which](tmp_path) as cache:
        for turn in range(20):
            cache.set("key", "value", 60)
            was_cancelled, value = at_turn(lambda: cache.apop("key", None), turn)
            cancelled += was_cancelled
            assert (value, cache.get("key")) == ((None, "value") if was_cancelled else ("value", None))
    assert cancelled


@pytest.mark.parametrize("which", ["disk", "fanout", "remote"])
def test_what_was_taken_for_a_cancelled_task_is_put_back(
    which: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The value is taken when the task is cancelled. It keeps its tag and its time to live."""
    if which not in KINDS:
        return
    taken, go = threading.Event(), threading.Event()
    with KINDS[which](tmp_path) as cache:
        remote = which == "remote"
        cache.set("key", "value", 60, **({"tags": ("tag",)} if remote else {"tag": "tag"}))
        # A cache on a server takes the value from its store, with what is known of it.
        popping: Any = cache._store if remote else type(cache)
        pop = popping.pop

        def slow(*arguments: Any) -> Any:
            found = pop(*arguments)
            taken.set()
            go.wait(60)
            return found

        monkeypatch.setattr(popping, "pop", slow)

        async def main() -> None:
            task = asyncio.ensure_future(cache.apop("key"))
            await asyncio.to_thread(taken.wait, 60)
            assert cache.get("key") is None
            task.cancel()
            await asyncio.sleep(0)
            go.set()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(main())
        assert cache.get("key") == "value"
        if remote:
            assert cache.tags("key") == ("tag",)
            assert 0 < cache.ttl("key") <= 60
        else:
            value, expires_at, tag = cache.get("key", expire_time=True, tag=True)
            assert (value, tag) == ("value", "tag")
            assert expires_at is not None


@pytest.mark.parametrize("which", ["disk"])
def test_an_element_that_was_pulled_for_a_cancelled_task_is_where_it_was(which: str, tmp_path: Path) -> None:
    with KINDS[which](tmp_path) as cache:
        for turn in range(10):
            keys = [cache.push(number) for number in range(3)]
            was_cancelled, found = at_turn(cache.apull, turn)
            assert found in ((keys[0], 0), None)
            left = [cache.pull() for _ in range(len(cache))]
            assert left == list(zip(keys, range(3), strict=True))[0 if was_cancelled else 1 :]
