"""Standard errors, tests and intervals against statsmodels."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.outliers_influence import variance_inflation_factor

from regatta.solvers.inference import Units, infer, why_not
from regatta.solvers.moments import moments_of
from regatta.utils import UserError


def statistics_of(X, y, sample_weight=None):
    """The second moments of rows as they are, about zero."""
    return moments_of(X, y, sample_weight).statistics(np.zeros(X.shape[1] + 1))


def make(n=200, d=5, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) @ (rng.normal(size=(d, d)) + np.eye(d))
    X = X * np.geomspace(0.01, 100, d) + np.linspace(-5, 50, d)
    y = 1000.0 + X @ rng.normal(size=d) + 20 * rng.normal(size=n)
    return X, y


def standardised(X, y):
    """Statistics of standardised rows, and the way back."""
    units = Units.of(X.mean(axis=0), X.std(axis=0), float(y.mean()), float(y.std()))
    stored = statistics_of((X - units.x_mean) / units.x_scale, (y - units.y_mean) / units.y_scale)
    return stored, units


def check(found, reference, rtol=1e-8):
    """Compare with statsmodels, whose constant comes first."""
    interval = reference.conf_int(1 - found.level)
    for ours, theirs in [
        (found.estimates, reference.params),
        (found.standard_errors, reference.bse),
        (found.t, reference.tvalues),
        (found.p, reference.pvalues),
        (found.low, interval[:, 0]),
        (found.high, interval[:, 1]),
    ]:
        np.testing.assert_allclose(np.roll(ours, 1), theirs, rtol=rtol, atol=1e-300)
    assert found.df_residual == reference.df_resid
    assert found.df_model == reference.df_model
    for ours, theirs in [
        (found.r2, reference.rsquared),
        (found.adjusted_r2, reference.rsquared_adj),
        (found.f, reference.fvalue),
        (found.f_p, reference.f_pvalue),
        (found.log_likelihood, reference.llf),
        (found.aic, reference.aic),
        (found.bic, reference.bic),
        (found.residual_standard_error, math.sqrt(reference.scale)),
    ]:
        assert ours == pytest.approx(theirs, rel=rtol, abs=1e-300)


@pytest.mark.parametrize("level", [0.95, 0.5, 0.999])
def test_everything_is_that_of_statsmodels_in_original_units(level):
    X, y = make()
    statistics, units = standardised(X, y)
    found = infer(statistics, level=level, units=units)
    check(found, sm.OLS(y, sm.add_constant(X)).fit())
    design = sm.add_constant(X)
    vif = [variance_inflation_factor(design, j + 1) for j in range(X.shape[1])]
    np.testing.assert_allclose(found.vif, vif, rtol=1e-8)


def test_and_in_stored_units():
    X, y = make()
    X, y = (X - X.mean(axis=0)) / X.std(axis=0), y / y.std()
    check(infer(statistics_of(X, y)), sm.OLS(y, sm.add_constant(X)).fit())


@settings(max_examples=40, deadline=None)
@given(d=st.integers(1, 6), extra=st.integers(2, 40), seed=st.integers(0, 2**16))
def test_whatever_the_shape(d, extra, seed):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(d + extra, d)) + rng.normal(size=d)
    y = rng.normal(size=d + extra)
    statistics, units = standardised(X, y)
    check(infer(statistics, units=units), sm.OLS(y, sm.add_constant(X)).fit(), rtol=1e-4)


def test_whole_weights_are_repeated_rows():
    X, y = make(n=60)
    repeats = np.random.default_rng(0).integers(1, 4, 60)
    centred = X - X.mean(axis=0)
    weighted = infer(statistics_of(centred, y, repeats))
    repeated = infer(statistics_of(np.repeat(centred, repeats, axis=0), np.repeat(y, repeats)))
    np.testing.assert_allclose(weighted.standard_errors, repeated.standard_errors, rtol=1e-9)
    assert weighted.df_residual == repeated.df_residual == repeats.sum() - 6


def test_longley(data_dir):
    table = np.loadtxt(data_dir / "regression" / "longley.csv", delimiter=",")
    X, y = table[:, :-1], table[:, -1]
    statistics, units = standardised(X, y)
    found = infer(statistics, units=units)
    check(found, sm.OLS(y, sm.add_constant(X)).fit(), rtol=1e-7)
    assert found.vif.max() > 1000


def test_fit_to_rounding_is_told():
    X, _ = make()
    statistics, _ = standardised(X, X @ np.ones(X.shape[1]))
    found = infer(statistics)
    assert found.r2 == pytest.approx(1.0)
    assert "fits the rows to rounding" in found.warnings[-1]
    json.dumps(found.to_json(), allow_nan=False)


def test_a_constant_target_has_nothing_to_explain():
    X, _ = make()
    found = infer(statistics_of(X - X.mean(axis=0), np.full(len(X), 2.0)))
    data = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert data["r2"] is None
    assert data["f"] is None
    assert found.intercept == pytest.approx(2.0)


def test_nearly_dependent_features_are_told():
    X, y = make()
    X[:, 1] = X[:, 0] + 3e-5 * X[:, 1]
    statistics, units = standardised(X, y)
    assert "nearly dependent" in infer(statistics, units=units).warnings[0]


def test_the_json_names_every_coefficient():
    X, y = make(d=3)
    statistics, units = standardised(X, y)
    found = infer(statistics, units=units)
    data = json.loads(json.dumps(found.to_json(["a", "b", "c"]), allow_nan=False))
    names = [row["name"] for row in data["coefficients"]]
    assert names == ["(intercept)", "a", "b", "c"]
    assert data["coefficients"][0]["estimate"] == found.intercept
    assert data["coefficients"][0]["vif"] is None
    assert data["coefficients"][3]["p"] == found.p[2]
    assert data["aic"] == found.aic
    with pytest.raises(ValueError, match="2 names for 3 features"):
        found.to_json(["a", "b"])


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("ridge", "penalty biases"),
        ("lasso", "chose the features on the same rows"),
        ("elasticnet", "chose the features on the same rows"),
        ("huber", "those of ordinary least squares"),
    ],
)
def test_not_offered_for_other_models(model, words):
    assert words in why_not(model)


def test_not_offered_where_rows_or_features_do_not_allow_it():
    X, y = make()
    assert why_not("linear") == why_not("linear", statistics_of(X - X.mean(axis=0), y)) == ""
    few = statistics_of(X[:6] - X[:6].mean(axis=0), y[:6])
    assert "6 rows leave nothing to estimate the noise from" in why_not("linear", few)
    none = statistics_of(np.empty((9, 0)), y[:9])
    assert why_not("linear", none) == "No standard errors: there is no feature."
    X[:, 2] = X[:, 1]
    dependent = statistics_of(X - X.mean(axis=0), y)
    assert "rank 4 of 5" in why_not("linear", dependent)
    with pytest.raises(UserError, match="linearly dependent"):
        infer(dependent)
    with pytest.raises(UserError, match="confidence level"):
        infer(statistics_of(*make()), level=95)
