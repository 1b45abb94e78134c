"""A model taken out of Regatta: as a scikit-learn pipeline, or as JSON to score by hand.

    FittedModel ──write aside──▶ file ──read again──▶ predictions
         │                                                │ equal to 1e-6?  ──▶ rename
         └────────────── predict(made-up rows) ───────────┘

What was written is loaded again and compared with the model before it takes its place; a file
that predicts anything else is never left behind.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from regatta.fitted_model import FittedModel, FloatArray
from regatta.ingest.values import is_missing
from regatta.preprocessing import (
    DATE_PERIODS,
    MISSING_LEVEL,
    SECONDS_A_DAY,
    BooleanEncoding,
    CategoryEncoding,
    ColumnEncoding,
    DateEncoding,
    NumberEncoding,
)
from regatta.utils import RegattaError, UserError, atomic_path, read_json, write_json

if TYPE_CHECKING:
    import pandas as pd

    from regatta.sklearn_pipeline import Reading

TOLERANCE = 1e-6
SAMPLE_ROWS = 200
SOURCE_CELLS = 1_000_000

JSON_FORMAT = "regatta-score"
FORMULA = [
    "prediction = intercept + the sum, over all features, of weight * (value - mean) / scale",
    "number: value is the cell; impute where it is missing",
    "boolean: value is 1 where the cell is the word in 'true', 0 where it is the word in 'false'; "
    "impute where it is missing",
    "category: value is 1 for the feature whose level is the cell, 0 for the others; a missing "
    "cell has the level '(missing)'; a cell whose level no feature has sets the feature whose "
    "level is null, if there is one",
    "date: t = seconds since 1970-01-01 UTC / 86400, impute / 86400 where it is missing; value is "
    "t for 'trend', and sin or cos of 2 * pi * t / p for '<period>_sin' and '<period>_cos', where "
    "p stands in periods_in_days",
    "coefficient = weight / scale is what one unit of the value adds to the prediction",
]


@dataclass(frozen=True)
class Exported:
    """What was written, and how far its predictions are from the model's."""

    path: Path
    format: str
    rows_compared: int
    largest_difference: float  # relative
    trusted_types: tuple[str, ...] = ()  # that skops asks the reader to trust


def export_model(
    model: FittedModel | Path, format: str, out: Path, *, source: Path | None = None
) -> Exported:
    """Write ``model`` to ``out``, once what was written is known to predict the same.

    Parameters
    ----------
    model : FittedModel or path of a ``model.json``
    format : {"sklearn", "json"}
    source : path, optional
        The file the model was trained on, or one like it. Where it is there, the pipeline takes
        the names of columns as they stand in it, blanks around them included, and rows of it are
        compared too. By default what the run's ``config.json`` says, if that file still exists.

    Raises
    ------
    UserError
        If the format is not known.
    RegattaError
        If predictions differ by more than 1e-6, relative.
    """
    if format not in FORMATS:
        raise UserError(f"There is no format {format!r}.", f"Known: {', '.join(FORMATS)}.")
    if not isinstance(model, FittedModel):
        source = source or _source_of(model)
        model = FittedModel.load(model)
    if not out.parent.is_dir():
        raise UserError(f"There is no folder {str(out.parent)!r}.", "Make it first.")
    return FORMATS[format](model, out, source)


def default_name(model: FittedModel, format: str) -> str:
    """A file name for an export: ``<run>.skops`` or ``<run>.json``."""
    return f"{model.run_id or 'model'}{SUFFIXES[format]}"


# -- JSON -----------------------------------------------------------------------------------------


def scoring_document(model: FittedModel) -> dict[str, Any]:
    """All that is needed to score by hand."""
    weights = iter(model.weights.tolist())
    preprocessing = model.preprocessing.to_json()
    columns = [
        {**column, "features": [_weighted(each, next(weights)) for each in column["features"]]}
        for column in preprocessing["columns"]
    ]
    return {
        "format": JSON_FORMAT,
        "version": 1,
        "target": model.target,
        "model": model.model,
        "alpha": model.alpha,
        "run_id": model.run_id,
        "formula": FORMULA,
        "periods_in_days": DATE_PERIODS,
        "intercept": model.intercept,
        "columns": columns,
        "dropped": preprocessing["dropped"],
        "metrics": dict(model.metrics),
    }


