"""Files with damaged bytes: each call returns something, or raises a documented exception that names the file."""

from __future__ import annotations

import asyncio
import datetime
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from flexcache_rs.shared import SharedCache

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PLACES = 4096
"""The words of the versions of tags, and in `HEADER` those before the versions of keys: see src/shared/layout.rs."""
HEADER, STRIPES, BUCKETS, LOG_0, LOG_1, VERSIONS = 512, 2, 3, 4, 5, 6
HEAD = 64
"""The words of the head of a stripe."""
KEYS = [
    "key0",
    "key1",
    "key2",
    "key3",
    5,
    (5, "a", (b"x", 2.5, None)),
    2**70 + 5,
    "é5",
    b"b5",
    5.5,
    "p5",
    "s5",
    "absent",
]

ABSENT = ("__getitem__", "__delitem__", "pop", "popitem", "ttl", "apopitem")
"""Calls that raise `KeyError` where there is no value."""


def fill(cache: SharedCache) -> None:
    """Store entries of all kinds."""
    for number in range(200):
        value = [number, None, "text", {"a": number, "é": 2.5}][number % 4]
        cache.put(f"key{number}", value, ttl=1000 if number % 3 else None, tags=("t",) if number % 5 else None)
    for number in range(40):
        cache[number] = number
        cache[number, "a", (b"x", 2.5, None)] = (number, "t", [1, 2, {"k": (b"x", 2**80)}])
        cache[2**70 + number], cache[number + 0.5] = 2**90 + number, number + 0.25
        cache[f"é{number}"], cache[b"b%d" % number] = "é" * number, b"y" * number
        cache[f"p{number}"], cache[f"s{number}"] = datetime.date(2020, 1, 1 + number % 28), {number}


async def awaited(cache: SharedCache) -> None:
    await cache.aput("x", 5)
    await cache.apop("x", None)
    await cache.aget_or_set("q", int)
    await cache.aset_many({"a": 1})
    await cache.adelete_many(["a"])


