"""Awaited reads without a thread. Each event loop has its own connection."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import os
import sys
import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from loops import PLACE, connected, told
from waiting import BRIEF, until

from flexcache_rs.remote import RemoteConnectionError, RemoteError, RemoteTimeoutError, RemoteValueError
from flexcache_rs.remote.client import Client

if TYPE_CHECKING:
    from collections.abc import Callable

    from own_server import Server

pytestmark = pytest.mark.skipif(os.name != "posix", reason="a thread reads elsewhere")

Make = "Callable[..., Any]"

LANES = ("client", "direct")


async def asked(cache: Any, *parts: Any) -> Any:
    """Return the reply to a command that is awaited without a thread."""
    return await cache._client.asker(PLACE)(None, parts)


def test_awaited_reads_need_no_thread(make: Make, no_thread: Callable[[], None]) -> None:
    cache = make(near=None)
    values: dict[str, Any] = {f"key {number}": b"%d" % number * (number % 7) * 10_000 for number in range(200)}
    cache.set_many(values)

    async def main() -> None:
        await told(cache)
        no_thread()
        assert dict(zip(values, await asyncio.gather(*map(cache.aget, values)), strict=True)) == values
        assert await cache.aget("absent", "default") == "default"
        assert await cache.afresh("key 1") == values["key 1"]
        assert [await cache.aget(key) for key in ("key 1", "key 2")] == [values["key 1"], values["key 2"]]

    asyncio.run(main())


def test_reads_that_are_cancelled_leave_the_others_their_answers(make: Make) -> None:
    cache = make(near=None)
    cache.set_many({number: number for number in range(50)})

    async def main() -> None:
        await connected(cache)
        for _ in range(20):
            tasks = [asyncio.create_task(cache.aget(number)) for number in range(50)]
            await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert results[1::2] == list(range(50))[1::2]

    asyncio.run(main())


def test_a_server_that_is_silent(make: Make, server: Server) -> None:
    cache = make(near=None, timeout=BRIEF)

    async def main() -> None:
        await connected(cache)
        cache["key"] = 1
        server.pause()
        try:
            with pytest.raises(RemoteTimeoutError):
                await cache.aget("key")
        finally:
            server.go_on()
        await asyncio.to_thread(until, lambda: not cache.stats().is_breaker_open)
        assert await cache.aget("key") == 1

    asyncio.run(main())


def test_connections_that_are_closed_are_made_again(make: Make, raw: Any, no_thread: Callable[[], None]) -> None:
    cache = make(near=None)

    async def main() -> None:
        await connected(cache)
        for number in range(5):
            cache["key"] = number
            for each in raw.client_list():
                # Not the one that listens.
                if each["name"] == "flexcache-test" and "t" not in each["flags"]:
                    raw.client_kill_filter(_id=each["id"])
            assert await cache.aget("key") == number
            await connected(cache)
        cache["key"] = 5
        no_thread()
        assert await cache.aget("key") == 5

    asyncio.run(main())


def test_event_loops_have_connections_of_their_own(make: Make) -> None:
    cache, failed = make(near=None), []
    cache.set_many({number: number for number in range(100)})

    async def use() -> None:
        for _ in range(5):
            if await asyncio.gather(*map(cache.aget, range(100))) != list(range(100)):
                failed.append(1)
            await connected(cache)

    threads = [threading.Thread(target=asyncio.run, args=(use(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


def test_what_is_no_value_of_the_cache(make: Make, raw: Any) -> None:
    cache = make(near=None)

    async def main() -> None:
        await connected(cache)
        raw.set("test:{text}", "text")
        raw.rpush("test:{list}", "a")
        for key in ("text", "list"):
            with pytest.raises(RemoteValueError, match=key):
                await cache.aget(key)
        assert await cache.aget("first") == 1

    asyncio.run(main())


def test_a_cache_that_is_closed_closes_them(make: Make, raw: Any) -> None:
    cache = make(near=None, name="closing")

    async def main() -> None:
        await connected(cache)
        cache.close()
        with pytest.raises(ValueError, match="closed"):
            await cache.aget("first")

    asyncio.run(main())
    until(lambda: not [each for each in raw.client_list() if each["name"] == "flexcache-closing"])


@pytest.mark.parametrize("how", ["renew", "close"])
def test_a_connection_that_was_begun_before_all_were_renewed(
    make: Make, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """The connection may lead to a server that was replaced in the meantime."""
    cache = make(near=None, lane="client")
    made: list[Any] = []
    begun, goes_on, connect = threading.Event(), threading.Event(), Client.connect

    def slow(self: Client, timeout: float) -> Any:
        made.append(connect(self, timeout))
        begun.set()
        goes_on.wait(60)
        return made[-1]

    async def main() -> None:
        monkeypatch.setattr(Client, "connect", slow)
        # The second one has it made.
        assert cache._client.asker(PLACE) is None
        assert not begun.is_set()
        assert cache._client.asker(PLACE) is None
        await asyncio.to_thread(begun.wait, 60)
        getattr(cache._client, how)()
        goes_on.set()
        while made[0]._sock is not None:
            await asyncio.sleep(0.001)
        if how == "renew":
            await connected(cache)
            assert cache._client._loops.current()._connection is not made[0]

    asyncio.run(main())


def test_what_is_read_that_way_is_a_copy_like_others(make: Make, no_thread: Callable[[], None]) -> None:
    cache, other = make(), make()
    other.set_many({number: number for number in range(10)})

    async def main() -> None:
        await told(cache)
        no_thread()
        assert await asyncio.gather(*map(cache.aget, range(10))) == list(range(10))

    asyncio.run(main())
    assert cache._near._get_from_memory(9, None) == 9
    other[9] = "new"
    until(lambda: cache.get(9) == "new")


def test_more_is_asked_at_a_time_than_the_socket_takes(make: Make, no_thread: Callable[[], None]) -> None:
    cache = make(near=None, timeout=60)
    keys = [f"{number:08d}" * 30 for number in range(5_000)]
    cache.set_many(dict.fromkeys(keys, 1))

    async def main() -> None:
        await told(cache)
        no_thread()
        assert await asyncio.gather(*map(cache.aget, keys)) == [1] * len(keys)
        # And the loop does not ask the socket any more whether it takes something.
        assert not cache._client._loops.current()._is_full

    asyncio.run(main())


def test_a_command_that_is_late_fails_alone(make: Make, raw: Any) -> None:
    cache = make(near=None, timeout=BRIEF)

    async def main() -> None:
        await connected(cache)
        first, slow = (asyncio.ensure_future(asked(cache, *parts)) for parts in (("ECHO", "a"), ("BLPOP", "list", 0)))
        assert await first == b"a"
        with pytest.raises(RemoteTimeoutError):
            await slow
        after = asyncio.ensure_future(asked(cache, "ECHO", "b"))
        await asyncio.sleep(0)
        raw.rpush("list", "of the slow one")
        assert await after == b"b"

    asyncio.run(main())


def test_a_connection_on_which_nothing_comes_is_ended(make: Make, no_thread: Callable[[], None]) -> None:
    cache = make(near=None, timeout=BRIEF)

    async def main() -> None:
        await connected(cache)
        before = cache._client._loops.current()
        waiting, behind = (
            asyncio.ensure_future(asked(cache, *parts)) for parts in (("BLPOP", "list", 0), ("ECHO", "a"))
        )
        with pytest.raises(RemoteTimeoutError):
            await waiting
        # Its own time may not be over yet.
        with pytest.raises((RemoteTimeoutError, RemoteConnectionError)):
            await behind
        assert not before.is_open
        await told(cache)
        no_thread()
        assert await cache.aget("first") == 1

    asyncio.run(main())


def test_refusals(make: Make) -> None:
    cache = make(near=None)

    async def main() -> None:
        await connected(cache)
        with pytest.raises(RemoteError, match="NONSENSE"):
            await asked(cache, "NONSENSE")
        assert await asked(cache, "ECHO", "a") == b"a"

    asyncio.run(main())


def test_awaited_reads_fail_as_others_do(server: Server, make: Make, raw: Any) -> None:
    """`on_error` also applies to commands that the server refuses."""
    allow = functools.partial(raw.execute_command, "ACL", "SETUSER", "few", "on", ">secret", "allkeys", "allchannels")
    allow("+@all")
    client = server.client(username="few", password="secret")
    lenient, strict = make(client, on_error="miss"), make(client)

    async def main() -> None:
        for cache in (lenient, strict):
            await connected(cache)
        allow("-get")
        assert await lenient.aget("key", 5) == 5
        with pytest.raises(RemoteError, match="refused"):
            await strict.aget("key")

        allow("+get", "-set", "-del", "-evalsha", "-getrange")
        assert not await lenient.aadd("new", 1)
        assert not await lenient.atouch("first", 100)
        await lenient.aset_many({"new": 1, "other": 2})
        assert await lenient.aget_many(["new", "first"]) == {"first": 1}
        for cache in (lenient, strict):
            for refused in (cache.aincr("first"), cache.adelete_many(["first", "new"]), cache.attl("first")):
                with pytest.raises(RemoteError, match="refused"):
                    await refused
        for refused in (strict.aadd("new", 1), strict.atouch("first", 1), strict.aset_many({"new": 1, "other": 2})):
            with pytest.raises(RemoteError, match="refused"):
                await refused
        allow("+@all", "-get")

    asyncio.run(main())
    assert lenient.get("key", 5) == 5
    with pytest.raises(RemoteError, match="refused"):
        strict.get("key")


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_loops_that_come_and_go_leave_nothing(make: Make) -> None:
    """Neither those whose commands were answered, nor those that were closed before, nor those that left tasks."""
    cache = make(near=None)
    cache["first"] = 1
    loops: list[weakref.ref[Any]] = []

    async def answered() -> None:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        await connected(cache)

    async def unanswered() -> None:
        await answered()
        never = asyncio.ensure_future(asked(cache, "BLPOP", "list", 0))
        await asyncio.sleep(0)
        never.cancel()

    def abandoned() -> None:
        async def begin() -> None:
            await answered()
            left.append(asyncio.ensure_future(asked(cache, "BLPOP", "list", 0)))
            await asyncio.sleep(0)

        left: list[asyncio.Task[Any]] = []
        with contextlib.closing(asyncio.new_event_loop()) as loop:
            loop.run_until_complete(begin())
        # It would write to the log.
        left[0]._log_destroy_pending = False  # type: ignore[attr-defined]

    def files() -> int:
        gc.collect()
        return len(list(Path("/proc/self/fd").iterdir()))

    before = files()
    for _ in range(10):
        asyncio.run(answered()), asyncio.run(unanswered()), abandoned()
    assert files() <= before
    assert not [loop for loop in loops if loop() is not None]


def test_a_loop_that_cannot_read_sockets(make: Make) -> None:
    """On such a loop, as on Windows, calls use threads."""
    cache = make(near=None)
    cache["key"] = 1

    class Loop(asyncio.SelectorEventLoop):
        def add_reader(self, fd: Any, *_: Any) -> None:
            refused.append(fd)
            raise NotImplementedError

    refused: list[Any] = []
    failed: list[dict[str, Any]] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, what: failed.append(what))
        while not refused:
            assert await cache.afresh("key") == 1
        for _ in range(3):
            assert cache._client.asker(PLACE) is None
            assert await cache.afresh("key") == 1

    loop = Loop()
    loop._add_reader(loop._ssock, loop._read_from_self)  # type: ignore[attr-defined]
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()
    assert failed == []
    assert len(refused) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_child_leaves_the_connection_of_its_parent_alone(make: Make, no_thread: Callable[[], None]) -> None:
    cache = make(near=None, timeout=60)

    async def main() -> None:
        await connected(cache)
        waiting = asyncio.ensure_future(asked(cache, "BLPOP", "list", 0))
        await asyncio.sleep(0)
        child = os.fork()
        if child == 0:
            try:
                asyncio._set_running_loop(None)
                gc.collect()
                asyncio.run(connected(cache))
                os._exit(0)
            finally:
                os._exit(2)
        ended = await asyncio.to_thread(os.waitpid, child, 0)
        assert os.waitstatus_to_exitcode(ended[1]) == 0
        cache._client.execute("RPUSH", "list", "a")
        assert await waiting == [b"list", b"a"]
        no_thread()
        assert await cache.aget("first") == 1

    asyncio.run(main())
