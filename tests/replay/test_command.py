"""The command line, as a terminal's user and as a program meet it."""

from __future__ import annotations

import gzip
import io
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import pytest

import flexcache_rs
from flexcache_rs import _terminal
from flexcache_rs.__main__ import main
from flexcache_rs.replay import command, plot
from flexcache_rs.replay.simulate import POLICIES

Capture = pytest.CaptureFixture[str]
SMALL = ["replay", "--requests", "2000", "--keys", "100", "--sizes", "5,10%,1k"]


def test_the_table(capsys: Capture) -> None:
    """Aligned, with every policy at every size, the best marked, and no colour off a terminal."""
    assert main(SMALL) == 0
    out, err = capsys.readouterr()
    heading, heads, *rows, advice = out.splitlines()
    assert heading == "Zipf 0.9 (seed 1): 2,000 requests, 100 keys"
    assert heads.split() == ["size", "policy", "hit", "ratio", "op/s", "memory", "a", "key"]
    count = len(POLICIES)
    assert len(rows) == 3 * count
    assert advice.startswith("recommended: ")
    assert len({row.index("%") for row in rows}) == 1
    assert [row.split()[0] for row in rows[::count]] == ["5", "10", "1,000"]
    for same_size in (rows[:count], rows[count : 2 * count], rows[2 * count :]):
        *same_size, limit = same_size
        assert "opt" in limit
        ratios = [float(row.split("%")[0].split()[-1]) for row in same_size]
        assert {ratio for ratio, row in zip(ratios, same_size, strict=True) if "*" in row} == {max(ratios)}
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
    assert trace["recommendation"]["policy"] == "lru"
    assert trace["recommendation"]["size"] in (5, 10, 1000)


def test_one_pass_for_all_sizes_shows_no_speed(capsys: Capture) -> None:
    """What one pass for several sizes took says nothing of any one of them; all other rows have a speed."""
    shown = {}
    for sizes in ("5,10,20", "5,10,20,40"):
        assert main([*SMALL, "--sizes", sizes, "--policies", "lru,fifo"]) == 0
        shown[sizes] = capsys.readouterr().out
        assert main([*SMALL, "--sizes", sizes, "--policies", "lru,fifo", "--json"]) == 0
        for result in json.loads(capsys.readouterr().out)["traces"][0]["results"]:
            shared = sizes == "5,10,20,40" and result["policy"] == "lru"
            assert (result["operations_per_second"] is None) == shared
    assert [text.count("lru: one pass for all sizes") for text in shown.values()] == [0, 1]
    assert [len([row for row in text.splitlines() if " - " in row]) for text in shown.values()] == [0, 4]


def test_the_largest_numbers(capsys: Capture) -> None:
    """What is allowed works."""
    largest = [*SMALL, "--seed", str(2**64 - 1), "--sizes", str(2**32 - 1), "--threads", "1024"]
    assert main([*largest, "--policies", "auto,lru", "--json"]) == 0
    results = json.loads(capsys.readouterr().out)["traces"][0]["results"]
    assert {(result["size"], result["hits"]) for result in results} == {(2**32 - 1, 1900)}


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
        (["replay", "absent.txt"], "absent.txt: No such file"),
        (["replay", ""], "No such file"),
        ([*SMALL, "--plot", "no/such/folder.svg"], "no/such: no such folder"),
        ([*SMALL, "--by-size"], "needs a trace with sizes"),
    ],
)
def test_what_cannot_be_done(capsys: Capture, arguments: list[str], complaint: str) -> None:
    """One line on standard error, exit status 1."""
    if "--plot" in arguments and find_spec("matplotlib") is None:
        complaint = "pip install 'flexcache-rs[plot]'"
    assert main(arguments) == 1
    out, err = capsys.readouterr()
    assert complaint in err
    assert (err.count("\n"), out) == (1, "")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--sizes", "0"], "'0' is no size"),
        (["--sizes", "5x"], "'5x' is no size"),
        (["--sizes", "101%"], "'101%' is no size"),
        (["--sizes", "18446744073709551615k"], "is no size"),
        (["--sizes", "1,,2"], "'' is no size"),
        (["--policies", "lru,mru"], "'mru' is no policy"),
        (["--sizes", "4294967296"], "--sizes: 4,294,967,296 is too large: no trace has more than 4,294,967,295 keys"),
        (["--sizes", "9223372036854775808", "--by-size"], "is no size"),
        (["--requests", "0"], "'0' is not a number from 1 to 100,000,000"),
        (["--requests", "1000000000"], "'1000000000' is not a number from 1 to 100,000,000"),
        (["--keys", "1000000000"], "argument --keys: '1000000000' is not a number from 1 to"),
        (["--skew", "nan"], "'nan' is not a number"),
        (["--skew", "inf"], "'inf' is not a number from 0 to 100"),
        (["--seed", "-1"], "--seed: '-1' is not a number from 0 to 18,446,744,073,709,551,615"),
        (["--seed", "18446744073709551616"], "--seed: '18446744073709551616' is not a number"),
        (["--threads", "1000000"], "--threads: '1000000' is not a number from 1 to 1,024"),
        (["trace.txt", "--requests", "5"], "--requests: only for the generated workload"),
        (["--skew", "1", "trace.txt", "--keys", "9"], "--keys, --skew: only for the generated workload"),
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
    """A file of the kind its name says; what the trace is called is no mathematics."""
    trace = tmp_path / "a$_{$.txt"
    trace.write_text("a\nb\na\n", encoding="utf-8")
    assert main(["replay", "--sizes", "1,2", str(trace), "--plot", str(tmp_path / name)]) == 0
    assert (tmp_path / name).read_bytes().startswith(begins)


