"""Write THIRD-PARTY-LICENSES.txt: the licences of what is linked into the extension module.

`python scripts/third_party_licences.py`, after a change of Cargo.lock. `--check` changes nothing, and ends with 1 if
the file is not what it should be. Where a crate leaves the choice, its MIT licence is taken.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "THIRD-PARTY-LICENSES.txt"

TARGETS = (
    "x86_64-unknown-linux-gnu",
    "aarch64-unknown-linux-musl",
    "x86_64-apple-darwin",
    "aarch64-apple-darwin",
    "x86_64-pc-windows-msvc",
)
"""What wheels are built for, as far as dependencies differ."""

HEADING = """\
The extension module of flexcache-rs is linked from its own code and from what is listed here. Below the list are the
licences, each once. Made by scripts/third_party_licences.py.

SQLite (in libsqlite3-sys) is in the public domain: https://sqlite.org/copyright.html
Zstandard (in zstd-sys) is under the BSD licence of zstd-sys.
The Rust standard library is under the MIT licence: Copyright (c) The Rust Project Contributors
"""

INSIDE = {"zstd-sys": ("zstd/LICENSE",)}
"""Licences of code that a crate has of others."""


def linked(target: str) -> list[dict[str, Any]]:
    """Return the crates that are linked into the module for a target, without macros and our own crates."""
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", target]
    try:
        output = subprocess.run([*command, "--offline"], cwd=ROOT, capture_output=True, check=True).stdout
    except subprocess.CalledProcessError:
        # Dependencies of other targets may never have been downloaded.
        output = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout
    metadata = json.loads(output)
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    waiting, seen = [metadata["resolve"]["root"]], set[str]()
    while waiting:
        package = waiting.pop()
        if package in seen or any("proc-macro" in kind["kind"] for kind in packages[package]["targets"]):
            continue
        seen.add(package)
        needed = nodes[package]["deps"]
        waiting += [each["pkg"] for each in needed if any(kind["kind"] is None for kind in each["dep_kinds"])]
    return [packages[package] for package in seen if packages[package]["source"] is not None]


def texts(crate: dict[str, Any]) -> list[str]:
    """Return the licences of a crate."""
    folder = Path(crate["manifest_path"]).parent
    files = sorted(file for file in folder.iterdir() if file.name.upper().startswith(("LICENSE", "LICENCE", "COPYING")))
    permissive = [file for file in files if "MIT" in file.name.upper()]
    files = (permissive or files) + [folder / inside for inside in INSIDE.get(crate["name"], ())]
    if "Unicode-3.0" in crate["license"]:
        files += [file for file in folder.glob("LICENSE-UNICODE*") if file not in files]
    assert files, f"{crate['name']} has no licence text"
    return ["\n".join(line.rstrip() for line in file.read_text("utf-8").strip().splitlines()) for file in files]


def made() -> str:
    """Return the content that the file should have."""
    crates: dict[tuple[str, str], dict[str, Any]] = {}
    for target in TARGETS:
        for crate in linked(target):
            crates[crate["name"], crate["version"]] = crate
    users: dict[str, list[str]] = {}
    lines = [HEADING]
    for (name, version), crate in sorted(crates.items()):
        lines.append(f"{name} {version}: {crate['license']}")
        for text in texts(crate):
            users.setdefault(text, []).append(name)
    for text, names in sorted(users.items(), key=lambda each: each[1]):
        lines += ["", "=" * 80, f"Of {', '.join(dict.fromkeys(names))}:", "", text]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--check", action="store_true", help="change nothing; say whether the file is up to date")
    text = made()
    if parser.parse_args().check:
        return int(FILE.read_text("utf-8") != text)
    FILE.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
