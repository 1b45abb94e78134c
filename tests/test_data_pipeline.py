"""Layer 2: an honest split, statistics of training rows alone, the same bytes every time."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from regatta.data_pipeline import (
    PreparedData,
    import_csv,
    list_datasets,
    prepare,
    read_for_prediction,
)
from regatta.ingest import scatter
from regatta.ingest.demo import generate_demo
from regatta.ingest.importer import import_table
from regatta.parameter_server.batches import shard_offsets
from regatta.utils import DataError

pytestmark = pytest.mark.usefixtures("regatta_home")
Write = Callable[[str], Path]
Array = npt.NDArray[Any]
NAMES = ("X_train", "y_train", "X_validation", "y_validation")


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(content: str) -> Path:
        path = tmp_path / "file.csv"
        path.write_text(content)
        return path

    return write


def arrays(prepared: PreparedData) -> tuple[Array, Array, Array, Array]:
    x, y, v, w = (np.array(prepared.open(name)) for name in NAMES)
    return x, y, v, w


def digest(prepared: PreparedData) -> str:
    content = b"".join(np.ascontiguousarray(each).tobytes() for each in arrays(prepared))
    return hashlib.sha256(content).hexdigest()


def frame(rows: int = 2_000, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "x": rng.normal(50, 20, rows).round(3),
            "gaps": np.where(rng.random(rows) < 0.1, np.nan, rng.integers(0, 9, rows)),
            "town": rng.choice(["Bath", "Rome", "Oslo"], rows, p=[0.6, 0.3, 0.1]),
            "rare": rng.choice(["usual", *"abcdefgh"], rows, p=[0.992] + [0.001] * 8),
            "flag": rng.choice(["yes", "no"], rows),
            "day": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 900, rows), "D"),
            "fixed": 7,
        }
    )
    table["y"] = (0.3 * table.x + (table.town == "Rome") * 5 + rng.normal(0, 1, rows)).round(4)
    return table


def csv_of(table: pd.DataFrame) -> str:
    return table.to_csv(index=False, date_format="%Y-%m-%d", lineterminator="\n")


# -- right ----------------------------------------------------------------------------------------


def test_features_are_standardised_over_training_rows(write: Write) -> None:
    table = import_csv(write(csv_of(frame())))
    prepared = prepare(table, target="y", precision="float64")
    x, y, v, w = arrays(prepared)
    assert x.shape == (prepared.rows_train, prepared.features)
    assert (prepared.rows, prepared.rows_train, prepared.rows_validation) == (2000, 1600, 400)
    assert len(v) == len(w) == 400
    np.testing.assert_allclose(x.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(x.std(axis=0), 1)
    np.testing.assert_allclose([y.mean(), y.std()], [0, 1], atol=1e-12)
    assert prepared.max_row_norm2 == pytest.approx((x**2).sum(axis=1).max())
    assert prepared.feature_names == [
        "x", "gaps", "town=Bath", "town=Oslo", "town=Rome", "rare=usual", "rare=(other)", "flag",
        "day:trend", "day:year_sin", "day:year_cos", "day:week_sin", "day:week_cos",
    ]  # fmt: skip
    assert [(each.name, each.reason) for each in prepared.preprocessing.dropped] == [
        ("fixed", "constant")
    ]


def test_statistics_come_from_training_rows_alone(write: Write) -> None:
    """Fitted numbers equal those of pandas over exactly the rows that are in X_train."""
    source = frame().drop_duplicates("y")  # so that a row is known by its target
    prepared = prepare(import_csv(write(csv_of(source))), target="y", precision="float64")
    _, y, _, _ = arrays(prepared)
    target = (y * prepared.target_scale + prepared.target_mean).round(4)
    training = source[source.y.isin(target)]
    assert len(training) == prepared.rows_train
    by_name = {column.name: column for column in prepared.preprocessing.columns}
    assert by_name["gaps"].impute == training.gaps.median()  # type: ignore[attr-defined]
    assert by_name["x"].features[0].mean == pytest.approx(training.x.mean(), rel=1e-12)
    assert by_name["x"].features[0].scale == pytest.approx(training.x.std(ddof=0), rel=1e-12)
    ranged = by_name["x"].features[0]
    assert (ranged.low, ranged.high) == (training.x.min(), training.x.max())
    ends = prepared.dataset["target_low"], prepared.dataset["target_high"]
    assert ends == (training.y.min(), training.y.max())
    rome = by_name["town"].features[2]
    assert rome.mean == pytest.approx((training.town == "Rome").mean())
    assert prepared.target_mean == pytest.approx(training.y.mean(), rel=1e-12)


def test_the_file_read_again_gives_the_same_features(write: Write) -> None:
    path = write(csv_of(frame()))
    prepared = prepare(import_csv(path), target="y", precision="float64")
    _, rows, features = rows_of(path, prepared)
    x, y, v, w = arrays(prepared)
    target = np.array([float(row[-1]) for row in rows])
    stored = np.concatenate([y, w]) * prepared.target_scale + prepared.target_mean
    there = np.column_stack([np.concatenate([x, v]), stored]).round(8)
    here = np.column_stack([features, target]).round(8)
    np.testing.assert_allclose(
        there[np.lexsort(there.T)], here[np.lexsort(here.T)], rtol=0, atol=2e-8
    )


def test_duplicates_stay_on_one_side(write: Write) -> None:
    half = frame(300).assign(x=np.arange(300))
    prepared = prepare(
        import_csv(write(csv_of(pd.concat([half, half, half])))), target="y", precision="float64"
    )
    x, _, v, _ = arrays(prepared)
    assert not {row.tobytes() for row in x} & {row.tobytes() for row in v}
    assert prepared.rows_validation % 3 == 0


def test_a_file_sorted_by_its_target_is_shuffled(write: Write) -> None:
    source = frame(4_000).sort_values("y")
    prepared = prepare(import_csv(write(csv_of(source))), target="y", precision="float64")
    _, y, _, _ = arrays(prepared)
    offsets = prepared.train_offsets
    means = [y[a:b].mean() for a, b in itertools.pairwise(offsets)]
    assert np.abs(means).max() < 5 / np.sqrt(len(y) / 16)
    assert abs(np.corrcoef(np.arange(len(y)), y)[0, 1]) < 0.06


def test_the_split_does_not_depend_on_the_order_of_the_file(write: Write) -> None:
    source = frame(500)
    first = prepare(import_csv(write(csv_of(source))), target="y", precision="float64")
    held_out = np.sort(arrays(first)[3] * first.target_scale + first.target_mean)
    mixed = prepare(import_csv(write(csv_of(source[::-1]))), target="y", precision="float64")
    np.testing.assert_allclose(
        held_out, np.sort(arrays(mixed)[3] * mixed.target_scale + mixed.target_mean)
    )


def test_another_seed_another_split(write: Write) -> None:
    table = import_csv(write(csv_of(frame(500))))
    assert digest(prepare(table, target="y")) != digest(prepare(table, target="y", seed=1))


def test_the_same_bytes_from_any_number_of_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With several chunks, blocks and buckets."""
    path = tmp_path / "file.csv"
    path.write_text(csv_of(frame(5_000)))
    script = (
        "import sys; from pathlib import Path; from regatta.ingest import scatter\n"
        "from regatta.ingest.importer import import_table\n"
        "from regatta.data_pipeline import prepare\n"
        "table = import_table(Path(sys.argv[1]), chunk_bytes=int(sys.argv[3]))\n"
        "scatter.BUCKET_BYTES = int(sys.argv[4])\n"
        "print(prepare(table, target='y', processes=int(sys.argv[2])).directory)"
    )
    seen = set()
    for processes, chunk, bucket in [(0, 1 << 16, 1 << 14), (2, 1 << 16, 1 << 15)]:
        monkeypatch.setenv("REGATTA_HOME", str(tmp_path / f"home-{processes}"))
        arguments = [str(path), str(processes), str(chunk), str(bucket)]
        done = subprocess.run(
            [sys.executable, "-P", "-c", script, *arguments],
            env=os.environ.copy(), capture_output=True, text=True, check=True,
        )  # fmt: skip
        seen.add(digest(PreparedData.load(Path(done.stdout.strip()))))
    assert len(seen) == 1


