"""From the statistics of the folds to the optimum of a run's objective, with alpha chosen if asked.

The reference that stochastic runs are shown against, and the answer of exact ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from regatta import models
from regatta.configuration import TrainingConfig
from regatta.models import Penalty
from regatta.solvers import exact
from regatta.solvers.path import PathResult, cross_validated_path
from regatta.solvers.statistics import Statistics
from regatta.utils import UserError


@dataclass(frozen=True)
class Optimum:
    """The optimum of a run's objective.

    Attributes
    ----------
    parameters : (d + 1,) array
        Weights of standardised features and intercept, for a target divided by its deviation.
    alpha : float
        The one asked for, or chosen by cross-validation.
    penalty : Penalty
        In units of the divided target.
    loss, objective : float
        Half the mean squared residual, and that with the penalty; divided target.
    path : PathResult or None
        Path and cross-validation, where alpha was chosen. In the target's own units.
    statistics : Statistics
        Of all rows; the target in its own units.
    warnings : tuple of str
        Of the solution, and of the choice of alpha.
    """

    parameters: NDArray[np.float64]
    alpha: float
    penalty: Penalty
    loss: float
    objective: float
    path: PathResult | None
    statistics: Statistics
    warnings: tuple[str, ...]


def fold_count(config: TrainingConfig, n_shards: int) -> int:
    """Folds that the shards are grouped into: 1 where nothing is to be chosen."""
    if config.alpha != "auto":
        return 1
    if config.folds > n_shards:
        raise UserError(
            f"--folds is {config.folds}, and folds are groups of the {n_shards} shards.",
            f"Use at most {n_shards} folds, or more --shards.",
        )
    return config.folds


def find_optimum(folds: list[Statistics], config: TrainingConfig, target_scale: float) -> Optimum:
    """The optimum over the rows of all folds; chooses alpha where it is "auto"."""
    folds = [exact.in_target_units(fold, target_scale) for fold in folds]
    total = Statistics.total(folds)
    found: PathResult | None = None
    if config.alpha == "auto":
        found = cross_validated_path(
            folds, config.model, l1_ratio=config.l1_ratio, rule=config.rule
        )
        alpha = found.alpha
    else:
        alpha = float(config.alpha)
    near = None if found is None else found.weights
    solution = exact.solve(total, config.model, alpha, config.l1_ratio, near=near)
    unit = models.get(config.model).penalty(alpha, config.l1_ratio, round(total.n))
    penalty = Penalty(unit.l1 / target_scale, unit.l2)
    parameters = np.append(solution.weights, solution.intercept) / target_scale
    squares = float(total.squared_error(solution.weights, solution.intercept))
    loss = 0.5 * squares / (total.n * target_scale**2)
    return Optimum(
        parameters=parameters,
        alpha=alpha,
        penalty=penalty,
        loss=loss,
        objective=loss + penalty.value(parameters),
        path=None if found is None else found.ending_in(solution.weights, solution.intercept),
        statistics=total,
        warnings=(*solution.warnings, *(() if found is None else found.warnings)),
    )
