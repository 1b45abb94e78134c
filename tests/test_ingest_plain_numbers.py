"""Chunks of numbers alone are read as JSON: rightly, or not at all."""

from __future__ import annotations

import math
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regatta.ingest import importer, parsing, plain_numbers
from regatta.ingest.importer import import_table
from regatta.ingest.plain_numbers import NumberReader
from regatta.utils import DataError

NUMBERS = (
    st.floats(allow_nan=False, allow_infinity=False).map(repr)
    | st.integers(-(2**63), 2**64 - 1).map(str)
    | st.from_regex(r"-?(0|[1-9][0-9]{0,25})\.[0-9]{1,30}([eE][+-]?[0-9]{1,2})?", fullmatch=True)
)


@given(st.integers(1, 4), st.data())
@settings(deadline=None)
def test_numbers_are_rounded_as_python_does(width: int, data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.lists(NUMBERS, min_size=width, max_size=width), min_size=1))
    mark = data.draw(st.sampled_from([",", ";", "\t", "|"]))
    end = data.draw(st.sampled_from(["\n", "\r\n"]))
    text = end.join(mark.join(row) for row in rows) + data.draw(st.sampled_from([end, ""]))
    found = NumberReader(width).read(text.encode(), mark)
    assert found is not None
    np.testing.assert_array_equal(found.T, [[float(cell) for cell in row] for row in rows])


def test_what_was_read_stays_when_more_is_read() -> None:
    reader = NumberReader(2)
    first = reader.read(b"1,2\n3,4\n", ",")
    reader.read(b"5,6\n7,8\n", ",")
    assert first is not None
    assert first.tolist() == [[1, 3], [2, 4]]


@pytest.mark.parametrize(
    "text",
    ["", "\n", "1,2\n\n3,4\n", "1,\n", "1,2\n3\n4,5,6\n", "1\n2,3,4\n", "1,2,3\n", "1,2\n3,4\n5\n",
     "1,NA\n", "1,nan\n", "1,inf\n", "1,null\n", "1,true\n", "1,'2'\n", '1,"2"\n', "1,+2\n",
     "1,.5\n", "1,5.\n", "1,007\n", "1,0x1\n", "1,2 3\n", "1,1e400\n", "1,1_000\n", "1,[2]\n",
     "[1,2]\n", "1,2]\n", "1,{}\n", "1,2\n3,4#\n", "1,2\0\n", "1,\u0662\n", "-9e307,1\n",
     "1\n2,-9e307,3\n", "1,-9e307\n", "1,12345678901234567890123\n"],
)  # fmt: skip
def test_anything_else_is_left_to_the_usual_reader(text: str) -> None:
    assert NumberReader(2).read(text.encode(), ",") is None


def test_a_decimal_comma_is_no_separator() -> None:
    assert NumberReader(2).read(b"1,5;2\n", ";") is None
    assert NumberReader(3).read(b"1,5;2\n", ";") is None


def test_a_chunk_too_large_to_be_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_numbers, "MAX_BYTES", 3)
    assert NumberReader(2).read(b"1,2\n", ",") is None


@pytest.fixture
def chunks_read(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each chunk that was tried, whether it was read as plain numbers."""
    seen: list[bool] = []
    read = NumberReader.read

    def noted(self: NumberReader, data: bytes, delimiter: str) -> object:
        found = read(self, data, delimiter)
        seen.append(found is not None)
        return found

    monkeypatch.setattr(NumberReader, "read", noted)
    return seen


def table_of(path: Path, lines: list[str]) -> Path:
    path.write_text("a,b\n" + "".join(line + "\n" for line in lines))
    return path


def plain(count: int) -> list[str]:
    random.seed(1)
    return [f"{random.gauss(0, 1)!r},{random.randrange(-9, 9)}" for _ in range(count)]


@pytest.mark.usefixtures("regatta_home")
def test_a_file_is_the_same_table_either_way(
    tmp_path: Path, chunks_read: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = plain(3000)
    lines[1500] = ",7"
    lines[1501] = "-0.0,-0"
    path = table_of(tmp_path / "rows.csv", lines)
    fast = import_table(path, processes=0, chunk_bytes=4096)
    hashes = np.concatenate([fast.hashes(group) for group in fast.groups])
    assert chunks_read.count(False) == 1 < chunks_read.count(True)
    monkeypatch.setattr(parsing, "PLAIN_FAILURES", 0)
    monkeypatch.setattr(importer, "_indexed", lambda *_: None)
    monkeypatch.setenv("REGATTA_HOME", str(tmp_path / "other home"))
    before = len(chunks_read)
    slow = import_table(path, processes=0, chunk_bytes=4096)
    assert len(chunks_read) == before
    for name in ("a", "b"):
        values = fast.values(fast.column(name))
        np.testing.assert_array_equal(values, slow.values(slow.column(name)))
        assert not np.signbit(values[1501])
    np.testing.assert_array_equal(
        hashes, np.concatenate([slow.hashes(group) for group in slow.groups])
    )
    assert math.isnan(fast.values(fast.column("a"))[1500])


@pytest.mark.usefixtures("regatta_home")
def test_it_is_not_tried_for_ever(tmp_path: Path, chunks_read: list[bool]) -> None:
    lines = plain(3000)
    lines[::50] = ["NA,1"] * 60
    import_table(table_of(tmp_path / "rows.csv", lines), processes=0, chunk_bytes=4096)
    assert chunks_read == [False] * parsing.PLAIN_FAILURES


@pytest.mark.usefixtures("regatta_home")
def test_a_broken_row_is_named_all_the_same(tmp_path: Path, chunks_read: list[bool]) -> None:
    lines = plain(3000)
    lines[2500] = "1,2,3"
    lines[2501] = "4"
    with pytest.raises(DataError, match="Line 2502 has 3 fields where 2 are expected"):
        import_table(table_of(tmp_path / "rows.csv", lines), processes=0, chunk_bytes=4096)
    assert set(chunks_read) == {True, False}