def test_buckets_do_not_change_the_order(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(csv_of(frame(3_000)))
    seen = set()
    for size in (1 << 30, 1 << 13):
        monkeypatch.setenv("REGATTA_HOME", str(tmp_path / f"home-{size}"))
        monkeypatch.setattr(scatter, "BUCKET_BYTES", size)
        table = import_table(path, chunk_bytes=1 << 15)
        assert len(table.group_rows) > 3
        seen.add(digest(prepare(table, target="y")))
    assert len(seen) == 1


def test_float32_is_float64_rounded(write: Write) -> None:
    table = import_csv(write(csv_of(frame())))
    exact = arrays(prepare(table, target="y", precision="float64"))
    rounded = arrays(prepare(table, target="y"))
    for a, b in zip(exact, rounded, strict=True):
        assert b.dtype == np.float32
        np.testing.assert_array_equal(a.astype(np.float32), b)


def test_large_offsets_lose_no_digits(write: Write) -> None:
    rng = np.random.default_rng(0)
    x = 1.6e9 + rng.normal(size=1_000).round(6)
    prepared = prepare(
        import_csv(write("t,y\n" + "".join(f"{a:.6f},{a - 1.6e9:.6f}\n" for a in x))), target="y"
    )
    features, y, _, _ = arrays(prepared)
    np.testing.assert_allclose(features[:, 0], y, atol=1e-5)


def test_prepared_once(write: Write) -> None:
    table = import_csv(write(csv_of(frame(500))))
    first = prepare(table, target="y")
    assert prepare(table, target=" y ").directory == first.directory
    assert prepare(table, target="y", shards=4).shards == 4
    assert len([each for each in list_datasets() if each["layer"] == "prepared"]) == 2
    value = json.loads((first.directory / "prepared.json").read_text())
    assert value["train_offsets"] == list(shard_offsets(400, 16))
    assert value["dataset"]["rows"] == 500
    assert "directory" not in value


def test_rows_without_target_are_left_out(write: Write) -> None:
    source = frame(500)
    source.loc[::5, "y"] = np.nan
    prepared = prepare(import_csv(write(csv_of(source))), target="y")
    assert prepared.rows == 400
    assert any("100 rows without 'y'" in said for said in prepared.warnings)


@pytest.mark.parametrize(("rows", "train", "validation"), [(3, 2, 1), (4, 3, 1), (16, 13, 3)])
def test_few_rows(write: Write, rows: int, train: int, validation: int) -> None:
    text = "x,y\n" + "".join(f"{i}.5,{i * i}\n" for i in range(rows))
    prepared = prepare(import_csv(write(text)), target="y")
    assert (prepared.rows_train, prepared.rows_validation) == (train, validation)
    assert prepared.train_offsets[-1] == train
    said = "Only 1 row is held out" if validation == 1 else f"Only {validation} rows are held out"
    assert any(said in warning and "--validation" in warning for warning in prepared.warnings)


def test_a_share_that_holds_out_almost_nothing_is_told(write: Write) -> None:
    table = import_csv(write(csv_of(frame(500))))
    told = [prepare(table, target="y", validation=share).warnings for share in (0.002, 0.2)]
    assert ["held out" in " ".join(warnings) for warnings in told] == [True, False]
    assert "than 0.002 (--validation)" in " ".join(told[0])


def test_shards_differ_by_one_row_at_most() -> None:
    for rows in (0, 1, 15, 16, 17, 12345):
        offsets = shard_offsets(rows, 16)
        sizes = np.diff(offsets)
        assert (offsets[0], offsets[-1], len(offsets)) == (0, rows, 17)
        assert sizes.max() - sizes.min() <= 1


# -- refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "target", "words", "column"),
    [
        ("a,y\n" + "".join(f"{i},w{i}\n" for i in range(60)), "y", "holds text, not numbers", "y"),
        ("a,y\n" + "".join(f"{i},{'ab'[i % 2]}\n" for i in range(60)), "y", "holds text", "y"),
        ("a,y\n" + "".join(f"{i},{('yes', 'no')[i % 2]}\n" for i in range(60)), "y", "words", "y"),
        ("a,y\n" + "".join(f"{i},2020-01-0{i % 9 + 1}\n" for i in range(60)), "y", "dates", "y"),
        ("a,y\n" + "".join(f"{i},\n" for i in range(60)), "y", "blank in all rows", "y"),
        ("a,y\n1,2\n3,4\n5,7\n", "nope", "no column 'nope'", "nope"),
        ("a,y\n1,2\n3,4\n", "y", "Only 2 rows", "y"),
        ("a,y\n" + "1,2\n" * 50, "y", "all alike", None),
        ("a,y\n" + "".join(f"7,{i}\n" for i in range(50)), "y", "No column is left", None),
        ("a,y\n" + "".join(f"{i},{i}e160\n" for i in range(50)), "y", "'y' are too large", "y"),
        ("a,y\n" + "".join(f"{i}e160,{i}\n" for i in range(50)), "y", "'a' are too large", "a"),
    ],
)
def test_what_cannot_be_learned(
    write: Write, text: str, target: str, words: str, column: str | None
) -> None:
    table = import_csv(write(text))
    with pytest.raises(DataError, match=words) as caught:
        prepare(table, target=target)
    assert caught.value.column == column
    assert caught.value.hint
    assert all(each["layer"] == "parsed" for each in list_datasets())


