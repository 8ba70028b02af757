"""The templates of `suggesting` are compiled before, so that an import compiles nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from flexcache_rs import _call_shapes

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "scripts" / "make_call_shapes.py"

MADE = f"""
import runpy
script = runpy.run_path({str(SCRIPT)!r})
print(script["text_of"](script["shapes_in_use"]()), end="")
"""


def test_the_templates_are_those_that_the_package_needs() -> None:
    command = [sys.executable, "-W", "ignore", "-c", MADE]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert Path(_call_shapes.__file__).read_text("utf-8") == ran.stdout, f"run python {SCRIPT.name}"
