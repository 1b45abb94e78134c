"""How many rows of a parsed table say exactly what another does, by their hashes.

Half of a hash is enough to see of nearly every row that it is like no other; where that does not
tell, the whole hashes do. What is sorted is cut into parts, so that memory stays flat.

    hashes ──▶ their lower halves, sorted ──▶ halves that come twice
    hashes with a half that comes twice, sorted ──▶ duplicates
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from regatta.ingest.table import ParsedTable
from regatta.utils import available_cores

Halves = npt.NDArray[np.uint32]

HALVES_AT_ONCE = 1 << 25
HASHES_AT_ONCE = 1 << 21
MAX_THREADS = 4
# Parts that the halves are sorted in at once.
_PARTS = 64
# Of a half that comes twice so many bits are kept.
_KEPT_BITS = 24


def count_duplicates(table: ParsedTable) -> int:
    """Rows beyond the first of each content."""
    turns = -(-table.rows // HALVES_AT_ONCE)
    suspicious = np.zeros(1 << _KEPT_BITS, bool)
    pairs = 0
    with ThreadPoolExecutor(min(available_cores(), MAX_THREADS)) as threads:  # a sort holds no lock
        for turn in range(turns):
            groups = threads.map(partial(_halves, table, turns, turn), table.groups)
            parts = list(zip(*groups, strict=True))
            pairs += sum(threads.map(partial(_mark_doubled, suspicious), parts))
        if not pairs:
            return 0
        most = min(table.rows, int(2 * pairs + table.rows * suspicious.mean()))
        bits = ((most - 1) // HASHES_AT_ONCE).bit_length()
        repeated = partial(_repeated, table, suspicious, bits)
        return sum(threads.map(repeated, range(1 << bits)))


def _halves(table: ParsedTable, turns: int, turn: int, group: int) -> list[Halves]:
    """The lower halves of a group's hashes in parts by the bits they begin with: the parts whose
    turn it is."""
    hashes = table.hashes(group)
    bits = (_PARTS * turns - 1).bit_length()
    first = hashes.view(np.uint16)[3::4] >> np.uint16(16 - bits)
    first = first.astype(np.uint8 if bits <= 8 else np.uint16)
    start, stop = ((1 << bits) * each // turns for each in (turn, turn + 1))
    bounds = np.append(0, np.cumsum(np.bincount(first, minlength=1 << bits)))[start : stop + 1]
    order = first.argsort(kind="stable")[bounds[0] : bounds[-1]]
    return np.split(hashes.view(np.uint32)[::2].take(order), bounds[1:-1] - bounds[0])


def _mark_doubled(suspicious: npt.NDArray[np.bool_], pieces: Any) -> int:
    """Mark the halves that come more than once; how often one follows on its like."""
    halves = np.concatenate(pieces)
    halves.sort()  # in place: np.unique would keep a second copy
    doubled = halves[1:][halves[1:] == halves[:-1]]
    suspicious[doubled >> np.uint32(32 - _KEPT_BITS)] = True
    return len(doubled)


def _repeated(table: ParsedTable, suspicious: npt.NDArray[np.bool_], bits: int, part: int) -> int:
    """How many hashes come again, of those that begin with the ``bits`` of ``part``."""
    chosen = []
    for group in table.groups:
        hashes = table.hashes(group)
        hashes = hashes[suspicious.take(hashes.view(np.uint32)[::2] >> np.uint32(32 - _KEPT_BITS))]
        chosen.append(hashes[hashes >> np.uint64(64 - bits) == part] if bits else hashes)
    together = np.concatenate(chosen)
    together.sort()
    return int(np.count_nonzero(together[1:] == together[:-1]))
