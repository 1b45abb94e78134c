"""A text cut into chunks at ends of records, and the lines that records stand in.

A line end inside quotes ends no record. From the start of a record, a position lies outside
quotes if and only if an even number of quotes stands before it; that every quote really opens or
closes a cell is checked where the chunk is parsed, so a chunk that starts right ends right.
"""

from __future__ import annotations

import csv
import functools
import io
import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from regatta.ingest.dialect import Dialect, split_runs, unescape
from regatta.ingest.values import looks_numeric
from regatta.utils import DataError

CHUNK_BYTES = 4 << 20
MAX_RECORD_BYTES = 64 << 20


@dataclass(frozen=True)
class Chunk:
    """Whole records: the bytes themselves, or where they lie in the file."""

    index: int
    offset: int
    length: int
    data: bytes | None
    position: int  # bytes of the file that were read when it was cut, for progress


class Digest(Protocol):
    """What takes in bytes, as the objects of `hashlib` do."""

    def update(self, data: bytes | bytearray | memoryview, /) -> object: ...


class LongRow(DataError):
    """A row without an end, as far as one looks."""


def split(
    blocks: Iterable[tuple[bytes, int]], dialect: Dialect, *, size: int, start: int = 0
) -> Iterator[Chunk]:
    """Cut a stream of blocks into chunks.

    Parameters
    ----------
    blocks : iterable of (text, bytes of the file read so far)
        The text from its first byte; what lies before ``dialect.offset`` is left out.
    start : int
        Where in the file the text begins.
    """
    skip = dialect.offset
    carry = b""
    offset = start + skip
    index = position = 0
    for block, position in blocks:
        if skip:
            skip, block = max(0, skip - len(block)), block[skip:]
        if not block:
            continue
        data = carry + block if carry else block
        if len(data) < size:
            carry = data
            continue
        end = record_end(data, dialect)
        if not end:
            _refuse_long(len(data))
        carry = data[end:]
        if end:
            yield Chunk(index, offset, end, data[:end], position)
            index, offset = index + 1, offset + end
    if carry:
        yield Chunk(index, offset, len(carry), carry, position)


def cut(
    file: io.FileIO, dialect: Dialect, *, size: int, start: int, digest: Digest
) -> Iterator[Chunk]:
    """Cut the text that lies in a file as it is, from ``start`` on: `split` without the text.

    One buffer serves all chunks: touching new memory for each takes longer than reading it.

    Parameters
    ----------
    digest : hash object
        Takes in every byte from ``start`` to the end.
    """
    buffer = bytearray(dialect.offset)
    file.seek(start)
    digest.update(memoryview(buffer)[: _fill(file, buffer)])
    offset, index = start + dialect.offset, 0
    buffer = bytearray(size)
    while True:
        file.seek(offset)
        length = _fill(file, buffer)
        if length == len(buffer):
            end = record_end(buffer, dialect)
            if not end:
                _refuse_long(length)
                buffer = bytearray(2 * length)
                continue
        else:
            end = length
        if not end:
            return
        digest.update(memoryview(buffer)[:end])
        yield Chunk(index, offset, end, None, offset + length)
        index, offset = index + 1, offset + end
        if len(buffer) > size:  # for one long row
            buffer = bytearray(size)


def _fill(file: io.FileIO, buffer: bytearray) -> int:
    """Read as many bytes as there are and fit; how many that is."""
    view, length = memoryview(buffer), 0
    while more := file.readinto(view[length:]):
        length += more
    return length


def _refuse_long(length: int) -> None:
    if length >= MAX_RECORD_BYTES:
        raise LongRow(
            f"A row is longer than {MAX_RECORD_BYTES >> 20} MB.",
            "A quote may be open, or the line ends are missing.",
        )


def record_end(data: bytes | bytearray, dialect: Dialect) -> int:
    """The end of the last whole record in ``data``; 0 if there is none."""
    newline = b"\r" if dialect.newline == "\r" else b"\n"
    quote = dialect.quote.encode()
    masked = _without_escapes(data, dialect)
    if newline == b"\r":
        masked = masked.removesuffix(newline)  # it may be the first half of CR LF
    end = masked.rfind(newline) + 1
    if not quote or quote not in masked:
        return _past_pair(data, end)
    before = masked.count(quote, 0, end)
    while end and before % 2:
        # Inside quotes: go back before the quote that opened them.
        opened = masked.rfind(quote, 0, end)
        end = masked.rfind(newline, 0, opened) + 1
        before = masked.count(quote, 0, end)
    return _past_pair(data, end)


