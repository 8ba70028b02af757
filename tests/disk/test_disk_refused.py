"""Calls of deques, mappings and fan-out caches that are refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from flexcache_rs.disk import Cache, Deque, FanoutCache, Index

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("kind", [Deque, Index])
def test_what_is_no_cache(kind: Any) -> None:
    with pytest.raises(TypeError, match="cache must be a Cache, not dict"):
        kind.fromcache({})


@pytest.mark.parametrize("index", [3, -4, 2**70])
def test_an_index_beyond_the_ends(tmp_path: Path, index: int) -> None:
    with Deque("abc", str(tmp_path)) as stored:
        for call in (stored.__getitem__, stored.__delitem__):
            with pytest.raises(IndexError, match="deque index out of range"):
                call(index)
        assert list(stored) == ["a", "b", "c"]


def test_the_ends_of_nothing(tmp_path: Path) -> None:
    with Deque(directory=str(tmp_path / "deque")) as stored, Index(str(tmp_path / "index")) as index:
        for call in (stored.pop, stored.popleft, stored.peek, stored.peekleft):
            with pytest.raises(IndexError, match="empty deque"):
                call()
        with pytest.raises(KeyError, match="absent"):
            index.pop("absent")


@pytest.mark.parametrize("steps", ["1", 1.0, None])
def test_a_rotation_by_what_is_no_int(tmp_path: Path, steps: Any) -> None:
    with Deque("abc", str(tmp_path)) as stored:
        with pytest.raises(TypeError, match="steps must be an int"):
            stored.rotate(steps)
        assert list(stored) == ["a", "b", "c"]


@pytest.mark.parametrize("name", ["", ".", "..", "a/../../b", "/etc", "a//b", "a\0b", 5, None])
@pytest.mark.parametrize("part", ["cache", "deque", "index"])
def test_names_of_parts_that_lead_elsewhere(tmp_path: Path, part: str, name: Any) -> None:
    with FanoutCache(tmp_path / "fanout", shards=1) as fanout:
        with pytest.raises(ValueError, match="name must be a path inside the directory"):
            getattr(fanout, part)(name)
        assert {path.name for path in (tmp_path / "fanout").iterdir()} == {"000"}


def test_settings_that_there_are_not(tmp_path: Path) -> None:
    with FanoutCache(tmp_path / "fanout", shards=1) as fanout, Cache(tmp_path / "cache") as cache:
        with pytest.raises(AttributeError, match="cannot access _rules in cache shard"):
            _ = fanout._rules
        with pytest.raises(AssertionError, match="retry must be True"):
            fanout.transact(retry=False)
        with pytest.raises(TypeError, match="key must be the name of a setting"):
            cache.reset(5)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="key must be a setting or counter"):
            cache.reset("absent")
