"""A worker dies at each step of the protocol, a coordinator at each step of a checkpoint: the
result is the same bytes.

The process kills itself, by a real signal or exit, where no signal from outside would hit the
moment: it runs Regatta's own code, with a trap at one place of it.
"""

from __future__ import annotations

import importlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regatta.configuration import TrainingConfig
from regatta.coordinator import run_training
from regatta.parameter_server import worker_pool
from regatta.parameter_server.array_rows import write_rows
from regatta.parameter_server.batches import BatchPlan, shard_offsets
from regatta.parameter_server.checkpoints import KEPT, SUFFIX
from regatta.parameter_server.data_source import DataSource
from regatta.parameter_server.protocol import Op
from regatta.parameter_server.worker_pool import Pool, PoolEvent, WorkerPool, open_pool
from regatta.runs.metrics_store import MetricsReader
from regatta.runs.states import RunState
from regatta.runs.store import RunStore
from regatta.utils import RegattaError

ROUNDS = 12  # of gradients
FATAL_ROUND = 5
TRAPS = """
import os, signal, sys
from regatta import worker as real
from regatta.parameter_server.kernel import Kernel

WAYS = {
    "SIGKILL": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "SIGSEGV": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "os._exit": lambda: os._exit(0),
    "sys.exit": lambda: sys.exit(0),
}

def run_worker(setup, memory, pipe, parent):
    if setup.rank == 1 and setup.incarnation == 0:
        place, way = os.environ["TRAP"].split()
        def die():
            with open(os.environ["TRAP_SPRUNG"], "w") as file:
                file.write(place)
            WAYS[way]()
        TRAPS[place](die)
    real.run_worker(setup, memory, pipe, parent)

def at_start(die):
    die()

def at_method(owner, name, before):
    def set_trap(die):
        method, calls = getattr(owner, name), [0]
        def trapped(self, *arguments):
            calls[0] += 1
            fatal = calls[0] == int(os.environ["FATAL_ROUND"])
            if fatal and before:
                die()
            found = method(self, *arguments)
            if fatal:
                die()
            return found
        setattr(owner, name, trapped)
    return set_trap

def while_writing(die):
    run, calls = Kernel.run, [0]
    def trapped(self, op, start, stop, slot, beat=None):
        run(self, op, start, stop, slot, beat)
        calls[0] += 1
        if calls[0] == int(os.environ["FATAL_ROUND"]):
            slot[: len(slot) // 2] = 1e300
            die()
    Kernel.run = trapped

def at_exit(die):
    serve = real.Worker.serve
    def trapped(self):
        serve(self)
        die()
    real.Worker.serve = trapped

TRAPS = {
    "starting": at_start,
    "reading-parameters": at_method(Kernel, "set_parameters", before=True),
    "computing": at_method(Kernel, "run", before=True),
    "writing-its-slot": while_writing,
    "between-slot-and-word": at_method(real.Worker, "_compute", before=False),
    "after-its-word": at_method(real.Worker, "_next_version", before=True),
    "exiting": at_exit,
}
"""
PLACES = (
    "starting",
    "reading-parameters",
    "computing",
    "writing-its-slot",
    "between-slot-and-word",
    "after-its-word",
)


