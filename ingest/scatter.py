"""Parsed rows to shuffled, standardised rows on disk, in memory that does not grow with them.

    block of rows ──encode──▶ moments                       (merged in the order of blocks)
    block of rows ──encode, standardise, cast──▶ buckets    (by the top bits of the order key)
    bucket ──sort by order key──▶ its place in the file of rows

A block is a fixed range of rows. Each writes to places that are known beforehand, so any number
of processes gives the same bytes. The functions at the end are calls for a child process.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from regatta.ingest.hashing import Hashes
from regatta.ingest.split import Split
from regatta.ingest.table import ParsedTable, load_table
from regatta.preprocessing import (
    CategoryEncoding,
    ColumnEncoding,
    FloatArray,
    Preprocessing,
    standardise,
)

BLOCK_BYTES = 8 << 20
BUCKET_BYTES = 16 << 20
MAX_BLOCK_ROWS = 1 << 17
PARTS = ("train", "validation")
# What a row that no shard holds is marked with.
VALIDATION, LEFT_OUT = 0xFFFE, 0xFFFF
MEDIAN_ROWS = 1_000_000
MARKS_NAME = "marks.bin"
HISTOGRAM_BITS = 12


@dataclass(frozen=True)
class Block:
    """Some rows of a group."""

    group: int
    start: int
    stop: int
    first_row: int  # of the group, in the file


@dataclass(frozen=True)
class Moments:
    """Count, mean and sum of squared deviations, minimum and maximum, of each feature."""

    rows: int
    mean: FloatArray
    deviation: FloatArray
    low: FloatArray
    high: FloatArray

    def merged(self, other: Moments) -> Moments:
        """Both together (Chan, Golub and LeVeque, 1979)."""
        if not other.rows:
            return self
        if not self.rows:
            return other
        rows = self.rows + other.rows
        step = other.mean - self.mean
        return Moments(
            rows,
            self.mean + step * (other.rows / rows),
            self.deviation + other.deviation + step**2 * (self.rows * other.rows / rows),
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
        )

    @property
    def scale(self) -> FloatArray:
        """Population standard deviation."""
        return np.sqrt(self.deviation / max(self.rows, 1))


@dataclass(frozen=True)
class Plan:
    """All that a process needs to turn rows of a table into prepared rows."""

    table_directory: Path
    split: Split
    preprocessing: Preprocessing
    dtype: str
    target_mean: float = 0.0
    target_scale: float = 1.0
    folder: Path = field(default_factory=Path)
    bits: int = 0

    @cached_property
    def table(self) -> ParsedTable:
        return load_table(self.table_directory)

    @cached_property
    def means(self) -> FloatArray:
        return self.preprocessing.means

    @cached_property
    def scales(self) -> FloatArray:
        return self.preprocessing.scales

    @cached_property
    def level_maps(self) -> dict[str, npt.NDArray[np.intp]]:
        """For each category, the indicator that each code of the table sets (the last: missing)."""
        maps = {}
        for column in self.preprocessing.columns:
            if isinstance(column, CategoryEncoding):
                levels = np.array([*self.table.column(column.name).levels, None], dtype=object)
                maps[column.name] = column.indices(levels)
        return maps

    def marks(self, mode: Any) -> npt.NDArray[np.uint16]:
        """Mapped: for each row of the file the shard that shuffling would put it into, or
        `VALIDATION`, or `LEFT_OUT`."""
        path = self.folder / MARKS_NAME
        return np.memmap(path, np.uint16, mode, shape=(self.table.rows,)).view(np.ndarray)

    def rows_of(self, part: str) -> int:
        return self.split.rows_train if part == "train" else self.split.rows_validation

    def path(self, kind: str, part: str) -> Path:
        return self.folder / (f"{part}.bin" if kind == "rows" else f"{kind}_{part}.bin")

    def opened(self, kind: str, part: str, mode: Any = "r+") -> npt.NDArray[Any]:
        """Rows or keys of a part, mapped."""
        dtype, shape = self._form(kind, part)
        return np.memmap(self.path(kind, part), dtype, mode, shape=shape)

    def size(self, kind: str, part: str) -> int:
        """Bytes of the rows or keys of a part."""
        dtype, shape = self._form(kind, part)
        return dtype.itemsize * math.prod(shape)

    def _form(self, kind: str, part: str) -> tuple[np.dtype[Any], tuple[int, ...]]:
        rows = self.rows_of(part)
        if kind == "keys":
            return np.dtype(np.uint64), (rows,)
        return np.dtype(self.dtype), (rows, len(self.preprocessing.features) + 2)


def blocks_of(table: ParsedTable, width: int) -> list[Block]:
    """The rows of a table in blocks that fit into memory as features."""
    most = min(MAX_BLOCK_ROWS, max(64, BLOCK_BYTES // (8 * max(width, 1))))
    found, first = [], 0
    for group, rows in enumerate(table.group_rows):
        found += [
            Block(group, start, min(start + most, rows), first) for start in range(0, rows, most)
        ]
        first += rows
    return found


def column_values(
    plan: Plan, column: ColumnEncoding, block: Block, chosen: npt.NDArray[np.intp]
) -> npt.NDArray[Any]:
    """The cells of some rows of a block, as `ColumnEncoding.encode` takes them."""
    table = plan.table
    parsed = table.column(column.name)
    if isinstance(column, CategoryEncoding):
        codes = table.codes(block.group, parsed)[block.start : block.stop][chosen]
        return plan.level_maps[column.name][codes]
    return table.numbers(block.group, parsed)[block.start : block.stop][chosen]


def raw_features(plan: Plan, block: Block, chosen: npt.NDArray[np.intp]) -> FloatArray:
    """Features before scaling, (n_features, n_chosen)."""
    columns = plan.preprocessing.columns
    values = {each.name: column_values(plan, each, block, chosen) for each in columns}
    return plan.preprocessing.encode(values, len(chosen))


def chosen_rows(plan: Plan, block: Block, part: str) -> npt.NDArray[np.intp]:
    """Positions within the block of the rows of a part."""
    masks = plan.split.masks(plan.table, block.group)
    mask = masks[PARTS.index(part)]
    return np.flatnonzero(mask[block.start : block.stop])


def bucket_bits(rows: int, width: int, itemsize: int) -> int:
    """How many top bits of the order key make buckets that fit into memory."""
    size = rows * max(width, 1) * itemsize
    bits = 0
    while size >> bits > BUCKET_BYTES:
        bits += 1
    return bits


def bucket_of(keys: Hashes, bits: int) -> npt.NDArray[np.int64]:
    if not bits:
        return np.zeros(len(keys), np.int64)
    return (keys >> np.uint64(64 - bits)).astype(np.int64)


def block_keys(plan: Plan, block: Block, chosen: npt.NDArray[np.intp]) -> Hashes:
    keys = plan.split.order_keys(plan.table, block.group, block.first_row)
    return keys[block.start : block.stop][chosen]


def runs(buckets: npt.NDArray[np.int64]) -> Iterator[tuple[int, int, int]]:
    """(bucket, start, stop) of each run in sorted bucket numbers."""
    if not len(buckets):
        return
    edges = np.flatnonzero(np.diff(buckets)) + 1
    starts = [0, *edges.tolist()]
    for start, stop in zip(starts, [*starts[1:], len(buckets)], strict=True):
        yield int(buckets[start]), start, stop


# -- calls for a child process --------------------------------------------------------------------


def open_plan(state: dict[str, Any], plan: Plan) -> None:
    state.clear()
    state["plan"] = plan


def column_statistics(state: dict[str, Any], names: Sequence[str]) -> list[Any]:
    """For each column its median over training rows (``None`` if all are missing), or for a
    category the rows of each level. Medians are of at most `MEDIAN_ROWS` evenly spaced rows."""
    plan: Plan = state["plan"]
    table, split = plan.table, plan.split
    columns = [table.column(name) for name in names]
    step = -(-split.rows_train // MEDIAN_ROWS)
    numbers: list[list[FloatArray]] = [[] for _ in columns]
    counts = [np.zeros(len(column.levels) + 1, np.int64) for column in columns]
    seen = 0
    for group in table.groups:
        rows = np.flatnonzero(split.masks(table, group)[0])
        spaced = rows[-seen % step :: step]
        seen += len(rows)
        for place, column in enumerate(columns):
            if column.kind == "category":
                codes = table.codes(group, column)[rows]
                counts[place] += np.bincount(codes + 1, minlength=len(column.levels) + 1)
            else:
                numbers[place].append(table.numbers(group, column)[spaced])
    return [
        dict(zip((None, *column.levels), counts[place].tolist(), strict=True))
        if column.kind == "category"
        else _median(numbers[place])
        for place, column in enumerate(columns)
    ]


def _median(parts: list[FloatArray]) -> float | None:
    values = np.concatenate(parts)
    values = values[~np.isnan(values)]
    return float(np.median(values)) if len(values) else None


def moments_of(state: dict[str, Any], block: Block) -> Moments:
    """Moments of the raw features of a block's training rows, the target's as the last."""
    plan: Plan = state["plan"]
    chosen = chosen_rows(plan, block, "train")
    raw = raw_features(plan, block, chosen)
    target = plan.table.numbers(block.group, plan.split.target)[block.start : block.stop][chosen]
    together = np.concatenate([raw, target[None, :]])
    rows = together.shape[1]
    if not rows:
        nothing = np.zeros(len(together))
        return Moments(0, nothing, nothing, nothing, nothing)
    low, high = together.min(axis=1), together.max(axis=1)
    with np.errstate(over="ignore", invalid="ignore"):  # told where the scale is not finite
        mean = together.mean(axis=1)
        together -= mean[:, None]
        np.square(together, out=together)
        return Moments(rows, mean, together.sum(axis=1), low, high)


def count_buckets(state: dict[str, Any], block: Block) -> dict[str, npt.NDArray[np.int64]]:
    """How many rows of a block go into each bucket, a part."""
    plan: Plan = state["plan"]
    counts = {}
    for part in PARTS:
        keys = block_keys(plan, block, chosen_rows(plan, block, part))
        counts[part] = np.bincount(bucket_of(keys, plan.bits), minlength=1 << plan.bits)
    return counts


def key_histogram(state: dict[str, Any], block: Block) -> npt.NDArray[np.int64]:
    """How many training rows of a block have each value of the top bits of the order key."""
    plan: Plan = state["plan"]
    keys = block_keys(plan, block, chosen_rows(plan, block, "train"))
    return np.bincount(bucket_of(keys, HISTOGRAM_BITS), minlength=1 << HISTOGRAM_BITS)


def keys_within(state: dict[str, Any], block: Block, bins: npt.NDArray[np.int64]) -> Hashes:
    """The order keys of a block's training rows whose top bits are among ``bins``."""
    plan: Plan = state["plan"]
    keys = block_keys(plan, block, chosen_rows(plan, block, "train"))
    return keys[np.isin(bucket_of(keys, HISTOGRAM_BITS), bins)]


