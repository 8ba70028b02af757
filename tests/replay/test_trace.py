"""Reading traces, and making them up."""

from __future__ import annotations

import gzip
import struct
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from flexcache_rs.replay.trace import Format, Trace, TraceError, read, zipf

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where a trace is written."""
    return tmp_path / "trace.txt"


def test_a_key_a_line(file: Path) -> None:
    """Numbered in order of first appearance; empty lines, comments and a byte order mark are left out."""
    file.write_bytes(b"\xef\xbb\xbf# a comment\na\nb\n\n  a  \n\xff\xfe\nc\r\n")
    trace = read(str(file))
    assert (trace.keys, trace.sizes, trace.distinct, trace.requests) == ([0, 1, 0, 2, 3], None, 4, 5)
    assert (trace.name, trace.footprint, trace.skipped) == ("trace.txt", 4, 0)


def test_a_key_and_a_size_a_line(file: Path) -> None:
    """Separated by any blanks."""
    file.write_text("a 10\nb\t20\na   30\n", encoding="utf-8")
    trace = read(str(file))
    assert (trace.keys, trace.sizes, trace.distinct, trace.footprint) == ([0, 1, 0], [10, 20, 30], 2, 50)


def test_gzip_is_known_by_its_content(tmp_path: Path) -> None:
    """Whatever the name says."""
    plain, zipped = tmp_path / "plain.gz", tmp_path / "zipped.txt"
    plain.write_bytes(b"a\nb\n")
    zipped.write_bytes(gzip.compress(b"a\nb\n"))
    assert read(str(plain)).keys == read(str(zipped)).keys == [0, 1]


@pytest.mark.parametrize(
    ("content", "line", "complaint"),
    [
        (b"a b c\n", 1, "3 fields, not a key, or a key and a size"),
        (b"a\nb 5\n", 2, "2 fields, not a key"),
        (b"a 5\n\nb\n", 3, "1 field, not a key and a size"),
        (b"a x\n", 1, "the size 'x' is no integer"),
        (b"a 1\nb -1\n", 2, "the size '-1' is no integer"),
        (b"a 1.5\n", 1, "the size '1.5'"),
        (b"a 9223372036854775808\n", 1, "2**63 - 1"),
        (b"a " + b"9" * 5000 + b"\n", 1, "9999"),
        (b"a\0b\n", 1, "NUL"),
    ],
)
def test_a_malformed_line_is_named(file: Path, content: bytes, line: int, complaint: str) -> None:
    """By file and number, with what is wrong; or it is skipped, if that was asked."""
    first = content.splitlines()[0]
    file.write_bytes(content + (b"last 7\n" if b" " in first else b"last\n"))
    with pytest.raises(TraceError) as raised:
        read(str(file))
    assert str(raised.value).startswith(f"trace.txt, line {line}: ")
    assert complaint in str(raised.value)
    trace = read(str(file), skip_malformed=True)
    assert trace.skipped == len(trace.complaints) == 1
    assert trace.requests == content.count(b"\n") - content.count(b"\n\n")


def test_only_the_first_complaints_are_kept(file: Path) -> None:
    """All are counted."""
    file.write_text("a\n" + "b c d\n" * 100, encoding="utf-8")
    trace = read(str(file), skip_malformed=True)
    assert (trace.skipped, len(trace.complaints)) == (100, 5)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "no access in it"),
        (b"# nothing\n\n", "no access in it"),
        (gzip.compress(b"a\n" * 10_000, mtime=0)[:-20], "ended before"),
        (b"\x1f\x8bnonsense that is no gzip", "method"),
    ],
)
def test_a_file_that_cannot_be_used(file: Path, content: bytes, complaint: str) -> None:
    """One line that names the file."""
    file.write_bytes(content)
    with pytest.raises(TraceError, match=complaint) as raised:
        read(str(file))
    assert str(file) in str(raised.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """Or is a folder."""
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(TraceError, match="directory"):
            read(str(path))


def test_what_a_name_holds_is_not_sent_to_the_terminal() -> None:
    """Neither what it would obey nor what cannot be encoded."""
    with pytest.raises(TraceError, match=r"^absent\\x1b\[31m\\udcff: "):
        read("absent\x1b[31m\udcff")


def test_the_made_up_workload() -> None:
    """The same seed makes the same; keys are asked for in proportion to 1 / rank ** skew."""
    one, same, other = (zipf(20_000, 50, 1.0, seed) for seed in (1, 1, 2))
    assert one.keys == same.keys != other.keys
    assert one.requests == len(one.keys) == 20_000
    assert one.distinct == len(set(one.keys)) == max(one.keys) + 1 == 50
    ranked = [count for _, count in Counter(one.keys).most_common()]
    assert ranked[0] / ranked[9] == pytest.approx(10, rel=0.25)
    flat = [count for _, count in Counter(zipf(20_000, 50, 0.0, 1).keys).most_common()]
    assert flat[0] < 1.4 * flat[-1]


def test_forget() -> None:
    """Counts stay."""
    trace = zipf(100, 10, 1.0, 1)
    trace.forget()
    assert (trace.keys, trace.requests) == ([], 100)
    assert isinstance(trace, Trace)


@pytest.mark.parametrize("zipped", [False, True])
def test_oracle_general(tmp_path: Path, zipped: bool) -> None:
    """Records of 24 bytes, known by the file's name; half a record is malformed."""
    accesses = [(7, 70), (2**60, 5), (7, 70)]
    records = b"".join(struct.pack("<IQIq", at, key, size, -1) for at, (key, size) in enumerate(accesses))
    file = tmp_path / ("cut.oracleGeneral.gz" if zipped else "cut.oracleGeneral")
    file.write_bytes(gzip.compress(records) if zipped else records)
    trace = read(str(file))
    assert (trace.keys, trace.sizes, trace.distinct) == ([0, 1, 0], [70, 5, 70], 2)
    file.write_bytes(records[:-1])
    with pytest.raises(TraceError, match="record 3: 23 bytes, not 24"):
        read(str(file))


