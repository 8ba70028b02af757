"""Directories of diskcache_rs: its `FastCache` and `PickleCache`."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

from flexcache_rs.disk.migrate.plain_values import UnreadableError
from flexcache_rs.disk.migrate.source import Item, Source, failing, loader
from flexcache_rs.disk.raw_directory import UnusableError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME = "diskcache_rs (FastCache or PickleCache)"
INDEX = "index.json"


def _read_index_json(folder: Path) -> dict[str, Any]:
    try:
        content: Any = json.loads((folder / INDEX).read_bytes())
    except (OSError, ValueError) as error:
        raise UnusableError(f"{folder / INDEX}: cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise UnusableError(f"{folder / INDEX}: not an index of diskcache_rs")
    return cast("dict[str, Any]", content)


def open_source(source: Source) -> None:
    """Set the decoder of a source, and its number and size of entries."""
    for folder in source.folders:
        content = _read_index_json(folder)
        source.total += len(content)
        source.size += sum(map(_json_size, content.values()))


def _json_size(item: Any) -> int:
    try:
        return len(item["data"])
    except (KeyError, TypeError):
        return 0


def read(folder: Path) -> Iterator[Item]:
    """Yield the entries of a folder."""
    for key, item in _read_index_json(folder).items():
        yield _of_json(key, item)


def _of_json(key: str, item: Any) -> Item:
    try:
        data, expires = bytes(item["data"]), item.get("expires_at")
        expire_time = None if expires is None else _timestamp(expires)
        return Item(key, loader(data), expire_time, store_time=_timestamp(item["created_at"]))
    except (AttributeError, KeyError, TypeError, ValueError):
        return Item(key, failing(UnreadableError("damaged record")))


def _timestamp(text: str) -> float:
    # Before Python 3.11, fromisoformat() accepts only three or six digits after the point, and no Z.
    moment, point, rest = text.removesuffix("Z").partition(".")
    return datetime.fromisoformat(f"{moment}{point}{rest[:6].ljust(6, '0') if point else ''}+00:00").timestamp()
