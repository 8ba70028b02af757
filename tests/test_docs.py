"""The pages: examples do what they show, links lead somewhere, and figures are those of the benchmarks.

There are three kinds of examples. A session (`>>>`) is a doctest. A block that is followed by its output is a whole
program. All else is a fragment: those of a page run one after the other, on stand-ins for what the page does not
define.
"""

from __future__ import annotations

import ast
import asyncio
import doctest
import importlib.util
import inspect
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from own_names import own_names
from own_server import LEFT_OUT, Server
from scale import may_skip

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
TEXTS = [*PAGES, *ROOT.glob("*.md"), ROOT / "benches" / "README.md", *(ROOT / "src").rglob("README.md")]

BLOCK = re.compile(r"^```python\n(?!>>>)((?:(?!```).*\n)*)```\n(?:\n```text\n((?:(?!```).*\n)*)```)?", re.MULTILINE)
CODE = re.compile(r"^```.*?^```|`[^`\n]+`", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\((?![a-z]+:)([^)\s]*)\)")


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


# Examples

BLOCKS = {name_of(page): BLOCK.findall(page.read_text("utf-8")) for page in PAGES}
PROGRAMS = [
    pytest.param(program, output, id=f"{page}-{number}")
    for page, blocks in BLOCKS.items()
    for number, (program, output) in enumerate(blocks)
    if output
]
FRAGMENTS = {
    page: fragments
    for page, blocks in BLOCKS.items()
    if (fragments := [fragment for fragment, output in blocks if not output])
}


def is_absent(module: str) -> bool:
    return importlib.util.find_spec(module) is None


def imported(program: str) -> set[str]:
    """The packages that a program imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(program)):
        if isinstance(node, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    return names


IN_SHARED_MEMORY = re.compile(r"SharedCache\((?!None)|shared\.DjangoCache")


def pieces() -> Iterator[tuple[str, str]]:
    """Yield what runs together: each program, and the fragments and the session of a page."""
    for page, blocks in BLOCKS.items():
        yield from ((page, program) for program, output in blocks if output)
        yield page, "".join(FRAGMENTS.get(page, []))
    for page in PAGES:
        examples = doctest.DocTestParser().get_examples(page.read_text("utf-8"))
        yield name_of(page), "".join(example.source for example in examples)


@pytest.mark.parametrize(("page", "piece"), [one for one in pieces() if IN_SHARED_MEMORY.search(one[1])])
def test_what_makes_a_cache_in_shared_memory_removes_it(page: str, piece: str) -> None:
    """It would stay until the machine is started again."""
    assert "unlink()" in piece, page


@pytest.mark.usefixtures("temporary_files")
@pytest.mark.parametrize("page", [page for page in PAGES if ">>> " in page.read_text("utf-8")], ids=name_of)
def test_sessions(page: Path) -> None:
    examples = doctest.DocTestParser().get_doctest(own_names(page.read_text("utf-8")), {}, page.name, str(page), 0)
    assert doctest.DocTestRunner().run(examples).failed == 0


@pytest.mark.usefixtures("temporary_files")
@pytest.mark.parametrize(("program", "output"), PROGRAMS)
def test_programs(program: str, output: str, tmp_path: Path) -> None:
    """Run a program in a separate file, which spawned workers can import."""
    absent = sorted(filter(is_absent, imported(program)))
    if absent and all(may_skip(package, available=False) for package in absent):
        pytest.skip(f"needs {', '.join(absent)}")
    file = tmp_path / "program.py"
    file.write_text(own_names(program), "utf-8")
    # Each line appears at once, as on a terminal, since programs that it runs write to the same output.
    command = [sys.executable, "-u", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, cwd=tmp_path)
    assert (done.stdout, done.returncode) == (output, 0), done.stderr


def test_most_pages_have_programs() -> None:
    assert len(PROGRAMS) > 10


async def user_of(number: int) -> dict[str, int]:
    return {"number": number}


def registers(*_: Any, **__: Any) -> Any:
    """Stand in for a framework's decorator."""
    return lambda function: function


def nothing(*_: Any, **__: Any) -> None:
    """Stand in for any function."""


STAND_INS: dict[str, dict[str, Any]] = {
    "docs/async_lru.md": {"fetch": user_of},
    "docs/cachetools.md": {"fetch": nothing},
    "docs/remote.md": {
        "app": SimpleNamespace(get=registers, route=registers),
        "worker": SimpleNamespace(task=lambda function: function),
        "read_user": user_of,
        **dict.fromkeys(("make_report", "save", "save_report"), nothing),
        "report": "a report",
    },
}
"""Names that the fragments of a page use but do not define."""


