"""The scikit-learn estimators: scikit-learn's own checks, and scikit-learn as oracle."""

from __future__ import annotations

import doctest
import pickle  # noqa: TID251 - what users of scikit-learn do to estimators
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.linalg import LinAlgWarning
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import (
    ElasticNet,
    ElasticNetCV,
    Lasso,
    LassoCV,
    LinearRegression,
    Ridge,
    RidgeCV,
)
from sklearn.model_selection import GridSearchCV, KFold, RepeatedKFold, ShuffleSplit
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from threadpoolctl import ThreadpoolController

import regatta
from regatta import estimators
from regatta.estimators import (
    DistributedElasticNet,
    DistributedElasticNetCV,
    DistributedLasso,
    DistributedLassoCV,
    DistributedLinearRegression,
    DistributedRidge,
    DistributedRidgeCV,
)
from regatta.fitted_model import FittedModel
from regatta.parameter_names import in_parameters
from regatta.parameter_server.worker_pool import WorkerPool
from regatta.solvers import choose, moments, threads
from regatta.utils import DataError

ALL = [getattr(estimators, name) for name in estimators.__all__]
# Each estimator beside scikit-learn's of the same objective.
PAIRS = [
    (DistributedLinearRegression(), LinearRegression()),
    (DistributedRidge(30.0), Ridge(30.0)),
    (DistributedLasso(0.1), Lasso(0.1, tol=1e-12)),
    (DistributedElasticNet(0.1, l1_ratio=0.3), ElasticNet(0.1, l1_ratio=0.3, tol=1e-12)),
]
PAIR_IDS = ["linear", "ridge", "lasso", "elasticnet"]
ORDER = np.arange(400)
TIGHT: dict[str, Any] = {"tol": 1e-12, "max_iter": 100_000}


@pytest.fixture
def rows() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """X (400, 6), y and weights, some of them 0."""
    rng = np.random.default_rng(5)
    X = rng.standard_normal((400, 6)) * [1, 10, 0.1, 1, 1, 1] + [0, 50, 0, -3, 0, 0]
    y = X @ [1.0, 0.2, 7.0, 0, 0, -0.5] + 20 + rng.standard_normal(400)
    return X, y, rng.integers(0, 4, 400).astype(float)


def assert_same(found, expected, *, rtol=1e-8, atol=1e-10):
    np.testing.assert_allclose(found.coef_, expected.coef_, rtol=rtol, atol=atol)
    np.testing.assert_allclose(found.intercept_, expected.intercept_, rtol=rtol, atol=atol)


@parametrize_with_checks([each() for each in ALL])
def test_scikit_learns_checks(estimator, check):
    with warnings.catch_warnings():
        # Their data are often dependent or few, and each is told of.
        warnings.simplefilter("ignore", (LinAlgWarning, ConvergenceWarning))
        check(estimator)


@pytest.mark.parametrize("fit_intercept", [True, False], ids=["intercept", "origin"])
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("pair", PAIRS, ids=PAIR_IDS)
def test_alpha_is_scikit_learns(rows, pair, weighted, fit_intercept):
    X, y, weights = rows
    found, expected = (clone(each).set_params(fit_intercept=fit_intercept) for each in pair)
    given = {"sample_weight": weights} if weighted else {}
    assert_same(found.fit(X, y, **given), expected.fit(X, y, **given))


