"""A broken row is mended where there is exactly one way to, and told; else it is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from regatta.configuration import ReadingOptions
from regatta.data_pipeline import import_csv
from regatta.ingest.source import Patch, Source, stream_text
from regatta.ingest.table import ParsedTable, load_table
from regatta.utils import DataError

pytestmark = pytest.mark.usefixtures("regatta_home")
Write = Callable[..., Path]
HEADER = "day,code,price,what,note\n"


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(lines: list[str], header: str = HEADER) -> Path:
        path = tmp_path / "file.csv"
        path.write_text(header + "".join(line + "\n" for line in lines))
        return path

    return write


def rows(count: int) -> list[str]:
    goods = ["oars", '"rope, thin"', "a bailer", '"10"" pump"']
    return [
        f"2024-03-{1 + i % 28:02},KL-{100 + i % 900},${20 + i % 50}.{10 + i % 89},{goods[i % 4]},"
        for i in range(count)
    ]


def contents(table: ParsedTable) -> list[list[object]]:
    columns: list[list[object]] = []
    for column in table.columns:
        if column.type.numeric:
            columns.append([round(value, 6) for value in table.values(column).tolist()])
        else:
            columns.append([text for g in table.groups for text in table.texts(g, column)])
    return [list(map(str, row)) for row in zip(*columns, strict=True)]


@pytest.mark.parametrize(
    ("broken", "mended", "what"),
    [
        ("{day},,{code},{price},oars,", "{day},{code},{price},oars,", "a blank cell too many"),
        ("{day},{code},{price},oars,,", "{day},{code},{price},oars,", "a blank cell too many"),
        ("{day},{code},{price},oars", "{day},{code},{price},oars,", "a blank cell put in"),
        ("{day}{code},{price},oars,", "{day},{code},{price},oars,", "a missing separator"),
        ("{day},{code},{price}oars,", "{day},{code},{price},oars,", "a missing separator"),
        ('{day},{code},"{price},oars,', "{day},{code},{price},oars,", "quote"),
        ('{day},{code},{price},big "oars",', '{day},{code},{price},"big ""oars""",', "quote"),
        ('{day},{code},{price},5" oars,', '{day},{code},{price},"5"" oars",', "quote"),
        ('{day},{code},{price},""two, 3",', '{day},{code},{price},"""two, 3",', "quote"),
        ('{day},{code},"{price},"two, 3",', '{day},{code},{price},"two, 3",', "quote"),
        ("{day};{code};{price};oars;", "{day},{code},{price},oars,", "another separator"),
        ("{day} {code} {price} two oars ", "{day},{code},{price},two oars,", "another separator"),
        # More than one way, or none.
        ('{day},{code},{price}"two, 3",', None, ""),
        ("{day},{code},oars,", None, ""),
        ("{day},{code},{price}", None, ""),
        ("{day},{code},{price},oars,,,", None, ""),
        ("{day},{code},{price},\"a\" and \"b, c,", None, ""),
        ("{day},{code},{price},oars,{day},{code},{price},oars,", None, ""),
    ],
)  # fmt: skip
@pytest.mark.parametrize("place", [3, 30])
def test_one_broken_row(
    write: Write, broken: str, mended: str | None, what: str, place: int
) -> None:
    cells = {"day": "2024-03-05", "code": "KL-104", "price": "$24.14"}
    lines = rows(40)
    lines[place] = broken.format(**cells)
    path = write(lines)
    if mended is None:
        with pytest.raises(DataError) as caught:
            import_csv(path, processes=0)
        assert caught.value.row == place + 2
        return
    table = import_csv(path, processes=0)
    found = contents(table)
    said = [each for each in table.repairs if "mended" in each]
    assert len(said) == 1
    assert what in said[0]
    assert f"line {place + 2}" in said[0]
    lines[place] = mended.format(**cells)
    assert found == contents(import_csv(write(lines), processes=0))


def test_numbers_alone_tell_too_little(write: Write) -> None:
    """A short row of numbers may lack any of its cells."""
    lines = [f"{i},{i % 7},{i % 11}" for i in range(40)]
    for broken in ("40,5", "40,5,1,2", '40,"5,1'):
        with pytest.raises(DataError) as caught:
            import_csv(write([*lines, broken, *lines], "a,b,c\n"), processes=0)
        assert caught.value.row == 42


