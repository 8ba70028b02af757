"""Measures sessions beside their peers: `python -m benches.peers.sessions --help`."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import import_module, metadata
from pathlib import Path
from random import Random
from typing import Any

from . import command_line, table_report
from .remote_peers import PROTOCOL, SOCKET
from .sessions_run import KEYS, OURS, TOGETHER, VALUE, Run, Settings, at_once, in_a_row, one_by_one
from .sessions_servers import IN_A_THREAD, ONE_STATEMENT, SAME_SQL, mariadb, valkey
from .tables import Figure

TASKS = 50
LENGTHS = (10, 1_000, 100_000)


@dataclass
class Opened:
    """An open store with its awaited calls."""

    get: Callable[[str], Awaitable[Any]]
    set: Callable[[str, str], Awaitable[Any]]
    end: Callable[[], Awaitable[Any]]


async def _session(url: str) -> Opened:
    from flexcache_rs.sessions import connect

    session = connect(url)
    return Opened(session.get, session.set, session.aclose)


async def _pycache(adapter: Any) -> Opened:
    # PyCache prints its store at each write, which should not be measured.
    module: Any = sys.modules[type(adapter).__module__]
    module.print = lambda *_, **__: None
    text = import_module("pycache.datatypes").String
    block = import_module("pycache.py_cache").PyCache(adapter).session()
    session: Any = await block.__aenter__()

    async def put(key: str, value: str) -> None:
        await session.set(key, text(value))

    async def end() -> None:
        await block.__aexit__(None, None, None)

    return Opened(session.get, put, end)


async def _in_memory(name: str) -> Opened:
    if name == "PyCache":
        return await _pycache(import_module("pycache.adapters.InMemory").InMemory())
    if name == "cashews":
        cashews = import_module("cashews").Cache()
        cashews.setup("mem://")
        return Opened(cashews.get, cashews.set, cashews.close)
    if name == "aiocache":
        memory = import_module("aiocache").SimpleMemoryCache()
        return Opened(memory.get, memory.set, memory.close)
    return await _session("memory://")


async def _on_disk(name: str, directory: Path) -> Opened:
    if name == "PyCache":
        return await _pycache(import_module("pycache.adapters.SQLite").SQLite(str(directory / "pycache.db")))
    return await _session(f"disk://{directory}")


async def _compare(
    run: Run, title: str, names: list[str], open_one: Callable[[str], Awaitable[Opened]], count: int
) -> list[Figure]:
    """One call after the other, and many at once, in turns."""
    text = "Microseconds per call. The calls are awaited. There are 1,000 keys with strs of 100 characters."
    single = Figure(title, text)
    together = Figure(f"{title}, {TOGETHER} at once", f"Microseconds for {TOGETHER} tasks together.")
    opened: dict[str, Opened] = {}
    for name in names:
        try:
            store = await open_one(name)
            for number in range(KEYS):
                await store.set(str(number), VALUE)
            assert await store.get("1") == VALUE
        except Exception as error:  # noqa: BLE001 - a peer that does not work here is left out, whatever it raises.
            run.told[name] = f"left out: {type(error).__name__}: {error}".splitlines()[0]
            run.say(f"{name} is {run.told[name]}")
            continue
        opened[name] = store
    for number in range(run.settings.rounds + 1):
        for name in run.random.sample(list(opened), k=len(opened)):
            store = opened[name]

            async def get(key: int, store: Opened = store) -> Any:
                return await store.get(str(key % KEYS))

            async def put(key: int, store: Opened = store) -> Any:
                return await store.set(str(key % KEYS), VALUE)

            turns = max(1, count // TOGETHER)
            taken = [
                ("get", single, await one_by_one(get, count)),
                ("set", single, await one_by_one(put, count)),
                ("get", together, await at_once(get, TOGETHER, turns)),
                ("set", together, await at_once(put, TOGETHER, turns)),
            ]
            for operation, figure, sample in taken if number else ():
                figure.cell(operation, name).samples.append(sample)
    for store in opened.values():
        await store.end()
    return [single, together]


def memory(run: Run) -> list[Figure]:
    """In memory, beside PyCache, cashews and aiocache."""
    names = [OURS, "PyCache", "cashews", "aiocache"]
    return asyncio.run(_compare(run, "In memory", names, _in_memory, run.settings.calls))


def disk(run: Run) -> list[Figure]:
    """In a directory, beside PyCache's SQLite and a thread hop."""
    figures = asyncio.run(
        _compare(
            run, "On disk", [OURS, "PyCache"], lambda name: _on_disk(name, run.directory / "a"), run.settings.slow_calls
        )
    )
    return [*figures, asyncio.run(_hops(run)), _sync(run)]


