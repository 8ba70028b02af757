"""Measurements as a table: for each condition, the samples of each library."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal


@dataclass
class Cell:
    """The samples of one library in the figure's unit."""

    samples: list[float] = field(default_factory=list[float])
    failures: int = 0

    @property
    def median(self) -> float:
        """Return the median."""
        return statistics.median(self.samples)

    @property
    def mean(self) -> float:
        """Return the mean."""
        return statistics.fmean(self.samples)

    @property
    def p99(self) -> float:
        """Return the 99th percentile."""
        return sorted(self.samples)[min(len(self.samples) - 1, len(self.samples) * 99 // 100)]


@dataclass
class Figure:
    """A table: for each condition, the result of each library. With `more`, larger results are better."""

    title: str
    text: str
    unit: str = "µs"
    more: bool = False
    compared: bool = True
    means: bool = False
    """Whether the means are shown as well."""
    by: Literal["median", "mean"] = "median"
    """What libraries are compared by."""
    rows: dict[str, dict[str, Cell]] = field(default_factory=dict[str, dict[str, Cell]])
    remarks: list[str] = field(default_factory=list[str])

    def cell(self, condition: str, name: str) -> Cell:
        """Return the cell to which samples are added."""
        return self.rows.setdefault(condition, {}).setdefault(name, Cell())

    def add(self, condition: str, name: str, nanoseconds: Sequence[int]) -> None:
        """Add samples."""
        self.cell(condition, name).samples.extend(sample / 1000 for sample in nanoseconds)

    def times(self, condition: str, name: str, reference: str) -> float | None:
        """Return how many times faster a library is than a reference."""
        row = self.rows[condition]
        if name not in row or reference not in row:
            return None
        ours, theirs = ((cell.mean if self.by == "mean" else cell.median) for cell in (row[name], row[reference]))
        if not ours or not theirs:
            return None
        return ours / theirs if self.more else theirs / ours
