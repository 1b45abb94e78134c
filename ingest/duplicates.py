"""How many rows of a parsed table say exactly what another does, by their hashes.

Equal hashes begin alike. What begins alike is brought together and sorted, a part of all
beginnings in each turn, so that memory does not grow with the file:

    groups of rows ──▶ hashes in parts by their first bits ──▶ each part sorted ──▶ equal neighbours
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from regatta.ingest.hashing import Hashes
from regatta.ingest.table import ParsedTable
from regatta.utils import available_cores

HASHES_AT_ONCE = 1 << 24  # in a turn
BATCH_ROWS = 1 << 16
PARTS = 64  # of a turn: small enough for the cache
MAX_THREADS = 4
# A batch has rows of few contents where so many times the usual number begin alike.
UNEVEN = 4
_FIRST_BITS = 16


def count_duplicates(table: ParsedTable) -> int:
    """Rows beyond the first of each content."""
    turns = -(-table.rows // HASHES_AT_ONCE)
    with ThreadPoolExecutor(min(available_cores(), MAX_THREADS)) as threads:  # a sort holds no lock
        return sum(_count_in_turn(table, turns, turn, threads) for turn in range(turns))


def _count_in_turn(table: ParsedTable, turns: int, turn: int, threads: ThreadPoolExecutor) -> int:
    """Duplicates among the hashes whose turn it is."""
    found = list(threads.map(partial(_in_parts, table, turns, turn), _batches(table)))
    parts = zip(*(parts for _, parts in found), strict=True)
    return sum(left_out for left_out, _ in found) + sum(threads.map(_count_equal, parts))


def _batches(table: ParsedTable) -> Iterator[list[int]]:
    """Groups that follow on each other, together of so many rows that looking at them pays."""
    batch, rows = list[int](), 0
    for group, more in zip(table.groups, table.group_rows, strict=True):
        batch.append(group)
        rows += more
        if rows >= BATCH_ROWS:
            yield batch
            batch, rows = [], 0
    if batch:
        yield batch


def _in_parts(
    table: ParsedTable, turns: int, turn: int, groups: Sequence[int]
) -> tuple[int, list[Hashes]]:
    """The hashes of some groups whose turn it is, in parts by their first bits; and how many were
    left out before, as duplicates within these groups, where rows of few contents would make some
    parts much larger than others."""
    hashes = np.concatenate([table.hashes(group) for group in groups])
    bits = min(_FIRST_BITS, (PARTS * turns - 1).bit_length())
    start, stop = ((1 << bits) * each // turns for each in (turn, turn + 1))
    first = _first(hashes, bits)
    counts = np.bincount(first, minlength=1 << bits)
    left_out = 0
    if counts.max() > UNEVEN * max(1, len(hashes) >> bits):
        mine = hashes[(first >= start) & (first < stop)]
        hashes = np.unique(mine)
        left_out = len(mine) - len(hashes)
        first = _first(hashes, bits)
        counts = np.bincount(first, minlength=1 << bits)
    bounds = list(itertools.accumulate(counts.tolist(), initial=0))[start : stop + 1]
    ordered = hashes[first.argsort(kind="stable")[bounds[0] : bounds[-1]]]
    parts = [ordered[a - bounds[0] : b - bounds[0]] for a, b in itertools.pairwise(bounds)]
    return left_out, parts


def _first(hashes: Hashes, bits: int) -> npt.NDArray[np.unsignedinteger[Any]]:
    """The first bits of each hash, in as few bytes as hold them: so they are sorted soonest."""
    first = hashes >> np.uint64(64 - bits)
    return first.astype(np.uint8 if bits <= 8 else np.uint16)


def _count_equal(pieces: Sequence[Hashes]) -> int:
    """How many hashes come again."""
    hashes = np.concatenate(pieces)
    hashes.sort()  # in place: np.unique would keep a second copy
    return int(np.count_nonzero(hashes[1:] == hashes[:-1]))
