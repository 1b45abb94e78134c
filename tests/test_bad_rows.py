"""Rows that cannot be read: all are listed, or exactly they are set aside."""

from __future__ import annotations

import bz2
import csv
import gzip
import json
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from regatta.configuration import ReadingOptions
from regatta.data_pipeline import (
    import_csv,
    inspect_csv,
    prepare,
    preview,
    read_for_prediction,
    write_clean,
    write_rejected,
)
from regatta.ingest import chunks, rejecting
from regatta.ingest.importer import import_table
from regatta.ingest.schema import SchemaCheck
from regatta.ingest.source import Patch, Source, stream_text
from regatta.ingest.table import ParsedTable
from regatta.utils import DataError, home

pytestmark = pytest.mark.usefixtures("regatta_home")
SKIP = ReadingOptions(on_bad_rows="skip", max_bad_rows=1.0)
Write = Callable[..., Path]


def good(number: int) -> bytes:
    """A row that shows its number in every cell; some have quotes, and lines, inside."""
    inside = {0: f'"n{number}, or ""so"""', 1: f'"n{number}\nbelow"'}.get(number % 5, f"n{number}")
    return f"{number},{inside},{number}.5\n".encode()


# What is done to a row, and what is told of it. None of it can be mended in one way alone.
DAMAGE: dict[str, tuple[Callable[[int], bytes], str]] = {
    "short": (lambda n: b"%d\n" % n, "has 1 field where 3"),
    "long": (lambda n: b"%d,x,y,z,%d\n" % (n, n), "has 5 fields where 3"),
    "stray": (lambda n: b'%d,x"y"z"w,1.5\n' % n, "in the middle of a cell"),
    "junk": (lambda n: b'%d,"x"y "z,1.5\n' % n, "in the middle of a cell"),
    "open": (lambda n: b'%d,"x\n' % n, "quote"),
    "nul": (lambda n: b"%d,x\0,1.5\n" % n, "holds a NUL byte"),
    "bytes": (lambda n: b"%d,x\xff\xfe,1.5\n" % n, "is not valid UTF-8"),
}


@dataclass
class Damaged:
    """A file with broken rows."""

    content: bytes
    lines: list[int]  # of the broken rows
    left: list[int]  # numbers of the others


def damaged(kinds: Sequence[str]) -> Damaged:
    """A file whose row ``n`` is good, or broken in the way ``kinds[n]``."""
    content, lines, left = b"\xef\xbb\xbfid,text,value\n", [], []
    line = 2
    for number, kind in enumerate(kinds):
        row = DAMAGE[kind][0](number) if kind else good(number)
        if kind:
            lines.append(line)
        else:
            left.append(number)
        content += row
        line += row.count(b"\n")
    return Damaged(content, lines, left)


def ids(table: ParsedTable) -> list[int]:
    return [int(value) for value in table.values(table.column("id"))]


MANY = [""] * 40
for _place, _kind in enumerate(DAMAGE, 1):
    MANY[5 * _place] = _kind


def test_all_kinds_of_damage_are_set_aside_and_nothing_else(write: Write) -> None:
    file = damaged(MANY)
    table = import_csv(write(file.content), SKIP)
    assert ids(table) == file.left
    assert table.rejected_rows == len(DAMAGE)
    assert [each["row"] for each in table.rejected] == file.lines
    for each, (_, reason) in zip(table.rejected, DAMAGE.values(), strict=True):
        assert reason in each["reason"]
    assert "7 of 40 rows set aside" in table.warnings[0]
    texts = [row["text"] for row in preview(table, rows=40)]
    assert texts[:2] == ['n0, or "so"', "n1\nbelow"]


def test_all_bad_rows_are_listed_when_they_are_refused(write: Write) -> None:
    file = damaged(MANY)
    with pytest.raises(DataError) as caught:
        import_csv(write(file.content))
    error = caught.value
    assert error.row == file.lines[0] and f"Line {file.lines[0]} " in error.message
    assert [each["row"] for each in error.to_json()["rejected"]] == file.lines
    assert "--on-bad-rows skip" in error.hint


def test_the_first_twenty_are_listed(write: Write) -> None:
    file = damaged(["", "", "short"] * 30)
    with pytest.raises(DataError) as caught:
        import_csv(write(file.content))
    assert [each["row"] for each in caught.value.rejected] == file.lines[:20]
    table = import_csv(write(file.content), SKIP)
    assert table.rejected_rows == 30 and len(table.rejected) == 20


