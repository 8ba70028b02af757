"""The examples of the docstrings, on a server of the tests."""

from __future__ import annotations

import doctest
from typing import TYPE_CHECKING, Any

import pytest

from flexcache_rs import remote
from flexcache_rs.remote import RemoteCache
from flexcache_rs.remote.locks import RemoteLimiter, RemoteLock

if TYPE_CHECKING:
    from own_server import Server


def examples() -> list[Any]:
    texts = {name: getattr(RemoteCache, name).__doc__ or "" for name in dir(RemoteCache) if not name.startswith("_")}
    documented = {
        "the package": remote,
        "RemoteCache": RemoteCache,
        "RemoteLock": RemoteLock,
        "RemoteLimiter": RemoteLimiter,
    }
    texts |= {name: one.__doc__ or "" for name, one in documented.items()}
    # An alias has the docstring of the other name.
    shown = {text: name for name, text in texts.items() if ">>>" in text}
    return [pytest.param(text, id=name) for text, name in shown.items()]


@pytest.mark.parametrize("text", examples())
def test_examples(text: str, server: Server) -> None:
    text = text.replace("valkey://localhost:6379/0", f"unix://{server.path}")
    example = doctest.DocTestParser().get_doctest(text, {"RemoteCache": RemoteCache}, "example", None, None)
    try:
        assert doctest.DocTestRunner().run(example, clear_globs=False).failed == 0
    finally:
        if "cache" in example.globs:
            example.globs["cache"].close()


def test_the_most_used_calls_have_an_example() -> None:
    assert len(examples()) > 20
