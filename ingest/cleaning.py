"""A file written anew as it was read: UTF-8, commas, double quotes, decimal points, ISO dates.

    parsed columns ────────────┐
                               ├──▶ cells ──▶ rows, a group at a time ──▶ written aside, renamed
    file, read again as texts ─┘
    (columns whose texts were not all kept, or that were refused)

What is written reads back as the same table, and writing that gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from regatta.ingest import chunks
from regatta.ingest.column_type import ColumnType
from regatta.ingest.dates import ISO, has_time
from regatta.ingest.parsing import ChunkParser
from regatta.ingest.rereading import BATCH_BYTES
from regatta.ingest.source import open_source, stream_text
from regatta.ingest.table import ParsedColumn, ParsedTable
from regatta.ingest.values import is_missing, text_level
from regatta.ingest.writing import check_output, date_cells, defused, number_cells, text_cell
from regatta.utils import DataError, atomic_path

# A row of blank cells alone would be left out when it is read.
NOTHING = "NA"


@dataclass(frozen=True)
class Cleaned:
    """What was written: rows, and cells that got an apostrophe so that no spreadsheet runs them."""

    rows: int
    defused: int


def write_clean(
    table: ParsedTable, out: Path, progress: Callable[[int, int], None] | None = None
) -> Cleaned:
    """Write a table as a canonical CSV file.

    Cells of a column of numbers or dates that were taken as missing are blank.

    Parameters
    ----------
    progress : callable, optional
        Told the number of rows written so far, and of all.

    Raises
    ------
    UserError
        If ``out`` is the table's file or cannot be written.
    DataError
        If the file was changed since it was read.
    """
    check_output(out, Path(table.path))
    cells = _Cells(alone=len(table.columns) == 1)
    written = 0
    with table.hold(), atomic_path(out) as aside, aside.open("wb") as file:
        file.write((",".join(map(cells.text, table.names)) + "\n").encode())
        reread = _Reread(table)
        for group, count in zip(table.groups, table.group_rows, strict=True):
            texts = reread.take(count)
            columns = [
                cells.reread(table, group, column, texts[column.index])
                if column.index in texts
                else cells.kept(table, group, column)
                for column in table.columns
            ]
            file.write(_lines(columns))
            written += count
            if progress is not None:
                progress(written, table.rows)
        reread.finish()
    return Cleaned(table.rows, cells.defused)


def _lines(cells: Sequence[Any]) -> bytes:
    """Columns of cells as the rows of a file."""
    import pyarrow as pa
    import pyarrow.compute as pc

    filled = [pc.fill_null(column, "") for column in cells]
    lines = pc.binary_join_element_wise(*filled, ",") if len(filled) > 1 else filled[0]
    blank = pc.equal(lines, "," * (len(cells) - 1))
    lines = pc.if_else(blank, pc.binary_join_element_wise(pa.scalar(NOTHING), lines, ""), lines)
    return ("\n".join(lines.to_pylist()) + "\n").encode()


class _Cells:
    """Makes the cells of columns, as Arrow arrays of strings; null is a blank cell.

    ``alone``: of the only column. ``defused`` counts the cells that got an apostrophe.
    """

    def __init__(self, *, alone: bool) -> None:
        self.alone = alone
        self.defused = 0

    def text(self, text: str) -> str:
        self.defused += defused(text) != text
        return text_cell(text, alone=self.alone)

    def kept(self, table: ParsedTable, group: int, column: ParsedColumn) -> Any:
        """The cells of a group of rows, from the parsed column."""
        if column.type.kind == "category":
            return self._taken(column.levels, table.codes(group, column))
        values = table.numbers(group, column)
        if column.type.kind == "boolean":
            codes = np.where(np.isnan(values), -1, values).astype(np.int32)
            return self._taken((column.type.false, column.type.true), codes)
        if column.type.kind == "date":
            return date_cells(values, timed=has_time(column.type.format))
        return number_cells(values)

    def _taken(self, words: Sequence[str], codes: Any) -> Any:
        """The words that codes stand for; null for -1."""
        import pyarrow as pa

        dangerous = np.array([*(defused(word) != word for word in words), False])
        if dangerous.any():
            self.defused += int(dangerous[codes].sum())
        places = pa.array(codes, pa.int32(), mask=codes < 0)
        cells = [text_cell(word, alone=self.alone) for word in words]
        return pa.array(cells, pa.string()).take(places)

    def reread(self, table: ParsedTable, group: int, column: ParsedColumn, texts: Any) -> Any:
        """The cells of a group of rows, with ``texts`` from the file where the parsed column has
        none: all of them, or those that do not fit its type."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if column.type.kind == "category":
            words = [_word(text, column) for text in texts.to_pylist()]
            cells = [None if word is None else self.text(word) for word in words]
            return pa.array(cells, pa.string())
        kept = self.kept(table, group, column)
        absent = np.flatnonzero(kept.is_null().to_numpy(zero_copy_only=False))
        found = zip(absent.tolist(), texts.take(pa.array(absent)).to_pylist(), strict=True)
        odd = {row: word for row, text in found if (word := _word(text, column)) is not None}
        mask = np.zeros(len(texts), bool)
        mask[list(odd)] = True
        written = pa.array([self.text(word) for word in odd.values()], pa.string())
        return pc.replace_with_mask(kept, pa.array(mask), written)


