"""The list of runs as a table: which of them are shown, and a row for each.

A loss curve comes from a run's ``metrics.db``, a few dozen points whatever its length, and is kept
in memory until the run goes on: of 200 ended runs none is opened again. Those of the newest runs
are read first, and after `READING_SECONDS` the others wait for the next look.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from regatta.dashboard import words
from regatta.runs.directory import RunDirectory
from regatta.runs.metrics_store import MetricsReader
from regatta.runs.states import RunState
from regatta.runs.store import RunRecord, RunStore, waiting

STATES = ("All", "Under way", "Finished", "Broken off")
CURVE_POINTS = 40
READING_SECONDS = 0.25
MOST_KEPT = 5_000

# Shape beside the word: what a run is doing can be seen without reading.
MARKS: Mapping[RunState, str] = {
    RunState.QUEUED: "○",
    RunState.STARTING: "◔",
    RunState.RUNNING: "▶",
    RunState.PAUSED: "‖",
    RunState.FINISHED: "✓",
    RunState.STOPPED: "■",
    RunState.FAILED: "✗",
    RunState.DIVERGED: "✗",
    RunState.INTERRUPTED: "!",
}

Version = tuple[Any, ...]

# Of each run directory the curve, and what it was when it was read.
_curves: dict[Path, tuple[Version, list[float]]] = {}


def chosen(records: Iterable[RunRecord], state: str, text: str) -> list[RunRecord]:
    """Those in a state (one of `STATES`) that have every word of ``text`` in their name, data,
    target, model, state or id, in upper or lower case."""
    wanted = text.casefold().split()
    return [
        each
        for each in records
        if _belongs(each.state, state) and all(word in _words_of(each) for word in wanted)
    ]


def rows(
    store: RunStore, records: Sequence[RunRecord], shown: Sequence[RunRecord]
) -> list[dict[str, Any]]:
    """A row for each run of ``shown``; all ``records`` tell its place in the queue."""
    queue = [each.run_id for each in waiting(records)]
    places = {run_id: f"{place} of {len(queue)}" for place, run_id in enumerate(queue, 1)}
    until = time.perf_counter() + READING_SECONDS
    curves = [curve(each, store.directory(each.run_id), until) for each in shown]
    return [
        _row(each, places.get(each.run_id, ""), loss)
        for each, loss in zip(shown, curves, strict=True)
    ]


def _row(record: RunRecord, place: str, loss: list[float]) -> dict[str, Any]:
    model = words.MODEL_NAMES.get(record.model, record.model)
    return {
        "run": record.title,
        "state": state_text(record, place),
        "loss": loss,
        "r2": record.validation_r2,
        "model": f"{model}, exact" if record.solver == "exact" else model,
        "data": record.dataset,
        "target": record.target,
        "time": words.duration(seconds_of(record)),
        "when": words.ago(record.created),
    }


def state_text(record: RunRecord, place: str = "") -> str:
    """A state with its mark, and how far the run is in it."""
    text = f"{MARKS[record.state]} {record.state}"
    if place:
        return f"{text}, {place}"
    if record.state.is_live and record.total_steps:
        return f"{text}, {100 * record.progress:.0f} %"
    return text


def seconds_of(record: RunRecord) -> float | None:
    """How long it took, or has taken so far; None before it begins."""
    if record.started is None or record.state is RunState.QUEUED:
        return None
    end = time.time() if record.state.is_live else record.ended
    return None if end is None else max(end - record.started, 0.0)


def curve(record: RunRecord, directory: RunDirectory, until: float) -> list[float]:
    """Powers of ten of the training loss along the run, `CURVE_POINTS` at most. One that is not
    known yet is read before ``until`` (``time.perf_counter``) alone, and is empty after it."""
    if record.state is RunState.QUEUED:
        return []
    version: Version = (record.ended, record.restarts)
    if record.state.is_live:
        version = tuple(_changed(directory.metrics.with_name(f"metrics.db{end}"))
                        for end in ("", "-wal"))  # fmt: skip
    known, found = _curves.get(directory.path, (None, []))
    if known != version and time.perf_counter() < until:
        losses = MetricsReader(directory.metrics).losses(CURVE_POINTS)
        found = [math.log10(loss) for loss in losses if loss > 0]
        if len(_curves) >= MOST_KEPT:
            _curves.clear()  # runs come and go
        _curves[directory.path] = version, found
    return found


def _changed(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_mtime_ns, status.st_size


def _belongs(state: RunState, wanted: str) -> bool:
    if wanted == "Under way":
        return not state.is_terminal
    if wanted == "Finished":
        return state is RunState.FINISHED
    if wanted == "Broken off":
        return state.is_terminal and state is not RunState.FINISHED
    return True


def _words_of(record: RunRecord) -> str:
    model = words.MODEL_NAMES.get(record.model, record.model)
    parts = (record.title, record.dataset, record.target, model, record.model, record.state)
    return " ".join([*parts, record.run_id]).casefold()
