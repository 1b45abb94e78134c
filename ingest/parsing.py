"""One chunk of records as typed columns, with everything the file's report needs.

                            ┌───▶ cells (compiled) ───┐
    bytes ──canonical──▶ bytes    (what it refuses)   ├─▶ Parsed: values, codes, hashes
                            └───▶ pyarrow ────────────┘   Summary: counts, faults

Numbers are converted where they are plainly written. Of other columns the texts are taken, and
their cells are then judged one by one.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from regatta.ingest import cells, chunks, hashing
from regatta.ingest.arrow_reader import ArrowReader, Ragged
from regatta.ingest.cells import CellReader, Codes, Wanted, layouts_of
from regatta.ingest.column_type import (
    MAX_BAD_EXAMPLES,
    MAX_BAD_WORDS,
    MAX_LEVELS_KEPT,
    ColumnType,
)
from regatta.ingest.dates import parse_dates, swapped_format
from regatta.ingest.dialect import Dialect
from regatta.ingest.levels import LevelReader
from regatta.ingest.values import parse_numbers, text_level, trimmed_texts

HASH_CELLS = 1 << 15
# What a child that parses needs to import, and can before it is called.
MODULES = (__name__, "pyarrow.csv")


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
        self.closed: set[int] = set()  # columns of texts with too many levels
        texts = self.layout.texts
        self.levels = {i: LevelReader(types[i].missing, len(texts)) for i in texts}
        self.parsed: _Parsed | None = None  # the chunk that is being parsed
        self.held: dict[int, _Parsed] = {}
        self.known_lines: tuple[bytes, npt.NDArray[np.int64]] | None = None
        self.arrow = ArrowReader(dialect.quote)
        self.cells: CellReader | None = None
        if types and dialect.newline != "\r" and cells.is_built():
            self.cells = CellReader(len(types))

    def parse(self, chunk: chunks.Chunk, closed: Sequence[int] = ()) -> Summary:
        """Parse a chunk and keep it until `write`, if it has rows; tell what is in it."""
        self._close(closed)
        summary = self._parse(chunk)
        self._close(summary.without_levels)  # not before: a chunk may be parsed twice
        if summary.rows and self.parsed:
            self.held[chunk.index] = self.parsed
        self.parsed = self.known_lines = None
        return summary

    def _close(self, columns: Sequence[int]) -> None:
        for index in columns:
            self.closed.add(index)
            self.levels.pop(index, None)

    def _parse(self, chunk: chunks.Chunk) -> Summary:
        data, delimiter = self._bytes(chunk), self.dialect.delimiter
        if self._cut_as_it_is(data):
            assert self.cells
            lines = self.cells.lines
            summary = self._read_cells(data)
        else:
            data = chunks.with_one_line_end(data, self.dialect)
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

    def _cut_as_it_is(self, data: bytes) -> bool:
        """Whether a chunk was canonical before anything was done to it, and could be cut."""
        dialect = self.dialect
        if dialect.comment or dialect.escape or dialect.runs or dialect.padded or not self.cells:
            return False
        if not dialect.quote and b'"' in data:
            return False
        cut = self.cells.cut(data, dialect.delimiter, dialect.quote)
        if not (cut and self.cells.rows) or self.cells.nul:
            return False
        return self.cells.ascii or self._not_utf8(data) is None

    def _parsed_columns(self, data: bytes, delimiter: str, lines: int) -> Summary:
        """The columns of a canonical chunk."""
        if self.cells and self.cells.cut(data, delimiter, self.dialect.quote) and self.cells.rows:
            return replace(self._read_cells(data), lines=lines)
        wanted = [self._wanted(index) for index in range(len(self.types))]
        columns, fault = self.arrow.read(data, delimiter, wanted)
        if fault is not None:
            return Summary(0, lines, fault=self._unreadable(data, fault))
        parsed = _Parsed(len(columns[0]) if columns else 0, self.layout)
        return self._summary(parsed, columns, data, lines)

    def _read_cells(self, data: bytes) -> Summary:
        """The columns of the chunk that was cut into cells."""
        assert self.cells
        parsed = _Parsed(self.cells.rows, self.layout)
        wanted = [self._wanted(index) for index in range(len(self.types))]
        columns = self.cells.read(wanted, [self._destination(parsed, each) for each in wanted])
        return self._summary(parsed, columns, data, self.cells.lines)

    def _destination(self, parsed: _Parsed, wanted: Wanted) -> npt.NDArray[Any] | None:
        """Where the compiled code writes a column."""
        place = self.place[wanted.index]
        values: npt.NDArray[Any] | None = None
        if wanted.kind in ("numbers", "dates"):
            values = parsed.values[place]
        elif wanted.kind == "codes" and self.types[wanted.index].numeric:
            values = np.empty(parsed.rows, np.int32)  # of a column of booleans
        elif wanted.kind == "codes":
            values = parsed.codes[place]
        return values

    def _summary(self, parsed: _Parsed, columns: Sequence[Any], data: bytes, lines: int) -> Summary:
        """Take in columns, but those of numbers that are in their place already (``None``)."""
        self.parsed = parsed
        summary = Summary(parsed.rows, lines)
        for index, column in enumerate(columns):
            if column is not None:
                self._store(index, column, data, summary)
        self._learn(columns, summary)
        if parsed.rows:
            summary.numeric = parsed.facts(self.multipliers)
            summary.unfit = self._infinite(summary.numeric, data)
        return summary

    def _wanted(self, index: int) -> Wanted:
        column = self.types[index]
        if column.kind in ("category", "boolean") and index not in self.closed:
            return Wanted(index, "codes")
        if column.kind == "number" and index not in self.as_texts:
            return Wanted(index, "numbers", column.style.decimal)
        if column.kind == "date" and not column.missing and not swapped_format(column.format):
            layouts = layouts_of(column.format)
            if layouts is not None:
                return Wanted(index, "dates", layouts=layouts)
        return Wanted(index, "texts")

    def _gaps(self, data: bytes, lines: int, rows: int) -> list[tuple[int, int]] | None:
        """Where rows and lines part; ``None`` where finding out would take long."""
        newline = b"\r" if self.dialect.newline == "\r" else b"\n"
        extra = lines + (not data.endswith(newline)) - rows
        if extra == 0:
            return []
        if not 0 < extra <= MAX_GAPS:
            return None
        before = self._record_lines(data)
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
        return chunk.data if chunk.data is not None else _read_range(self.path, chunk)

    def texts(
        self, chunk: chunks.Chunk, *, blank_rows: bool = True
    ) -> tuple[list[Any], bytes, RowFault | None]:
        """The cells of a chunk as Arrow arrays of strings, the chunk in canonical form, and what
        is wrong with it. `parse` leaves rows without any value out: ``blank_rows=False``."""
        data = chunks.with_one_line_end(self._bytes(chunk), self.dialect)
        fault = self._not_utf8(data)
        if fault:
            return [], data, fault
        data, delimiter, fault = self._canonical(data)
        if fault:
            return [], data, fault
        wanted = [Wanted(index, "texts") for index in range(len(self.types))]
        columns, unread = self.arrow.read(data, delimiter, wanted)
        if not blank_rows and (unread or all(map(_has_blank, columns))):
            data, _ = chunks.without_blank_rows(data, self.dialect)
            columns, unread = self.arrow.read(data, delimiter, wanted)
        return columns, data, self._unreadable(data, unread) if unread else None

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

    def _unreadable(self, data: bytes, why: Ragged | Exception) -> RowFault:
        if not isinstance(why, Ragged):
            last = chunks.count_lines(data, self.dialect)
            return RowFault(max(0, last - 1), f"cannot be read ({why})", "Look at that line.")
        expected = len(self.types)
        lines = self._record_lines(data)
        line = int(lines[min(why.record, len(lines) - 1)]) if len(lines) else 0
        fields = "field" if why.fields == 1 else "fields"
        return RowFault(
            line,
            f"has {why.fields} {fields} where {expected} are expected",
            "Mend or remove that line; check its separators and quotes.",
        )

    # -- columns --

    def _learn(self, columns: Sequence[Any], summary: Summary) -> None:
        """Which columns of numbers are from now on read as texts at once: of those that were not
        converted those with odd cells or, where none has any, all."""
        import pyarrow as pa

        failed = {
            index
            for index, column in enumerate(columns)
            if self.types[index].kind == "number"
            and column is not None
            and not pa.types.is_floating(column.type)
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
        if isinstance(column, Codes):
            values, bad = self._booleans(index, column)
        elif pa.types.is_floating(column.type):
            self.parsed.set_numbers(self.place[index], column)
            return
        else:
            values, bad = self._converted(index, column, summary)
        if bad.any():
            texts = column.whole() if isinstance(column, Codes) else column
            summary.odd[index] = self._odd(texts, bad, data)
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

    def _booleans(self, index: int, column: Codes) -> tuple[Any, Any]:
        each = self.types[index]
        words = {each.false.lower(): 0.0, each.true.lower(): 1.0}
        levels = [text_level(text, each.missing) for text in column.texts.to_pylist()]
        values = [words.get(level.lower(), np.nan) if level else np.nan for level in levels]
        odd = [level is not None and level.lower() not in words for level in levels]
        return np.array(values)[column.codes], np.array(odd)[column.codes]

    def _record_lines(self, data: bytes) -> npt.NDArray[np.int64]:
        """`chunks.record_lines`, worked out once for all columns."""
        if self.known_lines is None or self.known_lines[0] is not data:
            self.known_lines = data, chunks.record_lines(data, self.dialect, len(self.types))
        return self.known_lines[1]

    def _infinite(self, facts: NumericFacts, data: bytes) -> list[RowFault]:
        """The rows with an infinite number, each with the first column that has one."""
        columns = np.flatnonzero(np.isinf(facts.minimum) | np.isinf(facts.maximum))
        if not len(columns):
            return []
        assert self.parsed is not None
        infinite = np.isinf(self.parsed.values[columns])
        lines = self._record_lines(data)
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
        lines = self._record_lines(data)
        words: Counter[str] = Counter(texts[int(row)].as_py().strip() for row in rows[:100_000])
        examples = [
            (int(lines[row]), texts[int(row)].as_py()[:200]) for row in rows[:MAX_BAD_EXAMPLES]
        ]
        return OddCells(len(rows), examples, words.most_common(MAX_BAD_WORDS + 1))

    def _store_texts(self, index: int, column: Any, summary: Summary) -> None:
        assert self.parsed is not None
        place, missing = self.place[index], self.types[index].missing
        multiplier = hashing.multiplier(index)
        if not isinstance(column, Codes):  # levels are of no interest any more
            texts, gone = trimmed_texts(column, missing)
            summary.levels[index] = ([], [], int(gone.sum()))
            bits = hashing.text_hashes(texts)
            bits[gone] = hashing.MISSING
            self.parsed.hashes += hashing.mixed(bits, multiplier)
            self.parsed.codes[place] = -1
            return
        levels = self.levels[index].read(column.texts)
        # Of each text of the column, where it stands in a table of "no value" and then the levels.
        places = np.arange(len(column.texts)) if levels.codes is None else levels.codes
        places = places + 1
        counts = np.zeros(len(levels.hashes) + 1, np.int64)
        np.add.at(counts, places, column.counts)
        if levels.texts is None:
            summary.without_levels.append(index)
            if len(levels.hashes) <= MAX_LEVELS_KEPT:
                summary.long_texts.append(index)
            summary.levels[index] = ([], [], int(counts[0]))
        else:
            summary.levels[index] = (levels.texts, counts[1:].tolist(), int(counts[0]))
        bits = np.append(hashing.MISSING, levels.hashes)
        hashes = hashing.mixed(bits, multiplier).take(places)
        self.parsed.set_texts(place, column.codes, places, hashes)


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
    """Whether the numbers of a column are not plainly written."""
    return bool(column.missing or column.style.thousands or column.style.framed)


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
        self.values: npt.NDArray[np.float64] = (
            whole[first:second].view(np.float64).reshape(len(layout.numeric), rows)
        )
        self.codes: npt.NDArray[np.int32] = (
            whole[second:].view(np.int32).reshape(len(layout.texts), rows)
        )
        self.places: dict[int, Any] = {}  # of columns of texts: see `set_texts`
        self.hashes[:] = hashing.SEED

    def set_numbers(self, place: int, column: Any) -> None:
        """Set a column of numbers from a chunked Arrow array of them."""
        start = 0
        for piece in column.chunks:
            part = piece.to_numpy(zero_copy_only=False)
            self.values[place, start : start + len(part)] = part
            start += len(part)

    def set_texts(self, place: int, codes: Any, places: Any, hashes: hashing.Hashes) -> None:
        """Set a column of texts, given as codes of the chunk's different texts, of which ``places``
        (n_texts,) tells where each stands in a table of "no value" and then the chunk's levels.
        Add the hashes of its cells, given for each text, to their rows."""
        if not np.shares_memory(self.codes[place], codes):
            self.codes[place] = codes
        self.places[place] = places
        self.hashes += hashes.take(codes)

    def set_codes(self, place: int, codes: Sequence[int]) -> None:
        """Give the cells of a column of texts the file's codes of the chunk's levels instead."""
        places = self.places.get(place)
        if places is not None:
            table = np.array([-1, *codes], np.int32) if codes else np.full(len(places) + 1, -1)
            self.codes[place] = table.take(places).astype(np.int32).take(self.codes[place])

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