@pytest.mark.skipif(find_spec("matplotlib") is None, reason="drawing needs matplotlib")
def test_the_plot_of_more_policies_than_markers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Draws all of them."""
    monkeypatch.setattr(plot, "MARKERS", "os")
    assert main([*SMALL, "--plot", str(tmp_path / "curve.svg")]) == 0
    drawn = (tmp_path / "curve.svg").read_text(encoding="utf-8")
    assert all(f"<!-- {policy} -->" in drawn for policy in POLICIES)


def test_the_formats_options(tmp_path: Path, capsys: Capture) -> None:
    """A folder of all kinds; columns by name."""
    (tmp_path / "a.lis").write_text("5 3 0 0\n", encoding="utf-8")
    (tmp_path / "b.csv").write_text("obj,bytes\nx,1\ny,2\n", encoding="utf-8")
    assert (
        main(["replay", str(tmp_path), "--json", "--sizes", "1", "--key-column", "obj", "--size-column", "bytes"]) == 0
    )
    traces = json.loads(capsys.readouterr().out)["traces"]
    assert [(trace["name"], trace["requests"]) for trace in traces] == [("a.lis", 3), ("b.csv", 2)]
    assert main(["replay", str(tmp_path / "b.csv")]) == 1
    assert "b.csv, no column 'key': there are 'obj', 'bytes'" in capsys.readouterr().err


def test_without_matplotlib(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said before any work, with the command that helps."""
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    assert main([*SMALL, "--plot", "curve.svg"]) == 1
    out, err = capsys.readouterr()
    assert "pip install 'flexcache-rs[plot]'" in err
    assert (err.count("\n"), out) == (1, "")


class Terminal(io.StringIO):
    """What believes to be a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("no_progress", [False, True])
def test_the_progress_bar(capsys: Capture, monkeypatch: pytest.MonkeyPatch, no_progress: bool) -> None:
    """On standard error only, up to the end, then gone; or not at all, if that was asked."""
    terminal = Terminal()
    monkeypatch.setattr(_terminal, "BEFORE_BAR", 0)
    monkeypatch.setattr(sys, "stderr", terminal)
    assert main([*SMALL, *["--no-progress"] * no_progress]) == 0
    drawn = terminal.getvalue().split("\r")
    if no_progress:
        assert drawn == [""]
    else:
        parts = [float(bar.split("]")[1].split("%")[0]) for bar in drawn[1:-1]]
        assert len(parts) > 0
        assert parts == sorted(parts)
        assert parts[-1] == 100
        assert drawn[-1] == "\x1b[K"
    assert "\r" not in capsys.readouterr().out


PROGRAM = """
import signal, sys
from flexcache_rs.__main__ import main
from flexcache_rs import _terminal
# Neither the machine's speed nor who started this may matter.
_terminal.BEFORE_BAR = 0
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(main(sys.argv[1:]))
"""
COMMAND = [sys.executable, "-c", PROGRAM]


@pytest.mark.skipif(find_spec("termios") is None, reason="terminals are made with pty")
@pytest.mark.parametrize("no_colour", ["", "1"])
def test_on_a_terminal(no_colour: str) -> None:
    """There are colours, unless NO_COLOR forbids them, and a progress bar that is gone before the table comes."""
    import pty

    main_end, terminal = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "NO_COLOR": no_colour}
    process = subprocess.Popen([*COMMAND, *SMALL], stdout=terminal, stderr=terminal, env=environment)
    os.close(terminal)
    shown = b""
    with suppress(OSError):  # Linux's way to say that the other end is closed
        while piece := os.read(main_end, 65536):
            shown += piece
    os.close(main_end)
    assert process.wait(60) == 0
    assert (b"\x1b[32m" in shown) == (not no_colour)
    bar, table = shown.split(b"\r\x1b[K")
    assert b"[####" in bar
    assert b"hit ratio" in table


@pytest.mark.skipif(os.name != "posix", reason="other systems have other signals")
def test_ctrl_c() -> None:
    """The conventional exit status, and not a word."""
    with subprocess.Popen(
        [*COMMAND, "replay", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        # More than a pipe holds: when all is written, some of it has been read.
        process.stdin.write(b"key\n" * 1_000_000)
        # The signal must meet a program that still reads. Python heeds one that comes just before it begins to wait
        # for input only when there is some; whoever sits there presses the keys again.
        for _ in range(6):
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
                break
        assert process.returncode == 130
        assert process.stdout is not None
        assert process.stderr is not None
        assert (process.stdout.read(), process.stderr.read()) == (b"", b"")


@pytest.mark.skipif(os.name != "posix", reason="other systems have other pipes")
@pytest.mark.parametrize("arguments", [SMALL, [*SMALL, "--json"], ["--help"]])
def test_a_pipe_that_is_closed(arguments: list[str]) -> None:
    """Whoever reads may stop reading: no complaint."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run([*COMMAND, *arguments], stdout=writing, stderr=subprocess.PIPE, timeout=60, check=False)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a full device")
def test_output_that_cannot_be_written() -> None:
    """One line on standard error, exit status 1."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*COMMAND, *SMALL], stdout=full, stderr=subprocess.PIPE, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (1, b"flexcache: standard output: No space left on device\n")