def _weighted(feature: Mapping[str, Any], weight: float) -> dict[str, Any]:
    return {**feature, "weight": weight, "coefficient": weight / feature["scale"]}


def score(document: Mapping[str, Any], row: Mapping[str, Any]) -> float:
    """The prediction for one row, by the formula of a scoring document and nothing else.

    ``row`` maps a column's name to its cell: a float (a date in seconds since 1970), a word, or
    ``None`` where it is missing.
    """
    total = float(document["intercept"])
    for column in document["columns"]:
        values = _feature_values(column, row[column["name"]], document["periods_in_days"])
        for feature, value in zip(column["features"], values, strict=True):
            total += feature["weight"] * (value - feature["mean"]) / feature["scale"]
    return total


def _feature_values(
    column: Mapping[str, Any], cell: Any, periods: Mapping[str, float]
) -> Iterator[float]:
    features = column["features"]
    if column["kind"] == "category":
        level = "(missing)" if cell is None else cell
        known = any(feature["level"] == level for feature in features)
        for feature in features:
            yield float(feature["level"] == (level if known else None))
        return
    value = column["impute"] if cell is None else cell
    if column["kind"] != "date":
        yield value
        return
    days = value / SECONDS_A_DAY
    for feature in features:
        if feature["part"] == "trend":
            yield days
            continue
        period, wave = feature["part"].split("_")
        angle = 2 * math.pi * days / periods[period]
        yield math.sin(angle) if wave == "sin" else math.cos(angle)


def _write_json(model: FittedModel, out: Path, _source: Path | None) -> Exported:
    columns = sample_columns(model)
    with atomic_path(out) as aside:
        write_json(aside, scoring_document(model), durable=False)
        document = read_json(aside)
        rows = _rows(columns)
        scored = np.array([score(document, row) for row in rows])
        largest = _compare(scored, model.predict(columns), "The exported JSON")
    return Exported(out, "json", len(rows), largest)


def _rows(columns: Mapping[str, npt.NDArray[Any]]) -> list[dict[str, Any]]:
    listed = {
        name: [None if value != value else value for value in values.tolist()]
        for name, values in columns.items()
    }
    return [dict(zip(listed, row, strict=True)) for row in zip(*listed.values(), strict=True)]


# -- scikit-learn ---------------------------------------------------------------------------------


def _write_sklearn(model: FittedModel, out: Path, source: Path | None) -> Exported:
    import skops.io

    from regatta.sklearn_pipeline import TRUSTED_TYPES, build_pipeline

    options = read_csv_options(model)
    reading = _reading(model, source, options)
    pipeline = build_pipeline(model, reading)
    pipeline.read_csv_ = options
    with atomic_path(out) as aside:
        skops.io.dump(pipeline, aside)
        asked = tuple(sorted(skops.io.get_untrusted_types(file=aside)))
        if not set(asked) <= TRUSTED_TYPES:
            strange = sorted(set(asked) - TRUSTED_TYPES)
            raise RegattaError(f"The pipeline holds types that it must not: {strange}.")
        again = skops.io.load(aside, trusted=list(asked))
        rows, largest = _compare_pipeline(model, again, source, reading.names)
    return Exported(out, "sklearn", rows, largest, asked)


def read_csv_options(model: FittedModel) -> dict[str, Any]:
    """Options with which ``pandas.read_csv`` reads files like the one the model was trained on;
    ``{}`` for a plain one.

    An exported pipeline carries them: ``pandas.read_csv(path, **pipeline.read_csv_)``.
    """
    dialect = model.dialect
    options: dict[str, Any] = _missing_options(model)
    if dialect.get("runs"):
        options["sep"] = r"\s+"
    elif dialect.get("delimiter", ",") != ",":
        options["sep"] = dialect["delimiter"]
    plain = {"quote": '"', "escape": "", "decimal": ".", "thousands": "", "encoding": "utf-8"}
    called = {"quote": "quotechar", "escape": "escapechar"}
    for key, usual in plain.items():
        value = dialect.get(key, usual)
        if value and value != usual:
            options[called.get(key, key)] = value
    comment, before = dialect.get("comment", ""), dialect.get("skip_rows", 0)
    if len(comment) == 1:
        options["comment"] = comment
    elif before:
        options["skiprows"] = before
    if dialect.get("padded"):
        options["skipinitialspace"] = True
    # The names may stand in a comment: then the first line of the table is a row.
    named = dialect.get("header", True) and dialect.get("first_line", before + 2) > before + 1
    if not named:
        options |= {"header": None, "names": list(dialect.get("names", ()))}
    return options


