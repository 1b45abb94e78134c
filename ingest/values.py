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

# Words for "no value", compared in upper case and without surrounding blanks.
MISSING_WORDS = frozenset(
    ["", "NA", "N/A", "#N/A", "<NA>", "NULL", "NAN", "NONE", "?", "-", "--", "---", ".", "..",
     "(NULL)", "#NA", "-NAN", "N.A.", "\\N", "#VALUE!", "#DIV/0!", "#REF!", "–", "—"]
)  # fmt: skip
# In a column of texts some of them are values of their own.
MISSING_TEXTS = MISSING_WORDS - {"NONE", ".", "..", "---"}

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
    """How the numbers of a column are written: decimal mark, thousands mark, sign around them."""

    decimal: str = "."
    thousands: str = ""
    affix: str = ""

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
        if not self.affix:
            return rf"^[+-]?{core}$"
        sign, blank = re.escape(self.affix), r"[ \u00a0]?"
        # One sign of either kind: "-$5", "$-5", "-5 $", but not "--5" or "$5$".
        before = rf"(?:[+-]?(?:{sign}{blank})?|{sign}{blank}[+-])"
        return rf"^(?:{before}{core}|[+-]?{core}{blank}{sign})$"

    @functools.cached_property
    def _compiled(self) -> re.Pattern[str]:
        return re.compile(self.pattern)

    @property
    def removed(self) -> tuple[str, ...]:
        """What is taken out of a number that matches, before it is converted."""
        blanks = (" ", "\u00a0", "\u202f")
        affix = (self.affix, *blanks) if self.affix else ()
        return (*affix, *(blanks if self.thousands == " " else tuple(self.thousands)))

    def matches(self, text: str) -> bool:
        return self._compiled.match(text) is not None

    def parse(self, text: str) -> float:
        """The number in a text that `matches`."""
        for mark in self.removed:
            text = text.replace(mark, "")
        return float(text.replace(self.decimal, ".") if self.decimal != "." else text)


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

    trimmed = pc.utf8_trim(texts, characters=BLANKS + "\r\n\f\v").fill_null("")
    absent = pc.is_in(pc.utf8_upper(trimmed), value_set=pa.array(sorted(MISSING_WORDS)))
    extra = list(missing)
    if extra:
        absent = pc.or_(absent, pc.is_in(trimmed, value_set=pa.array(extra, pa.string())))
    good = pc.match_substring_regex(trimmed, style.pattern.replace("\\u00a0", "\u00a0"))
    cleaned = pc.if_else(good, trimmed, pa.scalar(None, pa.string()))
    values = _to_float(_plain_text(cleaned, style))
    infinite = pc.match_substring_regex(trimmed, r"(?i)^[+-]?inf(?:inity)?$")
    values[bools(infinite)] = np.inf
    bad = ~(bools(good) | bools(absent) | bools(infinite))
    values[bools(absent)] = np.nan
    return values, bad


def _plain_text(texts: Any, style: NumberStyle) -> Any:
    import pyarrow.compute as pc

    for mark in style.removed:
        texts = pc.replace_substring(texts, mark, "")
    if style.decimal != ".":
        texts = pc.replace_substring(texts, style.decimal, ".")
    return texts


def _to_float(texts: Any) -> FloatArray:
    import pyarrow as pa

    values: FloatArray = texts.cast(pa.float64()).to_numpy(zero_copy_only=False)
    return values if values.flags.writeable else values.copy()


def bools(array: Any) -> BoolArray:
    found: BoolArray = array.to_numpy(zero_copy_only=False).astype(bool)
    return found


def _class(thousands: str) -> str:
    return "[ \u00a0\u202f]" if thousands == " " else re.escape(thousands)
