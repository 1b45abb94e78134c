"""What one cell says: missing, a number, a word for true or false, a date.

Each rule exists twice, with the same meaning: for one text (samples, odd cells) and for an Arrow
array of texts (whole chunks). Nothing here guesses: a cell either matches a style or it does not.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.integer[Any]]
Bytes = npt.NDArray[np.uint8]

# Words for "no value", compared in upper case and without surrounding blanks.
MISSING_WORDS = frozenset(
    ["", "NA", "N/A", "#N/A", "<NA>", "NULL", "NAN", "NONE", "?", "-", "--", "---", ".", "..",
     "(NULL)", "#NA", "-NAN", "N.A.", "\\N", "#VALUE!", "#DIV/0!", "#REF!", "–", "—"]
)  # fmt: skip
# In a column of texts some of them are values of their own.
MISSING_TEXTS = MISSING_WORDS - {"NONE", ".", "..", "---"}
_MISSING_BYTES = max(len(word.encode()) for word in MISSING_TEXTS)

BOOLEAN_PAIRS = (("false", "true"), ("no", "yes"), ("f", "t"), ("n", "y"))

CURRENCIES = "$€£¥₹"
# Units that may stand behind every number of a column. No single capital letter that codes such as
# 12A end with.
UNITS = frozenset(
    ["g", "kg", "mg", "t", "lb", "lbs", "oz", "mm", "cm", "m", "km", "mi", "ft", "in", "yd", "ha",
     "m2", "m²", "m3", "m³", "km2", "km²", "sqft", "ml", "cl", "l", "gal", "ms", "s", "sec", "min",
     "h", "hr", "hrs", "d", "days", "years", "°C", "°F", "°", "Pa", "hPa", "kPa", "bar", "psi",
     "mV", "kV", "mA", "kW", "MW", "GW", "kWh", "MWh", "hp", "bhp", "cc", "Hz", "kHz", "MHz",
     "GHz", "rpm", "km/h", "kmph", "mph", "m/s", "kmpl", "mpg", "KB", "kB", "MB", "GB", "TB",
     "kcal", "cal", "kJ", "dB", "ppm", "USD", "EUR", "GBP", "CHF", "INR", "JPY"]
)  # fmt: skip
_UNIT = re.compile(r"[0-9.,][ \u00a0]?([^\W\d_°][\w²³/]*|°[CF]?)$")
BLANKS = " \t\u00a0\u202f"

_EXPONENT = r"(?:[eE][+-]?[0-9]+)?"
_INFINITE = re.compile(r"^[+-]?(?:inf|infinity)$", re.IGNORECASE)


@dataclass(frozen=True)
class NumberStyle:
    """How the numbers of a column are written: decimal mark, thousands mark, sign around them;
    with ``parentheses`` a number within them is negative, as accountants write."""

    decimal: str = "."
    thousands: str = ""
    affix: str = ""
    parentheses: bool = False

    @functools.cached_property
    def pattern(self) -> str:
        """A regular expression (for `re` and for RE2) that a whole trimmed number matches."""
        decimal = re.escape(self.decimal)
        if self.thousands:
            mark = _class(self.thousands)
            whole = rf"(?:[0-9]{{1,3}}(?:{mark}[0-9]{{3}})+|[0-9]+)(?:{decimal}[0-9]*)?"
        else:
            whole = rf"[0-9]+(?:{decimal}[0-9]*)?"
        core = rf"(?:{whole}|{decimal}[0-9]+){_EXPONENT}"
        negative = rf"|\({core}\)" if self.parentheses else ""
        if not self.affix:
            return rf"^(?:[+-]?{core}{negative})$"
        sign, blank = re.escape(self.affix), r"[ \u00a0]?"
        if self.parentheses:
            within = rf"\((?:{sign}{blank})?{core}\)|\({core}{blank}{sign}\)"
            negative = rf"|{within}|{sign}{blank}\({core}\)|\({core}\){blank}{sign}"
        # One sign of either kind: "-$5", "$-5", "-5 $", but not "--5" or "$5$".
        before = rf"(?:[+-]?(?:{sign}{blank})?|{sign}{blank}[+-])"
        return rf"^(?:{before}{core}|[+-]?{core}{blank}{sign}{negative})$"

    @functools.cached_property
    def _compiled(self) -> re.Pattern[str]:
        return re.compile(self.pattern)

    @property
    def removed(self) -> tuple[str, ...]:
        """What is taken out of a number that matches, before it is converted."""
        blanks = (" ", "\u00a0", "\u202f")
        affix = (self.affix, *blanks) if self.affix else ()
        return (*affix, *(blanks if self.thousands == " " else tuple(self.thousands)))

    @property
    def replaced(self) -> tuple[tuple[str, str], ...]:
        """What is replaced in a number that matches, in this order, before it is converted."""
        negative = (("(", "-"), (")", "")) if self.parentheses else ()
        decimal = ((self.decimal, "."),) if self.decimal != "." else ()
        return (*((mark, "") for mark in self.removed), *negative, *decimal)

    @property
    def framed(self) -> bool:
        """Whether something may stand around a number."""
        return bool(self.affix) or self.parentheses

    def matches(self, text: str) -> bool:
        return self._compiled.match(text) is not None

    def parse(self, text: str) -> float:
        """The number in a text that `matches`."""
        for mark, new in self.replaced:
            text = text.replace(mark, new)
        return float(text)


PLAIN = NumberStyle()
COMMA = NumberStyle(",")


def unit_of(text: str) -> str:
    """The unit that a number is written with, or nothing."""
    found = _UNIT.search(text)
    return found[1] if found and found[1] in UNITS else ""


def is_missing(text: str) -> bool:
    """Whether a cell of a column of numbers or dates says "no value"."""
    return text.strip().upper() in MISSING_WORDS


def text_level(text: str, missing: Sequence[str] = ()) -> str | None:
    """A cell of a column of texts: without surrounding blanks, ``None`` if it is missing, as
    further words may say."""
    word = text.strip()
    return None if word.upper() in MISSING_TEXTS or word in missing else word


def is_infinite(text: str) -> bool:
    """Whether a cell says infinity, in words."""
    return _INFINITE.match(text.strip()) is not None


def looks_numeric(text: str) -> bool:
    """A number in the two plain styles, or in words infinity."""
    return PLAIN.matches(text) or COMMA.matches(text) or is_infinite(text)


@functools.cache
def missing_spellings(wide: bool = False) -> list[str]:
    """The missing words in the cases and paddings that Arrow's reader is to know by itself.

    It builds a table of them for every column, of half a kilobyte a letter: for a ``wide`` file
    it gets the commonest alone, and the others take the slower way.
    """
    if wide:
        return ["", "NA", "NaN", "nan", "NULL", "?"]
    spelled = {w for word in MISSING_WORDS for w in (word, word.lower(), word.capitalize())}
    spelled |= {"NaN", "nAn", "N/a"}
    padded = {pad + word + end for word in spelled for pad in ("", " ") for end in ("", " ")}
    return sorted(padded | {" " * n for n in range(1, 9)})


# -- whole arrays ---------------------------------------------------------------------------------


def text_bytes(texts: Any) -> tuple[Integers, Integers, Bytes]:
    """Where each text of an Arrow array of strings begins and ends (n,), and the bytes of all."""
    narrow = np.frombuffer(texts.buffers()[1], np.int32)[texts.offset :][: len(texts) + 1]
    offsets = narrow.astype(np.int64)
    return offsets[:-1], offsets[1:], np.frombuffer(texts.buffers()[2] or b"", np.uint8)


def parse_numbers(
    texts: Any, style: NumberStyle, missing: Iterable[str] = ()
) -> tuple[FloatArray, BoolArray]:
    """The numbers in an Arrow array of strings.

    Parameters
    ----------
    texts : pyarrow.StringArray (n,)
    missing : iterable of str
        Further words (trimmed) that stand for a missing value in this column.

    Returns
    -------
    values (n,), bad (n,)
        NaN where a cell is missing or bad. An infinite number is an infinite value.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    values, fits = _read_numbers(texts, style)
    words = pa.array([*missing], pa.string())
    if len(words):
        values[bools(pc.is_in(texts, value_set=words))] = np.nan
    others = np.flatnonzero(~fits)
    if len(others):
        left = texts.take(pa.array(others)).fill_null("")
        trimmed = pc.utf8_trim(left, characters=BLANKS + "\r\n\f\v")
        found, fits[others] = _read_numbers(trimmed, style)
        infinite = bools(pc.match_substring_regex(trimmed, _INFINITE.pattern, ignore_case=True))
        absent = bools(pc.is_in(pc.utf8_upper(trimmed), value_set=pa.array([*MISSING_WORDS])))
        absent |= bools(pc.is_in(trimmed, value_set=words))
        found[infinite] = np.inf
        found[absent] = np.nan
        values[others] = found
        fits[others] |= infinite | absent
    return values, ~fits


