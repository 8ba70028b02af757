"""The effects of the calls, on every backend."""

from __future__ import annotations

import asyncio
import math
import threading
from collections import deque
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from session_places import advance

from flexcache_rs.sessions import KEEP, ClosedError, KindError

if TYPE_CHECKING:
    from collections.abc import Callable

    from session_places import Place

    from flexcache_rs.sessions.sync import Session


def test_keys(session: Session) -> None:
    assert session.get("a") is None
    assert session.get("a", 7) == 7
    assert session.set("a", 1) is True
    assert session.set("a", 2, if_absent=True) is False
    assert session.set("b", 2, if_present=True) is False
    assert session.set("a", 3, if_present=True) is True
    assert session.set("b", 4, if_absent=True) is True
    assert session.set_many({"c": [1], "d": {}, "e": set(), "f": deque([1])}) == 4
    assert session.get_many(["a", "x", "c", "d", "a"]) == {"a": 3, "c": [1], "d": {}}
    assert [session.kind(key) for key in "abcdefx"] == ["scalar", "scalar", "list", "map", "set", "queue", None]
    assert session.exists("d")
    assert not session.exists("x")
    assert list(session.keys()) == list("abcdef")
    assert session.count() == 6
    assert session.delete("a", "b", "x", "a") == 2
    assert session.pop("c") == [1]
    assert session.pop("c", None) is None
    with pytest.raises(KeyError):
        session.pop("c")
    assert session.rename("d", "g")
    assert not session.rename("d", "g")
    assert session.rename("g", "g")
    assert session.get("g") == {}
    assert session.rename("e", "g")
    assert session.get("g") == set()
    assert session.clear() == 2
    assert list(session.keys()) == []


def test_another_kind_replaces_and_nothing_shows_of_the_old(session: Session) -> None:
    session.set("key", [1, 2, 3])
    session.set("key", {"a": 1})
    assert session.get("key") == {"a": 1}
    session.set("key", [9])
    session.list("key").push(10)
    assert session.get("key") == [9, 10]
    session.delete("key")
    assert session.list("key").push("new") == 1
    assert session.get("key") == ["new"]


def test_missing_is_none_and_empty_is_empty(session: Session) -> None:
    session.set_many({"list": [], "map": {}, "set": set(), "queue": deque()})
    assert [session.get(key) for key in ("list", "map", "set", "queue", "none")] == [[], {}, set(), deque(), None]
    session.list("stays").push(1)
    session.list("stays").pop()
    assert session.get("stays") == []
    assert session.list("never").pop() is None
    assert session.get("never") is None


class Seven:
    """An integer of another class, as numpy has them."""

    def __index__(self) -> int:
        return 7


def test_deadlines(session: Session) -> None:
    session.set("key", 1, ttl=10)
    assert 9 < session.ttl("key") <= 10  # type: ignore[operator]
    session.set("key", 2, ttl=KEEP)
    assert session.ttl("key") is not None
    session.incr("key")
    assert session.ttl("key") is not None
    session.set("key", 3)
    assert session.ttl("key") is None
    assert session.persist("key") is False
    assert session.expire("key", "1m30s") is True
    assert 89 < session.ttl("key") <= 90  # type: ignore[operator]
    assert session.expire("key", None) is True
    assert session.ttl("key") is None
    session.expire("key", Seven())  # type: ignore[arg-type]
    assert 6 < session.ttl("key") <= 7  # type: ignore[operator]
    session.expire("key", timedelta(seconds=5))
    assert session.persist("key") is True
    session.expire("key", 0.5)
    advance(1)
    assert session.get("key") is None
    assert (session.delete("key"), session.expire("key", 1), session.persist("key")) == (0, False, False)
    assert session.set("key", 4, if_present=True) is False
    with pytest.raises(KeyError):
        session.ttl("key")
    for value in (4, [4], {"a": 4}):
        session.set_many({"key": value, "other": value}, ttl=10)
        session.set("key", value)
        session.set_many({"other": value})
        assert (session.ttl("key"), session.ttl("other")) == (None, None)
    session.set("forever", 1, ttl=math.inf)
    assert session.ttl("forever") is None


def test_a_new_key_inherits_nothing_from_the_dead(session: Session) -> None:
    session.set("key", [1, 2], ttl=1)
    advance(2)
    assert session.list("key").push("new") == 1
    assert session.get("key") == ["new"]
    assert session.ttl("key") is None


