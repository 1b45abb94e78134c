"""Generated rows for the benchmarks, and how far weights are from their optimum."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from regatta.parameter_server.array_rows import write_rows

FloatArray = npt.NDArray[np.float64]
N_FEATURES = 30
VALIDATION_ROWS = 1024


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


def write_csv(rows: Rows, path: Path) -> None:
    """The rows as a CSV file with a header."""
    import pyarrow as pa
    import pyarrow.csv

    columns = {f"x{i}": pa.array(np.ascontiguousarray(rows.X[:, i])) for i in range(N_FEATURES)}
    pa.csv.write_csv(pa.table({**columns, "y": pa.array(np.array(rows.y))}), path)


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
