"""Reads one file of the corpora of odd CSV files and tells what came of it.

A file is RIGHT, REPAIRED (right, and the report says what was done), REFUSED (a sentence instead
of a table), WRONG (another table than expected), or BROKEN (no sentence, or too slow). Nothing of
the reader under test is used to find the answer that is expected.
"""

from __future__ import annotations

import csv
import json
import math
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from regatta.data_pipeline import import_csv
from regatta.ingest.dates import parse_date
from regatta.ingest.dialect import Dialect
from regatta.ingest.sniffing import sniff
from regatta.ingest.source import is_complete, open_source, text_of
from regatta.ingest.table import ParsedColumn, ParsedTable
from regatta.utils import DataError

RIGHT, REPAIRED, REFUSED, WRONG, BROKEN = "right", "repaired", "refused", "wrong", "broken"
SECONDS = 2.0
MANIFEST_DIALECT = "expected_dialect(encoding|delimiter|quote|escape|eol)"
# As the corpora write "no value"; blank in the table that is expected.
NO_VALUE = {"", "na", "n/a", "#n/a", "null", "nan", "none", "?", "-", "--", "---", ".", "..", "\\n",
            "#value!", "#div/0!", "#ref!", "(null)", "<na>", "–", "—", "n.a."}  # fmt: skip

csv.field_size_limit(1 << 30)


@dataclass(frozen=True)
class Expected:
    """The right answer: names and cells as texts. ``names`` may be unknown."""

    names: list[str]
    rows: list[list[str]]
    decimal: str = ""  # the mark in the answer, where it is another than in the file


@dataclass(frozen=True)
class Case:
    """A file, and what its corpus says of it."""

    name: str
    path: Path
    expected: Expected | None = None
    dialect: dict[str, str] = field(default_factory=dict)

    @property
    def corpus(self) -> str:
        return self.name.split("/")[0]


@dataclass(frozen=True)
class Outcome:
    """What came of a file. ``said`` is the refusal, or the first difference."""

    case: Case
    kind: str
    said: str = ""
    repairs: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    dialect_fault: str = ""
    seconds: float = 0.0


