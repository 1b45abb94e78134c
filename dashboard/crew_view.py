"""What the page "Workers" has not seen yet: the answer to ``GET /api/runs/<id>/workers?since=…``.

As `regatta.dashboard.live`, whose cursor it uses: the rows since then, or everything, thinned. Rows
of workers are thinned by the moments at which all were looked at, so that their sums stay true.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from regatta.dashboard import live
from regatta.dashboard.live import Columns, Cursor, Row
from regatta.parameter_server.bottleneck import stretches
from regatta.runs import diagnosis
from regatta.runs.directory import RunDirectory
from regatta.runs.metrics_store import MetricsReader
from regatta.runs.store import RunRecord
from regatta.utils import available_cores, read_json

MAX_MOMENTS = 600
MAX_EVENTS = 300
EVENT_KINDS = frozenset(
    {
        "started",
        "worker_started",
        "worker_died",
        "worker_killed",
        "worker_slow",
        "balanced",
        "scaled",
        "bottleneck",
        "paused",
        "resumed",
    }
)
WORKER_COLUMNS = ("seconds", "rank", "cpu_percent", "memory_bytes", "rows")
MACHINE_COLUMNS = ("seconds", "cpu_percent", "net_sent", "net_received")
POINT_COLUMNS = ("seconds", "bytes_published", "bytes_gathered")
PARTS = ("compute", "wait", "communicate")


def crew_update(record: RunRecord, directory: RunDirectory, since: Cursor) -> dict[str, Any]:
    """Everything about the run's workers that a browser at ``since`` has not seen."""
    reader = MetricsReader(directory.metrics)
    attempt, last_point = int(record.attempts or 0), reader.latest("points")
    fits = since.attempt == attempt and (last_point is None or last_point["step"] >= since.points)
    if not fits:
        since = Cursor(attempt=attempt)
    workers = live.read_all(reader, "workers", since.workers)
    machine = live.read_all(reader, "machine", since.machine)
    points = live.read_all(reader, "points", since.points)
    events = live.read_all(reader, "events", since.events)
    cursor = Cursor(
        attempt,
        points=live.last(points, "step", since.points),
        workers=live.last(workers, "id", since.workers),
        machine=live.last(machine, "id", since.machine),
        events=live.last(events, "id", since.events),
    )
    reference = diagnosis.reference_in(reader.facts())
    recent = diagnosis.recent_workers(record, reader)
    return {
        "cursor": str(cursor),
        "reset": since == Cursor(attempt=attempt),
        "run": _status(record, directory),
        "limits": diagnosis.limits_of(record, directory).to_json(),
        "workers": latest(recent),
        "timeline": timeline(recent),
        "series": live.columns(thin_moments(workers), WORKER_COLUMNS),
        "machine": live.columns(live.thin(machine, "net_received", MAX_MOMENTS), MACHINE_COLUMNS),
        "points": live.columns(live.thin(points, "bytes_gathered", MAX_MOMENTS), POINT_COLUMNS),
        "reference": None if reference is None else vars(reference),
        "staleness": staleness(reader.read("staleness")),
        "events": [live.in_page_words(each) for each in events if each["kind"] in EVENT_KINDS][
            -MAX_EVENTS:
        ],
    }


def latest(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The last row of each worker that has not been let go, by rank."""
    by_rank = {row["rank"]: row for row in rows}
    return [by_rank[rank] for rank in sorted(by_rank) if by_rank[rank]["state"] != "gone"]


def timeline(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """How each worker spent each stretch between two looks, in seconds: for its bar."""
    by_rank: dict[int, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_rank.setdefault(row["rank"], []).append(row)
    return [{"rank": rank, **_bar(by_rank[rank])} for rank in sorted(by_rank)]


def _bar(rows: Sequence[Mapping[str, Any]]) -> Columns:
    bar: Columns = {"start": [], "end": [], **{part: [] for part in PARTS}}
    for each in stretches(rows):
        length = each.end - each.start
        spent = sum(each.grown[part] for part in PARTS)
        fits = min(1.0, length / spent) if spent else 0.0
        bar["start"].append(round(each.start, 3))
        bar["end"].append(round(each.end, 3))
        for part in PARTS:
            bar[part].append(round(fits * each.grown[part], 4))
    return bar


def thin_moments(rows: Sequence[Row], limit: int = MAX_MOMENTS) -> list[Row]:
    """Rows of workers, of at most ``limit`` of the moments at which all of them were looked at: the
    calmest and the busiest of each stretch."""
    moments: dict[float, list[Row]] = {}
    for row in rows:
        if row["state"] != "gone":
            moments.setdefault(row["seconds"], []).append(row)
    busy = [
        {"rows": mine, "cpu": sum(row["cpu_percent"] or 0.0 for row in mine)}
        for mine in moments.values()
    ]
    return [row for moment in live.thin(busy, "cpu", limit) for row in moment["rows"]]


def staleness(rows: Sequence[Row]) -> dict[str, Any] | None:
    """Gradients by their staleness, and the value that 95 % of them do not exceed; ``None`` where
    workers wait for each other, and none is stale."""
    if not rows:
        return None
    gradients = sum(row["gradients"] for row in rows)
    seen, p95 = 0, rows[-1]["staleness"]
    for row in rows:
        seen += row["gradients"]
        if seen >= 0.95 * gradients:
            p95 = row["staleness"]
            break
    return {
        "updates": [row["staleness"] for row in rows],
        "gradients": [row["gradients"] for row in rows],
        "p95": p95,
    }


def _status(record: RunRecord, directory: RunDirectory) -> dict[str, Any]:
    return {
        "id": record.run_id,
        "state": str(record.state),
        "stands": record.stands,
        "terminal": record.state.is_terminal,
        "exact": record.solver == "exact",
        "workers": record.workers,
        "cores": available_cores(),
        "consistency": _config(directory).get("consistency", "sync"),
    }


def _config(directory: RunDirectory) -> Mapping[str, Any]:
    try:
        found: Mapping[str, Any] = read_json(directory.config)
    except (OSError, ValueError):
        return {}
    return found
