"""Why a model predicts what it predicts: what each column of one row adds to the mean.

    prediction = intercept + Σ over columns of Σ over the column's features of weight · z

z is the standardised feature, 0 for the mean of the training rows, so the intercept is what the
model predicts where every feature is at its mean, and all parts together are the prediction.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from regatta import prediction
from regatta.explain.held_out import date_in_words, in_words
from regatta.fitted_model import FittedModel
from regatta.preprocessing import (
    MISSING_LEVEL,
    OTHER_LEVEL,
    BooleanEncoding,
    CategoryEncoding,
    ColumnEncoding,
    DateEncoding,
    Feature,
    NumberEncoding,
    range_of,
)

Columns = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Contribution:
    """What one column of the row adds to the prediction, in the target's unit."""

    column: str
    value: str
    amount: float

    @property
    def label(self) -> str:
        return f"{self.column} = {self.value}"


@dataclass(frozen=True)
class Explanation:
    """One prediction, taken apart: ``base`` and all amounts add up to ``prediction``.

    ``contributions`` are sorted by size, the largest first.
    """

    base: float
    contributions: tuple[Contribution, ...]
    prediction: float

    def shown(self, most: int) -> tuple[tuple[Contribution, ...], float | None, int]:
        """The largest ones, the sum of the rest (``None`` if there is none), how many it sums."""
        if len(self.contributions) <= most:
            return self.contributions, None, 0
        largest, rest = self.contributions[:most], self.contributions[most:]
        return largest, math.fsum(each.amount for each in rest), len(rest)

    def to_json(self) -> dict[str, Any]:
        return {
            "base": self.base,
            "prediction": self.prediction,
            "contributions": [vars(each) for each in self.contributions],
        }


def explain(model: FittedModel, columns: Columns) -> Explanation:
    """Take the prediction of one row apart.

    Parameters
    ----------
    columns : mapping of column name to array (1,)
        As `regatta.preprocessing.Preprocessing.transform` takes them.
    """
    predicted = float(prediction.predict_columns(model, columns)[0])  # refuses what is too large
    parts = model.preprocessing.transform(columns)[0] * model.weights
    found, start = [], 0
    for column in model.preprocessing.columns:
        stop = start + len(column.features)
        text = in_words(column, _plain(columns[column.name][0]))
        found.append(Contribution(column.name, text, math.fsum(parts[start:stop].tolist())))
        start = stop
    found.sort(key=lambda each: -abs(each.amount))
    return Explanation(model.intercept, tuple(found), predicted)


def typical_row(model: FittedModel) -> dict[str, Any]:
    """A value for each column that is as usual as can be: medians, and the commonest words.

    Numbers and booleans (0 or 1) are floats, dates seconds since 1970, texts strings or ``None``.
    """
    return {each.name: _typical(each) for each in model.preprocessing.columns}


def as_columns(model: FittedModel, values: Mapping[str, Any]) -> dict[str, npt.NDArray[Any]]:
    """One row as columns of one cell; ``None`` is missing."""
    columns: dict[str, npt.NDArray[Any]] = {}
    for each in model.preprocessing.columns:
        value = values[each.name]
        if isinstance(each, CategoryEncoding):
            columns[each.name] = np.array([value], dtype=object)
        else:
            columns[each.name] = np.array([np.nan if value is None else float(value)])
    return columns


def beyond_training(model: FittedModel, values: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each value that the training rows do not reach to."""
    for column in model.preprocessing.columns:
        value = values[column.name]
        if isinstance(column, CategoryEncoding):
            if not column.knows(value):
                yield f"{column.name}: “{value or 'missing'}” was not seen in the training."
            continue
        span = range_of(column)
        if span is None or value is None or span[0] <= float(value) <= span[1]:
            continue
        low, high = (_end(column, each) for each in span)
        yield f"{column.name}: {_end(column, value)} lies outside {low} … {high}."


def commonest(column: CategoryEncoding) -> Feature:
    """The indicator that most training rows set."""
    return max(column.features, key=lambda each: each.mean)


def _typical(column: ColumnEncoding) -> Any:
    if isinstance(column, CategoryEncoding):
        feature = commonest(column)
        if feature.level is None:
            return next((each for each in column.rare if each != MISSING_LEVEL), OTHER_LEVEL)
        return None if feature.level == MISSING_LEVEL else feature.level
    assert isinstance(column, NumberEncoding | BooleanEncoding | DateEncoding)
    return column.impute


def _end(column: ColumnEncoding, value: float) -> str:
    if isinstance(column, DateEncoding):
        return date_in_words(value, column.format)
    return f"{value:.6g}"


def _plain(value: Any) -> Any:
    return float(value) if isinstance(value, np.floating) else value
