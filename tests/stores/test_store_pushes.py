"""Copies in memory of a store that pushes what was written: what is read while this process writes is not kept.

The store is a dictionary with the tracker that `flexcache_rs.remote` has, so no server is needed. Pushes never come.
"""

from __future__ import annotations

from typing import Any

from gates import Gates, meanwhile, stopped_at

from flexcache_rs import FlexCache, _core

FOR_EVER = 2**63 - 1


class Pushing:
    """What a cache calls of such a store, as far as these tests go."""

    def __init__(self) -> None:
        self.tracker = _core.PushTracker(100)
        self.tracker.believe_until(FOR_EVER)
        self.rows = {"a": 1, "b": 1}
        self.gates = Gates()
        self.loads: list[str] = []

    def stamp(self, key: str) -> int:
        return self.tracker.stamp(key.encode())

    def load(self, key: str) -> tuple[Any, int]:
        self.loads.append(key)
        stamp = self.stamp(key)
        return (self.rows[key], None, ()), stamp

    def write(self, key: str, value: int) -> None:
        """A write of this process, whose push is still on its way when it ends."""
        with self.tracker.write([key.encode()]):
            self.gates["before commit"]()
            self.rows[key] = value
            self.gates["after commit"]()


def test_what_is_read_during_a_write_is_not_kept() -> None:
    """Or a thread that has seen the new value would meet the old one later."""
    store = Pushing()
    cache: FlexCache[str, int] = FlexCache(store=store)
    assert (cache["a"], cache["a"], cache["b"]) == (1, 1, 1)
    assert store.loads == ["a", "b"], "copies are kept"
    with stopped_at(store.gates["before commit"], lambda: store.write("a", 2)):
        store.gates["after commit"].arm()
        assert meanwhile(lambda: cache["a"]) == 1
        store.gates["before commit"].open()
        assert store.gates["after commit"].reached.wait(30)
        assert meanwhile(lambda: (cache["a"], cache["a"], cache["b"])) == (2, 2, 1)
        assert store.loads == ["a", "b", *"aaa"], "the key is read each time, and others are not"
        store.gates["after commit"].open()
    assert (cache["a"], cache["a"]) == (2, 2)
    assert store.loads == ["a", "b", *"aaaa"], "copies are kept again"


def test_a_write_that_fails_has_ended() -> None:
    """Its key is kept afterwards; also where nobody has entered or left the block."""
    store = Pushing()
    cache: FlexCache[str, int] = FlexCache(store=store)

    class Stop(BaseException):
        pass

    def fail() -> None:
        with store.tracker.write([b"a", b"b"]):
            assert (cache["a"], cache["a"]) == (1, 1)
            raise Stop

    for end in (fail, lambda: store.tracker.write([b"a"])):
        before = len(store.loads)
        try:
            end()
        except Stop:
            assert store.loads[before:] == ["a", "a"]
        before = len(store.loads)
        assert (cache["a"], cache["a"]) == (1, 1)
        assert store.loads[before:] == ["a"]
