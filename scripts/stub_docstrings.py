"""Write the docstrings of the installed package into its stubs, which editors and the reference pages read.

After a docstring has changed and the package was built, run `.venv/bin/python scripts/stub_docstrings.py`. With
`--check` it only lists what differs, and ends with 1 if there is any.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import inspect
import sys
from pathlib import Path
from typing import TypeAlias

PACKAGE = Path(__file__).resolve().parents[1] / "python"

_Definition: TypeAlias = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef

_ABSENT = object()


def module_of(stub: Path) -> object:
    """Import the module that a stub describes."""
    parts = stub.relative_to(PACKAGE).with_suffix("").parts
    return importlib.import_module(".".join(parts[:-1] if parts[-1] == "__init__" else parts))


def definitions(body: list[ast.stmt]) -> list[_Definition]:
    """Return the definitions that have docstrings: classes and public functions. Of overloads, the first one counts."""
    found: dict[str, _Definition] = {}
    for node in body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and not node.name.startswith("_"):
            found.setdefault(node.name, node)
    return list(found.values())


def docstring_of(owner: object, name: str) -> str | None:
    """Return the object's own docstring without indentation, or None if it has none or inherits it."""
    member = vars(owner).get(name, _ABSENT)
    if member is _ABSENT:
        return None
    if isinstance(member, type):
        text = vars(member).get("__doc__")
    else:
        text = getattr(getattr(member, "__func__", member), "__doc__", None)
    return inspect.cleandoc(text) if isinstance(text, str) and text.strip() else None


def differences(stub: Path) -> list[tuple[_Definition, str | None]]:
    """Return the definitions of a stub whose docstrings differ from those at run time, with the latter."""
    found: list[tuple[_Definition, str | None]] = []

    def visit(owner: object, body: list[ast.stmt]) -> None:
        for node in definitions(body):
            if node.name not in vars(owner):
                continue  # It exists for type checkers only.
            wanted = docstring_of(owner, node.name)
            if wanted != ast.get_docstring(node):
                found.append((node, wanted))
            if isinstance(node, ast.ClassDef):
                visit(vars(owner)[node.name], node.body)

    visit(module_of(stub), ast.parse(stub.read_text("utf-8")).body)
    return found


def quoted(text: str, indent: str) -> list[str]:
    """Return the lines of a docstring."""
    prefix = "r" if "\\" in text else ""
    lines = f'{prefix}"""{text}'.split("\n")
    lines[-1] += '"""' if len(lines) == 1 else ""
    return [indent + line if line else "" for line in lines] + ([] if len(lines) == 1 else [f'{indent}"""'])


def is_placeholder(node: ast.stmt) -> bool:
    """Whether a body is a docstring or `...`."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def end_of_header(node: _Definition, lines: list[str]) -> int:
    """Return the number, from 1, of the line that ends with the colon of a definition."""
    number = node.lineno
    while not lines[number - 1].partition("  #")[0].rstrip().endswith(":"):
        number += 1
    return number


def rewritten(stub: Path) -> str:
    """Return the stub with the docstrings of the running package."""
    lines = stub.read_text("utf-8").splitlines()
    for node, wanted in sorted(differences(stub), key=lambda found: -found[0].lineno):
        indent = " " * (node.col_offset + 4)
        new = [] if wanted is None else quoted(wanted, indent)
        first = node.body[0]
        if not is_placeholder(first):
            at = end_of_header(node, lines)
            lines[at:at] = new
            continue
        start, end = first.lineno - 1, first.end_lineno or first.lineno
        before, after = lines[start][: first.col_offset].rstrip(), lines[end - 1][first.end_col_offset :]
        if not new and len(node.body) == 1:
            new = [f"{indent}..."]
        lines[start:end] = ([f"{before}{after}"] if before else []) + new
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--check", action="store_true", help="change nothing; list what differs")
    check = parser.parse_args().check
    differ = False
    for stub in sorted(PACKAGE.rglob("*.pyi")):
        for node, _ in differences(stub):
            differ = True
            print(f"{stub.relative_to(PACKAGE)}:{node.lineno}: {node.name}")
        if not check:
            stub.write_text(rewritten(stub), "utf-8")
    return int(differ and check)


if __name__ == "__main__":
    sys.exit(main())
