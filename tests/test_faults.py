"""Faults and commands at bad moments: within a long round, in a pause, on a full disk, without
memory. Each fault is a real one, and each test asserts that it happened."""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from regatta.configuration import TrainingConfig
from regatta.coordinator import run_training
from regatta.parameter_server.array_rows import write_rows
from regatta.parameter_server.batches import whole_shards
from regatta.parameter_server.checkpoints import decode
from regatta.parameter_server.protocol import Op
from regatta.parameter_server.worker_pool import Pool, PoolEvent, open_pool, out_of_memory_kills
from regatta.runs.metrics_store import MetricsReader, MetricsWriter
from regatta.runs.states import RunState
from regatta.runs.store import RunStore
from regatta.tests.crew import wait_for, workers_of
from regatta.utils import RegattaError

LONG: dict[str, Any] = {"epochs": 3000, "batch_size": 1024, "tol": 0.0, "workers": 2}
# What is promised within a second is checked with the margin that a busy machine needs.
PROMPT = 5.0


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(3)
    X = rng.standard_normal((12_000, 6))
    y = X @ [1.0, -2.0, 0.0, 3.0, 0.5, 0.0] + 4 + 0.5 * rng.standard_normal(len(X))
    path = tmp_path_factory.mktemp("table") / "rows.csv"
    rows = np.column_stack([X, y])
    np.savetxt(path, rows, fmt="%.6g", delimiter=",", header="a,b,c,d,e,f,y", comments="")
    return path


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


def wait_for_step(store: RunStore, run_id: str, step: int) -> None:
    reader = MetricsReader(store.directory(run_id).metrics)
    wait_for(lambda: (point := reader.latest("points")) and point["step"] >= step)


def events(store: RunStore, run_id: str, kind: str) -> list[dict[str, Any]]:
    found = MetricsReader(store.directory(run_id).metrics).read("events")
    return [event for event in found if event["kind"] == kind]


def result_of(store: RunStore, run_id: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(store.directory(run_id).result.read_text())
    return found


# Within a long round


SLOW = """
import os, time
import numpy as np
from regatta.models import Objective, Penalty

class Slow(Objective):
    name = "slow"

    def loss(self, residual, derivative):
        if os.path.exists(os.environ["SLOW_WHILE"]):
            time.sleep(1.0)
        np.copyto(derivative, residual)
        return 0.5 * float(residual @ residual)

    def penalty(self, alpha, l1_ratio, n_rows):
        return Penalty(l1=0.0, l2=alpha / n_rows)
"""


@pytest.fixture
def slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that makes each round of the model slow:Slow last eight seconds while it is there."""
    (tmp_path / "slow.py").write_text(SLOW)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    switch = tmp_path / "switch"
    monkeypatch.setenv("SLOW_WHILE", str(switch))
    return switch


SLOW_RUN: dict[str, Any] = {
    "model": "slow:Slow", "batch_size": "full", "epochs": 4000, "tol": 0.0, "workers": 2,
    "patience": 4000,
}  # fmt: skip


def test_a_stop_within_a_long_round_is_obeyed_and_loses_nothing(store, table, slow):
    undisturbed = run_training(create(store, table, **SLOW_RUN), store)
    run_id = create(store, table, **SLOW_RUN)
    with started(run_id) as process:
        wait_for_step(store, run_id, 20)
        slow.touch()
        step = wait_for(lambda: at_rest(store, run_id))
        workers = workers_of(process.pid)
        begun = time.monotonic()
        store.send_command(run_id, "stop")
        assert process.wait(PROMPT) == 0
        assert time.monotonic() - begun < PROMPT
    assert not any(psutil.pid_exists(pid) for pid in workers)
    slow.unlink()
    record = store.get(run_id)
    assert record.state is RunState.STOPPED and record.step >= step
    assert run_training(run_id, store)["weights_sha256"] == undisturbed["weights_sha256"]


def at_rest(store: RunStore, run_id: str) -> int:
    """The step of a run that has not moved for a second: it is in a long round. 0 if it moves."""
    reader = MetricsReader(store.directory(run_id).metrics)
    before = reader.latest("points")
    time.sleep(1.0)
    after = reader.latest("points")
    return int(after["step"]) if before and after and before["step"] == after["step"] else 0


def test_a_pause_within_a_long_round_is_obeyed(store, table, slow):
    run_id = create(store, table, **SLOW_RUN)
    with started(run_id):
        wait_for_step(store, run_id, 20)
        slow.touch()
        wait_for(lambda: at_rest(store, run_id))
        store.send_command(run_id, "pause")
        wait_for(lambda: store.get(run_id).state is RunState.PAUSED, PROMPT)
        slow.unlink()
        store.send_command(run_id, "resume")
        wait_for(lambda: store.get(run_id).state is RunState.FINISHED)


@pytest.mark.parametrize("settings", [{"solver": "exact"}, {"solver": "sgd", "epochs": 50}])
def test_a_stop_while_the_optimum_is_sought_is_obeyed(store, table, monkeypatch, settings):
    sought, given_up = threading.Event(), threading.Event()

    def endless(*_: Any) -> None:
        sought.set()
        given_up.wait(60)

    monkeypatch.setattr("regatta.solvers.training.find_optimum", endless)
    monkeypatch.setattr("regatta.solvers.one_pass.find_optimum", endless)
    run_id = create(store, table, workers=0, **settings)

    def stop() -> None:
        sought.wait(60)
        store.send_command(run_id, "stop")

    threading.Thread(target=stop).start()
    try:
        result = run_training(run_id, store)
    finally:
        given_up.set()
    assert sought.is_set() and result["state"] == "stopped" and result["step"] == 0


def test_work_that_is_given_up_does_not_keep_the_process():
    """Python waits for an executor's threads when it ends, for as long as they work."""
    code = """
import sys, time
from concurrent.futures import ThreadPoolExecutor
from regatta.utils import end_process, while_idling

def work():
    with ThreadPoolExecutor(1) as pool:
        list(pool.map(time.sleep, [60]))

def idle():
    raise InterruptedError

assert while_idling(lambda: 7, idle) == 7
try:
    while_idling(work, idle)
except InterruptedError:
    print("given up")
    end_process(9)
"""
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stdout, done.stderr) == (9, "given up\n", "")


