"""The exact solver as a run sees it: one pass over the shards, then small matrices.

shards ──moments, one a worker──▶ statistics of each fold ──▶ path and cross-validation (if
alpha is to be chosen) ──▶ the optimum, and for least squares its standard errors
"""

from __future__ import annotations

from collections.abc import Iterator

from regatta.configuration import TrainingConfig
from regatta.solvers.base import Solver
from regatta.solvers.optimum import Optimum, find_optimum, fold_count
from regatta.solvers.problem import Problem
from regatta.solvers.statistics import Pass
from regatta.utils import while_idling


class OnePass(Solver):
    """Steps are rows. One call of `step` takes in all of them, and solves.

    Parameters
    ----------
    problem : Problem
    config : TrainingConfig
    target_scale : float
        What the target was divided by: ``alpha`` acts on the target in its own units.

    Attributes
    ----------
    optimum : Optimum or None
        What was found, once it is.
    """

    name = "exact"
    arithmetic = "float64"
    iterative = False

    def __init__(self, problem: Problem, config: TrainingConfig, target_scale: float) -> None:
        super().__init__(problem)
        self._config = config
        self._target_scale = target_scale
        shards = len(problem.train_offsets) - 1
        self._pass = Pass(problem.pool, problem.train_offsets, fold_count(config, shards))
        self._passing = False
        self.optimum: Optimum | None = None

    @property
    def total_steps(self) -> int:
        return self.problem.rows_train

    @property
    def steps_per_epoch(self) -> int:
        return self.problem.rows_train

    @property
    def rounds(self) -> int:
        return self._pass.shards_done

    @property
    def finished(self) -> bool:
        return self.converged

    @property
    def bytes_gathered(self) -> int:
        """Bytes of moments read from the workers so far."""
        return 8 * (self.problem.n_features + 2) ** 2 * self._pass.shards_done

    def look(self) -> Iterator[float]:
        """Bring `step_count` to what it was at each moment that the workers noted within the
        pass and that was not looked at yet, and give the moment (``time.perf_counter``)."""
        for when, rows in self.problem.pool.milestones():
            self.step_count = rows
            yield when
        if not self._passing:
            self.step_count = self.problem.rows

    def step(self) -> bool:
        self._passing = True
        self._pass.run()
        self._passing = False
        self.problem.rows = self.step_count = self.problem.rows_train
        self.epoch = 1
        self.problem.pool.idle()  # who watches sees the end of the pass before its result
        self.optimum = while_idling(
            lambda: find_optimum(self._pass.folds(), self._config, self._target_scale),
            self.problem.pool.idle,
        )
        self.problem.penalty = self.optimum.penalty
        self.parameters[:] = self.optimum.parameters
        self.problem.loss = self.optimum.loss
        self.converged = True
        return True
