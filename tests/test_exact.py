"""The exact solver against scikit-learn, a QR of the rows, and NIST's certified values."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import ElasticNet, Lasso, LinearRegression, Ridge
from sklearn.preprocessing import PolynomialFeatures

from regatta.models import Penalty
from regatta.solvers import exact
from regatta.solvers.exact import in_target_units, minimise, solve
from regatta.solvers.inference import Units, infer
from regatta.solvers.moments import moments_of
from regatta.solvers.statistics import Statistics
from regatta.utils import DataError, UserError

NIST = Path(__file__).parent / "nist"
CERTIFIED = json.loads((NIST / "certified.json").read_text())
TIGHT = {"tol": 1e-15, "max_iter": 1_000_000}


def statistics_of(X, y, sample_weight=None):
    """The second moments of rows as they are, about zero."""
    return moments_of(X, y, sample_weight).statistics(np.zeros(X.shape[1] + 1))


def standardised(X):
    return (X - X.mean(axis=0)) / X.std(axis=0)


def make(n=400, d=12, seed=0):
    """Correlated features, standardised, and a target that a third of them makes."""
    rng = np.random.default_rng(seed)
    X = standardised(rng.normal(size=(n, d)) @ (rng.normal(size=(d, d)) / 3 + np.eye(d)))
    weights = np.where(rng.random(d) < 0.4, rng.normal(size=d), 0.0)
    return X, X @ weights + rng.normal(size=n) + 7.0


def qr_weights(X, y):
    """Least squares by a QR of the rows, which does not square the condition number."""
    Q, R = np.linalg.qr(X - X.mean(axis=0))
    return np.linalg.solve(R, Q.T @ (y - y.mean()))


def relative(weights, reference):
    return np.abs(weights - reference).max() / np.abs(reference).max()


def kkt_violation(X, y, weights, intercept, penalty):
    """How far 0 is from the subdifferential of the objective, in the largest coordinate."""
    residual = y - X @ weights - intercept
    gradient = X.T @ residual / len(y) - penalty.l2 * weights
    at_zero = np.maximum(np.abs(gradient) - penalty.l1, 0.0)
    elsewhere = np.abs(gradient - penalty.l1 * np.sign(weights))
    return np.where(weights == 0, at_zero, elsewhere).max()


# --- the same as scikit-learn -------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [1e-3, 0.03, 0.3])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_coefficients_are_those_of_scikit_learn(alpha, seed):
    X, y = make(seed=seed)
    statistics = statistics_of(X, y)
    for model, l1_ratio, reference in [
        ("linear", 0.5, LinearRegression()),
        ("ridge", 0.5, Ridge(alpha)),
        ("lasso", 0.5, Lasso(alpha, **TIGHT)),
        ("elasticnet", 0.2, ElasticNet(alpha, l1_ratio=0.2, **TIGHT)),
        ("elasticnet", 0.0, Ridge(alpha * len(y))),
        ("elasticnet", 1.0, Lasso(alpha, **TIGHT)),
    ]:
        solution = solve(statistics, model, alpha, l1_ratio)
        reference.fit(X, y)
        np.testing.assert_allclose(solution.weights, reference.coef_, rtol=1e-8, atol=1e-10)
        assert solution.intercept == pytest.approx(reference.intercept_, rel=1e-10)
        assert solution.converged
        assert solution.warnings == ()


@pytest.mark.parametrize("model", ["linear", "ridge", "lasso", "elasticnet"])
def test_sample_weights_are_those_of_scikit_learn(model):
    X, y = make()
    weight = np.random.default_rng(3).uniform(0.1, 4.0, len(y))
    solution = solve(statistics_of(X, y, weight), model, 0.05)
    reference = {
        "linear": LinearRegression(),
        "ridge": Ridge(0.05),
        "lasso": Lasso(0.05, **TIGHT),
        "elasticnet": ElasticNet(0.05, **TIGHT),
    }[model].fit(X, y, sample_weight=weight)
    np.testing.assert_allclose(solution.weights, reference.coef_, rtol=1e-8, atol=1e-10)
    assert solution.intercept == pytest.approx(reference.intercept_, rel=1e-9)


def test_the_objective_is_the_one_of_the_rows():
    X, y = make()
    penalty = Penalty(l1=0.04, l2=0.02)
    solution = minimise(statistics_of(X, y), penalty)
    residual = y - X @ solution.weights - solution.intercept
    expected = 0.5 * (residual**2).mean() + penalty.value(np.append(solution.weights, 0.0))
    assert solution.objective == pytest.approx(expected, rel=1e-12)
    assert kkt_violation(X, y, solution.weights, solution.intercept, penalty) < 1e-12


def test_a_heavy_penalty_leaves_nothing():
    X, y = make()
    solution = solve(statistics_of(X, y), "lasso", 1e3)
    assert not solution.weights.any()
    assert solution.intercept == pytest.approx(y.mean())


def test_no_penalty_is_least_squares():
    statistics = statistics_of(*make())
    reference = solve(statistics, "linear").weights
    for model in ("ridge", "lasso", "elasticnet"):
        np.testing.assert_array_equal(solve(statistics, model, 0.0).weights, reference)


def test_the_target_in_its_own_units():
    X, y = make()
    scale = 1234.5
    expected = solve(statistics_of(X, scale * y), "lasso", 30.0)
    rescaled = solve(in_target_units(statistics_of(X, y), scale), "lasso", 30.0)
    np.testing.assert_allclose(rescaled.weights, expected.weights, rtol=1e-11)
    assert rescaled.intercept == pytest.approx(expected.intercept)


# --- linearly dependent features ----------------------------------------------------------------


def test_dependent_features_get_the_smallest_coefficients():
    X, y = make()
    X = np.column_stack([X, X[:, :3], X[:, 0] + X[:, 1], np.ones(len(y))])
    solution = solve(statistics_of(X, y), "linear")
    reference = LinearRegression().fit(X, y)
    np.testing.assert_allclose(solution.weights, reference.coef_, atol=1e-10)
    assert solution.rank == reference.rank_ == 12
    constant, dependent = solution.warnings
    assert constant.startswith("1 feature is constant")
    assert "rank 12 of 16" in dependent
    assert "minimum norm" in dependent


def test_the_smallest_are_smallest_in_the_features_own_units():
    X, y = make()
    X = np.column_stack([X, 100.0 * X[:, 0]]) * np.geomspace(0.01, 10, 13)
    solution = solve(statistics_of(X, y), "linear")
    reference = LinearRegression().fit(X, y)
    np.testing.assert_allclose(solution.weights, reference.coef_, rtol=1e-7, atol=1e-11)


def test_a_small_feature_is_not_mistaken_for_a_dependent_one():
    X, y = make()
    X[:, 4] *= 1e-9
    solution = solve(statistics_of(X, y), "linear")
    assert solution.rank == 12
    np.testing.assert_allclose(solution.weights, qr_weights(X, y), rtol=1e-9)


def test_fewer_rows_than_features():
    rng = np.random.default_rng(0)
    X = standardised(rng.normal(size=(25, 60)))
    y = X[:, 0] + rng.normal(size=25)
    statistics = statistics_of(X, y)
    solution = solve(statistics, "linear")
    reference = LinearRegression().fit(X, y)
    np.testing.assert_allclose(solution.weights, reference.coef_, atol=1e-12)
    assert solution.rank == reference.rank_ == 24
    assert solution.warnings[0].startswith("25 rows cannot tell 60 features apart: rank 24 of 60")
    for model, alpha, fitted in [
        ("ridge", 1e-2, Ridge(1e-2)),
        ("lasso", 0.01, Lasso(0.01, **TIGHT)),
        ("elasticnet", 0.01, ElasticNet(0.01, **TIGHT)),
    ]:
        weights = solve(statistics, model, alpha).weights
        np.testing.assert_allclose(weights, fitted.fit(X, y).coef_, atol=1e-9)


def test_ridge_is_indifferent_to_dependence():
    X, y = make()
    X = np.column_stack([X, X])
    weights = solve(statistics_of(X, y), "ridge", 2.0).weights
    np.testing.assert_allclose(weights, Ridge(2.0).fit(X, y).coef_, atol=1e-12)


def test_hardly_any_ridge_on_dependent_features_is_the_minimum_norm():
    X, y = make()
    X = np.column_stack([X, X])
    statistics = statistics_of(X, y)
    weights = solve(statistics, "ridge", 1e-13).weights
    np.testing.assert_allclose(weights, solve(statistics, "linear").weights, atol=1e-9)


def test_lasso_with_copies_of_features_finds_an_optimum_and_says_that_there_are_others():
    X, y = make()
    X = np.column_stack([X, X[:, ::-1]])
    solution = solve(statistics_of(X, y), "lasso", 0.05)
    assert kkt_violation(X, y, solution.weights, solution.intercept, Penalty(0.05, 0.0)) < 1e-10
    assert "fit equally well" in solution.warnings[0]


def test_one_row_and_a_constant_target():
    solution = solve(statistics_of(np.array([[1.0, 2.0]]), np.array([5.0])), "linear")
    assert solution.intercept == 5.0
    assert not solution.weights.any()
    X, _ = make()
    for model in ("linear", "ridge", "lasso", "elasticnet"):
        solution = solve(statistics_of(X, np.full(len(X), 3.3)), model, 0.1)
        assert not solution.weights.any()
        assert solution.intercept == pytest.approx(3.3)


# --- ill-conditioned rows -----------------------------------------------------------------------


def test_longley(data_dir):
    table = np.loadtxt(data_dir / "regression" / "longley.csv", delimiter=",")
    X, y = standardised(table[:, :-1]), table[:, -1]
    solution = solve(statistics_of(X, y), "linear")
    assert relative(solution.weights, qr_weights(X, y)) < 1e-10
    assert solution.condition == pytest.approx(np.linalg.cond(X) ** 2, rel=0.05)
    assert solution.warnings == ()


def test_tecator_loses_digits_and_says_so(data_dir):
    table = pd.read_csv(data_dir / "regression" / "tecator_meats.csv")
    X = standardised(table.filter(like="x_").to_numpy(float))
    y = table["fat"].to_numpy(float)
    solution = solve(statistics_of(X, y), "linear")
    reference = LinearRegression().fit(X, y)
    assert solution.rank == reference.rank_ < X.shape[1]
    rank, digits = solution.warnings
    assert f"rank {solution.rank} of 100" in rank
    assert "about 4 of 16 digits of the coefficients remain" in digits
    assert relative(solution.weights, reference.coef_) < 1e-3  # of 4 digits

    penalty = Penalty(0.001, 0.0)  # where coordinate descent takes a hundred thousand rounds
    lasso = minimise(statistics_of(X, y), penalty)
    assert lasso.converged
    assert kkt_violation(X, y, lasso.weights, lasso.intercept, penalty) < 1e-9

    ridge = solve(statistics_of(X, y), "ridge", 0.1)
    assert relative(ridge.weights, Ridge(0.1, solver="svd").fit(X, y).coef_) < 1e-6


def test_a_column_far_from_zero():
    rng = np.random.default_rng(0)
    X = np.column_stack([1.6e9 + rng.uniform(-1, 1, 500), rng.normal(size=(500, 3))])
    y = X[:, 0] - 1.6e9 + X @ [0, 1, 2, 3] + rng.normal(size=500)
    centred = X - X.mean(axis=0)
    solution = solve(statistics_of(centred, y), "linear")
    assert relative(solution.weights, qr_weights(X, y)) < 1e-6
    assert solution.warnings == ()
    # As it is, its variance is lost in the square of its mean: it counts as constant, and is told.
    lost = solve(statistics_of(X, y), "linear")
    assert lost.weights[0] == 0.0
    assert "vary by less than rounding" in lost.warnings[0]


def test_polynomial_features_to_degree_five():
    rng = np.random.default_rng(0)
    features = PolynomialFeatures(5, include_bias=False)
    X = standardised(features.fit_transform(rng.normal(size=(1000, 3))))
    y = X @ rng.normal(size=X.shape[1]) + rng.normal(size=1000)
    assert relative(solve(statistics_of(X, y), "linear").weights, qr_weights(X, y)) < 1e-10

    X = standardised(features.fit_transform(rng.uniform(1, 2, size=(1000, 2))))
    y = X @ rng.normal(size=X.shape[1]) + rng.normal(size=1000)
    solution = solve(statistics_of(X, y), "linear")
    error = relative(solution.weights, qr_weights(X, y))
    assert error < 10.0 ** (solution.digits_lost - exact.DIGITS + 1)
    (warning,) = solution.warnings
    assert warning.startswith("The features are nearly dependent: condition number ")


@pytest.mark.parametrize("power", range(0, 13, 2))
def test_the_digits_that_are_said_to_remain_do_remain(power):
    """Two features that differ by a share of 10^(-power/2) have a condition number ~10^power."""
    rng = np.random.default_rng(power)
    X = rng.normal(size=(300, 4))
    X[:, 1] = X[:, 0] + 10.0 ** (-power / 2) * X[:, 1]
    X = standardised(X)
    y = X @ [1.0, -2.0, 3.0, 0.5] + 0.1 * rng.normal(size=300)
    solution = solve(statistics_of(X, y), "linear")
    if solution.rank < 4:
        assert power == 12
        return
    error = relative(solution.weights, qr_weights(X, y))
    assert error < 30 * 10.0 ** (solution.digits_lost - exact.DIGITS)
    assert solution.digits_lost == pytest.approx(2 * math.log10(np.linalg.cond(X)), abs=0.2)
    assert bool(solution.warnings) == (solution.digits_lost > 8)


# --- NIST ---------------------------------------------------------------------------------------


def nist(name):
    """Rows of a set, its features, and the units of the standardised ones."""
    certified = CERTIFIED[name]
    table = pd.read_csv(NIST / f"{name}.csv").astype(float)
    y, X = table["y"].to_numpy(), table.drop(columns="y").to_numpy()
    if certified["powers"]:
        X = X ** np.arange(1, certified["powers"] + 1)
    if not certified["intercept"]:  # a line through the origin is the one that a mirror leaves
        X, y = np.concatenate([X, -X]), np.concatenate([y, -y])
    units = Units(X.mean(axis=0), X.std(axis=0), float(y.mean()), float(y.std()))
    stored = (X - units.x_mean) / units.x_scale, (y - units.y_mean) / units.y_scale
    return certified, statistics_of(*stored), units


@pytest.mark.parametrize(
    ("name", "digits"),
    [
        ("norris", 12),
        ("pontius", 11),
        ("noint1", 13),
        ("noint2", 13),
        ("longley", 10),
        ("wampler1", 5.5),
        ("wampler2", 8),
        ("wampler3", 5.5),
        ("wampler4", 5.5),
        ("wampler5", 5.5),
    ],
)
def test_nist_coefficients(name, digits):
    """Wampler's intercept is 1 beside targets of a million: six of its digits are not there."""
    certified, statistics, units = nist(name)
    solution = solve(statistics, "linear")
    assert solution.warnings == ()
    weights = solution.weights * units.y_scale / units.x_scale
    intercept = units.y_mean + units.y_scale * solution.intercept - weights @ units.x_mean
    found = np.append(intercept, weights) if certified["intercept"] else weights
    np.testing.assert_allclose(found, certified["coefficients"], rtol=10**-digits)


