"""Whole columns of a chunk, read by `pyarrow`: what the compiled reader of cells refuses.

Its reader is strict about the width of rows, and it is used on one thread: processes are the
parallelism, and memory stays flat. A chunk that does not convert as a whole is read again as
texts, whose cells are then judged one by one.
"""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from regatta.ingest.cells import Codes, Wanted
from regatta.ingest.values import missing_spellings

# Columns from which a file counts as wide.
WIDE = 300
# Failures, less successes, after which the fastest way is not tried any more.
PLAIN_FAILURES = 3


@dataclass(frozen=True)
class _Way:
    """A way of having Arrow read a chunk, from the fastest to the most lenient."""

    typed: bool
    # Whether all words for "no value" are known, not the blank cell alone.
    all_missing: bool = True


_PLAIN = _Way(typed=True, all_missing=False)
_TYPED = _Way(typed=True)
_TEXTS = _Way(typed=False)


@dataclass(frozen=True)
class Ragged:
    """The first record of another width, and the fields it has."""

    record: int
    fields: int


class ArrowReader:
    """Reads the chunks of one file."""

    def __init__(self, quote: str) -> None:
        import pyarrow as pa

        pa.set_memory_pool(pa.system_memory_pool())
        self.quote = quote
        self.plain = PLAIN_FAILURES

    def read(
        self, data: bytes, delimiter: str, wanted: Sequence[Wanted]
    ) -> tuple[list[Any], Ragged | Exception | None]:
        """The columns of a canonical chunk, and why they are not right if they are not.

        Returns
        -------
        columns : list of pyarrow.ChunkedArray, pyarrow.Array or Codes
            Numbers as chunked float64 (they are copied anyway), `Codes`, or strings in one piece:
            these for ``numbers``, too, where Arrow cannot convert them.
        """
        import pyarrow as pa

        decimal = _common_decimal(wanted)
        if data[:1] in b"\r\n" and not data.strip(b"\r\n"):
            empty = [pa.chunked_array([], _type(each, _TYPED, decimal)) for each in wanted]
            return [_whole(column) for column in empty], None
        # Arrow takes "nan(x)" for no value, and drops a mark of the byte order.
        typed = b"nan(" not in data.lower()
        if data.startswith(BOM_UTF8):
            data = BOM_UTF8 + data
        if self.plain and typed:
            try:
                columns, ragged = self._read(data, delimiter, wanted, _PLAIN)
            except pa.ArrowInvalid:
                self.plain -= 1
            else:
                if ragged is None:
                    self.plain = min(self.plain + 1, PLAIN_FAILURES)
                    return columns, None
        fault = None
        for way in (_TYPED, _TEXTS) if typed else (_TEXTS,):
            try:
                return self._read(data, delimiter, wanted, way)
            except pa.ArrowInvalid as error:
                fault = error
        return [], fault

    def _read(
        self, data: bytes, delimiter: str, wanted: Sequence[Wanted], way: _Way
    ) -> tuple[list[Any], Ragged | None]:
        import pyarrow as pa
        from pyarrow import csv

        ragged: list[Ragged] = []
        blank = 0

        def unfit(row: Any) -> str:
            nonlocal blank
            if row.actual_columns == 1 and not row.text.strip():
                blank += 1
            elif not ragged:
                ragged.append(Ragged((row.number or 1) - 1 - blank, row.actual_columns))
            return "skip"

        decimal = _common_decimal(wanted)
        types = {str(each.index): _type(each, way, decimal) for each in wanted}
        table = csv.read_csv(
            pa.BufferReader(data),
            read_options=csv.ReadOptions(
                use_threads=False, block_size=len(data) + 1, column_names=[*types]
            ),
            parse_options=csv.ParseOptions(
                delimiter=delimiter,
                quote_char=self.quote or False,
                newlines_in_values=bool(self.quote) and self.quote.encode() in data,
                invalid_row_handler=unfit,
            ),
            convert_options=csv.ConvertOptions(
                column_types=types,
                null_values=missing_spellings(len(types) > WIDE) if way.all_missing else [""],
                strings_can_be_null=False,
                decimal_point=decimal,
                check_utf8=False,  # the whole chunk was checked
            ),
        )
        return [_whole(column) for column in table.columns], ragged[0] if ragged else None


def _common_decimal(wanted: Sequence[Wanted]) -> str:
    """The decimal mark that Arrow is to know; columns with the other one are read as texts."""
    commas = sum(each.kind == "numbers" and each.decimal == "," for each in wanted)
    points = sum(each.kind == "numbers" and each.decimal == "." for each in wanted)
    return "," if commas > points else "."


def _type(wanted: Wanted, way: _Way, decimal: str) -> Any:
    import pyarrow as pa

    if wanted.kind == "codes":
        return pa.dictionary(pa.int32(), pa.string())
    if wanted.kind == "numbers" and way.typed and wanted.decimal == decimal:
        return pa.float64()
    return pa.string()


def _whole(column: Any) -> Any:
    """A chunked array in one piece, but for numbers, which are copied anyway."""
    import pyarrow as pa

    if pa.types.is_floating(column.type):
        return column
    whole = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    if not pa.types.is_dictionary(column.type):
        return whole
    codes = whole.indices.to_numpy(zero_copy_only=False)
    return Codes(codes, whole.dictionary, np.bincount(codes, minlength=len(whole.dictionary)))
