"""Packaging: licences, metadata of a release, crates, imports."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
CRATES = sorted(manifest.parent.relative_to(ROOT).as_posix() for manifest in ROOT.glob("src/*/Cargo.toml"))


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_licences_of_linked_code_are_up_to_date() -> None:
    """`python scripts/third_party_licences.py` updates them. It runs cargo, and needs the sources of crates."""
    listed = re.findall(r"^(\S+) (\d\S*): ", (ROOT / "THIRD-PARTY-LICENSES.txt").read_text("utf-8"), re.MULTILINE)
    locked = re.findall(r'^name = "(.+)"\nversion = "(.+)"', (ROOT / "Cargo.lock").read_text("utf-8"), re.MULTILINE)
    assert len(listed) > 20
    assert set(listed) <= set(locked)
    if shutil.which("cargo"):
        assert script("third_party_licences").made() == (ROOT / "THIRD-PARTY-LICENSES.txt").read_text("utf-8")


@pytest.mark.parametrize("crate", CRATES)
def test_crates_have_what_a_registry_shows(crate: str) -> None:
    manifest = (ROOT / crate / "Cargo.toml").read_text("utf-8")
    for key in ("description", "readme", "keywords", "categories", "license.workspace", "authors.workspace"):
        assert re.search(rf"^{re.escape(key)} = ", manifest, re.MULTILINE), key
    assert (ROOT / crate / "README.md").is_file()
    assert (ROOT / crate / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_every_crate_is_packed() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    packed = re.search(r"^published := (.+)$", makefile, re.MULTILINE)
    assert packed is not None
    assert sorted(packed.group(1).split()[1::2]) == [f"flexcache-{Path(crate).name}" for crate in CRATES]


def test_a_release_has_absolute_links_and_urls(tmp_path: Path) -> None:
    for name in ("README.md", "pyproject.toml", "Cargo.toml", *(f"{crate}/Cargo.toml" for crate in CRATES)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    for crate in CRATES:
        shutil.copy(ROOT / crate / "README.md", tmp_path / crate / "README.md")
    script("release_metadata").prepare(tmp_path, "https://code.example/flexcache-rs", "1.2.3")
    for readme in tmp_path.rglob("README.md"):
        text = re.sub(r"^```.*?^```", "", readme.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
        links = re.findall(r"\]\(([^)\s]+)\)", text)
        assert [link for link in links if not link.startswith(("https://", "#"))] == []
        for link in links:
            file = re.fullmatch(r"https://code\.example/flexcache-rs/blob/v1\.2\.3/([^#]+)(#.*)?", link)
            assert file is None or (ROOT / file.group(1)).is_file(), link
    project = (tmp_path / "pyproject.toml").read_text("utf-8")
    assert '[project.urls]\nRepository = "https://code.example/flexcache-rs"\n' in project
    for crate in ("", *CRATES):
        manifest = (tmp_path / crate / "Cargo.toml").read_text("utf-8")
        assert '\nrepository = "https://code.example/flexcache-rs"\n' in manifest


def test_scripts_that_workflows_run_exist() -> None:
    for workflow in (ROOT / ".github" / "workflows").glob("*.yml"):
        for name in re.findall(r"(?:scripts/\w+\.py|\.ci/\w+)", workflow.read_text("utf-8")):
            assert (ROOT / name).is_file(), f"{name} in {workflow.name}"


def test_a_wheel_is_checked(tmp_path: Path) -> None:
    """The check names each file that is missing, unexpected or too large."""
    checked = script("check_wheel")
    wheel = tmp_path / "flexcache_rs-1-py3-none-any.whl"
    good = [*checked.NEEDED, "flexcache_rs/_core.so", "x.dist-info/METADATA", "x.dist-info/sboms/a.json"]
    good += [f"x.dist-info/licenses/{name}" for name in checked.LICENCES]

    def faults(names: list[str]) -> list[str]:
        with zipfile.ZipFile(wheel, "w") as archive:
            for name in names:
                archive.writestr(name, "")
        return list(checked.faults(wheel))

    assert faults(good) == []
    for name in good:
        if not name.endswith("METADATA"):
            assert len(faults([other for other in good if other != name])) == 1, name
    assert faults([*good, "stubs/a.pyi"]) == ["has stubs/a.pyi, which belongs to nobody"]
    checked.MOST_BYTES = 10
    assert "more than 10" in faults(good)[0]


# Imports

PARTS = {
    "flexcache_rs": ("asyncio", "logging", "argparse", "typing", "json", "threading", "sqlite3", "inspect", "pickle"),
    "flexcache_rs.disk": ("asyncio", "argparse", "json", "sqlite3", "concurrent.futures", "django", "inspect"),
    "flexcache_rs.shared": ("asyncio", "argparse", "json", "sqlite3", "django", "inspect", "pickle"),
    "flexcache_rs.testing": ("asyncio", "argparse", "sqlite3"),
    "flexcache_rs.cachetools": ("asyncio", "argparse", "sqlite3"),
}
"""For each part, the modules that it must not import."""


@pytest.mark.parametrize("part", PARTS)
def test_nothing_is_imported_before_it_is_used(part: str) -> None:
    """A part imports neither slow modules of the standard library nor other parts of the package."""
    program = f"import sys; before = set(sys.modules); import {part}; print(*set(sys.modules) - before)"
    command = [sys.executable, "-I", "-c", program]
    loaded = set(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.split())
    assert loaded & set(PARTS[part]) == set()
    others = {"disk", "shared", "remote", "sessions", "replay", "cachetools", "pycache", "sciqlop", "prometheus"}
    own = part.partition(".")[2]
    assert {
        name for name in loaded if name.startswith("flexcache_rs.") and name.split(".")[1] in others - {own}
    } == set()
