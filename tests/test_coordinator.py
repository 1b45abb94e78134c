"""Whole runs: from a file to a model, through commands, signals, deaths and resumes."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest

from regatta import coordinator
from regatta.cli.train import summary
from regatta.configuration import TrainingConfig
from regatta.coordinator import run_training, seconds_for_evaluations
from regatta.fitted_model import FittedModel
from regatta.ingest.importer import Cancelled
from regatta.runs.metrics_store import MetricsReader
from regatta.runs.states import RunState
from regatta.runs.store import RunStore
from regatta.solvers.training import Evaluation, Training
from regatta.tests.crew import wait_for, workers_of
from regatta.utils import DataError, DivergenceError, RegattaError, UserError

ROWS = 12_000
# Long enough to be disturbed: some ten seconds of training on one core.
LONG: dict[str, Any] = {"epochs": 4000, "batch_size": 1024, "tol": 0.0, "workers": 2}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV with known coefficients, sorted by its target."""
    rng = np.random.default_rng(3)
    X = rng.standard_normal((ROWS, 6))
    y = X @ [1.0, -2.0, 0.0, 3.0, 0.5, 0.0] + 4 + 0.5 * rng.standard_normal(ROWS)
    rows = np.column_stack([X, y])[np.argsort(y)]
    path = tmp_path_factory.mktemp("table") / "rows.csv"
    np.savetxt(path, rows, fmt="%.6g", delimiter=",", header="a,b,c,d,e,f,y", comments="")
    return path


def train(store: RunStore, table: Path, **settings: Any) -> dict[str, Any]:
    return run_training(create(store, table, **settings), store)


def create(store: RunStore, table: Path, **settings: Any) -> str:
    config = TrainingConfig(path=str(table), target="y", **settings)
    return store.create(config).run_id


def start(run_id: str) -> subprocess.Popen[bytes]:
    """The run's coordinator as a process of its own."""
    command = [sys.executable, "-P", "-m", "regatta.runs.coordinate", run_id]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL)


def step_of(store: RunStore, run_id: str) -> int:
    """The last step that the run has written down."""
    point = MetricsReader(store.directory(run_id).metrics).latest("points")
    return int(point["step"]) if point else 0


def wait_for_step(store: RunStore, run_id: str, step: int) -> int:
    return int(wait_for(lambda: (now := step_of(store, run_id)) >= step and now))


