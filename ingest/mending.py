"""Rows that are broken and can be mended in exactly one way.

A row is cut anew with one small change: a quote taken as text, a blank cell left out, a
separator put in, another separator. Each way is held against what the other rows show of their
columns (kind, number of decimals, shape of codes, whether cells may be blank). Where one result
alone fits, the row is mended and named in the report; where none or several do, it is refused.
"""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from regatta.ingest import chunks
from regatta.ingest.column_type import ColumnType
from regatta.ingest.columns import infer
from regatta.ingest.dates import parse_date
from regatta.ingest.dialect import SEPARATORS, Dialect
from regatta.ingest.source import Patch, Source, stream_text
from regatta.ingest.values import is_missing

# So many rows must have shown what the columns hold.
ENOUGH_ROWS = 10
MOST_MENDED = 200
MENDED_SHARE = 0.1
SOME_MENDED = 3  # in a small file, whatever the share
MOST_COLUMNS = 2_000
MOST_LINES = 100  # of one row
LONGEST_LINE = 1 << 14
BLOCK_BYTES = 1 << 20
SHOWN = 20
_HELD = "\ue000"  # stands for a quote that is text

QUOTE = "a quote taken as text"
NOISE = "a stray quote left out"
BLANK = "a blank cell too many left out"
LOST = "a blank cell put in"
MISSING = "a missing separator put in"
OTHER = "another separator"


@dataclass(frozen=True)
class Mend:
    """A line, and what was done to it."""

    line: int
    what: str
    patch: Patch


def mends(
    source: Source, dialect: Dialect, sample: Sequence[Sequence[str]], line: int
) -> list[Mend]:
    """The broken rows of a file up to the first that cannot be mended, as mended.

    Parameters
    ----------
    sample : sequence of records
        Rows from which it is learned what the columns hold.
    line : int
        A line that is known to be broken, or that the broken one ends in. Where nothing up to it
        can be mended, the rest is not looked at.
    """
    width = len(dialect.names)
    columns = what_columns_hold(dialect, sample)
    if not columns:
        return []
    found: list[Mend] = []
    number = 0
    for number, offset, text, state in _broken_lines(source, dialect, width):
        if (number > line and not found) or len(found) > MOST_MENDED:
            break
        # Of a quote that is never closed nobody knows where it should be.
        mended = mend(text, dialect, columns) if state == "bad" else None
        if mended is None:
            break
        new, what = mended
        found.append(Mend(number, what, Patch(offset, len(text.encode()), new.encode())))
    checked = max(number - dialect.first_line, 1)
    total = len(found) + len(source.patches)
    return found if total <= max(SOME_MENDED, MENDED_SHARE * checked) else []


def mends_among(
    rows: Mapping[int, str],
    dialect: Dialect,
    sample: Sequence[Sequence[str]],
    others: int,
    most: int,
) -> dict[int, tuple[str, Patch]]:
    """Of bad rows those that can be mended: what was done, and the patch, by their offset.

    Parameters
    ----------
    rows : mapping of an offset to a line
    others, most : int
        How many rows are good; how many may be mended.
    """
    columns = what_columns_hold(dialect, sample)
    found: dict[int, tuple[str, Patch]] = {}
    for offset, text in rows.items() if columns else ():
        # Of a quote that is never closed nobody knows where it should be.
        closed = _state(text, dialect, len(columns)) == "bad"
        mended = mend(text, dialect, columns) if closed and len(found) < most else None
        if mended:
            found[offset] = mended[1], Patch(offset, len(text.encode()), mended[0].encode())
    few = len(found) <= max(SOME_MENDED, MENDED_SHARE * (others + len(rows)))
    return found if few else {}


def what_columns_hold(dialect: Dialect, sample: Sequence[Sequence[str]]) -> list[_Column]:
    """What `mend` needs to know of the columns; nothing where too little is known."""
    width = len(dialect.names)
    rows = [record for record in sample if len(record) == width]
    if dialect.runs or not 1 < width <= MOST_COLUMNS or len(rows) < ENOUGH_ROWS:
        return []
    return [_Column.of(cells) for cells in zip(*rows, strict=True)]


def told(found: Sequence[Mend]) -> list[str]:
    """What was mended, in words."""
    said = []
    for what in dict.fromkeys(each.what for each in found):
        lines = [str(each.line) for each in found if each.what == what]
        shown = ", ".join(lines[:SHOWN]) + (", …" if len(lines) > SHOWN else "")
        rows = "row" if len(lines) == 1 else "rows"
        said.append(f"{len(lines)} {rows} mended ({what}): line {shown}")
    return said