def test_writes_to_containers_set_deadlines_only_when_told(session: Session) -> None:
    jobs = session.list("jobs")
    jobs.push(1, ttl_if_new=100)
    jobs.push(2, ttl_if_new=5)
    assert 99 < session.ttl("jobs") <= 100  # type: ignore[operator]
    jobs.push(3)
    assert 99 < session.ttl("jobs") <= 100  # type: ignore[operator]
    jobs.push(4, ttl=5)
    assert 4 < session.ttl("jobs") <= 5  # type: ignore[operator]
    advance(6)
    assert jobs.len() == 0
    assert jobs.push(5) == 1


def test_purge_frees_what_expired(session: Session) -> None:
    session.set_many({str(number): [number] for number in range(5)}, ttl=1)
    session.set("stays", 1)
    advance(2)
    assert session.count() == 1
    assert list(session.keys()) == ["stays"]
    assert session.purge() <= 5
    assert session.count() == 1


def test_counters(session: Session) -> None:
    assert session.incr("n") == 1
    assert session.incr("n", 5) == 6
    assert session.incr("n", -7) == -1
    assert session.incr("n", 0.5) == -0.5
    assert session.get("n") == -0.5
    assert session.incr("m", 2, initial=10) == 12
    session.set("big", 2**63 - 1)
    with pytest.raises(OverflowError):
        session.incr("big")
    assert session.get("big") == 2**63 - 1
    session.set("text", "abc")
    for key in ("text",):
        with pytest.raises(TypeError):
            session.incr(key)
    session.set("inf", math.inf)
    with pytest.raises(OverflowError):
        session.incr("inf", -math.inf)
    with pytest.raises(ValueError, match="NaN"):
        session.incr("n", math.nan)
    with pytest.raises(TypeError):
        session.incr("n", True)
    session.incr("short", ttl_if_new=1)
    advance(2)
    assert session.incr("short") == 1


def test_lists(session: Session) -> None:
    jobs = session.list("jobs")
    assert jobs.push("a", "b", "c") == 3
    assert jobs.push_left("y", "z") == 5
    assert jobs.range() == ["z", "y", "a", "b", "c"]
    assert jobs.range(1, 2) == ["y", "a"]
    assert jobs.range(-2, -1) == ["b", "c"]
    assert jobs.range(3, 1) == jobs.range(9, 12) == []
    assert jobs.range(-100, 100) == ["z", "y", "a", "b", "c"]
    assert (jobs.at(0), jobs.at(-1), jobs.at(5), jobs.at(-6, "no")) == ("z", "c", None, "no")
    jobs.put(-1, "C")
    jobs.put(0, "Z")
    with pytest.raises(IndexError):
        jobs.put(5, "x")
    assert (jobs.pop(), jobs.pop_left()) == ("C", "Z")
    assert jobs.extend(["d", "e"]) == 5
    assert jobs.pop(2) == ["e", "d"]
    assert jobs.pop_left(2) == ["y", "a"]
    assert jobs.pop_left(9) == ["b"]
    assert (jobs.pop(), jobs.pop(2), jobs.len()) == (None, [], 0)
    assert jobs.extend([1, 2, 1, 3, 1, 1]) == 6
    assert jobs.remove(1, 2) == 2
    assert jobs.range() == [2, 3, 1, 1]
    assert jobs.remove(1, -1) == 1
    assert jobs.range() == [2, 3, 1]
    assert jobs.at(1) == 3
    jobs.put(1, 4)
    assert jobs.index(1) == 2
    assert jobs.index(9) is None
    assert jobs.insert(1, "between") == 4
    assert jobs.insert(99, "last") == 5
    assert jobs.insert(-1, "before last") == 6
    assert jobs.range() == [2, "between", 4, 1, "before last", "last"]
    assert jobs.trim(1, -2) == 4
    assert jobs.range() == ["between", 4, 1, "before last"]
    assert jobs.remove("absent") == 0
    assert jobs.push(5, 6, 7, maxlen=3) == 3
    assert jobs.range() == [5, 6, 7]
    assert jobs.push_left(8, maxlen=2) == 2
    assert jobs.range() == [8, 5]
    assert jobs.push(maxlen=1) == 2
    assert jobs.remove(8) == 1
    assert jobs.trim(5, 9) == 0
    assert session.exists("jobs")


def test_queues_of_workers(session: Session) -> None:
    jobs = session.queue("jobs")
    jobs.push("a", "b", "c")
    first = jobs.reserve(10)
    second = jobs.reserve("10s")
    assert first is not None
    assert second is not None
    assert (first.value, second.value, jobs.len()) == ("a", "b", 1)
    assert first.ack() is True
    assert first.ack() is False
    assert second.release() is True
    assert second.release() is False
    assert jobs.range() == ["b", "c"]
    lost = [jobs.reserve(1), jobs.reserve(1)]
    assert jobs.reserve(1) is None
    advance(2)
    assert lost[1] is not None
    assert lost[1].ack() is False
    assert [jobs.pop_left(), jobs.pop_left(), jobs.pop_left()] == ["b", "c", None]


