"""A model taken out of Regatta: scikit-learn pipeline, ONNX, Python script, JSON to score by hand.

    FittedModel ──write aside──▶ file ──read again──▶ predictions
         │                                                │ the same?  ──▶ rename
         └────── predict(made-up rows, real rows) ────────┘

What was written is loaded again and compared with the model before it takes its place; a file
that predicts anything else is never left behind.
"""

from __future__ import annotations

import math
import runpy
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from regatta.export.check_rows import USE_JSON, CheckRows
from regatta.fitted_model import FittedModel, FloatArray
from regatta.preprocessing import DATE_PERIODS, SECONDS_A_DAY
from regatta.utils import RegattaError, UserError, atomic_path, read_json, write_json

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
    "t for 'trend', and sin or cos of 2 * pi * (t mod p) / p for '<period>_sin' and "
    "'<period>_cos', where p stands in periods_in_days",
    "coefficient = weight / scale is what one unit of the value adds to the prediction",
]


@dataclass(frozen=True)
class Format:
    """A form that a model can be written in.

    ``tolerance`` is how far its predictions may be from the model's: see `_compared`.
    """

    suffix: str
    tolerance: float
    write: Callable[[FittedModel, Path, CheckRows], Exported]


@dataclass(frozen=True)
class Exported:
    """What was written, and how far its predictions are from the model's.

    ``largest_difference`` is relative to the prediction, or to the mean size of all predictions
    compared where that is larger.
    """

    path: Path
    format: str
    rows_compared: int
    largest_difference: float
    trusted_types: tuple[str, ...] = ()  # that skops asks the reader to trust


def export_model(
    model: FittedModel | Path,
    format: str,
    out: Path,
    *,
    source: Path | None = None,
    rows: CheckRows | None = None,
) -> Exported:
    """Write ``model`` to ``out``, once what was written is known to predict the same.

    Parameters
    ----------
    model : FittedModel or path of a ``model.json``
    format : {"pipeline", "json", "onnx", "onnx-float32", "snippet"}
        A scikit-learn pipeline in skops' format (also called "sklearn"), JSON to score by hand, an
        ONNX graph in float64 or float32 (needs the extra ``onnx``), a Python script.
    source : path, optional
        The file the model was trained on, or one like it. Where it is there, the pipeline and the
        script take the names of columns as they stand in it, blanks around them included, and rows
        of it are compared too. By default what the run's ``config.json`` says, if that file still
        exists.
    rows : CheckRows, optional
        The rows to compare, where several formats share them.

    Raises
    ------
    UserError
        If the format is not known, or needs a package that is not installed.
    RegattaError
        If predictions differ by more than the format's tolerance: 1e-9, relative; 1e-4 in
        float32. For the pipeline and the script also if pandas cannot read ``source``.
    """
    format = SYNONYMS.get(format, format)
    if format not in FORMATS:
        raise UserError(f"There is no format {format!r}.", f"Known: {', '.join(FORMATS)}.")
    if not isinstance(model, FittedModel):
        source = source or source_of(model)
        model = FittedModel.load(model)
    if not out.parent.is_dir():
        raise UserError(f"There is no folder {str(out.parent)!r}.", "Make it first.")
    return FORMATS[format].write(model, out, rows or CheckRows(model, source))


def default_name(model: FittedModel, format: str) -> str:
    """A file name for an export: ``<run>.skops``, ``<run>.json``, ``<run>-predict.py`` …"""
    return f"{model.run_id or 'model'}{FORMATS[SYNONYMS.get(format, format)].suffix}"


def source_of(model_path: Path) -> Path | None:
    """The file that the run beside a ``model.json`` was trained on."""
    config = model_path.parent / "config.json"
    if not config.is_file():
        return None
    path = read_json(config).get("path")
    return Path(path) if path else None


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
        angle = 2 * math.pi * (days % periods[period]) / periods[period]
        yield math.sin(angle) if wave == "sin" else math.cos(angle)


def _write_json(model: FittedModel, out: Path, rows: CheckRows) -> Exported:
    with atomic_path(out) as aside:
        write_json(aside, scoring_document(model), durable=False)
        document = read_json(aside)
        pairs = (
            (np.array([score(document, row) for row in _rows(columns)]), expected)
            for columns, expected in rows.columns()
        )
        return _compared(pairs, out, "json", "The exported JSON")


def _rows(columns: Mapping[str, npt.NDArray[Any]]) -> list[dict[str, Any]]:
    listed = {
        name: [None if value != value else value for value in values.tolist()]
        for name, values in columns.items()
    }
    return [dict(zip(listed, row, strict=True)) for row in zip(*listed.values(), strict=True)]


# -- scikit-learn ---------------------------------------------------------------------------------


