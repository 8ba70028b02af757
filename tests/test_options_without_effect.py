"""An option that has no effect without another one is refused, and the error names both. Its default is not refused."""

from __future__ import annotations

import functools
import math
from datetime import datetime, timedelta, timezone
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


CACHES: dict[str, Callable[[Any], Callable[..., Any]]] = {
    "memoize": lambda default_ttl: functools.partial(memoize, default_ttl=default_ttl),
    "memoize, cache": lambda default_ttl: functools.partial(memoize, cache=FlexCache(default_ttl=default_ttl)),
    "FlexCache.memoize": lambda default_ttl: FlexCache(default_ttl=default_ttl).memoize,
    "per_instance": lambda default_ttl: functools.partial(memoize, per_instance=True, default_ttl=default_ttl),
}


@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("soft_ttl", [30, 30.0, 60, timedelta(seconds=30), timedelta(minutes=1)], ids=str)
@pytest.mark.parametrize("ttl", [30, 30.0, timedelta(seconds=30)], ids=str)
def test_a_soft_ttl_that_is_not_shorter_than_the_ttl_is_refused(cache: str, soft_ttl: Any, ttl: Any) -> None:
    """Equal times too: a result that has expired is computed, not refreshed."""
    given: list[tuple[Any, dict[str, Any], str]] = [(None, {"ttl": ttl}, "ttl"), (90, {"ttl": ttl}, "ttl")]
    for default_ttl, options, name in [*given, (ttl, {}, "default_ttl")]:
        with pytest.raises(ValueError, match=rf"^soft_ttl=.* has no effect with {name}="):
            CACHES[cache](default_ttl)(soft_ttl=soft_ttl, **options)


@pytest.mark.parametrize("cache", CACHES)
def test_a_soft_ttl_that_may_be_shorter_is_accepted(cache: str) -> None:
    """How long a function and a datetime let a result live depends on the call."""
    soon = datetime.now(timezone.utc) + timedelta(seconds=10)
    for default_ttl, options in (
        (None, {"soft_ttl": 30}),
        (20, {"soft_ttl": 30, "ttl": 40}),
        (40, {"soft_ttl": 30}),
        (None, {"soft_ttl": 30, "ttl": lambda _: 20}),
        (None, {"soft_ttl": 30, "ttl": soon}),
        (soon, {"soft_ttl": 30}),
        (None, {"soft_ttl": math.inf, "ttl": 20}),
        (None, {"soft_ttl": 30, "ttl": math.inf}),
    ):
        assert callable(CACHES[cache](default_ttl)(**options))


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
