"""What a person says of a file is heeded instead of what would be found, and told as such."""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from regatta.configuration import AS_FOUND, ReadingOptions
from regatta.data_pipeline import import_csv, inspect_csv, prepare, preview
from regatta.ingest.importer import known_table
from regatta.ingest.table import ParsedTable
from regatta.utils import DataError, UserError

pytestmark = pytest.mark.usefixtures("regatta_home")
Write = Callable[..., Path]


def read(path: Path, **given: Any) -> ParsedTable:
    return import_csv(path, ReadingOptions(**given), processes=0)


def cells(table: ParsedTable, name: str) -> list[Any]:
    return [row[name] for row in preview(table, rows=table.rows)]


def lines(*rows: str) -> str:
    return "".join(f"{row}\n" for row in rows)


# -- dialect --------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", ["|", "bar"])
def test_a_separator_that_is_given_is_taken(write: Write, said: str) -> None:
    path = write(lines("a,b|c,d", *(f"{i},5|{i},7" for i in range(20))))
    assert import_csv(path).names == ["a", "b|c", "d"]
    table = read(path, delimiter=said)
    assert table.names == ["a,b", "c,d"]
    assert "given by you" in table.report()["evidence"]["delimiter"]
    assert table.report()["options"] == {"delimiter": said}


def test_runs_of_blanks_and_single_blanks_are_different(write: Write) -> None:
    path = write(lines("a b  c", *(f"{i} 5  7" for i in range(20))))
    assert read(path, delimiter="blanks").names == ["a", "b", "c"]
    assert len(read(path, delimiter=" ").names) == 4


def test_quotes_may_be_text(write: Write) -> None:
    path = write(lines("a,b", *(f'"{"xy"[i % 2]}",{i}' for i in range(20))))
    assert cells(import_csv(path), "a")[:2] == ["x", "y"]
    assert cells(read(path, quote="none"), "a")[:2] == ['"x"', '"y"']


def test_any_quote_and_escape_may_be_given(write: Write) -> None:
    path = write(lines("a,b", *(f"~one, ^~{'xy'[i % 2]}^~~,{i}" for i in range(20))))
    table = read(path, quote="~", escape="^")
    assert cells(table, "a")[:2] == ["one, ~x~", "one, ~y~"]
    assert (table.dialect.quote, table.dialect.escape) == ("~", "^")
    assert table.report()["evidence"]["quote"] == "given by you"


def test_an_escape_that_is_the_quote_means_doubled_quotes(write: Write) -> None:
    path = write(lines("a,b", *(f'"one ""{"xy"[i % 2]}""",{i}' for i in range(20))))
    assert cells(read(path, escape='"'), "a")[:2] == ['one "x"', 'one "y"']


def test_an_encoding_may_be_given(write: Write) -> None:
    content = lines("name,n", *(f"{('Ελλάς', 'Κρήτη')[i % 2]},{i}" for i in range(20)))
    table = read(write(content.encode("iso8859-7")), encoding="ISO-8859-7")
    assert cells(table, "name")[:2] == ["Ελλάς", "Κρήτη"]
    assert table.report()["evidence"]["encoding"] == "given by you"
    assert not any("guess" in repair for repair in table.repairs)


def test_an_encoding_that_the_mark_denies_is_refused(write: Write) -> None:
    path = write(b"\xef\xbb\xbf" + lines("a,b", "1,2", "3,4").encode())
    with pytest.raises(DataError, match=r"mark of UTF-8.* --encoding is latin-1"):
        read(path, encoding="latin-1")
    assert read(path, encoding="utf8").names == ["a", "b"]


def test_text_that_is_not_as_its_encoding_was_given_is_refused(write: Write) -> None:
    path = write(lines("a,b", "é,1", "x,2").encode("latin-1"))
    with pytest.raises(DataError, match=r"Line 2.*not valid UTF-8") as caught:
        read(path, encoding="utf-8")
    assert caught.value.row == 2


