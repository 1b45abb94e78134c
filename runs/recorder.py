"""Decides which figures of a run are worth a row, and writes them in batches.

A step costs microseconds, a row of a chart many more. So every one of the first hundred steps is
a point, and then those that make the count grow by one in a hundred, or a twentieth of a second: a
run of fewer than a hundred steps records each of them, a longer one at least a hundred.

The exact solver's steps are rows, and it takes in some thousands at once. Its workers note when
they have taken in each block, of which there are a hundred or more (as many as rows, if those are
fewer); these moments are points by the same rule.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from regatta.metrics import (
    Clock,
    MachineSampler,
    ProcessSampler,
    Throughput,
    bytes_from_disk,
)
from regatta.parameter_server.bottleneck import Pace
from regatta.parameter_server.worker_pool import WorkerSample
from regatta.runs.diagnosis import Watch, facts_of
from regatta.runs.metrics_store import MetricsWriter
from regatta.solvers.training import Evaluation, Training

FIRST_POINTS = 100
GROWTH = 1.01
POINT_SECONDS = 0.05
SAMPLE_SECONDS = 1.0
CHECKPOINT_SECONDS = 5.0  # between two that are told of: there are several a second
# Of the events, those that come every few seconds, and those that are logged where they come from.
NOT_LOGGED = {
    "checkpoint",
    "worker_started",
    "worker_died",
    "worker_slow",
    "balanced",
    "failed",
    "diverged",
}

_log = logging.getLogger(__name__)


class Recorder:
    """The figures of one run on their way into its `MetricsWriter`.

    Parameters
    ----------
    writer : MetricsWriter
    clock : Clock
        Seconds in training.
    rows : int
        Training rows processed before (by an earlier attempt).

    Attributes
    ----------
    watch : Watch, optional
        Told of every look at the workers; what it says becomes an event.
    """

    def __init__(self, writer: MetricsWriter, clock: Clock, rows: int = 0) -> None:
        self._writer = writer
        self._clock = clock
        self._throughput = Throughput(rows, clock.seconds)
        self._processes = ProcessSampler()
        self._machine = MachineSampler()
        self._next_round = 0
        self._moments = 0
        self._next_time = 0.0
        self._next_sample = 0.0
        self._step, self._rows = 0, rows
        self._reference: Pace | None = None
        self.watch: Watch | None = None
        self._next_checkpoint = 0.0

    @property
    def rows_per_second(self) -> float:
        """Over about the last second."""
        return self._throughput.rows_per_second

    def due(self, round_: int, now: float) -> bool:
        """Whether this round deserves a point, at ``now`` (``time.perf_counter``)."""
        return round_ >= self._next_round or now >= self._next_time

    def within(self, training: Training) -> None:
        """Record how a step went that takes long, where its rows are counted."""
        for moment in training.look():
            self._moments += 1
            if self.due(self._moments, moment):
                self.point(training, moment, self._moments)

    def point(self, training: Training, now: float, round_: int) -> None:
        """Record how far the training was ``now``, after so many rounds."""
        seconds = self._clock.at(now)
        self._step, self._rows = training.step, training.rows
        self._writer.add(
            "points",
            step=training.step,
            epoch=training.epoch,
            seconds=seconds,
            rows=training.rows,
            loss=training.loss,
            objective=training.objective,
            learning_rate=training.solver.rate,
            gradient_norm=training.solver.gradient_norm,
            rows_per_second=self._throughput.update(seconds, training.rows),
            bytes_published=training.bytes_published,
            bytes_gathered=training.bytes_gathered,
        )
        self._next_round = round_ + 1 if round_ < FIRST_POINTS else int(round_ * GROWTH) + 1
        self._next_time = now + POINT_SECONDS

    def evaluation(self, training: Training, found: Evaluation) -> None:
        """Record scores over all rows."""
        self._writer.add(
            "evaluations",
            step=training.step,
            epoch=training.epoch,
            seconds=self._clock.seconds,
            train_loss=found.train_loss,
            train_objective=found.train_objective,
            validation_loss=found.validation_loss,
            **{
                f"{part}_{name}": value
                for part, scores in found.scores.items()
                for name, value in scores.items()
            },
        )

    def event(self, step: int, kind: str, message: str, rank: int | None = None) -> None:
        """Record something that happened, and log it. Of checkpoints not every one."""
        if kind not in NOT_LOGGED:
            _log.info("%s", message)
        if kind == "checkpoint":
            now = time.monotonic()
            if now < self._next_checkpoint:
                return
            self._next_checkpoint = now + CHECKPOINT_SECONDS
        self._writer.add(
            "events",
            seconds=self._clock.seconds,
            step=step,
            kind=kind,
            rank=rank,
            message=message,
        )

    def gone(self, ranks: Iterable[int]) -> None:
        """Record that workers were let go."""
        for rank in ranks:
            self._writer.add("workers", seconds=self._clock.seconds, rank=rank, state="gone")

    def sample(
        self,
        workers: Sequence[WorkerSample],
        *,
        staleness: Mapping[int, int] | None = None,
        force: bool = False,
    ) -> None:
        """Record what workers and machine are doing, and how stale gradients were, at most once a
        second unless forced."""
        now = time.monotonic()
        if now < self._next_sample and not force:
            return
        self._next_sample = now + SAMPLE_SECONDS
        seconds = self._clock.seconds
        looks = [self._look_at(worker, seconds) for worker in workers]
        for look in looks:
            self._writer.add("workers", **look)
        for updates, gradients in (staleness or {}).items():
            self._writer.add("staleness", staleness=updates, gradients=gradients)
        machine = {"seconds": seconds, **self._machine.sample()}
        self._writer.add("machine", **machine)
        if self.watch is not None and looks and self._step:
            self._diagnose(self.watch, looks, machine, seconds)

    def _look_at(self, worker: WorkerSample, seconds: float) -> dict[str, Any]:
        """A row of the table `workers`."""
        cpu, memory = self._processes.sample(worker.pid)
        return {
            **asdict(worker),
            "seconds": seconds,
            "cpu_percent": cpu,
            "memory_bytes": memory,
            "disk_bytes": bytes_from_disk(worker.pid),
        }

    def _diagnose(
        self, watch: Watch, looks: list[dict[str, Any]], machine: dict[str, Any], seconds: float
    ) -> None:
        """Tell what limits the run where that has changed."""
        told = watch.update(looks, machine, seconds=seconds, rows=self._rows, steps=self._step)
        reference = watch.reference(len(looks))
        if reference is not None and reference != self._reference:
            self._reference = reference
            for name, value in facts_of(reference).items():
                self._writer.fact(name, value)
        if told is not None:
            self.event(self._step, "bottleneck", told)
