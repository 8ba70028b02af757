"""Shards: which of them has a key, and calls on several of them."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any

import pytest
from session_places import SERVERS, URLS

from flexcache_rs.sessions import ClosedError, CodecError, CrossShardError, KindError, ShardError, Unavailable, connect
from flexcache_rs.sessions import sync as now

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_numbers = itertools.count()


@pytest.fixture
def urls() -> list[str]:
    return [f"memory://shard-{next(_numbers)}" for _ in range(3)]


@pytest.fixture
def session(urls: list[str]) -> Iterator[now.Session]:
    with now.connect(urls) as session:
        yield session


def test_keys_lie_on_all_shards_and_are_found(session: now.Session, urls: list[str]) -> None:
    keys = [f"key:{number}" for number in range(300)]
    assert session.set_many({key: key for key in keys}) == 300
    counts = []
    for url in urls:
        with now.connect(url) as one:
            counts.append(one.count())
    assert sum(counts) == session.count() == 300
    assert min(counts) > 60
    assert session.get_many(["none", *keys]) == {key: key for key in keys}
    assert list(session.keys()) == sorted(keys)
    assert [len(page) for page in session.scan(count=100)] == [100, 100, 100]
    assert session.delete(*keys[:10], "none") == 10
    # The order of the URLs does not matter.
    with now.connect(urls[::-1]) as other, now.connect("shards://?to=" + "&to=".join(urls)) as third:
        assert other.get_many(keys) == third.get_many(keys) == {key: key for key in keys[10:]}
    assert session.clear() == 290
    assert session.stats()["backend"] == "shards"


def test_another_shard_takes_its_share_and_nothing_else_moves(urls: list[str]) -> None:
    keys = [f"key:{number}" for number in range(2000)]

    def places(several: list[str]) -> dict[str, str]:
        with now.connect(several) as session:
            backend: Any = session._backend
            return {key: backend.shard_of(key) for key in keys}

    before, after = places(urls), places([*urls, "memory://one-more"])
    moved = {key for key in keys if before[key] != after[key]}
    assert {after[key] for key in moved} == {"memory://one-more"}
    assert 0.7 / 4 < len(moved) / len(keys) < 1.3 / 4


def test_a_name_does_not_depend_on_the_password() -> None:
    from flexcache_rs.sessions._sharded import name_of

    assert name_of("redis://user:secret@host:1/2?ssl_ca_certs=x") == "redis://host:1/2"
    assert name_of("mysql://a:b@host/db?unix_socket=%2Fs") == "mysql://host/db?unix_socket=%2Fs"


def apart(session: now.Session) -> tuple[str, str]:
    """Return two keys of different shards."""
    backend: Any = session._backend
    return "a", next(key for key in map(str, range(100)) if backend.shard_of(key) != backend.shard_of("a"))


def test_a_transaction_belongs_to_one_shard(session: now.Session) -> None:
    one, other = apart(session)
    with session.transaction() as t:
        t.set(one, 1)
        with pytest.raises(CrossShardError, match="belongs to the shard"):
            t.set(other, 1)
        with pytest.raises(CrossShardError):
            session.get_many([one, other])
        with pytest.raises(CrossShardError, match="count"):
            session.count()
    assert session.get_many([one, other]) == {one: 1}
    with session.transaction() as outer, session.transaction() as inner:
        inner.set("{tag}:1", 1)
        outer.set("{tag}:2", 2)
    assert session.get_many(["{tag}:1", "{tag}:2"]) == {"{tag}:1": 1, "{tag}:2": 2}
    with pytest.raises(ZeroDivisionError), session.transaction() as t:
        t.incr("{tag}:1")
        with pytest.raises(KeyError), session.transaction() as inner:
            inner.set("{tag}:2", 0)
            raise KeyError
        assert t.get("{tag}:2") == 2
        raise ZeroDivisionError
    assert session.get("{tag}:1") == 1
    with session.transaction():
        pass


def test_calls_that_need_keys_of_several_shards(session: now.Session) -> None:
    one, other = apart(session)
    session.set_many({one: {1}, other: {2}})
    for call in (lambda: session.rename(one, other), lambda: session.set_of(one).union(other)):
        with pytest.raises(CrossShardError, match="on different shards"):
            call()
    assert session.get_many([one, other]) == {one: {1}, other: {2}}
    assert session.rename("x", "x") is False
    session.set_many({"{s}1": {1}, "{s}2": {2}})
    assert session.set_of("{s}1").union("{s}2") == {1, 2}
    with pytest.raises(CodecError):
        session.set_many({one: 1, other: object()})
    assert session.get(one) == {1}
    with pytest.raises(KindError):
        session.list(one).push(1)


def test_handles_limits_and_values_computed_once(session: now.Session) -> None:
    jobs = session.queue("jobs")
    jobs.push(1, 2, 3)
    job = jobs.reserve()
    assert job is not None
    assert job.ack()
    assert list(jobs.pages(1)) == [[2], [3]]
    assert [session.limiter("api", 2, 60).hit(str(n % 2)).allowed for n in range(6)] == [True] * 4 + [False] * 2
    with session.lock("lock"):
        assert session.get_or_set("page", lambda: 7) == 7


def test_shards_of_which_one_fails(tmp_path: Path, urls: list[str]) -> None:
    pytest.importorskip("redis")
    broken = f"unix://{tmp_path}/none"
    with now.connect({"well": urls[0], "broken": broken}) as session:
        backend: Any = session._backend
        keys = [f"key:{number}" for number in range(20)]
        well = [key for key in keys if backend.shard_of(key) == "well"]
        with pytest.raises(ShardError) as raised:
            session.set_many(dict.fromkeys(keys, 1))
        assert sorted(raised.value.done) == sorted(well)
        assert sorted(raised.value.failed) == sorted(set(keys) - set(well))
        assert all(isinstance(error, Unavailable) for error in raised.value.failed.values())
        assert session.get_many(well) == dict.fromkeys(well, 1)
        with pytest.raises(ShardError) as raised:
            session.count()
        assert (raised.value.done, list(raised.value.failed)) == (["well"], ["broken"])
        with pytest.raises(Unavailable):
            session.get(next(iter(set(keys) - set(well))))

    async def main() -> None:
        async with connect({"well": urls[0], "broken": broken}) as awaited:
            with pytest.raises(ShardError) as raised:
                await awaited.get_many(keys)
            assert sorted(raised.value.done) == sorted(well)

    asyncio.run(main())


def test_shards_of_different_backends(tmp_path: Path, urls: list[str]) -> None:
    places = [urls[0], f"disk://{tmp_path}/data", *(URLS[name](tmp_path) for name in SERVERS)]

    async def main() -> None:
        async with connect(places) as session:
            await session.set_many({str(number): [number] for number in range(60)}, ttl=60)
            found = await session.get_many([str(number) for number in range(60)])
            assert found == {str(number): [number] for number in range(60)}
            assert [key async for key in session.keys()] == sorted(map(str, range(60)))
            async with session.transaction() as t:
                await t.list("7").push(8)
                async with session.transaction():
                    await t.list("7").push(9)
            assert await session.get("7") == [7, 8, 9]
            assert await session.clear() == 60

    asyncio.run(main())


@pytest.mark.parametrize("failing", [0, 1, 2])
@pytest.mark.parametrize("raised", [Unavailable, asyncio.CancelledError])
def test_all_shards_are_closed_if_closing_one_fails(
    tmp_path: Path, failing: int, raised: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    urls = [f"sqlite://{tmp_path}/{number}.db" for number in range(3)]

    def refuse() -> None:
        raise raised

    async def arefuse() -> None:
        raise raised

    async def main() -> list[Any]:
        session = connect(urls)
        await session.set("key", 1)
        shards: list[Any] = list(session._backend._shards.values())  # type: ignore[attr-defined]
        with monkeypatch.context() as patch, pytest.raises(raised):
            patch.setattr(shards[failing], "aclose", arefuse)
            await session.aclose()
        return shards

    session = now.connect(urls)
    backend: Any = session._backend
    own: list[Any] = list(backend._shards.values())
    with monkeypatch.context() as patch, pytest.raises(raised):
        patch.setattr(own[failing], "close", refuse)
        session.close()
    for shards in (own, asyncio.run(main())):
        assert [shard._native is None for shard in shards] == [number != failing for number in range(3)]
        shards[failing].close()


def test_a_session_whose_end_is_cancelled_is_closed(tmp_path: Path) -> None:
    """The task is cancelled while the lease of a computation is given back."""

    async def main() -> None:
        session: Any = connect(f"sqlite://{tmp_path}/sessions.db")
        await session.set("key", 1)
        begun = asyncio.Event()

        class Computation:
            async def _give_back(self) -> None:
                begun.set()
                await asyncio.Event().wait()

        session._computing = [Computation()]
        closing = asyncio.ensure_future(session.aclose())
        await begun.wait()
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        with pytest.raises(ClosedError):
            await session.get("key")

    asyncio.run(main())


@pytest.mark.parametrize("backend", [name for name in URLS if name == "disk" or name in SERVERS])
def test_tasks_that_make_the_first_call_of_a_transaction_share_it(backend: str, tmp_path: Path) -> None:
    keys = [f"{{same}}:{number}" for number in range(5)]

    async def main() -> None:
        urls = {"one": URLS[backend](tmp_path), "two": f"memory://shard-{next(_numbers)}"}
        async with connect(urls) as session:
            shards: Any = session._backend
            same = next(f"{{{number}}}" for number in itertools.count() if shards.shard_of(f"{{{number}}}") == "one")
            names = [key.replace("{same}", same) for key in keys]
            async with session.transaction() as t:
                await asyncio.gather(*(t.set(name, 1) for name in names))
                async with session.transaction() as inner:
                    await asyncio.gather(*(inner.incr(name) for name in names))
            assert await session.get_many(names) == dict.fromkeys(names, 2)
            # Without a rest of another transaction, which would hold a lock.
            assert await session.set(names[0], 3)

    asyncio.run(main())


def test_tasks_that_begin_a_transaction_on_several_shards(urls: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with connect(urls) as session:
            shards: Any = session._backend
            keys = [next(key for key in map(str, itertools.count()) if shards.shard_of(key) == url) for url in urls]
            for shard in shards._shards.values():
                begin = shard.abegin

                async def abegin(begin: Any = begin) -> Any:
                    await asyncio.sleep(0)
                    return await begin()

                monkeypatch.setattr(shard, "abegin", abegin)
            results: list[Any] = []
            async with session.transaction() as t:
                results += await asyncio.gather(*(t.set(key, 1) for key in keys), return_exceptions=True)
            assert [result is True for result in results] == [True, False, False]
            assert all(isinstance(result, CrossShardError) for result in results[1:])
            assert await session.get_many(keys) == {keys[0]: 1}

    asyncio.run(main())
