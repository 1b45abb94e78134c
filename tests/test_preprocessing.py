"""The fitted encoding: arithmetic, unknown levels, JSON."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regatta.preprocessing import (
    MAX_LEVELS,
    BooleanEncoding,
    CategoryEncoding,
    DateEncoding,
    DroppedColumn,
    Feature,
    NumberEncoding,
    Preprocessing,
    choose_levels,
    date_part,
)
from regatta.utils import DataError


@pytest.fixture
def preprocessing() -> Preprocessing:
    return Preprocessing(
        columns=(
            NumberEncoding("size", 5.0, (Feature("size", 4.0, 2.0),), ("none",), ",", "."),
            BooleanEncoding("smoker", 0.0, (Feature("smoker", 0.25, 0.5),), "no", "yes"),
            CategoryEncoding(
                "town",
                ("(missing)", "Bath"),
                True,
                (
                    Feature("town=(missing)", 0.0, 1.0, level="(missing)"),
                    Feature("town=Bath", 0.5, 0.5, level="Bath"),
                    Feature("town=(other)", 0.0, 1.0, level=None),
                ),
            ),
            DateEncoding(
                "day",
                86_400.0,
                (
                    Feature("day:trend", 1.0, 10.0, part="trend"),
                    Feature("day:week_sin", 0.0, 1.0, part="week_sin"),
                ),
                "%Y-%m-%d",
            ),
        ),
        target="price",
        dropped=(DroppedColumn("id", "identifier"),),
    )


def columns() -> dict[str, np.ndarray]:
    return {
        "size": np.array([6.0, np.nan, 4.0]),
        "smoker": np.array([1.0, 0.0, np.nan]),
        "town": np.array(["Bath ", None, "Rome"], dtype=object),
        "day": np.array([0.0, np.nan, 7 * 86_400.0]),
    }


def test_transform_imputes_encodes_and_standardises(preprocessing: Preprocessing) -> None:
    x = preprocessing.transform(columns())
    assert x.flags.c_contiguous
    sine = np.sin(2 * np.pi / 7)
    expected = [
        [1.0, 1.5, 0.0, 1.0, 0.0, -0.1, 0.0],
        [0.5, -0.5, 1.0, -1.0, 0.0, 0.0, sine],
        [0.0, -0.5, 0.0, -1.0, 1.0, 0.6, 0.0],
    ]
    np.testing.assert_allclose(x, expected, atol=1e-12)


def test_json_round_trip(preprocessing: Preprocessing) -> None:
    again = Preprocessing.from_json(json.loads(json.dumps(preprocessing.to_json())))
    assert again == preprocessing
    np.testing.assert_array_equal(again.transform(columns()), preprocessing.transform(columns()))


def test_a_missing_column_is_named(preprocessing: Preprocessing) -> None:
    without = columns()
    without["Town"] = without.pop("town")
    with pytest.raises(DataError, match="'town'") as caught:
        preprocessing.transform(without)
    assert caught.value.column == "town"
    assert "'Town'" in caught.value.hint


def test_unknown_level_without_other_sets_nothing() -> None:
    encoding = CategoryEncoding("c", ("a",), False, (Feature("c=a", 0.0, 1.0, level="a"),))
    out = np.empty((1, 3))
    encoding.encode(np.array(["a", "z", None], dtype=object), out)
    np.testing.assert_array_equal(out, [[1.0, 0.0, 0.0]])


@given(st.dictionaries(st.text(max_size=3) | st.none(), st.integers(0, 40), max_size=120))
@settings(max_examples=100, deadline=None)
def test_levels_have_rows_and_a_cap(counts: dict[str | None, int]) -> None:
    levels, other = choose_levels(counts)
    assert len(levels) + other <= MAX_LEVELS
    assert list(levels) == sorted(levels)
    present = {k for k, n in counts.items() if n}
    assert other == (len(levels) < len(present))
    for level in levels:
        rows = counts.get(level, 0) + (counts.get(None, 0) if level == "(missing)" else 0)
        assert rows >= 10


@given(st.floats(-1e5, 1e5))
def test_cyclic_parts_lie_on_the_unit_circle(day: float) -> None:
    days = np.array([day])
    for period in ("year", "week", "day"):
        sine, cosine = date_part(days, f"{period}_sin"), date_part(days, f"{period}_cos")
        np.testing.assert_allclose(sine**2 + cosine**2, 1.0)