def _read_numbers(texts: Any, style: NumberStyle) -> tuple[FloatArray, BoolArray]:
    """The number that each text is, NaN where it is none, and where it is one."""
    import pyarrow as pa
    import pyarrow.compute as pc

    pattern = style.pattern.replace("\\u00a0", "\u00a0")
    fits = bools(pc.match_substring_regex(texts, pattern).fill_null(False))
    values = np.full(len(texts), np.nan)
    if not fits.all():
        texts = texts.filter(pa.array(fits))
    if style.affix:
        texts = pc.replace_substring(texts, style.affix, "")
    if style.parentheses:
        texts = pc.replace_substring(texts, "(", "-")
    if style != PLAIN:
        texts = _plain(texts, style)
    values[fits] = texts.cast(pa.float64()).to_numpy()
    return values, fits


def _plain(texts: Any, style: NumberStyle) -> Any:
    """Numbers without blanks, thousands marks and the ends of parentheses, with a decimal point."""
    import pyarrow as pa

    kept, written = np.zeros(256, bool), np.arange(256, dtype=np.uint8)
    kept[[*b"0123456789+-eE", ord(style.decimal)]] = True
    written[ord(style.decimal)] = ord(".")
    starts, ends, data = text_bytes(texts)
    stays = kept[data]
    before = np.append(0, np.cumsum(stays, dtype=np.int32))
    offsets = np.append(before[starts], before[ends[-1:]]).astype(np.int32)
    buffers = [pa.py_buffer(offsets), pa.py_buffer(written[data[stays]])]
    return pa.StringArray.from_buffers(len(texts), *buffers)


