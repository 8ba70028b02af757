"""Calls at the limits of numbers, counts and times, which have the same results on each backend."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
from session_places import advance

from flexcache_rs.sessions import KindError

if TYPE_CHECKING:
    from collections.abc import Callable

    from flexcache_rs.sessions.sync import Session

MOST = 2**63 - 1
LONGEST = 292 * 365.25 * 86400


def results(*calls: Callable[[], Any]) -> list[Any]:
    return [call() for call in calls]


def short_list(session: Session) -> Any:
    jobs = session.list("l")
    jobs.push(1, 2, 3)
    return jobs


def short_queue(session: Session) -> Any:
    jobs = session.queue("q")
    jobs.push(1, 2, 3)
    return jobs


def pages_of_map(session: Session) -> Any:
    numbers = session.map("m")
    numbers.update({1: 1, 2: 2})
    return list(numbers.pages(MOST)), list(numbers.pages(2**32))


def pages_of_set(session: Session) -> Any:
    numbers = session.set_of("s")
    numbers.add(1, 2)
    return [sorted(page) for page in numbers.pages(MOST)], [sorted(page) for page in numbers.pages(2**32)]


def many_sets(session: Session) -> Any:
    """More keys than Lua passes to a command."""
    names = [f"k{number}" for number in range(9001)]
    session.set_many({name: {1, 2} if number < 9000 else {1, 9} for number, name in enumerate(names)})
    first = session.set_of(names[0])
    return (
        first.union(*names),
        first.intersection(*names),
        first.difference(*names[9000:]),
        first.difference(*names[1:]),
        first.union(*(f"absent{number}" for number in range(9000))),
        session.set_of("absent").difference(*names),
    )


def limits_without_end(session: Session) -> Any:
    none, each = session.limiter("none", MOST, "1s"), session.limiter("each", 2**62, LONGEST)
    return (
        none.hit().allowed,
        none.hit(cost=10**12).allowed,
        none.hit().remaining > 10**15,
        each.hit(cost=10**9).allowed,
    )


def bursts(session: Session) -> Any:
    """The time after such a burst is no exact number in Lua, so that half of them could be refused."""
    slow = [session.limiter(f"slow{number}", 1, "1d", burst=10**5) for number in range(20)]
    return [each.hit(cost=10**5).allowed for each in slow], [each.hit().allowed for each in slow]


# By name: a call, and its result.
CASES: dict[str, tuple[Callable[[Session], Any], Any]] = {
    "push with a large maxlen": (lambda s: (short_list(s).push(4, maxlen=MOST), s.get("l")), (4, [1, 2, 3, 4])),
    "push_left with a large maxlen": (
        lambda s: (short_list(s).push_left(0, maxlen=MOST), s.get("l")),
        (4, [0, 1, 2, 3]),
    ),
    "push with maxlen 0": (lambda s: (short_list(s).push(4, maxlen=0), s.get("l"), s.kind("l")), (0, [], "list")),
    "push to a queue": (
        lambda s: (short_queue(s).push(4, maxlen=MOST), list(s.get("q")), s.queue("q").push(5, maxlen=2), s.kind("q")),
        (4, [1, 2, 3, 4], 2, "queue"),
    ),
    "push_left to a queue": (
        lambda s: (short_queue(s).push_left(0, maxlen=MOST), s.queue("q").push_left(9, maxlen=2), list(s.get("q"))),
        (4, 2, [9, 0]),
    ),
    "pages of a map": (pages_of_map, ([{1: 1, 2: 2}], [{1: 1, 2: 2}])),
    "pages of a set": (pages_of_set, ([[1, 2]], [[1, 2]])),
    "many sets": (many_sets, ({1, 2, 9}, {1}, {2}, set(), {1, 2}, set())),
    "limits without end": (limits_without_end, (True, True, True, True)),
    "bursts": (bursts, ([True] * 20, [False] * 20)),
    "a lock for ever": (
        lambda s: (s.lock("x", None).acquire(0), s.lock("x").acquire(0)),
        (True, False),
    ),
    "a lock of infinite time": (lambda s: (s.lock("x", math.inf).acquire(0), s.lock("x").acquire(0)), (True, False)),
}


@pytest.mark.parametrize("name", CASES)
def test_backends_agree(session: Session, name: str) -> None:
    call, result = CASES[name]
    assert call(session) == result


def test_a_refused_push_leaves_a_queue_as_it_was(session: Session) -> None:
    """Its jobs that are reserved, too."""
    jobs = session.queue("q")
    jobs.push("a", "b", "c")
    job = jobs.reserve()
    assert jobs.push("d", maxlen=MOST) == 3
    assert job is not None
    assert job.release()
    assert jobs.range() == ["a", "b", "c", "d"]


def test_a_burst_is_at_most_as_long_as_a_time(session: Session) -> None:
    with pytest.raises(ValueError, match="burst must be at most 106653 with this limit and period, not 106654"):
        session.limiter("x", 1, "1d", burst=106_654)
    assert session.limiter("x", 1, "1d", burst=106_653).hit(cost=106_653).allowed
    assert session.limiter("y", 3, LONGEST).hit(cost=3).allowed


def test_a_forever_lock_is_released(session: Session) -> None:
    lock = session.lock("x", None)
    with lock:
        advance(10**6)
        assert not session.lock("x").acquire(0)
    assert session.lock("x").acquire(0)


def test_the_first_key_of_another_kind_is_named(session: Session) -> None:
    session.set_many({"z": 1, "a": [1], "s": {1}})
    with pytest.raises(KindError, match='"z" holds a single value, not a set'):
        session.set_of("s").union("z", "a")
    with pytest.raises(KindError, match='"a" holds a list, not a set'):
        session.set_of("s").union("a", "z")


@pytest.mark.parametrize(
    "call",
    [
        lambda s: s.incr("n", -math.inf),
        lambda s: s.incr("m", math.inf, initial=-math.inf),
        lambda s: s.map("map").incr("n", -math.inf),
        lambda s: s.sorted("sorted").incr("n", -math.inf),
    ],
)
def test_sums_that_are_no_numbers(session: Session, call: Any) -> None:
    session.set("n", math.inf)
    session.map("map").set("n", math.inf)
    session.sorted("sorted").add({"n": math.inf})
    with pytest.raises(OverflowError, match=r"the sum is not a number \(NaN\) and cannot be stored"):
        call(session)
    assert (session.get("n"), session.get("m")) == (math.inf, None)
    assert session.map("map").all() == session.get("sorted") == {"n": math.inf}


CHANGES: dict[str, tuple[Callable[[Any], Any], list[str]]] = {
    "put": (lambda jobs: jobs.put(0, "x"), ["a", "x", "c"]),
    "insert": (lambda jobs: jobs.insert(0, "x"), ["a", "x", "b", "c"]),
    "remove": (lambda jobs: jobs.remove("b"), ["a", "c"]),
    "trim": (lambda jobs: jobs.trim(1, 1), ["a", "c"]),
    "push": (lambda jobs: jobs.push("x"), ["a", "b", "c", "x"]),
    "push_left": (lambda jobs: jobs.push_left("x"), ["a", "x", "b", "c"]),
    "remove the job": (lambda jobs: jobs.remove("a"), ["a", "b", "c"]),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_job_whose_time_is_over_is_not_changed(session: Session, change: str) -> None:
    """It returns at the next pop or reserve. Until then, positions are those that `range` shows."""
    call, left = CHANGES[change]
    jobs = session.queue("q")
    jobs.push("a", "b", "c")
    assert jobs.reserve(1) is not None
    advance(5)
    assert jobs.range() == ["b", "c"]
    call(jobs)
    assert jobs.pop_left(9) == left
