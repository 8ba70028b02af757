"""The valid and invalid arguments for `client`."""

from __future__ import annotations

import asyncio
import importlib
import pickle
import pkgutil
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis
import valkey
from waiting import until

from flexcache_rs._metrics import METRICS, readings
from flexcache_rs.remote import RemoteCache, RemoteError
from flexcache_rs.remote.failures import refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from own_server import Server

Make = "Callable[..., Any]"

CLIENTS: dict[str, Callable[[str], Any]] = {
    "redis": lambda path: redis.Redis(unix_socket_path=path),
    "decoding": lambda path: redis.Redis(unix_socket_path=path, decode_responses=True, protocol=3),
    "old": lambda path: redis.Redis(unix_socket_path=path, protocol=2),
    "asyncio": lambda path: redis.asyncio.Redis(unix_socket_path=path),
    "valkey": lambda path: valkey.Valkey(unix_socket_path=path),
    "valkey-asyncio": lambda path: valkey.asyncio.Valkey(unix_socket_path=path),
    "url": lambda path: f"unix://{path}",
}


@pytest.mark.parametrize("client", CLIENTS)
def test_clients(make: Make, server: Server, client: str) -> None:
    cache, other = make(CLIENTS[client](server.path)), make()
    cache["key"] = 1
    until(lambda: cache["key"] == 1 and cache._near._get_from_memory("key", None) == 1)
    other["key"] = 2
    until(lambda: cache["key"] == 2)
    assert asyncio.run(cache.aget("key")) == 2


@pytest.mark.parametrize(
    ("client", "error", "named"),
    [
        (None, TypeError, "client must be a URL"),
        (object(), TypeError, "client must be a URL"),
        ("http://localhost", ValueError, "valkey://"),
        (redis.Redis(protocol=3, cache_config=redis.cache.CacheConfig()), ValueError, "cache_config"),
        (redis.Sentinel([("localhost", 1)]).master_for("x"), RemoteError, "^Sentinel names no primary of 'x'"),
        (redis.Sentinel([("localhost", 1)]).slave_for("x"), ValueError, "replicas"),
    ],
    ids=["none", "object", "url", "cache", "sentinel", "replica"],
)
def test_clients_that_are_refused(make: Make, server: Server, client: Any, error: Any, named: str) -> None:
    from flexcache_rs.remote import RemoteCache

    with pytest.raises(error, match=named):
        RemoteCache(client, "test")


def test_a_wrong_password(make: Make, server: Server, raw: Any) -> None:
    raw.config_set("requirepass", "secret")
    try:
        with pytest.raises(RemoteError, match=r"password|NOAUTH|Authentication"):
            make(on_error="miss")
        with pytest.raises(RemoteError, match="password"):
            make(server.client(password="wrong"), on_error="miss")
        cache = make(server.client(password="secret"))
        cache["key"] = 1
        until(lambda: cache["key"] == 1 and cache.stats().is_live)
    finally:
        with server.client(password="secret") as client:
            client.config_set("requirepass", "")


RIGHTS = (
    *("~test:*", "~test#:*", "-@all", "+hello", "+time", "+client|setname", "+client|tracking"),
    *(
        "+client|id",
        "+get",
        "+mget",
        "+getrange",
        "+set",
        "+setrange",
        "+del",
        "+unlink",
        "+scan",
        "+persist",
        "+pexpireat",
    ),
    *("+zadd", "+zcard", "+zrange", "+zremrangebyscore"),
    *("+pexpire", "+pttl", "+incr", "+multi", "+exec", "+evalsha", "+eval", "+auth", "+select", "+ping"),
)
"""What docs/remote.md says that a cache needs."""


