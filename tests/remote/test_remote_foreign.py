"""Data of other programs in the places of a cache. Errors name the place, and functions compute."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest
from news import hear
from waiting import until

from flexcache_rs.remote import RemoteError, RemoteValueError

if TYPE_CHECKING:
    from collections.abc import Callable

Make = "Callable[..., Any]"

pytestmark = pytest.mark.in_turn("engine", "lane")

NONCE, TAG, FORMAT = "test#:{}e", "test#:{tag}t", "test#:{}"

FOREIGN: dict[str, Callable[[Any, str], Any]] = {
    "list": lambda raw, place: raw.rpush(place, "theirs"),
    "empty": lambda raw, place: raw.set(place, b""),
    "no number": lambda raw, place: raw.set(place, b"nan"),
    "short": lambda raw, place: raw.set(place, b"theirs"),
    "long": lambda raw, place: raw.set(place, b"theirs" * 100_000),
}


@pytest.fixture(params=FOREIGN)
def store_foreign(request: pytest.FixtureRequest, raw: Any) -> Callable[[str], None]:
    """A function that stores something of another program in a place."""

    def store(place: str) -> None:
        raw.delete(place)
        FOREIGN[request.param](raw, place)

    return store


def names(place: str, call: Callable[[], Any]) -> bool:
    """Return True if a call raises an error that names a place in a message of reasonable length."""
    with pytest.raises(RemoteValueError) as raised:
        call()
    message = str(raised.value)
    return repr(place) in message and len(message) < 600


@pytest.mark.parametrize("is_awaited", [False, True])
def test_a_foreign_nonce_of_the_namespace(make: Make, store_foreign: Any, is_awaited: bool) -> None:
    cache = make()
    cache["key"] = 1
    hear(cache)
    store_foreign(NONCE)
    hear(cache)
    calls: list[Callable[[], Any]] = [
        *(lambda: cache.get("other"), lambda: cache.put("key", 2), lambda: cache.add("new", 2)),
        *(lambda: cache.incr("number"), lambda: cache.set_many({"key": 2}), lambda: cache.fresh("key")),
    ]
    if is_awaited:
        calls = [
            *(lambda: asyncio.run(cache.aget("other")), lambda: asyncio.run(cache.aput("key", 2))),
            *(lambda: asyncio.run(cache.aadd("new", 2)), lambda: asyncio.run(cache.aincr("number"))),
            *(lambda: asyncio.run(cache.aset_many({"key": 2})), lambda: asyncio.run(cache.afresh("key"))),
        ]
    for call in calls:
        assert names(NONCE, call)
    assert cache.get_or_set("computed", lambda: 3) == 3
    cache.clear()
    cache["key"] = 4
    until(lambda: make().get("key") == 4)


def test_a_foreign_nonce_of_a_tag(make: Make, store_foreign: Any) -> None:
    cache = make()
    cache.put("key", 1, tags=["tag"])
    cache["untagged"] = 1
    store_foreign(TAG)
    hear(cache)
    assert names(TAG, lambda: cache.put("key", 2, tags=["tag"]))
    assert cache["untagged"] == 1
    assert cache.get_or_set("computed", lambda: 3, tags=["tag"]) == 3
    cache.evict_tag("tag")
    cache.put("key", 4, tags=["tag"])
    until(lambda: make().get("key") == 4)


def test_a_value_that_was_left_out_is_not_remembered_as_absent(make: Make, raw: Any) -> None:
    cache = make(negative_ttl=60)
    raw.set(cache._store.keys.value("key"), b"theirs")
    hear(cache)
    assert cache.get_many(["key"]) == {}
    with pytest.raises(RemoteValueError, match="no value of this cache"):
        cache.get("key")


def test_one_invalid_reply_is_forgotten(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong nonce that was sent once fails one call, and is not used for others."""
    cache = make()
    cache["key"] = 1
    cache.clear()
    real = cache._client.execute_many

    def once(commands: Any) -> Any:
        monkeypatch.setattr(cache._client, "execute_many", real)
        return [7] * len(commands)

    monkeypatch.setattr(cache._client, "execute_many", once)
    with pytest.raises(RemoteValueError):
        cache._store.nonces.ensured(["", "t" + "new"])
    cache.put("key", 2)
    assert make().get("key") == 2


def test_a_foreign_format(make: Make, store_foreign: Any) -> None:
    store_foreign(FORMAT)
    with pytest.raises(ValueError, match=r"test#:|written as") as raised:
        make().get("key")
    assert len(str(raised.value)) < 600


