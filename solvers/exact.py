"""The exact optimum, from sufficient statistics alone.

    Statistics ── centred ──┬── l1 = 0: Cholesky, or the minimum norm where XᵀX has no inverse
                            └── l1 > 0: coordinate descent finds the support, then the equations
                                        of the support are solved

The sums know XᵀX, whose condition number is the square of X's. The equations are scaled to a unit
diagonal before they are solved, the usual near-optimal choice, and the digits that are lost
all the same are told. Solving them more precisely (iterative refinement) would not help: what is
lost was lost when the sums were rounded.

The intercept is never penalised: it follows from the means.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike, NDArray

from regatta import models
from regatta.models import Penalty
from regatta.solvers.statistics import Centred, Matrix, Statistics, Vector
from regatta.utils import DataError, UserError

MODELS = ("linear", "ridge", "lasso", "elasticnet")

# Singular values of X below this share of the largest count as zero: LinearRegression's `tol`.
# The sums could not tell much smaller ones from rounding either.
RANK_TOLERANCE = 1e-6
# A variance below this share of the second moment is the rounding of a constant.
CONSTANT = 1e-13
# Decimal digits of a float64, and how many of the coefficients' must be left to say nothing.
DIGITS = 16
ENOUGH_DIGITS = 8
# Coordinate descent looks for the support along this many alphas, this precisely and this long.
WARM_ALPHAS = 10
SUPPORT_TOL = 1e-6
WARM_ROUNDS = 1000
# The gap along a path, as a share of what the best single feature explains, and at least this
# share of Σ(y − ȳ)²: below that it is rounding.
PATH_TOL = 1e-9
LEAST_TOL = 1e-13
# Rounds along a path before the equations of the support are solved instead: sooner and later
# than this take longer.
PATH_ROUNDS = 100
# And multiplications for all of these equations: they take less time than the rounds would.
PATH_WORK = 1e12
# Multiplications after which a search for the support gives up: a few seconds.
SEARCH_WORK = 1e11
# A feature outside the support wants in beyond this share of what is summed to know it, and is
# a copy of what is inside within the second.
ROUNDING = 1e-12
TIE = 1e-10


@dataclass(frozen=True)
class Solution:
    """The minimum of an objective, in the units of the statistics it was computed from.

    Attributes
    ----------
    weights : (d,) array
    intercept : float
    objective : float
        1/(2n) Σ(y − x·w − b)² plus the penalty, as in ``models``.
    rank : int
        Directions in which the features vary (with L1: number of nonzero weights).
    condition : float
        Of the matrix that was solved: XᵀX, centred, plus the L2 penalty, scaled to a unit
        diagonal; of the features with nonzero weights where there is an L1 penalty.
    digits_lost : float
        Decimal digits of the weights that this condition number costs, of `DIGITS`.
    converged : bool
    warnings : tuple of str
        What the reader of the weights should know, a sentence each.
    """

    weights: Vector
    intercept: float
    objective: float
    rank: int
    condition: float
    digits_lost: float
    converged: bool
    warnings: tuple[str, ...]


def solve(
    statistics: Statistics,
    model: str,
    alpha: float = 0.0,
    l1_ratio: float = 0.5,
    *,
    tol: float = 1e-10,
    max_iter: int = 10_000,
    near: Vector | None = None,
) -> Solution:
    """The minimum of scikit-learn's objective of ``model`` (see ``models``).

    Parameters
    ----------
    statistics : Statistics
        Of the rows to fit.
    model : {"linear", "ridge", "lasso", "elasticnet"}
    alpha, l1_ratio : float
        As in scikit-learn, in the units of the statistics; `in_target_units` changes those.
    tol, max_iter : float, int
        Duality gap, as a share of Σ(y − ȳ)², and rounds of coordinate descent. They matter only
        where the features with nonzero weights are linearly dependent.
    near : (d,) array, optional
        Weights close to the solution of lasso or elastic net; saves looking for such.

    Raises
    ------
    UserError
        ``model``, ``alpha`` or ``l1_ratio`` is out of bounds.
    DataError
        There are no rows, or their sums are not finite.
    """
    check_penalty(model, alpha, l1_ratio)
    # A sum of weights stands for the rows, and need not be a whole number.
    penalty = models.get(model).penalty(alpha, l1_ratio, cast(int, statistics.n))
    return minimise(statistics, penalty, tol=tol, max_iter=max_iter, near=near)


def minimise(
    statistics: Statistics,
    penalty: Penalty,
    *,
    tol: float = 1e-10,
    max_iter: int = 10_000,
    near: Vector | None = None,
) -> Solution:
    """The minimum of 1/(2n) Σ(y − x·w − b)² + l1 ‖w‖₁ + l2/2 ‖w‖²."""
    part = centred(statistics)
    if penalty.l1 > 0:
        with unfinished_is_counted():
            fit = _sparse(part, penalty, tol, max_iter, near)
    else:
        fit = least_squares(part, penalty.l2 * part.n)
    w = fit.weights
    squared = max(0.0, part.yy - 2.0 * float(part.xy @ w) + float(w @ part.xx @ w))
    return Solution(
        weights=w,
        intercept=part.y_mean - float(part.x_mean @ w),
        objective=0.5 * squared / part.n + penalty.value(np.append(w, 0.0)),
        rank=fit.rank,
        condition=fit.condition,
        digits_lost=math.log10(fit.condition),
        converged=fit.converged,
        warnings=(*_about_constants(part), *fit.warnings),
    )


def check_penalty(model: str, alpha: float, l1_ratio: float) -> None:
    """Refuse what has no exact solution here."""
    if model not in MODELS:
        raise UserError(
            f"The exact solver does not know the model {model!r}.",
            f"It knows {', '.join(MODELS)}; any other model needs --solver sgd.",
        )
    if not (math.isfinite(alpha) and alpha >= 0):
        raise UserError(f"alpha must be a number of at least 0, not {alpha}.")
    if not 0 <= l1_ratio <= 1:
        raise UserError(f"l1_ratio must lie between 0 and 1, not {l1_ratio}.")


def centred(statistics: Statistics) -> Centred:
    """Moments about the mean, in which what is constant has a variance of exactly zero."""
    if not np.isfinite(statistics.moments).all():
        raise DataError(
            "The sums over the rows are not finite.",
            "A value is missing, infinite, or too large to be squared.",
        )
    if statistics.n <= 0:
        raise DataError("There are no rows to learn from.")
    part = statistics.centred()
    raw = np.diagonal(statistics.moments)
    still = np.diagonal(part.xx) <= CONSTANT * raw[: statistics.n_features]
    part.xx[still], part.xx[:, still], part.xy[still] = 0.0, 0.0, 0.0
    if part.yy <= CONSTANT * raw[-1]:
        return Centred(part.n, part.x_mean, part.y_mean, part.xx, np.zeros_like(part.xy), 0.0)
    return part


def in_target_units(statistics: Statistics, scale: float) -> Statistics:
    """The statistics as if the target had been multiplied by ``scale``.

    Prepared rows hold the target divided by its standard deviation. ``alpha`` acts on the target
    in its own units, and a lasso is not indifferent to them.
    """
    moments = statistics.moments.copy()
    moments[-1] *= scale
    moments[:, -1] *= scale
    return Statistics(moments)


# --- without L1 ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Fit:
    weights: Vector
    rank: int
    condition: float = 1.0
    converged: bool = True
    warnings: tuple[str, ...] = ()


def least_squares(part: Centred, l2: float) -> _Fit:
    """Solve (XᵀX + l2 I) w = Xᵀy; the shortest w where many do.

    Parameters
    ----------
    l2 : float
        Added to the diagonal of Σ(x − x̄)(x − x̄)ᵀ: ridge's alpha in scikit-learn's scaling.
    """
    moving = np.flatnonzero(np.diagonal(part.xx))
    weights = np.zeros(len(part.xy))
    if not len(moving):
        return _Fit(weights, 0)
    every = len(moving) == len(weights)
    system = Equations.scaled(part.xx if every else part.xx[np.ix_(moving, moving)], l2)
    factor = system.factor()
    condition = math.inf if factor is None else system.condition(factor)
    if factor is not None and condition < RANK_TOLERANCE**-2:
        weights[moving] = system.solve(factor, part.xy[moving])
        return _Fit(weights, len(moving), condition, True, _about_condition(condition))
    weights[moving], rank, condition = system.minimum_norm(part.xy[moving])
    told = _about_rank(part, rank, len(moving)) if l2 == 0 else ()
    return _Fit(weights, rank, condition, True, (*told, *_about_condition(condition)))


@dataclass(frozen=True)
class Equations:
    """A symmetric positive semidefinite matrix, scaled to a unit diagonal.

    ``matrix = scale · scaled · scale`` with ``scale`` on the diagonal; see Higham, Accuracy and
    Stability of Numerical Algorithms (2002), section 7.3, for why.
    """

    matrix: Matrix  # scaled
    scale: Vector

    @classmethod
    def scaled(cls, matrix: Matrix, l2: float = 0.0) -> Equations:
        """From a matrix with a positive diagonal, ``l2`` added to it."""
        matrix = matrix.copy()
        matrix[np.diag_indices_from(matrix)] += l2
        scale = 1.0 / np.sqrt(np.diagonal(matrix))
        matrix *= scale
        matrix *= scale[:, None]
        return cls(matrix, scale)

    def factor(self) -> Matrix | None:
        """The lower Cholesky factor of the scaled matrix; None where it is not definite."""
        try:
            return cast(Matrix, scipy.linalg.cholesky(self.matrix, lower=True, check_finite=False))
        except scipy.linalg.LinAlgError:
            return None

    def solve(self, factor: Matrix, right: Matrix) -> Matrix:
        """Solve for one right side (d,)."""
        scaled = scipy.linalg.cho_solve((factor, True), self.scale * right, check_finite=False)
        return cast(Matrix, self.scale * scaled)

    def inverse(self, factor: Matrix) -> Matrix:
        """The inverse of the matrix before scaling."""
        eye = np.eye(len(self.matrix))
        inner = scipy.linalg.cho_solve((factor, True), eye, check_finite=False)
        return cast(Matrix, inner * self.scale * self.scale[:, None])

    def condition(self, factor: Matrix) -> float:
        """The condition number of the scaled matrix, to a few per cent."""
        largest = _largest_eigenvalue(lambda v: self.matrix @ v, len(self.matrix))
        inverse = _largest_eigenvalue(
            lambda v: scipy.linalg.cho_solve((factor, True), v, check_finite=False),
            len(self.matrix),
        )
        return max(1.0, largest * inverse)

    def minimum_norm(self, right: Vector) -> tuple[Vector, int, float]:
        """The shortest solution, the rank, and the condition number within it."""
        values, vectors = np.linalg.eigh(self.matrix)
        kept = values > RANK_TOLERANCE**2 * values[-1]
        into = vectors[:, kept]
        solution = self.scale * (into @ ((into.T @ (self.scale * right)) / values[kept]))
        if not kept.all():
            # Shortest in the units of the features: what lies in their null space goes.
            null = np.linalg.qr(self.scale[:, None] * vectors[:, ~kept])[0]
            solution -= null @ (null.T @ solution)
        rank = int(kept.sum())
        return solution, rank, float(values[-1] / values[kept][0])


def _largest_eigenvalue(apply, size: int, steps: int = 25) -> float:  # type: ignore[no-untyped-def]
    """By power iteration, from a start that no pattern among features is at right angles to."""
    vector = 1.0 + np.cos(np.arange(size) ** 2)
    vector /= np.linalg.norm(vector)
    value = 0.0
    for _ in range(steps):
        vector = apply(vector)
        value = float(np.linalg.norm(vector))
        if not (math.isfinite(value) and value > 0):
            return math.inf
        vector /= value
    return value


# --- with L1 ------------------------------------------------------------------------------------


def descend(
    part: Centred, alphas: ArrayLike, l1_ratio: float, *, tol: float, max_iter: int
) -> tuple[Matrix, int]:
    """Coordinate descent of scikit-learn along ``alphas``, on the sums.

    Given the Gram matrix, scikit-learn looks at the rows for two things only: at X for how many
    they are, and at y for its norm, which the stopping rule needs. So divided by n the sums stand
    for a single row, and every iterate is the one that the data would give.

    Returns
    -------
    weights : (d, n_alphas) array
    unfinished : int
        How many alphas stopped at ``max_iter`` before their duality gap was ``tol``.
    """
    weights, short = _descend(part, np.asarray(alphas, dtype=np.float64), l1_ratio, tol, max_iter)
    return weights, int(short.sum())


def along(part: Centred, alphas: Vector, l1_ratio: float, *, max_iter: int) -> tuple[Matrix, int]:
    """The optimum for each of ``alphas``, which descend: what `descend` gives, to a tolerance at
    which neighbours differ.

    Each alpha starts from the weights of the one before, and scikit-learn looks at the duality
    gap before it moves them. With LassoCV's ``tol`` of 1e-4 of Σ(y − ȳ)² those weights pass as
    they are wherever the alphas are closer to each other than that: steps, not a path. Where
    coordinate descent creeps, the equations of its support are solved, as in `solve`.

    Returns
    -------
    weights : (d, n_alphas) array
    unfinished : int
        How many alphas are short of the gap all the same.
    """
    tol = _path_tol(part)
    weights, short = _descend(part, alphas, l1_ratio, tol, min(PATH_ROUNDS, max_iter))
    if short.any():
        _solve_supports(part, alphas, l1_ratio, weights, short)
    for k in np.flatnonzero(short):
        # Its optimum is not unique, or solving for it takes too long.
        found, left = _descend(part, alphas[k : k + 1], l1_ratio, tol, max_iter, weights[:, k])
        weights[:, k], short[k] = found[:, 0], left[0]
    return weights, int(short.sum())


def _solve_supports(
    part: Centred, alphas: Vector, l1_ratio: float, weights: Matrix, short: NDArray[np.bool_]
) -> None:
    """Replace weights that are ``short`` of their gap by the optimum near them, in place."""
    support = _Support(part, Penalty(0.0, 0.0))
    for k in np.flatnonzero(short):
        alpha = float(alphas[k])
        support.put(Penalty(l1_ratio * alpha, (1 - l1_ratio) * alpha))
        # More features than rows can tell apart may have got in: not so from the alpha before.
        before = weights[:, k - 1 : k].T if k and not short[k - 1] else ()
        for start in (weights[:, k], *before):
            exact = support.optimum(start)
            if exact is not None:
                weights[:, k], short[k] = exact, False
                break


def _path_tol(part: Centred) -> float:
    spread = np.diagonal(part.xx)
    moving = spread > 0
    explained = float((part.xy[moving] ** 2 / spread[moving]).max(initial=0.0))
    return max(LEAST_TOL, PATH_TOL * min(1.0, explained / part.yy))


def _descend(
    part: Centred,
    alphas: Vector,
    l1_ratio: float,
    tol: float,
    max_iter: int,
    start: Vector | None = None,
) -> tuple[Matrix, NDArray[np.bool_]]:
    """Weights, and which alphas are short of their gap."""
    # Imported here: it takes a second, and only an L1 penalty needs it.
    from sklearn.linear_model import enet_path

    row = np.zeros((1, len(part.xy)), order="F")
    y = np.array([math.sqrt(part.yy / part.n)])
    _, weights, gaps = enet_path(
        row,
        y,
        l1_ratio=l1_ratio,
        alphas=alphas,
        precompute=np.ascontiguousarray(part.xx / part.n),
        Xy=part.xy / part.n,
        coef_init=start,
        check_input=False,
        tol=tol,
        max_iter=max_iter,
    )
    return cast(Matrix, weights), gaps > tol * (y @ y)


@contextlib.contextmanager
def unfinished_is_counted() -> Iterator[None]:
    """No `ConvergenceWarning` meanwhile, since `descend` counts them. Around threads, and not in
    them: filters of warnings are the whole process's."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


