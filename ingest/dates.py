"""Dates: the formats they are written in, and what they say, as seconds since 1970.

Like the rules of `values`, each exists for one text and for an Arrow array of texts.
"""

from __future__ import annotations

import calendar
import datetime as dt
import functools
import itertools
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from regatta.ingest.values import (
    MISSING_WORDS,
    BoolArray,
    Bytes,
    FloatArray,
    Integers,
    bools,
    text_bytes,
)

_DIGIT = re.compile(r"[0-9]")

_YEAR_1 = -62_135_596_800
ISO = "ISO8601"  # any way of writing a date that ISO 8601 allows

_DAYS = (
    "%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y",
    "%m-%d-%Y", "%d/%m/%y", "%m/%d/%y", "%d.%m.%y", "%d-%m-%y", "%m-%d-%y",
    "%d %b %Y", "%d-%b-%Y", "%d-%b-%y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y", "%b %d %Y",
)  # fmt: skip
_TIMES = (
    "", " %H:%M:%S", " %H:%M", "T%H:%M:%S", "T%H:%M", " %H:%M:%S.%f", "T%H:%M:%S.%f",
    " %I:%M:%S %p", " %I:%M %p", "T%H:%M:%S%z", " %H:%M:%S%z", "T%H:%M:%S.%f%z",
)  # fmt: skip
DATE_FORMATS = tuple(day + time for day in _DAYS for time in _TIMES)

# The same digits read the other way round.
SWAPPED = {
    day: day.replace("%d", "\0").replace("%m", "%d").replace("\0", "%m")
    for day in _DAYS
    if day[:2] in ("%d", "%m") and "%m" in day
}

_DIRECTIVES = {
    "%Y": r"[0-9]{4}", "%m": r"[0-9]{1,2}", "%d": r"[0-9]{1,2}", "%y": r"[0-9]{2}",
    "%H": r"[0-9]{1,2}", "%M": r"[0-9]{2}", "%S": r"[0-9]{2}", "%f": r"[0-9]{1,6}",
    "%I": r"[0-9]{1,2}", "%p": r"[AaPp][Mm]", "%b": r"[A-Za-z]{3}", "%B": r"[A-Za-z]{3,9}",
    "%z": r"(?:Z|[+-][0-9]{2}:?[0-9]{2})",
}  # fmt: skip


@functools.cache
def format_pattern(date_format: str) -> str:
    """A regular expression that texts in a ``strptime`` format match: stricter than ``strptime``,
    which takes a year of two digits for one of four."""
    parts = re.split(r"(%[A-Za-z])", date_format)
    return "^" + "".join(_DIRECTIVES.get(part) or re.escape(part) for part in parts) + "$"


@functools.cache
def _beginning(day: str) -> re.Pattern[str]:
    """How texts begin in the formats that begin with that of a day."""
    return re.compile(format_pattern(day).removesuffix("$"))


@functools.cache
def _compiled_format(date_format: str) -> re.Pattern[str]:
    return re.compile(format_pattern(date_format))


def has_time(date_format: str) -> bool:
    """Whether a format holds a time of day."""
    return date_format == ISO or "%H" in date_format or "%I" in date_format


def parse_date(text: str | None, date_format: str) -> float:
    """Seconds since 1970, NaN where the text is no such date. Without a zone: UTC."""
    if text is None:
        return float("nan")
    try:
        if date_format == ISO:
            moment = dt.datetime.fromisoformat(text)
        elif _compiled_format(date_format).match(text):
            moment = dt.datetime.strptime(text, date_format)
        else:
            return float("nan")
    except ValueError:
        return float("nan")
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.UTC)
    return moment.timestamp()


@functools.lru_cache(maxsize=1 << 14)
def _formats_of_shape(shape: str) -> frozenset[str]:
    """The formats that a text may be written in, going by how many digits stand where."""
    found = set()
    for day in _DAYS:
        # Where a day ends does not depend on what follows: with digits, and no time begins so.
        begin = _beginning(day).match(shape)
        if begin:
            rest = shape[begin.end() :]
            found |= {day + time for time in _TIMES if _compiled_format(time).match(rest)}
    return frozenset(found)


def matching_date_formats(texts: Iterable[str]) -> list[str]:
    """The formats that every one of the texts is written in, in order of preference."""
    left: Sequence[str] = DATE_FORMATS
    for text in texts:
        fitting = _formats_of_shape(_DIGIT.sub("0", text))
        left = [each for each in left if each in fitting and not math.isnan(parse_date(text, each))]
        if not left:
            return []
    return list(left)


def swapped_format(date_format: str) -> str | None:
    """The format with day and month exchanged, where both can look alike."""
    for day, swapped in SWAPPED.items():
        if date_format == day or date_format.startswith((day + " ", day + "T")):
            return swapped + date_format[len(day) :]
    return None