@pytest.mark.parametrize("pair", PAIRS, ids=PAIR_IDS)
def test_batches_are_the_same_as_all_rows_at_once(rows, pair):
    X, y, weights = rows
    whole, batches = clone(pair[0]).fit(X, y, weights), clone(pair[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LinAlgWarning)  # three rows are few
        for start, stop in ((0, 3), (3, 150), (150, 151), (151, 400)):
            batches.partial_fit(X[start:stop], y[start:stop], weights[start:stop])
    assert_same(batches, whole, rtol=1e-10, atol=1e-12)
    grown = clone(pair[0]).fit(X[:300], y[:300]).partial_fit(X[300:], y[300:])
    assert_same(grown, clone(pair[0]).fit(X, y), rtol=1e-10, atol=1e-12)


def test_batches_far_from_each_other_keep_their_digits():
    """Time stamps in order: the first batch says nothing of the mean of the last."""
    rng = np.random.default_rng(0)
    seconds = np.concatenate([np.zeros(1000), 1.6e9 + rng.uniform(-1, 1, 1000)])
    other = rng.standard_normal(2000)
    y = 3 * other + rng.standard_normal(2000)
    X = np.column_stack([seconds, other])
    with pytest.warns(LinAlgWarning, match="constant"):
        model = DistributedLinearRegression().partial_fit(X[:1000], y[:1000])
    model.partial_fit(X[1000:], y[1000:])
    assert_same(model, DistributedLinearRegression().fit(X, y), rtol=1e-9, atol=1e-18)


def test_a_column_at_the_epoch_keeps_its_digits():
    rng = np.random.default_rng(1)
    beside = rng.uniform(-1, 1, 5000)
    X = np.column_stack([1.6e9 + beside, rng.standard_normal(5000)])
    beside = X[:, 0] - 1.6e9  # what the float64 kept of it
    y = 2 * beside - X[:, 1] + 0.1 * rng.standard_normal(5000)
    model = DistributedLinearRegression().fit(X, y)
    Q, R = np.linalg.qr(np.column_stack([beside, X[:, 1], np.ones(5000)]))
    np.testing.assert_allclose(model.coef_, np.linalg.solve(R, Q.T @ y)[:2], rtol=1e-10)


def test_threads_change_no_byte(monkeypatch):
    rng = np.random.default_rng(6)
    X, y = rng.standard_normal((60_000, 20)), rng.standard_normal(60_000)
    blas, threaded, found = ThreadpoolController(), [], []

    def note():
        threaded.append(True)
        return blas

    monkeypatch.setattr(threads, "_blas", note)
    for cores in (1, 2, 3):
        monkeypatch.setattr(moments, "available_cores", lambda cores=cores: cores)
        found.append(DistributedLinearRegression().fit(X, y).coef_.tobytes())
    assert len(threaded) == 2 and len(set(found)) == 1


def test_a_constant_column_gets_nothing_and_is_told(rows):
    X, y, _ = rows
    with_constant = np.column_stack([X, np.full(len(X), 0.1)])
    with pytest.warns(LinAlgWarning, match="constant"):
        model = DistributedLinearRegression().fit(with_constant, y)
    assert model.coef_[-1] == 0.0 and model.rank_ == 6
    assert_same(model, LinearRegression().fit(with_constant, y))


def test_fewer_rows_than_features_give_the_minimum_norm():
    rng = np.random.default_rng(2)
    X, y = rng.standard_normal((10, 25)), rng.standard_normal(10)
    with pytest.warns(LinAlgWarning, match="rank 9 of 25"):
        model = DistributedLinearRegression().fit(X, y)
    assert_same(model, LinearRegression().fit(X, y))


# --- cross-validation ---------------------------------------------------------------------------

CV_PAIRS = [
    (DistributedLassoCV(**TIGHT), LassoCV(**TIGHT)),
    (DistributedElasticNetCV(l1_ratio=0.7, **TIGHT), ElasticNetCV(l1_ratio=0.7, **TIGHT)),
]


@pytest.mark.parametrize("fit_intercept", [True, False], ids=["intercept", "origin"])
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("pair", CV_PAIRS, ids=["lasso", "elasticnet"])
def test_the_path_is_scikit_learns(rows, pair, weighted, fit_intercept):
    X, y, weights = rows
    weights = weights + 0.5
    found, expected = (clone(each).set_params(fit_intercept=fit_intercept) for each in pair)
    given = {"sample_weight": weights} if weighted else {}
    found.fit(X, y, **given)
    expected.fit(X, y, **given)
    assert found.alpha_ == pytest.approx(expected.alpha_, rel=1e-10)
    np.testing.assert_allclose(found.alphas_, expected.alphas_, rtol=1e-10)
    np.testing.assert_allclose(found.mse_path_, expected.mse_path_, rtol=1e-8)
    assert_same(found, expected, rtol=1e-6)


@pytest.mark.parametrize(
    "cv",
    [
        3,
        KFold(4, shuffle=True, random_state=0),
        ShuffleSplit(4, random_state=0),
        RepeatedKFold(n_splits=3, n_repeats=2, random_state=0),
        list(KFold(3).split(np.zeros(400))),
        [(ORDER < 300, ORDER >= 300), (ORDER >= 100, ORDER < 100)],
    ],
    ids=["number", "shuffled", "random", "repeated", "list", "masks"],
)
def test_any_splits(rows, cv):
    X, y, _ = rows
    found, expected = DistributedLassoCV(cv=cv, **TIGHT), LassoCV(cv=cv, **TIGHT)
    assert found.fit(X, y).alpha_ == pytest.approx(expected.fit(X, y).alpha_, rel=1e-10)
    np.testing.assert_allclose(found.mse_path_, expected.mse_path_, rtol=1e-8)


@pytest.mark.parametrize("fit_intercept", [True, False], ids=["intercept", "origin"])
def test_ridge_is_chosen_as_scikit_learn_does(rows, fit_intercept):
    X, y, _ = rows
    alphas = np.geomspace(1e-2, 1e4, 30)
    found = DistributedRidgeCV(alphas, cv=5, fit_intercept=fit_intercept).fit(X, y)
    expected = RidgeCV(alphas, cv=5, fit_intercept=fit_intercept).fit(X, y)
    assert found.alpha_ == pytest.approx(expected.alpha_)
    assert_same(found, expected)
    assert found.mse_path_.shape == (30, 5)


def test_several_l1_ratios(rows):
    X, y, _ = rows
    options: dict[str, Any] = {"l1_ratio": [0.2, 0.6, 1.0], "cv": 4, **TIGHT}
    found, expected = DistributedElasticNetCV(**options), ElasticNetCV(**options)
    found.fit(X, y)
    expected.fit(X, y)
    assert (found.l1_ratio_, found.alpha_) == pytest.approx((expected.l1_ratio_, expected.alpha_))
    assert found.alphas_.shape == (3, 100)
    np.testing.assert_allclose(found.mse_path_, expected.mse_path_, rtol=1e-8)


def test_one_standard_error_prefers_a_simpler_model(rows):
    X, y, _ = rows
    best, simpler = DistributedLassoCV().fit(X, y), DistributedLassoCV(rule="1se").fit(X, y)
    mean = best.mse_path_.mean(axis=1)
    error = best.mse_path_.std(axis=1, ddof=1) / np.sqrt(5)
    limit = mean.min() + error[mean.argmin()]
    assert simpler.alpha_ == best.alphas_[mean <= limit].max() > best.alpha_


# --- steps --------------------------------------------------------------------------------------


@pytest.mark.parametrize("fit_intercept", [True, False], ids=["intercept", "origin"])
@pytest.mark.parametrize("pair", PAIRS, ids=PAIR_IDS)
def test_steps_reach_the_same_optimum(rows, pair, fit_intercept):
    X, y, weights = rows
    steps = clone(pair[0]).set_params(
        solver="sgd", tol=1e-10, max_iter=100_000, fit_intercept=fit_intercept
    )
    steps.fit(X, y, weights)
    assert steps.solver_ == "fista" and steps.n_iter_ > 1
    exact = clone(pair[0]).set_params(fit_intercept=fit_intercept).fit(X, y, weights)
    assert_same(steps, exact, rtol=1e-4, atol=1e-5)


def test_mini_batches_and_workers_give_the_same_bytes(monkeypatch):
    rng = np.random.default_rng(3)
    X = rng.standard_normal((10_000, 5)) * [1, 100, 1, 1, 1] + 7
    y = X @ [1.0, 0.01, 0, 0, 2] + rng.standard_normal(10_000)
    crews = []
    start = WorkerPool.__init__

    def note(self, *args, **options):
        crews.append(args[3])
        start(self, *args, **options)

    monkeypatch.setattr(WorkerPool, "__init__", note)
    places = set(Path(tempfile.gettempdir()).glob("regatta-*"))
    options: dict[str, Any] = {"alpha": 0.05, "solver": "sgd", "max_iter": 60}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        alone = DistributedLasso(**options).fit(X, y)
        crew = DistributedLasso(**options, n_workers=2).fit(X, y)
    assert alone.solver_ == "sgd" and crews == [2]
    assert alone.coef_.tobytes() == crew.coef_.tobytes()
    exact = DistributedLasso(0.05).fit(X, y)
    np.testing.assert_allclose(alone.predict(X), exact.predict(X), atol=0.1)
    assert set(Path(tempfile.gettempdir()).glob("regatta-*")) <= places


def test_too_few_passes_are_told_where_fit_was_called(rows):
    X, y, _ = rows
    with pytest.warns(ConvergenceWarning, match="max_iter") as told:
        DistributedRidge(solver="sgd", max_iter=3).fit(X, y)
    assert told[0].filename == __file__


def test_too_many_features_mean_steps_and_are_told(rows, monkeypatch):
    X, y, _ = rows
    monkeypatch.setattr(choose, "EXACT_FEATURES", 5)
    with pytest.warns(UserWarning, match="too many for the exact solver"):
        assert DistributedRidge().fit(X, y).solver_ == "fista"
    with pytest.raises(ValueError, match="too many to choose alpha"):
        DistributedLassoCV().fit(X, y)


def test_a_script_without_its_guard_is_told(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import numpy as np\nfrom regatta import DistributedRidge\n"
        "X = np.random.default_rng(0).standard_normal((100, 3))\n"
        "DistributedRidge(solver='sgd', n_workers=1).fit(X, X[:, 0])\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", str(script)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1
    assert "if __name__ == '__main__'" in done.stderr.strip().splitlines()[-1]


# --- files --------------------------------------------------------------------------------------


@pytest.fixture
def table(regatta_home, tmp_path) -> tuple[Path, pd.DataFrame]:
    """A file with a category, missing numbers and a date, and the same as a frame."""
    rng = np.random.default_rng(4)
    n = 300
    size = rng.normal(100, 30, n).round(3)
    kind = rng.choice(["flat", "house", "villa"], n)
    price = 2 * size + 50 * (kind == "villa") + rng.standard_normal(n)
    frame = pd.DataFrame(
        {
            "size": np.where(rng.random(n) < 0.05, np.nan, size),
            "kind": kind,
            "sold": pd.date_range("2020-01-01", periods=n).strftime("%Y-%m-%d"),
            "price": price.round(4),
        }
    )
    path = tmp_path / "houses.csv"
    frame.to_csv(path, index=False)
    return path, frame


def test_a_file_is_encoded_and_standardised(table):
    path, frame = table
    model = DistributedRidge(10.0).fit(str(path), "price")
    assert model.n_features_in_ == 3 and list(model.feature_names_in_) == ["size", "kind", "sold"]
    assert "kind=villa" in model.coef_names_ and len(model.coef_names_) == len(model.coef_)
    kept = model.fitted_model_.preprocessing
    columns = {
        "size": frame["size"].to_numpy(),
        "kind": frame["kind"].to_numpy(dtype=object),
        "sold": pd.to_datetime(frame["sold"]).to_numpy("datetime64[s]").astype(float),
    }
    reference = make_pipeline(StandardScaler(), Ridge(10.0))
    reference.fit(kept.transform(columns), frame["price"])
    np.testing.assert_allclose(
        model.predict(path), reference.predict(kept.transform(columns)), rtol=1e-9
    )


@pytest.mark.parametrize(
    "model",
    [
        DistributedRidge(),
        DistributedLasso(0.5, solver="sgd", tol=1e-9),
        DistributedLassoCV(cv=4),
        DistributedRidgeCV(alphas=20),
    ],
    ids=["exact", "steps", "lasso", "ridge"],
)
def test_a_model_of_a_file_predicts_paths_and_frames(table, tmp_path, model):
    path, frame = table
    model.fit(path, "price")
    from_path = model.predict(path)
    np.testing.assert_allclose(model.predict(frame.drop(columns="price")), from_path, rtol=1e-9)
    assert model.score(frame, frame["price"]) > 0.9
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict(path), from_path)  # noqa: S301
    model.fitted_model_.save(tmp_path / "model.json")
    again = FittedModel.load(tmp_path / "model.json")
    np.testing.assert_array_equal(again.weights, model.fitted_model_.weights)
    assert model.coef_names_[0] == "size" and model.coef_[0] == pytest.approx(2, rel=0.1)


def test_steps_on_a_file_reach_its_optimum(table):
    path, _ = table
    steps = DistributedElasticNet(0.5, solver="sgd", tol=1e-10, max_iter=100_000)
    exact = DistributedElasticNet(0.5).fit(path, "price")
    assert_same(steps.fit(path, "price"), exact, rtol=1e-4, atol=1e-4)


def test_a_fit_to_an_array_forgets_the_file(table, rows):
    path, _ = table
    X, y, _ = rows
    model = DistributedRidge().fit(path, "price").fit(X, y)
    assert_same(model, Ridge().fit(X, y))
    assert not hasattr(model, "fitted_model_") and not hasattr(model, "feature_names_in_")
    np.testing.assert_allclose(model.predict(X), Ridge().fit(X, y).predict(X))


def test_what_a_file_does_not_take_is_a_sentence(table, rows):
    path, _ = table
    X, y, _ = rows
    with pytest.raises(ValueError, match="name of the target"):
        DistributedRidge().fit(path, y)
    with pytest.raises(ValueError, match="sample_weight"):
        DistributedRidge().fit(path, "price", np.ones(300))
    with pytest.raises(ValueError, match="intercept"):
        DistributedRidge(fit_intercept=False).fit(path, "price")
    with pytest.raises(ValueError, match="number of folds"):
        DistributedRidgeCV(cv=KFold(3)).fit(path, "price")
    with pytest.raises(DataError, match="prize"):
        DistributedRidge().fit(path, "prize")
    model = DistributedRidge().fit(path, "price")
    with pytest.raises(ValueError, match="partial_fit takes arrays"):
        model.partial_fit(X, y)
    with pytest.raises(ValueError, match="data frame"):
        model.predict(X)
    with pytest.raises(ValueError, match="score needs"):
        model.score(path, "price")
    with pytest.raises(ValueError, match="fitted to an array"):
        DistributedRidge().fit(X, y).predict(path)


# --- as a part of scikit-learn ------------------------------------------------------------------


def test_in_a_pipeline_and_a_grid_search(rows):
    X, y, _ = rows
    searches = []
    for model in (DistributedLasso(), Lasso(tol=1e-10)):
        pipeline = Pipeline([("scale", StandardScaler()), ("model", model)])
        searches.append(GridSearchCV(pipeline, {"model__alpha": [0.001, 0.1, 10.0]}, cv=3))
    ours, theirs = (search.fit(X, y) for search in searches)
    assert ours.best_params_ == theirs.best_params_
    assert ours.best_score_ == pytest.approx(theirs.best_score_, rel=1e-9)


def test_names_of_columns_are_kept_and_compared(rows):
    X, y, _ = rows
    frame = pd.DataFrame(X, columns=list("abcdef"))
    model = DistributedRidge().fit(frame, y)
    assert list(model.feature_names_in_) == list("abcdef")
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame.rename(columns={"a": "z"}))
    with pytest.raises(NotFittedError):
        DistributedRidge().predict(frame)