@pytest.mark.parametrize(
    "broken", ["3,12,8,859,JFK", "Adelie,40.3,18,195,ok", "3,2013,,12,12,859,JFK"]
)
def test_a_lost_or_repeated_cell_is_refused(write: Write, broken: str) -> None:
    """Cells that fit another column as well, and columns that may be blank, tell nothing."""
    lines = [f"{i},2013,{'' if i % 9 == 0 else i % 12},{i % 28},85{i % 10},JFK" for i in range(40)]
    lines[20] = broken
    with pytest.raises(DataError) as caught:
        import_csv(write(lines, "row,year,month,day,time,airport\n"), processes=0)
    assert caught.value.row == 22


def test_many_broken_rows(write: Write) -> None:
    """In children, over many chunks; too large a share of them is refused."""
    lines = rows(3000)
    for place in range(100, 3000, 100):
        lines[place] += ","
    table = import_csv(write(lines), processes=2)
    assert (table.rows, len(table.patches)) == (3000, 29)
    assert load_table(table.directory) == table
    assert any("29 rows mended (a blank cell too many left out)" in r for r in table.repairs)
    lines = [line + "," if i % 5 == 0 and i else line for i, line in enumerate(rows(3000))]
    with pytest.raises(DataError, match="has 6 fields where 5 are expected"):
        import_csv(write(lines), processes=0)


def test_a_row_that_cannot_be_mended_after_others(write: Write) -> None:
    lines = rows(60)
    lines[20] += ","
    lines[40] = "2024-03-05,KL-104,oars,"
    with pytest.raises(DataError, match="Line 42 has 4 fields where 5 are expected"):
        import_csv(write(lines), processes=0)


def test_broken_rows_of_two_kinds(write: Write) -> None:
    """A stray quote is seen before a row of another width, wherever they stand."""
    lines = rows(60)
    lines[20] += ","
    lines[40] = '2024-03-05,KL-104,$24.14,5" oars,'
    table = import_csv(write(lines), processes=0)
    said = [each for each in table.repairs if "mended" in each]
    assert len(said) == 2
    assert table.rows == 60


REFUSE = ReadingOptions(on_bad_rows="refuse")


def test_no_row_is_mended_where_that_is_not_wanted(write: Write) -> None:
    """Those that could be mended are listed among those that could not."""
    lines = rows(60)
    path = write(lines)
    whole = import_csv(path, REFUSE, processes=0)
    assert contents(whole) == contents(import_csv(path, processes=0))
    lines[20] += ","
    lines[40] = "2024-03-05,KL-104,oars,"
    lines[50] += ","
    with pytest.raises(DataError, match="Line 22 has 6 fields where 5 are expected") as caught:
        import_csv(write(lines), REFUSE, processes=0)
    assert [each["row"] for each in caught.value.rejected] == [22, 42, 52]


@pytest.mark.parametrize("first", ["mend", "refuse"])
def test_what_was_read_with_mends_is_not_taken_where_none_are_wanted(
    write: Write, first: str
) -> None:
    lines = rows(40)
    lines[20] += ","
    path = write(lines)
    for choice in (first, "mend", "refuse", "mend"):
        options = ReadingOptions(on_bad_rows=choice)  # type: ignore[arg-type]
        if choice == "mend":
            table = import_csv(path, options, processes=0)
            assert table.rows == 40 and len(table.patches) == 1
        else:
            with pytest.raises(DataError, match="Line 22 has 6 fields"):
                import_csv(path, options, processes=0)


def test_a_table_remembers_that_nothing_was_to_be_mended(write: Write) -> None:
    """Its key differs, too: prepared rows and runs hang on it."""
    path = write(rows(40))
    mend = import_csv(path, processes=0)
    refuse = import_csv(path, REFUSE, processes=0)
    skip = import_csv(path, ReadingOptions(on_bad_rows="skip"), processes=0)
    assert mend.options == {}
    assert refuse.options == {"on_bad_rows": "refuse"}
    assert len({mend.key, refuse.key, skip.key}) == 3


def test_rows_of_several_lines_are_whole(write: Write) -> None:
    lines = rows(40)
    lines[10] = '2024-03-05,KL-104,$24.14,"two\nlines, a ""b""\nthree",'
    lines[20] += ","
    table = import_csv(write(lines), processes=0)
    assert table.rows == 40
    assert 'two\nlines, a "b"\nthree' in table.column("what").levels
    assert any("line 24" in repair for repair in table.repairs)


@pytest.mark.parametrize("block", [1, 3, 7, 100])
def test_patches_in_a_stream(tmp_path: Path, block: int) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"0123456789abcdef")
    patches = (Patch(0, 2, b"<>"), Patch(4, 3, b""), Patch(7, 1, b"[seven]"), Patch(15, 1, b"!"))
    source = Source(path, "", "utf-8", 0, patches=patches)
    assert b"".join(text for text, _ in stream_text(source, block)) == b"<>23[seven]89abcde!"
