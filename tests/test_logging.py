"""Log records: none by default, and one for each exception of a hook."""

from __future__ import annotations

import logging
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

import flexcache_rs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from specimens import MakeCache


@pytest.fixture(autouse=True)
def levels() -> Iterator[None]:
    """Restore the logger after the test."""
    yield
    logging.getLogger("flexcache_rs").setLevel(logging.NOTSET)
    flexcache_rs.reset_logging()


def raises(*_: Any) -> None:
    """A hook that fails."""
    raise LookupError("lost")


def test_what_a_hook_raises_is_logged_with_its_traceback(
    make_cache: MakeCache, caplog: pytest.LogCaptureFixture
) -> None:
    """The record has level ERROR and goes to the logger flexcache_rs. The exception is counted."""
    cache = make_cache(on_evict=raises)
    cache["a"] = 1
    del cache["a"]
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("flexcache_rs", "ERROR")
    assert "on_evict() raised" in record.getMessage()
    assert "in raises" in record.getMessage()
    assert "LookupError: lost" in record.getMessage()
    assert cache.stats().hook_errors == 1
    assert len(cache) == 0


def test_levels_take_effect_after_a_reset(make_cache: MakeCache, caplog: pytest.LogCaptureFixture) -> None:
    """The library caches levels until they are reset."""
    cache, logger = make_cache(on_evict=raises), logging.getLogger("flexcache_rs")
    logger.setLevel(logging.CRITICAL)
    flexcache_rs.reset_logging()
    cache["a"] = 1
    cache.clear()
    assert not caplog.records
    logger.setLevel(logging.ERROR)
    flexcache_rs.reset_logging()
    cache["a"] = 1
    cache.clear()
    assert len(caplog.records) == 1


def test_a_handler_may_use_the_cache(make_cache: MakeCache) -> None:
    """No lock is held while records are handled."""
    cache = make_cache(on_evict=raises, max_items=2)
    seen: list[int] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(len(cache))
            cache.get("a")

    handler = Handler()
    logging.getLogger("flexcache_rs").addHandler(handler)
    try:
        cache.set_many({key: key for key in range(5)})
    finally:
        logging.getLogger("flexcache_rs").removeHandler(handler)
    assert seen == [2, 2, 2]


def test_silent_unless_configured() -> None:
    """A program that does not configure logging sees nothing on standard error."""
    program = (
        "from flexcache_rs import FlexCache\n"
        "cache = FlexCache(on_evict=lambda *_: 1 / 0)\n"
        "cache['a'] = 1\n"
        "cache.clear()\n"
        "print(cache.stats().hook_errors)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert (done.stdout, done.stderr) == ("1\n", "")
