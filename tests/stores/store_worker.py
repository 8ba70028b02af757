"""One of several processes that call for one key at the same time.

`python store_worker.py KIND DIRECTORY HOW CALLERS ALL` calls CALLERS times at once, from threads and from tasks. The
computation waits until ALL callers of all processes have begun to call, and leaves a byte in a file each time it runs.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from pathlib import Path
from typing import Any

from flexcache_rs import _core

DIRECTORY, HOW = Path(sys.argv[2]), sys.argv[3]

OPTIONS: dict[str, dict[str, Any]] = {
    "begin soft_ttl": {"ttl": 1000, "soft_ttl": 0.001},
    "begin async soft_ttl": {"ttl": 1000, "soft_ttl": 0.001},
    "soft_ttl": {"ttl": 1000, "soft_ttl": 500},
}


def note(name: str) -> None:
    """Add a byte to a file, as one write."""
    with (DIRECTORY / name).open("ab", buffering=0) as file:
        file.write(b".")


def noted(name: str) -> int:
    """Return the number of bytes of a file."""
    path = DIRECTORY / name
    return path.stat().st_size if path.exists() else 0


def begin() -> float:
    """Note that a caller has begun. Returns the time until which to wait for the others."""
    note("computed")
    if HOW == "for-ever":
        print("computing", flush=True)
        threading.Event().wait()
    return time.monotonic() + 30


def is_complete(end: float) -> bool:
    """Whether all callers have begun to call."""
    return noted("arrived") >= int(sys.argv[5]) or time.monotonic() > end


def compute(key: str) -> str:
    """Compute slowly. The function is in this module, so its name is the same in every process."""
    end = begin()
    while not is_complete(end):
        time.sleep(0.001)
    return key.upper()


async def acompute(key: str) -> str:
    """The same as a coroutine."""
    end = begin()
    while not is_complete(end):
        await asyncio.sleep(0.001)
    return key.upper()


def main() -> None:
    """Call from threads and tasks, and print all results."""
    import store_worker
    from store_kinds import by_name

    kind = by_name(sys.argv[1])
    store = kind.make(DIRECTORY)
    # A process may die. The others wait until its lease ends.
    cache = kind.front(store, lease=1 if HOW == "for-ever" else 3600)
    options = next((options for name, options in OPTIONS.items() if name in HOW), {})
    # This file runs as __main__, whose functions have no stable name, so use those of the imported module.
    memo: Any = cache.memoize(**options)(store_worker.acompute if "async" in HOW else store_worker.compute)

    def call() -> Any:
        note("arrived")
        if HOW in ("get_or_set", "for-ever"):
            return cache.get_or_set("key", lambda: compute("key"))
        return memo.refresh("key") if "refresh " in HOW else memo("key")

    async def acall() -> Any:
        if "async" in HOW:
            return await call()
        note("arrived")
        return await cache.aget_or_set("key", lambda: acompute("key"))

    async def call_from_tasks(count: int) -> None:
        results.extend(await asyncio.gather(*(acall() for _ in range(count))))
        while _core._loads_in_progress(cache):
            await asyncio.sleep(0.001)

    results: list[Any] = []
    callers = int(sys.argv[4])
    in_tasks = callers if "async" in HOW else callers // 2 if HOW == "get_or_set" else 0
    threads = [threading.Thread(target=lambda: results.append(call())) for _ in range(callers - in_tasks)]
    for thread in threads:
        thread.start()
    asyncio.run(call_from_tasks(in_tasks))
    for thread in threads:
        thread.join()
    while _core._loads_in_progress(cache):
        time.sleep(0.001)
    kind.close(store)
    print(*results, flush=True)


if __name__ == "__main__":
    main()
