"""Traces: sequences of accesses, which are read from files or generated."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import random
import struct
import zlib
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path

from flexcache_rs import _core
from flexcache_rs._terminal import printable

GZIP = b"\x1f\x8b"
ZSTD = b"\x28\xb5\x2f\xfd"
FORMATS = ("plain", "oracle", "lis", "csv")
SUFFIXES = {
    ".txt": "plain",
    ".trace": "plain",
    ".oracleGeneral": "oracle",
    ".bin": "oracle",
    ".lis": "lis",
    ".csv": "csv",
}
"""The formats of files, by the ends of their names, before any `.gz`."""
RECORD = struct.Struct("<IQIq")
"""A record of libCacheSim's oracleGeneral: time, key, size, and the time of the next access to the key."""
LARGEST_SIZE = 2**63 - 1
"""The largest size of an entry and of a cache. The sum of both fits the 64 bits in which a cache adds sizes."""
MOST_ENTRIES = 2**32 - 1
"""The largest number of different keys of a trace, because keys are numbered in 32 bits."""
MOST_MADE_UP = 10**8
"""The largest number of requests or keys of a generated workload, all of which is in memory."""
MOST_BLOCKS = 1 << 20
"""The largest number of blocks in a line of a `.lis` trace."""
PIECE = 1 << 20
"""The number of bytes that are read at once."""
REPORTED = 5
"""The number of malformed lines that are reported one by one. Further ones are only counted."""


Access = tuple[bytes | int, int | None]
"""A key and its size. The size is None if the trace has no sizes."""


class TraceError(Exception):
    """A trace that cannot be used; the message names the file and, where there is one, the line."""


@dataclass
class Trace:
    """A sequence of accesses.

    Attributes:
        name: the file's name, or what was made up.
        keys: for each access a number that stands for its key: 0, 1, … in order of first appearance.
        sizes: for each access the size of what is accessed, or None where the trace says nothing of it.
        requests: how many accesses there are.
        distinct: how many different keys there are.
        skipped: how many malformed lines were left out.
        complaints: what was wrong with the first of these.
    """

    name: str
    keys: list[int] = field(default_factory=list[int])
    sizes: list[int] | None = None
    requests: int = 0
    distinct: int = 0
    skipped: int = 0
    complaints: list[str] = field(default_factory=list[str])

    def forget(self) -> None:
        """Lets the accesses go, which take most of the memory."""
        self.keys, self.sizes = [], None

    @property
    def footprint(self) -> int:
        """The sizes of all different keys together, each as it was last; O(n)."""
        return sum(dict(zip(self.keys, self.sizes, strict=True)).values()) if self.sizes else self.distinct


@dataclass(frozen=True)
class Format:
    """How accesses are written.

    Attributes:
        name: one of FORMATS, or "auto" for what the file's name ends with.
        key_column: the column of a CSV file that has the keys.
        size_column: the one that has the sizes; None for "size", where there is one.
    """

    name: str = "auto"
    key_column: str = "key"
    size_column: str | None = None

    def of(self, path: str) -> str:
        """The format of a file of this name."""
        suffixes = Path(path).suffixes
        known = (SUFFIXES[suffix] for suffix in reversed(suffixes) if suffix in SUFFIXES)
        return next(known, "plain") if self.name == "auto" else self.name


