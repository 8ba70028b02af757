"""The structure of the source: imports have no cycles, and no file is too long.

The tests read the `use` lines (and the paths in the code) of `src/py/**/*.rs` and the imports of `python/flexcache_rs`.
Exceptions are listed here or in ARCHITECTURE.md, with a reason, and must still be needed.
"""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
RUST = ROOT / "src" / "py"
PYTHON = ROOT / "python" / "flexcache_rs"

MOST_LINES = 600
LARGEST_CYCLE = 2

Graph = dict[str, set[str]]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def cycles(graph: Graph) -> set[frozenset[str]]:
    """The strongly connected components of more than one file."""
    reachable: Graph = {}
    for start in graph:
        seen: set[str] = set()
        waiting = list(graph[start])
        while waiting:
            file = waiting.pop()
            if file not in seen:
                seen.add(file)
                waiting.extend(graph.get(file, ()))
        reachable[start] = seen
    found = set()
    for file, seen in reachable.items():
        component = frozenset({file, *(other for other in seen if file in reachable.get(other, ()))})
        if len(component) > 1:
            found.add(component)
    return found


# Rust

NOT_CODE = re.compile(
    r"""//[^\n]*|/\*.*?\*/|\b[bc]?r(#*)".*?"\1|[bc]?"(?:\\.|[^"\\])*"|'(?:\\[^\n']+|[^\\'\n])'""", re.DOTALL
)
ITEM = r"\b(?:fn|struct|enum|type|trait|const|static|mod|macro_rules!|union)\s+(?:mut\s+)?{}\b"


class RustFile:
    def __init__(self, path: Path) -> None:
        self.path = path
        relative = path.relative_to(RUST).with_suffix("")
        self.is_folder = path.name == "mod.rs"
        self.module = relative.parts[:-1] if self.is_folder else relative.parts
        self.code = NOT_CODE.sub(lambda match: " " * len(match.group()), path.read_text("utf-8"))
        self.uses: list[tuple[str, ...]] = []
        self.reexports: dict[str, tuple[str, ...]] = {}
        self._inner_modules = [
            range(match.start(), end_of_block(self.code, match.end()))
            for match in re.finditer(r"\bmod\s+\w+\s*\{", self.code)
        ]
        self._read()

    def _read(self) -> None:
        rest = list(self.code)
        for match in re.finditer(r"(\bpub(?:\([\w:\s]+\))?\s+)?\buse\s+([^;]+);", self.code):
            for path, alias in expanded(match.group(2)):
                if match.group(1) and self.is_folder:
                    self.reexports[alias] = path
                else:
                    self._add(path, match.start())
            rest[match.start() : match.end()] = " " * len(match.group())
        for match in re.finditer(r"(?<![\w:])(?:super|crate|self)(?:\s*::\s*\w+)+", "".join(rest)):
            self._add(tuple(re.split(r"\s*::\s*", match.group())), match.start())

    def _add(self, path: tuple[str, ...], at: int) -> None:
        """Record a path, resolved from the file's own module."""
        inner = sum(at in module for module in self._inner_modules)
        while inner and path[:1] in (("super",), ("self",)):
            if path[0] == "super":
                inner -= 1
            path = path[1:]
            if path[:1] != ("super",):
                return  # The path leads to an item of this file.
        self.uses.append(path)


def end_of_block(code: str, start: int) -> int:
    depth = 1
    for match in re.finditer(r"[{}]", code[start:]):
        depth += 1 if match.group() == "{" else -1
        if not depth:
            return start + match.end()
    raise AssertionError(f"a block does not end: {code[start : start + 80]!r}")


