"""What least squares can say of its own coefficients: errors, tests, intervals, fit.

The usual assumptions are behind every number here: the relation is linear, the errors are
independent and of one variance, and for tests and intervals in few rows also normal. A penalty
biases the coefficients on purpose, so nothing here is offered for a penalised model: `why_not`.

Conventions are statsmodels' (``OLS`` with a constant): the likelihood is that of normal errors
with the variance RSS/n, and AIC and BIC count the coefficients and the intercept, but not the
variance. With weighted statistics n is the sum of the weights, as if they were repeated rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from regatta.solvers.exact import RANK_TOLERANCE, Equations, centred, least_squares
from regatta.solvers.statistics import Centred, Matrix, Statistics, Vector
from regatta.utils import UserError

# A residual sum of squares below this share of Σ(y − ȳ)² is rounding.
EXACT_FIT = 1e-13
# Attributes of an `Inference` that are one number.
NUMBERS = (
    *("level", "n", "df_model", "df_residual", "r2", "adjusted_r2", "f", "f_p"),
    *("residual_standard_error", "log_likelihood", "aic", "bic"),
)


@dataclass(frozen=True)
class Units:
    """Where standardised features and target come from: ``original = mean + scale · stored``.

    Attributes
    ----------
    x_mean, x_scale : (d,) array
    y_mean, y_scale : float
    """

    x_mean: Vector
    x_scale: Vector
    y_mean: float = 0.0
    y_scale: float = 1.0

    @classmethod
    def of(
        cls, x_mean: ArrayLike, x_scale: ArrayLike, y_mean: float = 0.0, y_scale: float = 1.0
    ) -> Units:
        """From anything array-like."""
        return cls(np.asarray(x_mean, float), np.asarray(x_scale, float), y_mean, y_scale)

    @classmethod
    def stored(cls, n_features: int) -> Units:
        """Those that leave everything as it is."""
        return cls(np.zeros(n_features), np.ones(n_features))


@dataclass(frozen=True)
class Inference:
    """Least squares, and how sure it is.

    Attributes
    ----------
    estimates, standard_errors, t, p, low, high : (d + 1,) array
        The weights and, last, the intercept; p is two-sided, ``low`` and ``high`` bound the
        interval of confidence ``level``.
    vif : (d,) array
        Variance inflation factors: 1 / (1 − R²) of each feature on the others.
    n, df_model, df_residual : float, int, float
    r2, adjusted_r2, f, f_p : float
        ``f`` tests that all weights are zero.
    residual_standard_error, log_likelihood, aic, bic : float
    warnings : tuple of str
    """

    estimates: Vector
    standard_errors: Vector
    t: Vector
    p: Vector
    low: Vector
    high: Vector
    vif: Vector
    level: float
    n: float
    df_model: int
    df_residual: float
    r2: float
    adjusted_r2: float
    f: float
    f_p: float
    residual_standard_error: float
    log_likelihood: float
    aic: float
    bic: float
    warnings: tuple[str, ...]

    @property
    def weights(self) -> Vector:
        """The estimates without the intercept, (d,)."""
        return self.estimates[:-1]

    @property
    def intercept(self) -> float:
        return float(self.estimates[-1])

    def to_json(self, feature_names: Sequence[str] | None = None) -> dict[str, Any]:
        """A row for each coefficient, the intercept first. What is not finite becomes None."""
        d = self.df_model
        names = list(feature_names or [str(j) for j in range(d)])
        if len(names) != d:
            raise ValueError(f"{len(names)} names for {d} features")
        rows = [self._row(d, "(intercept)", None)]
        rows += [self._row(j, name, float(self.vif[j])) for j, name in enumerate(names)]
        return {
            **{name: _finite(getattr(self, name)) for name in NUMBERS},
            "coefficients": rows,
            "warnings": list(self.warnings),
        }

    def _row(self, j: int, name: str, vif: float | None) -> dict[str, Any]:
        return {
            "name": name,
            "estimate": _finite(self.estimates[j]),
            "standard_error": _finite(self.standard_errors[j]),
            "t": _finite(self.t[j]),
            "p": _finite(self.p[j]),
            "low": _finite(self.low[j]),
            "high": _finite(self.high[j]),
            "vif": None if vif is None else _finite(vif),
        }


def why_not(model: str, statistics: Statistics | None = None) -> str:
    """Why standard errors are not offered, in a sentence; empty if they are.

    Parameters
    ----------
    model : str
    statistics : Statistics, optional
        Without them only the model is looked at.
    """
    if model == "ridge":
        return (
            "No standard errors for ridge: its penalty biases the coefficients, and an interval "
            "around them would not hold the true ones as often as it says."
        )
    if model in ("lasso", "elasticnet"):
        return (
            f"No standard errors for {model}: it chose the features on the same rows, so the usual "
            "tests and intervals would be too sure of those that are left."
        )
    if model != "linear":
        return f"No standard errors for {model}: they are those of ordinary least squares."
    if statistics is None:
        return ""
    n, d = statistics.n, statistics.n_features
    if d == 0:
        return "No standard errors: there is no feature."
    if n <= d + 1:
        return (
            f"No standard errors: {n:,.0f} rows leave nothing to estimate the noise from beside "
            f"{d:,} coefficients and the intercept."
        )
    part = centred(statistics)
    rank = least_squares(part, 0.0).rank
    if rank < d:
        return (
            f"No standard errors: the features are linearly dependent (rank {rank:,} of {d:,}), "
            "so single coefficients are not determined."
        )
    return ""


def infer(statistics: Statistics, *, level: float = 0.95, units: Units | None = None) -> Inference:
    """Ordinary least squares with standard errors and tests.

    Parameters
    ----------
    statistics : Statistics
    level : float
        Confidence of the intervals.
    units : Units, optional
        Gives everything in the original units of features and target.

    Raises
    ------
    UserError
        With the sentence of `why_not`, where there are none to be had.
    """
    if not 0 < level < 1:
        raise UserError(f"The confidence level must lie between 0 and 1, not {level}.")
    reason = why_not("linear", statistics)
    if reason:
        raise UserError(reason)
    part = centred(statistics)
    units = units or Units.stored(statistics.n_features)
    fit = least_squares(part, 0.0)
    inverse = _inverse(part)
    residual, told = _residual(part, fit.weights)
    scores = _scores(part, residual, units.y_scale)
    spread = _spread(part, inverse, units) * scores["residual_standard_error"]
    estimates = _estimates(part, fit.weights, units)
    df = scores["df_residual"]
    with np.errstate(divide="ignore", invalid="ignore"):
        t = estimates / spread
    margin = float(special.stdtrit(df, 0.5 + level / 2)) * spread
    return Inference(
        estimates=estimates,
        standard_errors=spread,
        t=t,
        p=special.betainc(df / 2, 0.5, df / (df + t**2)),
        low=estimates - margin,
        high=estimates + margin,
        vif=np.diagonal(part.xx) * np.diagonal(inverse),
        level=level,
        warnings=(*fit.warnings, *told),
        **scores,
    )


def _inverse(part: Centred) -> Matrix:
    """(XᵀX)⁻¹ of the centred features, known to be of full rank."""
    system = Equations.scaled(part.xx)
    factor = system.factor()
    if factor is None or system.condition(factor) > RANK_TOLERANCE**-2:
        raise UserError("No standard errors: the features are linearly dependent to rounding.")
    return system.inverse(factor)


def _residual(part: Centred, weights: Vector) -> tuple[float, tuple[str, ...]]:
    """Residual sum of squares, and what is to be told of it."""
    residual = part.yy - 2.0 * float(part.xy @ weights) + float(weights @ part.xx @ weights)
    if residual > EXACT_FIT * part.yy:
        return residual, ()
    return max(0.0, residual), (
        "The model fits the rows to rounding: what is left of the residuals, and with it every "
        "standard error, is rounding too.",
    )


def _estimates(part: Centred, weights: Vector, units: Units) -> Vector:
    """Weights and intercept in the units asked for, (d + 1,)."""
    original = weights * units.y_scale / units.x_scale
    intercept = part.y_mean - float(part.x_mean @ weights)
    intercept = units.y_mean + units.y_scale * intercept - float(units.x_mean @ original)
    return np.append(original, intercept)


def _spread(part: Centred, inverse: Matrix, units: Units) -> Vector:
    """Standard errors for a noise of variance one in the target's units, (d + 1,).

    The intercept is the prediction where all features are zero, in the units asked for.
    """
    zero = -units.x_mean / units.x_scale - part.x_mean
    variances = np.append(
        np.diagonal(inverse) / units.x_scale**2, 1.0 / part.n + zero @ inverse @ zero
    )
    return np.sqrt(variances)


def _scores(part: Centred, residual: float, y_scale: float) -> dict[str, Any]:
    """How well the model fits as a whole; sums of squares in units of ``y_scale``."""
    n, d = part.n, len(part.xy)
    df = n - d - 1
    explained = max(0.0, part.yy - residual)
    squared = residual * y_scale**2
    nan, inf = math.nan, math.inf
    r2 = 1.0 - residual / part.yy if part.yy > 0 else nan
    f = (explained / d) / (residual / df) if residual > 0 else (inf if explained > 0 else nan)
    likelihood = -0.5 * n * (math.log(2 * math.pi * squared / n) + 1) if squared > 0 else inf
    return {
        "n": n,
        "df_model": d,
        "df_residual": df,
        "r2": r2,
        "adjusted_r2": 1.0 - (1.0 - r2) * (n - 1) / df,
        "f": f,
        "f_p": float(special.fdtrc(d, df, f)) if math.isfinite(f) else (0.0 if f > 0 else nan),
        "residual_standard_error": math.sqrt(squared / df),
        "log_likelihood": likelihood,
        "aic": -2.0 * likelihood + 2.0 * (d + 1),
        "bic": -2.0 * likelihood + math.log(n) * (d + 1),
    }


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
