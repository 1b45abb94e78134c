"""What is told of a file's predictions, against NumPy over all of its rows."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regatta import outlook as outlooks
from regatta.fitted_model import FittedModel
from regatta.outlook import Outlook, histograms
from regatta.prediction import predict_file
from regatta.preprocessing import Feature, NumberEncoding
from regatta.tests.test_export import a_model, category, date, number


def ranged(name: str, low: float, high: float) -> NumberEncoding:
    return NumberEncoding(name, 0.5, (Feature(name, 0.0, 1.0, low=low, high=high),))


def a_ranged_model() -> FittedModel:
    day = date("day", "%Y-%m-%d", ("trend", "year_sin"))
    trend = replace(day.features[0], low=18_262.0, high=18_627.0)  # 2020
    columns = (
        ranged("a", 0.0, 1.0), ranged("b", -5.0, 5.0), number("unknown"),
        category("c", "x", "y"), replace(day, features=(trend, day.features[1])),
    )  # fmt: skip
    return a_model(*columns)


def test_rows_beyond_the_training_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "new.csv"
    path.write_text(
        "a,b,unknown,c,day,note\n"
        "0.5,0,1e6,x,2020-06-01,within\n"
        "1.5,0,1,x,2020-06-01,beyond a\n"
        "-1,9,1,y,2020-06-01,beyond a and b\n"
        ",,,,,nothing at all\n"
        "0,5,1,new,2020-01-01,a new text\n"
        "1,-5,1,x,2021-06-01,beyond day\n"
    )
    done = predict_file(a_ranged_model(), path, tmp_path / "out.csv")
    found = done.outlook
    assert (found.rows, found.rows_beyond) == (6, 5)  # a missing text is new to c
    assert {each.column: each.rows for each in found.beyond} == {"a": 2, "b": 1, "day": 1}
    (first, *_) = found.beyond
    assert (first.column, first.seen_low, first.seen_high) == ("a", -1.0, 1.5)
    (new,) = found.new_texts
    assert (new.column, new.rows, new.texts, new.more) == ("c", 2, ["(missing)", "new"], False)
    assert found.preview[0][0][-1] == "within" and len(found.preview) == 6
    (sentence,) = found.sentences()
    assert sentence.startswith("5 of 6 rows reach beyond") and "'a' in 2" in sentence
    path.write_text("a,b,unknown,c,day\n9,0,1,x,2020-06-01\n")
    (sentence,) = predict_file(a_ranged_model(), path, tmp_path / "out.csv").outlook.sentences()
    assert sentence.startswith("1 of 1 row reaches beyond")


def test_of_many_new_texts_the_first_are_named() -> None:
    found = outlooks.NewTexts("c")
    found.add(["a", "b"], 2)
    found.add(["b", "c", "d"], 3)
    assert (found.texts, found.more) == (["a", "b", "c", "d"], False)
    found.add(["e" * 1000], 1)
    assert (found.rows, found.texts, found.more) == (6, ["a", "b", "c", "d"], True)
    found.add(["a"], 1)
    assert found.more


def test_all_within_is_not_worth_a_sentence() -> None:
    outlook = Outlook(a_model(ranged("a", 0.0, 1.0)))
    outlook.add(["a"], [["1"]], {"a": np.array([1.0])}, np.array([2.0]))
    outlook.add(["a"], [], {"a": np.empty(0)}, np.empty(0))
    assert outlook.sentences() == [] and outlook.rows_beyond == 0


@pytest.mark.parametrize("size", [7, 1_000, 100_000])
def test_many_predictions_are_kept_at_equal_distances(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outlooks, "MOST_KEPT", 500)
    outlook = Outlook(a_model(ranged("a", 0.0, 1e9)))
    values = np.arange(4_321.0)
    for start in range(0, len(values), size):
        part = values[start : start + size]
        cells = [[str(each)] for each in part]
        outlook.add(["a"], cells, {"a": part}, part)
    kept = outlook.kept()
    assert 250 <= len(kept) <= 500
    steps = {b - a for a, b in itertools.pairwise(kept.tolist())}
    assert kept[0] == 0 and len(steps) == 1
    assert (outlook.low, outlook.high, outlook.rows) == (0.0, 4_320.0, 4_321)
    assert outlook.total == values.sum() and len(outlook.preview) == outlooks.PREVIEW_ROWS


@pytest.mark.parametrize(
    ("predictions", "actual"),
    [
        (np.linspace(0, 1, 500), np.linspace(-1, 2, 900)),
        (np.ones(3), None),
        (np.empty(0), None),
        (np.append(np.zeros(9_000), 1e12), np.linspace(-1, 1, 9_000)),
    ],
)
def test_shares_of_bars(predictions: Any, actual: Any) -> None:
    found = histograms(predictions, actual)
    assert sum(found["predictions"]) + found["outside"] == pytest.approx(
        float(len(predictions) > 0)
    )
    assert found["width"] > 0
    if actual is not None:
        assert sum(found["actual"]) == pytest.approx(1, abs=0.01)
        assert found["width"] < 1
