"""The output of commands on a terminal: colours, sizes and progress bars."""

from __future__ import annotations

import os
import sys
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TextIO

BAR = 30
BEFORE_BAR = 0.5
"""Seconds of work before the bar appears."""


def on_terminal(stream: TextIO | None) -> bool:
    """Whether a stream is a terminal. None, a closed stream, is not."""
    return stream is not None and stream.isatty()


def wants_colour(stream: TextIO | None) -> bool:
    """Whether to write colours to a stream: to a terminal, unless NO_COLOR is set."""
    return on_terminal(stream) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def bytes_shown(count: float) -> str:
    """Format a number of bytes with a binary unit."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


class Progress:
    """A progress bar on standard error, which appears only on a terminal and only if the work takes long."""

    def __init__(self, *, shown: bool) -> None:
        self.shown = shown and on_terminal(sys.stderr)
        self.began = monotonic()
        self.drawn = False

    def show(self, part: float, what: str = "") -> None:
        """Draw the bar. `part`, from 0 to 1, is the share of `what` that is done."""
        if not self.shown or monotonic() - self.began < BEFORE_BAR:
            return
        bar = "#" * int(BAR * part)
        sys.stderr.write(f"\r[{bar:.<{BAR}}] {100 * part:3.0f} %  {what}\x1b[K")
        sys.stderr.flush()
        self.drawn = True

    def clear(self) -> None:
        """Remove the bar."""
        if self.drawn:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self.drawn = False
