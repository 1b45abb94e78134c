"""The regularisation path and the choice of alpha by cross-validation, from statistics alone.

    folds ──┬── all but one ── path ── squared error on the one left out ──┐
            └── all ────────── path                                        └── alpha

Nothing here reads a row: the statistics of a fold's training part are the sum of the other
folds', and the squared error on the fold left out is a quadratic form in its own.

What is computed is what ``make_pipeline(StandardScaler(), LassoCV(cv=folds))`` computes (or
ElasticNetCV, or RidgeCV): features are standardised once, over all training rows, before the
statistics are taken; within a fold X and y are centred about the means of its training part and
*not* scaled again. Means over folds count every fold the same, however many rows it has.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import eigvalsh_tridiagonal, lapack

from regatta.solvers.exact import (
    RANK_TOLERANCE,
    along,
    centred,
    check_penalty,
    descend,
    least_squares,
    unfinished_is_counted,
)
from regatta.solvers.statistics import Centred, Matrix, Statistics, Vector
from regatta.solvers.threads import for_fits, mapping
from regatta.utils import DataError, UserError

Rule = Literal["min", "1se"]

# An automatic grid for ridge reaches this many times beyond the spectrum of XᵀX on either side:
# the heaviest alpha leaves 1 % of every direction, the lightest takes 1 % off the weakest.
BEYOND_SPECTRUM = 100.0
# Rounds of coordinate descent for an alpha, as in scikit-learn.
MAX_ITER = 1000


@dataclass(frozen=True)
class PathResult:
    """A path on all rows, and how well each alpha does on rows that were left out.

    Attributes
    ----------
    model : str
    l1_ratio : float
        Share of the penalty that is L1; 1 for lasso, 0 for ridge.
    rule : {"min", "1se"}
    alphas : (m,) array
        Descending.
    coefficients : (d, m) array
    intercepts : (m,) array
        Of the fits on all rows.
    errors : (n_folds, m) array
        Mean squared error on each fold, of the fit on the others.
    mean_error, standard_error : (m,) array
        Over the folds; the standard error is their standard deviation over √n_folds.
    index_min : int
        The best alpha.
    index_1se : int
        The largest alpha within one standard error of the best.
    weights, intercept : (d,) array, float
        At the chosen alpha: those on the path or, with a ``tol``, fitted once more from a cold
        start, as LassoCV does. `exact.solve` gives them to rounding.
    warnings : tuple of str
    """

    model: str
    l1_ratio: float
    rule: Rule
    alphas: Vector
    coefficients: Matrix
    intercepts: Vector
    errors: Matrix
    mean_error: Vector
    standard_error: Vector
    index_min: int
    index_1se: int
    weights: Vector
    intercept: float
    warnings: tuple[str, ...]

    @property
    def index(self) -> int:
        """Where the chosen alpha stands."""
        return self.index_1se if self.rule == "1se" else self.index_min

    @property
    def alpha(self) -> float:
        """The chosen alpha."""
        return float(self.alphas[self.index])

    def ending_in(self, weights: Vector, intercept: float) -> PathResult:
        """With the fit at the chosen alpha, solved to rounding, in its place on the path."""
        coefficients, intercepts = self.coefficients.copy(), self.intercepts.copy()
        coefficients[:, self.index], intercepts[self.index] = weights, intercept
        return replace(
            self,
            coefficients=coefficients,
            intercepts=intercepts,
            weights=weights,
            intercept=intercept,
        )

    @property
    def n_nonzero(self) -> NDArray[np.int64]:
        """Nonzero coefficients at each alpha, (m,)."""
        return cast("NDArray[np.int64]", np.count_nonzero(self.coefficients, axis=0))

    def to_json(self, feature_names: Sequence[str] | None = None) -> dict[str, Any]:
        """Everything, as lists; the coefficients by feature, each along the alphas."""
        names = feature_names or [str(j) for j in range(len(self.coefficients))]
        return {
            "model": self.model,
            "l1_ratio": self.l1_ratio,
            "rule": self.rule,
            "alpha": self.alpha,
            "alpha_min": float(self.alphas[self.index_min]),
            "alpha_1se": float(self.alphas[self.index_1se]),
            "index": self.index,
            "index_min": self.index_min,
            "index_1se": self.index_1se,
            "alphas": self.alphas.tolist(),
            "mean_error": self.mean_error.tolist(),
            "standard_error": self.standard_error.tolist(),
            "errors": self.errors.tolist(),
            "n_nonzero": self.n_nonzero.tolist(),
            "weights": dict(zip(names, self.weights.tolist(), strict=True)),
            "intercept": self.intercept,
            "intercepts": self.intercepts.tolist(),
            "coefficients": dict(zip(names, self.coefficients.tolist(), strict=True)),
            "warnings": list(self.warnings),
        }


def cross_validated_path(
    folds: Sequence[Statistics],
    model: str,
    *,
    l1_ratio: float = 0.5,
    alphas: ArrayLike | int = 100,
    eps: float = 1e-3,
    rule: Rule = "min",
    tol: float | None = None,
    max_iter: int = MAX_ITER,
) -> PathResult:
    """Fit all rows and all rows but each fold along a grid of alphas, and choose one.

    Parameters
    ----------
    folds : sequence of Statistics
        Of disjoint rows, at least two.
    model : {"ridge", "lasso", "elasticnet"}
    l1_ratio : float
        For elastic net.
    alphas : int or (m,) array
        How many, or which. How many means `alpha_grid` or, for ridge, `ridge_grid`.
    eps : float
        The smallest alpha of an automatic grid as a share of the largest; not for ridge.
    rule : {"min", "1se"}
        Take the best alpha, or the largest within one standard error of the best.
    tol : float, optional
        Duality gap as in LassoCV, whose 1e-4 leaves the coefficients of neighbouring alphas equal
        where the alphas are close. Default: fine enough that coefficients are good to about 1e-6
        of the largest; see `exact.along`. Ridge needs none.
    max_iter : int
        As in LassoCV.

    Notes
    -----
    Lasso and elastic net are judged by the mean squared error, as LassoCV and ElasticNetCV do.
    Ridge is judged by the mean R² of the folds, as RidgeCV does when it is given folds: each
    fold's error then counts in units of the fold's own variance. Where no fold has any (a row
    each), it is judged by the mean squared error, as RidgeCV does when it leaves one out. The
    errors that are returned are mean squared errors in any case.

    Raises
    ------
    UserError
        An option is out of bounds, or there are fewer than two folds.
    DataError
        A fold is empty, or the target is constant in the rows outside of one.
    """
    l1_ratio = {"lasso": 1.0, "ridge": 0.0}.get(model, l1_ratio)
    _check_options(model, l1_ratio, eps, rule)
    _check_folds(folds)
    total = centred(Statistics.total(folds))
    if total.yy == 0.0:
        raise DataError("The target is the same in every row: there is nothing to choose by.")
    grid = _grid(total, model, l1_ratio, alphas, eps)
    fit = _Fitter(model, l1_ratio, grid, tol, max_iter)
    with unfinished_is_counted() if l1_ratio > 0 else contextlib.nullcontext():
        errors, path, unfinished = _cross_validated(folds, total, fit)
        judged = _judged(errors, folds, model)
        best, within = _choose(judged, "min"), _choose(judged, "1se")
        index = within if rule == "1se" else best
        chosen = path.only(index) if tol is None else fit(total, [grid[index]])
    return PathResult(
        model=model,
        l1_ratio=l1_ratio,
        rule=rule,
        alphas=grid,
        coefficients=path.weights,
        intercepts=path.intercepts,
        errors=errors,
        mean_error=errors.mean(axis=0),
        standard_error=_standard_error(errors),
        index_min=best,
        index_1se=within,
        weights=chosen.weights[:, 0],
        intercept=float(chosen.intercepts[0]),
        warnings=(
            *_about_unfinished(unfinished + chosen.unfinished, len(folds), fit),
            *_about_choice(grid, best, path.weights[:, best], l1_ratio),
        ),
    )


# --- grids --------------------------------------------------------------------------------------


def alpha_grid(part: Centred, l1_ratio: float, n_alphas: int, eps: float) -> Vector:
    """scikit-learn's: from the smallest alpha that leaves no feature, down to ``eps`` of it."""
    highest = float(np.abs(part.xy).max(initial=0.0)) / (part.n * l1_ratio)
    resolution = np.finfo(np.float64).resolution
    if highest <= resolution:
        return np.full(n_alphas, resolution)
    return np.geomspace(highest, highest * eps, n_alphas)


