"""Installs the peers one by one. A peer that does not exist for this Python is left out of the comparison."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

REQUIREMENTS = Path(__file__).with_name("requirements.txt")


def main() -> None:
    """Run pip once for each line of requirements.txt."""
    for line in REQUIREMENTS.read_text(encoding="utf-8").splitlines():
        requirement = line.partition("#")[0].strip()
        if not requirement:
            continue
        # Plots are optional, so do not compile these packages.
        options = ["--quiet", "--prefer-binary", "--only-binary", "matplotlib,numpy"]
        command = [sys.executable, "-m", "pip", "install", *options, requirement]
        if subprocess.run(command, check=False).returncode:
            print(f"left out: {requirement}", file=sys.stderr)


if __name__ == "__main__":
    main()
