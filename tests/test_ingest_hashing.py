"""Equal cells have equal hashes, wherever they lie; others have others."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from regatta.ingest.hashing import LONG_TEXT, text_hashes

TEXTS = st.text(max_size=20) | st.text("ab\0", min_size=LONG_TEXT - 9, max_size=LONG_TEXT + 9)


@given(st.lists(TEXTS, min_size=1, max_size=30, unique=True))
@example(["", "\0", "\0\0", "a", "a\0", "12345678", "123456780", "1234567812345678"])
def test_a_text_has_one_hash_of_its_own(texts: list[str]) -> None:
    hashes = text_hashes(pa.array(texts))
    assert len(set(hashes.tolist())) == len(texts)
    again = text_hashes(pa.array(["before", *reversed(texts)])[1:])
    np.testing.assert_array_equal(again[::-1], hashes)
    assert [int(text_hashes(pa.array([text]))[0]) for text in texts] == hashes.tolist()


def test_no_text_at_all() -> None:
    assert len(text_hashes(pa.array([], pa.string()))) == 0
    assert len(text_hashes(pa.array(["", ""]))) == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("NEAR BAY", 0x4F7080CE4928D880),
        ("Straße 1, Köln", 0x2D12E36F155A4BD0),
        ("", 0xE220A8397B1DCDAF),
    ],
)
def test_hashes_stay_what_they_are(text: str, expected: int) -> None:
    """By them rows are split into training and validation: others would change every result."""
    assert int(text_hashes(pa.array([text]))[0]) == expected


def test_hashes_are_spread_evenly() -> None:
    hashes = text_hashes(pa.array([f"order-{n:08}" for n in range(100_000)]))
    for bits in (hashes >> np.uint64(60), hashes & np.uint64(15)):
        counts = np.bincount(bits.astype(int), minlength=16)
        assert abs(counts - 6250).max() < 450  # six standard deviations


def test_long_texts_take_little_memory() -> None:
    """A copy of their words from every byte on would be eight times as large as they are."""
    texts = pa.array(["x" * (100 + n % 400) for n in range(20_000)])
    tracemalloc.start()
    text_hashes(texts)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * texts.nbytes
