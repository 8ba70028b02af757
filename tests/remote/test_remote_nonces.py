"""Nonces: what another thread may do between two steps of noting a reply, and a server that creates none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from flexcache_rs.remote import RemoteError
from flexcache_rs.remote.nonces import NAMESPACE, Nonces
from flexcache_rs.remote.values import NONCE_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

OLD, NEW = b"o" * NONCE_BYTES, b"n" * NONCE_BYTES


class Tracker:
    """Counts how often copies became invalid, and lets another thread act just before or after, once."""

    def __init__(self) -> None:
        self.generations = 0
        self.before: list[Callable[[], object]] = []
        self.after: list[Callable[[], object]] = []
        self.at_stamp: list[Callable[[], object]] = []

    def start_generation(self) -> None:
        while self.before:
            self.before.pop()()
        self.generations += 1
        while self.after:
            self.after.pop()()

    def is_live(self, stamp: int) -> bool:
        return True

    def stamp(self, place: bytes) -> int:
        while self.at_stamp:
            self.at_stamp.pop()()
        return self.generations


class Refusing:
    """A client of a server that reads, and writes nothing."""

    def values(self, places: list[bytes]) -> list[None]:
        return [None] * len(places)

    def execute_many(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        return [None if command[0] == "GET" else RemoteError("OOM") for command in commands]


class Places:
    epoch = b"epoch"


def nonces_of(tracker: Tracker, client: Any = None) -> Nonces:
    keys: Any = Places()
    counting: Any = tracker
    return Nonces(client, keys, counting)


@pytest.mark.parametrize("reply", [NEW, None], ids=["another nonce", "no nonce"])
def test_nobody_learns_a_new_nonce_while_old_copies_are_valid(reply: bytes | None) -> None:
    """Another thread has read the new nonce, and notes it while this one invalidates the copies."""
    tracker = Tracker()
    nonces = nonces_of(tracker)
    nonces.learn(NAMESPACE, OLD, 1)
    learned: list[int] = []

    def learn() -> None:
        nonces.learn(NAMESPACE, NEW, 1)
        learned.append(tracker.generations)

    tracker.before.append(learn)
    nonces.learn(NAMESPACE, reply, 1)
    assert (learned, tracker.generations) == ([1], 2)


def test_nobody_uses_a_new_nonce_while_old_copies_are_valid() -> None:
    tracker = Tracker()
    nonces = nonces_of(tracker)
    nonces.learn(NAMESPACE, OLD, 1)
    used: list[bytes | None] = []
    tracker.before.append(lambda: used.append(nonces.known(NAMESPACE)))
    nonces.learn(NAMESPACE, NEW, 1)
    assert (used, nonces.known(NAMESPACE)) == ([OLD], NEW)


def test_a_nonce_that_is_gone_is_not_used() -> None:
    """A read found it gone before its removal was announced."""
    nonces = nonces_of(Tracker())
    nonces.learn(NAMESPACE, OLD, 1)
    assert nonces.learn(NAMESPACE, None, 1) is None
    assert nonces.known(NAMESPACE) is None


def test_a_nonce_that_is_learned_while_all_are_forgotten() -> None:
    """Copies may depend on it, so they become invalid when it is replaced."""
    tracker = Tracker()
    nonces = nonces_of(tracker)
    nonces.learn(NAMESPACE, OLD, 1)
    tracker.after.append(lambda: nonces.learn(NAMESPACE, OLD, 1))
    nonces.forget()
    before = tracker.generations
    nonces.learn(NAMESPACE, NEW, 1)
    assert tracker.generations == before + 1


def test_a_nonce_that_is_watched_while_all_are_forgotten() -> None:
    """Writes to it are heard of, or its stamp is invalid."""
    tracker = Tracker()
    nonces = nonces_of(tracker)
    tracker.at_stamp.append(nonces.forget)
    stamp = nonces.watch(NAMESPACE)
    assert nonces.heard([Places.epoch]) == [Places.epoch] or stamp < tracker.generations


def test_a_nonce_that_the_server_refuses_to_create() -> None:
    """The error is raised, and no value is written with a nonce that does not exist."""
    with pytest.raises(RemoteError, match="OOM"):
        nonces_of(Tracker(), Refusing()).ensured([NAMESPACE])
