"""``regatta path``: table, JSON and plot; and what a run tells of its uncertainty."""

from __future__ import annotations

import html
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Numbers and a category, so that one level has to be left out."""
    rng = np.random.default_rng(5)
    rows = pd.DataFrame(rng.standard_normal((600, 3)), columns=["a", "b", "c"])
    rows["kind"] = rng.choice(["red", "green", "blue"], 600)
    rows["y"] = 2 * rows.a - rows.b + (rows.kind == "red") + 0.3 * rng.standard_normal(600)
    path = tmp_path_factory.mktemp("table") / "rows.csv"
    rows.to_csv(path, index=False)
    return path


def test_a_path_is_a_table(regatta, table):
    done = regatta("path", table, "--target", "y", "--workers", "0")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "alpha" in lines[0] and "nonzero" in lines[0]
    assert any("best" in line for line in lines)
    assert "Chosen   alpha" in done.stdout


def test_a_path_is_json_and_a_plot(regatta, table, tmp_path):
    plot = tmp_path / "path.html"
    done = regatta("path", table, "--target", "y", "--workers", "0", "--json", "--plot", plot)
    found = json.loads(done.stdout)
    assert len(found["alphas"]) == len(found["mean_error"]) == 100
    assert set(found["coefficients"]) >= {"a", "b", "c", "kind=red"}
    assert found["alpha"] in found["alphas"]
    page = plot.read_text()
    assert "plotly" in page and "cross-validation error" in page


def test_a_plot_without_a_folder_is_refused_before_any_work(regatta, regatta_home, table, tmp_path):
    plot = tmp_path / "nowhere" / "path.html"
    done = regatta("path", table, "--target", "y", "--plot", plot, "--json")
    assert done.returncode == 2
    assert "nowhere" in json.loads(done.stdout)["error"]["message"]
    assert not (regatta_home / "datasets").exists()


def test_names_from_a_file_are_shown_as_they_are():
    """Plotly reads markup in names, and ``%{x}`` in what it shows on hovering."""
    from regatta.figures import regularisation_path

    curve = [0.1, 0.2]
    figure = regularisation_path(
        {
            **dict.fromkeys(("alphas", "mean_error", "standard_error"), curve),
            "alpha_min": 0.1,
            "alpha_1se": 0.1,
            "coefficients": {"growth % <b>%{x}": curve},
        }
    )
    (line,) = [trace for trace in figure.data if "growth" in trace.name]
    assert html.unescape(line.name) == "growth % <b>%{x}"
    assert "<b>" not in line.name + line.hovertemplate.split("<br>")[0]
    assert "%{x}" not in line.hovertemplate


def test_the_model_of_a_path_may_come_from_the_environment(regatta, table, monkeypatch):
    monkeypatch.setenv("REGATTA_MODEL", "elasticnet")
    done = regatta("path", table, "--target", "y", "--workers", "0", "--json")
    assert json.loads(done.stdout)["model"] == "elasticnet"


def test_a_model_without_a_path_is_refused(regatta, table):
    done = regatta("path", table, "--target", "y", "--model", "linear", "--json")
    assert done.returncode == 2
    assert "linear" in json.loads(done.stdout)["error"]["message"]


def test_least_squares_tells_standard_errors_like_statsmodels(regatta, table, regatta_home):
    options = ("--model", "linear", "--workers", "0", "--json")
    result = json.loads(regatta("train", table, "--target", "y", *options).stdout)
    inference = result["inference"]
    found = {row["name"]: row for row in inference["coefficients"]}
    (reference,) = inference["reference_levels"].values()
    from regatta.data_pipeline import import_csv, prepare

    prepared = prepare(import_csv(table), target="y", precision="float64")
    encoded = prepared.preprocessing
    X = pd.DataFrame(
        np.array(prepared.open("X_train")) * encoded.scales + encoded.means,
        columns=encoded.feature_names,
    ).drop(columns=reference)
    y = np.array(prepared.open("y_train")) * prepared.target_scale + prepared.target_mean
    expected = sm.OLS(y, sm.add_constant(X.to_numpy())).fit()
    for place, name in enumerate(["(intercept)", *X.columns]):
        assert found[name]["estimate"] == pytest.approx(expected.params[place], rel=1e-6)
        assert found[name]["standard_error"] == pytest.approx(expected.bse[place], rel=1e-6)
        assert found[name]["low"] == pytest.approx(expected.conf_int()[place, 0], rel=1e-5)
    assert inference["adjusted_r2"] == pytest.approx(expected.rsquared_adj, rel=1e-8)


def test_a_penalised_model_says_why_it_tells_none(regatta, table):
    options = ("--model", "lasso", "--alpha", "0.1", "--workers", "0", "--json")
    result = json.loads(regatta("train", table, "--target", "y", *options).stdout)
    assert "lasso" in result["inference"]["why_not"]