# -- finding broken rows --------------------------------------------------------------------------


def _broken_lines(
    source: Source, dialect: Dialect, width: int
) -> Iterator[tuple[int, int, str, str]]:
    """Line number, offset and text of every line that begins a row of another width, one with a
    stray quote (bad), or one with a quote that is never closed (open)."""
    lines = _lines(source, dialect)
    waiting: list[tuple[int, int, str]] = []
    while True:
        entry = waiting.pop(0) if waiting else next(lines, None)
        if entry is None:
            return
        state = _state(entry[2], dialect, width)
        if state == "open":
            row = [entry]
            while state == "open" and len(row) < MOST_LINES:
                more = waiting.pop(0) if waiting else next(lines, None)
                if more is None:
                    break
                row.append(more)
                state = _state("".join(text for _, _, text in row), dialect, width)
            if state != "good":
                waiting = row[1:] + waiting
        if state != "good":
            yield *entry, state


def _state(text: str, dialect: Dialect, width: int) -> str:
    """Whether a row is good, bad, or goes on in the next line."""
    bare = text.rstrip("\r\n")
    if not bare.strip() or (dialect.comment and bare.startswith(dialect.comment)):
        return "good"
    if not dialect.quote or dialect.quote not in bare:
        return "good" if bare.count(dialect.delimiter) == width - 1 else "bad"
    data, _ = chunks.canonical(bare.encode(), dialect)
    fault = chunks.quote_fault(data, dialect)
    if fault:
        return "open" if fault.unclosed else "bad"
    return "good" if len(_cut(data.decode(), dialect)) == width else "bad"


def _lines(source: Source, dialect: Dialect) -> Iterator[tuple[int, int, str]]:
    """Number, offset and text of the lines from the first row on that are not mended yet."""
    mended = {patch.offset for patch in source.patches}
    end = b"\r" if dialect.newline == "\r" else b"\n"
    offset, number, carry, skip = dialect.offset, dialect.first_line, b"", dialect.offset
    for block, _ in stream_text(replace(source, patches=()), BLOCK_BYTES):
        skip, block = max(0, skip - len(block)), block[skip:]
        *whole, carry = (carry + block).split(end)
        for line in whole:
            line += end
            if offset not in mended:
                yield number, offset, line.decode("utf-8", "replace")
            offset, number = offset + len(line), number + 1
    if carry and offset not in mended:
        yield number, offset, carry.decode("utf-8", "replace")


# -- mending one ----------------------------------------------------------------------------------


def mend(line: str, dialect: Dialect, columns: Sequence[_Column]) -> tuple[str, str] | None:
    """A line with the one small change that makes it fit, and what that is; ``None`` if there is
    no such change, or more than one."""
    text = line.rstrip("\r\n")
    if len(text) > LONGEST_LINE or any(odd in text for odd in "\0\r\n\ufffd"):
        return None
    results: dict[tuple[str, ...], str] = {}
    for cells, what in _candidates(text, dialect, columns):
        if _fit(cells, columns):
            results.setdefault(tuple(cells), what)
            if len(results) > 1:
                return None
    if not results:
        return None
    ((only, what),) = results.items()
    if any(
        _HELD in cell and column.type.numeric for cell, column in zip(only, columns, strict=True)
    ):
        what = NOISE
    kept = [column.kept(cell) for column, cell in zip(columns, only, strict=True)]
    return _written(kept, dialect) + line[len(text) :], what


def _candidates(
    text: str, dialect: Dialect, columns: Sequence[_Column]
) -> Iterator[tuple[list[str], str]]:
    """Ways to cut a line into the right number of cells, and what each of them takes."""
    width = len(columns)
    cells = _strict(text, dialect)
    if cells is None:
        yield from ((cells, QUOTE) for cells in _quotes_as_text(text, dialect, width))
    elif len(cells) == width + 1:
        left, right = _aligned(cells, columns)
        places = range(max(0, width - right), min(left, width) + 1)
        # If it may as well be a cell with a value that is too many, nobody knows.
        if not any(cells[place].strip() for place in places):
            yield from ((cells[:place] + cells[place + 1 :], BLANK) for place in places)
    elif len(cells) == width - 1:
        yield from _longer(text, cells, dialect, columns)
    for separator in SEPARATORS:
        other = replace(dialect, delimiter=separator, padded=False)
        if separator != dialect.delimiter and separator in text:
            cells = _strict(text, other)
            if cells is not None and len(cells) == width:
                yield cells, OTHER
            elif cells is not None and len(cells) > width and separator == " ":
                yield from ((merged, OTHER) for merged in _merged(text, cells, other, width))


