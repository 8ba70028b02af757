"""Writes `_call_shapes.py`, the templates of `suggesting`: `python scripts/make_call_shapes.py`.

Run it when the shapes of decorated functions change; a test finds that.
"""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
import sys
from pathlib import Path
from types import ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from flexcache_rs._suggest import Shape

MODULE = "flexcache_rs._call_shapes"
HEADER = '''"""Functions that call another one, by the shape of their parameters: what `_suggest` would compile.

Made by scripts/make_call_shapes.py.
"""
# mypy: ignore-errors
# pyright: basic

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

'''
DECLARED = "SHAPES: dict[tuple[int, int, int, tuple[bool, ...], bool, bool], Callable[..., Any]]"


def import_all() -> None:
    """Import every module of the package whose dependencies are installed."""
    import flexcache_rs

    for module in pkgutil.walk_packages(flexcache_rs.__path__, "flexcache_rs."):
        if not module.name.endswith("__main__"):
            with contextlib.suppress(ImportError):
                importlib.import_module(module.name)


def shapes_in_use() -> list[Shape]:
    """Return the shapes of all decorated functions. Imports the package without templates, so that it compiles each."""
    without = ModuleType(MODULE)
    without.SHAPES = {}  # type: ignore[attr-defined]
    sys.modules[MODULE] = without
    import_all()
    from flexcache_rs import _suggest

    return sorted(_suggest.compiled)


def text_of(shapes: list[Shape]) -> str:
    """Return the source of the module for these shapes."""
    from flexcache_rs import _suggest

    functions = [_suggest.source_of(shape, f"shape_{at}") for at, shape in enumerate(shapes)]
    table = "".join(f"    {shape!r}: shape_{at},\n" for at, shape in enumerate(shapes))
    return HEADER + "\n".join(functions) + f"\n{DECLARED} = {{\n{table}}}\n"


def main() -> None:
    """Write the file with the shapes that the package needs."""
    text = text_of(shapes_in_use())
    import flexcache_rs

    Path(flexcache_rs.__file__).with_name("_call_shapes.py").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
