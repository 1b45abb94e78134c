"""A fitted model written down as a Python script: numbers, texts, and some lines that use them.

The script needs NumPy and pandas and nothing else, and runs as it stands. What comes from a file
(names, words, formats) is written by ``repr`` as a literal of Python, never as code.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Mapping
from typing import Any

from regatta.export.sklearn_pipeline import Reading, lost_levels
from regatta.fitted_model import FittedModel
from regatta.ingest.values import MISSING_TEXTS, MISSING_WORDS
from regatta.preprocessing import (
    DATE_PERIODS,
    MISSING_LEVEL,
    SECONDS_A_DAY,
    BooleanEncoding,
    CategoryEncoding,
    ColumnEncoding,
    DateEncoding,
    Feature,
    NumberEncoding,
)

INDENT = " " * 4

HEAD = '''"""Predicts {target}, as the {model} model of run {run} does, without Regatta.

Needs NumPy and pandas:

    python {file} NEW.csv OUT.csv

or, from another script:

    predictions = predict(pandas.read_csv("NEW.csv", **READ_CSV))
"""

import sys

import numpy as np
import pandas as pd
'''

TEXT = '''
def text_of(cell):
    """A cell as the file writes it, without blanks around it; "" where it is missing."""
    if pd.isna(cell):
        return ""
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    return str(cell).strip()
'''

NUMBERS = '''
def numbers_of(cells, style):
    """The numbers of a column, NaN where missing. An unknown word is a ValueError."""
    words, values, marks = style
    if not pd.api.types.is_numeric_dtype(cells):

        def number(cell):
            text = text_of(cell)
            if text.upper() in NO_VALUE or text in words:
                return np.nan
            for mark, new in marks:
                text = text.replace(mark, new)
            return float(text)

        cells = cells.astype(object).map(number)
    numbers = cells.astype(float)
    return numbers.mask(numbers.isin(values)).to_numpy()
'''

BOOLEANS = '''
def booleans_of(name, cells, false, true, words):
    """1.0 and 0.0 for the two words of a column, NaN where missing."""

    def boolean(cell):
        text = text_of(cell)
        if text.upper() in NO_TEXT or text in words:
            return np.nan
        if text.lower() not in (false.lower(), true.lower()):
            raise ValueError(f"column {name!r}: {text!r} is neither {false!r} nor {true!r}")
        return float(text.lower() == true.lower())

    return cells.astype(object).map(boolean).to_numpy(dtype=float)
'''

LEVELS = '''
def levels_of(cells, adds, words):
    """What the text of each cell adds; adds[None] is for all other texts."""
    numbers = {number_of(level): value for level, value in adds.items() if level != MISSING}
    is_plain = None not in {number_of(level) for level in adds if level not in (None, MISSING)}

    def added(cell):
        text = text_of(cell)
        if text.upper() in NO_TEXT or text in words:
            text = MISSING
        if is_plain and text not in adds and not isinstance(cell, str):
            return numbers.get(number_of(text), adds[None])  # 7, where the file says 007
        return adds.get(text, adds[None])

    return cells.astype(object).map(added).to_numpy(dtype=float)


def number_of(text):
    """A text as a number, None if it is none."""
    try:
        return float(text)
    except (TypeError, ValueError):
        return None
'''

DATES = '''
def days_of(cells, style, words):
    """Days since 1970 (UTC), NaN where missing."""
    if not pd.api.types.is_datetime64_any_dtype(cells):
        texts = cells.astype(object).map(text_of)
        cells = texts.where(~texts.str.upper().isin(NO_VALUE) & ~texts.isin(words), None)
    moments = pd.to_datetime(cells, format=style, utc=True)
    return ((moments - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(days=1)).to_numpy(dtype=float)


def date_part(days, part):
    """The trend in days, or a sine or cosine of the year, the week or the day."""
    if part == "trend":
        return days
    period, wave = part.split("_")
    angle = np.mod(days, PERIODS[period]) * (2 * np.pi / PERIODS[period])
    return np.sin(angle) if wave == "sin" else np.cos(angle)
'''

PREDICT = '''
def predict(table):
    """The predictions for a DataFrame that has the columns of the training: an array (rows,)."""
    total = np.full(len(table), INTERCEPT)
'''
PREDICT_NUMBERS = """    for name, (coefficient, mean, missing, style) in NUMBERS.items():
        values = numbers_of(table[name], STYLES[style])
        total += coefficient * (np.where(np.isnan(values), missing, values) - mean)
"""
PREDICT_BOOLEANS = """    for name, (slope, mean, missing, false, true, words) in BOOLEANS.items():
        values = booleans_of(name, table[name], false, true, words)
        total += slope * (np.where(np.isnan(values), missing, values) - mean)
