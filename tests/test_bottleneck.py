"""What limits a run: from made-up figures, and in runs to which something is done."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regatta.configuration import TrainingConfig
from regatta.coordinator import run_training
from regatta.metrics import ProcessSampler
from regatta.parameter_server.bottleneck import (
    Announcer,
    Bottleneck,
    Pace,
    Window,
    WorkerTimes,
    find,
    times_of,
)
from regatta.runs import diagnosis
from regatta.runs.metrics_store import MetricsReader, MetricsWriter
from regatta.runs.states import RunState
from regatta.runs.store import RunStore
from regatta.utils import available_cores

BUSY = {"compute": 9.7, "wait": 0.2, "communicate": 0.1, "rows": 1_000_000, "cpu": 9.8}


def crew(*changes: dict[str, Any]) -> list[WorkerTimes]:
    """A worker for each of these changes to one that computes all the time."""
    return [WorkerTimes(rank, **{**BUSY, **each}) for rank, each in enumerate(changes)]


def window(*changes: dict[str, Any], **given: Any) -> Window:
    settings = {"cores": 4, "machine_cpu": 60.0, "rows": 2_000_000, "steps": 200, **given}
    return Window(crew(*changes), **settings)


WAITING = {"compute": 2.0, "wait": 7.5, "communicate": 0.5, "rows": 200_000}
SLOW = {"rows": 250_000}
WAITING_FOR_IT = {"compute": 4.0, "wait": 5.9, "rows": 800_000, "cpu": 4.5}


@pytest.mark.parametrize(
    ("found", "cause", "words"),
    [
        (window({}, {}, cores=2), "nothing", "all 2 cores are busy with gradients"),
        (window({}, {}), "nothing", "on 2 of 4 cores"),
        (window({}, cores=1), "nothing", "the core is busy"),
        (window(WAITING_FOR_IT, SLOW), "slow_worker", "worker 1 computes 7.8 times slower"),
        (window({}, {}, {"rows": 300_000}), "slow_worker", "worker 2 computes 3.3 times slower"),
        (window(WAITING, WAITING, rows=1600, steps=200), "small_batches",
         "a batch of 8 rows on average is too little for 2 workers"),
        (window(WAITING, WAITING, rows=10**6, steps=10), "coordinator", "2 workers wait"),
        (window(WAITING, rows=1600, steps=200), "coordinator", "the worker waits"),
        (window(WAITING, WAITING, exact=True), "coordinator", "adds up and solves"),
        (window(WAITING, WAITING, rows=1600, steps=200, waits=False), "coordinator",
         "2 workers wait"),
        (window(*[{"communicate": 6.0, "compute": 3.0}] * 2), "communication",
         "65 % of their time"),
        (window(*[{"cpu": 4.0}] * 4, cores=2, machine_cpu=99.0), "too_many_workers",
         "4 share 2 cores"),
        (window(*[WAITING] * 4, cores=2, rows=1600), "too_many_workers", "Take 2 workers"),
        (window(*[{"cpu": 4.0}] * 2, machine_cpu=99.0), "other_programs", "41 % of a core"),
        (window(*[{"cpu": 4.0}] * 2, machine_cpu=50.0), "cpu_limit", "41 % of a core"),
        (window(*[{"cpu": 3.0, "disk_bytes": 10**9}] * 2, machine_cpu=30.0), "loader",
         "from the disk at 103 MB a second"),
        (window({}, {}, reference=Pace(1, 2e5, 250_000.0)), "memory_bandwidth",
         "41 % of the rows that it computed with 1 worker"),
        (window({}, {}, reference=Pace(1, 1e5, 110_000.0), cores=2), "nothing", "all 2 cores"),
        (window({}, {}, loading_seconds=30.0, training_seconds=10.0), "loader",
         "reading and preparing the file took 30.0 s, training on it 10.0 s"),
        (window({}, {}, loading_seconds=4.0, training_seconds=10.0), "nothing", "busy"),
        (window(WAITING, WAITING, rows=1600, loading_seconds=5.0, training_seconds=10.0),
         "small_batches", "8 rows"),
        (window(WAITING, WAITING, rows=50_800, steps=200, batch_size=256), "small_batches",
         "a batch of 256 rows is too little"),
        (window(WAITING, WAITING, rows=50_800, steps=200, batch_size=1024), "small_batches",
         "a batch of 254 rows on average is too little"),
    ],
)  # fmt: skip
def test_the_cause_is_named(found: Window, cause: str, words: str) -> None:
    told = find(found)
    assert told.cause == cause, told
    assert words in f"{told.sentence} {told.advice}"
    assert told.advice or cause == "nothing"
    json.dumps(told.to_json())


def test_a_slow_rank_that_waits_itself_is_not_the_cause() -> None:
    """With tiny batches one rank may have few rows in a second of computing."""
    slow = {**WAITING, "rows": 50_000}
    assert find(window(WAITING, slow, rows=1600, steps=200)).cause == "small_batches"


def test_a_core_that_is_shared_makes_one_slow_worker() -> None:
    """Its worker computes without a core, but that is no reason for all."""
    shared = {"rows": 250_000, "cpu": 2.4}
    assert find(window(WAITING_FOR_IT, shared, machine_cpu=99.0)).cause == "slow_worker"


@pytest.mark.parametrize("seconds", [{}, {"loading_seconds": 0.01, "training_seconds": 0.02}])
def test_too_little_time_says_nothing(seconds: dict[str, float]) -> None:
    short = {"compute": 0.1, "wait": 0.1, "communicate": 0.0}
    assert find(window(short, **seconds)).cause == "unknown"
    assert find(Window([], 2)).cause == "unknown"


def test_a_short_training_after_a_long_import_is_limited_by_the_loader() -> None:
    found = find(Window([], 2, loading_seconds=0.8, training_seconds=0.005))
    assert found.cause == "loader" and "800 ms, training on it 5 ms" in found.sentence


@given(
    st.lists(
        st.builds(
            WorkerTimes,
            rank=st.integers(0, 9),
            compute=st.floats(0, 100),
            wait=st.floats(0, 100),
            communicate=st.floats(0, 100),
            rows=st.integers(0, 10**9),
            cpu=st.none() | st.floats(0, 200),
            disk_bytes=st.integers(0, 10**10),
        ),
        max_size=6,
        unique_by=lambda each: each.rank,
    ),
    st.integers(1, 8),
    st.none() | st.floats(0, 100),
    st.integers(0, 10**7),
    st.integers(0, 10**4),
    st.booleans(),
    st.booleans(),
)
def test_whatever_was_measured_has_a_sentence(
    workers: list[WorkerTimes],
    cores: int,
    machine: float | None,
    rows: int,
    steps: int,
    exact: bool,
    waits: bool,
) -> None:
    found = find(Window(workers, cores, machine, rows, steps, exact, waits, Pace(1, 1e6, 1e6)))
    assert found.sentence.endswith(".") and 0 <= found.lost <= 1


# From rows of the table `workers`


def rows_of(*looks: dict[str, Any], rank: int = 0) -> list[dict[str, Any]]:
    base = {"rank": rank, "state": "compute", "cpu_percent": 100.0, "shards": 8, "disk_bytes": 0,
            "compute": 0.0, "wait": 0.0, "communicate": 0.0, "rows": 0}  # fmt: skip
    return [{**base, **each} for each in looks]


def test_times_are_what_was_added() -> None:
    rows = rows_of(
        {"seconds": 1.0, "compute": 5.0, "wait": 1.0, "rows": 100},
        {"seconds": 2.0, "compute": 5.75, "wait": 1.25, "rows": 150, "cpu_percent": 80.0},
        {"seconds": 3.0, "compute": 6.5, "wait": 1.5, "rows": 200, "cpu_percent": 60.0},
    )
    (found,) = times_of(rows)
    assert (found.compute, found.wait, found.rows) == (1.5, 0.5, 100)
    assert found.cpu == pytest.approx(1.4)


def test_a_pause_and_a_new_attempt_are_no_time_of_a_worker() -> None:
    rows = rows_of(
        {"seconds": 1.0, "compute": 1.0, "rows": 100},
        {"seconds": 1.5, "compute": 1.5, "wait": 60.0, "rows": 150},  # a minute's pause
        {"seconds": 1.5, "compute": 1.5, "wait": 90.0, "rows": 150},
        {"seconds": 2.0, "compute": 2.0, "wait": 90.0, "rows": 200},
        {"seconds": 3.0, "compute": 0.5, "wait": 0.5, "rows": 10},  # resumed: it counts anew
        {"seconds": 4.0, "compute": 1.5, "wait": 0.5, "rows": 110},
    )
    (found,) = times_of(rows)
    assert found.compute == 2.0 and found.rows == 200 and found.wait <= 0.5


def test_a_worker_that_was_let_go_is_left_out() -> None:
    gone = [{"rank": 1, "seconds": 2.0, "state": "gone", "compute": None, "cpu_percent": None}]
    rows = rows_of({"seconds": 1.0}, {"seconds": 3.0, "compute": 1.0})
    found = times_of([*rows_of({"seconds": 1.0}, rank=1), *rows[:1], *gone, *rows[1:]])
    assert [each.rank for each in found] == [0]


def test_a_change_is_told_once_it_has_held() -> None:
    announcer, slow = Announcer(), Bottleneck("slow_worker", "Slow.")
    small, fine = Bottleneck("small_batches", "Small."), Bottleneck("nothing", "Fine.")
    told = [announcer.update(small, second) for second in range(12)]
    assert told == [*[None] * 10, "What limits this run: Small.", None]
    assert announcer.update(fine, 12.0) is None  # for a moment
    assert announcer.update(small, 13.0) is None
    assert [announcer.update(fine, 14.0 + second) for second in range(11)][-1]
    # The pool itself tells of a slow worker.
    assert [announcer.update(slow, 30.0 + second) for second in range(20)] == [None] * 20
    assert [announcer.update(fine, 50.0 + second) for second in range(11)][-1]


def test_what_fewer_workers_did_is_remembered() -> None:
    watch = diagnosis.Watch(exact=False, waits=True)
    machine = {"seconds": 0.0, "cpu_percent": 50.0}

    def look(second: int, ranks: int, pace: float) -> None:
        rows = [
            row
            for rank in range(ranks)
            for row in rows_of(
                {"seconds": second, "compute": float(second), "rows": int(pace * second)}, rank=rank
            )
        ]
        watch.update(
            rows, {**machine, "seconds": second}, seconds=second, rows=second, steps=second
        )

    for second in range(8):
        look(second, 1, 1000.0)
    assert watch.reference(1) is None
    found = watch.reference(2)
    assert found is not None and found.workers == 1
    assert found.rows_per_cpu_second == pytest.approx(1000.0)
    for second in range(8, 16):
        look(second, 2, 400.0)
    assert watch.reference(2) == found
    third = watch.reference(3)
    assert third == found


# Runs


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "rows.csv"
    rng = np.random.default_rng(0)
    X = rng.standard_normal((20_000, 5))
    y = X @ [1.0, 2.0, 3.0, 4.0, 5.0] + rng.standard_normal(len(X))
    np.savetxt(path, np.column_stack([X, y]), fmt="%.4f", delimiter=",",
               header="a,b,c,d,e,y", comments="")  # fmt: skip
    return path


# Each block of rows takes some milliseconds: asleep, so that the cores of the machine do not
# matter, or busy, so that they do. The file says for whom it takes how many times longer.
TIMED = """
import multiprocessing, os, time
from regatta.models import Ridge

