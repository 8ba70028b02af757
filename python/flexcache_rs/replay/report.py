"""Prints the results: a table for people, JSON for programs."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from flexcache_rs import __version__
from flexcache_rs._terminal import bytes_shown
from flexcache_rs.replay.recommend import recommend
from flexcache_rs.replay.simulate import OPTIMUM

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flexcache_rs.replay.simulate import Result
    from flexcache_rs.replay.trace import Trace

BOLD, GREEN, DIM, PLAIN = "\x1b[1m", "\x1b[32m", "\x1b[2m", "\x1b[0m"


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
        best = max((result.hits for result in of_size if result.policy != OPTIMUM), default=-1)
        for at, result in enumerate(of_size):
            ratio = result.byte_hit_ratio
            is_best = result.hits == best and result.policy != OPTIMUM
            rows.append(
                [
                    f"{size:,}" if at == 0 else "",
                    result.policy,
                    f"{100 * result.hit_ratio:.2f} %{'*' if is_best else ' '}",
                    *([f"{100 * (ratio or 0):.2f} %"] if by_size else []),
                    "-" if (speed := result.operations_per_second) is None else f"{speed / 1e6:.1f} M",
                    bytes_shown(result.memory) if result.memory else "-",
                    f"{result.memory / result.entries:.0f} B" if result.memory and result.entries else "-",
                ]
            )
            marks.append(is_best)
    widths = [max(len(row[column]) for row in [heads, *rows]) for column in range(len(heads))]

    def line(cells: Sequence[str]) -> str:
        aligned = (
            cell.ljust(width) if head == "policy" else cell.rjust(width)
            for head, cell, width in zip(heads, cells, widths, strict=True)
        )
        return "  ".join(aligned).rstrip()

    lines = [line(heads), *(line(row) for row in rows)]
    if any(result.seconds is None for result in results):
        marks.append(False)
        lines.append("lru: one pass for all sizes, so none of them has a speed of its own; give one size to measure it")
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
                "operations_per_second": None if (speed := result.operations_per_second) is None else round(speed),
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
                "recommendation": None if (advice := recommend(results)) is None else asdict(advice),
            }
        )
    return json.dumps({"flexcache_rs": __version__, "traces": traces}, indent=1)


def advice(results: Sequence[Result]) -> str | None:
    """In a sentence, which policy and which size to take; None where no policy was replayed."""
    chosen = recommend(results)
    if chosen is None:
        return None
    text = f"recommended: {chosen.policy} with {chosen.size:,}: {100 * chosen.hit_ratio:.1f} % hits"
    limit = [result.hit_ratio for result in results if result.policy == OPTIMUM and result.size == chosen.size]
    if limit:
        text += f" of at most {100 * limit[0]:.1f} %"
    if chosen.next_doubling is None:
        return f"{text}; larger sizes were not tried"
    return f"{text}; twice as much would add about {100 * max(chosen.next_doubling, 0.0):.1f} points"
