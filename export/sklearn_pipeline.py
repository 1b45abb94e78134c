"""A fitted model written down as a plain scikit-learn ``Pipeline``.

    DataFrame as read_csv gives it
      └─ columns   ColumnTransformer, by the names of the columns
           numbers     SimpleImputer
           boolean     two words ▶ 1 and 0 ▶ SimpleImputer
           category    SimpleImputer("(missing)") ▶ OneHotEncoder, rare levels in one
           date        to_datetime ▶ microseconds ▶ SimpleImputer ▶ days, and points on circles
      └─ scale     StandardScaler with the statistics of the training rows
      └─ model     LinearRegression, Ridge, Lasso or ElasticNet with the fitted weights

Nothing is fitted to data here. The parts are fitted, through scikit-learn's public interface, to a
made-up table that has the columns and levels of the model, and are given the model's statistics
afterwards. They hold functions of NumPy and pandas by name and no code of Regatta, so that the
pipeline loads where Regatta is not installed.

Where a file writes a missing value, a number or a word in a way that pandas leaves as text, the
part starts with ``SimpleImputer`` steps that replace one word by another. An unknown word in a
column of numbers stays an error.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import ElasticNet, Lasso, LinearRegression, Ridge
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from regatta.fitted_model import FittedModel, FloatArray
from regatta.ingest.values import NumberStyle
from regatta.preprocessing import (
    DATE_PERIODS,
    MISSING_LEVEL,
    OTHER_LEVEL,
    SECONDS_A_DAY,
    BooleanEncoding,
    CategoryEncoding,
    ColumnEncoding,
    DateEncoding,
    Feature,
    NumberEncoding,
)

# All that skops may ask a reader of an exported pipeline to trust: plain functions and types.
TRUSTED_TYPES = frozenset(
    {
        "numpy.asarray",
        "numpy.dtype",
        "numpy.ravel",
        "numpy.reshape",
        "numpy.strings.replace",
        "numpy.strings.strip",
        "pandas.to_datetime",
    }
)

# The words that pandas.read_csv takes as missing by itself.
PANDAS_MISSING = frozenset(
    ["", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN",
     "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"]
)  # fmt: skip
# Usual words for a missing value that it does not know.
COMMON_MISSING = ("?", "-", "--")

# A missing time (NaT) as a number.
NO_TIME = float(np.iinfo(np.int64).min)
MICROSECONDS_A_DAY = SECONDS_A_DAY * 1e6

Steps = list[tuple[str, Any]]


@dataclass(frozen=True)
class Reading:
    """How pandas reads the files that the pipeline is for.

    Parameters
    ----------
    names : mapping of a column's name to its name in the frame, where they differ
    padded : set of names
        Columns of words whose cells have blanks around them.
    missing : mapping of a column's name to cells that mean a missing value
        Where pandas leaves them as text: a lone blank, for instance.
    """

    names: Mapping[str, str] = field(default_factory=dict)
    padded: frozenset[str] = frozenset()
    missing: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def name(self, column: str) -> str:
        return self.names.get(column, column)

    def words(self, column: NumberEncoding) -> tuple[str, ...]:
        """Cells that mean a missing value and that pandas leaves as text."""
        cells = self.missing.get(column.name, frozenset()).union(column.missing)
        return tuple(sorted(cells - PANDAS_MISSING))


@dataclass(frozen=True)
class Part:
    """One entry of the `ColumnTransformer`.

    Parameters
    ----------
    steps : list of (name, transformer)
        The last imputer of numbers is called ``impute`` and gets ``imputes`` as its statistics.
    columns : list of str
        Their names in the frame.
    cells : list
        Made-up cells that all of its columns are fitted to.
    """

    name: str
    steps: Steps
    columns: list[str]
    cells: list[Any]
    features: tuple[Feature, ...]
    imputes: FloatArray | None = None

    @property
    def transformer(self) -> Any:
        return Pipeline(self.steps) if len(self.steps) > 1 else self.steps[0][1]


def build_pipeline(model: FittedModel, reading: Reading | None = None) -> Pipeline:
    """The pipeline that predicts what ``model`` predicts, from a frame with its columns."""
    parts = list(_parts(model, reading or Reading()))
    features = [feature for part in parts for feature in part.features]
    weights = dict(zip(model.preprocessing.features, model.weights.tolist(), strict=True))
    return Pipeline(
        [
            ("columns", _fitted_columns(parts)),
            ("scale", _scaler(features, model.rows_train)),
            ("model", _estimator(model, np.array([weights[each] for each in features]))),
        ]
    )


def _parts(model: FittedModel, reading: Reading) -> Iterator[Part]:
    """Numbers that are written alike together, then every other column by itself."""
    columns = model.preprocessing.columns
    alike: dict[tuple[Any, ...], list[NumberEncoding]] = {}
    for column in columns:
        if isinstance(column, NumberEncoding):
            style = reading.words(column), column.style
            alike.setdefault(style, []).append(column)
    for numbers in alike.values():
        yield _number_part(numbers, reading)
    for column in columns:
        match column:
            case BooleanEncoding():
                yield _boolean_part(column, reading)
            case CategoryEncoding():
                yield _category_part(column, reading)
            case DateEncoding():
                yield _date_part(column, reading)


def _step_name(name: str) -> str:
    """scikit-learn forbids two underscores in the name of a step."""
    return name.replace("_", "-")


def _number_part(numbers: list[NumberEncoding], reading: Reading) -> Part:
    first = numbers[0]
    words = reading.words(first)
    style = first.style
    text = _number_text(style)
    steps = [*(_replace_missing(words, "nan") if words else [])]
    for value in [style.parse(word) for word in words if style.matches(word)]:
        steps.append((_step_name(f"missing number {value}"), _replace(value, "nan")))
    steps += text
    return Part(
        "numbers",
        [*steps, ("impute", SimpleImputer(strategy="median"))],
        [reading.name(each.name) for each in numbers],
        ["0"] if steps else [0.0],
        tuple(feature for each in numbers for feature in each.features),
        np.array([each.impute for each in numbers]),
    )


def _number_text(style: NumberStyle) -> Steps:
    """Steps that bring numbers in a style of their own into the usual one.

    Numbers that pandas has read already pass unchanged. Where a full stop separates thousands
    there are none: "1.234" in a text could not be told from a number; such files are read with
    the settings of `read_csv_`.
    """
    plain = style.decimal == "." and not style.thousands
    if not style.framed and (plain or style.thousands == "."):
        return []
    steps: Steps = [("text", _function(np.asarray, dtype="str"))]
    for position, (mark, new) in enumerate(style.replaced, start=1):
        steps += [(f"mark {position}", _function(np.strings.replace, old=mark, new=new))]
    return steps


def _boolean_part(column: BooleanEncoding, reading: Reading) -> Part:
    words = [(word, "1") for word in spellings(column.true)]
    words += [(word, "0") for word in spellings(column.false)]
    return Part(
        f"{column.kind} {column.name}",
        [
            *_replace_missing((*COMMON_MISSING, *column.missing), "nan"),
            *_strip(column.name, "nan", reading),
            *((f"{word} is {digit}", _replace(word, digit)) for word, digit in words),
            ("impute", SimpleImputer(strategy="median")),
        ],
        [reading.name(column.name)],
        ["0", "1"],
        column.features,
        np.array([column.impute]),
    )


def _category_part(column: CategoryEncoding, reading: Reading) -> Part:
    missing = MISSING_LEVEL
    if missing not in column.levels:
        missing = next(iter(lost_levels(column)), missing)
    words = (*COMMON_MISSING, *column.missing) if MISSING_LEVEL in column.levels else ()
    encoder, cells = _encoder(column)
    return Part(
        f"{column.kind} {column.name}",
        [
            *_replace_missing(words, missing),
            *_strip(column.name, missing, reading),
            *_numeric_levels(column.levels),
            ("encode", encoder),
        ],
        [reading.name(column.name)],
        cells,
        column.features,
    )


def lost_levels(column: ColumnEncoding) -> list[str]:
    """Levels of a category, such as "None", that pandas takes for a missing value by itself."""
    return sorted(PANDAS_MISSING.intersection(getattr(column, "levels", ())))


def _encoder(column: CategoryEncoding) -> tuple[OneHotEncoder, list[Any]]:
    """One indicator a level, and what to fit it to: each level twice, so that a word that comes
    once is the one infrequent level, which unknown words fall under."""
    levels, cells = list(column.levels), [level for level in column.levels for _ in range(2)]
    if not column.other:
        known = np.array(levels, dtype=object)
        return OneHotEncoder(
            categories=[known], handle_unknown="ignore", sparse_output=False
        ), cells
    rest = OTHER_LEVEL
    while rest in levels:
        rest += " "
    return OneHotEncoder(
        categories=[np.array([*levels, rest], dtype=object)],
        min_frequency=2 if levels else 10**9,
        handle_unknown="infrequent_if_exist",
        sparse_output=False,
    ), [*cells, rest]


def _numeric_levels(levels: Sequence[str]) -> Steps:
    """Levels that pandas reads as numbers, such as "01", are brought back to their words."""
    words = [level for level in levels if level != MISSING_LEVEL]
    numbers = [_number(word) for word in words]
    if None in numbers or len(set(numbers)) < len(numbers):
        return []
    return [
        (_step_name(f"number {word}"), _replace(number, word))
        for word, number in zip(words, numbers, strict=True)
    ]


def _date_part(column: DateEncoding, reading: Reading) -> Part:
    return Part(
        f"{column.kind} {column.name}",
        [
            *_replace_missing(COMMON_MISSING, "NaT"),
            ("series", _function(np.ravel)),
            ("parse", _function(pd.to_datetime, format=column.format, utc=True)),
            ("time", _function(np.asarray, dtype="datetime64[us]")),
            ("microseconds", _function(np.asarray, dtype="int64")),
            ("column", _function(np.reshape, shape=(-1, 1))),
            ("impute", SimpleImputer(missing_values=NO_TIME, strategy="median")),
            ("parts", FeatureUnion([(str(f.part), _date_feature(f)) for f in column.features])),
        ],
        [reading.name(column.name)],
        [np.datetime64(0, "us")],
        column.features,
        np.array([column.impute * 1e6]),
    )


def _date_feature(feature: Feature) -> Pipeline:
    """Microseconds to days, or to the sine or cosine of a period's angle."""
    _, _, wave = str(feature.part).rpartition("_")
    steps: Steps = [("unit", _divide(_unit(feature)))]
    if wave in ("sin", "cos"):
        steps += [(wave, FunctionTransformer(np.sin if wave == "sin" else np.cos))]
    return Pipeline(steps)


