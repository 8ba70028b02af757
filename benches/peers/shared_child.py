"""Caches that several processes share: how to open each one, and a worker process that executes commands."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from random import Random
from time import perf_counter, perf_counter_ns
from typing import Any

SIZE = 256 << 20
"""Bytes of memory for each, where it can be said: nothing is evicted."""


@dataclass
class Opened:
    """An open cache with its calls for str keys."""

    get: Callable[[str], Any]
    set: Callable[[str, Any], Any]
    delete: Callable[[str], Any]
    keep: Any = None
    """What must stay alive."""
    remove: Callable[[], Any] = lambda: None
    """Removes what would outlive the process and the directory."""


@dataclass(frozen=True)
class Contestant:
    """One library, or one server."""

    name: str
    distribution: str
    open: Callable[[Path], Opened]
    serve: Callable[[Path], subprocess.Popen[bytes]] | None = None
    """Starts what it needs to run beside it; raises where that is not installed."""
    values: str = "objects"
    """"objects", or "bytes" where it stores nothing else."""


@dataclass
class Servers:
    """The server processes that caches need."""

    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, contestant: Contestant, directory: Path) -> None:
        """Start the server of a contestant, if it needs one."""
        if contestant.serve is not None:
            self.running.append(contestant.serve(directory))

    def end(self) -> None:
        """Stop all servers."""
        for process in self.running:
            process.terminate()
            process.wait(30)


def _flexcache(directory: Path) -> Opened:
    shared = import_module("flexcache_rs.shared")
    cache = shared.SharedCache(directory / "cache", max_bytes=SIZE)
    return Opened(cache.get, cache.put, cache.delete, cache)


def _flexcache_in_front(directory: Path) -> Opened:
    flexcache = import_module("flexcache_rs")
    shared = _flexcache(directory)
    cache = flexcache.FlexCache(max_items=2_000_000, store=shared.keep)
    return Opened(cache.get, cache.put, cache.delete, cache)


def _flexcache_disk(directory: Path) -> Opened:
    cache = import_module("flexcache_rs.disk").Cache(str(directory), size_limit=2**40)
    return Opened(cache.get, cache.set, cache.delete, cache)


def _diskcache(directory: Path) -> Opened:
    cache = import_module("diskcache").Cache(str(directory), size_limit=2**40)
    return Opened(cache.get, cache.set, cache.delete, cache)


def _lmdb(directory: Path) -> Opened:
    """LMDB with the options that its documentation recommends for a cache: no sync, and a writable map."""
    environment = import_module("lmdb").open(
        str(directory), map_size=4 * SIZE, writemap=True, map_async=True, sync=False, metasync=False, lock=True
    )

    def get(key: str) -> Any:
        with environment.begin() as transaction:
            return transaction.get(key.encode())

    def set_(key: str, value: bytes) -> None:
        with environment.begin(write=True) as transaction:
            transaction.put(key.encode(), value)

    def delete(key: str) -> None:
        with environment.begin(write=True) as transaction:
            transaction.delete(key.encode())

    return Opened(get, set_, delete, environment)


def _heed(directory: Path) -> Opened:
    """LMDB in Rust, called as directly as SharedCache, with the same options. `make bench-lmdb` builds it."""
    built = Path(__file__).parents[1] / "lmdb/target/release/libflexcache_bench_lmdb.so"
    if not built.exists():
        raise ImportError("`make bench-lmdb` has not built it")
    loader = ExtensionFileLoader("flexcache_bench_lmdb", str(built))
    specification = spec_from_file_location(loader.name, built, loader=loader)
    assert specification is not None
    module = module_from_spec(specification)
    loader.exec_module(module)
    database = module.Lmdb(directory, 4 * SIZE)
    return Opened(database.get, database.set, database.delete, database)


MANAGER = """
import sys
from multiprocessing.managers import BaseManager, DictProxy
class Manager(BaseManager): pass
entries = {}
Manager.register("entries", callable=lambda: entries, proxytype=DictProxy)
Manager(sys.argv[1], b"benchmark").get_server().serve_forever()
"""


def _serve_manager(directory: Path) -> subprocess.Popen[bytes]:
    address = directory / "manager"
    process = subprocess.Popen([sys.executable, "-c", MANAGER, str(address)])
    _until(address.exists)
    return process


def _manager(directory: Path) -> Opened:
    managers = import_module("multiprocessing.managers")

    class Manager(managers.BaseManager):  # type: ignore[misc,name-defined]
        pass

    Manager.register("entries", proxytype=managers.DictProxy)
    manager = Manager(str(directory / "manager"), b"benchmark")
    manager.connect()
    entries = manager.entries()
    return Opened(entries.get, entries.__setitem__, lambda key: entries.pop(key, None), manager)


def _ultra_dict(directory: Path) -> Opened:
    """UltraDict with its lock between processes, which it does not take by default."""
    entries = import_module("UltraDict").UltraDict(
        name=f"bench{abs(hash(str(directory)))}", shared_lock=True, full_dump_size=SIZE, buffer_size=SIZE // 4
    )
    return Opened(entries.get, entries.__setitem__, lambda key: entries.pop(key, None), entries, entries.unlink)


def _shared_memory_dict(directory: Path) -> Opened:
    os.environ["SHARED_MEMORY_USE_LOCK"] = "1"
    entries = import_module("shared_memory_dict").SharedMemoryDict(f"bench{directory.name}", SIZE // 16)
    return Opened(entries.get, entries.__setitem__, lambda key: entries.pop(key, None), entries, entries.shm.unlink)


def _serve_lilcache(directory: Path) -> subprocess.Popen[bytes]:
    """Start the process that owns the entries. It is the first one that calls `init`, which serves in a thread."""
    program = "import lilcache, sys, time; lilcache.init('bench', sys.argv[1]); time.sleep(1e6)"
    process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", program, str(directory)])
    _until((directory / "bench.sock").exists)
    return process


def _lilcache(directory: Path) -> Opened:
    lilcache = import_module("lilcache")
    lilcache.init("bench", str(directory))
    # lilcache has no delete, so use pop.
    return Opened(lilcache.get, lilcache.set, lilcache.pop, lilcache)


def _until(condition: Callable[[], object]) -> None:
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.01)
    raise TimeoutError("a server did not start within ten seconds")


def _program(*names: str) -> str:
    for name in names:
        found = shutil.which(name)
        if found:
            return found
    raise FileNotFoundError(f"{names[0]} is not installed")


def _serve_redis(directory: Path) -> subprocess.Popen[bytes]:
    address = directory / "redis"
    command = [_program("redis-server", "valkey-server"), "--port", "0", "--unixsocket", str(address)]
    options = ["--save", "", "--appendonly", "no", "--dir", str(directory)]
    process = subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL)
    _until(address.exists)
    return process


def _redis(directory: Path) -> Opened:
    client = import_module("redis").Redis(unix_socket_path=str(directory / "redis"))
    return Opened(client.get, client.set, client.delete, client)


def _serve_memcached(directory: Path) -> subprocess.Popen[bytes]:
    address = directory / "memcached"
    user = ["-u", "root"] if os.geteuid() == 0 else []
    process = subprocess.Popen([_program("memcached"), "-s", str(address), "-m", str(SIZE >> 20), *user])
    _until(address.exists)
    return process


def _memcached(directory: Path) -> Opened:
    client = import_module("pymemcache.client.base").Client(str(directory / "memcached"), no_delay=True)
    return Opened(client.get, client.set, client.delete, client)


CONTESTANTS = (
    Contestant("SharedCache", "flexcache-rs", _flexcache),
    Contestant("FlexCache in front", "flexcache-rs", _flexcache_in_front),
    Contestant("flexcache_rs.disk", "flexcache-rs", _flexcache_disk),
    Contestant("LMDB (heed)", "", _heed),
    Contestant("py-lmdb", "lmdb", _lmdb, values="bytes"),
    Contestant("diskcache", "diskcache", _diskcache),
    Contestant("UltraDict", "UltraDict", _ultra_dict),
    Contestant("shared-memory-dict", "shared-memory-dict", _shared_memory_dict),
    Contestant("lilcache", "lilcache", _lilcache, _serve_lilcache),
    Contestant("memcached", "pymemcache", _memcached, _serve_memcached, values="bytes"),
    Contestant("Redis", "redis", _redis, _serve_redis, values="bytes"),
    Contestant("Manager", "", _manager, _serve_manager),
)


def _dict(_directory: Path) -> Opened:
    entries: dict[str, Any] = {}
    return Opened(entries.get, entries.__setitem__, lambda key: entries.pop(key, None), entries)


ALONE = Contestant("a dict each", "", _dict)
"""What the machine gives to processes that share nothing."""


def named(name: str) -> Contestant:
    """Return the contestant of a name."""
    return next(contestant for contestant in (*CONTESTANTS, ALONE) if contestant.name == name)


def key_of(number: int) -> str:
    """Return a key, which is a new object each time."""
    return f"key:{number:08d}"


def value_of(contestant: Contestant, size: int) -> Any:
    """Return a value with the given number of characters."""
    return b"v" * size if contestant.values == "bytes" else "v" * size


def fill(opened: Opened, contestant: Contestant, entries: int, size: int, seconds: float) -> bool:
    """Store the given number of entries. Returns False if that takes longer than the given seconds."""
    value = value_of(contestant, size)
    end = perf_counter() + seconds
    for number in range(entries):
        opened.set(key_of(number), value)
        if perf_counter() > end:
            return False
    return True


def per_call(call: Callable[[str], Any], keys: list[str]) -> float:
    """Return the nanoseconds of a call, without those of the loop."""
    begin = perf_counter_ns()
    for _ in keys:
        pass
    loop = perf_counter_ns() - begin
    begin = perf_counter_ns()
    for key in keys:
        call(key)
    return max(perf_counter_ns() - begin - loop, 0) / len(keys)


def per_call_with(call: Callable[[str, Any], Any], keys: list[str], value: Any) -> float:
    """The same for calls with a value."""
    begin = perf_counter_ns()
    for _ in keys:
        pass
    loop = perf_counter_ns() - begin
    begin = perf_counter_ns()
    for key in keys:
        call(key, value)
    return max(perf_counter_ns() - begin - loop, 0) / len(keys)


def samples(
    opened: Opened, contestant: Contestant, entries: int, size: int, calls: int, random: Random
) -> dict[str, float]:
    """Return the nanoseconds of each kind of call."""
    there = [key_of(random.randrange(entries)) for _ in range(calls)]
    absent = [key_of(entries + number) for number in range(calls)]
    value = value_of(contestant, size)
    taken = {
        "get": per_call(opened.get, there),
        "get, miss": per_call(opened.get, absent),
        "set over": per_call_with(opened.set, there, value),
        "set": per_call_with(opened.set, absent, value),
    }
    taken["delete"] = per_call(opened.delete, absent)
    return taken


def work(name: str, directory: str, options: dict[str, Any]) -> None:
    """Make random calls. Prints the number of calls, the number of failures, and the seconds."""
    contestant = named(name)
    opened = contestant.open(Path(directory))
    if "calls" in options:
        some_calls(contestant, opened, options["calls"])
    else:
        for_so_long(contestant, opened, options)
    # Some libraries raise at the exit of the interpreter.
    with suppress(Exception):
        sys.stdout.flush()
    os._exit(0)


def ready() -> None:
    """Report that this process is ready, and wait for the others."""
    print("ready", flush=True)
    sys.stdin.readline()


def some_calls(contestant: Contestant, opened: Opened, count: int) -> None:
    """Time each of `count` calls separately. A third each are get, set and pop, of 500 keys."""
    random = Random(os.getpid())
    value = value_of(contestant, 20)
    keys = [key_of(random.randrange(500)) for _ in range(count)]
    kinds = [random.randrange(3) for _ in keys]
    opened.get(keys[0])
    ready()
    failures = nanoseconds = 0
    for key, kind in zip(keys, kinds, strict=True):
        begin = perf_counter_ns()
        try:
            if kind == 0:
                opened.get(key)
            elif kind == 1:
                opened.set(key, value)
            else:
                opened.delete(key)
        except KeyError:
            pass  # The key was absent.
        except Exception:  # noqa: BLE001 - whatever a library raises under load is counted.
            failures += 1
        nanoseconds += perf_counter_ns() - begin
    print(json.dumps([count, failures, nanoseconds / 1e9]), flush=True)


def for_so_long(contestant: Contestant, opened: Opened, options: dict[str, Any]) -> None:
    """Get and set some keys for some seconds."""
    random = Random(os.getpid())
    keys = [key_of(random.randrange(options["keys"])) for _ in range(5000)]
    writes = [random.random() < options["writes"] for _ in keys]
    value = value_of(contestant, options["size"])
    opened.get(keys[0])
    ready()
    calls = failures = 0
    begin = perf_counter()
    end = begin + options["seconds"]
    while perf_counter() < end:
        for key, is_write in zip(keys, writes, strict=True):
            try:
                if is_write:
                    opened.set(key, value)
                else:
                    opened.get(key)
            except Exception:  # noqa: BLE001 - whatever a library raises under load is counted.
                failures += 1
            calls += 1
            if calls % 64 == 0 and perf_counter() >= end:
                break
    print(json.dumps([calls, failures, perf_counter() - begin]), flush=True)


if __name__ == "__main__":
    work(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
