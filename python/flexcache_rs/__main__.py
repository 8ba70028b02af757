"""The command line: ``python -m flexcache_rs`` or ``flexcache``."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from flexcache_rs import __version__
from flexcache_rs.replay import command as replay

if TYPE_CHECKING:
    from collections.abc import Sequence

INTERRUPTED = 130
"""The exit status of a program that Ctrl-C ended, by convention."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: the command line without the program's name; None for the process's own.

    Returns:
        The exit status: 0, 1 for input that cannot be used, 130 after Ctrl-C. Argparse exits with 2 by itself.
    """
    parser = argparse.ArgumentParser(
        prog="flexcache", description="Tools for the in-process cache FlexCache.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"flexcache-rs {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    replay.add_to(commands)
    options = parser.parse_args(arguments)
    if "run" not in options:
        parser.print_help()
        return 0
    try:
        status: int = options.run(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has seen enough; keep the interpreter from flushing it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return status


if __name__ == "__main__":
    sys.exit(main())
