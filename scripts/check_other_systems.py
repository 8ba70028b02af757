"""Compile the Rust of all crates for other systems: `python scripts/check_other_systems.py [TARGET...]`. Nothing runs.

The standard library is compiled as well, so its source must be that of the compiler. Debian has both in rustc-web and
rust-web-src, and rustup brings the source with `rustup component add rust-src`. `RUSTC` names another compiler.

C is not compiled. Build scripts get a stand-in for its compiler, which makes empty files. Ends with 1 if a crate does
not compile without warnings, and with 2 if no compiler has the source.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUILT = ROOT / "target" / "other-systems"

TARGETS = ("x86_64-pc-windows-msvc", "x86_64-pc-windows-gnu", "x86_64-apple-darwin", "aarch64-apple-darwin")

DLLTOOL = "x86_64-w64-mingw32-dlltool"
"""Makes libraries of imports for Windows without Microsoft's tools. Debian has it in binutils-mingw-w64-x86-64."""

STAND_IN = """\
#!/bin/sh
# Makes an empty file wherever a compiler or an archiver is told to make one.
for argument; do
  case $argument in
    -out:*) : >"${argument#-out:}" ;;
    -Fo*) : >"${argument#-Fo}" ;;
    *.a | *.lib) : >"$argument" ;;
    *) if [ "$before" = -o ]; then : >"$argument"; fi ;;
  esac
  before=$argument
done
"""


def compiler() -> str | None:
    """Return a compiler that has the source of its standard library."""
    for candidate in (os.environ.get("RUSTC"), "rustc", "/usr/bin/rustc"):
        if candidate and (path := shutil.which(candidate)):
            root = subprocess.check_output([path, "--print", "sysroot"], text=True, cwd=ROOT).strip()
            if (Path(root) / "lib/rustlib/src/rust/library/Cargo.lock").exists():
                return path
    return None


def environment(rustc: str, target: str) -> dict[str, str]:
    """Return the environment in which cargo compiles for a target without a C compiler."""
    stand_in = BUILT / "stand-in-for-c"
    stand_in.parent.mkdir(parents=True, exist_ok=True)
    stand_in.write_text(STAND_IN)
    stand_in.chmod(0o755)
    name = target.replace("-", "_")
    return {
        **os.environ,
        "RUSTC": rustc,
        # Compiling the standard library is not stable yet.
        "RUSTC_BOOTSTRAP": "1",
        "CARGO_INCREMENTAL": "0",
        f"CC_{name}": str(stand_in),
        f"AR_{name}": str(stand_in),
        # Without this, the build asks Apple's tools for the path.
        "SDKROOT": str(BUILT),
        "PYO3_CROSS": "1",
        "PYO3_CROSS_PYTHON_VERSION": "3.13",
    }


def is_checked(rustc: str, target: str) -> bool:
    """Compile all crates for a target, and print the errors. Returns True if there are none."""
    command = ["cargo", "check", "--locked", "--workspace", "--lib", "-Zbuild-std=std,panic_unwind"]
    command += ["--target", target, "--target-dir", str(BUILT)]
    ran = subprocess.run(command, cwd=ROOT, env=environment(rustc, target), stderr=subprocess.PIPE, check=False)
    said = ran.stderr.decode(errors="replace")
    is_clean = ran.returncode == 0 and "warning:" not in said
    if not is_clean:
        print(said, file=sys.stderr)
    return is_clean


def main(targets: list[str]) -> int:
    """Check targets, and print a line for each."""
    rustc = compiler()
    if rustc is None:
        print("no compiler here has the source of its standard library: see the top of this script", file=sys.stderr)
        return 2
    status = 0
    for target in targets or TARGETS:
        if target.endswith("windows-gnu") and not shutil.which(DLLTOOL):
            print(f"{target}: left out, since {DLLTOOL} is missing", flush=True)
        elif is_checked(rustc, target):
            print(f"{target}: all crates compile", flush=True)
        else:
            print(f"{target}: failed", flush=True)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