def _past_pair(data: bytes | bytearray, end: int) -> int:
    """A place after the end of a line, not between CR and LF."""
    return end + (data[end - 1 : end + 1] == b"\r\n") if end else 0


def _without_escapes(data: bytes | bytearray, dialect: Dialect) -> bytes | bytearray:
    """Comments and escaped characters blotted out, at the same length."""
    mark = dialect.comment.encode()
    if mark and mark in data:
        pattern = _comment_lines(dialect.comment)
        data, _ = _rewritten(data, pattern, dialect, lambda found: b"_" * len(found[0]))
    if not dialect.escape:
        return data
    return re.sub(re.escape(dialect.escape.encode()) + rb"(?s:.)", b"__", data)


@functools.cache
def _comment_lines(mark: str) -> re.Pattern[bytes]:
    return re.compile(rb"(?<![^\r\n])" + re.escape(mark.encode()) + rb"[^\r\n]*")


def _rewritten(
    data: bytes | bytearray,
    pattern: re.Pattern[bytes],
    dialect: Dialect,
    replacement: Callable[[re.Match[bytes]], bytes],
) -> tuple[bytes, int]:
    """What matches outside quotes replaced, and how often that was."""
    quote = dialect.quote.encode()
    escaped = re.compile(re.escape(dialect.escape.encode()) + rb"(?s:.)")
    parts: list[bytes | bytearray] = []
    done = quotes = count = 0
    for found in pattern.finditer(data):
        if quote:
            between = data[done : found.start()]
            quotes += (escaped.sub(b"", between) if dialect.escape else between).count(quote)
        parts.append(data[done : found.start()])
        inside = bool(quotes % 2)
        parts.append(found[0] if inside else replacement(found))
        if inside and quote:
            quotes += found[0].count(quote)
        count += not inside
        done = found.end()
    parts.append(data[done:])
    return b"".join(parts), count


@dataclass(frozen=True)
class Fault:
    """What is wrong with a chunk, at which byte."""

    position: int
    message: str
    hint: str
    unclosed: bool = False


def quote_fault(data: bytes, dialect: Dialect) -> Fault | None:
    """The first quote of a canonical chunk that neither opens nor closes a cell nor is doubled
    inside one; or, where quotes are text, the first cell that is enclosed in them."""
    quote = dialect.quote.encode()
    if not quote:
        sought = b'"' in data and not dialect.literal
        found = _enclosed(dialect.delimiter).search(data) if sought else None
        return Fault(found.start(), *ENCLOSED) if found else None
    if quote not in data:
        return None
    masked = np.frombuffer(data, np.uint8)
    places = np.flatnonzero(masked == quote[0])
    opens, closes = places[0::2], places[1::2]
    edges = np.zeros(256, bool)
    edges[[ord(dialect.delimiter), 10, 13]] = True
    good_open = (opens == 0) | edges[masked[np.maximum(opens - 1, 0)]]
    doubled = closes[: len(opens) - 1] + 1 == opens[1:]
    good_open[1:] |= doubled
    good_close = (closes == len(masked) - 1) | edges[
        masked[np.minimum(closes + 1, len(masked) - 1)]
    ]
    good_close[: len(doubled)] |= doubled
    stray = [*opens[~good_open][:1], *closes[~good_close][:1]]
    if stray:
        return Fault(
            int(min(stray)),
            f"has a quote ({dialect.quote}) in the middle of a cell",
            "Double quotes inside quoted cells, or quote the whole cell.",
        )
    if len(places) % 2:
        message = "opens a quote that is never closed"
        return Fault(int(places[-1]), message, "Close the quote.", unclosed=True)
    return None


ENCLOSED = (
    "has a cell in quotes, which the lines above have as text",
    "Write all cells of the file the same way.",
)


@functools.cache
def _enclosed(delimiter: str) -> re.Pattern[bytes]:
    d = re.escape(delimiter.encode())
    inside = rb"[^\"\r\n" + d + rb"]*"
    return re.compile(rb"(?<![^\r\n" + d + rb"])\"" + inside + rb"\"(?=[\r\n" + d + rb"]|\Z)")


