"""What the different texts of a column stand for, chunk after chunk: levels, or no value.

A chunk brings its texts as a dictionary. A few are looked up one by one among those of earlier
chunks, which takes less time than to start a dozen functions on whole arrays; many are worked on
as whole arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from regatta.ingest import hashing
from regatta.ingest.column_type import MAX_LEVEL_LENGTH, MAX_LEVELS_KEPT
from regatta.ingest.values import text_level, text_levels

FEW_TEXTS = 1_000
# What texts that are known may take in memory, those of all columns together.
KNOWN_BYTES = 16 << 20
# Of a text beside its letters: two strings, their places in two dictionaries, a hash.
TEXT_BYTES = 400


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
        self.most = KNOWN_BYTES // columns
        self.levels: dict[str, str | None] = {}  # of each text that is known
        self.hashes: dict[str, int] = {}  # of each level
        self.size = 0

    def read(self, texts: Any) -> ChunkLevels:
        """The levels of an Arrow array of different strings."""
        if len(texts) <= FEW_TEXTS:
            return self._looked_up(texts.to_pylist())
        return self._worked_out(texts)

    def _looked_up(self, texts: list[str]) -> ChunkLevels:
        known = self.levels
        new = [text for text in texts if text not in known]
        if new:
            self._learn(new if self.size <= self.most else texts)
        codes: dict[str, int] = {}
        each = [
            -1 if (level := known[text]) is None else codes.setdefault(level, len(codes))
            for text in texts
        ]
        return ChunkLevels(
            [*codes] if max(map(len, codes), default=0) <= MAX_LEVEL_LENGTH else None,
            None if len(codes) == len(texts) else np.array(each, np.int32),
            np.array([self.hashes[level] for level in codes], np.uint64),
        )

    def _learn(self, texts: Sequence[str]) -> None:
        """Know some texts, and forget others where they are too many."""
        import pyarrow as pa

        if self.size > self.most:
            self.levels.clear()
            self.hashes.clear()
            self.size = 0
        self.levels.update((text, text_level(text, self.missing)) for text in texts)
        levels = [level for level in map(self.levels.__getitem__, texts) if level is not None]
        hashes = hashing.text_hashes(pa.array(levels, pa.string())).tolist()
        self.hashes.update(zip(levels, hashes, strict=True))
        self.size += sum(len(text) + TEXT_BYTES for text in texts)

    def _worked_out(self, texts: Any) -> ChunkLevels:
        levels, codes = text_levels(texts, self.missing)
        kept = len(levels) <= MAX_LEVELS_KEPT and _longest(levels) <= MAX_LEVEL_LENGTH
        return ChunkLevels(
            levels.to_pylist() if kept else None,
            None if levels is texts else codes,
            hashing.text_hashes(levels),
        )


def _longest(texts: Any) -> int:
    """Letters of the longest text."""
    import pyarrow.compute as pc

    return pc.max(pc.utf8_length(texts)).as_py() or 0
