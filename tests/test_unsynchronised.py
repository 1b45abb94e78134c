"""Asynchronous and local SGD with real workers: where they end, and what deaths do to them."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from regatta.configuration import TrainingConfig
from regatta.coordinator import run_training
from regatta.parameter_server import worker_pool
from regatta.parameter_server.data_source import DataSource
from regatta.parameter_server.ticket_pool import InProcessTicketPool, WorkerTicketPool
from regatta.parameter_server.update_log import Applied, check_updates
from regatta.parameter_server.worker_pool import PoolEvent
from regatta.runs.metrics_store import MetricsReader
from regatta.runs.states import RunState
from regatta.solvers import choose
from regatta.solvers.unsynchronised import AsynchronousSGD, UnsynchronisedSGD
from regatta.tests import crew
from regatta.tests.crew import LiveRuns, settings_of, wait_for, workers_of
from regatta.utils import UserError

WAYS: dict[str, dict[str, Any]] = {
    "async": {"consistency": "async", "staleness": 4},
    "local": {"consistency": "local", "sync_every": 4},
}
REAL: dict[str, Any] = {"model": "ridge", "batch_size": None, "epochs": None, "tol": 1e-6}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> DataSource:
    return crew.rows(tmp_path_factory.mktemp("rows"))


@pytest.fixture
def runs(tmp_path: Path, regatta_home: Path, monkeypatch: pytest.MonkeyPatch) -> LiveRuns:
    return crew.make(tmp_path, regatta_home, monkeypatch)


def solve(
    source: DataSource, n_workers: int, logs: Path, settings: choose.Settings
) -> tuple[np.ndarray, Any]:
    """Train to the end; the parameters and the solver."""
    with crew.solving(source, n_workers, logs, settings) as (_, solver):
        while not solver.finished:
            solver.step()
            if solver.step_count % 50 == 0:  # rounds between tickets
                solver.problem.validation_scores(solver.parameters)
        return solver.parameters.copy(), solver


# One after the other


@pytest.mark.parametrize("n_workers", [0, 3])
def test_nothing_stale_is_sync_to_the_byte(source, tmp_path, n_workers):
    """Asked for, a bound of 0 takes the synchronous way; here the asynchronous one is made to."""
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


class Enough(Exception):
    """What a run that is told to stop raises within a step."""


@pytest.mark.parametrize("way", WAYS)
def test_what_one_process_saves_within_a_step_is_whole(source, tmp_path, way):
    settings = settings_of(source, **WAYS[way])
    expected, _ = solve(source, 0, tmp_path, settings)
    with crew.solving(source, 0, tmp_path, settings) as (pool, solver):
        for _ in range(5):
            solver.step()

        def stop() -> None:
            raise Enough

        assert isinstance(pool, InProcessTicketPool)
        pool.idle, pool._next_idle = stop, 0.0
        with pytest.raises(Enough):
            solver.step()
        state, arrays = solver.state(), solver.arrays()
        assert state["protocol"]["applied"] == solver.step_count
    with crew.solving(source, 0, tmp_path, settings) as (_, solver):
        solver.restore(state, arrays)
        while not solver.finished:
            solver.step()
        assert solver.parameters.tobytes() == expected.tobytes()


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
    settings = settings_of(source, consistency="async")
    healthy = rate_of(source, tmp_path, settings, n_workers=2)
    monkeypatch.setenv("SLOW_WORKER", "regatta-worker-2")
    with_a_slow_one = rate_of(source, tmp_path, settings, n_workers=3)
    print(f"{with_a_slow_one / healthy:.2f} of the throughput of the healthy ones alone")
    assert with_a_slow_one > 0.5 * healthy  # 1.0 on an idle machine; a tenth if it were waited for


def rate_of(source: DataSource, logs: Path, settings: choose.Settings, n_workers: int) -> float:
    """Updates a second, after the first ones."""
    model = "sleepy:Sleepy"
    with crew.solving(source, n_workers, logs, settings, model=model, learning_rate=1e-3) as (
        _,
        solver,
    ):
        for _ in range(50):
            solver.step()
        begun, before = time.perf_counter(), solver.step_count
        while not solver.finished:
            solver.step()
        return (solver.step_count - before) / (time.perf_counter() - begun)


# Deaths


@contextmanager
def working(
    source: DataSource, logs: Path, happened: list[PoolEvent]
) -> Iterator[tuple[WorkerTicketPool, UnsynchronisedSGD]]:
    """Two workers with more to do than a test waits for."""
    settings = settings_of(source, consistency="async", staleness="unbounded", epochs=10**6)
    with crew.solving(source, 2, logs, settings, on_event=happened.append) as (pool, solver):
        assert isinstance(pool, WorkerTicketPool) and isinstance(solver, UnsynchronisedSGD)
        for _ in range(20):
            solver.step()
        yield pool, solver


def step_until_replaced(pool: WorkerTicketPool, solver: UnsynchronisedSGD, rank: int) -> int:
    """Steps until a worker has another in its place, who works; their number before that."""
    deadline, steps = time.monotonic() + 60, 0
    while pool.samples()[rank].incarnation == 0 or rank in pool._starting:
        assert time.monotonic() < deadline
        solver.step()
        pool.watch()
        steps += rank in pool._starting
    rows = pool.samples()[rank].rows
    while pool.samples()[rank].rows == rows:
        assert time.monotonic() < deadline
        solver.step()
    return steps


def test_others_go_on_while_a_worker_that_died_is_replaced(source, tmp_path):
    happened: list[PoolEvent] = []
    with working(source, tmp_path, happened) as (pool, solver):
        os.kill(pool.samples()[0].pid, signal.SIGKILL)
        assert step_until_replaced(pool, solver, 0) > 10
    assert [event.kind for event in happened] == ["worker_started"] * 2 + [
        "worker_died",
        "worker_started",
    ]


def test_who_is_being_replaced_is_not_replaced_again_by_a_look_within_a_round(source, tmp_path):
    happened: list[PoolEvent] = []
    with working(source, tmp_path, happened) as (pool, solver):
        pool.samples()
        os.kill(pool.samples()[1].pid, signal.SIGKILL)
        pool._members[1].process.join()
        pool.watch()
        assert list(pool._starting) == [1]
        pool._awaited = ((0,), pool._version + 1)  # a round that the other one computes
        pool.watch()
        pool._awaited = ((), 0)
        step_until_replaced(pool, solver, 1)
    assert [event.kind for event in happened].count("worker_died") == 1


def test_a_worker_that_stands_still_is_replaced(source, tmp_path, monkeypatch):
    monkeypatch.setattr(worker_pool, "LEASE_SECONDS", 1.5)
    happened: list[PoolEvent] = []
    with working(source, tmp_path, happened) as (pool, solver):
        victim = pool.samples()[0].pid
        os.kill(victim, signal.SIGSTOP)
        step_until_replaced(pool, solver, 0)
        assert not psutil.pid_exists(victim)
    (death,) = [event.message for event in happened if event.kind == "worker_died"]
    assert "heart stopped" in death


# Whole runs


@pytest.mark.parametrize("way", WAYS)
def test_a_run_ends_at_the_optimum_and_tells_how_stale_it_was(runs, way):
    run_id = runs.create(workers=2, **{**REAL, "epochs": 400}, **WAYS[way])
    result = run_training(run_id, runs.store)
    assert result["solver"] == "sgd" and result["consistency"] == WAYS[way]["consistency"]
    assert result["optimum_gap"] < 1e-3
    runs.updates(run_id)
    rows = MetricsReader(runs.store.directory(run_id).metrics).read("staleness")
    if way == "local":
        assert result["sync_every"] == 4 and 0 < result["updates"] < result["steps"]
        assert rows == [] and "staleness" not in result
        return
    told = result["staleness"]
    assert told["bound"] == 4
    assert sum(told["histogram"].values()) == result["steps"]
    assert {str(row["staleness"]): row["gradients"] for row in rows} == told["histogram"]
    assert told["max"] == max(map(int, told["histogram"])) and 0 <= told["mean"] <= told["max"]


@pytest.mark.parametrize(
    "name",
    [
        "insurance.csv",
        pytest.param("power_plant.csv", marks=pytest.mark.slow),
        pytest.param("california_housing.csv", marks=pytest.mark.slow),
        pytest.param("bike_sharing_hour.csv", marks=pytest.mark.slow),
    ],
)
def test_asynchronous_runs_end_at_the_optimum_of_real_files(data_dir, runs, name):
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
    run_id = runs.store.create(config).run_id
    result = run_training(run_id, runs.store)
    assert result["optimum_gap"] < 1e-3
    runs.updates(run_id)
    assert result["staleness"]["max"] <= result["staleness"]["bound"]


@pytest.mark.parametrize("way", WAYS)
def test_killed_workers_cost_only_what_they_had_in_hand(runs, way):
    run_id = runs.create(workers=2, **WAYS[way])
    killed = []
    with runs.started(run_id) as process:
        for _ in range(2):
            runs.goes_on(run_id)
            killed.append(workers_of(process.pid)[-1])
            os.kill(killed[-1], signal.SIGKILL)
            wait_for(lambda: len(runs.events(run_id, "worker_died")) == len(killed))
            wait_for(lambda: len(runs.events(run_id, "worker_started")) == 2 + len(killed))
        runs.goes_on(run_id)
        result = runs.finish(process, run_id)
    died = [event["message"] for event in runs.events(run_id, "worker_died")]
    assert all(f"(pid {pid})" in message for pid, message in zip(killed, died, strict=True))
    assert any(each.incarnation > 0 for each in runs.updates(run_id))  # who came after worked too
    # No identical bytes, not in a local run either: rounds have fewer parts while a worker starts.
    assert result["metrics"]["train"]["r2"] > 0.97


@pytest.mark.parametrize(("way", "end"), [("async", "stop"), ("async", "kill"), ("local", "kill")])
def test_a_resumed_run_applies_each_batch_once(runs, way, end):
    run_id = runs.create(workers=2, **WAYS[way])
    with runs.started(run_id) as process:
        runs.goes_on(run_id)
        if end == "stop":
            process.send_signal(signal.SIGTERM)
        else:
            runs.store.send_command(run_id, "pause")  # writes a checkpoint
            wait_for(lambda: runs.store.get(run_id).state is RunState.PAUSED)
            runs.store.send_command(run_id, "resume")
            runs.goes_on(run_id)
            process.kill()
        process.wait(30)
    step = int(max(runs.store.directory(run_id).checkpoints.glob("*.checkpoint")).stem)
    assert step >= 5
    with runs.started(run_id) as process:
        result = runs.finish(process, run_id)
    assert runs.events(run_id, "resumed")[-1]["message"] == f"Resumed from step {step:,}."
    assert result["metrics"]["train"]["r2"] > 0.97
    runs.updates(run_id)
    if way == "async":
        assert sum(result["staleness"]["histogram"].values()) == result["steps"]


def test_patience_works_without_rounds(runs):
    settings = {**REAL, "epochs": 3000, "patience": 3, **WAYS["async"]}
    result = run_training(runs.create(workers=1, **settings), runs.store)
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


def test_a_batch_of_all_rows_is_refused(runs):
    run_id = runs.create(workers=0, **{**REAL, "batch_size": 50_000}, **WAYS["async"])
    with pytest.raises(UserError, match="mini-batches") as caught:
        run_training(run_id, runs.store)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("option", "value", "allowed"),
    [
        ("--staleness", "-1", "a whole number of at least 0, unbounded or auto"),
        ("--sync-every", "0", "a whole number of at least 1 or auto"),
        ("--sync-every", "-4", "a whole number of at least 1 or auto"),
    ],
)
def test_values_out_of_bounds_are_one_sentence(regatta, runs, option, value, allowed):
    way = "async" if option == "--staleness" else "local"
    done = regatta("train", runs.table, "--target", "y", "--consistency", way, f"{option}={value}")
    assert done.returncode == 2
    assert f"{option} is {value}." in done.stderr and allowed in done.stderr


@pytest.mark.parametrize(
    ("way", "said"), [("async", "updates late in the mean"), ("local", "times, every 16 steps.")]
)
def test_the_command_says_how_workers_agreed(regatta, runs, way, said):
    done = regatta(
        "train", runs.table, "--target", "y", "--consistency", way, "--workers", 0, "--epochs", 5
    )
    assert done.returncode == 0 and said in done.stdout


def test_more_workers_than_shards_are_told_and_capped(runs):
    run_id = runs.create(workers=3, shards=2, **{**REAL, "epochs": 2, "batch_size": 1024})
    result = run_training(run_id, runs.store)
    assert result["workers"] == 2
    (warning,) = runs.events(run_id, "warning")
    assert warning["message"].startswith("3 workers were asked for, and there are 2 shards")
    assert warning["message"] in result["warnings"]


def test_workers_that_a_small_bound_leaves_idle_are_told(runs):
    settings = {**REAL, "epochs": 2, "consistency": "async", "staleness": 1}
    (warning,) = run_training(runs.create(workers=3, **settings), runs.store)["warnings"]
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
