"""Reports about a cache for people: `describe()` as text, and a table for notebooks."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from flexcache_rs import _core

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def _of_most(count: int, most: int) -> str:
    return f"{count:,} of at most {most:,} ({count / most:.0%})" if most else f"{count:,}, no limit"


def _size(number: float) -> str:
    for unit in _UNITS:
        if number < 1024 or unit == _UNITS[-1]:
            return f"{number:,.0f} {unit}" if unit == "B" else f"{number:,.1f} {unit}"
        number /= 1024
    raise AssertionError


def _lines(cache: _core.FlexCache[Any, Any]) -> list[tuple[str, str]]:
    """Return the lines of a description, as pairs of label and text."""
    stats = cache.stats()
    policy = cache.eviction_policy
    lookups = stats.hits + stats.misses
    lines = [
        ("policy", policy if isinstance(policy, str) else type(policy).__name__),
        ("entries", _of_most(cache.items, cache.max_items)),
    ]
    if cache.max_bytes or cache.bytes != cache.items:
        lines.append(("size", _of_most(cache.bytes, cache.max_bytes)))
    return [
        *lines,
        ("tables", _size(cache.__sizeof__())),
        ("lookups", f"{lookups:,}"),
        ("hits", f"{stats.hits:,} ({stats.hit_ratio:.1%})" if lookups else "0"),
        ("misses", f"{stats.misses:,}"),
        ("loads", f"{stats.loads:,}"),
        ("insertions", f"{stats.insertions:,}"),
        ("updates", f"{stats.updates:,}"),
        ("evictions", f"{stats.evictions:,}"),
        ("expirations", f"{stats.expirations:,}"),
        ("removals", f"{stats.removals:,}"),
        ("hook errors", f"{stats.hook_errors:,}"),
    ]


def _title(cache: _core.FlexCache[Any, Any]) -> str:
    name = type(cache).__name__
    return name if cache.name is None else f"{name} {cache.name!r}"


def describe(self: _core.FlexCache[Any, Any]) -> str:
    """Return a report for people, as text: what the cache holds and what it counted. Print it.

    O(1), and O(1) more for each entry that has expired.

    >>> from flexcache_rs import FlexCache
    >>> cache = FlexCache(max_items=10, name="users")
    >>> cache["a"] = 1
    >>> _ = cache.get("a"), cache.get("b")
    >>> lines = cache.describe().splitlines()
    >>> lines[0], lines[2]
    ("FlexCache 'users'", '  entries      1 of at most 10 (10%)')
    """
    lines = [f"  {label:12} {text}" for label, text in _lines(self)]
    return "\n".join([_title(self), *lines])


def repr_html(self: _core.FlexCache[Any, Any]) -> str:
    """Return describe() as an HTML table, for notebooks."""
    from html import escape  # Not imported before it is used.

    rows = [
        f"<tr><th style='text-align:left'>{escape(label)}</th><td style='text-align:right'>{escape(text)}</td></tr>"
        for label, text in _lines(self)
    ]
    return f"<table><caption>{escape(_title(self))}</caption>{''.join(rows)}</table>"
