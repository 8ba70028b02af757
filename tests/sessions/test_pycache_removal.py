"""The thread of a `PyCache` that removes expired keys, where its start is interrupted and in a forked child."""

from __future__ import annotations

import asyncio
import os
import threading

import pytest

from flexcache_rs.pycache.adapters import InMemory
from flexcache_rs.pycache.py_cache import PyCache


def test_an_interrupted_start_leaves_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal handler raises after the thread has started. Nobody else could end it."""
    started: list[threading.Thread] = []

    def interrupted(thread: threading.Thread) -> None:
        thread.start()
        started.append(thread)
        raise KeyboardInterrupt

    monkeypatch.setattr("flexcache_rs.pycache.py_cache.start", interrupted)
    cache = PyCache(InMemory())
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(cache.start_ttl_deletion(3600))
    started[0].join(60)
    assert not started[0].is_alive()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_may_start_the_removal_again() -> None:
    """It does not have the thread of its parent."""
    removed = threading.Event()

    class Noting(PyCache):
        def delete_expired_attributes(self) -> int:
            removed.set()
            return 0

    cache = Noting(InMemory(), ttl_interval=3600)
    child = os.fork()
    if not child:
        try:
            asyncio.run(cache.start_ttl_deletion(0.001))
            os._exit(0 if removed.wait(60) else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    asyncio.run(cache.stop_ttl_deletion())
