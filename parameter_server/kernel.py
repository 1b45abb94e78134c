"""The arithmetic of a round: partial sums over a range of rows, written into a slot.

Workers and the in-process mode run this same code, block by block in the same order, which is
what makes a run's weights the same bytes for any number of workers.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike, NDArray

from regatta.models import Array, Objective
from regatta.parameter_server.protocol import ABSOLUTE, COUNTED, LOSS, SLOT_EXTRAS, SQUARED, Op
from regatta.parameter_server.shared_memory import aligned_empty

# Blocks of about this size stay in the second-level cache between the two products, so each row
# comes from memory once. Measured: unblocked passes are 1.4 to 4 times slower.
BLOCK_BYTES = 512 * 1024
# Sums of float32 residuals keep seven digits up to about this many rows; blocks are then added
# in float64.
BLOCK_ROWS = 2048


class MappedRows:
    """Rows of a prepared data set, mapped: X (n_rows, n_features) and y (n_rows,)."""

    def __init__(self, directory: Path, part: str, n_rows: int, n_features: int, dtype: str):
        self.X: Array = _mapped(directory / f"X_{part}.bin", (n_rows, n_features), dtype)
        self.y: Array = _mapped(directory / f"y_{part}.bin", (n_rows,), dtype)


class Kernel:
    """Computes partial sums over rows of one data set, without allocating after the start.

    Parameters
    ----------
    train, validation : MappedRows
    objective : Objective
    arithmetic : {"float32", "float64"}
        What products are computed in. float64 over rows stored as float32 converts them block by
        block in the cache.
    """

    def __init__(
        self, train: MappedRows, validation: MappedRows, objective: Objective, arithmetic: str
    ) -> None:
        self._train = train
        self._validation = validation
        self._objective = objective
        n_features = train.X.shape[1]
        dtype = np.dtype(arithmetic)
        block = max(16, BLOCK_BYTES // max(1, n_features * dtype.itemsize))
        self.block_rows = min(BLOCK_ROWS, block)
        self._weights = aligned_empty((n_features,), dtype)
        self._bias = 0.0
        self._residual = aligned_empty((self.block_rows,), dtype)
        self._scratch = aligned_empty((self.block_rows,), dtype)
        self._product = aligned_empty((n_features,), dtype)
        self._converted: Array | None = None
        if train.X.dtype != dtype:
            self._converted = aligned_empty((self.block_rows, n_features), dtype)

    def set_parameters(self, parameters: NDArray[np.float64]) -> None:
        """Take the weights and intercept, (n_features + 1,), that the next sums are at."""
        np.copyto(self._weights, parameters[:-1], casting="same_kind")
        self._bias = float(parameters[-1])

    def run(
        self,
        op: Op | int,
        start: int,
        stop: int,
        slot: NDArray[np.float64],
        beat: Callable[[], None] | None = None,
    ) -> None:
        """Write the sums of ``op`` over rows [start, stop) into ``slot``; call ``beat`` a block."""
        rows = self._validation if op == Op.EVALUATE_VALIDATION else self._train
        slot[:] = 0.0
        for begin in range(start, stop, self.block_rows):
            end = min(stop, begin + self.block_rows)
            X = rows.X[begin:end]
            if self._converted is not None:
                np.copyto(self._converted[: end - begin], X)
                X = self._converted[: end - begin]
            if op == Op.GRADIENT:
                self._gradient(X, rows.y[begin:end], slot)
            elif op == Op.CURVATURE:
                self._curvature(X, slot)
            else:
                self._evaluate(X, rows.y[begin:end], slot)
            if beat is not None:
                beat()
        slot[COUNTED - SLOT_EXTRAS] = stop - start

    def _residuals(self, X: Array, y: Array) -> Array:
        residual = self._residual[: len(y)]
        np.dot(X, self._weights, out=residual)
        residual += self._bias
        residual -= y
        return residual

    def _gradient(self, X: Array, y: Array, slot: NDArray[np.float64]) -> None:
        residual = self._residuals(X, y)
        slot[LOSS - SLOT_EXTRAS] += self._objective.loss(residual, residual)
        np.dot(residual, X, out=self._product)
        n_features = len(self._product)
        slot[:n_features] += self._product
        slot[n_features] += residual.sum()

    def _evaluate(self, X: Array, y: Array, slot: NDArray[np.float64]) -> None:
        residual = self._residuals(X, y)
        scratch = self._scratch[: len(y)]
        np.abs(residual, out=scratch)
        slot[ABSOLUTE - SLOT_EXTRAS] += scratch.sum()
        slot[SQUARED - SLOT_EXTRAS] += np.dot(residual, residual)
        slot[LOSS - SLOT_EXTRAS] += self._objective.loss(residual, scratch)

    def _curvature(self, X: Array, slot: NDArray[np.float64]) -> None:
        image = self._residual[: len(X)]
        np.dot(X, self._weights, out=image)
        np.dot(image, X, out=self._product)
        n_features = len(self._product)
        slot[:n_features] += self._product
        slot[n_features] += image.sum()


def _mapped(path: Path, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
    if 0 in shape:
        return np.empty(shape, dtype=dtype)
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    count = int(np.prod(shape, dtype=np.int64))
    return np.frombuffer(mapped, dtype=dtype, count=count).reshape(shape)
