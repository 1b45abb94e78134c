"""Solvers on workers, and runs in processes of their own, while a test does things to them.

The model of such a run is `Gated`: as long as a file is there each batch takes fifty milliseconds
more, so that the run outlasts whatever a test waits for, on a machine of any speed, and leaves its
cores alone. Once the test opens the gate the run is over in a moment.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
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
from regatta.parameter_server.worker_pool import Pool, PoolEvent
from regatta.runs.metrics_store import MetricsReader
from regatta.runs.store import RunStore
from regatta.solvers import choose
from regatta.solvers.base import Solver
from regatta.solvers.problem import Problem

GATE = "REGATTA_TEST_GATE"
BATCH = 300  # of one part; evaluations take other numbers of rows at once
GATED = f"""
import os, time
from regatta.models import Ridge

class Gated(Ridge):
    def loss(self, residual, derivative):
        if len(residual) == {BATCH} and os.path.exists(os.environ["{GATE}"]):
            time.sleep(0.05)
        return super().loss(residual, derivative)
"""
# 2,000 batches: at the gate 100 seconds' worth of work, for one worker or one synchronous crew.
SETTINGS: dict[str, Any] = {
    "target": "y",
    "model": "gated:Gated",
    "solver": "sgd",
    "batch_size": BATCH,
    "epochs": 62,
    "tol": 0.0,
}


def rows(directory: Path, n_rows: int = 6000, n_features: int = 12) -> DataSource:
    """Prepared rows: of a linear target, standardised."""
    rng = np.random.default_rng(7)
    mix = np.eye(n_features) + 0.3 * rng.standard_normal((n_features, n_features))
    X = rng.standard_normal((n_rows + 500, n_features)) @ mix
    X = (X - X[:n_rows].mean(0)) / X[:n_rows].std(0)
    y = X @ rng.standard_normal(n_features) + 0.5 * rng.standard_normal(len(X))
    y = (y - y[:n_rows].mean()) / y[:n_rows].std()
    return write_rows(directory, X[:n_rows], y[:n_rows], X[n_rows:], y[n_rows:])


def settings_of(source: DataSource, **given: Any) -> choose.Settings:
    """What a run with these settings would do on the rows."""
    offsets = shard_offsets(source.rows_train, source.n_shards)
    config = TrainingConfig(**{"solver": "sgd", "batch_size": 256, "epochs": 20, **given})
    return choose.resolve(config, offsets, source.n_features)


@contextlib.contextmanager
def solving(
    source: DataSource,
    n_workers: int,
    logs: Path,
    settings: choose.Settings,
    *,
    model: str = "ridge",
    on_event: Callable[[PoolEvent], None] = lambda event: None,
    **given: Any,
) -> Iterator[tuple[Pool, Solver]]:
    """A solver on a pool of its own; ``given`` are more settings of the run."""
    objective = models.get(model)
    pool = open_pool(
        source, model, "float32", n_workers, logs=logs, steps=settings.steps, on_event=on_event
    )
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
        config = TrainingConfig(**{"solver": "sgd", "tol": 0.0, **given})
        yield pool, choose.make(config, settings, problem)
    finally:
        pool.close()


class LiveRuns:
    """A store of runs of `Gated` on one table, and the gate of all of them.

    Parameters
    ----------
    store : RunStore
    folder : Path
        For table and gate.
    """

    def __init__(self, store: RunStore, folder: Path) -> None:
        self.store = store
        self.gate = folder / "gate"
        self.table = folder / "rows.csv"
        rng = np.random.default_rng(3)
        X = rng.standard_normal((12_000, 6))
        y = X @ [1.0, -2.0, 0.0, 3.0, 0.5, 0.0] + 4 + 0.5 * rng.standard_normal(len(X))
        rows, names = np.column_stack([X, y]), "a,b,c,d,e,f,y"
        np.savetxt(self.table, rows, fmt="%.6g", delimiter=",", header=names, comments="")
        self.gate.touch()

    def create(self, **settings: Any) -> str:
        """A run that no one has begun."""
        config = TrainingConfig(path=str(self.table), **{**SETTINGS, **settings})
        return self.store.create(config).run_id

    def start(self, run_id: str) -> subprocess.Popen[bytes]:
        """The run's coordinator as a process of its own."""
        command = [sys.executable, "-P", "-m", "regatta.runs.coordinate", run_id]
        return subprocess.Popen(command, stderr=subprocess.DEVNULL)

    @contextlib.contextmanager
    def started(self, run_id: str) -> Iterator[subprocess.Popen[bytes]]:
        process = self.start(run_id)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(30)

    def undisturbed(self, **settings: Any) -> dict[str, Any]:
        """The result of a run to which nothing happens."""
        self.gate.unlink(missing_ok=True)
        try:
            return run_training(self.create(**settings), self.store)
        finally:
            self.gate.touch()

    def finish(self, process: subprocess.Popen[bytes], run_id: str) -> dict[str, Any]:
        """Open the gate; the result of the run."""
        self.gate.unlink(missing_ok=True)
        assert process.wait(120) == 0, self.store.directory(run_id).log.read_text()
        return self.result(run_id)

    def result(self, run_id: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.store.directory(run_id).result.read_text())
        return found

    def step(self, run_id: str) -> int:
        point = MetricsReader(self.store.directory(run_id).metrics).latest("points")
        return int(point["step"]) if point else 0

    def goes_on(self, run_id: str, steps: int = 5) -> None:
        """Wait until it has taken some more steps; a resumed run takes some of them again."""
        lowest = self.step(run_id)

        def has_gone_on() -> bool:
            nonlocal lowest
            now = self.step(run_id)
            lowest = min(lowest, now)
            return now >= lowest + steps

        wait_for(has_gone_on)

    def events(self, run_id: str, kind: str) -> list[dict[str, Any]]:
        found = MetricsReader(self.store.directory(run_id).metrics).read("events")
        return [event for event in found if event["kind"] == kind]

    def updates(self, run_id: str) -> list[Applied]:
        """Every update of a finished run: each batch applied once, none too stale."""
        updates = read_updates(self.store.directory(run_id).updates)
        result = self.result(run_id)
        bound = result["staleness"]["bound"] if "staleness" in result else 0
        # A run that converges leaves batches out that were in hand, maybe before the last applied.
        check_updates(updates, result["steps"] + (64 if result["converged"] else 0), bound)
        assert sum(each.count for each in updates) == result["steps"]
        return updates


def make(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> LiveRuns:
    """With the model where this process and its children find it."""
    (tmp_path / "gated.py").write_text(GATED)
    runs = LiveRuns(RunStore(home), tmp_path)
    paths = [str(tmp_path), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv(GATE, str(runs.gate))
    monkeypatch.setenv("REGATTA_LOG_UPDATES", "1")
    return runs


def wait_for(condition: Callable[[], Any], seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError("it did not come true")


def workers_of(pid: int) -> list[int]:
    """Process ids of a coordinator's workers, the oldest first."""
    found = []
    for child in psutil.Process(pid).children():
        with contextlib.suppress(psutil.Error):
            if "spawn_main" in " ".join(child.cmdline()):
                found.append(child.pid)
    return sorted(found)
