"""Reads a file as a stream against a preprocessing that was fitted on another.

The columns are found by name and converted the way the training data were written, or, where the
file is written otherwise (another decimal mark, another date format), the way its own first rows
show. A cell that does not fit is an error with its row and column; nothing is guessed.
"""

from __future__ import annotations

import codecs
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from regatta.ingest import chunks
from regatta.ingest.columns import ColumnType, best_style, date_formats
from regatta.ingest.dialect import Dialect, Sniffed, sniff
from regatta.ingest.parsing import ChunkParser, RowFault
from regatta.ingest.source import (
    LEGACY,
    FileIdentity,
    Source,
    is_complete,
    open_source,
    stream_text,
    text_of,
)
from regatta.ingest.values import (
    ISO,
    NumberStyle,
    is_missing,
    parse_date,
    parse_dates,
    parse_numbers,
    text_level,
)
from regatta.preprocessing import (
    BooleanEncoding,
    CategoryEncoding,
    ColumnEncoding,
    DateEncoding,
    NumberEncoding,
    Preprocessing,
    missing_column,
)
from regatta.utils import DataError

BATCH_BYTES = 1 << 20
AnyArray = npt.NDArray[Any]


@dataclass(frozen=True)
class PredictionBatch:
    """Some rows of a file.

    ``header`` names the file's columns, ``rows`` holds their cells as they are written,
    ``columns`` the values that `Preprocessing.transform` takes, ``first_line`` the line of the
    first row.
    """

    header: list[str]
    rows: list[list[str]]
    columns: dict[str, AnyArray]
    first_line: int


def read_batches(path: Path, preprocessing: Preprocessing) -> Iterator[PredictionBatch]:
    """The rows of a file in batches.

    Raises
    ------
    DataError
        If a feature's column is not there, or a cell does not fit (with row and column).
    """
    FileIdentity.of(path)
    needed = [column.name for column in preprocessing.columns]
    source, sniffed = _sniffed(path, needed)
    names = list(sniffed.dialect.names)
    places = {name: place for place, name in enumerate(names)}
    for name in needed:
        if name not in places:
            raise missing_column(name, names)
    readers = [
        (column, places[column.name], _reader(column, _sample(sniffed, places[column.name])))
        for column in preprocessing.columns
    ]
    return _batches(source, sniffed.dialect, readers)


def opened(path: Path) -> tuple[Source, bytes]:
    """A file and the start of its text; not UTF-8 if any of it is not."""
    source, head = open_source(path)
    if source.direct and not _is_utf8(source):
        source, head = open_source(path, LEGACY)
    return source, head


def _sniffed(path: Path, needed: list[str]) -> tuple[Source, Sniffed]:
    source, head = opened(path)
    sniffed = sniff(
        text_of(head),
        source.encoding,
        complete=is_complete(head),
        name=path.name,
        expected=needed,
    )
    return source, sniffed


def _is_utf8(source: Source) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for block, _ in stream_text(source, chunks.CHUNK_BYTES):
            decoder.decode(block)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _sample(sniffed: Sniffed, place: int) -> list[str]:
    return [record[place].strip() for record in sniffed.records if place < len(record)]


class _Misfit(Exception):
    """The cell in ``row`` does not fit."""

    def __init__(self, row: int, what: str) -> None:
        super().__init__(row)
        self.row = row
        self.what = what


def _reader(column: ColumnEncoding, sample: list[str]) -> Any:
    """A function from an Arrow array of texts to the values of a column."""
    if isinstance(column, NumberEncoding):
        style = _number_style(column, sample)
        return lambda texts: _numbers(texts, style, column)
    if isinstance(column, DateEncoding):
        date_format = _date_format(column, sample)
        return lambda texts: _dates(texts, date_format, column)
    if isinstance(column, BooleanEncoding):
        return lambda texts: _booleans(texts, column)
    assert isinstance(column, CategoryEncoding)
    return _levels


