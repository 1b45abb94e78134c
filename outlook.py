"""What predictions of a file look like: the first of them, how they are spread, and how many rows
reach beyond what the training rows held.

Gathered batch by batch while a file is predicted, in memory that does not grow with it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from regatta.fitted_model import FittedModel, FloatArray
from regatta.preprocessing import MISSING_LEVEL, CategoryEncoding, range_of
from regatta.utils import counted

PREVIEW_ROWS = 8
# Predictions kept for the histogram: all, or every second, fourth, … row.
MOST_KEPT = 100_000
BARS = 30
MIDDLE = (0.001, 0.999)
PREVIEW_COLUMNS = 12
CELL_LETTERS = 60
MOST_TEXTS = 4  # of a column that are named

BoolArray = npt.NDArray[np.bool_]


@dataclass
class Beyond:
    """Cells of a column that the training rows do not reach to: beyond ``low`` and ``high``, in
    seconds since 1970 for a date."""

    column: str
    kind: str
    low: float
    high: float
    rows: int = 0
    seen_low: float = float("inf")
    seen_high: float = float("-inf")

    def add(self, values: FloatArray) -> BoolArray:
        """Count some cells; which of them are beyond."""
        outside: BoolArray = (values < self.low) | (values > self.high)  # NaN is neither
        if outside.any():
            self.rows += int(outside.sum())
            self.seen_low = min(self.seen_low, float(values[outside].min()))
            self.seen_high = max(self.seen_high, float(values[outside].max()))
        return outside


@dataclass
class NewTexts:
    """Cells of a column with texts that the training rows have not; the first of these texts, and
    whether there are more."""

    column: str
    rows: int = 0
    texts: list[str] = field(default_factory=list)
    more: bool = False

    def add(self, texts: Sequence[str], rows: int) -> None:
        """Count some cells, which hold these texts."""
        self.rows += rows
        for text in (each[:CELL_LETTERS] for each in texts):
            if text in self.texts:
                continue
            self.more = len(self.texts) == MOST_TEXTS
            if self.more:
                break
            self.texts.append(text)


@dataclass
class Outlook:
    """Gathers what is to be known of a file's predictions.

    Parameters
    ----------
    model : FittedModel
    """

    model: FittedModel
    rows: int = 0
    rows_beyond: int = 0  # with a cell that the training rows do not reach to, or a new text
    low: float = float("inf")
    high: float = float("-inf")
    total: float = 0.0
    header: Sequence[str] = ()
    preview: list[tuple[list[str], float]] = field(default_factory=list)
    _beyond: dict[str, Beyond] = field(default_factory=dict)
    _new: dict[str, NewTexts] = field(default_factory=dict)
    _kept: list[FloatArray] = field(default_factory=list)
    _step: int = 1

    def __post_init__(self) -> None:
        for column in self.model.preprocessing.columns:
            span = range_of(column)
            if span is not None:
                self._beyond[column.name] = Beyond(column.name, column.kind, *span)

    def add(
        self,
        header: Sequence[str],
        cells: Sequence[Sequence[str]],
        columns: Mapping[str, npt.NDArray[Any]],
        predictions: FloatArray,
    ) -> None:
        """Take in some rows: their cells as they are written and as they were read."""
        if not len(predictions):
            return
        self.header = header
        room = PREVIEW_ROWS - len(self.preview)
        firsts = zip(cells[:room], predictions[:room].tolist(), strict=True)
        self.preview += [(list(row), value) for row, value in firsts]
        self._keep(predictions)
        self.rows += len(predictions)
        self.low = min(self.low, float(predictions.min()))
        self.high = max(self.high, float(predictions.max()))
        self.total += float(predictions.sum())
        self.rows_beyond += int(self._outside(columns, len(predictions)).sum())

    @property
    def beyond(self) -> list[Beyond]:
        """The columns that have cells beyond the training rows, those with most first."""
        return sorted(
            (each for each in self._beyond.values() if each.rows), key=lambda each: -each.rows
        )

    @property
    def new_texts(self) -> list[NewTexts]:
        """The columns with texts that are new, those in most rows first."""
        return sorted(self._new.values(), key=lambda each: -each.rows)

    def sentences(self) -> list[str]:
        """What to tell of rows beyond the training, if there are any."""
        columns = ", ".join(f"{each.column!r} in {each.rows:,}" for each in self.beyond[:4])
        if not columns:
            return []
        others = len(self.beyond) - 4
        more = f" and {counted(others, 'more column')}" if others > 0 else ""
        reach = "reaches" if self.rows_beyond == 1 else "reach"
        rows = f"{self.rows_beyond:,} of {counted(self.rows, 'row')} {reach}"
        return [f"{rows} beyond what the training rows held: {columns}{more}."]

    def kept(self) -> FloatArray:
        """Predictions for a histogram: of all rows, or of evenly spaced ones."""
        return np.concatenate(self._kept) if self._kept else np.empty(0)

    def _outside(self, columns: Mapping[str, npt.NDArray[Any]], rows: int) -> BoolArray:
        outside = np.zeros(rows, dtype=bool)
        for column in self.model.preprocessing.columns:
            values = columns[column.name]
            if column.name in self._beyond:
                outside |= self._beyond[column.name].add(values)
            elif isinstance(column, CategoryEncoding):
                new = {each for each in set(values.tolist()) if not column.knows(each)}
                if new:
                    cells = np.fromiter((each in new for each in values), bool, rows)
                    found = self._new.setdefault(column.name, NewTexts(column.name))
                    # The missing one first, then by the alphabet.
                    texts = sorted(each or "" for each in new)
                    found.add([each or MISSING_LEVEL for each in texts], int(cells.sum()))
                    outside |= cells
        return outside

    def _keep(self, predictions: FloatArray) -> None:
        first = -self.rows % self._step
        self._kept.append(predictions[first :: self._step].copy())
        while sum(map(len, self._kept)) > MOST_KEPT:
            self._kept = [self.kept()[::2]]
            self._step *= 2


def histograms(predictions: FloatArray, actual: FloatArray | None) -> dict[str, Any]:
    """Predictions and, where it is known, the target of the training, in the same bars.

    Returns
    -------
    dict
        ``start`` and ``width`` of the bars, and the share of rows in each: ``predictions`` and
        ``actual`` (``None`` where it is not known); ``outside`` says which share of the
        predictions lies beyond the bars.
    """
    known = predictions if actual is None else np.concatenate([predictions, actual])
    if not len(known):
        return {"start": 0.0, "width": 1.0, "predictions": [], "actual": None, "outside": 0.0}
    low, high = float(known.min()), float(known.max())
    inner = [np.quantile(each, MIDDLE) for each in (predictions, actual) if each is not None]
    middle = min(float(each[0]) for each in inner), max(float(each[1]) for each in inner)
    if 0 < middle[1] - middle[0] < (high - low) / 3:
        low, high = middle
    if low == high:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, BARS + 1)
    shares = _shares(predictions, edges)
    return {
        "start": low,
        "width": (high - low) / BARS,
        "predictions": shares,
        "actual": None if actual is None else _shares(actual, edges),
        "outside": max(0.0, 1.0 - sum(shares)),
    }


def _shares(values: FloatArray, edges: FloatArray) -> list[float]:
    counts, _ = np.histogram(values, edges)
    return [float(each) for each in counts / max(len(values), 1)]


def summary(outlook: Outlook, run: Path) -> dict[str, Any]:
    """What is shown of the predictions of a file, as JSON.

    Parameters
    ----------
    run : path
        The directory of the model's run, through which the training's target is found.
    """
    order = [place for place, _ in enumerate(outlook.header)][:PREVIEW_COLUMNS]
    return {
        "target": outlook.model.target,
        "rows": outlook.rows,
        "low": outlook.low if outlook.rows else None,
        "high": outlook.high if outlook.rows else None,
        "mean": outlook.total / outlook.rows if outlook.rows else None,
        "training": dict(outlook.model.data.get("target") or {}),
        "header": [outlook.header[place] for place in order],
        "columns": len(outlook.header),
        "preview": [
            [value, *(row[place][:CELL_LETTERS] if place < len(row) else "" for place in order)]
            for row, value in outlook.preview
        ],
        "bars": histograms(outlook.kept(), _target_of_training(run)),
        "rows_beyond": outlook.rows_beyond,
        "beyond": [asdict(each) for each in outlook.beyond],
        "new_texts": [asdict(each) for each in outlook.new_texts],
    }


def _target_of_training(run: Path) -> FloatArray | None:
    """The target's values in the training's file, evenly spaced ones of many; ``None`` where
    Regatta keeps them no more."""
    from regatta.configuration import TrainingConfig
    from regatta.explain import held_out
    from regatta.runs.directory import RunDirectory
    from regatta.utils import RegattaError, read_json

    with contextlib.suppress(RegattaError, OSError, ValueError, KeyError):
        directory = RunDirectory(run)
        config = TrainingConfig.from_json(read_json(directory.config))
        table = held_out.find_table(config, read_json(directory.result), read=False)
        with table.hold():
            column = table.column(config.target)
            step = max(1, -(-table.rows // MOST_KEPT))
            parts = [table.numbers(group, column)[::step].copy() for group in table.groups]
        values = np.concatenate(parts) if parts else np.empty(0)
        return values[~np.isnan(values)]
    return None
