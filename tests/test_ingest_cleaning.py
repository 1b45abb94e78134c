"""A file written anew as it was read: it reads back as the same, and is written as the same."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from regatta.cli import main
from regatta.configuration import ReadingOptions
from regatta.data_pipeline import import_csv, preview
from regatta.ingest.cleaning import write_clean
from regatta.ingest.importer import import_table
from regatta.ingest.table import ParsedColumn, ParsedTable
from regatta.ingest.values import PLAIN, is_infinite
from regatta.ingest.writing import date_cells, defused, number_cells, text_cell
from regatta.utils import DataError, UserError

pytestmark = pytest.mark.usefixtures("regatta_home")

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    made = 0

    def make(content: str | bytes) -> Path:
        nonlocal made
        made += 1
        path = tmp_path / f"file-{made}.csv"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return make


def cleaned(table: ParsedTable) -> str:
    out = Path(table.path).with_suffix(".clean")
    assert write_clean(table, out).rows == table.rows
    return out.read_bytes().decode()


def cells(table: ParsedTable, column: ParsedColumn) -> list[Any]:
    """The cells of a column, NaN as None."""
    if column.type.kind == "category":
        return [text for group in table.groups for text in table.texts(group, column)]
    values = table.values(column).tolist()
    return [None if math.isnan(value) else value for value in values]


def assert_same(one: ParsedTable, other: ParsedTable) -> None:
    assert other.names == [defused(name) for name in one.names]
    assert [each.kind for each in other.columns] == [each.kind for each in one.columns]
    for a, b in zip(one.columns, other.columns, strict=True):
        expected = [defused(x) if isinstance(x, str) else x for x in cells(one, a)]
        assert cells(other, b) == expected, a.name


# -- cells ----------------------------------------------------------------------------------------


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**60), 2**60)))
@settings(deadline=None)
def test_numbers_read_back_exactly(values: list[float]) -> None:
    written = number_cells(np.array(values, np.float64)).to_pylist()
    assert [float(cell) for cell in written] == [float(value) for value in values]
    assert all(map(PLAIN.matches, written))
    assert list(map(digits, written)) == [digits(repr(float(value))) for value in values]


def digits(number: str) -> str:
    """The digits that count."""
    return re.sub(r"e.*|[-+.]", "", number).strip("0")


@pytest.mark.parametrize(
    ("value", "cell"),
    [(5.0, "5"), (0.1, "0.1"), (-2.5, "-2.5"), (2020010112345.0, "2020010112345"),
     (12345678901.25, "12345678901.25"), (1e300, "1e+300"), (math.nan, None)],
)  # fmt: skip
def test_numbers_as_people_write_them(value: float, cell: str | None) -> None:
    assert number_cells(np.array([value])).to_pylist() == [cell]


def test_dates() -> None:
    seconds = np.array([0.0, 1.5, 86_400.0, math.nan, -1e9])
    assert date_cells(seconds, timed=True).to_pylist() == [
        "1970-01-01T00:00:00", "1970-01-01T00:00:01.500000", "1970-01-02T00:00:00", None,
        "1938-04-24T22:13:20",
    ]  # fmt: skip
    assert date_cells(seconds[2:4], timed=False).to_pylist() == ["1970-01-02", None]


@pytest.mark.parametrize(
    ("text", "cell"),
    [("plain words", "plain words"), ("a;b", '"a;b"'), ('say "no"', '"say ""no"""'),
     ("=1+1", "\"'=1+1\""), ("-5", "-5"), ("#1", '"#1"'), ("sep=", '"sep="'), ("1,5", '"1,5"')],
)  # fmt: skip
def test_texts(text: str, cell: str) -> None:
    assert text_cell(text) == cell


# -- tables ---------------------------------------------------------------------------------------

TEXT = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]) | st.sampled_from(";,\t|'\" \n"),
    max_size=12,
)
DATE_FORMATS = ["%d.%m.%Y", "%Y-%m-%d %H:%M:%S", "%m/%d/%y", "%Y-%m-%dT%H:%M:%S.%f", "%d %b %Y"]


@st.composite
def columns(draw: st.DrawFn, rows: int, decimal: str) -> list[str]:
    """The cells of a column of any kind, some of them missing."""
    several = {"min_size": rows, "max_size": rows}
    kind = draw(st.sampled_from(["float", "whole", "text", "level", "date", "boolean", "mixed"]))
    if kind == "float":
        values = draw(st.lists(st.floats(-1e12, 1e12), **several))  # type: ignore[arg-type]
        found = [repr(value).replace(".", decimal) for value in values]
    elif kind == "whole":
        found = list(map(str, draw(st.lists(st.integers(-(10**18), 10**18), **several))))  # type: ignore[arg-type]
    elif kind == "text":
        found = draw(st.lists(TEXT, **several))  # type: ignore[arg-type]
    elif kind == "level":
        levels = draw(st.lists(TEXT, min_size=1, max_size=3))
        found = [levels[i % len(levels)] for i in range(rows)]
    elif kind == "date":
        moments = draw(st.lists(st.datetimes(), **several))  # type: ignore[arg-type]
        how = draw(st.sampled_from(DATE_FORMATS))
        found = [moment.strftime(how) for moment in moments]
    elif kind == "boolean":
        found = [draw(st.sampled_from(["yes", "no", "Yes"])) for _ in range(rows)]
    else:
        found = [*map(str, range(rows - 1)), draw(TEXT)]
    for row in draw(st.sets(st.integers(0, rows - 1), max_size=3)):
        found[row] = draw(st.sampled_from(["", "NA", "?"]))
    return found


