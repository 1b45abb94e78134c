"""How a model errs on the rows that it has not seen.

    held-out rows ──▶ exact: counts, sums, extremes, the largest errors
                  └─▶ kept: all of them, or a seeded million ──▶ density, medians in bins, histogram

One pass, in memory that does not grow with the file. What comes of it is plain JSON, kept beside
the run's model; `regatta.explain.charts` draws it.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from regatta.configuration import TrainingConfig
from regatta.explain import held_out
from regatta.explain.held_out import Batch, RunRows
from regatta.fitted_model import FittedModel
from regatta.ingest import hashing
from regatta.runs.directory import RunDirectory
from regatta.utils import UserError, read_json, write_json

FORMAT = 2
MOST_OUTLIERS = 20
# Rows kept for what is drawn (24 bytes each): all held-out rows, up to here.
MOST_KEPT = 1_000_000
# Fewer are drawn as points.
MOST_POINTS = 5_000
DENSITY_BINS = 60
MEDIAN_BINS = 20
ROWS_A_BIN = 15
# Of the span between smallest and largest, the middle must fill this share, or tails are cut off.
MIDDLE = (0.001, 0.999)
FILLED = 1 / 3
QUARTILES = (0.25, 0.5, 0.75)

FloatArray = npt.NDArray[np.float64]
Progress = Callable[[float, str], None]


@dataclass
class Errors:
    """What is gathered of held-out rows, batch by batch.

    Parameters
    ----------
    expected : int
        Rows that will come.
    most_kept : int
        How many of them are kept for what is drawn, about.
    """

    expected: int
    most_kept: int = MOST_KEPT
    rows: int = 0
    residual_sum: float = 0.0
    squared_sum: float = 0.0
    fourth_sum: float = 0.0
    absolute_sum: float = 0.0
    actual_mean: float = 0.0
    actual_squares: float = 0.0
    _largest: list[tuple[float, int, float, float]] = field(default_factory=list)
    _kept: list[Batch] = field(default_factory=list)

    def add(self, batch: Batch) -> None:
        """Take in some rows."""
        count = len(batch.rows)
        if not count:
            return
        residuals = batch.actual - batch.predicted
        self._add_spread(batch.actual)
        self.rows += count
        self.residual_sum += float(residuals.sum())
        squares = residuals**2
        self.squared_sum += float(squares.sum())
        self.fourth_sum += float(squares @ squares)
        self.absolute_sum += float(np.abs(residuals).sum())
        self._note_largest(batch, residuals)
        self._kept.append(self._sampled(batch))

    def scores(self) -> dict[str, float | None]:
        """R², RMSE, MAE; mean and deviation of the residuals; exact over all rows."""
        n = self.rows
        if not n:
            return dict.fromkeys(("r2", "rmse", "mae", "mean", "deviation"))
        mean = self.residual_sum / n
        variance = max(self.squared_sum / n - mean**2, 0.0)
        r2 = 1.0 - self.squared_sum / self.actual_squares if self.actual_squares > 0 else None
        return {
            "r2": r2,
            "rmse": math.sqrt(self.squared_sum / n),
            "mae": self.absolute_sum / n,
            "mean": mean,
            "deviation": math.sqrt(variance),
        }

    def spread(self) -> dict[str, float | None]:
        """Standard errors of R², RMSE and MAE: how much they would differ on other held-out rows
        as many (delta method, the target's own spread taken as known)."""
        scores, n = self.scores(), self.rows
        rmse, mae = scores["rmse"], scores["mae"]
        if n < 2 or rmse is None or mae is None:
            return dict.fromkeys(("r2", "rmse", "mae"))
        of_mse = math.sqrt(max(self.fourth_sum / n - rmse**4, 0.0) / n)
        return {
            "r2": of_mse * n / self.actual_squares if self.actual_squares > 0 else None,
            "rmse": of_mse / (2 * rmse) if rmse > 0 else 0.0,
            "mae": math.sqrt(max(rmse**2 - mae**2, 0.0) / n),
        }

    def largest(self) -> list[tuple[int, float, float]]:
        """(row from 0, actual, predicted) of the largest residuals, the largest first."""
        ordered = sorted(self._largest, key=lambda each: (-each[0], -each[1]))
        return [(-row, actual, predicted) for _, row, actual, predicted in ordered]

    def kept(self) -> Batch:
        """The rows that were kept, in the order of the file."""
        parts = self._kept or [Batch(np.empty(0, np.int64), np.empty(0), np.empty(0))]
        return Batch(
            np.concatenate([each.rows for each in parts]),
            np.concatenate([each.actual for each in parts]),
            np.concatenate([each.predicted for each in parts]),
        )

    def _add_spread(self, actual: FloatArray) -> None:
        """Merge mean and squares of the target (Chan, Golub and LeVeque, 1979)."""
        count, mean = len(actual), float(actual.mean())
        deviations = actual - mean
        step = mean - self.actual_mean
        total = self.rows + count
        self.actual_squares += float(deviations @ deviations)
        self.actual_squares += step**2 * self.rows * count / total
        self.actual_mean += step * count / total

    def _note_largest(self, batch: Batch, residuals: FloatArray) -> None:
        """Of equal residuals the row that comes first in the file wins."""
        size = np.abs(residuals)
        few = min(MOST_OUTLIERS, len(size))
        cut = np.partition(size, -few)[-few]  # and of those that are equal to it, the first ones
        places = [*np.flatnonzero(size > cut), *np.flatnonzero(size == cut)[:few]]
        for place in places:
            row = int(batch.rows[place])
            entry = (float(size[place]), -row, float(batch.actual[place]),
                     float(batch.predicted[place]))  # fmt: skip
            if len(self._largest) < MOST_OUTLIERS:
                heapq.heappush(self._largest, entry)
            else:
                heapq.heappushpop(self._largest, entry)

    def _sampled(self, batch: Batch) -> Batch:
        if self.expected <= self.most_kept:
            return batch
        limit = np.uint64(int(self.most_kept / self.expected * 2.0**64))
        chosen = hashing.finish(batch.rows.astype(np.uint64), 0) < limit
        return Batch(batch.rows[chosen], batch.actual[chosen], batch.predicted[chosen])


def summarise(
    rows: RunRows, progress: Progress | None = None, *, most_kept: int = MOST_KEPT
) -> dict[str, Any]:
    """What is to be known of a model's errors on its held-out rows, as JSON.

    Parameters
    ----------
    rows : RunRows
    progress : callable, optional
        Told the share that is done, and a sentence; what it raises ends the work.
    most_kept : int
        Rows that charts are made from, about; scores and largest errors are of all rows.
    """
    total = rows.split.rows_validation
    errors = Errors(total, most_kept)
    for batch in rows.held_out():
        errors.add(batch)
        if progress is not None:
            progress(errors.rows / max(total, 1), f"{errors.rows:,} of {total:,} rows predicted")
    kept = errors.kept()
    return {
        "format": FORMAT,
        "weights_sha256": rows.model.weights_sha256,
        "table": rows.table.key,
        "threshold": rows.split.threshold,
        "target": rows.model.target,
        "rows": errors.rows,
        "rows_train": rows.split.rows_train,
        "drawn": len(kept.rows),
        "scores": errors.scores(),
        "spread": errors.spread(),
        "outliers": _outliers(rows, errors),
        **drawn(kept),
    }


def drawn(kept: Batch) -> dict[str, Any]:
    """What the charts are made of: points or densities, medians in bins, a histogram."""
    residuals = kept.actual - kept.predicted
    few = len(kept.rows) <= MOST_POINTS
    return {
        "points": _points(kept) if few else None,
        "density": None if few else density(kept.predicted, kept.actual, alike=True),
        "residual_density": None if few else density(kept.predicted, residuals),
        "sizes": sizes(residuals),
        "medians": medians(kept.predicted, residuals),
        "histogram": histogram(residuals),
    }


def sizes(values: FloatArray) -> dict[str, float | None]:
    """What half, and what nine tenths, of the values do not exceed in size."""
    if not len(values):
        return {"half": None, "nine_tenths": None}
    half, most = np.quantile(np.abs(values), (0.5, 0.9))
    return {"half": float(half), "nine_tenths": float(most)}


def density(x: FloatArray, y: FloatArray, *, alike: bool = False) -> dict[str, Any]:
    """How many points lie in each cell of a grid over the middle of both; ``alike``: one range for
    both. ``outside`` counts those that lie in no cell."""
    x_range, y_range = _range(x), _range(y)
    if alike:
        x_range = y_range = (min(x_range[0], y_range[0]), max(x_range[1], y_range[1]))
    counts, _, _ = np.histogram2d(x, y, bins=DENSITY_BINS, range=(x_range, y_range))
    return {
        "x": list(x_range),
        "y": list(y_range),
        "counts": counts.T.astype(int).tolist(),  # a row of cells for each y
        "outside": int(len(x) - counts.sum()),
    }


def medians(x: FloatArray, y: FloatArray) -> list[dict[str, Any]]:
    """Median and quartiles of ``y`` in bins of about as many points each, by ``x``."""
    if not len(x):
        return []
    bins = min(MEDIAN_BINS, max(1, len(x) // ROWS_A_BIN))
    edges = np.unique(np.quantile(x, np.linspace(0, 1, bins + 1)))
    place = np.clip(np.searchsorted(edges, x, side="right") - 1, 0, max(len(edges) - 2, 0))
    found = []
    for each in np.unique(place):
        inside = place == each
        low, middle, high = np.quantile(y[inside], QUARTILES)
        found.append(
            {
                "x": float(np.median(x[inside])),
                "low": float(low),
                "median": float(middle),
                "high": float(high),
                "rows": int(inside.sum()),
            }
        )
    return found


def histogram(values: FloatArray) -> dict[str, Any]:
    """Counts in bins of equal width over the middle of the values; what lies beyond is counted."""
    low, high = _range(values)
    inside = values[(values >= low) & (values <= high)]
    counts, edges = np.histogram(inside, bins=_bin_count(inside, low, high), range=(low, high))
    return {
        "start": float(edges[0]),
        "width": float(edges[1] - edges[0]),
        "counts": counts.tolist(),
        "below": int((values < low).sum()),
        "above": int((values > high).sum()),
    }


def _bin_count(values: FloatArray, low: float, high: float) -> int:
    """By the rule of Freedman and Diaconis, within reason."""
    if len(values) < 2:
        return 1
    first, third = np.quantile(values, (0.25, 0.75))
    width = 2.0 * (third - first) / len(values) ** (1 / 3)
    return int(np.clip((high - low) / width, 8, 60)) if width > 0 else 30


def _range(values: FloatArray) -> tuple[float, float]:
    """From the smallest to the largest value; the middle alone, where few values are far off."""
    if not len(values):
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    inner_low, inner_high = (float(each) for each in np.quantile(values, MIDDLE))
    inner = inner_high - inner_low
    if 0 < inner < FILLED * (high - low):
        low, high = max(low, inner_low - 0.1 * inner), min(high, inner_high + 0.1 * inner)
    room = 0.0 if high > low else (abs(low) or 1.0) * 0.5
    return low - room, high + room


def _points(kept: Batch) -> dict[str, list[float]]:
    return {
        "row": (kept.rows + 1).tolist(),
        "actual": kept.actual.tolist(),
        "predicted": kept.predicted.tolist(),
    }


def _outliers(rows: RunRows, errors: Errors) -> list[dict[str, Any]]:
    deviation = errors.scores()["deviation"]
    return [
        {
            "row": row + 1,
            "line": rows.line(row + 1),
            "actual": actual,
            "predicted": predicted,
            "residual": actual - predicted,
            "deviations": (actual - predicted) / deviation if deviation else None,
        }
        for row, actual, predicted in errors.largest()
    ]


def outliers_csv(found: Mapping[str, Any]) -> str:
    """The largest residuals as a CSV, numbers in full."""
    names = ("row", "line", "actual", "predicted", "residual", "deviations")
    lines = [",".join(names)]
    for each in found["outliers"]:
        lines.append(",".join("" if each[name] is None else repr(each[name]) for name in names))
    return "\n".join(lines) + "\n"


# -- of a run -------------------------------------------------------------------------------------


def of_run(
    directory: RunDirectory, config: TrainingConfig, progress: Progress | None = None
) -> dict[str, Any]:
    """The errors of a finished run: as they were kept beside its model, or found now and kept.

    Raises
    ------
    UserError
        If its rows are not to be had any more: the sentence says why.
    """
    known = kept_summary(directory)
    if known is not None:
        return known
    model = FittedModel.load(directory.model)
    result = read_result(directory)
    tell = None if progress is None else (lambda done: progress(0.9 * done, "Reading the file"))
    table = held_out.find_table(config, result, progress=tell)
    with table.hold():
        found = summarise(held_out.open_rows(table, config, result, model), progress)
    keep(directory, found)
    return found


def keep(directory: RunDirectory, found: Mapping[str, Any]) -> None:
    """Write what was found beside the run's model."""
    write_json(path_of(directory), found, durable=False)  # it can be found again


def kept_summary(directory: RunDirectory) -> dict[str, Any] | None:
    """What `of_run` has kept of the run's present model, if it has."""
    try:
        found = read_json(path_of(directory))
        result = read_result(directory)
    except (OSError, ValueError, UserError):
        return None
    same = found.get("weights_sha256") == result.get("weights_sha256")
    return dict(found) if same and found.get("format") == FORMAT else None


def path_of(directory: RunDirectory) -> Path:
    """Where a run's errors are kept."""
    return directory.path / "residuals.json"


def read_result(directory: RunDirectory) -> Mapping[str, Any]:
    """A finished run's ``result.json``, or a `UserError`."""
    try:
        return dict(read_json(directory.result))
    except (OSError, ValueError):
        raise UserError("The result of this run cannot be read.", "Train again.") from None
