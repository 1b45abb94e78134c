"""Rows made from parsed columns: the same rows as on disk, the same folds, nothing written."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from regatta.configuration import TrainingConfig
from regatta.data_pipeline import PreparedData, import_csv, prepare
from regatta.ingest import cache, scatter
from regatta.ingest.column_rows import ColumnRows
from regatta.ingest.importer import import_table
from regatta.ingest.table import ParsedTable
from regatta.parameter_server.worker_pool import open_pool
from regatta.solvers.statistics import Statistics, gather
from regatta.solvers.training import source_of

pytestmark = pytest.mark.usefixtures("regatta_home")
Array = npt.NDArray[Any]
FOLDS = 5
CONFIG = TrainingConfig(model="lasso", alpha="auto", folds=FOLDS)


def frame(rows: int) -> pd.DataFrame:
    """Gaps, words, dates, rows without a target, exact duplicates; sorted by the target."""
    rng = np.random.default_rng(4)
    table = pd.DataFrame(
        {
            "x": rng.normal(50, 20, rows).round(3),
            "gaps": np.where(rng.random(rows) < 0.1, np.nan, rng.integers(0, 9, rows)),
            "town": rng.choice(["Bath", "Rome", "Oslo"], rows, p=[0.6, 0.3, 0.1]),
            "day": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 900, rows), "D"),
        }
    )
    table["y"] = (0.3 * table.x + (table.town == "Rome") * 5 + rng.normal(0, 1, rows)).round(4)
    table = table.sort_values("y")
    table.iloc[5:9] = table.iloc[4]
    table.loc[table.sample(frac=0.01, random_state=1).index, "y"] = np.nan
    return table


@pytest.fixture(params=[7, 3000], ids=["7 rows", "3000 rows"])
def table(request: pytest.FixtureRequest, tmp_path: Path) -> ParsedTable:
    path = tmp_path / "rows.csv"
    frame(request.param).to_csv(path, index=False, date_format="%Y-%m-%d")
    return import_table(path, processes=0, chunk_bytes=20_000)


def both(table: ParsedTable, **options: Any) -> tuple[PreparedData, PreparedData]:
    """The rows on disk, and not."""
    found = [
        prepare(table, target="y", precision="float64", on_disk=on_disk, **options)
        for on_disk in (True, False)
    ]
    return found[0], found[1]


def in_order(rows: Array) -> Array:
    return rows[np.lexsort(rows.T)]


def on_disk(prepared: PreparedData, part: str) -> Array:
    X, y = prepared.open(f"X_{part}"), prepared.open(f"y_{part}")
    return np.column_stack([X, np.ones(len(X)), y])


def from_columns(prepared: PreparedData, part: str) -> ColumnRows:
    config = CONFIG if prepared.shards >= FOLDS else TrainingConfig()
    rows = source_of(prepared, config).open(part)
    assert isinstance(rows, ColumnRows)
    return rows


@pytest.mark.parametrize("part", ["train", "validation"])
def test_the_rows_are_those_on_disk(table: ParsedTable, part: str) -> None:
    written, made = both(table)
    expected, found = on_disk(written, part), from_columns(made, part)
    assert found.shape == expected.shape
    np.testing.assert_array_equal(in_order(np.array(found[0 : len(found)])), in_order(expected))


def test_slices_do_not_depend_on_pages(table: ParsedTable, monkeypatch: pytest.MonkeyPatch) -> None:
    _, made = both(table)
    rows = from_columns(made, "train")
    whole, folds = np.array(rows[0 : len(rows)]), np.array(rows.folds(0, len(rows)))
    monkeypatch.setattr("regatta.ingest.column_rows.MIN_PAGE_ROWS", 3)
    monkeypatch.setattr("regatta.ingest.column_rows.PAGE_BYTES", 1)
    small = from_columns(made, "train")
    rng = np.random.default_rng(0)
    for _ in range(50):
        start, stop = np.sort(rng.integers(0, len(rows) + 1, 2))
        if start < stop:
            np.testing.assert_array_equal(small[start:stop], whole[start:stop])
            np.testing.assert_array_equal(small.folds(start, stop), folds[start:stop])


@pytest.mark.parametrize("shards", [1, 5, 16])
def test_each_row_is_marked_with_the_shard_it_would_lie_in(table: ParsedTable, shards: int) -> None:
    written, made = both(table, shards=shards)
    plan, rows = made.columns, np.array(from_columns(made, "train")[0 : made.rows_train])
    assert plan is not None
    marks = plan.marks("r")
    training = marks[marks < scatter.VALIDATION]
    assert np.count_nonzero(marks == scatter.VALIDATION) == made.rows_validation
    expected = on_disk(written, "train")
    for shard, (start, stop) in enumerate(itertools.pairwise(written.train_offsets)):
        np.testing.assert_array_equal(
            in_order(rows[training == shard]), in_order(expected[start:stop])
        )


def statistics(prepared: PreparedData, workers: int, logs: Path) -> list[Statistics]:
    source = source_of(prepared, CONFIG)
    pool = open_pool(source, "lasso", "float64", workers, logs=logs, with_statistics=True)
    try:
        return gather(pool, prepared.train_offsets, FOLDS)
    finally:
        pool.close()


def test_statistics_of_the_folds_are_those_of_the_rows_on_disk(
    table: ParsedTable, tmp_path: Path
) -> None:
    written, made = both(table)
    expected = statistics(written, 0, tmp_path)
    for found, known in zip(statistics(made, 0, tmp_path), expected, strict=True):
        np.testing.assert_allclose(found.moments, known.moments, rtol=1e-11, atol=1e-9)
        assert found.n == known.n


def test_any_number_of_workers_gives_the_same_bytes(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    frame(3000).to_csv(path, index=False, date_format="%Y-%m-%d")
    _, made = both(import_table(path, processes=0, chunk_bytes=20_000))
    expected = [each.moments.tobytes() for each in statistics(made, 0, tmp_path)]
    for workers in (1, 3):
        found = [each.moments.tobytes() for each in statistics(made, workers, tmp_path)]
        assert found == expected


def test_no_rows_are_written_and_the_columns_are_held(table: ParsedTable) -> None:
    _, made = both(table)
    assert not made.on_disk and made.max_row_norm2 == 0.0
    assert not list(made.directory.glob("train.bin")) and not list(made.directory.glob("keys*"))
    with made.hold():
        assert not cache.remove(table.directory), "the columns are in use"
    assert cache.remove(table.directory)


def test_many_features_are_written_all_the_same(
    table: ParsedTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("regatta.data_pipeline.COLUMNS_FEATURES", 3)
    made = prepare(table, target="y", precision="float64", on_disk=False)
    assert made.on_disk and (made.directory / "train.bin").exists()
    assert source_of(made, CONFIG).columns is None


def test_a_second_run_finds_what_the_first_prepared(table: ParsedTable) -> None:
    _, made = both(table)
    again = prepare(import_csv(table.path), target="y", precision="float64", on_disk=False)
    assert again.directory == made.directory
