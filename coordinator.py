"""The coordinator: runs one training job from its file to its model.

    lock ─▶ STARTING: import, prepare ─▶ RUNNING: steps of a solver on a pool of workers ─▶ model
                                            │ ▲
             between steps, every 0.3 s:    │ │ commands (pause, resume, stop), signals,
                                            ▼ │ checkpoints, figures, the record of the run

It owns the parameters; the workers compute, it adds up in shard order and updates. With one
worker or more it computes no gradient itself.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import sqlite3
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regatta import data_pipeline
from regatta.configuration import TrainingConfig
from regatta.data_pipeline import PreparedData
from regatta.ingest.importer import Cancelled, ImportProgress
from regatta.ingest.table import ParsedTable
from regatta.metrics import Clock
from regatta.parameter_server.checkpoints import CheckpointFolder
from regatta.parameter_server.worker_pool import Pool, PoolEvent, open_pool
from regatta.runs.directory import RunDirectory
from regatta.runs.metrics_store import MetricsWriter
from regatta.runs.recorder import Recorder
from regatta.runs.result import Seconds, write_results
from regatta.runs.signals import StopSignals
from regatta.runs.states import RunState
from regatta.runs.store import RunStore
from regatta.solvers import choose
from regatta.solvers.training import Evaluation, Training, identity, source_of
from regatta.utils import DivergenceError, RegattaError, Stopwatch, log_to

TICK_SECONDS = 0.3
CHECKPOINT_SECONDS = 5.0
PAUSE_SECONDS = 0.05
RECORD_SECONDS = 1.0
# Evaluations that decide nothing may take this share of the training time.
EVALUATION_SHARE = 0.05
EVALUATION_GROWTH = 1.02

_log = logging.getLogger("regatta.coordinator")


@dataclass(frozen=True)
class TrainingProgress:
    """How far a run is; told about three times a second.

    ``stage`` is import, prepare or train; ``fraction`` of that stage, 0 to 1. ``loss`` is in the
    target's units squared. ``eta_seconds`` is None where nothing tells when the run will end.
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
        self._step = store.get(run_id).step or 0
        self._resumed_at = 0  # step and seconds of training where this attempt begins
        self._resumed_seconds = 0.0
        self._evaluation_seconds = 0.0
        self._validation_r2: float | None = None
        self._next_evaluation = 0
        self._next_record = 0.0

    def run(self) -> dict[str, Any]:
        """From file to model, with every outcome written down."""
        self._store.update_state(self._run_id, RunState.STARTING, message="", hint="")
        try:
            return self._run()
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
            with contextlib.suppress(sqlite3.Error):
                self._writer.close()

    def _run(self) -> dict[str, Any]:
        config = self._config
        choose.check(config)
        table, prepared = self._prepare()
        self._import_seconds = self._watch.seconds
        settings = choose.resolve(config, tuple(prepared.train_offsets), prepared.features)
        if settings.note:
            self._event("warning", settings.note)
        n_workers = choose.workers(config)
        self._store.update(self._run_id, workers=n_workers, solver=settings.solver)
        with prepared.hold():
            pool = open_pool(
                source_of(prepared),
                config.model,
                settings.arithmetic or prepared.dtype,
                n_workers,
                logs=self._directory.path,
                with_statistics=settings.with_statistics,
                on_event=self._pool_event,
                idle=self._writer.flush,
            )
            try:
                return self._train(table, prepared, settings, pool)
            finally:
                pool.close()

    # From a file to rows

    def _prepare(self) -> tuple[ParsedTable, PreparedData]:
        config, path = self._config, Path(self._config.path)
        _log.info("Run %s: %s, target %s.", self._run_id, path.name, config.target)

        def tell(found: ImportProgress) -> None:
            stage = "prepare" if found.stage == "prepare" else "import"
            self._tell_preparing(TrainingProgress(stage, found.fraction))

        self._tell_preparing(TrainingProgress("import", 0.0))
        try:
            table = data_pipeline.import_csv(path, progress=tell, cancelled=self._must_stop)
            self._recorder.event(0, "import", f"{path.name}: {table.rows:,} rows read.")
            prepared = data_pipeline.prepare(
                table,
                target=config.target,
                drop=config.drop,
                seed=config.seed,
                validation=config.validation,
                shards=config.shards,
                precision=choose.precision(config),
                progress=tell,
                cancelled=self._must_stop,
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
        self, table: ParsedTable, prepared: PreparedData, settings: choose.Settings, pool: Pool
    ) -> dict[str, Any]:
        folder = CheckpointFolder(self._directory.checkpoints, identity(prepared, self._config))
        saved = folder.newest()
        training = Training(self._config, prepared, settings, pool, saved)
        self._step = self._resumed_at = training.step
        self._writer.flush()
        self._writer.forget_after(training.step if saved else -1)
        if saved is not None:
            self._resumed_seconds = saved.state["seconds"]
            self._clock = Clock(self._resumed_seconds)
            self._recorder = Recorder(self._writer, self._clock, training.rows)
            self._event("resumed", f"Resumed from step {training.step:,}.")
        self._store.update_state(
            self._run_id,
            RunState.RUNNING,
            # Where the end is open they would only say how many are allowed.
            epochs=None if training.end_is_open else float(settings.epochs),
            total_steps=None if training.end_is_open else training.solver.total_steps,
            step=training.step,
            progress=training.share,
            message="",
        )
        if training.optimal_objective is not None:
            self._writer.fact("optimal_objective", training.optimal_objective)
            self._writer.fact("optimal_loss", training.optimal_loss)
            self._writer.fact("gap_unit", training.gap_unit)
        self._event("started", settings.describe(self._config, pool.n_workers))
        self._recorder.sample(pool.samples(), force=True)
        self._writer.flush()
        gc.collect()
        gc.freeze()
        self._clock.start()
        try:
            self._loop(training, folder, pool)
        finally:
            gc.unfreeze()
        return self._finish(training, table, prepared, settings, pool)

    def _loop(self, training: Training, folder: CheckpointFolder, pool: Pool) -> None:
        """Steps until the solver is done. Everything in here costs time at every step."""
        solver, recorder = training.solver, self._recorder
        now = time.perf_counter()
        next_tick, next_save = now + TICK_SECONDS, now + CHECKPOINT_SECONDS
        while not solver.finished:
            solver.measure = recorder.due(solver.step_count + 1, now)
            ended = training.take_step()
            now = time.perf_counter()
            if solver.measure:
                recorder.point(training, now)
            if ended and solver.iterative and not solver.finished:
                self._evaluate_if_cheap(training)
            if now >= next_tick:
                self._tick(training, folder, pool)
                now = time.perf_counter()
                next_tick = now + TICK_SECONDS
                if now >= next_save:
                    self._save(training, folder)
                    next_save = time.perf_counter() + CHECKPOINT_SECONDS

    def _evaluate_if_cheap(self, training: Training) -> None:
        affordable = self._evaluation_seconds <= EVALUATION_SHARE * self._clock.seconds
        if affordable and training.step >= self._next_evaluation:
            self._evaluate(training)

    def _evaluate(self, training: Training) -> Evaluation:
        watch = Stopwatch()
        found = training.evaluate()
        self._recorder.evaluation(training, found)
        self._validation_r2 = found.scores["validation"]["r2"]
        self._next_evaluation = int(EVALUATION_GROWTH * training.step) + 1
        self._evaluation_seconds += watch.seconds
        return found

    def _finish(
        self,
        training: Training,
        table: ParsedTable,
        prepared: PreparedData,
        settings: choose.Settings,
        pool: Pool,
    ) -> dict[str, Any]:
        self._clock.stop()
        reason = training.conclude()
        self._step = training.step
        if training.step > self._resumed_at:
            self._recorder.point(training, time.perf_counter())
        evaluation = self._evaluate(training)
        scores = evaluation.scores
        self._recorder.sample(pool.samples(), force=True)
        for warning in training.warnings:
            self._event("warning", warning)
        self._event("converged" if training.solver.converged else "finished", reason)
        result = write_results(
            self._directory,
            self._config,
            table,
            prepared,
            settings,
            training,
            n_workers=pool.n_workers,
            evaluation=evaluation,
            seconds=Seconds(
                self._import_seconds,
                self._clock.seconds,
                self._resumed_seconds + self._watch.seconds,
            ),
        )
        self._writer.flush()
        self._store.update_state(
            self._run_id,
            RunState.FINISHED,
            step=training.step,
            progress=1.0,
            message=reason,
            train_r2=scores["train"]["r2"],
            validation_r2=scores["validation"]["r2"],
            rows_per_second=result["rows_per_second"],
        )
        return result

    # Between steps

    def _tick(self, training: Training, folder: CheckpointFolder, pool: Pool) -> None:
        self._step = training.step
        self._look_for_commands()
        if self._wish == "pause":
            self._pause(training, folder, pool)
        if self._must_stop():
            self._save(training, folder)
            self._clock.stop()
            if not training.solver.iterative:
                self._step = 0  # nothing was kept, so a resume begins again
            raise Stopped
        self._recorder.sample(pool.samples())
        self._writer.flush()
        self._tell_training(training)

    def _pause(self, training: Training, folder: CheckpointFolder, pool: Pool) -> None:
        """Stand still until told otherwise."""
        self._clock.stop()
        self._save(training, folder)
        self._event("paused", f"Paused at step {training.step:,}.")
        self._writer.flush()
        self._tell_training(training, force=True)
        self._store.update_state(self._run_id, RunState.PAUSED, step=training.step)
        while self._wish == "pause" and not self._must_stop():
            self._recorder.sample(pool.samples())
            self._writer.flush()
            time.sleep(PAUSE_SECONDS)
            self._look_for_commands()
        if not self._must_stop():
            self._store.update_state(self._run_id, RunState.RUNNING)
            self._event("resumed", "Resumed.")
            self._clock.start()

    def _save(self, training: Training, folder: CheckpointFolder) -> None:
        if not training.solver.iterative:
            return  # a pass starts again: it is over in the time that a checkpoint takes
        folder.save(training.checkpoint(self._clock.seconds))
        self._event("checkpoint", f"Checkpoint at step {training.step:,}.")

    def _look_for_commands(self) -> None:
        for command in self._store.take_commands(self._run_id):
            _log.info("Told to %s.", command)
            self._wish = command

    def _must_stop(self) -> bool:
        return self._wish == "stop" or self._signals.received is not None

    def _pool_event(self, event: PoolEvent) -> None:
        level = logging.WARNING if event.kind == "worker_died" else logging.INFO
        _log.log(level, event.message)
        self._event(event.kind, event.message, event.rank)
        self._writer.flush()

    def _event(self, kind: str, message: str, rank: int | None = None) -> None:
        self._recorder.event(self._step, kind, message, rank)

    # What is told to others

    def _tell_preparing(self, progress: TrainingProgress) -> None:
        if self._record_is_due():
            self._look_for_commands()
            words = {"import": "Reading the file", "prepare": "Preparing the rows"}
            message = f"{words[progress.stage]}: {progress.fraction:.0%}"
            self._store.note_progress(self._run_id, message=message, progress=progress.fraction)
        self._progress(progress)

    def _tell_training(self, training: Training, *, force: bool = False) -> None:
        share, rate = training.share, self._recorder.rows_per_second
        seconds = self._clock.seconds
        foreseen = share > 0 and not training.end_is_open
        self._progress(
            TrainingProgress(
                "train",
                share,
                step=training.step,
                epoch=training.epoch,
                epochs=training.solver.total_steps // training.solver.steps_per_epoch,
                loss=training.loss,
                validation_r2=self._validation_r2,
                rows_per_second=rate,
                eta_seconds=seconds * (1.0 - share) / share if foreseen else None,
            )
        )
        if force or self._record_is_due():
            self._store.note_progress(
                self._run_id,
                step=training.step,
                progress=share,
                message="",
                validation_r2=self._validation_r2,
                rows_per_second=rate,
            )

    def _record_is_due(self) -> bool:
        now = time.monotonic()
        if now < self._next_record:
            return False
        self._next_record = now + RECORD_SECONDS
        return True

    # Other ends

    def _stopped(self) -> dict[str, Any]:
        number = self._signals.received
        message = f"Stopped at step {self._step:,}."
        self._event("stopped", message)
        self._writer.flush()
        self._store.update_state(
            self._run_id,
            RunState.STOPPED,
            step=self._step,
            message=message,
            hint="Resume goes on from there.",
        )
        result = {"run_id": self._run_id, "state": str(RunState.STOPPED), "step": self._step}
        return result if number is None else {**result, "signal": number}

    def _end(self, state: RunState, error: RegattaError) -> None:
        _log.error("%s", error)
        self._event(str(state), str(error))
        with contextlib.suppress(sqlite3.Error):  # which may be what ended the run
            self._writer.flush()
        self._store.update_state(
            self._run_id, state, message=error.message, hint=error.hint, step=self._step
        )
