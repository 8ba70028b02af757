"""The report: Markdown tables, and the same numbers as JSON.

It contains no dates, so that a new run changes only numbers.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from . import caches
from .figures import Figure, Target
from .measure import Spread, gil_is_on

Figures = Mapping[str, Figure]


def number(value: float) -> str:
    """Format a number with three significant digits."""
    if value >= 100:
        return f"{value:,.0f}"
    if value >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}"


def machine() -> dict[str, str]:
    """Return the processor, memory, interpreter and versions, on which the numbers depend."""
    described = {
        "processor": _processor(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": python(),
    }
    for module in caches.MODULES:
        found = caches.version(module)
        if found is not None:
            name, _, version = found.partition(" ")
            described[name] = version
    return described


def _processor() -> str:
    name = platform.processor() or platform.machine()
    memory = ""
    if sys.platform == "linux":
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
        memory = f", {os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB of memory"
    cores = os.cpu_count() or 1
    return f"{name}, {cores} {'core' if cores == 1 else 'cores'}{memory}"


def python() -> str:
    """Return the interpreter, its version and its build options."""
    arguments = sysconfig.get_config_var("CONFIG_ARGS") or ""
    built = [text for text, option in (("PGO", "--enable-optimizations"), ("LTO", "--with-lto")) if option in arguments]
    # The rules of Debian's package turn both options on without recording them in the configuration.
    is_debian = sys.base_prefix == "/usr" and Path("/etc/debian_version").exists()
    how = " and ".join(built) or ("Debian's, with PGO and LTO" if is_debian else "neither PGO nor LTO")
    threads = ""
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        threads = ", free-threaded, but with the GIL on" if gil_is_on() else ", free-threaded"
    return f"{platform.python_implementation()} {platform.python_version()} ({how}{threads})"


def as_json(figures: Figures) -> str:
    """Return all measurements."""
    return json.dumps(
        {
            "machine": machine(),
            "figures": {
                name: {
                    "title": figure.title,
                    "unit": figure.unit,
                    "conditions": {
                        condition: {contestant: _summary(spread) for contestant, spread in spreads.items()}
                        for condition, spreads in figure.conditions.items()
                    },
                    "targets": [{**asdict(target), "reached": figure.reached(target)} for target in figure.targets],
                    "left_out": figure.left_out,
                    "remarks": figure.remarks,
                }
                for name, figure in figures.items()
            },
        },
        indent=1,
        ensure_ascii=False,
    )


def _summary(spread: Spread) -> dict[str, float]:
    return {
        "median": round(spread.median, 3),
        "lower": round(spread.lower, 3),
        "upper": round(spread.upper, 3),
        "least": round(min(spread.samples), 3),
        "rounds": len(spread.samples),
    }


HEAD = (
    "`make bench` generates this page. [benches/README.md](../../benches/README.md) describes the method and its "
    "limits. Each number is a median over rounds. A ratio is the median of the ratios within a round. Each number of "
    "nanoseconds includes the loop around the operation. The ratios also hold on other machines; the nanoseconds do "
    "not."
)


def as_markdown(figures: Figures, plots: Sequence[tuple[str, str]] = ()) -> str:
    """Return the whole report. `plots` are (file name, description)."""
    lines = [
        "# FlexCache in memory, beside its peers",
        "",
        HEAD,
        "",
        *_table(["", ""], [[name, value] for name, value in machine().items()], "ll"),
        "",
    ]
    for file, description in plots:
        lines += [f"![{description}]({file})", ""]
    lines += _targets_summary(figures)
    for figure in figures.values():
        lines += _figure(figure)
    return "\n".join(lines).rstrip() + "\n"


SUMMARY = (
    ("`get`, hit, 1,000", "get-str", "n = 1,000"),
    ("10,000", "get-str", "n = 10,000"),
    ("1,000,000", "get-str", "n = 1,000,000"),
    ("`get`, miss", "miss", "n = 10,000"),
    ("`c[k] = v`, replace", "put", "`cache[key] = value`"),
    ("`c[k] = v`, evict", "evict", "`cache[key] = value`"),
    ("bytes an entry", "bytes", "str keys"),
)
"""The columns of the README's table: head, figure, condition."""
BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"