def test_a_header_may_be_given_or_denied(write: Write) -> None:
    words = write(lines("x,y", *(f"{'pq'[i % 2]},{'rst'[i % 3]}" for i in range(30))))
    table = read(words, header="no")
    assert table.names == ["column_0", "column_1"] and table.rows == 31
    assert table.report()["evidence"]["header"] == "given by you"
    numbers = write(lines(*(f"{i}.5,{i * i}" for i in range(30))), "numbers.csv")
    assert import_csv(numbers).names == ["column_0", "column_1"]
    table = read(numbers, header="yes")
    assert table.names == ["0.5", "0"] and table.rows == 29


def test_lines_before_the_table_may_be_given(write: Write) -> None:
    path = write(lines("a,b", "1,2", "c,d", *(f"{i},{i * i}" for i in range(20))))
    table = read(path, skip_rows=2)
    assert table.names == ["c", "d"] and table.rows == 20
    assert table.dialect.skip_rows == 2
    assert table.report()["evidence"]["skip_rows"] == "given by you"
    with pytest.raises(DataError, match="no table below line 99"):
        read(path, skip_rows=99)


def test_comment_marks_may_be_given_or_denied(write: Write) -> None:
    path = write(lines("a,b", *(f"{i},5" for i in range(10)), "!not this", "10,5"))
    assert read(path, comment="!").rows == 11
    tagged = write(lines("# a,b", *(f"#{i},{i % 3}" for i in range(20))), "tags.csv")
    table = read(tagged, comment="none")
    assert table.rows == 20 and cells(table, "# a")[:2] == ["#0", "#1"]


# -- numbers --------------------------------------------------------------------------------------


def test_a_decimal_mark_may_be_given(write: Write) -> None:
    path = write(lines("a;b", *(f"{i},125;{i}" for i in range(1, 20))))
    assert cells(read(path, decimal=","), "a")[0] == 1.125
    assert cells(read(path, decimal="point", thousands=","), "a")[0] == 1125
    assert read(path, decimal="comma").dialect.decimal == ","


def test_thousands_may_be_denied(write: Write) -> None:
    path = write(lines("a;b", *(f"{i},125;{i},5" for i in range(1, 20)), "1,234,567;2,5"))
    table = read(path, thousands="none")
    assert table.column("a").refused or table.column("a").missing == 1
    assert cells(table, "a")[0] == 1.125


def test_further_words_for_no_value(write: Write) -> None:
    rows = [f"{i},{'pq'[i % 2]},{'no' if i % 3 else 'yes'},2024-01-{1 + i % 28:02}"
            for i in range(40)]  # fmt: skip
    content = lines("n,c,b,d", *rows, "-200,lost,lost,lost", " -200 ,lost,yes,lost")
    path = write(content)
    assert cells(import_csv(path), "n")[-1] == -200
    table = read(path, missing=("-200", "lost"))
    assert [column.kind for column in table.columns] == ["number", "category", "boolean", "date"]
    assert [column.missing for column in table.columns] == [2, 2, 1, 2]
    assert cells(table, "n")[-2:] == [None, None]


# -- types ----------------------------------------------------------------------------------------


def test_the_kind_of_columns_may_be_given(write: Write) -> None:
    rows = [f"{i % 4},{i % 2},{i},0{1 + i % 3}.12.23,{i}" for i in range(40)]
    path = write(lines("zip,flag,n_1,day,n_2", *rows))
    types = ("z*=category", "flag=boolean", "n_?=ignore", "n_2=number", "day=date:%d.%m.%y")
    table = read(path, column_types=types)
    assert [column.kind for column in table.columns[:2]] == ["category", "boolean"]
    assert table.column("zip").levels == ("0", "1", "2", "3")
    assert (table.column("flag").type.false, table.column("flag").type.true) == ("0", "1")
    assert table.column("n_1").role == "ignored"
    assert table.column("n_1").reason == "ignored by you"
    assert table.column("n_2").kind == "number"  # the last pattern that matches counts
    assert table.column("day").kind == "date"
    assert all("kind given by you" in column.evidence for column in table.columns)
    assert "n_1" not in prepare(table, target="n_2").feature_names