@pytest.mark.parametrize("name", [n for n, c in CERTIFIED.items() if c["intercept"]])
def test_nist_standard_errors(name):
    certified, statistics, units = nist(name)
    if name == "filip":  # see the next test
        with pytest.raises(UserError, match="linearly dependent"):
            infer(statistics, units=units)
        return
    found = infer(statistics, units=units)
    exact_fit = certified["residual_standard_error"] == 0
    assert found.r2 == pytest.approx(certified["r2"], rel=1e-12)
    assert bool(found.warnings) == exact_fit
    if exact_fit:
        assert found.residual_standard_error < 1e-6 * units.y_scale
        return
    errors = np.roll(found.standard_errors, 1)
    np.testing.assert_allclose(errors, certified["standard_errors"], rtol=1e-8)
    assert found.f == pytest.approx(certified["f"], rel=1e-8)
    assert found.residual_standard_error == pytest.approx(
        certified["residual_standard_error"], rel=1e-8
    )


def test_nist_filip_is_beyond_the_sums_and_told():
    """A polynomial of degree ten: XᵀX has a condition number of 1e19 even when standardised."""
    _, statistics, _ = nist("filip")
    solution = solve(statistics, "linear")
    assert solution.rank < 10
    assert "linearly dependent: rank" in solution.warnings[0]


