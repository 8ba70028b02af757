"""Errors name the invalid input, and nothing changes."""

from __future__ import annotations

import copy
import math
import pickle
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import pytest

from flexcache_rs import sessions
from flexcache_rs.sessions import sync

if TYPE_CHECKING:
    from collections.abc import Callable

    from flexcache_rs.sessions.sync import Session

URLS: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
    ("memroy://", {}, ValueError, "did you mean memory://"),
    ("", {}, ValueError, "url must begin with one of memory://"),
    ("http://host", {}, ValueError, "not http://"),
    (7, {}, TypeError, "url must be a str, not int"),
    ("redsi://host", {}, ValueError, "did you mean redis://"),
    ("redis://host?dbb=1", {}, ValueError, "redis:// has no option 'dbb' (it has db, username"),
    ("redis://host?db=x", {}, ValueError, "db"),
    ("mysql://host", {}, ValueError, "url must name a database"),
    ("mysql://host/db?ssl_cax=1", {}, ValueError, "did you mean 'ssl_ca'?"),
    ("mysql://host/db?ssl_verify_cert=perhaps", {}, ValueError, "ssl_verify_cert must be one of true, false"),
    ("mariadb://host/db?max_connections=0", {}, ValueError, "max_connections must be from 1"),
    ("postgres://host/db", {}, NotImplementedError, "PostgreSQL do not exist yet"),
    (["memory://"], {}, ValueError, "each must be a store of its own"),
    (["memory://a", "memory://a"], {}, ValueError, "two shards are memory://a"),
    ([], {}, ValueError, "at least one shard"),
    ("shards://?too=memory://a", {}, ValueError, "shards:// has no option 'too'"),
    ("shards://?to=memory://a&to=", {}, ValueError, "valkey+unix://, not ''"),
    (["memory://a", 7], {}, TypeError, "must be a str, not int"),
    (["memory://a", "shards://?to=memory://b"], {}, ValueError, "must not consist of shards"),
    ("memory://?max_itmes=3", {}, ValueError, "did you mean 'max_items'"),
    ("memory://", {"maxitems": 3}, ValueError, "did you mean 'max_items'"),
    ("memory://?max_items=x", {}, ValueError, "max_items must be a whole number, not 'x'"),
    ("memory://?max_items=-1", {}, ValueError, "max_items must be from 0"),
    ("memory://", {"max_items": 1.5}, TypeError, "max_items must be an int, not float"),
    ("memory://?max_items=1&max_items=2", {}, ValueError, "twice"),
    ("memory://?max_items=1", {"max_items": 2}, ValueError, "twice"),
    ("memory://?max_bytes=1MB", {}, ValueError, "max_bytes must be a whole number, not '1MB'"),
    ("memory://", {"max_byte": 100}, ValueError, "did you mean 'max_bytes'"),
    ("memory://", {"policy": "s3-fifo"}, ValueError, "did you mean 's3fifo'"),
    ("disk:///tmp/x", {"max_bytes": 100}, ValueError, "only memory:// evicts keys"),
    ("memory://", {"codec": "json"}, ValueError, "serializer= stores those of other types"),
    ("disk:///tmp/x", {"tier": True}, ValueError, "put FlexCache(store=session.store()"),
    ("memory://?policy=mru", {}, ValueError, "policy must be one of lru, fifo"),
    ("memory://", {"namespace": 1}, TypeError, "namespace must be a str"),
    ("memory://", {"namespace": "\ud800"}, ValueError, "namespace must be text without surrogates, not '\\ud800'"),
    ("memory://", {"namespace": "x" * 65}, ValueError, "at most 64 bytes, not 65"),
    ("memory://", {"timeout": 0}, ValueError, "timeout must be more than 0"),
    ("memory://", {"timeout": math.nan}, ValueError, "timeout"),
    ("memory://", {"timeout": "x"}, ValueError, "timeout"),
    ("disk://", {}, ValueError, "url must name a directory"),
    ("sqlite://", {}, ValueError, "url must name a file"),
    ("disk:///tmp/x?max_items=1", {}, ValueError, "only memory:// evicts keys"),
    ("memory://", {"serializer": 1}, TypeError, "serializer must have the methods dumps and loads"),
]


