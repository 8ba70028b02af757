"""The output of commands: lines, colours, sizes and progress bars."""

from __future__ import annotations

import contextlib
import os
import sys
from time import monotonic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

BAR = 30
BEFORE_BAR = 0.5
"""Seconds of work before the bar appears."""


class OutputError(Exception):
    """Standard output cannot be written. The cause is the OSError."""


def printable(text: str) -> str:
    """Escape characters of data that could control a terminal or break a line, as `repr` does."""
    return text if text.isprintable() else "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def printable_lines(text: str) -> str:
    """The same for text that may have several lines."""
    return "\n".join(map(printable, text.split("\n")))


def tell(text: str) -> None:
    """Print lines on standard output, with control characters escaped.

    Raises:
        OutputError: They cannot be written. An OSError would look like one of the command's work.
    """
    try:
        # sys.stdout is None if it is closed, which print() accepts.
        print(printable_lines(text))
    except OSError as error:
        raise OutputError from error


def complain(text: str) -> None:
    """Print lines on standard error, with control characters escaped, unless it is closed or cannot be written."""
    # With file=None, print() would write to standard output, which may be an export.
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            print(printable_lines(text), file=sys.stderr, flush=True)


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
