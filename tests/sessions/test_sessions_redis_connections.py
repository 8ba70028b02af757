"""Valkey and Redis: which connections calls use, and what becomes of calls that were sent together."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest
from session_places import SERVERS, redis_server, result_in_child
from waiting import BRIEF

from flexcache_rs.sessions import OutcomeUnknown, SessionError, TimedOut, Unavailable, connect
from flexcache_rs.sessions import sync as now

if "redis" not in SERVERS:
    pytest.skip("there is no redis-server", allow_module_level=True)

if TYPE_CHECKING:
    from collections.abc import Callable

LONG = 60.0


def connections(raw: Any) -> int:
    """Return the number of connections that the server has accepted."""
    count: int = raw.info("stats")["total_connections_received"]
    return count


def asked(session: Any, name: str, *values: Any) -> Any:
    """Return a call of a session."""
    return session._codec.call(name, *values)


def test_threads_share_a_connection(redis_url: str, raw: Any) -> None:
    server = redis_server()
    with now.connect(redis_url, timeout=LONG) as session:
        for _ in range(2):
            session.set("key", 1)
        before = connections(raw)
        server.pause()
        threads = [threading.Thread(target=session.get, args=("key",)) for _ in range(5)]
        for thread in threads:
            thread.start()
        # All of them have asked before the first reply.
        for thread in threads:
            thread.join(0.02)
        server.go_on()
        for thread in threads:
            thread.join()
        assert connections(raw) == before


def test_a_connection_of_its_own_is_used_again(redis_url: str, raw: Any) -> None:
    with now.connect(redis_url) as session:
        backend: Any = session._backend
        session.set("key", 1)
        # As with TLS.
        backend._client.lane = "client"
        session.incr("key")
        before = connections(raw)
        for number in range(3, 8):
            assert session.incr("key") == number
            with pytest.raises(TypeError):
                session.list("key").push(1)
        assert connections(raw) == before


def test_calls_that_were_gathered_use_a_connection_again(redis_url: str, raw: Any) -> None:
    async def main() -> None:
        async with connect(redis_url) as session:
            await session.set("key", 1)
            backend: Any = session._backend
            calls = [asked(session, "get", ("key",)), asked(session, "kind", "key")]
            backend._run_all(calls)
            before = connections(raw)
            for _ in range(5):
                assert backend._run_all(calls) == [([1], None), ("scalar", None)]
            assert connections(raw) == before

    asyncio.run(main())


def test_a_user_who_must_not_read_the_version(redis_url: str, raw: Any) -> None:
    """The error is about that, and not about a version."""
    raw.execute_command("ACL", "SETUSER", "app", "on", ">secret", "~*", "&*", "+@all", "-get")
    try:
        with now.connect(redis_url, username="app", password="secret") as session:
            for _ in range(2):
                with pytest.raises(SessionError, match=r"^the server refused a command: .*permissions"):
                    session.set("key", 1)
    finally:
        raw.execute_command("ACL", "DELUSER", "app")


def calls_of(session: Any) -> tuple[Any, Any]:
    return asked(session, "get", ("key",)), asked(session, "incr", "key", 1, 0, ("keep", 0))


def fail_to_exchange(session: Any, monkeypatch: pytest.MonkeyPatch, raised: Callable[[], Exception]) -> Any:
    """Let commands that are sent together fail. Returns the backend."""
    backend: Any = session._backend
    session.set("key", 1)

    def fail(*_: object) -> None:
        raise raised()

    monkeypatch.setattr(backend._sender, "exchange", fail)
    return backend


def test_each_of_the_calls_that_were_sent_together_has_its_own_outcome(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with now.connect(redis_url) as session:
        backend = fail_to_exchange(session, monkeypatch, lambda: Unavailable("the connection was lost"))
        (nothing, read), (none, written) = backend._run_all(calls_of(session))
        assert (nothing, none) == (None, None)
        assert type(read) is Unavailable
        assert type(written) is OutcomeUnknown


def test_the_error_of_a_call_alone_keeps_its_cause(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only calls that were made together get copies of an error."""

    def fail(_: object) -> None:
        raise SessionError("error") from KeyError("cause")

    async def main() -> None:
        async with connect(redis_url) as session:
            backend: Any = session._backend
            monkeypatch.setattr(backend, "_run", fail)
            with pytest.raises(SessionError, match="error") as raised:
                await session.get("key")
            assert isinstance(raised.value.__cause__, KeyError)

    asyncio.run(main())


def test_a_read_that_was_late_is_not_repeated(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its caller has waited for the whole time already."""
    server = redis_server()
    with now.connect(redis_url, timeout=BRIEF) as session:
        session.set("key", 1)
        backend: Any = session._backend

        def fail(_: object) -> None:
            raise AssertionError("the call was made again")

        monkeypatch.setattr(backend, "_run", fail)
        server.pause()
        (_, read), (_, written) = backend._run_all(calls_of(session))
        server.go_on()
        assert type(read) is TimedOut
        assert type(written) is OutcomeUnknown


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_threads_of_its_own(redis_url: str) -> None:
    session = connect(redis_url)

    async def count() -> Any:
        async with session.transaction() as t:
            await t.incr("key")
        # Each event loop begins without a connection, so that a thread makes its first calls.
        return await session.incr("key")

    async def end() -> None:
        await session.aclose()

    assert asyncio.run(count()) == 2
    assert result_in_child(count) == 4
    assert asyncio.run(count()) == 6
    asyncio.run(end())