def read(path: str, *, skip_malformed: bool = False, form: Format = Format()) -> Trace:
    """Read a file of accesses.

    A plain one is text with one access a line: a key, or a key and a size, separated by blanks; empty lines and lines
    that begin with # are left out, and the first line decides whether there are sizes. Files compressed with gzip are
    recognised by their content. O(n).

    Args:
        path: the file; "-" for standard input.
        skip_malformed: go on after a malformed line, rather than stop.
        form: how the accesses are written.

    Raises:
        TraceError: where the file cannot be read, a line is malformed, or nothing is in it.
    """
    name = "standard input" if path == "-" else printable(Path(path).name)
    trace = Trace(name)
    try:
        with open(0 if path == "-" else path, "rb", closefd=path != "-") as file:
            kind = form.of(path)
            if kind == "plain":
                _parse(trace, file, skip_malformed)
            else:
                _take(trace, PARSERS[kind](_unzipped(file), form), skip_malformed)
    except TraceError as error:
        # Add the file's name to messages of parsers, which do not know it.
        text = str(error)
        raise (error if text.startswith(name) else TraceError(f"{name}, {text}")) from None
    except MemoryError as error:
        # A small compressed file can expand a thousandfold.
        raise TraceError(f"{printable(path)}: there is not enough memory for what it holds") from error
    except (OSError, EOFError, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise TraceError(f"{printable(path)}: {reason}") from error
    if not trace.keys:
        raise TraceError(f"{printable(path)}: there is no access in it")
    return trace


def _unzipped(file: io.BufferedReader) -> io.BufferedIOBase:
    begins = file.peek(4)[:4]
    if begins == ZSTD:
        raise TraceError("compressed with zstd, which cannot be read: decompress it first")
    return gzip.GzipFile(fileobj=file) if begins[:2] == GZIP else file


def _parse(trace: Trace, file: io.BufferedReader, skip_malformed: bool) -> None:
    whole = _unzipped(file)
    # Read in pieces, because a single read() of all would delay Ctrl-C.
    text = b"".join(iter(lambda: whole.read1(PIECE), b""))
    parsed = _core._parse_plain(text)  # noqa: SLF001 - this is the package it is for
    if parsed is None:
        _parse_lines(trace, io.BytesIO(text), skip_malformed)
        return
    keys, sizes, trace.distinct = parsed
    trace.keys = array("I", keys).tolist()
    trace.requests = len(trace.keys)
    trace.sizes = None if sizes is None else array("Q", sizes).tolist()


def _parse_lines(trace: Trace, file: io.BytesIO, skip_malformed: bool) -> None:
    """Parse line by line, after the fast parser has found a malformed line."""
    numbers: dict[bytes, int] = {}
    number_of = numbers.setdefault
    fields = 0
    keys, sizes = trace.keys, list[int]()
    for at, line in enumerate(file, 1):
        if at == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        parts = line.split()
        if not parts or parts[0][:1] == b"#":
            continue
        complaint = _complaint(parts, fields)
        if complaint is None:
            fields = len(parts)
            keys.append(number_of(parts[0], len(numbers)))
            if fields == 2:
                sizes.append(int(parts[1]))
            continue
        complaint = f"{trace.name}, line {at}: {complaint}"
        if not skip_malformed:
            raise TraceError(complaint)
        trace.skipped += 1
        if trace.skipped <= REPORTED:
            trace.complaints.append(complaint)
    trace.requests, trace.distinct = len(keys), len(numbers)
    trace.sizes = sizes if fields == 2 else None


def _oracle(file: io.BufferedIOBase, _: Format) -> Iterator[Access | str]:
    """Parse records of libCacheSim's oracleGeneral."""
    number = 0
    while piece := file.read(RECORD.size * 4096):
        whole = len(piece) - len(piece) % RECORD.size
        for _time, key, size, _next in RECORD.iter_unpack(piece[:whole]):
            number += 1
            yield key, size
        if whole < len(piece):
            yield f"record {number + 1}: {len(piece) - whole} bytes, not {RECORD.size}"


def _lis(file: io.BufferedIOBase, _: Format) -> Iterator[Access | str]:
    """Parse lines of ARC's traces: the first block, the number of consecutive blocks, and two more numbers."""
    for at, line in enumerate(file, 1):
        fields = line.split()
        if not fields:
            continue
        numbers = [int(field) for field in fields[:2] if field.isdigit() and len(field) < 20]
        if len(fields) < 2 or len(numbers) < 2 or numbers[1] > MOST_BLOCKS:
            yield f"line {at}: no block and number of blocks (at most {MOST_BLOCKS:,}) in {_shown(line.strip())}"
            continue
        for block in range(numbers[0], sum(numbers)):
            yield block, None


def _csv(file: io.BufferedIOBase, form: Format) -> Iterator[Access | str]:
    """Parse rows of a CSV file whose first line names the columns."""
    rows = csv.reader(codecs.getreader("utf-8-sig")(file, "surrogateescape"), skipinitialspace=True)
    try:
        heads = [head.strip() for head in next(rows, list[str]())]
        wanted = [form.key_column] + ([form.size_column] if form.size_column else [])
        for column in wanted:
            if column not in heads:
                raise TraceError(f"no column {column!r}: there are {', '.join(map(repr, heads))}")
        key_at = heads.index(form.key_column)
        size_column = form.size_column or "size"
        size_at = heads.index(size_column) if size_column in heads else None
        for row in rows:
            if not row:
                continue
            if len(row) != len(heads):
                yield f"line {rows.line_num}: {len(row)} columns, not {len(heads)}"
                continue
            key, size = row[key_at].encode("utf-8", "surrogateescape"), None
            if size_at is not None:
                complaint = _complaint([b"key", row[size_at].strip().encode("utf-8", "surrogateescape")], 2)
                if complaint is not None:
                    yield f"line {rows.line_num}: {complaint}"
                    continue
                size = int(row[size_at])
            yield key, size
    except csv.Error as error:
        raise TraceError(f"line {rows.line_num}: {error}") from error


Parser = Callable[["io.BufferedIOBase", Format], Iterator["Access | str"]]
PARSERS: dict[str, Parser] = {"oracle": _oracle, "lis": _lis, "csv": _csv}
"""The parser of each format. It yields accesses, as key and size, and complaints."""


def _take(trace: Trace, accesses: Iterator[Access | str], skip_malformed: bool) -> None:
    numbers: dict[bytes | int, int] = {}
    number_of = numbers.setdefault
    keys, sizes = trace.keys, list[int]()
    for access in accesses:
        if isinstance(access, str):
            if not skip_malformed:
                raise TraceError(access)
            trace.skipped += 1
            if trace.skipped <= REPORTED:
                trace.complaints.append(f"{trace.name}, {access}")
            continue
        key, size = access
        keys.append(number_of(key, len(numbers)))
        if size is not None:
            sizes.append(size)
    trace.requests, trace.distinct = len(keys), len(numbers)
    trace.sizes = sizes or None


def _complaint(parts: list[bytes], fields: int) -> str | None:
    """Return what is wrong with a line. `fields` is the number of fields of the other lines, 0 for the first line."""
    if len(parts) != fields and (fields or len(parts) > 2):
        wanted = {0: "a key, or a key and a size", 1: "a key", 2: "a key and a size"}[fields]
        return f"{len(parts)} field{'s' * (len(parts) > 1)}, not {wanted}"
    if b"\0" in parts[0]:
        return "a NUL byte: this is not text"
    # Do not convert more digits than these.
    if len(parts) == 2 and not (parts[1].isdigit() and len(parts[1]) <= 40 and int(parts[1]) <= LARGEST_SIZE):
        return f"the size {_shown(parts[1])} is no integer from 0 to 2**63 - 1"
    return None


def _shown(text: bytes) -> str:
    shown = repr(text[:40].decode("utf-8", "replace"))
    return shown if len(text) <= 40 else shown + "…"


def zipf(requests: int, keys: int, skew: float, seed: int) -> Trace:
    """Make up a workload in which the key of rank r is asked for in proportion to 1 / r ** skew.

    Args:
        requests: how many accesses.
        keys: among how many keys.
        skew: 0 for all keys alike; larger for a few favourites.
        seed: the same seed makes the same workload.

    Raises:
        TraceError: where the workload does not fit into memory.

    O(requests * log(keys)).
    """
    try:
        return _zipf(requests, keys, skew, seed)
    except MemoryError as error:
        raise TraceError(f"there is not enough memory for {requests:,} requests among {keys:,} keys") from error


def _zipf(requests: int, keys: int, skew: float, seed: int) -> Trace:
    weights = list(accumulate(rank**-skew for rank in range(1, keys + 1)))
    drawn = random.Random(seed).choices(range(keys), cum_weights=weights, k=requests)
    numbers: dict[int, int] = {}
    number_of = numbers.setdefault
    ids = [number_of(key, len(numbers)) for key in drawn]
    return Trace(f"Zipf {skew:g} (seed {seed})", ids, requests=requests, distinct=len(numbers))
