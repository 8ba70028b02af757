"""An option that has no effect without another one is refused, and the error names both. Its default is not refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from flexcache_rs import FlexCache, memoize
from flexcache_rs.remote.options import MAX_STALE, max_stale
from flexcache_rs.sessions import sync

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

OPTIONS: list[tuple[Callable[..., Any], str, Any, str]] = [
    (FlexCache, "coherence", None, "store="),
    (FlexCache, "coherence", 5, "store="),
    (FlexCache, "lease", 5, "store="),
    (FlexCache, "lease", None, "store="),
    (FlexCache, "lease_wait", 0, "store="),
    (FlexCache, "negative_ttl", 5, "store="),
    (FlexCache, "record_limit", 10, "record="),
    (memoize, "coherence", None, "store="),
    (memoize, "record_limit", 10, "record="),
    (lambda typed: memoize(key=int, typed=typed), "typed", True, "key"),
    (lambda ignore: memoize(key=int, ignore=ignore), "ignore", ("a",), "key"),
    (memoize, "jitter", 0.1, "ttl"),
    (memoize, "early_refresh", 1.0, "ttl"),
    (memoize, "stale_if_error", 5, "ttl"),
    (memoize, "exception_ttl", 5, "cache_exceptions"),
    (lambda policy: sync.connect("memory://", policy=policy), "policy", "lfu", "max_items or max_bytes"),
    (lambda keep: sync.connect("memory://", keep=keep), "keep", 3, "snapshot"),
    (lambda max_stale_: max_stale(max_stale_, "miss"), "max_stale_", 5.0, "on_error='stale'"),
]


@pytest.mark.parametrize(("made", "option", "value", "needed"), OPTIONS)
def test_an_option_without_effect_is_refused(made: Callable[..., Any], option: str, value: Any, needed: str) -> None:
    with pytest.raises(ValueError, match=option.rstrip("_")) as raised:
        made(**{option: value})
    assert needed in str(raised.value)


@pytest.mark.parametrize(
    "defaults",
    [
        {"coherence": "strict", "lease": 30, "lease_wait": 30.0, "negative_ttl": None, "record_limit": 10_000_000},
        {"coherence": "strict", "store": None, "record_limit": 10_000_000, "record": None},
    ],
)
def test_a_default_is_not_refused(defaults: dict[str, Any]) -> None:
    """Programs that choose the store or the record at run time pass them."""
    assert FlexCache(**defaults).items == 0
    assert max_stale(MAX_STALE, "raise") == MAX_STALE


def test_with_the_other_option_it_is_accepted(tmp_path: Path) -> None:
    """Together, both options have their effect."""
    FlexCache(store=FlexCache(), coherence=5, lease=5, lease_wait=5, negative_ttl=5)
    with FlexCache[str, int](record=tmp_path / "trace", record_limit=10):
        pass
    assert memoize(record=tmp_path / "other", record_limit=10, ttl=60, jitter=0.1)(int)("7") == 7
    assert memoize(cache_exceptions=True, exception_ttl=60, jitter=0.1)(int)("7") == 7
    with sync.connect("memory://", policy="lfu", max_items=10) as session:
        session.set("key", 1)
    assert max_stale(5.0, "stale") == 5.0
