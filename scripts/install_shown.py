"""Install the package with pip, and show which crate is being compiled: `python scripts/install_shown.py ARGUMENTS`.

pip shows nothing of a build until it has ended, and this one takes minutes. If it fails, all that it said is printed.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time

CRATE = re.compile(r"\s*(Compiling|Finished) (\S+ ?v?[\d.]*)")
LAST = " (the last one, which takes the longest)"
BETWEEN = 5.0
"""Seconds between two lines where nobody sees one line change."""


def main(arguments: list[str]) -> int:
    """Run pip, and return its exit status."""
    command = [sys.executable, "-m", "pip", "install", "--verbose", *arguments]
    on_terminal = sys.stdout.isatty()
    said: list[str] = []
    compiled, shown = 0, time.monotonic()
    print("building the package: it takes minutes the first time", flush=True)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as pip:
        assert pip.stdout is not None
        for line in pip.stdout:
            said.append(line)
            match = CRATE.match(line)
            if match is None:
                continue
            compiled += match.group(1) == "Compiling"
            now = time.monotonic()
            is_last = match.group(2).startswith("flexcache-rs ")
            step = f"crate {compiled}: {match.group(1).lower()} {match.group(2)}{LAST if is_last else ''}"
            if on_terminal:
                print(f"\r{step}\x1b[K", end="", flush=True)
            elif is_last or now - shown >= BETWEEN:
                print(step, flush=True)
                shown = now
    if on_terminal:
        print("\r\x1b[K", end="")
    if pip.returncode:
        sys.stdout.writelines(said)
    return pip.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