@pytest.mark.parametrize(
    ("kind", "missing"), [(DistributedRidge, ["-99"]), (DistributedRidgeCV, "-99")]
)
def test_a_file_is_read_as_one_says(kind, missing, tmp_path, regatta_home):
    random = np.random.default_rng(0)
    x = random.normal(size=200).round(3)
    rows = [f"{each};{2 * each + 1:.4f}" for each in x]
    rows[7] = rows[7].replace(str(x[7]), "-99")
    path = tmp_path / "rows.csv"
    path.write_text("x;y\n" + "\n".join([*rows, "1;2;3"]) + "\n")
    reading = {"missing": missing, "on_bad_rows": "skip"}
    with pytest.raises(DataError, match="3 fields"):
        kind().fit(path, "y")
    model = kind().fit(path, "y", reading=reading)
    assert model.fitted_model_.rows_train == 200
    assert model.fitted_model_.preprocessing.columns[0].missing == ("-99",)
    assert len(model.predict(path, reading=reading)) == 200
    with pytest.raises(DataError, match="3 fields"):
        model.predict(path)


@pytest.mark.parametrize(
    ("told", "wanted"),
    [
        ("--alpha is 'x'. Give --alpha a number.", "alpha is 'x'. Give alpha a number."),
        ("Take fewer --workers, or --solver sgd.", "Take fewer n_workers, or solver='sgd'."),
        ("Or have them set aside: --on-bad-rows skip.",
         "Or have them set aside: reading={'on_bad_rows': 'skip'}."),
        ("Leave --encoding out.", "Leave reading['encoding'] out."),
        ("--column-type 'a=b' matches none.", "reading['column_types'] 'a=b' matches none."),
        ("Mend these cells, or let --on-bad-cells missing leave them blank.", "Mend these cells."),
        ("Try --l1-ratio 0.5 -- or not --at-all.", "Try l1_ratio 0.5 -- or not --at-all."),
    ],
)  # fmt: skip
def test_advice_names_parameters(told, wanted):
    assert in_parameters(told) == wanted