def _merged(text: str, cells: list[str], dialect: Dialect, width: int) -> Iterator[list[str]]:
    """Readings in which the blanks of one cell without quotes separate nothing."""
    if not dialect.quote:
        return
    q = re.escape(dialect.quote)
    enclosed = re.findall(rf"(?:^|(?<= ))(?:({q}(?:[^{q}]|{q}{q})*{q})|[^ ]*)(?= |$)", text)
    if len(enclosed) != len(cells):
        return
    more = len(cells) - width + 1
    for place in range(width):
        if not any(enclosed[place : place + more]):
            joined = " ".join(cells[place : place + more])
            yield [*cells[:place], joined, *cells[place + more :]]


def _aligned(cells: Sequence[str], columns: Sequence[_Column]) -> tuple[int, int]:
    """How many cells fit the columns from the left, and how many from the right."""
    left = _fitting(cells, columns)
    right = _fitting(cells[::-1], columns[::-1])
    return left, right


def _fitting(cells: Sequence[str], columns: Sequence[_Column]) -> int:
    fits = (column.fits(cell) for cell, column in zip(cells, columns, strict=False))
    return sum(1 for _ in itertools.takewhile(bool, fits))


def _longer(
    text: str, cells: list[str], dialect: Dialect, columns: Sequence[_Column]
) -> Iterator[tuple[list[str], str]]:
    """Readings of a line that lacks a cell with a separator put in somewhere."""
    left, right = _aligned(cells, columns)
    lacking = range(max(0, len(cells) - right), min(left, len(cells)) + 1)
    if all(columns[place].blank_alone for place in lacking):
        yield from (([*cells[:place], "", *cells[place:]], LOST) for place in lacking)
    quote = dialect.quote
    for place in range(max(0, len(cells) - 1 - right), min(left, len(cells) - 1) + 1):
        cell = cells[place]
        for cut in range(1, len(cell)):
            parts = [cell[:cut], cell[cut:]]
            # A quote at the cut would be one that encloses.
            if quote and quote in (cell[cut - 1], cell[cut]):
                continue
            if not lacking or _tells(parts, columns[place : place + 2]):
                yield [*cells[:place], *parts, *cells[place + 1 :]], MISSING
    for found in re.finditer(re.escape(quote * 2), text) if quote else ():
        middle = found.start() + len(quote)
        longer = _strict(text[:middle] + dialect.delimiter + text[middle:], dialect)
        if longer is None or len(longer) != len(columns):
            continue
        place = next((at for at, cell in enumerate(cells) if cell != longer[at]), 0)
        if not lacking or _tells(longer[place : place + 2], columns[place : place + 2]):
            yield longer, MISSING


def _tells(parts: Sequence[str], columns: Sequence[_Column]) -> bool:
    """Whether a cell rather lost a separator than the row a cell: a part is unmistakable."""
    return any(column.tells(part) for part, column in zip(parts, columns, strict=True))


def _fit(cells: Sequence[str], columns: Sequence[_Column]) -> bool:
    return all(column.fits(cell) for column, cell in zip(columns, cells, strict=True))


def _quotes_as_text(text: str, dialect: Dialect, width: int) -> Iterator[list[str]]:
    """Readings of a line in which one quote is text, or all that do not enclose a cell are."""
    quote = dialect.quote
    places = [found.start() for found in re.finditer(re.escape(quote), text)]
    readings = [_strict(text[:place] + _HELD + text[place + 1 :], dialect) for place in places[:50]]
    readings += [_lenient(text, dialect), _without_quotes(text, dialect)]
    for cells in readings:
        if cells is not None and len(cells) == width:
            yield cells


def _lenient(text: str, dialect: Dialect) -> list[str] | None:
    """Cells where a quote opens at the start of a cell and closes before a separator alone;
    ``None`` if one has half a pair of quotes in it."""
    q, d = re.escape(dialect.quote), re.escape(dialect.delimiter)
    cells, place = [], 0
    cell = re.compile(rf"{q}((?:[^{q}]|{q}{q}|{q}(?!{d}|$))*){q}(?={d}|$)|([^{q}{d}][^{d}]*|)")
    while True:
        found = cell.match(text, place)
        if found is None:
            return None
        enclosed = found[1] is not None
        content = found[1].replace(dialect.quote * 2, dialect.quote) if enclosed else found[2]
        if content.count(dialect.quote) % 2:
            return None
        cells.append(content.replace(dialect.quote, _HELD))
        place = found.end() + 1
        if found.end() == len(text):
            return cells
        if text[found.end()] != dialect.delimiter:
            return None


