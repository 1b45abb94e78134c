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
Hashes = npt.NDArray[np.uint64]


class _Table:
    """What is asked of a table: hashes in groups, which begin at any fourth byte of a file."""

    def __init__(self, hashes: Hashes, group: int) -> None:
        self.rows = len(hashes)
        whole = np.frombuffer(b"...." + hashes.tobytes(), np.uint8)[4:]
        self.parts = [whole[8 * a : 8 * (a + group)] for a in range(0, len(hashes), group)]
        self.groups = range(len(self.parts))
        self.group_rows = tuple(len(part) // 8 for part in self.parts)

    def hashes(self, group: int) -> Hashes:
        return self.parts[group].view(np.uint64)


@pytest.fixture(params=[None, 700, 30], ids=["in one turn", "in a few turns", "in many turns"])
def turns(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param:
        monkeypatch.setattr(duplicates, "HASHES_AT_ONCE", request.param)
        monkeypatch.setattr(duplicates, "BATCH_ROWS", request.param // 3)
        monkeypatch.setattr(duplicates, "PARTS", 4)


def _counted(hashes: Hashes, group: int = 97) -> int:
    return duplicates.count_duplicates(_Table(hashes, group))  # type: ignore[arg-type]


@pytest.mark.usefixtures("turns")
@pytest.mark.parametrize("group", [1, 40, 97, 2000])
@pytest.mark.parametrize("different", [1, 2, 5, 500, 1900, 2000])
def test_every_row_beyond_the_first_of_its_content_counts(different: int, group: int) -> None:
    rng = np.random.default_rng(different)
    known = rng.integers(0, 2**64, different, dtype=np.uint64)
    hashes = np.append(known, known[rng.integers(0, different, 2000 - different)])
    rng.shuffle(hashes)
    assert _counted(hashes, group) == 2000 - different


@pytest.mark.usefixtures("turns")
@pytest.mark.parametrize("kept", [0xFFFFFFFF, 0xFF000000FFFFFFFF, 0xFFFFFFFF00000000])
def test_rows_that_share_half_a_hash_are_no_duplicates(kept: int) -> None:
    rng = np.random.default_rng(kept)
    first = rng.integers(0, 2**64, 1000, dtype=np.uint64)
    other = (first & np.uint64(kept)) | (~first & ~np.uint64(kept))
    assert _counted(np.append(first, other)) == 0
    assert _counted(np.concatenate([first, other, other[:7]])) == 7


@pytest.mark.usefixtures("turns")
def test_rows_that_begin_alike_are_counted_too() -> None:
    """As if hashes were not spread evenly: it takes memory, and nothing else."""
    hashes = np.arange(1500, dtype=np.uint64)
    assert _counted(hashes) == 0
    assert _counted(np.append(hashes, hashes[::3])) == 500


def test_the_rows_of_a_file(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "HASHES_AT_ONCE", 16)
    rows = "".join(f"{i % 70},{i % 70 / 2}\n" for i in range(100))
    assert import_csv(write("a,y\n" + rows)).duplicates == 30
