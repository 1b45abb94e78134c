"""What the texts of a column stand for, looked up one by one or worked out as whole arrays."""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regatta.ingest import levels as levels_module
from regatta.ingest.column_type import MAX_LEVEL_LENGTH, MAX_LEVELS_KEPT
from regatta.ingest.hashing import text_hashes
from regatta.ingest.levels import FEW_TEXTS, ChunkLevels, LevelReader
from regatta.ingest.values import text_level

WORDS = ["Oslo", " Oslo", "Oslo\u00a0", "", " ", "NA", "n/a", "none", "Ω", "gone", " gone", "ß"]
MISSING = ("gone",)


def told(found: ChunkLevels, texts: Sequence[str]) -> list[str | None]:
    """The level of each text."""
    assert found.texts is not None
    codes = range(len(texts)) if found.codes is None else found.codes.tolist()
    return [None if code < 0 else found.texts[code] for code in codes]


@given(st.lists(st.lists(st.sampled_from(WORDS) | st.text(max_size=20), unique=True), max_size=5))
def test_a_few_texts_and_many_are_read_alike(chunks: list[list[str]]) -> None:
    few, many = LevelReader(MISSING, 1), LevelReader(MISSING, 1)
    for texts in chunks:
        array = pa.array(texts, pa.string())
        a, b = few.read(array), many._worked_out(array)
        assert told(a, texts) == told(b, texts) == [text_level(each, MISSING) for each in texts]
        assert a.texts == b.texts, "in the order in which they come up"
        assert a.hashes.tolist() == b.hashes.tolist()
        assert a.hashes.tolist() == text_hashes(pa.array(a.texts, pa.string())).tolist()


def test_texts_of_earlier_chunks_are_known() -> None:
    reader = LevelReader((), 1)
    first = reader.read(pa.array(["a", "b "]))
    known = dict(reader.levels)
    again = reader.read(pa.array(["b ", "a"]))
    assert reader.levels == known == {"a": "a", "b ": "b"}
    assert again.texts == ["b", "a"]
    assert again.hashes.tolist() == first.hashes[::-1].tolist()


def memory_of(reader: LevelReader) -> int:
    """Bytes of what a reader knows."""
    parts: list[object] = [*reader.levels, *reader.levels.values()]
    parts += [*reader.hashes, *reader.hashes.values()]
    texts = sum({id(each): sys.getsizeof(each) for each in parts}.values())
    return texts + sys.getsizeof(reader.levels) + sys.getsizeof(reader.hashes)


@pytest.mark.parametrize("text", ["{}", " {} ", " 😀{}" * 40])
def test_what_is_known_takes_no_more_memory_than_it_may(text: str) -> None:
    reader, rng = LevelReader((), levels_module.KNOWN_BYTES // 200_000), random.Random(1)
    for _ in range(60):
        texts = [text.replace("{}", str(each)) for each in rng.sample(range(20_000), 50)]
        assert told(reader.read(pa.array(texts)), texts) == [each.strip() for each in texts]
        assert memory_of(reader) < 200_000
    assert memory_of(reader) > 50_000, "but some"


@pytest.mark.parametrize("count", [3, FEW_TEXTS + 1])
def test_levels_that_are_too_long_are_not_kept(count: int) -> None:
    texts = [*map(str, range(count)), "x" * (MAX_LEVEL_LENGTH + 1)]
    reader = LevelReader((), 1)
    found = reader.read(pa.array(texts))
    assert not reader.levels
    assert found.texts is None
    assert len(np.unique(found.hashes)) == len(texts), "but hashed: rows are told apart"
    assert LevelReader((), 1).read(pa.array(["x" * MAX_LEVEL_LENGTH])).texts is not None


def test_levels_that_are_too_many_are_not_kept() -> None:
    texts = [*map(str, range(MAX_LEVELS_KEPT + 1))]
    assert LevelReader((), 1).read(pa.array(texts)).texts is None
    assert LevelReader((), 1).read(pa.array(texts[1:])).texts == texts[1:]
