"""What a person sees: sentences, tables, numbers; or one JSON object. Results go to stdout, all
else to stderr."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

from regatta.cli import DEBUG_VARIABLE, progress
from regatta.utils import RegattaError, configure_logging, finite


def debugging() -> bool:
    """Whether the user wants to see tracebacks and the whole log."""
    return os.environ.get(DEBUG_VARIABLE, "") not in ("", "0")


def configure_log() -> None:
    """Warnings go to stderr, past the progress bar. A run's own log has everything."""
    configure_logging(logging.DEBUG if debugging() else logging.INFO)
    for handler in logging.getLogger("regatta").handlers:
        handler.addFilter(_clear_bar)
        if not debugging():
            handler.setLevel(logging.WARNING)
            # Why a run failed is what the command itself says at the end.
            handler.addFilter(lambda record: record.levelno < logging.ERROR)


def _clear_bar(_: logging.LogRecord) -> bool:
    progress.clear_line()
    return True


def print_json(value: Any) -> None:
    """The one object that ``--json`` promises."""
    print(json.dumps(finite(value), ensure_ascii=False, allow_nan=False))


def show_error(error: RegattaError, *, as_json: bool) -> None:
    """Tell what happened, where, and what to do; with ``--json`` on stdout."""
    progress.clear_line()
    if debugging():
        traceback.print_exception(error)
    if as_json:
        print_json({"error": error.to_json()})
        return
    place = _place(error)
    say_aside(f"{error.message.rstrip('.')}{place}." if place else error.message)
    if len(error.rejected) > 1:
        print("  Rows that cannot be read:", file=sys.stderr)
        for each in error.rejected:
            print(f"    {reject(each)}", file=sys.stderr)
    if error.hint:
        print(f"  {error.hint}", file=sys.stderr)


def reject(row: Mapping[str, Any]) -> str:
    """A row that cannot be read, and why."""
    column = f", column {row['column']!r}," if row.get("column") else ""
    return shortened(f"line {row['row']}{column} {row['reason']}", 300)


def unexpected(error: Exception) -> RegattaError:
    """An error that no sentence was written for: the system's own words, or the bare fact."""
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        hint = "Make room and try again." if error.errno == errno.ENOSPC else ""
        wrapped = RegattaError(f"{where}{error.strerror}.", hint)
    else:
        wrapped = RegattaError(
            f"Something unforeseen happened: {type(error).__name__}: {error}.",
            f"Set {DEBUG_VARIABLE}=1 to see where.",
        )
    wrapped.__cause__ = error
    return wrapped


def say_aside(text: str) -> None:
    """A line for the person, not part of the result."""
    progress.clear_line()
    print(f"regatta: {text}", file=sys.stderr)


def _place(error: RegattaError) -> str:
    """Row and column, where the sentence does not name them itself."""
    parts = []
    if error.row is not None and str(error.row) not in error.message.replace(",", ""):
        parts.append(f"line {error.row}")
    if error.column is not None and error.column not in error.message:
        parts.append(f"column {error.column!r}")
    return f" ({', '.join(parts)})" if parts else ""


def table(rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    """Rows of cells as aligned lines; the columns in ``right`` are aligned on that side."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if index in right else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def width_of_lines() -> int:
    """How wide a line of a table may be: as the terminal is; what is piped is not cut."""
    return max(shutil.get_terminal_size().columns, 60) if sys.stdout.isatty() else 1000


def number(value: float | None, digits: int = 4) -> str:
    """A figure with ``digits`` significant digits: 0.6401, 68,900, 1.2e-07."""
    if value is None or value != value:
        return "–"
    if value == 0:
        return "0"
    size = abs(value)
    if 1e-4 <= size < 1000:
        return f"{value:.{digits}g}"
    if size < 1e12 and size >= 1:
        scale = 10 ** max(len(str(int(size))) - digits, 0)
        return f"{round(value / scale) * scale:,}"
    return f"{value:.{digits - 1}e}"


def duration(seconds: float | None) -> str:
    """A time span: 0.42 s, 12 s, 3 min 05 s, 2 h 10 min."""
    if seconds is None:
        return "–"
    if seconds < 9.95:
        return f"{seconds:.2g} s" if seconds < 1 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def rate(rows_per_second: float | None) -> str:
    """Rows a second: 950, 12.3k, 31.0M."""
    if rows_per_second is None:
        return "–"
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if rows_per_second >= 0.9995 * size:
            return f"{rows_per_second / size:.3g}{letter}"
    return f"{rows_per_second:.0f}"


def size(count: float) -> str:
    """Bytes: 950 B, 12 MB, 1.3 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def shortened(text: str, width: int) -> str:
    """``text`` in one line of at most ``width`` characters, nothing a terminal would obey."""
    line = "".join(letter if letter.isprintable() else " " for letter in text)
    return line if len(line) <= width else line[: width - 1] + "…"
