"""Sessions with and without `await` have the same calls, and the examples work."""

from __future__ import annotations

import doctest
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flexcache_rs import sessions
from flexcache_rs.sessions import sync

ROOT = Path(__file__).resolve().parents[2]


def test_the_face_without_await_is_up_to_date() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "make_sync.py"), "--check"]
    made = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert made.returncode == 0, made.stderr


@pytest.mark.parametrize("name", [name for name in sync.__all__ if inspect.isclass(getattr(sync, name))])
def test_both_faces_have_the_same_calls(name: str) -> None:
    awaited: Any = getattr(sessions, name)
    plain: Any = getattr(sync, name)

    def calls(of: type) -> dict[str, list[str]]:
        return {
            call: list(inspect.signature(getattr(of, call)).parameters)
            for call in dir(of)
            if not call.startswith("_") and callable(getattr(of, call))
        }

    expected = {{"aclose": "close"}.get(call, call): arguments for call, arguments in calls(awaited).items()}
    assert calls(plain) == expected
    for call in calls(plain):
        assert (getattr(plain, call).__doc__ or "").strip(), f"{name}.{call} has no docstring"


@pytest.mark.usefixtures("temporary_files")
@pytest.mark.parametrize("face", [sessions, sync], ids=lambda face: face.__name__)
def test_examples_in_docstrings(face: Any) -> None:
    """The examples work, and every class with calls has one."""
    classes = [member for name in face.__all__ if inspect.isclass(member := getattr(face, name))]
    for module in sorted({face.__name__, *(of.__module__ for of in classes)}):
        assert doctest.testmod(sys.modules[module]).failed == 0, module
    without = {of.__name__ for of in classes if ">>>" not in (of.__doc__ or "") and not issubclass(of, Exception)}
    assert without <= {"Handle", "Hit", "Job", "Pending"}


def test_importing_the_package_does_not_import_sessions() -> None:
    program = "import sys, flexcache_rs; print('flexcache_rs.sessions' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "False\n"