def _write_pipeline(model: FittedModel, out: Path, rows: CheckRows) -> Exported:
    import skops.io

    from regatta.export.sklearn_pipeline import TRUSTED_TYPES, build_pipeline

    pipeline = build_pipeline(model, rows.reading)
    pipeline.read_csv_ = rows.read_csv
    with atomic_path(out) as aside:
        skops.io.dump(pipeline, aside)
        asked = tuple(sorted(skops.io.get_untrusted_types(file=aside)))
        if not set(asked) <= TRUSTED_TYPES:
            strange = sorted(set(asked) - TRUSTED_TYPES)
            raise RegattaError(f"The pipeline holds types that it must not: {strange}.")
        again = skops.io.load(aside, trusted=list(asked))
        what = "The exported pipeline"
        pairs = _framed(rows, again.predict, what)
        return replace(_compared(pairs, out, "pipeline", what), trusted_types=asked)


# -- ONNX -----------------------------------------------------------------------------------------


def _write_onnx(model: FittedModel, out: Path, rows: CheckRows, precision: str) -> Exported:
    from regatta.export.onnx_graph import build_graph, run_graph

    graph = build_graph(model, precision=precision)
    with atomic_path(out) as aside:
        aside.write_bytes(graph.SerializeToString())
        data = aside.read_bytes()
        pairs = (
            (run_graph(data, model, columns, precision), expected)
            for columns, expected in rows.columns()
        )
        format = "onnx" if precision == "float64" else "onnx-float32"
        return _compared(pairs, out, format, f"The ONNX graph in {precision}")


# -- Python ---------------------------------------------------------------------------------------


def _write_snippet(model: FittedModel, out: Path, rows: CheckRows) -> Exported:
    from regatta.export.python_snippet import snippet

    with atomic_path(out) as aside:
        text = snippet(model, rows.reading, rows.read_csv, file=out.name)
        aside.write_text(text, encoding="utf-8")
        predict = runpy.run_path(str(aside), run_name="exported")["predict"]
        what = "The exported script"
        return _compared(_framed(rows, predict, what), out, "snippet", what)


# -- the comparison -------------------------------------------------------------------------------


def _framed(
    rows: CheckRows, predict: Callable[[Any], FloatArray], what: str
) -> Iterator[tuple[FloatArray, FloatArray]]:
    """Predictions for frames beside the expected ones; `RegattaError` where there are none."""
    frames = rows.frames()
    try:
        frame, expected = next(frames)
        found = predict(frame)
    except UNREADABLE as error:
        raise RegattaError(f"{what} cannot read the cells of its own columns.", REPORT) from error
    yield found, expected
    for frame, expected in frames:
        try:
            found = predict(frame)
        except UNREADABLE as error:
            name = rows.source.name if rows.source else ""
            raise RegattaError(
                f"{what} cannot use {name!r} as pandas reads it.", USE_JSON
            ) from error
        yield found, expected


def _compared(
    pairs: Iterable[tuple[FloatArray, FloatArray]], out: Path, format: str, what: str
) -> Exported:
    """The rows compared and the largest difference; `RegattaError` if it is over the tolerance.

    A difference is relative to the prediction, or to the mean size of all predictions where that
    is larger: next to a prediction that happens to be 0, rounding would look large.
    """
    count, largest = 0, 0.0
    for found, expected in pairs:
        size = np.maximum(np.abs(expected), np.abs(expected).mean())
        difference = np.abs(found - expected) / np.where(size > 0, size, 1.0)
        worst = float(difference.max(initial=0.0))
        tolerance = FORMATS[format].tolerance
        if not worst <= tolerance:
            row = int(np.argmax(np.nan_to_num(difference, nan=np.inf)))
            raise RegattaError(
                f"{what} predicts {found[row]:.17g} where the model predicts {expected[row]:.17g}: "
                f"more than {tolerance:.0e} apart.",
                FLOAT32_HINT if format == "onnx-float32" else REPORT,
            )
        count, largest = count + len(expected), max(largest, worst)
    return Exported(out, format, count, largest)


REPORT = "Nothing was written. This is a defect of Regatta: please report it."
# What pandas, scikit-learn and the script raise for cells that they cannot read.
UNREADABLE = (ValueError, TypeError, KeyError, OverflowError)
FLOAT32_HINT = (
    "Nothing was written. float32 has too few digits for the numbers of this model: "
    "the graph in float64 (format onnx) has enough."
)
FORMATS: Mapping[str, Format] = {
    "pipeline": Format(".skops", 1e-9, _write_pipeline),
    "json": Format(".json", 1e-9, _write_json),
    "onnx": Format(".onnx", 1e-9, partial(_write_onnx, precision="float64")),
    "onnx-float32": Format("-float32.onnx", 1e-4, partial(_write_onnx, precision="float32")),
    "snippet": Format("-predict.py", 1e-9, _write_snippet),
}
SYNONYMS = {"sklearn": "pipeline"}
