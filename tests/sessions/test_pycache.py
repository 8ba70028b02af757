"""PyCache's names. Programs written for PyCache run correctly after one import was changed."""

from __future__ import annotations

import asyncio
import doctest
import gc
import sqlite3
import subprocess
import sys
import threading
from collections import deque
from pathlib import Path
from typing import Any

import pytest
from session_places import SERVERS, URLS, advance

import flexcache_rs.pycache
import flexcache_rs.pycache.sql
from flexcache_rs.pycache.adapters import Adapter, InMemory, MySQL, Redis, Sharded, SQLite
from flexcache_rs.pycache.datatypes import Datatype, List, Map, Numeric, Queue, Set, Streams, String
from flexcache_rs.pycache.decorators import cache, rate_limit
from flexcache_rs.pycache.py_cache import PyCache
from flexcache_rs.pycache.snapshot import Reader, SnapshotConfig
from flexcache_rs.pycache.sql import SQL, Composed, Identifier, Literal, Placeholder
from flexcache_rs.sessions import ConflictError, KindError, SessionError

_ON_SERVERS = {"redis": Redis, "mysql": MySQL}


@pytest.fixture(params=["InMemory", "SQLite", "SQLite in memory", *SERVERS, "Sharded"])
def adapter(request: pytest.FixtureRequest, tmp_path: Path) -> Adapter:
    if request.param == "InMemory":
        return InMemory()
    if request.param == "Sharded":
        return Sharded([SQLite(str(tmp_path / f"{number}.db")) for number in range(3)])
    if request.param in _ON_SERVERS:
        return _ON_SERVERS[request.param](URLS[request.param](tmp_path))
    return SQLite(str(tmp_path / "cache.db") if request.param == "SQLite" else ":memory:")


def test_the_modules_of_the_adapters() -> None:
    from flexcache_rs.pycache import adapters
    from flexcache_rs.pycache.adapters.InMemory import InMemory as Same
    from flexcache_rs.pycache.adapters.SQLite import SQLite as SameToo

    assert (Same, SameToo) == (adapters.InMemory, adapters.SQLite) == (InMemory, SQLite)
    from flexcache_rs.pycache.snapshot.Snapshot import SnapshotConfig as Config

    assert Config is SnapshotConfig


def test_a_store_in_memory_takes_any_text() -> None:
    """PyCache checks none of it either."""

    async def main() -> None:
        async with PyCache(InMemory("anything")).session() as first, PyCache(InMemory("anything")).session() as second:
            await first.set("key", Numeric(1))
            assert not await second.exists("key")

    asyncio.run(main())
    with pytest.raises(TypeError, match="connection_uri must be a str, not int"):
        InMemory(1)  # type: ignore[arg-type]


def test_a_cache_that_was_not_entered() -> None:
    with pytest.raises(RuntimeError, match="async with cache"):
        asyncio.run(PyCache(InMemory()).get("key"))


def test_values(adapter: Adapter, capsys: pytest.CaptureFixture[str]) -> None:
    values: dict[str, Datatype] = {
        "text": String("007"),
        "": String("the empty key"),
        "number": Numeric(42),
        "list": List([1, "string", True, None, {"key": "value"}]),
        "empty list": List([]),
        "map": Map({"user": {"name": "Ann"}}),
        "empty map": Map({}),
        "set": Set([1, 1, "a", None]),
        "empty set": Set(set()),
        "queue": Queue([1, 2]),
        "streams": Streams({"a": 1}),
        "clé with spaces!@#$": String("x" * 10_000),
    }

    async def main() -> None:
        cache = PyCache(adapter)
        async with cache.session() as session:
            for key, value in values.items():
                assert await session.set(key, value) == 1
            for key, value in values.items():
                found = await session.get(key)
                assert (type(found), found) == (type(value.value), value.value)
                assert await session.get(key, type(value)) == value.value
            assert await session.batch_get([*values, "none"]) == {key: value.value for key, value in values.items()}
            assert await session.batch_get({"text": String, "list": List}) == {
                "text": "007",
                "list": values["list"].value,
            }
            with pytest.raises(KindError):
                await session.get("list", Map)
            assert await session.get("none") is None
            assert await session.get("none", List) is None
            assert sorted(await session.keys()) == sorted(values)
            assert await session.set("list", List(["other"])) == 1
            assert await session.get("list") == ["other"]
            assert (await session.delete("list"), await session.delete("list")) == (1, 0)
            assert not await session.exists("list")
            assert await session.batch_set({"a": Numeric(1), "b": Numeric(2)}) == 2
            assert await session.set("any", {"c": Numeric(3)}) == 1
            assert await session.get("any") is None
            for wrong in ("text", {"a": 1}, None):
                with pytest.raises(TypeError):
                    await session.set("key", wrong)  # type: ignore[arg-type]
            with pytest.raises(TypeError):
                await session.batch_get("key")  # type: ignore[arg-type]

    asyncio.run(main())
    assert capsys.readouterr() == ("", "")


