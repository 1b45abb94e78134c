"""The coordinator: runs one training job from its file to its model.

    lock ─▶ STARTING: import, prepare ─▶ RUNNING: steps of a solver on a pool of workers ─▶ model
                                            │ ▲
             between steps, every 0.3 s:    │ │ commands (pause, resume, stop), signals,
                                            ▼ │ checkpoints, figures, the record of the run

It owns the parameters; the workers compute, it adds up in shard order and updates. With one
worker or more it computes no gradient itself.
"""

from __future__ import annotations

import gc
import logging
import math
import platform
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regatta import data_pipeline, models
from regatta.configuration import TrainingConfig
from regatta.ingest.importer import Cancelled, ImportProgress
from regatta.ingest.table import ParsedTable
from regatta.metrics import Clock
from regatta.parameter_server.checkpoints import Checkpoint, CheckpointFolder
from regatta.parameter_server.protocol import SLOT_EXTRAS
from regatta.parameter_server.worker_pool import DataSource, Pool, PoolEvent, open_pool
from regatta.runs.directory import RunDirectory
from regatta.runs.metrics_store import MetricsWriter
from regatta.runs.recorder import Recorder
from regatta.runs.result import Outcome, fitted_model, result_object
from regatta.runs.signals import StopSignals
from regatta.runs.states import RunState
from regatta.runs.store import RunStore
from regatta.solvers import choose
from regatta.solvers.base import Solver
from regatta.solvers.problem import Problem
from regatta.solvers.stopping import Patience
from regatta.utils import (
    DivergenceError,
    RegattaError,
    Stopwatch,
    fingerprint,
    log_to,
    write_json,
)

TICK_SECONDS = 0.3
CHECKPOINT_SECONDS = 5.0
PAUSE_SECONDS = 0.05
RECORD_SECONDS = 1.0
# A loss this many times the first one is on its way to infinity.
DIVERGED_FOLD = 1e6
# Evaluations that decide nothing may take this share of the training time.
EVALUATION_SHARE = 0.05
# Settings that do not change the weights, and so may differ when a run is resumed.
FREE_SETTINGS = ("workers", "name", "path")

_log = logging.getLogger("regatta.coordinator")


@dataclass(frozen=True)
class TrainingProgress:
    """How far a run is; told about three times a second.

    ``stage`` is import, prepare or train; ``fraction`` of that stage, 0 to 1.
    """

    stage: str
    fraction: float
    step: int = 0
    epoch: float = 0.0
    epochs: int = 0
    loss: float | None = None
    validation_r2: float | None = None
    rows_per_second: float | None = None
    eta_seconds: float | None = None
    message: str = ""


ProgressCallback = Callable[[TrainingProgress], None]


class Stopped(Exception):
    """The run was told to stop, by a command or a signal."""


def run_training(
    run_id: str, store: RunStore, *, progress: ProgressCallback | None = None
) -> dict[str, Any]:
    """Train a run in this process, from its beginning or from its newest checkpoint.

    Parameters
    ----------
    run_id : str
    store : RunStore
    progress : callable, optional
        Told how far the run is.

    Returns
    -------
    dict
        The result, as ``regatta train --json`` prints it. Its ``state`` is "finished" or
        "stopped"; if a signal stopped the run, ``signal`` is its number.

    Raises
    ------
    UserError
        The file or a setting cannot be used; the run is FAILED.
    DivergenceError
        The loss grew without bound; the run is DIVERGED.
    RegattaError
        Another process works on the run, or it FAILED.
    """
    directory = store.directory(run_id)
    with directory.lock(), log_to(directory.log), StopSignals() as signals:
        job = Coordinator(run_id, store, directory, signals, progress or (lambda _: None))
        return job.run()


