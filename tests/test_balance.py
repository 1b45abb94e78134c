"""Shards shared out by speed, and on demand."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from regatta.parameter_server import worker_pool
from regatta.parameter_server.array_rows import write_rows
from regatta.parameter_server.balance import (
    better_shares,
    duration,
    share_out,
    slow_ranks,
)
from regatta.parameter_server.batches import shard_offsets, whole_shards
from regatta.parameter_server.worker_pool import PoolEvent
from regatta.solvers.statistics import Pass
from regatta.tests import crew


def in_turns(n_shards: int, n_workers: int) -> list[int]:
    return [shard % n_workers for shard in range(n_shards)]


@pytest.mark.parametrize("n_workers", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("parts", [1, 4, 8, 16])
def test_equally_fast_workers_take_turns(n_workers, parts):
    speeds = dict.fromkeys(range(n_workers), 5.0)
    owners = share_out(16, parts, speeds)
    counts = [owners.count(rank) for rank in speeds]
    assert max(counts) - min(counts) <= 1
    assert duration(owners, parts, speeds) == duration(in_turns(16, n_workers), parts, speeds)
    assert better_shares(in_turns(16, n_workers), parts, speeds) is None


@pytest.mark.parametrize(
    ("n_workers", "parts"), [(2, 4), (2, 16), (3, 4), (3, 16), (4, 8), (4, 16)]
)
def test_a_worker_four_times_slower_leaves_most_of_the_power(n_workers, parts):
    """Four fifths of what an ideal sharing-out of rows, and not of shards, would give."""
    speeds = dict.fromkeys(range(n_workers), 1.0) | {1: 0.25}
    owners = better_shares(in_turns(48, n_workers), parts, speeds)
    assert owners is not None
    ideal = 48 / sum(speeds.values())
    assert ideal / duration(owners, parts, speeds) >= 0.8 - 1e-9


def test_who_is_slow_is_named():
    assert slow_ranks({0: 4.0, 1: 1.0, 2: 4.2}) == {1: pytest.approx(4.1)}
    assert slow_ranks({0: 4.0, 1: 3.0}) == {}
    assert slow_ranks({0: 4.0}) == {}


@given(
    st.dictionaries(st.integers(0, 20), st.floats(0.01, 100.0), min_size=1, max_size=6),
    st.sampled_from([1, 2, 4, 8, 16]),
    st.data(),
)
def test_each_shard_has_one_owner_and_no_round_is_longer_than_before(speeds, parts, data):
    ranks = sorted(speeds)
    before = [data.draw(st.sampled_from(ranks)) for _ in range(16)]
    owners = share_out(16, parts, speeds)
    assert len(owners) == 16 and set(owners) <= set(ranks)
    assert duration(owners, parts, speeds) <= duration(before, parts, speeds) * (1 + 1e-9)


# With processes. They sleep instead of computing, so the machine's cores do not matter.

SLEEPY = """
import multiprocessing, os, time
from regatta.models import Ridge

class Sleepy(Ridge):
    def loss(self, residual, derivative):
        try:
            with open(os.environ["SLOW_WORKER"]) as file:
                slow = multiprocessing.current_process().name == file.read()
        except FileNotFoundError:
            slow = False
        time.sleep(0.02 if slow else 0.005)
        return super().loss(residual, derivative)
"""


@pytest.fixture
def slow_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that holds the name of the worker that is four times slower while it is there."""
    (tmp_path / "sleepy.py").write_text(SLEEPY)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("SLOW_WORKER", str(tmp_path / "slow"))
    return tmp_path / "slow"


