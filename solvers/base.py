"""What every iterative solver can do. The coordinator drives one, step by step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from regatta.solvers.problem import Problem
from regatta.solvers.stopping import Plateau

Vector = NDArray[np.float64]


class Solver(ABC):
    """One step at a time towards the optimum of a `Problem`.

    Attributes
    ----------
    parameters : (n_features + 1,) array
        Weights and, last, the intercept.
    step_count, epoch : int
        Steps taken, epochs begun and ended.
    rate : float
        Learning rate of the last step.
    epoch_loss : float
        Mean loss over the last whole epoch, as met on the way.
    measure : bool
        Whether the next step is to set `gradient_norm`, which is not worth its time at each.
    """

    name: ClassVar[str]
    # What the kernel computes in; None means the precision of the prepared rows.
    arithmetic: ClassVar[str | None] = None
    # Whether steps lower a loss, can diverge, and are worth a checkpoint.
    iterative: ClassVar[bool] = True

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.parameters = np.zeros(problem.n_features + 1)
        self.step_count = 0
        self.epoch = 0
        self.rate = 0.0
        self.epoch_loss = float("nan")
        self.converged = False
        self.measure = True
        self.gradient_norm = float("nan")
        self.plateau = Plateau(tol=0.0)

    @property
    @abstractmethod
    def total_steps(self) -> int:
        """Steps at most."""

    @property
    @abstractmethod
    def steps_per_epoch(self) -> int:
        """Steps in a pass over the training rows."""

    @abstractmethod
    def step(self) -> bool:
        """Take a step; whether it ended an epoch. Sets `converged` where the stopping rule says
        so."""

    @property
    def rounds(self) -> int:
        """Times that work was given out and brought together: steps, for most solvers."""
        return self.step_count

    @property
    def passes(self) -> float:
        """Epochs done, with the share of the present one."""
        return self.step_count / self.steps_per_epoch

    @property
    def epochs_at_most(self) -> int:
        """Epochs, where nothing ends the run before."""
        return self.total_steps // self.steps_per_epoch

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to do."""
        return self.converged or self.step_count >= self.total_steps

    def objective(self, loss: float) -> float:
        """Loss and penalty at the present parameters."""
        return loss + self.problem.penalty.value(self.parameters)

    def state(self) -> dict[str, Any]:
        """JSON values that, with `arrays`, let a run go on to the same bytes."""
        return {
            "step_count": self.step_count,
            "epoch": self.epoch,
            "rate": self.rate,
            "epoch_loss": self.epoch_loss,
            "converged": self.converged,
            "plateau": self.plateau.state(),
        }

    def arrays(self) -> dict[str, Vector]:
        """The arrays of a checkpoint."""
        return {"parameters": self.parameters}

    def restore(self, state: dict[str, Any], arrays: dict[str, Vector]) -> None:
        """Take back what `state` and `arrays` gave."""
        self.step_count = state["step_count"]
        self.epoch = state["epoch"]
        self.rate = state["rate"]
        self.epoch_loss = state["epoch_loss"]
        self.converged = state["converged"]
        self.plateau.restore(state["plateau"])
        for name, value in self.arrays().items():
            np.copyto(value, arrays[name])