def calls(cache: SharedCache) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield the public calls: first those that read, then those that write."""
    for name in ("get", "__getitem__", "__contains__", "ttl"):
        for key in KEYS:
            yield name, lambda name=name, key=key: getattr(cache, name)(key)
    yield from (("__len__", lambda: len(cache)), ("__repr__", lambda: repr(cache)), ("stats", cache.stats))
    yield from (("keys", cache.keys), ("__iter__", lambda: list(cache)), ("items", lambda: list(cache.items())))
    yield from (("values", lambda: list(cache.values())), ("get_many", lambda: cache.get_many(KEYS)))
    for key in KEYS:
        yield "touch", lambda key=key: cache.touch(key, 50)
        yield "add", lambda key=key: cache.add(key, [1, 2, 3])
        yield "incr", lambda key=key: cache.incr(key)
        yield "compare_and_set", lambda key=key: cache.compare_and_set(key, 5, 6)
        yield "put", lambda key=key: cache.put(key, "new" * 50, tags=("t",))
        yield "pop", lambda key=key: cache.pop(key)
        yield "delete", lambda key=key: cache.delete(key)
        yield "__delitem__", lambda key=key: cache.__delitem__(key)
        yield "setdefault", lambda key=key: cache.setdefault(key, 5)
        yield "get_or_set", lambda key=key: cache.get_or_set(key, int)
    yield "update", lambda: cache.update({f"m{number}": "x" * number for number in range(300)})
    yield "evict_tag", lambda: cache.evict_tag("t")
    yield "memoize", lambda: cache.memoize(name="f")(abs)(-5)
    yield "lock", lambda: cache.lock("l", ttl=5).acquire(0)
    yield "limiter", lambda: cache.limiter("r", 5).acquire(0)
    yield "awaited", lambda: asyncio.run(awaited(cache))
    yield "fill", lambda: fill(cache)
    yield "popitem", cache.popitem
    yield "clear", cache.clear
    yield "__iter__", lambda: list(cache)
    yield "unlink", cache.unlink


def heads(data: bytes) -> list[int]:
    """The places of the heads of the stripes."""

    def word(number: int) -> int:
        return int.from_bytes(data[8 * number : 8 * number + 8], "little")

    stripe = -(-(HEAD + 8 * word(BUCKETS) + word(LOG_0) + word(LOG_1)) // 512) * 512
    first = HEADER + word(VERSIONS) + PLACES
    return [8 * (first + number * stripe) for number in range(word(STRIPES))]


def damage(data: bytearray, chance: random.Random) -> None:
    """Change bits, bytes or words anywhere, among what is stored, or in the heads of the stripes."""
    used = [place for place, byte in enumerate(data) if byte]
    places, how = heads(data), chance.randrange(4)
    for _ in range(chance.choice([1, 5, 20, 200])):
        if how == 0:
            data[chance.randrange(len(data))] = chance.randrange(256)
        elif how == 1:
            data[chance.choice(used)] ^= 1 << chance.randrange(8)
        else:
            word = 8 * (chance.choice(used) // 8) if how == 2 else chance.choice(places) + 8 * chance.randrange(HEAD)
            ones, most = b"\xff" * 8, b"\xff" * 7 + b"\x7f"
            data[word : word + 8] = chance.choice([ones, most, bytes(8), chance.randbytes(8)])


def use(path: Path, pristine: bytes, seed: int) -> list[str]:
    """Open a damaged file, call everything, and return the errors that no page documents."""
    chance = random.Random(seed)
    data = bytearray(pristine)
    damage(data, chance)
    wrong: list[str] = []
    # Each other file is damaged after it was opened.
    is_open = seed % 2 == 1
    path.write_bytes(pristine if is_open else data)
    try:
        cache = SharedCache(path, lock_timeout=0.02)
    except OSError as error:
        return [] if str(path) in str(error) else [f"open: {error!r}"]
    if is_open:
        with path.open("r+b") as file:
            file.write(data)
    for name, call in calls(cache):
        try:
            call()
        except Exception as error:
            if isinstance(error, KeyError) and name in ABSENT:
                continue
            # What is no int cannot be incremented, damaged or not.
            if isinstance(error, (TypeError, OverflowError)) and name == "incr" and str(error):
                continue
            told = "".join([str(error), *getattr(error, "__notes__", [])])
            if isinstance(error, (RuntimeError, TimeoutError, OSError)) and str(path) in told:
                continue
            # The exceptions of pickle, whatever they are. Before Python 3.11 there are no notes.
            if str(path) in told or sys.version_info < (3, 11):
                continue
            wrong.append(f"{name}: {error!r}")
        except BaseException as error:
            wrong.append(f"{name}: {error!r}")
    return wrong


def main(folder: Path, first: int, last: int) -> None:
    """Print what is wrong, after the seed. Runs apart, because a fault may end the process."""
    import resource

    os.umask(0o077)
    # A number of the file must not decide how much memory is taken.
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    pristine = folder / "pristine"
    with SharedCache(pristine, max_bytes=1 << 20) as cache:
        fill(cache)
    data = pristine.read_bytes()
    for seed in range(first, last):
        print(seed, flush=True)
        for error in use(folder / f"cache{seed}", data, seed):
            print(f"seed {seed}: {error}", flush=True)
        for file in folder.glob("cache*"):
            file.unlink()
    print("done")


@pytest.mark.parametrize("first", range(0, 60, 20))
def test_damaged_files(tmp_path: Path, first: int) -> None:
    command = [sys.executable, __file__, str(tmp_path), str(first), str(first + 20)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, (
        signal.Signals(-done.returncode) if done.returncode < 0 else "",
        done.stdout,
        done.stderr,
    )
    assert done.stdout.split("\n") == [*map(str, range(first, first + 20)), "done", ""]


def test_a_number_of_entries_is_never_more_than_there_are_places(tmp_path: Path) -> None:
    """`list` reserves memory for as many."""
    with SharedCache(tmp_path / "cache", max_bytes=1 << 20) as cache:
        cache["key"] = 1
        for number in (2**64 - 1, 2**63 - 1, 2**40):
            with (tmp_path / "cache").open("r+b") as file:
                for head in heads(file.read()):
                    file.seek(head + 8 * 20)
                    file.write(number.to_bytes(8, "little"))
            assert 0 < len(cache) < 1 << 17
            assert 0 < cache.stats().entries < 1 << 17
            assert list(cache) == ["key"]
            assert cache.stats().hit_ratio == 0.0


def test_containers_in_containers_take_no_memory_for_parts_that_are_not_there(tmp_path: Path) -> None:
    """All of them together have no more parts than the value has bytes."""
    program = """
import resource, sys
from flexcache_rs.shared import SharedCache
path = sys.argv[1]
with SharedCache(path, max_bytes=64 << 20, max_item=1 << 20) as cache:
    content = b"\\xaa" * 900_000
    cache["key"] = [content]
    with open(path, "r+b") as file:
        # Before the content are the number of parts of the list, and the kind and the length of the bytes.
        file.seek(file.read().index(content) - 9)
        file.write((b"\\0\\0\\x0d\\0" + b"\\x07") * 40)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        cache["key"]
    except RuntimeError as error:
        print("is damaged" in str(error), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "cache")],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("True True\n", "")


def test_a_mutex_that_is_damaged_does_not_end_the_process(tmp_path: Path) -> None:
    """The C library aborts the process for some values of its kind."""
    program = """
import os, sys
from flexcache_rs.shared import SharedCache
from test_shared_damaged import heads
path = sys.argv[1]
for kind in range(256):
    cache = SharedCache(path, max_bytes=1 << 20)
    cache["key"] = 1
    with open(path, "r+b") as file:
        for head in heads(file.read()):
            file.seek(head + 16)
            file.write(bytes([kind]))
    cache["key"] = 2
    assert cache["key"] == 2, kind
    cache.close()
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "cache")],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=Path(__file__).parent,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
    )
    assert (done.returncode, done.stderr) == (0, "")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
