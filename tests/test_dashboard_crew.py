"""The news that the page of the workers gets: timeline, thinning by moments, staleness."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from regatta.configuration import TrainingConfig
from regatta.dashboard import crew_view
from regatta.dashboard.live import Cursor
from regatta.runs.directory import RunDirectory
from regatta.runs.metrics_store import MetricsWriter
from regatta.runs.states import RunState
from regatta.runs.store import RunRecord, RunStore

FIRST = Cursor()


@pytest.fixture
def run(tmp_path: Path) -> tuple[RunStore, RunRecord, RunDirectory]:
    store = RunStore(tmp_path)
    config = TrainingConfig(path="rows.csv", target="y", workers=2, consistency="async")
    record = store.create(config, RunState.QUEUED)
    for state in (RunState.STARTING, RunState.RUNNING, RunState.STOPPED):
        record = store.update_state(record.run_id, state)
    return store, record, store.directory(record.run_id)


def write_seconds(directory: RunDirectory, seconds: range, ranks: int = 2) -> None:
    """A look at each worker every second: 60 % compute, 30 % wait, 10 % communicate."""
    writer = MetricsWriter(directory.metrics)
    for second, rank in itertools.product(seconds, range(ranks)):
        writer.add(
            "workers", seconds=float(second), rank=rank, pid=10 + rank, incarnation=0,
            state="compute", rows=1000 * second, compute=0.6 * second, wait=0.3 * second,
            communicate=0.1 * second, cpu_percent=80.0, memory_bytes=10**7, shards=8,
        )  # fmt: skip
    for second in seconds:
        writer.add("points", step=second, seconds=float(second), rows=2000 * second, loss=1.0,
                   bytes_published=100 * second, bytes_gathered=200 * second)  # fmt: skip
        writer.add("machine", seconds=float(second), cpu_percent=70.0, net_sent=5 * second,
                   net_received=7 * second)  # fmt: skip
    writer.close()


def test_everything_at_first_and_then_what_is_new(run: Any) -> None:
    _, record, directory = run
    write_seconds(directory, range(1, 5))
    first = crew_view.crew_update(record, directory, FIRST)
    assert first["reset"] and first["series"]["rank"] == [0, 1] * 4
    assert first["run"]["consistency"] == "async" and first["reference"] is None
    again = crew_view.crew_update(record, directory, Cursor.parse(first["cursor"]))
    assert not again["reset"] and again["series"]["rank"] == []
    assert again["timeline"] == first["timeline"]  # which is always whole
    write_seconds(directory, range(5, 7))
    third = crew_view.crew_update(record, directory, Cursor.parse(again["cursor"]))
    assert third["series"]["seconds"] == [5.0, 5.0, 6.0, 6.0]
    assert third["points"]["bytes_gathered"] == [1000, 1200]


def test_a_run_that_went_back_is_sent_anew(run: Any) -> None:
    _, record, directory = run
    write_seconds(directory, range(1, 10))
    cursor = Cursor.parse(crew_view.crew_update(record, directory, FIRST)["cursor"])
    writer = MetricsWriter(directory.metrics)
    writer.forget_after(4)
    writer.close()
    assert crew_view.crew_update(record, directory, cursor)["reset"]


def test_the_timeline_is_of_the_last_half_minute(run: Any) -> None:
    _, record, directory = run
    write_seconds(directory, range(101))
    bars = crew_view.crew_update(record, directory, FIRST)["timeline"]
    assert [bar["rank"] for bar in bars] == [0, 1]
    assert bars[0]["start"][0] == 70 and bars[0]["end"][-1] == 100
    assert bars[0]["compute"] == pytest.approx([0.6] * 30)
    assert bars[0]["wait"] == pytest.approx([0.3] * 30)
    assert bars[0]["communicate"] == pytest.approx([0.1] * 30)


def test_what_a_resumed_run_had_lost_is_not_in_its_timeline(run: Any) -> None:
    _, record, directory = run
    write_seconds(directory, range(50, 100), ranks=3)
    write_seconds(directory, range(60, 70))  # from a checkpoint, with fewer workers
    update = crew_view.crew_update(record, directory, FIRST)
    assert [bar["rank"] for bar in update["timeline"]] == [0, 1]
    assert update["timeline"][0]["start"][0] == 60 and update["timeline"][0]["end"][-1] == 69
    assert [row["rank"] for row in update["workers"]] == [0, 1]


def test_a_bar_is_never_longer_than_its_time(run: Any) -> None:
    row = {"rank": 0, "state": "compute", "cpu_percent": 1.0, "rows": 0, "disk_bytes": 0,
           "wait": 0.0, "communicate": 0.0}  # fmt: skip
    (bar,) = crew_view.timeline(
        [{**row, "seconds": 1.0, "compute": 1.0}, {**row, "seconds": 2.0, "compute": 3.0}]
    )
    assert bar["compute"] == [1.0]


def test_a_long_run_is_thinned_by_moments(run: Any) -> None:
    _, record, directory = run
    write_seconds(directory, range(3000))
    update = crew_view.crew_update(record, directory, FIRST)
    seconds = update["series"]["seconds"]
    assert len(seconds) <= 2 * crew_view.MAX_MOMENTS
    assert seconds[0::2] == seconds[1::2] == sorted(set(seconds))  # both workers, each time
    assert seconds[0] == 0 and seconds[-1] == 2999
    assert len(update["points"]["seconds"]) <= crew_view.MAX_MOMENTS


def test_staleness_has_its_95th_percentile() -> None:
    rows = [{"staleness": value, "gradients": count} for value, count in
            [(0, 50), (1, 40), (2, 5), (3, 4), (9, 1)]]  # fmt: skip
    assert crew_view.staleness(rows) == {
        "updates": [0, 1, 2, 3, 9], "gradients": [50, 40, 5, 4, 1], "p95": 2,
    }  # fmt: skip
    assert crew_view.staleness([]) is None


def test_deaths_are_told_and_checkpoints_are_not(run: Any) -> None:
    _, record, directory = run
    writer = MetricsWriter(directory.metrics)
    for kind in ("checkpoint", "worker_died", "import"):
        writer.add("events", seconds=1.0, step=1, kind=kind, rank=1, message="Worker 1 died.")
    writer.close()
    events = crew_view.crew_update(record, directory, FIRST)["events"]
    assert [event["kind"] for event in events] == ["worker_died"]


def test_a_run_that_has_not_begun(run: Any) -> None:
    _, record, directory = run
    update = crew_view.crew_update(record, directory, FIRST)
    assert update["workers"] == [] and update["timeline"] == [] and update["staleness"] is None
    assert update["limits"]["cause"] == "unknown"
