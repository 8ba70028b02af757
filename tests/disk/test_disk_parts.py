"""The caches, deques and indexes in the directory of a `FanoutCache`, opened by several threads at once."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from waiting import MANY

import flexcache_rs.disk as diskcache
from flexcache_rs import diskcache_rs

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("kind", ["cache", "deque", "index"])
@pytest.mark.parametrize("module", [diskcache, diskcache_rs], ids=["disk", "diskcache_rs"])
def test_threads_get_the_same_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: Any, kind: str) -> None:
    both = threading.Barrier(2)

    class Meeting(module.FanoutCache):  # type: ignore[misc]
        """Each thread waits until the other one has found no part either."""

        def _flexcache_below(self, kind: str, name: str) -> str:
            both.wait(MANY)
            return super()._flexcache_below(kind, name)  # type: ignore[no-any-return]

    fanout = Meeting(tmp_path, shards=1)
    found: list[Any] = []
    closed: list[Any] = []
    close = diskcache.Cache.close
    monkeypatch.setattr(diskcache.Cache, "close", lambda cache: (closed.append(cache), close(cache)))
    threads = [threading.Thread(target=lambda: found.append(getattr(fanout, kind)("jobs"))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(MANY)
    assert len(found) == 2
    assert found[0] is found[1] is getattr(fanout, kind)("jobs")
    # The other thread's object was closed.
    kept = found[0] if kind == "cache" else found[0].cache
    assert len(closed) == 1
    assert closed[0] is not kept
    fanout.close()


@pytest.mark.parametrize("kind", ["cache", "deque", "index"])
@pytest.mark.parametrize("module", [diskcache, diskcache_rs], ids=["disk", "diskcache_rs"])
def test_a_part_is_returned_though_another_thread_closes(tmp_path: Path, module: Any, kind: str) -> None:
    class Closed(dict[str, Any]):
        """Another thread closes the cache as soon as a part is here."""

        def __setitem__(self, name: str, part: Any) -> None:
            super().__setitem__(name, part)
            self.clear()

        def setdefault(self, name: str, part: Any) -> Any:
            kept = super().setdefault(name, part)
            self.clear()
            return kept

    fanout = module.FanoutCache(tmp_path, shards=1)
    fanout._caches, fanout._deques, fanout._indexes = Closed(), Closed(), Closed()
    assert len(getattr(fanout, kind)("jobs")) == 0
    fanout.close()