class Coordinator:
    """One attempt at one run. Use `run_training`."""

    def __init__(
        self,
        run_id: str,
        store: RunStore,
        directory: RunDirectory,
        signals: StopSignals,
        progress: ProgressCallback,
    ) -> None:
        self._run_id = run_id
        self._store = store
        self._directory = directory
        self._signals = signals
        self._progress = progress
        self._config: TrainingConfig = store.config(run_id)
        self._watch = Stopwatch()
        self._import_seconds = 0.0
        self._writer = MetricsWriter(directory.metrics)
        self._clock = Clock()
        self._recorder = Recorder(self._writer, self._clock)
        self._wish = ""  # the last command: pause, resume or stop
        self._step = 0
        self._evaluation_seconds = 0.0
        self._validation_r2: float | None = None
        self._next_evaluation = 0
        self._next_record = 0.0

    def run(self) -> dict[str, Any]:
        """From file to model, with every outcome written down."""
        self._store.update_state(self._run_id, RunState.STARTING, message="", hint="")
        try:
            result = self._train_file()
        except Stopped:
            return self._stopped()
        except DivergenceError as error:
            self._end(RunState.DIVERGED, error)
            raise
        except RegattaError as error:
            self._end(RunState.FAILED, error)
            raise
        except Exception as error:
            _log.error("The run failed.\n%s", traceback.format_exc())
            failure = RegattaError(
                f"The run failed: {type(error).__name__}: {error}.", f"See {self._directory.log}."
            )
            self._end(RunState.FAILED, failure)
            raise failure from error
        finally:
            self._writer.close()
        return result

    # From file to pool

    def _train_file(self) -> dict[str, Any]:
        config = self._config
        table, prepared = self._prepare()
        self._import_seconds = self._watch.seconds
        settings = choose.resolve(config, tuple(prepared.train_offsets))
        n_workers = choose.workers(config)
        self._store.update(self._run_id, workers=n_workers, solver=settings.solver)
        with prepared.hold():
            pool = open_pool(
                DataSource(
                    prepared.directory,
                    prepared.dtype,
                    prepared.rows_train,
                    prepared.rows_validation,
                    prepared.features,
                    prepared.shards,
                ),
                config.model,
                settings.arithmetic or prepared.dtype,
                n_workers,
                logs=self._directory.path,
                on_event=self._pool_event,
                idle=self._while_a_round_lasts,
            )
            try:
                return self._train(table, prepared, settings, pool)
            finally:
                pool.close()

    def _prepare(self) -> tuple[ParsedTable, data_pipeline.PreparedData]:
        config = self._config
        path = Path(config.path)
        _log.info("Run %s: %s, target %s.", self._run_id, path.name, config.target)

        def tell(found: ImportProgress) -> None:
            stage = "prepare" if found.stage == "prepare" else "import"
            self._tell(TrainingProgress(stage, found.fraction))

        self._tell(TrainingProgress("import", 0.0))
        try:
            table = data_pipeline.import_csv(path, progress=tell, cancelled=self._stop_requested)
            self._recorder.event(0, "import", f"{path.name}: {table.rows:,} rows read.")
            prepared = data_pipeline.prepare(
                table,
                target=config.target,
                drop=config.drop,
                seed=config.seed,
                validation=config.validation,
                shards=config.shards,
                precision=config.precision,
                progress=tell,
                cancelled=self._stop_requested,
            )
        except Cancelled:
            raise Stopped from None
        self._recorder.event(
            0,
            "prepare",
            f"{prepared.rows_train:,} training and {prepared.rows_validation:,} validation rows, "
            f"{prepared.features:,} features.",
        )
        for warning in prepared.warnings:
            self._recorder.event(0, "warning", warning)
        return table, prepared

    # Training

    def _train(
        self,
        table: ParsedTable,
        prepared: data_pipeline.PreparedData,
        settings: choose.Settings,
        pool: Pool,
    ) -> dict[str, Any]:
        config = self._config
        objective = models.get(config.model)
        penalty = objective.penalty(config.alpha, config.l1_ratio, prepared.rows_train)
        scale = prepared.target_scale
        problem = Problem(
            pool=pool,
            objective=objective,
            penalty=models.Penalty(penalty.l1 / scale, penalty.l2),
            train_offsets=tuple(prepared.train_offsets),
            validation_offsets=tuple(prepared.validation_offsets),
            n_features=prepared.features,
            max_row_norm2=prepared.max_row_norm2,
        )
        identity = _identity(prepared.key, config)
        training = _Training(
            table=table,
            prepared=prepared,
            settings=settings,
            problem=problem,
            pool=pool,
            checkpoints=CheckpointFolder(self._directory.checkpoints, identity),
            identity=identity,
            patience=Patience(config.patience),
            loss_unit=scale * scale,
            slot_bytes=8 * (prepared.features + 1 + SLOT_EXTRAS),
        )
        solver = self._make_solver(training)
        self._store.update_state(
            self._run_id,
            RunState.RUNNING,
            epochs=float(settings.epochs),
            total_steps=solver.total_steps,
            step=solver.step_count,
        )
        self._recorder.event(solver.step_count, "started", _describe(config, settings, pool))
        self._recorder.sample(pool.samples(), force=True)
        self._writer.flush()
        gc.collect()
        gc.freeze()
        self._clock.start()
        try:
            self._loop(training, solver)
        finally:
            gc.unfreeze()
        return self._finish(training, solver)

    def _make_solver(self, training: _Training) -> Solver:
        saved = training.checkpoints.newest()
        if saved is None:
            self._forget_after(-1)
            return choose.make(self._config, training.settings, training.problem)
        state = saved.state
        solver = choose.make(
            self._config, training.settings, training.problem, rate=state["base_rate"]
        )
        solver.restore(state["solver"], saved.arrays)
        training.restore(state, saved.arrays)
        self._clock = Clock(state["seconds"])
        self._forget_after(saved.step)
        self._recorder = Recorder(self._writer, self._clock, training.rows)
        self._step = saved.step
        self._recorder.event(saved.step, "resumed", f"Resumed from step {saved.step:,}.")
        return solver

    def _forget_after(self, step: int) -> None:
        self._writer.flush()
        self._writer.forget_after(step)

    def _loop(self, training: _Training, solver: Solver) -> None:
        """Steps until the solver is done. Everything in here costs time at every step."""
        problem, recorder = training.problem, self._recorder
        training.base_rate = training.base_rate or solver.rate
        now = time.perf_counter()
        next_tick, next_save = now + TICK_SECONDS, now + CHECKPOINT_SECONDS
        while not solver.finished:
            solver.measure = recorder.due(solver.step_count + 1, now)
            ended = solver.step()
            training.rows += problem.rows
            if not problem.loss <= training.loss_limit:
                self._check_divergence(training, solver)
            now = time.perf_counter()
            if solver.measure:
                self._point(training, solver, now)
            if ended:
                self._end_of_epoch(training, solver)
            if now >= next_tick:
                self._tick(training, solver)
                now = time.perf_counter()
                next_tick = now + TICK_SECONDS
                if now >= next_save:
                    self._save(training, solver)
                    next_save = time.perf_counter() + CHECKPOINT_SECONDS

    def _check_divergence(self, training: _Training, solver: Solver) -> None:
        """Called when the loss is above its limit, not finite, or has no limit yet."""
        loss = training.problem.loss
        if math.isnan(training.loss_limit) and math.isfinite(loss):
            training.loss_limit = DIVERGED_FOLD * max(loss, 1.0)
            return
        rate = solver.rate
        safe = choose.safe_rate(self._config, training.settings, training.problem)
        suggested = float(f"{min(safe, rate / 10):.1g}")
        raise DivergenceError(
            f"Training diverged at step {solver.step_count:,}: the loss is {loss:.3g} times the "
            f"target's variance, with a learning rate of {rate:.3g}.",
            f"Try --learning-rate {suggested:g}, or leave it out: Regatta then derives one.",
        )

    def _point(self, training: _Training, solver: Solver, now: float) -> None:
        unit, loss = training.loss_unit, training.problem.loss
        gathered = training.slot_bytes * training.parts
        self._recorder.point(
            solver.step_count,
            now,
            epoch=solver.step_count / solver.steps_per_epoch,
            rows=training.rows,
            loss=unit * loss,
            objective=unit * solver.objective(loss),
            learning_rate=solver.rate,
            gradient_norm=solver.gradient_norm,
            bytes_published=8 * len(solver.parameters) * solver.step_count,
            bytes_gathered=gathered * solver.step_count,
        )

    def _end_of_epoch(self, training: _Training, solver: Solver) -> None:
        patience = training.patience
        if patience.epochs is not None:
            scores = training.problem.validation_scores(solver.parameters)
            if patience.exhausted(solver.step_count, scores.loss):
                solver.converged = True
                training.reason = (
                    f"no better validation loss for {patience.epochs} epochs; "
                    f"the best step was {patience.best_step:,}"
                )
            if patience.best_step == solver.step_count:
                np.copyto(training.best_parameters, solver.parameters)
        spent = self._evaluation_seconds
        affordable = spent <= EVALUATION_SHARE * self._clock.seconds
        if affordable and solver.step_count >= self._next_evaluation and not solver.finished:
            self._evaluate(training, solver)

    def _evaluate(self, training: _Training, solver: Solver) -> dict[str, dict[str, float | None]]:
        """Scores of all rows at the present parameters, as a row of ``evaluations``."""
        watch = Stopwatch()
        train = training.problem.training_scores(solver.parameters)
        validation = training.problem.validation_scores(solver.parameters)
        scale, unit = training.prepared.target_scale, training.loss_unit
        scores = {
            "train": train.in_units(scale, training.train_squares),
            "validation": validation.in_units(scale, training.validation_squares),
        }
        self._writer.add(
            "evaluations",
            step=solver.step_count,
            epoch=solver.step_count / solver.steps_per_epoch,
            seconds=self._clock.seconds,
            train_loss=unit * train.loss,
            train_objective=unit * solver.objective(train.loss),
            validation_loss=unit * validation.loss,
            **{
                f"{part}_{name}": value
                for part, found in scores.items()
                for name, value in found.items()
            },
        )
        self._validation_r2 = scores["validation"]["r2"]
        self._next_evaluation = int(1.02 * solver.step_count) + 1
        self._evaluation_seconds += watch.seconds
        return scores

    def _finish(self, training: _Training, solver: Solver) -> dict[str, Any]:
        if training.patience.epochs is not None and training.patience.best is not None:
            np.copyto(solver.parameters, training.best_parameters)
        self._clock.stop()
        self._point(training, solver, time.perf_counter())
        scores = self._evaluate(training, solver)
        self._recorder.sample(training.pool.samples(), force=True)
        reason = training.reason or _reason(solver, self._config)
        kind = "converged" if solver.converged else "finished"
        self._recorder.event(solver.step_count, kind, reason)
        result = self._write_results(training, solver, scores)
        self._writer.flush()
        self._store.update_state(
            self._run_id,
            RunState.FINISHED,
            step=solver.step_count,
            progress=1.0,
            message=reason,
            train_r2=scores["train"]["r2"],
            validation_r2=scores["validation"]["r2"],
            rows_per_second=result["rows_per_second"],
        )
        return result

    # Between steps

    def _tick(self, training: _Training, solver: Solver) -> None:
        self._step = solver.step_count
        self._obey(training, solver)
        self._recorder.sample(training.pool.samples())
        self._writer.flush()
        self._report(training, solver)

    def _obey(self, training: _Training, solver: Solver) -> None:
        """Take commands; stand still while the last one was pause."""
        self._look_for_commands()
        if self._wish == "pause":
            self._pause(training, solver)
        if self._stop_requested():
            self._save(training, solver)
            self._clock.stop()
            raise Stopped

    def _pause(self, training: _Training, solver: Solver) -> None:
        self._clock.stop()
        self._save(training, solver)
        self._recorder.event(solver.step_count, "paused", f"Paused at step {solver.step_count:,}.")
        self._writer.flush()
        self._report(training, solver, force=True)
        self._store.update_state(self._run_id, RunState.PAUSED, step=solver.step_count)
        while self._wish == "pause" and not self._stop_requested():
            self._recorder.sample(training.pool.samples())
            self._writer.flush()
            time.sleep(PAUSE_SECONDS)
            self._look_for_commands()
        if not self._stop_requested():
            self._store.update_state(self._run_id, RunState.RUNNING)
            self._recorder.event(solver.step_count, "resumed", "Resumed.")
            self._clock.start()

    def _save(self, training: _Training, solver: Solver) -> None:
        state = {
            "solver": solver.state(),
            "seconds": self._clock.seconds,
            **training.state(),
        }
        arrays = {**solver.arrays(), **training.arrays()}
        checkpoint = Checkpoint(training.identity, solver.step_count, state, arrays)
        training.checkpoints.save(checkpoint)
        self._recorder.event(
            solver.step_count, "checkpoint", f"Checkpoint at step {solver.step_count:,}."
        )

    def _look_for_commands(self) -> None:
        for command in self._store.take_commands(self._run_id):
            _log.info("Told to %s.", command)
            self._wish = command

    def _stop_requested(self) -> bool:
        return self._wish == "stop" or self._signals.received is not None

    def _while_a_round_lasts(self) -> None:
        """Called by the pool during long rounds and while workers start."""
        self._writer.flush()

    def _pool_event(self, event: PoolEvent) -> None:
        level = logging.WARNING if event.kind == "worker_died" else logging.INFO
        _log.log(level, event.message)
        self._recorder.event(self._step, event.kind, event.message, event.rank)
        self._writer.flush()

    def _tell(self, progress: TrainingProgress) -> None:
        """Report a stage before training."""
        now = time.monotonic()
        if now >= self._next_record:
            self._next_record = now + RECORD_SECONDS
            self._look_for_commands()
            words = {"import": "Reading the file", "prepare": "Preparing the rows"}
            message = f"{words[progress.stage]}: {progress.fraction:.0%}"
            self._store.note_progress(self._run_id, message=message, progress=progress.fraction)
        self._progress(progress)

    def _report(self, training: _Training, solver: Solver, *, force: bool = False) -> None:
        share = min(1.0, solver.step_count / solver.total_steps)
        seconds = self._clock.seconds
        self._progress(
            TrainingProgress(
                "train",
                share,
                step=solver.step_count,
                epoch=solver.step_count / solver.steps_per_epoch,
                epochs=training.settings.epochs,
                loss=training.loss_unit * training.problem.loss,
                validation_r2=self._validation_r2,
                rows_per_second=self._recorder.rows_per_second,
                eta_seconds=seconds * (1.0 - share) / share if share else None,
            )
        )
        now = time.monotonic()
        if force or now >= self._next_record:
            self._next_record = now + RECORD_SECONDS
            self._store.note_progress(
                self._run_id,
                step=solver.step_count,
                progress=share,
                message="",
                validation_r2=self._validation_r2,
                rows_per_second=self._recorder.rows_per_second,
            )

    # Ends

    def _stopped(self) -> dict[str, Any]:
        number = self._signals.received
        self._recorder.event(self._step, "stopped", f"Stopped at step {self._step:,}.")
        self._writer.flush()
        self._store.update_state(
            self._run_id,
            RunState.STOPPED,
            step=self._step,
            message=f"Stopped at step {self._step:,}.",
            hint="Resume goes on from there.",
        )
        result: dict[str, Any] = {
            "run_id": self._run_id,
            "state": str(RunState.STOPPED),
            "step": self._step,
        }
        return result if number is None else {**result, "signal": number}

    def _end(self, state: RunState, error: RegattaError) -> None:
        _log.error("%s", error)
        self._recorder.event(self._step, str(state), str(error))
        self._writer.flush()
        self._store.update_state(
            self._run_id, state, message=error.message, hint=error.hint, step=self._step
        )

    def _write_results(
        self, training: _Training, solver: Solver, scores: dict[str, dict[str, float | None]]
    ) -> dict[str, Any]:
        """Write model and result; returns the result."""
        config, prepared = self._config, training.prepared
        model = fitted_model(
            self._run_id, config, training.table, prepared, solver.parameters, scores
        )
        model.save(self._directory.model)
        outcome = Outcome(
            run_id=self._run_id,
            rows_processed=training.rows,
            base_rate=training.base_rate,
            n_workers=training.pool.n_workers,
            import_seconds=self._import_seconds,
            train_seconds=self._clock.seconds,
            total_seconds=self._watch.seconds,
            scores=scores,
        )
        result = result_object(outcome, config, prepared, training.settings, solver, model)
        result["model_path"] = str(self._directory.model)
        write_json(self._directory.result, result)
        return result