@given(data=st.data())
@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_clean_files_hold_the_same_cells(write: Write, data: st.DataObject) -> None:
    delimiter = data.draw(st.sampled_from(",;\t|"))
    decimal = data.draw(st.sampled_from(".," if delimiter == ";" else "."))
    rows = data.draw(st.integers(2, 30))
    table = data.draw(st.lists(columns(rows, decimal), min_size=1, max_size=5))
    names = data.draw(st.lists(TEXT | st.just("x"), min_size=len(table), max_size=len(table)))
    # A row with infinity in it is of data; with a quote before that word, of names.
    assume(not any(map(is_infinite, names)))
    out = io.StringIO()
    writer = csv.writer(
        out,
        delimiter=delimiter,
        lineterminator=data.draw(st.sampled_from(["\n", "\r\n"])),
        quoting=data.draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])),
    )
    writer.writerow(names)
    writer.writerows(zip(*table, strict=True))
    encoding = data.draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))
    try:
        read = import_table(write(out.getvalue().encode(encoding)), processes=0, chunk_bytes=200)
    except DataError:
        assume(False)
    once = cleaned(read)
    again = import_csv(write(once))
    assert_same(read, again)
    assert cleaned(again) == once


def test_a_file_in_another_dialect(write: Write) -> None:
    text = (
        "# by hand\nDay;Size;Town;Ok;Note\n01.02.2020;1.234,5;\u00a0Bath ;YES;a;b\n".replace(
            "a;b", '"a;b"'
        )
        + "02.02.2020;0,5;York, old;no;?\n"
        + "NA;NA;NA;;\n"
        + "15.02.2020;-3;=1+1;no;+49 30\n"
    )
    assert cleaned(import_csv(write(text))) == (
        'Day,Size,Town,Ok,Note\n2020-02-01,1234.5,Bath,yes,"a;b"\n'.replace("yes", "YES")
        + '2020-02-02,0.5,"York, old",no,\n'
        + "NA,,,,\n"
        + '2020-02-15,-3,"\'=1+1",no,+49 30\n'
    )


