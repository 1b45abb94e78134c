"""Statistics of arrays in memory, about their own mean, and cross-validation over any splits.

    rows ──blocks, on threads──▶ mean and second moments of a block ──add──▶ those of all rows

Prepared rows are standardised before their moments are summed; an array is not, and a column at
1.6e9 ± 1 would lose all its digits. So each block is centred about its own mean, and blocks are
put together by the rule of parallel variance, which subtracts nothing.

Source: Chan, Golub & LeVeque, Algorithms for Computing the Sample Variance (1983), equation 2.1.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np
from numpy.typing import ArrayLike, NDArray

from regatta.models import Penalty
from regatta.solvers import exact
from regatta.solvers.path import Rule, alpha_grid, ridge_grid, ridge_path
from regatta.solvers.statistics import Centred, Matrix, Statistics, Vector
from regatta.solvers.threads import for_fits, mapping
from regatta.utils import DataError, UserError, available_cores

# Rows that are centred and multiplied at once: they stay in the cache from one to the other.
BLOCK_BYTES = 512 * 1024
MAX_BLOCK_BYTES = 16 * 1024 * 1024
# Blocks that a thread takes at once. Moments are added in the order of the rows, so the result
# does not depend on the number of threads.
SPAN_BLOCKS = 4
# Fewer cells are summed before threads have started.
THREADED_CELLS = 1_000_000
# Mean errors whose difference is a smaller share are the same but for rounding.
TIE = 1e-10

Rows = slice | NDArray[np.integer]


@dataclass(frozen=True)
class Moments:
    """Mean and second moments about it of ``z = (x_1 … x_d, y)``. Those of disjoint rows add up.

    Attributes
    ----------
    n : float
        Rows, or the sum of their weights.
    mean : (d + 1,) array
    about : (d + 1, d + 1) array
        Σ(z − z̄)(z − z̄)ᵀ
    """

    n: float
    mean: Vector
    about: Matrix

    @classmethod
    def nothing(cls, d: int) -> Moments:
        """Those of no rows."""
        return cls(0.0, np.zeros(d + 1), np.zeros((d + 1, d + 1)))

    def __add__(self, other: Moments) -> Moments:
        if other.n == 0.0:
            return self
        if self.n == 0.0:
            return other
        n = self.n + other.n
        apart = other.mean - self.mean
        about = self.about + other.about
        about += np.outer(apart * (self.n * other.n / n), apart)
        return Moments(n, self.mean + apart * (other.n / n), about)

    @property
    def y_variance(self) -> float:
        return float(self.about[-1, -1]) / self.n

    def seen(self, fit_intercept: bool) -> Moments:
        """As the model sees them: without intercept about zero, as if that were the mean."""
        if fit_intercept:
            return self
        about = self.about + self.n * np.outer(self.mean, self.mean)
        return Moments(self.n, np.zeros_like(self.mean), about)

    def scaled(self, scale: Vector) -> Moments:
        """The moments as if z had been multiplied by ``scale`` (d + 1,)."""
        return Moments(self.n, self.mean * scale, self.about * scale * scale[:, None])

    def statistics(self, origin: Vector | None = None) -> Statistics:
        """Second moments of ``(x, 1, y)`` with x and y counted from ``origin``, or their mean."""
        offset = np.zeros_like(self.mean) if origin is None else self.mean - origin
        second = self.about + self.n * np.outer(offset, offset)
        first = np.insert(self.n * offset, len(offset) - 1, self.n)
        moments = np.insert(second, len(offset) - 1, 0.0, axis=0)
        moments = np.insert(moments, len(offset) - 1, first, axis=1)
        moments[-2] = first
        return Statistics(moments)

    def centred(self) -> Centred:
        """What the solvers take, checked."""
        return exact.centred(self.statistics())


def moments_of(
    X: NDArray[np.floating],  # (n_rows, d)
    y: NDArray[np.floating],  # (n_rows,)
    sample_weight: Vector | None = None,  # (n_rows,)
    rows: Rows = slice(None),
) -> Moments:
    """The moments of some rows of arrays in memory, each row counted ``sample_weight`` times."""
    if isinstance(rows, slice):
        rows = slice(*rows.indices(len(X)))
    n_rows, width = _length(rows), X.shape[1] + 1
    size = _block_rows(width)
    spans = range(0, n_rows, size * SPAN_BLOCKS)

    def of_span(start: int) -> Moments:
        total, buffer = Moments.nothing(width - 1), np.empty((min(size, n_rows), width))
        for begin in range(start, min(n_rows, start + size * SPAN_BLOCKS), size):
            chosen = _part(rows, begin, min(n_rows, begin + size))
            block = buffer[: _length(chosen)]
            block[:, :-1], block[:, -1] = X[chosen], y[chosen]
            weight = None if sample_weight is None else sample_weight[chosen]
            total = total + _of_block(block, weight)
        return total

    few = n_rows * width < THREADED_CELLS
    with mapping(1 if few else min(available_cores(), len(spans))) as each:
        return reduce(add, each(of_span, spans), Moments.nothing(width - 1))


def _length(rows: Rows) -> int:
    return rows.stop - rows.start if isinstance(rows, slice) else len(rows)


def _part(rows: Rows, start: int, stop: int) -> Rows:
    """Some of the rows."""
    if isinstance(rows, slice):
        return slice(rows.start + start, rows.start + stop)
    return rows[start:stop]


def _block_rows(width: int) -> int:
    """Enough rows for the product to take longer than adding it up; if few, as the cache holds."""
    row_bytes = 8 * width
    return max(64, BLOCK_BYTES // row_bytes, min(4 * width, MAX_BLOCK_BYTES // row_bytes))


def _of_block(block: Matrix, weight: Vector | None) -> Moments:
    """Moments of a block, which is overwritten."""
    n = float(len(block)) if weight is None else float(weight.sum())
    if n == 0.0:
        return Moments.nothing(block.shape[1] - 1)
    # Counted from its first row, a constant column is exactly zero.
    first = block[0].copy()
    block -= first
    counts = np.ones(len(block)) if weight is None else weight
    mean = counts @ block / n
    block -= mean
    if weight is not None:
        block *= np.sqrt(weight)[:, None]
    with np.errstate(over="ignore", invalid="ignore"):  # the solvers tell
        return Moments(n, first + mean, block.T @ block)


# --- cross-validation ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Fold:
    """The rows that one fit learns from, and those that it is judged on."""

    training: Moments
    test: Moments


def folds_of(parts: Sequence[Moments]) -> list[Fold]:
    """Each part left out once, the fit learning from all others."""
    if len(parts) < 2:
        raise UserError(f"Cross-validation needs at least 2 folds, not {len(parts)}.")
    # Added up anew, since a difference would carry the rounding of what was taken away.
    others = [reduce(add, (*parts[:k], *parts[k + 1 :])) for k in range(len(parts))]
    return [Fold(training, test) for training, test in zip(others, parts, strict=True)]


def contiguous(n_rows: int, n_folds: int) -> list[Rows]:
    """The folds of scikit-learn's ``KFold``, without their indices."""
    sizes = np.full(n_folds, n_rows // n_folds)
    sizes[: n_rows % n_folds] += 1
    ends = np.cumsum(sizes).tolist()
    return [slice(end - size, end) for end, size in zip(ends, sizes.tolist(), strict=True)]


def split(
    X: NDArray[np.floating],  # (n_rows, d)
    y: NDArray[np.floating],  # (n_rows,)
    sample_weight: Vector | None,  # (n_rows,)
    splits: Iterable[tuple[ArrayLike, ArrayLike]],
) -> tuple[Moments, list[Fold]]:
    """The moments of all rows, and those of each split into rows to learn from and the others.

    Where every row is left out once, each is read once.
    """
    pairs = [(_as_rows(training), _as_rows(test)) for training, test in splits]
    tests = [moments_of(X, y, sample_weight, test) for _, test in pairs]
    if _each_row_once(pairs, len(X)):
        return reduce(add, tests), folds_of(tests)
    trainings = [moments_of(X, y, sample_weight, training) for training, _ in pairs]
    folds = [Fold(*pair) for pair in zip(trainings, tests, strict=True)]
    return moments_of(X, y, sample_weight), folds


def _each_row_once(pairs: Sequence[tuple[Rows, Rows]], n_rows: int) -> bool:
    """Whether every row is left out once, and all others are learned from."""
    times = np.zeros(n_rows, dtype=np.intp)
    for training, test in pairs:
        seen = np.zeros(n_rows, dtype=bool)
        seen[training] = True
        known = int(seen.sum())
        seen[test] = True
        if known != _length(training) or known + _length(test) != n_rows or not seen.all():
            return False
        times[test] += 1
    return bool((times == 1).all())


def _as_rows(chosen: ArrayLike) -> Rows:
    """Indices or a mask; a slice where they follow one another, so that nothing is copied."""
    rows = np.asarray(chosen)
    if rows.dtype == bool:
        rows = np.flatnonzero(rows)
    if len(rows) and (np.diff(rows) == 1).all():
        return slice(int(rows[0]), int(rows[-1]) + 1)
    return rows


@dataclass(frozen=True)
class Options:
    """What cross-validation is to try.

    ``alphas`` says how many, or which; the rest is as in `regatta.solvers.path`.
    """

    model: str
    l1_ratio: float
    alphas: int | Sequence[float]
    eps: float
    tol: float
    max_iter: int
    fit_intercept: bool


@dataclass(frozen=True)
class Curve:
    """How well each alpha of a grid does.

    Attributes
    ----------
    alphas : (m,) array
        Descending.
    errors : (m, n_folds) array
        Mean squared error on the rows left out.
    judged : (m, n_folds) array
        What the choice goes by, a smaller one being better: the errors or, for ridge, 1 − R².
    unfinished : int
        Fits that coordinate descent left short of their duality gap.
    """

    l1_ratio: float
    alphas: Vector
    errors: Matrix
    judged: Matrix
    unfinished: int

    @property
    def best(self) -> int:
        """Index of the alpha with the smallest mean; of those that rounding tells apart, the
        first. (Near its end a path may stand still: its duality gap is small enough.)"""
        mean = self.judged.mean(axis=1)
        return int(np.flatnonzero(mean <= mean.min() * (1.0 + TIE))[0])

    def choose(self, rule: Rule) -> int:
        """Index of the best alpha, or of the largest within one standard error of it."""
        if rule == "min":
            return self.best
        mean, n_folds = self.judged.mean(axis=1), self.judged.shape[1]
        error = self.judged[self.best].std(ddof=1) / math.sqrt(n_folds)
        return int(np.flatnonzero(mean <= mean[self.best] + error)[0])


def cross_validate(total: Moments, folds: Sequence[Fold], options: Options) -> Curve:
    """Fit the training part of each fold along a grid of alphas, and judge it on the other.

    Like LassoCV, ElasticNetCV and RidgeCV, the mean over folds counts each of them the same.

    Raises
    ------
    DataError
        A fold has no rows, or rows in which the target is constant.
    """
    grid = _grid(total.seen(options.fit_intercept).centred(), options)
    for number, fold in enumerate(folds, start=1):
        _check(fold, number, len(folds))
    told = exact.unfinished_is_counted() if options.l1_ratio > 0 else contextlib.nullcontext()
    with told, mapping(for_fits(len(folds), len(total.mean))) as each:
        found = list(each(lambda fold: _errors(fold, grid, options), folds))
    errors = np.array([error for error, _ in found]).T
    judged = errors
    if options.model == "ridge":
        variances = np.array([fold.test.y_variance for fold in folds])
        # A fold whose target is constant has no say.
        judged = np.where(variances > 0, judged / np.where(variances > 0, variances, 1.0), 1.0)
    return Curve(options.l1_ratio, grid, errors, judged, sum(left for _, left in found))


def _errors(fold: Fold, grid: Vector, options: Options) -> tuple[Vector, int]:
    """Mean squared error (m,) on the rows left out, and how many fits did not finish."""
    training = fold.training.seen(options.fit_intercept)
    weights, unfinished = _path(training.centred(), grid, options)
    test = fold.test.seen(options.fit_intercept).statistics(training.mean)
    return test.squared_error(weights, np.zeros(len(grid))) / test.n, unfinished


def _grid(part: Centred, options: Options) -> Vector:
    if part.yy == 0.0:
        raise DataError("The target is the same in every row: there is nothing to choose by.")
    if not isinstance(options.alphas, int | np.integer):
        return np.sort(np.asarray(options.alphas, dtype=np.float64))[::-1].copy()
    if options.l1_ratio > 0:
        return alpha_grid(part, options.l1_ratio, int(options.alphas), options.eps)
    return ridge_grid(part, int(options.alphas)) / (1.0 if options.model == "ridge" else part.n)


def _path(part: Centred, grid: Vector, options: Options) -> tuple[Matrix, int]:
    """Weights (d, m) along the grid, and how many fits did not finish."""
    if options.l1_ratio > 0:
        return exact.descend(
            part, grid, options.l1_ratio, tol=options.tol, max_iter=options.max_iter
        )
    return ridge_path(part, grid * (1.0 if options.model == "ridge" else part.n)), 0


def _check(fold: Fold, number: int, n_folds: int) -> None:
    for what, part in (("to judge by", fold.test), ("to learn from", fold.training)):
        if part.n == 0.0:
            raise DataError(f"Fold {number} of {n_folds} has no rows {what}.", "Use fewer folds.")
    if fold.training.y_variance == 0.0:
        raise DataError(
            f"Outside of fold {number} of {n_folds} the target is the same in every row.",
            "Use fewer folds, or more rows.",
        )


def solve(
    moments: Moments, penalty: Penalty, fit_intercept: bool, *, tol: float, max_iter: int
) -> tuple[exact.Solution, float]:
    """The minimum of 1/(2n) Σ(y − x·w − b)² + l1 ‖w‖₁ + l2/2 ‖w‖², and its b."""
    part = moments.seen(fit_intercept)
    solution = exact.minimise(part.statistics(), penalty, tol=tol, max_iter=max_iter)
    return solution, float(part.mean[-1] - part.mean[:-1] @ solution.weights)
