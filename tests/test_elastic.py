"""Workers that are added and let go while a run goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from regatta.parameter_server.data_source import DataSource
from regatta.parameter_server.worker_pool import Pool, WorkerPool
from regatta.runs import service
from regatta.runs.metrics_store import MetricsReader
from regatta.runs.states import RunState
from regatta.solvers.base import Solver
from regatta.solvers.unsynchronised import UnsynchronisedSGD
from regatta.tests import crew
from regatta.tests.crew import LiveRuns, wait_for, workers_of
from regatta.utils import UserError

PROMISED = 2.0
BUSY = 5  # times the promise, on a machine that does other things too
WAYS: dict[str, dict[str, Any]] = {
    "sync": {},
    "async": {"consistency": "async"},
    "local": {"consistency": "local", "sync_every": 4},
}


@pytest.fixture(autouse=True)
def equal_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    """However unequally a busy machine lets the workers run."""
    monkeypatch.setattr("regatta.parameter_server.balance.MEASURED_SECONDS", float("inf"))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> DataSource:
    return crew.rows(tmp_path_factory.mktemp("rows"))


@pytest.fixture
def runs(tmp_path: Path, regatta_home: Path, monkeypatch: pytest.MonkeyPatch) -> LiveRuns:
    return crew.make(tmp_path, regatta_home, monkeypatch)


# A pool


@contextmanager
def solving(
    source: DataSource, n_workers: int, logs: Path, way: str, **given: Any
) -> Iterator[tuple[Pool, Solver]]:
    settings = crew.settings_of(source, batch_size=512, epochs=300, **WAYS[way])
    with crew.solving(source, n_workers, logs, settings, **given) as found:
        yield found


def resize(pool: Pool, solver: Solver, n_workers: int) -> None:
    pool.resize(n_workers)
    if isinstance(solver, UnsynchronisedSGD):
        solver.scale(n_workers)


def step_until(pool: Pool, solver: Solver, condition: Callable[[], bool]) -> None:
    """Steps meanwhile, but no more than there are in 36 seconds."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        if not solver.finished:
            solver.step()
        pool.watch()
        time.sleep(0.01)


def has_workers(pool: Pool, n_workers: int) -> bool:
    return pool.n_workers == n_workers


def finish(solver: Solver) -> bytes:
    while not solver.finished:
        solver.step()
    return solver.parameters.tobytes()


def test_the_weights_do_not_depend_on_who_comes_and_goes(source, tmp_path):
    with solving(source, 0, tmp_path, "sync") as (_, solver):
        expected = finish(solver)
    with solving(source, 2, tmp_path, "sync") as (pool, solver):
        for n_workers in (4, 1, 2):
            resize(pool, solver, n_workers)
            step_until(pool, solver, partial(has_workers, pool, n_workers))
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


@pytest.mark.parametrize("way", WAYS)
def test_who_dies_before_it_is_ready_is_replaced(source, tmp_path, way):
    with solving(source, 1, tmp_path, way) as (pool, solver):
        assert isinstance(pool, WorkerPool)
        resize(pool, solver, 3)
        pool.watch()
        victim = pool._starting[1]
        victim.process.kill()
        step_until(pool, solver, lambda: pool.n_workers == 3)
        assert [sample.incarnation for sample in pool.samples()] == [0, 1, 0]
        assert not psutil.pid_exists(victim.process.pid or 0)


@pytest.mark.parametrize("way", WAYS)
def test_who_dies_between_being_ready_and_being_taken_in_is_replaced(source, tmp_path, way):
    with solving(source, 1, tmp_path, way) as (pool, solver):
        assert isinstance(pool, WorkerPool)
        resize(pool, solver, 2)
        pool.watch()
        victim = pool._starting[1]
        wait_for(lambda: victim.pipe.poll())
        victim.process.kill()
        victim.process.join()
        step_until(pool, solver, lambda: pool.n_workers == 2)
        step_until(pool, solver, lambda: [s.incarnation for s in pool.samples()] == [0, 1])
        before = pool.samples()[1].rows
        step_until(pool, solver, lambda: pool.samples()[1].rows > before)


@pytest.mark.parametrize("way", WAYS)
def test_who_dies_while_others_leave_holds_nobody(source, tmp_path, way):
    with solving(source, 3, tmp_path, way) as (pool, solver):
        for rank in (2, 0):
            os.kill(pool.samples()[rank].pid, signal.SIGKILL)
        resize(pool, solver, 1)
        step_until(pool, solver, lambda: pool.n_workers == 1)
        for _ in range(20):
            solver.step()
        assert [sample.rank for sample in pool.samples()] == [0]


def test_while_all_gather_the_pool_can_be_looked_at_and_another_number_wished_for(source, tmp_path):
    with solving(source, 1, tmp_path, "sync") as (pool, _):
        assert isinstance(pool, WorkerPool)
        seen: list[int] = []

        def look() -> None:
            seen.append(len(pool.samples()))
            pool.resize(2)

        pool.idle = look
        (late,) = [sample.pid for sample in pool.samples()]
        pool.resize(3)
        pool.watch()
        newcomers = list(pool._starting.values())
        wait_for(lambda: all(member.pipe.poll() for member in newcomers))
        os.kill(late, signal.SIGSTOP)
        threading.Timer(0.4, os.kill, (late, signal.SIGCONT)).start()
        pool.watch()
        assert pool.n_workers == 3 in seen and pool.is_changing
        pool.watch()
        assert pool.n_workers == 2 and not pool.is_changing


def test_a_wish_that_is_taken_back_leaves_nobody_behind(source, tmp_path):
    with solving(source, 1, tmp_path, "sync") as (pool, solver):
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
    with solving(source, 1, tmp_path, "async") as (_, solver):
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


