"""Arrays laid out as a pool reads them: for benchmarks, tests and data that is in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from regatta.parameter_server.data_source import DataSource


def write_rows(
    directory: Path,
    X_train: ArrayLike,  # (rows_train, n_features)
    y_train: ArrayLike,  # (rows_train,)
    X_validation: ArrayLike,  # (rows_validation, n_features)
    y_validation: ArrayLike,  # (rows_validation,)
    *,
    n_shards: int = 16,
    dtype: str = "float32",
) -> DataSource:
    """Write rows to ``directory`` as they are; they should be standardised and shuffled."""
    rows, n_features = np.shape(X_train)
    parts = {"train": (X_train, y_train), "validation": (X_validation, y_validation)}
    for name, (X, y) in parts.items():
        together = np.empty((np.shape(X)[0], n_features + 2), dtype=dtype)
        together[:, :-2], together[:, -2], together[:, -1] = X, 1.0, y
        together.tofile(directory / f"{name}.bin")
    return DataSource(directory, dtype, rows, np.shape(X_validation)[0], n_features, n_shards)