def _unit(feature: Feature) -> float:
    """Microseconds in a day, or in the radian of a period."""
    if feature.part == "trend":
        return MICROSECONDS_A_DAY
    period = str(feature.part).split("_")[0]
    return DATE_PERIODS[period] * MICROSECONDS_A_DAY / (2 * math.pi)


def _fitted_columns(parts: Sequence[Part]) -> ColumnTransformer:
    """The column transformer, fitted to made-up cells, with the statistics of the model."""
    rows = max(len(part.cells) for part in parts)
    frame = pd.DataFrame(
        {
            column: pd.Series(
                part.cells + part.cells[:1] * (rows - len(part.cells)), dtype=_made_dtype(part)
            )
            for part in parts
            for column in part.columns
        }
    )
    named = {_step_name(f"{n} {part.name}"): part for n, part in enumerate(parts, start=1)}
    transformer = ColumnTransformer(
        [(step, part.transformer, part.columns) for step, part in named.items()],
        verbose_feature_names_out=False,
    )
    transformer.fit(frame)
    for step, part in named.items():
        _give_statistics(transformer.named_transformers_[step], part)
    return transformer


def _give_statistics(fitted: Any, part: Part) -> None:
    steps = fitted.named_steps if isinstance(fitted, Pipeline) else {"impute": fitted}
    if part.imputes is not None:
        steps["impute"].statistics_ = part.imputes
    if "parts" in steps:
        for feature, (_, pipeline) in zip(
            part.features, steps["parts"].transformer_list, strict=True
        ):
            pipeline.steps[0] = (pipeline.steps[0][0], _divide(_unit(feature)))


