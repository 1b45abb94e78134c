"""A file to predict is held against the one of the training: what differs is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regatta.data_pipeline import import_csv, prepare, read_for_prediction
from regatta.ingest.schema import Deviation, SchemaCheck, sentences
from regatta.preprocessing import CategoryEncoding, Preprocessing
from regatta.utils import DataError, UserError

pytestmark = pytest.mark.usefixtures("regatta_home")

NAMES = ["size", "price", "town", "ok", "day"]
GOOD = ["1.5", "20.25", "Bath", "yes", "2020-05-17"]


@pytest.fixture
def preprocessing(tmp_path: Path) -> Preprocessing:
    """Of a training with two towns, and a third that was rare."""
    generator = np.random.default_rng(0)
    lines = [",".join([*NAMES, "y"])]
    for i in range(300):
        size, price, y = generator.normal(0, 50, 3).round(2).tolist()
        town = "Deal" if i % 100 == 7 else ["Bath", "York"][i % 2]
        lines.append(
            f"{size},{price},{town},{['yes', 'no'][i % 3 == 0]},2020-{i % 12 + 1:02d}-17,{y}"
        )
    path = tmp_path / "training.csv"
    path.write_text("\n".join(lines) + "\n")
    return prepare(import_csv(path), target="y").preprocessing


def read(
    tmp_path: Path, preprocessing: Preprocessing, rows: list[list[str]], **choices: Any
) -> tuple[dict[str, Any], list[Deviation]]:
    """The values that are predicted from, and what differs."""
    path = tmp_path / "new.csv"
    delimiter = choices.pop("delimiter", ",")
    names = choices.pop("names", NAMES)
    encoding = choices.pop("encoding", "utf-8")
    lines = [delimiter.join(cells) for cells in [names, *rows]]
    path.write_bytes(("\n".join(lines) + "\n").encode(encoding))
    check = SchemaCheck(**choices)
    batches = list(read_for_prediction(path, preprocessing, check))
    columns = [column.name for column in preprocessing.columns]
    return {
        name: np.concatenate([batch.columns[name] for batch in batches]) for name in columns
    }, check.deviations


def changed(place: int, cells: dict[int, str], rows: int = 40) -> list[list[str]]:
    """Good rows with other cells in a column."""
    return [
        [cells.get(row, cell) if at == place else cell for at, cell in enumerate(GOOD)]
        for row in range(rows)
    ]


def test_a_file_like_the_training_has_no_deviation(
    tmp_path: Path, preprocessing: Preprocessing
) -> None:
    rows = changed(2, {3: "York", 5: "Deal"})  # the rare one was seen, too
    rows[7][0] = rows[8][3] = ""
    assert read(tmp_path, preprocessing, rows)[1] == []


def test_all_missing_columns_are_named(tmp_path: Path, preprocessing: Preprocessing) -> None:
    names = ["sizes", "Price", "town", "ok", "day"]
    with pytest.raises(DataError, match=r"2 columns .* missing: 'size', 'price'") as caught:
        read(tmp_path, preprocessing, [GOOD], names=names)
    assert "It has 'Price' for 'price'" in caught.value.hint
    assert caught.value.column == "size"


@pytest.mark.parametrize(
    ("place", "words"), [(0, "numbers"), (3, "neither 'no' nor 'yes'"), (4, "year-month-day")]
)
def test_cells_of_another_type_are_counted(
    tmp_path: Path, preprocessing: Preprocessing, place: int, words: str
) -> None:
    rows = changed(place, {3: "odd", 10: "odd", 30: "other"})
    with pytest.raises(DataError, match=words) as caught:
        read(tmp_path, preprocessing, rows)
    error = caught.value
    assert f"3 of 40 cells of column {NAMES[place]!r} are n" in error.message
    assert "('odd', 'other'): line 5, 12, 32." in error.message
    assert (error.row, error.column) == (5, NAMES[place])
    values, (deviation,) = read(tmp_path, preprocessing, rows, on_bad_cells="missing")
    assert np.flatnonzero(np.isnan(values[NAMES[place]])).tolist() == [3, 10, 30]
    assert (deviation.kind, deviation.cells, deviation.rows) == ("misfit", 3, (5, 12, 32))


def test_cells_are_counted_over_the_whole_file(
    tmp_path: Path, preprocessing: Preprocessing
) -> None:
    """The first odd cell stands far down; behind it there are more, in two columns."""
    rows = changed(0, dict.fromkeys(range(60000, 90000), "n/k"), rows=100_000)
    rows[70_000][4] = "soon"
    with pytest.raises(DataError) as caught:
        read(tmp_path, preprocessing, rows)
    assert "30,000 of 100,000 cells of column 'size'" in caught.value.message
    assert "1 of 100,000 cells of column 'day'" in caught.value.message
    assert (caught.value.row, caught.value.column) == (60_002, "size")


def test_new_texts(tmp_path: Path, preprocessing: Preprocessing) -> None:
    rows = changed(2, {1: "Hull", 2: "", 4: "Hull", 6: " Bath "})
    values, (deviation,) = read(tmp_path, preprocessing, rows)
    assert (deviation.kind, deviation.column, deviation.cells) == ("new_levels", "town", 3)
    assert deviation.rows == (3, 4, 6)
    assert "3 of 40 cells of column 'town' were not seen in the training" in deviation.message
    assert "('Hull', '')" in deviation.message
    assert "count as (other)" in deviation.message
    assert values["town"][1] == "Hull"
    with pytest.raises(DataError, match="'Hull'") as caught:
        read(tmp_path, preprocessing, rows, on_new_levels="refuse")
    assert "--on-new-levels other" in caught.value.hint


def test_what_is_told_of_new_texts_depends_on_what_is_known() -> None:
    def told(*rest: Any) -> str:
        from regatta.ingest.schema import new_levels_in_words

        return new_levels_in_words(CategoryEncoding("c", ("a",), *rest))

    assert told(True, (), ("b",)) == "were not seen in the training and count as (other)"
    assert "or were rare" in told(True, ())
    assert told(False, ()).endswith("none of the known ones")


def test_another_way_to_write_numbers_and_dates(
    tmp_path: Path, preprocessing: Preprocessing
) -> None:
    rows = [["1,5", "20,25", "Bath", "yes", f"{day}.05.2020"] for day in range(10, 30)]
    values, deviations = read(tmp_path, preprocessing, rows, delimiter=";")
    assert values["size"].tolist() == [1.5] * 20
    said = {each.column: each.message for each in deviations}
    assert set(said) == {"size", "price", "day"}
    assert "decimal comma, in the training with decimal point" in said["size"]
    assert "day.month.year, in the training with year-month-day" in said["day"]
    assert {each.kind for each in deviations} == {"style"}
    together, day = sentences(deviations)
    assert together.startswith("Columns 'size', 'price' are written with decimal comma, in the")
    assert day == said["day"]


def test_marks_that_do_not_go_together(tmp_path: Path, preprocessing: Preprocessing) -> None:
    """With decimal commas beside it, 1.234 may be more than a thousand."""
    rows = [["1.234", "20,25", "Bath", "yes", "2020-05-17"]] * 20
    deviations = read(tmp_path, preprocessing, rows, delimiter=";")[1]
    (doubtful,) = [each for each in deviations if each.column == "size"]
    assert "decimal mark '.' as in the training, but 'price' has ','" in doubtful.message


def test_a_guessed_encoding_is_told(tmp_path: Path, preprocessing: Preprocessing) -> None:
    rows = changed(2, {1: "Zürich"})
    deviations = read(tmp_path, preprocessing, rows, encoding="latin-1")[1]
    assert [each.kind for each in deviations] == ["encoding", "new_levels"]
    assert "cp1252" in deviations[0].message


def test_other_choices_are_refused() -> None:
    for choices in ({"on_bad_cells": "zero"}, {"on_new_levels": "none"}):
        with pytest.raises(UserError, match="It must be"):
            SchemaCheck(**choices)


def test_the_levels_of_the_training_are_kept_with_the_model(preprocessing: Preprocessing) -> None:
    loaded = Preprocessing.from_json(preprocessing.to_json())
    assert loaded == preprocessing
    (town,) = [each for each in loaded.columns if isinstance(each, CategoryEncoding)]
    assert town.rare == ("Deal",)
    assert town.knows("Bath")
    assert town.knows("Deal")
    assert not town.knows("Hull")
    assert not town.knows(None)
