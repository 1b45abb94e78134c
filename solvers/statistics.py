"""Sufficient statistics: all that least squares, ridge and lasso ever need to know of the rows.

One (d + 2, d + 2) matrix of second moments of ``(x_1 … x_d, 1, y)`` holds n, Σx, Σy, XᵀX, Xᵀy
and yᵀy. Matrices of disjoint rows add up, so one pass over the shards gives every fold, and the
folds together give everything, and any fold's training rows are the sum of the others.

The rows must be centred about some mean of theirs before they are summed (prepared rows are, and
scaled too), or the digits of the variance drown in those of the mean. Weighted rows are rows
times the root of their weight, the one included: then n is the sum of the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from regatta.parameter_server.batches import folds_of_shards, whole_shards
from regatta.parameter_server.worker_pool import Pool

Matrix = NDArray[np.float64]
Vector = NDArray[np.float64]
# Moments that wait for those of an earlier shard, at most.
EARLY_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class Centred:
    """Second moments about the means of the same rows.

    Attributes
    ----------
    n : float
        Rows, or the sum of their weights.
    x_mean : (d,) array
    y_mean : float
    xx : (d, d) array
        Σ(x − x̄)(x − x̄)ᵀ
    xy : (d,) array
        Σ(x − x̄)(y − ȳ)
    yy : float
        Σ(y − ȳ)²
    """

    n: float
    x_mean: Vector
    y_mean: float
    xx: Matrix
    xy: Vector
    yy: float


@dataclass(frozen=True)
class Statistics:
    """Second moments of ``(x, 1, y)``: a symmetric (d + 2, d + 2) matrix in float64."""

    moments: Matrix

    @property
    def n_features(self) -> int:
        return len(self.moments) - 2

    @property
    def n(self) -> float:
        """Rows, or the sum of their weights."""
        return float(self.moments[-2, -2])

    def __add__(self, other: Statistics) -> Statistics:
        return Statistics(self.moments + other.moments)

    @classmethod
    def total(cls, parts: Sequence[Statistics]) -> Statistics:
        """The statistics of the rows of all parts, added in their order."""
        moments = parts[0].moments.copy()
        for part in parts[1:]:
            moments += part.moments
        return cls(moments)

    def keeping(self, features: Sequence[int]) -> Statistics:
        """The statistics of the same rows with these features alone."""
        d = self.n_features
        chosen = np.array([*features, d, d + 1], dtype=np.intp)
        return Statistics(self.moments[np.ix_(chosen, chosen)])

    def centred(self) -> Centred:
        """The moments about the means of these rows."""
        d, n = self.n_features, self.n
        means = self.moments[-2] / n
        about = np.outer(means, means)
        about *= n
        np.subtract(self.moments, about, out=about)
        return Centred(
            n=n,
            x_mean=means[:d].copy(),
            y_mean=float(means[-1]),
            xx=about[:d, :d],
            xy=about[:d, -1].copy(),
            yy=max(0.0, float(about[-1, -1])),
        )

    def squared_error(self, weights: ArrayLike, intercept: ArrayLike) -> NDArray[np.float64]:
        """Σ(y − x·w − b)² over these rows.

        Parameters
        ----------
        weights : (d,) or (d, m) array
            One or several vectors of weights.
        intercept : float or (m,) array
        """
        w = np.asarray(weights, dtype=np.float64)
        b = np.asarray(intercept, dtype=np.float64)
        minus_one = np.full((1, *w.shape[1:]), -1.0) if w.ndim == 2 else np.array([-1.0])
        stacked = np.concatenate([w, np.broadcast_to(b, (1, *w.shape[1:])), minus_one])
        errors = np.einsum("i...,i...->...", stacked, self.moments @ stacked)
        floored: NDArray[np.float64] = np.maximum(errors, 0.0)
        return floored


class Pass:
    """One pass over the training rows: the statistics of each fold.

    On disk a shard is of one fold (`folds_of_shards`); rows made from parsed columns say theirs.
    Moments are added in the order of shards, so the result does not depend on who computed them,
    nor on who was done first: what comes early waits, here as long as there is room.

    Parameters
    ----------
    pool : Pool
    offsets : sequence of int
        First row of each shard, and the end.
    n_folds : int
        At most the number of shards.

    Attributes
    ----------
    shards_done : int
        Shards that are in.
    """

    def __init__(self, pool: Pool, offsets: Sequence[int], n_folds: int) -> None:
        self._pool = pool
        self._ranges = whole_shards(tuple(offsets))
        self._sums: list[Matrix | None] = [None] * n_folds
        self._folds = folds_of_shards(offsets, n_folds)
        self._early: dict[int, Matrix] = {}
        self._early_bytes = 0
        self.shards_done = 0

    @property
    def n_shards(self) -> int:
        return len(self._ranges)

    def run(self) -> None:
        """Take in all shards."""
        self._pool.moments(self._ranges, self._take)

    def _take(self, shard: int, matrices: Matrix) -> bool:
        if shard != self.shards_done:
            return self._keep(shard, matrices)
        self._take_in(matrices)
        while self.shards_done in self._early:
            matrices = self._early.pop(self.shards_done)
            self._early_bytes -= matrices.nbytes
            self._take_in(matrices)
        return True

    def _keep(self, shard: int, matrices: Matrix) -> bool:
        """Copy the moments of a shard whose turn has not come, if there is room."""
        if self._early_bytes + matrices.nbytes > EARLY_BYTES:
            return False
        self._early[shard] = matrices.copy()
        self._early_bytes += matrices.nbytes
        return True

    def _take_in(self, matrices: Matrix) -> None:
        first = self._folds[self.shards_done] if len(matrices) == 1 else 0
        for fold, matrix in enumerate(matrices, first):
            self._add(fold, matrix)
        self.shards_done += 1

    def _add(self, fold: int, matrix: Matrix) -> None:
        so_far = self._sums[fold]
        if so_far is None:
            self._sums[fold] = matrix.copy()
        else:
            so_far += matrix

    def folds(self) -> list[Statistics]:
        """The statistics of each fold; zeros where there were too few rows for one."""
        nothing = np.zeros_like(next(each for each in self._sums if each is not None))
        return [Statistics(nothing if each is None else each) for each in self._sums]


def gather(pool: Pool, offsets: Sequence[int], n_folds: int) -> list[Statistics]:
    """The statistics of each fold, from a whole `Pass`."""
    one = Pass(pool, offsets, n_folds)
    one.run()
    return one.folds()
