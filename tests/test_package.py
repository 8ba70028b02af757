"""The public package: names, signatures, documentation, imports, the short name."""

from __future__ import annotations

import ast
import doctest
import inspect
import pydoc
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

import flexcache_rs
import flexcache_rs.testing
from flexcache_rs import FlexCache, disk

ROOT = Path(__file__).resolve().parent.parent


def run(program: str, *arguments: str, cwd: Path | None = None) -> str:
    """Run a program in a new process, and return its output."""
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, cwd=cwd).stdout


def test_everything_exported_is_there_and_sorted() -> None:
    """__all__ is complete."""
    for name in flexcache_rs.__all__:
        assert getattr(flexcache_rs, name) is not None
    assert {*flexcache_rs.__all__, "SharedCache", "RemoteCache"} <= set(dir(flexcache_rs))
    assert set(disk.__all__) <= set(dir(disk))
    assert flexcache_rs.__version__ == metadata.version("flexcache-rs")


def public(of: type) -> list[str]:
    """Return the public names of a class."""
    return [name for name in dir(of) if not name.startswith("_")]


def test_every_public_name_is_documented_and_typed() -> None:
    """All methods have docstrings, and all are in the stub."""
    stub = ast.parse((ROOT / "python" / "flexcache_rs" / "_core.pyi").read_text(encoding="utf-8"))
    classes = {node.name: node for node in stub.body if isinstance(node, ast.ClassDef)}
    for of in (FlexCache, flexcache_rs.CacheStats):
        typed = {
            node.name for node in classes[of.__name__].body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        }
        for name in public(of):
            assert (getattr(of, name).__doc__ or "").strip(), f"{of.__name__}.{name} has no docstring"
        assert {name for name in typed if not name.startswith("_")} == set(public(of))
    for function in (flexcache_rs.reset_logging, flexcache_rs.testing.advance, flexcache_rs.testing.check):
        assert (function.__doc__ or "").strip(), f"{function.__name__} has no docstring"


@pytest.mark.parametrize(
    "of",
    [FlexCache, flexcache_rs.CacheStats, type(FlexCache().keys()), type(iter(FlexCache()))],
    ids=lambda of: of.__name__,
)
def test_classes_are_where_they_say(of: type) -> None:
    """The names that repr() and help() show can be imported."""
    assert getattr(sys.modules[of.__module__], of.__qualname__) is of


def test_signatures_can_be_inspected() -> None:
    """The class and every method have a signature with the real defaults."""
    assert str(inspect.signature(FlexCache)) == (
        "(eviction_policy='lru', scan_interval=0.0, max_items=0, max_bytes=0, *, default_ttl=None, thread_safe=True, "
        "shards=1, background_expiry=False, on_evict=None, weigher=None, clock=None, close_values=True, store=None, "
        "coherence='strict', lease=30.0, lease_wait=30.0, negative_ttl=None, name=None, record=None, "
        "record_limit=10000000, optimize='hits')"
    )
    for name in public(FlexCache):
        member = inspect.getattr_static(FlexCache, name)
        if callable(member):
            assert next(iter(inspect.signature(member).parameters)) == "self", name
    assert str(inspect.signature(FlexCache.get)) == "(self, /, key, default=None)"
    assert str(inspect.signature(FlexCache.put)) == "(self, /, key, value, ttl=None, tags=None)"
    assert "put(self, /, key, value, ttl=None, tags=None)" in pydoc.plain(pydoc.render_doc(FlexCache))
    assert (FlexCache.__module__, FlexCache.__qualname__) == ("flexcache_rs", "FlexCache")


def examples() -> list[Any]:
    """Yield every example in a docstring, including those of native methods."""
    finder, found = doctest.DocTestFinder(), []
    for module in (flexcache_rs, flexcache_rs.testing):
        found += finder.find(module)
    parser = doctest.DocTestParser()
    documented = [(name, getattr(FlexCache, name).__doc__) for name in public(FlexCache)]
    documented += [("FlexCache", FlexCache.__doc__), ("reset_logging", flexcache_rs.reset_logging.__doc__)]
    found += [parser.get_doctest(doc, {}, name, None, None) for name, doc in documented]
    return [test for test in found if test.examples]


@pytest.mark.usefixtures("temporary_files")
@pytest.mark.parametrize("example", examples(), ids=lambda test: test.name)
def test_examples_in_docstrings(example: doctest.DocTest) -> None:
    """Examples have the results that they show."""
    results = doctest.DocTestRunner(optionflags=doctest.IGNORE_EXCEPTION_DETAIL).run(example)
    assert results.failed == 0


def test_most_calls_have_an_example() -> None:
    """Enough examples are found, so that the test above is not empty."""
    assert len(examples()) > 15


def test_importing_is_cheap() -> None:
    """The import loads no module that a cache does not need."""
    loaded = run("import sys; before = set(sys.modules); import flexcache_rs; print(*set(sys.modules) - before)")
    heavy = {"asyncio", "logging", "argparse", "typing", "json", "gzip", "datetime", "threading", "matplotlib"}
    assert not heavy & set(loaded.split())


def test_the_short_name() -> None:
    """``from flexcache import FlexCache`` gives the same class."""
    assert run("import flexcache, flexcache_rs; print(flexcache.FlexCache is flexcache_rs.FlexCache)") == "True\n"


def test_the_short_name_steps_aside(tmp_path: Path) -> None:
    """If another distribution has a package `flexcache` in the same place, that package is imported."""
    site = tmp_path / "site"
    (site / "flexcache").mkdir(parents=True)
    (site / "flexcache" / "__init__.py").write_text("other = True\n", encoding="utf-8")
    alias = ROOT / "python" / "flexcache.py"
    (site / "flexcache.py").write_text(alias.read_text(encoding="utf-8"), encoding="utf-8")
    program = "import sys; sys.path.insert(0, sys.argv[1]); import flexcache; print(flexcache.other)"
    assert run(program, str(site)) == "True\n"


def test_annotations_of_generic_caches() -> None:
    """``FlexCache[str, int]`` works at run time."""
    cache = FlexCache[str, int](max_items=1)
    cache["a"] = 1
    assert str(FlexCache[str, int]) == "flexcache_rs.FlexCache[str, int]"
