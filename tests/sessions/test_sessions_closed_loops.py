"""An event loop that is closed in the middle of a computation gives back the lease of its key."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any

import pytest
from waiting import until

if TYPE_CHECKING:
    from session_places import Place

    from flexcache_rs.sessions import sync


def begin(place: Place) -> tuple[Any, Any, Any]:
    """Let a task compute, and close its event loop. Returns all objects that refer to it."""
    loop = asyncio.new_event_loop()
    begun: list[bool] = []

    async def main() -> tuple[Any, Any]:
        awaited = place.awaited()

        async def compute() -> None:
            begun.append(True)
            await asyncio.sleep(1000)

        task = loop.create_task(awaited.get_or_set("key", compute))
        while not begun:
            await asyncio.sleep(0.001)
        return awaited, task

    awaited, task = loop.run_until_complete(main())
    loop.close()
    return awaited, task, loop


@pytest.mark.filterwarnings("ignore")
def test_the_collector_gives_it_back(place: Place, session: sync.Session, caplog: pytest.LogCaptureFixture) -> None:
    awaited, task, loop = begin(place)
    del task, loop
    gc.collect()
    lease = session._codec.call("lease", "load:key", b"t" * 16, 1)
    until(lambda: session._backend.run(lease) is None)
    asyncio.run(awaited.aclose())
    assert "never retrieved" not in caplog.text


@pytest.mark.filterwarnings("ignore")
def test_another_task_of_the_session_gives_it_back(place: Place) -> None:
    awaited, task, loop = begin(place)

    async def main() -> Any:
        return await awaited.get_or_set("key", lambda: "value")

    assert asyncio.run(asyncio.wait_for(main(), 20)) == "value"
    asyncio.run(awaited.aclose())
    del task, loop