def _missing_options(model: FittedModel) -> dict[str, Any]:
    """Keep pandas from reading a level such as "None" as a missing value where the column has
    missing values besides."""
    from regatta.sklearn_pipeline import PANDAS_MISSING, lost_levels

    columns = model.preprocessing.columns
    levels = {
        level
        for column in columns
        if MISSING_LEVEL in getattr(column, "levels", ())
        for level in lost_levels(column)
    }
    if not levels:
        return {}
    return {"keep_default_na": False, "na_values": sorted(PANDAS_MISSING - levels)}


def _reading(model: FittedModel, source: Path | None, options: Mapping[str, Any]) -> Reading:
    """How the training file looks to pandas: names as they stand in it, columns with blanks."""
    from regatta.sklearn_pipeline import Reading

    frame = _source_frame(source, {**options, "dtype": str, "keep_default_na": False})
    known = list(model.dialect.get("names", ()))
    if frame is None or len(frame.columns) != len(known):
        return Reading()
    names = {
        name: str(column)
        for name, column in zip(known, frame.columns, strict=True)
        if str(column) != name
    }
    cells = {
        column: frame[names.get(column.name, column.name)] for column in model.preprocessing.columns
    }
    padded = {
        column.name
        for column, texts in cells.items()
        if column.kind in ("category", "boolean") and bool((texts != texts.str.strip()).any())
    }
    missing = {
        column.name: frozenset(filter(is_missing, texts.unique()))
        for column, texts in cells.items()
        if column.kind == "number"
    }
    return Reading(names, frozenset(padded), missing)


