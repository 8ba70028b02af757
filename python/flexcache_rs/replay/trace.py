"""Traces: sequences of accesses, read from files or made up."""

from __future__ import annotations

import codecs
import gzip
import random
import zlib
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import io
    from collections.abc import Iterator

GZIP = b"\x1f\x8b"
LARGEST_SIZE = 2**63 - 1
"""Of an entry and of a cache, so that both together fit the 64 bits in which a cache adds up."""
REPORTED = 5
"""So many malformed lines are named; the others are counted."""


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


def read(path: str, *, skip_malformed: bool = False) -> Trace:
    """Read a text file of one access a line: a key, or a key and a size, separated by blanks.

    Empty lines and lines that begin with # are left out. The first line decides whether there are sizes. Files
    compressed with gzip are recognised by their content. O(n).

    Args:
        path: the file; "-" for standard input.
        skip_malformed: go on after a malformed line, rather than stop.

    Raises:
        TraceError: where the file cannot be read, a line is malformed, or nothing is in it.
    """
    name = "standard input" if path == "-" else _printable(Path(path).name)
    trace = Trace(name)
    try:
        with open(0 if path == "-" else path, "rb", closefd=path != "-") as file:
            _parse(trace, file, skip_malformed)
    except (OSError, EOFError, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise TraceError(f"{_printable(path)}: {reason}") from error
    if not trace.keys:
        raise TraceError(f"{_printable(path)}: there is no access in it")
    return trace


def _printable(text: str) -> str:
    """A file's name, which may hold what a terminal would obey."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _lines(file: io.BufferedReader) -> Iterator[bytes]:
    if file.peek(2)[:2] == GZIP:
        with gzip.GzipFile(fileobj=file) as unzipped:
            yield from unzipped
    else:
        yield from file


def _parse(trace: Trace, file: io.BufferedReader, skip_malformed: bool) -> None:
    numbers: dict[bytes, int] = {}
    number_of = numbers.setdefault
    fields = 0
    keys, sizes = trace.keys, list[int]()
    for at, line in enumerate(_lines(file), 1):
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


def _complaint(parts: list[bytes], fields: int) -> str | None:
    """What is wrong with the fields of a line, among others of so many fields; 0 for the first line."""
    if len(parts) != fields and (fields or len(parts) > 2):
        wanted = {0: "a key, or a key and a size", 1: "a key", 2: "a key and a size"}[fields]
        return f"{len(parts)} field{'s' * (len(parts) > 1)}, not {wanted}"
    if b"\0" in parts[0]:
        return "a NUL byte: this is not text"
    # More digits than these are not worth converting.
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

    O(requests * log(keys)).
    """
    weights = list(accumulate(rank**-skew for rank in range(1, keys + 1)))
    drawn = random.Random(seed).choices(range(keys), cum_weights=weights, k=requests)
    numbers: dict[int, int] = {}
    number_of = numbers.setdefault
    ids = [number_of(key, len(numbers)) for key in drawn]
    return Trace(f"Zipf {skew:g} (seed {seed})", ids, requests=requests, distinct=len(numbers))
