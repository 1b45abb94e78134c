"""What limits a run, from its figures: for the page, for the command, and while it trains.

coordinator ── Watch ─▶ an event when it changes; the pace of fewer workers as facts
metrics.db ── limits_of ─▶ a `Bottleneck`: over the last seconds, or a whole run that has ended
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from regatta.parameter_server import bottleneck
from regatta.parameter_server.bottleneck import Announcer, Bottleneck, Pace, Window, times_of
from regatta.runs.directory import RunDirectory
from regatta.runs.metrics_store import MetricsReader
from regatta.runs.states import RunState
from regatta.runs.store import RunRecord, RunStore
from regatta.utils import RegattaError, available_cores, read_json

WINDOW_SECONDS = 30.0
# A crew's pace counts after so many seconds with the same number of workers.
PACE_SECONDS = 5.0
# Rows of `workers` that are judged of an ended run: days of a small crew.
MOST_ROWS = 200_000
MOST_PAUSED_LOOKS = 5_000
MOST_POINTS = 1_200  # of a window: at most about thirty a second are written
# Other runs that are looked at for one with the same settings and fewer workers.
MOST_OTHERS = 20
# Settings that make no other training.
SAME_TRAINING = frozenset({"workers", "name", "epochs", "tol", "patience"})

Row = Mapping[str, Any]


def limits_of(record: RunRecord, directory: RunDirectory) -> Bottleneck:
    """What limits a run now, or has limited it where it has ended."""
    early = _before_training(record)
    if early is not None:
        return early
    try:
        window = _window(record, directory)
    except sqlite3.Error:
        return bottleneck.unknown("The figures of this run cannot be read.")
    if record.workers == 0 and window.loading_seconds <= window.training_seconds:
        return bottleneck.unknown(
            "The run computes in one process, without workers: nobody waits for anybody."
        )
    return bottleneck.find(window)


def recent_workers(record: RunRecord, reader: MetricsReader) -> list[Row]:
    """The rows of the table `workers` of a run's last half minute of training."""
    return _recent(
        reader.newest("workers", _recent_count(record) * (max(record.workers or 1, 1) + 1))
    )


def reference_of(store: RunStore, record: RunRecord, workers: int) -> Pace | None:
    """The pace of the newest finished run that is as this one but has fewer workers."""
    if workers < 2:
        return None
    try:
        wanted = _training(store, record.run_id)
        alike = [each for each in store.list() if _may_be_alike(each, record, workers)]
        for other in alike[:MOST_OTHERS]:
            if _training(store, other.run_id) == wanted:
                pace = _window(other, store.directory(other.run_id)).pace
                if pace is not None:
                    return pace
    except (OSError, ValueError, sqlite3.Error, RegattaError):
        return None  # a run that cannot be read is none to compare with
    return None


class Watch:
    """Watches what limits a run while it trains; for its coordinator.

    Parameters
    ----------
    exact, waits : bool
        See `Window`.
    reference : Pace, optional
        Of the same training with fewer workers.
    batch_size : callable, optional
        The one that is set now, where there is one.
    """

    def __init__(
        self,
        *,
        exact: bool,
        waits: bool,
        reference: Pace | None = None,
        batch_size: Callable[[], int | None] = lambda: None,
    ) -> None:
        self._exact = exact
        self._waits = waits
        self._reference = reference
        self._batch_size = batch_size
        self._paces: dict[int, Pace] = {}
        self._announcer = Announcer()
        self._workers: list[Row] = []
        self._machine: list[Row] = []
        self._counts: list[tuple[float, int, int]] = []  # seconds, rows, steps

    def reference(self, workers: int) -> Pace | None:
        """Of fewer workers than these, in this run or before it; of the fewest."""
        known = [*self._paces.values(), *([self._reference] if self._reference else [])]
        fewer = [each for each in known if each.workers < workers]
        return min(fewer, key=lambda each: each.workers, default=None)

    def update(
        self, workers: Sequence[Row], machine: Row, *, seconds: float, rows: int, steps: int
    ) -> str | None:
        """Take in a look at workers and machine (rows of their tables), and what was computed so
        far; what to tell, if anything."""
        if self._counts and seconds <= self._counts[-1][0]:
            return None  # it is paused
        if len(workers) != len({row["rank"] for row in self._workers}):
            self._workers, self._machine, self._counts = [], [], []
        self._workers += workers
        self._machine.append(machine)
        self._counts.append((seconds, rows, steps))
        begin = seconds - WINDOW_SECONDS
        self._workers = [row for row in self._workers if row["seconds"] >= begin]
        self._machine = [row for row in self._machine if row["seconds"] >= begin]
        self._counts = [each for each in self._counts if each[0] >= begin]
        window = self._window(len(workers))
        if self._counts[-1][0] - self._counts[0][0] >= PACE_SECONDS and window.pace is not None:
            self._paces[len(workers)] = window.pace
        return self._announcer.update(bottleneck.find(window), seconds)

    def _window(self, workers: int) -> Window:
        first, last = self._counts[0], self._counts[-1]
        return Window(
            times_of(self._workers),
            available_cores(),
            machine_cpu=_mean([row["cpu_percent"] for row in self._machine[1:]]),
            rows=last[1] - first[1],
            steps=last[2] - first[2],
            exact=self._exact,
            waits=self._waits,
            reference=self.reference(workers),
            batch_size=self._batch_size(),
        )