# --- statistics add up --------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    cuts=st.lists(st.integers(0, 60), max_size=4),
    d=st.integers(1, 5),
    seed=st.integers(0, 2**16),
    model=st.sampled_from(["linear", "ridge", "lasso", "elasticnet"]),
)
def test_parts_add_up_to_the_whole(cuts, d, seed, model):
    rng = np.random.default_rng(seed)
    X, y = rng.normal(size=(60, d)), rng.normal(size=60)
    edges = [0, *sorted(cuts), 60]
    spans = [slice(a, b) for a, b in pairwise(edges) if a < b]
    parts = [statistics_of(X[span], y[span]) for span in spans]
    whole = sum(parts[1:], parts[0])
    reference = solve(statistics_of(X, y), model, 0.05)
    np.testing.assert_allclose(solve(whole, model, 0.05).weights, reference.weights, atol=1e-10)


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(2, 40),
    d=st.integers(1, 12),
    copies=st.integers(0, 3),
    seed=st.integers(0, 2**16),
    l1=st.floats(1e-3, 1.0),
    l2=st.sampled_from([0.0, 1e-3, 1.0]),
)
def test_no_direction_leads_down_from_the_optimum(n, d, copies, seed, l1, l2):
    rng = np.random.default_rng(seed)
    X, y = rng.normal(size=(n, d)), rng.normal(size=n)
    X = np.column_stack([X, X[:, :copies]])
    solution = minimise(statistics_of(X, y), Penalty(l1, l2))
    assert kkt_violation(X, y, solution.weights, solution.intercept, Penalty(l1, l2)) < 1e-7


