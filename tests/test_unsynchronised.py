"""Asynchronous and local SGD with real workers: where they end, and what deaths do to them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from regatta import models
from regatta.configuration import TrainingConfig
from regatta.coordinator import run_training
from regatta.parameter_server.array_rows import write_rows
from regatta.parameter_server.batches import shard_offsets
from regatta.parameter_server.data_source import DataSource
from regatta.parameter_server.ticket_pool import open_pool
from regatta.parameter_server.update_log import Applied, check_updates, read_updates
from regatta.runs.metrics_store import MetricsReader
from regatta.runs.states import RunState
from regatta.runs.store import RunStore
from regatta.solvers import choose
from regatta.solvers.problem import Problem
from regatta.solvers.unsynchronised import AsynchronousSGD
from regatta.utils import UserError

ROWS, FEATURES = 6000, 12
PROMPT = 5.0


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> DataSource:
    rng = np.random.default_rng(7)
    mix = np.eye(FEATURES) + 0.3 * rng.standard_normal((FEATURES, FEATURES))
    X = rng.standard_normal((ROWS + 500, FEATURES)) @ mix
    X = (X - X[:ROWS].mean(0)) / X[:ROWS].std(0)
    y = X @ rng.standard_normal(FEATURES) + 0.5 * rng.standard_normal(len(X))
    y = (y - y[:ROWS].mean()) / y[:ROWS].std()
    directory = tmp_path_factory.mktemp("rows")
    return write_rows(directory, X[:ROWS], y[:ROWS], X[ROWS:], y[ROWS:])


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(3)
    X = rng.standard_normal((12_000, 6))
    y = X @ [1.0, -2.0, 0.0, 3.0, 0.5, 0.0] + 4 + 0.5 * rng.standard_normal(len(X))
    path = tmp_path_factory.mktemp("table") / "rows.csv"
    rows = np.column_stack([X, y])
    np.savetxt(path, rows, fmt="%.6g", delimiter=",", header="a,b,c,d,e,f,y", comments="")
    return path


@pytest.fixture
def store(regatta_home: Path, monkeypatch: pytest.MonkeyPatch) -> RunStore:
    monkeypatch.setenv("REGATTA_LOG_UPDATES", "1")
    return RunStore(regatta_home)


def solve(
    source: DataSource, n_workers: int, logs: Path, settings: choose.Settings
) -> tuple[np.ndarray, Any]:
    """Train to the end; the parameters and the solver."""
    config = TrainingConfig(model="ridge", solver="sgd")
    objective = models.get("ridge")
    pool = open_pool(source, "ridge", "float32", n_workers, logs=logs, steps=settings.steps)
    try:
        problem = Problem(
            pool=pool,
            objective=objective,
            penalty=objective.penalty(1.0, 0.5, source.rows_train),
            train_offsets=shard_offsets(source.rows_train, source.n_shards),
            validation_offsets=shard_offsets(source.rows_validation, source.n_shards),
            n_features=source.n_features,
            max_row_norm2=60.0,
        )
        solver = choose.make(config, settings, problem)
        while not solver.finished:
            solver.step()
            if solver.step_count % 50 == 0:  # rounds between tickets
                problem.validation_scores(solver.parameters)
        return solver.parameters.copy(), solver
    finally:
        pool.close()


def settings_of(source: DataSource, **given: Any) -> choose.Settings:
    values = {"solver": "sgd", "batch_size": 256, "epochs": 20, **given}
    offsets = shard_offsets(source.rows_train, source.n_shards)
    return choose.resolve(TrainingConfig(**values), offsets, source.n_features)


# One after the other


@pytest.mark.parametrize("n_workers", [0, 1, 3])
def test_nothing_stale_is_sync_to_the_byte(source, tmp_path, n_workers):
    """Asked for, a bound of 0 takes the synchronous way; here the asynchronous one is made to."""
    from dataclasses import replace

    synchronous = settings_of(source)
    assert settings_of(source, consistency="async", staleness=0).steps is None
    bounded = replace(settings_of(source, consistency="async", staleness=1), staleness=0)
    ours, solver = solve(source, n_workers, tmp_path, bounded)
    expected, _ = solve(source, 0, tmp_path, synchronous)
    assert isinstance(solver, AsynchronousSGD) and set(solver.staleness) == {0}
    assert ours.tobytes() == expected.tobytes()


@pytest.mark.parametrize("bound", [1, 2, "unbounded"])
def test_no_gradient_is_staler_than_the_bound(source, tmp_path, bound):
    settings = settings_of(source, consistency="async", staleness=bound)
    _, solver = solve(source, 3, tmp_path, settings)
    assert sum(solver.staleness.values()) == solver.step_count == solver.total_steps
    assert max(solver.staleness) >= 1  # two were at work at once
    if bound != "unbounded":
        assert max(solver.staleness) <= bound


def test_local_steps_of_one_worker_are_those_of_one_process(source, tmp_path):
    settings = settings_of(source, consistency="local", sync_every=7)
    ours, _ = solve(source, 1, tmp_path, settings)
    alone, solver = solve(source, 0, tmp_path, settings)
    synchronous, _ = solve(source, 0, tmp_path, settings_of(source))
    assert ours.tobytes() == alone.tobytes()
    assert solver.rounds == -(-solver.total_steps // 7)
    np.testing.assert_allclose(alone, synchronous, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
def test_local_steps_of_some_workers_are_the_same_each_time(source, tmp_path, optimizer):
    settings = settings_of(source, consistency="local", sync_every=4, optimizer=optimizer)
    first, _ = solve(source, 2, tmp_path, settings)
    second, _ = solve(source, 2, tmp_path, settings)
    assert first.tobytes() == second.tobytes()


SLEEPY = """
import multiprocessing, os, time
from regatta.models import Ridge

