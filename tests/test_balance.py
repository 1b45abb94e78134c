"""Shards shared out by speed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regatta.parameter_server.balance import (
    better_shares,
    duration,
    share_out,
    slow_ranks,
)


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