def test_errors_name_parameters_and_no_options(tmp_path, regatta_home):
    path = tmp_path / "rows.csv"
    path.write_text("a,y\n" + "".join(f"{i},{i % 7}\n" for i in range(200)) + "1,2,3,4\n")
    with pytest.raises(DataError) as refused:
        DistributedRidge().fit(path, "y")
    assert "reading={'on_bad_rows': 'skip'}" in str(refused.value)
    with pytest.raises(ValueError, match=r"reading\['decimal'\] is 'dot'"):
        DistributedRidge().fit(path, "y", reading={"decimal": "dot"})
    model = DistributedRidge().fit(path, "y", reading={"on_bad_rows": "skip"})
    path.write_text("a\n1\nmany\n")
    with pytest.raises(DataError) as refused:
        model.predict(path)
    assert "Mend these cells." in str(refused.value) and "--" not in str(refused.value)


def test_what_says_nothing_of_a_file_is_a_sentence(rows, tmp_path, regatta_home):
    X, y, _ = rows
    with pytest.raises(ValueError, match="X is no path"):
        DistributedRidge().fit(X, y, reading={"decimal": "comma"})
    with pytest.raises(ValueError, match="no option 'comma'"):
        DistributedRidge().fit("rows.csv", "y", reading={"comma": True})
    with pytest.raises(ValueError, match="decimal"):
        DistributedRidge().fit("rows.csv", "y", reading={"decimal": "dot"})