@pytest.mark.parametrize("how", ["deleted", "replaced", "popped"])
def test_a_job_of_a_queue_that_was_removed_ends_none_of_the_next(session: Session, how: str) -> None:
    jobs = session.queue("jobs")
    jobs.push("old")
    old = jobs.reserve()
    assert old is not None
    if how == "deleted":
        session.delete("jobs")
        jobs.push("new")
    elif how == "replaced":
        session.set("jobs", deque(["new"]))
    else:
        session.pop("jobs")
        jobs.push("new")
    new = jobs.reserve()
    assert new is not None
    assert old.ack() is False
    assert old.release() is False
    assert new.ack() is True


def test_maps(session: Session) -> None:
    user = session.map("user")
    assert user.set("name", "Ann") is True
    assert user.set("name", "Bob") is False
    assert user.update({"age": 3, 7: None}) == 2
    assert user.update({}) == 0
    assert (user.get("name"), user.get("x"), user.get(7, "default")) == ("Bob", None, None)
    assert user.get_many(["age", "x", 7.0]) == {"age": 3, 7: None}
    assert user.has("age")
    assert not user.has("x")
    assert user.setdefault("age", 9) == 3
    assert user.setdefault("new", [1]) == [1]
    assert user.incr("age", 2) == 5
    assert user.incr("visits") == 1
    with pytest.raises(TypeError):
        user.incr("name")
    assert user.all() == session.get("user") == {"name": "Bob", "age": 5, 7: None, "new": [1], "visits": 1}
    assert user.delete("age", "x") == 1
    assert user.len() == 4


def test_sets(session: Session) -> None:
    one, two = session.set_of("one"), session.set_of("two")
    assert one.add(1, 2, 3, 2) == 3
    assert one.add() == 0
    assert two.add(3, "a") == 2
    assert one.discard(1, 9) == 1
    assert one.has(2)
    assert not one.has(1)
    assert one.has_many([1, 2, 3]) == [False, True, True]
    assert one.all() == {2, 3}
    assert one.union("two", "none") == {2, 3, "a"}
    assert one.intersection("two") == {3}
    assert one.difference("two") == {2}
    assert one.intersection("none") == set()
    assert set(one.pop(9)) == {2, 3}
    assert one.pop() == []
    session.set("text", "x")
    with pytest.raises(KindError):
        two.union("text")


def test_sorted_sets(session: Session) -> None:
    board = session.sorted("board")
    assert board.add({"a": 3, "b": 1, "c": 2}) == 3
    assert board.add({"a": 5, "d": 4}, if_absent=True) == 1
    assert board.add({"a": 1, "b": 9}, greater=True) == 0
    assert board.range() == [("c", 2.0), ("a", 3.0), ("d", 4.0), ("b", 9.0)]
    assert board.range(0, 1, reverse=True) == [("b", 9.0), ("d", 4.0)]
    assert (board.score("a"), board.score("x")) == (3.0, None)
    assert (board.rank("c"), board.rank("c", reverse=True), board.rank("x")) == (0, 3, None)
    assert board.by_score(3, 4) == [("a", 3.0), ("d", 4.0)]
    assert board.by_score(limit=1, reverse=True) == [("b", 9.0)]
    assert board.by_score(5, 1) == []
    assert board.incr("a", 7) == 10.0
    assert board.incr("new") == 1.0
    assert board.pop_min() == [("new", 1.0)]
    assert board.pop_max(2) == [("a", 10.0), ("b", 9.0)]
    assert board.remove("c", "x") == 1
    assert board.len() == 1
    assert session.get("board") == {"d": 4.0}
    for bad in (math.nan, "text", None, True):
        with pytest.raises(ValueError, match="score"):
            board.add({"a": bad})  # type: ignore[dict-item]
    board.add({"inf": math.inf, "low": -math.inf, "zero": -0.0})
    assert [member for member, _ in board.range()] == ["low", "zero", "d", "inf"]
    with pytest.raises(OverflowError):
        board.incr("inf", -math.inf)


