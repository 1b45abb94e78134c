"""Which rows a mini-batch is made of: a function of rows, shards, batch size, seed and epoch.

Nothing here knows how many workers there are. A batch is cut into parts of at least 256 rows,
each from another shard; shards take turns. The blocks of each shard come in an order of its own,
a new one every epoch.

    16 shards, batch 1,024 →  4 parts of 256 rows:  round 0: shards 0–3, the first block of each
                                                    round 1: shards 4–7, the first block of each  …
                                                    round 4: shards 0–3, the second of each  …

A run whose batch size is changed has a `Stretch` for each: the new plan goes on in the same epoch,
as far in it as the old one was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

MIN_PART_ROWS = 256


@dataclass(frozen=True)
class BatchPlan:
    """The rounds of every epoch.

    Parameters
    ----------
    offsets : tuple of int
        First row of each shard, and the end: (n_shards + 1) values.
    batch_size : int
        Rows a batch, as asked for. Batches differ from it, since blocks of a shard are made
        equally long.
    seed : int
    """

    offsets: tuple[int, ...]
    batch_size: int
    seed: int

    @property
    def n_shards(self) -> int:
        return len(self.offsets) - 1

    @property
    def n_rows(self) -> int:
        return self.offsets[-1]

    @cached_property
    def _longest_shard(self) -> int:
        return max(1, int(np.diff(self.offsets).max()))

    @cached_property
    def parts(self) -> int:
        """Shards that a batch takes rows from; divides their number."""
        divisors = [p for p in range(1, self.n_shards + 1) if self.n_shards % p == 0]
        wanted = max(1, self.batch_size // MIN_PART_ROWS)
        parts = max(p for p in divisors if p <= wanted)
        if parts * self._longest_shard < self.batch_size:  # whole shards are not enough
            parts = next(
                (p for p in divisors if p * self._longest_shard >= self.batch_size), self.n_shards
            )
        return parts

    @cached_property
    def turns(self) -> int:
        """Blocks that each shard is cut into."""
        return -(-self._longest_shard // -(-self.batch_size // self.parts))

    @property
    def groups(self) -> int:
        """Sets of shards that take turns."""
        return self.n_shards // self.parts

    @property
    def rounds(self) -> int:
        """Batches in an epoch."""
        return self.turns * self.groups

    def first_shards(self) -> NDArray[np.int64]:
        """The first shard of each round of an epoch, (rounds,)."""
        return np.tile(np.arange(self.groups) * self.parts, self.turns)

    def ranges(self, epoch: int) -> NDArray[np.int64]:
        """Rows [start, stop) of each round and part, (rounds, parts, 2)."""
        offsets = np.asarray(self.offsets, dtype=np.int64)
        lengths = np.diff(offsets)
        # Each shard in an order of its own: rows that met in a batch of this epoch meet others in
        # the next. If they met in every epoch, a few rows far out in the same direction would be
        # a batch that no safe learning rate knows of.
        order = np.tile(np.arange(self.turns), (self.n_shards, 1))
        np.random.default_rng((self.seed, epoch)).permuted(order, axis=1, out=order)
        cuts = offsets[:-1, None] + lengths[:, None] * np.arange(self.turns + 1) // self.turns
        starts, stops = (np.take_along_axis(cuts, order + end, axis=1) for end in (0, 1))
        blocks = np.stack([starts, stops], axis=-1)  # (shards, turns, 2)
        grouped = blocks.reshape(self.groups, self.parts, self.turns, 2)
        return np.ascontiguousarray(grouped.transpose(2, 0, 1, 3)).reshape(
            self.rounds, self.parts, 2
        )


@dataclass(frozen=True)
class Stretch:
    """The batches of a run from number ``first`` on, cut by one plan.

    Batch b is what b + ``shift`` would be in a run that had this plan from its beginning.
    """

    plan: BatchPlan
    first: int = 0
    shift: int = 0

    def place(self, batch: int) -> tuple[int, int]:
        """Epoch of a batch, and round in it."""
        return divmod(batch + self.shift, self.plan.rounds)

    def followed_by(self, batch_size: int, first: int) -> Stretch:
        """Batches of another size from ``first`` on. In what is left of the epoch some rows come
        again and others not at all: the rows are cut anew."""
        plan = replace(self.plan, batch_size=batch_size)
        epoch, turn = self.place(first)
        done = turn * plan.rounds // self.plan.rounds
        return Stretch(plan, first, epoch * plan.rounds + done - first)


def shard_offsets(n_rows: int, n_shards: int) -> tuple[int, ...]:
    """First row of each of ``n_shards`` nearly equal shards, and the end."""
    return tuple(n_rows * shard // n_shards for shard in range(n_shards + 1))


def folds_of_shards(offsets: Sequence[int], n_folds: int) -> list[int]:
    """The fold of each shard: of those that have rows, in turns.

    Where there are fewer rows than shards, they lie in every second or third one: counting the
    empty ones would leave a fold without rows.
    """
    filled = np.diff(np.asarray(offsets)) > 0
    found: list[int] = ((np.cumsum(filled) - 1) % n_folds).tolist()
    return found


def whole_shards(offsets: tuple[int, ...] | list[int]) -> NDArray[np.int64]:
    """Ranges of a round over all rows of all shards, (n_shards, 2)."""
    ends = np.asarray(offsets, dtype=np.int64)
    return np.stack([ends[:-1], ends[1:]], axis=-1)