def factor():
    try:
        with open(os.environ["REGATTA_TEST_SLOW"]) as file:
            name, times = file.read().split()
    except (OSError, ValueError):
        return 1.0
    mine = multiprocessing.current_process().name
    return float(times) if name in ("all", mine) else 1.0

class Sleepy(Ridge):
    def loss(self, residual, derivative):
        time.sleep(0.004 * factor())
        return super().loss(residual, derivative)

class Busy(Ridge):
    def loss(self, residual, derivative):
        end = time.process_time() + 0.004
        while time.process_time() < end:
            pass
        return super().loss(residual, derivative)
"""


@pytest.fixture
def slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "timed.py").write_text(TIMED)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("REGATTA_TEST_SLOW", str(tmp_path / "slow"))
    yield tmp_path / "slow"


@pytest.fixture
def train(regatta_home: Path, table: Path) -> Callable[..., tuple[str, Bottleneck]]:
    """Train, and say what limited the run."""

    def run(**settings: Any) -> tuple[str, Bottleneck]:
        store = RunStore(regatta_home)
        given = {"target": "y", "tol": 0.0, "solver": "sgd", **settings}
        run_id = store.create(TrainingConfig(path=str(table), **given)).run_id
        run_training(run_id, store)
        record = store.get(run_id)
        return run_id, diagnosis.limits_of(record, store.directory(run_id))

    return run


@pytest.fixture
def own_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every worker is measured to have a core, though it sleeps."""
    monkeypatch.setattr(ProcessSampler, "sample", lambda self, pid: (100.0, 10_000_000))
    monkeypatch.setattr("regatta.runs.diagnosis.available_cores", lambda: 2)


