"""Awaited calls other than reads of one key. They use no thread if one exchange with the server is enough."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest
from loops import connected, told
from news import hear
from waiting import BRIEF, until

from flexcache_rs.remote import RemoteError, RemoteTimeoutError, RemoteValueError
from flexcache_rs.remote.commands import Commands
from flexcache_rs.remote.nonces import MARK, NAMESPACE
from flexcache_rs.remote.store import RemoteStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from own_server import Server

pytestmark = pytest.mark.skipif(os.name != "posix", reason="a thread reads elsewhere")

Make = "Callable[..., Any]"

LANES = ("client", "direct")


def test_a_read_suggests_the_argument_that_was_meant(make: Make) -> None:
    """A native call, so that the check costs nothing where all arguments are known."""
    cache = make()
    with pytest.raises(
        TypeError, match=r"^get\(\) got an unexpected keyword argument 'defualt'; did you mean default="
    ):
        cache.get("key", defualt=1)
    cache.get("key", default=1)


def test_awaited_writes_need_no_thread(make: Make, no_thread: Callable[[], None]) -> None:
    cache, other = make(), make()
    # The nonce of a new tag is announced, too.
    until(lambda: (cache.put("tagged", 0, tags=["tag"]), cache._store.nonces.known(MARK + "tag"))[1])

    async def main() -> None:
        await told(cache)
        no_thread()
        await cache.aput("tagged", 1, tags=iter(["tag"]))
        assert other.tags("tagged") == ("tag",)
        await asyncio.gather(*(cache.aput(f"key {number}", number, ttl=100) for number in range(200)))
        assert other.get_many([f"key {number}" for number in range(200)]) == {f"key {n}": n for n in range(200)}
        assert 95 < other.ttl("key 7") <= 100
        await cache.aset("key 7", "x" * 1_000_000)
        assert await cache.aget("key 7") == "x" * 1_000_000 == other.fresh("key 7")
        assert [await cache.adelete("key 7"), await cache.adelete("key 7")] == [True, False]
        assert other.fresh("key 7", "gone") == "gone"

    asyncio.run(main())


def test_other_awaited_calls_need_no_thread(make: Make, no_thread: Callable[[], None]) -> None:
    cache, other = make(), make()
    # The server has the scripts.
    other["key"] = 1
    assert (other.incr("key"), other.touch("key", 50), other.compare_and_set("key", 2, 1)) == (2, True, True)

    async def main() -> None:
        await told(cache)
        no_thread()
        assert [await cache.aincr("key"), await cache.aincr("key", 5), await cache.adecr("key", 2)] == [2, 7, 5]
        assert cache.get("key") == other.fresh("key") == 5
        assert await cache.atouch("key", 100)
        assert 95 < await cache.attl("key") <= 100
        assert await cache.apersist("key")
        assert await cache.attl("key") is None
        assert not await cache.atouch("absent", 100)
        with pytest.raises(KeyError, match="absent"):
            await cache.attl("absent")
        assert [await cache.aadd("added", 1, ttl=100), await cache.aadd("added", 2)] == [True, False]
        assert 95 < await cache.attl("added") <= 100
        swapped = [await cache.acompare_and_set("added", *values, ttl=200) for values in ((1, "one"), (1, 3))]
        assert swapped == [True, False]
        assert not await cache.acompare_and_set("absent", 1, 2)
        assert other.fresh("added") == "one"
        assert 195 < await cache.attl("added") <= 200

    asyncio.run(main())


def test_many_at_a_time_need_no_thread(make: Make, no_thread: Callable[[], None]) -> None:
    """Values of all kinds are read, while other calls run."""
    cache, other = make(), make()
    values: dict[Any, Any] = {number: number for number in range(900)} | {("a", 1): [1], "~": None, b"b": b"b"}

    async def main() -> None:
        await told(cache)
        no_thread()
        _, other_read = await asyncio.gather(cache.aset_many(values, ttl=100), cache.aget("first"))
        assert other_read == 1
        assert other.get_many(values) == values
        assert 95 < other.ttl(899) <= 100
        until(lambda: cache._store.known() is not None)
        assert await cache.aget_many([*values, "absent", 7, "~"]) == values
        # Some of them are in memory by now, and the order is that of the keys.
        assert list(await cache.aget_many(["absent", b"b", 1, "first", 2])) == [b"b", 1, "first", 2]
        assert await cache.aget_many([]) == {}
        await cache.aset_many([("of pairs", 1)])
        assert await cache.adelete_many([*values, "absent", 7]) == len(values)
        until(lambda: other.get_many(values) == {})
        assert await cache.adelete_many(iter(["of pairs"])) == 1

    asyncio.run(main())


def test_what_needs_more_than_one_exchange_goes_through_a_thread(make: Make, raw: Any) -> None:
    cache, other = make(), make()

    async def main() -> None:
        await connected(cache)
        raw.script_flush()
        assert [await cache.aincr("n", 5, 1), await cache.aincr("n", 1)] == [6, 7]
        assert await cache.aincr("n", 1 << 60) == 7 + (1 << 60)
        raw.script_flush()
        assert await cache.atouch("n", 100)
        raw.script_flush()
        assert await cache.acompare_and_set("n", 7 + (1 << 60), 1)
        other.put("dead", 1, tags=["tag"])
        other.evict_tag("tag")
        assert await cache.aadd("dead", 2)
        assert await cache.aget_many(["dead", "n"]) == {"dead": 2, "n": 1}
        other.put("tagged", 1, tags=["new"])
        assert await cache.aget_many(["tagged", "n"]) == {"tagged": 1, "n": 1}
        # A lease alone: others are told of its removal.
        assert await cache.adelete_many(["dead", "nothing"]) == 1
        await cache.aset_many({"a": 1}, tags=(tag for tag in ("x", "y")))
        assert other.tags("a") == ("x", "y")
        await cache.aset_many({})
        assert await cache.adelete_many([]) == 0
        # More than are sent at a time.
        values = {number: number for number in range(2500)}
        await cache.aset_many(values)
        assert await cache.aget_many(values) == values
        assert await cache.adelete_many(values) == len(values)

    asyncio.run(main())


def test_other_awaited_calls_refuse_what_others_do(make: Make, raw: Any) -> None:
    cache = make()

    async def main() -> None:
        await connected(cache)
        raw.rpush("test:{list}", "a")
        await cache.aput("text", "a")
        for call, kind, text in (
            (cache.aincr("text"), TypeError, "not an int"),
            (cache.aincr("list"), RemoteValueError, "list"),
            (cache.aincr("first", 1.5), TypeError, "by must be an int"),
            (cache.adecr("first", True), TypeError, "by must be an int"),
            (cache.aincr("first", ttl="x"), TypeError, "ttl must be"),
            (cache.atouch("first", "x"), TypeError, "ttl must be"),
            (cache.atouch("list", 1), RemoteValueError, "list"),
            (cache.attl("list"), RemoteValueError, "list"),
            (cache.aadd(object(), 1), TypeError, "a key must be"),
            (cache.aadd("key", 1, None, "tag"), TypeError, "tags must be an iterable of str"),
            (cache.aset_many({"key": 1, "other": threading.Lock()}), TypeError, "pickle"),
            (cache.aset_many({object(): 1}), TypeError, "a key must be"),
            (cache.aset_many({"key": 1}, "x"), TypeError, "ttl must be"),
            (cache.aget_many([object()]), TypeError, "a key must be"),
            (cache.adelete_many(["first", object()]), TypeError, "a key must be"),
            (cache.acompare_and_set("list", 1, 2), RemoteValueError, "list"),
            (cache.acompare_and_set("first", 1, 2, "x"), TypeError, "ttl must be"),
        ):
            with pytest.raises(kind, match=text):
                await call
        assert await cache.aget_many(["first", "list", "key"]) == {"first": 1}
        assert not await cache.acompare_and_set("first", "x", threading.Lock())
        assert await cache.adelete_many(["list", "first"]) == 2

    asyncio.run(main())


IN_VAIN: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "aget_many": (lambda cache: cache.aget_many(["first", "absent"]), {}),
    "aadd": (lambda cache: cache.aadd("new", 1), False),
    "atouch": (lambda cache: cache.atouch("first", 100), False),
    "aset_many": (lambda cache: cache.aset_many({"new": 1}), None),
}
"""Calls which the server does not answer, and their results if they raise nothing and no key is known."""


@pytest.mark.in_turn("call", "on_error")
@pytest.mark.parametrize("on_error", ["raise", "miss", "stale"])
@pytest.mark.parametrize("call", IN_VAIN)
def test_other_awaited_calls_while_the_server_is_silent(make: Make, server: Server, call: str, on_error: str) -> None:
    cache = make(near=None, timeout=BRIEF, on_error=on_error)
    made, result = IN_VAIN[call]
    if (call, on_error) == ("aget_many", "stale"):
        result = {"first": 1}

    async def main() -> None:
        await connected(cache)
        # It leaves no copy in memory.
        await cache.aput("first", 1)
        server.pause()
        try:
            if on_error == "raise":
                with pytest.raises(RemoteTimeoutError):
                    await made(cache)
            else:
                assert await made(cache) == result
            # Others do not wait.
            assert cache.stats().is_breaker_open
            for strict in (cache.aincr("first"), cache.adelete_many(["first"]), cache.attl("first")):
                with pytest.raises(RemoteError):
                    await strict
        finally:
            server.go_on()

    asyncio.run(main())


def test_what_was_written_is_what_is_known_last(make: Make, server: Server) -> None:
    cache = make(timeout=BRIEF, on_error="stale")
    assert (cache.put("of a thread", 1), cache.incr("of a thread")) == (None, 2)
    assert (cache.put("swapped", 1), cache.compare_and_set("swapped", 1, 2)) == (None, True)

    async def main() -> None:
        await connected(cache)
        assert await cache.aincr("first") == 2
        assert await cache.aadd("added", "a")
        assert not await cache.aadd("first", 9)
        assert await cache.atouch("first", 100)
        assert await cache.acompare_and_set("added", "a", "b")
        await cache.aset_many({"x": 1, "y": 2})
        assert await cache.adelete_many(["y"]) == 1
        server.pause()
        try:
            known = await cache.aget_many(["of a thread", "swapped", "first", "added", "x", "y"])
        finally:
            server.go_on()
        assert known == {"of a thread": 2, "swapped": 2, "first": 2, "added": "b", "x": 1}

    asyncio.run(main())


def test_awaited_writes_refuse_what_others_do(make: Make) -> None:
    cache = make()

    async def main() -> None:
        await connected(cache)
        for arguments, kind, text in (
            ((object(), 1), TypeError, "a key must be"),
            (("key", 1, "x"), TypeError, "ttl must be"),
            (("key", 1, None, "tag"), TypeError, "tags must be an iterable of str"),
            (("key", threading.Lock()), TypeError, "pickle"),
        ):
            with pytest.raises(kind, match=text):
                await cache.aput(*arguments)
        assert await cache.aget("key", "none") == "none"

    asyncio.run(main())


def test_awaited_writes_with_tags_that_are_not_known(make: Make) -> None:
    cache = make()

    async def main() -> None:
        await connected(cache)
        await cache.aput("key", 1, tags=(tag for tag in ("a", "b")))
        assert cache.tags("key") == ("a", "b")
        await cache.aevict_tag("a")
        assert await cache.aget("key") is None

    asyncio.run(main())


def test_a_write_that_is_cancelled_is_in_flight_until_it_is_answered(make: Make, server: Server) -> None:
    """A read in the meantime may return the old value, so no copy of it is kept."""
    cache = make(timeout=20.0)
    place = cache._store.keys.value("key")

    def calls() -> tuple[Any, ...]:
        return (
            *(cache.aput("key", 1), cache.adelete("key"), cache.aadd("key", 1), cache.aincr("key")),
            *(cache.aset_many({"a": 1, "key": 2, "z": 3}), cache.adelete_many(["a", "key", "z"])),
        )

    async def main() -> None:
        await connected(cache)
        # Otherwise a thread would ask for the nonce first. The news of a new one ends what is known of it.
        hear(cache)
        until(lambda: cache._store.nonces.known(NAMESPACE) and cache._store.tracker.stamp(place))
        server.pause()
        try:
            for call in calls():
                task = asyncio.create_task(call)
                await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait([task])
                assert task.cancelled()
                assert not cache._store.tracker.stamp(place)
        finally:
            server.go_on()
        while not cache._store.tracker.stamp(place):
            await asyncio.sleep(0.001)

    asyncio.run(main())


WRITES: dict[str, Callable[[Any], Any]] = {
    "aput": lambda cache: cache.aput("key", 1),
    "aadd": lambda cache: cache.aadd("key", 1),
    "aincr": lambda cache: cache.aincr("key"),
    "adelete": lambda cache: cache.adelete("key"),
    "aset_many": lambda cache: cache.aset_many({"key": 1, "other": 2}),
    "adelete_many": lambda cache: cache.adelete_many(["other", "key"]),
}


@pytest.mark.in_turn("write", "lane")
@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_writes_in_flight_end_with_their_connection(make: Make, server: Server, write: Callable[[Any], Any]) -> None:
    cache = make(timeout=BRIEF)
    place = cache._store.keys.value("key")

    async def main() -> None:
        await told(cache)
        server.pause()
        try:
            with pytest.raises(RemoteTimeoutError):
                await write(cache)
        finally:
            server.go_on()
        assert cache._store.tracker.stamp(place)
        assert cache.stats().breaker_opened == 1

    asyncio.run(main())


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_writes_in_flight_end_with_their_loop(make: Make, server: Server, write: Callable[[Any], Any]) -> None:
    """Without another loop. Otherwise, memory would keep no copy of their keys from then on."""
    cache = make()
    place = cache._store.keys.value("key")

    async def main() -> None:
        writing = None
        while cache._store.tracker.stamp(place):
            if writing is None or writing.done():
                # Or again: a busy machine may delay the listener, which then closes the connection.
                if writing is not None:
                    writing.exception()
                server.go_on()
                await told(cache)
                server.pause()
                writing = asyncio.ensure_future(write(cache))
            await asyncio.sleep(0)
        assert writing is not None
        writing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await writing
        assert not cache._store.tracker.stamp(place)

    try:
        asyncio.run(main())
    finally:
        server.go_on()
    until(lambda: cache._store.tracker.stamp(place))


def test_writes_after_the_connections_were_closed(make: Make, raw: Any) -> None:
    """A closed connection is noticed before anything is sent."""
    cache = make(near=None)

    async def main() -> None:
        await connected(cache)
        for number in range(20):
            for each in raw.client_list():
                # Not the one that listens.
                if each["name"] == "flexcache-test" and "t" not in each["flags"]:
                    raw.client_kill_filter(_id=each["id"])
            await cache.aput("key", number)
            assert await cache.afresh("key") == number
            assert await cache.adelete("key")
            await connected(cache)

    asyncio.run(main())


@pytest.mark.parametrize("lease", [30, None])
def test_an_awaited_write_discards_computations(make: Make, lease: float | None) -> None:
    cache, began, goes_on = make(lease=lease), threading.Event(), threading.Event()

    def compute() -> int:
        began.set()
        goes_on.wait(30)
        return 1

    async def main() -> None:
        await connected(cache)
        for write, left in (
            (functools.partial(cache.aput, "key", 2), 2),
            (functools.partial(cache.adelete, "key"), 3),
            (functools.partial(cache.aadd, "key", 2), 2),
            (functools.partial(cache.aincr, "key", 2), 2),
            (functools.partial(asyncio.to_thread, cache.incr, "key", 2), 2),
            (functools.partial(cache.aset_many, {"key": 2}), 2),
            (functools.partial(cache.adelete_many, ["key"]), 3),
        ):
            cache.delete("key")
            began.clear()
            goes_on.clear()
            computing = asyncio.create_task(asyncio.to_thread(cache.get_or_set, "key", compute))
            await asyncio.to_thread(began.wait, 30)
            await write()
            # Whoever comes after the write does not wait for what was begun before it.
            assert await asyncio.to_thread(cache.get_or_set, "key", lambda: 3) == left
            goes_on.set()
            assert await computing == 1
            assert await cache.aget("key") == left

    asyncio.run(main())


def test_others_are_told_of_a_lease_by_a_thread(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server announces nothing about absent keys.

    The announcement takes another request, which would block the loop.
    """
    cache, other, began, goes_on = make(), make(), threading.Event(), threading.Event()
    tell, threads = RemoteStore._tell, list[int]()

    def compute() -> int:
        began.set()
        goes_on.wait(30)
        return 1

    def noted(self: RemoteStore, place: bytes) -> None:
        threads.append(threading.get_ident())
        tell(self, place)

    async def main() -> None:
        await connected(cache)
        monkeypatch.setattr(RemoteStore, "_tell", noted)
        computing = asyncio.create_task(asyncio.to_thread(other.get_or_set, "key", compute))
        await asyncio.to_thread(began.wait, 30)
        assert await cache.adelete_many(["key", "absent"]) == 0
        assert len(threads) == 1
        assert threading.get_ident() not in threads
        goes_on.set()
        assert await computing == 1
        assert await cache.afresh("key") is None

    asyncio.run(main())


@pytest.mark.parametrize("write", ["put", "set_many", "incr"])
def test_a_computation_that_begins_during_a_write_does_not_replace_it(
    make: Make, monkeypatch: pytest.MonkeyPatch, write: str
) -> None:
    """The computation may have found nothing before the server executed the write."""
    cache, began, goes_on = make(lease=None), threading.Event(), threading.Event()
    writing, results = Commands.writing, list[Any]()

    def compute() -> str:
        began.set()
        goes_on.wait(30)
        return "computed"

    def slow(self: Any, *places: bytes) -> Any:
        if not began.is_set():
            threads.append(threading.Thread(target=lambda: results.append(cache.get_or_set("key", compute))))
            threads[0].start()
            began.wait(30)
        return writing(self, *places)

    threads: list[threading.Thread] = []
    calls: dict[str, Callable[[], Any]] = {
        "put": lambda: cache.put("key", 2),
        "set_many": lambda: cache.set_many({"other": 1, "key": 2}),
        "incr": lambda: cache.incr("key", 2),
    }
    monkeypatch.setattr(Commands, "writing", slow)
    try:
        calls[write]()
    finally:
        goes_on.set()
        for thread in threads:
            thread.join()
    assert results == ["computed"]
    assert cache.fresh("key") == 2