@pytest.fixture(autouse=True)
def equal_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    """However unequally a busy machine lets the workers run."""
    monkeypatch.setattr("regatta.parameter_server.balance.MEASURED_SECONDS", float("inf"))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> DataSource:
    rng = np.random.default_rng(7)
    X, y = rng.standard_normal((4000, 5)), rng.standard_normal(4000)
    return write_rows(tmp_path_factory.mktemp("rows"), X, y, X[:100], y[:100])


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """``trap(place, way)``: the first worker of rank 1 dies there."""
    (tmp_path / "traps.py").write_text(TRAPS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("FATAL_ROUND", str(FATAL_ROUND))
    monkeypatch.setenv("TRAP_SPRUNG", str(tmp_path / "sprung"))
    # The module that an earlier test imported under this name is gone with its folder.
    monkeypatch.delitem(sys.modules, "traps", raising=False)

    def set_trap(place: str, way: str) -> None:
        monkeypatch.setenv("TRAP", f"{place} {way}")
        monkeypatch.setattr(worker_pool, "run_worker", importlib.import_module("traps").run_worker)

    return set_trap


def sums(pool: Pool, source: DataSource) -> list[bytes]:
    """What some rounds of gradients give, each at other parameters and on other rows."""
    plan = BatchPlan(shard_offsets(source.rows_train, source.n_shards), 4000, seed=1)
    ranges = plan.ranges(0)[0]
    used = source.n_features + 2  # gradient and loss; the rest is for other operations
    rng = np.random.default_rng(0)
    found = []
    for _ in range(ROUNDS):
        parameters = rng.standard_normal(source.n_features + 1)
        found.append(pool.run(Op.GRADIENT, parameters, 0, ranges)[:, :used].tobytes())
    return found


@pytest.fixture
def undisturbed(source: DataSource, tmp_path: Path) -> list[bytes]:
    return sums(open_pool(source, "ridge", "float32", 0, logs=tmp_path), source)


@pytest.mark.parametrize("place", PLACES)
def test_a_worker_killed_at_each_step_of_a_round_changes_nothing(
    source, undisturbed, tmp_path, trap, place
):
    trap(place, "SIGKILL")
    events: list[PoolEvent] = []
    pool = open_pool(source, "ridge", "float32", 2, logs=tmp_path, on_event=events.append)
    try:
        assert sums(pool, source) == undisturbed
        await_everyone(pool)
        assert sums(pool, source) == undisturbed
        assert [sample.shards for sample in pool.samples()] == [8, 8]
    finally:
        pool.close()
    died = [event for event in events if event.kind == "worker_died"]
    assert [event.rank for event in died] == [1] and "SIGKILL" in died[0].message
    started = [
        event.rank for event in events if event.kind == "worker_started" and event.rank is not None
    ]
    assert sorted(started) == ([0, 1] if place == "starting" else [0, 1, 1])


def test_a_worker_that_somebody_kills_comes_back_as_often_as_it_is_asked_for(
    source, undisturbed, tmp_path
):
    """Such a death is no sign that the next worker would die as well."""
    events: list[PoolEvent] = []
    pool = open_pool(source, "ridge", "float32", 2, logs=tmp_path, on_event=events.append)
    try:
        for incarnation in range(5):
            assert not pool.kill(1, incarnation + 1) and not pool.kill(7, 0)
            assert pool.kill(1, incarnation)
            assert sums(pool, source) == undisturbed
            assert not pool.kill(1, incarnation)  # it is dead; its successor is not meant
            await_everyone(pool)
        assert pool.samples()[1].incarnation == 5
    finally:
        pool.close()
    died = [event.message for event in events if event.kind == "worker_died"]
    assert len(died) == 5 and all("as it was asked for" in each for each in died)


def test_the_others_go_on_while_a_dead_worker_is_replaced(source, undisturbed, tmp_path):
    """A round takes what it takes to share out the shards, and not the start of a process."""
    pool = open_pool(source, "ridge", "float32", 2, logs=tmp_path)
    try:
        assert isinstance(pool, WorkerPool)
        sums(pool, source)
        os.kill(pool.samples()[1].pid, signal.SIGKILL)
        before = [sample.rows for sample in pool.samples()]
        assert sums(pool, source) == undisturbed
        after = [sample.rows for sample in pool.samples()]
        assert after[0] - before[0] > 10 * (after[1] - before[1]) and pool._starting
        await_everyone(pool)
        assert sums(pool, source) == undisturbed
        assert pool.samples()[1].incarnation == 1
        assert pool.samples()[1].rows - after[1] == ROUNDS * source.rows_train // 2
    finally:
        pool.close()


def test_a_worker_that_is_stopped_while_it_starts_is_replaced(
    source, undisturbed, tmp_path, monkeypatch
):
    monkeypatch.setattr(worker_pool, "LEASE_SECONDS", 2.0)
    events: list[PoolEvent] = []
    pool = open_pool(source, "ridge", "float32", 1, logs=tmp_path, on_event=events.append)
    try:
        assert isinstance(pool, WorkerPool)
        os.kill(pool.samples()[0].pid, signal.SIGKILL)
        while not pool._starting:
            pool.watch()
        successor = pool._starting[0].process.pid
        assert successor is not None
        os.kill(successor, signal.SIGSTOP)
        before = time.monotonic()
        assert sums(pool, source) == undisturbed
        assert time.monotonic() - before < 5 * worker_pool.LEASE_SECONDS
    finally:
        pool.close()
    died = [event.message for event in events if event.kind == "worker_died"]
    assert len(died) == 2 and f"pid {successor}" in died[1] and "it was stopped" in died[1]


def await_everyone(pool: Pool) -> None:
    """Until those who were replaced are there."""
    assert isinstance(pool, WorkerPool)
    deadline = time.monotonic() + 60
    while pool._starting and time.monotonic() < deadline:
        pool.watch()
        time.sleep(0.01)
    assert not pool._starting


@pytest.mark.parametrize(
    ("way", "told"), [("SIGSEGV", "SIGSEGV"), ("os._exit", "left with exit code 0")]
)
def test_a_worker_that_crashes_or_leaves_is_replaced(
    source, undisturbed, tmp_path, trap, way, told
):
    """To leave before the work is done is a failure, whatever the exit code says."""
    trap("computing", way)
    events: list[PoolEvent] = []
    pool = open_pool(source, "ridge", "float32", 2, logs=tmp_path, on_event=events.append)
    try:
        assert sums(pool, source) == undisturbed
        await_everyone(pool)
    finally:
        pool.close()
    died = [event.message for event in events if event.kind == "worker_died"]
    assert len(died) == 1 and told in died[0]


def test_a_worker_whose_code_raises_fails_the_run_with_its_words(source, tmp_path, trap):
    """The next one would run the same code: nothing is gained by trying again."""
    trap("computing", "sys.exit")
    pool = open_pool(source, "ridge", "float32", 2, logs=tmp_path)
    try:
        with pytest.raises(RegattaError, match=r"Worker 1 .* died: SystemExit: 0"):
            sums(pool, source)
    finally:
        pool.close()
    assert "SystemExit" in (tmp_path / "worker-1.log").read_text()


def test_a_worker_killed_while_it_leaves_holds_nobody(source, undisturbed, tmp_path, trap):
    trap("exiting", "SIGKILL")
    pool = open_pool(source, "ridge", "float32", 2, logs=tmp_path)
    try:
        assert sums(pool, source) == undisturbed
        assert not (tmp_path / "sprung").exists()
    finally:
        pool.close()
    assert (tmp_path / "sprung").read_text() == "exiting"


# A coordinator, while it writes a checkpoint

COORDINATOR = """
import os, signal, sys, time
from pathlib import Path
from regatta import coordinator
from regatta.parameter_server import checkpoints
from regatta.runs import coordinate

coordinator.CHECKPOINT_SECONDS = 0.05
FATAL = 3
saves = [0]

def die():
    Path(sprung).write_text(place)
    os.kill(os.getpid(), signal.SIGKILL)

def trap(owner, name, wanted, before=True):
    real = getattr(owner, name)
    def trapped(*arguments, **options):
        fatal = saves[0] == FATAL and wanted(*arguments)
        if fatal and before:
            die()
        found = real(*arguments, **options)
        if fatal:
            die()
        return found
    setattr(owner, name, trapped)

def is_checkpoint(path, *rest):
    return checkpoints.SUFFIX in str(path)

save = checkpoints.CheckpointFolder.save
def counted(self, checkpoint):
    saves[0] += 1
    save(self, checkpoint)
    Path(sprung).with_name("acknowledged").write_text(str(checkpoint.step))

write_bytes = Path.write_bytes
def write_half(path, data):
    if saves[0] == FATAL and is_checkpoint(path):
        write_bytes(path, data[: len(data) // 2])
        die()
    return write_bytes(path, data)

if __name__ == "__main__":
    place, sprung = sys.argv.pop(1), sys.argv.pop(1)
    checkpoints.CheckpointFolder.save = counted
    if place == "half-written":
        Path.write_bytes = write_half
    elif place == "before-sync":
        trap(os, "fsync", lambda file: is_checkpoint(os.readlink(f"/proc/self/fd/{file}")))
    elif place == "before-rename":
        trap(os, "replace", is_checkpoint)
    elif place == "after-rename":
        trap(os, "replace", is_checkpoint, before=False)
    elif place == "before-the-old-ones-go":
        trap(Path, "unlink", is_checkpoint)
    coordinate.main()
"""


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("table") / "rows.csv"
    X = np.random.default_rng(3).standard_normal((6000, 4))
    np.savetxt(path, X, fmt="%.6g", delimiter=",", header="a,b,c,y", comments="")
    return path


def create(store: RunStore, table: Path) -> str:
    settings: dict[str, Any] = {"epochs": 6000, "batch_size": 1024, "tol": 0.0, "workers": 2}
    return store.create(
        TrainingConfig(path=str(table), target="y", solver="sgd", **settings)
    ).run_id


_undisturbed_run: list[str] = []


@pytest.mark.parametrize(
    "place",
    ["half-written", "before-sync", "before-rename", "after-rename", "before-the-old-ones-go"],
)
def test_a_coordinator_killed_at_each_step_of_a_checkpoint_loses_nothing(
    regatta_home, tmp_path, table, place
):
    store = RunStore(regatta_home)
    run_id = create(store, table)
    script, sprung = tmp_path / "doomed.py", tmp_path / "sprung"
    script.write_text(COORDINATOR)
    command = [sys.executable, "-P", str(script), place, str(sprung), run_id]
    doomed = subprocess.run(command, stderr=subprocess.PIPE, timeout=120, text=True)
    assert doomed.returncode == -signal.SIGKILL, doomed.stderr
    assert sprung.read_text() == place
    assert store.get(run_id).state is RunState.INTERRUPTED
    resumed = run_training(run_id, store)
    events = MetricsReader(store.directory(run_id).metrics).read("events")
    (message,) = (event["message"] for event in events if event["kind"] == "resumed")
    step = int(re.sub(r"\D", "", message))
    assert step >= int((tmp_path / "acknowledged").read_text()) > 0
    if not _undisturbed_run:
        _undisturbed_run.append(run_training(create(store, table), store)["weights_sha256"])
    assert resumed["weights_sha256"] == _undisturbed_run[0]
    left = [file.name for file in store.directory(run_id).checkpoints.iterdir()]
    # With one that was noted, and one that the dead process had no time to remove.
    assert len(left) <= KEPT + 2 and all(name.endswith(SUFFIX) for name in left), left


def test_moments_that_are_there_before_they_are_waited_for_are_taken(source, tmp_path, monkeypatch):
    """As on a busy machine, where this process may rest longer than the workers compute."""
    begin = WorkerPool._begin

    def begin_slowly(self: WorkerPool, *arguments: Any) -> Any:
        found = begin(self, *arguments)
        time.sleep(0.1)
        return found

    monkeypatch.setattr(WorkerPool, "_begin", begin_slowly)
    deadline = time.monotonic() + 30

    def idle() -> None:
        assert time.monotonic() < deadline, "it waits for ever"

    pool = open_pool(
        source, "ridge", "float64", 2, logs=tmp_path, with_statistics=True, idle=idle
    )  # fmt: skip
    taken: list[int] = []

    def take(number: int, matrices: object) -> bool:
        if number == 0 and 1 not in taken:
            return False  # asked again once it has taken others
        taken.append(number)
        return True

    try:
        pool.moments(np.array([[0, 900], [900, 2000], [2000, 3100], [3100, 4000]]), take)
    finally:
        pool.close()
    assert sorted(taken) == [0, 1, 2, 3]
