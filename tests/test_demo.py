"""The demonstration shows what it should, and the progress of a build is seen."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from flexcache_rs._demo_command import SHOWN, SIZES, workload
from flexcache_rs.replay.recommend import recommend
from flexcache_rs.replay.simulate import compare

ROOT = Path(__file__).resolve().parent.parent


def test_the_demonstration() -> None:
    """Each line shows the result that its text names. Times are not checked."""
    command = [sys.executable, "-m", "flexcache_rs", "demo"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert 10 <= len(lines) <= 25
    assert max(map(len, lines)) <= 110
    text = "\n".join(lines)
    assert re.search(r"a slow function, memoized +first call \d+ ms, then [\d.]+ µs", text)
    assert re.search(r"a hit among 10,000 entries +\d+ ns; dict \d+ ns", text)
    assert re.search(r"50 threads ask for one result at the same time +1 computation; functools.lru_cache \d+", text)
    assert re.search(r"1,000 entries on disk, after a restart +1,000 entries found", text)
    assert re.search(r"4 processes, one cache [a-z ]+ 4,000 requests, 1,000 computations", text)
    assert lines[-1] == ('recommended for these requests: FlexCache("auto"); recommended in general: "auto"')


def test_the_recommendation_is_that_of_the_documentation() -> None:
    """`auto` is what docs/policies.md recommends to everybody, and what the workload asks for with any seed."""
    assert "We recommend `auto`" in (ROOT / "docs" / "policies.md").read_text("utf-8")
    for seed in (1, 2):
        advice = recommend(compare(workload(), SHOWN, SIZES, seed=seed))
        assert advice is not None
        assert advice.policy == "auto"


@pytest.mark.parametrize("seconds", ["0.0", "1000.0"])
def test_the_progress_of_a_build_is_shown_and_its_failure_as_a_whole(tmp_path: Path, seconds: str) -> None:
    """Uses a fake `pip` that fails at the second crate."""
    (tmp_path / "pip.py").write_text(
        'import sys, time\nprint("  Downloading maturin-1.0.whl", flush=True)\nfor crate in ("one", "flexcache-rs"):\n'
        '    print(f"   Compiling {crate} v1.0", flush=True)\n    time.sleep(0)\n'
        'sys.exit("it does not compile")\n',
        "utf-8",
    )
    script = (ROOT / "scripts" / "install_shown.py").read_text("utf-8")
    script = script.replace("BETWEEN = 5.0", f"BETWEEN = {seconds}")
    (tmp_path / "install_shown.py").write_text(script, "utf-8")
    command = [sys.executable, "install_shown.py", "."]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)
    assert done.returncode == 1
    shown = done.stdout.partition("  Downloading")[0].splitlines()
    # The last crate is shown in any case.
    last = "crate 2: compiling flexcache-rs v1.0 (the last one, which takes the longest)"
    assert shown[1:] == (["crate 1: compiling one v1.0", last] if seconds == "0.0" else [last])
    assert done.stdout.endswith("it does not compile\n")
