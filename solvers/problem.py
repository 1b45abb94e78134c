"""A problem to solve: prepared rows, an objective, a penalty, and a pool to compute on.

Everything here is in the units that the rows are stored in: standardised features and a target
divided by its standard deviation.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import numpy as np
from numpy.typing import NDArray

from regatta.metrics import Scores
from regatta.models import Objective, Penalty
from regatta.parameter_server.batches import whole_shards
from regatta.parameter_server.learning_rate import largest_eigenvalue
from regatta.parameter_server.protocol import (
    ABSOLUTE,
    COUNTED,
    LOSS,
    SLOT_EXTRAS,
    SQUARED,
    Op,
)
from regatta.parameter_server.worker_pool import Pool

# Rows of all shards together that the largest eigenvalue is estimated from: its relative error
# is about sqrt(n_features / rows).
EIGENVALUE_ROWS = 65_536


@dataclass
class Problem:
    """min over w, b of 1/n Σ loss(x_i·w + b − y_i) + l1‖w‖₁ + l2/2‖w‖²."""

    pool: Pool
    objective: Objective
    penalty: Penalty
    train_offsets: tuple[int, ...]
    validation_offsets: tuple[int, ...]
    n_features: int
    max_row_norm2: float
    gradient: NDArray[np.float64] = field(init=False)
    loss: float = field(init=False, default=float("nan"))
    rows: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.gradient = np.zeros(self.n_features + 1)
        self._n_sums = self.n_features + 1
        self._sums = np.zeros(self._n_sums + SLOT_EXTRAS)
        self._gradient_sums = self._sums[: self._n_sums]
        # Read at every step, and a number from a view costs a third of one from an array.
        extras = self._sums[self._n_sums :]
        self._extras = cast("memoryview[float]", extras.data)
        self._all_train = whole_shards(self.train_offsets)
        self._all_validation = whole_shards(self.validation_offsets)

    @property
    def rows_train(self) -> int:
        return self.train_offsets[-1]

    @property
    def rows_validation(self) -> int:
        return self.validation_offsets[-1]

    def batch_gradient(
        self, parameters: NDArray[np.float64], first: int, ranges: NDArray[np.int64]
    ) -> None:
        """Set `gradient` (of loss and L2 part), `loss` (mean over the batch) and `rows`.

        Partial sums are added in shard order, so the result does not depend on who made them.
        """
        self._sum(self.pool.run(Op.GRADIENT, parameters, first, ranges))
        self._take_sums(parameters)

    def take_gradient(self, parameters: NDArray[np.float64], sums: NDArray[np.float64]) -> None:
        """`batch_gradient`, of sums that a worker made of a whole batch, maybe at older parameters;
        the penalty's part is of ``parameters``."""
        np.copyto(self._sums, sums)
        self._take_sums(parameters)

    def _take_sums(self, parameters: NDArray[np.float64]) -> None:
        rows = self._extras[COUNTED]
        share = 1.0 / rows if rows else 1.0  # empty where there are more shards than rows
        np.multiply(self._gradient_sums, share, out=self.gradient)
        self.penalty.add_smooth_gradient(parameters, self.gradient)
        self.loss = self._extras[LOSS] * share
        self.rows = int(rows)

    def full_gradient(self, parameters: NDArray[np.float64]) -> None:
        """`batch_gradient` over all training rows."""
        self.batch_gradient(parameters, 0, self._all_train)

    def training_scores(self, parameters: NDArray[np.float64]) -> Scores:
        """Loss and residual sums over all training rows."""
        return self._scores(Op.EVALUATE_TRAIN, parameters, self._all_train)

    def validation_scores(self, parameters: NDArray[np.float64]) -> Scores:
        """Loss and residual sums over the validation rows."""
        return self._scores(Op.EVALUATE_VALIDATION, parameters, self._all_validation)

    def largest_eigenvalue(self) -> float:
        """Of XᵀX/n with a column of ones, from at most `EIGENVALUE_ROWS` rows."""
        ranges = self._all_train.copy()
        share = -(-EIGENVALUE_ROWS // len(ranges))
        ranges[:, 1] = np.minimum(ranges[:, 1], ranges[:, 0] + share)
        rows = int((ranges[:, 1] - ranges[:, 0]).sum())

        def product(vector: NDArray[np.float64]) -> NDArray[np.float64]:
            slots = self.pool.run(Op.CURVATURE, vector.ravel(), 0, ranges)
            return self._sum(slots)[: self._n_sums] / rows

        margin = 1.0 if rows == self.rows_train else 1.1
        found = largest_eigenvalue(product, self._n_sums, self.max_row_norm2 + 1.0)
        return found * margin * self.objective.curvature

    def _scores(self, op: Op, parameters: NDArray[np.float64], ranges: NDArray[np.int64]) -> Scores:
        sums = self._sum(self.pool.run(op, parameters, 0, ranges))
        extras = self._n_sums
        return Scores(
            rows=int(sums[extras + COUNTED]),
            loss_sum=float(sums[extras + LOSS]),
            residual_sum=float(sums[extras - 1]),
            squared_sum=float(sums[extras + SQUARED]),
            absolute_sum=float(sums[extras + ABSOLUTE]),
        )

    def _sum(self, slots: NDArray[np.float64]) -> NDArray[np.float64]:
        """Slots added in shard order, without their padding."""
        return np.add.reduce(slots[:, : len(self._sums)], axis=0, out=self._sums)