@pytest.mark.parametrize(("url", "options", "kind", "message"), URLS)
def test_what_connect_refuses(url: Any, options: dict[str, Any], kind: type[Exception], message: str) -> None:
    for connect in (sessions.connect, sync.connect):
        with pytest.raises(kind) as raised:
            connect(url, **options)
        assert message in str(raised.value)


@pytest.mark.parametrize(
    "ttl", [0, -1, -0.5, math.nan, "", "1", "1x", "s", "-1s", 1e30, 10**400, True, b"1", [1], "0s"]
)
def test_times_that_are_none(session: Session, ttl: Any) -> None:
    session.set("key", "before")
    for call in (
        lambda: session.set("key", 1, ttl=ttl),
        lambda: session.set_many({"key": 1}, ttl=ttl),
        lambda: session.expire("key", ttl),
        lambda: session.incr("other", ttl=ttl),
        lambda: session.list("other").push(1, ttl_if_new=ttl),
        lambda: session.queue("other").reserve(ttl),
    ):
        with pytest.raises((ValueError, TypeError)):
            call()
    assert (session.get("key"), session.ttl("key"), session.count()) == ("before", None, 1)


@pytest.mark.parametrize("key", [None, 1, b"key", ("key",), ["key"], "\ud800"])
def test_keys_that_are_none(session: Session, key: Any) -> None:
    for call in (
        lambda: session.get(key),
        lambda: session.get_many([key]),
        lambda: session.set(key, "text"),
        lambda: session.set(key, 1),
        lambda: session.delete("a", key),
        lambda: session.list(key).push(1),
        lambda: session.incr(key),
    ):
        with pytest.raises((TypeError, ValueError)):
            call()
    assert session.count() == 0


def test_arguments_of_the_wrong_type(session: Session) -> None:
    jobs = session.list("jobs")
    calls: list[tuple[Any, str]] = [
        (lambda: jobs.push(1, maxlen=-1), "maxlen"),
        (lambda: jobs.pop(-1), "n must be from 0"),
        (lambda: jobs.pop(1.5), "n must be an int"),  # type: ignore[arg-type]
        (lambda: jobs.range(0, 2**70), "stop"),
        (lambda: jobs.at("0"), "i must be an int"),  # type: ignore[arg-type]
        (lambda: list(jobs.pages(0)), "size must be from 1"),
        (lambda: list(session.scan(count=0)), "count must be from 1"),
        (lambda: session.set_of("s").pop(True), "n must be an int, not bool"),
        (lambda: session.bits("b").get(-1), "i must be from 0"),
        (lambda: session.bloom("b", capacity=0), "capacity must be from 1"),
        (lambda: session.bloom("b", error_rate=1), "error_rate must be between 0 and 1"),
        (lambda: session.set("a", 1, if_absent=True, if_present=True), "exclude each other"),
        (lambda: jobs.push(1, ttl=1, ttl_if_new=1), "exclude each other"),
        (lambda: session.run(lambda t: None, attempts=0), "attempts must be from 1"),
        (lambda: session.purge(-1), "limit"),
        (lambda: session.incr("n", 2**63), "by must be from -2"),
        (lambda: session.incr("n", "1"), "must be an int or a float, not str"),  # type: ignore[arg-type]
        (lambda: session.get_or_set("a", 1), "factory must be callable, not int"),  # type: ignore[arg-type]
        (lambda: session.limiter("a", 1, per=1), "did you mean period="),  # type: ignore[call-arg]
    ]
    for call, message in calls:
        with pytest.raises((TypeError, ValueError, OverflowError), match=message):
            call()
    assert session.count() == 0


