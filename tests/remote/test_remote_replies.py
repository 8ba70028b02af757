"""Replies that the commands never have, such as those of a proxy that mixes them up. They are errors of the server."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
import redis
import valkey

from flexcache_rs._core import _remote_entry
from flexcache_rs.remote import RemoteError, RemoteValueError
from flexcache_rs.remote.failures import refusal

if TYPE_CHECKING:
    from collections.abc import Callable

Make = "Callable[..., Any]"

pytestmark = pytest.mark.in_turn("engine", "lane")

WRONG: list[Any] = [5, b"x", None, [], [b"a", b"b"], [5, 5, 5], [[1]], [b"0", [1]], {}, 1.5]

CALLS: dict[str, Callable[[Any], Any]] = {
    "get": lambda cache: cache.get("key"),
    "fresh": lambda cache: cache.fresh("key"),
    "get_many": lambda cache: cache.get_many(["key", "other"]),
    "contains": lambda cache: "key" in cache,
    "ttl": lambda cache: cache.ttl("key"),
    "scan": lambda cache: list(cache.scan()),
    "put": lambda cache: cache.put("key", 1),
    "put with tags": lambda cache: cache.put("key", 1, tags=["tag"]),
    "add": lambda cache: cache.add("key", 1),
    "set_many": lambda cache: cache.set_many({"key": 1, "other": 2}),
    "delete": lambda cache: cache.delete("key"),
    "delete_many": lambda cache: cache.delete_many(["key", "other"]),
    "pop": lambda cache: cache.pop("key", None),
    "touch": lambda cache: cache.touch("key", 3),
    "incr": lambda cache: cache.incr("number"),
    "compare_and_set": lambda cache: cache.compare_and_set("key", 1, 2),
    "get_or_set": lambda cache: cache.get_or_set("key", lambda: 1),
    "clear": lambda cache: cache.clear(),
    "purge": lambda cache: cache.purge(),
    "evict_tag": lambda cache: cache.evict_tag("tag"),
    "lock": lambda cache: cache.lock("name", timeout=0).acquire(),
    "limiter": lambda cache: cache.limiter("name", 3).hit(),
    "window": lambda cache: cache.limiter("name", 3, algorithm="sliding_window").hit(),
}

AWAITED: dict[str, Callable[[Any], Any]] = {
    "aget": lambda cache: cache.aget("key"),
    "aget_many": lambda cache: cache.aget_many(["key", "other"]),
    "attl": lambda cache: cache.attl("key"),
    "aput": lambda cache: cache.aput("key", 1),
    "aadd": lambda cache: cache.aadd("key", 1),
    "aset_many": lambda cache: cache.aset_many({"key": 1, "other": 2}),
    "adelete": lambda cache: cache.adelete("key"),
    "atouch": lambda cache: cache.atouch("key", 3),
    "aincr": lambda cache: cache.aincr("number"),
    "acompare_and_set": lambda cache: cache.acompare_and_set("key", 1, 2),
    "aget_or_set": lambda cache: cache.aget_or_set("key", lambda: 1),
}


def garbling(make: Any, monkeypatch: pytest.MonkeyPatch, wrong: Any) -> Any:
    """Return a cache that knows all nonces, and whose commands all get one reply."""
    cache = make(near=None, lease_wait=0.1)
    cache.set_many({"key": 1, "number": 1})
    client = cache._client
    with_reply = monkeypatch.setattr
    with_reply(client, "execute", lambda *_: wrong)
    with_reply(client, "execute_many", lambda commands: [wrong] * len(commands))
    if cache.lane == "direct":
        # As the native method does.
        with_reply(client, "entry", lambda _, known: _remote_entry(wrong, known) if type(wrong) is bytes else wrong)
    return cache


@pytest.mark.parametrize("call", CALLS)
def test_a_wrong_reply_is_an_error_of_the_server(make: Make, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """It never raises what a wrong argument raises, and no call repeats its command for ever."""
    for wrong in WRONG:
        with monkeypatch.context() as patch:
            cache = garbling(make, patch, wrong)
            try:
                CALLS[call](cache)
            except RemoteError as error:
                assert "reply to " in str(error)
            except RemoteValueError:
                # It looks like the data of another program.
                pass
            except KeyError:
                assert (call, wrong) in (("ttl", None), ("ttl", []))


@pytest.mark.parametrize("call", AWAITED)
def test_a_wrong_reply_to_an_awaited_call(make: Make, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """A connection of an event loop, and the threads after it, get the wrong reply."""
    for wrong in WRONG:

        async def main(wrong: Any = wrong) -> None:
            def submit(known: Any, _: Any, *, before: Any = None, write: Any = None) -> Any:
                future = asyncio.get_running_loop().create_future()
                if write is not None:
                    write.end()
                replies = [wrong] * (1 + len(before or ()))
                if before is not None:
                    future.set_result(replies)
                else:
                    future.set_result(_remote_entry(wrong, known) if known and type(wrong) is bytes else wrong)
                return future

            with monkeypatch.context() as patch:
                cache = garbling(make, patch, wrong)
                patch.setattr(cache._client, "asker", lambda _: submit)
                try:
                    await AWAITED[call](cache)
                except RemoteError as error:
                    assert "reply to " in str(error)
                except RemoteValueError:
                    pass
                except KeyError:
                    assert call == "attl"

        asyncio.run(main())


@pytest.mark.parametrize("package", [redis, valkey])
@pytest.mark.parametrize("text", ["MOVED", "MOVED x", "ASK 1 host:port", "MOVED 1 h"])
def test_a_redirection_that_names_no_server(package: Any, text: str) -> None:
    """The classes of the packages cannot be made of it."""
    assert type(refusal(package.exceptions, text)) is package.exceptions.ResponseError
