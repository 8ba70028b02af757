"""Calls on the sets of several keys, of every kind and in every place, compared with a model."""

from __future__ import annotations

import functools
import itertools
from typing import TYPE_CHECKING, Any

import pytest

from flexcache_rs.sessions import KindError

if TYPE_CHECKING:
    from collections.abc import Callable

    from flexcache_rs.sessions import sync

MAKE: dict[str, Callable[[sync.Session], object]] = {
    "value": lambda session: session.set("value", 1),
    "list": lambda session: session.list("list").push(1),
    "map": lambda session: session.map("map").set("a", 1),
    "sorted": lambda session: session.sorted("sorted").add({"a": 1.0}),
    "queue": lambda session: session.queue("queue").push(1),
    "one": lambda session: session.set_of("one").add(1, 2, 3),
    "two": lambda session: session.set_of("two").add(2, 3, 4),
    "emptied": lambda session: (session.set_of("emptied").add(1), session.set_of("emptied").discard(1)),
}
SETS: dict[str, set[int]] = {"one": {1, 2, 3}, "two": {2, 3, 4}, "emptied": set(), "absent": set()}
KEYS = (*MAKE, "absent")
CALLS: dict[str, Callable[..., set[Any]]] = {
    "union": set.union,
    "intersection": set.intersection,
    "difference": set.difference,
}


def model(call: str, keys: tuple[str, ...]) -> set[int] | None:
    """Return the result of a call, or None if one of its keys is of another kind."""
    if not all(key in SETS for key in keys):
        return None
    return functools.reduce(CALLS[call], (SETS[key] for key in keys))


def answered(session: Any, call: str, keys: tuple[str, ...]) -> set[int] | None:
    try:
        found: set[int] = getattr(session.set_of(keys[0]), call)(*keys[1:])
    except KindError:
        return None
    return found


@pytest.mark.parametrize("in_transaction", [False, True])
@pytest.mark.parametrize("call", CALLS)
def test_a_key_of_another_kind_is_refused_in_each_place(session: sync.Session, call: str, in_transaction: bool) -> None:
    for make in MAKE.values():
        make(session)
    three = [("absent", "two", "list"), ("one", "absent", "map"), ("one", "one", "two")]
    several = [*itertools.product(KEYS, KEYS), *three]
    if in_transaction:
        with session.transaction() as transaction:
            found = {keys: answered(transaction, call, keys) for keys in several}
    else:
        found = {keys: answered(session, call, keys) for keys in several}
    assert found == {keys: model(call, keys) for keys in several}