def test_a_slow_worker_is_named_and_given_fewer_shards_until_it_recovers(tmp_path, slow_worker):
    source = crew.rows(tmp_path)
    settings = crew.settings_of(source, batch_size=4096)
    assert settings.plan.parts == 16
    events: list[PoolEvent] = []
    slow_worker.write_text("regatta-worker-1")
    options: dict[str, Any] = {"model": "sleepy:Sleepy", "learning_rate": 1e-3, "epochs": 10**6}
    with crew.solving(source, 2, tmp_path, settings, on_event=events.append, **options) as (
        pool,
        solver,
    ):

        def steps_until(kind: str) -> list[int]:
            while all(event.kind != kind for event in events):
                solver.step()
                pool.watch()
            return [sample.shards for sample in pool.samples()]

        shards = steps_until("worker_slow")
        (told,) = [event for event in events if event.kind == "worker_slow"]
        assert (
            told.rank == 1 and "times slower than the others, and limits this run" in told.message
        )
        assert sum(shards) == 16 and 1 <= shards[1] <= 5
        before = [sample.rows for sample in pool.samples()]
        begun = time.perf_counter()
        for _ in range(10):
            solver.step()
        rate = 160 / (time.perf_counter() - begun)
        print(f"{rate / (1 / 0.005 + 1 / 0.02):.2f} of the power of both")  # 0.9 when idle
        after = [sample.rows for sample in pool.samples()]
        assert after[0] - before[0] > 2 * (after[1] - before[1]) > 0
        slow_worker.unlink()
        shards = steps_until("balanced")
        assert sum(shards) == 16 and min(shards) >= 6
        parameters, steps = solver.parameters.tobytes(), solver.step_count
    with crew.solving(source, 0, tmp_path, settings, **options) as (_, solver):
        for _ in range(steps):
            solver.step()
        assert solver.parameters.tobytes() == parameters


def test_shards_of_a_pass_are_given_out_on_demand(tmp_path, monkeypatch):
    """A worker that stands still for a while computes the shard it has, and others the rest."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((64_000, 40)), rng.standard_normal(64_000)
    source = write_rows(tmp_path, X, y, X[:10], y[:10], n_shards=32)
    ranges = whole_shards(shard_offsets(len(X), 32))
    taken: list[int] = []
    pool = worker_pool.open_pool(source, "ridge", "float64", 2, logs=tmp_path, with_statistics=True)
    try:
        slow = pool.samples()[1].pid
        os.kill(slow, signal.SIGSTOP)

        def take(shard: int, matrices: NDArray[np.float64]) -> bool:
            taken.append(shard)
            if len(taken) == 31:
                os.kill(slow, signal.SIGCONT)
            return True

        pool.moments(ranges, take)
        rows = [sample.rows for sample in pool.samples()]
    finally:
        pool.close()
    assert sorted(taken) == list(range(32)) and taken[-1] == 1
    assert rows == [31 * 2000, 2000]


def test_moments_that_come_early_wait_for_their_turn(tmp_path, monkeypatch):
    """The sums are the same bytes, with room to keep them meanwhile and without."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((5000, 10)), rng.standard_normal(5000)
    source = write_rows(tmp_path, X, y, X[:10], y[:10], n_shards=16)
    offsets = shard_offsets(len(X), 16)

    def summed(order: list[int]) -> bytes:
        single = Pass(_Shuffled(matrices, order), offsets, 5)  # type: ignore[arg-type]
        single.run()
        return b"".join(part.moments.tobytes() for part in single.folds())

    pool = worker_pool.open_pool(source, "ridge", "float64", 0, logs=tmp_path)
    matrices: list[NDArray[np.float64]] = []

    def keep(shard: int, found: NDArray[np.float64]) -> bool:
        matrices.append(found.copy())
        return True

    pool.moments(whole_shards(offsets), keep)
    expected = summed(list(range(16)))
    for room in (0, 2000, 1 << 20):
        monkeypatch.setattr("regatta.solvers.statistics.EARLY_BYTES", room)
        for order in ([3, 2, 1, 0, *range(4, 16)], list(range(15, -1, -1))):
            assert summed(order) == expected


class _Shuffled:
    """A pool whose workers are done in this order, and hold what is not taken."""

    def __init__(self, matrices: list[NDArray[np.float64]], order: list[int]) -> None:
        self._matrices, self._order = matrices, order

    def moments(self, ranges: NDArray[np.int64], take: worker_pool.Take) -> None:
        held = list(self._order)
        while held:
            held = [shard for shard in held if not take(shard, self._matrices[shard])]