def _sparse(
    part: Centred, penalty: Penalty, tol: float, max_iter: int, near: Vector | None
) -> _Fit:
    alpha = penalty.l1 + penalty.l2
    l1_ratio = penalty.l1 / alpha
    highest = float(np.abs(part.xy).max(initial=0.0)) / (part.n * l1_ratio)
    if alpha >= highest:
        return _Fit(np.zeros(len(part.xy)), 0)
    if near is None:
        alphas = np.geomspace(highest, alpha, WARM_ALPHAS)
        alphas[-1] = alpha
        tol_near = max(tol, SUPPORT_TOL)
        along, _ = descend(part, alphas, l1_ratio, tol=tol_near, max_iter=WARM_ROUNDS)
        near = along[:, -1]
    support = _Support(part, penalty)
    for start in (near, np.zeros(len(part.xy))):
        exact = support.search(start)
        if exact is not None:
            return exact
    # Many weights are optimal: from a cold start, those that Lasso and ElasticNet come to.
    weights, unfinished = descend(part, [alpha], l1_ratio, tol=tol, max_iter=max_iter)
    told = _about_descent(max_iter) if unfinished else _about_choice()
    nonzero = int(np.count_nonzero(weights[:, -1]))
    return _Fit(weights[:, -1].copy(), nonzero, 1.0, not unfinished, told)


