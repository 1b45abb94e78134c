"""Accelerated proximal gradient over all rows: what ``--batch-size full`` means.

Sources: Beck & Teboulle, FISTA (2009); O'Donoghue & Candès, Adaptive Restart for Accelerated
Gradient Schemes (2015): start the momentum again whenever it points uphill.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from regatta.solvers.base import Solver, Vector
from regatta.solvers.problem import Problem
from regatta.solvers.stopping import Plateau

# Steps without progress before the objective counts as still, and steps at least, so that a run
# can be looked at: a hundred passes over few rows take milliseconds.
WINDOW = 10
MIN_STEPS = 100
# An objective this small (the target has variance one) may double by rounding alone.
ROUNDING = 1e-9


class Fista(Solver):
    """One step a pass. Computes in float64, whatever the rows are stored as.

    Parameters
    ----------
    problem : Problem
    epochs : int
        Steps at most.
    eigenvalue : float
        Largest eigenvalue of the smooth part's Hessian without the L2 penalty.
    tol : float
        Converged when, for ten steps, the objective has not fallen by this share and no
        coefficient has moved by more than this share of the largest.
    """

    name = "fista"
    arithmetic = "float64"

    def __init__(self, problem: Problem, *, epochs: int, eigenvalue: float, tol: float) -> None:
        super().__init__(problem)
        self._epochs = epochs
        self._tol = tol
        self._smoothness = eigenvalue + problem.penalty.l2
        self.rate = 1.0 / self._smoothness
        self.plateau = Plateau(tol, WINDOW)
        size = len(self.parameters)
        self._ahead = np.zeros(size)  # where the gradient is taken: extrapolated parameters
        self._best = np.zeros(size)
        self._best_objective = float("inf")
        self._momentum = 1.0
        self._still = 0

    @property
    def total_steps(self) -> int:
        return self._epochs

    @property
    def steps_per_epoch(self) -> int:
        return 1

    def step(self) -> bool:
        problem, ahead = self.problem, self._ahead
        problem.full_gradient(ahead)
        objective = problem.loss + problem.penalty.value(ahead)
        self.epoch_loss = problem.loss
        if self.measure:
            self.gradient_norm = float(np.linalg.norm(problem.gradient))
        self.step_count += 1
        self.epoch += 1
        if objective > 2.0 * self._best_objective + ROUNDING:
            self._shorten()
            return True
        if objective < self._best_objective:
            self._best_objective = objective
            np.copyto(self._best, ahead)
        new = ahead - self.rate * problem.gradient
        problem.penalty.prox(new, self.rate)
        moved = float(np.abs(new - self.parameters).max())
        self._accelerate(new)
        self._look(objective, moved)
        return True

    def _shorten(self) -> None:
        """The objective doubled: the eigenvalue was underestimated. Back to the best, slower."""
        self._smoothness *= 2.0
        self.rate = 1.0 / self._smoothness
        self._momentum = 1.0
        np.copyto(self.parameters, self._best)
        np.copyto(self._ahead, self._best)

    def _accelerate(self, new: Vector) -> None:
        move = new - self.parameters
        if float((self._ahead - new) @ move) > 0.0:
            self._momentum = 1.0
        following = 0.5 * (1.0 + np.sqrt(1.0 + 4.0 * self._momentum**2))
        np.copyto(self._ahead, new + ((self._momentum - 1.0) / following) * move)
        np.copyto(self.parameters, new)
        self._momentum = float(following)

    def _look(self, objective: float, moved: float) -> None:
        scale = max(float(np.abs(self.parameters).max()), np.finfo(float).tiny)
        self._still = self._still + 1 if moved <= self._tol * scale else 0
        flat = self.plateau.reached(objective)
        enough = self.step_count >= MIN_STEPS
        self.converged = self._tol > 0 and enough and flat and self._still >= WINDOW

    def state(self) -> dict[str, Any]:
        best = self._best_objective
        return {
            **super().state(),
            "smoothness": self._smoothness,
            "momentum": self._momentum,
            "still": self._still,
            "best_objective": best if np.isfinite(best) else None,
        }

    def arrays(self) -> dict[str, Vector]:
        return {**super().arrays(), "ahead": self._ahead, "best": self._best}

    def restore(self, state: dict[str, Any], arrays: dict[str, Vector]) -> None:
        super().restore(state, arrays)
        self._smoothness = state["smoothness"]
        self.rate = 1.0 / self._smoothness
        self._momentum = state["momentum"]
        self._still = state["still"]
        best = state["best_objective"]
        self._best_objective = float("inf") if best is None else best
