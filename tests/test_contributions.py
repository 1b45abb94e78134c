"""Predictions taken apart, rows made by hand, and coefficients as people read them."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regatta import export
from regatta.explain import charts, contributions
from regatta.explain.effects import Effect, effects_of, grouped
from regatta.fitted_model import FittedModel
from regatta.prediction import predict_file
from regatta.preprocessing import (
    BooleanEncoding,
    CategoryEncoding,
    DateEncoding,
    Feature,
    NumberEncoding,
    Preprocessing,
)
from regatta.solvers.inference import Units, infer
from regatta.solvers.statistics import Statistics

TOWNS = ("(missing)", "Bath", "York")
PREPROCESSING = Preprocessing(
    (
        NumberEncoding("size", 50.0, (Feature("size", 51.0, 10.0, low=20.0, high=90.0),)),
        CategoryEncoding(
            "town",
            TOWNS,
            True,
            (
                *(Feature(f"town={each}", 0.2 + 0.1 * i, 0.45, level=each)
                  for i, each in enumerate(TOWNS)),
                Feature("town=(other)", 0.1, 0.3),
            ),
            rare=("Ely",),
        ),
        BooleanEncoding("garden", 1.0, (Feature("garden", 0.7, 0.46),), "no", "yes"),
        DateEncoding(
            "built",
            18_000 * 86_400.0,
            (
                Feature("built:trend", 18_010.0, 300.0, part="trend", low=17_500.0, high=18_600.0),
                Feature("built:year_sin", 0.1, 0.7, part="year_sin"),
                Feature("built:year_cos", -0.1, 0.7, part="year_cos"),
                Feature("built:week_sin", 0.0, 0.7, part="week_sin"),
                Feature("built:week_cos", 0.0, 0.7, part="week_cos"),
            ),
            "%Y-%m-%d",
        ),
    ),
    "price",
)  # fmt: skip
MODEL = FittedModel(
    preprocessing=PREPROCESSING,
    weights=np.array([30.0, -2.0, 11.0, 4.5, -3.0, 0.0, 7.0, 1.0, -1.5, 0.25, 0.125]),
    intercept=200.0,
    model="ridge",
    alpha=1.0,
)
VALUES = {"size": 65.5, "town": "Bath", "garden": 0.0, "built": 18_123 * 86_400.0}


def explain(values: dict[str, Any], model: FittedModel = MODEL) -> contributions.Explanation:
    return contributions.explain(model, contributions.as_columns(model, values))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"size": None, "town": None, "garden": None, "built": None},
        {"town": "Ely"},
        {"town": "nowhere", "size": 1e6},
    ],
    ids=["a plain row", "all missing", "a rare level", "an unknown level far out"],
)
def test_contributions_add_up_to_the_prediction(changes: dict[str, Any]) -> None:
    explained = explain({**VALUES, **changes})
    total = math.fsum([explained.base, *(each.amount for each in explained.contributions)])
    assert total == pytest.approx(explained.prediction, rel=1e-13)
    assert explained.prediction == pytest.approx(
        float(MODEL.predict(contributions.as_columns(MODEL, {**VALUES, **changes}))[0]), rel=1e-15
    )
    sizes = [abs(each.amount) for each in explained.contributions]
    assert sizes == sorted(sizes, reverse=True) and len(sizes) == 4
    for most in (0, 1, 3, 4):
        shown, rest, count = explained.shown(most)
        assert len(shown) + count == 4 and (rest is None) == (count == 0)
        parts = [explained.base, *(each.amount for each in shown), rest or 0.0]
        assert math.fsum(parts) == pytest.approx(explained.prediction, rel=1e-13)


def test_the_parts_of_one_column_are_one_contribution() -> None:
    """By hand: the level's own indicator, and those of the others that are not set."""
    found = {each.column: each for each in explain(VALUES).contributions}
    assert found["size"].amount == pytest.approx(30.0 * (65.5 - 51.0) / 10.0)
    town = -2.0 * -0.2 / 0.45 + 11.0 * (1 - 0.3) / 0.45 + 4.5 * -0.4 / 0.45 - 3.0 * -0.1 / 0.3
    assert found["town"].amount == pytest.approx(town)
    assert found["garden"].amount == 0.0
    assert [found[name].value for name in ("size", "town", "garden", "built")] == [
        "65.5", "Bath", "no", "2019-08-15"
    ]  # fmt: skip


def test_a_row_by_hand_is_predicted_as_a_file_and_as_the_exported_model(tmp_path: Path) -> None:
    rows = [
        VALUES,
        contributions.typical_row(MODEL),
        {**VALUES, "size": None, "town": None},
        {**VALUES, "town": "Ely", "garden": 1.0},
    ]
    path, out = tmp_path / "rows.csv", tmp_path / "out.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["size", "town", "garden", "built"])
        for row in rows:
            day = np.datetime64(int(row["built"]), "s").astype("datetime64[D]")
            garden = ("no", "yes")[int(row["garden"])]
            writer.writerow([row["size"] or "", row["town"] or "", garden, day])
    predict_file(MODEL, path, out)
    with out.open(newline="") as file:
        by_file = [float(each["prediction"]) for each in csv.DictReader(file)]
    by_hand = [explain(row).prediction for row in rows]
    assert by_hand == pytest.approx(by_file, rel=1e-12)

    import pandas as pd
    import skops.io

    MODEL.save(tmp_path / "model.json")
    exported = tmp_path / "model.skops"
    done = export.export_model(tmp_path / "model.json", "sklearn", exported)
    pipeline = skops.io.load(exported, trusted=list(done.trusted_types))
    assert by_hand == pytest.approx(list(pipeline.predict(pd.read_csv(path))), rel=1e-9)