def scale(runs: LiveRuns, process: subprocess.Popen[bytes], run_id: str, n: int) -> float:
    """Let a run have ``n`` workers; seconds until it has."""

    def has_them() -> bool:
        return runs.store.get(run_id).workers == n == len(workers_of(process.pid))

    begun = time.monotonic()
    service.scale(run_id, n, store=runs.store)
    wait_for(has_them, BUSY * PROMISED)
    return time.monotonic() - begun


def test_a_synchronous_run_is_scaled_within_two_seconds_and_ends_at_the_same_bytes(runs):
    undisturbed = runs.undisturbed(workers=0)
    run_id = runs.create(workers=1)
    took = []
    with runs.started(run_id) as process:
        for n_workers in (3, 2):
            runs.goes_on(run_id)
            took.append(scale(runs, process, run_id, n_workers))
        runs.goes_on(run_id)
        result = runs.finish(process, run_id)
    print("seconds to scale:", [f"{seconds:.2f}" for seconds in took])
    told = [event["message"] for event in runs.events(run_id, "scaled")]
    assert told == ["3 workers train now, 1 did before.", "2 workers train now, 3 did before."]
    assert not runs.events(run_id, "worker_died")
    reader = MetricsReader(runs.store.directory(run_id).metrics)
    assert [row["rank"] for row in reader.latest_workers()] == [0, 1]
    assert result["workers"] == 2
    assert result["weights_sha256"] == undisturbed["weights_sha256"]


@pytest.mark.parametrize("way", ["async", "local"])
def test_a_run_without_rounds_is_scaled(runs, way):
    run_id = runs.create(workers=1, **WAYS[way])
    with runs.started(run_id) as process:
        runs.goes_on(run_id)
        scale(runs, process, run_id, 3)
        runs.goes_on(run_id, 30)  # some of all three
        scale(runs, process, run_id, 2)
        runs.goes_on(run_id)
        result = runs.finish(process, run_id)
    assert result["workers"] == 2 and result["metrics"]["train"]["r2"] > 0.97
    updates = runs.updates(run_id)
    assert {each.rank for each in updates} == {0, 1, 2}
    assert {each.rank for each in updates[-200:]} == {0, 1}


def test_a_paused_run_is_scaled_and_a_resumed_one_keeps_its_workers(runs):
    undisturbed = runs.undisturbed(workers=0)
    run_id = runs.create(workers=1)
    with runs.started(run_id) as process:
        runs.goes_on(run_id)
        runs.store.send_command(run_id, "pause")
        wait_for(lambda: runs.store.get(run_id).state is RunState.PAUSED)
        scale(runs, process, run_id, 2)
        assert runs.store.get(run_id).state is RunState.PAUSED
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    with runs.started(run_id) as process:
        result = runs.finish(process, run_id)
    assert result["workers"] == 2
    assert result["weights_sha256"] == undisturbed["weights_sha256"]


def test_the_command_says_how_many_there_are_now(runs, regatta):
    run_id = runs.create(workers=1, shards=2)
    with runs.started(run_id):
        runs.goes_on(run_id)
        done = regatta("runs", "scale", run_id, 9)
        assert done.returncode == 0
        assert done.stdout == f"Run {run_id} is running, with 2 workers.\n"
        assert "the run has 2 shards, and so 2 workers at most, not 9" in done.stderr
        assert json.loads(regatta("runs", "scale", run_id, 1, "--json").stdout)["workers"] == 1
        refused = regatta("runs", "scale", run_id, 0)
        assert refused.returncode == 2 and "whole number of at least 1" in refused.stderr
        assert regatta("runs", "scale", run_id, "many").returncode == 2
    over = regatta("runs", "scale", run_id, 2)
    assert over.returncode == 2 and "there is nothing to scale" in over.stderr


def test_runs_that_have_no_workers_to_add_to_refuse(runs):
    run_id = runs.create(workers=0)
    with runs.started(run_id):
        runs.goes_on(run_id)
        with pytest.raises(UserError, match="inside its own process"):
            service.scale(run_id, 2, store=runs.store)
    for wrong in ("scale", "scale x", "scale -1", "stop 3"):
        with pytest.raises(UserError, match="There is no command"):
            runs.store.send_command(run_id, wrong)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_run_to_which_everything_happens(runs, way, seed):
    """Workers and coordinator killed, pauses, other numbers of workers, in a random order."""
    run_id = runs.create(workers=2, **WAYS[way])
    rng = np.random.default_rng(seed)
    happened = rng.permutation(["kill", "kill", "scale", "scale", "scale", "pause", "crash"])
    process = runs.start(run_id)
    try:
        for what in happened:
            runs.goes_on(run_id)
            if what == "kill":  # maybe one that has just come, or is about to leave
                victim = int(rng.choice(workers_of(process.pid)))
                os.kill(victim, signal.SIGKILL)
                wait_for(partial(is_gone, victim))
            elif what == "scale":
                service.scale(run_id, int(rng.integers(1, 5)), store=runs.store)
            elif what == "pause":
                runs.store.send_command(run_id, "pause")
                wait_for(lambda: runs.store.get(run_id).state is RunState.PAUSED)
                runs.store.send_command(run_id, "resume")
                wait_for(lambda: runs.store.get(run_id).state is RunState.RUNNING)
            else:
                process.kill()
                process.wait(10)
                process = runs.start(run_id)
        runs.goes_on(run_id)
        result = runs.finish(process, run_id)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(10)
    if way == "sync":
        assert result["weights_sha256"] == runs.undisturbed(workers=0)["weights_sha256"]
    else:
        assert result["metrics"]["train"]["r2"] > 0.97
        runs.updates(run_id)


def is_gone(pid: int) -> bool:
    return not psutil.pid_exists(pid)
