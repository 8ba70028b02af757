"""The calls of a `RemoteCache`. Two caches, as in two processes, agree at once."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import pickle
from typing import Any

import pytest
from news import hear
from waiting import until

from flexcache_rs import FlexCache
from flexcache_rs.disk.serializers import SignedPickleSerializer
from flexcache_rs.remote import RemoteError, RemoteValueError
from flexcache_rs.remote.keys import Keys, decode_key, encode_key
from flexcache_rs.remote.resp import ErrorReply, ProtocolError, Push, ReplyReader

Make = "Callable[..., Any]"

VALUES = [1, -(2**70), 1.5, "text", "", b"bytes", None, True, [1, "a"], {"a": (1, 2)}, "\ud800", dt.date(2030, 1, 1)]
KEYS = ["text", "", "~i1", "}", "a}b", b"\x00}", 1, 0, 2**70, -5, 1.5, None, ("a", (1, b"x"), None), (), "\ud800"]


def test_values_come_back(make: Make) -> None:
    one, other = make(), make()
    for value in VALUES:
        one["key"] = value
        assert (one["key"], type(one["key"])) == (value, type(value))
        until(lambda: other.get("key") == one["key"] and type(other["key"]) is type(value))


def test_wrong_arguments_are_named(make: Make) -> None:
    cache = make()
    cache[0] = "zero"
    calls: list[tuple[Any, str]] = [
        (lambda: cache.set_many([1]), "entries must be a mapping or an iterable of pairs"),
        (lambda: cache.get_many(5), "keys must be an iterable of keys, not int"),
        (lambda: cache.delete_many(5), "keys must be an iterable of keys, not int"),
        (lambda: list(cache), "not iterable"),
    ]
    for call, message in calls:
        with pytest.raises((TypeError, ValueError), match=message):
            call()
    assert cache.fresh(0) == "zero"


def test_keys_are_told_apart(make: Make) -> None:
    one, other = make(), make()
    for number, key in enumerate(KEYS):
        one[key] = number
    assert [other[key] for key in KEYS] == list(range(len(KEYS)))
    assert sorted(map(repr, other.scan())) == sorted(map(repr, KEYS))
    assert [decode_key(encode_key(key)) for key in KEYS] == KEYS
    other[1.0] = "one"
    until(lambda: one[1] == one[True] == "one")


def test_a_hit_in_memory_asks_nobody(make: Make, raw: Any) -> None:
    cache = make()
    cache["key"] = 1
    until(lambda: cache["key"] == 1 and cache._store.tracker.is_live(cache._store.stamp("key")))

    def asked() -> tuple[int, int]:
        return cache.stats().l2_reads, raw.info("commandstats")["cmdstat_get"]["calls"]

    def are_all_hits() -> bool:
        before = asked()
        assert [cache.get("key") for _ in range(100)] == [1] * 100
        return asked() == before

    # On a machine that stalls, the server's answer may be late, and a copy not be believed for a moment.
    until(are_all_hits)


def test_the_ratio_of_hits_counts_both_places(make: Make) -> None:
    cache = make()
    assert cache.stats().hit_ratio == 0.0
    assert cache.get("absent") is None
    assert cache.stats().hit_ratio == 0.0
    cache["key"] = 1
    assert cache["key"] == 1
    assert cache.stats().hit_ratio == 0.5


def test_writes_of_others_are_seen(make: Make) -> None:
    one, other = make(), make()
    for value in range(50):
        one["key"] = value
        until(lambda: other.get("key") == value)
    assert other.delete("key")
    until(lambda: one.get("key") is None)


def test_an_absence_is_remembered_until_somebody_stores(make: Make, raw: Any) -> None:
    one, other = make(negative_ttl=1000), make()
    assert one.get("key") is None
    until(lambda: one.get("key") is None and one.stats().is_live)
    one.get("key")
    reads = one.stats().l2_reads
    assert one.get("key", 0) == 0
    assert one.stats().l2_reads == reads
    other["key"] = 1
    until(lambda: one.get("key") == 1)


def test_own_writes_are_read(make: Make) -> None:
    cache = make()
    for value in range(300):
        cache["key"] = value
        assert cache["key"] == value == cache.get_many(["key"])["key"]
    assert cache.pop("key") == 299
    assert cache.get("key") is None
    assert cache.pop("key", 0) == 0
    with pytest.raises(KeyError):
        cache.pop("key")
    with pytest.raises(KeyError):
        cache["key"]


def test_add_delete_and_touch(make: Make) -> None:
    cache = make()
    assert cache.add("key", 1)
    assert not cache.add("key", 2)
    assert cache["key"] == 1
    assert "key" in cache
    assert cache.delete("key")
    assert not cache.delete("key")
    assert "key" not in cache
    assert not cache.touch("key", 5)
    with pytest.raises(KeyError):
        del cache["key"]
    with pytest.raises(KeyError):
        cache.ttl("key")


def test_times_to_live(make: Make, raw: Any) -> None:
    one, other = make(), make(default_ttl=50)
    one.put("key", 1, ttl=dt.timedelta(seconds=100))
    assert 99 < one.ttl("key") <= 100
    assert 99_000 < raw.pttl("test:{key}") <= 100_000
    assert other.touch("key", 50)
    # Each cache reads the server's clock for itself.
    assert 49 < one.ttl("key") < 51
    assert 49_000 < raw.pttl("test:{key}") <= 50_000
    assert one.persist("key")
    assert one.ttl("key") is None
    assert raw.pttl("test:{key}") == -1
    other["other"] = 1
    assert 49 < one.ttl("other") < 51
    one.put("key", 1, ttl=0.05)
    until(lambda: one.get("key") is None)
    # Each cache has its own estimate of the server's clock.
    until(lambda: "key" not in other)
    for _ in range(20):
        one.put("key", 1, ttl=0)
        assert not raw.exists("test:{key}")
    assert one.get("key") is None


def test_counters(make: Make) -> None:
    one, other = make(), make()
    assert one.incr("n") == 1
    assert other.incr("n", 10) == 11
    assert one.decr("n", 12) == -1
    assert one["n"] == -1
    assert other.incr("n", 2**60) == 2**60 - 1
    assert one.incr("n", 2**80) == 2**80 + 2**60 - 1
    assert one.incr("other", 1, initial=5, ttl=100) == 6
    assert other.incr("other") == 7
    assert 99 < one.ttl("other") <= 100
    one["text"] = "text"
    with pytest.raises(TypeError, match="not an int but str"):
        one.incr("text")
    with pytest.raises(TypeError, match="by must be an int"):
        one.incr("n", 1.5)
    for by in (True, "1", 1.0):
        with pytest.raises(TypeError, match="by must be an int"):
            one.decr("n", by)


def test_compare_and_set(make: Make) -> None:
    one, other = make(), make()
    one.put("key", [1], tags=("t",))
    assert not other.compare_and_set("key", [2], 3)
    assert other.compare_and_set("key", [1], [2])
    until(lambda: one["key"] == [2])
    assert one.tags("key") == ("t",)
    assert not one.compare_and_set("absent", None, 1)


def test_many_at_a_time(make: Make) -> None:
    one, other = make(), make()
    entries = {f"key{number}": number for number in range(1500)}
    one.set_many(entries, ttl=100)
    assert other.get_many([*entries, "absent"]) == entries
    assert other.get_many(["key1"]) == {"key1": 1}
    assert sorted(one.scan("key1")) == sorted(key for key in entries if key.startswith("key1"))
    assert one.delete_many([*entries, "absent"]) == 1500
    until(lambda: other.get_many(entries) == {})


def test_clear_and_purge(make: Make, raw: Any) -> None:
    one, other, elsewhere = make(), make(), make(namespace="elsewhere")
    one["key"] = elsewhere["key"] = 1
    assert other["key"] == 1
    one.clear()
    assert one.get("key") is None
    assert "key" not in one
    assert list(one.scan()) == []
    until(lambda: other.get("key") is None)
    assert raw.exists("test:{key}")
    assert one.add("key", 2)
    until(lambda: other.get("key") == 2)
    other.put("tagged", 1, tags=["t"])
    assert one.purge() == 2
    assert raw.keys("test:*") == []
    assert elsewhere["key"] == 1
    one["key"] = 3
    until(lambda: other.get("key") == 3)


def test_tags(make: Make) -> None:
    one, other = make(), make()
    one.put("a", 1, tags=("red", "round"))
    one.put("b", 2, tags=("red",))
    one["c"] = 3
    assert other.get_many("abc") == {"a": 1, "b": 2, "c": 3}
    assert other.tags("a") == ("red", "round")
    other.evict_tag("round")
    assert other.get_many("abc") == {"b": 2, "c": 3}
    until(lambda: one.get("a") is None)
    assert one["b"] == 2
    one.evict_tag("red")
    assert one.get("b") is None
    assert not one.touch("b", 5)
    assert not one.delete("b")
    until(lambda: other.get("b") is None)
    one.put("b", 4, tags=("red",))
    until(lambda: other.get("b") == 4)


def test_a_new_tag_ends_no_copies(make: Make) -> None:
    one, other = make(), make()
    one.put("key", 1, tags=["known"])
    hear(one)
    until(lambda: one.get("key") == 1 and one._near._get_from_memory("key", None) == 1)
    for number in range(5):
        one.put(f"mine{number}", 1, tags=[f"mine{number}"])
        other.put(f"other{number}", 1, tags=[f"other{number}", "known"])
        assert one.get(f"other{number}") == 1
    hear(one)
    assert one._near._get_from_memory("key", None) == 1
    other.evict_tag("other0")
    until(lambda: one._near._get_from_memory("key", None) is None)
    assert one.get("key") == 1
    assert one.get("other0") is None


def test_many_tags(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """When there are too many known nonces, all nonces and all copies are dropped."""
    monkeypatch.setattr("flexcache_rs.remote.nonces._MOST", 10)
    one, other = make(), make()
    for number in range(50):
        one.put(number, number, tags=[f"tag{number}"])
    assert other.get_many(range(50)) == {number: number for number in range(50)}
    for number in range(50):
        one.evict_tag(f"tag{number}")
        until(lambda: other.get(number) is None)
    assert len(other._store.nonces._places) <= 11


def test_an_entry_with_many_tags(make: Make) -> None:
    one, other = make(), make()
    tags = [f"{'long ' * 10}{number}" for number in range(200)]
    one.put("key", 1, tags=tags)
    assert other["key"] == 1
    assert list(other.tags("key")) == tags
    assert "key" in other
    assert list(other.scan()) == ["key"]
    assert other.touch("key", 50)
    assert one.delete("key")


def test_in_front_of_it(make: Make) -> None:
    """The user puts a `FlexCache` in front of a `RemoteCache`."""
    one, other = make(), make()
    front: FlexCache[str, int] = FlexCache(store=one, max_items=2)
    front["a"] = 1
    assert other["a"] == 1
    other["a"] = 2
    until(lambda: front["a"] == 2)


def test_awaited_calls(make: Make) -> None:
    cache = make()

    async def load() -> str:
        return "computed"

    async def main() -> None:
        await cache.aput("a", 1, ttl=100)
        assert await cache.aget("a") == 1
        assert await cache.aget("b", 0) == 0
        assert await cache.aadd("b", 2)
        await cache.aset_many({"c": 3})
        assert await cache.aget_many("abc") == {"a": 1, "b": 2, "c": 3}
        assert await cache.aincr("n", 5) == 5
        assert await cache.adecr("n") == 4
        assert await cache.acompare_and_set("a", 1, 10)
        assert (await cache.attl("n") or 0) < 99
        assert await cache.atouch("a", 5)
        assert await cache.apersist("a")
        assert await cache.apop("a") == 10
        assert await cache.adelete("b")
        assert await cache.adelete_many(["c"]) == 1
        assert await cache.aget_or_set("d", load) == "computed" == await cache.aget("d")
        assert await cache.ascan() == ["n", "d"] or await cache.ascan() == ["d", "n"]
        await cache.aevict_tag("t")
        await cache.aclear()
        assert await cache.aget("d") is None
        assert await cache.apurge() == 2

    asyncio.run(main())
    # Another loop.
    asyncio.run(cache.aput("a", 1))
    assert cache["a"] == 1


def test_a_closed_cache_refuses_calls(make: Make) -> None:
    with make() as cache:
        cache["key"] = 1
    with pytest.raises(ValueError, match="closed"):
        cache.get("key")
    with pytest.raises(ValueError, match="closed"):
        cache["key"] = 2
    assert "closed" in repr(cache)


@pytest.mark.parametrize("serializer", ["json", SignedPickleSerializer(b"a secret of 16 bytes or more")])
def test_serializers(make: Make, raw: Any, serializer: Any) -> None:
    one, other = make(serializer=serializer), make(serializer=serializer)
    one["key"] = {"a": [1, None]}
    assert other["key"] == {"a": [1, None]}
    if serializer == "json":
        assert json.loads(raw.get("test:{key}")[22:]) == {"a": [1, None]}
        with pytest.raises(TypeError):
            one["key"] = {1, 2}
    with pytest.raises(ValueError, match="one serializer"):
        make()


def test_what_is_no_value_is_named(make: Make, raw: Any) -> None:
    cache = make(serializer="json")
    cache["key"] = [1]
    whole = raw.get("test:{key}")
    for wrong in (
        b"foreign",
        b"",
        whole[:10],
        whole[:21],
        whole[:-1],
        b"\xfc\xff" + whole[2:],
        b"\xfc\x10" + whole[2:],
    ):
        raw.set("test:{key}", wrong)
        if wrong:
            with pytest.raises(RemoteValueError, match="'key'"):
                cache.fresh("key")
        assert cache.get_or_set("key", lambda: "computed") == "computed"
    assert cache.stats().unreadable >= 6
    cache["key"] = 2
    assert cache["key"] == 2


def test_what_is_of_another_type(make: Make, raw: Any) -> None:
    """The error says that it is no value of the cache.

    The key can be removed and replaced. The server does not count as unavailable.
    """
    cache = make()
    cache["key"] = 1
    for call in (cache.get, cache.ttl, cache.incr, lambda key: key in cache, lambda key: asyncio.run(cache.aget(key))):
        raw.delete("test:{key}")
        raw.rpush("test:{key}", 1)
        # Where nothing is known of the namespace, it is read in a way that finds nothing there.
        until(lambda: cache.fresh("other") is None and cache._store.nonces.known("") is not None)
        with pytest.raises(RemoteValueError, match="'key'"):
            call("key")
    for call in (cache.fresh, lambda key: asyncio.run(cache.afresh(key))):
        raw.delete("test:{key}")
        raw.rpush("test:{key}", 1)
        with pytest.raises(RemoteValueError, match="'key'"):
            call("key")
    assert cache.fresh("nothing", 2) == 2
    assert asyncio.run(cache.afresh("nothing", 2)) == 2
    assert cache.get_many(["key", "nothing"]) == {}
    (refused,) = cache._client.transaction([("GET", "test:{key}")])
    assert type(refused) is RemoteError
    assert cache.get_or_set("key", lambda: 5) == 5
    assert cache.delete("key")
    assert not raw.exists("test:{key}")
    raw.rpush("test:{key}", 1)
    with pytest.raises(RemoteValueError, match="'key'"):
        cache.pop("key")
    assert raw.llen("test:{key}") == 1, "a pop that fails removes nothing"
    assert cache.delete_many(["key"]) == 1
    raw.rpush("test:{key}", 1)
    cache["key"] = 2
    assert cache["key"] == 2
    assert cache.stats().breaker_opened == 0


def test_what_is_empty_counts_as_absent(make: Make, raw: Any) -> None:
    """No write repeats endlessly whether the key is present."""
    cache = make()
    writes: list[tuple[Any, Any]] = [
        (lambda: cache.add("key", 1), True),
        (lambda: cache.incr("key"), 1),
        (lambda: cache.incr("key", 1 << 60), 1 << 60),
        (lambda: cache.put("key", 1), None),
        (lambda: cache.get_or_set("key", lambda: 5), 5),
    ]
    for call, result in writes:
        raw.set("test:{key}", "")
        assert cache.fresh("key") is None
        assert call() == result
        assert isinstance(cache.fresh("key"), int)
    raw.set("test:{key}", "")
    assert cache.pop("key", "absent") == "absent"


class _Elsewhere:
    """A value that the serializer of a test cannot load."""


class _LoadsNothing:
    """Pickle in a program that lacks the classes."""

    name = "pickle"

    def dumps(self, value: Any, protocol: int, /) -> bytes:
        return pickle.dumps(value, protocol)

    def loads(self, data: bytes, /) -> Any:
        raise ModuleNotFoundError(f"no module for {len(data)} bytes")


def test_a_pop_of_what_cannot_be_read_removes_nothing(make: Make) -> None:
    """Other programs may be able to read the value."""
    cache, old = make(), make(serializer=_LoadsNothing())
    cache.put("key", _Elsewhere(), ttl=60)
    with pytest.raises(RemoteValueError, match="'key'"):
        old.pop("key")
    assert isinstance(cache.fresh("key"), _Elsewhere)
    assert isinstance(cache.pop("key"), _Elsewhere)
    assert cache.fresh("key") is None


def test_a_pop_returns_what_it_removes(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that is stored between its two commands is neither lost nor skipped."""
    cache, other = make(), make()
    cache["key"] = 1
    values, run = iter([2, 3]), type(cache._store)._take_unchanged

    def late(store: Any, place: bytes, there: bytes) -> bool:
        for value in values:
            other["key"] = value
            assert not run(store, place, there)
            return False
        return run(store, place, there)

    monkeypatch.setattr(type(cache._store), "_take_unchanged", late)
    assert cache.pop("key") == 3
    assert other.fresh("key") is None


