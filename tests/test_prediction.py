"""Predictions for a file: all of its cells, safe for a spreadsheet, whole or not at all."""

from __future__ import annotations

import csv
import math
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regatta.fitted_model import FittedModel
from regatta.ingest.values import looks_numeric
from regatta.ingest.writing import defused
from regatta.prediction import predict_file
from regatta.preprocessing import CategoryEncoding, Feature, NumberEncoding, Preprocessing
from regatta.utils import DataError, RegattaError, UserError

COLUMNS = (
    NumberEncoding("a", 2.0, (Feature("a", 2.0, 1.0),)),
    CategoryEncoding(
        "c", ("x", "y"), False, tuple(Feature(f"c={level}", 0.5, 0.5, level) for level in "xy")
    ),
)


@pytest.fixture
def model() -> FittedModel:
    return FittedModel(
        preprocessing=Preprocessing(COLUMNS, "target"),
        weights=np.array([1.0 / 3.0, 1.0, -1.0]),
        intercept=10.0,
        model="ridge",
    )


def by_hand(a: float | None, c: str) -> float:
    total = 10.0 + ((2.0 if a is None else a) - 2.0) / 3.0
    return total + ((c == "x") - 0.5) / 0.5 - ((c == "y") - 0.5) / 0.5


def written(tmp_path: Path, model: FittedModel, text: str) -> list[list[str]]:
    path, out = tmp_path / "new.csv", tmp_path / "out.csv"
    path.write_text(text, encoding="utf-8")
    rows = predict_file(model, path, out).rows
    with out.open(newline="", encoding="utf-8") as file:
        found = list(csv.reader(file))
    assert rows == len(found) - 1
    return found


def test_the_columns_as_they_are_and_a_last_one(tmp_path: Path, model: FittedModel) -> None:
    text = 'note,c,target,a\n"one, two",x,5,3\nüber,y,,\n"say ""hi""",z,7,-1.50\nplain,x,1,0\n'
    header, *rows = written(tmp_path, model, text)
    assert header == ["note", "c", "target", "a", "prediction"]
    assert [row[:4] for row in rows] == [
        ["one, two", "x", "5", "3"],
        ["über", "y", "", ""],
        ['say "hi"', "z", "7", "-1.50"],
        ["plain", "x", "1", "0"],
    ]
    expected = [by_hand(3, "x"), by_hand(None, "y"), by_hand(-1.5, "z"), by_hand(0, "x")]
    assert [float(row[-1]) for row in rows] == pytest.approx(expected, rel=1e-15)


def test_a_column_of_predictions_that_is_there_keeps_its_name(
    tmp_path: Path, model: FittedModel
) -> None:
    header, row = written(tmp_path, model, "a,prediction,c\n3,7,x\n")
    assert header == ["a", "prediction", "c", "prediction_2"]
    assert row[1] == "7" and float(row[-1]) == pytest.approx(by_hand(3, "x"))
    header, _ = written(tmp_path, model, "a,prediction,c,prediction_2\n3,7,x,8\n")
    assert header[-1] == "prediction_3"


def test_predictions_are_written_to_the_last_digit(tmp_path: Path, model: FittedModel) -> None:
    rows = written(tmp_path, model, "a,c\n1,x\n2.5,y\n3,x\n")[1:]
    columns = {"a": np.array([1.0, 2.5, 3.0]), "c": np.array(["x", "y", "x"], dtype=object)}
    assert [float(row[-1]) for row in rows] == model.predict(columns).tolist()


def test_a_file_without_the_target_or_with_other_separators(
    tmp_path: Path, model: FittedModel
) -> None:
    header, *rows = written(tmp_path, model, "c;a\nx;1,5\ny;2,25\nx;3,5\n")
    assert header == ["c", "a", "prediction"]
    assert float(rows[0][-1]) == pytest.approx(by_hand(1.5, "x"))
    assert rows[1][:2] == ["y", "2,25"]


def test_many_batches_keep_the_order_and_report(tmp_path: Path, model: FittedModel) -> None:
    path, out = tmp_path / "new.csv", tmp_path / "out.csv"
    count = 150_000
    path.write_text("a,c,note\n" + "".join(f"{i},x,row number {i}\n" for i in range(count)))
    seen: list[int] = []
    assert predict_file(model, path, out, progress=seen.append).rows == count
    assert len(seen) > 1
    assert seen == sorted(seen)
    assert seen[-1] == count
    with out.open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    assert [row[0] for row in rows] == [str(i) for i in range(count)]
    assert float(rows[-1][-1]) == pytest.approx(by_hand(count - 1, "x"))


