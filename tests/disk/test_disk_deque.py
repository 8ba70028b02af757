"""Calls of `Deque` that consist of several writes. Each takes place as a whole, or not at all."""

from __future__ import annotations

import contextlib
import copy
import pickle
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from interrupting import INTERRUPTS, points

import flexcache_rs.disk as diskcache

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STEPS = [0, 1, -1, 2, 7, -9]


@pytest.mark.parametrize("how", INTERRUPTS)
@pytest.mark.parametrize("steps", [2, -2])
def test_an_interrupted_rotation_loses_no_value(tmp_path: Path, steps: int, how: str) -> None:
    with diskcache.Deque("abcde", str(tmp_path)) as stored:
        before = deque("abcde")
        for at in points(lambda: stored.rotate(steps), how):
            rotated = before.copy()
            rotated.rotate(steps)
            left = deque(stored)
            assert left in (before, rotated), f"after point {at}"
            before = left


@pytest.mark.parametrize("how", INTERRUPTS)
def test_an_interrupted_maxlen_is_not_exceeded(tmp_path: Path, how: str) -> None:
    with diskcache.Deque(directory=str(tmp_path)) as stored:

        def limit() -> None:
            stored.maxlen = 2

        for at in points(limit, how):
            assert len(stored) <= stored.maxlen, f"after point {at}"
            stored.maxlen = None
            stored.clear()
            stored.extend("abcd")


def test_a_new_maxlen_holds_as_soon_as_others_can_append(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with diskcache.Deque("abcd", str(tmp_path)) as stored:
        transact = stored.cache.transact

        @contextlib.contextmanager
        def then_append(retry: bool) -> Iterator[None]:
            monkeypatch.undo()
            with transact(retry):
                yield
            # As another thread may, which has waited for the end of the transaction.
            stored.append("e")

        monkeypatch.setattr(stored.cache, "transact", then_append)
        stored.maxlen = 2
        assert list(stored) == ["d", "e"]


def test_a_maxlen_whose_commit_fails_is_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with diskcache.Deque("abcd", str(tmp_path), maxlen=10) as stored:
        transact = stored.cache.transact

        @contextlib.contextmanager
        def then_fail(retry: bool) -> Iterator[None]:
            with transact(retry):
                yield
                raise diskcache.Timeout

        monkeypatch.setattr(stored.cache, "transact", then_fail)
        with pytest.raises(diskcache.Timeout):
            stored.maxlen = 2
        assert (stored.maxlen, list(stored)) == (10, list("abcd"))


@pytest.mark.parametrize("values", ["", "a", "abc"])
@pytest.mark.parametrize("steps", STEPS)
def test_rotations_are_those_of_a_deque(tmp_path: Path, values: str, steps: int) -> None:
    with diskcache.Deque(values, str(tmp_path)) as stored:
        kept = deque(values)
        stored.rotate(steps)
        kept.rotate(steps)
        assert deque(stored) == kept


def test_others_see_a_whole_rotation(tmp_path: Path) -> None:
    with diskcache.Deque("abc", str(tmp_path)), diskcache.Deque(directory=str(tmp_path)) as other:
        seen: list[list[str]] = []

        class Watched(diskcache.Deque):
            def _appendleft(self, value: object) -> None:
                seen.append(list(other))
                super()._appendleft(value)

        with Watched(directory=str(tmp_path)) as rotating:
            rotating.rotate(2)
        assert (seen, list(other)) == ([list("abc")] * 2, ["b", "c", "a"])


def test_values_whose_files_are_gone_are_skipped(tmp_path: Path) -> None:
    """Rotating and a smaller limit go on with what is there."""
    with diskcache.Deque([bytes([number]) * 100_000 for number in range(3)], str(tmp_path)) as stored:
        stored.append("small")
        for file in tmp_path.rglob("*.val"):
            file.unlink()
        stored.rotate(3)
        stored.maxlen = 1
        assert (stored.maxlen, list(stored)) == (1, ["small"])
        stored.maxlen = 0
        assert (stored.maxlen, len(stored)) == (0, 0)


@pytest.mark.parametrize("part", ["deque", "index"])
@pytest.mark.parametrize(
    "options",
    [
        {"serializer": diskcache.JSONSerializer()},
        {"unreadable": "missing"},
        {"disk": diskcache.JSONDisk},
    ],
    ids=lambda options: next(iter(options)),
)
def test_a_copy_reads_what_the_original_wrote(tmp_path: Path, part: str, options: dict[str, Any]) -> None:
    """A plain cache of the directory would refuse the serializer, or return the bytes that the disk class stores."""
    with diskcache.FanoutCache(tmp_path, shards=2, **options) as fanout:
        stored: Any = getattr(fanout, part)("part")
        if part == "deque":
            stored.append({"a": [1]})
        else:
            stored["key"] = {"a": [1]}
        for other in (copy.copy(stored), pickle.loads(pickle.dumps(stored))):
            assert (other.peek() if part == "deque" else other["key"]) == {"a": [1]}
            assert (type(other), other.directory) == (type(stored), stored.directory)
            assert other.cache._flexcache_unreadable == stored.cache._flexcache_unreadable


def test_a_copy_of_a_deque_in_shards(tmp_path: Path) -> None:
    """`fromcache` takes any cache with transactions."""
    with diskcache.FanoutCache(tmp_path, shards=2) as fanout:
        stored = diskcache.Deque.fromcache(fanout, "ab", maxlen=2)  # type: ignore[arg-type]
        for other in (stored.copy(), pickle.loads(pickle.dumps(stored))):
            other.append("c")
            assert (list(other), other.maxlen) == (list(stored), 2)


def test_a_queue_needs_a_disk_that_finds_its_keys(tmp_path: Path) -> None:
    """`JSONDisk` compresses every key. A value could be pushed, and not be found again."""
    with diskcache.FanoutCache(tmp_path / "shards", shards=2, disk=diskcache.JSONDisk) as fanout:
        for prefix in (None, "jobs"):
            with pytest.raises(TypeError, match="unlike JSONDisk"):
                fanout.push(1, prefix=prefix)
        assert len(fanout) == 0
    with diskcache.Cache(tmp_path / "one", disk=diskcache.JSONDisk) as cache:
        cache.push(1)
        assert cache.peek() == (500_000_000_000_000, 1)
        with pytest.raises(TypeError, match="500000000000000 is a key of a queue"):
            list(cache)


class WithItsOwnState(diskcache.Cache):
    """A cache that is pickled in a form of its own."""

    def __getstate__(self) -> Any:
        return {"directory": self.directory}

    def __setstate__(self, state: Any) -> None:
        self.__init__(state["directory"])  # type: ignore[misc]


def test_a_deque_is_copied_whatever_the_state_of_its_cache_is(tmp_path: Path) -> None:
    stored = diskcache.Deque.fromcache(WithItsOwnState(tmp_path), "ab")
    for another in (stored.copy(), copy.copy(stored), pickle.loads(pickle.dumps(stored))):
        assert list(another) == ["a", "b"]


def test_setdefault_pickles_the_default_without_a_lock(tmp_path: Path) -> None:
    """Pickling runs the user's code, which may take as long as it likes. Others write meanwhile."""
    written = []

    class Default:
        def __reduce__(self) -> Any:
            with diskcache.Cache(tmp_path, timeout=0) as cache, ThreadPoolExecutor(1) as pool:
                written.append(pool.submit(cache.set, "other", 1).result(60))
            return str, ("default",)

    with diskcache.Index(str(tmp_path)) as stored:
        assert stored.setdefault("key", Default()) == "default"
    assert written
    assert all(written)