def test_decr_refuses_what_incr_refuses(make: Make) -> None:
    cache = make()
    for wrong in ("1", None, True, 1.5):
        for call in (cache.incr, cache.decr):
            with pytest.raises(TypeError, match="by must be an int, not"):
                call("count", wrong)


def test_keys_on_the_server_that_are_none(make: Make, raw: Any) -> None:
    cache = make()
    cache["key"] = 1
    whole = raw.get("test:{key}")
    deep = b"~n"
    for _ in range(2000):
        deep = b"~t%d:%b" % (len(deep), deep)
    for form in (deep, b"~i01", b"~f1", b"~q", b"~t9:a", b"~x1_0", b"~nn", b"\xff"):
        raw.set(b"test:{%b}" % form, whole)
    assert list(cache.scan()) == ["key"]


def test_keys_of_other_types_are_refused(make: Make) -> None:
    cache = make()
    for key in (object(), [1], frozenset(), dt.date(2030, 1, 1)):
        with pytest.raises(TypeError, match=r"key|hash"):
            cache.get(key)


@pytest.mark.parametrize("namespace", ["", "a:b", "a{", "a}", "a#", "a\n"])
def test_namespaces_that_are_refused(make: Make, namespace: str) -> None:
    with pytest.raises(ValueError, match="namespace must be"):
        make(namespace=namespace)


