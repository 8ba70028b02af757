"""The report of tables: Markdown, the same numbers as JSON, and two plots."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from . import plots, report

if TYPE_CHECKING:
    from .tables import Cell, Figure

OURS, REFERENCE = "flexcache_rs.disk", "diskcache"

HEAD = (
    "`make bench-disk` generates this page. [benches/README.md](../../benches/README.md#caches-on-disk) describes the "
    "method and its limits. Each library runs in its own process with its own directories, on one file system. It uses "
    "its defaults, except for a size limit that is never reached. The libraries take turns in random order in each "
    "round. A cell shows the median, the 99th percentile and the mean. The last columns show how many times as fast as "
    "the others flexcache_rs.disk is. They compare the medians, unless the text says otherwise."
)


def machine() -> dict[str, str]:
    """Return processor, memory, system and interpreter."""
    return {name: text for name, text in report.machine().items() if name in ("processor", "system", "python")}


def as_json(described: dict[str, str], figures: Sequence[Figure]) -> str:
    """Return all measurements."""
    return json.dumps(
        {
            "machine": described,
            "figures": [
                {
                    "title": figure.title,
                    "unit": figure.unit,
                    "rows": {
                        condition: {name: _summary(cell) for name, cell in row.items()}
                        for condition, row in figure.rows.items()
                    },
                    "remarks": figure.remarks,
                }
                for figure in figures
            ],
        },
        indent=1,
        ensure_ascii=False,
    )


def _summary(cell: Cell) -> dict[str, float]:
    quartiles = (
        statistics.quantiles(cell.samples, n=4, method="inclusive") if len(cell.samples) > 1 else [cell.median] * 3
    )
    return {
        "median": round(cell.median, 3),
        "lower": round(quartiles[0], 3),
        "upper": round(quartiles[2], 3),
        "p99": round(cell.p99, 3),
        "mean": round(cell.mean, 3),
        "samples": len(cell.samples),
        "failures": cell.failures,
    }


def as_markdown(
    described: dict[str, str],
    figures: Sequence[Figure],
    names: Sequence[str],
    drawn: Sequence[tuple[str, str]] = (),
    *,
    title: str = "Caches on disk, beside their peers",
    head: str = HEAD,
    ours: str = OURS,
) -> str:
    """Return the whole report. `drawn` are (file name, description)."""
    lines = [f"# {title}", "", head, ""]
    lines += [*_table(["", ""], [[name, text] for name, text in described.items()], "ll"), ""]
    for file, description in drawn:
        lines += [f"![{description}]({file})", ""]
    for figure in figures:
        lines += [f"## {figure.title}", "", figure.text, "", *_rows(figure, names, ours), ""]
        for remark in figure.remarks:
            lines += [remark, ""]
    return "\n".join(lines).rstrip() + "\n"


def _rows(figure: Figure, names: Sequence[str], ours: str) -> list[str]:
    there = [name for name in names if any(name in row for row in figure.rows.values())]
    others = [name for name in there if figure.compared and name != ours and ours in there]
    heads = [
        figure.unit,
        *(f"**{name}**" if name == ours else name for name in there),
        *(f"× {name}" for name in others),
    ]
    rows: list[list[str]] = []
    for condition, row in figure.rows.items():
        cells = [_shown(figure, row[name]) if name in row else "–" for name in there]
        times = [figure.times(condition, ours, name) for name in others]
        rows.append([condition, *cells, *("–" if ratio is None else report.number(ratio) for ratio in times)])
    return _table(heads, rows, "l" + "r" * (len(heads) - 1))


def _shown(figure: Figure, cell: Cell) -> str:
    if not figure.more:
        shown = [cell.median, cell.p99, *([cell.mean] if figure.means else [])]
        return " / ".join(map(report.number, shown))
    failures = f" ({cell.failures:,})" if cell.failures else ""
    return report.number(cell.median) + failures


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], align: str) -> list[str]:
    rule = ["---:" if side == "r" else "---" for side in align]
    return [f"| {' | '.join(row)} |" for row in (heads, rule, *rows)]


def draw(
    figures: Sequence[Figure],
    names: Sequence[str],
    directory: Path,
    *,
    prefix: str = "disk",
    ours: str = OURS,
    reference: str = REFERENCE,
) -> list[tuple[str, str]]:
    """Draw get and set by the number of entries, and by size. Raises ImportError without matplotlib.

    Args:
        figures: The measured figures.
        names: The libraries to draw. Those that a figure does not have are left out.
        directory: The directory of the files.
        prefix: The beginning of their names.
        ours: The library whose line is thick.
        reference: The library whose line is dark.
    """
    plots.style()
    by_title = {figure.title: figure for figure in figures}
    drawn: list[tuple[str, str]] = []
    for file, what, unit in (
        (f"{prefix}-by-entries.svg", "number of entries", "entries"),
        (f"{prefix}-by-size.svg", "size of the value", ""),
    ):
        chosen = [by_title[title] for title in (f"get, by {what}", f"set, by {what}") if title in by_title]
        if len(chosen) == 2:
            there = [name for name in names if any(name in row for row in chosen[0].rows.values())]
            colours = dict(zip(there, plots.colours(there, ours, reference), strict=True))
            drawn.append((file, _lines(chosen, colours, ours, unit, directory / file)))
    return drawn


def _lines(figures: Sequence[Figure], colours: Mapping[str, str], ours: str, unit: str, path: Path) -> str:
    """Draw one panel per figure, with one line per library."""
    from matplotlib import pyplot

    canvas, panels = pyplot.subplots(1, len(figures), figsize=(9, 3.6), sharey=True)
    for axes, figure in zip(panels, figures, strict=True):
        conditions = list(figure.rows)
        for name, colour in colours.items():
            cells = [
                (at, figure.rows[label][name]) for at, label in enumerate(conditions) if name in figure.rows[label]
            ]
            axes.plot(
                [at for at, _ in cells],
                [cell.median for _, cell in cells],
                label=name,
                color=colour,
                marker="o",
                markersize=4,
                linewidth=2.4 if name == ours else 1.3,
            )
        axes.set_yscale("log")
        axes.set_xticks(range(len(conditions)), conditions)
        axes.set_xlabel(unit)
        axes.set_title(figure.title, loc="left", fontsize=11)
        axes.grid(axis="y", color="#e2e8f0", linewidth=0.8)
        axes.set_axisbelow(True)
    panels[0].set_ylabel(f"{figures[0].unit}, logarithmic")
    panels[-1].legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    plots.save(canvas, path)
    return f"{' and '.join(figure.title for figure in figures)}: {figures[0].unit} for every library"