@pytest.mark.parametrize("bad", [np.nan, np.inf], ids=["nan", "inf"])
def test_missing_and_infinite_values_are_scikit_learns_error(rows, bad):
    X, y, _ = rows
    X[3, 1] = bad
    for model in (DistributedRidge(), DistributedLassoCV()):
        with pytest.raises(ValueError, match=r"Input X contains (NaN|infinity)"):
            model.fit(X, y)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (DistributedRidge(-1.0), "alpha must be"),
        (DistributedRidge().set_params(alpha="1"), "alpha must be"),
        (DistributedElasticNet(l1_ratio=1.5), "l1_ratio must lie"),
        (DistributedRidge(solver="newton"), "solver must be"),
        (DistributedRidge(n_workers=-1), "n_workers must be"),
        (DistributedRidge(max_iter=0), "max_iter must be"),
        (DistributedRidge(tol=-1.0), "tol must be"),
        (DistributedLassoCV(alphas=0), "at least one alpha"),
        (DistributedRidgeCV(alphas=[]), "at least one alpha"),
        (DistributedRidgeCV(alphas=[1.0, -1.0]), "alpha must be"),
        (DistributedLassoCV(eps=2.0), "eps must lie"),
        (DistributedLassoCV().set_params(rule="2se"), "rule must be"),
        (DistributedLassoCV(cv=1), "k-fold"),
        (DistributedLassoCV(cv=500), "n_splits=500"),
    ],
)
def test_a_wrong_parameter_is_a_sentence(rows, model, words):
    X, y, _ = rows
    with pytest.raises(ValueError, match=words):
        model.fit(X, y)


