"""A call in a thread that fails after its task was cancelled is logged, and asyncio has nothing to complain of."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from typing import TYPE_CHECKING, Any

import pytest

from flexcache_rs._asyncio_calls import begin_in_thread, finish_in_thread
from flexcache_rs._taking import take_in_thread
from flexcache_rs.disk import Cache
from flexcache_rs.disk.aio import transaction

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path


class Failing:
    """A call that begins, waits until it may go on, and fails."""

    def __init__(self) -> None:
        self.has_begun, self.may_fail = threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.has_begun.set()
        self.may_fail.wait(60)
        raise OSError("the call failed")


def complaints(make: Callable[[Failing], Awaitable[Any]], is_logged: Callable[[], object]) -> list[str]:
    """Cancel a task while its call is in a thread, let the call fail, and return what asyncio complains of."""
    found: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: found.append(context["message"]))
        failing = Failing()
        task = asyncio.ensure_future(make(failing))
        await asyncio.to_thread(failing.has_begun.wait, 60)
        task.cancel()
        await asyncio.sleep(0)
        failing.may_fail.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        for _ in range(60_000):
            if is_logged() or found:
                break
            gc.collect(0)
            await asyncio.sleep(0.001)

    asyncio.run(main())
    gc.collect()
    return found


async def commit(path: Path, failing: Failing) -> None:
    """End a transaction whose end fails."""
    with Cache(path) as cache:
        block = transaction(cache, retry=True)
        await block.__aenter__()
        worker = block.worker
        entered = worker._entered

        class Ends:
            def __exit__(self, *raised: object) -> None:
                entered.__exit__(*raised)
                failing()

        worker._entered = Ends()
        await block.__aexit__(None, None, None)


MAKERS: dict[str, Callable[[Path, Failing], Awaitable[Any]]] = {
    "finished": lambda _, failing: finish_in_thread(failing),
    "taken": lambda _, failing: take_in_thread(begin_in_thread, failing, print),
    "committed": commit,
}


@pytest.mark.parametrize("name", MAKERS)
def test_a_failure_that_nobody_awaits_is_logged(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "flexcache_rs"):
        assert complaints(lambda failing: MAKERS[name](tmp_path, failing), lambda: caplog.records) == []
    assert [record.getMessage() for record in caplog.records] == ["a call that no task awaits any more has failed"]
    assert "the call failed" in caplog.text


@pytest.mark.parametrize("name", MAKERS)
def test_a_failure_that_is_awaited_is_raised_and_not_logged(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        failing = Failing()
        failing.may_fail.set()
        with pytest.raises(OSError, match="the call failed"):
            await MAKERS[name](tmp_path, failing)

    asyncio.run(main())
    assert caplog.records == []
