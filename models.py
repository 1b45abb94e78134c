"""Objectives: linear, ridge, lasso and elastic net, in scikit-learn's scaling.

Every model here minimises, over the n training rows,

    1/n Σ loss(x_i·w + b − y_i)  +  l1 ‖w‖₁  +  l2/2 ‖w‖²

with loss(r) = r²/2 for the four built-in ones. scikit-learn's objectives are this one times a
constant, which moves no minimum; `Objective.penalty` turns its ``alpha`` into ``l1`` and ``l2``:

    linear       ‖y − Xw − b‖²                                     l1 = 0          l2 = 0
    ridge        ‖y − Xw − b‖² + α‖w‖²                             l1 = 0          l2 = α/n
    lasso        1/(2n) ‖y − Xw − b‖² + α‖w‖₁                      l1 = α          l2 = 0
    elasticnet   1/(2n) ‖y − Xw − b‖² + αρ‖w‖₁ + α(1−ρ)/2 ‖w‖²     l1 = αρ         l2 = α(1−ρ)

The intercept b is never penalised. ``alpha`` acts on the coefficients of *standardised* features
and on the target in its own units, as in ``make_pipeline(StandardScaler(), Lasso(alpha))``.
Inside, the target is divided by its standard deviation s; then l1 becomes l1/s and l2 stays.

A new model is a subclass of `Objective`, decorated with `register`, that says what a residual
costs; ``docs/extending.md`` adds Huber regression that way.

Source: Parikh & Boyd, Proximal Algorithms (2014), for the proximal operators.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from regatta.utils import UserError

Array = NDArray[np.floating]


@dataclass(frozen=True)
class Penalty:
    """l1 ‖w‖₁ + l2/2 ‖w‖² on the weights, nothing on the intercept (the last parameter)."""

    l1: float
    l2: float

    def value(self, parameters: NDArray[np.float64]) -> float:
        """The penalty of ``parameters`` (n_features + 1,)."""
        w = parameters[:-1]
        total = 0.5 * self.l2 * float(w @ w)
        if self.l1:
            total += self.l1 * float(np.abs(w).sum())
        return total

    def add_smooth_gradient(
        self, parameters: NDArray[np.float64], gradient: NDArray[np.float64]
    ) -> None:
        """Add the gradient of the L2 part to ``gradient``, in place."""
        if self.l2:
            gradient[:-1] += self.l2 * parameters[:-1]

    def prox(self, parameters: NDArray[np.float64], step: float | NDArray[np.float64]) -> None:
        """Soft-threshold the weights by ``step · l1``, in place: exact zeros.

        ``step`` is a number, or one for each weight (n_features,).
        """
        if self.l1:
            w = parameters[:-1]
            threshold = step * self.l1
            np.subtract(w, np.clip(w, -threshold, threshold), out=w)


class Objective(ABC):
    """What a model minimises. Subclasses are registered by name.

    Attributes
    ----------
    name : str
        The word after ``--model``.
    curvature : float
        An upper bound of the second derivative of the loss; bounds the safe step size.
    """

    name: ClassVar[str]
    curvature: ClassVar[float] = 1.0

    def loss(self, residual: Array, derivative: Array) -> float:
        """Sum of the loss over ``residual`` = prediction − target, (n_rows,), in place.

        Writes the loss's derivative into ``derivative``, which may be ``residual`` itself.
        Residuals come in units of the target's standard deviation.
        """
        total = 0.5 * float(residual.dot(residual))
        if derivative is not residual:
            np.copyto(derivative, residual)
        return total

    @abstractmethod
    def penalty(self, alpha: float, l1_ratio: float, n_rows: int) -> Penalty:
        """``l1`` and ``l2`` for scikit-learn's ``alpha`` and ``l1_ratio``."""


_REGISTRY: dict[str, type[Objective]] = {}
AnyObjective = TypeVar("AnyObjective", bound=type[Objective])


def register(objective: AnyObjective) -> AnyObjective:
    """Class decorator: make an objective known by its name."""
    _REGISTRY[objective.name] = objective
    return objective


def registered() -> list[str]:
    """Names of the known models."""
    return list(_REGISTRY)


def get(name: str) -> Objective:
    """The objective called ``name``, or the class at ``package.module:Class``.

    The second form lets worker processes, which import nothing else, find a model of yours.
    """
    if ":" in name:
        module, _, attribute = name.partition(":")
        try:
            found = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError, ValueError) as error:
            raise UserError(
                f"The model {name} cannot be loaded: {error}.",
                "Write package.module:Class, and let PYTHONPATH name the folder of the package.",
            ) from error
        if not (isinstance(found, type) and issubclass(found, Objective)):
            raise UserError(f"{name} is no model.", "It must be a subclass of models.Objective.")
        return found()
    if name not in _REGISTRY:
        raise UserError(f"There is no model {name!r}.", f"Known: {', '.join(_REGISTRY)}.")
    return _REGISTRY[name]()


@register
class Linear(Objective):
    """Ordinary least squares."""

    name = "linear"

    def penalty(self, alpha: float, l1_ratio: float, n_rows: int) -> Penalty:
        return Penalty(0.0, 0.0)


@register
class Ridge(Objective):
    """Least squares with an L2 penalty."""

    name = "ridge"

    def penalty(self, alpha: float, l1_ratio: float, n_rows: int) -> Penalty:
        return Penalty(0.0, alpha / n_rows)


@register
class Lasso(Objective):
    """Least squares with an L1 penalty: some coefficients become exactly zero."""

    name = "lasso"

    def penalty(self, alpha: float, l1_ratio: float, n_rows: int) -> Penalty:
        return Penalty(alpha, 0.0)


@register
class ElasticNet(Objective):
    """Least squares with both penalties, ``l1_ratio`` of it L1."""

    name = "elasticnet"

    def penalty(self, alpha: float, l1_ratio: float, n_rows: int) -> Penalty:
        return Penalty(alpha * l1_ratio, alpha * (1.0 - l1_ratio))
