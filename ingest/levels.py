"""What the different texts of a column stand for, chunk after chunk: levels, or no value.

A chunk brings its texts as a dictionary. A few that were seen before are looked up one by one,
which takes less time than to start a dozen functions on whole arrays; all else is worked on as
whole arrays.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from regatta.ingest import hashing
from regatta.ingest.column_type import MAX_LEVEL_LENGTH, MAX_LEVELS_KEPT
from regatta.ingest.values import text_bytes, text_level, text_levels

# Looked up one by one; from some more on, whole arrays are faster.
FEW_TEXTS = 400
# What is known takes at most so much memory, all columns together; or so much each, if many.
KNOWN_BYTES, LEAST_BYTES = 16 << 20, 4 << 10
# Of a text beside itself and its level: their places in two dictionaries, a hash.
ENTRY_BYTES = 300


@dataclass(frozen=True)
class ChunkLevels:
    """The levels of a chunk's dictionary, in the order in which they come up.

    ``texts`` is ``None`` where they are too many to be kept, or too long. ``codes`` (n_texts,) is
    the level of each text of the dictionary, -1 where it says "no value"; ``None``: each text is a
    level of its own. ``hashes`` (n_levels,) are not yet mixed.
    """

    texts: list[str] | None
    codes: npt.NDArray[np.int32] | None
    hashes: hashing.Hashes


class LevelReader:
    """Reads the dictionaries of one column.

    Parameters
    ----------
    missing : sequence of str
        Further words that stand for no value.
    columns : int
        Columns that share the memory for what is known.
    """

    def __init__(self, missing: Sequence[str], columns: int) -> None:
        self.missing = missing
        self.room = max(LEAST_BYTES, KNOWN_BYTES // columns)
        self.levels: dict[str, str | None] = {}  # of each text that is known
        self.hashes: dict[str, int] = {}  # of each level

    def read(self, texts: Any) -> ChunkLevels:
        """The levels of an Arrow array of different strings."""
        if len(texts) > FEW_TEXTS:
            return self._worked_out(texts)
        words = texts.to_pylist()
        if all(map(self.levels.__contains__, words)) or self._learn(words):
            return self._looked_up(words)
        return self._worked_out(texts)

    def _looked_up(self, texts: Sequence[str]) -> ChunkLevels:
        codes: dict[str, int] = {}
        each = [
            -1 if level is None else codes.setdefault(level, len(codes))
            for level in map(self.levels.__getitem__, texts)
        ]
        hashes = np.array([self.hashes[level] for level in codes], np.uint64)
        own = len(codes) == len(texts)
        return ChunkLevels([*codes], None if own else np.array(each, np.int32), hashes)

    def _learn(self, texts: Sequence[str]) -> bool:
        """Know some texts from now on, if they may be kept and there is room for them."""
        import pyarrow as pa

        new = [text for text in texts if text not in self.levels]
        size = sum(2 * sys.getsizeof(text) + ENTRY_BYTES for text in new)
        if size > self.room or max(map(len, new)) > MAX_LEVEL_LENGTH:
            return False
        self.room -= size
        known = {text: text_level(text, self.missing) for text in new}
        levels = [level for level in known.values() if level is not None]
        hashes = hashing.text_hashes(pa.array(levels, pa.string())).tolist()
        self.levels.update(known)
        self.hashes.update(zip(levels, hashes, strict=True))
        return True

    def _worked_out(self, texts: Any) -> ChunkLevels:
        levels, codes = text_levels(texts, self.missing)
        kept = len(levels) <= MAX_LEVELS_KEPT and not _any_long(levels)
        return ChunkLevels(
            levels.to_pylist() if kept else None,
            None if levels is texts else codes,
            hashing.text_hashes(levels),
        )


def _any_long(texts: Any) -> bool:
    """Whether one of the texts has too many letters for a level."""
    starts, ends, _ = text_bytes(texts)
    if (ends - starts).max(initial=0) <= MAX_LEVEL_LENGTH:
        return False
    import pyarrow.compute as pc  # not before: its import takes as long as parsing 15 MB

    return bool(pc.max(pc.utf8_length(texts)).as_py() > MAX_LEVEL_LENGTH)
