"""One chunk of records as typed columns, with everything the file's report needs.

                            ┌─(plain numbers alone)─▶ simdjson ─┐
    bytes ──canonical──▶ bytes ──pyarrow──▶ typed columns ──────┤
                            └─(a cell does not fit)─▶ texts ────┴─▶ Parsed: values, codes, hashes
                                                                    Summary: counts, faults

pyarrow's reader is strict about the width of rows, and it is used on one thread: processes are
the parallelism, and memory stays flat. A chunk that does not convert as a whole is read again as
texts, whose cells are then judged one by one.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from regatta.ingest import chunks, hashing
from regatta.ingest.column_type import (
    MAX_BAD_EXAMPLES,
    MAX_BAD_WORDS,
    MAX_LEVELS_KEPT,
    ColumnType,
)
from regatta.ingest.dates import parse_dates, swapped_format
from regatta.ingest.dialect import Dialect
from regatta.ingest.levels import LevelReader
from regatta.ingest.plain_numbers import NumberReader
from regatta.ingest.values import (
    COMMA,
    PLAIN,
    missing_spellings,
    parse_numbers,
    text_level,
    trimmed_texts,
)

HASH_CELLS = 1 << 15
# Columns from which a file counts as wide.
WIDE = 300
# What a child that parses needs to import, and can before it is called.
MODULES = (__name__, "pyarrow.csv")

Codes = npt.NDArray[np.int32]
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class RowFault:
    """A row that cannot be used: how many lines end before it in the chunk, and why."""

    line: int
    message: str
    hint: str
    column: int | None = None


@dataclass
class OddCells:
    """Cells that do not fit the type of their column."""

    count: int
    examples: list[tuple[int, str]]  # (lines that end before it in the chunk, text)
    words: list[tuple[str, int]]


@dataclass
class NumericFacts:
    """Per stored numeric column, over a chunk: arrays (n_columns,)."""

    missing: Counts
    minimum: npt.NDArray[np.float64]
    maximum: npt.NDArray[np.float64]
    first: npt.NDArray[np.float64]
    last: npt.NDArray[np.float64]
    counting: npt.NDArray[np.bool_]


@dataclass
class Summary:
    """What the importing process learns of a chunk."""

    rows: int
    lines: int
    numeric: NumericFacts | None = None
    odd: dict[int, OddCells] = field(default_factory=dict)
    levels: dict[int, tuple[list[str], list[int], int]] = field(default_factory=dict)
    # Of columns of dates: odd cells with day and month swapped, and travel under both readings.
    swapped: dict[int, tuple[int, float, float]] = field(default_factory=dict)
    # Columns of texts whose levels are too many to be kept, or too long.
    without_levels: list[int] = field(default_factory=list)
    long_texts: list[int] = field(default_factory=list)  # of those, the columns of too long ones
    fault: RowFault | None = None
    unfit: list[RowFault] = field(default_factory=list)  # rows with a cell that cannot be used
    not_utf8: bool = False
    blank_rows: int = 0
    # Where lines lie between rows or within them: (row, how many before it). None: not known.
    gaps: list[tuple[int, int]] | None = None


@dataclass(frozen=True)
class _Reading:
    """A way of having Arrow read a chunk, from the fastest to the most lenient."""

    typed: bool
    # Whether all words for "no value" are known, not the blank cell alone.
    all_missing: bool = True


_PLAIN = _Reading(typed=True, all_missing=False)
_TYPED = _Reading(typed=True)
_TEXTS = _Reading(typed=False)

# Failures, less successes, after which the fastest way is not tried any more.
PLAIN_FAILURES = 3
# More lines than this beyond one a row, and where they lie in a chunk is not looked for.
MAX_GAPS = 100


@dataclass(frozen=True)
class Layout:
    """Where the columns of a group of rows lie in the file of values.

    A group holds ``row_hash`` (uint64), then the numeric columns (float64), then the codes of
    the columns of texts (int32), each contiguous: one write a chunk, whatever the columns.
    """

    numeric: tuple[int, ...]
    texts: tuple[int, ...]

    @classmethod
    def of(cls, types: Sequence[ColumnType]) -> Layout:
        return cls(
            tuple(i for i, each in enumerate(types) if each.numeric),
            tuple(i for i, each in enumerate(types) if not each.numeric),
        )

    @property
    def row_bytes(self) -> int:
        return 8 + 8 * len(self.numeric) + 4 * len(self.texts)


class ChunkParser:
    """Parses chunks of one file. Lives in a child process, or in the importing one."""

    def __init__(self, path: str, dialect: Dialect, types: Sequence[ColumnType]) -> None:
        import pyarrow as pa

        pa.set_memory_pool(pa.system_memory_pool())
        self.path = path
        self.dialect = dialect
        self.types = list(types)
        self.layout = Layout.of(types)
        self.place = {
            index: place
            for indices in (self.layout.numeric, self.layout.texts)
            for place, index in enumerate(indices)
        }
        self.multipliers = np.array([hashing.multiplier(i) for i in self.layout.numeric], np.uint64)
        self.as_texts = {i for i, each in enumerate(types) if _needs_texts(each)}
        self.decimal = self._decimal()
        self.closed: set[int] = set()  # columns of texts with too many levels
        texts = self.layout.texts
        self.levels = {i: LevelReader(types[i].missing, len(texts)) for i in texts}
        self.parsed: _Parsed | None = None  # the chunk that is being parsed
        self.held: dict[int, _Parsed] = {}
        self.plain = PLAIN_FAILURES
        self.numbers = PLAIN_FAILURES if self._all_numbers() else 0
        self.number_reader: NumberReader | None = None

    def parse(self, chunk: chunks.Chunk, closed: Sequence[int] = ()) -> Summary:
        """Parse a chunk and keep it until `write`, if it has rows; tell what is in it."""
        self._close(closed)
        summary = self._parse(chunk)
        self._close(summary.without_levels)  # not before: a chunk may be parsed twice
        if summary.rows and self.parsed:
            self.held[chunk.index] = self.parsed
        self.parsed = None
        return summary

    def _close(self, columns: Sequence[int]) -> None:
        for index in columns:
            self.closed.add(index)
            self.levels.pop(index, None)

    def _parse(self, chunk: chunks.Chunk) -> Summary:
        data = self._bytes(chunk)
        lines = chunks.count_lines(data, self.dialect)
        fault = self._not_utf8(data)
        if fault:
            return Summary(0, lines, fault=fault, not_utf8=True)
        data, delimiter, fault = self._canonical(data)
        if fault:
            return Summary(0, lines, fault=fault)
        summary = self._parsed_columns(data, delimiter, lines)
        if not (summary.fault or self._may_hold_blank_rows(summary)):
            return replace(summary, gaps=self._gaps(data, lines, summary.rows))
        kept, blank = chunks.without_blank_rows(data, self.dialect)
        if not blank:
            return replace(summary, gaps=self._gaps(data, lines, summary.rows))
        second = chunks.second_table(data, self.dialect)
        if second:
            return Summary(0, lines, fault=self._row_fault(data, second))
        return replace(self._parsed_columns(kept, delimiter, lines), blank_rows=blank)

    def _parsed_columns(self, data: bytes, delimiter: str, lines: int) -> Summary:
        summary = self._plain_numbers(data, delimiter, lines)
        if summary is None:
            summary = self._columns(data, delimiter, lines)
        if summary.rows and self.parsed:
            summary.numeric = self.parsed.facts(self.multipliers)
            summary.unfit = self._infinite(summary.numeric, data)
        return summary

    def _columns(self, data: bytes, delimiter: str, lines: int) -> Summary:
        columns, fault = self._read(data, delimiter)
        if fault:
            return Summary(0, lines, fault=fault)
        columns = [_whole(column) for column in columns]
        self.parsed = _Parsed(len(columns[0]) if columns else 0, self.layout)
        summary = Summary(self.parsed.rows, lines)
        for index, column in enumerate(columns):
            self._store(index, column, data, summary)
        self._learn(columns, summary)
        return summary

    def _gaps(self, data: bytes, lines: int, rows: int) -> list[tuple[int, int]] | None:
        """Where rows and lines part; ``None`` where finding out would take long."""
        newline = b"\r" if self.dialect.newline == "\r" else b"\n"
        extra = lines + (not data.endswith(newline)) - rows
        if extra == 0:
            return []
        if not 0 < extra <= MAX_GAPS:
            return None
        before = chunks.record_lines(data, self.dialect, len(self.types))
        if len(before) != rows:
            return None
        skipped = before - np.arange(rows)
        changes = np.flatnonzero(np.diff(skipped, prepend=0))
        return [(int(row), int(skipped[row])) for row in changes]

    def _may_hold_blank_rows(self, summary: Summary) -> bool:
        """Whether every column has a gap somewhere in the chunk."""
        if not summary.rows or len(self.types) < 2:
            return False
        numeric = summary.numeric
        return (numeric is None or bool(numeric.missing.all())) and all(
            missing for _, _, missing in summary.levels.values()
        )

    def _bytes(self, chunk: chunks.Chunk) -> bytes:
        data = chunk.data if chunk.data is not None else _read_range(self.path, chunk)
        return chunks.with_one_line_end(data, self.dialect)

    def texts(
        self, chunk: chunks.Chunk, *, blank_rows: bool = True
    ) -> tuple[list[Any], bytes, RowFault | None]:
        """The cells of a chunk as Arrow arrays of strings, the chunk in canonical form, and what
        is wrong with it. `parse` leaves rows without any value out: ``blank_rows=False``."""
        data = self._bytes(chunk)
        fault = self._not_utf8(data)
        if fault:
            return [], data, fault
        data, delimiter, fault = self._canonical(data)
        if fault:
            return [], data, fault
        columns, fault = self._read(data, delimiter)
        if not blank_rows and (fault or all(map(_has_blank, columns))):
            data, _ = chunks.without_blank_rows(data, self.dialect)
            columns, fault = self._read(data, delimiter)
        return [column.combine_chunks() for column in columns], data, fault

    def write(self, index: int, file: str, offset: int, maps: dict[int, list[int]]) -> None:
        """Write a chunk that was parsed. ``maps`` turns its codes into those of the file."""
        parsed = self.held.pop(index)
        for place, column in enumerate(self.layout.texts):
            parsed.set_codes(place, maps.get(column, []))
        descriptor = os.open(file, os.O_WRONLY)
        try:
            written = 0
            view = memoryview(parsed.buffer)  # type: ignore[arg-type]
            while written < len(view):
                written += os.pwrite(descriptor, view[written:], offset + written)
        finally:
            os.close(descriptor)

    def _not_utf8(self, data: bytes) -> RowFault | None:
        if _is_ascii(data):
            return None
        try:
            data.decode("utf-8")
        except UnicodeDecodeError as error:
            line = chunks.line_of(data, error.start, self.dialect)
            return RowFault(line, *chunks.not_valid(self.dialect))
        return None

    def _canonical(self, data: bytes) -> tuple[bytes, str, RowFault | None]:
        """A chunk in canonical form, its separator, and what is wrong with its bytes."""
        position = data.find(b"\0")
        if position >= 0:
            line = chunks.line_of(data, position, self.dialect)
            return data, "", RowFault(line, *chunks.NUL)
        data, delimiter = chunks.canonical(data, self.dialect)
        stray = None if self.dialect.runs else chunks.quote_fault(data, self.dialect)
        return data, delimiter, self._row_fault(data, stray) if stray else None

    def _row_fault(self, data: bytes, fault: chunks.Fault) -> RowFault:
        line = chunks.line_of(data, fault.position, self.dialect)
        return RowFault(line, fault.message, fault.hint)

    # -- reading --

    def _all_numbers(self) -> bool:
        """Whether the chunks may be all plain numbers."""
        plain = all(
            each.kind == "number" and each.style == PLAIN and not each.missing
            for each in self.types
        )
        return plain and bool(self.types) and self.dialect.newline != "\r"

    def _plain_numbers(self, data: bytes, delimiter: str, lines: int) -> Summary | None:
        """The chunk as plain numbers, if it is nothing else."""
        if not self.numbers:
            return None
        if self.number_reader is None:
            self.number_reader = NumberReader(len(self.types))
        numbers = self.number_reader.read(data, delimiter)
        if numbers is None:
            self.numbers -= 1
            return None
        self.numbers = min(self.numbers + 1, PLAIN_FAILURES)
        self.parsed = _Parsed(numbers.shape[1], self.layout)
        self.parsed.values[:] = numbers
        return Summary(self.parsed.rows, lines)

    def _decimal(self) -> str:
        """The decimal mark that Arrow is to know; columns with the other one are read as texts."""
        commas = sum(each.kind == "number" and each.style == COMMA for each in self.types)
        points = sum(each.kind == "number" and each.style == PLAIN for each in self.types)
        decimal = "," if commas > points else "."
        unlike = PLAIN if decimal == "," else COMMA
        self.as_texts |= {
            i for i, each in enumerate(self.types) if each.kind == "number" and each.style == unlike
        }
        return decimal

    def _read(self, data: bytes, delimiter: str) -> tuple[list[Any], RowFault | None]:
        """The columns as chunked Arrow arrays: float64, or texts (some with a dictionary)."""
        import pyarrow as pa

        if data[:1] in b"\r\n" and not data.strip(b"\r\n"):
            types = [self._arrow_type(index, typed=True) for index in range(len(self.types))]
            return [pa.chunked_array([], each) for each in types], None
        if self.plain:
            try:
                columns, ragged = self._arrow(data, delimiter, _PLAIN)
            except pa.ArrowInvalid:
                self.plain -= 1
            else:
                if ragged is None:
                    self.plain = min(self.plain + 1, PLAIN_FAILURES)
                    return columns, None
        fault = None
        for reading in (_TYPED, _TEXTS):
            try:
                columns, ragged = self._arrow(data, delimiter, reading)
            except pa.ArrowInvalid as error:
                fault = error
            else:
                return columns, None if ragged is None else self._ragged(data, *ragged)
        last = chunks.count_lines(data, self.dialect)
        return [], RowFault(max(0, last - 1), f"cannot be read ({fault})", "Look at that line.")

    def _arrow(
        self, data: bytes, delimiter: str, reading: _Reading
    ) -> tuple[list[Any], tuple[int, int] | None]:
        """The columns, and the first record of another width with the width it has."""
        import pyarrow as pa
        from pyarrow import csv

        names = [str(index) for index in range(len(self.types))]
        ragged: list[tuple[int, int]] = []
        blank = 0

        def unfit(row: Any) -> str:
            nonlocal blank
            if row.actual_columns == 1 and not row.text.strip():
                blank += 1
            elif not ragged:
                ragged.append(((row.number or 1) - 1 - blank, row.actual_columns))
            return "skip"

        dialect = self.dialect
        quoted = bool(dialect.quote) and dialect.quote.encode() in data
        table = csv.read_csv(
            pa.BufferReader(data),
            read_options=csv.ReadOptions(
                use_threads=False, block_size=len(data) + 1, column_names=names
            ),
            parse_options=csv.ParseOptions(
                delimiter=delimiter,
                quote_char=dialect.quote or False,
                newlines_in_values=quoted,
                invalid_row_handler=unfit,
            ),
            convert_options=csv.ConvertOptions(
                column_types={
                    name: self._arrow_type(index, reading.typed) for index, name in enumerate(names)
                },
                null_values=missing_spellings(len(names) > WIDE) if reading.all_missing else [""],
                strings_can_be_null=False,
                decimal_point=self.decimal,
                check_utf8=False,  # the whole chunk was checked
            ),
        )
        return table.columns, ragged[0] if ragged else None

    def _arrow_type(self, index: int, typed: bool) -> Any:
        import pyarrow as pa

        column = self.types[index]
        if column.kind in ("category", "boolean") and index not in self.closed:
            return pa.dictionary(pa.int32(), pa.string())
        if typed and column.kind == "number" and index not in self.as_texts:
            return pa.float64()
        return pa.string()

    def _ragged(self, data: bytes, record: int, found: int) -> RowFault:
        expected = len(self.types)
        lines = chunks.record_lines(data, self.dialect, expected)
        line = int(lines[min(record, len(lines) - 1)]) if len(lines) else 0
        fields = "field" if found == 1 else "fields"
        return RowFault(
            line,
            f"has {found} {fields} where {expected} are expected",
            "Mend or remove that line; check its separators and quotes.",
        )

    # -- columns --

    def _learn(self, columns: Sequence[Any], summary: Summary) -> None:
        """Which columns of numbers are from now on read as texts at once, since Arrow cannot
        convert them: those with odd cells, or, where there are none, all that it was asked for."""
        import pyarrow as pa

        failed = {
            index
            for index, column in enumerate(columns)
            if self.types[index].kind == "number" and not pa.types.is_floating(column.type)
        }
        odd = failed & set(summary.odd)
        self.as_texts |= odd or failed

    def _store(self, index: int, column: Any, data: bytes, summary: Summary) -> None:
        import pyarrow as pa

        assert self.parsed is not None
        kind = self.types[index].kind
        if kind == "category":
            self._store_texts(index, column, summary)
            return
        if pa.types.is_floating(column.type):
            self.parsed.set_numbers(self.place[index], column)
            return
        if kind == "boolean":
            values, bad = self._booleans(index, column)
        else:
            values, bad = self._converted(index, column, summary)
        if bad.any():
            summary.odd[index] = self._odd(column, bad, data)
        self.parsed.values[self.place[index]] = values

    def _converted(self, index: int, column: Any, summary: Summary) -> tuple[Any, Any]:
        each = self.types[index]
        if each.kind == "number":
            return parse_numbers(column, each.style, each.missing)
        values, bad = parse_dates(column, each.format, each.missing)
        swapped = swapped_format(each.format)
        if swapped:
            others, others_bad = parse_dates(column, swapped, each.missing)
            summary.swapped[index] = (int(others_bad.sum()), _travel(values), _travel(others))
        return values, bad

    def _booleans(self, index: int, column: Any) -> tuple[Any, Any]:
        each = self.types[index]
        words = {each.false.lower(): 0.0, each.true.lower(): 1.0}
        levels = [text_level(text, each.missing) for text in column.dictionary.to_pylist()]
        values = [words.get(level.lower(), np.nan) if level else np.nan for level in levels]
        odd = [level is not None and level.lower() not in words for level in levels]
        codes = column.indices.to_numpy(zero_copy_only=False)
        return np.array(values)[codes], np.array(odd)[codes]

    def _infinite(self, facts: NumericFacts, data: bytes) -> list[RowFault]:
        """The rows with an infinite number, each with the first column that has one."""
        columns = np.flatnonzero(np.isinf(facts.minimum) | np.isinf(facts.maximum))
        if not len(columns):
            return []
        assert self.parsed is not None
        infinite = np.isinf(self.parsed.values[columns])
        lines = chunks.record_lines(data, self.dialect, len(self.types))
        return [
            RowFault(
                int(lines[row]),
                "holds an infinite number",
                "Replace it or leave the cell blank.",
                self.layout.numeric[columns[infinite[:, row].argmax()]],
            )
            for row in np.flatnonzero(infinite.any(axis=0))
        ]

    def _odd(self, texts: Any, bad: Any, data: bytes) -> OddCells:
        rows = np.flatnonzero(bad)
        lines = chunks.record_lines(data, self.dialect, len(self.types))
        words: Counter[str] = Counter(texts[int(row)].as_py().strip() for row in rows[:100_000])
        examples = [
            (int(lines[row]), texts[int(row)].as_py()[:200]) for row in rows[:MAX_BAD_EXAMPLES]
        ]
        return OddCells(len(rows), examples, words.most_common(MAX_BAD_WORDS + 1))

    def _store_texts(self, index: int, column: Any, summary: Summary) -> None:
        import pyarrow as pa

        assert self.parsed is not None
        place, missing = self.place[index], self.types[index].missing
        multiplier = hashing.multiplier(index)
        if not pa.types.is_dictionary(column.type):  # levels are of no interest any more
            texts, gone = trimmed_texts(column, missing)
            summary.levels[index] = ([], [], int(gone.sum()))
            bits = hashing.text_hashes(texts)
            bits[gone] = hashing.MISSING
            self.parsed.set_texts(place, 0, hashing.mixed(bits, multiplier))
            return
        levels = self.levels[index].read(column.dictionary)
        # Where in a table of "no value" and then each level a cell finds its own.
        cells = column.indices.to_numpy(zero_copy_only=False).astype(np.intp)
        cells = cells + 1 if levels.codes is None else (levels.codes + 1).take(cells)
        counts = np.bincount(cells, minlength=len(levels.hashes) + 1)
        if levels.texts is None:
            summary.without_levels.append(index)
            if len(levels.hashes) <= MAX_LEVELS_KEPT:
                summary.long_texts.append(index)
            summary.levels[index] = ([], [], int(counts[0]))
        else:
            summary.levels[index] = (levels.texts, counts[1:].tolist(), int(counts[0]))
        bits = np.append(hashing.MISSING, levels.hashes)
        self.parsed.set_texts(place, cells, hashing.mixed(bits, multiplier).take(cells))


def _is_ascii(data: bytes) -> bool:
    """`bytes.isascii`, in a third of its time."""
    return bool(np.frombuffer(data, np.uint8).max(initial=0) < 128)


def _travel(values: npt.NDArray[np.float64]) -> float:
    """The sum of the steps from each value to the next."""
    return float(np.abs(np.diff(values[~np.isnan(values)])).sum())


def _has_blank(texts: Any) -> bool:
    import pyarrow.compute as pc

    return bool(pc.any(pc.equal(pc.utf8_trim_whitespace(texts), "")).as_py())


def _needs_texts(column: ColumnType) -> bool:
    """Whether Arrow cannot convert the column by itself."""
    if column.kind != "number":
        return column.kind == "date"
    return bool(column.missing or column.style.thousands or column.style.affix)


def _whole(column: Any) -> Any:
    """A chunked array in one piece, but for numbers, which are copied anyway."""
    import pyarrow as pa

    if pa.types.is_floating(column.type):
        return column
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _read_range(path: str, chunk: chunks.Chunk) -> bytes:
    with open(path, "rb", buffering=0) as file:
        data = os.pread(file.fileno(), chunk.length, chunk.offset)
        while len(data) < chunk.length:
            more = os.pread(file.fileno(), chunk.length - len(data), chunk.offset + len(data))
            if not more:
                break
            data += more
    return data


class _Parsed:
    """The values of a chunk in the layout of the file, and the hash of each row."""

    def __init__(self, rows: int, layout: Layout) -> None:
        self.rows = rows
        self.buffer = whole = np.empty(rows * layout.row_bytes, np.uint8)
        first = 8 * rows
        second = first + 8 * rows * len(layout.numeric)
        self.hashes: hashing.Hashes = whole[:first].view(np.uint64)
        self.values = whole[first:second].view(np.float64).reshape(len(layout.numeric), rows)
        self.codes: Codes = whole[second:].view(np.int32).reshape(len(layout.texts), rows)
        self.hashes[:] = hashing.SEED

    def set_numbers(self, place: int, column: Any) -> None:
        """Set a column of numbers from a chunked Arrow array of them."""
        start = 0
        for piece in column.chunks:
            part = piece.to_numpy(zero_copy_only=False)
            self.values[place, start : start + len(part)] = part
            start += len(part)

    def set_texts(self, place: int, cells: Any, hashes: hashing.Hashes) -> None:
        """Set a column of texts, as places in a table of "no value" and then the chunk's levels,
        and add the hashes of its cells to their rows."""
        self.codes[place] = cells
        self.hashes += hashes

    def set_codes(self, place: int, codes: Sequence[int]) -> None:
        """Give the cells of a column of texts the file's codes of the chunk's levels instead."""
        table = np.array([-1, *codes], np.int32)
        self.codes[place] = table.take(self.codes[place]) if codes else -1

    def facts(self, multipliers: hashing.Hashes) -> NumericFacts:
        """What there is to tell of the columns of numbers, which are all there; and add them to
        the hashes of their rows."""
        values = self.values
        count = len(values)
        missing, low, high = np.zeros(count, np.int64), np.empty(count), np.empty(count)
        columns = max(1, HASH_CELLS // self.rows)  # as many at once as the cache holds
        for start in range(0, count, columns):
            these = slice(start, start + columns)
            block = values[these]
            block += 0.0  # -0 becomes 0: equal numbers hash alike
            bits = block.view(np.uint64).copy()
            low[these] = np.minimum.reduce(block, axis=1)
            high[these] = np.maximum.reduce(block, axis=1)
            for place in start + np.flatnonzero(np.isnan(low[these])):
                column = values[place]
                gone = np.isnan(column)
                missing[place] = np.count_nonzero(gone)
                low[place], high[place] = np.fmin.reduce(column), np.fmax.reduce(column)
                column[gone] = np.nan  # "-nan" has other bits, and not from every reader
                bits[place - start, gone] = hashing.MISSING
            hashing.mixed(bits, multipliers[these, None])
            self.hashes += bits[0] if len(bits) == 1 else np.add.reduce(bits, axis=0)
        first, last = values[:, 0].copy(), values[:, -1].copy()
        with np.errstate(over="ignore", invalid="ignore"):
            counting = (last - first) == self.rows - 1
        for place in np.flatnonzero(counting):
            counting[place] = bool((np.diff(values[place]) == 1).all())
        return NumericFacts(missing, low, high, first, last, counting)


# -- calls for a child process --------------------------------------------------------------------


def open_parser(
    state: dict[str, Any], path: str, dialect: Dialect, types: Sequence[ColumnType]
) -> None:
    state["parser"] = ChunkParser(path, dialect, types)


def parse_chunk(state: dict[str, Any], chunk: chunks.Chunk, closed: Sequence[int]) -> Summary:
    parser: ChunkParser = state["parser"]
    return parser.parse(chunk, closed)


def write_chunk(
    state: dict[str, Any], index: int, file: str, offset: int, maps: dict[int, list[int]]
) -> None:
    state["parser"].write(index, file, offset, maps)