def expanded(tree: str) -> list[tuple[tuple[str, ...], str]]:
    """The paths of a `use`, each with the name that it gets."""
    tree = tree.strip()
    if match := re.fullmatch(r"((?:\w+\s*::\s*)*)\{(.*)\}", tree, re.DOTALL):
        before = tuple(part.strip() for part in match.group(1).split("::") if part.strip())
        parts, depth, start = [], 0, 0
        inside = match.group(2) + ","
        for at, character in enumerate(inside):
            depth += {"{": 1, "}": -1}.get(character, 0)
            if character == "," and not depth:
                parts.append(inside[start:at])
                start = at + 1
        return [
            ((before if path == ("self",) else before + path), before[-1] if path == ("self",) else name)
            for part in parts
            if part.strip()
            for path, name in expanded(part)
        ]
    path_text, _, alias = tree.partition(" as ")
    path = tuple(part.strip() for part in path_text.split("::"))
    return [(path, alias.strip() or path[-1])]


@functools.cache
def rust_graph() -> Graph:
    files = {file.module: file for file in map(RustFile, sorted(RUST.rglob("*.rs")))}
    assert files, f"there is no Rust file in {RUST}"

    def target(start: tuple[str, ...], path: tuple[str, ...]) -> RustFile | None:
        """Return the file to which a path from a module leads. None for another crate."""
        first, module = path[0], start
        if first == "crate":
            assert path[1:2] == ("py",), f"{'::'.join(path)} in {start} is not in src/py"
            module, path = (), path[2:]
        elif first in ("super", "self"):
            while path and path[0] in ("super", "self"):
                module = module[:-1] if path[0] == "super" else module
                path = path[1:]
        elif (*start, first) not in files:
            return None
        while path and (*module, path[0]) in files:
            module, path = (*module, path[0]), path[1:]
        file = files[module]
        if path and path[0] in file.reexports:
            return target(module, file.reexports[path[0]] + path[1:])
        if path:
            known = path[0] == "*" or re.search(ITEM.format(re.escape(path[0])), file.code)
            assert known or not file.is_folder, f"{'::'.join(path)} is not in {name_of(file.path)}"
        return file

    graph: Graph = {}
    for file in files.values():
        edges = {target(file.module, path) for path in file.uses}
        graph[name_of(file.path)] = {name_of(other.path) for other in edges if other and other is not file}
    return graph


def room(file: str) -> str:
    """Return the folder of a file of src/py, or the file itself if it is in no folder."""
    return Path(file).relative_to("src/py").parts[0]


def test_files_of_the_bindings_import_in_one_direction() -> None:
    assert not [files for files in cycles(rust_graph()) if len(files) > LARGEST_CYCLE]


def test_folders_of_the_bindings_import_in_one_direction() -> None:
    graph: Graph = {}
    for file, others in rust_graph().items():
        graph.setdefault(room(file), set()).update(room(other) for other in others)
    assert cycles({start: others - {start} for start, others in graph.items()}) == set()


def test_the_imports_of_the_bindings_are_seen() -> None:
    graph = rust_graph()
    assert "src/py/memory/state.rs" in graph["src/py/memory/cache.rs"]
    # Through a re-export, and with a path in the code.
    assert "src/py/disk/cache.rs" in graph["src/py/disk/directory_store.rs"]
    assert "src/py/process/background.rs" in graph["src/py/testing.rs"]


@pytest.mark.parametrize(
    ("tree", "paths"),
    [
        ("super::key", {"super::key": "key"}),
        ("super::{a, b::{self, C as D}}", {"super::a": "a", "super::b": "b", "super::b::C": "D"}),
    ],
)
def test_the_reading_of_a_use(tree: str, paths: dict[str, str]) -> None:
    assert {"::".join(path): name for path, name in expanded(tree)} == paths


# Python


def python_graph() -> Graph:
    files = {}
    for path in sorted(PYTHON.rglob("*.py")):
        parts = path.relative_to(PYTHON.parent).with_suffix("").parts
        files[parts[:-1] if parts[-1] == "__init__" else parts] = path
    assert files, f"there is no Python file in {PYTHON}"

    def imported(start: tuple[str, ...], is_package: bool, node: ast.stmt) -> set[Path]:
        if isinstance(node, ast.Import):
            names = [tuple(alias.name.split(".")) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base: tuple[str, ...] = ()
            if node.level:
                base = start[: len(start) - node.level + is_package]
            base += tuple(node.module.split(".")) if node.module else ()
            names = [(*base, alias.name) for alias in node.names]
        else:
            return set()
        found = set()
        for name in names:
            if name[0] != PYTHON.name or name[1:2] == ("_core",):
                continue
            module = next((name[:end] for end in range(len(name), 0, -1) if name[:end] in files), None)
            assert module, f"{'.'.join(name)} in {'.'.join(start)} is not in {PYTHON}"
            found.add(files[module])
        return found

    graph: Graph = {}
    for module, path in files.items():
        edges = set()
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.stmt):
                edges |= imported(module, path.name == "__init__.py", node)
        graph[name_of(path)] = {name_of(other) for other in edges if other != path}
    return graph


