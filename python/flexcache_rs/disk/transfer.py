"""Export of a cache directory to a stream of lines, and import of it. docs/disk.md describes the format."""

from __future__ import annotations

import base64
import json
import math
import re
import time
from typing import TYPE_CHECKING, Any, NoReturn, cast

from flexcache_rs import __version__
from flexcache_rs.disk.format import DBNAME, METADATA, MODES, MOST_SHARDS
from flexcache_rs.disk.raw_directory import (
    KINDS,
    Datum,
    Entry,
    Found,
    Reader,
    UnusableError,
    Writer,
    create,
    find,
    reading,
    settings,
    usable_settings,
)

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import IO

FORMAT = "flexcache_disk_export"
VERSION = 1

# Lone surrogates are no part of a folder's name, except those that stand for bytes which are no text.
_NAME = re.compile(rf"(?:{'|'.join(KINDS)})(?:/[^/\\:\x00\ud800-\udc7f\udd00-\udfff]+)+")


def encode(datum: Datum) -> Any:
    """Encode a column's value for JSON. Raises UnicodeEncodeError for invalid text."""
    if isinstance(datum, bytes):
        return {"base64": base64.b64encode(datum).decode()}
    if isinstance(datum, float) and not math.isfinite(datum):
        return {"float": repr(datum)}
    if isinstance(datum, str):
        datum.encode()
    return datum


def decode(given: Any) -> Datum:
    """Decode a column's value from JSON. Raises ValueError if it is invalid."""
    if given is None or (isinstance(given, int | float | str) and not isinstance(given, bool)):
        if isinstance(given, int) and not -(2**63) <= given < 2**63:
            raise ValueError("an int that does not fit 64 bits")
        if isinstance(given, str):
            given.encode()
        return given
    if isinstance(given, dict) and len(cast("dict[str, Any]", given)) == 1:
        ((kind, text),) = cast("dict[str, Any]", given).items()
        if kind == "base64" and isinstance(text, str):
            return base64.b64decode(text, validate=True)
        if kind == "float" and text in ("inf", "-inf", "nan"):
            return float(text)
    raise ValueError("neither a number nor a text nor base64")


def _count(connection: sqlite3.Connection) -> int:
    """Return the directory's own count of entries. Raises DatabaseError if the file is not a database."""
    counted = settings(connection).get("count")
    return counted if isinstance(counted, int) else 0


class Exporter:
    """Writes the live entries of the caches in a directory."""

    def __init__(self, directory: Path) -> None:
        self.found = find(directory)
        self.total = 0
        for found in self.found:
            for folder in found.databases:
                with reading(folder / DBNAME) as connection:
                    self.total += _count(connection)
        self.written = 0
        self.damaged = False
        self.seen = 0
        self.expired = 0
        self.missing = 0

    def write(self, file: IO[bytes], report: Callable[[int], None]) -> None:
        """Write everything. Calls `report` with the number of entries processed so far."""

        def line(content: dict[str, Any]) -> None:
            file.write(json.dumps(content, separators=(",", ":")).encode() + b"\n")

        line({FORMAT: VERSION, "made_by": f"flexcache-rs {__version__}", "made": time.time()})
        for found in self.found:
            line({"cache": found.name, "shards": found.shards, "settings": _settings(found)})
            for folder in found.databases:
                reader = Reader(folder, time.time())
                for entry in reader.entries():
                    try:
                        described = _described(entry)
                    except UnicodeEncodeError:
                        reader.missing += 1
                        continue
                    line(described)
                    for chunk in entry.chunks or ():
                        line({"data": base64.b64encode(chunk).decode()})
                    self.written += 1
                    report(self.written + self.expired + reader.expired)
                self.expired += reader.expired
                self.missing += reader.missing
                self.damaged = self.damaged or reader.damaged
        line({"entries": self.written})
        file.flush()


def _compare_serializers(there: Found, given: dict[str, Any]) -> None:
    """Check that both directories have the same serializer, because entries are copied without conversion."""
    with reading(there.databases[0] / DBNAME) as connection:
        ours = settings(connection).get("serializer", "pickle")
    theirs = given.get("serializer", "pickle")
    if ours != theirs:
        raise UnusableError(f"the directory has the serializer {ours!r}, and the export {theirs!r}")


def _settings(found: Found) -> dict[str, Any]:
    with reading(found.databases[0] / DBNAME) as connection:
        recorded = settings(connection)
    limit = recorded.get("size_limit")
    if found.shards and isinstance(limit, int | float):
        recorded["size_limit"] = limit * found.shards
    return {key: encode(value) for key, value in recorded.items() if key not in METADATA}


def _described(entry: Entry) -> dict[str, Any]:
    """Return the line of an entry as a dict. Usual values are left out."""
    content: dict[str, Any] = {"key": encode(entry.key)}
    if not entry.raw:
        content["pickled"] = True
    content["mode"] = entry.mode
    if entry.length is None:
        content["value"] = encode(entry.value)
    else:
        content["bytes"] = entry.length
    for name in ("expire_time", "tag", "store_time", "access_time", "access_count"):
        value = getattr(entry, name)
        if value is not None and value != 0:
            content[name] = encode(value)
    if entry.tag == 0:
        content["tag"] = 0
    return content