def test_texts_that_are_not_kept_are_written_all_the_same(write: Write) -> None:
    """More texts than are kept, texts longer than are kept, and a column that was refused."""
    rows = 12_000
    lines = [f'{i},note {i},"say ""{i}""",{i % 7}' for i in range(rows)]
    lines[5] = "5,," + "x" * 2_000 + ",1"
    lines[7] = ",,,"  # left out when it is read
    for i in range(100, 100 + rows // 20):
        lines[i] = f"odd {i},note {i},b,2"
    path = write("x,note,long,y\n" + "\n".join(lines) + "\n")
    table = import_table(path, processes=0, chunk_bytes=50_000)
    assert table.column("x").refused
    assert table.column("note").levels == table.column("long").levels == ()
    assert cleaned(table).splitlines() == ["x,note,long,y", *lines[:7], *lines[8:]]


def test_columns_that_were_refused_keep_their_odd_cells(write: Write) -> None:
    lines = [f"2020-01-{1 + i % 28:02d},{['yes', 'no'][i % 2]},{i % 7}" for i in range(200)]
    lines[3], lines[9], lines[11] = "soon,yes,1", "NA,maybe,1", "2020-01-01,,nil"
    path = write("day,ok,y\n" + "\n".join(lines) + "\n")
    options = ReadingOptions(odd_cells="refuse", column_types=("ok=boolean",))
    table = import_csv(path, options)
    assert [bool(each.refused) for each in table.columns] == [True, True, True]
    lines[9] = ",maybe,1"
    assert cleaned(table).splitlines()[1:] == lines


def test_rows_that_were_mended_are_written_mended(write: Write) -> None:
    """Here, too, texts are read again that are not kept."""
    lines = [f'{i},"note {i}",{i % 7},2024-03-05' for i in range(11_000)]
    lines[300] = '300,the 10" note 300,5,2024-03-05'
    table = import_csv(write("x,note,y,day\n" + "\n".join(lines) + "\n"))
    assert table.patches
    assert table.column("note").levels == ()
    once = cleaned(table)
    assert once.splitlines()[301] == '300,"the 10"" note 300",5,2024-03-05'
    assert cleaned(import_csv(write(once))) == once


def test_other_encodings_are_read_again(write: Write) -> None:
    lines = [f"{i},Straße {i},{i % 7}" for i in range(11_000)]
    text = "x,straße,y\n" + "\n".join(lines) + "\n"
    late = text.replace("ß", "ss", 5_000)  # beyond the bytes that the encoding is guessed from
    for content in (text.encode("cp1252"), text.encode("utf-16-le"), text.encode("utf-8-sig")):
        assert cleaned(import_csv(write(content))) == text
    assert cleaned(import_csv(write(late.encode("cp1252")))) == late


def test_a_file_that_changed_is_not_written(write: Write) -> None:
    lines = [f"{i},note {i},{i % 7}" for i in range(11_000)]
    path = write("x,note,y\n" + "\n".join(lines) + "\n")
    table = import_csv(path)
    out = path.with_suffix(".out")
    for changed in (lines[:-1], [*lines, "1,b,2"], ["1,2"]):
        path.write_text("x,note,y\n" + "\n".join(changed) + "\n")
        with pytest.raises(DataError, match="changed"):
            write_clean(table, out)
    assert [each.name for each in path.parent.iterdir() if "out" in each.name] == []


def test_a_single_column_keeps_its_blank_rows(write: Write) -> None:
    table = import_csv(write('"size of it"\n1\n""\n3\nNA\n'))
    assert table.rows == 4
    assert cleaned(table) == '"size of it"\n1\nNA\n3\nNA\n'


def test_memory_does_not_grow_with_the_file(tmp_path: Path, regatta_home: Path) -> None:
    script = (
        "import sys\nfrom pathlib import Path\nfrom regatta.ingest.importer import import_table\n"
        "from regatta.ingest.cleaning import write_clean\n"
        "table = import_table(Path(sys.argv[1]), processes=0)\n"
        "Path('/proc/self/clear_refs').write_text('5')\n"  # the peak so far is forgotten
        "write_clean(table, Path(sys.argv[2]))\n"
        "text = Path('/proc/self/status').read_text()\n"
        "print(next(l.split()[1] for l in text.splitlines() if l.startswith('VmHWM')))\n"
    )
    peaks = []
    for size in (200_000, 1_600_000):
        path = tmp_path / f"{size}.csv"
        path.write_text("a,c,note\n" + "".join(f"{i},x,a note {i}\n" for i in range(size)))
        done = subprocess.run(
            [sys.executable, "-P", "-c", script, path, tmp_path / "out.csv"],
            capture_output=True, text=True, check=True, timeout=120,
        )  # fmt: skip
        peaks.append(int(done.stdout))
    assert peaks[1] < peaks[0] + 60_000, f"peaks of {peaks} KB"


def test_real_files_are_the_same_when_clean(data_dir: Path, tmp_path: Path) -> None:
    names = ["winequality_white_dirty_semicolon.csv", "auto_mpg.data", "consumo_cerveja.csv",
             "life_expectancy.csv", "appliances_energy_testing.csv", "penguins.csv"]  # fmt: skip
    for name in names:
        table = import_csv(data_dir / "regression" / name)
        once, twice = tmp_path / "once.csv", tmp_path / "twice.csv"
        write_clean(table, once)
        again = import_csv(once)
        assert_same(table, again)
        assert preview(again) == preview(table)
        write_clean(again, twice)
        assert once.read_bytes() == twice.read_bytes()


# -- the command ----------------------------------------------------------------------------------


def test_inspect_writes_it(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    path = write("a;b\n1,5;@x\n2,5;y\n")
    out = path.with_name("clean.csv")
    assert main(["inspect", str(path), "--write-clean", str(out), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["clean"] == {"output": str(out), "rows": 2, "apostrophes": 1}
    assert out.read_text() == 'a,b\n1.5,"\'@x"\n2.5,y\n'
    assert main(["inspect", str(path), "--write-clean", str(out)]) == 0
    assert "1 cell that a spreadsheet would run got" in capsys.readouterr().out


def test_inspect_never_writes_over_its_file(write: Write) -> None:
    path = write("a,b\n1,x\n2,y\n")
    link = path.with_name("link.csv")
    link.symlink_to(path)
    for out in (path, link, path.parent, path.parent / "none" / "out.csv"):
        assert main(["inspect", str(path), "--write-clean", str(out)]) == 2
        with pytest.raises(UserError):
            write_clean(import_csv(path), out)
    assert path.read_text() == "a,b\n1,x\n2,y\n"


def test_inspect_with_a_target(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    path = write("x,copy,y\n" + "".join(f"{i % 7},{3 * i + 1},{i}\n" for i in range(60)))
    assert main(["inspect", str(path), "--target", "y"]) == 0
    assert "'copy' gives the target 'y' away" in capsys.readouterr().out