@dataclass
class _Training:
    """What belongs together while one attempt trains."""

    table: ParsedTable
    prepared: data_pipeline.PreparedData
    settings: choose.Settings
    problem: Problem
    pool: Pool
    checkpoints: CheckpointFolder
    identity: str
    patience: Patience
    loss_unit: float
    slot_bytes: int
    rows: int = 0
    base_rate: float | None = None
    loss_limit: float = float("nan")
    reason: str = ""

    def __post_init__(self) -> None:
        self.best_parameters = np.zeros(self.problem.n_features + 1)
        self.parts = (
            self.settings.plan.n_shards if self.settings.full_batch else self.settings.plan.parts
        )
        nothing = np.zeros(self.problem.n_features + 1)
        self.train_squares = self.problem.training_scores(nothing).residual_variation
        self.validation_squares = self.problem.validation_scores(nothing).residual_variation

    def state(self) -> dict[str, Any]:
        limit = self.loss_limit
        return {
            "rows": self.rows,
            "base_rate": self.base_rate,
            "loss_limit": None if math.isnan(limit) else limit,
            "patience": self.patience.state(),
        }

    def arrays(self) -> dict[str, NDArray[np.float64]]:
        return {} if self.patience.epochs is None else {"best_validation": self.best_parameters}

    def restore(self, state: dict[str, Any], arrays: dict[str, NDArray[np.float64]]) -> None:
        self.rows = state["rows"]
        self.base_rate = state["base_rate"]
        limit = state["loss_limit"]
        self.loss_limit = float("nan") if limit is None else limit
        self.patience.restore(state["patience"])
        if "best_validation" in arrays:
            np.copyto(self.best_parameters, arrays["best_validation"])


def _identity(key: str, config: TrainingConfig) -> str:
    """A fingerprint of everything that decides the weights: data, settings, versions."""
    settings = {k: v for k, v in config.to_json().items() if k not in FREE_SETTINGS}
    return fingerprint({"data": key, "settings": settings})


def _describe(config: TrainingConfig, settings: choose.Settings, pool: Pool) -> str:
    crew = f"{pool.n_workers} workers" if pool.n_workers != 1 else "1 worker"
    if pool.n_workers == 0:
        crew = "in this process"
    batch = "all rows a step" if settings.full_batch else f"{settings.batch_size:,} rows a step"
    return f"{config.model}, {settings.solver}, {batch}, {crew}, {platform.machine()}."


def _reason(solver: Solver, config: TrainingConfig) -> str:
    if solver.converged:
        return f"Converged: the objective improves by less than {config.tol:g} an epoch."
    if config.epochs is not None:
        return f"All {solver.epoch:,} epochs are done."
    return f"{solver.epoch:,} epochs are done and the objective still moves; more may help."