def result_of(store: RunStore, run_id: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(store.directory(run_id).result.read_text())
    return found


_undisturbed: list[str] = []


@pytest.fixture
def undisturbed(store: RunStore, table: Path) -> str:
    """The weights of the long run when nothing happens to it."""
    if not _undisturbed:
        _undisturbed.append(train(store, table, **LONG)["weights_sha256"])
    return _undisturbed[0]


def test_a_run_leaves_a_result_a_model_and_figures(store, table):
    result = train(store, table, epochs=30, batch_size=1024, workers=2)
    directory = store.directory(result["run_id"])
    record = store.get(result["run_id"])
    assert record.state is RunState.FINISHED
    assert record.validation_r2 == result["metrics"]["validation"]["r2"] > 0.97
    assert record.rows_trained == 30 * result["rows_train"]
    assert (record.restarts, record.worker_deaths) == (0, 0)
    assert result["rows"] == ROWS == result["rows_train"] + result["rows_validation"]
    truth = {"a": 1.0, "b": -2.0, "c": 0.0, "d": 3.0, "e": 0.5, "f": 0.0}
    assert result["coefficients"] == pytest.approx(truth, abs=0.02)
    assert result["intercept"] == pytest.approx(4, abs=0.02)
    model = FittedModel.load(directory.model)
    assert model.weights_sha256 == result["weights_sha256"]
    assert result == result_of(store, result["run_id"])


def test_a_run_that_trains_no_longer_says_that_it_prepares(store, table):
    run_id = create(store, table, **LONG)
    met: list[tuple[str, float]] = []

    def look(progress: coordinator.TrainingProgress) -> None:
        if progress.stage == "train" and not met:
            record = store.get(run_id)
            met.append((record.message, record.progress))
            store.send_command(run_id, "stop")

    run_training(run_id, store, progress=look)
    assert met == [("", 0.0)]


@pytest.mark.parametrize(
    ("settings", "foreseen"),
    [
        ({"batch_size": "full", "tol": 1e-5}, False),
        ({"batch_size": "full", "epochs": 50}, True),
        ({"batch_size": 1024, "epochs": 5}, True),
    ],
)
def test_when_a_run_will_end_is_told_where_it_is_known(
    store, table, settings, foreseen, monkeypatch
):
    monkeypatch.setattr(coordinator, "TICK_SECONDS", 0)
    told: list[float | None] = []

    def look(progress: coordinator.TrainingProgress) -> None:
        if progress.stage == "train" and progress.step:
            told.append(progress.eta_seconds)

    run_id = create(store, table, workers=0, **settings)
    run_training(run_id, store, progress=look)
    assert told and all((eta is not None) == foreseen for eta in told)
    assert (store.get(run_id).total_steps is not None) == foreseen


def test_figures_of_a_run(store, table):
    result = train(store, table, epochs=30, batch_size=1024, workers=2)
    reader = MetricsReader(store.directory(result["run_id"]).metrics)
    points = reader.read("points")
    assert len(points) >= 100
    assert [p["step"] for p in points] == sorted({p["step"] for p in points})
    assert points[-1]["loss"] < points[0]["loss"] / 10
    assert points[-1]["rows"] == result["rows_train"] * result["epochs"]
    for name in ("learning_rate", "gradient_norm", "bytes_published", "bytes_gathered"):
        assert all(p[name] > 0 for p in points)
    rate = points[-1]["rows"] / result["seconds"]["train"]
    assert result["rows_per_second"] == pytest.approx(rate, rel=0.05)
    last = reader.latest("evaluations")
    assert last is not None
    assert last["validation_r2"] == result["metrics"]["validation"]["r2"]
    assert {w["rank"] for w in reader.latest_workers()} == {0, 1}
    machine = reader.latest("machine")
    assert machine is not None and machine["memory_total"] > 0
    kinds = [event["kind"] for event in reader.read("events")]
    assert kinds[:2] == ["import", "prepare"] and "started" in kinds


def test_a_short_run_has_a_hundred_points_too(store, table):
    result = train(store, table, workers=0, model="linear", batch_size="full")
    reader = MetricsReader(store.directory(result["run_id"]).metrics)
    assert len(reader.read("points")) >= 100


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({"solver": "sgd", "batch_size": "full", "epochs": 5, "workers": 2}, range(1, 6)),
        ({"solver": "sgd", "batch_size": 1200, "epochs": 9, "workers": 0}, range(1, 73)),
    ],
    ids=["full", "batches"],
)
def test_a_run_of_few_steps_records_each_of_them(store, table, settings, steps):
    result = train(store, table, **settings)
    points = MetricsReader(store.directory(result["run_id"]).metrics).read("points")
    assert set(steps) <= {p["step"] for p in points}
    assert points[-1]["step"] == result["steps"] == max(steps)
    assert points[-1]["rows"] == result["epochs"] * result["rows_train"]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(("n_rows", "n_features"), [(60, 2), (150, 3), (5_000, 4), (400, 300)])