def test_a_shared_store_has_the_options_of_its_first_session() -> None:
    first = sync.connect("memory://options?max_items=2")
    with pytest.raises(ValueError, match="only its first session may have options"):
        sync.connect("memory://options?max_items=3")
    second = sync.connect("memory://options")
    second.set_many({"a": 1, "b": 2, "c": 3})
    assert first.count() == 2
    assert first.stats() == {"backend": "memory", "keys": 2, "bytes": None, "evictions": 1, "limited": 0, "leases": 0}
    first.close()
    second.close()
    third = sync.connect("memory://options?max_items=3")
    assert third.count() == 0
    third.close()


def test_stores_without_a_name_are_several() -> None:
    one, two = sync.connect("memory://"), sync.connect("memory://")
    one.set("key", 1)
    assert two.get("key") is None
    one.close()
    two.set("key", 2)
    two.close()


CALLS: list[tuple[str, Callable[[Session], Any], type[Exception], str]] = [
    ("key", lambda s: s.get("\ud800"), ValueError, "key must be text without surrogates, not '\\ud800'"),
    ("set", lambda s: s.set("\ud800", "x"), ValueError, "key must be text without surrogates"),
    ("incr", lambda s: s.incr("n", initial="x"), TypeError, "initial must be an int or a float, not str"),
    ("initial", lambda s: s.incr("n", initial=math.nan), ValueError, "initial must be an int or a float, not NaN"),
    ("large", lambda s: s.incr("n", initial=2**63), ValueError, "initial must be from -2**63 to 2**63 - 1"),
    ("by", lambda s: s.incr("n", math.nan), ValueError, "by must be an int or a float, not NaN"),
    ("has_many", lambda s: s.set_of("s").has_many("abc"), TypeError, "members must be several, as a list, not str"),
    ("member", lambda s: s.set_of("s").add([1]), TypeError, "list cannot be stored as a member or a field; give"),
    ("items", lambda s: s.bloom("f").has_many("abc"), TypeError, "items must be several, as a list, not str"),
    ("match", lambda s: list(s.keys(b"*")), TypeError, "match must be a str, not bytes"),
    ("digits", lambda s: s.stream("t").range("9" * 5000 + "-0"), ValueError, "after must be an id such as"),
    ("until", lambda s: s.stream("t").range(until="0-" + "9" * 50), ValueError, "until must be from 0 to 2**63 - 1"),
    ("long ttl", lambda s: s.set("a", 1, "9" * 400 + "s"), ValueError, "ttl must be at most 292 years"),
    ("get_many", lambda s: s.get_many("abc"), TypeError, "keys must be several, as a list, not str"),
    ("fields", lambda s: s.map("m").get_many("abc"), TypeError, "fields must be several, as a list, not str"),
    ("set_many", lambda s: s.set_many(5), TypeError, "entries must be a mapping, not int"),
    ("update", lambda s: s.map("m").update(5), TypeError, "fields must be a mapping, not int"),
    ("scores", lambda s: s.sorted("z").add("ab"), TypeError, "members must be a mapping, not str"),
    ("stream", lambda s: s.stream("t").add([1]), TypeError, "fields must be a mapping, not list"),
    ("id", lambda s: s.stream("t").range(5), TypeError, "after must be an id, a str, not int"),
    ("ack", lambda s: s.queue("q").ack(5), TypeError, "job must be a Job, as reserve() returns, not int"),
    ("bloom", lambda s: s.bloom("f", 2**62).add("x"), ValueError, "capacity must be smaller, not 4611686018427387904"),
]


@pytest.mark.parametrize("case", CALLS, ids=lambda case: case[0])
def test_arguments_that_a_call_refuses(session: Session, case: Any) -> None:
    _, call, kind, message = case
    with pytest.raises(kind) as raised:
        call(session)
    assert message in str(raised.value)
    assert session.count() == 0


def test_a_job_of_another_queue_is_refused(session: Session) -> None:
    for name in "ab":
        session.queue(name).push(name)
    job, other = session.queue("a").reserve(), session.queue("b").reserve()
    assert job is not None
    assert other is not None
    for call in (session.queue("b").ack, session.queue("b").release):
        with pytest.raises(ValueError, match="job must be one of the queue 'b', not of 'a'"):
            call(job)
    assert job.ack()
    assert other.ack()