def in_readme(readme: str, figures: Figures) -> str:
    """Return the README with a new table between its two marks. Raises ValueError if the marks are missing."""
    before, begun, rest = readme.partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not begun or not ended:
        raise ValueError(f"the README must have the lines {BEGIN} and {END}")
    columns = [column for column in SUMMARY if column[1] in figures]
    names = list(dict.fromkeys(name for _, figure, _ in columns for name in figures[figure].names))
    rows = []
    for name in names:
        medians = [figures[figure].median(condition, name) for _, figure, condition in columns]
        if name.startswith("(") or medians[0] is None:
            continue
        shown = f"**{name}**" if name.startswith("FlexCache") else name
        rows.append([shown, *("–" if median is None else number(median) for median in medians)])
    table = _table(["ns, str keys", *(head for head, _, _ in columns)], rows, "l" + "r" * len(columns))
    caption = f"{python()} on {_processor()}. Each number includes the loop around the operation."
    return "\n".join([before + BEGIN, "", *table, "", caption, "", END + after])


def _targets_summary(figures: Figures) -> list[str]:
    verdicts = [_met(figure, target) for figure in figures.values() for target in figure.targets]
    if not verdicts:
        return []
    met, missed, unknown = (verdicts.count(verdict) for verdict in ("yes", "no", "–"))
    text = (
        f"Of {len(verdicts)} targets for FlexCache, this run met {met}, missed {missed} and did not measure {unknown}."
    )
    return [text, ""]


def _met(figure: Figure, target: Target) -> str:
    reached = figure.reached(target)
    if reached is None:
        return "–"
    reached = round(reached, 2)
    return "yes" if (reached >= target.limit if target.at_least else reached <= target.limit) else "no"


def _figure(figure: Figure) -> list[str]:
    lines = [f"## {figure.title}", "", figure.text, ""]
    if figure.conditions:
        lines += [*_results(figure), ""]
    if figure.targets:
        rows = []
        for target in figure.targets:
            reached = figure.reached(target)
            limit = f"{'≥' if target.at_least else '≤'} {target.limit:,g}"
            rows.append([target.text, limit, "–" if reached is None else number(reached), _met(figure, target)])
        lines += [*_table(["target", "limit", "this run", "met"], rows, "lrrl"), ""]
    for remark in figure.remarks:
        lines += [remark, ""]
    return lines


def _results(figure: Figure) -> list[str]:
    with_ratios = {
        condition
        for condition, spreads in figure.conditions.items()
        if condition != figure.reference_condition and any(figure.ratio(condition, name) for name in spreads)
    }
    heads, align = [""], "l"
    for condition in figure.conditions:
        heads.append(f"{condition}, {figure.unit}")
        align += "r"
        if condition in with_ratios:
            heads.append(f"× {figure.reference or figure.reference_condition}")
            align += "r"
    rows = []
    for name in figure.names:
        if name in figure.left_out:
            rows.append([f"{name} ({figure.left_out[name]})"] + ["–"] * (len(heads) - 1))
            continue
        if not any(name in spreads for spreads in figure.conditions.values()):
            continue
        row = [f"**{name}**" if name.lower().startswith("flexcache") else name]
        for condition in figure.conditions:
            median, ratio = figure.median(condition, name), figure.ratio(condition, name)
            row.append("–" if median is None else number(median))
            if condition in with_ratios:
                row.append("–" if ratio is None or name.startswith("(") else f"{ratio:.2f}")
        rows.append(row)
    return _table(heads, rows, align)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], align: str) -> list[str]:
    rule = ["---:" if side == "r" else "---" for side in align]
    return [f"| {' | '.join(row)} |" for row in (heads, rule, *rows)]
