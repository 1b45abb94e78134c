"""Values as the cells of a CSV file that any reader takes back, and no spreadsheet runs.

Numbers are the shortest texts that read back as the same float64, whole ones without a point;
dates are ISO 8601; texts are quoted where they hold anything that a reader might cut at.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from regatta.utils import UserError

# A spreadsheet takes a cell that starts like this for a formula, and runs it.
FORMULA_STARTS = frozenset("=+-@\t\r")
PACKED_SUFFIXES = (".gz", ".bz2", ".xz", ".zip")
# Signs and digits in any style of writing numbers, or signs alone.
HARMLESS = re.compile(
    r"[+-]?[\d.,'\u00a0\u202f ]*\d[\d.,'\u00a0\u202f ]*(?:[eE][+-]?\d+)?\s*%?|[-–—]+"
)
# Separators and quotes of any dialect, comment marks and ``sep=``: whoever guesses how the file is
# written must not be led astray by a text in it.
_SEPARATING = re.compile(r"[,;\t|^~\"'\r\n\f\v\x1c-\x1e\x85\u2028\u2029]|^[#%/\ufeff]|^sep=", re.I)
# Beyond, whole numbers are not exact, and numbers with an exponent are easier to read.
LARGEST_WHOLE = 2.0**53

FloatArray = npt.NDArray[np.float64]


def check_output(out: Path, source: Path) -> None:
    """Refuse a file that cannot be written, or that is the one to be read."""
    if out.exists() and source.exists() and out.samefile(source):
        raise UserError(f"{str(out)!r} is the file to read from.", "Write to another one.")
    if out.suffix.lower() in PACKED_SUFFIXES:
        raise UserError(f"{str(out)!r} would hold plain CSV.", "Name it .csv, and pack it then.")
    if out.is_dir():
        raise UserError(f"{str(out)!r} is a folder.", "Name a file to write.")
    if not out.absolute().parent.is_dir():
        raise UserError(f"There is no folder {str(out.parent)!r}.", "Make it first.")


def defused(cell: str) -> str:
    """``cell``, with a leading apostrophe if a spreadsheet would take it for a formula."""
    if cell[:1] in FORMULA_STARTS and not HARMLESS.fullmatch(cell):
        return "'" + cell
    return cell


def text_cell(text: str, *, alone: bool = False) -> str:
    """A text as a cell: defused, and quoted where needed.

    ``alone``: in a table of one column even a blank may be taken for a separator.
    """
    safe = defused(text)
    if _SEPARATING.search(safe) or (alone and " " in safe):
        return '"' + safe.replace('"', '""') + '"'
    return safe


def number_cells(values: FloatArray) -> Any:
    """Numbers as an Arrow array of strings, null for NaN."""
    import pyarrow as pa
    import pyarrow.compute as pc

    whole = (np.rint(values) == values) & (np.abs(values) < LARGEST_WHOLE)
    integers = pa.array(np.where(whole, values, 0.0).astype(np.int64)).cast(pa.string())
    if whole.all():
        return integers
    # Arrow writes an exponent from a thousand millions on, which looks odd in an amount.
    large = ~whole & (np.abs(values) >= 1e9)
    others = pa.array(np.where(whole, 0.0, values), from_pandas=True).cast(pa.string())
    cells = pc.if_else(pa.array(whole), integers, others)
    if large.any():
        written = pa.array([repr(value) for value in values[large].tolist()], pa.string())
        cells = pc.replace_with_mask(cells, pa.array(large), written)
    return cells


def date_cells(seconds: FloatArray, *, timed: bool) -> Any:
    """Seconds since 1970 as an Arrow array of ISO 8601 dates, with a time if ``timed``."""
    import pyarrow as pa

    present = ~np.isnan(seconds)
    micros = np.rint(np.where(present, seconds, 0.0) * 1e6).astype(np.int64)
    moments = micros.astype("datetime64[us]")
    if not timed:
        texts = np.datetime_as_string(moments, unit="D")
    else:
        texts = np.datetime_as_string(moments, unit="s")
        fractional = micros % 1_000_000 != 0
        if fractional.any():
            exact = np.datetime_as_string(moments, unit="us")
            texts = np.where(fractional, exact, texts)
    return pa.array(texts.tolist(), pa.string(), mask=~present)
