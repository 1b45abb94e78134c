"""One training: a solver on a problem, how well it does, when it stops, and its checkpoints.

Knows nothing of runs, files or people: the coordinator drives it step by step.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regatta import models
from regatta.configuration import ReadingOptions, TrainingConfig
from regatta.data_pipeline import PreparedData
from regatta.metrics import Scores
from regatta.parameter_server.batches import folds_of_shards
from regatta.parameter_server.checkpoints import Checkpoint
from regatta.parameter_server.data_source import DataSource
from regatta.parameter_server.protocol import SLOT_EXTRAS
from regatta.parameter_server.worker_pool import Pool
from regatta.runs.tuning import Change, Tuning
from regatta.solvers import choose
from regatta.solvers.base import Solver
from regatta.solvers.one_pass import OnePass
from regatta.solvers.optimum import Optimum, find_optimum, fold_count
from regatta.solvers.problem import Problem
from regatta.solvers.sgd import MiniBatchSGD
from regatta.solvers.statistics import Statistics, gather
from regatta.solvers.stopping import Patience
from regatta.solvers.unsynchronised import AsynchronousSGD, UnsynchronisedSGD
from regatta.utils import DivergenceError, Stopwatch, UserError, fingerprint, while_idling

# A loss this many times the first one is on its way to infinity.
DIVERGED_FOLD = 1e6
# Below this share of the target's variance an objective is rounding.
PERFECT_FIT = 1e-12
# Settings that do not change the weights, and so may differ when a run is resumed.
READING = tuple(each.name for each in fields(ReadingOptions))  # what is read decides: data, below
FREE_SETTINGS = ("workers", "name", "path", *READING)

ScoresByPart = dict[str, dict[str, float | None]]


@dataclass(frozen=True)
class Evaluation:
    """Scores over all rows, in the target's own units. Losses are halved mean squares."""

    train_loss: float
    train_objective: float
    validation_loss: float
    scores: ScoresByPart


