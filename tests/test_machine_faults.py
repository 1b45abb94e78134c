"""Faults of the machine: no room for shared memory, a full /dev/shm, a clock that is set."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regatta.configuration import TrainingConfig
from regatta.coordinator import run_training
from regatta.runs.metrics_store import MetricsReader
from regatta.runs.states import RunState
from regatta.runs.store import RunStore

SETTINGS: dict[str, Any] = {
    "solver": "sgd", "epochs": 10_000, "batch_size": 1024, "tol": 0.0, "workers": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("table") / "rows.csv"
    X = np.random.default_rng(3).standard_normal((4000, 4))
    np.savetxt(path, X, fmt="%.6g", delimiter=",", header="a,b,c,y", comments="")
    return path


def create(store: RunStore, table: Path) -> str:
    return store.create(TrainingConfig(path=str(table), target="y", **SETTINGS)).run_id


NO_ROOM = """
import resource
from regatta.parameter_server.shared_memory import SharedMemory
from regatta.utils import RegattaError

resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
SharedMemory(900_000).close()
try:
    SharedMemory(2_000_000)
except RegattaError as error:
    print(error)
"""


def test_shared_memory_that_is_not_to_be_had_is_told_before_a_worker_starts():
    """Reserved when it is made: not a SIGBUS at the first write."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", NO_ROOM], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "no room for 2 MB of shared memory" in done.stdout


WITHOUT_SHARED_FOLDER = """
mount -t tmpfs -o size=4k tmpfs /dev/shm
head -c 100000 /dev/zero > /dev/shm/ballast
df --output=avail /dev/shm | tail -1
exec "$@"
"""


def test_a_run_does_not_need_dev_shm(regatta_home, table):
    """Nothing of a run lies there, so nothing can be left there, or find no room there."""
    space = ["unshare", "--user", "--map-root-user", "--mount"]
    if shutil.which("unshare") is None or subprocess.run([*space, "true"]).returncode:
        pytest.skip("no file system can be mounted here: needs `unshare` with user namespaces")
    train = [sys.executable, "-P", "-m", "regatta", "train", str(table), "--target", "y"]
    options = ["--solver", "sgd", "--epochs", "5", "--workers", "2", "--json"]
    done = subprocess.run(
        [*space, "sh", "-c", WITHOUT_SHARED_FOLDER, "sh", *train, *options],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "No space left" in done.stderr
    available, result = done.stdout.split("\n", 1)
    assert int(available) == 0
    assert json.loads(result)["state"] == "finished"


CLOCK = """
import sys, time
from pathlib import Path
from regatta.runs import coordinate

real = time.time

def set_clock():
    offset = Path(sys.argv[2])
    return real() + float(offset.read_text()) if offset.exists() else real()

if __name__ == "__main__":
    time.time = set_clock
    coordinate.main()
"""


@pytest.mark.parametrize("day", [86_400.0, -86_400.0], ids=["forward", "back"])
def test_a_clock_that_is_set_changes_nothing(regatta_home, tmp_path, table, day):
    """As the coordinator sees it: the system's own clock is not a test's to set."""
    store = RunStore(regatta_home)
    run_id, calm = create(store, table), create(store, table)
    script, offset = tmp_path / "clock.py", tmp_path / "offset"
    script.write_text(CLOCK)
    coordinator = subprocess.Popen([sys.executable, "-P", str(script), run_id, str(offset)])
    reader = MetricsReader(store.directory(run_id).metrics)
    try:
        while not (point := reader.latest("points")) or point["step"] < 300:
            assert coordinator.poll() is None, "it ended before the clock was set"
        offset.write_text(str(day))
        assert coordinator.wait(120) == 0
    finally:
        coordinator.kill()
    record = store.get(run_id)
    assert record.state is RunState.FINISHED
    assert record.ended is not None and record.started is not None
    assert abs(record.ended - record.started) > 80_000, "the clock was set while it ran"
    points = reader.read("points")
    for name in ("step", "seconds", "rows"):
        values = [point[name] for point in points]
        assert values == sorted(values)
    assert points[-1]["seconds"] < 120
    kinds = [event["kind"] for event in reader.read("events")]
    assert "worker_died" not in kinds
    sha256 = json.loads(store.directory(run_id).result.read_text())["weights_sha256"]
    assert sha256 == run_training(calm, store)["weights_sha256"]
