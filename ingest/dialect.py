"""How a file is written: separator, quote, header, lines before the table; and how lines are cut
by it. `sniffing` finds it."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from regatta.utils import DataError

SEPARATORS = (",", ";", "\t", "|", " ", "^", "~")

csv.field_size_limit(1 << 30)


@dataclass(frozen=True)
class Dialect:
    """How to cut a file into cells.

    ``runs`` means that any run of blanks separates; ``padded`` that blanks may stand between a
    separator and a quote; ``literal`` that quotes are text even around cells. ``offset`` is the
    byte of the (decoded) text where the data begin,
    ``first_line`` their line (1-based), ``names`` the repaired names of the columns.
    """

    encoding: str
    delimiter: str
    quote: str = '"'
    escape: str = ""
    decimal: str = "."
    thousands: str = ""
    header: bool = True
    skip_rows: int = 0
    comment: str = ""
    runs: bool = False
    padded: bool = False
    literal: bool = False
    newline: str = "\n"
    offset: int = 0
    first_line: int = 1
    names: tuple[str, ...] = ()

    def report(self) -> dict[str, Any]:
        """The part of it that people are shown."""
        keys = ("encoding", "delimiter", "quote", "escape", "decimal", "thousands", "header",
                "skip_rows", "comment")  # fmt: skip
        whole = asdict(self)
        return {key: whole[key] for key in keys}

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "names": list(self.names)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Dialect:
        return cls(**{**value, "names": tuple(value["names"])})


def seen_dialect(report: Mapping[str, Any]) -> dict[str, Any]:
    """The dialect of a file's report, without what is assumed, as the file does not show it."""
    dialect, assumed = report.get("dialect") or {}, report.get("assumed") or ()
    return {key: value for key, value in dialect.items() if key not in assumed}


def split_runs(line: str, quote: str = '"') -> list[str]:
    """The cells of a line whose columns are separated by runs of blanks."""
    if quote and quote in line:
        q = re.escape(quote)
        found = re.findall(rf"{q}((?:[^{q}]|{q}{q})*){q}(?=\s|$)|(\S+)", line)
        return [a.replace(quote * 2, quote) if a or not b else b for a, b in found]
    return line.split()


def unescape(text: str, escape: str, quote: str) -> str:
    """A text whose escaped quotes are doubled instead. An escape before anything but a quote or
    itself is text."""
    e, q = re.escape(escape), re.escape(quote)
    doubled = {escape + quote: quote * 2, escape * 2: escape}
    return re.sub(f"{e}{q}|{e}{e}", lambda found: doubled[found[0]], text)


def read_records(
    lines: Sequence[str], delimiter: str, quote: str, escape: str, runs: bool
) -> tuple[list[list[str]], list[int]]:
    """Cut lines into records; blank lines are left out. Returns the line each starts at, too."""
    records: list[list[str]] = []
    starts: list[int] = []
    if runs:
        for number, line in enumerate(lines):
            cells = split_runs(line, quote)
            if cells:
                records.append(cells)
                starts.append(number)
        return records, starts
    if escape:
        lines = [unescape(line, escape, quote) for line in lines]
    reader = csv.reader(
        lines,
        delimiter=delimiter,
        quotechar=quote or None,
        quoting=csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE,
        doublequote=True,
        skipinitialspace=delimiter not in " \t",
    )
    before = 0
    try:
        for cells in reader:
            if len(cells) > 1 or (cells and cells[0].strip()):
                records.append(cells)
                starts.append(before)
            before = reader.line_num
    except csv.Error:
        pass
    return records, starts


def second_table(line: int, what: str) -> DataError:
    """The refusal of a file in which a second table begins."""
    return DataError(
        f"Line {line} {what}: a second table begins there.",
        "Keep one table in the file, or remove the repeated header.",
        row=line,
    )
