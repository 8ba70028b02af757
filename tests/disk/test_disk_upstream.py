"""python-diskcache's own tests, run with this library under its name.

The tests are taken from its source distribution when they are run, and are no part of this project.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest
from scale import may_skip
from upstream import TIMEOUT, Distribution

if TYPE_CHECKING:
    from collections.abc import Iterator

DISKCACHE = Distribution(
    "diskcache", "5.6.3", "2c3a3fa2743d8535d832ec61c2054a1641f41775aa7c556758a109941e33e4fc", "diskcache-suite"
)

FILES = {"core": 87, "deque": 33, "djangocache": 64, "fanout": 42, "index": 12, "recipes": 5}
"""How many tests there are in each. Of `test_doctest`, the examples in this project's own docstrings are run by its
own tests, and the tutorial is not in the distribution."""

PUBLIC = 203

REACH_INSIDE = {
    "core": {
        # What a disk does is replaced in the object that a cache has.
        *("test_disk_reset", "test_get_ioerror_fast_path", "test_pop_ioerror", "test_pull_ioerror"),
        *("test_peek_ioerror", "test_peekitem_ioerror"),
        # The connection of a thread is replaced.
        *("test_pragma_error", "test_close_error", "test_set_timeout", "test_add_timeout"),
        # Private functions that run SQL and begin transactions, or what they call, are used or replaced.
        *("test_check", "test_pragmas", "test_clear_timeout", "test_cull_timeout"),
        *("test_get_keyerror4", "test_disk_write_os_error", "test_init_makedirs", "test_expire"),
        # A byte of the database is changed, and is expected to be seen as that library would; SQL is given.
        *("test_integrity_check", "test_custom_eviction_policy"),
    },
    "deque": {
        # The cache that a deque has is replaced.
        *("test_index_positive", "test_index_negative", "test_index_out_of_range", "test_iter_keyerror"),
        *("test_reversed_keyerror", "test_remove_keyerror", "test_rotate_indexerror"),
        "test_rotate_indexerror_negative",
    },
    "fanout": {
        # The shards are replaced.
        *("test_set_timeout", "test_touch_timeout", "test_add_timeout", "test_incr_timeout", "test_decr_timeout"),
        *("test_get_timeout", "test_pop_timeout", "test_delete_timeout", "test_remove_timeout"),
        *("test_reset_timeout", "test_volume"),
    },
    # The cache that an index has is looked at.
    "index": {"test_memoize"},
}

SHIM = """
import sys

import flexcache_rs.disk
from flexcache_rs.disk import core, djangocache, fanout, persistent, recipes

for module in core, djangocache, fanout, persistent, recipes:
    sys.modules["diskcache." + module.__name__.rpartition(".")[2]] = module
sys.modules["diskcache"] = flexcache_rs.disk
"""

SETTINGS = """
from pathlib import Path

SECRET_KEY = "of tests"
ALLOWED_HOSTS = ["testserver"]
INSTALLED_APPS = ["tests"]
USE_TZ = False
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
CACHE_DIR = str(Path(__file__).parent / "default-cache")
CACHES = {"default": {"BACKEND": "diskcache.DjangoCache", "LOCATION": CACHE_DIR}}
"""

MODELS = """
import django.db.models
import django.utils.timezone


def expensive_calculation():
    expensive_calculation.num_runs += 1
    return django.utils.timezone.now()


class Poll(django.db.models.Model):
    question = django.db.models.CharField(max_length=200)
    answer = django.db.models.CharField(max_length=200)
    pub_date = django.db.models.DateTimeField(default=expensive_calculation)
"""

CONFTEST = """
import os

import pytest

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"


@pytest.fixture(scope="session", autouse=True)
def tables():
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", run_syncdb=True, verbosity=0)


def pytest_collection_modifyitems(items):
    left_out = os.environ["LEFT_OUT"].split()
    items[:] = [item for item in items if item.name not in left_out]
"""


@pytest.fixture(scope="module")
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with their tests, this library under their library's name, and whatever else the tests need."""
    place = tmp_path_factory.mktemp("upstream")
    tests = place / "tests"
    tests.mkdir()
    (place / "shim").mkdir()
    DISKCACHE.unpack(request.config, place)
    for test in tests.glob("test_*.py"):
        if test.stem.removeprefix("test_") not in FILES:
            test.unlink()
    (tests / "__init__.py").touch()
    (tests / "settings.py").write_text(SETTINGS)
    (tests / "models.py").write_text(MODELS)
    (place / "conftest.py").write_text(CONFTEST)
    (place / "pytest.ini").write_text("[pytest]\n")
    (place / "shim" / "diskcache.py").write_text(SHIM)
    return place


@pytest.fixture(scope="module")
def runs(place: Path) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """Run all files at the same time, because they sleep much of the time."""
    environment = {**os.environ, "PYTHONPATH": str(place / "shim"), "TMPDIR": str(place)}
    running = {}
    for name in FILES:
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout=300", "--tb=native"]
        running[name] = subprocess.Popen(
            [*command, f"--junitxml={name}.xml", f"tests/test_{name}.py"],
            cwd=place,
            env={**environment, "LEFT_OUT": " ".join(REACH_INSIDE.get(name, ()))},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    yield running
    for process in running.values():
        process.kill()
        process.communicate()


def test_all_are_counted() -> None:
    """Each test that is left out is named, and no other test is left out."""
    assert sum(FILES.values()) - sum(map(len, REACH_INSIDE.values())) == PUBLIC


@pytest.mark.timeout(TIMEOUT)
@pytest.mark.parametrize("name", FILES)
def test_upstream(place: Path, runs: dict[str, subprocess.Popen[str]], name: str) -> None:
    """Each of their tests of the public API passes."""
    if name == "djangocache" and may_skip("diskcache-suite", importlib.util.find_spec("django")):
        pytest.skip("Django is not installed")
    output, _ = runs[name].communicate(timeout=TIMEOUT - 50)
    cases = ElementTree.parse(place / f"{name}.xml").iter("testcase")
    failed = {case.get("name"): [kind.tag for kind in case] for case in cases if list(case)}
    assert not failed, f"{failed}\n{output[-10_000:]}"
    passed = {case.get("name") for case in ElementTree.parse(place / f"{name}.xml").iter("testcase")}
    assert len(passed) == FILES[name] - len(REACH_INSIDE.get(name, ()))
