"""How often a run saves: as often as it is cheap, and told of less often than that."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import numpy as np
import pytest

from regatta import coordinator
from regatta.configuration import TrainingConfig
from regatta.coordinator import run_training
from regatta.parameter_server.checkpoints import Checkpoint, CheckpointFolder
from regatta.runs.metrics_store import MetricsReader
from regatta.runs.store import RunStore

SHARE = 0.1


@pytest.mark.parametrize("cost", [0.0, 0.05])
def test_the_time_between_checkpoints_goes_with_what_one_costs(
    regatta_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cost: float
) -> None:
    """Seconds that each save takes more, as on a slow disk."""
    monkeypatch.setattr(coordinator, "TICK_SECONDS", 0.01)
    monkeypatch.setattr(coordinator, "CHECKPOINT_SHARE", SHARE)
    rng = np.random.default_rng(1)
    X = rng.standard_normal((2000, 3))
    table = tmp_path / "rows.csv"
    rows = np.column_stack([X, X @ [1.0, 2.0, 3.0] + rng.standard_normal(2000)])
    np.savetxt(table, rows, delimiter=",", header="a,b,c,y", comments="")
    saves: list[tuple[float, float]] = []
    real = CheckpointFolder.save

    def save(folder: CheckpointFolder, checkpoint: Checkpoint) -> Path:
        begin = time.monotonic()
        time.sleep(cost)
        path = real(folder, checkpoint)
        saves.append((begin, time.monotonic()))
        return path

    monkeypatch.setattr(CheckpointFolder, "save", save)
    store = RunStore(regatta_home)
    config = TrainingConfig(path=str(table), target="y", solver="sgd", batch_size=100, tol=0.0,
                            epochs=1500, workers=0)  # fmt: skip
    run = store.create(config)
    run_training(run.run_id, store)
    for (begin, end), (following, _) in itertools.pairwise(saves):
        assert following - end >= 0.99 * (end - begin) / SHARE
    assert len(saves) >= (3 if cost == 0.0 else 1)
    events = MetricsReader(store.directory(run.run_id).metrics).read("events")
    told = [event for event in events if event["kind"] == "checkpoint"]
    # Told of every five seconds, however many there are.
    assert 1 <= len(told) <= 1 + (saves[-1][0] - saves[0][0]) / 5.0