class Whole(int):
    """An int whose text is another, as an `IntEnum` has."""

    def __repr__(self) -> str:
        return "Whole"

    __str__ = __repr__


class Part(float):
    """A float whose text is another, as numpy's float64 has."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Part"

    __str__ = __repr__


def test_numbers_of_subclasses_are_numbers(session: Session) -> None:
    assert session.incr("whole", Whole(3), initial=Whole(4)) == 7
    assert session.incr("part", Part(0.5), initial=Part(0.25)) == 0.75
    assert session.incr("part", Part(0.5)) == 1.25
    assert session.get_many(["whole", "part"]) == {"whole": 7, "part": 1.25}
    fields = session.map("map")
    assert (fields.incr("whole", Whole(3)), fields.incr("part", Part(0.5))) == (3, 0.5)
    assert fields.all() == {"whole": 3, "part": 0.5}
    board = session.sorted("board")
    assert board.add({"whole": Whole(3), "part": Part(0.5)}) == 2
    assert board.incr("whole", Part(1.5)) == 4.5
    assert board.by_score(Part(0.0), Whole(5), Whole(1)) == [("part", 0.5)]
    assert board.pop_min(Whole(1)) == [("part", 0.5)]
    jobs = session.list("jobs")
    assert jobs.push(1, 2, 3, maxlen=Whole(2)) == 2
    assert jobs.insert(Whole(0), 9) == 3
    assert (jobs.at(Whole(0)), jobs.range(Whole(0), Whole(-1)), jobs.remove(9, Whole(1))) == (9, [9, 2, 3], 1)
    assert jobs.trim(Whole(0), Whole(0)) == 1
    assert jobs.pop(Whole(1)) == [2]
    log = session.stream("log")
    log.add({"a": 1}, maxlen=Whole(3))
    assert (len(log.range(count=Whole(1))), log.trim(Whole(0))) == (1, 1)
    for algorithm in ("gcra", "sliding_window"):
        hit = session.limiter(algorithm, Whole(3), Part(100.5), algorithm=algorithm).hit(cost=Whole(1))
        assert (hit.allowed, hit.remaining) == (True, 2)
    assert session.purge(Whole(5)) == 0


@pytest.mark.parametrize(
    ("score", "stored"), [(Fraction(1, 2), 0.5), (Decimal("1.5"), 1.5), (Decimal("NaN"), None), (Whole(2), 2.0)]
)
def test_a_score_is_a_real_number_of_any_class(session: Session, score: Any, stored: float | None) -> None:
    board = session.sorted("board")
    if stored is None:
        with pytest.raises(ValueError, match="a score must be a number other than NaN"):
            board.add({"a": score})
        return
    assert (board.add({"a": score}), board.score("a"), board.incr("a", score)) == (1, stored, 2 * stored)
    assert board.by_score(score, 2 * stored) == [("a", 2 * stored)]


def test_what_merely_converts_to_a_number_is_no_score(session: Session) -> None:
    class Converts:
        def __float__(self) -> float:
            return 1.0

    for score in (Converts(), True, "1", 10**400):
        with pytest.raises(ValueError, match="a score must be a number other than NaN"):
            session.sorted("board").add({"a": score})  # type: ignore[dict-item]
    assert session.count() == 0


@pytest.mark.parametrize("module", [sessions, sync])
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_session_is_not_copied(module: Any, copied: Callable[[Any], Any]) -> None:
    """Sessions, handles and batches can be neither copied nor pickled."""
    session = module.connect("memory://")
    with pytest.raises(TypeError, match=r"call connect\(\)"):
        copied(session)
    if copied is not copy.copy:
        for part in (session.list("list"), session.lock("lock", ttl=1)):
            with pytest.raises(TypeError, match=r"call connect\(\)"):
                copied(part)
        with pytest.raises(TypeError):
            copied(session.batch())
    else:
        assert type(copied(session.batch())) is type(session.batch())