def facts_of(pace: Pace) -> dict[str, float]:
    """A pace as facts of a run."""
    return {
        "reference_workers": float(pace.workers),
        "reference_rows_per_second": pace.rows_per_second,
        "reference_rows_per_cpu_second": pace.rows_per_cpu_second,
    }


def reference_in(facts: Mapping[str, float]) -> Pace | None:
    """The pace among a run's facts."""
    if "reference_workers" not in facts:
        return None
    return Pace(
        int(facts["reference_workers"]),
        facts["reference_rows_per_second"],
        facts["reference_rows_per_cpu_second"],
    )


def _before_training(record: RunRecord) -> Bottleneck | None:
    if record.state is RunState.QUEUED:
        return bottleneck.unknown("It waits in the queue: nothing is computed yet.")
    if record.state is RunState.STARTING:
        doing = (record.message or "Reading and preparing the file").rstrip(".")
        return Bottleneck(
            "loader",
            f"The loader: {doing[0].lower()}{doing[1:]}. Workers begin when the rows are ready.",
        )
    ended = record.state.is_terminal and record.state is not RunState.FINISHED
    if ended and not record.rows_trained and not record.step:
        return bottleneck.unknown(f"Nothing was computed: the run {_ended(record)}.")
    return None


def _ended(record: RunRecord) -> str:
    words = {RunState.STOPPED: "was stopped", RunState.INTERRUPTED: "was broken off"}
    return f"{words.get(record.state, str(record.state))} before its workers had anything to do"


def _window(record: RunRecord, directory: RunDirectory) -> Window:
    """The figures of a run: all of one that has ended, else those of its last seconds."""
    reader = MetricsReader(directory.metrics)
    seconds: Mapping[str, float] = {}
    if record.state.is_terminal:
        workers: Sequence[Row] = reader.newest("workers", MOST_ROWS)
        machine: Sequence[Row] = reader.newest("machine", MOST_ROWS)
        points: Sequence[Row] = [*reader.read("points", limit=1), *reader.newest("points", 1)]
        seconds = _spent(directory)
    else:
        workers = _of_one_crew(recent_workers(record, reader))
        machine = _recent(reader.newest("machine", _recent_count(record)))
        points = _recent(reader.newest("points", MOST_POINTS))
    return Window(
        times_of(workers),
        available_cores(),
        machine_cpu=_mean([row["cpu_percent"] for row in machine[1:]]),
        rows=_grown(points, "rows"),
        steps=_grown(points, "step"),
        exact=record.solver == "exact",
        waits=_waits(directory),
        reference=reference_in(reader.facts()),
        batch_size=record.batch_size,
        ended=record.state.is_terminal,
        loading_seconds=seconds.get("import", 0.0),
        training_seconds=seconds.get("train", 0.0),
    )


def _recent_count(record: RunRecord) -> int:
    """Looks that go back half a minute of training; a pause is looked at too, for hours maybe."""
    return MOST_PAUSED_LOOKS if record.state is RunState.PAUSED else int(1.5 * WINDOW_SECONDS)


def _grown(points: Sequence[Row], name: str) -> int:
    return int(points[-1][name] or 0) - int(points[0][name] or 0) if points else 0


def _recent(rows: Sequence[Row]) -> list[Row]:
    """Those of the last seconds of training, since the run was resumed if it was."""
    found: list[Row] = []
    for row in reversed(rows):
        after = found[-1]["seconds"] if found else row["seconds"]
        if row["seconds"] > after or row["seconds"] < rows[-1]["seconds"] - WINDOW_SECONDS:
            break
        found.append(row)
    return found[::-1]


def _of_one_crew(rows: Sequence[Row]) -> list[Row]:
    """Those since a worker came or was let go: of the moments with the present ranks alone."""
    moments: dict[float, list[Row]] = {}
    for row in rows:
        if row["state"] != "gone":
            moments.setdefault(row["seconds"], []).append(row)
    crew = {row["rank"] for row in next(reversed(moments.values()), [])}
    found: list[Row] = []
    for mine in reversed(moments.values()):
        if {row["rank"] for row in mine} != crew:
            break
        found[:0] = mine
    return found


def _mean(values: Sequence[float | None]) -> float | None:
    known = [each for each in values if each is not None]
    return sum(known) / len(known) if known else None


def _spent(directory: RunDirectory) -> Mapping[str, float]:
    """Seconds of import and training of a finished run."""
    try:
        seconds: Mapping[str, float] = read_json(directory.result)["seconds"]
    except (OSError, ValueError, KeyError):
        return {}
    return seconds


def _waits(directory: RunDirectory) -> bool:
    try:
        return bool(read_json(directory.config).get("consistency", "sync") == "sync")
    except (OSError, ValueError):
        return True


def _may_be_alike(other: RunRecord, record: RunRecord, workers: int) -> bool:
    same = (other.dataset, other.target, other.model, other.solver) == (
        record.dataset, record.target, record.model, record.solver
    )  # fmt: skip
    return same and other.state is RunState.FINISHED and 0 < (other.workers or 0) < workers


def _training(store: RunStore, run_id: str) -> dict[str, Any]:
    """The settings that decide what a worker computes."""
    given = store.config(run_id).to_json()
    return {name: value for name, value in given.items() if name not in SAME_TRAINING}
