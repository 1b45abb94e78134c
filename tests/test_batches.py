"""Shard and batch arithmetic, for any rows, shards, batch size, seed and epoch."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from regatta.parameter_server.batches import MIN_PART_ROWS, BatchPlan, shard_offsets, whole_shards

plans = st.builds(
    lambda rows, shards, batch, seed: BatchPlan(shard_offsets(rows, shards), batch, seed),
    st.integers(1, 5000),
    st.integers(1, 40),
    st.integers(1, 6000),
    st.integers(0, 99),
)


@given(plans, st.integers(0, 5))
def test_an_epoch_meets_every_row_once(plan, epoch):
    met = np.zeros(plan.n_rows, dtype=int)
    for parts in plan.ranges(epoch):
        for start, stop in parts:
            met[start:stop] += 1
    assert (met == 1).all()


@given(plans, st.integers(0, 5))
def test_a_part_lies_in_the_shard_that_it_is_for(plan, epoch):
    firsts = plan.first_shards()
    for first, parts in zip(firsts, plan.ranges(epoch), strict=True):
        for shard, (start, stop) in enumerate(parts, first):
            assert plan.offsets[shard] <= start <= stop <= plan.offsets[shard + 1]


@given(plans)
def test_batches_are_no_larger_than_asked_unless_shards_are_whole(plan):
    largest = max(int((parts[:, 1] - parts[:, 0]).sum()) for parts in plan.ranges(0))
    slack = plan.parts  # each part rounds up
    assert largest <= max(plan.batch_size, plan.n_rows / plan.groups) + slack


@given(plans)
def test_parts_divide_the_shards_and_are_not_small_unless_the_shards_are(plan):
    assert plan.n_shards % plan.parts == 0
    if plan.parts > 1 and plan.batch_size // plan.parts < MIN_PART_ROWS:
        assert -(-plan.n_rows // plan.n_shards) < plan.batch_size


def test_the_order_depends_on_seed_and_epoch():
    plan = BatchPlan(shard_offsets(50_000, 16), 1024, 3)
    same = BatchPlan(shard_offsets(50_000, 16), 1024, 3)
    other = BatchPlan(shard_offsets(50_000, 16), 1024, 4)
    assert np.array_equal(plan.ranges(2), same.ranges(2))
    assert not np.array_equal(plan.ranges(2), plan.ranges(3))
    assert not np.array_equal(plan.ranges(2), other.ranges(2))


def test_rows_that_meet_in_a_batch_part_in_the_next_epoch():
    plan = BatchPlan(shard_offsets(16_512, 16), 1024, 0)
    met = [{tuple(part) for part in parts.tolist()} for e in range(20) for parts in plan.ranges(e)]
    again = max(sum(batch == other for other in met) for batch in met)
    assert again <= 3, "four parts of five blocks each are rarely the same four"


@given(st.integers(1, 1000), st.integers(1, 64))
def test_shards_cover_the_rows_and_differ_by_one(rows, shards):
    ranges = whole_shards(shard_offsets(rows, shards))
    lengths = ranges[:, 1] - ranges[:, 0]
    assert lengths.sum() == rows
    assert lengths.max() - lengths.min() <= 1
