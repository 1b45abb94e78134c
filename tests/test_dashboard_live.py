"""The news that a live view gets: cursors, thinning, the tail of a log."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regatta.configuration import TrainingConfig
from regatta.dashboard import live
from regatta.runs.directory import RunDirectory
from regatta.runs.metrics_store import MetricsWriter
from regatta.runs.states import RunState
from regatta.runs.store import RunRecord, RunStore


@pytest.fixture
def run(tmp_path: Path) -> tuple[RunStore, RunRecord, RunDirectory]:
    store = RunStore(tmp_path)
    record = store.create(TrainingConfig(path="rows.csv", target="y"), RunState.QUEUED)
    return store, record, store.directory(record.run_id)


def write_points(directory: RunDirectory, steps: range) -> None:
    writer = MetricsWriter(directory.metrics)
    for step in steps:
        writer.add("points", step=step, epoch=step / 10, seconds=step / 4, rows=step, loss=1 / step)
        writer.add("workers", seconds=step / 4, rank=step % 2, pid=1, cpu_percent=50.0)
    writer.close()


def test_the_first_call_gets_everything_and_the_next_what_is_new(run: Any) -> None:
    _, record, directory = run
    write_points(directory, range(1, 11))
    first = live.live_update(record, directory, live.Cursor())
    assert first["reset"]
    assert first["points"]["step"] == list(range(1, 11))

    again = live.live_update(record, directory, live.Cursor.parse(first["cursor"]))
    assert not again["reset"]
    assert again["points"]["step"] == [] and again["cursor"] == first["cursor"]

    write_points(directory, range(11, 14))
    third = live.live_update(record, directory, live.Cursor.parse(again["cursor"]))
    assert third["points"]["step"] == [11, 12, 13]
    assert third["worker_series"]["rank"] == [1, 0, 1] or sorted(
        third["worker_series"]["rank"]
    ) == [0, 1, 1]


def test_a_paused_run_stands_at_its_last_step_and_has_no_pace(run: Any) -> None:
    """Not every step has a point: the record is newer."""
    _, record, directory = run
    write_points(directory, range(1, 11))
    for state, step, pace in (("running", 10, 800.0), ("paused", 13, None), ("stopped", 13, 800.0)):
        there = replace(record, state=RunState(state), step=13)
        point = {"step": 10, "epoch": 1.0, "seconds": 2.5, "rows": 10, "learning_rate": 0.1,
                 "rows_per_second": 800.0, "loss": 0.1}  # fmt: skip
        found = live.run_status(there, point, None)
        assert (found["step"], found["rows_per_second"]) == (step, pace)


def test_a_run_that_went_back_is_sent_anew(run: Any) -> None:
    """A resumed run forgets the steps after its checkpoint: a browser must not keep them."""
    _, record, directory = run
    write_points(directory, range(1, 11))
    cursor = live.Cursor.parse(live.live_update(record, directory, live.Cursor())["cursor"])
    writer = MetricsWriter(directory.metrics)
    writer.forget_after(6)
    writer.close()
    update = live.live_update(record, directory, cursor)
    assert update["reset"]
    assert update["points"]["step"] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("text", [None, "", "1_2", "a_b_c_d_e_f_g", "../../etc", "1_2_3_4_5_6_7_8"])
def test_a_foreign_cursor_means_from_the_beginning(text: str | None) -> None:
    assert live.Cursor.parse(text) == live.Cursor()


def test_a_cursor_survives_its_text() -> None:
    cursor = live.Cursor(1, 2, 3, 4, 5, 6, 7)
    assert live.Cursor.parse(str(cursor)) == cursor


@given(
    st.lists(st.floats(-1e9, 1e9) | st.none(), max_size=400),
    st.integers(4, 60),
)
def test_thinning_keeps_order_ends_and_extremes(values: list[float | None], limit: int) -> None:
    rows = [{"step": at, "loss": value} for at, value in enumerate(values)]
    kept = live.thin(rows, "loss", limit)
    assert len(kept) <= max(limit, 2)
    steps = [row["step"] for row in kept]
    assert steps == sorted(set(steps))
    if rows:
        assert kept[0] is rows[0] and kept[-1] is rows[-1]
    finite = [value for value in values if value is not None]
    if finite:
        found = [row["loss"] for row in kept if row["loss"] is not None]
        assert min(found) == min(finite) and max(found) == max(finite)


def test_the_version_changes_with_state_figures_and_log(run: Any) -> None:
    store, record, directory = run
    seen = {live.version(record, directory)}
    assert live.version(record, directory) in seen
    write_points(directory, range(1, 3))
    seen.add(live.version(record, directory))
    directory.log.write_text("begun\n")
    seen.add(live.version(record, directory))
    record = store.update_state(record.run_id, RunState.STOPPED)
    seen.add(live.version(record, directory))
    assert len(seen) == 4


def test_the_log_is_read_by_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "run.log"
    assert live.read_log(path, -1) == ([], -1)
    path.write_text("one\ntwo\nthr", encoding="utf-8")
    lines, offset = live.read_log(path, -1)
    assert lines == ["one", "two"]
    path.write_text("one\ntwo\nthree\n", encoding="utf-8")
    assert live.read_log(path, offset) == (["three"], 14)


def test_only_the_end_of_a_long_log_is_sent(tmp_path: Path) -> None:
    path = tmp_path / "run.log"
    path.write_text("".join(f"line {number}\n" for number in range(50_000)))
    lines, offset = live.read_log(path, -1)
    assert len(lines) == live.LOG_LINES
    assert lines[-1] == "line 49999"
    assert offset == path.stat().st_size


@pytest.mark.parametrize(("total", "foreseen"), [(20_000, True), (None, False)])
def test_time_left_is_told_only_where_the_number_of_steps_is_known(
    run: Any, total: int | None, foreseen: bool
) -> None:
    store, record, directory = run
    write_points(directory, range(1, 11))
    with directory.lock():
        for state in (RunState.STARTING, RunState.RUNNING):
            store.update_state(record.run_id, state, total_steps=total, progress=0.1)
        status = live.live_update(store.get(record.run_id), directory, live.Cursor())["run"]
    assert (status["eta"] is not None) == foreseen and status["total_steps"] == total


def test_status_of_a_run_that_has_not_begun(run: Any) -> None:
    _, record, directory = run
    status = live.live_update(record, directory, live.Cursor())["run"]
    assert status["state"] == "queued" and status["step"] == 0 and status["eta"] is None


def test_of_many_checkpoints_some_are_told_and_of_the_rest_all(run: Any) -> None:
    _, record, directory = run
    writer = MetricsWriter(directory.metrics)
    for number in range(2000):
        writer.add("events", seconds=number, step=number, kind="checkpoint", message="Saved.")
    writer.add("events", seconds=0.5, step=1, kind="rate_changed", message="Rate.")
    writer.close()
    events = live.live_update(record, directory, live.Cursor())["events"]
    ids = [event["id"] for event in events]
    assert len(ids) <= live.MAX_CHECKPOINTS + 1 and ids == sorted(ids)
    assert ids[-2:] == [2000, 2001] and ids[0] < 30  # the last, and some of all times
    assert [event["kind"] for event in events].count("rate_changed") == 1


def test_where_the_time_went_and_what_is_in_force_are_told(run: Any) -> None:
    store, record, directory = run
    writer = MetricsWriter(directory.metrics)
    writer.fact("load_seconds", 2.5)
    writer.fact("checkpoint_seconds", 0.5)
    writer.close()
    with directory.lock():
        for state in (RunState.STARTING, RunState.RUNNING):
            store.update_state(record.run_id, state, batch_size=64, learning_rate=0.1)
        status = live.live_update(store.get(record.run_id), directory, live.Cursor())["run"]
    assert (status["load_seconds"], status["checkpoint_seconds"]) == (2.5, 0.5)
    assert status["batch_size"] == 64
