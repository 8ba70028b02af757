"""The connection that listens. It receives notifications of writes, and replies to the requests that measure staleness.

The questions tell how old the news may be. What the server answered to a question that was sent at T shows that
every write before T has been heard of. So copies in memory are served until T and `max_staleness`, and no longer.
"""

from __future__ import annotations

import os
import random
import threading
import time
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from flexcache_rs._core import PushTracker
from flexcache_rs._threads import AutoResetEvent, SingleThread
from flexcache_rs.remote.errors import RemoteConnectionError, RemoteError, RemoteTimeoutError
from flexcache_rs.remote.given import shut_down
from flexcache_rs.remote.resp import ErrorReply, NewsReader, ProtocolError, Push, command, commands

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flexcache_rs.remote.breaker import Breaker
    from flexcache_rs.remote.client import Client
    from flexcache_rs.remote.nonces import Nonces

_SHORTEST, _LONGEST = 0.01, 1.0
"""Seconds between two attempts to connect."""

_QUESTIONS = command("HELLO") + command("TIME")

_QUESTION_OF_CLUSTER = command("CLUSTER", "SLOTS")


class _Asked:
    """The pending requests of one connection, in their order."""

    def __init__(self) -> None:
        self.questions: deque[tuple[str, Any]] = deque()
        self.nonces = 0
        """The number of pending requests for nonces."""
        self.belief = 0
        """The time until which copies may be served, as soon as the requests for nonces have their replies."""

    def is_late(self, now: int, staleness: int) -> bool:
        """Whether a reply is late."""
        oldest = next((about for kind, about in self.questions if kind == "role"), None)
        return oldest is not None and now - oldest > staleness


_LISTENERS: weakref.WeakSet[Listener] = weakref.WeakSet()


class Unsupported(Exception):  # noqa: N818
    """The server cannot announce writes. The user gets a `RemoteError`."""


class Terms(NamedTuple):
    """The settings of a listener, and the objects that it notifies."""

    name: str
    """The name of connections in `CLIENT LIST`."""
    prefixes: Sequence[bytes]
    """The prefixes of the keys."""
    max_staleness: float
    """The seconds for which copies are served after the last request with a reply was sent."""
    tracker: PushTracker
    """The tracker, which gets the announced writes."""
    breaker: Breaker
    """The breaker, which is closed when the server replies."""
    nonces: Nonces
    """The nonces on which copies also depend. A nonce is read again when a write to it is announced."""
    must_be_told: bool
    """Whether the server must announce writes. If not, `l1_ttl` limits the age of copies."""
    life: Callable[[], object]
    """Returns the object that lives as long as anything uses the store, and None after its end."""


class Group(Protocol):
    """The listeners of a cluster. Copies are served only while all of them are up to date."""

    def believe_until(self, listener: Listener, moment: int) -> None:
        """Note that all earlier writes to one server are known, so that copies may be served until `moment`."""

    def doubt(self, listener: Listener) -> None:
        """Note that writes to one server from now on are not known."""

    def heard_of(self, listener: Listener, slots: Any) -> None:
        """Process one server's reply about the slots of all servers."""


