"""Stores whose calls stop at chosen places, so that two calls overlap in a known order.

In a user's store, a test can stop a write just before or just after its commit, or a read between the row and the
result. The tracker is the same for all stores.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

from store_kinds import Complete, Dictionary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENCE = 30.0
"""Seconds after which a test stops waiting for another thread."""


class Gate:
    """A place in a call at which its thread stops once, until the test lets it continue."""

    def __init__(self) -> None:
        self.armed = False
        self.reached = threading.Event()
        self._open = threading.Event()

    def arm(self) -> None:
        self.armed = True

    def open(self) -> None:
        self._open.set()

    def __call__(self) -> None:
        if self.armed:
            self.armed = False
            self.reached.set()
            assert self._open.wait(PATIENCE), "nobody opened the gate"


class Gates:
    """Gates by name, which are created when they are first passed or armed."""

    def __init__(self) -> None:
        self._gates: dict[str, Gate] = {}

    def __getitem__(self, name: str) -> Gate:
        return self._gates.setdefault(name, Gate())


class GatedDictionary(Dictionary):
    """The minimal store, with a gate before and after each commit, and one between reading a row and returning it."""

    def __init__(self) -> None:
        super().__init__()
        self.gates = Gates()

    def load(self, key: Any) -> Any:
        self.gates["before load"]()
        found = super().load(key)
        self.gates["after load"]()
        return found

    def save(self, key: Any, value: Any, ttl: float | None, tags: tuple[str, ...]) -> None:
        self.gates["before commit"]()
        super().save(key, value, ttl, tags)
        self.gates["after commit"]()

    def remove(self, key: Any) -> bool:
        there = super().load(key) is not None
        self.gates["before commit"]()
        self.rows.pop(key, None)
        self.gates["after commit"]()
        return there

    def clear(self) -> None:
        self.gates["before commit"]()
        super().clear()
        self.gates["after commit"]()


class GatedComplete(Complete):
    """The store with all methods, the same gates, and one after each write of a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.gates = Gates()
        self._depth = threading.local()

    def load(self, key: Any) -> Any:
        found = super().load(key)
        if not getattr(self._depth, "value", 0):
            self.gates["after load"]()
        return found

    def save(self, key: Any, value: Any, ttl: float | None, tags: tuple[str, ...]) -> None:
        super().save(key, value, ttl, tags)
        self.gates["after a write of a batch"]()

    @contextlib.contextmanager
    def transact(self) -> Iterator[None]:
        depth = self._depth.value = getattr(self._depth, "value", 0) + 1
        try:
            with super().transact():
                yield
                if depth == 1:
                    self.gates["before commit"]()
        finally:
            self._depth.value = depth - 1
        if depth == 1:
            self.gates["after commit"]()


@contextlib.contextmanager
def stopped_at(gate: Gate, call: Callable[[], Any]) -> Iterator[None]:
    """Run a call in a thread, which is stopped at a gate during the block. After the block the call has returned."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:
            raised.append(error)

    gate.arm()
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert gate.reached.wait(PATIENCE), f"the gate was not reached {raised}"
    try:
        yield
    finally:
        gate.open()
        thread.join(PATIENCE)
    assert not thread.is_alive()
    assert not raised, raised


def meanwhile(call: Callable[[], Any]) -> Any:
    """Make a call in another thread, which must not wait for the one at the gate. Returns its result."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(call()), daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert results, "the call waits for another one"
    return results[0]