def _word(text: str, column: ParsedColumn) -> str | None:
    """What a cell says, ``None`` if it is missing in that column."""
    worded = column.type.kind in ("category", "boolean")
    word = text_level(text) if worded or not is_missing(text) else None
    return None if word is None or word in column.type.missing else word


# -- texts that were not kept ---------------------------------------------------------------------


def first_words(table: ParsedTable, rows: int) -> dict[int, list[str | None]]:
    """What the first cells say in columns whose parsed ones do not hold that: by the column's
    index, ``None`` where a cell says nothing.

    Raises
    ------
    DataError, OSError
        If the file was changed since it was read, or is gone.
    """
    texts = _Reread(table).take(rows)
    return {
        index: [_word(text, table.columns[index]) for text in column.to_pylist()]
        for index, column in texts.items()
    }


def is_reread(table: ParsedTable, column: ParsedColumn) -> bool:
    """Whether the parsed column does not hold all that its cells say."""
    overflow = column.type.kind == "category" and not column.levels
    return bool(column.refused) or (overflow and column.missing < table.rows)


def _text_batches(table: ParsedTable, places: Sequence[int]) -> Iterator[Any]:
    """The texts of some columns of the table's file, in the order of its rows."""
    import pyarrow as pa

    source, _ = open_source(Path(table.path), table.dialect.encoding)
    source = replace(source, patches=table.patches)
    texts_alone = [ColumnType("date", format=ISO)] * len(table.columns)
    parser = ChunkParser(table.path, table.dialect, texts_alone)
    start = source.mark if source.direct else 0
    blocks = stream_text(source, BATCH_BYTES)
    for chunk in chunks.split(blocks, table.dialect, size=BATCH_BYTES, start=start):
        texts, _, fault = parser.texts(chunk, blank_rows=False)
        if fault:
            raise DataError(f"{table.name!r} was changed since it was read.", "Try again.")
        if texts and len(texts[0]):
            yield pa.record_batch({str(place): texts[place] for place in places})


class _Reread:
    """The texts of some columns of a file that was parsed, read again in the order of its rows."""

    def __init__(self, table: ParsedTable) -> None:
        self.table = table
        self.places = [each.index for each in table.columns if is_reread(table, each)]
        self.batches = _text_batches(table, self.places) if self.places else iter(())
        self.waiting: list[Any] = []

    def take(self, count: int) -> dict[int, Any]:
        """The next ``count`` cells of each of the columns, as Arrow arrays."""
        import pyarrow as pa

        if not (self.places and count):
            return {}
        while sum(each.num_rows for each in self.waiting) < count:
            batch = next(self.batches, None)
            if batch is None:
                raise self._changed()
            self.waiting.append(batch)
        together = pa.Table.from_batches(self.waiting)
        self.waiting = together.slice(count).to_batches()
        taken = together.slice(0, count).combine_chunks()
        return {place: taken.column(str(place)).combine_chunks() for place in self.places}

    def finish(self) -> None:
        """Check that no row is left."""
        if self.places and (self.waiting or next(self.batches, None) is not None):
            raise self._changed()

    def _changed(self) -> DataError:
        return DataError(f"{self.table.name!r} was changed since it was read.", "Try again.")