def test_an_exact_run_has_a_hundred_points(store, tmp_path, workers, n_rows, n_features):
    """Or one for each row, with the moment at which the workers had taken them in."""
    rng = np.random.default_rng(0)
    columns = [f"x{i}" for i in range(n_features)]
    frame = pd.DataFrame(rng.standard_normal((n_rows, n_features)), columns=columns)
    path = tmp_path / "small.csv"
    frame.assign(y=frame.x0 + rng.standard_normal(n_rows)).to_csv(path, index=False)
    result = train(store, path, solver="exact", workers=workers)
    points = MetricsReader(store.directory(result["run_id"]).metrics).read("points")
    assert len(points) >= min(100, result["rows_train"])
    steps, seconds = ([p[name] for p in points] for name in ("step", "seconds"))
    assert steps == sorted(set(steps)) and steps[-1] == result["rows_train"]
    assert seconds == sorted(seconds) and len(set(seconds)) > len(seconds) / 2
    assert [p["rows"] for p in points] == steps
    assert points[0]["epoch"] == pytest.approx(steps[0] / result["rows_train"])
    assert all(p["rows_per_second"] > 0 for p in points[1:])
    assert points[0]["loss"] is None and points[-1]["loss"] is not None


def test_the_workers_do_the_work_and_stay_the_same(store, table):
    """From /proc: the same process ids for 100 epochs and more, and an equal share of CPU time, of
    enough of it, as the kernel counts hundredths of a second."""
    run_id = create(store, table, **{**LONG, "batch_size": 8192, "epochs": 200_000})
    process = start(run_id)
    try:
        wait_for_step(store, run_id, 1000)
        workers = workers_of(process.pid)
        before = [cpu_seconds(pid) for pid in workers]
        first = step_of(store, run_id)
        wait_for_step(store, run_id, first + 2000)
        enough = sum(before) + 2.0
        wait_for(lambda: sum(map(cpu_seconds, workers)) > enough, 120)
        after = [cpu_seconds(pid) for pid in workers]
        assert workers_of(process.pid) == workers and len(workers) == 2
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    used = np.subtract(after, before)
    assert used.min() >= 0.6 * used.mean(), used


def test_evaluations_take_little_time_and_more_of_it_at_the_start() -> None:
    """One of a quarter of a second is followed by another within two seconds, not five."""
    assert seconds_for_evaluations(0.0) == 0.0
    assert seconds_for_evaluations(1.7) > 0.25
    assert seconds_for_evaluations(1000.0) < 0.051 * 1000


def test_workers_are_deaf_to_ctrl_c_from_their_first_moment(store, table):
    """A terminal sends it to them too, also while they still import what they need."""
    run_id = create(store, table, **LONG)
    process = start(run_id)
    try:
        wait_for_step(store, run_id, 1)
        deaf = [ctrl_c_is_blocked(pid) for pid in (process.pid, *workers_of(process.pid))]
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)
    assert deaf == [False, True, True]
    assert store.get(run_id).state is RunState.STOPPED