class Training:
    """The solver of a run with everything that decides its outcome.

    Parameters
    ----------
    config : TrainingConfig
    prepared : PreparedData
    settings : choose.Settings
    pool : Pool
    saved : Checkpoint, optional
        Where an earlier attempt left off.
    sums : Checkpoint, optional
        What an earlier attempt summed over all rows before its first step: see `sums`.

    Attributes
    ----------
    solver : Solver
    rows : int
        Training rows processed so far.
    base_rate : float
        The learning rate at the start.
    optimum : Optimum or None
        The exact optimum of the same objective, where it could be had.
    changes : list of Change
        What was changed on the way, in order.
    sum_seconds : float
        What summing over all rows, before the first step, took.
    next_change : float
        Steps after which the next change is asked for that has not been made; infinite: none is.
    """

    def __init__(
        self,
        config: TrainingConfig,
        prepared: PreparedData,
        settings: choose.Settings,
        pool: Pool,
        saved: Checkpoint | None = None,
        sums: Checkpoint | None = None,
    ) -> None:
        self._config = config
        self._settings = settings
        self._scale = prepared.target_scale
        self._identity = identity(prepared, config)
        self.problem = _problem(config, prepared, pool)
        self.patience = Patience(config.patience)
        self.rows = 0
        self.changes: list[Change] = []
        self._asked: list[Tuning] = []  # changes that are asked for and not made yet
        self.next_change = math.inf
        self._unseen = False  # whether an epoch has ended that patience has not judged
        self._loss_limit = math.nan
        nothing = np.zeros(prepared.features + 1)
        self._best = nothing.copy()
        watch = Stopwatch()
        if sums is None:
            squares = self._squares_about(nothing)
            self._folds = self._gather(prepared, pool)
        else:
            squares = sums.state["squares"]
            self._folds = [Statistics(moments) for moments in sums.arrays.values()]
        self._train_squares, self._validation_squares = squares
        self.sum_seconds = watch.seconds
        self.optimum: Optimum | None = None
        if self._folds:
            self.optimum = while_idling(
                lambda: find_optimum(self._folds, config, self._scale), pool.idle
            )
            self.problem.penalty = self.optimum.penalty
        rate = None if saved is None else saved.state["base_rate"]
        self.solver: Solver = choose.make(
            config, settings, self.problem, target_scale=self._scale, rate=rate
        )
        self.base_rate: float = self.solver.rate
        if saved is not None:
            self._restore(saved)

    @property
    def step(self) -> int:
        """Steps taken."""
        return self.solver.step_count

    @property
    def epoch(self) -> float:
        """Epochs done, with the share of the present one."""
        return self.solver.passes

    @property
    def share(self) -> float:
        """Epochs done, as a share of those at most."""
        return min(1.0, self.solver.passes / self.solver.epochs_at_most)

    @property
    def end_is_open(self) -> bool:
        """Whether the steps at most say nothing of the end: full batches that were given no
        number of epochs stop at ``tol``, mostly long before."""
        return self._settings.full_batch and self.solver.iterative and self._config.epochs is None

    @property
    def loss(self) -> float:
        """Mean loss of the last batch, in the target's units squared."""
        return self._scale**2 * self.problem.loss

    @property
    def objective(self) -> float:
        """Loss and penalty, in the target's units squared."""
        return self._scale**2 * self.solver.objective(self.problem.loss)

    @property
    def bytes_published(self) -> int:
        """Bytes of parameters written for the workers so far."""
        if not self.problem.pool.n_workers:
            return 0
        if isinstance(self.solver, UnsynchronisedSGD):
            return self.solver.bytes_published
        return 8 * len(self.solver.parameters) * self.solver.rounds

    @property
    def bytes_gathered(self) -> int:
        """Bytes of partial sums, or of moments, read from what the workers wrote so far."""
        if not self.problem.pool.n_workers:
            return 0
        if isinstance(self.solver, OnePass):
            return self.solver.bytes_gathered
        if isinstance(self.solver, UnsynchronisedSGD):
            return self.solver.bytes_gathered
        if isinstance(self.solver, MiniBatchSGD):
            slots = self.solver.parts_summed
        else:
            slots = self._settings.plan.n_shards * self.solver.step_count
        return 8 * slots * (len(self.solver.parameters) + SLOT_EXTRAS)

    def take_step(self) -> bool:
        """One step; whether it ended an epoch.

        Raises
        ------
        DivergenceError
            The loss is not finite, or has grown a millionfold.
        """
        ended = self.solver.step()
        if isinstance(self.solver, OnePass):
            self.rows, self.optimum = self.solver.step_count, self.solver.optimum
        else:
            self.rows += self.problem.rows
        if not self.problem.loss <= self._loss_limit and self.solver.iterative:
            self._check_divergence()
        if ended and self.patience.epochs is not None:
            self._unseen = True
            self._look_at_validation()
        return ended

    def scale(self, n_workers: int) -> None:
        """Ask for another number of workers; the pool's `watch` brings it about.

        Raises
        ------
        UserError
            This run keeps the workers that it has.
        """
        pool = self.problem.pool
        if not self.solver.iterative:
            raise UserError("The exact solver keeps its workers: one pass is soon over.")
        if not 1 <= n_workers <= pool.capacity:
            raise UserError(f"This run has room for {pool.capacity:,} workers, not {n_workers:,}.")
        pool.resize(n_workers)
        if isinstance(self.solver, UnsynchronisedSGD):
            self.solver.scale(n_workers)

    # Changes between two steps

    @property
    def takes_batches(self) -> bool:
        """Whether it takes mini-batches, whose size and learning rate can be changed."""
        return isinstance(self.solver, MiniBatchSGD)

    @property
    def batch_size(self) -> int:
        """Rows a step, as asked for, that are in force now."""
        solver = self.solver
        if isinstance(solver, MiniBatchSGD):
            return solver.batch_plan.batch_size
        return self._settings.batch_size

    @property
    def next_rate(self) -> float:
        """Learning rate of the next step."""
        solver = self.solver
        return solver.next_rate if isinstance(solver, MiniBatchSGD) else solver.rate

    def ask(self, tuning: Tuning) -> None:
        """Take down that a change is wanted; `change` makes it. A `UserError`: it cannot be."""
        if not self.takes_batches:
            what = "all rows a step" if self.solver.iterative else "no steps"
            raise UserError(
                f"This run takes {what}: it has neither a learning rate nor batches to change.",
                "Start one with a --batch-size.",
            )
        tuning.check_rows(self.problem.rows_train)
        self._asked.append(tuning)
        self._note_next_change()

    def _note_next_change(self) -> None:
        self.next_change = min((each.at_step or 0 for each in self._asked), default=math.inf)

    def change(self) -> list[Change]:
        """Make the changes whose time has come. Between two steps only."""
        due = [each for each in self._asked if (each.at_step or 0) <= self.step]
        if not due or self.solver.finished:
            return []
        before = len(self.changes)
        for each in due:
            first_rate = self._safe_first_rate(each)  # a round or more: before anything moves
            self._asked.remove(each)
            self.changes += list(self._change(each, first_rate))
        self._note_next_change()
        return self.changes[before:]

    def _safe_first_rate(self, tuning: Tuning) -> float | None:
        """The rate of a new batch size, where nobody has given one so far."""
        solver, rows = self.solver, tuning.batch_size
        given = (each.name == "learning_rate" and not each.derived for each in self.changes)
        if (
            rows is None
            or rows == self.batch_size
            or tuning.learning_rate is not None
            or self._config.learning_rate is not None
            or any(given)
        ):
            return None
        assert isinstance(solver, MiniBatchSGD)
        plan = replace(solver.batch_plan, batch_size=rows)
        return choose.safe_rate(self._config, replace(self._settings, plan=plan), self.problem)

    def _change(self, tuning: Tuning, first_rate: float | None) -> Iterator[Change]:
        solver, rows, rate = self.solver, tuning.batch_size, tuning.learning_rate
        assert isinstance(solver, MiniBatchSGD)
        before, step = solver.next_rate, self.step
        if rows is not None and rows != self.batch_size:
            yield Change("batch_size", self.batch_size, rows, step)
            solver.set_batch_size(rows)
        if first_rate is not None:
            solver.set_first_rate(first_rate)
            if f"{solver.next_rate:.3g}" != f"{before:.3g}":
                yield Change("learning_rate", before, solver.next_rate, step, derived=True)
        if rate is not None and rate != before:
            solver.set_rate(rate)
            yield Change("learning_rate", before, rate, step)

    @property
    def staleness(self) -> Mapping[int, int] | None:
        """How many gradients were applied so many updates late; None where none can be."""
        return self.solver.staleness if isinstance(self.solver, AsynchronousSGD) else None

    def look(self) -> Iterator[float]:
        """Bring `rows` to what they were at moments within the present, or last, step that were
        not looked at yet, and give each moment (``time.perf_counter``)."""
        if isinstance(self.solver, OnePass):
            for when in self.solver.look():
                self.rows = self.solver.step_count
                yield when

    def evaluate(self) -> Evaluation:
        """Scores of all rows at the present parameters."""
        parameters, unit = self.solver.parameters, self._scale**2
        train = self.problem.training_scores(parameters)
        validation = self.problem.validation_scores(parameters)
        return Evaluation(
            train_loss=unit * train.loss,
            train_objective=unit * self.solver.objective(train.loss),
            validation_loss=unit * validation.loss,
            scores={
                "train": self._in_units(train, self._train_squares),
                "validation": self._in_units(validation, self._validation_squares),
            },
        )

    def conclude(self) -> str:
        """Take the parameters that the rules choose; why the training ended."""
        patience, solver = self.patience, self.solver
        if patience.best is not None:
            np.copyto(solver.parameters, self._best)
        return self._why_it_ended() + self._why_not_the_last()

    def _why_it_ended(self) -> str:
        solver = self.solver
        if self.patience.is_exhausted:
            return f"Stopped: no better validation loss for {self.patience.epochs} epochs."
        if not solver.iterative:
            return "Solved exactly, in one pass over the rows."
        if solver.converged:
            return f"Converged: the objective moves by less than {self._config.tol:g} an epoch."
        if self._config.epochs is not None:
            return f"All {solver.epoch:,} epochs are done."
        return f"{solver.epoch:,} epochs are done and the objective still moves; more may help."

    def _why_not_the_last(self) -> str:
        """Which step's parameters were taken, where it is not the last one's."""
        best = self.patience.best_step
        if self.patience.best is None or best == self.step:
            return ""
        return f" The model is that of step {best:,}, the best on the validation rows."

    @property
    def alpha(self) -> float:
        """The one asked for, or chosen."""
        if self.optimum is not None:
            return self.optimum.alpha
        assert self._config.alpha != "auto"
        return self._config.alpha

    @property
    def optimal_objective(self) -> float | None:
        """The lowest objective there is, in the target's units squared; None if not known."""
        return None if self.optimum is None else self._scale**2 * self.optimum.objective

    @property
    def optimal_loss(self) -> float:
        """Half the mean squared residual at the optimum, in the target's units squared."""
        return math.nan if self.optimum is None else self._scale**2 * self.optimum.loss

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is to be known about the optimum and the choice of alpha."""
        return () if self.optimum is None else self.optimum.warnings

    @property
    def gap_unit(self) -> float:
        """What a gap to the optimum is told as a share of: the optimum, or the target's variance
        (halved, as losses are) where the optimum is zero: a perfect fit."""
        optimum, variance = self.optimal_objective, 0.5 * self._scale**2
        return variance if optimum is None or optimum <= PERFECT_FIT * variance else optimum

    def gap_report(self, evaluation: Evaluation) -> dict[str, float | str]:
        """How far the objective is above the optimum, for a run's result; empty if not known.

        ``optimum_gap`` is a share of what ``optimum_gap_of`` names: the optimum, or the variance.
        """
        optimum, unit = self.optimal_objective, self.gap_unit
        if optimum is None or not self.solver.iterative:
            return {}
        gap = max(0.0, evaluation.train_objective - optimum)
        return {
            "optimal_objective": optimum,
            "optimum_gap": gap / unit,
            "optimum_gap_of": "optimum" if unit == optimum else "variance",
        }

    def report(self) -> dict[str, Any]:
        """How the steps went, for a run's result."""
        solver, patience = self.solver, self.patience
        return {
            "epochs": solver.epoch,
            "steps": solver.step_count,
            "learning_rate": self.base_rate,
            "changes": [each.to_json() for each in self.changes],
            "converged": solver.converged and not patience.is_exhausted,
            "validation_used_to_stop": patience.epochs is not None,
            "stopped_early": patience.is_exhausted,
            "consistency": self._settings.consistency,
            **self._consistency_report(),
        }

    def _consistency_report(self) -> dict[str, Any]:
        solver = self.solver
        if not isinstance(solver, UnsynchronisedSGD):
            return {}
        if not isinstance(solver, AsynchronousSGD):
            return {"sync_every": self._settings.sync_every, "updates": solver.rounds}
        counts = sorted(solver.staleness.items())
        total = sum(count for _, count in counts)
        return {
            "staleness": {
                "bound": solver.bound,
                "mean": sum(late * count for late, count in counts) / total if total else 0.0,
                "max": counts[-1][0] if counts else 0,
                "histogram": {str(late): count for late, count in counts},
            }
        }

    def checkpoint(self, seconds: float) -> Checkpoint:
        """The present state, after ``seconds`` of training. Whole within a step too: what a step
        changes, it changes after the round that it waits for."""
        limit = self._loss_limit
        state = {
            "solver": self.solver.state(),
            "rows": self.rows,
            "base_rate": self.base_rate,
            "loss_limit": None if math.isnan(limit) else limit,
            "patience": self.patience.state(),
            "seconds": seconds,
            "unseen": self._unseen,
            "changes": [each.to_json() for each in self.changes],
            "asked": [each.to_json() for each in self._asked],
        }
        arrays = self.solver.arrays()
        if self.patience.epochs is not None:
            arrays["best_validation"] = self._best
        return Checkpoint(self._identity, self.step, state, arrays)

    @property
    def checkpoint_bytes(self) -> int:
        """About how large one is."""
        return 4096 + sum(array.nbytes for array in self.solver.arrays().values())

    def _squares_about(self, parameters: NDArray[np.float64]) -> tuple[float, float]:
        """Squared residuals about their mean, of the training and of the validation rows."""
        train = self.problem.training_scores(parameters)
        validation = self.problem.validation_scores(parameters)
        return train.residual_variation, validation.residual_variation

    def _gather(self, prepared: PreparedData, pool: Pool) -> list[Statistics]:
        """The moments of each fold, where steps are shown against the optimum."""
        if not self._settings.with_statistics or self._settings.solver == OnePass.name:
            return []
        n_folds = fold_count(self._config, prepared.shards)
        return gather(pool, prepared.train_offsets, n_folds)

    def sums(self) -> Checkpoint:
        """What was summed over all rows before the first step, for another attempt."""
        arrays = {f"moments_{fold}": part.moments for fold, part in enumerate(self._folds)}
        squares = [self._train_squares, self._validation_squares]
        return Checkpoint(self._identity, 0, {"squares": squares}, arrays)

    @property
    def sums_bytes(self) -> int:
        """About how large they are."""
        return sum(part.moments.nbytes for part in self._folds)

    def _restore(self, saved: Checkpoint) -> None:
        state = saved.state
        self.solver.restore(state["solver"], saved.arrays)
        self.rows = state["rows"]
        self.base_rate = state["base_rate"]
        self.changes = [Change.from_json(each) for each in state["changes"]]
        self._asked = [Tuning(**each) for each in state["asked"]]
        self._note_next_change()
        limit = state["loss_limit"]
        self._loss_limit = math.nan if limit is None else limit
        self.patience.restore(state["patience"])
        if "best_validation" in saved.arrays:
            np.copyto(self._best, saved.arrays["best_validation"])
        if state.get("unseen"):
            self._look_at_validation()

    def _check_divergence(self) -> None:
        """Called when the loss is above its limit, not finite, or has no limit yet."""
        loss = self.problem.loss
        if math.isnan(self._loss_limit) and math.isfinite(loss):
            self._loss_limit = DIVERGED_FOLD * max(loss, 1.0)
            return
        safe = choose.safe_rate(self._config, self._settings, self.problem)
        suggested = float(f"{min(safe, self.solver.rate / 10):.1g}")
        raise DivergenceError(
            f"Training diverged at step {self.step:,}: the loss is {loss:.3g} times the target's "
            f"variance, with a learning rate of {self.solver.rate:.3g}.",
            f"Try --learning-rate {suggested:g}, or leave it out: Regatta then derives one.",
        )

    def _look_at_validation(self) -> None:
        scores = self.problem.validation_scores(self.solver.parameters)
        self._unseen = False
        if self.patience.exhausted(self.step, scores.loss):
            self.solver.converged = True
        if self.patience.best_step == self.step:
            np.copyto(self._best, self.solver.parameters)

    def _in_units(self, scores: Scores, total_squares: float) -> dict[str, float | None]:
        return scores.in_units(self._scale, total_squares)


