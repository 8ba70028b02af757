"""Does to a cache directory what the lines on stdin say, and answers each with a line."""

from __future__ import annotations

import sys

from flexcache_rs.disk import Cache


def main() -> None:
    """Lines are Python expressions about `cache`."""
    cache = Cache(sys.argv[1])
    for line in sys.stdin:
        print(repr(eval(line, {"cache": cache})), flush=True)


if __name__ == "__main__":
    main()