def ridge_grid(part: Centred, n_alphas: int) -> Vector:
    """From heavy to light, in terms of the spectrum of XᵀX.

    A ridge leaves λ / (λ + α) of the direction with the eigenvalue λ. The grid runs, evenly on a
    log scale, from 100 times the largest λ to a 100th of the smallest that is not rounding
    (at least 1e-12 of the largest).
    """
    if not part.xx.any():
        return np.ones(n_alphas)
    values = Rotated.of(part).eigenvalues()
    largest = float(values[-1])
    smallest = float(values[values > RANK_TOLERANCE**2 * largest][0])
    return np.geomspace(largest * BEYOND_SPECTRUM, smallest / BEYOND_SPECTRUM, n_alphas)


def _grid(
    part: Centred, model: str, l1_ratio: float, alphas: ArrayLike | int, eps: float
) -> Vector:
    if isinstance(alphas, int | np.integer):
        if alphas < 1:
            raise UserError(f"There must be at least one alpha, not {alphas}.")
        if l1_ratio > 0:
            return alpha_grid(part, l1_ratio, int(alphas), eps)
        return ridge_grid(part, int(alphas)) / (1.0 if model == "ridge" else part.n)
    grid = np.sort(np.asarray(alphas, dtype=np.float64).ravel())[::-1].copy()
    if not len(grid):
        raise UserError("The list of alphas is empty.")
    for alpha in grid:
        check_penalty(model, float(alpha), l1_ratio)
    return grid


