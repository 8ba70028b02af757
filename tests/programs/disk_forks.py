"""Forks while caches are in use: in a transaction, and while other threads write. Nothing hangs or is lost."""

import os
import signal
import sys
import threading
from pathlib import Path

from flexcache_rs.disk import Cache, Deque, FanoutCache

directory, way = sys.argv[1:]
signal.alarm(60)


def in_child(work):
    """Run the work in a forked child, which must succeed."""
    pid = os.fork()
    if pid == 0:
        try:
            signal.alarm(30)
            work()
        except BaseException as error:
            print("child:", repr(error), file=sys.stderr)
            os._exit(1)
        os._exit(0)
    return pid


def ended(pid):
    _, status = os.waitpid(pid, 0)
    assert status == 0, status


def in_a_transaction():
    cache = Cache(directory, disk_min_file_size=100)
    cache["before"] = 1

    reader, writer = os.pipe()

    def work():
        # The child is not in its parent's transaction.
        assert cache.get("inside") is None
        assert cache.get("before") == 1
        os.write(writer, b".")
        cache.set("of the child", "x" * 1000, retry=True)

    with cache.transact():
        cache["inside"] = "x" * 1000
        pid = in_child(work)
        cache.incr("before")
        os.close(writer)
        assert os.read(reader, 1)
    ended(pid)
    assert cache["inside"] == cache["of the child"] == "x" * 1000
    assert cache["before"] == 2
    try:
        with cache.transact():
            cache["undone"] = "x" * 1000
            pid = in_child(lambda: cache.set("of the other child", 1, retry=True))
            raise LookupError
    except LookupError:
        pass
    ended(pid)
    assert "undone" not in cache
    assert cache["of the other child"] == 1
    assert cache.check() == []


def while_threads_write():
    cache = Cache(directory, disk_min_file_size=100)
    fanout = FanoutCache(Path(directory, "fanout"), shards=2, timeout=10)
    deque = Deque(directory=Path(directory, "deque"))
    stop, written = threading.Event(), [0] * 4

    def hammer(number):
        while not stop.is_set():
            written[number] += 1
            cache.set((number, written[number] % 50), (written[number], "x" * (written[number] % 200)), retry=True)
            cache.incr("counter", retry=True)
            fanout.incr(number, retry=True)
            if number == 0:
                deque.append(written[number])

    def work():
        for _ in range(5):
            cache.incr("counter of children", retry=True)
            fanout.incr("children", retry=True)
            deque.appendleft(-1)
        with cache.transact(retry=True):
            cache.incr("counter of children")

    threads = [threading.Thread(target=hammer, args=(number,), daemon=True) for number in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        ended(in_child(work))
    stop.set()
    for thread in threads:
        thread.join()
    assert cache["counter"] == sum(written)
    assert cache["counter of children"] == 20 * 6
    assert fanout["children"] == 20 * 5
    assert [fanout[number] for number in range(4)] == written
    assert list(deque) == [-1] * 100 + list(range(1, written[0] + 1))
    for number in range(4):
        for turn in range(max(1, written[number] - 49), written[number] + 1):
            assert cache[number, turn % 50] == (turn, "x" * (turn % 200))
    assert cache.check() == fanout.check() == []


{"transaction": in_a_transaction, "threads": while_threads_write}[way]()
print("done")
