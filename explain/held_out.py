"""The rows of a run by their place in its file: what is in them, and what the model says of them.

    parsed columns ──split──▶ held-out rows ──encode, weights──▶ actual and predicted, in batches

Rows come from the parsed columns that Regatta keeps of a file, so they have their places and their
values whether the run was trained on prepared rows or not, and in float64. Where the columns were
removed, the file is read anew, if it is still the same.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from regatta import data_pipeline
from regatta.configuration import TrainingConfig
from regatta.fitted_model import FittedModel
from regatta.ingest import cache
from regatta.ingest.dates import has_time
from regatta.ingest.scatter import Block, Plan, raw_features
from regatta.ingest.split import Split, split_rows
from regatta.ingest.table import ParsedTable, load_table
from regatta.preprocessing import (
    BooleanEncoding,
    CategoryEncoding,
    ColumnEncoding,
    DateEncoding,
    standardise,
)
from regatta.utils import DataError, UserError

BATCH_BYTES = 8 << 20
MAX_BATCH_ROWS = 1 << 16

AnyArray = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float64]

HELD_OUT, TRAINED_ON, NO_TARGET = "held out", "trained on", "no target"


@dataclass(frozen=True)
class Batch:
    """Some held-out rows, in the order of the file. ``rows`` counts from 0."""

    rows: npt.NDArray[np.int64]
    actual: FloatArray
    predicted: FloatArray


@dataclass(frozen=True)
class Row:
    """One row: ``number`` counts the rows of data from 1; ``line`` is that of the file, where it
    is known for certain; ``part`` says what it was used for."""

    number: int
    line: int | None
    part: str
    actual: float | None
    columns: Mapping[str, AnyArray]


class RunRows:
    """The rows that a run was trained on and those that it held out.

    Parameters
    ----------
    table : ParsedTable
    split : Split
    model : FittedModel
    """

    def __init__(self, table: ParsedTable, split: Split, model: FittedModel) -> None:
        self.table = table
        self.split = split
        self.model = model
        self._plan = Plan(table.directory, split, model.preprocessing, "float64")
        self._first = np.cumsum([0, *table.group_rows])

    def held_out(self) -> Iterator[Batch]:
        """All held-out rows, predicted, a few megabytes at a time."""
        for group in self.table.groups:
            chosen = np.flatnonzero(self.split.masks(self.table, group)[1])
            for start in range(0, len(chosen), self._batch_rows):
                yield self._predicted(group, chosen[start : start + self._batch_rows])

    def row(self, number: int) -> Row:
        """The row of that number, counted from 1. A `UserError` if there is none."""
        if not 1 <= number <= self.table.rows:
            raise UserError(
                f"There is no row {number:,}.", f"The file has {self.table.rows:,} rows of data."
            )
        group = int(np.searchsorted(self._first, number - 1, side="right")) - 1
        place = number - 1 - int(self._first[group])
        columns = {
            each.name: _cells(self.table, each, group, place)
            for each in self.model.preprocessing.columns
        }
        actual = float(self.table.numbers(group, self.split.target)[place])
        part = NO_TARGET
        if actual == actual:
            part = HELD_OUT if self._held_out_mask(group)[place] else TRAINED_ON
        return Row(number, self.line(number), part, None if actual != actual else actual, columns)

    def neighbours(self, number: int) -> tuple[int | None, int | None]:
        """The nearest held-out rows before and after one."""
        return self._next(number, -1), self._next(number, +1)

    def line(self, number: int) -> int | None:
        """The line of the file that a row stands in; ``None`` where that is not certain."""
        group = int(np.searchsorted(self._first, number - 1, side="right")) - 1
        return self.table.line(group, number - 1 - int(self._first[group]))

    @cached_property
    def _batch_rows(self) -> int:
        width = max(len(self.model.weights), 1)
        return min(MAX_BATCH_ROWS, max(64, BATCH_BYTES // (8 * width)))

    @cached_property
    def _scaling(self) -> tuple[FloatArray, FloatArray]:
        return self.model.preprocessing.means, self.model.preprocessing.scales

    def _predicted(self, group: int, chosen: npt.NDArray[np.intp]) -> Batch:
        block = Block(group, 0, self.table.group_rows[group], int(self._first[group]))
        with np.errstate(over="ignore", invalid="ignore"):
            features = raw_features(self._plan, block, chosen)
            standardise(features, *self._scaling)
            predicted = self.model.weights @ features + self.model.intercept
        rows = block.first_row + chosen
        if not np.isfinite(predicted).all():
            at = int(rows[np.flatnonzero(~np.isfinite(predicted))[0]]) + 1
            raise DataError(f"The numbers in row {at:,} are too large to predict from.", row=at)
        actual = self.table.numbers(group, self.split.target)[chosen]
        return Batch(rows, actual, predicted)

    def _held_out_mask(self, group: int) -> npt.NDArray[np.bool_]:
        return self.split.masks(self.table, group)[1]

    def _next(self, number: int, step: int) -> int | None:
        """The nearest held-out row in one direction, group by group."""
        at = int(np.searchsorted(self._first, number - 1, side="right")) - 1
        groups = range(at, len(self.table.group_rows)) if step > 0 else range(at, -1, -1)
        for group in groups:
            rows = np.flatnonzero(self._held_out_mask(group)) + int(self._first[group]) + 1
            beyond = rows[rows > number] if step > 0 else rows[rows < number]
            if len(beyond):
                return int(beyond[0] if step > 0 else beyond[-1])
        return None


def _cells(table: ParsedTable, column: ColumnEncoding, group: int, place: int) -> AnyArray:
    """One cell, as `ColumnEncoding.encode` takes it."""
    parsed = table.column(column.name)
    if isinstance(column, CategoryEncoding):
        code = int(table.codes(group, parsed)[place])
        return np.array([parsed.levels[code] if code >= 0 else None], dtype=object)
    return table.numbers(group, parsed)[place : place + 1].copy()


# -- from a run to its rows -----------------------------------------------------------------------


def find_table(
    config: TrainingConfig,
    result: Mapping[str, Any],
    *,
    read: bool = True,
    progress: Callable[[float], None] | None = None,
) -> ParsedTable:
    """The parsed columns of the file that a run was trained on.

    Parameters
    ----------
    result : mapping
        The run's ``result.json``; its ``data`` says which file it was.
    read : bool
        Whether the file may be read anew, where Regatta's copy was removed.

    Raises
    ------
    UserError
        If neither the columns nor the file are there, or the file is another one now.
    """
    data = result.get("data") or {}
    kept = _kept(data.get("key"))
    if kept is not None:
        return kept
    path = Path(config.path)
    if not read:
        raise UserError("Regatta's copy of this file was removed.", "It has to be read again.")
    if not path.is_file():
        raise UserError(
            f"The file {path.name} is gone, and so is Regatta's copy of it.",
            f"Bring it back to {path.parent}, or train again on another file.",
        )
    tell = None if progress is None else (lambda found: progress(found.fraction))
    table = data_pipeline.import_csv(path, config.reading, progress=tell)
    wanted = data.get("content_hash")
    if wanted and table.content_hash != wanted:
        raise changed(path)
    return table


def open_rows(
    table: ParsedTable, config: TrainingConfig, result: Mapping[str, Any], model: FittedModel
) -> RunRows:
    """The rows of a run. A `UserError` if they are not those that it was trained on."""
    target = table.column(model.target)
    split = split_rows(table, target, config.seed, config.validation)
    counts = split.rows_train, split.rows_validation
    if counts != (result.get("rows_train"), result.get("rows_validation")):
        raise changed(Path(config.path))
    missing = [each.name for each in model.preprocessing.columns if each.name not in table.names]
    if missing:
        raise changed(Path(config.path))
    return RunRows(table, split, model)


def changed(path: Path) -> UserError:
    """The error for a file that is not the one of the training."""
    return UserError(
        f"The file {path.name} has changed since the training, and Regatta's copy of the old one "
        "was removed: its held-out rows are not known any more.",
        "Train again on the file as it is now.",
    )


def _kept(key: str | None) -> ParsedTable | None:
    directory = cache.entry("parsed", key) if key else None
    if directory is None:
        return None
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return load_table(directory)
    return None


# -- cells in words -------------------------------------------------------------------------------


def in_words(column: ColumnEncoding, value: Any) -> str:
    """A cell as people read it."""
    if value is None or (isinstance(value, float) and value != value):
        return "missing"
    if isinstance(column, BooleanEncoding):
        return column.true if value else column.false
    if isinstance(column, DateEncoding):
        return date_in_words(float(value), column.format)
    if isinstance(column, CategoryEncoding):
        return str(value)
    return f"{float(value):.6g}"


def date_in_words(seconds: float, date_format: str) -> str:
    """Seconds since 1970 in ISO format, with the time where the column has one."""
    try:
        moment = dt.datetime(1970, 1, 1) + dt.timedelta(seconds=seconds)
    except OverflowError:
        return f"{seconds:.6g} s"
    return moment.isoformat(sep=" ") if has_time(date_format) else moment.date().isoformat()
