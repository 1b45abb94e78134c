"""The parameter server in process and with real worker processes."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import ElasticNet, Lasso, LinearRegression, Ridge

from regatta import models
from regatta.configuration import TrainingConfig
from regatta.parameter_server.array_rows import write_rows
from regatta.parameter_server.batches import shard_offsets
from regatta.parameter_server.data_source import DataSource
from regatta.parameter_server.worker_pool import (
    Pool,
    PoolEvent,
    WorkerSample,
    open_pool,
)
from regatta.solvers import choose
from regatta.solvers.problem import Problem
from regatta.solvers.statistics import Statistics, gather
from regatta.utils import RegattaError

ROWS, FEATURES = 6000, 12


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> DataSource:
    rng = np.random.default_rng(7)
    mix = np.eye(FEATURES) + 0.3 * rng.standard_normal((FEATURES, FEATURES))
    X = rng.standard_normal((ROWS + 500, FEATURES)) @ mix
    X = (X - X[:ROWS].mean(0)) / X[:ROWS].std(0)
    w = rng.standard_normal(FEATURES) * (rng.random(FEATURES) < 0.7)
    y = X @ w + 0.5 * rng.standard_normal(len(X))
    y = (y - y[:ROWS].mean()) / y[:ROWS].std()
    directory = tmp_path_factory.mktemp("rows")
    return write_rows(directory, X[:ROWS], y[:ROWS], X[ROWS:], y[ROWS:])


def solve(
    source: DataSource,
    config: TrainingConfig,
    n_workers: int,
    logs: Path,
    *,
    meanwhile=lambda pool: None,
    events: list[PoolEvent] | None = None,
) -> np.ndarray:
    """Train to the end and return the parameters."""
    offsets = shard_offsets(source.rows_train, source.n_shards)
    settings = choose.resolve(config, offsets, source.n_features)
    on_event = (lambda event: None) if events is None else events.append
    pool = open_pool(
        source,
        config.model,
        settings.arithmetic or source.dtype,
        n_workers,
        logs=logs,
        on_event=on_event,
    )
    try:
        solver = choose.make(config, settings, problem_of(source, config, pool))
        meanwhile(pool)
        while not solver.finished:
            solver.step()
        return solver.parameters.copy()
    finally:
        pool.close()


def problem_of(source: DataSource, config: TrainingConfig, pool: Pool) -> Problem:
    objective = models.get(config.model)
    X, _ = rows_of(source)
    return Problem(
        pool=pool,
        objective=objective,
        penalty=objective.penalty(float(config.alpha), config.l1_ratio, source.rows_train),
        train_offsets=shard_offsets(source.rows_train, source.n_shards),
        validation_offsets=shard_offsets(source.rows_validation, source.n_shards),
        n_features=source.n_features,
        max_row_norm2=float((X * X).sum(1).max()),
    )


def rows_of(source: DataSource) -> tuple[np.ndarray, np.ndarray]:
    rows = np.fromfile(source.directory / "train.bin", source.dtype).astype(float)
    rows = rows.reshape(source.rows_train, source.n_features + 2)
    return rows[:, :-2], rows[:, -1]


SGD = TrainingConfig(model="ridge", alpha=1.0, batch_size=1024, epochs=12, seed=5, tol=0)
FULL = TrainingConfig(model="lasso", alpha=0.05, batch_size="full", epochs=60, tol=0)


@pytest.mark.parametrize("config", [SGD, FULL], ids=["sgd", "full"])
def test_weights_are_the_same_bytes_for_any_number_of_workers(source, config, tmp_path):
    found = {n: solve(source, config, n, tmp_path).tobytes() for n in (0, 1, 2, 3, 8)}
    assert len(set(found.values())) == 1


def test_another_seed_gives_other_weights(source, tmp_path):
    other = TrainingConfig.from_json({**SGD.to_json(), "seed": 6})
    assert not np.array_equal(solve(source, SGD, 0, tmp_path), solve(source, other, 0, tmp_path))


@pytest.mark.parametrize(
    ("config", "reference"),
    [
        (TrainingConfig(model="linear"), LinearRegression()),
        (TrainingConfig(model="ridge", alpha=30.0), Ridge(alpha=30.0, tol=1e-12)),
        (TrainingConfig(model="lasso", alpha=0.08), Lasso(alpha=0.08, tol=1e-12)),
        (
            TrainingConfig(model="elasticnet", alpha=0.1, l1_ratio=0.3),
            ElasticNet(alpha=0.1, l1_ratio=0.3, tol=1e-12),
        ),
    ],
    ids=["linear", "ridge", "lasso", "elasticnet"],
)
def test_full_batch_agrees_with_scikit_learn(source, config, reference, tmp_path):
    config = TrainingConfig.from_json({**config.to_json(), "batch_size": "full", "tol": 1e-9})
    found = solve(source, config, 0, tmp_path)
    reference.fit(*rows_of(source))
    np.testing.assert_allclose(found[:-1], reference.coef_, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(found[-1], reference.intercept_, atol=1e-7)
    assert np.array_equal(found[:-1] == 0, reference.coef_ == 0)


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
@pytest.mark.parametrize("schedule", ["cosine", "step", "inverse-scaling"])
def test_mini_batches_reach_the_optimum(source, optimizer, schedule, tmp_path):
    settings = {"optimizer": optimizer, "schedule": schedule, "batch_size": 512}
    config = TrainingConfig(model="ridge", alpha=1.0, epochs=300, **settings)
    X, y = rows_of(source)
    best = Ridge(alpha=1.0).fit(X, y)

    def objective(w: np.ndarray, b: float) -> float:
        return float(((y - X @ w - b) ** 2).sum() + w @ w)

    found = solve(source, config, 0, tmp_path)
    optimum = objective(best.coef_, best.intercept_)
    gap = objective(found[:-1], found[-1]) / optimum - 1
    assert 0 <= gap + 1e-9 < 1e-3


def test_a_killed_worker_is_replaced_and_the_weights_are_the_same(source, tmp_path):
    config = TrainingConfig.from_json({**SGD.to_json(), "epochs": 3000})
    events: list[PoolEvent] = []
    killed = []

    def kill_soon(pool: Pool) -> None:
        pid = pool.samples()[1].pid

        def kill() -> None:
            while pool.samples()[1].rows == 0:  # it is in the middle of its work
                time.sleep(0.001)
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)

        threading.Thread(target=kill).start()

    disturbed = solve(source, config, 2, tmp_path, meanwhile=kill_soon, events=events)
    assert killed and [e.rank for e in events if e.kind == "worker_died"] == [1]
    assert "SIGKILL" in next(e.message for e in events if e.kind == "worker_died")
    assert disturbed.tobytes() == solve(source, config, 2, tmp_path).tobytes()


def test_a_worker_that_fails_on_its_data_is_not_tried_again(source, tmp_path):
    missing = DataSource(tmp_path, "float32", 100, 10, 5, 4)
    with pytest.raises(RegattaError, match=r"Worker 0 .*train.bin"):
        open_pool(missing, "ridge", "float32", 1, logs=tmp_path)
    assert "Traceback" in (tmp_path / "worker-0.log").read_text()


def test_fewer_rows_than_shards_still_fill_every_fold(tmp_path):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((8, 2)), rng.standard_normal(8)
    few = write_rows(tmp_path, X, y, X, y, n_shards=16, dtype="float64")
    for n_folds in (2, 3, 4, 5, 8):
        assert max(counts := [f.n for f in gathered(few, 0, n_folds, tmp_path)]) <= min(counts) + 1
    assert [fold.n for fold in gathered(few, 2, 10, tmp_path)] == [1.0] * 8 + [0.0] * 2


def test_a_worker_has_little_memory_of_its_own(source, tmp_path):
    from regatta.metrics import own_memory

    pool = open_pool(source, "ridge", "float32", 2, logs=tmp_path)
    try:
        problem = problem_of(source, SGD, pool)
        problem.full_gradient(np.zeros(FEATURES + 1))
        used = [own_memory(worker.pid) for worker in pool.samples()]
    finally:
        pool.close()
    assert all(0 < bytes_used < 60e6 for bytes_used in used), used


def test_the_times_of_a_worker_add_up_to_the_wall(source, tmp_path):
    pool = open_pool(source, "ridge", "float32", 2, logs=tmp_path)
    try:
        before, start = at_rest(pool)
        solver = choose.make(
            SGD,
            choose.resolve(SGD, shard_offsets(source.rows_train, source.n_shards), FEATURES),
            problem_of(source, SGD, pool),
        )
        while not solver.finished:
            solver.step()
        after, stop = at_rest(pool)
    finally:
        pool.close()
    for a, b in zip(before, after, strict=True):
        spent = (b.compute - a.compute) + (b.wait - a.wait) + (b.communicate - a.communicate)
        assert spent == pytest.approx(stop - start, rel=0.05)
        assert b.rows - a.rows > 0


def at_rest(pool: Pool) -> tuple[list[WorkerSample], float]:
    """Samples taken while every worker sleeps: a worker at work may be between two of its sums."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        found, now = pool.samples(), time.perf_counter()
        if all(sample.state == "asleep" for sample in found):
            return found, now
        time.sleep(0.005)
    raise AssertionError("the workers do not come to rest")


