"""A file becomes a table: right, repaired by name, or refused with its row and column."""

from __future__ import annotations

import bz2
import csv
import errno
import gzip
import io
import itertools
import json
import math
import os
import random
import re
import signal
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from regatta.cli.files import readable, together
from regatta.configuration import ReadingOptions, check_value
from regatta.data_pipeline import delete_dataset, import_csv, inspect_csv, list_datasets, preview
from regatta.ingest import cache, chunks, columns, importer
from regatta.ingest.child import Child, ChildPool
from regatta.ingest.chunks import blank_rows
from regatta.ingest.demo import generate_demo
from regatta.ingest.dialect import seen_dialect
from regatta.ingest.importer import AHEAD, Cancelled, ImportProgress, import_table
from regatta.ingest.sample import Plan, Sample
from regatta.ingest.table import ParsedTable
from regatta.utils import DataError, RegattaError, UserError

pytestmark = pytest.mark.usefixtures("regatta_home")
Write = Callable[..., Path]


def numbers(table: ParsedTable, name: str) -> list[float | None]:
    values = table.values(table.column(name))
    return [None if math.isnan(value) else value for value in values.tolist()]


def texts(table: ParsedTable, name: str) -> list[str | None]:
    column = table.column(name)
    return [text for group in table.groups for text in table.texts(group, column)]


def refused(path: Path, **options: Any) -> DataError:
    """The error of an import; nothing may be left of it."""
    with pytest.raises(DataError) as caught:
        import_table(path, **options)
    assert list_datasets() == []
    assert not list(cache.datasets_folder("building").iterdir())
    assert caught.value.hint and "\n" not in caught.value.message
    return caught.value


LINES = [f"{i},{i % 7},{i % 5}" for i in range(60)]


def with_line(index: int, line: str) -> str:
    return "\n".join(["a,b,y", *LINES[:index], line, *LINES[index + 1 :]]) + "\n"


# -- refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "column", "words"),
    [
        ("40,5", None, "has 2 fields where 3 are expected"),
        ("40,5,1,2", None, "has 4 fields where 3 are expected"),
        ("40,inf,1", "b", "infinite"),
        ("40,1e400,1", "b", "infinite"),
        ("40,-Infinity,1", "b", "infinite"),
        ('40,5" pipe,1', None, "quote"),
        ('40,"5,1', None, "quote"),
        ("40,\0,1", None, "NUL"),
        ("a,b,y", None, "repeats the header"),
    ],
)
@pytest.mark.parametrize("chunk_bytes", [64, 1 << 20])
def test_a_broken_row_is_named(
    write: Write, line: str, column: str | None, words: str, chunk_bytes: int
) -> None:
    error = refused(write(with_line(40, line)), chunk_bytes=chunk_bytes)
    assert (error.row, error.column) == (42, column)
    assert words in error.message


def test_lines_are_counted_over_quoted_newlines_comments_and_blanks(write: Write) -> None:
    rows = ['"two\nlines",1', "", "# note", "x,2", "x"]
    error = refused(write("# first\nname,y\n" + "\n".join(rows) + "\n"))
    assert error.row == 8


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"\n \n", "empty"),
        (b"a,b,y\n", "no rows"),
        (random.Random(1).randbytes(5000), "NUL byte|binary"),
        (b"%PDF-1.7 ...", "PDF"),
        (b"<!DOCTYPE html><html></html>", "web page"),
        (b'[{"a": 1, "b": 2}, {"a": 3, "b": 4}]', "is JSON"),
        (b'\xef\xbb\xbf {\n "a, b": [1, 2],\n "b": [3, 4]\n}\n', "is JSON"),
        (b'{"a": 1, "b": 2}\n{"a": 3, "b": 4}\n', "is JSON"),
        (b"[\n  [1, 2],\n  [3, 4]\n]\n", "is JSON"),
        (b"\x80\x04\x95abc", "pickle"),
        (b"PAR1....", "Parquet"),
        (gzip.compress(b"a,y\n1,2\n", mtime=0)[:-6], "unpacked"),
        (b"\x1f\x8bnonsense", "unpacked"),
        (gzip.compress(b"", mtime=0), "empty"),
    ],
)
def test_no_table_at_all(write: Write, content: bytes, words: str) -> None:
    path = write(content)
    with pytest.raises(DataError, match=words):
        import_csv(path)


@pytest.mark.parametrize("header", ["[a],[b]", "{a},{b}", '"[""a""]",b', "[1],[2]"])
def test_brackets_in_a_header_are_no_json(write: Write, header: str) -> None:
    assert import_table(write(header + "\nx,1\ny,2\nz,3\n")).rows >= 3


def test_an_excel_file_is_named(write: Write) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("xl/workbook.xml", "<x/>")
    assert "Excel" in refused(write(buffer.getvalue())).message


@pytest.mark.parametrize("name", ["none.csv", "."])
def test_no_such_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError):
        import_csv(tmp_path / name)


# -- read -----------------------------------------------------------------------------------------

PLAIN = "size,town,y\n1.5,Bath,1\n,Rome,2\n3.5,,3\n"


