"""Replies that the commands never have, such as those of a proxy that mixes them up. They are errors of the server."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
import redis
import valkey
from loops import connected
from news import hear
from own_proxy import Proxy, encoded

from flexcache_rs.remote import RemoteError, RemoteValueError, scripts
from flexcache_rs.remote.cluster import addresses_in
from flexcache_rs.remote.failures import refusal
from flexcache_rs.remote.nonces import NAMESPACE
from flexcache_rs.remote.replies import OF_SCRIPTS, check, check_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Make = "Callable[..., Any]"

LANES = ("client", "direct")

pytestmark = pytest.mark.in_turn("engine", "lane")

WRONG: list[Any] = [5, b"x", None, [], [b"a", b"b"], [5, 5, 5], [[1]], [b"0", [1]], [b"0", [b"k"]], {}, 1.5]

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
    "get_or_set": lambda cache: cache.get_or_set("new", lambda: "computed"),
    "clear": lambda cache: cache.clear(),
    "purge": lambda cache: cache.purge(),
    "evict_tag": lambda cache: cache.evict_tag("tag"),
    "lock": lambda cache: cache.lock("name", timeout=0).acquire(),
    "limiter": lambda cache: cache.limiter("name", 3).hit(),
    "window": lambda cache: cache.limiter("name", 3, algorithm="sliding_window").hit(),
}

AWAITED: dict[str, Callable[[Any], Any]] = {
    "aget": lambda cache: cache.aget("other"),
    "aget_many": lambda cache: cache.aget_many(["key", "other"]),
    "attl": lambda cache: cache.attl("key"),
    "aput": lambda cache: cache.aput("key", 1),
    "aadd": lambda cache: cache.aadd("key", 1),
    "aset_many": lambda cache: cache.aset_many({"key": 1, "other": 2}),
    "adelete": lambda cache: cache.adelete("key"),
    "atouch": lambda cache: cache.atouch("key", 3),
    "aincr": lambda cache: cache.aincr("number"),
    "acompare_and_set": lambda cache: cache.acompare_and_set("key", 1, 2),
    "aget_or_set": lambda cache: cache.aget_or_set("new", lambda: "computed"),
}


NOTHING: dict[str, Any] = {"get": None, "fresh": None, "contains": False, "touch": False, "compare_and_set": False}
"""The results of calls if there is no value, which None may mean. `ttl` raises `KeyError`."""


@pytest.fixture
def proxy(server: Any) -> Iterator[Proxy]:
    """A proxy in front of the server."""
    with contextlib.closing(Proxy(server)) as proxy:
        yield proxy


def check_outcome(call: str, wrong: Any, outcome: Any) -> None:
    """Check what a call has returned or raised, all of whose replies were this one."""
    call = call if call in CALLS else call[1:]
    if call == "get_or_set":
        assert outcome == "computed"
    elif isinstance(outcome, RemoteValueError):
        # It looks like the data of another program.
        assert wrong == b"x"
    elif isinstance(outcome, RemoteError):
        assert "reply to " in str(outcome)
    elif isinstance(outcome, KeyError):
        assert (call, wrong) == ("ttl", None)
    elif wrong is None:
        assert (call, outcome) in NOTHING.items()
    elif wrong == [b"a", b"b"]:
        # These are two values that cannot be read.
        assert (call, outcome) == ("get_many", {})
    else:
        assert (call, wrong) in (("limiter", [5, 5, 5]), ("window", [5, 5, 5]))
        assert (outcome.allowed, outcome.remaining) == (True, 5)


@pytest.mark.parametrize("call", CALLS)
def test_a_wrong_reply_is_an_error_of_the_server(make: Make, proxy: Proxy, call: str) -> None:
    """It never raises what a wrong argument raises, no call repeats its command for ever, and none returns rubbish."""
    for wrong in WRONG:
        cache = make(proxy.url, near=None, lease_wait=0.1)
        cache.set_many({"key": 1, "other": 1, "number": 1})
        proxy.be_wrong(wrong)
        outcome: Any
        try:
            outcome = CALLS[call](cache)
        except (RemoteError, RemoteValueError, KeyError) as error:
            outcome = error
        check_outcome(call, wrong, outcome)
        proxy.be_right()
        cache.close()


@pytest.mark.parametrize("call", AWAITED)
def test_a_wrong_reply_to_an_awaited_call(make: Make, proxy: Proxy, call: str) -> None:
    """The connection of an event loop, and the threads after it, get the wrong reply."""

    async def main(cache: Any, wrong: Any) -> Any:
        await connected(cache, "key")
        proxy.be_wrong(wrong)
        return await AWAITED[call](cache)

    for wrong in WRONG:
        cache = make(proxy.url, near=None, lease_wait=0.1)
        cache.set_many({"other": 1, "number": 1})
        outcome: Any
        try:
            outcome = asyncio.run(main(cache, wrong))
        except (RemoteError, RemoteValueError, KeyError) as error:
            outcome = error
        check_outcome(call, wrong, outcome)
        proxy.be_right()
        cache.close()


def test_wrong_replies_to_a_new_cache(make: Make, proxy: Proxy) -> None:
    for name, wrong in [(name, wrong) for name in (b"SET", b"GET", b"TIME") for wrong in WRONG]:
        if (name, wrong) in ((b"SET", None), (b"GET", None), (b"GET", b"x")):
            # These may have it.
            continue
        proxy.be_wrong_once(name, encoded(wrong), forwards=False)
        with pytest.raises(RemoteError, match="reply to "):
            make(proxy.url, near=None)


OF_COMMANDS: dict[tuple[Any, ...], list[Any]] = {
    ("GET", b"key"): [None, b"", b"x"],
    ("GETRANGE", b"key", 0, 5): [None, b"", b"x"],
    ("MGET", b"key"): [[None], [b"x"]],
    ("MGET", b"key", b"other"): [[None, b"x"], [b"a", b"b"]],
    ("SET", b"key", b"value"): [b"OK"],
    ("SET", b"key", b"value", "NX"): [b"OK", None],
    ("DEL", b"key"): [0, 5],
    ("UNLINK", b"key"): [0, 5],
    ("SCAN", b"0"): [[b"0", []], [b"0", [b"k"]]],
    ("TIME",): [[b"1", b"2"], [1, 2]],
    ("CLUSTER", "SLOTS"): [[], [[1]]],
    ("ASKING",): [b"OK"],
    ("MULTI",): [b"OK"],
    scripts.TOUCH.command(b"key"): [0, 5],
    ("EVAL", scripts.TOUCH.text, 1, b"key"): [0, 5],
    scripts.ADD_TO.command(b"key"): [None, b"5", b"-5"],
    scripts.LEASE.command(b"key"): [[b"held", b""], [b"failed", b"x"], [b"elsewhere", 5, b"x"]],
}


@pytest.mark.parametrize("command", OF_COMMANDS, ids=str)
def test_replies_that_a_command_may_have(command: tuple[Any, ...]) -> None:
    right = OF_COMMANDS[command]
    for reply in (*right, RemoteError("refused")):
        check(command, reply)
        check_all([("MULTI",), command, ("EXEC",)], [b"OK", b"QUEUED", [reply]])
    for wrong in (*WRONG, [b"1", b"2", b"3"], True, False):
        if wrong in right and type(wrong) is not bool:
            continue
        if isinstance(wrong, list) and command[0] == "CLUSTER":
            # What is in it is checked when it is parsed.
            continue
        with pytest.raises(RemoteError, match="reply to "):
            check(command, wrong)
        with pytest.raises(RemoteError, match="reply to "):
            check_all([("MULTI",), command, ("EXEC",)], [b"OK", b"QUEUED", [wrong]])


def test_the_replies_of_each_script_are_checked() -> None:
    ours = [each for each in vars(scripts).values() if isinstance(each, scripts.Script)]
    assert len(ours) > 10
    for each in ours:
        assert each.hash in OF_SCRIPTS
        assert each.text in OF_SCRIPTS


@pytest.mark.parametrize(
    "replies",
    [
        *([5, b"QUEUED", [0]], [None, b"QUEUED", [0]], [b"OK", b"OK", [0]], [b"OK", 5, [0]], [b"OK", None, [0]]),
        *([b"OK", b"QUEUED", reply] for reply in ([], [0, 0], [None], None, 5, b"x", {})),
        *([b"OK", b"QUEUED"], [b"OK", b"QUEUED", [0], None], []),
    ],
    ids=str,
)
def test_wrong_replies_to_a_transaction(replies: list[Any]) -> None:
    with pytest.raises(RemoteError, match="repl"):
        check_all([("MULTI",), ("DEL", b"key"), ("EXEC",)], replies)


def test_a_transaction_that_was_refused() -> None:
    refused = RemoteError("refused")
    commands = [("MULTI",), ("DEL", b"key"), ("EXEC",), ("GET", b"key")]
    for replies in (
        [b"OK", refused, refused, None],
        [b"OK", b"QUEUED", [refused], None],
        # A server without transactions.
        [refused, 0, refused, None],
    ):
        check_all(commands, replies)
    # The commands after it have replies of their own again.
    with pytest.raises(RemoteError, match="reply to GET"):
        check_all(commands, [b"OK", refused, refused, 5])


# Connections whose replies belong to other commands

NUMBERS = {f"key {number}": number for number in range(6)}


def know_nonces(cache: Any) -> None:
    """Wait until a read of a key is one command."""
    hear(cache)
    while cache._store.nonces.known(NAMESPACE) is None:
        # On a busy machine, the listener may have to connect again. Then only a call reads the nonce.
        cache.set_many(NUMBERS)
        hear(cache)


def is_forgotten(cache: Any) -> Callable[[], bool]:
    """Return whether no copy of before this call is served any more, and no last value known."""
    store = cache._store
    know_nonces(cache)
    stamp = store.tracker.stamp(b"place")
    assert store.tracker.is_live(stamp)
    assert store.last.find(store.keys.value("key 5")) is not None

    def look() -> bool:
        is_live, found = store.tracker.is_live(stamp), store.last.find(store.keys.value("key 5"))
        assert is_live == (found is not None)
        return not is_live

    return look


@pytest.mark.parametrize("reading", ["native", "in Python"])
def test_a_reply_too_many_ends_the_connection(
    make: Make, proxy: Proxy, reading: str, request: pytest.FixtureRequest
) -> None:
    """Later calls would return values of other keys, because a value does not name its key."""
    if reading == "in Python":
        request.getfixturevalue("read_in_python")
    cache = make(proxy.url, near=None, on_error="raise")
    cache.set_many(NUMBERS)
    for _ in range(3):
        proxy.be_wrong_once(b"GET", b":5\r\n")
        with pytest.raises(RemoteError, match=r"reply to GET .*: 5|\d replies to \d commands"):
            cache.get("key 0")
        assert {key: cache.get(key) for key in NUMBERS} == NUMBERS


def test_what_was_read_is_forgotten(make: Make, proxy: Proxy) -> None:
    """Earlier replies of the connection may have belonged to other commands too."""
    cache = make(proxy.url, near=None, on_error="stale")
    cache.set_many(NUMBERS)
    is_over = is_forgotten(cache)
    proxy.be_wrong_once(b"GET", b":5\r\n")
    assert cache.get("key 0") is None
    assert is_over()


def test_an_iteration_that_never_ends(make: Make, proxy: Proxy) -> None:
    """A server never returns to a cursor."""
    cache = make(proxy.url, near=None)
    cache["key"] = 1
    assert list(cache.scan()) == ["key"]
    proxy.be_wrong([b"5", []])
    with pytest.raises(RemoteError, match="a reply to SCAN that this command does not have"):
        list(cache.scan())
    proxy.be_right()
    assert list(cache.scan()) == ["key"]


def test_replies_too_many_at_once(make: Make, proxy: Proxy) -> None:
    """All of them arrive together, so a call reads one more than it has commands."""
    cache = make(proxy.url, near=None)
    cache.set_many(NUMBERS)
    know_nonces(cache)
    proxy.be_wrong_once(b"GET", b"$-1\r\n" * 3, forwards=False)
    if cache.lane == "client":
        with pytest.raises(RemoteError, match="3 replies to 1 commands"):
            cache.get("key 0")
    else:
        # This may be the first of them. The native connection ends by itself where nobody waits for a reply.
        assert cache.get("key 0") is None
    assert [cache.fresh(key) for key in NUMBERS] == list(NUMBERS.values())


def test_a_call_that_waits_on_the_same_connection(make: Make, proxy: Proxy) -> None:
    """The reply that it would get may belong to another command. It is sent again over a new connection."""
    cache = make(proxy.url, near=None, timeout=60)
    cache.set_many(NUMBERS)
    know_nonces(cache)
    waits = threading.Event()

    def answer(command: list[bytes]) -> tuple[bytes, bool]:
        if command[0] != b"GET":
            return b"", True
        if not waits.is_set():
            waits.set()
            return b"", False
        proxy.be_right()
        return b":5\r\n", False

    proxy.answer = answer
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(cache.get, "key 1")
        assert waits.wait(60)
        if cache.lane == "direct":
            assert cache.get("key 2") == 2
            with pytest.raises(RemoteError, match="reply to GET"):
                first.result(60)
        else:
            with pytest.raises(RemoteError, match="reply to GET"):
                cache.get("key 2")
            # It has a connection of its own.
            assert not first.done()
            cache._client._connections.shut_down()
            assert first.result(60) == 1
    assert {key: cache.get(key) for key in NUMBERS} == NUMBERS


def test_a_refused_command_does_not_end_the_connection(make: Make, proxy: Proxy, raw: Any) -> None:
    cache = make(proxy.url, near=None)
    cache.set_many(NUMBERS)
    know_nonces(cache)
    before = proxy.accepted
    raw.delete("test:{key 0}")
    raw.rpush("test:{key 0}", "element")
    for _ in range(3):
        with pytest.raises(RemoteValueError):
            cache.get("key 0")
        proxy.be_wrong_once(b"GET", b"-ERR no\r\n", forwards=False)
        with pytest.raises(RemoteError, match="no"):
            cache.get("key 1")
        assert cache.get("key 2") == 2
    assert proxy.accepted == before


def test_a_wrong_reply_ends_the_connection_of_a_loop(make: Make, proxy: Proxy) -> None:
    cache = make(proxy.url, near=None, on_error="stale")

    async def main() -> None:
        await connected(cache)
        await cache.aset_many(NUMBERS)
        is_over = is_forgotten(cache)
        before = cache._client._loops.current()
        proxy.be_wrong_once(b"GET", b":5\r\n")
        # A thread asks again.
        assert await cache.aget("key 0") == 0
        assert not before.is_open
        assert is_over()
        assert {key: await cache.aget(key) for key in NUMBERS} == NUMBERS

    asyncio.run(main())


@pytest.mark.parametrize("call", ["put", "set_many", "clear", "evict_tag"])
def test_a_write_that_the_server_does_not_confirm(make: Make, proxy: Proxy, call: str) -> None:
    cache = make(proxy.url, near=None, on_error="stale")
    cache.set_many({"key": 1, "other": 2})
    proxy.be_wrong_once(b"SET", b":5\r\n", forwards=False)
    # `on_error` swallows the errors of stores.
    with contextlib.nullcontext() if call in ("put", "set_many") else pytest.raises(RemoteError, match="reply to "):
        CALLS[call](cache)
    assert cache._store.counts.failed_writes == (call in ("put", "set_many"))
    assert cache._store.last.find(cache._store.keys.value("key")) is None


def test_a_server_that_has_nothing_for_a_range_of_an_absent_key(make: Make, proxy: Proxy) -> None:
    """Kvrocks does so, where Valkey and Redis have an empty string."""
    cache = make(proxy.url, near=None)
    assert "key" not in cache
    replies = {b"MULTI": b"+OK\r\n", b"EXEC": b"*2\r\n$-1\r\n:0\r\n"}
    proxy.answer = lambda command: (replies.get(command[0], b"+QUEUED\r\n"), False)
    assert not cache.delete("key")
    assert cache.delete_many(["key"]) == 0
    proxy.be_right()

    async def main() -> None:
        await connected(cache)
        proxy.answer = lambda command: (replies.get(command[0], b"+QUEUED\r\n"), False)
        assert not await cache.adelete("key")
        proxy.be_right()

    asyncio.run(main())


_AS_KVROCKS = """
local function as_kvrocks(...)
  local found = redis.call(...)
  if found == '' then return false end
  return found
