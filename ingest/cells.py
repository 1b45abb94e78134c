"""Chunks cut into cells, and whole columns converted, by compiled code (``cells.c``).

It takes what is written plainly and refuses everything else, which `pyarrow` then reads: rows of
another width, a line that ends with CR alone; or, column by column, numbers that are not all
plain. Both ways give the same columns; only the time differs.
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from regatta.ingest import dates
from regatta.ingest.dates import ISO
from regatta.ingest.values import MISSING_WORDS

LIBRARY = Path(__file__).with_name("_cells.so")

_NO_MEMORY = -2
_NUMBERS, _DATES, _TEXTS, _CODES = range(4)
_READ, _UNFIT, _OUT_OF_MEMORY = range(3)
_POWERS = range(-342, 309)


class _Column(ctypes.Structure):
    """``struct column`` of ``cells.c``."""

    _fields_ = (
        ("index", ctypes.c_int32),
        ("kind", ctypes.c_int32),
        ("point", ctypes.c_int32),
        ("state", ctypes.c_int32),
        ("out", ctypes.c_void_p),
        ("layouts", ctypes.c_void_p),
        ("n_layouts", ctypes.c_int64),
        ("texts", ctypes.c_void_p),
        ("different", ctypes.c_void_p),
        ("offsets", ctypes.c_void_p),
        ("counts", ctypes.c_void_p),
        ("count", ctypes.c_int64),
    )


@functools.cache
def _library() -> ctypes.CDLL | None:
    """The compiled code; ``None`` where it was not built, or for another version of this."""
    try:
        library = ctypes.CDLL(str(LIBRARY))
        library.cells_sizes.restype = ctypes.c_int64
        fits = library.cells_sizes() == ctypes.sizeof(_Column) << 16 | _LAYOUT.itemsize
    except (OSError, AttributeError):
        fits = False
    if not fits:
        return None
    pointer, whole, text, byte = (
        ctypes.c_void_p, ctypes.c_int64, ctypes.c_char_p, ctypes.c_uint8,
    )  # fmt: skip
    library.cells_new.argtypes = whole, pointer, text, ctypes.c_uint64
    library.cells_new.restype = pointer
    library.cells_free.argtypes = (pointer,)
    library.cells_free.restype = None
    library.cells_cut.argtypes = pointer, text, whole, byte, byte
    library.cells_cut.restype = whole
    for name, kind in ("lines", whole), ("ascii", ctypes.c_bool), ("nul", ctypes.c_bool):
        function = getattr(library, f"cells_{name}")
        function.argtypes, function.restype = (pointer,), kind
    library.cells_length.argtypes = pointer, whole
    library.cells_length.restype = whole
    library.cells_read.argtypes = pointer, pointer, whole
    library.cells_read.restype = None
    return library


def is_built() -> bool:
    """Whether the compiled code is there."""
    return _library() is not None


@functools.cache
def _powers_of_five() -> npt.NDArray[np.uint64]:
    """128 bits of each power of five from 5**-342 to 5**308, upper words first (n, 2): the first
    bits of those that are whole, a little more than the reciprocal for the others."""
    words = []
    for power in _POWERS:
        five = 5 ** abs(power)
        if power >= 0:
            value = five << 128 >> five.bit_length()
        else:
            bits = (five - 1).bit_length()
            value = (1 << (bits + 127)) // five + 1
        words.append((value >> 64, value & (1 << 64) - 1))
    return np.array(words, np.uint64)


_MISSING = b"".join(
    bytes([len(word.encode())]) + word.encode() for word in sorted(MISSING_WORDS) if word
)


_LONGEST_DATE = 32
# ``struct date_layout`` of ``cells.c``.
_LAYOUT = np.dtype(
    [("length", np.int32), ("tens", np.uint8, 7), ("ones", np.uint8, 7), ("fraction", np.uint8),
     ("n_fraction", np.uint8), ("expected", np.uint8, _LONGEST_DATE),
     ("within", np.uint8, _LONGEST_DATE), ("more", np.uint8, _LONGEST_DATE)], align=True,
)  # fmt: skip
# What each pair of digits is, going from the last one of a part backwards.
_PAIRS = {"%Y": (1, 0), "%y": (1,), "%m": (2,), "%d": (3,), "%H": (4,), "%M": (5,), "%S": (6,)}


@functools.cache
def layouts_of(date_format: str) -> npt.NDArray[np.void] | None:
    """The layouts of a format of dates; ``None`` if the compiled code does not know it, because it
    has names in it, a zone, or half days."""
    if date_format == ISO:
        return None
    found = []
    for layout in dates.date_layouts(date_format):
        if not layout.fields.keys() <= {*_PAIRS, "%f"} or layout.length > _LONGEST_DATE:
            return None
        entry = np.zeros((), _LAYOUT)
        entry["length"] = layout.length
        entry["within"][: layout.length] = 255
        entry["tens"] = entry["ones"] = _LONGEST_DATE  # not written
        for place, sign in layout.signs.items():
            entry["expected"][place], entry["more"][place] = sign, 15
        for name, at in layout.fields.items():
            entry["expected"][at], entry["more"][at] = ord("0"), 6
            if name == "%f":
                entry["fraction"], entry["n_fraction"] = at.start, at.stop - at.start
                continue
            ends = range(at.stop - 1, at.start - 1, -2)
            for pair, place in zip(_PAIRS[name], ends, strict=True):
                entry["ones"][pair] = place
                entry["tens"][pair] = place - 1 if place > at.start else _LONGEST_DATE
        found.append(entry)
    return np.stack(found)


@dataclass(frozen=True)
class Wanted:
    """What a column is to be read as: ``numbers``, ``dates`` in some layouts (`layouts_of`),
    ``texts``, or ``codes`` of different texts."""

    index: int
    kind: str
    decimal: str = "."
    layouts: npt.NDArray[np.void] | None = None


@dataclass(frozen=True)
class Codes:
    """A column as codes (n_rows,) of its different texts, a `pyarrow.StringArray` in the order in
    which they come up, and how often each does (n_texts,)."""

    codes: npt.NDArray[np.int32]
    texts: Any
    counts: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.codes)

    def whole(self) -> Any:
        """The column as an Arrow array."""
        import pyarrow as pa

        return pa.DictionaryArray.from_arrays(pa.array(self.codes), self.texts, safe=False)


class CellReader:
    """Reads chunks of one width; its buffers serve one after the other."""

    def __init__(self, width: int) -> None:
        library = _library()
        assert library is not None, f"{LIBRARY} is not there"
        self.library = library
        self.width = width
        self.data = b""
        self.powers = _powers_of_five()
        seed = int.from_bytes(os.urandom(8), "little")
        self.handle = library.cells_new(width, self.powers.ctypes.data, _MISSING, seed)
        if not self.handle:
            raise MemoryError
        self.rows = 0

    def __del__(self) -> None:
        if getattr(self, "handle", None):
            self.library.cells_free(self.handle)

    def cut(self, data: bytes, delimiter: str, quote: str) -> bool:
        """Cut a canonical chunk; whether it could be. Then there are ``rows``, ends of ``lines``,
        and ``ascii`` and ``nul`` tell whether no byte is above 127, and one is 0."""
        self.data = data  # `read` looks at it again, once
        quotes = ord(quote) if quote and quote.encode() in data else 0
        rows = self.library.cells_cut(self.handle, data, len(data), ord(delimiter), quotes)
        if rows == _NO_MEMORY:
            raise MemoryError
        self.rows = max(0, rows)
        self.lines: int = self.library.cells_lines(self.handle)
        self.ascii: bool = self.library.cells_ascii(self.handle)
        self.nul: bool = self.library.cells_nul(self.handle)
        return bool(rows >= 0)

    def read(self, wanted: Sequence[Wanted], into: Sequence[npt.NDArray[Any] | None]) -> list[Any]:
        """Columns of the chunk that was cut, which is let go of.

        Parameters
        ----------
        into : sequence of arrays (n_rows,)
            For each column of numbers or dates (float64) or codes (int32), where they go.

        Returns
        -------
        list
            ``None`` for numbers and dates that are in their place; `Codes`; else, and where numbers
            or dates are not all plainly written, Arrow arrays of strings.
        """
        if not self.rows:
            raise ValueError("a chunk without rows, or one that was read")
        found = self._read(wanted, into)
        self.data, self.rows = b"", 0
        return found

    def _read(self, wanted: Sequence[Wanted], into: Sequence[npt.NDArray[Any] | None]) -> list[Any]:
        columns = (_Column * len(wanted))()
        answers = [self._ask(*each) for each in zip(wanted, into, columns, strict=True)]
        self.library.cells_read(self.handle, ctypes.byref(columns), len(wanted))
        if any(column.state == _OUT_OF_MEMORY for column in columns):
            raise MemoryError
        found = [_answer(*each) for each in zip(columns, answers, strict=True)]
        unfit = [i for i, column in enumerate(columns) if column.state == _UNFIT]
        if unfit:
            texts = self._read(
                [Wanted(wanted[i].index, "texts") for i in unfit], [None] * len(unfit)
            )
            for i, column_of_texts in zip(unfit, texts, strict=True):
                found[i] = column_of_texts
        return found

    def _ask(self, wanted: Wanted, into: Any, column: _Column) -> tuple[Any, ...]:
        """Fill in a question; the arrays that the answer is written to."""
        column.index = wanted.index
        column.point = ord(wanted.decimal)
        if wanted.kind != "texts":
            dtype = np.int32 if wanted.kind == "codes" else np.float64
            if into.shape != (self.rows,) or into.dtype != dtype or not into.flags.c_contiguous:
                raise ValueError(f"column {wanted.index} has no place of its size and kind")
            column.out = into.ctypes.data
        if wanted.kind in ("numbers", "dates"):
            column.kind = _NUMBERS
            if wanted.layouts is not None:
                column.kind, column.layouts = _DATES, wanted.layouts.ctypes.data
                column.n_layouts = len(wanted.layouts)
            return ()
        if wanted.kind == "codes":
            column.kind = _CODES
            return (into,)
        offsets = np.empty(self.rows + 1, np.int32)
        texts = np.empty(self.library.cells_length(self.handle, wanted.index), np.uint8)
        column.kind, column.out, column.texts = _TEXTS, offsets.ctypes.data, texts.ctypes.data
        return offsets, texts


def _answer(column: _Column, arrays: tuple[Any, ...]) -> Any:
    if column.kind in (_NUMBERS, _DATES):
        return None
    if column.kind == _TEXTS:
        offsets, texts = arrays
        return _strings(offsets, texts[: offsets[-1]])
    offsets = _copy(column.offsets, (column.count + 1) * 4).view(np.int32)
    different = _strings(offsets, _copy(column.different, int(offsets[-1])))
    return Codes(arrays[0], different, _copy(column.counts, column.count * 8).view(np.int64))


def _copy(address: int, length: int) -> npt.NDArray[np.uint8]:
    return np.frombuffer(ctypes.string_at(address, length), np.uint8)


def _strings(offsets: Any, texts: Any) -> Any:
    import pyarrow as pa

    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(texts)]
    return pa.Array.from_buffers(pa.string(), len(offsets) - 1, buffers)