def test_what_datatypes_refuse() -> None:
    assert [String(None).value, String(7).value, List("ab").value] == ["None", "7", ["a", "b"]]
    original = deque([1])
    assert Queue(original).value is original
    for call in (
        lambda: List(1),
        lambda: Map([]),
        lambda: Numeric("1"),
        lambda: Numeric(True),
        lambda: Set(None),
        lambda: Queue(1),
    ):
        with pytest.raises(TypeError, match="Invalid type"):
            call()


def test_deadlines(adapter: Adapter) -> None:
    async def main() -> None:
        cache = PyCache(adapter)
        async with cache.session() as session:
            await session.set("key", String("value"))
            assert await session.get_expire("key") is None
            assert await session.set_expire("key", 1000) == 1
            assert 900 < (await session.get_expire("key") or 0) <= 1000
            advance(400)
            assert 500 < (await session.get_expire("key") or 0) <= 600
            await session.set("key", String("other"))
            assert await session.get_expire("key") is None, "a value that is stored again has no deadline"
            await session.set_expire("key", 1)
            advance(1.5)
            assert await session.get("key") is None
            assert await session.set_expire("key", 5) == 0
            assert await session.delete("key") == 0
            assert await session.get_expire("key") is None
            for wrong, kind in ((0, ValueError), (-1, ValueError), (float("nan"), ValueError), ("1", TypeError)):
                with pytest.raises(kind):
                    await session.set_expire("key", wrong)  # type: ignore[arg-type]

    asyncio.run(main())


def test_the_removal_of_what_has_expired(adapter: Adapter) -> None:
    async def main() -> None:
        cache = PyCache(adapter)
        await cache.start_ttl_deletion(60)
        await cache.stop_ttl_deletion()
        async with cache.session() as session:
            await session.batch_set({key: String(key) for key in "abc"})
            await session.set_expire("a", 1)
            await session.set_expire("b", 100)
            advance(2)
            # A server of Redis shows no key that has expired.
            expired = ["a"] if not isinstance(adapter, Redis) else []
            assert cache.count_expired_keys() == len(expired)
            # Shards have no order among each other.
            assert sorted(key for key, _ in cache.get_all_keys_with_expiry()) == [*expired, "b"]
            await cache.start_ttl_deletion(0.001)
            await cache.start_ttl_deletion(0.001)
            while cache.count_expired_keys():
                await asyncio.sleep(0.001)
            await cache.stop_ttl_deletion()
            await cache.stop_ttl_deletion()
            assert await session.keys() == ["b", "c"]
            assert cache.delete_expired_attributes() == 0

    asyncio.run(main())
    assert not [thread for thread in threading.enumerate() if "ttl" in thread.name]
    with pytest.raises(ValueError, match="more than 0 seconds"):
        PyCache(adapter, ttl_interval=0)


def test_the_removal_goes_on_after_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    went_on = threading.Event()

    class Failing(PyCache):
        calls = 0

        def delete_expired_attributes(self) -> int:
            self.calls += 1
            if self.calls == 1:
                raise SessionError("not now")
            went_on.set()
            return 0

    cache = Failing(InMemory(), ttl_interval=0.001)
    assert went_on.wait(60)
    asyncio.run(cache.stop_ttl_deletion())
    assert "what has expired could not be removed: not now" in caplog.text


