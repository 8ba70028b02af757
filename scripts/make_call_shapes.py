"""Writes `_call_shapes.py`, the templates of `suggesting`: `python scripts/make_call_shapes.py`.

Run it when a decorated function has a shape that no other has; a test finds that.
"""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
from pathlib import Path

import flexcache_rs
from flexcache_rs import _call_shapes, _suggest

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
    """Import every module of the package whose own needs are here."""
    for module in pkgutil.walk_packages(flexcache_rs.__path__, "flexcache_rs."):
        if not module.name.endswith("__main__"):
            with contextlib.suppress(ImportError):
                importlib.import_module(module.name)


def text_of(shapes: list[_suggest.Shape]) -> str:
    """The module for these shapes."""
    functions = [_suggest.source_of(shape, f"shape_{at}") for at, shape in enumerate(shapes)]
    table = "".join(f"    {shape!r}: shape_{at},\n" for at, shape in enumerate(shapes))
    return HEADER + "\n".join(functions) + f"\n{DECLARED} = {{\n{table}}}\n"


def main() -> None:
    """Write the file with the shapes that it has, and those that the package needs besides."""
    import_all()
    shapes = sorted({*_call_shapes.SHAPES, *_suggest.compiled})
    Path(_call_shapes.__file__).write_text(text_of(shapes), encoding="utf-8")


if __name__ == "__main__":
    main()