@pytest.mark.usefixtures("temporary_files")
@pytest.mark.parametrize("page", FRAGMENTS)
def test_fragments(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fragments = own_names("\n\n".join(FRAGMENTS[page]))
    server = None
    if "6379" in fragments or "redis.Redis()" in fragments:
        if LEFT_OUT:
            pytest.skip("needs valkey-server or redis-server")
        server = Server(tmp_path)
        server.start()
        url = f"unix://{server.path}"
        fragments = fragments.replace("redis.Redis()", f"redis.Redis.from_url({url!r})")
        fragments = re.sub(r"\w+://localhost:6379/0", url, fragments)
    names = dict(STAND_INS.get(page, {}))
    try:
        code = compile(fragments, page, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        # If the code has an `await`, its evaluation returns a coroutine.
        result = eval(code, names)
        if inspect.isawaitable(result):

            async def finished() -> None:
                await result

            asyncio.run(finished())
        if hasattr(names.get("cache"), "close"):
            names["cache"].close()
    finally:
        if server is not None:
            server.kill()


# Links


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings."""
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    plain = [re.sub(r"\]\([^)]*\)", "]", heading) for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", TEXTS, ids=name_of)
def test_links(page: Path) -> None:
    """Each leads to a file of the tree, and to a heading of that file."""
    wrong = []
    for link in LINK.findall(CODE.sub("", page.read_text("utf-8"))):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.is_file() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            wrong.append(link)
    assert wrong == []


def test_names_in_signatures_are_explained() -> None:
    stubs = "".join(
        (ROOT / "python" / "flexcache_rs" / name).read_text("utf-8") for name in ("_core.pyi", "_memoize.pyi")
    )
    meant = dict(re.findall(r"^(_\w+): TypeAlias = (.+)$", stubs, re.MULTILINE))
    page = (ROOT / "docs" / "reference" / "index.md").read_text("utf-8").replace(r"\|", "|")
    explained = dict(re.findall(r"^\| `(_\w+)` \| `(.+)` \|$", page, re.MULTILINE))
    assert explained.items() <= meant.items()
    assert {"_Seconds", "_Ttl", "_PolicyName", "_Event", "_Reason", "_Exceptions"} <= explained.keys()


def test_every_page_is_in_the_navigation() -> None:
    listed = set(re.findall(r"\S+\.md", (ROOT / "mkdocs.yml").read_text("utf-8")))
    pages = {page.relative_to(ROOT / "docs").as_posix() for page in PAGES[1:]}
    assert pages - listed == set()


def pages_of_the_site() -> set[str]:
    """The files that scripts/site_hooks.py makes pages of, read without the packages that it needs."""
    tree = ast.parse((ROOT / "scripts" / "site_hooks.py").read_text("utf-8"))
    [table] = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "PAGES"
    ]
    return set(ast.literal_eval(table))


@pytest.mark.parametrize("text", sorted(pages_of_the_site() - {"LICENSE"}))
def test_what_a_page_links_to_is_in_the_site(text: str) -> None:
    """The build of the site ends with an error otherwise."""
    links = LINK.findall(CODE.sub("", (ROOT / text).read_text("utf-8")))
    goals = [(ROOT / text).parent.joinpath(link.partition("#")[0]).resolve() for link in links if link[0] != "#"]
    names = {name_of(goal) for goal in goals}
    assert {name for name in names if not name.startswith("docs/")} <= pages_of_the_site()


# Figures


def section(page: Path, anchor: str) -> str:
    """Return the text under a heading of a page."""
    parts = re.split(r"^(## .+)$", page.read_text("utf-8"), flags=re.MULTILINE)
    for heading, text in zip(parts[1::2], parts[2::2], strict=True):
        if re.sub(r"[^\w\- ]", "", heading[3:]).strip().lower().replace(" ", "-") == anchor:
            return text
    raise AssertionError(f"{page.name} has no section {anchor}")


FIGURE = re.compile(r"(?<![\w.,/])\d[\d,]*(?:\.\d+)?(?![\w.])")
TABLE = re.compile(r"\((?:docs/)?(benchmarks/\w+\.md)#([\w-]+)\)")


@pytest.mark.parametrize("page", ["README.md", "docs/cost.md", "docs/peers.md"])
def test_figures_are_those_of_the_tables(page: str) -> None:
    """A row that refers to a table of the benchmarks contains only figures of that table."""
    rows = [row for row in (ROOT / page).read_text("utf-8").splitlines() if row.startswith("|")]
    rows = [row for row in rows if TABLE.search(row)]
    assert len(rows) >= 8
    for row in rows:
        match = TABLE.search(row)
        assert match is not None
        figures = set(FIGURE.findall(section(ROOT / "docs" / match.group(1), match.group(2))))
        # The first cell says what was measured, and a link where.
        given = [
            figure for cell in row.split("|")[2:] for figure in FIGURE.findall(re.sub(r"\[.*?\]\(.*?\)", "", cell))
        ]
        assert given, row
        assert set(given) <= figures, row


LINKED = re.compile(r"\[([^\]]*\d[^\]]*)\]\((?:docs/|(?:\.\./)*)(benchmarks/\w+\.md)#([\w-]+)\)")


@pytest.mark.parametrize("page", [page for page in PAGES if LINKED.search(page.read_text("utf-8"))], ids=name_of)
def test_figures_of_links_are_those_of_the_tables(page: Path) -> None:
    """A sentence that links a figure to a table has a figure of that table."""
    for text, file, anchor in LINKED.findall(page.read_text("utf-8")):
        figures = set(FIGURE.findall(section(ROOT / "docs" / file, anchor)))
        # "kill -9" is no figure.
        assert set(FIGURE.findall(text.replace("-9", ""))) <= figures, text