def test_a_pattern_that_matches_no_column_is_a_sentence(write: Write) -> None:
    path = write(lines("a,b", "1,2", "3,4"))
    with pytest.raises(DataError, match=r"'c\*=number' matches no column") as caught:
        read(path, column_types=("a=number", "c*=number"))
    assert "a, b" in caught.value.hint


def test_names_with_wildcards_in_them_match_themselves(write: Write) -> None:
    path = write(lines("a[1],b=c", *(f"{i},{i}" for i in range(9))))
    table = read(path, column_types=("a[1]=category", "b=c=category"))
    assert [column.kind for column in table.columns] == ["category", "category"]


MIXED = [f"{i},{i}" for i in range(60)] + [f"n{i},{i}" for i in range(40)]


@pytest.mark.parametrize("odd", ["auto", "refuse"])
def test_odd_cells_of_a_forced_column_are_named_where_it_is_used(write: Write, odd: str) -> None:
    path = write(lines("a,b", *MIXED))
    table = read(path, column_types=("a=number",), odd_cells=odd)
    with pytest.raises(DataError, match=r"40 of 100 cells of column 'a'.*line 62, 63") as caught:
        prepare(table, target="a")
    assert (caught.value.row, caught.value.column) == (62, "a")


def test_odd_cells_may_be_missing(write: Write) -> None:
    path = write(lines("a,b", *MIXED))
    table = read(path, column_types=("a=number",), odd_cells="missing")
    assert table.column("a").missing == 40
    assert any("taken as missing" in repair for repair in table.repairs)
    assert math.isclose(sum(filter(None, cells(table, "a"))), sum(range(60)))


def test_odd_cells_may_make_a_category(write: Write) -> None:
    rows = [f"{i % 5},{i}" for i in range(200)]
    rows[7] = "many,7"
    path = write(lines("a,b", *rows))
    assert import_csv(path).column("a").kind == "number"
    for types in ((), ("a=number",)):
        table = read(path, odd_cells="category", column_types=types)
        assert table.column("a").kind == "category" and "many" in table.column("a").levels


def test_a_single_odd_cell_is_refused_where_that_is_asked_for(write: Write) -> None:
    rows = [f"{i},{i}" for i in range(300)]
    rows[7] = "many,7"
    path = write(lines("a,b", *rows))
    assert not import_csv(path).column("a").refused
    table = read(path, odd_cells="refuse")
    assert table.column("a").refused_line == 9


@pytest.mark.parametrize(
    ("odd", "kind", "missing"), [("missing", "boolean", 2), ("category", "category", 0)]
)
def test_a_third_word_in_a_column_of_two(write: Write, odd: str, kind: str, missing: int) -> None:
    words = ["ja", "nein"] * 30 + ["vielleicht"] * 2
    path = write(lines("a,b", *(f"{word},{i}" for i, word in enumerate(words))))
    table = read(path, column_types=("a=boolean",), odd_cells=odd)
    assert (table.column("a").kind, table.column("a").missing) == (kind, missing)
    assert read(path, column_types=("a=boolean",)).column("a").refused


def test_a_date_may_be_forced_without_a_format(write: Write) -> None:
    days = [f"{1 + i % 12}/{1 + i % 28}/2024,{i}" for i in range(60)]
    path = write(lines("a,b", *days, *(f"soon{i},1" for i in range(20))))
    assert import_csv(path).column("a").kind != "date"
    table = read(path, column_types=("a=date",), odd_cells="missing")
    assert (table.column("a").kind, table.column("a").missing) == ("date", 20)


# -- where options come from ----------------------------------------------------------------------


def test_a_table_read_with_other_options_is_another_table(write: Write) -> None:
    path = write(lines("a,b", *(f"{i},{i}" for i in range(20))))
    options = ReadingOptions(missing=("3",))
    found, given = import_csv(path), import_csv(path, options)
    assert found.key != given.key
    assert (found.column("a").missing, given.column("a").missing) == (0, 1)
    assert known_table(path) and known_table(path).key == found.key  # type: ignore[union-attr]
    assert known_table(path, options).key == given.key  # type: ignore[union-attr]
    assert known_table(path, ReadingOptions(missing=("4",))) is None
    assert import_csv(path, AS_FOUND).key == found.key