class Importer:
    """Reads the output of `Exporter` into a directory."""

    def __init__(self, directory: Path, file: IO[bytes], *, replace: bool, shards: int | None) -> None:
        self.directory = directory
        self.written = 0
        self.kept = 0
        self.expired = 0
        self._lines = self._parsed(file)
        self._number = 0
        self._replace = replace
        self._shards = shards
        head = next(self._lines, None)
        if head is None or FORMAT not in head:
            raise UnusableError("the input is no export of a cache, as its first line shows")
        if head[FORMAT] != VERSION:
            raise UnusableError(f"the export has version {head[FORMAT]!r}; this flexcache-rs reads version {VERSION}")

    def _fail(self, what: str) -> NoReturn:
        raise UnusableError(f"line {self._number} of the export: {what}")

    def _parsed(self, file: IO[bytes]) -> Iterator[dict[str, Any]]:
        for number, text in enumerate(file, 1):
            self._number = number
            try:
                content = json.loads(text)
            except (ValueError, RecursionError):
                content = None
            if not isinstance(content, dict):
                self._fail("not a JSON object" if number > 1 else "not a JSON object: is this an export?")
            yield content

    def read(self, report: Callable[[int], None]) -> None:
        """Read everything. Calls `report` with the number of entries read so far."""
        now = time.time()
        content = next(self._lines, None)
        count = 0
        while content is not None and "cache" in content:
            with Writer(self._cache(content), replace=self._replace) as writer:
                while (content := next(self._lines, None)) is not None and "key" in content:
                    count += 1
                    entry = self._entry(content)
                    if entry.expire_time is not None and entry.expire_time <= now:
                        self.expired += 1
                        for _ in entry.chunks or ():
                            pass
                    else:
                        try:
                            writer.put(entry)
                        except OverflowError as error:
                            self._fail(str(error))
                    report(count)
            self.written += writer.written
            self.kept += writer.kept
        if content is None:
            raise UnusableError(f"the export ends too early, after {count:,} entries; they have been imported")
        if content.get("entries") != count:
            self._fail(f"{content!r:.80} where {{'entries': {count}}} was expected")

    def _cache(self, content: dict[str, Any]) -> Found:
        """Return the cache for the following entries. Creates it if it does not exist."""
        name, shards, given = content["cache"], content.get("shards"), content.get("settings", {})
        if not isinstance(given, dict) or not (shards is None or (type(shards) is int and 0 < shards <= MOST_SHARDS)):
            self._fail("a cache with wrong shards or settings")
        if name == "":
            there, shards, folders = self._own(shards)
        elif isinstance(name, str) and _NAME.fullmatch(name) and not {".", ".."} & set(name.split("/")):
            shards, folders = None, [self.directory.joinpath(*name.split("/"))]
            if folders[0].resolve() != self.directory.resolve().joinpath(*name.split("/")):
                self._fail(f"{name!r:.80} is a link out of the directory")
            there = Found(name, tuple(folders), None) if (folders[0] / DBNAME).exists() else None
        else:
            self._fail(f"{name!r:.80} is no name of a cache")
        try:
            usable = usable_settings({key: decode(value) for key, value in cast("dict[str, Any]", given).items()})
        except ValueError as error:
            self._fail(f"a setting is {error}")
        if there is not None:
            _compare_serializers(there, usable)
            return there
        if shards and "size_limit" in usable:
            usable["size_limit"] /= shards
        for folder in folders:
            create(folder, usable)
        return Found(name, tuple(folders), shards)

    def _own(self, shards: int | None) -> tuple[Found | None, int | None, list[Path]]:
        """Return the directory's own cache if it exists, else the number of shards and the folders to create."""
        there = next((found for found in self._there() if not found.name), None)
        if self._shards is not None:
            shards = self._shards or None
        if there is not None and self._shards is not None and there.shards != shards:
            has = "is not divided" if there.shards is None else f"has {there.shards} shards"
            raise UnusableError(f"{self.directory} {has}: leave --shards out")
        return there, shards, [self.directory / f"{number:03d}" for number in range(shards or 0)] or [self.directory]

    def _there(self) -> list[Found]:
        try:
            return find(self.directory)
        except UnusableError:
            return []

    def _entry(self, content: dict[str, Any]) -> Entry:
        try:
            entry = Entry(decode(content["key"]), not content.get("pickled", False), int(content["mode"]))
            # SQLite stores NaN as NULL.
            if entry.key is None or entry.key != entry.key or entry.mode not in MODES:
                raise ValueError("no entry")
            if "bytes" in content:
                entry.length = int(content["bytes"])
                if entry.length < 0:
                    raise ValueError("the length is less than 0")
                entry.chunks = self._data(entry.length)
            else:
                entry.value = decode(content["value"])
            entry.tag = decode(content.get("tag"))
            for name in ("expire_time", "store_time", "access_time"):
                value = decode(content.get(name))
                if not (value is None or isinstance(value, int | float)) or value != value:
                    raise ValueError(f"{name} is no number")
                setattr(entry, name, value)
            count: Any = decode(content.get("access_count", 0))
            entry.access_count = int(count)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            self._fail(f"a wrong entry: {what}")
        return entry

    def _data(self, length: int) -> Iterator[bytes]:
        """Yield the content of a file, which follows the line of its entry."""
        while length > 0:
            content = next(self._lines, None)
            try:
                chunk = base64.b64decode((content or {})["data"], validate=True)
            except (KeyError, TypeError, ValueError):
                chunk = b""
            length -= len(chunk)
            if not chunk or length < 0:
                self._fail("the data of the entry above is damaged")
            yield chunk
