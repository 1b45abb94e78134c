"""From a configuration to a solver: what "auto" becomes, and what the run is told that it is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Literal

from regatta import models
from regatta.configuration import STEP_OPTIONS, TrainingConfig, flag
from regatta.parameter_server import learning_rate, optimizers
from regatta.parameter_server.batches import BatchPlan
from regatta.parameter_server.step_kernel import StepPlan
from regatta.solvers.base import Solver
from regatta.solvers.fista import Fista
from regatta.solvers.one_pass import OnePass
from regatta.solvers.optimum import fold_count
from regatta.solvers.problem import Problem
from regatta.solvers.sgd import MiniBatchSGD
from regatta.solvers.unsynchronised import AsynchronousSGD, LocalSGD
from regatta.solvers.unused import DEFAULTS
from regatta.solvers.unused import without_effect as unused_by
from regatta.utils import UserError, available_cores

DEFAULT_BATCH = 1024
# Up to this many training rows a pass costs less than waking the workers, and accelerated full
# gradients reach the optimum in fewer of them than mini-batches do.
FULL_BATCH_ROWS = 8192
FULL_BATCH_STEPS = 20_000
MIN_SGD_STEPS = 20_000
MIN_SGD_EPOCHS = 20
# Where workers do not wait for each other there must be several batches at once, of few rows too.
FEWEST_BATCHES = 8
# The bound of "auto" is for stragglers alone: with up to as many workers as shards all of them can
# be at work. Local: few enough steps that the copies stay near each other.
STALENESS_A_SHARD = 2
SYNC_EVERY = 16
# Models whose loss is the squared residual: those that scikit-learn has under these names.
EXACT_MODELS = ("linear", "ridge", "lasso", "elasticnet")


# The statistics of more features than this (a matrix of 200 MB, one a worker and one a fold) and
# their Cholesky factor (40 GFLOP) cost more than steps do.
EXACT_FEATURES = 5000
# Steps are shown against the optimum where it takes at most this many multiplications: some
# seconds. Beyond, the statistics would cost more than the steps.
OPTIMUM_PRODUCTS = 2e11


@dataclass(frozen=True)
class Settings:
    """What "auto" became. Depends on the rows and the configuration, never on the workers.

    ``solver`` is exact, fista (all rows a step) or sgd. ``with_statistics`` tells whether the
    moments of the rows are gathered: for the exact solver, to choose alpha, and so that steps are
    shown against the optimum. ``note`` is a word to the user, or empty. ``steps`` is there where
    workers do not wait for each other at every batch; ``staleness`` bounds async (None: nothing
    does), ``sync_every`` is of local.
    """

    solver: str
    with_statistics: bool
    batch_size: int
    epochs: int
    plan: BatchPlan
    note: str = ""
    consistency: str = "sync"
    steps: StepPlan | None = None
    staleness: int | None = None
    sync_every: int | None = None

    @property
    def full_batch(self) -> bool:
        """Whether every step takes all rows."""
        return self.solver != MiniBatchSGD.name

    @property
    def arithmetic(self) -> str | None:
        """What the kernel computes in, if the solver asks for something."""
        if self.solver == OnePass.name:
            return OnePass.arithmetic
        return Fista.arithmetic if self.solver == Fista.name else MiniBatchSGD.arithmetic

    def describe(self, config: TrainingConfig, n_workers: int) -> str:
        """What is about to happen, in a line."""
        how = {
            OnePass.name: "exact, one pass",
            Fista.name: "fista, all rows a step",
            MiniBatchSGD.name: f"sgd, {self.batch_size:,} rows a step",
        }[self.solver]
        if self.sync_every is not None:
            how += f", local: averaged every {self.sync_every:,} steps"
        elif self.steps is not None:
            bound = "unbounded" if self.staleness is None else f"at most {self.staleness:,}"
            how += f", asynchronous: staleness {bound}"
        crew = {0: "in one process", 1: "1 worker"}.get(n_workers, f"{n_workers} workers")
        return f"{config.model}, {how}, {crew}."


def check(config: TrainingConfig) -> None:
    """Refuse, with a `UserError`, what no file could make right."""
    _check_consistency(config)
    wants_exact(config)
    models.get(config.model)
    if config.alpha != "auto":
        return
    if config.model == "linear":
        raise UserError(
            "The model linear has no alpha to choose.", "Choose ridge, lasso or elasticnet."
        )
    if config.model not in EXACT_MODELS:
        raise UserError(
            f"--alpha auto cannot choose for {config.model}: its loss is not the squared residual.",
            "Give --alpha a number.",
        )
    fold_count(config, config.shards)


def _check_consistency(config: TrainingConfig) -> None:
    """Refuse options of the steps that contradict each other."""
    how = config.consistency
    for name, meant in (("staleness", "async"), ("sync_every", "local")):
        if getattr(config, name) is not None and how != meant:
            raise UserError(
                f"{flag(name)} is for --consistency {meant}, and it is {how}.",
                f"Add --consistency {meant}, or leave {flag(name)} out.",
            )
    if how == "sync":
        return
    if config.solver == "exact":
        raise UserError(
            f"--solver exact takes no steps, so --consistency {how} means nothing to it.",
            "Leave one of the two out.",
        )
    if config.batch_size == "full":
        raise UserError(
            f"--consistency {how} is for mini-batches, and --batch-size is full.",
            "Give --batch-size a number, or leave it out.",
        )


def wants_exact(config: TrainingConfig) -> bool:
    """Whether the exact solver is asked for, or "auto" means it."""
    solvable = config.model in EXACT_MODELS
    if config.solver == "exact" and not solvable:
        raise UserError(
            f"--solver exact cannot fit {config.model}: its loss is not the squared residual.",
            "Leave the option out, or use --solver sgd.",
        )
    steps = any(getattr(config, name) != DEFAULTS[name] for name in STEP_OPTIONS)
    return config.solver == "exact" or (config.solver == "auto" and solvable and not steps)


def precision(config: TrainingConfig) -> str:
    """Number format of the prepared rows."""
    if config.precision != "auto":
        return config.precision
    return "float64" if wants_exact(config) else "float32"


def resolve(config: TrainingConfig, train_offsets: tuple[int, ...], n_features: int) -> Settings:
    """The solver, batch size and epochs of a run over the rows of ``train_offsets``."""
    fits = n_features <= EXACT_FEATURES and config.model in EXACT_MODELS
    exact, note = wants_exact(config), ""
    if exact and not fits:
        note = (
            f"{n_features:,} features are too many for the exact solver "
            f"(at most {EXACT_FEATURES:,}): steps along gradients are taken instead."
        )
    if config.alpha == "auto" and not fits:
        raise UserError(
            f"--alpha auto needs the statistics of the rows, and {n_features:,} features are too "
            f"many for them (at most {EXACT_FEATURES:,}).",
            "Give --alpha a number.",
        )
    rows = train_offsets[-1]
    how = consistency(config)
    asked = _batch_size(config, rows)
    full = asked == "full" or asked >= rows
    if full and how != "sync":
        raise UserError(
            f"--consistency {how} is for mini-batches, and {asked} rows a step are all there are "
            f"({rows:,}).",
            "Give a smaller --batch-size.",
        )
    batch = rows if asked == "full" or full else int(asked)
    plan = BatchPlan(train_offsets, batch, config.seed)
    if config.epochs is not None:
        epochs = config.epochs
    elif full:
        epochs = FULL_BATCH_STEPS
    else:
        epochs = max(MIN_SGD_EPOCHS, math.ceil(MIN_SGD_STEPS / plan.rounds))
    if exact and fits:
        return Settings(OnePass.name, True, rows, 1, plan)
    solver = Fista.name if full else MiniBatchSGD.name
    shown = fits and (config.alpha == "auto" or rows * n_features**2 <= OPTIMUM_PRODUCTS)
    if how == "sync":
        if config.consistency == "async":
            note = "With --staleness 0 every gradient waits for the one before: that is sync."
        return Settings(solver, shown, batch, epochs, plan, note)
    local = how == "local"
    steps = StepPlan(
        plan, epochs * plan.rounds, local, config.schedule, config.optimizer, config.momentum
    )
    bound = STALENESS_A_SHARD * config.shards if config.staleness is None else config.staleness
    return Settings(
        solver,
        shown,
        batch,
        epochs,
        plan,
        note,
        how,
        steps,
        staleness=None if local or bound == "unbounded" else int(bound),
        sync_every=(config.sync_every or SYNC_EVERY) if local else None,
    )


def _batch_size(config: TrainingConfig, rows: int) -> int | Literal["full"]:
    """The one asked for, or what "auto" becomes with so many training rows."""
    if config.batch_size is not None:
        return config.batch_size
    if consistency(config) != "sync":
        return max(1, min(DEFAULT_BATCH, rows // FEWEST_BATCHES))
    return "full" if rows <= FULL_BATCH_ROWS else DEFAULT_BATCH


def without_effect(config: TrainingConfig, rows: int | None = None) -> list[str]:
    """Sentences about options that will have no effect, as far as the options alone tell it, or
    they and the number of training rows."""
    batch = config.batch_size if rows is None else _batch_size(config, rows)
    full = batch == "full" or (isinstance(batch, int) and rows is not None and batch >= rows)
    steps = Fista.name if full else MiniBatchSGD.name
    return unused_by(config, OnePass.name if wants_exact(config) else steps)


def consistency(config: TrainingConfig) -> str:
    """When workers agree: async that bounds the staleness by 0 is sync."""
    return "sync" if config.staleness == 0 else config.consistency


def workers(config: TrainingConfig) -> int:
    """Worker processes of a run: as told, else one a core; never more than shards."""
    wanted = config.workers if config.workers is not None else available_cores()
    return min(wanted, config.shards)


def notes(config: TrainingConfig, settings: Settings) -> list[str]:
    """What is not done as it was asked for, in words."""
    found = [settings.note] if settings.note else []
    if config.workers is not None and config.workers > config.shards:
        found.append(_fewer_workers(config))
    bound, n_workers = settings.staleness, workers(config)
    if bound is not None and n_workers > bound + 1:
        found.append(
            f"With --staleness {bound:,} no more than {bound + 1:,} workers are at work at once, "
            f"and {n_workers:,} start."
        )
    return [*found, *unused_by(config, settings.solver)]


def _fewer_workers(config: TrainingConfig) -> str:
    return (
        f"{config.workers:,} workers were asked for, and there are {config.shards:,} shards: "
        f"{config.shards:,} workers start, since a worker without a shard has nothing to do."
    )


def make(
    config: TrainingConfig,
    settings: Settings,
    problem: Problem,
    *,
    target_scale: float = 1.0,
    rate: float | None = None,
) -> Solver:
    """The solver of a run.

    Parameters
    ----------
    target_scale : float
        What the target was divided by.
    rate : float, optional
        The learning rate that an earlier attempt derived; saves deriving it again.
    """
    if settings.solver == OnePass.name:
        return OnePass(problem, config, target_scale)
    if settings.full_batch:
        smoothness = problem.largest_eigenvalue() if rate is None else 1.0 / rate
        return Fista(problem, epochs=settings.epochs, eigenvalue=smoothness, tol=config.tol)
    if rate is None:
        rate = config.learning_rate
    if rate is None:
        rate = safe_rate(config, settings, problem)
    if settings.steps is not None:
        kind = LocalSGD if settings.sync_every is not None else AsynchronousSGD
        return kind(
            problem,
            settings.steps,
            epochs=settings.epochs,
            rate=rate,
            tol=config.tol,
            staleness=settings.staleness,
            sync_every=settings.sync_every,
            # A rate that was given is kept, and Adam's says nothing of delays.
            delay_of=(
                partial(mean_delay, settings)
                if config.learning_rate is None and config.optimizer != "adam"
                else None
            ),
        )
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
        mean_delay(settings, problem.pool.n_workers),
    )


def mean_delay(settings: Settings, n_workers: int) -> float:
    """Updates that a gradient is late, in the mean: the others that are out meanwhile."""
    if settings.steps is None or settings.sync_every is not None:
        return 0.0
    others = max(0, n_workers - 1)
    return float(others if settings.staleness is None else min(others, settings.staleness))
