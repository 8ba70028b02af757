"""`RemoteSocket`, which sends and receives over sockets of other objects."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from flexcache_rs import _core

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs poll() for any descriptor")

TELLS = b">2\r\n$10\r\ninvalidate\r\n*1\r\n$4\r\nns:a\r\n"


def failed(kind: str, text: str) -> Exception:
    return RuntimeError(f"{kind}: {text}")


@pytest.fixture
def pair() -> Iterator[tuple[Any, socket.socket]]:
    ours, theirs = socket.socketpair()
    # As sockets of Python with a timeout are.
    ours.settimeout(5)
    theirs.settimeout(30)
    with ours, theirs:
        yield _core.RemoteSocket(ours.fileno(), failed), theirs


def test_replies_in_pieces(pair: tuple[Any, socket.socket]) -> None:
    own, theirs = pair

    def answer() -> None:
        assert theirs.recv(100) == b"commands"
        for byte in b"$1\r\na\r\n-ERR no\r\n:5\r\n":
            theirs.sendall(bytes((byte,)))

    thread = threading.Thread(target=answer)
    thread.start()
    text, refusal, number = own.exchange(b"commands", 3, 30)
    thread.join()
    assert (text, number) == (b"a", 5)
    assert isinstance(refusal, RuntimeError)
    assert str(refusal) == "refused: ERR no"


def test_more_is_sent_than_the_socket_takes(pair: tuple[Any, socket.socket]) -> None:
    own, theirs = pair
    received: list[int] = []

    def answer() -> None:
        while sum(received) < 10_000_000:
            received.append(len(theirs.recv(1 << 16)))
        theirs.sendall(b"+OK\r\n")

    thread = threading.Thread(target=answer)
    thread.start()
    assert own.exchange(b"x" * 10_000_000, 1, 30) == [b"OK"]
    thread.join()


def test_nothing_is_sent_over_a_connection_that_has_ended(pair: tuple[Any, socket.socket]) -> None:
    own, theirs = pair
    theirs.shutdown(socket.SHUT_WR)
    assert own.exchange(b"command", 1, 30) is None
    theirs.setblocking(False)
    with pytest.raises(BlockingIOError):
        theirs.recv(1)


def test_what_ends_an_exchange(pair: tuple[Any, socket.socket]) -> None:
    own, theirs = pair
    with pytest.raises(TimeoutError):
        own.exchange(b"command", 1, 0.01)
    theirs.sendall(b"?\r\n")
    # A late reply, which is nobody's.
    assert own.exchange(b"command", 1, 30) is None
    with pytest.raises(RuntimeError, match=r"protocol: .*begins no answer"):
        own.receive(30, _core.PushTracker(1), b"ns:", list)
    with pytest.raises(RuntimeError, match="or one has failed"):
        own.exchange(b"command", 1, 30)


ENDED = """
import signal, socket
from flexcache_rs import _core
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
ours, theirs = socket.socketpair()
own = _core.RemoteSocket(ours.fileno(), RuntimeError)
ours.shutdown(socket.SHUT_WR)
try:
    own.exchange(b"commands", 1, 30)
except BrokenPipeError:
    print("raised")
"""


def test_a_connection_that_has_ended_does_not_end_the_program() -> None:
    done = subprocess.run([sys.executable, "-c", ENDED], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "raised\n", "")


def test_a_closed_socket_is_not_another_file(pair: tuple[Any, socket.socket]) -> None:
    """Another file may get the descriptor of a closed socket. Nothing is read from it."""
    own, theirs = pair
    ours = socket.socket(fileno=os.dup(theirs.fileno()))
    native = _core.RemoteSocket(ours.fileno(), failed)
    number = ours.fileno()
    other, unread = socket.socketpair()
    with other, unread:
        ours.close()
        os.dup2(other.fileno(), number)
        unread.sendall(b"+wrong\r\n")
        thread = threading.Thread(target=lambda: own.exchange(b"+right\r\n", 1, 30))
        thread.start()
        assert native.receive(30, _core.PushTracker(1), b"", list) == [b"right"]
        theirs.sendall(b"+OK\r\n")
        thread.join()
        os.close(number)


def test_written_keys_are_told_and_not_returned(pair: tuple[Any, socket.socket]) -> None:
    own, theirs = pair
    tracker = _core.PushTracker(1000)
    stamps = tracker.stamps([b"ns:a", b"ns:b", b"ns#:a"])
    of_companions = TELLS.replace(b"$4\r\nns:a", b"$5\r\nns#:a")
    theirs.sendall(TELLS + TELLS + of_companions + TELLS.replace(b"ns:a", b"ns:b") + b":1\r\n")
    assert own.receive(30, tracker, b"ns:", tuple) == [(b"invalidate", [b"ns#:a"]), 1]
    assert [tracker.is_unchanged(stamp) for stamp in stamps] == [False, False, True]
    assert own.invalidated == 3
    # All keys may have been written: that is not for the tracker alone.
    theirs.sendall(b">2\r\n$10\r\ninvalidate\r\n_\r\n")
    assert own.receive(30, tracker, b"ns:", tuple) == [(b"invalidate", None)]


def test_the_time_passes_while_much_is_told(pair: tuple[Any, socket.socket]) -> None:
    """The timeout counts also while announcements keep arriving, because a listener must send a request in between."""
    own, theirs = pair
    has_ended = threading.Event()

    def tell() -> None:
        theirs.settimeout(0.01)
        while not has_ended.is_set():
            try:
                theirs.sendall(TELLS * 10_000)
            except TimeoutError:
                # A part of it was sent.
                break

    thread = threading.Thread(target=tell)
    thread.start()
    try:
        with pytest.raises(TimeoutError):
            own.receive(0.2, _core.PushTracker(1), b"ns:", tuple)
        assert own.invalidated
    finally:
        has_ended.set()
        thread.join()


def test_what_is_no_socket_or_time() -> None:
    with pytest.raises(ValueError, match="descriptor must be that of a socket, not -1"):
        _core.RemoteSocket(-1, failed)
    with pytest.raises(OSError, match="descriptor"):
        _core.RemoteSocket(1 << 20, failed)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        own = _core.RemoteSocket(ours.fileno(), failed)
        for seconds in (-1.0, float("nan"), float("inf")):
            with pytest.raises(ValueError, match="seconds must be a time to wait"):
                own.exchange(b"", 1, seconds)
