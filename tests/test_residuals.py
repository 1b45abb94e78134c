"""Errors on held-out rows: against NumPy and scikit-learn, in batches of any size."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regatta.configuration import TrainingConfig
from regatta.coordinator import run_training
from regatta.explain import charts, held_out, residuals
from regatta.explain.held_out import Batch
from regatta.fitted_model import FittedModel
from regatta.prediction import predict_file
from regatta.runs.directory import RunDirectory
from regatta.runs.store import RunStore
from regatta.utils import UserError, read_json

ROWS = 900


@dataclass(frozen=True)
class Trained:
    """A finished run, with what is needed to look at it."""

    directory: RunDirectory
    config: TrainingConfig

    @property
    def model(self) -> FittedModel:
        return FittedModel.load(self.directory.model)

    @property
    def result(self) -> dict[str, Any]:
        return dict(read_json(self.directory.result))

    def rows(self) -> held_out.RunRows:
        table = held_out.find_table(self.config, self.result)
        return held_out.open_rows(table, self.config, self.result, self.model)


def write_rows(path: Path, count: int = ROWS, seed: int = 0) -> Path:
    """Numbers with gaps, a text column with gaps, a date, two words; lines of data that are blank
    and a cell of two lines, so that rows and lines part."""
    generator = np.random.default_rng(seed)
    lines = ["size,town,built,garden,note,price"]
    for i in range(count):
        size = generator.normal(50, 10)
        town = ("Bath", "York", "Ely", "")[int(generator.integers(4))]
        price = 3 * size + (40 if town == "Bath" else 0) + generator.standard_t(3) * 5 + i % 12
        cell = "" if i % 17 == 0 else f"{size:.3f}"
        note = f'"two\nlines {i}"' if i == 400 else f"note {i}"
        lines.append(f"{cell},{town},2020-{i % 12 + 1:02d}-{i % 28 + 1:02d},"
                     f"{'yes' if i % 3 else 'no'},{note},{price:.3f}")  # fmt: skip
        if i == 200:
            lines.append("")
    path.write_text("\n".join(lines) + "\n")
    return path


def train(path: Path, home: Path, target: str = "price", **settings: Any) -> Trained:
    store = RunStore(home)
    config = TrainingConfig(path=str(path), target=target, workers=0, **settings)
    run_id = store.create(config).run_id
    run_training(run_id, store)
    return Trained(store.directory(run_id), store.config(run_id))


@pytest.fixture(
    params=[
        {"model": "linear"},
        {"model": "ridge", "solver": "sgd", "epochs": 3},
    ],
    ids=["from columns", "rows on disk"],
)
def trained(
    request: pytest.FixtureRequest, regatta_home: Path, tmp_path: Path
) -> Iterator[Trained]:
    yield train(write_rows(tmp_path / "houses.csv"), regatta_home, **request.param)


def predictions(trained: Trained, tmp_path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Actual and predicted of all rows of the file, by the way that files take."""
    out = tmp_path / "out.csv"
    predict_file(trained.model, Path(trained.config.path), out)
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return (
        np.array([float(each["price"]) for each in rows]),
        np.array([float(each["prediction"]) for each in rows]),
    )


def test_held_out_errors_are_those_of_numpy_and_scikit_learn(
    trained: Trained, tmp_path: Path
) -> None:
    from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

    found = residuals.of_run(trained.directory, trained.config)
    actual, predicted = predictions(trained, tmp_path)
    assert found["rows"] == trained.result["rows_validation"] == len(found["points"]["row"])
    chosen = np.array(found["points"]["row"]) - 1
    np.testing.assert_allclose(found["points"]["actual"], actual[chosen])
    np.testing.assert_allclose(found["points"]["predicted"], predicted[chosen], rtol=1e-12)
    y, fitted = actual[chosen], predicted[chosen]
    scores = found["scores"]
    assert scores["r2"] == pytest.approx(r2_score(y, fitted), rel=1e-10)
    assert scores["rmse"] == pytest.approx(root_mean_squared_error(y, fitted), rel=1e-10)
    assert scores["mae"] == pytest.approx(mean_absolute_error(y, fitted), rel=1e-10)
    assert scores["deviation"] == pytest.approx(np.std(y - fitted), rel=1e-10)
    # What training has told of the same rows, there in its own precision.
    told = trained.result["metrics"]["validation"]
    assert scores["r2"] == pytest.approx(told["r2"], abs=1e-4)
    largest = chosen[np.argsort(-np.abs(y - fitted), kind="stable")][:20]
    assert [each["row"] for each in found["outliers"]] == (largest + 1).tolist()
    first = found["outliers"][0]
    residual = actual[largest[0]] - predicted[largest[0]]
    assert first["residual"] == pytest.approx(residual)
    assert first["deviations"] == pytest.approx(residual / np.std(y - fitted))


