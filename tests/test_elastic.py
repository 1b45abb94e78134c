"""Workers that are added and let go while a run goes on."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
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
from regatta.parameter_server.update_log import check_updates, read_updates
from regatta.parameter_server.worker_pool import Pool, WorkerPool
from regatta.runs import service
from regatta.runs.metrics_store import MetricsReader
from regatta.runs.states import RunState
from regatta.runs.store import RunStore
from regatta.solvers import choose
from regatta.solvers.base import Solver
from regatta.solvers.problem import Problem
from regatta.solvers.unsynchronised import UnsynchronisedSGD
from regatta.utils import UserError

PROMISED = 2.0
BUSY = 5  # times the promise, on a machine that does other things too
LONG: dict[str, Any] = {"solver": "sgd", "batch_size": 1024, "epochs": 3000, "tol": 0.0}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> DataSource:
    rng = np.random.default_rng(7)
    X = rng.standard_normal((6000, 8))
    y = X @ rng.standard_normal(8) + 0.5 * rng.standard_normal(len(X))
    directory = tmp_path_factory.mktemp("rows")
    return write_rows(directory, X, y / y.std(), X[:500], y[:500] / y.std())


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


# A pool


@contextlib.contextmanager
def solving(
    source: DataSource, n_workers: int, logs: Path, **given: Any
) -> Iterator[tuple[Pool, Solver]]:
    config = TrainingConfig(solver="sgd", batch_size=512, epochs=300, tol=0.0, **given)
    offsets = shard_offsets(source.rows_train, source.n_shards)
    settings = choose.resolve(config, offsets, source.n_features)
    objective = models.get("ridge")
    pool = open_pool(source, "ridge", "float32", n_workers, logs=logs, steps=settings.steps)
    try:
        problem = Problem(
            pool=pool,
            objective=objective,
            penalty=objective.penalty(1.0, 0.5, source.rows_train),
            train_offsets=offsets,
            validation_offsets=shard_offsets(source.rows_validation, source.n_shards),
            n_features=source.n_features,
            max_row_norm2=40.0,
        )
        yield pool, choose.make(config, settings, problem)
    finally:
        pool.close()


def resize(pool: Pool, solver: Solver, n_workers: int) -> None:
    pool.resize(n_workers)
    if isinstance(solver, UnsynchronisedSGD):
        solver.scale(n_workers)


def has_n_workers(pool: Pool, n_workers: int) -> bool:
    return pool.n_workers == n_workers


def step_until(pool: Pool, solver: Solver, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        if not solver.finished:
            solver.step()
        pool.watch()


def finish(solver: Solver) -> bytes:
    while not solver.finished:
        solver.step()
    return solver.parameters.tobytes()


def test_the_weights_do_not_depend_on_who_comes_and_goes(source, tmp_path):
    with solving(source, 0, tmp_path) as (_, solver):
        expected = finish(solver)
    with solving(source, 2, tmp_path) as (pool, solver):
        for n_workers in (4, 1, 3, 2):
            resize(pool, solver, n_workers)
            step_until(pool, solver, partial(has_n_workers, pool, n_workers))
            assert not pool.is_changing
            shards = [sample.shards for sample in pool.samples()]
            assert len(shards) == n_workers and sum(shards) == source.n_shards
            before = [sample.rows for sample in pool.samples()]
            for _ in range(20):
                solver.step()
            after = [sample.rows for sample in pool.samples()]
            assert all(now > then for now, then in zip(after, before, strict=True))
        assert solver.step_count < solver.total_steps  # all that happened on the way
        assert finish(solver) == expected


@pytest.mark.parametrize("way", [{}, {"consistency": "async"}, {"consistency": "local"}])
def test_who_dies_before_it_is_ready_is_replaced(source, tmp_path, way):
    with solving(source, 1, tmp_path, **way) as (pool, solver):
        assert isinstance(pool, WorkerPool)
        resize(pool, solver, 3)
        pool.watch()
        victim = pool._starting[1]
        victim.process.kill()
        step_until(pool, solver, lambda: pool.n_workers == 3)
        assert [sample.incarnation for sample in pool.samples()] == [0, 1, 0]
        assert not psutil.pid_exists(victim.process.pid or 0)


@pytest.mark.parametrize("way", [{}, {"consistency": "async"}, {"consistency": "local"}])
def test_who_dies_while_others_leave_holds_nobody(source, tmp_path, way):
    with solving(source, 3, tmp_path, **way) as (pool, solver):
        for rank in (2, 0):
            os.kill(pool.samples()[rank].pid, signal.SIGKILL)
        resize(pool, solver, 1)
        step_until(pool, solver, lambda: pool.n_workers == 1)
        for _ in range(20):
            if not solver.finished:
                solver.step()
        assert [sample.rank for sample in pool.samples()] == [0]


def test_the_pool_can_be_looked_at_while_all_gather(source, tmp_path):
    with solving(source, 1, tmp_path) as (pool, _):
        assert isinstance(pool, WorkerPool)
        seen: list[int] = []
        pool.idle = lambda: seen.append(len(pool.samples()))
        (late,) = [sample.pid for sample in pool.samples()]
        pool.resize(3)
        pool.watch()
        newcomers = list(pool._starting.values())
        wait_for(lambda: all(member.pipe.poll() for member in newcomers))
        os.kill(late, signal.SIGSTOP)
        threading.Timer(0.4, os.kill, (late, signal.SIGCONT)).start()
        pool.watch()
        assert pool.n_workers == 3 in seen


def test_a_wish_that_is_taken_back_leaves_nobody_behind(source, tmp_path):
    with solving(source, 1, tmp_path) as (pool, solver):
        assert isinstance(pool, WorkerPool)
        resize(pool, solver, 4)
        pool.watch()
        started = [member.process.pid for member in pool._starting.values()]
        resize(pool, solver, 1)
        pool.watch()
        assert pool.n_workers == 1 and not pool.is_changing and len(started) == 3
        assert not any(psutil.pid_exists(pid) for pid in started if pid is not None)
        solver.step()


def test_more_workers_make_an_asynchronous_rate_smaller_and_fewer_restore_it(source, tmp_path):
    with solving(source, 1, tmp_path, consistency="async") as (_, solver):
        assert isinstance(solver, UnsynchronisedSGD)
        solver.step()
        alone = solver.rate
        solver.scale(4)
        solver.step()
        assert solver.rate == pytest.approx(alone / (1 + 2 * 3 * 10), rel=0.01)
        solver.scale(1)
        solver.step()
        assert solver.rate == pytest.approx(alone, rel=0.01)


# A run


def create(store: RunStore, table: Path, **settings: Any) -> str:
    return store.create(TrainingConfig(path=str(table), target="y", **settings)).run_id


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


def has_reached(store: RunStore, run_id: str, step: int) -> bool:
    point = MetricsReader(store.directory(run_id).metrics).latest("points")
    return point is not None and point["step"] >= step


def workers_of(pid: int) -> list[int]:
    children = psutil.Process(pid).children()
    return sorted(c.pid for c in children if "spawn_main" in " ".join(c.cmdline()))


def has_workers(process: subprocess.Popen[bytes], store: RunStore, run_id: str, n: int) -> bool:
    return store.get(run_id).workers == n == len(workers_of(process.pid))


def result_of(store: RunStore, run_id: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(store.directory(run_id).result.read_text())
    return found


def scale(process: subprocess.Popen[bytes], store: RunStore, run_id: str, n: int) -> float:
    """Let a run have ``n`` workers; seconds until it has."""
    begun = time.monotonic()
    service.scale(run_id, n, store=store)
    try:
        wait_for(partial(has_workers, process, store, run_id, n), BUSY * PROMISED)
    except AssertionError:
        record, there = store.get(run_id), workers_of(process.pid)
        raise AssertionError(f"{n} workers were asked for: {record}, {there}") from None
    return time.monotonic() - begun


def test_a_synchronous_run_is_scaled_within_two_seconds_and_ends_at_the_same_bytes(store, table):
    undisturbed = run_training(create(store, table, workers=0, **LONG), store)
    run_id = create(store, table, workers=1, **LONG)
    took = []
    with started(run_id) as process:
        wait_for(partial(has_reached, store, run_id, 200))
        for n_workers in (3, 2):
            took.append(scale(process, store, run_id, n_workers))
        assert process.wait(120) == 0
    print("seconds to scale:", [f"{seconds:.2f}" for seconds in took])
    events = MetricsReader(store.directory(run_id).metrics).read("events")
    told = [event["message"] for event in events if event["kind"] == "scaled"]
    assert told == ["3 workers train now, 1 did before.", "2 workers train now, 3 did before."]
    assert not [event for event in events if event["kind"] == "worker_died"]
    ranks = [row["rank"] for row in MetricsReader(store.directory(run_id).metrics).latest_workers()]
    assert ranks == [0, 1]
    result = result_of(store, run_id)
    assert result["workers"] == 2
    assert result["weights_sha256"] == undisturbed["weights_sha256"]


@pytest.mark.parametrize("way", ["async", "local"])
def test_a_run_without_rounds_is_scaled(store, table, way):
    run_id = create(store, table, workers=1, consistency=way, **LONG)
    with started(run_id) as process:
        wait_for(partial(has_reached, store, run_id, 200))
        for n_workers in (3, 2):
            scale(process, store, run_id, n_workers)
        assert process.wait(120) == 0
    result = result_of(store, run_id)
    assert result["optimum_gap"] < 1e-3
    updates = read_updates(store.directory(run_id).updates)
    check_updates(updates, result["steps"], 0 if way == "local" else 32)
    assert sum(each.count for each in updates) == result["steps"]
    assert {each.rank for each in updates} == {0, 1, 2}
    assert {each.rank for each in updates[-200:]} <= {0, 1}


def test_a_paused_run_is_scaled_and_a_resumed_one_keeps_its_workers(store, table):
    undisturbed = run_training(create(store, table, workers=0, **LONG), store)
    run_id = create(store, table, workers=1, **LONG)
    with started(run_id) as process:
        wait_for(partial(has_reached, store, run_id, 200))
        store.send_command(run_id, "pause")
        wait_for(lambda: store.get(run_id).state is RunState.PAUSED)
        scale(process, store, run_id, 2)
        assert store.get(run_id).state is RunState.PAUSED
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    result = run_training(run_id, store)
    assert result["workers"] == 2
    assert result["weights_sha256"] == undisturbed["weights_sha256"]


def test_the_command_says_how_many_there_are_now(store, table, regatta):
    run_id = create(store, table, workers=1, shards=2, **{**LONG, "epochs": 100_000})
    with started(run_id):
        wait_for(partial(has_reached, store, run_id, 200))
        done = regatta("runs", "scale", run_id, 9)
        assert done.returncode == 0
        assert done.stdout == f"Run {run_id} is running, with 2 workers.\n"
        assert "the run has 2 shards, and so 2 workers at most, not 9" in done.stderr
        assert json.loads(regatta("runs", "scale", run_id, 1, "--json").stdout)["workers"] == 1
        refused = regatta("runs", "scale", run_id, 0)
        assert refused.returncode == 2 and "cannot go on with 0 workers" in refused.stderr
        assert regatta("runs", "scale", run_id, -2).returncode == 2
        assert regatta("runs", "scale", run_id, "many").returncode == 2
    over = regatta("runs", "scale", run_id, 2)
    assert over.returncode == 2 and "there is nothing to scale" in over.stderr


def test_runs_that_have_no_workers_to_add_to_refuse(store, table):
    run_id = create(store, table, workers=0, **{**LONG, "epochs": 100_000})
    with started(run_id):
        wait_for(partial(has_reached, store, run_id, 200))
        with pytest.raises(UserError, match="inside its own process"):
            service.scale(run_id, 2, store=store)
    for wrong in ("scale", "scale x", "scale -1", "stop 3"):
        with pytest.raises(UserError, match="There is no command"):
            store.send_command(run_id, wrong)


@pytest.mark.parametrize("way", ["sync", "async", "local"])
@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_run_to_which_everything_happens(store, table, way, seed):
    """Workers and coordinator killed, pauses, other numbers of workers, in a random order."""
    settings = {"consistency": way, **LONG, "epochs": 30_000 if way == "local" else 6000}
    run_id = create(store, table, workers=2, **settings)
    rng = np.random.default_rng(seed)
    happened = rng.permutation(["kill", "kill", "scale", "scale", "scale", "pause", "crash"])
    process = start(run_id)
    try:
        for what in happened:
            wait_for(partial(moves, store, run_id))
            if what == "kill":
                died = count(store, run_id, "worker_died")
                os.kill(int(rng.choice(workers_of(process.pid))), signal.SIGKILL)
                wait_for(partial(more_than, died, store, run_id, "worker_died"), 10)
            elif what == "scale":
                service.scale(run_id, int(rng.integers(1, 5)), store=store)
            elif what == "pause":
                store.send_command(run_id, "pause")
                wait_for(lambda: store.get(run_id).state is RunState.PAUSED)
                store.send_command(run_id, "resume")
                wait_for(lambda: store.get(run_id).state is RunState.RUNNING)
            else:
                process.kill()
                process.wait(10)
                process = start(run_id)
        assert process.wait(120) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(10)
    result = result_of(store, run_id)
    assert result["optimum_gap"] < 1e-3
    if way == "sync":
        undisturbed = run_training(create(store, table, workers=0, **settings), store)
        assert result["weights_sha256"] == undisturbed["weights_sha256"]
        return
    updates = read_updates(store.directory(run_id).updates)
    check_updates(updates, result["steps"], 0 if way == "local" else 32)
    assert sum(each.count for each in updates) == result["steps"]


def start(run_id: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-P", "-m", "regatta.runs.coordinate", run_id]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL)


def count(store: RunStore, run_id: str, kind: str) -> int:
    events = MetricsReader(store.directory(run_id).metrics).read("events")
    return sum(event["kind"] == kind for event in events)


def more_than(before: int, store: RunStore, run_id: str, kind: str) -> bool:
    return count(store, run_id, kind) > before


def moves(store: RunStore, run_id: str) -> bool:
    """Whether a run is at work: its step grows."""
    reader = MetricsReader(store.directory(run_id).metrics)
    before = reader.latest("points")
    time.sleep(0.5)
    after = reader.latest("points")
    running = store.get(run_id).state is RunState.RUNNING
    return running and before is not None and after is not None and after["step"] > before["step"]
