"""Sessions in memory with a limit of bytes: which keys are evicted, and what is refused."""

from __future__ import annotations

import random
from collections import deque
from typing import TYPE_CHECKING, Any

import pytest

from flexcache_rs.sessions.sync import connect

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from flexcache_rs.sessions.sync import Session

MOST = 20_000


def checked(session: Session) -> dict[str, Any]:
    """Return the numbers of a session after a recount of its bytes."""
    session._backend._place.keys.check()  # type: ignore[attr-defined]
    return session.stats()


def words(source: random.Random) -> list[str]:
    return [source.choice("abcdef") * source.randrange(200) for _ in range(source.randrange(8))]


def calls(session: Session, source: random.Random) -> dict[str, Callable[[], object]]:
    """Return a call of each kind that may change the size of a key."""
    key, word = source.choice("xyz"), source.choice("abcdef") * source.randrange(300)
    field, left, few = source.choice("abcdef"), source.random() < 0.5, source.randrange(4)
    places: dict[str, Any] = {
        name: getattr(session, name)(f"{name} {key}")
        for name in ("list", "queue", "map", "set_of", "sorted", "stream", "bits", "bloom")
    }
    items, jobs, user, tags = places["list"], places["queue"], places["map"], places["set_of"]
    board, news, bits, bloom = places["sorted"], places["stream"], places["bits"], places["bloom"]

    def reserve() -> None:
        job = jobs.reserve(source.choice([0.001, 60]))
        if job is not None and left:
            (job.ack if few % 2 else job.release)()

    values = (word, words(source), {field: word}, set(words(source)), deque(words(source)), few)
    return {
        "set": lambda: session.set(key, source.choice(values), source.choice([None, 60])),
        "delete": lambda: session.delete(key),
        "expire": lambda: session.expire(key, 60),
        "rename": lambda: session.rename(key, key + word[:9]),
        "incr": lambda: session.incr("number", 10**few),
        "push": lambda: (items.push_left if left else items.push)(*words(source), maxlen=source.choice([None, 3])),
        "pop": lambda: (items.pop_left if left else items.pop)(few),
        "extend": lambda: items.extend([word] * 80),
        "put": lambda: items.put(0, word) if items.len() else None,
        "insert": lambda: items.insert(few, word),
        "remove": lambda: items.remove(word, few - 1),
        "trim": lambda: items.trim(few, -few),
        "job": lambda: jobs.push(word),
        "reserve": reserve,
        "update": lambda: user.update({field: word, word: field}),
        "setdefault": lambda: user.setdefault(field, word),
        "count": lambda: user.incr("count", few),
        "delete field": lambda: user.delete(field),
        "add": lambda: tags.add(*words(source)),
        "discard": lambda: tags.discard(*words(source)),
        "pop member": lambda: tags.pop(few),
        "score": lambda: board.add(dict.fromkeys(words(source), few)),
        "score more": lambda: board.incr(word, few),
        "remove score": lambda: board.remove(word),
        "pop score": lambda: board.pop_min(few),
        "entry": lambda: news.add({field: word}, maxlen=source.choice([None, 3])),
        "trim entries": lambda: news.trim(few),
        "bit": lambda: bits.set(source.randrange(100_000), left),
        "item": lambda: bloom.add(word),
    }


@pytest.mark.parametrize("policy", ["lru", "s3fifo", "tinylfu"])
def test_all_keys_together_never_take_more(policy: str) -> None:
    source = random.Random(7)
    with connect("memory://", max_bytes=MOST, policy=policy) as session:
        refused = 0
        for _ in range(1500):
            call = source.choice(list(calls(session, source).values()))
            try:
                if source.random() < 0.2:
                    with session.transaction():
                        call()
                else:
                    call()
            except ValueError as error:
                assert "max_bytes" in str(error)
                refused += 1
            assert checked(session)["bytes"] <= MOST
        assert session.stats()["evictions"] > 10
        assert refused > 0
        session.clear()
        assert checked(session)["bytes"] == 0


def test_a_list_that_grows_lets_others_go() -> None:
    with connect("memory://", max_bytes=MOST) as session:
        session.set_many({f"key {number}": "x" * 500 for number in range(10)})
        assert session.stats()["evictions"] == 0
        jobs = session.list("jobs")
        for _ in range(30):
            jobs.push("y" * 500)
        numbers = checked(session)
        assert numbers["evictions"] > 5
        assert numbers["bytes"] <= MOST
        assert jobs.len() == 30