def test_memory_does_not_grow_with_the_file(tmp_path: Path, model: FittedModel) -> None:
    """Peaks of two processes: one for a file, the other for one eight times as long."""
    script = (
        "import sys\nfrom pathlib import Path\nfrom regatta import prediction\n"
        "prediction.predict_file(*map(Path, sys.argv[1:]))\n"
        "text = Path('/proc/self/status').read_text()\n"
        "print(next(l.split()[1] for l in text.splitlines() if l.startswith('VmHWM')))\n"
    )
    model.save(tmp_path / "model.json")
    peaks = []
    for size in (60_000, 480_000):
        path = tmp_path / f"{size}.csv"
        path.write_text("a,c,note\n" + "".join(f"{i},x,a note that is long\n" for i in range(size)))
        done = subprocess.run(
            [sys.executable, "-P", "-c", script, tmp_path / "model.json", path, tmp_path / "o.csv"],
            capture_output=True, text=True, check=True, timeout=120,
        )  # fmt: skip
        peaks.append(int(done.stdout))
    assert peaks[1] < peaks[0] + 40_000, f"peaks of {peaks} KB"


@pytest.mark.parametrize(
    ("cell", "safe"),
    [
        ("=1+1", "'=1+1"),
        ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
        ("+1+cmd", "'+1+cmd"),
        ("-1-cmd", "'-1-cmd"),
        ("-1-1", "'-1-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\tx", "'\tx"),
        ("\rx", "'\rx"),
        ("-1.5", "-1.5"),
        ("+3", "+3"),
        ("-1e-7", "-1e-7"),
        ("-1.234,5", "-1.234,5"),
        ("-12 %", "-12 %"),
        ("-", "-"),
        ("--", "--"),
        ("a=b", "a=b"),
        ("", ""),
    ],
)
def test_cells_that_a_spreadsheet_would_run(cell: str, safe: str) -> None:
    assert defused(cell) == safe


@given(st.text(alphabet="=+-@\t\r0123456789.,eE ab(", max_size=8))
def test_no_cell_stays_dangerous_and_no_number_changes(cell: str) -> None:
    safe = defused(cell)
    assert safe in (cell, "'" + cell)
    if looks_numeric(cell):
        assert safe == cell
    if safe[:1] in set("=@\t\r"):
        raise AssertionError(safe)


def test_dangerous_cells_in_a_file(tmp_path: Path, model: FittedModel) -> None:
    header, *rows = written(
        tmp_path, model, "a,c,=note\n-1,x,=2+3\n+2,y,-5\n1,x,@here\n1,x,plain\n"
    )
    assert header[2] == "'=note"
    assert [row[2] for row in rows] == ["'=2+3", "-5", "'@here", "plain"]
    assert [row[0] for row in rows] == ["-1", "+2", "1", "1"]


def test_a_missing_column_is_named_and_nothing_is_left(tmp_path: Path, model: FittedModel) -> None:
    with pytest.raises(DataError, match="'c'"):
        written(tmp_path, model, "a,b\n1,2\n3,4\n")
    assert [each.name for each in tmp_path.iterdir()] == ["new.csv"]


def test_a_bad_cell_has_its_row_and_the_old_file_stays(tmp_path: Path, model: FittedModel) -> None:
    out = tmp_path / "out.csv"
    out.write_text("what was there before")
    rows = "".join(f"{i},x\n" for i in range(500))
    with pytest.raises(DataError) as caught:
        written(tmp_path, model, f"a,c\n{rows}many,x\n")
    assert (caught.value.row, caught.value.column) == (502, "a")
    assert out.read_text() == "what was there before"
    assert len(list(tmp_path.iterdir())) == 2


def test_the_input_is_never_the_output(tmp_path: Path, model: FittedModel) -> None:
    path = tmp_path / "new.csv"
    path.write_text("a,c\n1,x\n2,y\n")
    link = tmp_path / "link.csv"
    link.symlink_to(path)
    for out in (path, link):
        with pytest.raises(UserError, match="file to read from"):
            predict_file(model, path, out)
    assert path.read_text() == "a,c\n1,x\n2,y\n"


def test_places_that_cannot_be_written(tmp_path: Path, model: FittedModel) -> None:
    path = tmp_path / "new.csv"
    path.write_text("a,c\n1,x\n2,y\n")
    with pytest.raises(UserError, match="folder"):
        predict_file(model, path, tmp_path)
    with pytest.raises(UserError, match="no folder"):
        predict_file(model, path, tmp_path / "none" / "out.csv")
    with pytest.raises(DataError):
        predict_file(model, tmp_path / "none.csv", tmp_path / "out.csv")


def test_a_full_disk_leaves_nothing(
    tmp_path: Path, model: FittedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "new.csv"
    path.write_text("a,c\n" + "".join(f"{i},x\n" for i in range(20_000)))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises((OSError, RegattaError)):
            predict_file(model, path, tmp_path / "out.csv")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [each.name for each in tmp_path.iterdir()] == ["new.csv"]


def test_numbers_too_large_are_an_error_not_infinity(tmp_path: Path, model: FittedModel) -> None:
    huge = FittedModel(
        preprocessing=model.preprocessing,
        weights=np.array([1e300, 1.0, 1.0]),
        intercept=0.0,
        model="ridge",
    )
    with pytest.raises(DataError, match="too large"):
        written(tmp_path, huge, "a,c\n1,x\n1e300,y\n")
    assert not math.isnan(by_hand(1.0, "x"))