def test_bad_rows_are_a_sentence(rows):
    X, y, _ = rows
    with pytest.raises(ValueError, match="column is named only where"):
        DistributedRidge().fit(X, "y")
    with pytest.raises(ValueError, match="zero"):
        DistributedRidge().fit(X, y, np.zeros(400))
    with pytest.raises(ValueError, match="too large to be squared"):
        DistributedRidge().fit(X * 1e200, y)
    with pytest.raises(ValueError, match="same in every row"):
        DistributedLassoCV().fit(X, np.ones(400))
    with pytest.raises(ValueError, match="Outside of fold 1 of 2"):
        DistributedLassoCV(cv=2).fit(X, np.repeat([1.0, 2.0], 200) * (np.arange(400) < 1))
    with pytest.raises(ValueError, match="Fold 1 of 2 has no rows"):
        weights = (np.arange(400) < 200).astype(float)
        DistributedLassoCV(cv=2).fit(X, y, 1 - weights)
    with pytest.raises(ValueError, match="solver='exact'"):
        DistributedRidge(solver="sgd").fit(X, y).partial_fit(X, y)
    with pytest.raises(ValueError, match="solver='exact'"):
        DistributedRidge(solver="sgd").partial_fit(X, y)


def test_a_single_row_gives_its_target(rows):
    X, y, _ = rows
    with pytest.warns(LinAlgWarning, match="constant"):
        model = DistributedRidge().fit(X[:1], y[:1])
    assert model.predict(X[:1]) == pytest.approx(y[:1])


def test_the_package_offers_them_without_importing_them():
    for name in estimators.__all__:
        assert getattr(regatta, name) is getattr(estimators, name) and name in dir(regatta)
    with pytest.raises(AttributeError, match="Distributed"):
        regatta.DistributedHuber  # noqa: B018


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_examples(kind):
    (found,) = (each for each in doctest.DocTestFinder(recurse=False).find(kind) if each.examples)
    report: list[str] = []
    assert doctest.DocTestRunner().run(found, out=report.append).failed == 0, "".join(report)