def canonical(data: bytes, dialect: Dialect) -> tuple[bytes, str]:
    """A chunk in a form that a strict reader of separated values takes, and its separator.

    Comment lines become blank lines, so that the count of lines stays. An escaped quote is
    doubled instead; an escape before anything but a quote or itself is text, as in a path.
    """
    mark = dialect.comment.encode()
    if mark and mark in data:
        data, _ = _rewritten(data, _comment_lines(dialect.comment), dialect, lambda _: b"")
    if dialect.escape and dialect.escape.encode() in data:
        data = unescaped(data.decode("utf-8", "surrogateescape"), dialect).encode(
            "utf-8", "surrogateescape"
        )
    if dialect.runs:
        return _runs_to_tabs(data, dialect), "\t"
    if dialect.padded:
        data = _padding(dialect.quote, dialect.delimiter).sub(rb"\1", data)
    return data, dialect.delimiter


def unescaped(text: str, dialect: Dialect) -> str:
    """A text whose quotes are doubled instead of escaped."""
    return unescape(text, dialect.escape, dialect.quote)


NUL = ("holds a NUL byte", "Export the file again as UTF-8 text.")


def not_valid(dialect: Dialect) -> tuple[str, str]:
    """What is told of bytes that are no text."""
    name = dialect.encoding.removesuffix("-sig").upper()
    return f"is not valid {name}", "Save the file as UTF-8."


def without_blank_rows(data: bytes, dialect: Dialect) -> tuple[bytes, int]:
    """A canonical chunk whose rows of separators alone are blank lines, and how many they were."""
    if dialect.runs:
        return data, 0
    pattern = blank_rows(dialect.delimiter, dialect.quote)
    return _rewritten(data, pattern, replace(dialect, escape=""), lambda _: b"")


@functools.cache
def blank_rows(delimiter: str, quote: str) -> re.Pattern[bytes]:
    d, q = re.escape(delimiter.encode()), re.escape(quote.encode())
    # What is tried in one way alone takes no longer than the row is long.
    blanks = rb"" if delimiter == " " else rb" *+"
    cell = blanks + (rb"(?:" + q * 2 + blanks + rb")?+" if quote else rb"")
    return re.compile(rb"(?<![^\r\n])" + cell + rb"(?:" + d + cell + rb")++(?=[\r\n]|\Z)")


def second_table(data: bytes, dialect: Dialect) -> Fault | None:
    """Where, after blank rows, stands a title (one cell alone) and below it a row of words that
    is fuller: another table. ``data`` is a canonical chunk."""
    if not dialect.quote or dialect.runs or dialect.newline == "\r":
        return None
    blank = blank_rows(dialect.delimiter, dialect.quote)
    starts = list(blank.finditer(data))
    for found, following in itertools.zip_longest(starts, starts[1:]):
        if following and not data[found.end() : following.start()].strip(b"\r\n"):
            continue  # the last of them is looked at
        below, position = _filled_below(data, found.end(), dialect)
        words = not any(looks_numeric(cell) for cells in below for cell in cells)
        if words and len(below) > 1 and len(below[0]) == 1 < len(below[1]):
            return Fault(
                position,
                "begins a second table: a title and a row of names below blank rows",
                "Keep one table in the file.",
            )
    return None


def _filled_below(data: bytes, start: int, dialect: Dialect) -> tuple[list[list[str]], int]:
    """The cells that are not blank of the two rows below a place, where they follow on each
    other, and where the first of them begins."""
    part = data[start : start + 2000].decode("utf-8", "replace")
    lines = part.splitlines(keepends=True)[:-1] if len(part) >= 1900 else part.splitlines(True)
    filled: list[list[str]] = []
    position = start
    for line in lines:
        cells = next(csv.reader([line], delimiter=dialect.delimiter, quotechar=dialect.quote), [])
        cells = [cell.strip() for cell in cells if cell.strip()]
        if not cells and not filled:
            position += len(line.encode())
        elif not cells or len(filled) == 2:
            break
        else:
            filled.append(cells)
    return filled, position


@functools.cache
def _padding(quote: str, delimiter: str) -> re.Pattern[bytes]:
    """A quoted cell with blanks around it. Both ends must be edges of a cell, or blanks between
    two quoted texts would vanish and make one cell of them."""
    q, d = re.escape(quote.encode()), re.escape(delimiter.encode())
    cell = rb"(" + q + rb"(?:[^" + q + rb"]|" + q + q + rb")*" + q + rb")"
    return re.compile(rb"(?<![^" + d + rb"\r\n]) *" + cell + rb" *(?=[" + d + rb"\r\n]|\Z)")