def test_rows_are_counted_within_a_round(tmp_path):
    """One shard a worker, so that the pass is one round."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((40_000, 500)), rng.standard_normal(40_000)
    for n_workers in (0, 2):
        folder = tmp_path / str(n_workers)
        folder.mkdir()
        source = write_rows(folder, X, y, X[:10], y[:10], n_shards=max(1, n_workers))
        seen: list[tuple[float, int]] = []
        pool = open_pool(source, "ridge", "float64", n_workers, logs=folder, with_statistics=True)
        pool.idle = partial(note_rows, pool, seen)
        try:
            ends = np.linspace(0, len(X), source.n_shards + 1).astype(int)
            pool.moments(whole_shards(tuple(ends)), lambda shard, matrices: True)
            assert seen, n_workers
            seen += pool.milestones()
        finally:
            pool.close()
        moments, rows = zip(*seen, strict=True)
        assert list(moments) == sorted(moments)
        assert list(rows) == sorted(rows) and rows[-1] == len(X)
        assert len(set(rows)) >= 100


def note_rows(pool: Pool, seen: list[tuple[float, int]]) -> None:
    seen += pool.milestones()


# Workers


def test_a_worker_that_dies_in_a_pause_is_replaced_at_once(store, table):
    undisturbed = run_training(create(store, table, **LONG), store)
    run_id = create(store, table, **LONG)
    with started(run_id) as process:
        wait_for_step(store, run_id, 500)
        store.send_command(run_id, "pause")
        wait_for(lambda: store.get(run_id).state is RunState.PAUSED)
        before = workers_of(process.pid)
        os.kill(before[0], signal.SIGKILL)
        wait_for(lambda: events(store, run_id, "worker_died"), 2 * PROMPT)
        wait_for(lambda: len(set(workers_of(process.pid)) - set(before)) == 1, 2 * PROMPT)
        assert store.get(run_id).state is RunState.PAUSED
        store.send_command(run_id, "resume")
        assert process.wait(60) == 0
    assert result_of(store, run_id)["weights_sha256"] == undisturbed["weights_sha256"]
    assert rows_done(store, run_id) == rows_done(store, undisturbed["run_id"])  # none again


def rows_done(store: RunStore, run_id: str) -> int:
    """Training rows that the workers of a run have counted."""
    workers = MetricsReader(store.directory(run_id).metrics).latest_workers()
    return sum(worker["rows"] for worker in workers)


HUNGRY = """
import os
from regatta.models import Linear