class Sleepy(Ridge):
    def loss(self, residual, derivative):
        slow = multiprocessing.current_process().name == os.environ.get("SLOW_WORKER")
        time.sleep(0.04 if slow else 0.004)
        return super().loss(residual, derivative)
"""


def test_a_worker_ten_times_slower_costs_an_asynchronous_run_little(source, tmp_path, monkeypatch):
    """Workers that sleep instead of computing: the machine's cores do not matter."""
    (tmp_path / "sleepy.py").write_text(SLEEPY)
    paths = [str(tmp_path), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    monkeypatch.syspath_prepend(str(tmp_path))
    settings = settings_of(source, consistency="async", epochs=30)
    healthy = rate_of(source, tmp_path, settings, n_workers=2)
    monkeypatch.setenv("SLOW_WORKER", "regatta-worker-2")
    with_a_slow_one = rate_of(source, tmp_path, settings, n_workers=3)
    print(f"{with_a_slow_one / healthy:.2f} of the throughput of the healthy ones alone")
    assert with_a_slow_one > 0.7 * healthy


def rate_of(source: DataSource, logs: Path, settings: choose.Settings, n_workers: int) -> float:
    """Updates a second, after the first ones."""
    model, objective = "sleepy:Sleepy", models.get("sleepy:Sleepy")
    pool = open_pool(source, model, "float32", n_workers, logs=logs, steps=settings.steps)
    try:
        problem = Problem(
            pool=pool,
            objective=objective,
            penalty=objective.penalty(1.0, 0.5, source.rows_train),
            train_offsets=shard_offsets(source.rows_train, source.n_shards),
            validation_offsets=shard_offsets(source.rows_validation, source.n_shards),
            n_features=source.n_features,
            max_row_norm2=60.0,
        )
        solver = choose.make(TrainingConfig(), settings, problem, rate=1e-3)
        for _ in range(50):
            solver.step()
        begun, before = time.perf_counter(), solver.step_count
        while not solver.finished:
            solver.step()
        return (solver.step_count - before) / (time.perf_counter() - begun)
    finally:
        pool.close()


# Whole runs


def create(store: RunStore, table: Path, **settings: Any) -> str:
    return store.create(TrainingConfig(path=str(table), target="y", **settings)).run_id


WAYS: dict[str, dict[str, Any]] = {
    "async": {"consistency": "async", "staleness": 4},
    "unbounded": {"consistency": "async", "staleness": "unbounded"},
    "local": {"consistency": "local", "sync_every": 8},
}
LONG: dict[str, Any] = {"solver": "sgd", "epochs": 1500, "tol": 0.0}


@contextlib.contextmanager
def started(run_id: str) -> Iterator[subprocess.Popen[bytes]]:
    """The run's coordinator as a process of its own."""
    command = [sys.executable, "-P", "-m", "regatta.runs.coordinate", run_id]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(30)


def wait_for(condition: Callable[[], Any], seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.01)
    raise AssertionError("it did not come true")


def step_of(store: RunStore, run_id: str) -> int:
    point = MetricsReader(store.directory(run_id).metrics).latest("points")
    return int(point["step"]) if point else 0


def has_reached(store: RunStore, run_id: str, step: int) -> bool:
    return step_of(store, run_id) >= step


def events(store: RunStore, run_id: str, kind: str) -> list[dict[str, Any]]:
    found = MetricsReader(store.directory(run_id).metrics).read("events")
    return [event for event in found if event["kind"] == kind]


def workers_of(pid: int) -> list[int]:
    children = psutil.Process(pid).children()
    return sorted(c.pid for c in children if "spawn_main" in " ".join(c.cmdline()))


def result_of(store: RunStore, run_id: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(store.directory(run_id).result.read_text())
    return found


def updates_of(store: RunStore, run_id: str) -> list[Applied]:
    """Every update of a finished run: each batch applied once, none too stale."""
    updates = read_updates(store.directory(run_id).updates)
    result, config = result_of(store, run_id), store.config(run_id)
    bound = config.staleness if isinstance(config.staleness, int) else None
    # A run that converges leaves batches out that were in hand, maybe before the last applied one.
    total = result["steps"] + (64 if result["converged"] else 0)
    check_updates(updates, total, 0 if config.consistency == "local" else bound)
    assert sum(each.count for each in updates) == result["steps"]
    return updates


@pytest.mark.parametrize("way", WAYS)
def test_a_run_ends_at_the_optimum_and_tells_how_stale_it_was(store, table, way):
    run_id = create(store, table, workers=2, **WAYS[way])
    result = run_training(run_id, store)
    assert result["solver"] == "sgd" and result["consistency"] == WAYS[way]["consistency"]
    assert result["optimum_gap"] < 1e-3
    updates_of(store, run_id)
    rows = MetricsReader(store.directory(run_id).metrics).read("staleness")
    if way == "local":
        assert result["sync_every"] == 8 and 0 < result["updates"] < result["steps"]
        assert rows == [] and "staleness" not in result
        return
    told = result["staleness"]
    assert told["bound"] == (4 if way == "async" else None)
    assert sum(told["histogram"].values()) == result["steps"]
    assert {str(row["staleness"]): row["gradients"] for row in rows} == told["histogram"]
    assert told["max"] == max(map(int, told["histogram"])) and 0 <= told["mean"] <= told["max"]


@pytest.mark.parametrize(
    "name", ["california_housing.csv", "bike_sharing_hour.csv", "insurance.csv", "power_plant.csv"]
)
def test_asynchronous_runs_end_at_the_optimum_of_real_files(data_dir, store, name):
    """All defaults: batches, bound, a rate that is safe for the delay."""
    cases = json.loads((data_dir / "reference.json").read_text())
    case = next(each for each in cases if each["file"] == name)
    config = TrainingConfig(
        path=str(data_dir / "regression" / name),
        target=case["target"],
        drop=tuple(case["drop"]),
        consistency="async",
        workers=2,
    )
    run_id = store.create(config).run_id
    result = run_training(run_id, store)
    assert result["optimum_gap"] < 1e-3
    updates_of(store, run_id)
    assert result["staleness"]["max"] <= result["staleness"]["bound"]


@pytest.mark.parametrize("way", WAYS)
def test_killed_workers_cost_only_what_they_had_in_hand(store, table, way):
    run_id = create(store, table, workers=2, **LONG, **WAYS[way])
    killed = []
    with started(run_id) as process:
        for step in (500, 4000):
            wait_for(partial(has_reached, store, run_id, step))
            victim = wait_for(lambda: workers_of(process.pid))[-1]
            os.kill(victim, signal.SIGKILL)
            killed.append(victim)
            wait_for(lambda: len(events(store, run_id, "worker_died")) == len(killed), PROMPT)
        assert process.wait(120) == 0
    died = events(store, run_id, "worker_died")
    assert [f"(pid {pid})" in event["message"] for pid, event in zip(killed, died, strict=True)]
    assert result_of(store, run_id)["optimum_gap"] < 1e-3
    updates = updates_of(store, run_id)
    assert any(each.incarnation > 0 for each in updates)  # who came after it worked too


def test_local_runs_are_the_same_bytes_whoever_dies(store, table):
    settings = {"workers": 2, **LONG, **WAYS["local"]}
    undisturbed = run_training(create(store, table, **settings), store)
    run_id = create(store, table, **settings)
    with started(run_id) as process:
        wait_for(lambda: step_of(store, run_id) >= 500)
        os.kill(workers_of(process.pid)[0], signal.SIGKILL)
        assert process.wait(120) == 0
    assert events(store, run_id, "worker_died")
    assert result_of(store, run_id)["weights_sha256"] == undisturbed["weights_sha256"]


def test_others_go_on_while_a_worker_that_died_is_replaced(store, table):
    """Unless it dies within an evaluation, which waits for it: so four are killed."""
    run_id = create(store, table, workers=2, epochs=100_000, tol=0.0, **WAYS["unbounded"])
    with started(run_id) as process:
        wait_for(partial(has_reached, store, run_id, 500))
        for so_many in range(1, 5):
            os.kill(workers_of(process.pid)[0], signal.SIGKILL)
            wait_for(partial(all_are_back, store, run_id, so_many))
        store.send_command(run_id, "stop")
        assert process.wait(30) == 0
    deaths, births = events(store, run_id, "worker_died"), events(store, run_id, "worker_started")
    points = MetricsReader(store.directory(run_id).metrics).read("points")
    steps_meanwhile = []
    for death in deaths:
        back = min(birth["seconds"] for birth in births if birth["id"] > death["id"])
        steps = [p["step"] for p in points if death["seconds"] < p["seconds"] < back]
        steps_meanwhile.append(steps[-1] - steps[0] if steps else 0)
    assert max(steps_meanwhile) > 0, steps_meanwhile


def all_are_back(store: RunStore, run_id: str, deaths: int) -> bool:
    born = len(events(store, run_id, "worker_started"))
    return len(events(store, run_id, "worker_died")) == deaths and born == 2 + deaths


def test_a_worker_that_stands_still_is_replaced(store, table):
    run_id = create(store, table, workers=2, epochs=100_000, tol=0.0, **WAYS["async"])
    with started(run_id) as process:
        wait_for(lambda: step_of(store, run_id) >= 500)
        victim = workers_of(process.pid)[0]
        os.kill(victim, signal.SIGSTOP)
        (event,) = wait_for(lambda: events(store, run_id, "worker_died"), 30)
        assert "heart stopped" in event["message"] and not psutil.pid_exists(victim)
        reached = step_of(store, run_id)
        wait_for(lambda: step_of(store, run_id) > reached + 1000)
        store.send_command(run_id, "stop")
        assert process.wait(30) == 0


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_resumed_run_applies_each_batch_once(store, table, way, end):
    run_id = create(store, table, workers=2, **LONG, **WAYS[way])
    with started(run_id) as process:
        wait_for(lambda: step_of(store, run_id) >= 1000)
        if end == "stop":
            process.send_signal(signal.SIGTERM)
        else:
            store.send_command(run_id, "pause")  # writes a checkpoint
            wait_for(lambda: store.get(run_id).state is RunState.PAUSED)
            store.send_command(run_id, "resume")
            paused = store.get(run_id).step
            wait_for(lambda: step_of(store, run_id) > paused)
            process.kill()
        process.wait(30)
    step = int(max(store.directory(run_id).checkpoints.glob("*.checkpoint")).stem)
    assert step >= 1000
    with started(run_id) as process:
        assert process.wait(120) == 0
    assert events(store, run_id, "resumed")[-1]["message"] == f"Resumed from step {step:,}."
    result = result_of(store, run_id)
    assert result["optimum_gap"] < 1e-3
    updates_of(store, run_id)
    if way != "local":
        assert sum(result["staleness"]["histogram"].values()) == result["steps"]


def test_patience_and_a_pause_work_without_rounds(store, table):
    run_id = create(store, table, workers=2, patience=3, epochs=3000, **WAYS["async"])
    result = run_training(run_id, store)
    assert result["stopped_early"] and result["epochs"] < 3000


# What is told and refused


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"staleness": 3}, "--staleness is for --consistency async, and it is sync."),
        ({"consistency": "local", "staleness": 3}, "--staleness is for --consistency async"),
        ({"consistency": "async", "sync_every": 3}, "--sync-every is for --consistency local"),
        ({"consistency": "async", "solver": "exact"}, "--solver exact takes no steps"),
        ({"consistency": "local", "batch_size": "full"}, "--consistency local is for mini-batches"),
    ],
)
def test_contradictions_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        choose.check(TrainingConfig(**settings))


