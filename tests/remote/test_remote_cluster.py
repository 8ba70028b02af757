"""A cluster of three primaries. Each has a listener, and copies are served only while all listeners work."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import redis
import redis.asyncio.cluster
import valkey
import valkey.asyncio.cluster
from loops import connected
from own_cluster import OwnCluster
from scale import SCALE, scaled
from waiting import BRIEF, until

from flexcache_rs.remote import RemoteCache, RemoteError
from flexcache_rs.remote.connections import Borrowed
from flexcache_rs.remote.listener import Listener

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Make = "Callable[..., Any]"

STALENESS = 0.5
"""Seconds."""

CLIENTS: dict[str, Callable[[int], Any]] = {
    "redis": lambda port: redis.cluster.RedisCluster(host="127.0.0.1", port=port),
    "redis-asyncio": lambda port: redis.asyncio.cluster.RedisCluster(host="127.0.0.1", port=port),
    "redis-url": lambda port: redis.cluster.RedisCluster.from_url(f"redis://127.0.0.1:{port}", protocol=3),
    "valkey": lambda port: valkey.cluster.ValkeyCluster(host="127.0.0.1", port=port),
    "valkey-asyncio": lambda port: valkey.asyncio.cluster.ValkeyCluster(host="127.0.0.1", port=port),
}


@pytest.fixture(scope="module")
def cluster(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnCluster]:
    with OwnCluster(tmp_path_factory.mktemp(engine), engine) as started:
        yield started


@pytest.fixture
def make(cluster: OwnCluster, patience: dict[str, float]) -> Iterator[Callable[..., Any]]:
    made: list[Any] = []

    def make(client: str = "redis", **options: Any) -> Any:
        live = next(server for server in cluster.servers if server.process and server.process.poll() is None)
        given: Any = CLIENTS[client](live.port)
        made.append(RemoteCache(given, "test", **{"max_staleness": STALENESS, **patience, "timeout": 2.0, **options}))
        until(lambda: made[-1].stats().is_live)
        return made[-1]

    yield make
    for cache in made:
        cache.close()


def in_memory(cache: Any, key: Any) -> bool:
    """Return True if memory serves a key."""
    return cache._near._get_from_memory(key, None) is not None


def primary_of(cluster: OwnCluster, cache: Any, key: Any) -> Any:
    """Return the server that has a key."""
    port = cache._client._owners[cache._client._slot_of(cache._store.keys.value(key))][1]
    return next(server for server in cluster.servers if server.port == port)


@pytest.mark.parametrize("client", CLIENTS)
def test_clients_of_a_cluster(make: Make, client: str) -> None:
    """All calls work whichever servers have the keys, and writes of others are seen."""
    cache, other = make(client), make()
    cache.purge()
    keys = [f"key {number}" for number in range(30)]
    cache.set_many(dict.fromkeys(keys, 1), tags=("tag",))
    until(lambda: all(cache.get(key) == 1 and in_memory(cache, key) for key in keys))
    for key in keys:
        other[key] = 2
    until(lambda: all(cache.get(key) == 2 for key in keys))
    assert cache.get_many(keys) == dict.fromkeys(keys, 2)
    assert sorted(cache.scan("key ")) == sorted(keys)
    assert cache.incr("n", 5) == cache.incr("m", 5) == 5
    assert cache.add("a", 1, tags=("tag",))
    assert not other.add("a", 2)
    assert cache.touch("a", 100)
    assert 0 < cache.ttl("a") <= 100
    assert cache.compare_and_set("a", 1, 3)
    assert (cache.pop("a"), other.get("a")) == (3, None)
    assert cache.get_or_set("computed", lambda: 7, tags=("tag",)) == other.get_or_set("computed", lambda: 8) == 7
    with cache.lock("lock") as lock:
        assert lock.fence is not None
        assert not other.lock("lock", timeout=0).acquire()
    assert cache.limiter("limit", 1, per=60).hit().allowed
    assert not other.limiter("limit", 1, per=60).hit().allowed
    assert cache.delete_many(keys[:15]) == 15
    other.evict_tag("tag")
    until(lambda: cache.get("computed") is None)
    other.clear()
    until(lambda: cache.get_many(keys) == {})
    assert other.purge() > 0
    assert list(cache.scan()) == []


def test_what_was_read_is_forgotten_if_one_connection_is_out_of_step(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wrong:
        _sock = None

        def exchange(self, *_: Any) -> list[int]:
            return [5]

        def disconnect(self) -> None:
            """Do nothing."""

    cache, wrong = make(near=None), Wrong()
    cache["key"] = 1
    client, tracker, place = cache._client, cache._store.tracker, cache._store.keys.value("key")
    stamps: list[int] = []

    def is_live() -> bool:
        stamps[:] = [tracker.stamp(place)]
        return bool(tracker.is_live(stamps[0]))

    until(is_live)
    node = client.node(client._owners[client._slot_of(place)])
    monkeypatch.setattr(node, "_get", lambda: Borrowed(node._connections, wrong, wrong))  # type: ignore[arg-type]
    with pytest.raises(RemoteError, match="reply to GET"):
        client.execute("GET", place)
    assert not tracker.is_live(stamps[0])


def test_a_call_after_the_end_leaves_no_connection(make: Make, cluster: OwnCluster) -> None:
    """It leaves none, not even to a server to which nothing was sent before."""
    client = make()._client
    client.close()
    client._nodes.clear()
    assert client.execute("GET", b"key") is None
    assert client._nodes
    for node in client._nodes.values():
        assert node._connections.open() == []


def test_clients_that_are_refused(cluster: OwnCluster) -> None:
    port = cluster.servers[0].port
    strategy = redis.cluster.LoadBalancingStrategy.RANDOM
    for client in (
        redis.cluster.RedisCluster(host="127.0.0.1", port=port, load_balancing_strategy=strategy),
        valkey.cluster.ValkeyCluster(host="127.0.0.1", port=port, read_from_replicas=True),
    ):
        with pytest.raises(ValueError, match="replicas"):
            RemoteCache(client, "test")
    with pytest.raises(RemoteError, match="is of a cluster"):
        RemoteCache(redis.Redis(port=port), "test", on_error="miss", timeout=2.0)


def test_a_listener_that_is_killed(make: Make, cluster: OwnCluster) -> None:
    """No copy of any server's entries is served until the listener works again."""
    cache, other = make(max_staleness=30), make()
    keys = [f"killed {number}" for number in range(30)]
    cache.set_many(dict.fromkeys(keys, 1))
    for number in range(3):
        until(lambda: all(cache.get(key) == 1 and in_memory(cache, key) for key in keys))
        reconnects = cache.stats().reconnects
        with contextlib.closing(cluster.servers[number].client()) as raw:
            raw.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            raw.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        until(lambda: cache.stats().reconnects > reconnects)
        until(lambda: cache.stats().is_live)
        other[keys[number]] = 2
        until(lambda: cache.get(keys[number]) == 2)
        other[keys[number]] = 1


