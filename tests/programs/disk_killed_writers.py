"""Kills writers at random moments, repeatedly. Every reported write must be present, and writing must go on."""

import os
import random
import select
import signal
import sqlite3
import struct
import sys
import time
from contextlib import closing
from pathlib import Path

from flexcache_rs.disk import Cache

directory, way, rounds, seed = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
chance = random.Random(seed)
KEYS = 20
cache = Cache(directory, timeout=1, disk_min_file_size=200)


def value_of(number):
    """Return a value that is stored in the row, in a file, as a pickle, or as a pickle in a file."""
    return [number, f"{number} " + "x" * 300, (number, b"y"), [number, "z" * 400]][number % 4]


def write(number):
    if way == "writes":
        cache.set(f"key {number % KEYS}", value_of(number), retry=True)
        if number % 7 == 3:
            cache.delete(f"key {(number + 1) % KEYS}", retry=True)
    elif way == "transactions":
        with cache.transact(retry=True):
            for place in range(4):
                cache.set(f"place {place}", value_of(number), retry=True)
            cache.incr("count", retry=True)
    else:
        cache.push(value_of(number), retry=True)
        if number % 3 == 2:
            cache.pull(retry=True)  # The queue never becomes empty.


def child(pipe, first):
    global cache
    if first % 2:
        cache = Cache(directory)
    number = first
    while True:
        write(number)
        os.write(pipe, struct.pack("<q", number))
        number += 1


def check_writes(last):
    for place in range(KEYS):
        newest = last - (last - place) % KEYS
        found = cache.get(f"key {place}")
        # The write after the last reported one may have happened too.
        right = [value_of(newest)] if newest >= 0 else [None]
        if (last + 1) % KEYS == place:
            right.append(value_of(last + 1))
        for number in range(max(newest, 0), last + 2):
            if number % 7 == 3 and (number + 1) % KEYS == place:
                right.append(None)
                if number <= last:
                    right = right[1:]
        assert found in right, (place, found, right, last)


def check_transactions(last, count):
    found = [cache.get(f"place {place}") for place in range(4)]
    assert found in ([value_of(last)] * 4, [value_of(last + 1)] * 4), (last, found)
    assert cache.get("count") - count in (0, 1), "each transaction counts once"
    return cache.get("count")


def check_queue(told):
    values = [cache.get(key) for key in cache.iterkeys() if key != "alive"]
    # The push after the last reported one may have happened too. A repeated push has the same value.
    assert value_of(told) in values[-2:], (values[-3:], told)
    assert len(values) == len(list(cache)) - 1, "every key has its value"


told, count = -1, 0
for turn in range(rounds):
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        child(writer, told + 1)
    os.close(writer)
    begun = told
    wanted = chance.choice([1, 1, 2, 5, 20])
    received = b""
    while len(received) < 8 * wanted:
        ready, _, _ = select.select([reader], [], [], 30)
        assert ready, "the writer does not get on"
        received += os.read(reader, 8 * wanted - len(received))
    # Kill at a random point of the next writes. The exact time does not matter.
    until = time.perf_counter() + chance.random() * 0.004
    while time.perf_counter() < until:
        pass
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    while more := os.read(reader, 65536):
        received += more
    os.close(reader)
    told = struct.unpack("<q", received[len(received) // 8 * 8 - 8 : len(received) // 8 * 8])[0]
    cache.set("alive", turn)
    if way == "writes":
        check_writes(told)
    elif way == "transactions":
        count = check_transactions(told, count + told - begun)
    else:
        check_queue(told)
    # An unreported write may or may not be present. The next writer repeats it.
    if turn % 10 == 9:
        cache.check(fix=True)
        assert cache.check() == [], cache.check()
cache.close()
with closing(sqlite3.connect(Path(directory) / "cache.db")) as connection:
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
print("done", told)
