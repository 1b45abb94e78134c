"""Rows that cannot be read: all of them at once, to be listed, or to be set aside.

    text ──▶ block of whole rows ──▶ the reader takes it? ──yes──▶ next block
                                          └─no─▶ row by row: what is wrong with which

Where a row ends does not depend on the blocks: a row is as many lines as its quotes need. Of one
that does not fit, the first line alone is bad, and the next line begins a row.
"""

from __future__ import annotations

import csv
import itertools
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from regatta.ingest import chunks
from regatta.ingest.column_type import ColumnType
from regatta.ingest.dates import ISO
from regatta.ingest.dialect import Dialect, second_table, split_runs
from regatta.ingest.parsing import ChunkParser
from regatta.ingest.sniffing import NAMES
from regatta.ingest.source import Patch, Source, stream_text
from regatta.ingest.writing import defused
from regatta.utils import DataError

REJECTED_NAME = "rejected.csv"
SHOWN = 20
MOST_REJECTED = 1_000_000
BLOCK_BYTES = 1 << 20
LONGEST_TEXT = 10_000  # characters of a row that are kept


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be read: its first line (1-based), where it lies in the text, and why."""

    line: int
    offset: int
    text: bytes
    reason: str
    hint: str
    column: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {"row": self.line, "column": self.column, "reason": self.reason}

    @property
    def patch(self) -> Patch:
        """Leaves blank lines in the place of the row."""
        ends = re.sub(rb"[^\r\n]+", b"", self.text)
        return Patch(self.offset, len(self.text), ends)


class Scan:
    """The bad rows of a file, in order. ``rows`` counts the good ones that were passed.

    Parameters
    ----------
    also : mapping of a line to (column, reason, hint)
        Rows that are whole but cannot be used.
    """

    def __init__(
        self,
        source: Source,
        dialect: Dialect,
        also: Mapping[int, tuple[str, str, str]] | None = None,
    ) -> None:
        self.source = replace(source, patches=())
        self.patches = {patch.offset: patch for patch in source.patches}
        self.dialect = dialect
        self.also = dict(also or {})
        self.width = len(dialect.names)
        self.grammar = _Grammar(dialect, self.width)
        texts_alone = [ColumnType("date", format=ISO)] * self.width
        self.parser = ChunkParser(str(source.path), dialect, texts_alone)
        self.blocks = stream_text(self.source, BLOCK_BYTES)
        self.rows = 0
        self.data = b""  # of the text that is not yet looked at
        self.offset = 0  # where it begins
        self.line = dialect.first_line
        self.ended = False

    def __iter__(self) -> Iterator[BadRow]:
        self._skip_to_the_table()
        broken = False  # the last block was: then so is the next, as a rule
        while self._more():
            size = chunks.record_end(self.data, self.dialect) if not self.ended else len(self.data)
            if size and not broken and self._is_good(self.data[:size]):
                self._pass(size, self._lines(self.data[:size]))
                continue
            broken = False
            for row in self._row_by_row(size or len(self.data)):
                yield row
                broken = True

    def _skip_to_the_table(self) -> None:
        while len(self.data) < self.dialect.offset and self._read_on():
            pass
        self.data = self.data[self.dialect.offset :]
        self.offset = self.dialect.offset

    def _more(self) -> bool:
        """Have a block of text, as far as there is one."""
        while len(self.data) < BLOCK_BYTES and self._read_on():
            pass
        return bool(self.data)

    def _read_on(self) -> bool:
        block, _ = next(self.blocks, (None, 0))
        self.ended = block is None
        self.data += block or b""
        return block is not None

    def _is_good(self, data: bytes) -> bool:
        """Whether the reader takes all rows of a block as they are."""
        if self.also:
            lines = self._lines(data)
            if any(self.line <= line <= self.line + lines for line in self.also):
                return False
        chunk = chunks.Chunk(0, 0, len(data), data, 0)
        texts, _, fault = self.parser.texts(chunk, blank_rows=False)
        if fault is None and texts:
            self.rows += len(texts[0])
        return fault is None

    def _pass(self, size: int, lines: int) -> None:
        self.line += lines
        self.data = self.data[size:]
        self.offset += size

    def _lines(self, data: bytes) -> int:
        """The lines of whole rows, as they are counted where these are parsed."""
        return chunks.count_lines(chunks.with_one_line_end(data, self.dialect), self.dialect)

    def _row_by_row(self, size: int) -> Iterator[BadRow]:
        """The bad rows of the first ``size`` bytes; the last row may end beyond them."""
        place, line = 0, self.line
        while place < min(size, len(self.data)):
            good = self.grammar.good_rows(self.data, place)
            if good and not self._is_known(place, place + len(good), line):
                self.rows += self.grammar.count(good)
                place += len(good)
                line += self._lines(good)
                continue
            end, reason, hint = self._row(place)
            patch = self.patches.get(self.offset + place)
            text = self.data[place : place + patch.length if patch else end]
            column, blank = None, self.grammar.is_blank(patch.text if patch else text)
            if patch:  # mended, or set aside
                reason = ""
            elif not (reason or blank) and line in self.also:
                column, reason, hint = self.also[line]
            read = patch.text if patch else text
            if reason:
                bad = BadRow(line, self.offset + place, text, reason, hint, column)
                yield bad
                read = bad.patch.text  # no quote of it is open
            else:
                self.rows += not blank
            place += len(text)
            line += self._lines(read)
        self._pass(place, line - self.line)

    def _is_known(self, start: int, stop: int, line: int) -> bool:
        """Whether something is known already of the rows at a place of the data."""
        return any(start <= each - self.offset < stop for each in self.patches) or any(
            each >= line for each in self.also
        )

    def _row(self, place: int) -> tuple[int, str, str]:
        """The end of the row that begins at a place, and what is wrong with it."""
        while True:
            end, reach, reason, hint = self.grammar.row(self.data, place)
            enough = reach < len(self.data) or len(self.data) - place > chunks.MAX_RECORD_BYTES
            if enough or self.ended:
                return end, reason, hint
            wanted = 2 * (len(self.data) - place)
            while len(self.data) - place < wanted and self._read_on():
                pass


class _Grammar:
    """The strict form of a row."""

    def __init__(self, dialect: Dialect, width: int) -> None:
        self.dialect = dialect
        self.width = width
        self.comment = dialect.comment.encode()
        d = re.escape(dialect.delimiter.encode())
        q, e = re.escape(dialect.quote.encode()), re.escape(dialect.escape.encode())
        cell = rb"[^" + q + d + rb"\r\n]*+"
        if dialect.quote:
            inside = (
                rb"[^" + q + e + rb"]|" + q + q + (rb"|" + e + rb"[" + q + e + rb"]|" + e) * bool(e)
            )
            quoted = q + rb"(?:" + inside + rb")*+" + q
            if dialect.padded:
                quoted = rb" *+" + quoted + rb" *+"
            cell = rb"(?:" + quoted + rb"(?=[" + d + rb"\r\n]|\Z)|" + cell + rb")"
            self.quoted = re.compile(quoted)
        elif not dialect.literal:
            enclosed = rb"\"[^\"\r\n" + d + rb"]*+\"(?=[" + d + rb"\r\n]|\Z)"
            cell = rb"(?:(?!" + enclosed + rb")" + cell + rb")"
        end = rb"(?:\r\n|\r|\n|\Z)"
        self.fitting = re.compile(cell + rb"(?:" + d + cell + rb"){%d}" % (width - 1) + end)
        ended = rb"(?:\r\n|\r(?!\Z)|\n)"
        row = cell + rb"(?:" + d + cell + rb"){%d}" % (width - 1) + ended
        comment = rb"(?!" + re.escape(self.comment) + rb")" if self.comment else b""
        self.several = re.compile(rb"(?:" + comment + row + rb")*+")
        self.any_width = re.compile(cell + rb"(?:" + d + cell + rb")*+" + end)
        self.cell = re.compile(cell)
        self.cells = re.compile(rb"(?:" + cell + d + rb")*+")
        self.line = re.compile(rb"[^\r\n]*+" + end)
        self.blank = chunks.blank_rows(dialect.delimiter, dialect.quote)

    def good_rows(self, data: bytes, place: int) -> bytes:
        """The good rows from a place on, as far as they are whole: the fast way past them."""
        if self.dialect.runs or self.width == 1:
            return b""
        found = self.several.match(data, place)[0]  # type: ignore[index]
        return b"" if self._unreadable(found) else found

    def count(self, rows: bytes) -> int:
        """How many good rows are not blank."""
        nothing = f" {self.dialect.delimiter}{self.dialect.quote}\r\n".encode()
        return sum(
            bool(row.strip(nothing)) or not self.is_blank(row) for row in self.fitting.findall(rows)
        )

    def row(self, data: bytes, place: int) -> tuple[int, int, str, str]:
        """Of the row that begins at a place: its end, up to where the text tells it, what is wrong
        with it, and a hint."""
        line = self.line.match(data, place).end()  # type: ignore[union-attr]
        text = data[place:line]
        if self.is_blank(text):
            return line, line, "", ""
        if self.dialect.runs:
            cells = split_runs(text.decode("utf-8", "replace"), self.dialect.quote)
            return line, line, *(self._unreadable(text) or self._ragged(len(cells)))
        found = self.fitting.match(data, place)
        if found:
            return found.end(), found.end(), *(self._unreadable(found[0]) or ("", ""))
        reach, *said = self._wrong(data, place)
        reason, hint = self._unreadable(text) or said
        return line, max(line, reach), reason, hint

    def is_blank(self, text: bytes) -> bool:
        """Whether a line is no row: a comment, or nothing but blanks and separators."""
        if self.comment and text.startswith(self.comment):
            return True
        bare = text.rstrip(b"\r\n")
        if not self.dialect.runs and self.dialect.delimiter.encode() in bare:
            return bool(self.blank.fullmatch(bare))
        # The only cell of a row may be blank.
        return not (bare if self.width == 1 else bare.decode("utf-8", "replace").strip())

    def _wrong(self, data: bytes, place: int) -> tuple[int, str, str]:
        """Up to where the text tells what is wrong with a row, that, and a hint."""
        found = self.any_width.match(data, place)
        if found:
            return found.end(), *self._ragged(self._count(found[0]))
        at = self.cells.match(data, place).end()  # type: ignore[union-attr]
        quote = self.dialect.quote
        if not quote:
            return at, *chunks.ENCLOSED
        closed = self.quoted.match(data, at)
        if closed is None and data[at:].lstrip(b" ").startswith(quote.encode()):
            return len(data), "opens a quote that is never closed", "Close the quote."
        reach = closed.end() if closed else at
        return (reach, f"has a quote ({quote}) in the middle of a cell",
                "Double quotes inside quoted cells, or quote the whole cell.")  # fmt: skip

    def _unreadable(self, text: bytes) -> tuple[str, str] | None:
        """What is wrong with the bytes of a row."""
        if b"\0" in text:
            return chunks.NUL
        try:
            text.decode()
        except UnicodeDecodeError:
            return chunks.not_valid(self.dialect)
        return None

    def _count(self, row: bytes) -> int:
        """The cells of a row."""
        text, count, place = row.rstrip(b"\r\n"), 1, 0
        while True:
            place = self.cell.match(text, place).end() + 1  # type: ignore[union-attr]
            if place > len(text):
                return count
            count += 1

    def _ragged(self, found: int) -> tuple[str, str]:
        if found == self.width:
            return "", ""
        fields = "field" if found == 1 else "fields"
        return (f"has {found} {fields} where {self.width} are expected",
                "Mend or remove that line; check its separators and quotes.")  # fmt: skip


# -- what becomes of them -------------------------------------------------------------------------


def refusal(rows: Iterable[BadRow], error: DataError, dialect: Dialect) -> DataError:
    """The error that lists the first bad rows, or ``error`` where there are none."""
    first: list[BadRow] = []
    for row in rows:
        first.append(row)
        if len(first) == SHOWN:
            break
    if not first:
        return error
    row = first[0]
    where = f"Line {row.line}" + (f", column {row.column!r}," if row.column else "")
    return DataError(
        f"{where} {row.reason}.",
        _mixed_separators(first, dialect)
        or f"{row.hint} Or have such rows set aside: --on-bad-rows skip.",
        row=row.line,
        column=row.column,
        rejected=[each.to_json() for each in first],
    )


def _mixed_separators(rows: Sequence[BadRow], dialect: Dialect) -> str:
    """What to do where most of the bad rows hold other separators, and not that of the file."""
    own = dialect.delimiter.encode()
    others = [mark for mark in NAMES if mark not in (dialect.delimiter, " ")]
    found = [
        [mark for mark in others if mark.encode() in row.text] if own not in row.text else []
        for row in rows
    ]
    marks = [mark for mark in others if any(mark in each for each in found)]
    if 2 * sum(map(bool, found)) <= len(rows) or not marks:
        return ""
    named = " or ".join(NAMES[mark] for mark in marks)
    usual = NAMES.get(dialect.delimiter, dialect.delimiter)
    return (
        f"The file was taken to be separated by {usual}, such lines hold {named} instead: separate "
        "all lines alike, or name the right one (--delimiter)."
    )


def all_of(rows: Iterable[BadRow]) -> list[BadRow]:
    """The rows, as far as they are not too many to be kept."""
    found = list(itertools.islice(rows, MOST_REJECTED + 1))
    if len(found) <= MOST_REJECTED:
        return found
    raise DataError(
        f"More than {MOST_REJECTED:,} rows cannot be read.",
        "Check the separator and the quotes.",
        row=found[0].line,
        rejected=[each.to_json() for each in found[:SHOWN]],
    )


def refuse_second_header(rows: Sequence[BadRow], dialect: Dialect) -> None:
    """Refuse a file with a bad row that is the header of a second table: most of its cells are
    names of columns."""
    names = set(dialect.names)
    for row in rows if dialect.header and len(names) > 1 else ():
        cells = row.text.decode("utf-8", "replace").strip().split(dialect.delimiter)
        again = sum(cell.strip(f" {dialect.quote}") in names for cell in cells)
        if again > 0.5 * len(names):
            raise second_table(row.line, "repeats the header")


def check_share(rejected: Sequence[BadRow], rows: int, most: float) -> None:
    """Refuse a file of which more than the allowed share would be set aside.

    Parameters
    ----------
    rows : int
        The rows that are left.
    """
    total = rows + len(rejected)
    if len(rejected) <= most * total:
        return
    raise DataError(
        f"{len(rejected):,} of {total:,} rows cannot be read: a share of "
        f"{len(rejected) / total:.2g}, and --max-bad-rows allows {most:.2g}.",
        "Mend them, or allow more.",
        row=rejected[0].line,
        column=rejected[0].column,
        rejected=[each.to_json() for each in rejected[:SHOWN]],
    )


def told(rejected: Sequence[BadRow], rows: int) -> str:
    """What was set aside, in words."""
    count, row = len(rejected), rejected[0]
    lines = ", ".join(str(each.line) for each in rejected[:5]) + (", …" if count > 5 else "")
    first = f"line {row.line} {_reason(row)}"
    return f"{count:,} of {rows + count:,} rows set aside: line {lines} ({first})."


def write_rejected(rejected: Sequence[BadRow], path: Path) -> None:
    """Write the rows that were set aside, for a person to look at and to mend."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["line", "reason", "text"])
        for each in rejected:
            text = each.text.rstrip(b"\r\n").decode("utf-8", "replace").replace("\0", "\ufffd")
            cut = text if len(text) <= LONGEST_TEXT else text[:LONGEST_TEXT] + "…"
            writer.writerow([each.line, _reason(each), defused(cut)])


def _reason(row: BadRow) -> str:
    """Why a row cannot be read, and in which column if it is in one."""
    return f"{row.reason} in column {row.column!r}" if row.column else row.reason


def copy_rejected(directory: Path, out: Path) -> None:
    """Copy what `write_rejected` wrote into a folder; a header alone where nothing was."""
    written = directory / REJECTED_NAME
    if written.exists():
        shutil.copyfile(written, out)
    else:
        write_rejected([], out)