def test_arc_traces(tmp_path: Path) -> None:
    """Each line is a run of blocks; what is not is named, or skipped."""
    file = tmp_path / "P1.lis"
    file.write_text("10 3 0 0\n11 1 0 1\n\nx 1 0 2\n5 99999999999 0 3\n", encoding="utf-8")
    with pytest.raises(TraceError, match=r"P1.lis, line 4: no block"):
        read(str(file))
    trace = read(str(file), skip_malformed=True)
    assert (trace.keys, trace.sizes, trace.distinct, trace.skipped) == ([0, 1, 2, 1], None, 3, 2)


def test_csv(tmp_path: Path) -> None:
    """Columns by name; quotes, a byte order mark and blanks are understood."""
    file = tmp_path / "log.csv"
    file.write_text('\ufefftime, obj, size\n1,"a,b",5\n2,c,6\n3,"a,b",5\n4,c\n5,c,x\n', encoding="utf-8")
    form = Format(key_column="obj")
    with pytest.raises(TraceError, match=r"log.csv, line 5: 2 columns, not 3"):
        read(str(file), form=form)
    trace = read(str(file), skip_malformed=True, form=form)
    assert (trace.keys, trace.sizes, trace.skipped) == ([0, 1, 0], [5, 6, 5], 2)
    assert "the size 'x'" in trace.complaints[1]
    with pytest.raises(TraceError, match="no column 'key': there are 'time', 'obj', 'size'"):
        read(str(file))
    with pytest.raises(TraceError, match="no column 'bytes'"):
        read(str(file), form=Format("csv", "obj", "bytes"))


def test_zstd_is_named(file: Path) -> None:
    """Rather than read as text."""
    file.write_bytes(b"\x28\xb5\x2f\xfd\0\0\0\0")
    with pytest.raises(TraceError, match="zstd"):
        read(str(file))
