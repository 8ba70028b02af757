"""Draws hit ratio against size, with matplotlib."""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING

from flexcache_rs.replay.report import heading
from flexcache_rs.replay.simulate import OPTIMUM

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from flexcache_rs.replay.simulate import Result
    from flexcache_rs.replay.trace import Trace

FORMATS = (".png", ".svg")
MARKERS = "os^Dv*XP"


def draw(replayed: Sequence[tuple[Trace, Sequence[Result]]], path: Path) -> None:
    """Draw a curve for each policy, a field for each trace.

    Args:
        replayed: the traces and their results.
        path: a file with one of the suffixes of FORMATS.

    Raises:
        ImportError: where matplotlib is not installed.
        OSError: where the file cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5 * len(replayed)), layout="constrained")
    fields = figure.subplots(len(replayed), 1, squeeze=False)
    for (trace, results), (field,) in zip(replayed, fields, strict=True):
        for policy, marker in zip(dict.fromkeys(result.policy for result in results), cycle(MARKERS)):
            points = sorted((result.size, 100 * result.hit_ratio) for result in results if result.policy == policy)
            style = {"color": "black", "linestyle": "--"} if policy == OPTIMUM else {"marker": marker}
            field.plot(*zip(*points, strict=True), label=policy, **style)
        field.set_xscale("log")
        field.set_ylim(bottom=0)
        field.set_xlabel("cache size")
        field.set_ylabel("hit ratio, %")
        field.set_title(heading(trace), loc="left", parse_math=False)
        field.grid(alpha=0.3)
        field.legend(frameon=False)
    figure.savefig(path)  # pyright: ignore[reportUnknownMemberType]
