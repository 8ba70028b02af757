"""The package's own event, its way to start a thread, and its threads of which one runs at a time."""

from __future__ import annotations

import _thread
import math
import os
import threading
from queue import SimpleQueue
from typing import Any

import pytest

from flexcache_rs import _threads
from flexcache_rs._threads import AutoResetEvent, SingleThread, start
from tests.waiting import MANY, until


def test_an_event_that_was_set_twice_wakes_once() -> None:
    event = AutoResetEvent()
    event.set()
    event.set()
    assert event.wait(0)
    assert not event.wait(0)


@pytest.mark.parametrize("timeout", [math.inf, 1e30, -1.0])
def test_any_number_of_seconds_may_be_waited(timeout: float) -> None:
    event = AutoResetEvent()
    event.set()
    assert event.wait(timeout)


def test_what_prevents_a_start_is_raised() -> None:
    thread = threading.Thread(target=list)
    start(thread)
    with pytest.raises(RuntimeError, match="started once"):
        start(thread)


@pytest.mark.parametrize("module", ["gevent.thread", "eventlet.green.thread"])
def test_green_threads_are_refused(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    """gevent and eventlet replace the function by their own, which is written in Python."""

    def start_new_thread(*_: object) -> None:
        pytest.fail("it starts a green thread")

    start_new_thread.__module__ = module
    monkeypatch.setattr(_threads, "start_new_thread", start_new_thread)
    with pytest.raises(RuntimeError, match=f"needs a thread of the system, but {module.partition('.')[0]} has"):
        start(threading.Thread())


def test_a_debugger_may_replace_the_start_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """It notes each thread, and then starts one of the system."""
    noted: list[object] = []

    class Debugger:
        def start_new_thread(self, function: Any, arguments: Any) -> int:
            noted.append(function)
            return _thread.start_new_thread(function, arguments)

    monkeypatch.setattr(_threads, "start_new_thread", Debugger().start_new_thread)
    thread = threading.Thread(target=noted.clear)
    start(thread)
    thread.join(60)
    assert not thread.is_alive()


def test_a_start_inside_the_lock_of_threads_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """The new thread waits for the lock, which the caller releases later: a signal handler has interrupted it there."""

    class Waiting(SimpleQueue[Any]):
        def get(self, block: bool = True, timeout: float | None = None) -> Any:
            pytest.fail("it waits")

    monkeypatch.setattr(_threads, "SimpleQueue", Waiting)
    ran = threading.Event()
    with threading._active_limbo_lock:  # type: ignore[attr-defined]
        start(threading.Thread(target=ran.set))
    assert ran.wait(MANY)


@pytest.mark.every_python
def test_the_work_of_many_threads_is_done() -> None:
    """Four threads add work and start the thread, which ends whenever it finds none."""
    added, done = list[int](), list[int]()

    def add() -> None:
        for number in range(500):
            added.append(number)
            thread.ensure()

    thread = SingleThread("work", lambda: done.extend([added.pop() for _ in range(len(added))]), lambda: added)
    adding = [threading.Thread(target=add) for _ in range(4)]
    for each in adding:
        each.start()
    for each in adding:
        each.join(MANY)
    until(lambda: len(done) == 2_000)


def test_callers_start_threads_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    starts: list[bool] = []
    thread = SingleThread("work", list, lambda: True)
    starting: Any = thread._starting
    monkeypatch.setattr(_threads, "start", lambda _: starts.append(starting._is_owned()))
    thread.ensure()
    assert starts == [True]

    class Meanwhile:
        """The lock of a caller that waits until the thread of another one works."""

        def __enter__(self) -> None:
            thread._permit.pop()

        def __exit__(self, *_: object) -> None: ...

    waited: Any = Meanwhile()
    thread._starting = waited
    thread.ensure()
    assert starts == [True]


def test_a_second_thread_does_no_work() -> None:
    """A signal handler which interrupts `ensure` may start another one."""
    begun, goes_on, done = threading.Event(), threading.Event(), list[threading.Thread]()

    def work() -> None:
        done.append(threading.current_thread())
        begun.set()
        assert goes_on.wait(MANY)

    thread = SingleThread("work", work, lambda: not goes_on.is_set())
    thread.ensure()
    assert begun.wait(MANY)
    second = threading.Thread(target=thread._run)
    second.start()
    second.join(MANY)
    assert done == [thread.current]
    goes_on.set()


def test_work_that_is_added_while_the_thread_leaves_is_done() -> None:
    """The caller finds the thread at work, and starts no other."""
    added, done = [1], list[int]()

    def work() -> None:
        done.append(added.pop())
        if done == [1]:
            added.append(2)
            thread.ensure()

    thread = SingleThread("work", work, lambda: added)
    thread.ensure()
    until(lambda: thread.current is None and done == [1, 2])


def test_a_thread_that_has_failed_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda raised: None)
    attempts: list[int] = []

    def work() -> None:
        attempts.append(len(attempts))
        if len(attempts) == 1:
            raise ArithmeticError

    thread = SingleThread("work", work, lambda: len(attempts) < 2)
    thread.ensure()
    until(lambda: attempts == [0] and thread.current is None)
    until(lambda: thread._permit)
    thread.ensure()
    until(lambda: attempts == [0, 1])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_that_the_thread_forks_does_not_go_on_with_the_work() -> None:
    """In the child, this thread is the only one. The child ends with it."""
    children: list[Any] = []

    def work() -> None:
        if children:
            os._exit(1)
        children.append(None)
        child = os.fork()
        if child:
            children.append(os.waitpid(child, 0))

    thread = SingleThread("work", work, lambda: len(children) < 2)
    thread.ensure()
    until(lambda: len(children) == 2)
    assert children[1][1] == 0