# --- fits along a grid --------------------------------------------------------------------------


@dataclass(frozen=True)
class _Fits:
    """Weights (d, m) and intercepts (m,) along a grid, and how many are short of their gap."""

    weights: Matrix
    intercepts: Vector
    unfinished: int

    def only(self, index: int) -> _Fits:
        """One of them, which is not counted once more."""
        at = slice(index, index + 1)
        return _Fits(self.weights[:, at].copy(), self.intercepts[at].copy(), 0)


@dataclass(frozen=True)
class _Fitter:
    """Fits any part of the rows along one grid."""

    model: str
    l1_ratio: float
    grid: Vector
    tol: float | None
    max_iter: int

    def __call__(self, part: Centred, alphas: Sequence[float] | None = None) -> _Fits:
        """Along the grid, or ``alphas``."""
        grid, unfinished = self.grid if alphas is None else np.asarray(alphas), 0
        if self.l1_ratio == 0:
            weights = ridge_path(part, grid * (1.0 if self.model == "ridge" else part.n))
        elif self.tol is None:
            weights, unfinished = along(part, grid, self.l1_ratio, max_iter=self.max_iter)
        else:
            weights, unfinished = descend(
                part, grid, self.l1_ratio, tol=self.tol, max_iter=self.max_iter
            )
        return _Fits(weights, part.y_mean - part.x_mean @ weights, unfinished)


