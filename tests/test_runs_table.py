"""The list of runs: what a row says, which are chosen by a word, and how little is read for it."""

from __future__ import annotations

import itertools
import os
import shutil
import sqlite3
import time
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from regatta.configuration import TrainingConfig
from regatta.dashboard import runs_table
from regatta.runs.metrics_store import MetricsReader, MetricsWriter
from regatta.runs.states import RunState
from regatta.runs.store import RunRecord, RunStore, waiting
from regatta.tests.pages import open_page

STARTING, RUNNING, FINISHED = RunState.STARTING, RunState.RUNNING, RunState.FINISHED
FAILED = RunState.FAILED


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine that is busy, too, curves are read at the first look."""
    monkeypatch.setattr(runs_table, "READING_SECONDS", 60.0)


def make_run(store: RunStore, *path: RunState, **settings: Any) -> RunRecord:
    """A detached run that goes through these states with its lock held, and lets it go."""
    config = TrainingConfig(**{"path": "/data/rows.csv", "target": "y", **settings})
    record = store.create(config, detached=True)
    with store.directory(record.run_id).lock():
        for state in path:
            record = store.update_state(record.run_id, state)
    return record


def write_losses(store: RunStore, record: RunRecord, losses: list[float | None]) -> None:
    writer = MetricsWriter(store.directory(record.run_id).metrics)
    for step, loss in enumerate(losses, 1):
        writer.add("points", step=3 * step, loss=loss)
    writer.close()


def rows(store: RunStore) -> list[dict[str, Any]]:
    records = store.list()
    return runs_table.rows(store, records, records)


# Rows


def test_a_run_that_has_not_begun_says_where_it_waits_and_nothing_else(store: RunStore) -> None:
    for _ in range(2):
        make_run(store)
    last, first = rows(store)
    assert (first["state"], last["state"]) == ("○ queued, 1 of 2", "○ queued, 2 of 2")
    assert (first["loss"], first["r2"], first["time"]) == ([], None, "–")


def test_a_run_that_failed_has_the_curve_it_came_to_and_no_score(store: RunStore) -> None:
    record = make_run(store, STARTING, RUNNING, FAILED)
    write_losses(store, record, [100.0, 10.0, None, 1.0])
    (row,) = rows(store)
    assert row["state"] == "✗ failed" and row["r2"] is None and row["time"] != "–"
    assert row["loss"] == pytest.approx([2.0, 1.0, 0.0])


def test_a_run_under_way_tells_how_far_it_is_and_for_how_long(store: RunStore) -> None:
    record = make_run(store, STARTING, RUNNING)
    with store.directory(record.run_id).lock():
        store.update(record.run_id, total_steps=100, progress=0.374, started=time.time() - 75)
        (row,) = rows(store)
        assert row["state"] == "▶ running, 37 %" and row["time"].startswith("1:1")
    (row,) = rows(store)
    assert row["state"] == "! interrupted"


def test_every_state_has_a_mark() -> None:
    assert set(runs_table.MARKS) == set(RunState)


@pytest.mark.parametrize(
    ("state", "text", "found"),
    [
        ("All", "", "abc"),
        ("Finished", "", "a"),
        ("Under way", "", "b"),
        ("Broken off", "", "c"),
        ("All", "HOUSES", "ab"),
        ("All", "houses price lasso", "b"),
        ("All", "failed", "c"),
        ("Finished", "houses rent", ""),
        ("All", "first", "a"),
        ("All", "elastic net", "c"),
    ],
)
def test_runs_are_chosen_by_state_and_words(
    store: RunStore, state: str, text: str, found: str
) -> None:
    names = {
        make_run(store, STARTING, RUNNING, FINISHED, path="/d/houses.csv", name="My first"
                 ).run_id: "a",
        make_run(store, path="/d/houses.csv", target="Price", model="lasso").run_id: "b",
        make_run(store, STARTING, FAILED, path="/d/bikes.csv", target="price",
                 model="elasticnet").run_id: "c",
    }  # fmt: skip
    chosen = runs_table.chosen(store.list(), state, text)
    assert sorted(names[each.run_id] for each in chosen) == list(found)


# What is read


def test_a_curve_is_a_few_points_of_the_whole_run(store: RunStore) -> None:
    record = make_run(store, STARTING, RUNNING, FINISHED)
    write_losses(store, record, [float(2000 - step) for step in range(2000)])
    losses = MetricsReader(store.directory(record.run_id).metrics).losses(40)
    assert len(losses) == 40 and losses[0] == 2000.0 and losses[-1] == 1.0
    gaps = [before - after for before, after in itertools.pairwise(losses)]
    assert max(gaps) - min(gaps) <= 1
    write_losses(store, make_run(store, STARTING, RUNNING, FINISHED), [])
    assert rows(store)[0]["loss"] == []


def test_a_curve_goes_on_with_its_run(store: RunStore) -> None:
    record = make_run(store, STARTING, RUNNING)
    with store.directory(record.run_id).lock():
        write_losses(store, record, [100.0, 10.0])
        assert rows(store)[0]["loss"] == pytest.approx([2.0, 1.0])
        write_losses(store, record, [100.0, 10.0, 1.0])
        metrics = store.directory(record.run_id).metrics
        os.utime(metrics, ns=(time.time_ns(), time.time_ns() + 1))
        assert rows(store)[0]["loss"] == pytest.approx([2.0, 1.0, 0.0])


def test_curves_that_would_take_too_long_come_with_the_next_look(
    store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_losses(store, make_run(store, STARTING, FAILED), [3.0, 1.0])
    monkeypatch.setattr(runs_table, "READING_SECONDS", -1.0)
    assert rows(store)[0]["loss"] == []
    monkeypatch.setattr(runs_table, "READING_SECONDS", 60.0)
    assert len(rows(store)[0]["loss"]) == 2
    monkeypatch.setattr(runs_table, "READING_SECONDS", -1.0)
    assert len(rows(store)[0]["loss"]) == 2, "it is known now"


def test_200_ended_runs_are_opened_once(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    record = make_run(store, STARTING, FAILED)
    write_losses(store, record, [3.0, 2.0, 1.0])
    first = store.directory(record.run_id).path
    for number in range(199):
        shutil.copytree(first, first.with_name(f"20260101-000000-{number:04x}"))
    store.list()
    started = time.perf_counter()
    rows(store)
    seconds = time.perf_counter() - started
    opened: list[Any] = []
    connect = sqlite3.connect

    def counted(path: Any, *arguments: Any, **settings: Any) -> sqlite3.Connection:
        opened.append(path)
        made: sqlite3.Connection = connect(path, *arguments, **settings)
        return made

    monkeypatch.setattr(sqlite3, "connect", counted)
    assert len(rows(store)) == 200
    assert opened == [store.path], "the list of runs, and no run"
    assert seconds < 5, "0.2 s on an idle machine"


# The page


def test_the_address_says_which_runs_are_shown(store: RunStore) -> None:
    make_run(store, STARTING, RUNNING, FINISHED, name="one")
    make_run(store, STARTING, FAILED, name="two")
    make_run(store, STARTING, FAILED, name="three")
    page = open_page("runs", show="Broken off", filter="two")
    assert list(page.dataframe[0].value["run"]) == ["two"]
    assert "1 of 3 runs" in page.caption[0].value
    page.text_input[0].set_value("nothing like it").run()
    assert not page.dataframe and "No run is like that" in page.caption[0].value
    assert len(open_page("runs").dataframe[0].value) == 3


def button(page: AppTest, key: str) -> Any:
    (found,) = [each for each in page.button if each.key == key]
    return found


def test_the_order_of_the_queue_is_changed_by_a_click(store: RunStore) -> None:
    one, two = make_run(store, name="one").run_id, make_run(store, name="two").run_id
    page = open_page("runs")
    assert "2 runs wait" in page.markdown[0].value
    assert button(page, f"queue-up-{one}").disabled and button(page, f"queue-first-{one}").disabled
    button(page, f"queue-first-{two}").click().run()
    assert [each.run_id for each in waiting(store.list())] == [two, one]
    assert button(page, f"queue-up-{two}").disabled
    assert not page.warning


def test_a_run_that_has_started_meanwhile_is_not_moved_and_that_is_told(store: RunStore) -> None:
    runs = [make_run(store, name=name).run_id for name in ("one", "two", "three")]
    page = open_page("runs")
    store.send_command(runs[1], "stop")
    button(page, f"queue-down-{runs[1]}").click().run()
    assert "has no place in the queue" in page.warning[0].value


def test_one_run_that_waits_needs_no_order(store: RunStore) -> None:
    make_run(store)
    page = open_page("runs")
    assert not [each for each in page.button if each.key and each.key.startswith("queue-")]
