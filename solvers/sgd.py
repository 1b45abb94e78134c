"""Mini-batch stochastic gradient descent with a proximal step: the parameter server's method."""

from __future__ import annotations

from typing import Any

import numpy as np

from regatta.parameter_server import learning_rate, optimizers
from regatta.parameter_server.batches import BatchPlan
from regatta.solvers.base import Solver, Vector
from regatta.solvers.problem import Problem
from regatta.solvers.stopping import Plateau

# Where the learning rate falls over the run, an objective that has stopped improving at a high
# rate only waits for a lower one. So the stopping rule looks once the rate is this small.
SETTLED = 0.01


class MiniBatchSGD(Solver):
    """Steps along mini-batch gradients; a schedule lets the rate, and with it the noise, die out.

    Parameters
    ----------
    problem : Problem
    plan : BatchPlan
    epochs : int
    rate : float
        Learning rate at the start.
    schedule, optimizer : str
    momentum : float
    tol : float
        Share by which the mean objective of an epoch must improve.
    """

    name = "sgd"

    def __init__(
        self,
        problem: Problem,
        plan: BatchPlan,
        *,
        epochs: int,
        rate: float,
        schedule: str,
        optimizer: str,
        momentum: float,
        tol: float,
    ) -> None:
        super().__init__(problem)
        self._plan = plan
        self._epochs = epochs
        self._base_rate = rate
        self._factor = learning_rate.schedule(schedule, epochs * plan.rounds, plan.rounds)
        self._falling = schedule != "constant"
        self._optimizer = optimizers.make(optimizer, problem.n_features + 1, momentum)
        self.plateau = Plateau(tol)
        self._firsts = plan.first_shards().tolist()
        self._ranges = plan.ranges(0)
        self._ranges_epoch = 0
        self._round = 0
        self._loss_sum = 0.0
        self._rows = 0
        self.rate = rate

    @property
    def total_steps(self) -> int:
        return self._epochs * self._plan.rounds

    @property
    def steps_per_epoch(self) -> int:
        return self._plan.rounds

    def step(self) -> bool:
        problem, turn = self.problem, self._round
        if self._ranges_epoch != self.epoch:
            self._ranges, self._ranges_epoch = self._plan.ranges(self.epoch), self.epoch
        problem.batch_gradient(self.parameters, self._firsts[turn], self._ranges[turn])
        if self.measure:
            self.gradient_norm = float(np.linalg.norm(problem.gradient))
        self.rate = self._base_rate * self._factor(self.step_count)
        self._loss_sum += problem.loss * problem.rows
        self._rows += problem.rows
        if problem.rows:  # without a row, a step would be along the penalty alone
            self._optimizer.update(self.parameters, problem.gradient, self.rate, problem.penalty)
        self.step_count += 1
        self._round = turn + 1
        if self._round < self._plan.rounds:
            return False
        self._round = 0
        self._end_epoch()
        return True

    def _end_epoch(self) -> None:
        self.epoch += 1
        self.epoch_loss = self._loss_sum / self._rows
        self._loss_sum, self._rows = 0.0, 0
        settled = not self._falling or self.rate <= SETTLED * self._base_rate
        if settled and self.plateau.reached(self.objective(self.epoch_loss)):
            self.converged = True

    def state(self) -> dict[str, Any]:
        return {
            **super().state(),
            "round": self._round,
            "loss_sum": self._loss_sum,
            "rows": self._rows,
        }

    def arrays(self) -> dict[str, Vector]:
        return {**super().arrays(), **self._optimizer.state()}

    def restore(self, state: dict[str, Any], arrays: dict[str, Vector]) -> None:
        super().restore(state, arrays)
        self._round, self._loss_sum, self._rows = state["round"], state["loss_sum"], state["rows"]
