"""Duplicate rows: exactly as many as there are, in whatever parts the hashes are looked at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from regatta.data_pipeline import import_csv
from regatta.ingest import duplicates

Write = Callable[[str], Path]


class _Table:
    """What is asked of a table: hashes in groups."""

    def __init__(self, hashes: npt.NDArray[np.uint64], group: int) -> None:
        self.rows = len(hashes)
        self.parts = [hashes[start : start + group] for start in range(0, len(hashes), group)]
        self.groups = range(len(self.parts))

    def hashes(self, group: int) -> npt.NDArray[np.uint64]:
        return self.parts[group]


@pytest.fixture(params=[(1 << 25, 1 << 21), (700, 100)], ids=["whole", "in parts"])
def sizes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "HALVES_AT_ONCE", request.param[0])
    monkeypatch.setattr(duplicates, "HASHES_AT_ONCE", request.param[1])


def _counted(hashes: npt.NDArray[np.uint64], group: int = 97) -> int:
    return duplicates.count_duplicates(_Table(hashes, group))  # type: ignore[arg-type]


@pytest.mark.usefixtures("sizes")
@pytest.mark.parametrize("different", [1, 2, 500, 1900, 2000])
def test_every_row_beyond_the_first_of_its_content_counts(different: int) -> None:
    rng = np.random.default_rng(different)
    known = rng.integers(0, 2**64, different, dtype=np.uint64)
    hashes = np.append(known, known[rng.integers(0, different, 2000 - different)])
    rng.shuffle(hashes)
    assert _counted(hashes) == 2000 - different


@pytest.mark.usefixtures("sizes")
@pytest.mark.parametrize("kept", [0xFFFFFFFF, 0xFF000000FFFFFFFF, 0xFFFFFFFF00000000])
def test_rows_that_share_half_a_hash_are_no_duplicates(kept: int) -> None:
    """Their lower halves alike, or the part they are looked at in."""
    rng = np.random.default_rng(kept)
    first = rng.integers(0, 2**64, 1000, dtype=np.uint64)
    other = (first & np.uint64(kept)) | (~first & ~np.uint64(kept))
    assert _counted(np.append(first, other)) == 0
    assert _counted(np.concatenate([first, other, other[:7]])) == 7


def test_the_rows_of_a_file(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "HASHES_AT_ONCE", 16)
    rows = "".join(f"{i % 70},{i % 70 / 2}\n" for i in range(100))
    assert import_csv(write("a,y\n" + rows)).duplicates == 30