def test_a_typical_row_is_made_of_medians_and_of_the_commonest_words() -> None:
    assert contributions.typical_row(MODEL) == {
        "size": 50.0, "town": "York", "garden": 1.0, "built": 18_000 * 86_400.0
    }  # fmt: skip


def test_what_lies_beyond_the_training_rows_is_told() -> None:
    def told(**changes: Any) -> list[str]:
        return list(contributions.beyond_training(MODEL, {**VALUES, **changes}))

    assert told() == told(size=None) == told(size=20.0) == told(town="Ely") == []
    assert told(size=90.5) == ["size: 90.5 lies outside 20 … 90."]
    assert told(town="Leeds") == ["town: “Leeds” was not seen in the training."]
    (late,) = told(built=19_000 * 86_400.0)
    assert late == "built: 2022-01-08 lies outside 2017-11-30 … 2020-12-04."


def test_numbers_too_large_to_predict_from_are_refused() -> None:
    from regatta.utils import DataError

    with pytest.raises(DataError, match="too large"):
        explain({**VALUES, "size": 1.7e308})


def test_coefficients_come_in_both_units_with_the_intervals_of_least_squares() -> None:
    """Against the numbers of `solvers.inference`, for one unit and for one deviation more."""
    generator = np.random.default_rng(0)
    x = generator.normal([5.0, -2.0], [2.0, 0.5], size=(200, 2))
    y = x @ [3.0, -4.0] + 7.0 + generator.normal(size=200)
    means, scales = x.mean(axis=0), x.std(axis=0)
    z = (x - means) / scales
    rows = np.column_stack([z, np.ones(200), y - y.mean()])
    units = Units.of(means, scales, y_mean=float(y.mean()))
    inferred = infer(Statistics(rows.T @ rows), units=units)
    features = [Feature(n, float(m), float(s)) for n, m, s in zip("ab", means, scales, strict=True)]
    columns = tuple(NumberEncoding(each.name, each.mean, (each,)) for each in features)
    model = FittedModel(
        preprocessing=Preprocessing(columns, "y"),
        weights=inferred.weights * scales,
        intercept=float(y.mean()),
        model="linear",
    )
    inference = {**inferred.to_json(["a", "b"]), "reference_levels": {}}
    found = {each.name: each for each in effects_of(model, inference)}
    for place, name in enumerate("ab"):
        effect = found[name]
        assert effect.coefficient == pytest.approx(inferred.estimates[place])
        assert effect.standardised == pytest.approx(inferred.estimates[place] * scales[place])
        ends = effect.ends(standardised=True)
        assert ends == pytest.approx(
            (inferred.low[place] * scales[place], inferred.high[place] * scales[place])
        )
    assert [each.name for each in effects_of(model, inference)] == ["a", "b"]
    without = effects_of(model, {"why_not": "No."})
    assert without[0].ends(standardised=False) is None
    assert without[0].coefficient == pytest.approx(found["a"].coefficient)


def test_levels_are_told_against_their_reference_and_stand_together() -> None:
    inference = {
        "reference_levels": {"town": "town=(missing)"},
        "coefficients": [
            {"name": "(intercept)", "estimate": 1.0},
            *({"name": name, "estimate": value, "low": value - 1, "high": value + 1}
              for name, value in (("size", 3.0), ("town=Bath", 80.0), ("town=York", 2.0),
                                  ("town=(other)", -1.0))),
        ],
    }  # fmt: skip
    found = {each.name: each for each in effects_of(MODEL, inference)}
    assert found["town=Bath"].label == "town=Bath vs (missing)"
    assert found["town=(missing)"].is_reference and found["town=(missing)"].coefficient == 0.0
    assert found["town=(other)"].level == "(other)"
    assert found["size"].label == "size" and found["size"].ends(standardised=False) == (2.0, 4.0)
    columns = [each.column for each in grouped(effects_of(MODEL, inference))]
    assert columns[:5] == ["town"] * 4 + ["size"]
    chart = charts.forest(effects_of(MODEL, inference), standardised=False)
    assert "town=Bath vs (missing) 80 (79 to 81)" in chart.text
    assert "(reference)" not in chart.text
    # Zero lies within the intervals of York's and of what was not estimated: hollow.
    assert "circle-open" in chart.traces[-1]["marker"]["symbol"]


def test_a_chart_of_ten_thousand_coefficients_or_of_zeros_stays_readable() -> None:
    many = [Effect(f"x{i}", f"x{i}", None, None, float(i), 1.0) for i in range(10_000, 0, -1)]
    chart = charts.forest(many, standardised=True)
    assert len(chart.traces[-1]["x"]) == charts.MOST_EFFECTS
    zeros = [Effect(f"x{i}", f"x{i}", None, None, 0.0, 1.0) for i in range(30)]
    assert len(charts.forest(zeros, standardised=True).traces[-1]["x"]) == 1
    parts = tuple(contributions.Contribution(f"x{i}", "1", 1.0) for i in range(10_000))
    waterfall = charts.waterfall(contributions.Explanation(5.0, parts, 10_005.0), actual=1.0)
    bars = waterfall.traces[0]
    assert bars["x"][-1] == 10_000 - charts.MOST_CONTRIBUTIONS
    assert bars["base"][-1] + bars["x"][-1] == 10_005.0
    assert "9,988 other columns" in waterfall.text and "actual value is 1" in waterfall.text


def test_names_of_columns_are_no_markup() -> None:
    effect = Effect("<b>x</b> %{y}", "<b>x</b>", None, None, 1.0, 1.0)
    drawn = charts.forest([effect], standardised=True)
    assert "<b>" not in str(drawn.traces) + str(drawn.layout)
    assert "%{y}" not in str(drawn.layout["yaxis"])
