"""What a run saves, and how often: as often as it is cheap, and told of less often than that."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regatta import coordinator
from regatta.configuration import TrainingConfig
from regatta.coordinator import run_training
from regatta.parameter_server.checkpoints import Checkpoint, CheckpointFolder
from regatta.runs.metrics_store import MetricsReader
from regatta.runs.store import RunStore
from regatta.solvers import training
from regatta.utils import RegattaError

SHARE = 0.1


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    X = rng.standard_normal((2000, 3))
    path = tmp_path / "rows.csv"
    rows = np.column_stack([X, X @ [1.0, 2.0, 3.0] + rng.standard_normal(2000)])
    np.savetxt(path, rows, delimiter=",", header="a,b,c,y", comments="")
    return path


def config(table: Path, **settings: Any) -> TrainingConfig:
    return TrainingConfig(path=str(table), target="y", solver="sgd", batch_size=100, tol=0.0,
                          workers=0, **settings)  # fmt: skip


@pytest.mark.parametrize("cost", [0.0, 0.05])
def test_the_time_between_checkpoints_goes_with_what_one_costs(
    regatta_home: Path, table: Path, monkeypatch: pytest.MonkeyPatch, cost: float
) -> None:
    """Seconds that each save takes more, as on a slow disk."""
    monkeypatch.setattr(coordinator, "TICK_SECONDS", 0.01)
    monkeypatch.setattr(coordinator, "CHECKPOINT_SHARE", SHARE)
    saves: list[tuple[float, float]] = []
    real = CheckpointFolder.note

    def note(folder: CheckpointFolder, checkpoint: Checkpoint) -> Path:
        begin = time.monotonic()
        time.sleep(cost)
        path = real(folder, checkpoint)
        saves.append((begin, time.monotonic()))
        return path

    monkeypatch.setattr(CheckpointFolder, "note", note)
    store = RunStore(regatta_home)
    run = store.create(config(table, epochs=1500))
    run_training(run.run_id, store)
    for (begin, end), (following, _) in itertools.pairwise(saves):
        assert following - end >= 0.99 * (end - begin) / SHARE
    assert len(saves) >= (3 if cost == 0.0 else 1)
    events = MetricsReader(store.directory(run.run_id).metrics).read("events")
    told = [event for event in events if event["kind"] == "checkpoint"]
    # Told of every five seconds, however many there are.
    assert 1 <= len(told) <= 1 + (saves[-1][0] - saves[0][0]) / 5.0


@pytest.mark.parametrize("alpha", [1.0, "auto"])
def test_what_took_long_to_sum_is_not_summed_again(
    regatta_home: Path, table: Path, monkeypatch: pytest.MonkeyPatch, alpha: float | str
) -> None:
    """A resume goes on to the same bytes without the passes that a start begins with."""
    store = RunStore(regatta_home)
    settings = {"epochs": 20, "model": "ridge", "alpha": alpha}
    undisturbed = run_training(store.create(config(table, **settings)).run_id, store)
    monkeypatch.setattr(coordinator, "TICK_SECONDS", 0)
    monkeypatch.setattr(coordinator, "CHECKPOINT_SECONDS", 0)
    monkeypatch.setattr(coordinator, "SUM_SECONDS", -1)
    run_id = store.create(config(table, **settings)).run_id

    def fail(*_: Any, **__: Any) -> None:
        raise RegattaError("It failed.")

    with monkeypatch.context() as patch, pytest.raises(RegattaError, match="It failed"):
        patch.setattr(coordinator, "write_results", fail)
        run_training(run_id, store)
    assert list(store.directory(run_id).sums.iterdir())
    monkeypatch.setattr(training, "gather", fail)
    monkeypatch.setattr(training.Training, "_squares_about", fail)
    result = run_training(run_id, store)
    for same in ("weights_sha256", "alpha", "optimum_gap", "metrics"):
        assert result[same] == undisturbed[same]
