"""The model artifact: exact round trip, prediction, coefficients, refusal of damaged files."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regatta.fitted_model import FittedModel, weights_sha256
from regatta.preprocessing import CategoryEncoding, Feature, NumberEncoding, Preprocessing
from regatta.utils import DataError, RegattaError

NUMBERS = st.floats(-1e9, 1e9, allow_nan=False)


def number(name: str, mean: float = 0.0, scale: float = 1.0) -> NumberEncoding:
    return NumberEncoding(name, mean, (Feature(name, mean, scale),))


def a_model(weights: list[float], intercept: float = 1.0) -> FittedModel:
    columns = tuple(number(f"x{i}", 10.0 * i, 1.0 + i) for i in range(len(weights)))
    return FittedModel(
        preprocessing=Preprocessing(columns, "y"),
        weights=np.array(weights),
        intercept=intercept,
        model="ridge",
        alpha=0.5,
        run_id="a-run",
        rows_train=80,
        metrics={"train": {"r2": 0.9}},
        dialect={"delimiter": ";"},
    )


@given(st.lists(NUMBERS, min_size=1, max_size=5), NUMBERS)
def test_a_saved_model_is_the_same_to_the_last_bit(weights: list[float], intercept: float) -> None:
    model = a_model(weights, intercept)
    again = FittedModel.from_json(json.loads(json.dumps(model.to_json())))
    assert again.weights.tobytes() == model.weights.tobytes()
    assert again.to_json() == model.to_json()
    assert again.weights_sha256 == model.weights_sha256


def test_a_model_is_saved_to_a_file_and_loaded(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    a_model([1.0, -2.0]).save(path)
    assert FittedModel.load(path).to_json() == a_model([1.0, -2.0]).to_json()
    assert [each.name for each in tmp_path.iterdir()] == ["model.json"]


def test_the_hash_is_over_the_bytes_of_weights_and_intercept() -> None:
    expected = hashlib.sha256(struct.pack("<3d", 1.5, -2.0, 3.25)).hexdigest()
    assert weights_sha256([1.5, -2.0], 3.25) == expected


@given(st.lists(st.floats(-100, 100), min_size=3, max_size=3))
def test_coefficients_in_original_units_predict_the_same(row: list[float]) -> None:
    model = a_model([1.0, -2.0, 0.25], 7.0)
    columns = {f"x{i}": np.array([value]) for i, value in enumerate(row)}
    by_coefficients = model.original_intercept + sum(
        coefficient * columns[name][0] for name, coefficient in model.coefficients().items()
    )
    assert by_coefficients == pytest.approx(model.predict(columns)[0], rel=1e-12, abs=1e-9)


def test_missing_numbers_and_unknown_words_are_predicted() -> None:
    levels = tuple(Feature(f"c={level}", 0.5, 0.5, level) for level in ("a", "b"))
    columns = (number("x", 4.0, 2.0), CategoryEncoding("c", ("a", "b"), False, levels))
    model = FittedModel(
        preprocessing=Preprocessing(columns, "y"),
        weights=np.array([3.0, 1.0, 2.0]),
        intercept=10.0,
        model="linear",
    )
    found = model.predict({"x": np.array([np.nan, 6.0]), "c": np.array(["z", "b"], dtype=object)})
    # The mean stands for the missing number; "z" sets no indicator: -1 * 1 - 1 * 2.
    assert found.tolist() == [10.0 - 3.0, 10.0 + 3.0 - 1.0 + 2.0]


def test_a_missing_column_is_named() -> None:
    with pytest.raises(DataError, match="x1"):
        a_model([1.0, 2.0]).predict({"x0": np.zeros(3)})


def test_no_model_where_the_run_has_not_finished(tmp_path: Path) -> None:
    with pytest.raises(RegattaError, match="no model"):
        FittedModel.load(tmp_path / "model.json")


@pytest.mark.parametrize(
    "damage",
    [
        {"format": "something else"},
        {"version": 2},
        {"weights": [1.0]},
        {"weights": [1.0, None]},
        {"intercept": None},
        {"surprise": 1},
        {"preprocessing": {"columns": []}},
        {"preprocessing": None},
    ],
)
def test_a_damaged_model_is_refused_with_a_sentence(
    tmp_path: Path, damage: dict[str, object]
) -> None:
    path = tmp_path / "model.json"
    path.write_text(json.dumps({**a_model([1.0, 2.0]).to_json(), **damage}))
    with pytest.raises(RegattaError, match=r"odel"):
        FittedModel.load(path)


def test_half_a_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    text = json.dumps(a_model([1.0, 2.0]).to_json())
    path.write_text(text[: len(text) // 2])
    with pytest.raises(RegattaError, match="damaged"):
        FittedModel.load(path)