async def _hops(run: Run) -> Figure:
    """What an awaited call takes beside a hop to a thread and back."""
    figure = Figure(
        "On disk, beside a thread hop", f"Microseconds per call of one task, and of each of {TASKS} tasks at once."
    )
    store = await _session(f"disk://{run.directory / 'b'}")
    await store.set("key", VALUE)
    calls: dict[str, Callable[[int], Awaitable[Any]]] = {
        OURS: lambda _: store.get("key"),
        "thread hop": lambda _: asyncio.to_thread(int),
    }
    for number in range(run.settings.rounds + 1):
        for name in run.random.sample(list(calls), k=len(calls)):
            one = await one_by_one(calls[name], run.settings.slow_calls)
            many = await at_once(calls[name], TASKS, max(1, run.settings.slow_calls // 10)) / TASKS
            if number:
                figure.cell("one task", name).samples.append(one)
                figure.cell(f"{TASKS} tasks, each", name).samples.append(many)
    await store.end()
    return figure


def _sync(run: Run) -> Figure:
    """Calls without await: keys, lists of several lengths, limiters."""
    from flexcache_rs.sessions.sync import connect

    figure = Figure("Without await", "Microseconds per call.", compared=False)
    places = {"memory": "memory://", "disk": f"disk://{run.directory / 'c'}"}
    for place, url in places.items():
        with connect(url) as session:
            gcra = session.limiter("api", 10**9, 1)
            window = session.limiter("api", 100, 1, algorithm="sliding_window")
            calls: dict[str, Any] = {
                "get": lambda number, session=session: session.get(str(number % KEYS)),
                "set": lambda number, session=session: session.set(str(number % KEYS), VALUE),
                "incr": lambda _, session=session: session.incr("number"),
                "limiter": lambda number, gcra=gcra: gcra.hit(str(number % 10)),
                "limiter, sliding window": lambda number, window=window: window.hit(str(number)),
            }
            for length in LENGTHS:
                jobs = session.list(f"list of {length}")
                jobs.extend(VALUE for _ in range(length))
                calls[f"push and pop, {length:,} elements"] = lambda _, jobs=jobs: (jobs.push(VALUE), jobs.pop())
            for number in range(run.settings.rounds + 1):
                for name in run.random.sample(list(calls), k=len(calls)):
                    count = run.settings.calls if place == "memory" else run.settings.slow_calls
                    sample = in_a_row(calls[name], count)
                    if number:
                        figure.cell(name, place).samples.append(sample)
    return figure


FIGURES: dict[str, Callable[[Run], list[Figure]]] = {
    "memory": memory,
    "disk": disk,
    "valkey": valkey,
    "mariadb": mariadb,
}

HEAD = (
    "`make bench-sessions` generates this page. [benches/README.md](../../benches/README.md#sessions) describes the "
    "method. The libraries take turns in random order in each round. A cell shows the median and, after the slash, the "
    "99th percentile of the rounds. The last columns show how many times as fast as the others sessions are."
)


def machine(run: Run) -> dict[str, str]:
    """Return a description of the machine and the versions, on which the numbers depend."""
    described = table_report.machine() | {"date": datetime.now(timezone.utc).date().isoformat()}
    for name in ("cashews", "aiocache"):
        with suppress(metadata.PackageNotFoundError):
            described[name] = run.told.get(name) or metadata.version(name)
    for name in ("redis", "pymysql"):
        with suppress(metadata.PackageNotFoundError):
            described[name] = metadata.version(name)
    return described | {name: text for name, text in run.told.items() if name not in described}


def options(arguments: list[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = command_line.parser_of(
        "sessions",
        "Sessions beside their peers.",
        FIGURES,
        "some seconds: fewer rounds and calls",
        "sessions.md and sessions.json",
    )
    parser.add_argument("--pycache", type=Path, metavar="DIR", help="the folder `src` of a copy of PyCache")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> None:
    """Measure, then print the report or write it."""
    chosen = options(arguments)
    if chosen.pycache is not None:
        sys.path.insert(0, str(chosen.pycache))
    say = command_line.progress()
    directory = Path(tempfile.mkdtemp(prefix="flexcache-bench-"))
    settings = Settings.quick() if chosen.quick else Settings()
    run = Run(settings, Random(chosen.seed), say, directory)
    try:
        figures = []
        for name in chosen.only or FIGURES:
            say(name)
            figures += FIGURES[name](run)
        described = machine(run)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    names = [OURS, "PyCache", "cashews", "aiocache", "thread hop", "memory", "disk", "redis-py", "redis.asyncio"]
    names += [SOCKET, PROTOCOL, SAME_SQL, ONE_STATEMENT, IN_A_THREAD]
    report = table_report.as_markdown(
        described, figures, names, title="Sessions, beside their peers", head=HEAD, ours=OURS
    )
    command_line.publish("sessions", report, described, figures, chosen.output)
    say("done")


if __name__ == "__main__":
    main(sys.argv[1:])
