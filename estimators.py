"""Regatta as scikit-learn estimators: arrays, data frames, or the path of a CSV file.

    arrays ──validate──▶ moments, block by block ──┬──▶ the exact optimum      coef_, intercept_
                                                   └──▶ every fold's path      alpha_, mse_path_
    file.csv ──import, prepare──▶ moments of the encoded, standardised rows ──▶ the same
    solver="sgd": rows in temporary files ──▶ parameter server ──▶ steps       coef_, intercept_

With arrays, ``alpha`` is that of scikit-learn's class of the same name on the same array: columns
are not standardised. With a file they are, as in ``regatta train``.
"""

from __future__ import annotations

import contextlib
import math
import sys
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import fields
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgWarning
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import KFold, check_cv
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from regatta import models
from regatta.configuration import AS_FOUND, ReadingOptions, TrainingConfig, is_repeatable
from regatta.csv_rows import CsvRows, is_path, predict_columns
from regatta.fitted_model import FittedModel
from regatta.parameter_names import errors_in_parameters
from regatta.solvers import array_steps, choose, exact
from regatta.solvers.moments import (
    Curve,
    Fold,
    Moments,
    Options,
    contiguous,
    cross_validate,
    folds_of,
    moments_of,
    solve,
    split,
)
from regatta.solvers.path import Rule
from regatta.utils import UserError

__all__ = [
    "DistributedElasticNet",
    "DistributedElasticNetCV",
    "DistributedLasso",
    "DistributedLassoCV",
    "DistributedLinearRegression",
    "DistributedRidge",
    "DistributedRidgeCV",
]

Array = NDArray[np.floating]
Vector = NDArray[np.float64]
Reading = Mapping[str, Any]

SHARDS = 16
# Rounds of coordinate descent, where nothing is said; they matter only where features with
# nonzero coefficients are linearly dependent.
MAX_ROUNDS = 10_000
DTYPES = (np.float64, np.float32)


class _DistributedModel(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """What all seven share: input, prediction, and what is told of a solution."""

    _model: str

    def predict(self, X: Any, *, reading: Reading | None = None) -> Vector:
        """Predict the target.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or path
            What the model was fitted to: an array, or a data frame with the same columns. A model
            of a CSV file takes a data frame as ``pandas.read_csv`` gives it, or a path.
        reading : mapping, optional
            With a path: how the file is to be read, as in `fit`.

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        check_is_fitted(self)
        fitted: FittedModel | None = getattr(self, "fitted_model_", None)
        if fitted is not None:
            options = _reading_options(X, reading)
            with errors_in_parameters():
                return predict_columns(fitted, X, options)
        if is_path(X):
            raise ValueError(
                "This model was fitted to an array and cannot tell a file's columns apart. Read "
                "the file with pandas.read_csv, or fit to a path."
            )
        _reading_options(X, reading)
        X = validate_data(self, X, dtype=DTYPES, reset=False)
        return cast(Vector, X @ self.coef_ + self.intercept_)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """R² of the predictions.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,)
        sample_weight : array-like of shape (n_samples,), optional

        Returns
        -------
        float
        """
        if isinstance(y, str):
            raise ValueError("score needs the target's values: read the file with pandas.read_csv.")
        return float(super().score(X, y, sample_weight))

    def _validated(
        self, X: Any, y: Any, sample_weight: Any, *, reset: bool = True
    ) -> tuple[Array, Array, Vector | None]:
        if isinstance(y, str):
            raise ValueError(f"y is {y!r}: a column is named only where X is a path.")
        X, y = validate_data(self, X, y, dtype=DTYPES, y_numeric=True, reset=reset)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(
                sample_weight, X, dtype=np.float64, ensure_non_negative=True
            )
            if not sample_weight.any():
                raise ValueError("The sample weights are all zero.")
        if reset:
            self._forget()
        return X, y, sample_weight

    def _forget(self) -> None:
        """What only a fit to the other kind of input would set."""
        for name in ("fitted_model_", "coef_names_"):
            self.__dict__.pop(name, None)

    def _check_common(self) -> None:
        """Parameters that most of them have."""
        n_workers, rounds = self.n_workers, getattr(self, "max_iter", None)
        if n_workers is not None and (not _is_whole(n_workers) or n_workers < 0):
            raise ValueError(f"n_workers must be a number of at least 0 or None, not {n_workers}.")
        if rounds is not None and (not _is_whole(rounds) or rounds < 1):
            raise ValueError(f"max_iter must be a number of at least 1, not {rounds!r}.")
        if not 0 <= _number("tol", getattr(self, "tol", 0.0)) < math.inf:
            raise ValueError(f"tol must be a number of at least 0, not {self.tol}.")

    def _check_penalty(self, alpha: Any, l1_ratio: Any) -> None:
        with _value_errors():
            exact.check_penalty(self._model, _number("alpha", alpha), _number("l1_ratio", l1_ratio))

    def _take_solution(self, moments: Moments, alpha: float, l1_ratio: float) -> exact.Solution:
        """Solve, and set ``coef_`` and ``intercept_``."""
        penalty = models.get(self._model).penalty(alpha, l1_ratio, cast(int, moments.n))
        solution, self.intercept_ = solve(
            moments,
            penalty,
            self.fit_intercept,
            tol=getattr(self, "tol", 0.0),
            max_iter=getattr(self, "max_iter", None) or MAX_ROUNDS,
        )
        self.coef_ = solution.weights
        category = LinAlgWarning if solution.converged else ConvergenceWarning
        for text in solution.warnings:
            _warn(text, category)
        return solution

    def _open(
        self, path: Any, target: Any, sample_weight: Any, shards: int, options: ReadingOptions
    ) -> CsvRows:
        if not isinstance(target, str):
            raise ValueError("With a file y is the name of the target's column.")
        if sample_weight is not None:
            raise ValueError("Rows of a file have no sample_weight: fit to a data frame.")
        if not self.fit_intercept:
            raise ValueError("Features of a file are centred: the model needs its intercept.")
        with errors_in_parameters():
            return CsvRows.open(
                Path(path), target, options=options, processes=self.n_workers, shards=shards
            )

    def _take_file(self, file: CsvRows, alpha: float, l1_ratio: float) -> None:
        """Turn coefficients of standardised features into those of the columns' own units."""
        self.fitted_model_ = file.model(
            self.coef_, self.intercept_, model=self._model, alpha=alpha, l1_ratio=l1_ratio
        )
        coefficients = self.fitted_model_.coefficients()
        self.coef_ = np.array(list(coefficients.values()))
        self.coef_names_ = np.array(list(coefficients), dtype=object)
        self.intercept_ = self.fitted_model_.original_intercept
        names = [column.name for column in file.prepared.preprocessing.columns]
        self.feature_names_in_ = np.array(names, dtype=object)
        self.n_features_in_ = len(names)


