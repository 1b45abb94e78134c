"""The exact solver as a run: one pass on real workers, alpha by cross-validation, the gap."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from blake3 import blake3
from sklearn.linear_model import ElasticNetCV, LassoCV, LinearRegression, Ridge
from sklearn.model_selection import PredefinedSplit

from regatta.cli.train import summary
from regatta.configuration import TrainingConfig
from regatta.coordinator import run_training
from regatta.data_pipeline import PreparedData, import_csv, prepare
from regatta.fitted_model import FittedModel
from regatta.runs.metrics_store import MetricsReader
from regatta.runs.store import RunStore
from regatta.solvers import choose
from regatta.utils import UserError

ROWS = 3000


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(11)
    X = rng.standard_normal((ROWS, 8)) * [1, 10, 100, 1, 1, 1, 1, 1]
    y = X @ [1.0, 0.2, 0.03, -1, 0.5, 0, 0, 0] + 10 + rng.standard_normal(ROWS)
    path = tmp_path_factory.mktemp("table") / "rows.csv"
    names = ",".join([*(f"x{i}" for i in range(8)), "y"])
    np.savetxt(path, np.column_stack([X, y]), fmt="%.9g", delimiter=",", header=names, comments="")
    return path


def train(store: RunStore, table: Path, **settings: Any) -> dict[str, Any]:
    config = TrainingConfig(path=str(table), target="y", **settings)
    return run_training(store.create(config).run_id, store)


def prepared_rows(table: Path) -> tuple[PreparedData, np.ndarray, np.ndarray]:
    """Standardised training rows and their target in its own units."""
    prepared = prepare(import_csv(table), target="y", precision="float64")
    y = prepared.open("y_train") * prepared.target_scale + prepared.target_mean
    return prepared, np.array(prepared.open("X_train")), y


def folds_of(prepared: PreparedData, n_folds: int) -> PredefinedSplit:
    """The folds that a run makes: fold k is the shards k, k + n_folds, …"""
    lengths = np.diff(prepared.train_offsets)
    return PredefinedSplit(np.repeat(np.arange(prepared.shards) % n_folds, lengths))


@pytest.mark.parametrize(
    ("settings", "reference"),
    [({"model": "linear"}, LinearRegression()), ({"model": "ridge", "alpha": 50.0}, Ridge(50.0))],
    ids=["linear", "ridge"],
)
def test_exact_is_the_default_and_agrees_with_scikit_learn(store, table, settings, reference):
    result = train(store, table, workers=0, **settings)
    assert result["solver"] == "exact" and result["epochs"] == 1
    prepared, X, y = prepared_rows(table)
    reference.fit(X, y)
    scales = [f.scale for c in prepared.preprocessing.columns for f in c.features]
    np.testing.assert_allclose(
        list(result["coefficients"].values()), reference.coef_ / scales, rtol=1e-9
    )


def test_weights_are_the_same_bytes_for_any_number_of_workers(store, table):
    found = {n: train(store, table, workers=n)["weights_sha256"] for n in (0, 1, 2, 3)}
    assert len(set(found.values())) == 1


def test_a_killed_worker_costs_one_shard(store, table, monkeypatch):
    from regatta.solvers.statistics import Pass

    killed: list[int] = []
    take_in = Pass._take_in

    def take_in_and_kill(self, matrices):
        take_in(self, matrices)
        if not killed:
            killed.append(self._pool.samples()[0].pid)
            os.kill(killed[0], signal.SIGKILL)

    undisturbed = train(store, table, workers=2)
    monkeypatch.setattr(Pass, "_take_in", take_in_and_kill)
    result = train(store, table, workers=2)
    events = MetricsReader(store.directory(result["run_id"]).metrics).read("events")
    assert [e["rank"] for e in events if e["kind"] == "worker_died"] == [0]
    assert result["weights_sha256"] == undisturbed["weights_sha256"]


@pytest.mark.parametrize("model", ["lasso", "elasticnet"])
def test_alpha_by_cross_validation_is_scikit_learns(store, table, model):
    result = train(store, table, model=model, alpha="auto", workers=2)
    prepared, X, y = prepared_rows(table)
    cv = {"lasso": LassoCV, "elasticnet": ElasticNetCV}[model]
    reference = cv(cv=folds_of(prepared, 5), alphas=100).fit(X, y)
    assert result["alpha"] == pytest.approx(reference.alpha_, rel=1e-9)
    scales = [f.scale for c in prepared.preprocessing.columns for f in c.features]
    found = np.array(list(result["coefficients"].values())) * scales
    np.testing.assert_allclose(found, reference.coef_, rtol=1e-4, atol=1e-3)


def test_one_standard_error_chooses_a_simpler_model(store, table):
    best = train(store, table, model="lasso", alpha="auto", workers=0)
    simpler = train(store, table, model="lasso", alpha="auto", rule="1se", workers=0)
    assert simpler["alpha"] > best["alpha"]


def test_an_sgd_run_knows_its_gap(store, table):
    result = train(store, table, solver="sgd", model="lasso", alpha=0.1, batch_size=256, workers=2)
    assert 0 <= result["optimum_gap"] < 1e-3
    assert result["optimum_gap_of"] == "optimum" and "exact optimum by" in summary(result)
    reader = MetricsReader(store.directory(result["run_id"]).metrics)
    optimum = reader.facts()["optimal_objective"]
    last = reader.latest("evaluations")
    assert last is not None
    assert last["train_objective"] / optimum - 1 == pytest.approx(result["optimum_gap"], abs=1e-6)


def test_the_gap_to_a_perfect_fit_is_told_as_a_share_of_the_variance(store, tmp_path):
    """The optimum is zero, and nothing is a share of that."""
    rows = np.random.default_rng(2).standard_normal((500, 3))
    rows[:, 2] = rows[:, 0] - 2 * rows[:, 1]
    path = tmp_path / "line.csv"
    np.savetxt(path, rows, delimiter=",", header="a,b,y", comments="", fmt="%.17g")
    result = train(store, path, model="linear", solver="sgd", epochs=300, workers=0)
    assert result["optimum_gap_of"] == "variance" and result["optimum_gap"] < 1e-3
    assert "A perfect fit is possible" in summary(result)
    facts = MetricsReader(store.directory(result["run_id"]).metrics).facts()
    assert facts["gap_unit"] == pytest.approx(0.5 * rows[:, 2].var(), rel=0.2)


def test_an_option_of_the_steps_means_steps(store, table):
    assert train(store, table, epochs=3, batch_size=256, workers=0)["solver"] == "sgd"


def test_too_many_features_fall_back_to_steps_and_say_so(store, table, monkeypatch):
    monkeypatch.setattr(choose, "EXACT_FEATURES", 5)
    result = train(store, table, workers=0)
    assert result["solver"] == "fista" and "optimum_gap" not in result
    events = MetricsReader(store.directory(result["run_id"]).metrics).read("events")
    assert any("too many for the exact solver" in event["message"] for event in events)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"model": "huber:Huber", "solver": "exact"}, "--solver exact"),
        ({"model": "lasso", "alpha": "auto", "folds": 20}, "--folds is 20"),
        ({"model": "lasso", "alpha": -1.0}, "--alpha"),
        ({"model": "linear", "alpha": "auto"}, "linear"),
    ],
)
def test_what_cannot_be_solved_is_a_sentence(store, table, settings, words):
    with pytest.raises(UserError, match=words):
        train(store, table, workers=0, **settings)


def test_steps_are_not_held_up_by_an_optimum_that_costs_more(monkeypatch):
    config = TrainingConfig(model="ridge", solver="sgd")
    offsets = tuple(range(0, 17_000, 1000))
    assert choose.resolve(config, offsets, 100).with_statistics
    monkeypatch.setattr(choose, "OPTIMUM_PRODUCTS", 1e7)
    assert not choose.resolve(config, offsets, 100).with_statistics
    chosen = TrainingConfig(model="ridge", solver="sgd", alpha="auto")
    assert choose.resolve(chosen, offsets, 100).with_statistics


def test_a_run_remembers_its_file_and_its_machine(store: RunStore, table: Path) -> None:
    result = train(store, table)
    model = FittedModel.load(store.directory(result["run_id"]).model)
    assert model.data["name"] == result["data"]["name"] == table.name
    content = blake3(table.read_bytes()).hexdigest()
    assert model.data["content_hash"] == result["data"]["content_hash"] == content
    assert model.data["rows"] == ROWS == model.rows_train + model.data["rows_validation"]
    assert model.data["target"]["low"] < model.data["target"]["mean"]
    for each in model.preprocessing.features:
        assert each.low is not None and each.high is not None and each.low < each.mean < each.high
    assert result["data"]["dialect"]["delimiter"] == "," and result["data"]["evidence"]
    assert {"regatta", "python", "numpy", "system", "cores"} <= result["machine"].keys()