def test_no_more_than_the_share_is_set_aside(write: Write) -> None:
    file = damaged([*[""] * 98, "short", "long"])
    path = write(file.content)
    with pytest.raises(
        DataError, match=r"2 of 100 rows cannot be read: a share of 0\.02"
    ) as caught:
        import_csv(path, ReadingOptions(on_bad_rows="skip"))
    assert [each["row"] for each in caught.value.rejected] == file.lines
    assert import_csv(path, ReadingOptions(on_bad_rows="skip", max_bad_rows=0.02)).rows == 98


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress], ids=["gzip", "bzip2"])
def test_packed_files_are_treated_alike(write: Write, pack: Callable[[bytes], bytes]) -> None:
    file = damaged(MANY)
    assert ids(import_csv(write(pack(file.content)), SKIP)) == file.left


def test_utf_16_is_treated_alike(write: Write) -> None:
    rows = [f"{i},ä{i}" for i in range(30)]
    rows[7] = "7"
    content = "id,text\n" + "".join(f"{row}\n" for row in rows)
    table = import_csv(write(content.encode("utf-16")), SKIP)
    assert ids(table) == [i for i in range(30) if i != 7]
    half = b"\xff\xfe" + content.encode("utf-16-le").replace("ä9".encode("utf-16-le"), b"\x00\xd8")
    table = import_csv(write(half), SKIP)
    assert [each["row"] for each in table.rejected] == [9, 11]
    assert "not valid UTF-16" in table.rejected[1]["reason"]


@pytest.mark.parametrize("size", [64, 300, 5_000, chunks.CHUNK_BYTES])
@pytest.mark.parametrize("processes", [0, 2])
def test_chunks_and_processes_make_no_difference(
    write: Write, size: int, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rejecting, "BLOCK_BYTES", min(size, 1 << 20))
    kinds = [""] * 400
    for place in range(20, 400, 23):
        kinds[place] = list(DAMAGE)[place % len(DAMAGE)]
    file = damaged(kinds)
    table = import_table(write(file.content), SKIP, processes=processes, chunk_bytes=size)
    assert ids(table) == file.left
    assert table.rejected_rows == len(file.lines)
    assert [each["row"] for each in table.rejected] == file.lines[:20]


def test_infinite_numbers_are_set_aside_with_their_column(write: Write) -> None:
    rows = [f"{i},{i}.5" for i in range(60)]
    rows[9], rows[30], rows[31] = "9,1e999", "30,-inf", "x"
    content = "id,value\n" + "".join(f"{row}\n" for row in rows)
    table = import_csv(write(content), SKIP)
    assert ids(table) == [i for i in range(60) if i not in (9, 30, 31)]
    assert [(each["row"], each["column"]) for each in table.rejected] == [
        (11, "value"), (32, "value"), (33, None)
    ]  # fmt: skip
    with pytest.raises(DataError) as caught:
        import_csv(write(content.replace("x\n", "31,1\n")))
    assert [each["row"] for each in caught.value.rejected] == [11, 32]
    assert caught.value.column == "value"


def test_rows_that_can_be_mended_are_mended_first(write: Write) -> None:
    rows = [f"2024-03-{1 + i % 28:02},KL-{100 + i},${20 + i}.10,oars" for i in range(60)]
    rows[20] = "2024-03-21,,KL-120,$40.10,oars"  # a blank cell too many
    rows[30] = "2024-03-03"
    rows[40] = "2024-03-13,,KL-140,$60.10,oars"
    content = "day,code,price,what\n" + "".join(f"{row}\n" for row in rows)
    table = import_csv(write(content), SKIP)
    assert (table.rows, table.rejected_rows) == (59, 1)
    assert table.rejected[0]["row"] == 32
    assert any("2 rows mended" in each and "22, 42" in each for each in table.repairs)


def test_the_rejected_rows_are_written_down(write: Write, tmp_path: Path) -> None:
    kinds = [""] * 200
    file = damaged(kinds)
    lines = file.content.splitlines(keepends=True)
    lines[50:50] = [b"=1+1\n", b'5,a"b,"c\n']
    table = import_csv(write(b"".join(lines)), ReadingOptions(on_bad_rows="skip"))
    with (table.directory / rejecting.REJECTED_NAME).open(newline="") as written:
        rows = list(csv.reader(written))
    assert rows == [
        ["line", "reason", "text"],
        ["51", "has 1 field where 3 are expected", "'=1+1"],
        ["52", 'has a quote (") in the middle of a cell', '5,a"b,"c'],
    ]
    out = tmp_path / "rejected.csv"
    done = write_rejected(tmp_path / "file.csv", out, ReadingOptions(on_bad_rows="skip"))
    assert done["rows"] == 2 and out.read_text().count("\n") == 3