def test_the_format_is_stored_again_after_a_purge(make: Make, raw: Any) -> None:
    """Otherwise, a cache with another serializer could use the namespace beside this one."""
    cache = make()
    before = raw.get(FORMAT)
    cache.purge()
    assert raw.get(FORMAT) is None
    cache["key"] = 1
    assert raw.get(FORMAT) == before


def test_a_foreign_lease(make: Make, store_foreign: Any) -> None:
    """A function computes, although nothing can tell others of it."""
    cache = make()
    store_foreign("test#:{key}l")
    assert cache.get_or_set("key", lambda: 3) == 3


def test_a_lease_that_another_program_replaces(
    make: Make, store_foreign: Any, caplog: pytest.LogCaptureFixture
) -> None:
    cache = make()

    def compute() -> int:
        store_foreign("test#:{key}l")
        return 3

    assert cache.get_or_set("key", compute) == 3
    assert not caplog.records


def test_a_foreign_nonce_of_a_function(make: Make, raw: Any, store_foreign: Any) -> None:
    """The function computes, and its later results are found again."""
    calls: list[int] = []
    function = make().memoize(name="function")(calls.append)
    function(1)
    (place,) = [place.decode() for place in raw.keys() if b"flexcache_rs memoize" in place]
    store_foreign(place)
    others = [make().memoize(name="function")(function.__wrapped__) for _ in range(2)]
    for each in others:
        each(1)
        each(1)
    assert calls == [1, 1]


@pytest.mark.parametrize("on_error", ["raise", "miss"])
def test_functions_compute_with_a_foreign_nonce_of_the_namespace(make: Make, store_foreign: Any, on_error: str) -> None:
    cache = make(on_error=on_error)
    calls: list[int] = []
    function = cache.memoize(name="function", ttl=60)(calls.append)

    @cache.memoize(name="awaited", ttl=60)
    async def awaited(number: int) -> None:
        calls.append(number)

    function(1)
    store_foreign(NONCE)
    hear(cache)
    function(2)
    asyncio.run(awaited(3))
    make(on_error=on_error).memoize(name="new")(calls.append)(4)
    function.clear()
    assert calls == [1, 2, 3, 4]
    assert names(NONCE, lambda: cache.put("key", 1))


def test_a_foreign_limiter(make: Make, store_foreign: Any, request: pytest.FixtureRequest) -> None:
    cache = make()
    store_foreign("test#:{name}r")
    store_foreign("test#:{name}w")
    limiter = cache.limiter("name", 5)
    assert names("test#:{name}r", limiter.hit)
    window = cache.limiter("name", 5, algorithm="sliding_window")
    assert names("test#:{name}w", window.hit)


def test_a_lock_whose_number_is_foreign_is_not_taken(make: Make, raw: Any, store_foreign: Any) -> None:
    cache = make()
    store_foreign("test#:{name}n")
    assert names("test#:{name}n", lambda: cache.lock("name").acquire(timeout=0))
    assert not raw.exists("test#:{name}k")
    raw.delete("test#:{name}n")
    assert cache.lock("name").acquire(timeout=0)


def test_a_lock_that_another_program_replaces_can_be_acquired_again(make: Make, raw: Any) -> None:
    lock = make().lock("name")
    assert lock.acquire(timeout=0)
    raw.delete("test#:{name}k")
    raw.rpush("test#:{name}k", "theirs")
    assert names("test#:{name}k", lock.renew)
    assert names("test#:{name}k", lock.release)
    raw.delete("test#:{name}k")
    assert lock.acquire(timeout=0)
    assert lock.release()


def test_a_lock_without_the_right_to_count_is_an_error_of_the_server(make: Make, server: Any, raw: Any) -> None:
    raw.execute_command("ACL", "SETUSER", "few", "on", ">secret", "~*", "&*", "+@all", "-incr")
    with pytest.raises(RemoteError, match="refused a command"):
        make(server.client(username="few", password="secret")).lock("name").acquire(timeout=0)
    assert not raw.exists("test#:{name}k")


@pytest.mark.parametrize("ttl", [None, 600.0, 0.3])
def test_an_entry_that_another_program_removes_meanwhile_stays_removed(make: Make, raw: Any, ttl: float | None) -> None:
    """The program may have removed it because of data that is newer than the result."""
    cache, computed = make(), []

    def compute(_: int) -> int:
        computed.append(None)
        if len(computed) == 2:
            place = cache._store.keys.value(function.cache_key(1))
            assert raw.delete(place) or ttl == 0.3
            if ttl == 0.3:
                # It would have expired meanwhile, which must make no difference.
                end = time.monotonic() + ttl
                until(lambda: time.monotonic() > end)
        return len(computed)

    function = cache.memoize(name="f", ttl=ttl)(compute)
    assert [function(1), function.refresh(1), function(1)] == [1, 2, 3]
