"""What is told of a table before it is trained on: each finding with its evidence in numbers."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regatta.data_pipeline import import_csv, inspect_csv, prepare
from regatta.ingest import leaks
from regatta.ingest.importer import import_table
from regatta.ingest.table import Finding, ParsedTable

pytestmark = pytest.mark.usefixtures("regatta_home")

Table = Callable[..., ParsedTable]


@pytest.fixture
def table(tmp_path: Path) -> Table:
    """A table read from columns of cells, in small chunks."""
    made = 0

    def make(chunk_bytes: int = 2_000, **columns: Any) -> ParsedTable:
        nonlocal made
        made += 1
        path = tmp_path / f"table-{made}.csv"
        cells = [["" if each is None else str(each) for each in cells] for cells in
                 columns.values()]  # fmt: skip
        lines = [",".join(columns), *map(",".join, zip(*cells, strict=True))]
        path.write_text("\n".join(lines) + "\n")
        return import_table(path, processes=0, chunk_bytes=chunk_bytes)

    return make


def found(table: ParsedTable, kind: str) -> list[Finding]:
    return [each for each in table.findings if each.kind == kind]


def told(table: ParsedTable, target: str, left_out: tuple[str, ...] = ()) -> list[Finding]:
    return leaks.about_target(table, table.column(target), left_out)


def noise(rows: int, seed: int = 0) -> list[float]:
    return [round(each, 3) for each in np.random.default_rng(seed).normal(0, 5, rows).tolist()]


def test_columns_with_equal_cells(table: Table) -> None:
    x = noise(1_000)
    almost = [*x[:-1], x[-1] + 1]
    towns = ["Bath", "York", "Hull", "Deal"] * 250
    made = table(a=x, b=almost, c=[*x], town=towns, place=towns, other=towns[::-1], d=[*x])
    assert len(made.group_rows) > 5
    first, second = found(made, "duplicate_columns")
    assert first.columns == ("a", "c", "d")
    assert "'a', 'c', 'd' hold the same cells in all 1000 rows" in first.message
    assert second.columns == ("town", "place")
    assert {first.message, second.message} <= set(made.warnings)


def test_columns_that_are_blank_elsewhere_are_not_equal(table: Table) -> None:
    x = noise(300)
    holes = [None if i == 7 else each for i, each in enumerate(x)]
    others = [None if i == 8 else each for i, each in enumerate(x)]
    made = table(a=x, b=holes, c=others, d=[*holes])
    assert [each.columns for each in found(made, "duplicate_columns")] == [("b", "d")]


def test_many_columns_are_told_in_one_sentence(table: Table) -> None:
    columns = {f"c{i}": [5] * 30 for i in range(40)}
    made = table(y=noise(30), **columns)
    (finding,) = found(made, "constant")
    assert finding.columns == tuple(columns)
    assert "and 32 more" in finding.message


def test_indices(table: Table) -> None:
    shuffled = np.random.default_rng(1).permutation(400)
    twice = [*shuffled[:-1], shuffled[0]]
    years = range(1600, 2000)
    made = table(row=range(1, 401), id=shuffled, no=twice, year=years, y=noise(400))
    first, second, third = found(made, "index")
    assert "'row' counts the rows (1 to 400): an index. Leave it out" in first.message
    assert "'id' holds each whole number once (0 to 399)" in second.message
    assert "'year' counts the rows (1600 to 1999): an index, unless it is a time" in third.message


def test_whole_numbers_with_few_levels_are_numbers_that_may_be_codes(table: Table) -> None:
    late = [3] * 999 + [4]
    made = table(code=[1, 2, 5, 9] * 250, late=late, many=range(0, 2_000, 2), size=noise(1_000))
    code, late_code, many, size = made.columns
    assert code.kind == many.kind == "number"
    assert code.distinct == 4
    assert "all whole, 4 different: amounts, or codes?" in code.evidence
    assert (late_code.distinct, many.distinct, size.distinct) == (2, None, None)
    assert many.evidence.endswith("all whole")
    assert "whole" not in size.evidence


def test_sentinels_beside_each_other(table: Table) -> None:
    cells = [i % 50 for i in range(500)]
    cells[3] = cells[4] = 999
    cells[5] = 9999
    near = [i % 990 + (999 - 989) * (i == 989) for i in range(500)]
    first, second = found(table(a=cells, near=near), "sentinel")
    assert "999 in 2 cells, far from its other values (0 to 49)" in first.message
    assert "9999 in 1 cell," in second.message


def test_a_column_that_is_the_target_in_other_units(table: Table) -> None:
    y = noise(3_000)
    made = table(
        celsius=y,
        fahrenheit=[round(1.8 * each + 32, 6) for each in y],
        near=[each + 0.01 * extra for each, extra in zip(y, noise(3_000, 2), strict=True)],
        x=noise(3_000, 3),
    )
    exact, close = told(made, "celsius")
    assert exact.columns == ("fahrenheit",)
    assert "'celsius' = 0.555556 × 'fahrenheit' - 17.7778 in 3,000 of 3,000 rows" in exact.message
    assert close.columns == ("near",)
    assert "correlation of 0.9999" in close.message
    assert told(made, "celsius", ("fahrenheit", "near")) == []


def test_a_sum_of_two_columns_with_gaps_is_found(table: Table) -> None:
    a, b, rest = noise(20_000), noise(20_000, 1), noise(20_000, 2)
    y: list[float | None] = [round(p - 2 * q + 7, 3) for p, q in zip(a, b, strict=True)]
    holes = [None if i % 3 == 0 else each for i, each in enumerate(a)]
    y[5] = None
    made = table(200_000, a=holes, rest=rest, b=b, y=y)
    (leak,) = told(made, "y")
    assert leak.columns == ("a", "b")
    assert "'y' = 'a' - 2 × 'b' + 7 in 13,332 of 13,332 rows" in leak.message
    assert not leak.matters_without({"a"})


def test_what_holds_in_the_sample_alone_is_no_leak(table: Table) -> None:
    """All rows are asked before anything is told."""
    a, b = noise(20_000), noise(20_000, 1)
    y = [p + q for p, q in zip(a, b, strict=True)]
    copy = [*y]
    for row in range(1, 20_000, 5):  # the sample takes every fifth, from the first on
        y[row] += 3
    assert told(table(200_000, a=a, b=b, copy=copy, y=y), "y") == []


def test_shares_of_pairs_are_those_of_least_squares() -> None:
    generator = np.random.default_rng(0)
    sample = generator.normal(size=(5, 80)) * [[1], [1e4], [1], [1e-3], [2]] + 100
    sample[-1] += sample[0] + sample[1] / 1e4
    sample[1, 3:9] = sample[2, 30] = sample[-1, 50] = np.nan
    shares = leaks.shares_of_pairs(sample)
    for i in range(4):
        for j in range(i):
            rows = ~np.isnan(sample[[i, j, -1]]).any(axis=0)
            design = np.column_stack([sample[i, rows], sample[j, rows], np.ones(rows.sum())])
            y = sample[-1, rows]
            residual = y - design @ np.linalg.lstsq(design, y)[0]
            expected = 1 - residual.var() / y.var()
            assert shares[i, j] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("shift", "words"), [(1.0, "Its logarithm"), (0.0, "logarithm of 1 + it"), (-1.0, "far from")]
)
def test_a_skewed_target(table: Table, shift: float, words: str) -> None:
    prices = np.exp(np.random.default_rng(0).normal(0, 1.5, 2_000))
    prices += shift - prices.min()
    (skew,) = told(table(x=noise(2_000), y=[repr(each) for each in prices.tolist()]), "y")
    assert skew.kind == "skew"
    assert "skewness" in skew.message
    assert words in skew.message


def test_rare_events_and_even_targets_are_not_skewed(table: Table) -> None:
    rare = [int(i % 50 == 0) for i in range(1_000)]
    made = table(x=noise(1_000), rare=rare, even=range(0, 3_000, 3))
    assert told(made, "rare") == []
    assert told(made, "even") == []


def test_training_tells_what_matters_without_the_dropped_columns(table: Table) -> None:
    a, b = noise(500), noise(500, 1)
    y = [round(p + q, 3) for p, q in zip(a, b, strict=True)]
    made = table(a=a, b=b, twin=[*b], copy=[*y], y=y)
    said = " ".join(prepare(made, target="y").warnings)
    for words in ("'b', 'twin' hold the same", "'copy' gives the target", "'y' = 'a' + 'b'"):
        assert words in said
    assert "'copy', 'y' hold the same" not in said, "told once, as a leak"
    kept = prepare(made, target="y", drop=["twin", "copy", "a"]).warnings
    assert not [each for each in kept if "Column" in each]


def test_the_report_has_findings_with_their_columns(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text(
        "x,copy,y\n" + "".join(f"{i % 7},{3 * i + 1},{i * i % 91}\n" for i in range(60))
    )
    assert inspect_csv(path)["findings"] == []
    report = inspect_csv(path, target="copy")
    assert report["findings"] == []
    path.write_text("x,copy,y\n" + "".join(f"{i % 7},{3 * i + 1},{i}\n" for i in range(60)))
    kinds = {(each["kind"], *each["columns"]) for each in inspect_csv(path, target="y")["findings"]}
    assert kinds == {("index", "y"), ("leak", "copy")}


def test_a_wide_file_is_not_compared_pair_by_pair(table: Table) -> None:
    generator = np.random.default_rng(0)
    cells = generator.integers(0, 2, (4_000, 60)).tolist()
    made = table(4_000_000, **{f"c{i}": each for i, each in enumerate(cells)})
    started = time.perf_counter()
    told(made, "c0")
    assert time.perf_counter() - started < 5


@pytest.mark.parametrize(
    ("name", "target", "expected"),
    [
        ("bike_sharing_hour.csv", "cnt", ["'cnt' = 'casual' + 'registered' in 17,379 of 17,379",
                                          "'instant' counts the rows"]),
        ("appliances_energy_testing.csv", "Appliances", ["'rv1', 'rv2' hold the same", "skewed"]),
        ("nycflights_sample.csv", "arr_delay", ["'rownames' counts", "'year' is 2013", "skewed"]),
        ("nki_breast_cancer.csv", "esr1", ["'esr1' = 'NM_000125' in 272 of 272 rows"]),
        ("winequality_white_dirty_semicolon.csv", "quality",
         ["'citric acid' holds 999", "'residual sugar' holds 999", "'sulphates' holds 9999",
          "'total sulfur dioxide' holds 999"]),
    ],
)  # fmt: skip
def test_real_files(data_dir: Path, name: str, target: str, expected: list[str]) -> None:
    said = inspect_csv(data_dir / "regression" / name, target=target)["warnings"]
    for words in expected:
        assert any(words in each for each in said), (words, said)


@pytest.mark.parametrize(
    ("name", "target"),
    [("california_housing.csv", "median_house_value"), ("power_plant.csv", "PE"),
     ("tecator_meats.csv", "fat"), ("peach_spectra_brix.csv", "Brix")],
)  # fmt: skip
def test_clean_targets_are_not_suspected(data_dir: Path, name: str, target: str) -> None:
    table = import_csv(data_dir / "regression" / name)
    assert told(table, target) == []


def test_codes_with_leading_zeros(table: Table) -> None:
    made = table(zip=[f"{500 + 7 * i:05d}" for i in range(100)], y=noise(100))
    assert made.columns[0].kind == "number"
    assert any(
        "'zip' has leading zeros in 100 of 100 sampled cells, such as '00500': a code?" in each
        for each in made.warnings
    )
