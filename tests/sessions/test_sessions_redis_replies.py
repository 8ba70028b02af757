"""Valkey and Redis: replies that the commands and scripts of sessions never have, such as those of a proxy."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from own_proxy import Proxy, encoded
from session_places import SERVERS, redis_server
from waiting import BRIEF, until

from flexcache_rs.sessions import CodecError, OutcomeUnknown, SessionError, TimedOut, Unavailable, connect
from flexcache_rs.sessions import sync as now

if "redis" not in SERVERS:
    pytest.skip("there is no redis-server", allow_module_level=True)

from flexcache_rs.remote.errors import RemoteError
from flexcache_rs.remote.replies import OF_SCRIPTS, check
from flexcache_rs.sessions._redis_replies import CHECKS
from flexcache_rs.sessions._redis_scripts import _TEXTS, COMMIT, TOUCH, script, with_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LONG = 60.0

WRONG: list[Any] = [
    *(5, -7, b"x", None, {}, 1.5, [], [[]], [b"a", b"b"], [5, 5, 5], [[1]], [b"0", [1]], [b"0", [b"k"]], [b"5", []]),
    *([0], [0, 74], [0, 3], [0, 5, b"x"], [1], [1, b"x"], [1, 5], [1, None], [1, []], [1, [[]]], [1, [b"5", []]]),
    *([1, [5, b"1.5"]], [5, b"1.5"], [3], [4], [6], [7], b"\xffK", b"\xffKz", [[5, 5]], [[4, [b"a"]]], [[b"1", []]]),
]


async def pages(handle: Any) -> list[Any]:
    """Return the first pages of a handle, which may never end."""
    found = []
    async for page in handle.pages(2):
        found.append(page)
        if len(found) == 3:
            break
    return found


async def listed(keys: Any) -> list[str]:
    return [key async for key in keys]


async def in_transaction(session: Any) -> None:
    async with session.transaction() as t:
        await t.set("a", 1)
        await t.get("a")


CALLS: dict[str, Callable[[Any], Any]] = {
    "get": lambda s: s.get("a"),
    "get_many": lambda s: s.get_many(["a", "b"]),
    "set": lambda s: s.set("a", 1),
    "set a list": lambda s: s.set("a", [1]),
    "set_many": lambda s: s.set_many({"a": 1, "b": 2}),
    "delete": lambda s: s.delete("a"),
    "pop": lambda s: s.pop("a", None),
    "rename": lambda s: s.rename("a", "b"),
    "kind": lambda s: s.kind("a"),
    "expire": lambda s: s.expire("a", 5),
    "never expire": lambda s: s.expire("a", None),
    "persist": lambda s: s.persist("a"),
    "ttl": lambda s: s.ttl("a"),
    "incr": lambda s: s.incr("a"),
    "incr by a float": lambda s: s.incr("a", 1.5),
    "keys": lambda s: listed(s.keys()),
    "count": lambda s: s.count(),
    "expiring": lambda s: s.expiring(),
    "clear": lambda s: s.clear(),
    "purge": lambda s: s.purge(),
    "push": lambda s: s.list("l").push(1),
    "pop of a list": lambda s: s.list("l").pop(),
    "wait_pop": lambda s: s.list("l").wait_pop(0.001),
    "at": lambda s: s.list("l").at(0),
    "range": lambda s: s.list("l").range(),
    "trim": lambda s: s.list("l").trim(0, 1),
    "remove": lambda s: s.list("l").remove(1),
    "insert": lambda s: s.list("l").insert(0, 1),
    "index": lambda s: s.list("l").index(1),
    "pages of a list": lambda s: pages(s.list("l")),
    "len of a list": lambda s: s.list("l").len(),
    "reserve": lambda s: s.queue("q").reserve(),
    "get of a map": lambda s: s.map("m").get("a"),
    "get_many of a map": lambda s: s.map("m").get_many(["a", "b"]),
    "set of a map": lambda s: s.map("m").set("a", 1),
    "set of a map and its ttl": lambda s: s.map("m").set("a", 1, ttl=5),
    "setdefault": lambda s: s.map("m").setdefault("a", 1),
    "incr of a map": lambda s: s.map("m").incr("a"),
    "incr of a map by a float": lambda s: s.map("m").incr("a", 1.5),
    "delete of a map": lambda s: s.map("m").delete("a"),
    "all of a map": lambda s: s.map("m").all(),
    "pages of a map": lambda s: pages(s.map("m")),
    "len of a map": lambda s: s.map("m").len(),
    "add": lambda s: s.set_of("s").add(1),
    "discard": lambda s: s.set_of("s").discard(1),
    "has_many": lambda s: s.set_of("s").has_many([1, 2]),
    "pop of a set": lambda s: s.set_of("s").pop(),
    "all of a set": lambda s: s.set_of("s").all(),
    "pages of a set": lambda s: pages(s.set_of("s")),
    "union": lambda s: s.set_of("s").union("t"),
    "scores": lambda s: s.sorted("z").add({"a": 1}),
    "incr of a score": lambda s: s.sorted("z").incr("a"),
    "score": lambda s: s.sorted("z").score("a"),
    "rank": lambda s: s.sorted("z").rank("a"),
    "range of scores": lambda s: s.sorted("z").range(),
    "by_score": lambda s: s.sorted("z").by_score(),
    "pop_min": lambda s: s.sorted("z").pop_min(),
    "pages of scores": lambda s: pages(s.sorted("z")),
    "entry": lambda s: s.stream("x").add({"a": 1}),
    "entries": lambda s: s.stream("x").range(),
    "trim of entries": lambda s: s.stream("x").trim(1),
    "bit": lambda s: s.bits("b").get(1),
    "set of a bit": lambda s: s.bits("b").set(1),
    "toggle": lambda s: s.bits("b").toggle(1),
    "count of bits": lambda s: s.bits("b").count(),
    "add to a filter": lambda s: s.bloom("f").add(1),
    "has_many of a filter": lambda s: s.bloom("f").has_many([1, 2]),
    "limiter": lambda s: s.limiter("n", 3, 5).hit(),
    "window": lambda s: s.limiter("n", 3, 5, algorithm="sliding_window").hit(),
    "lock": lambda s: s.lock("n").acquire(0),
    "get_or_set": lambda s: s.get_or_set("g", lambda: 1),
    "transaction": in_transaction,
}


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with contextlib.closing(Proxy(redis_server())) as proxy:
        yield proxy


def allowed(call: str, wrong: Any) -> tuple[type[Exception], ...]:
    """Return the exceptions that a call may raise. A filter may be one of another shape."""
    return (SessionError, KeyError, *([ValueError] if "filter" in call and wrong == [4] else []))


class _Awaitable:
    """A session without await as one that is awaited, so that both have the same calls."""

    def __init__(self, target: Any) -> None:
        self._target = target

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)

        def call(*arguments: Any, **options: Any) -> Any:
            made = found(*arguments, **options)
            if hasattr(made, "_act") or name in ("limiter", "lock"):
                return _Awaitable(made)
            if name in ("keys", "pages"):
                return _iterated(made)
            return _returned(made)

        return call


async def _returned(value: Any) -> Any:
    return value


async def _iterated(values: Any) -> Any:
    for value in values:
        yield value


def transaction_of(session: now.Session) -> None:
    with session.transaction() as t:
        t.set("a", 1)
        t.get("a")


@pytest.mark.parametrize("call", CALLS)
def test_a_wrong_reply_is_an_error_of_sessions(redis_url: str, proxy: Proxy, call: str) -> None:
    """It never raises what a wrong argument or a fault raises, and no call repeats its command for ever."""
    del redis_url

    async def make(session: Any) -> None:
        if call == "transaction":
            transaction_of(session._target)
        else:
            await CALLS[call](session)

    for wrong in WRONG:
        with now.connect(proxy.url, timeout=LONG) as session:
            session.get("a")
            proxy.be_wrong(wrong)
            # A coroutine that waits for nothing ends at once.
            with contextlib.suppress(StopIteration, *allowed(call, wrong)):
                make(_Awaitable(session)).send(None)
            proxy.be_right()


@pytest.mark.parametrize("call", CALLS)
def test_a_wrong_reply_to_an_awaited_call(redis_url: str, proxy: Proxy, call: str) -> None:
    del redis_url

    async def main(wrong: Any, makes_others: bool) -> None:
        async with connect(proxy.url, timeout=LONG) as session:
            await session.get("a")
            backend: Any = session._backend
            while backend._client.asker(b"") is None:
                await session.get("a")
            proxy.be_wrong(wrong)
            others = [session.get("a"), session.list("l").pop()] if makes_others else []
            results = await asyncio.gather(CALLS[call](session), *others, return_exceptions=True)
            proxy.be_right()
            for result in results:
                if isinstance(result, BaseException) and not isinstance(result, allowed(call, wrong)):
                    raise result

    for wrong, makes_others in zip(WRONG, itertools.cycle([True, False]), strict=False):
        asyncio.run(main(wrong, makes_others))


def test_whether_a_write_was_made_is_unknown(redis_url: str, proxy: Proxy) -> None:
    with now.connect(proxy.url) as session, now.connect(redis_url) as other:
        # The server has the script then.
        session.list("other").push(1)
        for name, sent, call in (
            (b"SET", b":5\r\n", lambda: session.set("a", 1)),
            (b"EVALSHA", b":5\r\n", lambda: session.list("l").push(1)),
            (b"EXEC", b":5\r\n", lambda: transaction_of(session)),
        ):
            proxy.be_wrong_once(name, sent)
            with pytest.raises(OutcomeUnknown, match=r"repl(y|ies) to "):
                call()
        # The proxy passes the commands on after it has replied.
        until(lambda: (other.get("a"), other.get("l")) == (1, [1]))
        # The connection has ended, so no later call gets a reply of these.
        assert (session.get("a"), session.get("l")) == (1, [1])


@pytest.mark.parametrize("reply", [b"+no number\r\n", b""], ids=["wrong", "none"])
def test_an_awaited_write_is_made_once(redis_url: str, proxy: Proxy, reply: bytes) -> None:
    """A plain command whose fate is unknown is not followed by its script, which would do the same again."""

    async def main() -> None:
        async with connect(proxy.url, timeout=LONG if reply else BRIEF) as session:
            backend: Any = session._backend
            await session.incr("a")
            while backend._client.asker(b"") is None or not backend._gatherer.is_idle:
                await session.get("a")

            def answer(command: list[bytes]) -> tuple[bytes, bool]:
                # The server makes each call. The reply to it is another one, or none.
                if command[0] == b"INCRBY":
                    return reply, bool(reply)
                return b"", True

            proxy.answer = answer
            # Replies to other calls keep the connection.
            others = [asyncio.create_task(session.get("a"))]
            with pytest.raises(OutcomeUnknown):
                await session.incr("a")
            await asyncio.gather(*others, return_exceptions=True)
            proxy.be_right()

    asyncio.run(main())
    with now.connect(redis_url) as other:
        assert other.get("a") == (2 if reply else 1)


def test_a_lock_without_a_usable_reply_is_given_back_by_a_task_that_is_cancelled(redis_url: str, proxy: Proxy) -> None:
    """The server has granted it, perhaps."""

    async def main() -> None:
        async with connect(proxy.url, timeout=LONG) as session:
            backend: Any = session._backend
            # The server has the scripts then.
            await session.lock("lock").acquire(0)
            await session.lock("lock").release()
            while backend._client.asker(b"") is None or not backend._gatherer.is_idle:
                await session.get("a")
            proxy.be_wrong_once(b"EVALSHA", b"+no number\r\n")
            task = asyncio.create_task(session.lock("name", ttl=None).acquire())
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())
    with now.connect(redis_url) as other:
        assert other.lock("name").acquire(0)


@pytest.mark.parametrize("where", ["enter", "leave"])
@pytest.mark.parametrize("awaits", [False, True])
def test_a_block_of_a_lock_without_replies_asks_no_more_than_needed(
    redis_url: str, proxy: Proxy, awaits: bool, where: str
) -> None:
    """Each attempt could take the whole timeout. The lock ends with its time to live."""
    del redis_url
    asked: list[bytes] = []

    def refuse(command: list[bytes]) -> tuple[bytes, bool]:
        asked.extend(command[:1])
        return encoded([]), False

    def refuse_from(now: str) -> None:
        if now == where:
            proxy.answer = refuse

    async def main() -> None:
        async with connect(proxy.url) as session:
            await session.get("a")
            refuse_from("enter")
            async with session.lock("name"):
                refuse_from("leave")

    with now.connect(proxy.url) as session, pytest.raises((OutcomeUnknown, Unavailable)):
        session.get("a")
        if awaits:
            asyncio.run(main())
        else:
            refuse_from("enter")
            with session.lock("name"):
                refuse_from("leave")
    proxy.be_right()
    # If the lock may have been acquired, it is given back.
    assert asked == [b"EVALSHA"] * (2 if where == "enter" else 1)


def test_a_read_is_repeated_over_another_connection(redis_url: str, proxy: Proxy) -> None:
    del redis_url
    with now.connect(proxy.url) as session:
        session.set_many({"a": 1, "b": 2})
        session.get("a")
        proxy.be_wrong_once(b"GET", b":5\r\n")
        assert (session.get("a"), session.get("b")) == (1, 2)

    async def main() -> None:
        async with connect(proxy.url) as session:
            await session.get("a")
            backend: Any = session._backend
            while backend._client.asker(b"") is None:
                await session.get("a")
            proxy.be_wrong_once(b"GET", b":5\r\n")
            assert (await session.get("a"), await session.get("b")) == (1, 2)

    asyncio.run(main())


@pytest.mark.parametrize("call", ["keys", "count", "clear", "expiring"])
def test_an_iteration_that_never_ends(redis_url: str, proxy: Proxy, call: str) -> None:
    with now.connect(proxy.url) as session, now.connect(redis_url) as other:
        session.set("a", 1)
        proxy.be_wrong([b"5", [b"sessions::{a}"]])
        with pytest.raises(Unavailable, match="the place 5 of an iteration twice"):
            list(getattr(session, call)() if call == "keys" else [getattr(session, call)()])
        proxy.be_right()
        assert other.get("a") == 1


@pytest.mark.parametrize("kind", ["map", "set_of"])
def test_pages_that_never_end(redis_url: str, proxy: Proxy, kind: str) -> None:
    del redis_url
    with now.connect(proxy.url) as session:
        session.get("a")
        proxy.be_wrong([1, [b"5", []]])
        with pytest.raises(Unavailable, match="the place 5 of an iteration twice"):
            list(getattr(session, kind)("key").pages(2))
        proxy.be_right()


@pytest.mark.parametrize("call", ["incr by a float", "incr of a map by a float"])
def test_a_sum_that_is_never_stored(redis_url: str, proxy: Proxy, call: str) -> None:
    """As if others changed the number all the time."""
    del redis_url
    with now.connect(proxy.url, timeout=LONG) as session:
        session.get("a")
        proxy.be_wrong([5, b"1.5"] if call == "incr by a float" else [1, [5, b"1.5"]])
        with pytest.raises(TimedOut, match="said to have changed, 1000 times to the same"):
            CALLS[call](session)
        proxy.be_right()
        assert session.get("a") is None


@pytest.mark.parametrize("call", ["incr by a float", "incr of a map by a float"])
def test_sums_of_many_tasks(redis_url: str, call: str) -> None:
    """Only one of them can be stored in each round trip, and the others begin again."""

    async def main() -> None:
        async with connect(redis_url, timeout=LONG) as session:
            fields = session.map("key")
            add = partial(session.incr, "key", 0.5) if call == "incr by a float" else partial(fields.incr, "f", 0.5)
            sums = await asyncio.gather(*[add() for _ in range(1200)])
            assert sorted(sums) == [number / 2 for number in range(1, 1201)]

    asyncio.run(main())


def test_only_names_of_values_are_keys(redis_url: str, proxy: Proxy) -> None:
    """Names of other programs, or those in a reply to another namespace, are neither shown nor removed."""
    with now.connect(proxy.url) as session, now.connect(redis_url) as other:
        session.set("a", 1)
        with contextlib.closing(redis_server().client()) as raw:
            raw.set("sessions::{other", "x")
            raw.set("other", "x")
            assert list(session.keys()) == ["a"]
            proxy.be_wrong_once(b"SCAN", encoded([b"0", [b"other", b"sessions::{a}"]]), forwards=False)
            assert session.clear() == 1
            assert raw.exists("other", "sessions::{other") == 2
        assert other.get("a") is None


@pytest.mark.parametrize("cell", [b"\xffK", b"\xffKz", b"\xffK0", b"\xffK\xff", b"\xffK1"])
def test_values_of_other_programs_that_look_like_marks(redis_url: str, cell: bytes) -> None:
    with contextlib.closing(redis_server().client()) as raw, now.connect(redis_url) as session:
        raw.set("sessions::{a}", cell)
        assert session.kind("a") == "scalar"
        for call in (lambda: session.get("a"), lambda: session.get_many(["a", "b"]), lambda: session.pop("a")):
            with pytest.raises(CodecError):
                call()
            raw.set("sessions::{a}", cell)
        with pytest.raises(TypeError, match='"a" holds a single value, not a list'):
            session.list("a").push(1)
        assert session.delete("a") == 1


def test_a_filter_without_its_head(redis_url: str) -> None:
    with contextlib.closing(redis_server().client()) as raw, now.connect(redis_url) as session:
        raw.set("sessions::{a}", b"\xffK8")
        assert session.bloom("a").len() == 0
        with pytest.raises(ValueError, match="another capacity"):
            session.bloom("a").add(1)


def test_a_lease_whose_deadline_was_removed_is_held(redis_url: str) -> None:
    with contextlib.closing(redis_server().client()) as raw, now.connect(redis_url) as session:
        held, other = session.lock("name"), session.lock("name")
        assert held.acquire(0)
        (name,) = raw.keys("*#lease:*")
        raw.persist(name)
        assert not other.acquire(0)
        assert held.release()
        assert other.acquire(0)


# The checks themselves

KEYS = (b"key", b"other")
NEVER: list[Any] = [
    1.5,
    {},
    b"x",
    [[]],
    [5, 5, 5],
    [7],
    [7, 5],
    True,
    [True, 5],
    [0],
    [0, 0],
    [0, 10],
    [0, b"x"],
    [1, 5, 5],
]
"""What no script of an act returns."""

KEEP = ("keep", 0)

# By script: its arguments, replies that it may have, and some that it has not.
REPLIES: dict[str, tuple[tuple[Any, ...], list[Any], list[Any]]] = {
    "get": (
        (),
        [
            *([None, b"x"], [[2, [b"x"]], [4, [b"a", b"b"]]], [[3, []], [5, []]]),
            [[6, [b"a", b"1"]], [7, [[b"1-0", [b"v", b"x"]]]]],
        ],
        [
            *(5, None, [], [None], [5, None], [b"x", None, b"y"], [[1, []], None], [[8, []], None], [[2, b"x"], None]),
            *([[2, [5]], None], [[4, [b"a"]], None], [[6, [b"a", b"x"]], None], [[6, [b"a", b"nan"]], None]),
            *([[7, [[b"x", [b"v", b"x"]]]], None], [[7, [[b"1-0", []]]], None], [[7, [[b"1-0", [b"v"]]]], None]),
        ],
    ),
    "set": ((), [0, 2], [-1, None, [1]]),
    "kind": ((), [0, 9], [-1, 10, None, [1]]),
    "incr": (
        (*KEEP, "", b"1.5", "", ""),
        [[1, b"1.5"], [1, b"7"], [1, b"-inf"], [5, b"x"], [0, 2]],
        [[1, b"x"], [1, 5], [1, b"1", 5], [5, None], [5], [6], [2], [4]],
    ),
    "combine": (
        ("union",),
        [[1, []], [1, [b"a"]], [0, 3, 2]],
        [[1, None], [1, [5]], [1, b"a"], [0, 3], [0, 3, 0], [0, 3, 3], [0, 10, 1], [5, []]],
    ),
    "gate": (
        (1, 2, 3),
        [[1, b"0", 5], [0, b"17", 0]],
        [[1, 0, 5], [1, b"0", -1], [2, b"0", 5], [0, b"x", 5], [1, b"0"]],
    ),
    "lease": ((b"token", 5), [-1, 0, 500], [None, b"5", [1]]),
    "BEGIN": ((b"id",), [0, 1], [2, -1, None]),
    "push": ((*KEEP, 2, "", "", b"x"), [[1, 5], [0, 9]], [[1, b"5"], [1, None], [1, -1], [2], [3], [4]]),
    "pop": ((*KEEP, 2, "1", 3), [[1, []], [1, [b"a", b"b"]]], [[1, None], [1, [None]], [1, b"x"]]),
    "put": ((*KEEP, 2, 0, b"x"), [[1, 1], [2], [0, 9]], [[1, None], [2, 5], [3], [4]]),
    "at": ((*KEEP, 2, 0), [[1, None], [1, b"x"]], [[1, 5], [1, []], [2]]),
    "index": ((*KEEP, 2, b"x"), [[1, None], [1, 5]], [[1, -1], [1, b"5"]]),
    "reserve": (
        (*KEEP, 3, 5),
        [[1, None], [1, [17, b"x"]]],
        [[1, [17]], [1, [17, None]], [1, [b"x", b"x"]], [1, [0, b"x"]]],
    ),
    "map_get": ((*KEEP, 4, b"a", b"b"), [[1, [None, b"x"]]], [[1, [b"x"]], [1, [b"x"] * 3], [1, [b"x", 5]], [1, None]]),
    "map_page": (
        (*KEEP, 4, b"0", 5),
        [[1, [b"0", []]], [1, [b"17", [b"a", b"b"]]]],
        [[1, [b"0", [b"a"]]], [1, [b"x", []]], [1, [0, []]], [1, [b"0"]], [1, [b"0", [b"a", None]]]],
    ),
    "map_default": ((*KEEP, 4, b"a", b"b"), [[1, b"x"]], [[1, None], [1, 5]]),
    "map_incr": (
        (*KEEP, 4, b"a", "1", "", "", ""),
        [[1, [1, b"1"]], [1, [5, None]], [1, [5, b"x"]]],
        [[1, [1, b"x"]], [1, [1, None]], [1, [5, 5]], [1, [5]], [1, [2, b"1"]], [1, b"1"]],
    ),
    "set_has": ((*KEEP, 5, b"a", b"b"), [[1, [0, 1]]], [[1, [0]], [1, [0, 2]], [1, [0, None]], [1, [0, b"1"]]]),
    "set_page": ((*KEEP, 5, b"0", 5), [[1, [b"0", []]], [1, [b"17", [b"a"]]]], [[1, [b"0", [5]]], [1, [None, []]]]),
    "sorted_scores": (
        (*KEEP, 6, b"a", b"b"),
        [[1, [None, b"1.5"]], [1, [b"inf", b"-inf"]], [1, [b"1e+20", 0.5]]],
        [[1, [b"1"]], [1, [b"1", b"x"]], [1, [b"1", b"nan"]], [1, [5, 5]]],
    ),
    "sorted_incr": ((*KEEP, 6, b"a", "1.0"), [[1, b"1.5"], [3]], [[1, b"x"], [1, b"nan"], [1, None], [2], [4], [3, 5]]),
    "sorted_range": (
        (*KEEP, 6, 0, -1, ""),
        [[1, []], [1, [b"a", b"1e+20"]]],
        [[1, [b"a"]], [1, [b"a", b"x"]], [1, [5, b"1"]]],
    ),
    "stream_add": ((*KEEP, 7, b"x", ""), [[1, b"17-0"]], [[1, b"17"], [1, b"17-"], [1, b"-5"], [1, None], [1, 17]]),
    "stream_range": (
        (*KEEP, 7, "-", "+", 5),
        [[1, []], [1, [[b"1-0", [b"v", b"x"]], [b"1-1", [b"a", b"b"] * 2]]]],
        [
            [1, [[b"1-0", []]]],
            [1, [[b"1-0"]]],
            [1, [b"1-0"]],
            [1, [[b"x", [b"v", b"x"]]]],
            [1, [[b"1-0", [b"v"]]]],
            [1, None],
        ],
    ),
    "bits_set": ((*KEEP, 9, 5, 1), [[1, 0], [1, 1]], [[1, 2], [1, None], [1, -1]]),
    "bloom_add": ((*KEEP, 8, b"shape", 2, 1, 2), [[1, 1], [4]], [[1, None], [2], [3], [4, 5]]),
    "bloom_has": (
        (*KEEP, 8, b"shape", 2, 1, 2, 3, 4),
        [[1, [0, 1]], [4]],
        [[1, [0]], [1, [0, 1, 1]], [1, [0, 2]], [1, None]],
    ),
}


@pytest.mark.parametrize("name", REPLIES)
def test_replies_that_a_script_may_have(name: str) -> None:
    arguments, right, wrong = REPLIES[name]
    asked = script(name, KEYS if name in ("get", "combine") else KEYS[:1], *arguments)
    never = [each for each in NEVER if each not in right or type(each) is bool]
    for command in (asked, with_text(asked)):
        for reply in (*right, RemoteError("refused")):
            check(command, reply)
        for reply in (*wrong, *never):
            with pytest.raises(RemoteError, match=rf"reply to the script of {name}\(\) \(EVALSHA\)"):
                check(command, reply)


def test_the_replies_of_each_script_are_checked() -> None:
    assert set(CHECKS) == {*_TEXTS, "TOUCH", "COMMIT"}
    for name in _TEXTS:
        asked = script(name, KEYS)
        assert asked[1] in OF_SCRIPTS
        assert with_text(asked)[1] in OF_SCRIPTS
    assert OF_SCRIPTS.keys() >= {TOUCH, COMMIT}