def test_the_rights_that_the_documentation_names_are_enough(make: Make, server: Server, raw: Any) -> None:
    raw.execute_command("ACL", "SETUSER", "cache", "on", ">secret", "resetkeys", *RIGHTS)
    cache = make(server.client(username="cache", password="secret"))
    cache.put("key", 1, ttl=60, tags=["t"])
    assert cache["key"] == 1
    assert cache.touch("key")
    assert cache.incr("n") == cache.incr("m") == 1
    assert cache.incr("n") == 2
    assert cache.get_or_set("o", lambda: 3) == 3
    assert cache.compare_and_set("o", 3, 4)
    assert cache.add("p", 5)
    assert cache.pop("p") == 5
    # A key that is being computed has only a lease.
    raw.set("test#:{computed}l", b"L" + bytes(16))
    assert not cache.delete("computed")
    with cache.lock("l"):
        assert cache.limiter("r", 1).hit().allowed
        assert cache.limiter("r", 1, algorithm="sliding_window").hit().allowed
    cache.evict_tag("t")
    cache.clear()
    assert cache.add("key", 2)
    assert cache.delete_many(["key"]) == 1
    assert cache.purge() > 0
    until(lambda: cache.stats().is_live)


def test_a_server_that_does_not_tell_what_is_written(make: Make, server: Server, raw: Any) -> None:
    raw.execute_command("ACL", "SETUSER", "cache", "on", ">secret", "allkeys", "+@all", "-client|tracking")
    with pytest.raises(RemoteError, match="tell what is written") as raised:
        make(server.client(username="cache", password="secret"), on_error="miss")
    assert raised.type is RemoteError


def test_a_memoized_function_keeps_its_cache_coherent(make: Make, server: Server) -> None:
    """The listener lives as long as any object whose copies it keeps coherent."""
    program = f"""
import gc, redis, threading
from flexcache_rs.remote import RemoteCache
cache = RemoteCache(redis.Redis(unix_socket_path={server.path!r}), "test")
function = cache.memoize(name="f")(lambda n: n)
listening = lambda: sum(thread.name == "flexcache-remote" and thread.is_alive() for thread in threading.enumerate())
del cache
gc.collect()
print(listening(), function(1))
del function
gc.collect()
print(listening())
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert run.stdout.split() == ["1", "1", "0"], run.stderr


def test_a_cache_that_is_never_closed(server: Server, lane: str) -> None:
    """The last functions that run at the end of the process may use it."""
    program = f"""