def cases(folder: Path) -> Iterator[Case]:
    """Every file that the manifest lists."""
    with (folder / "manifest.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            path = folder / row["path"]
            beside = [path.parent / each for each in row["expected_files"].split(";") if each]
            annotated = dict(
                zip(("encoding", "delimiter", "quote", "escape", "newline"),
                    row[MANIFEST_DIALECT].split("|"), strict=False)
            )  # fmt: skip
            yield Case(
                row["path"],
                path,
                _expected(path, beside),
                annotated if row[MANIFEST_DIALECT] else _parameters(beside),
            )


def _expected(path: Path, beside: Sequence[Path]) -> Expected | None:
    converted = path.with_name(f"{path.stem}_converted.csv")
    for each in [*beside, converted]:
        if each.suffix == ".json" and each.parent.name == "expected_json":
            records = json.loads(each.read_text(encoding="utf-8"))
            names = list(records[0])
            return Expected(names, [[str(record[name]) for name in names] for record in records])
        if each.suffix.lower() == ".csv" and each.exists():
            with each.open(newline="", encoding="utf-8") as file:
                rows = [row for row in csv.reader(file) if row]
            return Expected(rows[0] if rows else [], rows[1:], "." if each == converted else "")
    return None


def _parameters(beside: Sequence[Path]) -> dict[str, str]:
    """The dialect that stands in a file of parameters."""
    for each in beside:
        if each.parent.name == "parameters" and each.exists():
            value = json.loads(each.read_text(encoding="utf-8"))
            return {
                "encoding": value["encoding"],
                "delimiter": value["delimiter"],
                "quote": value["quotechar"],
                "escape": value["escapechar"],
                "newline": value["row_delimiter"],
            }
    return {}


def read(case: Case) -> Outcome:
    """Import a file and compare."""
    started = time.perf_counter()
    dialect_fault = ""
    try:
        dialect_fault = _dialect_fault(case)
        table = import_csv(case.path, processes=0)
    except DataError as error:
        seconds = time.perf_counter() - started
        said = str(error)
        empty = case.expected is not None and not case.expected.rows
        # Of a file without a row there is nothing to read: saying so is the right answer.
        kind = RIGHT if empty else REFUSED
        kind = kind if seconds < 5 * SECONDS and said.endswith(".") else BROKEN
        return Outcome(case, kind, said, dialect_fault=dialect_fault, seconds=seconds)
    except Exception as error:
        return Outcome(case, BROKEN, repr(error))
    seconds = time.perf_counter() - started
    said = difference(table, case.expected) if case.expected else ""
    kind = WRONG if said else REPAIRED if table.repairs else RIGHT
    kind = kind if seconds < 5 * SECONDS else BROKEN
    return Outcome(case, kind, said, table.repairs, table.warnings, dialect_fault, seconds)


# -- dialects -------------------------------------------------------------------------------------

_WORDS = {"comma": ",", "semicolon": ";", "tab": "\t", "vslash": "|", "space": " ", "colon": ":",
          "doublequote": '"', "singlequote": "'", "backslash": "\\", "lf": "\n", "crlf": "\r\n",
          "cr": "\r"}  # fmt: skip
_ENCODINGS = {"utf8": "utf-8", "ascii": "utf-8", "utf16": "utf-16", "ansi": "cp1252",
              "windows-1252": "cp1252", "windows-1251": "cp1251", "iso-8859-1": "cp1252",
              "utf-8-sig": "utf-8", "utf-16-le": "utf-16", "utf-16-be": "utf-16"}  # fmt: skip


def _dialect_fault(case: Case) -> str:
    """In what the dialect that is found differs from the one that is annotated."""
    if not case.dialect or not case.path.stat().st_size:
        return ""
    try:
        source, head = open_source(case.path)
        found = sniff(text_of(head), source.encoding, complete=is_complete(head)).dialect
    except DataError as error:
        return f"refused: {error}"
    return "; ".join(_dialect_differences(case, found, head))


def _dialect_differences(case: Case, found: Dialect, text: bytes) -> Iterator[str]:
    wanted = {key: _WORDS.get(value, value) for key, value in case.dialect.items()}
    encodings = [_ENCODINGS.get(each.lower(), each.lower())
                 for each in (wanted["encoding"], found.encoding)]  # fmt: skip
    if encodings[0] != encodings[1] and _may_be(case.path, wanted["encoding"]):
        yield f"encoding {found.encoding}, not {wanted['encoding']}"
    delimiter = wanted["delimiter"].strip(" ") or wanted["delimiter"][:1]
    single = len(found.names) == 1  # then no separator is the right one
    if found.delimiter != delimiter and not single:
        yield f"separator {found.delimiter!r}, not {delimiter!r}"
    elif single and delimiter.encode() in text and found.delimiter != delimiter:
        yield f"one column, not separated by {delimiter!r}"
    # A quote that no cell begins with encloses nothing.
    edges = rf"(?m)(?:^|[{re.escape(delimiter)}]) *{re.escape(wanted['quote'])}"
    opens = wanted["quote"] and re.search(edges, text.decode("utf-8", "replace"))
    if opens and found.quote != wanted["quote"]:
        yield f"quote {found.quote!r}, not {wanted['quote']!r}"
    if (wanted["escape"] == "\\") != (found.escape == "\\") and b"\\" in text:
        yield f"escape {found.escape!r}, not {wanted['escape']!r}"


def _may_be(path: Path, encoding: str) -> bool:
    """Whether a file can have an encoding at all, and another than UTF-8."""
    raw = path.read_bytes()
    if raw.isascii():
        return False
    try:
        raw.decode({"ansi": "latin-1", "utf16": "utf-16"}.get(encoding.lower(), encoding))
    except UnicodeDecodeError:
        return False
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return True
    return False


# -- tables ---------------------------------------------------------------------------------------


def difference(table: ParsedTable, expected: Expected) -> str:
    """The first difference between a table and the one that is expected; blank if none."""
    names = _whole_header(expected, table.repairs)
    if len(table.columns) != len(names):
        return f"{len(table.columns)} columns, not {len(names)}: {table.names[:8]}"
    for column, name in zip(table.columns, names, strict=True):
        if not _same_name(column.name, name, table.repairs):
            return f"column {column.index} is called {column.name!r}, not {name!r}"
    if table.rows != len(expected.rows):
        return f"{table.rows} rows, not {len(expected.rows)}"
    for column in table.columns:
        cells = cells_of(table, column)
        for number, (cell, row) in enumerate(zip(cells, expected.rows, strict=True)):
            text = row[column.index] if column.index < len(row) else ""
            if not _same_cell(cell, text, column, expected.decimal):
                return f"row {number + 1}, column {column.name!r}: {cell!r}, not {text!r}"
    return ""


def _whole_header(expected: Expected, repairs: Sequence[str]) -> list[str]:
    """The names, and blank ones for cells that the rows have beyond them, if that is told."""
    width = max([len(expected.names), *map(len, expected.rows)])
    names = list(expected.names)
    for repair in repairs:
        while "last names are left out" in repair and names and repr(names[-1]) in repair:
            if any(len(row) >= len(names) and row[len(names) - 1] for row in expected.rows):
                break
            names.pop()
            width -= 1
    if width == len(names) + 1 and any("does not have" in repair for repair in repairs):
        return [*names, ""]
    if width == len(names) + 1 and any("one name less" in repair for repair in repairs):
        return ["", *names]
    return names


def cells_of(table: ParsedTable, column: ParsedColumn) -> list[Any]:
    """All cells of a column: floats, or texts with ``None`` for missing."""
    if column.type.numeric:
        return list(table.values(column).tolist())
    if not column.levels and column.missing < table.rows:
        raise AssertionError(f"the texts of {column.name!r} are not kept: compare them otherwise")
    return [text for group in table.groups for text in table.texts(group, column)]


def _same_name(found: str, expected: str, repairs: Sequence[str]) -> bool:
    wanted = " ".join(expected.split())
    if " ".join(found.split()) == wanted:
        return True
    if re.fullmatch(r"col_\d+", wanted):  # how Pollock names the columns of a file without names
        return found == wanted.replace("col_", "column_") and any("no header" in r for r in repairs)
    if any("names taken from the last comment line" in each for each in repairs):
        return found == re.sub(r"^(#|%|//) *", "", wanted)
    said = [each for each in repairs if repr(found) in each]
    if not wanted:
        return any("no name" in each for each in said)
    return bool(re.fullmatch(re.escape(wanted) + r"_\d+", found)) and any(
        "twice" in r for r in said
    )


def _same_cell(cell: Any, text: str, column: ParsedColumn, decimal: str) -> bool:
    wanted = text.strip()
    if column.type.numeric:
        wanted = wanted.strip('"')  # a stray quote is left out of a number or date, and told
    if column.kind in ("category", "text"):
        return (cell or "") == wanted or (cell is None and wanted.lower() in NO_VALUE)
    if math.isnan(cell):
        # A word that was taken as missing is named in the report. A column that is refused, with
        # the lines of its odd cells, may not be used.
        odd = bool(column.refused) and as_number(wanted, ".") is None
        return wanted.lower() in NO_VALUE or wanted in column.type.missing or odd
    if column.kind == "boolean":
        return wanted.lower() == (column.type.true if cell else column.type.false).lower()
    if column.kind == "date":
        return bool(parse_date(wanted, column.type.format) == cell)
    number = as_number(wanted, decimal or column.type.style.decimal)
    return number is not None and math.isclose(number, cell, rel_tol=1e-12, abs_tol=1e-300)


def as_number(text: str, decimal: str) -> float | None:
    """A number with its signs of currency and thousands. ``decimal`` tells where it must."""
    core = re.sub(r"[$€£¥%' \u00a0\"]", "", text)
    if re.search(r"[^\d.,eE+-]", core):
        return None
    marks = {mark for mark in ".," if mark in core}
    if len(marks) == 2:
        decimal = max(".,", key=core.rfind)
    core = core.replace("," if decimal == "." else ".", "").replace(decimal, ".")
    try:
        return float(core)
    except ValueError:
        return None
