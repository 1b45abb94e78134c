"""Plain scikit-learn on the rows of a run: the same rows, the same strength, bounded memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from regatta import baselines, models
from regatta.baselines import TrainingRows
from regatta.cli import main
from regatta.configuration import TrainingConfig
from regatta.coordinator import run_training
from regatta.dashboard import baselining
from regatta.dashboard.jobs import KINDS
from regatta.explain import held_out, residuals
from regatta.explain.held_out import RunRows
from regatta.fitted_model import FittedModel
from regatta.runs.states import RunState
from regatta.runs.store import RunStore
from regatta.utils import UserError, read_json, write_json

N_ROWS = 1500
NAMES = {
    "ridge": "Ridge",
    "lasso": "Lasso",
    "elasticnet": "ElasticNet",
    "linear": "LinearRegression",
}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Numbers of different sizes, a category, gaps, and a target with a unit of its own."""
    rng = np.random.default_rng(3)
    X = rng.normal(size=(N_ROWS, 3)) * [1.0, 50.0, 0.01]
    kind = rng.integers(0, 3, N_ROWS)
    y = 200 + 30 * (X @ [1.0, 0.02, 100.0]) + 25 * kind + rng.normal(size=N_ROWS) * 20
    lines = ["a,b,c,kind,y"]
    for row, (each, k, target) in enumerate(zip(X, kind, y, strict=True)):
        b = "" if row % 50 == 7 else f"{each[1]:.5f}"
        lines.append(f"{each[0]:.5f},{b},{each[2]:.7f},{'xyz'[k]},{target:.4f}")
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


Train = Callable[..., str]


@pytest.fixture
def train(store: RunStore, table: Path) -> Train:
    """A finished run: its id."""

    def run(**settings: Any) -> str:
        config = TrainingConfig(path=str(table), target="y", workers=0, **settings)
        run_id = store.create(config).run_id
        run_training(run_id, store)
        return run_id

    return run


def found_of(store: RunStore, run_id: str, **options: Any) -> dict[str, Any]:
    return baselines.of_run(store.directory(run_id), store.config(run_id), **options)


def rows_of(store: RunStore, run_id: str) -> RunRows:
    directory, config = store.directory(run_id), store.config(run_id)
    result = residuals.read_result(directory)
    table = held_out.find_table(config, result)
    return held_out.open_rows(table, config, result, FittedModel.load(directory.model))


def by_name(found: dict[str, Any]) -> dict[str, Any]:
    return {each["name"]: each for each in found["baselines"]}


@pytest.mark.parametrize(
    "settings",
    [
        {"model": "ridge", "alpha": 300.0},
        {"model": "lasso", "alpha": 8.0},
        {"model": "elasticnet", "alpha": 0.3, "l1_ratio": 0.4},
        {"model": "linear"},
        {"model": "lasso", "alpha": "auto"},
    ],
    ids=lambda settings: "-".join(map(str, settings.values())),
)
def test_the_class_of_the_same_name_comes_to_the_same_model(
    store: RunStore, train: Train, settings: dict[str, Any]
) -> None:
    run_id = train(**settings)
    rows, config = rows_of(store, run_id), store.config(run_id)
    result = residuals.read_result(store.directory(run_id))
    data = baselines.training_rows(rows, baselines.MOST_BYTES)
    assert len(data.y) == data.total == result["rows_train"]
    plans = baselines.planned(config.model, result["alpha"], config.l1_ratio, data)
    (plain,) = [each for each in plans if each.name == NAMES[config.model]]
    plain.regressor.set_params(tol=1e-10)
    model, _, note = baselines.fitted(plain, data, rows.model)
    assert not note
    # Indicators of all levels add up to one: without a penalty only their differences are certain.
    expected = rows.model.weights @ data.X.T + rows.model.intercept
    found = model.weights @ data.X.T + model.intercept
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("model", ["ridge", "lasso", "elasticnet"])
def test_all_are_as_strongly_regularised_as_the_run(model: str) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 3))
    rows = TrainingRows(X, 40 * rng.normal(size=200), total=800)  # a sample
    s = rows.deviation
    penalty = models.get(model).penalty(5.0, 0.3, 800)
    strength = penalty.l1 / s + penalty.l2
    plans = {each.name: each.regressor for each in baselines.planned(model, 5.0, 0.3, rows)}
    assert plans["Ridge"].alpha == pytest.approx(strength * 200), "for the rows that it sees"
    assert plans["Lasso"].alpha == pytest.approx(strength * s)
    sgd = plans["SGDRegressor"]
    share = {"l1": 1.0, "l2": 0.0}.get(sgd.penalty, sgd.l1_ratio)
    assert sgd.alpha * share == pytest.approx(penalty.l1 / s)
    assert sgd.alpha * (1 - share) == pytest.approx(penalty.l2)
    assert ("ElasticNet" in plans) == (model == "elasticnet")