import atexit, redis
atexit.register(lambda: print(cache["key"]))
from flexcache_rs.remote import RemoteCache
cache = RemoteCache(redis.Redis(unix_socket_path={server.path!r}), "test", lane={lane!r})
cache["key"] = 1
"""
    run = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=60)
    assert (run.stdout, run.stderr) == ("1\n", "")


@pytest.mark.parametrize(
    ("arguments", "error", "named"),
    [
        ({"on_error": "ignore"}, ValueError, "on_error must be"),
        ({"max_staleness": 0}, ValueError, "max_staleness must be"),
        ({"timeout": -1}, ValueError, "timeout must be"),
        ({"timeout": "1"}, TypeError, "timeout must be"),
        ({"l1_ttl": float("nan")}, ValueError, "l1_ttl must"),
        ({"serializer": "yaml"}, ValueError, "serializer must be"),
        ({"serializer": 5}, TypeError, "serializer must"),
        ({"ttl_jitter": 2}, ValueError, "ttl_jitter must be from 0 to 1"),
        ({"ttl_jitter": "1"}, TypeError, "ttl_jitter must be a number"),
        ({"compression": "gzip"}, ValueError, "compression must be"),
        ({"compression": True}, TypeError, "compression must be"),
        ({"near": {"store": 1}}, ValueError, "near must not have 'store'"),
        ({"near": {"max_item": 1}}, TypeError, "max_items"),
        ({"near": 100}, TypeError, r"near must be a mapping of options of FlexCache or None, not int \(100\)"),
        ({"near": 0}, TypeError, r"near must be a mapping .* not int \(0\)"),
        ({"max_stalness": 1}, TypeError, "max_staleness"),
        ({"namespace": 5}, TypeError, "namespace must be a str"),
    ],
    ids=str,
)
def test_arguments_that_are_refused(make: Make, arguments: Any, error: Any, named: str) -> None:
    with pytest.raises(error, match=named):
        make(**arguments)


def test_subclasses(make: Make, server: Server) -> None:
    from flexcache_rs.remote import RemoteCache

    class Own(RemoteCache):
        def get(self, key: Any, default: Any = None) -> Any:
            return "own", super().get(key, default)

    class Plain(RemoteCache):
        pass

    with Own(server.client(), "test") as own, Plain(server.client(), "test") as plain:
        plain["key"] = 1
        assert plain.get("key") == plain["key"] == 1
        assert own.get("key") == ("own", 1)
        assert plain.get("absent", default=2) == 2
    with pytest.raises(RuntimeError, match="__init__"):
        RemoteCache.__new__(RemoteCache).get("key")
    with pytest.raises(TypeError, match="cannot be pickled"):
        plain.__reduce__()
    for part, shown in ((plain.lock("a"), "<RemoteLock 'a'>"), (plain.limiter("a", 1), "<RemoteLimiter 'a'>")):
        assert repr(part) == shown
        with pytest.raises(TypeError, match=f"a {type(part).__name__} .*cannot be copied or pickled"):
            pickle.dumps(part)


def test_the_example(server: Server) -> None:
    """docs/examples/near_cache.py works with whichever server is installed."""
    if not (shutil.which("redis-server") or shutil.which("valkey-server")):
        pytest.skip("the example needs a server on the path")
    program = Path(__file__).parents[2] / "docs" / "examples" / "near_cache.py"
    run = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, timeout=60)
    assert "a limit of two: [True, True, False]" in run.stdout, run.stderr
    assert run.returncode == 0, run.stderr


def test_statistics_are_exported(make: Make) -> None:
    cache, unnamed = make(name="named"), make(namespace="unnamed")
    assert (cache.name, unnamed.name) == ("named", None)
    cache["key"] = 1
    assert cache.fresh("key") == 1
    until(lambda: cache.stats().is_live and unnamed.stats().is_live)
    found = {(metric.name, name): value for metric in METRICS for name, value in readings(metric)}
    assert found["remote_hits", "named"] == 1
    assert found["remote_live", "named"] == found["remote_live", "unnamed"] == 1
    assert found["remote_staleness_bound", "unnamed"] == 1
    cache.close()
    assert cache.closed
    assert "named" not in {name for metric in METRICS if metric.name == "remote_live" for name, _ in readings(metric)}


@pytest.mark.parametrize(
    "url",
    [
        "user:secret@localhost:6379",
        "redis:/user:secret@localhost",
        "http+secret://localhost",
        "redis://user:secret/word@localhost",
        "redis://:secret@localhost:secret",
    ],
)
def test_what_is_no_url_is_not_shown(url: str) -> None:
    """The message does not show an invalid URL, because it may contain a password."""
    with pytest.raises(ValueError) as raised:
        RemoteCache(url, "test")
    assert "secret" not in str(raised.value)
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__ or raised.value.__context__ is None


@pytest.mark.parametrize(
    ("package", "parser"), [("redis", "redis._parsers.base:BaseParser"), ("valkey", "valkey.cluster:ClusterParser")]
)
@pytest.mark.parametrize(
    "text",
    [
        *("NOSCRIPT No matching script", "NOAUTH Authentication required.", "WRONGPASS invalid username-password pair"),
        *("MOVED 3999 127.0.0.1:6381", "ASK 3999 127.0.0.1:6381", "TRYAGAIN Multiple keys", "CLUSTERDOWN Hash slot"),
        *("LOADING the dataset", "MASTERDOWN Link with MASTER is down", "READONLY You can't write", "ERR unknown"),
        *("WRONGTYPE Operation against a key", "ERR max number of clients reached"),
    ],
)
def test_a_refusal_is_the_exception_of_the_package(package: str, parser: str, text: str) -> None:
    theirs = pkgutil.resolve_name(parser).parse_error(text)
    assert type(refusal(importlib.import_module(f"{package}.exceptions"), text)) is type(theirs)
