"""Reads a file as a stream against a preprocessing that was fitted on another.

The columns are found by name and converted the way the training data were written, or, where the
file is written otherwise (another decimal mark, another date format), the way its own first rows
show. What differs from the training, and cells that do not fit, go to a `SchemaCheck`; nothing is
guessed.
"""

from __future__ import annotations

import codecs
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from regatta.configuration import AS_FOUND, ReadingOptions
from regatta.ingest import chunks, rejecting
from regatta.ingest.column_type import ColumnType
from regatta.ingest.columns import best_style, date_formats
from regatta.ingest.dates import ISO, parse_date, parse_dates
from regatta.ingest.dialect import Dialect
from regatta.ingest.overrides import (
    AS_IT_IS,
    ColumnRule,
    GivenDialect,
    check_encoding,
    column_rules,
    given_encoding,
    with_options,
)
from regatta.ingest.parsing import ChunkParser, RowFault
from regatta.ingest.schema import (
    ENCODING,
    LEVELS,
    MISFIT,
    REJECTED,
    STYLE,
    SchemaCheck,
    format_in_words,
    missing_columns,
    new_levels,
    new_levels_in_words,
    style_in_words,
)
from regatta.ingest.sniffing import Sniffed, refuse_faulty, sniff
from regatta.ingest.source import (
    LEGACY,
    FileIdentity,
    Source,
    guessed_encoding,
    is_complete,
    open_source,
    stream_text,
    text_of,
)
from regatta.ingest.values import NumberStyle, is_missing, parse_numbers, text_level
from regatta.preprocessing import (
    BooleanEncoding,
    CategoryEncoding,
    ColumnEncoding,
    DateEncoding,
    NumberEncoding,
    Preprocessing,
)
from regatta.utils import DataError

BATCH_BYTES = 1 << 20
AnyArray = npt.NDArray[Any]
BoolArray = npt.NDArray[np.bool_]


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


def read_batches(
    path: Path,
    preprocessing: Preprocessing,
    check: SchemaCheck,
    options: ReadingOptions = AS_FOUND,
) -> Iterator[PredictionBatch]:
    """The rows of a file in batches.

    From the first cell on that ``check`` refuses, there are no batches: the rest is read so that
    the error at the end names all such cells.

    Raises
    ------
    DataError
        If a feature's column is not there, or a cell does not fit (with row and column).
    """
    FileIdentity.of(path)
    needed = [column.name for column in preprocessing.columns]
    source, sniffed = _sniffed(path, needed, options)
    if options.on_bad_rows == "skip":
        source = _without_bad_rows(source, sniffed.dialect, options, check)
    (rule,) = column_rules([""], replace(options, column_types=()))
    names = list(sniffed.dialect.names)
    places = {name: place for place, name in enumerate(names)}
    absent = [name for name in needed if name not in places]
    if absent:
        raise with_options(missing_columns(absent, names), options.in_force())
    if not source.encoding.startswith("utf") and options.encoding == "auto":
        check.note(ENCODING, None, f"The file is {guessed_encoding(source.encoding)}.")
    samples = {name: _sample(sniffed, places[name]) for name in needed}
    readers = [
        (column, places[column.name], _reader(column, samples[column.name], check, rule))
        for column in preprocessing.columns
    ]
    if not rule.decimal:
        _note_mixed_marks(preprocessing, samples, check)
    return _told(_batches(source, sniffed.dialect, readers, check), options)


def _told(batches: Iterator[PredictionBatch], options: ReadingOptions) -> Iterator[PredictionBatch]:
    """The batches; an error names the options in force."""
    try:
        yield from batches
    except DataError as error:
        raise with_options(error, options.in_force(), error.column) from None


def _sniffed(path: Path, needed: list[str], options: ReadingOptions) -> tuple[Source, Sniffed]:
    encoding = given_encoding(options)
    source, head = open_source(path, encoding)
    check_encoding(source, options)
    if encoding is None and source.direct and not _is_utf8(source):
        source, head = open_source(path, LEGACY)
    sniffed = sniff(
        text_of(head),
        source.encoding,
        complete=is_complete(head),
        name=path.name,
        expected=needed,
        given=GivenDialect.of(options),
    )
    refuse_faulty(sniffed)
    return source, sniffed


def _without_bad_rows(
    source: Source, dialect: Dialect, options: ReadingOptions, check: SchemaCheck
) -> Source:
    """The source with blank lines in the place of rows that cannot be read."""
    scan = rejecting.Scan(source, dialect)
    rows = list(scan)
    if rows:
        rejecting.check_share(rows, scan.rows, options.max_bad_rows)
        lines = tuple(row.line for row in rows)
        check.note(REJECTED, None, rejecting.told(rows, scan.rows), lines)
    return replace(source, patches=tuple(row.patch for row in rows))


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


# The values of a column, which cells are odd, and in which way.
Reader = Callable[[Any], tuple[AnyArray, BoolArray, str, str]]


def _reader(
    column: ColumnEncoding, sample: list[str], check: SchemaCheck, rule: ColumnRule
) -> Reader:
    """A function from an Arrow array of texts to the values of a column."""
    if isinstance(column, NumberEncoding | DateEncoding | BooleanEncoding | CategoryEncoding):
        column = replace(column, missing=tuple(dict.fromkeys(column.missing + rule.missing)))
    if isinstance(column, NumberEncoding):
        style = _number_style(column, sample, rule)
        trained = column.style
        if style != trained:
            _note_style(check, column.name, style_in_words(style), style_in_words(trained))
        return lambda texts: _numbers(texts, style, column)
    if isinstance(column, DateEncoding):
        date_format = _date_format(column, sample)
        if date_format != column.format:
            words = format_in_words(date_format), format_in_words(column.format)
            _note_style(check, column.name, *words)
        return lambda texts: _dates(texts, date_format, column)
    if isinstance(column, BooleanEncoding):
        return lambda texts: _booleans(texts, column)
    assert isinstance(column, CategoryEncoding)
    return lambda texts: _levels(texts, column)


