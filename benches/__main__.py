"""Compares two builds: `python -m benches --baseline WHEEL`."""

from __future__ import annotations

import sys

from .baseline.compare import main

if __name__ == "__main__":
    main(sys.argv[1:])
