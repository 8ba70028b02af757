"""The package's exceptions go through a pool of processes, which pickles them, and can be copied."""

from __future__ import annotations

import copy
import importlib
import pickle
import pkgutil
from typing import Any

import pytest

import flexcache_rs
from flexcache_rs.sessions import RateLimitExceeded, ShardError

NEED_MORE: dict[type[BaseException], tuple[Any, ...]] = {
    RateLimitExceeded: ("message", 1.0),
    ShardError: ("message", ["a"], {"b": KeyError("b")}),
}
"""The arguments of exceptions that need more than a message."""


def exceptions() -> list[type[BaseException]]:
    """Return the exceptions and warnings that the package defines."""
    found: dict[type[BaseException], None] = {}
    for module in pkgutil.walk_packages(flexcache_rs.__path__, "flexcache_rs."):
        if module.name.endswith("__main__"):
            continue
        try:
            members = vars(importlib.import_module(module.name))
        except ImportError:
            # It needs a package that is not installed.
            continue
        for member in members.values():
            if isinstance(member, type) and issubclass(member, BaseException):
                found[member] = None
    return [one for one in found if one.__module__.startswith("flexcache_rs")]


@pytest.mark.parametrize("way", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))], ids=["copy", "pickle"])
def test_exceptions_are_the_same_after_a_journey(way: Any) -> None:
    found = exceptions()
    assert len(found) > 30
    for exception in found:
        error = exception(*NEED_MORE.get(exception, ("message",)))
        error.__dict__["noted"] = 1
        after = way(error)
        assert type(after) is exception
        assert (str(after), after.args) == (str(error), error.args)
        assert after.__dict__.keys() == error.__dict__.keys()