def _note_style(check: SchemaCheck, name: str, now: str, trained: str) -> None:
    said = f"Column {name!r} is written with {now}, in the training with {trained}: read so."
    check.note(STYLE, name, said.replace("with ISO", "as ISO"))


def _number_style(
    column: NumberEncoding, sample: list[str], rule: ColumnRule = AS_IT_IS
) -> NumberStyle:
    trained = column.style
    cells = Counter(cell for cell in sample if not is_missing(cell) and cell not in column.missing)
    if rule.decimal or rule.thousands is not None:
        return best_style(cells, rule=rule)[0]
    if all(map(trained.matches, cells)):
        return trained
    style, share = best_style(cells)
    return style if share == 1.0 else trained


def _note_mixed_marks(
    preprocessing: Preprocessing, samples: dict[str, list[str]], check: SchemaCheck
) -> None:
    """Tell of columns that fit the training's decimal mark where others have changed theirs:
    1.234 may be a whole number there."""
    numbers = [each for each in preprocessing.columns if isinstance(each, NumberEncoding)]
    marks = {each.name: _number_style(each, samples[each.name]).decimal for each in numbers}
    changed = [each for each in numbers if marks[each.name] != each.decimal]
    for column in numbers:
        mark = marks[column.name]
        others = [each.name for each in changed if marks[each.name] != mark]
        if column in changed or not others:
            continue
        if any(mark in cell for cell in samples[column.name]):
            check.note(
                STYLE,
                column.name,
                f"Column {column.name!r} was read with the decimal mark {mark!r} as in the "
                f"training, but {others[0]!r} has {marks[others[0]]!r}: check its size.",
            )


def _date_format(column: DateEncoding, sample: list[str]) -> str:
    cells = [cell for cell in sample if not is_missing(cell) and cell not in column.missing]
    if all(parse_date(cell, column.format) == parse_date(cell, column.format) for cell in cells):
        return column.format
    formats = date_formats(cells)
    return formats[0] if formats else column.format


def _numbers(
    texts: Any, style: NumberStyle, column: NumberEncoding
) -> tuple[AnyArray, BoolArray, str, str]:
    values, bad = parse_numbers(texts, style, column.missing)
    infinite = np.isinf(values)
    values[infinite] = np.nan
    return values, bad | infinite, MISFIT, "are not numbers"


def _dates(
    texts: Any, date_format: str, column: DateEncoding
) -> tuple[AnyArray, BoolArray, str, str]:
    values, bad = parse_dates(texts, date_format, column.missing)
    return values, bad, MISFIT, f"are not dates as {format_in_words(date_format)}"


def _booleans(texts: Any, column: BooleanEncoding) -> tuple[AnyArray, BoolArray, str, str]:
    words = {column.false.lower(): 0.0, column.true.lower(): 1.0}
    levels = [text_level(text, column.missing) for text in texts.to_pylist()]
    values = np.array([words.get(level.lower(), np.nan) if level else np.nan for level in levels])
    bad = np.array([level is not None and level.lower() not in words for level in levels], bool)
    return values, bad, MISFIT, f"are neither {column.false!r} nor {column.true!r}"


def _levels(texts: Any, column: CategoryEncoding) -> tuple[AnyArray, BoolArray, str, str]:
    found = [text_level(text, column.missing) for text in texts.to_pylist()]
    levels = np.array(found, dtype=object)
    return levels, new_levels(column, levels), LEVELS, new_levels_in_words(column)


def _batches(
    source: Source,
    dialect: Dialect,
    readers: list[tuple[ColumnEncoding, int, Reader]],
    check: SchemaCheck,
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
            raise rejecting.refusal(rejecting.Scan(source, dialect), _refusal(fault, line), dialect)
        if texts and len(texts[0]):
            check.rows += len(texts[0])
            lines = _Lines(data, dialect, line)
            columns = {
                column.name: _converted(column, reader, texts[place], lines, check)
                for column, place, reader in readers
            }
            if not check.refuses:
                rows = [list(r) for r in zip(*(each.to_pylist() for each in texts), strict=True)]
                yield PredictionBatch(list(dialect.names), rows, columns, line)
        line += chunks.count_lines(data, dialect)
    check.settle()


class _Lines:
    """The line of each row of a chunk, found where it is asked for."""

    def __init__(self, data: bytes, dialect: Dialect, first: int) -> None:
        self.data = data
        self.dialect = dialect
        self.first = first

    def __call__(self) -> npt.NDArray[np.int64]:
        width = len(self.dialect.names)
        return self.first + chunks.record_lines(self.data, self.dialect, width)


def _converted(
    column: ColumnEncoding, reader: Reader, texts: Any, lines: _Lines, check: SchemaCheck
) -> AnyArray:
    values, odd, kind, what = reader(texts)
    if odd.any():
        check.mark(kind, column.name, what, texts, odd, lines)
    return values


def _refusal(fault: RowFault, line: int) -> DataError:
    row = line + fault.line
    return DataError(f"Line {row} {fault.message}.", fault.hint, row=row)