@pytest.mark.parametrize(
    "content",
    [
        PLAIN.encode(),
        b"\xef\xbb\xbf" + PLAIN.encode(),
        PLAIN.replace("\n", "\r\n").encode(),
        PLAIN.replace("\n", "\r").encode(),
        PLAIN.rstrip("\n").encode(),
        PLAIN.encode("utf-16"),
        b"\xff\xfe" + PLAIN.encode("utf-16-le"),
        PLAIN.encode("utf-16-le"),
        PLAIN.replace(",", ";").encode(),
        PLAIN.replace(",", "\t").encode(),
        PLAIN.replace(",", "|").encode(),
        PLAIN.replace(",", ";").replace(".", ",").encode(),
        PLAIN.replace("\n\n", "\n").replace("1.5", " 1.5 ").encode(),
        PLAIN.replace("Bath", '"Bath"').replace(",", ', ').encode(),
        PLAIN.replace(",Rome", "NA,Rome").encode(),
        gzip.compress(PLAIN.encode()),
        bz2.compress(PLAIN.encode()),
        PLAIN.replace("\n", "\n\n").encode(),
    ],
    ids=range(18),
)  # fmt: skip
def test_one_table_in_many_dialects(write: Write, content: bytes) -> None:
    table = import_csv(write(content))
    assert table.names == ["size", "town", "y"]
    assert numbers(table, "size") == [1.5, None, 3.5]
    assert texts(table, "town") == ["Bath", "Rome", None]
    assert numbers(table, "y") == [1.0, 2.0, 3.0]


def test_zip_with_one_file(write: Write) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("inside.csv", PLAIN)
    assert numbers(import_csv(write(buffer.getvalue(), "f.zip")), "y") == [1.0, 2.0, 3.0]


def test_latin_1_is_a_named_guess(write: Write) -> None:
    table = import_csv(write("town,y\nMünchen,1\nKöln,2\n".encode("latin-1")))
    assert texts(table, "town") == ["München", "Köln"]
    assert any("cp1252" in said for said in table.repairs)


def test_latin_1_far_behind_the_start(write: Write) -> None:
    rows = b"".join(b"Koln,%d\n" % i for i in range(200_000))
    table = import_csv(write(b"town,y\n" + rows + "Köln,5\n".encode("latin-1")))
    assert texts(table, "town")[-1] == "Köln"


def test_a_mark_of_utf_8_that_lies(write: Write) -> None:
    error = refused(write(b"\xef\xbb\xbftown,y\nK\xc3\xb6ln,1\n" + b"K\xf6ln,2,3\n"))
    assert error.row == 3
    assert "not valid UTF-8" in error.message


def test_decimal_comma_in_some_columns_only(write: Write) -> None:
    rows = "".join(f'"{i},5",{i}.25,{i}\n' for i in range(30))
    table = import_csv(write("a,b,y\n" + rows))
    assert numbers(table, "a")[:2] == [0.5, 1.5]
    assert numbers(table, "b")[:2] == [0.25, 1.25]
    assert table.dialect.decimal == ","
    assert any("decimal comma" in said for said in table.repairs)


def test_kinds_and_their_evidence(write: Write) -> None:
    rows = "".join(
        f"{i / 3},{'yes' if i % 2 else 'no'},{'abc'[i % 3]},2020-01-{i % 28 + 1:02d},id{i},{i}\n"
        for i in range(100)
    )
    table = import_csv(write("number,flag,class,day,name,count\n" + rows))
    kinds = {column.name: (column.kind, column.role) for column in table.columns}
    assert kinds == {
        "number": ("number", "feature"),
        "flag": ("boolean", "feature"),
        "class": ("category", "feature"),
        "day": ("date", "feature"),
        "name": ("text", "ignored"),
        "count": ("number", "feature"),
    }
    assert table.column("day").minimum == pd.Timestamp("2020-01-01").timestamp()
    assert any("counts the rows" in said for said in table.warnings)
    assert all(column.evidence for column in table.columns)


# -- types over the whole file --------------------------------------------------------------------


def far_down(odd: list[str], rows: int = 60_000) -> str:
    """A column of numbers whose odd cells lie where no sample looks."""
    lines = [f"{i % 100},{i}" for i in range(rows)]
    for place, word in enumerate(odd):
        lines[11_000 + 7 * place] = f"{word},1"
    return "x,y\n" + "\n".join(lines) + "\n"


def test_a_few_odd_cells_are_missing_and_named(write: Write) -> None:
    table = import_csv(write(far_down(["n/k", "??x"])))
    column = table.column("x")
    assert column.kind == "number"
    assert (column.missing, column.odd) == (2, ((11_002, "n/k"), (11_009, "??x")))
    said = [each for each in table.repairs if "taken as missing" in each]
    assert len(said) == 1 and "11002, 11009" in said[0]


def test_many_odd_cells_make_a_column_of_texts(write: Write) -> None:
    table = import_csv(write(far_down([f"w{i % 50}" for i in range(6_900)])))
    assert table.column("x").kind == "category"
    between = [str(i % 100) for i in range(11_001, 11_007)]
    assert texts(table, "x")[11_000:11_008] == ["w0", *between, "w1"]


def test_a_mixed_column_is_refused_only_where_it_is_used(write: Write) -> None:
    table = import_csv(write(far_down([f"w{i % 50}" for i in range(2_000)])))
    column = table.column("x")
    assert column.kind == "number"
    assert "are not numbers" in column.refused
    assert column.refused_line == 11_002


def test_a_thousands_mark_far_down_changes_the_style(write: Write) -> None:
    table = import_csv(write(far_down(['"1,234"', '"5,678"'])))
    assert numbers(table, "x")[11_000] == 1234.0


