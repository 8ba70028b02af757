"""A directory to migrate from, and its entries."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flexcache_rs._core import disk_open_value
from flexcache_rs.disk.migrate.plain_values import UnreadableError, Value, unpickled


@dataclass
class Item:
    """An entry of a source in its original form."""

    key: str
    load: Callable[[], bytes]
    expire_time: float | None = None
    tag: str | None = None
    store_time: float | None = None


@dataclass
class Source:
    """A directory to migrate from."""

    name: str
    folders: list[Path]
    sharded: bool
    read: Callable[[Path], Iterator[Item]]
    total: int = 0
    size: int = 0
    size_limit: int | None = None
    evicts: bool = True
    decode: Callable[[bytes], Value] = unpickled
    decode_key: Callable[[str], Any] = str

    def items(self) -> Iterator[Item]:
        """Yield all entries."""
        for folder in self.folders:
            yield from self.read(folder)


def loader(value: Any) -> Callable[[], bytes]:
    """Return a function that returns a value of the source's table."""

    def load() -> bytes:
        if isinstance(value, bytes):
            return value
        raise UnreadableError("no value")

    return load


def file_loader(folder: Path, name: Any) -> Callable[[], bytes]:
    """Return a function that loads a file of a folder. The source chose the name, which must not leave the folder."""

    def load() -> bytes:
        try:
            file = disk_open_value(str(folder), name) if isinstance(name, str) else None
        except OSError as error:
            raise UnreadableError(f"a file of a value: {error.strerror}") from error
        if file is None:
            raise UnreadableError("a file of a value is missing, or not inside the directory")
        with file:
            return file.read()

    return load


def failing(error: UnreadableError) -> Callable[[], bytes]:
    """Return a function that raises an error, for an entry that cannot be loaded."""

    def load() -> bytes:
        raise error

    return load
