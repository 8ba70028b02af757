"""File systems that cannot lock: the exception names the directory and the reason, and comes in time."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the library is loaded before the others as Linux does it"),
    # Where the package was built, there is a compiler.
    pytest.mark.skipif(shutil.which("cc") is None, reason="the library has to be compiled"),
]

# Locks of a file in a directory of this name fail.
SOURCE = """
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int call(int file, int command, void *argument) {
    char link[64], path[4096] = "";
    int locks = command == F_SETLK || command == F_GETLK;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    if (locks && readlink(link, path, sizeof path - 1) > 0 && strstr(path, "/without locks/")) {
        errno = atoi(getenv("ERROR_OF_LOCKS"));
        return -1;
    }
    return syscall(SYS_fcntl, file, command, argument);
}
#define REPLACED(name) int name(int file, int command, ...) { \\
    va_list rest; va_start(rest, command); void *argument = va_arg(rest, void *); va_end(rest); \\
    return call(file, command, argument); }
REPLACED(fcntl)
REPLACED(fcntl64)
"""

PROGRAM = """
import sqlite3, sys
from flexcache_rs.disk import Cache, FanoutCache
directory, kind, options = sys.argv[1:]
try:
    {"Cache": Cache, "FanoutCache": FanoutCache}[kind](directory, **eval(options))
except sqlite3.OperationalError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that replaces the system's calls."""
    folder = tmp_path_factory.mktemp("library")
    (folder / "locks.c").write_text(SOURCE, encoding="utf-8")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", folder / "locks.so", folder / "locks.c"], check=True)
    return folder / "locks.so"


@pytest.mark.parametrize("kind", ["Cache", "FanoutCache"])
@pytest.mark.parametrize(
    ("number", "options"),
    [
        (errno.ENOSYS, "{}"),
        (errno.EOPNOTSUPP, "{'network': True}"),
        (errno.EINVAL, "{'timeout': 3600}"),
        (errno.ENOLCK, "{'timeout': 0.2}"),
        (errno.ENOLCK, "{'timeout': 0, 'network': True}"),
        (errno.EIO, "{'timeout': 0.2}"),
    ],
)
def test_what_cannot_be_locked_is_named(tmp_path: Path, library: Path, kind: str, number: int, options: str) -> None:
    """At once if there are no locks, and otherwise after `timeout` seconds, or a moment, for all steps together.

    Without a bound it would take longer than the test waits.
    """
    place = tmp_path / "without locks"
    place.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, place, kind, options],
        env={**os.environ, "LD_PRELOAD": str(library), "ERROR_OF_LOCKS": str(number)},
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )
    database = place / "cache.db" if kind == "Cache" else place / "000" / "cache.db"
    assert done.stdout == f"the file system cannot lock files ({os.strerror(number)}): {database}\n"