def _without_quotes(text: str, dialect: Dialect) -> list[str] | None:
    """Cells where no quote encloses anything; ``None`` if one looks as if it did, or if a cell has
    half a pair."""
    cells = text.split(dialect.delimiter)
    quote = dialect.quote
    for cell in map(str.strip, cells):
        if cell.count(quote) % 2 or (cell.startswith(quote) and cell.endswith(quote) and cell):
            return None
    return [cell.replace(quote, _HELD) for cell in cells]


def _strict(text: str, dialect: Dialect) -> list[str] | None:
    """The cells of a line, ``None`` if a quote in it stands anywhere but at the edge of a cell."""
    data, _ = chunks.canonical(text.encode(), replace(dialect, comment=""))
    if dialect.quote and chunks.quote_fault(data, dialect):
        return None
    return _cut(data.decode(), dialect)


def _cut(text: str, dialect: Dialect) -> list[str]:
    lines = text.splitlines(keepends=True) or [""]
    reader = csv.reader(
        lines,
        delimiter=dialect.delimiter,
        quotechar=dialect.quote or None,
        quoting=csv.QUOTE_MINIMAL if dialect.quote else csv.QUOTE_NONE,
    )
    return next(reader)


def _written(cells: Iterable[str], dialect: Dialect) -> str:
    """Cells as a line of the file."""
    quote, written = dialect.quote, []
    for cell in cells:
        if dialect.escape:
            cell = cell.replace(dialect.escape, dialect.escape * 2)
        enclose = quote and (quote in cell or dialect.delimiter in cell)
        written.append(quote + cell.replace(quote, quote * 2) + quote if enclose else cell)
    return dialect.delimiter.join(written)


# -- what the columns hold ------------------------------------------------------------------------


@dataclass(frozen=True)
class _Column:
    """What the cells of a sample have in common."""

    type: ColumnType
    blank: bool  # some are
    blank_alone: bool  # all are
    decimals: int | None  # of all numbers, where it is the same
    shape: str  # of all texts, where it is the same

    @classmethod
    def of(cls, cells: Iterable[str]) -> _Column:
        texts = [cell.strip() for cell in cells]
        present = [text for text in texts if not is_missing(text)]
        column = infer(texts)
        decimals = {_decimals(text, column) for text in present}
        shapes = {_shape(text) for text in present}
        return cls(
            type=column,
            blank=len(present) < len(texts),
            blank_alone=not present,
            decimals=decimals.pop() if len(decimals) == 1 else None,
            shape=shapes.pop() if len(shapes) == 1 else "",
        )

    def fits(self, cell: str) -> bool:
        text = cell.replace(_HELD, "").strip()
        if is_missing(text):
            return self.blank
        if self.blank_alone:
            return False
        kind = self.type.kind
        if kind == "number":
            same = self.decimals is None or _decimals(text, self.type) == self.decimals
            return self.type.style.matches(text) and same
        if kind == "date":
            value = parse_date(text, self.type.format)
            return value == value
        if kind == "boolean":
            return text.lower() in (self.type.false.lower(), self.type.true.lower())
        return not self.shape or _shape(text) == self.shape

    def tells(self, cell: str) -> bool:
        """Whether a cell fits here and would not be taken for something else: a date, an amount
        with its sign, a code of letters and digits."""
        if not self.fits(cell):
            return False
        code = self.shape if self.type.kind == "category" else ""
        mixed = len(code) >= 4 and "0" in code and code.strip("0") != ""
        affix = self.type.style.affix
        return self.type.kind == "date" or mixed or bool(affix and affix in cell)

    def kept(self, cell: str) -> str:
        """A cell with the quotes that are text; in a number they are noise."""
        return cell.replace(_HELD, "" if self.type.numeric else '"')


def _decimals(text: str, column: ColumnType) -> int:
    digits = re.search(re.escape(column.style.decimal) + r"(\d*)", text)
    return len(digits[1]) if digits else 0


def _shape(text: str) -> str:
    """A text with every letter and digit as one of its kind: ``AB-12`` is ``AA-00``."""
    return re.sub(r"[a-z]", "a", re.sub(r"[A-Z]", "A", re.sub(r"\d", "0", text)))