class _DistributedRegressor(_DistributedModel):
    """Fits at one alpha."""

    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, *, reading: Reading | None = None
    ) -> Self:
        """Fit the model.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or path
            Numbers, or the path of a CSV file.
        y : array-like of shape (n_samples,), or str
            The target; with a file the name of its column.
        sample_weight : array-like of shape (n_samples,), optional
            How often each row counts. Not with a file.
        reading : mapping, optional
            With a path: how the file is to be read, where that is not to be found in it; options
            of `ReadingOptions` by their names, as in ``{"decimal": "comma"}``.

        Returns
        -------
        self
        """
        self._check_parameters()
        options = _reading_options(X, reading)
        if is_path(X):
            return self._fit_file(X, y, sample_weight, options)
        X, y, sample_weight = self._validated(X, y, sample_weight)
        with _value_errors():
            if self._takes_steps(X.shape[1]):
                self._fit_by_steps(X, y, sample_weight)
            else:
                self._solve(moments_of(X, y, sample_weight))
        return self

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Add rows to those that the model was fitted to so far, and fit it to all of them.

        The statistics of rows add up, so the order and size of the batches do not matter: the
        result is that of `fit` on all rows at once, to rounding. After `fit` it goes on from there.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,)
        sample_weight : array-like of shape (n_samples,), optional

        Returns
        -------
        self
        """
        self._check_parameters()
        if is_path(X) or hasattr(self, "fitted_model_"):
            raise ValueError("partial_fit takes arrays and data frames; fit a file as a whole.")
        so_far: Moments | None = getattr(self, "_moments", None)
        if so_far is None and hasattr(self, "coef_"):
            raise ValueError("After steps there are no statistics to add to: use solver='exact'.")
        X, y, sample_weight = self._validated(X, y, sample_weight, reset=so_far is None)
        if self._takes_steps(X.shape[1]):
            raise ValueError(
                "partial_fit adds up statistics, and solver='sgd' has none: use solver='exact', "
                f"with at most {choose.EXACT_FEATURES:,} features."
            )
        more = moments_of(X, y, sample_weight)
        with _value_errors():
            self._solve(more if so_far is None else so_far + more)
        return self

    def _check_parameters(self) -> None:
        if self.solver not in ("auto", "exact", "sgd"):
            raise ValueError(f"solver must be 'auto', 'exact' or 'sgd', not {self.solver!r}.")
        self._check_common()
        self._check_penalty(*self._strength())

    def _strength(self) -> tuple[float, float]:
        """``alpha`` and ``l1_ratio``."""
        return getattr(self, "alpha", 0.0), getattr(self, "l1_ratio", 0.5)

    def _takes_steps(self, n_features: int) -> bool:
        if self.solver != "sgd" and n_features > choose.EXACT_FEATURES:
            _warn(
                f"{n_features:,} features are too many for the exact solver (at most "
                f"{choose.EXACT_FEATURES:,}): steps along gradients are taken instead.",
                UserWarning,
            )
            return True
        return bool(self.solver == "sgd")

    def _solve(self, moments: Moments) -> None:
        solution = self._take_solution(moments, *self._strength())
        self._moments = moments
        self.n_iter_, self.solver_ = 1, "exact"
        if self._model == "linear":
            self.rank_ = solution.rank

    def _fit_by_steps(self, X: Array, y: Array, sample_weight: Vector | None) -> None:
        n = len(X) if sample_weight is None else float(sample_weight.sum())
        penalty = models.get(self._model).penalty(*self._strength(), cast(int, n))
        rows = array_steps.Rows(X, y, sample_weight, self.fit_intercept)
        workers = array_steps.count_workers(self.n_workers, X.size)
        with array_steps.crew(workers):
            steps = array_steps.descend(rows, penalty, self._step_options(), workers)
        self._take_steps(steps)

    def _take_steps(self, steps: array_steps.Steps) -> None:
        self.coef_, self.intercept_ = steps.weights, steps.intercept
        self.n_iter_, self.solver_ = steps.epochs, steps.solver
        for name in ("_moments", "rank_"):
            self.__dict__.pop(name, None)
        if not steps.converged:
            _warn(
                f"{steps.epochs:,} passes are done and the objective still moves; a higher "
                "max_iter or tol may help.",
                ConvergenceWarning,
            )

    def _step_options(self) -> TrainingConfig:
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        return TrainingConfig(solver="sgd", epochs=self.max_iter, tol=self.tol, seed=seed)

    def _fit_file(
        self, path: Any, target: Any, sample_weight: Any, options: ReadingOptions
    ) -> Self:
        file = self._open(path, target, sample_weight, SHARDS, options)
        n_features = file.prepared.features
        if self._takes_steps(n_features):
            X, y = file.rows()
            self._fit_by_steps(X, y, None)
        else:
            self._solve(reduce(add, file.folds(1)))
            del self._moments
        self._take_file(file, *self._strength())
        return self


class _DistributedCV(_DistributedModel):
    """Chooses alpha by cross-validation, then fits all rows."""

    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, *, reading: Reading | None = None
    ) -> Self:
        """Choose alpha by cross-validation and fit the model to all rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or path
            Numbers, or the path of a CSV file.
        y : array-like of shape (n_samples,), or str
            The target; with a file the name of its column.
        sample_weight : array-like of shape (n_samples,), optional
            How often each row counts, in fits and in errors. Not with a file.
        reading : mapping, optional
            With a path: how the file is to be read, where that is not to be found in it; options
            of `ReadingOptions` by their names, as in ``{"decimal": "comma"}``.

        Returns
        -------
        self
        """
        self._check_parameters()
        options = _reading_options(X, reading)
        if is_path(X):
            n_folds = self._fold_count()
            file = self._open(X, y, sample_weight, max(SHARDS, n_folds), options)
            _check_width(file.prepared.features)
            parts = file.folds(n_folds)
            self._choose(reduce(add, parts), folds_of(parts))
            self._take_file(file, self.alpha_, getattr(self, "l1_ratio_", 0.5))
            return self
        X, y, sample_weight = self._validated(X, y, sample_weight)
        _check_width(X.shape[1])
        with _value_errors():
            self._choose(*_split(X, y, sample_weight, self.cv))
        return self

    def _check_parameters(self) -> None:
        self._check_common()
        if self.rule not in ("min", "1se"):
            raise ValueError(f"rule must be 'min' or '1se', not {self.rule!r}.")
        if (self.alphas if _is_whole(self.alphas) else np.size(self.alphas)) < 1:
            raise ValueError(f"There must be at least one alpha: alphas is {self.alphas!r}.")
        eps = _number("eps", getattr(self, "eps", 1e-3))
        if not 0 < eps < 1:
            raise ValueError(f"eps must lie between 0 and 1, not {eps}.")
        for alpha in [0.0] if _is_whole(self.alphas) else self.alphas:
            for l1_ratio in self._l1_ratios():
                self._check_penalty(alpha, l1_ratio)

    def _l1_ratios(self) -> list[float]:
        only = {"lasso": 1.0, "ridge": 0.0}.get(self._model)
        return list(np.atleast_1d(self.l1_ratio)) if only is None else [only]

    def _fold_count(self) -> int:
        if self.cv is None:
            return 5
        if not _is_whole(self.cv) or self.cv < 2:
            raise ValueError(f"With a file cv is a number of folds of at least 2, not {self.cv!r}.")
        return int(self.cv)

    def _choose(self, total: Moments, folds: list[Fold]) -> None:
        curves = [
            cross_validate(total, folds, self._options(l1_ratio)) for l1_ratio in self._l1_ratios()
        ]
        scores = [curve.judged.mean(axis=1)[curve.best] for curve in curves]
        chosen = curves[int(np.argmin(scores))]
        self.alpha_ = float(chosen.alphas[chosen.choose(self.rule)])
        self._take_curves(curves)
        if self._model == "elasticnet":
            self.l1_ratio_ = chosen.l1_ratio
        self._take_solution(total, self.alpha_, chosen.l1_ratio)
        self.n_iter_ = 1

    def _options(self, l1_ratio: float) -> Options:
        return Options(
            model=self._model,
            l1_ratio=l1_ratio,
            alphas=self.alphas if _is_whole(self.alphas) else list(self.alphas),
            eps=getattr(self, "eps", 1e-3),
            tol=getattr(self, "tol", 1e-4),
            max_iter=getattr(self, "max_iter", 1000),
            fit_intercept=self.fit_intercept,
        )

    def _take_curves(self, curves: list[Curve]) -> None:
        self.mse_path_ = np.array([curve.errors for curve in curves])
        self.alphas_ = np.array([curve.alphas for curve in curves])
        if len(curves) == 1:
            self.mse_path_, self.alphas_ = self.mse_path_[0], self.alphas_[0]
        elif not _is_whole(self.alphas):
            self.alphas_ = self.alphas_[0]
        unfinished = sum(curve.unfinished for curve in curves)
        if unfinished:
            _warn(
                f"{unfinished:,} of {self.mse_path_.size:,} fits stopped after {self.max_iter:,} "
                "rounds of coordinate descent, short of their duality gap: features are nearly "
                "dependent.",
                ConvergenceWarning,
            )


# --- the seven ----------------------------------------------------------------------------------


class DistributedLinearRegression(_DistributedRegressor):
    """Ordinary least squares.

    Minimises ``‖y − Xw − b‖²``. Of many that fit equally well, the shortest w is
    taken, as in scikit-learn's ``LinearRegression``.

    Parameters
    ----------
    fit_intercept : bool, default=True
        Whether to estimate an intercept, which is never penalised.
    solver : {"auto", "exact", "sgd"}, default="auto"
        exact: the optimum itself, from the statistics of one pass. sgd: steps along gradients on
        the parameter server. auto: exact up to 5,000 features.
    tol : float, default=1e-6
        sgd: stop when the objective improves by less than this share an epoch.
    max_iter : int, optional
        sgd: passes over the rows, at most. Default: from the number of rows.
    random_state : int, RandomState instance or None, default=0
        sgd: decides the order of the rows.
    n_workers : int, optional
        sgd: worker processes, 0 for none. Default: none below a million cells, else one a core.
        With a file also the processes that read it. The exact solver needs none.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,)
    intercept_ : float
    n_iter_ : int
        Passes over the rows: 1 with the exact solver.
    solver_ : {"exact", "fista", "sgd"}
        What was used; fista takes all rows a step.
    rank_ : int
        Directions in which the features vary; exact solver only.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Where the columns have names.
    fitted_model_, coef_names_
        After a fit to a file: the model as ``regatta train`` saves it, and a name for each
        coefficient.

    Examples
    --------
    >>> import numpy as np
    >>> from regatta.estimators import DistributedLinearRegression
    >>> X = np.array([[0.0, 1.0], [1.0, 1.0], [2.0, 3.0], [3.0, 2.0]])
    >>> y = np.array([2.0, 4.0, 8.0, 9.0])
    >>> model = DistributedLinearRegression().fit(X, y)
    >>> model.coef_.round(6), round(model.intercept_, 6)
    (array([2., 1.]), 1.0)

    Rows may come in batches, the result is the same:

    >>> batches = DistributedLinearRegression().partial_fit(X[:3], y[:3]).partial_fit(X[3:], y[3:])
    >>> bool(np.allclose(batches.coef_, model.coef_))
    True
    """

    _model = "linear"

    def __init__(
        self,
        *,
        fit_intercept: bool = True,
        solver: str = "auto",
        tol: float = 1e-6,
        max_iter: int | None = None,
        random_state: Any = 0,
        n_workers: int | None = None,
    ) -> None:
        self.fit_intercept = fit_intercept
        self.solver = solver
        self.tol = tol
        self.max_iter = max_iter
        self.random_state = random_state
        self.n_workers = n_workers


class DistributedRidge(_DistributedRegressor):
    """Least squares with an L2 penalty.

    Minimises ``‖y − Xw − b‖² + alpha ‖w‖²``.

    Parameters
    ----------
    alpha : float, default=1.0
        Strength of the penalty, as in scikit-learn's ``Ridge``.
    fit_intercept : bool, default=True
        Whether to estimate an intercept, which is never penalised.
    solver : {"auto", "exact", "sgd"}, default="auto"
        exact: the optimum itself, from the statistics of one pass. sgd: steps along gradients on
        the parameter server. auto: exact up to 5,000 features.
    tol : float, default=1e-6
        sgd: stop when the objective improves by less than this share an epoch.
    max_iter : int, optional
        sgd: passes over the rows, at most. Default: from the number of rows.
    random_state : int, RandomState instance or None, default=0
        sgd: decides the order of the rows.
    n_workers : int, optional
        sgd: worker processes, 0 for none. Default: none below a million cells, else one a core.
        With a file also the processes that read it. The exact solver needs none.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,)
    intercept_ : float
    n_iter_ : int
        Passes over the rows: 1 with the exact solver.
    solver_ : {"exact", "fista", "sgd"}
        What was used; fista takes all rows a step.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Where the columns have names.
    fitted_model_, coef_names_
        After a fit to a file: the model as ``regatta train`` saves it, and a name for each
        coefficient.

    Examples
    --------
    >>> import numpy as np
    >>> from regatta.estimators import DistributedRidge
    >>> X = np.array([[0.0, 1.0], [1.0, 1.0], [2.0, 3.0], [3.0, 2.0]])
    >>> y = np.array([1.0, 3.0, 5.0, 7.0])
    >>> DistributedRidge(alpha=2.0).fit(X, y).predict([[4.0, 2.0]]).round(3)
    array([7.333])
    """

    _model = "ridge"

    def __init__(
        self,
        alpha: float = 1.0,
        *,
        fit_intercept: bool = True,
        solver: str = "auto",
        tol: float = 1e-6,
        max_iter: int | None = None,
        random_state: Any = 0,
        n_workers: int | None = None,
    ) -> None:
        self.alpha = alpha
        self.fit_intercept = fit_intercept
        self.solver = solver
        self.tol = tol
        self.max_iter = max_iter
        self.random_state = random_state
        self.n_workers = n_workers


class DistributedLasso(_DistributedRegressor):
    """Least squares with an L1 penalty: some coefficients are exactly zero.

    Minimises ``1/(2n) ‖y − Xw − b‖² + alpha ‖w‖₁``, n being the number of rows or
    the sum of their weights.

    Parameters
    ----------
    alpha : float, default=1.0
        Strength of the penalty, as in scikit-learn's ``Lasso``.
    fit_intercept : bool, default=True
        Whether to estimate an intercept, which is never penalised.
    solver : {"auto", "exact", "sgd"}, default="auto"
        exact: the optimum itself, from the statistics of one pass. sgd: steps along gradients on
        the parameter server. auto: exact up to 5,000 features.
    tol : float, default=1e-6
        sgd: stop when the objective improves by less than this share an epoch.
    max_iter : int, optional
        sgd: passes over the rows, at most. Default: from the number of rows.
    random_state : int, RandomState instance or None, default=0
        sgd: decides the order of the rows.
    n_workers : int, optional
        sgd: worker processes, 0 for none. Default: none below a million cells, else one a core.
        With a file also the processes that read it. The exact solver needs none.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,)
    intercept_ : float
    n_iter_ : int
        Passes over the rows: 1 with the exact solver.
    solver_ : {"exact", "fista", "sgd"}
        What was used; fista takes all rows a step.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Where the columns have names.
    fitted_model_, coef_names_
        After a fit to a file: the model as ``regatta train`` saves it, and a name for each
        coefficient.

    Examples
    --------
    >>> import numpy as np
    >>> from regatta.estimators import DistributedLasso
    >>> X = np.array([[0.0, 1.0], [1.0, 1.0], [2.0, 3.0], [3.0, 2.0]])
    >>> y = np.array([1.0, 3.0, 5.0, 7.0])
    >>> DistributedLasso(alpha=0.5).fit(X, y).coef_.round(3)
    array([1.6, 0. ])
    """

    _model = "lasso"

    def __init__(
        self,
        alpha: float = 1.0,
        *,
        fit_intercept: bool = True,
        solver: str = "auto",
        tol: float = 1e-6,
        max_iter: int | None = None,
        random_state: Any = 0,
        n_workers: int | None = None,
    ) -> None:
        self.alpha = alpha
        self.fit_intercept = fit_intercept
        self.solver = solver
        self.tol = tol
        self.max_iter = max_iter
        self.random_state = random_state
        self.n_workers = n_workers


class DistributedElasticNet(_DistributedRegressor):
    """Least squares with both penalties.

    Minimises ``1/(2n) ‖y − Xw − b‖² + alpha (l1_ratio ‖w‖₁ + (1 − l1_ratio)/2 ‖w‖²)``,
    n being the number of rows or the sum of their weights.

    Parameters
    ----------
    alpha : float, default=1.0
        Strength of the penalty, as in scikit-learn's ``ElasticNet``.
    l1_ratio : float, default=0.5
        Share of the penalty that is L1.
    fit_intercept : bool, default=True
        Whether to estimate an intercept, which is never penalised.
    solver : {"auto", "exact", "sgd"}, default="auto"
        exact: the optimum itself, from the statistics of one pass. sgd: steps along gradients on
        the parameter server. auto: exact up to 5,000 features.
    tol : float, default=1e-6
        sgd: stop when the objective improves by less than this share an epoch.
    max_iter : int, optional
        sgd: passes over the rows, at most. Default: from the number of rows.
    random_state : int, RandomState instance or None, default=0
        sgd: decides the order of the rows.
    n_workers : int, optional
        sgd: worker processes, 0 for none. Default: none below a million cells, else one a core.
        With a file also the processes that read it. The exact solver needs none.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,)
    intercept_ : float
    n_iter_ : int
        Passes over the rows: 1 with the exact solver.
    solver_ : {"exact", "fista", "sgd"}
        What was used; fista takes all rows a step.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Where the columns have names.
    fitted_model_, coef_names_
        After a fit to a file: the model as ``regatta train`` saves it, and a name for each
        coefficient.

    Examples
    --------
    >>> import numpy as np
    >>> from regatta.estimators import DistributedElasticNet
    >>> X = np.array([[0.0, 1.0], [1.0, 1.0], [2.0, 3.0], [3.0, 2.0]])
    >>> y = np.array([1.0, 3.0, 5.0, 7.0])
    >>> DistributedElasticNet(alpha=0.5, l1_ratio=0.9).fit(X, y).coef_.round(3)
    array([1.577, 0.   ])
    """

    _model = "elasticnet"

    def __init__(
        self,
        alpha: float = 1.0,
        *,
        l1_ratio: float = 0.5,
        fit_intercept: bool = True,
        solver: str = "auto",
        tol: float = 1e-6,
        max_iter: int | None = None,
        random_state: Any = 0,
        n_workers: int | None = None,
    ) -> None:
        self.alpha = alpha
        self.l1_ratio = l1_ratio
        self.fit_intercept = fit_intercept
        self.solver = solver
        self.tol = tol
        self.max_iter = max_iter
        self.random_state = random_state
        self.n_workers = n_workers


class DistributedRidgeCV(_DistributedCV):
    """Ridge with alpha by cross-validation.

    Minimises ``‖y − Xw − b‖² + alpha ‖w‖²`` for the alpha whose R², averaged over folds, is the
    best: what scikit-learn's ``RidgeCV(cv=5)`` does.

    Parameters
    ----------
    alphas : int or array-like, default=(0.1, 1.0, 10.0)
        Which alphas to try; a number of them means a grid around the spectrum of XᵀX.
    cv : int, splitter or iterable of (train, test), default=5
        Folds, contiguous ones as scikit-learn's ``KFold`` makes them. With a file a number: folds
        are random groups of rows.
    fit_intercept : bool, default=True
        Whether to estimate an intercept, which is never penalised.
    rule : {"min", "1se"}, default="min"
        Take the best alpha, or the largest within one standard error of it.
    n_workers : int, optional
        With a file: processes that read it, 0 for none. Default: one a core, none for a small file.

    Attributes
    ----------
    alpha_ : float
        The chosen one.
    alphas_ : ndarray of shape (n_alphas,)
        All that were tried, descending.
    mse_path_ : ndarray of shape (n_alphas, n_folds)
        Mean squared error on the rows left out.
    coef_ : ndarray of shape (n_features,)
    intercept_ : float
        Of the fit to all rows at the chosen alpha.
    n_iter_ : int
        Passes over the rows: 1.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Where the columns have names.
    fitted_model_, coef_names_
        After a fit to a file: the model as ``regatta train`` saves it, and a name for each
        coefficient.

    Examples
    --------
    >>> import numpy as np
    >>> from regatta.estimators import DistributedRidgeCV
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((200, 5))
    >>> y = X @ [3.0, -2.0, 0.0, 0.0, 0.0] + rng.standard_normal(200)
    >>> model = DistributedRidgeCV(alphas=100).fit(X, y)
    >>> model.mse_path_.shape
    (100, 5)
    """

    _model = "ridge"

    def __init__(
        self,
        alphas: Any = (0.1, 1.0, 10.0),
        *,
        cv: Any = 5,
        fit_intercept: bool = True,
        rule: Rule = "min",
        n_workers: int | None = None,
    ) -> None:
        self.alphas = alphas
        self.cv = cv
        self.fit_intercept = fit_intercept
        self.rule = rule
        self.n_workers = n_workers


class DistributedLassoCV(_DistributedCV):
    """Lasso with alpha by cross-validation.

    Minimises ``1/(2n) ‖y − Xw − b‖² + alpha ‖w‖₁`` for the alpha with the smallest squared
    error, averaged over folds: that of scikit-learn's ``LassoCV`` on the same folds.

    Parameters
    ----------
    eps : float, default=1e-3
        The smallest alpha of an automatic grid as a share of the largest.
    alphas : int or array-like, default=100
        How many alphas to try, or which.
    cv : int, splitter or iterable of (train, test), default=5
        Folds, contiguous ones as scikit-learn's ``KFold`` makes them. With a file a number: folds
        are random groups of rows.
    fit_intercept : bool, default=True
        Whether to estimate an intercept, which is never penalised.
    rule : {"min", "1se"}, default="min"
        Take the best alpha, or the largest within one standard error of it.
    tol : float, default=1e-4
        Duality gap at which coordinate descent along the path stops, as in ``LassoCV``.
    max_iter : int, default=1000
        Rounds of coordinate descent at each alpha, at most.
    n_workers : int, optional
        With a file: processes that read it, 0 for none. Default: one a core, none for a small file.

    Attributes
    ----------
    alpha_ : float
        The chosen one.
    alphas_ : ndarray of shape (n_alphas,)
        All that were tried, descending.
    mse_path_ : ndarray of shape (n_alphas, n_folds)
        Mean squared error on the rows left out.
    coef_ : ndarray of shape (n_features,)
    intercept_ : float
        Of the fit to all rows at the chosen alpha.
    n_iter_ : int
        Passes over the rows: 1.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Where the columns have names.
    fitted_model_, coef_names_
        After a fit to a file: the model as ``regatta train`` saves it, and a name for each
        coefficient.

    Examples
    --------
    >>> import numpy as np
    >>> from regatta.estimators import DistributedLassoCV
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((200, 5))
    >>> y = X @ [3.0, -2.0, 0.0, 0.0, 0.0] + rng.standard_normal(200)
    >>> model = DistributedLassoCV(rule="1se").fit(X, y)
    >>> np.flatnonzero(model.coef_)
    array([0, 1])
    """

    _model = "lasso"

    def __init__(
        self,
        *,
        eps: float = 1e-3,
        alphas: Any = 100,
        cv: Any = 5,
        fit_intercept: bool = True,
        rule: Rule = "min",
        tol: float = 1e-4,
        max_iter: int = 1000,
        n_workers: int | None = None,
    ) -> None:
        self.eps = eps
        self.alphas = alphas
        self.cv = cv
        self.fit_intercept = fit_intercept
        self.rule = rule
        self.tol = tol
        self.max_iter = max_iter
        self.n_workers = n_workers


class DistributedElasticNetCV(_DistributedCV):
    """Elastic net with alpha, and l1_ratio if asked, by cross-validation.

    Minimises ``1/(2n) ‖y − Xw − b‖² + alpha (l1_ratio ‖w‖₁ + (1 − l1_ratio)/2 ‖w‖²)``
    for the alpha (and l1_ratio) with the smallest squared error, averaged over folds: that of
    scikit-learn's ``ElasticNetCV`` on the same folds.

    Parameters
    ----------
    l1_ratio : float or array-like, default=0.5
        Share of the penalty that is L1; of several the best is taken.
    eps : float, default=1e-3
        The smallest alpha of an automatic grid as a share of the largest.
    alphas : int or array-like, default=100
        How many alphas to try, or which.
    cv : int, splitter or iterable of (train, test), default=5
        Folds, contiguous ones as scikit-learn's ``KFold`` makes them. With a file a number: folds
        are random groups of rows.
    fit_intercept : bool, default=True
        Whether to estimate an intercept, which is never penalised.
    rule : {"min", "1se"}, default="min"
        Take the best alpha, or the largest within one standard error of it.
    tol : float, default=1e-4
        Duality gap at which coordinate descent along the path stops, as in ``ElasticNetCV``.
    max_iter : int, default=1000
        Rounds of coordinate descent at each alpha, at most.
    n_workers : int, optional
        With a file: processes that read it, 0 for none. Default: one a core, none for a small file.

    Attributes
    ----------
    alpha_ : float
        The chosen one.
    l1_ratio_ : float
        The chosen one.
    alphas_ : ndarray of shape (n_alphas,) or (n_l1_ratio, n_alphas)
        All that were tried, descending.
    mse_path_ : ndarray of shape (n_alphas, n_folds) or (n_l1_ratio, …)
        Mean squared error on the rows left out.
    coef_ : ndarray of shape (n_features,)
    intercept_ : float
        Of the fit to all rows at the chosen alpha.
    n_iter_ : int
        Passes over the rows: 1.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Where the columns have names.
    fitted_model_, coef_names_
        After a fit to a file: the model as ``regatta train`` saves it, and a name for each
        coefficient.

    Examples
    --------
    >>> import numpy as np
    >>> from regatta.estimators import DistributedElasticNetCV
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((200, 5))
    >>> y = X @ [3.0, -2.0, 0.0, 0.0, 0.0] + rng.standard_normal(200)
    >>> model = DistributedElasticNetCV(l1_ratio=[0.5, 0.9, 1.0]).fit(X, y)
    >>> model.mse_path_.shape
    (3, 100, 5)
    """

    _model = "elasticnet"

    def __init__(
        self,
        *,
        l1_ratio: Any = 0.5,
        eps: float = 1e-3,
        alphas: Any = 100,
        cv: Any = 5,
        fit_intercept: bool = True,
        rule: Rule = "min",
        tol: float = 1e-4,
        max_iter: int = 1000,
        n_workers: int | None = None,
    ) -> None:
        self.l1_ratio = l1_ratio
        self.eps = eps
        self.alphas = alphas
        self.cv = cv
        self.fit_intercept = fit_intercept
        self.rule = rule
        self.tol = tol
        self.max_iter = max_iter
        self.n_workers = n_workers


# --- what is asked, and what is told ------------------------------------------------------------


def _split(X: Array, y: Array, sample_weight: Vector | None, cv: Any) -> tuple[Moments, list[Fold]]:
    """The moments of all rows, and of the folds that ``cv`` means."""
    splitter = check_cv(cv)
    splits = splitter.split(X, y)
    if type(splitter) is not KFold or splitter.shuffle:
        return split(X, y, sample_weight, splits)
    next(splits)  # has its say on the number of folds
    folds = contiguous(len(X), splitter.n_splits)
    parts = [moments_of(X, y, sample_weight, rows) for rows in folds]
    return reduce(add, parts), folds_of(parts)


def _warn(text: str, category: type[Warning]) -> None:
    """Warn where this module was called from."""
    depth, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename == __file__:
        depth, frame = depth + 1, frame.f_back
    warnings.warn(text, category, stacklevel=depth)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.number):
        raise ValueError(f"{name} must be a number, not {value!r}.")
    return float(value)


def _check_width(n_features: int) -> None:
    if n_features > choose.EXACT_FEATURES:
        raise ValueError(
            f"{n_features:,} features are too many to choose alpha from statistics (at most "
            f"{choose.EXACT_FEATURES:,}). Use GridSearchCV with solver='sgd'."
        )


def _reading_options(X: Any, reading: Reading | None) -> ReadingOptions:
    """How the file ``X`` is to be read."""
    if reading is None:
        return AS_FOUND
    if not is_path(X):
        raise ValueError("reading says how a file is to be read, and X is no path.")
    declared = {each.name: each for each in fields(ReadingOptions)}
    values: dict[str, Any] = {}
    for name, value in reading.items():
        if name not in declared:
            raise ValueError(f"reading has no option {name!r}: they are {', '.join(declared)}.")
        one = isinstance(value, str) and is_repeatable(declared[name])
        values[name] = (value,) if one else tuple(value) if isinstance(value, list) else value
    with _value_errors():
        return ReadingOptions(**values)


@contextlib.contextmanager
def _value_errors() -> Iterator[None]:
    """scikit-learn's callers expect a ValueError."""
    try:
        with errors_in_parameters():
            yield
    except UserError as error:
        raise ValueError(str(error)) from error
