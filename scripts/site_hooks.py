"""Hooks of the site's build: pages from outside of `docs`, links to them, and overloaded calls in the reference.

The front page of the site is README.md. It and the other texts at the top of the tree link to each other as files of
the repository. Here these links become links between pages. The build is strict: a link to what is no page fails.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]

PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "ARCHITECTURE.md": "project/architecture.md",
    "DECISIONS.md": "project/decisions.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "project/security.md",
    "LICENSE": "project/licence.md",
    "benches/README.md": "project/benches.md",
    "src/core/README.md": "project/crates/core.md",
    "src/containers/README.md": "project/crates/containers.md",
    "src/disk/README.md": "project/crates/disk.md",
    "src/remote/README.md": "project/crates/remote.md",
    "src/shared/README.md": "project/crates/shared.md",
}
"""Files of the repository that are pages, and where they are in the site."""

_SOURCES = {page: file for file, page in PAGES.items()}

_LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)\s]+)(?=\))")
_EXAMPLE = re.compile(r"^(>>> .*(?:\n.+)*)", re.MULTILINE)
_STAR = re.compile(r"(?<=[( ])\*{1,2}(?=\w+[),])")
_ROLE = re.compile(r":(?:meth|func|class|exc|attr|mod):`([^`]+)`")
_FENCE = re.compile(r"^(```.*?^```[ \t]*$|~~~.*?^~~~[ \t]*$)", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from outside of `docs`."""
    for source, page in PAGES.items():
        text = (ROOT / source).read_text("utf-8")
        if source == "LICENSE":
            text = f"# Licence\n\n```text\n{text}```\n"
        files.append(File.generated(config, page, content=text))
    return files


def relinked(markdown: str, page: str) -> str:
    """Return a page's text with links to files of the repository as links to the pages of the site."""
    source = _SOURCES.get(page, f"docs/{page}")

    def target(match: re.Match[str]) -> str:
        path, mark, anchor = match.group(1).partition("#")
        file = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        goal = PAGES.get(file) or file.removeprefix("docs/")
        return posixpath.relpath(goal, posixpath.dirname(page) or ".") + mark + anchor

    parts = _FENCE.split(markdown)
    # Every second part is a block of code.
    parts[::2] = [_LINK.sub(target, part) for part in parts[::2]]
    return "".join(parts)


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Turn links to files of the repository into links between pages, and rank the page in the search."""
    if page.file.src_uri.startswith(("project/", "benchmarks/")):
        page.meta["search"] = {"boost": 0.1}  # The guides answer most questions.
    return relinked(markdown, page.file.src_uri)


class Docstrings(griffe.Extension):
    """Converts docstrings to Markdown: examples become code blocks, and roles become the names that they refer to."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Convert the docstring of an object."""
        if obj.docstring is not None:
            text = _EXAMPLE.sub(r"```pycon\n\1\n```", obj.docstring.value)
            obj.docstring.value = _STAR.sub(lambda stars: stars.group().replace("*", r"\*"), _ROLE.sub(r"`\1`", text))


class OverloadedCalls(griffe.Extension):
    """Shows functions for which a stub has only overloads. The last overload appears with all signatures."""

    def on_module_members(self, *, mod: griffe.Module, **_: Any) -> None:
        """Process the members of a module."""
        _add_overloaded(mod)

    def on_class_members(self, *, cls: griffe.Class, **_: Any) -> None:
        """Process the members of a class."""
        _add_overloaded(cls)


class AwaitedCalls(griffe.Extension):
    """Shows `aget = awaitable(Cache.get)` as a coroutine function with the parameters of `get`."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Process all classes after everything is loaded, so that base classes can be found."""
        for module in [pkg, *pkg.modules.values()]:
            self._visit(module)

    def _visit(self, of: griffe.Module) -> None:
        for module in of.modules.values():
            if not module.is_alias:
                self._visit(module)
        for class_ in of.classes.values():
            if not class_.is_alias:
                for name, member in list(class_.members.items()):
                    if not member.is_alias and member.is_attribute and str(member.value).startswith("awaitable("):
                        self._replace(class_, name)

    def _replace(self, class_: griffe.Class, name: str) -> None:
        awaited = class_.all_members[name[1:]]
        call = griffe.Function(name, parameters=awaited.parameters, returns=awaited.returns, lineno=class_.lineno)
        call.labels.add("async")
        call.docstring = griffe.Docstring(f"As `{name[1:]}`, without blocking the event loop.", parent=call)
        class_.set_member(name, call)


def _add_overloaded(of: griffe.Module | griffe.Class) -> None:
    for name, overloads in list(of.overloads.items()):
        if name in of.members or not overloads:
            continue
        shown = overloads[-1]
        shown.overloads = list(overloads)
        shown.docstring = next((each.docstring for each in overloads if each.docstring), None)
        of.set_member(name, shown)