def test_a_block_that_raises_takes_a_snapshot(tmp_path: Path) -> None:
    """What it stored before is stored."""
    config = SnapshotConfig(dir=str(tmp_path), min_changes=1000, interval_hours=0)
    # Its end would take a snapshot too.
    adapter = InMemory(snapshot=True, snapshot_config=config)

    async def main() -> None:
        async with PyCache(adapter).session() as session:
            await session.set("key", Numeric(1))
            raise ValueError

    with pytest.raises(ValueError, match=r"^$"):
        asyncio.run(main())
    assert len(snapshots_in(tmp_path)) == 1


def test_transactions(adapter: Adapter) -> None:
    async def main() -> None:
        cache = PyCache(adapter)
        async with cache.session() as session, cache.session() as other:
            async with session.with_transaction():
                await session.set("a", Numeric(1))
                assert await session.get("a") == 1
                assert await other.get("a") is None
            assert await other.get("a") == 1
            with pytest.raises(ZeroDivisionError):
                async with session.with_transaction():
                    await session.set("a", Numeric(2))
                    raise ZeroDivisionError
            assert await session.get("a") == 1

    asyncio.run(main())


def test_tasks_that_read_add_and_write_lose_nothing(adapter: Adapter) -> None:
    async def main() -> None:
        cache = PyCache(adapter)
        async with cache.session() as session:
            await session.set("n", Numeric(0))

            async def add() -> None:
                while True:
                    try:
                        async with session.with_transaction():
                            value = await session.get("n")
                            await asyncio.sleep(0)
                            await session.set("n", Numeric(value + 1))
                    except ConflictError:
                        continue
                    return

            await asyncio.gather(*(add() for _ in range(10)))
            assert await session.get("n") == 10
            # One that is cancelled leaves nothing, and others' writes stay.
            begun = asyncio.Event()

            async def hang() -> None:
                async with session.with_transaction():
                    await session.set("n", Numeric(99))
                    begun.set()
                    await asyncio.sleep(3600)

            task = asyncio.create_task(hang())
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await session.get("n") == 10
            async with session.with_transaction():
                await session.set("n", Numeric(11))
                with pytest.raises(KeyError):
                    async with session.with_transaction():
                        await session.set("n", Numeric(12))
                        raise KeyError
                assert await session.get("n") == 11
            assert await session.get("n") == 11

    asyncio.run(main())


def test_sessions_are_independent(adapter: Adapter) -> None:
    async def main() -> None:
        cache, another = PyCache(adapter), PyCache(InMemory())
        async with cache.session() as one:
            async with cache.session() as two:
                await two.set("key", String("value"))
            assert await one.get("key") == "value"
            async with another.session() as stranger:
                assert await stranger.get("key") is None
        async with cache as same:
            assert await same.get("key") == "value"

        async def first(number: int) -> None:
            async with cache.session() as session:
                await session.set(str(number), Numeric(number))

        await asyncio.gather(*(first(number) for number in range(20)))
        async with cache.session() as session:
            assert len(await session.keys()) == 21

    asyncio.run(main())


def test_results_that_are_kept(adapter: Adapter) -> None:
    calls: list[Any] = []

    @cache(ttl=60, adapter=adapter)
    def plain(value: Any) -> Any:
        calls.append(value)
        return value

    @cache(adapter=adapter, return_type=String)
    async def text(value: Any) -> Any:
        calls.append(value)
        await asyncio.sleep(0.001)
        return value

    assert [plain(value) for value in (0, 0, None, None, "", "")] == [0, 0, None, None, "", ""]
    assert calls == [0, None, ""]
    advance(61)
    plain(0)
    assert len(calls) == 4

    async def main() -> None:
        calls.clear()
        assert await asyncio.gather(*(text(5) for _ in range(20))) == ["5"] * 20
        assert calls == [5]
        assert plain(7) == plain(7) == 7

    asyncio.run(main())
    for wrong in ({"adapter": "memory"}, {"return_type": int}):
        with pytest.raises(TypeError):
            cache(**wrong)  # type: ignore[arg-type]


def test_functions_of_one_name_are_apart() -> None:
    place = InMemory()

    def make(number: int) -> Any:
        @cache(adapter=place)
        def function() -> int:
            return number

        return function

    assert [make(1)(), make(2)()] == [1, 2]