def test_a_batch_of_all_rows_is_refused(store, table):
    run_id = create(store, table, workers=0, batch_size=50_000, **WAYS["async"])
    with pytest.raises(UserError, match="mini-batches") as caught:
        run_training(run_id, store)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("option", "value", "allowed"),
    [
        ("--staleness", "-1", "a whole number of at least 0, unbounded or auto"),
        ("--sync-every", "0", "a whole number of at least 1 or auto"),
        ("--sync-every", "-4", "a whole number of at least 1 or auto"),
    ],
)
def test_values_out_of_bounds_are_one_sentence(regatta, table, option, value, allowed):
    way = "async" if option == "--staleness" else "local"
    done = regatta("train", table, "--target", "y", "--consistency", way, f"{option}={value}")
    assert done.returncode == 2
    assert f"{option} is {value}." in done.stderr and allowed in done.stderr


@pytest.mark.parametrize(
    ("way", "said"), [("async", "updates late in the mean"), ("local", "times, every 16 steps.")]
)
def test_the_command_says_how_workers_agreed(regatta, table, way, said):
    done = regatta(
        "train", table, "--target", "y", "--consistency", way, "--workers", 2, "--epochs", 20
    )
    assert done.returncode == 0 and said in done.stdout


def test_more_workers_than_shards_are_told_and_capped(store, table):
    run_id = create(store, table, workers=3, shards=2, epochs=2, batch_size=1024)
    result = run_training(run_id, store)
    assert result["workers"] == 2
    (warning,) = events(store, run_id, "warning")
    assert warning["message"].startswith("3 workers were asked for, and there are 2 shards")
    assert warning["message"] in result["warnings"]


def test_workers_that_a_small_bound_leaves_idle_are_told(store, table):
    run_id = create(store, table, workers=3, epochs=2, consistency="async", staleness=1)
    (warning,) = run_training(run_id, store)["warnings"]
    assert warning.startswith("With --staleness 1 no more than 2 workers are at work at once")


def test_two_rows_in_a_log_that_cannot_be_are_found():
    fine = [Applied(0, 0, 0, 1, 1, 0, 0), Applied(1, 0, 1, 1, 1, 1, 0)]
    check_updates(fine, 2, 1)
    for wrong in (
        Applied(1, 0, 0, 1, 1, 1, 0),  # the same batch
        Applied(3, 0, 1, 1, 1, 1, 0),  # a version is missing
        Applied(1, 0, 5, 1, 1, 1, 0),  # no such batch
    ):
        with pytest.raises(ValueError, match=r"version|batch"):
            check_updates([fine[0], wrong], 2, 1)
    with pytest.raises(ValueError, match="late"):
        check_updates(fine, 2, 0)
