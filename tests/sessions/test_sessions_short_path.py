"""`get` and `set` of texts in memory have a path of their own, which does what the calls do everywhere else."""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING, Any

import pytest
from session_places import advance

from flexcache_rs import sessions
from flexcache_rs.remote import RemoteCache
from flexcache_rs.sessions import ClosedError, ConflictError, sync

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def session() -> Iterator[sync.Session]:
    with sync.connect("memory://short_path") as made:
        yield made


def writes(session: sync.Session) -> int:
    backend: Any = session._backend
    return int(backend._place.keys.writes)


def test_a_text_replaces_what_was_there(session: sync.Session) -> None:
    for old in ("text", 5, b"bytes", None, [1, 2], {"a": 1}, {1}):
        session.set("key", old)
        before = writes(session)
        assert session.set("key", "new") is True
        assert (session.get("key"), session.kind("key"), writes(session)) == ("new", "scalar", before + 1)
    session.set("key", "kept for ever", ttl=10)
    session.set("key", "kept for ever")
    assert session.ttl("key") is None


def test_a_text_keeps_its_namespace(session: sync.Session) -> None:
    with sync.connect("memory://short_path", namespace="other") as other:
        session.set("key", "one")
        other.set("key", "other")
        session.set("key", "two")
        assert (session.get("key"), other.get("key")) == ("two", "other")
        assert (other.get("none"), other.get("none", 1)) == (None, 1)


def test_a_replaced_text_and_an_expired_one_are_released(session: sync.Session) -> None:
    texts = [f"text {number}" for number in range(3)]
    before = [sys.getrefcount(text) for text in texts]
    for number in range(9):
        session.set("key", texts[number % 3])
    session.set("key", "another")
    session.set("expires", texts[0], ttl=1)
    advance(2)
    assert (session.get("expires"), session.count_expired()) == (None, 0)
    assert [sys.getrefcount(text) for text in texts] == before


def test_a_transaction_notices_that_a_text_was_replaced(session: sync.Session) -> None:
    session.set("key", "old")
    with sync.connect("memory://short_path") as other, pytest.raises(ConflictError), session.transaction() as t:
        assert t.get("key") == "old"
        other.set("key", "theirs")
        t.set("key", "ours")
    assert session.get("key") == "theirs"


def test_a_session_with_a_transaction_reads_through_it(session: sync.Session) -> None:
    session.set("key", "old")
    with session.transaction() as t:
        t.set("key", "new")
        assert session.get("key") == "new"
        session.set("key", "newest")
        assert t.get("key") == "newest"
    assert session.get("key") == "newest"


def test_a_closed_session_says_so() -> None:
    session = sync.connect("memory://")
    session.set("key", "text")
    session.close()
    for call in (lambda: session.get("key"), lambda: session.set("key", "text")):
        with pytest.raises(ClosedError):
            call()


@pytest.mark.parametrize("key", [5, b"key", None])
def test_a_key_that_is_no_text(session: sync.Session, key: Any) -> None:
    with pytest.raises(TypeError, match="key must be a str"):
        session.get(key)
    with pytest.raises(TypeError, match="key must be a str"):
        session.set(key, "text")


def test_a_key_of_a_subclass_and_one_that_is_no_unicode(session: sync.Session) -> None:
    class Text(str):
        __slots__ = ()

    session.set(Text("key"), "text")
    assert session.get("key") == session.get(Text("key")) == "text"
    for call in (lambda: session.get("\ud800"), lambda: session.set("\ud800", "text")):
        with pytest.raises(ValueError, match="without surrogates"):
            call()


READS = [sessions.Session.get, sessions.Transaction.get, RemoteCache.aget]


@pytest.mark.parametrize("read", READS, ids=["session", "transaction", "aget"])
def test_an_awaited_read_is_one_coroutine(read: Any) -> None:
    """The call that suggests arguments would take longer than the read."""
    assert inspect.iscoroutinefunction(read)
    assert not hasattr(read, "__wrapped__")
    with pytest.raises(TypeError, match="unexpected keyword argument 'nonsense'"):
        read(None, "key", nonsense=1)
