"""The command line, as a terminal's user and as a program meet it."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

import flexcache_rs
from flexcache_rs.__main__ import main

if TYPE_CHECKING:
    from pathlib import Path

    Capture = pytest.CaptureFixture[str]
SMALL = ["replay", "--requests", "2000", "--keys", "100", "--sizes", "5,10%,1k"]


def test_the_table(capsys: Capture) -> None:
    """Aligned, with every policy at every size, the best marked, and no colour off a terminal."""
    assert main(SMALL) == 0
    out, err = capsys.readouterr()
    heading, heads, *rows = out.splitlines()
    assert heading == "Zipf 0.9 (seed 1): 2,000 requests, 100 keys"
    assert heads.split() == ["size", "policy", "hit", "ratio", "op/s", "memory", "a", "key"]
    assert len(rows) == 12
    assert len({row.index("%") for row in rows}) == 1
    assert [row.split()[0] for row in rows[::4]] == ["5", "10", "1,000"]
    assert sum("*" in row for row in rows[:4]) >= 1
    assert "\x1b" not in out
    assert err == ""


def test_json(capsys: Capture) -> None:
    """Nothing but JSON on standard output."""
    assert main([*SMALL, "--json", "--policies", "fifo,lru"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["flexcache_rs"] == flexcache_rs.__version__
    (trace,) = document["traces"]
    assert (trace["requests"], trace["distinct"], trace["skipped_lines"]) == (2000, 100, 0)
    assert [(result["policy"], result["size"]) for result in trace["results"]] == [
        ("lru", 5), ("fifo", 5), ("lru", 10), ("fifo", 10), ("lru", 1000), ("fifo", 1000),
    ]  # fmt: skip
    for result in trace["results"]:
        assert result["hit_ratio"] == result["hits"] / 2000


def test_a_file_a_folder_and_standard_input(tmp_path: Path, capsys: Capture) -> None:
    """Any number of traces, one after the other."""
    (tmp_path / "one.txt").write_text("a\nb\na\n", encoding="utf-8")
    (tmp_path / "two.gz").write_bytes(gzip.compress(b"x\nx\n"))
    (tmp_path / "notes.md").write_text("no trace", encoding="utf-8")
    assert main(["replay", str(tmp_path), str(tmp_path / "one.txt"), "--json", "--sizes", "1"]) == 0
    traces = json.loads(capsys.readouterr().out)["traces"]
    assert [trace["name"] for trace in traces] == ["one.txt", "two.gz", "one.txt"]
    done = subprocess.run(
        [sys.executable, "-m", "flexcache_rs", "replay", "-", "--sizes", "1"],
        input=gzip.compress(b"a\na\n"), capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    assert b"standard input: 2 requests, 1 keys" in done.stdout


@pytest.mark.parametrize("on_error", ["stop", "skip"])
def test_malformed_lines(tmp_path: Path, capsys: Capture, on_error: str) -> None:
    """Named, then the end or on to the next, as asked."""
    file = tmp_path / "bad.txt"
    file.write_text("a\nb b b\na\n", encoding="utf-8")
    assert main(["replay", str(file), "--sizes", "1", "--on-error", on_error]) == (1 if on_error == "stop" else 0)
    out, err = capsys.readouterr()
    assert "bad.txt, line 2: 3 fields" in err
    assert ("1 malformed lines skipped" in err) == ("2 requests" in out) == (on_error == "skip")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["absent.txt"], "absent.txt: No such file"),
        (["--plot", "no/such/folder.svg"], "no/such: no such folder"),
        (["--by-size"], "needs a trace with sizes"),
    ],
)
def test_what_cannot_be_done(capsys: Capture, arguments: list[str], complaint: str) -> None:
    """One line on standard error, exit status 1."""
    if arguments[0] == "--plot" and find_spec("matplotlib") is None:
        complaint = "pip install 'flexcache-rs[plot]'"
    assert main([*SMALL, *arguments]) == 1
    out, err = capsys.readouterr()
    assert complaint in err
    assert (err.count("\n"), out) == (1, "")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--sizes", "0"], "'0' is no size"),
        (["--sizes", "5x"], "'5x' is no size"),
        (["--sizes", "101%"], "'101%' is no size"),
        (["--sizes", "1,,2"], "'' is no size"),
        (["--policies", "lru,mru"], "'mru' is no policy"),
        (["--requests", "0"], "'0' is not a number of at least 1"),
        (["--skew", "nan"], "'nan' is not a number"),
        (["--plot", "curve.pdf"], "'curve.pdf' must end in .png or .svg"),
        (["--on-error", "panic"], "invalid choice"),
        (["--nonsense"], "--nonsense"),
    ],
)
def test_options_that_make_no_sense(capsys: Capture, arguments: list[str], complaint: str) -> None:
    """Argparse's usage, exit status 2."""
    with pytest.raises(SystemExit) as raised:
        main(["replay", *arguments])
    assert raised.value.code == 2
    assert complaint in capsys.readouterr().err


def test_help_and_version(capsys: Capture) -> None:
    """Without a command there is help; --version says which."""
    assert main([]) == 0
    assert "replay" in capsys.readouterr().out
    with pytest.raises(SystemExit) as raised:
        main(["--version"])
    assert (raised.value.code, capsys.readouterr().out) == (0, f"flexcache-rs {flexcache_rs.__version__}\n")
    with pytest.raises(SystemExit):
        main(["replay", "--help"])
    assert "examples:" in capsys.readouterr().out


@pytest.mark.skipif(find_spec("matplotlib") is None, reason="drawing needs matplotlib")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "begins"), [("curve.svg", b"<?xml"), ("curve.PNG", b"\x89PNG")])
def test_the_plot(tmp_path: Path, name: str, begins: bytes) -> None:
    """A file of the kind its name says."""
    assert main([*SMALL, "--plot", str(tmp_path / name)]) == 0
    assert (tmp_path / name).read_bytes().startswith(begins)


@pytest.mark.skipif(find_spec("pty") is None, reason="terminals are made with pty")
@pytest.mark.parametrize("no_colour", [False, True])
def test_on_a_terminal(no_colour: bool) -> None:
    """There are colours and, when it takes long, a progress bar that goes away again."""
    import pty

    main_end, terminal = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", **({"NO_COLOR": "1"} if no_colour else {})}
    environment.pop("NO_COLOR", None) if not no_colour else None
    command = [sys.executable, "-m", "flexcache_rs", "replay", "--requests", "2500000", "--sizes", "50%,60%"]
    process = subprocess.Popen(command, stdout=terminal, stderr=terminal, env=environment)
    os.close(terminal)
    shown = b""
    while True:
        try:
            piece = os.read(main_end, 65536)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    os.close(main_end)
    assert process.wait(60) == 0
    assert (b"\x1b[32m" in shown) == (not no_colour)
    assert b"[###" in shown
    assert shown.rindex(b"\x1b[K") < shown.rindex(b"random")


def test_a_pipe_that_closes() -> None:
    """Whoever reads may stop reading: no traceback."""
    command = f"{sys.executable} -m flexcache_rs replay --requests 1000 --keys 10 --json | head -c 1"
    done = subprocess.run(command, shell=True, capture_output=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == (b"{", b"")
