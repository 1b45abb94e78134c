"""A sample of a file, which tells how to read it: of what type each column seems to be, how large
chunks may be and how many processes there is memory for.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from regatta.ingest.chunks import CHUNK_BYTES
from regatta.ingest.column_type import MAX_LEVELS_KEPT, ColumnType
from regatta.ingest.columns import infer
from regatta.ingest.dialect import Dialect, read_records
from regatta.ingest.overrides import ColumnRule
from regatta.ingest.parsing import Layout
from regatta.ingest.sniffing import Sniffed
from regatta.ingest.source import Source

SAMPLE_CELLS = 400_000
WINDOW_BYTES = 1 << 16

# All processes together are to hold less than 500 MB, and those that parse so much of it: the rest
# is for what they share and for the importing process (docs/decisions/0025).
CHILDREN_BYTES = 400 << 20
# What one of them holds for itself, measured: always; for each column of texts; for each cell of a
# chunk; for each text that is new in it, more if the importing process is to know it as a level.
# The values of so many chunks wait to be written.
CHILD_BYTES, TEXT_COLUMN_BYTES, CELL_BYTES = 6 << 20, 10 << 10, 4
NEW_TEXT_BYTES, NEW_LEVEL_BYTES = 190, 400
CHUNKS_HELD = 4
LEAST_CHUNKS = 3  # of a chunk's size, whatever the cells are
MAX_PROCESSES = CHILDREN_BYTES // (CHILD_BYTES + LEAST_CHUNKS * CHUNK_BYTES)
# With all that, a chunk may take so much; if it would take more, it is smaller, but for some rows.
# A chunk of a wide file is larger, as it costs something for each column.
CHUNK_MEMORY, LEAST_ROWS = 52 << 20, 250
WIDE_COLUMNS, WIDE_CHUNK = 2_000, 2


@dataclass(frozen=True)
class Plan:
    """How a file is read: in chunks of so many bytes, by at most so many processes."""

    chunk_bytes: int
    processes: int


@dataclass(frozen=True)
class Sample:
    """Cells of some rows, by column, (n_columns, n_rows); and the mean length of a row in bytes."""

    columns: Sequence[Sequence[str]]
    row_bytes: float

    @classmethod
    def of(cls, source: Source, sniffed: Sniffed) -> Sample:
        """From the head, the middle and the tail of the file."""
        width = len(sniffed.dialect.names)
        records = sniffed.records + _windows(source, sniffed.dialect)
        most = max(20, SAMPLE_CELLS // width)
        records = [record for record in records if len(record) == width]
        if len(records) > most:
            records = records[:: len(records) // most + 1]
        columns = list(zip(*records, strict=True)) if records else [()] * width
        length = sum(map(len, (cell for record in records for cell in record)))
        return cls(columns, width + length / max(1, len(records)))

    def types(self, rules: Sequence[ColumnRule]) -> list[ColumnType]:
        """What the columns seem to hold; only the whole file can tell."""
        pairs = list(zip(self.columns, rules, strict=True))
        types = [infer(cells, rule=rule) for cells, rule in pairs]
        if any(each.kind == "number" and each.style.decimal == "," for each in types):
            types = [infer(cells, decimal_comma=True, rule=rule) for cells, rule in pairs]
        return types

    def plan(self, types: Sequence[ColumnType], chunk_bytes: int) -> Plan:
        """How to read columns of these types, if chunks are ``chunk_bytes`` long as a rule."""
        layout = Layout.of(types)
        rows = chunk_bytes / self.row_bytes
        memory = rows * (CHUNKS_HELD * layout.row_bytes + CELL_BYTES * len(types))
        for index in layout.texts:
            new = rows * _share_of_new(self.columns[index])
            memory += new * (NEW_LEVEL_BYTES if new <= MAX_LEVELS_KEPT else NEW_TEXT_BYTES)
        memory = chunk_bytes + max(memory, (LEAST_CHUNKS - 1) * chunk_bytes)
        factor = 1.0
        if memory > CHUNK_MEMORY:
            factor = min(1.0, max(CHUNK_MEMORY / memory, LEAST_ROWS / rows))
        elif len(types) > WIDE_COLUMNS and memory * WIDE_CHUNK <= CHUNK_MEMORY:
            factor = WIDE_CHUNK
        child = CHILD_BYTES + TEXT_COLUMN_BYTES * len(layout.texts) + factor * memory
        return Plan(int(factor * chunk_bytes), max(1, int(CHILDREN_BYTES // child)))


def _share_of_new(cells: Sequence[str]) -> float:
    """How many of further cells will hold a text that did not come up before: as many as of these
    hold one that comes up once (Good and Turing)."""
    return sum(count == 1 for count in Counter(cells).values()) / max(1, len(cells))


def _windows(source: Source, dialect: Dialect) -> list[list[str]]:
    """Records from the middle and the end of a plain file, as far as they can be told apart."""
    size = source.path.stat().st_size
    if not source.direct or size < 4 * WINDOW_BYTES or dialect.newline == "\r":
        return []
    records: list[list[str]] = []
    with source.path.open("rb") as file:
        for place in (size // 3, 2 * size // 3, size - WINDOW_BYTES):
            data = os.pread(file.fileno(), WINDOW_BYTES, max(place, dialect.offset))
            lines = data.decode("utf-8", "replace").splitlines(keepends=True)[1:-1]
            found, _ = read_records(
                lines, dialect.delimiter, dialect.quote, dialect.escape, dialect.runs
            )
            records += found[1:-1]
    return records
