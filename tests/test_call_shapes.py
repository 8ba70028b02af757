"""The templates of `suggesting` are compiled before, so that an import compiles nothing."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

from flexcache_rs import _call_shapes

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "scripts" / "make_call_shapes.py"

COMPILED = f"""
import runpy
runpy.run_path({str(SCRIPT)!r})["import_all"]()
from flexcache_rs import _suggest
print(sorted(_suggest.compiled))
"""


def test_no_import_compiles_a_template() -> None:
    command = [sys.executable, "-W", "ignore", "-c", COMPILED]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ran.stdout.strip() == "[]", f"run python {SCRIPT.name}\n{ran.stdout}{ran.stderr}"


def test_the_templates_are_what_would_be_compiled() -> None:
    text = runpy.run_path(str(SCRIPT))["text_of"](sorted(_call_shapes.SHAPES))
    assert Path(_call_shapes.__file__).read_text("utf-8") == text