def test_a_column_that_is_left_out_is_not_warned_of(write: Write) -> None:
    table = frame().assign(row=range(2_000))
    parsed = import_csv(write(csv_of(table)))
    target = str(table.columns[-2])
    assert any("'row' counts the rows" in said for said in prepare(parsed, target=target).warnings)
    kept = prepare(parsed, target=target, drop=["row"]).warnings
    assert not any("'row'" in said for said in kept)


def test_a_close_name_is_offered(write: Write) -> None:
    table = import_csv(write(csv_of(frame(50))))
    with pytest.raises(DataError) as caught:
        prepare(table, target="y", drop=["Town"])
    assert "'town'" in caught.value.hint


def test_a_mixed_column_must_be_dropped(write: Write) -> None:
    cells = [str(i) for i in range(400)]
    cells[100:120] = [f"w{i}" for i in range(20)]
    text = "m,x,y\n" + "".join(f"{cell},{i % 7},{i % 5}\n" for i, cell in enumerate(cells))
    table = import_csv(write(text))
    with pytest.raises(DataError, match="20 of 400 cells of column 'm'") as caught:
        prepare(table, target="y")
    assert (caught.value.row, caught.value.column) == (102, "m")
    assert prepare(table, target="y", drop=["m"]).feature_names == ["x"]