def test_numbers_where_the_sample_is_blank(write: Write) -> None:
    lines = [f",{i}" for i in range(40_000)]
    lines[15_000] = "7.5,1"
    table = import_csv(write("x,y\n" + "\n".join(lines) + "\n"))
    assert table.column("x").missing == 39_999
    assert numbers(table, "x")[15_000] == 7.5


def test_day_and_month_are_told_apart_by_the_whole_file(write: Write) -> None:
    lines = [f"{i % 12 + 1:02d}/{i % 11 + 1:02d}/2020,{i}" for i in range(40_000)]
    lines[15_000] = "12/25/2020,1"
    table = import_csv(write("day,y\n" + "\n".join(lines) + "\n"))
    column = table.column("day")
    assert (column.kind, column.type.format) == ("date", "%m/%d/%Y")
    ambiguous = import_csv(write("day,y\n01/02/2020,1\n03/04/2020,2\n", "ambiguous.csv"))
    assert any("nothing in the file tells which" in said for said in ambiguous.warnings)
    ordered = "".join(f"{month}/{day}/2020,1\n" for month in range(1, 13) for day in range(1, 13))
    table = import_csv(write("day,y\n" + ordered, "ordered.csv"))
    assert table.column("day").type.format == "%m/%d/%Y"
    assert any("rows that follow on each other lie closer" in said for said in table.warnings)


def test_a_column_of_many_texts_is_left_out(write: Write) -> None:
    rows = "".join(f"text number {i},{i}\n" for i in range(30_000))
    table = import_csv(write("t,y\n" + rows))
    column = table.column("t")
    assert (column.kind, column.role, column.levels) == ("text", "ignored", ())


def test_amounts_in_parentheses_are_negative(write: Write) -> None:
    rows = [f'{i},"{cell}"' for i in range(20) for cell in ("($1,071.51)", "$12.50")]
    table = import_table(write("\n".join(["a,balance", *rows]) + "\n"))
    assert numbers(table, "balance") == [-1071.51, 12.5] * 20
    assert any("'balance'" in said and "parentheses" in said for said in table.repairs)


def test_every_column_with_a_decimal_comma_is_named(write: Write) -> None:
    rows = [f"{i},5;{i},25;{i}" for i in range(60)]
    rows[5] = "5,5;k.A.;5"
    table = import_table(write("\n".join(["a;b;c", *rows]) + "\n"))
    assert table.repairs[:2] == ("column 'a': decimal comma", "column 'b': decimal comma")
    assert "taken as missing" in table.repairs[2] and len(table.repairs) == 3
    assert together([f"column {each!r}: decimal comma" for each in ("a", "b", "it's")]) == [
        """columns 'a', 'b', "it's": decimal comma"""
    ]
    assert together(table.repairs[1:]) == list(table.repairs[1:])


def test_a_separator_or_decimal_mark_that_is_not_there_is_not_told(write: Write) -> None:
    one = import_table(write("a\n" + "x\ny\n" * 30, "one.csv")).report()
    assert one["assumed"] == ["delimiter", "decimal", "thousands"]
    assert not {*one["assumed"]} & seen_dialect(one).keys()
    assert one["dialect"]["delimiter"] == ","
    assert "delimiter" not in one["evidence"]
    assert "60 rows, 1 column, utf-8." in readable(one, "one.csv", 100)
    several = import_table(write("a;b\n" + "x;1\ny;2\n" * 30, "two.csv")).report()
    assert several["dialect"]["delimiter"] == ";" and several["dialect"]["decimal"] == "."
    assert several["assumed"] == several["repairs"] == []


def test_one_is_told_as_one(write: Write) -> None:
    report = import_table(write("a,b,c\n1,x,\n")).report()
    assert [each["evidence"] for each in report["columns"]] == [
        "its only cell is a number, all whole, 1 different",
        "1 different text in 1 cell",
        "its cell is missing",
    ]
    told = readable(report, "file.csv", 200)
    assert "1 row, 3 columns" in told and "is 1 in the only row." in told
    assert not re.search(r"\b1 (rows|columns|cells|different texts)", told)


@pytest.mark.parametrize("odd", ["(12.50)", "(1,012.50)"])
def test_parentheses_far_down_change_the_style(write: Write, odd: str) -> None:
    rows = [f"{i},{i}" for i in range(300_000)]
    rows[150_000] = f'150000,"{odd}"'
    table = import_table(write("\n".join(["a,b", *rows]) + "\n"))
    assert numbers(table, "b")[150_000] == -float(odd.strip("()").replace(",", ""))
    assert any("parentheses" in said for said in table.repairs)


# -- however it is cut and by however many --------------------------------------------------------


def mixed_file(rows: int = 3_000) -> str:
    rng = random.Random(5)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["x", "note", "flag", "y"])
    notes = ["plain", 'with "quotes"', "with, comma", "two\nlines", "", "NA"]
    for i in range(rows):
        writer.writerow(
            [f"{rng.gauss(0, 1):.6g}", rng.choice(notes), rng.choice(["t", "f"]), i % 17]
        )
    return out.getvalue()