def _made_dtype(part: Part) -> str:
    return "float64" if isinstance(part.cells[0], float) else "object"


def _scaler(features: Sequence[Feature], rows: int) -> StandardScaler:
    scaler = StandardScaler()
    scaler.mean_ = np.array([each.mean for each in features])
    scaler.scale_ = np.array([each.scale for each in features])
    scaler.var_ = scaler.scale_**2
    scaler.n_features_in_ = len(features)
    scaler.n_samples_seen_ = rows
    return scaler


def _divide(by: float) -> StandardScaler:
    scaler = _scaler([Feature("", 0.0, by)], 1)
    return scaler.set_params(with_mean=False)


def _estimator(model: FittedModel, weights: FloatArray) -> Any:
    """scikit-learn's model of the same name; any other linear one as a `LinearRegression`."""
    match model.model:
        case "ridge":
            estimator: Any = Ridge(alpha=model.alpha)
        case "lasso":
            estimator = Lasso(alpha=model.alpha)
        case "elasticnet":
            estimator = ElasticNet(alpha=model.alpha, l1_ratio=model.l1_ratio)
        case _:
            estimator = LinearRegression()
    estimator.coef_ = weights
    estimator.intercept_ = float(model.intercept)
    estimator.n_features_in_ = len(weights)
    return estimator


def _replace(old: Any, new: str) -> SimpleImputer:
    """Replace one value by another in a column of words."""
    return SimpleImputer(missing_values=old, strategy="constant", fill_value=new)


def _replace_missing(words: Sequence[str], new: str) -> Steps:
    """A missing value first: the other replacements do not take one."""
    steps: Steps = [("missing", _replace(np.nan, new))]
    return steps + [(_step_name(f"missing {word}"), _replace(word, new)) for word in words]


def _strip(name: str, missing: str, reading: Reading) -> Steps:
    """Take blanks from around the words of a column that has them."""
    if name not in reading.padded:
        return []
    return [
        ("text", _function(np.asarray, dtype="str")),
        ("strip", _function(np.strings.strip)),
        ("words", _function(np.asarray, dtype="object")),
        ("blank", _replace("", missing)),
        *((f"blanks {word}", _replace(word, missing)) for word in COMMON_MISSING),
    ]


def _function(function: Any, **options: Any) -> FunctionTransformer:
    return FunctionTransformer(function, kw_args=options or None)


def spellings(word: str) -> list[str]:
    """The ways in which a word of a boolean column is written."""
    return sorted({word, word.lower(), word.upper(), word.capitalize()})


def _number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None