def test_the_report_lists_the_options_in_force(write: Write) -> None:
    path = write(lines("a;b", *(f"{i};{i}" for i in range(20))))
    given = {"delimiter": "semicolon", "missing": ["3"], "column_types": ["a=number"]}
    options = ReadingOptions(delimiter="semicolon", missing=("3",), column_types=("a=number",))
    assert inspect_csv(path, options)["options"] == given
    assert inspect_csv(path)["options"] == {}


def test_commands_take_the_options(
    regatta: Callable[..., subprocess.CompletedProcess[str]], write: Write, tmp_path: Path
) -> None:
    path = write(lines("a;b;y", *(f"{i},5;{'uv'[i % 2]};{i}" for i in range(60)), "-200;w;7"))
    given = ["--missing", "-200", "--missing", "w", "--decimal", ",", "--column-type", "b=category"]
    report = json.loads(regatta("inspect", path, "--json", *given).stdout)
    assert [column["missing"] for column in report["columns"]] == [1, 1, 0]
    done = regatta("train", path, "--target", "y", "--json", "--name", "first", *given)
    run = json.loads(done.stdout)["run_id"]
    out = tmp_path / "out.csv"
    done = regatta("predict", run, path, "-o", out, "--decimal", ",", "--json")
    schema = json.loads(done.stdout)["schema"]
    assert not [each for each in schema if each["kind"] in ("misfit", "new_levels")]
    done = regatta("inspect", path, "--json", "--quote", ";", "--delimiter", ";")
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["message"] == "--delimiter and --quote are both ';'."


def test_prediction_reads_as_it_is_told(write: Write) -> None:
    from regatta.data_pipeline import read_for_prediction

    rows = [f"{i}.5,{'uv'[i % 2]},{i}" for i in range(60)]
    table = import_csv(write(lines("a,b,y", *rows)))
    preprocessing = prepare(table, target="y").preprocessing
    path = write(lines("x", "a;b", "1.125;u", "2,5;v", "gone;gone"), "new.csv")
    options = ReadingOptions(
        skip_rows=1, delimiter=";", decimal=",", thousands=".", missing=("gone",)
    )
    (batch,) = read_for_prediction(path, preprocessing, None, options)
    assert batch.columns["a"].tolist()[:2] == [1125, 2.5]
    assert math.isnan(batch.columns["a"][2]) and batch.columns["b"].tolist() == ["u", "v", None]


def test_options_that_cannot_be_are_refused_before_the_file_is_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--delimiter is ',,'"):
        import_csv(tmp_path / "absent.csv", ReadingOptions(delimiter=",,"))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"decimal": "comma"}, "read with --decimal comma: leave it out if"),
        ({"column_types": ("a=number", "y=category")}, "read with --column-type y=category: leave"),
        ({"delimiter": ";"}, "read with --delimiter ';': leave it out if"),
        ({"header": "no", "skip_rows": 1}, "read with --header no --skip-rows 1: leave them out"),
    ],
)
def test_an_error_names_the_options_that_may_have_led_to_it(
    write: Write, given: dict[str, Any], told: str
) -> None:
    path = write(lines("a,y", *(f"{i}.5,{i}.25" for i in range(20))))
    with pytest.raises(DataError) as caught:
        prepare(read(path, **given), target="y")
    assert told in caught.value.hint
    with pytest.raises(DataError) as caught:
        prepare(read(path), target="z")
    assert "read with" not in caught.value.hint


def test_a_row_that_does_not_fit_names_the_options_too(write: Write) -> None:
    path = write(lines("a,y", *(f'"{i},5",{i}' if i % 7 == 5 else f"{i},{i}" for i in range(60))))
    assert read(path).rows == 60
    with pytest.raises(DataError) as caught:
        read(path, quote="none")
    assert "3 fields where 2 are expected" in caught.value.message
    assert "read with --quote none: leave it out" in caught.value.hint
    path = write("")
    with pytest.raises(DataError, match="empty") as caught:
        read(path, delimiter=",")
    assert "--delimiter" not in caught.value.hint