def test_what_is_too_heavy_is_refused_and_changes_nothing() -> None:
    with connect("memory://", max_bytes=MOST) as session:
        session.set("other", "text")
        jobs = session.list("jobs")
        jobs.push(*["x" * 100] * 100)
        with pytest.raises(ValueError, match=r"would take \d+ bytes, more than max_bytes, 20000"):
            jobs.push("y" * 10_000)
        assert jobs.len() == 100
        # What goes at the other end makes room.
        assert jobs.push("y" * 9_000, maxlen=50) == 50
        with pytest.raises(ValueError, match="max_bytes"):
            session.set("big", "x" * MOST)
        with pytest.raises(ValueError, match="max_bytes"):
            session.set("other", "x" * MOST)
        with pytest.raises(ValueError, match="max_bytes"):
            session.set_many({"first": 1, "big": ["x" * MOST]})
        assert sorted(session.keys()) == ["jobs", "other"]
        assert session.get("other") == "text"
        assert checked(session)["evictions"] == 0


def test_a_transaction_is_told_at_once() -> None:
    with connect("memory://", max_bytes=MOST) as session:
        session.list("jobs").push("a")
        with session.transaction() as t:
            t.set("first", 1)
            with pytest.raises(ValueError, match="max_bytes"):
                t.set("big", "x" * MOST)
            with pytest.raises(ValueError, match="max_bytes"):
                t.list("jobs").push(*["x" * 1000] * 30)
            t.set("near", "x" * (MOST - 1000))
            with pytest.raises(ValueError, match="max_bytes"):
                t.rename("near", "k" * 2000)
            t.delete("near")
            t.list("jobs").push("b")
        assert session.get("first") == 1
        assert session.list("jobs").range(0, -1) == ["a", "b"]
        assert sorted(session.keys()) == ["first", "jobs"]
        checked(session)


@pytest.mark.parametrize(("policy", "kept"), [("lru", True), ("fifo", False)])
def test_the_policy_says_which_keys_go(policy: str, kept: bool) -> None:
    with connect(f"memory://?max_items=10&policy={policy}") as session:
        for number in range(20):
            session.set(f"key {number}", number)
            session.get("key 0")
        assert session.exists("key 0") is kept
        assert session.count() == 10


def test_a_snapshot_of_more_is_loaded_as_far_as_there_is_room(tmp_path: Path) -> None:
    with connect("memory://", snapshot=str(tmp_path)) as session:
        session.set("big", "x" * MOST)
        for number in range(50):
            session.set(f"key {number}", ["x" * 500])
    with connect("memory://", snapshot=str(tmp_path), max_bytes=MOST) as session:
        assert checked(session)["bytes"] <= MOST
        assert not session.exists("big")
        assert session.get("key 49") == ["x" * 500]


POLICIES = ("lru", "fifo", "lfu", "random", "sieve", "s3fifo", "tinylfu", "auto")


@pytest.mark.parametrize("inside", [False, True], ids=["alone", "in a transaction"])
@pytest.mark.parametrize("policy", POLICIES)
def test_a_key_that_gets_another_name_lets_none_go(policy: str, inside: bool) -> None:
    """There are no more keys than before, whatever is in the store."""
    for number in range(20):
        with connect("memory://", max_items=3, policy=policy) as session:
            session.set_many({"first": 1, "second": 2, "key": 3})
            for _ in range(number):
                session.get_many(["first", "second", "key"] if number % 2 else ["first"])
            if inside:
                with session.transaction() as t:
                    t.rename("key", "other")
            else:
                session.rename("key", "other")
            assert session.get_many(["first", "second", "other"]) == {"first": 1, "second": 2, "other": 3}
            assert checked(session)["evictions"] == 0


@pytest.mark.parametrize("policy", POLICIES)
def test_a_heavy_key_gets_another_name(policy: str) -> None:
    with connect("memory://", max_bytes=MOST, policy=policy) as session:
        session.set("other", "x" * (MOST // 4))
        session.list("key").push("x" * (MOST // 2))
        session.rename("key", "name")
        assert (session.exists("other"), session.list("name").len(), session.exists("key")) == (True, 1, False)
        with pytest.raises(ValueError, match="max_bytes"):
            session.rename("name", "k" * MOST)
        assert session.list("name").len() == 1
        assert checked(session)["evictions"] == 0
