"""The coordinator: runs one training job from its file to its model.

    lock ─▶ STARTING: import, prepare ─▶ RUNNING: steps of a solver on a pool of workers ─▶ model
                                            │ ▲
             every 0.3 s, between steps     │ │ commands (pause, resume, stop), signals,
             and within long ones:          ▼ │ dead workers, figures, the record of the run

It owns the parameters; the workers compute, it adds up in shard order and updates. With one
worker or more it computes no gradient itself. A run whose disk is full stands still, as if it were
paused, until there is room.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import math
import os
import sqlite3
import statistics
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from regatta import data_pipeline
from regatta.configuration import TrainingConfig
from regatta.data_pipeline import PreparedData
from regatta.ingest.importer import Cancelled, ImportProgress
from regatta.ingest.table import ParsedTable
from regatta.metrics import Clock
from regatta.parameter_server.checkpoints import CheckpointFolder
from regatta.parameter_server.ticket_pool import open_pool
from regatta.parameter_server.update_log import UpdateLog
from regatta.parameter_server.worker_pool import Pool, PoolEvent
from regatta.runs.diagnosis import Watch, reference_of
from regatta.runs.directory import RunDirectory
from regatta.runs.metrics_store import MetricsReader, MetricsWriter
from regatta.runs.recorder import Recorder
from regatta.runs.result import Seconds, write_results
from regatta.runs.room import RESERVE_BYTES, Reserve, finds_room, lacks_room
from regatta.runs.signals import StopSignals
from regatta.runs.states import RunState
from regatta.runs.store import RunStore
from regatta.runs.tuning import COMMAND as SET
from regatta.runs.tuning import Tuning
from regatta.solvers import choose
from regatta.solvers.one_pass import OnePass
from regatta.solvers.training import Evaluation, Training, identity, source_of
from regatta.solvers.unsynchronised import UnsynchronisedSGD
from regatta.utils import DivergenceError, RegattaError, Stopwatch, UserError, log_to

TICK_SECONDS = 0.3
SCALE_SECONDS = 0.05  # between two looks while workers come or go
# So often a checkpoint is saved for good. Between, one is noted that outlives the death of this
# process alone: as often as takes that share of the time, at every look around at the soonest.
CHECKPOINT_SECONDS = 5.0
CHECKPOINT_SHARE = 0.005
# What is summed over all rows before the first step is kept for a resume, where it took longer.
SUM_SECONDS = 0.2
SUM_BYTES = 64_000_000
PAUSE_SECONDS = 0.05
ROOM_SECONDS = 1.0  # between two looks whether a full disk has room again
RECORD_SECONDS = 1.0
# Set, it makes runs whose workers do not wait for each other write every update to updates.log.
LOG_UPDATES = "REGATTA_LOG_UPDATES"
# Evaluations that decide nothing may take this share of the training time, and some more at the
# start, where a loss falls fastest: a further share, up to so many seconds.
EVALUATION_SHARE = 0.05
EARLY_SHARE, EARLY_SECONDS = 0.1, 0.3
EVALUATION_GROWTH = 1.02
# What one costs is judged by the last few: some of them waited for a worker that died or stood.
EVALUATIONS_JUDGED = 5
# Counts of a run's record that its coordinator keeps; what each counts.
COUNTED = {"rows_trained": "", "worker_deaths": "worker_died", "checkpoints": "checkpoint"}

T = TypeVar("T")

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


def seconds_for_evaluations(trained: float) -> float:
    """What evaluations that decide nothing may have cost after some seconds of training."""
    return EVALUATION_SHARE * trained + min(EARLY_SECONDS, EARLY_SHARE * trained)


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
        self._wanted: int | None = None  # workers, where the run was told to scale
        self._tunings: list[Tuning] = []  # asked for, and not taken down by the training
        self._unsaved = self._untold = False  # whether a change is neither kept nor told yet
        self._within_step = False
        self._n_workers = 0
        record = store.get(run_id)
        self._step = record.step or 0
        self._counts_before = {name: getattr(record, name) for name in COUNTED}
        self._seen = Counter[str]()  # events of this attempt, by kind
        self._rows: Callable[[], int] = lambda: 0  # of this attempt
        self._resumed_at = 0  # step and seconds of training where this attempt begins
        self._resumed_seconds = 0.0
        self._evaluation_seconds = 0.0
        self._evaluation_costs = deque[float](maxlen=EVALUATIONS_JUDGED)
        self._checkpoint_seconds = 0.0
        self._validation_r2: float | None = None
        self._next_evaluation = 0
        self._next_record = 0.0
        self._next_tick = 0.0
        self._next_look = 0.0  # of its own: else ticks within rounds put it off for ever
        self._stands = False  # paused, or waiting for room
        self._saved_step = 0
        self._until_next_note = 0.0  # seconds
        self._reserve = Reserve(directory.room)
        self._pool: Pool | None = None
        self._training: Training | None = None  # once it can be paused
        self._folder: CheckpointFolder | None = None
        self._updates: UpdateLog | None = None

    def run(self) -> dict[str, Any]:
        """From file to model, with every outcome written down."""
        self._store.update_state(self._run_id, RunState.STARTING, message="", hint="")
        finds_room(self._reserve.take)
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
            if lacks_room(error):
                failure = RegattaError(self._about_room(), "Make room, then resume the run.")
            self._end(RunState.FAILED, failure)
            raise failure from error
        finally:
            self._reserve.give_up()
            with contextlib.suppress(sqlite3.Error):
                self._writer.close()

    def _run(self) -> dict[str, Any]:
        config = self._config
        choose.check(config)
        table, prepared = self._prepare()
        self._import_seconds = self._watch.seconds
        settings = choose.resolve(config, tuple(prepared.train_offsets), prepared.features)
        for note in choose.notes(config, settings):
            self._event("warning", note)
        n_workers = self._n_workers = self._crew_size()
        self._store.update(self._run_id, workers=n_workers, solver=settings.solver)
        with prepared.hold():
            pool = open_pool(
                source_of(prepared, config),
                config.model,
                settings.arithmetic or prepared.dtype,
                n_workers,
                logs=self._directory.path,
                with_statistics=settings.with_statistics,
                on_event=self._pool_event,
                idle=self._attend,
                steps=settings.steps,
            )
            try:
                return self._train(table, prepared, settings, pool)
            finally:
                self._pool = None
                pool.close()

    def _crew_size(self) -> int:
        """Workers to begin with: those that it had last, if it was told to scale."""
        config, had = self._config, self._store.get(self._run_id).workers
        return choose.workers(config) if had is None else min(had, config.shards)

    # From a file to rows

    def _prepare(self) -> tuple[ParsedTable, PreparedData]:
        config, path = self._config, Path(self._config.path)
        _log.info("Run %s: %s, target %s.", self._run_id, path.name, config.target)

        def tell(found: ImportProgress) -> None:
            stage = "prepare" if found.stage == "prepare" else "import"
            self._tell_preparing(TrainingProgress(stage, found.fraction))

        self._tell_preparing(TrainingProgress("import", 0.0))
        try:
            table = data_pipeline.import_csv(
                path, config.reading, progress=tell, cancelled=self._must_stop
            )
            self._recorder.event(0, "import", f"{path.name}: {table.rows:,} rows read.")
            prepared = data_pipeline.prepare(
                table,
                target=config.target,
                drop=config.drop,
                seed=config.seed,
                validation=config.validation,
                shards=config.shards,
                precision=choose.precision(config),
                on_disk=not choose.wants_exact(config),
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
        if saved is None and folder.foreign:
            raise UserError(
                f"The run cannot go on from its checkpoint: {folder.foreign}. "
                f"{Path(self._config.path).name} is not what it was when the run began, or Regatta "
                "is not.",
                "Bring the file back and resume, or start a new run on it.",
            )
        if settings.with_statistics and settings.solver != OnePass.name:
            self._store.note_progress(self._run_id, message="Finding the exact optimum")
        sums = CheckpointFolder(self._directory.sums, identity(prepared, self._config))
        known = sums.newest() if saved is not None else None
        training = Training(self._config, prepared, settings, pool, saved, known)
        if known is None and training.sum_seconds > SUM_SECONDS and training.sums_bytes < SUM_BYTES:
            finds_room(lambda: sums.save(training.sums()))
        self._step = self._resumed_at = self._saved_step = training.step
        rows_before = training.rows
        self._rows = lambda: int(training.rows - rows_before)
        self._writer.flush()
        self._writer.forget_after(training.step if saved else -1)
        if saved is not None:
            self._resumed_seconds = saved.state["seconds"]
            facts = MetricsReader(self._directory.metrics).facts()
            self._checkpoint_seconds = facts.get("checkpoint_seconds", 0.0)
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
            rows_train=prepared.rows_train,
            **self._in_force(training),
        )
        if training.optimal_objective is not None:
            self._writer.fact("optimal_objective", training.optimal_objective)
            self._writer.fact("optimal_loss", training.optimal_loss)
            self._writer.fact("gap_unit", training.gap_unit)
        self._writer.fact("load_seconds", self._import_seconds)
        self._writer.fact("start_seconds", self._watch.seconds - self._import_seconds)
        self._recorder.watch = Watch(
            exact=settings.solver == OnePass.name,
            waits=settings.consistency == "sync",
            reference=reference_of(self._store, self._store.get(self._run_id), pool.n_workers),
            batch_size=lambda: training.batch_size if training.takes_batches else None,
        )
        now = replace(settings, batch_size=training.batch_size)
        self._event("started", now.describe(self._config, pool.n_workers))
        self._recorder.sample(pool.samples(), force=True)
        self._writer.flush()
        if isinstance(training.solver, UnsynchronisedSGD):
            self._log_updates(training.solver)
        self._pool, self._training, self._folder = pool, training, folder
        gc.collect()
        gc.freeze()
        self._clock.start()
        try:
            self._loop(training)
            return self._finish(training, table, prepared, settings, pool)
        except Stopped:
            self._leave(training)
            raise
        finally:
            self._training = None
            if self._updates is not None:
                self._updates.close()
            gc.unfreeze()

    def _log_updates(self, solver: UnsynchronisedSGD) -> None:
        """Write down every update, where that is asked for."""
        if os.environ.get(LOG_UPDATES):
            self._updates = UpdateLog(self._directory.updates, solver.rounds)
            solver.on_applied = self._updates.add

    def _loop(self, training: Training) -> None:
        """Steps until the solver is done. Everything in here costs time at every step."""
        solver, recorder = training.solver, self._recorder
        now = time.perf_counter()
        next_note, next_save = now, now + CHECKPOINT_SECONDS
        while not solver.finished:
            solver.measure = recorder.due(solver.rounds + 1, now)
            if solver.step_count >= training.next_change:
                self._with_room(partial(self._tune, training))
            ended = training.take_step()
            now = time.perf_counter()
            if not solver.iterative:
                recorder.within(training)
            elif solver.measure:
                recorder.point(training, now, solver.rounds)
            if ended and solver.iterative and not solver.finished:
                self._evaluate_if_cheap(training)
            if now >= self._next_look:
                self._look_around()
                now = time.perf_counter()
                if now >= next_save:
                    self._with_room(self._save)
                    next_save = time.perf_counter() + CHECKPOINT_SECONDS
                elif now >= next_note:
                    self._with_room(self._note)
                    next_note = time.perf_counter() + self._until_next_note

    def _evaluate_if_cheap(self, training: Training) -> None:
        affordable = seconds_for_evaluations(self._clock.seconds)
        if self._evaluation_seconds <= affordable and training.step >= self._next_evaluation:
            self._evaluate(training)

    def _evaluate(self, training: Training) -> Evaluation:
        began = self._clock.seconds  # which stands still where the run is paused within
        found = training.evaluate()
        self._recorder.evaluation(training, found)
        self._validation_r2 = found.scores["validation"]["r2"]
        self._next_evaluation = int(EVALUATION_GROWTH * training.step) + 1
        cost = self._clock.seconds - began
        self._evaluation_costs.append(cost)
        self._evaluation_seconds += min(cost, statistics.median_low(self._evaluation_costs))
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
            self._recorder.point(training, time.perf_counter(), training.solver.rounds)
        evaluation = self._evaluate(training)
        scores = evaluation.scores
        self._recorder.sample(pool.samples(), staleness=training.staleness, force=True)
        for warning in training.warnings:
            self._event("warning", warning)
        self._event("converged" if training.solver.converged else "finished", reason)

        def write() -> dict[str, Any]:
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
                notes=choose.notes(self._config, settings),
            )
            self._writer.flush()
            try:
                self._store.update_state(
                    self._run_id,
                    RunState.FINISHED,
                    step=training.step,
                    progress=1.0,
                    message=reason,
                    train_r2=scores["train"]["r2"],
                    validation_r2=scores["validation"]["r2"],
                    rows_per_second=result["rows_per_second"],
                    **self._counts(),
                )
            except (OSError, sqlite3.Error, RegattaError):
                # The record counts; the list of runs learns of it from there.
                if self._store.get(self._run_id).state is not RunState.FINISHED:
                    raise
            return result

        return self._with_room(write)

    # Between steps, and within long ones

    def _attend(self) -> None:
        """Called twenty times a second while a round, or the search for the optimum, lasts."""
        if self._stands:
            return
        now = time.perf_counter()
        if self._training is not None:
            self._recorder.within(self._training)
        if now >= self._next_tick:
            self._within_step = True
            self._with_room(self._tick)
            self._within_step = False
            self._next_tick = time.perf_counter() + TICK_SECONDS

    def _look_around(self) -> None:
        """`_tick`, where no round is waited for."""
        assert self._pool is not None
        self._pool.watch()
        self._with_room(self._tick)
        now = time.perf_counter()
        self._next_tick = now + TICK_SECONDS
        self._next_look = now + (SCALE_SECONDS if self._pool.is_changing else TICK_SECONDS)

    def _tick(self) -> None:
        self._look_for_commands()
        if self._must_stop():
            raise Stopped
        training = self._training
        if training is None or self._pool is None:
            self._writer.flush()
            return
        self._scale(training, self._pool)
        self._tune(training)
        if self._wish == "pause":
            self._pause(training)
        self._step = training.step
        self._recorder.sample(self._pool.samples(), staleness=training.staleness)
        self._writer.flush()
        self._tell_training(training)

    def _scale(self, training: Training, pool: Pool) -> None:
        """Pass on that another number of workers is wanted, and tell once it is there."""
        if self._wanted is not None:
            wanted, self._wanted = self._wanted, None
            try:
                training.scale(wanted)
            except UserError as error:
                self._event("warning", error.message)
        if pool.n_workers == self._n_workers:
            return
        before, self._n_workers = self._n_workers, pool.n_workers
        self._recorder.gone(range(pool.n_workers, before))
        self._store.update(self._run_id, workers=pool.n_workers)
        self._event("scaled", f"{pool.n_workers} workers train now, {before} did before.")

    def _tune(self, training: Training) -> None:
        """Take down which changes are wanted, and make those whose time has come.

        Within a step nothing is changed. What was made or taken down is kept at once, so that a
        crash takes nothing of it back; where the disk is full, that is tried again.
        """
        asked, self._tunings = self._tunings, []
        self._step = training.step
        for tuning in asked:
            try:
                training.ask(tuning)
            except UserError as error:
                self._event("warning", error.message)
        changes = [] if self._within_step else training.change()
        for change in changes:
            self._event(change.kind, change.message)
        if asked or changes:
            self._unsaved = self._untold = True
        if self._unsaved:
            self._save()
            self._unsaved = False
        if self._untold and (self._stands or not self._within_step):
            self._tell_tuned(training)
            self._untold = False

    def _tell_tuned(self, training: Training) -> None:
        self._writer.flush()
        self._store.update(
            self._run_id,
            tuned=self._store.get(self._run_id).tuned + 1,
            total_steps=None if training.end_is_open else training.solver.total_steps,
            **self._in_force(training),
        )

    def _in_force(self, training: Training) -> dict[str, Any]:
        """Learning rate and batch size, for the record of a run that takes mini-batches."""
        if not training.takes_batches:
            return {}
        return {"learning_rate": training.next_rate, "batch_size": training.batch_size}

    def _pause(self, training: Training) -> None:
        """Stand still until told otherwise."""
        with self._standing_still():
            self._save()
            self._event("paused", f"Paused at step {training.step:,}.")
            self._writer.flush()
            self._tell_training(training, force=True)
            self._store.update_state(self._run_id, RunState.PAUSED, step=training.step)
            while self._wish == "pause":
                time.sleep(PAUSE_SECONDS)
                self._look_for_commands()
                if self._must_stop():
                    raise Stopped
                assert self._pool is not None
                self._scale(training, self._pool)
                self._tune(training)
                self._pool.watch()
                self._recorder.sample(self._pool.samples())
                self._writer.flush()
            self._store.update_state(self._run_id, RunState.RUNNING)
            self._event("resumed", "Resumed.")

    @contextlib.contextmanager
    def _standing_still(self) -> Iterator[None]:
        """Time does not count meanwhile, and waiting for a worker to start attends to nothing."""
        ran, self._stands = self._clock.is_running, True
        self._clock.stop()
        try:
            yield
            if ran:
                self._clock.start()
        finally:
            self._stands = False

    def _note(self) -> None:
        """Save without waiting for the disk."""
        watch = Stopwatch()
        self._save(durable=False)
        self._until_next_note = min(CHECKPOINT_SECONDS, watch.seconds / CHECKPOINT_SHARE)

    def _save(self, *, durable: bool = True) -> None:
        training, folder = self._training, self._folder
        if training is None or folder is None or not training.solver.iterative:
            return  # a pass starts again: it is over in the time that a checkpoint takes
        if self._updates is not None:
            self._updates.flush()  # so that it never lacks what a checkpoint has
        watch = Stopwatch()
        keep = folder.save if durable else folder.note
        keep(training.checkpoint(self._clock.seconds))
        self._checkpoint_seconds += watch.seconds
        self._saved_step = training.step
        self._event("checkpoint", f"Checkpoint at step {training.step:,}.")

    def _leave(self, training: Training) -> None:
        """Keep what was reached when the run was told to stop, within a step or between two."""
        self._clock.stop()
        finds_room(self._save)
        # Of a pass nothing is kept, so a resume begins again.
        self._step = self._saved_step if training.solver.iterative else 0

    # A full disk

    def _with_room(self, action: Callable[[], T]) -> T:
        """What ``action`` returns. Where the disk is full the run stands still, as if paused, and
        tries again until there is room."""
        while True:
            try:
                return action()
            except (OSError, sqlite3.Error, RegattaError) as error:
                if self._training is None or not lacks_room(error):
                    raise
                _log.warning("%s", self._about_room())
                self._wait_for_room(self._training)

    def _wait_for_room(self, training: Training) -> None:
        self._reserve.give_up()
        with self._standing_still():
            told, next_try = False, 0.0
            while True:
                finds_room(self._look_for_commands)
                if self._must_stop():
                    raise Stopped
                if time.monotonic() >= next_try:
                    told = told or finds_room(lambda: self._say_that_it_waits(training))
                    if finds_room(self._go_on):
                        return
                    next_try = time.monotonic() + ROOM_SECONDS
                time.sleep(PAUSE_SECONDS)

    def _say_that_it_waits(self, training: Training) -> None:
        message = f"{self._about_room()} The run goes on by itself once there is room."
        self._store.update_state(self._run_id, RunState.PAUSED, step=training.step, message=message)
        self._event("paused", message)

    def _go_on(self) -> None:
        """Write all that is kept of a run while it trains, and say that it runs."""
        self._reserve.take()
        try:
            self._save()
            self._writer.flush()
            self._store.update_state(self._run_id, RunState.RUNNING, message="")
        except BaseException:
            self._reserve.give_up()
            raise
        self._event("resumed", "There is room on the disk again: the run goes on.")

    def _about_room(self) -> str:
        if self._training is None:
            return f"The disk of {self._store.home} is full."
        needed = RESERVE_BYTES + 2 * self._training.checkpoint_bytes
        megabytes = math.ceil(needed / 1e6)
        return f"The disk is full: about {megabytes:,} MB are needed in {self._store.home}."

    def _look_for_commands(self) -> None:
        for command in self._store.take_commands(self._run_id):
            _log.info("Told to %s.", command)
            if command.startswith("scale "):
                self._wanted = int(command.split()[1])
            elif command.startswith(f"{SET} "):
                self._tunings.append(Tuning.from_command(command))
            elif command.startswith("kill "):
                self._kill(*(int(word) for word in command.split()[1:]))
            else:
                self._wish = command

    def _kill(self, rank: int, incarnation: int) -> None:
        """Kill a worker because somebody wants to see it come back."""
        if self._pool is not None:
            self._pool.kill(rank, incarnation)

    def _must_stop(self) -> bool:
        return self._wish == "stop" or self._signals.received is not None

    def _pool_event(self, event: PoolEvent) -> None:
        level = logging.WARNING if event.kind == "worker_died" else logging.INFO
        _log.log(level, event.message)
        self._event(event.kind, event.message, event.rank)
        finds_room(self._writer.flush)

    def _event(self, kind: str, message: str, rank: int | None = None) -> None:
        self._seen[kind] += 1
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
            self._writer.fact("checkpoint_seconds", self._checkpoint_seconds)
            self._store.note_progress(
                self._run_id,
                step=training.step,
                progress=share,
                message="",
                validation_r2=self._validation_r2,
                rows_per_second=rate,
                **self._counts(),
                **self._in_force(training),
            )

    def _counts(self) -> dict[str, int]:
        """What all attempts have done so far, rows that were lost with a crash included."""
        seen = {name: self._seen[kind] for name, kind in COUNTED.items()}
        seen["rows_trained"] = self._rows()
        return {name: self._counts_before[name] + count for name, count in seen.items()}

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
        self._reserve.give_up()
        # If this finds no room either, the run is seen to be interrupted.
        finds_room(
            lambda: self._store.update_state(
                self._run_id,
                RunState.STOPPED,
                step=self._step,
                message=message,
                hint="Resume goes on from there.",
                **self._counts(),
            )
        )
        finds_room(self._writer.flush)
        result = {"run_id": self._run_id, "state": str(RunState.STOPPED), "step": self._step}
        return result if number is None else {**result, "signal": number}

    def _end(self, state: RunState, error: RegattaError) -> None:
        _log.error("%s", error)
        self._reserve.give_up()
        self._event(str(state), str(error))
        with contextlib.suppress(sqlite3.Error):  # which may be what ended the run
            self._writer.flush()
        self._store.update_state(
            self._run_id,
            state,
            message=error.message,
            hint=error.hint,
            step=self._step,
            **self._counts(),
        )
