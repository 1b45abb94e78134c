"""Solvers step by step: what they take back from a checkpoint, and rows that are few."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from regatta import models
from regatta.configuration import TrainingConfig
from regatta.parameter_server.array_rows import write_rows
from regatta.parameter_server.batches import shard_offsets
from regatta.parameter_server.worker_pool import InProcessPool
from regatta.solvers import choose
from regatta.solvers.base import Solver
from regatta.solvers.problem import Problem
from regatta.utils import UserError


def solver_on(
    directory: Path,
    rows: int,
    config: TrainingConfig,
    shards: int = 16,
    rows_and_target: tuple[np.ndarray, np.ndarray] | None = None,
) -> Solver:
    """A solver in this process, over ``rows`` rows: given ones, or with known coefficients."""
    X, y = data(rows) if rows_and_target is None else rows_and_target
    source = write_rows(directory, X, y, X, y, n_shards=shards, dtype="float64")
    offsets = shard_offsets(rows, shards)
    problem = Problem(
        pool=InProcessPool(source, config.model, "float64"),
        objective=models.get(config.model),
        penalty=models.get(config.model).penalty(float(config.alpha), config.l1_ratio, rows),
        train_offsets=offsets,
        validation_offsets=offsets,
        n_features=X.shape[1],
        max_row_norm2=float((X * X).sum(1).max()),
    )
    return choose.make(config, choose.resolve(config, offsets, X.shape[1]), problem)


def data(rows: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(rows)
    X = rng.standard_normal((rows, 2))
    y = X @ [2.0, -1.0] + 0.5 * rng.standard_normal(rows)
    return X, (y - y.mean()) / y.std()


@pytest.mark.parametrize("settings", [{"batch_size": 64}, {"batch_size": "full"}], ids=str)
def test_a_solver_that_has_converged_takes_no_step_after_a_resume(settings, tmp_path):
    config = TrainingConfig(epochs=5000, tol=1e-3, **settings)
    solver = solver_on(tmp_path, 300, config)
    while not solver.finished:
        solver.step()
    assert solver.converged
    again = solver_on(tmp_path, 300, config)
    again.restore(solver.state(), solver.arrays())
    assert again.finished
    assert again.parameters.tobytes() == solver.parameters.tobytes()


def test_a_few_rows_far_out_in_one_direction_do_not_blow_up_the_steps(tmp_path):
    """A rare level: four rows of 16,512 are far out in a direction of their own. Where they are in
    one batch in every epoch, momentum at the safe rate grows without bound."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((16_512, 6))
    rare = np.arange(4) * 1032 + 7  # the same block of the first four shards
    X[:, 5] = -np.sqrt(4 / 16_508)
    X[rare, 5] = np.sqrt(16_508 / 4)
    y = X @ rng.standard_normal(6) + rng.standard_normal(len(X))
    config = TrainingConfig(
        alpha=0.0, batch_size=1024, schedule="constant", tol=0.0, epochs=150, model="linear"
    )
    solver = solver_on(tmp_path, len(X), config, rows_and_target=(X, y / y.std()))
    while not solver.finished:
        solver.step()
        assert solver.problem.loss < 10.0, f"step {solver.step_count}"


@pytest.mark.parametrize("batch_size", [1, 2])
def test_more_shards_than_rows_do_not_strengthen_the_penalty(batch_size, tmp_path):
    """Batches of such shards are empty now and then: they must not shrink the weights."""
    settings: dict[str, Any] = {"alpha": 3.0, "batch_size": batch_size, "tol": 0.0}
    config = TrainingConfig(epochs=1000, optimizer="sgd", **settings)
    solver = solver_on(tmp_path, 5, config)
    while not solver.finished:
        solver.step()
    reference = Ridge(alpha=3.0).fit(*data(5))
    assert solver.parameters[:-1] == pytest.approx(reference.coef_, rel=1e-2)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"model": "nowhere:Huber"}, "nowhere:Huber cannot be loaded: No module named"),
        ({"model": "os:Huber"}, "os:Huber cannot be loaded"),
        ({"model": ":Huber"}, "cannot be loaded"),
        ({"model": "os:getpid"}, "is no model"),
        ({"model": "linear", "alpha": "auto"}, "no alpha to choose"),
        ({"model": "lasso", "alpha": "auto", "shards": 4}, "--folds is 5"),
        ({"model": "regatta.models:Ridge", "alpha": "auto"}, "--alpha auto cannot choose"),
        ({"model": "regatta.models:Ridge", "solver": "exact"}, "--solver exact cannot fit"),
    ],
)
def test_what_no_file_could_make_right_is_refused(settings, words):
    with pytest.raises(UserError, match=words):
        choose.check(TrainingConfig(**settings))
