"""One of several processes that call for one key at the same time.

`python store_worker.py KIND DIRECTORY HOW THREADS CALLERS` makes THREADS threads that call at once. The computation
waits until CALLERS threads of all processes have begun to call, and leaves a byte in a file each time it runs.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import Any

DIRECTORY = Path(sys.argv[2])


def note(name: str) -> None:
    """Add a byte to a file, as one write."""
    with (DIRECTORY / name).open("ab", buffering=0) as file:
        file.write(b".")


def noted(name: str) -> int:
    """How many bytes a file has."""
    path = DIRECTORY / name
    return path.stat().st_size if path.exists() else 0


def compute(key: str) -> str:
    """A slow function of this module, whose name is the same in every process."""
    note("computed")
    if sys.argv[3] == "for-ever":
        print("computing", flush=True)
        threading.Event().wait()
    end = time.monotonic() + 30
    while noted("arrived") < int(sys.argv[5]) and time.monotonic() < end:
        time.sleep(0.001)
    return key.upper()


def main() -> None:
    """Call from many threads, and print all results."""
    import store_worker
    from store_kinds import by_name

    kind = by_name(sys.argv[1])
    store = kind.make(DIRECTORY)
    cache = kind.front(store)
    # This file runs as __main__, and functions of __main__ have no name of their own.
    memo = cache.memoize(store_worker.compute)
    results: list[Any] = []

    def call() -> None:
        note("arrived")
        if sys.argv[3] == "memoize":
            results.append(memo("key"))
        else:
            results.append(cache.get_or_set("key", lambda: compute("key")))

    threads = [threading.Thread(target=call) for _ in range(int(sys.argv[4]))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kind.close(store)
    print(*results, flush=True)


if __name__ == "__main__":
    main()