class Listener:
    """A thread with its own connection, which keeps a tracker up to date.

    Args:
        client: The client that makes connections.
        terms: The settings, and the objects to notify.
        group: The group of the listener, if the server is part of a cluster.
    """

    def __init__(self, client: Client, terms: Terms, group: Group | None = None) -> None:
        self._client, self._terms, self._group = client, terms, group
        self._max_staleness = terms.max_staleness
        self._tracker, self._breaker, self._nonces = terms.tracker, terms.breaker, terms.nonces
        self.offset: float | None = None
        """The difference in milliseconds between the server's clock, since 1970, and the tracker's clock."""
        self.error: Exception | None = None
        """The error because of which there is no connection."""
        self.connects = self.flushes = self._invalidations = 0
        self._told: tuple[int, NewsReader] | None = None
        """The number of keys that readers of earlier connections passed to the tracker, and the current reader."""
        self.id = 0
        """The id of the connection on the server."""
        self._stopped = False
        self._socket: Any = None
        self._begin()
        _LISTENERS.add(self)

    def _begin(self) -> None:
        self._thread = SingleThread("flexcache-remote", self._keep_listening, self._is_wanted)
        self._changed = AutoResetEvent()

    @property
    def invalidations(self) -> int:
        """The number of keys whose writes the server announced."""
        told = self._told
        return self._invalidations + (told[0] + told[1].invalidated if told else 0)

    def after_fork(self) -> None:
        """Reset the state in a forked child, which must not use its parent's connection."""
        # Do not call the group, which resets its own state.
        self._tracker.doubt()
        # Also drop what the parent knew, because the child does not listen before its first use.
        self._tracker.start_generation()
        self._socket = None
        self._begin()

    def ensure(self) -> None:
        """Start the thread, unless it runs. A forked child starts its own thread at its first use."""
        if not self._stopped:
            self._thread.ensure()

    def wait(self, timeout: float) -> bool:
        """Wait until copies may be served, which returns True, or until there is an error."""
        if self._changed.wait(timeout):
            # Other threads may wait too.
            self._changed.set()
        return self._tracker.is_believed()

    def stop_soon(self) -> None:
        """Tell the thread to end, without waiting for it."""
        self._stopped = True
        self._doubt()
        sock, self._socket = self._socket, None
        if sock is not None:
            shut_down(sock)

    def _doubt(self) -> None:
        if self._group is None:
            self._tracker.doubt()
        else:
            self._group.doubt(self)

    def stop(self) -> None:
        """End the thread."""
        self.stop_soon()
        thread = self._thread.current
        if thread is not None and thread is not threading.current_thread():
            thread.join(2)

    def _keep_listening(self) -> None:
        pause = _SHORTEST
        process = os.getpid()
        while self._is_wanted() and process == os.getpid():
            connects = self.connects
            try:
                self._listen()
            except Exception as error:  # noqa: BLE001  # Whatever it is, the next attempt may succeed.
                self.error = error
            finally:
                self._doubt()
                self.flushes += 1
                self._socket = None
            self._changed.set()
            pause = _SHORTEST if self.connects > connects else min(pause * 2, _LONGEST)
            if self._is_wanted():
                time.sleep(pause * (0.5 + random.random()))

    def _is_wanted(self) -> bool:
        # A signal handler that raises while the garbage collector runs may skip the call of `stop`.
        return not self._stopped and self._terms.life() is not None

    def _listen(self) -> None:
        """Connect, and listen until the connection ends."""
        # The handshake needs a deadline too, because a suspended server still accepts connections.
        connection = self._client.connect(max(self._max_staleness, 0.1))
        try:
            sock = self._socket = connection._sock
            reader = NewsReader(sock, self._tracker, self._terms.prefixes[0])
            # Assign both at once, because other threads read them.
            self._told = (self._told[0] + self._told[1].invalidated, reader) if self._told else (0, reader)
            early = self._introduce(sock, reader)
            if self.connects:
                # The server may have changed, so connections for commands may still lead to the old one.
                self._client.renew()
            # From here on every write is announced. Earlier stamps are invalid.
            self._tracker.start_generation()
            self.connects += 1
            asked = _Asked()
            for reply in early:
                self._take(reply, asked, sock)
            with self._client.watched(connection, self._max_staleness / 3):
                self._attend(sock, reader, asked)
        finally:
            connection.disconnect()

    def _introduce(self, sock: Any, reader: NewsReader) -> list[Any]:
        """Request announcements of writes. Returns those that arrive before the last reply."""
        prefixes = [part for prefix in self._terms.prefixes for part in ("PREFIX", prefix)]
        seconds = max(self._max_staleness, 0.1)
        sock.settimeout(seconds)
        sock.sendall(
            command("HELLO", 3)
            + command("CLIENT", "SETNAME", self._terms.name)
            + command("CLIENT", "TRACKING", "ON", "BCAST", *prefixes)
            + command("CLIENT", "ID")
        )
        replies: list[Any] = []
        early: list[Any] = []
        while len(replies) < 4:
            for reply in reader.receive(seconds):
                (early if isinstance(reply, Push) else replies).append(reply)
        what = ("HELLO", "CLIENT SETNAME", "CLIENT TRACKING", "CLIENT ID")
        for name, reply in zip(what, replies, strict=True):
            if isinstance(reply, ErrorReply) and (
                name == "HELLO" or (name == "CLIENT TRACKING" and self._terms.must_be_told)
            ):
                message = (
                    f"the server does not tell what is written ({name}): {reply}. Give l1_ttl to have copies in memory "
                    "served for that many seconds instead"
                )
                raise Unsupported(message)
        self._check_role(replies[0])
        mode = replies[0].get(b"mode")
        wanted = b"standalone" if self._group is None else b"cluster"
        if mode not in (wanted, None):
            message = f"the server is of a {mode.decode()}, and the client that was given is not one for that"
            raise Unsupported(message)
        self._nonces.is_told = not isinstance(replies[2], ErrorReply)
        self.id = replies[3] if isinstance(replies[3], int) else 0
        return early

    def _attend(self, sock: Any, reader: NewsReader, asked: _Asked) -> None:
        staleness = int(self._max_staleness * 1e9)
        next_question = 0
        while self._is_wanted():
            now = self._tracker.now()
            if now >= next_question:
                if asked.is_late(now, staleness):
                    message = f"the server did not answer within {self._max_staleness} seconds"
                    raise RemoteTimeoutError(message)
                # Take the time of sending, not of the reply: a write before the reply may be announced after it.
                questions = _QUESTIONS
                if self._group is not None:
                    # Ask for the slots first, because the other replies allow copies to be served.
                    asked.questions.append(("slots", None))
                    questions = _QUESTION_OF_CLUSTER + questions
                asked.questions += (("role", now), ("time", None))
                self._ask(sock, questions)
                next_question = now + staleness // 3
            try:
                replies = reader.receive(max((next_question - self._tracker.now()) / 1e9, 0.001))
            except TimeoutError:
                continue
            for reply in replies:
                self._take(reply, asked, sock)

    def _ask(self, sock: Any, questions: bytes) -> None:
        sock.settimeout(max(self._max_staleness, 0.1))
        sock.sendall(questions)

    def _take(self, reply: Any, asked: _Asked, sock: Any) -> None:
        if isinstance(reply, Push):
            if reply[:1] == [b"invalidate"] and len(reply) == 2:
                self._invalidate(reply[1], asked, sock)
            return
        if isinstance(reply, ErrorReply):
            message = f"the server refused a command: {reply}"
            raise RemoteError(message)
        if not asked.questions:
            message = "an answer without a question"
            raise ProtocolError(message)
        self._answered(*asked.questions.popleft(), reply, asked)
        if asked.belief and not asked.nonces:
            # Wait for pending nonces first, because copies may depend on a nonce that was replaced.
            if self._group is None:
                self._tracker.believe_until(asked.belief)
            else:
                self._group.believe_until(self, asked.belief)
            asked.belief = 0
            self._changed.set()

    def _answered(self, kind: str, about: Any, reply: Any, asked: _Asked) -> None:
        if kind == "role":
            self._check_role(reply)
            asked.belief = about + int(self._max_staleness * 1e9)
            self.error = None
            self._breaker.close(about)
        elif kind == "slots":
            assert self._group is not None
            self._group.heard_of(self, reply)
        elif kind == "time":
            seconds, micros = map(int, reply)
            self.offset = seconds * 1000 + micros / 1000 - self._tracker.now() / 1e6
        else:
            asked.nonces -= 1
            self._nonces.looked_at(about[0], reply, about[1])

    def _invalidate(self, keys: list[bytes] | None, asked: _Asked, sock: Any) -> None:
        """Process an announced write to some keys, or to all keys if `keys` is None."""
        if keys is None:
            self._tracker.start_generation()
            self.flushes += 1
        else:
            self._tracker.invalidate(keys)
            self._invalidations += len(keys)
        places = self._nonces.heard(keys)
        if places:
            asked.questions += (("nonce", (place, self._tracker.stamp(place))) for place in places)
            asked.nonces += len(places)
            self._ask(sock, commands([("GET", place) for place in places]))

    def _check_role(self, reply: Any) -> None:
        answer: dict[Any, Any] = reply if isinstance(reply, dict) else {}  # pyright: ignore[reportUnknownVariableType]
        role = answer.get(b"role")
        if role not in (b"master", b"primary"):
            message = f"the server is no primary: its role is {role!r}"
            raise RemoteConnectionError(message)


def _after_fork() -> None:
    for listener in list(_LISTENERS):
        listener.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
