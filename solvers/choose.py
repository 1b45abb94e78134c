"""From a configuration to a solver: what "auto" becomes, and what the run is told that it is."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

from regatta.configuration import TrainingConfig
from regatta.parameter_server import learning_rate, optimizers
from regatta.parameter_server.batches import BatchPlan
from regatta.solvers.base import Solver
from regatta.solvers.fista import Fista
from regatta.solvers.problem import Problem
from regatta.solvers.sgd import MiniBatchSGD

DEFAULT_BATCH = 1024
# Up to this many training rows a pass costs less than waking the workers, and accelerated full
# gradients reach the optimum in fewer of them than mini-batches do.
FULL_BATCH_ROWS = 8192
FULL_BATCH_STEPS = 20_000
MIN_SGD_STEPS = 10_000
MIN_SGD_EPOCHS = 20


@dataclass(frozen=True)
class Settings:
    """What "auto" became. Depends on the rows and the configuration, never on the workers."""

    full_batch: bool
    batch_size: int
    epochs: int
    plan: BatchPlan

    @property
    def arithmetic(self) -> str | None:
        """What the kernel computes in, if the solver asks for something."""
        return Fista.arithmetic if self.full_batch else MiniBatchSGD.arithmetic

    @property
    def solver(self) -> str:
        return Fista.name if self.full_batch else MiniBatchSGD.name

    def describe(self, config: TrainingConfig, n_workers: int) -> str:
        """What is about to happen, in a line."""
        batch = "all rows a step" if self.full_batch else f"{self.batch_size:,} rows a step"
        crew = {0: "in one process", 1: "1 worker"}.get(n_workers, f"{n_workers} workers")
        return f"{config.model}, {self.solver}, {batch}, {crew}."


def resolve(config: TrainingConfig, train_offsets: tuple[int, ...]) -> Settings:
    """The batch size and epochs of a run over the rows of ``train_offsets``."""
    rows = train_offsets[-1]
    asked = config.batch_size
    if asked is None:
        asked = "full" if rows <= FULL_BATCH_ROWS else DEFAULT_BATCH
    full = asked == "full" or asked >= rows
    batch = rows if asked == "full" or full else int(asked)
    plan = BatchPlan(train_offsets, batch, config.seed)
    if config.epochs is not None:
        epochs = config.epochs
    elif full:
        epochs = FULL_BATCH_STEPS
    else:
        epochs = max(MIN_SGD_EPOCHS, math.ceil(MIN_SGD_STEPS / plan.rounds))
    return Settings(full, batch, epochs, plan)


def workers(config: TrainingConfig) -> int:
    """Worker processes of a run: as told, else one a core; never more than shards."""
    wanted = config.workers if config.workers is not None else available_cores()
    return min(wanted, config.shards)


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def make(
    config: TrainingConfig, settings: Settings, problem: Problem, *, rate: float | None = None
) -> Solver:
    """The solver of a run.

    Parameters
    ----------
    rate : float, optional
        The learning rate that an earlier attempt derived; saves deriving it again.
    """
    if settings.full_batch:
        smoothness = problem.largest_eigenvalue() if rate is None else 1.0 / rate
        return Fista(problem, epochs=settings.epochs, eigenvalue=smoothness, tol=config.tol)
    if rate is None:
        rate = config.learning_rate
    if rate is None:
        rate = safe_rate(config, settings, problem)
    return MiniBatchSGD(
        problem,
        settings.plan,
        epochs=settings.epochs,
        rate=rate,
        schedule=config.schedule,
        optimizer=config.optimizer,
        momentum=config.momentum,
        tol=config.tol,
    )


def safe_rate(config: TrainingConfig, settings: Settings, problem: Problem) -> float:
    """A learning rate for mini-batches that converges on these rows."""
    if config.optimizer == "adam":
        return learning_rate.ADAM_RATE
    rule = optimizers.make(config.optimizer, problem.n_features + 1, config.momentum)
    plan = settings.plan
    return learning_rate.safe_rate(
        problem.largest_eigenvalue(),
        problem.max_row_norm2,
        plan.n_rows / plan.rounds,
        rule.memory,
        problem.penalty.l2,
    )