class Hungry(Linear):
    name = "hungry"

    def loss(self, residual, derivative):
        group = os.environ.get("HUNGRY_GROUP")
        if group:
            with open(group, "w") as file:
                file.write(str(os.getpid()))
            eaten = bytearray(300_000_000)
            eaten[::4096] = bytes([1]) * len(eaten[::4096])
        else:
            bytearray(1 << 60)
        return super().loss(residual, derivative)
"""


@pytest.fixture
def hungry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hungry.py").write_text(HUNGRY)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.fixture
def small_group(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A control group whose processes have 150 MB, for workers to enter."""
    group = Path(f"/sys/fs/cgroup/memory/regatta-{os.getpid()}")
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text("150000000")
        with contextlib.suppress(OSError):
            (group / "memory.memsw.limit_in_bytes").write_text("150000000")
    except OSError:
        pytest.skip("no control group can be made here")
    monkeypatch.setenv("HUNGRY_GROUP", str(group / "cgroup.procs"))
    yield
    group.rmdir()


def starve(tmp_path: Path) -> tuple[RegattaError, list[PoolEvent]]:
    """A round of a model that takes all the memory there is."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((100, 3)), rng.standard_normal(100)
    source = write_rows(tmp_path, X, y, X[:10], y[:10], n_shards=1)
    told: list[PoolEvent] = []
    pool = open_pool(source, "hungry:Hungry", "float64", 1, logs=tmp_path, on_event=told.append)
    try:
        pool.samples()
        with pytest.raises(RegattaError) as caught:
            pool.run(Op.GRADIENT, np.zeros(4), 0, np.array([[0, 100]]))
    finally:
        pool.close()
    return caught.value, told


@pytest.mark.usefixtures("hungry")
def test_a_worker_without_memory_is_tried_again_once(tmp_path):
    error, told = starve(tmp_path)
    assert [event.kind for event in told] == ["worker_started", "worker_died"] * 2
    assert "Worker 0" in error.message and "ran out of memory" in error.message
    assert re.search(r"it held [1-9][0-9]* MB", error.message)
    assert "--workers" in error.hint


@pytest.mark.usefixtures("hungry", "small_group")
def test_a_worker_that_the_system_kills_for_want_of_memory_is_tried_again_once(tmp_path):
    kills = out_of_memory_kills()
    error, told = starve(tmp_path)
    assert out_of_memory_kills() == kills + 2
    assert [event.kind for event in told] == ["worker_started", "worker_died"] * 2
    assert "ran out of memory" in error.message


# A full disk


def test_files_that_may_grow_no_further_pause_a_run(store, table):
    """EFBIG: the limit of a process on the size of its files, lowered while it trains."""
    undisturbed = run_training(create(store, table, **LONG), store)
    run_id = create(store, table, **LONG)
    directory = store.directory(run_id)
    log = directory.metrics.with_name("metrics.db-wal")
    with started(run_id) as process:
        wait_for_step(store, run_id, 500)
        wait_for(lambda: log.stat().st_size > 100_000)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (log.stat().st_size, -1))
        record = wait_for(lambda: paused(store, run_id))
        assert "The disk is full: about 1 MB" in record.message
        assert "by itself" in record.message
        assert at_rest(store, run_id)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (-1, -1))
        wait_for(lambda: store.get(run_id).state is not RunState.PAUSED, PROMPT)
        assert store.get(run_id).message == ""
        assert process.wait(60) == 0
    assert store.get(run_id).state is RunState.FINISHED
    assert result_of(store, run_id)["weights_sha256"] == undisturbed["weights_sha256"]
    assert not directory.room.exists()


def paused(store: RunStore, run_id: str) -> Any:
    record = store.get(run_id)
    return record if record.state is RunState.PAUSED else None


def in_a_namespace() -> list[str]:
    """The command that gives a process mounts of its own, if the system allows it."""
    command = ["unshare", "--user", "--map-root-user", "--mount"]
    if shutil.which("unshare") is None or subprocess.run([*command, "true"]).returncode:
        pytest.skip("no file system can be mounted here")
    return command


@pytest.mark.parametrize("end", ["room", "stop"])
def test_a_full_disk_pauses_a_run(tmp_path, table, end):
    """ENOSPC, on a small file system in memory; see the lower part of this file."""
    script = [*in_a_namespace(), sys.executable, "-P", str(Path(__file__).resolve())]
    done = subprocess.run(
        [*script, str(tmp_path), str(table), end], capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["filled"] and found["free"] < 65_536
    assert found["while_full"]["state"] == "paused"
    assert "The disk is full" in found["while_full"]["message"]
    assert found["stood_still"] and found["checkpoint_step"] > 0
    assert found["state"] == ("finished" if end == "room" else "stopped")
    assert found["resumed_sha256"] == found["undisturbed_sha256"]


def test_a_disk_that_fills_up_before_the_training_is_told_and_the_run_taken_up_again(
    store: RunStore, tmp_path: Path
) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("a,b,y\n" + "".join(f"{i},{i * i % 97},{2 * i}\n" for i in range(20_000)))
    run_id = create(store, path, workers=0)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        with pytest.raises(RegattaError, match="is full"):
            run_training(run_id, store)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    record = store.get(run_id)
    assert record.state is RunState.FAILED and record.state.is_resumable
    assert "is full" in record.message and "then resume the run" in record.hint
    run_training(run_id, store)
    assert store.get(run_id).state is RunState.FINISHED


def test_a_full_disk_hides_figures_from_readers_and_ends_none(tmp_path: Path) -> None:
    """Where no file may grow, a reader cannot make the index that it shares with the writer."""
    writer = MetricsWriter(tmp_path / "metrics.db")
    writer.add("points", step=1, loss=2.0)
    writer.flush()
    alone = tmp_path / "alone"
    alone.mkdir()
    for name in ("metrics.db", "metrics.db-wal"):
        shutil.copy(tmp_path / name, alone / name)
    writer.close()
    reader = MetricsReader(alone / "metrics.db")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        while_full = reader.read("points")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert while_full == []
    assert [point["step"] for point in reader.read("points")] == [1]


def fill_the_disk(root: Path, table: Path, end: str) -> dict[str, Any]:
    """Train on a small file system, fill it, look, make room or stop, and look again."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(root)], check=True)
    os.environ["REGATTA_HOME"] = str(root)
    store = RunStore(root)
    undisturbed = run_training(create(store, table, **LONG), store)["weights_sha256"]
    run_id = create(store, table, **LONG)
    with started(run_id) as process:
        wait_for_step(store, run_id, 500)
        store.send_command(run_id, "pause")  # writes a checkpoint
        wait_for(lambda: paused(store, run_id))
        store.send_command(run_id, "resume")
        wait_for(lambda: store.get(run_id).state is RunState.RUNNING)
        filled = fill(root / "ballast")
        free = shutil.disk_usage(root).free
        record = wait_for(lambda: paused(store, run_id))
        stood_still = bool(at_rest(store, run_id))
        newest = max(store.directory(run_id).checkpoints.glob("*.checkpoint"))
        checkpoint_step = decode(newest.read_bytes()).step
        if end == "stop":
            process.send_signal(signal.SIGTERM)
            process.wait(10)
        (root / "ballast").unlink()
        process.wait(60)
    state = store.get(run_id).state
    if state is RunState.STOPPED:
        run_training(run_id, store)
    return {
        "filled": filled,
        "free": free,
        "while_full": {"state": str(record.state), "message": record.message},
        "stood_still": stood_still,
        "checkpoint_step": checkpoint_step,
        "state": str(state),
        "undisturbed_sha256": undisturbed,
        "resumed_sha256": result_of(store, run_id)["weights_sha256"],
    }


def fill(path: Path) -> bool:
    """Write until there is no room; whether that came."""
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096):
            try:
                while file.tell() < 1 << 30:
                    file.write(bytes(size))
            except OSError as error:
                full = "No space left" in str(error)
    return full


if __name__ == "__main__":
    faulthandler.dump_traceback_later(150, exit=True)  # where it stands, should it hang
    print(json.dumps(fill_the_disk(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])))
