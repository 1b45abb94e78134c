"""A text cut into chunks: the same records whether it is streamed or lies in a file."""

from __future__ import annotations

import hashlib
import io
import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regatta.ingest import chunks
from regatta.ingest.dialect import Dialect
from regatta.ingest.sniffing import sniff

CELLS = ["1", "-2.5", "word", '"a, b"', '"two\nlines"', '"one ""quote"""', "", "ünï"]


OPEN_PARSER = "regatta.ingest.parsing:open_parser"


def a_text(seed: int, rows: int) -> bytes:
    picks = random.Random(seed)
    lines = [",".join(picks.choice(CELLS) for _ in range(4)) for _ in range(rows)]
    return ("a,b,c,d\n" + "\n".join(lines) + "\n" * picks.randrange(2)).encode()


def dialect_of(text: bytes) -> Dialect:
    found = sniff(text.decode(), "utf-8", complete=True, name="rows.csv").dialect
    return replace(found, quote='"')


@pytest.mark.parametrize("size", [16, 100, 1000, 100_000])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_file_is_cut_into_whole_records(tmp_path: Path, size: int, mark: bytes) -> None:
    for seed in range(5):
        text = a_text(seed, 300)
        dialect = dialect_of(text)
        path = tmp_path / "rows.csv"
        path.write_bytes(mark + text)
        digest = hashlib.sha256()
        with path.open("rb", buffering=0) as file:
            cut = list(chunks.cut(file, dialect, size=size, start=len(mark), digest=digest))
        whole = path.read_bytes()
        parts = [whole[each.offset : each.offset + each.length] for each in cut]
        assert b"".join(parts) == text[dialect.offset :]
        assert all(part.endswith(b"\n") and part.count(b'"') % 2 == 0 for part in parts[:-1])
        assert [each.index for each in cut] == list(range(len(cut)))
        assert len(cut) == 1 if size > len(text) else len(cut) > 1
        assert digest.hexdigest() == hashlib.sha256(text).hexdigest()
        streamed = chunks.split([(text, len(text))], dialect, size=size)
        assert b"".join(each.data or b"" for each in streamed) == b"".join(parts)


def test_a_row_without_an_end_is_refused_where_it_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "MAX_RECORD_BYTES", 1000)
    text = b"a,b\n1,2\n" + b'3,"' + b"x" * 5000
    path = tmp_path / "rows.csv"
    path.write_bytes(text)
    dialect = dialect_of(b"a,b\n1,2\n")
    with path.open("rb", buffering=0) as file, pytest.raises(chunks.LongRow, match="longer than"):
        list(chunks.cut(file, dialect, size=64, start=0, digest=hashlib.sha256()))


def test_lines_are_counted_by_the_end_that_the_file_has() -> None:
    text = b"a\r\nb\r\nc"
    dialect = dialect_of(b"a,b\n1,2\n")
    assert chunks.count_lines(text, dialect) == 2
    assert chunks.count_lines(text.replace(b"\n", b""), replace(dialect, newline="\r")) == 2
    assert chunks.count_lines(b"", dialect) == 0


def test_one_long_row_does_not_make_all_chunks_larger(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(b"a,b\n" + b"1,2\n" * 100 + b"3," + b"4" * 1000 + b"\n" + b"1,2\n" * 100)
    dialect = dialect_of(b"a,b\n1,2\n")
    with path.open("rb", buffering=0) as file:
        cut = list(chunks.cut(file, dialect, size=64, start=0, digest=hashlib.sha256()))
    lengths = [each.length for each in cut]
    assert sum(lengths) == path.stat().st_size - dialect.offset
    assert sum(length > 64 for length in lengths) == 1


def test_escaped_quotes_enclose_no_end_of_a_line() -> None:
    dialect = Dialect("utf-8", ",", escape="\\")
    data = b'a,"5\\" pipe"\r"b\rc",d\n'
    assert chunks.with_one_line_end(data, dialect) == b'a,"5\\" pipe"\n"b\rc",d\n'


def test_nothing_is_cut_from_an_end() -> None:
    dialect = dialect_of(b"a,b\n1,2\n")
    file = io.FileIO("/dev/null")
    with file:
        assert not list(chunks.cut(file, dialect, size=9, start=0, digest=hashlib.sha256()))


PIECES = ["a", "1", " ", ",", "\t", '"', "\n", "\r\n", "\n\n", "é", "\u00a0", "\x1c", "\x7f"]


@given(st.lists(st.sampled_from(PIECES), max_size=40).map("".join), st.sampled_from([1, 2, 3]))
def test_records_are_the_lines_outside_quotes_that_say_something(text: str, columns: int) -> None:
    data, dialect = text.encode(), Dialect("utf-8", ",")
    found, quotes, lines = list[int](), 0, 0
    record, begun = b"", 0
    for line in data.split(b"\n"):
        record, quotes = record + line, quotes + line.count(b'"')
        lines += 1
        if quotes % 2:
            record += b"\n"
            continue
        words = record.rstrip(b"\r\n")
        if columns > 1 and b"," not in words:
            words = words.decode().strip().encode()
        found += [begun] if words else []
        record, begun = b"", lines
    if quotes % 2 and record.rstrip(b"\r\n"):  # a quote is open at the end
        found.append(begun)
    assert chunks.record_lines(data, dialect, columns).tolist() == found
