"""What a live view has not seen yet: the answer to ``GET /api/runs/<id>/live?since=<cursor>``.

    browser ── since ──▶ live_update ── reads ──▶ run store, metrics.db, run.log
            ◀─ what is new, next cursor ─┘

The cursor names the last row of each table and the byte of the log that the browser has. A first
call, or one whose cursor does not fit the run any more (it was resumed from an earlier step), gets
everything, thinned to `MAX_POINTS`; later calls get the rows since then.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regatta.dashboard import fields
from regatta.runs.directory import RunDirectory
from regatta.runs.metrics_store import MetricsReader
from regatta.runs.states import RunState
from regatta.runs.store import RunRecord, RunStore
from regatta.utils import fingerprint

MAX_POINTS = 1500
MAX_EVENTS = 300  # beside checkpoints, which come every few seconds
MAX_CHECKPOINTS = 100
LOG_LINES = 200
LOG_BYTES = 64 * 1024

POINT_COLUMNS = (
    "step", "epoch", "seconds", "rows", "loss", "objective", "learning_rate", "gradient_norm",
    "rows_per_second",
)  # fmt: skip
EVALUATION_COLUMNS = (
    "step", "epoch", "seconds", "train_loss", "train_objective", "train_r2", "train_rmse",
    "train_mae", "validation_loss", "validation_r2", "validation_rmse", "validation_mae",
)  # fmt: skip
WORKER_COLUMNS = ("seconds", "rank", "cpu_percent", "memory_bytes")
MACHINE_COLUMNS = ("seconds", "cpu_percent", "memory_used", "memory_total")

Row = dict[str, Any]
Columns = dict[str, list[Any]]


@dataclass(frozen=True)
class Cursor:
    """How far a browser has read: step or id of the last row of each table, byte of the log."""

    attempt: int = -1
    points: int = -1
    evaluations: int = -1
    workers: int = -1
    machine: int = -1
    events: int = -1
    log: int = -1

    @classmethod
    def parse(cls, text: str | None) -> Cursor:
        """The cursor in a request; anything else than one of ours means "from the beginning"."""
        parts = (text or "").split("_")
        try:
            return cls(*(int(part) for part in parts)) if len(parts) == 7 else cls()
        except ValueError:
            return cls()

    def __str__(self) -> str:
        values = (self.attempt, self.points, self.evaluations, self.workers, self.machine)
        return "_".join(str(each) for each in (*values, self.events, self.log))


def version(record: RunRecord, directory: RunDirectory) -> str:
    """A short text that changes when there may be news; costs a few calls of ``stat``."""
    metrics = directory.metrics
    parts = [str(record.state), str(record.attempts), record.message or ""]
    for path in (metrics, metrics.with_name(metrics.name + "-wal"), directory.log):
        try:
            status = path.stat()
            parts.append(f"{status.st_mtime_ns:x}.{status.st_size:x}")
        except FileNotFoundError:
            parts.append("-")
    return f"{hash(tuple(parts)) & (2**64 - 1):x}"


def version_of_runs(store: RunStore, run_ids: Sequence[str] = ()) -> str:
    """As `version`, of the runs of ``run_ids`` that are there, or of all of them as a list tells
    them; then it changes every minute too, as their ages do."""
    if not run_ids:
        return fingerprint([int(time.time() / 60), *(vars(each) for each in store.list())])
    there = [each for each in store.list() if each.run_id in run_ids]
    return " ".join(version(each, store.directory(each.run_id)) for each in there)


def live_update(record: RunRecord, directory: RunDirectory, since: Cursor) -> dict[str, Any]:
    """Everything about the run that a browser at ``since`` has not seen."""
    reader = MetricsReader(directory.metrics)
    last_point = reader.latest("points")
    attempt = int(record.attempts or 0)
    fits = since.attempt == attempt and (last_point is None or last_point["step"] >= since.points)
    if not fits:
        since = Cursor(attempt=attempt)
    points = read_all(reader, "points", since.points)
    evaluations = read_all(reader, "evaluations", since.evaluations)
    workers = read_all(reader, "workers", since.workers)
    machine = read_all(reader, "machine", since.machine)
    events = read_all(reader, "events", since.events)
    lines, log_end = read_log(directory.log, since.log)
    cursor = Cursor(
        attempt,
        last(points, "step", since.points),
        last(evaluations, "step", since.evaluations),
        last(workers, "id", since.workers),
        last(machine, "id", since.machine),
        last(events, "id", since.events),
        log_end,
    )
    facts = reader.facts()
    return {
        "cursor": str(cursor),
        "reset": since.points == -1 and since.log == -1,
        "run": {
            **run_status(record, last_point, reader.latest("evaluations")),
            "optimum": facts.get("optimal_objective"),
            "optimal_loss": facts.get("optimal_loss"),
            "gap_unit": facts.get("gap_unit"),
            "load_seconds": facts.get("load_seconds"),
            "start_seconds": facts.get("start_seconds"),
            "checkpoint_seconds": facts.get("checkpoint_seconds"),
        },
        "points": columns(thin(points, "loss"), POINT_COLUMNS),
        "evaluations": columns(thin(evaluations, "validation_loss"), EVALUATION_COLUMNS),
        "workers": reader.latest_workers(),
        "worker_series": columns(_thin_by_rank(workers), WORKER_COLUMNS),
        "machine": columns(thin(machine, "cpu_percent"), MACHINE_COLUMNS),
        "events": [in_page_words(each) for each in thin_events(events)],
        "log": lines,
    }


def run_status(record: RunRecord, point: Row | None, evaluation: Row | None) -> dict[str, Any]:
    """Name, state and progress of a run, and its latest figures."""
    elapsed = float(point["seconds"]) if point else 0.0
    progress = float(record.progress or 0.0)
    foreseen = record.total_steps is not None  # else progress says nothing of the end
    running = foreseen and record.state.is_live and 0.005 < progress < 1
    step = int(point["step"]) if point else 0
    if record.state in (RunState.PAUSED, RunState.STOPPED):  # not every step has a point
        step = max(step, record.step or 0)
    paused = record.state is RunState.PAUSED
    return {
        "id": record.run_id,
        "name": record.name,
        "state": str(record.state),
        "stands": record.stands,
        "exact": record.solver == "exact",
        "terminal": record.state.is_terminal,
        "message": record.message or "",
        "progress": 1.0 if str(record.state) == "finished" else progress,
        "step": step,
        "total_steps": record.total_steps,
        "epoch": float(point["epoch"]) if point else 0.0,
        "epochs": record.epochs,
        "elapsed": elapsed,
        "eta": elapsed * (1 - progress) / progress if running and elapsed > 0 else None,
        "workers": record.workers,
        "rows": int(point["rows"] or 0) if point else 0,
        "batch_size": record.batch_size,
        "learning_rate": point["learning_rate"] if point else None,
        "rows_per_second": point["rows_per_second"] if point and not paused else None,
        "loss": point["loss"] if point else None,
        "evaluation": evaluation,
        "wall": time.time() - record.started if record.started and record.state.is_live else None,
    }


def thin(rows: Sequence[Row], value: str, limit: int = MAX_POINTS) -> list[Row]:
    """At most ``limit`` of ``rows``, in order: of each stretch its smallest and its largest
    ``value``, so that no spike is lost; first and last row always."""
    if len(rows) <= limit:
        return list(rows)
    stretches = (limit - 2) // 2
    inner = rows[1:-1]
    kept = [rows[0]]
    for index in range(stretches):
        part = inner[index * len(inner) // stretches : (index + 1) * len(inner) // stretches]
        finite = [each for each in part if each[value] is not None]
        if not finite:
            kept.extend(part[:1])
            continue
        low = min(finite, key=_value_of(value))
        high = max(finite, key=_value_of(value))
        first, second = sorted((finite.index(low), finite.index(high)))
        kept.append(finite[first])
        if second != first:
            kept.append(finite[second])
    kept.append(rows[-1])
    return kept


def thin_events(events: Sequence[Row]) -> list[Row]:
    """The last of the events, in order; of checkpoints, which come often, some of all times."""
    others = [each for each in events if each["kind"] != "checkpoint"][-MAX_EVENTS:]
    checkpoints = [each for each in events if each["kind"] == "checkpoint"]
    stride = -(-len(checkpoints) // MAX_CHECKPOINTS) or 1
    return sorted([*others, *checkpoints[::-1][::stride]], key=lambda each: int(each["id"]))


def columns(rows: Sequence[Row], names: Sequence[str]) -> Columns:
    """Rows turned into one list a column: a third of the size as JSON."""
    return {name: [row[name] for row in rows] for name in names}


def read_log(path: Path, offset: int) -> tuple[list[str], int]:
    """The whole lines of a log from byte ``offset`` on and where they end; from the beginning
    (-1), or after a long absence, only the last ones."""
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return [], offset
    start = max(offset, size - LOG_BYTES, 0) if 0 <= offset <= size else max(size - LOG_BYTES, 0)
    with path.open("rb") as file:
        file.seek(start)
        data = file.read(LOG_BYTES)
    end = data.rfind(b"\n") + 1
    lines = data[:end].decode("utf-8", errors="replace").splitlines()
    if start > 0 and start != offset:
        lines = lines[1:]  # it begins in the middle
    return lines[-LOG_LINES:], start + end


def in_page_words(event: Row) -> Row:
    """An event whose message names the page's fields and not the command's options."""
    return {**event, "message": fields.in_page_words(str(event["message"] or ""))}


def _value_of(name: str) -> Callable[[Mapping[str, Any]], float]:
    return lambda row: float(row[name])


def read_all(reader: MetricsReader, table: str, since: int) -> list[Row]:
    """All rows of a table after ``since``."""
    rows: list[Row] = []
    while True:
        part = reader.read(table, since)
        rows.extend(part)
        if len(part) < 100_000:
            return rows
        since = next(iter(part[-1].values()))


def last(rows: Sequence[Row], key: str, otherwise: int) -> int:
    """The step or id of the last of ``rows``, which is where a cursor goes on."""
    return int(rows[-1][key]) if rows else otherwise


def _thin_by_rank(rows: Sequence[Row]) -> list[Row]:
    ranks: dict[int, list[Row]] = {}
    for row in rows:
        ranks.setdefault(row["rank"], []).append(row)
    limit = max(100, 4 * MAX_POINTS // max(len(ranks), 1))
    return [
        row for each in ranks.values() for row in thin(each, "cpu_percent", min(limit, MAX_POINTS))
    ]