def ridge_path(part: Centred, alphas: Vector) -> Matrix:
    """Ridge for every alpha (m,), in scikit-learn's scaling: (d, m) weights.

    XᵀX is made tridiagonal once, by rotations that leave αI alone, and a tridiagonal system is
    solved for each alpha: a quarter of the time of an eigendecomposition, and as stable.
    """
    if not part.xx.any():
        return np.zeros((len(part.xy), len(alphas)))
    rotated = Rotated.of(part)
    floor = RANK_TOLERANCE**2 * rotated.bound()
    inner = np.empty((len(part.xy), len(alphas)))
    for k, alpha in enumerate(alphas):
        inner[:, k] = rotated.solve(alpha) if alpha > floor else 0.0
    weights = rotated.back(inner)
    # Hardly any penalty: what no row determines must not be made of rounding.
    for column in np.flatnonzero(alphas <= floor):
        weights[:, column] = least_squares(part, float(alphas[column])).weights
    weights[np.diagonal(part.xx) == 0] = 0.0
    return weights


@dataclass(frozen=True)
class Rotated:
    """XᵀX = Q T Qᵀ with T tridiagonal. Source: Eldén (1977), on ridge for many alphas."""

    diagonal: Vector
    beside: Vector
    right: Vector  # QᵀXᵀy
    reflectors: Matrix
    scalars: Vector

    @classmethod
    def of(cls, part: Centred) -> Rotated:
        reflectors, diagonal, beside, scalars, _ = lapack.dsytrd(
            part.xx, lower=1, lwork=64 * len(part.xy)
        )
        bare = cls(diagonal, beside, part.xy, reflectors, scalars)
        return cls(diagonal, beside, bare._apply("T", part.xy[:, None])[:, 0], reflectors, scalars)

    def eigenvalues(self) -> Vector:
        """Of XᵀX, ascending."""
        return cast(Vector, eigvalsh_tridiagonal(self.diagonal, self.beside))

    def bound(self) -> float:
        """At least the largest eigenvalue, by Gershgorin's circles."""
        radius = np.zeros(len(self.diagonal) + 1)
        radius[1:-1] = np.abs(self.beside)
        return float((self.diagonal + radius[1:] + radius[:-1]).max())

    def solve(self, alpha: float) -> Vector:
        """(T + αI)⁻¹QᵀXᵀy."""
        if len(self.right) == 1:
            return self.right / (self.diagonal + alpha)
        *_, solution, _ = lapack.dptsv(self.diagonal + alpha, self.beside, self.right)
        return cast(Vector, solution)

    def back(self, inner: Matrix) -> Matrix:
        """Q times ``inner`` (d, m)."""
        return self._apply("N", inner)

    def _apply(self, transposed: str, columns: Matrix) -> Matrix:
        """Q or Qᵀ times (d, m): reflections that leave the first row as it is."""
        rotated = np.array(columns, order="F")
        if len(rotated) > 1:
            work = 64 * max(1, columns.shape[1])
            rotated[1:], _, _ = lapack.dormqr(
                "L", transposed, self.reflectors[1:, :-1], self.scalars, rotated[1:], lwork=work
            )
        return rotated


# --- the choice ---------------------------------------------------------------------------------


def _cross_validated(
    folds: Sequence[Statistics], total: Centred, fit: _Fitter
) -> tuple[Matrix, _Fits, int]:
    """Mean squared errors (n_folds, m) on each fold of the fits on the others, the fits on all
    rows, and how many of all of these did not finish."""

    def without(left_out: int) -> tuple[_Fits, Vector]:
        if left_out == len(folds):
            return fit(total), np.empty(0)
        fits, test = fit(_training(folds, left_out)), folds[left_out]
        return fits, test.squared_error(fits.weights, fits.intercepts) / test.n

    count = len(folds) + 1
    with mapping(for_fits(count, len(total.xy))) as each:
        found = list(each(without, range(count)))
    errors = np.array([error for _, error in found[:-1]])
    return errors, found[-1][0], sum(fits.unfinished for fits, _ in found)


