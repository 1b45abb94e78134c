"""Histograms and commonest values of the page's table of columns, against plain NumPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from regatta.dashboard import distributions as module
from regatta.dashboard.distributions import distributions, evenly_spaced
from regatta.ingest.importer import import_table


def write(path: Path, rows: int) -> tuple[Path, np.ndarray, np.ndarray]:
    """x with gaps, whole k, colour, yes/no and a day a row."""
    rng = np.random.default_rng(3)
    x = np.round(rng.normal(size=rows), 3)
    k = rng.integers(3, 9, rows)
    lines = ["x,k,colour,smoker,day"]
    for at in range(rows):
        cell = "" if at % 10 == 3 else f"{x[at]}"
        lines.append(
            f"{cell},{k[at]},{'red' if at % 4 else 'blue'},{'yes' if at % 5 else 'no'},"
            f"2024-01-{at % 28 + 1:02d}"
        )
    path.write_text("\n".join(lines) + "\n")
    return path, np.where(np.arange(rows) % 10 == 3, np.nan, x), k


def test_bars_count_all_rows_of_a_small_table(regatta_home: Path, tmp_path: Path) -> None:
    path, x, k = write(tmp_path / "rows.csv", 500)
    (of_x, of_k, colour, smoker, day), looked_at = distributions(import_table(path))
    assert looked_at == 500
    present = x[~np.isnan(x)]
    assert of_x["bars"] == np.histogram(present, bins=module.BARS)[0].tolist()
    assert of_x["median"] == pytest.approx(float(np.median(present)))
    assert of_x["distinct"] == len(np.unique(present))
    assert of_k["bars"] == np.bincount(k)[3:].tolist() and of_k["distinct"] == 6
    assert colour == {"levels": [["red", 375], ["blue", 125]], "rest": 0, "distinct": 2}
    assert smoker["levels"] == [["no", 100], ["yes", 400]]
    assert sum(day["bars"]) == 500


def test_whole_numbers_are_equally_many_a_bar(regatta_home: Path, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("day,x\n" + "".join(f"{n % 31 + 1},{n * n % 1009}\n" for n in range(31 * 9)))
    (day, _), _ = distributions(import_table(path))
    assert day["width"] == 2 and day["bars"] == [18] * 15 + [9]


def test_a_large_table_is_looked_at_in_evenly_spaced_rows(
    regatta_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, x, _ = write(tmp_path / "rows.csv", 5_000)
    table = import_table(path, chunk_bytes=1 << 12)  # in many groups
    assert len(table.groups) > 5
    monkeypatch.setattr(module, "MAX_ROWS", 700)
    monkeypatch.setattr(module, "LEAST_ROWS", 10)
    sample = evenly_spaced(table)
    np.testing.assert_array_equal(sample[0], x[::8])
    (of_x, _, colour, *_), looked_at = distributions(table)
    assert looked_at == 625
    assert sum(of_x["bars"]) == (~np.isnan(x[::8])).sum()
    assert "distinct" not in of_x  # 625 rows do not tell
    assert colour["levels"] == [["red", 3750], ["blue", 1250]]  # counted in all rows


def test_columns_without_values_and_of_one_value(regatta_home: Path, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("a,b,c\n" + "".join(f",7,{(-1) ** n * 1.7e308}\n" for n in range(30)))
    (blank, constant, huge), _ = distributions(import_table(path))
    assert blank == {}
    assert constant["bars"] == [30] and constant["median"] == 7
    assert huge["bars"][0] == huge["bars"][-1] == 15 and huge["median"] == 0


def test_a_few_values_far_from_all_others_have_bars_of_their_own(
    regatta_home: Path, tmp_path: Path
) -> None:
    path = tmp_path / "rows.csv"
    rows = [f"{n / 1000},{n}" for n in range(1000)]
    path.write_text("\n".join(["x,k", *rows, "999,1", "-200,2"]) + "\n")
    (x, k), _ = distributions(import_table(path))
    assert (x["low"], x["high"]) == (-200, 999)
    assert 0 <= x["from"] < x["to"] < 1 and x["above"] > 0 < x["below"]
    assert sum(x["bars"]) + x["above"] + x["below"] == 1002
    assert min(x["bars"]) > 20  # and not all in one
    assert k["above"] == k["below"] == 0 and (k["from"], k["to"]) == (0, 999)


def test_a_table_of_texts_alone(regatta_home: Path, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("a,b\n" + "".join(f"{'uvw'[n % 3]},{'xy'[n % 2]}z\n" for n in range(30)))
    (a, _), looked_at = distributions(import_table(path))
    assert looked_at == 30 and a["distinct"] == 3