def test_batches_of_eight_rows_on_two_workers(train: Any) -> None:
    _, found = train(workers=2, batch_size=8, epochs=30)
    expected = "too_many_workers" if available_cores() < 2 else "small_batches"
    assert found.cause == expected, found
    assert found.evidence["wait_share"] > 0.4


def test_more_workers_than_cores(train: Any, slow: Path) -> None:
    _, found = train(workers=available_cores() + 2, batch_size=4096, epochs=8, model="timed:Busy")
    assert found.cause == "too_many_workers", found


def test_one_slow_worker(train: Any, slow: Path, own_cores: None, regatta_home: Path) -> None:
    slow.write_text("regatta-worker-1 4")
    run_id, found = train(workers=2, batch_size=4096, epochs=16, model="timed:Sleepy")
    assert found.cause == "slow_worker" and found.evidence["rank"] == 1, found
    told = MetricsReader(RunStore(regatta_home).directory(run_id).metrics).read("events")
    assert any(event["kind"] == "worker_slow" for event in told)


def test_workers_that_slow_each_other_down(
    train: Any, slow: Path, own_cores: None, regatta_home: Path
) -> None:
    """As those do that share the bandwidth of one memory; and the pace of one alone is known from
    a run before."""
    _, found = train(workers=1, batch_size=4096, epochs=8, model="timed:Sleepy")
    assert found.cause == "nothing", found
    slow.write_text("all 3")
    both, found = train(workers=2, batch_size=4096, epochs=8, model="timed:Sleepy")
    assert found.cause == "memory_bandwidth", found
    facts = MetricsReader(RunStore(regatta_home).directory(both).metrics).facts()
    assert facts["reference_workers"] == 1 and facts["reference_rows_per_second"] > 0