def test_names_do_not_meet() -> None:
    """For every key, its value, lease, lock, limiter, and a tag of the same name have different places."""
    keys = Keys("ns")
    names = ["", "a", "}", "}e", "~", "a}l", "#a", 1, b"a", None, ("a",)]
    places = [keys.format, keys.epoch, keys.evictions]
    for name in names:
        places += [keys.value(name), keys.lease(name), *keys.lock(name), keys.limiter(name)]
        places += [keys.tag(name)] if isinstance(name, str) else []
        assert keys.lease_of(keys.value(name)) == keys.lease(name)
        assert keys.key(keys.value(name)) == name
    assert len(set(places)) == len(places)


REPLIES = (
    b"+OK\r\n:5\r\n$3\r\na\r\n\r\n*2\r\n:1\r\n_\r\n%1\r\n$1\r\nk\r\n#t\r\n"
    b">2\r\n$1\r\nx\r\n*1\r\n$1\r\ny\r\n-ERR no\r\n$-1\r\n,1.5\r\n"
)


def test_replies_split_anywhere() -> None:
    expected = [b"OK", 5, b"a\r\n", [1, None], {b"k": True}, Push([b"x", [b"y"]]), None, 1.5]
    for size in range(1, len(REPLIES)):
        reader = ReplyReader()
        pieces = [REPLIES[at : at + size] for at in range(0, len(REPLIES), size)]
        replies = [reply for piece in pieces for reply in reader.feed(piece)]
        assert isinstance(replies.pop(6), ErrorReply)
        assert replies == expected
        assert isinstance(replies[5], Push)


@pytest.mark.parametrize(
    "wrong",
    [
        b"?\r\n",
        b"\r\n",
        b"$x\r\n",
        b"$-2\r\n",
        b"*-5\r\n",
        b"$1\r\nabc",
        b"*1\r\n" * 99,
        b":x\r\n",
        b"|0\r\n" * 99 + b"?\r\n",
    ],
)
def test_what_is_no_reply(wrong: bytes) -> None:
    with pytest.raises(ProtocolError):
        list(ReplyReader().feed(wrong))


def test_times_to_live_that_are_spread(make: Make) -> None:
    cache = make(ttl_jitter=0.5)
    for number in range(100):
        cache.put(number, number, ttl=1000)
    cache.get_or_set("computed", lambda: 1, ttl=1000)
    left = [cache.ttl(key) for key in (*range(100), "computed")]
    assert all(400 < seconds <= 1000 for seconds in left)
    assert max(left) - min(left) > 100
    cache.put("ever", 1)
    assert cache.ttl("ever") is None
    # An entry gets exactly the time that touch() says.
    cache.touch("ever", 1000)
    assert 990 < cache.ttl("ever") <= 1000