def test_lines_are_those_of_the_file(trained: Trained) -> None:
    """A blank line and a cell of two lines lie between: row and line part twice."""
    rows = trained.rows()
    text = Path(trained.config.path).read_text().split("\n")
    for number in (1, 200, 201, 202, 400, 401, 402, ROWS):
        line = rows.line(number)
        assert line is not None
        size = rows.row(number).columns["size"][0]
        cell = text[line - 1].split(",")[0]
        assert f"{size:.3f}" == cell or (cell == "" and size != size)
        assert f"note {number - 1}," in text[line - 1] or number == 401
    assert rows.line(401) == 403 and rows.line(402) == 405


def test_batches_of_any_size_give_the_same(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = residuals.summarise(trained.rows())
    monkeypatch.setattr(held_out, "MAX_BATCH_ROWS", 7)
    parts = residuals.summarise(trained.rows())
    assert [each["row"] for each in whole["outliers"]] == [e["row"] for e in parts["outliers"]]
    assert parts["points"]["row"] == whole["points"]["row"]
    np.testing.assert_allclose(
        parts["points"]["predicted"], whole["points"]["predicted"], rtol=1e-13
    )
    for name, value in whole["scores"].items():
        assert parts["scores"][name] == pytest.approx(value, rel=1e-12)


def test_a_row_says_what_it_was_used_for(trained: Trained) -> None:
    rows, found = trained.rows(), residuals.of_run(trained.directory, trained.config)
    held = found["points"]["row"]
    assert [rows.row(number).part for number in range(1, ROWS + 1)].count("held out") == len(held)
    middle = held[len(held) // 2]
    before, after = rows.neighbours(middle)
    assert (before, after) == (held[len(held) // 2 - 1], held[len(held) // 2 + 1])
    assert rows.neighbours(held[0])[0] is None and rows.neighbours(held[-1])[1] is None
    with pytest.raises(UserError, match=r"no row 901"):
        rows.row(901)


def test_what_was_found_is_kept_until_the_model_changes(trained: Trained) -> None:
    found = residuals.of_run(trained.directory, trained.config)
    Path(trained.config.path).unlink()
    shutil.rmtree(trained.directory.path.parent.parent / "datasets")
    assert residuals.of_run(trained.directory, trained.config) == found
    result = trained.result | {"weights_sha256": "another"}
    assert residuals.kept_summary(trained.directory) is not None
    from regatta.utils import write_json

    write_json(trained.directory.result, result)
    assert residuals.kept_summary(trained.directory) is None


def test_a_file_that_is_gone_or_changed_is_told(trained: Trained) -> None:
    """Regatta's copy is enough; without it the file must be the same."""
    path = Path(trained.config.path)
    kept = path.read_bytes()
    residuals.path_of(trained.directory).unlink(missing_ok=True)
    shutil.rmtree(trained.directory.path.parent.parent / "datasets")
    path.unlink()
    with pytest.raises(UserError, match=r"houses\.csv is gone"):
        residuals.of_run(trained.directory, trained.config)
    path.write_bytes(b"\n".join(kept.split(b"\n")[:-40]) + b"\n")
    with pytest.raises(UserError, match="has changed since the training"):
        residuals.of_run(trained.directory, trained.config)
    path.write_bytes(kept)
    assert residuals.of_run(trained.directory, trained.config)["rows"] > 0


def batches(actual: np.ndarray, predicted: np.ndarray, size: int = 1000) -> Iterator[Batch]:
    for start in range(0, len(actual), size):
        part = slice(start, start + size)
        yield Batch(np.arange(len(actual))[part], actual[part], predicted[part])


def test_many_rows_are_sampled_and_still_scored_exactly() -> None:
    generator = np.random.default_rng(1)
    predicted = generator.normal(10, 3, 40_000)
    actual = predicted + generator.normal(size=40_000)
    errors = residuals.Errors(40_000, most_kept=8_000)
    for each in batches(actual, predicted):
        errors.add(each)
    kept = errors.kept()
    assert 7_500 < len(kept.rows) < 8_500
    assert errors.scores()["rmse"] == pytest.approx(np.sqrt(np.mean((actual - predicted) ** 2)))
    largest = np.argsort(-np.abs(actual - predicted))[:20]
    assert [row for row, _, _ in errors.largest()] == largest.tolist()
    again = residuals.Errors(40_000, most_kept=8_000)
    for each in batches(actual, predicted, 333):
        again.add(each)
    np.testing.assert_array_equal(again.kept().rows, kept.rows)
    drawn = residuals.drawn(kept)
    assert drawn["points"] is None
    for grid in (drawn["density"], drawn["residual_density"]):
        assert np.sum(grid["counts"]) + grid["outside"] == len(kept.rows)
    bars = drawn["histogram"]
    assert sum(bars["counts"]) + bars["below"] + bars["above"] == len(kept.rows)


def test_medians_in_bins_are_those_of_the_rows_in_them() -> None:
    generator = np.random.default_rng(2)
    x, y = generator.normal(size=3_000), generator.exponential(size=3_000)
    bins = residuals.medians(x, y)
    assert len(bins) == residuals.MEDIAN_BINS and sum(each["rows"] for each in bins) == 3_000
    edges = np.quantile(x, np.linspace(0, 1, 21))
    inside = (x >= edges[4]) & (x < edges[5])
    assert bins[4]["median"] == pytest.approx(np.median(y[inside]))
    assert bins[4]["x"] == pytest.approx(np.median(x[inside]))
    assert bins[4]["low"] == pytest.approx(np.quantile(y[inside], 0.25))


def test_of_equal_errors_the_first_rows_are_named() -> None:
    actual = np.ones(100_000)
    actual[[70_000, 90_000]] = 5.0
    errors = residuals.Errors(len(actual))
    for each in batches(actual, np.zeros(len(actual)), 60_000):
        errors.add(each)
    rows = [row for row, _, _ in errors.largest()]
    assert rows == [70_000, 90_000, *range(18)]


def test_a_far_outlier_does_not_press_the_chart_into_a_corner() -> None:
    values = np.append(np.random.default_rng(3).normal(size=20_000), 1e9)
    grid = residuals.density(values, values, alike=True)
    assert grid["x"][1] < 10 and 0 < grid["outside"] < 20
    assert 0 < residuals.histogram(values)["above"] < 20
    even = residuals.density(np.arange(20_000.0), np.arange(20_000.0))
    assert even["outside"] == 0 and even["x"] == [0.0, 19_999.0]


def test_a_bend_is_told_though_one_row_is_far_off() -> None:
    """That row alone is most of the deviation, which would hide every pattern."""
    x = np.linspace(-1, 1, 900)
    noise = np.random.default_rng(4).normal(size=900) * 0.1

    def told(actual: np.ndarray) -> str:
        actual[450] += 1_000
        return charts.medians_in_words(residuals.drawn(Batch(np.arange(900), actual, x)))

    assert "the model is too low there" in told(x + x**2 - 1 / 3 + noise)
    assert "stays near zero" in told(x + noise)


@pytest.mark.parametrize(
    ("actual", "predicted"),
    [([1.0], [1.0]), ([2.0, 2.0, 2.0], [2.0, 2.0, 2.0]), ([1.0, 3.0], [2.0, 2.0])],
    ids=["one row", "no error at all", "a constant prediction"],
)
def test_few_rows_and_constant_ones_can_be_drawn(
    actual: list[float], predicted: list[float]
) -> None:
    errors = residuals.Errors(len(actual))
    errors.add(Batch(np.arange(len(actual)), np.array(actual), np.array(predicted)))
    found = {"target": "y", "rows": len(actual), "drawn": len(actual), "scores": errors.scores(),
             "outliers": [], **residuals.drawn(errors.kept())}  # fmt: skip
    for draw in (charts.predicted_against_actual, charts.residuals_against_fitted,
                 charts.residual_histogram):  # fmt: skip
        chart = draw(found)
        assert chart.traces and "held-out row" in chart.text
