"""Runs and machine in Prometheus' text format, for ``GET /metrics``.

No run ids as labels: a series for each run would never end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from regatta.runs.states import RunState
from regatta.runs.store import RunRecord

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def exposition(records: Iterable[RunRecord]) -> str:
    """The page's figures: runs by state, and rows a second over the live ones."""
    runs = list(records)
    states = Counter(str(each.state) for each in runs)
    lines = [
        "# HELP regatta_runs Runs by state.",
        "# TYPE regatta_runs gauge",
        *(f'regatta_runs{{state="{state}"}} {states[str(state)]}' for state in RunState),
        "# HELP regatta_rows_per_second Training rows processed a second by all live runs.",
        "# TYPE regatta_rows_per_second gauge",
        f"regatta_rows_per_second {sum(_speed(each) for each in runs):.6g}",
        "# HELP regatta_workers Worker processes of all live runs.",
        "# TYPE regatta_workers gauge",
        f"regatta_workers {sum(each.workers or 0 for each in runs if each.state.is_live)}",
    ]
    return "\n".join(lines) + "\n"


def _speed(record: RunRecord) -> float:
    return float(record.rows_per_second or 0.0) if record.state is RunState.RUNNING else 0.0