def source_of(prepared: PreparedData, config: TrainingConfig) -> DataSource:
    """The prepared rows as a pool takes them."""
    folds: Sequence[int] = ()
    columns = prepared.columns
    if columns is not None:
        n_folds = fold_count(config, prepared.shards)
        folds = folds_of_shards(prepared.train_offsets, n_folds)
    return DataSource(
        prepared.directory,
        prepared.dtype,
        prepared.rows_train,
        prepared.rows_validation,
        prepared.features,
        prepared.shards,
        columns,
        tuple(folds),
    )


def identity(prepared: PreparedData, config: TrainingConfig) -> str:
    """A fingerprint of everything that decides the weights: rows and settings."""
    settings = {k: v for k, v in config.to_json().items() if k not in FREE_SETTINGS}
    return fingerprint({"data": prepared.key, "settings": settings})


def parameters_in_units(
    prepared: PreparedData, parameters: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float]:
    """Weights (n_features,) of standardised features, and intercept, in the target's units."""
    scale, mean = prepared.target_scale, prepared.target_mean
    return parameters[:-1] * scale, float(parameters[-1] * scale + mean)


def _problem(config: TrainingConfig, prepared: PreparedData, pool: Pool) -> Problem:
    objective = models.get(config.model)
    # An alpha that is yet to be chosen has no penalty yet.
    alpha = 0.0 if config.alpha == "auto" else config.alpha
    penalty = objective.penalty(alpha, config.l1_ratio, prepared.rows_train)
    return Problem(
        pool=pool,
        objective=objective,
        # Rows hold y / s: the data term shrinks by s², ‖w‖₁ by s, ‖w‖² by s².
        penalty=models.Penalty(penalty.l1 / prepared.target_scale, penalty.l2),
        train_offsets=tuple(prepared.train_offsets),
        validation_offsets=tuple(prepared.validation_offsets),
        n_features=prepared.features,
        max_row_norm2=prepared.max_row_norm2,
    )
