"""Prepare the tree for a release from a repository: `python scripts/release_metadata.py URL [VERSION]`.

Package indexes show README without its repository, so links between files lead nowhere there. This makes them links to
the files of the release, and writes the URLs of the project into the metadata. It changes the tree, so run it on a
checkout that is thrown away; the release workflow does.
"""

from __future__ import annotations

import argparse
import posixpath
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)\s]+)(?=\))")
FENCE = re.compile(r"^(```.*?^```[ \t]*$)", re.MULTILINE | re.DOTALL)


def absolute(markdown: str, folder: str, files: str) -> str:
    """Return the text of a page with its links to files replaced by links below a URL."""

    def target(match: re.Match[str]) -> str:
        path, mark, anchor = match.group(1).partition("#")
        return f"{files}/{posixpath.normpath(posixpath.join(folder, path))}{mark}{anchor}"

    parts = FENCE.split(markdown)
    # Every second part is a block of code.
    parts[::2] = [LINK.sub(target, part) for part in parts[::2]]
    return "".join(parts)


def crates(root: Path) -> list[str]:
    """Return the folders of the crates that the workspace publishes."""
    return sorted(manifest.parent.relative_to(root).as_posix() for manifest in root.glob("src/*/Cargo.toml"))


def prepare(root: Path, repository: str, version: str) -> None:
    """Write the URLs into a tree."""
    files = f"{repository}/blob/v{version}"
    for folder in ("", *crates(root)):
        readme = root / folder / "README.md"
        readme.write_text(absolute(readme.read_text("utf-8"), folder, files), "utf-8")
    project = root / "pyproject.toml"
    urls = (
        "\n[project.urls]\n"
        f'Repository = "{repository}"\n'
        f'Documentation = "{files}/docs/start.md"\n'
        f'Changelog = "{files}/CHANGELOG.md"\n'
        f'Issues = "{repository}/issues"\n'
    )
    text = project.read_text("utf-8")
    before, heading, after = text.partition("\n[project.optional-dependencies]\n")
    assert heading, "pyproject.toml has no optional dependencies, before which the URLs stand"
    project.write_text(before + urls + heading + after, "utf-8")
    for folder in ("", *crates(root)):
        manifest = root / folder / "Cargo.toml"
        text, count = re.subn(
            r"^(authors\.workspace = true)$",
            rf'\1\nrepository = "{repository}"',
            manifest.read_text("utf-8"),
            count=1,
            flags=re.MULTILINE,
        )
        assert count, f"{manifest} has no authors, after which the repository stands"
        manifest.write_text(text, "utf-8")


def main() -> int:
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("repository", help="the URL of the repository, without a slash at its end")
    parser.add_argument("version", nargs="?", help="default: the version in Cargo.toml")
    options = parser.parse_args()
    if not re.fullmatch(r"https://[^\s\"]+[^\s\"/]", options.repository):
        parser.error(f"repository must be a URL: https://..., without a slash at its end; not {options.repository!r}")
    version = re.search(r'^version = "(.+)"$', (ROOT / "Cargo.toml").read_text("utf-8"), re.MULTILINE)
    assert version is not None, "Cargo.toml has no version"
    prepare(ROOT, options.repository, options.version or version.group(1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
