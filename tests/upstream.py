"""Other libraries' own tests, run with this library under their names.

The tests are taken from a library's source distribution when they are run, and are no part of this project.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest
from scale import may_skip

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


NOTHING_TO_BUILD = """
import email
from pathlib import Path


def prepare_metadata_for_build_wheel(directory, config_settings=None):
    told = Path("PKG-INFO").read_bytes()
    fields = email.message_from_bytes(told)
    place = Path(directory, f"{fields['Name'].replace('-', '_')}-{fields['Version']}.dist-info")
    place.mkdir()
    (place / "METADATA").write_bytes(told)
    return place.name
"""
"""A build backend that returns the distribution's own metadata. pip needs a backend even to download. The library's own
backend would need compilers, and download other sources."""


@dataclass(frozen=True)
class Distribution:
    """A release of another library."""

    name: str
    version: str
    sha256: str
    need: str
    """The name of its tests in FLEXCACHE_REQUIRE."""

    backend: str = ""
    """The module of its build backend, if `NOTHING_TO_BUILD` must replace it."""

    folder: str = "tests"
    """The folder of its tests."""

    @property
    def stem(self) -> str:
        return f"{self.name.replace('-', '_')}-{self.version}"

    def fetch(self, config: pytest.Config) -> Path:
        """Return the source distribution from pytest's cache, or download it from PyPI."""
        assert config.cache is not None
        kept = config.cache.mkdir(self.name) / f"{self.stem}.tar.gz"
        if not kept.exists():
            wanted = ["--no-deps", "--no-binary", ":all:", "--dest", str(kept.parent), f"{self.name}=={self.version}"]
            environment = dict(os.environ)
            if self.backend:
                (kept.parent / f"{self.backend}.py").write_text(NOTHING_TO_BUILD)
                environment["PYTHONPATH"] = str(kept.parent)
                wanted.append("--no-build-isolation")
            command = [sys.executable, "-m", "pip", "download", "--quiet", *wanted]
            done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, env=environment)
            if may_skip(self.need, done.returncode == 0):
                pytest.skip(f"the source distribution of {self.name} cannot be had: {done.stderr.strip()[-300:]}")
        assert hashlib.sha256(kept.read_bytes()).hexdigest() == self.sha256
        return kept

    def unpack(self, config: pytest.Config, into: Path) -> None:
        """Copy the tests of the distribution to the subdirectory `tests` of a directory."""
        prefix = f"{self.stem}/{self.folder}/"
        with tarfile.open(self.fetch(config)) as archive:
            for member in archive:
                content = archive.extractfile(member) if member.isfile() else None
                if content is None or not member.name.startswith(prefix):
                    continue
                path = into / "tests" / member.name.removeprefix(prefix)
                assert path.resolve().is_relative_to(into.resolve())
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content.read())


TIMEOUT = 600
"""Seconds that a test which runs a suite may take, on a machine with much else to do."""


def run(place: Path, shim: Path, options: Sequence[str] = ()) -> tuple[dict[str, str], str]:
    """Runs the tests in a directory with the modules of another first; what came of each, and the output."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout=300", "--tb=native"]
    done = subprocess.run(
        [*command, *options, "--junitxml=results.xml", "tests"],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(shim)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT - 50,
        check=False,
    )
    results = {}
    for case in ElementTree.parse(place / "results.xml").iter("testcase"):
        kinds = {kind.tag for kind in case} - {"system-out", "system-err", "properties"}
        name = f"{case.get('classname', '').removeprefix('tests.')}.{case.get('name')}"
        results[name] = ", ".join(sorted(kinds)) or "passed"
    return results, done.stdout
