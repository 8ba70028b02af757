"""Kills writers in transactions that spill. No write of a call that returned may be lost, and nothing damaged.

In such a transaction SQLite writes some pages to its log before the commit, and some of these again.
"""

import os
import random
import select
import signal
import struct
import sys
import time
from pathlib import Path

from flexcache_rs.disk import Cache

directory, rounds, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
chance = random.Random(seed)
ROWS = 300
MOST_ROWS = 5000
PAGES_IN_MEMORY = 30
"""The number of pages in memory, so small that a transaction of a hundred rows does not fit."""
LONGEST_RECOVERY = 60
"""Seconds after which a recovery counts as hanging, and the program ends."""


def writes_of(number):
    """Return the writes of transaction `number`, and whether it is rolled back before it is repeated."""
    random_of = random.Random(seed * 1_000_003 + number)
    count = random_of.choice([1, 10, 100, 100, 300, 300, 1000, MOST_ROWS if number % 10 == 5 else 300])
    writes = [
        (("row", random_of.randrange(ROWS)), (number, bytes([number % 256]) * random_of.randrange(1, 2500)))
        for _ in range(random_of.randrange(count) + 1)
    ]
    return writes, random_of.random() < 0.2


def write(cache, number):
    writes, undone = writes_of(number)
    if undone:
        try:
            with cache.transact(retry=True):
                for key, _ in writes:
                    cache[key] = "undone" * 300
                raise LookupError
        except LookupError:
            pass
    with cache.transact(retry=True):
        for key, value in writes:
            cache[key] = value
        cache["last"] = number


def open_cache():
    return Cache(directory, timeout=10, sqlite_cache_size=PAGES_IN_MEMORY, eviction_policy="none", cull_limit=0)


def in_child(work):
    pid = os.fork()
    if pid == 0:
        try:
            signal.alarm(LONGEST_RECOVERY)
            work()
        except BaseException as error:
            print("child:", repr(error)[:300], file=sys.stderr)
            os._exit(1)
        os._exit(0)
    return pid


def frames_of_no_transaction():
    """Return the number of frames at the end of the log that belong to an uncommitted transaction."""
    try:
        log = Path(directory, "cache.db-wal").read_bytes()
    except FileNotFoundError:
        return 0
    if len(log) < 32:
        return 0
    page_size, salts = struct.unpack_from(">I", log, 8)[0], log[16:24]
    open_frames = 0
    for place in range(32, len(log) - page_size - 23, 24 + page_size):
        if log[place + 8 : place + 16] != salts:
            break
        is_commit = struct.unpack_from(">I", log, place + 4)[0] != 0
        open_frames = 0 if is_commit else open_frames + 1
    return open_frames


def advance(model, last):
    for number in range(model["last"] + 1, last + 1):
        model.update(writes_of(number)[0])
    model["last"] = last


def check(cache, model, told):
    """Check that the entries are those of the last transaction, which is the reported one or the next one."""
    last = cache.get("last", 0)
    assert last in (told, told + 1), f"transaction {told} had returned, and {last} is the last one that is there"
    advance(model, last)
    stored = {key: cache[key] for key in cache}
    stored.setdefault("last", 0)
    wrong = [key for key in stored.keys() | model.keys() if stored.get(key) != model.get(key)]
    assert not wrong, (len(wrong), wrong[:5])
    damage = cache.check()
    assert not damage, damage


open_cache().close()
model, told, hits = {"last": 0}, 0, 0
for turn in range(rounds):
    reader, writer = os.pipe()

    def work(writer=writer, first=told + 1):
        signal.alarm(0)
        cache, number = open_cache(), first
        while True:
            write(cache, number)
            os.write(writer, struct.pack("<q", number))
            number += 1

    pid = in_child(work)
    os.close(writer)
    received = b""
    wanted = 8 * chance.choice([0, 1, 1, 2, 3])
    while len(received) < wanted:
        ready, _, _ = select.select([reader], [], [], LONGEST_RECOVERY)
        assert ready, "the writer does not get on"
        more = os.read(reader, wanted - len(received))
        assert more, "the writer has ended"
        received += more
    # Kill at a random point of the next transaction. The exact time does not matter.
    time.sleep(chance.random() * chance.choice([0.002, 0.02, 0.2]))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    while more := os.read(reader, 65536):
        received += more
    os.close(reader)
    if received:
        told = struct.unpack("<q", received[len(received) // 8 * 8 - 8 : len(received) // 8 * 8])[0]
    hits += frames_of_no_transaction() > 0

    # No other process has the database open: the next one recovers it from the log. This one ends without closing it,
    # so that the log stays as it is and is recovered once more.
    reader, writer = os.pipe()

    def look(writer=writer, told=told):
        cache = open_cache()
        check(cache, model, told)
        os.write(writer, struct.pack("<q", model["last"]))

    _, status = os.waitpid(in_child(look), 0)
    assert status == 0, (turn, told)
    told = struct.unpack("<q", os.read(reader, 8))[0]
    os.close(reader)
    os.close(writer)
    advance(model, told)
    if chance.random() < 0.5:
        # The log is written back.
        with open_cache() as cache:
            check(cache, model, told)
print(f"done: {told} transactions, {hits} of {rounds} kills left frames of a transaction in the log")
assert hits, "no kill hit a transaction: nothing was tested"
