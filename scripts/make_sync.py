"""Makes the sessions without `await` of those with it: `python scripts/make_sync.py` writes, `--check` compares.

It replaces tokens, so that comments and lines stay: `await` and `async` go, names change as `NAMES` says. The result
is committed;
a test compares it.
"""

from __future__ import annotations

import io
import itertools
import re
import sys
import tokenize
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "python" / "flexcache_rs" / "sessions"
FILES = ("_bits", "_calls", "_containers", "_limits", "_session")
NAMES = {
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "aclose": "close",
    "arun": "run",
    "abegin": "begin",
    "abegin_inner": "begin_inner",
    "acommit": "commit",
    "aroll_back": "roll_back",
    "aend": "end",
    "arest": "rest",
    "AsyncIterator": "Iterator",
    "AwaitedBatch": "SyncBatch",
    "_async_side": "_sync_side",
    **{name: f"_sync{name}" for name in FILES},
}
HEADER = "# ruff: noqa: I001, RUF100, UP028\n# Made by scripts/make_sync.py of {name}.py: change that one.\n"


def _imported(names: str) -> str:
    """Names in their order, without what is awaited."""
    return ", ".join(sorted(set(names.split(", ")) - {"Awaitable"}))


def without_await(source: str) -> str:
    """The same program text for callers that do not await."""
    lines = source.splitlines(keepends=True)
    changes: list[tuple[int, int, int, str]] = []
    tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    before = ["", ""]
    for token, following in itertools.pairwise(tokens):
        (row, start), (_, end) = token.start, token.end
        if token.type == tokenize.NAME and token.string in ("await", "async"):
            changes.append((row, start, following.start[1], ""))
        # A file has its name only where it is imported.
        elif token.string in NAMES and (token.string not in FILES or before == ["sessions", "."]):
            changes.append((row, start, end, NAMES[token.string]))
        before = [before[1], token.string]
    for row, start, end, text in reversed(changes):
        line = lines[row - 1]
        lines[row - 1] = line[:start] + text + line[end:]
    text = "".join(lines)
    text = text.replace("Awaitable[Any]", "Any")
    text = text.replace("async with session", "with session")
    text = re.sub(r"(?<=from collections\.abc import )[\w, ]+", lambda found: _imported(found[0]), text)
    text = re.sub(r" +if inspect\.isawaitable\(value\):\n +value = value\n", "", text)
    return text.replace("import inspect\n", "")


def made(name: str) -> str:
    """What the file for a name has to be."""
    return HEADER.format(name=name) + without_await((FOLDER / f"{name}.py").read_text("utf-8"))


def main() -> None:
    """Write the files, or say which differ."""
    differing = []
    for name in FILES:
        path = FOLDER / f"_sync{name}.py"
        text = made(name)
        if not path.exists() or path.read_text("utf-8") != text:
            differing.append(path.name)
            if "--check" not in sys.argv:
                path.write_text(text, encoding="utf-8")
    if differing and "--check" in sys.argv:
        sys.exit(f"not up to date: {', '.join(differing)}; run python scripts/make_sync.py")


if __name__ == "__main__":
    main()
