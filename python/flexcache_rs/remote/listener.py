"""The connection that listens: what was written comes in on it, and the server's answers to questions.

The questions tell how old the news may be. What the server answered to a question that was sent at T shows that
every write before T has been heard of. So copies in memory are served until T and `max_staleness`, and no longer.
"""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any, cast

from flexcache_rs._core import PushTracker
from flexcache_rs.remote.errors import RemoteConnectionError, RemoteError, RemoteTimeoutError
from flexcache_rs.remote.resp import ErrorReply, ProtocolError, Push, ReplyReader, command

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flexcache_rs.remote.breaker import Breaker
    from flexcache_rs.remote.client import Client

_SHORTEST, _LONGEST = 0.01, 1.0
"""Seconds between two attempts to connect."""

_QUESTIONS = command("HELLO") + command("TIME")

_LISTENERS: weakref.WeakSet[Listener] = weakref.WeakSet()


class Unsupported(RemoteError):  # noqa: N818  # A RemoteError.
    """The server cannot say what is written."""


class Listener:
    """A thread with a connection of its own, which keeps a tracker true.

    Args:
        client: Where connections come from.
        name: What the connection is called in `CLIENT LIST`.
        prefixes: What the keys begin with.
        max_staleness: For how many seconds copies are served after the last question that was answered.
        tracker: What is told.
        breaker: What is closed when the server answers.
        heard: Called with the keys that were written, after the tracker was told; None for all keys.
    """

    def __init__(
        self,
        client: Client,
        name: str,
        prefixes: Sequence[bytes],
        max_staleness: float,
        tracker: PushTracker,
        breaker: Breaker,
        heard: Callable[[list[bytes] | None], None],
    ) -> None:
        self._client, self._name, self._prefixes = client, name, prefixes
        self._max_staleness = max_staleness
        self._tracker, self._breaker, self._heard = tracker, breaker, heard
        self.offset: float | None = None
        """Milliseconds since 1970 of the server's clock, less those of the tracker's."""
        self.error: Exception | None = None
        """Why there is no connection."""
        self.connects = self.flushes = self.invalidations = 0
        self.id = 0
        """The number of the connection on the server."""
        self._stopped = False
        self._socket: Any = None
        self._begin()
        _LISTENERS.add(self)

    def _begin(self) -> None:
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._changed = threading.Event()

    def after_fork(self) -> None:
        """Start over in a child, which must not use its parent's connection."""
        self._tracker.doubt()
        self._socket = None
        self._begin()

    def ensure(self) -> None:
        """Start the thread, unless it runs. A child starts one of its own at its first use."""
        if self._thread is not None or self._stopped:
            return
        with self._starting:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="flexcache-remote", daemon=True)
                thread.start()
                self._thread = thread

    def wait(self, timeout: float) -> bool:
        """Wait until copies may be served, or it is known why not. Whether they may."""
        self._changed.wait(timeout)
        return self._tracker.is_believed()

    def stop(self) -> None:
        """End the thread."""
        self._stopped = True
        self._tracker.doubt()
        sock, self._socket = self._socket, None
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(2)
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(2)

    def _run(self) -> None:
        pause = _SHORTEST
        process = os.getpid()
        while not self._stopped and process == os.getpid():
            connects = self.connects
            try:
                self._listen()
            except Exception as error:  # noqa: BLE001  # Whatever it is, the next attempt may succeed.
                self.error = error
            finally:
                self._tracker.doubt()
                self.flushes += 1
                self._socket = None
            self._changed.set()
            pause = _SHORTEST if self.connects > connects else min(pause * 2, _LONGEST)
            if not self._stopped:
                time.sleep(pause * (0.5 + random.random()))

    def _listen(self) -> None:
        """Connect, and listen until the connection ends."""
        # The handshake has a deadline too: a server that is stopped accepts connections.
        connection = self._client.connect(max(self._max_staleness, 0.1))
        try:
            sock = self._socket = connection._sock
            reader = ReplyReader()
            early = self._introduce(sock, reader)
            # Every write from here on is heard of. Stamps from before mean nothing.
            self._tracker.start_generation()
            self.connects += 1
            for reply in early:
                self._take(reply, None)
            self._attend(sock, reader)
        finally:
            connection.disconnect()

    def _introduce(self, sock: Any, reader: ReplyReader) -> list[Any]:
        """Ask to be told what is written. What is told before the last reply."""
        prefixes = [part for prefix in self._prefixes for part in ("PREFIX", prefix)]
        sock.settimeout(max(self._max_staleness, 0.1))
        sock.sendall(
            command("HELLO", 3)
            + command("CLIENT", "SETNAME", self._name)
            + command("CLIENT", "TRACKING", "ON", "BCAST", *prefixes)
            + command("CLIENT", "ID")
        )
        replies: list[Any] = []
        early: list[Any] = []
        while len(replies) < 4:
            for reply in self._receive(sock, reader):
                (early if isinstance(reply, Push) else replies).append(reply)
        what = ("HELLO", "CLIENT SETNAME", "CLIENT TRACKING", "CLIENT ID")
        for name, reply in zip(what, replies, strict=True):
            if isinstance(reply, ErrorReply) and name in ("HELLO", "CLIENT TRACKING"):
                message = f"the server does not tell what is written ({name}): {reply}"
                raise Unsupported(message)
        self._check_role(replies[0])
        mode = replies[0].get(b"mode")
        if mode not in (b"standalone", None):
            message = f"the server is of a {mode.decode()}, which is not supported yet"
            raise Unsupported(message)
        self.id = replies[3] if isinstance(replies[3], int) else 0
        return early

    def _attend(self, sock: Any, reader: ReplyReader) -> None:
        staleness = int(self._max_staleness * 1e9)
        asked: deque[tuple[int, float]] = deque()
        next_question = 0
        while not self._stopped:
            now = self._tracker.now()
            if now >= next_question:
                if asked and now - asked[0][0] > staleness:
                    message = f"the server did not answer within {self._max_staleness} seconds"
                    raise RemoteTimeoutError(message)
                # The moment of sending, not of the answer: what was written before it may be told after the answer.
                asked.append((now, time.monotonic()))
                sock.sendall(_QUESTIONS)
                next_question = now + staleness // 3
            sock.settimeout(max((next_question - self._tracker.now()) / 1e9, 0.001))
            try:
                replies = self._receive(sock, reader)
            except TimeoutError:
                continue
            for reply in replies:
                self._take(reply, asked)

    def _receive(self, sock: Any, reader: ReplyReader) -> list[Any]:
        data = sock.recv(1 << 16)
        if not data:
            message = "the server closed the connection"
            raise RemoteConnectionError(message)
        return list(reader.feed(data))

    def _take(self, reply: Any, asked: deque[tuple[int, float]] | None) -> None:
        if isinstance(reply, Push):
            if reply[:1] == [b"invalidate"] and len(reply) == 2:
                self._invalidate(reply[1])
        elif isinstance(reply, ErrorReply):
            message = f"the server refused a command: {reply}"
            raise RemoteError(message)
        elif isinstance(reply, dict):
            self._check_role(reply)
            if not asked:
                message = "an answer without a question"
                raise ProtocolError(message)
            moment, then = asked.popleft()
            self._tracker.believe_until(moment + int(self._max_staleness * 1e9))
            self.error = None
            self._breaker.close(then)
            self._changed.set()
        elif isinstance(reply, list):
            seconds, micros = map(int, cast("list[bytes]", reply))
            self.offset = seconds * 1000 + micros / 1000 - self._tracker.now() / 1e6

    def _invalidate(self, keys: list[bytes] | None) -> None:
        """Something was written: to these keys, or to all of them."""
        if keys is None:
            self._tracker.start_generation()
            self.flushes += 1
        else:
            self._tracker.invalidate(keys)
            self.invalidations += len(keys)
        self._heard(keys)

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
