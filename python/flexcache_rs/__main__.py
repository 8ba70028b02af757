"""The command line: ``python -m flexcache_rs`` or ``flexcache``."""

from __future__ import annotations

import io
import os
import sys

from flexcache_rs import __version__
from flexcache_rs._terminal import OutputError, complain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TextIO

INTERRUPTED = 130
"""The exit status of a program that Ctrl-C ended, by convention."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: The command line without the program's name. None means that of the process.

    Returns:
        The exit status: 0, 1 for input or output that cannot be used, 130 after Ctrl-C.
        Argparse exits with 2 by itself.
    """
    # sys.stdout is None if it is closed.
    output: TextIO | None = sys.stdout
    if isinstance(output, io.TextIOWrapper):
        # A file name may contain characters that the terminal's encoding lacks.
        output.reconfigure(errors="backslashreplace")
    try:
        try:
            return _run(arguments)
        finally:
            # Flush here, because an error of the flush at exit could not be caught.
            if output is not None:
                output.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except OutputError as error:
        return _without_output(error.__cause__)
    except OSError as error:
        if error.errno is None:
            # The system did not raise it, so it says all by itself.
            complain(f"flexcache: {error}")
            return 1
        if error.filename is None:
            return _without_output(error)
        complain(f"flexcache: {os.fsdecode(error.filename)}: {error.strerror}")
        return 1


def _without_output(error: BaseException | None) -> int:
    """Return the exit status after standard output could not be written."""
    output: TextIO | None = sys.stdout
    if output is not None:
        # Keep the interpreter from flushing it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), output.fileno())
    if isinstance(error, BrokenPipeError):
        # The reader of the output has stopped reading.
        return 0
    complain(f"flexcache: standard output: {getattr(error, 'strerror', None) or error}")
    return 1


def _run(arguments: Sequence[str] | None) -> int:
    # Import them here, where Ctrl-C is awaited, because it takes time.
    from flexcache_rs import _demo_command as demo
    from flexcache_rs import _sessions_command as sessions
    from flexcache_rs import _shared_command as shared
    from flexcache_rs._command_group import program
    from flexcache_rs.disk import command as disk
    from flexcache_rs.replay import command as replay

    parser = program("flexcache", "Tools for caches in memory, on disk and between processes, and for sessions.")
    parser.add_argument("--version", action="version", version=f"flexcache-rs {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    demo.add_to(commands)
    replay.add_to(commands)
    disk.add_to(commands)
    sessions.add_to(commands)
    if sys.platform in ("linux", "darwin"):
        shared.add_to(commands)
    options = parser.parse_args(arguments)
    if "run" not in options:
        parser.print_help()
        return 0
    status: int = options.run(options)
    return status


if __name__ == "__main__":
    sys.exit(main())
