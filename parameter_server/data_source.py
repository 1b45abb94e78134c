"""Where the rows of a run come from: prepared rows on disk, or parsed columns."""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from regatta.models import Array

if TYPE_CHECKING:
    from regatta.ingest.scatter import Plan


class Rows(Protocol):
    """Rows ``x_1 … x_d, 1, y`` of one part, as an array (n_rows, n_features + 2)."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    def __getitem__(self, rows: slice, /) -> Array: ...


class FoldedRows(Rows, Protocol):
    """Rows that say which fold they belong to."""

    def folds(self, start: int, stop: int) -> NDArray[np.uint8]:
        """The fold of each of some rows."""


@dataclass(frozen=True)
class DataSource:
    """The rows that a pool computes on.

    Attributes
    ----------
    directory : Path
    dtype : str
    rows_train, rows_validation, n_features, n_shards : int
    columns : Plan, optional
        How rows are made from parsed columns, in the order of the file. Without it they lie in
        ``directory``, shuffled.
    fold_of_shard : tuple of int
        With ``columns``: the fold of the rows that shuffling would put into each shard. (On disk
        all rows of a shard are of one fold.)
    """

    directory: Path
    dtype: str
    rows_train: int
    rows_validation: int
    n_features: int
    n_shards: int
    columns: Plan | None = None
    fold_of_shard: tuple[int, ...] = ()

    @property
    def n_folds(self) -> int:
        """Folds that the rows of one shard may belong to."""
        return max(self.fold_of_shard, default=0) + 1

    def open(self, part: str) -> Rows:
        """The rows of a part: "train" or "validation"."""
        if self.columns is not None:
            # Imported here: who has rows on disk does not need it.
            from regatta.ingest.column_rows import ColumnRows

            folds = self.fold_of_shard if part == "train" else ()
            return ColumnRows(self.columns, part, folds)
        n_rows = self.rows_train if part == "train" else self.rows_validation
        return map_rows(self.directory, part, n_rows, self.n_features, self.dtype)


def map_rows(directory: Path, part: str, n_rows: int, n_features: int, dtype: str) -> Array:
    """Prepared rows of one part ("train" or "validation"), mapped read-only.

    A row is ``x_1 … x_d, 1, y``, so that one product gives residuals and another gives gradient
    and intercept's gradient: half the time of keeping y apart, at 30 features.
    """
    shape = (n_rows, n_features + 2)
    if n_rows == 0:
        return np.empty(shape, dtype=dtype)
    with (directory / f"{part}.bin").open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return np.frombuffer(mapped, dtype=dtype, count=n_rows * shape[1]).reshape(shape)
