"""What is shown of results: a table for people, JSON for programs, a bar while it takes time."""

from __future__ import annotations

import json
import os
import sys
from time import monotonic
from typing import TYPE_CHECKING, Any, TextIO

from flexcache_rs import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flexcache_rs.replay.simulate import Result
    from flexcache_rs.replay.trace import Trace

BOLD, GREEN, DIM, PLAIN = "\x1b[1m", "\x1b[32m", "\x1b[2m", "\x1b[0m"
BAR = 30
BEFORE_BAR = 0.5
"""Seconds of work that are not worth a bar."""


def on_terminal(stream: TextIO | None) -> bool:
    """Whether a stream, None if it is closed, is a terminal."""
    return stream is not None and stream.isatty()


def wants_colour(stream: TextIO | None) -> bool:
    """Whether colours belong on a stream: on a terminal, unless NO_COLOR is set."""
    return on_terminal(stream) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def bytes_shown(count: float) -> str:
    """A number of bytes with a binary unit."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def heading(trace: Trace) -> str:
    """One line about a trace."""
    return f"{trace.name}: {trace.requests:,} requests, {trace.distinct:,} keys"


def table(results: Sequence[Result], *, colour: bool, by_size: bool) -> str:
    """The results as aligned columns, by size; the best policy of each size is marked."""
    heads = ["size", "policy", "hit ratio", *(["byte hit ratio"] if by_size else []), "op/s", "memory", "a key"]
    rows: list[list[str]] = []
    marks: list[bool] = []
    sizes = list(dict.fromkeys(result.size for result in results))
    for size in sizes:
        of_size = [result for result in results if result.size == size]
        best = max(result.hits for result in of_size)
        for at, result in enumerate(of_size):
            ratio = result.byte_hit_ratio
            rows.append(
                [
                    f"{size:,}" if at == 0 else "",
                    result.policy,
                    f"{100 * result.hit_ratio:.2f} %{'*' if result.hits == best else ' '}",
                    *([f"{100 * (ratio or 0):.2f} %"] if by_size else []),
                    f"{result.operations_per_second / 1e6:.1f} M",
                    bytes_shown(result.memory),
                    f"{result.memory / result.entries:.0f} B" if result.entries else "-",
                ]
            )
            marks.append(result.hits == best)
    widths = [max(len(row[column]) for row in [heads, *rows]) for column in range(len(heads))]

    def line(cells: Sequence[str]) -> str:
        aligned = (
            cell.ljust(width) if head == "policy" else cell.rjust(width)
            for head, cell, width in zip(heads, cells, widths, strict=True)
        )
        return "  ".join(aligned).rstrip()

    lines = [line(heads), *(line(row) for row in rows)]
    if colour:
        lines[0] = BOLD + lines[0] + PLAIN
        lines[1:] = [GREEN + text + PLAIN if best else text for text, best in zip(lines[1:], marks, strict=True)]
    return "\n".join(lines)


def as_json(replayed: Sequence[tuple[Trace, Sequence[Result]]]) -> str:
    """All results of all traces, as docs/replay.md describes them."""
    traces: list[dict[str, Any]] = []
    for trace, results in replayed:
        of_trace = [
            {
                "policy": result.policy,
                "size": result.size,
                "hits": result.hits,
                "hit_ratio": result.hit_ratio,
                "byte_hit_ratio": result.byte_hit_ratio,
                "refused": result.refused,
                "entries": result.entries,
                "operations_per_second": round(result.operations_per_second),
                "memory_bytes": result.memory,
            }
            for result in results
        ]
        traces.append(
            {
                "name": trace.name,
                "requests": trace.requests,
                "distinct": trace.distinct,
                "skipped_lines": trace.skipped,
                "results": of_trace,
            }
        )
    return json.dumps({"flexcache_rs": __version__, "traces": traces}, indent=1)


class Progress:
    """A bar on standard error, as long as there is something to wait for and somebody to see it."""

    def __init__(self, total: int, *, shown: bool) -> None:
        self.total = total
        self.done = 0
        self.shown = shown and on_terminal(sys.stderr)
        self.began = monotonic()
        self.drawn = False

    def begin(self, what: str) -> Callable[[int], None]:
        """What a run calls with the number of accesses it has done; `what` names the run."""

        def report(done: int) -> None:
            if not self.shown or monotonic() - self.began < BEFORE_BAR:
                return
            part = (self.done + done) / self.total
            bar = "#" * int(BAR * part)
            sys.stderr.write(f"\r[{bar:.<{BAR}}] {100 * part:3.0f} %  {what}\x1b[K")
            sys.stderr.flush()
            self.drawn = True

        return report

    def finish(self, requests: int) -> None:
        """Counts a run as finished."""
        self.done += requests

    def clear(self) -> None:
        """Takes the bar away."""
        if self.drawn:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self.drawn = False