# -- whole arrays ---------------------------------------------------------------------------------


def parse_dates(
    texts: Any, date_format: str, missing: Iterable[str] = ()
) -> tuple[FloatArray, BoolArray]:
    """The dates in an Arrow array of strings, as `parse_date` reads each.

    Parameters
    ----------
    texts : pyarrow.StringArray (n,)
    missing : iterable of str
        Further words (trimmed) that stand for a missing value in this column.

    Returns
    -------
    values (n,), bad (n,)
        Seconds since 1970; NaN where a cell is missing or bad.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    values = _read(texts, date_format)
    words = pa.array([*missing], pa.string())
    if len(words):
        values[bools(pc.is_in(pc.utf8_trim_whitespace(texts), value_set=words))] = np.nan
    bad = np.isnan(values)
    others = np.flatnonzero(bad)
    if len(others):
        trimmed = pc.utf8_trim_whitespace(texts.take(pa.array(others))).fill_null("")
        absent = _absent(trimmed) | bools(pc.is_in(trimmed, value_set=words))
        values[others] = np.where(absent, np.nan, _read(trimmed, date_format))
        bad[others] = np.isnan(values[others]) & ~absent
    return values, bad


def _absent(trimmed: Any) -> BoolArray:
    """Which texts say "no value"."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return bools(pc.is_in(pc.utf8_upper(trimmed), value_set=pa.array([*MISSING_WORDS])))


def _read(texts: Any, date_format: str) -> FloatArray:
    """Seconds since 1970 of each text, NaN where it is no such date."""
    if date_format == ISO:
        return _read_any_iso(texts)
    starts, ends, data = text_bytes(texts)
    lengths = ends - starts
    values = np.full(len(texts), np.nan)
    for layout in date_layouts(date_format):
        rows = np.flatnonzero((lengths == layout.length) & np.isnan(values))
        if not len(rows):
            continue
        if len(rows) == len(lengths):
            signs = data[starts[0] : ends[-1]].reshape(len(rows), layout.length)
        else:
            signs = data[starts[rows][:, None] + np.arange(layout.length)]
        seconds, fits = layout.read(np.ascontiguousarray(signs.T))
        if len(rows) == len(lengths) and fits.all():
            return seconds
        values[rows[fits]] = seconds[fits]
    return values


def _read_any_iso(texts: Any) -> FloatArray:
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        return _cast(texts)
    except pa.ArrowInvalid:
        trimmed = pc.utf8_trim_whitespace(texts)
    try:
        return _cast(pc.if_else(pa.array(_absent(trimmed)), pa.scalar(None, pa.string()), trimmed))
    except pa.ArrowInvalid:
        encoded = texts.dictionary_encode()
    known = [parse_date(each.as_py(), ISO) for each in encoded.dictionary]
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    values: FloatArray = np.array([*known, np.nan])[codes]
    return values


def _cast(texts: Any) -> FloatArray:
    """Seconds since 1970 of texts that are all dates for Arrow, or missing."""
    import pyarrow as pa

    moments = texts.cast(pa.timestamp("us"))
    values: FloatArray = moments.cast(pa.int64()).fill_null(0).to_numpy() / 1e6
    values[bools(moments.is_null()) | (values < _YEAR_1)] = np.nan  # Python has no year 0
    return values


@dataclass(frozen=True)
class DateLayout:
    """A format whose fields have given widths, so that all its signs have their places."""

    length: int
    fields: dict[str, slice]
    signs: dict[int, int]  # what stands between fields: place, byte

    def read(self, text: Bytes) -> tuple[FloatArray, BoolArray]:
        """Seconds since 1970 of texts given as bytes (length, n), and which of them are dates."""
        fits = np.ones(text.shape[1], bool)
        for place, sign in self.signs.items():
            fits &= text[place] == sign
        field = {
            name: _READERS.get(name, _digits)(text[where], fits)
            for name, where in self.fields.items()
        }
        year = field["%Y"] if "%Y" in field else _century(field["%y"])
        month = field.get("%m", field.get("%b", field.get("%B")))
        assert month is not None
        fits &= (year >= 1) & (month >= 1) & (month <= 12)
        index = year.astype(np.intp) * 12 + month
        if not fits.all():
            index[~fits] = 12
        starts, days = _months()
        fits &= (field["%d"] >= 1) & (field["%d"] <= days.take(index))
        seconds = starts.take(index)
        seconds += (field["%d"] - 1) * np.float64(86_400)
        seconds += _time_of_day(field, fits)
        if "%f" not in field:
            return seconds, fits
        digits = self.fields["%f"].stop - self.fields["%f"].start
        return seconds + field["%f"] / 10.0**digits, fits