def test_a_listener_that_could_not_be_started_is_started_later(
    make: Make, cluster: OwnCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There was no thread for it, and the call that needed it failed. Copies are served again when there is one."""
    cache = make()
    group = cache._listener
    address, member = next(iter(group._members.items()))
    # As if the server had just become one of the cluster.
    with group._lock:
        del group._members[address]
        group._forget(member)
    member.stop()

    def refuse(self: Any) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch, pytest.raises(RuntimeError):
        patch.setattr(Listener, "ensure", refuse)
        group._send_on(address)
    until(lambda: group._members[address].connects)
    until(lambda: cache.stats().is_live)


def test_no_copies_differ(make: Make, cluster: OwnCluster) -> None:
    """Several writers and readers agree in the end, even though their connections are killed."""
    caches = [make() for _ in range(3)]
    keys = range(50)

    def work(number: int, cache: Any) -> None:
        for count in range(scaled(5_000)):
            key = (count * (2 * number + 1)) % 50
            with contextlib.suppress(RemoteError):
                if count % 10 == number:
                    cache[key] = (number, count)
                else:
                    cache.get(key)

    threads = [threading.Thread(target=work, args=each) for each in enumerate(caches)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        for server in cluster.servers[:3]:
            with contextlib.closing(server.client()) as raw:
                raw.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        threads[0].join(0.3)
    for thread in threads:
        thread.join()
    until(lambda: all(cache.stats().is_live and not cache.stats().is_breaker_open for cache in caches))
    until(lambda: all(cache.get(key) == cache.fresh(key) for cache in caches for key in keys))


def test_slots_that_move(make: Make, cluster: OwnCluster) -> None:
    """While a slot moves and after that, writes are seen, and no read returns an older value than before."""
    cache, other = make(), make()
    other["moving"] = 0
    until(lambda: cache.get("moving") == 0 and in_memory(cache, "moving"))
    slot = cache._client._slot_of(cache._store.keys.value("moving"))
    source = primary_of(cluster, cache, "moving")
    target = next(server for server in cluster.servers[:3] if server is not source)
    number = {server.port: cluster.id(place) for place, server in enumerate(cluster.servers)}
    with contextlib.ExitStack() as stack:
        raw = {s.port: stack.enter_context(contextlib.closing(s.client())) for s in cluster.servers}

        def written_and_seen(value: int) -> None:
            other["moving"] = value
            until(lambda: cache.get("moving") == value)
            until(lambda: cache.get("moving") == value and in_memory(cache, "moving"))

        def set_slot(server: Any, how: str, port: int) -> None:
            raw[server.port].execute_command("CLUSTER", "SETSLOT", slot, how, number[port])

        for before, after in ((source, target), (target, source)):
            set_slot(after, "IMPORTING", before.port)
            set_slot(before, "MIGRATING", after.port)
            written_and_seen(1)
            place = cache._store.keys.value("moving")
            raw[before.port].execute_command("MIGRATE", "127.0.0.1", after.port, place, 0, 5000)
            # Both servers send the other's commands on.
            written_and_seen(2)
            assert cache.incr("moving") == 3
            assert cache.delete("moving")
            written_and_seen(4)
            for server in (after, before, *cluster.servers[:3]):
                set_slot(server, "NODE", after.port)
            written_and_seen(5)
            until(lambda: primary_of(cluster, cache, "moving") is after)
            written_and_seen(6)


def test_many_slots_that_move_under_writes(make: Make, cluster: OwnCluster) -> None:
    """No read returns an older value than before, and in the end all caches agree."""
    cache, other, awaited = make(l1_ttl=3600), make(), make(near=None, timeout=60.0)
    source, target = cluster.servers[1], cluster.servers[2]
    keys = [f"many {number}" for number in range(scaled(900))]
    keys = [key for key in keys if primary_of(cluster, cache, key) is source]
    other.set_many(dict.fromkeys(keys, 0))
    ids = {server.port: cluster.id(place) for place, server in enumerate(cluster.servers)}
    is_over, failed = threading.Event(), []

    def write() -> None:
        count = 0
        while not is_over.is_set():
            count += 1
            for key in keys:
                with contextlib.suppress(RemoteError):
                    other[key] = count

    def read() -> None:
        last = dict.fromkeys(keys, 0)
        while not is_over.is_set():
            for key in keys:
                with contextlib.suppress(RemoteError):
                    found = cache.get(key)
                    if found is None or found < last[key]:
                        failed.append((key, last[key], found))
                    last[key] = found or 0

    async def read_awaited() -> None:
        last = dict.fromkeys(keys, 0)
        while not is_over.is_set():
            for key, found in zip(keys, await asyncio.gather(*map(awaited.aget, keys)), strict=True):
                if found is None or found < last[key]:
                    failed.append((key, last[key], found))
                last[key] = found or 0

    threads = [threading.Thread(target=work) for work in (write, read, lambda: asyncio.run(read_awaited()))]
    for thread in threads:
        thread.start()
    with contextlib.ExitStack() as stack:
        raw = {s.port: stack.enter_context(contextlib.closing(s.client())) for s in cluster.servers}
        for key in keys:
            slot = cache._client._slot_of(cache._store.keys.value(key))
            raw[target.port].execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source.port])
            raw[source.port].execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target.port])
            while left := raw[source.port].execute_command("CLUSTER", "GETKEYSINSLOT", slot, 100):
                command = ("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *left)
                raw[source.port].execute_command(*command)
            for server in (target, source, cluster.servers[0]):
                raw[server.port].execute_command("CLUSTER", "SETSLOT", slot, "NODE", ids[target.port])
    is_over.set()
    for thread in threads:
        thread.join()
    assert not failed
    until(lambda: cache.stats().is_live)
    until(lambda: all(cache.get(key) == cache.fresh(key) for key in keys))


def test_awaited_reads_need_no_thread(make: Make, cluster: OwnCluster, no_thread: Callable[[], None]) -> None:
    """Each read goes to the server that has its key."""
    cache = make(near=None)

    async def main() -> None:
        for number in range(8):
            await connected(cache, f"awaited {number}")
        assert len({primary_of(cluster, cache, f"awaited {number}").port for number in range(8)}) == 3
        no_thread()
        assert await asyncio.gather(*(cache.aget(f"awaited {number}") for number in range(8))) == [1] * 8

    asyncio.run(main())


def test_awaited_calls_of_many_keys_need_no_thread(
    make: Make, cluster: OwnCluster, no_thread: Callable[[], None]
) -> None:
    """Each server gets the commands for its keys."""
    cache, other = make(), make()
    # Not the keys whose slots another test moves.
    values = {f"each {number}": number for number in range(900)}
    for server in cluster.servers[:3]:
        key = next(key for key in values if primary_of(cluster, other, key) is server)
        other[key] = 1
        # The server has the scripts.
        assert (other.incr(key), other.touch(key, 1), other.compare_and_set(key, 2, 1)) == (2, True, True)

    async def main() -> None:
        for key in values:
            if key.endswith("00"):
                await connected(cache, key)
        with contextlib.closing(primary_of(cluster, cache, "a list").client()) as raw:
            raw.rpush("test:{a list}", "a")
        no_thread()
        await cache.aset_many(values, ttl=100)
        assert other.get_many(values) == values
        assert await cache.aget_many([*values, "absent", "a list"]) == values
        for key in list(values)[::300]:
            assert await cache.aincr(key) == values[key] + 1
            assert await cache.atouch(key, 200)
            assert 195 < await cache.attl(key) <= 200
            assert not await cache.aadd(key, 7)
            assert await cache.acompare_and_set(key, values[key] + 1, 8)
            assert other.fresh(key) == 8

    asyncio.run(main())
    assert cache.delete_many(values) == len(values)
    cache.purge()


def test_a_child_listens_on_its_own(make: Make) -> None:
    parent = make()
    parent["child"] = 1
    until(lambda: parent.get("child") == 1 and in_memory(parent, "child"))
    child = os.fork()
    if child == 0:
        try:
            told = not in_memory(parent, "child") and parent["child"] == 1
            until(lambda: parent.stats().is_live)
            parent["child"] = 2
            os._exit(0 if told and parent["child"] == 2 else 2)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    until(lambda: parent["child"] == 2)


def test_a_primary_that_dies_is_replaced(make: Make, cluster: OwnCluster) -> None:
    """No copy is served until the replica has taken over. Writes to the replica are then seen."""
    cache, other = make(on_error="miss", timeout=BRIEF), make(on_error="miss", timeout=BRIEF)
    first, replica = cluster.servers[0], cluster.servers[3]
    key = next(f"dies {n}" for n in range(100) if primary_of(cluster, cache, f"dies {n}") is first)
    other[key] = 1
    until(lambda: cache.get(key) == 1 and in_memory(cache, key))
    with contextlib.closing(first.client()) as raw:
        raw.execute_command("WAIT", 1, 5000)
    cluster.allow_failover()
    first.kill()
    until(lambda: not in_memory(cache, key))
    until(lambda: cache.stats().is_live and primary_of(cluster, cache, key) is replica)
    began = time.monotonic()
    for value in range(2, 5):
        until(lambda: (other.put(key, value), other.fresh(key) == value)[1])
        until(lambda: cache.get(key) == value)
    assert time.monotonic() - began < 30
    until(lambda: cache.get(key) == 4 and in_memory(cache, key))
    assert SCALE > 0