def test_files_of_the_package_import_in_one_direction() -> None:
    assert not [files for files in cycles(python_graph()) if len(files) > LARGEST_CYCLE]


# Length


def test_no_file_is_over_600_lines_without_a_reason() -> None:
    section = (ROOT / "ARCHITECTURE.md").read_text("utf-8").partition("## Files over 600 lines")[2]
    assert section, "ARCHITECTURE.md has no section 'Files over 600 lines'"
    listed = dict(re.findall(r"^\| `([^`]+)` \| (.+?) \|$", section.partition("\n## ")[0], re.MULTILINE))
    files = [*(ROOT / "src").rglob("*.rs"), *PYTHON.rglob("*.py"), *PYTHON.rglob("*.pyi")]
    over = {name_of(file) for file in files if len(file.read_text("utf-8").splitlines()) > MOST_LINES}
    assert over == set(listed)


def test_threads_wait_in_queues_of_parking_lot_only_without_a_gil() -> None:
    """A forked child would inherit the queues without the threads in them. See `process/mutex.rs`."""
    users = {
        name_of(path)
        for path in RUST.rglob("*.rs")
        if re.search(r"^(?!\s*//).*parking_lot::", path.read_text(), re.MULTILINE)
    }
    assert users == {"src/py/process/guard.rs", "src/py/memory/shard_lock.rs"}


def test_no_thread_fills_a_static_cell_where_another_one_may_fork() -> None:
    """Calls of these crates run detached. A child that was forked meanwhile would wait for the thread for ever."""
    cell = re.compile(r"\bstatic\s+\w+\s*:\s*[\w:]*(?:Once|Lazy)")
    assert cell.search("static ORIGINAL: OnceLock<Original>")
    files = [path for crate in ("shared", "remote") for path in (ROOT / "src" / crate).rglob("*.rs")]
    assert len(files) > 40
    assert not [
        name_of(path)
        for path in files
        if "tests" not in path.parts and cell.search(NOT_CODE.sub("", path.read_text("utf-8")))
    ]


def test_a_signals_handler_and_a_child_may_take_every_lock() -> None:
    """A handler runs in the middle of whatever its thread does, and a child has no other thread of its parent.

    A lock that is not reentrant, or that another thread held when the process forked, would never be free.
    """
    users = [
        name_of(path)
        for path in PYTHON.rglob("*.py")
        if re.search(r"\bthreading\.R?Lock\(|^from threading import .*\bR?Lock\b", path.read_text(), re.MULTILINE)
    ]
    assert not users, "take ForkSafeRLock, or none"


def test_signal_handlers_run_only_where_threads_may_end() -> None:
    """They and the garbage collector run code of the user, in which an interpreter that ends may end the thread."""
    users = {
        name_of(path)
        for path in RUST.rglob("*.rs")
        if re.search(r"^(?!\s*//).*(\.check_signals\(\)|PyErr_CheckSignals)", path.read_text(), re.MULTILINE)
    }
    assert users == {"src/py/object/running_python.rs"}


def test_no_call_takes_a_lock_in_python_code() -> None:
    """An exception of a signal handler leaves such a lock locked. `_threads.py` has what starts and wakes threads."""
    users = {
        name_of(path)
        for path in PYTHON.rglob("*.py")
        if re.search(r"\bthreading\.(Event|Condition|Semaphore)\(|\bthread\.start\(\)", path.read_text())
    }
    assert users == {"python/flexcache_rs/_demo_command.py", "python/flexcache_rs/_threads.py"}