def _training(folds: Sequence[Statistics], left_out: int) -> Centred:
    """All folds but one. Added up anew, since a difference would carry the rounding of what was
    taken away."""
    others = [fold for k, fold in enumerate(folds) if k != left_out]
    training = centred(Statistics.total(others))
    if training.yy == 0.0:
        raise DataError(
            f"Outside of fold {left_out + 1} of {len(folds)} the target is the same in every row.",
            "Use fewer folds, or more rows.",
        )
    return training


def _judged(errors: Matrix, folds: Sequence[Statistics], model: str) -> Matrix:
    """What the choice goes by, a smaller one being better: the errors or, for ridge, 1 − R²."""
    if model != "ridge":
        return errors
    variances = np.array([part.yy / part.n for part in map(centred, folds)])
    if not variances.any():  # folds of one row: R² means nothing in any of them
        return errors
    judged = np.ones_like(errors)  # a fold whose target is constant has no say
    judged[variances > 0] = errors[variances > 0] / variances[variances > 0, None]
    return judged


def _choose(judged: Matrix, rule: Rule) -> int:
    """Index of the best alpha, or of the largest within one standard error of it."""
    mean = judged.mean(axis=0)
    best = int(np.argmin(mean))
    if rule == "min":
        return best
    limit = mean[best] + _standard_error(judged)[best]
    return int(np.flatnonzero(mean <= limit)[0])


def _standard_error(errors: Matrix) -> Vector:
    return cast(Vector, errors.std(axis=0, ddof=1) / math.sqrt(len(errors)))


# --- what is told -------------------------------------------------------------------------------


def _about_unfinished(unfinished: int, n_folds: int, fit: _Fitter) -> tuple[str, ...]:
    if not unfinished:
        return ()
    fits = (n_folds + 1) * len(fit.grid) + (fit.tol is not None)
    return (
        f"{unfinished:,} of {fits:,} fits stopped after "
        f"{fit.max_iter:,} rounds of coordinate descent, short of their duality gap: features are "
        "nearly dependent.",
    )


def _about_choice(grid: Vector, best: int, chosen: Vector, l1_ratio: float) -> tuple[str, ...]:
    if l1_ratio > 0 and best == 0 and not chosen.any():
        return (
            "The best model has no feature at all: on rows left out, the mean of the target "
            "predicts better.",
        )
    if len(grid) > 1 and best == 0:
        return (
            f"The best alpha, {grid[0]:.3g}, is the largest that was tried: a better one may lie "
            "beyond.",
        )
    if len(grid) > 1 and best == len(grid) - 1:
        return (
            f"The best alpha, {grid[-1]:.3g}, is the smallest that was tried: hardly any penalty "
            "does best, and a smaller one may do better.",
        )
    return ()


# --- what is refused ----------------------------------------------------------------------------


def _check_options(model: str, l1_ratio: float, eps: float, rule: str) -> None:
    check_penalty(model, 0.0, l1_ratio)
    if model == "linear":
        raise UserError(
            "The model linear has no alpha to choose.", "Choose ridge, lasso or elasticnet."
        )
    if not 0 < eps < 1:
        raise UserError(f"eps must lie between 0 and 1, not {eps}.")
    if rule not in ("min", "1se"):
        raise UserError(f"The rule must be min or 1se, not {rule!r}.")


def _check_folds(folds: Sequence[Statistics]) -> None:
    if len(folds) < 2:
        raise UserError(f"Cross-validation needs at least 2 folds, not {len(folds)}.")
    rows = sum(fold.n for fold in folds)
    for number, fold in enumerate(folds, start=1):
        if not fold.n > 0 and np.isfinite(fold.moments).all():
            raise DataError(
                f"Fold {number} of {len(folds)} has no rows: there are {rows:,.0f} in all.",
                "Use fewer folds.",
            )
