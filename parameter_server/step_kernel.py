"""The arithmetic of a ticket: the gradient of a batch, or steps along many on weights of one's own.

A batch is summed part by part as in a round, and the parts are added in the same order, so its
gradient is the same bytes that a synchronous round makes of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from regatta.models import Penalty
from regatta.parameter_server import learning_rate, optimizers
from regatta.parameter_server.batches import BatchPlan, Stretch
from regatta.parameter_server.kernel import Kernel
from regatta.parameter_server.protocol import COUNTED, LOSS, SLOT_EXTRAS, Op

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class StepPlan:
    """The steps of a run: all that a worker needs to take some of them alone.

    ``local`` tells whether it takes them, or only computes gradients.
    """

    batches: BatchPlan
    total: int
    local: bool
    schedule: str
    optimizer: str
    momentum: float

    def new_optimizer(self, size: int) -> optimizers.Optimizer:
        """The update rule for ``size`` parameters."""
        return optimizers.make(self.optimizer, size, self.momentum)

    @property
    def epochs(self) -> int:
        """Epochs at most."""
        return self.total // self.batches.rounds

    def stretch(self, batch_size: int, shift: int) -> Stretch:
        """The stretch of a run that has batches of this size there."""
        return Stretch(replace(self.batches, batch_size=batch_size), shift=shift)

    def factor(self, stretch: Stretch) -> Callable[[int], float]:
        """The share of the first learning rate that each step of a stretch is taken with."""
        rounds = stretch.plan.rounds
        factor = learning_rate.schedule(self.schedule, self.epochs * rounds, rounds)
        return lambda batch: factor(batch + stretch.shift)

    def widths(self, n_features: int) -> tuple[int, int]:
        """Numbers that a ticket starts from, and that it answers with."""
        size = n_features + 1
        if not self.local:
            return size, size + SLOT_EXTRAS
        state = size + sum(array.size for array in self.new_optimizer(size).state().values())
        return state, state + 2


class StepKernel:
    """Computes tickets over the training rows of a `Kernel`.

    Parameters
    ----------
    kernel : Kernel
    plan : StepPlan
    n_features : int
    beat : callable
        Called for each block of rows.
    """

    def __init__(
        self, kernel: Kernel, plan: StepPlan, n_features: int, beat: Callable[[], None]
    ) -> None:
        self._kernel = kernel
        self._plan = plan
        self._local = plan.local
        self._beat = beat
        self._size = n_features + 1
        self._sums = np.zeros(self._size + SLOT_EXTRAS)
        self._gradient = np.zeros(self._size)
        if plan.local:
            self._optimizer = plan.new_optimizer(self._size)
        self._enter(plan.batches.batch_size, 0)

    def _enter(self, batch_size: int, shift: int) -> None:
        """Compute batches of another stretch from now on."""
        self._present = batch_size, shift
        self._stretch = self._plan.stretch(batch_size, shift)
        self._factor = self._plan.factor(self._stretch)
        self._parts = np.zeros((self._stretch.plan.parts, self._size + SLOT_EXTRAS))
        # Batches of two epochs may be asked for in turn where one ends.
        self._ranges: dict[int, NDArray[np.int64]] = {}

    def run(
        self,
        first: int,
        stride: int,
        count: int,
        start: Vector,
        answer: Vector,
        rate: float,
        penalty: Penalty,
        batch_size: int,
        shift: int,
    ) -> int:
        """Compute a ticket of ``count`` batches from ``start`` into ``answer``; rows it took.

        ``batch_size`` and ``shift`` are those of the stretch that all of them lie in.
        """
        if (batch_size, shift) != self._present:
            self._enter(batch_size, shift)
        if not self._local:
            self._sum(first, start, answer)
            return int(answer[self._size + COUNTED])
        return self._walk(
            range(first, first + stride * count, stride), start, answer, rate, penalty
        )

    def _walk(
        self, batches: range, start: Vector, answer: Vector, rate: float, penalty: Penalty
    ) -> int:
        """Steps along ``batches``. The answer: parameters, the optimizer's memory, the sum of the
        losses on the way, and their rows."""
        state, (loss, rows) = answer[:-2], (0.0, 0)
        np.copyto(state, start)
        parameters, gradient, sums = state[: self._size], self._gradient, self._sums
        unpack(self._optimizer, state[self._size :])
        for batch in batches:
            self._sum(batch, parameters, sums)
            n_rows = sums[self._size + COUNTED]
            loss += sums[self._size + LOSS]
            rows += int(n_rows)
            if n_rows:
                np.multiply(sums[: self._size], 1.0 / n_rows, out=gradient)
                penalty.add_smooth_gradient(parameters, gradient)
                self._optimizer.update(parameters, gradient, rate * self._factor(batch), penalty)
        pack(self._optimizer, state[self._size :])
        answer[-2:] = loss, rows
        return rows

    def _sum(self, batch: int, parameters: Vector, out: Vector) -> None:
        epoch, turn = self._stretch.place(batch)
        kernel, parts = self._kernel, self._parts
        kernel.set_parameters(parameters)
        for part, (start, stop) in enumerate(self._ranges_of(epoch)[turn].tolist()):
            kernel.run(Op.GRADIENT, start, stop, parts[part], self._beat)
        np.add.reduce(parts, axis=0, out=out)
        self._beat()

    def _ranges_of(self, epoch: int) -> NDArray[np.int64]:
        found = self._ranges.get(epoch)
        if found is None:
            if len(self._ranges) > 1:
                del self._ranges[min(self._ranges)]
            found = self._ranges[epoch] = self._stretch.plan.ranges(epoch)
        return found


def pack(optimizer: optimizers.Optimizer, out: Vector) -> None:
    """Write the memory of ``optimizer`` into ``out``, array after array."""
    begin = 0
    for array in optimizer.state().values():
        out[begin : begin + array.size] = array
        begin += array.size


def unpack(optimizer: optimizers.Optimizer, packed: Vector) -> None:
    """Take back what `pack` wrote."""
    begin = 0
    for array in optimizer.state().values():
        array[:] = packed[begin : begin + array.size]
        begin += array.size
