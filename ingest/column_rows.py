"""Prepared rows made from parsed columns when they are asked for, in the order of the file.

    marks of the rows ──▶ which rows of a group ──encode, standardise──▶ a page of rows ──▶ slices

For whoever passes over the rows once or twice this saves writing them: all of the time and the
space of a second copy. Steps of mini-batches want them shuffled and on disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from regatta.ingest.scatter import (
    VALIDATION,
    Block,
    Plan,
    prepared_rows,
)

PAGE_BYTES = 4 << 20
MIN_PAGE_ROWS = 4096


class ColumnRows:
    """The rows of one part, as an array (n_rows, n_features + 2) that is made page by page.

    Parameters
    ----------
    plan : Plan
        With the folder that holds the marks of the rows.
    part : {"train", "validation"}
    fold_of_shard : sequence of int
        The fold of the training rows that are marked with each shard; empty if nobody asks.
    """

    def __init__(self, plan: Plan, part: str, fold_of_shard: Sequence[int] = ()) -> None:
        self._plan = plan
        self._marks = plan.marks("r")
        self._part = part
        self._fold_of_shard = np.array(fold_of_shard, np.uint8)
        table = plan.table
        self._first = np.cumsum([0, *table.group_rows])  # rows of the file before each group
        counts = [np.count_nonzero(self._chosen(group)) for group in table.groups]
        self._before = np.cumsum([0, *counts])  # rows of the part before each group
        self.dtype = np.dtype(plan.dtype)
        self.shape = (int(self._before[-1]), len(plan.preprocessing.features) + 2)
        self._page_rows = max(MIN_PAGE_ROWS, PAGE_BYTES // (8 * self.shape[1]))
        self._page: npt.NDArray[Any] = np.empty((0, self.shape[1]), self.dtype)
        self._page_folds = np.empty(0, np.uint8)
        self._start = 0

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> npt.NDArray[Any]:
        """Some rows. Valid until the next ones are asked for."""
        start, stop, _ = rows.indices(len(self))
        self._turn_to(start, stop)
        return self._page[start - self._start : stop - self._start]

    def folds(self, start: int, stop: int) -> npt.NDArray[np.uint8]:
        """The fold of each of some training rows."""
        self._turn_to(start, stop)
        return self._page_folds[start - self._start : stop - self._start]

    def _chosen(self, group: int) -> npt.NDArray[np.bool_]:
        marks = self._marks[self._first[group] : self._first[group + 1]]
        chosen: npt.NDArray[np.bool_] = (
            marks < VALIDATION if self._part == "train" else marks == VALIDATION
        )
        return chosen

    def _turn_to(self, start: int, stop: int) -> None:
        """Make the page that begins with ``start``, unless the rows lie on the present one."""
        if self._start <= start and stop <= self._start + len(self._page):
            return
        end = min(len(self), max(stop, start + self._page_rows))
        pages, folds = [], []
        group = int(np.searchsorted(self._before, start, side="right")) - 1
        at = start
        while at < end:
            rows, fold = self._rows(group, at, min(end, int(self._before[group + 1])))
            pages.append(rows)
            folds.append(fold)
            at += len(rows)
            group += 1
        self._start = start
        self._page = np.concatenate(pages) if len(pages) > 1 else pages[0]
        self._page_folds = np.concatenate(folds)

    def _rows(
        self, group: int, start: int, stop: int
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.uint8]]:
        """Rows [start, stop) of the part, which lie in one group, and their folds."""
        first = int(self._first[group])
        skipped = int(self._before[group])
        chosen = np.flatnonzero(self._chosen(group))[start - skipped : stop - skipped]
        block = Block(group, 0, self._plan.table.group_rows[group], first)
        rows = prepared_rows(self._plan, block, chosen)
        if not len(self._fold_of_shard):
            return rows, np.zeros(len(rows), np.uint8)
        return rows, self._fold_of_shard[self._marks[first + chosen]]