def _runs_to_tabs(data: bytes, dialect: Dialect) -> bytes:
    quote, end = dialect.quote, "\r" if dialect.newline == "\r" else "\n"
    if not quote or quote.encode() not in data:
        data = _edge_blanks(end).sub(b"", data)
        return re.sub(rb"[ \t]+", b"\t", data)
    lines = []
    # Not `splitlines`, for which a dozen other characters end a line, too.
    for line in data.decode("utf-8", "surrogateescape").split(end):
        cells = split_runs(line, quote)
        lines.append("\t".join(_quoted(cell, quote) for cell in cells))
    return end.join(lines).encode("utf-8", "surrogateescape")


@functools.cache
def _edge_blanks(end: str) -> re.Pattern[bytes]:
    """Blanks at either edge of a line."""
    e = end.encode()
    return re.compile(rb"(?:\A|(?<=" + e + rb"))[ \t]+|[ \t]+(?=\r?(?:" + e + rb"|\Z))")


def _quoted(cell: str, quote: str) -> str:
    if cell and quote not in cell and "\t" not in cell:
        return cell
    return quote + cell.replace(quote, quote * 2) + quote


def with_one_line_end(data: bytes, dialect: Dialect) -> bytes:
    """A chunk whose other ends of lines, outside quotes, are those of the dialect: CR and LF each
    end a line, wherever they stand, and CR LF is one of them."""
    mine, other = (b"\r", b"\n") if dialect.newline == "\r" else (b"\n", b"\r")
    if other not in data or data.count(other) == data.count(b"\r\n"):
        return data
    buffer = np.frombuffer(data, np.uint8).copy()
    alone = buffer == other[0]
    pairs = (buffer[:-1] == 13) & (buffer[1:] == 10)
    together = alone[1:] if other == b"\n" else alone[:-1]
    together &= ~pairs
    if dialect.quote:
        masked = np.frombuffer(_without_escapes(data, dialect), np.uint8)
        alone &= _outside(masked, dialect.quote)
    buffer[alone] = mine[0]
    return buffer.tobytes()


def count_lines(data: bytes, dialect: Dialect) -> int:
    """Ends of lines in a chunk."""
    end = 13 if dialect.newline == "\r" else 10
    return int(np.count_nonzero(np.frombuffer(data, np.uint8) == end))


def line_of(data: bytes, position: int, dialect: Dialect) -> int:
    """How many lines end before a byte."""
    return count_lines(data[:position], dialect)


def record_lines(data: bytes, dialect: Dialect, columns: int) -> npt.NDArray[np.int64]:
    """For each record of a (canonical) chunk, how many lines end before it."""
    buffer = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(buffer == (13 if dialect.newline == "\r" else 10))
    outside = np.ones(len(ends), bool)
    if dialect.quote:
        outside = _outside(buffer, dialect.quote)[ends]
    starts = np.concatenate([[0], ends[outside] + 1])
    stops = np.concatenate([ends[outside], [len(buffer)]])
    before = np.concatenate([[0], np.flatnonzero(outside) + 1])
    full = stops > starts
    if full.any():  # most lines hold a letter or a digit, and no closer look is needed
        printed = np.where(buffer < 128, buffer, 0)
        full[full] = np.maximum.reduceat(printed, starts[full]) > 32
    for line in np.flatnonzero(~full & (stops > starts)):
        full[line] = _filled(data, starts[line], stops[line], dialect, columns)
    lines: npt.NDArray[np.int64] = before[full]
    return lines


def _outside(buffer: npt.NDArray[np.uint8], quote: str) -> npt.NDArray[np.bool_]:
    """Whether an even number of quotes stands up to each byte."""
    count = np.cumsum(buffer == ord(quote), dtype=np.uint8)
    even: npt.NDArray[np.bool_] = count & 1 == 0  # as well where it began anew at 256
    return even


def _filled(data: bytes, start: Any, stop: Any, dialect: Dialect, columns: int) -> bool:
    """Whether a line is a record: not blank, and not of blanks alone in a table of columns."""
    text = data[start:stop].rstrip(b"\r\n")
    if columns > 1 and dialect.delimiter.encode() not in text:
        return bool(text.decode("utf-8", "replace").strip())
    return bool(text)
