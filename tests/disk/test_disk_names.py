"""Names of modules and classes that programs import and that stored pickles refer to."""

from __future__ import annotations

import copy
import importlib
import pickle
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import flexcache_rs.disk as diskcache

if TYPE_CHECKING:
    from pathlib import Path

EARLIER = [
    *(("core", name) for name in ("Cache", "Disk", "Timeout", "UnknownFileWarning", "EmptyDirWarning", "JSONDisk")),
    *(("core", name) for name in ("ENOVAL", "UNKNOWN", "DEFAULT_SETTINGS", "EVICTION_POLICY", "CheckReport")),
    *(("persistent", name) for name in ("Deque", "Index", "FanoutIndex")),
    *(("recipes", name) for name in ("Lock", "RLock", "BoundedSemaphore", "Averager")),
    *(("memoizing", name) for name in ("ENOVAL", "UNKNOWN")),
    *(("serializers", name) for name in ("PickleSerializer", "SignedPickleSerializer", "JSONSerializer")),
    ("fanout", "FanoutCache"),
    ("json_disk", "JSONDisk"),
    ("network", "NetworkFilesystemWarning"),
]


@pytest.mark.parametrize(("module", "name"), EARLIER)
def test_a_pickle_finds_what_it_refers_to(module: str, name: str) -> None:
    """Pickles find classes by the names that earlier versions wrote."""
    found = pickle.loads(f"cflexcache_rs.disk.{module}\n{name}\n.".encode())
    public = getattr(diskcache, name, None)
    assert public is None or found is public


def test_constants_of_earlier_pickles() -> None:
    """These constants are part of keys of `memoize_stampede`."""
    pickled = b"\x80\x04cflexcache_rs.disk.memoizing\nConstant\n(X\x06\x00\x00\x00ENOVALt\x81."
    assert pickle.loads(pickled) == diskcache.ENOVAL


def test_pickled_objects_of_earlier_versions(tmp_path: Path) -> None:
    """Index and Deque have moved to another module."""
    index = diskcache.Index(str(tmp_path / "index"), a=1)
    deque = diskcache.Deque("ab", str(tmp_path / "deque"))
    for made in (index, deque):
        module = type(made).__module__
        earlier = pickle.dumps(made, 0).replace(module.encode(), b"flexcache_rs.disk.persistent")
        assert list(pickle.loads(earlier)) == list(made)


@pytest.mark.parametrize("name", ["core", "fanout", "persistent", "recipes", "djangocache", "memoizing"])
def test_modules_can_be_imported_alone(name: str) -> None:
    """Each module can be imported first."""
    if name == "djangocache":
        pytest.importorskip("django")
    subprocess.run([sys.executable, "-c", f"import flexcache_rs.disk.{name}"], check=True, timeout=60)
    assert importlib.import_module(f"flexcache_rs.disk.{name}")


@pytest.mark.parametrize("constant", [diskcache.ENOVAL, diskcache.UNKNOWN])
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_constants_are_themselves_again(constant: object, protocol: int) -> None:
    """An unpickled constant is the same object, also as part of a key."""
    assert pickle.loads(pickle.dumps(constant, protocol)) is constant
    assert repr(pickle.loads(pickle.dumps(("key", constant), protocol))[1]) == repr(constant)
    assert copy.deepcopy(constant) is constant


def test_names_of_parts(tmp_path: Path) -> None:
    """Names of parts cannot lead outside of their directory."""
    fanout = diskcache.FanoutCache(tmp_path / "fanout", shards=1)
    for name in ("", ".", "..", "../x", "a/../../x", "/x", "a//b", "a/", "a\0b"):
        for make in (fanout.cache, fanout.deque, fanout.index):
            with pytest.raises(ValueError, match="name must"):
                make(name)
    fanout.cache("jobs/first")["a"] = 1
    assert [path.name for path in tmp_path.iterdir()] == ["fanout"]


def test_attributes_that_a_fanout_cache_has_not(tmp_path: Path) -> None:
    """A missing attribute raises Python's usual exception."""
    fanout = diskcache.FanoutCache(tmp_path, shards=1)
    assert not hasattr(fanout, "nonsense")
    with pytest.raises(AssertionError, match="cannot access nonsense"):
        fanout.nonsense