# -- prediction -----------------------------------------------------------------------------------


@pytest.fixture
def prepared(write: Write) -> PreparedData:
    return prepare(import_csv(write(csv_of(frame()))), target="y", precision="float64")


def rows_of(path: Path, prepared: PreparedData) -> tuple[list[str], list[list[str]], Array]:
    batches = list(read_for_prediction(path, prepared.preprocessing))
    features = [prepared.preprocessing.transform(each.columns) for each in batches]
    rows = [row for each in batches for row in each.rows]
    return batches[0].header, rows, np.concatenate(features)


def test_one_row_in_another_dialect(tmp_path: Path, prepared: PreparedData) -> None:
    names = ["flag", "day", "town", "rare", "gaps", "x"]
    plain, other = tmp_path / "plain.csv", tmp_path / "other.csv"
    plain.write_text(",".join(names) + "\nyes,2021-02-03,Paris,,,12.5\n")
    other.write_text(";".join(f" {name} " for name in names) + "\nYES;03.02.2021;Paris;NA;;12,5\n")
    header, rows, features = rows_of(plain, prepared)
    assert (header, rows) == (names, [["yes", "2021-02-03", "Paris", "", "", "12.5"]])
    assert features.shape == (1, prepared.features)
    np.testing.assert_array_equal(features, rows_of(other, prepared)[2])