end
"""


def test_the_scripts_on_a_server_that_has_nothing_for_such_a_range(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, each in list(vars(scripts).items()):
        if isinstance(each, scripts.Script):
            text = each.text.decode().replace("redis.call('GETRANGE'", "as_kvrocks('GETRANGE'")
            reply = OF_SCRIPTS[each.hash]
            changed = scripts.Script(_AS_KVROCKS + text, each._keys, lambda _, found, reply=reply: reply((), found))
            monkeypatch.setattr(scripts, name, changed)
    cache, other = make(near=None), make(near=None)
    many = cache._client.execute_many

    def compute() -> int:
        (lease,) = cache._store._held.values()
        with monkeypatch.context() as patch:
            patch.setattr(cache._client, "execute_many", lambda commands: [reply or None for reply in many(commands)])
            assert lease.is_valid()
        return 1

    assert cache.get_or_set("key", compute) == 1
    # It was stored.
    assert other.get("key") == 1
    assert cache.incr("number") == cache.incr("number") - 1
    assert cache.pop("absent", "default") == "default"
    assert cache.compare_and_set("key", 1, 2)
    assert cache.touch("key", 100)
    assert cache.pop("key") == 2
    assert not cache.touch("key", 100)
    assert not cache.compare_and_set("key", 1, 2)


# Parsing


@pytest.mark.parametrize("package", [redis, valkey])
@pytest.mark.parametrize("text", ["MOVED", "MOVED x", "ASK 1 host:port", "MOVED 1 h"])
def test_a_redirection_that_names_no_server(package: Any, text: str) -> None:
    """The classes of the packages cannot be made of it."""
    assert type(refusal(package.exceptions, text)) is package.exceptions.ResponseError


HOST_AND_PORT = [b"host", 7000, b"id", []]

SLOTS: dict[str, tuple[Any, Any]] = {
    "Redis 7": ([[0, 5, HOST_AND_PORT, [b"replica", 7001, b"id", []]]], {(0, 5): ("host", 7000)}),
    "a host name in the metadata": (
        [[0, 5, [b"10.0.0.1", 7000, b"id", [b"hostname", b"host"]]]],
        {(0, 5): ("10.0.0.1", 7000)},
    ),
    "metadata of RESP3": ([[0, 5, [b"10.0.0.1", 7000, b"id", {b"hostname": b"host"}]]], {(0, 5): ("10.0.0.1", 7000)}),
    "without metadata": ([[0, 5, [b"host", 7000]]], {(0, 5): ("host", 7000)}),
    "no host": ([[0, 5, [None, 7000, b"id", []]]], {(0, 5): ("asked", 7000)}),
    "an empty host": ([[0, 5, [b"", 7000, b"id", []]]], {(0, 5): ("asked", 7000)}),
    "an unknown host": ([[0, 5, [b"?", 7000, b"id", []]]], {(0, 5): ("asked", 7000)}),
    "IPv6": ([[0, 16383, [b"2001:db8::1", 7000, b"id", []]]], {(0, 16383): ("2001:db8::1", 7000)}),
    "no slots": ([], {}),
}


@pytest.mark.parametrize("reply", SLOTS)
def test_slots(reply: str) -> None:
    slots, addresses = SLOTS[reply]
    assert addresses_in(slots, "asked") == addresses


NO_SLOTS: list[Any] = [
    *(
        None,
        5,
        b"x",
        {},
        1.5,
        [5],
        [[]],
        [[0, 5]],
        [[0, 5, []]],
        [[0, 5, [b"host"]]],
        [[0, 5, b"host"]],
        [[0, 5, None]],
    ),
    *([[first, last, HOST_AND_PORT]] for first, last in ((5, 0), (-1, 5), (0, 16384), (b"0", 5), (0, None), (0.0, 5))),
    *([[0, 5, [b"host", port]]] for port in (b"7000", None, 7000.0, [], -1, 65536)),
    *([[0, 5, [host, 7000]]] for host in (5, [], {}, b"\xff")),
]


@pytest.mark.parametrize("slots", NO_SLOTS, ids=repr)
def test_what_are_no_slots(slots: Any) -> None:
    with pytest.raises(RemoteError, match="reply to CLUSTER SLOTS"):
        addresses_in(slots, "asked")
