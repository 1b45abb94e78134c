"""Dates: the formats they are written in, and what they say, as seconds since 1970.

Like the rules of `values`, each exists for one text and for an Arrow array of texts.
"""

from __future__ import annotations

import datetime as dt
import functools
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from regatta.ingest.values import MISSING_WORDS, BoolArray, FloatArray, bools

_DIGIT = re.compile(r"[0-9]")

ISO = "ISO8601"
# Dates that Arrow's parser reads as they are.
ISO_FORMATS = (ISO, "%Y-%m-%d", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M")

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
    return frozenset(each for each in DATE_FORMATS if _compiled_format(each).match(shape))


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
    """Seconds since 1970 of the dates in an Arrow array of strings, and which cells are bad."""
    import pyarrow as pa
    import pyarrow.compute as pc

    trimmed = pc.utf8_trim_whitespace(texts).fill_null("")
    absent = pc.is_in(pc.utf8_upper(trimmed), value_set=pa.array(sorted(MISSING_WORDS)))
    extra = list(missing)
    if extra:
        absent = pc.or_(absent, pc.is_in(trimmed, value_set=pa.array(extra, pa.string())))
    encoded = pc.if_else(absent, pa.scalar(None, pa.string()), trimmed)
    values = _fast_dates(encoded, date_format)
    if values is None:
        values = _slow_dates(encoded, date_format)
    bad = np.isnan(values) & ~bools(absent)
    return values, bad


def _fast_dates(texts: Any, date_format: str) -> FloatArray | None:
    """ISO dates by Arrow's own strict parser; ``None`` where a cell does not fit."""
    import pyarrow as pa

    if date_format not in ISO_FORMATS:
        return None
    try:
        moments = texts.cast(pa.timestamp("us"))
    except pa.ArrowInvalid:
        return None
    if date_format != ISO and not _all_match(texts, date_format):
        return None
    whole = moments.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    values: FloatArray = whole / 1e6
    values[bools(moments.is_null())] = np.nan
    return values


def _all_match(texts: Any, date_format: str) -> bool:
    import pyarrow.compute as pc

    matched = pc.match_substring_regex(texts, format_pattern(date_format))
    return bool(pc.all(matched.fill_null(True)).as_py())


def _slow_dates(texts: Any, date_format: str) -> FloatArray:
    encoded = texts.dictionary_encode()
    seconds = np.array(
        [parse_date(each.as_py(), date_format) for each in encoded.dictionary] + [np.nan]
    )
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    values: FloatArray = seconds[codes]
    return values