def test_a_clean_copy_holds_the_rows_that_are_left(write: Write, tmp_path: Path) -> None:
    file = damaged(MANY)
    out = tmp_path / "clean.csv"
    write_clean(write(file.content), out, SKIP)
    assert ids(import_csv(out)) == file.left


def test_prediction_sets_the_same_rows_aside(write: Write) -> None:
    train = damaged([""] * 60)
    table = import_csv(write(train.content), ReadingOptions(column_types=("text=ignore",)))
    preprocessing = prepare(table, target="value").preprocessing
    file = damaged(MANY)
    path = write(file.content, "new.csv")
    check = SchemaCheck()
    batches = list(read_for_prediction(path, preprocessing, check, SKIP))
    assert [int(value) for batch in batches for value in batch.columns["id"]] == file.left
    told = [each for each in check.deviations if each.kind == "rejected"]
    assert told[0].rows == tuple(file.lines)
    with pytest.raises(DataError) as caught:
        list(read_for_prediction(path, preprocessing, SchemaCheck()))
    assert [each["row"] for each in caught.value.rejected] == file.lines


def test_commands_list_skip_and_write(
    regatta: Callable[..., subprocess.CompletedProcess[str]], write: Write, tmp_path: Path
) -> None:
    file = damaged(MANY)
    path, out = write(file.content), tmp_path / "rejected.csv"
    done = regatta("inspect", path)
    assert done.returncode == 2
    assert all(f"line {line} " in done.stderr for line in file.lines)
    done = regatta("inspect", path, "--json")
    assert len(json.loads(done.stdout)["error"]["rejected"]) == len(DAMAGE)
    skip = ["--on-bad-rows", "skip", "--max-bad-rows", "0.5"]
    done = regatta("inspect", path, *skip, "--write-rejected", out)
    assert done.returncode == 0 and "Set aside (7 rows)" in done.stdout
    assert out.read_text().startswith("line,reason,text\n")
    done = regatta("train", path, "--target", "value", "--column-type", "text=ignore", "--json",
                   *skip)  # fmt: skip
    assert any("set aside" in each for each in json.loads(done.stdout)["warnings"])


def test_a_file_without_bad_rows_reports_none(write: Write) -> None:
    report = inspect_csv(write(damaged([""] * 20).content), SKIP)
    assert (report["rejected"], report["rejected_rows"]) == ([], 0)


def test_other_dialects(write: Write) -> None:
    cases: list[tuple[str, dict[str, Any]]] = [
        ("id;text\n" + "".join(f"{i};'a;{i}'\n" for i in range(30)) + "30;'b'c;d;e\n31;d;e\n",
         {"quote": "'"}),
        ("id\ttext\r\n" + "".join(f"{i}\ta {i}\r\n" for i in range(30)) + "x\r\n1\t2\t3\r\n",
         {"delimiter": "tab"}),
        ("id text\n" + "".join(f"{i}   a{i}\n" for i in range(30)) + "30  b c\n31\n",
         {"delimiter": "blanks"}),
        ("id,text\r" + "".join(f"{i},a{i}\r" for i in range(30)) + "30\r31,b,c\r", {}),
        ("id,text\n" + "".join(f'{i}, "a,\\"{i}" \n' for i in range(30)) + '30, "a"b", "c\n31\n',
         {}),
        ("# one\nid,text\n" + "".join(f"{i},a{i}\n#no,no,no\n" for i in range(30)) + "x\ny\n", {}),
    ]  # fmt: skip
    for number, (content, said) in enumerate(cases):
        options = ReadingOptions(on_bad_rows="skip", max_bad_rows=0.5, **said)
        table = import_csv(write(content, f"{number}.csv"), options)
        assert ids(table) == list(range(30)), content
        assert table.rejected_rows == 2, content


def test_a_quote_that_is_never_closed_swallows_no_row_however_long_the_file(write: Write) -> None:
    rows = [b"%d,x,1.5\n" % i for i in range(300_000)]
    rows[1000] = b'1000,"x,1.5\n'
    table = import_csv(write(b"id,text,value\n" + b"".join(rows)), SKIP)
    assert table.rows == 299_999 and table.rejected[0]["row"] == 1002


def test_a_broken_row_of_words_is_no_second_table(write: Write) -> None:
    rows = [f"{i},{i * i},{i % 7}" for i in range(40)]
    rows[20] = 'x,y"z,"w"v'
    path = write("a,b,c\n" + "".join(f"{row}\n" for row in rows))
    table = import_csv(path, ReadingOptions(on_bad_rows="skip", max_bad_rows=0.1))
    assert [each["row"] for each in table.rejected] == [22]


