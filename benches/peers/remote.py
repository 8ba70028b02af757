"""Measures the near cache on a server beside its peers: `python -m benches.peers.remote --help`."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import partial
from importlib import import_module, metadata
from pathlib import Path
from random import Random
from time import perf_counter, perf_counter_ns, sleep
from typing import Any

from . import command_line, table_report
from .remote_peers import AWAITED, NAMESPACE, OURS, PROTOCOL, SOCKET, SYNC, Contestant, Opened, Server
from .shared_child import per_call
from .tables import Figure

VALUE = b"v" * 32
MEMORY = f"{OURS}, in memory"


@dataclass(frozen=True)
class Settings:
    """The size of the measurements."""

    rounds: int = 15
    calls: int = 2_000
    keys: int = 1_000
    seconds: float = 1.0
    entries: tuple[int, ...] = (1_000, 100_000)
    writes: int = 300
    quarrel: float = 4.0
    """Seconds for which the writers of the last figure write."""
    seed: int | None = None

    @classmethod
    def quick(cls, seed: int | None = None) -> Settings:
        """Return settings for a first look, which takes less than a minute."""
        return cls(5, 300, 200, 0.2, (1_000, 10_000), 50, 1.0, seed)


@dataclass
class Run:
    """The state that every figure needs."""

    settings: Settings
    random: Random
    say: Callable[[str], None]
    server: Server
    left_out: dict[str, str] = field(default_factory=dict)

    def order(self, contestants: list[Any]) -> list[Any]:
        """Return the contestants in random order."""
        return self.random.sample(contestants, k=len(contestants))


def key_of(number: int) -> str:
    """Return a key, which is a new object each time."""
    return f"{NAMESPACE}:key:{number:06d}"


FIGURES: dict[str, Callable[[Run], list[Figure]]] = {}


def figure(name: str) -> Callable[[Callable[[Run], list[Figure]]], Callable[[Run], list[Figure]]]:
    """Return a decorator that registers a figure under its name for `--only`."""

    def register(function: Callable[[Run], list[Figure]]) -> Callable[[Run], list[Figure]]:
        FIGURES[name] = function
        return function

    return register


def _left_out(run: Run, contestant: Contestant, error: Exception) -> None:
    run.left_out[contestant.name] = f"left out: {type(error).__name__}: {error}".splitlines()[0][:200]
    run.say(f"{contestant.name} is {run.left_out[contestant.name]}")


def _same(value: Any) -> bool:
    return value in (VALUE, VALUE.decode())


def _open(run: Run) -> dict[str, Opened]:
    """Open all contestants that work on this machine, and store the keys. Near caches have them in memory."""
    there: dict[str, Opened] = {}
    for contestant in SYNC:
        try:
            opened = contestant.open(run.server)
            for number in range(run.settings.keys):
                opened.set(key_of(number), VALUE)
            for number in range(run.settings.keys):
                if not _same(opened.get(key_of(number))) and contestant.name != SOCKET:
                    raise ValueError("what was stored does not come back")
        except Exception as error:  # noqa: BLE001 - a peer that does not work here is left out, whatever it raises.
            _left_out(run, contestant, error)
            continue
        there[contestant.name] = opened
    return there


def _known(opened: Opened, keys: int) -> None:
    """Read until all keys are in memory. Announcements of the writes arrive a little later, and remove copies."""
    for _ in range(3):
        for number in range(keys):
            opened.get(key_of(number))
        sleep(0.05)


def _turns(run: Run, names: list[str], measured: Callable[[str], float], *results: tuple[Figure, str, float]) -> None:
    """Measure all in turns. Adds times, divided by the units, to the figures, except those of the first round."""
    for count in range(run.settings.rounds + 1):
        for name in run.order(names):
            taken = measured(name)
            if count:
                for result, condition, unit in results:
                    result.cell(condition, name).samples.append(taken / unit)


@figure("calls")
def calls(run: Run) -> list[Figure]:
    """One thread."""
    settings = run.settings
    text = (
        "Microseconds per call of one thread with values of 32 bytes, without the loop. A plain socket shows the least "
        "possible time."
    )
    reads, writes = Figure("get, one thread", text), Figure("set, one thread", text)
    many = Figure(
        "100 values at a time",
        "Microseconds for all 100 values, in one thread. They were just written, so memory has no copies of them.",
    )
    hits = Figure(
        "a hit in memory",
        "Nanoseconds per call, without the loop. `FlexCache` is a cache without a server.",
        "ns",
        compared=False,
    )
    there = _open(run)
    memory = import_module("flexcache_rs").FlexCache(max_items=200_000)
    for number in range(settings.keys):
        memory.put(key_of(number), VALUE)
    _known(there[MEMORY], settings.keys)

    def some(calls: int) -> list[str]:
        return [key_of(run.random.randrange(settings.keys)) for _ in range(calls)]

    def hit(name: str) -> float:
        return per_call(memory.get if name == "FlexCache" else there[name].get, some(settings.calls))

    def read(name: str) -> float:
        return per_call(there[name].get, some(settings.calls))

    def write(name: str) -> float:
        set_ = there[name].set
        return per_call(lambda key: set_(key, VALUE), some(settings.calls // 4))

    def read_many(name: str) -> float:
        get_many = there[name].get_many
        assert get_many is not None
        keys = [key_of(number) for number in run.random.sample(range(settings.keys), 100)]
        for key in keys:
            there[name].set(key, VALUE)
        # Wait until the write was announced.
        sleep(0.05)
        began = perf_counter_ns()
        get_many(keys)
        return float(perf_counter_ns() - began)

    with_memory = [contestant.name for contestant in SYNC if contestant.has_memory and contestant.name in there]
    _turns(run, [*with_memory, "FlexCache"], hit, (hits, "get", 1))
    _turns(run, list(there), read, (reads, "get", 1000))
    _turns(run, list(there), write, (writes, "set", 1000))
    _turns(run, [name for name, opened in there.items() if opened.get_many], read_many, (many, "get", 1000))
    for opened in there.values():
        opened.close()
    return [reads, hits, writes, many]


@figure("threads")
def threads(run: Run) -> list[Figure]:
    """Eight threads."""
    result = Figure("eight threads", "Thousands of gets per second of eight threads together.", "k/s", more=True)
    there = _open(run)
    there.pop(SOCKET, None)
    if MEMORY in there:
        _known(there[MEMORY], run.settings.keys)
    for _ in range(max(run.settings.rounds // 3, 1)):
        for name in run.order(list(there)):
            get = there[name].get
            barrier, counts = threading.Barrier(9), [0] * 8

            def work(place: int, get: Any = get, barrier: Any = barrier, counts: Any = counts) -> None:
                keys = [key_of(number % run.settings.keys) for number in range(500)]
                barrier.wait()
                end = perf_counter() + run.settings.seconds
                while perf_counter() < end:
                    for key in keys[:50]:
                        get(key)
                    counts[place] += 50

            workers = [threading.Thread(target=work, args=(place,)) for place in range(8)]
            for worker in workers:
                worker.start()
            barrier.wait()
            began = perf_counter()
            for worker in workers:
                worker.join()
            result.cell("get", name).samples.append(sum(counts) / (perf_counter() - began) / 1000)
    for opened in there.values():
        opened.close()
    return [result]


def _set(opened: Opened, key: str) -> Any:
    return opened.set(key, VALUE)


async def _known_awaited(opened: Opened, keys: int) -> None:
    """The same as `_known` for awaited calls."""
    for _ in range(3):
        for number in range(keys):
            await opened.get(key_of(number))
        await asyncio.sleep(0.05)


async def _awaited(call: Callable[[str], Any], keys: list[str], at_a_time: int) -> float:
    """Return the nanoseconds of a call when `at_a_time` calls run concurrently."""
    began = perf_counter_ns()
    if at_a_time == 1:
        for key in keys:
            await call(key)
    else:

        async def some(own: list[str]) -> None:
            for key in own:
                await call(key)

        await asyncio.gather(*(some(keys[start::at_a_time]) for start in range(at_a_time)))
    return (perf_counter_ns() - began) / len(keys)


async def _open_awaited(run: Run) -> dict[str, Opened]:
    """The same as `_open` for awaited calls."""
    there: dict[str, Opened] = {}
    for contestant in AWAITED:
        try:
            opened = await contestant.open(run.server)
            for number in range(run.settings.keys):
                await opened.set(key_of(number), VALUE)
            await _known_awaited(opened, run.settings.keys)
            found = await opened.get(key_of(0))
            if not _same(found) and contestant.name != PROTOCOL:
                raise ValueError("what was stored does not come back")
        except Exception as error:  # noqa: BLE001 - as above.
            _left_out(run, contestant, error)
            continue
        there[contestant.name] = opened
    return there


async def _close(opened: Opened) -> None:
    """Close a contestant, and ignore exceptions."""
    with suppress(Exception):
        closing = opened.close()
        if hasattr(closing, "__await__"):
            await closing


@figure("asyncio")
def awaited(run: Run) -> list[Figure]:
    """One event loop."""
    text = "in one event loop. An `asyncio.Protocol` that makes one call at a time shows the least possible time."
    gets = Figure("asyncio", f"Microseconds per get {text}")
    sets = Figure("asyncio, set", f"Microseconds per set {text}")

    async def measure() -> None:
        there = await _open_awaited(run)
        for count in range(run.settings.rounds + 1):
            for name in run.order(list(there)):
                opened = there[name]
                for at_a_time in (1,) if name == PROTOCOL else (1, 50):
                    for figure, call, calls in ((gets, opened.get, 2), (sets, partial(_set, opened), 8)):
                        number = run.settings.calls // calls
                        keys = [key_of(run.random.randrange(run.settings.keys)) for _ in range(number)]
                        if figure is gets and name == MEMORY:
                            # The preceding writes have invalidated copies.
                            await _known_awaited(opened, run.settings.keys)
                        taken = await _awaited(call, keys, at_a_time)
                        if count:
                            figure.cell(f"{at_a_time} at a time", name).samples.append(taken / 1000)
        for opened in there.values():
            await _close(opened)

    asyncio.run(measure())
    return [gets, sets]


@figure("invalidations")
def invalidations(run: Run) -> list[Figure]:
    """The time from the write of another client until the new value is read."""
    result = Figure(
        "a write of another client, by the number of copies in memory",
        "Microseconds from a `set` of redis-py until the cache returns the new value, by the number of entries in "
        "memory.",
    )
    near = next(contestant for contestant in SYNC if contestant.name == MEMORY)
    other = import_module("redis").Redis(host=run.server.host, port=run.server.port)
    for entries in run.settings.entries:
        opened = near.open(run.server)
        cache = opened.keep
        cache.set_many({key_of(number): VALUE for number in range(entries)})
        cache.get_many([key_of(number) for number in range(entries)])
        _known(opened, 100)
        place = cache._store.keys.value(key_of(0))
        for number in range(run.settings.writes):
            cache.get(key_of(0))
            raw, _ = cache._store.encoded(number, None, cache._store.nonces_for(()))
            began = perf_counter_ns()
            other.set(place, raw)
            while cache.get(key_of(0)) != number:
                pass
            result.cell(f"{entries:,}", MEMORY).samples.append((perf_counter_ns() - began) / 1000)
        opened.close()
    return [result]


async def _quarrel(run: Run, contestant: Contestant, name: str) -> tuple[int, int]:
    """Return how many copies in three caches differ from the server after reads, writes and lost connections."""
    caches = [await contestant.open(run.server) for _ in range(3)]
    raw = import_module("redis.asyncio").Redis(host=run.server.host, port=run.server.port)
    keys = [f"{NAMESPACE}:quarrel:{name}:{number}" for number in range(50)]
    end = perf_counter() + run.settings.quarrel

    async def work(number: int, opened: Opened) -> None:
        random = Random(number)
        count = 0
        while perf_counter() < end:
            with suppress(Exception):
                if random.random() < 0.1:
                    await opened.set(random.choice(keys), b"%d %d" % (number, count))
                else:
                    await opened.get(random.choice(keys))
            count += 1
            await asyncio.sleep(0)

    async def cut() -> None:
        while perf_counter() < end:
            await raw.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            with suppress(Exception):
                await raw.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            await asyncio.sleep(0.3)

    await asyncio.gather(cut(), *(work(number, opened) for number, opened in enumerate(caches)))
    await asyncio.sleep(2)
    # A new cache, which has nothing in memory, reads the values of the server.
    caches.append(await contestant.open(run.server))
    differ = 0
    for key in keys:
        found = []
        for opened in caches:
            try:
                found.append(await opened.get(key))
            except Exception as error:  # noqa: BLE001 - one that cannot read any more differs.
                found.append(error)
        differ += sum(value != found[-1] for value in found[:-1])
    for opened in caches:
        await _close(opened)
    return differ, len(keys) * len(caches)


@figure("coherence")
def coherence(run: Run) -> list[Figure]:
    """Writers whose connections are cut."""
    result = Figure(
        "copies that differ",
        "Three caches write and read 50 keys while their connections are closed every 0.3 seconds. The table shows how "
        "many of the 150 copies differ from the server two seconds later.",
        "copies",
        compared=False,
    )
    for contestant in AWAITED:
        if contestant.has_memory and contestant.name not in run.left_out:
            try:
                differ, _ = asyncio.run(_quarrel(run, contestant, contestant.distribution))
            except Exception as error:  # noqa: BLE001 - as above.
                result.remarks.append(f"{contestant.name}: {type(error).__name__}: {error}".splitlines()[0][:200])
                continue
            result.cell("differ", contestant.name).samples.append(float(differ))
    return [result] if result.rows else []


def machine(run: Run) -> dict[str, str]:
    """Return a description of the machine and the versions, on which the numbers depend."""
    described = table_report.machine() | {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "server": f"{run.server.version}, on this machine, by TCP",
    }
    for contestant in (*SYNC, *AWAITED):
        if contestant.name in run.left_out:
            described[contestant.name] = run.left_out[contestant.name]
        elif contestant.distribution:
            with suppress(metadata.PackageNotFoundError):
                described[contestant.name] = f"{contestant.distribution} {metadata.version(contestant.distribution)}"
    for parser in ("hiredis", "libvalkey"):
        with suppress(metadata.PackageNotFoundError):
            described[parser] = metadata.version(parser)
    return described


HEAD = (
    "`make bench-remote` generates this page. [benches/README.md](../../benches/README.md#the-near-cache-on-a-server) "
    "describes the method and its limits. The server is on this machine. With a server on another machine, add the "
    "time "
    "of the network to each call that asks the server. The contestants take turns in random order in each round. A "
    "cell "
    "shows the median and, after the slash, the 99th percentile of the rounds. The last columns show how many times as "
    "fast as the others RemoteCache is when it asks the server. Its hits in memory have their own table."
)


def options(arguments: list[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = command_line.parser_of(
        "remote",
        "The near cache on a server beside its peers.",
        FIGURES,
        "less than a minute: fewer rounds and entries",
        "remote.md and remote.json",
    )
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> None:
    """Measure, then print the report or write it."""
    chosen = options(arguments)
    settings = Settings.quick(chosen.seed) if chosen.quick else Settings(seed=chosen.seed)
    say = command_line.progress()
    directory = Path(tempfile.mkdtemp(prefix="flexcache-bench-"))
    try:
        server = Server.start(directory)
        try:
            run = Run(settings, Random(settings.seed), say, server)
            figures: list[Figure] = []
            for name in chosen.only or FIGURES:
                say(name)
                figures += FIGURES[name](run)
            described = machine(run)
        finally:
            server.end()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    names = list(dict.fromkeys(contestant.name for contestant in (*SYNC, *AWAITED)))
    report = table_report.as_markdown(
        described,
        figures,
        [*names, "FlexCache"],
        title="The near cache on a server, beside its peers",
        head=HEAD,
        ours=OURS,
    )
    command_line.publish("remote", report, described, figures, chosen.output)
    say("done")


if __name__ == "__main__":
    main(sys.argv[1:])