def test_where_the_search_begins_does_not_matter():
    X, y = make(n=200, d=15)
    statistics = statistics_of(X, y)
    found = solve(statistics, "lasso", 0.3)
    rng = np.random.default_rng(0)
    for near in (np.zeros(15), found.weights, found.weights + rng.normal(size=15)):
        again = solve(statistics, "lasso", 0.3, near=near)
        np.testing.assert_allclose(again.weights, found.weights, atol=1e-12)


# --- mistakes -----------------------------------------------------------------------------------


def test_what_is_refused_is_refused_in_a_sentence():
    statistics = statistics_of(*make())
    for model, alpha, l1_ratio, words in [
        ("ridge", -1.0, 0.5, "alpha must be a number of at least 0, not -1.0"),
        ("lasso", math.nan, 0.5, "alpha must be"),
        ("elasticnet", 1.0, 1.5, "l1_ratio must lie between 0 and 1"),
        ("huber", 1.0, 0.5, "does not know the model 'huber'"),
    ]:
        with pytest.raises(UserError, match=words):
            solve(statistics, model, alpha, l1_ratio)
    with pytest.raises(DataError, match="no rows"):
        solve(Statistics(np.zeros((4, 4))), "linear")
    X, y = make()
    X[3, 3] = math.nan
    with pytest.raises(DataError, match="not finite"):
        solve(statistics_of(X, y), "linear")
