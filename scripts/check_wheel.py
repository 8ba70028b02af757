"""Check what is in wheels: `python scripts/check_wheel.py WHEEL_OR_DIRECTORY...`. Ends with 1 if something is wrong."""

from __future__ import annotations

import stat
import sys
import zipfile
from pathlib import Path

MOST_BYTES = 3_800_000
"""The aim is 3 MB, which is missed; see DECISIONS.md. This keeps it from growing."""

NEEDED = (
    "flexcache.py",
    "flexcache_rs/__init__.py",
    "flexcache_rs/_core.pyi",
    "flexcache_rs/py.typed",
)
"""Files that each wheel has."""

LICENCES = ("LICENSE", "THIRD-PARTY-LICENSES.txt")


def faults(wheel: Path) -> list[str]:
    """Return what is wrong with a wheel."""
    wrong = []
    size = wheel.stat().st_size
    if size > MOST_BYTES:
        wrong.append(f"has {size:,} bytes, more than {MOST_BYTES:,}")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        wrong += [f"has no {name}" for name in NEEDED if name not in names]
        information = next(name.partition("/")[0] for name in names if ".dist-info/" in name)
        wrong += [f"has no {name}" for name in LICENCES if f"{information}/licenses/{name}" not in names]
        if not any(name.startswith(f"{information}/sboms/") for name in names):
            wrong.append("has no bill of materials (SBOM)")
        modules = [name for name in names if name.startswith("flexcache_rs/_core.") and name.endswith((".so", ".pyd"))]
        if len(modules) != 1:
            wrong.append(f"has {len(modules)} extension modules")
        allowed = ("flexcache_rs/", "flexcache.py", f"{information}/")
        wrong += [f"has {name}, which belongs to nobody" for name in names if not name.startswith(allowed)]
        links = [entry.filename for entry in archive.infolist() if stat.S_ISLNK(entry.external_attr >> 16)]
        wrong += [f"has the link {name}" for name in links]
    return wrong


def main(arguments: list[str]) -> int:
    """Check wheels, and those in directories."""
    wheels = [
        wheel
        for given in map(Path, arguments)
        for wheel in (sorted(given.glob("*.whl")) if given.is_dir() else [given])
    ]
    if not wheels:
        print("there is no wheel")
        return 1
    found = {wheel: faults(wheel) for wheel in wheels}
    for wheel, wrong in found.items():
        print(f"{wheel.name}: {wheel.stat().st_size:,} bytes", *(f"  {fault}" for fault in wrong), sep="\n")
    return int(any(found.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
