"""Separator, header, comments, preamble: found, or refused."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regatta.ingest import chunks
from regatta.ingest.dialect import Dialect
from regatta.ingest.sniffing import Sniffed, refuse_faulty, sniff
from regatta.utils import DataError


def look(text: str) -> Sniffed:
    return sniff(text, "utf-8", complete=True)


@pytest.mark.parametrize(
    ("text", "delimiter", "names"),
    [
        ("a,b,y\n1,2,3\n4,5,6\n", ",", ("a", "b", "y")),
        ("a;b\n1,5;2,5\n3,5;4,5\n", ";", ("a", "b")),
        ("a\tb\n1\t2\n3\t4\n", "\t", ("a", "b")),
        ("a|b\n1|2\n3|4\n", "|", ("a", "b")),
        ("a b  c\n1 2  3\n4 5  6\n", " ", ("a", "b", "c")),
        ("18.0   8\t\"ford pinto\"\n15.0   6\t\"vw\"\n", " ", ("column_0", "column_1", "column_2")),
        ("1,2,3\n4,5,6\n", ",", ("column_0", "column_1", "column_2")),
        ("M,0.4,15\nF,0.3,7\n", ",", ("column_0", "column_1", "column_2")),
        ("sep=;\na;b\n1;2\n", ";", ("a", "b")),
        ("# note\n# more\na,b\n1,2\n", ",", ("a", "b")),
        ("# x y\n1 2\n3 4\n", " ", ("x", "y")),
        ("Report of May\n\na,b,c\n1,2,3\n4,5,6\n7,8,9\n", ",", ("a", "b", "c")),
        ("country,2019,2020,2021\nfr,1.5,2.5,3.5\nde,4.5,5.5,6.5\n", ",",
         ("country", "2019", "2020", "2021")),
        ("a,a,,y\n1,2,3,4\n", ",", ("a", "a_2", "column_2", "y")),
        ("x,y\nr1,1,2\nr2,3,4\n", ",", ("column_0", "x", "y")),
        ("time\n05:40\n21:30\n", ",", ("time",)),
        ("m,kg\nmass,weight\n1,2\n3,4\n5,6\n", ",", ("m mass", "kg weight")),
        ("'a','b, c'\n'1','2, 3'\n'4','5, 6'\n", ",", ("a", "b, c")),
    ],
)  # fmt: skip
def test_found(text: str, delimiter: str, names: tuple[str, ...]) -> None:
    dialect = look(text).dialect
    assert (dialect.delimiter, dialect.names) == (delimiter, names)


@pytest.mark.parametrize(
    ("text", "delimiter", "quote", "names", "said"),
    [
        ("---\ntitle: x\n---\na,b\n1,2\n3,4\n", ",", '"', ("a", "b"), "front matter"),
        ("a,b,\n1,2\n3,4\n", ",", '"', ("a", "b"), "ends with a separator"),
        ('"a","b","c"\n1,2\n3,4\n', ",", '"', ("a", "b"), "left out ('c')"),
        ('a;b\n1;the "old" one\n2;a "b" c\n', ";", "", ("a", "b"), "taken as text"),
        ('a,b\n1,5" pipe\n2,x\n', ",", '"', ("a", "b"), ""),
        ("'A. Co';$ 1,80\n'B. Ltd';$ 20,50\n", ";", "'", ("column_0", "column_1"), "no header"),
    ],
)
def test_odd_headers_and_quotes(
    text: str, delimiter: str, quote: str, names: tuple[str, ...], said: str
) -> None:
    found = look(text)
    refuse_faulty(found)
    assert (found.dialect.delimiter, found.dialect.quote) == (delimiter, quote)
    assert found.dialect.names == names
    assert said in " ".join(found.repairs)


def test_repairs_are_said() -> None:
    assert any("comes twice" in said for said in look("a,a\n1,2\n").repairs)
    assert any("no name" in said for said in look("a,\n1,2\n").repairs)
    assert any("comments" in said for said in look("#n\na,b\n1,2\n").repairs)
    assert any("no header" in said for said in look("1,2\n3,4\n").repairs)


def test_where_the_data_begin() -> None:
    dialect = look("# note\r\n\r\na,b\r\n1,2\r\n").dialect
    assert (dialect.skip_rows, dialect.first_line, dialect.newline) == (2, 4, "\r\n")
    assert dialect.offset == len("# note\r\n\r\na,b\r\n")


def test_a_header_alone_is_a_dialect() -> None:
    found = look("a;b\n")
    assert (found.dialect.delimiter, found.dialect.names, found.records) == (";", ("a", "b"), [])


@pytest.mark.parametrize("text", ["# only\n# comments\n", "\n\n"])
def test_no_table(text: str) -> None:
    with pytest.raises(DataError):
        look(text)


def test_a_header_longer_than_the_rows_is_refused() -> None:
    with pytest.raises(DataError, match="Line 1 has 4 fields where 2 are expected") as caught:
        refuse_faulty(look("a,b,c,d\n1,x\n2,y\n3,z\n"))
    assert caught.value.row == 1


def test_json_round_trip() -> None:
    dialect = look("a;b\n1;2\n").dialect
    assert Dialect.from_json(dialect.to_json()) == dialect


cells = st.text(alphabet='ab1.,;"\n\r\t é', max_size=6)


@given(
    st.lists(st.lists(cells, min_size=3, max_size=3), min_size=1, max_size=30),
    st.sampled_from(",;\t|"),
    st.sampled_from(["\n", "\r\n"]),
    st.integers(16, 200),
)
@settings(max_examples=150, deadline=None)
def test_chunks_end_with_records(
    rows: list[list[str]], delimiter: str, newline: str, size: int
) -> None:
    """Put together they are the text; each parses to whole records; nothing is flagged."""
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, lineterminator=newline, quoting=csv.QUOTE_ALL).writerows(
        rows
    )
    data = out.getvalue().encode()
    dialect = Dialect("utf-8", delimiter, newline=newline)
    blocks = [(data[i : i + 7], i) for i in range(0, len(data), 7)]
    parts = [chunk.data or b"" for chunk in chunks.split(blocks, dialect, size=size)]
    assert b"".join(parts) == data
    again: list[Any] = []
    for part in parts:
        assert chunks.quote_fault(part, dialect) is None
        again += csv.reader(io.StringIO(part.decode(), newline=""), delimiter=delimiter)
        lines = chunks.record_lines(part, dialect, 3)
        assert len(lines) == len(list(csv.reader(io.StringIO(part.decode(), newline=""),
                                                 delimiter=delimiter)))  # fmt: skip
    assert again == rows


@pytest.mark.parametrize(
    "text", ['1,5" pipe,2\n', '"a"b,2\n', '"a,2\n', 'a"b"c,2\n', '"a""b\n', 'a, "b"\n']
)
def test_a_stray_quote_is_flagged(text: str) -> None:
    assert chunks.quote_fault(text.encode(), Dialect("utf-8", ",")) is not None


@pytest.mark.parametrize(
    "text", ['"a","b"\n', '"a""b",""\n', '"",""\n', '"""a""",2\n', '"a\n\nb",2', '"a,b"\r\n"c"\r\n']
)
def test_proper_quotes_are_not(text: str) -> None:
    assert chunks.quote_fault(text.encode(), Dialect("utf-8", ",")) is None


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ('1, "a" ,2\n "b","c, ""d""" \n', '1,"a",2\n"b","c, ""d"""\n'),
        ('1, "a" "b", 2\n', '1, "a" "b", 2\n'),
        ('"a, ""b"" ,c", "d"', '"a, ""b"" ,c","d"'),
    ],
)
def test_blanks_around_quoted_cells(text: str, canonical: str) -> None:
    dialect = Dialect("utf-8", ",", padded=True)
    assert chunks.canonical(text.encode(), dialect) == (canonical.encode(), ",")
