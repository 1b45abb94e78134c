"""Predictions for a file: its columns as they are, and a last one, ``prediction`` (``prediction_2``
where the file has such a column already).

    new.csv ──read_for_prediction──▶ batches of rows ──model──▶ written aside ──rename──▶ out.csv

Rows go through in batches, so memory does not grow with the file; what was at ``out`` before stays
until the new file is whole.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from regatta import data_pipeline
from regatta.configuration import AS_FOUND, ReadingOptions
from regatta.fitted_model import FittedModel, FloatArray
from regatta.ingest.rereading import PredictionBatch
from regatta.ingest.schema import Deviation, SchemaCheck
from regatta.ingest.sniffing import free_name
from regatta.ingest.writing import check_output, defused
from regatta.outlook import Outlook
from regatta.utils import DataError, atomic_path

COLUMN = "prediction"


@dataclass(frozen=True)
class Prediction:
    """How many rows were predicted, how their file differs from that of the training, what the
    predictions look like, and the name of their column."""

    rows: int
    outlook: Outlook
    schema: tuple[Deviation, ...] = ()
    column: str = COLUMN


def predict_file(
    model: FittedModel | Path,
    path: Path,
    out: Path,
    progress: Callable[[int], None] | None = None,
    *,
    on_bad_cells: str = "refuse",
    on_new_levels: str = "other",
    options: ReadingOptions = AS_FOUND,
) -> Prediction:
    """Predict every row of a CSV file.

    Parameters
    ----------
    model : FittedModel or path of a ``model.json``
    path : path
        A file with the columns that the model was trained on; the target's may be missing.
    out : path
        Written as UTF-8 with commas. Text that a spreadsheet would run as a formula gets a leading
        apostrophe.
    progress : callable, optional
        Told the number of rows so far.
    on_bad_cells, on_new_levels : str
        What becomes of cells that do not fit their column, and of texts that the training has not
        seen: see `ingest.schema.SchemaCheck`.
    options : ReadingOptions
        How the file is to be read, where that is not to be found in it.

    Raises
    ------
    UserError
        If ``out`` is the input or cannot be written.
    DataError
        If a column is missing or a cell does not fit, with its row and column.
    """
    if not isinstance(model, FittedModel):
        model = FittedModel.load(model)
    check_output(out, path)
    check = SchemaCheck(on_bad_cells=on_bad_cells, on_new_levels=on_new_levels)
    outlook, column = Outlook(model), COLUMN
    with (
        atomic_path(out) as aside,
        aside.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        for batch in data_pipeline.read_for_prediction(
            path, model.preprocessing, check, options.reading
        ):
            if outlook.rows == 0:
                column = free_name(COLUMN, batch.header)
                writer.writerow([*map(defused, batch.header), column])
            predictions = predict_columns(model, batch.columns, first_line=batch.first_line)
            writer.writerows(_with_predictions(batch, predictions))
            outlook.add(batch.header, batch.rows, batch.columns, predictions)
            if progress is not None:
                progress(outlook.rows)
    return Prediction(outlook.rows, outlook, tuple(check.deviations), column)


def predict_columns(
    model: FittedModel, columns: Mapping[str, npt.NDArray[Any]], *, first_line: int | None = None
) -> FloatArray:
    """Predictions (n_rows,) of rows that are in memory, as `Preprocessing.transform` takes them.

    Raises
    ------
    DataError
        If a number is too large; ``first_line`` is where the rows begin in their file.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        predictions = model.predict(columns)
    if not np.isfinite(predictions).all():
        where = "" if first_line is None else f" in or after line {first_line}"
        raise DataError(
            f"The numbers{where} are too large to predict from.",
            "Are they in the units of the training data?",
            row=first_line,
        )
    return predictions


def _with_predictions(
    batch: PredictionBatch, predictions: FloatArray
) -> Iterable[list[str | float]]:
    for cells, prediction in zip(batch.rows, predictions.tolist(), strict=True):
        yield [*map(defused, cells), prediction]