def text_levels(texts: Any, missing: Sequence[str] = ()) -> tuple[Any, npt.NDArray[np.int32]]:
    """`text_level` of each text of an Arrow array of different texts.

    Returns
    -------
    levels : pyarrow.StringArray (n_levels,)
        Different ones again.
    codes : (n,)
        The place of each text's level, -1 where it is missing.
    """
    words, gone = trimmed_texts(texts, missing)
    if words is texts and not gone.any():
        return texts, np.arange(len(texts), dtype=np.int32)
    import pyarrow as pa
    import pyarrow.compute as pc

    found = pc.if_else(pa.array(gone), pa.scalar(None, pa.string()), words).dictionary_encode()
    return found.dictionary, found.indices.fill_null(-1).to_numpy(zero_copy_only=False)


def trimmed_texts(texts: Any, missing: Sequence[str] = ()) -> tuple[Any, BoolArray]:
    """An Arrow array of texts without surrounding blanks (the same one where there are none), and
    which of them stand for no value."""
    import pyarrow as pa

    starts, ends, data = text_bytes(texts)
    within = data[starts[0] : ends[-1]] if len(texts) else data[:0]
    plain = not len(within) or (within.min() > 32 and within.max() < 127)
    if not plain and _edges_may_be_blank(starts, ends, data):
        texts = pa.array([text.strip() for text in texts.to_pylist()], pa.string())
        starts, ends, data = text_bytes(texts)
    gone = np.zeros(len(texts), bool)
    ascii_alone = plain or within.max() < 128
    longest = _MISSING_BYTES * (1 if ascii_alone else 4)  # in capitals some letters are shorter
    short = np.flatnonzero(ends - starts <= longest)
    if len(short):
        import pyarrow.compute as pc

        upper = pc.utf8_upper(texts.take(pa.array(short)))
        gone[short] = bools(pc.is_in(upper, value_set=_missing_texts()))
    if missing:
        import pyarrow.compute as pc

        gone |= bools(pc.is_in(texts, value_set=pa.array([*missing], pa.string())))
    return texts, gone


def _edges_may_be_blank(starts: Integers, ends: Integers, data: Bytes) -> bool:
    """Whether a text begins or ends with a sign that may be a blank."""
    filled = np.flatnonzero(ends > starts)
    edges = data[np.stack([starts[filled], ends[filled] - 1])]
    return bool(((edges <= 32) | (edges >= 127)).any())


@functools.cache
def _missing_texts() -> Any:
    import pyarrow as pa

    return pa.array([*MISSING_TEXTS])


def bools(array: Any) -> BoolArray:
    found: BoolArray = array.to_numpy(zero_copy_only=False).astype(bool)
    return found


def _class(thousands: str) -> str:
    return "[ \u00a0\u202f]" if thousands == " " else re.escape(thousands)