def _number_style(column: NumberEncoding, sample: list[str]) -> NumberStyle:
    trained = NumberStyle(column.decimal, column.thousands, column.affix)
    cells = Counter(cell for cell in sample if not is_missing(cell) and cell not in column.missing)
    if all(map(trained.matches, cells)):
        return trained
    style, share = best_style(cells)
    return style if share == 1.0 else trained


def _date_format(column: DateEncoding, sample: list[str]) -> str:
    cells = [cell for cell in sample if not is_missing(cell) and cell not in column.missing]
    if all(parse_date(cell, column.format) == parse_date(cell, column.format) for cell in cells):
        return column.format
    formats = date_formats(cells)
    return formats[0] if formats else column.format


def _numbers(texts: Any, style: NumberStyle, column: NumberEncoding) -> AnyArray:
    values, bad = parse_numbers(texts, style, column.missing)
    if bad.any():
        raise _Misfit(int(np.flatnonzero(bad)[0]), "is not a number")
    if np.isinf(values).any():
        raise _Misfit(int(np.flatnonzero(np.isinf(values))[0]), "is not a finite number")
    return values


def _dates(texts: Any, date_format: str, column: DateEncoding) -> AnyArray:
    values, bad = parse_dates(texts, date_format, column.missing)
    if bad.any():
        shown = "ISO 8601" if date_format == ISO else date_format
        raise _Misfit(int(np.flatnonzero(bad)[0]), f"is not a date as {shown}")
    return values


def _booleans(texts: Any, column: BooleanEncoding) -> AnyArray:
    words = {column.false.lower(): 0.0, column.true.lower(): 1.0}
    values = np.full(len(texts), np.nan)
    for row, text in enumerate(texts.to_pylist()):
        level = text_level(text)
        if level is None:
            continue
        if level.lower() not in words:
            raise _Misfit(row, f"is neither {column.false!r} nor {column.true!r}")
        values[row] = words[level.lower()]
    return values


def _levels(texts: Any) -> AnyArray:
    return np.array([text_level(text) for text in texts.to_pylist()] or [], dtype=object)


def _batches(
    source: Source, dialect: Dialect, readers: list[tuple[ColumnEncoding, int, Any]]
) -> Iterator[PredictionBatch]:
    width = len(dialect.names)
    # Dates are the kind that is read as plain texts.
    parser = ChunkParser(str(source.path), dialect, [ColumnType("date", format=ISO)] * width)
    blocks = stream_text(source, BATCH_BYTES)
    start = source.mark if source.direct else 0
    line = dialect.first_line
    for chunk in chunks.split(blocks, dialect, size=BATCH_BYTES, start=start):
        texts, data, fault = parser.texts(chunk)
        if fault:
            raise _refusal(fault, line)
        if texts and len(texts[0]):
            columns = {
                column.name: _converted(column, reader, texts[place], data, dialect, line)
                for column, place, reader in readers
            }
            rows = [list(row) for row in zip(*(each.to_pylist() for each in texts), strict=True)]
            yield PredictionBatch(list(dialect.names), rows, columns, line)
        line += chunks.count_lines(data, dialect)


def _converted(
    column: ColumnEncoding, reader: Any, texts: Any, data: bytes, dialect: Dialect, line: int
) -> AnyArray:
    try:
        values: AnyArray = reader(texts)
        return values
    except _Misfit as misfit:
        lines = chunks.record_lines(data, dialect, len(dialect.names))
        row = line + int(lines[misfit.row])
        cell = texts[misfit.row].as_py()[:40]
        raise DataError(
            f"Line {row}, column {column.name!r}: {cell!r} {misfit.what}.",
            "Mend the cell, or leave it blank for a missing value.",
            row=row,
            column=column.name,
        ) from None


def _refusal(fault: RowFault, line: int) -> DataError:
    row = line + fault.line
    return DataError(f"Line {row} {fault.message}.", fault.hint, row=row)
