"""What coordinator and workers agree on: operations, the layout of the shared block, who writes.

    ┌ control ────────┐  written by the coordinator alone
    │ version         │  a round is published by raising it after everything else
    │ order × 2       │  op, first shard, number of shards; round v reads order v % 2
    ├ ranges × 2 ─────┤  rows [start, stop) of each shard that the round is about
    ├ parameters × 2 ─┤  (n_features + 1) float64
    ├ owners ─────────┤  the rank that computes each shard
    ├ worker table ───┤  a row a rank, written by that worker alone: progress, times, rows
    ├ slots ──────────┤  a row a shard, written by the shard's owner alone: its partial sums
    ├ matrices ───────┤  a few a worker, written by it alone: moments of a shard, a fold each
    ├ milestones ─────┤  a ring a worker, written by it alone: when it had taken in how many rows
    ├ orders, inputs ─┤  a row a rank, written by the coordinator: its ticket, what it starts from
    └ answers ────────┘  a row a rank, written by that worker alone: what its ticket came to

A worker writes its slots, *then* raises its `done` to the round's version; the coordinator reads
slots only after it. Between rounds a worker may have a ticket of its own, for a batch or for the
moments of a shard: the coordinator writes input and order and then the ticket's number, the worker
its answer and then the same number as `answered`. Nobody takes a lock, so nobody can die holding
one. Both ends spin briefly, yielding the processor, and then sleep on their pipe; who finds the
other asleep sends one byte. Spinning relies on stores being seen in order, which x86 promises;
elsewhere both ends use the pipe alone, whose system calls order memory.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from regatta.parameter_server.data_source import DataSource
from regatta.parameter_server.shared_memory import CACHE_LINE, SharedMemory

if TYPE_CHECKING:
    from regatta.parameter_server.step_kernel import StepPlan

SPINNING_IS_SAFE = platform.machine() in {"x86_64", "AMD64", "i686"}


class Op(IntEnum):
    """What a round computes for each of its shards."""

    GRADIENT = 1  # gradient of the data term and its value, training rows
    EVALUATE_TRAIN = 2  # value, squared and absolute residuals, training rows
    EVALUATE_VALIDATION = 3  # the same, validation rows
    CURVATURE = 4  # XᵀX v over training rows: for the largest eigenvalue
    # What follows is no work on shards that have an owner.
    MOMENTS = 6  # until the next round, second moments of (x, 1, y) over the rows of an order
    TICKETS = 7  # until the next round, each worker computes the tickets it is given
    GATHER = 8  # every worker says that it is here; ranks from the order's count on leave
    EXIT = 9


class WorkerState(IntEnum):
    """What a worker is doing, as it says itself."""

    STARTING = 0
    WAIT = 1
    COMPUTE = 2
    ASLEEP = 3
    LEFT = 4


# Control words (int64). The order of round v starts at ORDER[v % 2]; its words are OP, FIRST and
# COUNT. Two buffers, since a worker without shards in a round may read it late.
VERSION, COORDINATOR_ASLEEP = range(2)
ORDER = (4, 8)
OP, FIRST, COUNT = range(3)
CONTROL_WORDS = 12

# Words of a worker's row: int64 in the first eight, float64 in the next.
# MARK is when (time.perf_counter) the three sums of seconds were last brought up to date.
DONE, HEARTBEAT, ROWS, STATE, ASLEEP, INCARNATION, MILESTONES, ANSWERED = range(8)
COMPUTE_SECONDS, WAIT_SECONDS, COMMUNICATE_SECONDS, MARK = range(8, 12)
WORKER_WORDS = 16

# Words of a rank's order: int64 in the first eight, float64 in the next. An order for moments has
# rows [START, STOP) instead of batches.
TICKET, FIRST_BATCH, STRIDE, BATCHES, BATCH_SIZE, SHIFT = range(6)
START, STOP = range(1, 3)
RATE, L1, L2 = range(8, 11)
ORDER_WORDS = 16

# Milestones of a worker that are kept: a time (time.perf_counter) and its word ROWS, each. Blocks
# of rows follow one another in fractions of a millisecond; somebody asks twenty times a second.
MILESTONES_KEPT = 1024

# A slot holds n_features + 1 sums of the operation (for evaluations only the last: the sum of the
# residuals), then these, then padding.
LOSS, SQUARED, ABSOLUTE, COUNTED = range(4)
SLOT_EXTRAS = 4


@dataclass(frozen=True)
class Layout:
    """Where everything lies in the shared block.

    There are rows for ``n_ranks`` workers, and matrices and milestones for the first
    ``n_matrices`` of them.
    """

    n_features: int
    n_shards: int
    n_ranks: int
    n_matrices: int = 0
    n_folds: int = 1
    input_width: int = 0
    answer_width: int = 0

    @property
    def matrix_width(self) -> int:
        """Rows and columns of a matrix of moments, 0 where none is asked for."""
        return self.n_features + 2 if self.n_matrices else 0

    @property
    def slot_used(self) -> int:
        """Float64 numbers of a slot that mean something."""
        return self.n_features + 1 + SLOT_EXTRAS

    @property
    def slot_width(self) -> int:
        """Float64 numbers in a slot, a whole number of cache lines."""
        return -(-self.slot_used // 8) * 8

    @property
    def milestone_numbers(self) -> int:
        """Float64 numbers of the ring of one worker, 0 where nothing is noted."""
        return 2 * MILESTONES_KEPT if self.n_matrices else 0

    @property
    def parameter_width(self) -> int:
        return -(-(self.n_features + 1) // 8) * 8

    def offsets(self) -> tuple[int, ...]:
        """Byte offsets of control, ranges, owners, parameters, workers, slots, matrices,
        milestones, orders, inputs, answers, end."""
        sizes = (
            CONTROL_WORDS * 8,
            2 * self.n_shards * 2 * 8,
            self.n_shards * 8,
            2 * self.parameter_width * 8,
            self.n_ranks * WORKER_WORDS * 8,
            self.n_shards * self.slot_width * 8,
            self.n_matrices * self.n_folds * self.matrix_width**2 * 8,
            self.n_matrices * self.milestone_numbers * 8,
            self.n_ranks * ORDER_WORDS * 8,
            self.n_ranks * _lines(self.input_width) * 8,
            self.n_ranks * _lines(self.answer_width) * 8,
        )
        ends = np.cumsum([0, *(-(-size // CACHE_LINE) * CACHE_LINE for size in sizes)])
        return tuple(int(end) for end in ends)

    @property
    def size(self) -> int:
        return self.offsets()[-1]


def _lines(width: int) -> int:
    """Float64 numbers in whole cache lines that hold ``width`` of them."""
    return -(-width // 8) * 8


class Board:
    """The shared block as arrays and views, the same in every process."""

    def __init__(self, memory: SharedMemory, layout: Layout) -> None:
        (control, ranges, owners, parameters, workers, slots, matrices, milestones, orders, inputs,
         answers, _) = layout.offsets()  # fmt: skip
        self.memory = memory
        self.layout = layout
        self.control = memory.integers(control, CONTROL_WORDS)
        self.ranges: NDArray[np.int64] = memory.array(ranges, (2, layout.n_shards, 2), np.int64)
        self.range_words = memory.integers(ranges, 4 * layout.n_shards)
        self.owners = memory.integers(owners, layout.n_shards)
        self.parameters: NDArray[np.float64] = memory.array(
            parameters, (2, layout.parameter_width), np.float64
        )[:, : layout.n_features + 1]
        self.slots: NDArray[np.float64] = memory.array(
            slots, (layout.n_shards, layout.slot_width), np.float64
        )
        width = layout.matrix_width
        self.matrices: NDArray[np.float64] = memory.array(
            matrices,
            (layout.n_matrices, layout.n_folds, width, width),
            np.float64,
        )
        rows = [workers + 8 * WORKER_WORDS * rank for rank in range(layout.n_ranks)]
        # DONE, HEARTBEAT, ROWS, STATE, ASLEEP, INCARNATION, MILESTONES, ANSWERED of each rank
        self.counts = [memory.integers(row, WORKER_WORDS) for row in rows]
        # COMPUTE_SECONDS, WAIT_SECONDS, COMMUNICATE_SECONDS, MARK of each rank
        self.times = [memory.floats(row, WORKER_WORDS) for row in rows]
        numbers = layout.milestone_numbers
        self.milestones = [
            memory.floats(milestones + 8 * numbers * rank, numbers)
            for rank in range(layout.n_matrices)
        ]
        rows = [orders + 8 * ORDER_WORDS * rank for rank in range(layout.n_ranks)]
        # TICKET, FIRST_BATCH, STRIDE, BATCHES, BATCH_SIZE, SHIFT of each rank, and its RATE, L1, L2
        self.orders = [memory.integers(row, ORDER_WORDS) for row in rows]
        self.order_numbers = [memory.floats(row, ORDER_WORDS) for row in rows]
        self.inputs = self._rows_of(inputs, layout.input_width)
        self.answers = self._rows_of(answers, layout.answer_width)

    def _rows_of(self, offset: int, width: int) -> NDArray[np.float64]:
        """A row of ``width`` numbers for each rank, each on cache lines of its own."""
        shape = (self.layout.n_ranks, _lines(width))
        array: NDArray[np.float64] = self.memory.array(offset, shape, np.float64)
        return array[:, :width]


@dataclass(frozen=True)
class WorkerSetup:
    """What a worker is told when it is spawned."""

    rank: int
    incarnation: int
    layout: Layout
    source: DataSource
    model: str
    arithmetic: str
    log: str
    version: int  # rounds up to this one are over
    ticket: int = 0  # what its predecessor was given last
    steps: StepPlan | None = None  # where tickets will be given


# Messages of a worker: one byte that says what, then text. Nothing is pickled.
READY = b"R"  # data mapped, buffers made
FAILED = b"F"  # an error; the traceback follows
FINISHED = b"d"  # a round is done: only to wake the coordinator
WAKE = b"w"  # from the coordinator: look at the version