def test_limits(adapter: Adapter) -> None:
    @rate_limit(limit=2, ttl=10, adapter=adapter, exception=ValueError("slowly"))
    async def limited() -> str:
        return "done"

    async def main() -> None:
        assert await limited() == "done"
        advance(5)
        results = await asyncio.gather(*(limited() for _ in range(30)), return_exceptions=True)
        assert results.count("done") == 1
        refused = [result for result in results if isinstance(result, ValueError)]
        assert len(refused) == len({id(result) for result in refused}) == 29
        assert str(refused[0]) == "slowly"
        assert 0 < refused[0].retry_after <= 5  # type: ignore[attr-defined]
        advance(5.1)
        assert await limited() == "done", "calls that are refused do not move the window"

    asyncio.run(main())

    @rate_limit(limit=0, adapter=adapter)
    def never() -> None:
        raise AssertionError

    @rate_limit(adapter=adapter)
    def always() -> int:
        return 1

    with pytest.raises(Exception, match="Rate limit exceeded"):
        never()
    assert [always() for _ in range(5)] == [1] * 5


def test_a_file_of_pycache_itself_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "old.db"
    connection = sqlite3.connect(file)
    connection.execute('CREATE TABLE "kv-store" (key TEXT, value BLOB, expires_at DATETIME)')
    connection.commit()
    connection.close()

    async def main() -> None:
        async with PyCache(SQLite(str(file))).session():
            raise AssertionError

    with pytest.raises(SessionError, match="was written by PyCache"):
        asyncio.run(main())


def test_tables_keep_keys_apart(tmp_path: Path) -> None:
    async def main() -> None:
        file = str(tmp_path / "100%.db?x")
        one, two = PyCache(SQLite(file)), PyCache(SQLite(file, "other"))
        async with one.session() as first, two.session() as second:
            await first.set("key", Numeric(1))
            assert await second.get("key") is None
        assert Path(file).exists()

    asyncio.run(main())


def test_adapters_of_servers() -> None:
    adapters: list[Adapter] = [Redis("redis://localhost:1/0"), MySQL("mysql://user:secret@localhost:1/cache")]
    assert all(adapter.get_support_transactions() for adapter in adapters)
    for make in (
        lambda: Redis("mysql://user:secret@localhost/cache"),
        lambda: MySQL("localhost"),
        lambda: Sharded([]),
    ):
        with pytest.raises(ValueError, match="must") as caught:
            make()
        assert "secret" not in str(caught.value)
    for wrong in ("redis://localhost", [1]):
        with pytest.raises(TypeError, match="adapters must be"):
            Sharded(wrong)  # type: ignore[arg-type]
    sharded = Sharded([InMemory(), "memory://another"])
    # Whether sessions have such a backend yet or not: what is wrong is told clearly.
    for adapter in (*adapters, sharded):
        try:
            adapter.now().close()
        except (NotImplementedError, ConnectionError, ImportError) as error:
            assert "secret" not in str(error)


def test_values_over_named_datatypes(adapter: Adapter) -> None:
    async def main() -> None:
        async with PyCache(adapter).session() as session:
            await session.batch_set({"a": String("1"), "b": List([1])})
            assert await session.batch_get({"a": "string", "b": List([])}) == {"a": "1", "b": [1]}
            with pytest.raises(KindError):
                await session.batch_get({"a": "map"})
            for wrong in ("strng", int, 7):
                with pytest.raises(TypeError, match="datatype must be"):
                    await session.get("a", wrong)  # type: ignore[arg-type]

    asyncio.run(main())


