"""Runs and machine for Prometheus: what ``GET /metrics`` answers.

    store, machine ── families ──▶ Families ── exposition ──▶ Prometheus' text, or OpenMetrics'

No run ids as labels: a series for each run would never end. Counters are sums over all runs, those
that were deleted too, so they only grow. docs/monitoring.md tells what each is good for.
"""

from __future__ import annotations

import platform
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import psutil

import regatta
from regatta.runs import service
from regatta.runs.states import RunState
from regatta.runs.store import RunRecord, RunStore

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPEN_METRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

Sample = tuple[Mapping[str, str], float]


@dataclass(frozen=True)
class Family:
    """A metric: its name without the suffix of its kind, what it means, its values by label."""

    name: str
    kind: str  # "gauge", "counter" or "info"
    help: str
    samples: Sequence[Sample]

    @property
    def sample_name(self) -> str:
        """The name of its series."""
        return self.name + {"counter": "_total", "info": "_info"}.get(self.kind, "")


def media_type(accept: str) -> str:
    """The format for a client that sends this header ``Accept``."""
    return OPEN_METRICS if OPEN_METRICS.split(";")[0] in accept else TEXT


def exposition(found: Iterable[Family], media_type: str = TEXT) -> str:
    """Families as text. Prometheus' own format names a family by its series; OpenMetrics leaves
    the suffix away, knows the kind "info", and ends with a mark."""
    is_open = media_type == OPEN_METRICS
    lines = []
    for each in found:
        name = each.name if is_open else each.sample_name
        kind = "gauge" if each.kind == "info" and not is_open else each.kind
        lines += [f"# HELP {name} {each.help}", f"# TYPE {name} {kind}"]
        lines += [f"{each.sample_name}{_labels(labels)} {value:.15g}"
                  for labels, value in each.samples]  # fmt: skip
    return "\n".join([*lines, "# EOF"] if is_open else lines) + "\n"


def families(store: RunStore) -> list[Family]:
    """Everything that is told, as it is now."""
    records = store.list()
    return [*_of_runs(records), *_of_work(store.counts(records)), *_of_server(store)]


def _of_runs(records: Sequence[RunRecord]) -> list[Family]:
    states = Counter(each.state for each in records)
    live = [each for each in records if each.state.is_live]
    speed = sum(each.rows_per_second or 0.0 for each in live if each.state is RunState.RUNNING)
    return [
        Family("regatta_runs", "gauge", "Runs by state.",
               [({"state": str(state)}, states[state]) for state in RunState]),
        _gauge("regatta_workers", "Worker processes of all live runs.",
               sum(each.workers or 0 for each in live)),
        _gauge("regatta_rows_per_second", "Rows that all running runs train on a second.", speed),
    ]  # fmt: skip


def _of_work(counts: Mapping[str, int]) -> list[Family]:
    return [
        _counter("regatta_trained_rows", "Rows trained on, what a crash undid included.",
                 counts["rows_trained"]),
        _counter("regatta_run_restarts", "Attempts at a run after its first.", counts["restarts"]),
        _counter("regatta_worker_deaths", "Workers that died or hung.", counts["worker_deaths"]),
        _counter("regatta_checkpoints", "Checkpoints written.", counts["checkpoints"]),
    ]  # fmt: skip


def _of_server(store: RunStore) -> list[Family]:
    process, disk = psutil.Process(), shutil.disk_usage(store.home)
    version = {"version": regatta.__version__, "python": platform.python_version()}
    return [
        _gauge("regatta_supervisor_up", "Whether a supervisor lives; it leaves when idle.",
               service.supervisor_pid(store) is not None),
        _gauge("regatta_home_free_bytes", "Room on the disk of Regatta's home.", disk.free),
        _gauge("regatta_home_size_bytes", "Size of the disk of Regatta's home.", disk.total),
        _gauge("regatta_process_resident_memory_bytes", "Resident memory of the page's server.",
               process.memory_info().rss),
        _counter("regatta_process_cpu_seconds", "CPU time of the page's server.",
                 time.process_time()),
        _gauge("regatta_process_start_time_seconds",
               "When the page's server started, since the epoch.", process.create_time()),
        Family("regatta_build", "info", "Versions of Regatta and Python.", [(version, 1)]),
    ]  # fmt: skip


def _gauge(name: str, help: str, value: float) -> Family:
    return Family(name, "gauge", help, [({}, value)])


def _counter(name: str, help: str, value: float) -> Family:
    return Family(name, "counter", help, [({}, value)])


def _labels(labels: Mapping[str, str]) -> str:
    """Labels as both formats write them. Their values are ours: no character needs an escape."""
    pairs = ",".join(f'{name}="{value}"' for name, value in labels.items())
    return f"{{{pairs}}}" if pairs else ""
