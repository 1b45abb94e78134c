"""Hashes of cells and rows, 64 bits each: by them equal rows are found and rows are split.

A cell has 64 bits: those of a number, or the hash of a text. Mixed and multiplied by an odd number
that belongs to its column they are added to the hash of the row, so that a change of one cell
always changes it. All functions work on whole columns.
"""

from __future__ import annotations

import functools
import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt

from regatta.ingest.values import text_bytes

Hashes = npt.NDArray[np.uint64]

SEED = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
MISSING = np.uint64(0x7FF8000000000000)  # the bits of NaN

# Bytes from which a text is hashed by itself.
LONG_TEXT = 512
# Of a word the first so many bytes.
_KEPT = np.array([(1 << 8 * n) - 1 for n in range(9)], np.uint64)


@functools.cache
def multiplier(index: int) -> np.uint64:
    """The odd number of a column."""
    value = ((index + 1) * int(_MIX_2) + int(SEED)) & 0xFFFFFFFFFFFFFFFF
    value ^= value >> 33
    return np.uint64(value | 1)


def mixed(bits: Hashes, multipliers: Any) -> Hashes:
    """Bits mixed in place, times multipliers; different bits stay different."""
    bits ^= bits >> np.uint64(32)
    bits *= _MIX_1
    bits ^= bits >> np.uint64(29)
    bits *= multipliers
    return bits


def finish(hashes: Hashes, seed: int) -> Hashes:
    """Hashes mixed with a seed (splitmix64's last steps): uniform over 64 bits."""
    bits = hashes ^ np.uint64((seed * int(_MIX_2) + int(SEED)) & 0xFFFFFFFFFFFFFFFF)
    bits ^= bits >> np.uint64(30)
    bits *= _MIX_1
    bits ^= bits >> np.uint64(27)
    bits *= _MIX_2
    bits ^= bits >> np.uint64(31)
    return bits


def text_hashes(texts: Any) -> Hashes:
    """Hashes (n,) of the contents of an Arrow array of strings without gaps.

    A text is taken as words of eight bytes, and hashed as a row is of its cells.
    """
    starts, ends, data = text_bytes(texts)
    lengths = ends - starts
    padded = np.append(data, np.zeros(8, np.uint8))
    words = np.ndarray(len(padded) - 7, "<u8", padded, strides=(1,))  # one from every byte on
    hashes = lengths.astype(np.uint64) * SEED
    longest, left = lengths.max(initial=0), lengths
    rows = np.arange(len(lengths))
    if longest > LONG_TEXT or not lengths.all():
        rows = np.flatnonzero((lengths > 0) & (lengths <= LONG_TEXT))
        starts, left = starts[rows], lengths[rows]
    for place in range(LONG_TEXT // 8):
        if not len(rows):
            break
        bits = words[starts]  # `take` would copy all words first, eight times the texts
        if left.min() < 8:
            bits &= _KEPT[np.minimum(left, 8)]
        mixed(bits, multiplier(place))
        if len(rows) == len(hashes):
            hashes += bits
        else:
            hashes[rows] += bits
        starts, left = starts + 8, left - 8
        if left.min() <= 0:
            more = np.flatnonzero(left > 0)
            rows, starts, left = rows[more], starts[more], left[more]
    for index in np.flatnonzero(lengths > LONG_TEXT) if longest > LONG_TEXT else ():
        text = data[ends[index] - lengths[index] : ends[index]]
        digest = hashlib.blake2b(text.tobytes(), digest_size=8).digest()
        hashes[index] = int.from_bytes(digest, "little")
    return finish(hashes, 0)