def test_streams(session: Session) -> None:
    log = session.stream("log")
    ids = [log.add({"n": number}) for number in range(5)]
    assert ids == sorted(ids, key=lambda text: tuple(map(int, text.split("-"))))
    assert len(set(ids)) == 5
    assert [fields for _, fields in log.range()] == [{"n": number} for number in range(5)]
    assert [name for name, _ in log.range(ids[1], ids[3])] == ids[2:4]
    assert [name for name, _ in log.range(count=2)] == ids[:2]
    assert log.read(ids[4], timeout=0.001) == []
    assert len(log.read(ids[2])) == 2
    assert log.trim(2) == 3
    assert log.len() == 2
    log.add({"n": 5}, maxlen=1)
    assert [fields for _, fields in log.range()] == [{"n": 5}]
    with pytest.raises(ValueError, match="after must be an id"):
        log.range("yesterday")


def test_bits_and_filters(session: Session) -> None:
    bits = session.bits("bits")
    assert [bits.set(3), bits.set(3), bits.set(100_000), bits.set(3, False)] == [False, True, False, True]
    assert (bits.get(3), bits.get(100_000), bits.get(2**62)) == (False, True, False)
    assert (bits.toggle(5), bits.toggle(5)) == (True, False)
    assert bits.count() == bits.len() == 1
    assert session.get("bits") == [100_000]
    seen = session.bloom("seen", capacity=1000, error_rate=0.01)
    assert seen.add("a", "b") == 2
    assert seen.add("a") == 0
    assert seen.has("a")
    assert not seen.has("c")
    assert seen.has_many(["a", "x"]) == [True, False]
    assert seen.len() == 2
    with pytest.raises(ValueError, match="another capacity"):
        session.bloom("seen", capacity=5).add("c")
    wrong = session.bloom("rate", capacity=500, error_rate=0.02)
    wrong.add(*range(500))
    assert all(wrong.has_many(range(500)))
    assert sum(wrong.has_many(range(1000, 3000))) < 120


PAGED: list[tuple[str, Callable[[Session], Any], Callable[[Session, int], Any]]] = [
    ("list", lambda session: session.list("c"), lambda session, n: session.list("c").push(n)),
    ("map", lambda session: session.map("c"), lambda session, n: session.map("c").set(n, n)),
    ("set", lambda session: session.set_of("c"), lambda session, n: session.set_of("c").add(n)),
    ("sorted", lambda session: session.sorted("c"), lambda session, n: session.sorted("c").add({n: n})),
]


@pytest.mark.parametrize(("kind", "handle", "add"), PAGED, ids=[kind for kind, _, _ in PAGED])
def test_pages_neither_repeat_nor_skip(session: Session, kind: str, handle: Any, add: Any) -> None:
    for number in range(0, 100, 2):
        add(session, number)
    seen: list[Any] = []
    for page in handle(session).pages(7):
        assert 0 < len(page) <= 7
        seen += [element[0] if kind == "sorted" else element for element in page]
        if len(seen) < 60:
            add(session, len(seen) * 2 + 1)
    assert len(seen) == len(set(seen))
    assert set(range(0, 100, 2)) <= set(seen)


def test_pages_of_a_list_whose_ends_change(place: Place) -> None:
    jobs = place.open[0].list("jobs")
    jobs.extend(range(100))
    seen: list[Any] = []
    for number, page in enumerate(jobs.pages(7)):
        seen += page
        if number % 2:
            jobs.pop_left(5)
            jobs.push("last", maxlen=90)
        else:
            jobs.push_left(*["first"] * 9)
    numbers = [value for value in seen if isinstance(value, int)]
    # A list of Redis has no positions that stay: pages go by index there.
    assert numbers == list(range(100)) or place.backend == "redis"


def test_keys_neither_repeat_nor_skip(session: Session) -> None:
    session.set_many({f"key:{number:03}": number for number in range(0, 100, 2)})
    seen: list[str] = []
    for page in session.scan("key:*", count=7):
        seen += page
        session.set(f"key:{len(seen):03}", 0)
        session.set(f"other:{len(seen)}", 0)
    assert len(seen) == len(set(seen))
    assert {f"key:{number:03}" for number in range(0, 100, 2)} <= set(seen)


def test_keys_that_look_alike_are_several(session: Session) -> None:
    keys = ["a", "A", "a ", "á", "a\u0301", "[a]", "a*", "?", "a\0", "", "ß", "SS"]
    session.set_many({key: key for key in keys})
    assert session.count() == len(keys)
    assert sorted(session.keys()) == sorted(keys)
    assert list(session.keys("[[]a]")) == ["[a]"]
    assert all(session.get(key) == key for key in keys)


def test_namespaces_are_apart(place: Place) -> None:
    one, two = place.sync(namespace="one"), place.sync(namespace="two")
    one.set("key", 1)
    two.set("key", 2)
    one.list("list").push(1)
    assert (one.get("key"), two.get("key"), place.open[0].get("key")) == (1, 2, None)
    assert list(two.keys()) == ["key"]
    assert two.clear() == 1
    assert one.get("key") == 1
    one.close()
    assert two.set("key", 3)
    two.close()


