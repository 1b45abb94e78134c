"""The arithmetic of a round: partial sums over a range of rows, written into a slot.

Workers and the in-process mode run this same code, block by block in the same order, which is
what makes a run's weights the same bytes for any number of workers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import numpy as np
from numpy.typing import NDArray

from regatta.models import Array, Objective
from regatta.parameter_server.data_source import FoldedRows, Rows
from regatta.parameter_server.protocol import ABSOLUTE, COUNTED, LOSS, SQUARED, Op
from regatta.parameter_server.shared_memory import aligned_empty

# Blocks of about this size stay in the second-level cache between the two products, so each row
# comes from memory once. Measured: unblocked passes are 1.4 to 4 times slower.
BLOCK_BYTES = 512 * 1024
# Sums of float32 residuals keep seven digits up to about this many rows; blocks are then added
# in float64.
BLOCK_ROWS = 2048
# Moments are products of matrices, which want more rows at once: those of a file in float64 are
# multiplied where they lie, others are converted a few at a time. Measured on 1,002 columns: 12 %
# less time than in copies of 8 MB. Up to a thousand columns the products are made whole, as
# symmetric ones; beyond, in panels, so that a worker never needs a second matrix of moments.
MOMENT_BYTES = 8 * 1024 * 1024
MOMENT_ROWS = 4096
PANEL_BYTES = 8 * 1024 * 1024
# Blocks and panels that the rows are cut into at least, where there are as many rows: each is a
# point of the run's curve. Small blocks cost a few tenths of a second at most, at 1,000 columns.
MIN_MILESTONES = 100


class Kernel:
    """Computes partial sums over rows of one data set, without allocating after the start.

    Parameters
    ----------
    train, validation : Rows (n_rows, n_features + 2)
        As `DataSource.open` gives them.
    objective : Objective
    arithmetic : {"float32", "float64"}
        What products are computed in. float64 over rows stored as float32 converts them block by
        block in the cache.
    """

    def __init__(
        self, train: Rows, validation: Rows, objective: Objective, arithmetic: str
    ) -> None:
        self._train = train
        self._validation = validation
        self._objective = objective
        width = train.shape[1]
        self._n_sums = width - 1
        dtype = np.dtype(arithmetic)
        block = max(16, BLOCK_BYTES // (width * dtype.itemsize))
        self.block_rows = min(BLOCK_ROWS, block)
        self._vector = aligned_empty((width,), dtype)  # weights, intercept, -1
        self._residual = aligned_empty((self.block_rows,), dtype)
        self._scratch = aligned_empty((self.block_rows,), dtype)
        self._product = aligned_empty((width,), dtype)
        self._sums = self._product[:-1]  # the last is residuals times y: of no use
        self._panel = np.empty(0)  # for moments: made when they are first asked for
        self._columns = 0
        self._rows_at_once = MOMENT_ROWS
        self._moment_block: Array | None = None  # only where rows are converted
        self._converted: Array | None = None
        if train.dtype != dtype:
            self._converted = aligned_empty((self.block_rows, width), dtype)

    def set_parameters(self, parameters: NDArray[np.float64]) -> None:
        """Take the weights and intercept, (n_features + 1,), that the next sums are at."""
        self._vector[:-1] = parameters

    def run(
        self,
        op: Op | int,
        start: int,
        stop: int,
        slot: NDArray[np.float64],
        beat: Callable[[], None] | None = None,
    ) -> None:
        """Write the sums of ``op`` over rows [start, stop) into ``slot``; call ``beat`` a block."""
        if op == Op.GRADIENT and self._converted is None and 0 < stop - start <= self.block_rows:
            self._gradient_of_one_block(start, stop, slot)
            return
        rows = self._validation if op == Op.EVALUATE_VALIDATION else self._train
        slot[:] = 0.0
        self._vector[-1] = 0.0 if op == Op.CURVATURE else -1.0
        work = self._work(op)
        for begin in range(start, stop, self.block_rows):
            end = min(stop, begin + self.block_rows)
            block = rows[begin:end]
            if self._converted is not None:
                np.copyto(self._converted[: end - begin], block)
                block = self._converted[: end - begin]
            residual = self._residual[: end - begin]
            np.dot(block, self._vector, out=residual)
            work(block, residual, slot)
            if beat is not None:
                beat()
        slot[self._n_sums + COUNTED] = stop - start

    def moments(
        self,
        start: int,
        stop: int,
        out: NDArray[np.float64],
        beat: Callable[[], None],
        done: Callable[[int], None] = lambda rows: None,
    ) -> None:
        """Write Σ z zᵀ over training rows [start, stop), z = (x, 1, y), into ``out`` in float64.

        ``beat`` is called for each part of a block, ``done`` with the rows that it stands for.
        ``out`` (n_folds, n_features + 2, n_features + 2) has a matrix for each fold that the rows
        may belong to; all rows of a shard on disk are of one.
        """
        width = out.shape[-1]
        if not self._columns:
            self._prepare_moments(width)
        out[:] = 0.0
        for begin in range(start, stop, self._rows_at_once):
            rows = self._train[begin : min(stop, begin + self._rows_at_once)]
            if self._moment_block is not None:
                np.copyto(self._moment_block[: len(rows)], rows)
                rows = self._moment_block[: len(rows)]
            if len(out) == 1:
                self._add_moments(rows, out[0], beat, done)
            else:
                folds = cast(FoldedRows, self._train).folds(begin, begin + len(rows))
                for fold, matrix in enumerate(out):
                    self._add_moments(rows[folds == fold], matrix, beat, done)
        for left in range(0, width, self._columns):  # only panels right of the diagonal were made
            right = min(width, left + self._columns)
            for matrix in out:
                matrix[right:, left:right] = matrix[left:right, right:].T

    def _prepare_moments(self, width: int) -> None:
        self._columns = min(width, PANEL_BYTES // (8 * width))
        self._panel = aligned_empty((self._columns * width,), np.float64)
        if self._train.dtype != np.float64:
            self._rows_at_once = min(MOMENT_ROWS, max(64, MOMENT_BYTES // (8 * width)))
        blocks = -(-MIN_MILESTONES // -(-width // self._columns))
        self._rows_at_once = min(self._rows_at_once, max(1, self._train.shape[0] // blocks))
        if self._train.dtype != np.float64:
            self._moment_block = aligned_empty((self._rows_at_once, width), np.float64)

    def _add_moments(
        self,
        block: Array,
        out: NDArray[np.float64],
        beat: Callable[[], None],
        done: Callable[[int], None],
    ) -> None:
        width, told = len(out), 0
        for left in range(0, width, self._columns):
            right = min(width, left + self._columns)
            panel = self._panel[: (right - left) * (width - left)].reshape(right - left, -1)
            np.dot(block[:, left:right].T, block[:, left:], out=panel)
            out[left:right, left:] += panel
            beat()
            rows = len(block) * right // width
            done(rows - told)
            told = rows

    def _gradient_of_one_block(self, start: int, stop: int, slot: NDArray[np.float64]) -> None:
        """The usual part of a mini-batch. Same sums as the general way, in half the calls: at 256
        rows they cost as much as the products."""
        rows, n_sums = stop - start, self._n_sums
        block, residual = self._train[start:stop], self._residual[:rows]
        self._vector[-1] = -1.0
        block.dot(self._vector, residual)
        slot[n_sums + LOSS] = self._objective.loss(residual, residual)
        residual.dot(block, self._product)
        slot[:n_sums] = self._sums
        slot[n_sums + COUNTED] = rows

    def _work(self, op: Op | int) -> Callable[[Array, Array, NDArray[np.float64]], None]:
        if op == Op.GRADIENT:
            return self._gradient
        return self._curvature if op == Op.CURVATURE else self._evaluate

    def _gradient(self, block: Array, residual: Array, slot: NDArray[np.float64]) -> None:
        slot[self._n_sums + LOSS] += self._objective.loss(residual, residual)
        np.dot(residual, block, out=self._product)
        slot[: self._n_sums] += self._sums

    def _evaluate(self, block: Array, residual: Array, slot: NDArray[np.float64]) -> None:
        extras, scratch = self._n_sums, self._scratch[: len(residual)]
        np.abs(residual, out=scratch)
        slot[extras + ABSOLUTE] += scratch.sum()
        slot[extras + SQUARED] += np.dot(residual, residual)
        slot[extras - 1] += residual.sum()
        slot[extras + LOSS] += self._objective.loss(residual, scratch)

    def _curvature(self, block: Array, residual: Array, slot: NDArray[np.float64]) -> None:
        np.dot(residual, block, out=self._product)
        slot[: self._n_sums] += self._sums
