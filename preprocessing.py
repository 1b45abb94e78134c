"""The fitted encoding of a table's columns into standardised features.

    column values ──impute──▶ raw features ──(x - mean) / scale──▶ features (n_rows, n_features)

    number    x                                   one feature
    boolean   0 or 1                              one feature
    category  one indicator a level, rare levels share one: ``name=(other)``
    date      trend in days, and sine and cosine of the year, the week and (with a time) the day

Everything here was fitted on training rows alone, is plain arithmetic, and can be written down in
JSON or as a scikit-learn ``Pipeline``. Imports NumPy and the standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from regatta.ingest.values import NumberStyle
from regatta.utils import DataError

FloatArray = npt.NDArray[np.float64]
AnyArray = npt.NDArray[Any]

MIN_LEVEL_ROWS = 10
MAX_LEVELS = 60
MAX_RARE_LEVELS = 1_000
MISSING_LEVEL = "(missing)"
OTHER_LEVEL = "(other)"

SECONDS_A_DAY = 86_400.0
# Days a period of each pair of cyclic features.
DATE_PERIODS = {"year": 365.2425, "week": 7.0, "day": 1.0}
DATE_PARTS = ("trend", *(f"{period}_{wave}" for period in DATE_PERIODS for wave in ("sin", "cos")))


@dataclass(frozen=True)
class Feature:
    """One column of the prepared matrix.

    ``level`` is set for an indicator (``None`` there means the rest), ``part`` for a date.
    ``low`` and ``high`` are the smallest and largest value of the training rows, where known.
    """

    name: str
    mean: float
    scale: float
    level: str | None = None
    part: str | None = None
    low: float | None = None
    high: float | None = None


class ColumnEncoding(Protocol):
    """How one column becomes features. ``encode`` fills ``out`` (n_features, n_rows), unscaled."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def features(self) -> tuple[Feature, ...]: ...
    def encode(self, values: AnyArray, out: FloatArray) -> None: ...
    def to_json(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class NumberEncoding:
    """A number: the median of the training rows stands for a missing one.

    ``missing`` holds words that stood for a missing value in this column when it was fitted;
    ``decimal``, ``thousands``, ``affix`` (a currency, a percent sign or a unit) and ``parentheses``
    (around negative ones) say how its numbers were written.
    """

    name: str
    impute: float
    features: tuple[Feature, ...]
    missing: tuple[str, ...] = ()
    decimal: str = "."
    thousands: str = ""
    affix: str = ""
    parentheses: bool = False
    kind: str = "number"

    @property
    def style(self) -> NumberStyle:
        return NumberStyle(self.decimal, self.thousands, self.affix, self.parentheses)

    def encode(self, values: AnyArray, out: FloatArray) -> None:
        _impute(values, self.impute, out[0])

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "kind": self.kind,
            "impute": self.impute,
            "missing": list(self.missing),
            "decimal": self.decimal,
            "thousands": self.thousands,
            "affix": self.affix,
            "parentheses": self.parentheses,
            "features": [_plain_feature(each) for each in self.features],
        }


@dataclass(frozen=True)
class BooleanEncoding:
    """Two words, as 0 and 1; the commoner one stands for a missing value, which further words
    said that ``missing`` holds."""

    name: str
    impute: float
    features: tuple[Feature, ...]
    false: str
    true: str
    missing: tuple[str, ...] = ()
    kind: str = "boolean"

    def encode(self, values: AnyArray, out: FloatArray) -> None:
        _impute(values, self.impute, out[0])

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "kind": self.kind,
            "false": self.false,
            "true": self.true,
            "impute": self.impute,
            "missing": list(self.missing),
            "features": [_plain_feature(each) for each in self.features],
        }