@pytest.mark.parametrize("n_folds", [1, 5])
def test_statistics_are_the_same_bytes_for_any_number_of_workers(source, n_folds, tmp_path):
    found = {n: gathered(source, n, n_folds, tmp_path) for n in (0, 1, 2, 3)}
    assert (
        len({b"".join(fold.moments.tobytes() for fold in folds) for folds in found.values()}) == 1
    )


def test_statistics_of_folds_add_up_to_those_of_all_rows(source, tmp_path):
    folds = gathered(source, 2, 5, tmp_path)
    X, y = rows_of(source)
    z = np.column_stack([X, np.ones(len(X)), y])
    np.testing.assert_allclose(sum(fold.moments for fold in folds), z.T @ z, rtol=1e-10, atol=1e-8)
    offsets = shard_offsets(source.rows_train, source.n_shards)
    mine = np.concatenate([z[offsets[s] : offsets[s + 1]] for s in range(3, source.n_shards, 5)])
    np.testing.assert_allclose(folds[3].moments, mine.T @ mine, rtol=1e-10, atol=1e-8)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_moments_in_panels(tmp_path, monkeypatch, dtype):
    """More columns than a panel has, and shards of several blocks, the last of them not full."""
    monkeypatch.setattr("regatta.parameter_server.kernel.MOMENT_ROWS", 100)
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((700, 1200)).astype(dtype), rng.standard_normal(700).astype(dtype)
    wide = write_rows(tmp_path, X, y, X[:10], y[:10], n_shards=3, dtype=dtype)
    (found,) = gathered(wide, 0, 1, tmp_path)
    z = np.column_stack([X, np.ones(700), y]).astype(np.float64)
    np.testing.assert_allclose(found.moments, z.T @ z, rtol=1e-10, atol=1e-8)


def gathered(source: DataSource, n_workers: int, n_folds: int, logs: Path) -> list[Statistics]:
    pool = open_pool(source, "ridge", "float64", n_workers, logs=logs, with_statistics=True)
    try:
        return gather(pool, shard_offsets(source.rows_train, source.n_shards), n_folds)
    finally:
        pool.close()