HANDLES: list[Callable[[Session], Any]] = [
    lambda session: session.list("key").push(1),
    lambda session: session.queue("key").push(1),
    lambda session: session.map("key").set(1, 1),
    lambda session: session.set_of("key").add(1),
    lambda session: session.sorted("key").add({1: 1}),
    lambda session: session.stream("key").add({}),
    lambda session: session.bits("key").set(1),
    lambda session: session.bloom("key").add(1),
]


@pytest.mark.parametrize("made", range(len(HANDLES)))
def test_another_kind_is_refused(session: Session, made: int) -> None:
    HANDLES[made](session)
    before = session.get("key")
    for number, call in enumerate(HANDLES):
        if number != made:
            with pytest.raises(KindError, match=r"holds (a|bits).*, not (a|bits)"):
                call(session)
    with pytest.raises(KindError):
        session.incr("key")
    assert session.get("key") == before
    session.set("key", "text")
    for call in HANDLES:
        with pytest.raises(KindError, match="holds a single value"):
            call(session)


def test_a_closed_session_says_so(place: Place) -> None:
    session = place.sync()
    jobs = session.list("jobs")
    session.close()
    session.close()
    calls: list[Callable[[], Any]] = [lambda: session.get("a"), lambda: session.set("a", "b"), jobs.len, session.stats]
    for call in calls:
        with pytest.raises(ClosedError, match="session is closed"):
            call()
    assert place.open[0].get("a") is None


def test_waiting_for_an_element(place: Place) -> None:
    jobs = place.open[0].queue("jobs")
    assert jobs.wait_pop(0.01) is None
    found: list[Any] = []
    waiting = threading.Thread(target=lambda: found.append(place.sync().queue("jobs").wait_pop(30)))
    waiting.start()
    jobs.push("job")
    waiting.join(30)
    assert found == ["job"]


def test_threads_share_a_session(session: Session) -> None:
    def work() -> None:
        for _ in range(50):
            session.incr("n")
            session.list("list").push(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (session.get("n"), session.list("list").len()) == (200, 200)


def test_the_awaited_face(place: Place) -> None:
    async def main() -> None:
        async with place.awaited() as session:
            await session.set("user", {"name": "Ann"}, ttl="1m")
            assert await session.get("user") == {"name": "Ann"}
            jobs = session.queue("jobs")
            await asyncio.gather(*(jobs.push(number) for number in range(20)))
            assert await jobs.len() == 20
            job = await jobs.reserve()
            assert job is not None
            assert await job.ack()
            assert [key async for key in session.keys()] == ["jobs", "user"]
            assert sum([len(page) async for page in jobs.pages(6)]) == 19
            waiting = asyncio.ensure_future(session.list("later").wait_pop(30))
            await asyncio.sleep(0)
            await session.list("later").push("now")
            assert await waiting == "now"
            assert await session.list("none").wait_pop(0.01) is None
        with pytest.raises(ClosedError):
            await session.get("user")

    asyncio.run(main())
    assert place.open[0].map("user").all() == {"name": "Ann"}


def test_inserting_makes_the_list(session: Session) -> None:
    for number, handle in enumerate((session.list, session.queue)):
        key = str(number)
        assert handle(key).insert(5, "b") == 1
        assert handle(key).insert(0, "a") == 2
        assert handle(key).range() == ["a", "b"]


def test_what_is_asked_for_nothing_of(session: Session) -> None:
    session.stream("stream").add({"a": 1})
    session.sorted("sorted").add({"a": 1})
    session.list("list").push(1)
    assert session.stream("stream").range(count=0) == []
    assert session.sorted("sorted").by_score(limit=0) == []
    assert session.sorted("sorted").pop_min(0) == []
    assert session.list("list").pop(0) == []
    assert session.set_of("set").pop(0) == []


def test_keeping_a_deadline(session: Session) -> None:
    session.set("key", 1, ttl=100)
    assert session.expire("key", KEEP)  # type: ignore[arg-type]
    assert 90 < (session.ttl("key") or 0) <= 100
    assert not session.expire("absent", KEEP)  # type: ignore[arg-type]


def test_a_job_is_reserved_for_ever(session: Session) -> None:
    jobs = session.queue("jobs")
    jobs.push("job")
    job = jobs.reserve(visibility=None)
    assert job is not None
    advance(10**8)
    assert jobs.reserve() is None
    assert job.release()
    assert jobs.pop_left() == "job"
