"""Two plots as SVG. The files change only if the numbers change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from .figures import DICT, LOOP_ALONE, Figure

OURS, PEER, REFERENCE, TEXT = "#c2410c", "#94a3b8", "#334155", "#1f2937"
OTHERS = (
    *("#0f766e", "#6d28d9", "#0369a1", "#a16207", "#be185d", "#4d7c0f"),
    *("#475569", "#0891b2", "#9333ea", "#b45309", "#65a30d", "#94a3b8"),
)
LONGEST_BAR = 8.0
"""Bars beyond this many times the reference are cut off, with the number beside them."""


def style() -> None:
    """Set the style of all plots. Raises ImportError without matplotlib."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update(
        {
            "svg.fonttype": "none",
            "svg.hashsalt": "flexcache",
            "font.family": "sans-serif",
            "font.size": 10,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.edgecolor": "#94a3b8",
            "text.color": TEXT,
            "axes.labelcolor": TEXT,
            "xtick.color": TEXT,
            "ytick.color": TEXT,
        }
    )


def draw(figures: Mapping[str, Figure], directory: Path) -> list[tuple[str, str]]:
    """Draw the plots. Returns file names and descriptions. Raises ImportError without matplotlib."""
    style()
    figure = figures.get("get-str")
    if figure is None:
        return []
    return [
        ("get-hit.svg", _bars(figure, "n = 10,000", directory / "get-hit.svg")),
        ("get-hit-by-size.svg", _lines(figure, directory / "get-hit-by-size.svg")),
    ]


def colours(names: Sequence[str], ours: str, reference: str) -> Iterator[str]:
    """Return a colour for each name."""
    others = cycle(OTHERS)
    for name in names:
        yield OURS if name == ours else REFERENCE if name == reference else next(others)


def _colour(name: str) -> str:
    if name.startswith("FlexCache"):
        return OURS
    return REFERENCE if name == DICT else PEER


def save(canvas: Any, path: Path) -> None:
    """Write a plot, and close it."""
    from matplotlib import pyplot

    canvas.savefig(path, metadata={"Date": None, "Creator": None}, facecolor="white", bbox_inches="tight")
    pyplot.close(canvas)
    # Remove the blanks with which matplotlib ends some lines.
    lines = [line.rstrip() for line in path.read_text(encoding="utf-8").splitlines()]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _bars(figure: Figure, condition: str, path: Path) -> str:
    """Draw horizontal bars, the fastest at the top."""
    from matplotlib import pyplot

    medians = {name: spread.median for name, spread in figure.conditions[condition].items() if name != LOOP_ALONE}
    names = sorted(medians, key=lambda name: medians[name], reverse=True)
    edge = LONGEST_BAR * medians[DICT]
    canvas, axes = pyplot.subplots(figsize=(8, 0.42 * len(names) + 1.1))
    axes.barh(
        names,
        [min(medians[name], edge) for name in names],
        color=[_colour(name) for name in names],
        height=0.66,
    )
    for row, name in enumerate(names):
        cut = medians[name] > edge
        text = f"{medians[name]:,.0f} ns · {figure.ratio(condition, name):.2f} × dict"
        axes.annotate(
            f"▸ {text}" if cut else text,
            (min(medians[name], edge), row),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
        )
    axes.axvline(medians[DICT], color=REFERENCE, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.set_xlim(0, edge * 1.05)
    axes.set_xlabel(f"ns an operation, loop included (▸: longer than {LONGEST_BAR:.0f} × dict, cut off)")
    title = f"get(key), hit, {condition}, str keys"
    axes.set_title(title, loc="left", fontsize=11)
    axes.tick_params(axis="y", length=0)
    save(canvas, path)
    return f"{title}: ns for every cache"


def _lines(figure: Figure, path: Path) -> str:
    """Draw the ratio to dict by the size."""
    from matplotlib import pyplot

    sizes = {condition: int(condition.rpartition("= ")[2].replace(",", "")) for condition in figure.conditions}
    last = list(sizes)[-1]
    names = [name for name in figure.conditions[last] if name not in {LOOP_ALONE, DICT}]
    names.sort(key=lambda name: figure.ratio(last, name) or 0.0, reverse=True)
    canvas, axes = pyplot.subplots(figsize=(8, 4.6))
    axes.axhline(1.0, color=REFERENCE, linewidth=0.8, linestyle=(0, (4, 3)))
    markers = "osD^vPX<>*"
    peers = [name for name in names if not name.startswith("FlexCache")]
    for index, name in enumerate(names):
        ratios = [figure.ratio(condition, name) or float("nan") for condition in sizes]
        ours = name.startswith("FlexCache")
        colour = OURS if ours else OTHERS[peers.index(name) % len(OTHERS)]
        axes.plot(
            list(sizes.values()),
            ratios,
            label=name,
            color=colour,
            marker=markers[index % len(markers)],
            markersize=5,
            linewidth=2.4 if ours else 1.3,
            zorder=3 if ours else 2,
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(list(sizes.values()), [f"{size:,}" for size in sizes.values()])
    axes.set_yticks([1, 2, 5, 10, 20, 50], ["1", "2", "5", "10", "20", "50"])
    axes.minorticks_off()
    axes.grid(axis="y", color="#e2e8f0", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlabel("entries")
    axes.set_ylabel("times dict.get (logarithmic)")
    title = "get(key), hit, str keys: how many times dict.get"
    axes.set_title(title, loc="left", fontsize=11)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    save(canvas, path)
    return f"{title}, against the number of entries"
