"""The stubs agree with the running package: docstrings, and signatures of awaited calls."""

from __future__ import annotations

import importlib.util
import inspect
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from flexcache_rs.disk import Cache, FanoutCache
from flexcache_rs.shared import SharedCache

ROOT = Path(__file__).resolve().parent.parent
STUBS = sorted((ROOT / "python").rglob("*.pyi"))


def script() -> ModuleType:
    """Return the module of the script that writes the docstrings."""
    spec = importlib.util.spec_from_file_location("stub_docstrings", ROOT / "scripts" / "stub_docstrings.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("stub", STUBS, ids=lambda stub: stub.relative_to(ROOT / "python").as_posix())
def test_docstrings_are_those_at_run_time(stub: Path) -> None:
    """`python scripts/stub_docstrings.py` updates the stubs."""
    assert [node.name for node, _ in script().differences(stub)] == []


def test_a_docstring_is_replaced_added_and_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "documented.py").write_text(
        'class A:\n    """One.\n\n    Two.\n    """\n    def b(self): "Three"\n    def c(self): pass\n', "utf-8"
    )
    stub = tmp_path / "documented.pyi"
    stub.write_text(
        'class A:\n    def b(self) -> None: ...  # A comment.\n    def c(self) -> None:\n        """Four"""\n', "utf-8"
    )
    monkeypatch.syspath_prepend(tmp_path)
    written = script()
    monkeypatch.setattr(written, "PACKAGE", tmp_path)
    assert written.rewritten(stub) == (
        'class A:\n    """One.\n\n    Two.\n    """\n'
        '    def b(self) -> None:  # A comment.\n        """Three"""\n    def c(self) -> None:\n        ...\n'
    )


def test_the_tree_has_no_links() -> None:
    """Symbolic links do not survive a checkout on Windows."""
    folders = ("python", "src", "docs", "tests", "benches", "scripts", "fuzz")
    files = [file for folder in folders for file in (ROOT / folder).rglob("*") if "target" not in file.parts]
    assert [file for file in files if file.is_symlink()] == []


@pytest.mark.parametrize("of", [Cache, FanoutCache, SharedCache])
def test_awaited_calls_have_the_parameters_of_those_that_they_await(of: type) -> None:
    names = [name for name in dir(of) if name.startswith("a") and callable(getattr(of, name[1:], None))]
    assert len(names) > 10

    def parameters(name: str) -> list[Any]:
        found = list(inspect.signature(getattr(of, name)).parameters.values())
        return [(parameter.name, parameter.default) for parameter in found if parameter.name != "factory"]

    for name in names:
        assert inspect.iscoroutinefunction(getattr(of, name)) or name in ("atransact", "aiterkeys"), name
        assert [given for given, _ in parameters(name)] == [given for given, _ in parameters(name[1:])], name
