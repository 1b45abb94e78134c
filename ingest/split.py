"""Which rows are held out, and in which order the others come: by seeded hashes of content.

The same rows fall on the same side whatever the order of the file and the number of processes,
and exact duplicates always fall on one side. Memory stays flat: thresholds come from histograms.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from regatta.ingest import hashing
from regatta.ingest.hashing import Hashes
from regatta.ingest.table import ParsedColumn, ParsedTable
from regatta.utils import DataError

MIN_TRAIN_ROWS = 2
MIN_VALIDATION_ROWS = 1
_TOP = np.uint64(48)
_ROW_STRIDE = np.uint64(0xD6E8FEB86659FD93)

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Split:
    """Rows whose seeded hash is at most ``threshold`` are held out."""

    seed: int
    target: ParsedColumn
    threshold: int
    rows_train: int
    rows_validation: int

    def masks(self, table: ParsedTable, group: int) -> tuple[BoolArray, BoolArray]:
        """Training and validation rows of a group; rows without a target are neither."""
        usable = ~np.isnan(table.numbers(group, self.target))
        held_out = hashing.finish(table.hashes(group), self.seed) <= np.uint64(self.threshold)
        return usable & ~held_out, usable & held_out

    def order_keys(self, table: ParsedTable, group: int, first_row: int) -> Hashes:
        """Rows come in the order of these: content and place in the file, hashed with the seed."""
        rows = np.arange(first_row, first_row + table.group_rows[group], dtype=np.uint64)
        return hashing.finish(table.hashes(group) + rows * _ROW_STRIDE, ~self.seed)


def split_rows(table: ParsedTable, target: ParsedColumn, seed: int, share: float) -> Split:
    """Hold out the rows with the smallest seeded hashes.

    Raises
    ------
    DataError
        If there are too few rows for both sides.
    """
    histogram = np.zeros(1 << 16, np.int64)
    for group in table.groups:
        histogram += np.bincount(_hashes(table, target, group, seed) >> _TOP, minlength=1 << 16)
    rows = int(histogram.sum())
    least = MIN_TRAIN_ROWS + MIN_VALIDATION_ROWS
    if rows < least:
        raise DataError(
            f"Only {rows} {'row has' if rows == 1 else 'rows have'} a value of {target.name!r}; "
            f"at least {least} are needed.",
            "Add rows.",
            column=target.name,
        )
    wanted = min(max(round(share * rows), MIN_VALIDATION_ROWS), rows - MIN_TRAIN_ROWS)
    threshold, held_out = _threshold(table, target, seed, histogram, wanted)
    if rows - held_out < MIN_TRAIN_ROWS:
        # Duplicates at the threshold took too many: leave them to training, if others remain.
        threshold, held_out = _below(table, target, seed, threshold)
    if held_out < MIN_VALIDATION_ROWS:
        raise DataError(
            f"The {rows:,} rows are all alike: none can be held out.", "Add rows that differ."
        )
    return Split(seed, target, threshold, rows - held_out, held_out)


def _hashes(table: ParsedTable, target: ParsedColumn, group: int, seed: int) -> Hashes:
    usable = ~np.isnan(table.numbers(group, target))
    return hashing.finish(table.hashes(group)[usable], seed)


def _threshold(
    table: ParsedTable,
    target: ParsedColumn,
    seed: int,
    histogram: npt.NDArray[np.int64],
    wanted: int,
) -> tuple[int, int]:
    """The hash of the last row held out, and how many rows are at or below it."""
    below = np.cumsum(histogram)
    bin_ = int(np.searchsorted(below, wanted))
    before = int(below[bin_] - histogram[bin_])
    inside = np.sort(
        np.concatenate(
            [
                hashes[(hashes >> _TOP) == np.uint64(bin_)]
                for hashes in (_hashes(table, target, group, seed) for group in table.groups)
            ]
        )
    )
    threshold = inside[wanted - before - 1]
    return int(threshold), before + int(np.searchsorted(inside, threshold, side="right"))


def _below(table: ParsedTable, target: ParsedColumn, seed: int, threshold: int) -> tuple[int, int]:
    """The largest hash below a threshold, and how many rows are at or below it."""
    largest, count = -1, 0
    for group in table.groups:
        hashes = _hashes(table, target, group, seed)
        smaller = hashes[hashes < np.uint64(threshold)]
        count += len(smaller)
        if len(smaller):
            largest = max(largest, int(smaller.max()))
    return max(largest, 0), count