def ctrl_c_is_blocked(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    (blocked,) = [line.split()[1] for line in status.splitlines() if line.startswith("SigBlk")]
    return bool(int(blocked, 16) >> (signal.SIGINT - 1) & 1)


def cpu_seconds(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def test_pause_resume_and_stop(store, table):
    run_id = create(store, table, **{**LONG, "epochs": 200_000})  # it ends on no machine by itself
    process = start(run_id)
    wait_for_step(store, run_id, 200)
    store.send_command(run_id, "pause")
    wait_for(lambda: store.get(run_id).state is RunState.PAUSED)
    frozen = step_of(store, run_id)
    assert not any_change(lambda: step_of(store, run_id), seconds=1.0)
    store.send_command(run_id, "resume")
    wait_for_step(store, run_id, frozen + 200)
    assert store.get(run_id).state is RunState.RUNNING
    store.send_command(run_id, "stop")
    assert process.wait(30) == 0
    assert store.get(run_id).state is RunState.STOPPED


@pytest.mark.parametrize("how", ["pause", "stall"])
def test_an_evaluation_that_was_held_up_does_not_put_the_next_ones_off(
    store, table, monkeypatch, how
):
    """Neither a pause within one, nor a worker that was waited for, is what evaluations cost."""
    monkeypatch.setattr(coordinator, "TICK_SECONDS", 0)
    run_id = create(store, table, **{**LONG, "workers": 0})
    evaluate, count = Training.evaluate, 0

    def held_up(training: Training) -> Evaluation:
        nonlocal count
        count += 1
        if count == 5 and how == "stall":
            time.sleep(1.0)
        elif count == 5:
            store.send_command(run_id, "pause")
            resume = threading.Timer(1.0, store.send_command, (run_id, "resume"))
            resume.start()
            training.problem.pool.idle()
            resume.join()
        elif count == 8:
            store.send_command(run_id, "stop")
        return evaluate(training)

    monkeypatch.setattr(Training, "evaluate", held_up)
    assert run_training(run_id, store)["state"] == "stopped"
    reader = MetricsReader(store.directory(run_id).metrics)
    assert [each["kind"] for each in reader.read("events")].count("paused") == (how == "pause")


def any_change(value: Callable[[], Any], seconds: float) -> bool:
    """Whether ``value`` changes within some time: what a pause must not do."""
    first, deadline = value(), time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value() != first:
            return True
        time.sleep(0.05)
    return False


def test_a_stopped_run_resumes_to_the_same_bytes(store, table, undisturbed):
    run_id = create(store, table, **LONG)
    process = start(run_id)
    wait_for_step(store, run_id, 15_000)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    stopped = store.get(run_id)
    assert stopped.state is RunState.STOPPED and 0 < stopped.step < stopped.total_steps
    result = run_training(run_id, store)
    assert result["weights_sha256"] == undisturbed
    assert result["seconds"]["total"] > result["seconds"]["train"]
    steps = [p["step"] for p in MetricsReader(store.directory(run_id).metrics).read("points")]
    assert steps == sorted(set(steps))


def test_a_resume_with_other_data_is_refused_and_loses_nothing(store, table, tmp_path, undisturbed):
    path = tmp_path / "rows.csv"
    path.write_bytes(table.read_bytes())
    run_id = create(store, path, **LONG)
    process = start(run_id)
    wait_for_step(store, run_id, 5_000)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    path.write_bytes(table.read_bytes() + b"1,2,3,4,5,6,7\n")
    with pytest.raises(UserError, match=r"of other data .* rows\.csv is not what it was"):
        run_training(run_id, store)
    assert store.get(run_id).state is RunState.FAILED
    path.write_bytes(table.read_bytes())
    assert run_training(run_id, store)["weights_sha256"] == undisturbed


def test_a_resume_that_is_stopped_while_it_imports_keeps_its_step(store, table, monkeypatch):
    run_id = create(store, table, **LONG)
    process = start(run_id)
    wait_for_step(store, run_id, 500)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    step = store.get(run_id).step

    def cancelled(*_: Any, **__: Any) -> None:
        raise Cancelled

    monkeypatch.setattr("regatta.data_pipeline.import_csv", cancelled)
    assert run_training(run_id, store)["step"] == store.get(run_id).step == step


def test_a_run_that_failed_after_its_last_step_resumes_to_the_same_bytes(store, table, monkeypatch):
    settings: dict[str, Any] = {"batch_size": "full", "tol": 1e-4, "workers": 0}
    undisturbed = train(store, table, **settings)
    monkeypatch.setattr(coordinator, "TICK_SECONDS", 0)
    monkeypatch.setattr(coordinator, "CHECKPOINT_SECONDS", 0)
    run_id = create(store, table, **settings)

    def fail(*_: Any, **__: Any) -> None:
        raise RegattaError("The disk is full.")

    with monkeypatch.context() as patch, pytest.raises(RegattaError):
        patch.setattr(coordinator, "write_results", fail)
        run_training(run_id, store)
    result = run_training(run_id, store)
    assert result["steps"] == undisturbed["steps"]
    assert result["weights_sha256"] == undisturbed["weights_sha256"]
    last = MetricsReader(store.directory(run_id).metrics).latest("points")
    assert last is not None and last["loss"] is not None


def test_a_run_whose_figures_cannot_be_written_says_that_it_failed(store, table, monkeypatch):
    run_id = create(store, table, **{**LONG, "workers": 0})

    def damage(progress: coordinator.TrainingProgress) -> None:
        if progress.stage == "train":
            metrics = store.directory(run_id).metrics
            with closing(sqlite3.connect(metrics)) as connection:
                connection.execute("DROP TABLE IF EXISTS points")

    with pytest.raises(RegattaError, match="no such table"):
        run_training(run_id, store, progress=damage)
    record = store.get(run_id)
    assert record.state is RunState.FAILED and "no such table" in record.message


def test_a_killed_coordinator_leaves_no_worker_and_resumes_to_the_same_bytes(
    store, table, undisturbed
):
    run_id = create(store, table, **LONG)
    process = start(run_id)
    wait_for_step(store, run_id, 500)
    store.send_command(run_id, "pause")  # a pause writes a checkpoint
    wait_for(lambda: store.get(run_id).state is RunState.PAUSED)
    saved = step_of(store, run_id)
    store.send_command(run_id, "resume")
    wait_for_step(store, run_id, saved + 200)
    workers = workers_of(process.pid)
    process.kill()
    assert process.wait(30) == -signal.SIGKILL
    wait_for(lambda: not any(psutil.pid_exists(pid) for pid in workers), 5)
    assert store.get(run_id).state is RunState.INTERRUPTED
    counted = store.get(run_id).rows_trained
    assert counted > 0
    result = run_training(run_id, store)
    assert result["weights_sha256"] == undisturbed
    events = MetricsReader(store.directory(run_id).metrics).read("events")
    resumed = [event["message"] for event in events if event["kind"] == "resumed"]
    assert any(message.startswith("Resumed from step") for message in resumed)
    record = store.get(run_id)
    assert record.restarts == 1 and record.checkpoints >= 1
    assert record.rows_trained >= counted, "what was lost was trained too"


def test_a_killed_worker_changes_nothing(store, table, undisturbed):
    run_id = create(store, table, **LONG)
    process = start(run_id)
    wait_for_step(store, run_id, 500)
    os.kill(workers_of(process.pid)[0], signal.SIGKILL)
    assert process.wait(60) == 0
    events = MetricsReader(store.directory(run_id).metrics).read("events")
    assert [e["rank"] for e in events if e["kind"] == "worker_died"] in ([0], [1])
    assert store.get(run_id).worker_deaths == 1
    assert result_of(store, run_id)["weights_sha256"] == undisturbed


def test_a_stopped_worker_is_killed_and_replaced(store, table, undisturbed):
    """SIGSTOP: alive, but its heart does not beat."""
    run_id = create(store, table, **LONG)
    process = start(run_id)
    wait_for_step(store, run_id, 500)
    os.kill(workers_of(process.pid)[1], signal.SIGSTOP)
    assert process.wait(60) == 0
    events = MetricsReader(store.directory(run_id).metrics).read("events")
    died = [e["message"] for e in events if e["kind"] == "worker_died"]
    assert len(died) == 1 and "heart" in died[0]
    assert result_of(store, run_id)["weights_sha256"] == undisturbed


def test_a_worker_that_dies_again_and_again_fails_the_run(store, table):
    run_id = create(store, table, **{**LONG, "epochs": 100_000})
    process = start(run_id)
    wait_for_step(store, run_id, 200)
    killed: set[int] = set()
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        for pid in workers_of_or_none(process.pid)[:1]:
            if pid not in killed:
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
        time.sleep(0.05)
    assert process.wait(10) == 1
    assert len(killed) >= 4
    record = store.get(run_id)
    assert record.state is RunState.FAILED
    assert "Worker" in record.message and "SIGKILL" in record.message


def workers_of_or_none(pid: int) -> list[int]:
    try:
        return workers_of(pid)
    except psutil.Error:
        return []


def test_divergence_is_told_with_a_rate_to_try(store, table):
    run_id = create(store, table, learning_rate=50.0, batch_size=1024, epochs=50, workers=0)
    with pytest.raises(DivergenceError, match="diverged at step") as caught:
        run_training(run_id, store)
    assert store.get(run_id).state is RunState.DIVERGED
    suggested = float(caught.value.hint.split("--learning-rate ")[1].split(",")[0])
    result = train(store, table, learning_rate=suggested, batch_size=1024, epochs=50, workers=0)
    assert result["metrics"]["validation"]["r2"] > 0.9


def test_patience_keeps_the_best_by_validation_and_says_so(store, table):
    result = train(store, table, patience=3, batch_size=1024, epochs=500, workers=0, tol=0.0)
    assert result["validation_used_to_stop"] and result["stopped_early"]
    assert result["epochs"] < 500 and "more --epochs" not in summary(result)
    assert "validation" in store.get(result["run_id"]).message


def test_the_best_by_validation_is_named_though_patience_lasts(store, tmp_path):
    rng = np.random.default_rng(0)  # more features than the rows can bear
    rows = rng.standard_normal((60, 31))
    rows[:, -1] += rows[:, 0]
    path = tmp_path / "rows.csv"
    header = ",".join([*(f"x{j}" for j in range(30)), "y"])
    np.savetxt(path, rows, delimiter=",", header=header, comments="")
    result = train(store, path, model="linear", patience=1000, epochs=300, tol=0.0, workers=0)
    assert "the best on the validation rows" in store.get(result["run_id"]).message


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"workers": 2}, 8 * 8 * 8 * 16),  # (x, 1, y) by itself, for each shard
        ({"workers": 2, "batch_size": "full", "epochs": 10}, 8 * (6 + 1 + 4) * 16 * 10),
        ({"workers": 0}, 0),
    ],
    ids=["exact", "full", "in process"],
)
def test_bytes_gathered(store, table, settings, expected):
    result = train(store, table, **settings)
    last = MetricsReader(store.directory(result["run_id"]).metrics).latest("points")
    assert last is not None and last["bytes_gathered"] == expected


