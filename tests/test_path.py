"""Path and cross-validation against LassoCV, ElasticNetCV and RidgeCV on the same folds."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import ElasticNetCV, LassoCV, Ridge, RidgeCV, enet_path, lasso_path
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import ThreadpoolController

from regatta.configuration import TrainingConfig
from regatta.solvers import threads
from regatta.solvers.exact import centred, descend, solve
from regatta.solvers.moments import moments_of
from regatta.solvers.optimum import find_optimum
from regatta.solvers.path import (
    Rotated,
    alpha_grid,
    cross_validated_path,
    ridge_grid,
    ridge_path,
)
from regatta.solvers.statistics import Statistics
from regatta.utils import DataError, UserError, available_cores

MODELS = ("ridge", "lasso", "elasticnet")
# scikit-learn's own paths, as precise as ours.
TIGHT = {"tol": 1e-12, "max_iter": 100_000}


def statistics_of(X, y, sample_weight=None):
    """The second moments of rows as they are, about zero."""
    return moments_of(X, y, sample_weight).statistics(np.zeros(X.shape[1] + 1))


def make(n=500, d=12, n_folds=5, seed=0):
    """Rows standardised as a whole, and folds of unequal size."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) @ (rng.normal(size=(d, d)) / 4 + np.eye(d))
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    weights = np.where(rng.random(d) < 0.4, rng.normal(size=d), 0.0)
    y = X @ weights + 3 * rng.normal(size=n) + 7.0
    fold = np.sort(np.append(np.arange(n_folds), rng.integers(0, n_folds, n - n_folds)))
    return X, y, fold


def folds_of(X, y, fold, weight=None):
    return [
        statistics_of(X[fold == k], y[fold == k], None if weight is None else weight[fold == k])
        for k in range(fold.max() + 1)
    ]


def splits(fold):
    return [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(fold.max() + 1)]


def same(found, reference, tolerance):
    scale = np.abs(reference.coef_).max()
    np.testing.assert_allclose(found.weights, reference.coef_, atol=tolerance * scale)
    assert found.intercept == pytest.approx(reference.intercept_, rel=tolerance)


def test_ridge_with_a_row_a_fold_is_ridge_cv_leaving_one_out():
    X, noise, _ = make(n=25, d=4)
    y = X @ [9.0, -5.0, 2.0, 0.0] + noise
    alphas = np.geomspace(1e3, 1e-3, 30)
    found = cross_validated_path(folds_of(X, y, np.arange(25)), "ridge", alphas=alphas)
    assert found.alpha == pytest.approx(RidgeCV(alphas=alphas).fit(X, y).alpha_)
    assert found.alpha < 1e3


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("tol", "max_iter", "tolerance"), [(1e-4, 1000, 1e-4), (1e-12, 100_000, 1e-8)]
)
def test_lasso_is_lasso_cv(seed, tol, max_iter, tolerance):
    X, y, fold = make(seed=seed)
    found = cross_validated_path(folds_of(X, y, fold), "lasso", tol=tol, max_iter=max_iter)
    reference = LassoCV(cv=splits(fold), alphas=100, tol=tol, max_iter=max_iter).fit(X, y)
    np.testing.assert_allclose(found.alphas, reference.alphas_, rtol=1e-12)
    np.testing.assert_allclose(found.errors.T, reference.mse_path_, rtol=1e-9)
    assert found.alpha == pytest.approx(reference.alpha_, rel=1e-12)
    same(found, reference, tolerance)
    _, coefficients, _ = lasso_path(
        X, y - y.mean(), alphas=found.alphas, tol=tol, max_iter=max_iter
    )
    np.testing.assert_allclose(found.coefficients, coefficients, atol=tolerance)


