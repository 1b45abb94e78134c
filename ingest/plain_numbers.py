"""Chunks that hold numbers alone, read as the JSON that they nearly are.

Lines of numbers between commas are the elements of a JSON array once their ends are commas, too,
and simdjson reads that sooner than a reader of separated values does. JSON's numbers
are plain (no blank cell, no sign ``+``, no leading zero, no word) and rounded correctly; where
anything else stands there is no answer, and the chunk is read in the usual way.

    1.5,2 ⏎ 3,-4 ⏎   ──▶   [1.5,2,END,3,-4,END,0]   ──▶   1.5  2  END
                                                           3   -4  END
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

# Stands at the end of every line, so that lines of unlike widths are noticed.
_END, _END_VALUE = b"-9e307", -9e307
# simdjson does not count the elements of an array beyond 2**24.
MAX_BYTES = 1 << 24


class NumberReader:
    """Reads chunks of one width; its buffers serve one after the other."""

    def __init__(self, width: int) -> None:
        import simdjson

        self.width = width
        self.parser: Any = simdjson.Parser()

    def read(self, data: bytes, delimiter: str) -> npt.NDArray[np.float64] | None:
        """The numbers (n_columns, n_rows) of a canonical chunk whose lines end with LF or CR LF;
        ``None`` if it is not all plain numbers in rows of the same width."""
        mark = delimiter.encode()
        if len(data) > MAX_BYTES or b"[" in data or (mark != b"," and b"," in data):
            return None
        text = data if mark == b"," else data.replace(mark, b",")
        text = text.replace(b"\n", b"," + _END + b",")
        end = b"0]" if data.endswith(b"\n") else b"," + _END + b",0]"
        text = b"".join((b"[", text, end))
        try:
            # What the parser has read lives in it only until it reads again.
            read = self.parser.parse(text).as_buffer(of_type="d")
        except (ValueError, TypeError, RuntimeError):
            return None
        cells = np.frombuffer(read, np.float64)[:-1]
        rows, left = divmod(len(cells), self.width + 1)
        if left or np.count_nonzero(cells == _END_VALUE) != rows:
            return None
        table = cells.reshape(rows, self.width + 1)
        return table[:, :-1].T if (table[:, -1] == _END_VALUE).all() else None