@pytest.mark.parametrize(
    ("cell", "place", "column"), [("abc", 0, "x"), ("inf", 0, "x"), ("maybe", 4, "flag"),
                                  ("tomorrow", 5, "day")],
)  # fmt: skip
def test_a_cell_that_does_not_fit_is_named(
    tmp_path: Path, prepared: PreparedData, cell: str, place: int, column: str
) -> None:
    good = ["1.5", "3", "Bath", "usual", "yes", "2020-05-05"]
    bad = [*good[:place], cell, *good[place + 1 :]]
    path = tmp_path / "new.csv"
    lines = [good] * 30
    lines[10] = bad
    path.write_text(
        "x,gaps,town,rare,flag,day\n" + "".join(",".join(each) + "\n" for each in lines)
    )
    with pytest.raises(DataError) as caught:
        rows_of(path, prepared)
    assert (caught.value.row, caught.value.column) == (12, column)


def test_a_missing_column_is_named(tmp_path: Path, prepared: PreparedData) -> None:
    path = tmp_path / "new.csv"
    path.write_text("x,gaps,rare,flag,day\n1,2,usual,yes,2020-01-01\n")
    with pytest.raises(DataError, match="no column 'town'"):
        read_for_prediction(path, prepared.preprocessing)


# -- real files -----------------------------------------------------------------------------------


def held_out_r2(prepared: PreparedData) -> float:
    """Ridge, alpha 1, in closed form."""
    x, y, v, w = arrays(prepared)
    mean = y.mean()
    weights = np.linalg.solve(x.T @ x + np.eye(x.shape[1]), x.T @ (y - mean))
    residual = w - v @ weights - mean
    return float(1 - (residual**2).sum() / ((w - w.mean()) ** 2).sum())


def test_real_files_reach_their_reference(data_dir: Path) -> None:
    """R² of held-out rows, as in the reference, over five seeds where the rows are few."""
    short = []
    cases = json.loads((data_dir / "reference.json").read_text())
    for case in cases:
        table = import_csv(data_dir / "regression" / case["file"])
        seeds = range(5) if case["rows"] < 5000 else range(1)
        options = {"target": case["target"], "drop": case["drop"], "precision": "float64"}
        made = [prepare(table, seed=seed, **options) for seed in seeds]
        assert {each.rows for each in made} == {case["rows"]}
        score = np.mean([held_out_r2(each) for each in made])
        floor = case["r2"] - 0.03 - (case["sd"] if len(made) > 1 else 0)
        if score < floor:
            short.append((case["file"], score, floor))
    assert len(cases) == 18
    assert not short


def memory_of(pid: int) -> int:
    """Bytes of a process and its children: anonymous and shared."""
    import psutil

    total = 0
    process = psutil.Process(pid)
    for each in [process, *process.children(recursive=True)]:
        try:
            status = Path(f"/proc/{each.pid}/status").read_text()
        except OSError:
            continue
        total += sum(
            int(line.split()[1]) * 1024
            for line in status.splitlines()
            if line.startswith(("RssAnon", "RssShmem"))
        )
    return total


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """Peak of importing and preparing, whole process tree, at 100 MB and half of that."""
    script = (
        "import sys; from pathlib import Path; from regatta.data_pipeline import *\n"
        "prepare(import_csv(Path(sys.argv[1]), processes=2), target='y', processes=2)"
    )
    peaks = []
    for rows in (250_000, 500_000):
        path = generate_demo(tmp_path / f"{rows}.csv", rows, 30)
        child = subprocess.Popen([sys.executable, "-P", "-c", script, str(path)])
        peak = 0
        while True:
            try:
                peak = max(peak, memory_of(child.pid))
                child.wait(timeout=0.02)
                break
            except subprocess.TimeoutExpired:
                continue
        assert child.returncode == 0
        peaks.append(peak / 1e6)
        path.unlink()
    assert max(peaks) < 500
    assert peaks[1] < peaks[0] + 40
