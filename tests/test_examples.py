"""The examples in docstrings. Those of shared memory, sessions and `RemoteCache` are with the tests of these parts."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path
from typing import Any

import pytest

import flexcache_rs
from flexcache_rs import disk

PACKAGE = Path(flexcache_rs.__file__).parent
ELSEWHERE = ("_shared_calls", "shared", "lilcache", "remote", "sessions", "pycache")


def modules() -> list[str]:
    """Return the names of the modules with examples."""
    parts = [
        path.relative_to(PACKAGE).with_suffix("").parts
        for path in PACKAGE.rglob("*.py")
        if ">>> " in path.read_text("utf-8")
    ]
    names = [[part for part in path if part != "__init__"] for path in parts if path[0] not in ELSEWHERE]
    return sorted(".".join(["flexcache_rs", *path]) for path in names)


@pytest.mark.usefixtures("temporary_files")
@pytest.mark.parametrize("name", modules())
def test_modules(name: str) -> None:
    found = doctest.testmod(importlib.import_module(name), optionflags=doctest.IGNORE_EXCEPTION_DETAIL)
    assert not found.failed


@pytest.mark.usefixtures("temporary_files")
@pytest.mark.parametrize("of", [disk.Cache, disk.FanoutCache])
def test_calls_of_caches_on_disk(of: Any) -> None:
    """Native calls and awaited calls, which `testmod` does not find."""
    texts = {name: getattr(of, name).__doc__ or "" for name in dir(of) if not name.startswith("_")}
    assert sum(">>> " in text for text in texts.values()) > 20
    runner = doctest.DocTestRunner(optionflags=doctest.IGNORE_EXCEPTION_DETAIL)
    for text in set(texts.values()):
        example = doctest.DocTestParser().get_doctest(text, dict(vars(disk)), of.__name__, None, None)
        assert not runner.run(example).failed