"""
PREDICT_LEVELS = """    for name, (adds, words) in LEVELS.items():
        total += levels_of(table[name], adds, words)
"""
PREDICT_DATES = """    for name, (style, missing, words, parts) in DATES.items():
        days = days_of(table[name], style, words)
        days = np.where(np.isnan(days), missing, days)
        for part, coefficient, mean in parts:
            total += coefficient * (date_part(days, part) - mean)
"""
MAIN = """    return total


if __name__ == "__main__":
    if len(sys.argv) > 1:
        predictions = predict(pd.read_csv(sys.argv[1], **READ_CSV))
        out = sys.argv[2] if len(sys.argv) > 2 else sys.stdout
        pd.DataFrame({"prediction": predictions}).to_csv(out, index=False)
    else:
        print("for the row in EXAMPLE:", float(predict(pd.DataFrame(EXAMPLE))[0]))
"""


def snippet(
    model: FittedModel,
    reading: Reading | None = None,
    read_csv: Mapping[str, Any] | None = None,
    *,
    file: str = "predict.py",
) -> str:
    """The script for a model.

    Parameters
    ----------
    reading : Reading, optional
        How pandas reads the files that it is for: names that differ.
    read_csv : mapping, optional
        Options with which ``pandas.read_csv`` reads them.
    """
    return _Script(model, reading or Reading(), dict(read_csv or {}), file).source()


class _Script:
    def __init__(
        self, model: FittedModel, reading: Reading, read_csv: dict[str, Any], file: str
    ) -> None:
        self.model = model
        self.reading = reading
        self.file = file
        self.coefficients: dict[Feature, float] = dict(
            zip(
                model.preprocessing.features,
                (model.weights / model.preprocessing.scales).tolist(),
                strict=True,
            )
        )
        columns = model.preprocessing.columns
        self.numbers = [each for each in columns if isinstance(each, NumberEncoding)]
        self.booleans = [each for each in columns if isinstance(each, BooleanEncoding)]
        self.categories = [each for each in columns if isinstance(each, CategoryEncoding)]
        self.dates = [each for each in columns if isinstance(each, DateEncoding)]
        self.read_csv = read_csv

    def source(self) -> str:
        head = HEAD.format(
            target=_in_docstring(self.model.target),
            model=_in_docstring(self.model.model),
            run=_in_docstring(self.model.run_id or "–"),
            file=self.file,
        )
        return "".join([head, *self._tables(), *self._functions(), *self._predict()])

    def _tables(self) -> Iterable[str]:
        yield _dictionary(
            "READ_CSV", self.read_csv, "How pandas.read_csv reads files as the model's own."
        )
        yield f"\n# The prediction where all that follows adds nothing.\n{self._intercept()}\n"
        if self.numbers:
            yield from self._number_tables()
        if self.booleans:
            yield _dictionary(
                "BOOLEANS",
                {self._name(each): self._boolean(each) for each in self.booleans},
                "Coefficient, mean, what stands for a missing one, the words for 0 and 1, "
                "further words for no value.",
            )
        if self.categories:
            yield self._level_table()
        if self.dates:
            yield _dictionary(
                "DATES",
                {self._name(each): self._date(each) for each in self.dates},
                "Format, days since 1970 that stand for a missing one, words for no value, and "
                "(part, coefficient, mean).",
            )
            yield _dictionary("PERIODS", DATE_PERIODS, "Days.")
        if self.numbers or self.dates:
            yield _words("NO_VALUE", MISSING_WORDS, "Words for a missing number or date.")
        if self.booleans or self.categories:
            yield _words("NO_TEXT", MISSING_TEXTS, "Words for a missing text.")
        yield _dictionary(
            "EXAMPLE",
            {self._name(each): [_example(each)] for each in self.model.preprocessing.columns},
            "One row.",
        )

    def _number_tables(self) -> Iterable[str]:
        styles = list(dict.fromkeys(map(self._style, self.numbers)))
        yield _dictionary(
            "NUMBERS",
            {
                self._name(each): (
                    self._coefficient(each.features[0]),
                    each.features[0].mean,
                    each.impute,
                    styles.index(self._style(each)),
                )
                for each in self.numbers
            },
            "What one unit more adds, the mean, what stands for a missing one, place in STYLES.",
        )
        lines = "".join(f"{INDENT}{style!r},\n" for style in styles)
        yield (
            "\n# Words and numbers that stand for no value, marks and what replaces them.\n"
            f"STYLES = [\n{lines}]\n"
        )

    def _level_table(self) -> str:
        lines = ["\n# What each text adds (None: all others), and further words for no value."]
        lines.append("LEVELS = {")
        for column in self.categories:
            adds = self._adds(column)
            lines.append(f"{INDENT}{self._name(column)!r}: ({{")
            lines += [f"{INDENT * 2}{level!r}: {value!r}," for level, value in adds.items()]
            lines.append(f"{INDENT}}}, {sorted(column.missing)!r}),")
        return "\n".join([*lines, "}", f"MISSING = {MISSING_LEVEL!r}", ""])

    def _functions(self) -> Iterable[str]:
        for needed, code in (
            (True, TEXT),
            (self.numbers, NUMBERS),
            (self.booleans, BOOLEANS),
            (self.categories, LEVELS),
            (self.dates, DATES),
        ):
            if needed:
                yield "\n" + code

    def _predict(self) -> Iterable[str]:
        yield "\n" + PREDICT
        for needed, code in (
            (self.numbers, PREDICT_NUMBERS),
            (self.booleans, PREDICT_BOOLEANS),
            (self.categories, PREDICT_LEVELS),
            (self.dates, PREDICT_DATES),
        ):
            if needed:
                yield code
        yield MAIN

    def _name(self, column: ColumnEncoding) -> str:
        return self.reading.name(column.name)

    def _coefficient(self, feature: Feature) -> float:
        return self.coefficients[feature]

    def _intercept(self) -> str:
        """Indicators are not centred in the script: their means go into the intercept."""
        shift = sum(
            self._coefficient(feature) * feature.mean
            for column in self.categories
            for feature in column.features
        )
        return f"INTERCEPT = {self.model.intercept - shift!r}"

    def _style(self, column: NumberEncoding) -> tuple[Any, ...]:
        style = column.style
        numbers = [style.parse(word) for word in column.missing if style.matches(word)]
        return tuple(column.missing), tuple(numbers), style.replaced

    def _boolean(self, column: BooleanEncoding) -> tuple[Any, ...]:
        feature = column.features[0]
        coefficient = self._coefficient(feature)
        words = sorted(column.missing)
        return coefficient, feature.mean, column.impute, column.false, column.true, words

    def _adds(self, column: CategoryEncoding) -> dict[str | None, float]:
        """What each level adds. Where pandas takes a level such as "None" for a missing value and
        the column has no missing ones, a missing one is that level."""
        count = len(column.levels)
        values = [self._coefficient(each) for each in column.features]
        adds: dict[str | None, float] = dict(zip(column.levels, values[:count], strict=True))
        lost = lost_levels(column)
        if lost and MISSING_LEVEL not in adds:
            adds[MISSING_LEVEL] = adds[lost[0]]
        adds[None] = values[count] if column.other else 0.0
        return adds

    def _date(self, column: DateEncoding) -> tuple[Any, ...]:
        parts = [(each.part, self._coefficient(each), each.mean) for each in column.features]
        days = column.impute / SECONDS_A_DAY
        return column.format, days, sorted(column.missing), parts


def _example(column: ColumnEncoding) -> str | float:
    """A cell of a column as its file writes it, or a number."""
    if isinstance(column, BooleanEncoding):
        return column.true if column.impute else column.false
    if isinstance(column, CategoryEncoding):
        return next((each for each in column.levels if each != MISSING_LEVEL), "")
    if isinstance(column, DateEncoding):
        moment = dt.datetime(1970, 1, 1) + dt.timedelta(seconds=column.impute)
        iso = column.format == "ISO8601"
        return moment.isoformat(sep=" ") if iso else moment.strftime(column.format)
    assert isinstance(column, NumberEncoding)
    return float(column.impute)


def _dictionary(name: str, values: Mapping[Any, Any], comment: str) -> str:
    if not values:
        return f"\n# {comment}\n{name} = {{}}\n"
    lines = "".join(f"{INDENT}{key!r}: {value!r},\n" for key, value in values.items())
    return f"\n# {comment}\n{name} = {{\n{lines}}}\n"


def _words(name: str, words: Iterable[str], comment: str) -> str:
    line, lines = INDENT, []
    for word in sorted(words):
        if len(line) + len(repr(word)) > 96:
            lines.append(line.rstrip())
            line = INDENT
        line += f"{word!r}, "
    return f"\n# {comment}\n{name} = {{\n" + "\n".join([*lines, line.rstrip()]) + "\n}\n"


def _in_docstring(text: str) -> str:
    """A name from a file within a docstring: letters, digits and marks that end nothing."""
    return re.sub(r"[^\w .,:/()+-]", "?", text.replace("\n", " "))[:200]
