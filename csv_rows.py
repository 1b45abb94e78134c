"""A CSV file as an estimator takes it: all of its rows, encoded, and predictions for others.

file.csv ──import, prepare──▶ rows on disk ──▶ moments of folds, or arrays
path or data frame ──preprocessing of the fit──▶ predictions
"""

from __future__ import annotations

import itertools
import os
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from regatta.configuration import ReadingOptions
from regatta.data_pipeline import PreparedData, import_csv, prepare, read_for_prediction
from regatta.fitted_model import FittedModel
from regatta.solvers.moments import Moments, moments_of

Array = NDArray[np.floating]
Vector = NDArray[np.float64]


class CsvRows:
    """Rows of encoded features, standardised over all of them; the target in its own units.

    Attributes
    ----------
    prepared : PreparedData
    dialect : dict
        How the file is written.
    scale : (d + 1,) array
        What prepared rows are multiplied by: their features were standardised without the rows
        that were held out, and their target was divided by its deviation.
    """

    def __init__(self, prepared: PreparedData, dialect: dict[str, Any]) -> None:
        self.prepared = prepared
        self.dialect = dialect
        self.scale = np.append(np.ones(prepared.features), prepared.target_scale)

    @classmethod
    def open(
        cls,
        path: Path,
        target: str,
        *,
        options: ReadingOptions,
        processes: int | None,
        shards: int,
    ) -> CsvRows:
        """Read the file, or find it among those that were read before."""
        table = import_csv(path, options, processes=processes)
        # One row is the least that can be held out. It is put back among the others.
        prepared = prepare(
            table,
            target=target,
            validation=1e-9,
            shards=shards,
            precision="float64",
            processes=processes,
        )
        return cls(prepared, table.dialect.to_json())

    def folds(self, n_folds: int) -> list[Moments]:
        """The moments of groups of shards, features standardised over all rows."""
        with self.prepared.hold():
            parts = self._parts(n_folds)
        total = reduce(add, parts)
        variances = np.diagonal(total.about)[:-1] / total.n
        self.scale[:-1] = 1.0 / np.sqrt(np.where(variances > 0, variances, 1.0))
        return [part.scaled(self.scale) for part in parts]

    def _parts(self, n_folds: int) -> list[Moments]:
        X, y, offsets = *self._open("train"), self.prepared.train_offsets
        parts = [Moments.nothing(X.shape[1]) for _ in range(n_folds)]
        for shard, (start, stop) in enumerate(itertools.pairwise(offsets)):
            parts[shard % n_folds] += moments_of(X, y, None, slice(start, stop))
        parts[-1] += moments_of(*self._open("validation"))
        return parts

    def rows(self) -> tuple[Array, Array]:
        """All rows, features standardised."""
        with self.prepared.hold():
            parts = [self._open(part) for part in ("train", "validation")]
            X, y = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        deviations = X.std(axis=0)
        self.scale[:-1] = 1.0 / np.where(deviations > 0, deviations, 1.0)
        X *= self.scale[:-1]
        return X, y * self.scale[-1]

    def model(self, weights: Vector, intercept: float, **described: Any) -> FittedModel:
        """The model that coefficients of these rows stand for."""
        return FittedModel(
            preprocessing=self.prepared.preprocessing,
            weights=weights * self.scale[:-1],
            intercept=intercept + self.prepared.target_mean,
            dialect=self.dialect,
            rows_train=self.prepared.rows,
            **described,
        )

    def _open(self, part: str) -> tuple[Array, Array]:
        return self.prepared.open(f"X_{part}"), self.prepared.open(f"y_{part}")


def predict_columns(fitted: FittedModel, X: Any, options: ReadingOptions) -> Vector:
    """Predictions for a path, or for a data frame as pandas reads it."""
    if is_path(X):
        batches = read_for_prediction(Path(X), fitted.preprocessing, options=options)
        return np.concatenate([np.empty(0), *(fitted.predict(batch.columns) for batch in batches)])
    if not hasattr(X, "columns"):
        raise ValueError(
            "This model was fitted to a file: it takes a data frame with the file's columns, or a "
            "path."
        )
    from regatta.export.sklearn_pipeline import build_pipeline

    return cast(Vector, build_pipeline(fitted).predict(X))


def is_path(X: Any) -> bool:
    """Whether it is a path, and no array."""
    return isinstance(X, str | os.PathLike)
