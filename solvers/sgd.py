"""Mini-batch stochastic gradient descent with a proximal step: the parameter server's method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from regatta.parameter_server import learning_rate, optimizers
from regatta.parameter_server.batches import BatchPlan, Stretch
from regatta.solvers.base import Solver, Vector
from regatta.solvers.problem import Problem
from regatta.solvers.stopping import Plateau

# Where the learning rate falls over the run, an objective that has stopped improving at a high
# rate only waits for a lower one. So the stopping rule looks once the rate is this small.
SETTLED = 0.01


class MiniBatchSGD(Solver):
    """Steps along mini-batch gradients; a schedule lets the rate, and with it the noise, die out.

    Learning rate and batch size may be changed between two steps. The schedule goes on then: what
    it makes of a step depends on how much of the run is done, not on how many steps that took.

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
        self._stretches = [Stretch(plan)]  # one for each batch size that was in force, in order
        self._epochs = epochs
        self._base_rate = rate
        self._schedule = schedule
        self._falling = schedule != "constant"
        self._optimizer = optimizers.make(optimizer, problem.n_features + 1, momentum)
        self.plateau = Plateau(tol)
        self._round = 0
        self._enter_last()
        self._loss_sum = 0.0
        self._rows = 0
        self.rate = rate

    def _enter_last(self) -> None:
        """Make ready what every step of the last stretch looks at."""
        stretch = self._stretches[-1]
        self._plan, self._shift = stretch.plan, stretch.shift
        self._factor = self._factor_of(stretch)
        self._firsts = self._plan.first_shards().tolist()
        self._ranges = self._plan.ranges(self.epoch)
        self._ranges_epoch = self.epoch

    def _factor_of(self, stretch: Stretch) -> Callable[[int], float]:
        """What the schedule makes of a step, from its number with the shift of the stretch."""
        rounds = stretch.plan.rounds
        return learning_rate.schedule(self._schedule, self._epochs * rounds, rounds)

    def _stretch_of(self, batch: int) -> Stretch:
        return next((s for s in reversed(self._stretches) if s.first <= batch), self._stretches[0])

    @property
    def total_steps(self) -> int:
        return self._epochs * self._plan.rounds - self._shift

    @property
    def steps_per_epoch(self) -> int:
        return self._plan.rounds

    @property
    def passes(self) -> float:
        stretch = self._stretch_of(self.step_count)
        return (self.step_count + stretch.shift) / stretch.plan.rounds

    @property
    def epochs_at_most(self) -> int:
        return self._epochs

    @property
    def parts_summed(self) -> int:
        """Partial sums of all batches so far."""
        ends = [*(each.first for each in self._stretches[1:]), self.step_count]
        return sum(
            each.plan.parts * max(0, min(end, self.step_count) - each.first)
            for each, end in zip(self._stretches, ends, strict=True)
        )

    # Changes between two steps

    @property
    def batch_plan(self) -> BatchPlan:
        """The batches that are cut from now on."""
        return self._plan

    @property
    def next_rate(self) -> float:
        """Learning rate of the next step."""
        return self._base_rate * self._factor_at(self.step_count)

    def set_rate(self, rate: float) -> None:
        """Take the next step with this learning rate; the schedule goes on from there."""
        self._base_rate = rate / self._factor_at(self.step_count)

    def set_first_rate(self, rate: float) -> None:
        """Go on as if the learning rate at the start had been this one."""
        self._base_rate = rate

    def set_batch_size(self, rows: int) -> None:
        """Cut batches of so many rows from the next one on."""
        first = self._next_batch
        stretch = self._stretch_of(first).followed_by(rows, first)
        self._stretches = [*(each for each in self._stretches if each.first < first), stretch]
        self._enter_last()
        self._round = stretch.place(first)[1]

    @property
    def _next_batch(self) -> int:
        return self.step_count

    def _factor_at(self, step: int) -> float:
        stretch = self._stretch_of(step)
        last = stretch is self._stretches[-1]
        return (self._factor if last else self._factor_of(stretch))(step + stretch.shift)

    # Steps

    def step(self) -> bool:
        problem, turn = self.problem, self._round
        if self._ranges_epoch != self.epoch:
            self._ranges, self._ranges_epoch = self._plan.ranges(self.epoch), self.epoch
        problem.batch_gradient(self.parameters, self._firsts[turn], self._ranges[turn])
        if self.measure:
            self.gradient_norm = float(np.linalg.norm(problem.gradient))
        self.rate = self._base_rate * self._factor(self.step_count + self._shift)
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
            "base_rate": self._base_rate,
            "stretches": [[s.plan.batch_size, s.first, s.shift] for s in self._stretches],
            "loss_sum": self._loss_sum,
            "rows": self._rows,
        }

    def arrays(self) -> dict[str, Vector]:
        return {**super().arrays(), **self._optimizer.state()}

    def restore(self, state: dict[str, Any], arrays: dict[str, Vector]) -> None:
        super().restore(state, arrays)
        self._base_rate = state["base_rate"]
        self._stretches = [
            Stretch(replace(self._plan, batch_size=rows), first, shift)
            for rows, first, shift in state["stretches"]
        ]
        self._enter_last()
        self._round, self._loss_sum, self._rows = state["round"], state["loss_sum"], state["rows"]