def test_all_cores_busy_with_gradients(train: Any, slow: Path, own_cores: None) -> None:
    _, found = train(workers=2, batch_size=4096, epochs=8, model="timed:Sleepy")
    assert found.cause == "nothing" and "all 2 cores" in found.sentence, found


def test_an_exact_run_is_limited_by_its_import(train: Any) -> None:
    _, found = train(solver="exact", workers=1, tol=1e-6)
    assert found.cause == "loader" and "reading and preparing" in found.sentence


def test_a_run_in_one_process_has_nobody_to_wait_for(train: Any) -> None:
    for _ in range(2):  # the second starts from the prepared rows
        _, found = train(workers=0, batch_size=256, epochs=30)
    assert found.cause == "unknown" and "one process" in found.sentence


def test_the_command_says_it_too(regatta: Any, table: Path) -> None:
    trained = regatta("train", table, "--target", "y", "--workers", "1", "--name", "told")
    assert trained.returncode == 0, trained.stderr
    limits = json.loads(regatta("runs", "show", "told", "--json").stdout)["limits"]
    assert limits["cause"] == "loader" and limits["evidence"]["workers"] == 1
    assert f"Limits   {limits['sentence']}" in regatta("runs", "show", "told").stdout


@pytest.mark.parametrize(
    ("states", "word"),
    [((), "queue"), ([RunState.STARTING], "reading"),
     ([RunState.STARTING, RunState.RUNNING], "measured")],
)  # fmt: skip
def test_before_there_are_figures(regatta_home: Path, states: Any, word: str) -> None:
    store = RunStore(regatta_home)
    record = store.create(TrainingConfig(path="rows.csv", target="y"))
    for state in states:
        record = store.update_state(record.run_id, state)
    found = diagnosis.limits_of(record, store.directory(record.run_id))
    assert word in found.sentence


def test_figures_of_an_older_version_are_read_and_gone_on_with(tmp_path: Path) -> None:
    """They lack a column."""
    import sqlite3

    path = tmp_path / "metrics.db"
    writer = MetricsWriter(path)
    writer.add("workers", seconds=1.0, rank=0, compute=0.5)
    writer.close()
    with sqlite3.connect(path) as connection:
        connection.execute("ALTER TABLE workers DROP COLUMN disk_bytes")
    connection.close()
    reader = MetricsReader(path)
    assert reader.read("workers")[0]["disk_bytes"] is None
    assert reader.read("workers")[0]["compute"] == 0.5
    writer = MetricsWriter(path)
    writer.add("workers", seconds=2.0, rank=0, disk_bytes=7)
    writer.close()
    assert [row["disk_bytes"] for row in reader.newest("workers", 5)] == [None, 7]


def test_figures_that_cannot_be_read_say_so(regatta_home: Path) -> None:
    store = RunStore(regatta_home)
    record = store.create(TrainingConfig(path="rows.csv", target="y"))
    for state in (RunState.STARTING, RunState.RUNNING):
        record = store.update_state(record.run_id, state)
    store.directory(record.run_id).metrics.write_bytes(b"garbage" * 1000)
    found = diagnosis.limits_of(record, store.directory(record.run_id))
    assert "cannot be read" in found.sentence
