"""The protocol of the tracker, step by step.

In every order of the steps, no copy of a replaced value is served for good. The server, its announcements and the
copies are a model. The tracker is the real one.
"""

from __future__ import annotations

import itertools
import random
from typing import TYPE_CHECKING

import pytest
from scale import SCALE, SEED, scaled

from flexcache_rs._core import PushTracker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KEY = b"key"

Steps = "list[Callable[[], None]]"


class Model:
    """One key of a server, one listening connection, and one copy in memory."""

    def __init__(self, is_late: bool, heeds: bool) -> None:
        self.tracker = PushTracker(1)
        self.is_late, self.heeds = is_late, heeds
        self.value = 0
        self.news = 0
        """Pushes that are on their way."""
        self.is_told = True
        self.copy: tuple[int, int] | None = None
        """A value and its stamp."""
        self.believe()

    def believe(self) -> None:
        self.tracker.believe_until(self.tracker.now() + 10**15)

    def written(self) -> None:
        """The server executes a write of any client."""
        self.value += 1
        self.news += self.is_told

    def heard(self) -> None:
        """All announcements on their way arrive."""
        if self.news and self.heeds:
            self.tracker.invalidate([KEY])
        self.news = 0

    def read(self) -> Steps:
        """A read that finds nothing in memory: stamp, reply, copy."""
        found: list[int] = []
        stamps: list[int] = []

        def stamp() -> None:
            stamps.append(self.tracker.stamp(KEY))

        def ask() -> None:
            found.append(self.value)

        def keep() -> None:
            if self.tracker.is_unchanged(stamps[0]):
                self.copy = found[0], stamps[0]

        return [ask, stamp, keep] if self.is_late else [stamp, ask, keep]

    def own_write(self) -> Steps:
        """A write of this process. It ends the copy before and after."""

        def end() -> None:
            self.tracker.invalidate([KEY])

        return [end, self.written, end] if self.heeds else [self.written]

    def foreign_write(self) -> Steps:
        """A write of another process, and its announcement."""
        return [self.written, self.heard]

    def reconnect(self) -> Steps:
        """The connection ends, with the announcements on their way. Later it exists again and counts as working."""

        def lose() -> None:
            self.is_told, self.news = False, 0
            self.tracker.doubt()

        def listen() -> None:
            self.is_told = True
            self.tracker.start_generation()

        return [lose, listen, self.believe]

    def is_stale(self) -> bool:
        """Return True if a copy is served that differs from the server after all announcements have arrived."""
        self.heard()
        return self.copy is not None and self.tracker.is_live(self.copy[1]) and self.copy[0] != self.value


ACTORS: dict[str, Callable[[Model], Steps]] = {
    "read": Model.read,
    "own write": Model.own_write,
    "foreign write": Model.foreign_write,
    "reconnect": Model.reconnect,
}


def orders(lengths: list[int]) -> Iterator[tuple[int, ...]]:
    """Generate all orders of the steps of actors, or a random share of them in a shortened run."""
    turns = [number for number, length in enumerate(lengths) for _ in range(length)]
    if SCALE >= 1:

        def rest(left: list[int], before: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
            if not any(left):
                yield before
            for number, count in enumerate(left):
                if count:
                    yield from rest([*left[:number], count - 1, *left[number + 1 :]], (*before, number))

        yield from rest(lengths, ())
        return
    chance = random.Random(SEED)
    for _ in range(scaled(20_000)):
        chance.shuffle(turns)
        yield tuple(turns)


def stale_orders(names: tuple[str, ...], is_late: bool = False, heeds: bool = True) -> Iterator[tuple[int, ...]]:
    """Return the orders of steps after which an old copy is served for good."""
    lengths = [len(ACTORS[name](Model(is_late, heeds))) for name in names]
    for order in orders(lengths):
        model = Model(is_late, heeds)
        steps = [iter(ACTORS[name](model)) for name in names]
        for number in order:
            next(steps[number])()
        if model.is_stale():
            yield order


@pytest.mark.parametrize(
    "names",
    [
        *itertools.combinations(ACTORS, 2),
        *itertools.combinations(ACTORS, 3),
        ("read", "read", "foreign write"),
        ("read", "foreign write", "foreign write"),
        ("read", "own write", "foreign write", "reconnect"),
    ],
    ids=", ".join,
)
def test_no_order_of_steps_leaves_an_old_copy(names: tuple[str, ...]) -> None:
    assert list(stale_orders(names)) == []


@pytest.mark.parametrize(
    ("options", "names"), [({"is_late": True}, ("read", "foreign write")), ({"heeds": False}, ("read", "own write"))]
)
def test_orders_are_found_where_a_rule_is_broken(options: dict[str, bool], names: tuple[str, ...]) -> None:
    """A test of the model: it finds such orders if stamps are taken after the read, or announcements are ignored."""
    assert next(stale_orders(names, **options), None) is not None