def mark_block(state: dict[str, Any], block: Block, bounds: Hashes) -> None:
    """Mark each row of a block with its shard; ``bounds`` are the first keys of all but one."""
    plan: Plan = state["plan"]
    start = block.first_row + block.start
    marks = plan.marks("r+")[start : block.first_row + block.stop]
    marks[:] = LEFT_OUT
    chosen = chosen_rows(plan, block, "train")
    marks[chosen] = np.searchsorted(bounds, block_keys(plan, block, chosen), side="right")
    marks[chosen_rows(plan, block, "validation")] = VALIDATION


def scatter_block(
    state: dict[str, Any], block: Block, places: dict[str, npt.NDArray[np.int64]]
) -> float:
    """Write a block's rows to their buckets; the largest squared norm of its training rows."""
    plan: Plan = state["plan"]
    norm = 0.0
    for part in PARTS:
        chosen = chosen_rows(plan, block, part)
        if not len(chosen):
            continue
        keys = block_keys(plan, block, chosen)
        order = np.argsort(keys, kind="stable")
        chosen, keys = chosen[order], keys[order]
        rows = prepared_rows(plan, block, chosen)
        if part == "train":
            x = rows[:, :-2]
            squares = np.einsum("ij,ij->i", x, x, dtype=np.float64)
            norm = max(norm, float(squares.max(initial=0.0)))
        outputs = [(plan.opened(kind, part), v) for kind, v in (("rows", rows), ("keys", keys))]
        for bucket, start, stop in runs(bucket_of(keys, plan.bits)):
            place = int(places[part][bucket])
            for out, values in outputs:
                out[place : place + stop - start] = values[start:stop]
    return norm


def sort_bucket(state: dict[str, Any], part: str, start: int, stop: int) -> None:
    """Put the rows of a bucket, written in the order of blocks, in the order of their keys."""
    plan: Plan = state["plan"]
    order = np.argsort(plan.opened("keys", part)[start:stop], kind="stable")
    out = plan.opened("rows", part)
    out[start:stop] = out[start:stop][order]


def prepared_rows(plan: Plan, block: Block, chosen: npt.NDArray[np.intp]) -> npt.NDArray[Any]:
    """Standardised features, a one and the scaled target, (n_chosen, n_features + 2)."""
    raw = raw_features(plan, block, chosen)
    standardise(raw, plan.means, plan.scales)
    y = plan.table.numbers(block.group, plan.split.target)[block.start : block.stop][chosen]
    rows = np.empty((len(chosen), len(raw) + 2), plan.dtype)
    rows[:, :-2] = raw.T
    rows[:, -2] = 1.0
    rows[:, -1] = (y - plan.target_mean) / plan.target_scale
    return rows