@dataclass(frozen=True)
class CategoryEncoding:
    """One indicator for each of ``levels``, and one for all others where ``other`` is true.

    A missing text is the level ``(missing)``. A level that is not known falls under "other";
    without an "other" all indicators are zero. ``rare`` are the levels of the training that fall
    under "other", if they are not too many to be kept. ``missing`` holds further words that stood
    for a missing text.
    """

    name: str
    levels: tuple[str, ...]
    other: bool
    features: tuple[Feature, ...]
    rare: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    kind: str = "category"

    @cached_property
    def _seen(self) -> frozenset[str]:
        return frozenset((*self.levels, *self.rare))

    def knows(self, level: str | None) -> bool:
        """Whether the training has seen a level, as far as that is known."""
        return (level or MISSING_LEVEL) in self._seen

    def indices(self, values: AnyArray) -> npt.NDArray[np.intp]:
        """The position of the indicator that each value sets; -1 for none."""
        rest = len(self.levels) if self.other else -1
        positions = {level: position for position, level in enumerate(self.levels)}
        unique: dict[Any, int] = {}
        found = np.empty(len(values), dtype=np.intp)
        for row, value in enumerate(values):
            position = unique.get(value)
            if position is None:
                word = MISSING_LEVEL if _is_missing(value) else str(value).strip()
                position = unique[value] = positions.get(word or MISSING_LEVEL, rest)
            found[row] = position
        return found

    def encode(self, values: AnyArray, out: FloatArray) -> None:
        """Set the indicators. Integers are taken as the result of `indices`."""
        chosen = values if values.dtype.kind == "i" else self.indices(values)
        out[:] = 0.0
        rows = np.flatnonzero(chosen >= 0)
        out[chosen[rows], rows] = 1.0

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "kind": self.kind,
            "levels": list(self.levels),
            "other": self.other,
            "rare": list(self.rare),
            "missing": list(self.missing),
            "impute": None,
            "features": [{**_plain_feature(each), "level": each.level} for each in self.features],
        }


@dataclass(frozen=True)
class DateEncoding:
    """Seconds since 1970 as a trend in days and as points on the circles of year, week, day.

    ``format`` is how the column was written: for ``strptime``, or ``ISO8601``. ``missing`` holds
    words that stood for a missing date when it was fitted.
    """

    name: str
    impute: float
    features: tuple[Feature, ...]
    format: str
    missing: tuple[str, ...] = ()
    kind: str = "date"

    def encode(self, values: AnyArray, out: FloatArray) -> None:
        days = np.empty(len(values))
        _impute(values, self.impute, days)
        days /= SECONDS_A_DAY
        for feature, row in zip(self.features, out, strict=True):
            row[:] = date_part(days, str(feature.part))

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "kind": self.kind,
            "format": self.format,
            "impute": self.impute,
            "missing": list(self.missing),
            "features": [{**_plain_feature(each), "part": each.part} for each in self.features],
        }