def steep(seed):
    """Few features, one of which explains most of a target that varies a lot: sales."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(600, 10))
    X[:, 5:8] = np.eye(3)[rng.integers(0, 3, 600)]  # a column of three cities
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    y = X @ [360.0, 228, 41, 20, 0.3, 33, -14, 0, 0.2, 0.1] + 20 * rng.normal(size=600) + 900
    return X, y, np.arange(600) % 5


@pytest.mark.parametrize("model", ["lasso", "elasticnet"])
@pytest.mark.parametrize("data", [steep, lambda seed: make(n=600, d=40, seed=seed)])
def test_no_alpha_keeps_the_coefficients_of_the_one_before(data, model):
    """A start from the weights before must not pass as the optimum, in any fit of any alpha."""
    X, y, fold = data(3)
    folds = folds_of(X, y, fold)
    found = cross_validated_path(folds, model, l1_ratio=0.9)
    moves = np.abs(np.diff(found.coefficients, axis=1)).max(axis=0)
    assert found.coefficients[:, 2:].any(axis=0).all() and moves.all()
    assert np.diff(found.errors[:, 1:], axis=1).all()
    l1_ratio = found.l1_ratio
    _, expected, _ = enet_path(X, y - y.mean(), l1_ratio=l1_ratio, alphas=found.alphas, **TIGHT)
    scale = np.abs(expected).max(axis=0)
    assert (np.abs(found.coefficients - expected).max(axis=0) <= 1e-6 * scale).all()
    reference = ElasticNetCV(l1_ratio=l1_ratio, cv=splits(fold), alphas=100, **TIGHT).fit(X, y)
    np.testing.assert_allclose(found.errors.T, reference.mse_path_, rtol=1e-6)
    assert found.alpha == pytest.approx(reference.alpha_, rel=1e-12)


@pytest.mark.parametrize("model", ["lasso", "elasticnet"])
@pytest.mark.parametrize("rule", ["min", "1se"])
def test_the_fit_at_the_chosen_alpha_is_on_the_path(model, rule):
    X, y, fold = steep(0)
    config = TrainingConfig(model=model, alpha="auto", rule=rule)
    found = find_optimum(folds_of(X, y / y.std(), fold), config, target_scale=float(y.std()))
    assert found.path is not None and found.alpha == found.path.alpha
    weights, index = found.parameters[:-1] * y.std(), found.path.index
    np.testing.assert_allclose(weights, found.path.coefficients[:, index], rtol=1e-12)
    np.testing.assert_array_equal(found.path.weights, found.path.coefficients[:, index])
    assert found.path.intercept == found.path.intercepts[index]
    # Of itself, the path leads there.
    path = cross_validated_path(folds_of(X, y, fold), model, rule=rule)
    scale = np.abs(weights).max()
    np.testing.assert_allclose(path.coefficients[:, index], weights, rtol=0, atol=1e-6 * scale)


@pytest.mark.parametrize("d", [12, 25])
def test_where_coordinate_descent_creeps_the_path_is_still_the_optimum(d):
    """Nearly dependent features of few rows: the equations of the support are solved."""
    rng = np.random.default_rng(d)
    X = rng.normal(size=(40, 1)) + 0.05 * rng.normal(size=(40, d))
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    y = X[:, 0] - X[:, 1] + 0.05 * rng.normal(size=40)
    total = statistics_of(X, y)
    found = cross_validated_path(folds_of(X, y, np.arange(40) % 4), "lasso", alphas=30)
    assert not any("stopped after" in each for each in found.warnings)
    for k in range(1, 30):
        exact = solve(total, "lasso", found.alphas[k]).weights
        np.testing.assert_allclose(
            found.coefficients[:, k], exact, rtol=0, atol=1e-5 * np.abs(exact).max()
        )


@pytest.mark.parametrize("model", MODELS)
def test_threads_change_no_byte_of_a_path(monkeypatch, model):
    folds, blas, threaded, found = folds_of(*make(n=900, d=220)), ThreadpoolController(), [], []

    def note():
        threaded.append(True)
        return blas

    monkeypatch.setattr(threads, "_blas", note)
    for cores in (1, 2, 3):
        monkeypatch.setattr(threads, "available_cores", lambda cores=cores: cores)
        path = cross_validated_path(folds, model, alphas=20)
        arrays = (path.errors, path.coefficients, path.weights)
        found.append((b"".join(each.tobytes() for each in arrays), path.warnings))
    assert len(threaded) == 2 and len(set(found)) == 1


def test_threads_are_as_many_as_there_is_memory_for():
    assert threads.for_fits(6, 100) == 1
    assert threads.for_fits(6, 1000) == min(6, available_cores())
    assert threads.for_fits(6, 5000) == 1


@pytest.mark.parametrize("d", [12, 220])
def test_fits_that_did_not_finish_are_counted_and_told_once(recwarn, d):
    folds = folds_of(*make(n=900, d=d))
    found = cross_validated_path(folds, "lasso", alphas=10, eps=1e-4, tol=1e-9, max_iter=3)
    assert not recwarn
    parts = [Statistics.total([*folds[:k], *folds[k + 1 :]]) for k in range(len(folds))]
    with pytest.warns(ConvergenceWarning) as told:
        for statistics in [*parts, Statistics.total(folds)]:
            descend(centred(statistics), found.alphas, 1.0, tol=1e-9, max_iter=3)
        descend(centred(Statistics.total(folds)), [found.alpha], 1.0, tol=1e-9, max_iter=3)
    assert any(f"{len(told)} of 61 fits stopped after 3" in each for each in found.warnings)


@pytest.mark.parametrize("l1_ratio", [0.1, 0.5, 0.95])
def test_elastic_net_is_elastic_net_cv(l1_ratio):
    X, y, fold = make(seed=5)
    found = cross_validated_path(
        folds_of(X, y, fold), "elasticnet", l1_ratio=l1_ratio, alphas=40, eps=1e-2
    )
    reference = ElasticNetCV(l1_ratio=l1_ratio, cv=splits(fold), alphas=40, eps=1e-2, **TIGHT)
    reference.fit(X, y)
    np.testing.assert_allclose(found.alphas, reference.alphas_, rtol=1e-12)
    np.testing.assert_allclose(found.errors.T, reference.mse_path_, rtol=1e-9)
    assert found.alpha == pytest.approx(reference.alpha_, rel=1e-12)
    same(found, reference, 1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_ridge_is_ridge_cv(seed):
    X, y, fold = make(seed=seed)
    found = cross_validated_path(folds_of(X, y, fold), "ridge")
    reference = RidgeCV(alphas=found.alphas, cv=splits(fold)).fit(X, y)
    assert found.alpha == pytest.approx(reference.alpha_, rel=1e-12)
    same(found, reference, 1e-10)


def test_ridge_is_judged_by_r2_as_in_ridge_cv():
    """Folds whose targets vary differently: the mean R² and the mean error disagree."""
    disagreements = 0
    for seed in range(5):
        X, y, fold = make(n=60, seed=seed)
        y = y * (1.0 + 3.0 * (fold == 0)) + 20.0 * (fold == 0) * X[:, 0]
        found = cross_validated_path(folds_of(X, y, fold), "ridge")
        reference = RidgeCV(alphas=found.alphas, cv=splits(fold)).fit(X, y)
        assert found.alpha == pytest.approx(reference.alpha_, rel=1e-12)
        disagreements += found.index != np.argmin(found.mean_error)
    assert disagreements


def test_scaling_once_before_the_folds_is_what_a_pipeline_does():
    X, y, fold = make()
    X = X * np.geomspace(1, 1000, X.shape[1]) + 50.0
    pipeline = make_pipeline(StandardScaler(), LassoCV(cv=splits(fold), **TIGHT)).fit(X, y)
    found = cross_validated_path(folds_of(StandardScaler().fit_transform(X), y, fold), "lasso")
    same(found, pipeline[-1], 1e-9)
    assert found.alpha == pytest.approx(pipeline[-1].alpha_, rel=1e-10)


def test_weighted_rows_are_those_of_lasso_cv():
    X, y, fold = make()
    weight = np.random.default_rng(1).uniform(0.1, 3.0, len(y))
    found = cross_validated_path(folds_of(X, y, fold, weight), "lasso")
    reference = LassoCV(cv=splits(fold), alphas=100, **TIGHT).fit(X, y, sample_weight=weight)
    np.testing.assert_allclose(found.errors.T, reference.mse_path_, rtol=1e-9)
    assert found.alpha == pytest.approx(reference.alpha_, rel=1e-12)


def test_fewer_rows_than_features():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 90))
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    y = X[:, :3].sum(axis=1) + 0.3 * rng.normal(size=40)
    fold = np.arange(40) % 4
    found = cross_validated_path(folds_of(X, y, fold), "lasso", eps=0.01)
    reference = LassoCV(cv=splits(fold), alphas=100, eps=0.01, **TIGHT).fit(X, y)
    assert found.alpha == pytest.approx(reference.alpha_, rel=1e-12)
    np.testing.assert_allclose(found.errors.T, reference.mse_path_, rtol=1e-7)
    ridge = cross_validated_path(folds_of(X, y, fold), "ridge")
    for k in (0, 50, 99):
        reference = Ridge(ridge.alphas[k], solver="svd").fit(X, y)
        np.testing.assert_allclose(ridge.coefficients[:, k], reference.coef_, atol=1e-7)


def test_nearly_dependent_features(data_dir):
    table = pd.read_csv(data_dir / "regression" / "tecator_meats.csv")
    X = StandardScaler().fit_transform(table.filter(like="x_").to_numpy(float))
    y, fold = table["fat"].to_numpy(float), np.arange(len(table)) % 5
    found = cross_validated_path(folds_of(X, y, fold), "ridge")
    assert len(found.alphas) == 100
    for k in (10, 40, 60):
        reference = Ridge(found.alphas[k], solver="svd").fit(X, y).coef_
        error = np.abs(found.coefficients[:, k] - reference).max() / np.abs(reference).max()
        assert error < 1e-6
    lasso = cross_validated_path(folds_of(X, y, fold), "lasso", alphas=20)
    assert not any("stopped after" in each for each in lasso.warnings)
    total = Statistics.total(folds_of(X, y, fold))
    for k in (5, 10, 19):
        exact = solve(total, "lasso", lasso.alphas[k]).weights
        error = np.abs(lasso.coefficients[:, k] - exact).max() / np.abs(exact).max()
        assert error < 1e-6
    # Coordinate descent alone does not get there.
    crept = cross_validated_path(folds_of(X, y, fold), "lasso", alphas=20, tol=1e-4)
    assert "features are nearly dependent" in crept.warnings[0]


# --- the choice ---------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
def test_one_standard_error_is_the_largest_alpha_within_it(model):
    X, y, fold = make(seed=2)
    best = cross_validated_path(folds_of(X, y, fold), model)
    simple = cross_validated_path(folds_of(X, y, fold), model, rule="1se")
    assert simple.index == best.index_1se < best.index_min == best.index
    assert simple.alpha > best.alpha
    np.testing.assert_allclose(best.mean_error, best.errors.mean(axis=0))
    spread = best.errors.std(axis=0, ddof=1) / math.sqrt(len(best.errors))
    np.testing.assert_allclose(best.standard_error, spread)
    if model != "ridge":
        limit = best.mean_error[best.index_min] + spread[best.index_min]
        assert best.mean_error[simple.index] <= limit < best.mean_error[simple.index - 1]
    exact = solve(statistics_of(X, y), model, simple.alpha)
    np.testing.assert_allclose(simple.weights, exact.weights, atol=0.02)


def test_given_alphas_are_sorted():
    X, y, fold = make()
    found = cross_validated_path(folds_of(X, y, fold), "lasso", alphas=[0.01, 1.0, 0.1])
    assert found.alphas.tolist() == [1.0, 0.1, 0.01]
    one = cross_validated_path(folds_of(X, y, fold), "ridge", alphas=[3.0])
    assert (one.alpha, one.index_1se) == (3.0, 0)


def test_the_ridge_grid_runs_from_heavy_to_light():
    X, y, _ = make()
    part = centred(statistics_of(X, y))
    grid = ridge_grid(part, 100)
    values = np.linalg.eigvalsh(part.xx)
    assert len(grid) == 100
    assert np.all(np.diff(grid) < 0)
    assert grid[0] == pytest.approx(100 * values[-1])
    assert grid[-1] == pytest.approx(values[0] / 100)


def test_the_json_is_json():
    X, y, fold = make(d=3)
    found = cross_validated_path(folds_of(X, y, fold), "lasso", alphas=7)
    data = json.loads(json.dumps(found.to_json(["a", "b", "c"]), allow_nan=False))
    assert list(data["coefficients"]) == ["a", "b", "c"]
    assert list(data["weights"].values()) == found.weights.tolist()
    assert data["intercept"] == found.intercept
    assert data["n_nonzero"][0] == 0
    assert data["n_nonzero"] == found.n_nonzero.tolist()
    assert data["alpha"] == data["alphas"][data["index"]]
    assert [len(row) for row in data["errors"]] == [7] * 5


@pytest.mark.parametrize(("alphas", "words"), [([1e5, 1e6], "smallest"), ([1e-6, 1e-5], "largest")])
def test_a_choice_at_the_end_of_the_grid_says_so(alphas, words):
    """Few rows that a ridge helps: either grid lies beyond the best alpha."""
    X, y, fold = make(n=40)
    (warning,) = cross_validated_path(folds_of(X, y, fold), "ridge", alphas=alphas).warnings
    assert f"is the {words} that was tried" in warning


def test_no_signal_says_so():
    rng = np.random.default_rng(1)
    X, y = rng.normal(size=(200, 5)), rng.normal(size=200)
    found = cross_validated_path(folds_of(X, y, np.arange(200) % 5), "lasso")
    assert not found.weights.any()
    assert "no feature at all" in found.warnings[0]


# --- ridge for every alpha at once --------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(d=st.integers(1, 12), n=st.integers(2, 30), seed=st.integers(0, 2**16))
def test_the_tridiagonal_form_solves_ridge(d, n, seed):
    rng = np.random.default_rng(seed)
    X, y = rng.normal(size=(n, d)), rng.normal(size=n)
    part = centred(statistics_of(X, y))
    alphas = np.array([1e4, 10.0, 0.5, 1e-3])
    expected = [np.linalg.solve(part.xx + alpha * np.eye(d), part.xy) for alpha in alphas]
    np.testing.assert_allclose(ridge_path(part, alphas).T, expected, rtol=1e-8, atol=1e-9)
    found = Rotated.of(part).eigenvalues()
    np.testing.assert_allclose(found, np.linalg.eigvalsh(part.xx), atol=1e-12 * found[-1])


def test_alpha_zero_among_them_is_least_squares():
    X, y, _ = make(d=4)
    X = np.column_stack([X, X[:, :2]])
    statistics = statistics_of(X, y)
    weights = ridge_path(centred(statistics), np.array([1.0, 1e-14, 0.0]))
    minimum_norm = solve(statistics, "linear").weights
    np.testing.assert_allclose(weights[:, 1], minimum_norm, atol=1e-9)
    np.testing.assert_allclose(weights[:, 2], minimum_norm, atol=1e-9)


# --- what goes wrong ----------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
def test_a_feature_that_is_constant_outside_of_one_fold(model):
    X, y, fold = make()
    X[:, 3] = np.where(fold == 2, X[:, 3], 0.25)
    X[:, 3] -= X[:, 3].mean()
    found = cross_validated_path(folds_of(X, y, fold), model)
    alphas = found.alphas
    reference = {
        "lasso": LassoCV(cv=splits(fold), alphas=100, **TIGHT),
        "elasticnet": ElasticNetCV(cv=splits(fold), alphas=100, **TIGHT),
        "ridge": RidgeCV(cv=splits(fold), alphas=alphas),
    }[model].fit(X, y)
    assert found.alpha == pytest.approx(reference.alpha_, rel=1e-9)
    same(found, reference, 1e-4)


def test_a_constant_target():
    X, y, fold = make()
    with pytest.raises(DataError, match="same in every row"):
        cross_validated_path(folds_of(X, np.full(len(y), 4.2), fold), "lasso")
    y = np.where(fold == 1, y, 4.2)
    with pytest.raises(DataError, match="Outside of fold 2 of 5"):
        cross_validated_path(folds_of(X, y, fold), "ridge")
    # In the fold that is left out it may be: every alpha is measured there as well.
    y = make()[1]
    y[fold == 1] = 4.2
    for model in MODELS:
        assert np.isfinite(cross_validated_path(folds_of(X, y, fold), model).errors).all()


def test_folds_that_are_none():
    X, y, fold = make()
    folds = folds_of(X, y, fold)
    with pytest.raises(UserError, match="at least 2 folds, not 1"):
        cross_validated_path(folds[:1], "lasso")
    with pytest.raises(DataError, match="Fold 3 of 3 has no rows: there are 2 in all"):
        rows = [statistics_of(X[k : k + 1], y[k : k + 1]) for k in range(2)]
        cross_validated_path([*rows, Statistics(np.zeros_like(rows[0].moments))], "lasso")
    X[7, 1] = math.nan
    with pytest.raises(DataError, match="not finite"):
        cross_validated_path(folds_of(X, y, fold), "lasso")


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        ("lasso", {"alphas": [1.0, -0.5]}, "alpha must be a number of at least 0, not -0.5"),
        ("ridge", {"alphas": [math.nan]}, "alpha must be a number"),
        ("lasso", {"alphas": []}, "list of alphas is empty"),
        ("lasso", {"alphas": 0}, "at least one alpha"),
        ("lasso", {"eps": 0.0}, "eps must lie between"),
        ("lasso", {"rule": "max"}, "must be min or 1se"),
        ("elasticnet", {"l1_ratio": 1.2}, "l1_ratio must lie between"),
        ("linear", {}, "no alpha to choose"),
        ("huber", {}, "does not know the model"),
    ],
)
def test_options_out_of_bounds(model, options, words):
    with pytest.raises(UserError, match=words):
        cross_validated_path(folds_of(*make()), model, **options)


def test_no_feature_that_varies():
    y = np.random.default_rng(0).normal(size=20)
    folds = folds_of(np.ones((20, 2)), y, np.arange(20) % 4)
    for model in MODELS:
        found = cross_validated_path(folds, model, alphas=5)
        assert not found.coefficients.any()
        assert found.intercept == pytest.approx(y.mean())
    assert len(alpha_grid(centred(folds[0]), 1.0, 5, 1e-3)) == 5