class _Support:
    """Which weights are nonzero, and with which sign, decides the rest: linear equations.

    Feature-sign search: Lee, Battle, Raina & Ng, Efficient Sparse Coding Algorithms (2007).
    Started from where coordinate descent left off, a few steps lead to weights that are exact to
    rounding, however slowly coordinate descent would have crept towards them. Where that support
    is linearly dependent (coordinate descent may share a weight among copies of a feature), a
    start from nothing lets in one feature at a time, and a copy of one that is in never enters.
    """

    def __init__(self, part: Centred, penalty: Penalty) -> None:
        self.hessian = part.xx / part.n
        self.variances = np.diagonal(self.hessian).copy()
        self.right = part.xy / part.n
        self.moving = np.diagonal(part.xx) > 0
        self.work = 0.0
        self.put(penalty)

    def put(self, penalty: Penalty) -> None:
        """Another penalty on the same rows."""
        diagonal = self.variances + penalty.l2
        self.hessian[np.diag_indices_from(self.hessian)] = diagonal
        self.l1 = penalty.l1
        self.spread = np.sqrt(diagonal)

    def search(self, weights: Vector) -> _Fit | None:
        """The optimum from a start near it; None where the support has no unique solution."""
        self.work = 0.0
        found = self._walk(weights, SEARCH_WORK)
        return None if found is None else self._found(*found)

    def optimum(self, weights: Vector) -> Vector | None:
        """The weights that `search` finds; the work of all calls is bounded together."""
        found = self._walk(weights, min(PATH_WORK, self.work + SEARCH_WORK))
        return None if found is None else found[0]

    def _walk(self, weights: Vector, most: float) -> tuple[Vector, bool] | None:
        """The optimum, and whether a feature outside the support is tied with it."""
        w = weights.copy()
        signs = np.sign(w)
        while self.work < most:
            solution = self._solve(signs)
            if solution is None:
                return None
            if not self._move(w, signs, solution):
                continue
            excess = self._excess(w, signs)
            entering = int(np.argmax(excess))
            if excess[entering] <= ROUNDING:
                return w, bool(excess[entering] > -TIE)
            signs[entering] = np.sign(self.right[entering] - self.hessian[entering] @ w)
        return None

    def _found(self, w: Vector, tied: bool) -> _Fit | None:
        """The optimum, unless it was solved for in spite of linear dependence."""
        active = np.flatnonzero(w)
        condition = 1.0
        if len(active):
            system = Equations.scaled(self.hessian[np.ix_(active, active)])
            factor = system.factor()
            condition = math.inf if factor is None else system.condition(factor)
        if condition > RANK_TOLERANCE**-2:
            return None
        told = (*_about_condition(condition), *(_about_choice() if tied else ()))
        return _Fit(w, len(active), condition, True, told)

    def _solve(self, signs: Vector) -> Vector | None:
        """The weights that are optimal while the signs stay as they are."""
        solution = np.zeros_like(signs)
        active = np.flatnonzero(signs)
        if len(active):
            system = Equations.scaled(self.hessian[np.ix_(active, active)])
            factor = system.factor()
            self.work += len(active) ** 3 + len(signs) ** 2
            # A pivot is what a feature has of its own beside those before it.
            if factor is None or np.diagonal(factor).min() < RANK_TOLERANCE:
                return None
            right = self.right[active] - self.l1 * signs[active]
            solution[active] = system.solve(factor, right)
        return solution

    def _move(self, w: Vector, signs: Vector, solution: Vector) -> bool:
        """Go there, or to where the first weight reaches zero, which then leaves the support."""
        wrong = np.flatnonzero(solution * signs < 0)
        if not len(wrong):
            np.copyto(w, solution)
            return True
        shares = w[wrong] / (w[wrong] - solution[wrong])
        first = int(np.argmin(shares))
        w += float(shares[first]) * (solution - w)
        leaving = wrong[first]
        w[leaving] = signs[leaving] = 0.0
        return False

    def _excess(self, w: Vector, signs: Vector) -> Vector:
        """By how much each feature outside the support wants to enter, relative to rounding."""
        excess = np.abs(self.right - self.hessian @ w) - self.l1
        excess /= np.abs(self.right).max() + float(self.spread @ np.abs(w)) * self.spread
        excess[(signs != 0) | ~self.moving] = -math.inf
        return excess