@dataclass(frozen=True)
class DroppedColumn:
    """A column that is no feature, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Preprocessing:
    """All that turns the columns of a file into the features of a model."""

    columns: tuple[ColumnEncoding, ...]
    target: str
    dropped: tuple[DroppedColumn, ...] = ()

    @property
    def features(self) -> tuple[Feature, ...]:
        return tuple(feature for column in self.columns for feature in column.features)

    @property
    def feature_names(self) -> list[str]:
        return [feature.name for feature in self.features]

    @property
    def means(self) -> FloatArray:
        return np.array([feature.mean for feature in self.features])

    @property
    def scales(self) -> FloatArray:
        return np.array([feature.scale for feature in self.features])

    def transform(self, columns: Mapping[str, AnyArray]) -> FloatArray:
        """The standardised features of some rows.

        Parameters
        ----------
        columns : mapping of column name to array (n_rows,)
            float64 with NaN for missing (numbers, booleans as 0 and 1, dates as seconds since
            1970), or texts with None for missing (categories).

        Returns
        -------
        ndarray (n_rows, n_features), float64

        Raises
        ------
        DataError
            If a column is not there.
        """
        rows = self._rows(columns)
        out = self.encode(columns, rows)
        standardise(out, self.means, self.scales)
        return np.ascontiguousarray(out.T)

    def encode(self, columns: Mapping[str, AnyArray], rows: int) -> FloatArray:
        """Features before they are centred and scaled, transposed: (n_features, n_rows)."""
        out = np.empty((len(self.features), rows))
        start = 0
        for column in self.columns:
            stop = start + len(column.features)
            column.encode(np.asarray(columns[column.name]), out[start:stop])
            start = stop
        return out

    def _rows(self, columns: Mapping[str, AnyArray]) -> int:
        for column in self.columns:
            if column.name not in columns:
                raise missing_column(column.name, columns)
        return len(columns[self.columns[0].name]) if self.columns else 0

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `from_json` takes back."""
        return {
            "columns": [column.to_json() for column in self.columns],
            "target": self.target,
            "dropped": [{"name": each.name, "reason": each.reason} for each in self.dropped],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Preprocessing:
        """What `to_json` wrote."""
        return cls(
            columns=tuple(_column_from_json(each) for each in value["columns"]),
            target=str(value["target"]),
            dropped=tuple(DroppedColumn(**each) for each in value["dropped"]),
        )


def standardise(out: FloatArray, means: FloatArray, scales: FloatArray) -> None:
    """Centre and scale features in place. ``out`` is (n_features, n_rows)."""
    out -= means[:, None]
    out /= scales[:, None]


def date_part(days: FloatArray, part: str) -> FloatArray:
    """``trend``, or ``<period>_sin`` / ``<period>_cos`` of days since 1970."""
    if part == "trend":
        return days
    period, wave = part.split("_")
    # The whole turns are taken off first: a sine loses digits far from zero.
    angle = np.mod(days, DATE_PERIODS[period]) * (2 * math.pi / DATE_PERIODS[period])
    return np.sin(angle) if wave == "sin" else np.cos(angle)


def choose_levels(counts: Mapping[str | None, int]) -> tuple[tuple[str, ...], bool]:
    """The levels that get an indicator, in alphabetical order, and whether others are left.

    At least `MIN_LEVEL_ROWS` rows a level, and at most `MAX_LEVELS` indicators with "other".
    """
    named = {MISSING_LEVEL if level is None else level: n for level, n in counts.items() if n > 0}
    frequent = [level for level, n in named.items() if n >= MIN_LEVEL_ROWS]
    frequent.sort(key=lambda level: (-named[level], level))
    room = MAX_LEVELS
    if len(frequent) < len(named) or len(frequent) > MAX_LEVELS:
        room = MAX_LEVELS - 1
    kept = sorted(frequent[:room])
    return tuple(kept), len(kept) < len(named)


def range_of(column: ColumnEncoding) -> tuple[float, float] | None:
    """Smallest and largest value over the training rows; dates as seconds since 1970. ``None`` for
    words, and where it was not written down."""
    feature = column.features[0]
    if isinstance(column, DateEncoding):
        trend = [each for each in column.features if each.part == "trend"]
        if not trend or trend[0].low is None or trend[0].high is None:
            return None
        return trend[0].low * SECONDS_A_DAY, trend[0].high * SECONDS_A_DAY
    if not isinstance(column, NumberEncoding) or feature.low is None or feature.high is None:
        return None
    return feature.low, feature.high


def missing_column(name: str, known: Sequence[str] | Mapping[str, Any]) -> DataError:
    """The error for a column that a file does not have, with names that look like it."""
    import difflib

    names = [str(each) for each in known]
    folded = {each.casefold(): each for each in names}
    close = difflib.get_close_matches(name.casefold(), list(folded), n=3, cutoff=0.6)
    if close:
        hint = f"Did you mean {' or '.join(repr(folded[each]) for each in close)}?"
    else:
        shown = ", ".join(repr(each) for each in names[:12])
        hint = f"Columns: {shown}{', …' if len(names) > 12 else '.'}"
    return DataError(f"There is no column {name!r}.", hint, column=name)


def _impute(values: AnyArray, value: float, out: FloatArray) -> None:
    out[:] = values
    out[np.isnan(out)] = value


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value)


def _plain_feature(feature: Feature) -> dict[str, Any]:
    plain = {"name": feature.name, "mean": feature.mean, "scale": feature.scale}
    if feature.low is None or feature.high is None:
        return plain
    return plain | {"low": feature.low, "high": feature.high}


def _column_from_json(value: Mapping[str, Any]) -> ColumnEncoding:
    features = tuple(Feature(**each) for each in value["features"])
    name, kind = str(value["name"]), value["kind"]
    words = tuple(value.get("missing", ()))
    if kind == "number":
        return NumberEncoding(
            name,
            float(value["impute"]),
            features,
            words,
            value.get("decimal", "."),
            value.get("thousands", ""),
            value.get("affix", ""),
            value.get("parentheses", False),
        )
    if kind == "boolean":
        return BooleanEncoding(
            name, float(value["impute"]), features, value["false"], value["true"], words
        )
    if kind == "category":
        rare = tuple(value.get("rare", ()))
        levels, other = tuple(value["levels"]), bool(value["other"])
        return CategoryEncoding(name, levels, other, features, rare, words)
    if kind == "date":
        return DateEncoding(name, float(value["impute"]), features, value["format"], words)
    raise DataError(f"The column {name!r} has the unknown kind {kind!r}.", column=name)
