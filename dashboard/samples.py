"""Data to try Regatta on: the small set that comes with it, and a large one made on request."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import regatta
from regatta.dashboard.jobs import Report
from regatta.utils import RegattaError, atomic_path, home

LARGE_ROWS = 5_000_000
LARGE_FEATURES = 30
LARGE_TARGET = "boat_speed"
# Two decimals a cell, 31 cells a row: measured.
LARGE_BYTES_A_ROW = 168
CHUNK_ROWS = 50_000


@dataclass(frozen=True)
class Sample:
    """A data set with everything a demo needs to know about it."""

    key: str
    title: str
    description: str
    path: Path
    target: str
    drop: tuple[str, ...]
    settings: Mapping[str, Any]

    @property
    def exists(self) -> bool:
        return self.path.is_file()


def small() -> Sample:
    """The set in ``data/``."""
    return Sample(
        key="sample-small",
        title="Small demo",
        description="3,000 rows of our own with gaps, words and dates: trained in a second.",
        path=Path(regatta.__file__).resolve().parent / "data" / "regatta_races.csv",
        target="finish_minutes",
        drop=(),
        settings={"solver": "sgd"},
    )


def large() -> Sample:
    """The generated set. Long to train: there is time to pause it, to kill a worker, to watch."""
    return Sample(
        key="sample-large",
        title="Large demo",
        description=f"{LARGE_ROWS / 1e6:.0f} million rows × {LARGE_FEATURES} columns, made here "
        f"once ({LARGE_ROWS * LARGE_BYTES_A_ROW / 1e9:.1f} GB): time to pause and to watch.",
        path=home() / "samples" / f"sensors_{LARGE_ROWS}x{LARGE_FEATURES}.csv",
        target=LARGE_TARGET,
        drop=(),
        # Far below the safe rate: at that, the loss would be down before anyone has looked.
        settings={"solver": "sgd", "epochs": 300, "tol": 0.0, "learning_rate": 3e-6},
    )


def all_samples() -> list[Sample]:
    """The samples that can be used, or made."""
    return [each for each in (small(), large()) if each.exists or each.key == "sample-large"]


def write_large(arguments: Mapping[str, Any], folder: Path, report: Report) -> dict[str, Any]:
    """Write the large sample (a job of the page). Rows do not depend on the chunk size."""
    path, rows = Path(arguments["path"]), int(arguments["rows"])
    if path.is_file():
        return {"path": str(path)}
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    needed = rows * LARGE_BYTES_A_ROW * 3  # the CSV, its parsed columns, the prepared rows
    free = shutil.disk_usage(path.parent).free
    if free < needed:
        raise RegattaError(
            f"The large demo needs {needed / 1e9:.0f} GB of disk; {free / 1e9:.1f} GB are free.",
            "Make room, or take the small demo.",
        )
    with atomic_path(path, durable=False) as aside:
        _write_csv(aside, rows, report)
    return {"path": str(path)}


def _write_csv(path: Path, rows: int, report: Report) -> None:
    import numpy as np
    import pyarrow as pa
    from pyarrow import csv

    names = [f"sensor_{number:02d}" for number in range(1, LARGE_FEATURES + 1)]
    names.append(LARGE_TARGET)
    weights = np.random.default_rng(7).normal(size=LARGE_FEATURES)
    schema = pa.schema([(name, pa.float64()) for name in names])
    options = csv.WriteOptions(quoting_style="none", include_header=False)
    with path.open("wb") as file, csv.CSVWriter(file, schema, write_options=options) as writer:
        file.write((",".join(names) + "\n").encode())  # pyarrow would quote the names
        for start in range(0, rows, CHUNK_ROWS):
            count = min(CHUNK_ROWS, rows - start)
            generator = np.random.default_rng([7, start])
            # Neighbouring sensors move together, as real ones do.
            X = generator.normal(size=(count, LARGE_FEATURES))  # (count, features)
            X[:, 1:] += 0.6 * X[:, :-1]
            y = 12 + X @ weights + 0.5 * np.sin(3 * X[:, 0]) + generator.normal(size=count)
            table = np.round(np.column_stack([10 + 3 * X, y]), 2)
            arrays = [pa.array(column) for column in table.T]
            writer.write_batch(pa.record_batch(arrays, schema=schema))
            report(
                (start + count) / rows,
                f"{(start + count) / 1e6:.2f} of {rows / 1e6:.0f} million rows",
            )