def test_it_is_scored_on_the_rows_that_the_run_held_out(store: RunStore, train: Train) -> None:
    run_id = train(model="ridge", alpha=1.0, solver="sgd")
    found, result = found_of(store, run_id), read_json(store.directory(run_id).result)
    # A run of steps has its rows in float32.
    expected = result["metrics"]["validation"]
    assert found["run"]["scores"]["r2"] == pytest.approx(expected["r2"], abs=1e-5)
    assert found["rows_validation"] == result["rows_validation"]
    named = by_name(found)
    assert set(named) == {"Mean", "Ridge", "Lasso", "SGDRegressor"}
    assert named["Mean"]["scores"]["r2"] == pytest.approx(0, abs=0.02)
    for name in ("Ridge", "Lasso", "SGDRegressor"):
        assert named[name]["scores"]["r2"] == pytest.approx(expected["r2"], abs=0.01)
        assert named[name]["seconds"] > 0 and 0 < named[name]["spread"]["r2"] < 0.1


def test_too_many_rows_are_sampled_and_that_is_said(store: RunStore, train: Train) -> None:
    run_id = train(alpha=1.0)
    rows, config = rows_of(store, run_id), store.config(run_id)
    result = residuals.read_result(store.directory(run_id))
    width = len(rows.model.weights)
    found = baselines.compare(rows, config, result, most_bytes=8 * width * 400)
    assert found["rows_train"] == result["rows_train"] and 300 < found["rows_used"] < 500
    (remark,) = [each for each in baselines.remarks(found) if "drawn at random" in each]
    assert f"{found['rows_used']:,} of the {found['rows_train']:,} training rows" in remark
    assert by_name(found)["Ridge"]["scores"]["r2"] > 0.5
    whole = baselines.training_rows(rows, baselines.MOST_BYTES)
    sample = baselines.training_rows(rows, 8 * width * 400)
    assert sample.X.nbytes < whole.X.nbytes / 2
    assert {tuple(row) for row in sample.X} <= {tuple(row) for row in whole.X}


def test_too_many_features_are_refused_in_a_sentence(
    store: RunStore, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = train()
    monkeypatch.setattr(baselines, "MOST_FEATURES", 3)
    with pytest.raises(UserError, match="features, and scikit-learn would need"):
        found_of(store, run_id)


def test_steps_do_not_diverge_on_rows_far_out() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(500, 2))
    X[3] = [60.0, -50.0]
    rows = TrainingRows(X, X @ [2.0, 1.0] + rng.normal(size=500), total=500)
    plain = baselines.planned("ridge", 1.0, 0.5, rows)[-1]
    plain.regressor.fit(X, (rows.y - rows.y.mean()) / rows.deviation)
    ridge = Ridge(alpha=1.0).fit(X, rows.y)
    found = plain.regressor.coef_ * rows.deviation
    assert found == pytest.approx(ridge.coef_, abs=0.5)


def test_they_are_kept_with_the_run_until_its_model_is_another(
    store: RunStore, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = train()
    directory = store.directory(run_id)
    assert baselines.kept(directory) is None
    found = found_of(store, run_id)
    assert baselines.kept(directory) == json.loads(json.dumps(found))
    with monkeypatch.context() as patch:
        patch.setattr(baselines, "compare", lambda *_: pytest.fail("they were made again"))
        assert found_of(store, run_id)["baselines"] == found["baselines"]
        with pytest.raises(pytest.fail.Exception):
            found_of(store, run_id, again=True)
    result = read_json(directory.result)
    write_json(directory.result, {**result, "weights_sha256": "another"})
    assert baselines.kept(directory) is None


def test_a_run_that_has_not_finished_has_none(store: RunStore, table: Path) -> None:
    run_id = store.create(TrainingConfig(path=str(table), target="y"), RunState.QUEUED).run_id
    with pytest.raises(UserError, match="has no model yet"):
        found_of(store, run_id)


def test_work_that_is_cancelled_ends(store: RunStore, train: Train) -> None:
    run_id, told = train(), []

    def tell(share: float, text: str) -> None:
        told.append((share, text))
        if "Lasso" in text:
            raise UserError("It was cancelled.")

    with pytest.raises(UserError, match="cancelled"):
        found_of(store, run_id, progress=tell)
    assert [share for share, _ in told] == sorted(share for share, _ in told)
    assert baselines.kept(store.directory(run_id)) is None


def test_a_job_of_the_page_makes_them_and_says_how_far_others_could_be_off(
    store: RunStore, train: Train, tmp_path: Path
) -> None:
    run_id, other = train(alpha=1.0), train(alpha=2.0)
    arguments = {"run_id": run_id, "model": "its hash", "beside": [other, "20260101-000000-0000"]}
    told: list[float] = []
    done = baselining.baseline(arguments, tmp_path, lambda share, text: told.append(share))
    assert done == {"baselines": 4} and told == sorted(told) and told[-1] <= 1
    assert baselines.kept(store.directory(run_id))
    spread = residuals.kept_summary(store.directory(other))
    assert spread is not None and 0 < spread["spread"]["r2"] < 0.1
    assert KINDS["baseline"] == (baselining.__name__, "baseline")


def test_the_command_prints_a_table_or_json(
    train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = train(model="ridge", alpha=2.0)
    assert main(["baseline", "last"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["MODEL", "SETTINGS", "HELD-OUT", "R²", "±", "RMSE", "FIT"]
    assert [line.split("  ")[0] for line in lines[1:6]] == [
        "this run", "Mean", "Ridge", "Lasso", "SGDRegressor"
    ]  # fmt: skip
    assert "alpha=2 " in lines[3]
    assert main(["baseline", run_id, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["run_id"] == run_id