def _time_of_day(field: dict[str, Integers], fits: BoolArray) -> Integers:
    """Seconds since midnight, in the zone of 1970."""
    none = np.zeros(1, np.uint8)
    minute, second = field.get("%M", none), field.get("%S", none)
    if "%I" in field:
        fits &= (field["%I"] >= 1) & (field["%I"] <= 12)
        hour: Integers = field["%I"] % 12 + field["%p"]
    else:
        hour = field.get("%H", none)
    fits &= (hour < 24) & (minute < 60) & (second < 60)
    return hour * np.int32(3600) + minute * np.int32(60) + second - field.get("%z", none)


_WIDTHS = {
    "%Y": (4,), "%y": (2,), "%m": (2, 1), "%d": (2, 1), "%b": (3,), "%B": (3, 4, 5, 6, 7, 8, 9),
    "%H": (2, 1), "%I": (2, 1), "%M": (2,), "%S": (2,), "%f": (6, 3, 1, 2, 4, 5), "%p": (2,),
    "%z": (6, 5, 1),
}  # fmt: skip


@functools.cache
def date_layouts(date_format: str) -> tuple[DateLayout, ...]:
    """The layouts of a format. Of those that a text fits (where no sign stands between two parts)
    the first counts, as for `strptime`."""
    parts = [part for part in re.split(r"(%[A-Za-z])", date_format) if part]
    found = []
    for widths in itertools.product(*(_WIDTHS.get(part, (len(part.encode()),)) for part in parts)):
        fields, signs, place = dict[str, slice](), dict[int, int](), 0
        for part, width in zip(parts, widths, strict=True):
            if part in _WIDTHS:
                fields[part] = slice(place, place + width)
            else:
                signs |= dict(enumerate(part.encode(), place))
            place += width
        found.append(DateLayout(place, fields, signs))
    return tuple(found)


def _digits(text: Bytes, fits: BoolArray) -> Integers:
    """The numbers that rows of digits (width, n) make; what is no digit does not fit."""
    small = np.uint8 if len(text) <= 2 else np.uint16 if len(text) <= 4 else np.uint32
    numbers: Integers = np.zeros(text.shape[1], small)
    for row in text:
        digit = row - np.uint8(ord("0"))
        fits &= digit <= 9
        numbers *= small(10)
        numbers += digit
    return numbers


def _month(names: Sequence[str], text: Bytes, fits: BoolArray) -> Integers:
    """The months whose names (width, n) stand there, 0 where none does."""
    lower, months = text | 0x20, np.zeros(text.shape[1], np.uint8)
    for month, name in enumerate(names):
        if len(name) == len(text):
            letters = np.frombuffer(name.lower().encode(), np.uint8)
            months[(lower == letters[:, None]).all(axis=0)] = month
    return months


def _afternoon(text: Bytes, fits: BoolArray) -> Integers:
    """12 for PM and 0 for AM."""
    first, second = text | 0x20
    fits &= ((first == ord("a")) | (first == ord("p"))) & (second == ord("m"))
    return np.where(first == ord("p"), np.uint8(12), np.uint8(0))


def _zone(text: Bytes, fits: BoolArray) -> Integers:
    """The seconds by which a zone is ahead."""
    if len(text) == 1:
        fits &= text[0] == ord("Z")
        return np.zeros(text.shape[1], np.int64)
    fits &= (text[0] == ord("+")) | (text[0] == ord("-"))
    if len(text) == 6:
        fits &= text[3] == ord(":")
    hours, minutes = _digits(text[1:3], fits), _digits(text[-2:], fits)
    fits &= (hours < 24) & (minutes < 60)
    ahead = hours * np.int32(3600) + minutes * np.int32(60)
    return np.where(text[0] == ord("-"), -ahead, ahead)


_READERS: dict[str, Callable[[Bytes, BoolArray], Integers]] = {
    "%b": functools.partial(_month, [*calendar.month_abbr]),
    "%B": functools.partial(_month, [*calendar.month_name]),
    "%p": _afternoon,
    "%z": _zone,
}


def _century(year: Integers) -> Integers:
    """The years that two digits stand for, as POSIX has it."""
    return year + np.where(year < 69, np.uint16(2000), np.uint16(1900))


@functools.cache
def _months() -> tuple[FloatArray, Integers]:
    """When each month begins, in seconds since 1970, and its days, at ``12 * year + month``."""
    months = np.arange("-0001-12", "10000-02", dtype="datetime64[M]")
    starts = months.astype("datetime64[s]").astype(np.float64)
    return starts[:-1], (np.diff(starts) / 86_400).astype(np.uint8)