# --- what is told -------------------------------------------------------------------------------


def _about_constants(part: Centred) -> tuple[str, ...]:
    still = int((np.diagonal(part.xx) == 0).sum())
    if not still:
        return ()
    what = "1 feature is" if still == 1 else f"{still:,} features are"
    return (f"{what} constant in these rows (or vary by less than rounding): coefficient 0.",)


def _about_rank(part: Centred, rank: int, n_features: int) -> tuple[str, ...]:
    few = part.n <= n_features
    why = f"{part.n:,.0f} rows cannot tell {n_features:,} features apart" if few else ""
    why = why or "Features are linearly dependent"
    return (
        f"{why}: rank {rank:,} of {n_features:,}. Of the coefficients that fit equally well, "
        "these are the smallest (minimum norm), as in LinearRegression.",
    )


def _about_condition(condition: float) -> tuple[str, ...]:
    left = DIGITS - math.log10(condition)
    if left >= ENOUGH_DIGITS:
        return ()
    return (
        f"The features are nearly dependent: condition number {condition:.0e} of XᵀX; "
        f"about {max(0, round(left))} of {DIGITS} digits of the coefficients remain.",
    )


def _about_descent(max_iter: int) -> tuple[str, ...]:
    return (
        f"Coordinate descent was stopped after {max_iter:,} rounds, before the duality gap was "
        "small enough: features are nearly dependent. A larger alpha helps.",
    )


def _about_choice() -> tuple[str, ...]:
    return ("Some features are linearly dependent: other coefficients fit equally well.",)
