"""What all commands have in common: what they print, where, and how they end."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from flexcache_rs.__main__ import main
from flexcache_rs.sessions.sync import connect

if TYPE_CHECKING:
    from pathlib import Path

CONTROLS = "\x1b[31m\x9b1m\r\x07\n\x7f\u202e"
SHOWN = r"\x1b[31m\x9b1m\r\x07\n\x7f\u202e"
COMMAND = [sys.executable, "-m", "flexcache_rs"]


def is_harmless(text: str) -> bool:
    """Whether a terminal only prints the text."""
    return all(char.isprintable() or char == "\n" for char in text)


def ended(*arguments: str) -> int:
    """Return the exit status of a command, which argparse raises for wrong arguments."""
    try:
        return main(arguments)
    except SystemExit as end:
        assert isinstance(end.code, int)
        return end.code


def test_keys_cannot_control_a_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"disk://{tmp_path}/data"
    with connect(url) as session:
        session.set_many({CONTROLS: CONTROLS, "é": 1})
    for arguments, out in [
        (("keys", url), f"{SHOWN}\né\n"),
        (("get", url, CONTROLS), f"'{SHOWN}'\n"),
        (("ttl", url, CONTROLS), "never expires\n"),
    ]:
        assert main(("sessions", *arguments)) == 0
        assert capsys.readouterr().out == out


@pytest.mark.parametrize(
    "arguments",
    [
        (CONTROLS,),
        ("sessions", CONTROLS),
        ("sessions", "get", "memory://", "key", CONTROLS),
        ("sessions", "keys", f"disk:///{CONTROLS}"),
        ("sessions", "keys", "disk:///%1b%00"),
        ("sessions", "migrate", f"/{CONTROLS}"),
        ("disk", "stats", CONTROLS),
        ("disk", "import", "/none/none", CONTROLS),
        ("disk", "export", CONTROLS, CONTROLS),
        ("disk", "check", CONTROLS),
        ("disk", "migrate", CONTROLS, CONTROLS),
        ("replay", CONTROLS),
        ("replay", f"/{CONTROLS}/{CONTROLS}.csv", "--format", "csv"),
        ("replay", "--plot", f"/{CONTROLS}/plot.png"),
        ("replay", "--seed", CONTROLS),
    ],
)
def test_no_message_controls_a_terminal(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(*arguments) in (1, 2)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err
    assert is_harmless(shown.err)


@pytest.mark.parametrize(
    "arguments",
    [
        ("redis://user:secret@host/0",),
        ("sessions", "redis://user:secret@host/0"),
        ("sessions", "keys", "disk:///none", "redis://user:secret@host/0"),
        ("sessions", "keys", "//user:secret@host/0"),
        ("sessions", "keys", "user:secret@host"),
        ("sessions", "keys", "redis://user:\u2100secret@host/0"),
        ("sessions", "keys", "mysql://user:secret/more@host/data"),
        ("mysql://user:more/secret@host/data",),
        ("sessions", "keys", "disk:///none", "mysql://user:'\"secret@host/data"),
        ("sessions", "keys", "redis://host/0?secret"),
        ("sessions", "migrate", "redis://user:secret@host/0"),
    ],
)
def test_no_message_repeats_a_password(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(*arguments) in (1, 2)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err
    assert "secret" not in shown.err


def test_a_reader_that_stops(tmp_path: Path) -> None:
    """It has read enough: this is no failure, and none of the backend."""
    url = f"disk://{tmp_path}/data"
    with connect(url) as session:
        # More than a pipe holds.
        session.set_many({f"{number:05} {'x' * 150}": number for number in range(3000)})
    command = [*COMMAND, "sessions", "keys", url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith(b"00000 ")
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 0


def test_a_full_device_is_not_the_backends_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        """A standard output that takes nothing."""

        def write(self, _: str) -> int:
            raise OSError(28, "No space left on device")

        def flush(self) -> None:
            pass

    from flexcache_rs._terminal import OutputError, tell

    monkeypatch.setattr(sys, "stdout", Full())
    with pytest.raises(OutputError) as raised:
        tell("line")
    assert isinstance(raised.value.__cause__, OSError)
    assert not isinstance(raised.value, OSError)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell")
def test_messages_never_reach_standard_output(tmp_path: Path) -> None:
    """Not even if standard error is closed: the output is an export, which stays whole."""
    program = "import sys\nfrom flexcache_rs.disk import Cache\nwith Cache(sys.argv[1]) as cache: cache['a'] = 1"
    subprocess.run([sys.executable, "-c", program, tmp_path / "cache"], check=True)
    closed = ["sh", "-c", 'exec "$@" 2>&-', "sh", *COMMAND]
    done = subprocess.run([*closed, "disk", "export", tmp_path / "cache", "-"], stdout=subprocess.PIPE, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == {"entries": 1}
    done = subprocess.run([*closed, "sessions", "keys", "memory://"], stdout=subprocess.PIPE, check=False)
    assert (done.returncode, done.stdout) == (1, b"")


INTERRUPTED = """
import runpy, sys

class Interrupting:
    def find_spec(self, name, *_):
        if name == sys.argv[1]:
            raise KeyboardInterrupt

module = sys.argv[1]
sys.meta_path.insert(0, Interrupting())
sys.argv[:] = [module, module]
runpy.run_module("flexcache_rs", run_name="__main__")
"""


@pytest.mark.parametrize("module", ["flexcache_rs._sessions_command", "flexcache_rs.replay.command"])
def test_ctrl_c_while_the_commands_are_imported(module: str) -> None:
    done = subprocess.run([sys.executable, "-c", INTERRUPTED, module], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


@pytest.mark.parametrize("name", ["/" + "x" * 300, "/", "//", "/dev/null"])
@pytest.mark.parametrize("action", ["stats", "clear", "unlink"])
@pytest.mark.skipif(sys.platform not in ("linux", "darwin"), reason="needs shared caches")
def test_places_that_are_no_cache(action: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The message names them. It does not blame standard output."""
    assert main(("shared", action, name)) == 1
    shown: Any = capsys.readouterr()
    assert shown.out == ""
    assert name in shown.err
    assert "standard output" not in shown.err


def test_an_error_with_a_message_of_its_own_is_not_about_the_output(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The system gives an error of the output a number, and the package raises some exceptions without one."""

    def fail(directory: Path) -> None:
        raise OSError(f"{directory}: it cannot hold a cache")

    monkeypatch.setattr("flexcache_rs.disk.raw_directory.find", fail)
    assert main(["disk", "stats", "place"]) == 1
    assert capsys.readouterr().err == "flexcache: place: it cannot hold a cache\n"


@pytest.mark.parametrize(
    ("action", "arguments"),
    [(("disk", "check"), (".",)), (("sessions", "keys"), ("memory://",)), (("replay",), ()), ((), ())],
    ids=str,
)
def test_an_unknown_option_shows_the_usage_of_its_action(
    action: tuple[str, ...], arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(*action, *arguments, "--no-such-option") == 2
    program = " ".join(("flexcache", *action))
    told = capsys.readouterr().err
    assert told.startswith(f"usage: {program} [-h]")
    assert told.endswith(f"\n{program}: error: unrecognized arguments: --no-such-option\n")