def _source_frame(source: Path | None, options: Mapping[str, Any]) -> pd.DataFrame | None:
    """The first rows of the training file as pandas reads it; ``None`` if it does not."""
    import pandas as pd

    if source is None or not source.is_file():
        return None
    try:
        width = len(pd.read_csv(source, nrows=1, **options).columns)
        rows = max(SAMPLE_ROWS, SOURCE_CELLS // width)
        frame: pd.DataFrame = pd.read_csv(source, nrows=rows, low_memory=False, **options)
        return frame
    except (ValueError, OSError, pd.errors.ParserError):
        return None


def _source_of(model_path: Path) -> Path | None:
    """The file that the run beside ``model.json`` was trained on."""
    config = model_path.parent / "config.json"
    if not config.is_file():
        return None
    path = read_json(config).get("path")
    return Path(path) if path else None


def _compare_pipeline(
    model: FittedModel, pipeline: Any, source: Path | None, names: Mapping[str, str]
) -> tuple[int, float]:
    """Rows compared and the largest difference, over made-up rows and rows of the source."""
    columns = sample_columns(model)
    frame = sample_frame(model, columns, names)
    largest = _compare(pipeline.predict(frame), model.predict(columns), "The exported pipeline")
    real = _source_rows(model, source, pipeline.read_csv_)
    if real is None:
        return len(frame), largest
    expected, frame_read = real
    try:
        found = pipeline.predict(frame_read)
    except ValueError:  # a cell that pandas leaves as text: it will say so to anyone
        return len(frame), largest
    largest = max(largest, _compare(found, expected, f"On {source} the exported pipeline"))
    return len(frame) + len(frame_read), largest


def _source_rows(
    model: FittedModel, source: Path | None, options: Mapping[str, Any]
) -> tuple[FloatArray, pd.DataFrame] | None:
    """The model's predictions for the first rows of the training file, and these rows as pandas
    reads them; ``None`` where one of the two cannot read it any more."""
    from regatta import data_pipeline

    frame = _source_frame(source, options)
    if source is None or frame is None:
        return None
    try:
        batch = next(iter(data_pipeline.read_for_prediction(source, model.preprocessing)))
    except (RegattaError, OSError, StopIteration):
        return None
    rows = min(len(batch.rows), len(frame))
    return model.predict(batch.columns)[:rows], frame[:rows]


# -- made-up rows and the comparison --------------------------------------------------------------


def sample_columns(
    model: FittedModel, rows: int = SAMPLE_ROWS, seed: int = 0
) -> dict[str, npt.NDArray[Any]]:
    """Made-up rows as `FittedModel.predict` takes them: numbers around the mean of the training
    rows, every level and an unknown one, and missing cells."""
    rng = np.random.default_rng(seed)
    made = {
        column.name: _sample_values(column, rows, rng) for column in model.preprocessing.columns
    }
    for column in model.preprocessing.columns:
        if _tells_missing(column):
            empty = None if made[column.name].dtype == object else np.nan
            made[column.name][rng.random(rows) < 0.1] = empty
    return made


def _tells_missing(column: ColumnEncoding) -> bool:
    """Not where a level such as "None" is all that pandas reads as missing."""
    from regatta.sklearn_pipeline import lost_levels

    return MISSING_LEVEL in getattr(column, "levels", ()) or not lost_levels(column)


def _sample_values(column: ColumnEncoding, rows: int, rng: np.random.Generator) -> npt.NDArray[Any]:
    match column:
        case CategoryEncoding():
            words = [level for level in column.levels if level != MISSING_LEVEL]
            values = np.empty(rows, dtype=object)
            values[:] = rng.choice([*words, "a word that is no level"], rows)
            return values
        case BooleanEncoding():
            return rng.integers(0, 2, rows).astype(np.float64)
        case DateEncoding():
            first_day = np.round(column.impute / SECONDS_A_DAY)
            days: FloatArray = SECONDS_A_DAY * (first_day + rng.integers(0, 730, rows))
            return days
    feature = column.features[0]
    numbers: FloatArray = feature.mean + feature.scale * rng.normal(size=rows)
    return numbers


def sample_frame(
    model: FittedModel,
    columns: Mapping[str, npt.NDArray[Any]],
    names: Mapping[str, str] = MappingProxyType({}),
) -> pd.DataFrame:
    """The made-up rows as ``pandas.read_csv`` gives them from a file that is written like the one
    the model was trained on; ``names`` are those that differ from the model's."""
    import pandas as pd

    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([names.get(name, name) for name in columns])
    cells = [
        [_cell(column, value) for value in columns[column.name].tolist()]
        for column in model.preprocessing.columns
    ]
    writer.writerows(zip(*cells, strict=True))
    text.seek(0)
    options = _missing_options(model)
    if any(_needs_settings(column) for column in model.preprocessing.columns):
        options |= {"decimal": ",", "thousands": "."}
    frame: pd.DataFrame = pd.read_csv(text, **options)
    return frame


def _needs_settings(column: ColumnEncoding) -> bool:
    return isinstance(column, NumberEncoding) and column.thousands == "." and not column.affix


def _cell(column: ColumnEncoding, value: Any) -> str:
    """A cell as the training file would hold it."""
    import datetime as dt

    if value is None or value != value:
        return column.missing[0] if isinstance(column, NumberEncoding) and column.missing else ""
    match column:
        case BooleanEncoding():
            return column.true if value else column.false
        case DateEncoding():
            moment = dt.datetime.fromtimestamp(value, dt.UTC).replace(tzinfo=None)
            iso = column.format == "ISO8601"
            return moment.isoformat() if iso else moment.strftime(column.format)
        case NumberEncoding():
            marks = {",": column.thousands, ".": column.decimal}
            number = "".join(marks.get(mark, mark) for mark in format(value, ","))
            return column.affix + number
    return str(value)


def _compare(found: FloatArray, expected: FloatArray, what: str) -> float:
    """The largest relative difference; `RegattaError` if it is over the tolerance.

    Where predictions nearly cancel to 0 the difference is taken against a thousandth of their
    usual size.
    """
    size = np.maximum(np.abs(expected), 1e-3 * np.abs(expected).mean())
    difference = np.abs(found - expected) / np.where(size > 0, size, 1.0)
    largest = float(difference.max(initial=0.0))
    if not largest <= TOLERANCE:
        row = int(np.argmax(np.nan_to_num(difference, nan=np.inf)))
        raise RegattaError(
            f"{what} predicts {found[row]!r} where the model predicts {expected[row]!r}.",
            "Nothing was written. This is a defect of Regatta: please report it.",
        )
    return largest


FORMATS: dict[str, Callable[[FittedModel, Path, Path | None], Exported]] = {
    "sklearn": _write_sklearn,
    "json": _write_json,
}
SUFFIXES = {"sklearn": ".skops", "json": ".json"}
