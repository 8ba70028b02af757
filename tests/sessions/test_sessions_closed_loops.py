"""An event loop that is closed in the middle of a call. A computation gives back the lease of its key."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from typing import TYPE_CHECKING, Any

import pytest
from session_places import redis_server
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


def abandon(place: Place) -> tuple[Any, weakref.ref[Any]]:
    """Closes an event loop whose task has asked and was not answered. Returns its session, and the loop."""
    session = place.awaited()

    async def main() -> asyncio.Task[Any]:
        await session.incr("key")
        # On Redis, the event loop gets a connection.
        client = getattr(session._backend, "_client", None)
        while client is not None and client.asker(b"") is None:
            await asyncio.sleep(0.001)
        if place.backend == "redis":
            redis_server().pause()
        task = asyncio.ensure_future(session.incr("key"))
        await asyncio.sleep(0)
        return task

    with contextlib.closing(asyncio.new_event_loop()) as loop:
        task = loop.run_until_complete(main())
    # It would write to the log.
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    return session, weakref.ref(loop)


@pytest.mark.filterwarnings("ignore")
def test_a_session_does_not_keep_it(place: Place) -> None:
    try:
        session, loop = abandon(place)
    finally:
        if place.backend == "redis":
            redis_server().go_on()

    def is_gone() -> bool:
        gc.collect()
        return loop() is None

    until(is_gone)
    asyncio.run(session.aclose())
