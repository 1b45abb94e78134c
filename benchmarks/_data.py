"""Generated rows for the benchmarks, and how far weights are from their optimum."""

from __future__ import annotations

import io
import itertools
import json
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from regatta.parameter_server.array_rows import write_rows

FloatArray = npt.NDArray[np.float64]
N_FEATURES = 30
VALIDATION_ROWS = 1024
# Numbers that are generated at once.
BLOCK_CELLS = 1 << 22
TRIPS_AT_ONCE = 1 << 18


@dataclass(frozen=True)
class Rows:
    """Standardised rows on disk: for Regatta side by side, for its peers as X and y."""

    directory: Path
    n_rows: int
    n_features: int = N_FEATURES

    @property
    def X(self) -> npt.NDArray[np.float32]:
        shape = (self.n_rows, self.n_features)
        return np.memmap(self.directory / "X.bin", np.float32, "r", shape=shape)

    @property
    def y(self) -> npt.NDArray[np.float32]:
        return np.memmap(self.directory / "y.bin", np.float32, "r", shape=(self.n_rows,))


def generate(directory: Path, n_rows: int, seed: int = 0) -> Rows:
    """Correlated normal features, a linear target with noise, everything standardised."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(N_FEATURES, N_FEATURES)) / 8 + np.eye(N_FEATURES)
    X = (rng.normal(size=(n_rows + VALIDATION_ROWS, N_FEATURES)) @ mixing).astype(np.float32)
    X -= X.mean(axis=0)
    X /= X.std(axis=0)
    y = X @ rng.normal(size=N_FEATURES) + 2 * rng.normal(size=len(X))
    y = ((y - y.mean()) / y.std()).astype(np.float32)
    X[:n_rows].tofile(directory / "X.bin")
    y[:n_rows].tofile(directory / "y.bin")
    write_rows(directory, X[:n_rows], y[:n_rows], X[n_rows:], y[n_rows:])
    norm = float((X[:n_rows].astype(np.float64) ** 2).sum(axis=1).max())
    (directory / "facts.json").write_text(json.dumps({"rows": n_rows, "max_row_norm2": norm}))
    return Rows(directory, n_rows)


def open_rows(directory: Path) -> tuple[Rows, float]:
    """What `generate` wrote, and the largest squared norm of a row."""
    facts = json.loads((directory / "facts.json").read_text())
    return Rows(directory, facts["rows"]), facts["max_row_norm2"]


@dataclass(frozen=True)
class Recipe:
    """Rows for the exact solver, made a block at a time: those of a longer file begin alike.

    Correlated normal features and a target of which a third of them explain one half, so that
    the best lasso is neither the full model nor the empty one. All of unit variance, and in
    float32, as the CSV file writes them.
    """

    n_features: int = N_FEATURES
    seed: int = 1

    def blocks(self, n_rows: int) -> Iterator[npt.NDArray[np.float32]]:
        """Blocks of (rows, n_features + 1), the target last."""
        d = self.n_features
        rng = np.random.default_rng(self.seed)
        mixing = np.eye(d) + 0.7 / math.sqrt(d) * rng.normal(size=(d, d))
        mixing /= np.sqrt((mixing**2).sum(axis=0))
        weights = rng.normal(size=d)
        weights[np.arange(d) % 3 != 0] = 0.0
        weights /= np.linalg.norm(mixing @ weights)
        size = max(1, BLOCK_CELLS // d)
        for start in range(0, n_rows, size):
            rng = np.random.default_rng([self.seed, start])
            rows = min(size, n_rows - start)
            normal = rng.standard_normal((size, d + 1), np.float32)[:rows]
            block = np.empty_like(normal)
            block[:, :d] = normal[:, :d] @ mixing.astype(np.float32)
            block[:, d] = (block[:, :d] @ weights + normal[:, d]) / math.sqrt(2.0)
            yield block


def write_prepared(directory: Path, recipe: Recipe, n_rows: int) -> None:
    """Rows as the exact solver finds them after preparation: float64, with a column of ones."""
    directory.mkdir()
    width = recipe.n_features + 2
    with (directory / "train.bin").open("wb") as file:
        for block in recipe.blocks(n_rows):
            together = np.ones((len(block), width))
            together[:, :-2], together[:, -1] = block[:, :-1], block[:, -1]
            together.tofile(file)
    np.zeros((VALIDATION_ROWS, width)).tofile(directory / "validation.bin")
    facts = {"rows": n_rows, "features": recipe.n_features}
    (directory / "facts.json").write_text(json.dumps(facts))


def open_prepared(directory: Path) -> npt.NDArray[np.float64]:
    """What `write_prepared` wrote, mapped: (rows, n_features + 2)."""
    facts = json.loads((directory / "facts.json").read_text())
    shape = (facts["rows"], facts["features"] + 2)
    return np.memmap(directory / "train.bin", np.float64, "r", shape=shape)


def write_csv(recipe: Recipe, n_rows: int, path: Path) -> None:
    """The rows as a CSV file with a header."""
    blocks = recipe.blocks(n_rows)
    names = [f"x{i}" for i in range(recipe.n_features)]
    with path.open("wb") as file, ThreadPoolExecutor(2) as threads:
        file.write(",".join([*names, "y"]).encode() + b"\n")
        while batch := list(itertools.islice(blocks, 4)):
            for text in threads.map(_as_csv, batch):
                file.write(text)


def write_trips(n_rows: int, path: Path, seed: int = 2) -> None:
    """A CSV file of trips such as a taxi company's: numbers and beside them what files hold
    besides: dates with a time, names, blank cells, a text of its own in every row."""
    with path.open("wb") as file:
        file.write(b"trip,vendor,start,end,from,to,payment,passengers,distance,longitude,")
        file.write(b"latitude,fare,tip,toll,meter\n")
        for start in range(0, n_rows, TRIPS_AT_ONCE):
            rows = min(TRIPS_AT_ONCE, n_rows - start)
            file.write(_trips(np.random.default_rng([seed, start]), start, rows))


def _trips(rng: np.random.Generator, first: int, rows: int) -> bytes:
    import pyarrow as pa
    import pyarrow.csv

    def drawn(names: list[str]) -> pa.Array:
        return pa.array(names).take(pa.array(rng.integers(0, len(names), rows)))

    def number(scale: float, decimals: int) -> pa.Array:
        return pa.array(np.round(scale * rng.standard_normal(rows), decimals))

    zones = [f"zone {i}" for i in range(265)]
    begun = np.datetime64("2024-01-01T00:00:00") + rng.integers(0, 31_536_000, rows)
    ended = begun + rng.integers(60, 3600, rows)
    tips = pa.array(np.round(3 * rng.standard_normal(rows), 2), mask=rng.random(rows) < 0.05)
    columns = [
        pa.array([f"T{i:09}" for i in range(first, first + rows)]),
        drawn(["CMT", "VTS", "DDS"]),
        *(pa.array(begun), pa.array(ended)),
        *(drawn(zones), drawn(zones), drawn(["cash", "card", "dispute", "no charge"])),
        pa.array(rng.integers(1, 7, rows)),
        *(number(5, 2), number(0.1, 6), number(0.1, 6), number(20, 2)),
        *(tips, pa.array(rng.integers(0, 3, rows)), pa.array(rng.integers(0, 100_000, rows))),
    ]
    out = io.BytesIO()
    options = pa.csv.WriteOptions(include_header=False, quoting_style="none")
    pa.csv.write_csv(pa.table(columns, [str(i) for i in range(len(columns))]), out, options)
    return out.getvalue()


def _as_csv(block: npt.NDArray[np.float32]) -> bytes:
    import pyarrow as pa
    import pyarrow.csv

    columns = {str(i): pa.array(np.ascontiguousarray(each)) for i, each in enumerate(block.T)}
    out = io.BytesIO()
    pa.csv.write_csv(pa.table(columns), out, pa.csv.WriteOptions(include_header=False))
    return out.getvalue()


class Optimum:
    """The exact least-squares optimum, from sums; tells the gap of any weights without a pass.

    The gap of parameters p is (F(p) - F*) / F*, F being half the mean squared residual.
    """

    def __init__(self, rows: Rows) -> None:
        size = rows.n_features + 1
        self._hessian, moment, squares = np.zeros((size, size)), np.zeros(size), 0.0
        for start in range(0, rows.n_rows, 65_536):
            X = np.ones((min(65_536, rows.n_rows - start), size))
            X[:, :-1] = rows.X[start : start + len(X)]
            y = rows.y[start : start + len(X)].astype(np.float64)
            self._hessian += X.T @ X / rows.n_rows
            moment += X.T @ y / rows.n_rows
            squares += float(y @ y) / rows.n_rows
        self.parameters = np.linalg.solve(self._hessian, moment)
        self._loss = 0.5 * (squares - float(moment @ self.parameters))

    def gap(self, parameters: npt.ArrayLike) -> float:
        """Of weights and, last, the intercept."""
        away = np.asarray(parameters, dtype=np.float64) - self.parameters
        return 0.5 * float(away @ self._hessian @ away) / self._loss