def test_a_setting_that_no_file_makes_right_is_refused_unread(store, table, regatta_home):
    with pytest.raises(UserError, match="no alpha to choose"):
        train(store, table, model="linear", alpha="auto")
    assert not (regatta_home / "datasets").exists()


def test_a_users_mistake_fails_the_run_with_its_sentence(store, table):
    config = TrainingConfig(path=str(table), target="nope", workers=0)
    run_id = store.create(config).run_id
    with pytest.raises(DataError, match="nope"):
        run_training(run_id, store)
    record = store.get(run_id)
    assert record.state is RunState.FAILED and "nope" in record.message


def test_a_model_of_ones_own_is_trained_by_real_workers(store, table, tmp_path, monkeypatch):
    """The example of docs/extending.md, as it stands there."""
    page = (Path(__file__).parent.parent / "docs" / "extending.md").read_text()
    code = page.split("```python")[1].split("```")[0]
    (tmp_path / "huber.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    result = train(store, table, model="huber:Huber", epochs=20, batch_size=1024, workers=2)
    assert result["metrics"]["validation"]["r2"] > 0.97
    assert result["model"] == "huber:Huber"


def test_a_run_whose_end_the_list_did_not_learn_of_has_ended_well(
    store: RunStore, table: Path
) -> None:
    """Its record is written, and then, as on a full disk, the row in the list is refused."""
    run_id = create(store, table, workers=0)
    with closing(sqlite3.connect(store.path)) as database, database:
        database.execute(
            "CREATE TRIGGER full BEFORE INSERT ON runs WHEN NEW.state = 'finished' "
            "BEGIN SELECT RAISE(ABORT, 'no room'); END"
        )
    assert run_training(run_id, store)["state"] == "finished"
    with closing(sqlite3.connect(store.path)) as database, database:
        (state,) = database.execute("SELECT state FROM runs").fetchone()
        database.execute("DROP TRIGGER full")
    assert state == "running", "the list was refused"
    assert [run.state for run in store.list()] == [RunState.FINISHED]
