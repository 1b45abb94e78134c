"""Checkpoints: whole, or skipped with a warning; never loaded wrong."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regatta.parameter_server.checkpoints import (
    KEPT,
    Checkpoint,
    CheckpointFolder,
    InvalidCheckpoint,
    decode,
    encode,
)


def checkpoint(step: int, identity: str = "mine") -> Checkpoint:
    arrays = {"parameters": np.arange(5) / 7 + step, "move": np.zeros((2, 3))}
    return Checkpoint(identity, step, {"epoch": step // 10, "best": None}, arrays)


def newest_step(folder):
    """That a process would begin with that finds this folder."""
    found = CheckpointFolder(folder, "mine").newest()
    return found.step if found else None


def test_a_checkpoint_comes_back_as_it_was():
    before = checkpoint(42)
    after = decode(encode(before))
    assert (after.identity, after.step, after.state) == (before.identity, 42, before.state)
    for name, array in before.arrays.items():
        assert after.arrays[name].tobytes() == array.tobytes()
        assert after.arrays[name].flags.writeable


@pytest.mark.parametrize("tenth", range(10))
def test_a_truncated_checkpoint_is_refused(tenth):
    data = encode(checkpoint(1))
    with pytest.raises(InvalidCheckpoint):
        decode(data[: len(data) * tenth // 10])


@given(st.integers(0, 10_000), st.integers(0, 7))
def test_a_flipped_bit_is_noticed(position, bit):
    data = bytearray(encode(checkpoint(1)))
    data[position % len(data)] ^= 1 << bit
    with pytest.raises(InvalidCheckpoint):
        decode(bytes(data))


def test_the_newest_three_are_kept_and_the_newest_valid_is_used(tmp_path, caplog):
    folder = CheckpointFolder(tmp_path / "checkpoints", "mine")
    assert folder.newest() is None
    for step in (10, 20, 30, 1000):
        folder.save(checkpoint(step))
    files = sorted((tmp_path / "checkpoints").iterdir())
    assert len(files) == KEPT
    files[-1].write_bytes(files[-1].read_bytes()[:-3])
    logging.getLogger("regatta").propagate = True
    with caplog.at_level(logging.WARNING, logger="regatta"):
        found = folder.newest()
    assert found is not None and found.step == 30
    assert "damaged" in caplog.text


def test_a_checkpoint_of_another_run_is_skipped(tmp_path):
    CheckpointFolder(tmp_path, "other").save(checkpoint(5, "other"))
    folder = CheckpointFolder(tmp_path, "mine")
    assert folder.newest() is None
    assert folder.foreign == "it is of other data or other settings"


def test_checkpoints_that_were_skipped_make_room(tmp_path):
    """Damaged ones of later steps would stand in the way of what follows."""
    for step in (100, 200, 300):
        CheckpointFolder(tmp_path, "the file as it was").save(checkpoint(step, "before"))
    folder = CheckpointFolder(tmp_path, "mine")
    assert folder.newest() is None
    for step in (10, 20):
        folder.save(checkpoint(step))
        found = folder.newest()
        assert found is not None and found.step == step
    assert len(list(tmp_path.iterdir())) == 2


def test_what_a_killed_process_was_writing_is_removed(tmp_path):
    torn = tmp_path / ".000000000010.checkpoint.a1b2c3"
    torn.write_bytes(b"half")
    assert CheckpointFolder(tmp_path, "mine").newest() is None
    assert not torn.exists()


def test_what_is_noted_takes_the_place_of_what_was_noted_before(tmp_path):
    folder = CheckpointFolder(tmp_path, "mine")
    steps = lambda: sorted(int(path.name[:12]) for path in tmp_path.iterdir())  # noqa: E731
    for step in (1, 2, 3):
        folder.note(checkpoint(step))
    assert steps() == [3]
    folder.save(checkpoint(4))
    assert steps() == [4]
    for step in (4, 5, 6):
        folder.note(checkpoint(step))
    assert steps() == [4, 6], "what was saved stays"
    assert newest_step(tmp_path) == 6, "of a process that died then"
    for step in (6, 7, 8, 9):
        folder.save(checkpoint(step))
    assert steps() == [7, 8, 9]


def test_a_noted_checkpoint_that_a_power_cut_emptied_is_skipped(tmp_path):
    folder = CheckpointFolder(tmp_path, "mine")
    folder.save(checkpoint(4))
    folder.note(checkpoint(5)).write_bytes(b"")
    assert newest_step(tmp_path) == 4