def test_the_same_table_from_any_number_of_processes(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(mixed_file())
    expected = pd.read_csv(path)
    hashes = []
    for processes, chunk_bytes in [(0, 500), (2, 16384)]:
        monkeypatch.setenv("REGATTA_HOME", str(tmp_path / f"home-{processes}"))
        table = import_table(path, processes=processes, chunk_bytes=chunk_bytes)
        np.testing.assert_array_equal(table.values(table.column("x")), expected["x"])
        assert texts(table, "note") == [None if v != v else v for v in expected["note"]]
        assert numbers(table, "flag") == [float(v == "t") for v in expected["flag"]]
        hashes.append(np.concatenate([table.hashes(group) for group in table.groups]))
    assert len({each.tobytes() for each in hashes}) == 1


def test_a_process_that_stands_still_does_not_let_others_run_ahead(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What they parse has to wait for its place in the file, and takes memory meanwhile."""
    lines = [f"{i},{i % 7},{i * i}" for i in range(20_000)]
    path = write("\n".join(["a,b,c", *lines]).encode())
    handed: Counter[Child] = Counter()
    while_stopped: Counter[Child] = Counter()
    stopped = threading.Event()

    def noted(self: Child, function: str, *arguments: Any) -> None:
        if function.endswith("parse_chunk"):
            handed[self] += 1
            if stopped.is_set():
                while_stopped[self] += 1
            elif sum(handed.values()) == 10:
                os.kill(self.pid, signal.SIGSTOP)
                stopped.set()
                threading.Timer(1.0, go_on, [self]).start()
        call(self, function, *arguments)

    def go_on(child: Child) -> None:
        state = psutil.Process(child.pid).status()
        assert state == psutil.STATUS_STOPPED
        stopped.clear()
        monkeypatch.setattr(Child, "call", call)
        os.kill(child.pid, signal.SIGCONT)

    call = Child.call
    monkeypatch.setattr(Child, "call", noted)
    table = import_table(path, processes=2, chunk_bytes=4096)
    assert table.rows == 20_000
    assert numbers(table, "a") == list(range(20_000))
    assert 1 <= max(while_stopped.values()) <= AHEAD


def test_a_full_disk_is_told_as_one(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(RegattaError, match=r"disk of .* is full: 'file.csv' was not imported"):
        import_table(write("a,b\n1,2\n3,4\n"), processes=0)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "UTF_16"])
def test_an_encoding_that_needs_a_mark_is_refused_without_one(write: Write, encoding: str) -> None:
    with pytest.raises(DataError, match="no byte order mark") as caught:
        import_table(write("a,b\n1,2\n"), ReadingOptions(encoding=encoding), processes=0)
    assert "-le or" in (caught.value.hint or "")


@pytest.mark.parametrize("encoding", ["idna", "punycode", "hex"])
def test_what_is_no_encoding_of_texts_is_refused(encoding: str) -> None:
    with pytest.raises(UserError, match="--encoding is"):
        check_value(next(e for e in fields(ReadingOptions) if e.name == "encoding"), encoding)


def test_texts_too_long_to_be_levels_are_told_as_such(write: Write) -> None:
    rows = "".join(f"{i},{'ab'[i % 2]}\n" for i in range(50))
    table = import_table(write("x,c\n" + rows + f"9,{'z' * 1_001}\n"), processes=0)
    assert "Column 'c' holds texts of more than 1,000 letters: left out." in table.warnings
    assert table.column("c").evidence == "texts of more than 1,000 letters in 51 cells"


def test_a_row_longer_than_the_most_is_refused(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "MAX_RECORD_BYTES", 1 << 16)
    path = write("x,c\n1,a\n" + f"2,{'z' * 70_000}\n" + "3,b\n")
    with pytest.raises(DataError, match="longer than"):
        import_table(path, processes=0, chunk_bytes=1 << 12)


@pytest.mark.parametrize("variable", ["REGATTA_CACHE_GB", "REGATTA_MAX_UNPACKED_GB"])
def test_a_size_that_is_no_number_is_named(
    write: Write, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "much")
    path = write(gzip.compress(b"a,b\n1,2\n3,4\n"), "rows.csv.gz")
    with pytest.raises(UserError, match=f"{variable} is 'much'"):
        import_table(path, processes=0)


def test_what_is_missing_has_the_same_bits_whichever_way_it_was_read(write: Write) -> None:
    """Some chunks hold a word that the fastest way of reading does not know: it reads "-nan" as
    another NaN than the others do."""
    known, unknown = "2.5,2.5\n" * 20 + "-nan,\n", "1.5,1.5\n" * 20 + "NA,NA\n"
    table = import_table(write("a,b\n" + known * 8 + unknown * 20 + known * 8), chunk_bytes=250)
    missing = {values[np.isnan(values)].tobytes() for values in map(table.values, table.columns)}
    assert missing == {np.full(36, np.nan).tobytes()}
    assert [each.kind for each in table.findings if each.columns] == ["duplicate_columns"]


@pytest.mark.parametrize("most", [1, 3])
def test_no_more_processes_than_there_is_memory_for(
    write: Write, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """Those beyond, started before it was known what the file holds, end before it is read."""
    monkeypatch.setattr(importer, "available_cores", lambda: 5)
    monkeypatch.setattr(importer, "SMALL_BYTES", 0)
    monkeypatch.setattr(Sample, "plan", lambda *_: Plan(chunk_bytes=400, processes=most))
    called, alive = set[Child](), list[int]()

    def call(self: Child, function: str, *arguments: Any) -> None:
        called.add(self)
        plain_call(self, function, *arguments)
        if function.endswith("parse_chunk") and not alive:
            time.sleep(0.5)
            alive.append(sum(map(is_alive, self.pool.pids)))

    plain_call = Child.call
    monkeypatch.setattr(Child, "call", call)
    table = import_table(write(with_line(0, LINES[0]).encode()))
    assert table.rows == 60
    assert len(called) == most == alive[0]
    assert not any(is_alive(pid) for child in called for pid in child.pool.pids)


def test_of_processes_that_hold_more_than_was_thought_some_end(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [f"{i},{i % 7},{i * i}" for i in range(20_000)]
    path = write("\n".join(["a,b,c", *rows]))
    held, at_work = list[int](), list[int]()
    plain_result, plain_fitting = Child.result, importer._Schedule._fitting

    def result(self: Child) -> Any:
        answer = plain_result(self)
        self.held = 90 << 20 if len(at_work) < 20 else 300 << 20
        return answer

    def fitting(self: importer._Schedule, has: Counter[Child]) -> list[Child]:
        found = plain_fitting(self, has)
        at_work.append(len(found))
        held.append(len(self.pool.children))
        return found

    monkeypatch.setattr(Child, "result", result)
    monkeypatch.setattr(importer._Schedule, "_fitting", fitting)
    table = import_table(path, processes=6, chunk_bytes=4096)
    assert at_work[0] == importer.FIRST, "until it is known what one holds"
    assert 3 in at_work and at_work[-1] == 1 and held[-1] == 1
    assert numbers(table, "a") == list(range(20_000))


def is_alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_all_cores_are_used_where_there_is_memory(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importer, "SMALL_BYTES", 0)
    monkeypatch.setattr(importer, "available_cores", lambda: 12)
    started = list[int]()

    def pool(count: int, *_: str) -> ChildPool:
        started.append(count)
        return ChildPool(0)

    monkeypatch.setattr(importer, "ChildPool", pool)
    import_table(write(with_line(0, LINES[0]).encode()))
    assert started == [0, 12]


@pytest.mark.parametrize("processes", [0, 1, 2, 5])
def test_columns_with_the_most_texts_go_where_all_have_too_many(
    write: Write, monkeypatch: pytest.MonkeyPatch, processes: int
) -> None:
    """The largest first; those that are left are read as they would be without the others."""
    for module in (columns, importer):
        monkeypatch.setattr(module, "MAX_LEVELS_TOGETHER", 500)
    rows = [f"a{i % 3},b{i % 120},c{i},d{i % 90},{i}" for i in range(900)]
    path = write("\n".join(["three,some,all,few,y", *rows]))
    table = import_table(path, processes=processes, chunk_bytes=2_000)
    kinds = {each.name: each.kind for each in table.columns}
    assert kinds.pop("all") == "text"
    assert set(kinds.values()) == {"category", "number"}
    assert [table.column(name).distinct for name in ("three", "some", "few")] == [3, 120, 90]
    assert texts(table, "some") == [f"b{i % 120}" for i in range(900)]
    (told,) = [each for each in table.warnings if "'all'" in each]
    assert "different texts or more, and all columns together more than 500: left out" in told
    assert table.column("all").reason == "free text"


def test_large_chunks_and_large_answers_pass_each_other(write: Write) -> None:
    """Chunks of a packed file go through a pipe, and the texts that they hold come back."""
    letters = random.Random(1)
    lines = [f"{i},{letters.randbytes(60).hex()}" for i in range(200_000)]
    packed = gzip.compress("\n".join(["n,text", *lines]).encode(), 1, mtime=0)
    table = import_table(write(packed, "rows.csv.gz"), processes=2, chunk_bytes=4 << 20)
    assert table.rows == 200_000
    assert table.column("text").kind == "text"


def test_equal_rows_and_only_they_have_equal_hashes(write: Write) -> None:
    table = import_csv(write("a,b,y\n1,x,2\n1.0,x,2.0\n1,X,2\n2,x,1\n-0,x,2\n0,x,2\n"))
    hashes = table.hashes(0).tolist()
    assert hashes[0] == hashes[1]
    assert hashes[4] == hashes[5]
    assert len(set(hashes)) == 4
    assert table.duplicates == 2


REAL_FILES = (
    "auto_mpg.data",
    "penguins.csv",
    "consumo_cerveja.csv",
    "winequality_white_dirty_semicolon.csv",
    "power_plant.csv",
    "life_expectancy.csv",
    "appliances_energy_testing.csv",
)


@pytest.mark.parametrize("name", REAL_FILES)
def test_real_files_agree_with_pandas(data_dir: Path, name: str) -> None:
    special: dict[str, dict[str, Any]] = {
        "auto_mpg.data": {"header": None, "sep": r"\s+", "na_values": "?"},
        "winequality_white_dirty_semicolon.csv": {"sep": ";", "decimal": ","},
    }
    options = special.get(name, {})
    path = data_dir / "regression" / name
    expected = pd.read_csv(path, **options).dropna(how="all")
    table = import_csv(path)
    assert table.rows == len(expected)
    for column, wanted in zip(table.columns, expected.columns, strict=True):
        values = expected[wanted]
        if column.kind != "number":
            continue
        if values.dtype.kind not in "if":
            values = values.str.strip().str.replace(",", ".").astype(float)
        # pandas' own parser is off by one bit now and then
        np.testing.assert_allclose(table.values(column), values, rtol=1e-15)


simple = st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=5)


@given(
    data=st.data(),
    delimiter=st.sampled_from(",;\t|"),
    newline=st.sampled_from(["\n", "\r\n"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_round_trip_in_random_dialects(
    write: Write, data: st.DataObject, delimiter: str, newline: str, encoding: str
) -> None:
    """What is written quoted is read back: numbers exactly, texts without their outer blanks."""
    rows = data.draw(st.integers(12, 30))
    levels = data.draw(st.lists(st.sampled_from(["red", "green, dark", 'say "no"', "a;b|c", "ü"]),
                                min_size=rows, max_size=rows))  # fmt: skip
    values = data.draw(st.lists(st.none() | st.floats(-1e12, 1e12), min_size=rows, max_size=rows))
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, lineterminator=newline)
    writer.writerow(["size", "colour", "y"])
    for i, (value, level) in enumerate(zip(values, levels, strict=True)):
        writer.writerow(["" if value is None else repr(value), level, i + 0.5])
    table = import_csv(write(out.getvalue().encode(encoding)))
    assert table.names == ["size", "colour", "y"]
    assert numbers(table, "size") == values
    assert texts(table, "colour") == levels
    assert numbers(table, "y") == [i + 0.5 for i in range(rows)]


@given(st.binary(min_size=1, max_size=300) | simple.map(str.encode))
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_bytes_are_read_or_refused(write: Write, content: bytes) -> None:
    try:
        import_csv(write(content))
    except DataError as error:
        assert error.message


# -- kept -----------------------------------------------------------------------------------------


def test_an_unchanged_file_is_not_read_again(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(PLAIN)
    first = import_csv(path)
    monkeypatch.setattr("regatta.ingest.importer.open_source", lambda *a, **k: pytest.fail("read"))
    assert import_csv(path).key == first.key


def test_a_changed_file_is_read_again(write: Write) -> None:
    path = write(PLAIN)
    first = import_csv(path)
    status = path.stat()
    path.write_text(PLAIN.replace("1.5", "2.5"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert numbers(import_csv(path), "size") == [2.5, None, 3.5]
    assert numbers(first, "size") == [1.5, None, 3.5]


def test_a_file_in_the_place_of_another_is_read(write: Write) -> None:
    """Of the same size, with the same times of change as far as one can set them."""
    path = write(PLAIN)
    import_csv(path)
    status = path.stat()
    other = write(PLAIN.replace("1.5", "2.5"), "other.csv")
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    os.replace(other, path)
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)
    assert path.stat().st_ino != status.st_ino
    assert numbers(import_csv(path), "size") == [2.5, None, 3.5]


def test_the_same_content_elsewhere_is_kept_once(write: Write) -> None:
    assert import_csv(write(PLAIN, "a.csv")).key == import_csv(write(PLAIN, "b.csv")).key
    assert len(list_datasets()) == 1


def test_what_was_looked_at_is_let_go_of_and_stays_valid(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mapped file does not count as memory of the process, however much of it was read."""
    rows = 500_000
    table = import_table(write("a,y\n" + "".join(f"{i},{i % 7}\n" for i in range(rows))))
    column = table.column("a")
    monkeypatch.setattr("regatta.ingest.table.RESIDENT_BYTES", 1 << 20)

    def mapped() -> int:
        with open("/proc/self/smaps") as maps:
            found = maps.read().split(str(table.directory / "values.bin"))[1]
        return 1024 * int(re.findall(r"Rss: +(\d+) kB", found)[0])

    first = table.numbers(0, column)
    most = 0
    for group in table.groups:
        assert table.numbers(group, column)[-1] >= 0
        most = max(most, mapped())
    assert len(table.groups) > 1 and 0 < most < rows * table.layout.row_bytes / 2
    assert first[:5].tolist() == [0, 1, 2, 3, 4]


def test_deleting(write: Write) -> None:
    table = import_csv(write(PLAIN))
    with table.hold(), pytest.raises(UserError, match="in use"):
        delete_dataset(table.key)
    assert delete_dataset(table.key) > 0
    assert list_datasets() == []
    with pytest.raises(UserError, match="no data set"):
        delete_dataset(table.key)


def test_the_oldest_makes_room(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    old = import_csv(write(PLAIN, "old.csv"))
    held = import_csv(write(PLAIN + "9,Oslo,9\n", "held.csv"))
    os.utime(old.directory, (1, 1))
    os.utime(held.directory, (0, 0))
    monkeypatch.setenv("REGATTA_CACHE_GB", "0")
    with held.hold():
        import_csv(write(PLAIN + "8,Oslo,8\n", "new.csv"))
    assert {each["name"] for each in list_datasets()} == {"held.csv", "new.csv"}


def test_two_imports_at_once_agree(write: Write) -> None:
    path = write(mixed_file())
    keys: list[str] = []
    threads = [threading.Thread(target=lambda: keys.append(import_csv(path).key)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys) == 4 and len(set(keys)) == 1
    assert len(list_datasets()) == 1


def test_leftovers_of_a_killed_import_are_swept(write: Write) -> None:
    left = cache.datasets_folder("building") / "parsed-dead"
    left.mkdir()
    (left / cache.LOCK_NAME).touch()
    import_csv(write(PLAIN))
    assert not left.exists()


def test_progress_and_cancelling(tmp_path: Path) -> None:
    path = generate_demo(tmp_path / "demo.csv", 80_000, 30)
    seen: list[ImportProgress] = []
    with pytest.raises(Cancelled):
        import_csv(path, processes=2, progress=seen.append, cancelled=lambda: len(seen) > 0)
    assert list_datasets() == []
    seen.clear()

    def noted(progress: ImportProgress) -> None:
        seen.append(progress)
        time.sleep(0.11)  # so that nothing is left out for having been told just before

    table = import_csv(path, processes=2, progress=noted)
    assert table.rows == 80_000
    assert seen[-1].fraction == 1.0 and seen[-1].rows == 80_000
    done = [each.bytes_done for each in seen]
    assert done == sorted(done)
    assert any(0 < each < path.stat().st_size for each in done)
    assert all(each.rows for each in seen if each.bytes_done)


# -- shown ----------------------------------------------------------------------------------------


def test_the_report(write: Write) -> None:
    rows = "".join(f"{i},{i % 3},5,{2 * i % 90},{9999 if i == 7 else i % 50}\n" for i in range(100))
    path = write("index,x,constant,y,sentinel\n" + rows + rows.splitlines()[3] + "\n")
    report = inspect_csv(path)
    assert set(report["dialect"]) == {"encoding", "delimiter", "quote", "escape", "decimal",
                                      "thousands", "header", "skip_rows", "comment"}  # fmt: skip
    assert report["rows"] == 101
    for column in report["columns"]:
        assert {"name", "kind", "missing", "distinct", "role", "evidence"} <= set(column)
    said = " ".join(report["warnings"])
    for words in ("'constant' is 5", "holds 9999 in 1 cell,", "is an exact duplicate"):
        assert words in said
    assert report["rejected"] == []
    assert json.loads(json.dumps(report)) == report


def test_a_leak_is_warned_of(write: Write) -> None:
    rows = "".join(f"{i % 7},{3 * i + 1},{i}\n" for i in range(60))
    report = inspect_csv(write("x,copy,y\n" + rows), target="y")
    assert any("'copy' gives the target 'y' away" in said for said in report["warnings"])


def test_preview(write: Write) -> None:
    path = write("x,flag,day,town\n1.5,yes,2020-01-02,Bath\n,no,2020-01-03,\n")
    assert preview(path, rows=5) == [
        {"x": 1.5, "flag": "yes", "day": "2020-01-02", "town": "Bath"},
        {"x": None, "flag": "no", "day": "2020-01-03", "town": None},
    ]


def test_the_preview_shows_texts_that_no_parsed_column_holds(write: Write) -> None:
    """A text of its own in every row, and words among numbers."""
    notes = [f"note {i}" if i % 9 else "NA" for i in range(12_000)]
    amounts = [f"about {i}" if i % 12 == 1 else str(i) for i in range(12_000)]
    rows = "".join(f"{notes[i]},{amounts[i]},{i}\n" for i in range(12_000))
    path = write("note,amount,y\n" + rows)
    table = import_table(path, chunk_bytes=200)
    shown = preview(table, rows=30)
    assert not table.column("note").levels
    assert table.column("amount").refused
    assert [row["note"] for row in shown] == [None if n == "NA" else n for n in notes[:30]]
    expected = [a if a.startswith("about") else float(a) for a in amounts[:30]]
    assert [row["amount"] for row in shown] == expected
    path.unlink()
    assert preview(table, rows=2) == [
        {"note": "…", "amount": 0.0, "y": 0.0},
        {"note": "…", "amount": "…", "y": 1.0},
    ]


def test_rows_without_any_value_are_left_out(write: Write) -> None:
    table = import_csv(write('a,b,c\n1,x,2\n,,\n3,"\n,,\n",4\n"", "",\n'))
    assert table.rows == 2
    assert numbers(table, "a") == [1, 3]
    assert "2 rows without any value left out" in table.repairs


def test_chunks_of_blank_rows_alone(write: Write) -> None:
    rows = "1,x,2020-01-01,yes\n2,y,2020-01-02,no\n"
    table = import_table(write("a,b,c,d\n" + rows * 20 + ",,,\n" * 60 + rows), chunk_bytes=64)
    assert (table.rows, table.column("b").levels) == (42, ("x", "y"))
    assert "60 rows without any value left out" in table.repairs


def test_a_line_of_many_blanks_is_soon_told_from_a_blank_row() -> None:
    """Trying each way to read its blanks would take for ever."""
    for delimiter in " ,\t":
        blank = blank_rows(delimiter, '"')
        row = f' {delimiter}""{delimiter} '.encode()
        assert blank.fullmatch(row if delimiter != " " else b'  "" ')
        assert not blank.fullmatch(row * 500 + b"x")
        assert not blank.fullmatch(b" " * 500 + b"x")


def test_blank_rows_of_another_width_are_left_out(write: Write) -> None:
    table = import_csv(write("a,b,c\n1,x,2\n,\n3,y,4\n,,,,\n"))
    assert numbers(table, "a") == [1, 3]
    assert "2 rows without any value left out" in table.repairs


def test_a_quoted_cell_where_quotes_are_text_is_refused(write: Write) -> None:
    rows = "".join(f'{i},the "x" of {i}\n' for i in range(2000))
    path = write("a,b\n" + rows * 40 + '1,"y"\n')
    assert "in quotes" in str(refused(path))
    assert import_csv(write("a,b\n" + rows)).column("b").levels[0] == 'the "x" of 0'


def test_control_characters_are_the_signs_of_cp1252(write: Write) -> None:
    table = import_table(write("a,b\nd\x92or,\xa05\nd\x80\x81,6\n"), chunk_bytes=3)
    assert texts(table, "a") == ["d’or", "d€\x81"]
    assert any("U+0080" in repair for repair in table.repairs)


def test_cyrillic_and_western_letters_are_told_apart(write: Write) -> None:
    for text, encoding in (
        ("город,цена\nМосква,5\nКазань,6\nНижний Новгород,7\n", "cp1251"),
        ("ville,prix\nMâcon,5\nÉvry,6\nNîmes,7\nBézierS,8\n", "cp1252"),
        ("Größe,Öl\nüber,1\nÄÖÜ,2\nStraße,3\n", "cp1252"),
    ):
        table = import_csv(write(text.encode(encoding)))
        assert (table.dialect.encoding, table.names) == (encoding, text.split("\n")[0].split(","))
        assert any(f"read as {encoding} (a guess" in repair for repair in table.repairs)


def test_a_comment_mark_inside_a_quoted_cell_is_text(write: Write) -> None:
    table = import_csv(write('# note "1"\na,b\n1,"x\n# y"\n# more\n2,z\n'))
    assert texts(table, "b") == ["x\n# y", "z"]


def test_an_escape_before_other_characters_is_text(write: Write) -> None:
    rows = 'p,q\n"C:\\temp\\x","say \\"hi\\""\n"a\\\\","b"\n'
    table = import_csv(write(rows * 1))
    assert texts(table, "p") == ["C:\\temp\\x", "a\\"]
    assert texts(table, "q") == ['say "hi"', "b"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a,b,c\n1,2,x\n3,4,y\nd,e,f\n5,6,z\n", 4),
        ("a,b\n1,2\n3,4\n\nc,d\n5,6\n", 5),
        ("when,a,b\n2020-01-01,2,x\n2020-01-02,4,y\nday,cost,z\n2020-01-01,6,z\n", 4),
        ("name,town,note\nx,y,z\nu,v,w\n,,\n,,\nTravel,,\nwho,where,\np,q,\n", 6),
    ],
)
def test_a_second_table_with_other_names_is_refused(write: Write, text: str, line: int) -> None:
    error = refused(write(text))
    assert "second table" in str(error)
    assert error.row == line


def test_lines_that_end_differently_are_all_lines(write: Write) -> None:
    """CR, LF and CR LF in one file; inside quotes an end of line is text."""
    lines = [f"{i},{i % 7}.5,word{i % 3}" for i in range(60)]
    lines[40] = "40,x,word1"
    ends = itertools.cycle(["\n", "\r", "\r\n", "\n"])
    content = "row,y,what\n" + "".join(line + end for line, end in zip(lines, ends, strict=False))
    table = import_csv(write(content.encode()))
    assert table.rows == 60 and table.column("y").missing == 1
    assert table.column("y").odd == ((42, "x"),)
    quoted = import_csv(write(b'a,y\n"in\rside",1\n"in\rside",2\r"b",3\n"b",4\n', "quoted.csv"))
    assert quoted.rows == 4 and quoted.column("a").levels == ("in\rside", "b")


def test_blanks_separate_in_a_file_of_cr_alone(write: Write) -> None:
    """Quotes, a text that other rules end a line at, an odd cell: its line is told."""
    lines = [f'  {i}  "a b{chr(0x2028)}c"   {i}.25 ' for i in range(50)]
    lines[20] = '20 "a b" oops'
    table = import_csv(write(("n what y\r" + "\r".join(lines) + "\r").encode()))
    assert table.rows == 50 and table.dialect.runs
    assert table.column("y").odd == ((22, "oops"),)


def test_a_row_of_ten_megabytes_is_one_row(write: Write) -> None:
    rows = [f"{i % 13},x,{i}" for i in range(50)]
    for place in (25, 49):
        long = [*rows[:place], f"1,{'z' * 10_000_000},2", *rows[place:]]
        table = import_csv(write(("a,t,y\n" + "\n".join(long) + "\n").encode(), f"{place}.csv"))
        assert table.rows == 51 and table.column("y").maximum == 49


@pytest.mark.parametrize("unit", ["kg", " km/h", " °C", "kWh", " m²", "EUR"])
def test_a_unit_is_taken_off_and_told(write: Write, unit: str) -> None:
    rows = [f"{i}.{i % 10}{unit},{i % 7}" for i in range(40)]
    table = import_csv(write(("size,y\n" + "\n".join(rows) + "\n").encode("utf-8")))
    assert table.column("size").kind == "number"
    assert table.values(table.column("size")).tolist() == [
        float(f"{i}.{i % 10}") for i in range(40)
    ]
    assert any("'size'" in said and repr(unit.strip()) in said for said in table.repairs)


def test_codes_and_mixed_units_are_not_numbers(write: Write) -> None:
    rows = [f"{i % 12}A,{i} {'kg' if i % 2 else 'g'},{i}" for i in range(60)]
    table = import_csv(write(("room,weight,y\n" + "\n".join(rows) + "\n").encode()))
    assert table.column("room").kind == "category"
    assert table.column("weight").kind != "number"


@pytest.mark.parametrize(("place", "value"), [(6, 1), (8, 99)], ids=["encrypted", "method 99"])
def test_a_zip_that_cannot_be_opened_is_told(write: Write, place: int, value: int) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("rows.csv", PLAIN)
    data = bytearray(packed.getvalue())
    for header, shift in ((b"PK\x03\x04", 0), (b"PK\x01\x02", 2)):  # the file's, the directory's
        data[data.index(header) + place + shift] = value
    error = refused(write(bytes(data), "rows.zip"))
    assert "encrypted or packed in a way that cannot be read" in error.message