def snapshots_in(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.snapshot"))


def test_snapshots_have_the_data(tmp_path: Path) -> None:
    config = SnapshotConfig(dir=str(tmp_path), min_changes=1, interval_hours=0, max_snapshots=3)

    async def fill() -> None:
        cache = PyCache(InMemory("memory://", snapshot=True, snapshot_config=config))
        async with cache.session() as session:
            await session.batch_set({"text": String("007"), "set": Set({1, 2}), "bytes": List([b"x", (1, 2)])})
            await session.set("short", String("x"))
            await session.set_expire("short", 100)
        # One that is opened beside it has the same data.
        async with PyCache(InMemory(snapshot=True, snapshot_config=config)).session() as session:
            assert await session.get("text") == "007"
            await session.delete("text")
            await session.set("number", Numeric(1))

    asyncio.run(fill())
    assert 1 <= len(snapshots_in(tmp_path)) <= 3
    with snapshots_in(tmp_path)[-1].open("rb") as file:
        assert Reader(file).load() == {"set": {1, 2}, "bytes": [b"x", (1, 2)], "short": "x", "number": 1}

    async def look() -> None:
        cache = PyCache(InMemory(snapshot=True, snapshot_config=config))
        async with cache.session() as session:
            assert sorted(await session.keys()) == ["bytes", "number", "set", "short"]
            assert 90 < (await session.get_expire("short") or 0) <= 100

    asyncio.run(look())
    gc.collect()
    program = (
        "import asyncio\n"
        "from flexcache_rs.pycache.adapters import InMemory\n"
        "from flexcache_rs.pycache.py_cache import PyCache\n"
        "from flexcache_rs.pycache.snapshot import SnapshotConfig\n"
        f"config = SnapshotConfig(dir={str(tmp_path)!r})\n"
        "async def main():\n"
        "    async with PyCache(InMemory(snapshot=True, snapshot_config=config)).session() as session:\n"
        "        print(await session.get('number'))\n"
        "asyncio.run(main())\n"
    )
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert other.stdout == "1\n"
    with pytest.raises(TypeError, match="snapshot_config"):
        InMemory(snapshot=True, snapshot_config={})  # type: ignore[arg-type]
    assert SnapshotConfig(dir="d", auto=False).options()["snapshot_after"] == 0
    with pytest.raises(TypeError, match="interval_hours must be an int or a float, not str"):
        SnapshotConfig(interval_hours="1").options()  # type: ignore[arg-type]


PROCESS = """
import asyncio, sys
from flexcache_rs.pycache.adapters import SQLite
from flexcache_rs.pycache.decorators import cache, rate_limit
place = SQLite(sys.argv[1])

@rate_limit(limit=10, ttl=3600, adapter=place, get_key=lambda: "api")
async def limited():
    return 1

@cache(adapter=place)
async def computed(key):
    with open(sys.argv[2], "a") as file:
        file.write("x")
    await asyncio.sleep(0.05)
    return None

async def main():
    results = await asyncio.gather(*(limited() for _ in range(20)), return_exceptions=True)
    await asyncio.gather(*(computed("key") for _ in range(10)))
    print(results.count(1))
asyncio.run(main())
"""


def test_processes_compute_once_and_count_together(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    program = tmp_path / "program.py"
    program.write_text(PROCESS)
    command = [sys.executable, str(program), str(tmp_path / "cache.db"), str(calls)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert sum(int(process.communicate()[0]) for process in processes) == 10
    assert calls.read_text() == "x"


def test_the_sql_builder() -> None:
    query = Composed([SQL("SELECT "), Identifier("na`me"), SQL(" FROM "), Identifier("users")])
    assert (query + SQL(" WHERE x = ") + Placeholder("?")).to_string() == "SELECT `na``me` FROM `users` WHERE x = ?"
    values = [Literal(value).to_string() for value in ("it's", 42, 3.5, True, None, [1])]
    assert values == ["'it''s'", "42", "3.5", "1", "NULL", "[1]"]
    assert Placeholder().to_string() == "%s"
    formatted = SQL("{a}{b}!").format(a=Identifier("x"), b=Composed([SQL("y")]))
    assert formatted.to_string() == "`x`y!"
    wrong: list[Any] = [
        lambda: SQL(1),  # type: ignore[arg-type]
        lambda: Identifier(None),  # type: ignore[arg-type]
        lambda: Placeholder(1),  # type: ignore[arg-type]
        lambda: Composed(["x"]),
        lambda: SQL("{0}").format(Identifier("x")),
        lambda: SQL("{a!r}").format(a=Identifier("x")),
    ]
    for call in wrong:
        with pytest.raises(TypeError):
            call()
    with pytest.raises(NotImplementedError):
        SQL("a") + "b"  # type: ignore[operator]


@pytest.mark.usefixtures("temporary_files")
@pytest.mark.parametrize("module", [flexcache_rs.pycache, flexcache_rs.pycache.sql], ids=lambda module: module.__name__)
def test_examples_in_docstrings(module: Any) -> None:
    results = doctest.testmod(module)
    assert results.attempted
    assert not results.failed
