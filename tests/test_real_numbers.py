"""Times are real numbers of any class, in every kind of cache. What only looks like a number is refused by all."""

from __future__ import annotations

import numbers
import sys
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import pytest
from own_server import LEFT_OUT, Server

from flexcache_rs import FlexCache, disk, memoize
from flexcache_rs._seconds import seconds_in
from flexcache_rs.sessions import sync

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LONG = 1000.5
NAN = Decimal("NaN")


class Single:
    """As numpy's float32: no float, but registered as a real number."""

    def __init__(self, value: float) -> None:
        self.value = value

    def __float__(self) -> float:
        return self.value


numbers.Real.register(Single)


class Looks:
    """As an array of one element."""

    def __float__(self) -> float:
        return LONG


REAL = [Fraction(2001, 2), Decimal("1000.5"), Single(LONG)]
NO_TIME = [Looks(), LONG + 0j]


def left_on_disk(cache: Any) -> float:
    import time

    expires: float = cache.get("key", expire_time=True)[1]
    return expires - time.time()


def in_memory(_: Path, time: Any) -> float | None:
    cache: FlexCache[str, int] = FlexCache()
    cache.put("key", 1, ttl=time)
    return cache.ttl("key")


def by_default(_: Path, time: Any) -> float | None:
    cache: FlexCache[str, int] = FlexCache(default_ttl=time)
    cache["key"] = 1
    return cache.ttl("key")


def touched(_: Path, time: Any) -> float | None:
    cache: FlexCache[str, int] = FlexCache()
    cache["key"] = 1
    cache.touch("key", time)
    return cache.ttl("key")


def interval(_: Path, time: Any) -> float:
    FlexCache(scan_interval=time)
    FlexCache(store=FlexCache(), coherence=time)
    FlexCache(store=FlexCache(), lease=time, lease_wait=time)
    return LONG


def memoized(_: Path, time: Any) -> float:
    assert memoize(ttl=time, stale_if_error=time, jitter=0.5)(int)("7") == 7
    assert memoize(soft_ttl=time)(int)("7") == 7
    assert memoize(ttl=lambda _: time)(int)("7") == 7
    return seconds_in("ttl", time)


def on_disk(path: Path, time: Any) -> float:
    with disk.Cache(path / "disk", timeout=time) as cache:
        cache.set("key", 1, expire=time)
        assert left_on_disk(cache) > LONG - 100
        cache["key"] = 1
        cache.touch("key", time)
        return left_on_disk(cache)


def on_several_disks(path: Path, time: Any) -> float:
    with disk.FanoutCache(path / "fanout", shards=2, timeout=time) as cache:
        cache.set_many({"key": 1}, expire=time)
        return left_on_disk(cache)


def in_a_session(path: Path, time: Any) -> float | None:
    with sync.connect(f"memory://{path.name}") as session:
        session.set("key", 1, ttl=time)
        session.lock("key", time)
        session.limiter("limit", 1, time)
        return session.ttl("key")


def shared(path: Path, time: Any) -> float | None:
    from flexcache_rs.shared import SharedCache

    with SharedCache(path / "shared", max_bytes=1 << 20, default_ttl=time) as cache:
        cache.put("default", 1)
        cache.put("key", 1, ttl=time)
        cache.lock("lock", ttl=time, timeout=time)
        assert cache.ttl("default") == pytest.approx(LONG, abs=100)
        return cache.ttl("key")


def remote(path: Path, time: Any) -> float | None:
    from flexcache_rs.remote import RemoteCache

    with RemoteCache(f"unix://{path.parent / 's'}", path.name, default_ttl=time, timeout=5) as cache:
        cache.put("key", 1, ttl=time)
        cache.put("default", 1)
        cache.lock("lock", time)
        cache.limiter("limit", 1, time)
        assert cache.ttl("default") == pytest.approx(LONG, abs=100)
        return cache.ttl("key")


KINDS: dict[str, Callable[[Path, Any], float | None]] = {
    "put": in_memory,
    "default_ttl": by_default,
    "touch": touched,
    "interval": interval,
    "memoize": memoized,
    "disk": on_disk,
    "fanout": on_several_disks,
    "session": in_a_session,
    **({"shared": shared} if sys.platform == "linux" else {}),
    **({} if LEFT_OUT else {"remote": remote}),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the tests have their directories, beside that of a server."""
    folder = tmp_path_factory.mktemp("numbers")
    if LEFT_OUT:
        yield folder
        return
    server = Server(folder)
    server.start()
    yield folder
    server.kill()


@pytest.fixture
def place(folder: Path, request: pytest.FixtureRequest) -> Path:
    """A directory of the test's own."""
    made = folder / str(abs(hash(request.node.name)))
    made.mkdir()
    return made


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("time", REAL, ids=lambda time: type(time).__name__)
def test_a_real_number_is_a_time(kind: str, time: Any, place: Path) -> None:
    assert KINDS[kind](place, time) == pytest.approx(LONG, abs=100)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("time", NO_TIME, ids=lambda time: type(time).__name__)
def test_what_only_looks_like_a_number_is_refused(kind: str, time: Any, place: Path) -> None:
    with pytest.raises(TypeError, match=rf"must be .*a number of seconds.*, not .*{type(time).__name__}|{time!r}"):
        KINDS[kind](place, time)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("time", [NAN, Decimal("sNaN")], ids=str)
def test_nan_is_refused(kind: str, time: Any, place: Path) -> None:
    with pytest.raises(ValueError, match=r"NaN|more than 0 seconds|after now|positive"):
        KINDS[kind](place, time)


def test_a_number_that_no_float_can_hold() -> None:
    """It is no infinity, which means for ever."""
    for time in (Decimal("1e400"), Fraction(10) ** 400):
        with pytest.raises(OverflowError, match="ttl must be less than 292 years"):
            FlexCache[str, int]().put("key", 1, ttl=time)  # type: ignore[arg-type]
    cache: FlexCache[str, int] = FlexCache()
    cache.put("key", 1, ttl=Decimal("Infinity"))  # type: ignore[arg-type]
    assert cache.ttl("key") is None
    cache.put("key", 1, ttl=-(Fraction(10) ** 400))  # type: ignore[arg-type]
    assert "key" not in cache
