"""The parser of the command line, and commands that are groups of actions."""

from __future__ import annotations

import argparse
import re
from typing import Any, NoReturn

from flexcache_rs._terminal import printable_lines

_CREDENTIALS = re.compile(r"//\S*@")


class Parser(argparse.ArgumentParser):
    """A parser whose errors show neither control characters nor the user and password of a URL.

    The parser of an action refuses unknown arguments itself, so that the error shows the usage of this action.
    """

    def parse_known_args(self, *arguments: Any, **options: Any) -> tuple[Any, list[str]]:
        """Parse arguments. Exits with 2 if one is unknown."""
        parsed, unknown = super().parse_known_args(*arguments, **options)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return parsed, unknown

    def error(self, message: str) -> NoReturn:
        """Print the usage and the message, and exit with 2."""
        super().error(printable_lines(_CREDENTIALS.sub("//...@", message)))


def program(name: str, description: str) -> argparse.ArgumentParser:
    """Return the parser of a program."""
    return Parser(prog=name, description=description, allow_abbrev=False)


def add_group(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],  # pyright: ignore[reportPrivateUsage]
    name: str,
    summary: str,
    description: str,
) -> argparse._SubParsersAction[argparse.ArgumentParser]:  # pyright: ignore[reportPrivateUsage]
    """Add a group to the program's commands, and return its actions. Without an action the group prints its help."""
    parser = commands.add_parser(name, help=summary, description=description, allow_abbrev=False)

    def print_help(_options: argparse.Namespace) -> int:
        parser.print_help()
        return 0

    parser.set_defaults(run=print_help)
    return parser.add_subparsers(title="actions", metavar="ACTION")