def test_odd_cells_below_line_ends_of_another_kind_are_told_with_their_lines(write: Write) -> None:
    rows = "".join(f"{i},1\n" for i in range(300))
    path = write("a,b\n" + rows.replace("\n7,", "\r7,") + "odd,1\n")
    table = import_csv(path)
    assert table.rows == 301
    assert table.column("a").odd == ((302, "odd"),)


def test_a_second_table_is_no_row_to_be_set_aside(write: Write) -> None:
    rows = "".join(f"{i},x{i},{i}.5\n" for i in range(40))
    path = write(f"id,text,value\n{rows}id,text\n" + "".join(f"{i},x{i}\n" for i in range(10)))
    with pytest.raises(DataError, match="Line 42 repeats the header"):
        import_csv(path, SKIP)


def test_many_rows_that_lack_a_cell_are_not_mended(write: Write) -> None:
    rows = [f"2024-03-{1 + i % 28:02},KL-{100 + i},${20 + i}.10," for i in range(60)]
    rows[30:] = [row[:-1] for row in rows[30:]]
    path = write("day,code,price,note\n" + "".join(f"{row}\n" for row in rows))
    table = import_csv(path, SKIP)
    assert (table.rows, table.rejected_rows) == (30, 30)


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_patches_take_the_place_of_their_text_in_any_block(write: Write, size: int) -> None:
    path = write("abcdefghij")
    patches = (Patch(0, 1, b"AA"), Patch(3, 4, b""), Patch(7, 1, b"-"), Patch(9, 1, b"J"))
    source = Source(path, "", "utf-8", 0, patches=patches)
    assert b"".join(text for text, _ in stream_text(source, size)) == b"AAbc-iJ"


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    kinds=st.lists(
        st.one_of(st.just(""), st.just(""), st.just(""), st.sampled_from(list(DAMAGE))),
        min_size=3,
        max_size=80,
    ),
    size=st.sampled_from([50, 200, 1 << 20]),
)
def test_exactly_the_damaged_rows_are_found(
    write: Write, kinds: list[str], size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rejecting, "BLOCK_BYTES", size)
    file = damaged(["", "", "", "", "", "", *kinds, *[""] * (2 * len(kinds))])
    path = write(file.content)
    table = import_table(path, SKIP, processes=0, chunk_bytes=size)
    assert ids(table) == file.left
    assert [each["row"] for each in table.rejected] == file.lines[:20]
    if file.lines:
        with pytest.raises(DataError) as caught:
            import_table(path, processes=0, chunk_bytes=size)
        assert [each["row"] for each in caught.value.rejected] == file.lines[:20]


def outcome(path: Path, options: ReadingOptions, size: int) -> object:
    """All that an import tells and holds."""
    try:
        table = import_table(path, options, processes=0, chunk_bytes=size)
    except DataError as error:
        return str(error), error.rejected
    finally:
        shutil.rmtree(home() / "datasets")  # nothing of it is taken for the next one
    return table.key, table.rejected, table.rejected_rows, table.repairs, table.warnings


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    broken=st.lists(st.text('1x,,""\n\r\0 é', max_size=12), min_size=1, max_size=4),
    places=st.lists(st.integers(2, 20), min_size=4, max_size=4),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    size=st.sampled_from([7, 40]),
)
def test_no_rubbish_is_read_otherwise_in_other_chunks(
    write: Write,
    broken: list[str],
    places: list[int],
    end: str,
    size: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    texts = ["x", '"y"', '"z,""q"""', f'"u{end}v"']
    rows = ["a,b,c", *(f"{i},{texts[i % 4]},{i * i}" for i in range(20))]
    for place, row in zip(places, broken, strict=False):
        rows.insert(place, row)
    path = write(end.join(rows).encode())
    for options in (SKIP, ReadingOptions()):
        monkeypatch.setattr(rejecting, "BLOCK_BYTES", 1 << 20)
        whole = outcome(path, options, 1 << 20)
        monkeypatch.setattr(rejecting, "BLOCK_BYTES", size)
        assert outcome(path, options, size) == whole


def test_separators_that_change_from_line_to_line_are_told(write: Write) -> None:
    rows = ["1,2,3", "2,3,4", "3,4,5", "4;5;6", "7\t8\t9"] * 20
    with pytest.raises(DataError) as caught:
        import_table(write(("a,b,c\n" + "\n".join(rows)).encode()), processes=0)
    assert "such lines hold semicolon or tab instead: separate all lines alike" in caught.value.hint
    assert "--on-bad-rows" not in caught.value.hint, "most would be set aside"
